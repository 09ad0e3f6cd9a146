"""What a convolution knows beforehand: its matrix, how far it sees, what a shift does, and what that is worth.

Longer than 150 lines because it holds all five figures of notebook 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from vitcourse.figures.dots import line_and_dots
from vitcourse.figures.images import image
from vitcourse.figures.labels import name_curves
from vitcourse.figures.style import COLOURS, GREY, MARKS, ORANGE, subplots


def linear_maps(matrices: Mapping[str, Tensor]) -> Figure:
    """Linear layers as pictures of their matrices, `(outputs, inputs)` each, red above zero, blue below.

    Args:
        matrices: by title.
    """
    largest = max(matrix.abs().max().item() for matrix in matrices.values())
    fig, axes = subplots(1, len(matrices), figsize=(1.65 * len(matrices), 2.1), squeeze=False)
    for ax, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        ax.imshow(matrix.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
        rows, columns = matrix.shape
        ax.set_xticks([x - 0.5 for x in range(columns + 1)], minor=True)
        ax.set_yticks([y - 0.5 for y in range(rows + 1)], minor=True)
        ax.grid(which="minor")
        ax.grid(visible=False, which="major")
        ax.tick_params(which="both", length=0)
        ax.set(xticks=[], yticks=[], title=title)
    return fig


def receptive_fields(fields: Mapping[str, Mapping[str, Tensor]]) -> Figure:
    """Which pixels can move one place of a layer: a row for each model, a panel for each layer, 0 to 1.

    Args:
        fields: by model, then by layer, `(H, W)` not negative: how strongly; each is divided by its largest. A frame
            stands around what isn't zero, its sides above it.
    """
    columns = max(len(layers) for layers in fields.values())
    fig, axes = subplots(len(fields), columns, figsize=(1.45 * columns + 0.5, 1.75 * len(fields)), squeeze=False)
    for row, (model, layers) in zip(axes, fields.items(), strict=True):
        for ax in row[len(layers) :]:
            ax.set_visible(False)
        row[0].set_ylabel(model, fontsize=11)
        for ax, (layer, field) in zip(row, layers.items(), strict=False):
            ax.imshow((field / field.max()).sqrt().numpy(), vmin=0, vmax=1)
            seen = (field > 0).nonzero()
            (top, left), (bottom, right) = seen.amin(dim=0).tolist(), seen.amax(dim=0).tolist()
            sides = bottom - top + 1, right - left + 1
            frame = Rectangle((left - 0.5, top - 0.5), sides[1], sides[0], fill=False, color=ORANGE, linewidth=2)
            frame.set_clip_on(False)
            ax.add_patch(frame)
            ax.set_title(f"{layer}: ${sides[0]} \\times {sides[1]}$", fontsize=10)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
    return fig


def shift_changes(curves: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """How much a shift changes what a model says, a line through the means and a dot for each draw.

    Args:
        curves: by name, for each draw of weights the change after a shift by 0, 1, 2, ... pixels.
    """
    fig, axes = subplots(1, len(curves), figsize=(7, 2.5), sharey=True, squeeze=False)
    for index, (ax, (name, draws)) in enumerate(zip(axes[0], curves.items(), strict=True)):
        shifts = range(len(draws[0]))
        means = [sum(values) / len(values) for values in zip(*draws, strict=True)]
        ax.plot(shifts, means, color=COLOURS[index % 5])
        for values in draws:
            ax.plot(shifts, values, MARKS[index % 5], color=COLOURS[index % 5], markersize=4, alpha=0.6)
        ax.set(title=name, xlabel=r"$\Delta$", xticks=[0, 4, 8])
    axes[0, 0].set_ylim(bottom=-0.005)
    axes[0, 0].set_ylabel("$r$", rotation=0, labelpad=10)
    return fig


def shifted_features(
    pixels: Tensor, features: Mapping[str, Callable[[Tensor], Tensor]], stride: int, down: int, right: int
) -> Figure:
    """A picture, shifted in a circle, and how far each place of a feature map is from the map shifted likewise.

    Args:
        pixels: `(C, H, W)`, uint8.
        features: by name, images `(B, C, H, W)`, 0 to 1 minus one half, to maps `(B, D, gh, gw)`.
        stride: pixels a place of the maps.
        down, right: the shift in pixels; the maps are shifted by as many whole places as fit.

    The numbers are lengths of differences, divided by the mean length of the difference of two places.
    """
    moved = pixels.roll((down, right), dims=(1, 2))
    fig, axes = subplots(1, 1 + len(features), figsize=(2.2 * (1 + len(features)), 2.5), squeeze=False)
    image(moved, axes[0, 0], f"$({down}, {right})$")
    for ax, (name, model) in zip(axes[0, 1:], features.items(), strict=True):
        with torch.no_grad():
            maps = model(torch.stack([pixels, moved]).float() / 255 - 0.5)
        expected = maps[0].roll((down // stride, right // stride), dims=(1, 2))
        places = maps[0].flatten(1)
        apart = (places[:, :, None] - places[:, None]).norm(dim=0).mean()
        off = (maps[1] - expected).norm(dim=0) / apart
        painted = ax.imshow(off.numpy(), vmin=0, vmax=2)
        ax.set(xticks=[], yticks=[], title=f"{name}: {off.mean():.2f}")
        ax.grid(visible=False)
    fig.colorbar(painted, ax=list(axes[0, 1:]), ticks=[0, 1, 2], shrink=0.75)
    return fig


def accuracies(
    panels: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]],
    labels: Mapping[str, str],
    chance: Mapping[str, float] | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Accuracy by panel and model: a line through the means, a dot for each seed, names beside the last panel.

    Args:
        panels: by title, then by model, then by the number on the x axis, an accuracy for each seed.
        labels: of the x axes, by title.
        chance: by title, drawn dashed.
        logarithmic: the x axes.
    """
    chance = chance or {}
    fig, axes = subplots(1, len(panels), figsize=(7, 2.9), sharey=True, squeeze=False)
    for ax, (title, models) in zip(axes[0], panels.items(), strict=True):
        for index, points in enumerate(models.values()):
            line_and_dots(ax, points, index, markersize=4.5, alpha=0.65)
        if title in chance:
            ax.axhline(chance[title], color=GREY, linestyle="--", linewidth=1.2)
        ticks = sorted({x for points in models.values() for x in points})
        if logarithmic:
            ax.set_xscale("log")
        shown = ticks if len(ticks) <= 5 else ticks[::2]
        ax.set_xticks(shown, [_short(x) for x in shown])
        ax.minorticks_off()
        ax.set(title=title, xlabel=labels[title])
    axes[0, 0].set(ylim=(0, 1.02), ylabel="acc")
    name_curves(axes[0, -1], [*panels.values()][-1], 0.09)
    return fig


def _short(x: float) -> str:
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"
