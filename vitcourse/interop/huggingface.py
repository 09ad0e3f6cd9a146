"""Ours from Hugging Face's, and theirs from ours."""

from __future__ import annotations

from torch import nn

from vitcourse.config import ViTConfig
from vitcourse.interop.building import SINGLE_TENSORS, build
from vitcourse.interop.theirs import Theirs
from vitcourse.model import VisionTransformer

# Our names: theirs. A star stands for the block. Of three names the rows are stacked, in this order.
_NAMES = {
    "class_token": "vit.embeddings.cls_token",
    "position_embedding.positions": "vit.embeddings.position_embeddings",
    "patch_embedding.projection": "vit.embeddings.patch_embeddings.projection",
    "blocks.*.norm1": "vit.layers.*.layernorm_before",
    "blocks.*.attention.qkv": (
        "vit.layers.*.attention.q_proj",
        "vit.layers.*.attention.k_proj",
        "vit.layers.*.attention.v_proj",
    ),
    "blocks.*.attention.projection": "vit.layers.*.attention.o_proj",
    "blocks.*.norm2": "vit.layers.*.layernorm_after",
    "blocks.*.mlp.linear1": "vit.layers.*.mlp.fc1",
    "blocks.*.mlp.activation": "vit.layers.*.mlp.activation_fn",
    "blocks.*.mlp.linear2": "vit.layers.*.mlp.fc2",
    "norm": "vit.layernorm",
    "head": "classifier",
}
_NAMES_4 = _NAMES | {  # as in 4.50 and still in 5.6
    "blocks.*.norm1": "vit.encoder.layer.*.layernorm_before",
    "blocks.*.attention.qkv": (
        "vit.encoder.layer.*.attention.attention.query",
        "vit.encoder.layer.*.attention.attention.key",
        "vit.encoder.layer.*.attention.attention.value",
    ),
    "blocks.*.attention.projection": "vit.encoder.layer.*.attention.output.dense",
    "blocks.*.norm2": "vit.encoder.layer.*.layernorm_after",
    "blocks.*.mlp.linear1": "vit.encoder.layer.*.intermediate.dense",
    "blocks.*.mlp.activation": "vit.encoder.layer.*.intermediate.intermediate_act_fn",
    "blocks.*.mlp.linear2": "vit.encoder.layer.*.output.dense",
}


def from_huggingface(model: nn.Module) -> VisionTransformer:
    """Ours from a `transformers.ViTForImageClassification`, release 4.50 or newer.

    In training with `hidden_dropout_prob` above 0, ours also drops after the GELU, where theirs doesn't.

    Raises:
        TypeError: another object.
        ValueError: what ours can't represent: a `hidden_act` that isn't the exact GELU, no labels, a model
            without head or of another architecture.
    """
    theirs = Theirs(model, "transformers", "ViTForImageClassification")
    theirs.tensors.pop("vit.embeddings.mask_token", None)  # for pre-training; a classifier never reads it
    if hasattr(model.vit, "layers"):
        names, attention, dropout = _NAMES, "vit.layers.*.attention", "attention_dropout"
    else:
        names, attention, dropout = _NAMES_4, "vit.encoder.layer.*.attention.attention", "dropout_prob"
    return build(
        theirs,
        names,
        image_size=tuple(model.vit.embeddings.patch_embeddings.image_size),
        num_attention_heads=theirs.one(attention, "num_attention_heads"),
        attention_probs_dropout_prob=theirs.one(attention, dropout),
        initializer_range=model.config.initializer_range,
    )


def to_huggingface(model: VisionTransformer) -> nn.Module:
    """A `transformers.ViTForImageClassification` with copies of our weights, in evaluation mode, on the CPU.

    Raises:
        ImportError: transformers isn't installed.
        ValueError: positions that aren't learned, or `pooling="mean"`, which theirs doesn't have.
    """
    config = model.config
    if config.position_embedding != "learned" or config.pooling != "cls":
        raise ValueError(
            f"transformers' ViT has learned positions and reads [CLS], this model has position_embedding "
            f"{config.position_embedding!r} and pooling {config.pooling!r}."
        )
    import transformers

    same = ViTConfig.__dataclass_fields__.keys() - {
        "num_classes",
        "use_faster_attention",
        "position_embedding",
        "pooling",
    }
    settings = {name: getattr(config, name) for name in same}
    theirs = transformers.ViTForImageClassification(
        transformers.ViTConfig(**settings, num_labels=config.num_classes)
    ).eval()
    names = _NAMES if hasattr(theirs.vit, "layers") else _NAMES_4
    tensors = {}
    for name, tensor in model.state_dict().items():
        path = name.split(".")
        block = path[1] if path[0] == "blocks" else ""
        star = name.replace(f"blocks.{block}.", "blocks.*.") if block else name
        if star in SINGLE_TENSORS:
            tensors[names[star]] = tensor
            continue
        part, kind = star.rsplit(".", 1)
        targets = names[part] if isinstance(names[part], tuple) else (names[part],)
        for target, rows in zip(targets, tensor.chunk(len(targets)), strict=True):
            tensors[f"{target.replace('*', block)}.{kind}"] = rows
    kernel = "vit.embeddings.patch_embeddings.projection.weight"
    tensors[kernel] = tensors[kernel].unflatten(1, (config.num_channels, config.patch_size, config.patch_size))
    theirs.load_state_dict(tensors)
    return theirs
