"""Attention: who looks at whom, what is fetched, when the softmax saturates, and what it costs.

Longer than 150 lines because the figures of one notebook stand together, two of which share axes and labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.figures.labels import label_ends
from vitcourse.figures.style import BLUE, COLOURS, GREY, INK, ORANGE, subplots


def attention_matrix(
    weights: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    ax: Axes,
    title: str = "",
    values: bool | None = None,
    bar: bool = False,
) -> Axes:
    """A matrix of attention weights, colours from 0 to 1: a row is a query, a column a key.

    Args:
        weights: `(Nq, Nk)`.
        rows, columns: a label for each query and each key; `[""] * N` for none.
        values: write each weight into its cell; by default where there are at most 6 keys.
        bar: a colour bar beside the matrix.
    """
    weights = weights.detach()
    painted = ax.imshow(weights.numpy(), cmap="viridis", vmin=0, vmax=1)
    ax.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > 6 else 0)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0, top=False, bottom=False, labeltop=True, labelbottom=False)
    ax.xaxis.set_label_position("top")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_title(title)
    if values or (values is None and len(columns) <= 6):
        for row, line in enumerate(weights.tolist()):
            for column, weight in enumerate(line):
                colour = "black" if weight > 0.6 else "white"  # viridis is dark below, bright above
                ax.text(column, row, f"{weight:.2f}", ha="center", va="center", color=colour, fontsize=10)
    if bar:
        ax.figure.colorbar(painted, ax=ax, shrink=0.8)
    return ax


def soft_dictionary(query: Tensor, key: Tensor, value: Tensor, names: Sequence[str]) -> Figure:
    """One query among keys in the plane, its weights, and where among the values the fetched mean lies.

    Args:
        query: `(2,)`.
        key, value: `(N, 2)`.
        names: a label for each key.
    """
    weights = (key @ query).softmax(dim=-1)
    output = weights @ value
    fig, (plane, bars, target) = subplots(1, 3, figsize=(8.4, 2.8), width_ratios=[1.1, 0.9, 1])
    reach = max(1.5 * float(key.abs().max()), 1.2 * float(query.abs().max()))
    arrow = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 0}
    for point, name in zip(key.tolist(), names, strict=True):
        plane.annotate("", point, (0, 0), arrowprops=arrow | {"color": BLUE, "lw": 2})
        _outside(plane, point, name)
    plane.annotate("", query.tolist(), (0, 0), arrowprops=arrow | {"color": ORANGE, "lw": 3})
    _outside(plane, query.tolist(), "$q$", ORANGE)
    plane.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title="$q$, $K$")
    bars.barh(list(names), weights.tolist(), color=BLUE)
    bars.invert_yaxis()
    bars.set(xlim=(0, 1.25), xticks=[0, 0.5, 1], title="softmax$(q K^T)$")
    for row, weight in enumerate(weights.tolist()):
        bars.text(weight + 0.03, row, f"{weight:.2f}", va="center", fontsize=10)
    target.fill(*value.T.tolist(), color=BLUE, alpha=0.15)
    centre = value.mean(dim=0)
    for point, name in zip(value, names, strict=True):
        target.plot(*point.tolist(), "o", color=BLUE)
        below = -1.0 if point[1] < centre[1] else 1.0
        _outside(target, point.tolist(), name, away=(0.0, below))
    target.plot(*output.tolist(), "*", color=ORANGE, markersize=15)
    low, high = float(value.min()), float(value.max())
    room = 0.4 * (high - low)
    target.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal", title="$V$, output ★")
    return fig


def _outside(ax: Axes, point: Sequence[float], text: str, colour: str = INK, away: Sequence[float] = ()) -> None:
    """Write `text` beside `point`, on the side that `away` (by default the origin's other side) points to."""
    x, y = away or point
    length = max((x * x + y * y) ** 0.5, 1e-9)
    offset = (9 * x / length, 9 * y / length)
    across = "left" if x > 0.3 * length else "right" if x < -0.3 * length else "center"
    along = "bottom" if y > 0.3 * length else "top" if y < -0.3 * length else "center"
    ax.annotate(text, point, offset, textcoords="offset points", ha=across, va=along, color=colour, fontsize=10)


def saturation(widths: Sequence[int], curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """What the width d_k does to the softmax: a panel for each quantity, a labelled line for each scaling.

    Args:
        widths: the values of d_k.
        curves: quantity -> label of the scaling -> a number for each width. The quantity `$H$` runs from 0 to 1.
    """
    fig, axes = subplots(1, len(curves), figsize=(2.8 * len(curves), 3.0), squeeze=False)
    for ax, (quantity, lines) in zip(axes.flat, curves.items(), strict=True):
        ends = []
        for (label, numbers), marker in zip(lines.items(), cycle("os^v"), strict=False):
            (line,) = ax.plot(widths, numbers, marker=marker, markersize=5)
            ends.append((widths[-1], numbers[-1], label, line.get_color()))
        _powers_of_two(ax, widths)
        ax.set_xticks(widths[::2], widths[::2])
        ax.set(xlabel="$d_k$", title=quantity)
        if quantity == "$H$":
            ax.set_ylim(0, 1.05)
        else:
            ax.set_yscale("log")
        label_ends(ax, ends)
    return fig


def attention_cost(
    lengths: Sequence[int],
    predicted: Mapping[str, Sequence[float]],
    counted: Mapping[str, Sequence[float]],
    timed: Mapping[str, Sequence[float]],
    crossovers: Mapping[str, float],
) -> Figure:
    """Costs against the number of tokens, on log axes: lines predicted, circles counted, crosses timed.

    Args:
        lengths: the values of N.
        predicted, counted, timed: label of a part -> a cost c for each N, over one cost c_0.
        crossovers: label -> the N at which a dotted line stands.
    """
    fig, ax = subplots(figsize=(7, 4))
    ends = []
    for (label, costs), colour in zip(predicted.items(), cycle(COLOURS), strict=False):
        ax.plot(lengths, costs, color=colour)
        ax.plot(lengths, counted[label], "o", color=colour, markersize=9, fillstyle="none")
        ax.plot(lengths, timed[label], "x", color=colour, markersize=7, markeredgewidth=2)
        ends.append((lengths[-1], costs[-1], label, colour))
    _powers_of_two(ax, lengths)
    ax.set_yscale("log")
    for label, length in crossovers.items():
        ax.axvline(length, color=GREY, linestyle=":")
        ax.annotate(label, (length, 1.02), xycoords=("data", "axes fraction"), ha="center", color=GREY)
    ax.set(xlabel="$N$", ylabel="$c / c_0$")
    label_ends(ax, ends)
    return fig


def _powers_of_two(ax: Axes, numbers: Sequence[int]) -> None:
    """A logarithmic x axis with a tick at each of `numbers`."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(numbers, numbers)
    ax.minorticks_off()
    ax.set_xlim(numbers[0] / 1.4, numbers[-1] * 1.2)
