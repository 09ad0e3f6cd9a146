"""Run a program that may be hostile, with limits, and apart from everything that isn't its own.

On Linux with bubblewrap (Debian's package `bubblewrap`): no network, no other processes in sight, and a file system
that holds the system's programs, Python with its installed packages, this package and one folder that can be written.
Nothing else is there, whatever `sys.path` and the working folder of the grader are. Elsewhere the limits alone;
`protection` says which of both. Linux counts processes and their memory together, macOS each by itself, Windows has
the limits of time and disk.

Longer than 150 lines because a limit that stands elsewhere is a limit forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INSIDE = "/hand-in"  # what the program's folder is called under bubblewrap, so that no message holds a chance name
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/alternatives", "/etc/fonts"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/sys/devices/system/cpu"),
)
SOURCES = ("/usr/src", "/usr/local/src")  # seen empty: where containers keep a course
# What is seen of a folder that Python is installed in; a virtual environment can be made right where the course lies.
PARTS = ("bin", "lib", "lib32", "lib64", "libexec", "include", "share", "etc/fonts", "pyvenv.cfg")
PACKAGES = ("site-packages", "dist-packages")
PROGRESS = "progress"  # a file in the folder; the program writes it whenever it gets on


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Args:
        seconds: on the clock.
        silence: on the clock, without a new `PROGRESS`; by default a third of `seconds`, 40 at least.
        cell: on the clock, for a cell that isn't a check; kept by the program itself, by `silence` if it doesn't. By
            default a sixth of `seconds`, 20 at least.
        processor_seconds: of processor time, of each of its processes; by default as many as `seconds`.
        memory: bytes that no file holds, of each and of all of its processes; shared ones count in each of them.
        file_size: bytes of one file.
        disk: bytes of everything that it writes into its folder, or keeps open without a name; a file counts 4096 at
            least. Under bubblewrap (0.7 or later) /tmp and /dev/shm hold as much again, each.
        processes: at a time.
        apart: refuse to run without bubblewrap, for a machine that was told so by another.

    Raises:
        ValueError: a limit of 0 or less.
    """

    seconds: float = 120
    silence: float | None = None
    cell: float | None = None
    processor_seconds: int | None = None
    memory: int = 4 * 2**30
    file_size: int = 64 * 2**20
    disk: int = 256 * 2**20
    processes: int = 100
    apart: bool = False

    def __post_init__(self) -> None:
        derived = {
            "silence": max(40, self.seconds / 3),
            "cell": max(20, self.seconds / 6),
            "processor_seconds": math.ceil(self.seconds),
        }
        for name, value in derived.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, value in vars(self).items():
            if name != "apart" and not value > 0:
                raise ValueError(f"{name} must be more than 0, got {value!r}.")


LIMITS = Limits()
LONG = 2000  # letters of a path, after which a folder is looked into from a handle


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Args:
        reason: what stopped it, or "".
        errors: the end of what it said before it closed its error stream.
        late: the time for all of it was up.
        started: it wrote a `PROGRESS` and was told what it can be told, whatever it did later.
    """

    reason: str
    errors: str
    late: bool = False
    started: bool = False


def protection() -> str:
    """ "bubblewrap", or "limits" where nothing better is here."""
    return "bubblewrap" if _works() else "limits"


def run(
    command: Sequence[str],
    folder: Path,
    hidden: Sequence[Path] = (),
    limits: Limits = LIMITS,
    told: bytes = b"",
) -> Ended:
    """Run `command` in `folder`, the only place that it can write to.

    Args:
        hidden: folders that it sees empty, should they lie in what it sees.
        told: what it can read from its standard input once its `PROGRESS` was seen; at most 4096 bytes.

    Raises:
        RuntimeError: `limits.apart`, and there is no bubblewrap here.
    """
    if limits.apart and not _works():
        raise RuntimeError("this machine has no bubblewrap that works: install it here, as on the machine that asks.")
    wrapped = [*_wrap(folder, hidden, limits), *command] if _works() else list(command)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            wrapped,
            cwd=folder,
            env=_environment(INSIDE if _works() else str(folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            preexec_fn=functools.partial(_limit, limits) if os.name == "posix" else None,
        )
        try:
            reason, late, started = _wait(process, folder, limits, told)
        finally:
            _kill(process)
            _tell(process, b"")
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 500))
        return Ended(reason, errors.read().decode("utf-8", "replace").strip(), late, started)


def read_back(path: Path, most: int) -> bytes:
    """The bytes of a file that a hostile program may have written: an ordinary file in an ordinary folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a link, a pipe, or larger than `most` bytes.
        OSError: it can't be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.parent.is_symlink():
        raise ValueError("a link")
    with open(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("too large")
    return content


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """A folder for a program, gone afterwards, whatever it did there."""
    folder = Path(tempfile.mkdtemp(prefix="vitcourse-")).resolve()
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder, **{"onexc" if sys.version_info >= (3, 12) else "onerror": _insist})
        except RecursionError:  # thousands of folders in each other
            subprocess.run(["rm", "-rf", str(folder)], check=False)


