"""What is each ingredient of a training worth? Each is switched off once, three seeds; an hour of a core, resumable.

    python -m experiments.ablation [RUNS]

trains, in the folder RUNS (default `runs`), what isn't there yet, and writes `vitcourse/results/ablation.csv`.

1,000 pictures of Fashion-MNIST, 100 of each class, so that a model can learn them by heart; patches of 8 pixels, so
that a run takes a minute. The best epoch is chosen on the 1,000 bundled validation pictures and judged on the complete
test part. Runs of the same seed start from the same weights. Recipe and variants were fixed before the first run, but
for the two of 240 epochs: they were added when 60 had shown to be too few with all ingredients.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from vitcourse import VisionTransformer, ViTConfig, data, results, training
from vitcourse.training import TrainingConfig

HERE = Path(__file__).parent
LOGS = HERE / "logs" / "ablation"
TABLE = HERE.parent / "vitcourse" / "results" / "ablation.csv"
SEEDS = (0, 1, 2)
MODEL = ViTConfig(patch_size=8, num_channels=1, initializer_range=0.08)
RECIPE: dict[str, Any] = {
    "epochs": 60,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "flip": True,
    "crop_padding": 1,
    "rand_augment": 1,
    "label_smoothing": 0.1,
    "weight_decay": 0.05,
    "warmup_epochs": 2.0,
    "schedule": "cosine",
    "clip_norm": 1.0,
}
DROPOUT = 0.1
LONG = 240
# name: the field and its value when the ingredient is off
OFF: dict[str, tuple[str, Any]] = {
    "no-flip": ("flip", False),
    "no-crop": ("crop_padding", 0),
    "no-rand-augment": ("rand_augment", 0),
    "no-label-smoothing": ("label_smoothing", 0.0),
    "no-weight-decay": ("weight_decay", 0.0),
    "no-warm-up": ("warmup_epochs", 0.0),
    "no-cosine": ("schedule", "constant"),
    "no-clipping": ("clip_norm", None),
}
# name: (what is changed in the recipe, dropout)
RUNS: dict[str, tuple[dict[str, Any], float]] = {
    "all": ({}, DROPOUT),
    **{name: ({field: value}, DROPOUT) for name, (field, value) in OFF.items()},
    "no-dropout": ({}, 0.0),
    "linear": ({"schedule": "linear"}, DROPOUT),
    "patience-10": ({"patience": 10}, DROPOUT),
    "nothing": (dict(OFF.values()), 0.0),
    "all-long": ({"epochs": LONG}, DROPOUT),
    "nothing-long": (dict(OFF.values()) | {"epochs": LONG}, 0.0),
}


def images(each: int = 100) -> dict[str, data.ImageSet]:
    """The first `each` training pictures of each class; validation; the complete test part."""
    train = data.load("fashion-mnist", split="train")
    chosen = torch.cat([(train.labels == label).nonzero()[:each, 0] for label in range(10)])
    return {
        "train": train.subset(chosen),
        "validation": data.load("fashion-mnist", split="validation"),
        "test": data.load("fashion-mnist", split="test", complete=True),
    }


def main(runs: Path) -> None:
    """Train what is missing, copy the logs, and write the table."""
    torch.set_num_threads(1)
    LOGS.mkdir(parents=True, exist_ok=True)
    TABLE.parent.mkdir(exist_ok=True)
    sets, rows = images(), []
    for seed in SEEDS:
        for name, (changes, dropout) in RUNS.items():
            model = MODEL.replace(hidden_dropout_prob=dropout)
            recipe = TrainingConfig(**{**RECIPE, **changes}, seed=seed)
            rows.append({"run": name, "seed": seed} | train(sets, model, recipe, runs / f"{name}-seed{seed}"))
            shutil.copyfile(runs / f"{name}-seed{seed}" / "log.csv", LOGS / f"{name}-seed{seed}.csv")
            print(rows[-1], flush=True)
    results.write(TABLE, rows)


def train(sets: dict[str, data.ImageSet], config: ViTConfig, recipe: TrainingConfig, out: Path) -> dict[str, Any]:
    """One run, or what is left of it, and how well its best epoch does."""
    training.set_seed(recipe.seed)
    model = VisionTransformer(config)
    log = training.fit(model, sets["train"], sets["validation"], recipe, folder=out, resume=True, progress=False)
    best = max(log, key=lambda row: row.validation_accuracy)
    test = training.evaluate(VisionTransformer.load(out / "best.safetensors"), sets["test"])
    return {
        "epochs": len(log),
        "best_epoch": best.epoch,
        "train_accuracy": round(log[-1].train_accuracy, 4),
        "validation_accuracy": round(best.validation_accuracy, 4),
        "test_accuracy": round(test.accuracy, 4),
        "test_loss": round(test.loss, 4),
        "test_calibration_error": round(test.calibration_error(), 4),
        "minutes": round(sum(row.seconds for row in log) / 60, 1),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs") / "ablation")
