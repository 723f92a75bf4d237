"""Checks of chapter 05: attention."""
import copy
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import Score, exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    a_module_class,
    all_close,
    banded,
    compare_blocks,
    compare_modules,
    compare_parts,
    counted_macs,
    counted_parameters,
    first_output,
    naming_mistakes,
    read_number,
    refuse_hidden_layers,
    refuse_missing_keys,
    refuse_over_budget,
    refuse_ready_made,
    refuse_shared,
    run_alone,
    shown,
    trained_accuracy,
    watch,
)
from lwcourse.data.arrangements import digit_pairs
from lwcourse.layers import (
    ConvBNAct,
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SplitAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.models.mobilenet_v2_eca import mobilenet_v2_eca
from lwcourse.profile import profile

ECA_CHANNELS = (16, 64, 128, 300)  # kernels 3, 3, 5, 5


@exercise("05.1", title="Efficient channel attention", minutes=15, difficulty="medium", expects=a_module_class)
def efficient_channel_attention(answer: type[nn.Module]) -> str:
    """`answer(channels)` builds the layer, kernel by the paper's rule."""
    for channels in ECA_CHANNELS:
        label = f"with {channels} channels: "
        with watch() as seen:
            layer = answer(channels)
        if not isinstance(layer, nn.Module):
            fail(f"{answer.__name__}({channels}) gives {shown(layer)}, not an nn.Module")
        refuse_hidden_layers(layer)
        _refuse_kernel(layer, channels)
        shape = (2, channels, 5, 7)
        layer = copy.deepcopy(layer).float().cpu().eval()
        for one in (seen, run_alone(layer, torch.randn(shape), shape, label)):
            refuse_ready_made(one, ["EfficientChannelAttention"])
        _refuse_other_eca(layer, torch.randn(shape) + 0.3, label)
    return f"Equal to the course's layer for {', '.join(map(str, ECA_CHANNELS))} channels, in eval and training mode."


def _refuse_kernel(layer: nn.Module, channels: int) -> None:
    count, kernel = sum(p.numel() for p in layer.parameters()), adaptive_kernel_size(channels)
    if count == kernel:
        return
    shapes = [[size for size in p.shape if size > 1] for p in layer.parameters()]
    if count == kernel + 1 and any(p.numel() == 1 for p in layer.parameters()):
        fail("the convolution has a bias; ECA's has none")
    if any("Norm" in type(module).__name__ for module in layer.modules()):
        fail(f"there are {count} parameters, some of them in a normalisation. ECA has no BatchNorm or the "
             f"like, only a kernel of {kernel} weights")
    if any(len(shape) == 2 and channels in shape and shape[0] != shape[1] for shape in shapes):
        fail(f"the layer has {count:,} weights, in fully connected layers: that is SE, which squeezes the channels. "
             f"ECA squeezes nothing, and runs one kernel of {kernel} along them")
    if count >= channels * kernel:
        fail(f"the convolution has {count:,} weights: it takes the channels for the channels of a signal. The means "
             f"are one signal of length {channels}, and one kernel of {kernel} runs along it")
    if count % 2 == 0 and 0 < count < 2 * kernel:
        fail(f"the kernel has {count} weights, an even number: no channel would be in the middle")
    fail(f"with {channels} channels there are {count} weights, the paper's kernel has {kernel}")


def _refuse_other_eca(layer: nn.Module, x: Tensor, label: str) -> None:
    """Refuse unless `layer` computes ECA from its own weights, drawn anew, in whatever way it is written."""
    with torch.no_grad():
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    weight = torch.cat([parameter.detach().flatten() for parameter in layer.parameters()])
    with torch.no_grad():
        y = layer(x.clone())
        ways = [one for one in (weight, weight.flip(0)) if all_close([y], [_eca(one, x)])]  # a kernel has no direction
        if not ways:
            for reason, formula in ECA_MISTAKES.items():
                if all_close([y], [formula(weight, x)]):
                    fail(reason)
    if y.shape != x.shape:
        fail(f"{label}an input of shape {tuple(x.shape)} gives {tuple(y.shape)}; the shape must stay")
    if not ways:
        fail(f"{label}the output is not that of ECA with the same weights, and no usual mistake explains it: the gate "
             "is one number for each channel, from its mean and those of its neighbours, and multiplies x")
    weight = ways[0].requires_grad_()
    for mode in (False, True):
        layer.train(mode)
        wrong = " in training mode" if mode else ""
        mine, right = _outcome(layer, x, list(layer.parameters())), _outcome(partial(_eca, weight), x, [weight])
        if not all_close(mine[:1], right[:1]):
            fail(f"{label}equal in eval mode, but not in training mode: there is dropout, or forward does "
                 "something else there")
        pairs = zip((mine[1], mine[2].sort().values), (right[1], right[2].sort().values), strict=True)
        if any((one - other).abs().max() > 1e-3 * other.abs().max() for one, other in pairs):
            fail(f"{label}the output is right{wrong}, but not all gradients are: is something detached, or computed "
                 "under torch.no_grad()?")


def _outcome(function: Callable[[Tensor], Tensor], x: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The output, the gradient of x, and that of all weights in a row."""
    given = x.clone().requires_grad_()
    y = function(given)
    loss = (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum()
    wanted = [one for one in (given, *weights) if one.requires_grad]
    found = dict(zip(wanted, torch.autograd.grad(loss, wanted, allow_unused=True) if loss.requires_grad else [],
                     strict=False))
    grads = [torch.zeros_like(one) if found.get(one) is None else found[one] for one in (given, *weights)]
    return [y.detach(), grads[0], torch.cat([grad.flatten() for grad in grads[1:]])]


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
    "the means of all images are one signal: at the ends of an image, the next one's channels are neighbours":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)).flatten()[None]).view(*x.shape[:2], 1, 1).sigmoid(),
    "the padding is in front alone: a channel sees those before it, and none of those after it":
        lambda w, x: x * _along_channels(F.pad(w, (0, len(w) - 1)), x.mean((2, 3))).sigmoid(),
    "the padding is at the end alone: a channel sees those after it, and none of those before it":
        lambda w, x: x * _along_channels(F.pad(w, (len(w) - 1, 0)), x.mean((2, 3))).sigmoid(),
    "the sigmoid comes before the convolution; it makes the gate, and comes last":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)).sigmoid()),
    "the sigmoid is missing: the gate is not held between 0 and 1":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))),
    "there are two sigmoids, one after the other: the second leaves only gates from 0.5 to 0.73":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).sigmoid().sigmoid(),
    "the gate is added; it must multiply": lambda w, x: x + _along_channels(w, x.mean((2, 3))).sigmoid(),
    "you return the gate alone; x must be multiplied by it": lambda w, x: _along_channels(w, x.mean((2, 3))).sigmoid(),
    "x is added once more after the gate; ECA has no shortcut":
        lambda w, x: x + x * _along_channels(w, x.mean((2, 3))).sigmoid(),
    "the gate is 1 minus ECA's: it closes where that opens":
        lambda w, x: x * (1 - _along_channels(w, x.mean((2, 3))).sigmoid()),
    "the mean is over the batch as well: images share one gate":
        lambda w, x: x * _along_channels(w, x.mean((0, 2, 3))[None]).sigmoid(),
    "the gate is a hard sigmoid; ECA's is a sigmoid":
        lambda w, x: x * F.hardsigmoid(_along_channels(w, x.mean((2, 3)))),
    "the gate is a tanh, which may be negative; ECA's is a sigmoid":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).tanh(),
    "the gate is a softmax: channels compete for a sum of 1; ECA's is a sigmoid":
        lambda w, x: x * _along_channels(w, x.mean((2, 3))).softmax(1),
    "the mean is over rows only: each column has a gate of its own": lambda w, x: _eca_one_axis(w, x, 2),
    "the mean is over columns only: each row has a gate of its own": lambda w, x: _eca_one_axis(w, x, 3),
    "the convolution runs over the pixels, not over the channels": _eca_pixels,
    "the maximum is taken where the mean should be": lambda w, x: x * _along_channels(w, x.amax((2, 3))).sigmoid(),
    "each channel is summed where its mean is asked for": lambda w, x: x * _along_channels(w, x.sum((2, 3))).sigmoid(),
    "the first and the last channel are neighbours in your layer; beyond the ends there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "circular").sigmoid(),
    "the first and the last mean are repeated beyond the ends of the channels; there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "replicate").sigmoid(),
    "the means are mirrored beyond the ends of the channels; there are zeros":
        lambda w, x: x * _along_channels(w, x.mean((2, 3)), "reflect").sigmoid(),
}


CA_CASES = (  # (channels, reduction), input shape: 8, 13 (110 / 8 is 13.75) and 8 hidden channels
    ((64, 32), (2, 64, 5, 7)),
    ((110, 8), (2, 110, 5, 7)),
    ((16, 4), (2, 16, 6, 4)),
)


class _Ca(nn.Module):
    """Coordinate attention with the mistakes that its options make."""

    def __init__(self, channels: int, reduction: int, *, hidden: Callable = lambda c, r: max(8, c // r),
                 act: Callable[[Tensor], Tensor] = F.hardswish, norm: str = "after", pool: str = "means",
                 squash: Callable[[Tensor], Tensor] = torch.sigmoid, join: str = "times", means: str = "both",
                 squeezes: int = 1, opens: int = 2, bias: bool = True):
        super().__init__()
        squeezed = hidden(channels, reduction)
        self.squeezes = nn.ModuleList(nn.Conv2d(channels, squeezed, 1, bias=bias) for _ in range(squeezes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels if norm == "before" else squeezed)
                                   for _ in range(squeezes if norm else 0))
        self.opens = nn.ModuleList(nn.Conv2d(squeezed, channels, 1, bias=bias) for _ in range(opens))
        self.act, self.norm, self.pool, self.squash, self.join, self.means = act, norm, pool, squash, join, means

    def squeeze(self, x: Tensor, which: int) -> Tensor:
        conv, norm = self.squeezes[which], self.norms[which] if self.norm else None
        return {"after": lambda: self.act(norm(conv(x))), "before": lambda: self.act(conv(norm(x))),
                "last": lambda: norm(self.act(conv(x))), "unused": lambda: self.act(conv(x)),
                "": lambda: self.act(conv(x))}[self.norm]()

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool == "whole map":
            whole = x.mean((2, 3), keepdim=True)
            return whole.expand(-1, -1, x.shape[2], 1), whole.expand(-1, -1, x.shape[3], 1)
        take = {"means": torch.mean, "maxima": torch.amax, "sums": torch.sum}[self.pool]
        return take(x, dim=3, keepdim=True), take(x, dim=2, keepdim=True).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.pooled(x)
        if len(self.squeezes) == 1:
            parts = self.squeeze(torch.cat(parts, dim=2), 0).split(list(x.shape[2:]), dim=2)
        else:
            parts = [self.squeeze(part, which) for which, part in enumerate(parts)]
        rows, columns = parts[0], parts[1].transpose(2, 3)
        if self.means != "both":  # the same half opens both gates, where it broadcasts
            rows = columns = rows if self.means == "rows" else columns
        rows, columns = self.opens[0](rows), self.opens[-1](columns)
        if self.join == "one sigmoid":
            return x * self.squash(rows * columns)
        first, second = self.squash(rows), self.squash(columns)
        return {"times": lambda: x * first * second, "sum": lambda: x * (first + second),
                "mean": lambda: x * (first + second) / 2, "rows": lambda: x * first, "columns": lambda: x * second,
                "shortcut": lambda: x + x * first * second, "alone": lambda: first * second}[self.join]()


CA_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    "the squeezed channels are rounded up; channels // reduction rounds down":
        partial(_Ca, hidden=lambda c, r: max(8, math.ceil(c / r))),
    "the squeezed channels may be fewer than 8: you squeeze to channels // reduction, without the max":
        partial(_Ca, hidden=lambda c, r: c // r),
    "the activation is ReLU; here it is h-swish": partial(_Ca, act=F.relu),
    "the activation is ReLU6; here it is h-swish": partial(_Ca, act=F.relu6),
    "the activation is SiLU (swish); here it is h-swish": partial(_Ca, act=F.silu),
    "the activation after the shared convolution is missing": partial(_Ca, act=lambda x: x),
    "BatchNorm is missing: it follows the shared convolution": partial(_Ca, norm=""),
    "BatchNorm is built but not used": partial(_Ca, norm="unused"),
    "BatchNorm comes before the shared convolution, on the means; the order is convolution, BatchNorm, h-swish":
        partial(_Ca, norm="before"),
    "BatchNorm comes after the activation; the order is convolution, BatchNorm, h-swish": partial(_Ca, norm="last"),
    "rows and columns are squeezed by two convolutions; they share one, so that it sees both": partial(_Ca, squeezes=2),
    "one convolution opens both gates; rows and columns need one each": partial(_Ca, opens=1),
    "no convolution has a bias; all three have one here": partial(_Ca, bias=False),
    "you pool over the whole map: then all rows have one gate, and the place is lost": partial(_Ca, pool="whole map"),
    "the maximum is taken where the mean should be": partial(_Ca, pool="maxima"),
    "rows and columns are summed where their means are asked for": partial(_Ca, pool="sums"),
    "the two gates are added; they multiply each other": partial(_Ca, join="sum"),
    "the mean of the two gates is taken; they multiply each other": partial(_Ca, join="mean"),
    "only one gate, that of the rows, is used": partial(_Ca, join="rows"),
    "only one gate, that of the columns, is used": partial(_Ca, join="columns"),
    "one sigmoid is taken of the product; each gate has its own": partial(_Ca, join="one sigmoid"),
    "row means open both gates; the columns need the means over the rows": partial(_Ca, means="rows"),
    "column means open both gates; the rows need the means over the columns": partial(_Ca, means="columns"),
    "x is added once more after the gates; coordinate attention has no shortcut": partial(_Ca, join="shortcut"),
    "you return the gates alone; x must be multiplied by them": partial(_Ca, join="alone"),
    "the sigmoid is missing: the gates are not held between 0 and 1": partial(_Ca, squash=lambda x: x),
    "the gates are hard sigmoids; here they are sigmoids": partial(_Ca, squash=F.hardsigmoid),
}


@exercise("05.2", title="Coordinate attention", minutes=25, difficulty="hard", expects=a_module_class)
def coordinate_attention(answer: type[nn.Module]) -> str:
    """`answer(channels, reduction)` builds the layer from 1x1 convolutions and one BatchNorm."""
    with naming_mistakes(answer, CA_MISTAKES, CA_CASES):
        compare_blocks(answer, CoordinateAttention, CA_CASES, macs=True, ready_made=["CoordinateAttention"],
                       join="the two means cannot be concatenated as they are: those of the rows, (N, C, H, 1), and of "
                            "the columns, (N, C, 1, W), have their lengths along different axes. Turn one of them "
                            "before, and join along the axis of the lengths")
    return (f"Equal to the course's layer in {len(CA_CASES)} settings, in eval and in training mode, on maps that are "
            "not square.")


KINDS: dict[str, Callable[[int], nn.Module]] = {
    "SE": SqueezeExcitation, "ECA": EfficientChannelAttention, "CA": CoordinateAttention,
    "SA": partial(ShuffleAttention, groups=8), "Triplet": TripletAttention}
REASONS = ("MACs", "parameters", "passes over memory")
SIZE = (16, 56, 56)
SLOW_BECAUSE = {"SA": "SA reads and writes the map several times, where SE and ECA read it twice and write it once",
                "Triplet": "Triplet takes maxima along three axes, and its convolutions of two channels waste most of "
                           "the processor"}


@exercise("05.3", title="What a gate costs in time", minutes=15, difficulty="medium", expects=dict)
def time_of_gates(answer: Mapping) -> str:
    """`answer` maps the kinds to time with the gate / time without, and "why" to one of REASONS.

    Nothing is measured here: only signs and wide orders of the learner's own times are judged.
    """
    refuse_missing_keys(answer, (*KINDS, "why"))
    ratios = {kind: float(read_number(answer[kind], kind)) for kind in KINDS}
    if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios.values()):
        fail("a ratio of two times is a positive number")
    _refuse_no_ratios(ratios)
    free = [kind for kind in ("SA", "Triplet") if ratios[kind] < 1.02]
    if free:
        fail(f"{free[0]} takes no time by your numbers. It has hardly a MAC or a parameter, but reads and writes the "
             "map several times: measure it")
    for slow, fast in (("Triplet", "SE"), ("Triplet", "ECA"), ("Triplet", "SA"), ("Triplet", "CA"), ("SA", "SE"),
                       ("SA", "ECA")):
        if ratios[slow] <= ratios[fast]:
            fail(f"by your numbers {fast} takes as long as {slow} or longer. {SLOW_BECAUSE[slow]}, on every machine: "
                 "measure again, all blocks in one call, and with more rounds")
    if not isinstance(answer["why"], str) or answer["why"].strip().lower() not in [one.lower() for one in REASONS]:
        fail(f"\"why\" must be one of {', '.join(map(repr, REASONS))}, got {shown(answer['why'])}", share=0.5)
    if answer["why"].strip().lower() != REASONS[-1].lower():
        culprit = ("shuffle attention has not one MAC" if answer["why"].strip().lower() == "macs"
                   else "CA has the most of them, and shuffle attention hardly any")
        fail(f"\"why\" cannot be {answer['why']}: {culprit}, and look at its time", share=0.5)
    spent = {kind: profile(build(6 * SIZE[0]), (6 * SIZE[0], *SIZE[1:])) for kind, build in KINDS.items()}
    bytes_of_a_map = 4 * 6 * math.prod(SIZE)
    return "Bytes moved, in copies of the map: " + ", ".join(
        f"{kind} {cost.traffic_bytes / bytes_of_a_map / 2:.1f}" for kind, cost in spent.items()) + "."


def _refuse_no_ratios(ratios: Mapping[str, float]) -> None:
    """Refuse other quantities than time with the gate / time without."""
    counted = {kind: profile(GatedBlock(build), SIZE) for kind, build in KINDS.items()}
    bare = profile(GatedBlock(None), SIZE)
    if all(abs(ratios[kind] - counted[kind].macs / bare.macs) < 2e-3 for kind in KINDS):
        fail("these are ratios of MACs; the question is for time")
    if all(abs(ratios[kind] - counted[kind].params / bare.params) < 2e-3 for kind in KINDS):
        fail("these are ratios of parameters; the question is for time")
    if all(ratio > 3 for ratio in ratios.values()):  # ECA takes no three times the block's time anywhere
        fail("these look like milliseconds, or percent; give the time with the gate, divided by the time without")
    if all(ratio < 0.05 for ratio in ratios.values()):
        fail("these look like seconds; give the time with the gate, divided by the time without")
    if ratios["Triplet"] > 1.02 and ratios["SE"] < 0.75 and ratios["ECA"] < 0.75:
        fail("these look like the added share, the ratio minus 1; give the time with the gate, divided by the time "
             "without")
    if max(ratios.values()) < 0.98:
        fail("all are below 1, so that every gate would save time: is the division upside down?")


class GatedBlock(InvertedResidual):
    """16 channels, expanded six times, with a gate after the filter; `build` None is the block without."""

    def __init__(self, build: Callable[[int], nn.Module] | None):
        super().__init__(16, 16, 1, 6)
        self.attention = build(96) if build else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.attention(self.depthwise(self.expand(x))))


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


COUNTED = (64, 14, 10)  # channels, rows, columns of exercise 05.5


def gate_numbers(kind: str, channels: int, height: int, width: int) -> int:
    """How many different numbers the gate computes for one image, counted on the layer itself."""
    layer = KINDS[kind](channels).eval()
    with torch.no_grad():
        x = torch.randn(1, channels, height, width)
        if kind == "SA":
            parts = layer.gates(*layer.halves(x))
        else:
            parts = layer.gates(x) if hasattr(layer, "gates") else (layer.attention(x),)
    return sum(part.numel() for part in parts)


@exercise("05.5", title="How many numbers a gate has", minutes=10, difficulty="easy", expects=dict)
def numbers_of_gates(answer: Mapping) -> str:
    """`answer` maps each kind to its gate numbers for one image with a map of COUNTED."""
    refuse_missing_keys(answer, KINDS)
    channels, height, width = COUNTED
    pixels, half = height * width, channels // 2
    right = {kind: gate_numbers(kind, *COUNTED) for kind in KINDS}
    values = {kind: channels * pixels for kind in KINDS}
    compare_parts(answer, right, {
        "you count the numbers after they are spread over the map; count them as they come out of the sigmoids": values,
        "SE and ECA compute one gate for each channel, not one for the whole map": {"SE": 1, "ECA": 1},
        "ECA's kernel is what it learns; it has as many gates as channels": {"ECA": adaptive_kernel_size(channels)},
        "CA's row gates and column gates are there in each channel": {"CA": height + width},
        "SA has gates for pixels in half of the channels, and gates for whole channels in the other half":
            {"SA": half * pixels},
        "in SA half of the channels have one gate each, but the other half has gates for its pixels": {"SA": half},
        "in SA the pixels of each channel have gates of their own; there is not one plane for all":
            {"SA": half + pixels},
        "Triplet pools each of the three axes in turn, so it has three planes": {"Triplet": pixels},
        "Triplet's third plane, that of rows and columns, is missing": {"Triplet": channels * (height + width)},
        "a plane of Triplet pools a maximum and a mean, but it gives one gate for each place, not two":
            {"Triplet": 2 * right["Triplet"]},
    })
    return "Of " + f"{values['SE']:,} values: " + ", ".join(f"{kind} {count:,}" for kind, count in right.items()) + "."


@exercise("05.6", title="ECA's kernel", minutes=10, difficulty="easy")
def kernel_rule(answer: Callable[..., int]) -> str:
    """`answer(channels, gamma, b)` gives the odd kernel of the paper's rule."""
    cases = [(channels, gamma, b) for gamma, b in ((2, 1), (1, 1), (2, 3)) for channels in
             (1, 4, 8, 16, 24, 32, 64, 96, 100, 128, 256, 320, 512, 960, 1024, 2048, 4096)]
    with watch() as seen:
        given = [answer(*case) for case in cases]
        usual = answer(256)
    refuse_ready_made(seen, ["adaptive_kernel_size"])
    got = [read_number(value, f"kernel_size{case}") for case, value in zip(cases, given, strict=True)]
    right = [adaptive_kernel_size(*case) for case in cases]
    if got == right:
        if read_number(usual, "kernel_size(256)") != adaptive_kernel_size(256):
            fail("right where gamma and b are given, but kernel_size(256) alone must take the paper's gamma = 2, b = 1")
        return f"Equal for {len(cases)} settings: with 64, 256 and 1024 channels " + ", ".join(
            str(adaptive_kernel_size(channels)) for channels in (64, 256, 1024)) + "."
    for reason, rule in RULE_MISTAKES.items():
        if all(math.isclose(rule(*case), value, abs_tol=1e-9) for case, value in zip(cases, got, strict=True)):
            fail(reason)
    place = next(i for i, (mine, other) in enumerate(zip(got, right, strict=True)) if mine != other)
    why = ("an even number, so that no channel would be in the middle" if got[place] % 2 == 0 else
           f"which is too {'small' if got[place] < right[place] else 'large'}")
    fail(f"kernel_size{cases[place]} gives {got[place]:g}, {why}")


def _odd_up(size: float) -> int:
    return int(size) if int(size) % 2 else int(size) + 1


RULE_MISTAKES: dict[str, Callable[[int, float, float], float]] = {
    "an even number goes up to the next odd one; you return it as it is":
        lambda c, g, b: int((math.log2(c) + b) / g),
    "an even number goes down in your rule; in the authors' it goes up":
        lambda c, g, b: int((math.log2(c) + b) / g) - (int((math.log2(c) + b) / g) % 2 == 0),
    "an odd number stays as it is; you add 1 to every one": lambda c, g, b: int((math.log2(c) + b) / g) + 1,
    "you round to the nearest whole number first; the digits after the point are cut off":
        lambda c, g, b: round((math.log2(c) + b) / g) + (round((math.log2(c) + b) / g) % 2 == 0),
    "you round up to a whole number first; the digits after the point are cut off":
        lambda c, g, b: _odd_up(math.ceil((math.log2(c) + b) / g)),
    "the result is not cut to a whole number": lambda c, g, b: (math.log2(c) + b) / g,
    "the logarithm is the natural one; the rule has base 2": lambda c, g, b: _odd_up((math.log(c) + b) / g),
    "the logarithm has base 10; the rule has base 2": lambda c, g, b: _odd_up((math.log10(c) + b) / g),
    "b is missing": lambda c, g, b: _odd_up(math.log2(c) / g),
    "gamma divides b as well as the logarithm": lambda c, g, b: _odd_up(math.log2(c) / g + b),
    "you multiply by gamma; the rule divides": lambda c, g, b: _odd_up((math.log2(c) + b) * g),
    "gamma and b are ignored: they are not always 2 and 1": lambda c, g, b: _odd_up((math.log2(c) + 1) / 2),
}


SPLIT_CASES = (  # (channels, radix, cardinality), input shape
    ((64, 2, 1), (3, 64, 5, 7)),
    ((64, 2, 2), (3, 64, 6, 4)),
    ((96, 4, 3), (3, 96, 5, 5)),
)


def _split_attention(channels: int, radix: int, cardinality: int) -> SplitAttention:
    return SplitAttention(channels, radix=radix, cardinality=cardinality)


class _Split(nn.Module):
    """Split-Attention with the bugs that its options put in."""

    def __init__(self, channels: int, radix: int, cardinality: int, *, order: bool = True, axis: int = 1,
                 means: str = "sum"):
        super().__init__()
        right = _split_attention(channels, radix, cardinality)
        self.splits, self.squeeze, self.excite = right.splits, right.reduce, right.expand
        self.radix, self.cardinality, self.order, self.axis, self.means = radix, cardinality, order, axis, means

    def forward(self, x: Tensor) -> Tensor:
        u = self.splits(x).unflatten(1, (self.radix, -1))
        pooled = {"sum": lambda: u.sum(1), "first": lambda: u[:, 0], "mean": lambda: u.mean(1),
                  "last": lambda: u[:, -1]}[self.means]().mean((2, 3), keepdim=True)
        weight = self.excite(self.squeeze(pooled))
        if self.order:
            weight = weight.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2).flatten(2, 3)
        else:
            weight = weight.unflatten(1, (self.radix, -1))
        weight = weight.sigmoid() if self.axis == 0 else weight.softmax(self.axis)
        return (weight * u).sum(1)


ORDER, AXIS, MEANS = ("with a cardinality above 1, weights of one group meet maps of another",
                      "the weights that one channel gives to its splits do not add up to 1",
                      "the attention looks at one split only; it must see all of them")
SPLIT_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    f"three bugs are in it still. One of them: {AXIS}": partial(_Split, order=False, axis=2, means="first"),
    f"two bugs are left. One of them: {AXIS}": partial(_Split, axis=2, means="first"),
    f"two bugs are left. One of them: {AXIS} ": partial(_Split, order=False, axis=2),
    f"two bugs are left. One of them: {MEANS}": partial(_Split, order=False, means="first"),
    f"one bug is left: {AXIS}": partial(_Split, axis=2),
    f"one bug is left: {MEANS}": partial(_Split, means="first"),
    f"one bug is left: {ORDER}": partial(_Split, order=False),
    "the attention looks at the last split only; it must see all of them": partial(_Split, means="last"),
    "the attention takes the mean over the splits, where it should take their sum": partial(_Split, means="mean"),
    f"{AXIS}: a sigmoid lets each split decide for itself, a softmax lets them compete": partial(_Split, axis=0),
}


