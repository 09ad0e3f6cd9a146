"""What of Yoga-82 is there: listed, found, missing, unreadable, listed twice, and in both parts."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vitcourse.data import yoga_lists
from vitcourse.data.class_folders import with_subfolders
from vitcourse.data.notes import Look, examine
from vitcourse.data.yoga_lists import LISTS, Entry, Listing


@dataclass(frozen=True)
class Part:
    """One of the two parts, "train" or "test".

    Attributes:
        list: what the file lists.
        missing: paths of listed images that aren't there.
        unreadable: path and fault of those that are no whole image.
        usable: the entries that remain; of the training part without those that are in the test part too.
        shared: training only: paths of images that the test part has too, under the same path or another.
        copies: paths of usable images with the same content as an earlier one of this part; they are kept.
    """

    list: Listing
    missing: tuple[str, ...]
    unreadable: tuple[tuple[str, str], ...]
    usable: tuple[Entry, ...]
    shared: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()

    def class_counts(self, level: int = 82) -> dict[int, tuple[int, int]]:
        """Of each listed class: how many images are listed, and how many of them can be used."""
        listed = Counter(entry.label(level) for entry in self.list.entries)
        usable = Counter(entry.label(level) for entry in self.usable)
        return {label: (listed[label], usable[label]) for label in sorted(listed)}

    def summary(self) -> str:
        """What is lost, in one line; empty when nothing is."""
        counts = {
            "missing": len(self.missing),
            "unreadable": len(self.unreadable),
            "also in the test part": len(self.shared),
            "listed twice": len(self.list.duplicates),
            "broken lines": len(self.list.broken),
        }
        lost = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        return lost and f"{len(self.usable):,} of {len(self.list.entries):,} listed images can be used ({lost})"


@dataclass(frozen=True)
class Survey:
    """The whole set: where the images are, its two parts, and where the labels are no tree."""

    images: Path
    parts: dict[str, Part]
    disagreements: tuple[str, ...]


def survey(folder: str | Path) -> Survey:
    """Look at every listed image: it is opened and decoded once, and again only when it has changed.

    Raises:
        FileNotFoundError: a list or all images are missing.
        ValueError: a list without a single valid line.
    """
    folder = Path(folder)
    place = yoga_lists.find(folder)
    lists = {name: yoga_lists.read(place / file) for name, file in LISTS.items()}
    images = _folder_of_images(folder, place, lists)
    paths = {entry.path: None for each in lists.values() for entry in each.entries}
    seen = examine(images, list(paths), title="Yoga-82: checking")
    test = _part(lists["test"], seen, frozenset())
    train = _part(lists["train"], seen, frozenset(seen[entry.path].checksum for entry in test.usable))
    every = [entry for each in lists.values() for entry in each.entries]
    conflicts = [path for each in lists.values() for path in each.conflicts]
    faults = [*yoga_lists.disagreements(every), *(f"{path!r} is listed with different labels" for path in conflicts)]
    return Survey(images, {"train": train, "test": test}, tuple(faults))


def _part(listed: Listing, seen: dict[str, Look], contents: frozenset[str]) -> Part:
    """The part without what is lost, and without images whose checksum is among `contents`."""
    missing = tuple(entry.path for entry in listed.entries if entry.path not in seen)
    there = [entry for entry in listed.entries if entry.path in seen]
    unreadable = tuple((entry.path, seen[entry.path].fault) for entry in there if seen[entry.path].fault)
    whole = [entry for entry in there if not seen[entry.path].fault]
    shared = tuple(e.path for e in whole if seen[e.path].checksum in contents)
    taken = set(shared)
    usable = tuple(entry for entry in whole if entry.path not in taken)
    first: dict[str, str] = {}
    copies = tuple(e.path for e in usable if first.setdefault(seen[e.path].checksum, e.path) != e.path)
    return Part(listed, missing, unreadable, usable, shared, copies)


def _folder_of_images(folder: Path, place: Path, lists: dict[str, Listing]) -> Path:
    """Of the folder, its subfolders and those of the lists' folder: the one with most of the folders of classes."""
    wanted = {PurePosixPath(entry.path).parts[0] for each in lists.values() for entry in each.entries}
    places = dict.fromkeys([*with_subfolders(place), *with_subfolders(folder)])
    found = {path: len(wanted.intersection(os.listdir(path))) for path in places}
    best = max(found, key=found.get)
    if not found[best]:
        raise FileNotFoundError(
            f"folder {str(folder)!r} holds the lists of Yoga-82, but none of the {len(wanted)} folders of images they "
            f"name, such as {min(wanted)!r}, neither there nor one level below."
        )
    return best
