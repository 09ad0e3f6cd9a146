"""What scenes are drawn from: shapes, textures, grounds, colours. All in whole numbers, units as in `worlds`."""

from __future__ import annotations

import numpy as np

from vitcourse.data.worlds import Draws, smooth, step, turned

SHAPES = ("circle", "ring", "square", "triangle", "diamond", "cross", "bar", "star")
MARK_SHAPES = ("ring", "triangle", "cross", "bar")  # those that are still plain when small
TEXTURES = ("horizontal stripes", "vertical stripes", "checks", "dots")
GROUNDS = ("plain", "striped", "checked", "blotchy")
COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
MARK_COLOURS = ("red", "yellow", "turquoise", "purple")  # those that no change of shade confuses
PALETTE = np.array(
    [
        [205, 40, 40],
        [230, 125, 30],
        [225, 205, 40],
        [50, 165, 60],
        [45, 195, 190],
        [50, 80, 205],
        [130, 55, 175],
        [230, 110, 190],
    ],
    dtype=np.int32,
)
TEXTURE_PERIOD = 4  # pixels, at every size: a window of 4 x 4 anywhere in a large enough area shows the texture


def mask(
    shapes: np.ndarray, x: np.ndarray, y: np.ndarray, degrees: np.ndarray, radius: np.ndarray, size: int
) -> np.ndarray:
    """The pixels whose centre lies in a shape: `(64,)` each, `-> (64, H, W)`, bool. No part is beyond `radius`."""
    ahead, aside = turned(x, y, degrees, size)
    inside = np.zeros(ahead.shape, dtype=bool)
    for index, name in enumerate(SHAPES):
        chosen = np.flatnonzero(shapes == index)
        inside[chosen] = _RULES[name](ahead[chosen], aside[chosen], radius[chosen, None, None])
    return inside


def texture(kinds: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """Where a texture is light: kinds `(64,)`, shift in pixels `(64, 2)`, `-> (64, H, W)`, bool."""
    pixels = np.arange(size)
    across = ((pixels + shift[:, :1]) % TEXTURE_PERIOD < TEXTURE_PERIOD // 2)[:, None, :]
    down = ((pixels + shift[:, 1:]) % TEXTURE_PERIOD < TEXTURE_PERIOD // 2)[:, :, None]
    kinds = kinds[:, None, None]
    return np.select([kinds == 0, kinds == 1, kinds == 2], [down, across, across ^ down], across & down)


def ground(draws: Draws, kinds: np.ndarray, size: int) -> np.ndarray:
    """Grounds in two muted colours, whose channels differ by at most 50: kinds `(64,) -> (64, 3, H, W)`, int16."""
    grey, period = draws.integers(70, 185, 1), draws.integers(8, 14)
    first, second = (np.clip(grey + draws.integers(-25, 25, 3), 0, 255) for _ in range(2))
    second += np.where(draws.integers(0, 1, 1), 28, -28)
    x, y = draws.integers(-4096, 0, 2).T
    across, down = turned(x, y, draws.integers(0, 359), size)
    stripes, crossing = (side * period[:, None, None] >> 12 & 1 for side in (across, down))
    kinds = kinds[:, None, None]
    pattern = np.select([kinds == 1, kinds == 2], [stripes, stripes ^ crossing], 0)
    strength = np.where(kinds == 3, 34, 10)[:, None]
    pictures = smooth(draws.integers(-32, 32, 3, 7, 7)[:, :1] * strength >> 5, size)
    pictures = pictures + np.where(pattern[:, None] == 1, second[..., None, None], first[..., None, None])
    return pictures.astype(np.int16)


def box(masks: np.ndarray) -> np.ndarray:
    """The least box around each mask, (x0, y0, x1, y1) in pixels, x1 and y1 excluded: `(n, H, W) -> (n, 4)`."""
    sides = []
    for axis in (1, 2):
        seen = masks.any(axis=axis)
        sides.append((seen.argmax(axis=1), seen.shape[1] - seen[:, ::-1].argmax(axis=1)))
    (x0, x1), (y0, y1) = sides
    return np.stack([x0, y0, x1, y1], axis=1)


# ---- what belongs to a shape, by the distances ahead and aside of its centre


def _circle(ahead, aside, radius):
    return ahead * ahead + aside * aside <= radius * radius


def _ring(ahead, aside, radius):
    squared = ahead * ahead + aside * aside
    return (squared <= radius * radius) & (4 * squared >= radius * radius)


def _square(ahead, aside, radius):
    return 10 * np.maximum(abs(ahead), abs(aside)) <= 7 * radius


def _triangle(ahead, aside, radius):
    # The sides of an equilateral triangle have the slope of 60 degrees: 26/15 is the square root of 3.
    return (2 * ahead >= -radius) & (26 * abs(aside) <= 15 * (radius - ahead))


def _diamond(ahead, aside, radius):
    return 5 * abs(aside) + 3 * abs(ahead) <= 3 * radius


def _cross(ahead, aside, radius):
    wide, narrow = np.maximum(abs(ahead), abs(aside)), np.minimum(abs(ahead), abs(aside))
    return (20 * wide <= 19 * radius) & (10 * narrow <= 3 * radius)


def _bar(ahead, aside, radius):
    return (20 * abs(ahead) <= 19 * radius) & (10 * abs(aside) <= 3 * radius)


def _star(ahead, aside, radius):
    # Five lines, each through two tips: a star is where at most one of them leaves the centre on the other side.
    outside = np.zeros(ahead.shape, dtype=np.int8)
    for corner in range(5):
        right, up = step(np.array(36 + 72 * corner), 1 << 10)
        outside += ahead * int(-up) + aside * int(right) > 316 * radius  # 316 / 1024: cos 72 degrees
    return outside <= 1


_RULES = dict(zip(SHAPES, (_circle, _ring, _square, _triangle, _diamond, _cross, _bar, _star), strict=True))
