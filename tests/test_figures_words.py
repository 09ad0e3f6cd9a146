"""The figures of notebook 01 show the numbers that they are given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import figures


def test_neighbours_are_sorted_by_cosine_and_leave_the_word_out():
    vectors = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    (ax,) = figures.neighbours(vectors, ["a", "b", "c", "d", "e"], "a", k=3).axes
    assert ax.get_title() == "a"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["d", "b", "c"]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([1.0, 0.6, 0.0])


def test_forgetting_draws_each_run_and_the_geometric_mean_on_a_log_axis():
    runs = torch.tensor([[1.0, 0.1, 0.01], [3.0, 0.3, 0.03]])
    (ax,) = figures.forgetting({"x": runs, "y": 2 * runs}, distance=1, pair="p").axes
    assert ax.get_yscale() == "log"
    drawn = [torch.tensor(line.get_ydata()) for line in ax.lines]
    torch.testing.assert_close(drawn[0], runs[0])
    torch.testing.assert_close(drawn[2], 3**0.5 * runs[0])
    torch.testing.assert_close(drawn[5], 2 * 3**0.5 * runs[0])
    assert list(ax.lines[6].get_xdata()) == [1, 1]
    assert {text.get_text() for text in ax.texts} == {"x", "y", "p"}


def test_recall_has_a_panel_for_each_task_and_a_line_for_chance():
    curves = {"x": torch.tensor([[1.0, 0.5], [0.8, 0.3]]), "y": torch.ones(2, 2)}
    left, right = figures.recall({"s": curves, "t": {"x": torch.zeros(1, 2)}}, chance=0.25).axes
    assert (left.get_title(), right.get_title()) == ("s", "t")
    assert list(left.lines[2].get_ydata()) == pytest.approx([0.9, 0.4])
    assert left.lines[-1].get_ydata()[0] == right.lines[-1].get_ydata()[0] == 0.25
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["x", "y"]


def test_nothing_stays_open():
    plt.close("all")
    figures.forgetting({"x": torch.ones(1, 3)})
    figures.neighbours(torch.eye(3), ["a", "b", "c"], "b")
    figures.recall({"s": {"x": torch.ones(1, 2)}}, chance=0.5)
    assert plt.get_fignums() == []
