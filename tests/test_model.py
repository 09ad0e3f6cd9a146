"""The Vision Transformer: equations, symmetries, independence of images, and keeping it in a file."""

import copy
import json
import pickle
import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from vitcourse import VisionTransformer, ViTConfig
from vitcourse.functional import patchify, sinusoidal_encoding_2d, unpatchify
from vitcourse.layers import ConvolutionalStem

KINDS = ["learned", "sinusoidal", "sinusoidal_2d", "none"]

# 3 x 5 patches of 48 numbers, width 20, 5 heads of width 4: no two sizes are equal.
# Wide-spread weights, so that every influence is well above rounding.
SMALL = {
    "patch_size": 4,
    "hidden_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 28,
    "image_size": (12, 20),
    "num_classes": 7,
    "initializer_range": 0.2,
}
HEADS, LENGTH = 5, 16


def small_model(**changes):
    return VisionTransformer(ViTConfig(**SMALL | changes)).eval()


def some_images(count=2):
    return torch.randn(count, 3, 12, 20)


# ---- forward


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_become_one_score_a_class(kind, pooling):
    model = small_model(position_embedding=kind, pooling=pooling)
    assert model(some_images()).shape == (2, 7)


def test_the_sequence_is_cls_then_patches_plus_positions():
    """z_0 = [x_class; x_1 E; ...; x_N E] + E_pos (Dosovitskiy et al., 2021, eq. 1)."""
    model, images = small_model(), some_images()
    positions = model.position_embedding.positions[0]
    tokens = model.embed(images)
    assert tokens.shape == (2, LENGTH, 20)
    assert_close(tokens[:, 0], (model.class_token[0, 0] + positions[0]).expand(2, 20))
    assert_close(tokens[:, 1:], model.patch_embedding.projection(patchify(images, 4)) + positions[1:])


def test_positions_in_the_grid_follow_its_rows_and_columns():
    """3 rows of 5 patches: [CLS] gets nothing."""
    model, images = small_model(position_embedding="sinusoidal_2d"), some_images()
    added = model.embed(images)[:, 1:] - model.patch_embedding(images)
    assert_close(added[0], sinusoidal_encoding_2d(3, 5, 20), rtol=0, atol=1e-5)
    assert_close(model.embed(images)[:, 0], model.class_token[0].expand(2, 20))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_model_is_its_parts_one_after_the_other(pooling):
    """Mean pooling takes the patches without [CLS], and the norm comes after it."""
    model, images = small_model(pooling=pooling), some_images()
    tokens = model.embed(images)
    for block in model.blocks:
        tokens = block(tokens)
    pooled = tokens[:, 0] if pooling == "cls" else sum(tokens[:, place] for place in range(1, LENGTH)) / 15
    centred = pooled - pooled.mean(dim=1, keepdim=True)
    normed = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
    expected = (normed * model.norm.weight + model.norm.bias) @ model.head.weight.T + model.head.bias
    assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("faster", [False, True])
def test_the_weights_come_back_as_one_map_a_block(faster):
    model, images = small_model(use_faster_attention=faster), some_images()
    logits, maps = model(images, return_attention=True)
    assert [m.shape for m in maps] == [(2, HEADS, LENGTH, LENGTH)] * 3
    for weights in maps:
        assert_close(weights.sum(dim=-1), torch.ones(2, HEADS, LENGTH))
    assert not torch.allclose(maps[0], maps[1])
    assert_close(logits, model(images), rtol=1e-5, atol=1e-5)


def test_faster_attention_changes_neither_weights_nor_logits():
    slow, fast = small_model(use_faster_attention=False), small_model(use_faster_attention=True)
    fast.load_state_dict(slow.state_dict())
    images = some_images()
    assert_close(fast(images), slow(images), rtol=1e-5, atol=1e-5)
    assert all(block.attention.use_faster_attention for block in fast.blocks)
    assert not any(block.attention.use_faster_attention for block in slow.blocks)


def test_the_config_reaches_every_layer():
    model = small_model(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.2, layer_norm_eps=1e-3, qkv_bias=False)
    modules = list(model.modules())
    assert {m.p for m in modules if isinstance(m, nn.Dropout)} == {0.1}
    assert {block.attention.dropout for block in model.blocks} == {0.2}
    assert {m.eps for m in modules if isinstance(m, nn.LayerNorm)} == {1e-3}
    assert all(block.attention.qkv.bias is None for block in model.blocks)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model = small_model(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    images = some_images()
    assert_close(model(images), model(images), rtol=0, atol=0)
    model.train()
    assert not torch.allclose(model(images), model(images))


# ---- what depends on what


def with_patches_permuted(images):
    return unpatchify(patchify(images, 4)[:, torch.randperm(LENGTH - 1)], 4, (12, 20))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_without_positions_the_order_of_the_patches_does_not_matter(pooling):
    model, images = small_model(position_embedding="none", pooling=pooling), some_images()
    assert_close(model(with_patches_permuted(images)), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "sinusoidal_2d"])
