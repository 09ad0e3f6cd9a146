"""From a set to batches. All chance follows from (seed, epoch, step), so that a run can go on from any step."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from vitcourse.data import ImageSet
from vitcourse.functional import one_hot
from vitcourse.training import rand_augment
from vitcourse.training.augmentation import crop, flip, mix, pad
from vitcourse.training.config import TrainingConfig
from vitcourse.training.processes import Processes
from vitcourse.training.seeds import generator_of

Batch = tuple[Tensor, Tensor]


def batches(
    train: ImageSet,
    config: TrainingConfig,
    epoch: int,
    device: torch.device | str = "cpu",
    *,
    first_step: int = 0,
    processes: Processes | None = None,
) -> Iterator[Batch]:
    """Mixed, augmented, normalised batches of one epoch: inputs `(B, C, H, W)` and labels `(B,)`.

    With mixup the labels are class shares `(B, K)`.

    Args:
        epoch, first_step: counted from 0.
        processes: this process gets its share of each batch; together they get what one alone would.
    """
    order = torch.randperm(len(train), generator=generator_of(config.seed, epoch)).split(config.batch_size)
    made = (
        _batch(train, config, indices, generator_of(config.seed, epoch, step), device, processes or Processes())
        for step, indices in enumerate(order[first_step:], first_step)
    )
    # Files are decoded, and images for a GPU augmented, while the step before is computed.
    return made if isinstance(train.images, Tensor) and torch.device(device).type == "cpu" else _ahead(made)


def _batch(train: ImageSet, config: TrainingConfig, indices, generator, device, processes: Processes) -> Batch:
    count, rows = len(indices), processes.share(len(indices))
    partners, needed, share = rows, rows, 1.0
    if config.mixup:
        partners = torch.randperm(count, generator=generator)[rows]
        share = _beta(config.mixup, generator)
        needed, places = torch.cat([rows, partners]).unique(return_inverse=True)
        rows, partners = places[: len(rows)], places[len(rows) :]
    images = _augment(train, config, indices, needed, generator).to(device)
    inputs, labels = train.normalise(images), train.labels[indices[needed]]
    if not config.mixup:
        return inputs, labels.to(device)
    of_each = torch.arange(len(needed))
    of_each[rows] = partners  # who is needed only as a partner fades into itself, and is left out
    targets = one_hot(labels, len(train.class_names)).to(device)
    mixed, targets = mix(inputs, targets, of_each, share)
    return mixed[rows], targets[rows]


def _augment(train: ImageSet, config: TrainingConfig, indices, needed, generator) -> Tensor:
    """The needed images of a batch; what happens to each is drawn for the whole batch, whoever asks."""
    count, (height, width) = len(indices), train.size
    images = pad(train.images[indices[needed]], config.crop_padding)
    if images.shape[-2:] != train.size:
        top = torch.randint(images.shape[-2] - height + 1, (count,), generator=generator)
        left = torch.randint(images.shape[-1] - width + 1, (count,), generator=generator)
        images = crop(images, top[needed], left[needed], train.size)
    if config.flip:
        images = flip(images, (torch.rand(count, generator=generator) < 0.5)[needed])
    if config.rand_augment:
        operations, signs = rand_augment.draw(config.rand_augment, count, generator)
        images = rand_augment.apply(images, operations[:, needed], signs[:, needed], config.rand_augment_magnitude)
    return images


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha)."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _ahead(iterator: Iterator[Batch]) -> Iterator[Batch]:
    """The same, with the next one made in the background."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, iterator, None)
        while (batch := future.result()) is not None:
            future = pool.submit(next, iterator, None)
            yield batch
