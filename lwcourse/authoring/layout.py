"""What a machine can check of the layout of a chapter (notebooks/) and of an exercise sheet (solutions/).

Each rule takes a Page and yields sentences that say what is wrong; CONTRIBUTING.md states the rules for authors.
"""
import ast
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.address import badge, read_address, setup_cell
from lwcourse.authoring.files import read_notebook
from lwcourse.authoring.notebooks import WIDGET_VIEW
from lwcourse.checks import exercises

MAX_BYTES = 1_000_000
MAX_CELLS = 60
MAX_WORDS, MIN_WORDS, MIN_WORDS_OF_CHAPTER_00 = 2_800, 2_000, 1_000  # chapter 00 teaches no network
MAX_CELL_WORDS = 130
MAX_CODE_LINES = 25
FIGURES = range(5, 10)  # five to seven, and the explorer with its static twin
FOLDED = {"Recall": 3, "Quiz": 5}  # section: questions whose answers are folded
OBJECTIVES = "After this chapter you can"
WORDS_A_MINUTE, LINES_A_MINUTE = 150, 15  # of a page that is read, its code included
FIRST_EDITION = {"04", "06", "07", "14"}  # chapters that await the second's rules
CHECKED_TAG, RAISES_TAG = "nbval-check-output", "raises-exception"
LESSON = re.compile(r"^Lesson:\s+(notebooks/\S+\.ipynb)", re.MULTILINE)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")
MARKDOWN_LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)[^)]*\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """A notebook of the checkout at `root`."""
    path: Path
    root: Path

    @cached_property
    def notebook(self) -> NotebookNode:
        return read_notebook(self.path)

    @property
    def number(self) -> str:
        return self.path.name[:2]

    @property
    def first_edition(self) -> bool:
        return self.number in FIRST_EDITION

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def markdown(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]


def chapter_problems(path: Path | str, root: Path | str) -> list[str]:
    """Everything that is wrong with the layout of a chapter."""
    page = Page(Path(path), Path(root))
    return [problem for rule in CHAPTER_RULES for problem in rule(page)]


def to_five(minutes: float) -> int:
    """Minutes as the course states them: up to the next five."""
    return 5 * max(1, math.ceil(minutes / 5 - 1e-9))


def reading_minutes(page: Page) -> int:
    """What a chapter says of its reading time: the words of its prose, and the lines of its code but for the set-up."""
    prose = sum(words(cell.source) for cell in page.markdown)
    lines = sum(bool(line.strip()) for cell in page.code[1:] for line in cell.source.splitlines())
    return to_five(prose / WORDS_A_MINUTE + lines / LINES_A_MINUTE)


def words(markdown: str) -> int:
    """Words that are read as prose: without tables, formulas, code blocks, HTML tags, images and addresses."""
    text = MARKDOWN_IMAGE.sub(" ", markdown)
    text = re.sub(r"\]\([^)]*\)", " ", text)
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]*\$|<[^>]+>", " ", text, flags=re.DOTALL)
    text = re.sub(r"(?m)^\s*\|.*$", " ", text)
    return len(re.findall(r"\w[\w'’.-]*", text))


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _where(page: Page, cell: NotebookNode) -> str:
    first = next((line for line in cell.source.splitlines() if line.strip()), "")
    return f"cell {page.notebook.cells.index(cell)} ({first[:50]!r})"


def _parsed(cell: NotebookNode) -> ast.Module:
    """The code of a cell, without IPython's own lines."""
    return ast.parse(re.sub(r"(?m)^([ \t]*)[%!].*$", r"\1pass", cell.source))


def small_enough(page: Page) -> Iterator[str]:
    if page.path.stat().st_size > MAX_BYTES:
        yield f"it has {page.path.stat().st_size:,} bytes, {MAX_BYTES:,} at most"
    if len(page.notebook.cells) > MAX_CELLS:
        yield f"it has {len(page.notebook.cells)} cells, {MAX_CELLS} at most"


def word_count(page: Page) -> Iterator[str]:
    total = sum(words(cell.source) for cell in page.markdown)
    least = MIN_WORDS_OF_CHAPTER_00 if page.number == "00" else MIN_WORDS
    if not least <= total <= MAX_WORDS:
        yield f"it has {total} words, not {least} to {MAX_WORDS}"


def short_cells(page: Page) -> Iterator[str]:
    for cell in page.markdown:
        if words(cell.source) > MAX_CELL_WORDS:
            yield f"{_where(page, cell)} has {words(cell.source)} words, {MAX_CELL_WORDS} at most"
    for cell in page.code:
        lines = len(cell.source.splitlines())
        if lines > MAX_CODE_LINES:
            yield f"{_where(page, cell)} has {lines} lines, {MAX_CODE_LINES} at most; put longer code into the package"


