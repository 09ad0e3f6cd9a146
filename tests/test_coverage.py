"""notebooks/README.md says where everything is answered: its links, sections, titles and fields are really there."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from vitcourse import ViTConfig
from vitcourse.authoring import notebooks
from vitcourse.training import TrainingConfig

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = {path.name[:2]: path for path in sorted(FOLDER.glob("[0-9]*.ipynb"))}
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
ADDRESSES = dict(re.findall(r"^\[(.+?)\]: (\S+)$", TEXT, flags=re.MULTILINE))
# "[07], section 3, *Thirteen fields*; sections 4 and 5": a notebook, then its sections until the next notebook.
PLACE = re.compile(r"\[(?P<notebook>\d\d)\]|\bsections? (?P<numbers>\d+(?:(?:, | and )\d+)*)(?:, \*(?P<title>.+?)\*)?")
VERDICTS = {"agrees", "contradicts", "undecided", "not measurable here"}


def part(title):
    """The text under one heading, up to the next."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def rows(title):
    """The cells of each row under one heading, the tables' own headings too."""
    lines = re.findall(r"^\| (.+) \|$", part(title), flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def places():
    """(notebook, section, title or None) wherever a section of a notebook is named."""
    for line in TEXT.splitlines():
        for cell in line.split("|"):
            notebook = None
            for match in PLACE.finditer(cell):
                notebook = match["notebook"] or notebook
                if notebook and match["numbers"]:
                    numbers = re.findall(r"\d+", match["numbers"])
                    yield from ((notebook, int(n), match["title"] if n == numbers[-1] else None) for n in numbers)


@pytest.fixture(scope="module")
def headings():
    """{notebook: {section: title}}"""
    found = {}
    for number, path in PATHS.items():
        prose = "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")
        sections = re.findall(r"^## (\d+) (.+)$", prose, flags=re.MULTILINE)
        found[number] = {int(section): title.strip() for section, title in sections}
    return found


def test_every_notebook_is_linked():
    for number, path in PATHS.items():
        assert ADDRESSES[number] == path.name
        assert re.search(rf"\[{number}\](?!:)", TEXT), number


def test_links_lead_to_files_and_every_name_has_an_address():
    inline = re.findall(r"\]\(([^)#]+)", TEXT)
    for target in [*inline, *ADDRESSES.values()]:
        assert target.startswith("https://") or (FOLDER / target).is_file(), target
    used = set(re.findall(r"(?<!\[)\[(\d\d|[a-z]+)\](?![:(])", TEXT))
    assert used == set(ADDRESSES)


def test_sections_are_there_with_the_titles_that_the_page_gives(headings):
    named = list(places())
    assert len(named) > 150
    for notebook, section, title in named:
        assert section in headings[notebook], (notebook, section)
        assert title in (None, headings[notebook][section]), (notebook, section, title)


def test_every_section_of_every_notebook_is_named(headings):
    named = {(notebook, section) for notebook, section, _ in places()}
    for notebook, sections in headings.items():
        missing = [n for n in sections if n and (notebook, n) not in named]
        assert not missing, (notebook, missing)


def test_parts_of_the_experiments_are_there():
    text = (FOLDER / ADDRESSES["experiments"]).read_text(encoding="utf-8")
    named = set(re.findall(r"\[experiments\], \*(.+?)\*", TEXT))
    assert named
    for title in named:
        assert re.search(rf"^## {re.escape(title)}", text, flags=re.MULTILINE), title


def test_rows_are_complete():
    assert "[[" not in TEXT
    asked, moved, claimed = rows("Questions"), rows("Hyper-parameters"), rows("Published claims")
    assert 60 <= len(asked) - 1 <= 92
    assert {len(row) for row in asked} == {2}
    assert {len(row) for row in moved} == {4}
    assert {len(row) for row in claimed} == {4}
    assert {row[-1].strip("[]") for row in claimed[1:]} == VERDICTS


def test_every_hyper_parameter_has_its_row():
    named = [row[0].strip("`") for row in rows("Hyper-parameters") if row[0].startswith("`")]
    model = [field.name for field in fields(ViTConfig)]
    assert model[12] == "use_faster_attention"
    assert sorted(named) == sorted([*model, *(field.name for field in fields(TrainingConfig))])
