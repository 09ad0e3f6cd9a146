"""Sheet 5, debug the ViT: tests that expose a broken implementation, and repairs.

What a learner hands in is often a test. It is run on right implementations in several styles and on broken ones, and
what happens is written down: each call, each comparison that the test makes, what it raises. A cause is named only
where that record shows it; otherwise the card says what happened.

Longer than 150 lines because ten bugs, each with its test and its repair, stand on one page.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from vitcourse import functional, layers
from vitcourse.checks import broken
from vitcourse.checks.exercise import Case, Exercise
from vitcourse.checks.watch import Outcome, line_of, sentence

PASSES, FAILS, RETURNS, STOPS = "passes", "fails", "returns False", "stops"
LIBRARIES = {"torch", "numpy", "unittest", "einops", "_pytest"}
NOISE = Generator()  # its own, so that no seed makes noise repeat
ROUNDING = 3e-6  # of the largest number; a right version may differ by this much
KEPT = 60  # calls and comparisons, of each the first ones

# ---- what a test does, written down


@dataclass
class Call:
    """One call of the implementation, or of the module that it built."""

    module: nn.Module | None
    training: bool
    arguments: dict[str, Any]
    places: list[int]
    random_state: Tensor
    output: Any = None

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in self.arguments.values() if isinstance(value, Tensor)]


@dataclass
class Comparison:
    """One comparison of two tensors inside a test: their greatest difference, and whether it held."""

    close: bool
    one: Tensor
    other: Tensor
    held: bool

    @property
    def fits(self) -> bool:
        with contextlib.suppress(RuntimeError):
            return torch.broadcast_shapes(self.one.shape, self.other.shape) in (self.one.shape, self.other.shape)
        return False

    @property
    def size(self) -> float:
        return max(1.0, float(self.other.abs().max())) if self.other.numel() else 1.0

    @property
    def gap(self) -> float:
        return float((self.one - self.other).abs().max()) if self.fits and self.one.numel() else math.inf


@dataclass
class Trial:
    """A test, tried on one implementation."""

    description: str = ""
    wanted: str = PASSES
    outcome: str = PASSES
    error: BaseException | None = None
    made: list[dict[str, Any]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    compares: int = 0
    state_dicts: int = 0
    inside: int = 0

    @property
    def text(self) -> str:
        return sentence(self.error) if self.error else ""

    def words(self) -> str:
        """What the test said, on one line."""
        text = " ".join(line.strip() for line in self.text.splitlines() if line.strip())
        text = text.removeprefix("AssertionError").removeprefix(": ")
        return f"{text[:260]} …" if len(text) > 260 else text


EXACT = {torch.equal, Tensor.equal, torch.eq, Tensor.eq, Tensor.__eq__}
ALLCLOSE = {torch.allclose, Tensor.allclose}
CLOSE = {torch.isclose, Tensor.isclose, *ALLCLOSE}
ORDER = {getattr(place, name) for place in (torch, Tensor) for name in ("lt", "le", "gt", "ge", "ne")}
ORDER |= {getattr(Tensor, f"__{name}__") for name in ("lt", "le", "gt", "ge", "ne")}


class _Comparisons(TorchFunctionMode):
    """Writes down the comparisons that a test makes.

    `torch.allclose` takes 1e-8 for its absolute tolerance, which rounding near 0 exceeds now and then; here the default
    is 1e-6, so that a right test is right whatever the numbers are.
    """

    def __init__(self, trial: Trial):
        super().__init__()
        self.trial = trial

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if self.trial.inside or func not in EXACT | CLOSE | ORDER:
            return func(*args, **kwargs)
        if func in ALLCLOSE and len(args) < 4:
            kwargs.setdefault("atol", 1e-6)
        result = False  # stays, should the shapes not allow it
        try:
            result = func(*args, **kwargs)
        finally:
            self.trial.compares += 1
            sides = [*args, *(kwargs[name] for name in ("input", "other") if name in kwargs)][:2]
            if func not in ORDER and len(self.trial.comparisons) < KEPT:
                with contextlib.suppress(Exception):
                    one, other = (torch.as_tensor(side).detach().double().clone() for side in sides)
                    held = bool(result.all()) if isinstance(result, Tensor) else bool(result)
                    self.trial.comparisons.append(Comparison(func in CLOSE, one, other, held))
        return result


def _kept(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _recorded(implementation: Callable, trial: Trial) -> Callable:
    """The same implementation, but what it is given and gives back is written down."""

    def record(call: Callable, module: nn.Module | None, arguments: tuple, named: dict) -> Any:
        given = {str(index): value for index, value in enumerate(arguments)} | named
        state = torch.get_rng_state()
        places = [value.data_ptr() for value in given.values() if isinstance(value, Tensor)]
        kept = {name: _kept(value) for name, value in given.items()}
        entry = Call(module, bool(module is not None and module.training), kept, places, state)
        if len(trial.calls) < KEPT:
            trial.calls.append(entry)
        trial.inside += 1
        try:
            output = call(*arguments, **named)
        finally:
            trial.inside -= 1
        entry.output = _kept(output)
        return output

    if not isinstance(implementation, type):

        @functools.wraps(implementation)
        def function(*arguments, **named):
            return record(implementation, None, arguments, named)

        return function

    class Recorded(implementation):
        def __init__(self, *arguments, **named):
            trial.made.append({str(index): value for index, value in enumerate(arguments)} | named)
            super().__init__(*arguments, **named)

        def forward(self, *arguments, **named):
            return record(super().forward, self, arguments, named)

        def state_dict(self, *arguments, **named):
            trial.state_dicts += 1
            return super().state_dict(*arguments, **named)

    Recorded.__name__ = Recorded.__qualname__ = implementation.__name__
    return Recorded


def _try(test: Callable, implementation: Callable, description: str = "", wanted: str = PASSES, seed: int = 0) -> Trial:
    """What a test does with an implementation; an unfilled test goes on as it is."""
    trial = Trial(description, wanted)
    torch.manual_seed(seed)
    try:
        with _Comparisons(trial):
            result = test(_recorded(implementation, trial))
    except NotImplementedError as error:
        if not error.args:
            raise
        trial.outcome, trial.error = STOPS, error
    except AssertionError as error:
        trial.outcome, trial.error = FAILS, error
    except Exception as error:
        trial.outcome, trial.error = STOPS, error
    except BaseException as error:
        if type(error).__name__ != "Failed":  # pytest.fail and pytest.raises; not an Exception
            raise
        trial.outcome, trial.error = FAILS, error
    else:
        if isinstance(result, Tensor) and result.dtype == torch.bool and result.numel() == 1:
            result = bool(result)
        if type(result).__name__ in ("bool", "bool_") and not result:
            trial.outcome = RETURNS
    return trial


def _swallows(test: Callable, implementation: Callable, seed: int) -> bool:
    """Whether an AssertionError is raised inside the test and nobody hears of it."""
    seen: list[bool] = []

    def local(frame, event, argument):
        if event == "exception" and issubclass(argument[0], AssertionError):
            seen.append(True)
        return local

    def tracer(frame, event, argument):
        return None if str(frame.f_globals.get("__name__")).partition(".")[0] in LIBRARIES else local

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        outcome = _try(test, implementation, seed=seed).outcome
    finally:
        sys.settrace(before)
    return outcome == PASSES and bool(seen)


def _junk(shown: Callable) -> tuple[Callable, Callable]:
    """Two more implementations: numbers that follow the input, in a wrong shape; noise in the right shape."""

    def wrong_shape(output: Tensor, inputs: list[Tensor]) -> Tensor:
        ramp = torch.arange(output.numel() // output.shape[-1] * (output.shape[-1] + 1)) + 1.0
        follow = sum((x.double().flatten() * torch.arange(1, x.numel() + 1)).sum() for x in inputs)
        return (ramp * (2 + follow)).reshape(*output.shape[:-1], -1).float()

    def noise(output: Tensor, inputs: list[Tensor]) -> Tensor:
        return 10 * torch.randn(output.shape, generator=NOISE)

    def made(change: Callable) -> Callable:
        def changed(call: Callable, arguments: tuple, named: dict) -> Tensor:
            inputs = [x for x in (*arguments, *named.values()) if isinstance(x, Tensor)]
            return change(call(*arguments, **named).detach(), inputs)

        if not isinstance(shown, type):
            return lambda *arguments, **named: changed(shown, arguments, named)

        class Junk(nn.Module):
            def __init__(self, *arguments, **named):
                super().__init__()
                self.inside = (shown(*arguments, **named),)  # in a tuple: no parameters of its own

            def forward(self, *arguments, **named):
                return changed(self.inside[0], arguments, named)

        return Junk

    return made(wrong_shape), made(noise)


# ---- what the record shows


@dataclass
class Evidence:
    """All trials of a test, and more trials where a question needs them."""

    test: Callable
    shown: Callable
    trials: list[Trial]
    seed: int

    @property
    def on_broken(self) -> Trial:
        """The trial on the version that the sheet shows."""
        return next(trial for trial in self.trials if trial.wanted == FAILS)

    @property
    def refused(self) -> Trial | None:
        """The first right version that the test does not pass."""
        return next((trial for trial in self.trials if trial.wanted == PASSES != trial.outcome), None)

    @property
    def passed(self) -> Trial | None:
        """The first wrong version that the test passes, once it refuses no right one."""
        wrong = (trial for trial in self.trials if trial.wanted == FAILS and trial.outcome == PASSES)
        return None if self.refused else next(wrong, None)

    @property
    def let_by(self) -> Trial | None:
        """The trial on the version shown, if the test passes it and refuses no right one."""
        return self.passed if self.passed is self.on_broken else None

    @functools.cached_property
    def junk(self) -> tuple[bool, bool]:
        """Whether the test passes numbers of a wrong shape, and noise of the right shape."""
        wrong_shape, noise = (_try(self.test, junk, seed=self.seed).outcome == PASSES for junk in _junk(self.shown))
        return wrong_shape, noise

    @functools.cached_property
    def swallows(self) -> bool:
        return self.on_broken.outcome == PASSES and _swallows(self.test, self.shown, self.seed)

    # what a right version was refused for

    def last(self) -> Comparison | None:
        """The comparison that a right version did not pass."""
        made = self.refused.comparisons if self.refused and self.refused.outcome == FAILS else []
        return made[-1] if made and not made[-1].held else None

    def shapes(self) -> tuple[tuple, tuple] | None:
        """The two shapes that were compared and don't fit."""
        if not self.refused:
            return None
        text, made = self.refused.text, self.refused.comparisons
        last = made[-1] if made and not made[-1].held else None
        if found := re.search(r"'shape' do not match: torch.Size\((.*?)\) != torch.Size\((.*?)\)", text):
            one, other = (tuple(int(size) for size in re.findall(r"\d+", part)) for part in found.groups())
            return one, other
        if last and not last.fits:
            return tuple(last.one.shape), tuple(last.other.shape)
        return ((), ()) if re.search(r"size of tensor a \(\d+\) must match|\(shapes .* mismatch\)", text) else None

    def rounding(self) -> bool:
        """Whether the two sides differ by no more than right versions do."""
        if not self.refused or self.refused.outcome != FAILS:
            return False
        last = self.last()
        stated = re.search(r"[Aa]bsolute difference[^:]*: ([\d.]+(?:e[-+]?\d+)?)", self.refused.text)
        stated = stated or re.search(r"\(([\d.]+e-\d+) difference\)", self.refused.text)
        gap = float(stated.group(1)) if stated else last.gap if last else math.inf
        return 0 < gap <= ROUNDING * (last.size if last else 1)

    def same_slip(self) -> bool:
        """Whether what the test expects is what the broken version gives."""
        if not self.refused or self.on_broken.outcome != PASSES or self.refused.outcome != FAILS:
            return False
        held = [c for c in self.on_broken.comparisons if c.held]
        return bool(held) and all(c.gap <= ROUNDING * c.size for c in held)

    # what a broken version was passed with

    def loose(self) -> bool:
        """Whether a comparison held only because its tolerance is wide."""
        made = self.passed.comparisons if self.passed else []
        return any(c.close and c.held and c.gap > 1e-4 * c.size for c in made)


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-6, equal_nan=True)


def _sides(trial: Trial | None) -> list[Tensor]:
    return [side for c in (trial.comparisons if trial else []) for side in (c.one, c.other)]


def _side_is(trial: Trial | None, derive: Callable[[Call], Tensor | Sequence[Tensor]]) -> bool:
    """Whether something that a test compares is what `derive` makes of one of its calls."""
    sides = _sides(trial)
    for call in trial.calls if trial else []:
        with contextlib.suppress(Exception):  # a shape for which it can't be made
            derived = derive(call)
            wanted = [derived] if isinstance(derived, Tensor) else derived
            if any(_same(side, value) for side in sides for value in wanted):
                return True
    return False


def _last_is(e: Evidence, derive: Callable[[Call], Tensor]) -> bool:
    """Whether a side of the comparison that a right version did not pass is what `derive` makes of a call."""
    last = e.last()
    return bool(last) and _side_is(Trial(calls=e.refused.calls, comparisons=[last]), derive)


def _pairs(comparisons: Sequence[Comparison], calls: Sequence[Call], image: bool = True) -> Iterator[tuple[Call, Call]]:
    """The calls from which the two sides of a comparison come, whole or one image of them."""

    def of(side: Tensor) -> list[Call]:
        outputs = [call for call in calls if isinstance(call.output, Tensor)]
        parts = [(call, [call.output, *(call.output if image and call.output.ndim else [])]) for call in outputs]
        return [call for call, pieces in parts if any(_same(side, piece) for piece in pieces)]

    for comparison in comparisons:
        for one in of(comparison.one):
            for other in of(comparison.other):
                yield one, other


