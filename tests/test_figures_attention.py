"""The figures of attention show the numbers that they are given."""

import itertools

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import figures, widgets

KEY = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
VALUE = torch.tensor([[9.0, 1.0], [2.0, 8.0], [1.0, 1.0]])


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_matrix_has_a_row_for_each_query_and_colours_from_0_to_1():
    _, ax = plt.subplots()
    weights = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]], requires_grad=True)
    assert figures.attention_matrix(weights, ["p", "q"], ["a", "b", "c"], ax, "w") is ax
    drawn = ax.images[0]
    torch.testing.assert_close(torch.tensor(drawn.get_array().data), weights.detach())
    assert drawn.get_clim() == (0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["p", "q"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]
    assert texts(ax) == ["0.90", "0.10", "0.00", "0.20", "0.30", "0.50"]
    assert [text.get_position() for text in ax.texts][2] == (2, 0)
    plt.close("all")


@pytest.mark.parametrize(("size", "values", "expected"), [(7, None, 0), (7, True, 49), (3, False, 0)])
def test_weights_are_written_where_there_is_room_or_as_asked(size, values, expected):
    _, ax = plt.subplots()
    figures.attention_matrix(torch.eye(size), range(size), range(size), ax, values=values)
    assert len(ax.texts) == expected
    plt.close("all")


def test_a_bar_is_drawn_on_request():
    fig, ax = plt.subplots()
    figures.attention_matrix(torch.eye(3), "abc", "abc", ax)
    assert len(fig.axes) == 1
    figures.attention_matrix(torch.eye(3), "abc", "abc", ax, bar=True)
    assert len(fig.axes) == 2
    plt.close("all")


def test_the_soft_dictionary_fetches_what_attention_fetches():
    query = torch.tensor([1.0, 0.5])
    weights = (KEY @ query).softmax(dim=0)
    plane, bars, target = figures.soft_dictionary(query, KEY, VALUE, ["a", "b", "c"]).axes
    assert {"a", "b", "c", "$q$"} <= set(texts(plane))
    assert [bar.get_width() for bar in bars.patches] == pytest.approx(weights.tolist())
    star = next(line for line in target.lines if line.get_marker() == "*")
    assert [star.get_xdata()[0], star.get_ydata()[0]] == pytest.approx((weights @ VALUE).tolist())


def test_the_soft_dictionary_takes_a_query_of_length_0():
    figures.soft_dictionary(torch.zeros(2), KEY, VALUE, "abc").canvas.draw()


def test_saturation_draws_each_scaling_in_each_panel():
    curves = {"$s$": {"a": [1.0, 2.0, 4.0], "b": [1.0, 1.0, 1.0]}, "$H$": {"a": [0.9, 0.5, 0.1], "b": [0.9, 0.8, 0.8]}}
    spread, entropy = figures.saturation([1, 4, 16], curves).axes
    assert [list(line.get_ydata()) for line in spread.lines] == list(curves["$s$"].values())
    assert (spread.get_yscale(), entropy.get_yscale()) == ("log", "linear")
    assert entropy.get_ylim()[0] == 0
    assert sorted(texts(spread)) == ["a", "b"]


def test_costs_are_drawn_as_lines_circles_and_crosses():
    predicted = {"linear": [1.0, 2.0, 4.0], "square": [0.5, 2.0, 8.0]}
    timed = {"linear": [2.0, 3.0, 5.0], "square": [1.0, 2.5, 9.0]}
    (ax,) = figures.attention_cost([16, 32, 64], predicted, predicted, timed, {"2C": 32}).axes
    drawn = {mark: [list(line.get_ydata()) for line in ax.lines if line.get_marker() == mark] for mark in "ox"}
    assert drawn == {"o": list(predicted.values()), "x": list(timed.values())}
    assert [list(line.get_xdata()) for line in ax.lines if line.get_linestyle() == ":"] == [[32, 32]]
    assert {"2C", "linear", "square"} == set(texts(ax))


def test_more_lines_than_looks_are_all_drawn():
    many = {f"{n}": [n + 1.0, n + 2.0] for n in range(7)}
    (ax,) = figures.saturation([1, 4], {"$s$": many}).axes
    assert [list(line.get_ydata()) for line in ax.lines] == list(many.values())
    (ax,) = figures.attention_cost([1, 4], many, many, many, {}).axes
    assert len(ax.lines) == 3 * len(many)


def test_labels_of_lines_that_end_together_are_kept_apart():
    curves = {"$s$": {"a": [1.0, 3.0], "b": [1.0, 3.0], "c": [1.0, 2.99]}}
    (ax,) = figures.saturation([1, 4], curves).axes
    heights = sorted(text.xy[1] for text in ax.texts)
    assert min(b - a for a, b in itertools.pairwise(heights)) > 0.04


def test_nothing_stays_open():
    plt.close("all")
    figures.soft_dictionary(torch.ones(2), KEY, VALUE, "abc")
    figures.saturation([1, 4], {"$s$": {"a": [1.0, 3.0]}})
    assert plt.get_fignums() == []


def test_the_explorer_turns_and_stretches_the_query(monkeypatch):
    queries = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "soft_dictionary", lambda query, *rest: queries.append(query))
    explorer = widgets.soft_dictionary(KEY, VALUE, "abc")
    angle, length = explorer.children[:2]
    explorer.update()
    length.value, angle.value = 2.0, 90
    torch.testing.assert_close(queries[-1], torch.tensor([0.0, 2.0]))
