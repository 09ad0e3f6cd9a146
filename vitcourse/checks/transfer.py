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
from torch.optim.optimizer import register_optimizer_step_post_hook

from vitcourse import functional, transfer
from vitcourse.checks.exercise import Case, Exercise, integer, what_it_is
from vitcourse.checks.trained import TrainedModel, one_by_one
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


def _back(back: object, model: nn.Module) -> str | None:
    """In words, whether a function returned the model that it was given."""
    if back is model or back is None:
        return None if back is None else "the model that was handed in"
    return "another model" if isinstance(back, nn.Module) else what_it_is(back)


TRIED = "A trial of this sheet; expected, no published case found."


def _beliefs(exercise: Exercise, by: Callable | None = None, /, **beliefs: tuple) -> None:
    """Add mistakes by name: message, source unless `TRIED`, and the answer, or the options with which `by` gives it."""
    for name, (message, *source, answer) in beliefs.items():
        made = answer if callable(answer) else functools.partial(by, **answer)
        made.__name__ = name
        exercise.mistake(message, *(source or [TRIED]))(made)


def _stops(run: Callable[..., Iterator[tuple[str, object, object]]]) -> Callable[..., Iterator[tuple[str, object]]]:
    """`run` yields names, values and right values; nothing is looked at after the first wrong one."""

    def stopping(*arguments: object) -> Iterator[tuple[str, object]]:
        for name, value, right in run(*arguments):
            yield name, value
            if value != right:
                return

    return stopping


# ---- 7.1 a new head


def _new_head_cases(generator: Generator) -> Iterator[Case]:
    old = integer(4, 6, generator)
    for new, note in ((old + integer(2, 4, generator), ""), (old, ", but others"), (old + 1, ", the old model frozen")):
        model = _vit(generator, old).requires_grad_("frozen" not in note)
        arguments = {"model": model, "num_classes": new, "images": _images(generator)}
        yield Case(f"from {old} classes to {new}{note}", arguments)


@_stops
@torch.no_grad()
def _new_head_run(answer, model: VisionTransformer, K: int, images: Tensor) -> Iterator[tuple[str, object, object]]:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config, old_head, D = model.config, model.head, model.config.hidden_size
    with torch.enable_grad():
        new = answer(model, K)
    back = _back(new, model)
    yield "what comes back", "a new model" if back == "another model" else back, "a new model"
    new.eval()
    width = next((parameter.shape[-1] for parameter in new.head.parameters()), 0)
    yield "the width that the head takes", "D" if width == D else "another number than D", "D"
    yield "shape of the logits", str(tuple(new(images).shape)), str((len(images), K))
    yield "config.num_classes", getattr(getattr(new, "config", None), "num_classes", "missing"), K
    yield "numbers in the head", sum(parameter.numel() for parameter in new.head.parameters()), D * K + K
    mine = new.state_dict()
    kept = all(name in mine and _same(mine[name], old) for name, old in before.items() if not _in_head(name))
    yield "the body's weights", "those of the old model" if kept else "others", "those of the old model"
    rows = mine["head.weight"][:, None].double() == before["head.weight"].double()
    yield "rows of the old head in the new one", int(rows.all(dim=-1).any(dim=-1).sum()), 0
    now = "with another head" if model.head is not old_head else "with other weights"
    now = "with another config" if model.config != config else now
    same = now == "with other weights" and model.state_dict().keys() == before.keys()
    same = same and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    yield "the old model afterwards", "as it was" if same else now, "as it was"
    places = {parameter.data_ptr() for parameter in model.parameters()}
    yield "tensors that both models use", sum(parameter.data_ptr() in places for parameter in new.parameters()), 0
    free = {name for name, parameter in new.named_parameters() if parameter.requires_grad}
    all_free = len(free) == len(list(new.parameters()))
    part = "only the head" if free and all(map(_in_head, free)) else "only a part"
    yield "what can be trained in the new model", "everything" if all_free else part, "everything"


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
    may_use=("model",),
)


def _replaced(model, num_classes, of: Callable = copy.deepcopy, config: bool = True, free: bool = True, width: int = 0):
    new = of(model)
    if free:
        new.requires_grad_(True)
    new.head = nn.Linear(width or new.config.hidden_size, num_classes)
    if config:
        new.config = new.config.replace(num_classes=num_classes)
    return new


def _with_old_rows(model, num_classes):
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


def _with_both_configs_changed(model, num_classes):
    new = _replaced(model, num_classes)
    model.config = new.config
    return new


_beliefs(
    with_new_head,
    in_the_old_model=(
        "The new head sits in the old model, which is gone now: work on a copy of it.",
        "`model.fc = nn.Linear(...)` on the loaded model: "
        "https://theneuralbase.com/torchvision/learn/intermediate/replacing-the-classifier-head/",
        lambda model, num_classes: _replaced(model, num_classes, of=lambda model: model),
    ),
    the_old_head=(
        "The head still has the old classes: the number of logits is that of the pretraining. A "
        "number edited afterwards changes no layer.",
        "Published ViT code whose head stays at the pretrained number; "
        "https://github.com/Megvii-BaseDetection/DenseTeacher/issues/29",
        lambda model, num_classes: copy.deepcopy(model),
    ),
    kept_when_the_number_agrees=(
        "With as many classes as before you keep the old head. The number is right, the rows are old: they stand for "
        "other classes. Make a new head in any case.",
        lambda model, num_classes: (
            copy.deepcopy(model) if num_classes == model.config.num_classes else _replaced(model, num_classes)
        ),
    ),
    a_width_written_down=(
        "The head doesn't take the D numbers that the body gives. The width comes from `model.config`.",
        lambda model, num_classes: _replaced(model, num_classes, width=48),
    ),
    config_forgotten=(
        "The head fits, but `config.num_classes` still says the old number. A saved copy of it won't load.",
        "https://github.com/huggingface/pytorch-image-models/pull/2421 and "
        "https://github.com/Deci-AI/super-gradients/pull/368",
        lambda model, num_classes: _replaced(model, num_classes, config=False),
    ),
    config_attribute_set=(
        "A config is frozen: its numbers can't be set. `config.replace` makes a changed one.",
        lambda model, num_classes: setattr(model.config, "num_classes", num_classes),
    ),
    both_configs_changed=(
        "The old model's `config` has changed. Put the changed config into the new model alone.",
        _with_both_configs_changed,
    ),
    everything_anew=(
        "The body isn't the old one: its weights were drawn anew, so nothing is transferred. Did they arrive, or did "
        "`strict=False` swallow names that don't fit?",
        "Notebook 12, section 1: names with `module.` in front, loaded with strict=False.",
        lambda model, num_classes: VisionTransformer(model.config.replace(num_classes=num_classes)),
    ),
    old_rows_kept=(
        "The new head holds rows of the old one. Your class 0 has nothing to do with the old class 0, so draw all rows "
        "anew, also when the numbers of classes agree.",
        "https://github.com/huggingface/transformers/issues/11545: copying what fits of a classifier.",
        _with_old_rows,
    ),
    parts_shared=(
        "Both models use the same tensors: train the new one, and the old one changes with it. Copy the weights.",
        "https://github.com/zhangj111/astnn/issues/8 (an assignment taken for a copy)",
        _with_the_same_parts,
    ),
    a_shallow_copy=(
        "The old model has got the new head too: a shallow copy shares the table of layers. You need a deep copy.",
        "`copy.copy` of an nn.Module, whose `_modules` stays one dictionary; the same trap as in "
        "https://github.com/sicara/easy-few-shot-learning/pull/129",
        lambda model, num_classes: _replaced(model, num_classes, of=copy.copy, free=False),
    ),
    frozen_as_well=(
        "All fits, but the body is frozen. That is another decision: here everything can be trained.",
        "https://pytorch.org/tutorials/beginner/transfer_learning_tutorial.html, where both are in one cell",
        lambda model, num_classes: _replaced(copy.deepcopy(model).requires_grad_(False), num_classes, free=False),
    ),
    frozen_as_it_was=(
        "A copy of a frozen model is frozen too: only the new head can be trained. Set everything in the copy free.",
        lambda model, num_classes: _replaced(model, num_classes, free=False),
    ),
)


