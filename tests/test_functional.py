"""The arithmetic: inverses, closed forms, properties, and explicit against fused attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vitcourse.functional import (
    attention,
    attention_weights,
    binary_encoding,
    index_encoding,
    normalised_encoding,
    one_hot,
    patchify,
    rollout,
    sinusoidal_encoding,
    sinusoidal_encoding_2d,
    unpatchify,
)

# ---- words


def test_a_one_hot_row_times_a_matrix_looks_up_a_row():
    ids, matrix = torch.tensor([[3, 0, 2], [1, 1, 3]]), torch.randn(4, 5)
    assert one_hot(ids, 4).shape == (2, 3, 4)
    assert_close(one_hot(ids, 4) @ matrix, matrix[ids], rtol=0, atol=0)


def test_words_as_one_hot_rows_are_all_equally_far_apart():
    words = one_hot(torch.arange(5), 5)
    assert_close(words @ words.T, torch.eye(5))
    assert_close(torch.pdist(words), torch.full((10,), math.sqrt(2)))


@pytest.mark.parametrize("ids", [[4], [-1], [0, 7]])
def test_a_word_outside_the_vocabulary_is_refused(ids):
    with pytest.raises(ValueError, match=r"ids must lie in 0 \.\. 3 for num_classes 4, got"):
        one_hot(torch.tensor(ids), 4)


# ---- images: 3 channels, 4 x 6 pixels, patches of 2, so that 2 x 3 patches hold 12 numbers each


def test_patches_are_the_squares_of_the_image_row_by_row_and_channel_by_channel():
    images = torch.randn(2, 3, 4, 6)
    squares = [images[:, :, y : y + 2, x : x + 2].flatten(1) for y in (0, 2) for x in (0, 2, 4)]
    assert_close(patchify(images, 2), torch.stack(squares, dim=1), rtol=0, atol=0)


def test_patches_are_what_torch_unfolds():
    images = torch.randn(2, 3, 8, 12)
    assert_close(patchify(images, 4), F.unfold(images, 4, stride=4).mT, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(8, 12), (12, 8), (8, 8)])
def test_unpatchify_undoes_patchify(size):
    images = torch.randn(2, 3, *size)
    assert_close(unpatchify(patchify(images, 4), 4, size), images, rtol=0, atol=0)


def test_patches_without_a_side_are_refused():
    for patch_size in (0, -4):
        with pytest.raises(ValueError, match=f"patch_size must be at least 1, got {patch_size}"):
            unpatchify(torch.zeros(1, 4, 48), patch_size, 8)


def test_unpatchify_takes_one_side_for_a_square():
    images = torch.randn(2, 3, 8, 8)
    assert_close(unpatchify(patchify(images, 4), 4, 8), images, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(10, 12), (12, 10)])
def test_sides_that_the_patch_does_not_divide_are_refused_not_cropped(size):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels .*patch_size 4"):
        patchify(torch.zeros(2, 3, *size), 4)


def test_an_image_without_batch_dimension_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"\(3, 8, 8\); one image is images\[None\]"):
        patchify(torch.zeros(3, 8, 8), 4)


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 5, 48), (8, 12)), ((2, 6, 47), (8, 12)), ((2, 6, 48), (9, 12)), ((6, 48), (8, 12))]
)
def test_patches_that_do_not_fill_the_image_are_refused(shape, size):
    with pytest.raises(ValueError, match=rf"{shape[-2]}, {shape[-1]}\) don't make images of {size[0]} x 12"):
        unpatchify(torch.zeros(shape), 4, size)


# ---- positions


def test_the_index_grows_without_bound_and_the_share_stays_below_one():
    assert index_encoding(4).tolist() == [[1], [2], [3], [4]]
    assert index_encoding(1000).max() == 1000
    assert normalised_encoding(1000).max() == 1


def test_position_four_of_six_and_two_of_three_are_the_same_share():
    assert normalised_encoding(6)[4 - 1] == normalised_encoding(3)[2 - 1]


def test_the_step_between_shares_depends_on_the_length():
    assert_close(normalised_encoding(4).diff(dim=0), torch.full((3, 1), 1 / 4))
    assert_close(normalised_encoding(10).diff(dim=0), torch.full((9, 1), 1 / 10))


def test_binary_codes_are_the_numbers_fastest_bit_first():
    assert binary_encoding(4).tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    values = binary_encoding(13) @ torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert values.tolist() == list(range(13))


def test_neighbours_seven_and_eight_differ_in_every_bit():
    codes = binary_encoding(16)
    assert codes.shape == (16, 4)
    assert (codes[7] != codes[8]).all()


def test_binary_codes_take_more_bits_but_not_fewer():
    assert binary_encoding(8, num_bits=5).shape == (8, 5)
    with pytest.raises(ValueError, match=r"num_bits 3 holds 8 positions, length is 9: use 4 bits"):
        binary_encoding(9, num_bits=3)


def test_i_am_a_robot():
    """Four words, d = 4, base 100, two decimals, sine and cosine interleaved."""
    by_hand = torch.tensor(
        [
            [0.00, 1.00, 0.00, 1.00],
            [0.84, 0.54, 0.10, 1.00],
            [0.91, -0.42, 0.20, 0.98],
            [0.14, -0.99, 0.30, 0.96],
        ]
    )
    assert_close(sinusoidal_encoding(4, 4, base=100), by_hand, rtol=0, atol=0.005)


def test_sinusoids_follow_the_formula_with_base_ten_thousand():
    encoding = sinusoidal_encoding(50, 10)
    for pos, i in [(3, 0), (17, 2), (49, 4)]:
        angle = pos / 10000 ** (2 * i / 10)
        assert encoding[pos, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert encoding[pos, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoids_stay_exact_far_from_the_start():
    angle = 19_999 / 10000 ** (2 / 64)  # in float32 it would be off by 0.0005
    assert sinusoidal_encoding(20_000, 64)[-1, 2].item() == pytest.approx(math.sin(angle), abs=1e-6)


def test_sinusoids_are_bounded_and_unique():
    encoding = sinusoidal_encoding(200, 8)
    assert encoding.abs().max() <= 1
    assert torch.pdist(encoding).min() > 0.1


@pytest.mark.parametrize("step", [1, 5])
def test_a_step_is_a_rotation_that_depends_on_the_step_alone(step):
    """PE(pos + k) = R(k) PE(pos) for every pos, with R(k) built from the frequencies."""
    encoding = sinusoidal_encoding(40, 6).double()
    angles = step / 10000 ** (torch.arange(0, 6, 2).double() / 6)
    pairs = [torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles]
    rotation = torch.block_diag(*pairs).double()
    assert_close(rotation @ rotation.T, torch.eye(6).double(), rtol=0, atol=1e-6)
    assert_close(encoding[step:], encoding[:-step] @ rotation.T, rtol=0, atol=1e-6)


def test_the_product_of_two_positions_depends_on_their_distance_alone():
    encoding = sinusoidal_encoding(30, 8)
    products = encoding @ encoding.T
    for distance in range(30):
        diagonal = products.diagonal(distance)
        assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert products[0, 1] > products[0, 2]


def test_the_first_half_of_a_2d_encoding_is_the_row_and_the_second_the_column():
    grid = sinusoidal_encoding_2d(3, 5, 12).unflatten(0, (3, 5))
    assert_close(grid[..., :6], sinusoidal_encoding(3, 6)[:, None].expand(3, 5, 6))
    assert_close(grid[..., 6:], sinusoidal_encoding(5, 6)[None].expand(3, 5, 6))


def test_every_cell_of_a_grid_has_its_own_code():
    assert torch.pdist(sinusoidal_encoding_2d(7, 9, 8)).min() > 0.1


@pytest.mark.parametrize("dim", [5, 0])
def test_sinusoids_need_an_even_width(dim):
    with pytest.raises(ValueError, match=f"dim must be even.*got {dim}"):
        sinusoidal_encoding(3, dim)


def test_a_2d_encoding_needs_a_width_that_four_divides():
    with pytest.raises(ValueError, match=r"dim must be a multiple of 4.*got 6"):
        sinusoidal_encoding_2d(2, 3, 6)


# ---- attention: 5 queries of width 4 look at 6 keys with values of width 7, in 2 images and 3 heads


def queries_keys_values():
    shapes = (2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 7)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def some_mask(*shape):
    """A random mask that leaves each query its first key."""
    mask = torch.rand(shape) < 0.5
    mask[..., 0] = True
    return mask


def test_weights_of_two_keys_in_closed_form():
    """q = (0, sqrt 2), d = 2: scores 0 and sqrt 2 / sqrt 2 = 1, weights (1, e) / (1 + e)."""
    query = torch.tensor([[0.0, math.sqrt(2)]])
    expected = torch.tensor([[1.0, math.e]]) / (1 + math.e)
    assert_close(attention_weights(query, torch.eye(2)), expected)


def test_scale_replaces_one_over_root_d():
    query = torch.tensor([[0.0, math.sqrt(2)]])
    expected = torch.tensor([[1.0, math.exp(2)]]) / (1 + math.exp(2))
    assert_close(attention_weights(query, torch.eye(2), scale=math.sqrt(2)), expected)


def test_scores_of_unit_variance_keep_unit_variance_at_any_width():
    """Without the root the deviation would be 16, with 1/d it would be 1/16."""
    query, key = torch.randn(400, 256), torch.randn(400, 256)
    log_weights = attention_weights(query, key).log()
    scores = log_weights - log_weights.mean(dim=-1, keepdim=True)  # the softmax loses a constant a row
    assert scores.std().item() == pytest.approx(1, abs=0.05)


def test_attention_by_hand():
    query, key, value = (x[0, 0].detach() for x in queries_keys_values())
    for row in range(5):
        scores = [(query[row] @ key[column]).item() / 2 for column in range(6)]  # sqrt 4 = 2
        weights = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
        fetched = sum(weight * vector for weight, vector in zip(weights, value, strict=True))
        assert_close(attention(query, key, value)[row], fetched)


@pytest.mark.parametrize("masked", [False, True])
def test_each_query_shares_out_a_whole_among_the_keys(masked):
    query, key, _ = queries_keys_values()
    weights = attention_weights(query, key, some_mask(5, 6) if masked else None)
    assert weights.shape == (2, 3, 5, 6)
    assert (weights >= 0).all()
    assert_close(weights.sum(dim=-1), torch.ones(2, 3, 5))


@pytest.mark.parametrize("fused", [False, True])
def test_permuted_queries_give_permuted_outputs_and_permuted_keys_the_same(fused):
    query, key, value = queries_keys_values()
    of_queries, of_keys = torch.randperm(5), torch.randperm(6)
    output = attention(query, key, value, fused=fused)
    permuted = attention(query[:, :, of_queries], key[:, :, of_keys], value[:, :, of_keys], fused=fused)
    assert_close(permuted, output[:, :, of_queries])


def test_true_in_a_mask_means_may_look():
    query, key, _ = queries_keys_values()
    mask = some_mask(5, 6)
    weights = attention_weights(query, key, mask)
    assert (weights[:, :, ~mask] == 0).all()
    assert (weights[:, :, mask] > 0).all()


def test_a_masked_key_is_as_good_as_absent():
    query, key, value = queries_keys_values()
    mask = torch.tensor([True, True, False, True, False, True])
    assert_close(attention(query, key, value, mask), attention(query, key[:, :, mask], value[:, :, mask]))


def test_a_causal_mask_hides_the_future():
    query, key, value = (torch.randn(2, 5, 4) for _ in range(3))
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    before = attention(query, key, value, past)
    key[:, 3:], value[:, 3:] = 9.0, 9.0
    after = attention(query, key, value, past)
    assert_close(after[:, :3], before[:, :3], rtol=0, atol=0)
    assert not torch.allclose(after[:, 3:], before[:, 3:])


@pytest.mark.parametrize("fused", [False, True])
def test_a_query_that_may_look_nowhere_fetches_zeros_and_has_finite_gradients(fused):
    query, key, value = queries_keys_values()
    mask = some_mask(5, 6)
    mask[2] = False
    output = attention(query, key, value, mask, fused=fused)
    output.square().sum().backward()
    assert (output[:, :, 2] == 0).all()
    assert (query.grad[:, :, 2] == 0).all()
    assert all(x.grad.isfinite().all() for x in (query, key, value))
    assert (attention_weights(query, key, mask)[:, :, 2] == 0).all()


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("shape", [None, (6,), (5, 6), (5, 1), (3, 5, 6), (2, 1, 1, 6), (2, 3, 5, 6)])
def test_fused_attention_has_the_same_numbers_and_gradients(shape, scale):
    mask = None if shape is None else some_mask(*shape)
    inputs = queries_keys_values()
    target = torch.randn(2, 3, 5, 7)
    outputs, gradients = [], []
    for fused in (False, True):
        outputs.append(attention(*inputs, mask, scale=scale, fused=fused))
        gradients.append(torch.autograd.grad((outputs[-1] * target).sum(), inputs))
    assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_dropout_keeps_the_mean_and_drops_its_share(fused):
    """Values of one-hot rows show the weights themselves."""
    query, key, value = torch.randn(200, 4), torch.randn(50, 4), torch.eye(50)
    dropped = attention(query, key, value, dropout=0.3, fused=fused)
    weights = attention_weights(query, key)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    kept = dropped != 0
    assert_close(dropped[kept], weights[kept] / 0.7)


@pytest.mark.parametrize("fused", [False, True])
def test_a_mask_of_numbers_is_refused(fused):
    query, key, value = queries_keys_values()
    with pytest.raises(TypeError, match=r"mask must be boolean, True where .*got torch.float32"):
        attention(query, key, value, torch.ones(5, 6), fused=fused)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shape", [(2, 6), (6, 5), (3, 2, 5, 6)])
def test_a_mask_of_another_shape_is_refused_with_the_remedy(shape, fused):
    query, key, value = queries_keys_values()
    mask = torch.ones(shape, dtype=torch.bool)
    sentence = rf"mask of shape \({str(shape)[1:-1]}\) .*\(2, 3, 5, 6\)\. A padding mask .*mask\[:, None, None, :\]"
    with pytest.raises(ValueError, match=sentence):
        attention(query, key, value, mask, fused=fused)


@pytest.mark.parametrize("fused", [False, True])
def test_queries_and_keys_of_different_width_are_refused(fused):
    with pytest.raises(ValueError, match=r"query \(5, 4\) and key \(6, 3\)"):
        attention(torch.zeros(5, 4), torch.zeros(6, 3), torch.zeros(6, 7), fused=fused)


@pytest.mark.parametrize("fused", [True, False])
def test_a_value_for_each_key(fused):
    query, key, value = queries_keys_values()
    with pytest.raises(ValueError, match="key and value must have equally many rows"):
        attention(query, key, value[:, :, :-1], fused=fused)


def test_rollout_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"attention of layer 2 must have shape \(B, h, N, N\), got \(3, 3\)"):
        rollout([torch.ones(1, 1, 3, 3), torch.ones(3, 3)])


def test_a_patch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="patch_size must be at least 1, got 0"):
        patchify(torch.zeros(1, 1, 4, 4), 0)
