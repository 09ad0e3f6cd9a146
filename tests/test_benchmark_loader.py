"""The loader's benchmark compares equal things, and computes right what it prints. Nothing is timed here."""

import pytest

pytest.importorskip("resource")  # not on Windows
from PIL import Image

from benchmarks import loader
from vitcourse.data import cifar10

MIB = 2**20


def run(seconds, total=7, images=100):
    return {"seconds": seconds, "images": images, "before": 500 * MIB, "peak": 600 * MIB, "sum": total}


def test_the_ratio_is_taken_within_each_repeat():
    results = {loader.OURS: [run(1.0), run(4.0), run(1.0)], loader.THEIRS: [run(2.0), run(4.0), run(4.0)]}
    text = loader.report(results)
    assert "ours / theirs: 0.50 (0.30-0.90); 100 images" in text
    assert "100 images/s  peak memory 600 MiB, 100 MiB of it for the images" in text


def test_different_images_are_refused():
    for other in (run(1.0, total=8), run(1.0, images=99)):
        with pytest.raises(ValueError, match="didn't read the same images"):
            loader.report({loader.OURS: [run(1.0)], loader.THEIRS: [other]})


def test_both_read_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "VALIDATION_PER_CLASS", 1)
    for part, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(cifar10.CLASS_NAMES):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.radial_gradient("L").resize((32, 32)).point(lambda v, n=label + 5 * number: (v + n) % 256)
                image.save(tmp_path / part / name / f"{number}.jpg")
    ours, theirs = (loader.one(name, tmp_path) for name in (loader.OURS, loader.THEIRS))
    assert ours["images"] == theirs["images"] == 40
    assert ours["sum"] == theirs["sum"]
    assert loader.statistics(tmp_path).startswith("mean 0.")
