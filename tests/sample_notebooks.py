"""Notebooks small enough to read, for the tests of the tools that work on notebooks."""
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lwcourse.authoring import badge, setup_cell
from lwcourse.authoring.sheets import HIDDEN

ADDRESS = "https://github.com/OWNER/lwcourse"
PYPROJECT = f'[project]\nname = "lwcourse"\n\n[project.urls]\nRepository = "{ADDRESS}"\n'
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
RIGHT_00_1 = """\
def conv_macs(in_channels, out_channels, kernel, height, width, groups=1):
    return in_channels // groups * out_channels * kernel**2 * height * width"""
HINT = "<details><summary>Hint {0}: {1}</summary>\n\nsome words\n</details>"


def checkout(folder):
    """A folder with what makes it a checkout of the course."""
    for name in ("notebooks", "solutions", "exercises"):
        (folder / name).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


def code(source, *tags, **nbgrader):
    metadata = {"tags": list(tags)} if tags else {}
    if nbgrader:
        metadata["nbgrader"] = {"schema_version": 3, "grade": False, "solution": False, "locked": False,
                                "task": False, **nbgrader}
    return new_code_cell(source, metadata=metadata)


def markdown(source):
    return new_markdown_cell(source)


def notebook(*cells):
    """With ids that do not change from run to run."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    return new_notebook(cells=list(cells), metadata=KERNEL)


def sheet(exercise="00.1", title="MACs of a convolution", level="easy, 5 minutes", answer="conv_macs"):
    """A sheet with one exercise; its setup cell is the real one."""
    first, _, rest = RIGHT_00_1.partition("\n")
    solution = f"{first}\n    ### BEGIN SOLUTION\n{rest}\n    ### END SOLUTION"
    test = HIDDEN.format(points=2) + f'lw.check("{exercise}", {answer})'
    return notebook(
        markdown("# Exercises\n" + badge(ADDRESS, "exercises/00_sheet.ipynb")),
        code(setup_cell(ADDRESS), "setup"),
        code("import lwcourse as lw"),
        markdown(f"## Exercise {exercise}: {title}\n{level}. Count."),
        *(markdown(HINT.format(number, idea)) for number, idea in enumerate(("idea", "shapes", "code"), start=1)),
        code(solution, grade_id="ex00-1-answer", solution=True),
        code(test, grade_id="ex00-1-check", grade=True, locked=True, points=2))
