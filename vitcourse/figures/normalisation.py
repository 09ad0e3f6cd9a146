"""What LayerNorm and BatchNorm take together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from vitcourse.figures.style import BLUE, ORANGE, subplots


def normalised_together(batch: int = 3, tokens: int = 4, width: int = 5) -> Figure:
    """The numbers of a batch `(B, N, D)` as a block of cells; coloured, one set that shares a mean and a variance.

    Left LayerNorm, one token of one sequence; right BatchNorm, one feature of all tokens of all sequences.
    """
    fig, axes = subplots(1, 2, figsize=(6.4, 2.7))
    rules = {
        r"LayerNorm: $\mu$ over $D$": (BLUE, lambda b, n, d: b == 0 and n == 0),
        r"BatchNorm: $\mu$ over $B, N$": (ORANGE, lambda b, n, d: d == width - 1),
    }
    for ax, (title, (colour, chosen)) in zip(axes, rules.items(), strict=True):
        _block_of_cells(ax, (batch, tokens, width), colour, chosen)
        ax.set_title(title)
    return fig


def _block_of_cells(
    ax: Axes, sizes: tuple[int, int, int], colour: str, chosen: Callable[[int, int, int], bool]
) -> None:
    batch, tokens, width = sizes
    away = np.array([0.42, 0.36])  # one step along B, drawn obliquely

    def cell(corner: np.ndarray, first: np.ndarray, second: np.ndarray, index: tuple[int, int, int]) -> None:
        corners = [corner, corner + first, corner + first + second, corner + second]
        ax.add_patch(Polygon(corners, facecolor=colour if chosen(*index) else "#eeeeee", edgecolor="white", lw=1.5))

    right, up = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for n in range(tokens):
        for d in range(width):
            cell(np.array([d, tokens - 1.0 - n]), right, up, (0, n, d))
    for b in range(batch):
        for d in range(width):
            cell(np.array([d, float(tokens)]) + b * away, right, away, (b, 0, d))
        for n in range(tokens):
            cell(np.array([float(width), tokens - 1.0 - n]) + b * away, up, away, (b, n, width - 1))
    ax.text(width / 2, -0.25, "$D$", ha="center", va="top")
    ax.text(-0.25, tokens / 2, "$N$", ha="right", va="center")
    middle = np.array([0.0, tokens]) + batch * away / 2
    ax.text(middle[0] - 0.2, middle[1] + 0.1, "$B$", ha="right", va="bottom")
    ax.set(xlim=(-1, width + batch * away[0] + 0.2), ylim=(-0.9, tokens + batch * away[1] + 0.2), aspect="equal")
    ax.axis("off")
