"""What is read from inside a model: closed forms on constructed attention, and hooks that leave nothing behind."""

import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vitcourse import VisionTransformer, ViTConfig, introspect
from vitcourse.functional import attention_weights, rollout

CONFIG = ViTConfig(
    image_size=(12, 8), patch_size=4, num_channels=2, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    intermediate_size=14, num_classes=5, initializer_range=0.4,
)  # fmt: skip
L = 1 + 3 * 2


@pytest.fixture
def model():
    return VisionTransformer(CONFIG).eval()


@pytest.fixture
def images():
    return torch.randn(4, 2, 12, 8)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def uniform(length, heads=2, batch=1):
    return torch.full((batch, heads, length, length), 1 / length)


# ---- recording


@pytest.mark.parametrize("fused", [True, False])
def test_the_fused_path_is_recorded_too_and_answers_as_before(model, images, fused):
    for block in model.blocks:
        block.attention.use_faster_attention = fused
    expected, explicit = model(images, return_attention=True)
    with introspect.record(model) as seen:
        logits = model(images)
    torch.testing.assert_close(logits, expected)
    assert len(seen.attention) == len(seen.tokens) == 3
    for mine, theirs in zip(seen.attention, explicit, strict=True):
        torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(mine.sum(dim=-1), torch.ones(4, 2, L))
    torch.testing.assert_close(model.classify(seen.tokens[-1]), expected)


def test_no_hook_is_left_behind(model, images):
    with introspect.record(model):
        assert hooks(model) > 0
    assert hooks(model) == 0
    with pytest.raises(ZeroDivisionError), introspect.record(model):
        1 / 0  # noqa: B018
    assert hooks(model) == 0
    with pytest.raises(ValueError, match="images must have shape"), introspect.record(model):
        model(images[0])
    assert hooks(model) == 0


def test_it_works_in_inference_mode_and_in_a_nest(model, images):
    with torch.inference_mode(), introspect.record(model) as outer, introspect.record(model) as inner:
        logits, weights = model(images, return_attention=True)
    assert logits.shape == (4, 5)
    for one, two, three in zip(outer.attention, inner.attention, weights, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_one_recording_inside_another_when_nobody_asks_for_weights(model, images):
    logits = model(images)
    with introspect.record(model) as outer, introspect.record(model) as inner:
        torch.testing.assert_close(model(images), logits)
    for one, two in zip(outer.attention, inner.attention, strict=True):
        assert one.shape == (4, 2, L, L)
        assert torch.equal(one, two)


def test_gradients_of_a_frozen_model(model, images):
    free = introspect.gradient_relevance(model, images)
    model.requires_grad_(False)
    assert torch.equal(introspect.gradient_relevance(model, images), free)


def test_the_last_pass_counts(model, images):
    with introspect.record(model) as seen:
        model(images)
        model(images[:1])
    assert seen.attention[0].shape == (1, 2, L, L)


def test_nothing_recorded_says_what_to_do(model):
    with introspect.record(model) as seen:
        pass
    with pytest.raises(RuntimeError, match=r"0 of 3 layers were recorded. Run the model inside the `with` block"):
        _ = seen.attention


def test_a_model_without_our_blocks_is_refused():
    with (
        pytest.raises(ValueError, match=r"Sequential has no EncoderBlock of vitcourse.*interop"),
        introspect.record(nn.Sequential(nn.Linear(2, 2))),
    ):
        pass


def test_weights_of_another_library_are_recorded():
    timm = pytest.importorskip("timm")
    from vitcourse.interop import from_timm

    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=4
    ).eval()
    ours = from_timm(theirs)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode(), introspect.record(ours) as seen:
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)
    assert [weights.shape for weights in seen.attention] == [(2, 3, 17, 17)] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda(model, images):
    with introspect.record(model.cuda()) as seen:
        model(images.cuda())
    assert seen.attention[0].is_cuda
    for method in introspect.METHODS.values():
        assert method(model, images.cuda()).is_cuda


