"""What Colab needs of a notebook: its badge, the set-up cell, and nothing that only works elsewhere."""

import re
from pathlib import Path

import pytest

from vitcourse.authoring import address, notebooks

ROOT = Path(__file__).parent.parent
PATHS = [*sorted(ROOT.glob("notebooks/[0-9]*.ipynb")), *sorted(ROOT.glob("exercises/*/*.ipynb"))]
SET_UP = next(c.source for c in notebooks.read(PATHS[0]).cells if c.cell_type == "code")
PLACE = f"https://colab.research.google.com/github/{address.current(ROOT)}/blob/main/"


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_card_has_the_badge_of_this_file_and_the_first_code_cell_sets_up(path):
    cells = notebooks.read(path).cells
    (picture, link), *others = re.findall(r"\[!\[Open in Colab\]\(([^)]*)\)\]\(([^)]*)\)", cells[0].source)
    assert not others
    assert link == PLACE + named(path)
    assert (path.parent / picture).is_file()
    assert next(cell.source for cell in cells if cell.cell_type == "code") == SET_UP


def test_the_readme_has_the_same_badges():
    links = re.findall(re.escape(PLACE) + r"([^)]*)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links == [named(path) for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_no_magic_but_the_set_up_and_no_shell(path):
    cells = [c.source for c in notebooks.read(path).cells if c.cell_type == "code" and c.source != SET_UP]
    assert not [line for source in cells for line in source.splitlines() if re.match(r"\s*[%!]", line)]


def test_the_set_up_installs_nothing_where_the_course_is_and_refuses_a_placeholder():
    plain = SET_UP.replace("%pip install", "raise SystemError  # %pip install")
    exec(plain, {})
    missing = plain.replace('find_spec("vitcourse")', 'find_spec("no_such_course")')
    with pytest.raises(RuntimeError, match=r"README\.md, Colab"):
        exec(missing.replace(address.current(ROOT), "OWNER/vitcourse"), {})
    with pytest.raises(SystemError):
        exec(missing.replace("OWNER/vitcourse", "someone/vitcourse"), {})
