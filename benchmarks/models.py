"""Time a training step and inference of our Vision Transformer beside those of other libraries, on the CPU.

    python -m benchmarks.models [--repeats 30] [--only NAME ...]

All models of a table have the same configuration and are timed in one run, interleaved.
"""

from __future__ import annotations

import os

# Before torch: threads that spin while they wait take a core from the next model's threads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import peers, timing
from vitcourse import ViTConfig

BAR = 1.05  # ours may take so many times as long as the fastest library
MODELS = {"nano": ("Nano/4", 256), "tiny": ("Ti/16", 8)}  # name: variant, batch size
ATTENTION = {"attention-65": 65, "attention-197": 197, "attention-785": 785}  # name: tokens
WIDTH, HEADS, ATTENTION_BATCH = 192, 3, 8  # of the attention layer alone: as in Ti


def main() -> None:
    """Print the machine, then table by table."""
    names = [*MODELS, *ATTENTION]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=30, help="repeats that are timed (default: 30)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    arguments = parser.parse_args()
    print(timing.machine(), flush=True)
    for name in arguments.only:
        torch.manual_seed(0)
        if name in MODELS:
            compare_models(*MODELS[name], arguments.repeats)
        else:
            compare_attention(ATTENTION[name], arguments.repeats)


def compare_models(variant: str, batch_size: int, repeats: int) -> None:
    """Time one configuration in all libraries, inference first, while all variants of ours still agree."""
    config = ViTConfig.variant(variant)
    images = torch.randn(batch_size, config.num_channels, *config.image_height_width)
    labels = torch.randint(config.num_classes, (batch_size,))
    models = peers.models(config)
    print(f"\n{variant}, {config.image_size} px, {config.num_classes} classes, batch {batch_size}")
    print(check_models(models, config, images))
    for title, actions in (
        ("inference", {name: inference(model, images) for name, model in models.items()}),
        ("training step", {name: training_step(model, images, labels) for name, model in models.items()}),
    ):
        set_mode(models, training=title == "training step")
        seconds = timing.interleaved(actions, repeats)
        print(f"\n{timing.as_text(f'{variant}, {title}', timing.rows(seconds, peers.OURS), peers.OURS)}")
        print(timing.fastest_line(seconds, peers.OURS, list(peers.LIBRARIES), BAR), flush=True)


def compare_attention(tokens: int, repeats: int) -> None:
    """Time the attention layer alone in its four forms."""
    layers = peers.attention_layers(WIDTH, HEADS)
    batch = torch.randn(ATTENTION_BATCH, tokens, WIDTH)
    check_outputs_agree(layers, batch)
    print(f"\nattention layer, D {WIDTH}, {HEADS} heads, N {tokens}, batch {ATTENTION_BATCH}")
    for title, actions in (
        ("forward", {name: inference(layer, batch) for name, layer in layers.items()}),
        ("forward and backward", {name: forward_backward(layer, batch) for name, layer in layers.items()}),
    ):
        set_mode(layers, training=title != "forward")
        seconds = timing.interleaved(actions, repeats)
        table = timing.rows(seconds, peers.OURS)
        print(f"\n{timing.as_text(f'N {tokens}, {title}', table, peers.OURS)}", flush=True)


# ---- what is timed


def inference(model: nn.Module, inputs: Tensor) -> Callable[[], Tensor]:
    """The model's output, without gradients; `set_mode` puts it into evaluation mode."""
    return lambda: torch.inference_mode()(model)(inputs)


def training_step(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    """One step of fused AdamW; returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def forward_backward(layer: nn.Module, tokens: Tensor) -> Callable[[], Tensor]:
    """The gradients of the weights and of the tokens; returns the latter."""
    tokens = tokens.clone().requires_grad_()
    upstream = torch.randn_like(tokens)

    def run() -> Tensor:
        layer.zero_grad()
        tokens.grad = None
        layer(tokens).backward(upstream)
        return tokens.grad

    return run


def set_mode(models: dict[str, nn.Module], training: bool) -> None:
    """Put all models into training or into evaluation mode."""
    for model in models.values():
        model.train(training)


# ---- what must hold before timing


def check_models(models: dict[str, nn.Module], config: ViTConfig, images: Tensor) -> str:
    """Check sizes and outputs, and return a line on the parameters.

    Raises:
        ValueError: a model of another size than ours, or a variant of ours with other outputs.
    """
    ours = config.num_parameters()
    for name, model in models.items():
        count, expected = count_parameters(model), ours + peers.extra_parameters(name, config)
        if count != expected:
            raise ValueError(f"{name} has {count:,} parameters, expected {expected:,}: not the same configuration.")
    check_outputs_agree({name: models[name] for name in (peers.OURS, peers.EXPLICIT, peers.LIST_OF_HEADS)}, images)
    extra = peers.extra_parameters("vit-pytorch", config)
    return (
        f"{ours:,} parameters each; vit-pytorch {ours + extra:,} ({extra:+,}: two LayerNorms more around the patch "
        "projection, no bias for query, key and value)"
    )


def count_parameters(model: nn.Module) -> int:
    """The numbers that training may change."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@torch.inference_mode()
def check_outputs_agree(models: dict[str, nn.Module], inputs: Tensor) -> None:
    """Check that all models, which have the same weights, return what the first one does.

    Raises:
        ValueError: one doesn't.
    """
    outputs = {name: model.eval()(inputs) for name, model in models.items()}
    first = next(iter(outputs.values()))
    for name, output in outputs.items():
        if not torch.allclose(output, first, rtol=1e-4, atol=1e-5):
            raise ValueError(f"{name} differs from the first by {(output - first).abs().max().item():.2g}.")


if __name__ == "__main__":
    main()
