"""Points for nbgrader: a check that nothing in the submission has touched, and that gives a part of the points too.

A sheet's check cell holds, between the marks of hidden tests, which students never see:

    from importlib import import_module, reload

    lw.check = reload(import_module("lwcourse.checks.grading")).fresh_check(points=4)

and then `lw.check("08.4", my_hybrid)`, whose value nbgrader takes for the points.
"""
import importlib
import sys
from collections.abc import Callable
from typing import Any

FRESH = "lwcourse.checks"


def fresh_check(points: float) -> Callable[[str, Any], float]:
    """`check(exercise_id, answer)` from the files of the course, whatever a submission has put in its place.

    It prints the verdict and returns the points: all, a part (bands of a score, right parts of an exercise), or, where
    nothing is earned, raises as `lw.check` does.
    """
    for name in [name for name in sys.modules if name == FRESH or name.startswith(f"{FRESH}.")]:
        del sys.modules[name]
    checks = importlib.import_module(FRESH)

    def check(exercise_id: str, answer: Any) -> float:
        try:
            return points * checks.judge(exercise_id, answer)
        except checks.CheckFailed as refused:
            if not refused.share:
                raise
            print(refused)  # noqa: T201
            return points * refused.share
    return check
