"""The checks, checked: each mistake is refused and named, each right answer accepted, whatever a learner hands in."""

import contextlib
import functools
import importlib
import importlib.util
import pkgutil
import re
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn

from vitcourse import ViTConfig, checks, functional, layers
from vitcourse.checks import SHEETS, Case, Exercise, Points, borrowed
from vitcourse.checks.compare import Other, difference
from vitcourse.checks.report import MIME
from vitcourse.checks.watch import TooLong, time_limit, watch

ROOT = Path(__file__).parent.parent
EXERCISES = {
    f"{sheet}.{name}": exercise
    for sheet in SHEETS
    for name, exercise in vars(importlib.import_module(f"vitcourse.checks.{sheet}")).items()
    if isinstance(exercise, Exercise)
}
MISTAKES = [(name, mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]
RIGHT = [
    (name, number, answer)
    for name in EXERCISES
    for number, answer in enumerate(
        importlib.import_module(f"right_answers.{name.split('.')[0]}").RIGHT.get(name.split(".")[1], [])
    )
]
SEEDS = range(3)


def judged(exercise, answer, seed=0):
    return exercise.judge(exercise.observe(answer, seed), seed)


# ---- every exercise


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_is_right(name):
    for seed in SEEDS:
        report = judged(EXERCISES[name], EXERCISES[name].reference, seed)
        assert (report.state, report.score) == ("right", 1), str(report)


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda value: getattr(value, "name", value))
def test_each_mistake_is_refused_and_named(name, mistake):
    for seed in SEEDS:
        report = judged(EXERCISES[name], mistake.answer, seed)
        assert report.state == "wrong", f"accepted with seed {seed}"
        assert report.belief_name == mistake.name, f"seed {seed}: {report}"
        assert report.score < 1