def pretends_to_have_cuda():
    """Whether this PyTorch makes fake tensors of a GPU that isn't there; 2.6 asks for a driver."""
    try:
        with FakeTensorMode(), torch.device("cuda"):
            nn.Linear(2, 2)(torch.randn(1, 2))
    except (RuntimeError, AssertionError):
        return False
    return True


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_everything_stays_on_the_models_device(device, fused):
    """Without a GPU: fake tensors have a device and a shape and no numbers, and refuse to be mixed with the CPU's."""
    if device == "cuda" and not pretends_to_have_cuda():
        pytest.skip("this PyTorch has no fake GPU")
    config = ViTConfig(image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
    with FakeTensorMode(), torch.device(device):
        model = VisionTransformer(config.replace(intermediate_size=16, use_faster_attention=fused)).eval()
        images = torch.randn(2, 3, 8, 8)
        with introspect.record(model) as seen:
            model(images)
        assert {weights.device.type for weights in seen.attention} == {device}
        # A gradient needs the driver of a real GPU, also a fake one's.
        without = ("attention", "rollout")
        for name in introspect.METHODS if device == "meta" else without:
            assert introspect.METHODS[name](model, images).device.type == device
        with pytest.raises(RuntimeError, match="device"):
            model(torch.randn(2, 3, 8, 8, device="cpu"))


# ---- rollout


def test_rollout_by_hand():
    first = torch.tensor([[0.0, 1.0], [1.0, 0.0]])[None, None]
    second = torch.tensor([[0.5, 0.5], [0.0, 1.0]])[None, None]
    # (A1 + I)/2 is 1/2 everywhere; (A2 + I)/2 = [[.75, .25], [0, 1]]; their product is 1/2 everywhere
    torch.testing.assert_close(rollout([first, second]), torch.full((1, 2, 2), 0.5))
    torch.testing.assert_close(rollout([second, first]), torch.tensor([[[0.375, 0.625], [0.375, 0.625]]]))
    torch.testing.assert_close(rollout([second, first], residual=0), (first @ second)[:, 0])


def test_rollout_of_tokens_that_look_at_themselves_or_everywhere():
    identity = torch.eye(5).expand(1, 2, 5, 5)
    torch.testing.assert_close(rollout([identity] * 3), torch.eye(5)[None])
    torch.testing.assert_close(rollout([uniform(5)] * 3, residual=0), uniform(5)[:, 0])
    mixed = 7 / 8 * uniform(5)[:, 0] + 1 / 8 * torch.eye(5)  # each layer keeps half of what it had
    torch.testing.assert_close(rollout([uniform(5)] * 3), mixed)


def test_rows_of_a_rollout_sum_to_one():
    layers = [torch.randn(3, 2, 7, 7, dtype=torch.float64).softmax(dim=-1) for _ in range(12)]
    joint = rollout(layers, residual=0.3)
    assert joint.dtype == torch.float64
    torch.testing.assert_close(joint.sum(dim=-1), torch.ones(3, 7, dtype=torch.float64))


@pytest.mark.parametrize(
    ("layers", "residual", "words"),
    [
        ([], 0.5, "at least one layer"),
        ([1], 2, "between 0 and 1"),
        ([uniform(5), uniform(6)], 0.5, r"layer 2 must have B and N of layer 1, \(1, 2, 5, 5\), got \(1, 2, 6, 6\)"),
        ([uniform(5, batch=3), uniform(5)], 0.5, r"layer 2 must have .*\(3, 2, 5, 5\), got \(1, 2, 5, 5\)"),
    ],
)
def test_rollout_refuses(layers, residual, words):
    with pytest.raises(ValueError, match=words):
        rollout(layers, residual)


# ---- distances


def test_distance_of_constructed_heads():
    grid, patch = (3, 4), 5
    itself = torch.eye(13)
    everywhere = torch.full((13, 13), 1 / 13)
    right = torch.eye(13).roll(1, dims=1)  # each patch to the next one; at the end of a row to the next row's first
    right[12] = 0
    right[12, 11] = 1  # the last one to its left
    cls_only = torch.zeros(13, 13)
    cls_only[:, 0] = 1
    weights = torch.stack([itself, everywhere, right, cls_only])[None].expand(2, 4, 13, 13)
    found = introspect.attention_distance(weights, grid, patch)
    places = [(row * patch, column * patch) for row in range(3) for column in range(4)]
    mean = sum(math.dist(a, b) for a in places for b in places) / 144
    wraps = 2 * math.dist((0, 15), (5, 0))
    expected = torch.tensor([0, mean, (10 * patch + wraps) / 12, 0])
    torch.testing.assert_close(found, expected)


def test_distance_leaves_the_class_token_out():
    weights = torch.zeros(1, 1, 3, 3)
    weights[..., 0], weights[:, :, 1, 2], weights[:, :, 2, 1] = 0.9, 0.1, 0.1
    torch.testing.assert_close(introspect.attention_distance(weights, (1, 2), 4), torch.tensor([4.0]))


def test_distance_refuses_another_grid():
    with pytest.raises(ValueError, match=r"must have shape \(B, h, 7, 7\)"):
        introspect.attention_distance(uniform(6), (3, 2), 4)


# ---- gradients


def test_gradient_relevance_is_the_derivative_of_the_score(model, images):
    """One weight at a time, moved a little, the others kept: double precision, central differences."""
    model, image = model.double(), images[:1].double()
    classes = torch.tensor([3])
    with torch.no_grad(), introspect.record(model) as seen:
        model(image)
    relevance = torch.zeros(L - 1, dtype=torch.float64)
    for layer, block in enumerate(model.blocks):
        before = model.embed(image) if layer == 0 else seen.tokens[layer - 1]

        def score(weights, before=before, block=block):
            _, _, value = block.attention.qkv(block.norm1(before)).chunk(3, dim=-1)
            heads = weights @ value.unflatten(2, (2, 5)).transpose(1, 2)
            tokens = before + block.attention.projection(heads.transpose(1, 2).flatten(2))
            return model.classify(tokens + block.mlp(block.norm2(tokens)))[0, 3].item()

        weights, h = seen.attention[layer].detach(), 1e-6
        for head in range(2):
            for key in range(1, L):  # the head reads [CLS], so only its row has a derivative
                more, less = weights.clone(), weights.clone()
                more[0, head, 0, key] += h
                less[0, head, 0, key] -= h
                relevance[key - 1] += max(0.0, (score(more) - score(less)) / (2 * h)) / (2 * L)
    expected = relevance.view(1, 3, 2)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    torch.testing.assert_close(introspect.gradient_relevance(model, image, classes), expected, atol=1e-6, rtol=1e-5)


def test_input_gradient_is_that_of_the_score(model, images):
    model, image = model.double(), images[:1].double()
    found = introspect.input_gradient(model, image, torch.tensor([2]))
    slopes, h = torch.zeros(12, 8, dtype=torch.float64), 1e-6
    for place in range(image.numel()):
        more, less = image.clone(), image.clone()
        more.view(-1)[place] += h
        less.view(-1)[place] -= h
        slope = (model(more) - model(less))[0, 2].item() / (2 * h)
        slopes.view(-1)[place % 96] += abs(slope)
    patches = slopes.unflatten(1, (2, 4)).unflatten(0, (3, 4)).sum(dim=(1, 3))[None]
    expected = (patches - patches.min()) / (patches.max() - patches.min())
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("name", introspect.METHODS)
def test_every_map_has_one_number_a_patch_and_leaves_the_model_alone(name, pooling, images):
    model = VisionTransformer(CONFIG.replace(pooling=pooling)).eval()
    with torch.no_grad():
        maps = introspect.METHODS[name](model, images)  # gradients are switched on where they are needed
    assert maps.shape == (4, 3, 2)
    assert maps.min() >= 0
    assert not maps.requires_grad
    assert hooks(model) == 0
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(maps[1:2], introspect.METHODS[name](model, images[1:2]))  # no image leaks into another


def test_attention_map_is_the_class_tokens_row(model, images):
    _, weights = model(images, return_attention=True)
    expected = weights[-1].mean(dim=1)[:, 0, 1:].view(4, 3, 2)
    torch.testing.assert_close(introspect.attention_map(model, images), expected)
    first = weights[0].mean(dim=1)[:, 0, 1:].view(4, 3, 2)
    torch.testing.assert_close(introspect.attention_map(model, images, layer=0), first)


@pytest.mark.parametrize("layer", [-4, 3])
def test_a_layer_that_is_not_there_is_refused(model, images, layer):
    with pytest.raises(ValueError, match=rf"layer must lie between -3 and 2, got {layer}"):
        introspect.attention_map(model, images, layer)


def test_a_constant_score_gives_a_map_without_nan(model, images):
    nn.init.zeros_(model.head.weight)
    for method in (introspect.gradient_relevance, introspect.input_gradient):
        assert method(model, images).abs().sum() == 0


# ---- filters and positions


def test_there_are_at_most_28_components_unless_more_are_asked_for(model):
    assert len(introspect.embedding_filters(model)[0]) == 10  # D
    wide = VisionTransformer(CONFIG.replace(hidden_size=32, num_channels=3))
    assert len(introspect.embedding_filters(wide)[0]) == 28
    assert len(introspect.embedding_filters(wide, 30)[0]) == 30


def test_components_rebuild_the_filters(model):
    components, share = introspect.embedding_filters(model, 10)
    assert components.shape == (10, 2, 4, 4)
    flat = components.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(10), atol=1e-5, rtol=0)
    assert share.sum().item() == pytest.approx(1, abs=1e-5)
    assert (share[:-1] >= share[1:]).all()
    weight = model.patch_embedding.projection.weight.detach()
    centred = weight - weight.mean(dim=0)
    torch.testing.assert_close(centred @ flat.T @ flat, centred, atol=1e-4, rtol=1e-3)
    assert (flat.gather(1, flat.abs().argmax(dim=1, keepdim=True)) > 0).all()
    with pytest.raises(ValueError, match="count must lie between 1 and 10, got 11"):
        introspect.embedding_filters(model, 11)


