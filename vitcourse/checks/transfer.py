"""Sheet 7, transfer.

Longer than 150 lines because eleven tasks and the beliefs that lead astray in them stand on one page.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vitcourse import functional, transfer
from vitcourse.checks.exercise import Case, Exercise, _what, integer
from vitcourse.checks.report import Report
from vitcourse.checks.watch import Outcome
from vitcourse.config import ViTConfig
from vitcourse.data import ImageSet, load
from vitcourse.model import VisionTransformer


@torch.no_grad()
def _vit(
    generator: Generator, num_classes: int, width: int = 8, layers: int = 2, **changes: object
) -> VisionTransformer:
    """A small ViT for images (2, 4, 6), all of its numbers drawn, none of them 0."""
    config = ViTConfig(
        num_channels=2,
        image_size=(4, 6),
        patch_size=2,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=12,
        num_classes=num_classes,
        **changes,
    )
    with torch.random.fork_rng(devices=[]):
        model = VisionTransformer(config)
    for name, parameter in model.named_parameters():
        size = 0.1 if "norm" in name else 0.5
        parameter.copy_(size * torch.randn(parameter.shape, generator=generator) + ("norm" in name))
    return model.eval()


def _images(generator: Generator) -> Tensor:
    return torch.randn(3, 2, 4, 6, generator=generator)


def _in_head(name: str) -> bool:
    return name.startswith("head.")


def _head(parameters: Iterator[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    return [parameter for name, parameter in parameters if _in_head(name)]


def _back(back: object, model: nn.Module) -> str | None:
    """In words, whether a function returned the model that it was given."""
    if back is model or back is None:
        return None if back is None else "the model that was handed in"
    return "another model" if isinstance(back, nn.Module) else _what(back)


# ---- 7.1 a new head


def _new_head_cases(generator: Generator) -> Iterator[Case]:
    old = integer(4, 6, generator)
    for new in (old + integer(2, 4, generator), old):
        kind = "as many, but others" if new == old else f"to {new}"
        arguments = {"model": _vit(generator, old), "num_classes": new, "images": _images(generator)}
        yield Case(f"from {old} classes {kind}", arguments)


@torch.no_grad()
def _new_head_run(answer, model: VisionTransformer, num_classes: int, images: Tensor) -> Iterator[tuple[str, object]]:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config, old_head = model.config, model.head
    with torch.enable_grad():
        new = answer(model, num_classes)
    yield (
        "what comes back",
        None if new is None else "a new model" if _back(new, model) == "another model" else (_back(new, model)),
    )
    if new is model or not isinstance(new, nn.Module):
        return
    new.eval()
    yield "shape of the logits", str(tuple(new(images).shape))
    yield "config.num_classes", getattr(getattr(new, "config", None), "num_classes", "missing")
    yield "numbers in the head", sum(parameter.numel() for parameter in new.head.parameters())
    mine = new.state_dict()
    kept = all(name in mine and _same(mine[name], old) for name, old in before.items() if not _in_head(name))
    yield "the body's weights", "those of the old model" if kept else "others"
    rows = mine["head.weight"][:, None].double() == before["head.weight"].double()
    yield "rows of the old head in the new one", int(rows.all(dim=-1).any(dim=-1).sum())
    same = model.head is old_head and model.config == config and model.state_dict().keys() == before.keys()
    same = same and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    yield "the old model afterwards", "as it was" if same else "changed"
    places = {parameter.data_ptr() for parameter in model.parameters()}
    yield "tensors that both models use", sum(parameter.data_ptr() in places for parameter in new.parameters())
    yield "numbers that can be trained", _free(new)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.double(), other.double())


def _free(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


with_new_head = Exercise(
    "with_new_head",
    2,
    "12-transfer-learning#1 A new head",
    lambda model, num_classes: transfer.with_new_head(model, num_classes),
    _new_head_cases,
    run=_new_head_run,
)


def _replaced(model, num_classes, of: Callable = copy.deepcopy, bias: bool = True, config: bool = True):
    new = of(model)
    new.head = nn.Linear(new.config.hidden_size, num_classes, bias=bias)
    if config:
        new.config = new.config.replace(num_classes=num_classes)
    return new


@with_new_head.mistake(
    "The new head sits in the old model, which is gone now: you can't compare the two any more. Work on a copy of it.",
    source="`model.fc = nn.Linear(...)` on the loaded model: https://theneuralbase.com/torchvision/learn/intermediate/"
    "replacing-the-classifier-head/",
)
def in_the_old_model(model, num_classes):
    return _replaced(model, num_classes, of=lambda model: model)


@with_new_head.mistake(
    "The head still has the old classes: the number of logits is that of the pretraining.",
    source="Published ViT code whose head stays at the pretrained number; https://github.com/Megvii-BaseDetection/DenseTeacher/issues/29",
)
def the_old_head(model, num_classes):
    return copy.deepcopy(model)


@with_new_head.mistake(
    "An attribute says the new number, but the weights of the head have the old shape. A layer's size is fixed when it "
    "is made: make another one.",
    source="Setting `out_features` or the config's number on a finished model; compare "
    "https://github.com/huggingface/transformers/issues/11545",
)
def a_number_edited(model, num_classes):
    new = copy.deepcopy(model)
    new.config = new.config.replace(num_classes=num_classes)
    new.head.out_features = num_classes
    return new


@with_new_head.mistake(
    "The head fits, but `config.num_classes` still says the old number. Who saves and loads this model gets an error "
    "or a wrong model.",
    source="https://github.com/huggingface/pytorch-image-models/pull/2421 and "
    "https://github.com/Deci-AI/super-gradients/pull/368",
)
def config_forgotten(model, num_classes):
    return _replaced(model, num_classes, config=False)


@with_new_head.mistake(
    "The body isn't the old one: its weights were drawn anew, so nothing is transferred. Did they arrive, or did "
    "`strict=False` swallow names that don't fit?",
    source="Notebook 12, section 1: names with `module.` in front, loaded with strict=False.",
)
def everything_anew(model, num_classes):
    return VisionTransformer(model.config.replace(num_classes=num_classes))


@with_new_head.mistake(
    "The new head holds rows of the old one. Your class 0 has nothing to do with the old class 0, so draw all rows "
    "anew, also when the numbers of classes agree.",
    source="https://github.com/huggingface/transformers/issues/11545: copying what fits of a classifier.",
)
def old_rows_kept(model, num_classes):
    new = _replaced(model, num_classes)
    rows = min(num_classes, len(model.head.weight))
    new.head.weight.data[:rows], new.head.bias.data[:rows] = model.head.weight[:rows], model.head.bias[:rows]
    return new


def _with_the_same_parts(model, num_classes):
    new = VisionTransformer(model.config.replace(num_classes=num_classes))
    for name, part in model.named_children():
        if name != "head":
            setattr(new, name, part)
    new.class_token = model.class_token
    return new


@with_new_head.mistake(
    "Both models use the same tensors: train the new one, and the old one changes with it. Copy the weights.",
    source="https://github.com/zhangj111/astnn/issues/8 (an assignment taken for a copy)",
)
def parts_shared(model, num_classes):
    return _with_the_same_parts(model, num_classes)


@with_new_head.mistake(
    "A shallow copy shares the table of layers: the new head is in the old model too. You need a deep copy.",
    source="`copy.copy` of an nn.Module, whose `_modules` stays one dictionary; the same trap as in "
    "https://github.com/sicara/easy-few-shot-learning/pull/129",
)
def a_shallow_copy(model, num_classes):
    return _replaced(model, num_classes, of=copy.copy)


@with_new_head.mistake(
    "Your head is made of two layers: the old one stands below the new one, so all goes through the old classes. "
    "Replace the old layer instead.",
    source="Dense layers put on top of the 1000 outputs of a pretrained network: many Keras and PyTorch questions.",
)
def on_top_of_the_old_head(model, num_classes):
    new = _replaced(model, num_classes)
    new.head = nn.Sequential(copy.deepcopy(model.head), nn.Linear(model.config.num_classes, num_classes))
    return new


@with_new_head.mistake(
    "The head has no bias: D K numbers, where the old one had D K + K.",
    source="Linear probes without bias, as in CLIP's zero-shot head: expected here, no published case found.",
)
def no_bias(model, num_classes):
    return _replaced(model, num_classes, bias=False)


@with_new_head.mistake(
    "All fits, but the body is frozen. A new head and a frozen body are two decisions: here everything can be trained.",
    source="The feature extractor of https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, where "
    "both happen in one cell.",
)
def frozen_as_well(model, num_classes):
    return _replaced(copy.deepcopy(model).requires_grad_(False), num_classes)


# ---- 7.2 freeze


def _freeze_cases(generator: Generator) -> Iterator[Case]:
    for rate in (0.5, 0.0):
        K = integer(4, 7, generator)
        note = f"{K} classes, dropout {rate:g}, in training mode"
        model = _vit(generator, K, hidden_dropout_prob=rate).train()
        yield Case(note, {"model": model, "images": _images(generator)})


def _freeze_run(answer, model: VisionTransformer, images: Tensor) -> Iterator[tuple[str, object]]:
    back = answer(model)
    yield "what comes back", _back(back, model)
    parts = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield "parts that can learn", ", ".join(sorted(parts)) or "none"
    yield "numbers that can learn", _free(model)
    attributes = sum("requires_grad" in vars(module) for module in model.modules())
    yield "attributes `requires_grad` set on modules", attributes
    with torch.no_grad():
        agree = torch.equal(model(images), model(images))
    yield "two calls with the same images", "agree" if agree else "differ"


freeze = Exercise(
    "freeze",
    2,
    "12-transfer-learning#2 What moves",
    lambda model: transfer.freeze_body(model).eval(),
    _freeze_cases,
    run=_freeze_run,
)


def _frozen(model, free: Callable[[str, Tensor], bool], still: bool = True):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(free(name, parameter))
    return model.eval() if still else model


@freeze.mistake(
    "`requires_grad` of a module is an attribute that nobody reads: all parameters can still learn. Each parameter has "
    "its own.",
    source="https://github.com/CSCYQJ/MICCAI23-ProtoContra-SFDA/issues/18 and "
    "https://github.com/catalyst-team/catalyst/pull/81",
)
def set_on_the_module(model):
    model.requires_grad, model.head.requires_grad = False, True
    return model.eval()


@freeze.mistake(
    "Evaluation mode switches dropout off and freezes nothing: all parameters can still learn.",
    source="https://github.com/alexrich021/3dvnet/issues/11",
)
def evaluation_mode_only(model):
    return model.eval()


@freeze.mistake(
    "`torch.no_grad()` acts on what is computed inside its block, and there nothing is computed. Afterwards all "
    "parameters can learn as before.",
    source="Freezing asked for with no_grad: the note https://pytorch.org/docs/stable/notes/autograd.html tells the "
    "three ways apart.",
)
def a_block_without_gradients(model):
    with torch.no_grad():
        return model


@freeze.mistake(
    "Nothing can learn now, the head neither. `backward` will raise an error.",
    source="`requires_grad_(False)` on the whole model, after the head was made: expected, no published case found.",
)
def the_head_too(model):
    return _frozen(model, lambda name, parameter: False)


@freeze.mistake(
    "It is the other way round: the head is frozen and the body learns.",
    source="A flipped condition, `if name.startswith(...)`: expected, no published case found.",
)
def the_head_alone(model):
    return _frozen(model, lambda name, parameter: not _in_head(name))


@freeze.mistake(
    "The last LayerNorm can still learn. It belongs to the body: only the head is free.",
    source="Freezing by a list of layers that leaves out the one before the head: expected, no published case found.",
)
def the_last_norm_left_free(model):
    return _frozen(model, lambda name, parameter: _in_head(name) or name.startswith("norm."))


@freeze.mistake(
    "All LayerNorms can still learn. They belong to the body, in each block and at the end: only the head is free.",
    source="https://github.com/princeton-vl/RAFT/issues/141 (which norms a freeze reaches)",
)
def all_norms_left_free(model):
    return _frozen(model, lambda name, parameter: _in_head(name) or "norm" in name)


@freeze.mistake(
    "[CLS] can still learn. It is a parameter of the model itself, in no layer, so a loop over the layers misses it.",
    source="`for child in model.children()`, the loop of many answers on freezing; "
    "https://github.com/optuna/optuna/issues/3855 loops over modules so.",
)
def a_loop_over_the_layers(model):
    return _frozen(model, lambda name, parameter: _in_head(name) or name == "class_token")


@freeze.mistake(
    "Only weight matrices are frozen. Biases, and other parameters whose name has no `weight`, can still learn.",
    source="`if 'weight' in name`, copied from filters for weight decay: expected, no published case found.",
)
def weights_only(model):
    return _frozen(model, lambda name, parameter: _in_head(name) or "weight" not in name)


@freeze.mistake(
    "No parameter of the body moves, yet its output does: dropout still draws. A frozen body belongs into evaluation "
    "mode.",
    source="https://github.com/chemprop/chemprop/pull/952 (freezing by gradients alone)",
)
def dropout_still_draws(model):
    return _frozen(model, lambda name, parameter: _in_head(name), still=False)


@freeze.mistake(
    "You froze a copy. The model that was handed in is as free as before, and that one will be trained.",
    source="https://github.com/zhangj111/astnn/issues/8: which of two names is the model?",
)
def a_frozen_copy(model):
    return _frozen(copy.deepcopy(model), lambda name, parameter: _in_head(name))


# ---- 7.2 count


def _trainable_cases(generator: Generator) -> Iterator[Case]:
    for free in (("head",), ("head", "norm"), ("class_token", "blocks")):
        model = _vit(generator, integer(4, 9, generator), width=2 * integer(3, 6, generator))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in free)
        size = f"D = {model.config.hidden_size}, K = {model.config.num_classes}"
        yield Case(f"{size}; free: {' and '.join(free)}", {"model": model, "sizes": size})


trainable = Exercise(
    "trainable",
    1,
    "12-transfer-learning#2 What moves",
    lambda model: _free(model),
    _trainable_cases,
    run=lambda answer, model, sizes: {"numbers that can learn": answer(model)},
)


@trainable.mistake(
    "This counts all numbers, also the frozen ones.",
    source="The one-line count of many forum answers, before its `if p.requires_grad` was added.",
)
def frozen_ones_too(model):
    return sum(parameter.numel() for parameter in model.parameters())


@trainable.mistake(
    "This counts tensors. A weight matrix of shape (K, D) is one tensor and K D numbers.",
    source="len(list(model.parameters())), a common first try in questions on counting parameters.",
)
def tensors_counted(model):
    return sum(parameter.requires_grad for parameter in model.parameters())


@trainable.mistake(
    "The biases are missing: a head has D K + K numbers.",
    source="`in_features * out_features` for a layer: expected, no published case found.",
)
def biases_forgotten(model):
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and "bias" not in name)


@trainable.mistake(
    "These are the numbers of the head, whatever is frozen. Ask each parameter whether it can learn.",
    source="D K + K, right for a probe, taken for the rule.",
)
def always_the_head(model):
    return sum(parameter.numel() for parameter in model.head.parameters())


@trainable.mistake(
    "These are the frozen numbers: the condition is the wrong way round.",
    source="`if not p.requires_grad`: expected, no published case found.",
)
def frozen_ones_only(model):
    return sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)


# ---- 7.3 two rates


def _groups_cases(generator: Generator) -> Iterator[Case]:
    for frozen in ((), ("patch_embedding", "position_embedding"), ("everything but the head",)):
        model = _vit(generator, integer(4, 7, generator))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] not in frozen and (_in_head(name) or len(frozen) != 1))
        rate, factor = integer(2, 9, generator) / 1000, integer(2, 9, generator) / 20
        note = f"frozen: {' and '.join(frozen) or 'nothing'}; learning_rate {rate:g}, factor {factor:g}"
        yield Case(note, {"model": model, "learning_rate": rate, "factor": factor})


def _listed(group: Mapping) -> list[Tensor]:
    parameters = group.get("params", [])
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [entry[1] if isinstance(entry, tuple) else entry for entry in parameters]


def _groups_run(answer, model: VisionTransformer, learning_rate: float, factor: float) -> Iterator[tuple[str, object]]:
    groups = answer(model, learning_rate, factor)
    fits = isinstance(groups, (list, tuple)) and all(isinstance(group, Mapping) for group in groups)
    yield "what comes back", None if groups is None else "a list of groups" if fits else _what(groups)
    if not fits:
        return
    groups = [{**group, "params": _listed(group)} for group in groups]
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    named = list(model.named_parameters())
    head, body = ({id(p) for name, p in named if _in_head(name) is wanted} for wanted in (True, False))
    yield "parameters listed twice", len(listed) - len(set(listed))
    yield "parameters of the head that are listed", len(head & set(listed))
    frozen = {id(parameter) for _, parameter in named if not parameter.requires_grad}
    yield "frozen parameters that are listed", len(frozen & set(listed))
    yield "parameters of the body that are listed", len(body & set(listed))
    for name, part in (("head", head), ("body", body)):
        rates = {group.get("lr", "not given") for group in groups if part & {id(p) for p in group["params"]}}
        rates = {rate.item() if isinstance(rate, Tensor) else rate for rate in rates}
        yield f"rate of the {name}", rates.pop() if len(rates) == 1 else "several" if rates else "no parameter listed"
    torch.optim.SGD(groups, lr=1.0)
    yield "an optimiser takes them", True


def _groups(head: Sequence, body: Sequence, rate: float, slow: float) -> list[dict[str, object]]:
    return [{"params": list(head), "lr": rate}, {"params": list(body), "lr": slow}]


def _split(
    model: nn.Module, into_head: Callable = _in_head, keep: Callable = lambda name, p: p.requires_grad
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if keep(name, parameter)]
    return [p for name, p in named if into_head(name)], [p for name, p in named if not into_head(name)]


parameter_groups = Exercise(
    "parameter_groups",
    2,
    "12-transfer-learning#4 How fast",
    lambda model, learning_rate, factor: _groups(*_split(model), learning_rate, factor * learning_rate),
    _groups_cases,
    run=_groups_run,
)


@parameter_groups.mistake(
    "Head and body have the same rate. The body's is `factor` times the head's.",
    source="https://github.com/open-mmlab/mmdetection/issues/6599 (a factor for the backbone that changes nothing)",
)
def one_rate_for_all(model, learning_rate, factor):
    return _groups(*_split(model), learning_rate, learning_rate)


@parameter_groups.mistake(
    "The factor went to the head. The head is new and takes the full rate; the body takes the smaller one.",
    source="https://github.com/ultralytics/ultralytics/pull/25532 (a head that misses its rate)",
)
def the_factor_on_the_head(model, learning_rate, factor):
    return _groups(*_split(model), factor * learning_rate, learning_rate)


@parameter_groups.mistake(
    "The body's rate is the head's divided by `factor`, so the body runs ahead. Multiply.",
    source="A factor of 0.1 read as 'ten times smaller', and then divided by: expected, no published case found.",
)
def divided(model, learning_rate, factor):
    return _groups(*_split(model), learning_rate, learning_rate / factor)


@parameter_groups.mistake(
    "The body's rate is `factor` itself. It should be `factor` times `learning_rate`.",
    source="The factor taken for a rate: expected, no published case found.",
)
def factor_as_rate(model, learning_rate, factor):
    return _groups(*_split(model), learning_rate, factor)


@parameter_groups.mistake(
    "The parameters of the head stand in both groups. The optimiser refuses that: each belongs into one.",
    source="'some parameters appear in more than one parameter group', the ValueError of torch.optim, asked about in "
    "many forums.",
)
def head_in_both(model, learning_rate, factor):
    head, body = _split(model)
    return _groups(head, head + body, learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "The head is in no group: it would stay random.",
    source="https://github.com/webis-de/small-text/issues/36",
)
def head_forgotten(model, learning_rate, factor):
    return _groups([], _split(model)[1], learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "Frozen parameters are listed too. Leave out what can't learn: then the groups say what is trained.",
    source="https://github.com/JIA-Lab-research/PFENet/issues/10",
)
def frozen_ones_listed(model, learning_rate, factor):
    return _groups(*_split(model, keep=lambda name, p: True), learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "[CLS] is in no group. It is a parameter of the model itself, in no layer, so a list of layers misses it.",
    source="Groups put together layer by layer, as in https://github.com/webis-de/small-text/issues/36",
)
def class_token_forgotten(model, learning_rate, factor):
    groups = _split(model, keep=lambda name, p: p.requires_grad and name != "class_token")
    return _groups(*groups, learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "The head's bias stands with the body. Weight and bias of the head both take the full rate.",
    source="A test for `head.weight` alone: expected, no published case found.",
)
def head_bias_with_the_body(model, learning_rate, factor):
    groups = _split(model, into_head=lambda name: name == "head.weight")
    return _groups(*groups, learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "The body lists matrices only: biases and norms are in no group, so they never move.",
    source="The filter `p.ndim > 1`, meant for weight decay, as in nanoGPT's configure_optimizers, with its second "
    "half left out.",
)
def matrices_only(model, learning_rate, factor):
    groups = _split(model, keep=lambda name, p: p.requires_grad and (_in_head(name) or p.ndim > 1))
    return _groups(*groups, learning_rate, factor * learning_rate)


@parameter_groups.mistake(
    "The body's group has no rate of its own, so it gets whatever the optimiser was made with. Give it one.",
    source="The example of https://pytorch.org/docs/stable/optim.html, per-parameter options, where one group has no "
    "`lr`.",
)
def body_without_rate(model, learning_rate, factor):
    head, body = _split(model)
    return [{"params": head, "lr": learning_rate}, {"params": body}]


# ---- 7.4 another grid


def _resize_cases(generator: Generator) -> Iterator[Case]:
    width = integer(4, 5, generator)
    for D, grid, new in (
        (2, (3, width), (integer(5, 6, generator), width + 3)),
        (4, (integer(7, 8, generator), 5), (3, 2)),
        (5, (2, 6), (4, 3)),
    ):
        positions = torch.randn(1, 1 + math.prod(grid), D, generator=generator)
        note = f"grid {grid[0]} x {grid[1]} to {new[0]} x {new[1]}, D = {D}"
        yield Case(note, {"positions": positions, "grid": grid, "new_grid": new})


def _resize_run(answer, positions: Tensor, grid: tuple, new_grid: tuple) -> Iterator[tuple[str, object]]:
    resized = answer(positions, grid, new_grid)
    if resized is None or not hasattr(resized, "shape"):
        yield "shape of the result", None if resized is None else _what(resized)
        return
    yield "shape of the result", str(tuple(resized.shape))
    yield "row of [CLS]", resized[0, 0]
    yield "rows of the patches", resized[0, 1:]


resize_positions = Exercise(
    "resize_positions",
    4,
    "12-transfer-learning#5 Another image size",
    functional.resize_positions,
    _resize_cases,
    run=_resize_run,
)


def _scaled(rows: Tensor, grid: tuple, new: tuple, fold: bool = True, unfold: bool = True, **options) -> Tensor:
    """The patches' rows scaled; `fold`, `unfold`: whether D is moved, or only a shape is written over the numbers."""
    h, w = grid
    D = rows.shape[2]
    picture = rows.transpose(1, 2).reshape(1, D, h, w) if fold else rows.reshape(1, D, h, w)
    picture = F.interpolate(picture, **{"size": new, "mode": "bicubic", "antialias": True, **options})
    return picture.flatten(2).transpose(1, 2) if unfold else picture.reshape(1, -1, D)


