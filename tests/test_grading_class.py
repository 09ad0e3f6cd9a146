"""A class, graded: nobody gets a point that isn't earned, nobody loses one, and everybody has a line.

The gate takes a dozen cases of tests/hostile_class.py; with --all it is the whole class, killed and started again.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hostile_class
import pytest

from vitcourse.__main__ import main
from vitcourse.grading import classroom, exports, handed_out, kept, sandbox, workers
from vitcourse.grading.marks import Rules, deadline, marks
from vitcourse.grading.project import Scheme
from vitcourse.grading.results import Result
from vitcourse.grading.submissions import Submission

HERE = Path(__file__).resolve().parents[1]
SHEETS = handed_out.sheets_in(HERE / "exercises")
NAME = "sheet-2-attention"
apart = pytest.mark.skipif(sandbox.protection() != "bubblewrap", reason="needs bubblewrap")
QUICK = (
    *("right-00", "truncated", "empty", "link", "shuffled", "colab-bare", "exit-free", "patch"),
    *("thread-reference", "solutions", "others", "overwriting", "burst", "package"),
)


def grade(place, out, **options):
    limits = sandbox.Limits(cell=options.pop("cell", 20))
    hidden = [HERE / "solutions"]
    found = classroom.grade_all(place, out, SHEETS, only=NAME, workers=1, limits=limits, hidden=hidden, **options)
    return exports.write(found, out, Rules())


def compare(cases, graded):
    """The table of cases, printed; returns what is not as it should be."""
    by = {mark.result.file.split("/")[0]: mark for mark in graded}
    wrong = []
    print(f"\n{'case':<52} expected  given  reason")
    for case in sorted(cases, key=lambda case: case.kind):
        mark = by.get("".join(letter if letter.isprintable() else "?" for letter in case.name))
        assert mark, f"{case.name} has no line"
        rows = {hostile_class.EXERCISES[row.grade_id][0]: row.earned for row in mark.result.rows}
        said = case.reason is None or case.reason == bool(mark.reason)
        sign = " " if rows == case.earned and said else "!"
        print(f"{sign} {case.kind:<50} {sum(case.earned.values()):8g} {mark.result.earned:6g}  {mark.reason[:90]}")
        wrong += [case.name] if sign == "!" else []
    return wrong


def chosen(cases, folder, names):
    """Only these cases, in a folder of their own."""
    folder.mkdir()
    kept = [case for case in cases if case.name in names]
    for case in kept:
        case.write(folder / case.name)
    return kept


@apart
def test_a_dozen(tmp_path):
    """Cheats, breakdowns and honest ones; run again, nothing is run again; one is changed, one is run."""
    class_, out = tmp_path / "class", tmp_path / "grades"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        cases = hostile_class.make(tmp_path / "all", out=out, port=server.getsockname()[1])
        cases = chosen(cases, class_, {*QUICK, "loopback"})
        assert not compare(cases, grade(class_, out))
        with pytest.raises(TimeoutError):
            server.accept()
    assert "overwriting" in {row["student"] for row in table(out)}
    kept = snapshot(out)
    started = time.monotonic()
    grade(class_, out)
    assert time.monotonic() - started < 10
    assert snapshot(out) == kept
    ran = []

    def spy(function, jobs):
        ran.extend(job.submission.student for job in jobs)
        return map(function, jobs)

    (class_ / "right-00" / f"{NAME}.ipynb").write_bytes((class_ / "truncated" / f"{NAME}.ipynb").read_bytes())
    grade(class_, out, mapped=spy)
    assert ran == ["right-00"]


def one(folder, name="ana"):
    """Where a single hand-in is written to."""
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.ipynb"


def table(out):
    with (out / "marks.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(out):
    """The bytes of every file by name."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("sheet", ["nothing", NAME])
