"""course.py on machines of every sort, without installing PyTorch and without a network.

Most tests import a copy of course.py that stands in a folder of its own and replace what it runs. Those
that use `installed` are the real thing, with tiny wheels in the place of torch, JupyterLab and pytest.
"""

import ast
import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tokenize
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

REPO = Path(__file__).parents[1]
SOURCE = (REPO / "course.py").read_text(encoding="utf-8")
PINS = "# the pair\nnumpy==2.0\ntorch==9.1\ntorchvision==9.2 ; python_version > '3'\njupyterlab==9.3\npytest==9.4\n"
posix = pytest.mark.skipif(os.name != "posix", reason="signals and file locks as on Linux and macOS")


def load(folder):
    """Import the course.py of a folder as a module of its own."""
    spec = importlib.util.spec_from_file_location("course_copy", folder / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of three files, under a path with a space and accents, where no test reaches an index."""
    folder = tmp_path / "señal y datos"
    folder.mkdir()
    (folder / "course.py").write_text(SOURCE, encoding="utf-8")
    (folder / "requirements.txt").write_text(PINS, encoding="utf-8")
    (folder / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    for name in [name for name in os.environ if name.startswith(("PIP_", "OMP_"))]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def course(folder, monkeypatch):
    """The module, with a recorder in the place of every command; `course.fail` names titles that fail."""
    course = load(folder)
    course.calls, course.fail = [], set()

    def logged(title, command):
        state = course.read_state()
        course.calls.append(SimpleNamespace(title=title, command=command, state=state, held=list(course.held)))
        if title == "Making .venv":
            Path(course.PYTHON).parent.mkdir(parents=True)
            Path(course.PYTHON).touch()
        for pin in re.findall(r"(torch|torchvision)==(\S+)", " ".join(command)):
            put(course, *pin)
        if title in course.fail:
            raise course.Problem(title + " failed")

    monkeypatch.setattr(course, "logged", logged)
    monkeypatch.setattr(course, "wants_cpu_build", lambda: False)
    return course


def site_packages(course):
    return Path(course.sysconfig.get_path("purelib", "venv", vars={"base": course.VENV, "platbase": course.VENV}))


def put(course, name, version):
    """Pretend that a version of a package, and no other, is installed."""
    site = site_packages(course)
    site.mkdir(parents=True, exist_ok=True)
    for old in site.glob(name + "-*.dist-info"):
        old.rmdir()
    (site / f"{name}-{version}.dist-info").mkdir()


def titles(course):
    return [call.title for call in course.calls]


# --- Old and new Pythons ------------------------------------------------------------------------------


def too_new_for_python_2(source):
    """Return the lines that Python 2.7 could not parse, each with the reason."""
    found = []
    forbidden = (
        (ast.JoinedStr, "f-string"),
        (ast.AnnAssign, "annotation"),
        (ast.NamedExpr, ":="),
        (ast.Nonlocal, "nonlocal"),
        (ast.YieldFrom, "yield from"),
        ((ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await), "async"),
        (ast.Match, "match"),
        (ast.MatMult, "@"),
    )
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        found += [(line, name) for kind, name in forbidden if isinstance(node, kind)]
        if isinstance(node, ast.arguments):
            every = [*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg]
            if node.kwonlyargs or node.posonlyargs or any(a and a.annotation for a in every):
                found.append((line, "arguments"))
        if isinstance(node, ast.FunctionDef) and node.returns:
            found.append((line, "annotation"))
        if isinstance(node, ast.Raise) and node.cause:
            found.append((line, "raise from"))
        if isinstance(node, ast.ClassDef) and node.keywords:
            found.append((line, "class keywords"))
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)) and any(isinstance(e, ast.Starred) for e in node.elts):
            found.append((line, "unpacking"))
        if isinstance(node, ast.Dict) and None in node.keys:
            found.append((line, "unpacking"))
        if isinstance(node, ast.Call):
            stars = [isinstance(a, ast.Starred) for a in node.args]
            if any(stars[:-1]) or [k.arg for k in node.keywords].count(None) > 1:
                found.append((line, "unpacking"))
    every = tokenize.generate_tokens(io.StringIO("\n" + source).readline)
    tokens = [token for token in every if token.type != tokenize.NL]
    tokens.insert(0, tokens[-1])
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.type == tokenize.NUMBER and "_" in token.string:
            found.append((token.start[0] - 1, "number with _"))
        if before.string == "with" and token.string == "(":
            found.append((token.start[0] - 1, "with (...)"))
        if token.string == "," and after.string == ")" and re.search(r"\*\*?[\w.]+$", token.line[: token.start[1]]):
            found.append((token.start[0] - 1, "comma after *arguments"))
    found += [(n, "not ASCII") for n, text in enumerate(source.splitlines(), 1) if not text.isascii()]
    return found


def test_python_2_can_parse_course_py():
    assert too_new_for_python_2(SOURCE) == []
    assert "from __future__ import print_function" in SOURCE


@pytest.mark.parametrize(
    "source",
    [
        "f'{x}'",
        "x: int = 1",
        "def f(x: int): pass",
        "def f() -> int: pass",
        "def f(*, x): pass",
        "def f(x, /): pass",
        "raise X from None",
        "[a, *b]",
        "{**a}",
        "f(*a, b)",
        "f(*a, *b)",
        "f(a, *b,)",
        "(x := 1)",
        "1_000",
        "with (a, b): pass",
        "class A(metaclass=B): pass",
        "a @ b",
        "x = 'é'",
    ],
)
def test_the_check_above_can_fail(source):
    assert too_new_for_python_2(source + "\n")


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8", "3.10"])
def test_an_old_python_says_one_sentence(version, folder):
    python = shutil.which("python" + version)
    # A version manager's placeholder is found, too, and says that it has no such version.
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, "course.py", "lab"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"This course needs Python 3\.11 to 3\.14, and this is Python {version}\.\d+: install .*\n", done.stderr
    )
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 13), (3, 15, 0), (4, 0, 0)])
def test_pythons_outside_the_tested_range_are_told_what_to_install(course, version):
    with pytest.raises(
        course.Problem,
        match=r"3\.11 to 3\.14.* is Python {}: install Python 3\.13 ".format("\\.".join(map(str, version))),
    ):
        course.check_python(version)


@pytest.mark.parametrize("minor", [11, 12, 13, 14])
def test_pythons_of_the_tested_range_are_accepted(course, minor):
    course.check_python((3, minor, 0, "final", 0))


def test_a_python_without_ensurepip_names_the_package(course, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    assert course.main(["lab"]) == 1
    package = "python{}.{}-venv".format(*sys.version_info)
    assert f"`sudo apt install {package}`" in capsys.readouterr().err
    assert not os.path.exists(course.VENV)


# --- What .venv is ------------------------------------------------------------------------------------


def make_ready(course, **changes):
    """A finished .venv as the last run left it."""
    Path(course.PYTHON).parent.mkdir(parents=True)
    Path(course.PYTHON).touch()
    put(course, "torch", "9.1+cpu")
    put(course, "torchvision", "9.2+cpu")
    state = {"state": "ready", "made_for": course.made_for(), "fingerprint": course.fingerprint()}
    state.update(extras=["lab"], torch="9.1+cpu", torchvision="9.2+cpu")
    course.write_state(dict(state, **changes))


def test_a_ready_environment_starts_without_running_anything(course):
    make_ready(course)
    course.prepare("lab")
    assert course.calls == []


def test_the_first_run_installs_the_pair_then_the_course_then_tries_it(course, monkeypatch, capsys):
    monkeypatch.setattr(course.sys, "_base_executable", "/base/python")
    course.prepare("lab")
    assert titles(course) == ["Making .venv", "Installing PyTorch", "Installing the course", "Trying PyTorch"]
    assert [call.state["state"] for call in course.calls] == ["installing"] * 4
    assert all(call.held for call in course.calls), "the lock was not held"
    make, torch, package, _ = (call.command for call in course.calls)
    assert make == ["/base/python", "-m", "venv", course.VENV]
    assert torch[1:] == ["-m", "pip", "--no-input", "install", "--no-deps", "torch==9.1", "torchvision==9.2"]
    assert package[1:] == ["-m", "pip", "--no-input", "install", "-c", "requirements.txt", "-e", ".[lab]"]
    assert course.read_state() == {
        "state": "ready",
        "made_for": course.made_for(),
        "fingerprint": course.fingerprint(),
        "extras": ["lab"],
        "torch": "9.1",
        "torchvision": "9.2",
    }
    assert capsys.readouterr().out.startswith("Making .venv and installing the course there")
    course.calls.clear()
    course.prepare("lab")
    assert course.calls == []


def test_the_tests_need_more_than_the_lab(course, capsys):
    make_ready(course)
    keepsake = Path(course.VENV, "keepsake")
    keepsake.touch()
    course.prepare("test")
    assert titles(course) == ["Installing the course", "Trying PyTorch"]
    assert course.calls[0].command[-1] == ".[lab,teach,test]"
    assert course.read_state()["extras"] == ["lab", "teach", "test"]
    assert keepsake.exists(), "made anew, not added to"
    assert "what `python course.py test` needs" in capsys.readouterr().out
    course.calls.clear()
    course.prepare("lab")
    assert course.calls == []


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_course_is_updated_in_place(course, folder, name, capsys):
    make_ready(course, extras=["lab", "teach", "test"])
    keepsake = Path(course.VENV, "keepsake")
    keepsake.touch()
    with open(folder / name, "a") as file:
        file.write("# changed\n")
    course.prepare("lab")
    assert titles(course) == ["Installing the course", "Trying PyTorch"]
    assert course.calls[0].command[-1] == ".[lab,teach,test]", "what was there before is updated, too"
    assert keepsake.exists()
    assert "The course has changed" in capsys.readouterr().out


def test_a_new_pin_of_torch_is_installed(course, folder):
    make_ready(course)
    (folder / "requirements.txt").write_text(PINS.replace("torch==9.1", "torch==9.5"))
    course.prepare("lab")
    assert "torch==9.5" in course.calls[0].command
    assert course.read_state()["torch"] == "9.5"


def test_another_torch_is_noticed_and_the_pair_reinstalled(course, capsys):
    make_ready(course)
    put(course, "torch", "9.0")
    course.prepare("lab")
    assert "torch 9.1+cpu with torchvision 9.2+cpu in .venv, and now torch 9.0 with" in capsys.readouterr().out
    assert course.calls[0].title == "Installing PyTorch"
    assert course.calls[0].command[-3:] == ["--force-reinstall", "torch==9.1", "torchvision==9.2"]
    assert course.read_state()["torch"] == "9.1"


def test_another_build_of_the_same_torch_is_replaced_too(course):
    make_ready(course)
    put(course, "torch", "9.1+cu126")
    course.prepare("lab")
    assert titles(course)[0] == "Installing PyTorch"
    assert course.read_state()["torch"] == "9.1"


def test_a_torch_that_has_gone_is_noticed(course, capsys):
    make_ready(course)
    (site_packages(course) / "torchvision-9.2+cpu.dist-info").rmdir()
    course.prepare("lab")
    assert "torchvision (missing) is there" in capsys.readouterr().out
    assert course.read_state()["torchvision"] == "9.2"


def test_torchvision_is_not_taken_for_torch(course):
    make_ready(course)
    for other in ("torchmetrics-1.0", "torch_geometric-2.0", "torch-9.1.data"):
        (site_packages(course) / (other + ".dist-info")).mkdir()
    assert course.installed_pair()["torchvision"] == "9.2+cpu"
    assert course.installed_pair()["torch"].split(" and ")[0] == "9.1+cpu"


@pytest.mark.parametrize("elsewhere", ["Python 3.10 (x86_64) in {}", "Python {} (x86_64) in /moved"])
def test_an_environment_for_another_python_or_folder_is_made_again(course, elsewhere, capsys):
    make_ready(course, made_for=elsewhere)
    litter = Path(course.VENV, "litter")
    litter.touch()
    course.prepare("lab")
    assert titles(course)[0] == "Making .venv"
    assert not litter.exists()
    assert f".venv was made for {elsewhere}: making it for {course.made_for()}." in capsys.readouterr().out


def test_what_an_environment_is_made_for(course, folder):
    assert course.made_for().startswith("Python {}.{} ".format(*sys.version_info))
    assert course.made_for().endswith(str(folder))


@pytest.mark.parametrize("state", ['{"state": "installing"}', '{"state"', "[]", "", "3"])
def test_our_half_made_environment_is_made_again(course, folder, state, capsys):
    make_ready(course)
    Path(course.STATE).write_text(state)
    litter = Path(course.VENV, "lib", "half", "a", "package")
    litter.mkdir(parents=True)
    course.prepare("lab")
    assert titles(course)[0] == "Making .venv"
    assert not litter.exists()
    assert not list(folder.glob(".venv-set-aside*"))
    assert "did not finish" in capsys.readouterr().out
    assert course.read_state()["state"] == "ready"


def test_an_environment_whose_python_has_gone_is_made_again(course):
    make_ready(course)
    os.remove(course.PYTHON)
    course.prepare("lab")
    assert titles(course)[0] == "Making .venv"


def test_a_deletion_that_is_interrupted_leaves_an_environment_that_is_ours(course, monkeypatch):
    make_ready(course)
    course.write_state({"state": "installing"})

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(course.shutil, "rmtree", interrupted)
    assert course.main(["lab"]) == 130
    assert course.read_state() == {"state": "installing"}


def test_deleting_does_not_follow_links_out_of_the_environment(course, folder):
    make_ready(course)
    course.write_state({"state": "installing"})
    outside = folder / "outside"
    outside.mkdir()
    (outside / "work").touch()
    try:
        os.symlink(outside, os.path.join(course.VENV, "link"), target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    course.prepare("lab")
    assert (outside / "work").exists()
    assert not os.path.lexists(os.path.join(course.VENV, "link"))


@pytest.mark.parametrize("kind", ["folder", "half-written", "file"])
def test_a_venv_that_is_not_ours_is_set_aside(course, folder, kind, capsys):
    venv = folder / ".venv"
    if kind == "file":
        venv.write_text("mine")
    else:
        venv.mkdir()
        (venv / ("pyvenv.cfg" if kind == "half-written" else "work")).write_text("mine")
    (folder / ".venv-set-aside-1").mkdir()
    course.prepare("lab")
    kept = folder / ".venv-set-aside-2"
    assert (kept if kind == "file" else next(kept.iterdir())).read_text() == "mine"
    assert "not from this command: it is now called .venv-set-aside-2" in capsys.readouterr().out
    assert course.read_state()["state"] == "ready"


def test_an_empty_venv_is_used(course, folder):
    (folder / ".venv").mkdir()
    course.prepare("lab")
    assert not list(folder.glob(".venv-set-aside*"))


def test_the_state_is_written_in_one_step(course, monkeypatch):
    course.write_state({"state": "ready"})

    def killed(state, file, **_):
        file.write('{"sta')
        raise KeyboardInterrupt

    monkeypatch.setattr(course.json, "dump", killed)
    with pytest.raises(KeyboardInterrupt):
        course.write_state({"state": "installing"})
    monkeypatch.undo()
    assert course.read_state() == {"state": "ready"}
    monkeypatch.setattr(course.os, "replace", lambda *_: None)
    course.write_state({"state": "installing"})
    assert course.read_state() == {"state": "ready"}, "written beside the one step"


def test_a_failed_update_leaves_the_old_environment_of_use(course, folder):
    make_ready(course)
    before = course.read_state()
    course.fail = {"Installing the course"}
    with pytest.raises(course.Problem):
        course.prepare("test")
    assert course.read_state() == before
    course.calls.clear()
    course.prepare("lab")
    assert course.calls == []


def test_an_interrupted_update_counts_as_half_made(course, monkeypatch, capsys):
    make_ready(course)

    def interrupted(title, command):
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "logged", interrupted)
    assert course.main(["test"]) == 130
    assert capsys.readouterr().err.strip() == ("Interrupted. Run the same command again: it goes on where it can.")
    assert course.diagnose(course.read_state(), "lab")[0] == "make"


def test_a_first_installation_that_fails_counts_as_half_made(course):
    course.fail = {"Installing PyTorch"}
    assert course.main(["lab"]) == 1
    assert course.read_state() == {"state": "installing"}


def test_what_the_system_refuses_is_one_sentence(course, monkeypatch, capsys):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(course, "write_state", refused)
    assert course.main(["lab"]) == 1
    error = capsys.readouterr().err
    assert "/some/file" in error
    assert error.count("\n") == 1


# --- PyTorch ------------------------------------------------------------------------------------------


def test_the_cpu_build_comes_without_its_dependencies(course, monkeypatch):
    monkeypatch.setattr(course, "wants_cpu_build", lambda: True)
    monkeypatch.setattr(course, "cpu_index_answers", lambda: True)
    course.prepare("lab")
    command = course.calls[1].command
    assert command[4:] == ["install", "--no-deps", "torch==9.1", "torchvision==9.2", "--index-url", course.CPU_INDEX]
    assert titles(course).count("Installing PyTorch") == 0


def test_when_the_cpu_index_cannot_serve_the_pair_the_registry_does(course, monkeypatch, capsys):
    monkeypatch.setattr(course, "wants_cpu_build", lambda: True)
    monkeypatch.setattr(course, "cpu_index_answers", lambda: True)
    course.fail = {"Installing PyTorch for the CPU"}
    monkeypatch.setattr(course, "installed_pair", lambda: {"torch": "(missing)", "torchvision": "(missing)"})
    course.prepare("lab")
    assert titles(course)[1:3] == ["Installing PyTorch for the CPU", "Installing PyTorch"]
    assert "--index-url" not in course.calls[2].command
    assert "could not serve torch==9.1 and torchvision==9.2" in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "answers"), [(True, False), (False, True)])
def test_otherwise_the_pair_comes_from_the_registry(course, monkeypatch, wanted, answers):
    monkeypatch.setattr(course, "wants_cpu_build", lambda: wanted)
    monkeypatch.setattr(course, "cpu_index_answers", lambda: answers)
    course.prepare("lab")
    assert not [call for call in course.calls if "--index-url" in call.command]


def test_who_wants_the_cpu_build(folder, monkeypatch):
    course = load(folder)
    devices = set()
    monkeypatch.setattr(course.os.path, "exists", lambda path: path in devices)
    for platform, expected in (("linux", True), ("darwin", False), ("win32", False)):
        monkeypatch.setattr(course.sys, "platform", platform)
        assert course.wants_cpu_build() is expected
    monkeypatch.setattr(course.sys, "platform", "linux")
    devices.add("/proc/driver/nvidia/version")
    assert not course.wants_cpu_build()
    devices.clear()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert not course.wants_cpu_build()


def test_a_pair_that_does_not_work_is_replaced_once(course, monkeypatch, capsys):
    record, tries = course.logged, []

    def logged(title, command):
        record(title, command)
        if title == "Trying PyTorch":
            tries.append(title)
            if len(tries) == 1:
                raise course.Problem("operator torchvision::nms does not exist")

    monkeypatch.setattr(course, "logged", logged)
    course.prepare("lab")
    assert titles(course)[3:] == ["Trying PyTorch", "Removing PyTorch", "Installing PyTorch", "Trying PyTorch"]
    assert course.calls[4].command[4:] == ["uninstall", "-y", "torch", "torchvision"]
    assert course.calls[5].command[4:] == ["install", "-c", "requirements.txt", "torch==9.1", "torchvision==9.2"]
    assert "do not work together: reinstalling the pair" in capsys.readouterr().out
    assert course.read_state()["state"] == "ready"


def test_a_pair_that_never_works_is_one_sentence(course, capsys):
    course.fail = {"Trying PyTorch"}
    assert course.main(["lab"]) == 1
    assert titles(course).count("Trying PyTorch") == 2
    assert capsys.readouterr().err == "Trying PyTorch failed\n"
    assert course.read_state() == {"state": "installing"}


@contextlib.contextmanager
def host(answer):
    """A host on this machine that does with each connection what `answer` says."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=guarded, args=(server.accept()[0],), daemon=True).start()

        def guarded(connection):
            with contextlib.suppress(OSError), connection:
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def silent(connection):
    time.sleep(20)


def trickling(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        time.sleep(0.1)
        connection.sendall(b"X-More: 1\r\n")


def answering(status):
    def answer(connection):
        connection.recv(1000)
        connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    return answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(silent, False), (trickling, False), (answering(200), True), (answering(404), False)],
    ids=["silent", "trickling", "200", "404"],
)
def test_the_probe_of_the_cpu_index_ends_in_time(folder, monkeypatch, answer, expected):
    course = load(folder)
    assert course.PROBE_SECONDS <= 4
    monkeypatch.setattr(course, "PROBE_SECONDS", 1)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with host(answer) as address:
        monkeypatch.setattr(course, "CPU_INDEX", address)
        begin = time.monotonic()
        assert course.cpu_index_answers() is expected
        assert time.monotonic() - begin < 4


