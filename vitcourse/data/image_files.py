"""Images in files, decoded when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitcourse.data.threads import in_threads
from vitcourse.validation import positive_integer

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


class ImageFiles:
    """Square RGB images of equal size, `(N, 3, H, W)`, that stand in files.

    Indexing decodes: `files[2:5]`, `files[[7, 1]]` and `files[mask]` are uint8 tensors `(n, 3, H, W)`, `files[3]` is
    one `(3, H, W)`. Several images are decoded in threads. Nothing is kept in memory.

    Raises:
        FileNotFoundError: when indexed, a file that is gone.
        ValueError: when indexed, a file that isn't a whole image.
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[str | Path], size: int):
        self.paths = tuple(os.fspath(path) for path in paths)
        self.size = positive_integer("size", size)

    @property
    def shape(self) -> torch.Size:
        """`(N, 3, H, W)`."""
        return torch.Size((len(self), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> Tensor:
        chosen = torch.arange(len(self))[indices]
        if not chosen.dim():
            return read_image(self.paths[chosen], self.size)
        images = torch.empty(len(chosen), 3, self.size, self.size, dtype=torch.uint8)
        paths = [self.paths[i] for i in chosen]
        for place, image in enumerate(in_threads(lambda path: read_image(path, self.size), paths, chunk=4)):
            images[place] = image
        return images

    def subset(self, indices: slice | Sequence[int] | Tensor) -> ImageFiles:
        """The same files, only the chosen ones."""
        return ImageFiles([self.paths[i] for i in torch.arange(len(self))[indices]], self.size)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self)} images of 3 x {self.size} x {self.size})"


def read_image(path: str | Path, size: int) -> Tensor:
    """The image in a file as uint8 RGB, `(3, size, size)`.

    The middle square, as large as the shorter side, is scaled to `size` (bilinear, antialiased). The camera's
    orientation (EXIF) is obeyed. Transparent parts become white, as on a page; grey, palette and CMYK become RGB;
    16-bit grey is scaled to 8 bits. Of an animation it is the first picture.

    Raises:
        OSError: a file that can't be opened.
        ValueError: a file that isn't a whole image.
    """
    return torch.from_numpy(read_pixels(path, size).transpose(2, 0, 1).copy())


def read_pixels(path: str | Path, size: int) -> np.ndarray:
    """The same image as `read_image`'s, `(size, size, 3)`."""
    from PIL import Image

    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is halved while it is decoded, which is fast
                image.load()
                return np.asarray(_square(_rgb(_upright(image)), size))
        except Exception as error:  # Pillow's decoders raise many kinds
            if isinstance(error, MemoryError):
                raise
            reason = _first_line(error) if os.fstat(file.fileno()).st_size else "the file is empty"
            raise ValueError(f"{os.fspath(path)!r} isn't a whole image: {reason}.") from None


def resized(images: Tensor, size: int) -> Tensor:
    """uint8 images `(N, C, H, W)` scaled to `size` x `size`, bilinear and antialiased, as `read_image` does."""
    positive_integer("size", size)
    if images.shape[-2:] == (size, size):
        return images
    result = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for start in range(0, len(images), 1024):  # floats of all images at once would take four times the memory
        part = images[start : start + 1024].float()
        part = torch.nn.functional.interpolate(part, (size, size), mode="bilinear", antialias=True)
        result[start : start + 1024] = part.round().clamp(0, 255).to(torch.uint8)
    return result


def _upright(image):
    from PIL import ImageOps

    if "exif" not in image.info and image.format != "TIFF":
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data: the pixels are still good
        return image


def _rgb(image):
    from PIL import Image

    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey values don't fit 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its grey values are floating-point numbers, whose range isn't known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def _square(image, size: int):
    from PIL import Image

    (width, height), side = image.size, min(image.size)
    if (width, height) == (size, size):
        return image
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def _first_line(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no known image format"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
