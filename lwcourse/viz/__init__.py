"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure."""
from lwcourse.viz.diagram import block_diagram, block_diagrams
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed

__all__ = ["CYCLE", "PALETTE", "Figure", "block_diagram", "block_diagrams", "new_figure", "save_svg", "themed"]
