"""Ours, from another library's model and the table of names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitcourse.config import ViTConfig
from vitcourse.interop.theirs import Theirs
from vitcourse.model import VisionTransformer

SINGLE_TENSORS = ("class_token", "position_embedding.positions")  # all others are layers: a weight and a bias
_GELUS = ("GELU", "GELUActivation")


def build(
    theirs: Theirs, names: dict[str, str | tuple[str, ...]], other_dropout: tuple[str, ...] = (), **settings: Any
) -> VisionTransformer:
    """Ours, from the names of our tensors and layers with theirs, and the settings that no shape tells.

    Args:
        other_dropout: how the names of dropout layers end that are not of the kind `hidden_dropout_prob`.

    Raises:
        ValueError: what ours can't represent.
    """
    layers = _without_stars(theirs, names | {"head": _linear_head(theirs, names["head"])})
    settings["hidden_dropout_prob"] = _hidden_dropout(theirs, other_dropout)
    _check_activations(theirs, [layers.pop(ours)[0] for ours in [*layers] if ours.endswith("activation")])
    settings["patch_size"] = _patch_size(theirs, *layers["patch_embedding.projection"])
    qkv = [part for ours, parts in layers.items() if ours.endswith("qkv") for part in parts]
    settings["qkv_bias"] = any(f"{part}.bias" in theirs.tensors for part in qkv)
    tensors = _take_all(theirs, layers)
    if not settings["qkv_bias"]:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("qkv.bias")}
    norms = (theirs.setting(*parts, "eps") for ours, parts in layers.items() if "norm" in ours)
    settings["layer_norm_eps"] = theirs.same("layer_norm_eps", norms)
    theirs.same("dtypes and devices", (f"{tensor.dtype} on {tensor.device}" for tensor in tensors.values()))
    return _load(theirs, settings, tensors)


def _without_stars(theirs: Theirs, names: dict[str, str | tuple[str, ...]]) -> dict[str, list[str]]:
    layers = {}
    for ours, parts in names.items():
        parts = (parts,) if isinstance(parts, str) else parts
        for index, block in enumerate(zip(*map(theirs.each, parts), strict=True)):
            layers[ours.replace("*", str(index))] = list(block)
    return layers


def _linear_head(theirs: Theirs, name: str) -> str:
    """The name of the one linear layer that the head consists of."""
    parts = theirs.part(name).named_modules(prefix=name)
    leaves = {each: part for each, part in parts if not list(part.children())}
    leaves = {each: part for each, part in leaves.items() if not isinstance(part, nn.Identity)}
    if [type(part) for part in leaves.values()] != [nn.Linear]:
        found = ", ".join(map(str, leaves.values())) or "nothing (num_classes 0)"
        theirs.refuse(f"a head of {found}", "ours is one linear layer, without representation_size or dropout")
    return next(iter(leaves))


def _hidden_dropout(theirs: Theirs, others: tuple[str, ...]) -> float:
    parts = [(name, part) for name, part in theirs.model.named_modules() if isinstance(part, nn.Dropout)]
    return theirs.same("dropout probabilities", (part.p for name, part in parts if not name.endswith(others)))


def _check_activations(theirs: Theirs, names: list[str]) -> None:
    activations = [theirs.part(name) for name in names]
    for name, part in zip(names, activations, strict=True):
        if type(part).__name__ not in _GELUS or getattr(part, "approximate", "none") != "none":
            theirs.refuse(f"{name} {part}", "ours has the exact GELU")
    for name, part in theirs.model.named_modules():
        if type(part).__name__ in _GELUS and part not in activations:
            theirs.refuse(f"{name} of class {type(part).__name__}", "ours has one in each MLP, none elsewhere")


def _patch_size(theirs: Theirs, name: str) -> int:
    layer = theirs.part(name)
    if not isinstance(layer, nn.Conv2d):
        theirs.refuse(f"{name} {layer}", "ours projects a patch by one matrix, not by conv_stem_configs")
    sides = {*layer.kernel_size, *layer.stride}
    if len(sides) != 1 or (layer.padding, layer.dilation, layer.groups) != ((0, 0), (1, 1), 1):
        theirs.refuse(f"{name} {layer}", "our patches are squares, side by side")
    return sides.pop()


def _take_all(theirs: Theirs, layers: dict[str, list[str]]) -> dict[str, Tensor]:
    """Our state dict, complete. Refuses if any tensor of theirs is left."""
    tensors = {}
    for ours, parts in layers.items():
        if ours in SINGLE_TENSORS:
            tensors[ours] = theirs.take(parts[0])
        else:
            tensors[f"{ours}.weight"], tensors[f"{ours}.bias"] = theirs.take_layer(parts)
    theirs.refuse_left_over()
    return tensors


def _load(theirs: Theirs, settings: dict[str, Any], tensors: dict[str, Tensor]) -> VisionTransformer:
    """Ours, with these very tensors as parameters."""
    kernels = tensors["patch_embedding.projection.weight"]  # (D, C, P, P)
    tensors["patch_embedding.projection.weight"] = kernels.flatten(1)
    settings["hidden_size"], settings["num_channels"] = kernels.shape[:2]
    settings["num_hidden_layers"] = sum(name.endswith("norm1.weight") for name in tensors)
    settings["intermediate_size"] = len(tensors["blocks.0.mlp.linear1.weight"])
    settings["num_classes"] = len(tensors["head.weight"])
    try:
        config = ViTConfig(**settings)
    except ValueError as error:
        theirs.refuse("settings that ours refuses", str(error).rstrip("."))
    with torch.device("meta"):  # shapes only; also draws no random numbers
        ours = VisionTransformer(config)
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    for name in shapes:
        if tensors[name].shape != shapes[name]:
            what = f"a tensor of shape {tuple(tensors[name].shape)} for our {name}"
            theirs.refuse(what, f"by the other sizes, ours has {tuple(shapes[name])}")
    ours.load_state_dict(tensors, assign=True)  # keeps their dtype and device
    return ours.train(theirs.model.training)
