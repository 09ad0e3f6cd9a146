"""A design study: two costs beside each other, the grid as maps, and which points of it are worth their cost.

Longer than 150 lines because the names of the points must find room beside each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import mean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitcourse.figures.style import BLUE, BROWN, GREEN, GREY, INK, ORANGE, PURPLE, subplots

# A patch size has a colour and a mark.
PATCH_MARKS = {2: (PURPLE, "D"), 4: (GREEN, "^"), 8: (ORANGE, "s"), 16: (BLUE, "o")}
DOMINATED = "#8c8c8c"

Point = tuple[int, int, int]  # patch size, width, layers


def cost_against_time(multiply_adds: Mapping[Point, int], milliseconds: Mapping[Point, float]) -> Figure:
    """Milliseconds of an update against multiply-adds, on logarithmic axes: a line for each patch size.

    Args:
        multiply_adds: by (patch size, width, layers); drawn are the points that `milliseconds` has too.
    """
    fig, ax = subplots(figsize=(6.4, 3.8))
    points = sorted(set(multiply_adds) & set(milliseconds), key=lambda point: multiply_adds[point])
    widest = [point for point in points if point[2] == _usual_depth(points)]
    for patch in sorted({point[0] for point in points}):
        colour, mark = PATCH_MARKS.get(patch, (INK, "o"))
        line = [point for point in widest if point[0] == patch]
        ax.plot([multiply_adds[p] for p in line], [milliseconds[p] for p in line], "-", color=colour, lw=1.2)
        for point in points:
            if point[0] == patch:
                ax.plot(multiply_adds[point], milliseconds[point], mark, color=colour, markersize=7)
        if line:
            at = (multiply_adds[line[0]], milliseconds[line[0]])
            ax.annotate(f"$P={patch}$", at, (0, 9), textcoords="offset points", ha="center", color=colour, fontsize=11)
    for point in set(points) - set(widest):
        at = (multiply_adds[point], milliseconds[point])
        below = point[2] < _usual_depth(points)
        place = {"xytext": (6, -11) if below else (-6, 4), "ha": "left" if below else "right"}
        ax.annotate(f"$L={point[2]}$", at, textcoords="offset points", color=GREY, fontsize=9, **place)
    ax.set(xscale="log", yscale="log", xlabel=r"$\Omega$", ylabel="ms")
    ax.margins(0.09)
    return fig


def grid_maps(accuracy: Mapping[tuple[int, int], float], cost: Mapping[tuple[int, int], float]) -> Figure:
    """Two heat maps over patch size (rows) and width (columns): accuracy in per cent, and multiply-adds in millions.

    Args:
        accuracy: by (patch size, width); a point that isn't there stays white.
        cost: in multiply-adds, shown on a logarithmic scale; it says which rows and columns there are.
    """
    rows, columns = (sorted({point[axis] for point in cost}) for axis in (0, 1))
    fig, axes = subplots(1, 2, figsize=(7, 3))
    maps = ((accuracy, "viridis", 100.0, "{:.1f}", "acc / %"), (cost, "Greys", 1e-6, "{:.3g}", r"$\Omega\ /\ 10^6$"))
    for ax, (values, colours, factor, form, title) in zip(axes, maps, strict=True):
        table = np.array([[factor * values.get((P, D), np.nan) for D in columns] for P in rows])
        shades = np.log(table) if values is cost else table
        low, high = (np.nanmin(shades), np.nanmax(shades)) if np.isfinite(shades).any() else (0, 1)
        ax.imshow(shades, cmap=colours, vmin=low, vmax=high + 1e-9, aspect="auto")
        for y, x in np.ndindex(table.shape):
            if np.isfinite(table[y, x]):
                dark = (shades[y, x] < (low + high) / 2) == (values is accuracy)
                ax.text(x, y, form.format(table[y, x]), ha="center", va="center", color="white" if dark else "black")
        ax.set_xticks(range(len(columns)), [str(D) for D in columns])
        ax.set_yticks(range(len(rows)), [str(P) for P in rows])
        ax.set(title=title, xlabel="$D$", ylabel="$P$")
        ax.grid(visible=False)
    return fig


def pareto(
    cost: Mapping[Point, float],
    accuracies: Mapping[Point, Sequence[float]],
    front: Collection[Point],
    budget: float | None = None,
    reported: Mapping[Point, Sequence[float]] | None = None,
) -> Figure:
    """Accuracy in per cent against cost: the mean of the seeds and their range; the front dark, joined by steps.

    Args:
        cost: multiply-adds by point, (patch size, width, layers); a point of unusual depth is named by its layers.
        accuracies: by point, one for each seed.
        front: the points that no other beats in both.
        budget: a vertical line; the best point at its left gets a ring, and its mean stands in the title.
        reported: other accuracies of the same points; the ringed point's mean stands behind an arrow.
    """
    ranges = {point: (100 * min(values), 100 * max(values)) for point, values in accuracies.items()}
    means = {point: 100 * mean(values) for point, values in accuracies.items()}
    ordered = sorted(front, key=lambda point: cost[point])
    depth = _usual_depth(list(accuracies))
    fig, ax = subplots(figsize=(7, 4.6))
    for point in means:
        colour, mark = PATCH_MARKS.get(point[0], (INK, "o"))
        chosen = point in front
        colour, fill = (colour, "full") if chosen else (DOMINATED, "none")
        ax.vlines(cost[point], *ranges[point], color=colour, lw=1.5, zorder=2 + chosen)
        ax.plot(cost[point], means[point], mark, color=colour, ms=8, fillstyle=fill, zorder=3 + chosen)
    ax.step([cost[p] for p in ordered], [means[p] for p in ordered], where="post", color=INK, lw=1, zorder=1)
    ax.set(xscale="log", xlabel=r"$\Omega$", ylabel="acc / %")
    ax.set_xlim(min(cost[p] for p in means) / 3, max(cost[p] for p in means) * 2.6)
    ax.margins(y=0.1)
    names = {p: f"{p[0]}, {p[1]}" if p[2] == depth else f"$L={p[2]}$" for p in means}
    if budget is not None:
        _ring_best(ax, cost, means, budget, reported)
    lines = [(cost[p], *ranges[p]) for p in means]
    labelled = [*ordered, *sorted(set(means) - set(ordered), key=lambda p: (p[2] != depth, p))]
    # Some budget rings them: names keep clear of the rings, and so stay where they are whatever the budget is.
    best = {(cost[p], means[p]) for p in means if not any(cost[q] <= cost[p] and means[q] > means[p] for q in means)}
    _label(ax, {(cost[p], means[p]): names[p] for p in labelled}, len(ordered), lines, best)
    return fig


def paired_seeds(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """A panel for each comparison: two columns of dots, one line for each seed that joins its two runs; in per cent.

    Args:
        pairs: by title, `a | b`, one (accuracy of a, accuracy of b) for each seed.
    """
    fig, axes = subplots(1, len(pairs), figsize=(7, 3), sharey=True, squeeze=False)
    for ax, (title, seeds) in zip(axes[0], pairs.items(), strict=True):
        for a, b in seeds:
            colour, line = (BLUE, "-o") if a >= b else (ORANGE, "--o")
            ax.plot([0, 1], [100 * a, 100 * b], line, color=colour, lw=1.3, markersize=5)
        ax.set_xticks([0, 1], [f"${part.strip()}$" for part in title.split("|")])
        ax.set_xlim(-0.4, 1.4)
    axes[0, 0].set_ylabel("acc / %")
    return fig


def _label(
    ax: Axes,
    names: Mapping[tuple[float, float], str],
    dark: int,
    lines: Sequence[tuple[float, float, float]],
    ringed: Collection[tuple[float, float]],
) -> None:
    """Each point's name beside it, at the nearest place where it covers no other name, no mark and no upright line.

    Args:
        dark: how many of the names, the first ones, are dark.
        lines: (x, lowest y, highest y) of each.
        ringed: the marks that have a ring around them, or may get one.
    """
    ax.autoscale_view()
    place = ax.transData.transform
    sizes = {at: 14 if at in ringed else 6 for at in names}
    taken = [
        (x - size, y - size, x + size, y + size) for (x, y), size in zip(map(place, names), sizes.values(), strict=True)
    ]
    bars = [(*place((x, low)), place((x, high))[1]) for x, low, high in lines]
    taken += [(x - 2, low, x + 2, high) for x, low, high in bars]
    pixel = 72 / ax.figure.dpi
    for index, (at, name) in enumerate(names.items()):
        x, y = place(at)
        ends = [(low - y, high - y) for bar, low, high in bars if bar == x and low <= y <= high]
        # Paper behind the name: a budget's line may pass there.
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
        colour = INK if index < dark else GREY
        text = ax.annotate(name, at, (0, 0), textcoords="offset points", color=colour, fontsize=9, zorder=5, bbox=paper)
        wide = text.get_window_extent().width + 2
        boxes = [(x + dx, y + dy, x + dx + wide, y + dy + 11) for dx, dy in _shifts(wide, sizes[at], ends)]
        free = [box for box in boxes if not any(_overlap(box, other) for other in taken)]
        left, low, right, _ = (free or boxes)[0]
        taken.append((left - 4, low - 4, right + 4, low + 15))
        text.set_position(((left - x) * pixel, (low - y) * pixel))


def _shifts(wide: float, size: float, ends: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where a name may stand, in pixels from its mark to its lower left corner: the nearest places first.

    Args:
        wide: how wide the name is; it is 11 high.
        size: half of the mark's width.
        ends: (lowest, highest) of the upright lines through the mark, in pixels from it.
    """
    shifts = []
    for away in (0, 7, 14, 21, 28):
        aside, up, down = size + 3 + away, 5 + away, -15 - away
        shifts += [(-aside - wide, up), (aside, up), (aside, down), (-aside - wide, down)]
        for low, high in ends or [(0.0, 0.0)]:
            above, below = max(high, size) + 2 + away, min(low, -size) - 13 - away
            shifts += [(-wide / 2, below), (-wide / 2, above)]
        shifts += [(aside, -5), (-aside - wide, -5)]
    return shifts


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ring_best(
    ax: Axes,
    cost: Mapping[Point, float],
    means: Mapping[Point, float],
    budget: float,
    reported: Mapping[Point, Sequence[float]] | None,
) -> None:
    """The budget's line, the ring and the title; `means` are in per cent."""
    ax.axvline(budget, color=BROWN, lw=1.5, zorder=0)
    affordable = [point for point in means if cost[point] <= budget]
    title = f"$\\Omega \\leq$ {budget / 1e6:.3g} $\\cdot 10^6$"
    if affordable:
        best = max(affordable, key=lambda point: means[point])
        ring = {"markersize": 17, "markerfacecolor": "none", "markeredgecolor": BROWN, "mew": 2.5}
        ax.plot(cost[best], means[best], "o", **ring)
        name = ", ".join(f"${letter}={value}$" for letter, value in zip("PDL", best, strict=True))
        title += f":  {name},  acc / %: {means[best]:.1f}"
        if reported:
            title += f" $\\to$ {100 * mean(reported[best]):.1f}"
    ax.set_title(title, loc="left")


def _usual_depth(points: Sequence[Point]) -> int | None:
    """The depth that most points have."""
    depths = [layers for _, _, layers in points]
    return max(sorted(set(depths)), key=depths.count, default=None)
