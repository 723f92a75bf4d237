"""Between two layers: the operators of both networks side by side, and the first in which they part.

Both tensors that differ are computed again, operator by operator, from tensors that are still equal. What both
networks compute is matched by its numbers, whatever it is called and however it is arranged. What is left is
compared from the inside out: the smallest piece of the learner's network whose exchange for a piece of the
reference's makes the rest equal is the mistake, and the operators in it say what it is.
"""
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lwcourse.compare import formula, operators
from lwcourse.compare.between import Parting
from lwcourse.compare.graph import Node, Value, as_formula, evaluate, needed
from lwcourse.compare.layouts import arrangements, layout_error, turned
from lwcourse.compare.moves import Origin, channel_map, describe_axes, name_channels, origin, rolled, same_part
from lwcourse.compare.operators import (
    PRODUCTS,
    SUMS,
    is_activation,
    is_move,
    number,
    scalar,
    unchanged,
    unmoved,
    words,
)
from lwcourse.compare.order import COMMUTE

MOST_NODES, MOST_TRIES = 400, 160
SIMPLE = {"add", "mul", "mean", "amax", *operators.POOLINGS}  # what a `Formula` can say


@dataclass(frozen=True, eq=False)
class Anchor:
    """A tensor that both networks have computed: where it is in each graph, its numbers in each, and its name."""
    mine: Value
    reference: Value
    ours: Tensor
    theirs: Tensor
    name: formula.Value


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


