"""Tensors that hold the same elements in another order: a shuffle, a concatenation, heads, parts, padding."""
from itertools import permutations

import torch
from torch import Tensor

from lwcourse.compare import operators
from lwcourse.compare.graph import Value
from lwcourse.compare.joined import Joined, pieces_of, places_of, range_words
from lwcourse.compare.layouts import arrangements
from lwcourse.compare.matched import source_size
from lwcourse.compare.moves import (
    Origin,
    axes_of,
    channel_map,
    describe_axes,
    name_orders,
    name_positions,
    origin,
    rolled,
    same_part,
)
from lwcourse.compare.operators import is_move, unmoved


class Reordered(Joined):
    """What can be said of two tensors that only move elements; `compare` says what it can of their sources."""

    def _other_order(self, ours: Value, theirs: Value, scaled: bool = False) -> str | None:
        """Two tensors that only move elements of equal sources: in which order, and which ones."""
        a = origin(ours, set(self.mine.matched), scaled)
        b = origin(theirs, set(self.reference.matched), scaled)
        if a is None or b is None:
            return None
        whole = [origin(v, side.known, scaled, strict=True) if v not in side.known else None
                 for v, side in ((ours, self.mine), (theirs, self.reference))]
        known = [o is not None and len(o.sources) == 1 and o.sources[0] in side.known
                 for o, side in zip(whole, (self.mine, self.reference), strict=True)]
        if all(known) and self.equal(whole[0].sources[0], whole[1].sources[0]) and not (
                len(a.sources) == len(b.sources) == 1 and self.equal(a.sources[0], b.sources[0])):
            a, b = whole  # as q and k of one tensor, where only one of them is in both networks
        elif not all(known):
            a, b = (o if is_known and len(old.sources) > 1 else old for o, is_known, old in zip(
                whole, known, (a, b), strict=True))  # a layer's output, such as an LSTM's, rather than what it is of
        if len(a.sources) != len(b.sources) or len(a.sources) == 1 and not self.equal(a.sources[0], b.sources[0]):
            # one of the two may itself be what the other is made of
            if self.equal(ours, b.sources[0]) and len(b.sources) == 1:
                a = Origin([ours], torch.arange(source_size(ours)).view(ours.shape))
            elif self.equal(a.sources[0], theirs) and len(a.sources) == 1:
                b = Origin([theirs], torch.arange(source_size(theirs)).view(theirs.shape))
        if max(len(a.sources), len(b.sources)) > 1:
            said = self._parts(ours, theirs)
            if said is not None:
                return said
        pairs, left, rest = [], [], list(b.sources)
        for v in a.sources:
            w = next((w for w in rest if self.equal(v, w)), None)
            if w is None:
                left.append(v)
            else:
                rest.remove(w)
                pairs.append((v, w))
        if not left and not rest:
            return self._orders(a, b, pairs, (ours, theirs))
        if len(a.sources) == len(b.sources) > 1 and len(left) == len(rest) >= 1:
            return self.compare(left[0], rest[0], 1)
        if len(a.sources) != len(b.sources):
            ours_words, theirs_words = (", ".join(map(name, o.sources))
                                        for name, o in ((self.ours, a), (self.theirs, b)))
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
            return (f"{listed} are concatenated along another axis: {tuple(a.index.shape)} here, but the reference has "
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
        shuffled = any(words is None and (o.index >= 0).all() and not torch.equal(
            o.index.flatten(), torch.arange(o.index.numel())) for o, words in zip((a, b), moved, strict=True))
        if moved[0] != moved[1] and not shuffled:
            return (f"{on} is {moved[0]} in yours, but {moved[1] or 'not'} in the reference" if moved[0] else
                    f"{on} is {moved[1]} in the reference, but not in yours")
        if (a.index < 0).any() or (b.index < 0).any():
            return self._padding(a, b, on, values)
        count = source.shape[1] if len(source.shape) > 1 else 0
        behind = unmoved(source)
        of_heads = behind.node is not None and behind.node.name == "bmm" and behind.shape[0] > self.images
        if source.node is not None and source.node.name in operators.MATRIX_PRODUCTS and len(source.shape) > 1:
            flat = torch.arange(source_size(source)).view(source.shape).transpose(-1, -2).flatten()
            if {True} == {torch.equal(x.flatten().sort().values, flat.sort().values) for x in (a.index, b.index)} and \
                    torch.equal(_turn(a.index), b.index.flatten()):
                return (f"the matrix product is transposed, as where its two factors are exchanged (k q^T for q k^T): "
                        f"{on}")
        channels = [channel_map(o, count) for o in (a, b)]
        if None not in channels:
            found = name_orders(channels, count)
            if len(source.shape) == 3 and not any(name and "shuffle with" in name for name in found):
                mine, reference = (name_positions(order, count) for order in channels)  # of tokens, not of channels
                return f"{mine} of {on}, but in the reference {reference}"
            return _channel_words(found, on, count, "shuffle" in (self._shuffled_name(
                source, self.mine if source in self.mine.tensors else self.reference) or ""))
        part = same_part(a.index, b.index, source.shape)
        if part is not None:
            return f"{part[0]} of {on} stands where the reference takes {part[1]}"
        ranges = self._ranges(a, b) if a.index.numel() != b.index.numel() else None
        if ranges is not None:
            return f"{ranges[0]} of {on}, but the reference takes {ranges[1]} (split in another way)"
        described = [describe_axes(o.index, source.shape) for o in (a, b)]
        shape = tuple(source.shape)
        if None not in described and described[0] != described[1]:
            lead = "the heads are put together in another order: " if of_heads else ""
            return (f"{lead}the elements of {on}, {shape}, are in another order: {described[0]} in yours, "
                    f"but {described[1]} in the reference{_against(a.index, b.index)}")
        if {a.index.numel(), b.index.numel()} - {source_size(source)} and source_size(source) < max(
                a.index.numel(), b.index.numel()) and a.index.dim() == b.index.dim() == len(shape):
            padded = a.index.numel() > b.index.numel()
            how = self._padded(values[0] if padded else values[1])
            return (f"{on} is padded{how} to {tuple((a if padded else b).index.shape)} in "
                    f"{'your network' if padded else 'the reference'}, but not in "
                    f"{'the reference' if padded else 'yours'}")
        if a.index.numel() != b.index.numel():
            return (f"{tuple(a.index.shape)} of {on}, {shape}, but the reference takes {tuple(b.index.shape)} of it")
        return f"the elements of {on}, {shape}, are in another order than in the reference{_against(a.index, b.index)}"

    def _ranges(self, a: Origin, b: Origin) -> list[str] | None:
        """Two parts of different length along one axis of one tensor."""
        for axis in range(a.index.dim() if a.index.dim() == b.index.dim() else 0):
            found = [places and pieces_of(places) for places in (places_of(o, axis) for o in (a, b))]
            if all(pieces and len(pieces) == 1 for pieces in found):
                return [range_words(pieces[0], axis) for pieces in found]
        return None

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
        starts, count = {}, 0  # of the channels, where the sources stand behind one another as the reference's do
        for s in b.sources:
            starts[s] = count
            count += s.shape[1] if len(s.shape) > 1 else 0
        places = [places_of(o, 1) for o in (a, b)]
        maps = [side and [starts[partner.get(s, s)] + at for s, at in side] for side in places]
        if None not in maps:
            found = name_orders(maps, count)
            if None not in found and found[0] != found[1] and any("shuffle" in f for f in found):
                return _channel_words(found, "the concatenated branches", count)
        if names[0] != names[1]:
            return (f"the branches are concatenated (or called) in another order: {', '.join(names[0])} in yours, "
                    f"but {', '.join(names[1])} in the reference")
        return _channel_words(found, "the concatenated branches", count) if None not in maps else None


def _against(ours: Tensor, theirs: Tensor) -> str:
    """How an order differs from the reference's, as far as that is a short story; the shapes, where they differ."""
    if ours.shape != theirs.shape:
        for order in permutations(range(theirs.dim())) if ours.dim() == theirs.dim() <= 4 else ():
            changed = [k for k, axis in enumerate(order) if axis != k]
            if len(changed) == 2 and torch.equal(theirs.permute(order), ours):
                return f": axes {changed[0]} and {changed[1]} exchanged"
        if ours.shape[0] == theirs.shape[0] and ours.dim() != theirs.dim():
            return ""  # pixels in one axis or in two
        return f", as {tuple(ours.shape)} in yours and {tuple(theirs.shape)} in the reference"
    if not torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values):
        return ""
    places = torch.empty(int(theirs.max()) + 1, dtype=torch.long)
    places[theirs.flatten()] = torch.arange(theirs.numel())
    moved = places[ours]
    found = axes_of(moved, tuple(theirs.shape))
    if found is None:
        return ""
    order = [axis for axis, size, _ in found[1] if size > 1]
    changed = sorted({axis for k, axis in enumerate(order) if k >= len(set(order)) or sorted(set(order))[k] != axis})
    if len(set(order)) == len(order) and len(changed) == 2:
        what = " (rows and columns)" if changed == [2, 3] and theirs.dim() == 4 else ""
        return f": axes {changed[0]} and {changed[1]} exchanged{what}"
    if theirs.dim() == 4 and changed and min(changed) >= 2:
        return f": the pixels of each map, rows and columns, with {describe_axes(moved, tuple(theirs.shape))}"
    if theirs.dim() == 3 and changed == [1]:
        return f": the positions of axis 1 with {describe_axes(moved, tuple(theirs.shape))}"
    return ""


