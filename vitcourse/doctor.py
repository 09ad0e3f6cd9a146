"""What works on this machine, and how to mend what doesn't."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata, resources

import torch

REMEDY = "run `python course.py lab` again, or `pip install --upgrade {name}`"
BUNDLED = ("data/assets/fashion-mnist.npz", "checkpoints/fashion-mnist/model.safetensors")


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what was found, whether it will do, and the way out if not."""

    name: str
    found: str
    ok: bool = True
    remedy: str = ""


def examine() -> list[Check]:
    """All checks, in the order in which to mend what fails. Takes about three seconds, most of it for torchvision."""
    return [_python(), *_packages(), _torchvision(), _model(), *_bundled(), _device()]


def as_text(checks: list[Check]) -> str:
    """The report, a line a check, the way out below a line that fails."""
    lines = []
    for check in checks:
        lines.append(f"{'✓' if check.ok else '✗'} {check.name} {check.found}")
        if not check.ok:
            lines.append(f"  → {check.remedy}")
    return "\n".join(lines)


def _python() -> Check:
    version = platform.python_version()
    return Check("python", version, sys.version_info >= (3, 11), "install Python 3.11 or newer")


def _packages() -> list[Check]:
    """The requirements that stand in the package's own metadata, extras apart."""
    try:
        requirements = metadata.requires("vitcourse") or []
    except metadata.PackageNotFoundError:
        return [Check("vitcourse", "not installed", False, "run `pip install -e .` in the repository")]
    matches = (re.match(r"([\w.-]+)>=([\w.]+)$", requirement) for requirement in requirements)
    return [_package(*match.groups()) for match in matches if match]


def _package(name: str, lowest: str) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, f"missing, at least {lowest} is needed", False, REMEDY.format(name=name))
    if _numbers(version) < _numbers(lowest):
        return Check(name, f"{version}, at least {lowest} is needed", False, REMEDY.format(name=name))
    return Check(name, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _torchvision() -> Check:
    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except Exception as error:  # whatever a mismatched pair raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Check("torch + torchvision", reason, False, "the two don't match: run `python course.py lab` again")
    return Check("torch + torchvision", "match")


def _model() -> Check:
    from vitcourse import VisionTransformer, ViTConfig

    logits = VisionTransformer(ViTConfig())(torch.zeros(2, 3, 32, 32))
    return Check("VisionTransformer", f"(2, 3, 32, 32) -> {tuple(logits.shape)}", bool(logits.isfinite().all()), "")


def _bundled() -> list[Check]:
    root = resources.files("vitcourse")
    remedy = "this copy of the course is incomplete: fetch it again"
    return [Check(name, "here" if root.joinpath(name).is_file() else "missing", root.joinpath(name).is_file(), remedy)
            for name in BUNDLED]  # fmt: skip


def _device() -> Check:
    if torch.cuda.is_available():
        return Check("device", f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        return Check("device", "mps")
    return Check("device", f"cpu ({torch.get_num_threads()} threads)")
