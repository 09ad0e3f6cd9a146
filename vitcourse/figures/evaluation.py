"""How well a classifier does: what it takes for what, how sure it is, and where it is most wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vitcourse.data import ImageSet
from vitcourse.figures.images import WRONG, image_grid
from vitcourse.figures.style import COLOURS, GREY, MARKS, subplots
from vitcourse.training import Evaluation


def confusion_matrix(counts: Tensor, names: Sequence[str], side: float = 5.6) -> Figure:
    """Counts of true class (row) against predicted class (column), coloured by their share of the row: `(K, K)`."""
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    fig, ax = subplots(figsize=(side + 1.2, side))
    drawn = ax.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1)
    for row, column in counts.nonzero().tolist():
        colour = "black" if shares[row, column] > 0.6 else "white"
        ax.text(column, row, str(int(counts[row, column])), ha="center", va="center", color=colour, fontsize=9)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=r"$\hat{y}$", ylabel="$y$")
    ax.grid(False)
    fig.colorbar(drawn, ax=ax, shrink=0.8, aspect=20)
    return fig


def class_measures(measures: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """A row for each class, a mark for each measure, each `(K,)`; the classes in order of the last measure."""
    order = torch.stack(list(measures.values()))[-1].argsort().tolist()
    fig, ax = subplots(figsize=(6.4, 0.32 * len(names) + 0.9))
    for (label, values), colour, mark in zip(measures.items(), cycle(COLOURS), cycle(MARKS), strict=False):
        ax.plot(values[order], range(len(order)), mark, color=colour, label=label)
    ax.set_yticks(range(len(order)), [names[index] for index in order])
    ax.set_xlim(None, 1)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(measures), frameon=False)
    return fig


def worst_mistakes(images: ImageSet, result: Evaluation, count: int = 12) -> Figure:
    """The images whose true class got the least probability: what was said, and below the true class, each with p.

    Without any mistake the figure is empty.
    """
    true = result.probabilities.gather(1, result.labels[:, None])[:, 0]
    wrong = (result.predictions != result.labels).nonzero()[:, 0]
    worst = wrong[true[wrong].argsort()[:count]].tolist()
    name = images.class_names
    titles = [
        f"{WRONG} {name[result.predictions[n]]} {result.probabilities[n].max():.2f}\n"
        f"({name[result.labels[n]]} {true[n]:.2f})"
        for n in worst
    ]
    return image_grid(images.images[worst], titles, columns=4, side=1.6)


def reliability(results: Mapping[str, Evaluation], bins: int = 10) -> Figure:
    """A panel for each result: the accuracy of the images in each bin of confidence; dashed, where the two agree."""
    fig, axes = subplots(1, len(results), figsize=(3.7 * len(results), 3.6), sharey=True, squeeze=False)
    for (title, result), ax in zip(results.items(), axes.flat, strict=True):
        _reliability(result.probabilities, result.labels, ax, bins)
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel("acc")
    return fig


def calibration(logits: Tensor, labels: Tensor, tau: float = 1.0, threshold: float = 0.0, bins: int = 10) -> Figure:
    """Left the reliability of softmax(logits / tau). Right accuracy against the share of images whose confidence is at
    least a threshold: for all thresholds, and a dot for one."""
    fig, (left, right) = subplots(1, 2, figsize=(7.6, 3.6))
    probabilities = (logits / tau).softmax(dim=1)
    _reliability(probabilities, labels, left, bins)
    left.set(ylabel="acc", title=f"$\\tau = {tau:.2f}$")
    confidence, predicted = probabilities.max(dim=1)
    correct = (predicted == labels).float()[confidence.argsort(descending=True, stable=True)]
    kept = torch.arange(1, len(labels) + 1)
    accuracy = correct.cumsum(dim=0) / kept
    right.plot(kept / len(labels), accuracy, color=COLOURS[0])
    n = int((confidence >= threshold).sum())
    if n:
        right.plot(n / len(labels), accuracy[n - 1], "o", color=COLOURS[1], markersize=9)
        title = f"$c \\geq {threshold:.2f}$: $n/N$ = {n / len(labels):.2f}, acc = {accuracy[n - 1]:.3f}"
        right.set_title(title)
    right.set(xlabel="$n / N$", ylabel="acc", xlim=(0, 1.02), ylim=(None, 1.005))
    return fig


def _reliability(probabilities: Tensor, labels: Tensor, ax: Axes, bins: int) -> None:
    """Bars of accuracy by confidence; the darker, the more images."""
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == labels).float()
    place = (confidence * bins).long().clamp_max(bins - 1)
    for index in place.unique().tolist():
        inside = place == index
        share = inside.float().mean().item()
        left, height = index / bins, right[inside].mean().item()
        ax.bar(left, height, 1 / bins, align="edge", color=COLOURS[0], alpha=0.25 + 0.75 * share, edgecolor="white")
        ax.plot([confidence[inside].mean()], [height], "o", color=COLOURS[1], markersize=4)
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    ax.set(xlabel="$c$", xlim=(0, 1), ylim=(0, 1.005))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
