"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure."""
from lwcourse.viz.cost import cost_bars, cost_layers, shape_flow
from lwcourse.viz.curves import activation_functions, confusion, curves_2d, error_bars, training_curves
from lwcourse.viz.diagram import block_diagram, block_diagrams
from lwcourse.viz.dilation import dilation_choices, dilation_patterns
from lwcourse.viz.fields import field_size, receptive_fields
from lwcourse.viz.growth import signal_growth
from lwcourse.viz.maps import feature_maps, image, images, kernels
from lwcourse.viz.ranks import ranks
from lwcourse.viz.reach import centre_gradient, channel_connections, connectivity, receptive_field
from lwcourse.viz.scaling import width_scaling
from lwcourse.viz.speed import latency_bars, pareto, pareto_front, roofline
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed
from lwcourse.viz.towers import towers

__all__ = [
    "CYCLE", "PALETTE", "Figure", "activation_functions", "block_diagram", "block_diagrams", "centre_gradient",
    "channel_connections", "confusion", "connectivity", "cost_bars", "cost_layers", "curves_2d", "dilation_choices",
    "dilation_patterns", "error_bars", "feature_maps", "field_size", "image", "images", "kernels", "latency_bars",
    "new_figure", "pareto", "pareto_front", "ranks", "receptive_field", "receptive_fields", "roofline", "save_svg",
    "shape_flow", "signal_growth", "themed", "towers", "training_curves", "width_scaling",
]
