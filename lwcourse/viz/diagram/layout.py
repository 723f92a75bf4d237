"""Where the boxes and arrows of a `Diagram` go: layers from top to bottom, branches side by side.

A box lies one layer below the last of its sources. The boxes of one path, and an arrow where it runs past
other boxes, form a lane with one x. Lanes keep an order from left to right: shortcuts, branches in the order
in which they run, gates; it changes only where that saves crossings. Least squares then puts each merge in the
middle below its branches, with all boxes apart. Inside a layer an arrow stays in its lane, so none crosses a box.
"""
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from lwcourse.viz.diagram.graph import Diagram, Edge, Node

COLUMN_GAP = 18.0   # points between neighbours in a layer
ARROW_WIDTH = 14.0  # what a passing arrow takes up in a layer
STEM = 12.0         # how far arrows run together before they fork to both sides
ROOM = 14.0         # how far all arrows below a layer run upright, where the shape beside one needs room


@dataclass(frozen=True)
class Box:
    """A rectangle: its centre and size in points; y grows downwards."""
    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    def moved(self, dx: float, dy: float) -> "Box":
        return replace(self, x=self.x + dx, y=self.y + dy)


@dataclass(frozen=True)
class Route:
    """An arrow's way down: upright pieces (x, from y, to y), one a layer, from the source's foot to the target.

    `entry` is the side at which it meets the target; at "left" and "right" the last piece ends at the
    target's middle height, beside it. With `stem` the first piece is shared by all arrows of the source.
    """
    edge: Edge
    pieces: tuple[tuple[float, float, float], ...]
    entry: str
    stem: bool

    def moved(self, dx: float, dy: float) -> "Route":
        return replace(self, pieces=tuple((x + dx, start + dy, end + dy) for x, start, end in self.pieces))


@dataclass(frozen=True)
class Layout:
    """Boxes by node name, the arrows' ways, the size of the whole, and the gap between layers, in points."""
    boxes: Mapping[str, Box]
    routes: tuple[Route, ...]
    width: float
    height: float
    gap: float


def is_symbol(node: Node) -> bool:
    """Whether a node is drawn as a disc with a sign: a sum or product of two tensors."""
    return node.kind in ("merge", "gate") and node.title in ("+", "−", "×", "÷")


def is_bar(node: Node) -> bool:
    """Whether a node is drawn as a bar across its branches: a concatenation or a split."""
    return node.kind in ("merge", "split") and not is_symbol(node)


def arrange(diagram: Diagram, sizes: Mapping[str, tuple[float, float]], gap: float,
            roomy: frozenset[str] = frozenset()) -> Layout:
    """Place boxes of the given (width, height) in points, with `gap` points from layer to layer.

    Below the layers of the boxes `roomy` there is ROOM for words between upright arrows.
    """
    lanes = _Lanes(diagram)
    positions = lanes.positions({name: width for name, (width, _) in sizes.items()})
    forks = lanes.forks(positions)
    bands, feet, y = [], [], 0.0  # where the boxes of a layer begin and end, and where arrows below them begin to turn
    for row in lanes.rows:
        names = [name for name in row.values() if isinstance(name, str)]
        height = max(sizes[name][1] for name in names)
        bands.append((y, y + height))
        feet.append(y + height + (ROOM if roomy & set(names) else 0.0))
        y = feet[-1] + gap + (STEM if forks & set(names) else 0.0)
    boxes = {name: Box(positions[lane], sum(bands[lanes.layer[name]]) / 2, *sizes[name])
             for name, lane in lanes.of_node.items()}
    for node in diagram.nodes:
        if is_bar(node):
            boxes[node.name] = _stretched(node, boxes[node.name], lanes, positions)
    routes = [_route(diagram, index, lanes, positions, boxes, bands, feet, forks)
              for index in range(len(diagram.edges))]

    left = min([box.left for box in boxes.values()] + [x for route in routes for x, _, _ in route.pieces])
    right = max([box.right for box in boxes.values()] + [x for route in routes for x, _, _ in route.pieces])
    return Layout({name: box.moved(-left, 0.0) for name, box in boxes.items()},
                  tuple(route.moved(-left, 0.0) for route in routes), right - left, y - gap, gap)


