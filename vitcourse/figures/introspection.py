"""Inside a model: where its heads look, how far, what its first layer and its positions hold, and maps with marks.

Longer than 150 lines because the figures of one notebook stand together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.figures.images import image
from vitcourse.figures.inside import attention_map
from vitcourse.figures.style import BLUE, GREY, ORANGE, subplots

TRAINED, RANDOM, NEITHER = BLUE, ORANGE, GREY


def head_maps(pixels: Tensor, maps: Tensor) -> Figure:
    """The map of every layer (row) and head (column), each from 0 to its largest weight, which stands above it.

    Args:
        pixels: `(C, H, W)`, drawn on the left.
        maps: `(layers, h, gh, gw)`.
    """
    layers, heads = maps.shape[:2]
    fig, axes = subplots(layers, heads + 1, figsize=(1.3 * (heads + 1), 1.52 * layers), squeeze=False)
    for layer, line in enumerate(axes, start=1):
        _bare(line[0]) if layer > 1 else image(pixels, line[0])
        for head, ax in enumerate(line[1:], start=1):
            one = maps[layer - 1, head - 1]
            _heat(one, ax, 0, float(one.max()))
            ax.set_title(f"$\\ell={layer}$, $h={head}$: {one.max():.2f}", fontsize=9)
    return fig


def head_map(pixels: Tensor, maps: Tensor, layer: int = 1, head: int = 1) -> Figure:
    """An image, and beside it the same under the map of one layer and one head, both counted from 1."""
    fig, (left, right) = subplots(1, 2, figsize=(5.6, 2.6), width_ratios=[1, 1.25])
    image(pixels, left)
    attention_map(pixels, maps[layer - 1, head - 1], right).set_title(f"$\\ell = {layer}$, $h = {head}$")
    return fig


def maps_beside(
    pixels: Tensor, rows: Mapping[str, Mapping[str, Tensor]], mask: Tensor | None = None, notes: Sequence[str] = ()
) -> Figure:
    """Maps of one image: a row for each model, a column for each method, every map from its least to its largest.

    Args:
        pixels: `(C, H, W)`, drawn on the left of each row.
        rows: label -> title of a column -> `(gh, gw)`.
        mask: `(H, W)`, bool; its border is drawn on every panel.
        notes: what to write below each map, row by row.

    Raises:
        ValueError: rows with other columns than the first, or another number of notes than of maps.
    """
    columns = len(next(iter(rows.values())))
    if notes and len(notes) != columns * len(rows):
        raise ValueError(f"notes must hold one for each of {columns * len(rows)} maps, got {len(notes)}.")
    fig, axes = subplots(len(rows), columns + 1, figsize=(1.35 * (columns + 1), 1.6 * len(rows)), squeeze=False)
    notes = iter(notes)
    for number, ((label, maps), line) in enumerate(zip(rows.items(), axes, strict=True)):
        image(pixels, line[0])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=12)
        for (title, one), ax in zip(maps.items(), line[1:], strict=True):
            _heat(one, ax, float(one.min()), float(one.max()), pixels.shape[-2:])
            ax.set_title(title if number == 0 else "")
            ax.set_xlabel(next(notes, ""), fontsize=10)
        for ax in line if mask is not None else ():
            ax.contour(mask.numpy(), levels=[0.5], colors="white", linewidths=2.2)
            ax.contour(mask.numpy(), levels=[0.5], colors="black", linewidths=0.9)
    return fig


def distances_by_depth(models: Mapping[str, tuple[Tensor, Tensor]], uniform: float) -> Figure:
    """Mean attention distance of each head (dot) by layer; crosses: random weights; dashed: equal weights for all.

    Args:
        models: title -> `(layers, h)` of the trained model, `(seeds, layers, h)` of random weights.
        uniform: the distance of a head that attends to all patches alike.
    """
    fig, axes = subplots(1, len(models), figsize=(2.3 * len(models) + 0.5, 3.1), sharey=True, squeeze=False)
    for (title, (trained, random)), ax in zip(models.items(), axes.flat, strict=True):
        layers = torch.arange(1, len(trained) + 1)
        for one in random:
            ax.plot(layers + 0.18, one.numpy(), "x", color=RANDOM, markersize=5, alpha=0.6)
        ax.plot(layers - 0.1, trained.numpy(), "o", color=TRAINED, markersize=6, markeredgecolor="white")
        ax.axhline(uniform, linestyle="--", color=NEITHER, linewidth=1.2)
        ax.set(title=title, xlabel="$\\ell$", xlim=(0.5, len(trained) + 0.5))
        ax.set_xticks(layers.tolist())
    axes[0, 0].set_ylabel("$\\bar d$ / px")
    return fig


def filters(rows: Mapping[str, Tensor], columns: int = 12) -> Figure:
    """Filters `(n, C, k, k)`, a row for each label; mid-grey is 0, each filter scaled by its largest size.

    Of a row with more than `columns` filters, the first ones are drawn.
    """
    fig, axes = subplots(len(rows), columns, figsize=(0.55 * columns, 0.66 * len(rows)), squeeze=False)
    for (label, kernels), line in zip(rows.items(), axes, strict=True):
        for ax in line:
            _bare(ax)
        for kernel, ax in zip(kernels, line, strict=False):
            image(0.5 + kernel.detach() / (2 * kernel.abs().max().item()), ax)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    return fig


def position_grids(similarities: Mapping[str, Tensor]) -> Figure:
    """For each patch a small picture of the grid: how alike its position is to all others, from -1 to 1.

    Args:
        similarities: title -> `(gh, gw, gh, gw)`.
    """
    fig, axes = subplots(1, len(similarities), figsize=(3.1 * len(similarities) + 0.6, 3.2), squeeze=False)
    for (title, similarity), ax in zip(similarities.items(), axes.flat, strict=True):
        rows, columns, height, width = similarity.shape
        sheet = torch.full((rows * (height + 1) - 1, columns * (width + 1) - 1), float("nan"))
        for row in range(rows):
            for column in range(columns):
                top, left = row * (height + 1), column * (width + 1)
                sheet[top : top + height, left : left + width] = similarity[row, column]
        painted = ax.imshow(sheet.numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
        _bare(ax).set_title(title)
    fig.colorbar(painted, ax=list(axes.flat), shrink=0.8, ticks=[-1, 0, 1])
    return fig


def map_marks(table: Sequence[Mapping[str, Any]], maps: Mapping[str, str], measures: Mapping[str, str]) -> Figure:
    """A panel for each measure, a line for each map: dots trained, crosses random weights, diamonds neither.

    Args:
        table: rows with "pair", "weights" (trained, random, none), "map", and a column for each measure.
        maps: name in the table -> label, from above.
        measures: column -> title.
    """
    looks = {"trained": ("o", TRAINED, -0.13), "random": ("x", RANDOM, 0.13), "none": ("D", NEITHER, 0.0)}
    size = (2.1 * len(measures) + 0.5, 0.38 * len(maps) + 0.9)
    fig, axes = subplots(1, len(measures), figsize=size, sharey=True, squeeze=False)
    for (column, title), ax in zip(measures.items(), axes.flat, strict=True):
        for row in table:
            if row["map"] not in maps:
                continue
            mark, colour, shift = looks[row["weights"]]
            place = list(maps).index(row["map"]) + shift
            ax.plot(row[column], place, mark, color=colour, markersize=6, alpha=0.85)
        ax.set(title=title, xlim=(0, 1), ylim=(len(maps) - 0.5, -0.5))
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0, 0].set_yticks(range(len(maps)), list(maps.values()))
    return fig


def deletion_curves(curves: Mapping[str, Tensor]) -> Figure:
    """The probability of the class against the share of patches removed, each curve `(steps + 1,)`."""
    fig, ax = subplots(figsize=(5.6, 3.3))
    for (label, curve), style in zip(curves.items(), cycle(("-", "--", ":", "-.")), strict=False):
        ax.plot(torch.linspace(0, 1, len(curve)), curve, linestyle=style, label=label)
    ax.set(xlabel="$r$", ylabel="$p$", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="upper right")
    return fig


def _heat(values: Tensor, ax: Axes, low: float, high: float, size: tuple[int, int] | None = None) -> None:
    height, width = size or values.shape
    ax.imshow(values.detach().numpy(), vmin=low, vmax=high, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    _bare(ax)


def _bare(ax: Axes) -> Axes:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax
