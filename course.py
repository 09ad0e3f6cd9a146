"""The two commands of the course: `python course.py lab` and `python course.py test`.

Both make the virtual environment .venv in this folder, install the tested versions there and start
JupyterLab or the tests; a second run starts at once. Nothing outside this folder is changed.

Python 2.7 and 3.6 must be able to parse this file, so that an old Python is told what to install
instead of showing a SyntaxError: no f-strings, no annotations, no `raise ... from`, ASCII only.
"""
# ruff: noqa: B904, RUF005 - both ask for syntax that Python 2.7 cannot parse

from __future__ import print_function

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time

OLDEST, NEWEST = (3, 11), (3, 14)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 4
EXTRAS = {"lab": ["lab"], "test": ["lab", "teach", "test"]}
START = "notebooks/00-start-here.ipynb"

REPO = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(REPO, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
PYTHON = os.path.join(BIN, "python.exe" if os.name == "nt" else "python")
STATE = os.path.join(VENV, "vitcourse.json")
LOG = os.path.join(VENV, "install.log")

# What a mismatched pair cannot do: "operator torchvision::nms does not exist".
TRY_TORCH = """import torch, torchvision
boxes, scores = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.9, 0.8])
assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [0]"""

# What a failed command printed, and the sentence that is shown for it; the first that matches counts.
FAILURES = {
    r"No space left|Errno 28\b|WinError 112\b|not enough space|quota exceeded": (
        "The disk is full: make room in {repo} (up to 6 GB), in {temporary} and in pip's cache, "
        "then run the same command again."
    ),
    r"CERTIFICATE_VERIFY_FAILED": (
        "The package index showed a certificate that this Python does not trust: correct the clock, or set "
        "pip's `cert` to your network's certificate, then run the same command again. See {log}."
    ),
    r"NewConnection|NameResolution|ConnectTimeout|ReadTimeout|Read timed out|ProxyError|IncompleteRead"
    r"|Failed to establish|Connection (refused|reset|aborted|broken)": (
        "The package index cannot be reached: connect to the internet, then run the same command again. See {log}."
    ),
    r"No matching distribution found for (\S+)|(\S+) is not a supported wheel": (
        "There is no {match} for Python {python} on {platform}: run the same command with a 64-bit Python "
        "from 3.11 to 3.14. See {log}."
    ),
    r"([^\n]*)\Z": "{title} failed: see {log}, whose last line is: {match}",
}

held = []  # the lock's file descriptor; pip inherits it, so that a pip that outlives us keeps the lock


class Problem(Exception):
    """Something the reader can put right; the message is all that is shown."""


def say(text):
    print(text)
    sys.stdout.flush()


def dotted(version):
    return ".".join(str(part) for part in version)


def read(name):
    with open(os.path.join(REPO, name), encoding="utf-8") as file:
        return file.read()


# --- Python and PyTorch -------------------------------------------------------------------------------


def check_python(version):
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        wanted = "py -3.13" if os.name == "nt" else "python3.13"
        sentence = (
            "This course needs Python {} to {}, and this is Python {}: install Python 3.13 (from python.org "
            "or with your system's package manager), then run `{} course.py lab`."
        )
        raise Problem(sentence.format(dotted(OLDEST), dotted(NEWEST), dotted(version[:3]), wanted))


def check_ensurepip():
    """Debian and Ubuntu ship Python without the part that makes virtual environments."""
    from importlib.util import find_spec

    if not find_spec("venv") or not find_spec("ensurepip"):
        sentence = (
            "This Python cannot make virtual environments: install the package {0} (on Debian and Ubuntu: "
            "`sudo apt install {0}`), then run the same command again."
        )
        raise Problem(sentence.format("python{}-venv".format(dotted(sys.version_info[:2]))))


def torch_pins():
    """Return ["torch==...", "torchvision==..."], the pair that requirements.txt was compiled with."""
    return re.findall(r"^(?:torch|torchvision)==[^\s;]+", read("requirements.txt"), re.MULTILINE)


def installed_pair():
    """Return the versions of torch and torchvision in .venv, read from folder names: no slow import."""
    folder = sysconfig.get_path("purelib", "venv", vars={"base": VENV, "platbase": VENV})
    names = "\n".join(sorted(os.listdir(folder))) if os.path.isdir(folder) else ""
    pattern = r"^{}-([^-\n]+)\.dist-info$"
    return {
        name: " and ".join(re.findall(pattern.format(name), names, re.MULTILINE)) or "(missing)"
        for name in ("torch", "torchvision")
    }


def wants_cpu_build():
    """Linux without an NVIDIA driver: the ordinary build would bring 4 GB of CUDA for nothing."""
    drivers = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/nvidia-smi")
    linux = sys.platform.startswith("linux")
    return linux and not os.environ.get("PIP_NO_INDEX") and not any(map(os.path.exists, drivers))


def cpu_index_answers():
    """Tell whether PyTorch's CPU index answers; pip alone would wait minutes for a silent host."""
    from urllib.request import urlopen

    answers = []

    def ask():
        # Whatever goes wrong (no network, a proxy's refusal, a certificate) means: not from there.
        with contextlib.suppress(Exception), urlopen(CPU_INDEX + "/torch/", timeout=PROBE_SECONDS) as page:
            answers.append(page.status)

    # The socket's timeout covers neither name resolution nor an answer that trickles; the thread's does.
    thread = threading.Thread(target=ask)
    thread.daemon = True
    thread.start()
    thread.join(PROBE_SECONDS)
    return bool(answers)


# --- What .venv is, and what it lacks -----------------------------------------------------------------


def made_for():
    """What .venv cannot be carried away from: Python, machine and folder."""
    return "Python {} ({}) in {}".format(dotted(sys.version_info[:2]), platform.machine(), REPO)


def fingerprint():
    parts = "\0".join([read("requirements.txt"), read("pyproject.toml"), made_for()])
    return hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()


def read_state():
    """Return what was last written into .venv, None when .venv is not ours, {} when it is unreadable."""
    try:
        with open(STATE, encoding="utf-8") as file:
            return dict(json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):
        return {}


def write_json(path, value):
    """Replace the file in one step: an interruption leaves the old one or the new one."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


def write_state(state):
    write_json(STATE, state)


def diagnose(state, command):
    """Return what .venv needs before the command can start (None: nothing), and a sentence on why."""
    if state is None:
        return "make", "Making .venv and installing the course there: this takes some minutes, once."
    if state.get("state") != "ready" or not os.path.exists(PYTHON):
        return "make", "The last installation in .venv did not finish: making it again."
    if state["made_for"] != made_for():
        return "make", ".venv was made for {}: making it for {}.".format(state["made_for"], made_for())
    if any(state[name] != version for name, version in installed_pair().items()):
        pairs = "torch {torch} with torchvision {torchvision}".format
        sentence = "The course installed {} in .venv, and now {} is there: reinstalling the pair."
        return "repair", sentence.format(pairs(**state), pairs(**installed_pair()))
    if state["fingerprint"] != fingerprint():
        return "update", "The course has changed since .venv was made: updating it."
    if not set(EXTRAS[command]) <= set(state["extras"]):
        return "update", "Adding to .venv what `python course.py {}` needs.".format(command)
    return None, ""


@contextlib.contextmanager
def one_at_a_time():
    """Hold a lock while .venv changes: two runs beside each other would undo each other's work."""
    with open(os.path.join(REPO, ".venv-lock"), "a") as file:
        if not lock(file):
            say("Another run of course.py is installing here: waiting for it to end (Ctrl-C gives up).")
            while not lock(file):
                time.sleep(0.5)
        held[:] = [file.fileno()]
        yield
        held[:] = []


def lock(file):
    """Try to lock; False when another process holds it. A file system without locks goes without."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


# --- Installing ---------------------------------------------------------------------------------------


def prepare(command):
    """Bring .venv to the state that the command needs."""
    if diagnose(read_state(), command)[0] is None:
        return
    check_ensurepip()
    with one_at_a_time():
        state = read_state()  # again: the run that we waited for may have done everything
        action, why = diagnose(state, command)
        if action is None:
            return
        say(why)
        if action == "make":
            make_venv(ours=state is not None)
            state = None
        extras = sorted(set(EXTRAS[command]) | set(state["extras"] if state else []))
        install(state, extras, again=action == "repair")


def make_venv(ours):
    if not ours and os.path.lexists(VENV) and not (os.path.isdir(VENV) and not os.listdir(VENV)):
        set_aside()
    write_state({"state": "installing"})
    # The folder and the state in it stay: at no moment does it look like somebody else's.
    for path in [os.path.join(VENV, name) for name in os.listdir(VENV)]:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif path != STATE:
            os.remove(path)
    # Not sys.executable: inside .venv it has just been deleted.
    python = getattr(sys, "_base_executable", None) or sys.executable
    logged("Making .venv", [python, "-m", "venv", VENV])


def set_aside():
    """Rename a .venv that we did not make: it may hold somebody's work."""
    number = 1
    while os.path.lexists("{}-set-aside-{}".format(VENV, number)):
        number += 1
    os.rename(VENV, "{}-set-aside-{}".format(VENV, number))
    sentence = "The .venv that was here is not from this command: it is now called .venv-set-aside-{}."
    say(sentence.format(number))


def install(state, extras, again=False):
    """Install the pair and the course; `state` is what to go back to, None in a new .venv."""
    write_state({"state": "installing"})
    try:
        install_torch(again)
        course = ".[{}]".format(",".join(extras))
        pip("Installing the course", "install", "-c", "requirements.txt", "-e", course)
    except Problem:
        if state:  # pip undoes what fails, so that without a network the old environment stays of use
            write_state(state)
        raise
    check_torch()
    ready = {"state": "ready", "made_for": made_for(), "fingerprint": fingerprint(), "extras": extras}
    write_state(dict(ready, **installed_pair()))


def install_torch(again):
    """Install the pinned pair, both from the same place; what they need comes with the course."""
    pins = torch_pins()
    found = ["{}=={}".format(name, version.split("+")[0]) for name, version in installed_pair().items()]
    if found == pins and not again:
        return
    # --no-deps: the CPU index has not all the versions that requirements.txt wants of the rest.
    arguments = ["install", "--no-deps"] + (["--force-reinstall"] if again else []) + pins
    if wants_cpu_build() and cpu_index_answers():
        with contextlib.suppress(Problem):
            return pip("Installing PyTorch for the CPU", *(arguments + ["--index-url", CPU_INDEX]))
        say("PyTorch's CPU index could not serve {}: taking the ordinary build.".format(" and ".join(pins)))
    pip("Installing PyTorch", *arguments)


def check_torch():
    """Use the pair; if it does not work, replace both once by the ordinary build."""
    trial = [PYTHON, "-c", TRY_TORCH]
    with contextlib.suppress(Problem):
        return logged("Trying PyTorch", trial)
    say("torch and torchvision do not work together: reinstalling the pair.")
    pip("Removing PyTorch", "uninstall", "-y", "torch", "torchvision")
    pip("Installing PyTorch", "install", "-c", "requirements.txt", *torch_pins())
    logged("Trying PyTorch", trial)


def pip(title, *arguments):
    logged(title, [PYTHON, "-m", "pip", "--no-input"] + list(arguments))


def logged(title, command):
    """Run a command with its output in the log; when it fails, raise one sentence about it."""
    with open(LOG, "ab+") as log:
        log.write("\n$ {}\n".format(" ".join(command)).encode("utf-8", "replace"))
        log.flush()
        begin = log.tell()
        output = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        keep = held if os.name == "posix" else ()
        child = subprocess.Popen(command, cwd=REPO, env=environment(), pass_fds=keep, **output)
        try:
            show_progress(title, child)
        finally:
            stop(child)
        if child.returncode != 0:
            log.seek(begin)
            raise Problem(explain(title, log.read().decode("utf-8", "replace").strip()))


def show_progress(title, child):
    """Count the seconds in one line on a terminal; elsewhere print one line before and one after."""
    live, begin = sys.stdout.isatty(), time.time()
    line = (("\r" if live else "") + title + " ... {:.0f} s").format
    print(title + " ...", end="" if live else "\n")
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        if live:
            print(line(time.time() - begin), end="")
        sys.stdout.flush()
    say("" if live else line(time.time() - begin))


def explain(title, output):
    """Turn the output of a failed command into one sentence."""
    facts = {"title": title, "log": LOG, "repo": REPO, "temporary": tempfile.gettempdir()}
    facts.update(python=platform.python_version(), platform=sysconfig.get_platform())
    for pattern, sentence in FAILURES.items():
        match = re.search(pattern, output)
        if match:
            return sentence.format(match=" ".join(filter(None, match.groups())), **facts)


# --- Running ------------------------------------------------------------------------------------------


def environment():
    """What children run in: UTF-8 whatever the system's language, .venv first (nbgrader calls `alembic`).

    What the user has set for pip counts; otherwise it gives up on a silent network after some 20 s.
    Waiting OpenMP threads sleep: spinning ones make trainings beside each other eight times slower.
    """
    mine = dict(os.environ, PYTHONUTF8="1", VIRTUAL_ENV=VENV)
    mine["PATH"] = BIN + os.pathsep + mine.get("PATH", "")
    mine.pop("PYTHONHOME", None)
    mine.setdefault("OMP_WAIT_POLICY", "passive")
    mine.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    mine.setdefault("PIP_RETRIES", "1")
    mine.setdefault("PIP_DEFAULT_TIMEOUT", mine.get("PIP_TIMEOUT", "10"))
    return mine


def stop(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def start(command):
    """Run Lab or pytest on this terminal and return its exit code."""
    child = subprocess.Popen(command, cwd=REPO, env=environment())
    try:
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:
                # A terminal's Ctrl-C reaches the child too: Lab asks whether to stop, pytest sums up.
                # Without a terminal it may have been for us alone: pass it on.
                if not (sys.stdin and sys.stdin.isatty()):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(timeout=3)
                    stop(child)
    finally:
        stop(child)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def check_port(text):
    if not re.match(r"[0-9]{1,5}\Z", text) or not 1 <= int(text) <= 65535:
        raise Problem("--port {}: a port is a whole number from 1 to 65535, such as 8890.".format(text))
    with contextlib.closing(socket.socket()) as trial:
        if os.name == "posix":  # as Jupyter does: a port closed a moment ago is free
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", int(text)))
        except OSError as error:
            sentence = "Port {} cannot be used ({}): give --port another number, or leave it out to get a free one."
            raise Problem(sentence.format(text, error.strerror))


def switch_off_news():
    """Keep Lab from asking about news and looking for updates: the course fetches nothing."""
    path = os.path.join(VENV, "share", "jupyter", "lab", "settings", "overrides.json")
    if not os.path.exists(path):
        settings = {"fetchNews": "false", "checkForUpdates": False}
        write_json(path, {"@jupyterlab/apputils-extension:notification": settings})


def lab(options):
    arguments = ["--ServerApp.root_dir=" + REPO, "--LabApp.default_url=/lab/tree/" + START]
    if options.port is not None:
        check_port(options.port)
        arguments += ["--ServerApp.port=" + options.port, "--ServerApp.port_retries=0"]
    if options.no_browser:
        arguments += ["--no-browser"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in a container; Lab would refuse
        arguments += ["--allow-root"]
    prepare("lab")
    switch_off_news()
    say("Starting JupyterLab. Ctrl-C stops it.")
    return start([PYTHON, "-m", "jupyterlab"] + arguments)


def test(arguments):
    prepare("test")
    # Two processes, a file to each, halve the time on two cores; more of them, or options of one's own, don't mix.
    whole = arguments in ([], ["--all"])
    together = ["-n", "2", "--dist", "loadscope"] if whole and (os.cpu_count() or 1) > 1 else []
    return start([PYTHON, "-m", "pytest"] + together + arguments)


def run(arguments):
    parser = argparse.ArgumentParser(prog="python course.py", description="Open the course, or test it.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    open_lab = commands.add_parser("lab", help="open the course in JupyterLab", allow_abbrev=False)
    open_lab.add_argument("--no-browser", action="store_true", help="do not open a browser")
    open_lab.add_argument("--port", metavar="N", help="the port to listen on (default: a free one)")
    about = "run the tests; --all adds the long ones, other arguments go to pytest"
    commands.add_parser("test", help=about, description=about, allow_abbrev=False)
    options, further = parser.parse_known_args(arguments)
    if options.command == "test":
        return test(further)
    if further:
        sentence = "course.py does not know {}: `python course.py --help` lists what it knows."
        raise Problem(sentence.format(further[0]))
    return lab(options) if options.command == "lab" else parser.print_help()


def main(arguments):
    try:
        check_python(sys.version_info)
        for stream in (sys.stdout, sys.stderr):  # a console without accents shows question marks instead
            stream.reconfigure(errors="replace")
        return run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Run the same command again: it goes on where it can.\n")
        return 130
    except Problem as problem:
        sys.stderr.write("{}\n".format(problem))
    except (IOError, OSError) as error:  # a folder that is read-only, a file that another program uses
        sys.stderr.write("course.py cannot go on ({}): put that right and run it again.\n".format(error))
    return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit that still stops pip or Lab
    sys.exit(main(sys.argv[1:]))
