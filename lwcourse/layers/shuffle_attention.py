"""Shuffle attention: Zhang & Yang, SA-Net, ICASSP 2021, https://arxiv.org/abs/2102.00240, sec. 3."""
import torch
from torch import Tensor, nn

from lwcourse.layers.channel_shuffle import ChannelShuffle
from lwcourse.layers.validate import check_integer


class ShuffleAttention(nn.Module):
    """Half of each group's channels are scaled one by one, half pixel by pixel, and then both halves are mixed.

    Shape: (N, channels, H, W) -> the same; channels must be a multiple of 2 * groups, else ValueError.
    Cost: no multiply-adds that count, only means, a normalisation and scales; 3 * channels / groups parameters,
    which all groups share.
    Every gate begins at sigmoid(1), for each scale at 0 and each shift at 1, as in the official code: until
    `spatial_scale` has moved, `norm` has no gradient. (PyTorch's GroupNorm refuses one image of 1 x 1 in one group.)
    """

    def __init__(self, channels: int, groups: int = 64):
        super().__init__()
        check_integer("groups", groups)
        if channels < 1 or channels % (2 * groups):
            raise ValueError(f"channels must be a multiple of twice the groups, got {channels} channels "
                             f"and {groups} groups")
        self.groups = groups
        half = channels // (2 * groups)
        self.channel_scale = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.channel_shift = nn.Parameter(torch.ones(1, half, 1, 1))
        self.spatial_scale = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.spatial_shift = nn.Parameter(torch.ones(1, half, 1, 1))
        self.norm = nn.GroupNorm(half, half)  # a group a channel: each map by its own mean and variance
        self.gate = nn.Sigmoid()
        self.shuffle = ChannelShuffle(2)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both halves of each group, (N * groups, half, H, W), for the channel and the spatial gate."""
        return x.unflatten(1, (self.groups, -1)).flatten(0, 1).chunk(2, dim=1)

    def joined(self, first: Tensor, second: Tensor) -> Tensor:
        """The opposite of `halves`: (N, channels, H, W)."""
        return torch.cat([first, second], dim=1).unflatten(0, (-1, self.groups)).flatten(1, 2)

    def gates(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """For the halves: one number a channel (N * groups, half, 1, 1), one a pixel (N * groups, half, H, W)."""
        means = first.mean(dim=(2, 3), keepdim=True)
        return (self.gate(self.channel_scale * means + self.channel_shift),
                self.gate(self.spatial_scale * self.norm(second) + self.spatial_shift))

    def attention(self, x: Tensor) -> Tensor:
        """What x is multiplied by before the shuffle: (N, channels, H, W)."""
        first, second = self.halves(x)
        channel, spatial = self.gates(first, second)
        return self.joined(channel.expand_as(first), spatial)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.halves(x)
        channel, spatial = self.gates(first, second)
        return self.shuffle(self.joined(first * channel, second * spatial))
