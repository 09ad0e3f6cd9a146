"""Maps that claim to show what a class score depends on: one number a patch, `(B, gh, gw)`, none below 0.

A claim only: `marking` tests it, and a model with random weights gives pictures too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vitcourse.functional import patchify, rollout
from vitcourse.introspect.recording import record
from vitcourse.model import VisionTransformer


def attention_map(model: VisionTransformer, images: Tensor, layer: int = -1) -> Tensor:
    """What the pooled token attends to in one layer, mean over heads: `(B, C, H, W) -> (B, gh, gw)`.

    With mean pooling there is no one token that the head reads, and the mean over all patches is taken.

    Args:
        layer: counted from 0, or from the end if below 0.

    Raises:
        ValueError: a layer that there isn't.
    """
    layers = len(model.blocks)
    if not -layers <= layer < layers:
        raise ValueError(f"layer must lie between {-layers} and {layers - 1}, got {layer}.")
    with torch.no_grad(), record(model) as seen:
        model(images)
    return _grid(model, _read_by_head(model, seen.attention[layer].mean(dim=1)))


def rollout_map(model: VisionTransformer, images: Tensor) -> Tensor:
    """Attention rollout, `(B, C, H, W) -> (B, gh, gw)`: the layers' attention multiplied, the residual counted as half.

    Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers", section 3.
    """
    with torch.no_grad(), record(model) as seen:
        model(images)
    return _grid(model, _read_by_head(model, rollout(seen.attention)))


def gradient_relevance(model: VisionTransformer, images: Tensor, classes: Tensor | None = None) -> Tensor:
    """How much more attention would raise the class score, by its gradients: `(B, C, H, W), (B,) -> (B, gh, gw)`.

    At each layer the score is read from that layer's tokens through the final norm and head; its gradient with respect
    to that layer's weights, positive part, averaged over heads and queries; layers averaged; scaled to 0 .. 1. After
    LeGrad (Bousselham et al., 2024, section 3).

    Args:
        classes: `(B,)`; the predicted ones when not given.
    """
    with torch.enable_grad(), record(model) as seen:
        images = images.detach().clone().requires_grad_()  # so that a frozen model has gradients too
        logits = model(images)
        classes = logits.argmax(dim=1) if classes is None else classes
        relevance = logits.new_zeros(len(images), model.config.num_patches)
        for weights, tokens in zip(seen.attention, seen.tokens, strict=True):
            score = _scores(model.classify(tokens), classes).sum()
            (gradient,) = torch.autograd.grad(score, weights, retain_graph=True)
            relevance += gradient.relu().mean(dim=(1, 2))[:, 1:]  # heads, queries; [CLS] as a key is left out
    return _scaled(_grid(model, relevance.detach()))


def input_gradient(model: VisionTransformer, images: Tensor, classes: Tensor | None = None) -> Tensor:
    """How fast the class score changes with the pixels: `(B, C, H, W), (B,) -> (B, gh, gw)`, scaled to 0 .. 1.

    The mean absolute gradient in each patch: Simonyan et al. (2014), "Deep Inside Convolutional Networks", section 3,
    averaged over patches.

    Args:
        classes: `(B,)`; the predicted ones when not given.
    """
    with torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        logits = model(images)
        classes = logits.argmax(dim=1) if classes is None else classes
        (gradient,) = torch.autograd.grad(_scores(logits, classes).sum(), images)
    return _scaled(_grid(model, patchify(gradient.abs(), model.config.patch_size).mean(dim=-1)))


METHODS: dict[str, Callable[..., Tensor]] = {
    "attention": attention_map,
    "rollout": rollout_map,
    "gradient relevance": gradient_relevance,
    "input gradient": input_gradient,
}


def _scores(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _read_by_head(model: VisionTransformer, weights: Tensor) -> Tensor:
    """The keys' share in what the head reads, [CLS] left out: `(B, T, T) -> (B, N)`."""
    return weights[:, 0, 1:] if model.config.pooling == "cls" else weights[:, 1:, 1:].mean(dim=1)


def _grid(model: VisionTransformer, relevance: Tensor) -> Tensor:
    return relevance.unflatten(1, model.config.grid_size)


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)
