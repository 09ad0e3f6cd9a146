"""Right answers to sheet 6."""

import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat

from vitcourse.layers import EncoderBlock, MultiHeadAttention

# ---- 6.1


def _pointing_loop(heat, mask):
    marks = []
    for picture, own in zip(heat, mask, strict=True):
        hottest = [(y, x) for y, x in np.ndindex(*picture.shape) if picture[y, x] == picture.max()]
        marks.append(sum(bool(own[place]) for place in hottest) / len(hottest))
    return torch.tensor(marks)


def _pointing_einops(heat, mask):
    hot = (heat == reduce(heat, "b h w -> b 1 1", "max")).double()
    return einsum(hot, mask.double(), "b h w, b h w -> b") / reduce(hot, "b h w -> b", "sum")


def _pointing_numpy(heat, mask, axes=(1, 2)):
    heat, mask = heat.numpy(), mask.numpy()
    hot = heat == heat.max(axis=axes, keepdims=True)
    return (hot & mask).sum(axis=axes) / hot.sum(axis=axes)


def _pointing_masked(heat, mask):
    return torch.stack([m[h == h.max()].float().mean() for h, m in zip(heat, mask, strict=True)])


def _pointing_flat(heat, mask):
    heat, mask = heat.flatten(1), mask.flatten(1)
    hot = heat.ge(heat.max(dim=1, keepdim=True).values)
    return torch.where(mask, hot, False).float().sum(1) / hot.float().sum(1)


# ---- 6.2


def _iou_loop(heat, mask):
    marks = []
    for h, m in zip(heat.double(), mask, strict=True):
        k = int(m.sum())
        limit = h.flatten().topk(k).values[-1]
        above, at = h > limit, h == limit
        c = above.double()
        c[at] = (k - above.sum()) / at.sum()
        both = (c * m).sum()
        marks.append(both / (2 * k - both))
    return torch.stack(marks)


def _iou_ranks(heat, mask):
    """Without a sort: how many are hotter, how many equally hot."""
    flat, m = heat.flatten(1), mask.flatten(1).float()
    k = m.sum(dim=1, keepdim=True)
    hotter = (flat[:, None, :] > flat[:, :, None]).sum(dim=2)
    equal = (flat[:, None, :] == flat[:, :, None]).sum(dim=2)
    c = ((k - hotter) / equal).clamp(0, 1)
    return torch.minimum(c, m).sum(1) / torch.maximum(c, m).sum(1)


def _iou_numpy(heat, mask):
    marks = []
    for h, m in zip(heat.numpy().reshape(len(heat), -1), mask.numpy().reshape(len(mask), -1), strict=True):
        k = m.sum()
        t = np.sort(h)[::-1][k - 1]
        c = np.where(h > t, 1.0, np.where(h == t, (k - (h > t).sum()) / (h == t).sum(), 0.0))
        marks.append(np.sum(c * m) / np.sum(c + m - c * m))
    return np.array(marks)


def _iou_kthvalue(heat, mask):
    flat, m = heat.flatten(1), mask.flatten(1)
    n = flat.shape[1]
    limits = [row.kthvalue(n - int(k) + 1).values for row, k in zip(flat, m.sum(1), strict=True)]
    limit = torch.stack(limits)[:, None]
    k, above, at = m.sum(1), flat > limit, flat == limit
    shared = (above & m).sum(1) + (at & m).sum(1) * (k - above.sum(1)) / at.sum(1)
    return shared / (k + k - shared)


def _iou_thinned(heat, mask, **_):
    """By the mean over the ways to break ties, in closed form for each group of equal heat."""
    marks = []
    for h, m in zip(heat, mask, strict=True):
        k = left = m.sum().item()
        shared = 0.0
        for value in h.unique().flip(0):
            group = h == value
            taken = min(left, group.sum().item())
            shared += taken * m[group].float().mean().item()
            left -= taken
        marks.append(shared / (2 * k - shared))
    return torch.tensor(marks, dtype=torch.float64)


# ---- 6.3


def _rollout_loop(weights):
    R = torch.eye(weights[0].shape[-1])
    for A in weights:
        R = 0.5 * (A.mean(dim=1) + torch.eye(A.shape[-1])) @ R
    return R


def _rollout_scaled(weights):
    R = None
    for A in weights:
        A = A.double().mean(1) + torch.eye(A.shape[-1], dtype=torch.float64)
        A = A / A.sum(dim=-1, keepdim=True)
        R = A if R is None else torch.bmm(A, R)
    return R


