"""How well a model does. The measures are torchmetrics', which is imported where it is used."""

from __future__ import annotations

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
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            mine = torch.cat([model(images.inputs(chunk).to(device)).float() for chunk in rows.split(batch_size)])
    finally:
        for part, training in modes:
            part.training = training
    check_labels(images, mine.shape[1])
    logits = torch.zeros(len(images), mine.shape[1], device=device)
    logits[rows.to(device)] = mine
    logits = ours.total(logits).cpu()
    predictions = logits.argmax(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, images.labels).item(),
        accuracy=(predictions == images.labels).float().mean().item(),
        probabilities=logits.softmax(dim=1),
        predictions=predictions,
        labels=images.labels,
    )


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
