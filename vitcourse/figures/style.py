"""The packaged style, and the paper that figures are drawn on."""

from __future__ import annotations

from importlib import resources
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Dark enough for text on white (at least 4.5 : 1, WCAG AA), and apart in brightness or hue for every kind of colour
# vision; the first colours of Okabe and Ito (2008), darkened. `tests/test_accessibility.py` measures both.
BLUE, ORANGE, GREEN, PURPLE, BROWN, INDIGO = "#0072B2", "#B75208", "#015B47", "#72055F", "#503A05", "#2F0BBA"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, INDIGO)
INK, GREY = "#222222", "#555555"
PALE = {BLUE: "#cfe3f2", ORANGE: "#f8dccb", GREEN: "#cbeadf", BROWN: "#fbe8c4"}  # paper under dark text
MARKS = ("o", "s", "^", "D", "v", "P")

STYLE = resources.files("vitcourse").joinpath("vitcourse.mplstyle")


def use_style() -> None:
    """Draw all further figures of this session in the course's style."""
    with resources.as_file(STYLE) as path:
        plt.style.use(path)
    plt.close(plt.figure())  # resolves the backend: without it matplotlib 3.8 shows a notebook's first figure as text


def subplots(*args: Any, **kwargs: Any) -> tuple[Figure, Any]:
    """`plt.subplots`, but pyplot forgets the figure: a notebook shows it once, as the value of its cell."""
    fig, axes = plt.subplots(*args, **kwargs)
    plt.close(fig)
    return fig, axes
