"""Run the learner's network beside what the reference did, call by call, and line both up in rows."""
from itertools import zip_longest

from torch import Tensor

from lwcourse.compare.layouts import layout_error
from lwcourse.compare.rows import Row
from lwcourse.compare.trace import Call, Layer, Run
from lwcourse.compare.transfer import Pair, fit

KEPT_CALLS = 16  # calls after the parting whose tensors are kept, for the diagnosis


class Comparer:
    """Compares each call of the learner's network with its partner's at once, so that few tensors are kept.

    `errors` maps a call to the errors of its inputs and outputs; None where they cannot be compared.
    """

    def __init__(self, pairs: list[Pair], reference: Run, tolerance: float):
        self.tolerance = tolerance
        self.partner = {ours.module: theirs.module for ours, theirs in pairs if ours and theirs}
        self.waiting = {module: reference.calls_of(module) for module in self.partner.values()}
        self.errors: dict[Call, tuple[float | None, float | None]] = {}
        self.kept = 0
        self.fused: Call | None = None  # the latest call that agrees only without its own activation

    def finish(self, call: Call) -> None:
        """The callback of a Recorder."""
        waiting = self.waiting.get(self.partner.get(call.module), [])
        agrees = fused = False
        theirs = waiting.pop(0) if waiting else None
        if theirs is not None:
            entering = self._error(call.inputs, theirs.inputs)
            leaving = None if entering is None else self._error(call.outputs, theirs.outputs)
            if leaving is not None and leaving > self.tolerance and (call.plain or theirs.plain):
                # One may be a BatchNorm that also applies the activation: what comes next will tell.
                leaving = min(leaving, self._error(call.plain or call.outputs, theirs.plain or theirs.outputs))
                fused = leaving <= self.tolerance
            self.errors[call] = entering, leaving
            agrees = all(error is None or error <= self.tolerance for error in (entering, leaving))
            call.fused = agrees and fused
        self.kept += not agrees
        if agrees and _sizes(call) != _sizes(theirs):
            return  # in another layout, and both are needed to know in which
        if agrees and fused:
            self.fused, call = call, self.fused
        if call is not None and (agrees or self.kept > KEPT_CALLS):
            call.inputs = call.outputs = call.plain = None

    @staticmethod
    def _error(ours: list[Tensor], theirs: list[Tensor]) -> float | None:
        if len(ours) != len(theirs) or not ours:
            return None
        return max(layout_error(a, b) for a, b in zip(ours, theirs, strict=True))


def _sizes(call: Call) -> list[list[int]]:
    return [list(t.shape) for side in (call.inputs, call.outputs) for t in side or ()]


def line_up(pairs: list[Pair], ours: Run, theirs: Run,
            errors: dict[Call, tuple[float | None, float | None]]) -> list[Row]:
    """A row for each call of a matched layer and for each layer without a partner, in the reference's order.

    What is never called (a block's own parameter, a weight that its parent uses) has a row only
    when it has no partner that fits.
    """
    done = set()

    def calls(run: Run, layer: Layer | None) -> list[Call]:
        if layer is None or layer.raw or layer.module in done:
            return []
        done.add(layer.module)
        return run.calls_of(layer.module)

    timed: list[tuple[int, Row]] = []
    time = -1
    for layer, partner in pairs:
        mine, reference = calls(ours, layer), calls(theirs, partner)
        if partner is not None:
            time = reference[0].time if reference else partner.time
        if layer is None or partner is None:
            timed.append((time, Row(layer, partner, *(side[0] if side else None for side in (mine, reference)))))
        elif mine and reference:
            timed += [(b.time if b else time, Row(layer, partner, a, b, *errors.get(a, (None, None))))
                      for a, b in zip_longest(mine, reference)]
        elif not fit(layer, partner):
            timed.append((time, Row(layer, partner)))
    rows = [row for _, row in sorted(timed, key=lambda item: item[0])]
    for number, row in enumerate(rows, start=1):
        row.number = number
    return rows