def _insist(function, path, _) -> None:
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)


def _wait(process: subprocess.Popen, folder: Path, limits: Limits, told: bytes) -> tuple[str, bool, bool]:
    """Why it ended, whether its time was up, and whether it ever said how far it was."""
    end, heard, progress = time.monotonic() + limits.seconds, time.monotonic(), None
    reason = late = None
    while reason is None and process.poll() is None:
        now, latest = time.monotonic(), _changed(folder / PROGRESS)
        if latest != progress:
            heard, progress = now, latest
            _tell(process, told)
        if late := now > end:
            reason = f"stopped after {limits.seconds:g} s in all"
        elif now > heard + limits.silence:
            reason = f"stopped after {limits.silence:g} s"
        else:
            reason = _too_much(process, folder, limits)
        if reason is None:
            time.sleep(0.1)
    if reason is None:
        code = process.returncode
        reason = f"it ended with code {code}" if code else ""
        if os.name == "posix" and code in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
            reason = f"stopped after {limits.processor_seconds} s of processor time"
    return reason, bool(late), process.stdin.closed


def _tell(process: subprocess.Popen, told: bytes) -> None:
    """Hand it over, once: nobody can take back that it was asked for."""
    if not process.stdin.closed:
        with contextlib.suppress(OSError), process.stdin as pipe:
            pipe.write(told)


def _too_much(process: subprocess.Popen, folder: Path, limits: Limits) -> str | None:
    """What it has used more of than it may."""
    family = list(_descendants(process.pid))
    if _too_much_written(folder, limits.disk - _without_a_name(family)):
        return f"stopped: it wrote more than {limits.disk // 2**20} MiB, or where nobody can look"
    if len(family) > limits.processes or sum(map(_memory, family)) > limits.memory:
        # One sentence: which comes first is chance.
        most = f"{limits.processes} processes, or {limits.memory // 2**20} MiB of memory in all of them"
        return f"stopped: it used more than {most}"
    return None


def _kill(process: subprocess.Popen) -> None:
    """The process and what it started; under bubblewrap the end of its first process is the end of all."""
    family = list(_descendants(process.pid))
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()


def _changed(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return None


def _too_much_written(folder: Path, most: int) -> bool:
    """Whether a folder holds more than `most` bytes; one that can't be looked into does."""
    total, left = 0, [(None, str(folder))]
    with contextlib.ExitStack() as opened:
        while left:
            try:
                base, path = left.pop()
                if len(path) > LONG and os.scandir in os.supports_fd:  # no path to a folder may be longer than 4096
                    base, path = _opened(base, path), "."
                    opened.callback(os.close, base)
                with _entries(base, path) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):  # gone again; the others still count
                            state = entry.stat(follow_symlinks=False)
                            total += max(getattr(state, "st_blocks", 0) * 512 or state.st_size, 4096)
                            left += [(base, f"{path}/{entry.name}")] if stat.S_ISDIR(state.st_mode) else []
                        if total > most:
                            return True
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # closed to us, or too deep
                    return True
    return total > most


def _opened(base: int | None, path: str) -> int:
    """A handle of the folder at `path` below the folder that `base` is a handle of."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=base)


@contextlib.contextmanager
def _entries(base: int | None, path: str) -> Iterator[Iterator[os.DirEntry]]:
    handle = None if base is None else _opened(base, path)
    try:
        with os.scandir(path if handle is None else handle) as entries:
            yield entries
    finally:
        if handle is not None:
            os.close(handle)


def _without_a_name(family: Sequence[int]) -> int:
    """Bytes of files that were removed and are still open, as far as Linux tells."""
    sizes = {}
    for pid in family:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    state = os.stat(f"/proc/{pid}/fd/{number}")
                    if stat.S_ISREG(state.st_mode) and state.st_nlink == 0:
                        sizes[state.st_dev, state.st_ino] = state.st_blocks * 512
    return sum(sizes.values())


def _descendants(pid: int) -> Iterator[int]:
    """A process and all that came from it, as far as Linux tells."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    yield from _descendants(int(child))


