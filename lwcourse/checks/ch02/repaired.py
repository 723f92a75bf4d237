"""02.7: four mistakes in a block of MobileNetV3."""
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
    refuse_other_order,
)
from lwcourse.layers import ConvBNAct, SqueezeExcitation, make_divisible
from lwcourse.models.mobilenet_v3 import InvertedResidualSE

RE, HS = nn.ReLU, nn.Hardswish
V3_CASES = (  # (in_channels, hidden, out_channels, kernel, stride, se, act), input shape
    ((16, 64, 24, 3, 2, False, RE), (2, 16, 9, 12)),
    ((24, 72, 40, 5, 2, True, RE), (2, 24, 8, 7)),
    ((40, 120, 40, 5, 1, True, HS), (1, 40, 7, 9)),
    ((40, 72, 40, 3, 2, True, HS), (1, 40, 6, 8)),   # equal channels, but stride 2: no shortcut
    ((40, 240, 48, 5, 1, True, HS), (1, 40, 5, 6)),  # stride 1, but the channels change: no shortcut
    ((16, 16, 16, 3, 1, False, RE), (1, 16, 5, 6)),
)


def reference_v3(in_channels: int, hidden: int, out_channels: int, kernel: int, stride: int, se: bool,
                 act: Callable[..., nn.Module]) -> nn.Module:
    return InvertedResidualSE(in_channels, hidden, out_channels, kernel, stride, se=se, act=act)


class MistakenV3(nn.Module):
    """MobileNetV3's block with mistakes: the gate `early` (before the activation) or `late` (after the projection),
    `unrounded` (a quarter as // gives it), `active` (an activation at the end)."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel: int, stride: int, se: bool,
                 act: Callable[..., nn.Module], *, early: bool = False, late: bool = False, unrounded: bool = False,
                 active: bool = False):
        super().__init__()
        brick = partial(ConvBNAct, eps=1e-3, momentum=0.01)
        gated = out_channels if late else hidden
        gate = [SqueezeExcitation(gated, gated // 4 if unrounded else make_divisible(gated / 4), nn.Hardsigmoid)] * se
        layers = [brick(in_channels, hidden, 1, act=act)] if hidden != in_channels else []
        layers += [brick(hidden, hidden, kernel, stride, groups=hidden, act=None)]
        layers += [*gate, act()] if early else [act()] if late else [act(), *gate]
        layers += [brick(hidden, out_channels, 1, act=act if active else None), *(gate if late else [])]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.adds else y


EARLY = "the gate still stands before the activation of the depthwise layer; it is to scale what comes out of it"
UNROUNDED = "the gate squeezes 72 channels to 18; MobileNetV3 squeezes them to 24, as make_divisible rounds a quarter"
ACTIVE = "the projection still ends in an activation; the bottleneck is linear"
V3_MISTAKES = {
    EARLY: partial(MistakenV3, early=True),
    UNROUNDED: partial(MistakenV3, unrounded=True),
    ACTIVE: partial(MistakenV3, active=True),
    f"two things: {EARLY}; and {UNROUNDED}": partial(MistakenV3, early=True, unrounded=True),
    f"two things: {EARLY}; and {ACTIVE}": partial(MistakenV3, early=True, active=True),
    f"two things: {UNROUNDED}; and {ACTIVE}": partial(MistakenV3, unrounded=True, active=True),
    f"three things: {EARLY}; {UNROUNDED}; and {ACTIVE}": partial(MistakenV3, early=True, unrounded=True, active=True),
    "the gate stands after the projection; it belongs between the depthwise layer and the projection":
        partial(MistakenV3, late=True),
}


@exercise("02.7", title="Four mistakes in a block", minutes=15, difficulty="medium", expects=a_module_class)
def repaired_block(answer: type[nn.Module]) -> str:
    """`answer(in_channels, hidden, out_channels, kernel, stride, se, act)` is MobileNetV3's block."""
    refuse_other_order(answer, ("in_channels", "hidden", "out_channels", "kernel", "stride", "se", "act"))
    with naming_mistakes(answer, V3_MISTAKES, V3_CASES):
        compare_blocks(answer, reference_v3, V3_CASES, ready_made=("InvertedResidualSE", "InvertedResidual"),
                       macs=True, shortcut="the input can be added only where it has the shape of the output, so not "
                       "where the stride is 2, nor where the channels change")
    return f"All mistakes are gone: equal to the course's block in {len(V3_CASES)} settings."
