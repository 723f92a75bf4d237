"""Channel shuffle: Zhang et al., ShuffleNet, CVPR 2018, https://arxiv.org/abs/1707.01083, sec. 3.1."""
from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """Deal the channels of `groups` groups out in turn, so that each new group holds some of every old one.

    Shape: (N, channels, H, W) -> the same; channels must be a multiple of `groups`, else ValueError.
    Cost: no arithmetic; the whole map is copied once.
    """

    def __init__(self, groups: int):
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups must be at least 1, got {groups}")
        self.groups = groups

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not divide into {self.groups} groups")
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
