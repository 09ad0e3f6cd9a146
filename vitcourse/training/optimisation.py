"""How large a step, and which weights decay."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from vitcourse.training.config import TrainingConfig


def learning_rate_factor(step: int, steps_per_epoch: int, config: TrainingConfig) -> float:
    """The learning rate at `step`, as a share of `config.learning_rate`: linear warm-up, then the schedule.

    The warm-up is that of Goyal et al. (2017, arXiv:1706.02677, section 2.2), the half cosine that of Loshchilov and
    Hutter (2017, arXiv:1608.03983, eq. 5) without restarts.

    Args:
        step: counted from 0, over all epochs.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    return 1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW or Adam over the two groups of `parameter_groups`."""
    optimizer = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer]
    return optimizer(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight matrices with decay; biases, norms, [CLS] and positions without."""
    matrices = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in decayed]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
