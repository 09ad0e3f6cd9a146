"""What a Vision Transformer is made of, and what its thirteen fields cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from vitcourse.config import ViTConfig
from vitcourse.figures.boxes import box
from vitcourse.figures.style import BLUE, BROWN, GREEN, GREY, INK, ORANGE, subplots

COSTS = {"$\\theta$": BLUE, "$\\Omega$": ORANGE, "bytes": GREEN}


def costs(config: ViTConfig, batch_size: int = 16) -> tuple[int, int, int]:
    """Parameters, multiply-adds of one image, and bytes of activations of a batch."""
    return config.num_parameters(), config.multiply_adds(), config.activation_bytes(batch_size)


def assembled(config: ViTConfig, batch_size: int = 2) -> Figure:
    """The whole model from below: each part, its parameters, and the shape that leaves it."""
    B, C, P, N = batch_size, config.num_channels, config.patch_size, config.num_patches
    D, M, L, K = config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_classes
    attention = 4 * D * D + (3 * config.qkv_bias + 1) * D + 2 * D
    mlp = 2 * D * M + M + D + 2 * D
    position = (N + 1) * D * (config.position_embedding == "learned")
    image = (B, C, *config.image_height_width)
    tokens, vector = ("$(B, N{+}1, D)$", (B, N + 1, D)), ("$(B, D)$", (B, D))
    rows = [
        ("$x$", INK, "$(B, C, H, W)$", image, None),
        ("$x_p$", INK, "$(B, N, P^2C)$", (B, N, P * P * C), None),
        ("$E$", GREEN, "$(B, N, D)$", (B, N, D), P * P * C * D + D),
        ("[CLS]", GREEN, *tokens, D),
        ("$+\\,E_{pos}$", GREEN, *tokens, position),
        ("$z + \\mathrm{MSA}(\\mathrm{LN}(z))$", BLUE, *tokens, attention),
        ("$z + \\mathrm{MLP}(\\mathrm{LN}(z))$", ORANGE, *tokens, mlp),
        ("$z_L^0$" if config.pooling == "cls" else "$\\overline{z_L}$", INK, *vector, None),
        ("LN", BROWN, *vector, 2 * D),
        ("Linear", BROWN, "$(B, n_c)$", (B, K), D * K + K),
    ]
    fig, ax = subplots(figsize=(6.6, 5.6))
    for row, (name, colour, symbols, shape, parameters) in enumerate(rows):
        box(ax, 1.25, row, name, colour, width=2, height=0.6, rounding=0.1, fontsize=10)
        if row:
            ax.annotate("", (1.25, row - 0.3), (1.25, row - 0.7), arrowprops={"arrowstyle": "-|>", "color": INK})
        times = f"{L} × " if colour in (BLUE, ORANGE) else ""
        ax.text(2.75, row, symbols, va="center")
        ax.text(4.75, row, "(" + ", ".join(map(str, shape)) + ")", va="center")
        if parameters is not None:
            ax.text(8.6, row, f"{times}{parameters:,}", va="center", ha="right")
    frame = FancyBboxPatch((0.08, 4.55), 2.34, 1.9, boxstyle="round,pad=0,rounding_size=0.1", fc="none", ec=BLUE, lw=2)
    ax.add_patch(frame)
    ax.text(-0.05, 5.5, f"{L} ×", ha="right", va="center", color=BLUE)
    ax.text(8.6, len(rows), f"$\\theta$ = {config.num_parameters():,}", va="center", ha="right", color=GREY)
    ax.set(xlim=(-0.6, 8.7), ylim=(-0.6, len(rows) + 0.4))
    ax.axis("off")
    return fig


def field_costs(base: ViTConfig, changes: Mapping[str, object], batch_size: int = 16) -> Figure:
    """One row a field: what changing it multiplies parameters, multiply-adds and activation memory by.

    Args:
        changes: the new value of each field, one changed at a time.
    """
    reference = costs(base, batch_size)
    ratios = [
        [new / old for new, old in zip(costs(base.replace(**{name: value}), batch_size), reference, strict=True)]
        for name, value in changes.items()
    ]
    names = [f"{name} = {value}" for name, value in changes.items()]
    fig, axes = subplots(1, 3, figsize=(7.8, 4.6), sharey=True)
    for column, (ax, title) in enumerate(zip(axes, COSTS, strict=True)):
        _ratio_bars(ax, names, [row[column] for row in ratios], [COSTS[title]] * len(names))
        ax.set_title(title)
    return fig


def config_costs(config: ViTConfig, base: ViTConfig, batch_size: int = 16) -> Figure:
    """Three bars: parameters, multiply-adds and activation memory of a config, against another; above, what differs."""
    new, old = costs(config, batch_size), costs(base, batch_size)
    names = [f"{title}  {value:,}" for title, value in zip(COSTS, new, strict=True)]
    fig, ax = subplots(figsize=(6.4, 1.9))
    _ratio_bars(ax, names, [a / b for a, b in zip(new, old, strict=True)], list(COSTS.values()))
    before = base.to_dict()
    changes = [f"{name} = {value}" for name, value in config.to_dict().items() if value != before[name]]
    ax.set_title(fill(", ".join(changes), 80), fontsize=9, loc="left")
    return fig


def _ratio_bars(ax: Axes, names: Sequence[str], ratios: Sequence[float], colours: Sequence[str]) -> None:
    """Bars from 1 to each ratio on an axis of powers of two, the ratio beside it."""
    ax.barh(range(len(names)), [ratio - 1 for ratio in ratios], left=1, color=colours, height=0.7)
    ax.set_xscale("log", base=2)
    ax.axvline(1, color=INK, lw=1)
    lowest, highest = min(ratios), max(2, *ratios)  # room for the numbers
    ax.set(xlim=(lowest / 7 if lowest < 0.9 else 0.2, highest * 4), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    for row, ratio in enumerate(ratios):
        ax.annotate(
            f"{ratio:.2f}" if ratio < 0.9 else f"{ratio:.3g}",
            (ratio, row),
            (-4 if ratio < 1 else 4, 0),
            textcoords="offset points",
            va="center",
            ha="right" if ratio < 1 else "left",
            fontsize=9,
        )
