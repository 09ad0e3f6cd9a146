"""Explorers: sliders over the figure functions, for ipywidgets 7 and 8."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import display
from ipywidgets import IntSlider, interactive
from matplotlib.figure import Figure

from vitcourse import figures
from vitcourse.data import ImageSet
from vitcourse.model import VisionTransformer


def explorer(draw: Callable[..., Figure], **sliders: tuple[int, int, int]) -> interactive:
    """Sliders that redraw a figure.

    Args:
        draw: called with the sliders' values by name, returns the figure.
        sliders: name = (lowest, highest, first value). The name is the slider's label.
    """

    def show(**values: int) -> None:
        display(draw(**values))

    controls = {
        name: IntSlider(min=low, max=high, value=value, description=name)
        for name, (low, high, value) in sliders.items()
    }
    return interactive(show, **controls)


def inside(model: VisionTransformer, images: ImageSet, index: int = 0) -> interactive:
    """Explore `figures.inside`: i the image, l the layer, h the head (0: the mean over heads)."""
    config = model.config

    def draw(i: int, l: int, h: int) -> Figure:  # noqa: E741 - the symbols of the caption
        return figures.inside(model, images, i, l, h)

    return explorer(
        draw,
        i=(0, len(images) - 1, index),
        l=(1, config.num_hidden_layers, config.num_hidden_layers),
        h=(0, config.num_attention_heads, 0),
    )
