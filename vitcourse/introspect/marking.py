"""Is a map right? Against the known mask of the object, and against the model itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitcourse.functional import check_patches_fit, patchify, unpatchify
from vitcourse.model import VisionTransformer
from vitcourse.validation import positive_integer


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether a map's highest number lies on the object: `(B, gh, gw), (B, H, W) -> (B,)`, the chance of a hit.

    Zhang et al. (2018), "Top-Down Neural Attention by Excitation Backprop". A patch is hit by as much as it is covered;
    of several equal maxima each is as likely.

    Raises:
        ValueError: masks that aren't boolean, or of a size that the grid doesn't divide.
    """
    covered = _coverage(maps, masks)
    highest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (covered * highest).sum(dim=(1, 2)) / highest.sum(dim=(1, 2))


def iou(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of the object with as many pixels, the map's highest: `(B, gh, gw), (B, H, W) -> (B,)`.

    Pixels of the patch at the limit count in part. So no threshold has to be chosen, and a constant map gets what
    chance gets. Where the object's edge cuts patches, no map of patches reaches 1.

    Raises:
        ValueError: as `pointing_game`.
    """
    covered = _coverage(maps, masks).flatten(1)
    flat = maps.flatten(1)
    area = covered.sum(dim=1, keepdim=True)  # in patches
    higher = (flat[:, None, :] > flat[:, :, None]).sum(dim=2)
    equal = (flat[:, None, :] == flat[:, :, None]).sum(dim=2)
    chosen = ((area - higher) / equal).clamp(0, 1)  # how much of each patch is among the highest
    both = (chosen * covered).sum(dim=1)
    return both / (2 * area[:, 0] - both).clamp(min=torch.finfo(flat.dtype).tiny)


def deletion_curve(
    model: VisionTransformer, images: Tensor, classes: Tensor, maps: Tensor, steps: int = 8, fill: float = 0.0
) -> Tensor:
    """The probability of the class while patches are removed, the highest of the map first: `(B, steps + 1)`.

    Petsiuk et al. (2018), "RISE", section 4.2: a good map makes it fall early. The first column is the whole image, the
    last one an image of which nothing is left.

    Args:
        images: `(B, C, H, W)`; classes: `(B,)`; maps: `(B, gh, gw)`, a number for each patch.
        steps: in how many equal steps all patches are removed.
        fill: what stands in place of a removed patch; 0 is the mean colour of normalised images.

    Raises:
        TypeError, ValueError: maps of another grid than the model's, images that don't fit it, or no step.
    """
    config = model.config
    positive_integer("steps", steps)
    if maps.shape[1:] != config.grid_size:
        raise ValueError(f"maps must be (B, {config.grid_size[0]}, {config.grid_size[1]}), got {tuple(maps.shape)}.")
    patches = patchify(images, config.patch_size)
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    curve = []
    with torch.inference_mode():
        for step in range(steps + 1):
            removed = rank < round(step * config.num_patches / steps)
            left = unpatchify(patches.masked_fill(removed[:, :, None], fill), config.patch_size, images.shape[-2:])
            curve.append(model(left).softmax(dim=1).gather(1, classes[:, None])[:, 0])
    return torch.stack(curve, dim=1)


def edge_map(images: Tensor, patch_size: int) -> Tensor:
    """How much neighbouring pixels differ, mean of each patch: a map without a model, `(B, C, H, W) -> (B, gh, gw)`.

    Adebayo et al. (2018), "Sanity Checks for Saliency Maps", compare with an edge detector: what an edge detector finds
    needs no trained model.

    Raises:
        ValueError: patches that don't fit the images.
    """
    check_patches_fit(images, patch_size)
    down = F.pad(images.diff(dim=2).abs(), (0, 0, 0, 1))
    right = F.pad(images.diff(dim=3).abs(), (0, 1))
    return F.avg_pool2d((down + right).mean(dim=1, keepdim=True), patch_size)[:, 0]


def _coverage(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each patch that the object covers: `(B, gh, gw)`."""
    if masks.dtype != torch.bool:
        raise ValueError(f"masks must be boolean, True on the object, got {masks.dtype}.")
    (grid_height, grid_width), (height, width) = maps.shape[1:], masks.shape[1:]
    if height % grid_height or width % grid_width:
        raise ValueError(f"maps of {grid_height} x {grid_width} patches don't fit masks of {height} x {width} pixels.")
    return F.avg_pool2d(masks[:, None].to(maps.dtype), (height // grid_height, width // grid_width))[:, 0]
