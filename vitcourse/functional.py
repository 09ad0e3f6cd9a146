"""The arithmetic of a Vision Transformer: pure functions on tensors, no parameters.

Shapes: `B` batch, `C` channels, `H`, `W` image, `P` patch size, `N` tokens, `D` width, `d` width of a query.

Longer than 150 lines because it is the one page on which all formulas stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

# ---- words


def one_hot(ids: Tensor, num_classes: int) -> Tensor:
    """Turn whole numbers into rows with a single 1: `(...) -> (..., num_classes)`, float32.

    Raises:
        TypeError: ids that aren't whole numbers.
        ValueError: an id outside 0 .. num_classes - 1.
    """
    if ids.is_floating_point():
        raise TypeError(f"ids must be whole numbers, got {ids.dtype}; try ids.long().")
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < num_classes:
        raise ValueError(
            f"ids must lie in 0 .. {num_classes - 1} for num_classes {num_classes}, "
            f"got values from {int(ids.min())} to {int(ids.max())}."
        )
    return F.one_hot(ids.long(), num_classes).float()


# ---- images


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into flattened patches, row by row: `(B, C, H, W) -> (B, N, C P P)` with N = H W / P^2.

    A patch is flattened in the order (C, P, P), as a convolution flattens its kernel.

    Raises:
        ValueError: images that are not 4-dimensional, or a side that `patch_size` doesn't divide.
    """
    check_patches_fit(images, patch_size)
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=patch_size, q=patch_size)


def check_patches_fit(images: Tensor, patch_size: int, num_channels: int | None = None) -> None:
    """Refuse images `(B, C, H, W)` that can't be cut into whole patches.

    Args:
        num_channels: how many channels they must have; any number if None.

    Raises:
        ValueError: as `patchify`, or another number of channels.
    """
    if images.ndim != 4:
        raise ValueError(f"images must have shape (B, C, H, W), got {tuple(images.shape)}; one image is images[None].")
    if patch_size < 1:
        raise ValueError(f"patch_size must be at least 1, got {patch_size}.")
    height, width = images.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"images of {height} x {width} pixels can't be cut into patches of patch_size {patch_size}: "
            f"crop, pad or resize them, or choose a patch_size that divides both sides."
        )
    if num_channels is not None and images.shape[1] != num_channels:
        raise ValueError(f"images must have {num_channels} channels, got shape {tuple(images.shape)}.")


def unpatchify(patches: Tensor, patch_size: int, image_size: int | tuple[int, int]) -> Tensor:
    """Put flattened patches back together, the inverse of `patchify`: `(B, N, C P P) -> (B, C, H, W)`.

    Args:
        image_size: the side, or (height, width), in pixels.

    Raises:
        ValueError: N or the patch length doesn't fit `image_size` and `patch_size`, or a `patch_size` below 1.
    """
    if patch_size < 1:
        raise ValueError(f"patch_size must be at least 1, got {patch_size}.")
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    grid_height, grid_width = height // patch_size, width // patch_size
    fits = patches.ndim == 3 and height % patch_size == 0 and width % patch_size == 0
    if not fits or patches.shape[-2] != grid_height * grid_width or patches.shape[-1] % patch_size**2:
        raise ValueError(
            f"patches of shape {tuple(patches.shape)} don't make images of {height} x {width} pixels with patch_size "
            f"{patch_size}: expected (B, {grid_height * grid_width}, C x {patch_size**2})."
        )
    return rearrange(
        patches,
        "b (gh gw) (c p q) -> b c (gh p) (gw q)",
        gh=grid_height,
        gw=grid_width,
        p=patch_size,
        q=patch_size,
    )


# ---- positions


def index_encoding(length: int) -> Tensor:
    """The position itself, 1 .. N: `(N, 1)`. Unbounded."""
    return torch.arange(1, length + 1, dtype=torch.float32)[:, None]


def normalised_encoding(length: int) -> Tensor:
    """The position divided by the length, 1/N .. 1: `(N, 1)`. Bounded, but the step depends on the length."""
    return index_encoding(length) / length


