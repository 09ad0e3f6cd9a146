"""Time how many images a second the generated worlds make, in one thread.

python -m benchmarks.worlds [--count 1280] [--repeats 5]
"""

from __future__ import annotations

import argparse
import time

from benchmarks import timing
from vitcourse import data

BARS = {32: 5000, 64: 1000}  # images a second, on two cores
WORLDS = {"poses": {}, "scenes, one object": {}, "scenes, two marks": {"task": "far"}}


def main() -> None:
    """Print the machine, then a line for each world and size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worlds", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1280, help="images that are made at a time (default: 1280)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats, of which the fastest counts (default: 5)")
    arguments = parser.parse_args()
    print(timing.machine())
    for name, options in WORLDS.items():
        for size, bar in BARS.items():
            speed = images_per_second(name, size, arguments.count, arguments.repeats, **options)
            print(
                f"  {name:18}  {size} px  {speed:8,.0f} images/s; bar {bar:,}: {'kept' if speed >= bar else 'MISSED'}"
            )


def images_per_second(name: str, size: int, count: int, repeats: int, **options: str) -> float:
    """The speed of the fastest repeat, in processor time, so that other programs don't count."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        data.load(name.partition(",")[0], "train", size=size, count=count, **options)
        seconds.append(time.process_time() - start)
    return count / min(seconds)


if __name__ == "__main__":
    main()