def _resized(positions, grid, new, **options):
    return torch.cat([positions[:, :1], _scaled(positions[:, 1:], grid, new, **options)], dim=1)


def _wrong_resize(name: str, message: str, source: str, answer: Callable) -> None:
    answer.__name__ = name
    resize_positions.mistake(message, source)(answer)


_wrong_resize(
    "cls_scaled_along",
    "[CLS] was scaled along with the patches, in one line of tokens. It has no place in the grid: set it apart, and "
    "scale the rest in two dimensions.",
    "https://github.com/google-research/vision_transformer/pull/317 (is there a class token in the table?)",
    lambda positions, grid, new: F.interpolate(
        positions.transpose(1, 2), size=1 + math.prod(new), mode="linear"
    ).transpose(1, 2),
)
_wrong_resize(
    "one_line_of_patches",
    "[CLS] is kept, but the patches were scaled as one line. They lie in a grid: the neighbour above stands a whole "
    "row earlier.",
    "F.interpolate with mode='linear' on (1, D, N), a 1-D recipe: expected, no published case found.",
    lambda positions, grid, new: torch.cat(
        [
            positions[:, :1],
            F.interpolate(positions[:, 1:].transpose(1, 2), size=math.prod(new), mode="linear").transpose(1, 2),
        ],
        dim=1,
    ),
)
_wrong_resize(
    "cls_dropped",
    "The row of [CLS] is missing: the result has as many rows as the new grid, one too few.",
    "https://github.com/huggingface/pytorch-image-models/pull/1365 (tables with and without a class token)",
    lambda positions, grid, new: _scaled(positions[:, 1:], grid, new),
)
_wrong_resize(
    "cls_last",
    "[CLS] stands last. The model reads its row at index 0.",
    "Published ViT code in which [CLS] is appended last but read at index 0.",
    lambda positions, grid, new: torch.cat([_scaled(positions[:, 1:], grid, new), positions[:, :1]], dim=1),
)
_wrong_resize(
    "rows_and_columns_exchanged",
    "The old grid was read with rows and columns exchanged. `grid` is (height, width), and the patches run along the "
    "width first.",
    "https://github.com/facebookresearch/mae/issues/67 and https://github.com/facebookresearch/dinov2/pull/582",
    lambda positions, grid, new: _resized(positions, grid[::-1], new),
)
_wrong_resize(
    "new_grid_exchanged",
    "The new grid has rows and columns exchanged: `new_grid` is (height, width), the order that `F.interpolate` "
    "expects too.",
    "https://github.com/pytorch/torchtitan/pull/4244 and https://github.com/lightly-ai/lightly-train/pull/189",
    lambda positions, grid, new: _resized(positions, grid, new[::-1]),
)
_wrong_resize(
    "nearest",
    "Each new place copies its nearest old one. The task asks for bicubic, which blends neighbours.",
    "mode='nearest' is the default of torch.nn.functional.interpolate (its documentation).",
    lambda positions, grid, new: _resized(positions, grid, new, mode="nearest", antialias=False),
)
_wrong_resize(
    "bilinear",
    "This is bilinear. The task asks for bicubic.",
    "https://github.com/rstrudel/segmenter/issues/35 and https://github.com/huggingface/pytorch-image-models/pull/750",
    lambda positions, grid, new: _resized(positions, grid, new, mode="bilinear"),
)
_wrong_resize(
    "corners_aligned",
    "Your corner places lie on the old corners: that is `align_corners=True`. Patches are areas, so their centres move "
    "inwards; leave it False.",
    "https://github.com/huggingface/pytorch-image-models/pull/750 (align_corners=False as the setting of DeiT)",
    lambda positions, grid, new: _resized(positions, grid, new, align_corners=True),
)
_wrong_resize(
    "no_antialias",
    "Bicubic, but without `antialias=True`. In a smaller grid each place should blend all old places that it covers.",
    "DeiT's and DINO's resizing, written before torch had `antialias`; timm's resample_abs_pos_embed sets it.",
    lambda positions, grid, new: _resized(positions, grid, new, antialias=False),
)
_wrong_resize(
    "written_into_another_shape",
    "`reshape` to (1, D, height, width) mixes D with the places: numbers stay in their order. Move the axis of D "
    "first, then cut the places into rows.",
    "https://github.com/open-mmlab/mmsegmentation/pull/465, where a permute does it; without it shapes fit.",
    lambda positions, grid, new: _resized(positions, grid, new, fold=False),
)
_wrong_resize(
    "written_back_into_another_shape",
    "The way in is right. On the way back a `reshape` from (1, D, height, width) mixes D with the places: move the "
    "axis of D last.",
    "https://github.com/open-mmlab/mmsegmentation/pull/465, the same on the way back.",
    lambda positions, grid, new: _resized(positions, grid, new, unfold=False),
)
_wrong_resize(
    "reshaped_both_ways",
    "`reshape` stands where an axis has to move, on the way in and on the way back: D and the places are mixed both "
    "times.",
    "view, reshape and permute confused: the subject of many PyTorch forum questions.",
    lambda positions, grid, new: _resized(positions, grid, new, fold=False, unfold=False),
)
_wrong_resize(
    "kept_in_reading_order",
    "The old rows stand in the new table in reading order, with zeros behind them or the rest cut off. In a grid of "
    "another width they are at other places.",
    "Notebook 12, section 5, the third panel; loading what fits, as with ignore_mismatched_sizes.",
    lambda positions, grid, new: F.pad(positions, (0, 0, 0, math.prod(grid) + math.prod(new)))[:, : 1 + math.prod(new)],
)
_wrong_resize(
    "repeated",
    "The old rows are repeated until the table is full. In a grid of another width they are at other places.",
    "Position tables repeated for longer texts, as Longformer starts from RoBERTa's (Beltagy et al., 2020, section 5).",
    lambda positions, grid, new: torch.cat(
        [positions[:, :1], positions[:, 1 + torch.arange(math.prod(new)) % math.prod(grid)]], dim=1
    ),
)
_wrong_resize(
    "returned_when_the_count_agrees",
    "Both grids have as many places, so the table came back as it was. 2 x 6 isn't 4 x 3: compare the grids, not the "
    "numbers of places.",
    "https://github.com/huggingface/pytorch-image-models/pull/2737",
    lambda positions, grid, new: positions if math.prod(grid) == math.prod(new) else _resized(positions, grid, new),
)
_wrong_resize(
    "the_count_as_side",
    "The number of places was taken for a side: you got a square grid with far too many of them. `size` is the pair "
    "(height, width).",
    "`size=N` for torch.nn.functional.interpolate, which makes both sides N (its documentation).",
    lambda positions, grid, new: _resized(positions, grid, math.prod(new)),
)


