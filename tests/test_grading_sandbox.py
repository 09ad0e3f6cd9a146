"""Each limit holds, and what isn't the program's own is out of its sight."""

import contextlib
import errno
import os
import socket
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from hostile_class import burst

from vitcourse.grading import sandbox
from vitcourse.grading.sandbox import Limits, read_back, run

apart = pytest.mark.skipif(sandbox.protection() != "bubblewrap", reason="needs bubblewrap")
posix = pytest.mark.skipif(os.name != "posix", reason="limits as Linux and macOS know them")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LARGE = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        break
x = b"x" * (2**27 - 2**20)
time.sleep(20)
"""
SHARED = """
import mmap, time
shared = mmap.mmap(-1, 2**29)
for place in range(0, 2**29, mmap.PAGESIZE):
    shared[place] = 1
time.sleep(20)
"""
UNLINKED = """
import os, time
files = []
for n in range(64):
    files.append(open("x", "wb"))
    os.remove("x")
    files[-1].write(b"x" * 2**20)
    files[-1].flush()
    time.sleep(0.02)
time.sleep(20)
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    while True:
        open("x", "w").write(str(time.time()))
while not os.path.exists("x"):
    time.sleep(0.01)
"""


def python(code, folder, **limits):
    told = limits.pop("told", b"")
    return run([sys.executable, "-c", code], folder, limits=Limits(**limits), told=told)


def test_it_runs_and_writes_into_its_folder(tmp_path):
    code = "open('progress', 'w').close()\nopen('x', 'w').write(input())\nprint('not kept')"
    ended = python(code, tmp_path, told=b"hello\n")
    assert ended == sandbox.Ended("", "", started=True)
    assert (tmp_path / "x").read_text() == "hello"


def test_its_last_words_are_kept(tmp_path):
    ended = python("import sys; sys.exit('too bad')", tmp_path)
    assert ended == sandbox.Ended("it ended with code 1", "too bad")


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        ({"seconds": 1}, "import time; time.sleep(60)", "stopped after 1 s in all"),
        ({"silence": 1}, "import time; time.sleep(60)", "stopped after 1 s"),
        pytest.param({"processor_seconds": 1}, "while True: pass", "1 s of processor time", marks=posix),
        ({"disk": 2**22}, "for n in range(10**6): open(f'x{n}', 'wb').write(b'x' * 2**18)", "more than 4 MiB"),
        ({"disk": 2**22}, "for n in range(10**6): open(f'x{n}', 'w').close()", "more than 4 MiB"),
        pytest.param({"processes": 30}, burst(60), "more than 30 processes, or", marks=linux),
        pytest.param({"disk": 2**22}, UNLINKED, "more than 4 MiB", marks=linux),
        pytest.param({"memory": 2**28}, LARGE, "256 MiB of memory", marks=linux),
        pytest.param({"memory": 2**28}, SHARED, "256 MiB of memory", marks=linux),
    ],
    ids=[
        *("time", "silence", "processor", "disk", "empty files", "processes", "files without a name"),
        *("memory of all", "shared memory"),
    ],
)
def test_limits(tmp_path, limits, code, said):
    started = time.monotonic()
    assert said in python(code, tmp_path, **limits).reason
    assert time.monotonic() - started < 15


def test_progress_is_heard(tmp_path):
    code = "import time\nfor n in range(8):\n    open('progress', 'w').write(str(n))\n    time.sleep(0.3)"
    assert python(code, tmp_path, silence=1.5).reason == ""


def test_who_has_started_cannot_take_it_back(tmp_path):
    code = "import os\nopen('progress', 'w').close()\ninput()\nos.remove('progress')"
    assert python(code, tmp_path, told=b"go\n").started
    assert not python("pass", tmp_path).started


def test_more_seconds_are_more_of_all():
    assert (Limits().silence, Limits().cell, Limits().processor_seconds) == (40, 20, 120)
    long, short = Limits(seconds=600), Limits(seconds=0.5)
    assert (long.silence, long.cell, long.processor_seconds) == (200, 100, 600)
    assert (short.silence, short.cell, short.processor_seconds) == (40, 20, 1)
    assert Limits(seconds=600, cell=3).cell == 3


@pytest.mark.parametrize("name", ["seconds", "silence", "cell", "processor_seconds", "memory", "disk"])
@pytest.mark.parametrize("value", [0, -3])
def test_limits_are_more_than_nothing(name, value):
    with pytest.raises(ValueError, match=f"{name} must be more than 0, got {value}"):
        Limits(**{name: value})


def test_a_folder_that_nobody_can_look_into_is_too_much(tmp_path, monkeypatch):
    assert not sandbox._too_much_written(tmp_path, 2**20)
    assert not sandbox._too_much_written(tmp_path / "gone", 2**20)

    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", closed)
    assert sandbox._too_much_written(tmp_path, 2**20)


@pytest.mark.skipif(os.scandir not in os.supports_fd, reason="needs folders opened by handle")
def test_folders_deeper_than_a_path_may_be_long_are_counted(tmp_path):
    handles = [os.open(tmp_path, os.O_RDONLY)]
    for _ in range(50):
        os.mkdir("x" * 200, dir_fd=handles[-1])
        handles.append(os.open("x" * 200, os.O_RDONLY, dir_fd=handles[-1]))
    with os.fdopen(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=handles[-1]), "wb") as file:
        file.write(b"x" * 2**20)
    for handle in handles:
        os.close(handle)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert not sandbox._too_much_written(tmp_path, 2**20 + 2**19)
    assert sandbox._too_much_written(tmp_path, 2**20)
    assert before in (0, len(os.listdir("/proc/self/fd")))


def test_a_file_that_is_gone_again_hides_no_other(tmp_path, monkeypatch):
    class Gone:
        def stat(self, follow_symlinks):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    (tmp_path / "x").write_bytes(b"x" * 2**16)
    with os.scandir(tmp_path) as entries:
        found = [Gone(), *entries]
    monkeypatch.setattr(os, "scandir", lambda _: contextlib.nullcontext(found))
    assert sandbox._too_much_written(tmp_path, 2**15)


@posix
@pytest.mark.parametrize(
    ("code", "limits"),
    [("bytearray(10 * 2**30)", {}), ("open('x', 'wb').write(b'x' * 2**22)", {"file_size": 2**20})],
)
def test_what_is_too_much_raises_in_the_program(tmp_path, code, limits):
    ended = python(f"try:\n    {code}\nexcept (MemoryError, OSError):\n    raise SystemExit(7)", tmp_path, **limits)
    assert ended.reason == "it ended with code 7"


@apart
def test_nothing_is_left_running(tmp_path):
    python(DAEMON, tmp_path)
    time.sleep(0.3)
    first = (tmp_path / "x").stat().st_mtime_ns
    time.sleep(0.3)
    assert (tmp_path / "x").stat().st_mtime_ns == first


SEEN = """
import os, sys
def there(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1))
    except OSError:
        return False
