"""Where each element of a tensor comes from, and names for the usual ways to reorder channels and axes."""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.compare.graph import Value, evaluate, needed
from lwcourse.compare.operators import UNCHANGED, is_factor, is_move, ordinal, rounds


@dataclass(eq=False)
class Origin:
    """A tensor made only by moving elements: `index` says for each where it stands in the `sources`, end to end.

    -1 stands for padding with a number.
    """
    sources: list[Value]
    index: Tensor


def origin(value: Value, stops: set[Value], scaled: bool = False, strict: bool = False) -> Origin | None:
    """The sources of a value, behind everything that only moves elements; None when that cannot be followed.

    With `scaled`, a multiplication by a number is looked through too. What is in `stops` is no source where it only has
    other axes, unless `strict`.
    """
    sources: list[Value] = []
    rank = len(value.shape)
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        moved = one.node is not None and (is_move(one) or one.node.name in UNCHANGED and not rounds(one.node)
                                          or scaled and is_factor(one.node))
        if moved and (one is value or one not in stops or not strict and len(one.shape) != rank):
            waiting += moved_operands(one)[::-1]
        else:
            sources.append(one)
    order = {v: k for k, v in enumerate(sources)}
    starts, total = {}, 1  # 0 is what padding fills in
    for source in sorted(sources, key=order.get):
        starts[source] = total
        total += math.prod(source.shape)
    given = {s: torch.arange(starts[s], starts[s] + math.prod(s.shape), dtype=torch.float64).reshape(s.shape)
             for s in sources}
    nodes = needed([value], given)
    if len(nodes) > 200:
        return None
    try:
        for node in nodes:
            if scaled and is_factor(node):
                given |= {node.outputs[0]: evaluate(node.operands, given)[node.operands[0]]}
            elif node.name == "constant_pad_nd":  # 0 is no element, whatever number is padded with
                given |= {node.outputs[0]: F.pad(evaluate(node.operands, given)[node.operands[0]], node.args[1])}
        made = evaluate([value], given)[value]
    except (RuntimeError, IndexError, ValueError):
        return None
    return Origin(sources, made.round().long() - 1)


def moved_operands(value: Value) -> list[Value]:
    """What an operator takes its elements from; the places that it takes them from, where they are constants, are
    none."""
    operands = value.node.operands
    if value.node.name not in ("index", "index_select", "gather"):
        return operands
    def is_constant(place: Value) -> bool:
        nodes = needed([place])
        leaves = [v for node in nodes for v in node.operands if v.node is None] + [place] * (place.node is None)
        return len(nodes) <= 20 and not any(v.tensor.is_floating_point() for v in leaves)
    return operands[:1] + [v for v in operands[1:] if not is_constant(v)]


def channel_map(found: Origin, channels: int) -> list[int] | None:
    """Which channel of one source (N, C, ...) each channel holds, when whole channels moved; else None."""
    if len(found.sources) != 1 or found.index.dim() < 2:
        return None
    source, index = found.sources[0], found.index
    if len(source.shape) < 2 or source.shape[0] != index.shape[0] or source.shape[2:] != index.shape[2:]:
        return None
    inner = math.prod(source.shape[2:])
    n, c = source.shape[:2]
    flat = index.reshape(index.shape[0], index.shape[1], -1)
    where = flat[0, :, 0] // inner
    expected = (torch.arange(n)[:, None, None] * c + where[None, :, None]) * inner + torch.arange(inner)[None, None]
    if (flat < 0).any() or not torch.equal(expected.expand_as(flat), flat):
        return None
    return where.tolist()


def shuffled(count: int, groups: int) -> list[int]:
    """The channels after a shuffle with `groups` groups, as ShuffleNet's view(groups, n).transpose()."""
    return torch.arange(count).view(groups, -1).T.flatten().tolist()


def divisors(count: int) -> list[int]:
    return [g for g in range(1, count) if count % g == 0]


def name_orders(orders: list[list[int]], count: int) -> list[str | None]:
    """Names of both networks' orders: beside a shuffle, every second channel is half of another shuffle."""
    names = [name_channels(order, count) for order in orders]
    if any(name and "shuffle with" in name for name in names):
        return [name_channels(order, count, every=False) for order in orders]
    return names