def unique_ids(page: Page) -> Iterator[str]:
    cells = json.loads(page.path.read_text(encoding="utf-8"))["cells"]  # nbformat would give new ids in silence
    ids = [cell.get("id") for cell in cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "its cells need ids that differ (notebook format 4.5)"
    if page.notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "its kernelspec is not python3"


def executed(page: Page) -> Iterator[str]:
    for number, cell in enumerate(page.code, start=1):
        if cell.execution_count != number:
            yield f"{_where(page, cell)} has execution count {cell.execution_count}, not {number}: run `make notebooks`"


def outputs_are_clean(page: Page) -> Iterator[str]:
    for cell in page.code:
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if errors and RAISES_TAG not in tags(cell):
            yield f"{_where(page, cell)} stores an error but has no tag {RAISES_TAG}"
        if RAISES_TAG in tags(cell) and not (errors and CHECKED_TAG in tags(cell)):
            yield f"{_where(page, cell)} has the tag {RAISES_TAG}: it must store its error, and be tagged {CHECKED_TAG}"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"{_where(page, cell)} stores a warning or other text on stderr"
    if not any(CHECKED_TAG in tags(cell) and cell.outputs for cell in page.code):
        yield f"no cell with an output is tagged {CHECKED_TAG}, so nbval compares nothing"


def no_widget_state(page: Page) -> Iterator[str]:
    if "widgets" in page.notebook.metadata:
        yield "its metadata holds the state of widgets, which keeps GitHub from showing it: run `make notebooks`"
    if any(WIDGET_VIEW in output.get("data", {}) for cell in page.code for output in cell.outputs):
        yield "it stores the view of a widget, which shows nothing without a kernel: run `make notebooks`"


def images(page: Page) -> Iterator[str]:
    for cell in page.markdown:
        found = MARKDOWN_IMAGE.findall(cell.source)
        for tag in HTML_IMAGE.findall(cell.source):
            attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
            found.append((attributes.get("alt", ""), attributes.get("src", "")))
        for alt, target in found:
            if not alt.strip():
                yield f"{_where(page, cell)}: the image {target} has no alt text"
            if not _resolves(page, target):
                yield f"{_where(page, cell)}: there is no image {target}"


def links(page: Page) -> Iterator[str]:
    for cell in page.markdown:
        for target in MARKDOWN_LINK.findall(cell.source):
            if not _resolves(page, target):
                yield f"{_where(page, cell)}: the link {target} leads nowhere"


def _resolves(page: Page, target: str) -> bool:
    if re.match(r"https?:|mailto:|#|attachment:", target):
        return True
    return (page.path.parent / target.split("#")[0]).is_file()


def figures(page: Page) -> Iterator[str]:
    stored = sum(any(kind.startswith("image/") for kind in output.get("data", {}))
                 for cell in page.code for output in cell.outputs)
    drawn = sum("badge" not in target for cell in page.markdown for _, target in MARKDOWN_IMAGE.findall(cell.source))
    if page.number != "00" and stored + drawn not in FIGURES:
        yield f"it has {stored + drawn} figures, not {FIGURES.start} to {FIGURES.stop - 1}"


def badge_and_setup(page: Page) -> Iterator[str]:
    address = read_address(page.root)
    folder = "exercises" if page.path.parent.name == "solutions" else page.path.parent.name
    if badge(address, f"{folder}/{page.path.name}") not in page.notebook.cells[0].source:
        yield f"its first cell has no badge that opens {folder}/{page.path.name} in Colab: {badge(address, '...')}"
    if not page.code or page.code[0].source != setup_cell(address):
        yield "its first code cell is not lwcourse.authoring.setup_cell(address), tagged setup"


def one_hop(page: Page) -> Iterator[str]:
    """The import cell (the one with `import lwcourse as lw`) names the models that name this chapter, and no other."""
    cell = next((cell for cell in page.code if "import lwcourse as lw" in cell.source), None)
    if cell is None:
        yield "no cell has `import lwcourse as lw`"
        return
    imported = {node.module for node in ast.walk(_parsed(cell)) if isinstance(node, ast.ImportFrom)}
    imported = {module for module in imported if module and module.startswith("lwcourse.models.")}
    here = f"notebooks/{page.path.name}"
    taught = {module for module, lesson in lessons(page.root).items() if lesson == here}
    for module in sorted(taught - imported):
        yield f"its import cell must import from {module}, whose header says `Lesson: {here}`"
    for module in sorted(imported - taught):
        yield f"its import cell imports from {module}, whose header does not say `Lesson: {here}`"


def lessons(root: Path | str) -> dict[str, str]:
    """The chapter that each file of lwcourse/models names in its header, "" where it names none."""
    found = {}
    for path in sorted((Path(root) / "lwcourse" / "models").rglob("*.py")):
        if path.stem != "__init__":
            match = LESSON.search(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
            found[".".join(path.relative_to(root).with_suffix("").parts)] = match[1] if match else ""
    return found


def folded_answers(page: Page) -> Iterator[str]:
    for title, least in FOLDED.items():
        if title == "Recall" and page.number == "00":
            continue
        text = section(page.notebook, title)
        if text is None:
            yield f"no heading has the word {title}"
        elif text.count("<details>") < least:
            yield f"its section {title} has {text.count('<details>')} folded answers (<details>), {least} are needed"
    for cell in page.markdown:
        counts = {cell.source.count(mark) for mark in ("<details>", "</details>", "<summary>", "</summary>")}
        if len(counts) > 1:
            yield f"{_where(page, cell)}: <details>, <summary> and their ends do not pair"


def section(notebook: NotebookNode, title: str) -> str | None:
    """The Markdown under the first heading that has the word `title`, up to the next heading of its level."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(rf"^(#+) .*\b{title}\b.*$", text, re.MULTILINE | re.IGNORECASE)
    if heading is None:
        return None
    rest = text[heading.end():]
    following = re.search(rf"^#{{1,{len(heading[1])}}} ", rest, re.MULTILINE)
    return rest[:following.start()] if following else rest


def minutes(page: Page) -> Iterator[str]:
    """The card's times are counted: reading from the page, exercises from their checks."""
    if page.first_edition:
        return
    stated = re.search(r"^\| (\d+) min \| (\d+) min \|", page.notebook.cells[0].source, re.MULTILINE)
    right = (reading_minutes(page), sum(one.minutes for one in exercises(page.number)))
    if stated is None or (int(stated[1]), int(stated[2])) != right:
        yield f"its card must begin with `| {right[0]} min | {right[1]} min |`: reading and exercises, as counted"


def objectives(page: Page) -> Iterator[str]:
    """Each objective, a numbered line below `After this chapter you can`, names exercises that there are."""
    if page.first_edition:
        return
    text = next((cell.source for cell in page.markdown if OBJECTIVES in cell.source), "")
    lines = re.findall(r"^\d\. .*$", text.partition(OBJECTIVES)[2], re.MULTILINE)
    if not lines:
        yield f"it has no objectives, numbered below **{OBJECTIVES}**"
    known = {one.id for one in exercises(page.number)}
    for line in lines:
        named = set(re.findall(r"\b\d\d\.\d+\b", line))
        if not named or not named <= known:
            yield f"the objective {line[:50]!r} must name its exercises in brackets, of {sorted(known)}"


def own_comparisons(page: Page) -> Iterator[str]:
    """`lw.compare(mine, reference, ...)`: one side is written on the page, or comes from outside of the course.

    A name counts as written here when it is a class or function of the page, or made from one.
    """
    if page.first_edition:
        return
    here, outside = set(), set()
    for cell in page.code:
        for node in _parsed(cell).body:
            _learn_names(node, here, outside)
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "lw.compare" and len(call.args) > 1:
                    sides = [_names(side) for side in call.args[:2]]
                    ours = [not side & outside and not side & here for side in sides]
                    if all(ours) or all(side & here for side in sides):
                        yield (f"{_where(page, cell)} compares {ast.unparse(call.args[0])} with "
                               f"{ast.unparse(call.args[1])}: one of the two must be written on the page, or come from "
                               "another package, and the other must not")


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _learn_names(node: ast.stmt, here: set[str], outside: set[str]) -> None:
    """Add what a statement defines: to `here` what the page writes, to `outside` what is no part of the course."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        here.add(node.name)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            source = getattr(node, "module", None) or alias.name
            if not source.startswith("lwcourse"):
                outside.add(alias.asname or alias.name.split(".")[0])
        outside -= {"torch", "nn", "partial"}  # whoever builds with them
    for one in ast.walk(node):
        if isinstance(one, ast.Assign | ast.AnnAssign | ast.For):
            value = one.iter if isinstance(one, ast.For) else one.value
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            for kind in (here, outside):
                if value is not None and _names(value) & kind:
                    kind |= set().union(*map(_names, targets))


CHAPTER_RULES: tuple[Callable[[Page], Iterator[str]], ...] = (
    small_enough, word_count, short_cells, unique_ids, executed, outputs_are_clean, no_widget_state, images, links,
    figures, badge_and_setup, one_hop, folded_answers, minutes, objectives, own_comparisons)
