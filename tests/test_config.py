"""The config: its thirteen fields, what it refuses, and costs that are measured here another way."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitcourse import VisionTransformer, ViTConfig, config

THIRTEEN = {
    "patch_size": 4,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 4 * 48,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
    "image_size": 32,
    "num_classes": 10,
    "num_channels": 3,
    "qkv_bias": True,
    "use_faster_attention": True,
}
INTEGERS = (
    "patch_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "image_size",
    "num_classes",
    "num_channels",
)
PROBABILITIES = ("hidden_dropout_prob", "attention_probs_dropout_prob")
POSITIVE = ("initializer_range", "layer_norm_eps")
NAN, INF = float("nan"), float("inf")

# P^2 C = 48 and D = 20, 3 x 5 patches, 5 heads of width 4, M = 28: no two sizes are equal.
UNEVEN = {
    "patch_size": 4,
    "hidden_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 28,
    "image_size": (12, 20),
    "num_classes": 7,
}
SHAPES = [
    {},
    UNEVEN,
    UNEVEN | {"pooling": "mean"},
    UNEVEN | {"num_channels": 1, "qkv_bias": False, "position_embedding": "none"},
    {"patch_size": 8, "num_hidden_layers": 1, "position_embedding": "sinusoidal_2d"},
]


# ---- fields


def test_the_first_thirteen_fields_have_the_names_order_and_defaults_of_the_curriculum():
    fields = dataclasses.fields(ViTConfig)[:13]
    assert [(field.name, field.default) for field in fields] == list(THIRTEEN.items())


def test_further_fields_have_defaults():
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(ViTConfig))


def test_the_thirteen_fields_pasted_as_a_dictionary_build_a_model_that_runs():
    model = VisionTransformer(ViTConfig(**THIRTEEN))
    assert sum(p.numel() for p in model.parameters()) == 119_194
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_config_cannot_be_changed_only_replaced():
    original = ViTConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        original.patch_size = 8
    assert original.replace(patch_size=8).patch_size == 8
    assert original.patch_size == 4


def test_equal_configs_are_equal_keys():
    assert {ViTConfig(): "model"}[ViTConfig(**THIRTEEN)] == "model"
    assert ViTConfig(image_size=(32, 32)) == ViTConfig(image_size=32)


@pytest.mark.parametrize("changes", SHAPES)
def test_json_gives_the_same_config_back(changes):
    original = ViTConfig(**changes)
    assert ViTConfig.from_dict(json.loads(original.to_json())) == original


def test_shapes_follow_from_the_fields():
    uneven = ViTConfig(**UNEVEN)
    assert uneven.image_height_width == (12, 20)
    assert uneven.grid_size == (3, 5)
    assert (uneven.num_patches, uneven.sequence_length) == (15, 16)
    assert uneven.patch_length == 4 * 4 * 3
    assert uneven.head_size == 4


# ---- impossible values


def refused(error, name, value, **others):
    """The config refuses `value` with `error`, whose message holds name and value."""
    with pytest.raises(error) as caught:
        ViTConfig(**{name: value} | others)
    message = str(caught.value)
    assert name in message
    assert str(value) in message


@pytest.mark.parametrize("value", [0, -4])
@pytest.mark.parametrize("name", INTEGERS)
def test_a_size_below_one_is_refused(name, value):
    refused(ValueError, name, value)


@pytest.mark.parametrize("value", [True, 4.0, "4", None])
@pytest.mark.parametrize("name", INTEGERS)
def test_a_size_that_is_no_whole_number_is_refused(name, value):
    refused(TypeError, name, value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, NAN, INF])
@pytest.mark.parametrize("name", PROBABILITIES)
def test_a_dropout_outside_zero_to_one_is_refused(name, value):
    refused(ValueError, name, value)


@pytest.mark.parametrize("value", [0.0, -0.02, NAN, INF])
@pytest.mark.parametrize("name", POSITIVE)
def test_a_number_that_is_not_positive_and_finite_is_refused(name, value):
    refused(ValueError, name, value)


@pytest.mark.parametrize("value", [True, "0.1", None])
@pytest.mark.parametrize("name", PROBABILITIES + POSITIVE)
def test_a_number_of_another_type_is_refused(name, value):
    refused(TypeError, name, value)


@pytest.mark.parametrize("value", [1, 0, "yes", None])
@pytest.mark.parametrize("name", ["qkv_bias", "use_faster_attention"])
def test_a_switch_must_be_true_or_false(name, value):
    refused(TypeError, name, value)


@pytest.mark.parametrize(("name", "value"), [("pooling", "avg"), ("position_embedding", "rotary")])
def test_an_unknown_word_is_refused(name, value):
    refused(ValueError, name, value)


@pytest.mark.parametrize("value", [(32,), (32, 32, 3), ()])
def test_an_image_has_one_side_or_two(value):
    refused(ValueError, "image_size", value)


@pytest.mark.parametrize("value", [30, (32, 30), (30, 32)])
def test_sides_that_the_patch_size_does_not_divide_are_refused(value):
    refused(ValueError, "image_size", value, patch_size=4)


def test_heads_that_do_not_divide_the_width_are_refused():
    refused(ValueError, "num_attention_heads", 5, hidden_size=48)


@pytest.mark.parametrize(("kind", "width"), [("sinusoidal", 45), ("sinusoidal_2d", 46)])
def test_sines_and_cosines_need_a_width_that_divides(kind, width):
    refused(ValueError, "position_embedding", kind, hidden_size=width, num_attention_heads=1)
    refused(ValueError, "hidden_size", width, position_embedding=kind, num_attention_heads=1)


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'hidden'.*Known fields: patch_size, hidden_size"):
        ViTConfig.from_dict({"hidden": 48})
    with pytest.raises(ValueError, match="'hidden'"):
        ViTConfig().replace(hidden=48)


def test_numpy_numbers_are_taken_and_kept_as_python_numbers():
    changed = ViTConfig(patch_size=np.int64(8), image_size=(np.int32(16), 24), initializer_range=np.float64(0.1))
    assert changed == ViTConfig(patch_size=8, image_size=(16, 24), initializer_range=0.1)
    assert type(changed.patch_size) is int
    assert type(changed.image_size[0]) is int
    assert changed.to_json() == ViTConfig(patch_size=8, image_size=(16, 24), initializer_range=0.1).to_json()


# ---- variants and parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Nano/4", 119_194),
        ("Ti/16", 5_717_416),
        ("S/16", 22_050_664),
        ("B/16", 86_567_656),
        ("L/16", 304_326_632),
        ("H/14", 632_045_800),
    ],
)
def test_published_sizes_have_their_published_parameters(name, parameters):
    assert ViTConfig.variant(name).num_parameters() == parameters


@pytest.mark.parametrize("size", config.VARIANTS)
def test_the_closed_form_counts_the_parameters_of_every_variant(size):
    variant = ViTConfig.variant(f"{size}/8")
    with torch.device("meta"):  # shapes without numbers: H takes no memory
        model = VisionTransformer(variant)
    assert sum(p.numel() for p in model.parameters()) == variant.num_parameters()


@pytest.mark.parametrize("changes", SHAPES)
def test_the_closed_form_counts_the_parameters_of_any_config(changes):
    shape = ViTConfig(**changes)
    assert sum(p.numel() for p in VisionTransformer(shape).parameters()) == shape.num_parameters()


def test_a_variant_takes_further_fields():
    assert ViTConfig.variant("Ti/16", num_classes=6).num_parameters() == 5_525_574  # curriculum, bug 13


@pytest.mark.parametrize("name", ["X/16", "B", "B/", "B/-1", "B/16/2", "b/16", "", None])
def test_an_unknown_variant_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"{name!r} .*Nano/P, .*H/P"):
        ViTConfig.variant(name)


def test_a_variant_whose_patches_do_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match=r"image_size 224 .*patch_size 15"):
        ViTConfig.variant("B/15")


# ---- multiply-adds and activation memory


@pytest.mark.parametrize("changes", SHAPES)
def test_multiply_adds_are_half_of_the_operations_that_torch_counts(changes):
    shape = ViTConfig(**changes, use_faster_attention=False)  # the counter can leave out the fused kernel
    model = VisionTransformer(shape)
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(1, shape.num_channels, *shape.image_height_width))
    assert counter.get_total_flops() == 2 * shape.multiply_adds()


def bytes_that_autograd_saves(model, images):
    """Each saved storage once, parameters apart."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(images)  # keeps the graph, and so the storages, alive
    assert logits.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize(
    "changes",
    [
        *SHAPES,
        {"hidden_dropout_prob": 0.1},
        {"attention_probs_dropout_prob": 0.1},
        UNEVEN | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "pooling": "mean"},
    ],
)
def test_activation_bytes_are_what_autograd_saves(changes):
    shape = ViTConfig(**changes, use_faster_attention=False)
    images = torch.randn(3, shape.num_channels, *shape.image_height_width)
    assert shape.activation_bytes(3) == bytes_that_autograd_saves(VisionTransformer(shape).train(), images)


