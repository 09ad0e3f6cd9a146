"""Time `import vitcourse` beside `import torch`, each in a fresh process.

python -m benchmarks.import_time [--repeats 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

BAR = 0.3  # seconds that vitcourse may add to torch


def main() -> None:
    """Print both medians and the difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="processes for each of the two (default: 15)")
    torch, ours = measure(parser.parse_args().repeats)
    print(report(torch, ours))


def measure(repeats: int) -> tuple[list[float], list[float]]:
    """Seconds for `import torch` and for `import vitcourse`, in turn, after one of each that doesn't count."""
    names = ("torch", "vitcourse")
    seconds = {name: [] for name in names}
    for repeat in range(-1, repeats):
        for name in names if repeat % 2 else reversed(names):
            elapsed = seconds_to_import(name)
            if repeat >= 0:
                seconds[name].append(elapsed)
    return seconds["torch"], seconds["vitcourse"]


def seconds_to_import(name: str) -> float:
    """Seconds that a fresh process takes to start, to import `name` and to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
    return time.perf_counter() - start


def report(torch: list[float], ours: list[float]) -> str:
    """Both medians, and the median of the differences repeat by repeat."""
    difference = float(np.median(np.subtract(ours, torch)))
    verdict = "kept" if difference <= BAR else "MISSED"
    return (
        f"import torch      {np.median(torch):.2f} s\n"
        f"import vitcourse  {np.median(ours):.2f} s\n"
        f"difference        {difference:.2f} s (median of {len(ours)} repeats); bar {BAR} s: {verdict}"
    )


if __name__ == "__main__":
    main()
