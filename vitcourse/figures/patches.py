"""Patches: how an image is cut, which pixels a token sees, and what the patch size costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.config import ViTConfig
from vitcourse.figures.images import image, patch_grid
from vitcourse.figures.labels import label_ends
from vitcourse.figures.style import BLUE, GREEN, ORANGE, subplots


def cut_images(pictures: Mapping[str, Tensor], patch_size: int) -> Figure:
    """Images `(C, H, W)` side by side, each cut into its patches, under its title."""
    fig, axes = subplots(1, len(pictures), figsize=(2.6 * len(pictures), 2.9), squeeze=False)
    for ax, (title, pixels) in zip(axes.flat, pictures.items(), strict=True):
        patch_grid(pixels, patch_size, ax)
        ax.set_title(title)
    return fig


def seen_pixels(maps: Mapping[str, Tensor], patch_size: int) -> Figure:
    """How much each pixel counts, from 0 to 1, with the borders of the patches that fit.

    Args:
        maps: title -> `(H, W)`.
        patch_size: P.
    """
    fig, axes = subplots(1, len(maps), figsize=(3.5 * len(maps) + 0.7, 3.4), squeeze=False)
    for ax, (title, pixels) in zip(axes.flat, maps.items(), strict=True):
        painted = ax.imshow(pixels.detach().numpy(), vmin=0, vmax=1)
        height, width = (side - side % patch_size for side in pixels.shape)
        _borders(ax, height, width, patch_size)
        ax.set_xticks(range(0, pixels.shape[1], 2 * patch_size))
        ax.set_yticks(range(0, pixels.shape[0], 2 * patch_size))
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
    fig.colorbar(painted, ax=list(axes.flat), shrink=0.8, ticks=[0, 0.5, 1])
    return fig


def patch_costs(
    pixels: Tensor, patch_sizes: Sequence[int], costs: Mapping[str, Sequence[float]], shown: Sequence[int]
) -> Figure:
    """One image cut at several patch sizes, and below it what each patch size costs, on log axes.

    Args:
        pixels: `(C, H, W)`.
        patch_sizes: the values of P.
        costs: label of a part -> multiply-adds for each P.
        shown: the values of P to cut the image at; 1 leaves it whole.
    """
    height, width = pixels.shape[-2:]
    fig = subplots(figsize=(8, 5.6))[0]
    fig.clear()
    grid = fig.add_gridspec(2, len(shown), height_ratios=[1, 1.4])
    for column, size in enumerate(shown):
        ax = fig.add_subplot(grid[0, column])
        image(pixels, ax)
        if size > 1:
            _borders(ax, height, width, size)
        ax.set_title(f"$P = {size}$, $N = {height * width // size**2}$")
    ax, ends = fig.add_subplot(grid[1, :]), []
    for (label, numbers), marker in zip(costs.items(), cycle("os^"), strict=False):
        (line,) = ax.plot(patch_sizes, numbers, marker=marker, markersize=6)
        ends.append((patch_sizes[-1], numbers[-1], label, line.get_color()))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(patch_sizes, patch_sizes)
    ax.minorticks_off()
    ax.set(xlabel="$P$", ylabel=r"$\Omega$", xlim=(patch_sizes[0] / 1.2, patch_sizes[-1] * 1.1))
    label_ends(ax, ends)
    return fig


def image_as_sequence(pixels: Tensor, patch_size: int, hidden_size: int) -> Figure:
    """An image, cut, and what P and D make of the default configuration, on a log axis.

    Args:
        pixels: `(C, H, W)`.
        patch_size: P, a divisor of both sides.
        hidden_size: D.
    """
    channels, *sides = pixels.shape
    config = ViTConfig(
        patch_size=patch_size,
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        image_size=tuple(sides),
        num_channels=channels,
    )
    attention = config.num_hidden_layers * 2 * config.sequence_length**2 * hidden_size
    numbers = {
        "$N$": config.num_patches,
        "$P^2C$": config.patch_length,
        "$(P^2C + 1)D$": (config.patch_length + 1) * hidden_size,
        r"$\Omega$": config.multiply_adds(),
        r"$\Omega_{QK^T\!,\,V}$": attention,
    }
    fig, (cut, bars) = subplots(1, 2, figsize=(8, 3.2), width_ratios=[1, 1.25])
    patch_grid(pixels, patch_size, cut).set_title(f"$P = {patch_size}$")
    bars.barh(list(numbers), list(numbers.values()), color=[BLUE, BLUE, GREEN, ORANGE, ORANGE])
    bars.invert_yaxis()
    bars.set(xscale="log", xlim=(0.8, 3e13), title=f"$D = {hidden_size}$")
    bars.set_xticks([1, 1e3, 1e6, 1e9])
    bars.minorticks_off()
    for row, number in enumerate(numbers.values()):
        bars.text(number * 1.6, row, f"{number:,}", va="center", fontsize=10)
    return fig


def _borders(ax: Axes, height: int, width: int, patch_size: int) -> None:
    lines = {"color": "white", "linewidth": 0.6, "alpha": 0.6}
    ax.vlines([edge - 0.5 for edge in range(0, width + 1, patch_size)], -0.5, height - 0.5, **lines)
    ax.hlines([edge - 0.5 for edge in range(0, height + 1, patch_size)], -0.5, width - 0.5, **lines)