class _Lanes:
    """The lanes of a diagram. `rows[i]` maps the lanes in layer i to a node's name or a passing edge's index."""

    def __init__(self, diagram: Diagram):
        self.diagram = diagram
        self.layer: dict[str, int] = {}
        for node in diagram.nodes:  # in order of execution, so sources come first
            above = [self.layer[edge.source] for edge in diagram.edges if edge.target == node.name]
            self.layer[node.name] = 1 + max(above) if above else 0
        gating, self.side = self._gates()
        self._assign(gating)
        self.rows: list[dict[int, str | int]] = [{} for _ in range(1 + max(self.layer.values()))]
        for name, lane in self.of_node.items():
            self.rows[self.layer[name]][lane] = name
        for index, edge in enumerate(diagram.edges):
            for i in range(self.layer[edge.source] + 1, self.layer[edge.target]):
                self.rows[i][self.of_edge[index]] = index
        self.order = self._uncrossed(self.order)

    def _gates(self) -> tuple[set[str], set[int]]:
        """Nodes that compute a factor for a larger tensor, and the edges (by index) that leave the trunk."""
        edges = self.diagram.edges
        before: dict[str, set[str]] = {}
        for node in self.diagram.nodes:
            before[node.name] = {node.name}.union(*(before[edge.source] for edge in edges if edge.target == node.name))
        gating: set[str] = set()
        side = {index for index, edge in enumerate(edges) if edge.shortcut}
        for node in self.diagram.nodes:
            arriving = [index for index, edge in enumerate(edges) if edge.target == node.name]
            if node.kind == "gate" and len(arriving) == 2:
                trunk, factor = sorted(arriving, key=lambda index: -_elements(edges[index].shape))
                gating |= before[edges[factor].source] - before[edges[trunk].source]
                side = side - {trunk} | {factor}
        leaving = {index for index, edge in enumerate(edges) if edge.target in gating and edge.source not in gating}
        return gating, side | leaving

    def _assign(self, gating: set[str]) -> None:
        """Give every node and edge a lane, and sort the lanes from left to right."""
        edges = self.diagram.edges
        main = [index for index in range(len(edges)) if index not in self.side]
        only_out, only_in = (_unique({index: getattr(edges[index], end) for index in main})
                             for end in ("source", "target"))
        keys: list[tuple[float, float]] = []
        self.of_node: dict[str, int] = {}
        for number, node in enumerate(self.diagram.nodes):
            index = only_in.get(node.name)
            if index is not None and only_out.get(edges[index].source) == index:
                self.of_node[node.name] = self.of_node[edges[index].source]
            else:
                self.of_node[node.name] = len(keys)
                keys.append((1 if node.name in gating else 0, number))
        self.of_edge: list[int] = []
        numbers = {node.name: number for number, node in enumerate(self.diagram.nodes)}
        for index, edge in enumerate(edges):
            if only_out.get(edge.source) == index:
                self.of_edge.append(self.of_node[edge.source])
            elif only_in.get(edge.target) == index:
                self.of_edge.append(self.of_node[edge.target])
            else:
                self.of_edge.append(len(keys))
                span = self.layer[edge.target] - self.layer[edge.source]
                keys.append((-1, -span) if edge.shortcut else (0, numbers[edge.source] + 0.5))
        self.order = sorted(range(len(keys)), key=keys.__getitem__)

    def _segments(self) -> list[list[tuple[int, int]]]:
        """For each gap between two layers, the (upper lane, lower lane) of the arrows in it."""
        gaps: list[list[tuple[int, int]]] = [[] for _ in self.rows]
        for index, edge in enumerate(self.diagram.edges):
            first, last = self.layer[edge.source], self.layer[edge.target]
            lanes = [self.of_node[edge.source], *[self.of_edge[index]] * (last - first - 1), self.of_node[edge.target]]
            for i, pair in enumerate(pairwise(lanes)):
                gaps[first + i].append(pair)
        return gaps

    def _uncrossed(self, order: list[int]) -> list[int]:
        """Move single lanes elsewhere in the order as long as that leaves fewer crossings."""
        gaps = self._segments()

        def crossings(order: list[int]) -> int:
            rank = {lane: i for i, lane in enumerate(order)}
            return sum((rank[a] - rank[c]) * (rank[b] - rank[d]) < 0
                       for gap in gaps for (a, b), (c, d) in combinations(gap, 2))

        fewest, better = crossings(order), True
        while fewest and better:
            better = False
            for lane in list(order):
                rest = [other for other in order if other != lane]
                trials = [[*rest[:i], lane, *rest[i:]] for i in range(len(order))]
                best = min(trials, key=crossings)
                if crossings(best) < fewest:
                    order, fewest, better = best, crossings(best), True
        return order

    def positions(self, widths: Mapping[str, float]) -> list[float]:
        """The x of each lane: least squares over all bends, subject to the space that boxes need."""
        rank = {lane: i for i, lane in enumerate(self.order)}
        pulls = [pair for index, edge in enumerate(self.diagram.edges)
                 for pair in pairwise((self.of_node[edge.source], self.of_edge[index], self.of_node[edge.target]))]
        needs = {}
        for row in self.rows:
            sides = {lane: (widths[item] if isinstance(item, str) else ARROW_WIDTH) / 2 for lane, item in row.items()}
            for a, b in pairwise(sorted(row, key=rank.__getitem__)):
                needs[a, b] = max(needs.get((a, b), 0.0), sides[a] + sides[b] + COLUMN_GAP)
        return _least_squares(len(self.order), pulls, needs)

    def forks(self, positions: list[float]) -> set[str]:
        """The nodes, other than bars, whose arrows turn off to both sides."""
        turns: dict[str, set[str]] = {}
        for index, edge in enumerate(self.diagram.edges):
            own = positions[self.of_node[edge.source]]
            passes = self.layer[edge.target] - self.layer[edge.source] > 1
            following = positions[self.of_edge[index] if passes else self.of_node[edge.target]]
            turns.setdefault(edge.source, set()).add("left" if following < own else "right" if following > own else "")
        return {node.name for node in self.diagram.nodes
                if {"left", "right"} <= turns.get(node.name, set()) and not is_bar(node)}


