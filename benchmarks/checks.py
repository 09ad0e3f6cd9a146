"""The checks of the exercise sheets: which mistakes they name, and how long a learner waits.

    python -m benchmarks.checks [SHEET ...]    # embeddings, attention, ...; all by default, about five minutes

One row an exercise: how many mistakes there are, how many are refused and named, and the processor time of a check: of
the right answer (median over the seeds), and of the slowest mistake (median over the seeds), naming included.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time

import torch

from vitcourse.checks import SHEETS, Exercise

SEEDS = (0, 1, 2)


def seconds(exercise: Exercise, answer, seed: int) -> tuple[float, object]:
    """Processor time of one check, and its report."""
    start = time.process_time()
    report = exercise.judge(exercise.observe(answer, seed), seed)
    return time.process_time() - start, report


def row(name: str, exercise: Exercise) -> str:
    """One line of the table."""
    right = statistics.median(seconds(exercise, exercise.reference, seed)[0] for seed in SEEDS)
    named, slowest = 0, 0.0
    for mistake in exercise.mistakes:
        found = [seconds(exercise, mistake.answer, seed) for seed in SEEDS]
        named += all(report.state == "wrong" and report.belief_name == mistake.name for _, report in found)
        slowest = max(slowest, statistics.median(took for took, _ in found))
    count = len(exercise.mistakes)
    return f"| {name} | {count} | {named} | {count - named} | {right:.2f} | {slowest:.2f} |"


def main(sheets: list[str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| exercise | mistakes | refused and named | missed | right, s | slowest mistake, s |")
    print("|---|---|---|---|---|---|")
    for sheet in sheets or SHEETS:
        for name, exercise in vars(importlib.import_module(f"vitcourse.checks.{sheet}")).items():
            if isinstance(exercise, Exercise):
                print(row(f"{sheet}.{name}", exercise), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
