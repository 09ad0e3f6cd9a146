"""Sheet 2, attention: weights, masks, heads, permutations, costs.

Longer than 150 lines because nine tasks and the beliefs that lead astray in them stand on one page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from vitcourse import functional
from vitcourse.checks.exercise import Case, Exercise, integer


def _three_tokens() -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of `the jaguar slept`, notebook 03."""
    query = torch.tensor([[0.0, 2, 0, 0], [2, 0, 2, 0], [2, 2, 0, 0]])
    key = torch.tensor([[1.0, 0, 0, 1], [0, 2, 1, 0], [0, 0, 2, 1]])
    return query, key, torch.tensor([[0.0, 0], [10, 0], [0, 10]])


# ---- 2.1 weights


def _weights_cases(generator: Generator) -> Iterator[Case]:
    query, key, _ = _three_tokens()
    yield Case("'the jaguar slept', N = M = 3, d_k = 4", {"query": query, "key": key})
    for batch in ((2,), (2, 5)):
        width = integer(6, 9, generator)
        query, key = (torch.randn(*batch, length, width, generator=generator) for length in (3, 4))
        yield Case(f"query {tuple(query.shape)}, key {tuple(key.shape)}", {"query": query, "key": key})


attention_weights = Exercise(
    "attention_weights",
    3,
    "03-attention#2 By hand, on three tokens",
    functional.attention_weights,
    _weights_cases,
)


def _scores(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


@attention_weights.mistake(
    "Columns sum to 1 here, not rows: the softmax runs over the queries. Each query shares out its attention over the "
    "keys, the last axis.",
    source="https://github.com/nerminnuraydogan/vision-transformer/issues/1",
)
def softmax_over_queries(query, key):
    return _scores(query, key).softmax(dim=-2)


@attention_weights.mistake(
    "The softmax runs over the first axis. With a batch that is the batch, and sentences compete with each other. Keys "
    "are the last axis, however many stand before it.",
    source="https://github.com/PetrochukM/PyTorch-NLP/issues/2",
)
def softmax_over_the_first_axis(query, key):
    return _scores(query, key).softmax(dim=0)


@attention_weights.mistake(
    "You counted the axis from the front: axis 1 holds the keys only as long as there is no batch. Count it from the "
    "back.",
    source="https://github.com/FudanNLP/fastNLP/issues/254 (right for one number of axes, wrong for another)",
)
def softmax_over_axis_one(query, key):
    return _scores(query, key).softmax(dim=1)


@attention_weights.mistake(
    "The scores aren't scaled, and large ones take nearly all the weight. A sum of d_k products spreads by the root of "
    "d_k; divide by that.",
    source="https://github.com/PAIR-code/tiny-transformers/issues/71",
)
def without_scale(query, key):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1)


@attention_weights.mistake(
    "You divide by d_k. That is the variance of a score; its spread is the square root.",
    source="https://github.com/delzac/cntkx/issues/10 (the root is missing)",
)
def divided_by_d_k(query, key):
    return (query @ key.transpose(-2, -1) / query.shape[-1]).softmax(dim=-1)


@attention_weights.mistake(
    "The scores grow by the root of d_k instead of shrinking. A power of -0.5 is a division already: divide by it, and "
    "you multiply.",
    source="https://github.com/rasbt/LLMs-from-scratch/issues/856, https://github.com/esceptico/perceiver-io/issues/9",
)
def multiplied_by_the_root(query, key):
    return (query @ key.transpose(-2, -1) * math.sqrt(query.shape[-1])).softmax(dim=-1)


@attention_weights.mistake(
    "The scale comes after the softmax, so your rows sum to 1 over the root of d_k. Divide the scores, then take the "
    "softmax.",
    source="https://github.com/FrancescoSaverioZuppichini/ViT/issues/2",
)
def scaled_after_the_softmax(query, key):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) / math.sqrt(query.shape[-1])


@attention_weights.mistake(
    "The sum lost its axis, and row sums are laid along the columns: each number is divided by the sum of another row. "
    "Keep the axis that you sum over.",
    source="https://github.com/jacobgil/vit-explain/issues/16",
)
def sum_without_keepdim(query, key):
    exponentials = _scores(query, key).exp()
    return exponentials / exponentials.sum(dim=-1)


@attention_weights.mistake(
    "`.T` turns all axes round, the batch too. Only the last two should change places.",
    source="torch.Tensor.T: deprecated for tensors that don't have two axes (its documentation).",
)
def all_axes_turned(query, key):
    turned = key.permute(*reversed(range(key.ndim)))  # what .T does, without its warning
    return (query @ turned / math.sqrt(query.shape[-1])).softmax(dim=-1)


@attention_weights.mistake(
    "You counted the axes of the transpose from the front: 1 and 2 are the last two only with exactly one batch axis. "
    "Count them from the back.",
    source="`key.transpose(1, 2)` before torch.bmm, as in attention layers written for (B, N, d) alone.",
)
def transposed_from_the_front(query, key):
    return (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(dim=-1)


@attention_weights.mistake(
    "You named no axis, and torch guesses one by the number of axes: the keys for a single sentence, the batch for "
    "several. Name it.",
    source="https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/52",
)
def softmax_without_an_axis(query, key):
    scores = _scores(query, key)
    return scores.softmax(dim=0 if scores.ndim in (0, 1, 3) else 1)  # torch's old rule


@attention_weights.mistake(
    "The keys ask and the queries answer: your rows are keys. Row i should hold what query i gives to each key.",
    source="https://github.com/karpathy/llm.c/pull/531 (K^T Q in place of Q K^T)",
)
def keys_ask(query, key):
    return _scores(key, query).softmax(dim=-1)


@attention_weights.mistake(
    "The scale takes axis 1 for the width. That fits a single sentence; with a batch, axis 1 counts queries or heads. "
    "The width is the last axis.",
    source="https://github.com/lucidrains/denoising-diffusion-pytorch/issues/265 (q.shape[1] in the scale)",
)
def scale_of_axis_one(query, key):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[1])).softmax(dim=-1)


@attention_weights.mistake(
    "A product needs the width of the queries to meet the width of the keys. Which two axes of the keys have to change "
    "places?",
    source="torch's own 'mat1 and mat2 shapes cannot be multiplied', the first error of many who write Q K for Q K^T.",
)
def without_transpose(query, key):
    return (query @ key / math.sqrt(query.shape[-1])).softmax(dim=-1)


@attention_weights.mistake(
    "These are the scores. Weights are positive and each row sums to 1: a softmax is missing.",
    source="The formula printed without its softmax, in tutorials and course notes.",
)
def without_softmax(query, key):
    return _scores(query, key)


@attention_weights.mistake(
    "You counted the axes of the transpose from the front: 0 and 1 are the last two only as long as there is no batch. "
    "Count them from the back.",
    source="`key.transpose(0, 1)` or `key.t()`, written for one sentence (N, d) and then given a batch; expected, no "
    "published case found.",
)
def transposed_as_without_a_batch(query, key):
    return (query @ key.transpose(0, 1) / math.sqrt(query.shape[-1])).softmax(dim=-1)


@attention_weights.mistake(
    "You divide by the root of the number of queries. A score is a sum over d_k features, however many tokens there "
    "are: the scale is the root of the width.",
    source="Another size under the root; compare https://github.com/tenstorrent/tt-metal/pull/56789 (number of heads)",
)
def scale_of_the_number_of_queries(query, key):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-2])).softmax(dim=-1)


