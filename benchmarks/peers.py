"""The same Vision Transformer from five libraries, and the same attention in four forms.

Each library is imported by the function that needs it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vitcourse import VisionTransformer, ViTConfig
from vitcourse.functional import attention
from vitcourse.layers import MultiHeadAttention

OURS = "ours"
LIBRARIES = ("timm", "torchvision", "transformers", "vit-pytorch")
EXPLICIT, LIST_OF_HEADS, TORCH = "ours, explicit attention", "ours, list of heads", "nn.MultiheadAttention"

# What transformers calls as we do; its defaults differ from ours, that of layer_norm_eps too.
_TRANSFORMERS_FIELDS = {
    "patch_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "image_size",
    "num_channels",
    "qkv_bias",
    "layer_norm_eps",
}


# ---- whole models


def models(config: ViTConfig) -> dict[str, nn.Module]:
    """Ours, the four libraries' and two variants of ours: images to logits, all of one configuration.

    The variants have copies of our weights; the libraries draw their own, in their own way.
    """
    ours = VisionTransformer(config)
    explicit = VisionTransformer(config.replace(use_faster_attention=False))
    explicit.load_state_dict(ours.state_dict())
    makers = (timm_model, torchvision_model, transformers_model, vit_pytorch_model)
    libraries = {name: make(config) for name, make in zip(LIBRARIES, makers, strict=True)}
    return {OURS: ours, **libraries, EXPLICIT: explicit, LIST_OF_HEADS: with_list_of_heads(ours)}


def timm_model(config: ViTConfig) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

    return TimmVisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch_size,
        in_chans=config.num_channels,
        num_classes=config.num_classes,
        embed_dim=config.hidden_size,
        depth=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        mlp_ratio=config.intermediate_size / config.hidden_size,
        qkv_bias=config.qkv_bias,
    )


def torchvision_model(config: ViTConfig) -> nn.Module:
    from torchvision.models import VisionTransformer as TorchvisionVisionTransformer

    return TorchvisionVisionTransformer(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        mlp_dim=config.intermediate_size,
        num_classes=config.num_classes,
    )


def transformers_model(config: ViTConfig) -> nn.Module:
    from transformers import ViTConfig as TheirConfig
    from transformers import ViTForImageClassification

    theirs = TheirConfig(
        **{name: value for name, value in config.to_dict().items() if name in _TRANSFORMERS_FIELDS},
        num_labels=config.num_classes,
        attn_implementation="sdpa",
    )
    return _Logits(ViTForImageClassification(theirs))


def vit_pytorch_model(config: ViTConfig) -> nn.Module:
    """The nearest that vit-pytorch offers: see `extra_parameters`."""
    from vit_pytorch import ViT

    return ViT(
        image_size=config.image_size,
        patch_size=config.patch_size,
        num_classes=config.num_classes,
        dim=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        dim_head=config.head_size,
        mlp_dim=config.intermediate_size,
        channels=config.num_channels,
    )


def extra_parameters(name: str, config: ViTConfig) -> int:
    """How many parameters the model has above ours: 0, but for vit-pytorch.

    That one normalises the patches before and after their projection and has no bias for query, key and value.
    """
    if name != "vit-pytorch":
        return 0
    norms = 2 * config.patch_length + 2 * config.hidden_size
    return norms - 3 * config.hidden_size * config.num_hidden_layers * config.qkv_bias


class _Logits(nn.Module):
    """A model of transformers that returns its logits alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


# ---- a list of heads


class Head(nn.Module):
    """One attention with matrices of its own: `(B, N, D) -> (B, N, d_k)`."""

    def __init__(self, hidden_size: int, head_size: int, bias: bool):
        super().__init__()
        self.query = nn.Linear(hidden_size, head_size, bias)
        self.key = nn.Linear(hidden_size, head_size, bias)
        self.value = nn.Linear(hidden_size, head_size, bias)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return attention(self.query(tokens), self.key(tokens), self.value(tokens), mask)


class ListOfHeads(nn.Module):
    """Multi-head attention as it is often first written: heads in a loop, then joined: `(B, N, D) -> (B, N, D)`.

    Stands where a `MultiHeadAttention` stands, for masks that are the same for all heads and without dropout.
    """

    def __init__(self, hidden_size: int, num_heads: int, qkv_bias: bool = True):
        super().__init__()
        head_size = hidden_size // num_heads
        self.heads = nn.ModuleList(Head(hidden_size, head_size, qkv_bias) for _ in range(num_heads))
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, return_attention: bool = False) -> Tensor:
        if return_attention:
            raise NotImplementedError("ListOfHeads does not return attention weights; MultiHeadAttention does.")
        return self.projection(torch.cat([head(tokens, mask) for head in self.heads], dim=-1))

    @classmethod
    @torch.no_grad()
    def of(cls, ours: MultiHeadAttention) -> ListOfHeads:
        """The same attention, with copies of the weights: the rows of `qkv`, head by head."""
        copied = cls(ours.qkv.in_features, ours.num_heads, ours.qkv.bias is not None)
        for name, rows in ours.qkv.named_parameters():
            parts = rows.unflatten(0, (3, ours.num_heads, -1))  # (3, h, d_k, D), the bias (3, h, d_k)
            for i, head in enumerate(copied.heads):
                for j, linear in enumerate((head.query, head.key, head.value)):
                    getattr(linear, name).copy_(parts[j, i])
        copied.projection.load_state_dict(ours.projection.state_dict())
        return copied


def with_list_of_heads(model: VisionTransformer) -> VisionTransformer:
    """A copy of the model with a `ListOfHeads` in each block, and copies of the weights."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        block.attention = ListOfHeads.of(block.attention)
    return model


# ---- the attention layer alone


class TorchAttention(nn.Module):
    """`nn.MultiheadAttention` as self-attention, without returning weights: `(B, N, D) -> (B, N, D)`."""

    def __init__(self, ours: MultiHeadAttention):
        super().__init__()
        self.inner = nn.MultiheadAttention(ours.qkv.in_features, ours.num_heads, batch_first=True)
        self.inner.in_proj_weight.data.copy_(ours.qkv.weight.data)
        self.inner.in_proj_bias.data.copy_(ours.qkv.bias.data)
        self.inner.out_proj.load_state_dict(ours.projection.state_dict())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens, tokens, tokens, need_weights=False)[0]


def attention_layers(hidden_size: int, num_heads: int) -> dict[str, nn.Module]:
    """Our attention, fused and explicit, the list of heads and torch's, with the same weights."""
    ours = MultiHeadAttention(hidden_size, num_heads)
    explicit = MultiHeadAttention(hidden_size, num_heads, use_faster_attention=False)
    explicit.load_state_dict(ours.state_dict())
    return {OURS: ours, EXPLICIT: explicit, LIST_OF_HEADS: ListOfHeads.of(ours), TORCH: TorchAttention(ours)}
