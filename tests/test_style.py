"""Style, format and spelling of everything in the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [("ruff", "check"), ("ruff", "format", "--check"), ("codespell_lib",)],
    ids=["ruff check", "ruff format", "codespell"],
)
def test_style(command):
    done = subprocess.run([sys.executable, "-m", *command, "."], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_larger_than_ten_megabytes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name] or list(ROOT.glob("vitcourse/**/*"))
    assert max(path.stat().st_size for path in paths if path.is_file()) < 10e6


def test_data_in_the_package_stays_small():
    kinds = {".npz", ".safetensors", ".png"}
    assert sum(path.stat().st_size for path in (ROOT / "vitcourse").rglob("*") if path.suffix in kinds) < 10e6
