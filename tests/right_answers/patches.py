"""Right answers to sheet 3."""

import time

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vitcourse import VisionTransformer, ViTConfig, training
from vitcourse.training import fit, set_seed


def _divides(images, P):
    if any(side % P for side in images.shape[-2:]):
        raise ValueError(f"{P} doesn't divide {tuple(images.shape[-2:])}")


def _patchify_loop(images, P):
    _divides(images, P)
    patches = []
    for top in range(0, images.shape[2], P):
        for left in range(0, images.shape[3], P):
            patches.append(images[:, :, top : top + P, left : left + P].flatten(1))
    return torch.stack(patches, dim=1)


def _patchify_permute(images, P):
    B, C, H, W = images.shape
    if H % P != 0 or W % P != 0:
        raise ValueError("sides")
    return images.view(B, C, H // P, P, W // P, P).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _patchify_einops(images, P, *, pattern="b c (gh p) (gw q) -> b (gh gw) (c p q)"):
    try:
        return rearrange(images, pattern, p=P, q=P)
    except Exception as error:
        raise ValueError("P") from error


def _patchify_f_unfold(images, P):
    _divides(images, P)
    return F.unfold(images, P, stride=P).mT  # not contiguous


def _patchify_unfold(images, P):
    _divides(images, P)
    windows = images.double().unfold(2, P, P).unfold(3, P, P)  # (B, C, g_h, g_w, P, P)
    return windows.permute(0, 2, 3, 1, 4, 5).reshape(len(images), -1, images.shape[1] * P * P)


def _patchify_numpy(images, P):
    _divides(images, P)
    B, C, H, W = images.shape
    return np.asarray(images).reshape(B, C, H // P, P, W // P, P).transpose(0, 2, 4, 1, 3, 5).reshape(B, -1, C * P * P)


def _patchify_convolution(images, P):
    _divides(images, P)
    length = images.shape[1] * P * P
    kernels = torch.eye(length).reshape(length, images.shape[1], P, P)
    return F.conv2d(images, kernels, stride=P).flatten(2).transpose(1, 2)


def _unpatchify_loop(patches, P, H, W):
    B, N, length = patches.shape
    images = torch.empty(B, length // P**2, H, W)
    for n in range(N):
        row, column = divmod(n, W // P)
        images[:, :, row * P : row * P + P, column * P : column * P + P] = patches[:, n].reshape(B, -1, P, P)
    return images


def _unpatchify_permute(patches, P, H, W):
    B, C = len(patches), patches.shape[-1] // P**2
    return patches.reshape(B, H // P, W // P, C, P, P).permute(0, 3, 1, 4, 2, 5).reshape(B, C, H, W)


def _unpatchify_einsum(patches, P, H, W, dtype=torch.float64):
    grid = patches.to(dtype).unflatten(1, (H // P, W // P)).unflatten(3, (-1, P, P))
    return torch.einsum("nhwcpq->nchpwq", grid).flatten(4).flatten(2, 3)


def _unpatchify_fold(patches, P, H, W):
    return F.fold(patches.transpose(1, 2), (H, W), kernel_size=P, stride=P)


def _unpatchify_cat(patches, P, H, W):
    tiles = [patch.reshape(len(patches), -1, P, P) for patch in patches.unbind(1)]
    wide = W // P
    rows = [torch.cat(tiles[start : start + wide], dim=3) for start in range(0, len(tiles), wide)]
    return torch.cat(rows, dim=2)


def _unpatchify_numpy(patches, P, H, W):
    return rearrange(patches.numpy(), "b (gh gw) (c p q) -> b c (gh p) (gw q)", gh=H // P, p=P, q=P)


def _linear_copy(convolution):
    D, C, P, _ = convolution.weight.shape
    linear = nn.Linear(C * P * P, D, bias=convolution.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.reshape(D, -1))
        if convolution.bias is not None:
            linear.bias.copy_(convolution.bias)
    return linear


def _linear_parameter(convolution):
    linear = nn.Linear(1, 1)
    linear.weight = nn.Parameter(convolution.weight.detach().flatten(1).clone())
    linear.bias = None if convolution.bias is None else nn.Parameter(convolution.bias.detach().clone())
    return linear


def _linear_state(convolution):
    weights = {name: value.flatten(1) if value.ndim > 1 else value for name, value in convolution.state_dict().items()}
    linear = nn.Linear(weights["weight"].shape[1], convolution.out_channels, bias="bias" in weights)
    linear.load_state_dict(weights)
    return linear


def _linear_zeros(convolution):
    linear = nn.Linear(convolution.weight[0].numel(), convolution.out_channels)
    bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias
    for mine, theirs in zip(
        linear.parameters(), (rearrange(convolution.weight, "d c p q -> d (c p q)"), bias), strict=True
    ):
        mine.data.copy_(theirs)
    return linear


class _Projection(nn.Linear):
    def __init__(self, convolution):
        super().__init__(convolution.weight[0].numel(), convolution.out_channels, convolution.bias is not None)
        self.double()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(getattr(convolution, name).reshape(parameter.shape))


def _linear_measured(convolution):
    """Feeds one pixel after the other and reads the column off."""
    D, C, P, _ = convolution.weight.shape
    linear = nn.Linear(C * P * P, D, bias=convolution.bias is not None)
    with torch.no_grad():
        nothing = convolution(torch.zeros(1, C, P, P)).reshape(D)
        pixels = torch.eye(C * P * P).reshape(-1, C, P, P)
        linear.weight.copy_((convolution(pixels).flatten(1) - nothing).T)
        if linear.bias is not None:
            linear.bias.copy_(nothing)
    return linear


def _predict_closed(H, W, C, P, D):
    N = H * W // P**2
    L, length = N + 1, C * P**2
    return {
        "patches": N,
        "tokens": L,
        "patch_length": length,
        "embedding_parameters": length * D + D,
        "position_parameters": L * D,
        "embedding_multiply_adds": N * length * D,
        "attention_multiply_adds": 4 * L * D**2 + 2 * L**2 * D,
    }


def _predict_floats(H, W, C, P, D):
    N = (H / P) * (W / P)
    costs = _predict_closed(H, W, C, P, D)
    return dict(reversed(list(costs.items()))) | {
        "patches": N,
        "tokens": N + 1.0,
        "embedding_multiply_adds": H * W * C * D,
    }


def _predict_products(H, W, C, P, D):
    def product(rows, inner, columns):
        return rows * inner * columns

    N = len(range(0, H, P)) * len(range(0, W, P))
    L = 1 + N
    costs = [product(L, D, D)] * 4 + [product(L, D, L), product(L, L, D)]
    return {
        "attention_multiply_adds": sum(costs),
        "embedding_multiply_adds": product(N, P * P * C, D),
        "position_parameters": product(L, 1, D),
        "embedding_parameters": product(P * P * C + 1, 1, D),
        "patch_length": product(P, P, C),
        "tokens": L,
        "patches": N,
    }


def _predict_measured(H, W, C, P, D):
    embedding, images = nn.Conv2d(C, D, P, P), torch.zeros(1, C, H, W)
    patches = embedding(images).flatten(2).mT
    positions = nn.Parameter(torch.zeros(1, patches.shape[1] + 1, D))
    return {
        "patches": torch.tensor(patches.shape[1]),
        "tokens": positions.shape[1],
        "patch_length": embedding.weight[0].numel(),
        "embedding_parameters": sum(parameter.numel() for parameter in embedding.parameters()),
        "position_parameters": positions.numel(),
        "embedding_multiply_adds": patches.shape[1] * embedding.weight.numel(),
        "attention_multiply_adds": np.int64(2 * D * positions.shape[1] * (2 * D + positions.shape[1])),
    }


def _config(P, D, train):
    return ViTConfig(
        patch_size=P,
        hidden_size=D,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * D,
        initializer_range=0.08,
        image_size=train.size,
        num_channels=train.images.shape[1],
        num_classes=len(train.class_names),
    )


def _train_fit(P, D, train, validation, recipe):
    training.set_seed(recipe.seed)
    model = VisionTransformer(_config(P, D, train))
    log = training.fit(model, train, validation, recipe, progress=False)
    return {
        "P": P,
        "D": D,
        "tokens": model.config.sequence_length,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "loss": log[-1].validation_loss,
        "accuracy": log[-1].validation_accuracy,
        "seconds": sum(epoch.seconds for epoch in log),
    }


def _train_evaluated(P, D, train, validation, recipe, *, device="cpu"):
    start = time.perf_counter()
    torch.manual_seed(recipe.seed)
    config = _config(P, D, train)
    model = VisionTransformer(config)
    training.fit(model, train, validation, recipe, progress=False)
    result = training.evaluate(model, validation)
    row = {"seconds": time.perf_counter() - start, "accuracy": result.accuracy, "loss": torch.tensor(result.loss)}
    height, width = train.size
    return row | {"tokens": height * width // P**2 + 1, "parameters": config.num_parameters(), "D": D, "P": P}


def _train_own_loop(P, D, train, validation, recipe):
    clock = time.perf_counter()
    training.set_seed(recipe.seed)
    model = VisionTransformer(_config(P, D, train))
    optimizer = training.make_optimizer(model, recipe)
    steps, step = -(-len(train) // recipe.batch_size), 0
    for epoch in range(recipe.epochs):
        for inputs, labels in training.batches(train, recipe, epoch):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * training.learning_rate_factor(step, steps, recipe)
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
            step += 1
    with torch.no_grad():
        logits = model.eval()(validation.inputs())
    return {
        "P": P,
        "D": D,
        "tokens": model.embed(validation.inputs([0])).shape[1],
        "parameters": nn.utils.parameters_to_vector(model.parameters()).numel(),
        "loss": F.cross_entropy(logits, validation.labels),
        "accuracy": (logits.argmax(dim=1) == validation.labels).double().mean(),
        "seconds": time.perf_counter() - clock,
    }


def _train_noisy(P, D, train, validation, recipe):
    print(P, D)
    row = _train_fit(P, D, train, validation, recipe)
    return {name: np.float64(value) for name, value in row.items()}


def _train_one_digit(P, D, train, validation, recipe):
    row = _train_fit(P, D, train, validation, recipe)
    return row | {"seconds": round(row["seconds"], 1), "loss": round(row["loss"], 5)}


def _train_two_digits(P, D, train, validation, recipe):
    row = _train_fit(P, D, train, validation, recipe)
    return row | {"seconds": round(row["seconds"], 2)}


def _train_by_the_clock(P, D, train, validation, recipe):
    set_seed(recipe.seed)
    model = VisionTransformer(_config(P, D, train).replace(image_size=tuple(train.images.shape[-2:])))
    lines, start = [], time.time()
    fit(model, train, validation, recipe, progress=False, on_epoch=lines.append)
    seconds = round(time.time() - start, 1)
    numbers = {"loss": lines[-1].validation_loss, "accuracy": lines[-1].validation_accuracy}
    counts = {"tokens": model.config.sequence_length, "parameters": model.config.num_parameters()}
    return {"P": P, "D": D, "seconds": seconds} | counts | numbers


def _patchify_checked(images, P):
    for name, side in zip(("height", "width"), images.shape[-2:], strict=True):
        if side % P:
            raise type("Misfit", (ValueError,), {})(name)
    return torch.cat([strip.unfold(3, P, P).permute(0, 3, 1, 2, 4).flatten(2) for strip in images.split(P, 2)], 1)


def _linear_data(convolution):
    linear = nn.Linear(convolution.weight[0].numel(), convolution.out_channels, bias=convolution.bias is not None)
    linear.weight.data = convolution.weight.data.reshape(convolution.out_channels, -1).clone()
    if linear.bias is not None:
        linear.bias.data[:] = convolution.bias.data
    return linear


RIGHT = {
    "patchify": [
        _patchify_loop,
        _patchify_permute,
        _patchify_einops,
        _patchify_f_unfold,
        _patchify_unfold,
        _patchify_numpy,
        _patchify_convolution,
        _patchify_checked,
    ],
    "unpatchify": [
        _unpatchify_loop,
        _unpatchify_permute,
        _unpatchify_einsum,
        _unpatchify_fold,
        _unpatchify_cat,
        _unpatchify_numpy,
    ],
    "linear_from_convolution": [
        _linear_copy,
        _linear_parameter,
        _linear_state,
        _linear_zeros,
        _Projection,
        _linear_measured,
        _linear_data,
    ],
    "predict": [_predict_closed, _predict_floats, _predict_products, _predict_measured],
    "train_one": [
        _train_fit,
        _train_evaluated,
        _train_own_loop,
        _train_noisy,
        _train_one_digit,
        _train_two_digits,
        _train_by_the_clock,
    ],
}
