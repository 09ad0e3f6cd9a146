"""Fetching a file from the network, so that a break never costs what came before it."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from vitcourse.progress import ProgressBar

TIMEOUT = 30.0  # seconds without a single byte
BLOCK = 1 << 16
FULL = (errno.ENOSPC, errno.EDQUOT) if hasattr(errno, "EDQUOT") else (errno.ENOSPC,)


def fetch(urls: Sequence[str], path: str | Path, md5: str, *, otherwise: str, timeout: float = TIMEOUT) -> Path:
    """Download one file, of which all `urls` are copies, to `path`; a whole one that is there already is kept.

    The bytes go to `path` + ".part". A break, a full disk or Ctrl-C keeps that file, and the next call, or the next
    address, goes on from its end. Only a file with the right `md5` gets its name; any other is deleted.

    Args:
        otherwise: one sentence for the message of failure: what to do without a network.
        timeout: seconds after which a silent server is given up.

    Raises:
        ConnectionError: none of the addresses gave the file.
        OSError: the disk is full, or the folder can't be written.
    """
    path = Path(path)
    if path.is_file() and file_md5(path) == md5:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):  # else every address would seem to be at fault
        raise PermissionError(f"folder {str(path.parent)!r} can't be written; choose another, or set VITCOURSE_DATA.")
    part = path.with_name(path.name + ".part")
    if part.is_file() and file_md5(part) == md5:  # ended between the last byte and the name
        os.replace(part, path)
        return path
    failures = []
    for url in urls:
        failure = _fetch_from(url, part, md5, timeout)
        if failure is None:
            os.replace(part, path)
            return path
        failures.append(f"{urlsplit(url).hostname}: {failure}")
    kept = f" What came so far is kept; fetching again goes on from {_megabytes(_size(part))}." if _size(part) else ""
    raise ConnectionError(f"{path.name!r} could not be fetched ({'; '.join(failures)}).{kept} {otherwise}")


def file_md5(path: str | Path) -> str:
    """The md5 checksum of a file, as a text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _fetch_from(url: str, part: Path, md5: str, timeout: float) -> str | None:
    """Fill `part` from one address; None, or why it failed. Tries again as long as each try brings new bytes."""
    while True:
        before = _size(part)
        try:
            _append(url, part, timeout)
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in FULL:
                raise OSError(
                    f"the disk is full: {str(part)!r} has {_megabytes(_size(part))} so far; make room and fetch again, "
                    "which goes on from there."
                ) from None
            if isinstance(error, urllib.error.HTTPError) and error.code == 416 and before:
                part.unlink()  # longer than the file it should become a part of
                continue
            if _size(part) > before:
                continue
            return _reason(error)
        found = file_md5(part)
        if found == md5:
            return None
        part.unlink()
        if not before:  # a part from another time or place may have been the bad one: then once more from the start
            return f"another file than expected, with md5 {found} instead of {md5}; it was deleted"


def _append(url: str, part: Path, timeout: float) -> None:
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "vitcourse", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        length = answer.headers.get("Content-Length")
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if goes_on else 0  # many servers ignore Range and send everything
        total = start + int(length) if length and length.isdigit() else None
        title = part.name.removesuffix(".part")
        with (
            part.open("ab" if goes_on else "wb") as file,
            ProgressBar(total=total, initial=start, unit="B", unit_scale=True, desc=title) as bar,
        ):
            while block := answer.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    if total is not None and _size(part) < total:
        raise ConnectionError(f"broke off after {_megabytes(_size(part))} of {_megabytes(total)}")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {error.reason}"
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
