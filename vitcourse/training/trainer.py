"""A model under way: what changes from step to step, and how it is kept.

Longer than 150 lines because a step and the state that it moves are one class.
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcourse.config import ViTConfig
from vitcourse.data import ImageSet
from vitcourse.files import remove_leftovers
from vitcourse.model import VisionTransformer
from vitcourse.storage import write_weights
from vitcourse.training.batches import batches
from vitcourse.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from vitcourse.training.config import TrainingConfig
from vitcourse.training.log import write_log
from vitcourse.training.optimisation import learning_rate_factor, make_optimizer
from vitcourse.training.processes import processes
from vitcourse.training.seeds import seed_of

logger = logging.getLogger(__name__)
FILES = ("last.pt", "best.safetensors", "log.csv")


class Trainer:
    """The model, its optimizer and how far they have come; `fit` says when to do what."""

    def __init__(self, model: nn.Module, train: ImageSet, config: TrainingConfig, folder: Path | None):
        self.model, self.train, self.config, self.folder = model, train, config, folder
        self.device = next(model.parameters()).device
        self.ours = processes()
        self.joined = self.ours.joined(torch.compile(model) if config.compile else model)
        self.optimizer = make_optimizer(model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.steps_per_epoch = math.ceil(len(train) / config.batch_size)
        self.done = Progress()

    @property
    def steps_done(self) -> int:
        """Since the beginning."""
        return self.done.epoch * self.steps_per_epoch + self.done.step

    # ---- steps

    def train_one_epoch(self, save_minutes: float, on_step: Any) -> None:
        """From the step that is due to the end of the epoch."""
        self.joined.train()
        clock = saved = time.perf_counter()
        due = batches(
            self.train, self.config, self.done.epoch, self.device, first_step=self.done.step, processes=self.ours
        )
        for inputs, labels in due:
            if (now := time.perf_counter()) - saved > 60 * save_minutes and self._all_finite():
                self.save()  # before the forward pass, which moves BatchNorm's buffers: the step is done again
                saved = now
            loss, value, correct = self._forward(inputs, labels)
            self._backward(loss)
            now = time.perf_counter()
            self.done.seconds, clock = self.done.seconds + now - clock, now
            self.done.loss, self.done.correct = self.done.loss + value, self.done.correct + correct
            self.done.step += 1
            on_step()

    def _all_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())

    def _forward(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, float, int]:
        """This process's loss, summed over images; and the loss and the right answers of all processes together."""
        epoch, step = self.done.epoch, self.done.step
        torch.manual_seed(seed_of(self.config.seed, epoch, step, self.ours.rank))  # of dropout
        short = torch.float16 if self.config.precision == "float16" else torch.bfloat16
        with torch.autocast(self.device.type, short, enabled=self.config.precision != "float32"):
            logits = self.joined(inputs).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing, reduction="sum")
        # Of all processes, so that each knows the loss, stops when one must, and can save it.
        sums = torch.tensor([loss.item(), _correct(logits, labels)], dtype=torch.float64)
        value, correct = self.ours.total(sums).tolist()
        self.check_finite(value, f"epoch {epoch + 1}, step {step + 1}")
        return loss, value, int(correct)

    def _backward(self, loss: Tensor) -> None:
        factor = learning_rate_factor(self.steps_done, self.steps_per_epoch, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor
        batch_size = min(self.config.batch_size, len(self.train) - self.done.step * self.config.batch_size)
        self.optimizer.zero_grad()
        self.scaler.scale(loss * (self.ours.count / batch_size)).backward()  # processes are averaged: see `joined`
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def check_finite(self, loss: float, where: str) -> None:
        """Raise FloatingPointError, with the way out, if the loss is NaN or infinite."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The loss became {loss} in {where}. Lower learning_rate ({self.config.learning_rate:g}) or set "
                f"clip_norm ({self.config.clip_norm})."
            )

    # ---- keeping

    def save(self) -> None:
        """Write `last.pt`."""
        if self.folder is not None and self.ours.rank == 0:
            path = self.folder / "last.pt"
            save_checkpoint(path, self.model, self.optimizer, self.scaler, self.done, self._identity())

    def keep(self, better: bool) -> None:
        """Write the log, the model if it is the best so far, and then, now that both are there, `last.pt`."""
        if self.folder is not None and self.ours.rank == 0:
            write_log(self.folder / "log.csv", self.done.log)
            if better:
                self._save_best(self.folder / "best.safetensors")
        self.save()

    def _save_best(self, path: Path) -> None:
        """With its config, where that describes it; weights alone otherwise."""
        if isinstance(self.model, VisionTransformer) and not self.model.replaced_weights():
            self.model.save(path)
        else:
            write_weights(path, self.model.state_dict(), {})

    def go_on(self) -> None:
        """Take up the run in the folder, if there is one."""
        if self.folder is None:
            return
        if self.ours.rank == 0:
            for name in FILES:
                remove_leftovers(self.folder / name)
        if any((self.folder / name).exists() for name in FILES):
            path = self.folder / "last.pt"
            self.done = load_checkpoint(path, self.model, self.optimizer, self.scaler, self._identity())
            logger.info("goes on from epoch %d, step %d", self.done.epoch + 1, self.done.step + 1)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on, as plain values."""
        model, train = self.model, self.train
        config = getattr(model, "config", None)  # of another library's model it may hold anything
        described = config.to_dict() if isinstance(config, ViTConfig) else {"model": type(model).__name__}
        data = f"{train.name}, {len(train)} images, labels {zlib.crc32(train.labels.numpy().tobytes()):08x}"
        return {**described, **asdict(self.config), "data": data}


def _correct(logits: Tensor, labels: Tensor) -> int:
    """How many are right; of a mixed image, whether its larger part is."""
    return int((logits.argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))).sum())
