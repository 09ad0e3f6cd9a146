"""The training loop."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcourse.data import ImageSet
from vitcourse.progress import ProgressBar
from vitcourse.training.augmentation import augment
from vitcourse.training.config import TrainingConfig
from vitcourse.training.evaluation import evaluate
from vitcourse.training.log import Epoch, write_log
from vitcourse.training.optimisation import learning_rate_factor, parameter_groups

logger = logging.getLogger(__name__)


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
        folder: gets `log.csv`, written anew after each epoch, and `best.safetensors`, the model of the epoch with the
            best validation accuracy (the first such). The model passed in keeps the weights of the last epoch.
        progress: show a bar.

    Raises:
        FloatingPointError: the loss became NaN or infinite, with the step.
    """
    device = next(model.parameters()).device
    steps_per_epoch = math.ceil(len(train) / config.batch_size)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps_per_epoch, config)
    )
    log: list[Epoch] = []
    with ProgressBar(total=config.epochs * steps_per_epoch, unit="step", disable=not progress) as bar:
        for epoch in range(config.epochs):
            start = time.perf_counter()
            rate = optimizer.param_groups[0]["lr"]
            train_loss, train_accuracy = _train_one_epoch(
                model, train, config, epoch, optimizer, scheduler, device, bar
            )
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


def batches(
    train: ImageSet, config: TrainingConfig, epoch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Mixed, augmented, normalised batches of one epoch; order and augmentation follow from (seed, epoch) alone."""
    generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
    for indices in torch.randperm(len(train), generator=generator).split(config.batch_size):
        images = augment(train.images[indices], config.flip, config.crop_padding, generator)
        yield train.normalise(images.to(device)), train.labels[indices].to(device)
