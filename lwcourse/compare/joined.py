"""Concatenations part by part: in another order, a part lost, twice or in another's place, or one that differs."""
from collections import Counter
from dataclasses import dataclass

import torch

from lwcourse.compare import formula, operators
from lwcourse.compare.graph import Node, Value
from lwcourse.compare.matched import Matched, Side
from lwcourse.compare.moves import Origin, name_channels, origin
from lwcourse.compare.operators import is_activation, is_move, ordinal, unchanged, unmoved

MOST_PARTS = 12  # more are a shuffle, or nothing that a list explains


@dataclass(frozen=True)
class Piece:
    """Positions `start`, `start + step`, ... of a source, along the axis of a concatenation."""
    source: Value
    start: int
    count: int
    step: int

    def is_whole(self, axis: int) -> bool:
        return self.start == 0 and self.step == 1 and self.count == self.source.shape[axis]


class Joined(Matched):
    """What can be said of two tensors that are put together from several."""

    def _parts(self, ours: Value, theirs: Value) -> str | None:
        """Two tensors, at least one of them concatenated: where their parts differ."""
        for deep in (False, True):  # the parts that both have, and if that says nothing the parts of those, too
            a = origin(ours, self._ends(self.mine, deep))
            b = origin(theirs, self._ends(self.reference, deep))
            if a is None or b is None or max(len(a.sources), len(b.sources)) < 2:
                continue
            for axis in range(max(a.index.dim(), b.index.dim())):
                places = [places_of(o, axis) for o in (a, b)]
                if None not in places:
                    said = self._other_parts(*places, axis)
                    if said is not None:
                        return said
        return None

    def _instead(self, ours: Value, theirs: Value, user: Node | None) -> str | None:
        """One of the tensors that `user` concatenates is another one than in the reference."""
        if user is None or user.name != "cat":
            return None
        other = next((n.outputs[0] for n in self.relevant[1] if n.name == "cat" and
                      unchanged(theirs) in map(unchanged, n.operands)), None)
        said = self._parts(user.outputs[0], other) if other is not None else None
        named = self._shuffled_name(theirs, self.reference)
        if said is None and ours in self.mine.known and named is not None:
            return f"{self.ours(ours)} is concatenated instead of {named}"
        return said

    def _shuffled_name(self, value: Value, side: Side) -> str | None:
        """What a tensor is that holds channels of several in an order that has a name."""
        for stops in (set(side.matched), side.known):
            found = origin(value, stops)
            places = places_of(found, 1) if found is not None else None
            if places is None:
                continue
            starts, total = {}, 0
            for source in found.sources:
                starts[source] = total
                total += source.shape[1]
            name = name_channels([starts[source] + at for source, at in places], total)
            if name:
                listed = ", ".join(self._branch(source) for source in found.sources)
                return f"{name} of {'the concatenation of ' * (len(found.sources) > 1)}{listed}"
        return None

    def _ends(self, side: Side, deep: bool) -> set[Value]:
        if not deep:
            return set(side.matched)
        return {v for v in side.matched if not is_move(v)} | side.known

    def _other_parts(self, ours: list[tuple[Value, int]], theirs: list[tuple[Value, int]], axis: int) -> str | None:
        sources = list(dict.fromkeys(w for w, _ in theirs))
        partner = {v: next((w for w in sources if self.equal(v, w)), v) for v in dict.fromkeys(v for v, _ in ours)}
        named = {w: v for v, w in partner.items() if w is not v}  # the learner's names, where there are any
        mine = [(partner[v], q) for v, q in ours]
        if mine == theirs:
            return None
        if len(mine) == len(theirs):
            if Counter(mine) == Counter(theirs):
                return self._permuted(mine, theirs, named, axis)
            swapped = [(m, t) for m, t in zip(mine, theirs, strict=True) if m != t]
            said = self._in_place_of(swapped, mine, named, axis)
            if said is not None:
                return said
        return self._lost(mine, theirs, named, axis)

    def _permuted(self, mine: list[tuple[Value, int]], theirs: list[tuple[Value, int]], named: dict[Value, Value],
                  axis: int) -> str | None:
        """The same parts in another order."""
        pieces = [pieces_of(mine), pieces_of(theirs)]
        if max(map(len, pieces)) > MOST_PARTS:
            return None
        starts, total = {}, 0  # where each source would begin, if they stood as the reference's do
        for w in dict.fromkeys(w for w, _ in theirs):
            starts[w] = total
            total += w.shape[axis]
        names = [name_channels([starts[w] + q for w, q in side], total) for side in (mine, theirs)]
        if any(name and "shuffle" in name for name in names):
            return None
        listed = [", ".join(self._all_pieces(side, named, axis)) for side in pieces]
        if listed[0] == listed[1]:
            return None
        return (f"the branches are concatenated (or called) in another order: {listed[0]} in yours, but {listed[1]} "
                "in the reference")

    def _in_place_of(self, swapped: list[tuple[tuple[Value, int], tuple[Value, int]]], mine: list[tuple[Value, int]],
                     named: dict[Value, Value], axis: int) -> str | None:
        """One part of the concatenation is another one; where it is computed anew, what differs in that."""
        ours, theirs = (pieces_of(side) for side in zip(*swapped, strict=True))
        sources = [list(dict.fromkeys(p.source for p in side)) for side in (ours, theirs)]
        if len(sources[0]) != 1 or len(sources[1]) != 1:
            return None
        v, w = sources[0][0], sources[1][0]
        if v not in named and v.shape == w.shape and \
                [q for (_, q), _ in swapped] == [q for _, (_, q) in swapped]:
            return self.compare(v, w, 1)
        one, other = (_as_one(side) for side in (ours, theirs))
        if one is None or other is None:
            return None
        names = [*self._all_pieces([one], named, axis), *self._all_pieces([other], named, axis)]
        if names[0] == names[1]:
            return None
        again = sum(m[0] is v for m in mine) > len(swapped) and one.is_whole(axis)
        if again or any(m == (v, one.start) for m in mine if m not in [s for s, _ in swapped]):
            return f"{names[0]} is concatenated twice: it stands in the place of {names[1]}, which is missing"
        if v is w:
            return f"{names[0]} instead of {names[1].split(' of ')[0]}, which the reference concatenates"
        return f"{names[0]} is concatenated instead of {names[1]}"

    def _lost(self, mine: list[tuple[Value, int]], theirs: list[tuple[Value, int]], named: dict[Value, Value],
              axis: int) -> str | None:
        """Parts that only one of the two has."""
        pieces = [pieces_of(side) for side in (mine, theirs)]
        if max(map(len, pieces)) > MOST_PARTS:
            return None
        counts = [Counter(side) for side in pieces]
        extra, lost = [list((counts[k] - counts[1 - k]).elements()) for k in (0, 1)]
        if len(extra) == len(lost) == 1 and extra[0].source not in named and extra[0].is_whole(axis) and \
                lost[0].is_whole(axis):
            return self.compare(extra[0].source, lost[0].source, 1)
        names = [", ".join(self._all_pieces(side, named, axis)) for side in (extra, lost)]
        if extra and not lost:
            twice = all(p in counts[1] for p in extra)
            return (f"{names[0]} is concatenated twice, in the reference once" if twice else
                    f"{names[0]} is one too many in the concatenation: the reference does not have it there")
        if lost and not extra:
            whole = ", ".join(self._all_pieces(pieces[1], named, axis))
            return f"{names[1]} is missing from the concatenation: the reference concatenates {whole}"
        whole = [", ".join(self._all_pieces(side, named, axis)) for side in pieces]
        joined = ["the concatenation of " if len(side) > 1 else "" for side in pieces]
        if all(p.source in named for p in extra) and names[0] != names[1]:
            return f"yours is {joined[0]}{whole[0]}, but the reference's is {joined[1]}{whole[1]}"
        return None

    # Names of parts

    def _all_pieces(self, pieces: list[Piece], named: dict[Value, Value], axis: int) -> list[str]:
        """The pieces by the layers that they end in; in full where two would have one name."""
        short = {p.source: self._branch(p.source, named) for p in pieces}
        full = {p.source: self.ours(named[p.source]) if p.source in named else self.theirs(p.source)
                if p.source in self.reference.tensors else self.ours(p.source) for p in pieces}
        clash = {name for name, n in Counter(short.values()).items() if n > 1}
        result = []
        for p in pieces:
            name = full[p.source] if short[p.source] in clash else short[p.source]
            result.append(name if p.is_whole(axis) else f"{range_words(p, axis)} of {name}")
        return result

    def _branch(self, value: Value, named: dict[Value, Value] | None = None) -> str:
        """What a branch is called by: the layer that it ends in, if only an activation or a pooling follows."""
        own = (named or {}).get(value, value)
        side = self.mine if own in self.mine.tensors else self.reference
        at = unchanged(own)
        while at not in side.names and at.node is not None and at.node.operands and (
                is_activation(at.node) or at.node.name in operators.POOLINGS):
            at = unchanged(at.node.operands[0])
        name = side.names.get(at)
        if isinstance(name, formula.Value) and name.is_output:
            return f"`{name.layer}`"
        passing = unmoved(own)  # as half of ShuffleNet's channels, of a tensor that has no short name
        if passing is not own and passing not in side.names and passing.node is not None and passing.node.name == "cat":
            return "the other branch"
        return self.name(own, side, 2)


