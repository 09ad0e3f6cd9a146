"""The figures of the encoder show what they are given; its explorer follows the sliders."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vitcourse import figures, widgets

NORMS = {(s, order): [[2.0 + s] * depth for depth in (2, 6)] for s in (-1, 0, 1) for order in (True, False)}


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_layer_norm_marks_one_token_and_batch_norm_one_feature():
    left, right = figures.normalised_together(batch=3, tokens=4, width=5).axes
    plain = matplotlib.colors.to_rgba("#eeeeee")

    def marked(ax):
        return sum(cell.get_facecolor() != plain for cell in ax.patches)

    # Visible faces: front, top and right. One token: 5 in front, 5 on top, 1 on the right.
    assert marked(left) == 5 + 5 + 1
    # One feature of 4 tokens in 3 sequences: 4 in front, 3 on top, 12 on the right.
    assert marked(right) == 4 + 3 + 12


def test_lines_by_depth_hold_their_values_and_labels():
    figure = figures.by_depth({"$a$": [0, 1, 2], "$b$": [0, 1, 2.001]}, "y", start=1)
    (ax,) = figure.axes
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3]
    assert list(ax.lines[1].get_ydata()) == [0, 1, 2.001]
    assert texts(figure) == ["$a$", "$b$"]
    heights = [text.xy[1] for text in ax.texts]
    assert heights[1] - heights[0] > 0.04  # side by side they would overlap


def test_gradients_are_drawn_for_each_encoder_on_one_scale():
    pre, post = figures.gradients_by_depth([[1, 2], [1, 2, 3]], [[4, 5], [4, 5, 6]]).axes
    assert [list(line.get_ydata()) for line in pre.lines[::2]] == [[1, 2], [1, 2, 3]]
    assert [list(line.get_ydata()) for line in post.lines[::2]] == [[4, 5], [4, 5, 6]]
    assert pre.get_ylim() == post.get_ylim()
    assert [text.get_text() for text in pre.texts] == ["$2$", "$3$"]
    assert [text.get_position()[0] for text in pre.texts] == [2, 3]  # above their last blocks
    five = [[1.0] * depth for depth in range(2, 7)]
    assert [len(ax.texts) for ax in figures.gradients_by_depth(five, five).axes] == [5, 5]


def test_runs_show_losses_smoothed_and_cosines_as_they_are():
    run = (np.linspace(1, 0, 20), np.linspace(0, 1, 20))
    left, right = figures.runs_by_step({"$a$": [run, run], "$b$": [run]}).axes
    assert [len(ax.lines) for ax in (left, right)] == [3, 3]
    assert len(left.lines[0].get_ydata()) == 20 - 7
    assert left.lines[0].get_xdata()[-1] == right.lines[0].get_xdata()[-1] == 19
    assert list(right.lines[0].get_ydata()) == list(run[1])
    assert [text.get_text() for text in right.texts] == ["$a$", "$b$"]


def test_labels_that_touch_are_shared_out_around_their_lines():
    (ax,) = figures.by_depth({"$a$": [0, 1.0], "$b$": [0, 1.001], "$c$": [0, 0]}, "y").axes
    a, b, c = (text.xy[1] for text in ax.texts)
    middle = (ax.transScale + ax.transLimits).transform((1, 1.0005))[1]
    assert (a + b) / 2 == pytest.approx(middle, abs=0.01)
    assert a < middle < b
    assert c == pytest.approx((ax.transScale + ax.transLimits).transform((1, 0))[1], abs=0.01)


def test_losses_are_smoothed_over_the_steps_before():
    (ax,) = figures.losses_by_step({"$a$": [4, 2, 0, 2]}, width=2).axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([3, 1, 1])


def test_drawings_name_their_parts():
    drawn = texts(figures.encoder_blocks())
    assert drawn.count("LN") == 4
    assert drawn.count("MSA") == drawn.count("MLP") == 2
    drawn = texts(figures.transformer())
    assert {"MSA", r"MSA$_{\leq n}$", "MCA", "$K, V$", "$Q$"} <= set(drawn)
    assert drawn.count("MLP") == 2
    assert drawn.count("PE") == 2


def test_figures_leave_nothing_open():
    plt.close("all")
    figures.encoder_blocks()
    figures.transformer()
    figures.normalised_together()
    figures.gradients_by_depth([[1, 2]], [[1, 2]])
    assert plt.get_fignums() == []


def test_explorer_shows_the_chosen_deviation_and_depths(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets.explorers, "display", shown.append)
    explorer = widgets.gradients_by_depth(NORMS)
    explorer.update()
    s, n = explorer.children[:2]
    assert (s.min, s.max, s.value, n.min, n.max, n.value) == (-1, 1, 0, 1, 2, 2)
    s.value, n.value = 1, 1
    left, right = shown[-1].axes
    assert [list(line.get_ydata()) for line in left.lines[::2]] == [[3.0, 3.0]]
    assert left.get_ylim() == right.get_ylim() == shown[0].axes[0].get_ylim()
