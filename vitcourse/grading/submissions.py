"""Who handed in what: folders of students, flat files, or the zip of a learning platform.

Longer than 150 lines because whatever a stranger can do to a name, a file or a zip is dealt with in this one place.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

MOST_BYTES = 32 * 2**20  # of one notebook; what is larger is not read
MOST_NOTEBOOKS = 20  # in the zip of one student
# Moodle: "Ana García_1234567_assignsubmission_file_/sheet-1.ipynb", or all in the file's name.
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<number>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$", re.DOTALL)
# Canvas: "garciaana_123_4567_sheet-1.ipynb", or "garciaana_LATE_123_4567_sheet-1.ipynb".
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?:LATE_)?(?P<number>\d+)_\d+_(?P<file>.+)$", re.DOTALL)
SHEET = re.compile(r"[-_. ]+sheet-\d[-\w]*$|^sheet-\d(?:-[a-z]+)?[_. ]+", re.IGNORECASE)  # in "ana_sheet-2.ipynb"
NOBODY = {"__MACOSX", ".DS_Store", ".ipynb_checkpoints", ".git", "Thumbs.db", "desktop.ini"}
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)$")  # no file of Windows can be called so


@dataclass(frozen=True)
class Submission:
    """One handed-in file.

    Args:
        student: a name that is unique in the class and good for a file name.
        name: as the platform writes it.
        identifier: the platform's number, or "".
        file: where it lay, for the reader's eye; unique in the class.
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


@dataclass(frozen=True)
class _File:
    """A file that was found: its path in parts, owner first, and what there is to know without a judgement."""

    parts: tuple[str, ...]
    content: bytes = b""
    handed_in: datetime | None = None
    problem: str = ""


def collect(place: Path) -> list[Submission]:
    """All notebooks below a folder or in a zip, sorted by student and then by time; a student may have several.

    A folder in `place` is a student; so is a file that lies there directly, by its name. Who handed in no notebook
    counts, too: that submission has a problem and no content. Nothing is unpacked, and no link is followed.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no folder and no zip, a zip that can't be unpacked, or nothing handed in.
    """
    check_there(place)
    owners: dict[str, list[_File]] = {}
    for file in _in_zip(place) if place.is_file() else _in_folder(place):
        owners.setdefault(file.parts[0], []).append(file)
    found = [one for owner, files in owners.items() for one in _of_owner(owner, files)]
    if not found:
        raise ValueError(f"submissions {str(place)!r} holds no notebook and no folder of a student.")
    return sorted(_told_apart(found), key=lambda one: (one.student, _moment(one), one.file))


def check_there(place: Path) -> None:
    """Refuse a place that isn't there.

    Raises:
        FileNotFoundError: nothing there.
    """
    if not place.exists():
        raise FileNotFoundError(
            f"submissions {str(place)!r} doesn't exist: name the folder or the zip of what was handed in."
        )


def slug(name: str) -> str:
    """A name as part of a path, in letters that every system takes: "ana-garcia" stays, "Ana García" gets a tail.

    The tail tells it from every other name of the same letters, and is the same each time.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    tidy = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60].strip("-")
    if tidy == name and not RESERVED.match(tidy):
        return tidy
    tail = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:6]
    return f"{tidy}-{tail}" if tidy else f"student-{tail}"


def _in_folder(place: Path) -> Iterator[_File]:
    for entry in sorted(place.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield _File((entry.name, ""))
            for path in sorted(entry.rglob("*")):
                if path.is_symlink() or not path.is_dir():
                    yield _read(path, path.relative_to(place).parts)
        elif entry.suffix.lower() == ".zip" and not entry.is_symlink():
            yield from _as_one(entry)
        else:
            yield _read(entry, (entry.name,))


def _as_one(path: Path) -> list[_File]:
    """A zip among hand-ins is one student's, unless its names are those of several: then nobody can say whose."""
    try:
        with zipfile.ZipFile(path) as archive:
            notebooks = [info for info in archive.infolist() if _is_notebook((path.name, *_parts(info)))]
        people = sorted({_person(_parts(info)) for info in notebooks} - {""})
        if len(people) > 1:
            whose = ", ".join(map(_shown, people[:3]))
            problem = f"a zip of several people's notebooks ({whose}): unpack it, or give it in place of the folder"
        elif len(notebooks) > MOST_NOTEBOOKS:
            problem = f"a zip of {len(notebooks)} notebooks; at most {MOST_NOTEBOOKS} are looked at"
        elif sum(info.file_size for info in notebooks) > 2 * MOST_BYTES:
            problem = f"a zip of more than {2 * MOST_BYTES // 2**20} MiB of notebooks"
        else:
            # Its own time, as for every other file: the times in it are those of a learner's clock.
            moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            inside = (replace(file, parts=(path.name, *file.parts), handed_in=moment) for file in _in_zip(path))
            return [_File((path.name, "")), *inside]
    except Exception as error:  # a stranger's file
        problem = _unpackable(error)
    return [_File((path.name,), problem=problem)]


