"""Partners for the operators of two networks, and copying their parameters through foldings and cuts."""
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lwcourse.compare.graph import needed
from lwcourse.compare.operator_layers import (
    OperatorLayer,
    by_hand,
    folded,
    merged,
    operator_layers,
    rows_as_used,
    with_one_norm,
)
from lwcourse.compare.operators import unchanged
from lwcourse.compare.order import by_data
from lwcourse.compare.trace import Run


def _read(layer: OperatorLayer, role: str) -> Tensor | None:
    if role not in layer.slots:
        return None
    return torch.cat([slot.read() for slot in layer.slots[role]])


def _write(layer: OperatorLayer, role: str, values: Tensor) -> None:
    rows = layer.order
    if rows is not None:
        turned = torch.empty_like(values)
        turned[rows] = values
        values = turned
    start = 0
    for slot in layer.slots[role]:
        slot.write(values[start:start + slot.shape[0]])
        start += slot.shape[0]


def can_copy(source: OperatorLayer, target: OperatorLayer) -> bool:
    """Whether `copy` can give `target` what makes it compute the same as `source`."""
    if (source.kind == "Parameter") != (target.kind == "Parameter") or \
            (source.kind == "BatchNorm") != (target.kind == "BatchNorm"):
        return False
    a, b = source.shapes.get("weight"), target.shapes.get("weight")
    if a is None or b is None:
        return source.shapes == target.shapes
    if math.prod(a) != math.prod(b) or a[0] != b[0] and source.kind != "Parameter":
        return False
    has_bias = ["bias" in layer.slots or layer.bn is not None for layer in (source, target)]
    if source.kind == "BatchNorm":
        return source.slots.keys() == target.slots.keys()
    return has_bias[0] == has_bias[1]


def copy(source: OperatorLayer, target: OperatorLayer) -> None:
    """Give `target` the parameters of `source`, through any folding and cutting."""
    values = {role: _read(source, role) for role in source.slots}
    if source.order is not None:
        values = {role: v[source.order] for role, v in values.items()}
    if source.bn is not None:
        norm = {role: _read(source.bn, role) for role in source.bn.slots}
        scale = norm.get("weight", 1.0) / (norm["running_var"] + source.bn.settings.eps).sqrt()
        bias = values.get("bias", 0.0)
        out_axis = values["weight"].dim() - 1
        values = {"weight": values["weight"] * scale.view(-1, *[1] * out_axis),
                  "bias": norm.get("bias", 0.0) + (bias - norm["running_mean"]) * scale}
    if target.bn is not None:
        norm = target.bn
        size = values["weight"].shape[0]
        settings = {"running_mean": torch.zeros(size).double(),
                    "running_var": torch.full((size,), 1 - norm.settings.eps, dtype=torch.float64),
                    "weight": torch.ones(size).double(), "bias": values.pop("bias", torch.zeros(size).double())}
        if "bias" not in norm.slots:
            settings["running_mean"] = -settings["bias"]
        for role in norm.slots:
            _write(norm, role, settings[role].double())
        if "bias" in target.slots:
            values["bias"] = torch.zeros(size)
    for role, value in values.items():
        if role in target.slots:
            _write(target, role, value.double().reshape(target.shapes[role]))


def _order_norms(layers: list[OperatorLayer]) -> None:
    """A norm has its rows in the order of the layer that it reads."""
    ordered = {unchanged(layer.leaving): layer.order for layer in layers if layer.order is not None}
    for layer in layers:
        if layer.kind == "BatchNorm" and all(len(parts) == 1 for parts in layer.slots.values()):
            layer.order = ordered.get(unchanged(layer.entering), layer.order)


Exchange = tuple[int, int, int]  # the learner's operators from the first place on give theirs to those from the second


