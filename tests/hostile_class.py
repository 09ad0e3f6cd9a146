"""A class of 120 that hands in sheet 2: right in many styles, blank, partly right, broken and hostile.

`make(folder)` writes the submissions and returns what each of them has earned. Run it to look at them:
`python tests/hostile_class.py FOLDER`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import random
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from right_answers import attention as right

HERE = Path(__file__).resolve().parents[1]
SHEET = HERE / "exercises/sheet-2-attention/sheet-2-attention.ipynb"
# Grade id of the answer's check: the name of the exercise, and its points.
EXERCISES = {
    "check-attention-weights": ("attention_weights", 3),
    "check-padding-mask": ("padding_mask", 2),
    "check-causal-mask": ("causal_mask", 1),
    "check-scaled-dot-product": ("scaled_dot_product", 4),
    "check-split-heads": ("split_heads", 2),
    "check-multi-head": ("multi_head", 4),
    "check-equivariance": ("equivariance_error", 3),
    "check-count": ("count_multiply_adds", 2),
    "check-crossover": ("crossover", 2),
}
POINTS = dict(EXERCISES.values())
FULL, NONE = dict(POINTS), dict.fromkeys(POINTS, 0)
WRONG = {
    "attention_weights": "return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(dim=-2)",
    "padding_mask": "return (torch.arange(N) >= lengths[:, None])[:, None, None]",
    "causal_mask": "return torch.ones(N, N, dtype=torch.bool).triu()",
    "scaled_dot_product": "return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value",
    "split_heads": "return tokens.reshape(tokens.shape[0], num_heads, tokens.shape[1], -1)",
    "multi_head": "return tokens @ out_weight.T + out_bias",
    "equivariance_error": "return (layer(tokens[:, permutation]) - layer(tokens)).abs().max().item()",
    "count_multiply_adds": "return 8 * N * D**2 + 4 * N**2 * D",
    "crossover": "return 2 * D",
}


@dataclass(frozen=True)
class Case:
    """One submission.

    Args:
        name: of the folder or file.
        kind: what it is, for the table.
        earned: by exercise.
        reason: whether the table must give one; None where it may or may not.
        write: puts it into a folder of that name.
    """

    name: str
    kind: str
    earned: dict[str, float]
    reason: bool | None
    write: Callable[[Path], None]


# ---- notebooks


def pristine() -> nbformat.NotebookNode:
    return nbformat.read(SHEET, as_version=4)


def source_of(function) -> str:
    """A right answer's source with the helpers it calls, the function named as the sheet asks."""
    text = inspect.getsource(function)
    names = dict.fromkeys(re.findall(r"\b_\w+(?=\()", text))
    helpers = [getattr(right, name) for name in names if name != function.__name__ and hasattr(right, name)]
    return "".join(source_of(helper) + "\n\n" for helper in helpers) + text


def answer(name: str, index: int) -> str:
    """Right answer number `index` (they are counted round) to an exercise."""
    named = [function for function in right.RIGHT[name] if function.__name__ != "<lambda>"]
    if not named or (index == len(named) and name in ("causal_mask", "crossover")):
        return {
            "causal_mask": "causal_mask = lambda N: torch.ones(N, N, dtype=torch.bool).tril()",
            "crossover": "crossover = lambda D, mlp_ratio: (2 + mlp_ratio) * D",
        }[name]
    function = named[index % len(named)]
    source = source_of(function).replace(f"def {function.__name__}(", f"def {name}(")
    return "import numpy as np\nfrom einops import einsum, rearrange\n\n\n" + source


def wrong(name: str) -> str:
    arguments = next(cell.source for cell in pristine().cells if f"def {name}(" in cell.source).splitlines()[0]
    return f"{arguments}\n    {WRONG[name]}"


def filled(answers: dict[str, str] | None = None) -> nbformat.NotebookNode:
    """The sheet with answers, by default right ones."""
    notebook = pristine()
    answers = {name: answer(name, 0) for name in POINTS} if answers is None else answers
    for cell in notebook.cells:
        for name, source in answers.items():
            if cell.metadata.get("nbgrader", {}).get("solution") and f"def {name}(" in cell.source:
                cell.source = source
                break
    return notebook


def added(notebook, source: str, after: str = "imports"):
    """A cell of the learner's own, behind the cell of that id; "" at the top."""
    place = next((n for n, cell in enumerate(notebook.cells) if cell.id == after), -1) + 1
    notebook.cells.insert(place, nbformat.v4.new_code_cell(source, id=f"own-{place}"))
    return notebook


def text_of(notebook) -> bytes:
    return (json.dumps(notebook, ensure_ascii=False, indent=1) + "\n").encode()


def is_check(cell) -> bool:
    about = cell.metadata.get("nbgrader", {})
    return bool(about.get("grade")) and not about.get("solution")


# ---- ways to hand in


def put(content) -> Callable[[Path], None]:
    """Writes a notebook, or bytes, as the student's file."""

    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "sheet-2-attention.ipynb").write_bytes(content if isinstance(content, bytes) else text_of(content))

    return write


def linked(folder: Path) -> None:
    folder.mkdir()
    (folder / "sheet-2-attention.ipynb").symlink_to(SHEET)


def a_pdf(folder: Path) -> None:
    folder.mkdir()
    (folder / "sheet-2.pdf").write_bytes(b"%PDF-1.4")


def without(*names: str) -> dict[str, float]:
    return {name: 0 if name in names else points for name, points in POINTS.items()}


def free(source: str, answers=None, after: str = "imports") -> Callable[[Path], None]:
    """The sheet, by default with right answers, and one more cell."""
    return put(added(filled(answers), source, after))


def instead(name: str, body: str) -> Callable[[Path], None]:
    """All right but one answer."""
    arguments = wrong(name).splitlines()[0]
    return put(filled({n: answer(n, 1) for n in POINTS} | {name: f"{arguments}\n    {body}"}))


def changed(change: Callable, notebook=None) -> Callable[[Path], None]:
    notebook = filled() if notebook is None else notebook
    change(notebook)
    return put(notebook)


# ---- changes to a notebook


def _drop_checks(notebook):
    notebook.cells = [cell for cell in notebook.cells if not is_check(cell)]


def _double_checks(notebook):
    notebook.cells = [copy.deepcopy(cell) for cell in notebook.cells for _ in range(1 + is_check(cell))]


def _edit_checks(notebook):
    for cell in filter(is_check, notebook.cells):
        name = cell.source.partition("(")[0]
        cell.source = f"print('right'); {name}({name}.reference)"


def _shuffle(notebook):
    random.Random(1).shuffle(notebook.cells)


def _strip(notebook):
    for cell in notebook.cells:
        cell.metadata = {}
        cell.pop("id", None)


def _points(notebook):
    for cell in filter(is_check, notebook.cells):
        cell.metadata["nbgrader"]["points"] = 100


