"""What the figures of notebook 10 draw."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from vitcourse import figures


def test_matrices_on_one_scale_around_zero():
    fig = figures.linear_maps({"a": torch.tensor([[1.0, -3.0]]), "b": torch.eye(3)})
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    assert {ax.images[0].get_clim() for ax in fig.axes} == {(-3, 3)}
    np.testing.assert_array_equal(fig.axes[1].images[0].get_array(), np.eye(3))


def test_a_frame_around_what_can_be_seen():
    field = torch.zeros(6, 8)
    field[1:4, 2] = torch.tensor([1.0, 0.25, 4.0])
    fig = figures.receptive_fields({"CNN": {"0": field, "1": torch.ones(6, 8)}, "ViT": {"0": field}})
    first = fig.axes[0]
    (frame,) = first.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1.5, 0.5), 1, 3)
    assert first.get_title() == "0: $3 \\times 1$"
    assert first.images[0].get_array()[1:4, 2].tolist() == pytest.approx([0.5, 0.25, 1])
    assert [ax.get_visible() for ax in fig.axes] == [True, True, True, False]


def test_a_line_through_the_means_of_the_draws():
    fig = figures.shift_changes({"a": [[0.0, 0.2], [0.0, 0.4]], "b": [[0.0, 0.1]]})
    assert list(fig.axes[0].lines[0].get_ydata()) == pytest.approx([0, 0.3])
    assert len(fig.axes[0].lines) == 3
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]


def test_shifted_features_know_a_shift_that_fits():
    pixels = torch.randint(0, 256, (3, 16, 24), dtype=torch.uint8)
    models = {"mean": lambda x: torch.nn.functional.avg_pool2d(x, 4)}
    fits = figures.shifted_features(pixels, models, 4, 4, 8).axes
    np.testing.assert_allclose(fits[1].images[0].get_array(), np.zeros((4, 6)), atol=1e-5)
    np.testing.assert_array_equal(fits[0].images[0].get_array(), pixels.roll((4, 8), (1, 2)).permute(1, 2, 0))
    off = figures.shifted_features(pixels, models, 4, 0, 1).axes[1].images[0].get_array()
    maps = models["mean"](torch.stack([pixels, pixels.roll(1, 2)]).float() / 255 - 0.5)
    places = maps[0].flatten(1)
    apart = torch.cdist(places.T, places.T).mean()
    np.testing.assert_allclose(off, (maps[1] - maps[0]).norm(dim=0) / apart, rtol=1e-4)


def test_accuracies_by_panel():
    panels = {
        "p": {"ViT": {100: [0.1, 0.3], 3000: [0.6]}, "CNN": {100: [0.5], 3000: [0.6]}},
        "q": {"ViT": {100: [0.2]}, "CNN": {}},
    }
    fig = figures.accuracies(panels, {"p": "$n$", "q": "$g$"}, {"p": 0.25}, logarithmic=True)
    first, second = fig.axes
    assert list(first.lines[0].get_ydata()) == pytest.approx([0.2, 0.6])
    assert list(first.lines[1].get_ydata()) == [0.1, 0.3]
    assert [text.get_text() for text in first.get_xticklabels()] == ["100", "3k"]
    assert first.lines[-1].get_ydata()[0] == 0.25
    assert (first.get_xlabel(), second.get_xlabel()) == ("$n$", "$g$")
    assert [text.get_text() for text in second.texts] == ["ViT"]


def test_names_stand_apart():
    ends = {name: {1: [height]} for name, height in (("a", 0.97), ("b", 0.98), ("c", 0.97))}
    (ax,) = figures.accuracies({"p": ends}, {"p": "x"}).axes
    heights = sorted(text.xy[1] for text in ax.texts)
    assert min(np.diff(heights)) >= 0.089
    assert heights[-1] <= 1


def test_nothing_stays_open():
    plt.close("all")
    figures.linear_maps({"a": torch.eye(2)})
    figures.shift_changes({"a": [[0.0, 0.2]]})
    assert plt.get_fignums() == []
