"""The ingredients of a training: what each is worth, the learning rate step by step, and runs beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.figure import Figure

from vitcourse.figures.style import BLUE, COLOURS, GREY, ORANGE, PALE, subplots
from vitcourse.training import Epoch


def ablation(differences: Mapping[str, Sequence[float]], spread: float | None = None) -> Figure:
    """A row for each run: its difference to the reference, a dot for each seed and a bar for their mean, in points.

    Args:
        differences: by name, from the top down.
        spread: half the width of the shaded band around 0.
    """
    fig, ax = subplots(figsize=(6.6, 0.36 * len(differences) + 0.9))
    for height, values in enumerate(differences.values()):
        mean = sum(values) / len(values)
        ax.plot(values, [height] * len(values), "o", color=PALE[BLUE], markeredgecolor=BLUE, zorder=3)
        ax.plot([mean, mean], [height - 0.3, height + 0.3], color=ORANGE, linewidth=3, zorder=4)
    if spread is not None:
        ax.axvspan(-spread, spread, color=GREY, alpha=0.15, linewidth=0)
    ax.axvline(0, color=GREY, linewidth=1, linestyle=":")
    ax.set_yticks(range(len(differences)), list(differences))
    ax.invert_yaxis()
    ax.set_xlabel(r"$\Delta$ acc / %")
    return fig


def learning_rates(curves: Mapping[str, Sequence[float]], steps_per_epoch: int = 1) -> Figure:
    """The learning rate, or its share of the highest, step by step; each curve has its name on it."""
    fig, ax = subplots(figsize=(6.4, 3))
    for index, (name, values) in enumerate(curves.items()):
        colour, style = COLOURS[index % len(COLOURS)], ("-", "--", "-.", ":")[index % 4]
        epochs = [step / steps_per_epoch for step in range(len(values))]
        ax.plot(epochs, values, style, color=colour)
        at = int((0.4, 0.4, 0.6, 0.8)[index % 4] * (len(values) - 1))
        side, above = ("right", -12) if index % 4 == 1 else ("left", 5)
        ax.annotate(
            name, (epochs[at], values[at]), (4, above), textcoords="offset points", color=colour, fontsize=11, ha=side
        )
    ax.set(xlabel="$t$", ylabel=r"$\eta / \eta_{\max}$", ylim=(0, 1.15))
    return fig


def compare_runs(logs: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Loss and accuracy of several runs, a colour each: validation solid, training dashed; the name above the end."""
    fig, axes = subplots(1, 2, figsize=(8, 3.1))
    for ax, quantity, label in zip(axes, ("loss", "accuracy"), (r"$\mathcal{L}$", "acc"), strict=True):
        for (name, log), colour in zip(logs.items(), cycle(COLOURS), strict=False):
            epochs = [row.epoch for row in log]
            validation = [getattr(row, f"validation_{quantity}") for row in log]
            ax.plot(epochs, validation, color=colour, markersize=0)
            ax.plot(epochs, [getattr(row, f"train_{quantity}") for row in log], "--", color=colour, linewidth=1.2)
            end = (epochs[-1], validation[-1])
            ax.annotate(name, end, (0, 8), textcoords="offset points", color=colour, ha="center", fontsize=10)
        ax.set(xlabel="$t$", ylabel=label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.margins(x=0.12)
    return fig
