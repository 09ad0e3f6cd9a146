"""The figures of notebook 09 show the numbers that they are given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vitcourse import VisionTransformer, ViTConfig, data, figures, introspect, widgets

PIXELS = torch.zeros(3, 8, 8, dtype=torch.uint8)
MAPS = torch.rand(2, 3, 4, 4)  # 2 layers, 3 heads


def shown(ax):
    return torch.as_tensor(np.asarray(ax.images[-1].get_array()))


def test_head_maps_has_a_row_for_each_layer_and_says_each_largest_weight():
    fig = figures.head_maps(PIXELS, MAPS)
    assert len(fig.axes) == 2 * 4
    last = fig.axes[-1]
    torch.testing.assert_close(shown(last), MAPS[1, 2])
    assert last.images[0].get_clim() == (0, pytest.approx(MAPS[1, 2].max().item()))
    assert last.get_title() == f"$\\ell=2$, $h=3$: {MAPS[1, 2].max():.2f}"


def test_head_map_counts_layers_and_heads_from_one():
    ax = figures.head_map(PIXELS, MAPS, layer=2, head=1).axes[1]
    torch.testing.assert_close(shown(ax), MAPS[1, 0])
    assert ax.get_title() == r"$\ell = 2$, $h = 1$"


@pytest.mark.parametrize("mask", [None, torch.eye(8, dtype=torch.bool)])
def test_maps_beside_each_other_run_from_least_to_largest_and_carry_their_notes(mask):
    rows = {"a": {"A": MAPS[0, 0], "R": MAPS[0, 1]}, "b": {"A": MAPS[1, 0], "R": MAPS[1, 1]}}
    fig = figures.maps_beside(PIXELS, rows, mask, ["1", "2", "3", "4"])
    fig.canvas.draw()
    panels = [ax for ax in fig.axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in panels] == ["1", "2", "3", "4"]
    assert [ax.get_title() for ax in panels] == ["A", "R", "", ""]
    low, high = panels[3].images[0].get_clim()
    assert (low, high) == pytest.approx((MAPS[1, 1].min().item(), MAPS[1, 1].max().item()))
    assert bool(panels[0].collections) == (mask is not None)


def test_maps_with_too_few_notes_are_refused():
    rows = {"a": {"A": MAPS[0, 0], "R": MAPS[0, 1]}}
    with pytest.raises(ValueError, match="notes must hold one for each of 2 maps, got 1"):
        figures.maps_beside(PIXELS, rows, notes=["1"])


def test_distances_draw_every_head_every_seed_and_the_uniform_one():
    trained, random = torch.rand(4, 3), torch.rand(2, 4, 3) + 5
    (ax,) = figures.distances_by_depth({"m": (trained, random)}, uniform=2.5).axes
    dots = torch.tensor(np.array([line.get_ydata() for line in ax.lines if line.get_marker() == "o"]))
    torch.testing.assert_close(dots, trained.T.to(dots))
    assert sum(line.get_marker() == "x" for line in ax.lines) == 2 * 3
    assert [list(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "--"] == [[2.5, 2.5]]
    assert ax.get_ylim()[0] < trained.min()
    assert ax.get_ylim()[1] > random.max()


def test_a_panel_with_other_distances_is_not_cut_off():
    far = torch.full((2, 1), 30.0)
    models = {"a": (torch.ones(2, 1), torch.ones(1, 2, 1)), "b": (far, far[None])}
    axes = figures.distances_by_depth(models, uniform=2.0).axes
    assert all(ax.get_ylim()[1] > 30 for ax in axes)


def test_filters_are_grey_where_they_are_zero_and_scaled_each_by_itself():
    kernels = torch.tensor([0.0, 2.0, -2.0, 1.0]).reshape(1, 1, 2, 2)
    fig = figures.filters({"a": kernels, "b": kernels / 100}, columns=3)
    assert len(fig.axes) == 6
    for ax in (fig.axes[0], fig.axes[3]):
        assert shown(ax).flatten().tolist() == pytest.approx([0.5, 1, 0, 0.75])
    assert not fig.axes[1].images


def test_position_grids_show_each_place_at_its_place():
    similarity = torch.rand(2, 3, 2, 3)
    ax = figures.position_grids({"p": similarity}).axes[0]
    sheet = shown(ax)
    assert sheet.shape == (2 * 3 - 1, 3 * 4 - 1)
    torch.testing.assert_close(sheet[3:5, 4:7], similarity[1, 1])
    assert ax.images[0].get_clim() == (-1, 1)


def test_marks_stand_at_their_values():
    table = [
        {"pair": 0, "weights": "trained", "map": "a", "iou": 0.7},
        {"pair": 0, "weights": "random", "map": "a", "iou": 0.2},
        {"pair": 0, "weights": "none", "map": "b", "iou": 0.4},
        {"pair": 0, "weights": "none", "map": "left out", "iou": 0.9},
    ]
    (ax,) = figures.map_marks(table, {"a": "$A$", "b": "$B$"}, {"iou": "IoU"}).axes
    drawn = {line.get_marker(): line.get_xdata()[0] for line in ax.lines}
    assert drawn == {"o": 0.7, "x": 0.2, "D": 0.4}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["$A$", "$B$"]


def test_deletion_curves_start_whole_and_end_empty():
    curves = {"$R$": torch.tensor([1.0, 0.5, 0.1]), "?": torch.tensor([1.0, 0.9, 0.1])}
    (ax,) = figures.deletion_curves(curves).axes
    assert [list(line.get_xdata()) for line in ax.lines] == [[0, 0.5, 1]] * 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(curves)
    six = {f"{n}": torch.tensor([1.0, 0.1]) for n in range(6)}
    assert len(figures.deletion_curves(six).axes[0].lines) == 6


def test_the_explorer_moves_through_layers_and_heads(monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "head_map", lambda pixels, maps, *rest: drawn.append((maps, rest)))
    model = VisionTransformer(ViTConfig(num_classes=8, num_hidden_layers=2)).eval()
    images = data.load("scenes", split="test", count=3)
    explorer = widgets.head_map(model, images, index=1)
    image, layer, head = explorer.children[:3]
    explorer.update()
    layer.value, head.value, image.value = 2, 4, 2
    with torch.no_grad(), introspect.record(model) as seen:
        model(images.inputs())
    maps, rest = drawn[-1]
    assert rest == (2, 4)
    torch.testing.assert_close(maps[1, 3], seen.attention[1][2, 3, 0, 1:].unflatten(0, (8, 8)))


def test_nothing_stays_open():
    plt.close("all")
    figures.head_map(PIXELS, MAPS)
    figures.deletion_curves({"a": torch.ones(3)})
    assert plt.get_fignums() == []