print(*[path for path in sys.argv[1:] if there(path)], file=sys.stderr)
"""


@apart
def test_what_is_not_its_own_is_out_of_sight(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for place in (mine, other):
        place.mkdir()
        (place / "x").write_text("1")
    repository = Path(__file__).parents[1]
    places = [
        other,
        other / "x",
        mine,
        Path.home() / ".gitconfig",
        repository / "solutions",
        repository / ".git",
        Path("/etc/shadow"),
    ]
    ended = run([sys.executable, "-c", SEEN, *map(str, places), "x", "/hand-in/x"], mine)
    assert ended.errors == "x /hand-in/x"


@apart
def test_what_the_grader_itself_imports_from_is_out_of_sight(tmp_path, monkeypatch):
    teaching, mine = tmp_path / "teaching", tmp_path / "mine"
    for place in (teaching, mine):
        place.mkdir()
        (place / "x").write_text("1")
    monkeypatch.syspath_prepend(teaching)  # as of `python -m vitcourse` in that folder
    monkeypatch.chdir(teaching)
    monkeypatch.setenv("LD_LIBRARY_PATH", "teaching:.:")
    ended = run([sys.executable, "-c", SEEN, str(teaching / "x"), "/hand-in/x"], mine)
    assert ended.errors == "/hand-in/x"
    monkeypatch.setattr(sys, "prefix", str(teaching))  # `python -m venv .`: only what makes Python up is seen
    (teaching / "lib").mkdir()
    (teaching / "lib" / "y").write_text("1")
    ended = run([sys.executable, "-c", SEEN, str(teaching / "x"), str(teaching / "lib" / "y")], mine)
    assert ended.errors == str(teaching / "lib" / "y")


@pytest.mark.skipif(not sandbox._takes("--size", "4096", "--tmpfs", "/tmp"), reason="needs bubblewrap 0.7")
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_memory_that_looks_like_files_has_an_end(tmp_path, place):
    code = f"for n in range(8):\n    open(f'{place}/{{n}}', 'wb').write(b'x' * 2**20)"
    assert python(code, tmp_path, disk=2**24).reason == ""
    assert "No space left" in python(code, tmp_path, disk=2**22).errors


@apart
@pytest.mark.parametrize("place", ["/x", "/dev/x", "/usr/src/x"])
def test_the_rest_can_only_be_read(tmp_path, place):
    assert (
        "Read-only"
        in python(
            f"import os\nif os.path.isdir(os.path.dirname({place!r})): open({place!r}, 'w')\n"
            "else: raise SystemExit('Read-only')",
            tmp_path,
        ).errors
    )


@apart
@pytest.mark.parametrize(
    "place", ["/usr/x", "/etc/x", "/x", str(Path(sandbox.__file__).parent / "x"), sys.prefix + "/x"]
)
def test_nothing_else_can_be_written(tmp_path, place):
    python(f"open({place!r}, 'w').write('x')", tmp_path)
    assert not Path(place).exists()


@apart
def test_no_server_can_be_reached(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        call = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert "refused" in python(call, tmp_path).errors
        with pytest.raises(TimeoutError):
            server.accept()


@apart
def test_hidden_folders_may_lie_in_each_other(tmp_path, monkeypatch):
    outer, folder = tmp_path / "course" / "grades", tmp_path / "apart"
    (inner := outer / "submissions").mkdir(parents=True)
    (inner / "a.ipynb").touch()
    folder.mkdir()
    monkeypatch.setattr(sandbox, "SYSTEM", (*sandbox.SYSTEM, str(outer.parent)))
    code = f"import os; open('seen', 'w').write(str([*os.walk({str(outer)!r})]))"
    for hidden in ([inner, outer], [outer, inner]):
        ended = run([sys.executable, "-c", code], folder, hidden)
        assert not ended.reason, ended
        assert "grades" in (folder / "seen").read_text()
        assert "a.ipynb" not in (folder / "seen").read_text()


@apart
def test_no_other_process_is_seen(tmp_path):
    code = "import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]), 'SECRET' in os.environ)"
    os.environ["SECRET"] = "x"
    ended = python(f"import sys; sys.stdout = sys.stderr; {code}", tmp_path)
    del os.environ["SECRET"]
    assert ended.errors == "2 False"


def test_a_hidden_folder_inside_what_is_seen(tmp_path):
    hidden = Path(sysconfig.get_path("purelib")).parent
    options = sandbox._wrap(tmp_path, [hidden, tmp_path / "elsewhere"])
    assert ["--tmpfs", str(hidden.resolve())] == options[options.index(str(hidden.resolve())) - 1 :][:2]
    assert str(tmp_path / "elsewhere") not in options


def test_without_bubblewrap_it_still_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_works", lambda: False)
    assert sandbox.protection() == "limits"
    with pytest.raises(RuntimeError, match="no bubblewrap that works: install it here"):
        python("pass", tmp_path, apart=True)
    assert python("open('x', 'w').write('1')", tmp_path).reason == ""
    assert python("import time; time.sleep(30)", tmp_path, seconds=1).reason == "stopped after 1 s in all"


@posix
def test_a_folder_goes_away_whatever_is_in_it():
    with sandbox.new_folder() as folder:
        (folder / "locked").mkdir()
        (folder / "locked" / "x").touch()
        (folder / "locked").chmod(0)
        here = os.open(folder, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        assert not sandbox._too_much_written(folder / "d", 2**30)
        assert sandbox._too_much_written(folder / "d", 2**20)  # 3,000 times 4096
    assert not folder.exists()


def test_read_back(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_back(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ValueError, match="too large"):
        read_back(tmp_path / "x", 4)
    with pytest.raises(FileNotFoundError):
        read_back(tmp_path / "y", 4)
