"""What the figures of notebook 11 draw: costs, the grid, seeds in pairs, the front, a budget."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vitcourse import figures, results, widgets
from vitcourse.figures.style import BROWN

WORK = {(16, 24, 4): 1e5, (8, 24, 4): 5e5, (8, 48, 4): 2e6, (8, 48, 8): 4e6}
SEEDS = {(16, 24, 4): [0.7, 0.8], (8, 24, 4): [0.6, 0.7], (8, 48, 4): [0.8, 0.9], (8, 48, 8): [0.8, 0.8]}
FRONT = {(16, 24, 4), (8, 48, 4)}


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_time_has_a_line_for_each_patch_size_and_names_other_depths():
    (ax,) = figures.cost_against_time(WORK, dict.fromkeys(WORK, 3.0)).axes
    lines = [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == "-"]
    assert lines == [[5e5, 2e6], [1e5]]
    assert sorted(texts(ax)) == ["$L=8$", "$P=16$", "$P=8$"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_grids_show_numbers_and_leave_what_is_missing_white():
    cost = {(P, D): 1e6 * P * D for P in (2, 4) for D in (24, 48)}
    left, right = figures.grid_maps({(2, 24): 0.5, (4, 48): 0.75}, cost).axes
    assert texts(left) == ["50.0", "75.0"]
    assert texts(right) == ["48", "96", "96", "192"]
    shown = np.ma.filled(left.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown, [[50, np.nan], [np.nan, 75]])
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["2", "4"]


def test_the_grid_can_be_empty():
    left, _ = figures.grid_maps({}, {(2, 24): 1e6, (4, 24): 2e6}).axes
    assert texts(left) == []


def test_pairs_are_joined_and_the_colour_says_who_is_better():
    axes = figures.paired_seeds({"P=8 | P=4": [(0.8, 0.7), (0.6, 0.7)], "L=8 | L=4": [(0.5, 0.5)]}).axes
    assert [len(ax.lines) for ax in axes] == [2, 1]
    assert list(axes[0].lines[0].get_ydata()) == [80, 70]
    assert axes[0].lines[0].get_color() != axes[0].lines[1].get_color()
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["$P=8$", "$P=4$"]


def test_the_front_is_dark_and_stepped_and_every_point_has_its_name():
    (ax,) = figures.pareto(WORK, SEEDS, FRONT).axes
    assert sorted(texts(ax)) == ["$L=8$", "16, 24", "8, 24", "8, 48"]
    (steps,) = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
    np.testing.assert_allclose(steps.get_xydata(), [[1e5, 75], [2e6, 85]])
    pale = {line.get_color() for line in ax.lines if list(line.get_xdata()) in ([5e5], [4e6])}
    assert pale == {"#8c8c8c"}


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (5e4, "cdot 10^6$"),
        (1e6, "$P=16$, $D=24$, $L=4$,  acc / %: 75.0"),
        (9e6, "$P=8$, $D=48$, $L=4$,  acc / %: 85.0"),
    ],
)
def test_a_budget_rings_the_best_that_it_can_pay(budget, said):
    (ax,) = figures.pareto(WORK, SEEDS, FRONT, budget=budget).axes
    assert ax.get_title(loc="left").endswith(said)
    rings = [line for line in ax.lines if line.get_markersize() == 17]
    assert len(rings) == (budget > 1e5)


def test_other_accuracies_are_reported_behind_an_arrow():
    (ax,) = figures.pareto(WORK, SEEDS, FRONT, 1e6, reported={(16, 24, 4): [0.6, 0.7]}).axes
    assert ax.get_title(loc="left").endswith("acc / %: 75.0 $\\to$ 65.0")


def test_names_stay_apart():
    near = {(16, D, 4): 1e6 * (1 + D / 1000) for D in (1, 2, 3)}
    fig = figures.pareto(near, {point: [0.5, 0.5] for point in near}, set())
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_nothing_stays_open():
    plt.close("all")
    figures.pareto(WORK, SEEDS, FRONT)
    figures.paired_seeds({"a | b": [(0.1, 0.2)]})
    assert plt.get_fignums() == []


def test_the_explorer_moves_the_budget(monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets.explorers, "display", drawn.append)
    explorer = widgets.explorer(lambda b: figures.pareto(WORK, SEEDS, FRONT, budget=10**b), b=(5, 7, 5.5, 0.1))
    explorer.update()
    explorer.children[0].value = 6.5
    titles = [fig.axes[0].get_title(loc="left") for fig in drawn]
    assert ["$P=16$" in title for title in titles][-2:] == [True, False]


def test_names_stay_off_the_ring_wherever_it_is():
    points = {(16, D, 4): 1e6 * D for D in (1, 2, 4)}
    for ringed in points:
        fig = figures.pareto(points, {p: [p[1] / 8, p[1] / 8] for p in points}, set(), budget=points[ringed])
        fig.canvas.draw()
        (ax,) = fig.axes
        (ring,) = [line for line in ax.lines if line.get_markersize() == 17]
        assert list(ring.get_xdata()) == [points[ringed]]
        x, y = ax.transData.transform(ring.get_xydata()[0])
        names = [text.get_window_extent() for text in ax.texts]
        assert not any(box.x0 < x + 11 and x - 11 < box.x1 and box.y0 < y + 11 and y - 11 < box.y1 for box in names)


def test_names_stay_where_they_are_whatever_the_budget_is_and_cover_its_line():
    plain, *others = (figures.pareto(WORK, SEEDS, FRONT, budget=budget).axes[0] for budget in (None, 5e4, 1e6, 9e6))
    for ax in others:
        assert [text.get_position() for text in ax.texts] == [text.get_position() for text in plain.texts]
        (line,) = [line for line in ax.lines if line.get_color() == BROWN and line.get_markersize() != 17]
        assert all(text.get_bbox_patch().get_alpha() is None for text in ax.texts)
        assert all(text.get_bbox_patch().get_facecolor() == (1, 1, 1, 1) for text in ax.texts)
        assert line.get_zorder() < min(text.get_zorder() for text in ax.texts)


def test_an_unusual_depth_is_named_beside_its_own_mark():
    """In the course's own table: the range of its seeds is nearer to the name than any other's."""
    work, seeds = {}, {}
    for row in results.read("design_study"):
        point = (row["patch_size"], row["hidden_size"], row["num_hidden_layers"])
        work[point] = row["multiply_adds"]
        if row["epochs"] == 10:
            seeds.setdefault(point, []).append(row["validation_accuracy"])
    (ax,) = figures.pareto(work, seeds, set()).axes
    ax.figure.canvas.draw()
    named = {}
    for text in ax.texts:
        if text.get_text().startswith("$L="):
            box = text.get_window_extent()
            away = {}
            for point, values in seeds.items():
                x, low = ax.transData.transform((work[point], 100 * min(values)))
                _, high = ax.transData.transform((work[point], 100 * max(values)))
                away[point] = np.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - high, low - box.y1, 0))
            named[text.get_text()] = min(away, key=away.get)
    assert named == {f"$L={L}$": (4, 48, L) for L in (2, 8, 12)}