def _refused_pair(e: Evidence, image: bool = True) -> tuple[Call, Call] | None:
    """The two different calls whose outputs a right version was refused for."""
    last = e.last()
    pairs = _pairs([last], e.refused.calls, image) if last else ()
    return next(((one, other) for one, other in pairs if one is not other), None)


def _alike_calls(one: Call, other: Call) -> bool:
    return len(one.tensors) == len(other.tensors) and all(map(_same, one.tensors, other.tensors))


def _against_itself(e: Evidence) -> bool:
    if not e.let_by:
        return False
    held = [c for c in e.let_by.comparisons if c.held]
    pairs = [[pair for pair in _pairs([c], e.let_by.calls, False) if pair[0] is not pair[1]] for c in held]
    return bool(pairs) and all(any(_alike_calls(*pair) for pair in found) for found in pairs)


def _argument(given: Mapping[str, Any], place: int, name: str) -> Any:
    return given.get(name, given.get(str(place)))


def _permuted(one: Tensor, other: Tensor) -> list[int] | None:
    """The order of tokens that makes `other` of `one`, if there is one."""
    if one.shape != other.shape or one.ndim != 3:
        return None
    order = torch.cdist(other[0].double(), one[0].double()).argmin(dim=-1).tolist()
    return order if sorted(order) == list(range(len(order))) and _same(one[:, order], other) else None


# ---- a test as an answer


@dataclass
class TestTask(Exercise):
    """A task whose answer is a test; a cause is named on evidence alone.

    Args:
        evidence: for the name of each mistake, whether the record shows it; the first that holds is named.
    """

    __test__ = False  # nothing for pytest to collect
    evidence: dict[str, Callable[[Evidence], Any]] = field(default_factory=dict)

    def named(self, message: str, evidence: Callable[[Evidence], Any], source: str) -> Callable[[Callable], Callable]:
        """Decorator: a test of this kind, and how the record shows it."""

        def add(test: Callable) -> Callable:
            self.mistake(message, source=source)(test)
            self.evidence[self.mistakes[-1].name] = evidence
            return test

        return add

    def observe(self, answer: Any, seed: int) -> list[Outcome]:
        """As for every exercise; what `assert_close` imports at its first call isn't counted as the learner's time."""
        assert_close(torch.ones(1), torch.ones(1))
        return super().observe(answer, seed)

    def cause(self, e: Evidence) -> str:
        """The name of the mistake that the record shows, or ""."""
        for name, shows in self.evidence.items():
            with contextlib.suppress(Exception):  # arguments of another kind than the contract's
                if shows(e):
                    return name
        return ""

    def _findings(self, cases: Sequence[Case], outcomes: Sequence[Outcome], seed: int) -> Iterator[dict[str, Any]]:
        """From the verdict that `run` reached beside the learner's code."""
        for got in outcomes[: len(cases)]:
            found = str(got.values.get("found", ""))
            if got.timed_out:
                found = f"It did not return within {self.seconds:g} seconds. Look for a loop that never ends."
            elif "found" not in got.values:
                found = f"It raised {got.error}" if got.error else "Nothing came out."
            belief = next((mistake for mistake in self.mistakes if mistake.name == got.values.get("cause")), None)
            wrong = {
                "problem": found,
                "belief": belief.message if belief else "",
                "belief_name": belief.name if belief else "",
                "line": str(got.values.get("where", "")) or got.line,
            }
            yield wrong if found else {}


def _found(trials: Sequence[Trial]) -> tuple[str, Trial | None]:
    """What happened, in a sentence or two, and the trial in which."""
    right = [trial for trial in trials if trial.wanted == PASSES]
    wrong = [trial for trial in trials if trial.wanted == FAILS]
    refused = [trial for trial in right if trial.outcome != PASSES]
    missed = [trial for trial in wrong if trial.outcome != FAILS]
    too = " It also passes the broken version." if refused and wrong[0].outcome == PASSES else ""
    if refused:
        trial = refused[0]
        what = trial.description
        if trial.outcome == FAILS:
            says = f": {trial.words()}" if trial.words() else "."
            stop = "" if says.endswith((".", "!", "?")) else "."
            return (
                f"Your test refuses {len(refused)} of {len(right)} right versions, first {what}{says}{stop}{too}",
                trial,
            )
        if trial.outcome == STOPS:
            return f"Given {what}, your test stops with {trial.words()}", trial
        return f"Given {what}, your test returns False; a right version must pass.{too}", trial
    if missed:
        trial = missed[0]
        if trial.outcome == STOPS:
            return (
                f"Given {trial.description}, your test must raise an AssertionError. It stops with {trial.words()}",
                trial,
            )
        if trial.outcome == RETURNS:
            return (
                f"Given {trial.description}, your test returns False and raises nothing, so it counts as passed.",
                trial,
            )
        return f"Your test passes {trial.description}: what it asserts holds there too.", trial
    return "", None


def _test_exercise(
    name: str, points: float, section: str, good: Callable, right: Mapping[str, Callable], wrong: Mapping[str, Callable]
) -> TestTask:
    """A task whose answer is a test of an implementation.

    Args:
        good: a test that tells right from wrong.
        right, wrong: implementations by description; the first wrong one is the one that the sheet shows.
    """

    def run(test: Callable, seed: int) -> Iterator[tuple[str, str]]:
        trials, printed = [], io.StringIO()
        with contextlib.redirect_stdout(printed):
            for wanted, implementations in ((PASSES, right), (FAILS, wrong)):
                for description, implementation in implementations.items():
                    trials.append(_try(test, implementation, description, wanted, seed))
            found, trial = _found(trials)
            shown = next(iter(wrong.values()))
            cause = task.cause(Evidence(test, shown, trials, seed)) if found else ""
        if found:
            print(printed.getvalue()[:200], end="")
        yield "found", found
        yield "cause", cause
        yield "where", line_of(trial.error) if trial and trial.error else ""

    def cases(generator: Generator) -> Iterator[Case]:
        for _ in range(2):
            seed = int(torch.randint(1, 10**6, (), generator=generator))
            yield Case(f"random numbers drawn from seed {seed}", {"seed": seed})

    task = TestTask(name, points, section, good, cases, run=run, repeat=False)
    return task


def _nudged(right: Callable) -> Callable:
    """The same answer up to rounding: larger by a quarter of a millionth."""
    return lambda *arguments: right(*arguments) * (1 + 2**-22)


NEMO = "https://github.com/NVIDIA-NeMo/RL/pull/4106 (a review: each existing test is blind, and the suite stays green)"
EXECUTORCH = "https://github.com/pytorch/executorch/pull/6795 (a flaky attention test: too strict, now assert_close)"
TORCHREC = "https://github.com/meta-pytorch/torchrec/pull/3869 (torch.equal replaced by assert_close in tests)"
ROUNDED = (
    "Both sides are the same up to rounding, and your test asks for more than that. Right versions add and multiply in "
    "another order. `assert_close` allows for it."
)
LOOSENED = "https://github.com/pytorch/executorch/pull/6795 (its first repair loosened the tolerance)"
LOOSE = (
    "The two sides differ, and your tolerance is wider than the difference. Right versions are within about 1e-6; "
    "`assert_close` chooses a tolerance that fits float32."
)


def _facts(exercise: TestTask, look: Callable) -> None:
    """What goes wrong with tests of any kind and is plain to see. `look` calls an implementation."""

    @exercise.named(
        "Your test never calls what it is handed. It must try `implementation`, its argument; then the same test can "
        "be run on any version.",
        lambda e: not any(trial.calls or trial.made for trial in e.trials),
        source="Expected, no published case found: a test that calls a function of the notebook by its name.",
    )
    def never_calls_the_implementation(implementation):
        assert_close(torch.ones(2), torch.ones(2))

    @exercise.named(
        "It returns False where it should raise an AssertionError. Nobody looks at what a test returns.",
        lambda e: any(trial.outcome == RETURNS for trial in e.trials),
        source="https://github.com/pytest-dev/pytest/issues/7337 (tests succeed when they return instead of asserting)",
    )
    def returns_instead(implementation):
        try:
            exercise.reference(implementation)
        except AssertionError:
            return False
        return True

    @exercise.named(
        "`==` between tensors gives one answer for each number, and `assert` wants a single one. `.all()` joins them; "
        "`assert_close` needs no joining and allows for rounding.",
        lambda e: e.refused and "more than one value is ambiguous" in e.refused.text,
        source="https://github.com/facebookresearch/pytext/issues/934 (assert words_tensors == tensor(...))",
    )
    def one_answer_for_each_number(implementation):
        exercise.reference(implementation)
        out = look(implementation)
        assert (out if isinstance(out, Tensor) else torch.ones(3)) == out

    @exercise.named(
        "On the broken version your test ends in an error of another kind. A test gives its verdict by an "
        "AssertionError, so that a test that fails can be told from a test that is broken itself.",
        lambda e: e.on_broken.outcome == STOPS and not e.refused,
        source="Expected, no published case found: raise ValueError inside a test.",
    )
    def another_kind_of_error(implementation):
        try:
            exercise.reference(implementation)
        except AssertionError as error:
            raise ValueError("it is wrong") from error

    @exercise.named(
        "Your assertion fails as it should, and then your own `except` catches it. An AssertionError must leave the "
        "test.",
        lambda e: e.swallows,
        source="https://github.com/BerriAI/litellm/pull/38446 (50 tests that catch their own AssertionError)",
    )
    def catches_its_own_error(implementation):
        try:
            exercise.reference(implementation)
        except Exception as error:
            print(error)


def _shapes_and_rounding(exercise: TestTask, look: Callable, exact: Callable | None, source: str = EXECUTORCH) -> None:
    """The two sides of a comparison have other shapes, or differ by rounding alone."""

    @exercise.named(
        "The two things that you compare have different shapes, so their numbers can't be compared one by one. "
        "Print both shapes: which axis is missing, too many, or in another place?",
        lambda e: e.shapes(),
        source="Expected, no published case found: an axis kept in a sum (keepdim), or an index forgotten.",
    )
    def shapes_that_do_not_fit(implementation):
        exercise.reference(implementation)
        out = look(implementation)
        assert_close(out, out[..., None])

    if exact:
        exercise.named(ROUNDED, lambda e: e.rounding(), source=source)(exact)


def _usual(exercise: TestTask, look: Callable, shape: tuple[int, ...], itself: bool = True, shapes: str = NEMO) -> None:
    """The tests that don't test, whatever the bug is. `look` calls an implementation and returns its output."""

    @exercise.named(
        "Your test also passes random numbers in place of the output, in the right shape and in a wrong one. Assert "
        "something that only right numbers have; looking at them is not yet a test.",
        lambda e: e.let_by and not e.loose() and all(e.junk),
        source="https://github.com/bluesky/tiled/pull/1041 (tests without `assert` pass)",
    )
    def asserts_nothing(implementation):
        print(look(implementation).sum())

    @exercise.named(
        "You test the shape, and the shape of the broken version is right: that is how it got past everybody. "
        "Assert something about the numbers.",
        lambda e: e.let_by and e.junk == (False, True) and not e.let_by.compares,
        source=shapes,
    )
    def shape_only(implementation):
        assert look(implementation).shape == shape

    if itself:

        @exercise.named(
            "Both sides of your comparison come from the implementation, given the same input, and are wrong alike. "
            "Compare with something that you know without it.",
            _against_itself,
            source="https://github.com/tomcounsell/ai/issues/2564 (an assertion that holds for any implementation)",
        )
        def compares_with_itself(implementation):
            torch.manual_seed(0)
            one = look(implementation)
            torch.manual_seed(0)
            other = look(implementation)
            assert_close(one, other)


def _two_modules(exercise: TestTask, build: Callable, inputs: Callable, image: bool = True) -> None:
    """Two modules where one is meant."""

    @exercise.named(
        "The two outputs that you compare come from two modules. Each drew its own weights when it was built, so they "
        "differ in right versions too. Build one and call it twice.",
        lambda e: (pair := _refused_pair(e)) and pair[0].module != pair[1].module,
        source="https://github.com/pytorch/pytorch/issues/115335 (two layers with other weights, the same input)",
    )
    def two_modules(implementation):
        x = inputs()
        assert_close(build(implementation)(x), build(implementation)(x))


def _tensors(trial: Trial) -> list[Tensor]:
    return [x for call in trial.calls for x in call.tensors]


def _alike(x: Tensor, dim: int) -> bool:
    return bool(torch.isclose(x, x.narrow(dim, 0, 1), atol=1e-6).all())


def _sizes(generator: Generator, *sizes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(size, generator=generator) for size in sizes]


# ---- 5.1 the softmax over the queries


def _weights_loop(query, key):
    rows = [k @ q for queries, k in zip(query, key, strict=True) for q in queries]
    scores = torch.stack(rows).reshape(*query.shape[:2], -1) / math.sqrt(query.shape[-1])
    return torch.exp(scores) / torch.exp(scores).sum(dim=2, keepdim=True)


def _weights_double(query, key):
    scores = torch.einsum("bqd,bkd->bqk", query.double(), key.double()) / query.shape[-1] ** 0.5
    return scores.softmax(dim=2).to(query.dtype)


def _rows_sum_to_one(implementation):
    query, key = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    assert_close(implementation(query, key).sum(dim=-1), torch.ones(2, 3))


def _some_weights(implementation):
    return implementation(torch.randn(2, 3, 4), torch.randn(2, 5, 4))


def _exactly_one(implementation):
    weights = implementation(torch.randn(5, 20, 8), torch.randn(5, 23, 8))
    assert (weights.sum(dim=-1) == 1).all()


