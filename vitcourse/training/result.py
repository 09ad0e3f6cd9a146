"""What a run ends with, as plain values."""

from __future__ import annotations

import platform
from typing import Any

import torch

from vitcourse import __version__
from vitcourse.training.evaluation import Evaluation
from vitcourse.training.log import Epoch


def scores(log: list[Epoch], test: Evaluation) -> dict[str, Any]:
    """How good the best model is, and how long it took."""
    best = max(log, key=lambda row: row.validation_accuracy)
    measures = {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_balanced_accuracy": test.balanced_accuracy(),
        "test_macro_f1": test.macro_f1(),
        "test_calibration_error": test.calibration_error(),
        "validation_accuracy": best.validation_accuracy,
    }
    rounded = {name: round(value, 6) for name, value in measures.items()}
    minutes = round(sum(row.seconds for row in log) / 60, 1)
    return {**rounded, "best_epoch": best.epoch, "epochs": len(log), "minutes": minutes}


def circumstances(device: torch.device, processes: int) -> dict[str, Any]:
    """Where it ran; `machine` is the kind of processor, such as x86_64."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "vitcourse": __version__}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": versions,
    }
