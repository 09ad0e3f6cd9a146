"""Who does the work: processes of our own, or a Dask cluster. Whatever becomes of one job, the others are done."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol

import torch

Done = tuple[Any, Any]  # a job and its result, as they come


class Job(Protocol):
    """What a job must be able to say itself, where its worker can't."""

    def failed(self, problem: str) -> Done:
        """The job and a result that says what went wrong."""


def in_processes(function: Callable[[Job], Done], jobs: Sequence[Job], workers: int | None = None) -> Iterator[Done]:
    """In processes of our own, new ones and not copies; one that dies, say for want of memory, takes nothing along.

    Args:
        workers: processes at a time; by default one a core.
    """
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(function, jobs)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before they import torch: spinning threads slow each other
    left = list(jobs)
    while left:
        with _pool(workers) as pool:
            futures: dict[Future, Job] = {}
            try:
                with contextlib.suppress(BrokenProcessPool):  # one may die while the others are still to be handed out
                    futures.update((pool.submit(function, job), job) for job in left)
                for done in as_completed(futures):
                    with contextlib.suppress(BrokenProcessPool):
                        yield done.result()
                        left.remove(futures[done])
            finally:
                pool.shutdown(cancel_futures=True)
        # If one died, the pool is gone. It was among the first that are left, which start in order: those run alone.
        suspects, left = left[:workers], left[workers:]
        for job in suspects:
            with _pool(1) as alone:
                try:
                    yield alone.submit(function, job).result()
                except BrokenProcessPool:
                    yield job.failed("its process died")


def on_dask(address: str) -> Callable[[Callable, Iterable], Iterator]:
    """Hand the work to the Dask cluster at `address`, whose workers have this package and see nothing but the jobs.

    Raises:
        ImportError: `distributed` isn't installed.
        ConnectionError: nobody answers there.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError:
        raise ImportError("--dask needs the package distributed: install the extra teach.") from None

    def spread(function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
        try:
            client = Client(address)
        except OSError:
            raise ConnectionError(
                f"--dask {address}: no scheduler answers there; start one with `dask scheduler`, and give its address."
            ) from None
        with client:
            futures = {client.submit(function, job, pure=False): job for job in jobs}
            for done in completed(futures):
                if done.status == "finished":
                    yield done.result()
                else:
                    yield futures[done].failed(str(done.exception()))

    return spread


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
