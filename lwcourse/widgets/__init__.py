"""Explorers: a few controls, a picture and a table that follow them. Chapter NN's stand in `chNN.py`.

Core ipywidgets only, without `interact` or `Output`, so that they work in JupyterLab, Notebook, VS Code
and Colab. Where no kernel runs (GitHub, a web page) the picture stored with the notebook is shown.
"""
import sys

try:
    import ipywidgets  # noqa: F401
except ImportError as error:
    raise ImportError("lwcourse.widgets needs ipywidgets: pip install ipywidgets, or 'lwcourse[course]' for all that "
                      "the notebooks use") from error

from lwcourse.by_chapter import public_names
from lwcourse.widgets.explorer import Explorer, dropdown, slider

_chapters = public_names(sys.modules[__name__])
globals().update(_chapters)

__all__ = ["Explorer", "dropdown", "slider", *_chapters]
