"""How a class did: which exercises went well, and which beliefs stood behind the wrong answers."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitcourse.files import written_whole
from vitcourse.grading.results import Result

MOST_BELIEFS = 10  # in the picture; the table holds all


def by_exercise(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A line for each exercise that a check marks: how many handed in, how many have it right, the mean share."""
    shares: dict[tuple[str, str], list[float]] = {}
    for result in results:
        for row in result.rows:
            if row.earned is not None and row.points and not result.failed:
                shares.setdefault((result.sheet, row.grade_id), []).append(row.earned / row.points)
    return [
        {
            "sheet": sheet,
            "exercise": exercise,
            "hand-ins": len(v),
            "right": sum(s == 1 for s in v),
            "mean share": f"{sum(v) / len(v):.3f}",
        }
        for (sheet, exercise), v in shares.items()
    ]


def misconceptions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A line for each belief that explains all of an answer, the most frequent first."""
    found = Counter(
        (result.sheet, row.grade_id, row.belief_name, row.belief)
        for result in results
        for row in result.rows
        if row.belief_name
    )
    names = ("sheet", "exercise", "name", "belief")
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [{"students": count, **dict(zip(names, key, strict=True))} for key, count in ordered]


def draw(path: Path, results: Sequence[Result]) -> None:
    """A picture: a row for each sheet, on the left the share of right answers, on the right the frequent beliefs."""
    import matplotlib.pyplot as plt

    from vitcourse.figures.style import STYLE

    exercises, beliefs = by_exercise(results), misconceptions(results)
    sheets = list(dict.fromkeys(row["sheet"] for row in exercises))
    if not sheets:
        return
    with plt.rc_context():
        plt.style.use(STYLE)
        lengths = [sum(row["sheet"] == sheet for row in exercises) for sheet in sheets]
        figure = picture(sheets, exercises, beliefs, lengths)
        with written_whole(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120, facecolor="white", metadata={"Software": None})


def picture(
    sheets: Sequence[str],
    exercises: Sequence[dict[str, Any]],
    beliefs: Sequence[dict[str, Any]],
    heights: Sequence[int],
) -> Any:
    """The figure that `draw` saves."""
    from vitcourse.figures.style import BLUE, ORANGE, subplots

    widths = (5, 7) if beliefs else (5,)
    size = (sum(widths), sum(0.45 * max(height, 6) + 1 for height in heights))
    shape = {"height_ratios": [max(height, 6) for height in heights], "width_ratios": widths}
    figure, axes = subplots(
        len(sheets), len(widths), figsize=size, layout="constrained", squeeze=False, gridspec_kw=shape
    )
    for sheet, (left, *others) in zip(sheets, axes, strict=True):
        here = [row for row in exercises if row["sheet"] == sheet][::-1]
        shares = [100 * row["right"] / row["hand-ins"] for row in here]
        names = [row["exercise"].removeprefix("check-") for row in here]
        left.bar_label(left.barh(names, shares, color=BLUE), fmt="%.0f", padding=3)
        left.set(xlim=(0, 110), xticks=(0, 50, 100), xlabel="right answers, % of hand-ins", title=sheet)
        common = [row for row in beliefs if row["sheet"] == sheet][:MOST_BELIEFS][::-1]
        labels = [_label(f"{row['exercise'].removeprefix('check-')}: {row['name']}") for row in common]
        for right in others:
            right.bar_label(right.barh(labels, [row["students"] for row in common], color=ORANGE), padding=3)
            right.set(xlabel="students", title="wrong answers that one belief explains")
            right.margins(x=0.1)
            right.set_visible(bool(common))
            right.xaxis.get_major_locator().set_params(integer=True)
    return figure


def _label(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 40))
