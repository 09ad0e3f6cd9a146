"""The figures of an evaluation show its numbers; the explorer changes temperature and threshold."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import data, figures, widgets
from vitcourse.training import Evaluation

LABELS = torch.tensor([0, 1, 2, 1])
LOGITS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.1, 0.0]])


@pytest.fixture
def result():
    p = LOGITS.softmax(dim=1)
    predictions = p.argmax(dim=1)
    return Evaluation(0.5, 0.75, p, predictions, LABELS)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_confusion_matrix_shows_counts_and_shares_of_the_row():
    counts = torch.tensor([[3, 1], [0, 2]])
    ax = figures.confusion_matrix(counts, ["a", "b"]).axes[0]
    assert sorted(texts(ax)) == ["1", "2", "3"]
    assert ax.images[0].get_array().tolist() == [[0.75, 0.25], [0, 1]]
    assert ax.images[0].get_clim() == (0, 1)


def test_a_class_that_never_occurs_has_an_empty_row():
    ax = figures.confusion_matrix(torch.tensor([[0, 0], [1, 2]]), ["a", "b"]).axes[0]
    assert ax.images[0].get_array()[0].tolist() == [0, 0]


def test_measures_stand_in_order_of_the_last():
    measures = {"p": torch.tensor([0.5, 0.9]), "f": torch.tensor([0.8, 0.2])}
    (ax,) = figures.class_measures(measures, ["a", "b"]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    assert ax.lines[0].get_xdata().tolist() == pytest.approx([0.9, 0.5])
    seven = {f"{n}": torch.tensor([0.5, 0.9]) for n in range(7)}
    assert len(figures.class_measures(seven, ["a", "b"]).axes[0].lines) == 7


def test_the_worst_mistake_comes_first_with_both_probabilities(result):
    images = data.load("fashion-mnist", split="test").subset(range(4))
    wrong = Evaluation(1.0, 0.0, result.probabilities, result.predictions, torch.tensor([1, 0, 2, 1]))
    shown = [ax.get_title() for ax in figures.worst_mistakes(images, wrong).axes]
    assert [title.count("✗") for title in shown[:3]] == [1, 1, 1]
    assert images.class_names[1] in shown[0]
    assert "0.91" in shown[0]


def test_without_a_mistake_the_figure_of_the_worst_is_empty(result):
    images = data.load("fashion-mnist", split="test").subset(range(4))
    right = Evaluation(1.0, 1.0, result.probabilities, result.predictions, result.predictions)
    assert not any(ax.images or ax.get_title() for ax in figures.worst_mistakes(images, right).axes)


def test_bars_of_reliability_are_accuracies_at_the_bins(result):
    (ax,) = figures.reliability({"a": result}, bins=2).axes
    bars = {round(bar.get_x(), 2): bar.get_height() for bar in ax.patches}
    assert bars == {0.0: 1.0, 0.5: pytest.approx(2 / 3)}
    assert ax.get_title() == "a"


def test_calibration_keeps_the_answers_above_the_threshold():
    left, right = figures.calibration(LOGITS, LABELS, 2.0, 0.5).axes
    assert "2.00" in left.get_title()
    kept = ((LOGITS / 2).softmax(dim=1).amax(dim=1) >= 0.5).sum().item() / 4
    assert right.lines[1].get_xdata()[0] == kept
    assert right.lines[0].get_ydata()[-1] == 0.75


def test_no_answer_above_the_threshold_has_no_dot():
    assert len(figures.calibration(LOGITS, LABELS, 1.0, 0.99).axes[1].lines) == 1


def test_nothing_stays_open(result):
    plt.close("all")
    figures.calibration(LOGITS, LABELS)
    figures.reliability({"a": result})
    assert plt.get_fignums() == []


def test_the_explorer_hands_on_temperature_and_threshold(monkeypatch):
    seen = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "calibration", lambda *values: seen.append(values[2:]))
    explorer = widgets.calibration(LOGITS, LABELS)
    temperature, threshold = explorer.children[:2]
    explorer.update()
    temperature.value, threshold.value = 2.0, 0.75
    assert seen[0] == (1.0, 0.5)
    assert seen[-1] == (2.0, 0.75)