@attention_weights.mistake(
    "You divide by the root of the number of keys. A score is a sum over d_k features, not over keys: the scale is the "
    "root of the width.",
    source="Another size under the root; compare https://github.com/tenstorrent/tt-metal/pull/56789 (number of heads)",
)
def scale_of_the_number_of_keys(query, key):
    return (query @ key.transpose(-2, -1) / math.sqrt(key.shape[-2])).softmax(dim=-1)


# ---- 2.2 padding


def _padding_cases(generator: Generator) -> Iterator[Case]:
    for batch, low, high in ((2, 4, 5), (3, 6, 8)):
        length = integer(low, high, generator)
        lengths = torch.randint(1, length - 1, (batch,), generator=generator)  # at least two are filling
        lengths[0] = 1 + lengths[1] % (length - 2)  # not all alike
        if batch == 3:
            lengths[2] = length  # nothing to hide
        yield Case(f"lengths {lengths.tolist()}, N = {length}", {"lengths": lengths, "N": length})


def _padding(lengths: Tensor, N: int) -> Tensor:
    return (torch.arange(N) < lengths[:, None])[:, None, None, :]


padding_mask = Exercise("padding_mask", 2, "03-attention#7 Masks", _padding, _padding_cases)


@padding_mask.mistake(
    "True marks the filling. Here True means that a query may look: turn it round. Libraries differ, so read which is "
    "meant.",
    source="https://github.com/pytorch/pytorch/pull/39321 and https://github.com/lucidrains/x-transformers/issues/164",
)
def true_hides(lengths, N):
    return ~_padding(lengths, N)


@padding_mask.mistake(
    "The mask runs along the queries: whole rows are hidden, and every other row still sees the filling. Keys are the "
    "last axis.",
    source="https://github.com/hyunwoongko/transformer/pull/40",
)
def queries_instead_of_keys(lengths, N):
    return _padding(lengths, N).transpose(-2, -1)


@padding_mask.mistake(
    "The numbers are right, the axes are missing: against weights (B, h, N, N) your B would be taken for the queries.",
    source="https://github.com/huggingface/transformers/issues/542 (a (B, N) mask, and how it reaches the scores)",
)
def without_the_axes_between(lengths, N):
    return _padding(lengths, N)[:, 0, 0]


@padding_mask.mistake(
    "One axis is missing: against weights (B, h, N, N) your batch would be taken for the heads, without an error when "
    "both are equal.",
    source="https://github.com/ml-explore/mlx-lm/pull/1903 and https://github.com/keras-team/keras-hub/pull/2911",
)
def one_axis_missing(lengths, N):
    return _padding(lengths, N)[:, 0]


@padding_mask.mistake(
    "One place too many: the first filling can be seen. Positions count from 0, so the last real token is at "
    "`lengths - 1`.",
    source="https://github.com/ajhalthor/Transformer-Neural-Network/issues/15",
)
def one_too_many(lengths, N):
    return _padding(lengths + 1, N)


@padding_mask.mistake(
    "One place too few: the last real token is hidden. Positions count from 0, so place `lengths - 1` is still real.",
    source="Positions from 1 against a strict comparison: the same slip as in "
    "https://github.com/ajhalthor/Transformer-Neural-Network/issues/15, the other way round.",
)
def one_too_few(lengths, N):
    return _padding(lengths - 1, N)


@padding_mask.mistake(
    "N positions meet B lengths, place by place, and they don't fit. Make the lengths a column, so that every position "
    "meets every length.",
    source="torch's broadcasting rules (its documentation): sizes are matched from the last axis.",
)
def lengths_as_a_row(lengths, N):
    return (torch.arange(N) < lengths)[:, None, None, :]


@padding_mask.mistake(
    "Here the filling stands behind the sentence; your mask hides the beginning.",
    source="https://github.com/neulab/knn-transformers/issues/16 (padding on the left, as decoders often have it)",
)
def filling_in_front(lengths, N):
    return _padding(lengths, N).flip(-1)


@padding_mask.mistake(
    "These are ones and zeros. The task asks for booleans, which can't be added to a score by mistake.",
    source="https://github.com/huggingface/transformers/issues/542 (the attention_mask of ones and zeros)",
)
def ones_and_zeros(lengths, N):
    return _padding(lengths, N).float()


@padding_mask.mistake(
    "This is the form that is added to scores, 0 and minus infinity. Here the mask says yes or no; the scores come "
    "later.",
    source="https://ai.stackexchange.com/questions/41367/how-is-the-padding-mask-incorporated-in-the-attention-formula",
)
def to_be_added(lengths, N):
    return torch.zeros(len(lengths), 1, 1, N).masked_fill(~_padding(lengths, N), -torch.inf)


@padding_mask.mistake(
    "You hide the rows of the filling too. A query that may look nowhere is a trap, and nobody uses its output: hide "
    "keys only.",
    source="https://github.com/autosome-ru/vigg_ribonanza/issues/1 (mask.unsqueeze(1) & mask.unsqueeze(2))",
)
def rows_hidden_too(lengths, N):
    mask = _padding(lengths, N)
    return mask & mask.transpose(-2, -1)


@padding_mask.mistake(
    "These are ones and zeros, as whole numbers. The task asks for booleans: `~` of a 1 isn't False, it is -2.",
    source="https://github.com/huggingface/transformers/issues/542 (the attention_mask of ones and zeros)",
)
def ones_and_zeros_as_whole_numbers(lengths, N):
    return _padding(lengths, N).long()


@padding_mask.mistake(
    "Your sentences stand third, (1, 1, B, N), where weights (B, h, N, N) have their queries. The batch is the first "
    "axis; the two of size 1 belong between.",
    source="Two axes put in front of (B, N), where they belong between; compare the question about the shape in "
    "https://github.com/pytorch/pytorch/issues/97899",
)
def axes_in_front(lengths, N):
    return _padding(lengths, N)[:, 0, 0][None, None]


@padding_mask.mistake(
    "The mask is repeated for every query, (B, 1, N, N). Axes of size 1 stretch by themselves: one row for each "
    "sentence is enough, and the task asks for that.",
    source="`mask.expand(bsz, 1, tgt_len, src_len)`, as `_expand_mask` in Hugging Face transformers did it.",
)
def repeated_for_every_query(lengths, N):
    return _padding(lengths, N).expand(-1, -1, N, -1)


@padding_mask.mistake(
    "Right shape, wrong places: your comparison gave (N, B), and a reshape reads that row after row. Compare so that "
    "(B, N) comes out.",
    source="A reshape where axes should change places, as in https://github.com/hyunwoongko/transformer/issues/15",
)
def reshaped_from_positions_first(lengths, N):
    return (torch.arange(N)[:, None] < lengths).reshape(len(lengths), 1, 1, N)


@padding_mask.mistake(
    "Two things: True marks the filling, and the two axes of size 1 are missing. Here True means that a query may "
    "look.",
    source="torch's own `key_padding_mask` is of this kind: (B, N), True where a key is hidden (documentation of "
    "nn.MultiheadAttention).",
)
def true_hides_without_the_axes_between(lengths, N):
    return ~_padding(lengths, N)[:, 0, 0]


# ---- 2.3 causal


def _causal_cases(generator: Generator) -> Iterator[Case]:
    for low, high in ((3, 5), (6, 9)):
        length = integer(low, high, generator)
        yield Case(f"N = {length}", {"N": length})


def _causal(N: int) -> Tensor:
    return torch.ones(N, N, dtype=torch.bool).tril()


causal_mask = Exercise("causal_mask", 1, "03-attention#7 Masks", _causal, _causal_cases)


