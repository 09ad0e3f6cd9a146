"""RandAugment: a few operations on each image, drawn from a list, all equally strong (Cubuk et al., 2020).

The list and the strengths are those of torchvision's `RandAugment`, whose kernels do the work. Theirs draws once for
a whole batch; here each image has its own operations. Images that drew the same one go through it together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

BINS = 31  # of the magnitude: 0 to 30
Level = Callable[[float, float], float]
Operation = Callable[[Any, Tensor, Level, int], Tensor]

# name: (torchvision's functional module, images, level, sign -1 or 1) -> images.
# `level(low, high)` is the value between the two that the magnitude stands for.
OPERATIONS: dict[str, Operation] = {
    "identity": lambda F, images, level, sign: images,
    "shear x": lambda F, images, level, sign: _shear(F, images, x=sign * level(0.0, 0.3)),
    "shear y": lambda F, images, level, sign: _shear(F, images, y=sign * level(0.0, 0.3)),
    "translate x": lambda F, images, level, sign: _shift(F, images, level, x=sign),
    "translate y": lambda F, images, level, sign: _shift(F, images, level, y=sign),
    "rotate": lambda F, images, level, sign: F.rotate(images, sign * level(0.0, 30.0)),
    "brightness": lambda F, images, level, sign: F.adjust_brightness(images, 1 + sign * level(0.0, 0.9)),
    "colour": lambda F, images, level, sign: F.adjust_saturation(images, 1 + sign * level(0.0, 0.9)),
    "contrast": lambda F, images, level, sign: F.adjust_contrast(images, 1 + sign * level(0.0, 0.9)),
    "sharpness": lambda F, images, level, sign: F.adjust_sharpness(images, 1 + sign * level(0.0, 0.9)),
    "posterize": lambda F, images, level, sign: F.posterize(images, 8 - round(level(0.0, 4.0))),
    "solarize": lambda F, images, level, sign: F.solarize(images, 255 * level(1.0, 0.0)),
    "autocontrast": lambda F, images, level, sign: F.autocontrast(images),
    "equalize": lambda F, images, level, sign: F.equalize(images),
}


def draw(layers: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which operation, an index into `OPERATIONS`, and which sign: both `(layers, B)`."""
    operations = torch.randint(len(OPERATIONS), (layers, batch), generator=generator)
    return operations, torch.randint(0, 2, (layers, batch), generator=generator) * 2 - 1


def apply(images: Tensor, operations: Tensor, signs: Tensor, magnitude: int) -> Tensor:
    """Each image through its own operations, one layer after the other: uint8 `(B, C, H, W) -> (B, C, H, W)`.

    Args:
        operations, signs: `(layers, B)`, of `draw`.
        magnitude: 0 to 30.
    """
    from torchvision.transforms.v2 import functional as F  # costs a second: only where it is used

    def level(low: float, high: float) -> float:
        return float(torch.linspace(low, high, BINS)[magnitude])  # in float32, as torchvision: the same to the bit

    kernels = list(OPERATIONS.values())
    images = images.clone()
    for operation, sign in zip(operations, signs, strict=True):
        for chosen in (operation * 2 + (sign > 0)).unique().tolist():
            rows = torch.nonzero((operation == chosen // 2) & ((sign > 0) == chosen % 2)).flatten()
            kernel = kernels[chosen // 2]
            images[rows] = kernel(F, images[rows], level, chosen % 2 * 2 - 1)
    return images


def _shear(F, images: Tensor, x: float = 0.0, y: float = 0.0) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])


def _shift(F, images: Tensor, level: Level, x: int = 0, y: int = 0) -> Tensor:
    height, width = images.shape[-2:]
    translate = [int(level(0.0, 150 / 331 * width)) * x, int(level(0.0, 150 / 331 * height)) * y]
    return F.affine(images, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])
