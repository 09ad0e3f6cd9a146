"""The seed and the deadline of a class's hand-ins, kept beside the results, so that a second run needs no reminder."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from vitcourse.files import write_text
from vitcourse.grading.marks import deadline as moment

FILE = "settings.json"


def settings(out: Path, submissions: Path, seed: int | None, deadline: str | None) -> tuple[int, datetime | None]:
    """What holds for these hand-ins: what is said now, otherwise what was said before, otherwise seed 0 and none.

    Args:
        out: the folder for results, where it is kept by the path from there to the hand-ins.
        seed: of the hidden inputs; None: not said.
        deadline: as text; "none" takes it away; None: not said.

    Raises:
        ValueError: a deadline that is none, which isn't kept; a file that isn't ours.
    """
    path, key = out / FILE, _place(submissions, out)
    try:
        known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = known.get(key, {})
        mine = {"seed": before.get("seed", 0), "deadline": before.get("deadline", "")}
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is damaged: remove it, and name --seed and --deadline again.") from None
    if seed is not None:
        mine["seed"] = seed
    if deadline is not None:
        mine["deadline"] = "" if deadline == "none" else deadline
    parsed = moment(mine["deadline"]) if mine["deadline"] else None
    if mine != {"seed": 0, "deadline": ""} | before:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(known | {key: mine}, indent=1, sort_keys=True, ensure_ascii=False)
        write_text(path, text + "\n")
    return mine["seed"], parsed


def _place(submissions: Path, out: Path) -> str:
    """Where the hand-ins lie, seen from the results: both may be moved together."""
    try:
        return Path(os.path.relpath(submissions.resolve(), out.resolve())).as_posix()
    except ValueError:  # on another drive of Windows
        return submissions.resolve().as_posix()
