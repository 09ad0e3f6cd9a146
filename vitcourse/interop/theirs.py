"""A model of another library: what it may be made of, how it is read, and the words in which it is refused.

Longer than 150 lines because the reasons for refusals stand beside what is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

# The classes that their models may be made of, by package; any other is refused.
_CLASSES = {
    "torch": "Conv2d Dropout GELU Identity LayerNorm Linear ModuleList MultiheadAttention "
    "NonDynamicallyQuantizableLinear Sequential",
    "torchvision": "VisionTransformer Encoder EncoderBlock MLPBlock",
    "timm": "VisionTransformer PatchEmbed Block Attention Mlp LayerScale LayerNorm LayerNormFp32 GELU",
    "transformers": "ViTForImageClassification ViTModel ViTEmbeddings ViTPatchEmbeddings ViTEncoder ViTLayer "
    "ViTAttention ViTSelfAttention ViTSelfOutput ViTMLP ViTIntermediate ViTOutput GELUActivation",
}

# Classes that are taken for theirs, by how their names begin, and why they can't be taken.
_RELATIVES = {
    "ViTModel": "it has no classification head; make a ViTForImageClassification of the same checkpoint",
    "ViTForMaskedImage": "it predicts pixels; make a ViTForImageClassification of the same checkpoint",
    "DeiT": "beside [CLS] it has a token for distillation",
    "VisionTransformerDistilled": "beside [CLS] it has a token for distillation, and a head for each",
    "VisionTransformerRelPos": "its positions are relative, inside the attention",
    "Beit": "its positions may be relative, inside the attention",
    "Dinov2": "it scales its branches, and its classifier reads [CLS] joined to the mean of the patches",
    "DINOv3": "its positions are rotary",
    "Eva": "its positions may be rotary and its MLP gated",
    "NaFlexVit": "it takes images of any size",
}
# Why a part of theirs has no place in ours, by what stands in the name of its class or of its tensors.
_WHY = {
    "AttentionPool": "ours takes [CLS] or a mean, not a pooling by attention (global_pool 'map', 'prr')",
    "Conv2dNormActivation": "ours projects a patch by one matrix, not by conv_stem_configs",
    "DropPath": "ours has no stochastic depth; make theirs with drop_path_rate=0 and load its state dict",
    "PatchDropout": "ours keeps all patches; make theirs with patch_drop_rate=0 and load its state dict",
    "ResPost": "our blocks have the norm first",
    "Parallel": "our blocks have the attention first, then the MLP",
    "q_norm": "ours does not normalise query and key (qk_norm)",
    "norm_pre": "ours has no norm before the blocks (pre_norm)",
    "attn.norm": "ours has no norm between the attention and its projection (scale_attn_norm)",
    "mlp.norm": "ours has no norm inside the MLP (scale_mlp_norm)",
}


class Theirs:
    """A model of theirs, its tensors, each to be taken once, and the words in which it is refused.

    Raises:
        TypeError: an object that is no model of this package and kind.
        ValueError: from here and from each method, what ours can't represent.
    """

    def __init__(self, model: Any, package: str, expected: str):
        kind = type(model)
        bases = [base.__name__ for base in kind.__mro__ if _package(base) == package]
        related = any(name.startswith((expected, *_RELATIVES)) for name in bases)
        if not isinstance(model, nn.Module) or not related:
            raise TypeError(
                f"model must be a {package} {expected} (the object, not its name or its state dict), "
                f"got {kind.__module__}.{kind.__qualname__}."
            )
        self.model, self.package = model, package
        if kind.__name__ != expected or _package(kind) != package:
            why = f"only {expected} itself is known, what a subclass or another class computes is not"
            self.refuse(f"the class {kind.__qualname__}", _why(_RELATIVES, bases, why))
        self._check_classes()
        self.tensors: dict[str, Tensor] = dict(model.state_dict())

    def refuse(self, what: str, why: str) -> NoReturn:
        """Raise ValueError: theirs has `what`, and ours can't represent it, because of `why`."""
        what = " ".join(what.split())  # modules print over several lines
        raise ValueError(f"this {self.package} {type(self.model).__name__} can't be represented: it has {what}; {why}.")

    def _check_classes(self) -> None:
        for name, part in self.model.named_modules():
            package, kind = _package(type(part)), type(part).__name__
            if package not in ("torch", self.package) or kind not in _CLASSES[package].split():
                why = "ours is made of linear layers, LayerNorm, plain attention, the exact GELU and dropout"
                self.refuse(f"{name} of class {kind}", _why(_WHY, [kind], why))

    # ---- reading settings

    def each(self, name: str) -> list[str]:
        """The names that a name with a star stands for, in order."""
        before, star, after = name.partition(".*")
        if not star:
            return [name]
        return [f"{before}.{block}{after}" for block, _ in self.part(before).named_children()]

    def part(self, name: str) -> nn.Module:
        """The layer of this name."""
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            self.refuse(f"no {name}", "ours needs one")

    def one(self, name: str, setting: str) -> Any:
        """The one value of a setting that all blocks share."""
        return self.same(f"{name}.{setting}", (self.setting(each, setting) for each in self.each(name)))

    def setting(self, name: str, setting: str) -> Any:
        """The attribute `setting` of the layer of this name."""
        try:
            return attrgetter(setting)(self.part(name))
        except AttributeError:
            self.refuse(f"no {name}.{setting}", "ours needs one")

    def same(self, what: str, values: Iterable[Any]) -> Any:
        """The one value that all `values` have; `what` they are is for the refusal."""
        found = sorted(set(values))
        if len(found) != 1:
            self.refuse(f"{what} {', '.join(map(str, found)) or 'nowhere'}", "ours has exactly one for all")
        return found[0]

    # ---- taking tensors

    def take(self, name: str) -> Tensor:
        """A copy of this tensor, which is then no longer there."""
        if name not in self.tensors:
            self.refuse(f"no tensor {name}", "ours needs it")
        return self.tensors.pop(name).detach().clone()

    def take_layer(self, names: list[str]) -> tuple[Tensor, Tensor]:
        """Weight and bias, of several layers stacked; zeros for a bias that isn't there."""
        weights = [self.take(f"{name}.weight") for name in names]
        biases = [
            self.take(f"{name}.bias") if f"{name}.bias" in self.tensors else weight.new_zeros(len(weight))
            for name, weight in zip(names, weights, strict=True)
        ]
        return torch.cat(weights), torch.cat(biases)

    def fold_scale(self, scale: str, layer: str) -> None:
        """Multiply a constant per channel into the layer before it: g (W x + b) = (g W) x + g b."""
        gamma = self.tensors.pop(scale, None)  # (D,)
        if gamma is not None:
            self.tensors[f"{layer}.weight"] = gamma[:, None] * self.tensors[f"{layer}.weight"]
            if f"{layer}.bias" in self.tensors:
                self.tensors[f"{layer}.bias"] = gamma * self.tensors[f"{layer}.bias"]

    def refuse_left_over(self) -> None:
        """Refuse if a tensor wasn't taken."""
        if self.tensors:
            why = _why(_WHY, self.tensors, "ours has no place for them")
            self.refuse(f"left-over tensors {', '.join(self.tensors)}", why)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _why(reasons: dict[str, str], names: Iterable[str], otherwise: str) -> str:
    """The reason whose key is a part of one of the names."""
    return next((why for key, why in reasons.items() for name in names if key in name), otherwise)
