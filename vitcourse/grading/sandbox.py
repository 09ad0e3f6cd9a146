"""Run a program that may be hostile, with limits, and apart from everything that isn't its own.

On Linux with bubblewrap (Debian's package `bubblewrap`): no network, no other processes in sight, a file system that
is read-only but for one folder, and without the folders to hide. Elsewhere the limits of time, memory and file size
alone; `protection` says which of both.

Longer than 150 lines because a limit that stands elsewhere is a limit forgotten.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        seconds: on the clock.
        processor_seconds: of processor time, of each of its processes.
        memory: bytes of private memory.
        file_size: bytes of one file.
        disk: bytes of everything that it writes into its folder.
        processes: at a time, threads counted.
    """

    seconds: float = 60
    processor_seconds: int = 120
    memory: int = 4 * 2**30
    file_size: int = 64 * 2**20
    disk: int = 256 * 2**20
    processes: int = 200


LIMITS = Limits()


def protection() -> str:
    """ "bubblewrap", or "limits" where nothing better is here."""
    return "bubblewrap" if _works() else "limits"


def run(command: Sequence[str], folder: Path, hidden: Sequence[Path] = (), limits: Limits = LIMITS) -> str:
    """Run `command` in `folder`, the only place that it can write to; what it prints is thrown away.

    Args:
        hidden: folders that it sees empty.

    Returns:
        "" if it ended by itself, else what stopped it, in a few words.
    """
    wrapped = [*_wrap(folder, hidden), *command] if _works() else list(command)
    process = subprocess.Popen(
        wrapped,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=functools.partial(_limit, limits) if os.name == "posix" else None,
    )
    try:
        return _wait(process, folder, limits)
    finally:
        _kill(process)


def _wait(process: subprocess.Popen, folder: Path, limits: Limits) -> str:
    end = time.monotonic() + limits.seconds
    while process.poll() is None:
        if time.monotonic() > end:
            return f"stopped after {limits.seconds:g} s"
        if _written(folder) > limits.disk:
            return f"stopped: it wrote more than {limits.disk // 2**20} MiB"
        time.sleep(0.05)
    code = process.returncode
    if code in (-signal.SIGXCPU, 128 + signal.SIGXCPU) if os.name == "posix" else False:
        return f"stopped after {limits.processor_seconds} s of processor time"
    return f"it ended with code {code}" if code else ""


def _kill(process: subprocess.Popen) -> None:
    """The process and what it started; under bubblewrap the end of its first process is the end of all."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def _written(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total


def _limit(limits: Limits) -> None:
    import resource

    def at_most(kind: int, value: int) -> None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))

    at_most(resource.RLIMIT_CPU, limits.processor_seconds)
    at_most(resource.RLIMIT_FSIZE, limits.file_size)
    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_DATA, limits.memory)
    at_most(resource.RLIMIT_NPROC, limits.processes + _running())


def _running() -> int:
    """How many tasks of this user there are already: the limit counts them all."""
    uid, count = os.getuid(), 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == uid:
                        count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count


def _environment(folder: Path) -> dict[str, str]:
    kept = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "MPLCONFIGDIR": str(folder),
        "IPYTHONDIR": str(folder),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _wrap(folder: Path, hidden: Sequence[Path]) -> list[str]:
    """bubblewrap's command line; later options lie over earlier ones."""
    seen = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2] / "vitcourse"]
    options = [
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        str(Path.home()),
    ]
    for place in hidden:
        options += ["--tmpfs", str(place.resolve())]
    for place in seen:  # may lie in what was hidden
        options += ["--ro-bind", str(place.resolve()), str(place.resolve())]
    options += ["--bind", str(folder.resolve()), str(folder.resolve()), "--chdir", str(folder.resolve())]
    return ["bwrap", *options, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--"]


@functools.cache
def _works() -> bool:
    if shutil.which("bwrap") is None:
        return False
    trial = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(trial, capture_output=True, timeout=10, check=False).returncode == 0
    return False
