"""Walk along two networks and say, in words, where and why they part."""
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor, nn

from lwcourse.compare.between import READ, Parting, cause, effect, not_finite, squeeze_on_the_wrong_side
from lwcourse.compare.formula import Value, close
from lwcourse.compare.graph import Value as Step
from lwcourse.compare.graph import needed, repeated
from lwcourse.compare.hand_norm import norm_by_hand
from lwcourse.compare.inside import IN_A_LAYER, batch_statistics, other_norm, settings
from lwcourse.compare.layouts import arrangements, layout_error
from lwcourse.compare.matched import Anchor, same_operators
from lwcourse.compare.operators import UNCHANGED, alone, is_move, unchanged
from lwcourse.compare.parted import Parted
from lwcourse.compare.rows import Finding, Row, Walk
from lwcourse.compare.trace import Layer, Run, has_own_forward
from lwcourse.compare.transfer import fit


def first_difference(walk: Walk, outputs: list[tuple[Tensor, Tensor, tuple[Step, Step]]]) -> Finding | None:
    """The first place where the networks part; `outputs` are the final tensors that differ, with their steps."""
    previous: Row | None = None  # the latest matched row that was called
    for k, row in enumerate(walk.rows):
        if row.mine is None or row.reference is None:
            return Finding(_missing_or_extra(walk, k), row)
        if row.input_error is not None and row.input_error > walk.tolerance:
            return _parted_before(walk, k, previous)
        if not fit(row.mine, row.reference):
            return Finding(_other_tensors(walk, k), row)
        if row.mine_call is None and row.reference_call is None:
            continue
        if row.mine_call is None or row.reference_call is None:
            sides = ("the reference", "your network") if row.mine_call is None else ("your network", "the reference")
            return Finding(f"{walk.place(row)}: {sides[0]} calls it once more than {sides[1]}", row)
        if row.output_error is not None and row.output_error > walk.tolerance:
            return Finding(_other_result(walk, row), row)
        previous = row
    found = [[k for k, (_, other, _) in enumerate(outputs) if layout_error(mine, other) <= walk.tolerance]
             for mine, _, _ in outputs]
    if len(outputs) > 1 and all(found) and sorted(places[0] for places in found) == list(range(len(outputs))):
        mine, reference, steps = outputs[0]
        words = _why(walk, _parting(walk, len(walk.rows), mine, reference), steps)
        return Finding(f"between layer {len(walk.rows)} of {len(walk.rows)} and the output: the same outputs are "
                       f"returned in another order{f': {words}' if words else ''}", None)
    for mine, reference, steps in outputs:
        parting = _parting(walk, len(walk.rows), mine, reference)
        if previous is not None and previous.mine_call.fused and (
                words := batch_statistics(previous, walk.tolerance)):
            return Finding(f"{walk.place(previous)}: {words}", previous)
        words = _why(walk, parting, steps)
        if words is None and _is_inside(previous, parting):
            return Finding(_other_result(walk, previous), previous)
        last = next((f"layer {row.number} of {len(walk.rows)}, your `{row.mine.name}`" for row in walk.rows[::-1]
                     if row.mine is not None), "the start")
        return Finding(f"between {last}, and the output: {words or effect(parting)}", None)
    return None


def before_the_last(walk: Walk, ours: Run, theirs: Run) -> str | None:
    """What differs in what the last layer that was entered was given, when the network broke off in it."""
    if not walk.rows or not ours.calls:
        return None
    row, call = walk.rows[-1], ours.calls[-1]
    partners = theirs.calls_of(row.reference.module) if row.reference is not None else []
    if row.mine is None or row.mine.module is not call.module or len(partners) != 1 or not call.inputs:
        return None
    pairs = zip(call.inputs, partners[0].inputs or [], call.entering, partners[0].entering, strict=False)
    for mine, reference, step, other in pairs:
        if layout_error(mine, reference) > walk.tolerance:
            reached = replace(walk, rows=walk.rows[:-1])  # nothing is known of the layer that broke
            words = _why(reached, _parting(walk, len(walk.rows) - 1, mine, reference), (step, other))
            return f"Before {walk.place(row)}: {words}" if words else None
    return None


# Between two layers