def test_position_similarity_of_sines(model):
    grid = introspect.position_similarity(model)
    assert grid.shape == (3, 2, 3, 2)
    torch.testing.assert_close(torch.einsum("abab->ab", grid), torch.ones(3, 2))
    sines = VisionTransformer(CONFIG.replace(hidden_size=12, position_embedding="sinusoidal_2d"))
    found = introspect.position_similarity(sines)
    torch.testing.assert_close(found[0, 0, 1, 0], found[1, 1, 2, 1])  # depends on the offset alone
    with pytest.raises(ValueError, match="no positions"):
        introspect.position_similarity(VisionTransformer(CONFIG.replace(position_embedding="none")))


# ---- marking

MASK = torch.zeros(1, 4, 6, dtype=torch.bool)
MASK[0, :2, :3] = True  # of a 2 x 3 grid of patches of 2 x 2: the first whole, half of the second


def test_pointing_game_by_hand():
    def hit(*numbers):
        return introspect.pointing_game(torch.tensor(numbers).float().view(1, 2, 3), MASK).item()

    assert hit(9, 1, 1, 1, 1, 1) == 1
    assert hit(1, 9, 1, 1, 1, 1) == 0.5
    assert hit(1, 1, 1, 1, 1, 9) == 0
    assert hit(9, 1, 1, 1, 1, 9) == 0.5
    assert hit(1, 1, 1, 1, 1, 1) == pytest.approx(0.25)  # chance: 6 of 24 pixels


