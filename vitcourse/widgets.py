"""Explorers: sliders over the figure functions, for ipywidgets 7 and 8."""

from __future__ import annotations

from collections.abc import Callable

from IPython.display import display
from ipywidgets import IntSlider, Layout, interactive
from matplotlib.figure import Figure

from vitcourse import figures
from vitcourse.data import ImageSet
from vitcourse.model import VisionTransformer


def explorer(
    draw: Callable[..., Figure], labels: dict[str, str] | None = None, **sliders: tuple[int, int, int]
) -> interactive:
    """Sliders that redraw a figure.

    Args:
        draw: called with the sliders' values by name, returns the figure.
        labels: of the sliders, by name; by default the name itself.
        sliders: name = (lowest, highest, first value).
    """
    labels = labels or {}

    def show(**values: int) -> None:
        display(draw(**values))

    controls = {
        name: IntSlider(
            min=low, max=high, value=value, description=labels.get(name, name), layout=Layout(width="480px")
        )
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
        labels={"l": "ℓ"},
        i=(0, len(images) - 1, index),
        l=(1, config.num_hidden_layers, config.num_hidden_layers),
        h=(0, config.num_attention_heads, 0),
    )
