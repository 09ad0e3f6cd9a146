"""How the pictures of `scenes` are drawn: 64 at a time, from the random bits of a key."""

from __future__ import annotations

import numpy as np

from vitcourse.data.scene_shapes import (
    COLOURS,
    GROUNDS,
    MARK_COLOURS,
    MARK_SHAPES,
    PALETTE,
    SHAPES,
    TEXTURES,
    box,
    ground,
    mask,
    texture,
)
from vitcourse.data.worlds import CHUNK, SIDE, Draws, coverage, paint, squared_distance

SPECKS = 5  # in each picture: too small to be a shape


def objects(key: tuple[str | int, ...], size: int) -> dict[str, np.ndarray]:
    """A chunk of pictures of one object, with the annotations that `scenes.load` describes."""
    draws = Draws(*key)
    shape, colour, kind = (draws.integers(0, len(names) - 1) for names in (SHAPES, COLOURS, TEXTURES))
    radius = draws.integers(700, 1150)
    position = radius[:, None] + _within(draws, SIDE - 2 * radius, 2)
    pictures, where = _ground(draws, size)
    masks = mask(shape, *position.T, draws.integers(-14, 14), radius, size)
    light = texture(kind, draws.integers(0, 3, 2), size) ^ draws.integers(0, 1, 1, 1).astype(bool)
    fill(pictures, masks, _shade(draws, colour), np.where(light, 22, -22))
    return {
        "images": _finished(pictures, key, size),
        "shape": shape.astype(np.int64),
        "colour": colour.astype(np.int64),
        "texture": kind.astype(np.int64),
        "ground": where,
        "position": _pixels(position, size),
        "box": box(masks),
        "mask": masks,
    }


def marks(key: tuple[str | int, ...], size: int) -> dict[str, np.ndarray]:
    """A chunk of pictures of two marks. Whatever the answer is, each mark's colour is drawn evenly."""
    draws = Draws(*key)
    alike = draws.integers(0, 1)
    first = draws.integers(0, len(MARK_COLOURS) - 1)
    other = (first + draws.integers(1, len(MARK_COLOURS) - 1)) % len(MARK_COLOURS)
    colours = _indices(MARK_COLOURS, COLOURS)[np.stack([first, np.where(alike, first, other)], axis=1)]
    shapes = _indices(MARK_SHAPES, SHAPES)[draws.integers(0, len(MARK_SHAPES) - 1, 2)]
    radius = draws.integers(480, 620, 2)
    positions = _apart(draws)
    pictures, where = _ground(draws, size)
    masks = []
    for mark in range(2):
        x, y = positions[:, mark].T
        masks.append(mask(shapes[:, mark], x, y, draws.integers(-14, 14), radius[:, mark], size))
        fill(pictures, masks[mark], _shade(draws, colours[:, mark]), np.zeros_like(masks[mark], dtype=np.int16))
    return {
        "images": _finished(pictures, key, size),
        "alike": alike.astype(np.int64),
        "shape": shapes.astype(np.int64),
        "colour": colours.astype(np.int64),
        "ground": where,
        "position": _pixels(positions, size),
        "box": np.stack([box(one) for one in masks], axis=1),
        "mask": masks[0] | masks[1],
    }


# ---- parts of a picture


def _indices(chosen: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    return np.array([names.index(name) for name in chosen])


def _within(draws: Draws, room: np.ndarray, *shape: int) -> np.ndarray:
    """Whole numbers from 0 to below each image's `room`."""
    return draws.integers(0, SIDE - 1, *shape) * room.reshape(-1, *(1,) * len(shape)) // SIDE


def _apart(draws: Draws) -> np.ndarray:
    """Two places at least half an image apart: the first such pair of 32, `(64, 2, 2)`."""
    pairs = draws.integers(640, SIDE - 640, 32, 2, 2)
    pairs[:, -1] = [[640, 640], [SIDE - 640, SIDE - 640]]  # there always is one
    fits = ((pairs[:, :, 0] - pairs[:, :, 1]) ** 2).sum(axis=-1) >= (SIDE // 2) ** 2
    return pairs[np.arange(CHUNK), fits.argmax(axis=1)]


def _ground(draws: Draws, size: int) -> tuple[np.ndarray, np.ndarray]:
    kind = draws.integers(0, len(GROUNDS) - 1)
    pictures = ground(draws, kind, size)
    for _ in range(SPECKS):
        x, y = draws.integers(0, SIDE, 2).T
        squared = squared_distance(x, y, draws.integers(0, 359), draws.integers(0, 260), size)
        colours = _shade(draws, draws.integers(0, len(COLOURS) - 1))
        paint(pictures, colours, coverage(squared, draws.integers(80, 150), size))
    return pictures, kind.astype(np.int64)


def _shade(draws: Draws, colour: np.ndarray) -> np.ndarray:
    return PALETTE[colour] + draws.integers(-14, 14, 3)


def fill(pictures: np.ndarray, masks: np.ndarray, colours: np.ndarray, lightness: np.ndarray) -> None:
    """Give the pixels of the masks a colour, lighter or darker by `lightness`, in place."""
    values = colours[:, :, None, None].astype(np.int16) + lightness[:, None].astype(np.int16)
    np.copyto(pictures, values, where=masks[:, None])


def _finished(pictures: np.ndarray, key: tuple[str | int, ...], size: int) -> np.ndarray:
    return np.clip(pictures + Draws(*key, "noise", size).noise(size, 10), 0, 255).astype(np.uint8)


def _pixels(places: np.ndarray, size: int) -> np.ndarray:
    return places.astype(np.float32) * size / SIDE  # exact: a whole number below 2^24 divided by a power of two