def _windows(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")


def _colab(notebook, keep: bool = True):
    """As Colab saves: no ids of cells but some of its own in the metadata, format 4.0, an account, a GPU."""
    notebook.nbformat_minor = 0
    notebook.metadata = {"colab": {"provenance": [], "gpuType": "T4"}, "accelerator": "GPU"}
    for number, cell in enumerate(notebook.cells):
        kept = {"nbgrader": cell.metadata["nbgrader"]} if keep and "nbgrader" in cell.metadata else {}
        cell.metadata = {
            **kept,
            "id": f"aB{number:02d}xY_9Qz",
            "outputId": "1-2",
            "colab": {"base_uri": "https://localhost:8080/"},
        }
        cell.pop("id", None)
        cell.source = cell.source.splitlines(keepends=True)


def _blank_copies(notebook):
    notebook.cells += [cell for cell in pristine().cells if cell.metadata.get("nbgrader", {}).get("solution")]


def _wrong_kinds(notebook):
    for cell in notebook.cells[::2]:
        if not cell.metadata.get("nbgrader"):
            cell.metadata, cell.id = [1], {"a": 1}
    notebook.cells.append("no cell")
    notebook.metadata = None


def _helper_last(notebook):
    for cell in notebook.cells:
        if cell.id == "causal-mask":
            cell.source = "def causal_mask(N):\n    return lower(N)"
    added(notebook, "def lower(N):\n    return torch.ones(N, N, dtype=torch.bool).tril()", "how-large")


def _many_cells(notebook):
    for number in range(1500):
        notebook.cells.append(nbformat.v4.new_code_cell(f"x{number} = {number}", id=f"x-{number}"))


def _old_form(notebook) -> bytes:
    _strip(notebook)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of cells without an id
        return json.dumps(nbformat.convert(nbformat.from_dict(notebook), 3)).encode()


# ---- what hostile cells run

RUN_FOUND = """
import json, pathlib
def run_answers_in(path):
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and "def " in text and "NotImplementedError" not in text:
            exec(text.replace("### BEGIN SOLUTION", "").replace("### END SOLUTION", ""), globals())
"""


def _steal(places: list[str]) -> str:
    return RUN_FOUND + (
        f"import vitcourse\nup = pathlib.Path(vitcourse.__file__).resolve().parents[1]\n"
        f"for place in [up / 'solutions', *map(pathlib.Path, {places!r})]:\n"
        "    for path in place.rglob('*.ipynb'):\n"
        "        try:\n            run_answers_in(path)\n        except Exception:\n            pass\n"
    )


WRITE_OUTCOMES = """
import glob, json, os, pathlib, threading, time
def forge():
    while True:
        for name in NAMES:
            for place in (pathlib.Path("outcomes"), pathlib.Path("/hand-in/outcomes")):
                try:
                    place.mkdir(exist_ok=True, parents=True)
                    told = {"refused": "", "state": "right", "score": 1, "earned": 100, "outcomes": []}
                    (place / f"{name}.json").write_text(json.dumps(told))
                    (place / f"{name}.npz").write_bytes(b"PK")
                except OSError:
                    pass
        time.sleep(0.01)
threading.Thread(target=forge, daemon=True).start()
"""

REFERENCE_IN_THREAD = """
import json, os, sys, threading, time
from vitcourse.grading import candidate
from vitcourse.checks import attention
import hashlib
def forge():
    seed = json.load(open("job.json")).get("seed", 0)
    while True:
        for grade_id, name in NAMES.items():
            exercise = getattr(attention, name)
            outcomes = exercise.observe(exercise.reference, seed)
            candidate.write(candidate.OUTCOMES / grade_id, "", outcomes, hashlib.blake2b)
        time.sleep(0.1)
threading.Thread(target=forge, daemon=True).start()
time.sleep(1)
"""

FILL_JOB = """
import json, threading, time
def fill():
    while True:
        try:
            open("job.json", "w").write(json.dumps({"steps": [], "seed": 1, "module": "os"}))
        except OSError:
            pass
        time.sleep(0.01)
threading.Thread(target=fill, daemon=True).start()
"""


def burst(count: int, seconds: int = 30) -> str:
    """A program that starts `count` processes; without its last line they stay behind."""
    return (
        f"import os, time\nfor _ in range({count}):\n    if os.fork() == 0:\n"
        f"        time.sleep({seconds})\n        os._exit(0)\ntime.sleep({seconds})"
    )


# With the inputs that its answers will be tried on, a cell has time to ask the references.
TABULATE = """
import json
from vitcourse.checks import attention
seed = json.load(open("job.json"))["seed"]
def tabulated(exercise):
    given = [case.arguments.values() for case in exercise.inputs(seed)]
    return iter([exercise.reference(*arguments) for arguments in given for _ in range(3)])
table = {name: tabulated(getattr(attention, name)) for name in NAMES.values()}
"""

PATCH_CHECKS = """
import builtins, sys
from vitcourse.checks import attention, compare, exercise, report, watch
exercise.Exercise.judge = exercise.Exercise.__call__ = lambda self, *a, **k: report.Report(
    self.name, self.points, self.section, 0, state="right", score=1.0)
exercise.Exercise.observe = lambda self, *a, **k: [watch.Outcome({"output": 1})]
compare.difference = lambda *a, **k: ""
compare.same = lambda *a, **k: True
for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("vitcourse"):
        for name in ("difference", "same", "watch"):
            if hasattr(module, name):
                setattr(module, name, lambda *a, **k: "")
"""

EQUAL = """
class Equal:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __getattr__(self, name): return Equal()
    def __call__(self, *a, **k): return Equal()
    def __float__(self): return 1.0
"""


def make(folder: Path, seed: int = 0, out: Path | None = None, port: int = 9) -> list[Case]:
    """Write the class into a new folder.

    Args:
        out: where the marks will lie, for those who want to overwrite them.
        port: of a server on the loopback address, for those who call it.
    """
    folder.mkdir(parents=True)
    out = folder.parent / "grades" if out is None else out
    cases = [*broken(), *hostile(folder, out, port), *honest_oddities(), *partial(seed)]
    cases += correct(seed, 120 - len(cases))
    for case in cases:
        case.write(folder / case.name)
    return cases


def correct(seed: int, count: int) -> list[Case]:
    """Right ones, each exercise in another style."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        answers = {name: answer(name, number if number < 7 else draw.randrange(8)) for name in POINTS}
        made.append(Case(f"right-{number:02d}", "right, in some style", FULL, False, put(filled(answers))))
    return made


def partial(seed: int) -> list[Case]:
    """Blank ones, all wrong, and mixtures."""
    draw = random.Random(seed + 1)
    made = [Case(f"blank-{n}", "blank", NONE, False, put(pristine())) for n in range(3)]
    made.append(Case("wrong-all", "all wrong", NONE, False, put(filled({name: wrong(name) for name in POINTS}))))
    for number in range(12):
        kinds = {name: draw.choice(("right", "right", "wrong", "blank")) for name in POINTS}
        kinds["scaled_dot_product"] = kinds["split_heads"] = "right"  # multi_head may call them
        answers = {name: answer(name, number) for name, kind in kinds.items() if kind == "right"}
        answers |= {name: wrong(name) for name, kind in kinds.items() if kind == "wrong"}
        earned = {name: points * (kinds[name] == "right") for name, points in POINTS.items()}
        made.append(Case(f"partial-{number:02d}", "partly right", earned, False, put(filled(answers))))
    return made


def broken() -> list[Case]:
    """Files that are no sheet 2."""
    good = text_of(filled())
    other = HERE / "notebooks/03-attention.ipynb"
    nested = b'{"cells": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return [
        Case("json", "invalid JSON", NONE, True, put(good.replace(b"{", b"<", 3))),
        Case("truncated", "truncated file", NONE, True, put(good[: len(good) // 2])),
        Case("other-notebook", "wrong notebook", NONE, True, put(other.read_bytes())),
        Case("empty", "empty file", NONE, True, put(b"")),
        Case("nested", "JSON 100,000 deep", NONE, True, put(nested)),
        Case("link", "a link instead of a file", NONE, True, linked),
        Case("pdf", "no notebook", NONE, True, a_pdf),
    ]


def honest_oddities() -> list[Case]:
    """Right answers in a strange dress: nobody loses a point."""
    last = {name: answer(name, 2) for name in POINTS}
    fox = "# 🦊 Füchse, 狐\nπ, Größe = 3.14, '李雷 \\u202e \\ud83e'\nprint(π, Größe)"
    magic = "%matplotlib inline\n%load_ext autoreload\nimport math\n!ls\nplt.plot([1, 2]); plt.show()\ndisplay(3)\nexit"
    colab_cell = "from google.colab import drive\ndrive.mount('/content/drive')"
    surrogate = text_of(filled()).replace(b'"import math', b'"# \\ud800\\nimport math')
    made = {
        "deleted test cells": ("no-checks", changed(_drop_checks), False),
        "duplicated test cells": ("double-checks", changed(_double_checks), None),
        "reordered cells": ("shuffled", changed(_shuffle), None),
        "metadata and ids stripped": ("stripped", changed(_strip), None),
        "points edited to 100": ("hundred", changed(_points), False),
        "unusual Unicode": ("Zoë Ångström 李雷 🦊", free(fox, last), None),
        "Windows line ends": ("windows", changed(_windows), False),
        "saved by Colab": ("colab", changed(_colab, added(filled(last), colab_cell, "")), False),
        "Colab, no nbgrader metadata": ("colab-bare", changed(functools.partial(_colab, keep=False)), None),
        "blank copies of the answers": ("copies", changed(_blank_copies), None),
        "metadata of wrong kinds": ("kinds", changed(_wrong_kinds), None),
        "a helper at the end": ("helper-last", changed(_helper_last), None),
        "1,500 cells more": ("many-cells", changed(_many_cells), None),
        "magics, exit": ("magics", free(magic), None),
        "half a surrogate pair": ("surrogate", put(surrogate), None),
        "UTF-16": ("utf-16", put(text_of(filled()).decode().encode("utf-16")), None),
        "format 3": ("old-form", put(_old_form(filled())), None),
        "a formula as name": ('=HYPERLINK("http:x","y")'.replace("/", ""), put(filled()), False),
        "a path trick as name": ("..%2f..%2fetc $(touch x) ; -rf", put(filled()), False),
        "markup as name": ("<script>alert(1)<script>", put(filled()), False),
        "one of two alike names": ("Ana García", put(filled()), False),
        "input()": ("input", free("name = input('who? ')"), None),
        "a million printed lines": ("prints", free("for n in range(10**6):\n    print(n)"), None),
    }
    cases = [Case(name, kind, FULL, reason, write) for kind, (name, write, reason) in made.items()]
    return [*cases, Case("Ana Garcia", "the other one, blank", NONE, False, put(pristine()))]


def hostile(folder: Path, out: Path, port: int) -> list[Case]:
    """Cells that cheat, hang, break out or break down."""
    ids = {grade_id: name for grade_id, (name, _) in EXERCISES.items()}
    names = f"NAMES = {ids!r}\n"
    bad = {name: wrong(name) for name in POINTS}
    mark_up = f"import pathlib\nfor f in pathlib.Path({str(out)!r}).rglob('*'):\n    f.write_text('10')\n"
    mark_up += f"pathlib.Path({str(out)!r}).mkdir(parents=True, exist_ok=True)\n"
    mark_up += f"(pathlib.Path({str(out)!r}) / 'marks.csv').write_text('student,mark\\noverwriting,10')"
    call = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=3).send(b'hello')"
    files = "for n in range(40):\n    open(f'big{n}', 'wb').write(b'x' * 50 * 2**20)"
    loop = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass"
    equal = {name: f"{EQUAL}\ndef {name}(*a, **k):\n    return Equal()" for name in POINTS}
    fake = "print('check: right · 100 of 100 points')\nprint('{\"earned\": 100}')"
    patch_equal = (
        "torch.Tensor.__eq__ = lambda *a: torch.tensor(True)\ntorch.Tensor.__ne__ = lambda *a: torch.tensor(False)"
    )
    builtin = "import builtins\nfor name in ('abs', 'all', 'any', 'next', 'len', 'isinstance'):\n"
    builtin += (
        "    setattr(builtins, name, (lambda f: lambda *a: 0 if name == 'abs' else f(*a))(getattr(builtins, name)))\n"
    )
    builtin += "builtins.abs = lambda x: 0"
    close = "torch.allclose = torch.equal = lambda *a, **k: True\n"
    close += "torch.isclose = lambda a, b, **k: torch.ones(a.shape).bool()"
    assert_close = "import torch.testing\ntorch.testing.assert_close = lambda *a, **k: None"
    in_place = (
        "q = query.sub_(1).add_(1).mul_(2)\n    return torch.softmax(q / 2 @ key.mT / query.shape[-1] ** 0.5, -1)"
    )
    own = filled(
        {
            **{name: answer(name, 0) for name in POINTS},
            "attention_weights": "attention_weights = functional.attention_weights",
            "scaled_dot_product": "def scaled_dot_product(*given):\n    return functional.attention(*given)",
            "split_heads": "def split_heads(*given):\n    return check.split_heads.reference(*given)",
        }
    )
    looked_up = {name: f"def {name}(*given):\n    return next(table[{name!r}])" for name in POINTS}
    no_trace = "import os\nos.remove('progress')\nos._exit(0)"
    borrowed = ("attention_weights", "scaled_dot_product", "split_heads")
    nowhere = "import os, shutil\nshutil.rmtree('outcomes', ignore_errors=True)\nos.symlink('/etc', 'outcomes')"
    pipes = "import os\nos.makedirs('outcomes', exist_ok=True)\n"
    pipes += "os.mkfifo('outcomes/check-count.json')\nos.mkfifo('outcomes/x')"
    deep = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')"
    chosen = [
        Case("loop", "infinite loop in a free cell", FULL, True, free("while True:\n    pass")),
        Case("loop-deaf", "infinite loop that swallows the stop", FULL, True, free(loop)),
        Case(
            "loop-answer",
            "infinite loop in an answer",
            without("causal_mask"),
            None,
            instead("causal_mask", "while True: pass"),
        ),
        Case("sleep", "sleeping in a free cell", FULL, True, free("import time\ntime.sleep(10**6)")),
        Case("edited", "edited test cells, wrong answers", NONE, None, changed(_edit_checks, filled(bad))),
        Case("exit-free", "os._exit in a free cell", FULL, True, free("import os\nos._exit(0)")),
        Case(
            "exit-answer",
            "os._exit in an answer",
            without("split_heads"),
            True,
            instead("split_heads", "import os; os._exit(0)"),
        ),
        Case("burst", "300 processes", FULL, True, free(burst(300))),
        Case("burst-behind", "300 processes that stay behind", FULL, True, free(burst(300).rpartition("\n")[0])),
        Case("memory", "10 GB", FULL, None, free("x = bytearray(10 * 2**30)\ny = torch.ones(10 * 2**28)")),
        Case(
            "disk-one",
            "2 GB into one file",
            FULL,
            None,
            free("with open('big', 'wb') as f:\n    for _ in range(2048):\n        f.write(b'x' * 2**20)"),
        ),
        Case("disk-many", "2 GB into 40 files", FULL, True, free(files)),
        Case(
            "solutions", "reading the solutions", NONE, True, free(_steal([str(HERE / "solutions")]), {}, "how-large")
        ),
        Case("others", "reading other students' work", NONE, True, free(_steal([str(folder), str(out)]), {})),
        Case("overwriting", "overwriting the marks", NONE, None, free(mark_up, bad)),
        Case("loopback", "calling a server on the loopback address", FULL, True, free(call)),
        Case("abs", "rebinding abs and other builtins", NONE, True, free(builtin, bad)),
        Case("allclose", "rebinding torch.allclose, equal, isclose", NONE, None, free(close, bad)),
        Case("assert-close", "rebinding assert_close", NONE, None, free(assert_close, bad)),
        Case("tensor-eq", "rebinding Tensor.__eq__", NONE, None, free(patch_equal, bad)),
        Case("eq-class", "an object equal to everything", NONE, None, put(filled(equal))),
        Case("patch", "monkeypatching vitcourse.checks", NONE, True, free(PATCH_CHECKS, bad)),
        Case("fake", "printing a fake score", NONE, None, free(fake, {})),
        Case("quit-free", "SystemExit in a free cell", FULL, None, free("raise SystemExit")),
        Case(
            "quit-answer",
            "SystemExit in an answer",
            without("crossover"),
            None,
            instead("crossover", "raise SystemExit"),
        ),
        Case("stop-free", "KeyboardInterrupt in a free cell", FULL, None, free("raise KeyboardInterrupt")),
        Case(
            "stop-answer",
            "KeyboardInterrupt in an answer",
            without("causal_mask"),
            None,
            instead("causal_mask", "raise KeyboardInterrupt"),
        ),
        Case("thread-outcomes", "a thread that writes fake outcomes", NONE, True, free(names + WRITE_OUTCOMES, bad)),
        Case(
            "thread-reference",
            "a thread that forges outcomes from the references",
            NONE,
            True,
            free(names + REFERENCE_IN_THREAD, bad),
        ),
        Case("table", "answers looked up among the references'", NONE, None, free(names + TABULATE, looked_up)),
        Case("no-trace", "ending the run, its last trace removed", NONE, True, free(no_trace)),
        Case("thread-job", "a thread that edits job.json", FULL, True, free(FILL_JOB)),
        Case(
            "thread-results",
            "a thread that edits results",
            NONE,
            True,
            free(
                "import threading\ndef edit():\n    while True:\n        try:\n            "
                + mark_up.replace("\n", "\n            ")
                + "\n        except OSError:\n            pass\nthreading.Thread(target=edit, daemon=True).start()",
                bad,
            ),
        ),
        Case("outcomes-link", "the folder of outcomes made a link", NONE, None, free(nowhere, bad)),
        Case("pipes", "pipes where files are read", FULL, None, free(pipes)),
        Case("deep", "3,000 folders deep", FULL, None, free(deep)),
        Case(
            "in-place",
            "right, but changes its input, and hides it",
            without("attention_weights"),
            None,
            put(
                added(
                    filled(
                        {
                            **{name: answer(name, 0) for name in POINTS},
                            "attention_weights": wrong("attention_weights").splitlines()[0] + "\n    " + in_place,
                        }
                    ),
                    close,
                )
            ),
        ),
        Case("package", "the package's own functions, handed in or called", without(*borrowed), None, put(own)),
    ]
    return chosen


if __name__ == "__main__":
    for case in make(Path(sys.argv[1])):
        print(f"{sum(case.earned.values()):5g}  {case.name:<30} {case.kind}")
