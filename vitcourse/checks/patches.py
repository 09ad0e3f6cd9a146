"""Sheet 3, patch size and embedding dimension.

Longer than 150 lines because five tasks and the beliefs that lead astray in them stand on one page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from vitcourse import VisionTransformer, ViTConfig, functional, training
from vitcourse.checks.compare import difference, same
from vitcourse.checks.exercise import Case, Exercise, integer
from vitcourse.data import ImageSet


def _choice(options: Sequence[Any], generator: Generator) -> Any:
    return options[integer(0, len(options) - 1, generator)]


def _numbered(*shape: int) -> Tensor:
    return torch.arange(torch.Size(shape).numel()).float().reshape(shape)


# ---- 3.1 cut


def _patchify_cases(generator: Generator) -> Iterator[Case]:
    images = _numbered(1, 2, 4, 8)
    yield Case("numbered pixels, C = 2, H = 4, W = 8, P = 2", {"images": images, "P": 2})
    (P, C), (rows, columns) = _choice(((2, 3), (3, 2)), generator), _choice(((2, 5), (5, 2), (4, 5)), generator)
    images = torch.randn(4, C, rows * P, columns * P, generator=generator)
    yield Case(f"B = 4, C = {C}, H = {rows * P}, W = {columns * P}, P = {P}", {"images": images, "P": P})


def _patchify_run(answer, images: Tensor, P: int) -> Iterator[tuple[str, object]]:
    yield "patches", (patches := answer(images, P))
    patches = torch.from_numpy(patches) if isinstance(patches, np.ndarray) else patches
    if not isinstance(patches, Tensor) or difference(functional.patchify(images, P), patches.detach()):
        return  # first the cut, then what doesn't fit
    pieces = {"row": images[..., :-1, :], "column": images[..., :-1], "row and column": images[..., :-1, :-1]}
    for what, odd in pieces.items():
        yield f"with the last {what} of pixels missing", _refusal(answer, odd, P)


def _refusal(answer, odd: Tensor, P: int) -> str:
    """How an answer takes images that don't fit, in words."""
    try:
        patches = answer(odd, P)
    except ValueError as error:
        return "a ValueError with a text" if str(error).strip() else "a ValueError without a text"
    except Exception as error:
        return f"an error of another type, {type(error).__name__}"
    return f"no error, {patches.shape[1]} patches" if getattr(patches, "ndim", 0) == 3 else "no error"


patchify = Exercise(
    "patchify", 4, "06-images-as-sequences#2 Four ways to cut", functional.patchify, _patchify_cases, run=_patchify_run
)


def _refuse(images: Tensor, P: int) -> tuple[int, ...]:
    functional.check_patches_fit(images, P)
    return tuple(images.shape)


def _fold_out(images: Tensor, P: int) -> Tensor:
    """Right, but for what doesn't fit: that is cropped."""
    return F.unfold(images, P, stride=P).mT.contiguous()


