"""Images, alone and in rows, whole and in patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.data import ImageSet
from vitcourse.figures.style import subplots

RIGHT, WRONG = "✓", "✗"


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
    """Images `(N, C, H, W)` row by row, each under its title; `side` is the width of one, in inches.

    Raises:
        ValueError: another number of titles than of images.
    """
    if titles and len(titles) != len(images):
        raise ValueError(f"titles must hold one for each of {len(images)} images, got {len(titles)}.")
    rows = max(1, -(-len(images) // columns))
    height = side + 0.45 * bool(titles)
    fig, axes = subplots(rows, columns, figsize=(side * columns, height * rows), squeeze=False)
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