def test_the_command_says_by_its_exit_code_whether_a_human_is_needed(tmp_path, capsys, sheet):
    class_ = tmp_path / "class"
    one(class_).write_bytes(b"" if sheet == "nothing" else hostile_class.SHEET.read_bytes())
    command = ["grade", "class", str(class_), "--out", str(tmp_path / "out"), "--sheets", str(HERE / "exercises")]
    assert main([*command, "--workers", "1"]) == (3 if sheet == "nothing" else 0)
    assert "1 lines in" in capsys.readouterr().out
    (row,) = table(tmp_path / "out")
    assert (row["mark"], row["reason"]) == ("0.00", "an empty file" if sheet == "nothing" else "")


def test_errors_of_the_command_are_one_sentence(tmp_path, capsys):
    command = ["grade", "class", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    assert main([*command, "--sheets", str(HERE / "exercises")]) == 1
    assert main([*command, "--sheets", str(HERE / "exercises"), "--sheet", "x"]) == 1
    assert main([*command, "--sheets", str(tmp_path)]) == 1
    assert (
        main(["grade", "class", str(tmp_path), "--out", str(tmp_path / "x"), "--sheets", str(HERE / "exercises")]) == 1
    )
    assert len(capsys.readouterr().err.splitlines()) in (4, 7)  # and, without bubblewrap, what isn't protected


def test_a_run_that_cannot_start_is_our_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom.running, "COMMAND", (sys.executable, "-c", "import sys; sys.exit('no IPython')"))
    one(tmp_path / "class").write_bytes(hostile_class.SHEET.read_bytes())
    (mark,) = grade(tmp_path / "class", tmp_path / "out")
    assert mark.mark is None
    assert "the grader failed: RuntimeError: the run does not start" in mark.reason
    assert "no IPython" in mark.reason
    monkeypatch.undo()
    (mark,) = grade(tmp_path / "class", tmp_path / "out")  # it is run again
    assert (mark.mark, mark.reason) == (0, "")


@pytest.mark.parametrize(
    "cell",
    [
        "import os\nos.remove('progress')\nos._exit(0)",
        "import os\nopen('progress', 'w').write('{\"at\": [1], \"cut\": []}')\nos._exit(0)",
    ],
    ids=["gone", "junk"],
)
@apart
def test_a_hand_in_cannot_make_its_end_the_graders_failure(tmp_path, cell):
    one(tmp_path / "class").write_bytes(hostile_class.text_of(hostile_class.added(hostile_class.filled(), cell)))
    (mark,) = grade(tmp_path / "class", tmp_path / "out")
    assert mark.mark is not None
    assert "the grader failed" not in mark.reason


@apart
def test_a_helper_behind_the_cell_that_ends_the_run_is_found(tmp_path):
    source = "def attention_weights(query, key):\n    return helper(query, key)"
    answers = {name: hostile_class.answer(name, 0) for name in hostile_class.POINTS}
    filled = hostile_class.filled(answers | {"attention_weights": source})
    notebook = hostile_class.added(filled, "import os\nos._exit(0)", "check-padding-mask")
    helper = hostile_class.answer("attention_weights", 0).replace("def attention_weights(", "def helper(")
    notebook.cells.append(hostile_class.nbformat.v4.new_code_cell(helper, id="helper"))
    one(tmp_path / "class").write_bytes(hostile_class.text_of(notebook))
    (mark,) = grade(tmp_path / "class", tmp_path / "out")
    assert mark.result.earned == 23


def test_a_sheet_of_the_same_ids_a_thousand_attributes_deep_stops_nobody(tmp_path):
    deep = "def patchify(images, P):\n    return images\ncheck" + ".a" * 2000 + "()"
    notebook = hostile_class.nbformat.v4.new_notebook(cells=[hostile_class.nbformat.v4.new_code_cell(deep)])
    submission = Submission("ana", "Ana", "", "ana.ipynb", hostile_class.text_of(notebook), None)
    handed_out.recognised(submission, SHEETS)