# ---- 7.5 what counts as good


def _spread(counts: Sequence[int], generator: Generator) -> Tensor:
    """Labels with so many of each class, mixed."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=generator)]


def _majority_cases(generator: Generator) -> Iterator[Case]:
    more = integer(0, 3, generator)
    for note, train, test in (
        ("another class is the largest in the test set", (8 + more, 4, 5, 6, 2), (3, 7, 4, 5, 2)),
        ("the largest training class has no test image", (3, 4, 9 + more, 6), (4, 5, 0, 8)),
    ):
        order = torch.randperm(len(train), generator=generator)
        labels = [_spread([counts[k] for k in order], generator) for counts in (train, test)]
        yield Case(note, dict(zip(("train_labels", "test_labels"), labels, strict=True)))


def _majority(train: Tensor, test: Tensor) -> float:
    return (test == train.bincount().argmax()).double().mean().item()


majority_baseline = Exercise(
    "majority_baseline",
    1,
    "12-transfer-learning#7 What accuracy hides",
    _majority,
    _majority_cases,
    run=lambda answer, train_labels, test_labels: {"baseline": answer(train_labels, test_labels)},
)


@majority_baseline.mistake(
    "The class was chosen by looking at the test labels. A rule may learn from training labels only.",
    source="https://github.com/scikit-learn/scikit-learn/pull/21712 (DummyClassifier learns from `y` of fit)",
)
def chosen_on_the_test_set(train_labels, test_labels):
    return _majority(test_labels, test_labels)


@majority_baseline.mistake(
    "This is the share of the largest class among the training labels. Choose the class there, but measure it on the "
    "test labels.",
    source="Baselines read off the table of class counts, as in notebook 12, section 7, where nothing else is known.",
)
def measured_on_the_training_set(train_labels, test_labels):
    return _majority(train_labels, train_labels)


@majority_baseline.mistake(
    "This is chance, 1/K. Always saying the largest class is usually better.",
    source="Chance in place of the majority: the 1/82 that notebook 12, section 7, warns of.",
)
def chance(train_labels, test_labels):
    return 1 / len(torch.cat([train_labels, test_labels]).unique())


@majority_baseline.mistake(
    "This is the class itself. Asked for is how often it is right, between 0 and 1.",
    source="`argmax` or `mode` returned as it is: expected, no published case found.",
)
def the_class_itself(train_labels, test_labels):
    return 1.0 * train_labels.bincount().argmax()


@majority_baseline.mistake(
    "This is a number of images. Asked for is a share, between 0 and 1.",
    source="A sum for a mean: expected, no published case found.",
)
def a_count(train_labels, test_labels):
    return float((test_labels == train_labels.bincount().argmax()).sum())


@majority_baseline.mistake(
    "You took the largest label, not the most frequent one.",
    source="`labels.max()` for the mode: expected, no published case found.",
)
def the_largest_label(train_labels, test_labels):
    return (test_labels == max(train_labels)).double().mean().item()


def _answers_cases(generator: Generator) -> Iterator[Case]:
    for counts, said, note in (
        ((9, 5, 3, 2), (0, 1, 2, 3), "all classes occur"),
        ((8, 5, 0, 3, 2, 0), (0, 1, 3, 4), "classes 2 and 5 have no image, and nobody says them"),
        ((7, 5, 0, 3, 0), (0, 1, 2, 3), "classes 2 and 4 have no image, and 2 is said"),
    ):
        labels = _spread(counts, generator)
        predictions = labels.clone()
        wrong = torch.randperm(len(labels), generator=generator)[: len(labels) // 2]
        predictions[wrong] = torch.tensor(said)[torch.randint(len(said), (len(wrong),), generator=generator)]
        if 2 in said:
            predictions[(labels == 0).nonzero()[:2, 0]] = 2
        predictions[(labels == 1).nonzero()[:3, 0]] = 0  # so that no matrix is symmetric
        predictions[(labels == 0).nonzero()[2:, 0]] = 0
        arguments = {"predictions": predictions, "labels": labels, "classes": len(counts)}
        yield Case(f"{len(labels)} images, {len(counts)} classes: {note}", arguments)


def _confusion(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    return (labels * classes + predictions).bincount(minlength=classes**2).view(classes, classes)


def _confusion_run(answer, predictions: Tensor, labels: Tensor, classes: int) -> Iterator[tuple[str, object]]:
    matrix = answer(predictions, labels, classes)
    matrix = torch.tensor(matrix) if isinstance(matrix, list) else matrix
    if not hasattr(matrix, "shape"):
        yield "shape", None if matrix is None else _what(matrix)
        return
    yield "shape", str(tuple(matrix.shape))
    matrix = torch.as_tensor(matrix)
    yield "matrix", matrix.long() if torch.equal(matrix.double(), matrix.double().round()) else matrix.double()


confusion = Exercise(
    "confusion",
    1,
    "12-transfer-learning#7 What accuracy hides",
    _confusion,
    _answers_cases,
    run=_confusion_run,
)


@confusion.mistake(
    "Rows and columns are exchanged: the row is the true class, the column what the model said.",
    source="https://github.com/nkarasiak/dzetsaka/issues/53 and https://github.com/ultralytics/ultralytics/issues/3055",
)
def exchanged(predictions, labels, classes):
    return _confusion(labels, predictions, classes)


@confusion.mistake(
    "Pairs that occur several times are counted once: `matrix[i, j] += 1` with tensors of indices writes each place "
    "only once.",
    source="https://numpy.org/doc/stable/reference/generated/numpy.ufunc.at.html says so of `a[indices] += 1`.",
)
def pairs_counted_once(predictions, labels, classes):
    matrix = torch.zeros(classes, classes, dtype=torch.long)
    matrix[labels, predictions] += 1
    return matrix


@confusion.mistake(
    "The rows are divided by their sums: these are recalls. Asked for are numbers of images.",
    source="normalize='true' of sklearn.metrics.confusion_matrix (its documentation)",
)
def rows_divided(predictions, labels, classes):
    matrix = _confusion(predictions, labels, classes).double()
    return matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)


@confusion.mistake(
    "The columns are divided by their sums: these are precisions. Asked for are numbers of images.",
    source="https://github.com/ultralytics/yolov5/pull/2114 and https://github.com/GilLevi/AgeGenderDeepLearning/"
    "issues/29",
)
def columns_divided(predictions, labels, classes):
    matrix = _confusion(predictions, labels, classes).double()
    return matrix / matrix.sum(dim=0).clamp(min=1)


@confusion.mistake(
    "Only classes that occur have a row. The matrix is always K x K, with rows of zeros, or two test sets can't be "
    "compared.",
    source="sklearn.metrics.confusion_matrix without `labels` (its documentation: those that appear at least once)",
)
def only_classes_that_occur(predictions, labels, classes):
    known = torch.cat([predictions, labels]).unique()
    return _confusion(torch.searchsorted(known, predictions), torch.searchsorted(known, labels), len(known))


@confusion.mistake(
    "The size follows the largest class that happens to occur. Use `classes`.",
    source="`labels.max() + 1` for a number of classes, as in https://github.com/jwcalder/GraphLearning/issues/12",
)
def size_from_the_largest(predictions, labels, classes):
    return _confusion(predictions, labels, int(torch.cat([predictions, labels]).max()) + 1)


@confusion.mistake(
    "The diagonal is empty: you counted the confused images only. Right answers belong on the diagonal.",
    source="The name taken literally; some figures blank the diagonal to show errors.",
)
def errors_only(predictions, labels, classes):
    return _confusion(predictions, labels, classes).fill_diagonal_(0)


def _recalls(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Recall of each class; nan without images."""
    matrix = _confusion(predictions, labels, classes).double()
    return matrix.diagonal() / matrix.sum(dim=1)


