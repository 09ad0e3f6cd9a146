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
    whole_number,
)

Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        epochs, batch_size: passes over the training images, images a step (all processes together).
        optimizer: "adamw", or "adam", in which `weight_decay` is a term of the gradient (Loshchilov and Hutter, 2019).
        learning_rate: the highest one, reached after `warmup_epochs` (linear from 0), then constant, or falling to 0
            along a half cosine or a line.
        weight_decay: on weight matrices only.
        clip_norm: the gradient is shortened to this norm; None leaves it as it is.
        label_smoothing: the share of the target spread over all classes.
        patience: stop after so many epochs without a better validation accuracy; None never does.
        flip: mirror every other training image, at random.
        crop_padding: shift training images at random by up to so many pixels.
        rand_augment: so many operations of RandAugment on each training image (Cubuk et al., 2020, arXiv:1909.13719).
        rand_augment_magnitude: how strong they are, 0 to 30.
        mixup: alpha of mixup (Zhang et al., 2018, arXiv:1710.09412); 0 mixes nothing.
        precision: of the products in the forward pass; weights stay in float32. The two short ones pay on a GPU.
        compile: let `torch.compile` fuse the model, which pays in long runs on a GPU.
        seed: of the order of images, of augmentation and of dropout.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    warmup_epochs: float = 1.0
    schedule: Schedule = "cosine"
    weight_decay: float = 0.05
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    patience: int | None = None
    flip: bool = False
    crop_padding: int = 0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    mixup: float = 0.0
    precision: Precision = "float32"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        positive_integer("epochs", self.epochs)
        positive_integer("batch_size", self.batch_size)
        one_of("optimizer", self.optimizer, get_args(Optimizer))
        positive_number("learning_rate", self.learning_rate)
        not_negative("warmup_epochs", self.warmup_epochs)
        one_of("schedule", self.schedule, get_args(Schedule))
        not_negative("weight_decay", self.weight_decay)
        if self.clip_norm is not None:
            positive_number("clip_norm", self.clip_norm)
        probability("label_smoothing", self.label_smoothing)
        if self.patience is not None:
            positive_integer("patience", self.patience)
        true_or_false("flip", self.flip)
        whole_number("crop_padding", self.crop_padding)
        whole_number("rand_augment", self.rand_augment)
        whole_number("rand_augment_magnitude", self.rand_augment_magnitude, highest=30)
        not_negative("mixup", self.mixup)
        one_of("precision", self.precision, get_args(Precision))
        true_or_false("compile", self.compile)
        whole_number("seed", self.seed)
        for name, value in vars(self).items():
            if hasattr(value, "item"):  # NumPy's number as Python's: no other is read back from a checkpoint
                object.__setattr__(self, name, value.item())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The config that a dictionary describes; missing fields take their defaults, unknown ones are refused."""
        return cls(**known_fields(cls, values))
