"""Notebooks as pages: whole without a network, formulas drawn, figures described, links that lead somewhere."""

import os
import re
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("latex2mathml", reason="the pages need latex2mathml")
bs4 = pytest.importorskip("bs4", reason="the pages need nbconvert")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    from vitcourse.authoring import pages

    folder = tmp_path_factory.mktemp("pages")
    pages.write(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def soups(target):
    """Each page, parsed; of the long texts that hold pictures and style sheets, the beginning."""
    found = {}
    for path in sorted(target.rglob("*.html")):
        text = re.sub(r"(;base64,\w{9})[\w+/=]+", r"\1", path.read_text(encoding="utf-8"))
        styles = re.findall(r"<style.*?</style>", text, re.DOTALL)
        assert not re.search(r"(@import|url\((?!['\"]?data:))", "".join(styles)), path.name
        found[path] = bs4.BeautifulSoup(re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL), "html.parser")
    return found


def test_every_notebook_and_sheet_is_a_page_whole_and_offline(target, soups):
    sources = [*ROOT.glob("notebooks/[0-9]*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")]
    assert {path.relative_to(target).with_suffix(".ipynb") for path in soups} == {
        path.relative_to(ROOT) for path in sources
    }
    for path, soup in soups.items():
        loaded = [tag.get("src") or tag.get("data") for tag in soup.select("[src], object[data]")]
        loaded += [tag["href"] for tag in soup.select("link[href]")]
        assert all(address.startswith("data:") for address in loaded), path.name


def test_formulas_are_drawn_and_figures_described(target, soups):
    for path, soup in soups.items():
        notebook = nbformat.read(ROOT / path.relative_to(target).with_suffix(".ipynb"), as_version=4)
        figures = [
            output
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if "image/png" in output.get("data", {})
        ]
        shown = soup.select("img[src^='data:image/png']")
        assert len(shown) == len(figures), path.name
        assert all(len(image["alt"]) > 40 for image in shown), path.name
        assert soup.select("math"), path.name
        assert not soup.select("merror"), path.name
        dollars = soup.find_all(string=re.compile(re.escape("$")))
        assert all(text.find_parent(["pre", "code", "script"]) for text in dollars), path.name


def test_links_lead_to_pages_and_to_the_repository(soups):
    for path, soup in soups.items():
        for link in soup.select("a[href]"):
            place, _, _ = link["href"].partition("#")
            if place and not re.match(r"[a-z]+:", place):
                assert Path(os.path.normpath(path.parent / place)).is_file(), (path.name, link["href"])
            assert ".ipynb" not in place or place.startswith("https:"), (path.name, link["href"])
