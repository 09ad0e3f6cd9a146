"""What a token does by itself."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Widen, bend, narrow, each token alone: `(B, N, D) -> (B, N, D)`.

    GELU(x W_1 + b_1) W_2 + b_2, with the exact GELU and dropout after each of the two products
    (Dosovitskiy et al., 2021, section 3.1 and appendix B.1).

    Args:
        hidden_size: D.
        intermediate_size: M, the width inside, 4 D in the papers.
        dropout: probability with which a number is dropped in training.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, dropout: float = 0.0):
        super().__init__()
        self.linear1 = nn.Linear(hidden_size, intermediate_size)
        self.activation = nn.GELU()
        self.linear2 = nn.Linear(intermediate_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(tokens)))
        return self.dropout(self.linear2(hidden))