def test_iou_by_hand():
    def overlap(*numbers):
        return introspect.iou(torch.tensor(numbers).float().view(1, 2, 3), MASK).item()

    # 1.5 patches are chosen: the first, and half of the second, which is half covered
    assert overlap(9, 5, 1, 1, 1, 1) == pytest.approx(1.25 / 1.75)
    assert overlap(1, 1, 1, 1, 5, 9) == 0
    assert overlap(5, 1, 9, 1, 1, 1) == pytest.approx(0.5 / 2.5)
    assert overlap(1, 1, 1, 1, 1, 1) == pytest.approx(0.375 / 2.625)


def test_a_mask_that_fits_no_grid_is_refused():
    maps = torch.rand(1, 2, 3)
    with pytest.raises(ValueError, match="masks must be boolean"):
        introspect.iou(maps, MASK.float())
    with pytest.raises(ValueError, match="maps of 2 x 3 patches don't fit masks of 4 x 5 pixels"):
        introspect.pointing_game(maps, MASK[:, :, :5])


def test_deletion_removes_the_highest_first(model, images):
    maps, classes = torch.rand(4, 3, 2), torch.tensor([0, 1, 2, 3])
    curve = introspect.deletion_curve(model, images, classes, maps, steps=6)
    assert curve.shape == (4, 7)
    with torch.inference_mode():
        whole, blank = model(images).softmax(dim=1), model(torch.zeros_like(images)).softmax(dim=1)
    torch.testing.assert_close(curve[:, 0], whole[range(4), classes])
    torch.testing.assert_close(curve[:, -1], blank[range(4), classes])
    highest = maps.flatten(1).argmax(dim=1)
    once = images.clone()
    for image, place in zip(once, highest.tolist(), strict=True):
        row, column = divmod(place, 2)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0
    with torch.inference_mode():
        torch.testing.assert_close(curve[:, 1], model(once).softmax(dim=1)[range(4), classes])


def test_constructed_attention_is_what_the_layer_computes():
    """The definition used above: softmax over keys of scaled products."""
    query = torch.tensor([[0.0, math.sqrt(2)]])
    torch.testing.assert_close(attention_weights(query, torch.eye(2)), torch.tensor([[1.0, math.e]]) / (1 + math.e))


def test_maps_and_images_that_do_not_fit_are_refused(model, images):
    classes = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"maps must be \(B, 3, 2\), got \(4, 2, 3\)"):
        introspect.deletion_curve(model, images, classes, torch.rand(4, 2, 3))
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        introspect.deletion_curve(model, images, classes, torch.rand(4, 3, 2), steps=0)
    with pytest.raises(ValueError, match="30 x 30 pixels can't be cut"):
        introspect.edge_map(torch.rand(1, 3, 30, 30), 4)


def test_edges_of_a_step_lie_in_the_patches_at_the_step():
    images = torch.zeros(2, 3, 4, 8)
    images[1, :, :, 3:] = 1  # the step lies between columns 2 and 3
    found = introspect.edge_map(images, 4)
    assert found.shape == (2, 1, 2)
    assert found.tolist() == [[[0, 0]], [[pytest.approx(4 / 16), 0]]]
