"""One task of a sheet: the inputs it is tried on, the answer it expects, and the beliefs that it recognises.

Three steps, so that the same check serves the learner and the grader: `cases(seed)` makes the inputs, `observe` runs
beside the learner's code and returns plain data, `judge` compares, out of the learner's reach.

Longer than 150 lines because the three steps are one thing, and their vocabulary stands with them.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vitcourse.checks.borrowed import handed_in, watched
from vitcourse.checks.compare import difference, kind, same
from vitcourse.checks.report import Points, Report
from vitcourse.checks.watch import Outcome, watch

SECONDS = 5.0
PATIENCE = 600.0  # seconds for a right answer on one case: how busy a machine is says nothing about the learner


@dataclass(frozen=True)
class Case:
    """One input: the arguments by name, in the order of the call, and a few words about it."""

    note: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Mistake:
    """A belief as code: `answer` does what someone who holds it would hand in.

    Args:
        message: the sentence that a good teacher would say; it never shows the solution.
        source: where the belief was seen: an issue, a question, a paper, published code.
    """

    answer: Callable[..., Any]
    message: str
    source: str

    @property
    def name(self) -> str:
        """The function's name, as words."""
        return self.answer.__name__.replace("_", " ").strip()


def integer(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def call(answer: Callable[..., Any], *arguments: Any) -> Any:
    """The ordinary way to try an answer: it is a function of the arguments."""
    return answer(*arguments)


@dataclass
class Exercise:
    """A task with its check; calling it shows a card and returns the points.

    Args:
        name: what the learner is asked to write, as it is called in the sheet.
        points: for a right answer.
        section: where it is taught, "notebook#heading": "03-attention#5 Masks".
        reference: a right answer; never shown.
        cases: inputs from a `torch.Generator`; different ones for each seed.
        run: calls an answer with a case's arguments and returns what is compared: a value, a tuple, or a mapping from
            names to values; or yields (name, value) pairs, so that those before an error count. It runs beside the
            learner's code. By default the answer is a function of the arguments.
        repeat: also call a second time, to notice randomness and state.
        partial: points for each right value instead of for all of them.
        seconds: after which a call is given up.
        takes: "function" or "class": what is handed in, for the message when it isn't.
        may_use: what of the package an answer may call, as in `borrowed.watched`; by default nothing that does a task.
    """

    name: str
    points: float
    section: str
    reference: Callable[..., Any]
    cases: Callable[[torch.Generator], Iterable[Case]]
    run: Callable[..., Any] = call
    repeat: bool = True
    partial: bool = False
    seconds: float = SECONDS
    takes: str = "function"
    may_use: tuple[str, ...] = ()
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, message: str, source: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator: a function or class is what someone with this belief would hand in."""

        def add(answer: Callable[..., Any]) -> Callable[..., Any]:
            self.mistakes.append(Mistake(answer, message, source))
            return answer

        return add

    # ---- the three steps

    def inputs(self, seed: int) -> list[Case]:
        """The cases of a seed, the same on every machine."""
        return list(self.cases(torch.Generator().manual_seed(seed)))

    def refused(self, answer: Any) -> str:
        """Why what was handed in can't be tried at all, or ""."""
        if self.takes == "class" and not isinstance(answer, type):
            return f"Pass the class itself, check.{self.name}({self.name}), not {what_it_is(answer)}."
        if not callable(answer):
            return f"Pass the function itself, without calling it; got {what_it_is(answer)}."
        if handed_in(answer, self.may_use, self.reference):
            return "This is the package's own; write yours."
        return ""

    def observe(self, answer: Any, seed: int) -> list[Outcome]:
        """Try an answer on the cases of `seed`; stops at a time-out and at a task that isn't filled in."""
        outcomes: list[Outcome] = []
        deadline = time.monotonic() + self.seconds
        for case in self.inputs(seed):
            left = max(0.1, deadline - time.monotonic())
            with watched(self.may_use, self.reference) as borrowed:
                outcome = watch(functools.partial(self.run, answer), case.arguments, left, self.repeat)
            outcomes.append(replace(outcome, borrowed=borrowed[0]) if borrowed else outcome)
            if outcomes[-1].timed_out or outcomes[-1].unfilled:
                break
        return outcomes

    def judge(self, outcomes: Sequence[Outcome], seed: int, refused: str = "") -> Report:
        """Compare what came out with what should have, and find the belief that leads there.

        Raises:
            TimeoutError: a right answer took more than `PATIENCE`.
        """
        report = Report(self.name, self.points, self.section, seed)
        if refused:
            return report.changed(state="wrong", problem=refused)
        cases = self.inputs(seed)
        printed = next((outcome.printed for outcome in outcomes if outcome.printed), "")
        report = report.changed(tested=tuple(case.note for case in cases), printed=printed)
        for number, wrong in enumerate(self._findings(cases, outcomes, seed), 1):
            if outcomes[number - 1].unfilled:
                return report.changed(state="unfilled")
            if wrong:
                case = cases[number - 1].note
                return report.changed(**{"state": "wrong", "case": case, "number": number} | wrong)
        if len(outcomes) < len(cases):
            return report.changed(state="wrong", problem="Nothing came out.", case=cases[len(outcomes)].note)
        return report.changed(state="right", score=1.0)

    def __call__(self, answer: Any, seed: int | None = None) -> Points:
        """Check an answer, show the card, return the points.

        Args:
            seed: of the inputs; a fresh one by default. The card says which, so that a failure can be repeated.

        Raises:
            NotImplementedError: the task isn't filled in yet.
        """
        seed = secrets.randbelow(10**6) if seed is None else seed
        problem = self.refused(answer)
        report = self.judge([] if problem else self.observe(answer, seed), seed, problem)
        if report.state == "unfilled":
            error = NotImplementedError(f"{self.name} isn't filled in yet.")
            error._render_traceback_ = lambda: [f"NotImplementedError: {error}"]  # IPython shows this line alone
            raise error
        report.show()
        return Points(report)

    # ---- inside

    def _findings(self, cases: Sequence[Case], outcomes: Sequence[Outcome], seed: int) -> Iterator[dict[str, Any]]:
        """For each case that was tried, the fields of the report that say what is wrong; empty where nothing is."""
        expected = self._expected(cases)
        for case, wanted, got in zip(cases, expected, outcomes, strict=False):
            problem = "" if got.unfilled else self._problem(wanted, got)
            if not problem:
                yield {}
                continue
            borrowed = any(outcome.borrowed for outcome in outcomes)
            no_belief = got.timed_out or got.borrowed
            belief, sure = (None, False) if no_belief else self._belief(expected, outcomes, seed)
            yield {
                "score": self._share(expected, outcomes) if self.partial and not borrowed else 0.0,
                "problem": problem,
                "belief": belief.message if belief else "",
                "belief_name": belief.name if belief and sure else "",
                "arguments": dict(case.arguments),
                "expected": {} if got.borrowed else dict(wanted.values),
                "got": {} if got.borrowed else dict(got.values),
                "line": got.line,
            }

    def _expected(self, cases: Sequence[Case]) -> list[Outcome]:
        right = functools.partial(self.run, self.reference)
        expected = [watch(right, case.arguments, PATIENCE, repeat=False) for case in cases]
        if any(outcome.timed_out for outcome in expected):
            raise TimeoutError(
                f"{self.name}: a right answer took more than {PATIENCE:g} s here, so nothing can be judged; "
                "try again when this machine is less busy."
            )
        return expected

    def _problem(self, wanted: Outcome, got: Outcome) -> str:
        """What is wrong with one outcome, or ""."""
        if got.borrowed:
            return f"Your answer calls the package's own {got.borrowed}. Write it yourself: that is the task."
        if got.timed_out:
            return f"It did not return within {self.seconds:g} seconds. Look for a loop that never ends."
        if got.unstable == "random":
            return (
                "Two calls with the same input differ: there is chance in it. Look for random numbers, weights drawn "
                "anew, or a dropout left on."
            )
        if got.unstable:
            return "Two calls with the same input differ: it keeps something from one call to the next."
        for name, value in wanted.values.items():
            if name in got.values and (problem := difference(value, got.values[name], name)):
                return problem
        if got.error and got.error != wanted.error:
            return f"It raised {got.error}"
        missing = [name for name in wanted.values if name not in got.values]
        if wanted.values.keys() == {"output"} and "output[0]" in got.values:
            return f"output is a tuple of {len(got.values)}; expected {kind(wanted.values['output'])} alone."
        if missing:
            if got.values.keys() == {"output"}:
                only = got.values["output"]
                return f"It returned {_count(only)}; expected {len(wanted.values)} values: {', '.join(wanted.values)}."
            return f"It gave no {', '.join(missing)}."
        extra = [name for name in got.values if name not in wanted.values]
        if extra:
            return f"It gave {', '.join(extra)}, which was not asked for."
        if got.changed:
            return f"The numbers are right, but it changes its input {', '.join(got.changed)} in place."
        return ""

    def _share(self, expected: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
        pairs = [
            (value, got.values.get(name))
            for wanted, got in zip(expected, outcomes, strict=False)
            for name, value in wanted.values.items()
        ]
        total = sum(len(wanted.values) for wanted in expected)
        return sum(not difference(value, got) for value, got in pairs) / total

    def _belief(
        self, expected: Sequence[Outcome], outcomes: Sequence[Outcome], seed: int
    ) -> tuple[Mistake | None, bool]:
        """The belief that leads to the learner's outcome, and whether it explains all of it.

        Best one that explains all that is wrong, and of those the one that agrees most where it is right; else one that
        explains the first wrong case; else one that explains the first wrong value, so that two slips at once are named
        one after the other.
        """
        cases = self.inputs(seed)
        wrong = [index for index, got in enumerate(outcomes) if self._problem(expected[index], got)]
        first, repeat = wrong[0], bool(outcomes[wrong[0]].unstable)

        def tried(mistake: Mistake, index: int) -> Outcome:
            return watch(functools.partial(self.run, mistake.answer), cases[index].arguments, self.seconds, repeat)

        found: list[tuple[int, int, Mistake]] = []
        name = _first_wrong(expected[first], outcomes[first])
        for mistake in self.mistakes:
            other = tried(mistake, first)
            if _alike(outcomes[first], other):
                rest = [index for index in range(len(outcomes)) if index != first]
                agrees = {index: _alike(outcomes[index], tried(mistake, index)) for index in rest}
                explains_all = all(agrees[index] for index in wrong[1:])
                found.append((2 if explains_all else 1, sum(agrees.values()), mistake))
            elif name and name == _first_wrong(expected[first], other) and _agree(outcomes[first], other, name):
                found.append((0, 0, mistake))
        best = max(found, key=lambda entry: entry[:2], default=(0, 0, None))
        return best[2], best[0] == 2


def _agree(mine: Outcome, other: Outcome, name: str) -> bool:
    return same(mine.values[name], other.values[name])


def _first_wrong(wanted: Outcome, got: Outcome) -> str:
    """The name of the first value that came out wrong, or ""."""
    shown = [name for name in wanted.values if name in got.values]
    return next((name for name in shown if difference(wanted.values[name], got.values[name])), "")


def _alike(mine: Outcome, other: Outcome) -> bool:
    if mine.error != other.error:
        return False
    if mine.values.keys() != other.values.keys() or mine.changed != other.changed or mine.unstable != other.unstable:
        return False
    return mine.unstable == "random" or all(same(value, other.values[name]) for name, value in mine.values.items())


def what_it_is(value: Any) -> str:
    """What was handed in instead of what was asked for, in words."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _count(value: Any) -> str:
    return "None" if value is None else "one value"
