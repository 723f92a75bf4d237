"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure.

What several chapters draw stands in the modules named here, what one draws in `chapters/chNN.py`.
"""
from lwcourse.by_chapter import public_names
from lwcourse.viz import chapters
from lwcourse.viz.cost import cost_bars, cost_layers, shape_flow
from lwcourse.viz.curves import activation_functions, confusion, curves_2d, error_bars, training_curves
from lwcourse.viz.diagram import block_diagram, block_diagrams
from lwcourse.viz.maps import feature_maps, image, images, kernels
from lwcourse.viz.rank_plot import ranks
from lwcourse.viz.receptive_field import (
    centre_gradient,
    channel_connections,
    connectivity,
    reach_maps,
    receptive_field,
)
from lwcourse.viz.speed import latency_bars, pareto, pareto_front, roofline
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed

_chapters = public_names(chapters)
globals().update(_chapters)

__all__ = [
    "CYCLE", "PALETTE", "Figure", "activation_functions", "block_diagram", "block_diagrams", "centre_gradient",
    "channel_connections", "confusion", "connectivity", "cost_bars", "cost_layers", "curves_2d", "error_bars",
    "feature_maps", "image", "images", "kernels", "latency_bars", "new_figure", "pareto", "pareto_front", "ranks",
    "reach_maps", "receptive_field", "roofline", "save_svg", "shape_flow", "themed", "training_curves", *_chapters,
]
