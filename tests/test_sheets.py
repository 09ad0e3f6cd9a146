"""The exercise sheets: generated from their solutions, safe to hand out, and failing only where they should."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from vitcourse.authoring import notebooks, sheets
from vitcourse.checks import Exercise
from vitcourse.grading import grade_sheet

ROOT = Path(__file__).parent.parent
NAMES = sheets.names(ROOT)
MACHINE_PATH = re.compile(r"(/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\\\Users)")
META = re.compile(
    r"\*Importance ([1-5]) of 5 · difficulty ([1-5]) of 5 · (\d+) minutes · (\d+) points?(?: · marked by hand)?\*"
)


def solution(name):
    return notebooks.read(ROOT / "solutions" / name / f"{name}.ipynb")


def exercise(name):
    return notebooks.read(ROOT / "exercises" / name / f"{name}.ipynb")


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def about(cell):
    return cell.metadata.get("nbgrader", {})


def module_of(notebook):
    return re.search(r"from vitcourse\.checks import (\w+) as check", "\n".join(c.source for c in code(notebook)))[1]


def test_there_are_seven_sheets_in_order():
    assert [name.split("-")[1] for name in NAMES] == [str(number) for number in range(1, len(NAMES) + 1)]
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_both_pages_know_its_minutes_and_points(name):
    minutes, points = re.search(r"about (\d+) minutes[^|]*\| (\d+) \|", prose(solution(name))).groups()
    number = name.split("-")[1]
    for page, start in (("README.md", rf"\[{number} "), ("TEACHING.md", f"{number} ")):
        row = re.search(
            rf"^\| {start}.*$", (ROOT / page).read_text(encoding="utf-8").split("| sheet ")[1], re.MULTILINE
        )
        assert f"| {minutes} | {points} |" in row[0], page


def test_the_sheets_are_what_nbgrader_makes_of_the_solutions(tmp_path):
    pytest.importorskip("nbgrader")
    made = {path.relative_to(tmp_path): path.read_bytes() for path in sheets.generate(ROOT, tmp_path)}
    kept = {
        path.relative_to(ROOT / "exercises"): path.read_bytes()
        for name in NAMES
        for path in (ROOT / "exercises" / name).rglob("*")
        if path.is_file() and ".ipynb_checkpoints" not in path.parts
    }
    assert made.keys() == kept.keys()
    different = [str(path) for path in made if made[path] != kept[path]]
    assert not different, "run `python -m vitcourse.authoring sheets`"


@pytest.mark.parametrize("name", NAMES)
def test_solutions_are_in_normal_form_and_without_outputs(name):
    assert notebooks.is_normal(ROOT / "solutions" / name / f"{name}.ipynb"), (
        "run `python -m vitcourse.authoring normalise solutions/*/*.ipynb`"
    )
    assert not any(cell.outputs or cell.execution_count for cell in code(solution(name)))
    assert not MACHINE_PATH.search(notebooks.as_text(solution(name)))


def solution_lines(cell):
    inside = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", cell.source, flags=re.DOTALL)
    if cell.cell_type == "markdown":
        inside = [cell.source]
    lines = [line.strip() for part in inside for line in part.splitlines()]
    return {line for line in lines if len(line) > 12 and line != "return logits"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_a_solution_reaches_the_learner(name):
    given = {line.strip() for cell in solution(name).cells if not about(cell).get("solution")
             for line in cell.source.splitlines()}  # fmt: skip
    handed = notebooks.as_text(exercise(name))
    handed_lines = {line.strip() for cell in exercise(name).cells for line in cell.source.splitlines()}
    for marker in ("BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN TESTS", "END HIDDEN TESTS", "Mark scheme"):
        assert marker not in handed
    for cell in solution(name).cells:
        if about(cell).get("solution"):
            leaked = (solution_lines(cell) - given) & handed_lines
            assert not leaked, f"{cell.id}: {leaked}"


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_of_a_check_holds_a_line_of_the_solution(name):
    module = import_module(f"vitcourse.checks.{module_of(solution(name))}")
    messages = [m.message for value in vars(module).values() if isinstance(value, Exercise) for m in value.mistakes]
    lines = {line for cell in code(solution(name)) if about(cell).get("solution") for line in solution_lines(cell)}
    assert messages
    telling = {line.removeprefix("return ") for line in lines if len(line) >= 24 and re.search(r"[(=]", line)}
    assert telling
    assert not [(line, message) for line in telling for message in messages if line in message]


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_has_its_check_and_points_agree(name):
    notebook = solution(name)
    module = import_module(f"vitcourse.checks.{module_of(notebook)}")
    checks = {}
    for cell in notebook.cells:
        if about(cell).get("grade") and cell.cell_type == "code":
            assert cell.id == about(cell).grade_id
            used, given = re.fullmatch(r"check\.(\w+)\((\w+)\)", cell.source.splitlines()[-1]).groups()
            assert used == given
            found = getattr(module, used)
            assert isinstance(found, Exercise)
            assert found.points == about(cell).points, cell.id
            checks[used] = found
    assert checks == {key: value for key, value in vars(module).items() if isinstance(value, Exercise)}
    total = sum(about(cell).points for cell in notebook.cells if about(cell).get("grade"))
    assert total == sum(int(points) for *_, points in META.findall(prose(notebook)))
    assert re.search(rf"\| {total:g} \|", notebook.cells[0].source), "the card states the total"


@pytest.mark.parametrize("name", NAMES)
def test_every_task_has_meta_recall_and_three_folded_hints(name):
    tasks = re.split(r"(?m)^(?=## )", prose(solution(name)))
    tasks = [task for task in tasks if META.search(task)]
    assert len(tasks) >= 5
    for task in tasks:
        title = task.splitlines()[0]
        assert title.startswith(f"## {name.split('-')[1]}."), title
        assert "**Recall.**" in task, title
        for number in (1, 2, 3):
            assert task.count(f"<details><summary>Hint {number}</summary>") >= 1, title


@pytest.mark.parametrize("name", NAMES)
def test_code_is_short_and_ids_are_readable(name):
    notebook = solution(name)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell_id) for cell_id in ids)
    for cell in code(notebook):
        lines = cell.source.splitlines()
        assert len(lines) <= (30 if about(cell).get("solution") else 20), cell.id
        assert max(map(len, lines)) <= 88, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_the_set_up_is_that_of_the_notebooks_and_links_lead_somewhere(name):
    first = notebooks.read(ROOT / "notebooks" / "00-start-here.ipynb")
    assert code(solution(name))[0].source == code(first)[0].source
    for folder, notebook in (("solutions", solution(name)), ("exercises", exercise(name))):
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", prose(notebook)):
            assert (ROOT / folder / name / target).resolve().exists(), target
    assert f"blob/main/exercises/{name}/{name}.ipynb" in solution(name).cells[0].source


def unfilled(notebook):
    """Names of the functions and classes that the learner has to fill in."""
    return {
        node.name
        for cell in code(notebook)
        if about(cell).get("solution")
        for node in ast.parse(cell.source).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_unfilled_sheet_fails_only_where_an_unfilled_function_is_called(name):
    NotebookClient = pytest.importorskip("nbclient").NotebookClient
    notebook = exercise(name)
    notebook.cells = [cell for cell in notebook.cells if "self-grade" not in cell.metadata.get("tags", [])]
    place = {"metadata": {"path": str(ROOT / "exercises" / name)}}
    NotebookClient(notebook, timeout=120, allow_errors=True, kernel_name="python3", resources=place).execute()
    names = unfilled(notebook)
    assert names
    for cell in code(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        used = {node.id for node in ast.walk(ast.parse(re.sub(r"(?m)^\s*%.*$", "pass", cell.source)))
                if isinstance(node, ast.Name)}  # fmt: skip
        assert [error.ename for error in errors] in ([], ["NotImplementedError"]), (cell.id, errors[0].evalue)
        assert not errors or used & names, f"{cell.id} fails and calls nothing unfilled"
        if about(cell).get("grade"):
            assert errors, f"{cell.id} says nothing about an unfilled task"


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_gets_every_point(name):
    pytest.importorskip("nbclient")
    marks = grade_sheet(ROOT / "solutions" / name / f"{name}.ipynb")
    assert marks.earned == marks.points, str(marks)
    assert marks.points > 0
