"""The figures of the ingredients of a training show its numbers."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest

from vitcourse import figures
from vitcourse.training import Epoch


def test_an_ablation_has_a_dot_for_each_seed_and_a_bar_at_the_mean():
    (ax,) = figures.ablation({"a": [1.0, 2.0, 6.0], "b": [-1.0, 0.0, 1.0]}, spread=0.5).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    dots = [list(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [[1, 2, 6], [-1, 0, 1]]
    assert list(ax.lines[1].get_xdata()) == [3, 3]
    assert ax.yaxis_inverted()
    assert len(ax.patches) == 1
    assert not figures.ablation({"a": [1.0]}).axes[0].patches


def test_learning_rates_are_drawn_by_epoch_with_names():
    (ax,) = figures.learning_rates({"a": [0.0, 0.5, 1.0], "b": [1.0, 1.0, 1.0]}, steps_per_epoch=2).axes
    assert list(ax.lines[0].get_xdata()) == [0, 0.5, 1]
    assert list(ax.lines[0].get_ydata()) == [0, 0.5, 1]
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def test_runs_are_compared_solid_and_dashed():
    log = [Epoch(t, 0.1, 2.0 / t, 0.5, 3.0 / t, 0.4, 1.0) for t in (1, 2)]
    loss, accuracy = figures.compare_runs({"a": log, "b": log[:1]}).axes
    assert [line.get_linestyle() for line in loss.lines] == ["-", "--"] * 2
    assert list(loss.lines[0].get_ydata()) == pytest.approx([3, 1.5])
    assert list(loss.lines[1].get_ydata()) == pytest.approx([2, 1])
    assert list(accuracy.lines[0].get_ydata()) == [0.4, 0.4]
    assert [text.get_text() for text in loss.texts] == ["a", "b"]


def test_every_run_is_drawn_however_many_there_are():
    log = [Epoch(t, 0.1, 2.0 / t, 0.5, 3.0 / t, 0.4, 1.0) for t in (1, 2)]
    loss, accuracy = figures.compare_runs({f"{n}": log for n in range(8)}).axes
    assert len(loss.lines) == len(accuracy.lines) == 16
    assert len(loss.texts) == 8


def test_nothing_stays_open():
    plt.close("all")
    figures.ablation({"a": [1.0]})
    figures.learning_rates({"a": [1.0]})
    assert plt.get_fignums() == []
