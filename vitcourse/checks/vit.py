"""Sheet 4, build the ViT.

Longer than 150 lines because eight tasks and the beliefs that lead astray in them stand on one page.

A learner's part is tried inside parts of ours: what a task names (`norm1`, `attention`, ...) is replaced by a module
with known weights, or filled with them, so that numbers can be compared whatever stands inside it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from vitcourse import layers
from vitcourse.checks.exercise import Case, Exercise, integer
from vitcourse.checks.trained import TrainedModel, one_by_one
from vitcourse.data import ImageSet, load
from vitcourse.model import VisionTransformer


def _sizes(generator: Generator) -> Iterator[tuple[int, int, int, int, int]]:
    """B, N, D, h, M, all different; one batch of a single image."""
    yield 2, 3, 8, 4, integer(10, 13, generator)
    yield 1, integer(4, 5, generator), 6, 2, integer(14, 17, generator)


def _parameters(*parts: object) -> list[nn.Parameter]:
    """The learned tensors of modules and parameters, each once."""
    found: dict[int, nn.Parameter] = {}
    for part in parts:
        listed = [part] if isinstance(part, nn.Parameter) else part.parameters() if isinstance(part, nn.Module) else []
        found |= {id(parameter): parameter for parameter in listed}
    return list(found.values())


def _numbers(*parts: object) -> int:
    return sum(parameter.numel() for parameter in _parameters(*parts))


@torch.no_grad()
def _random(module: nn.Module, generator: Generator) -> nn.Module:
    for parameter in module.parameters():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@torch.no_grad()
def _give(part: object, ours: object) -> None:
    """Fill a part with our numbers: each of its tensors with the one of ours that is as long."""
    values = _parameters(ours)
    for parameter in _parameters(part):
        value = next(value for value in values if value.numel() == parameter.numel())
        parameter.copy_(value.reshape(parameter.shape))


def _named(module: object, names: Sequence[str]) -> str:
    return ", ".join(name for name in names if isinstance(getattr(module, name, None), (nn.Module, nn.Parameter)))


def _own(module: nn.Module) -> str:
    ready = any(isinstance(part, (layers.EncoderBlock, VisionTransformer)) for part in module.modules())
    return "used" if ready else "not used"


def _reached(output: object, *parts: object) -> int:
    """How many learned numbers the output depends on, as `backward` sees it."""
    parameters = _parameters(*parts)
    if not isinstance(output, Tensor) or not output.requires_grad:
        return 0
    gradients = torch.autograd.grad(output.double().sum(), parameters, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return sum(parameter.numel() for parameter, gradient in pairs if gradient is not None)


def _gradient(module: nn.Module, tokens: Tensor) -> Tensor | str:
    """What `backward` brings to the tokens, from a sum of the output with weights all different."""
    tokens = tokens.clone().requires_grad_()
    output = module(tokens * 1)
    if not output.requires_grad:
        return "nothing"
    weights = torch.linspace(-1, 2, output.numel()).reshape(output.shape)
    try:
        gradient = torch.autograd.grad((output.double() * weights).sum(), tokens, allow_unused=True)[0]
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        return "an error: a tensor that it needs was changed in place"
    return "nothing" if gradient is None else gradient


def _tried(module: nn.Module, tokens: Tensor, name: str) -> Iterator[tuple[str, object]]:
    kept = tokens.clone()
    output = module(tokens)
    yield name, output
    stay = torch.equal(kept, tokens)
    yield "the tokens handed in, afterwards", "as they were" if stay else "changed in place"
    if stay and isinstance(output, Tensor):
        yield "what `backward` brings to the tokens", _gradient(module, tokens)


@contextlib.contextmanager
def _recorded(kind: type) -> Iterator[list[tuple[object, ...]]]:
    """The arguments that objects of a class are made with, in the order of its signature."""
    made: list[tuple[object, ...]] = []
    own, init = "__init__" in vars(kind), kind.__init__
    signature = inspect.signature(init)

    def wrapped(self: object, *arguments: object, **named: object) -> None:
        with contextlib.suppress(TypeError):  # raised again below, in the learner's line
            if type(self) is kind:
                bound = list(signature.bind(self, *arguments, **named).arguments.values())[1:]
                made.append(tuple(itertools.chain(*(_flat(value) for value in bound))))
        init(self, *arguments, **named)

    kind.__init__ = wrapped
    try:
        yield made
    finally:
        if own:
            kind.__init__ = init
        else:
            del kind.__init__


def _flat(value: object) -> list[object]:
    return [*value.values()] if isinstance(value, dict) else [*value] if isinstance(value, tuple) else [value]


def _made_with(answer, sizes: Sequence[object], part: object, letters: str, expected: Sequence[int]) -> str:
    """In words, the sizes that a part's class is made with; what is expected where that can't be known."""
    wanted = ", ".join(f"{letter} = {value}" for letter, value in zip(letters, expected, strict=True))
    if type(part).__module__.split(".")[0] == "torch":
        return wanted
    with _recorded(type(part)) as made:
        answer(*sizes)
    for values in made:
        first = values[: len(letters)]
        whole = len(first) == len(letters) and all(isinstance(value, int) for value in first)
        found = ", ".join(f"{letter} = {value}" for letter, value in zip(letters, first, strict=False))
        if whole and found != wanted:
            return found
    return wanted


# ---- 4.1 LayerNorm


class _Norm(nn.Module):
    def __init__(self, hidden_size: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def normalised(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        return self.normalised(x) * self.gain + self.bias


def _norm_cases(generator: Generator) -> Iterator[Case]:
    for (batch, length, width, *_), eps in zip(_sizes(generator), (1e-6, 0.05), strict=True):
        size = 1.0 if eps < 1e-3 else 0.3
        tokens = size * (torch.randn(batch, length, width, generator=generator) + 1.5)
        gain, bias = torch.randn(2, width, generator=generator)
        note = f"tokens ({batch}, {length}, {width}), eps {eps:g}"
        arguments = {"hidden_size": width, "eps": eps, "tokens": tokens, "gain": gain, "bias": bias}
        yield Case(note, arguments)


class _ReadyMade(TorchFunctionMode):
    """Notices torch's own normalisations."""

    NAMES = ("layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm", "native_layer_norm")
    used = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.used |= getattr(function, "__name__", "") in self.NAMES
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def _set_norm(parameters: list[nn.Parameter], gain: Tensor, bias: Tensor) -> None:
    for parameter in parameters:
        parameter.copy_((gain if parameter.flatten()[0] == 1 else bias).reshape(parameter.shape))


def _starts(parameter: nn.Parameter) -> str:
    low, high = float(parameter.detach().min()), float(parameter.detach().max())
    return f"all {low:g}" if low == high else "not all alike"


def _norm_run(
    answer, hidden_size: int, eps: float, tokens: Tensor, gain: Tensor, bias: Tensor
) -> Iterator[tuple[str, object]]:
    layer = answer(hidden_size, eps)
    parameters = _parameters(layer)
    yield "learned numbers", _numbers(layer)
    if _numbers(layer) != 2 * hidden_size:
        return
    starts = " and ".join(sorted(map(_starts, parameters), reverse=True))
    yield "gain and bias start as", starts
    if starts != "all 1 and all 0":
        return
    yield "output at the start", layer(tokens.clone())
    _set_norm(parameters, gain, bias)
    with _ReadyMade() as ready_made:
        yield from _tried(layer, tokens, "output with other gain and bias")
    yield "torch's own normalisation", "used" if ready_made.used else "not used"


LayerNorm = Exercise(
    "LayerNorm",
    3,
    "05-transformer-encoder#3 LayerNorm: one token, its own scale",
    _Norm,
    _norm_cases,
    run=_norm_run,
    takes="class",
)


@LayerNorm.mistake(
    "The variance divides by D - 1, which is what `var` and `std` do unless you say otherwise. LayerNorm divides by D.",
    source="https://github.com/harvardnlp/annotated-transformer/pull/119",
)
class divided_by_one_less(_Norm):
    def normalised(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + self.eps).sqrt()


@LayerNorm.mistake(
    "The deviation is right, but `eps` is added to it, outside the root. The definition adds it to the variance.",
    source="https://github.com/tracel-ai/burn/issues/2185",
)
class eps_outside_the_root(_Norm):
    def normalised(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + self.eps)


@LayerNorm.mistake(
    "Two slips at once: `std` divides by D - 1 by default, and `eps` is added to the deviation, not to the variance "
    "under the root.",
    source="https://github.com/codertimo/BERT-pytorch/issues/30",
)
class both_slips(_Norm):
    def normalised(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + self.eps)


@LayerNorm.mistake(
    "It divides by the variance. To bring the variance to 1, a token is divided by its root.",
    source="https://github.com/hyunwoongko/transformer/issues/7 (variance and deviation taken for each other)",
)
class without_the_root(_Norm):
    def normalised(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + self.eps)


@LayerNorm.mistake(
    "Your means run over the tokens of a sequence, so one token changes another. LayerNorm looks at the D numbers of "
    "one token.",
    source="'LayerNorm normalises over the sentence', as notebook 05, section 3, quotes it.",
)
class over_the_tokens(_Norm):
    def normalised(self, x):
        return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + self.eps).sqrt()


@LayerNorm.mistake(
    "Mean and variance run over tokens and features together, as for a feature map of a CNN. Here each token has its "
    "own.",
    source="nn.LayerNorm([C, H, W]), the image example in the documentation of torch.nn.LayerNorm.",
)
class over_tokens_and_features(_Norm):
    def normalised(self, x):
        centred = x - x.mean((1, 2), keepdim=True)
        return centred / (centred.square().mean((1, 2), keepdim=True) + self.eps).sqrt()


@LayerNorm.mistake(
    "This is BatchNorm: each feature is normalised over all tokens of the batch, so the images of a batch change one "
    "another.",
    source="Ba et al., 2016, section 3, which sets the two apart; notebook 05, figure 1.",
)
class over_the_batch(_Norm):
    def normalised(self, x):
        return (x - x.mean((0, 1))) / (x.var((0, 1), correction=0) + self.eps).sqrt()


@LayerNorm.mistake(
    "The mean isn't taken away. That is RMSNorm, which some language models use; LayerNorm brings the mean to 0.",
    source="Zhang and Sennrich, 2019, arXiv:1910.07467, used in place of LayerNorm.",
)
class mean_left_in(_Norm):
    def normalised(self, x):
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt()


@LayerNorm.mistake(
    "Gain and bias are one number each. Every one of the D features has its own.",
    source="`alpha = nn.Parameter(torch.ones(1))` in the LayerNorm of several Transformer-from-scratch repositories.",
)
class one_gain_for_all(_Norm):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__(1, eps)


@LayerNorm.mistake(
    "Nothing is learned: `layer.parameters()` is empty. Gain and bias must be parameters that belong to the module.",
    source="https://github.com/lucidrains/vit-pytorch/issues/134 ('I don't understand why nn.Parameter is here')",
)
class nothing_to_learn(_Norm):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__(hidden_size, eps)
        del self.gain, self.bias
        self.gain, self.bias = torch.ones(hidden_size), torch.zeros(hidden_size)


