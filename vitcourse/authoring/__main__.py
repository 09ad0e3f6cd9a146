"""The maintainers' command line: `python -m vitcourse.authoring COMMAND`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitcourse.authoring import address, notebooks, sheets, translation
from vitcourse.files import written_whole


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it went well."""
    parser = argparse.ArgumentParser(prog="python -m vitcourse.authoring", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("execute", help="run notebooks from top to bottom and keep their outputs")
    run.add_argument("notebooks", type=Path, nargs="+")
    form = commands.add_parser("normalise", help="bring notebooks into their normal form")
    form.add_argument("notebooks", type=Path, nargs="+")
    form.add_argument("--check", action="store_true", help="only say which ones are not")
    picture = commands.add_parser("picture", help="save the picture that a cell shows, for the README")
    picture.add_argument("notebook", type=Path)
    picture.add_argument("cell", help="the cell's id")
    picture.add_argument("target", type=Path)
    commands.add_parser("sheets", help="generate exercises/ from solutions/")
    pages = commands.add_parser("pages", help="write every notebook and sheet as a page to read without a network")
    pages.add_argument("target", type=Path, help="the folder for the pages")
    other = commands.add_parser("translate", help="make or refresh a translation, and say what is still to translate")
    other.add_argument("notebook", type=Path, help="the original, such as notebooks/00-start-here.ipynb")
    other.add_argument("language", help="two letters, such as es")
    other.add_argument("--done", nargs="+", default=[], metavar="ID", help="cells that are translated as they are")
    stamp = commands.add_parser("stamp", help="write the repository's address everywhere")
    stamp.add_argument("address", help="owner/name")
    options = parser.parse_args(arguments)
    try:
        return globals()[f"_{options.command}"](options)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _execute(options: argparse.Namespace) -> int:
    for path in options.notebooks:
        notebooks.execute(path)
        print(path)
    return 0


def _normalise(options: argparse.Namespace) -> int:
    different = [path for path in options.notebooks if not notebooks.is_normal(path)]
    for path in different:
        print(path)
        if not options.check:
            notebooks.write(notebooks.read(path), path)
    return int(options.check and bool(different))


def _translate(options: argparse.Namespace) -> int:
    for cell in translation.translate(options.notebook, options.language, options.done):
        print(cell)
    return 0


def _picture(options: argparse.Namespace) -> int:
    with written_whole(options.target) as temporary:
        temporary.write_bytes(notebooks.picture(notebooks.read(options.notebook), options.cell))
    return 0


def _sheets(_: argparse.Namespace) -> int:
    for path in sheets.generate(Path(), Path("exercises")):
        print(path)
    return 0


def _pages(options: argparse.Namespace) -> int:
    from vitcourse.authoring import pages  # nbconvert is among the test tools

    for path in pages.write(Path(), options.target):
        print(path)
    return 0


def _stamp(options: argparse.Namespace) -> int:
    for path in address.stamp(Path(), options.address):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