def test_the_probe_of_a_closed_port_says_no(folder, monkeypatch):
    course = load(folder)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(course, "CPU_INDEX", f"http://127.0.0.1:{closed_port()}")
    assert course.cpu_index_answers() is False


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_course_py_names_one_address():
    assert re.findall(r"\S*://\S*", SOURCE) == ['"https://download.pytorch.org/whl/cpu"']


# --- Commands, their log, and what is said when they fail ---------------------------------------------

NO_NETWORK = """WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection
broken by 'NewConnectionError('<HTTPSConnection object>: Failed to establish a new connection: [Errno -2] Name or
service not known')': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch==9.1 (from versions: none)
ERROR: No matching distribution found for torch==9.1"""
NO_WHEEL = """ERROR: Could not find a version that satisfies the requirement torch==9.1 (from versions: 1.0)
ERROR: No matching distribution found for torch==9.1"""
CERTIFICATE = """WARNING: Retrying after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL:
CERTIFICATE_VERIFY_FAILED] certificate verify failed')))': /simple/torch/
ERROR: No matching distribution found for torch==9.1"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (NO_NETWORK, "The package index cannot be reached: connect to the internet"),
        ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "The package index cannot be reached"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "The disk is full: make room"),
        ("OSError: [WinError 112] There is not enough space on the disk", "The disk is full: make room"),
        ("OSError: [Errno 122] Disk quota exceeded", "The disk is full: make room"),
        (NO_WHEEL, "There is no torch==9.1 for Python {}.{}".format(*sys.version_info)),
        ("ERROR: torch-9-cp39.whl is not a supported wheel on this platform.", "There is no torch-9-cp39.whl for"),
        (CERTIFICATE, "The package index showed a certificate"),
        ("first\n  File x\nERROR: the very last", "Doing it failed: see "),
        ("", "Doing it failed: see "),
    ],
)
def test_the_output_of_a_failed_command_becomes_one_sentence(course, output, said):
    sentence = course.explain("Doing it", output)
    assert sentence.startswith(said)
    assert "\n" not in sentence
    assert "{" not in sentence


def test_a_failure_that_is_not_known_shows_its_last_line(course):
    sentence = course.explain("Doing it", "first\nsecond {braces}\nERROR: the very last {x}")
    assert sentence == f"Doing it failed: see {course.LOG}, whose last line is: ERROR: the very last {{x}}"


def test_a_command_writes_to_the_log_and_only_its_own_output_is_read(folder, capfd):
    course = load(folder)
    course.write_state({})
    course.logged("Working", [sys.executable, "-c", "print('No space left, ñ')"])
    with pytest.raises(course.Problem, match=r"^Failing failed: .* is: last words$"):
        course.logged("Failing", [sys.executable, "-c", "print('last words'); raise SystemExit(3)"])
    log = Path(course.LOG).read_text(encoding="utf-8")
    assert "No space left, ñ" in log
    assert "last words" in log
    lines = capfd.readouterr().out.splitlines()
    assert lines[::2] == ["Working ...", "Failing ..."]
    assert all(re.fullmatch(r"(Working|Failing) \.\.\. \d+ s", line) for line in lines[1::2])


def test_on_a_terminal_the_seconds_are_counted_in_one_line(course, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(course.sys, "stdout", terminal)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.7)"])
    course.show_progress("Working", child)
    assert re.fullmatch(r"Working \.\.\.(\rWorking \.\.\. \d s){2,}\n", terminal.getvalue())


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_course_py_ends_the_command_that_it_runs(folder, number):
    script = (
        "import course, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); course.write_state({});"
        "course.run = lambda _: course.logged('W', [sys.executable, '-c', 'import os, time; print(os.getpid(), "
        "flush=True); time.sleep(60)']); sys.exit(course.main([]))"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True)
    pid = int(wait_for(lambda: re.search(r"^(\d+)\n", read(folder / ".venv" / "install.log"), re.M)).group(1))
    run.send_signal(number)
    error = run.communicate(timeout=120)[1]
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in error
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def read(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def wait_for(condition, seconds=30):
    """Return what the condition returns, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain")


