"""The command line: `python -m vitcourse COMMAND`.

Longer than 150 lines because all commands and their options stand in one place.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from vitcourse import places
from vitcourse.data import command as data_command

EPILOG = "Every command explains itself: python -m vitcourse COMMAND --help"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it went well, 1 with one sentence when it did not, 2 or 3 when a human is needed."""
    parser = argparse.ArgumentParser(prog="python -m vitcourse", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="say what works here, and how to mend what doesn't")
    doctor.set_defaults(run=_doctor)
    data = commands.add_parser("data", help="list, fetch and check data sets")
    data_command.add_arguments(data)
    data.set_defaults(run=data_command.run)
    train = commands.add_parser("train", help="train what a configuration file describes")
    train.add_argument("config", type=Path, help="a .toml file, as in experiments/")
    train.add_argument(
        "--out",
        type=Path,
        help="folder for logs and models (default: runs/NAME, or runs/NAME-seedN; see README, Colab)",
    )
    train.add_argument("--data", type=Path, help="folder of the data set, if it isn't where it is looked for")
    train.add_argument("--seed", type=int, help="short for --set training.seed=N")
    how = "instead of what the file says, for example training.epochs=5; may be given again"
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help=how)
    train.add_argument("--device", help="cpu, cuda or mps (default: the best one here)")
    train.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    train.add_argument("--mlflow", action="store_true", help="also write the run to MLflow, which must be installed")
    train.set_defaults(run=_train)
    grade = commands.add_parser("grade", help="count points and marks")
    kinds = grade.add_subparsers(required=True, metavar="WHAT")
    sheet = kinds.add_parser("sheet", help="run your own sheet in a fresh kernel and show its points")
    sheet.add_argument("path", type=Path, help="the notebook, saved")
    sheet.add_argument(
        "--seconds", type=float, default=120, help="after which a cell is stopped (default: %(default)s)"
    )
    sheet.set_defaults(run=_grade_sheet)
    about = "points, marks and feedback for a class: a folder of submissions, or the zip of a learning platform"
    whole = kinds.add_parser("class", help=about, description=about)
    whole.add_argument("submissions", type=Path, help="a folder for each student, flat files, or a zip")
    whole.add_argument("--out", type=Path, required=True, help="the folder for results; run again, it goes on there")
    whole.add_argument("--sheets", type=Path, default=Path("exercises"), help="as handed out (default: %(default)s)")
    whole.add_argument("--sheet", help="the one that all of them are (default: each is recognised)")
    whole.add_argument("--seed", type=int, help="of the hidden inputs, kept in OUT (default: the kept one, or 0)")
    whole.add_argument(
        "--deadline", help="2026-12-01 or 2026-12-01T23:59, kept in OUT; later hand-ins lose --late; none: no more"
    )
    how = "points off a late mark of 10, kept in OUT/scheme.toml for the final mark (default: what stands there, or 2)"
    whole.add_argument("--late", type=float, help=how)
    whole.add_argument(
        "--attempts", choices=("last", "best"), default="last", help="which counts (default: %(default)s)"
    )
    whole.add_argument("--seconds", type=float, default=120, help="for one submission (default: %(default)s)")
    whole.add_argument("--workers", type=int, help="at a time (default: one a core)")
    whole.add_argument("--dask", metavar="ADDRESS", help="hand the work to a running Dask cluster")
    whole.add_argument(
        "--gradebook",
        metavar="URL",
        help="also fill nbgrader's, such as sqlite:///gradebook.db, submitted/ and autograded/",
    )
    whole.set_defaults(run=_grade_class)
    about = "final marks, 0.4 practicals + 0.6 project, from the tables in a folder"
    project = kinds.add_parser("project", help=about, description=about)
    project.add_argument("folder", type=Path, help="holds students.csv and projects.csv; gets final.csv")
    project.add_argument("--new", action="store_true", help="write empty tables there instead")
    project.set_defaults(run=_grade_project)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (OSError, ImportError, ValueError, TypeError, ArithmeticError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _doctor(_: argparse.Namespace) -> int:
    from vitcourse import doctor

    checks = [*doctor.examine(), *doctor.extras()]
    print(doctor.as_text(checks))
    return 0 if all(check.ok for check in checks) else 1


def _train(options: argparse.Namespace) -> int:
    from vitcourse.training.experiment import Experiment

    changes = dict(map(_change, options.changes))
    if options.seed is not None:
        changes["training.seed"] = options.seed
    experiment = Experiment.read(options.config, changes)
    name = experiment.name if options.seed is None else f"{experiment.name}-seed{options.seed}"
    out = options.out or places.runs(name)
    result = experiment.run(
        out, folder=options.data, device=options.device, resume=options.resume, track=options.mlflow
    )
    print(f"Test accuracy {result['test_accuracy']:.2%} after {result['minutes']:.1f} minutes; all in {out}.")
    return 0


def _grade_sheet(options: argparse.Namespace) -> int:
    from vitcourse.grading import grade_sheet

    print(grade_sheet(options.path, options.seconds))
    return 0


def _grade_class(options: argparse.Namespace) -> int:
    from vitcourse.grading import (
        autograded,
        classroom,
        exports,
        handed_out,
        kept,
        marks,
        project,
        sandbox,
        submissions,
        workers,
    )

    course = options.sheets.resolve().parent
    sheets = handed_out.sheets_in(options.sheets)
    if options.sheet and options.sheet not in sheets:
        raise ValueError(f"sheet must be one of {', '.join(map(repr, sheets))}, got {options.sheet!r}.")
    classroom.check_places(options.submissions, options.out)
    if options.gradebook:
        autograded.check_apart(options.submissions, course)
    if options.deadline not in (None, "none"):
        marks.deadline(options.deadline)
    collected = submissions.collect(options.submissions)  # all errors come before something is kept
    scheme = project.agreed(options.out, options.late)
    seed, deadline = kept.settings(options.out, options.submissions, options.seed, options.deadline)
    rules = marks.Rules(deadline, options.attempts, scheme)
    print(f"Seed {seed}, {f'deadline {deadline.astimezone():%Y-%m-%d %H:%M}' if deadline else 'no deadline'}.")
    is_apart = sandbox.protection() == "bubblewrap"  # then on a cluster's machines, too
    if not is_apart:
        print(
            "Without bubblewrap (Linux) only time, memory and file sizes are limited; see TEACHING.md.", file=sys.stderr
        )
    graded = classroom.grade_all(
        options.submissions,
        options.out,
        sheets,
        only=options.sheet,
        seed=seed,
        workers=options.workers,
        limits=sandbox.Limits(seconds=options.seconds, apart=is_apart),
        hidden=[course / name for name in ("solutions", "submitted", "autograded")],
        mapped=workers.on_dask(options.dask) if options.dask else None,
        collected=collected,
    )
    chosen = exports.write(graded, options.out, rules, handed_out.model_answers(course / "solutions"))
    if options.gradebook:
        from vitcourse.grading import gradebook

        gradebook.fill(options.gradebook, sheets, chosen)
        autograded.write(course, sheets, chosen, collected)
    waiting = [mark for mark in chosen if mark.reason]
    print(f"{len(chosen)} lines in {options.out / 'marks.csv'}; {len(waiting)} need a human: see the column reason.")
    return 3 if waiting else 0


def _grade_project(options: argparse.Namespace) -> int:
    from vitcourse.grading import project

    if options.new:
        new = project.start(options.folder)
        print("\n".join(map(str, new)) or "Both tables are there already; they stay as they are.")
        return 0
    marks = project.write_final_marks(options.folder)
    print(project.as_table(marks))
    open_marks = sum(mark.final is None for mark in marks)
    if open_marks:
        print(f"{open_marks} of {len(marks)} have no final mark yet.", file=sys.stderr)
    return 2 if open_marks else 0


def _change(text: str) -> tuple[str, Any]:
    """ "training.epochs=5" as a name and the value that TOML reads; what it can't read is a text."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ValueError(f"--set takes NAME=VALUE, for example training.epochs=5, got {text!r}.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
