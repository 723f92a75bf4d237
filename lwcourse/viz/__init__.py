"""Pure functions that draw what the rest of the package returns, each as a matplotlib figure."""
from lwcourse.viz.attention import attention_maps, attention_reads, gate_reads, kernel_sizes, split_order
from lwcourse.viz.cost import cost_bars, cost_layers, shape_flow
from lwcourse.viz.curves import activation_functions, confusion, curves_2d, error_bars, training_curves
from lwcourse.viz.diagram import block_diagram, block_diagrams
from lwcourse.viz.dilation import pixel_response, pixel_responses
from lwcourse.viz.distances import gradient_norms, output_histograms, template_planes
from lwcourse.viz.fields import field_size, receptive_fields
from lwcourse.viz.guidelines import relative_times
from lwcourse.viz.likeness import choose_intrinsic, ghost_budget, ghost_likeness, map_likeness, map_pairs
from lwcourse.viz.maps import feature_maps, image, images, kernels
from lwcourse.viz.patterns import dilation_choices, dilation_patterns
from lwcourse.viz.ranks import ranks
from lwcourse.viz.reach import centre_gradient, channel_connections, connectivity, receptive_field
from lwcourse.viz.scaling import width_scaling
from lwcourse.viz.search import search_paths
from lwcourse.viz.segmentation import class_iou, frame_rates, iou_curves, label_maps
from lwcourse.viz.shuffle import channel_paths, reachability
from lwcourse.viz.signals import signal_growth
from lwcourse.viz.speed import latency_bars, pareto, pareto_front, roofline
from lwcourse.viz.theme import CYCLE, PALETTE, Figure, new_figure, save_svg, themed
from lwcourse.viz.tokens import growth, number_grids, offset_biases, query_maps, reach_maps
from lwcourse.viz.towers import towers

__all__ = [
    "CYCLE", "PALETTE", "Figure", "activation_functions", "attention_maps", "attention_reads", "block_diagram",
    "block_diagrams", "centre_gradient", "channel_connections", "channel_paths", "choose_intrinsic", "class_iou",
    "confusion", "connectivity", "cost_bars", "cost_layers", "curves_2d", "dilation_choices", "dilation_patterns",
    "error_bars", "feature_maps", "field_size", "frame_rates", "gate_reads", "ghost_budget", "ghost_likeness",
    "gradient_norms", "growth", "image", "images", "iou_curves", "kernel_sizes", "kernels", "label_maps",
    "latency_bars", "map_likeness", "map_pairs", "new_figure", "number_grids", "offset_biases", "output_histograms",
    "pareto", "pareto_front", "pixel_response", "pixel_responses", "query_maps", "ranks", "reach_maps", "reachability",
    "receptive_field", "receptive_fields", "relative_times", "roofline", "save_svg", "search_paths", "shape_flow",
    "signal_growth", "split_order", "template_planes", "themed", "towers", "training_curves", "width_scaling",
]
