"""Who handed in what: folders of students, flat files, or the zip of a learning platform."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

MOST_BYTES = 20 * 2**20  # of one notebook; what is larger is not read
# Moodle: "Ana García_1234567_assignsubmission_file_/sheet-1.ipynb", or all in the file's name.
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$")


@dataclass(frozen=True)
class Submission:
    """One handed-in file.

    Args:
        student: a name that is unique in the class and good for a file name.
        name: as the platform writes it.
        identifier: the platform's number, or "".
        file: where it lay, for the reader's eye.
        content: its bytes; b"" if it is too large.
        handed_in: by the file's clock; None where that says nothing.
        problem: why it can't be read, or "".
    """

    student: str
    name: str
    identifier: str
    file: str
    content: bytes
    handed_in: datetime | None
    problem: str = ""


def collect(place: Path) -> list[Submission]:
    """All notebooks below a folder or in a zip, sorted by student and then by time; a student may have several.

    A folder in `place` is a student; so is a notebook that lies there directly, by its name. Students without a
    notebook count too: their submission has a problem and no content.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file that is no zip, or nothing handed in.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"submissions {str(place)!r} doesn't exist: name the folder or the zip of what was handed in."
        )
    found = list(_in_zip(place) if place.is_file() else _in_folder(place))
    if not found:
        raise ValueError(f"submissions {str(place)!r} holds no notebook and no folder of a student.")
    return sorted(found, key=lambda one: (one.student, one.handed_in or datetime.min.replace(tzinfo=UTC), one.file))


def slug(name: str) -> str:
    """A name as part of a path, in letters that every system takes: "Ana García" gives "ana-garcia"."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    tidy = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return tidy or "student-" + format(sum(map(ord, name)) % 10**6, "06d")


def _in_folder(place: Path) -> Iterator[Submission]:
    for entry in sorted(place.iterdir()):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir() and not entry.is_symlink():
            files = [f for f in sorted(entry.rglob("*")) if _is_notebook(f.relative_to(entry).as_posix())]
            files = [file for file in files if file.is_file() and not file.is_symlink()]
            yield from (_of_file(file, entry.name, file.relative_to(place).as_posix()) for file in files)
            if not files:
                yield _submission(entry.name, entry.name, b"", None, "no notebook was handed in")
        elif entry.is_file() and not entry.is_symlink() and _is_notebook(entry.name):
            yield _of_file(entry, entry.name, entry.name)


def _in_zip(place: Path) -> Iterator[Submission]:
    if not zipfile.is_zipfile(place):
        raise ValueError(f"submissions {str(place)!r} is neither a folder nor a zip.")
    with zipfile.ZipFile(place) as archive:
        for info in archive.infolist():
            parts = info.filename.split("/")
            if info.is_dir() or "__MACOSX" in parts or not _is_notebook(info.filename):
                continue
            large = info.file_size > MOST_BYTES  # as the archive says; what is read is cut there as well
            with archive.open(info) as file:
                content = b"" if large else file.read(MOST_BYTES + 1)
            when = datetime(*info.date_time, tzinfo=UTC)
            content, problem = _checked(content, large)
            yield _submission(parts[0], info.filename, content, when, problem)


def _is_notebook(path: str) -> bool:
    parts = path.split("/")
    return path.endswith(".ipynb") and not any(part.startswith(".") for part in parts)


def _of_file(file: Path, owner: str, shown: str) -> Submission:
    state = file.stat()
    large = state.st_size > MOST_BYTES
    content, problem = _checked(b"" if large else file.read_bytes(), large)
    return _submission(owner, shown, content, datetime.fromtimestamp(state.st_mtime, UTC), problem)


def _checked(content: bytes, large: bool) -> tuple[bytes, str]:
    if large or len(content) > MOST_BYTES:
        return b"", f"larger than {MOST_BYTES // 2**20} MiB"
    return content, "" if content.strip() else "an empty file"


def _submission(owner: str, file: str, content: bytes, handed_in: datetime | None, problem: str) -> Submission:
    moodle = MOODLE.match(owner)
    name = moodle["name"] if moodle else owner.removesuffix(".ipynb")
    number = moodle["number"] if moodle else ""
    student = f"{slug(name)}-{number}" if number else slug(name)
    return Submission(student, name, number, file, content, handed_in, problem)
