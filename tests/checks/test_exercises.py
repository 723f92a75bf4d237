"""Every solution passes, every untouched exercise is refused, and so is every typical wrong answer, by its name.

Wrong answers stand in wrong_answers/chNN.py: WRONG = {"02.1": {"forgotten shortcut": (build, words), ...}}, where
`build()` gives the answer and the refusal must contain `words` (a string, or several), whatever their case.
"""
import importlib.util
from pathlib import Path

import pytest

import lwcourse as lw
from lwcourse.authoring import execute
from lwcourse.authoring.files import read_notebook
from lwcourse.checks import CheckFailed, exercises

ROOT = Path(__file__).parents[2]
LEAST = 3  # wrong answers an exercise, exercises a chapter
TAUGHT = tuple(f"{chapter:02}" for chapter in range(1, 9))  # chapters that must have exercises


def wrong_answers():
    """{exercise id: {name: (build, words)}} of all chapters."""
    found = {}
    for path in sorted(Path(__file__).with_name("wrong_answers").glob("ch[0-9][0-9].py")):
        spec = importlib.util.spec_from_file_location(f"wrong_answers_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert all(exercise.startswith(path.stem[2:]) for exercise in module.WRONG), f"{path} has another chapter's id"
        found |= module.WRONG
    return found


WRONG = wrong_answers()
CASES = [pytest.param(exercise, *case, id=f"{exercise}-{name}")
         for exercise, answers in WRONG.items() for name, case in answers.items()]


def notebooks(folder):
    return [pytest.param(path, id=path.stem) for path in sorted((ROOT / folder).glob("*.ipynb"))]


@pytest.mark.notebook
@pytest.mark.parametrize("path", notebooks("solutions"))
def test_solution_passes(path):
    notebook = read_notebook(path)
    execute(notebook, path.parent)
    verdicts = ["".join(output.text for output in cell.outputs if output.get("name") == "stdout")  # bars are on stderr
                for cell in notebook.cells if "lw.check(" in cell.source]
    assert len(verdicts) >= LEAST
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
    assert len(checks) >= LEAST
    assert names[True] == ["CheckFailed"] * len(checks)
    assert set(names.get(False, [])) <= {"NotImplementedError"}, "only stubs may raise; give the answer's name a value"


@pytest.mark.parametrize("exercise, build, words", CASES)
def test_wrong_answer_is_refused_by_name(exercise, build, words):
    with pytest.raises(CheckFailed) as refused:
        lw.check(exercise, build())
    for one in [words] if isinstance(words, str) else words:
        assert one and one.lower() in str(refused.value).lower()


def test_every_exercise_has_wrong_answers():
    few = {one.id: len(WRONG.get(one.id, {})) for one in exercises() if len(WRONG.get(one.id, {})) < LEAST}
    assert few == {}, f"at least {LEAST} wrong answers each, in tests/wrong_answers"
    assert set(WRONG) <= {one.id for one in exercises()}, "wrong answers to exercises that do not exist"


@pytest.mark.parametrize("chapter", TAUGHT)
def test_chapter_has_exercises(chapter):
    assert len(exercises(chapter)) >= LEAST
    assert list((ROOT / "solutions").glob(f"{chapter}_*.ipynb"))
