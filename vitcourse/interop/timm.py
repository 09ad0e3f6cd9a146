"""Ours from timm's, with the reasons why not."""

from __future__ import annotations

import torch
from torch import nn

from vitcourse.interop.building import build
from vitcourse.interop.theirs import Theirs
from vitcourse.model import VisionTransformer

# Our names: theirs. A star stands for the block.
_NAMES = {
    "class_token": "cls_token",
    "position_embedding.positions": "pos_embed",
    "patch_embedding.projection": "patch_embed.proj",
    "blocks.*.norm1": "blocks.*.norm1",
    "blocks.*.attention.qkv": "blocks.*.attn.qkv",
    "blocks.*.attention.projection": "blocks.*.attn.proj",
    "blocks.*.norm2": "blocks.*.norm2",
    "blocks.*.mlp.linear1": "blocks.*.mlp.fc1",
    "blocks.*.mlp.activation": "blocks.*.mlp.act",
    "blocks.*.mlp.linear2": "blocks.*.mlp.fc2",
    "norm": "norm",
    "head": "head",
}


def from_timm(model: nn.Module) -> VisionTransformer:
    """Ours from a `timm.models.VisionTransformer`, such as `timm.create_model("vit_tiny_patch16_224")`.

    Any value is taken of `img_size` (one side or two), `in_chans`, `num_classes` above 0, `embed_dim`, `depth`,
    `num_heads`, `mlp_ratio`, `qkv_bias`, `proj_bias`, `init_values`, `no_embed_class`, `pos_embed`,
    `attn_drop_rate`; any `patch_size` with equal sides; as `norm_layer` a LayerNorm of any eps. `global_pool` may
    be "token", with `fc_norm` or without, or "avg" with `fc_norm` (timm's default) and without
    `pool_include_prefix`: our `pooling="mean"`. `proj_drop_rate` and `pos_drop_rate` must be equal, and 0 without
    positions.

    Raises:
        TypeError: another object.
        ValueError: what ours can't represent: everything else.
    """
    theirs = Theirs(model, "timm", "VisionTransformer")
    _check_timm(theirs)
    pooling, norm = _timm_pooling(theirs)
    for block in theirs.each("blocks.*"):
        theirs.fold_scale(f"{block}.ls1.gamma", f"{block}.attn.proj")
        theirs.fold_scale(f"{block}.ls2.gamma", f"{block}.mlp.fc2")
    if model.pos_embed is not None and model.no_embed_class:
        patches = theirs.tensors["pos_embed"]  # (1, N, D)
        theirs.tensors["pos_embed"] = torch.cat([torch.zeros_like(patches[:, :1]), patches], dim=1)
    names = _NAMES | {"norm": norm}
    if model.pos_embed is None:
        del names["position_embedding.positions"]
    return build(
        theirs,
        names,
        image_size=tuple(model.patch_embed.img_size),
        num_attention_heads=theirs.one("blocks.*.attn", "num_heads"),
        attention_probs_dropout_prob=theirs.one("blocks.*.attn", "attn_drop.p"),
        other_dropout=("attn_drop", "head_drop"),
        position_embedding="none" if model.pos_embed is None else "learned",
        pooling=pooling,
    )


def _check_timm(theirs: Theirs) -> None:
    """Refuse what shows neither in a class nor in a tensor that is left over."""
    model, patches = theirs.model, theirs.model.patch_embed
    if model.cls_token is None:
        theirs.refuse("class_token False", "ours always has [CLS], and the other tokens look at it")
    if model.reg_token is not None:
        theirs.refuse(f"reg_tokens {model.reg_token.shape[1]}", "ours has no registers")
    for setting, value, bad in (
        ("dynamic_img_size", model.dynamic_img_size, True),
        ("dynamic_img_pad", patches.dynamic_img_pad, True),
        ("strict_img_size", patches.strict_img_size, False),
        ("img_size", patches.img_size, None),
    ):
        if value is bad:
            theirs.refuse(f"{setting} {value}", "ours takes images of the one size in its config")
    # Some releases join [CLS] to the patches only where positions are added; given one patch, two tokens must leave.
    if model.pos_embed is None and model._pos_embed(torch.zeros_like(model.cls_token)).shape[1] != 2:
        theirs.refuse("pos_embed 'none', which leaves out [CLS] in this release", "ours always has [CLS]")
    if model.pos_embed is None and model.pos_drop.p:
        theirs.refuse(f"pos_drop_rate {model.pos_drop.p} without positions", "theirs skips it then; set pos_drop.p = 0")
    if model.head_drop.p:
        theirs.refuse(f"drop_rate {model.head_drop.p}", "ours has no dropout before the head; set head_drop.p = 0")


def _timm_pooling(theirs: Theirs) -> tuple[str, str]:
    """Our pooling, and the name of their last norm."""
    model = theirs.model
    norms = [name for name in ("norm", "fc_norm") if not isinstance(getattr(model, name), nn.Identity)]
    if len(norms) != 1:
        found = " and ".join(norms) or "none (final_norm False)"
        theirs.refuse(f"as last norm {found}", "ours has exactly one")
    if model.global_pool == "token":
        return "cls", norms[0]  # LayerNorm looks at one token at a time: before or after picking is the same
    if model.global_pool != "avg":
        theirs.refuse(f"global_pool {model.global_pool!r}", "ours takes [CLS] ('token') or a mean ('avg')")
    if norms == ["norm"]:
        theirs.refuse("global_pool 'avg' with fc_norm False", "ours takes the mean first, then the norm")
    if getattr(model, "pool_include_prefix", False):
        theirs.refuse("global_pool 'avg' with pool_include_prefix True", "ours leaves [CLS] out of the mean")
    return "mean", "fc_norm"
