"""What a machine can check of a sheet of exercises (solutions/NN_slug.ipynb); CONTRIBUTING.md states the rules."""
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.layout import (
    Page,
    badge_and_setup,
    images,
    links,
    no_widget_state,
    short_cells,
    to_five,
    unique_ids,
    words,
)
from lwcourse.checks import exercises

LEAST, MOST = 5, 8
LEAST_OF_FIRST_EDITION = 3
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 4  # of a task that is read, and of an answer that is written
TRIALS = 20  # minutes that measuring, or trying designs, may take beside
HINTS = 3
HIDDEN = """### BEGIN HIDDEN TESTS
from importlib import import_module, reload

lw.check = reload(import_module("lwcourse.checks.grading")).fresh_check(points={points})
### END HIDDEN TESTS
"""
HEADING = re.compile(r"^## Exercise (\d\d\.\d+): (.+?)\s*$", re.MULTILINE)


@dataclass
class Section:
    """The cells of a sheet from one `## Exercise NN.N: title` to the next second-level heading."""
    id: str
    title: str
    cells: list[NotebookNode] = field(default_factory=list)

    @property
    def prose(self) -> str:
        return "\n".join(cell.source for cell in self.cells if cell.cell_type == "markdown")

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.cells if cell.cell_type == "code"]


def sections(notebook: NotebookNode) -> list[Section]:
    """The exercises of a sheet, in order; a heading opens its cell."""
    found: list[Section] = []
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            heading = HEADING.match(cell.source)
            inside = heading is not None
            if heading:
                found.append(Section(heading[1], heading[2]))
        if inside:
            found[-1].cells.append(cell)
    return found


def solution_problems(path: Path | str, root: Path | str) -> list[str]:
    """Everything that is wrong with the layout of a sheet of exercises."""
    page = Page(Path(path), Path(root))
    return [problem for rule in SOLUTION_RULES for problem in rule(page)]


def agrees_with_checks(page: Page) -> Iterator[str]:
    """Sheet and `@exercise` must tell the same exercises, titles, difficulty and minutes."""
    registered = {one.id: one for one in exercises(page.number)}
    found = sections(page.notebook)
    least = LEAST_OF_FIRST_EDITION if page.first_edition else LEAST
    if not least <= len(found) <= MOST:
        yield f"it has {len(found)} exercises (`## Exercise {page.number}.1: Title`), not {least} to {MOST}"
    if sorted(one.id for one in found) != sorted(registered):
        yield f"it has the exercises {[one.id for one in found]}, lwcourse.checks has {list(registered)}"
    for one in found:
        known = registered.get(one.id)
        if known and one.title != known.title:
            yield f"exercise {one.id} is called {one.title!r} here, {known.title!r} in lwcourse.checks"
        if known and f"{known.difficulty}, {known.minutes} minutes" not in one.prose.lower():
            yield f"exercise {one.id} must say `{known.difficulty}, {known.minutes} minutes`, as lwcourse.checks does"


def writing_minutes(section: Section) -> int:
    """How long an exercise takes at least: its task read without the hints, and the lines between the marks written."""
    prose = sum(words(cell.source) for cell in section.cells
                if cell.cell_type == "markdown" and "<summary>Hint" not in cell.source)
    answers = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", "\n".join(cell.source for cell in section.code),
                         re.DOTALL)
    lines = sum(bool(line.strip()) for answer in answers for line in answer.splitlines())
    return to_five(prose / WORDS_A_MINUTE + lines / LINES_A_MINUTE)


def counted_minutes(page: Page) -> Iterator[str]:
    if page.first_edition:
        return
    registered = {one.id: one for one in exercises(page.number)}
    for one in sections(page.notebook):
        least = writing_minutes(one)
        stated = registered[one.id].minutes if one.id in registered else least
        if stated % 5 or not least <= stated <= least + TRIALS:
            yield (f"exercise {one.id} says {stated} minutes; its words and lines take {least}, and trials up to "
                   f"{TRIALS} more, in steps of 5")


def open_question(page: Page) -> Iterator[str]:
    """One question that a person grades, with a model answer that learners do not get; and a bonus."""
    if page.first_edition:
        return
    marks = [cell.metadata.get("nbgrader", {}) for cell in page.markdown if "### BEGIN SOLUTION" in cell.source]
    if "\n## Open question" not in "\n" + "\n".join(cell.source for cell in page.markdown):
        yield "it has no `## Open question: title`"
    if not any(mark.get("solution") and mark.get("grade") and mark.get("points", 0) > 0 for mark in marks):
        yield ("it has no answer cell for the open question: Markdown with ### BEGIN SOLUTION and ### END SOLUTION, "
               "graded by hand (nbgrader: solution and grade, points above 0, not locked)")
    if not any(cell.source.startswith("## Bonus") for cell in page.markdown):
        yield "it has no `## Bonus: title`, for those who want more"


def hints(page: Page) -> Iterator[str]:
    for one in sections(page.notebook):
        folded = re.findall(r"<details>\s*<summary>Hint (\d)\b.*?</summary>.*?\S.*?</details>", one.prose, re.DOTALL)
        if folded != [str(n) for n in range(1, HINTS + 1)]:
            yield (f"exercise {one.id} must have {HINTS} folded hints, `<details><summary>Hint 1: ...</summary>` "
                   f"and so on; it has {folded}")


def answered_then_checked(page: Page) -> Iterator[str]:
    """A cell with the solution, and last the locked cell that nbgrader grades, which is all of `lw.check`."""
    for one in sections(page.notebook):
        marks = [cell.metadata.get("nbgrader", {}) for cell in one.code]
        if not any(mark.get("solution") and "### BEGIN SOLUTION" in cell.source
                   for mark, cell in zip(marks, one.code, strict=True)):
            yield f"exercise {one.id} has no nbgrader solution cell with ### BEGIN SOLUTION"
        if not one.code or not re.search(rf"^lw\.check\(\"{one.id}\", ", one.code[-1].source, re.MULTILINE):
            yield f'exercise {one.id} does not end with lw.check("{one.id}", ...)'
        elif not (marks[-1].get("grade") and marks[-1].get("locked") and marks[-1].get("points", 0) > 0):
            yield f"exercise {one.id}: its check cell must be an nbgrader test (grade, locked, points above 0)"
        elif not one.code[-1].source.startswith(HIDDEN.format(points=marks[-1]["points"])):
            yield f"exercise {one.id}: its check cell must begin with the hidden test of lwcourse/checks/grading.py"


def nbgrader_accepts(page: Page) -> Iterator[str]:
    from nbgrader.nbgraderformat import MetadataValidator, ValidationError

    try:
        MetadataValidator().validate_nb(page.notebook)
    except ValidationError as error:
        yield f"nbgrader refuses its metadata: {error}"
    ids = [cell.metadata["nbgrader"].get("grade_id") for cell in page.notebook.cells if "nbgrader" in cell.metadata]
    for repeated in sorted({one for one in ids if ids.count(one) > 1}):
        yield f"the nbgrader id {repeated} is used {ids.count(repeated)} times"


SOLUTION_RULES: tuple[Callable[[Page], Iterator[str]], ...] = (
    short_cells, unique_ids, no_widget_state, images, links, badge_and_setup, agrees_with_checks, hints,
    answered_then_checked, nbgrader_accepts, counted_minutes, open_question)
