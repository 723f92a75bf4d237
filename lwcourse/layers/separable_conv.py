"""Depthwise-separable convolution: Howard et al., MobileNets, 2017, https://arxiv.org/abs/1704.04861, sec. 3.1."""
from collections.abc import Callable

from torch import nn

from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.sliceable import Sliceable


class SeparableConv(Sliceable):
    """k x k depthwise convolution, which filters, then 1x1 convolution, which mixes; each with BatchNorm and `act`.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost: H_out * W_out * in_channels * (k*k + out_channels) multiply-adds.
    Children: 0 filters, 1 mixes.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, *,
                 act: Callable[..., nn.Module] | None = nn.ReLU):
        super().__init__(ConvBNAct(in_channels, in_channels, kernel_size, stride, groups=in_channels, act=act),
                         ConvBNAct(in_channels, out_channels, 1, act=act))
