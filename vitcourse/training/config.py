"""The numbers that say how to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from vitcourse.validation import (
    known_fields,
    not_negative,
    one_of,
    positive_integer,
    positive_number,
    probability,
    true_or_false,
)

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        epochs, batch_size: passes over the training images, images a step.
        learning_rate: the highest one, reached after `warmup_epochs` (linear from 0), then constant, or falling to 0
            along a half cosine.
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
    schedule: Schedule = "cosine"
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    flip: bool = False
    crop_padding: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        positive_integer("epochs", self.epochs)
        positive_integer("batch_size", self.batch_size)
        positive_number("learning_rate", self.learning_rate)
        not_negative("warmup_epochs", self.warmup_epochs)
        one_of("schedule", self.schedule, get_args(Schedule))
        not_negative("weight_decay", self.weight_decay)
        if self.clip_norm is not None:
            positive_number("clip_norm", self.clip_norm)
        probability("label_smoothing", self.label_smoothing)
        true_or_false("flip", self.flip)
        not_negative("crop_padding", self.crop_padding)
        not_negative("seed", self.seed)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The config that a dictionary describes; missing fields take their defaults, unknown ones are refused."""
        return cls(**known_fields(cls, values))
