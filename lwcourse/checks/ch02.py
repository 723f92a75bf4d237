"""Checks of chapter 02: MobileNets."""
from collections.abc import Callable, Mapping

import torch
from torch import nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    a_module_class,
    compare_blocks,
    compare_numbers,
    refuse_over_budget,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.data import load_data
from lwcourse.layers import ConvBNAct, SqueezeExcitation, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.profile import profile

BLOCK_CASES = (  # (in_channels, out_channels, stride, expand), input shape
    ((24, 32, 1, 6), (1, 24, 5, 6)),   # channels change: no shortcut
    ((16, 24, 2, 6), (2, 16, 9, 12)),
    ((24, 24, 1, 6), (2, 24, 7, 9)),   # the one with a shortcut
    ((16, 16, 2, 4), (1, 16, 8, 6)),   # equal channels, but stride 2: no shortcut
    ((32, 16, 1, 1), (1, 32, 6, 5)),   # nothing to expand
    ((16, 16, 1, 1), (1, 16, 6, 7)),
)
GATE_CASES = (  # (channels, kernel_size, stride), input shape
    ((72, 5, 2), (2, 72, 9, 12)),
    ((64, 3, 1), (1, 64, 7, 5)),
    ((16, 3, 2), (1, 16, 8, 6)),
)
MAX_MACS, MAX_PARAMS, LEAST_ACCURACY = 2_000_000, 50_000, 0.4
RECIPE = {"epochs": 4, "lr": 0.1, "batch_size": 32}


