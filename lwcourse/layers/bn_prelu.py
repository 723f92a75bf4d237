"""BatchNorm and PReLU, with or without a convolution before them: the bricks of the ESPNets."""
from collections import OrderedDict

from torch import nn

from lwcourse.layers.sliceable import Sliceable


class BNPReLU(Sliceable):
    """BatchNorm -> PReLU with one slope a channel. Shape: (N, channels, H, W) -> the same."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__(OrderedDict(bn=nn.BatchNorm2d(channels, eps), act=nn.PReLU(channels)))


class ConvBNPReLU(Sliceable):
    """k x k convolution without bias -> BatchNorm -> PReLU, padded so that stride 1 keeps H and W.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)), for odd kernels.
    Cost: H_out * W_out * k*k * in_channels * out_channels / groups multiply-adds.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, groups: int = 1,
                 eps: float = 1e-5):
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels, eps), act=nn.PReLU(out_channels)))