def _parting(walk: Walk, k: int, mine: Tensor, reference: Tensor) -> Parting:
    values, seen = [Value("", False, x) for x in walk.inputs], {id(x) for x in walk.inputs}
    for row in walk.rows[:k]:
        call = row.reference_call
        if call is None or row.mine is None or not row.agrees(walk.tolerance):
            continue
        sides = [(False, call.inputs or []), (True, call.plain or call.outputs or [])]
        for is_output, tensor in [(side, t) for side, tensors in sides for t in tensors]:
            if id(tensor) not in seen and tensor.dim() > 0:
                seen.add(id(tensor))
                values.append(Value(row.mine.name, is_output, tensor))
    later = []
    for call_of in (lambda row: row.mine_call, lambda row: row.reference_call):
        calls = [((row.mine or row.reference).name, call_of(row)) for row in walk.rows[k:k + 8] if call_of(row)]
        later.append([(name, *(side[0] if side else None for side in (c.inputs, c.plain or c.outputs)))
                      for name, c in calls])
    return Parting(mine, reference, values, walk.tolerance, *later)


def _numbers(shape: torch.Size, generator: torch.Generator, everywhere: bool) -> Tensor:
    """Random numbers, mostly below 4, some up to 60; with `everywhere`, whole channels around 40 and -40, too."""
    numbers = 2 * torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    flat = numbers.view(-1)
    flat[::13] *= 12
    if everywhere and len(shape) > 1:
        channels = numbers.movedim(-1 if len(shape) == 3 else 1, 0)
        channels[1::5] += 40
        channels[3::5] -= 40
        flat[::29] += 30
    return numbers


def _other_numbers(anchors: list[Anchor], everywhere: bool = False) -> list[Anchor]:
    """The same tensors with other `_numbers` in them, so that nothing is alike by chance.

    Two anchors that are one tensor, such as what leaves a layer and enters the next, stay one.
    """
    generator = torch.Generator("cpu").manual_seed(5)
    made: dict[Step, tuple[Tensor, Tensor]] = {}
    found = []
    for anchor in anchors:
        if anchor.reference not in made or made[anchor.reference][0].shape != anchor.theirs.shape:
            shape = anchor.theirs.shape
            numbers = _numbers(shape, generator, everywhere)
            made[anchor.reference] = numbers, torch.arange(numbers.numel()).double().view(shape)
        numbers, places = made[anchor.reference]
        shape = tuple(anchor.ours.shape)
        where = next((view for view, real in zip(arrangements(places, shape), arrangements(anchor.theirs, shape),
                                                 strict=True) if close(real, anchor.ours, 1e-6)), None)
        if where is not None and anchor.theirs.is_floating_point():
            found.append(replace(anchor, ours=numbers.flatten()[where.long()], theirs=numbers,
                                 name=replace(anchor.name, tensor=numbers)))
        elif not anchor.theirs.is_floating_point():
            found.append(anchor)
    return found


def _opened(steps: tuple[Step, Step], anchors: list[Anchor]) -> list[Anchor]:
    """Anchors that are concatenations in both networks, and are only moved from there to `steps`, become transparent.

    DenseNet reads a concatenation of concatenations: its parts say more than that the whole is another one.
    """
    cats = [a for a in anchors if all(v.node is not None and unchanged(v).node is not None and
                                      unchanged(v).node.name == "cat" for v in (a.mine, a.reference))]
    ends = [{a.mine for a in anchors} - {a.mine for a in cats},
            {a.reference for a in anchors} - {a.reference for a in cats}]
    seen: set[Step] = set()
    for step, stops in zip(steps, ends, strict=True):
        waiting = [step]
        while waiting:
            value = waiting.pop()
            if value not in seen and value not in stops:
                seen.add(value)
                if value.node is not None and (is_move(value) or value.node.name in UNCHANGED):
                    waiting += value.node.operands
    return [replace(a, opened=True) if a in cats and (a.mine in seen or a.reference in seen) else a for a in anchors]


def _behind(steps: tuple[Step, Step], anchors: list[Anchor]) -> list[Anchor]:
    """The anchors from which two values are made; computing with the others would be for nothing."""
    anchors = _opened(steps, anchors)
    known = [{a.mine for a in anchors if not a.opened}, {a.reference for a in anchors if not a.opened}]
    used = [{step, *(v for node in needed([step], side) for v in node.operands)}
            for step, side in zip(steps, known, strict=True)]
    return [a for a in anchors if a.mine in used[0] or a.reference in used[1] or not a.name.layer]


