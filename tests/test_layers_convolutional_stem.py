"""The convolutional stem: its shapes, what it refuses, and how far a token sees."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vitcourse import VisionTransformer, ViTConfig
from vitcourse.layers import ConvolutionalStem, PatchEmbedding

WIDTH = 20


def seen_by(layer, token):
    """Which pixels of a 16 x 24 image move a token: `(16, 24)`, True where one does."""
    images = torch.randn(16, 3, 16, 24, requires_grad=True)
    tokens = layer.eval()(images)[:, token]  # (B, D)
    seen = torch.zeros(16, 24, dtype=torch.bool)
    for feature in tokens.sum(dim=0):
        (gradient,) = torch.autograd.grad(feature, images, retain_graph=True)
        seen |= gradient.abs().amax(dim=(0, 1)) > 0
    return seen


@pytest.mark.parametrize(("patch_size", "tokens"), [(2, 8 * 16), (4, 4 * 8), (8, 2 * 4), (16, 2)])
def test_one_token_for_each_patch_row_by_row(patch_size, tokens):
    assert ConvolutionalStem(patch_size, 3, WIDTH)(torch.randn(2, 3, 16, 32)).shape == (2, tokens, WIDTH)


def test_tokens_are_the_places_of_the_feature_map_projected():
    stem = ConvolutionalStem(4, 3, WIDTH).eval()
    images = torch.randn(2, 3, 8, 20)
    features = stem.features(images)
    assert features.shape == (2, WIDTH, 2, 5)
    tokens = stem(images)
    for row in range(2):
        for column in range(5):
            assert_close(tokens[:, 5 * row + column], stem.projection(features[:, :, row, column]))


def test_widths_double_up_to_the_models():
    widths = [part.out_channels for part in ConvolutionalStem(16, 3, 48).features if isinstance(part, nn.Conv2d)]
    assert widths == [8, 12, 24, 48]


def test_a_token_sees_its_neighbours_pixels_where_a_patch_sees_its_own():
    # The token of row 2, column 3 of a grid of 4 x 6: pixels from row 8 and column 12 on.
    own = torch.zeros(16, 24, dtype=torch.bool)
    own[8:12, 12:16] = True
    wider = torch.zeros(16, 24, dtype=torch.bool)
    wider[5:12, 9:16] = True
    assert torch.equal(seen_by(PatchEmbedding(4, 3, WIDTH), 15), own)
    assert torch.equal(seen_by(ConvolutionalStem(4, 3, WIDTH), 15), wider)


def test_it_takes_the_place_of_the_patch_embedding():
    config = ViTConfig(image_size=(16, 24))
    model = VisionTransformer(config)
    model.patch_embedding = ConvolutionalStem(config.patch_size, config.num_channels, config.hidden_size)
    logits = model(torch.randn(2, 3, 16, 24))
    logits.sum().backward()
    assert logits.shape == (2, 10)
    assert all(parameter.grad is not None for parameter in model.patch_embedding.parameters())


@pytest.mark.parametrize("patch_size", [-4, 0, 1, 3, 6, 12])
def test_a_patch_size_that_is_no_power_of_two_is_refused(patch_size):
    with pytest.raises(ValueError, match=f"patch_size must be a power of two from 2 on, got {patch_size}"):
        ConvolutionalStem(patch_size, 3, WIDTH)


def test_images_that_do_not_fit_are_refused():
    stem = ConvolutionalStem(4, 3, WIDTH)
    with pytest.raises(ValueError, match=r"8 x 18 pixels .*patch_size 4"):
        stem(torch.randn(2, 3, 8, 18))
    with pytest.raises(ValueError, match=r"3 channels, got shape \(2, 1, 8, 16\)"):
        stem(torch.randn(2, 1, 8, 16))
    with pytest.raises(ValueError, match="images\\[None\\]"):
        stem(torch.randn(3, 8, 16))
