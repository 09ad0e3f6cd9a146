"""A task whose answer is a trained model: what must hold of any, then points for each accuracy reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vitcourse.checks.exercise import Exercise, what_it_is
from vitcourse.checks.watch import Outcome

STEP = "at least"  # how the name of a fact begins that earns points


@dataclass
class TrainedModel(Exercise):
    """As an `Exercise`, but a model is handed in, and points follow the accuracy.

    Args:
        run: made by `one_by_one`.
        packages_own: an object of the package's class may be handed in: its weights are the learner's.
    """

    repeat: bool = False
    partial: bool = True
    may_use: tuple[str, ...] = ("",)
    packages_own: bool = False

    def refused(self, answer: Any) -> str:
        """As of any exercise, in the words for a model."""
        if not callable(answer):
            return f"Pass the trained model, which takes images and returns logits; got {what_it_is(answer)}."
        return "" if self.packages_own else super().refused(answer)

    def _share(self, expected: Sequence[Outcome], outcomes: Sequence[Outcome]) -> float:
        steps = [name for name in expected[0].values if name.startswith(STEP)]
        return sum(outcomes[0].values.get(name) == "yes" for name in steps) / len(steps)


def one_by_one(facts: Callable[..., Iterator[tuple[str, bool, str, str]]]) -> Callable[..., Iterator[tuple[str, str]]]:
    """How a model is tried: fact by fact, up to the first that doesn't hold; accuracies are all looked at.

    Args:
        facts: yields what is looked at, whether it is so, and words for both, from the outside in.
    """

    def run(answer: Any, *arguments: Any) -> Iterator[tuple[str, str]]:
        for name, so, right, wrong in facts(answer, *arguments):
            yield name, right if so else wrong
            if not so and not name.startswith(STEP):
                return

    return run
