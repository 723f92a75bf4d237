"""Ghost module: Han et al., GhostNet, CVPR 2020, https://arxiv.org/abs/1911.11907, sec. 3.1."""
from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor, nn

from lwcourse.layers.conv_bn_act import ConvBNAct


class GhostModule(nn.Module):
    """A convolution makes 1/`ratio` of the maps; cheap depthwise filters of those make the rest.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost: H_out * W_out * m * (k*k*in_channels + (ratio - 1) * d*d) multiply-adds, with
    m = ceil(out_channels / ratio), k = `kernel_size` and d = `cheap_kernel`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, *,
                 ratio: int = 2, cheap_kernel: int = 3, act: Callable[..., nn.Module] | None = nn.ReLU):
        super().__init__()
        if ratio < 2:
            raise ValueError(f"ratio must be at least 2, or there is nothing cheap to make; got {ratio}")
        self.out_channels = out_channels
        intrinsic = ceil(out_channels / ratio)
        self.primary = ConvBNAct(in_channels, intrinsic, kernel_size, stride, act=act)
        self.cheap = ConvBNAct(intrinsic, intrinsic * (ratio - 1), cheap_kernel, groups=intrinsic, act=act)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        maps = torch.cat([primary, self.cheap(primary)], dim=1)
        return maps[:, :self.out_channels]  # a ratio that does not divide out_channels makes a few too many
