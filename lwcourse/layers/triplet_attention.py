"""Triplet attention: Misra et al., Rotate to Attend, WACV 2021, https://arxiv.org/abs/2010.03045, sec. 3.2."""
import torch
from torch import Tensor, nn

from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.validate import check_integer

LARGEST_KERNEL = 255


def _z_pool(x: Tensor, dim: int) -> Tensor:
    """Maximum and mean over `dim`, as two maps of the two axes that are left: (N, 2, ., .)."""
    return torch.stack([x.amax(dim), x.mean(dim)], dim=1)


class TripletAttention(nn.Module):
    """Scale each value by the mean of three gates in [0, 1], one for each pair of the axes C, H and W.

    Shape: (N, channels, H, W) -> the same.
    Cost: 2 * kernel_size**2 * (channels * W + H * channels + H * W) multiply-adds; the parameters are
    3 * (2 * kernel_size**2 + 2), whatever the channels.
    A gate reads the maximum and the mean over the third axis. The official code turns the map on its side for
    that, and back; pooling along the axis gives the same without a copy of the map.
    Raises ValueError when `channels` is less than 1 or `kernel_size` even.
    """

    def __init__(self, channels: int, kernel_size: int = 7):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        check_integer("kernel_size", kernel_size, most=LARGEST_KERNEL)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the gate is as large as its map; got {kernel_size}")
        self.channel_width = ConvBNAct(2, 1, kernel_size, act=None, momentum=0.01)
        self.height_channel = ConvBNAct(2, 1, kernel_size, act=None, momentum=0.01)
        self.height_width = ConvBNAct(2, 1, kernel_size, act=None, momentum=0.01)
        self.gate = nn.Sigmoid()

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three gates, whose mean is `attention`: (N, channels, 1, W), (N, channels, H, 1), (N, 1, H, W)."""
        channel_width = self.gate(self.channel_width(_z_pool(x, 2)))                     # (N, 1, channels, W)
        height_channel = self.gate(self.height_channel(_z_pool(x, 3).transpose(2, 3)))   # (N, 1, H, channels)
        height_width = self.gate(self.height_width(_z_pool(x, 1)))                       # (N, 1, H, W)
        return channel_width.transpose(1, 2), height_channel.permute(0, 3, 2, 1), height_width

    def attention(self, x: Tensor) -> Tensor:
        """What x is multiplied by: (N, channels, H, W)."""
        first, second, third = self.gates(x)
        return first / 3 + second / 3 + third / 3  # thirds of the small gates, not of their large sum

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