def _anchors(walk: Walk) -> list[Anchor]:
    """Everything that enters and leaves layers and is equal, and the inputs."""
    found = [Anchor(a, b, x, x, Value("", False, x))
             for a, b, x in zip(walk.runs[0].entering, walk.runs[1].entering, walk.inputs, strict=True)]
    calls = Counter(row.mine_call.module for row in walk.rows if row.mine_call)
    seen: Counter = Counter()
    for row in walk.rows:
        a, b = row.mine_call, row.reference_call
        if a is None or b is None or not row.agrees(walk.tolerance):
            continue
        seen[a.module] += 1
        which = seen[a.module] if calls[a.module] > 1 else 0
        sides = [(False, a.entering, b.entering, a.inputs, b.inputs)]
        if not a.fused:
            sides.append((True, a.leaving, b.leaving, a.outputs, b.outputs))
        for is_output, ours, theirs, mine, reference in sides:
            for k, (v, w) in enumerate(zip(ours, theirs, strict=False)):
                if reference is None or k >= len(reference):
                    continue
                tensor = mine[k] if mine is not None and k < len(mine) else reference[k]
                v, w = alone(v), alone(w)
                if tuple(tensor.shape) == v.shape and tensor.dim() > 0:
                    name = Value(row.mine.name, is_output, reference[k], which)
                    found.append(Anchor(v, w, tensor, reference[k], name))
    return found


def _plain_outputs(walk: Walk) -> list[tuple[Tensor, Value]]:
    """What layers whose class does more gave before that, where it is equal."""
    return [((b.plain or b.outputs)[0], Value(row.mine.name, True, (b.plain or b.outputs)[0])) for row in walk.rows
            if (a := row.mine_call) and (b := row.reference_call) and a.fused]


def _names(model: nn.Module) -> dict[int, str]:
    return {id(t): name for name, t in (*model.named_buffers(), *model.named_parameters())}


def _why(walk: Walk, parting: Parting, steps: tuple[Step, Step]) -> str | None:
    """What differs between two layers: as the operators say, else what the numbers look like."""
    if cause(parting, (not_finite,)):
        return cause(parting)
    with torch.device("cpu"):
        return _as_the_operators_say(walk, parting, steps) or cause(parting)


def _as_the_operators_say(walk: Walk, parting: Parting, steps: tuple[Step, Step]) -> str | None:
    anchors, names = _behind(steps, _anchors(walk)), tuple(map(_names, walk.models))
    for numbers, inside in ((_other_numbers(anchors), []), (anchors, _plain_outputs(walk))):
        try:
            parted = Parted(*steps, numbers, walk.tolerance, names, inside)
        except ValueError:
            continue
        if parted.equal_after_all or not parted.finite:
            continue
        read = parted.read(parting)
        if read and read.both and "global" in read.ours.resize:  # the gate itself comes later, with the real numbers
            said = _squeeze(walk, parting, steps, anchors, names)
            if said:
                return said
        said = read and cause(read, READ) or parted.cause()
        if said:
            return said
    return None


def _squeeze(walk: Walk, parting: Parting, steps: tuple[Step, Step], anchors: list[Anchor],
             names: tuple[dict[int, str], dict[int, str]]) -> str | None:
    try:
        read = Parted(*steps, anchors, walk.tolerance, names, []).read(parting)
    except ValueError:
        return None
    return read and squeeze_on_the_wrong_side(read)


def out_of_sight(walk: Walk, outputs: list[tuple[str, Step, Step]]) -> Finding | None:
    """What differs between two networks whose outputs are equal for x: the same layers, but operators between them
    that part where x does not lead, as ReLU and ReLU6 do below 6."""
    with torch.device("cpu"):
        return _out_of_sight(walk, outputs)


def _out_of_sight(walk: Walk, outputs: list[tuple[str, Step, Step]]) -> Finding | None:
    anchors, names = _made_again(_anchors(walk), walk.runs), tuple(map(_names, walk.models))
    after = [a for a in anchors if a.name.is_output or not a.name.layer]
    into = [a for a in anchors if not a.name.is_output]
    for row in walk.rows:
        a, b = row.mine_call, row.reference_call
        if a is None or b is None or not row.agrees(walk.tolerance):
            continue
        places = [(steps, after, f"before {walk.place(row)}: ", row)
                  for steps in zip(a.entering, b.entering, strict=False)]
        if has_own_forward(row.mine.module) or has_own_forward(row.reference.module):
            entering = [anchor for anchor in into if anchor.mine in a.entering and anchor.name.layer == row.mine.name]
            places += [(steps, entering, f"{walk.place(row)}: ", row)
                       for steps in zip(a.leaving, b.leaving, strict=False) if not a.fused and entering]
        for steps, numbers, where, at in places:
            words = _hidden(steps, numbers, walk.tolerance, names)
            if words:
                return Finding(where + words, at)
    for _, *steps in outputs:
        words = _hidden(tuple(steps), after, walk.tolerance, names)
        if words:
            last = walk.rows[-1].mine if walk.rows else None
            end = f"layer {len(walk.rows)} of {len(walk.rows)}, your `{last.name}`" if last else "the start"
            return Finding(f"between {end}, and the output: {words}", None)
    return None


