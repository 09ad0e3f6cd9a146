"""A box with words in it, of which drawings of models are made."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from vitcourse.figures.style import INK, PALE


def box(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    colour: str,
    width: float = 1.5,
    height: float = 0.5,
    rounding: float = 0.12,
    fontsize: float = 11,
) -> None:
    """A box around (x, y) with a border of one colour, pale inside; "white" has a border of ink.

    Args:
        width, height, rounding: in units of the axes; `rounding` is the radius of the corners.
        fontsize: in points.
    """
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle=f"round,pad=0,rounding_size={rounding}",
        facecolor=PALE.get(colour, "white"),
        edgecolor=INK if colour == "white" else colour,
        lw=1.2,
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", fontsize=fontsize)