def _turn(index: Tensor) -> Tensor:
    return index.transpose(-1, -2).flatten() if index.dim() > 1 else index


def _source_of(found) -> Tensor:
    """For each element, in order, which source it comes from; -1 is padding."""
    ends = torch.tensor([source_size(s) for s in found.sources]).cumsum(0)
    which = torch.bucketize(found.index.flatten(), ends, right=True)
    return torch.where(found.index.flatten() < 0, -1, which)


def _part(name: str) -> str:
    """Which of the channels a name of `name_channels` says: "the first half of the channels", or ""."""
    whole = name.startswith("a channel shuffle") or name == "the channels in their order"
    return "" if whole else name.split(" after ")[0]


def _groups(name: str | None) -> int | None:
    if name is None:
        return None
    if "shuffle with" not in name:
        return 1
    return int(name.split("shuffle with ")[1].split(" ")[0])


def _channel_words(names: list[str | None], on: str, count: int, shuffled_before: bool = False) -> str:
    """Two orders of the channels of one tensor."""
    ours, theirs = names
    groups = [_groups(name) for name in names]
    if None not in groups and groups[0] != groups[1] and _part(ours) == _part(theirs):
        if groups[0] == 1:
            return f"the channel shuffle is missing: the reference shuffles the channels with {groups[1]} groups"
        if groups[1] == 1:
            again = "one more channel shuffle (it is done twice)" if shuffled_before else "a channel shuffle"
            return f"{again} with {groups[0]} groups, which the reference does not have"
        also = ""
        if groups[0] * groups[1] == count:
            also = " (the transposed one: view and transpose in the other order)"
        return f"a channel shuffle with {groups[0]} groups, but the reference's has {groups[1]} groups{also}"
    if {ours, theirs} == {"the first half of the channels", "the second half of the channels"}:
        return f"the halves are exchanged: yours is {ours} of {on}, but the reference's is {theirs}"
    if ours is None and theirs is None:
        return f"the channels of {on} are in another order than in the reference, which no usual shuffle explains"
    if None not in groups and groups[0] == 1 < groups[1] and "shuffle" not in (ours or ""):
        return f"the channel shuffle is missing: {ours} of {on}, but in the reference {theirs}"
    if ours is None and groups[1] not in (None, 1):
        return f"the channels of {on} are in another order than {theirs}, which the reference has"
    whole = "the channels in their order"
    if whole in names and None not in names:
        changed = theirs if ours == whole else ours
        on_it = f"{on} with {changed}" if changed.startswith(("the channels", "the two")) else f"{changed} of {on}"
        return (f"{on} as it is, but in the reference {on_it.replace(on, 'it')}" if ours == whole else
                f"{on_it}, but in the reference all of them, in their order")
    words_of = [name or "another order of the channels" for name in names]
    return f"{words_of[0]} of {on}, but in the reference {words_of[1]}"