def _elements(shape: str) -> int:
    return int(np.prod([int(side) for side in shape.split("×") if side]))


def _unique(ends: Mapping[int, str]) -> dict[str, int]:
    """For each node that occurs once among `ends`, the index of its edge."""
    names = list(ends.values())
    return {name: index for index, name in ends.items() if names.count(name) == 1}


def _least_squares(count: int, pulls: list[tuple[int, int]], needs: Mapping[tuple[int, int], float]) -> list[float]:
    """Minimise the sum of (x[a] - x[b])^2 over `pulls` with x[b] - x[a] >= need, by Hildreth's method."""
    hessian = 1e-3 * np.eye(count)  # keeps parts apart from one another in place
    for a, b in pulls:
        difference = np.zeros(count)
        difference[a] += 1
        difference[b] -= 1
        hessian += np.outer(difference, difference)
    if not needs:
        return [0.0] * count
    rows = np.zeros((len(needs), count))
    for row, (a, b) in zip(rows, needs, strict=True):
        row[a], row[b] = -1.0, 1.0
    bounds = np.array(list(needs.values()))
    spread = np.linalg.solve(hessian, rows.T)
    gram = rows @ spread
    force = np.zeros(len(needs))
    for _ in range(5000):
        before = force.copy()
        for i in range(len(needs)):
            force[i] = max(0.0, force[i] + (bounds[i] - gram[i] @ force) / gram[i, i])
        if np.abs(force - before).max() <= 1e-9 * max(1.0, force.max()):
            break
    return [round(float(x), 3) for x in spread @ force]


def _stretched(node: Node, box: Box, lanes: _Lanes, positions: list[float]) -> Box:
    """A bar's box, widened over its branches as far as its neighbours in the layer leave room."""
    ends = [lanes.of_edge[i] if lanes.layer[edge.target] - lanes.layer[edge.source] > 1
            else lanes.of_node[edge.source if edge.target == node.name else edge.target]
            for i, edge in enumerate(lanes.diagram.edges) if node.name in (edge.source, edge.target)]
    others = [positions[lane] for lane, item in lanes.rows[lanes.layer[node.name]].items() if item != node.name]
    left = min([box.left, *(positions[lane] - ARROW_WIDTH for lane in ends)])
    right = max([box.right, *(positions[lane] + ARROW_WIDTH for lane in ends)])
    if any(left - ARROW_WIDTH < x < right + ARROW_WIDTH for x in others):
        return box
    return replace(box, x=(left + right) / 2, width=right - left)


def _route(diagram: Diagram, index: int, lanes: _Lanes, positions: list[float], boxes: Mapping[str, Box],
           bands: list[tuple[float, float]], feet: list[float], forks: set[str]) -> Route:
    edge = diagram.edges[index]
    source, target = boxes[edge.source], boxes[edge.target]
    first, last = lanes.layer[edge.source], lanes.layer[edge.target]
    lane = positions[lanes.of_edge[index]]
    passing = [(lane, bands[i][0], feet[i]) for i in range(first + 1, last)]
    start = source.x
    if is_bar(diagram.node(edge.source)):
        start = _inside(source, lane if passing else positions[lanes.of_node[edge.target]])
    above = passing[-1][0] if passing else start
    entry, end = "top", target.x
    arriving = [i for i, other in enumerate(diagram.edges) if other.target == edge.target]
    if is_symbol(diagram.node(edge.target)):
        row = [positions[other] for other, item in lanes.rows[last].items() if item != edge.target]
        if not any(min(above, end) - ARROW_WIDTH < x < max(above, end) + ARROW_WIDTH for x in row):
            entry = "left" if above < target.left else "right" if above > target.right else "top"
    elif len(arriving) > 1 or is_bar(diagram.node(edge.target)):
        end = _inside(target, above)
    twins = [i for i in arriving if diagram.edges[i].source == edge.source]
    if entry == "top" and len(twins) > 1 and not passing:  # x + x: two arrows, side by side
        offset = 12.0 * (twins.index(index) - (len(twins) - 1) / 2)
        start, end = start + offset, end + offset
    stem = STEM if edge.source in forks else 0.0
    pieces = [(start, source.bottom, feet[first] + stem), *passing]
    pieces += [(end, bands[last][0], target.top)] if entry == "top" else [(above, bands[last][0], target.y)]
    return Route(edge, tuple(pieces), entry, stem > 0)


def _inside(box: Box, x: float) -> float:
    margin = min(ARROW_WIDTH / 2, box.width / 2)
    return min(max(x, box.left + margin), box.right - margin)
