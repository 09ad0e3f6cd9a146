"""Trained models that come with the course, each beside its card and its log."""

from __future__ import annotations

from importlib import resources
from typing import Any

from vitcourse.model import VisionTransformer
from vitcourse.validation import one_of

NAMES = ("cifar-10", "cifar-10-larger", "fashion-mnist", "poses-6", "poses-20", "poses-82", "scenes")


def load(name: str = "fashion-mnist", **changes: Any) -> VisionTransformer:
    """A trained model, in evaluation mode, on the CPU.

    Args:
        name: one of `NAMES`; the data set that it was trained on. Its card is `NAME/README.md` beside this file.
        changes: as in `VisionTransformer.load`.

    Raises:
        ValueError: an unknown name.
    """
    one_of("name", name, NAMES)
    with resources.as_file(resources.files("vitcourse.checkpoints").joinpath(name, "model.safetensors")) as path:
        return VisionTransformer.load(path, **changes)
