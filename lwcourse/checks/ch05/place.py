"""05.4: a gate in its place."""
import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lwcourse.checks import Score, exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    banded,
    counted_macs,
    counted_parameters,
    first_output,
    refuse_hidden_layers,
    refuse_over_budget,
    refuse_shared,
    run_alone,
    shown,
    trained_accuracy,
)
from lwcourse.data.arrangements import digit_pairs
from lwcourse.layers import (
    ConvBNAct,
)

SLOTS = {"stem": 8, "filter": 32, "head": 32}  # place: channels, on maps of 16 x 16
MAX_PARAMS, MAX_MACS = 600, 20_000
LEAST, GOOD = 0.9, 0.97  # the solution of the sheet reaches 100 % with each of the seeds 0 to 9
RECIPE = {"epochs": 6, "lr": 0.1, "batch_size": 32}


class PlaceNet(nn.Module):
    """Sees 7 pixels at once, and knows no border; `gates` maps a slot to a layer. Images (N, 1, H, W) -> (N, 2)."""

    def __init__(self, gates: Mapping[str, nn.Module]):
        super().__init__()
        self.stem = ConvBNAct(1, 8, 3, stride=2, act=nn.ReLU6)
        self.expand = ConvBNAct(8, 32, 1, act=nn.ReLU6)
        self.filter = ConvBNAct(32, 32, 3, groups=32, act=nn.ReLU6)
        self.head = ConvBNAct(32, 32, 1, act=nn.ReLU6)
        self.classifier = nn.Linear(32, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.padding_mode = "circular"
        self.gates = nn.ModuleDict(gates)

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in (("stem", self.stem), ("filter", nn.Sequential(self.expand, self.filter)),
                            ("head", self.head)):
            x = layer(x)
            if name in self.gates:
                x = self.gates[name](x)
        return self.classifier(x.mean((2, 3)))


@exercise("05.4", title="A gate in its place", minutes=25, difficulty="hard", expects=a_builder)
def gate_in_its_place(answer: Callable[[], Mapping[str, nn.Module]]) -> Score:
    """`answer()` gives {slot: layer}; PlaceNet is trained with them on digit_pairs, and accuracy is the score."""
    gates = _new_gates(answer)
    macs = params = 0
    for slot, gate in gates.items():
        size = (SLOTS[slot], 16, 16)
        _refuse_no_gate(gate, slot, size)
        macs, params = macs + counted_macs(gate, size), params + counted_parameters(gate)
    refuse_over_budget([(macs, MAX_MACS, "MACs"), (params, MAX_PARAMS, "parameters")],
                       "where are there fewer channels, and what makes a gate cheaper where it is?")
    accuracy = trained_accuracy(lambda: PlaceNet(answer()), PlaceNet(gates), digit_pairs(), RECIPE)
    chance = " (half is guessing: does your gate see where things are?)" if accuracy < 0.6 else ""
    return banded(accuracy, LEAST, GOOD, f", with {params:,} of {MAX_PARAMS:,} parameters and {macs:,} of {MAX_MACS:,} "
                  "MACs", f"within both budgets, but it learned too little{chance}")


def _new_gates(answer: Callable[[], Mapping[str, nn.Module]]) -> Mapping[str, nn.Module]:
    """What `answer` gives, refused unless it holds new layers for known slots."""
    gates, others = answer(), answer()
    if not isinstance(gates, Mapping | nn.ModuleDict) or not len(gates):
        fail(f"your function returns {shown(gates)}, not a dict from slot to layer with one entry at least"
             + ("; is the return missing?" if gates is None else ""))
    for slot, gate in gates.items():
        if slot not in SLOTS:
            fail(f"there is no slot {slot!r}; there are {', '.join(SLOTS)}")
        if not isinstance(gate, nn.Module):
            fail(f"the slot {slot!r} holds {shown(gate)}, not a layer that is built already")
        refuse_hidden_layers(gate)
        refuse_shared(gate, others[slot], "layer")
    return dict(gates.items())


def _refuse_no_gate(gate: nn.Module, slot: str, size: tuple[int, int, int]) -> None:
    """Refuse a layer whose output is not its input times numbers between 0 and 1, whatever its parameters are.

    The channels may come out in another order, as those of shuffle attention do.
    """
    gate = copy.deepcopy(gate).float().cpu()
    x = torch.randn(2, *size)
    for training in (False, False, True):  # as built, and then with other parameters
        gate.train(training)
        try:
            y = run_alone(gate, x, x.shape, f"the layer in {slot!r}: ")
        except (RuntimeError, ValueError) as error:
            fail(f"the layer in {slot!r} cannot run a map of {size[0]} channels, which it gets there: "
                 f"{str(error).splitlines()[0]}")
        with torch.no_grad():
            y = gate(x.clone())
            if y.shape != x.shape:
                fail(f"the layer in {slot!r} makes {tuple(y.shape)} of {tuple(x.shape)}; a gate keeps the shape")
            scales = y[:, :, None] / x[:, None]  # (2, channels out, channels in, 16, 16)
            if not ((scales > -1e-4) & (scales < 1 + 1e-4)).flatten(3).all(3).all(0).any(1).all():
                fail(f"the layer in {slot!r} is no gate: its output is not its input times numbers between 0 and 1")
            for parameter in gate.parameters():
                nn.init.normal_(parameter)
    first_output(gate, x)
