"""Run notebooks and store their outputs, with differences that a reviewer can read.

A plain re-execution rewrites hundreds of lines of an unchanged notebook. Here a cell keeps its stored output when
the new one differs only by what nbval_sanitize.cfg names (durations, addresses, ...). A cell tagged
"nbval-ignore-output" shows measurements: it keeps its stored output until the code of its notebook changes.
"""
import copy
import hashlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nbformat import NotebookNode

from lwcourse.authoring.files import notebook_text, read_notebook, write_if_changed

SANITIZE = Path(__file__).with_name("nbval_sanitize.cfg")
MEASURED_TAG = "nbval-ignore-output"
RAN_SOURCES = "lwcourse_ran_sources"  # notebook metadata: a digest of the code that gave the stored outputs
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


IDLE = 0.25  # the largest share of the processors that other work may have while times are stored


def busy_share() -> float:
    """The share of the processors that were at work in the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] / os.cpu_count() if hasattr(os, "getloadavg") else 0.0


@dataclass(frozen=True)
class NotebookRun:
    """What running a notebook gave: wall time with the kernel's start, and what had to be stored anew.

    `changed_cells` are the numbers (from 1, code cells only) of the cells with a new output; `changed` is also
    True when only metadata or numbering had to be put in order.
    """
    path: Path
    seconds: float
    changed: bool
    changed_cells: tuple[int, ...]


def run_notebooks(paths: Iterable[Path | str], check: bool = False, fresh: bool = False) -> list[NotebookRun]:
    """Execute notebooks one after the other and store their outputs; with `check`, only tell what would change.

    `fresh` stores every output anew, as after a change of the package's figures. Raises
    nbclient.exceptions.CellExecutionError at the first error, and leaves that notebook as it was.
    """
    runs = []
    for path in map(Path, paths):
        stored = read_notebook(path)
        executed = copy.deepcopy(stored)
        seconds = execute(executed, path.parent)
        changed_cells = _store(executed, stored, fresh)
        text = notebook_text(stored)
        changed = text != path.read_text(encoding="utf-8") if check else write_if_changed(path, text)
        runs.append(NotebookRun(path, seconds, changed, changed_cells))
    return runs


def execute(notebook: NotebookNode, folder: Path | str, allow_errors: bool = False, timeout: int = 120) -> float:
    """Run all cells in `folder` with a kernel of this Python, without progress bars; the seconds it took.

    Outputs go into `notebook`. Raises nbclient.exceptions.CellExecutionError for an error in a cell without the
    tag "raises-exception", unless `allow_errors`; CellTimeoutError for a cell that takes longer than `timeout` s.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    # Without folders to search, "python3" is this interpreter, whatever kernels the user has installed.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(notebook, km=manager, timeout=timeout, allow_errors=allow_errors, record_timing=False,
                            store_widget_state=False, resources={"metadata": {"path": str(folder)}})
    start = time.perf_counter()
    client.execute(cleanup_kc=True, env={**os.environ, "TQDM_DISABLE": "1"})
    return time.perf_counter() - start


def _store(executed: NotebookNode, stored: NotebookNode, fresh: bool) -> tuple[int, ...]:
    """Put the outputs worth storing into `stored`; the numbers of the cells that got a new one."""
    ran = digest(stored)
    same_code = stored.metadata.get(RAN_SOURCES) == ran
    code_cells = [(new, old) for new, old in zip(executed.cells, stored.cells, strict=True) if old.cell_type == "code"]
    changed = []
    for number, (new, old) in enumerate(code_cells, start=1):
        outputs = [_clean(output, number) for output in new.outputs]
        keep = _kinds(old.outputs) == _kinds(outputs) and not fresh
        if MEASURED_TAG in old.metadata.get("tags", []):
            keep = keep and same_code
        else:
            keep = keep and _sanitised(old.outputs) == _sanitised(outputs)
        if keep:
            outputs = [_clean(output, number) for output in old.outputs]
        elif old.outputs != outputs:
            changed.append(number)
        old.outputs = outputs
        old.execution_count = number
        old.metadata.pop("execution", None)
    stored.metadata.pop("widgets", None)  # a state that is missing keeps GitHub from showing the notebook
    stored.metadata[RAN_SOURCES] = ran
    return tuple(changed)


def digest(notebook: NotebookNode) -> str:
    """Of all code of a notebook: while it is the same, what was measured is kept."""
    sources = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()[:12]


def _clean(output: NotebookNode, number: int) -> NotebookNode:
    """An output as it is stored: without colour codes, widget views, and the paths that a traceback names."""
    output = copy.deepcopy(output)
    if output.output_type == "stream":
        output.text = ANSI.sub("", output.text)
    elif output.output_type == "error":
        output.evalue = ANSI.sub("", output.evalue)
        output.traceback = [f"{output.ename}: {output.evalue}"]
    else:
        output.data.pop(WIDGET_VIEW, None)
        output.metadata = {key: value for key, value in output.metadata.items() if key in output.data}
    if "execution_count" in output:
        output.execution_count = number
    return output


def _kinds(outputs: list[NotebookNode]) -> list:
    return [(output.output_type, output.get("name"), sorted(set(output.get("data", {})) - {WIDGET_VIEW}))
            for output in outputs]


def _sanitised(outputs: list[NotebookNode]) -> list[dict[str, object]]:
    """The parts that nbval compares, with what may differ replaced, and the pictures as they are."""
    compared = []
    for output in outputs:
        parts = {key: output[key] for key in ("text", "ename", "evalue") if key in output}
        parts |= {kind: value for kind, value in output.get("data", {}).items() if kind != WIDGET_VIEW}
        compared.append({kind: value if kind.startswith("image/") else _sanitise(value)
                         for kind, value in parts.items()})
    return compared


def _sanitise(value: object) -> object:
    if isinstance(value, str):
        for pattern, replacement in _rules():
            value = re.sub(pattern, replacement, value)
    return value


@cache
def _rules() -> list[tuple[str, str]]:
    from nbval.plugin import get_sanitize_patterns

    return get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8"))
