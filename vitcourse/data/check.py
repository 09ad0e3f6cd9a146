"""Looking through a whole data set: what is there, what is missing, what is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitcourse.data import cifar10, class_folders, fashion_mnist, yoga_82
from vitcourse.data.download import file_md5
from vitcourse.data.image_set import SPLITS, ImageSet
from vitcourse.data.yoga_survey import Part, survey

FEW = 5  # examples of each kind of fault


@dataclass
class Report:
    """Lines that say what was found, and faults; a set without faults is whole."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str, examples: Sequence[str]) -> None:
        """Add one line for all `examples` of a fault, with the first few."""
        if examples:
            more = f", and {len(examples) - FEW:,} more" if len(examples) > FEW else ""
            self.faults.append(f"{len(examples):,} {what}: {'; '.join(examples[:FEW])}{more}")

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"✗ {fault}" for fault in self.faults)] + ["✓ whole"] * (not self.faults))


def cifar_10(folder: str | Path | None = None) -> Report:
    """Open every image of CIFAR-10.

    Raises:
        FileNotFoundError: the set isn't there.
        ValueError: other class folders than expected, or a damaged batch file.
    """
    layout, place = cifar10.find(folder)
    report = Report([f"{layout} in {place}"])
    archive = place.parent / cifar10.ARCHIVE
    if archive.is_file():
        found = file_md5(archive)
        report.lines.append(f"{archive.name}: md5 {found}")
        report.fault("archive with another md5", [archive.name] if found != cifar10.MD5 else [])
    counts = {}
    for part, expected in cifar10.PER_CLASS.items():
        if layout == "batches":
            labels = cifar10.read_batches(place, train=part == "train")[1]
            report.lines.append(f"{part}: the md5 of every file is right")
        else:
            paths, labels = class_folders.files(place / part, cifar10.CLASS_NAMES)
            _, problems = class_folders.decode(paths, cifar10.PIXELS, f"CIFAR-10 {part}")
            report.fault(f"of {len(paths):,} images of {part} can't be read", problems)
        counts[part] = np.bincount(labels, minlength=len(cifar10.CLASS_NAMES))
        wrong = [
            f"{name} {count:,}"
            for name, count in zip(cifar10.CLASS_NAMES, counts[part], strict=True)
            if count != expected
        ]
        report.fault(f"classes of {part} don't have {expected:,} images", wrong)
    report.lines += _table(cifar10.CLASS_NAMES, counts)
    return report


def fashion(folder: str | Path | None = None) -> Report:
    """Open the bundled images of Fashion-MNIST and, where they are, the complete ones."""
    report = loaded({split: fashion_mnist.load(split) for split in SPLITS})
    try:
        place = fashion_mnist.find(folder)
    except FileNotFoundError as error:
        if folder:
            raise
        report.lines.append(f"the complete set isn't here: {error}")
        return report
    complete = {split: fashion_mnist.load(split, complete=True, folder=place) for split in SPLITS}
    known = all(file_md5(place / name) == md5 for name, md5 in fashion_mnist.MD5.items())
    note = "the known md5" if known else "not the known md5, as when Debian packs them anew"
    report.lines.append(f"complete set in {place}; files have {note}")
    report.lines += loaded(complete).lines
    sizes = {"train": 5500, "validation": 500, "test": 1000}
    wrong = [split for split in SPLITS if set(complete[split].labels.bincount().tolist()) != {sizes[split]}]
    report.fault("complete splits have other counts than expected", wrong)
    return report


def yoga(folder: str | Path | None = None) -> Report:
    """Open every listed image of Yoga-82.

    Images listed twice, or in both parts, are told but no fault of this copy: they stand in the authors' lists.

    Raises:
        FileNotFoundError: the lists or all images are missing.
        ValueError: a list without a valid line.
    """
    found = survey(folder or yoga_82.default_folder())
    report = Report([f"images in {found.images}"])
    for name, part in found.parts.items():
        report.lines.append(_numbers(name, part))
        report.fault(f"broken lines in the list of {name}", [f"line {n}: {why}" for n, why in part.list.broken])
        report.fault(f"listed images of {name} are missing", part.missing)
        report.fault(f"images of {name} can't be read", [why for _, why in part.unreadable])
    report.fault("labels are no tree", found.disagreements)
    names, counts = yoga_82.class_names(found, 82), {}
    for name, part in found.parts.items():
        every = part.class_counts()
        counts[f"{name}, listed"] = [every.get(label, (0, 0))[0] for label in range(82)]
        counts[f"{name}, usable"] = [every.get(label, (0, 0))[1] for label in range(82)]
    report.lines += _table(names, counts)
    return report


def loaded(sets: dict[str, ImageSet]) -> Report:
    """The counts of splits that are in memory."""
    names = next(iter(sets.values())).class_names
    return Report(
        _table(names, {split: images.labels.bincount(minlength=len(names)) for split, images in sets.items()})
    )


def _numbers(name: str, part: Part) -> str:
    shared = f"{len(part.shared):,} also in test, " if name == "train" else ""
    return (
        f"{name}: {len(part.list.entries):,} listed, {len(part.usable):,} usable, {len(part.missing):,} missing, "
        f"{len(part.unreadable):,} unreadable, {len(part.list.duplicates):,} listed twice, {len(part.copies):,} copies "
        f"of another image, {shared}{len(part.list.broken):,} broken lines"
    )


def _table(names: Sequence[str], counts: dict[str, Iterable[int]]) -> list[str]:
    columns = {title: [int(count) for count in column] for title, column in counts.items()}
    width = max(map(len, (*names, "all")))
    rows = [(name, [column[place] for column in columns.values()]) for place, name in enumerate(names)]
    rows.append(("all", [sum(column) for column in columns.values()]))
    widths = [max(len(title), 6) for title in columns]
    head = f"  {'':{width}}" + "".join(f"  {title:>{w}}" for title, w in zip(columns, widths, strict=True))
    body = [
        f"  {name:{width}}" + "".join(f"  {count:>{w},}" for count, w in zip(values, widths, strict=True))
        for name, values in rows
    ]
    return [head, *body]
