"""Compare two networks whose layers do not pair, operator by operator: three Linears with one, a folded BatchNorm."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lwcourse.compare.graph import evaluate
from lwcourse.compare.layouts import layout_error
from lwcourse.compare.operator_layers import OperatorLayer
from lwcourse.compare.operator_pairs import Exchange, copy, pair_up
from lwcourse.compare.rows import Row, Walk
from lwcourse.compare.trace import Call, Layer, Run

NO_BATCH_NORM = "no BatchNorm2d, or the like, behind"  # how the note on folded ones begins
MOST_ELEMENTS = 200_000_000  # of all tensors in a run


class _Owner:
    """Whom a call belongs to that is no module's."""


class OperatorAsLayer(Layer):
    """An operator's parameters where a `Row` wants a layer."""

    def __init__(self, operator: OperatorLayer, time: int):
        super().__init__(operator.name, operator.settings, {}, time=time)
        self._kind = operator.kind

    @property
    def kind(self) -> str:
        return self._kind


def regroup(ours: nn.Module, ours_run: Run, theirs: nn.Module, theirs_run: Run, exchanged: Sequence[Exchange] = ()
            ) -> list[tuple[OperatorLayer, OperatorLayer]] | None:
    """Copy the reference's weights into `ours` operator by operator; None, and nothing copied, where that cannot be."""
    with torch.device("cpu"):
        pairs = pair_up((ours_run, ours), (theirs_run, theirs), exchanged)
    if pairs is None:
        return None
    with torch.no_grad(), torch.device("cpu"):
        for mine, reference in pairs:
            copy(reference, mine)
    return pairs


def note_on(pairs: list[tuple[OperatorLayer, OperatorLayer]]) -> str:
    """What a reader should know of pairs that are no pairs of modules."""
    folded = [(a, b) for a, b in pairs if (a.bn is None) != (b.bn is None)]
    if folded:
        mine, reference = folded[0]
        if mine.bn is None:
            return (f"{NO_BATCH_NORM} your `{mine.name}` ({len(folded)} such layers), where the reference has "
                    f"`{reference.bn.name}`: its bias can stand for that in eval mode, but not in training")
        return (f"the reference has no BatchNorm behind `{reference.name}` ({len(folded)} such layers), as when it was "
                f"folded into it; your `{mine.bn.name}` can stand for its bias in eval mode")
    return ("the layers are put together in another way than in the reference, such as one Linear for three, or "
            "parameters in a class of their own")


def walk_of(pairs: list[tuple[OperatorLayer, OperatorLayer]], runs: tuple[Run, Run],
            models: tuple[nn.Module, nn.Module], inputs: list[Tensor], tolerance: float) -> Walk | None:
    """The rows of a comparison by operators, from what the operators compute; None where they cannot run again."""
    tensors = []
    for seen, side in zip(runs, (0, 1), strict=True):
        known = dict(zip(seen.entering, inputs, strict=True))
        targets = [v for pair in pairs for v in (pair[side].entering, pair[side].leaving)]
        if sum(torch.Size(node.outputs[0].shape).numel() for node in seen.graph.nodes if node.outputs) > MOST_ELEMENTS:
            return None
        try:
            tensors.append(evaluate([*targets, *seen.leaving.values()], known))
        except (RuntimeError, IndexError, NotImplementedError):
            return None
    rows = []
    for k, (mine, reference) in enumerate(pairs):
        row = Row(OperatorAsLayer(mine, k), OperatorAsLayer(reference, k), number=k + 1)
        simple = all(layer.order is None and len(parts) == 1
                     for layer in (mine, reference) for parts in layer.slots.values())
        if simple and mine.kind != "Parameter":
            calls = []
            for layer, values in ((mine, tensors[0]), (reference, tensors[1])):
                ends = [values[v].double() for v in (layer.entering, layer.leaving)]
                calls.append(Call(_Owner(), layer.node.number, [ends[0]], [ends[1]],
                                  shape=layer.leaving.shape, entering=[layer.entering], leaving=[layer.leaving]))
            row.mine_call, row.reference_call = calls
            row.input_error = layout_error(calls[0].inputs[0], calls[1].inputs[0])
            row.output_error = layout_error(calls[0].outputs[0], calls[1].outputs[0])
        rows.append(row)
    return Walk(rows, inputs, tolerance, [len(pairs)] * 2, runs, models)