def _split(images: Tensor, P: int) -> Tensor:
    """Right; what doesn't fit is stopped by `reshape`."""
    B, C, H, W = images.shape
    split = images.reshape(B, C, H // P, P, W // P, P)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * P * P)


def _guarded(images: Tensor, P: int, refused: object, cut=_fold_out) -> Tensor:
    if refused:
        raise ValueError("sides")
    return cut(images, P)


@patchify.mistake(
    "One `reshape` keeps the storage order: your patch 0 is the top rows of one channel, a strip and not a square. "
    "Shapes can't tell you; look at the numbers of one patch.",
    source="https://github.com/duoan/TorchCode/issues/21 and https://github.com/UdbhavPrasad072300/"
    "Transformer-Implementations/issues/5",
)
def one_reshape(images, P):
    B, C, H, W = _refuse(images, P)
    return images.reshape(B, (H // P) * (W // P), P * P * C)


@patchify.mistake(
    "Inside a patch, your channels alternate from pixel to pixel: the order (P, P, C). The task wants (C, P, P), "
    "all of channel 0 first, as a convolution stores its kernel.",
    source="https://github.com/lucidrains/vit-pytorch/issues/184 (its Rearrange ends in (p1 p2 c))",
)
def channels_last(images, P):
    _refuse(images, P)
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (p q c)", p=P, q=P)


@patchify.mistake(
    "The patches are right, their order isn't: you go down the first column of the grid. Read row by row, from left "
    "to right.",
    source="https://github.com/NVIDIA-NeMo/RL/pull/4106 (a review: tests that miss a turned patch grid)",
)
def down_the_columns(images, P):
    _refuse(images, P)
    return rearrange(images, "b c (gh p) (gw q) -> b (gw gh) (c p q)", p=P, q=P)


@patchify.mistake(
    "Each patch is mirrored along its diagonal: inside it, you read down the columns. The pixels of a patch go row "
    "by row too.",
    source="https://github.com/NVIDIA/flashdreams/pull/284 ((c ph pw) against (c pw ph))",
)
def transposed_inside(images, P):
    _refuse(images, P)
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c q p)", p=P, q=P)


@patchify.mistake(
    "`F.unfold` returns patches as columns, (B, P P C, N). Your last two axes are the wrong way round: tokens come "
    "before features.",
    source="torch.nn.functional.unfold's documentation: the output is (N, C x kernel, L); notebook 06, section 2",
)
def patches_as_columns(images, P):
    _refuse(images, P)
    return F.unfold(images, P, stride=P)


@patchify.mistake(
    "The channel axis still stands before the grid when you flatten, so a patch is filled from several places of one "
    "channel. Both grid axes must come right after B.",
    source="https://github.com/gupta-abhay/pytorch-vit/issues/7",
)
def channels_before_the_grid(images, P):
    B, C = _refuse(images, P)[:2]
    return rearrange(images, "b c (gh p) (gw q) -> b c gh gw p q", p=P, q=P).reshape(B, -1, C * P * P)


@patchify.mistake(
    "Each channel of a patch became a patch of its own. A patch holds all C channels, so there are N = (H / P)(W / P) "
    "of them, of length P P C.",
    source="Tensor.unfold recipes for one channel, used on colour; a question about them: https://techqa.club/v/q/where-i-can-"
    "find-an-intuitive-explanation-of-pytorch-s-tensor-unfold-being-used-to-get-image-patches-67104280",
)
def a_patch_for_each_channel(images, P):
    _refuse(images, P)
    return rearrange(images, "b c (gh p) (gw q) -> b (c gh gw) (p q)", p=P, q=P)


@patchify.mistake(
    "Your patches are one pixel high, of length P C. A patch is a square: P rows of P pixels in C channels, so its "
    "length is P P C.",
    source="The length of a flattened patch given as P x C in teaching material; notebook 06, section 3",
)
def one_row_high(images, P):
    _refuse(images, P)
    return rearrange(images, "b c h (gw q) -> b (h gw) (c q)", q=P)


@patchify.mistake(
    "Height and width are swapped: images are (B, C, H, W), height first. On square images nobody notices.",
    source="https://github.com/facebookresearch/dinov2/pull/582 (B, nc, w, h = x.shape)",
)
def width_before_height(images, P):
    B, C, W, H = _refuse(images, P)
    split = images.reshape(B, C, H // P, P, W // P, P)
    return split.permute(0, 2, 4, 1, 3, 5).reshape(B, -1, C * P * P)


@patchify.mistake(
    "You cut P x P patches out of the image, with P the number of patches along a side. P is the side of one patch, "
    "in pixels.",
    source="https://github.com/huggingface/pytorch-image-models/issues/773 and https://github.com/gorkemcanates/"
    "Dual-Cross-Attention/issues/4",
)
def a_grid_of_p_by_p(images, P):
    return rearrange(images[..., : images.shape[-1] // P * P], "b c (g p) (k q) -> b (g k) (c p q)", g=P, k=P)


@patchify.mistake(
    "The cut is right, but pixels that don't fit are dropped in silence. The task asks for a ValueError when P doesn't "
    "divide a side: notebook 06, section 5.",
    source="https://github.com/ooples/AiDotNet/pull/1789 (a crop in place of the check); a convolution does the same",
)
def cropped_in_silence(images, P):
    return _fold_out(images, P)


@patchify.mistake(
    "It does stop, but by accident: `reshape` complains about a number of elements. Test the sides first and raise a "
    "ValueError that says what is wrong: notebook 06, section 5.",
    source="'shape is invalid for input of size', the message that ViT code gives for sides that don't fit",
)
def stopped_by_accident(images, P):
    return _split(images, P)


@patchify.mistake(
    "You test the area: P P divides H W. An image of 3 x 8 pixels passes that test and can't be cut into whole 2 x 2 "
    "patches. Test each side: notebook 06, section 5.",
    source="N = H W / P^2 read as the condition; https://github.com/kyegomez/NaViT/issues/24 asks for a rule",
)
def the_area_is_tested(images, P):
    return _guarded(images, P, images.shape[-2] * images.shape[-1] % P**2)


@patchify.mistake(
    "You test only one of the two sides, the height. A width that P doesn't divide goes through and is cropped: "
    "notebook 06, section 5.",
    source="assert image_size % patch_size == 0, written for a square and kept for others",
)
def only_the_height_is_tested(images, P):
    return _guarded(images, P, images.shape[-2] % P)


@patchify.mistake(
    "You test the height alone. A width that P doesn't divide is stopped by accident, by another error: notebook 06, "
    "section 5.",
    source="assert image_size % patch_size == 0, written for a square and kept for others",
)
def only_the_height_is_tested_before_a_reshape(images, P):
    return _guarded(images, P, images.shape[-2] % P, _split)


@patchify.mistake(
    "You test the width alone. A height that P doesn't divide is stopped by accident, by another error: notebook 06, "
    "section 5.",
    source="One side taken for both, as in code for square images: expected, no published case found.",
)
def only_the_width_is_tested(images, P):
    return _guarded(images, P, images.shape[-1] % P, _split)


@patchify.mistake(
    "You refuse only when neither side fits, as `and` does. One side that doesn't fit is enough: here it is stopped "
    "later, by another error. Notebook 06, section 5.",
    source="`H % P and W % P` for `or`, a slip of logic: expected, no published case found.",
)
def refused_when_neither_fits(images, P):
    return _guarded(images, P, images.shape[-2] % P and images.shape[-1] % P, _split)


@patchify.mistake(
    "You refuse only when neither side fits, as `and` does. When one of them doesn't, the rest is cropped and nobody "
    "hears of it. Notebook 06, section 5.",
    source="`H % P and W % P` for `or`, before a function that crops: expected, no published case found.",
)
def cropped_when_one_side_fits(images, P):
    return _guarded(images, P, images.shape[-2] % P and images.shape[-1] % P)


@patchify.mistake(
    "The cut is right, but images that don't fit are padded, and the model reads pixels that aren't there. The task "
    "asks for a ValueError: notebook 06, section 5.",
    source="https://github.com/open-mmlab/mmdetection/pull/5952 (AdaptivePadding) and https://github.com/huggingface/"
    "pytorch-image-models/issues/1863 (dynamic_img_pad): right there, not asked for here",
)
def padded(images, P):
    return _fold_out(F.pad(images, (0, -images.shape[-1] % P, 0, -images.shape[-2] % P)), P)


@patchify.mistake(
    "It stops, but with an AssertionError, and Python leaves `assert` out when it runs with -O. Raise a ValueError: "
    "the images are at fault, not your code.",
    source="https://github.com/meta-pytorch/torchtune/pull/1745 ('Can you make this a ValueError instead?')",
)
def an_assert(images, P):
    assert not any(side % P for side in images.shape[-2:]), "sides"
    return _fold_out(images, P)


@patchify.mistake(
    "`rearrange` stops with an error of its own, which speaks of axes. The task asks for a ValueError: test the sides "
    "before you cut.",
    source="Notebook 06, section 5, shows einops' error beside the package's; einops raises its EinopsError",
)
def stopped_by_einops(images, P):
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=P, q=P)


@patchify.mistake(
    "Your ValueError has no text. Whoever meets it wants to read which sizes don't fit.",
    source="A bare `raise ValueError`: expected, no published case found.",
)
def refused_without_a_word(images, P):
    if any(side % P for side in images.shape[-2:]):
        raise ValueError
    return _fold_out(images, P)


# ---- 3.2 put together


def _unpatchify_cases(generator: Generator) -> Iterator[Case]:
    # N is a square number and the image is none: a square grid that is taken for granted runs, and shows.
    patches = functional.patchify(_numbered(1, 2, 2, 8), 2)
    yield Case("numbered pixels, C = 2, H = 2, W = 8, P = 2", {"patches": patches, "P": 2, "H": 2, "W": 8})
    (P, C), (rows, columns) = _choice(((2, 3), (3, 2)), generator), _choice(((8, 2), (2, 8)), generator)
    patches = torch.randn(5, rows * columns, C * P * P, generator=generator)
    yield Case(
        f"B = 5, C = {C}, H = {rows * P}, W = {columns * P}, P = {P}",
        {"patches": patches, "P": P, "H": rows * P, "W": columns * P},
    )


def _unpatchify(patches: Tensor, P: int, H: int, W: int) -> Tensor:
    return functional.unpatchify(patches, P, (H, W))


unpatchify = Exercise("unpatchify", 3, "06-images-as-sequences#2 Four ways to cut", _unpatchify, _unpatchify_cases)


@unpatchify.mistake(
    "You take the grid for square, with the root of N on both sides. N alone doesn't tell the grid: 16 patches are "
    "4 x 4, 2 x 8 or 8 x 2. H and W tell it.",
    source="https://github.com/facebookresearch/mae/issues/108 (h = w = int(x.shape[1] ** .5) in unpatchify)",
)
def a_square_grid(patches, P, H, W):
    side = int(patches.shape[1] ** 0.5)
    return _unpatchify(patches[:, : side * side], P, side * P, side * P)


@unpatchify.mistake(
    "You read each patch as (P, P, C), channels alternating. These patches were flattened as (C, P, P): the colours "
    "land on the wrong pixels.",
    source="https://github.com/Vchitect/Latte/issues/132 and https://github.com/cloneofsimo/minRF/issues/6",
)
def channels_last_in_the_patch(patches, P, H, W):
    return rearrange(patches, "b (gh gw) (p q c) -> b c (gh p) (gw q)", gh=H // P, gw=W // P, p=P, q=P)


@unpatchify.mistake(
    "One `reshape` pours the patches out in storage order, row upon row. The grid and the pixels must change places "
    "before the last `reshape`.",
    source="https://github.com/michaeltrs/DeepSatModels/issues/22",
)
def one_reshape_back(patches, P, H, W):
    return patches.reshape(len(patches), -1, H, W)


@unpatchify.mistake(
    "The channels are in place, but the pixels of a patch stay together and fill whole rows: grid row, pixel row, grid "
    "column, pixel column is the order that the last `reshape` needs.",
    source="https://github.com/michaeltrs/DeepSatModels/issues/22 ((B, patches, area, C) poured into (B, H, W, C))",
)
def grid_before_pixels(patches, P, H, W):
    return rearrange(patches, "b n (c k) -> b c (n k)", k=P * P).unflatten(2, (H, W))


def _grid(patches: Tensor, P: int, rows: int, columns: int) -> Tensor:
    return patches.reshape(len(patches), rows, columns, -1, P, P)


@unpatchify.mistake(
    "You split N into W / P and H / P, in this order, and pour the result out as (H, W). Patches are numbered row by "
    "row, so N is (H / P)(W / P), rows first.",
    source="https://github.com/PKU-YuanGroup/Chat-UniVi/issues/48 (height and width in the wrong order)",
)
def swapped_grid(patches, P, H, W):
    return _grid(patches, P, W // P, H // P).permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, H, W)


@unpatchify.mistake(
    "Your grid columns stand before your grid rows when you pour out the image. From the left, the order must be grid "
    "row, pixel row, grid column, pixel column.",
    source="https://github.com/NVIDIA-NeMo/RL/pull/4106 (a turned patch grid that no test noticed)",
)
def columns_before_rows(patches, P, H, W):
    return _grid(patches, P, H // P, W // P).permute(0, 3, 2, 4, 1, 5).reshape(len(patches), -1, H, W)


@unpatchify.mistake(
    "That is the `permute` of exercise 3.1 once more. Here the axes stand in another order, and you need the way back: "
    "not every `permute` is its own inverse.",
    source="A permutation taken for its own inverse; https://github.com/cloneofsimo/minRF/issues/6 is an unpatchify "
    "that doesn't undo its patchify",
)
def permuted_as_before(patches, P, H, W):
    return _grid(patches, P, H // P, W // P).permute(0, 2, 4, 1, 3, 5).reshape(len(patches), -1, H, W)


@unpatchify.mistake(
    "C isn't the length divided by P: a patch has P P pixels in each channel, so divide by P P.",
    source="The length of a flattened patch given as P x C in teaching material; notebook 06, section 3",
)
def length_divided_once(patches, P, H, W):
    C = patches.shape[-1] // P
    return patches.reshape(len(patches), H // P, W // P, C, P, P).permute(0, 3, 1, 4, 2, 5).reshape(-1, C, H, W)


@unpatchify.mistake(
    "The patches fill the grid column by column. Patch 1 belongs to the right of patch 0.",
    source="https://github.com/NVIDIA-NeMo/RL/pull/4106 (a turned patch grid that no test noticed)",
)
def filled_by_columns(patches, P, H, W):
    return rearrange(patches, "b (gw gh) (c p q) -> b c (gh p) (gw q)", gh=H // P, gw=W // P, p=P, q=P)


@unpatchify.mistake(
    "Height and width are swapped: the grid has H / P rows and W / P columns, and the result is (B, C, H, W).",
    source="https://github.com/PKU-YuanGroup/Chat-UniVi/issues/48 and https://github.com/facebookresearch/dino/"
    "issues/180",
)
def height_and_width_swapped(patches, P, H, W):
    return _unpatchify(patches, P, W, H)


@unpatchify.mistake(
    "Each patch comes back mirrored along its diagonal: rows and columns inside it are swapped.",
    source="https://github.com/NVIDIA/flashdreams/pull/284 ((c ph pw) against (c pw ph))",
)
def mirrored_patches(patches, P, H, W):
    return rearrange(patches, "b (gh gw) (c p q) -> b c (gh q) (gw p)", gh=H // P, gw=W // P, p=P, q=P)


@unpatchify.mistake(
    "`F.fold` wants patches as columns, (B, P P C, N). A `reshape` to that shape mixes the patches: turn the axes "
    "round, don't pour them.",
    source="torch.nn.functional.fold's documentation: the input is (N, C x kernel, L); reshape used for transpose",
)
def reshaped_for_fold(patches, P, H, W):
    return F.fold(patches.reshape(len(patches), -1, patches.shape[1]), (H, W), P, stride=P)


# ---- 3.3 a convolution as a matrix


def _linear_cases(generator: Generator) -> Iterator[Case]:
    for (C, D, P), (rows, columns), bias in (((2, 5, 2), (1, 3), True), ((3, 7, 2), (3, 4), True)):
        yield _convolution_case(C, D, P, rows, columns, bias, generator)
    yield _convolution_case(2, integer(5, 7, generator), 3, 2, 4, False, generator)


def _convolution_case(C: int, D: int, P: int, rows: int, columns: int, bias: bool, generator: Generator) -> Case:
    convolution = nn.utils.skip_init(nn.Conv2d, C, D, kernel_size=P, stride=P, bias=bias)
    with torch.no_grad():
        for parameter in convolution.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    images = torch.randn(2, C, rows * P, columns * P, generator=generator)
    note = f"C = {C}, D = {D}, P = {P}, {'with' if bias else 'without'} bias"
    return Case(note, {"convolution": convolution, "images": images})


ADDED, MOVES = "what the layer's bias adds", "an optimiser may move the layer's weight and bias"


def _linear_run(answer, convolution: nn.Conv2d, images: Tensor) -> Iterator[tuple[str, object]]:
    before = {name: value.detach().clone() for name, value in convolution.named_parameters()}
    layer = answer(convolution)
    yield "it returns an nn.Linear", isinstance(layer, nn.Linear)
    if not isinstance(layer, nn.Linear):
        return
    yield "shape of the weight", str(tuple(layer.weight.shape))
    yield ADDED, _added(layer.bias, convolution.bias)
    patches = functional.patchify(images, convolution.kernel_size[0]).to(layer.weight)
    yield "products, without the bias", F.linear(patches, layer.weight)
    yield MOVES, all(parameter.requires_grad for parameter in layer.parameters())
    for name, value in before.items():
        with torch.no_grad():
            if (own := getattr(layer, name)) is not None:
                own.fill_(0.5)
        kept = torch.equal(getattr(convolution, name), value)
        yield (
            f"after a change of the layer's {name}, the convolution's {name} is",
            "as before" if kept else "changed too",
        )


def _added(bias: Tensor | None, wanted: Tensor | None) -> str:
    if bias is None or not bias.any():
        return "nothing"
    fits = wanted is not None and bias.shape == wanted.shape and torch.allclose(bias.to(wanted), wanted)
    return "the convolution's bias" if fits else "other numbers"


def _linear(convolution: nn.Conv2d, weight: Tensor | None = None) -> nn.Linear:
    length, D = convolution.weight[0].numel(), convolution.out_channels
    linear = nn.Linear(length, D, bias=convolution.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1) if weight is None else weight)
        if linear.bias is not None:
            linear.bias.copy_(convolution.bias)
    return linear


linear_from_convolution = Exercise(
    "linear_from_convolution",
    3,
    "06-images-as-sequences#4 A projection that is a convolution",
    _linear,
    _linear_cases,
    run=_linear_run,
)


@linear_from_convolution.mistake(
    "Your rows are flattened as (P, P, C), the patches as (C, P, P). The weight meets the wrong pixels, and with C = 1 "
    "you wouldn't notice.",
    source="(p1 p2 c) in https://github.com/lucidrains/vit-pytorch/issues/236 against Conv2d's (C, P, P)",
)
def rows_with_channels_last(convolution):
    return _linear(convolution, convolution.weight.permute(0, 2, 3, 1).flatten(1))


@linear_from_convolution.mistake(
    "Each kernel is mirrored along its diagonal: its two last axes are swapped before they are flattened.",
    source="Kernels carried from Flax or TensorFlow, (P, P, C, D), by reversing all axes: .T gives (D, C, W, H)",
)
def kernel_transposed(convolution):
    return _linear(convolution, convolution.weight.mT.flatten(1))


@linear_from_convolution.mistake(
    "Each kernel is flipped. A convolution in mathematics flips it, PyTorch's `Conv2d` doesn't: it multiplies place "
    "by place.",
    source="torch.nn.Conv2d's documentation: 'the valid 2D cross-correlation operator'",
)
def kernel_flipped(convolution):
    return _linear(convolution, convolution.weight.flip(2, 3).flatten(1))


@linear_from_convolution.mistake(
    "The shape fits, the numbers are poured: the weight was reshaped to (C P P, D) and then turned. One kernel must "
    "stay together as one row.",
    source="`reshape` used for a transposition, as in https://github.com/lightly-ai/lightly-train/pull/119",
)
def poured_and_turned(convolution):
    D = convolution.out_channels
    return _linear(convolution, convolution.weight.reshape(-1, D).T)


@linear_from_convolution.mistake(
    "The bias of the convolution is lost: your layer has none, so every token is off by the same vector.",
    source="Dosovitskiy et al. (2021), eq. 1, writes x E without a bias; their code and most others have one",
)
def bias_lost(convolution):
    linear = nn.Linear(convolution.weight[0].numel(), convolution.out_channels, bias=False)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
    return linear


@linear_from_convolution.mistake(
    "The bias isn't copied: your layer keeps the random bias that it was born with.",
    source="Weights carried over by .weight alone; https://github.com/huggingface/transformers/pull/45992 tests it",
)
def bias_left_random(convolution):
    linear = nn.Linear(convolution.weight[0].numel(), convolution.out_channels)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
    return linear


@linear_from_convolution.mistake(
    "It works where the convolution has a bias. One without must become a layer that adds nothing, and yours adds "
    "random numbers: `nn.Linear` has a bias unless you say otherwise.",
    source="nn.Linear(..., bias=True) by default, for a Conv2d(bias=False): PyTorch's documentation of both",
)
def a_bias_from_nowhere(convolution):
    linear = nn.Linear(convolution.weight[0].numel(), convolution.out_channels)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
        if convolution.bias is not None:
            linear.bias.copy_(convolution.bias)
    return linear


@linear_from_convolution.mistake(
    "Sizes are right, but the layer has new random weights. It should compute what the convolution computes.",
    source="https://github.com/lucidrains/vit-pytorch/issues/236 (Conv2d for Linear, without a word on weights)",
)
def nothing_copied(convolution):
    return nn.Linear(convolution.weight[0].numel(), convolution.out_channels, bias=convolution.bias is not None)


@linear_from_convolution.mistake(
    "The two weights share one memory: train the layer and you train the convolution. The task asks for a copy.",
    source="`nn.Parameter(w.view(...))` or `.data = ...flatten(1)`: PyTorch's documentation, Tensor Views",
)
def one_memory(convolution):
    linear = _linear(convolution)
    linear.weight = nn.Parameter(convolution.weight.detach().flatten(1))
    return linear


@linear_from_convolution.mistake(
    "The weight is a copy, the bias isn't: layer and convolution hold one and the same bias. Train the layer and you "
    "change the convolution.",
    source="https://github.com/ssnl/PyTorch-Reparam-Module/pull/4 (net[-1].weight = net[0].weight: shared)",
)
def one_bias_for_both(convolution):
    linear = _linear(convolution)
    if convolution.bias is not None:
        linear.bias = convolution.bias
    return linear


@linear_from_convolution.mistake(
    "Nothing is copied: weight and bias of the layer are the convolution's own memory. Train the layer and you train "
    "the convolution.",
    source="`.data = other.data` for weight and bias: PyTorch's documentation, Tensor Views",
)
def nothing_of_its_own(convolution):
    linear = one_bias_for_both(convolution)
    linear.weight = nn.Parameter(convolution.weight.detach().flatten(1))
    return linear


@linear_from_convolution.mistake(
    "Inputs and outputs of your `nn.Linear` are swapped: it takes a patch of C P P numbers and gives D.",
    source="(in, out) and (out, in) mixed up: https://github.com/pytorch/pytorch/issues/129834",
)
def inputs_and_outputs_swapped(convolution):
    linear = nn.Linear(convolution.out_channels, convolution.weight[0].numel(), bias=convolution.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.flatten(1))
    return linear


@linear_from_convolution.mistake(
    "Your weight is turned round. `nn.Linear` stores (outputs, inputs), one row for each of the D outputs.",
    source="https://github.com/pytorch/pytorch/issues/129834 ('many people ... would do [fan_in, fan_out]')",
)
def weight_turned(convolution):
    linear = _linear(convolution)
    linear.weight = nn.Parameter(convolution.weight.detach().flatten(1).T.clone())
    return linear


# ---- 3.4 predict


def _predict_cases(generator: Generator) -> Iterator[Case]:
    yield Case("small enough for paper", {"H": 8, "W": 12, "C": 2, "P": 4, "D": 10})
    P, D = _choice((4, 8, 16), generator), _choice((24, 96, 384), generator)
    rows, columns = integer(3, 5, generator), integer(6, 9, generator)
    if integer(0, 1, generator):
        rows, columns = columns, rows
    yield Case("larger", {"H": rows * P, "W": columns * P, "C": 3, "P": P, "D": D})


def _costs(H, W, C, P, D, patches=None, tokens=None, length=None, **changed) -> dict[str, int]:
    N = (H // P) * (W // P) if patches is None else patches
    L = N + 1 if tokens is None else tokens
    length = P * P * C if length is None else length
    costs = {
        "patches": N,
        "tokens": L,
        "patch_length": length,
        "embedding_parameters": (length + 1) * D,
        "position_parameters": L * D,
        "embedding_multiply_adds": N * length * D,
        "attention_multiply_adds": 4 * L * D * D + 2 * L * L * D,
    }
    return costs | changed


predict = Exercise("predict", 7, "06-images-as-sequences#6 Why not pixels?", _costs, _predict_cases, partial=True)


@predict.mistake(
    "That is one side of the grid. The patches fill rows and columns: count both.",
    source="N = H / P in talks and code written for sequences; https://github.com/lucidrains/STAM-pytorch/issues/2 "
    "spells out both factors",
)
def one_side_of_the_grid(H, W, C, P, D):
    return _costs(H, W, C, P, D, patches=H // P)


@predict.mistake(
    "You divide the number of pixels by P once. A patch covers P P pixels.",
    source="H W / P for H W / P^2: Dosovitskiy et al. (2021), section 3.1, has the square",
)
def divided_once(H, W, C, P, D):
    return _costs(H, W, C, P, D, patches=H * W // P)


@predict.mistake(
    "You take the image for square. H and W differ here, and so do the two sides of the grid.",
    source="num_patches = (image_size // patch_size) ** 2, replaced in https://github.com/lucidrains/STAM-pytorch/"
    "issues/2",
)
def a_square_image(H, W, C, P, D):
    return _costs(H, W, C, P, D, patches=(H // P) ** 2)


@predict.mistake(
    "That is P x P, the pixels of one patch. Its size and the size of the grid are two things: '16 x 16' in the "
    "paper's title is the former.",
    source="https://github.com/huggingface/pytorch-image-models/issues/773 ('the number of patches should be 16*16')",
)
def patch_size_for_grid(H, W, C, P, D):
    return _costs(H, W, C, P, D, patches=P * P)


@predict.mistake(
    "[CLS] is missing: it is a token too, so the encoder reads N + 1 of them.",
    source="https://github.com/Beckschen/TransUNet/issues/13 (n_patches against n_patches + 1)",
)
def cls_not_counted(H, W, C, P, D):
    return _costs(H, W, C, P, D, tokens=(H // P) * (W // P))


@predict.mistake(
    "[CLS] is counted twice: your number of tokens has it already, and the table of positions adds it again.",
    source="https://github.com/openmedlab/PathoDuet/issues/11 (198 rows against 197: one token more than expected)",
)
def cls_counted_twice(H, W, C, P, D):
    tokens = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, position_parameters=(tokens + 1) * D)


@predict.mistake(
    "Your table of positions has a row for each patch and none for [CLS]. First join, then add: [CLS] has a position "
    "too.",
    source="https://github.com/labmlai/annotated_deep_learning_paper_implementations/pull/221",
)
def positions_without_cls(H, W, C, P, D):
    return _costs(H, W, C, P, D, position_parameters=(H // P) * (W // P) * D)


@predict.mistake(
    "The length of a patch is off: P C is one row of its pixels. It has P rows.",
    source="The length of a flattened patch given as P x C in teaching material; notebook 06, section 3",
)
def length_of_one_row(H, W, C, P, D):
    return _costs(H, W, C, P, D, length=P * C)


@predict.mistake(
    "You forget the channels: a colour pixel is C numbers, not one.",
    source="P^2 for P^2 C, as in grey MNIST examples: https://github.com/UdbhavPrasad072300/Transformer-"
    "Implementations/issues/5 counts 7 x 7",
)
def channels_forgotten(H, W, C, P, D):
    return _costs(H, W, C, P, D, length=P * P)


@predict.mistake(
    "That is D, the length after the projection. Before it, a patch is as long as it has numbers. For ViT-B/16 both "
    "are 768, by chance.",
    source="https://github.com/Project-MONAI/research-contributions/issues/39 ('768 because 16*16*3')",
)
def width_for_length(H, W, C, P, D):
    return _costs(H, W, C, P, D, patch_length=D)


@predict.mistake(
    "The bias is missing from the patch embedding: D numbers more.",
    source="Dosovitskiy et al. (2021), eq. 1, writes E alone; the published weights hold a bias",
)
def embedding_without_bias(H, W, C, P, D):
    return _costs(H, W, C, P, D, embedding_parameters=P * P * C * D)


@predict.mistake(
    "You count the projection once for each patch. All patches share one matrix, so its parameters don't depend on "
    "H and W; only its multiply-adds do.",
    source="Parameters mixed up with work, where N does count: expected, no published case found.",
)
def a_matrix_for_each_patch(H, W, C, P, D):
    return _costs(H, W, C, P, D, embedding_parameters=(H // P) * (W // P) * (P * P * C + 1) * D)


@predict.mistake(
    "The patch embedding works on patches alone. [CLS] is learned as a vector of width D and passes no projection.",
    source="N + 1 carried into every line of a table of costs: expected, no published case found.",
)
def cls_is_projected(H, W, C, P, D):
    tokens = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, embedding_multiply_adds=tokens * P * P * C * D)


@predict.mistake(
    "The pairs of tokens are paid twice: once for query times key, once for weights times values. You count one of "
    "the two.",
    source="O(n^2 d) in Vaswani et al. (2017), table 1, read as an exact count",
)
def pairs_paid_once(H, W, C, P, D):
    L = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, attention_multiply_adds=4 * L * D * D + L * L * D)


@predict.mistake(
    "Only the projections are counted. The two products between tokens, queries with keys and weights with values, "
    "have no parameters but cost work.",
    source="https://github.com/autoliuweijie/FastBERT/issues/14 and https://github.com/allenai/olmoearth_pretrain/"
    "pull/605",
)
def products_left_out(H, W, C, P, D):
    L = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, attention_multiply_adds=4 * L * D * D)


@predict.mistake(
    "Only the products between tokens are counted. The four projections, for queries, keys, values and the output, "
    "are work too.",
    source="'Attention costs N^2 D': f1 + f2 in https://github.com/whai362/PVT/issues/1, without what its tool adds",
)
def projections_left_out(H, W, C, P, D):
    L = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, attention_multiply_adds=2 * L * L * D)


@predict.mistake(
    "You count three projections, for queries, keys and values. The output is projected as well, so there are four.",
    source="'Q, K and V' listed without the W^O of Vaswani et al. (2017), section 3.2.2",
)
def three_projections(H, W, C, P, D):
    L = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, attention_multiply_adds=3 * L * D * D + 2 * L * L * D)


@predict.mistake(
    "Attention reads [CLS] too. You count N tokens in it, and there are N + 1.",
    source="n = h * w in https://github.com/whai362/PVT/issues/1 (mha_flops)",
)
def attention_without_cls(H, W, C, P, D):
    N = (H // P) * (W // P)
    return _costs(H, W, C, P, D, attention_multiply_adds=4 * N * D * D + 2 * N * N * D)


@predict.mistake(
    "You count multiplications and additions apart, so both numbers are twice as large. A multiply-add is one.",
    source="https://github.com/facebookresearch/fvcore/issues/69",
)
def twice_the_multiply_adds(H, W, C, P, D):
    right = _costs(H, W, C, P, D)
    return right | {name: 2 * value for name, value in right.items() if name.endswith("multiply_adds")}


@predict.mistake(
    "[CLS] is no patch: it stands beside the N patches, and the encoder reads N + 1 tokens.",
    source="https://github.com/Beckschen/TransUNet/issues/13 (n_patches against n_patches + 1)",
)
def cls_among_the_patches(H, W, C, P, D):
    tokens = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, patches=tokens, tokens=tokens)


@predict.mistake(
    "Your N has [CLS] in it already, and then you add it once more. N counts patches alone.",
    source="https://github.com/openmedlab/PathoDuet/issues/11 (198 rows against 197: one token more than expected)",
)
def cls_in_n_and_added(H, W, C, P, D):
    return _costs(H, W, C, P, D, patches=(H // P) * (W // P) + 1)


@predict.mistake(
    "The bias of the embedding has D numbers, one for each output, and you count one.",
    source="inputs * outputs + 1, a bias taken for one number: expected, no published case found.",
)
def a_bias_of_one_number(H, W, C, P, D):
    return _costs(H, W, C, P, D, embedding_parameters=P * P * C * D + 1)


@predict.mistake(
    "That is the work for one patch. The image has N of them, and each is multiplied with the matrix.",
    source="Work mixed up with parameters, in which N doesn't count: expected, no published case found.",
)
def work_of_one_patch(H, W, C, P, D):
    return _costs(H, W, C, P, D, embedding_multiply_adds=P * P * C * D)


@predict.mistake(
    "Two things are missing in attention: the projection of the output is a fourth one, and there are two products "
    "between tokens, not one.",
    source="'Q, K and V' and O(n^2 d), each read as the whole: Vaswani et al. (2017), section 3.2.2 and table 1",
)
def a_projection_and_a_product_missing(H, W, C, P, D):
    L = (H // P) * (W // P) + 1
    return _costs(H, W, C, P, D, attention_multiply_adds=3 * L * D * D + L * L * D)


@predict.mistake(
    "Two things are missing in attention: the projection of the output is a fourth one, and [CLS] makes N + 1 tokens.",
    source="'Q, K and V' without W^O, and n = h * w in https://github.com/whai362/PVT/issues/1 (mha_flops)",
)
def a_projection_and_cls_missing(H, W, C, P, D):
    N = (H // P) * (W // P)
    return _costs(H, W, C, P, D, attention_multiply_adds=3 * N * D * D + 2 * N * N * D)


@predict.mistake(
    "Two things are missing in attention: there are two products between tokens, and [CLS] makes N + 1 tokens.",
    source="O(n^2 d) read as an exact count, and n = h * w in https://github.com/whai362/PVT/issues/1 (mha_flops)",
)
def a_product_and_cls_missing(H, W, C, P, D):
    N = (H // P) * (W // P)
    return _costs(H, W, C, P, D, attention_multiply_adds=4 * N * D * D + N * N * D)


@predict.mistake(
    "You return the numbers as a tuple. The task asks for a dictionary, so that each number has its name.",
    source="`return patches, tokens, ...`: expected, no published case found.",
)
def a_tuple(H, W, C, P, D):
    return tuple(_costs(H, W, C, P, D).values())


@predict.mistake(
    "You return the numbers as a list. The task asks for a dictionary, so that each number has its name.",
    source="`return [patches, tokens, ...]`: expected, no published case found.",
)
def a_list(H, W, C, P, D):
    return list(_costs(H, W, C, P, D).values())


# ---- 3.5 the sweep

COLUMNS = ("P", "D", "tokens", "parameters", "loss", "accuracy", "seconds")
RECIPE = training.TrainingConfig(epochs=3, batch_size=9, learning_rate=3e-3, warmup_epochs=0.5)
# What the log says of the epochs before the last: better than the end, as when a model learns by heart. A training on
# noise wouldn't show it each time, and whoever takes the first line or the best one would be right by chance.
BEFORE_THE_LAST = (
    {"validation_loss": 0.6180339887, "validation_accuracy": 20 / 29},
    {"validation_loss": 0.0498137462, "validation_accuracy": 28 / 29},
)
# Seconds of each epoch, in the log: longer than any training here, so that a clock and the log can't be mixed up.
SECONDS = (211.37, 97.41, 140.85)
DURATION = "those of all epochs together"


def _train_cases(generator: Generator) -> Iterator[Case]:
    # No size is a default of ViTConfig in both cases, and no share of 17 images is one of 29.
    for C, classes, P, widths in ((1, 3, 2, (8, 16)), (2, 4, 4, (24, 32))):
        D, seed = _choice(widths, generator), integer(2, 999, generator)
        train, validation = (_pictures(part, C, classes, generator) for part in ("train", "validation"))
        note = f"17 images of {C} x 8 x 12, P = {P}, D = {D}, 3 epochs, the last of them not the best"
        yield Case(note, {"P": P, "D": D, "train": train, "validation": validation, "recipe.seed": seed})


def _pictures(split: str, C: int, classes: int, generator: Generator) -> ImageSet:
    count = 17 if split == "train" else 29
    return ImageSet(
        name="noise",
        split=split,
        images=torch.randint(256, (count, C, 8, 12), generator=generator).to(torch.uint8),
        labels=torch.randperm(count, generator=generator) % classes,
        class_names=tuple("abcd"[:classes]),
        mean=(0.3,) * C,
        std=(0.2,) * C,
        source="noise",
    )


_LINES: list[training.Epoch] = []  # of the trainings since `_log_with_surprises` began, as they were


@contextlib.contextmanager
def _log_with_surprises() -> Iterator[None]:
    """Within, `training.fit` writes `BEFORE_THE_LAST` and `SECONDS` into its log; `_LINES` has the true lines."""
    names = training.fit.__globals__
    judge = names["_judge"]

    def told(trainer, validation):
        time.sleep(told.pause)
        line = judge(trainer, validation)
        _LINES.append(line)
        place = line.epoch - 1
        changes = BEFORE_THE_LAST[place] if place < len(BEFORE_THE_LAST) else {}
        return dataclasses.replace(line, seconds=SECONDS[place % len(SECONDS)], **changes)

    told.pause = 0.02  # so that no duration rounds to 0.0
    _LINES.clear()
    names["_judge"] = told
    try:
        yield
    finally:
        names["_judge"] = judge


def _train_run(
    answer, P: int, D: int, train: ImageSet, validation: ImageSet, seed: int
) -> Iterator[tuple[str, object]]:
    recipe = dataclasses.replace(RECIPE, seed=seed)
    start = time.perf_counter()
    with _log_with_surprises():
        row = answer(P, D, train, validation, recipe)
    elapsed, lines = time.perf_counter() - start, list(_LINES)
    if not isinstance(row, Mapping):
        yield "columns", row
        return
    order = [name for name in COLUMNS if name in row] + [str(name) for name in row if name not in COLUMNS]
    yield "columns", ", ".join(order)
    if set(row) != set(COLUMNS):
        return
    yield from ((name, row[name]) for name in COLUMNS[:4])
    if len(train.class_names) == 3:  # once is enough
        with _log_with_surprises():
            again = answer(P, D, train, validation, recipe)
        losses = [_number(one["loss"]) for one in (row, again)]
        yield "two runs give", "two losses" if None not in losses and not same(*losses) else "the same loss"
    if lines and _rounded(row, lines[-1]):
        yield "digits of loss and accuracy", "rounded"
        return
    yield "digits of loss and accuracy", "all of them"
    yield from ((name, row[name]) for name in ("loss", "accuracy"))
    yield "the seconds are", _duration(_number(row["seconds"]), sum(line.seconds for line in lines), elapsed)


def _number(value: object) -> float | None:
    """A number as Python's, or None for anything else."""
    if isinstance(value, (Tensor, np.generic, np.ndarray)):
        value = value.item() if np.prod(value.shape) == 1 else None
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def _rounded(row: Mapping[str, object], line: training.Epoch) -> bool:
    """Whether loss or accuracy is the last line's with 1 to 4 digits; more are within the tolerance."""
    for got, true in ((row["loss"], line.validation_loss), (row["accuracy"], line.validation_accuracy)):
        number = _number(got)
        for short in (round(true, digits) for digits in (1, 2, 3, 4)):
            if number is not None and abs(number - short) < min(1e-7, abs(number - true)):
                return True
    return False


def _duration(seconds: float | None, least: float, elapsed: float) -> str:
    """What the learner's seconds are, in words: by the log's, or by a clock around the training."""
    if seconds is None or not math.isfinite(seconds):
        return "no number"

    def near(value: float, most: float = 0.06) -> bool:
        return abs(seconds - value) <= most

    total = sum(SECONDS)
    clocks = (time.time(), time.perf_counter(), time.monotonic())
    if near(total) or (isinstance(seconds, float) and 0 < seconds <= elapsed + 0.06 and seconds >= 0.9 * least - 0.06):
        return DURATION
    for value, words in (
        (SECONDS[-1], "those of the last epoch"),
        (SECONDS[0], "those of the first epoch, the longest"),
        (total / len(SECONDS), "the mean of the epochs"),
    ):
        if near(value):
            return words
    if seconds == int(seconds) and (near(total, 1) or 0 < seconds <= elapsed + 1):
        return "rounded to a whole number"
    if any(near(clock, elapsed + 1) for clock in clocks):
        return "a point in time"
    return "0, or less" if seconds <= 0 else "some other number"


def _config(P: int, D: int, train: ImageSet, **changes) -> ViTConfig:
    fields = {
        "patch_size": P,
        "hidden_size": D,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 2 * D,
        "initializer_range": 0.08,
        "image_size": train.size,
        "num_channels": train.images.shape[1],
        "num_classes": len(train.class_names),
    }
    return ViTConfig(**fields | changes)


def _row(model: VisionTransformer, log: list, **changes) -> dict[str, object]:
    config = model.config
    row = {
        "P": config.patch_size,
        "D": config.hidden_size,
        "tokens": config.sequence_length,
        "parameters": config.num_parameters(),
        "loss": log[-1].validation_loss,
        "accuracy": log[-1].validation_accuracy,
        "seconds": sum(epoch.seconds for epoch in log),
    }
    return row | changes


_KEPT: dict[tuple, tuple[VisionTransformer, list, list]] = {}


def _trained(config: ViTConfig, train: ImageSet, validation: ImageSet, recipe, seed: int | None = -1):
    """A model and its log; the same training isn't done twice, as many beliefs share it. `seed` None sets none."""
    key = (config, recipe, seed, train.images.numpy().tobytes(), validation.images.numpy().tobytes())
    if key in _KEPT:
        _LINES[:] = _KEPT[key][2]
        return _KEPT[key][:2]
    if seed is not None:
        training.set_seed(recipe.seed if seed < 0 else seed)
    model = VisionTransformer(config)
    training.fit.__globals__["_judge"].pause = 0
    log = training.fit(model, train, validation, recipe, progress=False)
    if seed is not None:
        if len(_KEPT) > 100:
            _KEPT.clear()
        _KEPT[key] = model, log, list(_LINES)
    return model, log


def _train_one(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), train, validation, recipe))


train_one = Exercise(
    "train_one",
    5,
    "00-start-here#6 Train your own",
    _train_one,
    _train_cases,
    run=_train_run,
    repeat=False,
    seconds=20,
    may_use=("config", "model", "training"),
)


@train_one.mistake(
    "Loss and accuracy are those of the images that it was trained on. A model that learns them by heart would win: "
    "take the validation images.",
    source="https://github.com/XuyangBai/KPConv.pytorch/issues/3 and https://github.com/jeshraghian/snntorch/pull/118",
)
def measured_on_training_images(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, loss=log[-1].train_loss, accuracy=log[-1].train_accuracy)


@train_one.mistake(
    "It trains on the validation images. What a model has seen can't tell you how it does on what it hasn't.",
    source="https://github.com/mingu6/action_seg_ot/issues/5 (all three loaders read the same data)",
)
def trained_on_validation_images(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), validation, validation, recipe))


@train_one.mistake(
    "Two runs give two results: the seed isn't set, or only after the model has drawn its weights. Then you can't "
    "tell chance from P and D.",
    source="https://github.com/huggingface/pytorch-image-models/issues/2600; PyTorch's note on reproducibility",
)
def seed_not_set(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), train, validation, recipe, seed=None))


@train_one.mistake(
    "You take the first line of the log. It has a line for each epoch, and the last one is the end of the training.",
    source="log[0] for log[-1], a slip of the index: expected, no published case found.",
)
def first_epoch(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, loss=log[0].validation_loss, accuracy=log[0].validation_accuracy)


@train_one.mistake(
    "The width of the MLP stays at its default while D changes. It should be 2 D, or the narrow models keep a wide "
    "MLP and the comparison isn't about D.",
    source="https://github.com/FGA-DIKU/BONSAI/issues/167 (intermediate_size and hidden_size set apart)",
)
def mlp_left_at_its_default(P, D, train, validation, recipe):
    config = _config(P, D, train, intermediate_size=4 * 48)
    return _row(*_trained(config, train, validation, recipe))


@train_one.mistake(
    "The number of blocks stays at its default, 4. The task asks for 2.",
    source="A field of the config left out; https://github.com/lukemelas/PyTorch-Pretrained-ViT/issues/5 is about "
    "layers and heads that differ from what one thinks",
)
def blocks_left_at_their_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, num_hidden_layers=4), train, validation, recipe))


@train_one.mistake(
    "All sizes are right, but the weights start with the default deviation, 0.02. The task asks for an "
    "`initializer_range` of 0.08, which short trainings need.",
    source="A default of 0.02, right for wide models, kept for narrow ones: notebook 00, section 6, changes it",
)
def start_left_at_its_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, initializer_range=0.02), train, validation, recipe))


@train_one.mistake(
    "Twelve heads can't share this D: the number of heads must divide it. The task asks for 4, which divides every D "
    "of the sweep.",
    source="https://github.com/IcarusWizard/MAE/issues/24 and https://github.com/facebookresearch/detr/issues/499",
)
def twelve_heads(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, num_attention_heads=12), train, validation, recipe))


@train_one.mistake(
    "The number of channels is left at its default, 3. Take it from `train`, and image size and classes too, so that "
    "the model fits whatever you train it on.",
    source="https://github.com/lukemelas/PyTorch-Pretrained-ViT/issues/14 ('solved by assigning the image_size')",
)
def channels_left_at_their_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, num_channels=3), train, validation, recipe))


@train_one.mistake(
    "The model is made for images of 32 x 32, the default. Take the image size from `train`.",
    source="https://github.com/lukemelas/PyTorch-Pretrained-ViT/issues/14 ('solved by assigning the image_size')",
)
def image_size_left_at_its_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, image_size=32), train, validation, recipe))


