"""Time reading CIFAR-10 from class folders, beside torchvision's ImageFolder, each in a fresh process.

python -m benchmarks.loader FOLDER [--repeats 3]

FOLDER holds `train/<class>/*` and `test/<class>/*`. Both end with the same uint8 images in memory: a sum over
them is compared. It also prints mean and standard deviation of the training split.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import timing
from vitcourse.data import SPLITS, cifar10, class_folders

OURS, THEIRS = "ours", "torchvision's ImageFolder"


def main() -> None:
    """Print seconds, images a second, peak memory and the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each of the two (default: 3)")
    parser.add_argument("--only", choices=[OURS, THEIRS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(one(options.only, options.folder)))
        return
    print(timing.machine())
    print(report(measure(options.folder, options.repeats)))
    print(statistics(options.folder))


def measure(folder: Path, repeats: int) -> dict[str, list[dict]]:
    """What `one` says of each, in turn, after a reading that doesn't count and fills the disk's cache."""
    results = {OURS: [], THEIRS: []}
    for repeat in range(-1, repeats):
        for name in results if repeat % 2 else reversed(results):
            command = [sys.executable, "-m", "benchmarks.loader", str(folder), "--only", name]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr)
            if repeat >= 0:
                results[name].append(json.loads(done.stdout))
    return results


def one(name: str, folder: Path) -> dict:
    """Read everything once: seconds, images, peak memory in bytes before and after, and a sum over all bytes."""
    read = {OURS: _ours, THEIRS: _theirs}[name]
    if name == THEIRS:
        import torchvision  # noqa: F401  outside the clock
    before, start = _peak(), time.perf_counter()
    images = read(folder)
    seconds = time.perf_counter() - start
    weights = torch.arange(1, 3 * 32 * 32 + 1).reshape(3, 32, 32)
    total = sum(int((part.long() * weights).sum()) for each in images for part in each.split(1000))
    return {"seconds": seconds, "images": sum(map(len, images)), "before": before, "peak": _peak(), "sum": total}


def report(results: dict[str, list[dict]]) -> str:
    """A line for each, and the ratio repeat by repeat.

    Raises:
        ValueError: the two read different images.
    """
    if len({(result["images"], result["sum"]) for runs in results.values() for result in runs}) != 1:
        raise ValueError("the two loaders didn't read the same images.")
    lines = []
    for name, runs in results.items():
        seconds = float(np.median([run["seconds"] for run in runs]))
        count, peak = runs[0]["images"], max(run["peak"] for run in runs)
        grown = max(run["peak"] - run["before"] for run in runs)
        lines.append(
            f"{name:26}{seconds:7.2f} s  {count / seconds:7,.0f} images/s  peak memory {peak / 2**20:,.0f} MiB, "
            f"{grown / 2**20:,.0f} MiB of it for the images"
        )
    seconds = {name: [run["seconds"] for run in runs] for name, runs in results.items()}
    ratio, low, high = timing.ratios(seconds[OURS], seconds[THEIRS])
    return "\n".join([*lines, f"ours / theirs: {ratio:.2f} ({low:.2f}-{high:.2f}); {count:,} images"])


def statistics(folder: Path) -> str:
    """Mean and standard deviation of each channel of the training split, on the scale 0 to 1."""
    images = cifar10.load("train", folder=folder).images
    histograms = [torch.bincount(images[:, channel].flatten().long(), minlength=256).double() for channel in range(3)]
    values = torch.arange(256, dtype=torch.float64) / 255
    means = [float((histogram * values).sum() / histogram.sum()) for histogram in histograms]
    squares = [float((histogram * values**2).sum() / histogram.sum()) for histogram in histograms]
    deviations = [(square - mean**2) ** 0.5 for mean, square in zip(means, squares, strict=True)]
    return "  ".join(
        f"{name} {', '.join(f'{value:.4f}' for value in numbers)}"
        for name, numbers in (("mean", means), ("std", deviations))
    )


def _ours(folder: Path) -> list[torch.Tensor]:
    return [cifar10.load(split, folder=folder).images for split in SPLITS]


def _theirs(folder: Path) -> list[torch.Tensor]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    sets = [ImageFolder(str(folder / part), transform=pil_to_tensor) for part in class_folders.PARTS]
    images = torch.empty(sum(map(len, sets)), 3, cifar10.PIXELS, cifar10.PIXELS, dtype=torch.uint8)
    place = 0
    for each in sets:
        for image, _ in each:
            images[place] = image
            place += 1
    return [images]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


if __name__ == "__main__":
    main()
