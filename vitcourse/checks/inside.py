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
    for _ in range(1000):
        pairs = draw(generator)
        results = [[torch.as_tensor(answer(*pair)) for pair in pairs] for answer in answers]
        # 3e-6 keeps halves away from the edge at which they are rounded
        seen = {str([(r.shape, [round(x + 3e-6, 4) for x in r.flatten().tolist()]) for r in row]) for row in results}
        if len(seen) == len(answers):
            return pairs
    raise RuntimeError("no telling inputs found")


# ---- 6.1 the pointing game


@functools.lru_cache(maxsize=8)  # a check asks for its inputs several times
def _pointing_inputs(seed: int) -> Pairs:
    def draw(generator: Generator) -> Pairs:
        heat = torch.rand(3, 4, 5, generator=generator)
        tied = torch.randint(0, 4, (2, 5, 3), generator=generator) - torch.tensor([0, 5])[:, None, None]
        return [
            (heat, torch.rand(3, 4, 5, generator=generator) < 0.4),
            (tied.float(), torch.rand(2, 5, 3, generator=generator) < 0.5),
        ]

    return _telling(pointing_hits, seed, draw)


def _pointing_cases(generator: Generator) -> Iterator[Case]:
    (heat, mask), (tied, other) = _pointing_inputs(generator.initial_seed())
    yield Case("3 pictures of 4 x 5 pixels, one hottest pixel in each", {"heat": heat, "mask": mask})
    yield Case("2 pictures of 5 x 3 pixels, several equally hot", {"heat": tied, "mask": other})


def _hottest(heat: Tensor) -> Tensor:
    return heat == heat.amax(dim=(1, 2), keepdim=True)


def _share(hot: Tensor, mask: Tensor) -> Tensor:
    return (hot & mask).sum(dim=(1, 2)) / hot.sum(dim=(1, 2))


def _pointing_run(answer, heat: Tensor, mask: Tensor) -> Tensor:
    marks = answer(heat, mask)  # True and False are told from shares by their numbers
    return marks.float() if isinstance(marks, Tensor) and marks.dtype == torch.bool and marks.ndim else marks


pointing_hits = Exercise(
    "pointing_hits",
    2,
    "09-inside-the-vit#7 Marking a map",
    lambda heat, mask: _share(_hottest(heat), mask),
    _pointing_cases,
    run=_pointing_run,
)


@pointing_hits.mistake(
    "`argmax` without an axis looks for one place in the whole batch. Each picture has its own hottest pixel, and its "
    "own mark: shape `(B,)`.",
    source="torch.argmax without dim returns an index into the flattened tensor (its documentation).",
)
def one_place_for_the_whole_batch(heat, mask):
    return mask.flatten()[heat.argmax()].float()


@pointing_hits.mistake(
    "The largest number is taken over the whole batch, so pictures that are cooler have no hottest pixel at all. Take "
    "it over H and W of each picture.",
    source="https://github.com/tensorflow/tensorflow/issues/2821 (an index that forgets the batch)",
)
def largest_of_the_whole_batch(heat, mask):
    return _share(heat == heat.max(), mask)


@pointing_hits.mistake(
    "Of several equally hot pixels only the first counts. Which one is first says nothing about the map: each of them "
    "counts the same.",
    source="https://github.com/understandable-machine-intelligence-lab/Quantus/pull/43",
)
def first_of_several(heat, mask):
    return mask.flatten(1).gather(1, heat.flatten(1).argmax(dim=1, keepdim=True))[:, 0].float()


@pointing_hits.mistake(
    "One of the hottest pixels on the object counts as a full hit. A constant map would then always hit. Take the "
    "share of them that lies on the object.",
    source="`(highest & mask).any()`, the short way to write 'does the maximum lie on the object?'",
)
def any_of_several(heat, mask):
    return (_hottest(heat) & mask).flatten(1).any(dim=1).float()


@pointing_hits.mistake(
    "Only when all of the hottest pixels lie on the object do you count a hit. Take the share of them that does.",
    source="`mask[heat == heat.max()].all()`, the strict way to read 'the maximum lies on the object'.",
)
def all_of_several(heat, mask):
    return _share(_hottest(heat), mask).eq(1).float()


@pointing_hits.mistake(
    "Rows and columns of the mask are exchanged: you look up the column where the row belongs.",
    source="https://github.com/microsoft/vision-explanation-methods/pull/42",
)
def rows_and_columns_exchanged(heat, mask):
    hot = _hottest(heat).flatten(1)
    return (hot & mask.mT.flatten(1)).sum(dim=1) / hot.sum(dim=1)


@pointing_hits.mistake(
    "This is the share of all heat that lies on the object. The pointing game asks for the hottest pixels alone.",
    source="The 'energy-based' pointing game of Score-CAM (Wang et al., 2020), which is another mark.",
)
def share_of_all_heat(heat, mask):
    return (heat * mask).sum(dim=(1, 2)) / heat.sum(dim=(1, 2))


