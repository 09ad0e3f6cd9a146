"""The thirteen numbers that define a Vision Transformer, and what they cost.

Nothing here needs PyTorch: parameters, multiply-adds and activation memory are closed forms.
Notation: `B` batch, `C` channels, `P` patch size, `N` patches, `L = N + 1` tokens with [CLS], `D` width,
`M` width inside the MLP, `h` heads.

Longer than 150 lines because the three costs stand beside the fields that they are computed from.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from vitcourse.validation import (
    known_fields,
    one_of,
    positive_integer,
    positive_number,
    probability,
    side_or_pair,
    true_or_false,
)

PositionEmbeddingKind = Literal["learned", "sinusoidal", "sinusoidal_2d", "none"]
Pooling = Literal["cls", "mean"]

# name: hidden_size, num_hidden_layers, num_attention_heads, image_size, num_classes; intermediate_size = 4 hidden_size.
# Nano to Mini are this course's; Ti and S come from DeiT (Touvron et al., 2021, table 1) and from Steiner et al.
# (2022, "How to train your ViT?"); B, L and H from Dosovitskiy et al. (2021, table 1).
VARIANTS = {
    "Nano": (48, 4, 4, 32, 10),
    "Micro": (96, 6, 6, 32, 10),
    "Mini": (192, 6, 6, 32, 10),
    "Ti": (192, 12, 3, 224, 1000),
    "S": (384, 12, 6, 224, 1000),
    "B": (768, 12, 12, 224, 1000),
    "L": (1024, 24, 16, 224, 1000),
    "H": (1280, 32, 16, 224, 1000),
}

# Each check, and the fields it is for.
_CHECKS = {
    positive_integer: (
        "patch_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "num_classes",
        "num_channels",
    ),
    side_or_pair: ("image_size",),
    probability: ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    positive_number: ("initializer_range", "layer_norm_eps"),
    true_or_false: ("qkv_bias", "use_faster_attention"),
}


@dataclass(frozen=True)
class ViTConfig:
    """The hyper-parameters of one Vision Transformer, checked when it is made.

    The first thirteen fields are named as in Hugging Face's `ViTConfig`, but for `num_classes` (`num_labels` there) and
    `use_faster_attention` (`attn_implementation` there). `image_size` is a side or a pair (height, width), in
    pixels. `position_embedding` is one of "learned", "sinusoidal", "sinusoidal_2d", "none"; `pooling` is "cls" (the
    head reads the [CLS] token) or "mean" (the head reads the mean of the patch tokens, as timm's `avg`).

    Raises:
        TypeError: a value of the wrong type, named.
        ValueError: a value out of range, or sizes that don't divide, named.
    """

    patch_size: int = 4
    hidden_size: int = 48
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 4 * 48
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    initializer_range: float = 0.02
    image_size: int | tuple[int, int] = 32
    num_classes: int = 10
    num_channels: int = 3
    qkv_bias: bool = True
    use_faster_attention: bool = True
    position_embedding: PositionEmbeddingKind = "learned"
    pooling: Pooling = "cls"
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        for check, names in _CHECKS.items():
            for name in names:
                # The one way to write a field of a frozen dataclass.
                object.__setattr__(self, name, check(name, getattr(self, name)))
        one_of("position_embedding", self.position_embedding, get_args(PositionEmbeddingKind))
        one_of("pooling", self.pooling, get_args(Pooling))
        self._check_that_sizes_divide()

    def _check_that_sizes_divide(self) -> None:
        for side in self.image_height_width:
            if side % self.patch_size:
                raise ValueError(
                    f"image_size {self.image_size} can't be cut into patches of patch_size {self.patch_size}: "
                    f"{side} leaves a rest of {side % self.patch_size}. Choose a patch_size that divides both sides."
                )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} can't be shared among num_attention_heads "
                f"{self.num_attention_heads}: choose a number of heads that divides it."
            )
        divisor = {"sinusoidal": 2, "sinusoidal_2d": 4}.get(self.position_embedding, 1)
        if self.hidden_size % divisor:
            raise ValueError(
                f"position_embedding {self.position_embedding!r} needs a hidden_size that {divisor} divides, "
                f"got hidden_size {self.hidden_size}."
            )

    # ---- shapes

    @property
    def image_height_width(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.image_height_width
        return height // self.patch_size, width // self.patch_size

    @property
    def num_patches(self) -> int:
        """N = H W / P^2."""
        return math.prod(self.grid_size)

    @property
    def sequence_length(self) -> int:
        """L = N + 1: the patches and [CLS]."""
        return self.num_patches + 1

    @property
    def patch_length(self) -> int:
        """P^2 C, the numbers in one flattened patch."""
        return self.patch_size**2 * self.num_channels

    @property
    def head_size(self) -> int:
        """d_k = D / h."""
        return self.hidden_size // self.num_attention_heads

    # ---- costs

    def num_parameters(self) -> int:
        """The trainable parameters of `VisionTransformer(config)`."""
        width, hidden = self.hidden_size, self.intermediate_size
        embedding = self.patch_length * width + width + width  # projection, its bias, [CLS]
        if self.position_embedding == "learned":
            embedding += self.sequence_length * width
        attention = 3 * width * width + 3 * width * self.qkv_bias + width * width + width
        mlp = width * hidden + hidden + hidden * width + width
        norm = 2 * width
        head = width * self.num_classes + self.num_classes
        return embedding + self.num_hidden_layers * (attention + mlp + 2 * norm) + norm + head

    def multiply_adds(self) -> int:
        """Multiply-adds of the matrix products in the forward pass of one image.

        A block costs L (4 D^2 + 2 D M) + 2 L^2 D; the last term is the attention (Liu et al., 2021, Swin, eq. 1).
        """
        tokens, width, hidden = self.sequence_length, self.hidden_size, self.intermediate_size
        embedding = self.num_patches * self.patch_length * width
        projections = tokens * 4 * width * width
        attention = 2 * tokens * tokens * width  # Q K^T, then weights times V
        mlp = tokens * 2 * width * hidden
        head = width * self.num_classes
        return embedding + self.num_hidden_layers * (projections + attention + mlp) + head

    def activation_bytes(self, batch_size: int) -> int:
        """Bytes kept from the forward pass for the backward pass, in training, float32, explicit attention.

        Counted are the tensors that autograd saves, each once, parameters apart. Dropout adds its masks.

        Raises:
            TypeError, ValueError: a `batch_size` that is no positive whole number.
        """
        batch_size = positive_integer("batch_size", batch_size)
        tokens, width, hidden = self.sequence_length, self.hidden_size, self.intermediate_size
        weights = self.num_attention_heads * tokens * tokens
        residual = 2 * tokens * width  # what enters the two norms
        norms = 2 * tokens * width + 4 * tokens  # what leaves them, and a mean and a deviation a token
        attention = 3 * tokens * width + weights + tokens * width  # q k v, softmax, what enters the projection
        if batch_size == 1 or self.num_attention_heads == 1:
            attention += tokens * width  # then torch multiplies views, which keep what they were cut from
        mlp = 2 * tokens * hidden  # what enters and what leaves the GELU
        if self.hidden_dropout_prob:
            mlp += tokens * hidden + 2 * tokens * width  # masks after linear1, linear2 and the projection
        if self.attention_probs_dropout_prob:
            attention += 2 * weights  # the mask, and the weights that it left
        # The norm keeps what it is given; [CLS] is a view, which keeps all tokens alive.
        head = (tokens if self.pooling == "cls" else 1) * width + 2 + width
        embedding = self.num_patches * self.patch_length
        if self.hidden_dropout_prob:
            embedding += tokens * width
        return 4 * batch_size * (embedding + self.num_hidden_layers * (residual + norms + attention + mlp) + head)

    # ---- making and keeping

    @classmethod
    def variant(cls, name: str, **changes: Any) -> ViTConfig:
        """A named size with its patch size, as papers write it: "Nano/4", "Ti/16", "B/16", "H/14".

        Args:
            changes: further fields, for example `num_classes=10`.

        Raises:
            TypeError, ValueError: a name that is no variant; changes as in `from_dict`.
        """
        size, _, patch_size = str(name).partition("/")
        if size not in VARIANTS or not patch_size.isdecimal():
            names = ", ".join(f"{size}/P" for size in VARIANTS)
            raise ValueError(f"name {name!r} is no variant. Known: {names}, with P the patch size in pixels.")
        width, layers, heads, image_size, num_classes = VARIANTS[size]
        values = {
            "patch_size": int(patch_size),
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "image_size": image_size,
            "num_classes": num_classes,
        }
        return cls.from_dict(values | changes)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ViTConfig:
        """The config that a dictionary describes; missing fields take their defaults.

        Raises:
            TypeError, ValueError: a field that is unknown, or a value that the class refuses.
        """
        return cls(**known_fields(cls, values))

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """All fields as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def replace(self, **changes: Any) -> ViTConfig:
        """A copy with some fields changed, checked anew.

        Raises:
            TypeError, ValueError: as `from_dict`.
        """
        return self.from_dict(self.to_dict() | changes)
