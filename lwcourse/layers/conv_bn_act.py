"""Convolution, batch normalisation and activation: the brick of nearly every network here."""
from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from lwcourse.layers.same_conv import SameConv2d
from lwcourse.layers.sliceable import Sliceable


class ConvBNAct(Sliceable):
    """k x k convolution without bias -> BatchNorm -> activation, padded so that stride 1 keeps H and W.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)), for odd kernels.
    Cost: H_out * W_out * k*k * in_channels * out_channels / groups multiply-adds.
    `kernel_size` may be a pair such as (1, 7); `padding`, where given, replaces the one that keeps H and W;
    "tensorflow" is that of `SameConv2d`.
    `act` builds the activation (called with inplace=True, since BatchNorm's output has no
    other reader); None leaves the output linear. Children: `conv`, `bn` and, if any, `act`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], stride: int = 1, *,
                 padding: int | tuple[int, int] | str | None = None, dilation: int = 1, groups: int = 1,
                 act: Callable[..., nn.Module] | None = nn.ReLU, eps: float = 1e-5, momentum: float = 0.1):
        if padding is None:
            sides = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
            padding = tuple(dilation * (side - 1) // 2 for side in sides)
        if padding == "tensorflow":
            conv = SameConv2d(in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups,
                              bias=False)
        else:
            conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        parts = OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels, eps, momentum))
        if act is not None:
            parts["act"] = act(inplace=True)
        super().__init__(parts)
