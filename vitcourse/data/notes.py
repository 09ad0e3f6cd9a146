"""Which of many image files are whole, and what they hold, remembered so that a second look is quick."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitcourse.data.image_files import read_pixels
from vitcourse.data.threads import in_threads
from vitcourse.files import write_text
from vitcourse.places import data_home

PROBE = 64  # pixels: decodes all of a file, scales little


class Look(NamedTuple):
    """One file: its size and time of change, what is wrong with it (empty: nothing), and its sha256 if it is whole."""

    size: int
    time: int
    fault: str
    checksum: str


def examine(folder: str | Path, paths: Sequence[str], title: str | None = None) -> dict[str, Look]:
    """Decode the images at `paths` below `folder`; those that aren't there are left out.

    The result is kept in `vitcourse.places.data_home()`. A whole file of the same size and time of change isn't decoded
    again; one with a fault is, because a fault may pass, as that of a disk which didn't answer.
    """
    folder = Path(folder)
    notes_file = data_home() / "checked" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.json"
    notes, looks, unknown = _read(notes_file), {}, []
    for path in paths:
        try:
            state = (folder / path).stat()
        except (OSError, ValueError):
            continue
        known, now = notes.get(path), Look(state.st_size, state.st_mtime_ns, "", "")
        if known is None or known.fault or known[:2] != now[:2]:
            unknown.append(path)
            known = now
        looks[path] = known

    def look(path: str) -> tuple[str, str]:
        try:
            read_pixels(folder / path, PROBE)
            with open(folder / path, "rb") as file:
                return "", hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            return str(error), ""

    for path, (fault, checksum) in zip(unknown, in_threads(look, unknown, title=title), strict=True):
        looks[path] = looks[path]._replace(fault=fault, checksum=checksum)
    if unknown:
        _write(notes_file, looks)
    return looks


def _read(path: Path) -> dict[str, Look]:
    """The notes of an earlier look; what is damaged of them counts as not looked at."""
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return {name: Look(*note) for name, note in notes.items() if _is_look(note)}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_look(note: object) -> bool:
    if not isinstance(note, list) or [type(value) for value in note] != [int, int, str, str]:
        return False
    return bool(note[2]) != bool(note[3])


def _write(path: Path, looks: dict[str, Look]) -> None:
    try:
        write_text(path, json.dumps(looks))
    except OSError as error:
        logging.getLogger("vitcourse.data").info("what was found out about the images could not be kept: %s", error)
