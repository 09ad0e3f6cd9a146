"""Ours as a model of Hugging Face's: equal logits, and back again."""

import pytest
import torch
from torch.testing import assert_close

from vitcourse import VisionTransformer, ViTConfig
from vitcourse.interop import from_huggingface, to_huggingface

pytest.importorskip("transformers", reason="parity with Hugging Face needs transformers")

CONFIG = ViTConfig(
    patch_size=4, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=24,
    num_classes=5, num_channels=2, layer_norm_eps=1e-3, initializer_range=0.3,
)  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}, {"image_size": (16, 24), "num_channels": 1}])
def test_equal_logits_there_and_back(changes):
    ours = VisionTransformer(CONFIG.replace(**changes)).eval()
    theirs = to_huggingface(ours)
    images = torch.randn(3, ours.config.num_channels, *ours.config.image_height_width)
    assert_close(theirs(images).logits, ours(images), atol=1e-5, rtol=1e-5)
    back = from_huggingface(theirs)
    assert_close(back(images), ours(images), atol=1e-5, rtol=1e-5)
    assert back.config.layer_norm_eps == 1e-3
    assert not theirs.training


def test_the_weights_are_copies():
    ours = VisionTransformer(CONFIG)
    theirs = to_huggingface(ours)
    with torch.no_grad():
        ours.head.weight.zero_()
    assert theirs.classifier.weight.abs().sum() > 0


@pytest.mark.parametrize("changes", [{"pooling": "mean"}, {"position_embedding": "none"}])
def test_what_theirs_does_not_have(changes):
    with pytest.raises(ValueError, match="pooling"):
        to_huggingface(VisionTransformer(CONFIG.replace(**changes)))
