"""A new head, a frozen body, another image size; positions resized as timm resizes them."""

import pytest
import torch
from torch.testing import assert_close

from vitcourse import VisionTransformer, ViTConfig, functional, layers, transfer

resample_abs_pos_embed = pytest.importorskip("timm.layers").resample_abs_pos_embed

CONFIG = ViTConfig(
    patch_size=4, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    image_size=(16, 24), num_classes=5,
)  # fmt: skip


def model(**changes):
    return VisionTransformer(CONFIG.replace(**changes)).eval()


# ---- positions


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("old", "new"), [((4, 6), (7, 5)), ((8, 8), (12, 12)), ((6, 9), (3, 4)), ((2, 3), (2, 4))])
def test_as_timm(mode, old, new):
    positions = torch.randn(1, 1 + old[0] * old[1], 10)
    expected = resample_abs_pos_embed(
        positions, list(new), list(old), num_prefix_tokens=1, interpolation=mode, antialias=True
    )
    assert_close(functional.resize_positions(positions, old, new, mode), expected, atol=1e-6, rtol=0)


def test_on_paper():
    positions = torch.tensor([9.0, 0.0, 1.0]).reshape(1, 3, 1)
    resized = functional.resize_positions(positions, (1, 2), (1, 4), "bilinear")
    assert_close(resized.flatten(), torch.tensor([9.0, 0.0, 0.25, 0.75, 1.0]))


def test_the_same_grid_changes_nothing_and_rows_stay_rows():
    positions = torch.randn(1, 7, 3)
    assert torch.equal(functional.resize_positions(positions, (2, 3), (2, 3)), positions)
    rows = torch.arange(2.0).repeat_interleave(3)[None, :, None]  # the number of the row
    resized = functional.resize_positions(torch.cat([rows[:, :1], rows], 1), (2, 3), (2, 6))[0, 1:, 0]
    assert_close(resized, torch.arange(2.0).repeat_interleave(6))


def test_dtype_is_kept():
    assert functional.resize_positions(torch.randn(1, 5, 3).half(), (2, 2), (3, 3)).dtype == torch.float16


@pytest.mark.parametrize(
    ("shape", "old", "new", "mode", "message"),
    [
        ((1, 6, 3), (2, 2), (3, 3), "bicubic", r"\(1, 5, D\).*got \(1, 6, 3\)"),
        ((5, 3), (2, 2), (3, 3), "bicubic", r"got \(5, 3\)"),
        ((1, 5, 3), (2, 2), (0, 3), "bicubic", r"new_grid.*\(0, 3\)"),
        ((1, 5, 3), (2, 2), (3, 3), "nearest", "mode must be.*'nearest'"),
    ],
)
def test_refusals(shape, old, new, mode, message):
    with pytest.raises(ValueError, match=message):
        functional.resize_positions(torch.zeros(shape), old, new, mode)


# ---- models


@pytest.mark.parametrize("classes", [3, 5, 9])
def test_a_new_head_keeps_everything_else(classes):
    old = model()
    new = transfer.with_new_head(old, classes)
    assert new.config == CONFIG.replace(num_classes=classes)
    assert new(torch.randn(2, 3, 16, 24)).shape == (2, classes)
    for name, tensor in old.state_dict().items():
        if name.startswith("head."):
            assert name.endswith("bias") or not torch.equal(new.state_dict()[name], tensor)
        else:
            assert torch.equal(new.state_dict()[name], tensor)
            assert new.state_dict()[name].data_ptr() != tensor.data_ptr()
    assert not new.training
    assert transfer.with_new_head(old.train().double(), 3).norm.weight.dtype == torch.float64
    assert transfer.with_new_head(old, 3).training


def test_a_replaced_head_does_not_hinder_a_new_one():
    old = model()
    old.head = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(36, 11))
    new = transfer.with_new_head(old, 3)
    assert new(torch.randn(2, 3, 16, 24)).shape == (2, 3)
    assert torch.equal(new.norm.weight, old.norm.weight)
    with pytest.raises(ValueError, match=r"head\.1\.weight.*copy\.deepcopy"):
        transfer.with_image_size(old, 32)


def test_a_hybrid_is_refused_by_name():
    hybrid = model()
    hybrid.patch_embedding = layers.ConvolutionalStem(4, 3, 36)
    for copied in (lambda: transfer.with_new_head(hybrid, 3), lambda: transfer.with_image_size(hybrid, 32)):
        with pytest.raises(ValueError, match=r"patch_embedding\.features\.0\.weight.*copy\.deepcopy"):
            copied()


def test_classes_are_checked():
    with pytest.raises(ValueError, match="num_classes"):
        transfer.with_new_head(model(), 0)


def test_another_size():
    old = model()
    new = transfer.with_image_size(old, (32, 20))
    assert new(torch.randn(1, 3, 32, 20)).shape == (1, 5)
    expected = functional.resize_positions(old.position_embedding.positions, (4, 6), (8, 5))
    assert torch.equal(new.position_embedding.positions, expected)
    assert torch.equal(new.head.weight, old.head.weight)
    same = transfer.with_image_size(old, (16, 24))
    images = torch.randn(1, 3, 16, 24)
    assert torch.equal(same(images), old(images))


@pytest.mark.parametrize("kind", ["sinusoidal", "sinusoidal_2d", "none"])
def test_positions_that_are_computed_are_those_of_the_new_grid(kind):
    old = model(position_embedding=kind)
    new = transfer.with_image_size(old, 32)
    fresh = VisionTransformer(new.config).eval()
    fresh.load_state_dict(new.state_dict())
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(new(images), fresh(images))


def test_a_size_that_does_not_divide():
    with pytest.raises(ValueError, match="patch_size"):
        transfer.with_image_size(model(), 30)


def test_frozen_means_only_the_head_moves():
    new = transfer.freeze_body(model())
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    optimizer = torch.optim.AdamW(new.parameters(), lr=0.1, weight_decay=0.5)
    new(torch.randn(2, 3, 16, 24)).logsumexp(dim=1).sum().backward()
    optimizer.step()
    moved = {name for name, tensor in new.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"head.weight", "head.bias"}
    assert all(p.requires_grad for p in transfer.freeze_body(new, frozen=False).parameters())
