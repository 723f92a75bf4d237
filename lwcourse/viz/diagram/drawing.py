"""Draw a block from the module itself: `block_diagram(module, x)` and, side by side, `block_diagrams`.

`graph.trace` runs the module under torch.fx, `layout.arrange` places the boxes, this file draws them.
So a drawing cannot disagree with the code, and a learner's block can stand beside the reference.
"""
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from torch import nn

from lwcourse.viz import theme
from lwcourse.viz.diagram.graph import Diagram, Input, Node, trace
from lwcourse.viz.diagram.layout import ROOM, STEM, Box, Layout, Route, arrange, is_bar, is_symbol
from lwcourse.viz.theme import Figure, themed

COLOURS = {  # by family of operation; every box says in words what it is, too
    "conv": theme.BLUE, "pointwise": theme.SKY, "linear": theme.SKY, "depthwise": theme.ORANGE,
    "grouped": theme.YELLOW, "norm": theme.MUTED, "activation": theme.GREEN, "dropout": theme.MUTED,
    "pool": theme.PURPLE, "gate": theme.VERMILLION, "attention": theme.VERMILLION, "merge": theme.INK,
    "split": theme.INK, "elementwise": theme.INK, "reshape": theme.MUTED, "other": theme.MUTED,
    "input": theme.INK, "output": theme.INK,
}
TITLE, CAPTION, SHAPE, HEADING = 9.5, 8.5, 8.0, 11.0  # font sizes in points
TITLE_LINE, CAPTION_LINE = 13.5, 12.0
PADDING, DISC, GAP, MARGIN = 9.0, 20.0, 28.0, 14.0
HEAD, CORNER = 9.0, 10.0  # straight end below an arrow's last bend; radius of the corner beside a disc


def block_diagram(module: nn.Module, x: Input, title: str | None = None, *, detail: str = "fused") -> Figure:
    """Draw what `module` does with `x` in eval mode: a box for each operation, shapes on the arrows.

    `x` is a tensor, batch first, or a tuple of what forward takes: tensors, lists or dicts of them, integers. Shapes
    are written C×H×W. Branches stand side by side, a shortcut runs beside the trunk. Boxes are coloured by family:
    dense, 1x1, depthwise and grouped convolution, pooling, gate and so on. detail="fused" writes normalisation and
    activation into the box of their convolution, "full" gives each its own. The module is left as it was.

    Raises TypeError and ValueError as `graph.trace` does: the module cannot run on `x`, or torch.fx cannot
    follow it, for instance because of a branch that depends on the data.
    """
    return draw([trace(module, x, title=title, detail=detail)])


def block_diagrams(modules: Mapping[str, nn.Module], x: Input | Mapping[str, Input], *,
                   detail: str = "fused") -> Figure:
    """Draw several modules beside each other, each under its name, all on the same input `x`.

    Modules that take other shapes get an input each: `x` then maps the same names to them.
    Raises TypeError when `modules` is no mapping, ValueError when it is empty or a name has no input, and what
    `block_diagram` raises.
    """
    if not isinstance(modules, Mapping):
        raise TypeError('modules must map names to modules, e.g. {"mine": block, "reference": other}, got '
                        f"{type(modules).__name__}; block_diagram draws one module")
    if not modules:
        raise ValueError('modules must name at least one module, e.g. {"mine": block}, got none')
    each = isinstance(x, Mapping) and any(name in x for name in modules)  # else a dict is what every module takes
    inputs = x if each else dict.fromkeys(modules, x)
    if lost := [name for name in modules if name not in inputs]:
        raise ValueError(f"x must hold an input for every module; there is none for {', '.join(map(repr, lost))}")
    return draw([trace(module, inputs[name], title=name, detail=detail) for name, module in modules.items()])


@themed
def draw(diagrams: Sequence[Diagram]) -> Figure:
    """A figure with one or more diagrams side by side, tops level."""
    layouts = [laid_out(diagram) for diagram in diagrams]
    heading = 26.0
    extents = [extent(diagram, layout) for diagram, layout in zip(diagrams, layouts, strict=True)]
    widths = [max(end - start, text_width(diagram.title, HEADING, bold=True))
              for diagram, (start, end) in zip(diagrams, extents, strict=True)]
    width = sum(widths) + 2 * MARGIN * len(diagrams)
    height = max(layout.height for layout in layouts) + heading + 2 * MARGIN
    figure = Figure(figsize=(width / 72, height / 72), alt=" ".join(diagram.describe() for diagram in diagrams))
    axes = blank_axes(figure, width, height)
    left = MARGIN
    for diagram, layout, own, (start, _) in zip(diagrams, layouts, widths, extents, strict=True):
        axes.text(left, MARGIN, diagram.title, fontsize=HEADING, fontweight="bold", va="top", label="heading")
        draw_layout(axes, diagram, layout, left - start, MARGIN + heading)
        left += own + 2 * MARGIN
    return figure