def test_a_sheet_is_recognised_and_what_cannot_be_is_the_class(tmp_path):
    one(tmp_path / "class", "bo").write_bytes(b"{")
    one(tmp_path / "class").write_bytes(hostile_class.SHEET.read_bytes())
    done = []

    def without_running(_, jobs):
        for job in jobs:
            done.append((job.submission.student, job.sheet.name))
            yield job, job.nothing("")

    classroom.grade_all(tmp_path / "class", tmp_path / "out", SHEETS, mapped=without_running)
    assert done == [("ana", NAME), ("bo", NAME)]


def submitted(sheet, keep=lambda cell: True):
    """A sheet as handed in, with only some of its cells."""
    notebook = hostile_class.nbformat.reads(sheet.text, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if keep(cell)]
    return Submission("ana", "Ana", "", "ana.ipynb", hostile_class.text_of(notebook), None)


def test_an_exam_of_some_of_a_sheets_cells_and_the_sheet_are_told_apart():
    few = {"attention-weights", "check-attention-weights", "padding-mask", "check-padding-mask"}
    exam = handed_out.Sheet("exam", submitted(SHEETS[NAME], lambda cell: cell.id in few).content.decode())
    for sheets in ({"exam": exam, **SHEETS}, {**SHEETS, "exam": exam}):
        assert handed_out.recognised(submitted(exam), sheets).name == "exam"
        assert handed_out.recognised(submitted(SHEETS[NAME]), sheets).name == NAME
        most = submitted(SHEETS[NAME], lambda cell: cell.id != "check-crossover")
        assert handed_out.recognised(most, sheets).name == NAME


def test_what_sheets_share_tells_nothing():
    """A question called "explain" stands in two sheets; the file's name decides."""
    lone = submitted(
        SHEETS["sheet-7-transfer"], lambda cell: cell.metadata.get("nbgrader", {}).get("grade_id") == "explain"
    )
    twins = {name: handed_out.Sheet(name, lone.content.decode()) for name in ("exam-a", "exam-b")}
    assert handed_out.recognised(lone, twins) is None
    assert handed_out.recognised(replace(lone, file="exam-b.ipynb"), twins).name == "exam-b"


def test_each_hand_in_has_its_own_inputs_the_same_each_time():
    def job(content, seed=1):
        return classroom.Job(Submission("ana", "Ana", "", "a.ipynb", content, None), None, seed, sandbox.LIMITS, ())

    seeds = [job(b"{}").own_seed, job(b"{} ").own_seed, job(b"{}", seed=2).own_seed]
    assert len(set(seeds)) == 3
    assert job(b"{}").own_seed == seeds[0]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_hand_in_runs_on_its_own_inputs_and_is_judged_on_them(monkeypatch):
    seeds = []
    monkeypatch.setattr(classroom.running, "observe", lambda work: (seeds.append(work.seed), ({}, ()))[1])
    report = classroom.judging.report
    monkeypatch.setattr(classroom.judging, "report", lambda *about: (seeds.append(about[-1]), report(*about))[1])
    job = classroom.Job(submitted(SHEETS[NAME]), SHEETS[NAME], 0, sandbox.LIMITS, ())
    assert not classroom.grade_one(job)[1].failed
    assert set(seeds) == {job.own_seed}


def test_workers_below_one_are_refused(tmp_path):
    one(tmp_path / "class").write_bytes(b"{")
    with pytest.raises(ValueError, match="workers must be at least 1, got -2"):
        classroom.grade_all(tmp_path / "class", tmp_path / "out", SHEETS, workers=-2)


def test_seed_and_deadline_hold_until_others_are_named(tmp_path, monkeypatch):
    path = one(tmp_path / "class")
    path.write_bytes(hostile_class.text_of(hostile_class.filled()))
    os.utime(path, (1.7e9, 1.7e9))  # in 2023
    ran = []
    monkeypatch.setattr(classroom, "in_processes", lambda _, jobs, workers: (job.failed("") for job in ran_on(jobs)))

    def ran_on(jobs):
        ran.extend(job.seed for job in jobs)
        return jobs

    out = tmp_path / "out"
    command = ["grade", "class", str(tmp_path / "class"), "--out", str(out), "--sheets", str(HERE / "exercises")]
    for further in (["--seed", "7", "--deadline", "2022-01-01"], [], ["--deadline", "none"], ["--seed", "8"]):
        assert main([*command, *further]) == 3
    assert ran == [7, 7, 7, 8]
    assert main([*command, "--deadline", "tomorrow"]) == 1
    assert json.loads((out / "settings.json").read_text()) == {"../class": {"deadline": "", "seed": 8}}