def _rollout_einops(weights):
    A = [reduce(w, "b h q k -> b q k", "mean") for w in weights]
    R = A[0] / 2 + torch.eye(A[0].shape[-1]) / 2
    for layer in A[1:]:
        R = (R + einsum(layer, R, "b q k, b k j -> b q j")) / 2
    return R


def _rollout_from_the_left(weights):
    R = torch.eye(weights[0].shape[-1]).expand(len(weights[0]), -1, -1)
    for A in reversed(weights):
        R = R @ (A.mean(dim=1) / 2) + R / 2
    return R


def _rollout_numpy(weights, residual=0.5):
    layers = [(1 - residual) * w.numpy().mean(axis=1) + residual * np.eye(w.shape[-1]) for w in weights]
    return np.stack([np.linalg.multi_dot([layer[b] for layer in layers][::-1]) for b in range(len(weights[0]))])


def _rollout_transposed(weights):
    """Column by column in memory."""
    R = torch.eye(weights[0].shape[-1])
    for A in weights:
        R = R @ (A.mean(dim=1).mT / 2 + torch.eye(A.shape[-1]) / 2)
    return R.mT


# ---- 6.4


def _map_interpolated(R, grid_size, patch_size):
    grid = R[:, 0, 1:].reshape(len(R), 1, *grid_size)
    return F.interpolate(grid, scale_factor=patch_size, mode="nearest").squeeze(1)


def _map_einops(R, grid_size, patch_size):
    row = rearrange(R[:, 0, 1:], "b (gh gw) -> b gh gw", gh=grid_size[0])
    return repeat(row, "b gh gw -> b (gh p) (gw q)", p=patch_size, q=patch_size)


def _map_kron(R, grid_size, patch_size):
    return torch.kron(R[:, 0, 1:].view(-1, *grid_size), torch.ones(1, patch_size, patch_size))