@exercise("05.7", title="Three bugs in Split-Attention", minutes=15, difficulty="medium", expects=a_module_class)
def bugs_in_split_attention(answer: type[nn.Module]) -> str:
    """`answer(channels, radix, cardinality)` builds the layer."""
    with naming_mistakes(answer, SPLIT_MISTAKES, SPLIT_CASES):
        compare_blocks(answer, _split_attention, SPLIT_CASES, ready_made=["SplitAttention"])
    return f"All three are gone: equal to the course's layer in {len(SPLIT_CASES)} settings, in eval and training mode."


def _host(place: str, *, wide: int = 96, first: bool = True, narrow: int = 1, broad: int = 3, dropout: float = 0.25
          ) -> MobileNetV2:
    """MobileNetV2 with ECA in a `place` of its blocks: what the options say is what learners get wrong."""
    class Block(InvertedResidual):
        def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
            super().__init__(in_channels, out_channels, stride, expand)
            channels = expand * in_channels if place == "filter" else out_channels
            self.attention = (EfficientChannelAttention(channels, broad if out_channels >= wide else narrow)
                              if first or expand > 1 else nn.Identity())
            self.place = place if self.has_shortcut or place == "filter" else "projection"

        def forward(self, x: Tensor) -> Tensor:
            y = self.depthwise(self.expand(x))
            y = self.project(self.attention(y) if self.place == "filter" else y)
            if self.place == "projection":
                y = self.attention(y)
            y = x + y if self.has_shortcut else y
            return self.attention(y) if self.place == "sum" else y

    return MobileNetV2(1000, 3, dropout=dropout, block=Block)


