"""Batches: all chance follows from (seed, epoch, step), processes share what one would get."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from vitcourse import data
from vitcourse.data import ImageSet
from vitcourse.training import TrainingConfig, batches
from vitcourse.training.augmentation import crop, flip, mix, pad
from vitcourse.training.processes import Processes
from vitcourse.training.seeds import seed_of

EVERYTHING = TrainingConfig(batch_size=10, flip=True, crop_padding=2, rand_augment=2, mixup=0.4, seed=3)
PLAIN = TrainingConfig(batch_size=10)


@pytest.fixture(scope="module")
def few():
    return data.load("fashion-mnist", "train").subset(slice(0, 64))


def a_set(images, size=None, classes=3):
    count, channels = images.shape[:2]
    return ImageSet(
        name="made",
        split="train",
        images=images,
        labels=torch.arange(count) % classes,
        class_names=tuple("abcdefgh"[:classes]),
        mean=(0.3,) * channels,
        std=(0.2,) * channels,
        source="made here",
        size=size,
    )


def same(one, other):
    """Whether two lists of batches are equal to the bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b) and torch.equal(x, y) for (a, x), (b, y) in zip(one, other, strict=True)
    )


# ---- order


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("first_step", [0, 1, 3, 6, 7])
def test_batches_from_a_step_on_are_the_tail_of_the_epoch(few, config, first_step):
    whole = list(batches(few, config, 2))
    assert len(whole) == 7
    assert same(list(batches(few, config, 2, first_step=first_step)), whole[first_step:])


def test_other_chance_does_not_disturb_batches(few):
    first = list(batches(few, EVERYTHING, 0))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global generator is what is disturbed
    before = torch.get_rng_state()
    assert same(list(batches(few, EVERYTHING, 0)), first)
    assert torch.equal(torch.get_rng_state(), before)  # nor do they draw from it


def test_seed_and_epoch_each_change_order_and_augmentation(few):
    shown = [
        torch.cat([inputs for inputs, _ in batches(few, replace(EVERYTHING, seed=seed), epoch)])
        for seed, epoch in [(3, 0), (3, 1), (4, 0)]
    ]
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])


def test_augmentation_differs_from_step_to_step():
    one_image = a_set(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(40, 1, 1, 1))
    config = TrainingConfig(batch_size=10, flip=True, crop_padding=3)
    shown = [inputs for inputs, _ in batches(one_image, config, 0)]
    assert not any(torch.equal(shown[0], other) for other in shown[1:])


def test_each_key_has_its_own_seed():
    """The order of an epoch, the augmentation of its first step and the dropout of that are drawn apart."""
    keys = [(a,) for a in range(4)]
    keys += [(a, b) for a in range(4) for b in range(4)]
    keys += [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    keys += [(a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4)]
    assert len({seed_of(*key) for key in keys}) == len(keys)


def test_an_epoch_shows_every_image_once_and_exactly_as_the_set_gives_it(few):
    (shown, labels), again = (
        [torch.cat(part) for part in zip(*batches(few, PLAIN, epoch), strict=True)] for epoch in (0, 1)
    )
    inputs = {image.numpy().tobytes(): int(label) for image, label in zip(few.inputs(), few.labels, strict=True)}
    assert len(inputs) == 64
    assert {image.numpy().tobytes(): int(label) for image, label in zip(shown, labels, strict=True)} == inputs
    assert len(shown) == 64
    assert not torch.equal(shown, again[0])


def test_labels_stay_with_images_that_are_augmented(few):
    """Every image is one grey of its own; cropping and flipping leave that grey in its middle."""
    greys = torch.arange(30, 94, dtype=torch.uint8)
    plain = replace(few, images=greys[:, None, None, None].expand(64, 1, 9, 9), size=(9, 9))
    config = TrainingConfig(batch_size=10, flip=True, crop_padding=2)
    label_of = dict(zip(plain.inputs()[:, 0, 4, 4].tolist(), few.labels.tolist(), strict=True))
    for inputs, labels in batches(plain, config, 0):
        assert [label_of[value] for value in inputs[:, 0, 4, 4].tolist()] == labels.tolist()


# ---- augmentation


def test_flip_mirrors_the_chosen_images():
    images = torch.randint(0, 256, (3, 2, 4, 5), dtype=torch.uint8)
    flipped = flip(images, torch.tensor([True, False, True]))
    assert torch.equal(flipped[1], images[1])
    assert torch.equal(flipped[0], images[0, :, :, [4, 3, 2, 1, 0]])
    assert torch.equal(flipped[2], images[2, :, :, [4, 3, 2, 1, 0]])


def test_flip_mirrors_about_half_of_the_images_each_by_itself():
    images = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3).repeat(400, 1, 1, 1)
    train = a_set(images)
    (inputs, _), *_ = batches(train, TrainingConfig(batch_size=400, flip=True), 0)
    straight = train.inputs(slice(0, 1))
    mirrored = (inputs == straight.flip(-1)).all((1, 2, 3))
    untouched = (inputs == straight).all((1, 2, 3))
    assert torch.all(mirrored ^ untouched)
    assert 150 < mirrored.sum() < 250


