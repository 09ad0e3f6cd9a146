"""ViT, ViT without positions and CNN on pictures with missing or shuffled patches: nine runs, ten minutes of one core.

    python -m experiments.occlusion [TABLE]

adds to TABLE (default `vitcourse/results/occlusion.csv`) the runs that it doesn't hold yet. Two findings of Naseer et
al. (2021, "Intriguing Properties of Vision Transformers", sections 3.1 and 3.3) are put to models of the course's size:
ViTs lose less than CNNs when patches are blanked at random, and when patches are shuffled.

Training: as Fashion-MNIST's full row of `data_size.py` (the bundled 6,000 images, 1,500 updates of 16, flip, no
blanking and no shuffling), seeds 0, 1, 2. Measured, on the bundled 1,000 test images, with the same places for every
model:

- accuracy with 0, 10, ..., 80 % of the 8 x 8 patches (4 x 4 pixels) blanked, chosen at random for each image; once with
  black, which is also the background of these pictures, once with the mean grey of the training images;
- accuracy with the cells of a 2 x 2, 4 x 4 and 8 x 8 grid shuffled, another order for each image.

What is lost, clean accuracy minus this accuracy, is compared too, for the models don't start level. One model is called
more robust than another where its highest loss of the three seeds is below the other's lowest. All of this was fixed
before the first run. Added afterwards, and measured when the nine runs were made again (seeded, so that the rest comes
out the same): the share of test images whose answer stays the same, right or not, when they are shifted, in a circle,
1, 2, 3, 4 or 8 pixels to the right. One is called steadier where its lowest share of the three seeds is above the
other's highest.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from experiments.data_size import make
from vitcourse import VisionTransformer, ViTConfig, data, results, training
from vitcourse.data import ImageSet
from vitcourse.training import TrainingConfig

TABLE = Path(__file__).parent.parent / "vitcourse" / "results" / "occlusion.csv"
MODELS = ("vit", "no-positions", "cnn")
SEEDS = (0, 1, 2)
SHIFTS = (1, 2, 3, 4, 8)
RECIPE = {
    "epochs": 4,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "warmup_epochs": 0.5,
    "weight_decay": 0.05,
    "flip": True,
}


def blanked(images: Tensor, percent: int, value: int, patch_size: int = 4, seed: int = 0) -> Tensor:
    """Images `(N, C, H, W)` with so many percent of their patches set to `value`, at random for each image."""
    count, _, height, width = images.shape
    grid = (height // patch_size, width // patch_size)
    order = torch.rand(count, grid[0] * grid[1], generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    gone = (order < round(percent / 100 * order.shape[1])).unflatten(1, grid)  # (N, gh, gw)
    gone = gone.repeat_interleave(patch_size, dim=1).repeat_interleave(patch_size, dim=2)
    return images.masked_fill(gone[:, None], value)


def shuffled(images: Tensor, side: int, seed: int = 0) -> Tensor:
    """Images `(N, C, H, W)` cut into `side` x `side` cells, laid out anew at random, another order for each image."""
    cells = rearrange(images, "n c (gh p) (gw q) -> n (gh gw) c p q", gh=side, gw=side)
    order = torch.rand(cells.shape[:2], generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    cells = cells[torch.arange(len(cells))[:, None], order]
    return rearrange(cells, "n (gh gw) c p q -> n c (gh p) (gw q)", gh=side)


def conditions(test: ImageSet) -> dict[str, ImageSet]:
    """The test images as they are judged, by the name of the table's column."""
    grey = round(255 * test.mean[0])
    changed = {"clean": test.images}
    for percent in range(10, 90, 10):
        changed[f"black{percent}"] = blanked(test.images, percent, 0)
    for percent in range(10, 90, 10):
        changed[f"grey{percent}"] = blanked(test.images, percent, grey)
    for side in (2, 4, 8):
        changed[f"shuffled{side}"] = shuffled(test.images, side)
    return {name: replace(test, images=images) for name, images in changed.items()}


def network(model: str) -> nn.Module:
    """One of the three, for grey images of 32 x 32 and ten classes."""
    if model == "no-positions":
        return VisionTransformer(ViTConfig(num_channels=1, initializer_range=0.08, position_embedding="none"))
    return make(model, 1, 10)


def same_answer(trained: nn.Module, test: ImageSet, answers: Tensor, shift: int) -> float:
    """The share of answers that stay when the images are shifted to the right, in a circle."""
    moved = training.evaluate(trained, replace(test, images=test.images.roll(shift, dims=3)))
    return (moved.predictions == answers).float().mean().item()


def run(model: str, seed: int) -> dict[str, Any]:
    """Train one model and judge it on every condition."""
    train, test = (data.load("fashion-mnist", split=split) for split in ("train", "test"))
    training.set_seed(seed)
    trained = network(model).to(memory_format=torch.channels_last)
    training.fit(trained, train, test.subset(slice(0, 100)), TrainingConfig(**RECIPE, seed=seed), progress=False)
    parameters = sum(parameter.numel() for parameter in trained.parameters())
    accuracies = {
        name: round(training.evaluate(trained, images).accuracy, 4) for name, images in conditions(test).items()
    }
    answers = training.evaluate(trained, test).predictions
    steady = {f"steady{shift}": round(same_answer(trained, test, answers, shift), 4) for shift in SHIFTS}
    return {"model": model, "seed": seed, "parameters": parameters, **accuracies, **steady}


def main(table: Path) -> None:
    """Run what is missing, and write the table after each run."""
    torch.set_num_threads(1)
    points = [(model, seed) for seed in SEEDS for model in MODELS]
    results.fill(table, points, run, ("model", "seed"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE)
