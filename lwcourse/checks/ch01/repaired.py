"""Exercise 01.8: three errors in a separable convolution."""
import torch
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_module_class, compare_blocks, naming_mistakes, refuse_other_order
from lwcourse.layers import ConvBNAct

PARAMETERS = ("in_channels", "out_channels", "stride", "dilation")
CASES = [((8, 12, 1, 1), (2, 8, 9, 12)), ((8, 6, 2, 1), (2, 8, 9, 12)), ((6, 10, 1, 2), (2, 6, 11, 10)),
         ((6, 6, 2, 3), (2, 6, 13, 16))]


class _Repaired(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__(ConvBNAct(in_channels, in_channels, 3, stride, dilation=dilation, groups=in_channels),
                         ConvBNAct(in_channels, out_channels, 1))


class _LateStride(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__(ConvBNAct(in_channels, in_channels, 3, dilation=dilation, groups=in_channels),
                         ConvBNAct(in_channels, out_channels, 1, stride))


class _ActivationFirst(nn.Module):
    """ReLU before BatchNorm, in the layers that `first` names."""

    first = (0, 1)

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.layers = _Repaired(in_channels, out_channels, stride, dilation)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            y = layer.conv(x)
            x = layer.bn(y.relu()) if i in self.first else layer.bn(y).relu()
        return x


class _FirstActivationFirst(_ActivationFirst):
    first = (0,)


class _LastActivationFirst(_ActivationFirst):
    first = (1,)


MISTAKES = {
    "ReLU comes before BatchNorm in both layers, so that BatchNorm cannot move zero to where half of the values pass":
        _ActivationFirst,
    "ReLU still comes before BatchNorm in the depthwise layer": _FirstActivationFirst,
    "ReLU still comes before BatchNorm in the 1x1 layer": _LastActivationFirst,
}


@exercise("01.8", title="Three errors in a separable convolution", minutes=20, difficulty="medium",
          expects=a_module_class)
def repaired(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride, dilation)`: depthwise 3x3, 1x1, each with BatchNorm and ReLU."""
    refuse_other_order(answer, PARAMETERS)
    _refuse_shrunken(answer)
    with naming_mistakes(answer, MISTAKES, CASES):
        compare_blocks(answer, _Repaired, CASES, ready_made=("SeparableConv",), macs=True,
                       hint="compare with SeparableConv on a stride of 2, and print shapes for a dilation of 2")
    return "Right in value and in work, for every stride and dilation."


def _refuse_shrunken(answer: type[nn.Module]) -> None:
    """Name padding that does not grow with dilation, or grows too much."""
    with torch.no_grad():
        y = answer(6, 10, 1, 2)(torch.randn(2, 6, 11, 10))
    if isinstance(y, Tensor) and y.ndim == 4 and y.shape[2:] != (11, 10):
        more = "larger" if y.shape[2] > 11 else "smaller"
        fail(f"with a stride of 1 and a dilation of 2 the map becomes {more}: 11 x 10 pixels in, "
             f"{y.shape[2]} x {y.shape[3]} out", "over how many pixels does a kernel with dilation reach?")
