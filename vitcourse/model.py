"""The Vision Transformer, assembled.

Longer than 150 lines because the model, its pooling, saving and loading are one class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn

from vitcourse.config import ViTConfig
from vitcourse.layers import (
    EncoderBlock,
    LearnedPositionEmbedding,
    PatchEmbedding,
    SinusoidalPositionEmbedding,
    SinusoidalPositionEmbedding2D,
)
from vitcourse.storage import read_weights, write_weights


class VisionTransformer(nn.Module):
    """An image classifier made of patches and attention: `(B, C, H, W) -> (B, num_classes)`.

    z_0 = [x_class; x_1 E; ...; x_N E] + E_pos, then the encoder blocks, then LayerNorm and one linear layer on the
    pooled token (Dosovitskiy et al., 2021, eq. 1 to 4). Weights and class token start from a normal distribution of
    deviation `config.initializer_range`, biases from 0; each block is drawn by itself.

    Raises:
        TypeError, ValueError: from `forward`, images that don't fit the config.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        if not isinstance(config, ViTConfig):
            raise TypeError(f"config must be a ViTConfig, got {type(config).__name__}; try ViTConfig.from_dict(...).")
        self.config = config
        self.patch_embedding = PatchEmbedding(config.patch_size, config.num_channels, config.hidden_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embedding = _position_embedding(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                qkv_bias=config.qkv_bias,
                dropout=config.hidden_dropout_prob,
                attention_dropout=config.attention_probs_dropout_prob,
                layer_norm_eps=config.layer_norm_eps,
                use_faster_attention=config.use_faster_attention,
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.num_classes)
        self.initialise(config.initializer_range)

    @torch.no_grad()
    def initialise(self, initializer_range: float) -> None:
        """Draw all weights anew: normal with deviation `initializer_range`, biases 0, LayerNorms 1 and 0."""
        nn.init.normal_(self.class_token, std=initializer_range)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=initializer_range)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, LearnedPositionEmbedding):
                nn.init.normal_(module.positions, std=initializer_range)

    def embed(self, images: Tensor) -> Tensor:
        """Patches, [CLS] first, positions added: `(B, C, H, W) -> (B, L, D)`."""
        self._check(images)
        patches = self.patch_embedding(images)
        class_token = repeat(self.class_token, "1 1 d -> b 1 d", b=len(images))
        return self.dropout(self.position_embedding(torch.cat([class_token, patches], dim=1)))

    def classify(self, tokens: Tensor) -> Tensor:
        """Pool, normalise, project: `(B, L, D) -> (B, num_classes)`."""
        pooled = tokens[:, 0] if self.config.pooling == "cls" else tokens[:, 1:].mean(dim=1)
        return self.head(self.norm(pooled))  # LayerNorm looks at one token at a time, so pooling first saves work

    def forward(self, images: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Class scores (logits) of each image.

        Args:
            images: `(B, C, H, W)`, floating point, of the size in the config.
            return_attention: also return the attention weights, a list with one `(B, h, L, L)` a block.
        """
        tokens = self.embed(images)
        all_weights = []
        for block in self.blocks:
            if return_attention:
                tokens, weights = block(tokens, return_attention=True)
                all_weights.append(weights)
            else:
                tokens = block(tokens)
        logits = self.classify(tokens)
        return (logits, all_weights) if return_attention else logits

    def _check(self, images: Tensor) -> None:
        expected = (self.config.num_channels, *self.config.image_height_width)
        if images.ndim != 4 or images.shape[1:] != expected:
            hint = " Add the batch dimension: images[None]." if images.shape == expected else ""
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}.{hint}"
            )
        if not images.is_floating_point():
            raise TypeError(
                f"images must be floating point, got {images.dtype}; scale and normalise them first "
                "(vitcourse.data.ImageSet.inputs does both)."
            )

    # ---- keeping

    def save(self, path: str | Path, **notes: str) -> Path:
        """Write weights and config into one safetensors file; the config stands as JSON in the file's header.

        Args:
            notes: further text for the header, for example `data="fashion-mnist"`.

        Raises:
            TypeError: a note that is no text.
            ValueError: a note called "config", or weights that aren't those of the config.
            OSError: a full disk, for example; what was there before stays.
        """
        if "config" in notes:
            raise ValueError("notes must not contain config: the model's own is written.")
        for name, note in notes.items():
            if not isinstance(note, str):
                raise TypeError(f"note {name} must be text, got {note!r} of type {type(note).__name__}; try str(...).")
        if replaced := self.replaced_weights():
            raise ValueError(
                f"model can't be saved with its config, which doesn't describe {', '.join(replaced)}: a part was "
                "replaced. Keep its state_dict(), for example through vitcourse.storage.write_weights."
            )
        return write_weights(path, self.state_dict(), {"config": self.config.to_json(), **notes})

    def replaced_weights(self) -> list[str]:
        """The names of weights that the config doesn't describe, for example after `model.head = nn.Linear(48, 3)`.

        Among them are those that it describes and that aren't there. A model without such can be saved.
        """
        with torch.device("meta"):  # shapes only; also draws no random numbers
            described = type(self)(self.config).state_dict()
        own = self.state_dict()
        common = own.keys() & described.keys()
        return sorted((own.keys() ^ described.keys()) | {n for n in common if own[n].shape != described[n].shape})

    @classmethod
    def load(cls, path: str | Path, **changes: Any) -> VisionTransformer:
        """The model that `save` wrote, in evaluation mode, on the CPU, in float32.

        Args:
            changes: config fields to change that don't change the weights, for example `use_faster_attention=False`.

        Raises:
            FileNotFoundError, ValueError: no file there, or not one that `save` wrote.
        """
        weights, notes = read_weights(path)
        if "config" not in notes:
            raise ValueError(f"path {str(path)!r} holds no config; it was not written by `VisionTransformer.save`.")
        try:
            model = cls(ViTConfig.from_dict({**json.loads(notes["config"]), **changes}))
            model.load_state_dict(weights)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"path {str(path)!r} can't be loaded with changes {changes}: {error}") from None
        return model.eval()


def _position_embedding(config: ViTConfig) -> nn.Module:
    if config.position_embedding == "learned":
        return LearnedPositionEmbedding(config.sequence_length, config.hidden_size)
    if config.position_embedding == "sinusoidal":
        return SinusoidalPositionEmbedding(config.sequence_length, config.hidden_size)
    if config.position_embedding == "sinusoidal_2d":
        return SinusoidalPositionEmbedding2D(config.grid_size, config.hidden_size)
    return nn.Identity()