@causal_mask.mistake(
    "It looks ahead: row 0 sees everything and the last row only itself. Rows are queries, columns are keys.",
    source="https://github.com/karpathy/nanoGPT/issues/170 ('Shouldn't it be triu?')",
)
def looks_ahead(N):
    return _causal(N).T.contiguous()


@causal_mask.mistake(
    "A token can't see itself, and the first one sees nothing at all. The diagonal, j = i, is allowed.",
    source="https://github.com/TransformerLensOrg/TransformerLens/issues/284 (which diagonal belongs to the mask?)",
)
def without_itself(N):
    return torch.ones(N, N, dtype=torch.bool).tril(diagonal=-1)


@causal_mask.mistake(
    "True marks what is hidden. Here True means that a query may look.",
    source="https://github.com/rasbt/LLMs-from-scratch/issues/1061",
)
def true_hides_the_future(N):
    return ~_causal(N)


@causal_mask.mistake(
    "Each token sees one step into the future, the very word that a model would have to guess.",
    source="An off-by-one in `diagonal`; compare https://github.com/TransformerLensOrg/TransformerLens/issues/284",
)
def one_step_ahead(N):
    return torch.ones(N, N, dtype=torch.bool).tril(diagonal=1)


@causal_mask.mistake(
    "The pattern is right, but these are numbers. The task asks for booleans.",
    source="https://github.com/karpathy/nanoGPT/issues/170 (the `bias` of nanoGPT, ones below the diagonal)",
)
def ones_below_the_diagonal(N):
    return torch.ones(N, N).tril()


@causal_mask.mistake(
    "Two things: these are numbers, and they mark what is hidden. The task asks for booleans, True where a query may "
    "look.",
    source="torch.triu(torch.ones(N, N), diagonal=1) in https://fliphtml5.com/nzipv/ooiz/"
    "Build-a-Large-Language-Model-From-Scratch-2024/95",
)
def ones_above_the_diagonal(N):
    return torch.ones(N, N).triu(diagonal=1)


@causal_mask.mistake(
    "This is the form that is added to scores, 0 and minus infinity. Here the mask says yes or no.",
    source="torch.nn.Transformer.generate_square_subsequent_mask returns it so (its documentation).",
)
def minus_infinity_above(N):
    return torch.zeros(N, N).masked_fill(~_causal(N), -torch.inf)


@causal_mask.mistake(
    "The pattern is right, but these are ones and zeros, as whole numbers. The task asks for booleans.",
    source="The same with `.int()` or `.long()`; compare https://github.com/karpathy/nanoGPT/issues/170",
)
def whole_numbers_below_the_diagonal(N):
    return _causal(N).long()


@causal_mask.mistake(
    "The pattern is right, with two axes too many in front. The task asks for (N, N): it fits a batch with heads as it "
    "is, since missing axes are added in front.",
    source="`.view(1, 1, block_size, block_size)` in the `bias` of https://github.com/karpathy/nanoGPT",
)
def two_axes_in_front(N):
    return _causal(N)[None, None]


@causal_mask.mistake(
    "Two things: these are numbers, and the wrong half is kept. Rows are queries, and a query looks at itself and "
    "back.",
    source="https://github.com/karpathy/nanoGPT/issues/170 ('Shouldn't it be triu?')",
)
def ones_from_the_diagonal_on(N):
    return torch.ones(N, N).triu()


@causal_mask.mistake(
    "Everything is True, so nothing is hidden. One half of the matrix still has to go.",
    source="Hint 3's start, handed in as it is; expected, no published case found.",
)
def nothing_hidden(N):
    return torch.ones(N, N, dtype=torch.bool)


# ---- 2.4 attention with a mask


def _attention_cases(generator: Generator) -> Iterator[Case]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def case(note: str, *values: Tensor | None) -> Case:
        return Case(note, dict(zip(("query", "key", "value", "mask"), values, strict=True)))

    yield case("'the jaguar slept', no mask", *_three_tokens(), None)
    yield case("four tokens, causal mask", draw(4, 3), draw(4, 3), draw(4, 2), _causal(4))
    width, lengths = integer(4, 6, generator), torch.tensor([2, 5])
    heads = (draw(2, 3, 4, width), draw(2, 3, 5, width), draw(2, 3, 5, 7))
    yield case("3 heads, the first sentence padded", *heads, _padding(lengths, 5))
    mask = torch.rand(2, 3, 4, generator=generator) < 0.5
    mask[:, :, 1], mask[:, 0, 2] = True, False  # each sees one key, not all see all
    mask[1, 2] = False
    note = "a mask for each sentence; in the second one, query 2 may look nowhere"
    yield case(note, draw(2, 3, 5), draw(2, 4, 5), draw(2, 4, 6), mask)


scaled_dot_product = Exercise("scaled_dot_product", 4, "03-attention#7 Masks", functional.attention, _attention_cases)


def _masked(query: Tensor, key: Tensor, mask: Tensor | None, fill: float) -> Tensor:
    scores = _scores(query, key)
    return scores if mask is None else scores.masked_fill(~mask, fill)


@scaled_dot_product.mistake(
    "The mask works the wrong way round: what may be seen is hidden. True means that the query may look.",
    source="https://github.com/rasbt/LLMs-from-scratch/issues/1061",
)
def mask_inverted(query, key, value, mask=None):
    return _masked(query, key, None if mask is None else ~mask, -torch.inf).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "The mask works the wrong way round: queries see exactly the keys that they may not see. True means that the query "
    "may look.",
    source="https://github.com/NVIDIA/TransformerEngine/issues/614 (True: takes part, or masked out?)",
)
def mask_inverted_and_rows_of_zeros(query, key, value, mask=None):
    return functional.attention(query, key, value, None if mask is None else ~mask)


@scaled_dot_product.mistake(
    "The mask comes after the softmax: hidden keys still count in the sum, and the rows that are left no longer sum to "
    "1. Hide scores, then take the softmax.",
    source="https://ai.stackexchange.com/questions/41367/how-is-the-padding-mask-incorporated-in-the-attention-formula",
)
def mask_after_the_softmax(query, key, value, mask=None):
    weights = _scores(query, key).softmax(dim=-1)
    return (weights if mask is None else weights * mask) @ value


@scaled_dot_product.mistake(
    "Hidden scores become 0, and a score of 0 still gets weight: e to the 0 is 1. Which score gets the weight 0?",
    source="https://github.com/awslabs/gluonts/pull/1401 and https://github.com/Shujun-He/RibonanzaNet/issues/5",
)
def zero_before_the_softmax(query, key, value, mask=None):
    return _masked(query, key, mask, 0.0).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "Nearly there: a query that may look nowhere gives 0 divided by 0, which is nan. Its output is to be zeros.",
    source="https://github.com/pytorch/pytorch/issues/103963",
)
def nan_for_a_query_that_sees_nothing(query, key, value, mask=None):
    return _masked(query, key, mask, -torch.inf).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "Nearly there: a query that may look nowhere now looks everywhere alike, since all its scores are equally low. Its "
    "output is to be zeros.",
    source="https://github.com/lsdefine/attention-is-all-you-need-keras/issues/16",
)
def everywhere_instead_of_nowhere(query, key, value, mask=None):
    return _masked(query, key, mask, -1e9).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "The booleans are added to the scores: True counts as 1 and False as 0, and nothing is hidden.",
    source="https://github.com/mlverse/torch/pull/1208 (masks of numbers are added, masks of booleans are filled in)",
)
def booleans_added(query, key, value, mask=None):
    scores = _scores(query, key)
    return (scores if mask is None else scores + mask).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "The mask isn't used: hidden keys are seen.",
    source="https://github.com/Lightning-AI/lit-llama/issues/77 (no mask for the padding)",
)
def mask_ignored(query, key, value, mask=None):
    return functional.attention(query, key, value)


