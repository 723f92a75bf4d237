"""`lw.check`: is an answer right, and if it is not, what is wrong and what to try next.

The exercises of chapter NN stand in `chNN.py`, or in the files of `chNN/`, each a function with the decorator
`@exercise` that takes the answer and calls `fail` when it is wrong; `helpers/` has what several of them use.
"""
import importlib
import linecache
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import torch

from lwcourse.by_chapter import chapter_modules
from lwcourse.checks.quiet import stderr_to_stdout

DIFFICULTIES = ("easy", "medium", "hard")
MOVED = {"01.4": "17.1"}  # exercises that went to another chapter: answers under the old id are judged as before


@dataclass(frozen=True)
class Score:
    """What a check returns for an answer that is right in part, or has a score: words, and its share of the points."""
    words: str
    share: float = 1.0


class CheckFailed(AssertionError):
    """An answer was refused: `reason` says why, `hint` what to try, `exercise` which one it was.

    `share` is what its right parts are worth, from 0 to 1, where an exercise has parts.

    In a notebook only these words are shown, not the way through the checking code. The error that the
    learner's own code raised, if any, is the `__cause__`.
    """

    def __init__(self, reason: str, hint: str = "", exercise: str = "", share: float = 0.0):
        super().__init__(reason, hint, exercise, share)
        self.reason, self.hint, self.exercise, self.share = reason, hint, exercise, share

    def __str__(self) -> str:
        verdict = f"{self.exercise} not yet: {self.reason}" if self.exercise else self.reason
        return f"{verdict}\nHint: {self.hint}" if self.hint else verdict

    def _render_traceback_(self) -> list[str]:  # IPython asks for this instead of formatting a traceback
        return [f"{type(self).__name__}: {self}"]


def fail(reason: str, hint: str = "", share: float = 0.0) -> NoReturn:
    """Refuse the answer: `reason` names the mistake, `hint` the next thing to try, `share` what its right parts are
    worth, from 0 to 1. For use in a check."""
    raise CheckFailed(reason, hint, share=share)


@dataclass(frozen=True)
class Exercise:
    """One exercise: `check(answer)` returns None, a sentence or a `Score`, or refuses with `fail`.

    `expects` is a type, a tuple of types, or a predicate whose docstring names what it accepts.
    """
    id: str
    title: str
    minutes: int
    difficulty: str
    expects: Any
    check: Callable[[Any], "str | Score | None"]

    @property
    def chapter(self) -> str:
        return self.id.split(".")[0]


_exercises: dict[str, Exercise] = {}


def exercise(exercise_id: str, *, title: str, minutes: int, difficulty: str, expects: Any = object) -> Callable:
    """Decorator that files a function as the check of an exercise.

    `exercise_id` is the chapter's two digits and a number, "02.1"; `difficulty` one of "easy", "medium", "hard".
    Raises ValueError for anything else, for an id that another function has taken, and for one in MOVED.
    """
    if not re.fullmatch(r"\d\d\.[1-9]\d*", exercise_id):
        raise ValueError(f"an exercise id looks like '02.1' (chapter, number), got {exercise_id!r}")
    if exercise_id in MOVED:
        raise ValueError(f"{exercise_id} is the old id of {MOVED[exercise_id]}; take a new number")
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty of {exercise_id} must be one of {', '.join(DIFFICULTIES)}, got {difficulty!r}")
    if minutes < 1:
        raise ValueError(f"minutes of {exercise_id} must be at least 1, got {minutes}")

    def decorate(function: Callable[[Any], str | Score | None]) -> Callable[[Any], str | Score | None]:
        taken = _exercises.get(exercise_id)
        if taken and (taken.check.__module__, taken.check.__name__) != (function.__module__, function.__name__):
            raise ValueError(f"exercise {exercise_id} is {taken.check.__module__}.{taken.check.__name__} already")
        _exercises[exercise_id] = Exercise(exercise_id, title, minutes, difficulty, expects, function)
        return function
    return decorate


def exercises(chapter: str | None = None) -> list[Exercise]:
    """All exercises in order; only those of one chapter ("02") when given."""
    for module in chapter_modules(sys.modules[__name__]):
        if chapter in (None, module.removeprefix("ch")):
            importlib.import_module(f"{__name__}.{module}")
    chosen = [one for one in _exercises.values() if chapter in (None, one.chapter)]
    return sorted(chosen, key=lambda one: (one.chapter, int(one.id.split(".")[1])))


def find(exercise_id: str) -> Exercise:
    """The exercise of that id, or of that old id. Raises ValueError, naming close or available ids, when there is none.
    """
    if not isinstance(exercise_id, str):
        raise TypeError(f"an exercise id is a string such as '02.1', got {exercise_id!r}")
    exercise_id = MOVED.get(exercise_id, exercise_id)
    for one in exercises(exercise_id.split(".")[0]):
        if one.id == exercise_id:
            return one
    known = [one.id for one in exercises()]
    close = _meant(exercise_id, known)
    advice = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(known)}"
    raise ValueError(f"there is no exercise {exercise_id!r}; {advice}")


