"""The layers against torch's own, with copied weights. Sizes differ wherever a mix-up could hide."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vitcourse.functional import attention, sinusoidal_encoding, sinusoidal_encoding_2d
from vitcourse.layers import (
    MLP,
    EncoderBlock,
    LearnedPositionEmbedding,
    MultiHeadAttention,
    PatchEmbedding,
    SinusoidalPositionEmbedding,
    SinusoidalPositionEmbedding2D,
)

BATCH, LENGTH, WIDTH, HEADS, INSIDE = 2, 7, 12, 4, 20  # heads of width 3


def tokens():
    return torch.randn(BATCH, LENGTH, WIDTH)


def causal_mask():
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def padding_mask():
    """The second sentence ends two tokens early: `(B, N)`, True where there is a token."""
    return torch.arange(LENGTH) < torch.tensor([[LENGTH], [LENGTH - 2]])


def outputs_and_gradients(module, inputs, *args):
    """The outputs of a random linear function of a module's output, and all gradients."""
    inputs = inputs.clone().requires_grad_()
    output = module(inputs, *args)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return output, torch.autograd.grad((output * weights).sum(), [inputs, *module.parameters()])


# ---- patch embedding: 3 channels, patches of 4, so 48 numbers a patch; width 12; 2 x 5 patches


