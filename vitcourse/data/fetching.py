"""Fetching a whole set, or unpacking it from an archive that is here already."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vitcourse.data import archives, cifar10, fashion_mnist
from vitcourse.data.download import fetch, file_md5


def fetch_cifar10(folder: Path | None = None, archive: Path | None = None) -> str:
    """Unpack `archive`, or one that lies in `folder`, or download one; and say where the set is.

    Raises:
        FileNotFoundError: no such archive.
        FileExistsError: something of the same name as in the archive is in `folder` already.
        ValueError: an archive that is damaged, or holds something else; nothing of it is kept.
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
    unpacked = archives.unpack(archive, folder, "CIFAR-10")
    try:
        place = cifar10.find(folder)[1]
    except FileNotFoundError:
        _remove(unpacked)
        raise ValueError(
            f"archive {str(archive)!r} holds {', '.join(path.name for path in unpacked) or 'nothing'}, which is no "
            f"CIFAR-10, and nothing of it was kept. Give --archive {cifar10.ARCHIVE} or {cifar10.JPEG_ARCHIVE}."
        ) from None
    if downloaded:
        archive.unlink()
    return f"CIFAR-10 is in {place}."


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


def _remove(entries: Sequence[Path]) -> None:
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