def test_a_deadline_holds_in_the_next_run(tmp_path):
    class_, out = tmp_path / "class", tmp_path / "out"
    day = deadline("2026-12-01")
    assert kept.settings(out, class_, None, None) == (0, None)
    assert not out.exists()
    assert kept.settings(out, class_, None, "2026-12-01") == (0, day)
    assert kept.settings(out, class_, 7, None) == (7, day)
    assert kept.settings(out, tmp_path / "other" / "class", None, None) == (0, None)  # another folder of that name
    assert kept.settings(out, class_, None, None) == (7, day)
    tmp_path.rename(moved := tmp_path.parent / f"{tmp_path.name}-moved")
    assert kept.settings(moved / "out", moved / "class", None, None) == (7, day)
    moved.rename(tmp_path)
    with pytest.raises(ValueError, match="deadline must look like"):
        kept.settings(out, class_, None, "soon")
    assert kept.settings(out, class_, None, None) == (7, day)
    (out / "settings.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged: remove it"):
        kept.settings(out, class_, None, None)


def test_the_late_rule_reaches_the_final_mark(tmp_path, capsys):
    one(tmp_path / "class").write_bytes(b"")
    out = tmp_path / "out"
    command = ["grade", "class", str(tmp_path / "class"), "--out", str(out), "--sheets", str(HERE / "exercises")]
    assert main([*command[:2], str(tmp_path / "typo"), *command[3:], "--late", "3"]) == 1
    assert main([*command, "--late", "3", "--deadline", "soon"]) == 1
    (tmp_path / "empty").mkdir()
    assert main([*command[:2], str(tmp_path / "empty"), *command[3:], "--late", "3"]) == 1
    assert not out.exists(), "a command that is refused leaves nothing behind"
    for late, words in (("-5", "late must lie between 0 and 10, got -5"), ("nan", "got NaN")):
        assert main([*command, "--late", late]) == 1
        assert words in capsys.readouterr().err
    assert main([*command, "--late", "1"]) == 3
    assert Scheme.read(out / "scheme.toml").late == 1
    assert main(command) == 3
    assert main([*command, "--late", "2"]) == 1
    assert "scheme.toml says 1" in capsys.readouterr().err


def test_a_kept_result_follows_the_files_time_and_the_checks(tmp_path, monkeypatch):
    path = one(tmp_path / "class")
    path.write_bytes(b"{")
    ran = []

    def spy(function, jobs):
        ran.append(len(jobs))
        return map(function, jobs)

    grade(tmp_path / "class", tmp_path / "out", mapped=spy)
    os.utime(path, (0, 0))
    (mark,) = grade(tmp_path / "class", tmp_path / "out", mapped=spy)
    assert mark.result.handed_in.startswith("1970-01-01")
    monkeypatch.setattr(classroom, "_checks", lambda: "repaired")
    grade(tmp_path / "class", tmp_path / "out", mapped=spy)
    assert ran == [1, 1]


@pytest.mark.parametrize("names", [("ana", "bo", "dies"), ("dies", "ana", "bo", "chi", "dan")])
def test_a_worker_that_dies_takes_nothing_along(tmp_path, monkeypatch, names):
    sizes, pool = [], workers._pool
    monkeypatch.setattr(workers, "_pool", lambda size: sizes.append(size) or pool(size))
    submissions = [Submission(name, name, "", name, b"{", None) for name in names]
    jobs = [classroom.Job(one, None, 0, sandbox.LIMITS, ()) for one in submissions]
    found = {job.submission.student: result for job, result in workers.in_processes(_or_die, jobs, 2)}
    assert {name: result.failed for name, result in found.items()} == {name: name == "dies" for name in names}
    assert sizes.count(1) <= 2, "only those that ran when it died run alone"


