"""What depth does to signal, gradient and learning in an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from vitcourse.figures.labels import label_ends
from vitcourse.figures.style import BLUE, GREEN, INK, ORANGE, subplots
from vitcourse.figures.transformer import POST_NORM, PRE_NORM

STYLES = ("-", "--", ":", "-.")
DEPTHS = [(BLUE, "o", 3.0), (GREEN, "s", 2.4), (ORANGE, "^", 1.8), (INK, "D", 1.2)]


def by_depth(
    curves: Mapping[str, Sequence[float]],
    ylabel: str,
    xlabel: str = r"$\ell$",
    start: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Lines labelled at their right ends, for numbers that belong to depths `start`, `start` + 1, ..."""
    ax = subplots(figsize=(5.6, 2.8))[1] if ax is None else ax
    ends = []
    for index, (label, values) in enumerate(curves.items()):
        where = np.arange(start, start + len(values))
        (line,) = ax.plot(where, values, linestyle=STYLES[index % len(STYLES)])
        ends.append((where[-1], float(values[-1]), label, line.get_color()))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    label_ends(ax, ends, least=15)  # a root is taller than a letter
    return ax.figure


def gradients_by_depth(
    pre: Sequence[Sequence[float]],
    post: Sequence[Sequence[float]],
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Length of the gradient of each block of encoders of several depths, pre-norm left, post-norm right.

    Args:
        pre, post: one list for each encoder, the lengths of its blocks from the first to the last.
        limits: the smallest and the largest length that the scale must show; by default those given.
    """
    # Margins by hand: the layout engine would take half the time that a slider may take.
    margins = {"left": 0.1, "right": 0.98, "bottom": 0.18, "top": 0.9, "wspace": 0.08}
    fig, axes = subplots(1, 2, figsize=(6.4, 2.7), sharey=True, layout="none", gridspec_kw=margins)
    every = limits or [length for lengths in [*pre, *post] for length in lengths]
    least, most = min(every), max(every)
    low, high = least / 1.3, 1.3 * most * (1.3 * most / least) ** 0.16  # room for the labels
    for ax, title, encoders in zip(axes, (PRE_NORM, POST_NORM), (pre, post), strict=True):
        deepest = max(len(lengths) for lengths in encoders)
        for lengths, (colour, marker, width) in zip(encoders, cycle(DEPTHS), strict=False):
            last = len(lengths)
            ax.plot(range(1, last + 1), lengths, color=colour, marker=marker, markevery=[-1], ms=6, lw=width)
            ax.plot([last, last], [lengths[-1], 1.15 * most], color=colour, lw=0.8, ls=":", zorder=1)
            ax.text(last, 1.2 * most, f"${last}$", color=colour, ha="center", va="bottom", fontsize=10)
        ax.set_title(title)
        ax.set(xlabel=r"$\ell$", xlim=(0.3, deepest * 1.05 + 0.5), ylim=(low, high), yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel(r"$\Vert \partial \mathcal{L} / \partial \theta_\ell \Vert$")
    return fig


# ---- lines by step


def losses_by_step(curves: Mapping[str, Sequence[float]], width: int = 8) -> Figure:
    """Losses by step, each smoothed over `width` steps and labelled at its end."""
    fig, ax = subplots(figsize=(5.6, 2.8))
    smooth = {name: _smooth(values, width) for name, values in curves.items()}
    by_depth(smooth, r"$\mathcal{L}$", "$t$", start=width - 1, ax=ax)
    return fig


def runs_by_step(runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], width: int = 8) -> Figure:
    """Left the losses by step, smoothed over `width` steps; right the mean cosine between tokens.

    Args:
        runs: by name, one pair (losses, cosines) for each random start; the starts of one name look alike.
        width: how many steps are averaged.
    """
    fig, axes = subplots(1, 2, figsize=(8.4, 2.9))
    for ax, part, ylabel in zip(axes, (0, 1), (r"$\mathcal{L}$", "cos"), strict=True):
        ends = []
        for index, (name, starts) in enumerate(runs.items()):
            curves = [_smooth(start[0], width) if part == 0 else np.asarray(start[1]) for start in starts]
            where = np.arange(len(starts[0][part]) - len(curves[0]), len(starts[0][part]))
            for curve in curves:
                (line,) = ax.plot(where, curve, color=f"C{index}", linestyle=STYLES[index % len(STYLES)], lw=1.6)
            ends.append((where[-1], np.mean([curve[-1] for curve in curves]), name, line.get_color()))
        ax.set(xlabel="$t$", ylabel=ylabel)
        label_ends(ax, ends)
    return fig


def _smooth(values: Sequence[float], width: int) -> np.ndarray:
    return np.convolve(values, np.ones(width) / width, mode="valid")
