"""Fashion-MNIST: grey pictures of clothes, ten classes (Xiao, Rasul, Vollgraf, 2017, arXiv:1708.07747).

The images are 28 x 28; a border of 2 black pixels makes them 32 x 32, which patches of 4, 8 and 16 divide.

Splits are a rule, not a draw, because the original order is already mixed. Of each class in the training part, the
first 500 images are the complete validation split and the rest is the complete training split. The bundled subset
takes the first 100 of the 500 for validation and the first 600 of the rest for training, and of each class in the test
part the first 100. So every bundled split lies inside its complete one, and no image is in two splits.
"""

from __future__ import annotations

import gzip
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from vitcourse.data.image_files import resized
from vitcourse.data.image_set import SPLITS, ImageSet
from vitcourse.data.splits import rank_within_class
from vitcourse.places import data_home
from vitcourse.validation import one_of

CLASS_NAMES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
VALIDATION_PER_CLASS = 500
BUNDLED_PER_CLASS = {"train": 600, "validation": 100, "test": 100}
# Of the complete training split, padded; `experiments/bundle_fashion_mnist.py` prints them.
MEAN, STD = (0.2189,), (0.3317,)
SOURCE = "Fashion-MNIST, copyright 2017 Zalando SE, MIT licence, github.com/zalandoresearch/fashion-mnist"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
HOSTS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"


def load(split: str, *, complete: bool = False, size: int = 32, folder: str | Path | None = None) -> ImageSet:
    """One split: the bundled subset (6,000 / 1,000 / 1,000), or the complete set (55,000 / 5,000 / 10,000).

    Args:
        size: height and width; other than 32, the images with their border are scaled (bilinear, antialiased).
        folder: holds the four original `.gz` files, itself or in torchvision's `FashionMNIST/raw`; by default
            `fashion-mnist` in `vitcourse.places.data_home()`, or else where Debian's package
            `dataset-fashion-mnist` puts them.

    Raises:
        FileNotFoundError: the complete set isn't there.
        ValueError: another split, a damaged file, or a folder for the bundled subset, which needs none.
    """
    one_of("split", split, SPLITS)
    if folder is not None and not complete:
        raise ValueError(f"folder {str(folder)!r} is for the complete set: add complete=True, or leave it out.")
    if complete:
        images, labels = read_complete(split, folder)
    else:
        with resources.files("vitcourse.data").joinpath("assets/fashion-mnist.npz").open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return ImageSet(
        name="fashion-mnist" + "-complete" * complete,
        split=split,
        images=resized(torch.from_numpy(padded)[:, None], size),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=CLASS_NAMES,
        mean=MEAN,
        std=STD,
        source=SOURCE,
    )


def read_complete(split: str, folder: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images `(N, 28, 28)` and labels `(N,)` of a complete split, both uint8, in the original order."""
    part = "t10k" if split == "test" else "train"
    folder = find(folder, part)
    images = _read_idx(folder / f"{part}-images-idx3-ubyte.gz", header=16, shape=(-1, 28, 28))
    labels = _read_idx(folder / f"{part}-labels-idx1-ubyte.gz", header=8, shape=(-1,))
    if split == "test":
        return images, labels
    validation = rank_within_class(labels) < VALIDATION_PER_CLASS
    chosen = validation if split == "validation" else ~validation
    return images[chosen], labels[chosen]


def bundled_subset(split: str, folder: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a bundled split, cut from the complete set."""
    images, labels = read_complete(split, folder)
    chosen = rank_within_class(labels) < BUNDLED_PER_CLASS[split]
    return images[chosen], labels[chosen]


def default_folder() -> Path:
    """Where `python -m vitcourse data fetch fashion-mnist` puts the complete set."""
    return data_home() / "fashion-mnist"


def find(folder: str | Path | None = None, part: str = "train") -> Path:
    """The folder that holds the original files of a part, "train" or "t10k".

    Raises:
        FileNotFoundError: they aren't there, with the ways to get them.
    """
    given = [Path(folder)] if folder else [default_folder(), Path(DEBIAN_FOLDER)]
    for place in given:
        for candidate in (place, place / "FashionMNIST" / "raw"):
            if all((candidate / f"{part}-{kind}-ubyte.gz").is_file() for kind in ("images-idx3", "labels-idx1")):
                return candidate
    raise FileNotFoundError(
        f"folder {str(given[0])!r} holds no complete Fashion-MNIST. Three ways out: use the bundled subset "
        "(complete=False); on Debian or Ubuntu, `apt install dataset-fashion-mnist`; with a network, "
        "`python -m vitcourse data fetch fashion-mnist`."
    )


def _read_idx(path: Path, header: int, shape: tuple[int, ...]) -> np.ndarray:
    try:
        with gzip.open(path) as file:
            return np.frombuffer(file.read(), dtype=np.uint8, offset=header).reshape(shape)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"file {str(path)!r} is damaged ({error}); fetch it again.") from None
