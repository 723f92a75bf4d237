"""Checks of chapter 05: attention."""
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, a_module_class, a_number, refuse_over_budget, trained_accuracy
from lwcourse.data.arrangements import digit_pairs
from lwcourse.latency import measure_latency
from lwcourse.layers import (
    ConvBNAct,
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.profile import profile

ECA_CHANNELS = (16, 64, 128, 300)  # kernels 3, 3, 5, 5
CA_CASES = ((64, 32), (96, 8), (16, 4))  # (channels, reduction): 8, 12 and 8 hidden channels
KINDS: dict[str, Callable[[int], nn.Module]] = {
    "SE": SqueezeExcitation, "ECA": EfficientChannelAttention, "CA": CoordinateAttention,
    "SA": partial(ShuffleAttention, groups=8), "Triplet": TripletAttention}
REASONS = ("MACs", "parameters", "passes over memory")
SLOTS = {"stem": 8, "filter": 32, "head": 32}  # place: channels, on maps of 16 x 16
MAX_PARAMS, MAX_MACS, LEAST_ACCURACY = 600, 20_000, 0.9
RECIPE = {"epochs": 6, "lr": 0.1, "batch_size": 32}


@exercise("05.1", title="Efficient channel attention", minutes=15, difficulty="medium", expects=a_module_class)
def efficient_channel_attention(answer: type[nn.Module]) -> str:
    """`answer(channels)` builds the layer, kernel by the paper's rule."""
    for channels in ECA_CHANNELS:
        layer = answer(channels).eval()
        _refuse_kernel(layer, channels)
        _explain(layer, (2, channels, 5, 7), partial(_eca, _weights(layer)), {
            reason: partial(formula, _weights(layer)) for reason, formula in ECA_MISTAKES.items()},
            f"with {channels} channels", "the gate is sigmoid(conv(means)), one number a channel, and multiplies x")
    return f"Equal to the course's layer for {', '.join(map(str, ECA_CHANNELS))} channels."


def _weights(layer: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])


def _refuse_kernel(layer: nn.Module, channels: int) -> None:
    count, kernel = sum(p.numel() for p in layer.parameters()), adaptive_kernel_size(channels)
    if count == kernel:
        return
    hint = "kernel = adaptive_kernel_size(channels), then nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)"
    if count == kernel + 1 and any(p.numel() == 1 for p in layer.parameters()):
        fail("the convolution has a bias; ECA's has none", hint)
    if count >= channels * kernel:
        fail(f"the convolution has {count:,} weights: it takes the channels for the channels of a signal. The means "
             f"are one signal of length {channels}, and one kernel of {kernel} runs along it", hint)
    if count % 2 == 0 and count < 2 * kernel:
        fail(f"the kernel has {count} weights, an even number: no channel would be in the middle", hint)
    fail(f"with {channels} channels there are {count} weights, the paper's kernel has {kernel}", hint)


def _along_channels(weight: Tensor, means: Tensor, mode: str = "constant") -> Tensor:
    """`means` (N, C) -> (N, C, 1, 1)"""
    padded = F.pad(means[:, None], (len(weight) // 2,) * 2, mode=mode)
    return F.conv1d(padded, weight.view(1, 1, -1))[:, 0, :, None, None]


def _eca(weight: Tensor, x: Tensor) -> Tensor:
    return x * _along_channels(weight, x.mean((2, 3))).sigmoid()


def _eca_one_axis(weight: Tensor, x: Tensor, axis: int) -> Tensor:
    means = x.mean(axis).transpose(1, 2)  # (N, other axis, C)
    gate = _along_channels(weight, means.flatten(0, 1)).view(*means.shape).transpose(1, 2).sigmoid()
    return x * gate.unsqueeze(axis)


def _eca_pixels(weight: Tensor, x: Tensor) -> Tensor:
    return x * _along_channels(weight, x.mean(1).flatten(1)).sigmoid().view(len(x), 1, *x.shape[2:])


ECA_MISTAKES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the sigmoid is missing: the gate is not held between 0 and 1":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))),
    "the gate is added; it must multiply": lambda w, x: x + _along_channels(w, x.mean((2, 3))).sigmoid(),
    "you return the gate alone; x must be multiplied by it": lambda w, x: _along_channels(w, x.mean((2, 3))).sigmoid(),
    "x is added once more behind the gate; ECA has no shortcut":
        lambda w, x: x + x * _along_channels(w, x.mean((2, 3))).sigmoid(),
    "the gate is 1 minus ECA's: it closes where that opens":
        lambda w, x: x * (1 - _along_channels(w, x.mean((2, 3))).sigmoid()),
    "the mean is over the batch as well: images share one gate":
        lambda w, x: x * _along_channels(w, x.mean((0, 2, 3))[None]).sigmoid(),
    "the gate is a hard sigmoid; ECA's is a sigmoid":
        lambda w, x: x * F.hardsigmoid(_along_channels(w, x.mean((2, 3)))),
    "the gate is a softmax: channels compete for a sum of 1; ECA's is a sigmoid":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).softmax(1),
    "the mean is over rows only: each column has a gate of its own": lambda w, x: _eca_one_axis(w, x, 2),
    "the mean is over columns only: each row has a gate of its own": lambda w, x: _eca_one_axis(w, x, 3),
    "the convolution runs over the pixels, not over the channels": _eca_pixels,
    "the maximum is taken where the mean should be": lambda w, x: x * _along_channels(w, x.amax((2, 3))).sigmoid(),
    "the first and the last channel are neighbours in your layer; pad with zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "circular").sigmoid(),
}


