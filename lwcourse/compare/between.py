"""What differs between two layers, where nothing has weights: activation, shortcut, pooling, order of channels.

Each hypothesis is a function that looks at the tensors on both sides and returns a sentence, or None.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations

import torch
from torch import Tensor

from lwcourse.compare.formula import ACTIVATIONS, NONE, Formula, Value, applied, close, explain

Later = list[tuple[str, Tensor | None, Tensor | None]]  # a layer's name, input and output, where they were kept


@dataclass(eq=False)
class Parting:
    """The first tensors that differ: `mine` and `reference` go into the same layer, or leave the network.

    `values` are the tensors that are still the same in both, oldest first; `mine_later` and
    `reference_later` what each network computes from here on.
    """
    mine: Tensor
    reference: Tensor
    values: list[Value]
    tolerance: float
    mine_later: Later = field(default_factory=list)
    reference_later: Later = field(default_factory=list)
    names: tuple[tuple[str, ...] | None, tuple[str, ...] | None] = (None, None)  # activations that each side has

    @cached_property
    def ours(self) -> Formula | None:
        return explain(self.mine, self.values, self.tolerance, self.names[0])

    @cached_property
    def theirs(self) -> Formula | None:
        return explain(self.reference, self.values, self.tolerance, self.names[1])

    @cached_property
    def bases(self) -> list[tuple[str, str, Tensor]]:
        """Layer, activation and channel fingerprints of recent outputs of the same spatial size."""
        found = []
        for value in [v for v in self.values[::-1] if v.is_output and v.tensor.dim() > 2][:16]:
            if value.tensor.shape[2:] == self.mine.shape[2:] and len(value.tensor) == len(self.mine):
                found += [(value.layer, name, channel_prints(ACTIVATIONS[name][0](value.tensor)))
                          for name in list(ACTIVATIONS)[:12]]
        return found

    @cached_property
    def both(self) -> bool:
        return self.ours is not None and self.theirs is not None


def not_finite(p: Parting) -> str | None:
    if not torch.isfinite(p.mine).all():
        kind = "NaN" if p.mine.isnan().any() else "infinity"
        return f"your network has {kind} here, the reference has none"
    return None


def same_channels_elsewhere(p: Parting) -> str | None:
    """One is a permutation of the other's channels: a shuffle, or branches concatenated in another order."""
    if p.mine.shape != p.reference.shape or p.mine.dim() < 2 or p.mine.shape[1] < 2:
        return None
    ours, theirs = channel_prints(p.mine), channel_prints(p.reference)
    order = matching(theirs, ours, p.tolerance)
    if order is None:
        return None
    found = [known_order(p, prints) for prints in (ours, theirs)]
    if None not in found and found[0][0] != found[1][0]:
        return other_order(*(", ".join(f"`{layer}`" for layer in layers) for layers, _ in found))
    groups = [g for _, g in found] if None not in found else relative_shuffle(ours, theirs, p.tolerance)
    if groups is not None:
        return other_shuffle(*groups)
    starts = [0] + [i for i in range(1, len(order)) if order[i] != order[i - 1] + 1] + [len(order)]
    blocks = [(order[i], theirs[i:j]) for i, j in zip(starts, starts[1:], strict=False)]
    if len(blocks) > 8:
        return "the reference's channels, but in another order, which no channel shuffle explains"
    names = {start: block_name(p, start, prints) for start, prints in blocks}
    return other_order(", ".join(names[start] for start in sorted(names)), ", ".join(names.values()))


def other_order(mine: str, reference: str) -> str:
    return (f"the branches are concatenated (or called) in another order: {mine} in yours, "
            f"but {reference} in the reference")


def other_shuffle(mine: int, reference: int) -> str:
    if mine == 1:
        return f"the channel shuffle is missing: the reference shuffles the channels with {reference} groups"
    if reference == 1:
        return f"a channel shuffle with {mine} groups, which the reference does not have"
    return f"a channel shuffle with {mine} groups, but the reference's has {reference} groups"


def squeeze_on_the_wrong_side(p: Parting) -> str | None:
    """Squeeze-and-excitation before the activation in one network, after it in the other."""
    if not p.both or "global" not in p.ours.resize or p.ours.resize != p.theirs.resize \
            or p.ours.source is not p.theirs.source or p.ours.other or p.theirs.other:
        return None
    early, late, steps = p.ours, p.theirs, p.mine_later
    if early.inner != NONE:
        early, late, steps = p.theirs, p.ours, p.reference_later
    if early.inner != NONE:
        return None
    values = [early.source]
    for layer, entering, leaving in steps:
        if entering is not None and entering.shape == early.source.tensor.shape:
            formula = explain(entering, values, p.tolerance)
            if formula is None or formula.gate is None or (formula.inner, formula.outer) != (NONE, late.inner):
                return None
            places = ("before", "after") if early is p.ours else ("after", "before")
            return (f"squeeze-and-excitation on {early.source} stands {places[0]} the {late.inner}, "
                    f"but in the reference {places[1]} it")
        if leaving is not None:
            values.append(Value(layer, True, leaving))
    return None


