"""Squeeze-and-excitation: Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507."""
from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in [0, 1] computed from the means of all channels.

    Shape: (N, channels, H, W) -> the same.
    Cost: 2 * channels * hidden multiply-adds, whatever H and W.
    `hidden` defaults to a sixteenth of `channels`, as in the paper's networks. `gate` builds the squashing function:
    a sigmoid in the paper, a hard sigmoid in MobileNetV3. Raises ValueError when either number is less than 1.
    """

    def __init__(self, channels: int, hidden: int | None = None, gate: Callable[..., nn.Module] = nn.Sigmoid):
        super().__init__()
        hidden = max(1, channels // 16) if hidden is None else hidden
        if channels < 1 or hidden < 1:
            raise ValueError(f"channels and hidden must be at least 1, got {channels} and {hidden}")
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = gate()

    def attention(self, x: Tensor) -> Tensor:
        """What x is multiplied by: (N, channels, 1, 1)."""
        means = x.mean(dim=(2, 3), keepdim=True)  # squeeze
        return self.gate(self.expand(self.act(self.reduce(means))))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