def _explain(layer: nn.Module, shape: tuple[int, ...], right: Callable[[Tensor], Tensor],
             mistakes: Mapping[str, Callable[[Tensor], Tensor]], label: str, hint: str) -> None:
    """Refuse unless `layer` computes `right`; name the mistake whose formula it computes instead."""
    x = torch.randn(shape) + 0.3
    with torch.no_grad():
        y, expected = layer(x.clone()), right(x)
        if not isinstance(y, Tensor):
            fail(f"{label} the output is {type(y).__name__}, not a tensor" + "; is the return missing?" * (y is None))
        if y.shape == expected.shape and torch.allclose(y, expected, rtol=1e-4, atol=1e-5):
            return
        for reason, formula in mistakes.items():
            wrong = formula(x)
            if wrong.shape == y.shape and torch.allclose(y, wrong, rtol=1e-4, atol=1e-5):
                fail(reason, hint)
    if y.shape != expected.shape:
        fail(f"{label} an input of shape {tuple(x.shape)} gives {tuple(y.shape)}; the shape must stay", hint)
    fail(f"{label} {int((~torch.isclose(y, expected, rtol=1e-4, atol=1e-5)).sum())} of {y.numel()} values differ from "
         "those of the same weights in the course's layer", hint)


@exercise("05.2", title="Coordinate attention", minutes=25, difficulty="hard", expects=a_module_class)
def coordinate_attention(answer: type[nn.Module]) -> str:
    """`answer(channels, reduction)` builds the layer from 1x1 convolutions and one BatchNorm."""
    for channels, reduction in CA_CASES:
        layer = answer(channels, reduction).eval()
        parts = _ca_parts(layer, channels, reduction)
        for norm in (module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)):
            nn.init.normal_(norm.running_mean, 0, 0.3)
            nn.init.uniform_(norm.running_var, 0.5, 2)
        mistakes = {reason: partial(_ca, *_swapped(parts, options), **options)
                    for reason, options in CA_MISTAKES.items()}
        # Which of the two convolutions was written first says nothing about which of them is for the rows.
        swapped = partial(_ca, *_swapped(parts, {"swap": True}))
        x = torch.randn(2, channels, 5, 7)
        with torch.no_grad():
            y, other = layer(x.clone()), swapped(x)
        if isinstance(y, Tensor) and y.shape == other.shape and torch.allclose(y, other, rtol=1e-4, atol=1e-5):
            continue
        _explain(layer, (2, channels, 5, 7), partial(_ca, *parts), mistakes, f"with {channels} channels",
                 "compare with the formula of section 5.4: two means, one shared squeeze, two gates that multiply")
    return f"Equal to the course's layer in {len(CA_CASES)} settings, on maps that are not square."