def _hidden(steps: tuple[Step, Step], anchors: list[Anchor], tolerance: float,
            names: tuple[dict[int, str], dict[int, str]]) -> str | None:
    known = [{a.mine for a in anchors}, {a.reference for a in anchors}]
    if same_operators(*(needed([step], side) for step, side in zip(steps, known, strict=True))):
        return None
    anchors = _other_numbers(_behind(steps, anchors), everywhere=True)
    try:
        parted = Parted(*steps, anchors, tolerance, names, [])
    except ValueError:
        return None
    if parted.equal_after_all:
        return None
    ends = parted.mine.tensors[steps[0]], parted.reference.tensors[steps[1]]
    if not parted.finite or ends[0].numel() != ends[1].numel():
        return None  # numbers that neither network was made for
    read = parted.read(Parting(*ends, [a.name for a in anchors], tolerance))
    said = read and cause(read, READ) or parted.cause()
    return f"{said} (for this x both are equal, for other numbers they are not)" if said else None


def _made_again(anchors: list[Anchor], runs: tuple[Run, Run]) -> list[Anchor]:
    """With anchors for what a network computes once more, as with a branch that runs for each sum that it is part of:
    it gets the numbers of the first time."""
    again = []
    for side, seen in zip(("mine", "reference"), runs, strict=True):
        same = repeated(seen.leaving.values())
        first = {same.get(getattr(a, side), getattr(a, side)): a for a in anchors}
        there = {getattr(a, side) for a in anchors}
        again += [replace(first[w], **{side: v}) for v, w in same.items() if w in first and v not in there]
    return anchors + again


def _is_inside(previous: Row | None, parting: Parting) -> bool:
    """Whether the layer before is to blame: it agrees only without what its subclass adds, which nothing explains."""
    if previous is None:
        return False
    return bool(parting.ours is None and previous.mine_call.plain
                or parting.theirs is None and previous.reference_call.plain)


def _parted_before(walk: Walk, k: int, previous: Row | None) -> Finding:
    row = walk.rows[k]
    where = f"before {walk.place(row)}: "
    if previous is not None and previous.mine_call.fused:
        words = batch_statistics(previous, walk.tolerance)
        if words:
            return Finding(f"{walk.place(previous)}: {words}", previous)
    if row.mine_call.inputs is None:
        return Finding(f"{where}what comes in differs", row)
    pairs = zip(row.mine_call.inputs, row.reference_call.inputs, strict=True)
    which = next((i for i, (a, b) in enumerate(pairs) if layout_error(a, b) > walk.tolerance), 0)
    parting = _parting(walk, k, row.mine_call.inputs[which], row.reference_call.inputs[which])
    words = _why(walk, parting, (row.mine_call.entering[which], row.reference_call.entering[which]))
    if words is None and _is_inside(previous, parting):
        return Finding(_other_result(walk, previous), previous)
    return Finding(where + (words or effect(parting)), row)


# Structure

def _what(layer: Layer) -> str:
    shape = next(iter(layer.shapes.values()), ())
    return f"`{layer.name}` ({layer.kind}, {'x'.join(map(str, shape)) or 'scalar'})"


def _gap_run(walk: Walk, k: int) -> list[Row]:
    """The row k and those that follow it with the same side empty."""
    side = "mine" if walk.rows[k].mine is None else "reference"
    run = []
    for row in walk.rows[k:]:
        if getattr(row, side) is not None:
            break
        run.append(row)
    return run


def _gap_words(run: list[Row]) -> str:
    missing = run[0].mine is None
    layers = [row.reference if missing else row.mine for row in run]
    first, last = _what(layers[0]), _what(layers[-1])
    if missing and len(layers) == 1:
        return f"the reference has {first} here, which is missing in your network"
    if missing:
        return f"the reference has {len(layers)} layers here that are missing in your network, from {first} to {last}"
    if len(layers) == 1:
        return f"your {first} is one too many: the reference has no such layer here"
    return f"your network has {len(layers)} layers too many here, from {first} to {last}"


