"""The two lists of Yoga-82, `yoga_train.txt` and `yoga_test.txt`: an image a line, `path,l6,l20,l82`.

Paths are split off from the right, because they may hold commas.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from vitcourse.data.class_folders import with_subfolders

LISTS = {"train": "yoga_train.txt", "test": "yoga_test.txt"}
LEVELS = (6, 20, 82)


@dataclass(frozen=True)
class Entry:
    """One listed image: its path below the folder of images, and its label on each level, counted from 0."""

    path: str
    level_6: int
    level_20: int
    level_82: int

    def label(self, level: int) -> int:
        """The label on level 6, 20 or 82."""
        return {6: self.level_6, 20: self.level_20, 82: self.level_82}[level]

    @property
    def folder(self) -> str:
        """The name of the folder the image stands in, which is the name of the pose."""
        return PurePosixPath(self.path).parent.name


@dataclass(frozen=True)
class Listing:
    """What one of the files says.

    Attributes:
        entries: each path once, as it stands first.
        duplicates: paths of the lines after the first of the same path.
        broken: number, counted from 1, and fault of each line that can't be used.
        conflicts: duplicates whose labels differ from the first line's.
    """

    entries: tuple[Entry, ...]
    duplicates: tuple[str, ...]
    broken: tuple[tuple[int, str], ...]
    conflicts: tuple[str, ...]


def find(folder: Path) -> Path:
    """The folder that holds both lists: `folder` or one directly below it.

    Raises:
        FileNotFoundError: there is none.
    """
    places = with_subfolders(folder)
    for place in places:
        if all((place / name).is_file() for name in LISTS.values()):
            return place
    found = [name for name in LISTS.values() if any((place / name).is_file() for place in places)]
    state = f"holds only {found[0]}" if found else "doesn't hold them" if folder.is_dir() else "doesn't exist"
    raise FileNotFoundError(
        f"Yoga-82 needs the authors' lists {' and '.join(LISTS.values())}; folder {str(folder)!r} {state}. "
        "`python -m vitcourse data fetch yoga-82` says where they come from and how the folder must look."
    )


def read(path: Path) -> Listing:
    """Read one list.

    Raises:
        ValueError: not a single line can be used.
    """
    entries: dict[str, Entry] = {}
    duplicates, broken, conflicts = [], [], []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = _entry(line)
        except ValueError as error:
            broken.append((number, str(error)))
            continue
        first = entries.setdefault(entry.path, entry)
        if first is not entry:
            duplicates.append(entry.path)
            if first != entry:
                conflicts.append(entry.path)
    if not entries:
        reason = f"line {broken[0][0]}: {broken[0][1]}" if broken else "the file is empty"
        raise ValueError(f"list {str(path)!r} has no line of the form path,l6,l20,l82 ({reason}).")
    return Listing(tuple(entries.values()), tuple(duplicates), tuple(broken), tuple(conflicts))


def disagreements(entries: Iterable[Entry]) -> list[str]:
    """Where the labels are no tree: a class below two parents, a class of two folders, a folder of two classes."""
    entries = list(entries)
    faults = []
    for low, high in ((82, 20), (20, 6)):
        parents = defaultdict(Counter)
        for entry in entries:
            parents[entry.label(low)][entry.label(high)] += 1
        for label, counts in sorted(parents.items()):
            if len(counts) > 1:
                listed = ", ".join(f"{parent} ({count} images)" for parent, count in counts.most_common())
                faults.append(f"class {label} of level {low} lies below several classes of level {high}: {listed}")
    labels, folders = defaultdict(set), defaultdict(set)
    for entry in entries:
        labels[entry.folder].add(entry.level_82)
        folders[entry.level_82].add(entry.folder)
    for folder, found in sorted(labels.items()):
        if len(found) > 1:
            faults.append(f"folder {folder!r} holds several classes of level 82: {', '.join(map(str, sorted(found)))}")
    for label, found in sorted(folders.items()):
        if len(found) > 1:
            faults.append(f"class {label} of level 82 has several folders: {', '.join(map(repr, sorted(found)))}")
    return faults


def _entry(line: bytes) -> Entry:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    path, *numbers = (field.strip() for field in text.rsplit(",", len(LEVELS)))
    if len(numbers) != len(LEVELS) or not path:
        raise ValueError(f"{text!r} is not path,l6,l20,l82")
    for level, number in zip(LEVELS, numbers, strict=True):
        if not (number.isascii() and number.isdigit() and int(number) < level):
            raise ValueError(f"label {number!r} of level {level} is not a number from 0 to {level - 1}")
    windows = PureWindowsPath(path)  # which knows drives, and both kinds of slash
    if ".." in windows.parts or windows.anchor or "\0" in path:
        raise ValueError(f"path {path!r} leads out of the folder")
    return Entry(str(PurePosixPath(path)), *map(int, numbers))
