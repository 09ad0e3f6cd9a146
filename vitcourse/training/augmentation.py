"""Training images, a little different each time. Validation and test images are never augmented."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the chosen images left to right: `(B, C, H, W)`, bool `(B,)` -> `(B, C, H, W)`."""
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut `size` = (h, w) out of each image at its own place: `(B, C, H, W)`, `(B,)`, `(B,)` -> `(B, C, h, w)`."""
    windows = images.unfold(2, size[0], 1).unfold(3, size[1], 1)  # a view: (B, C, H - h + 1, W - w + 1, h, w)
    return windows[torch.arange(len(images)), :, top, left]


def pad(images: Tensor, padding: int) -> Tensor:
    """Add a black border of `padding` pixels: `(B, C, H, W) -> (B, C, H + 2 padding, W + 2 padding)`."""
    return F.pad(images, [padding] * 4) if padding else images


def mix(inputs: Tensor, targets: Tensor, partners: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mixup: each image fades into its partner, and their targets with them (Zhang et al., 2018, arXiv:1710.09412).

    Args:
        inputs, targets: `(B, C, H, W)` and class shares `(B, K)`.
        partners: `(B,)`, the index of another image of the batch.
        share: of the image itself, 0 to 1.
    """
    return share * inputs + (1 - share) * inputs[partners], share * targets + (1 - share) * targets[partners]
