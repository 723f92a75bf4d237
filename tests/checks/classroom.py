"""A class hands in a sheet, and nbgrader grades it: `python tests/checks/classroom.py --students 30`.

The students are of the kinds in `KINDS`, which tell what each hands in and the points that it has earned of the 5 of
sheet 00. The flow is that of CONTRIBUTING.md.
"""
import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from nbformat.v4 import new_code_cell

from lwcourse.authoring.files import notebook_text, read_notebook

ROOT, SHEET, TIMEOUT = Path(__file__).parents[2], "00_start_here", 20
HEADER = "def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):\n"
RIGHT = "    return in_channels // groups * out_channels * kernel**2 * height * width"
NOISE = """\
import sys, warnings
from tqdm.auto import tqdm
for _ in tqdm(range(100)):
    print("out " * 2000)
    print("err " * 2000, file=sys.stderr)
warnings.warn("so much")
"""


def cell(notebook, grade_id):
    return next(one for one in notebook.cells if one.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def first_answer(source: str) -> Callable:
    """Right answers, but `source` for the first."""
    def change(notebook):
        cell(notebook, "ex00-1-answer").source = source
    return change


def untouched(notebook):
    blank = read_notebook(ROOT / "exercises" / f"{SHEET}.ipynb")
    for k in (1, 2, 3):
        cell(notebook, f"ex00-{k}-answer").source = cell(blank, f"ex00-{k}-answer").source


def drop(grade_id: str) -> Callable:
    return lambda notebook: notebook.cells.remove(cell(notebook, grade_id))


def duplicate(grade_id: str) -> Callable:
    def change(notebook):
        one = cell(notebook, grade_id)
        copied = new_code_cell(one.source, metadata=one.metadata)
        notebook.cells.insert(notebook.cells.index(one) + 1, copied)
    return change


def in_own_cell(notebook):
    """The answer's cell is gone, and the answer stands in a cell of the student's own."""
    one = cell(notebook, "ex00-1-answer")
    notebook.cells[notebook.cells.index(one)] = new_code_cell(one.source)


def replaces_the_check(notebook):
    cell(notebook, "ex00-1-answer").source = "lw.check = lw.checks.judge = print\nconv_macs = 3"


KINDS: dict[str, tuple[Callable, float]] = {  # what is changed in right answers to all three, and the points
    "perfect": (lambda notebook: None, 5),
    "untouched": (untouched, 0),
    "error": (first_answer(HEADER + "    return kernel / 0"), 4),
    "bad syntax": (first_answer(HEADER + "    return ("), 4),
    "ends the program": (first_answer(HEADER + "    import sys\n    sys.exit(0)"), 4),
    "endless": (first_answer(HEADER + "    while True:\n        pass"), 4),
    "noisy": (first_answer(HEADER + "".join(f"    {line}\n" for line in NOISE.splitlines()) + RIGHT), 5),
    "check deleted": (drop("ex00-1-check"), 5),
    "answer deleted": (drop("ex00-2-answer"), 3),
    "answer in a cell of one's own": (in_own_cell, 5),
    "answer copied": (duplicate("ex00-2-answer"), 5),
    "check copied": (duplicate("ex00-3-check"), 5),
    "replaces the check": (replaces_the_check, 4),
}


def hand_in(folder: Path, students: int) -> dict[str, float]:
    """Write `students` submissions below `folder`, of all kinds in turn; the points that each has earned."""
    earned = {}
    for number, (kind, (change, points)) in enumerate(islice(cycle(KINDS.items()), students)):
        notebook = read_notebook(folder / "release" / SHEET / f"{SHEET}.ipynb")
        solved = read_notebook(ROOT / "solutions" / f"{SHEET}.ipynb")
        for k in (1, 2, 3):
            cell(notebook, f"ex00-{k}-answer").source = cell(solved, f"ex00-{k}-answer").source
        change(notebook)
        student = f"{number:02}_{kind.replace(' ', '_').replace(chr(39), '')}"
        path = folder / "submitted" / student / SHEET / f"{SHEET}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(notebook_text(notebook), encoding="utf-8")
        earned[student] = points
    return earned


def grade(folder: Path, students: int) -> tuple[dict[str, float], dict[str, float]]:
    """(points earned, points given by nbgrader), by student, in a new course folder."""
    source = folder / "source" / SHEET / f"{SHEET}.ipynb"
    source.parent.mkdir(parents=True)
    source.write_bytes((ROOT / "solutions" / source.name).read_bytes())
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> None:
        subprocess.run([sys.executable, "-m", *command], cwd=folder, env=environment, check=True, capture_output=True)

    run("nbgrader", "generate_assignment", SHEET)
    earned = hand_in(folder, students)
    run("lwcourse", "submissions", SHEET)
    run("nbgrader", "autograde", SHEET, f"--Execute.timeout={TIMEOUT}")
    run("nbgrader", "export")
    with open(folder / "grades.csv", newline="", encoding="utf-8") as file:
        given = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    return earned, given


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--students", type=int, default=30)
    with tempfile.TemporaryDirectory() as folder:
        earned, given = grade(Path(folder), parser.parse_args().students)
    wrong = 0
    for student, points in earned.items():
        wrong += given.get(student) != points
        print(f"{student:35} earned {points}, given {given.get(student)}" + "  WRONG" * (given.get(student) != points))
    print(f"{len(earned) - wrong} of {len(earned)} grades are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
