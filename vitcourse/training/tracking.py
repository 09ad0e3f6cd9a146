"""Runs written to MLflow as well, where it is installed (`pip install mlflow`) and asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitcourse.training.log import Epoch


@contextmanager
def tracked(
    name: str, settings: dict[str, Any], folder: Path, *, wanted: bool = True
) -> Iterator[Callable[[Epoch], None] | None]:
    """A function that writes one epoch to MLflow, or None if that isn't wanted.

    Where MLflow writes is its own matter: the environment variable MLFLOW_TRACKING_URI, by default beside the current
    folder.

    Args:
        settings: nested plain values; they become parameters such as `training.seed`.

    Raises:
        ModuleNotFoundError: MLflow isn't installed.
    """
    if not wanted:
        yield None
        return
    try:
        import mlflow
    except ModuleNotFoundError:
        raise ModuleNotFoundError("MLflow isn't installed: `pip install mlflow`, or leave out --mlflow.") from None
    with mlflow.start_run(run_name=folder.name or name):
        mlflow.log_params(_flat(settings))
        yield lambda row: mlflow.log_metrics(
            {key: value for key, value in asdict(row).items() if key != "epoch"}, step=row.epoch
        )
        if (folder / "log.csv").exists():
            mlflow.log_artifact(str(folder / "log.csv"))


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
