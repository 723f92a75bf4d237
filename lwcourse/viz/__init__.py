"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure."""
from lwcourse.viz.attention import attention_maps, growth, number_grids, offset_biases, reach_maps
from lwcourse.viz.cost import cost_bars, cost_layers, shape_flow
from lwcourse.viz.curves import activation_functions, confusion, curves_2d, error_bars, training_curves
from lwcourse.viz.diagram import block_diagram, block_diagrams
from lwcourse.viz.maps import feature_maps, image, images, kernels
from lwcourse.viz.ranks import ranks
from lwcourse.viz.reach import centre_gradient, channel_connections, connectivity, receptive_field
from lwcourse.viz.scaling import width_scaling
from lwcourse.viz.speed import latency_bars, pareto, pareto_front, roofline
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed

__all__ = [
    "CYCLE", "PALETTE", "Figure", "activation_functions", "attention_maps", "block_diagram", "block_diagrams",
    "centre_gradient", "channel_connections", "confusion", "connectivity", "cost_bars", "cost_layers", "curves_2d",
    "error_bars", "feature_maps", "growth", "image", "images", "kernels", "latency_bars", "new_figure",
    "number_grids", "offset_biases", "pareto", "pareto_front", "ranks", "reach_maps", "receptive_field", "roofline",
    "save_svg", "shape_flow", "themed", "training_curves", "width_scaling",
]
