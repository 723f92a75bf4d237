"""Every solution passes, and right answers in other styles; untouched exercises and wrong answers are refused by name.

Right answers stand in right_answers/chNN.py: RIGHT = {"02.1": {"as torchvision writes it": build, ...}}, wrong ones in
wrong_answers/chNN.py: WRONG = {"02.1": {"forgotten shortcut": (build, words), ...}}. `build()` gives the answer; the
refusal must contain `words` (a string, or several), whatever their case. SLOW, where a file has it, is a set of
(exercise, name) that are trained, and run with `make trained`.
"""
import importlib.util
from pathlib import Path

import pytest

import lwcourse as lw
from lwcourse.authoring import execute
from lwcourse.authoring.files import read_notebook
from lwcourse.checks import CheckFailed, exercises

ROOT = Path(__file__).parents[2]
EXERCISES = 3  # at least, a chapter
LEAST = {"right": 6, "wrong": 8}  # answers an exercise
TAUGHT = (*(f"{chapter:02}" for chapter in range(1, 9)), "14", "17")  # chapters that must have exercises


def answers(kind):
    """({exercise id: {name: answer}}, those that are slow) of all chapters; `kind` is "right" or "wrong"."""
    found, slow = {}, set()
    for path in sorted(Path(__file__).with_name(f"{kind}_answers").glob("ch[0-9][0-9].py")):
        spec = importlib.util.spec_from_file_location(f"{kind}_answers_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        own = getattr(module, kind.upper())
        assert all(exercise.startswith(path.stem[2:]) for exercise in own), f"{path} has another chapter's id"
        found |= own
        slow |= getattr(module, "SLOW", set())
    assert all(name in found[exercise] for exercise, name in slow), "SLOW names answers that do not exist"
    return found, slow


def cases(kind):
    return [pytest.param(exercise, *(case if isinstance(case, tuple) else (case,)), id=f"{exercise}-{name}",
                         marks=[pytest.mark.trained] if (exercise, name) in ANSWERS[kind][1] else [])
            for exercise, named in ANSWERS[kind][0].items() for name, case in named.items()]


ANSWERS = {kind: answers(kind) for kind in LEAST}


def notebooks(folder):
    return [pytest.param(path, id=path.stem) for path in sorted((ROOT / folder).glob("*.ipynb"))]


@pytest.mark.notebook
@pytest.mark.parametrize("path", notebooks("solutions"))
def test_solution_passes(path):
    notebook = read_notebook(path)
    execute(notebook, path.parent)
    verdicts = ["".join(output.text for output in cell.outputs if output.get("name") == "stdout")  # bars are on stderr
                for cell in notebook.cells if "lw.check(" in cell.source]
    assert len(verdicts) >= EXERCISES
    assert [verdict for verdict in verdicts if " correct: " not in verdict] == []


@pytest.mark.notebook
@pytest.mark.parametrize("path", notebooks("exercises"))
def test_untouched_exercise_is_refused(path):
    notebook = read_notebook(path)
    execute(notebook, path.parent, allow_errors=True)
    names = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                names.setdefault("lw.check(" in cell.source, []).append(output.ename)
    checks = [cell for cell in notebook.cells if cell.cell_type == "code" and "lw.check(" in cell.source]
    assert len(checks) >= EXERCISES
    assert names[True] == ["CheckFailed"] * len(checks)
    assert set(names.get(False, [])) <= {"NotImplementedError"}, "only stubs may raise; give the answer's name a value"


@pytest.mark.parametrize("exercise, build", cases("right"))
def test_right_answer_of_another_style_is_accepted(exercise, build):
    lw.check(exercise, build())


@pytest.mark.parametrize("exercise, build, words", cases("wrong"))
def test_wrong_answer_is_refused_by_name(exercise, build, words):
    with pytest.raises(CheckFailed) as refused:
        lw.check(exercise, build())
    for one in [words] if isinstance(words, str) else words:
        assert one and one.lower() in str(refused.value).lower()


@pytest.mark.parametrize("kind", LEAST)
def test_every_exercise_has_answers(kind):
    found = ANSWERS[kind][0]
    few = {one.id: len(found.get(one.id, {})) for one in exercises() if len(found.get(one.id, {})) < LEAST[kind]}
    assert few == {}, f"at least {LEAST[kind]} {kind} answers each, in tests/checks/{kind}_answers"
    assert set(found) <= {one.id for one in exercises()}, f"{kind} answers to exercises that do not exist"


@pytest.mark.parametrize("chapter", TAUGHT)
def test_chapter_has_exercises(chapter):
    assert len(exercises(chapter)) >= EXERCISES
    assert list((ROOT / "solutions").glob(f"{chapter}_*.ipynb"))