test_weights = _test_exercise(
    "test_weights",
    1,
    "03-attention#2 By hand, on three tokens",
    _rows_sum_to_one,
    {
        "the package's own": functional.attention_weights,
        "a right one, in loops": _weights_loop,
        "a right one, in float64 inside": _weights_double,
        "a right one, rounded otherwise": _nudged(functional.attention_weights),
    },
    {"the broken one": broken.broken_weights},
)
_facts(test_weights, _some_weights)


@test_weights.named(
    "You ask that columns sum to 1. That is what the bug does: right weights sum to 1 over the keys, along a row.",
    lambda e: _last_is(e, lambda call: call.output.sum(dim=1)),
    source="https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/282 (the belief, argued)",
)
def columns_sum_to_one(implementation):
    weights = implementation(torch.randn(2, 3, 4), torch.randn(2, 5, 4))
    assert_close(weights.sum(dim=1), torch.ones(2, 5))


_shapes_and_rounding(test_weights, _some_weights, _exactly_one)
_usual(test_weights, _some_weights, (2, 3, 5))


@test_weights.named(
    "With one query and one key, rows and columns are the same thing. Give it several of each.",
    lambda e: e.let_by and all(x.shape[1] == 1 for x in _tensors(e.let_by)),
    source="https://github.com/PetrochukM/PyTorch-NLP/issues/2 (with size 1 the softmax was always 1)",
)
def one_token(implementation):
    assert_close(implementation(torch.randn(2, 1, 4), torch.randn(2, 1, 4)).sum(dim=-1), torch.ones(2, 1))


@test_weights.named(
    "All your tokens are equal, so all weights are equal and both axes sum to 1. Draw the tokens at random.",
    lambda e: e.let_by and all(_alike(x, 1) for x in _tensors(e.let_by)),
    source="torch.ones and torch.zeros as inputs: the smoke tests of many published attention layers.",
)
def equal_tokens(implementation):
    x = torch.ones(2, 4, 3)
    assert_close(implementation(x, x).sum(dim=-1), torch.ones(2, 4))


@test_weights.named(
    "The sum of all weights is the same in both versions when there are as many queries as keys. Look at each row.",
    lambda e: e.let_by and _side_is(e.let_by, lambda call: call.output.sum()),
    source="https://github.com/lucidrains/vit-pytorch/issues/44 (the softmax thought of as one over the whole matrix)",
)
def total_only(implementation):
    x = torch.randn(2, 4, 3)
    assert_close(implementation(x, x).sum(), torch.tensor(8.0))


@test_weights.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_of_ten(implementation):
    assert torch.allclose(_some_weights(implementation).sum(dim=-1), torch.ones(2, 3), atol=10)


def _two_sizes(generator: Generator) -> Iterator[Case]:
    for B, Nq, Nk, d in ((2, 3, 4, 5), (3, 4, 2, 6)):
        query, key = _sizes(generator, (B, Nq, d), (B, Nk, d))
        yield Case(f"query ({B}, {Nq}, {d}), key ({B}, {Nk}, {d})", {"query": query, "key": key})


fixed_weights = Exercise(
    "fixed_weights",
    1,
    "03-attention#2 By hand, on three tokens",
    lambda query, key: functional.attention_weights(query, key),
    _two_sizes,
)


def _unchanged(exercise: Exercise, message: str, source: str, answer: Callable) -> None:
    """The broken version, handed in as it was."""

    @exercise.mistake(message, source=source)
    @functools.wraps(answer, updated=())
    def still_broken(*arguments):
        return answer(*arguments)

    still_broken.__name__ = "still_broken"


_unchanged(
    fixed_weights,
    "It still does what the broken version did: each column sums to 1, each row should.",
    "https://github.com/nerminnuraydogan/vision-transformer/issues/1",
    broken.broken_weights,
)


@fixed_weights.mistake(
    "Now the softmax runs over the images of the batch. They have nothing to do with each other; run it over the keys.",
    source="https://github.com/PetrochukM/PyTorch-NLP/issues/2 (dim=0, the batch)",
)
def softmax_over_the_batch(query, key):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(dim=0)


@fixed_weights.mistake(
    "All weights of an image together sum to 1. Each query needs a distribution of its own.",
    source="https://github.com/lucidrains/vit-pytorch/issues/44",
)
def softmax_over_everything(query, key):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return scores.flatten(1).softmax(dim=1).reshape(scores.shape)


@fixed_weights.mistake(
    "The rows sum to 1 because you divide afterwards, but the softmax before it still runs over the queries. That "
    "hides the symptom; the weights are others.",
    source="https://github.com/MenghaoGuo/PCT/issues/13 (a softmax, then a second normalisation along the other axis)",
)
def divided_afterwards(query, key):
    weights = broken.broken_weights(query, key)
    return weights / weights.sum(dim=-1, keepdim=True)


@fixed_weights.mistake(
    "The scale 1 / sqrt(d) got lost in the repair.",
    source="softmax(Q K^T) V, as printed in many introductions; no single issue.",
)
def scale_lost(query, key):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1)


# ---- 5.2 dropout in evaluation


class _FunctionalMLP(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.dropout(F.gelu(self.linear1(tokens)), self.p, training=self.training))


class _MaskedMLP(broken.BrokenMLP):
    def forward(self, tokens):
        hidden = F.gelu(self.linear1(tokens))
        if self.training and self.p:
            hidden = hidden * (torch.rand_like(hidden) >= self.p) / (1 - self.p)
        return self.linear2(hidden)


def _repeatable(implementation):
    layer, tokens = implementation(4, 6, 0.5).eval(), torch.randn(2, 3, 4)
    assert_close(layer(tokens), layer(tokens))


def _some_mlp(implementation):
    return implementation(4, 6, 0.5).eval()(torch.randn(2, 3, 4))


test_mlp = _test_exercise(
    "test_mlp",
    1,
    "05-transformer-encoder#5 Dropout, and its switch",
    _repeatable,
    {
        "the package's own": layers.MLP,
        "a right one, with F.dropout": _FunctionalMLP,
        "a right one, with a mask": _MaskedMLP,
    },
    {"the broken one": broken.BrokenMLP},
)
_facts(test_mlp, _some_mlp)
_two_modules(test_mlp, lambda made: made(4, 6, 0.5).eval(), lambda: torch.randn(2, 3, 4))


@test_mlp.named(
    "The two outputs that you compare belong to two different inputs. Draw the tokens once and call the layer twice "
    "with them.",
    lambda e: (pair := _refused_pair(e)) and not _alike_calls(*pair),
    source="Expected, no published case found: torch.randn written into both calls.",
)
def two_inputs(implementation):
    layer = implementation(4, 6, 0.5).eval()
    assert_close(layer(torch.randn(2, 3, 4)), layer(torch.randn(2, 3, 4)))


@test_mlp.named(
    "One of the two outputs that you compare was computed in training mode, where dropout is on in right versions "
    "too. Both calls belong after `.eval()`.",
    lambda e: (pair := _refused_pair(e)) and pair[0].training != pair[1].training,
    source="https://github.com/idiap/fast-transformers/issues/131 (a whole issue, for want of .eval())",
)
def training_against_evaluation(implementation):
    layer, tokens = implementation(4, 6, 0.5), torch.randn(2, 3, 4)
    assert_close(layer.train()(tokens), layer.eval()(tokens))


@test_mlp.named(
    "You test in training mode, where dropout should be on: right versions fail here. Call `.eval()` first.",
    lambda e: (pair := _refused_pair(e)) and pair[0].training and pair[1].training,
    source="https://github.com/idiap/fast-transformers/issues/131 (a whole issue, for want of .eval())",
)
def in_training_mode(implementation):
    layer, tokens = implementation(4, 6, 0.5), torch.randn(2, 3, 4)
    assert_close(layer(tokens), layer(tokens))


_shapes_and_rounding(test_mlp, _some_mlp, None)
_usual(test_mlp, _some_mlp, (2, 3, 4), itself=False)


@test_mlp.named(
    "With a dropout probability of 0 there is nothing to leave on. Choose one that shows.",
    lambda e: e.let_by and e.let_by.made and all(_argument(given, 2, "dropout") == 0 for given in e.let_by.made),
    source="https://github.com/huggingface/pytorch-image-models/pull/1978 (unnoticed, as the default is 0)",
)
def probability_zero(implementation):
    layer, tokens = implementation(4, 6, 0.0).eval(), torch.randn(2, 3, 4)
    assert_close(layer(tokens), layer(tokens))


@test_mlp.named(
    "All calls of your test are in training mode, and there the broken version does what it should. The bug shows in "
    "evaluation.",
    lambda e: e.let_by and e.let_by.calls and all(call.training for call in e.let_by.calls),
    source="Expected, no published case found: a test that dropout is on in training, and no more.",
)
def training_only(implementation):
    layer, tokens = implementation(4, 6, 0.5), torch.randn(2, 3, 4)
    assert not torch.allclose(layer(tokens), layer(tokens))


@test_mlp.named(
    "Both calls start from the same state of the random numbers, so dropout drops the same numbers twice. Set no seed "
    "between the calls.",
    lambda e: (
        e.let_by
        and len(e.let_by.calls) > 1
        and all(torch.equal(call.random_state, e.let_by.calls[0].random_state) for call in e.let_by.calls)
    ),
    source="A set_seed(...) before every forward pass, as in the integration tests of many published models.",
)
def the_same_seed_twice(implementation):
    layer, tokens = implementation(4, 6, 0.5).eval(), torch.randn(2, 3, 4)
    torch.manual_seed(0)
    one = layer(tokens)
    torch.manual_seed(0)
    assert_close(one, layer(tokens))


@test_mlp.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_wider_than_dropout(implementation):
    layer, tokens = implementation(4, 6, 0.5).eval(), torch.randn(2, 3, 4)
    assert torch.allclose(layer(tokens), layer(tokens), atol=10)


def _mlp_cases(generator: Generator) -> Iterator[Case]:
    for D, M, p in ((3, 5, 0.5), (4, 6, 0.25)):
        tokens, w1, b1, w2, b2 = _sizes(generator, (2, 5, D), (M, D), (M,), (D, M), (D,))
        state = {"linear1.weight": w1, "linear1.bias": b1, "linear2.weight": w2, "linear2.bias": b2}
        arguments = {"hidden_size": D, "intermediate_size": M, "dropout": p, "tokens": tokens, "weights": state}
        yield Case(f"D = {D}, M = {M}, dropout {p}", arguments)


def _mlp_run(answer, D, M, p, tokens, state):
    layer = answer(D, M, p).eval()
    layer.load_state_dict(state)
    first = layer(tokens)
    agree = bool(torch.allclose(first, layer(tokens)))
    yield "in evaluation: two calls agree", agree
    if agree:
        yield "in evaluation: output", first
    wide = answer(D, D, p).train()
    half = {"linear1.weight": torch.eye(D) / 2, "linear1.bias": torch.full((D,), 0.5)}  # hidden: gelu(1)
    wide.load_state_dict(half | {"linear2.weight": torch.eye(D), "linear2.bias": torch.full((D,), 10.0)})
    out = wide(torch.ones(8, 20, D)).float()
    changed = ~torch.isclose(out, 10 + F.gelu(torch.ones(())))
    yield "in training: hidden numbers change", bool(changed.any())
    yield "in training, all hidden numbers gelu(1) and 10 added last: smallest output", out.min()
    yield "in training, all hidden numbers gelu(1) and 10 added last: largest output", out.max()
    dropped = torch.isclose(out, torch.full((), 10.0))
    yield "in training: each number of a token is dropped by itself", bool((dropped.any(-1) != dropped.all(-1)).any())


FixedMLP = Exercise(
    "FixedMLP",
    1,
    "05-transformer-encoder#5 Dropout, and its switch",
    _FunctionalMLP,
    _mlp_cases,
    run=_mlp_run,
    takes="class",
)


@FixedMLP.mistake(
    "It still drops in evaluation: `F.dropout` doesn't know in which mode the module is, unless you say so.",
    source="https://github.com/rixwew/pytorch-fm/issues/21",
)
class still_dropping(broken.BrokenMLP):
    pass


@FixedMLP.mistake(
    "Dropout is gone in training too. It should stay there; only evaluation must be free of it.",
    source="https://github.com/BogiHsu/Tacotron2-PyTorch/issues/8 (all or nothing: kept on in evaluation on purpose)",
)
class no_dropout_at_all(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.gelu(self.linear1(tokens)))


@FixedMLP.mistake(
    "In training you drop numbers of the output. The contract drops hidden numbers, between GELU and `linear2`.",
    source="Expected here. timm's Mlp has a dropout at this place, too, beside the one that is asked for.",
)
class dropout_after_the_second_layer(broken.BrokenMLP):
    def forward(self, tokens):
        return F.dropout(self.linear2(F.gelu(self.linear1(tokens))), self.p, self.training)


@FixedMLP.mistake(
    "In training you drop numbers of the input. The contract drops hidden numbers, between GELU and `linear2`.",
    source="Expected, no published case found: dropout moved to the start of forward.",
)
class dropout_at_the_input(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.gelu(self.linear1(F.dropout(tokens, self.p, self.training))))


@FixedMLP.mistake(
    "You drop before GELU, and what is kept, divided by 1 - p, is then bent by GELU. The contract drops hidden numbers "
    "as they reach `linear2`.",
    source="Expected, no published case found: dropout and activation in the other order.",
)
class dropout_before_gelu(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.gelu(F.dropout(self.linear1(tokens), self.p, self.training)))


@FixedMLP.mistake(
    "You drop the hidden numbers of a token all at once or not at all. Each hidden number is dropped by itself.",
    source="Expected, no published case found: F.dropout1d, which drops whole channels, for tokens of one dimension.",
)
class whole_tokens_dropped(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.dropout1d(F.gelu(self.linear1(tokens)), self.p, self.training))


