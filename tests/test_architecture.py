"""The floors of the package: who may import whom, read from the source without running it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vitcourse"

# The floors, from the ground up. A file imports from floors below it, or from a file that stands before it on its own.
# A folder ("data/") is one place: its files import each other in any order without a circle.
FLOORS = [
    ["files.py", "places.py", "progress.py", "validation.py", "storage.py", "config.py", "functional.py"],
    [
        "layers/patch_embedding.py",
        "layers/convolutional_stem.py",
        "layers/position_embedding.py",
        "layers/attention.py",
        "layers/mlp.py",
        "layers/encoder_block.py",
        "layers/__init__.py",
    ],
    [
        "model.py",
        "convolutional.py",
        "interop/",
        "transfer.py",
        "checkpoints/__init__.py",
        "pretrained.py",
        "__init__.py",
    ],
    ["introspect/", "data/", "training/", "results/", "doctor.py"],
    ["figures/"],
    ["widgets/", "checks/"],
    ["grading/"],
    ["__main__.py"],
]
# Beside the house: the maintainers' tools. Nothing imports them, and of the house they use what is named here.
BESIDE = {"authoring/": ["files.py"]}

PLACES = [place for floor in FLOORS for place in floor]
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
LONG = "Longer than 150 lines because"


def place_of(file):
    """The entry of the table that `file` belongs to, or None."""
    known = [*PLACES, *BESIDE]
    return next((place for place in known if file == place or (place[-1] == "/" and file.startswith(place))), None)


def file_of(module):
    """The file of a dotted name below vitcourse, or None: `layers.mlp` is `layers/mlp.py`."""
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py".lstrip("/")) if file in FILES), None)


def imported_files(file, source):
    """The files of the package that `source`, which stands in `file`, imports anywhere in it."""
    package = ["vitcourse", *Path(file).parent.parts]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {(module, alias.name) for alias in node.names}
    files = set()
    for module, name in names:
        if module.split(".")[0] == "vitcourse":
            inside = module.removeprefix("vitcourse").lstrip(".")
            # `from a import b`: the file a/b.py if there is one, else something inside a.
            files.add((name and file_of(f"{inside}.{name}".lstrip("."))) or file_of(inside) or module)
    return files


def may_import(file, target):
    """Whether the table lets `file` import `target`."""
    place, target_place = place_of(file), place_of(target)
    if place in BESIDE:
        return target_place == place or target in BESIDE[place]
    if target_place not in PLACES:
        return False
    if place == target_place:
        return place.endswith("/")
    return PLACES.index(target_place) < PLACES.index(place)


def read(file):
    return (PACKAGE / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_a_place_on_a_floor(file):
    assert place_of(file), f"vitcourse/{file} is in no floor: give it a place in FLOORS, in {Path(__file__).name}"


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file):
    upward = [target for target in sorted(imported_files(file, read(file))) if not may_import(file, target)]
    assert not upward, f"vitcourse/{file} imports {', '.join(upward)}, which doesn't stand below it"


def test_no_imports_run_in_a_circle():
    imports = {file: imported_files(file, read(file)) - {file} for file in FILES}
    TopologicalSorter(imports).prepare()  # raises CycleError, with the circle


@pytest.mark.parametrize("file", FILES)
def test_a_long_file_says_why(file):
    docstring = ast.get_docstring(ast.parse(read(file))) or ""
    lines = len(read(file).splitlines())
    assert lines <= 150 or LONG in docstring, f"vitcourse/{file} has {lines} lines: split it, or say '{LONG} ...'"


@pytest.mark.parametrize("file", FILES)
def test_everything_public_has_a_docstring(file):
    tree = ast.parse(read(file))
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [node for node in tree.body if isinstance(node, definitions) and not node.name.startswith("_")]
    if file == "checks/broken.py":  # shown to learners as it stands; what each claims to be is part of the puzzle
        return
    bare = [node.name for node in public if not ast.get_docstring(node) and not _is_mistake(node)]
    assert ast.get_docstring(tree), f"vitcourse/{file} doesn't say what it holds"
    assert not bare, f"vitcourse/{file}: no docstring on {', '.join(bare)}"


def _is_mistake(node):
    """Whether it is a belief of `checks`, whose message stands in its decorator."""
    calls = [call.func for call in node.decorator_list if isinstance(call, ast.Call)]
    return any(isinstance(function, ast.Attribute) and function.attr in ("mistake", "named") for function in calls)


@pytest.mark.parametrize("file", ["files.py", "places.py", "progress.py", "validation.py", "config.py"])
def test_the_cellar_needs_no_torch(file):
    tree = ast.parse(read(file))
    modules = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [module for module in modules if module.split(".")[0] in ("torch", "einops", "safetensors")]


def test_import_vitcourse_is_light():
    heavy = ["torchvision", "matplotlib", "ipywidgets", "IPython", "sklearn", "torchmetrics", "pandas", "PIL"]
    code = f"import sys, vitcourse; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip() == "[]"


# ---- the reading itself: what it must see


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("model.py", "from vitcourse.config import ViTConfig", {"config.py"}),
        ("model.py", "import vitcourse.layers.mlp", {"layers/mlp.py"}),
        ("model.py", "from vitcourse import functional, ViTConfig", {"functional.py", "__init__.py"}),
        ("model.py", "from vitcourse.layers import mlp, MLP", {"layers/mlp.py", "layers/__init__.py"}),
        ("model.py", "from . import functional", {"functional.py"}),
        ("layers/mlp.py", "from .attention import MultiHeadAttention", {"layers/attention.py"}),
        ("layers/mlp.py", "from ..config import ViTConfig", {"config.py"}),
        ("model.py", "def late():\n    from vitcourse import figures", {"figures/__init__.py"}),
        ("model.py", "from vitcourse import nothing_such", {"__init__.py"}),
        ("model.py", "from vitcourse.nothing import such", {"vitcourse.nothing"}),
        ("model.py", "import torch\nfrom os import path", set()),
    ],
)
def test_imports_are_read_in_all_their_forms(file, source, expected):
    assert imported_files(file, source) == expected


@pytest.mark.parametrize(
    ("file", "target", "allowed"),
    [
        ("model.py", "config.py", True),
        ("config.py", "model.py", False),
        ("layers/encoder_block.py", "layers/attention.py", True),
        ("layers/attention.py", "layers/encoder_block.py", False),
        ("training/fit.py", "data/__init__.py", True),
        ("data/__init__.py", "training/fit.py", False),
        ("training/fit.py", "training/log.py", True),
        ("__init__.py", "figures/__init__.py", False),
        ("__init__.py", "model.py", True),
        ("figures/style.py", "__init__.py", True),
        ("layers/mlp.py", "__init__.py", False),
        ("__main__.py", "authoring/notebooks.py", False),
        ("authoring/notebooks.py", "files.py", True),
        ("authoring/notebooks.py", "authoring/address.py", True),
        ("authoring/notebooks.py", "config.py", False),
        ("model.py", "unplaced.py", False),
    ],
)
def test_the_table_is_read_as_it_is_meant(file, target, allowed):
    assert may_import(file, target) is allowed
