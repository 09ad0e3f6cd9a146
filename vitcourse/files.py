"""Files that are either whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside `path`, and rename it to `path` when the block ends well.

    A reader sees the old file or the new one, never a part. If the block raises, `path` stays as it was.

        with written_whole("marks.csv") as temporary:
            temporary.write_text(table)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # the bytes reach the disk before the name does
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a saved file has ordinary rights
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)  # "No space left on device" says where, too
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` in UTF-8 with Unix line ends, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def remove_leftovers(path: str | Path) -> None:
    """Remove what a process that was killed inside `written_whole(path)` left beside `path`."""
    path = Path(path)
    for leftover in path.parent.glob(f".{escape(path.name)}.*.part"):
        leftover.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
