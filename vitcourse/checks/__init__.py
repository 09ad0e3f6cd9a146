"""Instant checks for the exercise sheets: one module a sheet, one `Exercise` a task.

    from vitcourse.checks import attention as check
    check.scaled_dot_product(my_function)   # shows a card, returns the points

A check says what was tested, on which input, what was expected and what came, and, where it recognises one, which
belief leads exactly there. Beliefs are functions (`Exercise.mistake`), so they are tested like any other code.
"""

from vitcourse.checks.exercise import Case, Exercise, Mistake, Points

# The module of each sheet, 1 to 7.
SHEETS = ("embeddings", "attention", "patches", "vit", "debug", "inside", "transfer")

__all__ = ["SHEETS", "Case", "Exercise", "Mistake", "Points"]
