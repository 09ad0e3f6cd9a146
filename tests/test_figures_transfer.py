"""What the figures of notebook 12 draw, and that their explorer moves them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vitcourse import figures, functional, widgets


def test_positions_on_three_grids():
    positions = torch.randn(1, 1 + 6, 5)
    old, new, reused = figures.resized_positions(positions, (2, 3), 4, 0.6, 0.9).axes[:3]
    assert [ax.images[0].get_array().shape for ax in (old, new, reused)] == [(2, 3), (4, 4), (4, 4)]
    assert [list(ax.lines[0].get_xydata()[0]) for ax in (old, new)] == [[2, 1], [3, 2]]
    resized = functional.resize_positions(positions, (2, 3), (4, 4))[0, 1:]
    expected = torch.nn.functional.cosine_similarity(resized[2 * 4 + 3], resized, dim=-1).reshape(4, 4)
    np.testing.assert_allclose(new.images[0].get_array(), expected, atol=1e-6)
    assert {ax.images[0].get_clim() for ax in (old, new, reused)} == {(-1, 1)}


def test_reading_order_has_no_rows_at_the_end():
    axes = figures.resized_positions(torch.randn(1, 5, 3), (2, 2), 3, 0.0, 0.0).axes
    shown = np.ma.masked_invalid(axes[2].images[0].get_array()).filled(np.nan).ravel()
    assert np.isnan(shown[4:]).all()
    assert not np.isnan(shown[:4]).any()


def test_a_line_through_the_means_and_a_dot_for_each_seed():
    curves = {"a": {4: [0.1, 0.3], 80: [0.5, 0.7]}, "b": {4: [0.2, 0.2], 80: [0.6, 0.6]}}
    (ax,) = figures.transfer_ways(curves).axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([0.2, 0.6])
    assert list(ax.lines[1].get_ydata()) == [0.1, 0.3]
    heights = sorted(text.xy[1] for text in ax.texts)
    assert heights[1] - heights[0] >= 0.06
    assert [text.get_text() for text in ax.get_xticklabels()] == ["4", "80"]


def test_names_at_the_upper_edge_are_drawn():
    curves = {name: {4: [height]} for name, height in (("a", 0.97), ("b", 0.98), ("c", 0.99))}
    (ax,) = figures.transfer_ways(curves).axes
    heights = sorted(text.xy[1] for text in ax.texts)
    assert min(np.diff(heights)) >= 0.064
    assert heights[-1] <= 1


def test_levels():
    fig = figures.transfer_levels({"20": {"x": [0.5, 0.7]}, "82": {"x": [0.2, 0.4]}})
    assert [ax.get_title() for ax in fig.axes] == ["20", "82"]
    assert list(fig.axes[0].lines[0].get_xdata()) == [0.5, 0.7]
    assert fig.axes[1].lines[1].get_xdata()[0] == pytest.approx(0.3)


def test_counts_are_sorted():
    (ax,) = figures.class_counts({0: (3, 1), 1: (9, 9), 2: (5, 0)}).axes
    assert [bar.get_height() for bar in ax.patches] == [9, 5, 3, 9, 0, 1]


def test_nothing_stays_open():
    plt.close("all")
    figures.class_counts({0: (3, 1)})
    figures.transfer_levels({"20": {"x": [0.5]}})
    assert plt.get_fignums() == []


def test_the_explorer_moves_side_and_patch(monkeypatch):
    calls = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "resized_positions", lambda *values: calls.append(values[1:]))
    explorer = widgets.resized_positions(torch.randn(1, 65, 4), (8, 8))
    side, row, column = explorer.children[:3]
    explorer.update()
    side.value, row.value, column.value = 16, 2, 6
    assert calls[-1] == ((8, 8), 16, 2.5 / 8, 6.5 / 8)