def blank_axes(figure: Figure, width: float, height: float) -> Axes:
    """Axes over the whole figure, without ticks, in points from the top left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def laid_out(diagram: Diagram, gap: float = GAP) -> Layout:
    """`layout.arrange` with boxes as large as their words, and `gap` points from layer to layer."""
    sizes = {node.name: _size(node) for node in diagram.nodes}
    layout = arrange(diagram, sizes, gap)
    if crowded := _crowded(diagram, layout):
        return arrange(diagram, sizes, gap, crowded)
    return layout


def draw_layout(axes: Axes, diagram: Diagram, layout: Layout, left: float, top: float) -> None:
    """Draw a laid-out diagram into axes in points, its top left corner at (left, top)."""
    for route in layout.routes:
        path = arrow_path(route.moved(left, top), layout.boxes[route.edge.target].moved(left, top))
        axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>,head_length=5,head_width=2.6", mutation_scale=1,
                                       color=theme.INK, linewidth=1.3, joinstyle="miter", label="arrow", zorder=2))
    for node in diagram.nodes:
        _draw_node(axes, node, layout.boxes[node.name].moved(left, top))
    for text, x, y, align in _labels(diagram, layout):
        axes.text(left + x, top + y, text, fontsize=SHAPE, color=theme.MUTED, ha=align, va="center", label="shape",
                  bbox={"boxstyle": "square,pad=0.1", "facecolor": theme.CARD, "edgecolor": "none"}, zorder=4)


@cache  # a diagram asks for the same few words again and again
def text_width(text: str, size: float, bold: bool = False) -> float:
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _size(node: Node) -> tuple[float, float]:
    """The width and height, in points, that a node's text needs."""
    if is_symbol(node):
        return DISC, DISC
    width = max([text_width(node.title, TITLE, bold=True), *(text_width(text, CAPTION) for text in node.captions)])
    height = TITLE_LINE + CAPTION_LINE * len(node.captions)
    return width + 2 * PADDING, height + (4.0 if is_bar(node) or node.kind in ("input", "output") else 9.0)


def _draw_node(axes: Axes, node: Node, box: Box) -> None:
    end = node.kind in ("input", "output")
    if is_symbol(node):
        shape = Circle((box.x, box.y), box.width / 2)
    else:
        shape = FancyBboxPatch((box.left, box.top), box.width, box.height,
                               boxstyle=f"round,pad=0,rounding_size={box.height / 2 if end else 5}")
    strength = 0.0 if end else 0.06 if is_bar(node) else 0.22
    shape.set(facecolor=theme.tint(COLOURS[node.kind], strength), edgecolor=theme.shade(COLOURS[node.kind]),
              linewidth=1.0 if end else 1.3, label=f"box {node.name}", zorder=3)
    axes.add_patch(shape)
    total = TITLE_LINE + CAPTION_LINE * len(node.captions)
    y = box.y - total / 2 + TITLE_LINE / 2
    axes.text(box.x, y, node.title, fontsize=12.0 if is_symbol(node) else TITLE, ha="center", va="center_baseline",
              fontweight="normal" if node.kind in ("input", "output") else "bold", label=f"text {node.name}", zorder=5)
    for i, caption in enumerate(node.captions):
        y = box.y - total / 2 + TITLE_LINE + CAPTION_LINE * (i + 0.5)
        axes.text(box.x, y, caption, fontsize=CAPTION, ha="center", va="center_baseline", label=f"text {node.name}",
                  zorder=5)


def arrow_path(route: Route, target: Box) -> Path:
    """The line of an arrow: upright in each layer, curved between layers."""
    x, start, end = route.pieces[0]
    points, codes = [(x, start), (x, end)], [Path.MOVETO, Path.LINETO]
    for i, (x, start, end) in enumerate(route.pieces[1:], start=1):
        last = i == len(route.pieces) - 1
        if x != points[-1][0]:
            foot = min(start, end - HEAD) if last else start
            middle = (points[-1][1] + foot) / 2
            points += [(points[-1][0], middle), (x, middle), (x, foot)]
            codes += [Path.CURVE4] * 3
        if last and route.entry != "top":  # round the corner into the disc's side
            side, towards = (target.left, 1) if route.entry == "left" else (target.right, -1)
            points += [(x, end - CORNER), (x, end), (x + CORNER * towards, end), (side, end)]
            codes += [Path.LINETO, Path.CURVE3, Path.CURVE3, Path.LINETO]
        else:
            points.append((x, end))
            codes.append(Path.LINETO)
    return Path(points, codes)


