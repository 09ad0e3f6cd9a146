"""Ours from torchvision's."""

from __future__ import annotations

from torch import nn

from vitcourse.interop.building import build
from vitcourse.interop.theirs import Theirs
from vitcourse.model import VisionTransformer

# Our names: theirs. A star stands for the block.
_NAMES = {
    "class_token": "class_token",
    "position_embedding.positions": "encoder.pos_embedding",
    "patch_embedding.projection": "conv_proj",
    "blocks.*.norm1": "encoder.layers.*.ln_1",
    "blocks.*.attention.qkv": "encoder.layers.*.self_attention.in_proj",
    "blocks.*.attention.projection": "encoder.layers.*.self_attention.out_proj",
    "blocks.*.norm2": "encoder.layers.*.ln_2",
    "blocks.*.mlp.linear1": "encoder.layers.*.mlp.0",
    "blocks.*.mlp.activation": "encoder.layers.*.mlp.1",
    "blocks.*.mlp.linear2": "encoder.layers.*.mlp.3",
    "norm": "encoder.ln",
    "head": "heads",
}


def from_torchvision(model: nn.Module) -> VisionTransformer:
    """Ours from a `torchvision.models.VisionTransformer`, such as `torchvision.models.vit_b_16()`.

    Raises:
        TypeError: another object.
        ValueError: what ours can't represent: `conv_stem_configs`, `representation_size`, and what the class
            itself doesn't offer (another head, norm or activation put in by hand).
    """
    theirs = Theirs(model, "torchvision", "VisionTransformer")
    theirs.tensors = {name.replace("in_proj_", "in_proj."): tensor for name, tensor in theirs.tensors.items()}
    return build(
        theirs,
        _NAMES,
        image_size=model.image_size,
        num_attention_heads=theirs.one("encoder.layers.*.self_attention", "num_heads"),
        attention_probs_dropout_prob=theirs.one("encoder.layers.*.self_attention", "dropout"),
    )