def range_words(piece: Piece, axis: int) -> str:
    rank = len(piece.source.shape)
    what = "channels" if axis == 1 and rank != 3 or axis == rank - 1 == 2 else "positions"
    along = "" if what == "channels" else f" of axis {axis}"
    last = piece.start + piece.step * (piece.count - 1)
    if piece.count == 1:
        return f"{what[:-1]} {piece.start}{along}"
    if abs(piece.step) > 1:
        return f"every {ordinal(abs(piece.step))} of the {what} {piece.start} to {last}{along}"
    return f"{what} {piece.start} to {last}{along}{' (backwards)' if piece.step < 0 else ''}"


def places_of(found: Origin, axis: int) -> list[tuple[Value, int]] | None:
    """(source, position in it) of each position along `axis`; None where something else than positions has moved."""
    index = found.index
    if axis >= index.dim() or (index < 0).any() or not index.numel():
        return None
    shape = tuple(index.shape)
    if any(len(s.shape) != index.dim() or s.shape[:axis] + s.shape[axis + 1:] != shape[:axis] + shape[axis + 1:]
           for s in found.sources):
        return None
    starts = [0]
    for s in found.sources:
        starts.append(starts[-1] + torch.Size(s.shape).numel())
    ends = torch.tensor(starts[1:])
    rows = index.movedim(axis, 0).flatten(1)
    every = [(torch.arange(a, b).view(s.shape)).movedim(axis, 0).flatten(1)
             for s, a, b in zip(found.sources, starts, starts[1:], strict=False)]
    place = []
    for row in rows:
        k = int(torch.bucketize(row[0], ends, right=True))
        at = int((row[0] - starts[k]) // torch.Size(found.sources[k].shape[axis + 1:]).numel()
                 % found.sources[k].shape[axis])
        if not torch.equal(every[k][at], row):
            return None
        place.append((found.sources[k], at))
    return place


def pieces_of(places: list[tuple[Value, int]]) -> list[Piece]:
    """The places as runs; a step other than 1 only where more than two follow each other with it."""
    result: list[Piece] = []
    for source, at in places:
        last = result[-1] if result else None
        if last is not None and last.source is source:
            step = at - (last.start + last.step * (last.count - 1))
            if last.count == 1 and step != 0 or step == last.step:
                result[-1] = Piece(source, last.start, last.count + 1, step)
                continue
        result.append(Piece(source, at, 1, 1))
    return result


def _as_one(pieces: list[Piece]) -> Piece | None:
    """Pieces that follow each other as one, as where those of others lie between them."""
    places = [(p.source, p.start + p.step * k) for p in pieces for k in range(p.count)]
    found = pieces_of(places)
    return found[0] if len(found) == 1 else None