@exercise("02.1", title="Inverted residual", minutes=20, difficulty="medium", expects=a_module_class)
def inverted_residual(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride, expand)` builds the block of MobileNetV2."""
    _refuse_idle_expansion(answer(32, 16, 1, 1))
    for arguments, shape in BLOCK_CASES:
        in_channels, out_channels, stride, _ = arguments
        try:
            compare_blocks(answer, InvertedResidual, [(arguments, shape)])
        except RuntimeError as error:
            if "must match the size" not in str(error) or (stride == 1 and in_channels == out_channels):
                raise
            why = (f"stride {stride} makes the output smaller than the input" if stride > 1
                   else f"{in_channels} channels come in and {out_channels} go out")
            fail(f"the shortcut is taken where it cannot be: {why}, so the two cannot be added "
                 f"({answer.__name__}{arguments})", "add the input only if stride is 1 and the channels are equal")
        _refuse_late_stride(answer(*arguments), InvertedResidual(*arguments), arguments, shape)
    return f"Equal to the course's block in {len(BLOCK_CASES)} settings, at the same cost."


def _refuse_idle_expansion(block: nn.Module) -> None:
    """`block` has 32 channels in, 16 out and expand = 1."""
    if any(isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.in_channels == m.out_channels == 32
           for m in block.modules()):
        fail("with expand = 1 there is nothing to expand, but your block still has the first 1x1 convolution",
             "build the expansion only if expand > 1; nn.Identity() can stand in its place")


def _refuse_late_stride(mine: nn.Module, reference: nn.Module, arguments: tuple, shape: tuple[int, ...]) -> None:
    """A 1x1 convolution with the stride throws away what a depthwise one computed: same output, more work."""
    counted, expected = profile(mine, shape[1:]).macs, profile(reference, shape[1:]).macs
    if counted != expected:
        fail(f"the output is right, but the block does {counted:,} MACs, not {expected:,}, for {arguments}: the stride "
             "is in the wrong convolution, and pixels are computed that are thrown away afterwards",
             "the stride belongs to the depthwise 3x3 convolution")


@exercise("02.2", title="Filter and gate of MobileNetV3", minutes=20, difficulty="medium", expects=a_module_class)
def gated_filter(answer: type[nn.Module]) -> str:
    """`answer(channels, kernel_size, stride)`: depthwise convolution, BatchNorm, h-swish, squeeze-and-excitation."""
    _refuse_unrounded_squeeze(answer(72, 5, 2))
    compare_blocks(answer, reference_gated_filter, GATE_CASES)
    return f"Equal to MobileNetV3's in {len(GATE_CASES)} settings."


def reference_gated_filter(channels: int, kernel_size: int, stride: int) -> nn.Module:
    """The middle of `InvertedResidualSE`, with PyTorch's usual BatchNorm."""
    return nn.Sequential(ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish),
                         SqueezeExcitation(channels, make_divisible(channels / 4), nn.Hardsigmoid))


def _refuse_unrounded_squeeze(block: nn.Module) -> None:
    """`block` has 72 channels: a quarter of them is 18, which `make_divisible` rounds to 24."""
    for module in block.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear) or getattr(module, "groups", 1) > 1:
            continue
        hidden = module.weight.shape[0]
        if hidden not in (24, 72):
            fail(f"the gate squeezes 72 channels to {hidden}; MobileNetV3 squeezes them to 24",
                 "a quarter of the channels, rounded by make_divisible(channels / 4)")


class DenseFilter(InvertedResidual):
    """An inverted residual whose 3x3 convolution mixes channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        self.depthwise = ConvBNAct(expand * in_channels, expand * in_channels, 3, stride, act=nn.ReLU6)


class NotExpanded(InvertedResidual):
    """An inverted residual that filters in the narrow space."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, 1)


ABLATIONS = {"as published": InvertedResidual, "dense 3x3": DenseFilter, "no expansion": NotExpanded}


@exercise("02.3", title="What an idea costs", minutes=15, difficulty="medium", expects=dict)
def ablation(answer: Mapping[str, int]) -> str:
    """`answer` maps the names in ABLATIONS to the MACs of MobileNetV2 with that block, at 224 x 224."""
    if set(answer) != set(ABLATIONS):
        fail(f"the keys must be {', '.join(map(repr, ABLATIONS))}; got {', '.join(map(repr, answer)) or 'none'}")
    costs = {name: _cost_on_paper(block) for name, block in ABLATIONS.items()}
    macs = {name: cost.macs for name, cost in costs.items()}
    mistakes = {
        "these are parameters; the question is for MACs": {name: cost.params for name, cost in costs.items()},
        "you count a multiply and an add as two; one MAC is both together": {n: 2 * count for n, count in macs.items()},
        "these are millions of MACs; give the counts themselves": {n: count / 1e6 for n, count in macs.items()},
        "the dense 3x3 is missing its stride, so maps stay large; give it the stride of the depthwise one":
            macs | {"dense 3x3": _cost_on_paper(_StrideLost).macs},
        "\"no expansion\" is the published network: did the block still get its expansion?":
            macs | {"no expansion": macs["as published"]},
        "\"dense 3x3\" is the published network: are the groups still there?":
            macs | {"dense 3x3": macs["as published"]},
    }
    compare_numbers(answer, macs, mistakes, tolerance=1e-6,
                    hint="build MobileNetV2(block=...) for each and read lw.profile(network, (3, 224, 224)).macs")
    dense, narrow = (macs[name] / macs["as published"] for name in ("dense 3x3", "no expansion"))
    return f"A dense filter takes {dense:.1f} times the MACs; without expansion {narrow:.2f} of them remain."


class _StrideLost(InvertedResidual):
    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        self.depthwise = ConvBNAct(expand * in_channels, expand * in_channels, 3, act=nn.ReLU6)


def _cost_on_paper(block: Callable[..., nn.Module]):
    with torch.device("meta"):  # shapes only: nothing is computed, so that the dense network takes no time
        return profile(MobileNetV2(block=block), (3, 224, 224))


@exercise("02.4", title="A network for two budgets", minutes=25, difficulty="hard", expects=a_function)
def two_budgets(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds a network for (N, 3, 32, 32) and ten classes; it is trained here, and accuracy is its score."""
    network = ten_class_network(answer, (3, 32, 32))
    cost = profile(network, (3, 32, 32))
    bills = ((cost.macs, MAX_MACS, "MACs"), (cost.params, MAX_PARAMS, "parameters"))
    refuse_over_budget(bills, "which layers cost most? print(lw.profile(my_design(), (3, 32, 32)))")
    accuracy = trained_accuracy(answer, load_data("photo_digits", copies=1), RECIPE,
                                hint="is there a BatchNorm behind every convolution?")
    if accuracy < LEAST_ACCURACY:
        fail(f"within both budgets, but it learned too little: {accuracy:.0%} of the test digits are right, "
             f"{LEAST_ACCURACY:.0%} are needed",
             "fewer blocks train faster; maps that reach 1 x 1 early have lost the digit's shape")
    return (f"Score {accuracy:.1%}, with {cost.macs:,} of {MAX_MACS:,} MACs and {cost.params:,} of {MAX_PARAMS:,} "
            "parameters.")
