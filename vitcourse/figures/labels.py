"""Names of lines, written beside their right ends rather than in a legend, and kept apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from vitcourse.figures.style import COLOURS


def label_ends(ax: Axes, ends: Sequence[tuple[float, float, str, str]], least: float = 12) -> None:
    """Write each label beside the end of its line; labels that would overlap are spread around their mean height.

    Args:
        ends: x, y, label and colour for each line. The scales and limits of `ax` must be set before.
        least: points from one label's middle to the next one's.
    """
    height = ax.get_position().height * ax.figure.get_figheight() * 72
    ax.autoscale_view()
    to_axes = ax.transScale + ax.transLimits
    spots = [to_axes.transform((x, y)) for x, y, _, _ in ends]
    step = least / height
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
        spot = (spots[index][0], heights[index])
        beside = {"xycoords": "axes fraction", "xytext": (8, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(label, spot, color=colour, fontsize=10, annotation_clip=False, **beside)


def name_curves(
    ax: Axes, curves: Mapping[str, Mapping[float, Sequence[float]]], least: float, offset: float = 8
) -> None:
    """Write the names of curves that end at 1 or below at the right of the longest, none of them above 1.

    Args:
        curves: by name, then by x, several values; one without an x gets no name.
        least: from one name's middle to the next one's, on the y axis.
        offset: from the end of the longest curve, in points.
    """
    ends = {name: np.mean([*points.values()][-1]) for name, points in curves.items() if points}
    last = max((x for points in curves.values() for x in points), default=0)
    heights = _apart([*ends.values()], least)
    over = max(0.0, max(heights, default=0) - 1.0)
    beside = {"xytext": (offset, 0), "textcoords": "offset points", "va": "center"}
    for name, height in zip(ends, heights, strict=True):
        colour = COLOURS[list(curves).index(name) % 5]
        ax.annotate(name, (last, height - over), color=colour, fontsize=11, annotation_clip=False, **beside)


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """The same heights, each moved up until it is at least `least` above the next lower one."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    for below, above in itertools.pairwise(order):
        moved[above] = max(moved[above], moved[below] + least)
    return moved


def _top(group: tuple[float, list[int]], step: float) -> float:
    middle, members = group
    return middle + (len(members) + 1) * step / 2
