"""What is written down: a line of numbers after each epoch, and messages in a file."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vitcourse.files import written_whole


@dataclass(frozen=True)
class Epoch:
    """One line of the log.

    Losses are means over images, in nats; accuracies are shares, 0 to 1; the learning rate is that of the last step.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


def write_log(path: Path, log: list[Epoch]) -> None:
    """Write the log as CSV, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _rounded(value) for name, value in asdict(row).items()} for row in log)


def read_log(path: str | Path) -> list[Epoch]:
    """The log that `write_log` wrote.

    Raises:
        FileNotFoundError: no file there.
        ValueError: a file with other columns, or a row with something else than its numbers.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = [field.name for field in fields(Epoch)]
        if reader.fieldnames != names:
            raise ValueError(f"path {str(path)!r} is no training log: its columns are {reader.fieldnames}.")
        try:
            return [Epoch(**{name: (int if name == "epoch" else float)(row[name]) for name in names}) for row in reader]
        except (TypeError, ValueError):  # an empty place is None
            raise ValueError(f"path {str(path)!r}: line {reader.line_num} is no line of a training log.") from None


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Add the package's messages to a file, and how it ended if it ended badly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    package = logging.getLogger("vitcourse")
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    try:
        yield
    except BaseException:
        package.exception("the run stopped")
        raise
    finally:
        package.removeHandler(handler)
        handler.close()


def _rounded(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value
