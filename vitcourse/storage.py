"""Weights and a few lines of text in one safetensors file, whole or not there."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vitcourse.files import written_whole


def write_weights(path: str | Path, weights: dict[str, Tensor], notes: dict[str, str]) -> Path:
    """Write tensors, and `notes` into the file's header.

    One file and one rename, so that weights and notes can't come apart and a half-written file is never read.

    Raises:
        OSError: a full disk, for example; what was there before stays.
    """
    weights = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    try:
        with written_whole(path) as temporary:
            save_file(weights, temporary, metadata=notes)
    except SafetensorError as error:  # of a full disk, too
        raise OSError(f"path {str(path)!r} can't be written ({error}); an older file there is whole.") from None
    return Path(path)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, in float32 on the CPU, and the notes that `write_weights` wrote.

    Raises:
        FileNotFoundError: no file there.
        ValueError: a damaged file, or one of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path {str(path)!r} is not a file; `VisionTransformer.save` writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name).float() for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"path {str(path)!r} is damaged or not a safetensors file ({error}).") from None