@pointing_hits.mistake(
    "A pixel beside the object counts as a hit. Some published versions allow a margin; here the pixel must lie on it.",
    source="Zhang et al. (2018) allow 15 pixels; so does PointingGame in facebookresearch/TorchRay (tolerance=15).",
)
def with_a_margin(heat, mask):
    return _share(_hottest(heat), F.max_pool2d(mask[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0)


@pointing_hits.mistake(
    "One mark for all pictures together. Keep them apart, shape `(B,)`: the comparison in task 6.7 needs each one.",
    source="TorchRay's PointingGame and most papers report the mean alone.",
)
def mean_over_pictures(heat, mask):
    return _share(_hottest(heat), mask).mean()


# ---- 6.2 intersection over union


@functools.lru_cache(maxsize=8)
def _iou_inputs(seed: int) -> Pairs:
    def draw(generator: Generator) -> Pairs:
        heat = torch.rand(3, 4, 5, generator=generator)
        patches = torch.rand(2, 2, 3, generator=generator).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        masks = [torch.rand(h.shape, generator=generator) < share for h, share in ((heat, 0.3), (patches, 0.4))]
        for mask in masks:
            mask[:, 1, 1:3] = True  # no empty mask
        return [(heat, masks[0]), (patches, masks[1])]

    return _telling(iou, seed, draw)


def _iou_cases(generator: Generator) -> Iterator[Case]:
    (heat, mask), (patches, other) = _iou_inputs(generator.initial_seed())
    yield Case("3 pictures of 4 x 5 pixels, no two equally hot", {"heat": heat, "mask": mask})
    yield Case("2 pictures of 4 x 6 pixels, equally hot in patches of 2 x 2", {"heat": patches, "mask": other})


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


def _iou(heat: Tensor, mask: Tensor) -> Tensor:
    above, at, part = _chosen(heat, mask)
    return _over_union(above + at * part, mask)


iou = Exercise("iou", 3, "09-inside-the-vit#7 Marking a map", _iou, _iou_cases)


@iou.mistake(
    "You choose the pixels above half of the largest number. How many those are depends on the map's scale; here it "
    "is as many as the object has.",
    source="A fixed share of the maximum, as in Zhou et al. (2016), CAM (20 %), and many copies.",
)
def above_half_of_the_largest(heat, mask):
    return _over_union(heat > heat.amax(dim=(1, 2), keepdim=True) / 2, mask)


@iou.mistake(
    "You choose the pixels above 0.5. A map has its own scale, and weights are shares of 1: here as many pixels are "
    "chosen as the object has.",
    source="IOUScore(threshold=0.5) in qubvel/segmentation_models, made for probabilities (its issue 352)",
)
def above_one_half(heat, mask):
    return _over_union(heat > 0.5, mask)


@iou.mistake(
    "Your limit is the number after the k-th largest: places count from 0, so the k-th one stands at k - 1.",
    source="`sorted(...)[k]` for the k-th largest number, off by one.",
)
def one_too_many(heat, mask):
    places = mask.flatten(1).sum(dim=1, keepdim=True)
    limit = heat.flatten(1).sort(dim=1, descending=True).values.gather(1, places)
    return _over_union(heat.flatten(1) >= limit, mask)


@iou.mistake(
    "You choose the pixels above the map's mean. How many those are depends on the map; here it is as many as the "
    "object has.",
    source="hila-chefer/Transformer-Explainability, baselines/ViT/imagenet_seg_eval.py (`ret = Res.mean()`)",
)
def above_the_mean(heat, mask):
    return _over_union(heat > heat.mean(dim=(1, 2), keepdim=True), mask)


@iou.mistake(
    "You divide by the size of the object alone: that is recall. The union also holds the chosen pixels beside the "
    "object.",
    source="https://github.com/huggingface/evaluate/issues/421 (an IoU that was recall)",
)
def recall(heat, mask):
    above, at, part = _chosen(heat, mask)
    return ((above + at * part) * mask.flatten(1)).sum(dim=1) / mask.flatten(1).sum(dim=1)


@iou.mistake(
    "The union counts the shared pixels twice: once with the object, once with the chosen ones. A perfect map would "
    "get 0.5.",
    source="https://github.com/Striveworks/valor/issues/5",
)
def shared_pixels_counted_twice(heat, mask):
    return recall(heat, mask) / 2


@iou.mistake(
    "All pixels at the limit are chosen, so more than the object has. They share what is left: each counts in part.",
    source="`heat >= heat.topk(k).values[-1]`, the usual way to cut at the k-th largest number.",
)
def all_at_the_limit(heat, mask):
    above, at, _ = _chosen(heat, mask)
    return _over_union(above | at, mask)


@iou.mistake(
    "No pixel at the limit is chosen, so fewer than the object has. They share what is left: each counts in part.",
    source="`>` for `>=` at the k-th largest number.",
)
def none_at_the_limit(heat, mask):
    return _over_union(_chosen(heat, mask)[0], mask)


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


@iou.mistake(
    "You choose the coldest pixels. `kthvalue`, and sorting as it comes, count from the smallest number.",
    source="torch.kthvalue returns the k-th smallest number (its documentation).",
)
def the_coldest(heat, mask):
    return _iou(-heat, mask)


@iou.mistake(
    "One number for the whole batch: pixels of all pictures are added before you divide. Each picture gets its own "
    "mark, shape `(B,)`.",
    source="https://github.com/chengchunhsu/WSIS_BBTP/issues/11 (sums over the wrong axes in an IoU)",
)
def one_number_for_the_batch(heat, mask):
    above, at, part = _chosen(heat, mask)
    return _over_union((above + at * part).flatten()[None], mask.flatten()[None])[0]


# ---- 6.3 rollout


def _stochastic(generator: Generator, *shape: int) -> Tensor:
    return (2 * torch.randn(shape, generator=generator)).softmax(dim=-1)


def _rollout_cases(generator: Generator) -> Iterator[Case]:
    for layers, B, h, L in ((2, 2, 3, 4), (4, 3, 2, integer(5, 6, generator))):
        weights = [_stochastic(generator, B, h, L, L) for _ in range(layers)]
        yield Case(f"{layers} layers, B = {B}, h = {h}, L = {L}", {"weights": weights})


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


@rollout.mistake(
    "The residual stream is missing: each layer is the mean over heads alone. A token also keeps what it had, and that "
    "is the identity.",
    source="https://github.com/google-research/vision_transformer/issues/18 (vit-keras, before it was amended)",
)
def without_the_residual_stream(weights):
    return _rolled(weights, layer=lambda A: A)


@rollout.mistake(
    "The product runs the wrong way. Rows of the last layer choose among what earlier layers brought, so the last "
    "layer stands on the left.",
    source="A product written as the layers run, first layer on the left, where the formula has it on the right.",
)
def first_layer_on_the_left(weights):
    return _rolled(weights, join=lambda A, R: R @ A)


@rollout.mistake(
    "You take the largest weight over heads. The formula takes the mean, and with it rows sum to 1.",
    source="jacobgil/vit-explain, vit_rollout.py: head_fusion='max'",
)
def largest_head(weights):
    return _rolled(weights, heads=lambda w: w.amax(dim=1))


@rollout.mistake(
    "You take the smallest weight over heads. The formula takes the mean, and with it rows sum to 1.",
    source="jacobgil/vit-explain, vit_rollout.py: head_fusion='min'",
)
def smallest_head(weights):
    return _rolled(weights, heads=lambda w: w.amin(dim=1))


@rollout.mistake(
    "The mean runs over the pictures, axis 0, and their maps are mixed. Heads are axis 1.",
    source="`mean(dim=0)`, right for one picture's weights (h, L, L), as in many notebooks, used on a batch.",
)
def mean_over_pictures_for_heads(weights):
    return _rolled(weights, heads=lambda w: w.mean(dim=0))


@rollout.mistake(
    "The identity is added, but nothing is halved: your rows sum to 2 for each layer, multiplied. Attention and "
    "identity count one half each.",
    source="R + A R, the rule of Chefer et al. (2021), hila-chefer/Transformer-MM-Explainability, called rollout.",
)
def not_halved(weights):
    return _rolled(weights, layer=lambda A: A + torch.eye(A.shape[-1]))


@rollout.mistake(
    "The identity is added once, after the product. Each layer has its own residual stream: it belongs inside.",
    source="'Add the identity to account for residual connections' (google-research/vision_transformer, issue 18), "
    "read as one step at the end.",
)
def identity_at_the_end(weights):
    return _layer(without_the_residual_stream(weights))


@rollout.mistake(
    "This is the last layer alone. What its tokens hold was fetched by the layers before: multiply all of them.",
    source="https://github.com/jo1jun/Vision_Transformer/issues/1 (why multiply, and not take one layer's matrix?)",
)
def last_layer_only(weights):
    return _layer(weights[-1].mean(dim=1))


@rollout.mistake(
    "`*` multiplies number by number. Following attention through two layers is a matrix product.",
    source="`*` for `@`: numpy.matrix and MATLAB against torch, in many questions of beginners.",
)
def number_by_number(weights):
    return _rolled(weights, join=torch.mul)


@rollout.mistake(
    "The first layer is left out: the loop starts from the identity and skips it, or starts from the second layer.",
    source="hila-chefer/Transformer-Explainability: rollout from start_layer=1 in imagenet_seg_eval.py",
)
def without_the_first_layer(weights):
    return _rolled(weights[1:])


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


@pixel_map.mistake(
    "This is the column of [CLS]: what the patches take from [CLS]. The map is its row: what [CLS] takes from them.",
    source="Queries and keys exchanged: `attention[:, :, 1:, 0]` for `[:, :, 0, 1:]`, a slip of two digits.",
)
def column_of_cls(R, grid_size, patch_size):
    return _spread(R[:, 1:, 0], grid_size, patch_size)


@pixel_map.mistake(
    "Your map begins with what [CLS] takes from itself, and the last patch is lost: all others stand one place off. "
    "[CLS] is the first key.",
    source="https://github.com/youweiliang/evit/issues/15 (which keys of the row are patches?)",
)
def cls_kept_last_patch_dropped(R, grid_size, patch_size):
    return _spread(R[:, 0, :-1], grid_size, patch_size)


@pixel_map.mistake(
    "Rows and columns of the grid are exchanged, and the shape is `(B, W, H)`. `grid_size` is rows, then columns.",
    source="https://github.com/facebookresearch/dino/issues/180 (`w, h = img.shape[1], img.shape[2]`)",
)
def grid_turned(R, grid_size, patch_size):
    return _spread(R[:, 0, 1:], grid_size[::-1], patch_size)


@pixel_map.mistake(
    "The shape is right, but the patches are laid out column by column. They are counted row by row.",
    source="https://github.com/lightly-ai/lightly-train/pull/189 (w and h swapped, found with images not square)",
)
def column_by_column(R, grid_size, patch_size):
    return _spread(R[:, 0, 1:], grid_size[::-1], patch_size).mT


@pixel_map.mistake(
    "The small map is laid side by side P times, like tiles. Each number should be repeated in place, as a block of "
    "P x P pixels.",
    source="torch.Tensor.repeat behaves like numpy.tile, unlike numpy.repeat (a warning in torch's documentation).",
)
def tiled(R, grid_size, patch_size):
    return R[:, 0, 1:].unflatten(1, grid_size).repeat(1, patch_size, patch_size)


@pixel_map.mistake(
    "The map is smoothed between patches. It then looks finer than it is: repeat each number over its patch.",
    source="jacobgil/vit-explain resizes the mask by cv2.resize, which interpolates between patches by default.",
)
def smoothed(R, grid_size, patch_size):
    grid = R[:, None, 0, 1:].unflatten(2, grid_size)
    return F.interpolate(grid, scale_factor=patch_size, mode="bilinear", align_corners=False)[:, 0]


@pixel_map.mistake(
    "This has one number a patch, shape `(B, g_h, g_w)`. The mask has one a pixel: repeat each one over P x P pixels.",
    source="vit-explain's rollout returns the small map, and leaves the resizing to the caller.",
)
def left_at_patches(R, grid_size, patch_size):
    return R[:, 0, 1:].unflatten(1, grid_size)


@pixel_map.mistake(
    "You average the rows of all tokens. The class is read from [CLS] alone, so its row is the map.",
    source="https://github.com/jacobgil/vit-explain/issues/25 (`result[0].mean(0)`)",
)
def mean_of_all_rows(R, grid_size, patch_size):
    return _spread(R.mean(dim=1)[:, 1:], grid_size, patch_size)


@pixel_map.mistake(
    "You divide each map by its largest number. Then maps of two models can't be compared any more: keep the scale.",
    source="jacobgil/vit-explain, vit_rollout.py: `mask = mask / np.max(mask)`",
)
def stretched(R, grid_size, patch_size):
    row = R[:, 0, 1:]
    return _spread(row / row.amax(dim=1, keepdim=True), grid_size, patch_size)


# ---- 6.5 how far a head looks


def _distance_cases(generator: Generator) -> Iterator[Case]:
    for B, h, grid_size, P in ((1, 2, (1, 3), 4), (4, 3, (2, 5), integer(3, 7, generator))):
        L = grid_size[0] * grid_size[1] + 1
        arguments = {"weights": _stochastic(generator, B, h, L, L), "grid_size": grid_size, "patch_size": P}
        yield Case(f"B = {B}, h = {h}, {grid_size[0]} x {grid_size[1]} patches, P = {P}", arguments)


def _distance(weights: Tensor, grid_size, P, distances=None, scale=lambda A: A / A.sum(dim=-1, keepdim=True)) -> Tensor:
    """For each picture, head and query: (B, h, N)."""
    distances = introspect.patch_distances(grid_size, P) if distances is None else distances
    return (scale(weights[:, :, 1:, 1:]) * distances).sum(dim=-1)


def _mean(distances: Tensor) -> Tensor:
    return distances.mean(dim=(0, 2))


attention_distance = Exercise(
    "attention_distance",
    3,
    "09-inside-the-vit#5 How far a head looks",
    lambda weights, grid_size, patch_size: introspect.attention_distance(weights, grid_size, patch_size),
    _distance_cases,
)


@attention_distance.mistake(
    "[CLS] is cut off, and what is left of each row no longer sums to 1. Heads that look at [CLS] a lot then seem to "
    "look less far: scale the rows.",
    source="keras.io, 'Investigating Vision Transformer representations': compute_mean_attention_dist, often copied",
)
def rows_not_scaled(weights, grid_size, patch_size):
    return _mean(_distance(weights, grid_size, patch_size, scale=lambda A: A))


@attention_distance.mistake(
    "A second softmax makes rows sum to 1, and nearly equal: what a head prefers is lost. Divide each row by its sum.",
    source="softmax taken for 'make it sum to 1', on weights that have been through one already.",
)
def a_second_softmax(weights, grid_size, patch_size):
    return _mean(_distance(weights, grid_size, patch_size, scale=lambda A: A.softmax(dim=-1)))


@attention_distance.mistake(
    "These are steps on the grid. One step is P pixels, and the answer is asked for in pixels.",
    source="https://github.com/google-research/vision_transformer/issues/162 ('distance on the token grid')",
)
def in_patches(weights, grid_size, patch_size):
    return _mean(_distance(weights, grid_size, 1))


@attention_distance.mistake(
    "Your distances are squared: the root is missing. A patch 2 steps away would count as 4 steps.",
    source="Squared distances, as `((a - b) ** 2).sum(-1)` gives them when the root is forgotten.",
)
def squared(weights, grid_size, patch_size):
    distances = introspect.patch_distances(grid_size, patch_size)
    return _mean(_distance(weights, grid_size, patch_size, distances**2))


def _places(grid_size, P) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(side) for side in grid_size)).float() * P


