"""Notebooks in one normal form, so that a difference in git is a difference in content."""

from __future__ import annotations

import base64
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vitcourse.files import write_text

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("nbgrader", "tags", "translates")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def normalise(notebook: NotebookNode) -> NotebookNode:
    """The notebook with execution counts 1, 2, ..., no noisy metadata and no dead widgets; changed in place, returned.

    Printed lines that came in several pieces, as timing has it, become one piece again. A widget's view is nothing
    without its kernel, and its model id is new each time, so it isn't kept: a static figure stands beside each
    explorer.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = NotebookNode(METADATA)
    count = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata})
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = _joined([output for output in cell.outputs if WIDGET_VIEW not in output.get("data", {})])
        for output in cell.outputs:
            output.pop("transient", None)
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
            if "metadata" in output:
                output.metadata = NotebookNode()
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def read(path: Path) -> NotebookNode:
    """A notebook, as version 4."""
    return nbformat.read(path, as_version=4)


def as_text(notebook: NotebookNode) -> str:
    """The notebook's JSON, as it stands in the file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in normal form, whole or not at all."""
    write_text(path, as_text(normalise(notebook)))


def is_normal(path: Path) -> bool:
    """Whether the file already is in normal form."""
    return path.read_text(encoding="utf-8") == as_text(normalise(read(path)))


def picture(notebook: NotebookNode, cell_id: str) -> bytes:
    """The PNG that a cell shows.

    Raises:
        ValueError: no such cell, or it shows none.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if cell.id == cell_id and "image/png" in output.get("data", {}):
                return base64.b64decode(output.data["image/png"])
    raise ValueError(f"cell_id {cell_id!r} is no cell that shows a picture.")


def execute(path: Path, timeout: int = 300) -> None:
    """Run a notebook from top to bottom in its own folder and write it back with its outputs.

    Args:
        timeout: seconds for each cell.

    Raises:
        ValueError: a cell failed, took too long or ended the kernel; the file stays as it was.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, DeadKernelError

    notebook = read(path)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources, record_timing=False)
    try:
        client.execute()
    except (CellControlSignal, DeadKernelError) as error:  # a failed cell, one that took too long
        raise ValueError(f"notebook {str(path)!r} can't be executed: {error}") from None
    write(notebook, path)