def name_channels(order: list[int], count: int, every: bool = True) -> str | None:
    """Words for a choice and order of `count` channels: "a channel shuffle with 2 groups, first half of it"."""
    steps = {b - a for a, b in zip(order, order[1:], strict=False)}
    step = next(iter(steps)) if len(steps) == 1 else 0
    if every and step > 1 and step * len(order) == count:
        return f"every {ordinal(step)} channel from channel {order[0]} on"
    for g in divisors(count):
        whole = shuffled(count, g)
        for start in range(0, count, len(order)):
            if whole[start:start + len(order)] == order and count % len(order) == 0:
                return _chosen("" if g == 1 else f"a channel shuffle with {g} groups", start, len(order), count)
    if order == list(range(count))[::-1]:
        return "the channels backwards"
    if step == 1:
        return f"channels {order[0]} to {order[-1]} of {count}"
    if step > 1:
        return f"every {ordinal(step)} channel from channel {order[0]} on"
    if step < 0:
        return f"channels {order[0]} to {order[-1]} (backwards) of {count}" if step == -1 else \
            f"every {ordinal(-step)} channel from channel {order[0]} on, backwards"
    if sorted(order) == list(range(count)):
        for shift in range(1, count):
            if order == list(range(shift, count)) + list(range(shift)):
                return ("the two halves of the channels exchanged" if 2 * shift == count
                        else f"the channels rolled by {count - shift}")
    ends = [k for k in range(1, len(order)) if abs(order[k] - order[k - 1]) != 1]
    runs = [order[a:b] for a, b in zip([0, *ends], [*ends, len(order)], strict=True)]
    if 1 < len(runs) <= 4 and min(map(len, runs)) > 1:
        return "channels " + ", then ".join(f"{run[0]} to {run[-1]}{' (backwards)' * (run[0] > run[-1])}"
                                            for run in runs)
    return None


