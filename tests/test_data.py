"""The bundled images: balanced, apart from each other, and cut from the complete set by the stated rule."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitcourse import data
from vitcourse.data import cifar10, fashion_mnist, yoga_82
from vitcourse.data.splits import rank_within_class

COMPLETE = Path(fashion_mnist.DEBIAN_FOLDER)
needs_complete = pytest.mark.skipif(not COMPLETE.is_dir(), reason="needs Debian's dataset-fashion-mnist")


@pytest.mark.parametrize(("split", "per_class"), [("train", 600), ("validation", 100), ("test", 100)])
def test_bundled_splits_are_balanced(split, per_class):
    images = data.load("fashion-mnist", split)
    assert images.images.shape == (10 * per_class, 1, 32, 32)
    assert images.images.dtype == torch.uint8
    assert images.labels.bincount().tolist() == [per_class] * 10
    assert len(images.class_names) == 10


def test_border_is_black_and_inside_is_not():
    images = data.load("fashion-mnist", "test").images
    inside = images[..., 2:-2, 2:-2]
    assert images.sum() == inside.sum() > 0


def test_no_image_is_in_two_splits():
    seen = [{image.numpy().tobytes() for image in data.load("fashion-mnist", split).images} for split in data.SPLITS]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


def test_inputs_are_normalised():
    train = data.load("fashion-mnist", "train")
    inputs = train.inputs()
    assert inputs.dtype == torch.float32
    assert abs(inputs.mean()) < 0.05
    assert abs(inputs.std() - 1) < 0.05
    torch.testing.assert_close(train.inputs([3, 1]), inputs[[3, 1]])


def test_normalisation_in_closed_form():
    images = data.load("fashion-mnist", "validation").subset([0, 5])
    expected = (images.images.float() / 255 - images.mean[0]) / images.std[0]
    torch.testing.assert_close(images.inputs(), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(5, 1, 8, 8)}, r"images must be uint8 of shape \(N, C, H, W\), got torch.float32"),
        ({"images": torch.zeros(5, 8, 8, dtype=torch.uint8)}, r"got torch.uint8 of shape \(5, 8, 8\)"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, r"labels must be int64 of shape \(5,\), .* \(4,\)"),
        ({"labels": torch.zeros(5)}, "labels must be int64 .* got torch.float32"),
        ({"labels": torch.tensor([0, 1, 2, 3, 10])}, "labels must index the 10 class_names, got 0 to 10"),
        ({"labels": torch.tensor([0, 1, 2, 3, -1])}, "labels must index the 10 class_names, got -1 to 3"),
        ({"mean": (0.1, 0.2, 0.3)}, r"mean must hold a number for each of 1 channels, got \(0.1, 0.2, 0.3\)"),
        ({"std": ()}, "std must hold a number for each of 1 channels"),
        ({"annotations": {"caption": ("a",)}}, "annotation 'caption' must have 5 entries, one an image, got 1"),
        ({"size": (32, 33)}, r"size must fit into the stored images, 32 x 32, got \(32, 33\)"),
    ],
)
def test_a_set_whose_parts_do_not_fit_is_refused(changes, message):
    images = data.load("fashion-mnist", "test").subset(slice(5))
    with pytest.raises(ValueError, match=message):
        replace(images, **changes)


def test_an_empty_set_is_allowed():
    assert len(data.load("fashion-mnist", "test").subset([])) == 0


@pytest.mark.parametrize("size", [16, 48])
def test_another_size_is_the_same_picture(size):
    original = data.load("fashion-mnist", "test").subset(slice(20))
    images = data.load("fashion-mnist", "test", size=size)
    assert images.images.shape == (1000, 1, size, size)
    assert images.images.dtype == torch.uint8
    assert images.size == (size, size)
    few = images.images[:20].float()
    assert (few.mean(dim=(1, 2, 3)) - original.images.float().mean(dim=(1, 2, 3))).abs().max() < 1.5
    if size == 16:  # antialiased, with the border: away from the edge each pixel is a weighted mean of 4 x 4
        weights = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = (weights[:, None] * weights / 64)[None, None]
        means = torch.nn.functional.conv2d(original.images.float(), kernel, stride=2, padding=1)
        assert (few - means)[..., 1:-1, 1:-1].abs().max() <= 0.51


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of 'fashion-mnist', .*, got 'mnist'"):
        data.load("mnist")
    with pytest.raises(ValueError, match=r"split must be one of .*, got 'val'"):
        data.load("fashion-mnist", "val")


@pytest.mark.parametrize("load", [fashion_mnist.load, cifar10.load, yoga_82.load])
def test_a_set_itself_refuses_an_unknown_split(load):
    with pytest.raises(ValueError, match="split must be one of 'train', 'validation', 'test', got 'val'"):
        load("val")


def test_a_folder_for_the_bundled_subset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is for the complete set: add complete=True"):
        data.load("fashion-mnist", folder=tmp_path)


def test_missing_complete_set_names_the_ways_out(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist"):
        data.load("fashion-mnist", "train", complete=True, folder=tmp_path)


@needs_complete
def test_complete_set_is_looked_for_at_home_first(tmp_path, monkeypatch):
    monkeypatch.setenv("VITCOURSE_DATA", str(tmp_path))
    assert fashion_mnist.find() == COMPLETE
    for folder in (tmp_path / "fashion-mnist" / "FashionMNIST" / "raw", tmp_path / "fashion-mnist"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "t10k-images-idx3-ubyte.gz").symlink_to(COMPLETE / "t10k-images-idx3-ubyte.gz")
        (folder / "t10k-labels-idx1-ubyte.gz").symlink_to(COMPLETE / "t10k-labels-idx1-ubyte.gz")
        assert fashion_mnist.find(part="t10k") == folder
        assert len(data.load("fashion-mnist", "test", complete=True)) == 10_000


def test_damaged_file_is_named(tmp_path):
    for part in ("images-idx3", "labels-idx1"):
        (tmp_path / f"t10k-{part}-ubyte.gz").write_bytes(gzip.compress(b"\0" * 5000)[:-20])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz' is damaged"):
        data.load("fashion-mnist", "test", complete=True, folder=tmp_path)


def test_rank_within_class():
    ranks = rank_within_class(np.array([4, 4, 1, 4, 1]))
    assert ranks.tolist() == [0, 1, 0, 2, 1]


@needs_complete
@pytest.mark.parametrize("split", data.SPLITS)
def test_bundled_file_is_what_the_script_builds(split):
    images, labels = fashion_mnist.bundled_subset(split)
    bundled = data.load("fashion-mnist", split)
    assert np.array_equal(bundled.images[:, 0, 2:-2, 2:-2].numpy(), images)
    assert np.array_equal(bundled.labels.numpy(), labels)


@needs_complete
def test_complete_splits_hold_every_image_once():
    counts = [len(data.load("fashion-mnist", split, complete=True)) for split in data.SPLITS]
    assert counts == [55_000, 5_000, 10_000]


@needs_complete
def test_mean_and_deviation_are_those_of_the_complete_training_split():
    pixels = data.load("fashion-mnist", "train", complete=True).images.float() / 255
    assert pixels.mean().item() == pytest.approx(fashion_mnist.MEAN[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(fashion_mnist.STD[0], abs=1e-4)
