"""Images, labels, and what one has to know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vitcourse.data.image_files import ImageFiles

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One part of a data set.

    Attributes:
        name, split: where the images come from.
        images: `(N, C, H, W)`, uint8, 0 to 255: a tensor, or files that are decoded when they are indexed.
        labels: `(N,)`, int64, an index into `class_names`.
        class_names: K names.
        mean, std: of each channel over the set's training images, on the scale 0 to 1.
        source: provenance and licence, one sentence.
        size: height and width of what a model sees. Stored images may be larger: training cuts this out at a random
            place, `inputs` in the middle. By default all of the image.
        annotations: whatever else is known of each image, by name: tensors `(N, ...)` or tuples of N texts.

    Raises:
        ValueError: images that aren't uint8 of shape `(N, C, H, W)`; labels, annotations, `mean` or `std` of another
            number; labels that aren't int64 or no index into `class_names`; a `size` larger than the images.
    """

    name: str
    split: str
    images: Tensor | ImageFiles
    labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    size: tuple[int, int] | None = None
    annotations: Mapping[str, Tensor | tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        kind = self.images.dtype if isinstance(self.images, Tensor) else torch.uint8  # which files are decoded to
        if len(shape) != 4 or kind != torch.uint8:
            raise ValueError(f"images must be uint8 of shape (N, C, H, W), got {kind} of shape {shape}.")
        count, channels, height, width = shape
        if self.labels.shape != (count,) or self.labels.dtype != torch.int64:
            found = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise ValueError(f"labels must be int64 of shape ({count},), one for each image, got {found}.")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            found = f"{self.labels.min()} to {self.labels.max()}"
            raise ValueError(f"labels must index the {len(self.class_names)} class_names, got {found}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                raise ValueError(f"{name} must hold a number for each of {channels} channels, got {values}.")
        for name, values in self.annotations.items():
            if len(values) != count:
                raise ValueError(f"annotation {name!r} must have {count} entries, one an image, got {len(values)}.")
        if self.size is None:
            object.__setattr__(self, "size", (height, width))
        if self.size[0] > height or self.size[1] > width:
            raise ValueError(f"size must fit into the stored images, {height} x {width}, got {tuple(self.size)}.")

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: Tensor | Sequence[int] | slice = slice(None)) -> Tensor:
        """The chosen images as a model takes them: float32, the middle of `size`, normalised, `(n, C, H, W)`."""
        images = self.images[indices]
        (height, width), (full_height, full_width) = self.size, images.shape[-2:]
        top, left = (full_height - height) // 2, (full_width - width) // 2
        return self.normalise(images[..., top : top + height, left : left + width])

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 images `(n, C, H, W)` scaled to 0 .. 1, minus `mean`, divided by `std`."""
        mean = torch.tensor(self.mean, device=images.device)[:, None, None]
        std = torch.tensor(self.std, device=images.device)[:, None, None]
        return (images.float() / 255 - mean) / std

    def subset(self, indices: Tensor | Sequence[int] | slice) -> ImageSet:
        """The same set with only the chosen images."""
        chosen = torch.arange(len(self))[indices]
        return replace(
            self,
            images=self.images[chosen] if isinstance(self.images, Tensor) else self.images.subset(chosen),
            labels=self.labels[chosen],
            annotations={
                name: values[chosen] if isinstance(values, Tensor) else tuple(values[i] for i in chosen)
                for name, values in self.annotations.items()
            },
        )

    def __repr__(self) -> str:
        count, *shape = self.images.shape
        size = " x ".join(map(str, shape))
        return f"ImageSet({self.name}, {self.split}: {count} images of {size}, {len(self.class_names)} classes)"
