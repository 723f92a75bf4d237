"""Between two layers: the operators of both networks side by side, and the first in which they part.

Both tensors that differ are computed again, operator by operator, from tensors that are still equal. What both
networks compute is matched by its numbers, whatever it is called and however it is arranged. What is left is
compared from the inside out: the smallest piece of the learner's network whose exchange for a piece of the
reference's makes the rest equal is the mistake, and the operators in it say what it is.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

from lwcourse.compare import formula, operators
from lwcourse.compare.between import Parting
from lwcourse.compare.graph import Node, Value
from lwcourse.compare.layouts import layout_error, turned
from lwcourse.compare.matched import is_parameter, source_size
from lwcourse.compare.moves import origin
from lwcourse.compare.operators import (
    PRODUCTS,
    SUMS,
    is_activation,
    is_factor,
    is_move,
    number,
    scalar,
    unchanged,
    words,
)
from lwcourse.compare.order import COMMUTE
from lwcourse.compare.patterns import Patterns

MOST_TRIES = 160
SIMPLE = {"add", "mul", "mean", "amax", *operators.POOLINGS}  # what a `Formula` can say


class Parted(Patterns):
    """The mistake between two tensors that differ, in words."""

    def read(self, parting: Parting) -> Parting | None:
        """The same two tensors, to be explained from what lies right behind them, where both are simple enough."""
        names, values = [], []
        for side in (self.mine, self.reference):
            stops = side.known - {side.target}
            if any(n.name == "repeat" for n in side.nodes(stops)):
                return None  # a map that is tiled is no map that only lies elsewhere
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

    def cause(self) -> str | None:
        """The mistake in words; None when nothing can be said."""
        whole = unchanged(self.mine.target), unchanged(self.reference.target)
        if self._way(whole[1], self.reference, lambda v: self.equal(whole[0], v)) or \
                self._way(whole[0], self.mine, lambda v: self.equal(v, whole[1])):
            return self.compare(*whole)
        said = self._patterns()
        if said is not None:
            return said
        for ours, theirs, user in self._pieces():
            if user is not None and user.name in SUMS and ours in self.mine.known and theirs in self.reference.known:
                twice = " (which is so added to itself)" if len(set(map(unchanged, user.operands))) == 1 else ""
                return f"the shortcut adds {self.ours(ours)}{twice}, but in the reference {self.theirs(theirs)}"
            said = self._instead(ours, theirs, user) or self._in_steps(ours, theirs, user) or self.compare(ours, theirs)
            if said:
                return said
        return None

    def _pieces(self) -> Iterator[tuple[Value, Value, Node | None]]:
        nodes, others = self.relevant
        inner = {v for node in nodes for v in node.outputs}
        edges = [(node, v) for node in nodes for v in dict.fromkeys(node.operands)
                 if node.name not in operators.MOVES | operators.UNCHANGED or len(node.operands) > 1]  # see its user
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
                    if node.name in ("maximum", "minimum") and any(self.equal(v, other) for v in node.operands):
                        continue  # the larger of one tensor and itself: then the maximum is too much, not what it reads
                    tries += 1
                    if tries > MOST_TRIES:
                        break
                    if self._mends(nodes, node, value, other):
                        yield value, other, node
        yield self.mine.target, self.reference.target, None

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

    def compare(self, ours: Value, theirs: Value, depth: int = 0, whole: tuple[Value, Value] | None = None
                ) -> str | None:
        """What is different in how two tensors were made, which go into `whole`."""
        ours, theirs = unchanged(ours), unchanged(theirs)
        if depth > 40 or ours not in self.mine.tensors or theirs not in self.reference.tensors:
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
        if (a.name == "repeat") != (b.name == "repeat"):
            said = self._texts(ours, theirs)
            if said:
                return said
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
                return self._in_steps(left[0], right[0], a) or \
                    self.compare(left[0], right[0], depth + 1, (ours, theirs))
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

    def _missing(self, base: Value, top: Value, way: list[Value], missing: bool) -> str | None:
        """`top` is made from what equals `base` by the operators along `way`; they are missing, or too many."""
        side, other = (self.reference, self.mine) if missing else (self.mine, self.reference)
        on = self.name(base, other)
        steps = [v.node for v in way if not is_move(v)
                 and (v.node.name not in operators.UNCHANGED or operators.rounds(v.node))]
        steps = steps[:1] if steps and all(map(operators.rounds, steps)) else steps
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
            before = unchanged(base).node
            if not missing and not on.startswith(what) and before is not None and is_activation(before) and \
                    before.name != "softmax" and base not in other.known:
                return f"{what} on {on}, but the reference has no activation there beyond that {words(before)}"
            if not missing and on.startswith(what):
                return f"{what} twice: it is applied to {on} once more, but the reference has it once"
            moved = next((n for n in self.relevant[0] if words(n) == what and n.operands), None) if missing else None
            if moved is not None and not self.equal(moved.operands[0], base):
                way = self._way(moved.operands[0], self.mine, lambda v: unchanged(v) is unchanged(base)) or []
                passed = [v.node for v in way if not is_move(v) and v.node.name not in operators.UNCHANGED]
                if passed:
                    between = " and ".join(words(n) for n in passed[::-1])
                    return f"{what} stands after {between} in yours, but in the reference before it, on {on}"
                return (f"{what} stands at another place: the reference has it on {on}, your network on "
                        f"{self.ours(moved.operands[0])}")
            return (f"no activation on {on}, but the reference has {what} there: the activation is missing" if missing
                    else f"{what} on {on}, but the reference has no activation there")
        others = [self.name(v, side) for v in node.operands if v in side.tensors and not self._is(v, base, side)]
        if node.name in SUMS and others:
            minus = node.name in ("sub", "rsub") or node.kwargs.get("alpha", 1) == -1
            verb = "subtracts" if minus else "adds"
            link = "from" if minus else "to"
            data = not all(self._of_parameters(v) for v in node.operands if not self._is(v, base, side))
            if missing:
                kind = "the shortcut" if self._is_anchor(node, side) and data else "the addition"
                return f"{kind} is missing: the reference {verb} {others[0]} {link} {on}"
            extra = next(v for v in node.operands if v in side.tensors and not self._is(v, base, side))
            if any(self._same_term(extra, v) for v, _ in self._flat_terms(base, other, SUMS)):
                return f"{others[0]} is added twice in yours, once in the reference"
            kind = "a shortcut" if self._is_anchor(node, side) and data else "an addition"
            done = "subtracted from" if minus else "added to"
            return f"{kind} too many: {others[0]} is {done} {on}, but not in the reference"
        if node.name in PRODUCTS and others:
            whole = self.name(top, side)
            if "normalised to length 1" in whole:
                return (f"the reference has {whole}, yours {on} as it is" if missing
                        else f"yours is {whole}, but the reference's is {on} as it is")
            return (f"the multiplication is missing: the reference has {whole}, yours is {on}" if missing
                    else f"a multiplication too many: yours is {whole}, the reference's is {on}")
        what = words(node)
        if node.name in ("maximum", "minimum") and others:
            return (f"the reference has the {node.name} of {on} and {others[0]}, yours is {on}" if missing
                    else f"yours is the {node.name} of {on} and {others[0]}, but the reference's is {on}")
        if node.name == "neg":
            where = "the reference, not in yours" if missing else "yours, not in the reference"
            return f"{on} changes its sign (is subtracted) in {where}"
        if node.name in operators.POOLINGS or what.startswith("global"):
            return (f"no pooling of {on}, but the reference has {what} there" if missing
                    else f"{what} of {on}, but the reference has no pooling there")
        return (f"{what} of {on} is missing: the reference has it" if missing
                else f"{what} of {on} is one too many: the reference has none")

    def _replaced(self, a: Node, b: Node) -> str:
        ours, theirs = words(a), words(b)
        if not {a.name, b.name} - SUMS - PRODUCTS - {"maximum", "minimum"} and not (scalar(a) and scalar(b)):
            return self._texts(a.outputs[0], b.outputs[0])
        if bool(scalar(a)) != bool(scalar(b)):
            return self._texts(a.outputs[0], b.outputs[0])
        if scalar(a) and scalar(b) and not is_factor(a) and not is_factor(b):
            added = [number(scalar(node)[1]) for node in (a, b)]
            return f"{added[0]} is added to {self.ours(a.operands[0])}, but in the reference {added[1]}"
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
        behind = origin(pairs[0][0], self.mine.known, scaled=True)
        whole = behind.sources[0].shape if behind is not None and len(behind.sources) == 1 else ()
        images = whole[0] if len(whole) >= 3 else self.images  # MobileViT folds its patches into the batch
        for v, w in pairs:
            if len(v.shape) == len(w.shape) == 3 and v.shape[0] != w.shape[0] and source_size(v) == source_size(w) and \
                    {v.shape[1], v.shape[2]} & {w.shape[1], w.shape[2]} and \
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
            if not left and not right:
                other = next(((v, w) for v, _ in self._flat_terms(ours, self.mine, kind)
                              for w, _ in self._flat_terms(theirs, self.reference, kind)
                              if self.equal(v, w) and len(v.shape) == len(w.shape) and v.shape != w.shape), None)
                return None if other is None else (
                    f"{self.ours(other[0])} lies along other axes: {other[0].shape} in yours, {other[1].shape} in the "
                    "reference, as when two branches are exchanged")
            turned_round = [v for v, s in left if any(t != s and self.equal(v, w) for w, t in right)]
            if turned_round and len(left) == len(right) == 1:
                verb = "subtracted" if noun == "sum" else "a divisor"
                mine = left[0][1] < 0
                where = "in yours, not in the reference" if mine else "in the reference, not in yours"
                return f"{self.ours(turned_round[0])} is {verb} {where}"
            if len(left) == len(right) > 0 and ours.node.name in kind and theirs.node.name in kind:
                alike = [(v, w) for v, _ in left for w, _ in right if self._same_operands(v, w)]
                v, w = (alike or [(left[0][0], right[0][0])])[0]
                if noun == "sum" and unchanged(v) in self.mine.known and unchanged(w) in self.reference.known:
                    both = [u for u, _ in self._flat_terms(ours, self.mine, kind)]
                    twice = " (twice, so to itself)" if both.count(unchanged(v)) > 1 else ""
                    return f"the shortcut adds {self.ours(v)}{twice}, but in the reference {self.theirs(w)}"
                signs = [dict(left)[v], dict(right)[w]]
                if noun == "product" and signs[0] != signs[1]:
                    verbs = ["multiplies by" if sign > 0 else "divides by" for sign in signs]
                    return f"your network {verbs[0]} {self.ours(v)}, but the reference {verbs[1]} {self.theirs(w)}"
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
                    done = "added" if noun == "sum" else "multiplied"
                    return f"{listed} is {done} twice in yours, once in the reference"
                what = "a shortcut" if noun == "sum" else "a multiplication"
                return f"{what} too many: your network {join} {listed}, the reference does not"
            return None
        return None
