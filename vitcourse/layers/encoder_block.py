"""Attention, then MLP, each added to the residual stream."""

from torch import Tensor, nn

from vitcourse.layers.attention import MultiHeadAttention
from vitcourse.layers.mlp import MLP


class EncoderBlock(nn.Module):
    """One layer of a Transformer encoder: `(B, N, D) -> (B, N, D)`.

    Pre-norm, as in ViT: x <- x + MSA(LN(x)), then x <- x + MLP(LN(x)) (Dosovitskiy et al., 2021, eq. 2 and 3).
    Post-norm, as in 2017: x <- LN(x + MSA(x)), then x <- LN(x + MLP(x)) (Vaswani et al., 2017, section 3.1).

    Args:
        hidden_size, num_heads, intermediate_size: D, h, M.
        qkv_bias, use_faster_attention: as in `MultiHeadAttention`.
        dropout: after the attention's projection and after each product of the MLP.
        attention_dropout: of the attention weights.
        layer_norm_eps: added to the variance, inside the root.
        norm_first: pre-norm if True, post-norm if False.

    Raises:
        ValueError: `hidden_size` that `num_heads` doesn't divide.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_eps: float = 1e-6,
        norm_first: bool = True,
        use_faster_attention: bool = True,
    ):
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = MultiHeadAttention(hidden_size, num_heads, qkv_bias, attention_dropout, use_faster_attention)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.mlp = MLP(hidden_size, intermediate_size, dropout)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Args and returned weights as in `MultiHeadAttention.forward`."""
        attended = self.attention(self.norm1(tokens) if self.norm_first else tokens, mask, return_attention)
        attended, weights = attended if return_attention else (attended, None)
        tokens = tokens + self.dropout(attended)
        if self.norm_first:
            tokens = tokens + self.mlp(self.norm2(tokens))
        else:
            tokens = self.norm1(tokens)
            tokens = self.norm2(tokens + self.mlp(tokens))
        return (tokens, weights) if return_attention else tokens
