"""Where runs and downloaded data are kept: in Colab on Google Drive, which outlives the session, elsewhere here."""

from __future__ import annotations

import os
from pathlib import Path

DRIVE = Path("/content/drive/MyDrive")  # where Colab's `drive.mount("/content/drive")` puts it


def runs(name: str = "") -> Path:
    """The folder of all runs, or of the run `name`: in VITCOURSE_RUNS, else on a mounted Drive, else in `runs`."""
    return _place("VITCOURSE_RUNS", "runs", Path("runs")) / name


def data_home() -> Path:
    """The folder for data sets: VITCOURSE_DATA, else on a mounted Drive, else `~/.cache/vitcourse`."""
    return _place("VITCOURSE_DATA", "data", Path.home() / ".cache" / "vitcourse")


def _place(variable: str, on_drive: str, otherwise: Path) -> Path:
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser()
    return DRIVE / "vitcourse" / on_drive if DRIVE.is_dir() else otherwise