@pytest.mark.parametrize(("batch_size", "heads"), [(1, 4), (3, 1)])
def test_activation_bytes_are_close_where_torch_need_not_copy(batch_size, heads):
    """With one image or one head, torch multiplies views of q, k and v, and keeps the whole projection."""
    shape = ViTConfig(num_attention_heads=heads, use_faster_attention=False)
    images = torch.randn(batch_size, 3, 32, 32)
    saved = bytes_that_autograd_saves(VisionTransformer(shape).train(), images)
    assert shape.activation_bytes(batch_size) == pytest.approx(saved, rel=0.06)


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_activation_bytes_need_at_least_one_image(batch_size, error):
    with pytest.raises(error, match=f"batch_size .*{batch_size}"):
        ViTConfig().activation_bytes(batch_size)


# ---- no torch


def test_the_config_needs_no_torch():
    """The file runs where torch can't be imported, in a package whose `__init__` is left out."""
    code = (
        "import sys, types\n"
        "sys.modules['torch'] = None  # any import of it raises\n"
        "package = sys.modules['vitcourse'] = types.ModuleType('vitcourse')\n"
        f"package.__path__ = [{str(Path(config.__file__).parent)!r}]\n"
        "from vitcourse.config import ViTConfig\n"
        "print(ViTConfig().num_parameters())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.strip() == "119194"
