"""The encoder block and the whole Transformer as boxes and arrows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from vitcourse.figures.boxes import box
from vitcourse.figures.style import BLUE, BROWN, GREEN, GREY, INK, ORANGE, subplots

PRE_NORM, POST_NORM = r"$x + f(\mathrm{LN}(x))$", r"$\mathrm{LN}(x + f(x))$"


def _plus(ax: Axes, x: float, y: float) -> None:
    ax.plot(x, y, "o", color=INK, ms=13, mfc="white", mec=INK, mew=1.2, zorder=3)
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
                box(ax, side, first, "LN", BROWN)
                _path(ax, (side, first + 0.25), (side, second - 0.25))
                box(ax, side, second, part, colour)
                _path(ax, (side, second + 0.25), (side, plus), (0.2, plus))
            else:
                _path(ax, (0, y), (0, plus - 0.17))
                _path(ax, (0, turn), (side, turn), (side, first - 0.25))
                box(ax, side, first, part, colour)
                _path(ax, (side, first + 0.25), (side, plus), (0.2, plus))
            _plus(ax, 0, plus)
            y = plus + 0.17
            if not pre:
                _path(ax, (0, y), (0, y + 0.25))
                box(ax, 0, y + 0.5, "LN", BROWN, width=1.1)
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
    _frame(ax, right - 1.15, 1.55, right + 1.75, output - 0.25, "", GREY, 1.1)
    ax.text(right + 1.87, (1.55 + output - 0.25) / 2, r"$\times L$", ha="left", va="center", fontsize=12)
    meeting = 4.35  # the height of the cross-attention
    _path(
        ax, (left, memory - 0.25), (left, memory), (2.5, memory), (2.5, meeting), (right - 0.85, meeting), colour=GREEN
    )
    ax.text(2.62, meeting + 0.14, "$K, V$", color=GREEN, ha="left", va="bottom", fontsize=11)
    ax.text(right - 0.12, meeting - 0.8, "$Q$", color=GREEN, ha="right", va="center", fontsize=11)
    _path(ax, (right, output - 0.25), (right, output + 0.1))
    box(ax, right, output + 0.35, "$W$, softmax", "white", width=1.7)
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
        box(ax, x, middle, name, colour, width=1.7)
        _path(ax, (x, middle + 0.25), (x, middle + 0.55))
        box(ax, x, middle + 0.78, r"$+$, LN", BROWN, width=1.7, height=0.46)
        turn = y + 0.62
        edge = x + side * 1.4
        _path(ax, (x, turn), (edge, turn), (edge, middle + 0.78), (x + side * 0.85, middle + 0.78))
        y = middle + 1.01
    return y + 0.5