def _later(walk: Walk, run: list[Row]) -> str | None:
    """The one layer that is missing here comes later in the learner's network."""
    if len(run) != 1 or run[0].mine is not None:
        return None
    k = walk.rows.index(run[0])
    place = next((i for i, row in enumerate(walk.rows[k + 1:], k + 1) if row.reference is None and
                  row.mine.kind == run[0].reference.kind and row.mine.shapes == run[0].reference.shapes), None)
    if place is None or place == k + 1 or walk.rows[place - 1].mine is None:
        return None
    ends, call = list(walk.runs[0].leaving.values()), walk.rows[place].mine_call
    read = {v for node in needed(ends) for v in node.operands} | set(ends)
    if call is None or not read & set(call.leaving):
        return None  # it is called, but nothing comes of it
    return (f"the reference has {_what(run[0].reference)} here, your network only after "
            f"{_what(walk.rows[place - 1].mine)}: the layers stand in another order")


def _lengths(walk: Walk) -> str:
    mine, reference = walk.counts
    if mine == reference:
        return ""
    return f". In all, your network has {mine} layers with weights, the reference {reference}"


def _missing_or_extra(walk: Walk, k: int) -> str:
    before = next((row for row in walk.rows[:k][::-1] if row.mine is not None and row.reference is not None), None)
    where = f"after {walk.place(before)}: " if before is not None else "at the start: "
    run = _gap_run(walk, k)
    words = _later(walk, run) or _gap_words(run)
    following = walk.rows[k + len(run)] if k + len(run) < len(walk.rows) else None
    if following is not None and (following.mine is None or following.reference is None):
        others = _gap_run(walk, k + len(run))
        if len(run) == len(others) == 1:
            pair = (following, run[0]) if run[0].mine is None else (run[0], following)
            said = norm_by_hand(*pair, walk.tolerance) if pair[0].mine and pair[1].reference else None
            if said is not None:
                return f"{where}{said}"
        words += "; and " + _gap_words(others)
    return f"{where}{words}{_lengths(walk)}"


def _other_tensors(walk: Walk, k: int) -> str:
    row = walk.rows[k]
    words = other_norm(row, walk.tolerance) or settings(row.mine.module, row.reference.module)
    if not words:
        ours, theirs = (f"{layer.kind} with " + ", ".join(f"{layer.tensors[r]} {s}" for r, s in layer.shapes.items())
                        for layer in (row.mine, row.reference))
        words = f"{ours}, but the reference has {theirs}"
    is_last = k == len(walk.rows) - 1
    classes = [layer.shapes.get("weight", (0,))[0] for layer in (row.mine, row.reference)]
    whole = walk.runs[1].layers and row.reference is walk.runs[1].layers[-1]  # not the last that a broken one reached
    classifies = all(len(layer.shapes.get("weight", ())) > 1 for layer in (row.mine, row.reference))
    if is_last and whole and classifies and classes[0] != classes[1]:
        words += ": the number of classes differs"
    following = walk.rows[k + 1] if not is_last else None
    if following is not None and (following.mine is None or following.reference is None):
        words += ". After it, " + _gap_words(_gap_run(walk, k + 1))
    return f"{walk.place(row)}: {words}{_output_shapes(row)}{_lengths(walk)}"


def _output_shapes(row: Row) -> str:
    if row.mine_call is None or row.reference_call is None or row.mine_call.shape == row.reference_call.shape:
        return ""
    return f". Output {row.mine_call.shape} against {row.reference_call.shape}"


# Inside a layer


















def _operators_inside(walk: Walk, row: Row) -> str | None:
    """The first operator in which two layers part that are given the same."""
    a, b = row.mine_call, row.reference_call
    if not (a.inputs and b.inputs and a.outputs and b.outputs) or len(a.inputs) != len(b.inputs):
        return None
    anchors = [Anchor(v, w, x, y, Value(row.mine.name, False, y))
               for v, w, x, y in zip(a.entering, b.entering, a.inputs, b.inputs, strict=True)]
    try:
        with torch.device("cpu"):
            return Parted(a.leaving[0], b.leaving[0], anchors, walk.tolerance, tuple(map(_names, walk.models)),
                          []).cause()
    except ValueError:
        return None


def _other_result(walk: Walk, row: Row) -> str:
    """The same comes in, and something else comes out."""
    words = next((said for hypothesis in IN_A_LAYER if (said := hypothesis(row, walk.tolerance))), None)
    if words is None:
        words = _operators_inside(walk, row)
    if words is None:
        kinds = [type(layer.module).__name__ for layer in (row.mine, row.reference)]
        words = (f"a {kinds[0]}, but the reference has a {kinds[1]}" if kinds[0] != kinds[1] else
                 "the same settings and weights, yet another result from the same input: its forward differs")
    return f"{walk.place(row)}: {words}{_output_shapes(row)}"
