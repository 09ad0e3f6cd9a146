"""Words as vectors: neighbours in a table of embeddings, and what a reader keeps of the words before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from vitcourse.figures.labels import label_ends
from vitcourse.figures.style import INK, subplots

# Dashed over solid, narrow over wide: lines that lie on each other can still be distinguished.
LOOKS = (
    {"linewidth": 2, "zorder": 5},
    {"linewidth": 2, "zorder": 6, "linestyle": "--"},
    {"linewidth": 9, "zorder": 2, "alpha": 0.35},
    {"linewidth": 4, "zorder": 3, "alpha": 0.8},
)


def neighbours(vectors: Tensor, vocabulary: Sequence[str], word: str, k: int = 8) -> Figure:
    """Bars of the `k` words nearest to one, by cosine.

    Args:
        vectors: `(V, D)`, a row for each word of `vocabulary`.
    """
    index = vocabulary.index(word)
    directions = F.normalize(vectors, dim=1)
    cosines = directions @ directions[index]
    nearest = [other for other in cosines.argsort(descending=True).tolist() if other != index][:k]
    fig, ax = subplots(figsize=(6, 0.4 + 0.32 * k))
    ax.barh([vocabulary[other] for other in nearest], cosines[nearest].numpy())
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel=r"$\cos$", title=word)
    ax.grid(axis="y", visible=False)
    return fig


def forgetting(gradients: Mapping[str, Tensor], distance: int = 9, pair: str = "its → jaguar") -> Figure:
    """How strongly the sum of the last state depends on the input `d` steps before, on a log axis.

    Args:
        gradients: for each reader `(runs, N)`, norms by distance 0, 1, ..., N - 1. Thin lines are the runs,
            thick ones their geometric mean.
        distance: marked by a dotted line and labelled `pair`.
    """
    # Margins by hand: the layout engine would take half the time that a slider may take.
    margins = {"left": 0.14, "right": 0.86, "bottom": 0.14, "top": 0.97}
    fig, ax = subplots(figsize=(6.4, 3.8), layout="none", gridspec_kw=margins)
    ends = []
    for number, (name, runs) in enumerate(gradients.items()):
        color = f"C{number}"
        ax.plot(runs.T.numpy(), color=color, linewidth=0.5, alpha=0.25)
        mean = runs.log().mean(dim=0).exp()
        ax.plot(mean.numpy(), color=color)
        ends.append((len(mean) - 1, float(mean[-1]), name, color))
    ax.set(yscale="log", xlabel="$d$", ylabel=r"$\|\,\partial\,(\Sigma_i h_{N,i}) \,/\, \partial x_{N-d}\,\|$")
    ax.axvline(distance, color=INK, linestyle=":", linewidth=1.2)
    ax.annotate(pair, (distance, 0), xycoords=("data", "axes fraction"), xytext=(5, 5), textcoords="offset points")
    label_ends(ax, ends)
    return fig


def recall(panels: Mapping[str, Mapping[str, Tensor]], chance: float) -> Figure:
    """Accuracy against distance, a panel for each task.

    Args:
        panels: for each title, for each reader `(seeds, N)`, accuracies by distance 0, 1, ..., N - 1.
        chance: a dotted line.
    """
    fig, row = subplots(1, len(panels), figsize=(3.7 * len(panels) + 0.6, 3.4), sharey=True, squeeze=False)
    for ax, (title, curves) in zip(row[0], panels.items(), strict=True):
        for number, (name, runs) in enumerate(curves.items()):
            ax.plot(runs.T.numpy(), color=f"C{number}", linewidth=0.6, alpha=0.5)
            ax.plot(runs.mean(dim=0).numpy(), color=f"C{number}", label=name, **LOOKS[number % len(LOOKS)])
        ax.axhline(chance, color=INK, linestyle=":", linewidth=1.2)
        ax.set(xlabel="$d$", ylim=(0, 1.06))
        ax.set_title(title, fontsize=14)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    row[0][0].set_ylabel("acc")
    row[0][0].legend(loc="center right")
    return fig