@train_one.mistake(
    "The head has 10 outputs, the default, whatever the images show. Take the number of classes from `train`.",
    source="https://github.com/microsoft/Cream/issues/154 (num_classes fixed to 1000)",
)
def classes_left_at_their_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, num_classes=10), train, validation, recipe))


@train_one.mistake(
    "You give the model one side, the width, and it takes the image for square. `train.size` has both, (H, W).",
    source="num_patches = (image_size // patch_size) ** 2, replaced in https://github.com/lucidrains/STAM-pytorch/"
    "issues/2",
)
def one_side_for_both(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, image_size=train.size[1]), train, validation, recipe))


@train_one.mistake(
    "`train.size` is a pair, (H, W), and can't be divided as one number. The config counts tokens for you.",
    source="(image_size // patch_size) ** 2 + 1, written for one side: https://github.com/lucidrains/STAM-pytorch/issues/2",
)
def a_pair_divided(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, tokens=(train.size // P) ** 2 + 1)


@train_one.mistake(
    "The patch size stays at its default, 4, whatever P is: all rows of the table would have the same tokens.",
    source="A field of the config left out: expected, no published case found.",
)
def patch_size_left_at_its_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(4, D, train), train, validation, recipe), P=P)


@train_one.mistake(
    "The width stays at its default, 48, whatever D is. The task asks for a `hidden_size` of D.",
    source="A field of the config left out: expected, no published case found.",
)
def width_left_at_its_default(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, hidden_size=48), train, validation, recipe), D=D)


