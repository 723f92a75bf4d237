"""Compare a network with a reference, and say where and why they differ.

`compare` copies the reference's weights into a copy of the learner's network, layer by layer as the
data reach them, puts random numbers where zeros and ones would hide a difference, runs both in
float64 and follows them until they part. There it reads which operators each network ran, and
names the first in which they differ. `transfer_weights` is the call that changes a network.

    trace.py      run a copy and watch it            graph.py      its operators, which can run again
    prepare.py    random numbers for zeros, ones     order.py      an order that follows the data
    transfer.py   pair layers, copy weights          follow.py     both networks side by side, in rows
    operator_layers.py, operator_pairs.py, regroup.py   layers as operators, where modules do not pair
    rows.py, diagnose.py, inside.py, hand_norm.py    walk along the rows, in words
    report.py     what `compare` returns
    matched.py, joined.py, reordered.py, patterns.py, parted.py   where the operators between two layers part:
                                                     by numbers, concatenations, orders, several at once, one by one
    operators.py, moves.py, layouts.py, spelled.py   operators, orders and layouts in words, formulas
    between.py, formula.py                           what a tensor looks like, where operators do not tell
"""
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor, nn

from lwcourse.compare.diagnose import before_the_last, first_difference, out_of_sight
from lwcourse.compare.follow import Comparer, line_up
from lwcourse.compare.graph import Value as Step
from lwcourse.compare.inside import settings
from lwcourse.compare.layouts import relative_error
from lwcourse.compare.operator_layers import OperatorLayer
from lwcourse.compare.operator_pairs import Exchange, exchanges, misfit, pair_up
from lwcourse.compare.prepare import Randomiser
from lwcourse.compare.regroup import NO_BATCH_NORM, note_on, regroup, walk_of
from lwcourse.compare.report import Comparison, LayerComparison
from lwcourse.compare.rows import Finding, Row, Walk
from lwcourse.compare.trace import (
    CannotRun,
    Layer,
    Recorder,
    Run,
    default_dtype,
    device_of,
    eval_copy,
    nothing_left_behind,
    own_functions_among_hooks,
    run,
)
from lwcourse.compare.transfer import (
    Pair,
    align,
    check_inputs,
    check_model,
    copy_layer,
    fit,
    in_data_order,
    kind,
    misfits,
    pair_by_kind,
    pair_twins,
    transfer_weights,
)

__all__ = ["NO_BATCH_NORM", "Comparison", "LayerComparison", "compare", "transfer_weights"]

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative to the reference's largest value
RANDOM = ("rand", "bernoulli", "uniform", "normal", "native_dropout", "multinomial")  # how such operators begin
YOURS, REFERENCE = "your network", "the reference"
MOST_EXCHANGES = 4  # of branches that are alike: as many are made, and as many tried for each, a run a try


def compare(mine: nn.Module, reference: nn.Module, x: Tensor | tuple[Tensor, ...]) -> Comparison:
    """Compare two networks with the same weights, layer by layer, and say where they part.

    x is an input for both, or a tuple of inputs, such as torch.randn(2, 3, 64, 64): random, so
    that nothing hides behind zeros. Neither network is changed: everything happens on copies,
    in eval mode and float64 (float32 on MPS, or where a forward insists on it). Equal means
    equal to 1e-9 of the largest output (1e-4 in float32), and between layers for other numbers than
    those that x leads to. Layers are matched by what they read and who reads them, in whatever order
    they are called; a Linear may stand for a 1x1 convolution, three Linears for one, a convolution
    for one with its BatchNorm folded in, an operator on a parameter for a module. Functions that you have
    registered as forward hooks do not run; a note says so.
    Memory: two copies, and the reference's activations in float64 on the CPU.
    Raises TypeError when an argument is no model or no tensor; ValueError when a model has no
    parameters, cannot be copied, returns no tensor, or cannot run x (naming the model, the
    layer and the reason), and when x is one number everywhere or not finite.
    """
    return compare_copies(mine, reference, x)[0]