class _Label(NamedTuple):
    """A shape to write, and where: the text's `align` end is at x, its middle at y."""
    text: str
    x: float
    y: float
    align: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        width = text_width(self.text, SHAPE)
        left = self.x if self.align == "left" else self.x - width
        return left - 1, left + width + 1, self.y - SHAPE / 2 - 1, self.y + SHAPE / 2 + 1


def _labels(diagram: Diagram, layout: Layout) -> list[_Label]:
    """Each tensor's shape, once: beside its arrow, or its arrows' stem, on the side where it covers the least."""
    return [label for _, label in _placed_labels(diagram, layout)]


def _placed_labels(diagram: Diagram, layout: Layout) -> list[tuple[str, _Label]]:
    """(source, label) for each tensor."""
    choices, sources = [], []
    for node in diagram.nodes:
        seen: dict[str, list[Route]] = {}
        for route in layout.routes:
            if route.edge.source == node.name:
                seen.setdefault(route.edge.shape, []).append(route)
        if is_bar(node):  # its pieces leave side by side
            seen = {f"{route.edge.shape} {i}": [route] for routes in seen.values() for i, route in enumerate(routes)}
        for routes in filter(lambda routes: routes[0].edge.shape, seen.values()):  # a tuple has no one shape
            choices.append(_label_places(routes, layout.gap))
            sources.append(node.name)
    points = _points_on_arrows(layout)
    covered = [[_covers(place, points) for place in places] for places in choices]
    chosen = [0] * len(choices)
    for _ in range(2):  # a shape gives way to one that cannot, if it can itself
        for i, places in enumerate(choices):
            others = [choices[j][k].box for j, k in enumerate(chosen) if j != i]
            costs = [covered[i][k] + sum(_overlap(place.box, other) for other in others)
                     for k, place in enumerate(places)]
            chosen[i] = costs.index(min(costs))
    return [(source, places[k]) for source, places, k in zip(sources, choices, chosen, strict=True)]


def _label_places(routes: Sequence[Route], gap: float) -> list[_Label]:
    """Where the shape that `routes` from one box share may stand, the best place first: where no other of them runs."""
    x, start, foot = routes[0].pieces[0]
    turns_right = any(route.pieces[1][0] > x for route in routes)
    sides = [(x + 5, "left"), (x - 5, "right")]
    if turns_right and not routes[0].stem:
        sides.reverse()
    if foot - start >= ROOM:  # the arrows turn further down
        y = foot - (0.4 * STEM if routes[0].stem else ROOM / 2)
    else:
        y = foot - 0.4 * STEM if routes[0].stem else foot + 0.42 * gap
    return [_Label(routes[0].edge.shape, at, y, align) for at, align in sides]


def _points_on_arrows(layout: Layout) -> np.ndarray:
    """(points, 2), at most 2 points of the page apart."""
    points = []
    for route in layout.routes:
        line = arrow_path(route, layout.boxes[route.edge.target]).to_polygons(closed_only=False)[0]
        for start, end in pairwise(line):
            points.append(np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / 2)))
    return np.concatenate(points) if points else np.empty((0, 2))


def _covers(label: _Label, points: np.ndarray) -> bool:
    left, right, top, bottom = label.box
    x, y = points.T
    return bool(((left < x) & (x < right) & (top < y) & (y < bottom)).any())


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _crowded(diagram: Diagram, layout: Layout) -> frozenset[str]:
    """The boxes whose shapes cover an arrow or another shape."""
    placed, points = _placed_labels(diagram, layout), _points_on_arrows(layout)
    return frozenset(source for i, (source, label) in enumerate(placed) if _covers(label, points)
                     or any(_overlap(label.box, other.box) for _, other in (*placed[:i], *placed[i + 1:])))


def extent(diagram: Diagram, layout: Layout) -> tuple[float, float]:
    """The leftmost and rightmost x of boxes, arrows and labels."""
    left, right = 0.0, layout.width
    for text, x, _, align in _labels(diagram, layout):
        width = text_width(text, SHAPE) + 2
        start = x if align == "left" else x - width
        left, right = min(left, start), max(right, start + width)
    return left, right
