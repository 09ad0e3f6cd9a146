"""ViT, CNN and hybrid of equal size, on few images and on many: 135 runs, three seeds, hours of one core, resumable.

    python -m experiments.data_size [TABLE]

adds to TABLE (default `vitcourse/results/data_size.csv`) the runs that it doesn't hold yet, the smallest sets first.

Three tasks: Fashion-MNIST, as it is; the texture of the one object in a scene, which any 4 x 4 pixels of it can tell
("local"); and whether two marks in a scene, half an image apart, have the same colour ("far"). Each model makes as many
updates, 1,500, whatever the number of different images: fewer images are seen more often. One recipe for all three
models, no augmentation but Fashion-MNIST's flip, 16 images an update, 32 in the far task: there 1,500 updates with 16
left the ViT at 62 % with all images, and with 32 took it to 97 % (seed 100, before the first run of the table, whose
own three seeds came to 68, 87 and 96 %). Judged after the last update, on Fashion-MNIST's complete test part and on
2,000 scenes. Tasks, sizes, models, seeds and recipe were fixed before the first run of the table.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitcourse import VisionTransformer, ViTConfig, data, results, training
from vitcourse.convolutional import ConvolutionalNetwork
from vitcourse.layers import ConvolutionalStem
from vitcourse.training import TrainingConfig

TABLE = Path(__file__).parent.parent / "vitcourse" / "results" / "data_size.csv"
# task: (the set and its options, images an epoch, epochs, images an update, how many different images)
TASKS: dict[str, tuple[dict[str, Any], int, int, int, tuple[int, ...]]] = {
    "fashion-mnist": ({"name": "fashion-mnist"}, 6_000, 4, 16, (100, 300, 1_000, 3_000, 6_000)),
    "local": ({"name": "scenes", "task": "local"}, 12_000, 2, 16, (120, 400, 1_200, 4_000, 12_000)),
    "far": ({"name": "scenes", "task": "far"}, 12_000, 4, 32, (120, 400, 1_200, 4_000, 12_000)),
}
MODELS = ("vit", "cnn", "hybrid")
SEEDS = (0, 1, 2)


def make(model: str, num_channels: int, num_classes: int) -> nn.Module:
    """One of the three, each of about 119,000 parameters."""
    if model == "cnn":
        return ConvolutionalNetwork(num_channels, num_classes)
    config = ViTConfig(num_channels=num_channels, num_classes=num_classes, initializer_range=0.08)
    if model == "vit":
        return VisionTransformer(config)
    hybrid = VisionTransformer(config.replace(intermediate_size=163))  # the MLP pays for the convolutions
    hybrid.patch_embedding = ConvolutionalStem(config.patch_size, num_channels, config.hidden_size)
    return hybrid


def images(task: str, size: int) -> tuple[data.ImageSet, data.ImageSet]:
    """`size` different training images, of each class alike, repeated to a full epoch; and the test images."""
    options, epoch, *_ = TASKS[task]
    train = data.load(split="train", **options)
    classes = len(train.class_names)
    each = [(train.labels == label).nonzero()[: -(-size // classes), 0] for label in range(classes)]
    chosen = torch.cat(each).sort().values[:size] if size < len(train) else torch.arange(len(train))
    repeated = chosen.repeat(-(-epoch // len(chosen)))[:epoch]
    complete = {"complete": True} if task == "fashion-mnist" else {}
    return train.subset(repeated), data.load(split="test", **options, **complete)


def run(task: str, size: int, model: str, seed: int) -> dict[str, Any]:
    """Train one model and judge it."""
    train, test = images(task, size)
    _, _, epochs, batch_size, _ = TASKS[task]
    recipe = TrainingConfig(
        epochs=epochs, batch_size=batch_size, learning_rate=1e-3, warmup_epochs=0.5, weight_decay=0.05,
        flip=task == "fashion-mnist", seed=seed,
    )  # fmt: skip
    training.set_seed(seed)
    network = make(model, train.images.shape[1], len(train.class_names))
    network.to(memory_format=torch.channels_last)  # equal within rounding, and faster
    started = time.perf_counter()
    few = test.subset(slice(0, 100))  # the log's validation isn't used
    log = training.fit(network, train, few, recipe, progress=False)
    seconds = time.perf_counter() - started
    judged = training.evaluate(network, test)
    return {
        "task": task,
        "images": size,
        "model": model,
        "seed": seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "train_accuracy": round(log[-1].train_accuracy, 4),
        "test_accuracy": round(judged.accuracy, 4),
        "test_loss": round(judged.loss, 4),
        "seconds": round(seconds, 1),
    }


def main(table: Path) -> None:
    """Run what is missing, and write the table after each run."""
    torch.set_num_threads(1)
    todo = [
        (task, TASKS[task][-1][step], model, seed)
        for seed in SEEDS
        for step in range(5)
        for task in TASKS
        for model in MODELS
    ]
    results.fill(table, todo, run, ("task", "images", "model", "seed"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE)