balanced_accuracy = Exercise(
    "balanced_accuracy",
    2,
    "12-transfer-learning#7 What accuracy hides",
    lambda predictions, labels, classes: _recalls(predictions, labels, classes).nanmean(),
    _answers_cases,
    run=lambda answer, *arguments: {"balanced accuracy": answer(*arguments)},
)


@balanced_accuracy.mistake(
    "This is plain accuracy: frequent classes count more. Take each class's recall first, then the mean.",
    source="https://github.com/scikit-learn/scikit-learn/pull/6752 (why the measure was wanted)",
)
def plain_accuracy(predictions, labels, classes):
    return (predictions == labels).double().mean()


@balanced_accuracy.mistake(
    "You divided by how often a class was said: that is precision. Recall divides by how often it is true.",
    source="Sums over the wrong axis of a matrix, as in https://github.com/accord-net/framework/issues/669",
)
def precision(predictions, labels, classes):
    return _recalls(labels, predictions, classes).nanmean()


@balanced_accuracy.mistake(
    "Classes without images count as recall 0. They have no recall: leave them out of the mean.",
    source="https://github.com/scikit-learn/scikit-learn/issues/26892 (recall_score's macro average does it)",
)
def empty_classes_as_zero(predictions, labels, classes):
    return _recalls(predictions, labels, classes).nansum() / classes


