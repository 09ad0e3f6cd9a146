"""Is the map right? Four kinds of map, each on trained and on random weights, marked on scenes with known masks.

    python -m vitcourse train experiments/scenes.toml --set training.seed=1 --out runs/scenes-1
    python -m vitcourse train experiments/scenes.toml --set training.seed=2 --out runs/scenes-2
    python -m experiments.explanations runs/scenes-1 runs/scenes-2

writes `vitcourse/results/explanations.csv`; two minutes of a core, after about ten minutes for each training.

Pairs 0, 1, 2: a trained model (0 the checkpoint `scenes`, 1 and 2 the two above, of the same recipe and other seeds)
and a model of the same config with random weights of that seed. The first 600 test scenes. The class is the one that
the model itself predicts; in the deletion curve, the one that the trained model predicts.

Measured, means over the scenes, with the standard error of that mean:

- pointing: `introspect.pointing_game`, the share of scenes where the map's highest patch lies on the object;
- iou: `introspect.iou`, of the object with as many pixels, the map's highest;
- deletion: the mean of `introspect.deletion_curve` (8 steps) of the *trained* model of the pair, whoever made the map;
  lower is better.

Beside the maps of `introspect.METHODS` stand maps that look at no model: noise; centre (minus the distance to it);
edges (mean absolute difference of neighbouring pixels); and mask, the object itself, the best that can be asked for.

Said before the first run: a method beats a baseline on a measure if in each of the three pairs the mean difference,
scene by scene, is more than two standard errors in its favour. The differences stand in the columns `*_over_random`
(the same method on random weights), `*_over_edges` and `*_over_centre`, positive where in favour, each with its
`_error`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitcourse import VisionTransformer, checkpoints, data, introspect, results

TABLE = Path(__file__).parent.parent / "vitcourse" / "results" / "explanations.csv"
SCENES, CHUNK = 600, 100
MEASURES = {"pointing": 1, "iou": 1, "deletion": -1}  # and the sign in which it is good

BASELINES = ("random", "edges", "centre")


def random_weights(model: VisionTransformer, seed: int) -> VisionTransformer:
    """A model of the same config that has learned nothing."""
    torch.manual_seed(seed)
    return VisionTransformer(model.config).eval()


def without_model(images: data.ImageSet, model: VisionTransformer, seed: int) -> dict[str, Tensor]:
    """Maps `(B, gh, gw)` that look at no model."""
    height, width = model.config.grid_size
    pool = torch.nn.AvgPool2d(model.config.patch_size)
    places = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = torch.hypot(places[0] - (height - 1) / 2, places[1] - (width - 1) / 2)
    generator = torch.Generator().manual_seed(seed)
    return {
        "noise": torch.rand(len(images), height, width, generator=generator),
        "centre": -distance.expand(len(images), -1, -1),
        "edges": introspect.edge_map(images.images.float() / 255, model.config.patch_size),
        "mask": pool(images.annotations["mask"].float()),
    }


def marks(trained: VisionTransformer, images: data.ImageSet, maps: Tensor) -> dict[str, Tensor]:
    """The three measures of each scene, `(B,)`."""
    inputs = images.inputs()
    with torch.inference_mode():
        classes = trained(inputs).argmax(dim=1)
    return {
        "pointing": introspect.pointing_game(maps, images.annotations["mask"]),
        "iou": introspect.iou(maps, images.annotations["mask"]),
        "deletion": introspect.deletion_curve(trained, inputs, classes, maps).mean(dim=1),
    }


def all_maps(pair: dict[str, VisionTransformer], images: data.ImageSet, seed: int) -> dict[tuple[str, str], Tensor]:
    """By (weights, method)."""
    found = {("none", name): maps for name, maps in without_model(images, pair["trained"], seed).items()}
    for weights, model in pair.items():
        for name, method in introspect.METHODS.items():
            parts = [method(model, images.inputs(slice(n, n + CHUNK))) for n in range(0, len(images), CHUNK)]
            found[weights, name] = torch.cat(parts).detach()
    return found


def rows(trained: VisionTransformer, images: data.ImageSet, seed: int) -> Iterator[dict[str, Any]]:
    """One pair: a row for each map."""
    pair = {"trained": trained, "random": random_weights(trained, seed)}
    found = {key: marks(trained, images, maps) for key, maps in all_maps(pair, images, seed).items()}
    for (weights, name), values in found.items():
        row: dict[str, Any] = {"pair": seed, "weights": weights, "map": name}
        for measure, sign in MEASURES.items():
            row |= _mean(measure, values[measure])
            for baseline in BASELINES:
                other = found.get(("random", name), values) if baseline == "random" else found["none", baseline]
                row |= _mean(f"{measure}_over_{baseline}", sign * (values[measure] - other[measure]))
        yield row


def _mean(name: str, values: Tensor) -> dict[str, float]:
    error = values.std() / len(values) ** 0.5
    return {name: round(values.mean().item(), 4), f"{name}_error": round(error.item(), 4)}


def main(folders: list[str]) -> None:
    """Mark all maps of the checkpoint and of the models in `folders`, and write the table."""
    torch.set_num_threads(1)
    models = [checkpoints.load("scenes"), *(VisionTransformer.load(Path(f) / "best.safetensors") for f in folders)]
    images = data.load("scenes", split="test").subset(slice(SCENES))
    table = [row for seed, model in enumerate(models) for row in rows(model, images, seed)]
    results.write(TABLE, table)


if __name__ == "__main__":
    main(sys.argv[1:])