def test_with_positions_it_matters(kind, pooling):
    model, images = small_model(position_embedding=kind, pooling=pooling), some_images()
    assert (model(with_patches_permuted(images)) - model(images)).abs().max() > 1e-2


@pytest.mark.parametrize("faster", [False, True])
def test_images_of_a_batch_do_not_see_each_other(faster):
    model, images = small_model(use_faster_attention=faster), some_images(4).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images)[2].sum(), images)
    assert (gradient[[0, 1, 3]] == 0).all()
    assert (gradient[2] != 0).any()


def test_an_image_has_the_same_logits_alone_and_in_a_batch():
    model, images = small_model(), some_images(4)
    together = model(images)
    assert_close(torch.cat([model(image[None]) for image in images]), together, rtol=1e-4, atol=1e-4)
    images[1] += 1
    changed = model(images)
    assert_close(changed[[0, 2, 3]], together[[0, 2, 3]], rtol=0, atol=0)
    assert not torch.allclose(changed[1], together[1])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("faster", [False, True])
def test_every_patch_has_a_say_in_the_logits(faster, pooling):
    model = small_model(use_faster_attention=faster, pooling=pooling)
    images = some_images().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images)[:, 0].sum(), images)
    assert (patchify(gradient, 4).abs().amax(dim=-1) > 0).all()


def test_every_parameter_is_trained():
    model = small_model()
    nn.functional.cross_entropy(model(some_images()), torch.tensor([1, 5])).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not (p.grad != 0).any()}
    assert silent == set()


# ---- the start


@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_weights_start_with_the_spread_asked_for_biases_at_zero_and_norms_at_one(spread):
    model = VisionTransformer(ViTConfig(initializer_range=spread))
    drawn = 0
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            tolerance = 5 / (2 * parameter.numel()) ** 0.5  # five deviations of an estimated deviation
            assert parameter.std().item() == pytest.approx(spread, rel=tolerance), name
            assert abs(parameter.mean().item()) < 5 * spread / parameter.numel() ** 0.5, name
            drawn += 1
    assert drawn == 4 * 4 + 4  # four matrices a block; patches, [CLS], positions, head


def test_each_block_is_drawn_by_itself():
    blocks = small_model().blocks
    for name, first in blocks[0].named_parameters():
        for other in blocks[1:]:
            second = other.get_parameter(name)
            assert first is not second, name
            if name.endswith("weight") and "norm" not in name:
                assert not torch.allclose(first, second), name


def test_a_seed_gives_the_same_model_again():
    torch.manual_seed(3)
    first = small_model().state_dict()
    torch.manual_seed(3)
    assert_close(small_model().state_dict(), first, rtol=0, atol=0)


# ---- images that don't fit


@pytest.mark.parametrize("shape", [(2, 3, 20, 12), (2, 3, 12, 16), (2, 1, 12, 20), (2, 12, 20, 3), (12, 20)])
def test_images_of_another_shape_are_refused_with_both_shapes(shape):
    with pytest.raises(ValueError, match=re.escape(f"images must have shape (B, 3, 12, 20), got {shape}")):
        small_model()(torch.zeros(shape))


def test_an_image_without_batch_dimension_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"got \(3, 12, 20\)\. Add the batch dimension: images\[None\]"):
        small_model()(torch.zeros(3, 12, 20))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_images_of_whole_numbers_are_refused_with_the_remedy(dtype):
    with pytest.raises(TypeError, match=f"images must be floating point, got {dtype}; scale and normalise"):
        small_model()(torch.zeros(2, 3, 12, 20, dtype=dtype))


# ---- modes and copies


