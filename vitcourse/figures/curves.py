"""How a training went."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from vitcourse.figures.style import GREY, subplots
from vitcourse.training import Epoch


def training_curves(log: Sequence[Epoch], classes: int) -> Figure:
    """Loss and accuracy after each epoch; dotted, what guessing among `classes` equally likely classes gives."""
    fig, (left, right) = subplots(1, 2, figsize=(8, 2.8))
    epochs = [row.epoch for row in log]
    for ax, quantity, chance in ((left, "loss", math.log(classes)), (right, "accuracy", 1 / classes)):
        for part, marker in (("train", "o"), ("validation", "s")):
            ax.plot(epochs, [getattr(row, f"{part}_{quantity}") for row in log], marker=marker, label=part)
        ax.axhline(chance, color=GREY, linestyle=":")
        ax.set_xlabel("$t$")
        ax.xaxis.get_major_locator().set_params(integer=True)
    left.set(ylabel=r"$\mathcal{L}$", ylim=(0, None))
    right.set(ylabel="acc", ylim=(0, 1))
    right.legend(loc="lower right", bbox_to_anchor=(1, 0.12))
    return fig
