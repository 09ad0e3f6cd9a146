"""Weights of other libraries' Vision Transformers in ours, with the same logits.

Each function takes a model object of theirs, so that none of these libraries is needed to import this file.
What our architecture can't represent is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vitcourse.config import ViTConfig
from vitcourse.model import VisionTransformer


def from_torchvision(model: nn.Module) -> VisionTransformer:
    """Ours from a `torchvision.models.VisionTransformer`.

    Raises:
        ValueError: an architecture that ours can't represent, with the reason.
    """
    refuse = _Refusal("torchvision", model)
    refuse.unless_type("VisionTransformer", "torchvision")
    refuse.unless_head_is_linear(model.heads)
    refuse.when(not isinstance(model.conv_proj, nn.Conv2d), "its patch embedding is a convolutional stem")
    blocks = model.encoder.layers
    refuse.unless_exact_gelu(block.mlp[1] for block in blocks)
    config = ViTConfig(
        patch_size=model.patch_size,
        hidden_size=model.hidden_dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].num_heads,
        intermediate_size=model.mlp_dim,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.attention_dropout,
        image_size=model.image_size,
        num_classes=model.heads[-1].out_features,
        num_channels=model.conv_proj.in_channels,
        layer_norm_eps=model.encoder.ln.eps,
    )
    theirs = model.state_dict()
    ours = {
        "class_token": theirs["class_token"],
        "position_embedding.positions": theirs["encoder.pos_embedding"],
        **_patch_projection(theirs, "conv_proj"),
        **_copy(theirs, {"norm": "encoder.ln", "head": f"heads.{_last(model.heads)}"}),
    }
    for index in range(len(blocks)):
        block, layer = f"blocks.{index}", f"encoder.layers.encoder_layer_{index}"
        ours[f"{block}.attention.qkv.weight"] = theirs[f"{layer}.self_attention.in_proj_weight"]
        ours[f"{block}.attention.qkv.bias"] = theirs[f"{layer}.self_attention.in_proj_bias"]
        ours |= _copy(
            theirs,
            {
                f"{block}.norm1": f"{layer}.ln_1",
                f"{block}.attention.projection": f"{layer}.self_attention.out_proj",
                f"{block}.norm2": f"{layer}.ln_2",
                f"{block}.mlp.linear1": f"{layer}.mlp.0",
                f"{block}.mlp.linear2": f"{layer}.mlp.3",
            },
        )
    return _build(config, ours, model)