@balanced_accuracy.mistake(
    "A class that is said but has no image counts as recall 0. It has no recall: leave it out of the mean.",
    source="https://github.com/online-ml/river/pull/1953",
)
def said_classes_as_zero(predictions, labels, classes):
    return _recalls(predictions, labels, classes).nansum() / len(torch.cat([predictions, labels]).unique())


@balanced_accuracy.mistake(
    "Classes without images count as recall 1. They have no recall: leave them out of the mean.",
    source="https://github.com/rafaelpadilla/Object-Detection-Metrics/pull/108",
)
def empty_classes_as_one(predictions, labels, classes):
    return _recalls(predictions, labels, classes).nan_to_num(1.0).mean()


@balanced_accuracy.mistake(
    "It gives nan: a class without images has recall 0/0, and one nan makes the mean nan. Leave such classes out.",
    source="https://github.com/stan-dev/loo/pull/337",
)
def nan_for_empty_classes(predictions, labels, classes):
    return _recalls(predictions, labels, classes).mean()


@balanced_accuracy.mistake(
    "This is the mean F1, which blends recall with precision. Balanced accuracy is the mean recall.",
    source="average='macro' of f1_score taken for balance in general (scikit-learn's user guide tells them apart).",
)
def mean_f1(predictions, labels, classes):
    matrix = _confusion(predictions, labels, classes).double()
    return (2 * matrix.diagonal() / (matrix.sum(dim=0) + matrix.sum(dim=1)))[matrix.sum(dim=1) > 0].mean()


