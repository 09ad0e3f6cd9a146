"""Time several actions side by side, and print medians, ratios and their spread."""

from __future__ import annotations

import gc
import platform
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

PACKAGES = ("torch", "torchvision", "timm", "transformers", "vit-pytorch", "vitcourse")


@dataclass(frozen=True)
class Row:
    """One line of a table. A ratio is taken within each repeat, to the reference: above 1 is slower than it.

    Attributes:
        milliseconds: the median.
        ratio, low, high: median, 10th and 90th percentile of the ratios.
    """

    name: str
    milliseconds: float
    ratio: float
    low: float
    high: float


def interleaved(actions: dict[str, Callable[[], Tensor]], repeats: int, warmup: int = 3) -> dict[str, list[float]]:
    """Seconds that each action took, repeat by repeat; each repeat runs all of them once, in shuffled order.

    What disturbs the machine for a while then disturbs all, and no action always follows the same other one. The
    garbage collector is off.

    Raises:
        FloatingPointError: an action returned NaN or infinity.
    """
    order, shuffle = list(actions), random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    gc.collect()
    gc.disable()
    try:
        for repeat in range(-warmup, repeats):
            shuffle(order)
            for name in order:
                start = time.perf_counter()
                output = actions[name]()
                elapsed = time.perf_counter() - start
                if not torch.isfinite(output).all():
                    raise FloatingPointError(f"{name} returned numbers that are not finite.")
                if repeat >= 0:
                    seconds[name].append(elapsed)
    finally:
        gc.enable()
    return seconds


def ratios(seconds: list[float], reference: list[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of the ratios `seconds / reference`, repeat by repeat."""
    low, median, high = np.percentile(np.divide(seconds, reference), [10, 50, 90])
    return float(median), float(low), float(high)


def rows(seconds: dict[str, list[float]], reference: str) -> list[Row]:
    """A row for each action, in their order."""
    return [
        Row(name, 1000 * float(np.median(times)), *ratios(times, seconds[reference])) for name, times in seconds.items()
    ]


def as_text(title: str, table: list[Row], reference: str) -> str:
    """The table with aligned columns."""
    width = max(len(row.name) for row in table)
    lines = [title, f"  {'':{width}}  median ms  time / {reference}  (10th-90th percentile)"]
    for row in table:
        ratio = f"{row.ratio:{len('time / ' + reference)}.2f}"
        lines.append(f"  {row.name:{width}}  {row.milliseconds:9.2f}  {ratio}  ({row.low:.2f}-{row.high:.2f})")
    return "\n".join(lines)


def fastest_line(seconds: dict[str, list[float]], ours: str, peers: list[str], bar: float) -> str:
    """Ours against the peer with the lowest median, and whether it keeps within `bar`."""
    fastest = min(peers, key=lambda name: np.median(seconds[name]))
    median, low, high = ratios(seconds[ours], seconds[fastest])
    verdict = "kept" if median <= bar else "MISSED"
    return f"  {ours} / {fastest} (the fastest library): {median:.3f} ({low:.2f}-{high:.2f}); bar {bar}: {verdict}"


def machine() -> str:
    """Versions, threads and processor."""
    versions = [f"{name} {_version(name)}" for name in PACKAGES]
    return (
        f"Python {platform.python_version()}, {', '.join(versions)}\n"
        f"{torch.get_num_threads()} threads, processor {_processor()}"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # Linux alone has it, and there platform.processor() says little
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