def _ca_parts(layer: nn.Module, channels: int, reduction: int) -> tuple[nn.Module, ...]:
    """The shared 1x1 convolution, its BatchNorm, and the two that open; refuses when they are not there."""
    hidden = max(8, channels // reduction)
    convs = [module for module in layer.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in layer.modules() if isinstance(module, nn.BatchNorm2d)]
    squeezes = [conv for conv in convs if conv.in_channels == channels and conv.out_channels != channels]
    if len(squeezes) == 2 and len(convs) == 4:
        fail("rows and columns are squeezed by two convolutions; they share one, so that it sees both",
             "stand the column means under the row means with torch.cat, and split them again afterwards")
    if squeezes and squeezes[0].out_channels != hidden:
        fail(f"with {channels} channels and reduction {reduction} you squeeze to {squeezes[0].out_channels}; it is "
             f"{hidden}", "max(8, channels // reduction): never fewer than 8")
    opens = [conv for conv in convs if conv.in_channels == hidden and conv not in squeezes]
    if len(squeezes) == 1 and len(opens) == 1:
        fail("one convolution opens both gates; rows and columns need one each",
             "two of nn.Conv2d(hidden, channels, 1)")
    if len(squeezes) != 1 or len(opens) != 2 or any(conv.kernel_size != (1, 1) for conv in convs):
        fail(f"the layer has {len(convs)} convolutions: expected are three of 1x1, from {channels} to {hidden} "
             f"channels, and twice from {hidden} to {channels}", "nn.Conv2d(channels, hidden, 1)")
    if len(norms) != 1:
        fail(f"there are {len(norms)} BatchNorms, not one: it follows the shared convolution", "nn.BatchNorm2d(hidden)")
    if any(conv.bias is None for conv in convs):
        fail("a convolution has no bias; all three have one here", "leave bias at its default")
    return squeezes[0], norms[0], *opens


def _swapped(parts: tuple[nn.Module, ...], options: Mapping) -> tuple[nn.Module, ...]:
    squeeze, norm, first, second = parts
    return (squeeze, norm, second, first) if options.get("swap") else parts


def _ca(squeeze: nn.Module, norm: nn.Module, rows: nn.Module, columns: nn.Module, x: Tensor, *,
        act: Callable[[Tensor], Tensor] = F.hardswish, pool: str = "axes", join: str = "times",
        skip_norm: bool = False, squash: Callable[[Tensor], Tensor] = torch.sigmoid, swap: bool = False,
        shortcut: float = 0.0, alone: bool = False) -> Tensor:
    """Coordinate attention as a formula, with the mistakes that its options make."""
    row_means, column_means = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
    if pool == "global":
        row_means = column_means = x.mean((2, 3), keepdim=True)
    if pool == "max":
        row_means, column_means = x.amax(3, keepdim=True), x.amax(2, keepdim=True)
    if pool == "rows":
        column_means = row_means
    if pool == "columns":
        row_means = column_means
    hidden = [act(squeeze(means) if skip_norm else norm(squeeze(means))) for means in (row_means, column_means)]
    opened = rows(hidden[0]), columns(hidden[1])
    first, second = map(squash, opened)
    gate = {"times": first * second, "sum": first + second, "mean": (first + second) / 2,
            "rows": first.expand(*first.shape[:3], x.shape[3]), "columns": second.expand_as(x),
            "before": (opened[0] * opened[1]).sigmoid()}[join]
    return gate.expand_as(x) if alone else shortcut * x + x * gate


CA_MISTAKES: dict[str, dict] = {}
for _swap in (False, True):  # whichever way round the two convolutions were written
    for _reason, _options in {
        "the activation is ReLU; here it is h-swish": {"act": F.relu},
        "the activation behind the shared convolution is missing": {"act": lambda x: x},
        "BatchNorm is built but not used": {"skip_norm": True},
        "you pool over the whole map: then all rows have one gate, and the place is lost": {"pool": "global"},
        "the maximum is taken where the mean should be": {"pool": "max"},
        "the two gates are added; they multiply each other": {"join": "sum"},
        "the mean of the two gates is taken; they multiply each other": {"join": "mean"},
        "only one gate, that of the rows, is used": {"join": "rows"},
        "only one gate, that of the columns, is used": {"join": "columns"},
        "one sigmoid is taken of the product; each gate has its own": {"join": "before"},
        "row means open both gates; the columns need the means over the rows": {"pool": "rows"},
        "column means open both gates; the rows need the means over the columns": {"pool": "columns"},
        "x is added once more behind the gates; coordinate attention has no shortcut": {"shortcut": 1.0},
        "you return the gates alone; x must be multiplied by them": {"alone": True},
        "the sigmoid is missing: the gates are not held between 0 and 1": {"squash": lambda x: x},
        "the gates are hard sigmoids; here they are sigmoids": {"squash": F.hardsigmoid},
    }.items():
        CA_MISTAKES[_reason + " " * _swap] = _options | {"swap": _swap}


@exercise("05.3", title="What a gate costs in time", minutes=15, difficulty="medium", expects=dict)
def time_of_gates(answer: Mapping) -> str:
    """`answer` maps the kinds to time with the gate / time without, and "why" to one of REASONS."""
    keys = {*KINDS, "why"}
    if set(answer) != keys:
        fail(f"the keys must be {', '.join(sorted(keys))}; got {', '.join(map(str, answer)) or 'none'}")
    for kind in KINDS:
        if not a_number(answer[kind]):
            fail(f"{kind}: got {answer[kind]!r}, not a number")
    counted = {kind: profile(GatedBlock(build), (16, 56, 56)).macs for kind, build in KINDS.items()}
    bare = profile(GatedBlock(None), (16, 56, 56)).macs
    if all(abs(answer[kind] - counted[kind] / bare) < 2e-3 for kind in KINDS):
        fail("these are ratios of MACs; the question is for time",
             "lw.measure_latency, then latencies.ratio(kind, 'none')")
    if all(answer[kind] < 0.05 for kind in KINDS):
        fail("these look like seconds; give the time with the gate, divided by the time without",
             "latencies.ratio(kind, 'none')")
    if max(answer[kind] for kind in KINDS) < 0.98:
        fail("all are below 1, so that every gate would save time: is the division upside down?",
             "latencies.ratio(kind, 'none'), in this order")
    if answer["why"] not in REASONS:
        fail(f"\"why\" must be one of {', '.join(map(repr, REASONS))}, got {answer['why']!r}")
    if answer["why"] != "passes over memory":
        culprit = ("shuffle attention has not one MAC" if answer["why"] == "MACs"
                   else "CA has the most of them, and shuffle attention hardly any")
        fail(f"\"why\" cannot be {answer['why']}: {culprit}, and look at its time",
             "what does a layer do that multiplies nothing?")
    measured = _measured_ratios()
    for kind, ratio in measured.items():
        extra, mine = max(answer[kind] - 1, 0.02), max(ratio - 1, 0.02)
        if not 1 / 8 < extra / mine < 8 and abs(answer[kind] - ratio) > 0.5:
            fail(f"{kind}: you have {answer[kind]:.2f} times the time, here and now it is {ratio:.2f}",
                 "16 channels, expand 6, 56 x 56 pixels, threads=1, and all of them in one lw.measure_latency")
    slowest = max(measured, key=measured.get)
    mine = max(KINDS, key=answer.get)
    if measured[mine] < 1 + (measured[slowest] - 1) / 2:
        fail(f"your slowest gate is {mine}, but here and now {slowest} takes longest",
             "measure again, with more rounds")
    return f"{slowest} takes longest: the block with it needs {measured[slowest]:.1f} times the time."


class GatedBlock(InvertedResidual):
    """16 channels, expanded six times, with a gate behind the filter; `build` None is the block without."""

    def __init__(self, build: Callable[[int], nn.Module] | None):
        super().__init__(16, 16, 1, 6)
        self.attention = build(96) if build else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.attention(self.depthwise(self.expand(x))))


