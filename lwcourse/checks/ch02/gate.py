"""02.2: filter and gate of MobileNetV3."""
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
    refuse_other_order,
)
from lwcourse.layers import ConvBNAct, SqueezeExcitation, make_divisible

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
