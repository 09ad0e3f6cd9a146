"""How well a model does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitcourse.data import ImageSet


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model says of a set: probabilities `(N, K)`, the classes, and how right it is."""

    loss: float
    accuracy: float
    probabilities: Tensor
    predictions: Tensor


@torch.inference_mode()
def evaluate(model: nn.Module, images: ImageSet, batch_size: int = 256) -> Evaluation:
    """Loss and accuracy of `model` on a set, without augmentation, in evaluation mode; the mode is put back."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    chunks = torch.arange(len(images)).split(batch_size)
    logits = torch.cat([model(images.inputs(chunk).to(device)).cpu() for chunk in chunks])
    model.train(was_training)
    predictions = logits.argmax(dim=1)
    return Evaluation(
        loss=F.cross_entropy(logits, images.labels).item(),
        accuracy=(predictions == images.labels).float().mean().item(),
        probabilities=logits.softmax(dim=1),
        predictions=predictions,
    )
