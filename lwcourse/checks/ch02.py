"""Checks of chapter 02: MobileNets."""
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.checks import Score, exercise
from lwcourse.checks.helpers import (
    a_builder,
    a_module_class,
    banded,
    compare_blocks,
    compare_parts,
    counted_macs,
    counted_parameters,
    naming_mistakes,
    refuse_missing_keys,
    refuse_other_order,
    refuse_over_budget,
    refuse_standard_convolutions,
    ten_class_network,
    trained_accuracy,
    usual_mistakes,
)
from lwcourse.data import load_data
from lwcourse.layers import ConvBNAct, SqueezeExcitation, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.profile import Profile, profile

# 02.1

BLOCK_CASES = (  # (in_channels, out_channels, stride, expand), input shape
    ((24, 32, 1, 6), (1, 24, 5, 6)),   # channels change: no shortcut
    ((16, 24, 2, 6), (2, 16, 9, 12)),
    ((24, 24, 1, 6), (2, 24, 7, 9)),   # the one with a shortcut
    ((16, 16, 2, 4), (1, 16, 8, 6)),   # equal channels, but stride 2: no shortcut
    ((32, 16, 1, 1), (1, 32, 6, 5)),   # nothing to expand
    ((16, 16, 1, 1), (1, 16, 6, 7)),
)


class MistakenResidual(InvertedResidual):
    """An inverted residual with a mistake: activations before the BatchNorm of the parts `early`, the input added
    `times`, or, with `idle`, a first 1x1 convolution where there is nothing to expand."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, *, early: tuple[str, ...] = (),
                 times: int = 1, idle: bool = False):
        super().__init__(in_channels, out_channels, stride, expand)
        if idle and expand == 1:
            self.expand = ConvBNAct(in_channels, in_channels, 1, act=nn.ReLU6)
        self.early, self.times = early, times

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in ("expand", "depthwise", "project"):
            part = getattr(self, name)
            y = part.bn(part.act(part.conv(y))) if name in self.early and hasattr(part, "conv") else part(y)
        return self.times * x + y if self.has_shortcut else y


class ExchangedResidual(InvertedResidual):
    """An inverted residual that takes (in_channels, out_channels, expand, stride)."""

    def __init__(self, in_channels: int, out_channels: int, expand: int, stride: int):
        super().__init__(in_channels, out_channels, 1, expand)
        self.depthwise.conv.stride = (stride, stride)
        self.has_shortcut = stride == 1 and in_channels == out_channels


TOO_EARLY = ("the activation stands before the BatchNorm{}; the order is convolution, BatchNorm, activation, so that "
             "the activation gets normalised values")
BLOCK_MISTAKES = {
    "with expand = 1 there is nothing to expand, but your block still has the first 1x1 convolution":
        partial(MistakenResidual, idle=True),
    TOO_EARLY.format(""): partial(MistakenResidual, early=("expand", "depthwise")),
    TOO_EARLY.format(" of the expansion"): partial(MistakenResidual, early=("expand",)),
    TOO_EARLY.format(" of the depthwise convolution"): partial(MistakenResidual, early=("depthwise",)),
    "the input is added twice; the shortcut adds it once": partial(MistakenResidual, times=2),
    "the arguments come in another order: the check calls your class with (in_channels, out_channels, stride, expand), "
    "in this order, and yours takes the third for the expansion": ExchangedResidual,
}


@exercise("02.1", title="Inverted residual", minutes=20, difficulty="medium", expects=a_module_class)
def inverted_residual(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride, expand)` builds the block of MobileNetV2."""
    refuse_other_order(answer, ("in_channels", "out_channels", "stride", "expand"))
    with naming_mistakes(answer, BLOCK_MISTAKES, BLOCK_CASES):
        compare_blocks(answer, InvertedResidual, BLOCK_CASES, ready_made=("InvertedResidual", "InvertedResidualSE"),
                       macs=True, shortcut="the input can be added only where it has the shape of the output, so not "
                       "where the stride is 2, nor where the channels change")
    return f"Equal to the course's block in {len(BLOCK_CASES)} settings, at the same cost."


# 02.2

GATE_CASES = (  # (channels, kernel_size, stride), input shape
    ((72, 5, 2), (2, 72, 9, 12)),
    ((64, 3, 1), (1, 64, 7, 5)),
    ((16, 3, 2), (1, 16, 8, 6)),
)


def reference_gated_filter(channels: int, kernel_size: int, stride: int, *,
                           hidden: Callable[[int], int] = lambda channels: make_divisible(channels / 4)) -> nn.Module:
    """The middle of `InvertedResidualSE`, with PyTorch's usual BatchNorm."""
    return nn.Sequential(ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish),
                         SqueezeExcitation(channels, hidden(channels), nn.Hardsigmoid))


