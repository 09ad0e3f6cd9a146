"""Images, labels, and what one has to know about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One part of a data set, in memory.

    Attributes:
        name, split: where the images come from.
        images: `(N, C, H, W)`, uint8, 0 to 255.
        labels: `(N,)`, int64, an index into `class_names`.
        class_names: K names.
        mean, std: of each channel over the set's training images, on the scale 0 to 1.
        source: provenance and licence, one sentence.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: Tensor | Sequence[int] | slice = slice(None)) -> Tensor:
        """The chosen images as a model takes them: float32, normalised, `(n, C, H, W)`."""
        return self.normalise(self.images[indices])

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images `(n, C, H, W)` scaled to 0 .. 1, minus `mean`, divided by `std`."""
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        return (images.float() / 255 - mean) / std

    def subset(self, indices: Tensor | Sequence[int] | slice) -> ImageSet:
        """The same set with only the chosen images."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def __repr__(self) -> str:
        count, *shape = self.images.shape
        size = " x ".join(map(str, shape))
        return f"ImageSet({self.name}, {self.split}: {count} images of {size}, {len(self.class_names)} classes)"
