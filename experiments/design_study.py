"""Patch size, width, depth: which knob is worth what? 80 runs, three to five seeds; hours of one core, resumable.

    python -m experiments.design_study [RUNS]

trains, in the folder RUNS (default `runs`), what isn't there yet, the cheapest runs first, and writes
`vitcourse/results/design_study.csv` after each.

    python -m experiments.design_study time

measures one update of each model, in turns, and writes `vitcourse/results/design_study_time.csv`.

3,000 pictures of Fashion-MNIST, 300 of each class; 10 epochs; the same recipe for all. The best epoch is chosen on the
1,000 bundled validation pictures and judged on the complete test part. Weights start with a deviation that falls as the
root of the width, so that the first outputs are equally large at every width (0.08 at width 48). Grid, seeds, data and
recipe were fixed before the first run. The fifteen runs of 40 epochs were added when 39 runs had shown that, after 10
epochs, larger patches win: does that last?
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from experiments.ablation import images
from vitcourse import VisionTransformer, ViTConfig, data, results, training
from vitcourse.training import TrainingConfig

HERE = Path(__file__).parent
LOGS = HERE / "logs" / "design_study"
RESULTS = HERE.parent / "vitcourse" / "results"
PATCHES, WIDTHS, DEPTHS = (2, 4, 8, 16), (24, 48, 96, 192), (2, 4, 8, 12)
SEEDS, PAIRED_SEEDS = (0, 1, 2), (0, 1, 2, 3, 4)  # five for the two published observations
PAIRED = {(4, 48, 4), (8, 48, 4), (4, 48, 8), (4, 48, 12)}
LONGER, LONGER_EPOCHS = {(4, 48, 4), (8, 48, 4), (16, 48, 4)}, 40
RECIPE = TrainingConfig(
    epochs=10, batch_size=32, learning_rate=1e-3, warmup_epochs=1.0, weight_decay=0.05, clip_norm=1.0, flip=True
)
PER_CLASS = 300


def config(patch_size: int, hidden_size: int, num_hidden_layers: int) -> ViTConfig:
    """The model of one point: 4 heads, an MLP four times as wide."""
    return ViTConfig(
        patch_size=patch_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        intermediate_size=4 * hidden_size,
        num_channels=1,
        initializer_range=0.08 * (48 / hidden_size) ** 0.5,
    )


def points() -> list[tuple[int, int, int]]:
    """All (patch size, width, layers), the cheapest first."""
    grid = {(patch, width, 4) for patch in PATCHES for width in WIDTHS} | {(4, 48, depth) for depth in DEPTHS}
    return sorted(grid, key=lambda point: config(*point).multiply_adds())


def runs() -> list[tuple[tuple[int, int, int], int, int]]:
    """All (point, epochs, seed), the cheapest first."""
    short = [
        (point, RECIPE.epochs, seed) for point in points() for seed in (PAIRED_SEEDS if point in PAIRED else SEEDS)
    ]
    longer = [(point, LONGER_EPOCHS, seed) for point in LONGER for seed in PAIRED_SEEDS]
    return sorted(short + longer, key=lambda run: (config(*run[0]).multiply_adds() * run[1], run[2]))


def main(folder: Path) -> None:
    """Train what is missing, copy the logs, and write the table after each run."""
    LOGS.mkdir(parents=True, exist_ok=True)
    sets, rows = images(PER_CLASS), []
    for point, epochs, seed in runs():
        patch, width, depth = point
        name = f"patch{patch}-width{width}-layers{depth}-seed{seed}" + f"-epochs{epochs}" * (epochs == LONGER_EPOCHS)
        rows.append(train(sets, config(*point), epochs, seed, folder / name))
        shutil.copyfile(folder / name / "log.csv", LOGS / f"{name}.csv")
        print(rows[-1], flush=True)
        results.write(RESULTS / "design_study.csv", rows)


def train(sets: dict[str, data.ImageSet], model: ViTConfig, epochs: int, seed: int, out: Path) -> dict[str, Any]:
    """One run, or what is left of it, and how well its best epoch does."""
    training.set_seed(seed)
    recipe = TrainingConfig(**{**vars(RECIPE), "epochs": epochs, "seed": seed})
    network = VisionTransformer(model)
    log = training.fit(network, sets["train"], sets["validation"], recipe, folder=out, resume=True, progress=False)
    best = max(log, key=lambda row: row.validation_accuracy)
    test = training.evaluate(VisionTransformer.load(out / "best.safetensors"), sets["test"])
    return {
        "patch_size": model.patch_size,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_hidden_layers,
        "epochs": epochs,
        "seed": seed,
        "parameters": model.num_parameters(),
        "multiply_adds": model.multiply_adds(),
        "train_accuracy": round(log[-1].train_accuracy, 4),
        "best_epoch": best.epoch,
        "validation_accuracy": round(best.validation_accuracy, 4),
        "test_accuracy": round(test.accuracy, 4),
        "test_loss": round(test.loss, 4),
    }


def time_updates(rounds: int = 7) -> None:
    """Milliseconds of processor time of one update of each model: the median of rounds in which each has its turn."""
    inputs, labels = torch.randn(RECIPE.batch_size, 1, 32, 32), torch.randint(10, (RECIPE.batch_size,))
    models = {point: VisionTransformer(config(*point)) for point in points()}
    optimizers = {point: torch.optim.AdamW(model.parameters()) for point, model in models.items()}
    times: dict[tuple[int, int, int], list[float]] = {point: [] for point in models}
    for _ in range(rounds + 1):
        for point, model in models.items():
            started = time.process_time()
            optimizers[point].zero_grad()
            cross_entropy(model(inputs), labels).backward()
            optimizers[point].step()
            times[point].append(1e3 * (time.process_time() - started))
    names = ("patch_size", "hidden_size", "num_hidden_layers")
    rows = [
        {**dict(zip(names, point, strict=True)), "update_ms": round(median(measured[1:]), 1)}
        for point, measured in times.items()
    ]
    results.write(RESULTS / "design_study_time.csv", rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:] == ["time"]:
        time_updates()
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs") / "design_study")