@train_one.mistake(
    "Your MLP is 4 D wide, as in the published models. The task asks for 2 D.",
    source="mlp_ratio = 4 in timm and table 1 of Dosovitskiy et al. (2021), taken for a rule",
)
def four_times_as_wide(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train, intermediate_size=4 * D), train, validation, recipe))


@train_one.mistake(
    "The seed is a number in your code. Take `recipe.seed`, so that another recipe gives another start.",
    source="https://github.com/SeanNaren/deepspeech.pytorch/issues/375 (manual_seed(123456) written into the code)",
)
def seed_written_in(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), train, validation, recipe, seed=0))


@train_one.mistake(
    "It doesn't train by the `recipe` that was handed in, but by the defaults of `TrainingConfig`. Hand the recipe on.",
    source="An argument that is never used: expected, no published case found.",
)
def recipe_not_used(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), train, validation, training.TrainingConfig(), seed=recipe.seed))


@train_one.mistake(
    "Your validation images are the training images: `fit` got `train` in both places. It measures what was learnt by "
    "heart.",
    source="https://github.com/JJGO/shrinkbench/pull/7 ('the training set is being used as the validation set')",
)
def validated_on_training_images(P, D, train, validation, recipe):
    return _row(*_trained(_config(P, D, train), train, train, recipe))


