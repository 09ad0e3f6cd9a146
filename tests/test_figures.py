"""Figures show what they are given; explorers redraw when a slider moves."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import VisionTransformer, ViTConfig, data, figures, widgets
from vitcourse.training import Epoch


@pytest.fixture(scope="module")
def images():
    return data.load("fashion-mnist", "test").subset(slice(0, 5))


@pytest.fixture(scope="module")
def model():
    return VisionTransformer(ViTConfig(num_channels=1, num_hidden_layers=2, num_attention_heads=3)).eval()


def test_style_is_packaged_and_white():
    with plt.rc_context():
        figures.use_style()
        assert matplotlib.colors.to_hex(plt.rcParams["figure.facecolor"]) == "#ffffff"


def test_a_grid_shows_each_image_and_title(images):
    fig = figures.image_grid(images.images, list("abcde"), columns=3)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == list("abcde")
    assert (shown[4].images[0].get_array() == images.images[4, 0].numpy()).all()


@pytest.mark.parametrize("count", [4, 6])
def test_a_grid_with_another_number_of_titles_is_refused(images, count):
    with pytest.raises(ValueError, match=f"titles must hold one for each of 5 images, got {count}"):
        figures.image_grid(images.images, ["a"] * count)


def test_right_and_wrong_differ_by_more_than_colour(images):
    guesses = images.labels.clone()
    guesses[1] = (guesses[1] + 1) % 10
    titles = [ax.get_title() for ax in figures.predictions(images, guesses).axes if ax.images]
    assert titles[0].startswith(figures.RIGHT)
    assert titles[1].startswith(figures.WRONG)
    assert images.class_names[images.labels[1]] in titles[1]


def test_patches_are_drawn_apart():
    _, ax = plt.subplots()
    pixels = torch.arange(24, dtype=torch.uint8).reshape(1, 4, 6)
    sheet = figures.patch_grid(pixels, 2, ax).images[0].get_array()
    assert sheet.shape == (5, 8)
    assert (sheet[2] == 128).all()
    assert (sheet[:2, :2] == pixels[0, :2, :2].numpy()).all()
    assert (sheet[3:, 6:] == pixels[0, 2:, 4:].numpy()).all()
    plt.close("all")


def test_inside_shows_the_chosen_head(model, images):
    _, attention = model(images.inputs([2]), return_attention=True)
    drawn = figures.inside(model, images, 2, layer=2, head=3).axes[2].images[1].get_array()
    torch.testing.assert_close(torch.tensor(drawn.data), attention[1][0, 2, 0, 1:].reshape(8, 8).detach())
    drawn = figures.inside(model, images, 2, layer=1, head=0).axes[2].images[1].get_array()
    torch.testing.assert_close(torch.tensor(drawn.data), attention[0][0].mean(0)[0, 1:].reshape(8, 8).detach())


def test_probabilities_and_curves_show_their_numbers():
    _, ax = plt.subplots()
    figures.class_probabilities(torch.tensor([0.2, 0.8]), ["a", "b"], ax, truth=1)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.2, 0.8])
    log = [Epoch(1, 0.1, 2.0, 0.3, 1.5, 0.4, 1.0), Epoch(2, 0.1, 1.0, 0.6, 1.2, 0.5, 1.0)]
    left, right = figures.training_curves(log, classes=10).axes
    assert list(left.lines[0].get_ydata()) == [2.0, 1.0]
    assert list(right.lines[1].get_ydata()) == [0.4, 0.5]
    assert left.lines[2].get_ydata()[0] == pytest.approx(2.302585, rel=1e-5)
    plt.close("all")


def test_figures_leave_nothing_open(model, images):
    plt.close("all")
    figures.inside(model, images)
    figures.image_grid(images.images)
    assert plt.get_fignums() == []


def test_explorer_redraws_with_the_sliders_value(monkeypatch):
    drawn, shown = [], []
    monkeypatch.setattr(widgets.explorers, "display", shown.append)
    explorer = widgets.explorer(lambda a, b: drawn.append((a, b)) or f"figure {a} {b}", a=(1, 4, 2), b=(0, 9, 5))
    explorer.update()
    explorer.children[0].value = 3
    assert drawn[0] == (2, 5)
    assert drawn[-1] == (3, 5)
    assert shown[-1] == "figure 3 5"
    assert [slider.description for slider in explorer.children[:2]] == ["a", "b"]
    assert (explorer.children[0].min, explorer.children[0].max) == (1, 4)


def test_inside_explorer_covers_every_layer_and_head(model, images, monkeypatch):
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    ranges = {child.description: (child.min, child.max) for child in widgets.inside(model, images).children[:3]}
    assert ranges == {"i": (0, 4), "ℓ": (1, 2), "h": (0, 3)}
