"""nbgrader gives a class the grades that it has earned, whatever is handed in."""
import pytest
from classroom import KINDS, SHEET, cell, drop, duplicate, grade, in_own_cell

from lwcourse.authoring.files import notebook_text, read_notebook
from lwcourse.authoring.submissions import mend_submissions


@pytest.mark.heavy
def test_a_class_gets_the_right_grades(tmp_path):
    earned, given = grade(tmp_path, len(KINDS))
    assert given == earned


@pytest.fixture
def handed_in(root, tmp_path):
    """handed_in(change) puts a submission with that change into a course folder, and gives its path."""
    def put(change):
        notebook = read_notebook(root / "exercises" / f"{SHEET}.ipynb")
        release, path = (tmp_path / place / SHEET / f"{SHEET}.ipynb" for place in ("release", "submitted/ann"))
        release.parent.mkdir(parents=True)
        release.write_text(notebook_text(notebook), encoding="utf-8")
        change(notebook)
        path.parent.mkdir(parents=True)
        path.write_text(notebook_text(notebook), encoding="utf-8")
        return path
    return put


def ids(path):
    return [one.metadata["nbgrader"]["grade_id"] for one in read_notebook(path).cells if "nbgrader" in one.metadata]


@pytest.mark.parametrize("change", [duplicate("ex00-1-answer"), duplicate("ex00-2-check"), drop("ex00-1-answer"),
                                    drop("ex00-3-answer"), drop("ex00-1-check"), drop("ex00-3-check"), in_own_cell,
                                    lambda notebook: notebook.cells.clear()])
def test_copied_and_deleted_cells_are_mended_once(tmp_path, root, handed_in, change):
    path = handed_in(change)
    before = path.read_bytes()
    assert list(mend_submissions(tmp_path, SHEET)) == [path]
    assert ids(path) == ids(root / "exercises" / f"{SHEET}.ipynb")
    assert (tmp_path / "submitted_as_received" / "ann" / SHEET / path.name).read_bytes() == before
    assert mend_submissions(tmp_path, SHEET) == {}


def test_an_answer_in_a_cell_of_ones_own_runs_between_stub_and_check(tmp_path, handed_in):
    path = handed_in(in_own_cell)
    mend_submissions(tmp_path, SHEET)
    cells = read_notebook(path).cells
    own = next(k for k, one in enumerate(cells) if "conv_macs" in one.source and "nbgrader" not in one.metadata
               and one.cell_type == "code" and "def conv_macs" in one.source)
    notebook = read_notebook(path)
    assert cells.index(cell(notebook, "ex00-1-answer")) < own < cells.index(cell(notebook, "ex00-1-check"))


def test_what_cannot_be_mended_is_told(tmp_path, handed_in):
    path = handed_in(lambda notebook: None)
    assert mend_submissions(tmp_path, SHEET) == {}
    path.write_text("{")
    [[told]] = mend_submissions(tmp_path, SHEET).values()
    assert "cannot be read" in told and path.read_text() == "{"
    with pytest.raises(FileNotFoundError, match="generate_assignment 07_more"):
        mend_submissions(tmp_path, "07_more")
