import copy

import pytest
from nbformat.v4 import new_output
from sample_notebooks import ADDRESS, checkout, code, markdown, notebook, sheet

from lwcourse.authoring import badge, chapter_problems, drawings, make_exercises, setup_cell, solution_problems
from lwcourse.authoring.exercises import without_answers
from lwcourse.authoring.files import notebook_text
from lwcourse.authoring.layout import lessons, words
from lwcourse.checks import exercises
from lwcourse.checks import find as find_exercise

CHAPTERS = ("00_start_here", "01_what_makes_a_network_light", "02_mobilenets")  # at least these


def names(root, folder):
    return [path.stem for path in sorted((root / folder).glob("*.ipynb"))]


def pytest_generate_tests(metafunc):
    root = metafunc.config.rootpath
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", sorted({*CHAPTERS, *names(root, "notebooks")}))
    if "exercise_sheet" in metafunc.fixturenames:
        metafunc.parametrize("exercise_sheet", sorted({*CHAPTERS[1:], *names(root, "solutions")}))


# The course

def test_chapter_follows_the_rules(root, chapter):
    assert chapter_problems(root / "notebooks" / f"{chapter}.ipynb", root) == []


def test_sheet_follows_the_rules(root, exercise_sheet):
    assert (root / "notebooks" / f"{exercise_sheet}.ipynb").is_file(), "a sheet has the name of its chapter"
    assert solution_problems(root / "solutions" / f"{exercise_sheet}.ipynb", root) == []


def test_exercises_are_up_to_date(root):
    assert names(root, "exercises") == names(root, "solutions")
    outdated = [path.name for path in make_exercises(root, check=True)]
    assert outdated == [], "run `make exercises`; your own answers are safe in a copy with another name, elsewhere"


def test_every_model_names_its_chapter(root):
    planned = {chapter.number for chapter in drawings.CHAPTERS} - set(drawings.WRITTEN)
    missing = {module: lesson for module, lesson in lessons(root).items()
               if not (root / lesson).is_file() and lesson.removeprefix("notebooks/")[:2] not in planned}
    assert missing == {}, "a model's header must have `Lesson:  notebooks/NN_slug.ipynb`, of a chapter of the map"


# The rules: a chapter that keeps them all, and one breach each

WORD = "word "
FOLDED = "<details><summary>Answer</summary>\nyes\n</details>\n"


def picture():
    return new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})


def good_chapter():
    cells = [
        markdown("# Networks\n" + badge(ADDRESS, "notebooks/02_networks.ipynb")),
        code(setup_cell(ADDRESS), "setup"),
        code("import lwcourse as lw\nfrom lwcourse.models.net import Net\n\n%matplotlib inline"),
        markdown("## Recall\n" + 3 * FOLDED),
        markdown("![a drawing](../figures/a.png) and [the first chapter](01_first.ipynb#top), [paper](https://a.org)"),
        *(markdown(120 * WORD) for _ in range(18)),
        code("print(1)", "nbval-check-output"),
        *(code("plot()") for _ in range(4)),
        code("1 / 0", "raises-exception", "nbval-check-output"),
        markdown("## 9 Quiz\n" + 5 * FOLDED + "\n# Next\n"),
    ]
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
        if cell.source == "plot()":
            cell.outputs = [picture()]
    by_source = {cell.source: cell for cell in cells}
    by_source["print(1)"].outputs = [new_output("stream", name="stdout", text="1\n")]
    by_source["1 / 0"].outputs = [new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])]
    return notebook(*cells)


def find(nb, start):
    return next(cell for cell in nb.cells if cell.source.startswith(start))


@pytest.fixture(autouse=True)
def first_edition(request, monkeypatch):
    """The small notebooks of these tests need not keep the rules of the second, but where a test asks for them."""
    if "course" in request.fixturenames and "second_edition" not in request.fixturenames:
        monkeypatch.setattr("lwcourse.authoring.layout.FIRST_EDITION", {"00", "02"})


@pytest.fixture
def course(tmp_path):
    root = checkout(tmp_path / "course")
    (root / "lwcourse" / "models").mkdir(parents=True)
    (root / "lwcourse" / "models" / "__init__.py").touch()
    for name, chapter in (("net", "02_networks"), ("other", "01_first")):
        header = f'"""A net.\n\nLesson:  notebooks/{chapter}.ipynb\n"""'
        (root / "lwcourse" / "models" / f"{name}.py").write_text(header)
    (root / "figures").mkdir()
    (root / "figures" / "a.png").touch()
    (root / "notebooks" / "01_first.ipynb").touch()
    return root