@scaled_dot_product.mistake(
    "These are the weights. One step is missing: fetch the values with them.",
    source="A function that returns `output, weights`, as the Annotated Transformer's `attention`, read the other way.",
)
def weights_instead_of_output(query, key, value, mask=None):
    return functional.attention_weights(query, key, mask)


@scaled_dot_product.mistake(
    "What you fetch are the keys. Keys decide how much is fetched; the values are what is fetched.",
    source="'Key times query is the value vector', said in print in course notes.",
)
def keys_fetched(query, key, value, mask=None):
    return functional.attention(query, key, key, mask)


@scaled_dot_product.mistake(
    "The scores aren't scaled. Divide them by the root of d_k before the softmax, mask or not.",
    source="https://github.com/PAIR-code/tiny-transformers/issues/71",
)
def scores_without_scale(query, key, value, mask=None):
    return functional.attention(query, key, value, mask, scale=1.0)


@scaled_dot_product.mistake(
    "The scores aren't scaled: divide them by the root of d_k before the softmax. After that, a query that may look "
    "nowhere will need your care too.",
    source="https://github.com/PAIR-code/tiny-transformers/issues/71",
)
def scores_without_scale_and_nan(query, key, value, mask=None):
    return _masked(query * math.sqrt(query.shape[-1]), key, mask, -torch.inf).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "You divide by the root of the values' width. Scores are sums over the d_k features of query and key; values have "
    "no part in them.",
    source="https://github.com/juho-lee/set_transformer/issues/18 (1 / sqrt(dim_V))",
)
def scale_of_the_values(query, key, value, mask=None):
    return functional.attention(query, key, value, mask, scale=value.shape[-1] ** -0.5)


@scaled_dot_product.mistake(
    "The softmax runs over the queries, so a query's weights don't sum to 1. Each query shares out its attention over "
    "the keys, the last axis.",
    source="https://github.com/nerminnuraydogan/vision-transformer/issues/1",
)
def softmax_over_queries_with_mask(query, key, value, mask=None):
    return _masked(query, key, mask, -torch.inf).softmax(dim=-2) @ value


@scaled_dot_product.mistake(
    "A tensor of many booleans is neither true nor false, so Python can't branch on it. Ask whether the mask is given "
    "at all.",
    source="`if mask:`, Python's habit for optional arguments; torch refuses it with 'Boolean value of Tensor ...'.",
)
def branch_on_the_mask(query, key, value, mask=None):
    if mask:
        return functional.attention(query, key, value, mask)
    return functional.attention(query, key, value)


@scaled_dot_product.mistake(
    "Here the mask is None, and there is nothing to turn round with `~`. Ask first whether a mask is given at all.",
    source="An optional mask used without asking, as in https://github.com/marin-community/marin/pull/6316",
)
def mask_used_without_asking(query, key, value, mask=None):
    return _scores(query, key).masked_fill(~mask, -torch.inf).softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "You counted the axis of the softmax from the front: axis 1 holds the keys only as long as there is no batch. "
    "Count it from the back.",
    source="https://github.com/CAMMA-public/rendezvous-in-time/issues/3 ('Why dim=1? This dimension is heads.')",
)
def softmax_over_axis_one_with_mask(query, key, value, mask=None):
    return _masked(query, key, mask, -torch.inf).softmax(dim=1) @ value


@scaled_dot_product.mistake(
    "Axis 1 of the scores holds the keys only as long as there is no batch, and your softmax runs over it. With a "
    "batch and heads, the keys are still the last axis.",
    source="https://github.com/CAMMA-public/rendezvous-in-time/issues/3 ('Why dim=1? This dimension is heads.')",
)
def softmax_over_axis_one_and_rows_of_zeros(query, key, value, mask=None):
    weights = _masked(query, key, mask, -torch.inf).softmax(dim=1)
    return (weights if mask is None else weights.masked_fill(~mask, 0.0)) @ value


@scaled_dot_product.mistake(
    "Your softmax runs over the queries. It is a query that shares out its attention: its weights over the keys, the "
    "last axis, sum to 1.",
    source="https://github.com/nerminnuraydogan/vision-transformer/issues/1",
)
def softmax_over_queries_and_rows_of_zeros(query, key, value, mask=None):
    weights = _masked(query, key, mask, -torch.inf).softmax(dim=-2)
    return (weights if mask is None else weights.masked_fill(~mask, 0.0)) @ value


@scaled_dot_product.mistake(
    "Minus infinity comes after the softmax, into the weights, and the sum over values is then infinite or nan. It "
    "belongs into the scores, before the softmax.",
    source="https://github.com/lucidrains/memory-compressed-attention/issues/2 (the order of mask and softmax)",
)
def minus_infinity_into_the_weights(query, key, value, mask=None):
    weights = _scores(query, key).softmax(dim=-1)
    return (weights if mask is None else weights.masked_fill(~mask, -torch.inf)) @ value


@scaled_dot_product.mistake(
    "You multiply by minus infinity, and 0 times infinity is nan: the keys that may be seen are lost. Write the number "
    "in where it belongs, without a product.",
    source="https://github.com/cerebroai/reformers/issues/3 and https://github.com/callummcdougall/ARENA_3.0/pull/54",
)
def zero_times_infinity(query, key, value, mask=None):
    scores = _scores(query, key)
    if mask is not None:
        scores = scores + (1 - mask.float()) * -torch.inf
    return scores.softmax(dim=-1) @ value


@scaled_dot_product.mistake(
    "An index has to have the shape of the scores: axes of size 1 don't stretch there. `masked_fill` and `torch.where` "
    "stretch them.",
    source="torch's 'The shape of the mask ... does not match the shape of the indexed tensor', as in "
    "https://github.com/lishaoxu1994/DiffStyler/issues/2",
)
def mask_as_an_index(query, key, value, mask=None):
    scores = _scores(query, key)
    if mask is not None:
        scores[~mask] = -torch.inf
    return scores.softmax(dim=-1) @ value


# ---- 2.5 split


def _split_cases(generator: Generator) -> Iterator[Case]:
    first = integer(1, 7, generator)
    tokens = 10.0 * torch.arange(first, first + 3)[:, None] + torch.arange(4)  # tens: token, ones: feature
    yield Case(
        "N = 3, D = 4, h = 2; tens say which token, ones which feature", {"tokens": tokens[None], "num_heads": 2}
    )
    length, head_size = integer(4, 6, generator), 7
    tokens = torch.randn(2, length, 3 * head_size, generator=generator)
    yield Case(f"tokens {tuple(tokens.shape)}, h = 3", {"tokens": tokens, "num_heads": 3})


def _split(tokens: Tensor, num_heads: int) -> Tensor:
    return rearrange(tokens, "b n (h d) -> b h n d", h=num_heads)


split_heads = Exercise("split_heads", 2, "04-multi-head-attention#7 The split that looks right", _split, _split_cases)