def test_crop_cuts_each_image_at_its_own_place():
    images = torch.randint(0, 256, (3, 2, 6, 9), dtype=torch.uint8)
    cut = crop(images, torch.tensor([0, 2, 1]), torch.tensor([5, 0, 3]), (4, 3))
    assert torch.equal(cut[0], images[0, :, 0:4, 5:8])
    assert torch.equal(cut[1], images[1, :, 2:6, 0:3])
    assert torch.equal(cut[2], images[2, :, 1:5, 3:6])


def test_padding_is_black():
    images = torch.full((1, 2, 3, 4), 7, dtype=torch.uint8)
    padded = pad(images, 2)
    assert padded.shape == (1, 2, 7, 8)
    assert torch.equal(padded[:, :, 2:5, 2:6], images)
    assert padded.sum() == images.sum()
    assert pad(images, 0) is images


def test_crop_padding_shifts_by_up_to_so_many_pixels_and_fills_with_black():
    images = torch.full((400, 1, 7, 9), 200, dtype=torch.uint8)
    train = a_set(images)
    (inputs, _), *_ = batches(train, TrainingConfig(batch_size=400, crop_padding=2), 0)
    black = (0 - 0.3) / 0.2
    assert inputs.shape == (400, 1, 7, 9)
    filled = torch.isclose(inputs, torch.tensor(black))[:, 0]
    assert torch.all(filled | torch.isclose(inputs[:, 0], torch.tensor((200 / 255 - 0.3) / 0.2)))
    from_top, from_bottom = filled[:, :4, 4].sum(1), filled[:, 4:, 4].sum(1)
    from_left, from_right = filled[:, 3, :5].sum(1), filled[:, 3, 5:].sum(1)
    assert {*(from_top - from_bottom).tolist()} == {*(from_left - from_right).tolist()} == {-2, -1, 0, 1, 2}
    assert len({*zip((from_top - from_bottom).tolist(), (from_left - from_right).tolist(), strict=True)}) == 25


def test_stored_images_that_are_larger_are_cut_at_random_in_training_and_in_the_middle_otherwise():
    """Each pixel says where it stood, so that a cut tells its place."""
    places = torch.arange(8 * 11, dtype=torch.uint8).reshape(1, 1, 8, 11).repeat(600, 1, 1, 1)
    train = a_set(places, size=(5, 7))
    assert torch.equal(train.inputs(slice(0, 1)), train.normalise(places[:1, :, 1:6, 2:9]))
    (inputs, _), *_ = batches(train, TrainingConfig(batch_size=600), 0)
    pixels = ((inputs * 0.2 + 0.3) * 255).round().long()[:, 0]
    top, left = pixels[:, 0, 0] // 11, pixels[:, 0, 0] % 11
    assert {*zip(top.tolist(), left.tolist(), strict=True)} == {(y, x) for y in range(4) for x in range(5)}
    rows, columns = torch.arange(5)[:, None], torch.arange(7)
    assert torch.equal(pixels, (top[:, None, None] + rows) * 11 + left[:, None, None] + columns)


def test_rand_augment_is_applied_before_normalisation(few):
    (plain, labels), *_ = batches(few, PLAIN, 0)
    (changed, same_labels), *_ = batches(few, replace(PLAIN, rand_augment=2), 0)
    assert torch.equal(labels, same_labels)
    different = (plain != changed).any(3).any(2).any(1)
    assert 5 <= different.sum() <= 10
    pixels = (changed * few.std[0] + few.mean[0]) * 255
    assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert -0.1 < pixels.min() < pixels.max() < 255.1


# ---- mixup


def test_mix_in_closed_form():
    inputs, targets = torch.randn(3, 1, 2, 4), torch.eye(3)
    mixed, shares = mix(inputs, targets, torch.tensor([2, 1, 0]), 0.75)
    assert_close(mixed[0], 0.75 * inputs[0] + 0.25 * inputs[2])
    assert_close(mixed[1], inputs[1])
    assert_close(shares, torch.tensor([[0.75, 0.0, 0.25], [0.0, 1.0, 0.0], [0.25, 0.0, 0.75]]))


