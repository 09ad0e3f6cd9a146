"""Run each notebook in a process of its own: seconds and peak memory, written into the README's table.

    python -m benchmarks.notebooks [00 08 ...]

names the notebooks to run; without any, all. Nothing else should run meanwhile. Linux and macOS.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from vitcourse.files import written_whole

ROOT = Path(__file__).parent.parent
NAME = r"\|[^|]*\| \[[^]]*\]\(notebooks/(?P<stem>[^)]*)\.ipynb\) "
ROW = re.compile(rf"^(?P<before>{NAME}\|[^|]*\|[^|]*\|)[^|]*\|[^|]*\|(?P<after>.*)$", re.MULTILINE)
BAR_SECONDS, BAR_MEBIBYTES = 60, 2048


def main(numbers: list[str]) -> int:
    """Measure, print a line each, and write the README's two columns; 1 if a notebook is over a bar."""
    paths = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
    chosen = [path for path in paths if not numbers or path.name[:2] in numbers]
    measured = {}
    for path in chosen:
        command = [sys.executable, "-m", "benchmarks.notebooks", "--run", str(path)]
        seconds, mebibytes = map(
            float, subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.split()
        )
        measured[path.stem] = (seconds, mebibytes)
        print(f"{path.stem:30} {seconds:6.1f} s {mebibytes:7.0f} MiB", flush=True)
    readme = ROOT / "README.md"
    text = with_measured(readme.read_text(encoding="utf-8"), measured)
    with written_whole(readme) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return int(any(seconds > BAR_SECONDS or mebibytes > BAR_MEBIBYTES for seconds, mebibytes in measured.values()))


def run(path: Path) -> tuple[float, float]:
    """Seconds from the first cell to the last, and the largest memory of any process, in MiB."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}})
    with client.setup_kernel():
        started = time.perf_counter()
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        seconds = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**20


def with_measured(text: str, measured: dict[str, tuple[float, float]]) -> str:
    """`text` with the last two numbers of each measured notebook's row: seconds, rounded up to fives, and MiB."""

    def row(match: re.Match[str]) -> str:
        if match["stem"] not in measured:
            return match[0]
        seconds, mebibytes = measured[match["stem"]]
        return f"{match['before']} {5 * -(-seconds // 5):.0f} | {50 * -(-mebibytes // 50):.0f} |{match['after']}"

    return ROW.sub(row, text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        print(*run(Path(sys.argv[2])))
    else:
        sys.exit(main(sys.argv[1:]))