OTHER_PLACES: dict[str, Callable[..., nn.Module]] = {
    "the gates stand after the depthwise filter; these stand after the projection": partial(_host, "filter"),
    "the gates scale the sum with the shortcut; they must scale what is added to it": partial(_host, "sum"),
}
OTHER_COUNTS: dict[str, Callable[..., nn.Module]] = {
    "there are no gates, or they have no parameters": partial(MobileNetV2, dropout=0.25),
    "the first block has no gate; here all seventeen have one": partial(_host, "projection", first=False),
    "the kernel is 3 from 64 channels on; the authors' is 3 from 96 on": partial(_host, "projection", wide=64),
    "the kernel is 3 above 96 channels; at 96 it is 3 already": partial(_host, "projection", wide=97),
    "the kernel is 3 in every block; it is 1 below 96 channels": partial(_host, "projection", narrow=3),
    "the kernel is 1 in every block; it is 3 from 96 channels on": partial(_host, "projection", broad=1),
}
def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


HOST_SHAPE = (2, 3, 32, 48)


@exercise("05.8", title="MobileNetV2 with ECA", minutes=20, difficulty="hard", expects=a_builder)
def mobilenet_with_eca(answer: Callable[[], nn.Module]) -> str:
    """`answer()` gives the network."""
    with watch() as seen:
        mine = answer()
    if not isinstance(mine, nn.Module):
        missing = "; is the return missing?" if mine is None else ""
        fail(f"your function returns {shown(mine)}, not a network{missing}")
    refuse_ready_made(seen, ["mobilenet_v2_eca", "InvertedResidualECA"])
    for reason, build in OTHER_COUNTS.items():
        if _parameters(build()) == _parameters(mine):
            fail(reason)
    rates = {module.p for module in mine.modules() if isinstance(module, nn.Dropout)}
    if rates - {0.25}:
        fail(f"the dropout before the classifier has p={max(rates - {0.25}):g}; the authors' has 0.25")
    with naming_mistakes(lambda: copy.deepcopy(mine), OTHER_PLACES, [((), HOST_SHAPE)]):
        compare_modules(mine, mobilenet_v2_eca(), HOST_SHAPE,
                        shortcut="is the gate applied to a map of another number of channels?")
    return "Equal to the course's mobilenet_v2_eca, in eval and in training mode."
