"""Both networks' operators between two layers, computed again from tensors that are equal, and matched by numbers."""
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from lwcourse.compare import formula, operators
from lwcourse.compare.graph import Node, Value, evaluate, needed
from lwcourse.compare.layouts import arrangements, layout_error
from lwcourse.compare.operators import (
    is_move,
    number,
    scalar,
    unchanged,
    unmoved,
    words,
)
from lwcourse.compare.spelled import spell_out

MOST_NODES = 400
MOST_LETTERS = 260  # in the two sides of a sentence


@dataclass(frozen=True, eq=False)
class Anchor:
    """A tensor that both networks have computed: where it is in each graph, its numbers in each, and its name."""
    mine: Value
    reference: Value
    ours: Tensor
    theirs: Tensor
    name: formula.Value
    opened: bool = False  # a concatenation that is compared part by part: only its name counts


@dataclass(eq=False)
class Side:
    """One network's part: the tensor that differs, and what it is made from."""
    target: Value
    tensors: dict[Value, Tensor]
    names: dict[Value, object]
    known: set[Value]                         # anchors
    matched: dict[Value, list[Value]] = field(default_factory=dict)  # to values of the other side

    def nodes(self, stops: set[Value]) -> list[Node]:
        return needed([self.target], stops)


class Matched:
    """The two tensors `mine` and `reference` that differ, with the anchors behind them.

    Raises ValueError when the graphs do not lead to them.
    """

    def __init__(self, mine: Value, reference: Value, anchors: list[Anchor], tolerance: float,
                 names: tuple[dict[int, str], dict[int, str]], inside: list[tuple[Tensor, formula.Value]]):
        self.tolerance = tolerance
        self.inside = inside
        self.images = next((len(a.ours) for a in anchors if not a.name.layer and a.ours.dim()), 1)
        known = [a for a in anchors if not a.opened]
        spell_out(needed([mine], {a.mine for a in known}), needed([reference], {a.reference for a in known}))
        self.mine = self._side(mine, {a.mine: (a.ours, a.name) for a in known}, names[0])
        self.reference = self._side(reference, {a.reference: (a.theirs, a.name) for a in known}, names[1])
        for side, labels in ((self.mine, {a.mine: a.name for a in anchors}),
                             (self.reference, {a.reference: a.name for a in anchors})):
            side.names |= {v: name for v, name in labels.items() if v in side.tensors and v not in side.names}
        self._match()

    @property
    def finite(self) -> bool:
        return all(bool(torch.isfinite(side.tensors[side.target]).all()) for side in (self.mine, self.reference))

    @property
    def equal_after_all(self) -> bool:
        """Whether the two are equal when made from the anchors: then what differs lies elsewhere."""
        ours, theirs = self.mine.tensors[self.mine.target], self.reference.tensors[self.reference.target]
        return layout_error(ours, theirs) <= self.tolerance

    def _side(self, target: Value, known: dict[Value, tuple[Tensor, object]], names: dict[int, str]) -> Side:
        nodes = needed([target], known)
        if len(nodes) > MOST_NODES:
            raise ValueError("too far from the last equal tensors")
        try:
            tensors = evaluate([target], {value: tensor for value, (tensor, _) in known.items()})
        except (RuntimeError, IndexError, NotImplementedError) as error:
            raise ValueError("the operators cannot run again") from error
        for node in nodes:
            for value in node.outputs:
                value.shape = tuple(tensors[value].shape)  # those of formulas have none yet
        labels: dict[Value, object] = {value: name for value, (_, name) in known.items()}
        used = {target} | {v for node in nodes for v in node.operands}
        for value in used:
            if value.node is None and value not in labels:
                labels[value] = names.get(id(value.tensor), "")
        keep = used | {v for node in nodes for v in node.outputs}
        side = Side(target, {v: t for v, t in tensors.items() if v in keep}, labels, set(known) & keep)
        for node in nodes:  # what a layer makes of its input, before anything that its class adds
            entering = labels.get(node.operands[0]) if node.operands else None
            if node.name in ("native_batch_norm", "native_layer_norm", "native_group_norm", "convolution") and \
                    isinstance(entering, formula.Value) and entering.layer and not entering.is_output:
                labels[node.outputs[0]] = replace(entering, is_output=True, tensor=tensors[node.outputs[0]])
        prints = [(_print(t), t, name) for t, name in self.inside]
        for value, tensor in list(side.tensors.items()) if prints else []:
            for print_, t, name in prints:
                if value not in side.known and t.numel() == tensor.numel() and _alike(_print(tensor), print_) \
                        and layout_error(tensor, t) <= self.tolerance:
                    side.names[value] = name
                    side.known.add(value)
        return side

    # Matching by numbers

    def _match(self) -> None:
        ours = [v for v in self.mine.tensors if self.mine.tensors[v].numel()]
        prints = {v: _print(t) for side in (self.mine, self.reference) for v, t in side.tensors.items()}
        by_size: dict[int, list[Value]] = {}
        for v in self.reference.tensors:
            by_size.setdefault(self.reference.tensors[v].numel(), []).append(v)
        for v in ours:
            for w in by_size.get(self.mine.tensors[v].numel(), []):
                if _alike(prints[v], prints[w]) and layout_error(self.mine.tensors[v], self.reference.tensors[w]) \
                        <= self.tolerance:
                    self.mine.matched.setdefault(v, []).append(w)
                    self.reference.matched.setdefault(w, []).append(v)

    def equal(self, ours: Value, theirs: Value) -> bool:
        return theirs in self.mine.matched.get(ours, ())

    @cached_property
    def relevant(self) -> tuple[list[Node], list[Node]]:
        """The nodes of each side behind which nothing is equal: what the mistake is among."""
        return tuple(side.nodes(set(side.matched) - {side.target} | side.known) if side.target not in side.known else []
                     for side in (self.mine, self.reference))

    def _same_operands(self, ours: Value, theirs: Value) -> bool:
        """Whether both are made from the same, by one operator each that computes."""
        ours, theirs = unmoved(ours), unmoved(theirs)
        if ours.node is None or theirs.node is None or ours in self.mine.known or theirs in self.reference.known:
            return False
        left, right = self._unpaired(ours.node, theirs.node)
        return not left and not right and bool(ours.node.operands)

    def _unpaired(self, a: Node, b: Node) -> tuple[list[Value], list[Value]]:
        """The operands of two nodes that have no equal among the other's; of those left, in their order."""
        left, right = list(a.operands), list(b.operands)
        for v in list(left):
            w = next((w for w in right if self.equal(v, w)), None)
            if w is not None:
                left.remove(v)
                right.remove(w)
        return left, right

    def _same_term(self, ours: Value, theirs: Value) -> bool:
        both = ours in self.mine.tensors and theirs in self.reference.tensors
        return self.equal(ours, theirs) or both and ours in self.mine.names and theirs in self.reference.names and \
            layout_error(self.mine.tensors[ours], self.reference.tensors[theirs]) <= self.tolerance

    def _is(self, value: Value, base: Value, side: Side) -> bool:
        """Whether `value`, on `side`, is what the other side has as `base`."""
        return self.equal(base, value) if side is self.reference else self.equal(value, base)

    def _is_anchor(self, node: Node, side: Side) -> bool:
        return all(isinstance(side.names.get(unchanged(v)), formula.Value) or
                   any(w in (self.mine if side is self.reference else self.reference).known
                       for w in side.matched.get(v, ())) or not is_parameter(v) for v in node.operands)

    def _factor(self, ours: Value, theirs: Value, views=arrangements) -> float | None:
        """What to multiply one with to have the other; None where no number does it."""
        x, wanted = self.mine.tensors[ours], self.reference.tensors[theirs]
        for y in views(wanted, tuple(x.shape)):
            square = x.square().sum()
            if square > 0:
                factor = float((x * y).sum() / square)
                if factor and (x * factor - y).abs().max() <= self.tolerance * y.abs().max():
                    return factor
        return None

    def _way(self, top: Value, side: Side, found) -> list[Value] | None:
        """The values from `top` down to one that is `found`, along operators that keep what they are given in view."""
        if found(top):
            return None
        waiting = [(top, [top])]
        seen = {top}
        while waiting:
            value, way = waiting.pop(0)
            if value.node is None or len(way) > 6 or value in side.known and value is not top:
                continue
            for v in value.node.operands:
                if found(v):
                    return way
                if v not in seen:
                    seen.add(v)
                    waiting.append((v, [*way, v]))
        return None

    def _flat_terms(self, value: Value, side: Side, kind: set[str]) -> list[tuple[Value, int]]:
        """The terms of a sum, or factors of a product, with their signs."""
        value = unchanged(value)
        node = value.node
        if node is None or node.name not in kind or scalar(node) or value in side.known:
            return [(value, 1)]
        if len(node.operands) != 2 or node.name in ("rsub",):
            return [(value, 1)]
        sign = -1 if node.name in ("sub", "div") or node.kwargs.get("alpha", 1) == -1 else 1
        a, b = node.operands
        return self._flat_terms(a, side, kind) + [(v, s * sign) for v, s in self._flat_terms(b, side, kind)]

    # Names

    def name(self, value: Value, side: Side, depth: int = 3) -> str:
        value = unchanged(value)
        if value in side.names:
            label = side.names[value]
            return str(label) if isinstance(label, formula.Value) else f"`{label}`" if label else "a constant"
        partner = next((w for w in side.matched.get(value, ())), None)
        other = self.reference if side is self.mine else self.mine
        if partner is not None and partner in other.names and isinstance(other.names[partner], formula.Value):
            return str(other.names[partner])
        node = value.node
        if node is None:
            return "a constant"
        if depth <= 0:
            label = side.names.get(unchanged(node.operands[0])) if operators.is_activation(node) else None
            return f"{words(node)} of {label}" if isinstance(label, formula.Value) else \
                "..." if node.operands else "what was made of it"
        if is_move(value) and len(node.operands) == 1:
            part, padded = operators.taken(node), operators.padding_words(node)
            whole = self.name(node.operands[0], side, depth - bool(part))
            if node.name == "repeat":
                return f"{whole}, tiled {'x'.join(map(str, node.args[1]))} times"
            if padded:
                return f"{whole}, padded {padded},"
            return f"{part} of {whole}" if part else whole
        usual = self._usual(node, side, depth)
        if usual:
            return usual
        inputs = [self.name(v, side, depth - 1) for v in node.operands]
        if node.name in ("rsub", "sub") and len(inputs) == 1 and not scalar(node):
            return f"({number(node.args[1] if node.name == 'rsub' else node.args[0])} minus {inputs[0]})"
        if scalar(node):
            verb, factor = scalar(node)
            if verb.startswith("mult"):
                return f"{inputs[0]} times {number(factor)}"
            return f"({inputs[0]} {'minus' if factor < 0 else 'plus'} {number(abs(factor))})"
        if node.name in ("add", "sub", "mul", "div", "maximum", "minimum") and len(inputs) == 2:
            if node.name in ("maximum", "minimum"):
                return f"the {node.name} of {inputs[0]} and {inputs[1]}"
            sign = {"add": "plus", "sub": "minus", "mul": "times", "div": "divided by"}[node.name]
            if node.kwargs.get("alpha", 1) == -1:
                sign = "minus"
            return f"({inputs[0]} {sign} {inputs[1]})"
        if node.name in operators.MATRIX_PRODUCTS:
            return f"the matrix product of {' and '.join(inputs[-2:])}"
        if node.name in ("cat", "stack"):
            more = f" and {len(inputs) - 3} more" if len(inputs) > 5 else ""
            return f"the concatenation of {', '.join(inputs[:3] if more else inputs)}{more}"
        return f"{words(node)} of {inputs[0]}" if inputs else words(node)

    def _usual(self, node: Node, side: Side, depth: int) -> str | None:
        """A name for several operators that are one thing: the minimum, a vector of length 1, a tiled map."""
        first = unchanged(node.operands[0]).node if node.operands else None
        if node.name == "convolution":
            weight = side.names.get(unmoved(node.args[1]))
            which = f" `{weight.removesuffix('.weight')}`" if isinstance(weight, str) and weight else ""
            return f"convolution{which} of {self.name(node.operands[0], side, depth - 1)}"
        if node.name == "neg" and first is not None and "max_pool" in first.name:
            inner = unchanged(first.operands[0]).node
            if inner is not None and inner.name == "neg":
                what = words(first).replace("max", "minimum", 1)
                return f"{what} of {self.name(inner.operands[0], side, depth - 1)}"
        if node.name == "div" and len(node.operands) == 2:
            whole, length = unchanged(node.operands[0]), unmoved(node.operands[1])
            length = unmoved(length.node.operands[0]) if length.node is not None and \
                length.node.name in ("clamp_min", "clamp", "maximum") else length
            if length.node is not None and "norm" in length.node.name and whole in map(unchanged, length.node.operands):
                axes = words(length.node).split(" over ")[-1]
                return f"{self.name(whole, side, depth - 1)}, normalised to length 1 along {axes}"
        return None

    def ours(self, value: Value) -> str:
        return self.name(value, self.mine)

    def theirs(self, value: Value) -> str:
        return self.name(value, self.reference)

    def _texts(self, ours: Value, theirs: Value) -> str | None:
        """Both in words, as deep as it takes to tell them apart; None where even that is not enough."""
        found = [(self.name(ours, self.mine, depth), self.name(theirs, self.reference, depth))
                 for depth in (3, 2, 1, 5, 8)]
        found = [(a, b) for a, b in found if a != b]
        if not found:
            return None
        short = (pair for pair in found if sum(map(len, pair)) < MOST_LETTERS)
        a, b = next(short, min(found, key=lambda pair: sum(map(len, pair))))
        return f"yours is {a}, but the reference's is {b}"


def same_operators(mine: list[Node], reference: list[Node]) -> bool:
    """Whether two ways of making a tensor have the same operators, so that there is nothing to try."""
    kinds = [sorted(words(n) for n in nodes if not is_move(n.outputs[0]) and
                    (n.name not in operators.UNCHANGED or operators.rounds(n))) for nodes in (mine, reference)]
    return kinds[0] == kinds[1]


def source_size(value: Value) -> int:
    return torch.Size(value.shape).numel()


def is_parameter(value: Value) -> bool:
    return value.node is None


def _print(tensor: Tensor) -> tuple[float, float, float]:
    t = tensor.double() if not tensor.is_complex() else torch.view_as_real(tensor).double()
    return (t.sum().item(), t.abs().sum().item(), t.square().sum().item())


def _alike(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    size = max(a[1], b[1], 1e-300)
    return abs(a[0] - b[0]) <= 1e-6 * size and abs(a[1] - b[1]) <= 1e-6 * size and \
        abs(a[2] - b[2]) <= 1e-6 * max(a[2], b[2], 1e-300)
