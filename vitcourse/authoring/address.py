"""The repository's address: one place holds it, one command writes it everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from vitcourse.files import write_text

HOST = "https://github.com/"
PATTERNS = (
    "README.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "TEACHING.md",
    "pyproject.toml",
    "notebooks/**/*.ipynb",
    "notebooks/*.md",
    "exercises/**/*.ipynb",
    "solutions/**/*.ipynb",
)


def current(root: Path) -> str:
    """The address that pyproject.toml names, as `owner/name`."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removeprefix(HOST)


def files(root: Path) -> list[Path]:
    """The files that may name the address."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern)}
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


def stamp(root: Path, address: str) -> list[Path]:
    """Write `owner/name` wherever the old address stands, and return the changed files.

    pyproject.toml, which says what the old address is, comes last: after an interruption a second call does the rest.

    Raises:
        ValueError: an address that isn't `owner/name` or `https://github.com/owner/name`.
    """
    new = address.removeprefix(HOST).removesuffix(".git").strip("/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise ValueError(f"address must be owner/name or {HOST}owner/name, got {address!r}.")
    old, changed = re.compile(rf"(?<![\w.-]){re.escape(current(root))}(?![\w-])"), []
    for path in sorted(files(root), key=lambda path: path == root / "pyproject.toml"):
        text = path.read_text(encoding="utf-8")
        stamped = old.sub(new, text)
        if stamped != text:
            write_text(path, stamped)
            changed.append(path)
    return changed


def disagreements(root: Path) -> list[str]:
    """Addresses in links and set-up cells that aren't the one in pyproject.toml, as `file: address`."""
    named = re.compile(r"(?:https://github\.com/|colab\.research\.google\.com/github/)([\w.-]+/vitcourse)\b")
    expected = current(root)
    return [
        f"{path.relative_to(root)}: {address}"
        for path in files(root)
        for address in sorted(set(named.findall(path.read_text(encoding="utf-8"))))
        if address != expected
    ]