@attention_distance.mistake(
    "You add the distances down and across: the way along streets. Asked for is the straight line between centres.",
    source="`(a - b).abs().sum(-1)`, or cdist with p=1: the Manhattan distance.",
)
def along_streets(weights, grid_size, patch_size):
    places = _places(grid_size, patch_size)
    return _mean(_distance(weights, grid_size, patch_size, torch.cdist(places, places, p=1)))


@attention_distance.mistake(
    "Rows and columns of the grid are exchanged, so most patches are measured from the wrong place. `grid_size` is "
    "rows, then columns; patches are counted row by row.",
    source="https://github.com/facebookresearch/dino/issues/180; or meshgrid with indexing='xy'",
)
def grid_exchanged(weights, grid_size, patch_size):
    return _mean(_distance(weights, grid_size[::-1], patch_size))


@attention_distance.mistake(
    "This mean over the keys doesn't use the weights: every head gets the same number. Each distance counts by the "
    "weight of its key.",
    source="https://github.com/google-research/vision_transformer/issues/162 ('averaging the distance' misread)",
)
def without_the_weights(weights, grid_size, patch_size):
    return _mean(_distance(torch.ones_like(weights), grid_size, patch_size))


@attention_distance.mistake(
    "[CLS] is counted as a patch at distance 0 from all others. It has no place: leave it out as a query and as a key.",
    source="A row and a column of zeros added to the table of distances, so that the shapes fit.",
)
def cls_at_distance_zero(weights, grid_size, patch_size):
    padded = F.pad(introspect.patch_distances(grid_size, patch_size), (1, 0, 1, 0))
    return _mean((weights * padded).sum(dim=-1))


