"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure."""
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed

__all__ = ["CYCLE", "PALETTE", "Figure", "new_figure", "save_svg", "themed"]
