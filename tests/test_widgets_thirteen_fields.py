"""The explorer over all thirteen fields: its numbers are the config's, and it never raises."""

import importlib

import matplotlib

matplotlib.use("Agg")

import pytest
import torch

from vitcourse import ViTConfig, figures, widgets

module = importlib.import_module("vitcourse.widgets.thirteen_fields")  # the function has the same name
BASE = ViTConfig()


@pytest.fixture
def opened(monkeypatch):
    """The explorer, its controls by name, its button and time, and the figures that it showed."""
    shown = []
    monkeypatch.setattr(module, "display", shown.append)
    explorer = widgets.thirteen_fields()
    *controls, bottom, _ = explorer.children
    return {control.description: control for control in controls}, *bottom.children, shown


def printed(figure):
    """The three costs that a figure prints."""
    return [int(label.get_text().split()[-1].replace(",", "")) for label in figure.axes[0].get_yticklabels()]


def test_there_is_a_control_for_each_field_with_its_name_and_default(opened):
    controls, *_, shown = opened
    assert {name: control.value for name, control in controls.items()} == {
        name: getattr(BASE, name) for name in list(BASE.to_dict())[:13]
    }
    assert len(controls) == 13
    assert printed(shown[0]) == list(figures.costs(BASE))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patch_size", 8),
        ("hidden_size", 96),
        ("num_hidden_layers", 7),
        ("num_attention_heads", 6),
        ("intermediate_size", 96),
        ("hidden_dropout_prob", 0.1),
        ("attention_probs_dropout_prob", 0.5),
        ("initializer_range", 0.08),
        ("image_size", 64),
        ("num_classes", 100),
        ("num_channels", 1),
        ("qkv_bias", False),
        ("use_faster_attention", False),
    ],
)
def test_the_figure_follows_each_control(opened, name, value):
    controls, _, timed, shown = opened
    timed.value = "old"
    controls[name].value = value
    assert printed(shown[-1]) == list(figures.costs(BASE.replace(**{name: value})))
    assert len(shown) == 2
    assert timed.value == ""


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("patch_size", 5, "image_size 32 can't be cut"), ("num_attention_heads", 5, "hidden_size 48 can't be shared")],
)
def test_a_config_that_cannot_be_gives_its_message(opened, capsys, name, value, message):
    controls, button, timed, shown = opened
    controls[name].value = value
    assert message in capsys.readouterr().out
    assert len(shown) == 1
    button.click()
    assert message in timed.value
    controls[name].value = getattr(BASE, name)
    assert len(shown) == 2


def test_the_button_measures_beside_the_default_and_leaves_the_generator_alone(opened):
    controls, button, timed, _ = opened
    controls["num_hidden_layers"].value = 1
    before = torch.random.get_rng_state()
    button.click()
    new, old, ratio = timed.value.replace("ms", "").replace("=", ":").split(":")
    assert 0 < float(new) < float(old) * 1.2
    assert float(ratio) < 1.2
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "symbol"),
    [
        ({"image_size": 224, "hidden_size": 768}, "B Ω"),
        ({"image_size": 128, "patch_size": 2, "hidden_size": 12, "intermediate_size": 48}, "B Ω|bytes"),
        ({"image_size": 16, "patch_size": 16, "hidden_size": 768, "num_hidden_layers": 24}, "θ"),
    ],
)
def test_a_config_too_large_is_not_timed(opened, monkeypatch, changes, symbol):
    controls, button, timed, _ = opened
    monkeypatch.setattr(module, "milliseconds", lambda config: pytest.fail("timed"))
    for name, value in changes.items():
        controls[name].value = value
    button.click()
    assert timed.value.split(" = ")[0] in symbol.split("|")
    assert "&gt;" in timed.value