@attention_distance.mistake(
    "A patch's look at itself is left out. It belongs to the mean, with distance 0.",
    source="'The distance to all other patches' (Dosovitskiy et al., 2021, figure 11), read as without itself.",
)
def without_itself(weights, grid_size, patch_size):
    others = weights * (1 - torch.eye(weights.shape[-1]))
    return _mean(_distance(others, grid_size, patch_size))


@attention_distance.mistake(
    "Columns are scaled instead of rows. A row belongs to one query, and its shares over the keys must sum to 1.",
    source="`A / A.sum(dim=-1)` without keepdim scales by the wrong axis: jacobgil/vit-explain, issue 16",
)
def columns_scaled(weights, grid_size, patch_size):
    return _mean(_distance(weights, grid_size, patch_size, scale=lambda A: A / A.sum(dim=-2, keepdim=True)))


@attention_distance.mistake(
    "One number for all heads. Heads differ, and that is the point: take the mean over pictures and queries only.",
    source="`.mean()` without axes; figures that show one distance a layer.",
)
def mean_over_heads_too(weights, grid_size, patch_size):
    return _distance(weights, grid_size, patch_size).mean()


@attention_distance.mistake(
    "One number for each picture and head, shape `(B, h)`. Take the mean over the pictures too.",
    source="keras.io, 'Investigating Vision Transformer representations': it returns one a picture and head",
)
def pictures_kept_apart(weights, grid_size, patch_size):
    return _distance(weights, grid_size, patch_size).mean(dim=2)


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


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def _state(model: nn.Module) -> dict[str, list]:
    modules = list(model.modules())
    return {
        "training mode as before": [module.training for module in modules],
        "use_faster_attention as before": [getattr(module, "use_faster_attention", None) for module in modules],
        "methods as before": ["forward" in vars(module) for module in modules],
    }


