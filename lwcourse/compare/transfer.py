"""Match the layers of two implementations by the order in which they run, and copy weights along."""
from dataclasses import replace

import torch
from torch import Tensor, nn

from lwcourse.compare.order import by_data
from lwcourse.compare.trace import MAPS, USUAL, Layer, Run, eval_copy, nothing_left_behind, run

Pair = tuple[Layer | None, Layer | None]

GAP = 1.0  # the cost of leaving a layer without a partner, the unit of `mismatch`


def check_model(model: object, who: str) -> nn.Module:
    """The model itself, without torch.compile's wrapper. Raises TypeError or ValueError when it is no network."""
    if not isinstance(model, nn.Module):
        hint = "; create an instance, as in MyNet()" if isinstance(model, type) and issubclass(model, nn.Module) else ""
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(f"{who} must be a torch.nn.Module, got {got}{hint}")
    model = getattr(model, "_orig_mod", model)
    if next(model.parameters(), None) is None:
        raise ValueError(f"{who} ({type(model).__name__}) has no parameters: there are no weights to copy or compare")
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise ValueError(f"{who} has lazy layers without shapes yet: run it once, then compare")
    return model


def check_inputs(x: object) -> tuple[Tensor, ...]:
    """x as a tuple of tensors. Raises TypeError when it is neither a tensor nor a tuple of tensors."""
    inputs = x if isinstance(x, tuple) else (x,)
    for item in inputs:
        if not isinstance(item, Tensor):
            inside = "a tuple with " if isinstance(x, tuple) else ""
            raise TypeError(f"x must be a tensor or a tuple of tensors, such as torch.randn(2, 3, 64, 64), "
                            f"got {inside}{type(item).__name__}")
    if not inputs:
        raise TypeError("x must be a tensor or a tuple of tensors, got an empty tuple")
    return inputs


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its trailing ones; (1, C, 1, 1), as (C, 1, 1), is a vector of C numbers."""
    if sum(size > 1 for size in shape) <= 1:
        return tuple(size for size in shape if size > 1)
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def fit(a: Layer, b: Layer) -> bool:
    """Whether the tensors of one layer can be copied into the other; a Linear fits a 1x1 convolution."""
    ours, theirs = a.shapes, b.shapes
    if len(ours) != len(theirs):
        return False
    for (role, shape), (other_role, other_shape) in zip(ours.items(), theirs.items(), strict=True):
        both_usual = role in USUAL and other_role in USUAL
        if both_usual and role != other_role or (role in USUAL[2:]) != (other_role in USUAL[2:]):
            return False
        if _core(shape) != _core(other_shape):
            return False
    return True


def family(layer: Layer) -> str:
    """Layers of one family may stand for each other, with other settings; a convolution and a norm never do."""
    if layer.raw:
        return "parameter"
    shapes = layer.shapes
    if "running_mean" in shapes or "Norm" in layer.kind:
        return "norm"
    return "map" if len(_core(shapes.get("weight", ()))) > 1 or isinstance(layer.module, MAPS) else layer.kind


def mismatch(a: Layer, b: Layer) -> float:
    """0 for twins; below 2 gaps when they look like one layer with different settings; else more than 2 gaps.

    Convolutions of one shape are told apart by stride and dilation, norms by the layer before them.
    """
    if family(a) != family(b):
        return 0.2 if fit(a, b) else 2.1 * GAP
    if fit(a, b):
        norms = family(a) == "norm" and a.previous is not None and b.previous is not None
        steps = [[str(getattr(layer.module, name, None)) for name in ("stride", "dilation")] for layer in (a, b)]
        return 0.1 if norms and not fit(a.previous, b.previous) or steps[0] != steps[1] else 0.0
    if a.shapes.get("weight") == b.shapes.get("weight"):
        return 0.25  # one has a bias, or running statistics, and the other has not
    return 0.4 if a.kind == b.kind else 0.7


def misfits(pairs: list[Pair]) -> float:
    """How badly layers fit their partners, summed over all; one without a partner costs a gap."""
    return sum(GAP if a is None or b is None else mismatch(a, b) for a, b in pairs)


def align(mine: list[Layer], reference: list[Layer]) -> list[Pair]:
    """The cheapest pairing that keeps both orders; None stands where the other side has no such layer."""
    head = 0
    while head < min(len(mine), len(reference)) and mismatch(mine[head], reference[head]) == 0:
        head += 1
    tail = 0
    while tail < min(len(mine), len(reference)) - head and mismatch(mine[-1 - tail], reference[-1 - tail]) == 0:
        tail += 1
    a, b = mine[head:len(mine) - tail], reference[head:len(reference) - tail]
    cost = [[GAP * (i + j) for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            cost[i + 1][j + 1] = min(cost[i][j] + mismatch(x, y), cost[i][j + 1] + GAP, cost[i + 1][j] + GAP)
    middle: list[Pair] = []
    i, j = len(a), len(b)
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + mismatch(a[i - 1], b[j - 1]):
            i, j = i - 1, j - 1
            middle.append((a[i], b[j]))
        elif i and cost[i][j] == cost[i - 1][j] + GAP:
            i -= 1
            middle.append((a[i], None))
        else:
            j -= 1
            middle.append((None, b[j]))
    pairs = list(zip(mine[:head], reference[:head], strict=True)) + middle[::-1]
    pairs += list(zip(mine[len(mine) - tail:], reference[len(reference) - tail:], strict=True))
    return _tidy_gaps(pairs)


def _tidy_gaps(pairs: list[Pair]) -> list[Pair]:
    """Where several equal blocks follow each other, say that a whole one is missing, not the ends of two.

    A run of gaps can move by one when the layer that it takes in is a twin of the one it lets go.
    """
    for side in (0, 1):
        start = 0
        while start < len(pairs):
            end = start
            while end < len(pairs) and pairs[end][side] is None:
                end += 1
            if end > start:
                start, end = _best_place(pairs, start, end, side)
            start = end + 1
    return pairs


def _best_place(pairs: list[Pair], start: int, end: int, side: int) -> tuple[int, int]:
    """Move the gaps pairs[start:end] of `side` to where their layers have most of their path in common."""
    def shared(first):
        paths = [pair[1 - side].path.split(".") for pair in pairs[first:first + length]]
        return sum(len(set(parts)) == 1 for parts in zip(*paths, strict=False))

    length, first = end - start, start
    while first > 0 and None not in pairs[first - 1] and _slide(pairs, first - 1, first + length - 1, side):
        first -= 1
    best = (shared(first), first)
    while first + length < len(pairs) and None not in pairs[first + length] and _slide(
            pairs, first + length, first, side):
        first += 1
        best = max(best, (shared(first), first))
    while first > best[1]:
        _slide(pairs, first - 1, first + length - 1, side)
        first -= 1
    return best[1], best[1] + length


def _slide(pairs: list[Pair], full: int, empty: int, side: int) -> bool:
    """Give the partner that `side` has at `full` to the gap at `empty`, if it fits there as well."""
    partner, lonely = pairs[full][side], pairs[empty][1 - side]
    if mismatch(partner, lonely) > 0 or mismatch(*pairs[full]) > 0:
        return False
    moved, left = (partner, lonely), (None, pairs[full][1 - side])
    pairs[empty], pairs[full] = (moved, left) if side == 0 else (moved[::-1], left[::-1])
    return True


def in_data_order(layers: list[Layer], seen: Run, joined_anyhow: bool = False) -> list[Layer]:
    """The layers in the order in which the data reach them, whichever branch was called first."""
    owners = {id(layer.tensor(role)): layer for layer in layers for role in layer.tensors}
    found: dict[Layer, None] = {}
    for node in by_data(list(seen.leaving.values()), joined_anyhow):
        for value in node.operands:
            layer = owners.get(id(value.tensor)) if value.node is None else None
            if layer is not None:
                found.setdefault(layer)
    order = [*found, *(layer for layer in layers if layer not in found)]
    previous = [None, *order]
    return [replace(layer, previous=before) for layer, before in zip(order, previous, strict=False)]


def kind(layer: Layer) -> tuple:
    """What tells a layer from others wherever it runs: shapes, stride, dilation and groups."""
    shapes = tuple((role, _core(shape)) for role, shape in layer.shapes.items())
    return family(layer), shapes, *(str(getattr(layer.module, name, None)) for name in ("stride", "dilation", "groups"))


def pair_by_kind(mine: list[Layer], reference: list[Layer]) -> list[Pair]:
    """Layers of the same shapes and settings, in their order among themselves, wherever they run."""
    def place(layer: Layer) -> tuple:  # a norm's is the layer before it
        return kind(layer), kind(layer.previous) if family(layer) == "norm" and layer.previous else None

    waiting: dict[tuple, list[Layer]] = {}
    for layer in mine:
        waiting.setdefault(place(layer), []).append(layer)
    pairs: list[Pair] = []
    for layer in reference:
        same = waiting.get(place(layer))
        pairs.append((same.pop(0) if same else None, layer))
    return pairs + [(layer, None) for layer in mine if any(layer in same for same in waiting.values())]


def pair_twins(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Give layers that found no fitting partner a twin elsewhere, as when two branches are called in the other order.

    Returns the new pairs, in the reference's order, and those of them that are out of order.
    """
    alone = {layer for pair in pairs if None in pair or mismatch(*pair) > 0 for layer in pair if layer is not None}
    free = [layer for layer, _ in pairs if layer in alone]
    moved = []
    for _, partner in pairs:
        twin = next((layer for layer in free if mismatch(layer, partner) == 0), None) if partner in alone else None
        if twin is not None:
            free.remove(twin)
            moved.append((twin, partner))
    new_partner = {partner: twin for twin, partner in moved}
    taken = {twin for twin, _ in moved}
    result: list[Pair] = []
    for layer, partner in pairs:
        if layer is not None and layer not in taken and partner in new_partner:
            result.append((layer, None))
        keeps = layer if layer not in taken else None
        if partner is not None:
            result.append((new_partner.get(partner, keeps), partner))
        elif keeps is not None:
            result.append((layer, None))
    return result, moved


