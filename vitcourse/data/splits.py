"""Rules that divide images into splits. None of them depends on the order in which a disk lists its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def rank_within_class(labels: np.ndarray) -> np.ndarray:
    """For each label, how many equal ones stand before it: `(N,) -> (N,)`."""
    ranks = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        ranks[places] = np.arange(len(places))
    return ranks


def stratified(names: Sequence[str], labels: Sequence[int], share: float, seed: int) -> np.ndarray:
    """Which images are for validation: of each class the nearest number to `share`, but never all: `(N,)` bools.

    Within a class the images stand in the order of a hash of seed and name. So the choice depends on nothing else:
    not on their order, and a lost image moves at most one other of its class to the other side.
    """
    labels = np.asarray(labels, dtype=np.int64)
    keys = [hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest() for name in names]
    order = np.array(sorted(range(len(names)), key=keys.__getitem__), dtype=np.int64)
    ranks = np.empty_like(labels)
    ranks[order] = rank_within_class(labels[order])
    counts = np.bincount(labels)[labels] if len(labels) else labels
    return ranks < np.minimum(np.floor(share * counts + 0.5), counts - 1)
