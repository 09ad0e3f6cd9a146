"""Explorers: sliders over the figure functions, for ipywidgets 7 and 8."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from IPython.display import display
from ipywidgets import FloatSlider, IntSlider, Layout, interactive
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse import figures
from vitcourse.data import ImageSet
from vitcourse.introspect import record
from vitcourse.model import VisionTransformer


def explorer(
    draw: Callable[..., Figure], labels: dict[str, str] | None = None, **sliders: tuple[float, ...]
) -> interactive:
    """Sliders that redraw a figure.

    Args:
        draw: called with the sliders' values by name, returns the figure.
        labels: of the sliders, by name; by default the name itself.
        sliders: name = (lowest, highest, first value) in whole numbers, or with a step as the fourth number.
    """
    labels = labels or {}

    def show(**values: float) -> None:
        display(draw(**values))

    controls = {}
    for name, (low, high, value, *step) in sliders.items():
        slider = FloatSlider if step else IntSlider
        text, wide = labels.get(name, name), Layout(width="480px")
        controls[name] = slider(min=low, max=high, value=value, step=(*step, 1)[0], description=text, layout=wide)
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


def soft_dictionary(key: Tensor, value: Tensor, names: Sequence[str]) -> interactive:
    """Explore `figures.soft_dictionary`: the query's angle in degrees, and its length."""

    def draw(angle: int, length: float) -> Figure:
        turn = math.radians(angle)
        query = torch.tensor([math.cos(turn), math.sin(turn)]) * length
        return figures.soft_dictionary(query, key, value, names)

    return explorer(draw, labels={"angle": "∠q°", "length": "‖q‖"}, angle=(-180, 180, 27), length=(0, 3, 1, 0.25))


def positions() -> interactive:
    """Explore `figures.sinusoidal_positions`: N positions, width d, base n as a power of ten."""

    def draw(N: int, half: int, power: int) -> Figure:
        return figures.sinusoidal_positions(N, 2 * half, 10.0**power)

    labels = {"half": "d / 2", "power": "log₁₀ n"}
    return explorer(draw, labels, N=(2, 128, 64), half=(1, 64, 16), power=(1, 6, 4))


def dealt_heads(scores: Tensor, words: Sequence[str], n: int = 1) -> interactive:
    """Explore `figures.dealt_heads`: h heads among which the relations are dealt, i the head, n the word."""

    def draw(h: int, i: int, n: int) -> Figure:
        return figures.dealt_heads(scores, words, h, i, n)

    return explorer(draw, h=(1, len(scores), len(scores)), i=(1, len(scores), 1), n=(1, len(words), n))


def gradients_by_depth(norms: dict[tuple[int, bool], list[list[float]]]) -> interactive:
    """Explore `figures.gradients_by_depth`: s sets the weights' deviation 2^s / sqrt(D), n how many encoders show.

    Args:
        norms: by (s, norm_first), one list of norms for each encoder.
    """
    every = [norm for encoders in norms.values() for one in encoders for norm in one]
    steps = [s for s, _ in norms]

    def draw(s: int, n: int) -> Figure:
        return figures.gradients_by_depth(norms[s, True][:n], norms[s, False][:n], limits=(min(every), max(every)))

    return explorer(draw, s=(min(steps), max(steps), 0), n=(1, len(norms[0, True]), len(norms[0, True])))


def patches(images: ImageSet, index: int = 0) -> interactive:
    """Explore `figures.image_as_sequence`: i the image, patch size P as a power of two, width D in steps of 16."""
    shortest = min(images.images.shape[-2:])
    largest = (shortest & -shortest).bit_length() - 1  # the largest power of two that divides it

    def draw(i: int, power: int, steps: int) -> Figure:
        return figures.image_as_sequence(images.images[i], 2**power, 16 * steps)

    labels = {"power": "log₂ P", "steps": "D / 16"}
    return explorer(draw, labels, i=(0, len(images) - 1, index), power=(0, largest, 2), steps=(1, 48, 3))


def calibration(logits: Tensor, labels: Tensor) -> interactive:
    """Explore `figures.calibration`: tau the temperature, c the least confidence at which an answer counts."""

    def draw(tau: float, c: float) -> Figure:
        return figures.calibration(logits, labels, tau, c)

    return explorer(draw, {"tau": "τ"}, tau=(0.25, 4, 1, 0.05), c=(0, 0.99, 0.5, 0.01))


def head_map(model: VisionTransformer, images: ImageSet, index: int = 0) -> interactive:
    """Explore `figures.head_map`: what [CLS] attends to. i the image, l the layer, h the head; all heads, recorded."""
    with torch.inference_mode(), record(model) as seen:
        model(images.inputs())
    maps = torch.stack(seen.attention, dim=1)[:, :, :, 0, 1:].unflatten(3, model.config.grid_size)

    def draw(i: int, l: int, h: int) -> Figure:  # noqa: E741 - the symbols of the caption
        return figures.head_map(images.images[i], maps[i], l, h)

    layers, heads = maps.shape[1:3]
    return explorer(draw, {"l": "ℓ"}, i=(0, len(images) - 1, index), l=(1, layers, 1), h=(1, heads, 1))


def resized_positions(positions: Tensor, old_grid: tuple[int, int]) -> interactive:
    """Explore `figures.resized_positions`: g rows and columns of the new grid, y and x the patch in the old one."""
    rows, columns = old_grid

    def draw(g: int, y: int, x: int) -> Figure:
        return figures.resized_positions(positions, old_grid, g, (y + 0.5) / rows, (x + 0.5) / columns)

    side = max(old_grid)
    return explorer(draw, g=(2, 3 * side, 3 * side // 2), y=(0, rows - 1, rows // 2), x=(0, columns - 1, columns // 2))