@FixedMLP.mistake(
    "The switch is the wrong way round: it drops in evaluation and not in training.",
    source="training=not self.training: the sign slip to which a boolean argument invites.",
)
class the_wrong_way_round(broken.BrokenMLP):
    def forward(self, tokens):
        return self.linear2(F.dropout(F.gelu(self.linear1(tokens)), self.p, training=not self.training))


@FixedMLP.mistake(
    "You scale by 1 - p in evaluation. PyTorch's dropout has already divided by 1 - p in training, so evaluation needs "
    "no factor.",
    source="Srivastava et al., 2014, Dropout, section 4 (weights times p at test time), on top of torch's form.",
)
class scaled_in_evaluation(broken.BrokenMLP):
    def forward(self, tokens):
        hidden = F.gelu(self.linear1(tokens))
        return self.linear2(F.dropout(hidden, self.p) if self.training else hidden * (1 - self.p))


@FixedMLP.mistake(
    "In training you set numbers to 0 and leave the rest as it is, so the mean shrinks. The rest is divided by 1 - p.",
    source="https://github.com/pytorch/pytorch/issues/33360 (surprise at the rescaling of what isn't dropped)",
)
class without_rescaling(broken.BrokenMLP):
    def forward(self, tokens):
        hidden = F.gelu(self.linear1(tokens))
        return self.linear2(hidden * (torch.rand_like(hidden) >= self.p) if self.training else hidden)


# ---- 5.3 patches cut by reshape


def _patches_loop(images, patch_size):
    P, (H, W) = patch_size, images.shape[-2:]
    cuts = [images[:, :, y : y + P, x : x + P].flatten(1) for y in range(0, H, P) for x in range(0, W, P)]
    return torch.stack(cuts, dim=1)


def _first_patch(implementation):
    images = torch.randn(2, 3, 4, 6)
    assert_close(implementation(images, 2)[:, 0], images[:, :, :2, :2].flatten(1))


def _some_patches(implementation):
    return implementation(torch.randn(2, 3, 4, 6), 2)


def _given_images(trial: Trial | None) -> list[tuple[Tensor, int]]:
    calls = trial.calls if trial else []
    return [(_argument(c.arguments, 0, "images"), _argument(c.arguments, 1, "patch_size")) for c in calls]


def _sorted_alike(e: Evidence) -> bool:
    last = e.last()
    if not last or last.one.shape != last.other.shape or last.one.unique().numel() < 3:
        return False
    return _same(last.one.flatten().sort().values, last.other.flatten().sort().values)


def _turned(e: Evidence) -> bool:
    one, other = e.shapes() or ((), ())
    return one != other and sorted(one) == sorted(other)


test_patches = _test_exercise(
    "test_patches",
    1,
    "06-images-as-sequences#2 Four ways to cut",
    _first_patch,
    {
        "the package's own": functional.patchify,
        "a right one, in a loop": _patches_loop,
        "a right one, with F.unfold": lambda images, patch_size: F.unfold(images, patch_size, stride=patch_size).mT,
    },
    {"the broken one": broken.broken_patches},
)
_facts(test_patches, _some_patches)


@test_patches.named(
    "You undo the cut by a reshape, which is the bug backwards: it accepts the broken version and refuses right ones.",
    lambda e: (
        e.refused
        and e.on_broken.outcome == PASSES
        and _side_is(e.refused, lambda call: call.output.reshape(call.tensors[0].shape))
    ),
    source="https://github.com/michaeltrs/DeepSatModels/issues/22 (patches put back by reshape alone)",
)
def undone_by_reshape(implementation):
    images = torch.randn(2, 3, 4, 6)
    assert_close(implementation(images, 2).reshape(images.shape), images)


@test_patches.named(
    "The two shapes hold the same sizes in another order: on one side two axes must change places. `F.unfold` puts "
    "the patches last, the contract puts them second.",
    _turned,
    source="https://github.com/gupta-abhay/pytorch-vit/issues/7 (unfold, then view, without moving the channels)",
)
def unfold_without_a_transpose(implementation):
    images = torch.randn(2, 3, 4, 6)
    assert_close(implementation(images, 2), F.unfold(images, 2, stride=2))


@test_patches.named(
    "Both sides hold the same numbers in another order. The contract says which: patches row by row, and in each "
    "patch channel, row, column.",
    _sorted_alike,
    source="https://github.com/gupta-abhay/pytorch-vit/issues/1 (the order (p1 p2 c))",
)
def another_order(implementation):
    images = torch.randn(2, 3, 4, 6)
    corner = images[:, :, :2, :2].permute(0, 2, 3, 1).flatten(1)
    assert_close(implementation(images, 2)[:, 0], corner)


_shapes_and_rounding(test_patches, _some_patches, None)
_usual(
    test_patches,
    _some_patches,
    (2, 6, 12),
    shapes="https://github.com/duoan/TorchCode/issues/21 (this very bug, unnoticed by the tests of an exercise)",
)


@test_patches.named(
    "Your image is a single patch, so there is nothing to cut. Take at least two rows and two columns of patches.",
    lambda e: e.let_by and all(tuple(images.shape[-2:]) == (P, P) for images, P in _given_images(e.let_by)),
    source="https://github.com/NVIDIA-NeMo/RL/pull/4106 (tests on a grid too small to show a wrong order)",
)
def a_single_patch(implementation):
    images = torch.randn(2, 3, 2, 2)
    assert_close(implementation(images, 2)[:, 0], images.flatten(1))


@test_patches.named(
    "An image of one colour has equal patches however you cut it. Every pixel needs its own number.",
    lambda e: e.let_by and all(_alike(images.flatten(2), 2) for images, _ in _given_images(e.let_by)),
    source="torch.ones(B, C, H, W) as the test image: the smoke tests of many published ViTs.",
)
def one_colour(implementation):
    images = torch.ones(2, 3, 4, 6)
    assert_close(implementation(images, 2)[:, 0], images[:, :, :2, :2].flatten(1))


@test_patches.named(
    "All pixels are still there, only in the wrong patches: their sum can't show it. Say which pixels belong together.",
    lambda e: e.let_by and _side_is(e.let_by, lambda call: call.output.sum()),
    source="https://github.com/cloneofsimo/minRF/issues/6 (the same set of numbers taken as proof)",
)
def the_sum_of_all_pixels(implementation):
    images = torch.randn(2, 3, 4, 6)
    assert_close(implementation(images, 2).sum(), images.sum(), rtol=1e-3, atol=1e-3)


@test_patches.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_of_a_hundred(implementation):
    images = torch.randn(2, 3, 4, 6)
    assert torch.allclose(implementation(images, 2)[:, 0], images[:, :, :2, :2].flatten(1), atol=100)


def _patch_cases(generator: Generator) -> Iterator[Case]:
    for (B, C, H, W), P in (((2, 3, 4, 6), 2), ((1, 2, 9, 6), 3)):
        (images,) = _sizes(generator, (B, C, H, W))
        yield Case(f"images ({B}, {C}, {H}, {W}), P = {P}", {"images": images, "patch_size": P})


