"""Efficient channel attention: Wang et al., ECA-Net, CVPR 2020, https://arxiv.org/abs/1910.03151."""
from math import log2

from torch import Tensor, nn


def adaptive_kernel_size(channels: int, gamma: float = 2, b: float = 1) -> int:
    """How many neighbouring channels decide about one: the odd number nearest to |log2(channels)/gamma + b/gamma|.

    Raises ValueError when `channels` is less than 1 or `gamma` not positive. Source: sec. 3.2.3.
    """
    if channels < 1 or gamma <= 0:
        raise ValueError(f"channels must be at least 1 and gamma positive, got {channels} and {gamma}")
    size = int(abs((log2(channels) + b) / gamma))
    return size if size % 2 else size + 1  # an even number, exact or after the cut, goes up


class EfficientChannelAttention(nn.Module):
    """Scale each channel by a number in [0, 1] computed from its mean and those of its neighbours.

    Shape: (N, channels, H, W) -> the same.
    Cost: kernel_size * channels multiply-adds, whatever H and W; kernel_size parameters.
    `kernel_size` defaults to `adaptive_kernel_size(channels)`. Unlike squeeze-and-excitation it never
    reduces the channels. Raises ValueError when `channels` is less than 1 or `kernel_size` even.
    """

    def __init__(self, channels: int, kernel_size: int | None = None):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        kernel_size = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that each channel has as many neighbours on either "
                             f"side; got {kernel_size}")
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)  # along the channels
        self.gate = nn.Sigmoid()

    def attention(self, x: Tensor) -> Tensor:
        """What x is multiplied by: (N, channels, 1, 1)."""
        means = x.mean(dim=(2, 3)).unsqueeze(1)  # (N, 1, channels): one signal, as long as there are channels
        return self.gate(self.conv(means)).transpose(1, 2).unsqueeze(-1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