@split_heads.mistake(
    "Right shape, wrong numbers: reshape reads row after row, so your first head holds all of the first tokens and "
    "nothing of the last. Cut each token's features first, then move the axis.",
    source="https://github.com/reczoo/FuxiCTR/issues/30 and https://github.com/hyunwoongko/transformer/issues/15",
)
def reshaped_in_one_go(tokens, num_heads):
    B, N, D = tokens.shape
    return tokens.reshape(B, num_heads, N, D // num_heads)


@split_heads.mistake(
    "Features are dealt out in turn: head 0 gets every h-th one. A head is a slice of neighbours, so h is the outer "
    "axis of the two.",
    source="The einops pattern 'b n (d h) -> b h n d', in several public attention layers; vit-pytorch has (h d).",
)
def features_dealt_out(tokens, num_heads):
    return rearrange(tokens, "b n (d h) -> b h n d", h=num_heads)


@split_heads.mistake(
    "The cut is right, the axes aren't: this is (B, N, h, d_k). Heads must stand beside the batch, or tokens can't "
    "meet in a product.",
    source="https://github.com/harvardnlp/annotated-transformer/issues/17 (view(nbatches, -1, h, d_k), and what next?)",
)
def heads_after_tokens(tokens, num_heads):
    return _split(tokens, num_heads).transpose(1, 2)


@split_heads.mistake(
    "The heads come before the batch. Here the batch stays first: (B, h, N, d_k).",
    source="https://github.com/lsdefine/attention-is-all-you-need-keras/issues/36",
)
def heads_before_the_batch(tokens, num_heads):
    return _split(tokens, num_heads).transpose(0, 1)


@split_heads.mistake(
    "Every head has the full width D. Heads share the width out: each has d_k = D / h.",
    source="https://github.com/pbloem/former/issues/8 and https://github.com/phlippe/uvadlc_notebooks/issues/64",
)
def full_width_for_every_head(tokens, num_heads):
    return tokens[:, None].expand(-1, num_heads, -1, -1)


@split_heads.mistake(
    "The number of heads became their width: there are D / h heads of width h.",
    source="chunk(h) and split(h) confused: torch.chunk takes how many, torch.split takes how wide (documentation).",
)
def h_taken_for_the_width(tokens, num_heads):
    return rearrange(tokens, "b n (h d) -> b h n d", d=num_heads)


@split_heads.mistake(
    "Sizes are whole numbers, and `/` makes a float even where nothing is left over. Divide by `//`.",
    source="https://github.com/farizrahman4u/seq2seq/issues/72 (`hidden_dim / 2` as a size)",
)
def float_as_a_size(tokens, num_heads):
    B, N, D = tokens.shape
    return tokens.reshape(B, N, num_heads, D / num_heads).transpose(1, 2)


@split_heads.mistake(
    "`/` makes a float, even where nothing is left over, and `view` takes whole numbers only. Divide by `//`.",
    source="https://github.com/farizrahman4u/seq2seq/issues/72 (`hidden_dim / 2` as a size)",
)
def float_as_a_size_of_a_view(tokens, num_heads):
    B, N, D = tokens.shape
    return tokens.view(B, N, num_heads, D / num_heads).transpose(1, 2)


@split_heads.mistake(
    "The heads are right, but each is turned round: (d_k, N). The features stay the last axis, (B, h, N, d_k).",
    source="The order that keys need for their product, 'b n (h d) -> b h d n', used for all; expected, no published "
    "case found.",
)
def features_before_tokens(tokens, num_heads):
    return _split(tokens, num_heads).transpose(-2, -1)


# ---- 2.6 many heads


def _multi_head_cases(generator: Generator) -> Iterator[Case]:
    for batch, length, num_heads in ((2, 5, 3), (3, 4, 2)):
        width = num_heads * integer(6, 8, generator)
        tokens = torch.randn(batch, length, width, generator=generator)
        qkv_weight = 1.5 * width**-0.5 * torch.randn(3 * width, width, generator=generator)
        out_weight = width**-0.5 * torch.randn(width, width, generator=generator)
        biases = [torch.randn(size, generator=generator) for size in (3 * width, width)]
        names = ("tokens", "qkv_weight", "qkv_bias", "out_weight", "out_bias", "num_heads")
        values = (tokens, qkv_weight, biases[0], out_weight, biases[1], num_heads)
        yield Case(f"tokens {tuple(tokens.shape)}, h = {num_heads}", dict(zip(names, values, strict=True)))


def _multi(
    tokens,
    qkv_weight,
    qkv_bias,
    out_weight,
    out_bias,
    num_heads,
    parts="b n (three h d) -> three b h n d",
    join="b h n d -> b n (h d)",
    scale=None,
):
    query, key, value = rearrange(F.linear(tokens, qkv_weight, qkv_bias), parts, three=3, h=num_heads)
    heads = functional.attention(query, key, value, scale=scale)
    return F.linear(rearrange(heads, join), out_weight, out_bias)


multi_head = Exercise("multi_head", 4, "04-multi-head-attention#6 Build it three times", _multi, _multi_head_cases)


@multi_head.mistake(
    "Your heads are joined and handed out as they are. The output map W_O is missing, and without it no feature hears "
    "from two heads.",
    source="https://github.com/Kyubyong/transformer/issues/117",
)
def without_output_map(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, qkv_bias, torch.eye(tokens.shape[-1]), None, num_heads)


@multi_head.mistake(
    "The last bias, `out_bias`, isn't added.",
    source="https://github.com/Kyubyong/transformer/issues/117 (use_bias=False for W_O, as the 2017 paper prints it)",
)
def without_output_bias(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, None, num_heads)


@multi_head.mistake(
    "The bias of queries, keys and values, `qkv_bias`, isn't added.",
    source="https://github.com/lucidrains/vit-pytorch/issues/201 (to_qkv with bias=False, unlike the original ViT)",
)
def without_qkv_bias(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, None, out_weight, out_bias, num_heads)


@multi_head.mistake(
    "`out_weight` is stored as `nn.Linear` stores it, (out, in). It is square, so the missing transpose raises no "
    "error.",
    source="https://github.com/pytorch/pytorch/issues/139598",
)
def output_weight_not_transposed(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, qkv_bias, out_weight.T, out_bias, num_heads)


@multi_head.mistake(
    "The scores are divided by the root of D. Each head has only d_k = D / h features to sum over: the scale is the "
    "root of d_k.",
    source="https://github.com/lucidrains/vit-pytorch/issues/65 and https://github.com/karpathy/ng-video-lecture/pull/6",
)
def scale_of_the_full_width(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    scale = tokens.shape[-1] ** -0.5
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads, scale=scale)


@multi_head.mistake(
    "It computes a single head of width D, whatever `num_heads` says.",
    source="https://github.com/pytorch/pytorch/issues/60853 (same parameters, so h seems to do nothing)",
)
def one_head(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, out_bias, 1)


@multi_head.mistake(
    "The heads are joined by a reshape alone, which mixes tokens: their axis has to come back beside d_k first.",
    source="https://github.com/jsbaan/transformer-from-scratch/pull/6",
)
def joined_by_reshape_alone(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    query, key, value = (_split(part, num_heads) for part in F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1))
    heads = functional.attention(query, key, value)
    return F.linear(heads.reshape(tokens.shape), out_weight, out_bias)


@multi_head.mistake(
    "`view` never copies. After a transpose, or on one third of a chunk, the numbers don't lie in memory as the new "
    "shape needs them; its sister function copies where it must.",
    source="transpose(1, 2).view(...) without the contiguous() that the Annotated Transformer has between the two.",
)
def view_after_transpose(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    query, key, value = (_split(part, num_heads) for part in F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1))
    heads = functional.attention(query, key, value).transpose(1, 2)
    return F.linear(heads.view(tokens.shape), out_weight, out_bias)


@multi_head.mistake(
    "Tokens never meet: with (B, N, h, d_k), the last two axes are heads and features, and in each token its heads "
    "attend to each other. Move the heads beside the batch first.",
    source="https://github.com/harvardnlp/annotated-transformer/issues/17 (what the transpose after the view is for)",
)
def heads_attend_to_heads(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    parts = F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1)
    heads = functional.attention(*[rearrange(part, "b n (h d) -> b n h d", h=num_heads) for part in parts])
    return F.linear(heads.flatten(-2), out_weight, out_bias)


@multi_head.mistake(
    "`qkv_weight` is stored as `nn.Linear` stores it, (out, in): it has to be transposed for a product from the right.",
    source="https://github.com/skyzh/tiny-llm/issues/41 (which way round are w_qkv and w_o?)",
)
def qkv_weight_not_transposed(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return tokens @ qkv_weight + qkv_bias


@multi_head.mistake(
    "The softmax runs over the queries. Each query shares out its attention over the keys, the last axis of the "
    "scores.",
    source="https://github.com/nerminnuraydogan/vision-transformer/issues/1",
)
def softmax_over_queries_in_each_head(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    query, key, value = (_split(part, num_heads) for part in F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1))
    heads = _scores(query, key).softmax(dim=-2) @ value
    return F.linear(rearrange(heads, "b h n d -> b n (h d)"), out_weight, out_bias)


@multi_head.mistake(
    "The scores aren't scaled. In each head, divide them by the root of d_k.",
    source="https://github.com/PAIR-code/tiny-transformers/issues/71",
)
def heads_without_scale(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads, scale=1.0)


@multi_head.mistake(
    "The heads are cut by a reshape alone: a head then holds some tokens whole and none of the others. Use what you "
    "wrote in 2.5.",
    source="https://github.com/649453932/Chinese-Text-Classification-Pytorch/issues/53",
)
def cut_by_reshape_alone(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    parts = F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1)
    heads = functional.attention(*[reshaped_in_one_go(part, num_heads) for part in parts])
    return F.linear(rearrange(heads, "b h n d -> b n (h d)"), out_weight, out_bias)


@multi_head.mistake(
    "Cut and joined by reshapes alone. The two don't cancel: in between, tokens have attended to pieces of themselves.",
    source="https://github.com/649453932/Chinese-Text-Classification-Pytorch/issues/10",
)
def cut_and_joined_by_reshape(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    parts = F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1)
    heads = functional.attention(*[reshaped_in_one_go(part, num_heads) for part in parts])
    return F.linear(heads.reshape(tokens.shape), out_weight, out_bias)


@multi_head.mistake(
    "Batch and tokens are swapped: a token attends to the same place in the other sentences, and never to its own "
    "sentence.",
    source="https://github.com/om-ai-lab/OmDet/issues/19 and https://github.com/aipixel/AEMatter/issues/3",
)
def batch_and_tokens_swapped(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    arguments = (qkv_weight, qkv_bias, out_weight, out_bias, num_heads)
    return _multi(tokens.transpose(0, 1), *arguments).transpose(0, 1)


@multi_head.mistake(
    "You read the rows of `qkv_weight` as key, query, value. They are in the order query, key, value.",
    source="The Head of https://github.com/karpathy/ng-video-lecture makes the key first, then the query.",
)
def key_before_query(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    key, query, value = (_split(part, num_heads) for part in F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1))
    heads = functional.attention(query, key, value)
    return F.linear(rearrange(heads, "b h n d -> b n (h d)"), out_weight, out_bias)


@multi_head.mistake(
    "You read `qkv_weight` head by head, each with its query, key and value. Here all queries come first, then all "
    "keys, then all values.",
    source="https://github.com/vllm-project/vllm/pull/53114 (how Bloom, Falcon and GPT-NeoX store it)",
)
def qkv_within_each_head(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    parts = "b n (h three d) -> three b h n d"
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads, parts=parts)


@multi_head.mistake(
    "Features are dealt out to the heads in turn, (d h). A head is a slice of neighbours, (h d).",
    source="The einops pattern 'b n (d h) -> b h n d', in several public attention layers; vit-pytorch has (h d).",
)
def features_dealt_out_to_heads(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    arguments = (tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads)
    return _multi(*arguments, parts="b n (three d h) -> three b h n d")


@multi_head.mistake(
    "Features are dealt out to the heads in turn, (d h), and joined so. A head is a slice of neighbours, (h d).",
    source="'b n (d h) -> b h n d' and its inverse as a pair: it looks consistent, and copied weights then don't fit.",
)
def features_dealt_out_and_back(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    arguments = (tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads)
    return _multi(*arguments, parts="b n (three d h) -> three b h n d", join="b h n d -> b n (d h)")


@multi_head.mistake(
    "Neither bias is added. There are two: `qkv_bias` after the first map, `out_bias` after the last.",
    source="Vaswani et al., 2017, section 3.2.2, print the maps without biases; those of a ViT have them.",
)
def without_both_biases(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    return _multi(tokens, qkv_weight, None, out_weight, None, num_heads)


@multi_head.mistake(
    "You read the rows of `qkv_weight` as query, value, key. They are in the order query, key, value.",
    source="https://github.com/jsbaan/transformer-from-scratch/issues/1 (returned q, k, v, assigned q, v, k)",
)
def value_before_key(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    query, value, key = (_split(part, num_heads) for part in F.linear(tokens, qkv_weight, qkv_bias).chunk(3, dim=-1))
    heads = functional.attention(query, key, value)
    return F.linear(rearrange(heads, "b h n d -> b n (h d)"), out_weight, out_bias)


@multi_head.mistake(
    "Your heads divide the scores by d_k itself. The scale is its square root, as in 2.1.",
    source="https://github.com/delzac/cntkx/issues/10 (the root is missing)",
)
def heads_divided_by_d_k(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    scale = num_heads / tokens.shape[-1]
    return _multi(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads, scale=scale)


@multi_head.mistake(
    "The heads are cut as slices of neighbours, but joined in turn, (d h): first feature 0 of every head, then feature "
    "1. Join them as you cut them, (h d).",
    source="The einops pattern 'b h n d -> b n (d h)'; expected, no published case found with (h d) at the cut.",
)
def joined_in_turn(tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads):
    arguments = (tokens, qkv_weight, qkv_bias, out_weight, out_bias, num_heads)
    return _multi(*arguments, join="b h n d -> b n (d h)")


# ---- 2.7 permutations


class Attention(nn.Module):
    """Self-attention of one head, with fixed maps `(3, D, D)`; `positions` are added, `mask` is applied."""

    def __init__(self, maps: Tensor, positions: Tensor | None = None, mask: Tensor | None = None):
        super().__init__()
        self.register_buffer("maps", maps)
        self.register_buffer("positions", positions)
        self.register_buffer("mask", mask)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.positions is not None:
            tokens = tokens + self.positions
        query, key, value = tokens @ self.maps[:, None]
        return functional.attention(query, key, value, self.mask)


class AttentionWithPositions(Attention):
    """The same, for the name on the card."""


class CausalAttention(Attention):
    """The same, for the name on the card."""


def _equivariance_cases(generator: Generator) -> Iterator[Case]:
    length, width = integer(4, 6, generator), 7
    permutation = torch.arange(length)
    while torch.equal(permutation[permutation], torch.arange(length)):  # one that isn't its own inverse
        permutation = torch.randperm(length, generator=generator)
    maps = 1.5 * width**-0.5 * torch.randn(3, width, width, generator=generator)
    positions = functional.sinusoidal_encoding(length, width + 1)[:, :width]
    tried = {
        "attention": Attention(maps),
        "attention with positions": AttentionWithPositions(maps, positions),
        "causal attention": CausalAttention(maps, mask=_causal(length)),
    }
    for index, (note, layer) in enumerate(tried.items()):
        while True:
            tokens = torch.randn(2, length, width, generator=generator)
            if index == 0 or _tells_apart(_gap(layer, tokens, permutation), sentence=index % 2, sign=(-1) ** index):
                break
        arguments = {"layer": layer, "tokens": tokens, "permutation": permutation}
        yield Case(f"{note}, tokens {tuple(tokens.shape)}", arguments)


def _tells_apart(gap: Tensor, sentence: int, sign: int) -> bool:
    """Whether the largest gap has this sign and is in this sentence, well above those of the other sign or sentence."""
    largest, elsewhere, opposite = gap.abs().max(), gap[1 - sentence].abs().max(), (-sign * gap).max()
    return bool(largest > 1.1 * max(elsewhere, opposite) and (elsewhere - opposite).abs() > 0.05 * largest)


def _gap(layer, tokens: Tensor, permutation: Tensor) -> Tensor:
    return layer(tokens[:, permutation]) - layer(tokens)[:, permutation]


equivariance_error = Exercise(
    "equivariance_error",
    3,
    "02-positions#1 A set, not a sentence",
    lambda layer, tokens, permutation: round(_gap(layer, tokens, permutation).abs().max().item(), 5),
    _equivariance_cases,
)


@equivariance_error.mistake(
    "You test whether the output stays as it was. That is invariance; attention is equivariant: its output is permuted "
    "like its input. Permute both before you compare.",
    source="https://theneuralbase.com/attention-mechanisms/learn/intermediate/why-attention-is-permutation-invariant/",
)
def invariance(layer, tokens, permutation):
    return (layer(tokens[:, permutation]) - layer(tokens)).abs().max().item()


@equivariance_error.mistake(
    "One side is permuted the wrong way. Applying a permutation twice doesn't undo it, unless it only swaps pairs: "
    "either permute both sides alike, or undo it with its inverse.",
    source="https://github.com/facebookresearch/mae/issues/124 (how can argsort un-shuffle?)",
)
def permuted_twice(layer, tokens, permutation):
    return (layer(tokens[:, permutation])[:, permutation] - layer(tokens)).abs().max().item()


@equivariance_error.mistake(
    "The layer never sees permuted tokens: you permute its output alone. Call it a second time, on the permuted "
    "tokens.",
    source="A test that permutes one side only; compare with the definition f(P X) = P f(X), "
    "https://mwolf.dev/general/permutation-equivariance",
)
def input_never_permuted(layer, tokens, permutation):
    return (layer(tokens) - layer(tokens)[:, permutation]).abs().max().item()


@equivariance_error.mistake(
    "You permute the first axis, the batch. Tokens are axis 1 of (B, N, D).",
    source="`x[perm]`, right for one sentence (N, D) as in notebook 04, carried over to a batch.",
)
def batch_permuted(layer, tokens, permutation):
    return (layer(tokens[permutation]) - layer(tokens)[permutation]).abs().max().item()


@equivariance_error.mistake(
    "This is the mean difference. One wrong token among many hardly moves a mean; the task asks for the largest.",
    source="https://github.com/meta-pytorch/BackendBench/pull/132 (`abs().mean()`, changed to `abs().max()`)",
)
def mean_difference(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).abs().mean().item()


@equivariance_error.mistake(
    "This is the length of all differences together, which grows with the number of tokens. The task asks for the "
    "largest one.",
    source="`(a - b).norm()` or torch.dist, where the maximum is meant.",
)
def length_of_all_differences(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).norm().item()


@equivariance_error.mistake(
    "A large negative difference counts as small here. Take absolute values before the maximum.",
    source="https://github.com/horovod/horovod/issues/2055 (`(a - b).max()` in tests)",
)
def negative_ones_forgotten(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).max().item()


@equivariance_error.mistake(
    "Differences below 0 are lost, however large they are. Take absolute values before the maximum.",
    source="https://github.com/horovod/horovod/issues/2055, the other way round: `(b - a).max()`.",
)
def negative_ones_forgotten_the_other_way(layer, tokens, permutation):
    return (-_gap(layer, tokens, permutation)).max().item()


@equivariance_error.mistake(
    "This says yes or no. The task asks how far apart the two are: a number tells rounding from a bug.",
    source="torch.allclose as the last line of a test.",
)
def yes_or_no(layer, tokens, permutation):
    gap = _gap(layer, tokens, permutation)
    return torch.allclose(gap, torch.zeros_like(gap), atol=1e-5)


@equivariance_error.mistake(
    "You compare the first sentence of the batch alone. The largest difference may lie in another one.",
    source="`[0]` to get rid of the batch axis; expected, no published case found.",
)
def first_sentence_only(layer, tokens, permutation):
    return _gap(layer, tokens, permutation)[0].abs().max().item()


@equivariance_error.mistake(
    "This is one number for each sentence. The task asks for a single one, the largest of all.",
    source="`.amax(dim=(1, 2))`; expected, no published case found.",
)
def one_number_for_each_sentence(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).abs().amax(dim=(1, 2))


@equivariance_error.mistake(
    "This is the sum of all differences. Many small ones make a large sum; the task asks for the largest one.",
    source="`(a - b).abs().sum()`, where the maximum is meant; expected, no published case found.",
)
def sum_of_differences(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).abs().sum().item()


@equivariance_error.mistake(
    "This is the largest squared difference. A square makes small ones look smaller still; the task asks for the "
    "absolute value.",
    source="`((a - b) ** 2).max()`; expected, no published case found.",
)
def largest_square(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).square().max().item()


@equivariance_error.mistake(
    "This is the mean of the squared differences, a loss. The task asks for the largest absolute difference.",
    source="F.mse_loss, at hand from training, where a maximum is meant; expected, no published case found.",
)
def mean_square(layer, tokens, permutation):
    return _gap(layer, tokens, permutation).square().mean().item()


@equivariance_error.mistake(
    "The output goes through the permutation, the input through its inverse. Both have to go through the same one "
    "before you compare them.",
    source="https://github.com/facebookresearch/mae/issues/124 (which of the two does argsort give?)",
)
def input_through_the_inverse(layer, tokens, permutation):
    return (layer(tokens[:, permutation.argsort()]) - layer(tokens)[:, permutation]).abs().max().item()


# ---- 2.8 multiply-adds


# Sizes for which no mistake below gives the same number as another sum of one or two terms, a N^i D^j with i and j up
# to 2, or a cube, and a = 1 to 9, 12, 16 or 24: found by trying all of them.
COUNTED = (
    ((29, 72), (39, 64), (37, 92), (39, 96), (43, 96), (53, 96), (45, 104)),
    ((167, 384), (181, 320), (193, 320), (197, 384), (211, 448), (229, 448)),
)


def _count_cases(generator: Generator) -> Iterator[Case]:
    for pairs in COUNTED:
        N, D = pairs[integer(0, len(pairs) - 1, generator)]
        yield Case(f"N = {N}, D = {D}", {"N": N, "D": D})


count_multiply_adds = Exercise(
    "count_multiply_adds",
    2,
    "03-attention#9 What it costs",
    lambda N, D: 4 * N * D**2 + 2 * N**2 * D,
    _count_cases,
)


@count_multiply_adds.mistake(
    "Exactly twice too many: you count the product and the addition as two. A multiply-add is one.",
    source="https://github.com/microsoft/Swin-Transformer/issues/340 and "
    "https://github.com/facebookresearch/fvcore/issues/69",
)
def two_for_each(N, D):
    return 2 * (4 * N * D**2 + 2 * N**2 * D)


@count_multiply_adds.mistake(
    "You count three maps. Queries, keys and values have one each, and the output has the fourth, W_O.",
    source="https://github.com/huggingface/transformers/issues/8814 (where is the last linear layer?)",
)
def three_maps(N, D):
    return 3 * N * D**2 + 2 * N**2 * D


@count_multiply_adds.mistake(
    "One product is missing: weights times values costs as much as queries times keys.",
    source="'the computation of Q K^T takes N^2 dot products', and there the count ends, in many notes on complexity.",
)
def one_product_between_tokens(N, D):
    return 4 * N * D**2 + N**2 * D


@count_multiply_adds.mistake(
    "Your count ends at the scores. Weights times values and the output map W_O come after them.",
    source="Three maps and Q K^T, where the count ends in many notes on the complexity of attention.",
)
def up_to_the_scores(N, D):
    return 3 * N * D**2 + N**2 * D


@count_multiply_adds.mistake(
    "The squares are on the wrong sizes: a map costs D x D for each token, a score costs D for each pair of tokens.",
    source="Swin's formula (Liu et al., 2021, section 3.2) with hw and C exchanged.",
)
def squares_exchanged(N, D):
    return 4 * N**2 * D + 2 * N * D**2


@count_multiply_adds.mistake(
    "You count only what happens between tokens. The four maps are work too, and for N < 2D they are most of it.",
    source="https://www.bytebell.ai/blog/quadratic-complexity-attention-problem (the n x n part as the whole cost)",
)
def only_between_tokens(N, D):
    return 2 * N**2 * D


@count_multiply_adds.mistake(
    "You count only the four maps. The two products between tokens have no parameters, but they are work.",
    source="https://github.com/sovrasov/flops-counter.pytorch/issues/142 (a counter that sees modules alone)",
)
def only_the_maps(N, D):
    return 4 * N * D**2


@count_multiply_adds.mistake(
    "These are the parameters of the maps. Every token is multiplied by them, and the products between tokens have no "
    "parameters at all.",
    source="'Attention is costly because of its parameters', said in print in course notes.",
)
def parameters(N, D):
    return 4 * D**2


@count_multiply_adds.mistake(
    "You count a whole block, with the MLP's two maps. The task asks for attention alone.",
    source="The block's cost, 12 N D^2 + 2 N^2 D (notebook 03, section 9), used for attention.",
)
def whole_block(N, D):
    return 12 * N * D**2 + 2 * N**2 * D


@count_multiply_adds.mistake(
    "The four maps are counted for one token only. Each of the N tokens goes through them.",
    source="https://github.com/alibaba/InferSim/issues/6 (the length is missing in the cost of the maps)",
)
def maps_of_one_token(N, D):
    return 4 * D**2 + 2 * N**2 * D


@count_multiply_adds.mistake(
    "This is the work of a single token: its four maps, and what it does with N keys and N values. There are N tokens.",
    source="Counts of operations 'per token', taken for those of a whole sentence; expected, no published case found.",
)
def work_of_one_token(N, D):
    return 4 * D**2 + 2 * N * D


@count_multiply_adds.mistake(
    "You count one map from D to D. There are four of them: to queries, keys and values, and one for the output.",
    source="'n d^2 for the linear maps', the factor left to the big O, in many notes on complexity.",
)
def one_map_of_four(N, D):
    return N * D**2 + 2 * N**2 * D


@count_multiply_adds.mistake(
    "The products between tokens are too cheap: each pair of tokens counts as one. A score sums D products, and each "
    "weight multiplies D numbers of a value.",
    source="'Q K^T takes N^2 operations', with the width left out, in many texts for beginners.",
)
def one_for_each_pair(N, D):
    return 4 * N * D**2 + 2 * N**2


@count_multiply_adds.mistake(
    "A map costs only D for each token in your count. Each of its D outputs is a sum of D products.",
    source="A map taken for a product number by number; expected, no published case found.",
)
def maps_with_one_width(N, D):
    return 4 * N * D + 2 * N**2 * D


@count_multiply_adds.mistake(
    "You count the two products between tokens like maps, D x D for each token. A score is a dot product of length D, "
    "and there are N x N of them.",
    source="https://github.com/apple/ml-cvnets/issues/17 (seq_len * in_channels * in_channels for Q K^T)",
)
def products_between_tokens_as_maps(N, D):
    return 6 * N * D**2


# ---- 2.9 where the quadratic term takes over


def _crossover_cases(generator: Generator) -> Iterator[Case]:
    for ratio in (7, 3):  # for 4, several slips give the same number
        width = 16 * integer(2, 24, generator)
        yield Case(f"D = {width}, MLP ratio {ratio}", {"D": width, "mlp_ratio": ratio})


crossover = Exercise(
    "crossover", 2, "03-attention#9 What it costs", lambda D, mlp_ratio: (2 + mlp_ratio) * D, _crossover_cases
)


@crossover.mistake(
    "That is attention alone. A block also has the MLP, whose two maps grow with N and not with its square.",
    source="2D is notebook 03's first answer; a block's is different (section 9).",
)
def attention_alone(D, mlp_ratio):
    return 2 * D


@crossover.mistake(
    "6D holds for an MLP ratio of 4 alone. Keep the ratio in your formula.",
    source="N = 6D, as notebook 03 (section 9) has it for a ratio of 4.",
)
def ratio_of_four(D, mlp_ratio):
    return 6 * D


@crossover.mistake(
    "'Quadratic once N is larger than D' is a rule of thumb. Count what each term costs, factors included.",
    source="Vaswani et al., 2017, section 4: self-attention is faster than recurrence when n is smaller than d.",
)
def rule_of_thumb(D, mlp_ratio):
    return D


@crossover.mistake(
    "The MLP has two maps, to the inner width and back; you count one of them.",
    source="https://github.com/microsoft/Swin-Transformer/issues/165 (what is the 2 in the MLP's count?)",
)
def one_map_in_the_mlp(D, mlp_ratio):
    return (4 + mlp_ratio) * D / 2


@crossover.mistake(
    "Twice too far: two products between tokens grow with the square of N, queries times keys and weights times "
    "values.",
    source="'Q K^T takes N^2 dot products', and there the count ends, in many notes on complexity.",
)
def one_product_grows(D, mlp_ratio):
    return (4 + 2 * mlp_ratio) * D


@crossover.mistake(
    "You weigh the products between tokens against the MLP alone. The four maps of attention grow with N too.",
    source="A block taken as 'attention, quadratic; MLP, linear', as in many introductions.",
)
def mlp_alone(D, mlp_ratio):
    return mlp_ratio * D


@crossover.mistake(
    "Three maps are counted beside the MLP. W_O is the fourth.",
    source="https://github.com/Kyubyong/transformer/issues/117 (the output map left out)",
)
def three_maps_in_attention(D, mlp_ratio):
    return (3 + 2 * mlp_ratio) * D / 2


@crossover.mistake(
    "Only one of the two linear terms was divided by 2, the four maps'; the MLP's has a 2 in front of r as well.",
    source="A slip in dividing 4 N D^2 + 2 r N D^2 by 2 N D; expected, no published case found.",
)
def ratio_not_halved(D, mlp_ratio):
    return (2 + 2 * mlp_ratio) * D


@crossover.mistake(
    "The MLP's term was divided by 2, the term of the four maps wasn't. Divide all of them by the same.",
    source="A slip in dividing 4 N D^2 + 2 r N D^2 by 2 N D; expected, no published case found.",
)
def four_maps_not_halved(D, mlp_ratio):
    return (4 + mlp_ratio) * D


@crossover.mistake(
    "Two things: the MLP isn't there at all, and only one of the two products between tokens is counted.",
    source="4 N D^2 set equal to N^2 D; expected, no published case found.",
)
def four_maps_and_one_product(D, mlp_ratio):
    return 4 * D