def name_positions(order: list[int], count: int) -> str:
    """Words for a choice of `count` positions of axis 1, as of tokens: of a square map, by rows and columns."""
    if order == list(range(count)):
        return "all positions in their order"
    if order == list(range(count))[::-1]:
        return "the positions backwards"
    side = math.isqrt(count)
    rows, columns = ([f(p) for p in order] for f in (lambda p: p // side, lambda p: p % side))
    rows, columns = list(dict.fromkeys(rows)), list(dict.fromkeys(columns))
    if side * side == count and order == [r * side + c for r in rows for c in columns] and len(rows) < side:
        listed = [", ".join(map(str, places)) for places in (rows, columns)]
        return f"rows {listed[0]} and columns {listed[1]} of the {side}x{side} positions"
    steps = {b - a for a, b in zip(order, order[1:], strict=False)}
    if len(order) > 2 and len(steps) == 1 and (step := steps.pop()) > 0:
        every = f", every {ordinal(step)}" if step > 1 else ""
        return f"positions {order[0]} to {order[-1]}{every} of axis 1"
    more = ", ..." if len(order) > 6 else ""
    return f"position{'s' * (len(order) > 1)} {', '.join(map(str, order[:6]))}{more} of axis 1"


def _chosen(shuffle: str, start: int, size: int, count: int) -> str:
    if size == count:
        return shuffle or "the channels in their order"
    part = f"part {start // size + 1} of {count // size} of the channels"
    if count == 2 * size:
        part = ("the first" if start == 0 else "the second") + " half of the channels"
    return f"{part} after {shuffle}" if shuffle else part


def rolled(index: Tensor, shape: tuple[int, ...]) -> str | None:
    """Words for a tensor that was moved along an axis, around or with padding; None when it was not."""
    if tuple(index.shape) != tuple(shape):
        return None
    places = torch.arange(index.numel()).view(shape)
    for axis, size in enumerate(shape):
        for shift in range(1, min(size, 64)):
            for step in {shift, -shift}:
                around = places.roll(step, axis)
                if torch.equal(around, index) or (index < 0).any() and torch.equal(around[index >= 0],
                                                                                   index[index >= 0]):
                    role = ("the images", "the channels", "the rows", "the columns")[axis] if len(shape) == 4 else ""
                    return f"moved by {abs(step)} along axis {axis}" + f" ({role})" * bool(role)
    return None


def digits(index: Tensor) -> tuple[int, list[tuple[int, int]]] | None:
    """(offset, [(size, step), ...]) from the slowest to the fastest, when `index` counts like nested loops."""
    flat = index.flatten()
    if not len(flat) or (flat < 0).any():
        return None
    offset, found = int(flat[0]), []
    while len(flat) > 1:
        step = int(flat[1] - flat[0])
        breaks = (flat.diff() != step).nonzero().flatten()
        size = int(breaks[0]) + 1 if len(breaks) else len(flat)
        while size > 1 and len(flat) % size:
            size -= 1
        rows = flat.view(-1, size)
        if size < 2 or not torch.equal(rows, rows[:, :1] + torch.arange(size) * step):
            return None
        found.append((size, step))
        flat = rows[:, 0]
    return offset, found[::-1]


def axes_of(index: Tensor, shape: tuple[int, ...]) -> tuple[int, list[tuple[int, int, int]]] | None:
    """`digits` in terms of a source's axes: (offset, [(axis, size, step along it), ...]); None when that fails."""
    loops = digits(index)
    if loops is None:
        return None
    strides = [math.prod(shape[k + 1:]) for k in range(len(shape))]
    found: list[tuple[int, int, int]] = []
    for size, step in loops[1]:
        if step == 0:  # the same element again and again
            found.append((-1, size, 0))
            continue
        run = []  # one loop may go on from the last axis to those before it
        while size > 1:
            axis = next((k for k, s in enumerate(strides)
                         if shape[k] > 1 and step % s == 0 and abs(step) < s * shape[k]), None)
            if axis is None:
                return None
            along = abs(step) // strides[axis]
            take = min(size, -(-shape[axis] // along))
            if size % take:
                return None
            run.append((axis, take, along if step > 0 else -along))
            size //= take
            step = step * take
        found += run[::-1]
    return loops[0], found


QKV = ("q", "k", "v")


def same_part(a: Tensor, b: Tensor, shape: tuple[int, ...]) -> tuple[str, str] | None:
    """Two parts of one axis, taken in the same way: ("part 2 of 3 of axis 2 (k of q, k, v)", "part 3 of ...")."""
    if a.numel() != b.numel() or (a < 0).any() or (b < 0).any():
        return None
    shift = int(b.flatten()[0] - a.flatten()[0])
    if shift == 0 or not torch.equal(a.flatten() + shift, b.flatten()):
        return None
    for axis, size in enumerate(shape):
        stride = math.prod(shape[axis + 1:])
        if size == 1 or abs(shift) < stride or shift % stride or abs(shift) >= stride * size:
            continue
        starts = [int(index.min()) // stride % size for index in (a, b)]
        width = len(torch.unique(a // stride % size))
        if width == 1:
            place = {0: "the first position", size - 1: "the last position"}
            words = [place.get(start, f"position {start}") for start in starts]
            return f"{words[0]} of axis {axis}", words[1]
        if size % width == 0 and all(start % width == 0 for start in starts):
            count = size // width
            words = [f"part {start // width + 1} of {count} of axis {axis}" for start in starts]
            if count == 3 and axis == len(shape) - 1:
                words = [f"{QKV[s // width]} ({w}, taken as q, k, v)" for w, s in zip(words, starts, strict=True)]
            return words[0], words[1]
        return tuple(f"elements {s} to {s + width - 1} of axis {axis}" for s in starts)
    return None


def describe_axes(index: Tensor, shape: tuple[int, ...]) -> str | None:
    """Words for a reordering of a tensor of `shape`: "axes 0, 2, 1 in this order; axis 2 split as 3 x 4 x 16"."""
    found = axes_of(index, shape)
    if found is None:
        return None
    offset, loops = found
    loops = [loop for loop in loops if loop[1] > 1]
    order = [axis for axis, _, _ in loops if axis >= 0]
    words = []
    split = {axis: sorted(((abs(step), size) for a, size, step in loops if a == axis), reverse=True)
             for axis in dict.fromkeys(order) if order.count(axis) > 1}
    if offset:
        position, rest = [], offset
        for k in range(len(shape)):
            stride = math.prod(shape[k + 1:])
            position.append(rest // stride)
            rest %= stride
        words.append("from " + " and ".join(f"element {p} of axis {k}" for k, p in enumerate(position) if p) + " on")
    words.append(f"axes in the order {', '.join(map(str, order))}" if order else "one element")
    words += [f"axis {axis} split as {' x '.join(str(size) for _, size in parts)}" for axis, parts in split.items()]
    words += [f"axis {axis} backwards" for axis, _, step in loops if step < 0]
    words += [f"every {ordinal(step)} element of axis {axis}" for axis, size, step in loops
              if step > 1 and axis >= 0 and axis not in split]
    return "; ".join(words)
