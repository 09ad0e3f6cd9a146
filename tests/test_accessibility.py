"""Colours can be told apart by every kind of eye, and text be read; tests/conftest.py looks at each figure."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from seen import GRAPHIC, TEXT, by_colour_alone, contrast, pale_texts

from vitcourse import figures
from vitcourse.checks.report import COLOURS as CARD
from vitcourse.figures import style

APART = 14  # in CAM02-UCS; Okabe and Ito's own seven colours come down to 11
VISIONS = ("protanomaly", "deuteranomaly", "tritanomaly")


def test_contrast_is_that_of_wcag():
    assert contrast("black") == pytest.approx(21)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)  # the palest grey that passes
    assert contrast("white", "white") == 1


def test_colours_and_greys_are_dark_enough_for_text():
    for colour in (*style.COLOURS, style.INK, style.GREY):
        assert contrast(colour) >= TEXT, colour
    for paper in style.PALE.values():
        assert contrast(style.INK, paper) >= 7
    assert contrast(style.GREY) >= GRAPHIC


def test_the_packaged_style_draws_in_the_same_colours():
    figures.use_style()
    cycle = [colour["color"] for colour in mpl.rcParams["axes.prop_cycle"]]
    assert [f"#{colour.upper().lstrip('#')}" for colour in cycle] == list(style.COLOURS)
    for name in ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color"):
        assert contrast(mpl.rcParams[name]) >= TEXT, name


@pytest.mark.parametrize("vision", [None, *VISIONS])
def test_colours_stay_apart_for_colour_blind_readers(vision):
    colorspacious = pytest.importorskip("colorspacious")
    seen = np.array([mpl.colors.to_rgb(colour) for colour in (*style.COLOURS, style.INK)])
    if vision:  # all of one kind of cone missing (Machado et al., 2009)
        space = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
        seen = np.clip(colorspacious.cspace_convert(seen, space, "sRGB1"), 0, 1)
    places = colorspacious.cspace_convert(seen, "sRGB1", "CAM02-UCS")
    distances = {
        pair: np.linalg.norm(places[pair[0]] - places[pair[1]]) for pair in itertools.combinations(range(7), 2)
    }
    assert min(distances.values()) >= APART, min(distances, key=distances.get)


def test_cards_are_read_on_light_and_dark_pages():
    for ink, paper in CARD.values():
        assert contrast(ink, paper) >= 7
        assert contrast("#1a1a1a", paper) >= 7


def test_what_is_looked_for_is_found():
    fig, ax = style.subplots()
    ax.plot([0, 1], color="#111111")
    ax.plot([1, 0], color="#222222")
    ax.set_title("pale", color="#cccccc")
    assert by_colour_alone(fig) == ["('-', 'None', 'full', 2): #111111, #222222"]
    assert pale_texts(fig) == ["'pale': #cccccc"]
    ax.lines[1].set_linestyle("--")
    ax.title.set_color("black")
    assert by_colour_alone(fig) == pale_texts(fig) == []