def copy_layer(source: Layer, target: Layer) -> None:
    """Copy the tensors of one layer into another that `fit`s, and BatchNorm's batch counter."""
    with torch.no_grad():
        for role, other_role in zip(source.tensors, target.tensors, strict=True):
            tensor = target.tensor(other_role)
            tensor.copy_(source.tensor(role).reshape(tensor.shape))
        counters = [getattr(layer.module, "num_batches_tracked", None) for layer in (source, target)]
        if "running_mean" in source.tensors and all(isinstance(c, Tensor) for c in counters):
            counters[1].copy_(counters[0])


def _describe(layer: Layer) -> str:
    shapes = ", ".join(f"{layer.tensors[role]} {shape}" for role, shape in layer.shapes.items())
    return f"`{layer.name}` ({layer.kind}: {shapes})"


def _layers_of(model: nn.Module, inputs: tuple[Tensor, ...], who: str) -> list[Layer]:
    """Layers of `model` itself, in the order in which a copy of it runs them."""
    order = run(eval_copy(model, who, next(model.parameters()).dtype), inputs, who).layers
    modules = dict(model.named_modules())
    return [Layer(layer.path, modules[layer.path], layer.tensors, layer.raw) for layer in order]


def transfer_weights(source: nn.Module, target: nn.Module, x: Tensor | tuple[Tensor, ...]) -> None:
    """Copy parameters and BatchNorm statistics of `source` into `target`, layer by layer as they run.

    Names do not matter: the k-th layer that runs gives to the k-th that runs, in one forward
    pass of x (on copies, in eval mode). A Linear and a 1x1 convolution may stand for each
    other. Layers that x never reaches are left alone. Dtype and device of `target` stay.
    Raises ValueError, naming both layers and their shapes, when the two do not fit, and then
    `target` is as it was; TypeError when an argument is no model or no tensor.
    """
    source, target = check_model(source, "source"), check_model(target, "target")
    inputs = check_inputs(x)
    with nothing_left_behind():
        ours, theirs = _layers_of(source, inputs, "source"), _layers_of(target, inputs, "target")
    written: dict[int, Tensor] = {}
    for k, (give, take) in enumerate(zip(ours, theirs, strict=False), start=1):
        if not fit(give, take):
            raise ValueError(f"layer {k} of {len(ours)} cannot be copied: {_describe(give)} of the source "
                             f"does not fit {_describe(take)} of the target; nothing was copied")
        for role, other_role in zip(give.tensors, take.tensors, strict=True):
            value = give.tensor(role)
            earlier = written.setdefault(id(take.tensor(other_role)), value)
            if earlier is not value and not torch.equal(earlier.flatten(), value.flatten()):
                raise ValueError(f"layer {k}, {_describe(take)} of the target, shares its {take.tensors[other_role]} "
                                 "with an earlier layer, but the source has two different ones; nothing was copied")
    if len(ours) != len(theirs):
        longer, who, other = (ours, "source", "target") if len(ours) > len(theirs) else (theirs, "target", "source")
        k = min(len(ours), len(theirs))
        raise ValueError(f"the source runs {len(ours)} layers with tensors, the target {len(theirs)}: "
                         f"{_describe(longer[k])} of the {who} has no partner in the {other}; nothing was copied")
    for give, take in zip(ours, theirs, strict=True):
        copy_layer(give, take)