def activation(p: Parting) -> str | None:
    """The same sources, another activation, or the same one on the other side of an addition."""
    if not p.both:
        return None
    a, b = (_outside(f, other) for f, other in ((p.ours, p.theirs), (p.theirs, p.ours)))
    if a.source is b.other:  # the sum of the same two, found the other way round
        a, b = (a, b.turned()) if b.can_turn() else (a.turned(), b) if a.can_turn() else (a, b)
    if (a.source, a.other, a.gate, a.resize) != (b.source, b.other, b.gate, b.resize):
        return None
    if (a.inner, a.outer) == (b.inner, b.outer):
        return None
    if a.other is None:
        return other_activation(a.inner, b.inner, f"{a.source}, before {a.resize}" if a.resize else f"{a.source}")
    step = "addition" if a.gate is None else "multiplication"
    if a.inner == b.outer and a.outer == b.inner and NONE in (a.inner, a.outer):
        first, second = ("before", "after") if a.inner != NONE else ("after", "before")
        name = a.inner if a.inner != NONE else a.outer
        other = a.other if a.gate is None else a.source
        return f"{name} {first} the {step} of {other}, but in the reference {second} it"
    main = a.source if a.gate is None else a.other
    parts = [f"{mine} {place}, but the reference has {reference} there" for place, mine, reference in
             ((f"on {main} before the {step}", a.inner, b.inner), (f"after the {step}", a.outer, b.outer))
             if mine != reference]
    return "; ".join(parts)


def _outside(f: Formula, other: Formula) -> Formula:
    """ReLU(x) times a gate that is never negative is ReLU(x times the gate), where the other has it there."""
    same = f.gate in ("Sigmoid", "Hardsigmoid") and f.inner == "ReLU" and f.outer == NONE
    return replace(f, inner=NONE, outer="ReLU") if same and other.inner == NONE != other.outer else f


def other_activation(mine: str, reference: str, place: str) -> str:
    missing = ": the activation is missing" if mine == NONE else ""
    return f"{mine} on {place}, but the reference has {reference} there{missing}"


def shortcut(p: Parting) -> str | None:
    """An addition in one network that the other lacks, or that starts elsewhere."""
    if not p.both or p.ours.gate is not None or p.theirs.gate is not None:
        return None
    ours, theirs = ([v for v in (f.source, f.other) if v is not None] for f in (p.ours, p.theirs))
    added = [v for v in theirs if v not in ours]
    too_many = [v for v in ours if v not in theirs]
    main = next((v for v in ours if v in theirs), None)
    if main is None or not added and not too_many:
        return None
    if added and too_many:
        return f"the shortcut adds {too_many[0]}, but in the reference {added[0]}"
    if added:
        return f"the shortcut is missing: the reference adds {added[0]} to {main}"
    return f"a shortcut too many: {too_many[0]} is added to {main}, but not in the reference"


def gate(p: Parting) -> str | None:
    """A multiplication (squeeze-and-excitation, attention) that is missing, or squashed by another function."""
    if not p.both or p.ours.gate == p.theirs.gate:
        return None
    a, b = p.ours, p.theirs
    if a.gate is None:
        return f"the multiplication is missing: the reference has {b}, yours is {a}"
    if b.gate is None:
        return f"a multiplication too many: yours is {a}, the reference's is {b}"
    return f"the gate is {applied(a.gate, a.source)}, but in the reference {applied(b.gate, b.source)}"


def pooling(p: Parting) -> str | None:
    """Another pooling or upsampling of the same thing."""
    if not p.both or p.ours.resize == p.theirs.resize or p.ours.source is not p.theirs.source:
        return None
    ours, theirs = p.ours.resize or "no pooling", p.theirs.resize or "no pooling"
    return f"{ours} of {p.ours.source}, but the reference has {theirs} there"


def scale(p: Parting) -> str | None:
    """The same up to one factor."""
    if p.mine.shape != p.reference.shape or not p.mine.square().sum() > 0:
        return None
    factor = ((p.mine * p.reference).sum() / p.mine.square().sum()).item()
    if factor and close(p.mine * factor, p.reference, p.tolerance):
        return f"a scale is missing or wrong: the reference's values are yours times {factor:.4g}"
    return None


def channel_scale(p: Parting) -> str | None:
    """The same up to one factor per channel."""
    if p.mine.shape != p.reference.shape or p.mine.dim() < 3 or p.mine[:, 0].numel() < 8:
        return None
    across = [d for d in range(p.mine.dim()) if d != 1]
    factors = (p.mine * p.reference).sum(across, keepdim=True) / p.mine.square().sum(across, keepdim=True)
    if close(p.mine * factors.nan_to_num(1.0), p.reference, p.tolerance):
        return "a scale is missing or wrong: the reference's values are yours times one factor per channel"
    return None


