"""Time augmentation beside the training step that it feeds, and RandAugment beside torchvision's, image by image.

python -m benchmarks.augmentation [--repeats 30] [--batch 128] [--threads 2]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: spinning threads slow each other down

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import timing
from vitcourse import VisionTransformer, ViTConfig
from vitcourse.data import ImageSet
from vitcourse.training import TrainingConfig, batches, make_optimizer

STEP, PLAIN, FLIP_CROP = "training step", "batch, plain", "batch, flip and crop 2"
RAND_AUGMENT, MIXUP, THEIRS = "batch, RandAugment 2", "batch, mixup", "torchvision's RandAugment 2"
SETTINGS = {
    PLAIN: {},
    FLIP_CROP: {"flip": True, "crop_padding": 2},
    RAND_AUGMENT: {"rand_augment": 2},
    MIXUP: {"mixup": 0.2},
}
BAR = 0.15  # of a training step, for flip and crop


def main() -> None:
    """Print a table, and what each kind of augmentation adds to a plain batch, as a share of a training step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=30, help="default: 30")
    parser.add_argument("--batch", type=int, default=128, help="images (default: 128)")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(timing.machine())
    seconds = timing.interleaved(actions(random_images(options.batch), options.batch), options.repeats)
    title = f"ViTConfig(), random RGB images of 32 px, batch {options.batch}"
    print(timing.as_text(title, timing.rows(seconds, STEP), STEP))
    print(shares(seconds))


def random_images(count: int) -> ImageSet:
    """As many random images as a batch has, of the default configuration's size."""
    config = ViTConfig()
    return ImageSet(
        name="random",
        split="train",
        images=torch.randint(0, 256, (count, config.num_channels, *config.image_height_width), dtype=torch.uint8),
        labels=torch.randint(0, config.num_classes, (count,)),
        class_names=tuple(map(str, range(config.num_classes))),
        mean=(0.5,) * config.num_channels,
        std=(0.25,) * config.num_channels,
        source="made here",
    )


def actions(train: ImageSet, batch: int) -> dict[str, Callable[[], Tensor]]:
    """A training step, batches made by `batches`, each with another kind of augmentation, and torchvision's."""
    return {
        STEP: training_step(train),
        **{
            name: make_batch(train, TrainingConfig(batch_size=batch, **settings)) for name, settings in SETTINGS.items()
        },
        THEIRS: torchvision_one_by_one(train.images),
    }


def training_step(train: ImageSet) -> Callable[[], Tensor]:
    """What `fit` does with a batch: forward, loss, backward, clipped gradient, step of fused AdamW."""
    config, model = TrainingConfig(), VisionTransformer(ViTConfig())
    optimizer, inputs, labels = make_optimizer(model, config), train.inputs(), train.labels

    def step() -> Tensor:
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return loss.detach()

    return step


def make_batch(train: ImageSet, config: TrainingConfig) -> Callable[[], Tensor]:
    """One batch, of another epoch each time: its order, augmentation, normalisation and mixing."""
    epoch = 0

    def make() -> Tensor:
        nonlocal epoch
        epoch += 1
        return next(batches(train, config, epoch))[0]

    return make


def torchvision_one_by_one(images: Tensor) -> Callable[[], Tensor]:
    """Each image by itself, as a data loader does it: given a batch, theirs draws once for all of it."""
    from torchvision.transforms import v2

    augment = v2.RandAugment(num_ops=2, magnitude=TrainingConfig().rand_augment_magnitude)
    return lambda: torch.stack([augment(image) for image in images])


def shares(seconds: dict[str, list[float]]) -> str:
    """What each kind adds to a plain batch, as a share of a training step, and ours beside torchvision's."""
    lines = []
    for name in (FLIP_CROP, RAND_AUGMENT, MIXUP):
        added = [more - plain for more, plain in zip(seconds[name], seconds[PLAIN], strict=True)]
        median, low, high = timing.ratios(added, seconds[STEP])
        verdict = f"; bar {BAR:.0%}: {'kept' if median <= BAR else 'MISSED'}" if name == FLIP_CROP else ""
        lines.append(f"  {name} adds {median:.1%} of a training step ({low:.1%} to {high:.1%}){verdict}")
    median, low, high = timing.ratios(seconds[RAND_AUGMENT], seconds[THEIRS])
    lines.append(f"  {RAND_AUGMENT} / {THEIRS}, image by image: {median:.2f} ({low:.2f}-{high:.2f})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
