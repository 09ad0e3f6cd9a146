"""Many heads: what one row of weights can't tell apart, and what several heads see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from vitcourse.figures.attention import attention_matrix
from vitcourse.figures.style import BLUE, GREEN, ORANGE, subplots

YES, NO, ROOM = BLUE, ORANGE, GREEN


def one_row(shares: Tensor, outputs: Tensor, targets: Tensor) -> Figure:
    """What a row of weights fetches in each case, against the share it gives to the first relation.

    A panel for each relation: solid the cases whose answer is 1, dashed those whose answer is 0, and shaded the shares
    for which one threshold has all the solid lines on its one side and all the dashed ones on the other.

    Args:
        shares: `(S,)`, from 0 to 1.
        outputs: `(cases, S)`.
        targets: the answers, 0 or 1, `(cases, relations)`.
    """
    relations = targets.shape[1]
    fig, axes = subplots(1, relations, figsize=(3.9 * relations, 3.1), sharey=True, squeeze=False)
    for relation, ax in enumerate(axes.flat):
        yes = targets[:, relation].bool()
        for case, output, answer in zip(targets.int().tolist(), outputs, yes.tolist(), strict=True):
            colour, style = (YES, "-") if answer else (NO, "--")
            ax.plot(shares, output, color=colour, linestyle=style)
            at = len(shares) // 4
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            place = (float(shares[at]), float(output[at]))
            ax.annotate("".join(map(str, case)), place, ha="center", va="center", color=colour, bbox=paper)
        above = outputs[yes].amin(dim=0) > outputs[~yes].amax(dim=0)
        below = outputs[yes].amax(dim=0) < outputs[~yes].amin(dim=0)
        ax.fill_between(shares, -0.12, 1.12, where=(above | below).numpy(), color=ROOM, alpha=0.15, linewidth=0)
        ax.set(xlabel="$w$", title=f"$r = {relation + 1}$", xlim=(0, 1), ylim=(-0.12, 1.12))
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0, 0].set_ylabel("$z$")
    return fig


def attention_heads(weights: Tensor, words: Sequence[str], titles: Sequence[str], side: float = 2.9) -> Figure:
    """The weights of several heads side by side, the words of the queries on the left, a colour bar on the right.

    Args:
        weights: `(h, N, N)`.
        words: N labels.
        titles: h of them.
        side: width of one matrix, in inches.
    """
    fig, axes = subplots(1, len(weights), figsize=(side * len(weights) + 1, side + 0.6), squeeze=False)
    for ax, matrix, title in zip(axes.flat, weights, titles, strict=True):
        attention_matrix(matrix, words, words, ax, title)
    for ax in axes.flat[1:]:
        ax.set_yticks([])
    _shares_bar(fig, list(axes.flat))
    return fig


def _shares_bar(fig: Figure, axes: Sequence[Axes]) -> None:
    """A colour bar for all `axes`, marked at the equal shares of up to four tokens."""
    bar = fig.colorbar(axes[0].images[0], ax=axes, shrink=0.8, aspect=15)
    bar.set_ticks([0, 1 / 4, 1 / 3, 1 / 2, 1], labels=["0", "1/4", "1/3", "1/2", "1"])


def _deal(scores: Tensor, num_heads: int) -> Tensor:
    """The weights of h heads among which R relations are dealt like cards: `(R, N, N) -> (h, N, N)`.

    Relation r goes to head r mod h. A head adds the scores of its relations and takes the softmax of the sum.
    """
    return torch.stack([scores[head::num_heads].sum(dim=0).softmax(dim=-1) for head in range(num_heads)])


def dealt_heads(scores: Tensor, words: Sequence[str], h: int = 1, i: int = 1, n: int = 1) -> Figure:
    """One of h heads that share the relations; below it, the row of one word in all of them.

    Args:
        scores: of each relation, `(R, N, N)`.
        words: N labels.
        h: number of heads, 1 .. R.
        i: the head of the matrix, 1 .. h; a larger one is taken as h.
        n: the word of the rows below, 1 .. N.
    """
    weights, i = _deal(scores, h), min(i, h)
    fig, axes = subplots(2, 1, figsize=(5.6, 6.4), height_ratios=[len(words), len(scores)])
    above, below = axes
    attention_matrix(weights[i - 1], words, words, above, f"$h = {h}$, $i = {i}$")
    attention_matrix(weights[:, n - 1], [f"$i = {head}$" for head in range(1, h + 1)], words, below, words[n - 1])
    below.set_xticks([])
    for ax in axes:
        ax.set_aspect("auto")  # as wide as each other; the rows below share one height, however many they are
    above.add_patch(Rectangle((-0.48, n - 1.48), len(words) - 0.04, 0.96, fill=False, edgecolor="white"))
    _shares_bar(fig, list(axes))
    return fig