# ---- 7.2 freeze


def _freeze_cases(generator: Generator) -> Iterator[Case]:
    for rate, frozen in ((0.5, False), (0.0, True)):
        K = integer(4, 7, generator)
        note = f"{K} classes, dropout {rate:g}, in training mode, {'everything' if frozen else 'nothing'} frozen yet"
        model = _vit(generator, K, hidden_dropout_prob=rate).train().requires_grad_(not frozen)
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


def _attributes_set(model):
    model.requires_grad, model.head.requires_grad = False, True
    return model.eval()


_beliefs(
    freeze,
    set_on_the_module=(
        "Nobody reads an attribute `requires_grad` of a module: all can still learn. Each parameter has its own.",
        "https://github.com/CSCYQJ/MICCAI23-ProtoContra-SFDA/issues/18 and "
        "https://github.com/catalyst-team/catalyst/pull/81",
        _attributes_set,
    ),
    evaluation_mode_only=(
        "Evaluation mode switches dropout off and freezes nothing: all parameters can still learn.",
        "https://github.com/alexrich021/3dvnet/issues/11",
        lambda model: model.eval(),
    ),
    a_block_without_gradients=(
        "`torch.no_grad()` acts on what is computed inside its block. After it all parameters can learn as before.",
        "https://pytorch.org/docs/stable/notes/autograd.html tells no_grad, eval and requires_grad apart.",
        lambda model: model,
    ),
    the_head_too=(
        "Nothing can learn now, the head neither. `backward` will raise an error.",
        "`requires_grad_(False)` on the whole model, after the head was made: expected, no published case found.",
        lambda model: _frozen(model, lambda name, parameter: False),
    ),
    the_head_left_as_it_was=(
        "Somebody had frozen everything, and you only froze the body: the head can't learn. Set the head free too.",
        lambda model: _frozen(model, lambda name, parameter: _in_head(name) and parameter.requires_grad),
    ),
    only_the_blocks=(
        "Only the blocks are frozen. Patch embedding, positions, [CLS] and the last norm belong to the body too.",
        lambda model: _frozen(model, lambda name, parameter: not name.startswith("blocks.")),
    ),
    all_norms_left_free=(
        "All LayerNorms can still learn. They belong to the body, in each block and at the end: only the head is free.",
        "https://github.com/princeton-vl/RAFT/issues/141 (which norms a freeze reaches)",
        lambda model: _frozen(model, lambda name, parameter: _in_head(name) or "norm" in name),
    ),
    a_loop_over_the_layers=(
        "[CLS] can still learn. It is a parameter of the model itself: a loop over the layers misses it.",
        "`for child in model.children()`, the loop of many answers on freezing; "
        "https://github.com/optuna/optuna/issues/3855 loops over modules so.",
        lambda model: _frozen(
            model, lambda name, parameter: _in_head(name) or (name == "class_token" and parameter.requires_grad)
        ),
    ),
    dropout_still_draws=(
        "No parameter of the body moves, but dropout still draws. A frozen body belongs into evaluation mode.",
        "https://github.com/chemprop/chemprop/pull/952 (freezing by gradients alone)",
        lambda model: _frozen(model, lambda name, parameter: _in_head(name), still=False),
    ),
    a_frozen_copy=(
        "You froze a copy. The model that was handed in is as free as before, and that one will be trained.",
        "https://github.com/zhangj111/astnn/issues/8: which of two names is the model?",
        lambda model: _frozen(copy.deepcopy(model), lambda name, parameter: _in_head(name)),
    ),
)


# ---- 7.2 count


def _trainable_cases(generator: Generator) -> Iterator[Case]:
    for free in (("head",), ("head", "norm"), ("class_token", "blocks")):
        model = _vit(generator, integer(4, 9, generator), width=2 * integer(3, 6, generator))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in free)
        size = f"D = {model.config.hidden_size}, n_c = {model.config.num_classes}"
        yield Case(f"{size}; free: {' and '.join(free)}", {"model": model, "sizes": size})


trainable = Exercise(
    "trainable",
    1,
    "12-transfer-learning#2 What moves",
    lambda model: _free(model),
    _trainable_cases,
    run=lambda answer, model, sizes: {"numbers that can learn": answer(model)},
)

_beliefs(
    trainable,
    frozen_ones_too=(
        "This counts all numbers, also the frozen ones.",
        "The one-line count of many forum answers, before its `if p.requires_grad` was added.",
        lambda model: sum(parameter.numel() for parameter in model.parameters()),
    ),
    tensors_counted=(
        "This counts tensors. A weight matrix of shape (n_c, D) is one tensor and n_c D numbers.",
        "len(list(model.parameters())), a common first try in questions on counting parameters.",
        lambda model: sum(parameter.requires_grad for parameter in model.parameters()),
    ),
    a_loop_over_the_layers=(
        "[CLS] isn't counted. It is a parameter of the model itself, in no layer, so a loop over the layers misses it.",
        "`for child in model.children()`, as in https://github.com/optuna/optuna/issues/3855",
        lambda model: sum(map(_free, model.children())),
    ),
    always_the_head=(
        "These are the numbers of the head, whatever is frozen. Ask each parameter whether it can learn.",
        "D n_c + n_c, right for a probe, taken for the rule.",
        lambda model: sum(parameter.numel() for parameter in model.head.parameters()),
    ),
)


# ---- 7.3 two rates


def _groups_cases(generator: Generator) -> Iterator[Case]:
    for note, frozen in (
        ("nothing", ()),
        ("the positions and the head's bias", ("position_embedding", "head.bias")),
        ("everything but the head", ("class_token", "patch_embedding", "position_embedding", "blocks", "norm")),
    ):
        model = _vit(generator, integer(4, 7, generator))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen))
        rate, factor = integer(2, 9, generator) / 1000, integer(2, 9, generator) / 20
        note = f"frozen: {note}; learning_rate {rate:g}, factor {factor:g}"
        yield Case(note, {"model": model, "learning_rate": rate, "factor": factor})


def _listed(group: Mapping) -> list[Tensor]:
    parameters = group.get("params", [])
    parameters = [parameters] if isinstance(parameters, (str, Tensor)) else list(parameters)
    return [entry[1] if isinstance(entry, tuple) else entry for entry in parameters]