def _map_loop(R, grid_size, patch_size):
    gh, gw = grid_size
    heat = torch.zeros(len(R), gh * patch_size, gw * patch_size, dtype=torch.float64)
    for y, x in np.ndindex(*heat.shape[1:]):
        heat[:, y, x] = R[:, 0, 1 + (y // patch_size) * gw + x // patch_size]
    return heat


def _map_numpy(R, grid_size, patch_size):
    grid = R.numpy()[:, 0, 1:].reshape(-1, *grid_size)
    return grid.repeat(patch_size, axis=1).repeat(patch_size, axis=2)


def _map_expanded(R, grid_size, patch_size):
    gh, gw = grid_size
    grid = R[:, 0, 1:].view(-1, gh, 1, gw, 1).expand(-1, gh, patch_size, gw, patch_size)
    return grid.reshape(len(R), gh * patch_size, gw * patch_size).mT.contiguous().mT


# ---- 6.5


def _distance_loop(weights, grid_size, patch_size):
    B, h, L, _ = weights.shape
    gw, total = grid_size[1], torch.zeros(h)
    for q in range(L - 1):
        for k in range(L - 1):
            d = patch_size * math.hypot(q // gw - k // gw, q % gw - k % gw)
            total += (d * weights[:, :, q + 1, k + 1] / weights[:, :, q + 1, 1:].sum(-1)).sum(dim=0)
    return total / (B * (L - 1))


def _distance_cdist(weights, grid_size, patch_size):
    places = torch.cartesian_prod(*(patch_size * (torch.arange(n) + 0.5) for n in grid_size))
    A = weights[..., 1:, 1:]
    A = A / A.sum(-1, keepdim=True)
    return (A * torch.cdist(places, places)).sum(-1).mean(-1).mean(0)


def _distance_einsum(weights, grid_size, patch_size):
    gh, gw = grid_size
    i = torch.arange(gh * gw)
    dy, dx = (i // gw)[:, None] - i // gw, (i % gw)[:, None] - i % gw
    d = patch_size * (dy**2 + dx**2).double().sqrt()
    A = F.normalize(weights[:, :, 1:, 1:].double(), p=1, dim=-1)
    return torch.einsum("bhqk,qk->h", A, d) / (len(weights) * gh * gw)


def _distance_numpy(weights, grid_size, patch_size):
    y, x = np.meshgrid(*map(np.arange, grid_size), indexing="ij")
    z = (y + 1j * x).ravel()
    A = weights.numpy()[:, :, 1:, 1:]
    rows = (A * np.abs(z[:, None] - z)).sum(-1) / A.sum(-1)
    return patch_size * rows.mean(axis=(0, 2))


def _distance_shares(weights, grid_size, patch_size, cls=1):
    places = torch.tensor(list(np.ndindex(*grid_size)), dtype=torch.float32) * patch_size
    d = (places[:, None] - places).norm(dim=-1)
    kept = 1 - weights[:, :, cls:, :cls].sum(dim=-1)
    return ((weights[:, :, cls:, cls:] @ d.T).diagonal(dim1=-2, dim2=-1) / kept).mean(dim=2).mean(dim=0)


# ---- 6.6


def _collect_with(model, images, register):
    kept, hooks = [], []
    try:
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                hooks += register(module, kept)
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return kept


def _collect_forward(model, images):
    def hook(module, given, output):
        kept.append(module.forward(given[0], return_attention=True)[1].detach())

    kept = []
    hooks = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, MultiHeadAttention)]
    try:
        model(images)
    finally:
        [hook.remove() for hook in hooks]
    return kept


def _collect_asked(model, images):
    """The module is asked for its weights, and its caller gets what it asked for."""

    def register(module, kept):
        def ask(module, given):
            return (*given[:2], True)

        def keep(module, given, output):
            kept.append(output[1])
            return output[0]

        return [module.register_forward_pre_hook(ask), module.register_forward_hook(keep)]

    return _collect_with(model, images, register)


def _collect_from_qkv(model, images):
    def register(module, kept):
        def keep(layer, given, output):
            query, key, _ = rearrange(output, "b n (three h d) -> three b h n d", three=3, h=module.num_heads)
            kept.append((query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1).double())

        return [module.qkv.register_forward_hook(keep)]

    return tuple(_collect_with(model, images, register))


def _collect_before(model, images):
    def register(module, kept):
        def keep(module, given):
            kept.append(module.forward(*given[:2], return_attention=True)[1])

        return [module.register_forward_pre_hook(keep)]

    return torch.stack(_collect_with(model, images, register))


def _collect_blocks(model, images):
    """From the input of each block, and in evaluation mode, which is put back."""
    kept = []

    def keep(block, given, output):
        tokens = block.norm1(given[0])
        kept.append(block.attention.forward(tokens, return_attention=True)[1])

    modes = {module: module.training for module in model.modules()}
    hooks = [m.register_forward_hook(keep) for m in model.modules() if isinstance(m, EncoderBlock)]
    try:
        model.eval()
        with torch.inference_mode():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return kept


# ---- 6.7


def _verdict_torch(trained, random):
    d = trained - random.mean(dim=0)
    error = d.std() / len(d) ** 0.5
    return d.mean(), error, d.mean() > 2 * error


def _verdict_numpy(trained, random):
    d = trained.numpy() - random.numpy().mean(0)
    error = d.std(ddof=1) / np.sqrt(d.size)
    return d.mean(), error, d.mean() / error > 2


def _verdict_statistics(trained, random):
    d = [a - statistics.mean(b) for a, b in zip(trained.tolist(), random.T.tolist(), strict=True)]
    mean, error = statistics.mean(d), statistics.stdev(d) / math.sqrt(len(d))
    return [mean, error, mean > 2 * error]


def _verdict_loop(trained, random, *, errors=2):
    n, s = len(trained), len(random)
    d = [trained[i] - sum(random[j][i] for j in range(s)) / s for i in range(n)]
    mean = sum(d) / n
    error = (sum((x - mean) ** 2 for x in d) / (n * (n - 1))) ** 0.5
    return mean, error, mean > errors * error


def _verdict_double(trained, random):
    d = (trained[None].double() - random.double()).mean(dim=0)
    error = torch.sqrt(d.var(correction=1) / d.numel())
    return d.mean().item(), error.item(), bool(d.mean() - 2 * error > 0)


RIGHT = {
    "pointing_hits": [_pointing_loop, _pointing_einops, _pointing_numpy, _pointing_masked, _pointing_flat],
    "iou": [_iou_loop, _iou_ranks, _iou_numpy, _iou_kthvalue, _iou_thinned],
    "rollout": [
        _rollout_loop,
        _rollout_scaled,
        _rollout_einops,
        _rollout_from_the_left,
        _rollout_numpy,
        _rollout_transposed,
    ],
    "pixel_map": [_map_interpolated, _map_einops, _map_kron, _map_loop, _map_numpy, _map_expanded],
    "attention_distance": [
        _distance_loop,
        _distance_cdist,
        _distance_einsum,
        _distance_numpy,
        _distance_shares,
    ],
    "collect_weights": [
        _collect_forward,
        _collect_asked,
        _collect_from_qkv,
        _collect_before,
        _collect_blocks,
    ],
    "verdict": [_verdict_torch, _verdict_numpy, _verdict_statistics, _verdict_loop, _verdict_double],
}