def _collect_run(answer, model: nn.Module, images: Tensor) -> Iterator[tuple[str, object]]:
    before, found, stopped, ends = _state(model), None, False, True
    try:
        found = answer(model, images)
    except _Stop:
        stopped = True
    except RecursionError:
        ends = False
    yield "it comes to an end", ends
    if not ends:
        return
    if any(isinstance(module, _Stops) for module in model.modules()):
        yield "the model's error reaches the caller", stopped
    elif not isinstance(found, (list, tuple, Tensor)):
        yield "number of maps", found
        return
    else:
        yield "number of maps", len(found)
        for layer, weights in enumerate(found, start=1):
            yield f"map of layer {layer}", weights
        yield "maps need a gradient", any(getattr(weights, "requires_grad", False) for weights in found)
    yield "hooks left behind", _hooks(model)
    after = _state(model)
    for name, values in before.items():
        yield name, values == after[name]


def _attentions(model: nn.Module) -> list[MultiHeadAttention]:
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention)]


def _weights(module: MultiHeadAttention, given: tuple, output: Tensor) -> Tensor:
    return module.forward(given[0], return_attention=True)[1]


def _from_qkv(module: MultiHeadAttention, tokens: Tensor, scale: float) -> Tensor:
    query, key, _ = (part.unflatten(-1, (module.num_heads, -1)) for part in module.qkv(tokens).chunk(3, dim=-1))
    return (torch.einsum("bqhd,bkhd->bhqk", query, key) * scale).softmax(dim=-1)


