"""How well a model does. The measures are torchmetrics', which is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcourse.data import ImageSet
from vitcourse.training.processes import processes
from vitcourse.validation import positive_integer


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model says of a set of N images and K classes, and how right it is.

    Attributes:
        loss: mean cross-entropy, in nats.
        accuracy: share of right answers, 0 to 1.
        probabilities, predictions, labels: `(N, K)`, `(N,)`, `(N,)`.
    """

    loss: float
    accuracy: float
    probabilities: Tensor
    predictions: Tensor
    labels: Tensor

    def top_k(self, k: int = 5) -> float:
        """The share of images whose class is among the `k` most probable ones."""
        classes = self.probabilities.shape[1]
        if positive_integer("k", k) > classes:
            raise ValueError(f"k must be at most the number of classes, {classes}, got {k}.")
        return self._measure("accuracy", top_k=k, average="micro").item()

    def confusion(self) -> Tensor:
        """How many images of class i (row) were taken for class j (column): `(K, K)`."""
        return self._measure("confusion_matrix")

    def per_class(self) -> dict[str, Tensor]:
        """Precision, recall and F1 of each class, each `(K,)`; 0 where a class was never said or never there."""
        return {name: self._measure(name, average="none") for name in ("precision", "recall", "f1_score")}

    def balanced_accuracy(self) -> float:
        """The mean recall over the classes that occur, each class counting the same."""
        return self.per_class()["recall"][self.labels.unique()].mean().item()

    def macro_f1(self) -> float:
        """The mean F1 over the classes that occur or were said."""
        return self._measure("f1_score", average="macro").item()

    def calibration_error(self, bins: int = 15) -> float:
        """The expected calibration error: how far confidence lies from accuracy, mean over `bins` of confidence
        weighted by their images (Guo et al., 2017, arXiv:1706.04599)."""
        return self._measure("calibration_error", n_bins=positive_integer("bins", bins)).item()

    def _measure(self, name: str, **options) -> Tensor:
        import torchmetrics.functional.classification as measures

        measure = getattr(measures, f"multiclass_{name}")
        return measure(self.probabilities, self.labels, num_classes=self.probabilities.shape[1], **options)


def evaluate(model: nn.Module, images: ImageSet, batch_size: int = 256) -> Evaluation:
    """Judge `model` on a set, without augmentation, in evaluation mode; the mode of each part is put back.

    Several processes (see `process_group`) share the work, and each gets the whole result.

    Args:
        model: images to logits, `(B, C, H, W) -> (B, K)`.

    Raises:
        ValueError: a set without images, or labels that the model has no class for.
    """
    check_not_empty(images)
    device = next(model.parameters()).device
    ours = processes()
    rows = ours.share(len(images))
    parts: list[Tensor] = []
    with evaluation_mode(model), torch.inference_mode():
        for chunk in rows.split(batch_size):
            parts.append(model(images.inputs(chunk).to(device)).float())
            if len(parts) == 1:
                check_labels(images, parts[0].shape[1])
    logits = torch.zeros(len(images), parts[0].shape[1], device=device)
    logits[rows.to(device)] = torch.cat(parts)
    logits = ours.total(logits).cpu()
    predictions = logits.argmax(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, images.labels).item(),
        accuracy=(predictions == images.labels).float().mean().item(),
        probabilities=logits.softmax(dim=1),
        predictions=predictions,
        labels=images.labels,
    )


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` into evaluation mode, and afterwards each part back into its own."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def check_sets(model: nn.Module, train: ImageSet, validation: ImageSet) -> None:
    """Raise ValueError if a set holds no image, or a label that `model` has no class for.

    Two images show how many classes there are: of one alone, BatchNorm may have no statistics.
    """
    for images in (train, validation):
        check_not_empty(images)
    device = next(model.parameters()).device
    forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
    # Not inference_mode: what a model keeps from its first pass, such as a table, must serve for training.
    with evaluation_mode(model), torch.no_grad(), forked:
        num_classes = model(train.inputs(slice(0, 2)).to(device)).shape[1]
    for images in (train, validation):
        check_labels(images, num_classes)


def check_not_empty(images: ImageSet) -> None:
    """Raise ValueError if the set holds no image."""
    if not len(images):
        raise ValueError(f"the {images.split} images of {images.name} are none: choose at least one.")


def check_labels(images: ImageSet, num_classes: int) -> None:
    """Raise ValueError if a label of the set has no place among `num_classes` logits."""
    highest = int(images.labels.max())
    if highest >= num_classes:
        raise ValueError(
            f"the labels of {images.name} go up to {highest}, and the model has {num_classes} classes: make it with "
            f"num_classes {len(images.class_names)}, or give it a new head (vitcourse.transfer.with_new_head)."
        )
