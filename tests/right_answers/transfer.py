"""Right answers to sheet 7."""

import copy
import itertools
import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from torchmetrics.functional.classification import multiclass_recall

from vitcourse import VisionTransformer

# ---- a new head


def _head_deepcopy(model, num_classes):
    new = copy.deepcopy(model).requires_grad_(True)
    new.head = nn.Linear(model.head.in_features, num_classes)
    new.config = model.config.replace(num_classes=num_classes)
    return new


def _head_zero(model, num_classes, start=nn.init.zeros_):
    new = _head_deepcopy(model, num_classes)
    start(new.head.weight)
    start(new.head.bias)
    return new


def _head_state_dict(model, num_classes):
    new = VisionTransformer(model.config.replace(num_classes=num_classes))
    body = {name: w for name, w in model.state_dict().items() if not name.startswith("head.")}
    new.load_state_dict(body, strict=False)
    return new


def _head_popped(model, num_classes):
    new = VisionTransformer(model.config.replace(num_classes=num_classes))
    weights = model.state_dict()
    for name in ("head.weight", "head.bias"):
        weights[name] = new.state_dict()[name]
    new.load_state_dict(weights)
    return new.train()


def _head_loop(model, num_classes):
    new = VisionTransformer(model.config.replace(num_classes=num_classes))
    with torch.no_grad():
        for (name, mine), theirs in zip(new.named_parameters(), model.parameters(), strict=True):
            if not name.startswith("head"):
                mine.copy_(theirs)
    return new


# ---- freeze and count


def _freeze_all_then_head(model):
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    model.eval()
    model.head.train()
    return model


def _freeze_loop(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in ("head.weight", "head.bias")
    return model.eval()


def _freeze_by_id(model, mode=False):
    free = {id(parameter) for parameter in model.head.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in free)
    return model.train(mode)


def _freeze_children(model):
    model.class_token.requires_grad_(False)
    for name, part in model.named_children():
        if name != "head":
            part.requires_grad_(False).eval()
    model.head.requires_grad_(True)
    return model


def _trainable_loop(model):
    count = 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            count += math.prod(parameter.shape)
    return count


# ---- groups


def _groups_ids(model, learning_rate, factor):
    head = set(model.head.parameters())
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in free if p not in head], "lr": learning_rate * factor, "name": "body"},
        {"params": [p for p in free if p in head], "lr": learning_rate},
    ]


def _groups_filter(model, learning_rate, factor):
    learns = lambda part: filter(lambda p: p.requires_grad, part)  # noqa: E731
    body = (p for name, p in model.named_parameters() if not name.startswith("head"))
    return (
        {"lr": learning_rate, "params": learns(model.head.parameters())},
        {"lr": learning_rate * factor, "params": learns(body)},
    )


def _groups_one_each(model, learning_rate, factor, weight_decay=0.0):
    groups = []
    for name, p in model.named_parameters():
        if p.requires_grad:
            rate = learning_rate * (1 if "head" in name else factor)
            groups.append({"params": p, "lr": rate, "weight_decay": weight_decay})
    return groups


def _groups_layers(model, learning_rate, factor):
    parts = (model.patch_embedding, model.position_embedding, model.blocks, model.norm)
    body = [p for part in parts for p in part.parameters()] + [model.class_token]
    groups = [{"params": [p for p in model.head.parameters() if p.requires_grad], "lr": learning_rate}]
    body = [p for p in body if p.requires_grad]
    return groups + [{"params": body, "lr": torch.tensor(factor * learning_rate, dtype=torch.float64)}] * bool(body)


def _groups_named(model, learning_rate, factor):
    head = [(n, p) for n, p in model.named_parameters() if n.startswith("head.") and p.requires_grad]
    body = [(n, p) for n, p in model.named_parameters() if not n.startswith("head.") and p.requires_grad]
    return [{"params": head, "lr": learning_rate}, {"params": body, "lr": factor * learning_rate}]


# ---- positions


def _resize_einops(positions, grid, new_grid):
    picture = rearrange(positions[:, 1:], "1 (h w) d -> 1 d h w", h=grid[0])
    picture = F.interpolate(picture, size=new_grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], rearrange(picture, "1 d h w -> 1 (h w) d")], dim=1)


