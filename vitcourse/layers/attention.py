"""Several attentions side by side."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vitcourse.functional import attention, attention_weights


class MultiHeadAttention(nn.Module):
    """Self-attention in `num_heads` slices of the width: `(B, N, D) -> (B, N, D)`.

    MultiHead(X) = Concat(head_1, ..., head_h) W_O with head_i = Attention(X W_Q^i, X W_K^i, X W_V^i)
    (Vaswani et al., 2017, section 3.2.2). The 3 h matrices are slices of one projection, `qkv`: rows in the order
    query, key, value, within each head by head.

    Args:
        hidden_size: D.
        num_heads: h; each head has width d_k = D / h.
        qkv_bias: whether query, key and value have a bias; the output projection always has.
        dropout: probability with which an attention weight is dropped in training.
        use_faster_attention: compute through `F.scaled_dot_product_attention`. Weights and numbers stay the same.

    Raises:
        ValueError: `hidden_size` that `num_heads` doesn't divide.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        use_faster_attention: bool = True,
    ):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"num_heads {num_heads} must divide hidden_size {hidden_size}.")
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_faster_attention = use_faster_attention
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Let every token fetch from all others.

        Args:
            tokens: `(B, N, D)`.
            mask: boolean, True where a token may look, `(N, N)`, `(B, N, N)` or broadcastable to `(B, h, N, N)`. A
                padding mask `(B, N)` of keys is `mask[:, None, None, :]`.
            return_attention: also return the weights `(B, h, N, N)`, before dropout; this takes the explicit path.
        """
        query, key, value = (
            rearrange(part, "b n (h d) -> b h n d", h=self.num_heads) for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None]  # the same for all heads; unexpanded, B would be taken for h
        dropout = self.dropout if self.training else 0.0
        if return_attention:
            weights = attention_weights(query, key, mask)
            heads = F.dropout(weights, dropout) @ value
        else:
            heads = attention(query, key, value, mask, dropout=dropout, fused=self.use_faster_attention)
        output = self.projection(rearrange(heads, "b h n d -> b n (h d)"))
        return (output, weights) if return_attention else output

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, dropout={self.dropout}, use_faster_attention={self.use_faster_attention}"
