"""How far a head looks."""

from __future__ import annotations

import torch
from torch import Tensor


def patch_distances(grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """Distances between the centres of patches, in pixels: `(N, N)`."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in grid_size), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).float() * patch_size
    return torch.cdist(places, places)


def attention_distance(weights: Tensor, grid_size: tuple[int, int], patch_size: int) -> Tensor:
    """The mean distance, in pixels, from a patch to those it attends to: `(B, h, T, T) -> (h,)`.

    The attention weight is the weight of the mean (Dosovitskiy et al., 2021, appendix D.7). [CLS], first, has no place:
    it is left out as a query and as a key, and what is left of each row is scaled to sum to 1.

    Raises:
        ValueError: weights that aren't of [CLS] and one token for each place of the grid.
    """
    patches = grid_size[0] * grid_size[1]
    if weights.ndim != 4 or weights.shape[-2:] != (patches + 1, patches + 1):
        raise ValueError(
            f"weights must have shape (B, h, {patches + 1}, {patches + 1}) for grid_size {grid_size} with [CLS], got "
            f"{tuple(weights.shape)}."
        )
    among_patches = weights[:, :, 1:, 1:]
    among_patches = among_patches / among_patches.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    distances = patch_distances(grid_size, patch_size).to(weights)
    return (among_patches * distances).sum(dim=-1).mean(dim=(0, 2))
