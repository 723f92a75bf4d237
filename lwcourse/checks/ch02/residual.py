"""02.1: the inverted residual of MobileNetV2."""
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
    refuse_other_order,
)
from lwcourse.layers import ConvBNAct
from lwcourse.models.mobilenet_v2 import InvertedResidual

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