def _cut(*order: int) -> Callable:
    def answer(images, patch_size):
        B, C, H, W = images.shape
        P = patch_size
        grid = images.reshape(B, C, H // P, P, W // P, P).permute(*order)
        return grid.reshape(B, -1, C * P * P)

    return answer


fixed_patches = Exercise(
    "fixed_patches",
    1,
    "06-images-as-sequences#2 Four ways to cut",
    lambda images, patch_size: functional.patchify(images, patch_size),
    _patch_cases,
)
_unchanged(
    fixed_patches,
    "A reshape alone never moves a number: these patches are pieces of pixel rows. Two axes must change places.",
    "https://github.com/UdbhavPrasad072300/Transformer-Implementations/issues/5",
    broken.broken_patches,
)


@fixed_patches.mistake(
    "The patches are right, but inside each one the channels come last. The contract flattens (C, P, P).",
    source="https://github.com/gupta-abhay/pytorch-vit/issues/1 (the order (p1 p2 c))",
)
def channels_last(images, patch_size):
    return _cut(0, 2, 4, 3, 5, 1)(images, patch_size)


@fixed_patches.mistake(
    "The patches run down the columns of the grid. The contract goes row by row.",
    source="https://github.com/NVIDIA-NeMo/RL/pull/4106 (permute(0, 4, 2, 1, 3, 5) passes the whole suite)",
)
def column_by_column(images, patch_size):
    return _cut(0, 4, 2, 1, 3, 5)(images, patch_size)


@fixed_patches.mistake(
    "Each patch lies on its side: its rows and columns are swapped.",
    source="https://github.com/cloneofsimo/minRF/issues/6 (an order inside the patch that its inverse doesn't share)",
)
def patches_on_their_side(images, patch_size):
    return _cut(0, 2, 4, 1, 5, 3)(images, patch_size)


@fixed_patches.mistake(
    "The channels were still in front when you flattened, so a patch holds pieces of several places of one channel.",
    source="https://github.com/gupta-abhay/pytorch-vit/issues/7 (unfold, then view, without moving the channels)",
)
def channels_in_front(images, patch_size):
    return _cut(0, 1, 2, 4, 3, 5)(images, patch_size)


# ---- 5.4 sizes cropped in silence


def _refuse(images, P, height=True, width=True):
    H, W = images.shape[-2:]
    if (height and H % P) or (width and W % P):
        raise ValueError(f"patch_size {P} doesn't divide {H} x {W}")


def _embedding(images, kernels, bias, height=True, width=True):
    _refuse(images, kernels.shape[-1], height, width)
    return broken.broken_embedding(images, kernels, bias)


def _embedding_as_product(images, kernels, bias):
    return functional.patchify(images, kernels.shape[-1]) @ kernels.flatten(1).T + bias


def _embed(implementation, H, W):
    return implementation(torch.randn(2, 3, H, W), torch.randn(5, 3, 2, 2), torch.randn(5))


def _refuses(implementation, H, W):
    try:
        _embed(implementation, H, W)
    except ValueError:
        return
    raise AssertionError(f"{H} x {W}")


def _refuses_both(implementation):
    _refuses(implementation, 5, 6)
    _refuses(implementation, 4, 7)


def _misfits(trial: Trial) -> list[tuple[bool, bool]]:
    """For each call, whether P doesn't divide the height, and whether it doesn't divide the width."""
    found = []
    for call in trial.calls:
        images, kernels = (_argument(call.arguments, place, name) for place, name in enumerate(("images", "kernels")))
        P = kernels.shape[-1]
        found.append((bool(images.shape[-2] % P), bool(images.shape[-1] % P)))
    return found


def _all_misfits(e: Evidence) -> set[tuple[bool, bool]]:
    return {misfit for trial in e.trials for misfit in _misfits(trial)}


test_embedding = _test_exercise(
    "test_embedding",
    1,
    "06-images-as-sequences#5 Sizes that don't fit",
    _refuses_both,
    {"a right one, as a convolution": _embedding, "a right one, cut and multiplied": _embedding_as_product},
    {
        "the broken one": broken.broken_embedding,
        "one that checks the height only": functools.partial(_embedding, width=False),
        "one that checks the width only": functools.partial(_embedding, height=False),
    },
)
_facts(test_embedding, lambda implementation: _embed(implementation, 4, 6))


@test_embedding.named(
    "The ValueError of right versions stops your test. Here the error is what you hope for: catch it.",
    lambda e: e.refused and isinstance(e.refused.error, ValueError) and any(map(any, _misfits(e.refused))),
    source="https://github.com/tornadoweb/tornado/pull/1023 (how to write that an exception is expected)",
)
def the_error_gets_out(implementation):
    assert _embed(implementation, 5, 6) is None


@test_embedding.named(
    "Both sides of your images can be divided by P, so nothing is lost. Give it a size that doesn't fit.",
    lambda e: e.let_by and not any(map(any, _all_misfits(e))),
    source="https://github.com/lucidrains/vit-pytorch/issues/28 (220 pixels, patches of 16: what happens to the rest?)",
)
def sizes_that_fit(implementation):
    assert _embed(implementation, 4, 6).shape == (2, 6, 5)


@test_embedding.named(
    "You give it a size that doesn't fit, and when nothing is raised, your test ends in peace. That is the broken "
    "case. Say what should happen then.",
    lambda e: e.let_by and any(map(any, _misfits(e.let_by))),
    source="https://github.com/python/cpython/pull/120545 (`else: fail()` added to tests that expect an exception)",
)
def nothing_after_the_try(implementation):
    with contextlib.suppress(ValueError):
        _embed(implementation, 5, 7)


@test_embedding.named(
    "Height and width are wrong at once, so a version that checks either of them gets past you. Try one at a time.",
    lambda e: e.passed and {m for m in _all_misfits(e) if any(m)} == {(True, True)},
    source="https://github.com/open-mmlab/mmcv/pull/1305 (its test takes (15, 17), then (16, 17))",
)
def both_at_once(implementation):
    _refuses(implementation, 5, 7)


@test_embedding.named(
    "You never try a width that doesn't fit beside a height that does. A version that checks the height only gets past "
    "you.",
    lambda e: e.passed and "height only" in e.passed.description and (False, True) not in _all_misfits(e),
    source="https://github.com/kyegomez/NaViT/issues/24 (121 x 256 with P = 16: one side fits, the other doesn't)",
)
def height_only(implementation):
    _refuses(implementation, 5, 6)


@test_embedding.named(
    "You never try a height that doesn't fit beside a width that does. A version that checks the width only gets past "
    "you.",
    lambda e: e.passed and "width only" in e.passed.description and (True, False) not in _all_misfits(e),
    source="https://github.com/kyegomez/NaViT/issues/24 (one side fits, the other doesn't), the other way round",
)
def width_only(implementation):
    _refuses(implementation, 4, 7)


def _embedding_cases(generator: Generator) -> Iterator[Case]:
    for C, D, P, sizes in ((3, 5, 2, ((4, 6), (5, 4), (6, 7), (5, 7))), (1, 4, 3, ((3, 6), (4, 9), (6, 7), (4, 5)))):
        images = _sizes(generator, *((2, C, H, W) for H, W in sizes))
        kernels, bias = _sizes(generator, (D, C, P, P), (D,))
        names = dict(zip(("fits", "height_does_not", "width_does_not", "neither_does"), images, strict=True))
        yield Case(f"images of {sizes}, P = {P}", {**names, "kernels": kernels, "bias": bias})


def _embedding_run(answer, fits, height_does_not, width_does_not, neither_does, kernels, bias):
    for name, images in (
        ("when P doesn't divide H", height_does_not),
        ("when P doesn't divide W", width_does_not),
        ("when P divides neither", neither_does),
    ):
        try:
            yield name, f"no error, {tuple(answer(images, kernels, bias).shape)}"
        except NotImplementedError:
            raise
        except Exception as error:
            yield name, type(error).__name__
    yield "sizes that fit", answer(fits, kernels, bias)


fixed_embedding = Exercise(
    "fixed_embedding",
    1,
    "06-images-as-sequences#5 Sizes that don't fit",
    _embedding,
    _embedding_cases,
    run=_embedding_run,
)
_unchanged(
    fixed_embedding,
    "The rest of the image is still dropped without a word. Look at both sides before you convolve.",
    "https://github.com/open-mmlab/mmdetection/pull/5952 (padding added 'to avoid lost pixel' in patch embedding)",
    broken.broken_embedding,
)


@fixed_embedding.mistake(
    "Only the height is checked. Columns on the right still vanish.",
    source="https://github.com/kyegomez/NaViT/issues/24 (one side fits, the other doesn't)",
)
def checks_the_height_only(images, kernels, bias):
    return _embedding(images, kernels, bias, width=False)


@fixed_embedding.mistake(
    "You check the number of pixels. P P may divide H W although P doesn't divide H: both sides must fit on their own.",
    source="num_patches = H * W // P ** 2, as in many published ViTs, turned into a check.",
)
def checks_the_product(images, kernels, bias):
    P = kernels.shape[-1]
    if images.shape[-2] * images.shape[-1] % P**2:
        raise ValueError("size")
    return broken.broken_embedding(images, kernels, bias)


@fixed_embedding.mistake(
    "You check the sum of the two sides. When P divides neither, it may still divide H + W: each side must fit on its "
    "own.",
    source="Expected, no published case found: both sides looked at in one division.",
)
def checks_the_sum(images, kernels, bias):
    if (images.shape[-2] + images.shape[-1]) % kernels.shape[-1]:
        raise ValueError("size")
    return broken.broken_embedding(images, kernels, bias)


@fixed_embedding.mistake(
    "You pad with zeros in silence. That loses no pixel, but the contract asks for a ValueError, so that the user "
    "decides.",
    source="https://github.com/huggingface/pytorch-image-models/issues/1863 (dynamic_img_pad, as an option)",
)
def padded_in_silence(images, kernels, bias):
    P, (H, W) = kernels.shape[-1], images.shape[-2:]
    return broken.broken_embedding(F.pad(images, (0, -W % P, 0, -H % P)), kernels, bias)


@fixed_embedding.mistake(
    "`assert` raises an AssertionError and is skipped under `python -O`. What a user passes wrongly is a ValueError.",
    source="https://github.com/fastestimator/fastestimator/pull/1066 (assert h % patch_size == 0 in PositionEmbedding)",
)
def refused_by_assert(images, kernels, bias):
    assert not any(side % kernels.shape[-1] for side in images.shape[-2:])
    return broken.broken_embedding(images, kernels, bias)


# ---- 5.5 rows divided without keepdim


def _normalised(weights):
    mixed = (weights + torch.eye(len(weights), dtype=weights.dtype)) / 2
    return mixed / mixed.sum(dim=-1, keepdim=True)


def _normalised_loop(weights):
    return torch.stack(
        [(row + one) / (row + one).sum() for row, one in zip(weights, torch.eye(len(weights)), strict=True)]
    )


def _mixed_rows(implementation):
    assert_close(implementation(torch.rand(5, 5)).sum(dim=-1), torch.ones(5))


def _some_rows(implementation):
    return implementation(torch.rand(5, 5))


def _rows_exactly_one(implementation):
    assert (implementation(torch.rand(60, 60)).sum(dim=-1) == 1).all()


test_rows = _test_exercise(
    "test_rows",
    1,
    "03-attention#2 By hand, on three tokens",
    _mixed_rows,
    {
        "a right one": _normalised,
        "a right one, in a loop": _normalised_loop,
        "a right one, in float64 inside": lambda weights: _normalised(weights.double()).to(weights.dtype),
        "a right one, rounded otherwise": _nudged(_normalised),
    },
    {"the broken one": broken.broken_rows},
)
_facts(test_rows, _some_rows)


@test_rows.named(
    "You sum over axis 0, down the columns. The contract divides each row by its sum, so it is the rows that sum to 1.",
    lambda e: _last_is(e, lambda call: call.output.sum(dim=0)),
    source="https://github.com/YutaroOgawa/pytorch_advanced/issues/114 (which index a map is normalised over)",
)
def sums_down_the_columns(implementation):
    assert_close(_some_rows(implementation).sum(0), torch.ones(5))


_shapes_and_rounding(test_rows, _some_rows, _rows_exactly_one)
_usual(test_rows, _some_rows, (5, 5))


@test_rows.named(
    "Your rows already sum to the same number, so dividing by the sum of the wrong row changes nothing. Take weights "
    "of which some were set to 0.",
    lambda e: e.let_by and all(_alike(x.sum(dim=-1), 0) for x in _tensors(e.let_by)),
    source="https://github.com/jacobgil/vit-explain/issues/16 (a comment: the line is redundant after a softmax)",
)
def rows_already_normalised(implementation):
    weights = torch.randn(5, 5).softmax(dim=-1)
    assert_close(implementation(weights).sum(dim=-1), torch.ones(5))


@test_rows.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_of_one(implementation):
    sums = implementation(torch.rand(5, 5) + 1).sum(dim=-1)
    assert torch.allclose(sums, torch.ones(5), atol=1)


def _row_cases(generator: Generator) -> Iterator[Case]:
    for N in (3, 4):
        weights = torch.rand(N, N, generator=generator) + 0.1
        weights[0, 1] = 0
        yield Case(f"weights ({N}, {N})", {"weights": weights})


fixed_rows = Exercise("fixed_rows", 1, "03-attention#2 By hand, on three tokens", _normalised, _row_cases)
_unchanged(
    fixed_rows,
    "Column j is still divided by the sum of row j: sums of shape (N,) line up with the last axis. They must stand "
    "upright.",
    "https://github.com/jacobgil/vit-explain/issues/16",
    broken.broken_rows,
)


@fixed_rows.mistake(
    "Now the columns sum to 1. A row belongs to one token, and the row must.",
    source="https://github.com/YutaroOgawa/pytorch_advanced/issues/114 (which index a map is normalised over)",
)
def columns_normalised(weights):
    mixed = weights + torch.eye(len(weights))
    return mixed / mixed.sum(dim=0, keepdim=True)


@fixed_rows.mistake(
    "A softmax makes rows sum to 1, but it bends the numbers: shares that were twice as large no longer are. Divide.",
    source="A belief, softmax for any normalising; see https://github.com/MenghaoGuo/PCT/issues/13 (one upon another)",
)
def a_second_softmax(weights):
    return ((weights + torch.eye(len(weights))) / 2).softmax(dim=-1)


@fixed_rows.mistake(
    "You divide by the sum of the whole matrix. Each row has its own.",
    source="https://github.com/lucidrains/perceiver-pytorch/issues/46 (normalising over the whole matrix)",
)
def divided_by_the_total(weights):
    mixed = weights + torch.eye(len(weights))
    return mixed / mixed.sum()


@fixed_rows.mistake(
    "The rows are normalised first and mixed with the identity afterwards. The contract mixes first; that gives other "
    "shares.",
    source="Abnar and Zuidema, 2020, section 3 (A = 0.5 W + 0.5 I, then re-normalised), read in the other order.",
)
def normalised_before_mixing(weights):
    return (weights / weights.sum(dim=-1, keepdim=True) + torch.eye(len(weights))) / 2


# ---- 5.6 one block, depth times


class _ListedEncoder(nn.Module):
    def __init__(self, make_block, depth):
        super().__init__()
        self.blocks = nn.ModuleList(make_block() for _ in range(depth))

    def forward(self, tokens):
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class _SequentialEncoder(nn.Module):
    def __init__(self, make_block, depth):
        super().__init__()
        self.chain = nn.Sequential(*[make_block() for _ in range(depth)])

    def forward(self, tokens):
        return self.chain(tokens)


class _NamedEncoder(nn.Module):
    def __init__(self, make_block, depth):
        super().__init__()
        for index in range(depth):
            self.add_module(f"layer{index}", make_block())

    def forward(self, tokens):
        for block in self.children():
            tokens = block(tokens)
        return tokens


def small_block() -> nn.Module:
    """What the checks build encoders from."""
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _counts(implementation):
    assert _count(implementation(small_block, 3)) == 3 * _count(small_block())


def _some_encoder(implementation):
    return implementation(small_block, 3)(torch.randn(2, 5, 4))


test_encoder = _test_exercise(
    "test_encoder",
    1,
    "05-transformer-encoder#6 The block",
    _counts,
    {
        "a right one, with nn.ModuleList": _ListedEncoder,
        "a right one, with nn.Sequential": _SequentialEncoder,
        "a right one, with add_module": _NamedEncoder,
    },
    {"the broken one": broken.BrokenEncoder},
)
_facts(test_encoder, _some_encoder)


@test_encoder.named(
    "You hand over a block; `make_block` is a function that builds one each time it is called. `lambda:` in front of "
    "the block makes one.",
    lambda e: (
        e.refused
        and e.refused.outcome == STOPS
        and any(isinstance(_argument(given, 0, "make_block"), nn.Module) for given in e.refused.made)
    ),
    source="Expected, no published case found: a module where a function that builds one is asked for.",
)
def a_block_instead_of_a_function(implementation):
    assert _count(implementation(nn.Linear(4, 4), 3)) == 60


@test_encoder.named(
    "You look for an attribute that the contract doesn't promise; right versions call it otherwise. Use what every "
    "module has.",
    lambda e: e.refused and isinstance(e.refused.error, AttributeError) and "object has no attribute" in e.refused.text,
    source="AttributeError: 'ViTModel' object has no attribute 'blocks', https://github.com/jacobgil/vit-explain/"
    "issues/23",
)
def looks_for_blocks(implementation):
    assert len({id(block) for block in implementation(small_block, 3).blocks}) == 3


_shapes_and_rounding(test_encoder, _some_encoder, None)


@test_encoder.named(
    "With depth 1 there is nobody to share with. Build at least two blocks.",
    lambda e: e.let_by and e.let_by.made and all(_argument(given, 1, "depth") == 1 for given in e.let_by.made),
    source="num_layers=1 for speed, as in the unit tests of many published models.",
)
def a_single_block(implementation):
    assert _count(implementation(small_block, 1)) == _count(small_block())


@test_encoder.named(
    "`state_dict` lists a shared weight under each of its names, so the count looks right. `parameters()` "
    "lists it once.",
    lambda e: e.let_by and e.let_by.state_dicts,
    source="https://github.com/karpathy/llama2.c/issues/378 (shared weights counted twice in a state dict)",
)
def counted_in_the_state_dict(implementation):
    state = implementation(small_block, 3).state_dict()
    assert sum(value.numel() for value in state.values()) == 3 * _count(small_block())


_usual(test_encoder, _some_encoder, (2, 5, 4))


def _encoder_cases(generator: Generator) -> Iterator[Case]:
    for depth in (3, 4):
        (tokens,) = _sizes(generator, (2, 3, 4))
        arguments = {"make_block": small_block, "depth": depth, "tokens": tokens}
        yield Case(f"depth {depth}, tokens (2, 3, 4)", arguments)


def _encoder_run(answer, make_block, depth, tokens):
    encoder = answer(make_block, depth)
    parameters = list(encoder.parameters())
    yield "learned numbers", sum(parameter.numel() for parameter in parameters)
    if not parameters:
        return
    starts = [parameter.detach().clone() for parameter in parameters if parameter.ndim == 2]
    alike = any(torch.equal(a, b) for i, a in enumerate(starts) for b in starts[:i])
    yield "two blocks start alike", alike
    numbers = torch.linspace(-1, 1, sum(parameter.numel() for parameter in parameters))
    nn.utils.vector_to_parameters(numbers, parameters)
    yield "output, weights set from -1 to 1", encoder(tokens)


FixedEncoder = Exercise(
    "FixedEncoder",
    1,
    "05-transformer-encoder#6 The block",
    _ListedEncoder,
    _encoder_cases,
    run=_encoder_run,
    takes="class",
)


@FixedEncoder.mistake(
    "There is still one block, listed several times. Each layer needs a call of `make_block` of its own.",
    source="https://github.com/zalandoresearch/pytorch-vq-vae/issues/2 (a list times a number)",
)
class still_shared(broken.BrokenEncoder):
    pass


@FixedEncoder.mistake(
    "There is one block too few: depth - 1 of them. Look at where your counting starts and where it ends.",
    source="Expected, no published case found: range(depth - 1), or range(1, depth).",
)
class one_too_few(_ListedEncoder):
    def __init__(self, make_block, depth):
        super().__init__(make_block, depth - 1)


@FixedEncoder.mistake(
    "The blocks are copies: each has its own weights, but all start from the same numbers. The contract wants each "
    "drawn by itself.",
    source="https://github.com/pytorch/pytorch/issues/86274 (nn.TransformerEncoder)",
)
class copies(_ListedEncoder):
    def __init__(self, make_block, depth):
        nn.Module.__init__(self)
        block = make_block()
        self.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(depth))