def _groups_run(answer, model: VisionTransformer, learning_rate: float, factor: float) -> Iterator[tuple[str, object]]:
    groups = answer(model, learning_rate, factor)
    fits = isinstance(groups, (list, tuple)) and all(isinstance(group, Mapping) for group in groups)
    other = "an optimiser" if isinstance(groups, torch.optim.Optimizer) else what_it_is(groups)
    yield "what comes back", None if groups is None else "a list of groups" if fits else other
    if not fits:
        return
    groups = [{**group, "params": _listed(group)} for group in groups]
    kinds = {type(p).__name__ for group in groups for p in group["params"] if not isinstance(p, Tensor)}
    yield 'what stands under "params"', f"objects of type {kinds.pop()}" if kinds else "parameters"
    if kinds:
        return
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    named = list(model.named_parameters())
    head, body = ({id(p) for name, p in named if _in_head(name) is wanted} for wanted in (True, False))
    yield "parameters listed twice", len(listed) - len(set(listed))
    frozen = {id(parameter) for _, parameter in named if not parameter.requires_grad}
    yield "frozen parameters of the head that are listed", len(frozen & head & set(listed))
    yield "frozen parameters of the body that are listed", len(frozen & body & set(listed))
    yield "parameters of the head that are listed", len(head & set(listed))
    yield "parameters of the body that are listed", len(body & set(listed))
    for name, part in (("head", head), ("body", body)):
        rates = {group.get("lr", "not given") for group in groups if part & {id(p) for p in group["params"]}}
        rates = {rate.item() if isinstance(rate, Tensor) else rate for rate in rates}
        yield f"rate of the {name}", rates.pop() if len(rates) == 1 else "several" if rates else "no parameter listed"
    torch.optim.SGD(groups, lr=1.0)
    yield "an optimiser takes them", True


def _groups(head: Sequence, body: Sequence, rate: float, slow: float, key: str = "lr") -> list[dict[str, object]]:
    return [{"params": list(head), key: rate}, {"params": list(body), key: slow}]


def _learns(name: str, parameter: Tensor) -> bool:
    return parameter.requires_grad


def _split(
    model: nn.Module, into_head: Callable = _in_head, keep: Callable = _learns, what: Callable = lambda name, p: p
) -> tuple[list, list]:
    named = [(name, what(name, parameter)) for name, parameter in model.named_parameters() if keep(name, parameter)]
    return [p for name, p in named if into_head(name)], [p for name, p in named if not into_head(name)]


def _grouped(model, learning_rate, factor, rates: Callable = lambda rate, factor: (rate, factor * rate), **options):
    """The groups of a belief that splits otherwise (`options` of `_split`), or takes other rates."""
    return _groups(*_split(model, **options), *rates(learning_rate, factor))


def _grouped_with_the_head_twice(model, learning_rate, factor):
    head, body = _split(model)
    return _groups(head, head + body, learning_rate, factor * learning_rate)


def _grouped_without_a_rate(model, learning_rate, factor):
    head, body = _split(model)
    return [{"params": head, "lr": learning_rate}, {"params": body}]


parameter_groups = Exercise(
    "parameter_groups",
    2,
    "12-transfer-learning#4 How fast",
    lambda model, learning_rate, factor: _grouped(model, learning_rate, factor),
    _groups_cases,
    run=_groups_run,
)

_beliefs(
    parameter_groups,
    _grouped,
    one_rate_for_all=(
        "Head and body have the same rate, `learning_rate`. The body's is `factor` times that.",
        "https://github.com/open-mmlab/mmdetection/issues/6599 (a factor for the backbone that changes nothing)",
        {"rates": lambda rate, factor: (rate, rate)},
    ),
    the_head_not_found=(
        "Head and body both have the small rate: your test finds no head, so its parameters went to the body. Their "
        "names begin with `head.`, and none is `head` alone.",
        {"into_head": lambda name: name == "head"},
    ),
    the_factor_on_the_head=(
        "The factor went to the head. The head is new and takes the full rate; the body takes the smaller one.",
        "https://github.com/ultralytics/ultralytics/pull/25532 (a head that misses its rate)",
        {"rates": lambda rate, factor: (factor * rate, rate)},
    ),
    head_in_both=(
        "The parameters of the head stand in both groups. The optimiser refuses that: each belongs into one.",
        "'some parameters appear in more than one parameter group', a ValueError of torch.optim",
        _grouped_with_the_head_twice,
    ),
    head_forgotten=(
        "The head is in no group: it would stay random.",
        "https://github.com/webis-de/small-text/issues/36",
        {"keep": lambda name, p: p.requires_grad and not _in_head(name)},
    ),
    frozen_ones_listed=(
        "Frozen parameters are listed too. Leave out what can't learn: then the groups say what is trained.",
        "https://github.com/JIA-Lab-research/PFENet/issues/10",
        {"keep": lambda name, p: True},
    ),
    head_listed_unasked=(
        "You ask only the body's parameters whether they can learn. A part of the head may be frozen too.",
        {"keep": lambda name, p: p.requires_grad or _in_head(name)},
    ),
    class_token_forgotten=(
        "[CLS] is in no group. It is a parameter of the model itself, in no layer, so a list of layers misses it.",
        "Groups put together layer by layer, as in https://github.com/webis-de/small-text/issues/36",
        {"keep": lambda name, p: p.requires_grad and name != "class_token"},
    ),
    only_the_blocks=(
        "Of the body only the blocks are listed: patch embedding, positions, [CLS] and the last norm never move.",
        "https://github.com/DocF/multispectral-object-detection/issues/77 (positions that are in no group)",
        {"keep": lambda name, p: p.requires_grad and name.startswith(("head.", "blocks."))},
    ),
    matrices_only=(
        "The body lists matrices only: biases and norms are in no group, so they never move.",
        "The filter `p.ndim > 1` of nanoGPT's configure_optimizers, meant for weight decay, without its second half.",
        {"keep": lambda name, p: p.requires_grad and (_in_head(name) or p.ndim > 1)},
    ),
    names_for_parameters=(
        '`"params"` holds names. An optimiser moves tensors: list the parameters themselves.',
        {"what": lambda name, p: name},
    ),
    body_without_rate=(
        "The body's group has no rate of its own, so it gets whatever the optimiser was made with. Give it one.",
        "https://pytorch.org/docs/stable/optim.html, per-parameter options, where one group has no `lr`",
        _grouped_without_a_rate,
    ),
    another_key=(
        'No group has a rate under `"lr"`, the key that an optimiser reads. Other keys mean nothing to it.',
        lambda model, rate, factor: _groups(*_split(model), rate, factor * rate, key="learning_rate"),
    ),
    an_optimiser=(
        "You made the optimiser already. Asked for are the groups that it is made from: return the list.",
        lambda model, rate, factor: torch.optim.AdamW(_grouped(model, rate, factor)),
    ),
)


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
        yield "shape of the result", None if resized is None else what_it_is(resized)
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


def _scaled(
    rows: Tensor, grid: tuple, new: tuple, fold: bool = True, unfold: bool = True, turn: bool = False, **options
) -> Tensor:
    """The patches' rows scaled; `fold`, `unfold`: whether D is moved, or only a shape is written over the numbers."""
    h, w = grid
    D = rows.shape[2]
    picture = rows.transpose(1, 2).reshape(1, D, h, w) if fold else rows.reshape(1, D, h, w)
    picture = picture.mT if turn else picture
    picture = F.interpolate(picture, **{"size": new, "mode": "bicubic", "antialias": True, **options})
    return picture.flatten(2).transpose(1, 2) if unfold else picture.reshape(1, -1, D)


def _resized(positions, grid, new, **options):
    return torch.cat([positions[:, :1], _scaled(positions[:, 1:], grid, new, **options)], dim=1)