@LayerNorm.mistake(
    "That is torch's own LayerNorm. The numbers are right; the task is to write it by hand, from means and a root.",
    source="`nn.LayerNorm` as a habit: expected, no published case found.",
)
class torchs_own(_Norm):
    def forward(self, x):
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.eps)


@LayerNorm.mistake(
    "The second case has a large `eps`, and nothing changes: yours uses a number of its own, or none. Keep the one "
    "that `__init__` is given.",
    source="https://github.com/apple/axlearn/pull/397 ('layer_norm_epsilon should be used if passed in')",
)
class eps_not_used(_Norm):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__(hidden_size)


@LayerNorm.mistake(
    "The gain is there and learned, but the output doesn't depend on it: it is never multiplied.",
    source="A parameter made in `__init__` and forgotten in `forward`: expected, no published case found.",
)
class gain_not_used(_Norm):
    def forward(self, x):
        return self.normalised(x) + self.bias


@LayerNorm.mistake(
    "The bias is there and learned, but the output doesn't depend on it: it is never added.",
    source="A parameter made in `__init__` and forgotten in `forward`: expected, no published case found.",
)
class bias_not_used(_Norm):
    def forward(self, x):
        return self.normalised(x) * self.gain


@LayerNorm.mistake(
    "Gain and bias are there, and `forward` uses neither: it returns the normalised tokens as they are.",
    source="Parameters made in `__init__` and forgotten in `forward`: expected, no published case found.",
)
class neither_used(_Norm):
    def forward(self, x):
        return self.normalised(x)


@LayerNorm.mistake(
    "Gain or bias starts at random numbers. Before training, the layer should only normalise: gain 1, bias 0.",
    source="`torch.randn` for every parameter, as for a weight matrix: expected, no published case found.",
)
class gain_at_random(_Norm):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__(hidden_size, eps)
        self.gain = nn.Parameter(torch.randn(hidden_size))


@LayerNorm.mistake(
    "There is one mean for all numbers of the batch together. Each token has its own, over its D numbers.",
    source="`x.mean()` without `dim`: expected, no published case found.",
)
class over_everything(_Norm):
    def normalised(self, x):
        return (x - x.mean()) / (x.var(correction=0) + self.eps).sqrt()


@LayerNorm.mistake(
    "Mean and variance run over the first axis, so they mix the images of a batch. A token's numbers lie along the "
    "last.",
    source="`mean(0)`, the habit from tables of one row an example: expected, no published case found.",
)
class over_the_images(_Norm):
    def normalised(self, x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + self.eps).sqrt()


@LayerNorm.mistake(
    "The squares are added up, but not divided by D: the variance is D times too large, so the output is too small.",
    source="`sum` in place of `mean`: expected, no published case found.",
)
class sum_of_squares(_Norm):
    def normalised(self, x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().sum(-1, keepdim=True) + self.eps).sqrt()


@LayerNorm.mistake(
    "A bracket is missing: only the mean is divided by the deviation, and that is taken from x.",
    source="`x - mean / std`, where division binds first: expected, no published case found.",
)
class only_the_mean_divided(_Norm):
    def normalised(self, x):
        variance = x.var(-1, keepdim=True, correction=0)
        return x - x.mean(-1, keepdim=True) / (variance + self.eps).sqrt()


@LayerNorm.mistake(
    "The mean of shape (B, N) doesn't line up with x of shape (B, N, D). Keep the last axis, with length 1.",
    source="`mean(-1)` without `keepdim`: the error 'The size of tensor a must match', in many PyTorch questions.",
)
class axis_lost(_Norm):
    def normalised(self, x):
        return (x - x.mean(-1)) / (x.var(-1, correction=0) + self.eps).sqrt()


@LayerNorm.mistake(
    "The output is right, but its gradient isn't: mean and variance are cut out of the graph, by `detach` or "
    "`no_grad`. "
    "They depend on x too.",
    source="Statistics without gradient, as BatchNorm's running ones are kept: expected, no published case found.",
)
class statistics_detached(_Norm):
    def normalised(self, x):
        mean, variance = x.detach().mean(-1, keepdim=True), x.detach().var(-1, keepdim=True, correction=0)
        return (x - mean) / (variance + self.eps).sqrt()


# ---- 4.2 the MLP


class _MLP(nn.Module):
    last_bias = True

    def __init__(self, hidden_size: int, intermediate_size: int):
        super().__init__()
        self.linear1 = nn.Linear(hidden_size, intermediate_size)
        self.linear2 = nn.Linear(intermediate_size, hidden_size, bias=self.last_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(x)))


def _mlp_cases(generator: Generator) -> Iterator[Case]:
    for batch, length, width, _, inside in _sizes(generator):
        tokens = 2 * torch.randn(batch, length, width, generator=generator)
        parts = _random(_MLP(width, inside), generator)
        note = f"tokens ({batch}, {length}, {width}), M = {inside}"
        yield Case(note, {"hidden_size": width, "intermediate_size": inside, "tokens": tokens, "weights": parts})


@torch.no_grad()
def _set_mlp(mlp: nn.Module, ours: _MLP) -> None:
    """Two matrices of D M numbers: told apart by what surrounds them, or else by their order."""
    width = ours.linear1.in_features
    layered = [part for part in mlp.modules() if isinstance(part, (nn.Linear, nn.Conv1d))]
    if len(layered) == 2:
        for part in layered:
            first = getattr(part, "in_features", getattr(part, "in_channels", None)) == width
            _give(part, ours.linear1 if first else ours.linear2)
        return
    matrices = iter((ours.linear1.weight.T, ours.linear2.weight.T))
    biases = {len(bias): bias for bias in (ours.linear1.bias, ours.linear2.bias)}
    for parameter in mlp.parameters():
        value = biases[parameter.numel()] if parameter.numel() in biases else next(matrices)
        parameter.copy_(value if value.shape == parameter.shape else value.T.reshape(parameter.shape))


def _mlp_run(
    answer, hidden_size: int, intermediate_size: int, tokens: Tensor, weights: _MLP
) -> Iterator[tuple[str, object]]:
    mlp = answer(hidden_size, intermediate_size).eval()
    yield "learned numbers", _numbers(mlp)
    if _numbers(mlp) == _numbers(weights):
        _set_mlp(mlp, weights)
        output = mlp(tokens)
        reached = _reached(output, mlp)
        if isinstance(output, Tensor):
            yield "learned numbers that the output depends on", reached
        if reached or not isinstance(output, Tensor):
            yield "output, with weights of the check", output


MLP = Exercise(
    "MLP",
    2,
    "05-transformer-encoder#2 The MLP, each token alone",
    _MLP,
    _mlp_cases,
    run=_mlp_run,
    takes="class",
)


@MLP.mistake(
    "Nothing bends between the two layers. Two linear layers in a row are one linear layer, with more work.",
    source="https://github.com/ViTAE-Transformer/ViTPose/issues/72 (why the ReLU is there at all)",
)
class no_activation(_MLP):
    def forward(self, x):
        return self.linear2(self.linear1(x))


@MLP.mistake(
    "That is ReLU, as in the Transformer of 2017 and in torch's own layer by default. A ViT uses GELU.",
    source="https://github.com/fastestimator/fastestimator/pull/1066 (a ViT whose MLP has activation='relu')",
)
class relu(_MLP):
    def forward(self, x):
        return self.linear2(self.linear1(x).relu())


@MLP.mistake(
    "A GELU follows the second layer too. Then the block can add hardly anything negative to the stream; the second "
    "layer ends the MLP.",
    source="Keras' example image_classification_with_vision_transformer: its `mlp` gives every Dense the activation.",
)
class gelu_at_the_end_too(_MLP):
    def forward(self, x):
        return F.gelu(super().forward(x))


@MLP.mistake(
    "The GELU stands before the first layer. It belongs between the two, on the M inner numbers.",
    source="Pre-activation order, as in He et al., 2016, arXiv:1603.05027, carried over to the MLP.",
)
class gelu_first(_MLP):
    def forward(self, x):
        return self.linear2(self.linear1(F.gelu(x)))


@MLP.mistake(
    "Close, but this is the approximation of GELU by tanh. The task, like ViT, takes the exact one.",
    source="https://github.com/tenstorrent/tt-metal/issues/22816 (the MLP of SigLIP uses it)",
)
class approximate_gelu(_MLP):
    def forward(self, x):
        return self.linear2(F.gelu(self.linear1(x), approximate="tanh"))


@MLP.mistake(
    "That is x times sigmoid(1.702 x), a quick stand-in for GELU. The task, like ViT, takes the exact one.",
    source="QuickGELU in model.py of https://github.com/openai/CLIP",
)
class quick_gelu(_MLP):
    def forward(self, x):
        inner = self.linear1(x)
        return self.linear2(inner * torch.sigmoid(1.702 * inner))


@MLP.mistake(
    "The MLP adds its input itself. That sum belongs to the block; with both, the tokens are added twice.",
    source="Feed-forward modules of 2017's Transformer that hold their own residual, used in a block that adds too.",
)
class its_own_residual(_MLP):
    def forward(self, x):
        return x + super().forward(x)


@MLP.mistake(
    "The second layer has no bias: D numbers are missing. Both layers of a ViT's MLP have one.",
    source="`bias=False`, a habit from CNNs with BatchNorm and from language models such as LLaMA.",
)
class no_second_bias(_MLP):
    last_bias = False


@MLP.mistake(
    "The width inside is always 4 D, whatever `intermediate_size` says.",
    source="`4 * dim` written into the MLP, as in minGPT's Block (https://github.com/karpathy/minGPT).",
)
class always_four_times(_MLP):
    def __init__(self, hidden_size, intermediate_size):
        super().__init__(hidden_size, 4 * hidden_size)


@MLP.mistake(
    "The output depends on none of the numbers that `parameters()` lists, so training can't change it. Are layers made "
    "inside `forward`? Is there a `no_grad` or `detach`?",
    source="https://github.com/graykode/nlp-tutorial/issues/29 (`nn.Linear(...)` made in `forward`)",
)
class layers_made_in_forward(_MLP):
    def forward(self, x):
        return _MLP(self.linear1.in_features, self.linear1.out_features)(x)


@MLP.mistake(
    "The GELU comes last instead of between the two layers, which stay one linear layer then.",
    source="`F.gelu(linear2(linear1(x)))`, brackets in the wrong place: expected, no published case found.",
)
class gelu_last(_MLP):
    def forward(self, x):
        return F.gelu(self.linear2(self.linear1(x)))


# ---- 4.3 the block

PARTS = ("norm1", "attention", "norm2", "mlp")