def _person(parts: tuple[str, ...]) -> str:
    """Whose notebook it seems to be, by its place in a zip: a folder's name, or what stands beside that of a sheet."""
    first, is_folder = parts[0], len(parts) > 1
    if known := MOODLE.match(first) or (None if is_folder else CANVAS.match(first)):
        return known["name"]
    if is_folder:
        return "" if first.lower().startswith("sheet-") else first
    stem = PurePosixPath(first).stem
    rest = SHEET.sub("", stem)
    return rest if rest != stem else ""


def _read(path: Path, parts: tuple[str, ...]) -> _File:
    if path.is_symlink() or not path.is_file():
        return _File(parts, problem="a link, not a file")
    if not _is_notebook(parts):
        return _File(parts)
    try:
        state = path.stat()
        moment = datetime.fromtimestamp(state.st_mtime, UTC)
        return _checked(parts, b"" if state.st_size > MOST_BYTES else path.read_bytes(), moment, state.st_size)
    except (OSError, ValueError, OverflowError) as error:
        return _File(parts, problem=f"it can't be read ({type(error).__name__})")


def _in_zip(place: Path) -> Iterator[_File]:
    if not zipfile.is_zipfile(place):
        raise ValueError(f"submissions {str(place)!r} is neither a folder nor a zip.")
    try:
        with zipfile.ZipFile(place) as archive:
            for info in archive.infolist():
                parts = _parts(info)
                yield _unzipped(archive, info, parts) if _is_notebook(parts) else _File(parts)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        problem = f"{_unpackable(error)}; download it again"
        raise ValueError(f"submissions {str(place)!r} is a zip, but {problem}.") from None


def _parts(info: zipfile.ZipInfo) -> tuple[str, ...]:
    """The path of something in a zip, a folder's with an empty last part.

    A name is only ever shown: "../../x" or "C:\\x" leads nowhere.
    """
    path = PurePosixPath(info.filename.replace("\\", "/"))
    parts = tuple(part for part in path.parts if part not in ("/", "..", ".")) or ("nameless",)
    return (*parts, "") if info.is_dir() else parts


def _is_notebook(parts: tuple[str, ...]) -> bool:
    return parts[-1].lower().endswith(".ipynb") and not any(map(_is_nobodys, parts[1:]))


def _unpackable(error: Exception) -> str:
    return f"it can't be unpacked ({type(error).__name__})"


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, parts: tuple[str, ...]) -> _File:
    try:
        moment = datetime(*info.date_time).astimezone(UTC)  # a zip holds the local time
    except (ValueError, OverflowError, OSError):
        moment = None
    try:
        with archive.open(info) as file:
            content = b"" if info.file_size > MOST_BYTES else file.read(MOST_BYTES + 1)
    except Exception as error:  # a password, a damaged part, an unknown packing
        return _File(parts, b"", moment, _unpackable(error))
    return _checked(parts, content, moment, max(info.file_size, len(content)))


def _checked(parts: tuple[str, ...], content: bytes, moment: datetime | None, size: int) -> _File:
    if size > MOST_BYTES:
        return _File(parts, b"", moment, f"larger than {MOST_BYTES // 2**20} MiB")
    return _File(parts, content, moment, "" if content.strip() else "an empty file")


def _of_owner(owner: str, files: Iterable[_File]) -> Iterator[Submission]:
    """The notebooks of one owner, or what stands for them."""
    if owner in NOBODY or owner.startswith("._"):
        return
    known = [file for file in files if not any(map(_is_nobodys, file.parts[1:]))]
    notebooks = [file for file in known if _is_notebook(file.parts)]
    if notebooks:
        yield from (_submission(owner, file) for file in notebooks)
        return
    others = [file for file in known if file.parts[-1]]
    shown = ", ".join(map(_named, others[:3]))
    problem = f"no notebook was handed in, but {shown}" if shown else "no notebook was handed in"
    yield _submission(owner, _File((owner,), problem=problem))


def _named(file: _File) -> str:
    name = _shown("/".join(file.parts[1:] or file.parts))
    return f"{name}: {file.problem}" if file.problem else name


def _is_nobodys(part: str) -> bool:
    return part in NOBODY or part.startswith(".")


def _submission(owner: str, file: _File) -> Submission:
    flat = len(file.parts) == 1 or owner.lower().endswith(".zip")
    known = MOODLE.match(owner) or (CANVAS.match(owner) if flat else None)
    stem = re.sub(r"\.(ipynb|zip)$", "", owner, flags=re.IGNORECASE) if flat else owner
    name = known["name"] if known else (SHEET.sub("", stem) or stem if flat else owner)
    name = unicodedata.normalize("NFC", name)
    number = known["number"] if known else ""
    student = f"{slug(name).removesuffix('-')}-{number}" if number else slug(name)
    shown = "/".join(map(_shown, file.parts))
    return Submission(student, _shown(name), number, shown, file.content, file.handed_in, file.problem)


def _shown(text: str) -> str:
    """A name for the eye: what can't be written or seen becomes a question mark."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _told_apart(found: list[Submission]) -> Iterator[Submission]:
    """The same place twice, as a zip can hold it, gets a number."""
    seen: Counter[str] = Counter()
    for one in found:
        seen[one.file] += 1
        yield replace(one, file=f"{one.file} #{seen[one.file]}") if seen[one.file] > 1 else one


def _moment(one: Submission) -> datetime:
    return one.handed_in or datetime.min.replace(tzinfo=UTC)
