"""The encoder block: what is normalised together, where the norm stands, what depth does to signal and gradient.

Longer than 150 lines because the drawings of blocks and of the Transformer share their boxes and arrows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from matplotlib.ticker import LogLocator, NullLocator

from vitcourse.figures.style import subplots

BLUE, ORANGE, GREEN, YELLOW = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PALE = {BLUE: "#cfe3f2", ORANGE: "#f8dccb", GREEN: "#cbeadf", YELLOW: "#fbe8c4", "white": "white"}
INK = "#333333"
PRE_NORM, POST_NORM = r"$x + f(\mathrm{LN}(x))$", r"$\mathrm{LN}(x + f(x))$"
STYLES = ("-", "--", ":", "-.")
DEPTHS = [("#56B4E9", "o", 3.0), ("#009E73", "s", 2.4), ("#D55E00", "^", 1.8), ("#000000", "D", 1.2)]

# ---- which numbers share a mean


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


def _block_of_cells(ax: Axes, sizes: tuple[int, int, int], colour: str, chosen) -> None:
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


# ---- lines by depth


def by_depth(
    curves: Mapping[str, Sequence[float]],
    ylabel: str,
    xlabel: str = r"$\ell$",
    log: bool = False,
    start: int = 0,
    ax: Axes | None = None,
) -> Figure:
    """Lines labelled at their right ends, for numbers that belong to depths `start`, `start` + 1, ..."""
    ax = subplots(figsize=(5.6, 2.8))[1] if ax is None else ax
    ends = []
    for index, (label, values) in enumerate(curves.items()):
        where = np.arange(start, start + len(values))
        (line,) = ax.plot(where, values, linestyle=STYLES[index % len(STYLES)])
        ends.append([float(values[-1]), where[-1], label, line.get_color()])
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _label_ends(ax, ends)
    return ax.figure


def _label_ends(ax: Axes, ends: list[list]) -> None:
    """Write each label beside the end of its line; where two would overlap, one a little above, one a little below."""
    height = ax.get_position().height * ax.figure.get_figheight() * 72
    ax.autoscale_view()
    to_axes = ax.transScale + ax.transLimits
    spots = [to_axes.transform((x, y)) for y, x, _, _ in ends]
    step = 12 / height
    groups = []  # labels that touch, from below: their mean height, their indices
    for index in sorted(range(len(ends)), key=lambda index: spots[index][1]):
        groups.append((spots[index][1], [index]))
        while len(groups) > 1 and _top(groups[-2], step) > groups[-1][0] - (len(groups[-1][1]) - 1) * step / 2:
            together = groups[-2][1] + groups.pop()[1]
            groups[-1] = (np.mean([spots[member][1] for member in together]), together)
    heights = {
        index: max(middle - (len(members) - 1) * step / 2, step / 2) + place * step
        for middle, members in groups
        for place, index in enumerate(members)
    }
    for index, (_, _, label, colour) in enumerate(ends):
        spot = (spots[index][0] + 0.02, heights[index])
        ax.text(*spot, label, color=colour, transform=ax.transAxes, va="center", fontsize=10)


def _top(group: tuple[float, list[int]], step: float) -> float:
    middle, members = group
    return middle + (len(members) + 1) * step / 2


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
        for lengths, (colour, marker, width) in zip(encoders, DEPTHS, strict=False):
            last = len(lengths)
            ax.plot(range(1, last + 1), lengths, color=colour, marker=marker, markevery=[-1], ms=6, lw=width)
            ax.plot([last, last], [lengths[-1], 1.15 * most], color=colour, lw=0.8, ls=":", zorder=1)
            ax.text(last, 1.2 * most, f"${last}$", color=colour, ha="center", va="bottom", fontsize=10)
        ax.set_title(title)
        ax.set(xlabel=r"$\ell$", xlim=(0.3, deepest * 1.05 + 0.5), ylim=(low, high), yscale="log")
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
            ends.append([np.mean([curve[-1] for curve in curves]), where[-1], name, line.get_color()])
        ax.set(xlabel="$t$", ylabel=ylabel)
        _label_ends(ax, ends)
    return fig


def _smooth(values: Sequence[float], width: int) -> np.ndarray:
    return np.convolve(values, np.ones(width) / width, mode="valid")


# ---- boxes and arrows


def _box(ax: Axes, x: float, y: float, text: str, colour: str, width: float = 1.5, height: float = 0.5) -> None:
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=PALE[colour],
        edgecolor=INK if colour == "white" else colour,
        lw=1.2,
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", fontsize=11)


def _plus(ax: Axes, x: float, y: float) -> None:
    ax.plot(x, y, "o", ms=13, mfc="white", mec=INK, mew=1.2, zorder=3)
    ax.text(x, y - 0.01, "$+$", ha="center", va="center", fontsize=11, zorder=4)


def _path(ax: Axes, *points: tuple[float, float], colour: str = INK, head: bool = True) -> None:
    xs, ys = zip(*points, strict=True)
    ax.plot(xs[:-1], ys[:-1], color=colour, lw=1.4, solid_joinstyle="round")
    style = "-|>" if head else "-"
    last = FancyArrowPatch(
        points[-2], points[-1], arrowstyle=style, mutation_scale=9, color=colour, lw=1.4, shrinkA=0, shrinkB=0
    )
    ax.add_patch(last)


def _frame(ax: Axes, left: float, bottom: float, right: float, top: float, text: str, colour: str, line: float) -> None:
    shape = FancyBboxPatch(
        (left, bottom),
        right - left,
        top - bottom,
        boxstyle="round,pad=0,rounding_size=0.2",
        facecolor="#f7f7f7",
        edgecolor=colour,
        lw=line,
        zorder=0,
    )
    ax.add_patch(shape)
    ax.text(left - 0.12, (bottom + top) / 2, text, ha="right", va="center", fontsize=12)


def encoder_blocks() -> Figure:
    """Two blocks side by side: pre-norm, whose stream runs through untouched, and post-norm, which normalises it."""
    fig, axes = subplots(1, 2, figsize=(6.4, 4.1))
    for ax, pre in zip(axes, (True, False), strict=True):
        ax.set_title(PRE_NORM if pre else POST_NORM)
        y = 0.0
        ax.text(0, y - 0.25, r"$X_{\ell-1}$", ha="center", va="center", fontsize=12)
        for part, colour in (("MSA", BLUE), ("MLP", ORANGE)):
            side, turn = 1.55, y + 0.3
            first, second, plus = (y + 1.0, y + 1.95, y + 2.65) if pre else (y + 1.1, None, y + 1.9)
            if pre:
                _path(ax, (0, y), (0, plus - 0.17))
                _path(ax, (0, turn), (side, turn), (side, first - 0.25))
                _box(ax, side, first, "LN", YELLOW)
                _path(ax, (side, first + 0.25), (side, second - 0.25))
                _box(ax, side, second, part, colour)
                _path(ax, (side, second + 0.25), (side, plus), (0.2, plus))
            else:
                _path(ax, (0, y), (0, plus - 0.17))
                _path(ax, (0, turn), (side, turn), (side, first - 0.25))
                _box(ax, side, first, part, colour)
                _path(ax, (side, first + 0.25), (side, plus), (0.2, plus))
            _plus(ax, 0, plus)
            y = plus + 0.17
            if not pre:
                _path(ax, (0, y), (0, y + 0.25))
                _box(ax, 0, y + 0.5, "LN", YELLOW, width=1.1)
                y += 0.75
        _path(ax, (0, y), (0, y + 0.4))
        ax.text(0, y + 0.6, r"$X_\ell$", ha="center", va="center", fontsize=12)
        ax.set(xlim=(-1.1, 2.6), ylim=(-0.5, 6.6), aspect="equal")
        ax.axis("off")
    return fig


def transformer() -> Figure:
    """The Transformer of 2017, encoder left, decoder right (after Vaswani et al., 2017, figure 1)."""
    fig, ax = subplots(figsize=(6.6, 6.4))
    left, right = 0.0, 5.0
    memory = _tower(ax, left, [("MSA", BLUE), ("MLP", ORANGE)], "$X$", -1)
    output = _tower(ax, right, [(r"MSA$_{\leq n}$", BLUE), ("MCA", GREEN), ("MLP", ORANGE)], "$Y$", 1)
    _frame(ax, left - 1.75, 1.55, left + 1.15, memory - 0.25, r"$L\times$", BLUE, 2.4)
    _frame(ax, right - 1.15, 1.55, right + 1.75, output - 0.25, "", "#888888", 1.1)
    ax.text(right + 1.87, (1.55 + output - 0.25) / 2, r"$\times L$", ha="left", va="center", fontsize=12)
    meeting = 4.35  # the height of the cross-attention
    _path(
        ax, (left, memory - 0.25), (left, memory), (2.5, memory), (2.5, meeting), (right - 0.85, meeting), colour=GREEN
    )
    ax.text(2.62, meeting + 0.14, "$K, V$", color=GREEN, ha="left", va="bottom", fontsize=11)
    ax.text(right - 0.12, meeting - 0.8, "$Q$", color=GREEN, ha="right", va="center", fontsize=11)
    _path(ax, (right, output - 0.25), (right, output + 0.1))
    _box(ax, right, output + 0.35, "$W$, softmax", "white", width=1.7)
    _path(ax, (right, output + 0.6), (right, output + 1.0))
    ax.text(right, output + 1.2, r"$p(y_{n+1} \mid y_{\leq n}, X)$", ha="center", va="center", fontsize=11)
    ax.text(left, memory + 0.35, r"$X_L$", ha="center", va="center", fontsize=12, color=GREEN)
    ax.set(xlim=(left - 2.5, right + 2.5), ylim=(-0.35, output + 1.45), aspect="equal")
    ax.axis("off")
    return fig


def _tower(ax: Axes, x: float, parts: list[tuple[str, str]], tokens: str, side: int) -> float:
    """One column of boxes with its residual paths on the given side; returns the height of its top."""
    ax.text(x, -0.1, tokens, ha="center", va="center", fontsize=12)
    _path(ax, (x, 0.1), (x, 0.68))
    _plus(ax, x, 0.85)
    ax.text(x + side * 0.75, 0.85, "PE", ha="center", va="center", fontsize=11)
    _path(ax, (x + side * 0.5, 0.85), (x + side * 0.2, 0.85))
    y = 1.02
    for name, colour in parts:
        middle = y + 1.1
        _path(ax, (x, y), (x, middle - 0.25))
        _box(ax, x, middle, name, colour, width=1.7)
        _path(ax, (x, middle + 0.25), (x, middle + 0.55))
        _box(ax, x, middle + 0.78, r"$+$, LN", YELLOW, width=1.7, height=0.46)
        turn = y + 0.62
        edge = x + side * 1.4
        _path(ax, (x, turn), (edge, turn), (edge, middle + 0.78), (x + side * 0.85, middle + 0.78))
        y = middle + 1.01
    return y + 0.5