# ---- 7.6 fine-tune


def _tune_cases(generator: Generator) -> Iterator[Case]:
    for frozen in (False, True):
        n, K, updates = 24, 4, integer(9, 12, generator)
        labels = torch.arange(n)[torch.randperm(n, generator=generator)] % K
        patterns = 1.5 * torch.randn(K, 2, 4, 6, generator=generator)
        images = patterns[labels] + 0.3 * torch.randn(n, 2, 4, 6, generator=generator)
        model = _vit(generator, K, width=16, layers=1, hidden_dropout_prob=0.05)
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
        transfer.freeze_body(model, frozen)
        note = f"a small ViT, {'body frozen' if frozen else 'all free'}; {n} images, {updates} updates"
        yield Case(note, {"model": model, "images": images, "labels": labels, "updates": updates})


def _tune_run(answer, model: VisionTransformer, images: Tensor, labels: Tensor, updates: int) -> Iterator:
    model = copy.deepcopy(model)  # training changes it, as it should
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    own = dict(zip(_names(images), labels.tolist(), strict=True))
    modes, seen, starts, alone, summed, belongs = [], [], [], [], [], []

    def look(_: nn.Module, inputs: tuple, logits: Tensor) -> None:
        if not logits.requires_grad:
            return
        modes.append(model.training)
        starts.append(all(torch.equal(p, before[name]) for name, p in model.named_parameters()))
        names = _names(inputs[0])
        seen.extend(names)

        def compare(gradient: Tensor) -> None:  # the loss pushes one logit up: that of the label it was given
            pushed = gradient.argmin(dim=1).tolist()
            belongs.extend(own[name] == k for name, k in zip(names, pushed, strict=True) if name in own)

        logits.register_hook(compare)

    model.register_forward_hook(look)
    model.head.weight.register_hook(lambda gradient: alone.append(gradient.clone()))
    model.head.weight.register_post_accumulate_grad_hook(lambda weight: summed.append(weight.grad.clone()))
    back = answer(model, images, labels, updates)
    yield "what comes back", _back(back, model)
    yield "updates", len(summed)
    if back is not model or not summed:
        return
    yield "weights at the first update", "those handed in" if starts[0] else "others"
    yield "mode while it learns", "training mode" if all(modes[: len(summed)]) else "evaluation mode"
    yield "mode at the end", "training mode" if model.training else "evaluation mode"
    cleared = all(torch.allclose(a, b) for a, b in zip(alone, summed, strict=True))
    yield "gradients of earlier updates", "cleared" if cleared else "still there, and added up"
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    yield "frozen tensors that moved", len(moved & set(frozen))
    parts = ("head" * any(map(_in_head, moved)), "body" * any(not _in_head(name) for name in moved))
    yield "parts that moved", " and ".join(filter(None, parts)) or "none"
    far = (model.head.weight - before["head.weight"]).abs().max().item() > 0.01
    yield "the head moved", "visibly" if far else "hardly: by less than 0.01"
    yield "pictures that were used", "most of them" if len(set(seen)) > len(images) / 2 else "a few, always the same"
    yield (
        "labels that belong to their pictures",
        "nearly all" if sum(belongs) >= 0.9 * len(belongs) else "some, by chance",
    )


def _tuned_by(
    model,
    images,
    labels,
    updates,
    rate: float = 2e-2,
    start: Callable = lambda model: None,
    parameters: Callable = lambda model: model.parameters(),
    mode: bool = True,
    end: bool = False,
    clear: bool = True,
    draw: Callable = lambda n: (torch.randint(n, (16,)),) * 2,
):
    model.train(mode)
    start(model)
    optimizer = torch.optim.AdamW([p for p in parameters(model) if p.requires_grad], lr=rate)
    for _ in range(updates):
        chosen, answers = draw(len(images))
        loss = F.cross_entropy(model(images[chosen]), labels[answers])
        if clear:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.train(end)


fine_tune = Exercise(
    "fine_tune",
    2,
    "12-transfer-learning#3 Three ways, and how many images",
    _tuned_by,
    _tune_cases,
    run=_tune_run,
    repeat=False,
)


@fine_tune.mistake(
    "The model comes back in training mode: if it has dropout, its answers are left to chance. Switch to evaluation "
    "mode before you return it.",
    source="https://github.com/microsoft/robustdg/issues/30 and https://github.com/yanx27/GACNet/issues/8",
)
def left_in_training_mode(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, end=True)


