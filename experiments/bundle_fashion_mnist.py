"""Build the Fashion-MNIST subset that comes with the course from the complete set.

    python experiments/bundle_fashion_mnist.py [FOLDER]

FOLDER holds the four original files; by default it is where Debian's package `dataset-fashion-mnist` puts them.
"""

import sys
from pathlib import Path

import numpy as np

from vitcourse.data import SPLITS, fashion_mnist
from vitcourse.files import written_whole

TARGET = Path(fashion_mnist.__file__).parent / "assets" / "fashion-mnist.npz"


def build(folder: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of the bundled file."""
    arrays = {}
    for split in SPLITS:
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = fashion_mnist.bundled_subset(split, folder)
    return arrays


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    with written_whole(TARGET) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **build(folder))
    pixels = np.pad(fashion_mnist.read_complete("train", folder)[0], ((0, 0), (2, 2), (2, 2))) / 255
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.2f} MB")
    print(f"mean {pixels.mean():.4f}, std {pixels.std():.4f} of the complete training split, padded")
