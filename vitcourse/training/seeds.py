"""Where chance comes from."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - other people's code may still draw from it
    torch.manual_seed(seed)


def seed_of(*key: int) -> int:
    """A seed that follows from whole numbers, such as (seed, epoch, step), and differs for each."""
    # With the length: NumPy fills a key up with zeros, so that (seed, epoch) and (seed, epoch, 0) would be the same.
    return int(np.random.SeedSequence((len(key), *key)).generate_state(1)[0])


def generator_of(*key: int) -> torch.Generator:
    """A generator on the CPU that starts from `seed_of(*key)`."""
    return torch.Generator().manual_seed(seed_of(*key))