def _collect(model, images, keep=_weights, kind=MultiHeadAttention, removed=True, graph=False) -> list[Tensor]:
    kept: list[Tensor] = []
    modules = [module for module in model.modules() if isinstance(module, kind)]
    hooks = [m.register_forward_hook(lambda *given: kept.append(keep(*given))) for m in modules]
    try:
        with torch.set_grad_enabled(graph):
            model(images)
    finally:
        for hook in hooks if removed else []:
            hook.remove()
    return kept


collect_weights = Exercise(
    "collect_weights", 4, "09-inside-the-vit#1 Where the heads look", _collect, _collect_cases, run=_collect_run
)


@collect_weights.mistake(
    "Your hook keeps what the attention returns: tokens, `(B, L, D)`. Weights are made inside and not returned. Ask "
    "the module for them, or compute them from its input.",
    source="The first cell on hooks in notebook 09, section 1, and PyTorch's own examples of forward hooks.",
)
def tokens_for_weights(model, images):
    return _collect(model, images, keep=lambda module, given, output: output)


@collect_weights.mistake(
    "You ask the model for its weights, which only our own ViT understands. Call `model(images)`, and ask each "
    "attention layer, in a hook.",
    source="output_attentions=True of Hugging Face's models, the short way where a model offers it.",
)
def asked_the_model(model, images):
    with torch.no_grad():
        return model(images, return_attention=True)[1]


@collect_weights.mistake(
    "`given` holds everything that the block passed by place: tokens, a mask, and whether weights are wanted. Pass on "
    "the tokens alone.",
    source="`module.forward(*args, ...)` in a hook, where one of args is the keyword that is to be changed.",
)
def everything_passed_on(model, images):
    return _collect(model, images, keep=lambda module, given, _: module.forward(*given, return_attention=True)[1])


@collect_weights.mistake(
    "You look for `model.blocks`, which only a VisionTransformer has. `model.modules()` finds the attention layers of "
    "any module, in order.",
    source="https://github.com/jacobgil/vit-explain/issues/23 ('ViTModel' object has no attribute 'blocks')",
)
def only_where_blocks_are(model, images):
    return _collect(model.blocks and model, images)


@collect_weights.mistake(
    "The list is empty: your hooks sit on modules that are never called. Fused attention has no module for its softmax "
    "and calls no dropout.",
    source="https://github.com/jacobgil/vit-explain/issues/23",
)
def hooks_that_never_fire(model, images):
    return _collect(model, images, kind=nn.Softmax)


@collect_weights.mistake(
    "The hooks stay when the model raises an error: the lines that remove them are never reached. `try ... finally` "
    "runs them in any case.",
    source="https://github.com/nmhkahn/torchsummaryX/pull/8",
)
def left_behind_after_an_error(model, images):
    kept = []
    keep = lambda *given: kept.append(_weights(*given).detach())  # noqa: E731
    hooks = [module.register_forward_hook(keep) for module in _attentions(model)]
    model(images)
    for hook in hooks:
        hook.remove()
    return kept


