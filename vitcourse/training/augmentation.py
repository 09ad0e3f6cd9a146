"""Training images, a little different each time. Validation and test images are never augmented."""

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, flip: bool, crop_padding: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and shift each one, drawn for each image: `(B, C, H, W) -> (B, C, H, W)`."""
    if flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if crop_padding:
        height, width = images.shape[-2:]
        padded = F.pad(images, [crop_padding] * 4)
        top, left = torch.randint(0, 2 * crop_padding + 1, (2, len(images), 1), generator=generator)
        rows, columns = top + torch.arange(height), left + torch.arange(width)
        image = torch.arange(len(images))[:, None, None]
        images = padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images