@FixedEncoder.mistake(
    "A Python list hides its modules: `parameters()` is empty and no optimiser will move them.",
    source="PyTorch's documentation of nn.ModuleList, which exists for this reason; a perennial question on its forum.",
)
class a_python_list(_ListedEncoder):
    def __init__(self, make_block, depth):
        nn.Module.__init__(self)
        self.blocks = [make_block() for _ in range(depth)]


@FixedEncoder.mistake(
    "Every block reads the first input, and only the last one's answer is returned. Each must read what the one before "
    "it wrote.",
    source="A loop that assigns `out = block(tokens)` and never passes it on.",
)
class not_chained(_ListedEncoder):
    def forward(self, tokens):
        for block in self.blocks:
            out = block(tokens)
        return out


# ---- 5.7 batch and tokens swapped


class _BatchFirst(broken.BrokenMixer):
    def __init__(self, hidden_size, num_heads):
        super().__init__(hidden_size, num_heads)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)


class _Swapped(broken.BrokenMixer):
    def forward(self, tokens):
        x = self.norm(tokens).transpose(0, 1)
        return tokens + self.attention(x, x, x)[0].transpose(0, 1)


class _OneByOne(broken.BrokenMixer):
    def forward(self, tokens):
        return torch.stack([image + self.attention(*[self.norm(image)] * 3)[0] for image in tokens])


class _BrokenWithoutEps(broken.BrokenMixer):
    """Sees no factor at all, so that a test which changes an image by one is blind for every seed."""

    def __init__(self, hidden_size, num_heads):
        super().__init__(hidden_size, num_heads)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-12)


def _no_leak(implementation):
    mixer, tokens = implementation(4, 2).eval(), torch.randn(2, 3, 4)
    other = tokens.clone()
    other[1] = torch.randn(3, 4)
    assert_close(mixer(other)[0], mixer(tokens)[0])


def _some_mixer(implementation):
    return implementation(4, 2).eval()(torch.randn(2, 3, 4))


def _two_calls(trial: Trial | None) -> Iterator[tuple[Call, Call, Tensor, Tensor]]:
    """Each two calls of one module with tokens of one shape."""
    calls = [call for call in trial.calls if call.tensors] if trial else []
    for index, other in enumerate(calls):
        for one in calls[:index]:
            a, b = one.tensors[0], other.tensors[0]
            if one.module == other.module and a.shape == b.shape:
                yield one, other, a, b


def _normed_alike(e: Evidence) -> bool:
    for _, _, a, b in _two_calls(e.passed):
        one, other = (F.layer_norm(x, x.shape[-1:], eps=1e-12) for x in (a, b))
        if not _same(a, b) and torch.allclose(one, other, atol=1e-4):
            return True
    return False


def _whole_outputs(e: Evidence) -> bool:
    pair = _refused_pair(e, image=False)
    if not pair or pair[0].module != pair[1].module:
        return False
    a, b = pair[0].tensors[0], pair[1].tensors[0]
    kept = [_same(one, other) for one, other in zip(a, b, strict=True)]
    return any(kept) and not all(kept)


test_mixer = _test_exercise(
    "test_mixer",
    2,
    "05-transformer-encoder#6 The block",
    _no_leak,
    {
        "a right one, with batch_first": _BatchFirst,
        "a right one, with two transposes": _Swapped,
        "a right one, image by image": _OneByOne,
    },
    {"the broken one": broken.BrokenMixer, "the broken one, with an eps near 0 in its LayerNorm": _BrokenWithoutEps},
)
_facts(test_mixer, _some_mixer)
_two_modules(test_mixer, lambda made: made(4, 2).eval(), lambda: torch.randn(2, 3, 4))


@test_mixer.named(
    "You compare the outputs of the whole batch, and in one call an image was changed: its own output may change, in "
    "right versions too. Compare the images that you left alone.",
    _whole_outputs,
    source="Expected, no published case found: the index of the image forgotten in the comparison.",
)
def the_whole_batch(implementation):
    mixer, tokens = implementation(4, 2).eval(), torch.randn(2, 3, 4)
    other = tokens.clone()
    other[1] = torch.randn(3, 4)
    assert_close(mixer(other), mixer(tokens))


_shapes_and_rounding(test_mixer, _some_mixer, None)
_usual(test_mixer, _some_mixer, (2, 3, 4))


@test_mixer.named(
    "With a single image nothing can leak in from another. Take at least two, and change one of them.",
    lambda e: e.let_by and all(len(x) == 1 for x in _tensors(e.let_by)),
    source="https://github.com/om-ai-lab/OmDet/issues/19 (inconsistent for batches only)",
)
def a_single_image(implementation):
    mixer, tokens, order = implementation(4, 2).eval(), torch.randn(1, 5, 4), [2, 0, 1, 4, 3]
    assert_close(mixer(tokens[:, order]), mixer(tokens)[:, order])


@test_mixer.named(
    "Both calls were given the same tensor, with the same numbers in it. If you meant to change a part of it for one "
    "call: `other = tokens` is a second name and no copy.",
    lambda e: any(_same(a, b) and one.places == other.places for one, other, a, b in _two_calls(e.let_by)),
    source="Expected, no published case found: an assignment taken for a copy.",
)
def no_copy(implementation):
    mixer, tokens = implementation(4, 2).eval(), torch.randn(2, 3, 4)
    other = tokens
    other[1] = torch.randn(3, 4)
    assert_close(mixer(other)[0], mixer(tokens)[0])


@test_mixer.named(
    "All your images are the same, so one can't tell from which the information came. Draw each by itself.",
    lambda e: e.let_by and all(_alike(x, 0) for x in _tensors(e.let_by)),
    source="A picture repeated to fill the batch, as in many benchmarks and demonstration notebooks.",
)
def the_same_image_twice(implementation):
    out = implementation(4, 2).eval()(torch.randn(1, 3, 4).expand(2, 3, 4))
    assert_close(out[0], out[1])


@test_mixer.named(
    "You changed the other image by a shift or a factor, and the LayerNorm in front of the attention takes both away: "
    "the attention sees no change. Give it other random numbers.",
    _normed_alike,
    source="Expected, no published case found: other[1] += 1. LayerNorm's invariance: Ba et al., 2016, section 5.1",
)
def shifted_only(implementation):
    mixer, tokens = implementation(4, 2).eval(), torch.randn(2, 3, 4)
    other = tokens.clone()
    other[1] += 1
    assert_close(mixer(other)[0], mixer(tokens)[0])


@test_mixer.named(
    "When patches are shuffled, the outputs follow, in the broken version too: it holds for any axis. Ask instead what "
    "one image may know of another.",
    lambda e: any(not _same(a, b) and _permuted(a, b) for _, _, a, b in _two_calls(e.let_by)),
    source="Permutation equivariance (notebook 03) taken as proof that attention is right.",
)
def equivariance_only(implementation):
    mixer, tokens, order = implementation(4, 2).eval(), torch.randn(3, 5, 4), [2, 0, 1, 4, 3]
    assert_close(mixer(tokens[:, order]), mixer(tokens)[:, order])


@test_mixer.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_wider_than_the_leak(implementation):
    mixer, tokens = implementation(4, 2).eval(), torch.randn(2, 3, 4)
    other = tokens.clone()
    other[1] = torch.randn(3, 4)
    assert torch.allclose(mixer(other)[0], mixer(tokens)[0], atol=100)


def _mixer_cases(generator: Generator) -> Iterator[Case]:
    for B, N, D, h in ((2, 3, 4, 2), (5, 2, 6, 3)):
        tokens, *numbers = _sizes(generator, (B, N, D), (3 * D, D), (3 * D,), (D, D), (D,), (D,), (D,))
        names = ("attention.in_proj_weight", "attention.in_proj_bias", "attention.out_proj.weight")
        names = (*names, "attention.out_proj.bias", "norm.weight", "norm.bias")
        state = dict(zip(names, numbers, strict=True))
        arguments = {"hidden_size": D, "num_heads": h, "tokens": tokens, "weights": state}
        yield Case(f"tokens ({B}, {N}, {D}), {h} heads", arguments)


def _mixer_run(answer, hidden_size, num_heads, tokens, state):
    mixer = answer(hidden_size, num_heads).eval()
    mixer.load_state_dict(state)
    yield "in evaluation: output", mixer(tokens)
    yield "in training: output", mixer.train()(tokens)


FixedMixer = Exercise(
    "FixedMixer",
    1,
    "05-transformer-encoder#6 The block",
    _BatchFirst,
    _mixer_cases,
    run=_mixer_run,
    takes="class",
)


@FixedMixer.mistake(
    "The images still read each other: the attention runs along the batch. `nn.MultiheadAttention` takes the first "
    "axis for the sequence, with `batch_first=True` the second; a transpose in addition undoes that.",
    source="https://github.com/aipixel/AEMatter/issues/3",
)
class still_leaking(broken.BrokenMixer):
    pass


@FixedMixer.mistake(
    "A reshape gives the shape you want and shuffles the tokens. Swapping two axes is another operation.",
    source="https://github.com/rish-16/tokenlearner-pytorch/issues/1 (y.view where y.transpose was meant)",
)
class reshaped_not_swapped(broken.BrokenMixer):
    def forward(self, tokens):
        B, N, D = tokens.shape
        x = self.norm(tokens).reshape(N, B, D)
        return tokens + self.attention(x, x, x)[0].reshape(B, N, D)


@FixedMixer.mistake(
    "The axes are swapped on the way in and not on the way back.",
    source="https://github.com/meta-pytorch/opacus/pull/825 (a transpose missing on the way out, under batch_first)",
)
class not_swapped_back(broken.BrokenMixer):
    def forward(self, tokens):
        x = self.norm(tokens).transpose(0, 1)
        return tokens + self.attention(x, x, x)[0].reshape(tokens.shape)


@FixedMixer.mistake(
    "`nn.MultiheadAttention` returns two things, the output and the weights, and you add both at once. Unpack them.",
    source="Expected; PyTorch's documentation of nn.MultiheadAttention lists both outputs. No published case found.",
)
class a_pair_added(_BatchFirst):
    def forward(self, tokens):
        x = self.norm(tokens)
        return tokens + self.attention(x, x, x)


@FixedMixer.mistake(
    "Your attention drops weights in training. The contract has no dropout in it; the broken version had none.",
    source="Expected, no published case found: dropout added in a repair, since most published blocks have one.",
)
class dropout_added(_BatchFirst):
    def __init__(self, hidden_size, num_heads):
        super().__init__(hidden_size, num_heads)
        self.attention.dropout = 0.1


@FixedMixer.mistake(
    "The images are apart now, but the tokens themselves are no longer added to what they fetched.",
    source="The residual connection lost in a rewrite of forward; no single issue.",
)
class residual_lost(_BatchFirst):
    def forward(self, tokens):
        x = self.norm(tokens)
        return self.attention(x, x, x)[0]


# ---- 5.8 the scale of the whole width


