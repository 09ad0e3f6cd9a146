"""`python -m vitcourse data`: which sets there are, fetching them, looking through them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vitcourse import data
from vitcourse.data import check, cifar10, fashion_mnist, yoga_82
from vitcourse.data.fetching import fetch_cifar10, fetch_fashion
from vitcourse.places import data_home
from vitcourse.validation import one_of

GENERATED = {"poses": "stick figures, 6 / 20 / 82 classes", "scenes": "coloured shapes, every pixel known"}
YOGA = f"""\
Yoga-82 can't be fetched by a command: its authors give lists of links, and the images belong to the sites they are on.
Ask for the lists at sites.google.com/view/yoga-82 and download what still exists, or take a copy that you may use.
Then the folder must look like this, and `python -m vitcourse data check yoga-82 --folder FOLDER` says what is missing:

{yoga_82.LAYOUT}

By default FOLDER is {{folder}}; the environment variable VITCOURSE_DATA moves it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the actions list, fetch and check."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the data sets, and which of them are here")
    fetching = actions.add_parser("fetch", help="download a set, or unpack it from an archive")
    fetching.add_argument("--archive", type=Path, help="an archive that is here already, such as from another machine")
    checking = actions.add_parser("check", help="open every image of a set; exit status 1 if something is wrong")
    for action in (fetching, checking):
        action.add_argument("name", help=f"one of {', '.join(data.NAMES)}")
        action.add_argument("--folder", type=Path, help="where the set is or shall be (default: see `data list`)")


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for: 0, or 1 if a set that was checked has a fault, or one can't be fetched (Yoga-82).

    Raises:
        OSError, ValueError: it went wrong, with one sentence that says why.
    """
    if options.action == "list":
        print(table())
        return 0
    one_of("name", options.name, data.NAMES)
    if options.action == "check":
        report = _check(options.name, options.folder)
        print(report)
        return 1 if report.faults else 0
    if options.archive and options.name != "cifar-10":
        raise ValueError(f"--archive is for cifar-10; {options.name} doesn't come in one.")
    if options.name == "cifar-10":
        print(fetch_cifar10(options.folder, options.archive))
    elif options.name == "fashion-mnist":
        print(fetch_fashion(options.folder))
    elif options.name == "yoga-82":
        print(YOGA.format(folder=yoga_82.default_folder()))
        return 1
    else:
        print(f"{options.name} is made when it is asked for; there is nothing to fetch.")
    return 0


def table() -> str:
    """All sets, a line each, in columns."""
    rows = [("name", "what", "train / validation / test", "size", "here", "rights")]
    for name in data.NAMES:
        if name == "fashion-mnist":
            what, rights = "grey clothes, 10 classes", "MIT licence"
            rows.append((name, what, "6,000 / 1,000 / 1,000", "3.5 MB", "comes with the course", rights))
            here = _where("fashion-mnist, complete", fashion_mnist.default_folder())
            rows.append(("  complete=True", "", "55,000 / 5,000 / 10,000", "31 MB", here, rights))
        elif name == "cifar-10":
            here = _where(name, cifar10.default_folder())
            what, rights = "colour photographs, 10 classes", "none stated, to be cited"
            rows.append((name, what, "47,500 / 2,500 / 10,000", "170 MB", here, rights))
        elif name == "yoga-82":
            here = _where(name, yoga_82.default_folder())
            rows.append((name, "yoga poses, 6 / 20 / 82 classes", "28,400 listed", "-", here, "the images' owners'"))
        else:
            module = sys.modules[data._SETS[name].__module__]
            counts = " / ".join(f"{module.COUNTS[split]:,}" for split in data.SPLITS)
            rows.append((name, GENERATED.get(name, "generated"), counts, "-", "made when asked for", "MIT licence"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [*lines, "", f"Sets are looked for in {data_home()}; the environment variable VITCOURSE_DATA moves it."]
    )


def _check(name: str, folder: Path | None) -> check.Report:
    checks = {"cifar-10": check.cifar_10, "fashion-mnist": check.fashion, "yoga-82": check.yoga}
    if name in checks:
        return checks[name](folder)
    if folder:
        raise ValueError(f"--folder is for sets that lie in one; {name} is made when it is asked for.")
    return check.loaded({split: data.load(name, split) for split in data.SPLITS})


def _where(name: str, default: Path) -> str:
    try:
        return f"yes, {data.FINDERS[name]()}"
    except FileNotFoundError:
        return f"no, not in {default}"
