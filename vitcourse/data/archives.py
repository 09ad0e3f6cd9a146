"""Unpacking .tar archives: all or nothing, and never outside the folder."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path

from vitcourse.data.download import FULL
from vitcourse.progress import ProgressBar


def unpack(archive: str | Path, folder: str | Path, title: str = "unpack") -> list[Path]:
    """Unpack a .tar archive into `folder`, all of it or nothing, and return what it put there.

    Names that lead out of the folder, devices and links to elsewhere are refused.

    Raises:
        FileExistsError: something of the same name is there already.
        ValueError: the archive is damaged or unsafe.
        OSError: the disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    if not hasattr(tarfile, "data_filter"):
        raise OSError("unpacking safely needs Python 3.11.4 or newer; unpack the archive yourself, with tar.")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacking-"))
    try:
        _extract(archive, temporary, title)
        entries = sorted(temporary.iterdir())
        taken = [entry.name for entry in entries if (folder / entry.name).exists()]
        if taken:
            raise FileExistsError(f"{str(folder)!r} already holds {', '.join(taken)}; move that away, then unpack.")
        return [entry.rename(folder / entry.name) for entry in entries]
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path, title: str) -> None:
    try:
        with tarfile.open(archive) as tar, ProgressBar(desc=title, unit=" files") as bar:
            for member in tar:
                tar.extract(member, folder, filter="data")
                bar.update()
    except tarfile.FilterError as error:
        raise ValueError(f"archive {str(archive)!r} is unsafe, and nothing of it was kept: {error}.") from None
    except OSError as error:
        if error.errno in FULL:
            raise OSError(f"the disk is full: {str(archive)!r} could not be unpacked; make room first.") from None
        if error.errno is not None:
            raise
        raise ValueError(f"archive {str(archive)!r} is damaged ({error}); fetch it again.") from None
    except Exception as error:  # each kind of compression has its own
        raise ValueError(f"archive {str(archive)!r} is damaged ({error}); fetch it again.") from None
