"""The parts of a Vision Transformer, one concept a file."""

from vitcourse.layers.attention import MultiHeadAttention
from vitcourse.layers.convolutional_stem import ConvolutionalStem
from vitcourse.layers.encoder_block import EncoderBlock
from vitcourse.layers.mlp import MLP
from vitcourse.layers.patch_embedding import PatchEmbedding
from vitcourse.layers.position_embedding import (
    LearnedPositionEmbedding,
    SinusoidalPositionEmbedding,
    SinusoidalPositionEmbedding2D,
)

__all__ = [
    "MLP",
    "ConvolutionalStem",
    "EncoderBlock",
    "LearnedPositionEmbedding",
    "MultiHeadAttention",
    "PatchEmbedding",
    "SinusoidalPositionEmbedding",
    "SinusoidalPositionEmbedding2D",
]
