"""Images in folders named after their classes: `train/<class>/*`, `test/<class>/*`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitcourse.data.image_files import SUFFIXES, read_pixels
from vitcourse.data.threads import MANY
from vitcourse.progress import ProgressBar

PARTS = ("train", "test")


def with_subfolders(folder: Path) -> list[Path]:
    """`folder` and the folders directly below it by name, where something that was unpacked may lie."""
    below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [folder, *below]


def find(folder: Path) -> Path | None:
    """The folder that holds `train` and `test`: `folder` itself or one directly below it."""
    return next((place for place in with_subfolders(folder) if all((place / part).is_dir() for part in PARTS)), None)


def files(folder: Path, class_names: Sequence[str]) -> tuple[list[Path], list[int]]:
    """The image files of one part, class by class and by name within a class, and their labels.

    Hidden files and files that aren't images by their ending are left out.

    Raises:
        ValueError: the folders aren't the classes, or one holds no images.
    """
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    missing = [name for name in class_names if name not in found]
    unknown = [name for name in found if name not in class_names]
    if missing or unknown:
        raise ValueError(
            f"folder {str(folder)!r} must hold one folder for each class: {', '.join(class_names)}. "
            f"It holds {', '.join(found) or 'none'}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}."
        )
    paths, labels = [], []
    for label, name in enumerate(class_names):
        images = sorted(path for path in (folder / name).iterdir() if _is_image(path))
        if not images:
            raise ValueError(f"folder {str(folder / name)!r} holds no images ({', '.join(SUFFIXES)}).")
        paths += images
        labels += [label] * len(images)
    return paths, labels


def decode(paths: Sequence[Path], size: int, title: str) -> tuple[Tensor, list[str]]:
    """The images as one tensor `(N, 3, size, size)`, and what is wrong with each file that can't be read."""
    images, problems = np.zeros((len(paths), 3, size, size), dtype=np.uint8), []
    with ProgressBar(total=len(paths), desc=title, unit=" images", disable=len(paths) < MANY) as bar:
        # Not in threads: on files as small as these they wait for each other, and take 1.4 times as long.
        for place, path in enumerate(paths):
            try:
                images[place] = read_pixels(path, size).transpose(2, 0, 1)
            except (OSError, ValueError) as error:
                problems.append(str(error))
            bar.update()
    return torch.from_numpy(images), problems


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
