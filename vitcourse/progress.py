"""A progress bar for the terminal and for notebooks, saved ones included."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class ProgressBar(tqdm):
    """tqdm's bar as plain text; in a notebook it is one output that is redrawn.

    tqdm's own notebook bar is a widget, of which a saved notebook shows nothing; its text bar leaves a line a step.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._handle = None
        in_notebook = _in_notebook()
        kwargs = {"leave": True, "ncols": 100, "mininterval": 0.5, "ascii": False} | kwargs
        if in_notebook:
            kwargs["file"] = _Silent()
        self._in_notebook = in_notebook
        super().__init__(*args, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if not self._in_notebook:
            super().display(msg, pos)
            return
        from IPython.display import display  # only there in a notebook

        text = {"text/plain": str(self) if msg is None else msg}
        if not text["text/plain"]:
            return
        if self._handle is None:
            self._handle = display(text, raw=True, display_id=True)
        else:
            self._handle.update(text, raw=True)

    def close(self) -> None:
        if self._in_notebook and not self.disable:
            self.display()  # the last state, which the saved notebook keeps
        super().close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Silent:
    """A file that keeps nothing: in a notebook the text goes to the display instead."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
