"""Explorers: a few controls, a picture and a table that follow them.

Core ipywidgets only, without `interact` or `Output`, so that they work in JupyterLab, Notebook, VS Code
and Colab. Where no kernel runs (GitHub, a web page) the picture stored with the notebook is shown.
"""
try:
    import ipywidgets  # noqa: F401
except ImportError as error:
    raise ImportError("lwcourse.widgets needs ipywidgets: pip install ipywidgets, or 'lwcourse[course]' for all that "
                      "the notebooks use") from error

from lwcourse.widgets.attention import AttentionExplorer
from lwcourse.widgets.costs import ConvExplorer, ProfileExplorer, WidthExplorer
from lwcourse.widgets.dilation import DilationExplorer
from lwcourse.widgets.explorer import Explorer, dropdown, slider
from lwcourse.widgets.ghosts import GhostExplorer
from lwcourse.widgets.groups import GroupExplorer
from lwcourse.widgets.tokens import TokenExplorer
from lwcourse.widgets.towers import TowerExplorer

__all__ = [
    "AttentionExplorer", "ConvExplorer", "DilationExplorer", "Explorer", "GhostExplorer", "GroupExplorer",
    "ProfileExplorer", "TowerExplorer", "TokenExplorer", "WidthExplorer", "dropdown", "slider",
]
