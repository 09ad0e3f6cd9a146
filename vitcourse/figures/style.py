"""The packaged style, and the paper that figures are drawn on."""

from __future__ import annotations

from importlib import resources
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

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
