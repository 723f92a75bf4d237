"""exercises/NN_slug.ipynb from solutions/NN_slug.ipynb, as `nbgrader generate_assignment` would make them."""
import copy
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.files import notebook_text, read_notebook, write_if_changed
from lwcourse.authoring.notebooks import RAN_SOURCES


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """A copy for learners: solutions are stubs, hidden tests and outputs are gone.

    Raises RuntimeError (from nbgrader) for marks that do not pair or stand in a cell without nbgrader metadata.
    """
    from nbgrader.preprocessors import ClearHiddenTests, ClearOutput, ClearSolutions

    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop(RAN_SOURCES, None)  # of the outputs, which go
    for preprocessor in (ClearSolutions, ClearOutput, ClearHiddenTests):
        notebook, _ = preprocessor().preprocess(notebook, {})
    return notebook


def make_exercises(root: Path | str, check: bool = False) -> list[Path]:
    """Write every exercise notebook from its solution; the paths that changed.

    With `check` nothing is written and the paths are those out of date. An exercise whose solution is
    gone counts as out of date, but is left for you to delete, since it may hold somebody's answers.
    """
    root = Path(root)
    sources = sorted((root / "solutions").glob("*.ipynb"))
    changed = []
    for source in sources:
        target = root / "exercises" / source.name
        text = notebook_text(without_answers(read_notebook(source)))
        if check:
            outdated = not target.is_file() or target.read_bytes() != text.encode()
        else:
            outdated = write_if_changed(target, text)
        if outdated:
            changed.append(target)
    if check:
        names = {source.name for source in sources}
        changed += [path for path in sorted((root / "exercises").glob("*.ipynb")) if path.name not in names]
    return changed
