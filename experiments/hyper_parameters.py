"""What does each hyper-parameter do that no notebook moves alone? One changed at a time, three seeds; resumable.

    python -m experiments.hyper_parameters [RUNS]

trains, in the folder RUNS (default `runs`), what isn't there yet, a run on each core, and writes
`vitcourse/results/hyper_parameters.csv`.

Pictures, model and judging are those of `ablation.py`: 1,000 pictures of Fashion-MNIST, patch 8, 60 epochs; the best
epoch is chosen on validation pictures and judged on the complete test part. The recipe is plainer than there, so that
what is added shows: flip, warm-up, cosine, weight decay, clipping, and nothing else. Runs of the same seed see the same
order of images, and start from the same weights where the change leaves the shapes as they are. Base and variants were
fixed before the first run.
"""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from experiments.ablation import MODEL, SEEDS, images, train
from vitcourse import results
from vitcourse.training import TrainingConfig

HERE = Path(__file__).parent
LOGS = HERE / "logs" / "hyper_parameters"
TABLE = HERE.parent / "vitcourse" / "results" / "hyper_parameters.csv"
RECIPE: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "flip": True,
    "weight_decay": 0.05,
    "warmup_epochs": 2.0,
    "schedule": "cosine",
    "clip_norm": 1.0,
}
# name: fields of the recipe and of the model that differ from the base
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "base": ({}, {}),
    "batch-8": ({"batch_size": 8}, {}),
    "batch-128": ({"batch_size": 128}, {}),
    "batch-128-rate-8e-3": ({"batch_size": 128, "learning_rate": 8e-3}, {}),  # the rate grown with the batch
    "rate-2e-4": ({"learning_rate": 2e-4}, {}),
    "rate-6e-4": ({"learning_rate": 6e-4}, {}),
    "rate-6e-3": ({"learning_rate": 6e-3}, {}),
    "rate-2e-2": ({"learning_rate": 2e-2}, {}),
    "adam": ({"optimizer": "adam"}, {}),
    "mixup-0.2": ({"mixup": 0.2}, {}),
    "mixup-1": ({"mixup": 1.0}, {}),
    "rand-augment-3": ({"rand_augment": 1, "rand_augment_magnitude": 3}, {}),
    "rand-augment-9": ({"rand_augment": 1, "rand_augment_magnitude": 9}, {}),
    "rand-augment-27": ({"rand_augment": 1, "rand_augment_magnitude": 27}, {}),
    "bfloat16": ({"precision": "bfloat16"}, {}),
    "mlp-2": ({}, {"intermediate_size": 2 * MODEL.hidden_size}),
    "mlp-8": ({}, {"intermediate_size": 8 * MODEL.hidden_size}),
    "attention-dropout": ({}, {"attention_probs_dropout_prob": 0.1}),
    "heads-1": ({}, {"num_attention_heads": 1}),
    "heads-12": ({}, {"num_attention_heads": 12}),
    "no-qkv-bias": ({}, {"qkv_bias": False}),
    "pooling-mean": ({}, {"pooling": "mean"}),
    "no-positions": ({}, {"position_embedding": "none"}),
}


def run(runs: Path, name: str, seed: int) -> dict[str, Any]:
    """One row of the table; its log is copied beside the others."""
    torch.set_num_threads(1)
    recipe, model = RUNS[name]
    out = runs / f"{name}-seed{seed}"
    row = train(images(), MODEL.replace(**model), TrainingConfig(**{**RECIPE, **recipe}, seed=seed), out)
    shutil.copyfile(out / "log.csv", LOGS / f"{out.name}.csv")
    print(row := {"run": name, "seed": seed} | row, flush=True)
    return row


def main(runs: Path) -> None:
    """Train what is missing, copy the logs, and write the table."""
    LOGS.mkdir(parents=True, exist_ok=True)
    points = [(runs, name, seed) for seed in SEEDS for name in RUNS]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        results.write(TABLE, list(pool.map(run, *zip(*points, strict=True))))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs") / "hyper_parameters")