@pytest.mark.parametrize(("name", "number", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", value))
def test_each_right_answer_is_accepted(name, number, answer):
    for seed in SEEDS:
        report = judged(EXERCISES[name], answer, seed)
        assert report.state == "right", f"seed {seed}: {report}"


def test_every_module_with_an_exercise_is_a_sheet():
    found = {module.name for module in pkgutil.iter_modules(checks.__path__)}
    modules = {name: vars(importlib.import_module(f"vitcourse.checks.{name}")) for name in found}
    assert {name for name in found if any(isinstance(v, Exercise) for v in modules[name].values())} == set(SHEETS)


def test_there_are_enough_of_both():
    answers = Counter(name for name, _, _ in RIGHT)
    assert {name: answers[name] for name in EXERCISES if answers[name] < 4} == {}
    assert {name: len(exercise.mistakes) for name, exercise in EXERCISES.items() if len(exercise.mistakes) < 3} == {}


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda value: getattr(value, "name", value))
def test_each_mistake_has_a_message_and_a_source(name, mistake):
    assert 20 <= len(mistake.message) <= 300
    assert mistake.message.endswith((".", "?"))
    assert len(mistake.source) >= 15


def test_names_and_messages_are_unique_in_an_exercise():
    for exercise in EXERCISES.values():
        assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
        assert len({mistake.message for mistake in exercise.mistakes}) == len(exercise.mistakes)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_section_to_read_again_is_there(name):
    notebook, heading = EXERCISES[name].section.split("#")
    text = (ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8")
    headings = re.findall(r'"## (.*?)(?:\\n)?"', text)
    assert heading in [found.replace("\\\\", "\\") for found in headings]


@pytest.mark.parametrize("name", EXERCISES)
def test_another_seed_gives_another_input(name):
    def numbers(seed):
        return [
            value.tolist() if isinstance(value, torch.Tensor) else str(value)
            for case in EXERCISES[name].inputs(seed)
            for value in case.arguments.values()
            if not isinstance(value, nn.Module)
        ]

    assert numbers(0) == numbers(0)
    assert any(numbers(0) != numbers(seed) for seed in range(1, 10))


# ---- whatever a learner hands in

HOSTILE = {
    "returns None": lambda *_: None,
    "returns a text": lambda *_: "done",
    "returns a list": lambda *_: [1, 2],
    "returns an object": lambda *_: object(),
    "returns another shape": lambda *_: torch.zeros(7, 11, 13),
    "returns nothing at all": lambda *_: torch.zeros(0),
    "returns booleans": lambda *_: torch.zeros(2, 2, dtype=torch.bool),
    "returns complex numbers": lambda *_: torch.zeros(2, 2, dtype=torch.complex64),
    "returns nan": lambda *_: torch.full((2, 2), torch.nan),
    "takes nothing": lambda: None,
    "raises": lambda *_: 1 / 0,
    "raises an odd error": lambda *_: (_ for _ in ()).throw(type("Odd", (Exception,), {"__str__": lambda s: 1 / 0})()),
    "exits": lambda *_: exit(),
    "recurses": lambda *_: HOSTILE["recurses"](*_),
    "prints a lot": lambda *_: print("x" * 10**6),
    "is a type": int,
}


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_that_is_handed_in_breaks_a_check(name, what, capsys):
    exercise = EXERCISES[name]
    points = exercise(HOSTILE[what], seed=0)
    assert isinstance(points, Points)
    assert points < exercise.points
    assert points.report.state == "wrong"
    assert points.report.problem
    assert str(points.report) in capsys.readouterr().out  # what the answer prints is kept apart


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", [None, 3, "text", torch.zeros(2)])
def test_what_cannot_be_called_is_refused_in_one_sentence(name, answer):
    report = EXERCISES[name](answer, seed=0).report
    assert report.problem.startswith("Pass the ")


@pytest.mark.parametrize("name", EXERCISES)
def test_an_unfilled_task_says_so_and_nothing_else(name):
    class Unfilled(nn.Module):
        def __init__(self, *_, **__):
            super().__init__()
            raise NotImplementedError

    def unfilled(*_, **__):
        raise NotImplementedError

    with pytest.raises(NotImplementedError, match="isn't filled in yet"):
        EXERCISES[name](Unfilled if EXERCISES[name].takes == "class" else unfilled)


# ---- the frame, on an exercise of its own


def _cases(generator):
    for rows in (2, 3):
        yield Case(f"x ({rows}, 4)", {"x": torch.rand(rows, 4, generator=generator) + 0.5})


def softmax(x):
    return x.softmax(dim=-1)


@pytest.fixture
def exercise():
    made = Exercise("softmax", 4, "03-attention#2 By hand, on three tokens", softmax, _cases, seconds=0.5)

    @made.mistake("Columns sum to 1 here, not rows.", source="a test")
    def over_columns(x):
        return x.softmax(dim=0)

    return made


def problem(exercise, answer):
    report = judged(exercise, answer)
    return report.problem


def test_points_are_a_number_with_a_report(exercise, capsys):
    points = exercise(softmax)
    assert points == 4.0
    assert repr(points) == "4.0"  # what nbgrader reads
    assert points.report.state == "right"
    assert exercise(lambda x: x) == 0


def test_the_learners_own_changes_of_the_input_are_seen(exercise):
    def in_place(x):
        return x.sub_(x.amax(dim=-1, keepdim=True)).softmax(dim=-1)

    assert "changes its input x in place" in problem(exercise, in_place)


def test_dropout_left_on_is_seen(exercise):
    assert "chance" in problem(exercise, lambda x: softmax(x) * (1 + 1e-2 * torch.randn(1)))


def test_rounding_that_differs_from_call_to_call_is_no_chance(exercise):
    """As from LAPACK, whose last bit can depend on where the memory lies."""
    calls = []

    def rounds(x):
        calls.append(1)
        return softmax(x) * (1 + 1e-7 * len(calls))

    assert problem(exercise, rounds) == ""


def test_state_between_calls_is_seen(exercise):
    calls = []

    def counts(x):
        calls.append(1)
        return softmax(x) + 0.1 * (len(calls) > 1)

    assert "from one call to the next" in problem(exercise, counts)

    class Batch(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x):
            y = softmax(x) + self.mean
            self.mean += 1
            return y

    assert "from one call to the next" in problem(exercise, Batch())


def test_a_function_that_never_returns_is_stopped(exercise):
    def loop(_):
        while True:
            pass

    def stubborn(_):
        while True:
            with contextlib.suppress(Exception):
                time.sleep(10)

    for answer in (loop, stubborn, lambda x: time.sleep(60)):
        started = time.monotonic()
        assert "did not return within 0.5 seconds" in problem(exercise, answer)
        assert time.monotonic() - started < 30  # not 60, and not for ever


def test_a_function_that_never_returns_is_stopped_in_another_thread_too():
    from concurrent.futures import ThreadPoolExecutor

    def forever():
        with time_limit(0.2):
            while True:
                pass

    def limited():
        with pytest.raises(TooLong):
            forever()
        with time_limit(5):
            return "on time"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limited).result(timeout=20) == "on time"


def test_a_slow_machine_is_not_the_learners_fault(exercise, monkeypatch):
    def slowly(x):
        time.sleep(0.6)  # more than the learner has
        return softmax(x)

    outcomes = exercise.observe(softmax, 0)
    slow = replace(exercise, reference=slowly)
    assert slow.judge(outcomes, 0).state == "right"
    monkeypatch.setattr("vitcourse.checks.exercise.PATIENCE", 0.2)
    with pytest.raises(TimeoutError, match=r"softmax: a right answer took more than 0\.2 s here"):
        slow.judge(outcomes, 0)


def test_the_random_numbers_of_the_notebook_stay_as_they_were(exercise):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    exercise(softmax)
    assert torch.equal(torch.rand(3), expected)


def test_an_error_shows_the_learners_line(exercise):
    def wrong(x):
        return functional.patchify(x, 2)  # raises inside the package

    report = judged(replace(exercise, may_use=("functional",)), wrong)
    assert report.problem.startswith("It raised ValueError: images must have shape (B, C, H, W)")
    assert "functional.patchify(x, 2)" in report.line


def test_what_came_before_an_error_is_compared_first():
    def run(answer, x):
        yield "shape", str(tuple(answer(x).shape))
        yield "sum", (answer(x) @ torch.ones(4)).sum()

    made = Exercise("f", 1, "03-attention#7 Masks", lambda x: x, _cases, run=run)
    report = judged(made, lambda x: x.T)
    assert report.problem == "shape: expected (2, 4), got (4, 2)."


def test_the_packages_own_function_is_refused():
    report = EXERCISES["embeddings.sinusoidal_encoding"](functional.sinusoidal_encoding).report
    assert report.problem == "This is the package's own; write yours."


BORROWED = {
    "attention.attention_weights": lambda query, key: functional.attention_weights(query, key),
    "attention.split_heads": lambda tokens, h: checks_copy("attention").split_heads.reference(tokens, h),
    "attention.count_multiply_adds": lambda N, D: ViTConfig(hidden_size=D).multiply_adds(),
    "patches.patchify": lambda images, P: max([images], key=lambda x: functional.patchify(x, P).sum()),
    "vit.Block": lambda D, h, M: layers.EncoderBlock(D, h, M),
    "inside.rollout": lambda weights: torch.vmap(functional.rollout)(weights),
    "transfer.resize_positions": lambda E, old, new: functools.partial(functional.resize_positions, E)(old, new),
}


def checks_copy(sheet):
    """The module as a learner's process gets it when the grader has taken its own away."""
    spec = importlib.util.find_spec(f"vitcourse.checks.{sheet}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", BORROWED)
def test_an_answer_that_calls_the_packages_own_earns_nothing(name):
    report = judged(EXERCISES[name], BORROWED[name])
    assert (report.state, report.score, report.belief) == ("wrong", 0, "")
    assert report.problem.startswith("Your answer calls the package's own "), report.problem


def in_a_thread(call, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *arguments).result()


class _InDisguise(nn.Module):
    forward = staticmethod(functional.attention_weights)


def _unwatched(query, key):
    with borrowed.watched(("",)):
        return functional.attention_weights(query, key)


DRESSES = {
    "partial": ("attention.attention_weights", functools.partial(functional.attention_weights)),
    "reference": ("attention.split_heads", functools.partial(checks_copy("attention").split_heads.reference)),
    "subclass": ("vit.MLP", type("MLP", (layers.MLP,), {})),
    "subclass of the answer": ("vit.MLP", type("MLP", (checks_copy("vit").MLP.reference,), {})),
    "thread": ("attention.attention_weights", lambda q, k: in_a_thread(functional.attention_weights, q, k)),
    "module": ("attention.attention_weights", lambda q, k: _InDisguise()(q, k)),
    "unwatched": ("attention.attention_weights", _unwatched),
}


@pytest.mark.parametrize(("name", "answer"), DRESSES.values(), ids=DRESSES)
def test_the_packages_own_in_another_dress_earns_nothing(name, answer, capsys):
    points = EXERCISES[name](answer, seed=0)
    assert points == 0
    assert "package's own" in points.report.problem


CELLS = {
    "patches.patchify": """def patchify(images, P):
    return rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=P, q=P)""",
    "vit.Block": """class Block(nn.Module):
    def __init__(self, D, h, M):
        super().__init__()
        self.attention = layers.MultiHeadAttention(D, h)

    def forward(self, x):
        return self.attention(x)""",
}


@pytest.mark.parametrize("name", CELLS)
def test_where_the_package_is_installed_its_own_calls_are_not_the_learners(name, monkeypatch):
    monkeypatch.setattr(borrowed, "NOBODYS", (*borrowed.NOBODYS, str(ROOT)))
    names = {"rearrange": rearrange, "nn": nn, "layers": layers}
    exec(compile(CELLS[name], "a cell", "exec"), names)
    outcomes = EXERCISES[name].observe(names[EXERCISES[name].name], 0)
    assert outcomes
    assert not any(outcome.borrowed for outcome in outcomes)


def test_the_profiler_of_whoever_calls_a_check_stays(exercise):
    seen = []
    sys.setprofile(lambda *_: seen.append(1))
    before = sys.getprofile()
    exercise.observe(lambda x: x, 0)
    after = sys.getprofile()
    sys.setprofile(None)
    assert after is before


def test_other_numbers_of_values_are_named():
    made = Exercise("two", 1, "03-attention#7 Masks", lambda x: (x, x), _cases)
    assert problem(made, lambda x: x) == "It returned one value; expected 2 values: output[0], output[1]."
    assert problem(made, lambda x: (x, x, x)) == "It gave output[2], which was not asked for."


def test_partial_points():
    made = Exercise("parts", 4, "03-attention#7 Masks", lambda x: {"a": 1, "b": 2}, _cases, partial=True)
    assert made(lambda x: {"a": 1, "b": 3}) == 2
    assert made(lambda x: {"a": 1}) == 2
    assert made(lambda x: {}) == 0


def test_a_belief_that_explains_a_part_is_a_perhaps(exercise):
    def two_slips(x):
        return x.softmax(dim=0) if len(x) == 2 else x

    report = judged(exercise, two_slips)
    assert (report.belief, report.belief_name) == ("Columns sum to 1 here, not rows.", "")
    assert "Perhaps:" in str(report)
    assert "Likely cause" not in str(report)


def test_a_tuple_where_one_value_is_asked_for_is_named(exercise):
    assert problem(exercise, lambda x: (x, x)) == "output is a tuple of 2; expected a tensor of shape (2, 4) alone."


# ---- values


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (torch.ones(2), torch.ones(2), ""),
        (torch.ones(2), torch.ones(2, dtype=torch.float64) + 1e-7, ""),
        (torch.ones(2), torch.ones(2, dtype=torch.float16), ""),
        (torch.ones(2), torch.ones(2, dtype=torch.bfloat16), ""),
        (torch.tensor([1.003]), torch.tensor([1.003]).bfloat16(), "output: 1 of 1 numbers differ"),
        (torch.ones(2), torch.ones(2).long(), "output holds torch.int64; expected torch.float32."),
        (torch.ones(2).bool(), torch.ones(2), "output holds torch.float32; expected torch.bool."),
        (torch.ones(2), torch.ones(1, 2), "output has shape (1, 2); expected (2,)."),
        (torch.ones(2), torch.tensor([1, torch.nan]), "output holds nan."),
        (torch.ones(1), torch.tensor([1.00002 + 1e-4]), "expected 1, got 1.00012"),
        (torch.ones(2), torch.tensor([1, 1.5]), "1 of 2 numbers differ; the first one at [1]: expected 1, got 1.5."),
        (torch.ones(2), None, "output is None. Does your code end in a `return`?"),
        (torch.ones(2), 1.0, "output is 1.0; expected a tensor of shape (2,)."),
        (torch.tensor(2.0), 2.0, ""),
        (torch.tensor([True]), torch.tensor([False]), "1 of 1 numbers differ"),
        (torch.tensor([1 + 3j]), torch.tensor([1 - 9j]), "1 of 2 numbers differ; the first one at [0, 1]"),
        (torch.tensor([1 + 3j]), torch.tensor([1 + 3j]), ""),
        (3, 3, ""),
        (3, torch.tensor(3), ""),
        (3, 3.0, ""),
        (3, 4, "output: expected 3, got 4."),
        (12345, 12346, "output: expected 12,345, got 12,346."),
        (0.5, torch.tensor(0.5), ""),
        (3, torch.ones(2), "output is a tensor of shape (2,); expected a whole number."),
        (True, True, ""),
        (True, torch.tensor(True), ""),
        (True, 1, "expected True, got 1."),
        (3, True, "output is True; expected a whole number."),
        ("a", "b", "expected a, got b."),
        (3, Other("a list of 2"), "output is a list of 2; expected a whole number."),
    ],
)
def test_differences_are_told_in_one_sentence(expected, got, words):
    assert words in difference(expected, got)
    assert bool(words) == bool(difference(expected, got))