@collect_weights.mistake(
    "The hooks are never removed: each further pass through the model runs them again. What `register_forward_hook` "
    "returns has a `remove`.",
    source="https://github.com/fffasttime/MRFI/pull/5; vit_rollout.py in jacobgil/vit-explain removes none either",
)
def never_removed(model, images):
    return _collect(model, images, removed=False)


@collect_weights.mistake(
    "The maps still hold the graph of the whole forward pass, and its memory. They are to look at: no gradient needed.",
    source="https://github.com/utkuozbulak/pytorch-cnn-visualizations/issues/53",
)
def kept_with_their_graph(model, images):
    return _collect(model, images, graph=True)


@collect_weights.mistake(
    "`use_faster_attention` is off when you are done. The next user of the model pays for it: put it back, or leave it "
    "alone.",
    source="`block.attn.fused_attn = False`, the workaround in https://github.com/jacobgil/vit-explain/issues/23",
)
def fused_attention_left_off(model, images):
    for module in _attentions(model):
        module.use_faster_attention = False
    return _collect(model, images)


@collect_weights.mistake(
    "The model came in training mode and goes in evaluation mode. Whoever trains it next trains without dropout: leave "
    "the mode alone.",
    source="https://github.com/meta-pytorch/opacus/issues/176 ('setting model.eval() will fix the issue')",
)
def left_in_evaluation_mode(model, images):
    return _collect(model.eval(), images)


@collect_weights.mistake(
    "The model's error is swallowed, and the caller gets a list as if all were well. Clean up, then let it pass.",
    source="`except Exception: pass` around a model, with the hooks removed after it.",
)
def error_swallowed(model, images):
    try:
        return _collect(model, images)
    except _Stop:
        return []


@collect_weights.mistake(
    "Heads are averaged, shape `(B, L, L)`. Keep them apart: `(B, h, L, L)`. Whether to average is up to the reader.",
    source="torch.nn.MultiheadAttention averages its weights over heads by default (average_attn_weights=True).",
)
def heads_averaged(model, images):
    return _collect(model, images, keep=lambda *given: _weights(*given).mean(dim=1))


@collect_weights.mistake(
    "The dot products aren't divided by the root of d_k before the softmax, so the weights are too peaked.",
    source="Published attention without a scale, bug 2 of the course's list; here from weights computed anew.",
)
def without_the_scale(model, images):
    return _collect(model, images, keep=lambda module, given, _: _from_qkv(module, given[0], 1.0))


@collect_weights.mistake(
    "The dot products are divided by the root of D. A head has width d_k = D / h, and that is what counts.",
    source="Published attention scaled by the full width, bug 2 of the course's list.",
)
def scale_of_the_full_width(model, images):
    keep = lambda module, given, _: _from_qkv(module, given[0], given[0].shape[-1] ** -0.5)  # noqa: E731
    return _collect(model, images, keep=keep)


@collect_weights.mistake(
    "Your hook calls the module, which calls your hook, and so on without end. `module.forward(...)` computes the same "
    "and calls no hook.",
    source="torch.nn.Module: calling a module runs its hooks, calling its forward doesn't (documentation).",
)
def hook_calls_itself(model, images):
    return _collect(model, images, keep=lambda module, given, _: module(given[0], return_attention=True)[1])


# ---- 6.7 a verdict


def _verdict_cases(generator: Generator) -> Iterator[Case]:
    for note, n, s, errors in (
        ("trained clearly better", 8, 3, 6.0),
        ("trained a little better", 11, 4, 1.5),
        ("hardly a difference", 7, 3, 0.6),
        ("random better", 9, 2, -5.0),
    ):
        # a picture is easy or hard for all models alike: that is why the comparison is paired
        random = 0.15 * torch.rand(n, generator=generator) + 0.3 + 0.03 * torch.rand(s, n, generator=generator)
        random = random + 0.03 * torch.arange(s).roll(-1)[:, None]  # the first one is neither the best nor the worst
        d = torch.randn(n, generator=generator)
        d = (d - d.mean()) / d.std() * n**0.5 * 0.01  # its standard error is 0.01
        arguments = {"trained": random.mean(dim=0) + d + 0.01 * errors, "random": random}
        yield Case(f"{note}: {n} pictures, {s} random models", arguments)


def _verdict_run(answer, trained: Tensor, random: Tensor) -> Iterator[tuple[str, object]]:
    result = answer(trained, random)
    three = isinstance(result, (tuple, list)) and len(result) == 3
    yield "three values came back", three
    if three:
        yield from zip(("mean difference", "standard error", "beats"), result, strict=True)


