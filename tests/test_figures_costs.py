"""The figures of costs show the config's numbers."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from vitcourse import VisionTransformer, ViTConfig, figures

BASE = ViTConfig()
UNEVEN = ViTConfig(patch_size=4, hidden_size=20, num_hidden_layers=3, num_attention_heads=5, image_size=(12, 20))


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def number(text):
    """The parameters that a text of the assembled model states, repeats included."""
    times, _, one = text.rpartition(" × ")
    return int(times or 1) * int(one.replace(",", ""))


@pytest.mark.parametrize(
    "config",
    [
        BASE,
        UNEVEN,
        UNEVEN.replace(qkv_bias=False, position_embedding="none", pooling="mean"),
        ViTConfig.variant("B/16"),
    ],
)
def test_the_parts_of_the_assembled_model_add_up(config):
    (ax,) = figures.assembled(config).axes
    right = [text.get_text() for text in ax.texts if text.get_ha() == "right" and text.get_position()[0] > 8]
    *parts, total = right
    assert sum(map(number, parts)) == config.num_parameters()
    assert total.endswith(f"= {config.num_parameters():,}")
    assert len(parts) == 7


def test_the_assembled_model_shows_the_shapes_that_the_model_has():
    shown = texts(figures.assembled(UNEVEN, batch_size=2).axes[0])
    assert {"(2, 3, 12, 20)", "(2, 15, 48)", "(2, 15, 20)", "(2, 16, 20)", "(2, 20)", "(2, 10)"} <= set(shown)


def test_the_assembled_model_says_which_row_is_read():
    assert "$z_L^0$" in texts(figures.assembled(BASE).axes[0])
    assert "$z_L^0$" not in texts(figures.assembled(BASE.replace(pooling="mean")).axes[0])


def test_a_row_a_field_and_a_panel_a_cost():
    changes = {"hidden_size": 96, "patch_size": 8, "hidden_dropout_prob": 0.1, "initializer_range": 0.04}
    axes = figures.field_costs(BASE, changes).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [f"{k} = {v}" for k, v in changes.items()]
    assert [texts(ax) for ax in axes] == [
        ["2.61", "1.04", "1", "1"],
        ["2.53", "0.24", "1", "1"],
        ["1.38", "0.22", "1.28", "1"],
    ]
    for column, ax in enumerate(axes):
        for bar, (name, value) in zip(ax.patches, changes.items(), strict=True):
            ratio = figures.costs(BASE.replace(**{name: value}))[column] / figures.costs(BASE)[column]
            assert 1 + bar.get_width() == pytest.approx(ratio)
        assert ax.get_xscale() == "log"


def test_one_config_against_another():
    config = BASE.replace(patch_size=2, num_attention_heads=8)
    (ax,) = figures.config_costs(config, BASE).axes
    assert texts(ax) == ["1.06", "6.02", "10.6"]
    shown = [label.get_text().split()[-1] for label in ax.get_yticklabels()]
    assert shown == [f"{value:,}" for value in figures.costs(config)]
    assert ax.get_title(loc="left") == "patch_size = 2, num_attention_heads = 8"


def test_costs_are_those_of_the_config():
    parameters = sum(p.numel() for p in VisionTransformer(BASE).parameters())
    assert figures.costs(BASE, 3) == (parameters, BASE.multiply_adds(), BASE.activation_bytes(3))


def test_figures_leave_nothing_open():
    plt.close("all")
    figures.assembled(BASE)
    figures.field_costs(BASE, {"hidden_size": 96})
    figures.config_costs(BASE, BASE)
    assert plt.get_fignums() == []
