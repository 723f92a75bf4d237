"""Answers of several numbers: each right one earns its part of the points."""
import math
from collections.abc import Mapping
from typing import Any

from lwcourse.checks import CheckFailed, fail
from lwcourse.checks.helpers.numbers import compare_numbers, read_number


def compare_parts(mine: Mapping[str, Any], right: Mapping[str, float],
                  mistakes: Mapping[str, Mapping[str, float]] | None = None,
                  hint: str = "", tolerance: float = 1e-9) -> None:
    """`compare_numbers` where each number is a part of the answer: a refusal is worth the share of the right ones.

    A mistake that explains all of `mine` is named first, then one that explains the first wrong number; numbers that
    a mistake does not change may be left out of `mistakes`.
    """
    known = {reason: {**right, **numbers} for reason, numbers in (mistakes or {}).items()}
    wrong = [label for label in right if not _is_right(mine[label], label, right[label], tolerance)]
    share = 1 - len(wrong) / len(right)
    try:
        compare_numbers(mine, right, known, hint, tolerance)
    except CheckFailed as refused:
        if refused.reason not in known and " are exchanged: " not in refused.reason:
            first = wrong[0]
            try:
                compare_numbers({first: mine[first]}, {first: right[first]},
                                {reason: {first: numbers[first]} for reason, numbers in known.items()}, hint, tolerance)
            except CheckFailed as of_the_first:
                fail(of_the_first.reason, hint, share=share)
        fail(refused.reason, hint, share=share)


def _is_right(value: Any, label: str, expected: float, tolerance: float) -> bool:
    try:
        return math.isclose(read_number(value, label), expected, rel_tol=tolerance)
    except CheckFailed:
        return False