_beliefs(
    resize_positions,
    _resized,
    cls_scaled_along=(
        "[CLS] was scaled along with the patches, in one line of tokens. It has no place in the grid: set it apart, "
        "and scale the rest in two dimensions.",
        "https://github.com/google-research/vision_transformer/pull/317 (is there a class token in the table?)",
        lambda positions, grid, new: F.interpolate(
            positions.transpose(1, 2), size=1 + math.prod(new), mode="linear"
        ).transpose(1, 2),
    ),
    cls_dropped=(
        "The row of [CLS] is missing: the result has as many rows as the new grid, one too few.",
        "https://github.com/huggingface/pytorch-image-models/pull/1365 (tables with and without a class token)",
        lambda positions, grid, new: _scaled(positions[:, 1:], grid, new),
    ),
    cls_last=(
        "[CLS] stands last. The model reads its row at index 0.",
        "Published ViT code in which [CLS] is appended last but read at index 0.",
        lambda positions, grid, new: torch.cat([_scaled(positions[:, 1:], grid, new), positions[:, :1]], dim=1),
    ),
    rows_and_columns_exchanged=(
        "The old grid was read with rows and columns exchanged. `grid` is (height, width).",
        "https://github.com/facebookresearch/mae/issues/67 and https://github.com/facebookresearch/dinov2/pull/582",
        lambda positions, grid, new: _resized(positions, grid[::-1], new),
    ),
    new_grid_exchanged=(
        "The new grid has rows and columns exchanged: `new_grid` is (height, width), as in `F.interpolate`.",
        "https://github.com/pytorch/torchtitan/pull/4244 and https://github.com/lightly-ai/lightly-train/pull/189",
        lambda positions, grid, new: _resized(positions, grid, new[::-1]),
    ),
    both_grids_exchanged=(
        "Rows and columns are exchanged in both grids: `grid` and `new_grid` are (height, width).",
        lambda positions, grid, new: _resized(positions, grid[::-1], new[::-1]),
    ),
    lying_on_its_side=(
        "The picture lies on its side: rows and columns were exchanged when you moved the axes. Before `F.interpolate` "
        "their order is (1, D, height, width).",
        {"turn": True},
    ),
    nearest=(
        "Each new place copies its nearest old one. The task asks for bicubic, which blends neighbours.",
        "mode='nearest' is the default of torch.nn.functional.interpolate (its documentation).",
        {"mode": "nearest", "antialias": False},
    ),
    bilinear=(
        "This is bilinear. The task asks for bicubic.",
        "https://github.com/rstrudel/segmenter/issues/35 and "
        "https://github.com/huggingface/pytorch-image-models/pull/750",
        {"mode": "bilinear"},
    ),
    corners_aligned=(
        "Your corner places lie on the old corners: that is `align_corners=True`. Leave it False.",
        "https://github.com/huggingface/pytorch-image-models/pull/750 (align_corners=False as the setting of DeiT)",
        {"align_corners": True},
    ),
    no_antialias=(
        "Without `antialias=True`. In a smaller grid each place should blend all old places that it covers.",
        "DeiT's and DINO's resizing, written before torch had `antialias`; timm's resample_abs_pos_embed sets it.",
        {"antialias": False},
    ),
    written_into_another_shape=(
        "`reshape` to (1, D, height, width) mixes D with the places: numbers stay in their order. Move the axis of D "
        "first, then cut the places into rows.",
        "https://github.com/open-mmlab/mmsegmentation/pull/465, where a permute does it; without it shapes fit.",
        {"fold": False},
    ),
    written_back_into_another_shape=(
        "The way in is right. On the way back a `reshape` mixes D with the places: move the axis of D last.",
        "https://github.com/open-mmlab/mmsegmentation/pull/465, the same on the way back.",
        {"unfold": False},
    ),
    reshaped_both_ways=(
        "`reshape` mixes D with the places, on the way in and on the way back: an axis has to move.",
        "view, reshape and permute confused: the subject of many PyTorch forum questions.",
        {"fold": False, "unfold": False},
    ),
    returned_when_the_count_agrees=(
        "The table came back as it was. 2 x 6 isn't 4 x 3: compare the grids, not the numbers of places.",
        "https://github.com/huggingface/pytorch-image-models/pull/2737",
        lambda positions, grid, new: positions if math.prod(grid) == math.prod(new) else _resized(positions, grid, new),
    ),
    the_count_as_side=(
        "The number of places was taken for a side of a square. `size` is the pair (height, width).",
        "`size=N` for torch.nn.functional.interpolate, which makes both sides N (its documentation).",
        lambda positions, grid, new: _resized(positions, grid, math.prod(new)),
    ),
)


# ---- 7.5 what counts as good


