"""Diagrams of blocks: traced (graph, operations), laid out (layout) and drawn (drawing)."""
from lwcourse.viz.diagram.drawing import block_diagram, block_diagrams

__all__ = ["block_diagram", "block_diagrams"]
