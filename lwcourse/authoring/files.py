"""Reading and writing notebooks so that an unchanged one keeps its bytes."""
from pathlib import Path

import nbformat
from nbformat import NotebookNode


def read_notebook(path: Path) -> NotebookNode:
    """A notebook, in format 4.5 (with cell ids). Raises ValueError when the file is no notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except nbformat.reader.NotJSONError as error:
        raise ValueError(f"{path} is not a notebook: {error}") from error


def notebook_text(notebook: NotebookNode) -> str:
    """The notebook as it stands in a file: sorted keys, one space of indentation, a line feed at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` (UTF-8, line feeds) unless the file holds it already; whether it was written."""
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode())
    return True
