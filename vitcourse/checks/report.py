"""What a check says: a card in the notebook, the same as plain text where HTML isn't shown, and points.

Longer than 150 lines because both forms of the card stand side by side.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vitcourse.checks.compare import Other, difference, kind

SMALL = 40  # numbers; a larger tensor is described by its shape and its first numbers
MIME = "application/vnd.vitcourse.report+json"
# Dark text on light paper, at least 7 : 1, on light and dark pages alike.
COLOURS = {"right": ("#0b5d3b", "#e8f5ee"), "wrong": ("#9b1c1c", "#fdecec")}
SIGNS = {"right": "✓", "wrong": "✗"}


@dataclass(frozen=True)
class Report:
    """The result of one check.

    Args:
        state: "right", "wrong" or "unfilled".
        score: 0 to 1.
        problem: what is wrong, in one sentence.
        belief: what leads there, in one or two sentences, or "".
        belief_name: its name, if it explains all that came out; "" where it is only likely.
        case, arguments, expected, got: the input on which it went wrong, what should have come, and what came.
    """

    exercise: str
    points: float
    section: str
    seed: int
    tested: tuple[str, ...] = ()
    state: str = "wrong"
    score: float = 0.0
    problem: str = ""
    belief: str = ""
    belief_name: str = ""
    case: str = ""
    number: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    got: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""
    printed: str = ""

    def changed(self, **changes: Any) -> Report:
        """A copy with other fields."""
        return replace(self, **changes)

    @property
    def earned(self) -> float:
        """Points earned, to two decimals."""
        return round(self.score * self.points, 2)

    def headline(self) -> str:
        """Name, right or wrong, points."""
        word = "right" if self.state == "right" else "partly right" if self.score else "not yet right"
        return f"{self.exercise}: {word} · {self.earned:g} of {self.points:g} points"

    def rows(self) -> list[tuple[str, str, bool]]:
        """What the card says, as (label, text, whether the text is code)."""
        if self.state == "right":
            return [("Tested", f"{'; '.join(self.tested)} (seed {self.seed})", False)]
        rows = []
        if self.belief:
            rows.append(("Likely cause" if self.belief_name else "Perhaps", self.belief, False))
        rows.append(("Found", self.problem, False))
        if self.line:
            rows.append(("Where", self.line, True))
        if self.case:
            count = f"{self.number} of {len(self.tested)}, " if self.number else ""
            rows.append(("Tested", f"{self.case} ({count}seed {self.seed})", False))
        if self.arguments:
            rows.append(("Input", _listed(self.arguments), True))
        differing = self.differing() if self.got else []
        if differing:
            rows.append(("Expected", _listed({name: self.expected[name] for name in differing}), True))
            rows.append(("Got", _listed({name: self.got[name] for name in differing}), True))
        if self.printed:
            rows.append(("Printed", self.printed, True))
        notebook, _, heading = self.section.partition("#")
        rows.append(("Read again", f"notebook {notebook}, section {heading}", False))
        return rows

    def differing(self) -> list[str]:
        """The names of the values to show: those that differ; all when none does."""
        shown = [name for name in self.expected if name in self.got]
        return [name for name in shown if difference(self.expected[name], self.got[name])] or shown

    def __str__(self) -> str:
        lines = [f"{SIGNS.get(self.state, ' ')} {self.headline()}"]
        for label, text, code in self.rows():
            parts = text.splitlines() if code else textwrap.wrap(text, 90)
            lines += [f"  {label + ':':<13} {parts[0] if parts else ''}", *(f"  {'':<13} {part}" for part in parts[1:])]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        ink, paper = COLOURS.get(self.state, COLOURS["wrong"])
        cells = "".join(
            f'<tr style="background:transparent"><th scope="row" style="{_CELL};white-space:nowrap;font-weight:600">'
            f'{html.escape(label)}</th><td style="{_CELL}">{_marked(text, code)}</td></tr>'
            for label, text, code in self.rows()
        )
        return (
            f'<div role="status" style="border-left:6px solid {ink};background:{paper};color:#1a1a1a;padding:8px 12px;'
            f'margin:4px 0;max-width:52em;font-size:14px;line-height:1.45">'
            f'<div style="color:{ink};font-weight:700">{SIGNS.get(self.state, "")} {html.escape(self.headline())}</div>'
            f'<table style="border:none;margin:4px 0 0 0;color:#1a1a1a;border-collapse:collapse">{cells}</table></div>'
        )

    def as_json(self) -> dict[str, Any]:
        """What a grader keeps: words and numbers only."""
        names = ("exercise", "points", "seed", "state", "score", "problem", "belief_name")
        return {**{name: getattr(self, name) for name in names}, "earned": self.earned}

    def show(self) -> None:
        """Display the card in a notebook, print it elsewhere."""
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            get_ipython = None
        if get_ipython is None or get_ipython() is None:
            print(self)
            return
        bundle = {"text/plain": str(self), "text/html": self._repr_html_(), MIME: self.as_json()}
        display(bundle, raw=True)


class Points(float):
    """The points earned, a number that nbgrader reads; `report` says how they came about."""

    report: Report

    def __new__(cls, report: Report):
        points = super().__new__(cls, report.earned)
        points.report = report
        return points


_CELL = "border:none;text-align:left;vertical-align:top;padding:2px 10px 2px 0;background:transparent;color:#1a1a1a"


def _marked(text: str, code: bool) -> str:
    escaped = html.escape(text)
    if not code:
        parts = escaped.split("`")  # `names` are set as code
        return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
    return (
        '<pre style="margin:0;background:transparent;color:#1a1a1a;white-space:pre-wrap;font-size:12.5px">'
        f"{escaped}</pre>"
    )


def _listed(values: Mapping[str, Any]) -> str:
    shown = [f"{name} = {described(value)}" if name else described(value) for name, value in values.items()]
    return "\n".join(shown)


def described(value: Any) -> str:
    """A value in a few lines: a small tensor with its numbers, a large one by shape and first numbers."""
    if isinstance(value, Tensor):
        if value.ndim == 0:
            return f"{value.item():.6g}" if value.dtype != torch.bool else str(bool(value))
        shape = f"{_short(value.dtype)} of shape {tuple(value.shape)}"
        if value.numel() <= SMALL and value.ndim <= 4 and not value.is_complex():
            return f"{shape}\n{_numbers(value.detach())}"
        first = ", ".join(f"{number:.3g}" for number in value.flatten()[:4].tolist())
        return f"{shape}: {first}, …"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]" if len(value) <= 12 else f"{len(value)} values"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, torch.nn.Module):
        return type(value).__name__
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(str, value))}}}"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return kind(value) if isinstance(value, Other) else repr(value)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _numbers(tensor: Tensor) -> str:
    if tensor.is_floating_point():
        finite = tensor[tensor.isfinite()]
        whole = bool((finite == finite.round()).all())
        form = ".4g" if finite.numel() and finite.abs().max() >= 1000 else ".0f" if whole else ".3f"
        texts = [f"{value:{form}}" for value in tensor.flatten().tolist()]
    else:
        texts = [str(value) for value in tensor.flatten().tolist()]
    width = max(map(len, texts), default=0)
    return _bracketed([text.rjust(width) for text in texts], tensor.shape)


def _bracketed(texts: list[str], shape: torch.Size, indent: str = " ") -> str:
    if len(shape) == 1:
        return "[" + ", ".join(texts) + "]"
    length = len(texts) // max(shape[0], 1)
    rows = [texts[start : start + length] for start in range(0, len(texts), length or 1)]
    return "[" + f",\n{indent}".join(_bracketed(row, shape[1:], indent + " ") for row in rows) + "]"
