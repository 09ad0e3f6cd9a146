"""Yoga-82: photographs and drawings of people in yoga poses, labelled in a tree of 6, 20 and 82 classes.

Verma, Kumawat, Nakashima, Raman, 2020: "Yoga-82: A New Dataset for Fine-grained Classification of Human Poses",
arXiv:2004.10362. The authors give links, not images, and many links are dead: every copy of the set is another one, so
say how many images yours has wherever you quote a figure.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import torch

from vitcourse.data import yoga_lists
from vitcourse.data.image_files import ImageFiles
from vitcourse.data.image_set import SPLITS, ImageSet
from vitcourse.data.splits import stratified
from vitcourse.data.yoga_survey import Survey, survey
from vitcourse.places import data_home
from vitcourse.validation import one_of, positive_integer, probability

# ImageNet's, as usual for photographs; the set itself differs from copy to copy.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCE = (
    "Yoga-82 (Verma et al., 2020, arXiv:2004.10362), sites.google.com/view/yoga-82; images from the authors' lists of "
    "links, each under its own owner's rights: for study and research only, not to be passed on"
)
FAMILIES = ("standing", "sitting", "balancing", "inverted", "reclining", "wheel")
# The lists hold numbers only. Names and their order are as github.com/EnesGumuskaynak/micro-action-recognition gives
# them, not compared with the paper's figure; the numbers are the authors'.
GROUPS = (
    "standing: straight",
    "standing: forward bend",
    "standing: side bend",
    "standing: others",
    "sitting: normal 1 (legs in front)",
    "sitting: normal 2 (legs behind)",
    "sitting: split",
    "sitting: forward bend",
    "sitting: twist",
    "balancing: front",
    "balancing: side",
    "inverted: legs straight up",
    "inverted: legs bent",
    "reclining: up-facing",
    "reclining: down-facing",
    "reclining: side-facing",
    "reclining: plank balance",
    "wheel: up-facing",
    "wheel: down-facing",
    "wheel: others",
)
LAYOUT = """\
FOLDER/
    yoga_train.txt              a line an image: Boat_Pose_or_Paripurna_Navasana_/643.jpg,5,19,2
    yoga_test.txt
    Boat_Pose_or_Paripurna_Navasana_/643.jpg
    ...
The two lists may stand one level lower (Yoga-82/yoga_train.txt), and so may the folders of images."""


def load(
    split: str,
    *,
    size: int = 224,
    level: int = 82,
    folder: str | Path | None = None,
    seed: int = 0,
    validation_share: float = 0.2,
) -> ImageSet:
    """One split, decoded when indexed; missing and unreadable images are left out, and a warning counts them.

    The validation split is drawn by `seed` from the images of the training list that can be used: of each of the 82
    classes the nearest number to `validation_share`, but never all. It is the same for every `level`, and doesn't
    depend on the order of the list.

    Args:
        size: height and width of what a model sees; images are stored somewhat larger (256 for 224).
        level: which labels: 6, 20 or 82 classes.
        folder: holds the lists and the images, as in `LAYOUT`; by default `yoga-82` in `vitcourse.places.data_home()`.

    Returns:
        With the annotations "level_6", "level_20" and "level_82", labels `(N,)`, and "path" as in the list. The 82
        poses are named by their folders.

    Raises:
        FileNotFoundError: the lists or all images are missing.
        ValueError: a split or level that there isn't, a list without a valid line, or no image left for the split.
        TypeError: a size or level that is no whole number.
    """
    one_of("split", split, SPLITS)
    positive_integer("size", size)
    probability("validation_share", validation_share)
    level = one_of("level", positive_integer("level", level), yoga_lists.LEVELS)
    found = survey(folder or default_folder())
    part = found.parts["test" if split == "test" else "train"]
    if part.summary():
        logging.getLogger("vitcourse.data").warning("Yoga-82, %s: %s.", split, part.summary())
    entries = part.usable
    if split != "test":
        validation = stratified([e.path for e in entries], [e.level_82 for e in entries], validation_share, seed)
        wanted = split == "validation"
        entries = tuple(entry for entry, chosen in zip(entries, validation, strict=True) if chosen == wanted)
    if not entries:
        raise ValueError(f"split {split!r} of Yoga-82 has no images left in {str(found.images)!r}.")
    labels = {f"level_{each}": torch.tensor([entry.label(each) for entry in entries]) for each in yoga_lists.LEVELS}
    return ImageSet(
        name="yoga-82",
        split=split,
        images=ImageFiles([found.images / entry.path for entry in entries], round(size * 256 / 224)),
        labels=labels[f"level_{level}"],
        class_names=class_names(found, level),
        mean=MEAN,
        std=STD,
        source=SOURCE,
        size=(size, size),
        annotations={**labels, "path": tuple(entry.path for entry in entries)},
    )


def default_folder() -> Path:
    """Where the set is looked for when no folder is named."""
    return data_home() / "yoga-82"


def find(folder: str | Path | None = None) -> Path:
    """The folder that holds the two lists: `folder` or `default_folder()`, itself or one directly below it.

    Raises:
        FileNotFoundError: there is none, with the way to get the set.
    """
    return yoga_lists.find(Path(folder or default_folder()))


def class_names(found: Survey, level: int) -> tuple[str, ...]:
    """The names of a level's classes; poses are called like their folder, and one that isn't listed by its number."""
    if level != 82:
        return {6: FAMILIES, 20: GROUPS}[level]
    folders: dict[int, Counter[str]] = {label: Counter() for label in range(82)}
    for part in found.parts.values():
        for entry in part.list.entries:
            folders[entry.level_82][entry.folder] += 1
    return tuple(_name(label, counts) for label, counts in folders.items())


def _name(label: int, folders: Counter[str]) -> str:
    name = max(folders, key=lambda folder: (folders[folder], folder), default="")
    return " ".join(name.replace("_", " ").split()) or f"pose {label}"