def binary_encoding(length: int, num_bits: int | None = None) -> Tensor:
    """The positions 0 .. N - 1 as binary numbers: `(N, num_bits)`, the fastest bit first.

    Args:
        num_bits: by default as many as the largest position needs.

    Raises:
        ValueError: `num_bits` too few for `length` positions.
    """
    needed = max(1, (length - 1).bit_length())
    num_bits = needed if num_bits is None else num_bits
    if num_bits < needed:
        raise ValueError(f"num_bits {num_bits} holds {2**num_bits} positions, length is {length}: use {needed} bits.")
    positions = torch.arange(length)[:, None]
    return ((positions >> torch.arange(num_bits)) & 1).float()


def sinusoidal_encoding(length: int, dim: int, base: float = 10000.0) -> Tensor:
    """Sines and cosines of the positions 0 .. N - 1: `(N, dim)` (Vaswani et al., 2017, section 3.5).

    PE(pos, 2i) = sin(pos / base^(2i/dim)) and PE(pos, 2i+1) = cos(pos / base^(2i/dim)): sine and cosine interleaved.

    Raises:
        ValueError: an odd `dim`.
    """
    return _sinusoids(torch.arange(length), dim, base)


def sinusoidal_encoding_2d(grid_height: int, grid_width: int, dim: int, base: float = 10000.0) -> Tensor:
    """Sines and cosines of row and column of a grid, row by row: `(grid_height * grid_width, dim)`.

    The first dim/2 numbers are `sinusoidal_encoding` of the row, the rest that of the column, each with exponents
    2i / (dim/2). (MAE, He et al., 2022, puts the column first and all sines before all cosines.)

    Raises:
        ValueError: a `dim` that 4 doesn't divide.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4 (sine and cosine, row and column), got {dim}.")
    rows, columns = torch.meshgrid(torch.arange(grid_height), torch.arange(grid_width), indexing="ij")
    return torch.cat([_sinusoids(rows.flatten(), dim // 2, base), _sinusoids(columns.flatten(), dim // 2, base)], dim=1)


def resize_positions(
    positions: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], mode: str = "bicubic"
) -> Tensor:
    """Position vectors of a grid of patches for another grid: `(1, 1 + gh gw, D) -> (1, 1 + gh' gw', D)`.

    The patches' vectors are read as an image of D channels and scaled, with antialias; [CLS] in front, which has no
    place in the grid, is kept. (Dosovitskiy et al., 2021, section 3.2, and timm's `resample_abs_pos_embed`.)

    Args:
        mode: "bicubic" or "bilinear".

    Raises:
        ValueError: positions that don't fit `old_grid`, a grid without places, or another mode.
    """
    height, width = old_grid
    if positions.ndim != 3 or positions.shape[:2] != (1, 1 + height * width):
        raise ValueError(
            f"positions must have shape (1, {1 + height * width}, D), [CLS] and a grid of {height} x {width}, "
            f"got {tuple(positions.shape)}."
        )
    if min(new_grid) < 1:
        raise ValueError(f"new_grid must have at least one row and one column, got {tuple(new_grid)}.")
    if mode not in ("bicubic", "bilinear"):
        raise ValueError(f"mode must be 'bicubic' or 'bilinear', got {mode!r}.")
    if tuple(old_grid) == tuple(new_grid):
        return positions
    grid = rearrange(positions[:, 1:], "1 (gh gw) d -> 1 d gh gw", gh=height).float()
    scaled = F.interpolate(grid, size=tuple(new_grid), mode=mode, antialias=True).to(positions.dtype)
    return torch.cat([positions[:, :1], rearrange(scaled, "1 d gh gw -> 1 (gh gw) d")], dim=1)


def _sinusoids(positions: Tensor, dim: int, base: float) -> Tensor:
    if dim < 2 or dim % 2:
        raise ValueError(f"dim must be even, a sine and a cosine for each frequency, got {dim}.")
    # float64 inside: at position 10,000 a float32 angle is off by 1e-3.
    frequencies = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = positions[:, None].double() * frequencies
    return rearrange([angles.sin(), angles.cos()], "two n i -> n (i two)").float()


# ---- attention


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """How much each query looks at each key: `(..., Nq, d), (..., Nk, d) -> (..., Nq, Nk)`.

    weights = softmax(Q K^T / sqrt(d)), the softmax over keys, so that each row sums to 1
    (Vaswani et al., 2017, eq. 1).

    Args:
        mask: boolean, broadcastable to the weights, True where the query may look. A query that may look nowhere gets a
            row of zeros, as from torch's own attention.
        scale: what the scores are multiplied by; 1 / sqrt(d) when not given.

    Raises:
        TypeError: a mask that is not boolean.
        ValueError: queries and keys of different width, or a mask that doesn't fit the weights.
    """
    _check(query, key, mask)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)  # Q K^T / sqrt(d); scaling Q costs less than scaling N x N scores
    if mask is None:
        return scores.softmax(dim=-1)
    # The second fill turns the NaN of a row without any key into 0, in the gradient too.
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).masked_fill(~mask, 0.0)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    fused: bool = False,
) -> Tensor:
    """Fetch a weighted mean of the values: `(..., Nq, d), (..., Nk, d), (..., Nk, Dv) -> (..., Nq, Dv)`.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V (Vaswani et al., 2017, eq. 1).

    Args:
        mask, scale: as in `attention_weights`.
        dropout: probability with which a weight is dropped, here and now; pass 0 in evaluation.
        fused: compute the same through `F.scaled_dot_product_attention`, which need not hold all weights in memory.

    Raises:
        TypeError, ValueError: as `attention_weights`; or not a value for each key.
    """
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"key and value must have equally many rows, got key {tuple(key.shape)} and value {tuple(value.shape)}."
        )
    if fused:
        _check(query, key, mask)
        if mask is not None:
            mask = mask.expand((*mask.shape[:-2], query.shape[-2], key.shape[-2]))  # torch's own wants both sizes
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    weights = attention_weights(query, key, mask, scale)
    return F.dropout(weights, dropout) @ value


def rollout(attention: Sequence[Tensor], residual: float = 0.5) -> Tensor:
    """Follow attention through the layers: L x `(B, h, N, N) -> (B, N, N)`, rows summing to 1.

    The product over layers, the last one on the left, of (1 - residual) A + residual I, where A is the mean over heads
    and I stands for the residual stream (Abnar and Zuidema, 2020, section 3).

    Raises:
        ValueError: no layers, weights of another shape, layers that differ in B or N, or a `residual` outside 0 .. 1.
    """
    if not attention:
        raise ValueError("attention must hold the weights of at least one layer.")
    if not 0 <= residual <= 1:
        raise ValueError(f"residual must lie between 0 and 1, got {residual}.")
    for layer, weights in enumerate(attention, start=1):
        if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2]:
            raise ValueError(f"attention of layer {layer} must have shape (B, h, N, N), got {tuple(weights.shape)}.")
        if weights.shape[::2] != attention[0].shape[::2]:  # one image for all would multiply without complaint
            raise ValueError(
                f"attention of layer {layer} must have B and N of layer 1, {tuple(attention[0].shape)}, "
                f"got {tuple(weights.shape)}."
            )
    identity = torch.eye(attention[0].shape[-1]).to(attention[0])
    joint = identity
    for weights in attention:
        joint = ((1 - residual) * weights.mean(dim=1) + residual * identity) @ joint
    return joint


def _check(query: Tensor, key: Tensor, mask: Tensor | None) -> None:
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"query and key must have the same width, got query {tuple(query.shape)} and key {tuple(key.shape)}."
        )
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must be boolean, True where a query may look, got {mask.dtype}; try `mask != 0`.")
    expected = (*torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    sizes = zip(mask.shape[::-1], expected[::-1], strict=False)
    if mask.ndim > len(expected) or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(
            f"mask of shape {tuple(mask.shape)} doesn't fit weights of shape {tuple(expected)}. A padding mask (B, N) "
            "of keys is mask[:, None, None, :]."
        )
