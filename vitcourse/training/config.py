"""The numbers that say how to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "epochs": positive_integer,
    "batch_size": positive_integer,
    "optimizer": partial(one_of, allowed=get_args(Optimizer)),
    "learning_rate": positive_number,
    "warmup_epochs": not_negative,
    "schedule": partial(one_of, allowed=get_args(Schedule)),
    "weight_decay": not_negative,
    "clip_norm": _or_none(positive_number),
    "label_smoothing": probability,
    "patience": _or_none(positive_integer),
    "flip": true_or_false,
    "crop_padding": whole_number,
    "rand_augment": whole_number,
    "rand_augment_magnitude": partial(whole_number, highest=30),
    "mixup": not_negative,
    "precision": partial(one_of, allowed=get_args(Precision)),
    "compile": true_or_false,
    "seed": whole_number,
}


@dataclass(frozen=True)
class TrainingConfig:
    """How to train, checked when it is made.

    Attributes:
        epochs, batch_size: passes over the training images, images a step (all processes together).
        optimizer: "adamw", or "adam", in which `weight_decay` is a term of the gradient (Loshchilov and Hutter, 2019).
        learning_rate: the highest one. It grows to it along a line over `warmup_epochs` (Goyal et al., 2017,
            arXiv:1706.02677, section 2.2), then stays, or falls to 0 along a line or a half cosine (Loshchilov and
            Hutter, 2017, arXiv:1608.03983, eq. 5). A run no longer than its warm-up never reaches it.
        weight_decay: on weight matrices only.
        clip_norm: the gradient is shortened to this norm; None leaves it as it is.
        label_smoothing: the share of the target spread over all classes (Szegedy et al., 2016, arXiv:1512.00567).
        patience: stop after so many epochs without a better validation accuracy; None never does.
        flip: mirror every other training image, at random.
        crop_padding: shift training images at random by up to so many pixels.
        rand_augment: so many operations of RandAugment on each training image (Cubuk et al., 2020, arXiv:1909.13719).
        rand_augment_magnitude: how strong they are, 0 to 30.
        mixup: alpha of mixup (Zhang et al., 2018, arXiv:1710.09412); 0 mixes nothing.
        precision: of the products in the forward pass; weights stay in float32. The two short ones pay on a GPU.
        compile: let `torch.compile` fuse the model, which pays in long runs on a GPU.
        seed: of the order of images, of augmentation and of dropout.

    Raises:
        TypeError: a value of the wrong type, named.
        ValueError: a value out of range, named.
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
        for name, check in _CHECKS.items():
            # The one way to write a field of a frozen dataclass. Plain values: no others are read back from a file.
            object.__setattr__(self, name, check(name, getattr(self, name)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The config that a dictionary describes; missing fields take their defaults.

        Raises:
            TypeError, ValueError: a field that is unknown, or a value as above.
        """
        return cls(**known_fields(cls, values))