def shapes(p: Parting) -> str | None:
    if p.mine.shape == p.reference.shape:
        return None
    words = f"{tuple(p.mine.shape)} here, but the reference has {tuple(p.reference.shape)}"
    if p.mine.dim() == p.reference.dim() <= 4 and sorted(p.mine.shape) == sorted(p.reference.shape):
        for order in permutations(range(p.mine.dim())):
            turned = p.reference.permute(order)
            if turned.shape == p.mine.shape and close(turned, p.mine, p.tolerance):
                last = ", the channels last" if order == (0, 2, 3, 1) else ""
                return f"{words}: its axes are permuted to {', '.join(map(str, order))} in yours{last}"
    return words + (f"; the reference's is {p.theirs}" if p.theirs is not None else "")


def other_source(p: Parting) -> str | None:
    """The same done to another tensor."""
    if not p.both or p.ours.other or p.theirs.other or p.ours.source is p.theirs.source:
        return None
    return (f"it is made from another tensor: {p.ours} in yours, but {p.theirs} in the reference "
            "(or two layers of the same shape are called in the other order)")


def formulas(p: Parting) -> str | None:
    """Whatever the two were found to be."""
    return f"yours is {p.ours}, but the reference's is {p.theirs}" if p.both else None


HYPOTHESES = (not_finite, same_channels_elsewhere, scale,
              squeeze_on_the_wrong_side, activation, shortcut, gate, pooling, channel_scale, shapes, other_source,
              formulas)


READ = (not_finite, squeeze_on_the_wrong_side, activation, shortcut, gate, pooling)  # of two formulas that are known


def cause(p: Parting, hypotheses: Sequence[Callable[[Parting], str | None]] = HYPOTHESES) -> str | None:
    """The first hypothesis that holds, in words; None when none does."""
    return next((words for hypothesis in hypotheses if (words := hypothesis(p))), None)


def effect(p: Parting) -> str:
    """What can be said when no cause was found."""
    if p.theirs is not None:
        return f"the reference's is {p.theirs}; yours is something else"
    if p.ours is not None:
        return f"yours is {p.ours}; the reference's is something else"
    last = p.values[-1].layer
    return f"something without weights differs{f' after `{last}`' if last else ''}, but none of the usual causes fits"


# Channels are recognised by fingerprints: the dot product of each channel with one random vector.

def channel_prints(tensor: Tensor) -> Tensor:
    """One number per channel of (N, C, ...), the same wherever the channel stands."""
    rows = tensor.transpose(0, 1).flatten(1)
    generator = torch.Generator("cpu").manual_seed(1)
    vector = torch.randn(rows.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    return rows @ vector


def same_print(a: Tensor, b: Tensor, tolerance: float) -> Tensor:
    """(len(a), len(b)) matrix: which fingerprints are equal."""
    return (a[:, None] - b[None]).abs() <= 10 * tolerance * max(a.abs().max().item(), b.abs().max().item())


def equal_prints(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a - b).abs().max() <= 10 * tolerance * b.abs().max())


def matching(theirs: Tensor, ours: Tensor, tolerance: float) -> list[int] | None:
    """For each channel of theirs, its place in ours, if each has one; prefers the place after the previous one."""
    equal = same_print(theirs, ours, tolerance)
    free, order = torch.ones(len(ours), dtype=torch.bool, device="cpu"), []
    for row in equal:
        places = (row & free).nonzero().flatten().tolist()
        if not places:
            return None
        following = order[-1] + 1 if order else -1
        order.append(following if following in places else places[0])
        free[order[-1]] = False
    return order


def shuffled(prints: Tensor, groups: int) -> Tensor:
    return prints.view(groups, -1).T.flatten()


def divisors(count: int) -> list[int]:
    return [g for g in range(1, count) if count % g == 0]


def known_order(p: Parting, prints: Tensor) -> tuple[tuple[str, ...], int] | None:
    """The one or two layers whose channels, concatenated and shuffled, give `prints`; and the groups, 1 for none."""
    known = p.bases
    whole = [((layer,), base) for layer, _, base in known if len(base) == len(prints)]
    whole += [((a, b), torch.cat([x, y])) for a, function, x in known for b, other, y in known
              if a != b and function == other and len(x) + len(y) == len(prints)]
    for layers, base in whole:
        if not equal_prints(base.sort().values, prints.sort().values, p.tolerance):
            continue
        for groups in divisors(len(prints)):
            if equal_prints(shuffled(base, groups), prints, p.tolerance):
                return layers, groups
    return None


def relative_shuffle(ours: Tensor, theirs: Tensor, tolerance: float) -> tuple[int, int] | None:
    """Groups of the two shuffles, with the fewest groups, that lead from one order to ours and to theirs."""
    count = len(ours)
    pairs = [(a, b) for a in divisors(count) for b in divisors(count) if a != b]
    for mine, reference in sorted(pairs, key=lambda pair: pair[0] * pair[1]):
        # A shuffle with count / g groups undoes one with g.
        if equal_prints(shuffled(shuffled(ours, count // mine), reference), theirs, tolerance):
            return mine, reference
    return None


def block_name(p: Parting, start: int, prints: Tensor) -> str:
    """The layer that a run of channels comes from, else their numbers in the learner's tensor."""
    for layer, _, known in p.bases:
        if same_print(prints, known, p.tolerance).any(1).all():
            return f"`{layer}`"
    return f"channels {start} to {start + len(prints) - 1}"
