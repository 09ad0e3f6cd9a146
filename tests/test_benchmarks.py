"""The benchmarks compare equal things, and compute right what they print. Nothing is timed here."""

from pathlib import Path

import pytest
import torch

from benchmarks import import_time, models, peers, timing
from vitcourse import ViTConfig, interop
from vitcourse.layers import MultiHeadAttention

ROOT = Path(__file__).parent.parent

CONFIG = ViTConfig(num_hidden_layers=2, image_size=16, num_classes=7)
CONVERTERS = {
    "timm": interop.from_timm,
    "torchvision": interop.from_torchvision,
    "transformers": lambda wrapped: interop.from_huggingface(wrapped.model),
}


@pytest.fixture(scope="module")
def built():
    return peers.models(CONFIG)


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 16)


# ---- equal configurations


@pytest.mark.parametrize("variant", ["Nano/4", "Ti/16"])
def test_all_models_have_the_expected_number_of_parameters(variant):
    config = ViTConfig.variant(variant)
    for name, model in peers.models(config).items():
        extra = peers.extra_parameters(name, config)
        assert models.count_parameters(model) == config.num_parameters() + extra, name
        assert (extra == 0) == (name != "vit-pytorch")


def test_the_nano_variant_is_the_default_config():
    assert ViTConfig.variant(models.MODELS["nano"][0]) == ViTConfig()


def test_all_models_return_logits(built, images):
    assert {model(images).shape for model in built.values()} == {(3, 7)}


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_library_model_turned_into_ours_has_the_same_config_and_logits(name, built, images):
    theirs = built[name].eval()
    ours = CONVERTERS[name](theirs)
    same = {"image_size": CONFIG.image_size, "initializer_range": CONFIG.initializer_range}  # (16, 16) and 16 are one
    assert ours.config.image_height_width == CONFIG.image_height_width
    assert ours.config.replace(**same) == CONFIG
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours(images))


def test_no_model_has_dropout(built):
    for model in built.values():
        assert not any(module.p for module in model.modules() if isinstance(module, torch.nn.Dropout))


def test_transformers_uses_the_fused_attention(built):
    assert built["transformers"].model.config._attn_implementation == "sdpa"


def test_timm_uses_the_fused_attention(built):
    assert all(block.attn.fused_attn for block in built["timm"].blocks)


def test_check_models_describes_and_passes_equal_models(built, images):
    line = models.check_models(built, CONFIG, images)
    assert f"{CONFIG.num_parameters():,} parameters each" in line
    # 2 norms of 48 and 48 numbers (weights and biases), less 3 biases of 48 in 2 layers: 192 - 288.
    assert "(-96:" in line


def test_check_models_refuses_another_size(built, images):
    others = built | {"timm": peers.timm_model(CONFIG.replace(intermediate_size=96))}
    with pytest.raises(ValueError, match=r"timm has .* parameters, expected"):
        models.check_models(others, CONFIG, images)


def test_check_outputs_agree_refuses_other_weights(built, images):
    different = peers.models(CONFIG)[peers.EXPLICIT]
    with pytest.raises(ValueError, match="other differs from the first"):
        models.check_outputs_agree({"ours": built[peers.OURS], "other": different}, images)


# ---- variants of ours


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_list_of_heads_equals_multi_head_attention(qkv_bias):
    ours = MultiHeadAttention(24, 3, qkv_bias=qkv_bias)
    heads = peers.ListOfHeads.of(ours)
    tokens = torch.randn(2, 5, 24)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    torch.testing.assert_close(heads(tokens), ours(tokens))
    torch.testing.assert_close(heads(tokens, mask), ours(tokens, mask))
    assert models.count_parameters(heads) == models.count_parameters(ours)


def test_list_of_heads_has_the_gradients_of_multi_head_attention():
    ours = MultiHeadAttention(24, 3)
    heads = peers.ListOfHeads.of(ours)
    tokens = torch.randn(2, 5, 24)
    for layer in (ours, heads):
        layer(tokens).square().sum().backward()
    stacked = torch.cat([getattr(head, part).weight.grad for part in ("query", "key", "value") for head in heads.heads])
    torch.testing.assert_close(stacked, ours.qkv.weight.grad)


def test_list_of_heads_refuses_to_return_attention():
    with pytest.raises(NotImplementedError, match="MultiHeadAttention does"):
        peers.ListOfHeads(8, 2)(torch.randn(1, 3, 8), None, True)


def test_a_model_with_a_list_of_heads_returns_the_same_logits_and_leaves_ours_alone(built, images):
    assert isinstance(built[peers.LIST_OF_HEADS].blocks[0].attention, peers.ListOfHeads)
    assert isinstance(built[peers.OURS].blocks[0].attention, MultiHeadAttention)
    torch.testing.assert_close(built[peers.LIST_OF_HEADS](images), built[peers.OURS](images))