def pair_up(mine: tuple[Run, nn.Module], reference: tuple[Run, nn.Module], exchanged: Sequence[Exchange] = ()
            ) -> list[tuple[OperatorLayer, OperatorLayer]] | None:
    """Partners for all operators with parameters of both runs; None where there is no such pairing.

    They are paired in the order in which the data reach them, but for the branches that are `exchanged`.
    """
    sides = [operator_layers(*side) for side in (mine, reference)]
    nodes = [by_data(list(side[0].leaving.values())) for side in (mine, reference)]
    sides = [by_hand(side) for side in sides]
    if not _fits(*sides):
        norms = [sum(layer.kind == "BatchNorm" for layer in side) for side in sides]
        if (norms[0] == 0) != (norms[1] == 0):
            k = 0 if norms[0] else 1
            sides[k] = folded(sides[k], nodes[k])
    if not _fits(*sides):
        joined = [with_one_norm(*side) for side in zip(sides, nodes, strict=True)]
        sides = joined if _fits(*joined) else sides
    if not _fits(*sides):
        counts = [len(side) for side in sides]
        joined = [merged(*side) for side in zip(sides, nodes, strict=True)]
        if [len(side) for side in joined] != counts:
            for side, other, seen in ((*joined, mine[0]), (*joined[::-1], reference[0])):
                for layer, partner in zip(side, other, strict=False):
                    if len(layer.slots.get("weight", ())) == 1 and len(partner.slots.get("weight", ())) > 1 and \
                            partner.settings.__dict__.get("groups", 1) == 1:
                        layer.order = rows_as_used(layer, list(seen.leaving.values()))
                _order_norms(side)
            sides = joined
    if not _fits(*sides):
        return None
    for first, second, count in exchanged:
        ours = sides[0]
        ours[first:first + count], ours[second:second + count] = \
            ours[second:second + count], ours[first:first + count]
    return list(zip(*sides, strict=True)) if _fits(*sides) else None


def exchanges(pairs: list[tuple[OperatorLayer, OperatorLayer]], first: int) -> list[Exchange]:
    """The branches from place `first` on that could change places with a later one: none reads the other, and all
    their operators are alike."""
    signs = [(a.kind, a.shapes, vars(a.settings)) for a, _ in pairs]
    found = []
    for second in range(first + 1, len(signs)):
        if pairs[first][0].node in needed([pairs[second][0].entering]):
            continue
        count = 0
        while first + count < second and second + count < len(signs) and signs[first + count] == signs[second + count]:
            count += 1
        if count:
            found.append((first, second, count))
    return found


def misfit(mine: tuple[Run, nn.Module], reference: tuple[Run, nn.Module]
           ) -> tuple[int, int, OperatorLayer, OperatorLayer] | None:
    """(their place, the number of layers, the two) of the first that do not fit, where only one network folds its
    BatchNorms into the layers before them and all are of one kind otherwise."""
    sides = [by_hand(operator_layers(*side)) for side in (mine, reference)]
    norms = [any(layer.kind == "BatchNorm" for layer in side) for side in sides]
    if norms[0] == norms[1]:
        return None
    k = 0 if norms[0] else 1
    seen = (mine, reference)[k][0]
    sides[k] = folded(sides[k], by_data(list(seen.leaving.values())))
    if len(sides[0]) != len(sides[1]):
        return None
    wrong = [(i, a, b) for i, (a, b) in enumerate(zip(*sides, strict=True)) if not can_copy(b, a)]
    if not wrong or any(a.kind != b.kind for a, b in zip(*sides, strict=True)):
        return None
    return wrong[0][0] + 1, len(sides[0]), *wrong[0][1:]


def _fits(mine: list[OperatorLayer], reference: list[OperatorLayer]) -> bool:
    """Whether all can be copied, and what one side shares between two layers, the other shares too."""
    if len(mine) != len(reference) or not all(can_copy(b, a) for a, b in zip(mine, reference, strict=True)):
        return False
    shared = [[next(k for k, other in enumerate(side) if _first(other) == _first(layer)) for layer in side]
              for side in (mine, reference)]
    return shared[0] == shared[1]


def _first(layer: OperatorLayer) -> tuple[int, int]:
    """Which number of which parameter the layer begins with: slices of one parameter are different layers."""
    slot = next(iter(layer.slots.values()))[0]
    return id(slot.parameters[0]), int(slot.index.flatten()[0])
