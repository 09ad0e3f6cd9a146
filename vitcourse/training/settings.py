"""The configuration file of a training run, as nested plain values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitcourse import data

SECTIONS = ("data", "model", "training")


def read_settings(path: str | Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The sections [data], [model], [training] and, if it is there, `start`, after the `changes`.

    Raises:
        FileNotFoundError, ValueError: no such file, no TOML, a section that is missing, or a name that isn't one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config {str(path)!r} is not a file; the course's own stand in experiments/.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {str(path)!r} is not valid TOML: {error}.") from None
    for key, value in changes.items():
        _change(settings, key, value)
    missing = [f"[{section}]" for section in SECTIONS if not isinstance(settings.get(section), dict)]
    if missing:
        raise ValueError(f"config {str(path)!r} lacks the section {', '.join(missing)}.")
    unknown = sorted(set(settings) - {*SECTIONS, "start"})
    if unknown:
        raise ValueError(f"config {str(path)!r} has no use for {', '.join(map(repr, unknown))}.")
    if "split" in settings["data"]:
        raise ValueError(f"config {str(path)!r} names a split: a run takes all three, each for what it is there for.")
    if "name" not in settings["data"]:
        raise ValueError(f"config {str(path)!r} names no data set: [data] needs name = one of {data.NAMES}.")
    return settings


def _change(settings: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    if len(sections) > 1 or (sections and sections[0] not in SECTIONS):
        raise ValueError(f"{key!r} is no setting; one is called, for example, 'training.epochs' or 'start'.")
    for section in sections:
        settings = settings.setdefault(section, {})
    if isinstance(settings, dict):  # else the section is refused below
        settings[name] = value
