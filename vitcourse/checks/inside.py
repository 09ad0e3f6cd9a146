"""Sheet 6, look inside: from a map to a verdict.

Longer than 150 lines because seven tasks and the beliefs that lead astray in them stand on one page.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vitcourse import VisionTransformer, ViTConfig, functional, introspect
from vitcourse.checks.exercise import Case, Exercise, integer
from vitcourse.layers import MultiHeadAttention

Pairs = list[tuple[Tensor, Tensor]]


def _telling(exercise: Exercise, seed: int, draw: Callable[[Generator], Pairs]) -> Pairs:
    """Draw until no two known answers agree everywhere, so that no coincidence lets a wrong one pass."""
    generator = Generator().manual_seed(seed)
    answers = [exercise.reference, *(mistake.answer for mistake in exercise.mistakes)]
    most, best = 0, []
    for _ in range(200):  # where `topk` takes the first of equal numbers, two answers are always the same
        pairs = draw(generator)
        results = [[torch.as_tensor(answer(*pair)) for pair in pairs] for answer in answers]
        # 3e-6 keeps halves away from the edge at which they are rounded
        seen = {str([(r.shape, [round(x + 3e-6, 4) for x in r.flatten().tolist()]) for r in row]) for row in results}
        if len(seen) > most:
            most, best = len(seen), pairs
        if most == len(answers):
            break
    return best


def _beliefs(exercise: Exercise, **beliefs: tuple) -> None:
    """Mistakes that are one expression: for each name the message, the source where there is one, and the answer."""
    for name, (message, *source, answer) in beliefs.items():
        answer.__name__ = name
        exercise.mistake(message, *(source or ["Expected, no published case found."]))(answer)


# ---- 6.1 the pointing game


@functools.lru_cache(maxsize=8)  # a check asks for its inputs several times
def _pointing_inputs(seed: int) -> Pairs:
    def draw(generator: Generator) -> Pairs:
        heat = torch.rand(3, 4, 5, generator=generator)
        mask = torch.rand(3, 4, 5, generator=generator) < 0.4
        mask[:, 1, 1] = True  # no empty mask
        tied, other, share = mask, mask, torch.zeros(1)
        while not ((share > 0) & (share < 1)).all():  # one of the hottest pixels alone is never right
            tied = torch.randint(0, 4, (4, 5, 3), generator=generator) - torch.tensor([0, 5, 1, 7])[:, None, None]
            other = torch.rand(4, 5, 3, generator=generator) < 0.5
            share = _share(_hottest(tied), other)
        return [(heat, mask), (tied.float(), other)]

    return _telling(pointing_hits, seed, draw)


def _pointing_cases(generator: Generator) -> Iterator[Case]:
    (heat, mask), (tied, other) = _pointing_inputs(generator.initial_seed())
    yield Case("3 pictures of 4 x 5 pixels, one hottest pixel in each", {"heat": heat, "mask": mask})
    yield Case("4 pictures of 5 x 3 pixels, several equally hot", {"heat": tied, "mask": other})


def _hottest(heat: Tensor) -> Tensor:
    return heat == heat.amax(dim=(1, 2), keepdim=True)


def _share(hot: Tensor, mask: Tensor) -> Tensor:
    return (hot & mask).sum(dim=(1, 2)) / hot.sum(dim=(1, 2))


def _pointing_run(answer, heat: Tensor, mask: Tensor) -> Tensor:
    marks = answer(heat, mask)  # whole numbers, True and False are told from shares by what they are
    whole = isinstance(marks, Tensor) and not (marks.is_floating_point() or marks.is_complex())
    return marks.float() if whole and marks.ndim else marks


pointing_hits = Exercise(
    "pointing_hits",
    2,
    "09-inside-the-vit#7 Marking a map",
    lambda heat, mask: _share(_hottest(heat), mask),
    _pointing_cases,
    run=_pointing_run,
)


_beliefs(
    pointing_hits,
    one_place_for_the_whole_batch=(
        "`argmax` without an axis looks for one place in the whole batch. Each picture has its own hottest pixel, and "
        "its own mark: shape `(B,)`.",
        "torch.argmax without dim returns an index into the flattened tensor (its documentation).",
        lambda heat, mask: mask.flatten()[heat.argmax()].float(),
    ),
    largest_of_the_whole_batch=(
        "The largest number is taken over the whole batch, so pictures that are cooler have no hottest pixel at all. "
        "Take it over H and W of each picture.",
        "https://github.com/tensorflow/tensorflow/issues/2821 (an index that forgets the batch)",
        lambda heat, mask: _share(heat == heat.max(), mask),
    ),
    first_of_several=(
        "Of several equally hot pixels you look at one alone, by where it stands. Each of them counts the same.",
        "https://github.com/understandable-machine-intelligence-lab/Quantus/pull/43",
        lambda heat, mask: mask.flatten(1).gather(1, heat.flatten(1).argmax(dim=1, keepdim=True))[:, 0].float(),
    ),
    any_of_several=(
        "One of the hottest pixels on the object counts as a full hit. A constant map would then always hit. Take the "
        "share of them that lies on the object.",
        "`(highest & mask).any()`, the short way to write 'does the maximum lie on the object?'",
        lambda heat, mask: (_hottest(heat) & mask).flatten(1).any(dim=1).float(),
    ),
    all_of_several=(
        "Only when all of the hottest pixels lie on the object do you count a hit. Take the share of them that does.",
        "`mask[heat == heat.max()].all()`, the strict way to read 'the maximum lies on the object'.",
        lambda heat, mask: _share(_hottest(heat), mask).eq(1).float(),
    ),
    rows_and_columns_exchanged=(
        "Rows and columns of the mask are exchanged: you look up the column where the row belongs.",
        "https://github.com/microsoft/vision-explanation-methods/pull/42",
        lambda heat, mask: _share(_hottest(heat), mask.mT.reshape(mask.shape)),
    ),
    share_of_all_heat=(
        "This is the share of all heat that lies on the object. The pointing game asks for the hottest pixels alone.",
        "The 'energy-based' pointing game of Score-CAM (Wang et al., 2020), which is another mark.",
        lambda heat, mask: (heat * mask).sum(dim=(1, 2)) / heat.sum(dim=(1, 2)),
    ),
    with_a_margin=(
        "A pixel beside the object counts as a hit. Some published marks allow a margin; here it must lie on it.",
        "Zhang et al. (2018) allow 15 pixels; so does PointingGame in facebookresearch/TorchRay (tolerance=15).",
        lambda heat, mask: _share(
            _hottest(heat), F.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
        ),
    ),
    mean_over_pictures=(
        "One mark for all pictures together. Keep them apart, shape `(B,)`: the comparison in task 6.7 needs each one.",
        "TorchRay's PointingGame and most papers report the mean alone.",
        lambda heat, mask: _share(_hottest(heat), mask).mean(),
    ),
    one_place_from_topk=(
        "Of several equally hot pixels `topk` leaves one to you, by chance. Each of them counts the same.",
        "`topk(1).indices` for the hottest pixel; torch.topk promises no order among equal numbers (documentation).",
        lambda heat, mask: mask.flatten(1).gather(1, heat.flatten(1).topk(1).indices)[:, 0].float(),
    ),
    number_of_hits=(
        "You count the hottest pixels on the object, and don't divide. The mark is a share, from 0 to 1: of all "
        "hottest pixels of the picture.",
        lambda heat, mask: (_hottest(heat) & mask).sum(dim=(1, 2)).float(),
    ),
    divided_by_the_object=(
        "You divide by the size of the object. Divide by the number of hottest pixels: where do they lie?",
        lambda heat, mask: (_hottest(heat) & mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)),
    ),
    coldest_pixels=(
        "You take the smallest number of each picture, so the coldest pixels. The larger a number, the hotter.",
        lambda heat, mask: _share(_hottest(-heat), mask),
    ),
    beside_the_object=(
        "You count the hottest pixels beside the object. The mask is True on the object itself.",
        lambda heat, mask: _share(_hottest(heat), ~mask),
    ),
    largest_of_each_row=(
        "Each row of pixels has its own largest number in yours. Take one for each picture, over H and W together.",
        lambda heat, mask: _share(heat == heat.amax(dim=2, keepdim=True), mask),
    ),
)


# ---- 6.2 intersection over union


@functools.lru_cache(maxsize=8)
def _iou_inputs(seed: int) -> Pairs:
    def draw(generator: Generator) -> Pairs:
        heat = torch.rand(3, 4, 5, generator=generator) * torch.tensor([0.6, 1.4, 1.0])[:, None, None] + 0.1
        mask = torch.rand(3, 4, 5, generator=generator) < 0.3
        mask[:, 1, 1:3] = True  # no empty mask
        patches, other, parts, shared = heat, mask, [], torch.zeros(1)
        # of the 4 pixels at the limit, 2 or 3 are to be chosen, and some of them are the object's
        while parts != [0.5, 0.75] or not ((shared > 0) & (shared < 4)).all():
            patches = torch.rand(3, 2, 3, generator=generator).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
            other = torch.rand(3, 4, 6, generator=generator) < 0.4
            other[:, 1, 1:3] = True
            _, at, part = _chosen(patches, other)
            parts, shared = sorted(set(part.flatten().tolist())), (at & other.flatten(1)).sum(dim=1)
        return [(heat, mask), (patches, other)]

    return _telling(iou, seed, draw)


def _iou_cases(generator: Generator) -> Iterator[Case]:
    (heat, mask), (patches, other) = _iou_inputs(generator.initial_seed())
    yield Case("3 pictures of 4 x 5 pixels, no two equally hot", {"heat": heat, "mask": mask})
    yield Case("3 pictures of 4 x 6 pixels, equally hot in patches of 2 x 2", {"heat": patches, "mask": other})


def _chosen(heat: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What lies above the limit, what lies at it, and how much each of the latter counts."""
    flat, k = heat.flatten(1), mask.flatten(1).sum(dim=1, keepdim=True)
    limit = flat.sort(dim=1, descending=True).values.gather(1, k - 1)
    above, at = flat > limit, flat == limit
    return above, at, (k - above.sum(dim=1, keepdim=True)) / at.sum(dim=1, keepdim=True)