def test_chance_in_imaginary_parts_is_chance(exercise):
    assert "there is chance in it" in problem(exercise, lambda x: x + 1j * torch.rand_like(x))


def test_watch_keeps_plain_data_only():
    def answer(_):
        return {"array": np.ones(2), "number": np.float32(1), "huge": torch.empty(1).expand(10**8), "list": [1]}

    values = watch(answer, {"x": 1}, seconds=1).values
    assert isinstance(values["array"], torch.Tensor)
    assert values["number"] == 1.0
    assert values["huge"] == Other("a tensor of shape (100000000,)")
    assert values["list"] == Other("a list of 1")


# ---- the card


def test_the_card_says_what_was_tested_expected_and_got(exercise):
    report = judged(exercise, lambda x: x.softmax(dim=0))
    for text in (str(report), report._repr_html_()):
        assert "Columns sum to 1 here, not rows." in text
        for label in ("Likely cause", "Found", "Tested", "Input", "Expected", "Got", "Read again"):
            assert label in text
        assert "x (2, 4)" in text
        assert "seed 0" in text
        assert "float32 of shape (2, 4)" in text
        assert "section 2 By hand, on three tokens" in text
    assert str(report).startswith("✗ softmax: not yet right · 0 of 4 points")


def test_the_card_escapes_what_the_learner_wrote(exercise):
    def raises(_):
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in judged(exercise, raises)._repr_html_()


def test_the_card_is_data_too(exercise, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    exercise(lambda x: x.softmax(dim=0), seed=5)
    assert shown[0].keys() == {"text/plain", "text/html", MIME}
    assert shown[0][MIME]["belief_name"] == "over columns"
    assert shown[0][MIME]["earned"] == 0


def contrast(one, other):
    def luminance(colour):
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_card_can_be_read():
    from vitcourse.checks.report import COLOURS

    for ink, paper in COLOURS.values():
        assert contrast(ink, paper) >= 4.5
        assert contrast("#1a1a1a", paper) >= 7


@pytest.mark.parametrize("sheet", SHEETS)
def test_right_answers_are_all_used(sheet):
    right = importlib.import_module(f"right_answers.{sheet}").RIGHT
    assert {f"{sheet}.{name}" for name in right} <= EXERCISES.keys()