def problems(course, nb, name="02_networks"):
    path = course / "notebooks" / f"{name}.ipynb"
    path.write_text(notebook_text(nb), encoding="utf-8")
    return chapter_problems(path, course)


def test_good_chapter_has_no_problem(course):
    assert problems(course, good_chapter()) == []


def set_source(start, new):
    def breach(nb):
        find(nb, start).source = new
    return breach


def replace_source(old, new):
    def breach(nb):
        cell = next(cell for cell in nb.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    return breach


def set_tags(start, *tags):
    def breach(nb):
        find(nb, start).metadata["tags"] = list(tags)
    return breach


def add_output(start, output):
    def breach(nb):
        find(nb, start).outputs.append(output)
    return breach


def add_cells(*cells):
    def breach(nb):
        nb.cells.extend(copy.deepcopy(cells))
    return breach


def forget_run(nb):
    find(nb, "plot").execution_count = None


def other_kernel(nb):
    nb.metadata["kernelspec"]["name"] = "my-env"


def widget_state(nb):
    nb.metadata["widgets"] = {}


def drop(count):
    def breach(nb):
        del nb.cells[5:5 + count]
    return breach


def no_checked_output(nb):
    set_tags("print(1)")(nb)
    add = find(nb, "1 / 0")
    add.metadata["tags"] = []
    add.outputs = []


WIDGET = new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "W"})
BREACHES = {
    "too many cells": (add_cells(*(markdown("") for _ in range(40))), "cells, 60 at most"),
    "too large": (add_output("plot", new_output("display_data", {"image/png": 1_000_000 * "A"})), "1,000,000 at most"),
    "too few words": (drop(3), "words, not 2000 to 2800"),
    "too many words": (add_cells(*(markdown(120 * WORD) for _ in range(6))), "words, not 2000 to 2800"),
    "long cell": (set_source("word", 131 * WORD), "131 words, 130 at most"),
    "long code": (set_source("plot", 26 * "x = 1\n"), "26 lines, 25 at most"),
    "cell not run": (forget_run, "execution count None"),
    "error": (add_output("print(1)", new_output("error", ename="E", evalue="", traceback=[])), "stores an error"),
    "meant error lost": (set_tags("print(1)", "raises-exception", "nbval-check-output"), "it must store its error"),
    "meant error not compared": (set_tags("1 / 0", "raises-exception"), "be tagged nbval-check-output"),
    "warning": (add_output("plot", new_output("stream", name="stderr", text="Warning")), "on stderr"),
    "nothing compared": (no_checked_output, "nbval compares nothing"),
    "kernel of one machine": (other_kernel, "kernelspec is not python3"),
    "widget state": (widget_state, "state of widgets"),
    "widget view": (add_output("plot", WIDGET), "the view of a widget"),
    "no alt text": (replace_source("![a drawing]", "![ ]"), "../figures/a.png has no alt text"),
    "no alt text in HTML": (replace_source("![a drawing](../figures/a.png)", '<img src="../figures/a.png">'), "no alt"),
    "missing image": (replace_source("a.png", "b.png"), "no image ../figures/b.png"),
    "missing chapter": (replace_source("01_first", "01_last"), "link 01_last.ipynb#top leads nowhere"),
    "other badge": (replace_source("02_networks.ipynb", "01_first.ipynb"), "no badge"),
    "other address": (replace_source("github/OWNER", "github/SOMEBODY"), "no badge"),
    "edited set-up": (replace_source("--no-deps ", ""), "first code cell"),
    "no import cell": (replace_source("import lwcourse as lw", "import lwcourse"), "import lwcourse as lw"),
    "model not imported": (replace_source("from lwcourse.models.net import Net", ""), "must import from lwcourse.mod"),
    "model of another chapter": (replace_source("models.net", "models.other"), "imports from lwcourse.models.other"),
    "no quiz": (replace_source("Quiz", "Questions"), "no heading has the word Quiz"),
    "too few answers": (replace_source(3 * FOLDED, FOLDED), "Recall has 1"),
    "open details": (replace_source("</details>", ""), "do not pair"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_breach_is_found(course, name):
    breach, expected = BREACHES[name]
    nb = good_chapter()
    breach(nb)
    found = problems(course, nb)
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize("new", ['"id": "cell-4"', '"ID": "cell-3"'])
@pytest.mark.filterwarnings("ignore")
def test_repeated_or_missing_id_is_found(course, new):
    assert problems(course, good_chapter()) == []
    path = course / "notebooks" / "02_networks.ipynb"
    path.write_text(path.read_text().replace('"id": "cell-3"', new))
    assert "its cells need ids that differ (notebook format 4.5)" in chapter_problems(path, course)


def test_number_of_figures(course):
    nb = good_chapter()
    find(nb, "plot").outputs = []
    assert problems(course, nb) == ["it has 4 figures, not 5 to 9"]


def test_chapter_00_may_be_shorter_and_has_nothing_to_recall(course):
    nb = good_chapter()
    nb.cells[0].source = nb.cells[0].source.replace("02_networks", "00_start")
    nb.cells = [cell for cell in nb.cells if "Recall" not in cell.source]
    drop(9)(nb)
    replace_source("from lwcourse.models.net import Net", "")(nb)
    assert problems(course, nb, "00_start") == []
    drop(5)(nb)
    assert ["not 1000 to 2800" in problem for problem in problems(course, nb, "00_start")] == [True]


# The rules of the second edition

CARD = "| Reading | Exercises | Run time | Before this |\n|---|---|---|---|\n| 20 min | {} min | a minute | nothing |"
OBJECTIVES = "**After this chapter you can**\n\n1. count (exercise 02.1);\n2. see (02.2)."


@pytest.fixture
def second_edition(monkeypatch):
    monkeypatch.setattr("lwcourse.authoring.layout.FIRST_EDITION", set())


def second_chapter():
    """2,200 words and a dozen lines of code: 15 minutes to read, and a little."""
    nb = good_chapter()
    minutes = sum(one.minutes for one in exercises("02"))
    nb.cells[0].source += f"\n\n{CARD.format(minutes)}\n\n{OBJECTIVES}"
    return nb


def test_good_chapter_of_the_second_edition(course, second_edition):
    assert problems(course, second_chapter()) == []


def more_code(nb):
    for cell in nb.cells:
        if cell.source == "plot()":
            cell.source = 25 * "a = 1\n"


@pytest.mark.parametrize("breach, expected", [
    (replace_source("| 20 min", "| 15 min"), "| 20 min |"),
    (replace_source("| 20 min |", "|"), "| 20 min |"),
    (more_code, "| 25 min |"),
    (replace_source("After this", "After that"), "it has no objectives"),
    (replace_source("(exercise 02.1)", ""), "the objective '1. count ;' must name"),
    (replace_source("(02.2)", "(02.99)"), "the objective '2. see (02.99).' must name"),
])
def test_breach_of_the_second_edition_is_found(course, second_edition, breach, expected):
    nb = second_chapter()
    breach(nb)
    found = problems(course, nb)
    assert any(expected in problem for problem in found), found


SIDES = """\
import torchvision
from torch import nn

official = torchvision.models.mobilenet_v2()
ours = lw.create_model('mobilenet_v2')

class Mine(nn.Module):
    pass

def build():
    return Mine()
"""


@pytest.mark.parametrize("call, right", [
    ("lw.compare(Mine(), ours, x)", True),
    ("mine = Mine()\nlw.compare(mine, ours, x)", True),
    ("for name in names:\n    print(lw.compare(build(), official, x).equal)", True),
    ("for mine in (Mine(), build()):\n    lw.compare(mine, ours, x)", True),
    ("lw.compare(lw.create_model('a'), official, x)", True),
    ("lw.compare(lw.create_model('a'), ours, x)", False),
    ("lw.compare(Mine(), build(), x)", False),
    ("lw.compare(nn.Sequential(ours), ours, x)", False),
])
def test_a_comparison_needs_two_sides(course, second_edition, call, right):
    nb = second_chapter()
    find(nb, "plot").source = SIDES + call
    found = [problem for problem in problems(course, nb) if "compares" in problem]
    assert len(found) == (not right), found


@pytest.mark.parametrize("text, count", [
    ("two words", 2), ("it's one-word", 2), ("$a + b$ is a sum", 3), ("$$\nx = y\n$$ so", 1),
    ("| a | table |\n|---|---|\n\nafter", 1), ("![alt text](a.png) [a link](https://a.org)", 2),
    ("<details><summary>Answer</summary>yes</details>", 2), ("```\ncode here\n```", 0)])
def test_words(text, count):
    assert words(text) == count


# The rules for sheets

@pytest.fixture
def lenient(monkeypatch):
    """One exercise is enough, and 00.1 is the only one there is."""
    monkeypatch.setattr("lwcourse.authoring.sheets.LEAST", 1)
    monkeypatch.setattr("lwcourse.authoring.sheets.LEAST_OF_FIRST_EDITION", 1)
    monkeypatch.setattr("lwcourse.authoring.sheets.exercises", lambda chapter: [find_exercise("00.1")])


def sheet_problems(course, nb):
    path = course / "solutions" / "00_sheet.ipynb"
    path.write_text(notebook_text(nb), encoding="utf-8")
    return solution_problems(path, course)


def test_good_sheet_has_no_problem(course, lenient):
    assert sheet_problems(course, sheet()) == []


def test_five_exercises_are_needed(course, lenient, second_edition, monkeypatch):
    monkeypatch.setattr("lwcourse.authoring.sheets.LEAST", 5)
    assert sheet_problems(course, second_sheet()) == ["it has 1 exercises (`## Exercise 00.1: Title`), not 5 to 8"]


def second_sheet():
    """The sheet with an open question, graded by hand, and a bonus."""
    nb = sheet()
    answer = markdown("### BEGIN SOLUTION\nBecause.\n### END SOLUTION")
    answer.metadata["nbgrader"] = {"schema_version": 3, "grade_id": "open", "grade": True, "solution": True,
                                   "locked": False, "task": False, "points": 2}
    more = [markdown("## Open question: Why?\nSay why."), answer, markdown("## Bonus: More\nTry.")]
    return notebook(*nb.cells, *more)


def test_good_sheet_of_the_second_edition(course, lenient, second_edition):
    assert sheet_problems(course, second_sheet()) == []


def test_learners_do_not_get_the_model_answer():
    text = notebook_text(without_answers(second_sheet()))
    assert "Because." not in text and "YOUR ANSWER HERE" in text


def no_points(nb):
    nb.cells[-2].metadata["nbgrader"]["points"] = 0


def longer_answer(nb):
    cell = find(nb, "def conv_macs")
    cell.source = cell.source.replace("    ### END", 20 * "    a = 1\n" + "    ### END")


@pytest.mark.parametrize("breach, expected", [
    (replace_source("## Open question", "## Question"), "it has no `## Open question: title`"),
    (replace_source("## Bonus", "## More"), "it has no `## Bonus: title`"),
    (no_points, "no answer cell for the open question"),
    (replace_source("Count.", 1000 * "Count. "), "exercise 00.1 says 5 minutes; its words and lines take 10"),
    (longer_answer, "exercise 00.1 says 5 minutes; its words and lines take 10"),
    (replace_source("some words", 2000 * "many words "), ""),  # a hint takes no time
])
def test_breach_of_the_ladder_is_found(course, lenient, second_edition, breach, expected):
    nb = second_sheet()
    breach(nb)
    found = sheet_problems(course, nb)
    assert any(expected in problem for problem in found) if expected else not any("minutes" in one for one in found)


def unlock(nb):
    nb.cells[-1].metadata["nbgrader"]["locked"] = False


def no_grade_id(nb):
    del nb.cells[-1].metadata["nbgrader"]["grade_id"]


def same_grade_id(nb):
    nb.cells[-1].metadata["nbgrader"]["grade_id"] = nb.cells[-2].metadata["nbgrader"]["grade_id"]


def no_solution(nb):
    nb.cells[-2].metadata["nbgrader"]["solution"] = False


def code_after_check(nb):
    nb.cells.append(code("print(1)"))


@pytest.mark.parametrize("breach, expected", [
    (replace_source("MACs of a conv", "Macs of a conv"), "is called 'Macs of a convolution' here"),
    (replace_source("easy, 5 minutes", "hard, 5 minutes"), "must say `easy, 5 minutes`"),
    (replace_source("Exercise 00.1", "Exercise 00.2"), "lwcourse.checks has ['00.1']"),
    (replace_source("Hint 2", "Hint 3"), "must have 3 folded hints"),
    (replace_source("some words\n</details>", "some words"), "must have 3 folded hints"),
    (replace_source("### BEGIN SOLUTION", "# BEGIN"), "no nbgrader solution cell"),
    (no_solution, "no nbgrader solution cell"),
    (code_after_check, 'does not end with lw.check("00.1", ...)'),
    (replace_source('lw.check("00.1"', 'lw.check("00.3"'), 'does not end with lw.check("00.1", ...)'),
    (unlock, "must be an nbgrader test"),
    (replace_source("fresh_check(points=2)", "fresh_check(points=20)"), "must begin with the hidden test"),
    (no_grade_id, "nbgrader refuses its metadata"),
    (same_grade_id, "ex00-1-answer is used 2 times"),
    (replace_source("exercises/00_sheet", "solutions/00_sheet"), "no badge that opens exercises/00_sheet.ipynb"),
])
def test_breach_of_a_sheet_is_found(course, lenient, breach, expected):
    nb = sheet()
    breach(nb)
    found = sheet_problems(course, nb)
    assert any(expected in problem for problem in found), found