def _over_union(chosen: Tensor, mask: Tensor) -> Tensor:
    chosen, mask = chosen.flatten(1).float(), mask.flatten(1).float()
    both = (chosen * mask).sum(dim=1)
    return both / (chosen.sum(dim=1) + mask.sum(dim=1) - both)


def _counted(heat: Tensor, mask: Tensor) -> Tensor:
    above, at, part = _chosen(heat, mask)
    return above + at * part


def _iou(heat: Tensor, mask: Tensor) -> Tensor:
    return _over_union(_counted(heat, mask), mask)


def _by_formula(heat: Tensor, mask: Tensor, part: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """S / (2 k - S), where pixels at the limit add `part(k - n_above, n_at, those on the object)` to S."""
    (above, at, _), mask = _chosen(heat, mask), mask.flatten(1)
    k, counts = mask.sum(dim=1), (at & mask).sum(dim=1)
    S = (above & mask).sum(dim=1) + part(k - above.sum(dim=1), at.sum(dim=1), counts)
    return S / (2 * k - S)


iou = Exercise("iou", 3, "09-inside-the-vit#7 Marking a map", _iou, _iou_cases)


_beliefs(
    iou,
    above_half_of_the_largest=(
        "You choose the pixels above half of the largest number. How many those are depends on the map's scale; here "
        "it is as many as the object has.",
        "A fixed share of the maximum, as in Zhou et al. (2016), CAM (20 %), and many copies.",
        lambda heat, mask: _over_union(heat > heat.amax(dim=(1, 2), keepdim=True) / 2, mask),
    ),
    above_one_half=(
        "You choose the pixels above 0.5. A map has its own scale, and weights are shares of 1: here as many pixels "
        "are chosen as the object has.",
        "IOUScore(threshold=0.5) in qubvel/segmentation_models, made for probabilities (its issue 352)",
        lambda heat, mask: _over_union(heat > 0.5, mask),
    ),
)


@iou.mistake(
    "Your limit is the number after the k-th largest: places count from 0, so the k-th one stands at k - 1.",
    source="`sorted(...)[k]` for the k-th largest number, off by one.",
)
def one_too_many(heat, mask):
    places = mask.flatten(1).sum(dim=1, keepdim=True)
    limit = heat.flatten(1).sort(dim=1, descending=True).values.gather(1, places)
    return _over_union(heat.flatten(1) >= limit, mask)


_beliefs(
    iou,
    above_the_mean=(
        "You choose the pixels above the map's mean. How many those are depends on the map; here it is as many as the "
        "object has.",
        "hila-chefer/Transformer-Explainability, baselines/ViT/imagenet_seg_eval.py (`ret = Res.mean()`)",
        lambda heat, mask: _over_union(heat > heat.mean(dim=(1, 2), keepdim=True), mask),
    ),
    recall=(
        "You divide by the size of the object alone: that is recall (and here the Dice score too). The union also "
        "holds the chosen pixels beside the object.",
        "https://github.com/huggingface/evaluate/issues/421 (an IoU that was recall)",
        lambda heat, mask: (_counted(heat, mask) * mask.flatten(1)).sum(dim=1) / mask.sum(dim=(1, 2)),
    ),
    shared_pixels_counted_twice=(
        "The union counts the shared pixels twice: once with the object, once with the chosen ones. A perfect map "
        "would get 0.5.",
        "https://github.com/Striveworks/valor/issues/5",
        lambda heat, mask: (_counted(heat, mask) * mask.flatten(1)).sum(dim=1) / mask.sum(dim=(1, 2)) / 2,
    ),
    all_at_the_limit=(
        "All pixels at the limit are chosen: more than the object has. They share what is left, each in part.",
        "`heat >= heat.topk(k).values[-1]`, the usual way to cut at the k-th largest number.",
        lambda heat, mask: _over_union(sum(_chosen(heat, mask)[:2]), mask),
    ),
    none_at_the_limit=(
        "No pixel at the limit is chosen, so fewer than the object has. They share what is left: each counts in part.",
        "`>` for `>=` at the k-th largest number.",
        lambda heat, mask: _over_union(_chosen(heat, mask)[0], mask),
    ),
)


@iou.mistake(
    "Of equally hot pixels you choose those that stand first in memory, so the upper left of a patch. Each pixel at "
    "the limit counts in part instead.",
    source="`argsort(descending=True)[:k]`: a stable sort keeps equal numbers in the order in which they stand.",
)
def the_first_at_the_limit(heat, mask):
    rank = heat.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return _over_union(rank < mask.flatten(1).sum(dim=1, keepdim=True), mask)


@iou.mistake(
    "`topk` returns k places, and leaves to chance which of the equally hot ones. Use its last number as the limit; "
    "pixels at the limit count in part.",
    source="torch.topk promises no order among equal numbers (its documentation).",
)
def places_from_topk(heat, mask):
    chosen = torch.zeros(mask.flatten(1).shape)
    for c, h, m in zip(chosen, heat, mask, strict=True):
        c[h.flatten().topk(int(m.sum())).indices] = 1
    return _over_union(chosen, mask)


_beliefs(
    iou,
    the_coldest=(
        "You choose the coldest pixels. `kthvalue`, and sorting as it comes, count from the smallest number.",
        "torch.kthvalue returns the k-th smallest number (its documentation).",
        lambda heat, mask: _iou(-heat, mask),
    ),
    one_number_for_the_batch=(
        "One number for the whole batch: pixels of all pictures are added before you divide. Each picture gets its own "
        "mark, shape `(B,)`.",
        "https://github.com/chengchunhsu/WSIS_BBTP/issues/11 (sums over the wrong axes in an IoU)",
        lambda heat, mask: _over_union(_counted(heat, mask).reshape(1, -1), mask.reshape(1, -1))[0],
    ),
    each_at_the_limit_counts_one=(
        "In your S each pixel at the limit counts 1. It counts (k - n_>) / n_=: only k - n_> pixels are still to be "
        "chosen, and all n_= share them.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: shared),
    ),
    each_at_the_limit_counts_nothing=(
        "In your S pixels at the limit count 0. Each counts (k - n_>) / n_=, which is below 1 and no whole number: "
        "`>` alone leaves it out, `//` rounds it to 0.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: 0 * shared),
    ),
    one_pixel_shared_at_the_limit=(
        "In your S each pixel at the limit counts 1 / n_=, as if one pixel were still to be chosen. k - n_> are.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: shared / n),
    ),
    object_first_at_the_limit=(
        "At the limit you choose pixels on the object first, in favour of the map. Each of them counts in part.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: torch.minimum(left, shared)),
    ),
    object_last_at_the_limit=(
        "At the limit you choose pixels beside the object first, against the map. Each of them counts in part.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: (left - n + shared).clamp(min=0)),
    ),
    rounded_at_the_limit=(
        "In your S what the pixels at the limit add is rounded down to a whole number. It is a share: `/`, not `//`.",
        lambda heat, mask: _by_formula(heat, mask, lambda left, n, shared: shared * left // n),
    ),
    above_half_after_stretching=(
        "You stretch the map from 0 to 1 and choose what lies above one half. How many pixels those are depends on the "
        "map; here it is as many as the object has.",
        "Maps stretched by `(x - x.min()) / (x.max() - x.min())` and cut at a fixed number, in many evaluations.",
        lambda heat, mask: _over_union(heat > (heat.amax((1, 2), True) + heat.amin((1, 2), True)) / 2, mask),
    ),
)


# ---- 6.3 rollout


def _stochastic(generator: Generator, *shape: int) -> Tensor:
    return (2 * torch.randn(shape, generator=generator)).softmax(dim=-1)


def _rollout_cases(generator: Generator) -> Iterator[Case]:
    for layers, B, h, T in ((2, 2, 3, 4), (4, 3, 2, integer(5, 6, generator))):
        weights = [_stochastic(generator, B, h, T, T) for _ in range(layers)]
        yield Case(f"{layers} layers, B = {B}, h = {h}, T = {T}", {"weights": weights})


def _layer(A: Tensor) -> Tensor:
    return A / 2 + torch.eye(A.shape[-1]) / 2


def _rolled(weights, heads=lambda w: w.mean(dim=1), layer=_layer, join=torch.matmul) -> Tensor:
    return functools.reduce(lambda R, w: join(layer(heads(w)), R), weights[1:], layer(heads(weights[0])))


rollout = Exercise(
    "rollout",
    3,
    "09-inside-the-vit#2 Through the layers: rollout",
    lambda weights: functional.rollout(weights),
    _rollout_cases,
)


_beliefs(
    rollout,
    without_the_residual_stream=(
        "The residual stream is missing: each layer is the mean over heads alone. A token also keeps what it had, and "
        "that is the identity.",
        "https://github.com/google-research/vision_transformer/issues/18 (vit-keras, before it was amended)",
        lambda weights: _rolled(weights, layer=lambda A: A),
    ),
    first_layer_on_the_left=(
        "The product runs the wrong way. Rows of the last layer choose among what earlier layers brought, so the last "
        "layer stands on the left.",
        "A product written as the layers run, first layer on the left, where the formula has it on the right.",
        lambda weights: _rolled(weights, join=lambda A, R: R @ A),
    ),
    largest_head=(
        "You take the largest weight over heads. The formula takes the mean, and with it rows sum to 1.",
        "jacobgil/vit-explain, vit_rollout.py: head_fusion='max'",
        lambda weights: _rolled(weights, heads=lambda w: w.amax(dim=1)),
    ),
    smallest_head=(
        "You take the smallest weight over heads. The formula takes the mean, and with it rows sum to 1.",
        "jacobgil/vit-explain, vit_rollout.py: head_fusion='min'",
        lambda weights: _rolled(weights, heads=lambda w: w.amin(dim=1)),
    ),
    mean_over_pictures_for_heads=(
        "The mean runs over the pictures, axis 0, and their maps are mixed. Heads are axis 1.",
        "`mean(dim=0)`, right for one picture's weights (h, T, T), as in many notebooks, used on a batch.",
        lambda weights: _rolled(weights, heads=lambda w: w.mean(dim=0)),
    ),
    not_halved=(
        "The identity is added, but nothing is halved: your rows sum to 2 for each layer, multiplied. Attention and "
        "identity count one half each.",
        "R + A R, the rule of Chefer et al. (2021), hila-chefer/Transformer-MM-Explainability, called rollout.",
        lambda weights: _rolled(weights, layer=lambda A: A + torch.eye(A.shape[-1])),
    ),
    identity_at_the_end=(
        "The identity is added once, after the product. Each layer has its own residual stream: it belongs inside.",
        "'Add the identity to account for residual connections' (google-research/vision_transformer, issue 18), read "
        "as one step at the end.",
        lambda weights: _layer(_rolled(weights, layer=lambda A: A)),
    ),
    last_layer_only=(
        "This is the last layer alone. What its tokens hold was fetched by the layers before: multiply all of them.",
        "https://github.com/jo1jun/Vision_Transformer/issues/1 (why multiply, and not take one layer's matrix?)",
        lambda weights: _layer(weights[-1].mean(dim=1)),
    ),
    number_by_number=(
        "`*` multiplies number by number. Following attention through two layers is a matrix product.",
        "`*` for `@`: numpy.matrix and MATLAB against torch, in many questions of beginners.",
        lambda weights: _rolled(weights, join=torch.mul),
    ),
    without_the_first_layer=(
        "The first layer is left out: the loop starts from the identity and skips it, or starts from the second layer.",
        "hila-chefer/Transformer-Explainability: rollout from start_layer=1 in imagenet_seg_eval.py",
        lambda weights: _rolled(weights[1:]),
    ),
    heads_summed=(
        "You add the heads. The formula takes their mean: each row of A then still sums to 1, not to h.",
        lambda weights: _rolled(weights, heads=lambda w: w.sum(dim=1)),
    ),
    row_of_cls_alone=(
        "You return the row of [CLS] alone. Here the whole matrix is asked for, `(B, T, T)`; task 6.4 picks the row.",
        "`result[0, 0, 1:]` at the end of vit_rollout.py in jacobgil/vit-explain",
        lambda weights: _rolled(weights)[:, 0, 1:],
    ),
    first_layer_without_its_identity=(
        "The first layer enters as the bare mean over heads, the others with half the identity. Every layer has its "
        "residual stream, the first one too.",
        lambda weights: functools.reduce(lambda R, w: _layer(w.mean(1)) @ R, weights[1:], weights[0].mean(1)),
    ),
    attention_alone_halved=(
        "Attention is halved, the identity isn't: rows sum to 1.5 for each layer, multiplied. Both count one half.",
        lambda weights: _rolled(weights, layer=lambda A: A / 2 + torch.eye(A.shape[-1])),
    ),
    identity_for_what_was_known=(
        "In each step you add half the identity to the product. The residual stream keeps what a token already held, "
        "and that is R, not I.",
        lambda weights: functools.reduce(lambda R, w: _layer(w.mean(1) @ R), weights, torch.eye(weights[0].shape[-1])),
    ),
)


# ---- 6.4 from a matrix to a picture


def _map_cases(generator: Generator) -> Iterator[Case]:
    for B, grid_size, P in ((1, (2, 3), 2), (2, (4, 3), integer(3, 5, generator))):
        R = _stochastic(generator, B, grid_size[0] * grid_size[1] + 1, grid_size[0] * grid_size[1] + 1)
        note = f"B = {B}, {grid_size[0]} x {grid_size[1]} patches, P = {P}"
        yield Case(note, {"R": R, "grid_size": grid_size, "patch_size": P})


def _spread(row: Tensor, grid_size: tuple[int, int], P: int) -> Tensor:
    return row.unflatten(1, grid_size).repeat_interleave(P, dim=1).repeat_interleave(P, dim=2)


pixel_map = Exercise(
    "pixel_map",
    2,
    "09-inside-the-vit#2 Through the layers: rollout",
    lambda R, grid_size, patch_size: _spread(R[:, 0, 1:], grid_size, patch_size),
    _map_cases,
)


_beliefs(
    pixel_map,
    column_of_cls=(
        "This is the column of [CLS]: what patches take from [CLS]. The map is its row, what [CLS] takes from them.",
        "Queries and keys exchanged: `attention[:, :, 1:, 0]` for `[:, :, 0, 1:]`, a slip of two digits.",
        lambda R, grid, P: _spread(R[:, 1:, 0], grid, P),
    ),
    cls_kept_last_patch_dropped=(
        "Your map begins with what [CLS] takes from itself, and the last patch is lost: all others stand one place "
        "off. [CLS] is the first key.",
        "https://github.com/youweiliang/evit/issues/15 (which keys of the row are patches?)",
        lambda R, grid, P: _spread(R[:, 0, :-1], grid, P),
    ),
    grid_turned=(
        "Rows and columns of the grid are exchanged, and the shape is `(B, W, H)`. `grid_size` is rows, then columns.",
        "https://github.com/facebookresearch/dino/issues/180 (`w, h = img.shape[1], img.shape[2]`)",
        lambda R, grid, P: _spread(R[:, 0, 1:], grid[::-1], P),
    ),
    column_by_column=(
        "The shape is right, but the patches are laid out column by column. They are counted row by row.",
        "https://github.com/lightly-ai/lightly-train/pull/189 (w and h swapped, found with images not square)",
        lambda R, grid, P: _spread(R[:, 0, 1:], grid[::-1], P).mT,
    ),
    tiled=(
        "The small map is laid side by side like tiles. Repeat each number in place, as a block of P x P pixels.",
        "torch.Tensor.repeat behaves like numpy.tile, unlike numpy.repeat (a warning in torch's documentation).",
        lambda R, grid, P: R[:, 0, 1:].unflatten(1, grid).repeat(1, P, P),
    ),
    smoothed=(
        "The map is smoothed between patches. It then looks finer than it is: repeat each number over its patch.",
        "jacobgil/vit-explain resizes the mask by cv2.resize, which interpolates between patches by default.",
        lambda R, grid, P: F.interpolate(R[:, None, 0, 1:].unflatten(2, grid), scale_factor=P, mode="bilinear")[:, 0],
    ),
    left_at_patches=(
        "This has one number a patch, shape `(B, g_h, g_w)`. The mask has one a pixel: enlarge each by P x P.",
        "vit-explain's rollout returns the small map, and leaves the resizing to the caller.",
        lambda R, grid, P: R[:, 0, 1:].unflatten(1, grid),
    ),
    mean_of_all_rows=(
        "You average the rows of all tokens. The class is read from [CLS] alone, so its row is the map.",
        "https://github.com/jacobgil/vit-explain/issues/25 (`result[0].mean(0)`)",
        lambda R, grid, P: _spread(R.mean(dim=1)[:, 1:], grid, P),
    ),
    stretched=(
        "You divide each map by its largest number. Then maps of two models can't be compared: keep the scale.",
        "jacobgil/vit-explain, vit_rollout.py: `mask = mask / np.max(mask)`",
        lambda R, grid, P: _spread(R[:, 0, 1:] / R[:, 0, 1:].amax(dim=1, keepdim=True), grid, P),
    ),
    stretched_from_0_to_1=(
        "You stretch each map from 0 to 1: its smallest number is subtracted, the rest divided. Keep the numbers, or "
        "maps of two models can't be compared.",
        "`(x - x.min()) / (x.max() - x.min())` before a map is shown, in most code that draws them.",
        lambda R, grid, P: _spread(
            (row := R[:, 0, 1:]).sub(row.amin(1, True)) / (row.amax(1, True) - row.amin(1, True)), grid, P
        ),
    ),
    pictures_repeated=(
        "You repeat axes 0 and 1. Axis 0 is the pictures; H and W are axes 1 and 2.",
        lambda R, grid, P: R[:, 0, 1:].unflatten(1, grid).repeat_interleave(P, 0).repeat_interleave(P, 1),
    ),
)


# ---- 6.5 how far a head looks


def _distance_cases(generator: Generator) -> Iterator[Case]:
    for B, h, grid_size, P in ((1, 2, (1, 3), 4), (4, 3, (2, 5), integer(3, 7, generator))):
        T = grid_size[0] * grid_size[1] + 1
        arguments = {"weights": _stochastic(generator, B, h, T, T), "grid_size": grid_size, "patch_size": P}
        yield Case(f"B = {B}, h = {h}, {grid_size[0]} x {grid_size[1]} patches, P = {P}", arguments)


def _distance(weights: Tensor, grid_size, P, distances=None, scale=lambda A: A / A.sum(dim=-1, keepdim=True)) -> Tensor:
    """For each picture, head and query: (B, h, N)."""
    distances = introspect.patch_distances(grid_size, P) if distances is None else distances
    return (scale(weights[:, :, 1:, 1:]) * distances).sum(dim=-1)


def _apart(rows: Tensor, columns: Tensor, P: int, p: float = 2.0) -> Tensor:
    places = P * torch.stack([rows, columns], dim=1).float()
    return torch.cdist(places, places, p)


def _indices(grid_size: tuple[int, int], divisor: int | None = None) -> tuple[Tensor, Tensor]:
    """Row and column of each patch."""
    i = torch.arange(grid_size[0] * grid_size[1])
    return i // (divisor or grid_size[1]), i % grid_size[1]


def _mean(distances: Tensor) -> Tensor:
    return distances.mean(dim=(0, 2))


attention_distance = Exercise(
    "attention_distance",
    3,
    "09-inside-the-vit#5 How far a head looks",
    lambda weights, grid_size, patch_size: introspect.attention_distance(weights, grid_size, patch_size),
    _distance_cases,
)


_beliefs(
    attention_distance,
    rows_not_scaled=(
        "[CLS] is cut off, and what is left of each row no longer sums to 1. Heads that look at [CLS] a lot then seem "
        "to look less far: scale the rows.",
        "keras.io, 'Investigating Vision Transformer representations': compute_mean_attention_dist, often copied",
        lambda w, grid, P: _mean(_distance(w, grid, P, scale=lambda A: A)),
    ),
    a_second_softmax=(
        "A second softmax makes each row nearly equal: what a head prefers is lost. Divide each row by its sum.",
        "softmax taken for 'make it sum to 1', on weights that have been through one already.",
        lambda w, grid, P: _mean(_distance(w, grid, P, scale=lambda A: A.softmax(dim=-1))),
    ),
    in_patches=(
        "These are steps on the grid. One step is P pixels, and the answer is asked for in pixels.",
        "https://github.com/google-research/vision_transformer/issues/162 ('distance on the token grid')",
        lambda w, grid, P: _mean(_distance(w, grid, 1)),
    ),
    squared=(
        "Your distances are squared: the root is missing. A patch 2 steps away would count as 4 steps.",
        "Squared distances, as `((a - b) ** 2).sum(-1)` gives them when the root is forgotten.",
        lambda w, grid, P: _mean(_distance(w, grid, P, introspect.patch_distances(grid, P) ** 2)),
    ),
    along_streets=(
        "You add the distances down and across: the way along streets. Asked for is the straight line between centres.",
        "`(a - b).abs().sum(-1)`, or cdist with p=1: the Manhattan distance.",
        lambda w, grid, P: _mean(_distance(w, grid, P, _apart(*_indices(grid), P, p=1))),
    ),
    grid_exchanged=(
        "Rows and columns of the grid are exchanged, so most patches are measured from the wrong place. `grid_size` is "
        "rows, then columns; patches are counted row by row.",
        "https://github.com/facebookresearch/dino/issues/180; or meshgrid with indexing='xy'",
        lambda w, grid, P: _mean(_distance(w, grid[::-1], P)),
    ),
    without_the_weights=(
        "This mean over the keys doesn't use the weights: every head gets the same number. Each distance counts by the "
        "weight of its key.",
        "https://github.com/google-research/vision_transformer/issues/162 ('averaging the distance' misread)",
        lambda w, grid, P: _mean(_distance(torch.ones_like(w), grid, P)),
    ),
    cls_at_distance_zero=(
        "[CLS] is counted as a patch at distance 0 from all others. Leave it out as a query and as a key.",
        "A row and a column of zeros added to the table of distances, so that the shapes fit.",
        lambda w, grid, P: _mean((w * F.pad(introspect.patch_distances(grid, P), (1, 0, 1, 0))).sum(dim=-1)),
    ),
    without_itself=(
        "A patch's look at itself is left out. It belongs to the mean, with distance 0.",
        "'The distance to all other patches' (Dosovitskiy et al., 2021, figure 11), read as without itself.",
        lambda w, grid, P: _mean(_distance(w * (1 - torch.eye(w.shape[-1])), grid, P)),
    ),
    columns_scaled=(
        "Columns are scaled instead of rows. A row belongs to one query, and its shares over the keys must sum to 1.",
        "`A / A.sum(dim=-1)` without keepdim scales by the wrong axis: jacobgil/vit-explain, issue 16",
        lambda w, grid, P: _mean(_distance(w, grid, P, scale=lambda A: A / A.sum(dim=-2, keepdim=True))),
    ),
    mean_over_heads_too=(
        "One number for all heads. Heads differ, and that is the point: take the mean over pictures and queries only.",
        "`.mean()` without axes; figures that show one distance a layer.",
        lambda w, grid, P: _distance(w, grid, P).mean(),
    ),
    pictures_kept_apart=(
        "One number for each picture and head, shape `(B, h)`. Take the mean over the pictures too.",
        "keras.io, 'Investigating Vision Transformer representations': it returns one a picture and head",
        lambda w, grid, P: _distance(w, grid, P).mean(dim=2),
    ),
    mean_over_keys=(
        "You take a mean over the keys as well. The shares of a row already sum to 1: sum over the keys, and take the "
        "mean over queries and pictures only.",
        lambda w, grid, P: _distance(w, grid, P).mean(dim=(0, 2)) / (w.shape[-1] - 1),
    ),
    rows_counted_by_the_height=(
        "To find a patch's row you divide by the height of the grid. Each row holds g_w patches, not g_h.",
        lambda w, grid, P: _mean(_distance(w, grid, P, _apart(*_indices(grid, grid[0]), P))),
    ),
)


# ---- 6.6 attention weights from a model


class _Stop(Exception):
    """What a model of the check raises."""


class _Stops(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        raise _Stop("the head stops here")


class _Wrapped(nn.Module):
    def __init__(self, vit: nn.Module):
        super().__init__()
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        return self.vit(images)


CONFIG = ViTConfig(
    image_size=(8, 12), patch_size=4, num_channels=1, hidden_size=8, num_hidden_layers=3, num_attention_heads=2,
    intermediate_size=10, num_classes=4,
)  # fmt: skip


@torch.no_grad()
def _vit(generator: Generator) -> VisionTransformer:
    model = VisionTransformer(CONFIG)
    for parameter in model.parameters():
        parameter.normal_(0, 0.7, generator=generator)
    return model


def _collect_cases(generator: Generator) -> Iterator[Case]:
    images = torch.randn(5, 1, 8, 12, generator=generator)
    yield Case("a ViT in evaluation mode, fused attention", {"model": _vit(generator).eval(), "images": images})
    wrapped = _Wrapped(_vit(generator)).train()
    yield Case("a module with a ViT inside, in training mode", {"model": wrapped, "images": images})
    stops = _vit(generator).train()
    stops.head = _Stops()
    yield Case("a ViT whose head raises an error, in training mode", {"model": stops, "images": images})


def _hooks(model: nn.Module) -> set[int]:
    return {hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)}


def _state(model: nn.Module) -> dict[str, list]:
    modules = list(model.modules())
    return {
        "mode unchanged, training or evaluation": [module.training for module in modules],
        "use_faster_attention unchanged": [getattr(module, "use_faster_attention", None) for module in modules],
        "methods unchanged": ["forward" in vars(module) for module in modules],
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _collect_run(answer, model: nn.Module, images: Tensor) -> Iterator[tuple[str, object]]:
    for module in _attentions(model):  # someone else's
        module.register_forward_hook(lambda *_: None)
        module.register_forward_pre_hook(lambda *_: None)
    before, hooks, found, stopped, ends = _state(model), _hooks(model), None, False, True
    try:
        found = answer(model, images)
    except _Stop:
        stopped = True
    except RecursionError:
        ends = False
    yield "it comes to an end", _yes(ends)
    if not ends:
        return
    if any(isinstance(module, _Stops) for module in model.modules()):
        yield "the model's error reaches the caller", _yes(stopped)
    elif not isinstance(found, (list, tuple, Tensor)):
        yield "number of maps", found
        return
    else:
        yield "number of maps", len(found)
        for layer, weights in enumerate(found, start=1):
            yield f"map of layer {layer}", weights
        yield "maps are without gradient", _yes(not any(getattr(weights, "requires_grad", False) for weights in found))
    yield "none of your hooks is left", _yes(_hooks(model) <= hooks)
    yield "hooks that were there are still there", _yes(hooks <= _hooks(model))
    after = _state(model)
    for name, values in before.items():
        yield name, _yes(values == after[name])


def _attentions(model: nn.Module) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


def _weights(module: MultiHeadAttention, given: tuple, output: Tensor) -> Tensor:
    return module.forward(given[0], return_attention=True)[1]


def _from_qkv(module: MultiHeadAttention, tokens: Tensor, scale: float) -> Tensor:
    query, key, _ = (part.unflatten(-1, (module.num_heads, -1)) for part in module.qkv(tokens).chunk(3, dim=-1))
    return (torch.einsum("bqhd,bkhd->bhqk", query, key) * scale).softmax(dim=-1)


def _collect(model, images, keep=_weights, kind=MultiHeadAttention, removed="always", graph=False) -> list[Tensor]:
    kept: list[Tensor] = []
    modules = [module for module in model.modules() if isinstance(module, kind)]
    hooks = [m.register_forward_hook(lambda *given: kept.append(keep(*given))) for m in modules]
    ends = "after an error"
    try:
        with torch.set_grad_enabled(graph):
            model(images)
        ends = "without an error"
    finally:
        for hook in hooks if removed in ("always", ends) else []:
            hook.remove()
    return kept


collect_weights = Exercise(
    "collect_weights",
    4,
    "09-inside-the-vit#1 Where the heads look",
    _collect,
    _collect_cases,
    run=_collect_run,
    may_use=("layers", "functional"),
)


_beliefs(
    collect_weights,
    tokens_for_weights=(
        "Your hook keeps what the attention returns: tokens, `(B, T, D)`. Weights are made inside and not returned. "
        "Ask the module for them, or compute them from its input.",
        "The first cell on hooks in notebook 09, section 1, and PyTorch's own examples of forward hooks.",
        lambda model, images: _collect(model, images, keep=lambda module, given, output: output),
    ),
)


@collect_weights.mistake(
    "You ask the model for its weights, which only our own ViT understands. Call `model(images)`, and ask each "
    "attention layer, in a hook.",
    source="output_attentions=True of Hugging Face's models, the short way where a model offers it.",
)
def asked_the_model(model, images):
    with torch.no_grad():
        return model(images, return_attention=True)[1]


_beliefs(
    collect_weights,
    everything_passed_on=(
        "`given` holds everything that the block passed by place: tokens, a mask, and whether weights are wanted. Pass "
        "on the tokens alone.",
        "`module.forward(*args, ...)` in a hook, where one of args is the keyword that is to be changed.",
        lambda model, images: _collect(
            model, images, keep=lambda module, given, _: module.forward(*given, return_attention=True)[1]
        ),
    ),
    only_where_blocks_are=(
        "You look for `model.blocks`, which only a VisionTransformer has. `model.modules()` finds the attention layers "
        "of any module, in order.",
        "https://github.com/jacobgil/vit-explain/issues/23 ('ViTModel' object has no attribute 'blocks')",
        lambda model, images: _collect(model.blocks and model, images),
    ),
    hooks_that_never_fire=(
        "The list is empty: your hooks sit on modules that are never called. Fused attention has no module for its "
        "softmax and calls no dropout.",
        "https://github.com/jacobgil/vit-explain/issues/23",
        lambda model, images: _collect(model, images, kind=nn.Softmax),
    ),
    left_behind_after_an_error=(
        "The hooks stay when the model raises an error: the lines that remove them are never reached. `try ... "
        "finally` runs them in any case.",
        "https://github.com/nmhkahn/torchsummaryX/pull/8",
        lambda model, images: _collect(model, images, removed="without an error"),
    ),
    never_removed=(
        "The hooks are never removed: each further pass through the model runs them again. What "
        "`register_forward_hook` returns has a `remove`.",
        "https://github.com/fffasttime/MRFI/pull/5; vit_rollout.py in jacobgil/vit-explain removes none either",
        lambda model, images: _collect(model, images, removed="never"),
    ),
    kept_with_their_graph=(
        "The maps still hold the graph of the whole forward pass, and its memory. They need no gradient.",
        "https://github.com/utkuozbulak/pytorch-cnn-visualizations/issues/53",
        lambda model, images: _collect(model, images, graph=True),
    ),
)


def _slow(model: nn.Module, faster: bool = False) -> nn.Module:
    for module in _attentions(model):
        module.use_faster_attention = faster
    return model


_beliefs(
    collect_weights,
    fused_attention_left_off=(
        "`use_faster_attention` is off when you are done, and the next user pays: put it back, or leave it alone.",
        "`block.attn.fused_attn = False`, the workaround in https://github.com/jacobgil/vit-explain/issues/23",
        lambda model, images: _collect(_slow(model), images),
    ),
    left_in_evaluation_mode=(
        "The model came in training mode and goes in evaluation mode: its next training runs without dropout.",
        "https://github.com/meta-pytorch/opacus/issues/176 ('setting model.eval() will fix the issue')",
        lambda model, images: _collect(model.eval(), images),
    ),
)


@collect_weights.mistake(
    "The model's error is swallowed, and the caller gets a list as if all were well. Clean up, then let it pass.",
    source="`except Exception: pass` around a model, with the hooks removed after it.",
)
def error_swallowed(model, images):
    try:
        return _collect(model, images)
    except _Stop:
        return []


_beliefs(
    collect_weights,
    heads_averaged=(
        "Heads are averaged, shape `(B, T, T)`. Keep them apart: `(B, h, T, T)`.",
        "torch.nn.MultiheadAttention averages its weights over heads by default (average_attn_weights=True).",
        lambda model, images: _collect(model, images, keep=lambda *given: _weights(*given).mean(dim=1)),
    ),
    without_the_scale=(
        "The dot products aren't divided by the root of d_k before the softmax, so the weights are too peaked.",
        "Published attention without a scale, bug 2 of the course's list; here from weights computed anew.",
        lambda model, images: _collect(model, images, keep=lambda module, given, _: _from_qkv(module, given[0], 1.0)),
    ),
)


@collect_weights.mistake(
    "The dot products are divided by the root of D. A head has width d_k = D / h, and that is what counts.",
    source="Published attention scaled by the full width, bug 2 of the course's list.",
)
def scale_of_the_full_width(model, images):
    keep = lambda module, given, _: _from_qkv(module, given[0], given[0].shape[-1] ** -0.5)  # noqa: E731
    return _collect(model, images, keep=keep)


_beliefs(
    collect_weights,
    hook_calls_itself=(
        "Your hook calls the module, which calls your hook, and so on. `module.forward(...)` calls no hook.",
        "torch.nn.Module: calling a module runs its hooks, calling its forward doesn't (documentation).",
        lambda model, images: _collect(
            model, images, keep=lambda module, given, _: module(given[0], return_attention=True)[1]
        ),
    ),
    hooks_removed_only_after_an_error=(
        "Your hooks are removed after an error only. `except` runs after an error alone, `finally` in any case.",
        lambda model, images: _collect(model, images, removed="after an error"),
    ),
    last_layer_first=(
        "Your list begins with the last layer. Asked for is the order of `model.modules()`, first layer first.",
        lambda model, images: _collect(model, images)[::-1],
    ),
)


@collect_weights.mistake(
    "You clear all hooks of a module, also those that someone else put there before you. Remove yours alone: that is "
    "what their handles are for.",
    source="`module._forward_hooks.clear()`, asked for in https://github.com/pytorch/pytorch/issues/70455",
)
def all_hooks_cleared(model, images):
    try:
        return _collect(model, images, removed="never")
    finally:
        for module in _attentions(model):
            module._forward_hooks.clear()


@collect_weights.mistake(
    "You end with `model.train()`, but the model came in evaluation mode. Put back the mode that you found, or leave "
    "it alone.",
    source="https://github.com/huggingface/lerobot/pull/3721 (a test: 'if the caller already set eval mode, it stays')",
)
def always_back_to_training(model, images):
    try:
        return _collect(model.eval(), images)
    finally:
        model.train()


@collect_weights.mistake(
    "You put the mode back, but not when the model raises an error: that line is never reached then. `finally` runs in "
    "any case.",
    source="https://github.com/huggingface/lerobot/pull/3721 (the mode restored also when the rollout raises)",
)
def mode_restored_only_without_an_error(model, images):
    mode = model.training
    kept = _collect(model.eval(), images)
    model.train(mode)
    return kept


@collect_weights.mistake(
    "You put `use_faster_attention` back, but not when the model raises an error: that line is never reached then. "
    "`finally` runs in any case.",
    source="A setting restored after the call, outside `finally`, as in https://github.com/ooples/AiDotNet/pull/1989",
)
def fused_attention_restored_only_without_an_error(model, images):
    kept = _collect(_slow(model), images)
    _slow(model, faster=True)
    return kept


# ---- 6.7 a verdict


def _verdict_cases(generator: Generator) -> Iterator[Case]:
    for note, n, s, errors in (
        ("difference just above two errors", 8, 2, 2.02),
        ("difference just below two errors", 11, 4, 1.98),
        ("difference above one error", 10, 3, 1.3),
        ("hardly a difference", 7, 3, 0.6),
        ("trained better, but not than each random model", 3, 4, 4.4),
        ("trained clearly better", 16, 2, 6.0),
        ("random better", 9, 2, -5.0),
    ):
        noise = torch.rand(s, n, generator=generator)
        # a picture is easy or hard for all models alike: that is why the comparison is paired
        random = 0.15 * torch.rand(n, generator=generator) + 0.3 + 0.03 * (noise - noise.mean(dim=1, keepdim=True))
        # means 0.03 apart, three standard errors; of three or more, the first is neither the best nor the worst
        random = random + 0.03 * torch.arange(s).roll(-1)[:, None]
        d, close, limit = None, 0 < errors < 3, 0.02 if errors == 1.98 else 0
        # where it is close, more than half of the pictures say the opposite of what the rule says
        while d is None or (close and ((d > limit).float().mean() > 0.5) != (errors == 1.98)):
            d = torch.randn(n, generator=generator)
            d = (d - d.mean()) / d.std() * n**0.5 * 0.01 + 0.01 * errors  # its standard error is 0.01
        yield Case(f"{note}: {n} pictures, {s} random models", {"trained": random.mean(dim=0) + d, "random": random})


def _verdict_run(answer, trained: Tensor, random: Tensor) -> Iterator[tuple[str, object]]:
    result = answer(trained, random)
    three = isinstance(result, (tuple, list)) and len(result) == 3
    yield "three values came back", three
    if three:
        yield from zip(("mean difference", "standard error", "it beats them"), result, strict=True)


def _verdict(d: Tensor, error=lambda d: d.std() / len(d) ** 0.5, beats=lambda d, e: d.mean() > 2 * e):
    e = error(d)
    return d.mean(), e, bool(beats(d, e))


def _differences(trained: Tensor, random: Tensor) -> Tensor:
    return trained - random.mean(dim=0)


def _with(**other: Callable) -> Callable:
    """The right differences with another `error`, or another rule for `beats`."""
    return lambda trained, random: _verdict(_differences(trained, random), **other)


verdict = Exercise(
    "verdict",
    4,
    "09-inside-the-vit#7 Marking a map",
    lambda trained, random: _verdict(_differences(trained, random)),
    _verdict_cases,
    run=_verdict_run,
)


_beliefs(
    verdict,
    not_paired=(
        "You treat the two rows of marks as if they came from different pictures. The same picture is hard for both: "
        "take the spread of the differences.",
        "https://stats.stackexchange.com/questions/45851 (paired or not, when two models share their test images)",
        lambda t, r: _verdict(_differences(t, r), lambda d: ((t.var() + r.mean(dim=0).var()) / len(d)) ** 0.5),
    ),
    deviation_for_error=(
        "This is the deviation of the single differences. The error of their mean is smaller, by the root of n.",
        "Standard deviation and standard error taken for each other: Altman and Bland, BMJ 331 (2005), 903.",
        _with(error=torch.std),
    ),
    with_n=(
        "The deviation is computed with n, not n - 1. The mean comes from the same pictures: n makes it too small.",
        "https://github.com/mwaskom/seaborn/issues/1677 and numpy.std, whose default is ddof=0",
        _with(error=lambda d: d.std(correction=0) / len(d) ** 0.5),
    ),
    each_pair_counted=(
        "Every picture is counted once for each random model, as if there were s n of them. Only n pictures were "
        "drawn: first take the mean over the random models.",
        "https://github.com/cosig-pppr/cosig/issues/78 (pseudoreplication)",
        lambda t, r: _verdict((t - r).flatten()),
    ),
    error_over_models=(
        "Your error says how much random models differ from each other. Asked for is the error over pictures.",
        "Mean and deviation over seeds, as most tables of papers report it, where the pictures are the sample.",
        lambda t, r: _verdict(_differences(t, r), lambda d: r.mean(dim=1).std() / len(r) ** 0.5),
    ),
    best_random_model=(
        "Only the best random model is compared. You chose it after seeing its marks: take the mean over all of them.",
        "'The strongest of k baselines', chosen on the test pictures.",
        lambda t, r: _verdict(t - r[r.mean(dim=1).argmax()]),
    ),
    worst_random_model=(
        "Only the worst random model is compared, which flatters the trained one. Take the mean over all of them.",
        "A weak baseline, chosen: Lipton and Steinhardt (2018), Troubling Trends in Machine Learning Scholarship.",
        lambda t, r: _verdict(t - r[r.mean(dim=1).argmin()]),
    ),
    first_random_model=(
        "Only the first random model is compared. One draw may be lucky or not: take the mean over all of them.",
        "One random model beside each map, as in most figures of sanity checks.",
        lambda t, r: _verdict(t - r[0]),
    ),
    without_the_baseline=(
        "The baseline is missing: these are the trained model's own marks against 0. Compare with the random models.",
        "Maps reported by their mark alone, without the random-weights baseline of Adebayo et al. (2018).",
        lambda t, r: _verdict(t),
    ),
    sign_turned=(
        "The sign is turned: random minus trained. Better marks of the trained model give a positive difference.",
        "Differences taken as 'before minus after'.",
        lambda t, r: _verdict(-_differences(t, r)),
    ),
    any_difference_counts=(
        "A positive mean is enough for you; chance alone brings one half of the time. It must exceed two errors.",
        "'Ours is better', from two means without an error: Lipton and Steinhardt (2018), Troubling Trends.",
        _with(beats=lambda d, e: d.mean() > 0),
    ),
    one_standard_error=(
        "One standard error is enough for you. Chance exceeds one in about one of six cases; the rule says two.",
        "'The error bars don't overlap', with bars of one standard error: Cumming et al. (2007), J. Cell Biol. 177.",
        _with(beats=lambda d, e: d.mean() > e),
    ),
    either_sign=(
        "A large difference of either sign counts for you, so a model that is clearly worse also beats its baseline.",
        "A two-sided test read as 'better': significant isn't the same as better.",
        _with(beats=lambda d, e: d.mean().abs() > 2 * e),
    ),
    a_limit_below_two=(
        "Your limit lies below two standard errors, as 1.96 or 1.5 does. The rule was fixed beforehand: two.",
        _with(beats=lambda d, e: d.mean() > 1.96 * e),
    ),
    a_limit_above_two=(
        "Your limit lies above two standard errors, as 3 does or a t-test's 2.36. The rule was fixed beforehand: two.",
        _with(beats=lambda d, e: d.mean() > 3 * e),
    ),
    two_deviations=(
        "You compare with two standard deviations of the differences. The limit is two errors of their mean.",
        "Standard deviation and standard error taken for each other: Altman and Bland, BMJ 331 (2005), 903.",
        _with(beats=lambda d, e: d.mean() > 2 * d.std()),
    ),
    better_than_each_random_model=(
        "You compare with the best random mean. That leaves chance out: compare the mean difference with its error.",
        lambda t, r: _verdict(_differences(t, r), beats=lambda d, e: t.mean() > r.mean(dim=1).max()),
    ),
    two_errors_above_each_random_model=(
        "You compare with each random model. The rule takes one difference, from the mean over all of them.",
        lambda t, r: _verdict(_differences(t, r), beats=lambda d, e: ((t - r).mean(dim=1) > 2 * e).all()),
    ),
    most_pictures=(
        "You count pictures, or take their median. The rule is about the mean: compare it, once, with two errors.",
        _with(beats=lambda d, e: (d > 2 * e).float().mean() > 0.5),
    ),
    median_over_models=(
        "You take the median over the random models. The formula takes their mean, for each picture.",
        lambda t, r: _verdict(t - r.median(dim=0).values),
    ),
    pairs_lost=(
        "You subtract one number from all marks. Subtract from each picture's mark the random mean of that picture.",
        lambda t, r: _verdict(t - r.mean()),
    ),
    variance_for_error=(
        "This is the variance. Its root is the standard deviation; the error is that, divided by the root of n.",
        _with(error=torch.var),
    ),
    square_of_the_error=(
        "This is the variance divided by n, the square of the standard error. Take the root.",
        _with(error=lambda d: d.var() / len(d)),
    ),
    divided_by_n=(
        "You divide by n. The error of a mean falls with the root of n: four times as many pictures halve it.",
        "https://github.com/DataMedSci/pymchelper/issues/162 ('sqrt seems to be missing')",
        _with(error=lambda d: d.std() / len(d)),
    ),
    two_errors_returned=(
        "The second value is twice the standard error. Return e itself; the 2 belongs to the comparison.",
        _with(error=lambda d: 2 * d.std() / len(d) ** 0.5, beats=lambda d, e: d.mean() > e),
    ),
)
