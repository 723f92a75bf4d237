"""Tools for those who write the course: exercises, stored outputs, the repository's address, rules of layout.

They need the `dev` extra and a checkout. `python -m lwcourse exercises|notebooks|readme|address` calls them.
"""
from pathlib import Path

from lwcourse.authoring.address import badge, check_address, read_address, set_address, setup_cell
from lwcourse.authoring.exercises import make_exercises
from lwcourse.authoring.layout import chapter_problems
from lwcourse.authoring.notebooks import NotebookRun, execute, run_notebooks
from lwcourse.authoring.readme import update_readme
from lwcourse.authoring.sheets import solution_problems

__all__ = ["NotebookRun", "badge", "chapter_problems", "check_address", "execute", "find_root", "make_exercises",
           "read_address", "run_notebooks", "set_address", "setup_cell", "solution_problems",
           "update_readme"]


def find_root(start: Path | str = ".") -> Path:
    """The checkout that `start` lies in: the nearest folder upwards with pyproject.toml and notebooks/.

    Raises FileNotFoundError when there is none.
    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    raise FileNotFoundError(f"{start} is in no checkout of the course (a folder with pyproject.toml and notebooks/)")