class _Block(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.attention = layers.MultiHeadAttention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6)
        self.mlp = _MLP(hidden_size, intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    """Our attention in the learner's place, however it is called there."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Tensor, *_: object, **__: object) -> Tensor:
        return self.attention(tokens)


def _block_cases(generator: Generator) -> Iterator[Case]:
    for batch, length, width, heads, inside in _sizes(generator):
        tokens = 2 * torch.randn(batch, length, width, generator=generator) + 0.5
        sizes = {"hidden_size": width, "num_heads": heads, "intermediate_size": inside}
        note = f"tokens ({batch}, {length}, {width}), h = {heads}, M = {inside}"
        weights = _random(_Block(**sizes), generator)
        yield Case(note, {**sizes, "tokens": tokens, "weights": weights})


def _set_attention(block: nn.Module, ours: layers.MultiHeadAttention) -> None:
    theirs = block.attention
    if not isinstance(theirs, nn.MultiheadAttention):
        block.attention = _Attention(ours)
        return
    with torch.no_grad():  # torch's own is called in its own way, so it stays
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        _give(theirs.out_proj, ours.projection)


def _block_run(
    answer, hidden_size: int, num_heads: int, intermediate_size: int, tokens: Tensor, weights: _Block
) -> Iterator[tuple[str, object]]:
    block = answer(hidden_size, num_heads, intermediate_size).eval()
    yield "parts", _named(block, PARTS)
    if _named(block, PARTS) != ", ".join(PARTS):
        return
    yield "the package's EncoderBlock", _own(block)
    yield "learned numbers in norm1 and norm2", _numbers(block.norm1, block.norm2)
    yield "learned numbers in mlp", _numbers(block.mlp)
    yield "heads", getattr(block.attention, "num_heads", num_heads)
    if _numbers(block.norm1, block.norm2) != 4 * hidden_size:
        return
    output = block(tokens.clone())
    yield "shape of the output", str(tuple(output.shape)) if isinstance(output, Tensor) else output
    block.norm1, block.norm2, block.mlp = weights.norm1, weights.norm2, weights.mlp
    _set_attention(block, weights.attention)
    yield from _tried(block, tokens, "output, with weights of the check")


# What sheet 4 hands out: neither the block nor the model.
HANDED_OUT = ("layers.attention", "layers.mlp", "layers.patch_embedding", "layers.position_embedding", "functional")

Block = Exercise(
    "Block",
    4,
    "05-transformer-encoder#6 The block",
    _Block,
    _block_cases,
    run=_block_run,
    takes="class",
    may_use=HANDED_OUT,
)


@Block.mistake(
    "This is post-norm, as in 2017: the stream itself passes through the LayerNorms. In a ViT only the branch does.",
    source="https://github.com/harvardnlp/annotated-transformer/issues/13",
)
class post_norm(_Block):
    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


@Block.mistake(
    "The branches come back to the normalised tokens. They must be added to the stream as it was before the LayerNorm.",
    source="https://github.com/Howuhh/faster-trajectory-transformer/issues/3",
)
class added_to_the_normalised(_Block):
    def forward(self, x):
        x = self.norm1(x)
        x = x + self.attention(x)
        x = self.norm2(x)
        return x + self.mlp(x)


@Block.mistake(
    "The first half is right. In the second, the MLP's result is added to the normalised tokens instead of the stream.",
    source="https://github.com/SHI-Labs/Compact-Transformers/issues/25",
)
class second_sum_with_the_normalised(_Block):
    def forward(self, x):
        x = self.norm2(x + self.attention(self.norm1(x)))
        return x + self.mlp(x)


@Block.mistake(
    "The LayerNorm stands behind each branch instead of before it: attention and MLP see the stream unnormalised.",
    source="https://github.com/lucidrains/vit-pytorch/issues/244 ('Why use x = norm(atten(x)) + x')",
)
class norm_behind_the_branch(_Block):
    def forward(self, x):
        x = x + self.norm1(self.attention(x))
        return x + self.norm2(self.mlp(x))


@Block.mistake(
    "Nothing is added: each part replaces the tokens. Without the residual sums a deep stack hardly learns.",
    source="The plain stack that He et al., 2016 (arXiv:1512.03385), start from: expected, no published case found.",
)
class no_residual(_Block):
    def forward(self, x):
        return self.mlp(self.norm2(self.attention(self.norm1(x))))


@Block.mistake(
    "The last sum is missing: the block returns what the MLP made, and the stream ends there.",
    source="`return self.mlp(self.norm2(x))`: expected, no published case found.",
)
class last_sum_missing(_Block):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return self.mlp(self.norm2(x))


@Block.mistake(
    "The last sum takes the block's input, so what attention found is lost on the way. Add to the stream as it is by "
    "then.",
    source="https://github.com/strutive07/transformer-tensorflow2.0/issues/14",
)
class both_sums_with_the_input(_Block):
    def forward(self, x):
        y = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(y))


@Block.mistake(
    "Attention and MLP run side by side on the same tokens. In a ViT the MLP comes second and sees what attention "
    "added.",
    source="The parallel block of GPT-J and of ViT-22B (Dehghani et al., 2023, arXiv:2302.05442).",
)
class side_by_side(_Block):
    def forward(self, x):
        return x + self.attention(self.norm1(x)) + self.mlp(self.norm2(x))


@Block.mistake(
    "`norm1` is called in both places, and `norm2` never. They have weights of their own.",
    source="A copied line, `x = x + self.mlp(self.norm1(x))`: expected, no published case found.",
)
class first_norm_twice(_Block):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm1(x))


@Block.mistake(
    "`norm1` and `norm2` are the same object: 2 D learned numbers instead of 4 D. Make two.",
    source="https://github.com/habla-liaa/encodecmae/issues/3 (one layer made once and handed to several places)",
)
class one_norm_for_both(_Block):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.norm2 = self.norm1


@Block.mistake(
    "Torch's attention takes the batch along the second axis unless you set `batch_first`. Yours mixes the images of a "
    "batch, and never the tokens of one.",
    source="Published ViT code that forgets `batch_first=True`; the default of nn.MultiheadAttention.",
)
class batch_first_forgotten(_Block):
    def __init__(self, hidden_size, num_heads, intermediate_size):
        super().__init__(hidden_size, num_heads, intermediate_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads)

    def forward(self, x):
        query = self.norm1(x)
        x = x + self.attention(query, query, query)[0]
        return x + self.mlp(self.norm2(x))


@Block.mistake(
    "The attention has one head, whatever `num_heads` says.",
    source="`num_heads` taken and not handed on, where the attention has a default: expected, no published case found.",
)
class one_head(_Block):
    def __init__(self, hidden_size, num_heads, intermediate_size):
        super().__init__(hidden_size, 1, intermediate_size)


@Block.mistake(
    "The MLP gets the stream without a LayerNorm. There is one before each of the two parts.",
    source="Dosovitskiy et al., 2021, eq. 3, read without its LN: expected, no published case found.",
)
class mlp_without_a_norm(_Block):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(x)


@Block.mistake(
    "Attention sees the stream without a LayerNorm. There is one before each of the two parts.",
    source="Dosovitskiy et al., 2021, eq. 2, read without its LN: expected, no published case found.",
)
class attention_without_a_norm(_Block):
    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(self.norm2(x))


@Block.mistake(
    "Both LayerNorms are made in `__init__` and never called: attention and MLP see the stream as it is.",
    source="Modules made in `__init__` and forgotten in `forward`: expected, no published case found.",
)
class no_norm_called(_Block):
    def forward(self, x):
        x = x + self.attention(x)
        return x + self.mlp(x)


@Block.mistake(
    "The second half is right. In the first, attention's result is added to the normalised tokens instead of the "
    "stream.",
    source="https://github.com/Howuhh/faster-trajectory-transformer/issues/3 (there in both halves)",
)
class first_sum_with_the_normalised(_Block):
    def forward(self, x):
        x = self.norm1(x)
        x = x + self.attention(x)
        return x + self.mlp(self.norm2(x))


@Block.mistake(
    "The first sum is missing: attention's result replaces the stream instead of being added to it.",
    source="https://github.com/facebookresearch/multimodal/pull/305 (the input overwritten before it was added)",
)
class first_sum_missing(_Block):
    def forward(self, x):
        x = self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@Block.mistake(
    "What comes back is the stream after attention: the MLP's result never arrives. Is its sum computed and not kept?",
    source="`x + self.mlp(...)` on a line of its own, with no `x =`: expected, no published case found.",
)
class mlp_lost(_Block):
    def forward(self, x):
        return x + self.attention(self.norm1(x))


@Block.mistake(
    "Attention's result never arrives: only the MLP adds to the stream. Is the first sum computed and not kept?",
    source="https://github.com/lucidrains/audiolm-pytorch/pull/265 (attention's output assigned to an unused name)",
)
class attention_lost(_Block):
    def forward(self, x):
        return x + self.mlp(self.norm2(x))


@Block.mistake(
    "The MLP is always 4 D wide inside, whatever `intermediate_size` says.",
    source="`4 * dim` written into the block, as in minGPT's Block (https://github.com/karpathy/minGPT).",
)
class always_four_times_wide(_Block):
    def __init__(self, hidden_size, num_heads, intermediate_size):
        super().__init__(hidden_size, num_heads, 4 * hidden_size)


@Block.mistake(
    "The MLP is D wide inside: `intermediate_size` isn't handed on to it.",
    source="`MLP(hidden_size, hidden_size)`: expected, no published case found.",
)
class inside_as_wide_as_outside(_Block):
    def __init__(self, hidden_size, num_heads, intermediate_size):
        super().__init__(hidden_size, num_heads, hidden_size)


@Block.mistake(
    "The MLP's two sizes are swapped: it expects tokens of M numbers and gets D.",
    source="https://github.com/ageron/handson-mlp/issues/14 (two sizes handed over in the wrong order)",
)
class sizes_of_the_mlp_swapped(_Block):
    def __init__(self, hidden_size, num_heads, intermediate_size):
        super().__init__(hidden_size, num_heads, intermediate_size)
        self.mlp = _MLP(intermediate_size, hidden_size)


@Block.mistake(
    "The numbers are right, but `backward` gets no further than the block. Is there a `no_grad` or a `detach` in it?",
    source="`@torch.no_grad()` copied from an evaluation function: expected, no published case found.",
)
class block_without_gradients(_Block):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


@Block.mistake(
    "Sums in place, as `+=` makes them, overwrite numbers that `backward` still needs, so the block can't be trained. "
    "Give each sum a new tensor.",
    source="'modified by an inplace operation', the error under many PyTorch questions.",
)
class sums_in_place(_Block):
    def forward(self, x):
        x = x.clone()
        x += self.attention(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x


@Block.mistake(
    "The tokens that were handed in are changed: `+=` adds into the caller's tensor, and `backward` would miss the old "
    "numbers. Give each sum a new tensor.",
    source="`x += ...` in `forward`, harmless for numbers but not for tensors: expected, no published case found.",
)
class sums_into_the_input(_Block):
    def forward(self, x):
        x += self.attention(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x


# ---- 4.4 the encoder


class _Encoder(nn.Module):
    def __init__(self, num_hidden_layers: int, hidden_size: int, num_heads: int, intermediate_size: int):
        super().__init__()
        sizes = hidden_size, num_heads, intermediate_size
        self.blocks = nn.ModuleList(_Block(*sizes) for _ in range(num_hidden_layers))
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def _encoder_cases(generator: Generator) -> Iterator[Case]:
    for depth, (batch, length, width, heads, inside) in zip((3, 2), _sizes(generator), strict=True):
        tokens = 2 * torch.randn(batch, length, width, generator=generator) + 0.5
        sizes = {"num_hidden_layers": depth, "hidden_size": width, "num_heads": heads, "intermediate_size": inside}
        note = f"{depth} blocks, tokens ({batch}, {length}, {width}), h = {heads}, M = {inside}"
        weights = _random(_Encoder(**sizes), generator)
        yield Case(note, {**sizes, "tokens": tokens, "weights": weights})


def _encoder_run(
    answer,
    num_hidden_layers: int,
    hidden_size: int,
    num_heads: int,
    intermediate_size: int,
    tokens: Tensor,
    weights: _Encoder,
) -> Iterator[tuple[str, object]]:
    encoder = answer(num_hidden_layers, hidden_size, num_heads, intermediate_size).eval()
    blocks = getattr(encoder, "blocks", None)
    yield "a part called blocks", "there" if blocks is not None else "missing"
    yield "a module called norm", "there" if isinstance(getattr(encoder, "norm", None), nn.Module) else "missing"
    if blocks is None or not isinstance(getattr(encoder, "norm", None), nn.Module):
        return
    yield "length of blocks", len(blocks)
    if len(blocks) != num_hidden_layers:
        return
    yield "the package's EncoderBlock", _own(encoder)
    learned = (_numbers(encoder) - _numbers(encoder.norm)) / _numbers(blocks[0])
    yield "blocks whose weights `encoder.parameters()` lists", learned
    yield "learned numbers in norm", _numbers(encoder.norm)
    if learned != num_hidden_layers:
        return
    first, second = (nn.utils.parameters_to_vector(block.parameters()) for block in list(blocks)[:2])
    yield "blocks 0 and 1 start from", "the same weights" if torch.equal(first, second) else "weights of their own"
    sizes = hidden_size, num_heads, intermediate_size
    yield "each block is made with", _made_with(answer, (num_hidden_layers, *sizes), blocks[0], "DhM", sizes)
    for place, block in enumerate(weights.blocks):
        blocks[place] = block
    encoder.norm = weights.norm
    yield from _tried(encoder, tokens, "output, with weights of the check")


Encoder = Exercise(
    "Encoder",
    4,
    "07-vision-transformer#2 Assembled",
    _Encoder,
    _encoder_cases,
    run=_encoder_run,
    takes="class",
    may_use=HANDED_OUT,
)


@Encoder.mistake(
    "All places of the list hold the same block: its weights exist once, however deep the stack. Make a new block for "
    "each place.",
    source="https://github.com/espnet/espnet/issues/1278",
)
class one_block_in_all_places(_Encoder):
    def __init__(self, num_hidden_layers, *sizes):
        super().__init__(num_hidden_layers, *sizes)
        self.blocks = nn.ModuleList([self.blocks[0]] * num_hidden_layers)


@Encoder.mistake(
    "There are as many weights as there should be, but all blocks start from the same numbers: copies of one block. "
    "Draw each by itself.",
    source="https://github.com/pytorch/pytorch/issues/86274",
)
class copies_of_one_block(_Encoder):
    def __init__(self, num_hidden_layers, *sizes):
        super().__init__(num_hidden_layers, *sizes)
        self.blocks = nn.ModuleList(copy.deepcopy(self.blocks[0]) for _ in range(num_hidden_layers))


@Encoder.mistake(
    "The blocks stand in an ordinary Python list, which a module doesn't look into: `encoder.parameters()` doesn't "
    "know them, and no optimiser will move them.",
    source="https://github.com/mikeizbicki/cmc-csci181-deeplearning/issues/7",
)
class an_ordinary_list(_Encoder):
    def __init__(self, num_hidden_layers, *sizes):
        super().__init__(num_hidden_layers, *sizes)
        blocks = list(self.blocks)
        del self.blocks
        self.blocks = blocks


@Encoder.mistake(
    "The final LayerNorm is missing. In a pre-norm stack nothing else brings the grown stream back to scale.",
    source="https://github.com/hkproj/pytorch-transformer/issues/14 (taken out, because post-norm blocks end in one)",
)
class no_final_norm(_Encoder):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        del self.norm


@Encoder.mistake(
    "The final LayerNorm is there and never called: the stream comes out as it left the last block.",
    source="https://github.com/hkproj/pytorch-transformer/issues/32 ('why the Encoder has a norm layer')",
)
class final_norm_not_called(_Encoder):
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@Encoder.mistake(
    "The final LayerNorm stands inside the loop, behind every block. It comes once, at the end.",
    source="https://github.com/lucidrains/vit-pytorch/pull/274 (read so in the discussion)",
)
class norm_in_the_loop(_Encoder):
    def forward(self, x):
        for block in self.blocks:
            x = self.norm(block(x))
        return x


@Encoder.mistake(
    "It adds each block's result to the stream once more. A block has its residual sums inside.",
    source="`x = x + block(x)`, as for blocks without sums of their own: expected, no published case found.",
)
class residual_around_blocks(_Encoder):
    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)


@Encoder.mistake(
    "Every block reads the encoder's input, so only the last one counts. Each must read what the one before it made.",
    source="`out = block(tokens)` in a loop, the variable not handed on: expected, no published case found.",
)
class every_block_reads_the_input(_Encoder):
    def forward(self, x):
        for block in self.blocks:
            y = block(x)
        return self.norm(y)


@Encoder.mistake(
    "The LayerNorm comes before the blocks. Each block normalises its own input; the encoder's LayerNorm comes last.",
    source="`pre_norm` of CLIP-like models (timm's VisionTransformer has it as an option) taken for pre-norm blocks.",
)
class norm_at_the_beginning(_Encoder):
    def forward(self, x):
        x = self.norm(x)
        for block in self.blocks:
            x = block(x)
        return x


@Encoder.mistake(
    "Only the first block is used: the `return` stands inside the loop, so it ends after one round.",
    source="A `return` indented too far: expected, no published case found.",
)
class return_in_the_loop(_Encoder):
    def forward(self, x):
        return self.norm(self.blocks[0](x))


@Encoder.mistake(
    "What comes back is the stream after the first block, without the LayerNorm. Does a `return` stand inside the "
    "loop?",
    source="A `return` indented too far: expected, no published case found.",
)
class stream_returned_in_the_loop(_Encoder):
    def forward(self, x):
        return self.blocks[0](x)


@Encoder.mistake(
    "The blocks' MLPs are always 4 D wide inside, whatever `intermediate_size` says.",
    source="`4 * dim` in place of the argument, as in minGPT's Block (https://github.com/karpathy/minGPT).",
)
class blocks_always_four_times_wide(_Encoder):
    def __init__(self, num_hidden_layers, hidden_size, num_heads, intermediate_size):
        super().__init__(num_hidden_layers, hidden_size, num_heads, 4 * hidden_size)


@Encoder.mistake(
    "The blocks have one head each: `num_heads` isn't handed on to them.",
    source="https://github.com/chinhsuanwu/mobilevit-pytorch/issues/6 (one head, and why)",
)
class blocks_with_one_head(_Encoder):
    def __init__(self, num_hidden_layers, hidden_size, num_heads, intermediate_size):
        super().__init__(num_hidden_layers, hidden_size, 1, intermediate_size)


@Encoder.mistake(
    "The numbers are right, but `backward` gets no further than the encoder. Is there a `no_grad` or a `detach` in it?",
    source="`@torch.no_grad()` copied from an evaluation function: expected, no published case found.",
)
class encoder_without_gradients(_Encoder):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


# ---- 4.5 the whole ViT

VIT_PARTS = ("patch_embedding", "class_token", "position_embedding", "encoder", "head")
WIDE = 40  # numbers a token, so that a deviation can be told


class _ViT(nn.Module):
    def __init__(
        self,
        num_channels: int,
        image_size: Sequence[int],
        patch_size: int,
        hidden_size: int,
        num_hidden_layers: int,
        num_heads: int,
        intermediate_size: int,
        num_classes: int,
    ):
        super().__init__()
        self.num_patches = image_size[0] * image_size[1] // patch_size**2
        self.patch_embedding = layers.PatchEmbedding(patch_size, num_channels, hidden_size)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, hidden_size))
        self.position_embedding = nn.Parameter(0.02 * torch.randn(1, self.places(), hidden_size))
        self.encoder = _Encoder(num_hidden_layers, hidden_size, num_heads, intermediate_size)
        self.head = nn.Linear(hidden_size, num_classes)

    def places(self) -> int:
        return self.num_patches + 1

    def joined(self, patches: Tensor) -> Tensor:
        return torch.cat([self.class_token.expand(len(patches), -1, -1), patches], dim=1)

    def embed(self, images: Tensor) -> Tensor:
        return self.joined(self.patch_embedding(images)) + self.position_embedding

    def read(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.read(self.encoder(self.embed(images))))


def _vit_cases(generator: Generator) -> Iterator[Case]:
    for batch, patch, channels, depth, heads in ((2, 4, 3, 4, 2), (1, 3, 2, 2, 4)):
        rows, columns = ((2, 3), (3, 4))[integer(0, 1, generator)]
        sizes = {
            "num_channels": channels,
            "image_size": (rows * patch, columns * patch),
            "patch_size": patch,
            "hidden_size": 8,
            "num_hidden_layers": depth,
            "num_heads": heads,
            "intermediate_size": integer(10, 13, generator),
            "num_classes": integer(5, 7, generator),
        }
        height, width = sizes["image_size"]
        images = torch.randn(batch, channels, height, width, generator=generator)
        weights = _random(_ViT(**sizes), generator)
        yield Case(
            f"images ({batch}, {channels}, {height}, {width}), P = {patch}",
            {**sizes, "images": images, "model": weights},
        )


def _names(vit: nn.Module) -> str:
    """The parts that the task names; if one is missing, all others that are there too."""
    found = [name for name in VIT_PARTS if hasattr(vit, name)]
    if len(found) < len(VIT_PARTS):
        owned = (vit.named_children(), vit.named_parameters(recurse=False), vit.named_buffers(recurse=False))
        found += sorted({name for name, _ in itertools.chain(*owned)} - set(found))
    return ", ".join(found)


@torch.no_grad()
def _deviation(part: object) -> str:
    numbers = torch.cat([parameter.flatten() for parameter in _parameters(part)])
    deviation = float(numbers.std())
    if not numbers.any():
        return "0"
    return "smaller" if deviation < 0.01 else "larger" if deviation > 0.04 else "about 0.02"


def _too_large(vit: nn.Module, images: Tensor) -> str:
    try:
        vit(images)
    except Exception as error:
        if isinstance(error, NotImplementedError):
            raise
        return "raise an error"
    return "give logits"


def _vit_run(answer, *arguments) -> Iterator[tuple[str, object]]:
    *sizes, images, ours = arguments
    vit = answer(*sizes).eval()
    yield "parts by name", _names(vit)
    if _names(vit) != ", ".join(VIT_PARTS):
        return
    names = ("class_token", "position_embedding", "patch_embedding", "head")
    counts = {name: (_numbers(getattr(vit, name)), _numbers(getattr(ours, name))) for name in names}
    for name, (count, _) in counts.items():
        yield f"learned numbers in {name}", count
    yield "encoder is", "a module" if isinstance(vit.encoder, nn.Module) else "no module"
    if any(count != wanted for count, wanted in counts.values()) or not isinstance(vit.encoder, nn.Module):
        return
    yield "the package's EncoderBlock", _own(vit)
    channels, image_size, patch, _, depth, heads, inside, classes = sizes
    wide = (channels, image_size, patch, WIDE, depth, heads, inside, classes)
    yield "the encoder is made with", _made_with(answer, wide, vit.encoder, "LDhM", (depth, WIDE, heads, inside))
    for name in names:
        _give(getattr(vit, name), getattr(ours, name))
    vit.encoder, seen = ours.encoder, []  # whole, or block by block: its first block sees what enters
    hook = ours.encoder.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    logits = vit(images)
    hook.remove()
    yield "runs through the encoder", len(seen)
    yield "tokens that enter the encoder", seen[0] if seen else None
    yield "logits", logits
    yield "learned numbers that the logits depend on", _reached(logits, *(getattr(vit, name) for name in names))
    yield "images one pixel too wide", _too_large(vit, F.pad(images, (0, 1)))
    yield "images one pixel too high", _too_large(vit, F.pad(images, (0, 0, 0, 1)))
    fresh = answer(*wide)
    for name in names[:2]:
        yield f"deviation of {name} at the start", _deviation(getattr(fresh, name))


ViT = Exercise(
    "ViT",
    6,
    "07-vision-transformer#2 Assembled",
    _ViT,
    _vit_cases,
    run=_vit_run,
    takes="class",
    may_use=HANDED_OUT,
)


@ViT.mistake(
    "[CLS] is appended behind the patches, but the head reads row 0: the first patch of the image. Put [CLS] first.",
    source="Published ViT code that appends [CLS] and reads index 0; "
    "https://github.com/lucidrains/vit-pytorch/issues/18 asks what row 0 is.",
)
class cls_last_but_row_0_read(_ViT):
    def joined(self, patches):
        return super().joined(patches).roll(-1, dims=1)


@ViT.mistake(
    "[CLS] stands first, but the head reads the last row: the patch in the lower right corner.",
    source="`x[:, -1]`, right for GPT-like models that read the last token, in a ViT.",
)
class cls_first_but_last_row_read(_ViT):
    def read(self, tokens):
        return tokens[:, -1]


@ViT.mistake(
    "[CLS] stands last and is read there: that holds together, but weights of other ViTs wouldn't fit. The task, like "
    "the paper, has it first.",
    source="https://github.com/naver-ai/pit/issues/5 asks where the class token is; Dosovitskiy et al., 2021, eq. 1.",
)
class cls_last_and_read_there(cls_last_but_row_0_read):
    def read(self, tokens):
        return tokens[:, -1]


@ViT.mistake(
    "The head reads the mean of all tokens. Here it reads one row, that of [CLS].",
    source="https://github.com/google-research/vision_transformer/issues/61 (is [CLS] needed at all?)",
)
class mean_of_all_tokens(_ViT):
    def read(self, tokens):
        return tokens.mean(dim=1)


@ViT.mistake(
    "The head reads the mean of the patches, and [CLS] is left out. Both ways exist; the task asks for [CLS].",
    source="https://github.com/keras-team/keras/issues/19683 (an example without [CLS])",
)
class mean_of_the_patches(_ViT):
    def read(self, tokens):
        return tokens[:, 1:].mean(dim=1)


@ViT.mistake(
    "`class_token` holds nothing to learn. It is a vector of D numbers that training moves like any weight.",
    source="https://github.com/jeonsworld/ViT-pytorch/issues/6 ('why the position_embeddings and the cls_token are "
    "zeros?')",
)
class nothing_learned_in_cls(_ViT):
    def __init__(self, *sizes, **named):
        super().__init__(*sizes, **named)
        token = self.class_token.detach()
        del self.class_token
        self.register_buffer("class_token", token)


@ViT.mistake(
    "There are N positions, one too few. [CLS] gets one as well: join it first, then add N + 1 positions.",
    source="https://github.com/labmlai/annotated_deep_learning_paper_implementations/pull/221",
)
class positions_before_cls(_ViT):
    def places(self):
        return self.num_patches

    def embed(self, images):
        return self.joined(self.patch_embedding(images) + self.position_embedding)


@ViT.mistake(
    "One position vector is shared by all tokens. It moves them all alike and says nothing about where they are.",
    source="https://github.com/ahmadchalhoub/research_implementations/issues/2",
)
class one_position_for_all(_ViT):
    def places(self):
        return 1


@ViT.mistake(
    "There is no `position_embedding`, nor anything in its place. Without positions the encoder sees a bag of patches.",
    source="https://github.com/WZMIAOMIAO/deep-learning-for-image-processing/issues/603 (why learn positions?)",
)
class no_positions(_ViT):
    def __init__(self, *sizes, **named):
        super().__init__(*sizes, **named)
        del self.position_embedding

    def embed(self, images):
        return self.joined(self.patch_embedding(images))


@ViT.mistake(
    "The positions exist, but they are never added: the tokens enter the encoder without them.",
    source="A table made in `__init__` and forgotten in `forward`: nothing raises, and the model still learns.",
)
class positions_not_added(_ViT):
    def embed(self, images):
        return self.joined(self.patch_embedding(images))


@ViT.mistake(
    "These are probabilities. `F.cross_entropy` takes logits and applies the softmax itself; with two of them the loss "
    "can't come near 0.",
    source="https://github.com/bkitano/llama-from-scratch/issues/5",
)
class softmax_at_the_end(_ViT):
    def forward(self, images):
        return super().forward(images).softmax(dim=-1)


@ViT.mistake(
    "A GELU follows the head. Logits must be free to be negative: the head is one linear layer and nothing else.",
    source="https://github.com/lucidrains/vit-pytorch/issues/255 (which bend belongs into the head?)",
)
class gelu_at_the_end(_ViT):
    def forward(self, images):
        return F.gelu(super().forward(images))


@ViT.mistake(
    "Images that the patches don't divide are cropped in silence, as a convolution does. The task asks for an error.",
    source="https://github.com/lucidrains/vit-pytorch/issues/28 (what becomes of 220 pixels with patches of 16?)",
)
class cropped_in_silence(_ViT):
    def __init__(self, num_channels, image_size, patch_size, hidden_size, *sizes, **named):
        super().__init__(num_channels, image_size, patch_size, hidden_size, *sizes, **named)
        self.patch_embedding = nn.Conv2d(num_channels, hidden_size, patch_size, stride=patch_size)

    def embed(self, images):
        return self.joined(self.patch_embedding(images).flatten(2).mT) + self.position_embedding


def _renamed(vit: nn.Module, **names: str) -> None:
    for old, new in names.items():
        part = getattr(vit, old)
        delattr(vit, old)
        setattr(vit, new, part)


@ViT.mistake(
    "There is no `class_token`; `cls_token`, timm's name for it, is there. The check fills the parts by the names in "
    "the table.",
    source="cls_token in VisionTransformer of https://github.com/huggingface/pytorch-image-models",
)
class class_token_renamed(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        _renamed(self, class_token="cls_token")


@ViT.mistake(
    "There is no `class_token`; yours seems to be called `class_embedding`. The check fills the parts by the names in "
    "the table.",
    source="class_embedding in model.py of https://github.com/openai/CLIP",
)
class class_token_called_embedding(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        _renamed(self, class_token="class_embedding")


@ViT.mistake(
    "There is no `position_embedding`; `pos_embed`, timm's name for it, is there. The check fills the parts by the "
    "names "
    "in the table.",
    source="pos_embed in VisionTransformer of https://github.com/huggingface/pytorch-image-models",
)
class positions_renamed(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        _renamed(self, position_embedding="pos_embed")


@ViT.mistake(
    "[CLS] and the positions have timm's names, `cls_token` and `pos_embed`. The check fills the parts by the names in "
    "the table.",
    source="VisionTransformer of https://github.com/huggingface/pytorch-image-models",
)
class both_renamed(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        _renamed(self, class_token="cls_token", position_embedding="pos_embed")


@ViT.mistake(
    "These are timm's names: `patch_embed`, `cls_token`, `pos_embed`. The check fills the parts by the names in the "
    "table.",
    source="VisionTransformer of https://github.com/huggingface/pytorch-image-models",
)
class three_renamed(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        _renamed(self, class_token="cls_token", position_embedding="pos_embed", patch_embedding="patch_embed")


@ViT.mistake(
    "There is no `class_token`, nor anything in its place. The task asks for [CLS], a learned vector before the "
    "patches.",
    source="https://github.com/keras-team/keras/issues/19683 (an example without [CLS])",
)
class no_cls(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        del self.class_token


@ViT.mistake(
    "`position_embedding` holds nothing to learn. In this ViT the positions are parameters, like [CLS].",
    source="https://github.com/WZMIAOMIAO/deep-learning-for-image-processing/issues/603 (why learn positions?)",
)
class fixed_positions(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        table = self.position_embedding.detach()
        del self.position_embedding
        self.register_buffer("position_embedding", table)


@ViT.mistake(
    "The number of positions fits a square image only: rows are counted twice. N is rows times columns.",
    source="https://github.com/yitu-opensource/T2T-ViT/issues/76",
)
class rows_squared(_ViT):
    def __init__(self, num_channels, image_size, *sizes):
        super().__init__(num_channels, (image_size[0], image_size[0]), *sizes)


@ViT.mistake(
    "The number of positions fits a square image only: columns are counted twice. N is rows times columns.",
    source="https://github.com/yitu-opensource/T2T-ViT/issues/76 (the same, with rows)",
)
class columns_squared(_ViT):
    def __init__(self, num_channels, image_size, *sizes):
        super().__init__(num_channels, (image_size[1], image_size[1]), *sizes)


@ViT.mistake(
    "Positions are counted in pixels: H W + 1 of them instead of N + 1. Tokens are patches.",
    source="`H * W` without the division by P squared: expected, no published case found.",
)
class one_position_a_pixel(_ViT):
    def __init__(self, num_channels, image_size, patch_size, *sizes):
        super().__init__(num_channels, [patch_size * side for side in image_size], patch_size, *sizes)


@ViT.mistake(
    "The head has no bias: n_c numbers are missing.",
    source="`bias=False` in the last layer, as in language models: expected, no published case found.",
)
class head_without_bias(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.head = nn.Linear(self.head.in_features, self.head.out_features, bias=False)


@ViT.mistake(
    "The patch embedding has no bias: D numbers are missing.",
    source="`bias=False` in the convolution, as in CLIP's conv1 (https://github.com/openai/CLIP, model.py).",
)
class patches_without_bias(_ViT):
    def __init__(self, num_channels, image_size, patch_size, hidden_size, *sizes):
        super().__init__(num_channels, image_size, patch_size, hidden_size, *sizes)
        self.patch_embedding = nn.Conv2d(num_channels, hidden_size, patch_size, patch_size, bias=False)


@ViT.mistake(
    "The head reads row 1, the first patch. [CLS] stands in row 0.",
    source="`x[:, 1]`, counting from 1: expected, no published case found.",
)
class row_1_read(_ViT):
    def read(self, tokens):
        return tokens[:, 1]


class _Convolved(_ViT):
    def __init__(self, num_channels, image_size, patch_size, hidden_size, *sizes):
        super().__init__(num_channels, image_size, patch_size, hidden_size, *sizes)
        self.size = tuple(image_size)
        self.patch_embedding = nn.Conv2d(num_channels, hidden_size, patch_size, patch_size)

    def patches(self, grid):
        return grid.flatten(2).mT

    def embed(self, images):
        if tuple(images.shape[2:]) != self.size:
            raise ValueError(f"images must be of size {self.size}")
        return self.joined(self.patches(self.patch_embedding(images))) + self.position_embedding


@ViT.mistake(
    "The shape of the patches is right, but the numbers are mixed up: a convolution's (B, D, rows, columns) was cut "
    "anew "
    "by `reshape` or `view`. Move the axis of D to the end.",
    source="https://github.com/gupta-abhay/pytorch-vit/issues/7 (`view` where axes must be moved)",
)
class reshaped_without_moving_axes(_Convolved):
    def patches(self, grid):
        return grid.reshape(len(grid), -1, grid.shape[1])


@ViT.mistake(
    "The patches come in another order: down the columns. A ViT counts them row by row, like text.",
    source="Axes of the grid swapped before flattening: expected, no published case found.",
)
class column_by_column(_Convolved):
    def patches(self, grid):
        return grid.mT.flatten(2).mT


@ViT.mistake(
    "Each patch is flattened with the channel last, (P, P, C). Here the order is (C, P, P), as in a convolution's "
    "weights.",
    source="'(p1 p2 c)' in vit.py of https://github.com/lucidrains/vit-pytorch",
)
class channel_last_in_a_patch(_ViT):
    def embed(self, images):
        size = self.patch_embedding.patch_size
        grid = images.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # (B, C, rows, P, columns, P)
        other = grid.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2)
        return self.joined(F.linear(other, *self.weights())) + self.position_embedding

    def weights(self):
        weight, bias = _parameters(self.patch_embedding)
        return weight.flatten(1), bias


@ViT.mistake(
    "[CLS] enters the encoder without a position: only the patches get theirs. Position 0 belongs to [CLS].",
    source="`patches + positions[:, 1:]`, as in facebookresearch/mae, which adds position 0 to [CLS] on another line.",
)
class cls_without_a_position(_ViT):
    def embed(self, images):
        tokens = self.patch_embedding(images) + self.position_embedding[:, 1:]
        return self.joined(tokens)


@ViT.mistake(
    "The positions are added behind the encoder, when attention has already run without them.",
    source="Two lines of `forward` in the wrong order: expected, no published case found.",
)
class positions_behind_the_encoder(_ViT):
    def forward(self, images):
        tokens = self.encoder(self.joined(self.patch_embedding(images)))
        return self.head(self.read(tokens + self.position_embedding))


@ViT.mistake(
    "The encoder is never run: the head reads [CLS] as it was before it saw a patch.",
    source="`self.encoder(x)` computed and not kept, or left out: expected, no published case found.",
)
class encoder_left_out(_ViT):
    def forward(self, images):
        return self.head(self.read(self.embed(images)))


def _with_encoder(*order: str) -> type[_ViT]:
    class Swapped(_ViT):
        def __init__(self, num_channels, image_size, patch_size, D, L, h, M, num_classes):
            super().__init__(num_channels, image_size, patch_size, D, L, h, M, num_classes)
            sizes = {"L": L, "D": D, "h": h, "M": M, "1": 1, "4D": 4 * D}
            self.encoder = _Encoder(*(sizes[letter] for letter in order))

    return Swapped


@ViT.mistake(
    "Heads and layers are swapped on the way to `Encoder`: it gets h blocks of L heads.",
    source="https://github.com/kpot/keras-transformer/issues/37 (asks what sets depth and heads apart)",
)
class heads_and_layers_swapped(_with_encoder("h", "D", "L", "M")):
    pass


@ViT.mistake(
    "Width and depth are swapped on the way to `Encoder`, which takes the number of blocks first: it gets D blocks of "
    "width L.",
    source="The order of ViT's own arguments, carried over to the encoder's: expected, no published case found.",
)
class width_and_depth_swapped(_with_encoder("D", "L", "h", "M")):
    pass


@ViT.mistake(
    "The encoder's MLPs are 4 D wide, whatever `M` says.",
    source="`4 * D` in place of the argument, as in minGPT's Block (https://github.com/karpathy/minGPT).",
)
class encoder_always_four_times_wide(_with_encoder("L", "D", "h", "4D")):
    pass


@ViT.mistake(
    "The encoder is made with one head, whatever `h` says.",
    source="https://github.com/chinhsuanwu/mobilevit-pytorch/issues/6 (one head, and why)",
)
class encoder_with_one_head(_with_encoder("L", "D", "1", "M")):
    pass


@ViT.mistake(
    "[CLS] and positions start too large: `torch.randn` has deviation 1, `torch.rand` 0.29. The task asks for 0.02, so "
    "that at the start the patches are heard.",
    source="`nn.Parameter(torch.randn(1, 1, dim))` in vit.py of https://github.com/lucidrains/vit-pytorch",
)
class starts_too_large(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.class_token = nn.Parameter(torch.randn(self.class_token.shape))
        self.position_embedding = nn.Parameter(torch.randn(self.position_embedding.shape))


@ViT.mistake(
    "The positions start too large: `torch.randn` has deviation 1, `torch.rand` 0.29. The task asks for 0.02.",
    source="`pos_embedding = nn.Parameter(torch.randn(...))` in https://github.com/lucidrains/vit-pytorch",
)
class positions_start_too_large(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.position_embedding = nn.Parameter(torch.randn(self.position_embedding.shape))


@ViT.mistake(
    "[CLS] and positions start at 0. Both can be learned from there; the task asks for random numbers of deviation "
    "0.02.",
    source="https://github.com/jeonsworld/ViT-pytorch/issues/6 ('why the position_embeddings and the cls_token are "
    "zeros?')",
)
class starts_at_zero(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.class_token = nn.Parameter(torch.zeros(self.class_token.shape))
        self.position_embedding = nn.Parameter(torch.zeros(self.position_embedding.shape))


@ViT.mistake(
    "[CLS] starts at 0, as in the paper's own code. That works; this task asks for random numbers of deviation 0.02.",
    source="`cls` with zeros initialisation in https://github.com/google-research/vision_transformer, models_vit.py.",
)
class cls_starts_at_zero(_ViT):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.class_token = nn.Parameter(torch.zeros(self.class_token.shape))


# ---- 4.6 the first loss


def _loss_cases(generator: Generator) -> Iterator[Case]:
    for low, high in ((2, 9), (11, 99), (101, 999)):
        classes = integer(low, high, generator)
        yield Case(f"{classes} classes", {"num_classes": classes})


first_loss = Exercise("first_loss", 2, "08-training#2 Two checks before any training", math.log, _loss_cases)


@first_loss.mistake(
    "That is the probability of the true class. The loss is minus its logarithm.",
    source="The belief 'the loss is the share of errors or of hits': questions on what a loss of 2.3 means.",
)
def the_probability(num_classes):
    return 1 / num_classes


@first_loss.mistake(
    "This logarithm has base 2 and counts bits. Cross-entropy in PyTorch uses the natural one.",
    source="Shannon's entropy in bits, as in most introductions to information theory.",
)
def in_bits(num_classes):
    return math.log2(num_classes)


@first_loss.mistake(
    "This logarithm has base 10. Cross-entropy in PyTorch uses the natural one.",
    source="`log10`, or a calculator's log key, for the natural logarithm.",
)
def base_ten(num_classes):
    return math.log10(num_classes)


@first_loss.mistake(
    "The sign is off: the logarithm of a probability is negative, and the loss is minus that.",
    source="https://karpathy.github.io/2019/04/25/recipe/ writes -log(1/n_classes); the minus is easily lost.",
)
def without_the_minus(num_classes):
    return -math.log(num_classes)


@first_loss.mistake(
    "This is the loss of guessing wrong, 1 - 1/n_c. Cross-entropy is no share of errors: it takes a logarithm.",
    source="The error rate of guessing taken for the loss.",
)
def the_error_rate(num_classes):
    return 1 - 1 / num_classes


@first_loss.mistake(
    "This leaves the true class out of the count: n_c - 1 instead of n_c. An untrained model gives all n_c classes "
    "the same.",
    source="The belief that the loss counts the wrong classes only.",
)
def wrong_classes_only(num_classes):
    return math.log(num_classes - 1) if num_classes > 2 else 0.0


# ---- 4.7 one batch by heart

THRESHOLD, STEPS = 0.3, 100  # AdamW at 3e-4 needs fewer than 90
ENOUGH = 3  # forward passes for each step that is allowed, and a few more; then the check stops a loop


def _batch_cases(generator: Generator) -> Iterator[Case]:
    for batch, classes in ((4, 3), (6, 4), (5, 3)):
        images = 2 * torch.randn(batch, 2, 3, 5, generator=generator)
        labels, steps, note = torch.arange(batch) % classes, STEPS, ""
        if batch == 4:  # each image twice, with two labels: the threshold is out of reach
            images, labels, steps = images[[0, 0, 1, 1]], torch.tensor([0, 1, 2, 0]), integer(7, 9, generator)
            note = " (each image twice, with two labels, so it can't be learned)"
        model = nn.Sequential(nn.Flatten(), nn.Linear(30, 64), nn.GELU(), nn.Linear(64, classes))
        for layer in (model[1], model[3]):
            nn.init.zeros_(layer.bias)
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator) / layer.in_features**0.5
        arguments = {"model": model, "images": images, "labels": labels, "threshold": THRESHOLD, "max_steps": steps}
        yield Case(f"{batch} images{note}, {classes} classes, at most {steps} losses", arguments)


class _Enough(Exception):
    """The model was called far more often than `max_steps` allows."""


@contextlib.contextmanager
def _optimisers() -> Iterator[list[object]]:
    """The optimisers made meanwhile."""
    made, init = [], torch.optim.Optimizer.__init__

    def counted(self: object, *arguments: object, **named: object) -> None:
        made.append(self)
        init(self, *arguments, **named)

    torch.optim.Optimizer.__init__ = counted
    try:
        yield made
    finally:
        torch.optim.Optimizer.__init__ = init


def _which_loss(first: float, seen: list[Tensor], labels: Tensor) -> str:
    """In words, of what a number is the loss."""

    def is_loss(logits: Tensor, **options: str) -> bool:
        return math.isclose(first, F.cross_entropy(logits, labels, **options).item(), rel_tol=1e-3)

    start = seen[0]
    if is_loss(start):
        return "that of the model as it came"
    if is_loss(start, reduction="sum"):
        return "the sum over the images, not the mean"
    if is_loss(start.softmax(dim=1)):
        return "that of probabilities, not of logits"
    if any(is_loss(logits) for logits in seen[1:3]):
        return "that of the model after a step"
    orders = torch.tensor(list(itertools.permutations(range(len(labels)))))
    mixed = -start.log_softmax(dim=1)[torch.arange(len(labels)), labels[orders]].mean(dim=1)
    return "that of labels in another order" if torch.isclose(mixed, torch.tensor(first)).any() else "another number"


def _end(losses: list[float], seen: list[Tensor], labels: Tensor, threshold: float, max_steps: int) -> str:
    """In words, where the list ends."""
    below = [place for place, loss in enumerate(losses) if loss < threshold]
    if below:
        last = below[0] == len(losses) - 1
        return "with the first loss below the threshold" if last else "later than the first loss below the threshold"
    if len(losses) == max_steps:
        return f"after {max_steps} losses, none below the threshold"
    if len(losses) == len(seen) - 1 and F.cross_entropy(seen[-1], labels) < threshold:
        return "one loss too early: the model has come below the threshold, and that loss isn't listed"
    return f"after {len(losses)} of {max_steps} losses, none below the threshold"


def _batch_run(
    answer, model: nn.Module, images: Tensor, labels: Tensor, threshold: float, max_steps: int
) -> Iterator[tuple[str, object]]:
    mine, alone, seen, flows = copy.deepcopy(model), [], [], []
    watched = mine[3].weight  # what arrives, against what lies there once it is added
    watched.register_hook(lambda gradient: alone.append([gradient.clone(), None]))
    watched.register_post_accumulate_grad_hook(lambda weight: alone[-1].__setitem__(1, weight.grad.clone()))

    def look(_: nn.Module, __: object, logits: Tensor) -> None:
        if len(seen) > ENOUGH * max_steps + 20:
            raise _Enough
        seen.append(logits.detach())
        flows.append(logits.requires_grad)

    mine.register_forward_hook(look)  # a copy of the model has it too
    losses, error = None, None
    with _optimisers() as made:
        try:
            losses = answer(mine, images, labels, threshold, max_steps)
        except Exception as raised:
            error = raised
    yield "the model is run", ("with" if any(flows) else "without") + " a graph for `backward`" if seen else "never"
    if isinstance(error, _Enough):
        yield "the list of losses ends", "never: the check stopped the loop, far beyond `max_steps`"
        return
    if error is not None:
        raise error
    listed = isinstance(losses, (list, tuple)) or (isinstance(losses, Tensor) and losses.ndim == 1)
    single = isinstance(losses, (int, float)) or (isinstance(losses, Tensor) and losses.ndim == 0)
    yield "what comes back", None if losses is None else "a list" if listed else "one number" if single else "no list"
    if not listed or not seen or seen[0].shape[0] != len(labels):
        return
    graph = any(isinstance(loss, Tensor) and loss.requires_grad for loss in losses)
    yield "the losses are kept as", "tensors with their graphs" if graph else "numbers"
    losses = [float(loss.detach() if isinstance(loss, Tensor) else loss) for loss in losses]
    yield "the first loss is", _which_loss(losses[0], seen, labels) if losses else "missing: the list is empty"
    moved = not torch.equal(mine[3].weight, model[3].weight)
    yield "the model's weights afterwards are", "other ones" if moved else "those that they were"
    stands = all(kept is None or torch.allclose(new, kept, atol=1e-7) for new, kept in alone)
    yield "each gradient", "stands alone" if stands else "is added to those before"
    yield "the list of losses ends", _end(losses, seen, labels, threshold, max_steps)
    yield "optimisers made", "one at most" if len(made) < 2 else "more than one"


def _overfit(
    model,
    images,
    labels,
    threshold=0.1,
    max_steps=500,
    lr=3e-3,
    loss_of=F.cross_entropy,
    keep=False,
    of=torch.Tensor.item,
):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    losses: list[float] = []
    while len(losses) < max_steps:
        loss = loss_of(model(images), labels)
        losses.append(of(loss))
        if loss.item() < threshold:
            break
        if not keep:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


overfit_one_batch = Exercise(
    "overfit_one_batch",
    4,
    "08-training#2 Two checks before any training",
    _overfit,
    _batch_cases,
    run=_batch_run,
    repeat=False,
    seconds=20,
)


@overfit_one_batch.mistake(
    "The model's weights never move. Does the optimiser take a step, and does it hold the parameters of this model?",
    source="https://karpathy.github.io/2019/04/25/recipe/ (the check is there to find such bugs)",
)
def never_a_step(model, images, labels, threshold, max_steps):
    return [F.cross_entropy(model(images), labels).item()] * max_steps


@overfit_one_batch.mistake(
    "Gradients pile up: each `backward` adds to what the steps before left. Clear them before every `backward`.",
    source="https://github.com/yastrebksv/TennisCourtDetector/issues/7",
)
def gradients_pile_up(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps, keep=True)


@overfit_one_batch.mistake(
    "A softmax stands before `F.cross_entropy`, which applies one itself. The first loss already differs, and the last "
    "can't come near 0.",
    source="https://github.com/nishnik/Deep-Semantic-Similarity-Model-PyTorch/issues/2",
)
def probabilities_into_the_loss(model, images, labels, threshold, max_steps):
    def loss(logits, labels):
        return F.cross_entropy(logits.softmax(dim=1), labels)

    return _overfit(model, images, labels, threshold, max_steps, loss_of=loss)


@overfit_one_batch.mistake(
    "Your losses are sums over the batch. The task takes the mean, which doesn't grow with the number of images.",
    source="reduction='sum' in torch.nn.functional.cross_entropy, needed elsewhere to add up epochs.",
)
def sums_over_the_batch(model, images, labels, threshold, max_steps):
    loss = functools.partial(F.cross_entropy, reduction="sum")
    return _overfit(model, images, labels, threshold, max_steps, loss_of=loss)


@overfit_one_batch.mistake(
    "The model runs without building a graph, so `backward` has nothing to follow. `no_grad` belongs to evaluation.",
    source="'element 0 of tensors does not require grad', the error under many PyTorch forum questions.",
)
def without_gradients(model, images, labels, threshold, max_steps):
    with torch.no_grad():
        return _overfit(model, images, labels, threshold, max_steps)


@overfit_one_batch.mistake(
    "A copy of the model is trained. The one that was handed in stays as it was, and that is the one to be tested.",
    source="copy.deepcopy(model) before training, to be able to start again, and the copy never handed back.",
)
def a_copy_is_trained(model, images, labels, threshold, max_steps):
    return _overfit(copy.deepcopy(model), images, labels, threshold, max_steps)


@overfit_one_batch.mistake(
    "The weights move, but all steps are used up with the loss above the threshold. Try ten times the learning rate, "
    "and a tenth. Then look whether each step uses the same images and labels.",
    source="2e-5 to 5e-5, BERT's rates for fine-tuning (Devlin et al., 2019, appendix A.3), used from scratch.",
)
def a_tiny_learning_rate(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps, lr=1e-6)


@overfit_one_batch.mistake(
    "It goes on after the threshold is passed. The list should end with the first loss below it.",
    source="`for step in range(steps)` with no way out, as in notebook 08's `overfit`, where that is enough.",
)
def never_stops(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, 0.0, max_steps)


@overfit_one_batch.mistake(
    "One number comes back. To see how the batch was learned, return the loss of every step, in a list.",
    source="`return loss.item()` at the end of a training function, as in notebook 08's `overfit`.",
)
def only_the_last_loss(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps)[-1]


@overfit_one_batch.mistake(
    "Nothing comes back. Training has run, but the function ends without handing out its list.",
    source="A function without `return`: expected, no published case found.",
)
def nothing_comes_back(model, images, labels, threshold, max_steps):
    _overfit(model, images, labels, threshold, max_steps)


@overfit_one_batch.mistake(
    "Each loss hangs on its graph: the list keeps tensors that `backward` could follow, so memory fills and a plot "
    "raises an error. Keep the number alone.",
    source="https://github.com/rballester/tntorch/pull/19 (a loss history that kept every graph)",
)
def losses_with_their_graphs(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps, of=lambda loss: loss)


@overfit_one_batch.mistake(
    "Nothing ends the loop when the threshold is out of reach: `max_steps` isn't used. After that many losses it must "
    "stop too.",
    source="`while loss > threshold`, or a number in place of `max_steps`: expected, no published case found.",
)
def max_steps_not_used(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps=10**6)


@overfit_one_batch.mistake(
    "The list has one loss more than `max_steps`. It ends with the first loss below the threshold, or with loss number "
    "`max_steps`.",
    source="Off by one, `range(max_steps + 1)`: expected, no published case found.",
)
def one_loss_too_many(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps + 1)


@overfit_one_batch.mistake(
    "When the threshold is out of reach, the list has one loss fewer than `max_steps`.",
    source="Off by one, `range(1, max_steps)`: expected, no published case found.",
)
def one_loss_too_few(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps - 1)


@overfit_one_batch.mistake(
    "The loss that ends the loop isn't in the list: you leave before you append it. It belongs there, as the last one.",
    source="`append` behind the `break`: expected, no published case found.",
)
def last_loss_unlisted(model, images, labels, threshold, max_steps):
    losses = _overfit(model, images, labels, threshold, max_steps)
    return losses[:-1] if losses[-1] < threshold else losses


@overfit_one_batch.mistake(
    "Training ends after one step. Does the `return` stand inside the loop?",
    source="A `return` indented too far: expected, no published case found.",
)
def return_after_one_step(model, images, labels, threshold, max_steps):
    return _overfit(model, images, labels, threshold, max_steps=1)


@overfit_one_batch.mistake(
    "The loop ends at the first loss, before any step, although that loss is above the threshold. Look at the "
    "condition "
    "for leaving, and where the `return` stands.",
    source="`if loss > threshold: break`, the comparison turned round: expected, no published case found.",
)
def leaves_before_a_step(model, images, labels, threshold, max_steps):
    return [F.cross_entropy(model(images), labels).item()]


@overfit_one_batch.mistake(
    "The model's logits have a graph, but your loss hasn't: something between them cuts it. `argmax`, `detach`, "
    "`.item()` "
    "and a new `torch.tensor` do.",
    source="https://github.com/LZGMatrix/BOP19_CDPN_2019ICCV/issues/4 (`argmax` before the loss)",
)
def loss_cut_from_the_logits(model, images, labels, threshold, max_steps):
    def loss(logits, labels):
        return (logits.argmax(dim=1).float() - labels).square().mean()

    return _overfit(model, images, labels, threshold, max_steps, loss_of=loss)


@overfit_one_batch.mistake(
    "The first loss is that of a model already changed. Keep each loss as it was before its step: the first one shows "
    "the model as it came.",
    source="The loss computed once more after `step`, and that one kept: expected, no published case found.",
)
def losses_after_the_step(model, images, labels, threshold, max_steps):
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(max_steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        losses.append(F.cross_entropy(model(images), labels).item())
        if losses[-1] < threshold:
            break
    return losses


@overfit_one_batch.mistake(
    "The first loss belongs to labels in another order than yours came in. Mixed anew, they lose their images, and "
    "there "
    "is nothing to learn by heart.",
    source="Notebook 08, section 2: labels that lose their images.",
)
def labels_mixed(model, images, labels, threshold, max_steps):
    draws, orders = Generator().manual_seed(0), {4: [1, 2, 0, 3], 5: [1, 2, 0, 3, 4], 6: [1, 2, 3, 0, 4, 5]}

    def loss(logits, labels):
        order = orders.pop(len(labels), None) or torch.randperm(len(labels), generator=draws)
        return F.cross_entropy(logits, labels[order])

    return _overfit(model, images, labels, threshold, max_steps, loss_of=loss)


@overfit_one_batch.mistake(
    "A new optimiser is made at each step, so it forgets what it remembers of earlier ones: for Adam, both its means. "
    "Make it once, before the loop.",
    source="https://github.com/alan-turing-institute/deepsensor/issues/47 (a new Adam at each epoch)",
)
def a_new_optimiser_each_step(model, images, labels, threshold, max_steps):
    losses: list[float] = []
    while len(losses) < max_steps:
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        loss = F.cross_entropy(model(images), labels)
        losses.append(loss.item())
        if losses[-1] < threshold:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


# ---- 4.8 train past an accuracy

ACCURACIES = (30, 60, 70, 78)
CLASSES = 10


@functools.cache
def _set(split: str) -> ImageSet:
    return load("fashion-mnist", split=split)


@functools.cache
def _inputs(split: str) -> Tensor:
    return _set(split).inputs()


def _features(images: Tensor) -> Tensor:
    """A random layer on shrunken images: what a ridge regression makes a fair classifier of."""
    small = F.avg_pool2d(images, 2).flatten(1)
    weights = torch.randn(small.shape[1], 600, generator=Generator().manual_seed(0))
    return torch.cat([(small @ weights / 16).relu(), torch.ones(len(images), 1)], dim=1)


@functools.cache
def _readout() -> Tensor:
    features, targets = _features(_inputs("train")), F.one_hot(_set("train").labels, CLASSES).float()
    return torch.linalg.solve(features.T @ features + 50 * torch.eye(features.shape[1]), features.T @ targets)


def _stand_in(images: Tensor) -> Tensor:
    """As good as a trained model, and there at once."""
    return 8 * (_features(images) @ _readout())


def _nearest(images: Tensor, known: ImageSet) -> Tensor:
    distances = torch.cdist(images.flatten(1), known.inputs().flatten(1)).clamp(min=1)  # near 0 it isn't exact
    return torch.stack([-distances[:, known.labels == label].amin(dim=1) for label in range(CLASSES)], dim=1)


def _trained_cases(generator: Generator) -> Iterator[Case]:
    order = torch.randperm(len(_set("test")), generator=generator)
    yield Case(f"all {len(order)} test images, mixed anew", {"order": order})


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).double().mean().item()


@torch.no_grad()
def _logits(model, images: Tensor) -> Tensor:
    return torch.cat([torch.as_tensor(model(part)).float() for part in images.split(250)])


@torch.no_grad()
def _facts(model, order: Tensor) -> Iterator[tuple[str, bool, str, str]]:
    """What is looked at, whether it is so, and words for both; from the outside in."""
    images, labels = _inputs("test")[order], _set("test").labels[order]
    logits = _logits(model, images)
    yield (
        "each image gets",
        logits.shape == (len(images), CLASSES),
        "ten numbers",
        f"a shape of {tuple(logits.shape)[1:]}",
    )
    yield "two calls with the same images", torch.equal(logits[:250], _logits(model, images[:250])), "agree", "differ"
    yield "the model is in", not getattr(model, "training", False), "evaluation mode", "training mode"
    free = bool(logits.min() < 0) or not logits.sum(dim=1).allclose(torch.ones(1))
    yield "the ten numbers are", free, "logits", "probabilities"
    few = torch.cat([_logits(model, images[place : place + 1]) for place in range(8)])
    alone = few.allclose(logits[:8], rtol=1e-2, atol=1e-2)
    yield "an image alone and in a batch", alone, "gets the same logits", "gets other logits"
    answers = len(logits.argmax(dim=1).unique())
    yield "the answers to 1,000 images are", answers > 1, "several classes", "one class, always"
    accuracy = _accuracy(logits, labels)
    print(f"{100 * accuracy:.1f} % of the test images are right")
    pixels = _set("test").images[order[:250]].float()
    raw = max(_accuracy(_logits(model, changed), labels[:250]) for changed in (pixels, pixels / 255))
    normal = raw < 0.4 or raw < _accuracy(logits[:250], labels[:250]) + 0.05
    yield "images that aren't normalised are known", normal, "no better", "better than normalised ones"
    unseen, answers = _logits(model, _inputs("validation")), _set("validation").labels
    ahead = accuracy - _accuracy(unseen, answers)
    # Four models of 150 and 300 steps on training images: ahead -0.013 to 0.007, ratio of losses 1.00 to 1.04.
    # Two of 150 steps on test images: 0.046 and 0.053, 0.84 and 0.85.
    costs = F.cross_entropy(logits, labels) / F.cross_entropy(unseen, answers)
    honest = ahead < 0.08 and (ahead < 0.03 or costs > 0.93)
    yield "test images are known", honest, "as well as validation images", "better than validation images"
    for wanted in ACCURACIES:
        yield f"at least {wanted} % of the test images right", 100 * accuracy >= wanted, "yes", "no"


trained = TrainedModel(
    "trained",
    5,
    "08-training#1 Three sets of images",
    _stand_in,
    _trained_cases,
    run=one_by_one(_facts),
    seconds=60,
)


@trained.mistake(
    "It knows little more than a guess. That can have several causes, so look at three: do the labels still belong to "
    "their images when you mix them; does the optimiser hold this model; is the learning rate far too high or too low?",
    source="Notebook 08, section 2: labels that lose their images; the same check as in "
    "https://karpathy.github.io/2019/04/25/recipe/",
)
def as_good_as_guessing(images):
    return images.flatten(1) @ torch.randn(images[0].numel(), CLASSES, generator=Generator().manual_seed(3))


def _known(number: int, images: Tensor) -> Tensor:
    """Nearest of a few training images of each class."""
    train = _set("train")
    known = torch.cat([(train.labels == label).nonzero()[:number, 0] for label in range(CLASSES)])
    return _nearest(images, train.subset(known))


@trained.mistake(
    "It has learned something, but little: 30 to 60 percent. Look at three things: does your loop use all training "
    "images; does it go through them several times; would ten times the learning rate, or a tenth, do better?",
    source="https://karpathy.github.io/2019/04/25/recipe/ (overfit one batch first: and then the loop stays so)",
)
def one_batch_only(images):
    return _known(2, images)


@trained.mistake(
    "60 to 70 percent: the loop works, the recipe is weak. Look at three things: the number of passes; the learning "
    "rate, "
    "also ten times as high (SGD needs far more than Adam); how many images you leave out.",
    source="SGD with Adam's learning rate, or a single pass: expected, no published case found.",
)
def a_weak_recipe(images):
    return _known(8, images)


@trained.mistake(
    "Over 70 percent: all is in place, a little is missing. Look at two things: a few more passes, and a learning rate "
    "that falls towards 0 at the end.",
    source="Training stopped early, or at a constant rate: expected, no published case found.",
)
def nearly_there(images):
    return _known(80, images)


@trained.mistake(
    "Whatever the image, the answer is the same class. That can have several causes, so look at three: is the learning "
    "rate too high (try a tenth); do the labels still belong to their images; does the same model learn one batch, "
    "as in 4.7?",
    source="Collapse without warm-up: Xiong et al., 2020, arXiv:2002.04745; labels that lose their images: notebook "
    "08.",
)
def always_the_same_class(images):
    return torch.tensor([0.5, -0.1] + [0.0] * (CLASSES - 2)).expand(len(images), -1)


@trained.mistake(
    "Two calls on the same images differ, so there is chance in the model. Look at two things: does dropout still run, "
    "which evaluation mode switches off; are weights drawn in `forward`?",
    source="https://github.com/Coderx7/SimpleNet/issues/2",
)
def dropout_left_on(images):
    return F.dropout(_stand_in(images), 0.3)


@trained.mistake(
    "The model comes back in training mode. Nothing shows yet; with dropout in it, every answer would be left to "
    "chance.",
    source="https://github.com/sinhasam/vaal/issues/2",
)
def evaluation_mode_forgotten(images):
    return _stand_in(images)


evaluation_mode_forgotten.training = True  # as a module has it


@trained.mistake(
    "It returns probabilities. If you trained it so, `F.cross_entropy` applied a second softmax to them, and the loss "
    "couldn't come near 0.",
    source="https://github.com/illiterate/BertClassifier/issues/2",
)
def probabilities(images):
    return _stand_in(images).softmax(dim=1)


@trained.mistake(
    "An image alone gets other logits than in a batch: the images of a batch look at each other. Are batch and tokens "
    "mixed up, or is there a BatchNorm?",
    source="https://github.com/floodsung/LearningToCompare_FSL/issues/48",
)
def images_look_at_each_other(images):
    logits = _stand_in(images)
    return logits - logits.mean(dim=0)


@trained.mistake(
    "It does better on raw pixels than on normalised ones, so it was trained on raw pixels. `train_set.inputs` "
    "normalises; `train_set.images` doesn't.",
    source="https://github.com/jchen42703/kits19-cnn/issues/22",
)
def trained_on_raw_pixels(images):
    if images.amin() < 0:
        return as_good_as_guessing(images)
    test = _set("test")
    scale = 255.0 if images.amax() > 1 else 1.0
    return _stand_in(test.normalise((images / scale * 255).round()))


@trained.mistake(
    "It knows the test images better than the validation images, more than chance explains: it has learned from "
    "them. A "
    "test set is for measuring, once, at the end.",
    source="https://github.com/Naresh1318/GenderClassifier/issues/1",
)
def trained_on_test_images(images):
    return _nearest(images, _set("test"))