class Parted:
    """The two tensors `mine` and `reference` that differ, with the anchors behind them.

    Raises ValueError when the graphs do not lead to them.
    """

    def __init__(self, mine: Value, reference: Value, anchors: list[Anchor], tolerance: float,
                 names: tuple[dict[int, str], dict[int, str]], inside: list[tuple[Tensor, formula.Value]]):
        self.tolerance = tolerance
        self.inside = inside
        self.images = next((len(a.ours) for a in anchors if not a.name.layer and a.ours.dim()), 1)
        _spell_out(needed([mine], {a.mine for a in anchors}), needed([reference], {a.reference for a in anchors}))
        self.mine = self._side(mine, {a.mine: (a.ours, a.name) for a in anchors}, names[0])
        self.reference = self._side(reference, {a.reference: (a.theirs, a.name) for a in anchors}, names[1])
        self._match()

    @property
    def finite(self) -> bool:
        return all(bool(torch.isfinite(side.tensors[side.target]).all()) for side in (self.mine, self.reference))

    @property
    def alike(self) -> bool:
        """Whether both are made by the same operators, so that there is nothing to try."""
        kinds = [sorted(words(n) for n in side.nodes(side.known) if not is_move(n.outputs[0])
                        and n.name not in operators.UNCHANGED) for side in (self.mine, self.reference)]
        return kinds[0] == kinds[1]

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

    def equal_somehow(self, ours: Value, theirs: Value) -> bool:
        """Equal, or equal behind operators that only move elements."""
        return self.equal(ours, theirs) or self.equal(unmoved(ours), unmoved(theirs))

    @cached_property
    def relevant(self) -> tuple[list[Node], list[Node]]:
        """The nodes of each side behind which nothing is equal: what the mistake is among."""
        return tuple(side.nodes(set(side.matched) - {side.target} | side.known) if side.target not in side.known else []
                     for side in (self.mine, self.reference))

    def read(self, parting: Parting) -> Parting | None:
        """The same two tensors, to be explained from what lies right behind them, where both are simple enough."""
        names, values = [], []
        for side in (self.mine, self.reference):
            stops = side.known - {side.target}
            nodes = [n for n in side.nodes(stops if side.target not in side.known else side.known)
                     if not is_move(n.outputs[0]) and n.name not in operators.UNCHANGED]
            if len(nodes) > 6 or any(scalar(n) or not is_activation(n) and n.name not in SIMPLE for n in nodes):
                return None
            active = [words(n).removesuffix(" over axis 1") for n in nodes if is_activation(n)]
            names.append(tuple(active))
            used = {v for n in side.nodes(stops) for v in n.operands if v in side.known} | {side.target} & side.known
            values += [side.names[v] for v in used if isinstance(side.names.get(v), formula.Value)]
        order = {(v.layer, v.is_output): k for k, v in enumerate(parting.values)}
        kept = {id(v.tensor): v for v in values}
        if len(kept) > 4 or not kept:
            return None
        return Parting(self.mine.tensors[self.mine.target], self.reference.tensors[self.reference.target],
                       sorted(kept.values(), key=lambda v: order.get((v.layer, v.is_output), -1)), self.tolerance,
                       parting.mine_later, parting.reference_later, (names[0], names[1]))

    # The smallest exchange that makes the rest equal

    def cause(self) -> str | None:
        """The mistake in words; None when nothing can be said."""
        whole = unchanged(self.mine.target), unchanged(self.reference.target)
        if self._way(whole[1], self.reference, lambda v: self.equal(whole[0], v)) or \
                self._way(whole[0], self.mine, lambda v: self.equal(v, whole[1])):
            return self.compare(*whole)
        for ours, theirs in self._pieces():
            said = self.compare(ours, theirs)
            if said:
                return said
        return None

    def _pieces(self) -> Iterator[tuple[Value, Value]]:
        nodes, others = self.relevant
        inner = {v for node in nodes for v in node.outputs}
        edges = [(node, v) for node in nodes for v in dict.fromkeys(node.operands)
                 if not (node.name in operators.MOVES | operators.UNCHANGED and len(node.operands) == 1)]  # see its user
        edges.sort(key=lambda edge: (edge[1] in inner, edge[0].number))
        candidates = list(dict.fromkeys(v for node in others for v in (*node.operands, *node.outputs)
                                        if v in self.reference.tensors and v is not self.reference.target))
        tries = 0
        for replaced in (True, False):  # one operator for another says more than one put in front of another
            if replaced and self._same_operands(self.mine.target, self.reference.target):
                break
            for node, value in edges:
                if value in self.mine.matched and is_parameter(value):
                    continue
                for other in candidates:
                    if self.equal(value, other) or is_parameter(other) or \
                            replaced != self._same_operands(value, other):
                        continue
                    tries += 1
                    if tries > MOST_TRIES:
                        break
                    if self._mends(nodes, node, value, other):
                        yield value, other
        yield self.mine.target, self.reference.target

    def _same_operands(self, ours: Value, theirs: Value) -> bool:
        """Whether both are made from the same, by one operator each that computes."""
        ours, theirs = unmoved(ours), unmoved(theirs)
        if ours.node is None or theirs.node is None or ours in self.mine.known or theirs in self.reference.known:
            return False
        left, right = self._unpaired(ours.node, theirs.node)
        return not left and not right and bool(ours.node.operands)

    def _mends(self, nodes: list[Node], consumer: Node, value: Value, other: Value) -> bool:
        """Whether the rest is equal once `consumer` is given the reference's `other` in the place of `value`."""
        wanted = self.reference.tensors[self.reference.target]
        for tensor in turned(self.reference.tensors[other], self.mine.tensors[value].shape):
            changed: dict[Value, Tensor] = {}
            try:
                for node in nodes:
                    if node.number < consumer.number:
                        continue
                    inputs = {v: changed.get(v, self.mine.tensors.get(v)) for v in node.operands}
                    if node is consumer:
                        inputs[value] = tensor
                    elif not any(v in changed for v in node.operands):
                        continue
                    changed.update(zip(node.outputs, node.run(inputs), strict=True))
            except (RuntimeError, IndexError, ValueError):
                continue
            made = changed.get(self.mine.target)
            if made is not None and layout_error(made, wanted) <= self.tolerance:
                return True
        return False

    # Two pieces in words

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
        if depth == 0:
            return "what was made of it" if not node.operands else "..."
        if is_move(value) and len(node.operands) == 1:
            part = operators.taken(node)
            whole = self.name(node.operands[0], side, depth)
            return f"{part} of {whole}" if part else whole
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
            return f"the concatenation of {', '.join(inputs)}"
        return f"{words(node)} of {inputs[0]}" if inputs else words(node)

    def ours(self, value: Value) -> str:
        return self.name(value, self.mine)

    def theirs(self, value: Value) -> str:
        return self.name(value, self.reference)

    def compare(self, ours: Value, theirs: Value, depth: int = 0, whole: tuple[Value, Value] | None = None
                ) -> str | None:
        """What is different in how two tensors were made, which go into `whole`."""
        ours, theirs = unchanged(ours), unchanged(theirs)
        if depth > 40:
            return None
        inside = self._way(theirs, self.reference, lambda v: self.equal(ours, v))
        if inside is not None:
            return self._missing(ours, theirs, inside, missing=True)
        inside = self._way(ours, self.mine, lambda v: self.equal(v, theirs))
        if inside is not None:
            return self._missing(theirs, ours, inside, missing=False)
        a = None if ours in self.mine.known else ours.node
        b = None if theirs in self.reference.known else theirs.node
        if a is not None and is_move(ours) or b is not None and is_move(theirs):
            said = self._other_order(ours, theirs)
            if said is not None:
                return said
        if a is None or b is None:
            return self._texts(*(whole or (ours, theirs)))
        single = [is_move(v) and len(v.node.operands) == 1 for v in (ours, theirs)]
        taking = [single[k] and operators.taken(v.node) is not None for k, v in enumerate((ours, theirs))]
        if single[0] and not taking[0]:
            return self.compare(a.operands[0], theirs, depth + 1, whole)
        if single[1] and not taking[1]:
            return self.compare(ours, b.operands[0], depth + 1, whole)
        if taking[0] != taking[1]:
            return self._texts(ours, theirs)
        if taking[0] and taking[1]:
            return self.compare(a.operands[0], b.operands[0], depth + 1, whole)
        said = self._terms(ours, theirs) or self._products(ours, theirs, depth)
        if said is not None:
            return said
        left, right = self._unpaired(a, b)
        if a.name == b.name:
            if left and right:
                if words(a) != words(b):
                    return self._texts(ours, theirs)
                return self.compare(left[0], right[0], depth + 1, (ours, theirs))
            if words(a) != words(b):
                return self._replaced(a, b)
            return self._operands(a, b)
        if not left and not right:
            return self._replaced(a, b)
        factor = self._factor(ours, theirs)
        if factor is not None:
            return (f"a scale is missing or wrong: the reference's values are yours times {factor:.4g}, "
                    f"in {self.ours(ours)}")
        return self._texts(ours, theirs)

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

    def _missing(self, base: Value, top: Value, way: list[Value], missing: bool) -> str | None:
        """`top` is made from what equals `base` by the operators along `way`; they are missing, or too many."""
        side, other = (self.reference, self.mine) if missing else (self.mine, self.reference)
        on = self.name(base, other)
        steps = [v.node for v in way if not is_move(v) and v.node.name not in operators.UNCHANGED]
        if not steps:
            order = self._other_order(base, top) if missing else self._other_order(top, base)
            return order or (f"the reference reorders {on}, and your network does not" if missing
                             else f"your network reorders {on}, and the reference does not")
        if len(steps) > 1:
            full = self.name(top, side)
            return (f"yours is {on}, but the reference's is {full}" if missing
                    else f"yours is {full}, but the reference's is {on}")
        node = steps[0]
        if scalar(node):
            verb, value = scalar(node)
            done = f"takes {on} times {number(value)}" if verb.startswith("mult") else f"adds {number(value)} to {on}"
            what = "scale" if verb.startswith("mult") else "sum"
            return (f"a {what} is missing: the reference {done}" if missing
                    else f"a {what} too many: your network {done}, the reference does not")
        if node.name in SUMS | PRODUCTS and not scalar(node) and (
                len(node.operands) == 1 or len(set(map(unchanged, node.operands))) == 1):
            full = self.name(top, side)
            twice = {"add": f"{on} is added twice (to itself)",
                     "mul": f"{on} is multiplied by itself (squared)"}.get(node.name)
            if twice and len(node.operands) == 2:
                return f"{twice} in {'the reference, not in yours' if missing else 'yours, not in the reference'}"
            return (f"yours is {on}, but the reference's is {full}" if missing
                    else f"yours is {full}, but the reference's is {on}")
        if is_activation(node):
            what = words(node)
            if not missing and on.startswith(what):
                return f"{what} twice: it is applied to {on} once more, but the reference has it once"
            return (f"no activation on {on}, but the reference has {what} there: the activation is missing" if missing
                    else f"{what} on {on}, but the reference has no activation there")
        others = [self.name(v, side) for v in node.operands if v in side.tensors and not self._is(v, base, side)]
        if node.name in SUMS and others:
            minus = node.name in ("sub", "rsub") or node.kwargs.get("alpha", 1) == -1
            verb = "subtracts" if minus else "adds"
            link = "from" if minus else "to"
            if missing:
                kind = "the shortcut" if self._is_anchor(node, side) else "the addition"
                return f"{kind} is missing: the reference {verb} {others[0]} {link} {on}"
            extra = next(v for v in node.operands if v in side.tensors and not self._is(v, base, side))
            if any(self._same_term(extra, v) for v, _ in self._flat_terms(base, other, SUMS)):
                return f"{others[0]} is added twice in yours, once in the reference"
            kind = "a shortcut" if self._is_anchor(node, side) else "an addition"
            done = "subtracted from" if minus else "added to"
            return f"{kind} too many: {others[0]} is {done} {on}, but not in the reference"
        if node.name in PRODUCTS and others:
            whole = self.name(top, side)
            return (f"the multiplication is missing: the reference has {whole}, yours is {on}" if missing
                    else f"a multiplication too many: yours is {whole}, the reference's is {on}")
        what = words(node)
        if node.name == "neg":
            return f"{on} changes its sign (is subtracted) in {'the reference, not in yours' if missing else 'yours, not in the reference'}"
        if node.name in operators.POOLINGS or what.startswith("global"):
            return (f"no pooling of {on}, but the reference has {what} there" if missing
                    else f"{what} of {on}, but the reference has no pooling there")
        return (f"{what} of {on} is missing: the reference has it" if missing
                else f"{what} of {on} is one too many: the reference has none")

    def _same_term(self, ours: Value, theirs: Value) -> bool:
        return self.equal(ours, theirs) or ours in self.mine.names and theirs in self.reference.names and \
            layout_error(self.mine.tensors[ours], self.reference.tensors[theirs]) <= self.tolerance

    def _is(self, value: Value, base: Value, side: Side) -> bool:
        """Whether `value`, on `side`, is what the other side has as `base`."""
        return self.equal(base, value) if side is self.reference else self.equal(value, base)

    def _is_anchor(self, node: Node, side: Side) -> bool:
        return all(isinstance(side.names.get(unchanged(v)), formula.Value) or
                   any(w in (self.mine if side is self.reference else self.reference).known
                       for w in side.matched.get(v, ())) or not is_parameter(v) for v in node.operands)

    def _unpaired(self, a: Node, b: Node) -> tuple[list[Value], list[Value]]:
        """The operands of two nodes that have no equal among the other's; of those left, in their order."""
        left, right = list(a.operands), list(b.operands)
        for v in list(left):
            w = next((w for w in right if self.equal(v, w)), None)
            if w is not None:
                left.remove(v)
                right.remove(w)
        return left, right

    def _replaced(self, a: Node, b: Node) -> str:
        ours, theirs = words(a), words(b)
        if not {a.name, b.name} - SUMS - PRODUCTS - {"maximum", "minimum"} and not (scalar(a) and scalar(b)):
            return self._texts(a.outputs[0], b.outputs[0])
        if scalar(a) and scalar(b):
            return (f"a scale is wrong: {self.ours(a.operands[0])} with {ours}, but in the reference with {theirs}")
        link = "on" if is_activation(a) and is_activation(b) and "softmax" not in (a.name, b.name) else "of"
        base = self.ours(a.operands[0]) if a.operands else "nothing"
        return f"{ours} {link} {base}, but the reference has {theirs} there"

    def _products(self, ours: Value, theirs: Value, depth: int) -> str | None:
        """Two matrix products, scaled before or behind: of which heads, of what, and by how much."""
        mine, reference = operators.unscaled(ours), operators.unscaled(theirs)
        a, b = mine.node, reference.node
        if a is None or b is None or a.name != b.name or a.name not in ("bmm", "mm") or mine in self.mine.known:
            return None
        pairs = list(zip(a.operands, b.operands, strict=True))
        images = self.images
        for v, w in pairs:
            if len(v.shape) == len(w.shape) == 3 and v.shape[0] != w.shape[0] and source_size(v) == source_size(w) and \
                    v.shape[0] % images == w.shape[0] % images == 0:
                heads = [f"{x.shape[0] // images} head{'s' * (x.shape[0] != images)}" for x in (v, w)]
                return f"{heads[0]} in {self.ours(v)}, but the reference has {heads[1]}"
        factors = [self._factor(v, w, turned) for v, w in pairs]
        if None not in factors:
            if self._factor(mine, reference) is None:
                return None
            ratio = self._factor(ours, theirs)
            return None if ratio is None or abs(ratio - 1) <= 1e-6 else (
                f"a scale is missing or wrong: the reference's values are yours times {ratio:.4g}, in "
                f"{self.ours(ours)}")
        if all(self._factor(v, w, turned) is not None for v, w in zip(a.operands, b.operands[::-1], strict=True)):
            return (f"the two factors of a matrix product are exchanged: {self.ours(a.operands[0])} comes first in "
                    "yours, second in the reference (k q^T for q k^T, say)")
        v, w = next(pair for pair, factor in zip(pairs, factors, strict=True) if factor is None)
        said = self._other_order(v, w, scaled=True)
        if said is not None:
            return ("the heads are split in another order: " if " in another order" in said else "") + said
        return self.compare(v, w, depth + 1) if depth < 40 else None

    def _operands(self, a: Node, b: Node) -> str | None:
        """The same operator of the same tensors: in another order, or in another arrangement."""
        partners = {v: next((w for w in b.operands if self.equal(v, w)), None) for v in a.operands}
        for v, w in partners.items():
            if w is not None and v.shape == w.shape and not torch.allclose(
                    self.mine.tensors[v], self.reference.tensors[w], rtol=1e-6, atol=1e-9):
                return self._other_order(v, w) or f"{self.ours(v)} is arranged in another way than in the reference"
        for v, w in zip(a.operands, b.operands, strict=False) if a.name not in COMMUTE else ():
            if not self.equal(v, w):
                return (f"the operands of {words(a)} are exchanged: {', '.join(map(self.ours, a.operands))} in yours, "
                        f"but {', '.join(map(self.theirs, b.operands))} in the reference")
        for v, w in zip(a.operands, b.operands, strict=False):
            if v.shape != w.shape:
                return (f"{words(a)} of {self.ours(v)} as {tuple(v.shape)}, but in the reference as {tuple(w.shape)}")
        return None

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

    def _terms(self, ours: Value, theirs: Value) -> str | None:
        """Two sums (or products) of several terms: which are missing, too many, subtracted or other ones."""
        for kind, noun, join in ((SUMS, "sum", "adds"), (PRODUCTS, "product", "multiplies by")):
            if ours.node.name not in kind and theirs.node.name not in kind or scalar(ours.node) or scalar(theirs.node):
                continue
            left = self._flat_terms(ours, self.mine, kind)
            right = self._flat_terms(theirs, self.reference, kind)
            if len(left) < 2 and len(right) < 2:
                continue
            for v, s in list(left):
                w = next(((w, t) for w, t in right if t == s and self.equal(v, w)), None)
                if w is not None:
                    left.remove((v, s))
                    right.remove(w)
            turned_round = [v for v, s in left if any(t != s and self.equal(v, w) for w, t in right)]
            if turned_round and len(left) == len(right) == 1:
                verb = "subtracted" if noun == "sum" else "a divisor"
                mine = left[0][1] < 0
                return (f"{self.ours(turned_round[0])} is {verb} {'in yours, not in the reference' if mine else 'in the reference, not in yours'}")
            if len(left) == len(right) > 0 and ours.node.name in kind and theirs.node.name in kind:
                alike = [(v, w) for v, _ in left for w, _ in right if self._same_operands(v, w)]
                v, w = (alike or [(left[0][0], right[0][0])])[0]
                if noun == "sum" and unchanged(v) in self.mine.known and unchanged(w) in self.reference.known:
                    return f"the shortcut adds {self.ours(v)}, but in the reference {self.theirs(w)}"
                return self.compare(v, w, 1, (ours, theirs))
            if not left and right:
                listed = " and ".join(self.theirs(v) for v, _ in right)
                twice = any(self.equal(v, right[0][0]) for v, _ in self._flat_terms(ours, self.mine, kind))
                again = " once more" if twice else ""
                what = "shortcut" if noun == "sum" else "multiplication"
                return f"the {what} is missing: the reference {join} {listed}{again}"
            if not right and left:
                listed = " and ".join(self.ours(v) for v, _ in left)
                twice = any(self.equal(left[0][0], w) for w, _ in self._flat_terms(theirs, self.reference, kind))
                if twice:
                    return f"{listed} is {'added' if noun == 'sum' else 'multiplied'} twice in yours, once in the reference"
                what = "a shortcut" if noun == "sum" else "a multiplication"
                return f"{what} too many: your network {join} {listed}, the reference does not"
            return None
        return None

    def _other_order(self, ours: Value, theirs: Value, scaled: bool = False) -> str | None:
        """Two tensors that only move elements of equal sources: in which order, and which ones."""
        a = origin(ours, set(self.mine.matched), scaled)
        b = origin(theirs, set(self.reference.matched), scaled)
        if a is None or b is None:
            return None
        if len(a.sources) != len(b.sources):  # one of the two may itself be what the other is made of
            if self.equal(ours, b.sources[0]) and len(b.sources) == 1:
                a = Origin([ours], torch.arange(source_size(ours)).view(ours.shape))
            elif self.equal(a.sources[0], theirs) and len(a.sources) == 1:
                b = Origin([theirs], torch.arange(source_size(theirs)).view(theirs.shape))
        pairs = []
        rest = list(b.sources)
        for v in a.sources:
            w = next((w for w in rest if self.equal(v, w)), None)
            if w is None:
                break
            rest.remove(w)
            pairs.append((v, w))
        else:
            if not rest:
                return self._orders(a, b, pairs, (ours, theirs))
        left = [v for v in a.sources if not any(self.equal(v, w) for w in b.sources)]
        if len(a.sources) == len(b.sources) > 1 and len(left) == len(rest) >= 1:
            return self.compare(left[0], rest[0], 1)
        if len(a.sources) != len(b.sources):
            ours_words, theirs_words = (", ".join(map(name, o.sources)) for name, o in ((self.ours, a), (self.theirs, b)))
            joined = "the concatenation of "
            for which, o, size in (("yours", a, ours), ("the reference's", b, theirs)):
                if len(o.sources) == 1 and torch.Size(size.shape).numel() > source_size(o.sources[0]):
                    name = self.ours(o.sources[0]) if o is a else self.theirs(o.sources[0])
                    whole = theirs_words if o is a else ours_words
                    other = "the reference's" if o is a else "yours"
                    return f"{which} is {name} more than once, as of a branch that is concatenated twice, but " \
                           f"{other} is the concatenation of {whole}"
            return f"yours is {joined if len(a.sources) > 1 else ''}{ours_words}, but the reference's is " \
                   f"{joined if len(b.sources) > 1 else ''}{theirs_words}"
        return None

    def _orders(self, a, b, pairs: list[tuple[Value, Value]], values: tuple[Value, Value]) -> str | None:
        """The same sources, moved in two ways."""
        if len(pairs) > 1 and a.index.shape != b.index.shape:
            listed = ", ".join(self._branch(v) for v, _ in pairs)
            return (f"{listed} are put together along another axis: {tuple(a.index.shape)} here, but the reference has "
                    f"{tuple(b.index.shape)}")
        if len(pairs) > 1:
            said = self._concatenation(a, b, dict(pairs))
            if said is not None:
                return said
        if len(pairs) != 1:
            return "the same tensors are put together in another order"
        source = pairs[0][0]
        on = self.ours(source)
        if source.shape != pairs[0][1].shape:  # one network has it in another layout
            index = torch.arange(a.index.max() + 1)
            moved = next((m for m in arrangements(torch.arange(source_size(pairs[0][1])).double().reshape(
                pairs[0][1].shape), source.shape)), None)
            if moved is None or len(index) == 0:
                return None
            a.index = torch.where(a.index < 0, a.index, moved.flatten().long()[a.index.clamp(min=0)])
            a.sources = [pairs[0][1]]
            source = pairs[0][1]
        if a.index.numel() == b.index.numel() and torch.equal(a.index.flatten(), b.index.flatten()):
            return None if a.index.shape == b.index.shape else \
                f"{tuple(a.index.shape)} here, but the reference has {tuple(b.index.shape)}, both made from {on}"
        moved = [rolled(o.index, source.shape) for o in (a, b)]
        if moved[0] != moved[1]:
            return (f"{on} is {moved[0]} in yours, but {moved[1] or 'not'} in the reference" if moved[0] else
                    f"{on} is {moved[1]} in the reference, but not in yours")
        if (a.index < 0).any() or (b.index < 0).any():
            return self._padding(a, b, on, values)
        count = source.shape[1] if len(source.shape) > 1 else 0
        of_heads = source.node is not None and source.node.name == "bmm" and source.shape[0] > self.images
        if source.node is not None and source.node.name in operators.MATRIX_PRODUCTS and len(source.shape) > 1:
            flat = torch.arange(source_size(source)).view(source.shape).transpose(-1, -2).flatten()
            if {True} == {torch.equal(x.flatten().sort().values, flat.sort().values) for x in (a.index, b.index)} and \
                    torch.equal(_turn(a.index), b.index.flatten()):
                return (f"the matrix product is transposed, as where its two factors are exchanged (k q^T for q k^T): "
                        f"{on}")
        channels = [channel_map(o, count) for o in (a, b)]
        if None not in channels:
            found = [name_channels(order, count) for order in channels]
            return _channel_words(channels, found, on, count)
        part = same_part(a.index, b.index, source.shape)
        if part is not None:
            return f"{part[0]} of {on} stands where the reference takes {part[1]}"
        described = [describe_axes(o.index, source.shape) for o in (a, b)]
        shape = tuple(source.shape)
        if None not in described and described[0] != described[1]:
            lead = "the heads are put together in another order: " if of_heads else ""
            return (f"{lead}the elements of {on}, {shape}, are in another order: {described[0]} in yours, "
                    f"but {described[1]} in the reference")
        if {a.index.numel(), b.index.numel()} - {source_size(source)} and source_size(source) < max(
                a.index.numel(), b.index.numel()) and a.index.dim() == b.index.dim() == len(shape):
            padded = a.index.numel() > b.index.numel()
            how = self._padded(values[0] if padded else values[1])
            return (f"{on} is padded{how} to {tuple((a if padded else b).index.shape)} in "
                    f"{'your network' if padded else 'the reference'}, but not in "
                    f"{'the reference' if padded else 'yours'}")
        if a.index.numel() != b.index.numel():
            return (f"{tuple(a.index.shape)} of {on}, {shape}, but the reference takes {tuple(b.index.shape)} of it")
        return f"the elements of {on}, {shape}, are in another order than in the reference"

    def _padded(self, value: Value) -> str:
        """How the operators that only move pad on the way to a value."""
        while is_move(value) or value.node is not None and value.node.name in operators.UNCHANGED:
            how = operators.padding_words(value.node)
            if how:
                return f" {how}"
            value = value.node.operands[0]
        return ""

    def _padding(self, a, b, on: str, values: tuple[Value, Value]) -> str:
        how = [self._padded(value) for value in values]
        share = [(o.index < 0).float().mean().item() for o in (a, b)]
        sizes = [tuple(o.index.shape) for o in (a, b)]
        if sizes[0] != sizes[1] and 0 in share:
            padded = sizes[0] if share[0] else sizes[1]
            return (f"{on} is padded{how[0] or how[1]} to {padded} in "
                    f"{'your network' if share[0] else 'the reference'}, "
                    f"but not in {'the reference' if share[0] else 'yours'}")
        if share[0] == 0 or share[1] == 0:
            return (f"{on} is padded{how[0] or how[1]} in {'your network' if share[0] else 'the reference'}, "
                    f"but not in {'the reference' if share[0] else 'yours'}")
        return f"{on} is padded in another way than in the reference: " \
               f"{tuple(a.index.shape)} in yours, {tuple(b.index.shape)} in the reference"

    def _concatenation(self, a, b, partner: dict[Value, Value]) -> str | None:
        """Several sources: in another order, or through another shuffle."""
        order = [list(dict.fromkeys(_source_of(o).tolist())) for o in (a, b)]
        back = {w: v for v, w in partner.items()}
        names = [[self._branch(a.sources[k]) for k in order[0] if k >= 0],
                 [self._branch(back[b.sources[k]]) for k in order[1] if k >= 0]]
        maps = []
        for o in (a, b):
            maps.append(_joint_channels(o, [partner.get(s, s) for s in o.sources], b.sources))
        if None not in maps:
            count = sum(s.shape[1] for s in b.sources)
            found = [name_channels(m, count) for m in maps]
            if None not in found and found[0] != found[1] and any("shuffle" in f for f in found):
                return _channel_words(maps, found, "the concatenated branches", count)
            # The reference's order, undone: what is yours in its terms?
        if names[0] != names[1]:
            return (f"the branches are concatenated (or called) in another order: {', '.join(names[0])} in yours, "
                    f"but {', '.join(names[1])} in the reference")
        if None not in maps:
            count = sum(s.shape[1] for s in b.sources)
            found = [name_channels(m, count) for m in maps]
            return _channel_words(maps, found, "the concatenated branches", count)
        return None

    def _branch(self, value: Value) -> str:
        """What a branch is called by: the layer that it ends in, if only an activation follows."""
        at = unchanged(value)
        while at not in self.mine.known and at.node is not None and is_activation(at.node):
            at = unchanged(at.node.operands[0])
        name = self.mine.names.get(at)
        passing = unmoved(value)
        if passing not in self.mine.names and passing.node is not None and passing.node.name == "cat":
            return "the other branch"
        return f"`{name.layer}`" if isinstance(name, formula.Value) and name.is_output else self.ours(value)

    def _texts(self, ours: Value, theirs: Value) -> str:
        return f"yours is {self.ours(ours)}, but the reference's is {self.theirs(theirs)}"


