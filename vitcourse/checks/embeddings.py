"""Sheet 1, embeddings and positions.

Longer than 150 lines because six tasks and the beliefs that lead astray in them stand on one page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vitcourse import functional
from vitcourse.checks.exercise import Case, Exercise, integer

# ---- 1.1 one-hot rows


def _one_hot_cases(generator: Generator) -> Iterator[Case]:
    for shape in ((4,), (2, 3)):
        num_classes = integer(5, 7, generator)
        ids = torch.randint(1, num_classes - 1, shape, generator=generator)  # neither the first nor the last
        ids.view(-1)[1] = 0
        yield Case(f"ids {tuple(shape)}, {num_classes} classes", {"ids": ids, "num_classes": num_classes})


def _one_hot_run(answer, ids: Tensor, num_classes: int) -> Iterator[tuple[str, Tensor]]:
    yield "one_hot", (rows := answer(ids, num_classes))
    rows, W = torch.as_tensor(rows), torch.arange(3.0 * num_classes).reshape(num_classes, 3)
    yield "one_hot @ W", rows @ W.to(rows.dtype) if rows.is_floating_point() else rows @ W


one_hot = Exercise(
    "one_hot",
    2,
    "01-words-as-vectors#1 A number for a word",
    lambda ids, num_classes: functional.one_hot(ids, num_classes),
    _one_hot_cases,
    run=_one_hot_run,
)


@one_hot.mistake(
    "The rows hold whole numbers. A product with a table of weights needs floating-point numbers on both sides.",
    source="torch.nn.functional.one_hot returns int64 (its documentation), and the product then fails.",
)
def whole_numbers(ids, num_classes):
    return F.one_hot(ids, num_classes)


@one_hot.mistake(
    "The length follows the largest id that happens to occur. It must be `num_classes`, or two batches don't fit "
    "together.",
    source="https://github.com/jwcalder/GraphLearning/issues/12",
)
def length_from_the_largest_id(ids, num_classes):
    return F.one_hot(ids).float()


@one_hot.mistake(
    "Two slips. First: the length follows the largest id that happens to occur; it must be `num_classes`. Then: the "
    "rows hold whole numbers, where the product needs floating-point ones.",
    source="https://github.com/jwcalder/GraphLearning/issues/12 (the length), and torch's one_hot, which returns int64",
)
def length_from_the_largest_id_and_whole_numbers(ids, num_classes):
    return F.one_hot(ids)


@one_hot.mistake(
    "The rows hold True and False. A product with a table of weights needs floating-point numbers on both sides.",
    source="`ids[..., None] == torch.arange(V)`, the one-line way, without its conversion: answers on one-hot rows.",
)
def booleans(ids, num_classes):
    return ids[..., None] == torch.arange(num_classes)


@one_hot.mistake(
    "The shape of `ids` is lost: a table of ids becomes one long list. Only an axis for the classes should be added.",
    source="https://github.com/Deci-AI/data-gradients/pull/146 (which axes one_hot expects, and returns)",
)
def flattened(ids, num_classes):
    return torch.eye(num_classes)[ids.flatten()]


@one_hot.mistake(
    "Ids count from 0 here: id 0 has its 1 in the first place. Yours stands one place off.",
    source="https://github.com/Megvii-BaseDetection/YOLOX/issues/357 (labels that count from 1)",
)
def counted_from_one(ids, num_classes):
    return F.one_hot((ids - 1) % num_classes, num_classes).float()


@one_hot.mistake(
    "Classes run along the last axis: one row for each id. Yours runs along the first.",
    source="https://github.com/milesial/Pytorch-UNet/issues/322 (one_hot(...).permute(0, 3, 1, 2), as for masks)",
)
def classes_first(ids, num_classes):
    return F.one_hot(ids, num_classes).float().movedim(-1, 0)


# ---- 1.2 what index / N confuses


def _confused_cases(generator: Generator) -> Iterator[Case]:
    small = (4, 6) if integer(0, 1, generator) else (6, 8)
    large = (36, 48) if integer(0, 1, generator) else (40, 50)
    for N, M in (small, (small[1], small[0]), (5, 7), large, (49, 50)):
        yield Case(f"lengths {N} and {M}", {"N": N, "M": M})


def _confused_run(answer, N: int, M: int) -> Iterator[tuple[str, object]]:
    pairs = answer(N, M)
    if not isinstance(pairs, (list, tuple, set, Tensor)):
        yield "pairs", pairs
        return
    yield "pairs", torch.tensor(sorted(tuple(map(int, pair)) for pair in pairs), dtype=torch.long).reshape(-1, 2)


def _confused(N: int, M: int) -> list[tuple[int, int]]:
    return [(p, q) for p in range(1, N) for q in range(1, M) if p * M == q * N]


confused_positions = Exercise(
    "confused_positions",
    2,
    "02-positions#2 Three ideas that break",
    _confused,
    _confused_cases,
    run=_confused_run,
)


@confused_positions.mistake(
    "Whole-number division drops what comes after the point, and everything before the last position becomes 0.",
    source="`//` for `/`, the first lines of many Python questions on ratios (PEP 238 gives its history).",
)
def whole_number_division(N, M):
    return [(p, q) for p in range(1, N) for q in range(1, M) if p // N == q // M]


@confused_positions.mistake(
    "The first position is 1 here, as in the notebook. With 0 you also find the pair of the two beginnings.",
    source="Positions 0 .. N-1 as in the 2017 paper's code, against 1 .. N in the course's slides.",
)
def counted_from_zero(N, M):
    return [(p, q) for p in range(N) for q in range(M) if p * M == q * N]


@confused_positions.mistake(
    "The two ends, N and M, are always confused: both are 1. The task leaves them out.",
    source="`range(1, N + 1)`, by habit, where the task says smaller than N.",
)
def with_the_ends(N, M):
    return [(p, q) for p in range(1, N + 1) for q in range(1, M + 1) if p * M == q * N]


@confused_positions.mistake(
    "Both p and q begin at 0 and end at the length. Positions count from 1 here, and the task leaves out the last "
    "ones, N and M.",
    source="`range(N + 1)`, by habit, for a range that should begin at 1.",
)
def from_zero_to_the_end(N, M):
    return [(p, q) for p in range(N + 1) for q in range(M + 1) if p * M == q * N]


@confused_positions.mistake(
    "The pairs are the wrong way round: the first number of a pair belongs to the sentence of length N.",
    source="Loops nested the other way, `for q ... for p`, with the pair written as the loops stand.",
)
def the_wrong_way_round(N, M):
    return [(q, p) for p, q in _confused(N, M)]


@confused_positions.mistake(
    "Some of these quotients are close, not equal. Rounded numbers, or a tolerance, find too many for long sentences.",
    source="Comparing floats by round(x, 2) or a tolerance: Python's tutorial, chapter 15, where it is the advice.",
)
def close_is_not_equal(N, M):
    return [(p, q) for p in range(1, N) for q in range(1, M) if abs(p / N - q / M) < 0.01]


@confused_positions.mistake(
    "Some of these quotients are close, not equal: rounding to two decimals finds too many for long sentences.",
    source="The example 4/6 and 2/3, both printed as 0.67 (0.666 in the slides), taken for the rule.",
)
def rounded(N, M):
    return [(p, q) for p in range(1, N) for q in range(1, M) if round(p / N, 2) == round(q / M, 2)]


@confused_positions.mistake(
    "The two ranges are exchanged: p belongs to the sentence of length N, q to that of length M.",
    source="range(1, M) written over the loop of p: two loops, two lengths.",
)
def ranges_exchanged(N, M):
    return [(p, q) for p in range(1, M) for q in range(1, N) if p * M == q * N]


@confused_positions.mistake(
    "It stops at the first pair. There may be several: a common divisor g of the lengths gives g - 1 of them.",
    source="`return` inside the loop, the first entry in many lists of beginners' Python mistakes.",
)
def first_pair_only(N, M):
    return _confused(N, M)[:1]


@confused_positions.mistake(
    "These are equal positions. What is confused are equal quotients, p/N = q/M.",
    source="The belief that index/N keeps the index: 'position 2 is position 2 in both sentences'.",
)
def equal_positions(N, M):
    return [(p, p) for p in range(1, min(N, M))]


# ---- 1.3 sines and cosines


def _sinusoidal_cases(generator: Generator) -> Iterator[Case]:
    yield Case("'I am a robot': 4 positions, D = 4, base 100", {"length": 4, "dim": 4, "base": 100.0})
    length, dim = 2 * integer(2, 4, generator) + 1, 2 * integer(3, 6, generator)  # odd and even, so never equal
    base = float(integer(2, 40, generator) * 50)
    yield Case(f"{length} positions, D = {dim}, base {base:g}", {"length": length, "dim": dim, "base": base})


sinusoidal_encoding = Exercise(
    "sinusoidal_encoding",
    4,
    "02-positions#3 Round the corners",
    functional.sinusoidal_encoding,
    _sinusoidal_cases,
)


def _angles(length: int, dim: int, base: float, first: int = 0, step: float = 1.0) -> Tensor:
    frequencies = base ** (-step * torch.arange(0, dim, 2).double() / dim)
    return torch.arange(first, first + length)[:, None] * frequencies


def _interleaved(even: Tensor, odd: Tensor) -> Tensor:
    return torch.stack([even, odd], dim=-1).flatten(-2).float()


@sinusoidal_encoding.mistake(
    "All sines stand first and all cosines after them. The formula alternates them: columns 2i and 2i + 1 belong "
    "together.",
    source="https://github.com/tensorflow/text/issues/1122 and https://github.com/allenai/allennlp/issues/2993",
)
def sines_then_cosines(length, dim, base=10000.0):
    angles = _angles(length, dim, base)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


@sinusoidal_encoding.mistake(
    "The exponent counts columns twice: in column c = 2i of the pair it is c/D, and the pair shares it.",
    source="https://github.com/shenweichen/DeepCTR/issues/379",
)
def a_frequency_for_each_column(length, dim, base=10000.0):
    columns = torch.arange(dim).double()
    angles = torch.arange(length)[:, None] * base ** (-2 * columns / dim)
    return _interleaved(angles[:, 0::2].sin(), angles[:, 1::2].cos())


@sinusoidal_encoding.mistake(
    "The pair doesn't share its frequency: each column has its own, c/D for the sine and (c + 1)/D for the cosine. "
    "Both use that of the even column.",
    source="https://github.com/BrianPulfer/PapersReimplementations/issues/9, and https://github.com/tensorflow/"
    "tensorflow/issues/37191, where angles are made for every column",
)
def neighbours_with_their_own_frequency(length, dim, base=10000.0):
    columns = torch.arange(dim).double()
    angles = torch.arange(length)[:, None] * base ** (-columns / dim)
    return _interleaved(angles[:, 0::2].sin(), angles[:, 1::2].cos())


@sinusoidal_encoding.mistake(
    "The exponent is i/D: it lost its 2. With i = 0, 1, 2, ... it is 2i/D.",
    source="https://crackedaicode.com/problems/flax-sinusoidal-pos names it among the common pitfalls.",
)
def i_over_dim(length, dim, base=10000.0):
    angles = _angles(length, dim, base, step=0.5)
    return _interleaved(angles.sin(), angles.cos())


@sinusoidal_encoding.mistake(
    "Your frequencies grow with i: position times base ** (2i / D), where it should be position divided by it.",
    source="Wavelengths confused with frequencies: Vaswani et al. (2017, section 3.5) speak of wavelengths.",
)
def wavelengths_for_frequencies(length, dim, base=10000.0):
    angles = _angles(length, dim, base, step=-1.0)
    return _interleaved(angles.sin(), angles.cos())


@sinusoidal_encoding.mistake(
    "All columns are sines. The odd columns are the cosines of the same angles.",
    source="The formula's second line left out: PE(pos, 2i+1) = cos(...).",
)
def sines_only(length, dim, base=10000.0):
    angles = _angles(length, dim, base)
    return _interleaved(angles.sin(), angles.sin())


@sinusoidal_encoding.mistake(
    "A step of 2 and a factor of 2: `arange(0, D, 2)` already is 2i. Times 2, the frequencies fall twice as fast.",
    source="`2 * i` with an i that steps by 2: Stack Exchange answers on the Transformer's position formula.",
)
def twice_two_i(length, dim, base=10000.0):
    angles = _angles(length, dim, base, step=2.0)
    return _interleaved(angles.sin(), angles.cos())


@sinusoidal_encoding.mistake(
    "Cosines stand in the even columns and sines in the odd ones. Position 0 should read 0, 1, 0, 1, ...",
    source="https://github.com/bojone/attention/issues/5 (cosine first)",
)
def cosine_first(length, dim, base=10000.0):
    angles = _angles(length, dim, base)
    return _interleaved(angles.cos(), angles.sin())


@sinusoidal_encoding.mistake(
    "Your first row is position 1. The first position is 0, and its row reads 0, 1, 0, 1, ...",
    source="Positions from 1, as the padding-aware encoding of fairseq numbers them.",
)
def first_position_is_one(length, dim, base=10000.0):
    angles = _angles(length, dim, base, first=1)
    return _interleaved(angles.sin(), angles.cos())


@sinusoidal_encoding.mistake(
    "It always uses 10000, whatever `base` says.",
    source="`math.log(10000.0)` written into the PyTorch tutorial's PositionalEncoding and its many copies.",
)
def base_ignored(length, dim, base=10000.0):
    return functional.sinusoidal_encoding(length, dim)


# ---- 1.4 learned positions


class _Learned(nn.Module):
    def __init__(self, length: int, hidden_size: int):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, hidden_size))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.positions


def _learned_cases(generator: Generator) -> Iterator[Case]:
    for batch in (1, 3):  # one image alone hides a batch that is mixed up
        length, width = integer(4, 6, generator), integer(7, 9, generator)
        tokens = torch.randn(batch, length, width, generator=generator)
        note = f"tokens ({batch}, {length}, {width})"
        yield Case(note, {"length": length, "hidden_size": width, "tokens": tokens})


def _learned_run(answer, length: int, hidden_size: int, tokens: Tensor) -> Iterator[tuple[str, object]]:
    layer = answer(length, hidden_size)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    yield "learned numbers", sum(parameter.numel() for parameter in parameters)
    output = layer(tokens)
    yield "shape of the output", str(tuple(output.shape))
    yield (
        "it adds to the tokens",
        bool(torch.allclose(layer(tokens + 1) - output, torch.ones(()).to(output), atol=1e-4)),
    )
    added = output - tokens
    yield "it adds the same to each sequence", bool(torch.allclose(added, added[:1].expand_as(added), atol=1e-5))
    start = added[0].detach().flatten()
    yield "the start is random", bool(start.std() > 0)
    yield "some start below 0, some above", bool(start.min() < 0 < start.max())
    yield "the start is small", bool(start.abs().max() < 6)
    yield "an optimiser can move it", bool(output.requires_grad)
    # With a number of its own for each place and dimension, the derivatives of all that is added have full rank.
    rows = [torch.autograd.grad(number, parameters, retain_graph=True) for number in added[0].flatten()]
    derivatives = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    yield "places and dimensions that move on their own", int(torch.linalg.matrix_rank(derivatives))


LearnedPositionalEmbedding = Exercise(
    "LearnedPositionalEmbedding",
    4,
    "02-positions#5 Order restored",
    _Learned,
    _learned_cases,
    run=_learned_run,
    takes="class",
)


@LearnedPositionalEmbedding.mistake(
    "One vector is shared by all tokens. It moves them all alike and says nothing about where they are: you need one "
    "for each of the `length` positions.",
    source="https://github.com/ahmadchalhoub/research_implementations/issues/2",
)
class one_vector_for_all_tokens(_Learned):
    def __init__(self, length, hidden_size):
        super().__init__(1, hidden_size)


@LearnedPositionalEmbedding.mistake(
    "`layer.parameters()` lists nothing that an optimiser may move. That is so for an ordinary tensor, a buffer, a "
    "Python list of parameters, or `requires_grad=False`.",
    source="https://github.com/lucidrains/vit-pytorch/issues/134 ('I don't understand why nn.Parameter is here')",
)
class a_plain_tensor(nn.Module):
    def __init__(self, length, hidden_size):
        super().__init__()
        self.positions = 0.02 * torch.randn(1, length, hidden_size)

    def forward(self, tokens):
        return tokens + self.positions


@LearnedPositionalEmbedding.mistake(
    "All positions start alike, at 0 or at another number. The task asks for a random start.",
    source="https://github.com/huggingface/pytorch-image-models/issues/1668",
)
class zeros_at_the_start(_Learned):
    def __init__(self, length, hidden_size):
        super().__init__(length, hidden_size)
        nn.init.zeros_(self.positions)


@LearnedPositionalEmbedding.mistake(
    "The positions start all on one side of 0, as numbers between 0 and 1 do: every token is pushed the same way. "
    "Start around 0.",
    source="nn.Parameter(torch.rand(...)) for the class token in https://github.com/BrianPulfer/PapersReimplementations",
)
class uniform_from_zero_to_one(_Learned):
    def __init__(self, length, hidden_size):
        super().__init__(length, hidden_size)
        nn.init.uniform_(self.positions)


@LearnedPositionalEmbedding.mistake(
    "The positions are put beside the tokens, and the width doubles. Here they are added.",
    source="https://github.com/ml-explore/mlx/issues/147 (expected concatenation), and many questions 'add or concat?'",
)
class concatenated(_Learned):
    def forward(self, tokens):
        return torch.cat([tokens, self.positions.expand_as(tokens)], dim=-1)


@LearnedPositionalEmbedding.mistake(
    "It returns the positions alone. The tokens must come back with the positions added.",
    source="Position modules that return the table (Hugging Face's BERT adds it outside), used as if they added.",
)
class positions_alone(_Learned):
    def forward(self, tokens):
        return self.positions.expand_as(tokens)


@LearnedPositionalEmbedding.mistake(
    "The table is cut off from the gradient before it is added: `detach`, `.data` and `no_grad` do that. An optimiser "
    "can then never move it.",
    source="https://github.com/hancyran/LiDAR-Diffusion/issues/25 (an embedding added under no_grad: not trainable)",
)
class cut_off_from_the_gradient(_Learned):
    def forward(self, tokens):
        return tokens + self.positions.detach()


@LearnedPositionalEmbedding.mistake(
    "There is one number for each place, the same in all D dimensions. Each place needs a vector of its own.",
    source="A position taken for a number instead of a vector: https://github.com/Beckschen/TransUNet/issues/72",
)
class one_number_for_each_place(nn.Module):
    def __init__(self, length, hidden_size):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, 1))

    def forward(self, tokens):
        return tokens + self.positions


# ---- 1.5 look at it


def _plot_cases(generator: Generator) -> Iterator[Case]:
    length, dim = integer(5, 8, generator), 2 * integer(6, 9, generator)
    encoding = torch.rand(length, dim, generator=generator) * 1.5 - 0.6  # not symmetric about 0
    yield Case(f"an encoding of {length} positions, D = {dim}", {"encoding": encoding})


def _plot_run(answer, encoding: Tensor) -> Iterator[tuple[str, object]]:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    answer(ax, encoding)
    artists = [*ax.images, *ax.collections]
    pictures = [artist for artist in artists if getattr(artist, "get_array", lambda: None)() is not None]
    yield "ax holds a picture", bool(pictures)
    picture = pictures[0]
    yield "rows and columns", torch.as_tensor(picture.get_array()).float()
    yield "position 0 is at the top", _first_row_is_on_top(ax, picture)
    low, high = picture.get_clim()
    yield "the scale is symmetric about 0", low < high and math.isclose(low, -high, rel_tol=1e-6)
    yield "the scale reaches the largest number", high > 0.999 * encoding.abs().max().item()
    yield "the horizontal axis has a label", bool(ax.get_xlabel().strip())
    yield "the vertical axis has a label", bool(ax.get_ylabel().strip())


def _first_row_is_on_top(ax, picture) -> bool:
    if hasattr(picture, "get_coordinates"):  # pcolormesh
        first, last = picture.get_coordinates()[[0, -1], 0, 1]
    else:
        _, _, bottom, top = picture.get_extent()
        first, last = (top, bottom) if picture.origin == "upper" else (bottom, top)
    return bool(ax.transData.transform((0, first))[1] > ax.transData.transform((0, last))[1])


def _plot(ax, encoding) -> None:
    ax.imshow(encoding, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(xlabel="D", ylabel="N")


plot_encoding = Exercise("plot_encoding", 2, "02-positions#3 Round the corners", _plot, _plot_cases, run=_plot_run)


@plot_encoding.mistake(
    "Positions run to the right and dimensions down. One row of the picture should be one position.",
    source="Published pictures of the encoding come both ways; the PyTorch and TensorFlow tutorials differ.",
)
def turned(ax, encoding):
    _plot(ax, encoding.T)


@plot_encoding.mistake(
    "The colours run from the smallest to the largest number, so the middle colour isn't 0. Give `vmin` and `vmax`.",
    source="imshow without vmin and vmax, as in most published pictures of the encoding.",
)
def scale_left_to_matplotlib(ax, encoding):
    ax.imshow(encoding, cmap="RdBu_r")
    ax.set(xlabel="D", ylabel="N")


@plot_encoding.mistake(
    "Positions run upwards: the first row of the table is at the bottom. The task asks for positions downwards.",
    source="pcolormesh and origin='lower' begin at the bottom: Matplotlib's tutorial 'origin and extent in imshow'.",
)
def upwards(ax, encoding):
    ax.imshow(encoding, cmap="RdBu_r", vmin=-1, vmax=1, origin="lower")
    ax.set(xlabel="D", ylabel="N")


@plot_encoding.mistake(
    "The scale ends before the largest numbers, which then all look alike. It should reach them on both sides.",
    source="A symmetric scale set by hand, smaller than the data: the saturated heat maps of many papers.",
)
def saturated(ax, encoding):
    ax.imshow(encoding, cmap="RdBu_r", vmin=-0.1, vmax=0.1)
    ax.set(xlabel="D", ylabel="N")


@plot_encoding.mistake(
    "The axes have no labels: a reader can't tell which one is the position.",
    source="The commonest remark in reviews of student figures; Rougier et al., Ten Simple Rules for Better Figures.",
)
def without_labels(ax, encoding):
    ax.imshow(encoding, cmap="RdBu_r", vmin=-1, vmax=1)


@plot_encoding.mistake(
    "It draws into a figure of its own and leaves `ax` empty.",
    source="plt.imshow instead of ax.imshow: Matplotlib's FAQ on the two interfaces.",
)
def a_figure_of_its_own(ax, encoding):
    from matplotlib.figure import Figure

    _plot(Figure().subplots(), encoding)


# ---- 1.6 k steps are a rotation


def _rotation_cases(generator: Generator) -> Iterator[Case]:
    for dim in (2, 2 * integer(3, 4, generator)):
        k, base = integer(2, 5, generator), float(integer(2, 20, generator) * 50)
        yield Case(f"k = {k}, D = {dim}, base {base:g}", {"k": k, "dim": dim, "base": base})


def _rotation_run(answer, k: int, dim: int, base: float) -> Iterator[tuple[str, Tensor]]:
    yield "R", (R := answer(k, dim, base))
    R = torch.as_tensor(R)
    yield "R PE(pos), pos = 0 .. 5", functional.sinusoidal_encoding(6, dim, base).to(R) @ R.T


def _rotation(k: int, dim: int, base: float = 10000.0) -> Tensor:
    angles = k * base ** (-torch.arange(0, dim, 2).double() / dim)
    blocks = [torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles]
    return torch.block_diag(*blocks).float()


rotation = Exercise(
    "rotation", 4, "02-positions#4 What the hands can do", _rotation, _rotation_cases, run=_rotation_run
)


@rotation.mistake(
    "It turns the wrong way: PE(pos) goes to PE(pos - k). The pair here is (sine, cosine), not (cosine, sine), which "
    "swaps the signs of the rotation that you know from geometry.",
    source="The rotation matrix of (cos, sin) pairs, as in RoPE, on the (sin, cos) pairs of the 2017 paper.",
)
def backwards(k, dim, base=10000.0):
    return _rotation(k, dim, base).T.contiguous()


@rotation.mistake(
    "Every pair turns by the same angle. Each pair has its own frequency.",
    source="'R depends on k alone' read as one angle for all: the note under the formula in many slides.",
)
def one_angle_for_all(k, dim, base=10000.0):
    return torch.block_diag(*[_rotation(k, 2, base)] * (dim // 2))


@rotation.mistake(
    "This is R for a single step, whatever k is.",
    source="R(1) applied once: k used to choose the position and forgotten in the angle.",
)
def one_step(k, dim, base=10000.0):
    return _rotation(1, dim, base)


@rotation.mistake(
    "The matrix fits an encoding with all sines first. Here sine and cosine of one frequency are neighbours, so R is "
    "made of 2 x 2 blocks along the diagonal.",
    source="https://github.com/huggingface/transformers/issues/34741 (pairs against halves, in RoPE)",
)
def halves(k, dim, base=10000.0):
    order = torch.cat([torch.arange(0, dim, 2), torch.arange(1, dim, 2)])
    return _rotation(k, dim, base)[order][:, order]


@rotation.mistake(
    "Your frequencies grow with i: the exponent lost its minus sign. They should fall, from 1 on.",
    source="Wavelengths confused with frequencies: Vaswani et al. (2017, section 3.5) speak of wavelengths.",
)
def growing_frequencies(k, dim, base=10000.0):
    angles = k * base ** (torch.arange(0, dim, 2).double() / dim)
    return torch.block_diag(*[torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles]).float()


@rotation.mistake(
    "Both sines have the same sign, so this is no rotation: it doesn't keep lengths. One of them needs a minus.",
    source="cos(a + b) = cos a cos b - sin a sin b remembered with a plus.",
)
def without_the_minus(k, dim, base=10000.0):
    return _rotation(k, dim, base).abs() * torch.block_diag(*[torch.ones(2, 2)] * (dim // 2)) * _signs(k, dim, base)


@rotation.mistake(
    "The exponent is i/D: it lost its 2. With i = 0, 1, 2, ... it is -2i/D.",
    source="https://crackedaicode.com/problems/flax-sinusoidal-pos names it among the common pitfalls.",
)
def i_over_dim_in_the_angles(k, dim, base=10000.0):
    return _rotation(k, 2 * dim, base)[:dim, :dim]


@rotation.mistake(
    "It always uses 10000, whatever `base` says.",
    source="`math.log(10000.0)` written into the PyTorch tutorial's PositionalEncoding and its many copies.",
)
def base_not_used(k, dim, base=10000.0):
    return _rotation(k, dim)


@rotation.mistake(
    "There are D blocks of 2 x 2, and the matrix is twice too large. Two columns share a frequency: D/2 blocks.",
    source="A frequency for each column instead of each pair: https://github.com/shenweichen/DeepCTR/issues/379",
)
def a_block_for_each_column(k, dim, base=10000.0):
    return _rotation(k, 2 * dim, base)


def _signs(k: int, dim: int, base: float) -> Tensor:
    """The signs of cos and sin of each angle, with sin's positive in both places."""
    R = _rotation(k, dim, base)
    return torch.where(torch.tril(torch.ones(dim, dim), -1).bool(), R.T.sign(), R.sign())
