"""The figures of notebook 02 show the encodings and similarities that they are given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from vitcourse import figures, functional, widgets


def pixels(ax):
    return torch.tensor(ax.images[0].get_array().data)


def test_each_wave_is_above_the_middle_where_its_bit_is_one():
    fig = figures.bits_and_waves(8)
    bits = functional.binary_encoding(8)
    assert len(fig.axes) == 3
    for b, ax in enumerate(fig.axes):
        wave, step = ax.lines
        assert list(step.get_ydata()[:-1]) == (2 * bits[:, b] - 1).tolist()
        middle = [y for x, y in zip(*wave.get_data(), strict=True) if abs(x - 5) < 0.02]
        assert (min(middle) > 0) == bool(bits[5, b])


@pytest.mark.parametrize(("length", "dim", "base"), [(2, 2, 10.0), (7, 6, 100.0), (128, 128, 1e6)])
def test_the_table_its_products_and_their_middle_row(length, dim, base):
    fig = figures.sinusoidal_positions(length, dim, base)
    table = functional.sinusoidal_encoding(length, dim, base)
    products = table @ table.T / (dim / 2)
    shown = [ax for ax in fig.axes if ax.images and ax.get_title()]
    torch.testing.assert_close(pixels(shown[0]), table)
    torch.testing.assert_close(pixels(shown[1]), products)
    (curve,) = next(ax for ax in fig.axes if ax.get_xlabel() == "$k = pos' - pos$").lines
    distance, height = (torch.as_tensor(part) for part in curve.get_data())
    torch.testing.assert_close(height, products[length // 2])
    assert height[distance == 0] == pytest.approx(1)


def test_colours_are_symmetric_about_zero():
    fig = figures.position_similarities([torch.randn(5, 3)], ["a"])
    for ax in (*fig.axes[:1], *figures.sinusoidal_positions(4, 4).axes[:2]):
        assert ax.images[0].get_clim() == (-1, 1)
        assert ax.images[0].get_cmap().name == "RdBu_r"


def test_similarities_are_cosines_and_lengths_do_not_matter():
    table = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    left, right = figures.position_similarities([table, 5 * table], ["a", "b"]).axes[:2]
    expected = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    torch.testing.assert_close(pixels(left), expected)
    torch.testing.assert_close(pixels(right), expected)
    assert [left.get_title(), right.get_title()] == ["a", "b"]


def test_a_grid_shows_rows_downwards_and_rings_the_cell():
    table = torch.eye(6)
    ax = figures.grid_similarities([table], ["a"], grid_size=(2, 3), cell=(1, 0)).axes[0]
    torch.testing.assert_close(pixels(ax), torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    (ring,) = ax.lines
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0, 1)


def test_the_figures_take_learned_tables_and_leave_nothing_open():
    plt.close("all")
    table = torch.nn.Parameter(torch.randn(6, 4))
    figures.position_similarities([table], ["a"])
    figures.grid_similarities([table], ["a"], (2, 3), (0, 0))
    figures.sinusoidal_positions()
    figures.bits_and_waves()
    assert plt.get_fignums() == []


def test_the_explorer_moves_length_width_and_base(monkeypatch):
    drawn = []
    monkeypatch.setattr(widgets.explorers, "display", lambda figure: None)
    monkeypatch.setattr(widgets.explorers.figures, "sinusoidal_positions", lambda *values: drawn.append(values))
    explorer = widgets.positions()
    explorer.update()
    explorer.children[1].value = 1
    explorer.children[2].value = 1
    assert drawn[0] == (64, 32, 10000.0)
    assert drawn[-1] == (64, 2, 10.0)
