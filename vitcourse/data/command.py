"""`python -m vitcourse data`: which sets there are, fetching them, looking through them."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from vitcourse import data
from vitcourse.data import archives, check, cifar10, fashion_mnist, yoga_82, yoga_lists
from vitcourse.data.download import fetch, file_md5
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
    """Do what the options ask for: 0, or 1 if a set that was checked has a fault.

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
            here = _where(fashion_mnist.find, fashion_mnist.default_folder())
            rows.append(("  complete=True", "", "55,000 / 5,000 / 10,000", "31 MB", here, rights))
        elif name == "cifar-10":
            here = _where(lambda: cifar10.find()[1], cifar10.default_folder())
            what, rights = "colour photographs, 10 classes", "none stated, to be cited"
            rows.append((name, what, "47,500 / 2,500 / 10,000", "170 MB", here, rights))
        elif name == "yoga-82":
            here = _where(lambda: yoga_lists.find(yoga_82.default_folder()), yoga_82.default_folder())
            rows.append((name, "yoga poses, 6 / 20 / 82 classes", "28,400 listed", "-", here, "the images' owners'"))
        else:
            module = sys.modules[data._SETS[name].__module__]
            counts = " / ".join(f"{module.COUNTS[split]:,}" for split in data.SPLITS)
            rows.append((name, GENERATED.get(name, "generated"), counts, "-", "made when asked for", "MIT licence"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [*lines, "", f"Sets are looked for in {data.home()}; the environment variable VITCOURSE_DATA moves it."]
    )


def fetch_cifar10(folder: Path | None = None, archive: Path | None = None) -> str:
    """Unpack `archive`, or one that lies in `folder`, or download one; and say where the set is.

    Raises:
        FileNotFoundError: no such archive.
        ValueError: an archive that is damaged, or holds something else.
        OSError: no address gave the archive, or the disk is full.
    """
    folder = folder or cifar10.default_folder()
    if archive is None:
        with suppress(FileNotFoundError):
            return f"CIFAR-10 is here already: {cifar10.find(folder)[1]}."
        lying = [folder / name for name in (cifar10.ARCHIVE, cifar10.JPEG_ARCHIVE) if (folder / name).is_file()]
        archive = lying[0] if lying else None
    elif not archive.is_file():
        raise FileNotFoundError(f"archive {str(archive)!r} is not a file.")
    downloaded = archive is None
    if downloaded:
        archive = fetch(cifar10.URLS, folder / cifar10.ARCHIVE, cifar10.MD5, otherwise=cifar10.OFFLINE)
    elif archive.name == cifar10.ARCHIVE and (found := file_md5(archive)) != cifar10.MD5:
        raise ValueError(f"archive {str(archive)!r} has md5 {found} instead of {cifar10.MD5}: copy or fetch it again.")
    archives.unpack(archive, folder, "CIFAR-10")
    if downloaded:
        archive.unlink()
    return f"CIFAR-10 is in {cifar10.find(folder)[1]}."


def fetch_fashion(folder: Path | None = None) -> str:
    """Download the four files of the complete Fashion-MNIST, and say where they are.

    Raises:
        OSError: no address gave one of them, or the disk is full.
    """
    folder = folder or fashion_mnist.default_folder()
    otherwise = "Without a network, use the bundled subset, or Debian's package dataset-fashion-mnist."
    for name, md5 in fashion_mnist.MD5.items():
        fetch([host + name for host in fashion_mnist.HOSTS], folder / name, md5, otherwise=otherwise)
    return f"The complete Fashion-MNIST is in {folder}."


def _check(name: str, folder: Path | None) -> check.Report:
    checks = {"cifar-10": check.cifar_10, "fashion-mnist": check.fashion, "yoga-82": check.yoga}
    if name in checks:
        return checks[name](folder)
    if folder:
        raise ValueError(f"--folder is for sets that lie in one; {name} is made when it is asked for.")
    return check.loaded({split: data.load(name, split) for split in data.SPLITS})


def _where(find, default: Path) -> str:
    try:
        return f"yes, {find()}"
    except FileNotFoundError:
        return f"no, not in {default}"