def test_mixup_mixes_images_and_targets_alike():
    """Image k is the unit vector k, so that a mixed image lists what went into it."""
    eye = torch.eye(12).reshape(12, 1, 3, 4)
    train = replace(a_set((eye * 255).to(torch.uint8), classes=5), mean=(0.0,), std=(1.0,))
    shares = []
    for inputs, targets in batches(train, TrainingConfig(batch_size=12, mixup=0.5), 0):
        parts = inputs.flatten(1)
        assert targets.shape == (12, 5)  # as many as there are names
        assert_close(targets.sum(1), torch.ones(12))
        assert_close(parts.sum(1), torch.ones(12))
        assert torch.all((parts > 0).sum(1) <= 2)
        by_class = torch.zeros(12, 5).index_add_(1, torch.arange(12) % 5, parts)
        assert_close(targets, by_class)
        assert_close(parts.sum(0), torch.ones(12))  # each image is a partner once
        shares.append(parts.max().item())
    assert min(shares) > 0


def test_the_share_of_mixup_follows_its_beta_distribution():
    train = replace(a_set(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)), mean=(0.0,), std=(1.0,))
    for alpha, variance in ((0.2, 1 / (4 * 1.4)), (1.0, 1 / 12), (8.0, 1 / (4 * 17))):
        config = TrainingConfig(batch_size=2, mixup=alpha)
        drawn = [next(iter(batches(train, config, epoch)))[0].flatten() for epoch in range(400)]
        mixed = [values for values in drawn if values.sum() == pytest.approx(1) and values.min() > 0]
        # In half of the draws each image is its own partner and stays black or white; these are left out.
        assert len(mixed) > 100
        assert np.var([float(values[0]) for values in mixed]) == pytest.approx(variance, rel=0.35)


def test_no_mixup_leaves_whole_labels(few):
    for _, labels in batches(few, replace(EVERYTHING, mixup=0.0), 0):
        assert labels.dtype == torch.int64
        assert labels.ndim == 1


# ---- processes


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_the_shares_of_processes_interleaved_are_the_whole_batch(few, count, mixup):
    train, config = few.subset(slice(0, 41)), replace(EVERYTHING, mixup=mixup)  # the last batch has one image
    whole = list(batches(train, config, 1))
    shares = [list(batches(train, config, 1, processes=Processes(rank, count))) for rank in range(count)]
    assert [len(inputs) for inputs, _ in whole] == [10, 10, 10, 10, 1]
    assert [[len(inputs) for inputs, _ in share][-1] for share in shares] == [1, 0, 0][:count]
    for step, (inputs, labels) in enumerate(whole):
        for rank, share in enumerate(shares):
            assert torch.equal(share[step][0], inputs[rank::count])
            assert torch.equal(share[step][1], labels[rank::count])


def test_the_rows_of_all_processes_are_all_rows():
    for length in (0, 1, 7, 8):
        rows = torch.cat([Processes(rank, 3).share(length) for rank in range(3)])
        assert sorted(rows.tolist()) == list(range(length))


# ---- files


class Files:
    """Images that are decoded when they are indexed, like files."""

    dtype = torch.uint8

    def __init__(self, images, broken=None):
        self.images, self.broken, self.threads, self.decoded = images, broken, [], threading.Semaphore(0)

    @property
    def shape(self):
        return self.images.shape

    def __getitem__(self, indices):
        self.threads.append(threading.get_ident())
        self.decoded.release()
        if self.broken is not None and self.broken in indices:
            raise ValueError(f"file {self.broken} is damaged")
        return self.images[indices]


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_files_give_the_same_batches_and_are_decoded_ahead(few, config):
    files = Files(few.images)
    assert same(list(batches(replace(few, images=files), config, 0)), list(batches(few, config, 0)))
    assert files.threads
    assert threading.get_ident() not in files.threads


def test_the_next_batch_is_decoded_while_this_one_is_used(few):
    files = Files(few.images)
    loader = batches(replace(few, images=files), PLAIN, 0)
    next(loader)
    assert files.decoded.acquire(timeout=10)
    assert files.decoded.acquire(timeout=10)  # the second, which nobody has asked for yet
    loader.close()
    assert len(files.threads) == 2


def test_a_damaged_file_stops_at_its_batch(few):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed_of(0, 0)))
    loader = batches(replace(few, images=Files(few.images, broken=int(order[25]))), PLAIN, 0)
    next(loader)
    next(loader)
    with pytest.raises(ValueError, match="is damaged"):
        next(loader)


def test_leaving_an_epoch_early_leaves_no_thread(few):
    before = threading.active_count()
    loader = batches(replace(few, images=Files(few.images)), PLAIN, 0)
    next(loader)
    loader.close()
    assert threading.active_count() == before
