"""Train a classifier and say how well it does."""

from __future__ import annotations

import csv
import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcourse.data import ImageSet
from vitcourse.files import written_whole
from vitcourse.progress import ProgressBar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        epochs, batch_size: passes over the training images, images a step.
        learning_rate: the highest one, reached after `warmup_epochs` (linear from 0), then constant or falling to 0 along a
            half cosine.
        weight_decay: of AdamW, on weight matrices only.
        clip_norm: the gradient is shortened to this norm; None leaves it as it is.
        label_smoothing: the share of the target spread over all classes.
        flip: mirror every other training image, at random.
        crop_padding: shift training images at random by up to so many pixels.
        seed: of the order of images and of the augmentation.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    flip: bool = False
    crop_padding: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {getattr(self, name)!r}.")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not (name == "clip_norm" and value is None) and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        for name in ("warmup_epochs", "weight_decay", "crop_padding"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, got {self.label_smoothing!r}.")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule must be 'cosine' or 'constant', got {self.schedule!r}.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The config that a dictionary describes; missing fields take their defaults, unknown ones are refused."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"Unknown field {', '.join(map(repr, unknown))}. Known fields: {', '.join(known)}.")
        return cls(**values)


@dataclass(frozen=True)
class Epoch:
    """One line of the log. Losses are means over images, in nats; accuracies are shares, 0 to 1."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model says of a set: probabilities `(N, K)`, the classes, and how right it is."""

    loss: float
    accuracy: float
    probabilities: Tensor
    predictions: Tensor


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other people's code may still draw from it
    torch.manual_seed(seed)


def fit(
    model: nn.Module,
    train: ImageSet,
    validation: ImageSet,
    config: TrainingConfig,
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> list[Epoch]:
    """Train `model` in place, on the device where it lies, and return the log.

    Args:
        model: images to logits, `(B, C, H, W) -> (B, K)`.
        folder: gets `log.csv`, written anew after each epoch, and `best.safetensors`, the model of the epoch with the best
            validation accuracy (the first such). The model passed in keeps the weights of the last epoch.
        progress: show a bar.

    Raises:
        FloatingPointError: the loss became NaN or infinite, with the step.
    """
    device = next(model.parameters()).device
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps_per_epoch, config)
    )
    log: list[Epoch] = []
    with ProgressBar(total=config.epochs * steps_per_epoch, unit="step", disable=not progress) as bar:
        for epoch in range(config.epochs):
            start = time.perf_counter()
            rate = optimizer.param_groups[0]["lr"]
            train_loss, train_accuracy = _train_one_epoch(model, train, config, epoch, optimizer, scheduler, device, bar)
            result = evaluate(model, validation)
            seconds = time.perf_counter() - start
            log.append(Epoch(epoch + 1, rate, train_loss, train_accuracy, result.loss, result.accuracy, seconds))
            bar.set_postfix_str(f"loss {train_loss:.3f}, validation {result.accuracy:.1%}")
            logger.info("%s", log[-1])
            if folder is not None:
                write_log(Path(folder) / "log.csv", log)
                if result.accuracy > max((row.validation_accuracy for row in log[:-1]), default=-1.0):
                    model.save(Path(folder) / "best.safetensors")
    return log


def _train_one_epoch(model, train, config, epoch, optimizer, scheduler, device, bar) -> tuple[float, float]:
    model.train()
    total_loss, total_correct = torch.zeros((), device=device), torch.zeros((), device=device)
    for step, (images, labels) in enumerate(batches(train, config, epoch, device)):
        logits = model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss became {loss.item()} in epoch {epoch + 1}, step {step + 1}. "
                f"Lower learning_rate ({config.learning_rate:g}) or set clip_norm ({config.clip_norm})."
            )
        optimizer.zero_grad()
        loss.backward()
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        scheduler.step()
        total_loss += loss.detach() * len(labels)
        total_correct += (logits.argmax(1) == labels).sum()
        bar.update()
    return total_loss.item() / len(train), total_correct.item() / len(train)


@torch.inference_mode()
def evaluate(model: nn.Module, images: ImageSet, batch_size: int = 256) -> Evaluation:
    """Loss and accuracy of `model` on a set, without augmentation, in evaluation mode; the mode is put back."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    chunks = torch.arange(len(images)).split(batch_size)
    logits = torch.cat([model(images.inputs(chunk).to(device)).cpu() for chunk in chunks])
    model.train(was_training)
    predictions = logits.argmax(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, images.labels).item(),
        accuracy=(predictions == images.labels).float().mean().item(),
        probabilities=logits.softmax(dim=1),
        predictions=predictions,
    )


def batches(train: ImageSet, config: TrainingConfig, epoch: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Mixed, augmented, normalised batches of one epoch; order and augmentation follow from (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    for indices in torch.randperm(len(train), generator=generator).split(config.batch_size):
        images = augment(train.images[indices], config.flip, config.crop_padding, generator)
        yield train.normalise(images.to(device)), train.labels[indices].to(device)


def augment(images: Tensor, flip: bool, crop_padding: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and shift each one, drawn for each image: `(B, C, H, W) -> (B, C, H, W)`."""
    if flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if crop_padding:
        height, width = images.shape[-2:]
        padded = F.pad(images, [crop_padding] * 4)
        top, left = torch.randint(0, 2 * crop_padding + 1, (2, len(images), 1), generator=generator)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        image = torch.arange(len(images))[:, None, None]
        images = padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images


def learning_rate_factor(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """The learning rate at `step`, as a share of `config.learning_rate`: linear warm-up, then the schedule."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight matrices with decay; biases, norms, [CLS] and positions without."""
    matrices = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in decayed]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def write_log(path: Path, log: list[Epoch]) -> None:
    """Write the log as CSV, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(value) for name, value in asdict(row).items()} for row in log)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value
