"""Where a token stands: position encodings as pictures, and how alike two positions are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from vitcourse.figures.style import BLUE, ORANGE, subplots
from vitcourse.functional import binary_encoding, sinusoidal_encoding


def bits_and_waves(length: int = 16) -> Figure:
    """The bits of 0 .. length - 1, the fastest on top, each with the wave that is positive where it is 1."""
    bits = binary_encoding(length)
    num_bits = bits.shape[1]
    fig, axes = subplots(num_bits, 1, figsize=(6.6, 0.75 * num_bits + 0.5), sharex=True, squeeze=False)
    fine = torch.linspace(-0.5, length - 0.5, 40 * length)
    for b, ax in enumerate(axes[:, 0]):
        wave = -torch.sin(math.pi * (fine + 0.5) / 2**b)
        ax.plot(fine, wave, "--", color=ORANGE)
        ax.step(torch.arange(length + 1) - 0.5, 2 * bits[[*range(length), -1], b] - 1, where="post", color=BLUE)
        ax.set(yticks=[-1, 1], yticklabels=["0", "1"], ylim=(-1.3, 1.3), xlim=(-0.5, length - 0.5))
        ax.set_ylabel(f"$b_{b}$", rotation=0, labelpad=10, va="center")
        ax.grid(axis="y", visible=False)
    axes[-1, 0].set(xlabel="$pos$", xticks=range(length))
    return fig


def sinusoidal_positions(length: int = 64, dim: int = 32, base: float = 10000.0) -> Figure:
    """The table of sines and cosines, its dot products, and these against the distance of the positions.

    Args:
        length: N, the number of positions.
        dim: d, even.
        base: n, 10000 in the paper.
    """
    table = sinusoidal_encoding(length, dim, base)
    products = table @ table.T / (dim / 2)  # each position with itself: 1
    # Margins by hand: the layout engine would take half the time that a slider may take.
    margins = {"left": 0.08, "right": 0.97, "top": 0.94, "bottom": 0.11, "hspace": 0.42, "wspace": 0.24}
    grid = {"height_ratios": [2.3, 1], "width_ratios": [1, 1.2], **margins}
    fig, axes = subplots(2, 2, figsize=(7, 5), layout="none", gridspec_kw=grid)
    _signed(table, axes[0, 0])
    axes[0, 0].set(xlabel="$j$", ylabel="$pos$", title=r"$PE(pos, j)$", aspect="auto")
    painted = _signed(products, axes[0, 1])
    axes[0, 1].set(xlabel="$pos'$", ylabel="$pos$", title=r"$PE(pos) \cdot PE(pos')\ /\ (d/2)$", aspect="auto")
    fig.colorbar(painted, ax=axes[0, 1], ticks=[-1, 0, 1])
    for ax in axes[1]:
        ax.remove()
    ax = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
    middle = length // 2
    ax.plot(torch.arange(length) - middle, products[middle], marker="o", markersize=3)
    ax.set(xlabel="$k = pos' - pos$", ylim=(-1.1, 1.1), yticks=[-1, 0, 1], xlim=(-middle - 0.5, length - middle - 0.5))
    return fig


def position_similarities(tables: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """How alike every two positions are: the cosine, for each table `(N, D)` a square of N x N."""
    squares = [F.cosine_similarity(table[:, None], table[None], dim=-1) for table in tables]
    return _panels(squares, titles, "$pos'$", "$pos$")


def grid_similarities(
    tables: Sequence[Tensor], titles: Sequence[str], grid_size: tuple[int, int], cell: tuple[int, int]
) -> Figure:
    """How alike one cell of a grid is to every cell: the cosine, for each table `(gh * gw, D)` a picture of the grid.

    Args:
        grid_size: gh, gw; the tables hold the cells row by row.
        cell: row and column, marked by a ring.
    """
    row, column = cell
    index = row * grid_size[1] + column
    grids = [F.cosine_similarity(table[index], table, dim=-1).unflatten(0, grid_size) for table in tables]
    fig = _panels(grids, titles, "$x$", "$y$")
    for ax in fig.axes[: len(tables)]:
        ax.plot(column, row, marker="o", markersize=9, markerfacecolor="none", markeredgecolor="white")
    return fig


def _panels(grids: Sequence[Tensor], titles: Sequence[str], across: str, down: str) -> Figure:
    fig, axes = subplots(1, len(grids), figsize=(2.3 * len(grids) + 0.6, 2.9), squeeze=False, sharey=True)
    for ax, grid, title in zip(axes[0], grids, titles, strict=True):
        painted = _signed(grid, ax)
        ax.set(title=title, xlabel=across)
    axes[0, 0].set_ylabel(down)
    fig.colorbar(painted, ax=axes[0], shrink=0.8, ticks=[-1, 0, 1])
    return fig


def _signed(values: Tensor, ax: Axes) -> AxesImage:
    ax.grid(visible=False)
    return ax.imshow(values.detach().numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
