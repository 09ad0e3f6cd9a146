"""Where a token stands, added to what it is."""

import torch
from torch import Tensor, nn

from vitcourse.functional import sinusoidal_encoding, sinusoidal_encoding_2d


def _add(tokens: Tensor, positions: Tensor) -> Tensor:
    if tokens.shape[1:] != positions.shape[1:]:  # one position for all tokens would add without complaint
        length, width = positions.shape[1:]
        raise ValueError(f"tokens must have shape (B, {length}, {width}), got {tuple(tokens.shape)}.")
    return tokens + positions


class LearnedPositionEmbedding(nn.Module):
    """Add a learned vector for each position: `(B, L, D) -> (B, L, D)` (Dosovitskiy et al., 2021, eq. 1).

    Args:
        length: L, the number of tokens, [CLS] included.
        hidden_size: D.

    Raises:
        ValueError: from `forward`, tokens of another length or width.
    """

    def __init__(self, length: int, hidden_size: int):
        super().__init__()
        self.positions = nn.Parameter(torch.empty(1, length, hidden_size))
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return _add(tokens, self.positions)


class _FixedPositionEmbedding(nn.Module):
    """Add a table that is computed, not learned: `(B, L, D) -> (B, L, D)`."""

    def __init__(self, table: Tensor):
        super().__init__()
        self.register_buffer("positions", table[None], persistent=False)  # known, so not saved with the weights

    def forward(self, tokens: Tensor) -> Tensor:
        return _add(tokens, self.positions)


class SinusoidalPositionEmbedding(_FixedPositionEmbedding):
    """Add sines and cosines of the position in the sequence: `(B, L, D) -> (B, L, D)` (Vaswani et al., 2017, 3.5).

    [CLS], the first token, has position 0.

    Raises:
        ValueError: an odd `hidden_size`.
    """

    def __init__(self, length: int, hidden_size: int, base: float = 10000.0):
        super().__init__(sinusoidal_encoding(length, hidden_size, base))


class SinusoidalPositionEmbedding2D(_FixedPositionEmbedding):
    """Add sines and cosines of row and column of the patch: `(B, L, D) -> (B, L, D)`, L = 1 + rows x columns.

    [CLS], the first token, has no place in the image and gets zeros (as in MAE, He et al., 2022).

    Raises:
        ValueError: a `hidden_size` that 4 doesn't divide.
    """

    def __init__(self, grid_size: tuple[int, int], hidden_size: int, base: float = 10000.0):
        grid = sinusoidal_encoding_2d(*grid_size, hidden_size, base)
        super().__init__(torch.cat([torch.zeros(1, hidden_size), grid]))
