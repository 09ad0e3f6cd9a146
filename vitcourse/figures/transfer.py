"""Standing on someone else's training: ways beside one another, levels of labels, positions for another grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.figures.dots import line_and_dots
from vitcourse.figures.labels import name_curves
from vitcourse.figures.style import BLUE, COLOURS, INK, MARKS, PALE, subplots
from vitcourse.functional import resize_positions


def resized_positions(
    positions: Tensor, old_grid: tuple[int, int], side: int, row: float = 0.5, column: float = 0.5
) -> Figure:
    """How alike one patch's position is to all: as learned, resized, and the learned rows reused in reading order.

    Args:
        positions: `(1, 1 + gh gw, D)`, [CLS] first.
        old_grid: gh, gw.
        side: rows and columns of the new grid. Reading order: the learned rows from the start, then none (grey).
        row, column: the patch, marked by a ring, as a share of the grid, 0 to 1.
    """
    patches = positions[0, 1:].detach()
    resized = resize_positions(positions.detach(), old_grid, (side, side))[0, 1:]
    reused = torch.full_like(resized, torch.nan)
    count = min(len(patches), len(reused))
    reused[:count] = patches[:count]
    fig, axes = subplots(1, 3, figsize=(6.6, 2.5), layout="none")
    fig.subplots_adjust(left=0.07, right=0.9, top=0.87, bottom=0.17, wspace=0.25)
    colours = colormaps["RdBu_r"].with_extremes(bad="#BBBBBB")
    tables = ((patches, old_grid), (resized, (side, side)), (reused, (side, side)))
    for ax, (table, grid), title in zip(axes, tables, ("$E_{pos}$", r"$E_{pos}'$", r"$E_{pos}[:N]$"), strict=True):
        y, x = (min(int(share * size), size - 1) for share, size in zip((row, column), grid, strict=True))
        alike = F.cosine_similarity(table[y * grid[1] + x], table, dim=-1).unflatten(0, grid)
        painted = ax.imshow(alike.numpy(), cmap=colours, vmin=-1, vmax=1)
        ax.plot(x, y, marker="o", markersize=9, markerfacecolor="none", markeredgecolor="white", mew=1.8)
        ticks = [range(0, size, 2 if size <= 8 else 4) for size in grid]
        ax.set(yticks=ticks[0], xticks=ticks[1])
        ax.set(title=f"{title}, ${grid[0]} \\times {grid[1]}$", xlabel="$x$")
        ax.grid(visible=False)
    axes[0].set_ylabel("$y$", rotation=0)
    bar = fig.add_axes((0.925, 0.25, 0.018, 0.54))
    fig.colorbar(painted, cax=bar, ticks=[-1, 0, 1])
    return fig


def transfer_ways(curves: Mapping[str, Mapping[int, Sequence[float]]], logarithmic: bool = True) -> Figure:
    """Accuracy against n: for each way a line through the means, a dot for each seed, its name at the end.

    Args:
        curves: by way, then by n, one accuracy for each seed.
        logarithmic: the axis of n.
    """
    fig, ax = subplots(figsize=(6.4, 3.4))
    for index, points in enumerate(curves.values()):
        line_and_dots(ax, points, index, markersize=5, alpha=0.7)
    name_curves(ax, curves, 0.065, 10)
    if logarithmic:
        ax.set_xscale("log")
    ticks = sorted({n for points in curves.values() for n in points})
    ax.set_xticks(ticks, [f"{n:g}" for n in ticks])
    ax.minorticks_off()
    ax.set(xlabel="$n$", ylabel="acc", ylim=(0, 1))
    return fig


def transfer_levels(accuracies: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each number of classes, in it a row for each run: a dot for each seed and a bar for their mean.

    Args:
        accuracies: by panel, then by row, one accuracy for each seed.
    """
    rows = max(len(runs) for runs in accuracies.values())
    fig, axes = subplots(1, len(accuracies), figsize=(7, 0.5 * rows + 1), sharey=True, squeeze=False)
    for ax, (title, runs) in zip(axes[0], accuracies.items(), strict=True):
        for height, values in enumerate(runs.values()):
            mean = sum(values) / len(values)
            ax.plot(values, [height] * len(values), MARKS[height % 5], color=COLOURS[height % 5], alpha=0.75)
            ax.plot([mean, mean], [height - 0.3, height + 0.3], color=INK, linewidth=2)
        ax.set(xlim=(0, 1.02), xlabel="acc", title=title, xticks=[0.2, 0.4, 0.6, 0.8, 1])
        ax.set_yticks(range(len(runs)), list(runs))
    axes[0, 0].set_ylim(rows - 0.5, -0.5)
    return fig


def class_counts(counts: Mapping[int, tuple[int, int]]) -> Figure:
    """Images of each class, the most frequent first: listed (pale) and usable (dark).

    Args:
        counts: by label, (listed, usable).
    """
    ordered = sorted(counts.values(), reverse=True)
    fig, ax = subplots(figsize=(6.4, 2.6))
    ax.bar(range(len(ordered)), [listed for listed, _ in ordered], color=PALE[BLUE], edgecolor=COLOURS[0])
    ax.bar(range(len(ordered)), [usable for _, usable in ordered], color=COLOURS[0], width=0.5)
    ax.set(xlabel="$k$", ylabel="$n_k$")
    ax.grid(axis="x", visible=False)
    if len(ordered) <= 20:
        ax.set_xticks(range(len(ordered)))
    return fig
