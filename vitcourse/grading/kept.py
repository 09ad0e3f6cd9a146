"""The seed and the deadline of a class's hand-ins, kept beside the results, so that a second run needs no reminder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitcourse.files import written_whole

FILE = "settings.json"


def settings(out: Path, submissions: Path, seed: int | None, deadline: str | None) -> tuple[int, str]:
    """What holds for these hand-ins: what is said now, otherwise what was said before, otherwise seed 0 and none.

    Args:
        out: the folder for results, where it is kept by the name of the folder or zip of hand-ins.
        seed: of the hidden inputs; None: not said.
        deadline: as text; "none" takes it away; None: not said.

    Raises:
        ValueError: a file that isn't ours.
    """
    path = out / FILE
    try:
        known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = known.get(submissions.resolve().name, {})
        mine = {"seed": before.get("seed", 0), "deadline": before.get("deadline", "")}
    except (ValueError, AttributeError):
        raise ValueError(f"{path} is damaged: remove it, and name --seed and --deadline again.") from None
    if seed is not None:
        mine["seed"] = seed
    if deadline is not None:
        mine["deadline"] = "" if deadline == "none" else deadline
    if mine != {"seed": 0, "deadline": ""} | before:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(known | {submissions.resolve().name: mine}, indent=1, sort_keys=True, ensure_ascii=False)
        with written_whole(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
    return mine["seed"], mine["deadline"]