def test_it_works_in_inference_mode_and_in_double_precision():
    model, images = small_model(), some_images()
    expected = model(images)
    with torch.inference_mode():
        assert_close(model(images), expected.detach(), rtol=0, atol=0)
    in_double = model.double()(images.double())
    assert in_double.dtype == torch.float64
    assert_close(in_double.float(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_says_the_same_and_shares_nothing(kind, duplicate):
    model, images = small_model(position_embedding=kind), some_images()
    expected = model(images)
    twin = duplicate(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert_close(twin(images), expected, rtol=0, atol=0)
    assert twin.config == model.config


# ---- keeping


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_says_the_same_when_loaded(tmp_path, kind):
    model, images = small_model(position_embedding=kind, pooling="mean"), some_images()
    path = model.train().save(tmp_path / "runs" / "model.safetensors")
    loaded = VisionTransformer.load(path)
    assert path == tmp_path / "runs" / "model.safetensors"
    assert not loaded.training
    assert loaded.config == model.config
    assert_close(loaded(images), model.eval()(images), rtol=0, atol=0)
    assert all(p.requires_grad for p in loaded.parameters())


def test_the_header_holds_the_config_and_the_notes(tmp_path):
    model = small_model()
    model.save(tmp_path / "model", data="fashion-mnist")
    with safe_open(tmp_path / "model", framework="pt") as file:
        header = file.metadata()
    assert set(header) == {"config", "data"}
    assert header["data"] == "fashion-mnist"
    assert ViTConfig.from_dict(json.loads(header["config"])) == model.config


def test_a_note_cannot_take_the_place_of_the_config(tmp_path):
    with pytest.raises((TypeError, ValueError), match="config"):
        small_model().save(tmp_path / "model", config="mine")
    assert list(tmp_path.iterdir()) == []


def test_a_note_that_is_no_text_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"note epoch must be text, got 3 of type int; try str"):
        small_model().save(tmp_path / "model", epoch=3)
    assert list(tmp_path.iterdir()) == []


def replace_head(model):
    model.head = nn.Linear(20, 3)


def replace_patch_embedding(model):
    model.patch_embedding = ConvolutionalStem(4, 3, 20)


def remove_norm(model):
    model.norm = nn.Identity()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (replace_head, r"head\.bias, head\.weight"),
        (replace_patch_embedding, r"patch_embedding\.features\.0\.weight"),
        (remove_norm, r"norm\.bias, norm\.weight"),
    ],
)
def test_a_model_that_its_config_does_not_describe_is_not_saved_with_it(tmp_path, change, names):
    model = small_model()
    change(model)
    with pytest.raises(ValueError, match=names):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_looking_for_replaced_weights_draws_no_random_numbers(kind):
    model = small_model(position_embedding=kind)
    before = torch.get_rng_state()
    assert model.half().replaced_weights() == []
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_in_half_precision_is_loaded_in_float32(tmp_path):
    model, images = small_model(), some_images()
    expected = model(images)
    model.half().save(tmp_path / "half")
    loaded = VisionTransformer.load(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert_close(loaded(images), expected, rtol=0.05, atol=0.05)


def test_what_does_not_touch_the_weights_can_be_changed_at_loading(tmp_path):
    model, images = small_model(use_faster_attention=True), some_images()
    loaded = VisionTransformer.load(model.save(tmp_path / "model"), use_faster_attention=False)
    assert loaded.config == model.config.replace(use_faster_attention=False)
    assert not loaded.blocks[0].attention.use_faster_attention
    assert_close(loaded(images), model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 5}, r"'num_classes': 5.*head\.weight"),
        ({"num_hidden_layers": 2}, r"'num_hidden_layers': 2.*blocks\.2"),
        ({"patch_size": 5}, "patch_size 5"),
        ({"hidden": 5}, "Unknown field 'hidden'"),
    ],
)
def test_changes_that_the_weights_do_not_fit_are_refused_by_name(tmp_path, changes, message):
    path = small_model().save(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=f"(?s){re.escape(repr(str(path)))}.*{message}"):
        VisionTransformer.load(path, **changes)


@pytest.mark.parametrize("config", ["{", "[1]", "null", '{"hidden": 5}', '{"patch_size": "4"}', '{"image_size": 30}'])
def test_a_header_that_is_no_config_is_refused_with_the_path(tmp_path, config):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"config": config})
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
        VisionTransformer.load(path)


def test_a_file_without_config_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(small_model().state_dict(), path)
    with pytest.raises(ValueError, match=r"model\.safetensors' holds no config"):
        VisionTransformer.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = small_model().save(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors' is damaged"):
        VisionTransformer.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors' is not a file"):
        VisionTransformer.load(tmp_path / "model.safetensors")


def test_a_save_that_fails_half_way_leaves_the_old_model(tmp_path, monkeypatch):
    old, images = small_model(), some_images()
    path = old.save(tmp_path / "model.safetensors")

    def full_disk(tensors, filename, metadata=None):
        filename.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr("vitcourse.storage.save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        small_model().save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert_close(VisionTransformer.load(path)(images), old(images), rtol=0, atol=0)