def _memory(pid: int) -> int:
    """Bytes of memory of a process that no file holds, as far as Linux tells: its own and shared ones."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        told = dict(line.split(":", 1) for line in file if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:")))
        return sum(int(value.split()[0]) * 1024 for value in told.values())
    return 0


def _limit(limits: Limits) -> None:
    import resource

    def at_most(kind: int, value: int, more: int = 0) -> None:
        _, hard = resource.getrlimit(kind)
        low, high = (limit if hard == resource.RLIM_INFINITY else min(limit, hard) for limit in (value, value + more))
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (low, high))

    at_most(resource.RLIMIT_CPU, limits.processor_seconds, 2)  # a signal that has a name comes before SIGKILL
    at_most(resource.RLIMIT_FSIZE, limits.file_size)
    at_most(resource.RLIMIT_CORE, 0)
    at_most(resource.RLIMIT_DATA, limits.memory)
    at_most(resource.RLIMIT_NPROC, 4 * limits.processes + _running())


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


def _environment(folder: str) -> dict[str, str]:
    kept = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
    own = ("HOME", "TMPDIR", "TEMP", "TMP", "USERPROFILE", "MPLCONFIGDIR", "IPYTHONDIR")
    return (
        {name: os.environ[name] for name in kept if name in os.environ}
        | dict.fromkeys(own, folder)
        | {
            "PYTHONPATH": os.pathsep.join(map(str, [PACKAGE.parent, *_libraries()])),
            "MPLBACKEND": "Agg",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "passive",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
    )


def _python() -> list[Path]:
    """What Python itself consists of."""
    prefixes = dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    return [Path(prefix, part) for prefix in prefixes for part in PARTS]


def _libraries() -> list[Path]:
    """Where this Python imports what is installed from; never a working folder, which holds whatever it holds."""
    places = [Path(place) for place in sys.path if os.path.isabs(place) and os.path.exists(place)]
    python = _python()
    return [place for place in places if place.name in PACKAGES or any(map(place.is_relative_to, python))]


def _wrap(folder: Path, hidden: Sequence[Path], limits: Limits = LIMITS) -> list[str]:
    """bubblewrap's command line; later options lie over earlier ones."""
    search = [Path(place) for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isabs(place)]
    python = [*_python(), *_libraries(), *search]
    own = [*python, *(place.resolve() for place in python), PACKAGE]
    seen = [*map(Path, SYSTEM), *own]
    size = ["--size", str(limits.disk)] if _takes("--size", "4096", "--tmpfs", "/tmp") else []
    options = ["--dev", "/dev", "--proc", "/proc", *size, "--tmpfs", "/tmp", *size, "--tmpfs", "/dev/shm"]
    empty = [Path(place) for place in SOURCES if os.path.isdir(place)]
    for place in SYSTEM:
        options += ["--ro-bind-try", place, place]
    for place in empty:
        options += ["--tmpfs", str(place)]
    for place in dict.fromkeys(own):
        options += ["--ro-bind-try", str(place), str(place)]
    for place in sorted({place.resolve() for place in hidden}):  # a folder before what lies in it
        inside = any(map(place.is_relative_to, seen))
        if place.is_dir() and inside and not PACKAGE.is_relative_to(place):
            options += ["--tmpfs", str(place)]
            empty.append(place)
    options += ["--bind", str(folder.resolve()), INSIDE, "--chdir", INSIDE]
    for place in ("/dev", *empty, "/"):  # what is left of them is memory: nothing more can be put there
        options += ["--remount-ro", str(place)]
    alone = ["--unshare-user", "--disable-userns"]  # no namespace in which it could mount more of it
    options += ["--unshare-all", *(alone if _takes(*alone) else [])]
    return ["bwrap", *options, "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--"]


def _works() -> bool:
    return _takes()


@functools.cache
def _takes(*options: str) -> bool:
    """Whether there is a bubblewrap that works here with these options; those before version 0.8 lack some."""
    if shutil.which("bwrap") is None:
        return False
    trial = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *options, "--unshare-all", "true"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(trial, capture_output=True, timeout=10, check=False).returncode == 0
    return False
