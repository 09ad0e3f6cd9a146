"""All thirteen fields of the config as controls: what they cost, at once, and the time, on a button."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from IPython.display import display
from ipywidgets import HTML, Button, Checkbox, HBox, IntSlider, Layout, SelectionSlider, VBox, interactive_output

from vitcourse import figures
from vitcourse.config import ViTConfig
from vitcourse.model import VisionTransformer

BATCH = 16
# What is timed at most, so that a click takes seconds and not minutes: multiply-adds, bytes, parameters.
MOST = (6e10, 1e9, 3e7)
CHOICES = {
    "patch_size": (1, 2, 4, 5, 8, 16, 32),
    "hidden_size": (12, 24, 48, 96, 192, 384, 768),
    "num_hidden_layers": range(1, 25),
    "num_attention_heads": range(1, 17),
    "intermediate_size": (48, 96, 192, 384, 768, 1536, 3072),
    "hidden_dropout_prob": (0.0, 0.1, 0.2, 0.5),
    "attention_probs_dropout_prob": (0.0, 0.1, 0.2, 0.5),
    "initializer_range": (0.002, 0.02, 0.08, 0.14, 0.5),
    "image_size": (16, 32, 48, 64, 96, 128, 224),
    "num_classes": (2, 10, 20, 100, 1000),
    "num_channels": range(1, 5),
    "qkv_bias": (False, True),
    "use_faster_attention": (False, True),
}


def thirteen_fields() -> VBox:
    """Explore `figures.config_costs`: a control for each field, and a button that measures the time.

    A config that can't be gives its message in place of the figure. The time is that of one forward and backward pass
    of 16 images, beside that of the default config; a config too large to be timed in seconds is not.
    """
    base = ViTConfig()
    controls = {name: _control(name, values, getattr(base, name)) for name, values in CHOICES.items()}
    button, timed = Button(description="▶ t", layout=Layout(width="80px")), HTML()

    def config() -> ViTConfig:
        return ViTConfig(**{name: control.value for name, control in controls.items()})

    def show(**values: Any) -> None:
        timed.value = ""  # it belonged to the config before
        try:
            display(figures.config_costs(ViTConfig(**values), base, BATCH))
        except ValueError as error:
            print(error)

    def measure(_: Button) -> None:
        timed.value = "…"
        try:
            timed.value = _times(config(), base)
        except (ValueError, RuntimeError) as error:
            timed.value = str(error)

    button.on_click(measure)
    return VBox([*controls.values(), HBox([button, timed]), interactive_output(show, controls)])


def _control(name: str, values: Any, value: Any) -> Any:
    look = {"description": name, "style": {"description_width": "200px"}, "layout": Layout(width="480px")}
    if isinstance(value, bool):
        return Checkbox(value=value, indent=True, **look)
    if isinstance(values, range):
        return IntSlider(value=value, min=values[0], max=values[-1], **look)
    return SelectionSlider(value=value, options=values, **look)


def _times(config: ViTConfig, base: ViTConfig) -> str:
    """Milliseconds of the config, of the default, and their ratio; or the cost that is too high to try."""
    parameters, multiply_adds, stored = figures.costs(config, BATCH)
    for symbol, value, most in zip(
        ("B Ω", "bytes", "θ"), (BATCH * multiply_adds, stored, parameters), MOST, strict=True
    ):
        if value > most:
            return f"{symbol} = {value:.1e} &gt; {most:.0e}"
    new, old = milliseconds(config), milliseconds(base)
    return f"{new:.0f} ms : {old:.0f} ms = {new / old:.1f}"


def milliseconds(config: ViTConfig, batch_size: int = BATCH, repeats: int = 3) -> float:
    """The median time of one forward and backward pass, after one that is not counted; random numbers are put back."""
    with torch.random.fork_rng(devices=[]):
        model = VisionTransformer(config).train()
        images = torch.randn(batch_size, config.num_channels, *config.image_height_width)
        labels = torch.zeros(batch_size, dtype=torch.long)
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            F.cross_entropy(model(images), labels).backward()
            times.append(time.perf_counter() - start)
    return 1000 * median(times[1:])