@posix
def test_a_second_run_waits_for_the_first(course, folder, capsys):
    first = load(folder)
    with first.one_at_a_time():
        second = threading.Thread(target=course.prepare, args=("lab",), daemon=True)
        second.start()
        time.sleep(0.3)
        assert course.calls == []
        make_ready(course)
    second.join(5)
    assert not second.is_alive()
    assert course.calls == [], "the first has done everything"
    assert "Another run of course.py is installing here: waiting" in capsys.readouterr().out


@posix
def test_a_pip_that_outlives_course_py_keeps_the_lock(folder):
    course = load(folder)
    course.write_state({})
    script = (
        "import course, os, sys; lock = course.one_at_a_time(); lock.__enter__();"
        "course.logged('W', [sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(3)'])"
    )
    run = subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.DEVNULL)
    wait_for(lambda: "\n1\n" in read(folder / ".venv" / "install.log"))
    run.kill()
    run.wait()
    with open(folder / ".venv-lock", "a") as file:
        assert not course.lock(file)
        wait_for(lambda: course.lock(file))


def test_what_commands_run_in(course, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    environment = course.environment()
    assert environment["PATH"].split(os.pathsep)[0] == os.path.dirname(course.PYTHON)
    assert environment["PYTHONUTF8"] == "1"
    assert environment["OMP_WAIT_POLICY"] == "passive"
    assert environment["VIRTUAL_ENV"] == course.VENV
    assert "PYTHONHOME" not in environment
    assert int(environment["PIP_DEFAULT_TIMEOUT"]) * (1 + int(environment["PIP_RETRIES"])) + course.PROBE_SECONDS <= 30
    assert not [name for name in environment if name.startswith("PIP_") and "INDEX" in name]


@pytest.mark.parametrize(
    "name", ["PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "OMP_WAIT_POLICY", "PIP_INDEX_URL"]
)
def test_what_the_user_has_set_counts(course, monkeypatch, name):
    monkeypatch.setenv(name, "77")
    environment = course.environment()
    assert environment[name] == "77"
    if name == "PIP_TIMEOUT":
        assert environment["PIP_DEFAULT_TIMEOUT"] == "77"


# --- The commands' arguments --------------------------------------------------------------------------


@pytest.fixture
def started(course, monkeypatch):
    """The commands that would have been started."""
    started = []
    monkeypatch.setattr(course, "start", lambda command: started.append(command) or 5)
    return started


@pytest.mark.parametrize("value", ["0", "65536", "-1", "80a", "", "8888.0", "123456", "٣"])
def test_bad_ports_are_one_sentence(course, started, value, capsys):
    assert course.main(["lab", f"--port={value}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"--port {value}: a port is a whole number from 1 to 65535")
    assert error.count("\n") == 1
    assert not os.path.exists(course.VENV)


def test_a_port_in_use_is_said_before_anything_is_installed(folder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "course.py", "lab", "--port", port]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Port {port} cannot be used (")
    assert done.stderr.count("\n") == 1
    assert not (folder / ".venv").exists()


def test_a_port_that_was_closed_a_moment_ago_is_free(course):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # the side that closes first keeps the port for a minute
    course.check_port(str(port))


def test_what_lab_starts(course, started, folder):
    port = str(closed_port())
    assert course.main(["lab", "--no-browser", "--port", port]) == 5
    command = started[0]
    assert command[:3] == [course.PYTHON, "-m", "jupyterlab"]
    assert "--ServerApp.root_dir=" + str(folder) in command
    assert "--LabApp.default_url=/lab/tree/notebooks/00-start-here.ipynb" in command
    assert "--no-browser" in command
    assert "--ServerApp.port=" + port in command
    assert "--ServerApp.port_retries=0" in command


def test_without_options_lab_opens_a_browser_on_any_port(course, started):
    course.main(["lab"])
    assert not [argument for argument in started[0] if "port" in argument or "browser" in argument]


@pytest.mark.parametrize(
    "arguments", [["-x"], ["-k", "a or b", "-x", "tests/test_course.py"], ["--all", "-n", "2", "--", "-odd"]]
)
def test_tests_get_the_remaining_arguments(course, started, arguments):
    assert course.main(["test", *arguments]) == 5
    expected = [argument for argument in arguments if argument != "--"]
    assert [a for a in started[0] if a != "--"] == [course.PYTHON, "-m", "pytest", *expected]


@pytest.mark.parametrize(("cores", "together"), [(8, ["-n", "2", "--dist", "loadscope"]), (1, []), (None, [])])
@pytest.mark.parametrize("wide", [[], ["--all"]])
def test_the_whole_gate_runs_in_two_processes_where_there_are_cores(
    course, started, monkeypatch, cores, together, wide
):
    monkeypatch.setattr(course.os, "cpu_count", lambda: cores)
    assert course.main(["test", *wide]) == 5
    assert started[0] == [course.PYTHON, "-m", "pytest", *together, *wide]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_usage(course, arguments, capsys):
    try:
        status = course.main(arguments)
    except SystemExit as leaving:
        status = leaving.code
    assert not status
    usage = capsys.readouterr().out
    assert re.search(r"^ +lab +open the course", usage, re.M)
    assert re.search(r"^ +test +run the tests", usage, re.M)


@pytest.mark.parametrize("arguments", [["lab", "--prot", "1"], ["lab", "notebook.ipynb"], ["--no-browser"]])
def test_options_that_do_not_exist_are_named(course, started, arguments, capsys):
    assert course.main(arguments) == 1
    wrong = arguments[1] if len(arguments) > 1 else arguments[0]
    assert capsys.readouterr().err.startswith(f"course.py does not know {wrong}: ")


def test_lab_neither_asks_for_news_nor_looks_for_updates(course, started):
    schema = Path(sys.prefix, "share/jupyter/lab/schemas/@jupyterlab/apputils-extension/notification.json")
    course.main(["lab"])
    path = Path(course.VENV, "share/jupyter/lab/settings/overrides.json")
    settings = json.loads(path.read_text())["@jupyterlab/apputils-extension:notification"]
    assert settings == {"fetchNews": "false", "checkForUpdates": False}
    path.write_text("{}")
    course.main(["lab"])
    assert path.read_text() == "{}", "the reader's own overrides were lost"
    if not schema.exists():
        pytest.skip("JupyterLab is not installed here")
    properties = json.loads(schema.read_text(encoding="utf-8"))["properties"]
    assert settings["fetchNews"] in [choice["const"] for choice in properties["fetchNews"]["oneOf"]]
    assert properties["checkForUpdates"]["type"] == "boolean"


def test_settings_are_written_whole_or_not_at_all(course, started, monkeypatch):
    def interrupted(value, file, **_):
        file.write('{"half')
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(course.json, "dump", interrupted)
        with pytest.raises(KeyboardInterrupt):
            course.switch_off_news()
    course.switch_off_news()
    path = Path(course.VENV, "share/jupyter/lab/settings/overrides.json")
    assert json.loads(path.read_text()), "half a file was kept"


# --- The real thing, with tiny wheels -----------------------------------------------------------------

TORCH = "class tensor(list):\n    def tolist(self): return list(self)\n"
TORCHVISION = "class ops:\n    nms = staticmethod(lambda boxes, scores, limit: type(boxes)([0]))\n"
PROGRAM = """import json, os, sys, time
if os.environ.get("FAKE") == "wait":
    try:
        print("running", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.3)
        sys.exit(0)
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "utf8": sys.flags.utf8_mode}))
sys.exit(6)
"""
BACKEND = """import zipfile
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "vitcourse-1-py3-none-any.whl", "vitcourse-1.dist-info/"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        for file, text in FILES.items():
            wheel.writestr(info + file, text)
    return name
FILES = {
    "METADATA": "Metadata-Version: 2.1\\nName: vitcourse\\nVersion: 1\\nProvides-Extra: lab\\nProvides-Extra: test\\n"
    "Provides-Extra: teach\\nRequires-Dist: torch\\nRequires-Dist: jupyterlab; extra == 'lab'\\n"
    "Requires-Dist: pytest; extra == 'test'\\n",
    "WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def make_wheel(where, name, version, file, text):
    info = f"{name}-{version}.dist-info/"
    files = {
        file: text,
        info + "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(content.encode())}\n"
    with zipfile.ZipFile(where / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in {**files, info + "RECORD": record + info + "RECORD,,\n"}.items():
            wheel.writestr(path, content)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A course that `lab` has installed for real; the tests below take it through its life, in order."""
    folder = tmp_path_factory.mktemp("real") / "señal y datos"
    wheels = tmp_path_factory.mktemp("wheels")  # no spaces here: pip would split PIP_FIND_LINKS at them
    folder.mkdir()
    (folder / "course.py").write_text(SOURCE, encoding="utf-8")
    (folder / "requirements.txt").write_text(PINS, encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (folder / "backend.py").write_text(BACKEND, encoding="utf-8")
    make_wheel(wheels, "torch", "9.0", "torch.py", "raise ImportError('another torch')\n")
    make_wheel(wheels, "torch", "9.1", "torch.py", TORCH)
    make_wheel(wheels, "torchvision", "9.2", "torchvision.py", TORCHVISION)
    make_wheel(wheels, "jupyterlab", "9.3", "jupyterlab.py", PROGRAM)
    make_wheel(wheels, "pytest", "9.4", "pytest.py", PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    # A virtual environment that somebody has begun: it has to make place.
    (folder / ".venv").mkdir()
    (folder / ".venv" / "pyvenv.cfg").touch()

    def run(*arguments, **variables):
        command = [sys.executable, "course.py", *arguments]
        return subprocess.run(
            command, cwd=folder, env={**environment, **variables}, capture_output=True, encoding="utf-8", timeout=60
        )

    course = load(folder)
    return SimpleNamespace(
        folder=folder, environment=environment, run=run, course=course, first=run("lab", "--no-browser")
    )


def told(done):
    """Return what the program that was started has printed about itself."""
    return json.loads(done.stdout.splitlines()[-1])


def test_lab_is_installed_and_started_in_a_path_with_accents(installed):
    done = installed.first
    assert done.returncode == 6, done.stdout + done.stderr + read(installed.folder / ".venv" / "install.log")
    assert "not from this command" in done.stdout
    assert (installed.folder / ".venv-set-aside-1" / "pyvenv.cfg").exists()
    assert told(done)["folder"] == str(installed.folder)
    assert told(done)["utf8"] == 1
    assert "--no-browser" in told(done)["arguments"]
    assert installed.course.read_state()["torch"] == "9.1"


def test_the_second_start_takes_a_moment_and_runs_no_pip(installed):
    log = read(installed.folder / ".venv" / "install.log")
    begin = time.monotonic()
    done = installed.run("lab")
    assert done.returncode == 6
    assert time.monotonic() - begin < 10
    assert [line for line in done.stdout.splitlines() if not line.startswith("{")] == [
        "Starting JupyterLab. Ctrl-C stops it."
    ]
    assert read(installed.folder / ".venv" / "install.log") == log


@posix
@pytest.mark.parametrize("ctrl_c", [True, False])
def test_ctrl_c_and_a_kill_end_lab_cleanly(installed, ctrl_c):
    run = subprocess.Popen(
        [sys.executable, "course.py", "lab"],
        cwd=installed.folder,
        env={**installed.environment, "FAKE": "wait"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any(line == "running\n" for line in run.stdout)
    if ctrl_c:
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to everyone
    else:
        run.terminate()  # course.py alone
    # The pipe ends only when Lab, too, has ended.
    assert run.communicate(timeout=120) == ("", "")
    assert run.returncode == (0 if ctrl_c else 143)


def test_another_torch_is_replaced(installed):
    pip = [installed.course.PYTHON, "-m", "pip", "install", "-q", "--no-deps", "torch==9.0"]
    subprocess.run(pip, env=installed.environment, check=True, timeout=60)
    done = installed.run("lab")
    assert "now torch 9.0 with torchvision 9.2 is there: reinstalling the pair" in done.stdout
    assert done.returncode == 6, done.stderr
    assert installed.course.installed_pair() == {"torch": "9.1", "torchvision": "9.2"}


def test_without_a_network_the_tests_cannot_be_added_but_lab_still_starts(installed):
    address = f"http://127.0.0.1:{closed_port()}/simple"
    offline = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": address, "no_proxy": "127.0.0.1"}
    begin = time.monotonic()
    done = installed.run("test", **offline)
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    assert done.stderr.startswith("The package index cannot be reached: connect to the internet")
    assert done.stderr.count("\n") == 1
    assert installed.run("lab", **offline).returncode == 6


def test_the_tests_are_added_and_their_exit_code_passed_on(installed):
    done = installed.run("test", "--all", "-k", "a or b")
    assert done.returncode == 6, done.stderr
    assert told(done)["arguments"] == ["--all", "-k", "a or b"]
    assert told(done)["folder"] == str(installed.folder)
    assert installed.course.read_state()["extras"] == ["lab", "teach", "test"]


@posix
def test_ctrl_c_while_pip_waits_for_a_silent_index(installed):
    (installed.folder / "requirements.txt").write_text(PINS.replace("torch==9.1", "torch==9.5"))
    closed = f"http://127.0.0.1:{closed_port()}"
    log = installed.folder / ".venv" / "install.log"
    before = read(log).count("torch==9.5")
    with host(silent) as address:
        variables = {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": address, "no_proxy": "127.0.0.1"}
        run = subprocess.Popen(
            [sys.executable, "course.py", "lab"],
            cwd=installed.folder,
            env={**installed.environment, **variables, "https_proxy": closed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: read(log).count("torch==9.5") > before)
        time.sleep(0.5)
        os.killpg(run.pid, signal.SIGINT)
        error = run.communicate(timeout=120)[1]
    assert run.returncode == 130
    assert error == "\nInterrupted. Run the same command again: it goes on where it can.\n"
    assert installed.course.read_state() == {"state": "installing"}
