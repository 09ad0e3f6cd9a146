"""Does a model of coarse classes help to learn finer ones? Three seeds of each run, resumable; 2 hours of a core.

    python -m experiments.poses [RUNS]

trains, in the folder RUNS (default `runs`), what isn't there yet, and writes `experiments/logs/poses/results.csv`.

A model of the 6 families (30 epochs) goes on to the 20 groups or the 82 poses (15 epochs): "transfer". It is compared
with training from scratch for as many epochs as were added (15), and for as many as both took together (45). All see
the same images. The splits, the model and the recipe are the same in all runs; only the head differs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from vitcourse import results

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
BASE = "start={runs}/poses-6-seed{seed}/best.safetensors"
# name: (configuration file, what is changed in it)
RUNS = {
    "poses-6": ("poses-6.toml", []),
    "poses-20-transfer": ("poses-20.toml", [BASE]),
    "poses-20-added": ("poses-20.toml", ["start="]),
    "poses-20-total": ("poses-20.toml", ["start=", "training.epochs=45"]),
    "poses-82-transfer": ("poses-82.toml", [BASE]),
    "poses-82-added": ("poses-82.toml", ["start="]),
    "poses-82-total": ("poses-82.toml", ["start=", "training.epochs=45"]),
}
MEASURES = ("epochs", "best_epoch", "validation_accuracy", "test_accuracy", "test_balanced_accuracy", "minutes")
LOGS = HERE / "logs" / "poses"


def main(runs: Path) -> None:
    """Train what is missing, copy the logs, and write the table."""
    LOGS.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in SEEDS:
        for name, (config, changes) in RUNS.items():
            out = runs / f"{name}-seed{seed}"
            if not (out / "result.json").exists():
                _train(HERE / config, [change.format(runs=runs, seed=seed) for change in changes], seed, out)
            result = json.loads((out / "result.json").read_text(encoding="utf-8"))
            rows.append({"run": name, "seed": seed} | {measure: result[measure] for measure in MEASURES})
            shutil.copyfile(out / "log.csv", LOGS / f"{out.name}.csv")
    results.write(LOGS / "results.csv", rows)


def _train(config: Path, changes: list[str], seed: int, out: Path) -> None:
    command = [sys.executable, "-m", "vitcourse", "train", config, "--seed", str(seed), "--out", out, "--resume"]
    command += [part for change in changes for part in ("--set", change)]
    print(*command[1:], flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
