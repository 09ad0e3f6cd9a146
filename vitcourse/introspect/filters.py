"""What the first layer looks for, and what the positions have learned of the grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitcourse.model import VisionTransformer


def embedding_filters(model: VisionTransformer, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The principal components of the patch embedding's filters, `(count, C, P, P)`, and each one's share of variance.

    As in Dosovitskiy et al. (2021), figure 7, left. A component has no sign of its own; here the number largest in size
    is positive.

    Args:
        count: how many; by default 28, as in the paper, or all where there are fewer.

    Raises:
        ValueError: more components than there are.
    """
    weight = model.patch_embedding.projection.weight.detach()  # (D, C P P)
    count = min(28, *weight.shape) if count is None else count
    if not 1 <= count <= min(weight.shape):
        raise ValueError(f"count must lie between 1 and {min(weight.shape)}, got {count}.")
    _, spread, components = torch.linalg.svd(weight - weight.mean(dim=0), full_matrices=False)
    components = components[:count]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    shape = (model.config.num_channels, model.config.patch_size, model.config.patch_size)
    return (components * largest.sign()).unflatten(1, shape), (spread**2 / (spread**2).sum())[:count]


def position_similarity(model: VisionTransformer) -> Tensor:
    """The cosine between the positions of any two patches: `(gh, gw, gh, gw)` (Dosovitskiy et al., 2021, figure 7).

    Raises:
        ValueError: a model without positions.
    """
    positions = getattr(model.position_embedding, "positions", None)
    if positions is None:
        raise ValueError("model has no positions: its position_embedding is 'none'.")
    patches = F.normalize(positions.detach()[0, 1:], dim=-1)  # [CLS] has no place
    return (patches @ patches.T).unflatten(1, model.config.grid_size).unflatten(0, model.config.grid_size)