class MistakenGate(nn.Module):
    """A gated filter that puts its map and its gate together by `combine(map, gate)`."""

    def __init__(self, channels: int, kernel_size: int, stride: int, *, combine: Callable[[Tensor, Tensor], Tensor]):
        super().__init__()
        self.filter, self.se = reference_gated_filter(channels, kernel_size, stride)
        self.combine = combine

    def forward(self, x: Tensor) -> Tensor:
        y = self.filter(x)
        return self.combine(y, self.se.attention(y))


SQUEEZED = "the gate squeezes {} channels to {}; MobileNetV3 squeezes them to {}, a quarter as make_divisible rounds it"
GATE_MISTAKES = {
    **{SQUEEZED.format(72, hidden(72), 24): partial(reference_gated_filter, hidden=hidden) for hidden in
       (lambda channels: channels // 4, lambda channels: channels // 2, lambda channels: channels // 8,
        lambda channels: channels // 16, lambda channels: channels, lambda channels: make_divisible(channels / 16))},
    "the gate is added; it multiplies the map, channel by channel": partial(MistakenGate, combine=torch.add),
    "the gated map is added to the map, which multiplies it by 1 + gate; multiply by the gate alone":
        partial(MistakenGate, combine=lambda y, gate: y + y * gate),
    "what you return is the gate; it must still multiply the map": partial(MistakenGate, combine=lambda y, gate: gate),
}


@exercise("02.2", title="Filter and gate of MobileNetV3", minutes=20, difficulty="medium", expects=a_module_class)
def gated_filter(answer: type[nn.Module]) -> str:
    """`answer(channels, kernel_size, stride)`: depthwise convolution, BatchNorm, h-swish, squeeze-and-excitation."""
    refuse_other_order(answer, ("channels", "kernel_size", "stride"))
    with naming_mistakes(answer, GATE_MISTAKES, GATE_CASES):
        compare_blocks(answer, reference_gated_filter, GATE_CASES,
                       ready_made=("SqueezeExcitation", "SqueezeExcite", "SEModule"))
    return f"Equal to MobileNetV3's in {len(GATE_CASES)} settings."


# 02.3

class Ablated(InvertedResidual):
    """An inverted residual without some of its ideas. `dense`: its 3x3 convolution mixes channels, with `stride_lost`
    at stride 1; `narrow`: it is built as if expand were 1, with `narrow_at` at that stride only; `idle`: all the same
    it begins with a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, *, dense: bool = False,
                 narrow: bool = False, narrow_at: int | None = None, stride_lost: bool = False, idle: bool = False):
        expand = 1 if narrow and narrow_at in (None, stride) else expand
        super().__init__(in_channels, out_channels, stride, expand)
        if dense:
            self.depthwise = ConvBNAct(expand * in_channels, expand * in_channels, 3, 1 if stride_lost else stride,
                                       act=nn.ReLU6)
        if idle:
            self.expand = ConvBNAct(in_channels, in_channels, 1, act=nn.ReLU6)


PUBLISHED, DENSE, NARROW = "as published", "dense 3x3", "no expansion"
ABLATIONS: dict[str, dict[str, bool]] = {PUBLISHED: {}, DENSE: {"dense": True}, NARROW: {"narrow": True}}
TEN_CLASSES = 990 * 1280  # MACs that a classifier of ten classes saves
CLASSIFIER = 1000 * 1280  # MACs that do not grow with the image
SIDE = 224
OTHER_SIDES = (32, 64, 96, 128, 160, 192, 256)  # multiples of 32: every map grows with the image


@exercise("02.3", title="What an idea costs", minutes=15, difficulty="medium", expects=dict)
def ablation(answer: Mapping[str, int]) -> str:
    """`answer` maps the names in ABLATIONS to the MACs of MobileNetV2 with that block, at 224 x 224."""
    refuse_missing_keys(answer, ABLATIONS)
    costs = {name: _cost_on_paper(**ideas) for name, ideas in ABLATIONS.items()}
    macs = {name: cost.macs for name, cost in costs.items()}
    compare_parts(answer, macs, _ablation_mistakes(costs, macs), tolerance=1e-6,
                  hint="one network for each name, and nothing else changed")
    dense, narrow = (macs[name] / macs[PUBLISHED] for name in (DENSE, NARROW))
    return f"A dense filter takes {dense:.1f} times the MACs; without expansion {narrow:.2f} of them remain."


def _ablation_mistakes(costs: Mapping[str, Profile], macs: Mapping[str, int]) -> dict[str, dict[str, float]]:
    both = _cost_on_paper(dense=True, narrow=True).macs
    return {
        "these are parameters; the question is for MACs": {name: cost.params for name, cost in costs.items()},
        **usual_mistakes(macs),
        "your networks have ten classes; the published one has a thousand": {
            name: count - TEN_CLASSES for name, count in macs.items()},
        **{f"these are counts for images of {side} x {side} pixels; the question is for {SIDE} x {SIDE}": {
            name: (count - CLASSIFIER) * side**2 // SIDE**2 + CLASSIFIER for name, count in macs.items()}
           for side in OTHER_SIDES},
        "the dense 3x3 is missing its stride, so maps stay large; give it the stride of the depthwise one": {
            DENSE: _cost_on_paper(dense=True, stride_lost=True).macs},
        "\"no expansion\" is the published network: did the block still get its expansion?": {NARROW: macs[PUBLISHED]},
        "\"dense 3x3\" is the published network: are the groups still there?": {DENSE: macs[PUBLISHED]},
        "\"dense 3x3\" has no expansion either: both ideas are out at once, and only one at a time is to go": {
            DENSE: both},
        "\"no expansion\" has a dense 3x3 as well: both ideas are out at once, and only one at a time is to go": {
            NARROW: both},
        **{f"\"no expansion\" still has its expansion in the blocks of stride {3 - stride}; no block is to have it": {
            NARROW: _cost_on_paper(narrow=True, narrow_at=stride).macs} for stride in (1, 2)},
        "\"no expansion\" still begins with a 1x1 convolution, from C to C channels; with expand = 1 it is left out": {
            NARROW: _cost_on_paper(narrow=True, idle=True).macs},
    }


@cache
def _cost_on_paper(**ideas: bool | int) -> Profile:
    """Of MobileNetV2 with `Ablated` blocks, or as published."""
    block = partial(Ablated, **ideas) if ideas else InvertedResidual
    with torch.device("meta"):  # shapes only: nothing is computed, so that the dense network takes no time
        return profile(MobileNetV2(block=block), (3, SIDE, SIDE))


# 02.4

SIZE = (3, 32, 32)
RECIPE = {"epochs": 3, "lr": 0.1, "batch_size": 32}
COPIES = 2  # of each digit, on other pieces of photographs


class Class(NamedTuple):
    """Budgets, and the accuracy that they ask for: at least, and for all points."""
    macs: int
    params: int
    least: float
    good: float


# Seeds 0 to 9 of 01.5's former solution, five layers of 452 k MACs: 69.9, 67.4, 71.1, 69.6, 67.9, 66.2, 63.5, 68.8,
# 60.1, 66.7 %: mean 67.1, standard deviation 3.3. Standard convolutions of 461 k MACs: 48.5, 51.0, 57.8, 53.6, 60.1 %.
LIGHT = Class(500_000, 15_000, 0.60, 0.67)
# Seeds 0 to 9 of the sheet's solution: 81.8, 81.7, 83.5, 81.4, 83.8, 82.1, 82.6, 80.8, 82.9, 84.9 %: mean 82.5,
# standard deviation 1.2. Standard convolutions of 1.66 M MACs and 49.8 k parameters: 77.9, 77.2, 77.4 %.
OPEN = Class(2_000_000, 50_000, 0.80, 0.81)


@exercise("02.4", title="A network for two budgets", minutes=25, difficulty="hard", expects=a_builder)
def two_budgets(answer: Callable[[], nn.Module]) -> Score:
    """`answer()` builds a network for (N, 3, 32, 32) and ten classes; it is trained here, and accuracy is its score."""
    network = ten_class_network(answer, SIZE)
    macs, params = counted_macs(network, SIZE), counted_parameters(network)
    own = LIGHT if macs <= LIGHT.macs and params <= LIGHT.params else OPEN
    refuse_over_budget(((macs, own.macs, "MACs"), (params, own.params, "parameters")),
                       "which layers cost most? print(lw.profile(my_design(), (3, 32, 32)))")
    accuracy = trained_accuracy(answer, network, load_data("photo_digits", copies=COPIES), RECIPE,
                                hint="is there a BatchNorm behind every convolution?")
    if accuracy >= own.least:
        refuse_standard_convolutions(network, SIZE, "depthwise or grouped filters")
    return banded(accuracy, own.least, own.good,
                  f", with {macs:,} of {own.macs:,} MACs and {params:,} of {own.params:,} parameters",
                  f"within both budgets ({own.macs:,} MACs, {own.params:,} parameters), but it learned too little. "
                  "Accuracy on the test digits",
                  "fewer blocks train faster; maps that reach 1 x 1 early have lost the digit's shape")
