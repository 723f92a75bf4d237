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
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual
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
    "the padding is in front alone: a channel sees those before it, and none of those behind it":
        lambda w, x: x * _along_channels(F.pad(w, (0, len(w) - 1)), x.mean((2, 3))).sigmoid(),
    "the padding is behind alone: a channel sees those behind it, and none of those before it":
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
            fail(f"by your numbers {fast} takes as long as {slow} or longer. {slow} reads and writes the map far more "
                 "often, on every machine: measure again, all blocks in one call, and with more rounds")
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
    """16 channels, expanded six times, with a gate behind the filter; `build` None is the block without."""

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
