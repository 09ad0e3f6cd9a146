"""One image on its way through a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.data import ImageSet
from vitcourse.figures.images import RIGHT, image, patch_grid
from vitcourse.figures.style import subplots
from vitcourse.model import VisionTransformer


def attention_map(pixels: Tensor, weights: Tensor, ax: Axes) -> Axes:
    """An image under the attention that its patches receive.

    Args:
        pixels: `(C, H, W)`.
        weights: of the patches, `(gh, gw)`; the colours run from 0 to the largest.
    """
    height, width = pixels.shape[-2:]
    image(pixels, ax)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    paint = {"cmap": "viridis", "vmin": 0, "vmax": float(weights.max()), "alpha": 0.75}
    painted = ax.imshow(weights.numpy(), extent=extent, **paint)
    ax.figure.colorbar(painted, ax=ax, shrink=0.8)
    return ax


def class_probabilities(probabilities: Tensor, class_names: Sequence[str], ax: Axes, truth: int | None = None) -> Axes:
    """Bars of the probability of each class `(K,)`; the true class is marked by a tick."""
    labels = [f"{RIGHT} {name}" if index == truth else name for index, name in enumerate(class_names)]
    ax.barh(labels, probabilities.numpy())
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="$p$")
    ax.grid(axis="y", visible=False)
    return ax


@torch.inference_mode()
def inside(model: VisionTransformer, images: ImageSet, index: int = 0, layer: int = 1, head: int = 0) -> Figure:
    """One image on its way through a model: pixels, patches, where [CLS] looks, class probabilities.

    Args:
        index: of the image.
        layer: 1 .. number of blocks.
        head: 1 .. number of heads, or 0 for the mean over heads.
    """
    pixels, truth = images.images[index], int(images.labels[index])
    logits, attention = model(images.inputs([index]), return_attention=True)
    weights = attention[layer - 1][0]  # (h, L, L)
    weights = weights[head - 1] if head else weights.mean(dim=0)
    grid = weights[0, 1:].unflatten(0, model.config.grid_size)  # the row of [CLS], without [CLS] itself
    fig, axes = subplots(1, 4, figsize=(9.2, 2.3), width_ratios=[1, 1, 1.15, 1.1])
    image(pixels, axes[0], images.class_names[truth])
    patch_grid(pixels, model.config.patch_size, axes[1]).set_title(f"$N = {model.config.num_patches}$")
    chosen = f"$h = {head}$" if head else "$\\bar h$"
    attention_map(pixels, grid, axes[2]).set_title(f"$\\ell = {layer}$, {chosen}")
    class_probabilities(logits.softmax(dim=1)[0], images.class_names, axes[3], truth)
    return fig
