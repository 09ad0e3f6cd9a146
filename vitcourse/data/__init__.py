"""Images with labels, all with one face: `load(name, split) -> ImageSet`."""

from __future__ import annotations

import inspect
from typing import Any

from vitcourse.data import cifar10, fashion_mnist, poses, scenes, yoga_82
from vitcourse.data.image_set import SPLITS, ImageSet
from vitcourse.validation import one_of

_SETS = {
    "fashion-mnist": fashion_mnist.load,
    "cifar-10": cifar10.load,
    "yoga-82": yoga_82.load,
    "poses": poses.load,
    "scenes": scenes.load,
}
NAMES = tuple(_SETS)
FINDERS = {  # of what doesn't come with the course: where it is, or FileNotFoundError
    "fashion-mnist, complete": fashion_mnist.find,
    "cifar-10": lambda: cifar10.find()[1],
    "yoga-82": yoga_82.find,
}


def load(name: str = "fashion-mnist", split: str = "train", **options: Any) -> ImageSet:
    """Load one part of a data set.

    Args:
        name: one of `NAMES`.
        split: "train", "validation" or "test". Training and validation images come from the set's own training part,
            test images from its test part.
        options: what the set's own `load` takes beside the split, such as `complete`, `size`, `level`, `folder`.

    Raises:
        ValueError: an unknown name or split.
        TypeError: an option that the set doesn't have.
        FileNotFoundError: a set that isn't there, with the ways to get it.
    """
    one_of("name", name, NAMES)
    one_of("split", split, SPLITS)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise TypeError(f"{name!r} has no option {option!r}; it takes {', '.join(known)}.")
    return _SETS[name](split, **options)


def options_of(name: str) -> tuple[str, ...]:
    """What a set takes beside the split."""
    return tuple(inspect.signature(_SETS[name]).parameters)[1:]


__all__ = ["NAMES", "SPLITS", "ImageSet", "load", "options_of"]
