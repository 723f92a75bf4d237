"""02.3: what two ideas of MobileNetV2 cost."""
from collections.abc import Mapping
from functools import cache, partial

import torch
from torch import nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    compare_parts,
    refuse_missing_keys,
    usual_mistakes,
)
from lwcourse.layers import ConvBNAct
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.profile import Profile, profile


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