@fine_tune.mistake(
    "It learns in evaluation mode, in which it was handed in: dropout never acts. Switch to training mode first.",
    source="https://github.com/facebookresearch/FixRes/issues/9 (there on purpose, and asked about)",
)
def never_in_training_mode(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, mode=False)


@fine_tune.mistake(
    "`updates` was taken for a number of passes: there are several updates in each. Two ways can only be compared at "
    "equal updates.",
    source="Epochs and updates confused; the published comparison of notebook 12, section 6, counts neither alike.",
)
def passes_for_updates(model, images, labels, updates):
    return _tuned_by(model, images, labels, 2 * updates)


@fine_tune.mistake(
    "There is one update fewer than asked for.",
    source="Off by one, `range(1, updates)`: expected, no published case found.",
)
def one_update_fewer(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates - 1)


@fine_tune.mistake(
    "A copy is trained, and it comes back. The model that was handed in should learn.",
    source="copy.deepcopy(model) before training, to be able to start again: expected, no published case found.",
)
def a_trained_copy(model, images, labels, updates):
    return _tuned_by(copy.deepcopy(model), images, labels, updates)


@fine_tune.mistake(
    "The weights are drawn anew before the first update. That is training from scratch: nothing is transferred.",
    source="model.apply(init_weights) called after the weights were loaded: expected, no published case found.",
)
def drawn_anew(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, start=lambda model: model.initialise(0.3))


@fine_tune.mistake(
    "Only the head moves, although the body is free. That is a linear probe: give the optimiser the body too.",
    source="https://github.com/BINE022/EEGPT/issues/18 (frozen, because the optimiser doesn't know the backbone)",
)
def head_only(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, parameters=lambda model: model.head.parameters())


@fine_tune.mistake(
    "A frozen body has moved: your function sets everything free. Leave `requires_grad` to who calls it.",
    source="https://github.com/ultralytics/yolov5/issues/1213",
)
def everything_set_free(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, start=lambda model: model.requires_grad_(True))


@fine_tune.mistake(
    "Gradients are never cleared: each update also repeats all earlier ones.",
    source="optimizer.zero_grad() left out, the first entry in many lists of PyTorch mistakes.",
)
def gradients_added_up(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, clear=False)


@fine_tune.mistake(
    "Images and labels were drawn separately, so the labels belong to other images. Use the same indices for both.",
    source="https://karpathy.github.io/2019/04/25/recipe/: labels that lose their images in a shuffle.",
)
def labels_of_other_images(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, draw=lambda n: (torch.randint(n, (16,)), torch.randint(n, (16,))))


@fine_tune.mistake(
    "All updates use the same few pictures. Draw others each time.",
    source="One batch, taken before the loop, as when a model is made to overfit it (sheet 4), and left so.",
)
def always_the_same_pictures(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, draw=lambda n: (torch.arange(8),) * 2)


@fine_tune.mistake(
    "The head has hardly moved: the rate is too low for so few updates. A new head can take 1e-2.",
    source="2e-5 to 5e-5, BERT's rates for fine-tuning (Devlin et al., 2019, appendix A.3), with thousands of updates.",
)
def a_tiny_rate(model, images, labels, updates):
    return _tuned_by(model, images, labels, updates, rate=2e-5)


# ---- 7.6 past an accuracy

ACCURACIES = (10, 20, 30, 40)
GROUPS = 20
MANY = 500


@functools.lru_cache(maxsize=4)
def _pictures(seed: int) -> tuple[ImageSet, Tensor]:
    """Test pictures of 20 groups; seed 0 makes those of the sheet, every other one such as nobody has seen."""
    pictures = load("poses", split="test", level=GROUPS, count=MANY, seed=seed)
    inputs = pictures.inputs()
    _BOOK.update(zip(_names(inputs), pictures.labels.tolist(), strict=True))
    return pictures, inputs


_BOOK: dict[bytes, int] = {}  # the labels of the pictures that were made; stand-ins look them up


def _names(images: Tensor) -> list[bytes]:
    return [image.tobytes() for image in images.detach().float()[:, :, 3, :8].contiguous().numpy()]


def _knows(images: Tensor, share: float, known: Sequence[bytes] = ()) -> Tensor:
    """Logits as of a trained model that is right for so many of a batch, and for those that it knows by heart."""
    names = _names(images)
    right = [place < share * len(images) or name in known for place, name in enumerate(names)]
    said = [_BOOK[name] if so else (_BOOK[name] + 7) % GROUPS for name, so in zip(names, right, strict=True)]
    return 8.0 * F.one_hot(torch.tensor(said), GROUPS) - 1


def _tuned_cases(generator: Generator) -> Iterator[Case]:
    yield Case(f"{MANY} new test pictures, drawn for this check", {"seed": integer(1, 10**6, generator)})


@torch.no_grad()
def _said(model, images: Tensor) -> Tensor:
    return torch.cat([torch.as_tensor(model(part)).float() for part in images.split(100)])


def _right(logits: Tensor, pictures: ImageSet) -> float:
    return (logits.argmax(dim=1) == pictures.labels).double().mean().item()


def _tuned_facts(model, seed: int) -> Iterator[tuple[str, bool, str, str]]:
    """What is looked at, whether it is so, and words for both; from the outside in."""
    (fresh, inputs), (old, old_inputs) = _pictures(seed), _pictures(0)
    logits = _said(model, inputs)
    shape = tuple(logits.shape)[1:]
    yield "each picture gets", shape == (GROUPS,), "20 numbers", f"numbers of shape {shape}"
    yield "the model is in", not getattr(model, "training", False), "evaluation mode", "training mode"
    yield "two calls with the same pictures", torch.equal(logits[:100], _said(model, inputs[:100])), "agree", "differ"
    free = bool(logits.min() < 0) or not logits.sum(dim=1).allclose(torch.ones(1))
    yield "the numbers are", free, "logits", "probabilities"
    several = len(logits.argmax(dim=1).unique()) > 1
    yield "the answers are", several, "several groups", "one group, always"
    accuracy = _right(logits, fresh)
    print(f"{100 * accuracy:.1f} % of the new pictures are right")
    honest = _right(_said(model, old_inputs), old) < accuracy + 0.12  # its standard error is 0.032 at most
    yield "the sheet's test pictures are known", honest, "as well as new ones", "better than new ones"
    for wanted in ACCURACIES:
        yield f"at least {wanted} % of the new pictures right", 100 * accuracy >= wanted, "yes", "no"


def _tuned_run(answer, seed: int) -> Iterator[tuple[str, object]]:
    for name, so, right, wrong in _tuned_facts(answer, seed):
        yield name, right if so else wrong
        if not so and not name.startswith("at least"):
            return


