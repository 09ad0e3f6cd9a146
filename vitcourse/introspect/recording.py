"""Attention weights and tokens of every layer, from a model that goes on computing as it always does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from vitcourse.layers import EncoderBlock, MultiHeadAttention


class Recording:
    """What the last forward pass within `record` left, in the order of the layers."""

    def __init__(self, layers: int):
        self._layers = layers
        self._attention: dict[int, Tensor] = {}
        self._tokens: dict[int, Tensor] = {}

    @property
    def attention(self) -> list[Tensor]:
        """The attention weights of each layer, `(B, h, T, T)`, before dropout; part of the graph where there is one.

        Raises:
            RuntimeError: nothing was recorded, or not by every layer.
        """
        return self._complete(self._attention)

    @property
    def tokens(self) -> list[Tensor]:
        """What each block returned, `(B, T, D)`.

        Raises:
            RuntimeError: as `attention`.
        """
        return self._complete(self._tokens)

    def _complete(self, found: dict[int, Tensor]) -> list[Tensor]:
        if len(found) < self._layers:
            why = (
                "Run the model inside the `with` block. A model that torch.compile has compiled before doesn't call "
                "the hooks: record the uncompiled one."
            )
            raise RuntimeError(f"{len(found)} of {self._layers} layers were recorded. {why}")
        return [found[layer] for layer in range(self._layers)]


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record what each encoder block of `model` attends to and returns, also with `use_faster_attention`.

    Inside the block each attention computes its weights explicitly; what the model returns stays the same. Hooks are
    gone when the block ends, however it ends.

    Raises:
        ValueError: a model without this package's encoder blocks.
    """
    blocks = [module for module in model.modules() if isinstance(module, EncoderBlock)]
    if not blocks:
        raise ValueError(
            f"model {type(model).__name__} has no EncoderBlock of vitcourse. Load another library's weights into a "
            "VisionTransformer first: vitcourse.interop."
        )
    recording = Recording(len(blocks))
    with ExitStack() as hooks:
        for layer, block in enumerate(blocks):
            attend, collect = _attention_hooks(recording._attention, layer)
            hooks.callback(block.attention.register_forward_pre_hook(attend, with_kwargs=True).remove)
            # The last to ask is the first to unpack, so that one recording can stand inside another.
            hooks.callback(block.attention.register_forward_hook(collect, with_kwargs=True, prepend=True).remove)
            hooks.callback(block.register_forward_hook(_token_hook(recording._tokens, layer)).remove)
        yield recording


def _attention_hooks(found: dict[int, Tensor], layer: int):
    asked: list[bool] = []  # whether the caller wanted the weights as well

    def attend(_: MultiHeadAttention, arguments: tuple[Any, ...], options: dict[str, Any]):
        names = ("tokens", "mask", "return_attention")
        options = {**dict(zip(names, arguments, strict=False)), **options}
        asked.append(bool(options.get("return_attention")))
        return (), {**options, "return_attention": True}

    def collect(_: MultiHeadAttention, arguments: Any, options: Any, output: tuple[Tensor, Tensor]):
        found[layer] = output[1]
        return output if asked.pop() else output[0]

    return attend, collect


def _token_hook(found: dict[int, Tensor], layer: int):
    def collect(_: EncoderBlock, arguments: Any, output: Tensor | tuple[Tensor, Tensor]) -> None:
        found[layer] = output[0] if isinstance(output, tuple) else output

    return collect