def _meant(exercise_id: str, known: list[str]) -> list[str]:
    """The exercise of "2.1", those of "2" or "02.77", or else what is spelt alike."""
    if numbers := re.fullmatch(r"\s*(\d+)(?:\.(\d*))?\s*", exercise_id):
        chapter, number = f"{int(numbers[1]):02}", f"{int(numbers[2] or 0)}"
        if f"{chapter}.{number}" in known:
            return [f"{chapter}.{number}"]
        return [one for one in known if one.startswith(f"{chapter}.")]
    return get_close_matches(exercise_id, known, n=3, cutoff=0.6)


def check(exercise_id: str, answer: Any) -> None:
    """Print that the answer to an exercise is right, or raise CheckFailed with the reason and a hint.

    torch's random state and the learner's models are left as they were, and nothing is written to stderr. What the
    answer builds is built on the CPU in float32, and runs on one thread.
    Raises ValueError for an unknown id.
    """
    judge(exercise_id, answer)


def judge(exercise_id: str, answer: Any) -> float:
    """`check`, and the share of the points that a right answer has earned: 1, or less where a score has bands."""
    from lwcourse.compare.trace import default_dtype  # here, since it loads all of lwcourse.compare

    asked = find(exercise_id)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with (torch.random.fork_rng(devices=range(torch.cuda.device_count())), stderr_to_stdout(), torch.device("cpu"),
              torch.inference_mode(False), torch.enable_grad(), default_dtype(torch.float32)):
            torch.manual_seed(0)
            verdict = _run(asked, answer)
    except CheckFailed as refused:
        refused.exercise = exercise_id
        raise
    finally:
        torch.set_num_threads(threads)
    score = verdict if isinstance(verdict, Score) else Score(verdict or "")
    print(f"{exercise_id} correct: {asked.title}." + (f" {score.words}" if score.words else ""))  # noqa: T201
    return score.share


def _run(asked: Exercise, answer: Any) -> str | Score | None:
    """Run a check, turning what the learner's code raises into CheckFailed with its place in that code."""
    try:
        if _is_stub(answer):
            fail("not answered yet", "replace the placeholder, and run its cell before this one")
        _refuse_wrong_type(answer, asked.expects)
        return asked.check(answer)
    except (CheckFailed, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, too, which would end the notebook or be passed over without a word
        # nbgrader's stub is a bare `raise NotImplementedError()`; torch's own has a message.
        if isinstance(error, NotImplementedError) and not error.args:
            raise CheckFailed("not answered yet", "replace every `raise NotImplementedError()`") from error
        what = f"{type(error).__name__}: {error}".strip().removesuffix(":")
        place = _place_in_learners_code(error)
        if isinstance(error, SystemExit):
            raise CheckFailed(f"your code ends the program instead of giving a result: {what}"
                              + (f"\n  {place}" if place else ""), "take out exit() or sys.exit()") from error
        if place:
            raise CheckFailed(f"your code raised {what}\n  {place}") from error
        if built_by := _borrowed_constructor(answer):
            raise CheckFailed(f"{answer.__name__} is built by {built_by}, which does not take what this exercise gives "
                              "to it", "hand in a class of your own, with its own __init__") from error
        raise CheckFailed(f"the check could not use your answer: {what}") from error


def _is_stub(answer: Any) -> bool:
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list | tuple) else ()
    return answer is None or answer is ... or any(part is ... for part in parts)


def _refuse_wrong_type(answer: Any, expects: Any) -> None:
    is_type = isinstance(expects, type | tuple)
    if isinstance(answer, expects) if is_type else expects(answer):
        return
    if is_type:
        types = expects if isinstance(expects, tuple) else (expects,)
        wanted = "a value of type " + " or ".join(one.__name__ for one in types)
    else:
        wanted = expects.__doc__
    got = f"the class {answer.__name__}" if isinstance(answer, type) else f"a value of type {type(answer).__name__}"
    fail(f"this exercise expects {wanted}, got {got}")


def _borrowed_constructor(answer: Any) -> str:
    """PyTorch's constructor that builds a class, in words, or "": nn.Linear takes a stride for its `device`."""
    if not isinstance(answer, type) or not getattr(answer.__init__, "__module__", "").startswith("torch."):
        return ""
    name = answer.__init__.__qualname__.removesuffix(".__init__")
    return f"PyTorch's {name}({', '.join(list(signature(answer.__init__).parameters)[1:])})"


def _place_in_learners_code(error: BaseException) -> str:
    """The innermost line that is neither the course's, a library's nor Python's own, or ""."""
    not_learners = (f"{Path(__file__).parents[1]}{os.sep}", sysconfig.get_path("stdlib"), "<frozen", "<eval")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        installed = "site-packages" in frame.filename or "dist-packages" in frame.filename
        if not installed and not frame.filename.startswith(not_learners):
            line = linecache.getline(frame.filename, frame.lineno).strip()
            return f"at line {frame.lineno} in {frame.name}: {line}"
    return ""