def _resize_permute(positions, grid, new_grid, mode="bicubic"):
    cls, patches = positions.double().split([1, math.prod(grid)], dim=1)
    picture = patches.reshape(1, *grid, -1).permute(0, 3, 1, 2)
    picture = F.interpolate(picture, list(new_grid), mode=mode, align_corners=False, antialias=True)
    return torch.cat([cls, picture.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _resize_channels(positions, grid, new_grid):
    columns = []
    for column in positions[0].T:
        picture = column[1:].reshape(1, 1, *grid)
        scaled = F.interpolate(picture, size=new_grid, mode="bicubic", antialias=True)
        columns.append(torch.cat([column[:1], scaled.flatten()]))
    return torch.stack(columns, dim=-1)[None]


def _resize_matrix(positions, grid, new_grid):
    N = math.prod(grid)
    places = torch.eye(N).reshape(N, 1, *grid)
    A = F.interpolate(places, size=new_grid, mode="bicubic", antialias=True).reshape(N, -1)
    return torch.cat([positions[:, :1], torch.einsum("nm,bnd->bmd", A, positions[:, 1:])], dim=1)


def _resize_two_steps(positions, grid, new_grid):
    picture = positions[:, 1:].mT.unflatten(2, grid)
    for size in ((new_grid[0], grid[1]), new_grid):
        picture = F.interpolate(picture, size=size, mode="bicubic", antialias=True)
    return torch.cat([positions.mT[:, :, :1], picture.flatten(2)], dim=2).mT


# ---- metrics


def _baseline_counter(train_labels, test_labels):
    most = statistics.mode(train_labels.tolist())
    return sum(label == most for label in test_labels.tolist()) / len(test_labels)


def _baseline_numpy(train_labels, test_labels):
    return np.mean(test_labels.numpy() == np.bincount(train_labels.numpy()).argmax())


def _confusion_loop(predictions, labels, classes):
    matrix = torch.zeros(classes, classes)
    for prediction, label in zip(predictions, labels, strict=True):
        matrix[label, prediction] += 1
    return matrix


def _confusion_numpy(predictions, labels, classes):
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (labels.numpy(), predictions.numpy()), 1)
    return matrix


def _confusion_product(predictions, labels, classes):
    return F.one_hot(labels, classes).T @ F.one_hot(predictions, classes)


def _confusion_lists(predictions, labels, classes):
    return [[int(((labels == i) & (predictions == j)).sum()) for j in range(classes)] for i in range(classes)]


def _confusion_put(predictions, labels, classes):
    one = torch.ones(len(labels), dtype=torch.int32)
    matrix = torch.zeros(classes, classes, dtype=torch.int32)
    return matrix.mT.index_put((predictions, labels), one, accumulate=True).mT


def _balanced_loop(predictions, labels, classes):
    recalls = []
    for k in range(classes):
        if (labels == k).any():
            recalls.append((predictions[labels == k] == k).float().mean().item())
    return sum(recalls) / len(recalls)


def _balanced_matrix(predictions, labels, classes):
    matrix = _confusion_loop(predictions, labels, classes)
    here = matrix.sum(dim=1) > 0
    return (matrix.diagonal()[here] / matrix.sum(dim=1)[here]).mean()


def _balanced_weights(predictions, labels, classes):
    counts = labels.bincount(minlength=classes)
    return ((predictions == labels) / counts[labels]).sum() / (counts > 0).sum()


def _balanced_numpy(predictions, labels, classes=None):
    predictions, labels = predictions.numpy(), labels.numpy()
    return np.mean([np.mean(predictions[labels == k] == k) for k in np.unique(labels)])


def _balanced_torchmetrics(predictions, labels, classes):
    return multiclass_recall(predictions, labels, classes, average="none")[labels.unique()].mean()


# ---- fine-tune


def _tune_groups(model, images, labels, updates):
    optimizer = torch.optim.AdamW(_groups_ids(model, 1e-2, 0.1))
    model.train()
    for _ in range(updates):
        chosen = torch.randint(len(images), (32,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _tune_schedule(model, images, labels, updates, rate=2e-2):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=updates)
    model.train()
    for _ in range(updates):
        chosen = torch.randperm(len(images))[:16]
        model.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    return model


def _tune_passes(model, images, labels, updates):
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    done = 0
    while done < updates:
        for chosen in torch.randperm(len(images)).split(10):
            if done == updates:
                break
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            done += 1
    return model.eval()


def _tune_loader(model, images, labels, updates):
    pairs = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(pairs, batch_size=64, shuffle=True, drop_last=True)
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    optimizers = [torch.optim.AdamW([p], lr=1e-2) for p in model.parameters() if p.requires_grad][:1]
    optimizers += [torch.optim.SGD([p for p in model.parameters() if p.requires_grad][1:], lr=0.1, momentum=0.9)]
    for x, y in itertools.islice(batches, updates):
        model.train()
        with torch.no_grad():
            model(x)
        loss = F.nll_loss(model(x).log_softmax(dim=1), y, reduction="sum")
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return model.eval()


def _tune_by_hand(model, images, labels, updates, rate=0.5):
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for _ in range(updates):
        model.train()
        model.zero_grad()
        chosen = torch.multinomial(torch.ones(len(images)), 48)
        F.cross_entropy(model(images[chosen]), labels[chosen], label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(free, 1.0)
        with torch.no_grad():
            for parameter in free:
                parameter -= rate * parameter.grad
        model.eval()
    return model


class _Tuned(nn.Module):
    def __init__(self, share=0.5):
        super().__init__()
        self.share, self.dropout = share, nn.Dropout(0.5)
        self.eval()

    def forward(self, images):
        return self.dropout(_knows(images, self.share))


def _knows(images, share):
    from vitcourse.checks import transfer

    return transfer._knows(images, share)


# ---- pairs


def _paired_statistics(transfer, scratch):
    d = [t - s for t, s in zip(transfer, scratch, strict=True)]
    return statistics.mean(d), statistics.stdev(d) / math.sqrt(len(d))


def _paired_numpy(transfer, scratch):
    d = np.subtract(transfer, scratch)
    return d.mean(), d.std(ddof=1) / len(d) ** 0.5


def _paired_torch(transfer, scratch):
    d = torch.tensor(transfer) - torch.tensor(scratch)
    return torch.stack([d.mean(), (d.var() / len(d)).sqrt()])


def _paired_by_hand(transfer, scratch, unit=1):
    n = len(transfer)
    mean = sum(transfer) / n - sum(scratch) / n
    squares = sum((t - s - mean) ** 2 for t, s in zip(transfer, scratch, strict=True))
    return [unit * mean, unit * (squares / (n - 1) / n) ** 0.5]


RIGHT = {
    "with_new_head": [_head_deepcopy, _head_zero, _head_state_dict, _head_popped, _head_loop],
    "freeze": [_freeze_all_then_head, _freeze_loop, _freeze_by_id, _freeze_children],
    "trainable": [
        _trainable_loop,
        lambda model: sum(p.numel() for p in model.parameters() if p.requires_grad),
        lambda model: sum(p.numel() * p.requires_grad for p in model.parameters()),
        lambda model: torch.tensor([p.nelement() for p in model.parameters() if p.requires_grad]).sum(),
        lambda model, of=None: np.sum([np.prod(p.shape) for p in model.parameters() if p.requires_grad]),
    ],
    "parameter_groups": [_groups_ids, _groups_filter, _groups_one_each, _groups_layers, _groups_named],
    "resize_positions": [_resize_einops, _resize_permute, _resize_channels, _resize_matrix, _resize_two_steps],
    "majority_baseline": [
        _baseline_counter,
        _baseline_numpy,
        lambda train, test: (test == train.mode().values).float().mean(),
        lambda train, test: (test == torch.bincount(train).argmax()).sum() / len(test),
        lambda train, test: (test == max(train.tolist(), key=train.tolist().count)).double().mean().item(),
    ],
    "confusion": [_confusion_loop, _confusion_numpy, _confusion_product, _confusion_lists, _confusion_put],
    "balanced_accuracy": [_balanced_loop, _balanced_matrix, _balanced_weights, _balanced_numpy, _balanced_torchmetrics],
    "fine_tune": [_tune_groups, _tune_schedule, _tune_passes, _tune_loader, _tune_by_hand],
    "tuned": [
        _Tuned(),
        _Tuned(0.46).double(),
        lambda images: _knows(images, 0.7).double(),
        lambda images: _knows(images, 0.7).numpy(),
        lambda images, scale=3: scale * _knows(images, 0.5),
    ],
    "paired_difference": [_paired_statistics, _paired_numpy, _paired_torch, _paired_by_hand],
}
