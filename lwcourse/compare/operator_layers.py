"""Layers as the operators have them: whose parameters they are, and how many modules share them, does not matter.

A convolution is an operator with a weight, whether `nn.Conv2d` calls it or a class that keeps all its tensors
itself. Seen so, three Linears on one input are one Linear cut in three, convolutions on parts of the channels are
one with groups, a norm written by hand is a norm, and a convolution with a bias may be one with a BatchNorm folded
into it. Where that lets the weights be copied, two networks can be equal that have other layers.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from lwcourse.compare.graph import Node, Value
from lwcourse.compare.moves import origin
from lwcourse.compare.operators import (
    MATRIX_PRODUCTS,
    SUMS,
    UNCHANGED,
    arguments,
    is_activation,
    is_move,
    scalar,
    unchanged,
)
from lwcourse.compare.order import by_data
from lwcourse.compare.trace import Run

NORMS = {"native_batch_norm": "BatchNorm", "native_layer_norm": "LayerNorm", "native_group_norm": "GroupNorm"}


@dataclass(eq=False)
class Slot:
    """A tensor in the form in which an operator reads it: elements of parameters, by `index` from end to end."""
    parameters: list[Tensor]
    index: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.index.shape)

    def read(self) -> Tensor:
        every = torch.cat([p.detach().flatten().cpu().double() for p in self.parameters])
        return every[self.index]

    def write(self, values: Tensor) -> None:
        every = torch.cat([p.detach().flatten().cpu().double() for p in self.parameters])
        every[self.index.flatten()] = values.flatten().to(every)
        for parameter, part in zip(self.parameters, every.split([p.numel() for p in self.parameters]), strict=True):
            parameter.data.copy_(part.view_as(parameter))


@dataclass(eq=False)
class OperatorLayer:
    """One operator with parameters, or several that are one: `parts` are the layers that it was made of."""
    name: str
    kind: str                        # "Conv2d", "Linear", "BatchNorm", "Parameter", ...
    slots: dict[str, list[Slot]]     # role -> parts, to be put together along the first axis
    settings: SimpleNamespace
    entering: Value
    leaving: Value
    node: Node
    order: Tensor | None = None      # of the rows, where one layer stands for several
    bn: "OperatorLayer | None" = None  # to be folded into it

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {role: (sum(s.shape[0] for s in parts), *parts[0].shape[1:]) for role, parts in self.slots.items()}


def _slot(value: Value) -> Slot | None:
    """The parameters behind an operand, where nothing but moving lies between; None for what is computed."""
    found = origin(value, set())
    if found is None or any(s.node is not None or s.tensor is None for s in found.sources) or (found.index < 0).any():
        return None
    return Slot([s.tensor for s in found.sources], found.index)


def _is_weight(value: Value | None, owned: dict[int, str]) -> bool:
    """Whether an operand is made of parameters alone, by moving."""
    if value is None:
        return False
    waiting, any_owned = [value], False
    for _ in range(60):
        if not waiting:
            return any_owned
        one = waiting.pop()
        if one.node is None:
            if id(one.tensor) not in owned:
                return False
            any_owned = True
        elif is_move(one) or one.node.name in UNCHANGED:
            waiting += one.node.operands
        else:
            return False
    return False


def _name(slots: list[Slot], owned: dict[int, str], whole: bool) -> str:
    """The module's name where all of the operator's tensors are one module's, else the first tensor's."""
    names = [owned[id(p)] for slot in slots for p in slot.parameters]
    owners = {name.rpartition(".")[0] for name in names}
    return owners.pop() if whole and len(owners) == 1 and "" not in owners else names[0]


def operator_layers(seen: Run, model: nn.Module) -> list[OperatorLayer]:
    """The operators of a run that read parameters, in the order in which the data reach them."""
    owned = {id(t): name for name, t in (*model.named_buffers(), *model.named_parameters())}
    nodes = by_data(list(seen.leaving.values()))
    readers: dict[Value, list[Node]] = {}
    for node in nodes:
        for value in node.operands:
            readers.setdefault(value, []).append(node)
    found: list[OperatorLayer] = []
    used_as_bias: set[Node] = set()
    for node in nodes:
        layer = None
        if node.name == "convolution" and _is_weight(node.args[1], owned):
            layer = _convolution(node, owned)
        elif node.name in NORMS:
            layer = _norm(node, owned)
        elif node.name in MATRIX_PRODUCTS:
            layer = _product(node, owned, readers, used_as_bias)
        elif node not in used_as_bias and not _makes_a_kernel(node, owned, readers):
            layer = _raw(node, owned)
        if layer is not None:
            found.append(layer)
    return found


def _makes_a_kernel(node: Node, owned: dict[int, str], readers: dict[Value, list[Node]]) -> bool:
    """Whether parameters are only put together here, for convolutions to read."""
    following = [reader for value in node.outputs for reader in readers.get(value, [])]
    return bool(following) and is_move(node.outputs[0]) and all(_is_weight(v, owned) for v in node.operands) and all(
        reader.name == "convolution" and reader.args[0] not in node.outputs for reader in following)


def _convolution(node: Node, owned: dict[int, str]) -> OperatorLayer | None:
    a = arguments(node)
    weight, bias = _slot(node.args[1]), _slot(node.args[2]) if isinstance(node.args[2], Value) else None
    if weight is None:
        return None
    dims = len(weight.shape) - 2
    slots = {"weight": [weight]} | ({"bias": [bias]} if bias is not None else {})
    transposed = a["transposed"]
    settings = SimpleNamespace(
        kernel_size=tuple(weight.shape[2:]), stride=tuple(a["stride"]), padding=tuple(a["padding"]),
        dilation=tuple(a["dilation"]), groups=a["groups"],
        in_channels=weight.shape[0] if transposed else weight.shape[1] * a["groups"],
        out_channels=weight.shape[1] * a["groups"] if transposed else weight.shape[0])
    kind = f"Conv{'Transpose' if transposed else ''}{dims}d"
    return OperatorLayer(_name([weight], owned, True), kind, slots, settings, node.args[0], node.outputs[0], node)


def _norm(node: Node, owned: dict[int, str]) -> OperatorLayer | None:
    places = {"native_batch_norm": (1, 2, 3, 4), "native_layer_norm": (2, 3), "native_group_norm": (1, 2)}[node.name]
    roles = ("weight", "bias", "running_mean", "running_var")
    slots = {}
    for role, place in zip(roles, places, strict=False):
        value = node.args[place]
        if isinstance(value, Value) and _is_weight(value, owned):
            slots[role] = [_slot(value)]
    if not slots:
        return None
    eps = {"native_batch_norm": 7, "native_layer_norm": 4, "native_group_norm": 7}[node.name]
    settings = SimpleNamespace(eps=node.args[eps])
    if node.name == "native_group_norm":
        settings.num_groups = node.args[6]
    name = _name([s for parts in slots.values() for s in parts], owned, True)
    return OperatorLayer(name, NORMS[node.name], slots, settings, node.args[0], node.outputs[0], node)


def _product(node: Node, owned: dict[int, str], readers: dict[Value, list[Node]],
             used_as_bias: set[Node]) -> OperatorLayer | None:
    """x W^T + b, in all its spellings; the weight is (out, in) here."""
    operands = [a for a in node.args if isinstance(a, Value)]
    bias = operands[0] if node.name in ("addmm", "baddbmm") else None
    left, right = operands[-2:]
    if _is_weight(right, owned):
        x, weight = left, _slot(right)
        index = weight.index.transpose(-1, -2) if weight is not None else None
    elif _is_weight(left, owned):
        x, weight = right, _slot(left)
        index = weight.index if weight is not None else None
    else:
        return None
    if weight is None:
        return None
    while index.dim() > 2:
        if index.shape[0] > 1 and not torch.equal(index[:1].expand_as(index), index):
            return None
        index = index[0]
    weight = Slot(weight.parameters, index)
    slots = {"weight": [weight]}
    leaving = node.outputs[0]
    if bias is not None and _is_weight(bias, owned):
        slots["bias"] = [_slot(bias)]
    elif bias is None:
        at, after = leaving, None
        for _ in range(6):
            following = readers.get(at, [])
            if len(following) != 1:
                break
            after = following[0]
            if after.name in SUMS and len(after.operands) == 2 and not scalar(after):
                other = next((v for v in after.operands if v is not at), None)
                slot = _slot(other) if _is_weight(other, owned) else None
                if slot is not None and len(set(slot.index.flatten().tolist())) == index.shape[0]:
                    flat = slot.index.flatten()
                    slots["bias"] = [Slot(slot.parameters, torch.unique(flat))]
                    used_as_bias.add(after)
                    leaving = after.outputs[0]
                break
            if not (is_move(after.outputs[0]) or after.name in UNCHANGED):
                break
            at = after.outputs[0]
    settings = SimpleNamespace(in_features=index.shape[1], out_features=index.shape[0])
    return OperatorLayer(_name([weight], owned, True), "Linear", slots, settings, x, leaving, node)


def _raw(node: Node, owned: dict[int, str]) -> OperatorLayer | None:
    """A parameter that is added, multiplied and the like."""
    if is_move(node.outputs[0]) and len(node.operands) == 1 or node.name in UNCHANGED:
        return None
    for value in node.operands:
        if _is_weight(value, owned):
            slot = _slot(value)
            if slot is None or len(slot.parameters) != 1:
                continue
            parameter = slot.parameters[0]
            plain = Slot([parameter], torch.arange(parameter.numel()).view(parameter.shape))
            other = next((v for v in node.operands if v is not value), value)
            return OperatorLayer(owned[id(parameter)], "Parameter", {"weight": [plain]},
                                 SimpleNamespace(operator=node.name), other, node.outputs[0], node)
    return None


# Several as one

def _core(value: Value) -> Value:
    """What a layer reads, behind operators that only arrange it anew, but take all of it."""
    value = unchanged(value)
    while is_move(value) and len(value.node.operands) == 1 and \
            math.prod(value.shape) == math.prod(value.node.operands[0].shape):
        value = unchanged(value.node.operands[0])
    return value


def _alike(a: OperatorLayer, b: OperatorLayer) -> bool:
    """Whether two layers read one tensor in one way, so that they might be one."""
    if a.kind != b.kind or a.kind not in ("Linear", "Conv1d", "Conv2d", "Conv3d") or a.slots.keys() != b.slots.keys():
        return False
    skip = ("out_channels", "out_features")
    settings = [{k: v for k, v in vars(layer.settings).items() if k not in skip} for layer in (a, b)]
    return settings[0] == settings[1] and a.settings.__dict__.get("groups", 1) == 1


def merged(layers: list[OperatorLayer], nodes: list[Node]) -> list[OperatorLayer]:
    """Layers that read the same tensor in the same way as one layer, with one BatchNorm behind them; and those that
    read its parts as one with groups.

    The rows of a layer that is cut afterwards are put in the order in which the parts are used.
    """
    result: list[OperatorLayer] = []
    groups: list[list[OperatorLayer]] = []
    for layer in layers:
        home = next((g for g in groups if _alike(g[0], layer) and _core(g[0].entering) is _core(layer.entering)), None)
        if home is not None and layer.slots["weight"][0].parameters[0] is not home[0].slots["weight"][0].parameters[0]:
            home.append(layer)
        else:
            groups.append([layer])
    for group in groups:
        result.append(group[0] if len(group) == 1 else _joined(group))
    return with_one_norm(_grouped(result), nodes, [group for group in groups if len(group) > 1])


def with_one_norm(layers: list[OperatorLayer], nodes: list[Node], groups: Sequence[list[OperatorLayer]] = ()
                  ) -> list[OperatorLayer]:
    """BatchNorms behind the layers of one of `groups`, or behind the parts of one concatenation, as one."""
    norms = [layer for layer in layers if layer.kind == "BatchNorm"]
    by_entering = {_core(norm.entering): norm for norm in norms}
    families = [[by_entering.get(_core(layer.leaving)) for layer in group] for group in groups]
    first = [True] * len(families)  # where the one stands: at the first place of the family, or at its last
    ends: dict[Value, OperatorLayer] = {norm.leaving: norm for norm in norms}
    for node in nodes:  # a norm, perhaps with an activation behind it, up to where it is concatenated
        if node.outputs and len(node.operands) == 1 and (is_activation(node) or node.name in UNCHANGED) and \
                node.operands[0] in ends:
            ends[node.outputs[0]] = ends[node.operands[0]]
        if node.name == "cat" and len(node.operands) > 1 and all(value in ends for value in node.operands) and \
                node.outputs[0].shape[1] == sum(value.shape[1] for value in node.operands):
            families.append([ends[value] for value in node.operands])
            first.append(False)
    taken: set[OperatorLayer] = set()
    result = list(layers)
    for family, at_first in zip(families, first, strict=True):
        alike = all(norm is not None and norm not in taken and norm.slots.keys() == family[0].slots.keys()
                    and vars(norm.settings) == vars(family[0].settings) for norm in family)
        if not alike or len(set(family)) < len(family):
            continue
        taken.update(family)
        slots = {role: [slot for norm in family for slot in norm.slots[role]] for role in family[0].slots}
        one = OperatorLayer(family[0].name, "BatchNorm", slots, family[0].settings, family[0].entering,
                            family[-1].leaving, family[0].node)
        places = sorted(result.index(norm) for norm in family)
        result[places[0] if at_first else places[-1]] = one
        result = [layer for layer in result if layer not in family]
    return result


def _joined(group: list[OperatorLayer], groups: int = 1) -> OperatorLayer:
    first = group[0]
    slots = {role: [slot for layer in group for slot in layer.slots[role]] for role in first.slots}
    settings = SimpleNamespace(**vars(first.settings))
    size = sum(layer.shapes["weight"][0] for layer in group)
    setattr(settings, "out_features" if first.kind == "Linear" else "out_channels", size)
    if groups > 1:
        settings.groups, settings.in_channels = groups, sum(layer.settings.in_channels for layer in group)
    return OperatorLayer(first.name, first.kind, slots, settings, first.entering, first.leaving, first.node)


def _part_of(value: Value) -> tuple[Value, int] | None:
    """(the whole, first channel) of a value that is some of the channels of another."""
    value = unchanged(value)
    if not is_move(value) or len(value.node.operands) != 1 or len(value.shape) < 3:
        return None
    whole = value
    while is_move(whole) and len(whole.node.operands) == 1:
        whole = unchanged(whole.node.operands[0])
        if len(whole.shape) == len(value.shape) and whole.shape[1] > value.shape[1] and \
                whole.shape[2:] == value.shape[2:]:
            found = origin(value, {whole})
            inner = math.prod(whole.shape[2:])
            start = int(found.index.flatten()[0]) // inner if found and len(found.sources) == 1 else None
            return None if start is None else (whole, start)
    return None


def _grouped(layers: list[OperatorLayer]) -> list[OperatorLayer]:
    """Convolutions of one shape, each on its part of the channels of one tensor, as one convolution with groups."""
    families: dict[tuple, list[tuple[int, OperatorLayer]]] = {}
    for layer in layers:
        part = _part_of(layer.entering) if layer.kind.startswith("Conv") else None
        if part is not None:
            settings = tuple(sorted((k, v) for k, v in vars(layer.settings).items()))
            families.setdefault((part[0], layer.kind, settings), []).append((part[1], layer))
    replaced: dict[OperatorLayer, OperatorLayer | None] = {}
    for (whole, _, _), parts in families.items():
        parts.sort(key=lambda item: item[0])
        size = parts[0][1].settings.in_channels
        if [start for start, _ in parts] != list(range(0, whole.shape[1], size)) or len(parts) < 2:
            continue
        joined = _joined([layer for _, layer in parts], len(parts) * parts[0][1].settings.groups)
        replaced |= {layer: None for _, layer in parts}
        replaced[min((layer for _, layer in parts), key=layers.index)] = joined
    return [new for layer in layers if (new := replaced.get(layer, layer)) is not None]


def rows_as_used(layer: OperatorLayer, outputs: list[Value]) -> Tensor | None:
    """The rows of a layer's weight in the order in which the parts of its output are used; None for all at once."""
    read: list[tuple[Value, Node]] = []
    nodes = by_data(outputs, read=read)
    behind, roots = {layer.leaving}, {layer.leaving}
    for node in nodes:
        made = node.outputs[0] if node.outputs else None
        for value in node.operands:
            if made is None or value not in behind:
                continue
            if is_move(made) and len(node.operands) == 1 or node.name in UNCHANGED:
                behind.update(node.outputs)
            elif value in roots and (node.name == "native_batch_norm" or is_activation(node)):  # channel by channel
                behind.add(made)
                roots.add(made)
    order: list[int] = []
    axis = -1 if layer.kind == "Linear" else 1
    count = layer.shapes["weight"][0]
    inner = math.prod(layer.leaving.shape[2:]) if axis == 1 else 1
    parts = 0
    for value, node in read:
        if value not in behind or node.outputs and node.outputs[0] in behind:
            continue
        found = origin(value, roots)
        if found is None or len(found.sources) != 1 or found.sources[0] not in roots:
            return None
        channels = (found.index.flatten() // inner) % count
        new = [c for c in dict.fromkeys(channels.tolist()) if c not in order]
        parts += bool(new)
        order += new
    return torch.tensor(order) if parts > 1 and sorted(order) == list(range(count)) else None


# Norms by hand, and folded ones

def by_hand(layers: list[OperatorLayer]) -> list[OperatorLayer]:
    """Parameters that are subtracted, divided by, multiplied with and added, as the norm that they are."""
    result = list(layers)
    for k, layer in enumerate(layers):
        size = layer.shapes["weight"] if layer.kind == "Parameter" else None
        if size is None or layer not in result:
            continue
        numel = math.prod(size)
        run = [layer]
        for other in layers[k + 1:]:
            if other.kind != "Parameter" or math.prod(other.shapes["weight"]) != numel or len(run) == 4:
                break
            run.append(other)
        roles = {_role(part): part for part in run}
        before = layers[k - 1] if k else None
        norm = before if before and before.kind == "BatchNorm" and "weight" not in before.slots else None
        wanted = {"weight", "bias"} if norm is not None else {"weight", "bias", "running_mean", "running_var"}
        if set(roles) != wanted or len(roles) != len(run):
            continue
        slots = {role: [_flat(roles[role].slots["weight"][0])] for role in
                 ("weight", "bias", "running_mean", "running_var") if role in roles}
        if norm is not None:
            slots |= norm.slots
            result.remove(norm)
        joined = OperatorLayer(layer.name.rpartition(".")[0] or layer.name, "BatchNorm", slots,
                               norm.settings if norm else SimpleNamespace(), layer.entering, run[-1].leaving,
                               run[-1].node)
        result[result.index(layer)] = joined
        for part in run[1:]:
            result.remove(part)
    return result


def _flat(slot: Slot) -> Slot:
    return Slot(slot.parameters, slot.index.flatten())


def _role(layer: OperatorLayer) -> str:
    """What a parameter does in a norm, by the operator that reads it."""
    node = layer.node
    if node.name == "sub" or node.kwargs.get("alpha", 1) == -1:
        return "running_mean"
    if node.name in ("sqrt", "rsqrt", "pow"):
        return "running_var"
    if node.name == "add":
        return "running_var" if scalar(node) else "bias"
    return "weight" if node.name == "mul" else node.name


def folded(layers: list[OperatorLayer], nodes: list[Node]) -> list[OperatorLayer]:
    """Each convolution or Linear whose output goes into a BatchNorm alone takes that BatchNorm in."""
    readers: dict[Value, list[Node]] = {}
    for node in nodes:
        for value in node.operands:
            readers.setdefault(value, []).append(node)
    by_entering = {_core(layer.entering): layer for layer in layers if layer.kind == "BatchNorm"}
    result = []
    for layer in layers:
        norm = by_entering.get(_core(layer.leaving)) if layer.kind.startswith(("Conv", "Linear")) else None
        # A convolution with a bias of its own is not what folding leaves behind: there the BatchNorm is missing.
        if norm is not None and {"running_mean", "running_var"} <= norm.slots.keys() and \
                "eps" in vars(norm.settings) and "bias" not in layer.slots:
            layer = OperatorLayer(layer.name, layer.kind, layer.slots, layer.settings, layer.entering, norm.leaving,
                                  layer.node, bn=norm)
            by_entering.pop(_core(layer.bn.entering))
        result.append(layer)
    taken = {layer.bn for layer in result if layer.bn is not None}
    return [layer for layer in result if layer not in taken]