def compare_copies(mine: nn.Module, reference: nn.Module, x: Tensor | tuple[Tensor, ...]
                   ) -> tuple[Comparison, nn.Module, nn.Module]:
    """Like `compare`, with the two copies; where they are equal, they have the same weights, in eval mode."""
    mine, reference = check_model(mine, YOURS), check_model(reference, REFERENCE)
    inputs = check_inputs(x)
    for item in inputs:
        _check_content(item)
    on_mps = any(device_of(model).type == "mps" for model in (mine, reference))  # it has no float64
    done = None
    with nothing_left_behind():
        if not on_mps:
            with suppress(ValueError):  # a forward that makes float32 tensors of its own may fail
                done = _copies_compared(mine, reference, inputs, torch.float64)
        result, ours, theirs = done or _copies_compared(mine, reference, inputs, torch.float32)
    for who, model in ((YOURS, mine), (REFERENCE, reference)):
        if hooked := own_functions_among_hooks(model):
            where = hooked[0][0] or type(model).__name__
            result.notes.append(f"{who} has forward hooks, which did not run: on `{where}`")
    return result, ours, theirs


def _check_content(x: Tensor) -> None:
    if x.numel() == 0:
        raise ValueError(f"x has no elements: its shape is {tuple(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError(f"x has NaN or infinite values; pass random numbers: torch.randn{tuple(x.shape)}")
    if x.numel() > 1 and x.is_floating_point() and x.max() == x.min():
        raise ValueError(f"x is {x.flatten()[0].item():g} everywhere, which hides differences; "
                         f"pass random numbers: torch.randn{tuple(x.shape)}")


def _copies_compared(mine: nn.Module, reference: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype
                     ) -> tuple[Comparison, nn.Module, nn.Module]:
    ours, theirs = eval_copy(mine, YOURS, dtype), eval_copy(reference, REFERENCE, dtype)
    with default_dtype(dtype):
        return _compare(ours, theirs, inputs, dtype), ours, theirs


def _compare(ours: nn.Module, theirs: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Comparison:
    """The comparison of two copies, whose weights it sets."""
    randomiser = Randomiser(theirs, seed=0)
    run(theirs, inputs, REFERENCE, before=randomiser.before, after=randomiser.after, setting_buffers=True)
    recorder = Recorder()
    theirs_run = run(theirs, inputs, REFERENCE, before=recorder.before, after=recorder.after)

    randomiser = Randomiser(ours, seed=1)
    try:
        ours_first = run(ours, inputs, YOURS, before=randomiser.before, after=randomiser.after, setting_buffers=True)
    except CannotRun as error:
        hint = _before_it_broke(error.seen.layers, ours, theirs, theirs_run, inputs, dtype)
        raise ValueError(f"{error}. {hint}") from error.__cause__
    best, best_pairs, tried = None, [], []
    same_layers = Counter(map(kind, ours_first.layers)) == Counter(map(kind, theirs_run.layers))
    for pairs in _pairings(ours_first, theirs_run):
        if any(_names(pairs) == _names(others) for others in tried):
            continue
        tried.append(pairs)
        result = _follow(pairs, ours, theirs, inputs, theirs_run, dtype)
        fits_better = best is not None and misfits(pairs) < misfits(best_pairs) - 1e-6
        if best is None or result.equal or fits_better or same_layers and _agreed(result) > _agreed(best):
            best, best_pairs = result, pairs
            if len(tried) > 1:  # believed where more layers fit, or the networks agree for longer and none is missing
                best.notes.extend(_moved(pairs))
        if best.equal:
            return best
    if any(a is None or b is None or not fit(a, b) for a, b in tried[0]):
        other = _regrouped(ours, ours_first, theirs, theirs_run, inputs, dtype)
        best = other or _misfit(best, ours, ours_first, theirs, theirs_run)
    rounded = any(torch.float32 in side.graph.dtypes for side in (ours_first, theirs_run))
    if rounded and dtype is torch.float64 and not best.equal and best.max_error < TOLERANCES[torch.float32]:
        raise ValueError("one of the networks rounds to float32 inside, so float64 shows no more than that does")
    return best


def _regrouped(ours: nn.Module, ours_first: Run, theirs: nn.Module, theirs_run: Run, inputs: tuple[Tensor, ...],
               dtype: torch.dtype) -> Comparison | None:
    """The comparison by operators, where all of them pair; None where they do not.

    Where the two part at one of several branches that are alike, as those of a product, whose order means nothing,
    the others are tried in its place.
    """
    best, pairs = _by_operators(ours, ours_first, theirs, theirs_run, inputs, dtype, []) or (None, [])
    exchanged: list[Exchange] = []
    while best is not None and best.focus is not None and len(exchanged) < MOST_EXCHANGES:
        found = exchanges(pairs, best.focus)[:MOST_EXCHANGES]
        for more in ([[]] if found and not exchanged else []) + [[exchange] for exchange in found]:
            recorder = Recorder()  # anew, since the search for differences spells a graph, and so its order, otherwise
            again = run(theirs, inputs, REFERENCE, before=recorder.before, after=recorder.after)
            tried = _by_operators(ours, ours_first, theirs, again, inputs, dtype, exchanged + more)
            result, after = tried or (None, [])
            if result is not None and (result.equal or (result.focus or 0) > best.focus):
                best, pairs = result, after
                exchanged += more
                break
        else:
            break
    return best


def _by_operators(ours: nn.Module, ours_first: Run, theirs: nn.Module, theirs_run: Run, inputs: tuple[Tensor, ...],
                  dtype: torch.dtype, exchanged: list[Exchange]
                  ) -> tuple[Comparison, list[tuple[OperatorLayer, OperatorLayer]]] | None:
    pairs = regroup(ours, ours_first, theirs, theirs_run, exchanged)
    if pairs is None:
        return None
    ours_run = run(ours, inputs, YOURS)
    with torch.device("cpu"):
        after = pair_up((ours_run, ours), (theirs_run, theirs), exchanged)
        walk = walk_of(after, (ours_run, theirs_run), (ours, theirs), [x.detach().cpu().double() for x in inputs],
                       TOLERANCES[dtype]) if after is not None else None
    if walk is None:
        return None
    result = _conclude(walk, ours_run, ours, theirs, inputs, theirs_run, dtype)
    result.notes.append(note_on(after))
    return result, after


def _misfit(found: Comparison, ours: nn.Module, ours_first: Run, theirs: nn.Module, theirs_run: Run) -> Comparison:
    """The comparison with another sentence, where one layer differs behind a BatchNorm that only one network folds."""
    with torch.device("cpu"):
        pair = misfit((ours_first, ours), (theirs_run, theirs))
    words = settings(pair[2].settings, pair[3].settings) if pair is not None else ""
    if not words or found.equal:
        return found
    place, count, mine, reference = pair
    focus = next((k for k, row in enumerate(found.layers) if row.mine == mine.name), found.focus)
    sentence = f"Layer {place} of {count}, your `{mine.name}` (reference: `{reference.name}`): {words}."
    return replace(found, first_difference=sentence, focus=focus)


def _pairings(ours: Run, theirs: Run) -> Iterator[list[Pair]]:
    """Ways to pair the layers, the likeliest first: as they are called, as the data reach them, twins anywhere, and
    by shapes and settings alone."""
    called = align(ours.layers, theirs.layers)
    yield called
    for joined_anyhow in (False, True):
        yield align(*(in_data_order(side.layers, side, joined_anyhow) for side in (ours, theirs)))
    yield pair_twins(called)[0]
    yield pair_by_kind(ours.layers, theirs.layers)


def _names(pairs: list[Pair]) -> list[tuple[str | None, str | None]]:
    return [(a and a.name, b and b.name) for a, b in pairs]


def _moved(pairs: list[Pair]) -> list[str]:
    """A note on the layers that run earlier or later than their partners."""
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    ranks = [sorted(range(len(both)), key=lambda k, side=side: both[k][side].time) for side in (0, 1)]
    place = [{k: place for place, k in enumerate(order)} for order in ranks]
    moved = [both[k] for k in ranks[1] if place[0][k] != place[1][k]]
    if not moved:
        return []
    return [f"{len(moved)} layers run in another order than in the reference, the first being your "
            f"`{moved[0][0].name}` (reference: `{moved[0][1].name}`)"]


def _before_it_broke(layers: list[Layer], ours: nn.Module, theirs: nn.Module, theirs_run: Run,
                     inputs: tuple[Tensor, ...], dtype: torch.dtype) -> str:
    """Where a network that breaks off had left the reference already, or what the reference runs next."""
    count = len(layers)
    pairs = align(layers, theirs_run.layers[:count])
    walk, ours_run = _walk(pairs, ours, theirs, theirs_run, inputs, dtype)
    finding = first_difference(walk, [])
    if finding is not None:
        return f"It had left the reference before: {finding.words}"
    entered = before_the_last(walk, ours_run, theirs_run)
    if entered is not None:
        return entered
    ours_last, theirs_last = pairs[-1] if pairs else (None, None)
    if ours_last is not None and theirs_last is not None:
        words = settings(ours_last.module, theirs_last.module)
        if words:
            return f"Up to there both agree; your `{ours_last.name}` has {words} (`{theirs_last.name}`)"
    following = theirs_run.layers[count] if count < len(theirs_run.layers) else None
    then = f"runs `{following.name}` ({following.kind})" if following is not None else "has no further layer"
    return f"Up to there both agree; then the reference {then}"


def _agreed(comparison: Comparison) -> float:
    return math.inf if comparison.focus is None else comparison.focus


def _walk(pairs: list[Pair], ours: nn.Module, theirs: nn.Module, theirs_run: Run, inputs: tuple[Tensor, ...],
          dtype: torch.dtype) -> tuple[Walk, Run]:
    """Copy the weights along `pairs`, run the learner's network as far as it goes, and line both up."""
    for layer, partner in pairs:
        if layer is not None and partner is not None and fit(layer, partner):
            copy_layer(partner, layer)
    comparer = Comparer(pairs, theirs_run, TOLERANCES[dtype])
    recorder = Recorder(comparer.finish)
    try:
        ours_run = run(ours, inputs, YOURS, before=recorder.before, after=recorder.after)
    except CannotRun as error:
        ours_run = error.seen
    rows = line_up(pairs, ours_run, theirs_run, comparer.errors)
    counts = [sum(pair[side] is not None for pair in pairs) for side in (0, 1)]
    walk = Walk(rows, [x.detach().cpu().double() for x in inputs], TOLERANCES[dtype], counts, (ours_run, theirs_run),
                (ours, theirs))
    return walk, ours_run


def _follow(pairs: list[Pair], ours: nn.Module, theirs: nn.Module, inputs: tuple[Tensor, ...], theirs_run: Run,
            dtype: torch.dtype) -> Comparison:
    """Compare everything that happens with the weights copied along `pairs`."""
    walk, ours_run = _walk(pairs, ours, theirs, theirs_run, inputs, dtype)
    return _conclude(walk, ours_run, ours, theirs, inputs, theirs_run, dtype)


def _conclude(walk: Walk, ours_run: Run, ours: nn.Module, theirs: nn.Module, inputs: tuple[Tensor, ...],
              theirs_run: Run, dtype: torch.dtype) -> Comparison:
    """The verdict, once both have run with the same weights."""
    outputs = [_named_tensors(side.outputs) for side in (ours_run, theirs_run)]
    for who, output in zip((YOURS, REFERENCE), outputs, strict=True):
        if not output:
            raise ValueError(f"{who} returns no tensor; a tensor, or a tuple, list or dict of tensors can be compared")
    same_names = outputs[0].keys() == outputs[1].keys()
    max_error = max(relative_error(outputs[0][k], outputs[1][k]) for k in outputs[1]) if same_names else math.inf
    notes = _notes(walk.rows, ours_run, theirs_run, dtype)
    finding = None
    if max_error > walk.tolerance:
        finding = _judge(walk, *outputs, [(ours, ours_run, YOURS), (theirs, theirs_run, REFERENCE)], inputs)
    else:
        steps = [_named_steps(side.outputs, side) for side in (ours_run, theirs_run)]
        finding = out_of_sight(walk, [(k, steps[0][k], steps[1][k]) for k in steps[1]])
    if finding is None and not all(row.agrees(walk.tolerance) for row in walk.rows):
        notes.append("some layers inside give other values than their partners, but the outputs agree")
    public = [_public(row, walk.tolerance) for row in walk.rows]
    focus = walk.rows.index(finding.row) if finding and finding.row else None
    sentence = finding.sentence if finding else None
    return Comparison(finding is None, max_error, sentence, public, notes, walk.tolerance, focus)


def _named_tensors(output: object, name: str = "") -> dict[str, Tensor]:
    """Every tensor of an output, under what follows `output` to reach it: "", "[0]", "['aux']"."""
    if isinstance(output, Tensor):
        return {name: output.detach().cpu().double()}
    if isinstance(output, dict):
        items = [(f"{name}[{key!r}]", value) for key, value in output.items()]
    elif isinstance(output, (tuple, list)):
        items = [(f"{name}[{k}]", value) for k, value in enumerate(output)]
    else:
        return {}
    return {key: tensor for part, value in items for key, tensor in _named_tensors(value, part).items()}


def _named_steps(output: object, seen: Run) -> dict[str, Step]:
    """Like `_named_tensors`, the values in the run's graph."""
    def steps(output, name):
        if isinstance(output, Tensor):
            return {name: seen.leaving.get(id(output)) or seen.graph.value(output)}
        items = output.items() if isinstance(output, dict) else enumerate(output)
        return {k: v for key, part in items if isinstance(part, (Tensor, dict, tuple, list))
                for k, v in steps(part, f"{name}[{key!r}]").items()}
    return steps(output, "")


def _judge(walk: Walk, ours: dict[str, Tensor], theirs: dict[str, Tensor],
           sides: list[tuple[nn.Module, Run, str]], inputs: tuple[Tensor, ...]) -> Finding:
    """The first difference; but a network that contradicts itself, or is not finite, is no use to compare."""
    if not all(torch.isfinite(t).all() for t in theirs.values()):
        return Finding("the reference itself gives NaN or infinity for this x, so nothing can be compared", None)
    same_names = ours.keys() == theirs.keys()
    steps = [_named_steps(side.outputs, side) for _, side, _ in sides]
    pairs = [(ours[k], theirs[k], (steps[0][k], steps[1][k])) for k in theirs] if same_names else []
    finding = first_difference(walk, [pair for pair in pairs if relative_error(*pair[:2]) > walk.tolerance])
    for twin, first, who in sides:
        random = any(node.name.startswith(RANDOM) for node in first.graph.nodes)
        for _ in range(6 if random else 1):  # a branch that is dropped for whole images may fall the same way twice
            recorder = Recorder()
            second = run(twin, inputs, who, before=recorder.before, after=recorder.after)
            unlike = {a for a, b in zip(first.calls, second.calls, strict=False) if a.differs(b, walk.tolerance)}
            row = next((row for row in walk.rows if row.mine_call in unlike or row.reference_call in unlike), None)
            outputs = zip(_named_tensors(first.outputs).values(), _named_tensors(second.outputs).values(), strict=False)
            unstable = row is not None or any(relative_error(b, a) > walk.tolerance for a, b in outputs)
            if unstable:
                break
        earlier = finding is not None and finding.row is not None and (row is None or finding.row.number < row.number)
        if unstable and not earlier:
            return Finding(_unstable(walk, row, first, who), row)
    if finding is None and not same_names:
        returned = ["one tensor" if list(side) == [""] else ", ".join(f"output{k}" for k in side)
                    for side in (ours, theirs)]
        return Finding(f"your network returns {returned[0]}, but the reference returns {returned[1]}", None)
    return finding


def _unstable(walk: Walk, row: Row | None, first: Run, who: str) -> str:
    where = f"at {walk.place(row)}" if row is not None and row.mine and row.reference else "in the output"
    active = [rate for rate, on in first.dropouts if on]
    why = (f"Dropout with p={active[0]:g} is active in eval mode, as F.dropout(x, p) is without training=self.training"
           if active else "Something random runs in its forward, even in eval mode")
    return f"{who} is not deterministic: two runs on the same x differ {where}. {why}"


def _notes(rows: list[Row], ours: Run, theirs: Run, dtype: torch.dtype) -> list[str]:
    """What training, or a reader, would notice although the outputs may be equal."""
    notes = []
    paired = [(row.mine, row.reference) for row in rows if row.mine and row.reference]
    unlike = [(a, b) for a, b in paired if hasattr(a.module, "momentum") and hasattr(b.module, "momentum")
              and a.module.momentum != b.module.momentum]
    if unlike:
        a, b = unlike[0]
        notes.append(f"BatchNorm momentum: {_number(a.module.momentum)} in your `{a.name}`, "
                     f"{_number(b.module.momentum)} in the reference ({len(unlike)} such layers); "
                     "no effect in eval mode")
    rates = [[f"{rate:g}" for rate, _ in side.dropouts] for side in (ours, theirs)]
    if rates[0] != rates[1]:
        counted = [[(rate, len(list(same))) for rate, same in groupby(side)] for side in rates]
        words = [", ".join(f"{rate} ({n} times)" if n > 1 else rate for rate, n in side) or "none" for side in counted]
        notes.append(f"dropout rates: {words[0]} in your network, {words[1]} in the reference; no effect in eval mode")
    for who, side in ((YOURS, ours), (REFERENCE, theirs)):
        if side.unused:
            more = f" and {len(side.unused) - 3} more" if len(side.unused) > 3 else ""
            listed = ", ".join(f"`{name}`" for name in side.unused[:3])
            notes.append(f"{who} has parameters that x never reaches, which were ignored: {listed}{more}")
    if dtype is torch.float32:
        notes.append("compared in float32, where a small difference such as BatchNorm's eps may not show")
    return notes


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:g}"


def _public(row: Row, tolerance: float) -> LayerComparison:
    def side(layer, call):
        return (layer.name, layer.kind, call.shape if call else None) if layer else (None, None, None)
    mine, reference = side(row.mine, row.mine_call), side(row.reference, row.reference_call)
    return LayerComparison(mine[0], reference[0], mine[1], reference[1], mine[2], reference[2],
                           row.output_error, row.agrees(tolerance))
