"""What all tests share: a seed before each one, and the option `--all` for the wide ones."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads slow each other down

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run the tests marked `wide`")


def pytest_configure(config):
    config.addinivalue_line("markers", "wide: takes long or much memory; runs only with --all")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    for item in items:  # notebook cells too, which carry no such mark
        if item.get_closest_marker("wide"):
            item.add_marker(pytest.mark.skip(reason="wide: runs with --all"))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _figures_can_be_read(request, monkeypatch):
    """After a test of figures: each one that was drawn has readable text, and tells nothing by colour alone."""
    if not request.module.__name__.startswith("test_figures"):
        yield
        return
    from matplotlib import rc_context, style
    from matplotlib.figure import Figure
    from seen import by_colour_alone, pale_texts

    from vitcourse.figures.style import STYLE

    drawn, make = [], Figure.__init__

    def kept(self, *args, **kwargs):
        make(self, *args, **kwargs)
        drawn.append(self)

    monkeypatch.setattr(Figure, "__init__", kept)
    with rc_context():
        style.use(STYLE)
        yield
        for figure in drawn:
            assert not pale_texts(figure)
            assert not by_colour_alone(figure)
