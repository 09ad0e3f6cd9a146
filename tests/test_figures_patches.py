"""The figures of patches show the image, the pixels and the costs that they are given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import ViTConfig, data, figures, widgets

PIXELS = torch.arange(3 * 8 * 16).reshape(3, 8, 16).to(torch.uint8)


def test_cut_images_stand_side_by_side_under_their_titles():
    fig = figures.cut_images({"a": PIXELS, "b": 255 - PIXELS}, 4)
    assert [ax.get_title() for ax in fig.axes] == ["a", "b"]
    drawn = torch.tensor(fig.axes[1].images[0].get_array().data)
    assert drawn.shape == (8 + 1, 16 + 3, 3)  # a grey pixel between two patches
    assert torch.equal(drawn[5:, 5:9], (255 - PIXELS)[:, 4:, 4:8].permute(1, 2, 0))


def test_seen_pixels_run_from_0_to_1_and_borders_close_whole_patches_only():
    field = torch.linspace(0, 0.5, 10 * 13).reshape(10, 13).requires_grad_()
    ax, other, bar = figures.seen_pixels({"a": field, "b": field}, 4).axes
    torch.testing.assert_close(torch.tensor(ax.images[0].get_array().data), field.detach())
    assert ax.images[0].get_clim() == (0, 1)
    assert (ax.get_title(), other.get_title()) == ("a", "b")
    down, across = (lines.get_segments() for lines in ax.collections)
    assert [line[0][0] for line in down] == [-0.5, 3.5, 7.5, 11.5]
    assert [line[0][1] for line in across] == [-0.5, 3.5, 7.5]
    assert down[0][1][1] == 7.5
    assert across[0][1][0] == 11.5
    assert bar.get_ylim() == (0, 1)


def test_patch_costs_cut_the_image_and_draw_each_cost_on_log_axes():
    fig = figures.patch_costs(PIXELS, (1, 2, 4), {"a": [64.0, 16.0, 4.0], "b": [9.0, 3.0, 1.0]}, shown=(1, 4))
    whole, cut, costs = fig.axes
    assert [ax.get_title() for ax in (whole, cut)] == ["$P = 1$, $N = 128$", "$P = 4$, $N = 8$"]
    assert whole.images[0].get_array().shape == (8, 16, 3)
    assert not whole.collections
    assert cut.images[0].get_array().shape == (8, 16, 3)
    down, across = (lines.get_segments() for lines in cut.collections)
    assert [line[0][0] for line in down] == [-0.5, 3.5, 7.5, 11.5, 15.5]
    assert [line[0][1] for line in across] == [-0.5, 3.5, 7.5]
    assert [list(line.get_ydata()) for line in costs.lines] == [[64.0, 16.0, 4.0], [9.0, 3.0, 1.0]]
    assert (costs.get_xscale(), costs.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in costs.texts] == ["a", "b"]
    four = figures.patch_costs(PIXELS, (1, 2), {name: [2.0, 1.0] for name in "abcd"}, shown=(1,)).axes[-1]
    assert len(four.lines) == 4


@pytest.mark.parametrize(("patch_size", "hidden_size"), [(4, 48), (8, 16), (1, 32)])
def test_image_as_sequence_counts_what_the_config_counts(patch_size, hidden_size):
    config = ViTConfig(
        patch_size=patch_size, hidden_size=hidden_size, intermediate_size=4 * hidden_size, image_size=(8, 16)
    )
    cut, bars = figures.image_as_sequence(PIXELS, patch_size, hidden_size).axes
    count, length, parameters, total, attention = (bar.get_width() for bar in bars.patches)
    assert (count, length) == (config.num_patches, config.patch_length)
    assert parameters == (config.patch_length + 1) * hidden_size
    assert total == config.multiply_adds()
    assert attention == 4 * 2 * config.sequence_length**2 * hidden_size
    assert [text.get_text() for text in bars.texts] == [f"{bar.get_width():,}" for bar in bars.patches]
    assert cut.get_title() == f"$P = {patch_size}$"


def test_nothing_stays_open():
    plt.close("all")
    figures.cut_images({"a": PIXELS}, 4)
    figures.seen_pixels({"a": torch.zeros(4, 4)}, 2)
    figures.patch_costs(PIXELS, (1, 2), {"a": [2.0, 1.0]}, shown=(2,))
    figures.image_as_sequence(PIXELS, 4, 16)
    assert plt.get_fignums() == []


def test_the_explorer_offers_the_patch_sizes_that_divide(monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "image_as_sequence", lambda *values: drawn.append(values))
    images = data.load("scenes", split="test", count=4)
    explorer = widgets.patches(images, index=2)
    index, power, width = explorer.children[:3]
    assert (power.min, power.max) == (0, 5)
    explorer.update()
    index.value, power.value, width.value = 3, 1, 5
    assert drawn[0][1:] == (4, 48)
    assert torch.equal(drawn[0][0], images.images[2])
    assert drawn[-1][1:] == (2, 80)
    assert torch.equal(drawn[-1][0], images.images[3])
