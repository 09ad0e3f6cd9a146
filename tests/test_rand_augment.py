"""RandAugment: each operation is torchvision's to the bit, and each image has its own."""

import pytest
import torch
from torchvision.transforms import v2

from vitcourse.training import rand_augment
from vitcourse.training.rand_augment import BINS, OPERATIONS, apply, draw

THEIRS = v2.RandAugment()
SPACE = v2.RandAugment._AUGMENTATION_SPACE  # the same operations in the same order
NAMES = dict(zip(OPERATIONS, SPACE, strict=True))


def random_images(count, *shape):
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def through_theirs(images, name, magnitude, sign):
    magnitudes, signed = SPACE[name]
    values = magnitudes(BINS, *images.shape[-2:])
    value = 0.0 if values is None else float(values[magnitude]) * (sign if signed else 1)
    return THEIRS._apply_image_or_video_transform(
        images, name, value, interpolation=THEIRS.interpolation, fill=THEIRS._fill
    )


def through_ours(images, name, magnitude, sign):
    row = torch.full((1, len(images)), list(OPERATIONS).index(name))
    return apply(images, row, torch.full_like(row, sign), magnitude)


def test_the_operations_are_torchvisions():
    spelt = {"colour": "color"}
    assert [spelt.get(name, name).replace(" ", "") for name in OPERATIONS] == [name.lower() for name in SPACE]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(3, 24, 40), (3, 33, 31), (1, 40, 28)], ids=str)
def test_each_operation_is_torchvisions_to_the_bit(name, shape):
    images = random_images(2, *shape)
    for magnitude in range(BINS):
        for sign in (-1, 1):
            expected = through_theirs(images, NAMES[name], magnitude, sign)
            assert torch.equal(through_ours(images, name, magnitude, sign), expected), (magnitude, sign)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_strong_operation_changes_the_image_unless_it_is_the_identity(name):
    images = (random_images(1, 3, 24, 40) // 2) + 20  # not all of the range, for autocontrast
    changed = through_ours(images, name, 30, 1)
    assert torch.equal(changed, images) == (name == "identity")


@pytest.mark.parametrize("name", ["shear x", "translate y", "rotate", "brightness", "sharpness", "contrast"])
def test_the_two_signs_differ(name):
    images = random_images(1, 3, 24, 40)
    assert not torch.equal(through_ours(images, name, 20, 1), through_ours(images, name, 20, -1))


def test_magnitude_0_is_mild():
    images = random_images(2, 3, 24, 40) % 255  # solarize inverts 255 even so
    for name in set(OPERATIONS) - {"autocontrast", "equalize"}:  # which know no magnitude
        for sign in (-1, 1):
            assert torch.equal(through_ours(images, name, 0, sign), images), name


def test_each_image_goes_through_its_own_operations():
    images = random_images(60, 3, 20, 28)
    operations, signs = draw(2, 60, torch.Generator().manual_seed(0))
    together = apply(images, operations, signs, 9)
    for row in range(60):
        alone = apply(images[row : row + 1], operations[:, row : row + 1], signs[:, row : row + 1], 9)
        assert torch.equal(alone[0], together[row])
        one_by_one = images[row : row + 1]
        for operation, sign in zip(operations[:, row].tolist(), signs[:, row].tolist(), strict=True):
            one_by_one = through_theirs(one_by_one, list(SPACE)[operation], 9, sign)
        assert torch.equal(one_by_one[0], together[row])


def test_the_order_of_operations_counts():
    images = random_images(1, 3, 24, 40)
    names = list(OPERATIONS)
    pair = torch.tensor([[names.index("rotate")], [names.index("translate x")]])
    signs = torch.ones(2, 1, dtype=torch.int64)
    assert not torch.equal(apply(images, pair, signs, 20), apply(images, pair.flip(0), signs, 20))


def test_the_input_stays_as_it_was():
    images = random_images(30, 3, 20, 28)
    before = images.clone()
    apply(images, *draw(3, 30, torch.Generator().manual_seed(0)), 25)
    assert torch.equal(images, before)


def test_all_operations_and_both_signs_are_drawn_about_equally_often_and_layer_by_layer():
    operations, signs = draw(2, 7000, torch.Generator().manual_seed(0))
    assert operations.shape == signs.shape == (2, 7000)
    counts = torch.bincount(operations.flatten(), minlength=len(OPERATIONS))
    assert len(counts) == 14
    assert 850 < counts.min() < counts.max() < 1150
    assert {*signs.flatten().tolist()} == {-1, 1}
    assert abs(signs.float().mean()) < 0.03
    assert (operations[0] == operations[1]).float().mean() == pytest.approx(1 / 14, abs=0.015)


def test_no_operation_and_no_image_are_fine():
    images = random_images(3, 1, 8, 9)
    assert torch.equal(apply(images, *draw(0, 3, torch.Generator()), 9), images)
    assert apply(images[:0], *draw(2, 0, torch.Generator()), 9).shape == (0, 1, 8, 9)


def test_torchvision_is_imported_only_where_it_is_used():
    assert not any(name in vars(rand_augment) for name in ("F", "v2", "torchvision"))
