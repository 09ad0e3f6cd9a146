"""Notebooks as pages to read without running: one HTML file each, figures and formulas inside, no network needed."""

from __future__ import annotations

import base64
import html
import mimetypes
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from vitcourse.authoring import address, notebooks
from vitcourse.files import write_text

# Lab's page without what it would fetch: MathJax, require.js, Mermaid.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}"""
SUMMARY = re.compile(r"<summary>.*?</summary>")  # Markdown leaves formulas in raw HTML alone
FOLDERS = ("notebooks", "exercises")
WORDS = re.compile(
    r"<details><summary>(?:Figure \d+ in words|Figura \d+ en palabras)</summary>\s*(.*?)\s*</details>", re.DOTALL
)


def write(root: Path, target: Path) -> list[Path]:
    """A page for each notebook and sheet of the repository `root`, laid out below `target` as they are there.

    Links among them lead from page to page, links to other files to the repository's address. Each figure's words
    become its text for screen readers.
    """
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("[0-9a-z]*.ipynb"))]
    pages = {path.resolve(): target / path.relative_to(root).with_suffix(".html") for path in paths}
    files = f"{address.HOST}{address.current(root)}/blob/main/"
    for path, page in pages.items():
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, _with_links(_page(path), path, root.resolve(), set(pages), files))
    return list(pages.values())


def _page(path: Path) -> str:
    notebook = notebooks.read(path)
    exporter = _Exporter(raw_template=TEMPLATE)
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem, "path": str(path.parent)}})
    descriptions = iter(_descriptions(notebook.cells))
    return re.sub(r'alt="No description has been provided for this image"', lambda _: next(descriptions), text)


def _descriptions(cells: list[NotebookNode]) -> Iterable[str]:
    """For each figure, in order: the words of the next text cell that has some."""
    for number, cell in enumerate(cells):
        following = (WORDS.search(after.source) for after in cells[number + 1 :] if after.cell_type == "markdown")
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                words = next(filter(None, following), None)
                yield f'alt="{html.escape(" ".join(words[1].split())) if words else ""}"'


def _with_links(text: str, path: Path, root: Path, pages: set[Path], files: str) -> str:
    """`text` with the links of the notebook `path` rewritten and its local pictures put in."""

    def link(match: re.Match[str]) -> str:
        name, _, anchor = match[2].partition("#")
        if not name or re.match(r"[a-z]+:", name):
            return match[0]
        file = Path(os.path.normpath(path.resolve().parent / unquote(name)))
        if match[1] == "src":
            kind = mimetypes.guess_type(file)[0]
            return f'src="data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"'
        if file in pages:
            place = os.path.relpath(file.with_suffix(".html"), path.resolve().parent)
        else:
            place = files + file.relative_to(root).as_posix()
        return f'href="{Path(place).as_posix() if file in pages else place}{"#" + anchor if anchor else ""}"'

    return re.sub(r'(src|href)="([^"]+)"', link, text)


class _Exporter(HTMLExporter):
    """nbconvert's page, with formulas as MathML, which browsers draw by themselves."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        text = MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)
        return SUMMARY.sub(
            lambda found: re.sub(r"\$([^$]+)\$", lambda body: convert(html.unescape(body[1])), found[0]), text
        )


class _Renderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return convert(body)

    def block_math(self, body: str) -> str:
        return convert(body.strip(), display="block")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")
