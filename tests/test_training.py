"""Training learns, repeats itself under a seed, keeps the best model and refuses nonsense."""

import csv
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.training import (
    TrainingConfig,
    augment,
    batches,
    evaluate,
    fit,
    learning_rate_factor,
    parameter_groups,
    read_log,
    set_seed,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def few():
    return data.load("fashion-mnist", "train").subset(slice(0, 64))


def small_model(seed=0):
    set_seed(seed)
    return VisionTransformer(ViTConfig(num_channels=1, patch_size=8, num_hidden_layers=2, initializer_range=0.08))


def test_overfits_one_batch(few):
    model = small_model()
    config = TrainingConfig(epochs=60, batch_size=64, learning_rate=5e-3, warmup_epochs=2, weight_decay=0.0)
    log = fit(model, few, few, config, progress=False)
    assert log[-1].validation_accuracy == 1.0


def test_the_first_loss_is_that_of_guessing():
    """With the usual small weights all classes are equally likely, whatever the image."""
    model = VisionTransformer(ViTConfig(num_channels=1))
    assert evaluate(model, data.load("fashion-mnist", "validation")).loss == pytest.approx(math.log(10), abs=0.1)


def test_same_seed_same_weights_other_seed_other_order(few):
    config = TrainingConfig(epochs=2, batch_size=16, flip=True, crop_padding=2)
    first, second, third = small_model(), small_model(), small_model()
    fit(first, few, few, config, progress=False)
    fit(second, few, few, config, progress=False)
    fit(third, few, few, replace(config, seed=1), progress=False)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, third.head.weight)


def test_an_epoch_shows_every_image_once(few):
    config = TrainingConfig(batch_size=10)
    shown = torch.cat([images for images, _ in batches(few, config, 0, CPU)])
    assert len(shown) == 64
    assert torch.equal(shown.sum((1, 2, 3)).sort().values, few.inputs().sum((1, 2, 3)).sort().values)
    again = torch.cat([images for images, _ in batches(few, config, 1, CPU)])
    assert not torch.equal(shown, again)


def test_labels_stay_with_their_images(few):
    label_of = {image.numpy().tobytes(): int(label) for image, label in zip(few.inputs(), few.labels, strict=True)}
    for images, labels in batches(few, TrainingConfig(batch_size=10), 0, CPU):
        assert [label_of[image.numpy().tobytes()] for image in images] == labels.tolist()


def test_flip_mirrors_about_half_of_the_images_each_by_itself():
    images = torch.arange(400 * 2 * 3, dtype=torch.uint8).reshape(400, 1, 2, 3)
    flipped = augment(images, flip=True, crop_padding=0, generator=torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(-1)).all((1, 2, 3))
    untouched = (flipped == images).all((1, 2, 3))
    assert torch.all(mirrored | untouched)
    assert 150 < mirrored.sum() < 250


def test_crop_shifts_each_image_by_at_most_the_padding():
    images = torch.zeros(300, 1, 7, 9, dtype=torch.uint8)
    images[:, :, 3, 4] = 255
    shifted = augment(images, flip=False, crop_padding=2, generator=torch.Generator().manual_seed(0))
    rows, columns = shifted[:, 0].nonzero()[:, 1:].unbind(1)
    assert shifted.shape == images.shape
    assert set(rows.tolist()) == {1, 2, 3, 4, 5}
    assert set(columns.tolist()) == {2, 3, 4, 5, 6}


def test_evaluation_mode_is_used_and_put_back(few):
    model = VisionTransformer(ViTConfig(num_channels=1, patch_size=8, hidden_dropout_prob=0.5)).train()
    whole, parts = evaluate(model, few), evaluate(model, few, batch_size=7)
    torch.testing.assert_close(whole.probabilities, parts.probabilities)
    assert model.training


def test_evaluation_in_closed_form(few):
    class Constant(nn.Module):
        """Always says class 3, with the logits of a coin that falls so in 90 % of all throws."""

        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.full((10,), math.log(0.1 / 9)))
            self.logits.data[3] = math.log(0.9)

        def forward(self, images):
            return self.logits.expand(len(images), 10)

    result = evaluate(Constant(), few)
    share = (few.labels == 3).float().mean().item()
    assert result.accuracy == pytest.approx(share)
    assert result.loss == pytest.approx(-share * math.log(0.9) - (1 - share) * math.log(0.1 / 9), rel=1e-5)


def test_log_and_best_model_are_written(few, tmp_path):
    model = small_model()
    log = fit(model, few, few, TrainingConfig(epochs=3, batch_size=16), folder=tmp_path, progress=False)
    best = max(log, key=lambda row: row.validation_accuracy)
    assert evaluate(VisionTransformer.load(tmp_path / "best.safetensors"), few).accuracy == pytest.approx(
        best.validation_accuracy
    )
    assert [row.epoch for row in read_log(tmp_path / "log.csv")] == [1, 2, 3]
    with (tmp_path / "log.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["train_loss"]) == pytest.approx(log[-1].train_loss, rel=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "best.safetensors"}


def test_nan_stops_with_the_step_and_a_way_out(few):
    model = small_model()
    model.head.weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 1. Lower learning_rate"):
        fit(model, few, few, TrainingConfig(epochs=1), progress=False)


def test_schedule():
    config = TrainingConfig(epochs=10, warmup_epochs=2)
    factors = [learning_rate_factor(step, 100, config) for step in range(1000)]
    assert factors[0] < 0.01
    assert factors[200] == max(factors) == 1.0
    assert factors[600] == pytest.approx(0.5)
    assert factors[-1] < 1e-4
    assert all(a <= b for a, b in pairwise(factors[:201]))
    constant = TrainingConfig(epochs=10, warmup_epochs=2, schedule="constant")
    assert learning_rate_factor(999, 100, constant) == 1.0


def test_only_matrices_decay():
    model = small_model()
    decayed, others = (group["params"] for group in parameter_groups(model, 0.05))
    assert len(decayed) + len(others) == len(list(model.parameters()))
    assert all(parameter.ndim == 2 for parameter in decayed)
    assert any(parameter is model.class_token for parameter in others)
    assert any(parameter is model.position_embedding.positions for parameter in others)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 2.5),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_epochs", -1),
        ("schedule", "linear?"),
        ("weight_decay", -0.1),
        ("clip_norm", 0.0),
        ("label_smoothing", 1.0),
        ("flip", 1),
        ("crop_padding", -1),
    ],
)
def test_impossible_values_are_refused_by_name(field, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{field} .*{value}"):
        TrainingConfig(**{field: value})


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match=r"Unknown field 'epoch'"):
        TrainingConfig.from_dict({"epoch": 3})