def _or_die(job):
    if job.submission.student == "dies":
        os._exit(1)
    return job, Result(job.submission.student, "", "", "", "", "", "")


@apart
def test_without_bubblewrap_marks_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "_works", lambda: False)
    one(tmp_path / "class").write_bytes(hostile_class.text_of(hostile_class.filled()))
    (mark,) = grade(tmp_path / "class", tmp_path / "out")
    assert (mark.mark, mark.reason) == (10, "")


def test_on_a_dask_cluster_with_two_workers(tmp_path):
    distributed = pytest.importorskip("distributed")
    for name in ("ana", "bo"):
        one(tmp_path / "class", name).write_bytes(hostile_class.text_of(hostile_class.filled()))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        found = grade(tmp_path / "class", tmp_path / "dask", mapped=workers.on_dask(cluster.scheduler_address))
    assert [mark.mark for mark in found] == [10, 10]
    grade(tmp_path / "class", tmp_path / "here")
    assert snapshot(tmp_path / "dask") == snapshot(tmp_path / "here")


def test_on_a_dask_cluster_one_failure_takes_nothing_along():
    distributed = pytest.importorskip("distributed")
    jobs = [classroom.Job(Submission(name, name, "", name, b"{", None), None, 0, sandbox.LIMITS, ()) for name in "ab"]
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
        spread = workers.on_dask(cluster.scheduler_address)
        found = {job.submission.student: result for job, result in spread(_or_raise, jobs)}
    assert {name: result.failed for name, result in found.items()} == {"a": True, "b": False}
    assert found["a"].problem == "the grader failed: no memory"


def _or_raise(job):
    if job.submission.student == "a":
        raise MemoryError("no memory")
    return job, Result(job.submission.student, "", "", "", "", "", "")


def test_a_dask_cluster_that_is_not_there_is_one_sentence(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "Client", lambda address: distributed.client.Client(address, timeout=0.2))
    with pytest.raises(ConnectionError, match=r"--dask 127\.0\.0\.1:1: no scheduler answers there; start one with"):
        list(workers.on_dask("127.0.0.1:1")(None, []))


@pytest.mark.wide
@apart
def test_a_class_of_120_killed_in_the_middle_and_started_again(tmp_path):
    """All cases, by the command; the same bytes as in one go."""
    cases = hostile_class.make(tmp_path / "class", out=tmp_path / "grades")
    assert len(cases) == 120
    command = [sys.executable, "-m", "vitcourse", "grade", "class", str(tmp_path / "class"), "--sheet", NAME]
    command += ["--sheets", str(HERE / "exercises"), "--workers", "2", "--out"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    first = subprocess.Popen(
        [*command, str(tmp_path / "grades")], env=environment, cwd=tmp_path, start_new_session=True
    )
    done = tmp_path / "grades" / "results"
    while len(list(done.rglob("*.json"))) < 40:
        assert first.poll() is None
        time.sleep(0.5)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    early = snapshot(done)
    for content in early.values():
        json.loads(content)
    assert (
        subprocess.run([*command, str(tmp_path / "grades")], env=environment, cwd=tmp_path, check=False).returncode == 3
    )
    assert early.items() <= snapshot(done).items()
    found = [Result.read(path) for path in done.rglob("*.json")]
    assert not compare(cases, marks(found, tmp_path / "grades", Rules()))
    assert len(table(tmp_path / "grades")) == 120
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "again")], env=environment, cwd=tmp_path, check=False)
    minutes = (time.monotonic() - started) / 60
    print(f"\n120 submissions in {minutes:.1f} minutes with 2 workers")
    one, two = snapshot(tmp_path / "grades"), snapshot(tmp_path / "again")
    assert not [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]
