"""The places that name requirements agree: pyproject.toml is the source, the others follow it."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CONDA_NAMES = {"torch": "pytorch"}


def pinned_lines():
    lines = (REPO / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins():
    """Return {name: {versions}}; a name may be pinned more than once, under different markers."""
    found = {}
    for requirement in map(Requirement, pinned_lines()):
        found.setdefault(canonicalize_name(requirement.name), set()).update(
            specifier.version for specifier in requirement.specifier
        )
    return found


def declared():
    """Return every requirement of pyproject.toml, those of the extras included."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def yaml_file(name):
    return yaml.safe_load((REPO / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_declared_requirement_is_pinned_within_its_bounds(requirement):
    versions = pins().get(canonicalize_name(requirement.name))
    assert versions, f"{requirement.name} of pyproject.toml is not in requirements.txt"
    for version in versions:
        assert requirement.specifier.contains(version, prereleases=True), f"{version} is not {requirement}"


def test_requirements_txt_pins_exactly_and_names_no_place():
    for line in pinned_lines():
        assert not line.startswith("-"), f"an option of pip in requirements.txt: {line}"
        assert "://" not in line, f"an address in requirements.txt: {line}"
        assert " @ " not in line, f"an address in requirements.txt: {line}"
        operators = [specifier.operator for specifier in Requirement(line).specifier]
        assert operators == ["=="], f"not one exact version: {line}"


def test_the_torch_pair_is_the_one_that_the_file_is_compiled_with():
    constraints = map(Requirement, PYPROJECT["tool"]["uv"]["constraint-dependencies"])
    wanted = {item.name: {specifier.version for specifier in item.specifier} for item in constraints}
    assert wanted.keys() == {"torch", "torchvision"}
    assert {name: pins()[name] for name in wanted} == wanted


def test_conda_users_get_the_same_requirements():
    dependencies = yaml_file("environment.yml")["dependencies"]
    expected = ["python" + PROJECT["requires-python"]]
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["lab"]:
        requirement = Requirement(text)
        expected.append(CONDA_NAMES.get(requirement.name, requirement.name) + str(requirement.specifier))
    assert [item for item in dependencies if isinstance(item, str)] == [*expected, "pip"]
    assert [item for item in dependencies if not isinstance(item, str)] == [{"pip": ["-e ."]}]
    assert yaml_file("environment.yml")["channels"] == ["conda-forge"]


def test_the_workflow_tries_every_python_on_every_system():
    job = yaml_file(".github/workflows/ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python-version"] == ["3.11", "3.12", "3.13", "3.14"]
    systems = {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    assert "python course.py test" in [step.get("run") for step in job["steps"]]


def test_the_workflow_tries_the_pythons_that_course_py_accepts():
    versions = yaml_file(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    course = (REPO / "course.py").read_text(encoding="utf-8")
    bounds = re.search(r"^OLDEST, NEWEST = \((\d+), (\d+)\), \((\d+), (\d+)\)$", course, re.MULTILINE)
    assert bounds, "course.py no longer says OLDEST, NEWEST = (3, a), (3, b)"
    assert [versions[0], versions[-1]] == [
        "{}.{}".format(*bounds.groups()[:2]),
        "{}.{}".format(*bounds.groups()[2:]),
    ]
    assert PROJECT["requires-python"] == ">=" + versions[0]


@pytest.mark.parametrize("tool", ["ruff", "codespell"])
def test_pre_commit_uses_the_pinned_versions(tool):
    repos = yaml_file(".pre-commit-config.yaml")["repos"]
    versions = {repo["repo"].rsplit("/", 1)[-1].removesuffix("-pre-commit"): repo["rev"] for repo in repos}
    assert {versions[tool].removeprefix("v")} == pins()[tool]


def test_the_citation_names_the_packages_version():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == re.search(r'^__version__ = "(.+)"$', source("__init__.py"), re.MULTILINE)[1]


def test_the_wheel_takes_its_version_from_the_package():
    assert "version" in PROJECT["dynamic"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "vitcourse/__init__.py"


def source(name):
    return (REPO / "vitcourse" / name).read_text(encoding="utf-8")
