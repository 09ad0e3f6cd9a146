"""The course's figures: functions that take data, draw, and return the figure.

Labels are symbols; the words stand in the captions of the notebooks. `use_style` sets the packaged style.

Longer than 150 lines because all figures of the course stand together, each function alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import matplotlib.pyplot as plt
import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.data import ImageSet
from vitcourse.model import VisionTransformer
from vitcourse.training import Epoch

STYLE = resources.files("vitcourse").joinpath("vitcourse.mplstyle")
RIGHT, WRONG = "✓", "✗"


def use_style() -> None:
    """Draw all further figures of this session in the course's style."""
    with resources.as_file(STYLE) as path:
        plt.style.use(path)


def _subplots(*args: Any, **kwargs: Any) -> tuple[Figure, Any]:
    """`plt.subplots`, but pyplot forgets the figure: a notebook shows it once, as the value of its cell."""
    fig, axes = plt.subplots(*args, **kwargs)
    plt.close(fig)
    return fig, axes


def image(pixels: Tensor, ax: Axes, title: str = "") -> Axes:
    """One image, `(C, H, W)` or `(H, W)`, uint8 or 0 .. 1, without ticks."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    highest = 255 if pixels.dtype == torch.uint8 else 1.0
    shown = pixels[0] if len(pixels) == 1 else rearrange(pixels, "c h w -> h w c")
    ax.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=highest)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    return ax


def image_grid(images: Tensor, titles: Sequence[str] = (), columns: int = 6, side: float = 1.35) -> Figure:
    """Images `(N, C, H, W)` row by row, each under its title; `side` is the width of one, in inches."""
    rows = -(-len(images) // columns)
    height = side + 0.45 * bool(titles)
    fig, axes = _subplots(rows, columns, figsize=(side * columns, height * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for index, (pixels, ax) in enumerate(zip(images, axes.flat, strict=False)):
        image(pixels, ax)
        if titles:
            ax.set_title(titles[index], fontsize=10)
    return fig


def predictions(images: ImageSet, predicted: Tensor, columns: int = 6) -> Figure:
    """Images under the class that was predicted, with a tick, or a cross and the true class."""
    names = images.class_names
    titles = [
        f"{RIGHT} {names[guess]}" if guess == truth else f"{WRONG} {names[guess]}\n({names[truth]})"
        for guess, truth in zip(predicted.tolist(), images.labels.tolist(), strict=True)
    ]
    return image_grid(images.images, titles, columns)


def patch_grid(pixels: Tensor, patch_size: int, ax: Axes, gap: int = 1) -> Axes:
    """An image `(C, H, W)`, its patches drawn apart by `gap` grey pixels."""
    _, height, width = pixels.shape
    grey = 128 if pixels.dtype == torch.uint8 else 0.5  # apart from dark and from bright pictures
    rows, columns = height // patch_size, width // patch_size
    sheet = torch.full((len(pixels), height + gap * (rows - 1), width + gap * (columns - 1)), grey).to(pixels.dtype)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (patch_size + gap), column * (patch_size + gap)
            tile = pixels[:, row * patch_size :, column * patch_size :][:, :patch_size, :patch_size]
            sheet[:, top : top + patch_size, left : left + patch_size] = tile
    return image(sheet, ax)


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
    fig, axes = _subplots(1, 4, figsize=(9.2, 2.3), width_ratios=[1, 1, 1.15, 1.1])
    image(pixels, axes[0], images.class_names[truth])
    patch_grid(pixels, model.config.patch_size, axes[1]).set_title(f"$N = {model.config.num_patches}$")
    chosen = f"$h = {head}$" if head else "$\\bar h$"
    attention_map(pixels, grid, axes[2]).set_title(f"$\\ell = {layer}$, {chosen}")
    class_probabilities(logits.softmax(dim=1)[0], images.class_names, axes[3], truth)
    return fig


def training_curves(log: Sequence[Epoch], classes: int) -> Figure:
    """Loss and accuracy after each epoch; dotted, what guessing among `classes` equally likely classes gives."""
    fig, (left, right) = _subplots(1, 2, figsize=(8, 2.8))
    epochs = [row.epoch for row in log]
    for ax, quantity, chance in ((left, "loss", math.log(classes)), (right, "accuracy", 1 / classes)):
        for part, marker in (("train", "o"), ("validation", "s")):
            ax.plot(epochs, [getattr(row, f"{part}_{quantity}") for row in log], marker=marker, label=part)
        ax.axhline(chance, color="#555555", linestyle=":")
        ax.set_xlabel("$t$")
        ax.xaxis.get_major_locator().set_params(integer=True)
    left.set(ylabel=r"$\mathcal{L}$", ylim=(0, None))
    right.set(ylabel="acc", ylim=(0, 1))
    right.legend(loc="lower right", bbox_to_anchor=(1, 0.12))
    return fig