def _verdict(d: Tensor, error=lambda d: d.std() / len(d) ** 0.5, beats=lambda mean, e: mean > 2 * e):
    mean, e = d.mean(), error(d)
    return mean, e, bool(beats(mean, e))


def _differences(trained: Tensor, random: Tensor) -> Tensor:
    return trained - random.mean(dim=0)


verdict = Exercise(
    "verdict",
    4,
    "09-inside-the-vit#7 Marking a map",
    lambda trained, random: _verdict(_differences(trained, random)),
    _verdict_cases,
    run=_verdict_run,
)


@verdict.mistake(
    "You treat the two rows of marks as if they came from different pictures. The same picture is hard for both: "
    "take the spread of the differences.",
    source="https://stats.stackexchange.com/questions/45851 (paired or not, when two models share their test images)",
)
def not_paired(trained, random):
    other = random.mean(dim=0)
    return _verdict(trained - other, lambda d: ((trained.var() + other.var()) / len(d)) ** 0.5)


@verdict.mistake(
    "This is the standard deviation of the differences, how far single pictures lie apart. The error of their mean is "
    "smaller, by the root of n.",
    source="Standard deviation and standard error taken for each other: Altman and Bland, BMJ 331 (2005), 903.",
)
def deviation_for_error(trained, random):
    return _verdict(_differences(trained, random), torch.std)


@verdict.mistake(
    "The deviation is computed with n, not n - 1. The mean was estimated from the same pictures, so n makes the "
    "error too small.",
    source="https://github.com/mwaskom/seaborn/issues/1677 and numpy.std, whose default is ddof=0",
)
def with_n(trained, random):
    return _verdict(_differences(trained, random), lambda d: d.std(correction=0) / len(d) ** 0.5)


@verdict.mistake(
    "Every picture is counted once for each random model, as if there were s n of them. Only n pictures were drawn: "
    "first take the mean over the random models.",
    source="https://github.com/cosig-pppr/cosig/issues/78 (pseudoreplication)",
)
def each_pair_counted(trained, random):
    return _verdict((trained - random).flatten())


@verdict.mistake(
    "Your error says how much random models differ from each other. Asked for is the error over pictures.",
    source="Mean and deviation over seeds, as most tables of papers report it, where the pictures are the sample.",
)
def error_over_models(trained, random):
    models = random.mean(dim=1)
    return _verdict(_differences(trained, random), lambda d: models.std() / len(models) ** 0.5)


@verdict.mistake(
    "Only the best random model is compared. You chose it after seeing its marks: take the mean over all of them.",
    source="'The strongest of k baselines', chosen on the test pictures.",
)
def best_random_model(trained, random):
    return _verdict(trained - random[random.mean(dim=1).argmax()])


@verdict.mistake(
    "Only the worst random model is compared, which flatters the trained one. Take the mean over all of them.",
    source="A weak baseline, chosen: Lipton and Steinhardt (2018), Troubling Trends in Machine Learning Scholarship.",
)
def worst_random_model(trained, random):
    return _verdict(trained - random[random.mean(dim=1).argmin()])


@verdict.mistake(
    "Only the first random model is compared. One draw may be lucky or not: take the mean over all of them.",
    source="One random model beside each map, as in most figures of sanity checks.",
)
def first_random_model(trained, random):
    return _verdict(trained - random[0])


@verdict.mistake(
    "The baseline is missing: these are the trained model's own marks against 0. Compare with the random models.",
    source="Maps reported by their mark alone, without the random-weights baseline of Adebayo et al. (2018).",
)
def without_the_baseline(trained, random):
    return _verdict(trained)


@verdict.mistake(
    "The sign is turned: random minus trained. Better marks of the trained model should give a positive difference.",
    source="Differences taken as 'before minus after'.",
)
def sign_turned(trained, random):
    return _verdict(-_differences(trained, random))


@verdict.mistake(
    "A positive mean is enough for you. Chance alone makes it positive half of the time: it must exceed two standard "
    "errors.",
    source="'Ours is better', from two means without an error: Lipton and Steinhardt (2018), Troubling Trends.",
)
def any_difference_counts(trained, random):
    return _verdict(_differences(trained, random), beats=lambda mean, e: mean > 0)


@verdict.mistake(
    "One standard error is enough for you. Chance exceeds one in about one of six cases; the rule says two.",
    source="'The error bars don't overlap', with bars of one standard error: Cumming et al. (2007), J. Cell Biol. 177.",
)
def one_standard_error(trained, random):
    return _verdict(_differences(trained, random), beats=lambda mean, e: mean > e)


@verdict.mistake(
    "A large difference of either sign counts for you, so a model that is clearly worse also beats its baseline.",
    source="A two-sided test read as 'better': significant isn't the same as better.",
)
def either_sign(trained, random):
    return _verdict(_differences(trained, random), beats=lambda mean, e: mean.abs() > 2 * e)
