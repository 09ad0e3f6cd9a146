"""All that a run needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitcourse.files import written_whole
from vitcourse.training.log import Epoch


@dataclass
class Progress:
    """How far a run has come: the epochs that are done, and the sums over the steps of the one under way."""

    log: list[Epoch] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """The epoch under way, counted from 0."""
        return len(self.log)

    @property
    def best(self) -> float:
        """The best validation accuracy so far; below 0 before the first epoch is done."""
        return max((row.validation_accuracy for row in self.log), default=-1.0)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    progress: Progress,
    identity: dict[str, Any],
) -> None:
    """Write the state of a run, whole or not at all. All chance follows from the step: no generator is kept.

    Args:
        identity: what must be the same for the run to go on: configurations and data, as plain values.
    """
    state = {
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "progress": {**vars(progress), "log": [asdict(row) for row in progress.log]},
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with written_whole(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:  # of a full disk, which doesn't say what was written
        raise OSError(
            f"path {str(path)!r} can't be written ({error.strerror or error}); an older file there is whole."
        ) from None


def load_checkpoint(
    path: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    identity: dict[str, Any],
) -> Progress:
    """Put a saved state back in place, and say how far it had come.

    Raises:
        FileNotFoundError: no file there.
        ValueError: a damaged file, or one of another run, with the fields that differ, or of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file: there is no run to go on with.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = dict(state["identity"])
        weights, moments, scale, reached = (state[part] for part in ("model", "optimizer", "scaler", "progress"))
        done = Progress(**{**reached, "log": [Epoch(**row) for row in reached["log"]]})
    except Exception as error:  # other bytes, read as a pickle, can raise anything
        kind = type(error).__name__
        raise ValueError(f"path {str(path)!r} is damaged or no checkpoint of a run ({kind}).") from None
    differing = [
        f"{name} was {saved.get(name)!r} and is {identity.get(name)!r}"
        for name in sorted({*saved, *identity}, key=str)
        if saved.get(name) != identity.get(name)
    ]
    if differing:
        raise ValueError(
            f"path {str(path)!r} is a checkpoint of another run: {'; '.join(differing)}. "
            "Go on with the settings that it was started with, or start anew in another folder."
        )
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        scaler.load_state_dict(scale)
    except (RuntimeError, ValueError) as error:  # torch says it over many lines
        raise ValueError(
            f"path {str(path)!r} is a checkpoint of another model: {' '.join(str(error).split())} "
            "Go on with the model that it was started with, or start anew in another folder."
        ) from None
    return done