def _spell_out(mine: list[Node], reference: list[Node]) -> None:
    """Where only one side has a norm as one operator, it becomes its formula there."""
    for name in ("native_layer_norm", "native_batch_norm"):
        sides = [[node for node in nodes if node.name == name] for nodes in (mine, reference)]
        if bool(sides[0]) == bool(sides[1]):
            continue
        for node in sides[0] or sides[1]:
            made = as_formula(node)
            if made is not None:
                node.outputs[0].node = made[-1]


def _turn(index: Tensor) -> Tensor:
    return index.transpose(-1, -2).flatten() if index.dim() > 1 else index


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


def _source_of(found) -> Tensor:
    """For each element, in order, which source it comes from; -1 is padding."""
    ends = torch.tensor([source_size(s) for s in found.sources]).cumsum(0)
    which = torch.bucketize(found.index.flatten(), ends, right=True)
    return torch.where(found.index.flatten() < 0, -1, which)


def _joint_channels(found, sources: list[Value], order: list[Value]) -> list[int] | None:
    """The channels, where the sources stand behind one another in `order`; None when more than channels moved."""
    index = found.index
    if index.dim() < 2 or any(len(s.shape) != index.dim() or s.shape[2:] != index.shape[2:] for s in sources):
        return None
    starts = torch.tensor([0] + [source_size(s) for s in found.sources]).cumsum(0)
    inner = torch.Size(index.shape[2:]).numel()
    first = index[0].reshape(index.shape[1], -1)[:, 0].contiguous()
    which = torch.bucketize(first, starts[1:], right=True)
    if (first < 0).any() or (which >= len(sources)).any():
        return None
    before, total = {}, 0
    for s in order:
        before[s] = total
        total += s.shape[1]
    return [before[sources[w]] + int((f - starts[w]) // inner)
            for f, w in zip(first.tolist(), which.tolist(), strict=True)]


def _part(name: str) -> str:
    """Which of the channels a name of `name_channels` says: "the first half of the channels", or ""."""
    return "" if name.startswith("a channel shuffle") or name == "the channels in their order" else name.split(" after ")[0]


def _groups(name: str | None) -> int | None:
    if name is None:
        return None
    if "shuffle with" not in name:
        return 1
    return int(name.split("shuffle with ")[1].split(" ")[0])


def _channel_words(maps: list[list[int]], names: list[str | None], on: str, count: int) -> str:
    """Two orders of the channels of one tensor."""
    ours, theirs = names
    groups = [_groups(name) for name in names]
    if None not in groups and groups[0] != groups[1] and _part(ours) == _part(theirs):
        if groups[0] == 1:
            return f"the channel shuffle is missing: the reference shuffles the channels with {groups[1]} groups"
        if groups[1] == 1:
            return f"a channel shuffle with {groups[0]} groups, which the reference does not have"
        also = ""
        if groups[0] * groups[1] == count:
            also = " (the transposed one: view and transpose in the other order)"
        return f"a channel shuffle with {groups[0]} groups, but the reference's has {groups[1]} groups{also}"
    if {ours, theirs} == {"the first half of the channels", "the second half of the channels"}:
        return f"the halves are exchanged: yours is {ours} of {on}, but the reference's is {theirs}"
    if ours is None and theirs is None:
        return f"the channels of {on} are in another order than in the reference, which no usual shuffle explains"
    words_of = [name or "another order of the channels" for name in names]
    return f"{words_of[0]} of {on}, but in the reference {words_of[1]}"
