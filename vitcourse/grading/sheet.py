"""Points for one's own sheet: every cell run once more, in order, in a fresh kernel.

Longer than 150 lines because the table, in both its forms, stands with what fills it.
"""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcourse.checks.report import MIME

SECONDS = 120  # for one cell
SELF_GRADE = "self-grade"  # the tag of the cell that grades its own sheet; it isn't run again


@dataclass(frozen=True)
class Row:
    """One graded cell: points earned (None: marked by hand), points to earn, and a word on it."""

    exercise: str
    earned: float | None
    points: float
    remark: str


@dataclass(frozen=True)
class SheetMarks:
    """The points of a sheet, exercise by exercise; shown as a table in a notebook, as text elsewhere."""

    sheet: str
    rows: tuple[Row, ...]

    @property
    def earned(self) -> float:
        """Points earned, without what is marked by hand."""
        return round(sum(row.earned or 0 for row in self.rows), 2)

    @property
    def points(self) -> float:
        """Points to earn, without what is marked by hand."""
        return sum(row.points for row in self.rows if row.earned is not None)

    def _lines(self) -> list[tuple[str, str, str]]:
        lines = [
            (row.exercise, f"{'-' if row.earned is None else format(row.earned, 'g')} of {row.points:g}", row.remark)
            for row in self.rows
        ]
        return [*lines, ("total", f"{self.earned:g} of {self.points:g}", "")]

    def __str__(self) -> str:
        lines = self._lines()
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        table = [f"  {name:<{widths[0]}}  {mark:>{widths[1]}}  {remark}".rstrip() for name, mark, remark in lines]
        return "\n".join([self.sheet, *table])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th><td style="text-align:right">{mark}'
            f'</td><td style="text-align:left">{html.escape(remark)}</td></tr>'
            for name, mark, remark in self._lines()
        )
        return f"<table><caption>{html.escape(self.sheet)}</caption>{rows}</table>"


def grade_sheet(path: str | Path, seconds: float = SECONDS) -> SheetMarks:
    """Run a saved sheet in a fresh kernel and count its points; the file isn't changed.

    Args:
        path: the notebook.
        seconds: after which a cell is stopped; the next ones still run.

    Raises:
        FileNotFoundError: no file there.
        ValueError: not a notebook, or one without graded cells.
        ImportError: nbclient isn't installed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path {str(path)!r} is no file. Save the sheet first; in Colab, download it (File, Download), and run "
            "`python -m vitcourse grade sheet FILE` where it lies."
        )
    with ThreadPoolExecutor(max_workers=1) as pool:  # a kernel that calls this has its own event loop
        return pool.submit(_grade, path, seconds).result()


def _grade(path: Path, seconds: float) -> SheetMarks:
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import DeadKernelError
    except ImportError:
        raise ImportError("grade sheet needs nbclient: pip install nbclient, or use `python course.py lab`.") from None
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        raise ValueError(f"path {str(path)!r} isn't a notebook: {str(error)[:200]}") from None
    if not any(map(_is_graded, notebook.cells)):
        raise ValueError(f"path {str(path)!r} has no graded cells: is it one of the sheets in exercises/?")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.cells = [cell for cell in notebook.cells if SELF_GRADE not in cell.metadata.get("tags", [])]
    late = {"ename": "TimeoutError", "evalue": f"stopped after {seconds:g} s", "traceback": [], "status": "error"}
    client = NotebookClient(
        notebook,
        timeout=seconds,
        allow_errors=True,
        interrupt_on_timeout=True,
        error_on_timeout={"content": late, **late},
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent.resolve())}},
    )
    died = ""
    try:
        client.execute(stderr=subprocess.DEVNULL)  # the kernel's own warnings
    except DeadKernelError:
        died = "the kernel died before or in this cell"
    headed = zip(notebook.cells, headings(notebook.cells), strict=True)
    return SheetMarks(path.stem, tuple(_row(cell, heading, died) for cell, heading in headed if _is_graded(cell)))


def _is_graded(cell: Any) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def headings(cells: Sequence[Any]) -> list[str]:
    """The heading of the exercise that each cell belongs to: "2.3 Masks" below "## 2.3 Masks"."""
    found, heading = [], ""
    for cell in cells:
        here = re.findall(r"(?m)^## (\d+\.\d+ .+)", cell.source) if cell.cell_type == "markdown" else []
        heading = here[-1].strip() if here else heading
        found.append(heading)
    return found


def _row(cell: Any, heading: str, died: str) -> Row:
    about = cell.metadata.nbgrader
    name, points = f"{heading.partition(' ')[0]} {about.grade_id.removeprefix('check-')}".strip(), float(about.points)
    if cell.cell_type == "markdown" or about.get("solution"):
        return Row(name, None, points, "marked by hand")
    for output in cell.outputs:
        if output.output_type == "error":
            remark = "not filled in" if output.ename == "NotImplementedError" else f"{output.ename}: {output.evalue}"
            return Row(name, 0.0, points, remark.splitlines()[0][:100])
    for output in cell.outputs:
        report = output.get("data", {}).get(MIME)
        if report:
            earned = min(points, max(0.0, float(report["earned"])))
            words = report["belief_name"] or report["problem"].splitlines()[0] if report["problem"] else ""
            return Row(name, earned, points, words[:100])
    return Row(name, 0.0, points, died or "no result")
