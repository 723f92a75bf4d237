"""Mistakes that are about several operators at once: two exchanged, one on each term instead of the sum, q, k and v
taken in another order, one enlargement in several steps."""
import torch
from torch import Tensor

from lwcourse.compare import operators
from lwcourse.compare.graph import Node, Value
from lwcourse.compare.matched import Side
from lwcourse.compare.moves import origin
from lwcourse.compare.operators import (
    MATRIX_PRODUCTS,
    PRODUCTS,
    SUMS,
    arguments,
    is_activation,
    is_factor,
    is_move,
    number,
    scalar,
    unchanged,
    unmoved,
    unscaled,
    words,
)
from lwcourse.compare.reordered import Reordered

LONGEST_CHAIN = 30
LINEAR = {"mean", "sum", "cumsum", "neg", "avg_pool2d", "avg_pool1d", "adaptive_avg_pool2d", "upsample_nearest2d",
          "upsample_bilinear2d", "upsample_bicubic2d"}


class Patterns(Reordered):
    """What can be said of two tensors by the operators in a row from what is equal up to them."""

    def _patterns(self) -> str | None:
        said = self._attention_order()
        if said is not None:
            return said
        chains = [self._chain(side) for side in (self.mine, self.reference)]
        shared = 0
        while shared < min(len(links) for links, _ in chains) and self._same_link(*(c[0][shared] for c in chains)):
            shared += 1
        rests = [links[shared:] for links, _ in chains]
        said = self._exchanged(*rests, *(base for _, base in chains))
        if said is not None:
            return said
        ends = [rest[0].outputs[0] if rest else chain[1] for rest, chain in zip(rests, chains, strict=True)]
        return self._on_each(*ends)

    # Operators in a row

    def _chain(self, side: Side) -> tuple[list[Node], Value]:
        """The operators that compute, from the target down to the first tensor that both have, and that tensor.

        Where an operator takes two tensors that only this network has, the chain ends.
        """
        links: list[Node] = []
        value = unmoved(side.target)
        while len(links) < LONGEST_CHAIN and value.node is not None and value not in side.known and (
                value not in side.matched or value is unmoved(side.target)):
            own = [v for v in value.node.operands if v not in side.matched and unmoved(v) not in side.matched]
            if len(own) > 1 or not value.node.operands:
                break
            links.append(value.node)
            data = [v for v in value.node.operands if not self._of_parameters(v)] or value.node.operands
            value = unmoved((own or data)[0])
        return links, value

    def _of_parameters(self, value: Value) -> bool:
        """Whether a tensor is made of parameters and constants alone, as a table of biases is."""
        side = self.mine if value in self.mine.tensors else self.reference
        waiting, count = [value], 0
        while waiting and count < 40:
            one = waiting.pop()
            count += 1
            if one in side.known:
                return False
            waiting += one.node.operands if one.node is not None else []
        return not waiting

    def _others(self, node: Node, side: Side) -> list[Value]:
        """What an operator takes besides the tensor that goes through it; the reference's, where both have it."""
        through = self._through(node, side)
        found = []
        for v in node.operands:
            if v is through:
                continue
            pair = next(iter(side.matched.get(v, ())), v)
            found.append(pair if side is self.mine else next(iter(self.mine.matched.get(pair, ())), v))
        return found

    def _through(self, node: Node, side: Side) -> Value | None:
        own = [v for v in node.operands if v not in side.matched and unmoved(v) not in side.matched]
        data = [v for v in node.operands if not self._of_parameters(v)] or node.operands
        return next(iter(own or data), None)

    def _same_link(self, a: Node, b: Node) -> bool:
        if scalar(a) and scalar(b):
            return scalar(a)[0] == scalar(b)[0]
        return words(a) == words(b) and self._others(a, self.mine) == self._others(b, self.reference)

    def _exchanged(self, ours: list[Node], theirs: list[Node], base: Value, other: Value) -> str | None:
        """The same operators on the same tensor, one of them at another place among them."""
        if len(ours) != len(theirs) or len(ours) < 2 or not (self.equal(base, other) or self._same_term(base, other)):
            return None
        while ours and self._same_link(ours[-1], theirs[-1]):
            ours, theirs = ours[:-1], theirs[:-1]
        order = sorted(range(len(ours)), key=lambda k: not is_activation(ours[k]))
        for k in order:
            rest = ours[:k] + ours[k + 1:]
            j = next((j for j in range(len(theirs)) if j != k and self._same_link(ours[k], theirs[j]) and all(
                self._same_link(a, b) for a, b in zip(rest, theirs[:j] + theirs[j + 1:], strict=True))), None)
            if j is None:
                continue
            passed = ours[k + 1:j + 1] if j > k else ours[j:k]  # the first in the list is the last to run
            if all(map(_is_linear, [ours[k], *passed])):
                continue  # these may be exchanged: what differs is something else
            between = " and ".join(self._link_words(n, self.mine) for n in passed[::-1])
            places = ("after", "before") if j > k else ("before", "after")
            changed = [number(scalar(n)[1]) for n in (ours[k], theirs[j])] if scalar(ours[k]) else []
            also = f" ({changed[0]} in yours, {changed[1]} in the reference)" if len(set(changed)) == 2 else ""
            root = any(n.name in ("sqrt", "rsqrt") for n in passed) and not is_activation(ours[k])
            eps = " (eps)" if root and scalar(ours[k]) and not is_factor(ours[k]) else ""
            return (f"{self._link_words(ours[k], self.mine)}{eps} stands {places[0]} {between} in yours, but in the "
                    f"reference {places[1]} it{also}")
        return None

    def _link_words(self, node: Node, side: Side) -> str:
        if scalar(node):
            verb, value = scalar(node)
            return f"the {verb} {number(value)}"
        through = self._through(node, side)
        others = [v for v in node.operands if v is not through]
        if node.name in SUMS | PRODUCTS and others:
            verb = "addition of" if node.name in SUMS else "multiplication with"
            bias = "the bias " if node.name in SUMS and self._of_parameters(others[0]) else ""
            return f"the {verb} {bias}{self.name(unmoved(others[0]), side, 1)}"
        return words(node)

    def _on_each(self, ours: Value, theirs: Value) -> str | None:
        """An activation on each term of a sum, where the other network has it on the sum; or the other way round."""
        for outer, inner, sides, places in (
                (theirs, ours, (self.reference, self.mine), ("before the addition", "after it, on the sum")),
                (ours, theirs, (self.mine, self.reference), ("after the addition, on the sum", "before it, on each"))):
            outer, inner = unmoved(outer), unmoved(inner)
            if outer.node is None or inner.node is None or not is_activation(outer.node) or inner.node.name not in SUMS:
                continue
            terms = [self._flat_terms(outer.node.operands[0], sides[0], SUMS), self._flat_terms(inner, sides[1], SUMS)]
            what = words(outer.node)
            active = [unchanged(v) for v, _ in terms[1]]
            if len(terms[0]) != len(active) or len(active) < 2 or not all(
                    v.node is not None and words(v.node) == what for v in active):
                continue
            bare = [v.node.operands[0] for v in active]
            if all(any(self._is(v, w, sides[1]) for w, _ in terms[0]) for v in bare):
                each = "on each of the terms " if inner is unmoved(ours) else ""
                return f"{what} {each}{places[0]}, but in the reference {places[1]}"
        return None

    def _in_steps(self, ours: Value, theirs: Value, user: Node | None) -> str | None:
        """What the reference does at once, such as an enlargement, is done in several steps; or the other way round."""
        if user is None or user.name not in operators.POOLINGS:
            return None
        for top, base, side, who in ((ours, theirs, self.mine, ("yours", "the reference")),
                                     (theirs, ours, self.reference, ("the reference", "yours"))):
            way = self._way(top, side, lambda v, base=base, side=side: self._is(v, base, side)) or []
            steps = [v.node for v in way if not is_move(v) and v.node.name not in operators.UNCHANGED]
            if steps and all(n.name == user.name for n in steps):
                sizes = ", then ".join("x".join(map(str, n.outputs[0].shape[2:])) for n in steps[::-1])
                kind = words(user).split(" to ")[0].split(" (")[0]
                on = self.name(base, self.reference if side is self.mine else self.mine)
                count = {2: "two", 3: "three"}.get(len(steps) + 1, len(steps) + 1)
                return (f"{kind} of {on} in {count} steps in {who[0]} (first to {sizes}), at once in "
                        f"{who[1]}")
        return None

    # Attention

    def _attention_order(self) -> str | None:
        """Which of q, k and v comes first in the tensor that they are taken from."""
        found = [self._roles(side) for side in (self.mine, self.reference)]
        for (axis, ours), (other, theirs) in zip(*found, strict=False):
            if axis != other:
                continue  # then it is the softmax that differs
            roles = [r for r in ours if r in theirs and self._same_term(ours[r][0], theirs[r][0])]
            for source in dict.fromkeys(ours[r][0] for r in roles):
                shared = [r for r in roles if ours[r][0] is source and
                          all(theirs[r][0] is theirs[s][0] for s in roles if ours[s][0] is source)]
                orders = [sorted(shared, key=lambda r, side=side: int(side[r][1][0])) for side in (ours, theirs)]
                taken = [torch.cat([side[r][1] for r in shared]) for side in (ours, theirs)] if shared else []
                whole = all(len(t.unique()) == len(t) for t in taken) and len(taken) == 2 and torch.equal(
                    *(t.sort().values for t in taken))  # the same elements in all, and none of them twice
                if len(shared) > 1 and whole and orders[0] != orders[1]:
                    listed = [", ".join(order) for order in orders]
                    which = f"{', '.join(shared[:-1])} and {shared[-1]}"
                    return (f"{which} stand in another order in {self.ours(source)}: it is split into {listed[0]} in "
                            f"yours, but into {listed[1]} in the reference")
        return None

    def _roles(self, side: Side) -> list[tuple[int, dict[str, tuple[Value, Tensor]]]]:
        """For each attention, from the first on: the softmax's axis, counted from the last, and what q, k and v are
        taken from, with which elements of it."""
        nodes = side.nodes(side.known)
        found = []
        for node in nodes:
            if node.name != "softmax":
                continue
            product, flipped = _scores(node)
            values = next((n for n in nodes if n.name in MATRIX_PRODUCTS and
                           any(unscaled(v) is node.outputs[0] for v in n.operands[-2:])), None)
            if product is None or values is None:
                continue
            q, k = product.operands[-2:][::-1] if flipped else product.operands[-2:]
            v = next((v for v in values.operands[-2:] if unscaled(v) is not node.outputs[0]), None)
            roles = {}
            for name, value in (("q", q), ("k", k), ("v", v)):
                behind = origin(value, side.known, scaled=True) if value is not None else None
                if behind is not None and len(behind.sources) == 1 and (behind.index >= 0).all() and \
                        len(behind.sources[0].shape) > 1:
                    roles[name] = behind.sources[0], behind.index.flatten().unique()
            found.append((arguments(node)["dim"] % len(node.operands[0].shape) - len(node.operands[0].shape), roles))
        return found


def _is_linear(node: Node) -> bool:
    return is_factor(node) or node.name in LINEAR


def _scores(softmax: Node) -> tuple[Node | None, bool]:
    """The matrix product of queries and keys behind a softmax; and whether the keys come first in it."""
    value = softmax.operands[0]
    flipped = arguments(softmax)["dim"] % len(value.shape) != len(value.shape) - 1
    for _ in range(12):
        node = value.node
        if node is None or not node.operands:
            return None, False
        if node.name in MATRIX_PRODUCTS:
            return node, flipped
        if node.name in ("transpose", "t", "permute"):
            rank = len(value.shape)
            a = arguments(node)
            dims = a.get("dims") or [rank - 1 if rank - 1 not in (a.get("dim0", 0) % rank, a.get("dim1", 1) % rank)
                                     else 0]
            flipped ^= dims[-1] % rank != rank - 1
        # Of a sum, the term that has a matrix product behind it; the other is a table of biases or a mask.
        value = next((v for v in node.operands if len(node.operands) == 1 or _scores_near(v)), node.operands[0])
    return None, False


def _scores_near(value: Value) -> bool:
    at = unscaled(value)
    return at.node is not None and at.node.name in MATRIX_PRODUCTS