class _Tuned(Exercise):
    """A model is handed in, and points follow the accuracy."""

    def _share(self, expected: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
        steps = [name for name in expected[0].values if name.startswith("at least")]
        return sum(outcomes[0].values.get(name) == "yes" for name in steps) / len(steps)

    def _refused(self, answer: object, seed: int) -> Report | None:
        if callable(answer):  # also the package's own class, with the learner's weights
            return None
        problem = f"Pass the fine-tuned model, which takes images and returns logits; got {_what(answer)}."
        return Report(self.name, self.points, self.section, seed, state="wrong", problem=problem)


tuned = _Tuned(
    "tuned",
    2,
    "12-transfer-learning#4 How fast",
    lambda images: _knows(images, 0.6),
    _tuned_cases,
    run=_tuned_run,
    repeat=False,
    partial=True,
    seconds=30,
)


@tuned.mistake(
    "It knows no more than a guess, like 40 updates from scratch. Did the old weights arrive in the body? Does "
    "`fine_tune` pass its own check? Is each rate below 0.1?",
    source="Notebook 12, section 1 (nothing loaded, no error) and section 4 (a rate of 2e-2 wrecks the body).",
)
def as_good_as_guessing(images):
    return _knows(images, 0.05)


@tuned.mistake(
    "10 to 20 percent: it has begun to learn. The head's rate is probably far too low, or the body's so high that it "
    "forgets: try 1e-2 and a factor of 0.2.",
    source="Notebook 12, section 4: rates of 2e-4 and 2e-2 for everything.",
)
def hardly_begun(images):
    return _knows(images, 0.15)


@tuned.mistake(
    "20 to 30 percent. In 40 updates a new head needs large steps and the old body small ones: raise the head's rate "
    "alone.",
    source="One rate of 1e-3 for all, torch's default for AdamW: 27 to 30 percent after 30 updates, measured here.",
)
def a_low_rate_for_all(images):
    return _knows(images, 0.25)


@tuned.mistake(
    "30 to 40 percent, as with one rate for all. Raise the head's rate to 1e-2 or 2e-2 and keep the body's near 2e-3.",
    source="One rate of 2e-3 for all, as in notebook 12, section 3: 35 to 38 percent after 40 updates, measured.",
)
def one_rate_for_head_and_body(images):
    return _knows(images, 0.35)


@tuned.mistake(
    "It gives 6 logits: the head of the 6 families is still there. Give the copy a new head before you train.",
    source="Published ViT code whose head stays at the pretrained number of classes.",
)
def six_logits(images):
    return _knows(images, 0.5)[:, :6]


@tuned.mistake(
    "It gives 19 logits, one too few: groups count from 0 to 19, and that makes 20.",
    source="`labels.max()` for the number of classes: https://github.com/jwcalder/GraphLearning/issues/12 has its kin.",
)
def one_class_fewer(images):
    return _knows(images, 0.5)[:, :19]


@tuned.mistake(
    "The model is in training mode. `fine_tune` should hand it back in evaluation mode.",
    source="https://github.com/microsoft/robustdg/issues/30",
)
def still_in_training_mode(images):
    return _knows(images, 0.5)


still_in_training_mode.training = True  # as a module has it


@tuned.mistake(
    "It gives probabilities. `F.cross_entropy` takes logits: with a softmax before it, the loss hardly moves.",
    source="https://github.com/illiterate/BertClassifier/issues/2",
)
def probabilities(images):
    return _knows(images, 0.5).softmax(dim=1)


@tuned.mistake(
    "Whatever the picture, it says the same group. Is the body's rate so high that the body is wrecked, or do the "
    "labels belong to other pictures?",
    source="Notebook 12, section 4: at 2e-2 for everything the families come near the majority baseline.",
)
def always_the_same_group(images):
    return torch.tensor([1.0] + [-1.0] * (GROUPS - 1)).expand(len(images), -1)


@tuned.mistake(
    "It knows the sheet's test pictures far better than new ones, so it was trained on them. Train on `few` only.",
    source="https://github.com/zjc062/mind-vis/issues/24 and "
    "https://github.com/Graylab/DL4Proteins-notebooks/issues/11",
)
def trained_on_test_pictures(images):
    return _knows(images, 0.4, known=set(_names(_pictures(0)[1])))


# ---- 7.7 against scratch


def _paired_cases(generator: Generator) -> Iterator[Case]:
    for n in (3, 5):
        seeds = 0.3 * torch.rand(n, generator=generator)
        scratch = 0.1 + seeds + 0.02 * torch.rand(n, generator=generator)
        transferred = 0.3 + seeds + 0.04 * torch.rand(n, generator=generator)
        if n == 5:
            transferred[0] -= 0.45  # one difference is negative
        values = [[round(value, 3) for value in part.tolist()] for part in (transferred, scratch)]
        yield Case(f"{n} seeds", dict(zip(("transfer", "scratch"), values, strict=True)))


def _paired(transferred: Sequence[float], scratch: Sequence[float], last: Callable | None = None) -> tuple:
    d = torch.tensor(transferred, dtype=torch.float64) - torch.tensor(scratch, dtype=torch.float64)
    return d.mean().item(), (last(d) if last else d.std() / len(d) ** 0.5).item()


def _paired_run(answer, transferred: list[float], scratch: list[float]) -> Iterator[tuple[str, object]]:
    both = answer(transferred, scratch)
    if not isinstance(both, (tuple, list, Tensor)) or len(both) != 2:
        yield "mean", None if both is None else _what(both)
        return
    yield "mean", both[0]
    yield "standard error", both[1]


paired_difference = Exercise(
    "paired_difference",
    2,
    "12-transfer-learning#6 Coarse classes, then fine ones",
    _paired,
    _paired_cases,
    run=_paired_run,
)


@paired_difference.mistake(
    "The second number is the standard deviation of the differences. The error of their mean is smaller: divide by "
    "the root of their number.",
    source="Altman and Bland, 'Standard deviations and standard errors', BMJ 2005, 331:903",
)
def standard_deviation(transfer, scratch):
    return _paired(transfer, scratch, lambda d: d.std())


@paired_difference.mistake(
    "The two runs of a seed are a pair, but you added the variances of both lists: what a seed does to both doesn't "
    "cancel. Take the differences first.",
    source="https://datascienceworkbook.com/statistics/parametric-tests/paired-t-test (paired against independent)",
)
def unpaired(transfer, scratch):
    both = torch.tensor([transfer, scratch], dtype=torch.float64)
    return _paired(transfer, scratch)[0], (both.var(dim=1).sum() / both.shape[1]).sqrt().item()


@paired_difference.mistake(
    "The deviation was divided by n before the root. With few seeds that is too small: divide by n - 1.",
    source="numpy.std, whose default is ddof=0 (its documentation)",
)
def divided_by_n(transfer, scratch):
    return _paired(transfer, scratch, lambda d: d.std(correction=0) / len(d) ** 0.5)


@paired_difference.mistake(
    "The sign is the wrong way round: transfer minus scratch, so that a gain is positive.",
    source="The order of two arguments: expected, no published case found.",
)
def scratch_minus_transfer(transfer, scratch):
    return _paired(scratch, transfer)


@paired_difference.mistake(
    "The deviation is divided by n. The error of a mean falls with the root of n.",
    source="1/n for 1/sqrt(n): expected, no published case found.",
)
def divided_without_root(transfer, scratch):
    return _paired(transfer, scratch, lambda d: d.std() / len(d))


@paired_difference.mistake(
    "The second number is a variance. Its root is missing.",
    source="var / n, as in the formula of a t statistic before its root: expected, no published case found.",
)
def variance(transfer, scratch):
    return _paired(transfer, scratch, lambda d: d.var() / len(d))


@paired_difference.mistake(
    "A loss counts as a gain: you took the differences without their sign.",
    source="abs() of differences, right for a distance: expected, no published case found.",
)
def without_sign(transfer, scratch):
    d = [abs(t - s) for t, s in zip(transfer, scratch, strict=True)]
    return _paired(d, [0.0] * len(d))


@paired_difference.mistake(
    "Lists can't be subtracted from each other. Make tensors of them, or go through both with `zip`.",
    source="TypeError: unsupported operand type(s) for -: 'list' and 'list', under many Python questions.",
)
def lists_subtracted(transfer, scratch):
    return transfer - scratch