@train_one.mistake(
    "The loss is right; the accuracy is that on the training images. Take the one on validation images.",
    source="https://github.com/XuyangBai/KPConv.pytorch/issues/3 and https://github.com/jeshraghian/snntorch/pull/118",
)
def accuracy_on_training_images(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, accuracy=log[-1].train_accuracy)


@train_one.mistake(
    "You take the best of all epochs. The best of many looks better than the model that you end with: the task asks "
    "for the last line of the log.",
    source="https://github.com/MIC-DKFZ/nnUNet/issues/57 ('it is cleaner to evaluate with the latest epoch')",
)
def best_epoch(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    loss, accuracy = min(line.validation_loss for line in log), max(line.validation_accuracy for line in log)
    return _row(model, log, loss=loss, accuracy=accuracy)


@train_one.mistake(
    "The loss is right; the accuracy is the best of all epochs. The two must belong to one model: take both from the "
    "last line.",
    source="https://github.com/MIC-DKFZ/nnUNet/issues/57 ('it is cleaner to evaluate with the latest epoch')",
)
def best_accuracy(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, accuracy=max(line.validation_accuracy for line in log))


@train_one.mistake(
    "The loss is right; the accuracy is that after the first epoch. The last line of the log has the end.",
    source="log[0] for log[-1], a slip of the index: expected, no published case found.",
)
def accuracy_of_the_first_epoch(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, accuracy=log[0].validation_accuracy)


@train_one.mistake(
    "You round loss or accuracy. Keep the digits in the row, as the task asks: the table rounds when it prints.",
    source="round(..., 3) where a number is stored and not printed: expected, no published case found.",
)
def rounded(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    line = log[-1]
    return _row(model, log, loss=round(line.validation_loss, 3), accuracy=round(line.validation_accuracy, 3))


@train_one.mistake(
    "Your seconds are those of the last epoch. The training took all of them: add them up.",
    source="log[-1] for every column of the row: expected, no published case found.",
)
def seconds_of_the_last_epoch(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, seconds=log[-1].seconds)


@train_one.mistake(
    "Your seconds are the mean of the epochs. The task asks for all of them together.",
    source="A mean where a sum is asked for: expected, no published case found.",
)
def seconds_of_an_average_epoch(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, seconds=sum(line.seconds for line in log) / len(log))


@train_one.mistake(
    "Your seconds are cut or rounded to a whole number. Short trainings take less than one: keep the digits.",
    source="int(...) around a duration: expected, no published case found.",
)
def whole_seconds(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, seconds=int(sum(line.seconds for line in log)))


@train_one.mistake(
    "The sizes of one data set, 32 pixels, 1 channel and 10 classes, stand in your code. Ask `train` for them: the "
    "check hands in other images.",
    source="Constants of the first data set left in a training function; https://github.com/lukemelas/PyTorch-"
    "Pretrained-ViT/issues/14",
)
def sizes_written_in(P, D, train, validation, recipe):
    config = _config(P, D, train, image_size=32, num_channels=1, num_classes=10)
    return _row(*_trained(config, train, validation, recipe))


@train_one.mistake(
    "You count patches. [CLS] is a token too: the encoder reads N + 1.",
    source="https://github.com/Beckschen/TransUNet/issues/13 (n_patches against n_patches + 1)",
)
def patches_for_tokens(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, tokens=model.config.num_patches)


@train_one.mistake(
    "That is the number of tensors in `model.parameters()`. Each of them holds many numbers: add those up.",
    source="len(list(model.parameters())) where p.numel() is to be summed: expected, no published case found.",
)
def tensors_for_parameters(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, parameters=len(list(model.parameters())))


@train_one.mistake(
    "Your accuracy is a percentage. The task asks for a share, 0 to 1, as the log has it.",
    source="`100. * correct / total` in the PyTorch examples, beside shares elsewhere",
)
def accuracy_in_percent(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, accuracy=100 * log[-1].validation_accuracy)


@train_one.mistake(
    "The model is trained on normalised images and measured on pixels from 0 to 1. `fit` and `inputs()` normalise; "
    "use what they give.",
    source="https://github.com/google/automl/issues/872 and https://github.com/Yangsenqiao/vida/issues/14",
)
def measured_without_normalising(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    with torch.no_grad():
        logits = model.eval()(validation.images.float() / 255)
    right = (logits.argmax(dim=-1) == validation.labels).float().mean().item()
    return _row(model, log, loss=F.cross_entropy(logits, validation.labels).item(), accuracy=right)


@train_one.mistake(
    "Your seconds are a point in time, not a duration. Add up the seconds of the epochs.",
    source="time.time() without the start subtracted: a clock shows seconds since 1970, as Python's documentation says",
)
def a_point_in_time(P, D, train, validation, recipe):
    model, log = _trained(_config(P, D, train), train, validation, recipe)
    return _row(model, log, seconds=time.time())