def _spread(counts: Sequence[int], generator: Generator) -> Tensor:
    """Labels with so many of each class, mixed."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=generator)]


def _majority_cases(generator: Generator) -> Iterator[Case]:
    more = integer(0, 2, generator)
    for note, train, test in (  # the middle label of training is another class than the largest
        ("another class is the largest in the test set", (5, 8 + more, 4, 6, 7), (3, 6, 4, 12, 2)),
        ("the largest training class has no test image", (9 + more, 5, 8, 6), (0, 4, 7, 6)),
    ):
        labels = [_spread(counts, generator) for counts in (train, test)]
        yield Case(note, dict(zip(("train_labels", "test_labels"), labels, strict=True)))


def _majority(train: Tensor, test: Tensor) -> float:
    return _share(test, train.bincount().argmax())


def _share(labels: Tensor, k: Tensor | int) -> float:
    return (labels == k).double().mean().item()


majority_baseline = Exercise(
    "majority_baseline",
    1,
    "12-transfer-learning#7 What accuracy hides",
    _majority,
    _majority_cases,
    run=lambda answer, train_labels, test_labels: {"baseline": answer(train_labels, test_labels)},
)

_beliefs(
    majority_baseline,
    chosen_on_the_test_set=(
        "The class was chosen with the help of the test labels. A rule may learn from training labels only.",
        "https://github.com/scikit-learn/scikit-learn/pull/21712 (DummyClassifier learns from `y` of fit)",
        lambda train, test: _majority(test, test),
    ),
    the_middle_label=(
        "You took the label in the middle, a median or a mean. Labels are names: asked for is the most frequent one.",
        lambda train, test: _share(test, train.median()),
    ),
    measured_on_the_training_set=(
        "This is the largest class's share in training. Choose the class there, but measure on the test labels.",
        "Baselines read off the table of class counts, as in notebook 12, section 7, where nothing else is known.",
        lambda train, test: _majority(train, train),
    ),
    chance=(
        "This is chance, 1/n_c. Always saying the largest class is usually better.",
        "Chance in place of the majority: the 1/82 that notebook 12, section 7, warns of.",
        lambda train, test: 1 / len(torch.cat([train, test]).unique()),
    ),
    in_percent=(
        "This is in percent. Asked for is a share, between 0 and 1.",
        lambda train, test: 100 * _majority(train, test),
    ),
)


def _answers_cases(generator: Generator) -> Iterator[Case]:
    a, b = integer(0, 3, generator), integer(0, 2, generator)
    for note, matrix in (  # no matrix is symmetric; one class has recall 0 and is said, one is never said
        (
            "all classes have images; class 2 is never said rightly, class 3 never at all",
            [[6 + a, 2 + b, 3, 0], [1, 4, 2, 0], [2, 1, 0, 0], [1, 2, 1, 0]],
        ),
        (
            "classes 2 and 5 have no image and aren't said; class 3 is never said rightly, class 4 never at all",
            [[6 + a, 3 + b, 0, 1, 0, 0], [2, 4, 0, 2, 0, 0], 6 * [0], [1, 2, 0, 0, 0, 0], [2, 0, 0, 1, 0, 0], 6 * [0]],
        ),
        (
            "classes 2 and 4 have no image, and 2 is said",
            [[5 + a, 3 + b, 2, 1, 0], [4, 3, 1, 0, 0], 5 * [0], [0, 1, 1, 2, 0], 5 * [0]],
        ),
    ):
        counts, K = torch.tensor(matrix), len(matrix)
        pairs = _spread(counts.flatten().tolist(), generator)
        arguments = {"predictions": pairs % K, "labels": pairs // K, "classes": K}
        yield Case(f"{len(pairs)} images, {K} classes: {note}", arguments)


def _confusion(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    return (labels * classes + predictions).bincount(minlength=classes**2).view(classes, classes)


def _confusion_run(answer, predictions: Tensor, labels: Tensor, classes: int) -> Iterator[tuple[str, object]]:
    matrix = answer(predictions, labels, classes)
    matrix = torch.tensor(matrix) if isinstance(matrix, list) else matrix
    if not hasattr(matrix, "shape"):
        yield "shape", None if matrix is None else what_it_is(matrix)
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


def _pairs_once(predictions, labels, classes):
    matrix = torch.zeros(classes, classes, dtype=torch.long)
    matrix[labels, predictions] += 1
    return matrix


def _divided(predictions, labels, classes, dim):
    matrix = _confusion(predictions, labels, classes).double()
    return matrix / matrix.sum(dim=dim, keepdim=True).clamp(min=1)


def _known_classes(predictions, labels, classes):
    known = torch.cat([predictions, labels]).unique()
    return _confusion(torch.searchsorted(known, predictions), torch.searchsorted(known, labels), len(known))


_beliefs(
    confusion,
    exchanged=(
        "Rows and columns are exchanged: the row is the true class, the column what the model said.",
        "https://github.com/nkarasiak/dzetsaka/issues/53 and https://github.com/ultralytics/ultralytics/issues/3055",
        lambda predictions, labels, classes: _confusion(labels, predictions, classes),
    ),
    pairs_counted_once=(
        "Equal pairs are counted once: `matrix[i, j] += 1` with tensors of indices writes each place only once.",
        "https://numpy.org/doc/stable/reference/generated/numpy.ufunc.at.html says so of `a[indices] += 1`.",
        _pairs_once,
    ),
    rows_divided=(
        "The rows are divided by their sums: these are recalls. Asked for are numbers of images.",
        "normalize='true' of sklearn.metrics.confusion_matrix (its documentation)",
        functools.partial(_divided, dim=1),
    ),
    columns_divided=(
        "The columns are divided by their sums: these are precisions. Asked for are numbers of images.",
        "https://github.com/ultralytics/yolov5/pull/2114 and "
        "https://github.com/GilLevi/AgeGenderDeepLearning/issues/29",
        functools.partial(_divided, dim=0),
    ),
    only_classes_that_occur=(
        "Only classes that occur have a row. The matrix is always n_c x n_c, if need be with rows of zeros.",
        "sklearn.metrics.confusion_matrix without `labels` (its documentation: those that appear at least once)",
        _known_classes,
    ),
    size_from_the_largest=(
        "The size follows the largest class that happens to occur. Use `classes`.",
        "`labels.max() + 1` for a number of classes, as in https://github.com/jwcalder/GraphLearning/issues/12",
        lambda predictions, labels, classes: _confusion(
            predictions, labels, int(torch.cat([predictions, labels]).max()) + 1
        ),
    ),
    no_minlength=(
        "`bincount` ends at the largest pair that occurs, so there are too few numbers for n_c rows. Use `minlength`.",
        lambda predictions, labels, classes: (labels * classes + predictions).bincount().view(classes, classes),
    ),
)


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


def _right_at_least_once(predictions, labels, classes):
    recalls = _recalls(predictions, labels, classes)
    return recalls[recalls > 0].mean()


_beliefs(
    balanced_accuracy,
    plain_accuracy=(
        "This is plain accuracy: frequent classes count more. Take each class's recall first, then the mean.",
        "https://github.com/scikit-learn/scikit-learn/pull/6752 (why the measure was wanted)",
        lambda predictions, labels, classes: (predictions == labels).double().mean(),
    ),
    precision=(
        "You divided by how often a class was said: that is precision. Recall divides by how often it is true.",
        "Sums over the wrong axis of a matrix, as in https://github.com/accord-net/framework/issues/669",
        lambda predictions, labels, classes: _recalls(labels, predictions, classes).nanmean(),
    ),
    recalls_of_zero_left_out=(
        "A class that is never right has recall 0, and that counts. Leave out only classes without images.",
        _right_at_least_once,
    ),
    classes_never_said_left_out=(
        "A class that the model never says is missing from your mean. If it has images, its recall is 0 and counts: go "
        "by the labels, not by the predictions.",
        lambda predictions, labels, classes: _recalls(predictions, labels, classes)[predictions.unique()].nanmean(),
    ),
    empty_classes_as_zero=(
        "Classes without images count as recall 0. They have no recall: leave them out of the mean.",
        "https://github.com/scikit-learn/scikit-learn/issues/26892 (recall_score's macro average does it)",
        lambda predictions, labels, classes: _recalls(predictions, labels, classes).nansum() / classes,
    ),
    said_classes_as_zero=(
        "A class that is said but has no image counts as recall 0. It has no recall: leave it out of the mean.",
        "https://github.com/online-ml/river/pull/1953",
        lambda predictions, labels, classes: (
            _recalls(predictions, labels, classes).nansum() / len(torch.cat([predictions, labels]).unique())
        ),
    ),
    empty_classes_as_one=(
        "Classes without images count as recall 1. They have no recall: leave them out of the mean.",
        "https://github.com/rafaelpadilla/Object-Detection-Metrics/pull/108",
        lambda predictions, labels, classes: _recalls(predictions, labels, classes).nan_to_num(1.0).mean(),
    ),
    nan_for_empty_classes=(
        "It gives nan: a class without images has recall 0/0, and one nan makes the mean nan. Leave such classes out.",
        "https://github.com/stan-dev/loo/pull/337",
        lambda predictions, labels, classes: _recalls(predictions, labels, classes).mean(),
    ),
    in_percent=(
        "This is in percent. Asked for is a share, between 0 and 1.",
        lambda predictions, labels, classes: 100 * _recalls(predictions, labels, classes).nanmean(),
    ),
)


# ---- 7.6 fine-tune


@torch.no_grad()
def _tune_cases(generator: Generator) -> Iterator[Case]:
    for kind in ("all free", "body frozen", "all free, and every label known from the start"):
        n, K, updates = 160, 4, integer(6, 8, generator)
        ready = "known" in kind
        labels = torch.arange(n) * K // n  # in order, as the sheet draws them
        patterns = 1.5 * torch.randn(K, 2, 4, 6, generator=generator)
        images = patterns[labels] + (0.05 if ready else 0.3) * torch.randn(n, 2, 4, 6, generator=generator)
        model = _vit(generator, K, width=16, layers=1, hidden_dropout_prob=0.0 if ready else 0.05)
        model.head.weight.mul_(0.03)  # each class nearly as likely as the others
        model.head.bias.zero_()
        if ready:
            _fit_head(model, images, labels)
        transfer.freeze_body(model, kind == "body frozen")
        note = f"a small ViT, {kind}; {n} images, {updates} updates"
        yield Case(note, {"model": model, "images": images, "labels": labels, "updates": updates})


def _fit_head(model: VisionTransformer, images: Tensor, labels: Tensor) -> None:
    z: list[Tensor] = []
    handle = model.head.register_forward_pre_hook(lambda _, inputs: z.append(inputs[0]))
    model(images)
    handle.remove()
    wanted = 16.0 * F.one_hot(labels) - 8
    solved = torch.linalg.lstsq(F.pad(z[0], (0, 1), value=1.0).double(), wanted.double(), driver="gelsd").solution
    model.head.weight.copy_(solved[:-1].T)
    model.head.bias.copy_(solved[-1])


class _Watched:
    """What a training does, update by update."""

    def __init__(self, model: VisionTransformer, images: Tensor, labels: Tensor):
        self.model, self.labels = model, labels
        self.before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.place = {name: place for place, name in enumerate(_names(images))}
        self.batches: list[list[int]] = []
        self.modes: list[bool] = []
        self.pushes: list[tuple[float, float]] = []
        self.alone: list[Tensor] = []
        self.summed: list[Tensor] = []
        self.optimisers: list[torch.optim.Optimizer] = []
        self.as_given: bool | None = None
        model.register_forward_hook(self._forward)
        model.head.weight.register_hook(lambda gradient: self.alone.append(gradient.clone()))
        model.head.weight.register_post_accumulate_grad_hook(lambda weight: self.summed.append(weight.grad.clone()))

    def _forward(self, _: nn.Module, inputs: tuple, logits: Tensor) -> None:
        if not logits.requires_grad:
            return
        if self.as_given is None:
            self.as_given = all(torch.equal(p, self.before[name]) for name, p in self.model.named_parameters())
        places, learns, z = (
            [self.place.get(name, -1) for name in _names(inputs[0])],
            self.model.training,
            logits.detach(),
        )

        def backward(gradient: Tensor) -> None:
            self.batches.append(places)
            self.modes.append(learns)
            if min(places) >= 0:  # else the pictures were altered
                wanted = (z.softmax(dim=1) - F.one_hot(self.labels[places], z.shape[1])) / len(z)
                size = (gradient * wanted).sum() / wanted.square().sum()
                self.pushes.append((F.cosine_similarity(gradient, wanted, dim=1).mean().item(), size.item()))

        logits.register_hook(backward)

    def stepped(self, optimiser: torch.optim.Optimizer, *_: object) -> None:
        if not any(optimiser is known for known in self.optimisers):
            self.optimisers.append(optimiser)

    def count(self, asked: int) -> str:
        done = len(self.batches)
        if done == asked:
            return "as many as asked for"
        close = {0: "none", 1: "one alone", asked - 1: "one too few", asked + 1: "one too many"}
        more = "several for each that was asked for" if done >= 2 * asked else "too many"
        return close.get(done, "too few" if done < asked else more)

    def direction(self) -> str:
        first = [cosine for cosine, _ in self.pushes[:4]] or [1.0]
        mean = sum(first) / len(first)
        return "the pictures' own labels" if mean > 0.6 else "anything but the label" if mean < -0.6 else "other labels"

    def strength(self) -> str:
        cosine, size = self.pushes[0] if self.pushes else (1.0, 1.0)
        return "cross-entropy of logits" if cosine > 0.95 and size > 0.5 else "weaker" if cosine > 0.95 else "another"

    def choice(self) -> str:
        """How the pictures of the updates were chosen."""
        seen = [places for places in self.batches if min(places) >= 0]
        if not seen:
            return "drawn anew"
        if all(len(set(places)) == len(self.place) for places in seen):
            return "all of them"
        if all(sorted(places) == sorted(seen[0]) for places in seen):
            first = sorted(seen[0]) == list(range(len(seen[0])))
            return "the first ones each time" if first else "the same each time"
        if all(places == list(range(places[0], places[0] + len(places))) for places in seen):
            return "in the order of the set"
        return "drawn anew" if max(map(max, seen)) >= len(self.place) / 2 else "from the first part of the set alone"


@_stops
def _tune_run(answer, model: VisionTransformer, images: Tensor, labels: Tensor, updates: int) -> Iterator:
    model = copy.deepcopy(model)  # training changes it, as it should
    with torch.no_grad():
        ready = bool((model(images).softmax(dim=1).amax(dim=1) > 0.9).all())
    seen = _Watched(model, images, labels)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    handle = register_optimizer_step_post_hook(seen.stepped)
    try:
        back = answer(model, images, labels, updates)
    finally:
        handle.remove()
    yield "updates", seen.count(updates), "as many as asked for"
    yield "what comes back", _back(back, model), "the model that was handed in"
    yield "weights at the first update", "those handed in" if seen.as_given else "others", "those handed in"
    if ready:  # gradients may be too small to move anything
        return
    yield "the loss pulls the logits towards", seen.direction(), "the pictures' own labels"
    yield "the loss pulls like", seen.strength(), "cross-entropy of logits"
    yield "the pictures of an update", seen.choice(), "drawn anew"
    yield "mode while it learns", "training mode" if all(seen.modes) else "evaluation mode", "training mode"
    yield "mode at the end", "training mode" if model.training else "evaluation mode", "evaluation mode"
    now = dict(model.named_parameters())
    moved = {name for name, parameter in now.items() if not torch.equal(parameter, seen.before[name])}
    yield "frozen tensors that moved", "some" if moved & frozen else "none", "none"
    yield (
        "frozen tensors that are free now",
        "some" if any(now[name].requires_grad for name in frozen) else "none",
        "none",
    )
    parts = ("head" * any(map(_in_head, moved)), "body" * any(not _in_head(name) for name in moved))
    yield "parts that moved", " and ".join(filter(None, parts)) or "none", "head" if frozen else "head and body"
    anew = len(seen.optimisers) > max(2, updates / 2)
    yield "optimisers", "a new one for each update" if anew else "the same throughout", "the same throughout"
    cleared = all(torch.allclose(a, b) for a, b in zip(seen.alone, seen.summed, strict=True))
    yield "gradients of earlier updates", "cleared" if cleared else "still there, and added up", "cleared"
    far = (now["head.weight"] - seen.before["head.weight"]).abs().max().item() > 0.001
    yield "the head moved", "visibly" if far else "hardly: by less than 0.001", "visibly"


def _randomly(n: int, size: int = 16, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
    return (torch.randint(n, (size,), generator=generator),) * 2


def _tuned_by(
    model,
    images,
    labels,
    updates,
    rate: float = 1e-2,
    start: Callable = lambda model: None,
    parameters: Callable = lambda model: model.parameters(),
    late: Callable = lambda model: None,
    mode: bool = True,
    end: bool = False,
    times: Callable[[int], int] = lambda updates: updates,
    clear: str = "before",
    anew: bool = False,
    draw: Callable = lambda n, i: _randomly(n),
    loss: Callable = F.cross_entropy,
    until: float = -math.inf,
):
    model.train(mode)
    start(model)
    free = [p for p in parameters(model) if p.requires_grad]
    late(model)
    optimizer = torch.optim.AdamW(free, lr=rate)
    for i in range(times(updates)):
        optimizer = torch.optim.AdamW(free, lr=rate) if anew else optimizer
        chosen, answers = draw(len(images), i)
        if clear == "before":
            optimizer.zero_grad()
        found = loss(model(images[chosen]), labels[answers])
        found.backward()
        if clear == "after":
            optimizer.zero_grad()
        optimizer.step()
        if found < until:
            break
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

_beliefs(
    fine_tune,
    _tuned_by,
    left_in_training_mode=(
        "The model comes back in training mode: if it has dropout, its answers are left to chance. Switch to "
        "evaluation mode before you return it.",
        "https://github.com/microsoft/robustdg/issues/30 and https://github.com/yanx27/GACNet/issues/8",
        {"end": True},
    ),
    never_in_training_mode=(
        "It learns in evaluation mode: dropout never acts. Switch to training mode first.",
        "https://github.com/facebookresearch/FixRes/issues/9 (there on purpose, and asked about)",
        {"mode": False},
    ),
    passes_for_updates=(
        "`updates` counts steps, not epochs: your loop over the batches makes several for each.",
        "https://github.com/dennybritz/cnn-text-classification-tf/issues/4 (epochs and steps confused)",
        {"times": lambda updates: 4 * updates},
    ),
    returned_in_the_loop=(
        "Your loop makes one update and ends. Does the `return` stand inside it, or does a `break` end it?",
        {"times": lambda updates: 1},
    ),
    one_update_more=(
        "Your loop makes `updates` + 1 updates, one too many. Where does it begin to count, and where does it end?",
        {"times": lambda updates: updates + 1},
    ),
    one_update_fewer=(
        "Your loop makes `updates` - 1 updates, one too few. Where does it begin to count, and where does it end?",
        "Off by one, `range(1, updates)`: expected, no published case found.",
        {"times": lambda updates: updates - 1},
    ),
    drawn_once=(
        "Every step saw the same pictures. Are the indices drawn before the loop, or is the seed set again inside it?",
        "https://github.com/isaac-sim/IsaacLab/issues/370 (indices drawn outside the loop)",
        {"draw": lambda n, i: _randomly(n, generator=torch.Generator().manual_seed(0))},
    ),
    always_the_first_pictures=(
        "Every step saw the first pictures of the set, which show few of the classes. Draw from all of them.",
        "One batch `images[:32]`, as when a model is made to overfit it (sheet 4), and left so; seen in a trial.",
        {"draw": lambda n, i: (torch.arange(32),) * 2},
    ),
    the_whole_set=(
        "Every step saw all pictures. A step takes a random batch, smaller than the set.",
        {"draw": lambda n, i: (torch.arange(n),) * 2},
    ),
    from_the_first_part=(
        "Only the first part of the set was ever drawn. Indices go from 0 to n - 1, whatever the number of classes.",
        "`torch.randint(20, ...)` for 160 pictures: a trial of this sheet; expected, no published case found.",
        {"draw": lambda n, i: _randomly(20)},
    ),
    in_the_order_of_the_set=(
        "The batches follow the order of the set, which is sorted by class: each shows few of them. Draw at random.",
        "DataLoader's default is shuffle=False (its documentation).",
        {"draw": lambda n, i: ((16 * i + torch.arange(16)) % n,) * 2},
    ),
    softmax_before_the_loss=(
        "`F.cross_entropy` takes logits and has the softmax in it. After another one gradients are far too small.",
        "https://github.com/sugi-chan/custom_bert_pipeline/issues/1 and "
        "https://github.com/MicrosoftDocs/ml-basics/issues/48",
        {"loss": lambda z, y: F.cross_entropy(z.softmax(dim=1), y)},
    ),
    the_loss_with_a_minus=(
        "Each step raises the loss: the model learns to avoid the right answer. Is there a minus before the loss?",
        {"loss": lambda z, y: -F.cross_entropy(z, y)},
    ),
    labels_of_other_images=(
        "Images and labels were drawn separately, so the labels belong to other images. Use the same indices for both.",
        "https://karpathy.github.io/2019/04/25/recipe/: labels that lose their images in a shuffle.",
        {"draw": lambda n, i: (torch.randint(n, (32,)), torch.randint(n, (32,)))},
    ),
    an_optimiser_for_each_step=(
        "Each update has a new optimiser, which knows nothing of earlier gradients. Make one, before the loop.",
        "https://github.com/haydnv/tinychain/pull/51 and https://github.com/zju3dv/Vox-Fusion/issues/31",
        {"anew": True},
    ),
    nothing_moved=(
        "Nothing moved. Is `step()` called, and are the gradients still there when it is, or does `zero_grad` stand "
        "between `backward` and `step`?",
        "https://github.com/patrickloeber/pytorchTutorial/issues/19 (where does zero_grad belong?)",
        {"clear": "after"},
    ),
    head_only=(
        "Only the head moves, although the body is free. That is a linear probe: give the optimiser the body too.",
        "https://github.com/BINE022/EEGPT/issues/18 (frozen, because the optimiser doesn't know the backbone)",
        {"parameters": lambda model: model.head.parameters()},
    ),
    head_left_out=(
        "The head never moves: the optimiser doesn't know it. It is new and has the longest way to go.",
        "https://github.com/webis-de/small-text/issues/36",
        {
            "parameters": lambda model: (
                [p for name, p in model.named_parameters() if p.requires_grad and not _in_head(name)]
                or [nn.Parameter(torch.zeros(1))]
            )
        },
    ),
    everything_set_free=(
        "A frozen body has moved: your function sets everything free. Leave `requires_grad` to who calls it.",
        "https://github.com/ultralytics/yolov5/issues/1213",
        {"start": lambda model: model.requires_grad_(True)},
    ),
    everything_set_free_late=(
        "What came frozen is free afterwards, though it didn't move. Leave `requires_grad` to who calls you.",
        {"late": lambda model: model.requires_grad_(True)},
    ),
    gradients_added_up=(
        "Gradients are never cleared: each update also repeats all earlier ones.",
        "optimizer.zero_grad() left out: https://github.com/wenet-e2e/wekws/issues/72",
        {"clear": "never"},
    ),
    until_a_threshold=(
        "Where the loss is low your loop ends early. Here all `updates` are made: no threshold.",
        {"until": 0.5},
    ),
    a_tiny_rate=(
        "The head has hardly moved: the rate is too low for so few updates. A new head can take 1e-2.",
        "2e-5 to 5e-5, BERT's rates for fine-tuning (Devlin et al., 2019, appendix A.3), with thousands of updates.",
        {"rate": 2e-5},
    ),
)


# ---- 7.6 past an accuracy

ACCURACIES = (10, 20, 30, 35)
GROUPS = 20
MANY = 1000


@functools.lru_cache(maxsize=4)
def _pictures(seed: int) -> tuple[ImageSet, Tensor]:
    """Test pictures of 20 groups; seed 0 makes those of the sheet, every other one such as nobody has seen."""
    pictures = load("poses", split="test", level=GROUPS, count=MANY if seed else 500, seed=seed)
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
    honest = _right(_said(model, old_inputs), old) < accuracy + 0.12  # its standard error is 0.028 at most
    yield "the sheet's test pictures are known", honest, "as well as new ones", "better than new ones"
    for wanted in ACCURACIES:
        yield f"at least {wanted} % of the new pictures right", 100 * accuracy >= wanted, "yes", "no"


tuned = TrainedModel(
    "tuned",
    2,
    "12-transfer-learning#4 How fast",
    lambda images: _knows(images, 0.6),
    _tuned_cases,
    run=one_by_one(_tuned_facts),
    packages_own=True,
    seconds=30,
)


def _still_in_training_mode(images):
    return _knows(images, 0.5)


_still_in_training_mode.training = True  # as a module has it

_beliefs(
    tuned,
    _knows,
    as_good_as_guessing=(
        "It knows hardly more than a guess. If `fine_tune` passes its own check: is `start` what `with_new_head` "
        "got, and `draw(0)` what it learned from? Is each rate below 0.1?",
        "Notebook 12, section 1 (nothing loaded, no error) and section 4 (a rate of 2e-2 wrecks the body).",
        {"share": 0.05},
    ),
    hardly_begun=(
        "Between 10 and 20 percent: it has begun to learn. If `fine_tune` passes its own check, look at the rates: the "
        "head's far too low, or the body's too high.",
        "Notebook 12, section 4: rates of 2e-4 and 2e-2 for everything.",
        {"share": 0.15},
    ),
    half_way=(
        "Between 20 and 30 percent. If `fine_tune` passes its own check, look at both rates, and at the size of a "
        "batch: the hints say what is usual.",
        "Rates from 2e-4 to 2e-2 for everything, measured for notebook 12, section 4.",
        {"share": 0.25},
    ),
    nearly_there=(
        "Between 30 and 35 percent: it lacks little. If `fine_tune` passes its own check, try another rate: hint 3 "
        "gives two that reach about half.",
        "One rate of 2e-3 for all, as in notebook 12, section 3: 37 to 41 percent after 40 updates, measured.",
        {"share": 0.33},
    ),
    six_logits=(
        "It gives 6 logits: the head of the 6 families is still there. Give the copy a new head before you train.",
        "Published ViT code whose head stays at the pretrained number of classes.",
        lambda images: _knows(images, 0.5)[:, :6],
    ),
    still_in_training_mode=(
        "The model is in training mode. `fine_tune` should hand it back in evaluation mode.",
        "https://github.com/microsoft/robustdg/issues/30",
        _still_in_training_mode,
    ),
    probabilities=(
        "It gives probabilities. `F.cross_entropy` takes logits: with a softmax before it, the loss hardly moves.",
        "https://github.com/illiterate/BertClassifier/issues/2",
        lambda images: _knows(images, 0.5).softmax(dim=1),
    ),
    always_the_same_group=(
        "Whatever the picture, it says the same group. Is the body's rate so high that the body is wrecked, or do the "
        "labels belong to other pictures?",
        "Notebook 12, section 4: at 2e-2 for everything the families come near the majority baseline.",
        lambda images: torch.tensor([1.0] + [-1.0] * (GROUPS - 1)).expand(len(images), -1),
    ),
    trained_on_test_pictures=(
        "It knows the sheet's test pictures far better than new ones, so it was trained on them. Train on `few` only.",
        "https://github.com/zjc062/mind-vis/issues/24 and https://github.com/Graylab/DL4Proteins-notebooks/issues/11",
        lambda images: _knows(images, 0.4, known=set(_names(_pictures(0)[1]))),
    ),
)


# ---- 7.7 against scratch


def _paired_cases(generator: Generator) -> Iterator[Case]:
    for n in (3, 5):
        seeds = 0.3 * torch.rand(n, generator=generator)
        scratch = 0.1 + seeds + 0.02 * torch.rand(n, generator=generator)
        lowest, second = scratch.argsort()[:2].tolist()
        transferred = 0.3 + scratch + 0.04 * torch.rand(n, generator=generator)
        # Another order than in `scratch`: who sorts both lists breaks the pairs.
        transferred[lowest] = transferred[second] + 0.03 + 0.04 * torch.rand((), generator=generator)
        if n == 5:
            transferred[second] -= 0.35  # one difference is negative
        values = [[round(value, 3) for value in part.tolist()] for part in (transferred, scratch)]
        yield Case(f"{n} seeds", dict(zip(("transfer", "scratch"), values, strict=True)))


def _paired(transferred: Sequence[float], scratch: Sequence[float], last: Callable | None = None) -> tuple:
    d = torch.tensor(transferred, dtype=torch.float64) - torch.tensor(scratch, dtype=torch.float64)
    return d.mean().item(), (last(d) if last else d.std() / len(d) ** 0.5).item()


def _paired_run(answer, transferred: list[float], scratch: list[float]) -> Iterator[tuple[str, object]]:
    both = answer(transferred, scratch)
    if not isinstance(both, (tuple, list, Tensor)) or len(both) != 2:
        yield "mean", None if both is None else what_it_is(both)
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


def _unpaired(transfer, scratch):
    both = torch.tensor([transfer, scratch], dtype=torch.float64)
    return _paired(transfer, scratch)[0], (both.var(dim=1).sum() / both.shape[1]).sqrt().item()


_beliefs(
    paired_difference,
    _paired,
    standard_deviation=(
        "This is the standard deviation of the differences. Divide by the root of n for the error of their mean.",
        "Altman and Bland, 'Standard deviations and standard errors', BMJ 2005, 331:903",
        {"last": lambda d: d.std()},
    ),
    divided_by_n=(
        "The deviation was divided by n before the root. With few seeds that is too small: divide by n - 1.",
        "numpy.std, whose default is ddof=0 (its documentation)",
        {"last": lambda d: d.std(correction=0) / len(d) ** 0.5},
    ),
    one_less_twice=(
        "You divided by the root of n - 1. `std` has n - 1 in it already: the error is s by the root of n.",
        {"last": lambda d: d.std() / (len(d) - 1) ** 0.5},
    ),
    divided_without_root=(
        "The deviation is divided by n. The error of a mean falls with the root of n.",
        {"last": lambda d: d.std() / len(d)},
    ),
    variance=(
        "The second number is a variance, s² by n. Its root is missing.",
        {"last": lambda d: d.var() / len(d)},
    ),
    variance_by_the_root=(
        "The variance s² stands where the deviation s belongs: its root is missing before you divide.",
        {"last": lambda d: d.var() / len(d) ** 0.5},
    ),
    unpaired=(
        "The two runs of a seed are a pair, but you added the variances of both lists: what a seed does to both "
        "doesn't cancel. Take the differences first.",
        "https://datascienceworkbook.com/statistics/parametric-tests/paired-t-test (paired against independent)",
        _unpaired,
    ),
    sorted_apart=(
        "The pairs are broken: each list was put in an order of its own. Subtract what belongs to the same seed.",
        lambda transfer, scratch: _paired(sorted(transfer), sorted(scratch)),
    ),
    two_numbers_exchanged=(
        "The two numbers are exchanged: first the mean, then its error.",
        lambda transfer, scratch: _paired(transfer, scratch)[::-1],
    ),
    in_percent=(
        "This is in percentage points. The accuracies are shares, so keep both numbers as they are.",
        lambda transfer, scratch: tuple(100 * number for number in _paired(transfer, scratch)),
    ),
    lists_subtracted=(
        "Lists can't be subtracted from each other. Make tensors of them, or go through both with `zip`.",
        "TypeError: unsupported operand type(s) for -: 'list' and 'list', under many Python questions.",
        lambda transfer, scratch: transfer - scratch,
    ),
)
