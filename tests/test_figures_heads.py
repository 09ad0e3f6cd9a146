"""The figures of notebook 04 show their numbers; the explorer covers every head and word."""

from fractions import Fraction

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import figures, widgets

WORDS = ["the", "jaguar", "slept"]


@pytest.fixture
def scores():
    return torch.randn(4, 3, 3)


def test_one_row_draws_each_case_and_shades_where_a_threshold_works():
    shares = torch.linspace(0, 1, 5)
    cases = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    outputs = cases @ torch.stack([shares, 1 - shares])
    left, right = figures.one_row(shares, outputs, cases).axes
    for ax in (left, right):
        for line, output in zip(ax.lines, outputs, strict=True):
            assert (line.get_ydata() == output.numpy()).all()
    assert [line.get_linestyle() for line in left.lines] == ["-", "-", "--", "--"]
    assert [line.get_linestyle() for line in right.lines] == ["-", "--", "-", "--"]
    shaded = [ax.collections[0].get_paths()[0].get_extents() for ax in (left, right)]
    assert shaded[0].x0 > 0.5 > shaded[1].x1


def test_heads_stand_side_by_side_under_their_titles(scores):
    weights = scores.softmax(dim=-1)
    *axes, bar = figures.attention_heads(weights, WORDS, list("abcd")).axes
    assert [ax.get_title() for ax in axes] == list("abcd")
    for ax, matrix in zip(axes, weights, strict=True):
        assert (ax.images[0].get_array() == matrix.numpy()).all()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == WORDS
    for tick, label in zip(bar.get_yticks(), bar.get_yticklabels(), strict=True):
        assert tick == pytest.approx(float(Fraction(label.get_text())))


@pytest.mark.parametrize(("h", "i", "relations"), [(1, 1, [0, 1, 2, 3]), (2, 2, [1, 3]), (3, 1, [0, 3]), (4, 3, [2])])
def test_relations_are_dealt_to_the_heads(scores, h, i, relations):
    above, below, _ = figures.dealt_heads(scores, WORDS, h, i, n=2).axes
    expected = scores[relations].sum(dim=0).softmax(dim=-1)
    torch.testing.assert_close(torch.tensor(above.images[0].get_array().data), expected)
    rows = torch.tensor(below.images[0].get_array().data)
    assert rows.shape == (h, 3)  # no empty row
    torch.testing.assert_close(rows[i - 1], expected[1])
    assert (below.get_title(), len(below.get_yticklabels())) == ("jaguar", h)


def test_a_head_beyond_the_last_is_the_last(scores):
    a, b = (figures.dealt_heads(scores, WORDS, h=2, i=i).axes[0].images[0].get_array() for i in (2, 4))
    assert (a.filled(-1) == b.filled(-1)).all()


def test_figures_leave_nothing_open(scores):
    plt.close("all")
    figures.dealt_heads(scores, WORDS)
    figures.attention_heads(scores.softmax(dim=-1), WORDS, list("abcd"))
    assert plt.get_fignums() == []


def test_the_explorer_covers_every_head_and_word(scores, monkeypatch):
    shown = []
    monkeypatch.setattr(widgets.explorers, "display", shown.append)
    explorer = widgets.dealt_heads(scores, WORDS, n=2)
    ranges = {child.description: (child.min, child.max, child.value) for child in explorer.children[:3]}
    assert ranges == {"h": (1, 4, 4), "i": (1, 4, 1), "n": (1, 3, 2)}
    explorer.children[0].value = 2
    assert shown[-1].axes[0].get_title() == "$h = 2$, $i = 1$"