def _split(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _joined(query, key, value, num_heads, attention=functional.attention):
    heads = attention(*(_split(x, num_heads) for x in (query, key, value)))
    return heads.transpose(1, 2).flatten(2)


def _heads_loop(query, key, value, num_heads):
    parts = zip(*(x.chunk(num_heads, dim=-1) for x in (query, key, value)), strict=True)
    return torch.cat([(q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v for q, k, v in parts], dim=-1)


def _fused(implementation, D=6, h=3):
    query, key, value = torch.randn(3, 2, 4, D)
    expected = _joined(query, key, value, h, F.scaled_dot_product_attention)
    return implementation(query, key, value, h), expected


def _as_fused(implementation):
    assert_close(*_fused(implementation))


def _some_heads(implementation):
    return implementation(*torch.randn(3, 2, 4, 6), 3)


def _bit_by_bit_heads(implementation):
    query, key, value = torch.randn(3, 8, 30, 24)
    expected = _joined(query, key, value, 4, F.scaled_dot_product_attention)
    assert torch.equal(implementation(query, key, value, 4), expected)


def _number_of_heads(call: Call) -> int:
    return _argument(call.arguments, 3, "num_heads")


def _no_whole_heads(e: Evidence) -> bool:
    """Whether a part of the output was compared that is no whole number of heads wide."""
    last = e.last()
    for call in e.refused.calls if last else []:
        D, d_k = call.output.shape[-1], call.output.shape[-1] // _number_of_heads(call)
        width = last.one.shape[-1]
        cut = last.one.shape[:-1] == call.output.shape[:-1] and 0 < width < D and width % d_k
        if cut and any(_same(side, call.output[..., :width]) for side in (last.one, last.other)):
            return True
    return False


test_attention = _test_exercise(
    "test_attention",
    2,
    "04-multi-head-attention#8 The scale is $\\sqrt{d_k}$",
    _as_fused,
    {
        "the package's own": _joined,
        "a right one, head by head": _heads_loop,
        "a right one, fused": functools.partial(_joined, attention=F.scaled_dot_product_attention),
        "a right one, rounded otherwise": _nudged(_joined),
    },
    {"the broken one": broken.broken_attention},
)
_facts(test_attention, _some_heads)
_shapes_and_rounding(test_attention, _some_heads, _bit_by_bit_heads, source=TORCHREC)


@test_attention.named(
    "What you expect is torch's attention over the whole width D, which is one head. The implementation has several, "
    "each with a slice of its own.",
    lambda e: (
        e.refused
        and e.refused.outcome == FAILS
        and any(_number_of_heads(call) > 1 for call in e.refused.calls)
        and _side_is(
            e.refused,
            lambda call: [
                (whole := F.scaled_dot_product_attention(*call.tensors)),
                *(whole[..., :width] for width in range(1, whole.shape[-1])),
            ],
        )
    ),
    source="Expected, no published case found: several heads compared with one.",
)
def one_head_expected(implementation):
    query, key, value = torch.randn(3, 2, 4, 6)
    assert_close(implementation(query, key, value, 3), F.scaled_dot_product_attention(query, key, value))


@test_attention.named(
    "The part of the output that you compare is no whole number of heads wide. A head has d_k = D / h columns; count "
    "them for your sizes.",
    _no_whole_heads,
    source="Expected, no published case found: h taken for the width of a head.",
)
def as_many_columns_as_heads(implementation):
    query, key, value = torch.randn(3, 2, 4, 6)
    expected = F.scaled_dot_product_attention(query[..., :3], key[..., :3], value[..., :3])
    assert_close(implementation(query, key, value, 3)[..., :3], expected)


@test_attention.named(
    "What you expect cuts the heads by one reshape, without a transpose. That mixes pieces of several tokens in a "
    "head; a head is a slice of the width of each token.",
    lambda e: e.refused and _side_is(e.refused, _cut_by_reshape),
    source="https://github.com/rish-16/tokenlearner-pytorch/issues/1 (y.view where y.transpose was meant)",
)
def heads_cut_by_reshape(implementation):
    x = torch.randn(3, 2, 4, 6)
    heads = F.scaled_dot_product_attention(*x.reshape(3, 2, 3, 4, 2))
    assert_close(implementation(*x, 3), heads.reshape(2, 4, 6))


def _cut_by_reshape(call: Call) -> list[Tensor]:
    h, (B, N, D) = _number_of_heads(call), call.output.shape
    heads = F.scaled_dot_product_attention(*(x.reshape(B, h, N, D // h) for x in call.tensors))
    return [heads.reshape(B, N, D), heads.transpose(1, 2).reshape(B, N, D)]


@test_attention.named(
    "What you expect agrees with the broken version and not with right ones: your own computation has the same slip. "
    "How many products does one head sum?",
    lambda e: e.same_slip(),
    source="https://github.com/lucidrains/vit-pytorch/issues/65 (dim ** -0.5, which is right for one head only)",
)
def the_same_scale_in_the_test(implementation):
    query, key, value = torch.randn(3, 2, 4, 6)
    expected = broken.broken_attention(query, key, value, 3)
    assert_close(implementation(query, key, value, 3), expected)


_usual(test_attention, _some_heads, (2, 4, 6))


@test_attention.named(
    "With one head d_k is D, and both scales are the same. Take at least two heads.",
    lambda e: e.let_by and all(_number_of_heads(call) == 1 for call in e.let_by.calls),
    source="https://github.com/lucidrains/vit-pytorch/issues/65 (dim ** -0.5, which is right for one head only)",
)
def a_single_head(implementation):
    assert_close(*_fused(implementation, h=1))


@test_attention.named(
    "Your values are equal for all tokens: whatever the weights are, their mean is the same. Draw the values at "
    "random.",
    lambda e: e.let_by and all(_alike(_argument(call.arguments, 2, "value"), 1) for call in e.let_by.calls),
    source="torch.ones as input: the smoke tests of many published attention layers.",
)
def values_all_equal(implementation):
    x = torch.ones(2, 4, 6)
    assert_close(implementation(x, x, x, 3), x)


@test_attention.named(
    "When tokens are shuffled, the outputs follow, whatever the scale is. The scale shows in the numbers alone.",
    lambda e: any(not _same(a, b) and _permuted(a, b) for _, _, a, b in _two_calls(e.let_by)),
    source="Permutation equivariance (notebook 03) taken as proof that attention is right.",
)
def shuffled_tokens(implementation):
    x, order = torch.randn(3, 2, 5, 6), [2, 0, 1, 4, 3]
    assert_close(implementation(*x[:, :, order], 3), implementation(*x, 3)[:, order])


@test_attention.named(
    "That one image knows nothing of another holds whatever the scale is. The scale shows in the numbers alone.",
    lambda e: any(
        any(_same(a[i], b[i]) for i in range(len(a))) and not _same(a, b) for _, _, a, b in _two_calls(e.let_by)
    ),
    source="Expected, no published case found: the test of an earlier bug used again.",
)
def no_leak_between_images(implementation):
    x = torch.randn(3, 2, 4, 6)
    other = x.clone()
    other[:, 1] = torch.randn(3, 4, 6)
    assert_close(implementation(*other, 3)[0], implementation(*x, 3)[0])


@test_attention.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_too_wide(implementation):
    got, expected = _fused(implementation)
    assert torch.allclose(got, expected, atol=5)


def _heads_cases(generator: Generator) -> Iterator[Case]:
    for B, N, D, h in ((2, 3, 4, 2), (1, 5, 6, 3)):
        query, key, value = _sizes(generator, *[(B, N, D)] * 3)
        arguments = {"query": query, "key": key, "value": value, "num_heads": h}
        yield Case(f"tokens ({B}, {N}, {D}), {h} heads", arguments)


def _scaled(query, key, value, num_heads, scale):
    return _joined(query, key, value, num_heads, functools.partial(functional.attention, scale=scale))


fixed_attention = Exercise(
    "fixed_attention",
    1,
    "04-multi-head-attention#8 The scale is $\\sqrt{d_k}$",
    _joined,
    _heads_cases,
)
_unchanged(
    fixed_attention,
    "The scores are still divided by the root of D. A dot product inside a head has only d_k terms.",
    "https://github.com/lucidrains/vit-pytorch/issues/65 and https://github.com/karpathy/ng-video-lecture/pull/6",
    broken.broken_attention,
)


@fixed_attention.mistake(
    "There is no scale at all now. Without it the softmax grows too sharp as d_k grows.",
    source="softmax(Q K^T) V, as printed in many introductions; no single issue.",
)
def no_scale(query, key, value, num_heads):
    return _scaled(query, key, value, num_heads, 1.0)


@fixed_attention.mistake(
    "The scores are divided by d_k in all; it should be its root. Either the root is missing, or it is applied twice: "
    "by you and by torch's own attention, which scales too.",
    source="softmax(Q K^T / d_k), as printed in introductions that lost the root; no single issue.",
)
def without_the_root(query, key, value, num_heads):
    return _scaled(query, key, value, num_heads, num_heads / query.shape[-1])


@fixed_attention.mistake(
    "You divide by the root of the number of heads. What counts is how many numbers a head multiplies, d_k.",
    source="https://github.com/lucidrains/denoising-diffusion-pytorch/issues/265 (which sizes belong into the scale?)",
)
def root_of_the_heads(query, key, value, num_heads):
    return _scaled(query, key, value, num_heads, num_heads**-0.5)


@fixed_attention.mistake(
    "You multiply by the root of d_k where you should divide.",
    source="d ** 0.5, as in https://github.com/FrancescoSaverioZuppichini/ViT/issues/1, where d ** -0.5 is meant",
)
def multiplied(query, key, value, num_heads):
    return _scaled(query, key, value, num_heads, (query.shape[-1] / num_heads) ** 0.5)


# ---- 5.9 [CLS] last, read first


class _First(broken.BrokenReadout):
    def together(self, patches):
        return [self.class_token.expand(len(patches), -1, -1), patches]

    def forward(self, patches):
        return self.encoder(torch.cat(self.together(patches), dim=1))[:, 0]


class _Last(broken.BrokenReadout):
    def forward(self, patches):
        cls = self.class_token.expand(len(patches), -1, -1)
        return self.encoder(torch.cat([patches, cls], dim=1))[:, -1]


def _class_token_alone(implementation):
    out = implementation(nn.Identity(), 5)(torch.randn(3, 4, 5))
    assert_close(out, out[:1].expand_as(out))


def _some_readout(implementation):
    return implementation(nn.Identity(), 5)(torch.randn(3, 4, 5))


def _first_stays(e: Evidence) -> bool:
    orders = [_permuted(a, b) for _, _, a, b in _two_calls(e.let_by) if not _same(a, b)]
    return bool(orders) and all(order and order[0] == 0 for order in orders)


test_readout = _test_exercise(
    "test_readout",
    2,
    "07-vision-transformer#7 Which row does the head read?",
    _class_token_alone,
    {"a right one, [CLS] first": _First, "a right one, [CLS] last and read last": _Last},
    {"the broken one": broken.BrokenReadout},
)
_facts(test_readout, _some_readout)
_two_modules(test_readout, lambda made: made(nn.Identity(), 5), lambda: torch.randn(3, 4, 5))
_shapes_and_rounding(test_readout, _some_readout, None)


@test_readout.named(
    "Your test passes the version with [CLS] first and refuses the one that puts it last and reads it last. Both are "
    "right: the contract asks whose row is returned, and leaves the place open.",
    lambda e: e.refused and "last" in e.refused.description,
    source="https://github.com/huggingface/transformers/issues/33117 ([CLS] of the image expected at index 0)",
)
def insists_on_the_first_place(implementation):
    spy = _Spy()
    implementation(spy, 5)(torch.randn(3, 4, 5))
    assert_close(spy.tokens[:, 0], spy.tokens[:1, 0].expand(3, 5))


class _Spy(nn.Module):
    def forward(self, tokens):
        self.tokens = tokens
        return tokens


_usual(test_readout, _some_readout, (3, 5))


@test_readout.named(
    "All images in your batch are the same, so a patch looks as constant as the class token. Draw each by itself.",
    lambda e: e.let_by and len(e.let_by.calls) == 1 and all(_alike(x, 0) for x in _tensors(e.let_by)),
    source="torch.ones or one picture repeated: the smoke tests of many published ViTs.",
)
def equal_images(implementation):
    out = implementation(nn.Identity(), 5)(torch.ones(3, 4, 5))
    assert_close(out, out[:1].expand_as(out))


@test_readout.named(
    "You shuffle the patches but leave the first one in its place, and the first one is what the bug reads. Move it.",
    _first_stays,
    source="A swap of the last two rows: https://github.com/NVIDIA-NeMo/RL/pull/4106 shows how such tests stay green.",
)
def the_first_patch_stays(implementation):
    readout, patches = implementation(nn.Identity(), 5), torch.randn(3, 4, 5)
    assert_close(readout(patches[:, [0, 2, 3, 1]]), readout(patches))


@test_readout.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_wider_than_a_patch(implementation):
    out = _some_readout(implementation)
    assert torch.allclose(out, out[:1].expand_as(out), atol=100)


def _readout_cases(generator: Generator) -> Iterator[Case]:
    for B, N, D, h in ((2, 3, 4, 2), (4, 5, 6, 3)):
        encoder = layers.MultiHeadAttention(D, h).eval()
        size = _count(encoder)
        patches, numbers = _sizes(generator, (B, N, D), (size,))
        nn.utils.vector_to_parameters(numbers, encoder.parameters())
        arguments = {"encoder": encoder, "hidden_size": D, "patches": patches}
        yield Case(f"patches ({B}, {N}, {D}), an encoder without positions", arguments)


def _readout_run(answer, encoder, hidden_size, patches):
    readout = answer(encoder, hidden_size)
    known = {id(parameter) for parameter in encoder.parameters()}
    own = [parameter for parameter in readout.parameters() if id(parameter) not in known]
    yield "learned numbers beside the encoder", sum(parameter.numel() for parameter in own)
    if not own:
        return
    nn.utils.vector_to_parameters(torch.arange(sum(parameter.numel() for parameter in own)) / 2 - 1, own)
    yield "output, class token set to -1, -0.5, 0, ...", readout(patches)


FixedReadout = Exercise(
    "FixedReadout",
    1,
    "07-vision-transformer#7 Which row does the head read?",
    _First,
    _readout_cases,
    run=_readout_run,
    takes="class",
)


@FixedReadout.mistake(
    "It returns the row of the first patch. Where you put [CLS] and which row you read don't fit together.",
    source="https://github.com/huggingface/transformers/issues/33117 ([CLS] is not at the index that is read)",
)
class still_the_first_patch(broken.BrokenReadout):
    pass


@FixedReadout.mistake(
    "[CLS] is first now, and you read the last row: again a patch. Only one end may change.",
    source="Two people, or one person twice, repair the same mismatch at both ends; no single issue.",
)
class both_ends_changed(_First):
    def forward(self, patches):
        return self.encoder(torch.cat(self.together(patches), dim=1))[:, -1]


@FixedReadout.mistake(
    "You return the mean of all rows. That is another way to pool; the contract asks for the row of [CLS].",
    source="https://github.com/tahmid0007/VisualTransformers/issues/9 (pooling expected instead of the first token)",
)
class mean_of_all_rows(_First):
    def forward(self, patches):
        return self.encoder(torch.cat(self.together(patches), dim=1)).mean(dim=1)


@FixedReadout.mistake(
    "The class token is an ordinary tensor, so no optimiser will move it.",
    source="https://github.com/lucidrains/vit-pytorch/issues/134 ('I don't understand why nn.Parameter is here')",
)
class not_learned(_First):
    def __init__(self, encoder, hidden_size):
        nn.Module.__init__(self)
        self.encoder = encoder
        self.class_token = torch.zeros(1, 1, hidden_size)


@FixedReadout.mistake(
    "You replace the first patch by [CLS]: the encoder never sees that patch. [CLS] comes in addition.",
    source="tokens[:, 0] = cls, where torch.cat is meant: the count of tokens stays N instead of N + 1.",
)
class in_place_of_a_patch(_First):
    def forward(self, patches):
        return super().forward(patches[:, 1:])


# ---- 5.10 a LayerNorm with two slips


def _normed(x, weight, bias, eps, correction=0, inside=True):
    mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, keepdim=True, correction=correction)
    deviation = (variance + eps).sqrt() if inside else variance.sqrt() + eps
    return (x - mean) / deviation * weight + bias


def _normed_double(x, weight, bias, eps):
    return _normed(x.double(), weight.double(), bias.double(), eps).to(x.dtype)


def _torchs_norm(x, weight, bias, eps):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _norm_pair(implementation, D=5, size=1e-3, eps=1e-6):
    x, weight, bias = size * torch.randn(2, 3, D), torch.randn(D), torch.randn(D)
    return implementation(x, weight, bias, eps), F.layer_norm(x, (D,), weight, bias, eps)


def _small_tokens(implementation):
    assert_close(*_norm_pair(implementation))


def _some_norm(implementation):
    return _norm_pair(implementation)[0]


def _bit_by_bit_norm(implementation):
    assert torch.equal(*_norm_pair(implementation, D=700))


def _given_norm(call: Call) -> tuple[Tensor, Tensor, Tensor, float]:
    return tuple(_argument(call.arguments, place, name) for place, name in enumerate(("x", "weight", "bias", "eps")))


def _spread(e: Evidence) -> list[float]:
    """For each call, the deviation of its tokens in units of the root of eps."""
    given = [_given_norm(call) for call in e.passed.calls]
    return [float(x.var(dim=-1, correction=0).mean().sqrt() / eps**0.5) for x, _, _, eps in given]


def _other_norm(e: Evidence, expected: Callable) -> bool:
    """Whether a right version was compared with `expected`, and `expected` isn't right."""
    last = e.last()
    for call in e.refused.calls if last else []:
        value = expected(*_given_norm(call)).detach().double()
        for side in (last.one, last.other):
            gap = float((side - value).abs().max()) if side.shape == value.shape else math.inf
            if gap <= 1e-6 * last.size and last.gap > 4 * gap:
                return True
    return False


test_norm = _test_exercise(
    "test_norm",
    2,
    "05-transformer-encoder#3 LayerNorm: one token, its own scale",
    _small_tokens,
    {
        "torch's own": _torchs_norm,
        "a right one, by the formula": _normed,
        "a right one, in float64 inside": _normed_double,
        "a right one, rounded otherwise": _nudged(_normed),
    },
    {
        "the broken one": broken.broken_norm,
        "one with D - 1 as its only slip": functools.partial(_normed, correction=1),
        "one with eps outside the root as its only slip": functools.partial(_normed, inside=False),
    },
)
_facts(test_norm, _some_norm)
_shapes_and_rounding(test_norm, _some_norm, _bit_by_bit_norm, source=TORCHREC)


@test_norm.named(
    "torch's `std` and `var` divide by D - 1 unless you ask otherwise: your test has the same slip as the bug and "
    "refuses right versions.",
    lambda e: (
        e.refused
        and e.refused.outcome == FAILS
        and (_side_is(e.refused, lambda call: call.output.std(dim=-1)) or _side_is(e.refused, _unbiased_variance))
    ),
    source="https://github.com/harvardnlp/annotated-transformer/issues/122 (the default of std)",
)
def the_same_slip_in_the_test(implementation):
    out = implementation(torch.randn(2, 3, 5), torch.ones(5), torch.zeros(5), 1e-6)
    assert_close(out.std(dim=-1), torch.ones(2, 3), rtol=1e-3, atol=1e-3)


def _unbiased_variance(call: Call) -> Tensor:
    return call.output.var(dim=-1)


@test_norm.named(
    "What you expect was computed with another eps: `F.layer_norm` takes 1e-5 unless you hand it yours, as its last "
    "argument.",
    lambda e: _other_norm(e, lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias)),
    source="https://github.com/deepspeedai/DeepSpeed/pull/3697 (eps missing in the reference of a unit test)",
)
def eps_not_handed_on(implementation):
    x, weight, bias = 1e-3 * torch.randn(2, 3, 5), torch.randn(5), torch.randn(5)
    assert_close(implementation(x, weight, bias, 1e-6), F.layer_norm(x, (5,), weight, bias))


@test_norm.named(
    "What you expect was computed without `weight` and `bias`; the implementation was given both and uses them.",
    lambda e: (
        _other_norm(e, lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, eps=eps))
        or _other_norm(e, lambda x, weight, bias, eps: F.layer_norm(x, weight.shape))
    ),
    source="Expected, no published case found: F.layer_norm(x, (D,), eps=eps), whose gain and bias are optional.",
)
def without_gain_and_bias(implementation):
    x, weight, bias = 1e-3 * torch.randn(2, 3, 5), torch.randn(5), torch.randn(5)
    assert_close(implementation(x, weight, bias, 1e-6), F.layer_norm(x, (5,), eps=1e-6))


@test_norm.named(
    "What you expect was computed with D - 1 under the variance, the default of torch's `var` and `std`. The formula "
    "divides by D.",
    lambda e: (
        _other_norm(e, functools.partial(_normed, correction=1))
        or _other_norm(e, functools.partial(_normed, correction=1, inside=False))
    ),
    source="https://github.com/harvardnlp/annotated-transformer/issues/122 (the default of std)",
)
def expected_with_one_less(implementation):
    x, weight, bias = 1e-3 * torch.randn(2, 3, 5), torch.randn(5), torch.randn(5)
    expected = (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True) + 1e-6).sqrt() * weight + bias
    assert_close(implementation(x, weight, bias, 1e-6), expected)


@test_norm.named(
    "What you expect was computed with eps added outside the root. In the formula it stands under the root, beside "
    "the variance.",
    lambda e: _other_norm(e, functools.partial(_normed, inside=False)),
    source="https://github.com/hkproj/pytorch-transformer/pull/31",
)
def expected_with_eps_outside(implementation):
    x, weight, bias = 1e-3 * torch.randn(2, 3, 5), torch.randn(5), torch.randn(5)
    expected = (x - x.mean(dim=-1, keepdim=True)) / (x.std(dim=-1, keepdim=True, correction=0) + 1e-6) * weight + bias
    assert_close(implementation(x, weight, bias, 1e-6), expected)


@test_norm.named(
    "You ask for a variance of 1, and your tokens are so small that eps counts: s² / (s² + eps) is then well below 1, "
    "in right versions too.",
    lambda e: (
        e.refused
        and e.refused.outcome == FAILS
        and (
            _side_is(e.refused, lambda call: call.output.var(dim=-1, correction=0))
            or _side_is(e.refused, lambda call: call.output.std(dim=-1, correction=0))
        )
        and all(
            float(x.var(dim=-1, correction=0).min()) < 100 * eps for x, _, _, eps in map(_given_norm, e.refused.calls)
        )
    ),
    source="Expected, no published case found: variance 1 asked of tokens as small as eps.",
)
def variance_of_small_tokens(implementation):
    out = implementation(1e-3 * torch.randn(2, 3, 5), torch.ones(5), torch.zeros(5), 1e-6)
    assert_close(out.var(dim=-1, correction=0), torch.ones(2, 3))


_usual(test_norm, _some_norm, (2, 3, 5))


@test_norm.named(
    "Tokens whose numbers are all equal give the bias in every version. They need some spread.",
    lambda e: e.let_by and all(_alike(_given_norm(call)[0], -1) for call in e.let_by.calls),
    source="torch.ones as input: the smoke tests of many published layers.",
)
def tokens_without_spread(implementation):
    weight, bias = torch.randn(5), torch.randn(5)
    assert_close(implementation(torch.ones(2, 3, 5), weight, bias, 1e-6), bias.expand(2, 3, 5))


@test_norm.named(
    "The mean is 0 in every version. What is wrong is the spread.",
    lambda e: e.let_by and _side_is(e.let_by, lambda call: call.output.mean(dim=-1)),
    source="https://github.com/pbcquoc/transformer/issues/2 (whether the root matters at all)",
)
def the_mean_only(implementation):
    out = implementation(torch.randn(2, 3, 5), torch.ones(5), torch.zeros(5), 1e-6)
    assert_close(out.mean(dim=-1), torch.zeros(2, 3))


@test_norm.named(
    "Your tokens are large beside the root of eps, and there eps is too small to be seen, inside the root or outside. "
    "Try tokens a thousand times smaller, or a larger eps.",
    lambda e: e.passed and "eps" in e.passed.description and min(_spread(e)) > 30,
    source="https://github.com/codertimo/BERT-pytorch/issues/30 ('they did the same thing', after one ordinary token)",
)
def ordinary_tokens_only(implementation):
    assert_close(*_norm_pair(implementation, size=1.0))


@test_norm.named(
    "Your tokens are tiny beside the root of eps, so right versions give little more than the bias, and D - 1 can't be "
    "told from D. Make them as large as the root of eps.",
    lambda e: e.passed and "D - 1" in e.passed.description and max(_spread(e)) < 1 / 30,
    source="Expected, no published case found: tokens of 1e-8 with an eps of 1e-6.",
)
def tiny_tokens(implementation):
    assert_close(*_norm_pair(implementation, size=1e-8))


@test_norm.named(
    "At this width D and D - 1 are nearly the same, and your tolerance covers the rest. Take a small D.",
    lambda e: e.passed and e.loose() and all(call.tensors[0].shape[-1] >= 64 for call in e.passed.calls),
    source="https://github.com/harvardnlp/annotated-transformer/pull/119 ('not much difference for large dim')",
)
def too_wide_to_see(implementation):
    got, expected = _norm_pair(implementation, D=768)
    assert torch.allclose(got, expected, atol=2e-2)


@test_norm.named(LOOSE, lambda e: e.loose(), source=LOOSENED)
def tolerance_wider_than_both_slips(implementation):
    assert torch.allclose(*_norm_pair(implementation), atol=100)


def _norm_cases(generator: Generator) -> Iterator[Case]:
    for shape, size, eps in (((2, 3, 4), 1.0, 1e-3), ((3, 5), 0.05, 1e-3), ((2, 1, 3, 4), 1.0, 1e-3)):
        x, weight, bias = _sizes(generator, shape, shape[-1:], shape[-1:])
        arguments = {"x": size * x, "weight": weight, "bias": bias, "eps": eps}
        yield Case(f"x {shape} of deviation {size:g}, eps {eps:g}", arguments)


fixed_norm = Exercise(
    "fixed_norm", 1, "05-transformer-encoder#3 LayerNorm: one token, its own scale", _torchs_norm, _norm_cases
)
_unchanged(
    fixed_norm,
    "Both slips are still there: D - 1 under the deviation, and eps added outside the root.",
    "https://github.com/hyunwoongko/transformer/issues/7",
    broken.broken_norm,
)


@fixed_norm.mistake(
    "The deviation is right now, but eps is still added to it. It belongs to the variance, under the root.",
    source="https://github.com/hkproj/pytorch-transformer/pull/31",
)
def eps_still_outside(x, weight, bias, eps):
    return _normed(x, weight, bias, eps, inside=False)


@fixed_norm.mistake(
    "eps is in its place, but the variance still divides by D - 1, torch's default.",
    source="https://github.com/harvardnlp/annotated-transformer/pull/119",
)
def still_unbiased(x, weight, bias, eps):
    return _normed(x, weight, bias, eps, correction=1)


@fixed_norm.mistake(
    "You divide by the variance. Its root is what has the size of the tokens.",
    source="https://github.com/pbcquoc/transformer/issues/2 (no root of the variance)",
)
def no_root(x, weight, bias, eps):
    variance = x.var(dim=-1, keepdim=True, correction=0)
    return (x - x.mean(dim=-1, keepdim=True)) / (variance + eps) * weight + bias


@fixed_norm.mistake(
    "eps is added to the deviation, and then the root is taken. The order is: variance, plus eps, root.",
    source="https://github.com/hyunwoongko/transformer/issues/7 (math.sqrt(std + self.eps), the repair first proposed)",
)
def root_of_the_deviation(x, weight, bias, eps):
    std = x.std(dim=-1, keepdim=True, correction=0)
    return (x - x.mean(dim=-1, keepdim=True)) / (std + eps).sqrt() * weight + bias


@fixed_norm.mistake(
    "You count the axes from the front, and axis 2 is the last one for three axes alone. The contract allows any "
    "number; counted from the back, the last axis is always -1.",
    source="Expected, no published case found: mean(2) in place of mean(-1).",
)
def axis_two(x, weight, bias, eps):
    return (x - x.mean(2, keepdim=True)) / (x.var(2, keepdim=True, correction=0) + eps).sqrt() * weight + bias


@fixed_norm.mistake(
    "You unpack the shape into three sizes, and the contract allows any number of axes. Only the last one matters.",
    source="Expected, no published case found: B, N, D = x.shape.",
)
def three_sizes_unpacked(x, weight, bias, eps):
    _, _, _ = x.shape
    return _normed(x, weight, bias, eps)


@fixed_norm.mistake(
    "Mean and variance run over all tokens of an image. LayerNorm looks at one token at a time.",
    source="'LayerNorm normalises over the sentence': notebook 05, section 3, warns of it.",
)
def over_all_tokens(x, weight, bias, eps):
    mean, variance = x.mean(dim=(-2, -1), keepdim=True), x.var(dim=(-2, -1), keepdim=True, correction=0)
    return (x - mean) / (variance + eps).sqrt() * weight + bias
