"""Images with labels, all with one face: `load(name, split) -> ImageSet`."""

from __future__ import annotations

from pathlib import Path

from vitcourse.data import fashion_mnist
from vitcourse.data.image_set import SPLITS, ImageSet

_SETS = {"fashion-mnist": fashion_mnist.load}
NAMES = tuple(_SETS)


def load(
    name: str = "fashion-mnist",
    split: str = "train",
    *,
    complete: bool = False,
    folder: str | Path | None = None,
) -> ImageSet:
    """Load one part of a data set into memory.

    Args:
        name: one of `NAMES`.
        split: "train", "validation" or "test". Training and validation images come from the set's own training part,
            test images from its test part.
        complete: the whole set instead of the subset that comes with the course.
        folder: where the complete set lies; see the set's own module for what is looked for.

    Raises:
        ValueError: an unknown name or split.
        FileNotFoundError: a complete set that isn't there, with the ways to get it.
    """
    if name not in _SETS:
        raise ValueError(f"name must be one of {', '.join(map(repr, NAMES))}, got {name!r}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(map(repr, SPLITS))}, got {split!r}.")
    return _SETS[name](split, complete=complete, folder=folder)


__all__ = ["NAMES", "SPLITS", "ImageSet", "load"]