def test_the_four_attention_layers_agree():
    layers = peers.attention_layers(24, 3)
    assert len(layers) == 4
    models.check_outputs_agree(layers, torch.randn(2, 5, 24))


# ---- what is timed


def test_a_training_step_changes_the_weights_and_lowers_the_loss(images):
    model = peers.models(CONFIG)[peers.OURS]
    step = models.training_step(model, images, torch.tensor([0, 1, 2]))
    assert step() > step()


def test_inference_keeps_no_gradients(built, images):
    assert models.inference(built[peers.OURS], images)().is_inference()


def test_forward_backward_gives_fresh_gradients_each_time():
    layer = MultiHeadAttention(24, 3)
    run = models.forward_backward(layer, torch.randn(2, 5, 24))
    torch.testing.assert_close(run().clone(), run())


def test_interleaved_runs_every_action_once_a_repeat():
    calls = []
    actions = {name: lambda name=name: calls.append(name) or torch.zeros(1) for name in "abc"}
    seconds = timing.interleaved(actions, repeats=4, warmup=2)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(set(calls[i : i + 3]) == set("abc") for i in range(0, 18, 3))
    assert len({tuple(calls[i : i + 3]) for i in range(0, 18, 3)}) > 1


def test_interleaved_refuses_numbers_that_are_not_finite():
    with pytest.raises(FloatingPointError, match="bad returned"):
        timing.interleaved({"bad": lambda: torch.tensor([1.0, torch.nan])}, repeats=1)


# ---- what is printed

SECONDS = {"ours": [1.0, 2.0, 4.0], "slow": [2.0, 2.0, 12.0], "fast": [0.5, 2.0, 3.0]}


def test_ratios_are_taken_repeat_by_repeat():
    # 2, 1 and 3: the median is 2, though the medians are equal; percentiles between neighbours by straight line.
    assert timing.ratios(SECONDS["slow"], SECONDS["ours"]) == pytest.approx((2.0, 1.2, 2.8))


def test_rows_hold_median_milliseconds_and_ratios():
    ours, slow, fast = timing.rows(SECONDS, "ours")
    assert ours == timing.Row("ours", 2000.0, 1.0, 1.0, 1.0)
    assert (slow.name, slow.milliseconds) == ("slow", 2000.0)
    assert (slow.ratio, slow.low, slow.high) == pytest.approx((2.0, 1.2, 2.8))
    assert (fast.ratio, fast.low, fast.high) == pytest.approx((0.75, 0.55, 0.95))  # of 0.5, 1 and 0.75


def test_the_table_is_aligned():
    text = timing.as_text("Title", timing.rows(SECONDS, "ours"), "ours")
    assert text.splitlines() == [
        "Title",
        "        median ms  time / ours  (10th-90th percentile)",
        "  ours    2000.00         1.00  (1.00-1.00)",
        "  slow    2000.00         2.00  (1.20-2.80)",
        "  fast    2000.00         0.75  (0.55-0.95)",
    ]


@pytest.mark.parametrize(("bar", "verdict"), [(1.05, "MISSED"), (1.4, "kept")])
def test_the_bar_is_against_the_library_with_the_lowest_median(bar, verdict):
    seconds = {"ours": [4.0, 4.0], "a": [3.0, 3.0], "b": [5.0, 5.0], "variant": [1.0, 1.0]}
    line = timing.fastest_line(seconds, "ours", ["a", "b"], bar)
    assert line == f"  ours / a (the fastest library): 1.333 (1.33-1.33); bar {bar}: {verdict}"


def test_machine_names_versions_and_threads():
    text = timing.machine()
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert f"{torch.get_num_threads()} threads, processor " in text


def test_import_time_reports_the_median_difference():
    text = import_time.report(torch=[1.0, 2.0, 3.0], ours=[1.25, 2.125, 3.5])
    assert "import torch      2.00 s" in text
    assert "difference        0.25 s (median of 3 repeats); bar 0.3 s: kept" in text
    assert "MISSED" in import_time.report(torch=[1.0], ours=[1.5])


def test_measured_seconds_and_memory_get_into_the_readme_and_nothing_else_changes():
    from benchmarks.notebooks import with_measured

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stems = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
    changed = with_measured(text, dict.fromkeys(stems, (12.1, 810)))
    for before, after in zip(text.splitlines(), changed.splitlines(), strict=True):
        if before != after:
            columns, now = before.split("|"), after.split("|")
            assert now[5:7] == [" 15 ", " 850 "]
            assert columns[:5] + columns[7:] == now[:5] + now[7:]
    assert changed.count("| 15 | 850 |") == len(stems)
    assert with_measured(text, {}) == text
