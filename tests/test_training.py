"""Training learns, repeats itself under a seed, keeps the best model and refuses nonsense."""

import copy
import csv
import logging
import math
import random
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.training import (
    Epoch,
    Evaluation,
    TrainingConfig,
    evaluate,
    fit,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    read_log,
    set_seed,
    write_log,
)

fit_module = sys.modules["vitcourse.training.fit"]  # the name in the package is the function


@pytest.fixture(scope="module")
def few():
    return data.load("fashion-mnist", "train").subset(slice(0, 64))


@pytest.fixture
def steps():
    """What the optimizer finds at each step: the learning rate and the norm of the gradient."""
    found = []

    def note(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])).item()
        found.append((optimizer.param_groups[0]["lr"], norm))

    handle = register_optimizer_step_pre_hook(note)
    yield found
    handle.remove()


def small_model(seed=0, **changes):
    set_seed(seed)
    config = ViTConfig(num_channels=1, patch_size=8, num_hidden_layers=2, initializer_range=0.08)
    return VisionTransformer(config.replace(**changes))


class Constant(nn.Module):
    """Always says class 3, with the logits of a coin that falls so in 90 % of all throws."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.full((10,), math.log(0.1 / 9)))
        self.logits.data[3] = math.log(0.9)

    def forward(self, images):
        return self.logits.expand(len(images), 10)


# ---- learning


def test_overfits_one_batch(few):
    model = small_model()
    config = TrainingConfig(epochs=60, batch_size=64, learning_rate=5e-3, warmup_epochs=2, weight_decay=0.0)
    log = fit(model, few, few, config, progress=False)
    assert log[-1].validation_accuracy == 1.0
    assert log[-1].train_loss < 0.1


def test_learns_with_all_augmentation_on():
    train = data.load("fashion-mnist", "train").subset(slice(0, 600))
    config = TrainingConfig(
        epochs=6, batch_size=50, learning_rate=3e-3, flip=True, crop_padding=2, rand_augment=1, mixup=0.2,
        label_smoothing=0.1,
    )  # fmt: skip
    log = fit(small_model(), train, train, config, progress=False)
    assert log[-1].validation_accuracy > 0.4


def test_same_seed_same_weights_other_seed_others(few):
    config = TrainingConfig(epochs=2, batch_size=16, flip=True, crop_padding=2)
    first, second, third = (small_model(hidden_dropout_prob=0.1) for _ in range(3))
    fit(first, few, few, config, progress=False)
    torch.manual_seed(99)  # what was drawn before doesn't count
    fit(second, few, few, config, progress=False)
    fit(third, few, few, replace(config, seed=1), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head.weight, third.head.weight)


def test_each_step_has_its_own_dropout(few):
    seen = []

    class Watching(VisionTransformer):
        def forward(self, images):
            if self.training:
                seen.append(tuple(torch.rand(3).tolist()))
            return super().forward(images)

    model = Watching(ViTConfig(num_channels=1, patch_size=16, num_hidden_layers=1))
    fit(model, few, few.subset(slice(0, 1)), TrainingConfig(epochs=2, batch_size=32), progress=False)
    assert len(seen) == len(set(seen)) == 4


def test_set_seed_seeds_all_three_generators():
    def draws():
        return random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002 - the one that it seeds

    set_seed(5)
    first = draws()
    set_seed(5)
    assert draws() == first
    set_seed(6)
    assert not set(draws()) & set(first)


# ---- the log and the best model


def test_log_and_best_model_are_written(few, tmp_path):
    model, told = small_model(), []
    config = TrainingConfig(epochs=3, batch_size=16)
    log = fit(model, few, few, config, folder=tmp_path / "new", progress=False, on_epoch=told.append)
    best = max(log, key=lambda row: row.validation_accuracy)
    saved = VisionTransformer.load(tmp_path / "new" / "best.safetensors")
    assert evaluate(saved, few).accuracy == pytest.approx(best.validation_accuracy)
    assert [row.epoch for row in read_log(tmp_path / "new" / "log.csv")] == [1, 2, 3]
    with (tmp_path / "new" / "log.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["train_loss"]) == pytest.approx(log[-1].train_loss, rel=1e-5)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"log.csv", "best.safetensors", "last.pt"}
    assert told == log
    assert evaluate(model, few).loss == pytest.approx(log[-1].validation_loss)  # the model passed in is the last one


def test_nothing_is_written_without_a_folder(few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(small_model(), few, few, TrainingConfig(epochs=1), progress=False, save_minutes=0)
    assert not list(tmp_path.iterdir())


def test_a_log_is_read_back(tmp_path):
    log = [Epoch(1, 1e-3, 2.25, 0.125, 2.0, 0.25, 1.5), Epoch(2, 0.0005, 1 / 3, 0.5, 1e-7, 1.0, 2.0)]
    write_log(tmp_path / "log.csv", log)
    read = read_log(tmp_path / "log.csv")
    assert read[0] == log[0]
    assert read[1].train_loss == pytest.approx(1 / 3, rel=1e-5)
    assert type(read[1].epoch) is int


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "marks.csv").write_text("name,mark\nada,1\n")
    with pytest.raises(ValueError, match=r"marks\.csv' is no training log: its columns are \['name', 'mark'\]"):
        read_log(tmp_path / "marks.csv")


@pytest.mark.parametrize("row", ["2,0.1,0.2", "2,0.1,0.2,0.3,often,0.5,6"], ids=["short", "a word"])
def test_a_log_with_a_damaged_line_is_refused_with_its_number(tmp_path, row):
    write_log(tmp_path / "log.csv", [Epoch(1, 1e-3, 2.25, 0.125, 2.0, 0.25, 1.5)])
    with (tmp_path / "log.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(ValueError, match=r"log\.csv': line 3 is no line of a training log"):
        read_log(tmp_path / "log.csv")


def test_train_loss_and_accuracy_are_means_over_images(few):
    """Of a model that is never changed: with the last batch smaller than the others."""
    model = Constant()
    model.logits.requires_grad_(False)
    model.unused = nn.Parameter(torch.zeros(1))
    real = model.forward
    model.forward = lambda images: real(images) + 0 * model.unused
    (row,) = fit(model, few, few, TrainingConfig(epochs=1, batch_size=10), progress=False)
    assert row.train_loss == pytest.approx(row.validation_loss)
    assert row.train_accuracy == pytest.approx((few.labels == 3).float().mean().item())


def prescribed(monkeypatch, accuracies):
    """Let the epochs have these validation accuracies."""
    remaining = list(accuracies)
    nothing = torch.zeros(0)
    monkeypatch.setattr(fit_module, "evaluate", lambda *_: Evaluation(1.0, remaining.pop(0), nothing, nothing, nothing))


def test_the_first_of_equally_good_models_is_kept(few, tmp_path, monkeypatch):
    prescribed(monkeypatch, [0.3, 0.5, 0.4, 0.5])
    model, heads = small_model(), []
    fit(
        model, few, few, TrainingConfig(epochs=4), folder=tmp_path, progress=False,
        on_epoch=lambda row: heads.append(model.head.weight.detach().clone()),
    )  # fmt: skip
    best = VisionTransformer.load(tmp_path / "best.safetensors").head.weight
    assert [torch.equal(best, head) for head in heads] == [False, True, False, False]


def test_a_model_without_right_answers_is_saved_too(few, tmp_path, monkeypatch):
    prescribed(monkeypatch, [0.0])
    fit(small_model(), few, few, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    assert (tmp_path / "best.safetensors").exists()


def test_a_model_of_another_class_is_saved_as_plain_weights(few, tmp_path):
    from vitcourse.storage import read_weights

    model = Constant()
    fit(model, few, few, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    weights, _ = read_weights(tmp_path / "best.safetensors")
    assert torch.equal(weights["logits"], model.logits)


def test_a_model_of_another_library_is_trained_with_its_own_config_and_save(few, tmp_path):
    """Neither is ours: the config may be a dictionary, and `save` may write something else."""
    from vitcourse.storage import read_weights

    model = Constant()
    model.config, model.save = {"size": 10}, lambda path: path.write_text("something else")
    fit(model, few, few, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    assert set(read_weights(tmp_path / "best.safetensors")[0]) == {"logits"}
    fit(model, few, few, TrainingConfig(epochs=1), folder=tmp_path, resume=True, progress=False)


def test_a_hybrid_is_saved_as_plain_weights(few, tmp_path):
    from vitcourse.layers import ConvolutionalStem
    from vitcourse.storage import read_weights

    model = small_model()
    model.patch_embedding = ConvolutionalStem(8, 1, model.config.hidden_size)
    fit(model, few, few, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    weights, notes = read_weights(tmp_path / "best.safetensors")
    assert torch.equal(weights["patch_embedding.projection.weight"], model.patch_embedding.projection.weight)
    assert "config" not in notes


# ---- sets that don't fit


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_labels_without_a_class_are_refused(few, mixup):
    message = r"labels of fashion-mnist go up to 9, and the model has 5 classes: .*num_classes 10.*with_new_head"
    with pytest.raises(ValueError, match=message):
        fit(small_model(num_classes=5), few, few, TrainingConfig(epochs=1, mixup=mixup), progress=False)
    with pytest.raises(ValueError, match=message):
        evaluate(small_model(num_classes=5), few)


@pytest.mark.parametrize("place", [0, 1], ids=["train", "validation"])
def test_labels_are_refused_before_anything_is_written(few, tmp_path, place):
    sets = [few.subset(few.labels < 5)] * 2
    sets[place] = few
    with pytest.raises(ValueError, match="labels of fashion-mnist go up to 9, and the model has 5 classes"):
        fit(small_model(num_classes=5), *sets, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    fit(small_model(), *sets, TrainingConfig(epochs=1), folder=tmp_path, progress=False)


def test_looking_for_the_classes_moves_neither_random_numbers_nor_modes_nor_statistics(few):
    from vitcourse.training.evaluation import check_sets

    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1024), nn.Dropout(), nn.Linear(1024, 10), nn.Dropout()).train()
    model[2].eval()
    model[4].forward = lambda x: x + torch.rand_like(x)
    modes, weights = [part.training for part in model.modules()], copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    check_sets(model, few, few)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_model_is_trained_whatever_it_keeps_from_its_first_pass_or_needs_of_a_batch(few):
    class Keeping(Constant):
        table = None

        def forward(self, images):
            self.table = torch.ones(10) if self.table is None else self.table
            return super().forward(images) * self.table

    fit(Keeping(), few, few, TrainingConfig(epochs=1), progress=False)
    of_the_batch = nn.BatchNorm1d(1024, track_running_stats=False)
    fit(
        nn.Sequential(nn.Flatten(), of_the_batch, nn.Linear(1024, 10)),
        few,
        few,
        TrainingConfig(epochs=1),
        progress=False,
    )


def test_sets_without_images_are_refused(few, tmp_path):
    none = few.subset(slice(0, 0))
    for sets in ((none, few), (few, none)):
        with pytest.raises(ValueError, match="the train images of fashion-mnist are none"):
            fit(small_model(), *sets, TrainingConfig(epochs=1), folder=tmp_path, progress=False)
    with pytest.raises(ValueError, match="are none"):
        evaluate(small_model(), none)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("patience", "accuracies", "epochs"),
    [
        (1, [0.2, 0.3, 0.3, 0.9], 3),
        (2, [0.2, 0.5, 0.4, 0.5, 0.9], 4),  # the first of two equal epochs is the best
        (2, [0.5, 0.4, 0.6, 0.1, 0.7, 0.7, 0.6, 0.8], 7),  # counted anew from each better one
        (3, [0.5, 0.4, 0.3, 0.6], 4),  # not before its time
        (None, [0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 6),
    ],
)
def test_patience_is_counted_from_the_best_epoch(few, monkeypatch, patience, accuracies, epochs):
    prescribed(monkeypatch, accuracies)
    config = TrainingConfig(epochs=len(accuracies), patience=patience)
    log = fit(small_model(), few, few, config, progress=False)
    assert [row.epoch for row in log] == list(range(1, epochs + 1))


# ---- the learning rate


def test_the_cosine_schedule():
    config = TrainingConfig(epochs=10, warmup_epochs=2)
    factors = [learning_rate_factor(step, 100, config) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 201)
    assert factors[199] == pytest.approx(200 / 201)
    assert factors[200] == max(factors) == 1.0
    assert factors[400] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factors[600] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 799 / 800)))
    assert 0 < factors[-1] < 1e-5
    assert all(a < b for a, b in pairwise(factors[:201]))
    assert all(a > b for a, b in pairwise(factors[200:]))


def test_the_linear_schedule():
    config = TrainingConfig(epochs=10, warmup_epochs=2, schedule="linear")
    factors = [learning_rate_factor(step, 100, config) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 201)
    assert factors[200] == 1.0
    assert factors[600] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(1 / 800)


def test_the_constant_schedule():
    config = TrainingConfig(epochs=10, warmup_epochs=2, schedule="constant")
    factors = [learning_rate_factor(step, 100, config) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 201)
    assert set(factors[200:]) == {1.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_without_warmup_the_first_step_is_the_highest(schedule):
    config = TrainingConfig(epochs=3, warmup_epochs=0, schedule=schedule)
    assert learning_rate_factor(0, 5, config) == 1.0


@pytest.mark.parametrize("warmup", [0.25, 2.6, 3, 50])
def test_any_warmup_keeps_the_factor_between_0_and_1(warmup):
    config = TrainingConfig(epochs=3, warmup_epochs=warmup)
    factors = [learning_rate_factor(step, 7, config) for step in range(21)]
    assert all(0 < factor <= 1 for factor in factors)
    rising = min(21, math.ceil(warmup * 7))
    assert all(a < b for a, b in pairwise(factors[:rising]))


def test_each_step_gets_its_learning_rate_and_the_log_the_last_of_an_epoch(few, steps):
    config = TrainingConfig(epochs=3, batch_size=20, learning_rate=2e-3, warmup_epochs=0.5)
    log = fit(small_model(), few, few, config, progress=False)
    expected = [2e-3 * learning_rate_factor(step, 4, config) for step in range(12)]
    assert [rate for rate, _ in steps] == pytest.approx(expected)
    assert [row.learning_rate for row in log] == pytest.approx(expected[3::4])


# ---- the optimizer


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimizer_has_its_two_groups(name, kind):
    optimizer = make_optimizer(small_model(), TrainingConfig(optimizer=name, weight_decay=0.07, learning_rate=0.004))
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.07, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.004, 0.004]


def test_decay_shrinks_a_weight_without_gradient_in_adamw_and_is_scaled_away_in_adam():
    """AdamW: w - lr * decay * w. Adam: the decay is the gradient, and the first step has the length lr."""
    for name, expected in (("adamw", 2 * (1 - 0.1 * 0.05)), ("adam", 2 - 0.1)):
        model = nn.Linear(1, 1)
        model.weight.data.fill_(2.0)
        optimizer = make_optimizer(model, TrainingConfig(optimizer=name, learning_rate=0.1, weight_decay=0.05))
        model.weight.grad, model.bias.grad = torch.zeros(1, 1), torch.zeros(1)
        optimizer.step()
        assert model.weight.item() == pytest.approx(expected, rel=1e-4)


def test_only_matrices_decay():
    model = small_model()
    decayed, others = (group["params"] for group in parameter_groups(model, 0.05))
    assert len(decayed) + len(others) == len(list(model.parameters()))
    assert all(parameter.ndim == 2 for parameter in decayed)
    assert any(parameter is model.class_token for parameter in others)
    assert any(parameter is model.position_embedding.positions for parameter in others)
    assert any(parameter is model.head.bias for parameter in others)
    assert any(parameter is model.norm.weight for parameter in others)
    assert any(parameter is model.head.weight for parameter in decayed)


def test_clip_norm_limits_the_gradient(few, steps):
    for clip_norm in (None, 0.05):
        fit(small_model(), few, few, TrainingConfig(epochs=1, batch_size=16, clip_norm=clip_norm), progress=False)
    free, clipped = ([norm for _, norm in part] for part in (steps[:4], steps[4:]))
    assert min(free) > 0.5
    assert clipped == pytest.approx([0.05] * 4, rel=1e-3)


def test_a_short_gradient_is_not_lengthened(few, steps):
    for clip_norm in (None, 1e6):
        fit(small_model(), few, few, TrainingConfig(epochs=1, batch_size=64, clip_norm=clip_norm), progress=False)
    assert steps[0] == steps[1]


def test_the_gradient_is_the_mean_over_the_images_of_a_batch(few):
    """Also of the last batch, which is smaller."""
    model, seen = Constant(), []
    handle = model.logits.register_hook(lambda gradient: seen.append(gradient.clone()))
    train = few.subset(slice(0, 25))
    fit(model, train, train, TrainingConfig(epochs=1, batch_size=20, clip_norm=None, learning_rate=1e-9,
                                            weight_decay=0.0), progress=False)  # fmt: skip
    handle.remove()
    probabilities = torch.full((10,), 0.1 / 9).index_fill(0, torch.tensor(3), 0.9)
    mean = (seen[0] * 20 + seen[1] * 5) / 25
    torch.testing.assert_close(mean, probabilities - torch.bincount(train.labels, minlength=10) / 25)


def test_label_smoothing_in_closed_form(few):
    config = TrainingConfig(epochs=1, batch_size=64, label_smoothing=0.2)
    (row,) = fit(Constant(), few, few, config, progress=False)
    share = (few.labels == 3).float().mean().item()
    right, wrong = -math.log(0.9), -math.log(0.1 / 9)
    plain = share * right + (1 - share) * wrong
    assert row.train_loss == pytest.approx(0.8 * plain + 0.2 * (right + 9 * wrong) / 10, rel=1e-5)


def test_the_loss_of_mixup_in_closed_form(few):
    """A constant model has the same expected loss, mixed or not: each image is a partner once."""
    (mixed,) = fit(Constant(), few, few, TrainingConfig(epochs=1, batch_size=64, mixup=1.0), progress=False)
    (plain,) = fit(Constant(), few, few, TrainingConfig(epochs=1, batch_size=64), progress=False)
    assert mixed.train_loss == pytest.approx(plain.train_loss, rel=1e-5)


# ---- a loss that is not finite


def test_nan_stops_with_the_step_and_a_way_out(few):
    model = small_model()
    model.head.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"became nan in epoch 1, step 1. Lower learning_rate \(0.001\)"):
        fit(model, few, few, TrainingConfig(epochs=1), progress=False)


@pytest.mark.parametrize(
    ("call", "where", "last"),
    [(0, "epoch 1, step 2", (0, 0)), (5, "epoch 2, step 3", (1, 1)), (7, "the validation of epoch 2", (1, 3))],
)
def test_a_broken_update_is_never_saved(few, tmp_path, call, where, last):
    """A gradient becomes NaN although the loss was finite; `last.pt` is of before."""
    model, calls = small_model(), iter(range(100))
    model.head.bias.register_hook(lambda g: torch.full_like(g, torch.nan) if next(calls) == call else g)
    config = TrainingConfig(epochs=3, batch_size=16)
    with pytest.raises(FloatingPointError, match=f"became nan in {where}"):
        fit(model, few, few, config, folder=tmp_path, save_minutes=0, progress=False)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (len(state["progress"]["log"]), state["progress"]["step"]) == last
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    log = fit(small_model(), few, few, config, folder=tmp_path, resume=True, progress=False)
    assert len(log) == 3


# ---- precision


@pytest.mark.parametrize(("precision", "clip_norm"), [("bfloat16", 1.0), ("float16", 1.0), ("float16", None)])
def test_short_products_train_and_weights_stay_float32(few, precision, clip_norm):
    heads, model = [], small_model()
    model.head.register_forward_hook(lambda module, inputs, output: heads.append((module.training, output.dtype)))
    config = TrainingConfig(epochs=15, batch_size=64, learning_rate=3e-3, precision=precision, clip_norm=clip_norm)
    log = fit(model, few, few, config, progress=False)
    short = getattr(torch, precision)
    assert {dtype for training, dtype in heads if training} == {short}
    assert {dtype for training, dtype in heads if not training} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert log[-1].train_loss < log[0].train_loss / 2


def test_float16_is_scaled_so_that_small_gradients_survive(few, steps):
    """The gradient that reaches the optimizer is that of float32, not the scaled one."""
    for precision in ("float32", "float16"):
        config = TrainingConfig(epochs=5, batch_size=64, precision=precision, clip_norm=1e6, learning_rate=1e-9)
        fit(small_model(), few, few, config, progress=False)
    whole, short = ([norm for _, norm in part if math.isfinite(norm)] for part in (steps[:5], steps[5:]))
    assert len(whole) == 5
    assert len(short) >= 2  # the scale starts too high, and steps are left out until it fits
    assert short == pytest.approx([whole[0]] * len(short), rel=0.05)


@pytest.mark.wide
def test_a_compiled_model_trains_alike(few):
    config = TrainingConfig(epochs=2, batch_size=32)
    plain, compiled = small_model(), small_model()
    first = fit(plain, few, few, config, progress=False)
    second = fit(compiled, few, few, replace(config, compile=True), progress=False)
    assert [row.train_loss for row in first] == pytest.approx([row.train_loss for row in second], rel=1e-3)
    torch.testing.assert_close(plain.head.weight, compiled.head.weight, atol=1e-3, rtol=1e-2)


# ---- the configuration


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 2.5),
        ("optimizer", "sgd"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_epochs", -1),
        ("schedule", "linear?"),
        ("weight_decay", -0.1),
        ("clip_norm", 0.0),
        ("label_smoothing", 1.0),
        ("patience", 0),
        ("flip", 1),
        ("crop_padding", -1),
        ("rand_augment", -2),
        ("rand_augment_magnitude", 31),
        ("mixup", -0.5),
        ("precision", "float8"),
        ("compile", "yes"),
        ("seed", -3),
    ],
)
def test_impossible_values_are_refused_by_name(field, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{field} .*{value}"):
        TrainingConfig(**{field: value})


def test_values_become_plain_ones():
    """No others are read back from a checkpoint."""
    config = TrainingConfig(
        epochs=np.int64(2), optimizer=np.str_("adam"), learning_rate=np.float32(0.5), warmup_epochs=0, clip_norm=1
    )
    assert config == TrainingConfig(epochs=2, optimizer="adam", learning_rate=0.5, warmup_epochs=0.0)
    kinds = [type(value) for value in (config.epochs, config.optimizer, config.learning_rate, config.warmup_epochs)]
    assert kinds == [int, str, float, float]


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"Unknown field 'epoch'"):
        TrainingConfig.from_dict({"epoch": 3})


def test_a_run_says_each_epoch_in_the_log_of_the_package(few, caplog):
    with caplog.at_level(logging.INFO, logger="vitcourse"):
        fit(small_model(), few, few, TrainingConfig(epochs=2), progress=False)
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["Epoch(epoch=1", "Epoch(epoch=2"]
