"""The measures of a model: closed forms, made by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitcourse import VisionTransformer, ViTConfig, data
from vitcourse.training import Evaluation, evaluate


@pytest.fixture(scope="module")
def few():
    return data.load("fashion-mnist", "train").subset(slice(0, 64))


def judged(probabilities, labels):
    probabilities, labels = torch.tensor(probabilities), torch.tensor(labels)
    predictions = probabilities.argmax(1)
    return Evaluation(
        loss=0.0,
        accuracy=(predictions == labels).float().mean().item(),
        probabilities=probabilities,
        predictions=predictions,
        labels=labels,
    )


def said(predictions, labels, classes):
    """The evaluation of a model that is sure of each of its answers."""
    return judged((F.one_hot(torch.tensor(predictions), classes) * 0.9 + 0.1 / classes).tolist(), labels)


class Constant(nn.Module):
    """Always says class 3, with the logits of a coin that falls so in 90 % of all throws."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.full((10,), math.log(0.1 / 9)))
        self.logits.data[3] = math.log(0.9)

    def forward(self, images):
        return self.logits.expand(len(images), 10)


# ---- evaluate


def test_loss_and_accuracy_in_closed_form(few):
    result = evaluate(Constant(), few)
    share = (few.labels == 3).float().mean().item()
    assert result.accuracy == pytest.approx(share)
    assert result.loss == pytest.approx(-share * math.log(0.9) - (1 - share) * math.log(0.1 / 9), rel=1e-5)
    assert torch.equal(result.labels, few.labels)
    assert set(result.predictions.tolist()) == {3}
    torch.testing.assert_close(result.probabilities[5], torch.full((10,), 0.1 / 9).index_fill(0, torch.tensor(3), 0.9))


def test_the_first_loss_is_that_of_guessing():
    """With the usual small weights all classes are equally likely, whatever the image."""
    model = VisionTransformer(ViTConfig(num_channels=1))
    few = data.load("fashion-mnist", "validation").subset(slice(0, 200))
    assert evaluate(model, few).loss == pytest.approx(math.log(10), abs=0.1)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_mode_is_used_and_put_back(few, training):
    model = VisionTransformer(ViTConfig(num_channels=1, patch_size=8, hidden_dropout_prob=0.5)).train(training)
    whole, parts = evaluate(model, few), evaluate(model, few, batch_size=7)
    torch.testing.assert_close(whole.probabilities, parts.probabilities)
    assert model.training == training


def test_a_part_that_is_in_another_mode_stays_in_it(few):
    model = VisionTransformer(ViTConfig(num_channels=1, patch_size=8)).train()
    model.blocks[0].eval()  # frozen, for example
    evaluate(model, few)
    assert model.training
    assert not any(part.training for part in model.blocks[0].modules())
    assert all(part.training for part in model.blocks[1].modules())


def test_the_middle_of_larger_images_is_judged(few):
    from dataclasses import replace

    seen = []

    class Watching(Constant):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    evaluate(Watching(), replace(few, size=(20, 28)))
    assert torch.equal(torch.cat(seen), few.inputs()[:, :, 6:26, 2:30])


def test_labels_without_a_class_are_refused_after_the_first_batch(few):
    passes, model = [], VisionTransformer(ViTConfig(num_channels=1, patch_size=8, num_classes=5))
    model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(ValueError, match="labels of fashion-mnist go up to 9, and the model has 5 classes"):
        evaluate(model, few, batch_size=7)
    assert len(passes) == 1


# ---- measures


def test_top_k():
    result = judged([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], [2, 1, 2, 2])
    assert result.top_k(1) == pytest.approx(result.accuracy) == pytest.approx(1 / 4)
    assert result.top_k(2) == pytest.approx(3 / 4)
    assert result.top_k(3) == 1


@pytest.mark.parametrize("k", [0, 4])
def test_top_k_of_more_classes_than_there_are_is_refused(k):
    with pytest.raises(ValueError, match=f"k must be at .*{k}"):
        judged([[0.1, 0.2, 0.7]], [2]).top_k(k)


# Truth 0 0 0 0 1 1 2, answers 0 0 0 1 1 2 0; class 3 is neither there nor said.
HAND_MADE = ([0, 0, 0, 1, 1, 2, 0], [0, 0, 0, 0, 1, 1, 2], 4)


def test_a_row_of_the_confusion_is_a_true_class():
    expected = [[3, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert said(*HAND_MADE).confusion().tolist() == expected


def test_precision_recall_and_f1_of_each_class():
    measures = said(*HAND_MADE).per_class()
    assert set(measures) == {"precision", "recall", "f1_score"}
    assert measures["precision"].tolist() == pytest.approx([3 / 4, 1 / 2, 0, 0])
    assert measures["recall"].tolist() == pytest.approx([3 / 4, 1 / 2, 0, 0])
    assert measures["f1_score"].tolist() == pytest.approx([3 / 4, 1 / 2, 0, 0])
    other = said([0, 0, 1, 0, 0], [0, 1, 1, 1, 2], 3).per_class()
    assert other["precision"].tolist() == pytest.approx([1 / 4, 1, 0])
    assert other["recall"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert other["f1_score"].tolist() == pytest.approx([2 / 5, 1 / 2, 0])


def test_balanced_accuracy_counts_each_class_that_occurs_the_same():
    assert said(*HAND_MADE).balanced_accuracy() == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)  # class 3 is absent
    assert said([3, 3, 0], [0, 0, 0], 4).balanced_accuracy() == pytest.approx(1 / 3)  # class 3 said, never there


def test_macro_f1_is_over_the_classes_that_occur_or_were_said():
    assert said(*HAND_MADE).macro_f1() == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert said([3, 3, 0], [0, 0, 0], 4).macro_f1() == pytest.approx((1 / 2 + 0) / 2)


def test_measures_are_not_accuracy_when_classes_are_uneven():
    uneven = said([0] * 10, [0] * 9 + [1], 2)
    assert uneven.accuracy == pytest.approx(0.9)
    assert uneven.balanced_accuracy() == pytest.approx(0.5)
    assert uneven.macro_f1() == pytest.approx((18 / 19 + 0) / 2)


def test_calibration_error_of_a_hand_made_example():
    """Two bins: of four answers at confidence 0.9, three are right; of two at 0.6, none."""
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    result = judged([sure] * 4 + [unsure] * 2, [0, 0, 0, 1, 1, 1])
    assert result.calibration_error(10) == pytest.approx(4 / 6 * (0.9 - 0.75) + 2 / 6 * (0.6 - 0))
    # One bin: confidence 0.8 on average, half of the answers right.
    assert result.calibration_error(1) == pytest.approx(0.8 - 0.5)


def test_a_calibrated_model_has_no_calibration_error():
    result = judged([[0.75, 0.25]] * 4, [0, 0, 0, 1])
    assert result.calibration_error() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        result.calibration_error(0)
