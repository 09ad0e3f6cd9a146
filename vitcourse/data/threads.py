"""One function over many items, in threads, with a bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vitcourse.progress import ProgressBar

CHUNK = 64  # items a task: a task for each small file would cost as much as the file
MANY = 2000  # from here on a bar shows how far it is

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], chunk: int = CHUNK, title: str | None = None
) -> Iterator[Result]:
    """The results of `function`, in order, from as many threads as processors; a bar for many items with a `title`."""
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    show = title is not None and len(items) >= MANY
    with ProgressBar(total=len(items), desc=title, unit=" images", disable=not show) as bar:
        if len(chunks) < 2:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(min(len(chunks), _processors())) as pool:
            # After a failure `map` cancels what hasn't begun.
            for results in pool.map(lambda part: [function(item) for item in part], chunks):
                yield from results
                bar.update(len(results))


def _processors() -> int:
    available = getattr(os, "sched_getaffinity", None)  # Linux: what this process may use, as in a container
    return len(available(0)) if available else os.cpu_count() or 1