def _measured_ratios() -> dict[str, float]:
    blocks = {"none": GatedBlock(None)} | {kind: GatedBlock(build) for kind, build in KINDS.items()}
    latencies = measure_latency(blocks, torch.randn(1, 16, 56, 56), rounds=12, threads=1)
    return {kind: latencies.ratio(kind, "none") for kind in KINDS}


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


@exercise("05.4", title="A gate in its place", minutes=25, difficulty="hard", expects=a_function)
def gate_in_its_place(answer: Callable[[], Mapping[str, nn.Module]]) -> str:
    """`answer()` gives {slot: layer}; PlaceNet is trained with them on digit_pairs, and accuracy is the score."""
    gates = answer()
    if not isinstance(gates, Mapping) or not gates:
        fail(f"your function returns {type(gates).__name__}, not a dict from slot to layer with one entry at least"
             + ("; is the return missing?" if gates is None else ""))
    macs = params = 0
    for slot, gate in gates.items():
        if slot not in SLOTS:
            fail(f"there is no slot {slot!r}; there are {', '.join(SLOTS)}")
        if not isinstance(gate, nn.Module):
            fail(f"the slot {slot!r} holds {type(gate).__name__}, not a layer that is built already")
        channels = SLOTS[slot]
        try:
            with torch.no_grad():
                shape = tuple(gate.eval()(torch.zeros(2, channels, 16, 16)).shape)
        except (RuntimeError, ValueError) as error:
            fail(f"the layer in {slot!r} cannot run a map of {channels} channels: {error}",
                 f"slots and their channels: {SLOTS}")
        if shape != (2, channels, 16, 16):
            fail(f"the layer in {slot!r} makes {shape} of (2, {channels}, 16, 16); a gate keeps the shape")
        cost = profile(gate, (channels, 16, 16))
        macs, params = macs + cost.macs, params + cost.params
    bills = ((macs, MAX_MACS, "MACs"), (params, MAX_PARAMS, "parameters"))
    refuse_over_budget(bills, "where are there fewer channels?")
    accuracy = trained_accuracy(lambda: PlaceNet(answer()), digit_pairs(), RECIPE)
    if accuracy < LEAST_ACCURACY:
        chance = ": that is guessing. Does your gate see where things are?" if accuracy < 0.6 else ""
        fail(f"within both budgets, but {accuracy:.0%} of the test images are right, {LEAST_ACCURACY:.0%} are "
             f"needed{chance}", "two digits in one row must give another gate than one in each of two rows")
    return f"Score {accuracy:.1%}, with {params:,} of {MAX_PARAMS:,} parameters and {macs:,} of {MAX_MACS:,} MACs."