def test_patches_times_a_matrix_are_a_convolution_with_values_and_gradients():
    layer, images = PatchEmbedding(4, 3, WIDTH), torch.randn(BATCH, 3, 8, 20)
    linear = outputs_and_gradients(layer, images)
    layer.as_convolution = True
    convolution = outputs_and_gradients(layer, images)
    assert linear[0].shape == (BATCH, 10, WIDTH)
    assert_close(linear, convolution, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("as_convolution", [False, True])
def test_patch_embedding_is_torch_s_convolution_with_the_same_weights(as_convolution):
    layer = PatchEmbedding(4, 3, WIDTH, as_convolution=as_convolution)
    convolution = nn.Conv2d(3, WIDTH, kernel_size=4, stride=4)
    with torch.no_grad():
        layer.projection.weight.copy_(convolution.weight.flatten(1))
        layer.projection.bias.copy_(convolution.bias)
    images = torch.randn(BATCH, 3, 8, 20)
    assert_close(layer(images), convolution(images).flatten(2).mT)


@pytest.mark.parametrize("as_convolution", [False, True])
def test_images_that_do_not_fit_the_patches_are_refused(as_convolution):
    layer = PatchEmbedding(4, 3, WIDTH, as_convolution=as_convolution)
    with pytest.raises(ValueError, match=r"8 x 18 pixels .*patch_size 4"):
        layer(torch.zeros(BATCH, 3, 8, 18))
    with pytest.raises(ValueError, match=r"3 channels, got shape \(2, 1, 8, 20\)"):
        layer(torch.zeros(BATCH, 1, 8, 20))


# ---- positions


def test_learned_positions_are_parameters_and_differ_from_the_start():
    layer = LearnedPositionEmbedding(LENGTH, WIDTH)
    added = layer(torch.zeros(BATCH, LENGTH, WIDTH))
    assert [name for name, _ in layer.named_parameters()] == ["positions"]
    assert_close(added[0], layer.positions[0])
    assert torch.pdist(added[0]).min() > 0
    assert_close(added[0], added[1], rtol=0, atol=0)


def test_sinusoidal_positions_give_cls_position_zero():
    x = tokens()
    added = SinusoidalPositionEmbedding(LENGTH, WIDTH)(x) - x
    assert_close(added, sinusoidal_encoding(LENGTH, WIDTH).expand_as(x), rtol=0, atol=1e-6)
    assert_close(added[0, 0], torch.tensor([0.0, 1.0]).repeat(WIDTH // 2), rtol=0, atol=1e-6)


def test_positions_in_a_grid_give_cls_zeros():
    x = tokens()  # [CLS] and 2 x 3 patches
    added = SinusoidalPositionEmbedding2D((2, 3), WIDTH)(x) - x
    assert (added[:, 0] == 0).all()
    assert_close(added[0, 1:], sinusoidal_encoding_2d(2, 3, WIDTH), rtol=0, atol=1e-6)


FIXED = [(SinusoidalPositionEmbedding, LENGTH), (SinusoidalPositionEmbedding2D, (2, 3))]


@pytest.mark.parametrize(("kind", "size"), FIXED)
def test_fixed_positions_are_neither_trained_nor_saved_but_move_with_the_model(kind, size):
    layer = kind(size, WIDTH)
    assert list(layer.parameters()) == []
    assert layer.state_dict() == {}
    assert layer.double().positions.dtype == torch.float64


def test_fixed_positions_take_another_base():
    line = SinusoidalPositionEmbedding(LENGTH, WIDTH, base=100.0).positions[0]
    grid = SinusoidalPositionEmbedding2D((2, 3), WIDTH, base=100.0).positions[0]
    assert_close(line, sinusoidal_encoding(LENGTH, WIDTH, base=100.0))
    assert_close(grid[1:], sinusoidal_encoding_2d(2, 3, WIDTH, base=100.0))


@pytest.mark.parametrize(("kind", "size"), [(LearnedPositionEmbedding, LENGTH), *FIXED])
@pytest.mark.parametrize("length", [1, LENGTH - 1])
def test_tokens_of_another_length_are_refused_not_broadcast(kind, size, length):
    layer = kind(size, WIDTH)
    with pytest.raises(ValueError, match=rf"tokens must have shape \(B, 7, 12\), got \(2, {length}, 12\)"):
        layer(torch.zeros(BATCH, length, WIDTH))


def test_one_position_is_not_shared_by_all_tokens():
    with pytest.raises(ValueError, match=r"\(B, 1, 12\), got \(2, 7, 12\)"):
        LearnedPositionEmbedding(1, WIDTH)(tokens())


# ---- multi-head attention


def torch_s_attention(layer):
    """`nn.MultiheadAttention` with the weights of ours."""
    peer = nn.MultiheadAttention(WIDTH, HEADS, bias=layer.qkv.bias is not None, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(layer.qkv.weight)
        peer.out_proj.weight.copy_(layer.projection.weight)
        if layer.qkv.bias is None:
            layer.projection.bias.zero_()  # torch's has either both biases or none
        else:
            peer.in_proj_bias.copy_(layer.qkv.bias.normal_())
            peer.out_proj.bias.copy_(layer.projection.bias.normal_())
    return peer


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("which", ["none", "causal", "padding"])
def test_multi_head_attention_is_torch_s_with_the_same_weights(which, fused, qkv_bias):
    """Torch's masks say True where a token may NOT look; ours say True where it may."""
    layer = MultiHeadAttention(WIDTH, HEADS, qkv_bias, use_faster_attention=fused)
    peer = torch_s_attention(layer)
    ours = {"none": None, "causal": causal_mask(), "padding": padding_mask()[:, None, None, :]}[which]
    theirs = {"causal": {"attn_mask": ~causal_mask()}, "padding": {"key_padding_mask": ~padding_mask()}}
    x = tokens()
    output, weights = layer(x, ours, return_attention=True)
    expected, expected_weights = peer(x, x, x, average_attn_weights=False, **theirs.get(which, {}))
    assert_close(output, expected, rtol=1e-5, atol=1e-5)
    assert_close(weights, expected_weights, rtol=1e-5, atol=1e-5)
    assert_close(layer(x, ours), expected, rtol=1e-5, atol=1e-5)


def test_heads_are_slices_of_one_projection():
    """A list of heads, each with its own three matrices cut out of `qkv`."""
    layer, x = MultiHeadAttention(WIDTH, HEADS), tokens()
    of_query, of_key, of_value = layer.qkv.weight.split(WIDTH)
    for_query, for_key, for_value = layer.qkv.bias.split(WIDTH)
    heads = []
    for start in range(0, WIDTH, 3):
        rows = slice(start, start + 3)
        query = x @ of_query[rows].T + for_query[rows]
        key = x @ of_key[rows].T + for_key[rows]
        value = x @ of_value[rows].T + for_value[rows]
        heads.append(attention(query, key, value))
    assert_close(layer(x), layer.projection(torch.cat(heads, dim=-1)))


@pytest.mark.parametrize("shape", [None, (7, 7), (2, 7, 7), (2, 1, 1, 7), (2, 4, 7, 7)])
def test_faster_attention_changes_neither_numbers_nor_gradients_nor_weights(shape):
    mask = None
    if shape is not None:
        mask = torch.rand(shape) < 0.5
        mask[..., 0] = True
    slow = MultiHeadAttention(WIDTH, HEADS, use_faster_attention=False)
    fast = MultiHeadAttention(WIDTH, HEADS, use_faster_attention=True)
    fast.load_state_dict(slow.state_dict())
    x = tokens()
    expected, got = outputs_and_gradients(slow, x, mask), outputs_and_gradients(fast, x, mask)
    assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert_close(fast(x, mask, return_attention=True), slow(x, mask, return_attention=True))


@pytest.mark.parametrize("fused", [False, True])
def test_asking_for_the_weights_does_not_change_the_output(fused):
    layer, x = MultiHeadAttention(WIDTH, HEADS, use_faster_attention=fused), tokens()
    output, weights = layer(x, return_attention=True)
    assert weights.shape == (BATCH, HEADS, LENGTH, LENGTH)
    assert_close(output, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_a_mask_for_each_image_is_not_taken_for_one_for_each_head(fused):
    """With as many images as heads both would fit."""
    layer = MultiHeadAttention(WIDTH, HEADS, use_faster_attention=fused)
    x = torch.randn(HEADS, LENGTH, WIDTH)
    mask = torch.ones(HEADS, LENGTH, LENGTH, dtype=torch.bool)
    mask[1, :, 5:] = False  # only image 1 is short
    expected = layer(x)
    expected[1] = layer(x[1:2, :], mask[1:2])[0]
    assert_close(layer(x, mask), expected)
    _, weights = layer(x, mask, return_attention=True)
    assert (weights[1, :, :, 5:] == 0).all()
    assert (weights[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize("fused", [False, True])
def test_permuted_tokens_give_permuted_outputs(fused):
    layer, x, order = MultiHeadAttention(WIDTH, HEADS, use_faster_attention=fused), tokens(), torch.randperm(LENGTH)
    assert_close(layer(x[:, order]), layer(x)[:, order])


def test_the_number_of_heads_does_not_change_the_number_of_parameters():
    counts = {sum(p.numel() for p in MultiHeadAttention(WIDTH, heads).parameters()) for heads in (1, 2, 3, 4)}
    assert counts == {4 * WIDTH * WIDTH + 4 * WIDTH}


def test_without_qkv_bias_only_the_output_projection_has_one():
    biases = [name for name in MultiHeadAttention(WIDTH, HEADS, qkv_bias=False).state_dict() if "bias" in name]
    assert biases == ["projection.bias"]


@pytest.mark.parametrize("return_attention", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_attention_weights_are_dropped_in_training_only(fused, return_attention):
    layer, x = MultiHeadAttention(WIDTH, HEADS, dropout=0.5, use_faster_attention=fused), tokens()

    def output():
        result = layer(x, return_attention=return_attention)
        return result[0] if return_attention else result

    assert not torch.allclose(output(), output())
    layer.eval()
    assert_close(output(), output(), rtol=0, atol=0)
    layer.dropout = 0.0
    without = output()
    layer.dropout = 0.5
    assert_close(output(), without, rtol=0, atol=0)


def test_returned_weights_are_those_before_dropout():
    layer = MultiHeadAttention(WIDTH, HEADS, dropout=0.5)
    _, weights = layer(tokens(), return_attention=True)
    assert_close(weights.sum(dim=-1), torch.ones(BATCH, HEADS, LENGTH))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads 5 must divide hidden_size 12"):
        MultiHeadAttention(WIDTH, 5)


# ---- MLP


def test_the_mlp_widens_bends_with_the_exact_gelu_and_narrows():
    layer, x = MLP(WIDTH, INSIDE), tokens()
    hidden = x @ layer.linear1.weight.T + layer.linear1.bias
    bent = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2  # x times the normal distribution function
    assert hidden.shape == (BATCH, LENGTH, INSIDE)
    assert_close(layer(x), bent @ layer.linear2.weight.T + layer.linear2.bias)


def test_the_mlp_takes_each_token_alone():
    layer, x = MLP(WIDTH, INSIDE), tokens()
    assert_close(layer(x)[:, 3], layer(x[:, 3:4])[:, 0])


def test_the_mlp_drops_after_both_products_in_training_only():
    layer, x = MLP(WIDTH, INSIDE, dropout=0.5), torch.ones(500, 1, WIDTH)
    with torch.no_grad():
        layer.linear2.weight.zero_()
        layer.linear2.bias.fill_(1.0)
    assert sorted(layer(x).unique().tolist()) == [0.0, 2.0]  # dropped after the second product
    torch.nn.init.normal_(layer.linear2.weight)
    after_second = layer(x)
    assert len(after_second[after_second != 0].unique()) > 100  # dropped after the first, too
    layer.eval()
    assert_close(layer(x), layer(x), rtol=0, atol=0)


# ---- encoder block


def torch_s_block(block, norm_first):
    """`nn.TransformerEncoderLayer` with the weights of ours, all of them away from their start."""
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    peer = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        INSIDE,
        activation="gelu",
        layer_norm_eps=block.norm1.eps,
        batch_first=True,
        norm_first=norm_first,
    )
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.projection.",
        "linear1.": "mlp.linear1.",
        "linear2.": "mlp.linear2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    ours = block.state_dict()
    peer.load_state_dict({their + end: ours[our + end] for their, our in names.items() for end in ("weight", "bias")})
    return peer.eval()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_the_block_is_torch_s_with_the_same_weights(norm_first, fused, masked):
    block = EncoderBlock(WIDTH, HEADS, INSIDE, norm_first=norm_first, use_faster_attention=fused).eval()
    peer, x = torch_s_block(block, norm_first), tokens()
    mask = causal_mask() if masked else None
    expected = peer(x, src_mask=~mask if masked else None)
    assert_close(block(x, mask), expected, rtol=1e-4, atol=1e-4)
    output, weights = block(x, mask, return_attention=True)
    assert_close(output, expected, rtol=1e-4, atol=1e-4)
    assert weights.shape == (BATCH, HEADS, LENGTH, LENGTH)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_layer_norm_divides_by_the_root_of_variance_plus_eps(eps):
    """The biased variance over the features of one token, eps inside the root."""
    norm, x = EncoderBlock(WIDTH, HEADS, INSIDE, layer_norm_eps=eps).norm1, tokens()
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().sum(dim=-1, keepdim=True) / WIDTH
    assert_close(norm(x), centred / (variance + eps).sqrt())


def test_both_norms_take_the_eps_that_is_asked_for():
    block = EncoderBlock(WIDTH, HEADS, INSIDE, layer_norm_eps=1e-3)
    assert (block.norm1.eps, block.norm2.eps) == (1e-3, 1e-3)
    assert EncoderBlock(WIDTH, HEADS, INSIDE).norm1.eps == 1e-6


def test_a_pre_norm_block_with_silent_parts_passes_the_residual_stream_on():
    block, x = EncoderBlock(WIDTH, HEADS, INSIDE), tokens()
    for last in (block.attention.projection, block.mlp.linear2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    assert_close(block(x), x, rtol=0, atol=0)


def test_a_block_passes_its_switches_on():
    block = EncoderBlock(
        WIDTH, HEADS, INSIDE, qkv_bias=False, dropout=0.1, attention_dropout=0.2, use_faster_attention=False
    )
    assert block.attention.qkv.bias is None
    assert (block.dropout.p, block.mlp.dropout.p, block.attention.dropout) == (0.1, 0.1, 0.2)
    assert not block.attention.use_faster_attention


def test_a_block_drops_in_training_only():
    block, x = EncoderBlock(WIDTH, HEADS, INSIDE, dropout=0.5, attention_dropout=0.5), tokens()
    assert not torch.allclose(block(x), block(x))
    block.eval()
    assert_close(block(x), block(x), rtol=0, atol=0)
