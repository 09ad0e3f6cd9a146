"""Several runs as a line through their means and a dot for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from vitcourse.figures.style import COLOURS, MARKS


def line_and_dots(ax: Axes, points: Mapping[int, Sequence[float]], index: int, markersize: float, alpha: float) -> None:
    """A line through the mean at each x, and a dot for each value.

    Args:
        points: the values at each x; at least one.
        index: of the line in the figure, which gives its colour and mark.
        markersize, alpha: of the dots, in points and from 0 to 1.
    """
    colour, mark = COLOURS[index % 5], MARKS[index % 5]
    ax.plot(list(points), [sum(values) / len(values) for values in points.values()], color=colour)
    for x, values in points.items():
        ax.plot([x] * len(values), values, mark, color=colour, markersize=markersize, alpha=alpha)
