"""Submissions that nbgrader would stop at, or give no points for, made gradable: cells that were copied or deleted."""
import copy
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.files import notebook_text, read_notebook

KEPT = "submitted_as_received"  # a folder beside `submitted`


def mend_submissions(folder: Path | str, assignment: str) -> dict[Path, list[str]]:
    """Mend submitted/STUDENT/ASSIGNMENT/*.ipynb in nbgrader's course folder; what was wrong, for each that was changed.

    A notebook that cannot be read is named, and left as it is. What is changed is first copied to the folder
    `submitted_as_received`. Raises FileNotFoundError when the assignment has not been released.
    """
    folder, found = Path(folder), {}
    release = sorted((folder / "release" / assignment).glob("*.ipynb"))
    if not release:
        raise FileNotFoundError(f"there is no notebook in {folder / 'release' / assignment}; run `nbgrader "
                                f"generate_assignment {assignment}` in this folder first")
    for sheet in release:
        released = read_notebook(sheet)
        for path in sorted((folder / "submitted").glob(f"*/{assignment}/{sheet.name}")):
            try:
                notebook = read_notebook(path)
            except (ValueError, KeyError, AttributeError) as error:
                found[path] = [f"cannot be read, and was left as it is: {error}"]
                continue
            wrong = [*_strip(notebook, released), *_restore(notebook, released)]
            if wrong:
                kept = folder / KEPT / path.relative_to(folder / "submitted")
                kept.parent.mkdir(parents=True, exist_ok=True)
                if not kept.exists():
                    kept.write_bytes(path.read_bytes())
                path.write_bytes(notebook_text(notebook).encode())
                found[path] = wrong
    return found


def _grade_id(cell: NotebookNode) -> str | None:
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def _strip(notebook: NotebookNode, released: NotebookNode) -> Iterator[str]:
    """Copies of marked cells become plain cells, which still run."""
    known, seen = {_grade_id(cell) for cell in released.cells}, set()
    for cell in notebook.cells:
        mark = _grade_id(cell)
        if mark is None:
            cell.metadata.pop("nbgrader", None)
        elif mark not in known or mark in seen:
            del cell.metadata["nbgrader"]
            yield f"a copy of the cell {mark}" if mark in seen else f"a cell of another sheet, {mark}"
        else:
            seen.add(mark)


def _restore(notebook: NotebookNode, released: NotebookNode) -> Iterator[str]:
    """Marked cells that are missing come back: an answer's stub early, so that an answer in another cell stands; a
    check late, so that all of the student's cells before the next marked cell have run."""
    marks = [mark for mark in map(_grade_id, released.cells) if mark]
    originals = {_grade_id(cell): cell for cell in released.cells}
    for k, mark in enumerate(marks):
        places = {_grade_id(cell): place for place, cell in enumerate(notebook.cells) if _grade_id(cell)}
        if mark in places:
            continue
        before = max((places[one] + 1 for one in marks[:k] if one in places), default=0)
        after = min((places[one] for one in marks[k + 1:] if one in places), default=len(notebook.cells))
        is_check = originals[mark].metadata["nbgrader"].get("grade")
        notebook.cells.insert(max(before, after) if is_check else before, copy.deepcopy(originals[mark]))
        yield f"the cell {mark} was missing"
