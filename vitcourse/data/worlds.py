"""What the generated worlds share: random draws, drawing in whole numbers, putting chunks together.

A world is a function of (version, seed, split). Its images are made in chunks of 64, each with random bits of its own,
so image k doesn't depend on how many are asked for. Bits come from `random_raw`, the only stream that NumPy promises
to keep, and all that follows is arithmetic in whole numbers: the same bytes on every machine.

The unit of length is 1/4096 of the image's side, at every size, so a picture at another size shows the same thing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np

from vitcourse.data.image_set import SPLITS
from vitcourse.validation import one_of, positive_integer, whole_number

SIDE = 4096
CHUNK = 64
SIZES = range(32, 129, 8)
FULL = 64  # the coverage of a pixel that lies wholly inside

_ONE = 1 << 14  # the unit of `_SINES`
_QUARTER = [round(_ONE * math.sin(math.radians(degree))) for degree in range(91)]  # none is near a tie: see the tests
_HALF = [*_QUARTER, *_QUARTER[-2:0:-1]]
_SINES = np.array([*_HALF, *(-sine for sine in _HALF)], dtype=np.int32)


class Draws:
    """A stream of random whole numbers, the same for the same `key` (words and numbers)."""

    def __init__(self, *key: str | int) -> None:
        words = hashlib.sha256(repr(key).encode()).digest()
        self._bits = np.random.Philox(key=int.from_bytes(words[:16], "little"))

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Whole numbers from `low` to `high`, both included; int32, one row for each image: `(64, *shape)`."""
        raw = self._bits.random_raw((CHUNK, *shape)) >> np.uint64(32)
        return ((raw * np.uint64(high - low + 1)) >> np.uint64(32)).astype(np.int32) + np.int32(low)

    def noise(self, size: int, amplitude: int) -> np.ndarray:
        """Noise from -amplitude to amplitude for each pixel and channel: `(64, 3, size, size)`, int16."""
        raw = self._bits.random_raw((CHUNK, 3, size, size // 8)).astype("<u8").view(np.uint8)
        return ((raw.astype(np.int16) * (2 * amplitude + 1)) >> 8) - np.int16(amplitude)


# ---- geometry; directions in degrees, clockwise from up, x to the right, y down


def step(degrees: np.ndarray, length: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """How far one gets in x and in y by going `length` in a direction."""
    return (_SINES[degrees % 360] * length) >> 14, -((_SINES[(degrees + 90) % 360] * length) >> 14)


def turned(x: np.ndarray, y: np.ndarray, degrees: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel in the axes of something that lies at (x, y) and points in a direction: `(n,) -> (n, H, W)`, int32.

    Returns:
        How far the pixel's centre lies ahead, and how far to the right of the way.
    """
    centres = ((2 * np.arange(size, dtype=np.int32) + 1) * SIDE) // (2 * size)
    right, down = centres - x[:, None], centres - y[:, None]
    sine, cosine = _SINES[degrees % 360][:, None], _SINES[(degrees + 90) % 360][:, None]
    ahead = ((right * sine) >> 14)[:, None, :] - ((down * cosine) >> 14)[:, :, None]
    aside = ((right * cosine) >> 14)[:, None, :] + ((down * sine) >> 14)[:, :, None]
    return ahead, aside


def squared_distance(x: np.ndarray, y: np.ndarray, degrees: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
    """From each pixel to the line that starts at (x, y) and has a direction and a length: `(n,) -> (n, H, W)`."""
    ahead, aside = turned(x, y, degrees, size)
    ahead -= np.clip(ahead, 0, length[:, None, None])
    ahead *= ahead
    aside *= aside
    ahead += aside
    return ahead


# ---- colour


def coverage(squared: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel lies within `radius`, 0 to 64, by its squared distance; the edge is a pixel wide."""
    limit = radius * (SIDE // size)  # what radius^2 - distance^2 is, half a pixel inside the edge
    inside = np.clip((radius * radius)[:, None, None] - squared, -limit[:, None, None], limit[:, None, None])
    inside *= ((FULL // 2 << 20) // limit)[:, None, None]
    return ((inside >> 20) + FULL // 2).astype(np.int16)


def paint(pictures: np.ndarray, colours: np.ndarray, cover: np.ndarray) -> None:
    """Lay a colour over the pictures, in place: `(n, 3, H, W)`, `(n, 3)`, coverage `(n, H, W)`."""
    change = colours.astype(np.int16)[:, :, None, None] - pictures
    change *= cover[:, None]
    change >>= 6
    pictures += change


def smooth(grid: np.ndarray, size: int) -> np.ndarray:
    """Values at the corners of a grid, interpolated to pixels: `(n, 3, g, g) -> (n, 3, size, size)`, int16."""
    cells = grid.shape[-1] - 1
    place = (2 * np.arange(size) + 1) * cells * 64 // (2 * size)
    first, part = place // 64, (place % 64).astype(np.int16)
    values = grid.astype(np.int16)
    for axis, parts in ((3, part), (2, part[:, None])):
        before, after = values.take(first, axis), values.take(first + 1, axis)
        values = before + (((after - before) * parts) >> 6)
    return values


# ---- from chunks to a data set


def checked(split: str, size: int, count: int | None, seed: int, counts: Mapping[str, int]) -> tuple[int, int, int]:
    """Size, count and seed, as Python's ints: of NumPy's, `Draws` would make another stream.

    Raises:
        ValueError: a value that no world takes.
        TypeError: a size, count or seed that is no whole number.
    """
    one_of("split", split, SPLITS)
    size, seed = whole_number("size", size), whole_number("seed", seed)
    if size not in SIZES:
        raise ValueError(f"size must be a multiple of 8 from {SIZES[0]} to {SIZES[-1]}, got {size}.")
    return size, counts[split] if count is None else positive_integer("count", count), seed


def in_chunks(make: Callable[[int], dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """The arrays of as many chunks as `count` needs, end to end, cut to `count`."""
    chunks = [make(chunk) for chunk in range(-(-count // CHUNK))]
    return {name: np.concatenate([chunk[name] for chunk in chunks])[:count] for name in chunks[0]}
