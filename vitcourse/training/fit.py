"""The training loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from vitcourse.data import ImageSet
from vitcourse.progress import ProgressBar
from vitcourse.training.checkpoint import Progress
from vitcourse.training.config import TrainingConfig
from vitcourse.training.evaluation import check_sets, evaluate
from vitcourse.training.log import Epoch
from vitcourse.training.trainer import FILES, Trainer

logger = logging.getLogger(__name__)


def fit(
    model: nn.Module,
    train: ImageSet,
    validation: ImageSet,
    config: TrainingConfig,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    save_minutes: float = 5.0,
    progress: bool = True,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` in place, on the device where it lies, and return the log.

    Under `torchrun` (see `process_group`) the processes share each batch and end with the same weights.

    Args:
        model: images to logits, `(B, C, H, W) -> (B, K)`.
        folder: gets `log.csv`, written anew after each epoch; `best.safetensors`, the model of the epoch with the best
            validation accuracy (the first such); and `last.pt`, from which a run goes on. The model passed in keeps
            the weights of the last epoch.
        resume: go on with the run in `folder`, if there is one. On the CPU, with as many threads as before, the weights
            end bit for bit as if the run had never stopped.
        save_minutes: `last.pt` is written after each epoch, and within one as often as this.
        progress: show a bar.
        on_epoch: called with each new line of the log.

    Raises:
        FileExistsError: `folder` holds a run, and `resume` isn't asked for.
        FloatingPointError: the loss became NaN or infinite, with the step.
        FileNotFoundError, ValueError: the run to go on with has no `last.pt`, or one of another run.
        ValueError: a set without images, or labels that the model has no class for; nothing is written then.
    """
    check_sets(model, train, validation)
    folder = None if folder is None else Path(folder)
    trainer = Trainer(model, train, config, folder)
    if resume:
        trainer.go_on()
    elif folder is not None:
        refuse_to_overwrite(folder)
    trainer.ours.total(torch.zeros(1))  # nobody writes before all have looked
    if trainer.steps_done == 0:
        trainer.save()  # so that there is something to go on from, whenever it is killed
    total, first = config.epochs * trainer.steps_per_epoch, trainer.steps_done
    silent = not progress or trainer.ours.rank > 0
    with ProgressBar(total=total, initial=first, unit="step", disable=silent) as bar:
        while trainer.done.epoch < config.epochs and not _out_of_patience(trainer.done.log, config.patience):
            trainer.train_one_epoch(save_minutes, bar.update)
            row = _judge(trainer, validation)
            better = row.validation_accuracy > trainer.done.best
            trainer.done = Progress(log=[*trainer.done.log, row])
            trainer.keep(better)
            logger.info("%s", row)
            bar.set_postfix_str(f"loss {row.train_loss:.3f}, validation {row.validation_accuracy:.1%}")
            if on_epoch is not None:
                on_epoch(row)
    return trainer.done.log


def refuse_to_overwrite(folder: Path) -> None:
    """Raise FileExistsError if a run is in `folder`."""
    if any((folder / name).exists() for name in (*FILES, "result.json")):
        raise FileExistsError(
            f"folder {str(folder)!r} already holds a run: go on with it (--resume, or resume=True), choose another "
            "folder (--out), or move it away."
        )


def _judge(trainer: Trainer, validation: ImageSet) -> Epoch:
    """The line of the epoch that is at its end."""
    start, done, images = time.perf_counter(), trainer.done, len(trainer.train)
    result = evaluate(trainer.model, validation)
    trainer.check_finite(result.loss, f"the validation of epoch {done.epoch + 1}")
    return Epoch(
        epoch=done.epoch + 1,
        learning_rate=trainer.optimizer.param_groups[0]["lr"],
        train_loss=done.loss / images,
        train_accuracy=done.correct / images,
        validation_loss=result.loss,
        validation_accuracy=result.accuracy,
        seconds=done.seconds + time.perf_counter() - start,
    )


def _out_of_patience(log: list[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better validation accuracy."""
    if patience is None or not log:
        return False
    accuracies = [row.validation_accuracy for row in log]
    return len(log) - 1 - accuracies.index(max(accuracies)) >= patience
