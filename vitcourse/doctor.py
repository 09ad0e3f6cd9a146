"""What works on this machine, and how to mend what doesn't.

Longer than 150 lines because each thing that can fail is a function of its own.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, resources

import torch

from vitcourse import places

COLAB_GPU = "for a GPU: the menu Runtime, Change runtime type, T4 GPU; then run the cells again from the top"
COLAB_DRIVE = 'to keep them: `from google.colab import drive; drive.mount("/content/drive")`'
REMEDY = "run `python course.py lab` again, or `pip install --upgrade {name}`"
REPAIR = "mend what fails above, or else fetch the course again and run `python course.py lab`"
INCOMPLETE = "this copy of the course is incomplete: fetch it again"


@dataclass(frozen=True)
class Check:
    """One line of the report: what was looked at, what was found, whether it will do, and the way out if not.

    With `ok` and a remedy, it is something that the course can do without.
    """

    name: str
    found: str
    ok: bool = True
    remedy: str = ""


def examine() -> list[Check]:
    """What the course needs, in the order in which to mend what fails. Takes about three seconds."""
    checks = [Check("python", platform.python_version()), *_packages()]
    checks.append(_tried("torch + torchvision", _torchvision, "the two don't match: run `python course.py lab` again"))
    with torch.random.fork_rng():
        checks.append(_tried("VisionTransformer", _model, REPAIR))
        checks.append(_tried("training", _training, REPAIR))
    return [*checks, *_bundled(), _device(), *_drive()]


def extras() -> list[Check]:
    """What some of it can use: data sets that don't come with the course, and MLflow."""
    return [*_data(), _mlflow()]


def as_text(checks: list[Check]) -> str:
    """The report, a line a check, the way out below a line that fails (✗) or that one can do without (·)."""
    lines = []
    for check in checks:
        sign = "✗" if not check.ok else "·" if check.remedy else "✓"
        lines.append(f"{sign} {check.name} {check.found}")
        if check.remedy:
            lines.append(f"  → {check.remedy}")
    return "\n".join(lines)


def _tried(name: str, try_it: Callable[[], str], remedy: str) -> Check:
    """What `try_it` found, or the first line of what it raised, with the remedy."""
    try:
        return Check(name, try_it())
    except Exception as error:  # whatever a mismatched pair or a damaged copy raises
        return Check(name, (str(error).splitlines() or [type(error).__name__])[0], False, remedy)


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


def _torchvision() -> str:
    from torchvision.ops import nms

    nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    return "match"


def _model() -> str:
    from vitcourse import VisionTransformer, ViTConfig

    logits = VisionTransformer(ViTConfig())(torch.zeros(2, 3, 32, 32))
    if not logits.isfinite().all():
        raise ValueError("its logits aren't finite")
    return f"(2, 3, 32, 32) -> {tuple(logits.shape)}"


def _training() -> str:
    from vitcourse import VisionTransformer, ViTConfig, data, training

    few = data.load("scenes", "train", count=64)
    model = VisionTransformer(ViTConfig(num_classes=8, patch_size=8, num_hidden_layers=1))
    log = training.fit(model, few, few, training.TrainingConfig(epochs=1, batch_size=32, flip=True), progress=False)
    return f"2 steps in {log[0].seconds:.1f} s"


def _bundled() -> list[Check]:
    from vitcourse import checkpoints

    root = resources.files("vitcourse")
    assets = ("data/assets/fashion-mnist.npz", "data/assets/python-topics.txt.gz")
    names = [*assets, *(f"checkpoints/{name}/model.safetensors" for name in checkpoints.NAMES)]
    missing = [name for name in names if not root.joinpath(name).is_file()]
    if not missing:
        return [Check("data and checkpoints of the course", f"{len(names)} files here")]
    return [Check(name, "missing", False, INCOMPLETE) for name in missing]


def _data() -> list[Check]:
    from vitcourse.data import FINDERS

    checks = []
    for name, find in FINDERS.items():
        try:
            checks.append(Check(name, str(find())))
        except FileNotFoundError:
            remedy = f"if you want it: python -m vitcourse data fetch {name.partition(',')[0]}"
            checks.append(Check(name, "not here", remedy=remedy))
    return checks


def _mlflow() -> Check:
    try:
        return Check("mlflow", metadata.version("mlflow"))
    except metadata.PackageNotFoundError:
        return Check("mlflow", "not installed", remedy="if you want to track runs with --mlflow: pip install mlflow")


def _in_colab() -> bool:
    return "COLAB_RELEASE_TAG" in os.environ or "google.colab" in sys.modules


def _device() -> Check:
    if torch.cuda.is_available():
        return Check("device", f"cuda ({torch.cuda.get_device_name()})")
    if torch.backends.mps.is_available():
        return Check("device", "mps")
    found = f"cpu ({torch.get_num_threads()} threads)"
    return Check("device", found, remedy=COLAB_GPU if _in_colab() else "")


def _drive() -> list[Check]:
    """In Colab, whether what is trained outlives the session."""
    if not _in_colab():
        return []
    mounted = places.DRIVE.is_dir()
    found = f"mounted; runs are kept in {places.runs()}" if mounted else "not mounted: runs end with the session"
    return [Check("drive", found, remedy="" if mounted else COLAB_DRIVE)]
