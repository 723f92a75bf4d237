"""Dilated pyramid with hierarchical feature fusion: Mehta et al., ESPNet, https://arxiv.org/abs/1803.06815, sec. 3."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DilatedPyramid(nn.Module):
    """Parallel 3x3 convolutions that look ever further, because each has a larger dilation.

    Shape: (N, in_channels, H, W) -> (N, sum of out_channels, ceil(H/stride), ceil(W/stride)).
    Cost: H_out * W_out * 9 * in_channels / groups * (sum of out_channels) multiply-adds.

    A convolution of dilation d sees only every d-th pixel, so that a grid shows in its map (gridding). In
    hierarchical feature fusion (HFF) each map is added to the next one, of larger dilation, whose holes it
    fills; the maps are concatenated then. `fuse_from` is the first branch that takes part; without
    `hierarchical` none does.
    Raises ValueError when branches that are to be added differ in channels.
    """

    def __init__(self, in_channels: int, out_channels: Sequence[int], dilations: Sequence[int], *, stride: int = 1,
                 groups: int = 1, hierarchical: bool = True, fuse_from: int = 0):
        super().__init__()
        if len(out_channels) != len(dilations):
            raise ValueError(f"a branch needs channels and a dilation, got {len(out_channels)} and {len(dilations)}")
        if hierarchical and len(set(out_channels[fuse_from:])) > 1:
            raise ValueError(f"branches that are added need equal channels, got {tuple(out_channels[fuse_from:])}")
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, channels, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False)
            for channels, dilation in zip(out_channels, dilations, strict=True))
        self.hierarchical = hierarchical
        self.fuse_from = fuse_from

    def extra_repr(self) -> str:
        return f"hierarchical={self.hierarchical}, fuse_from={self.fuse_from}"

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        if self.hierarchical:
            for i in range(self.fuse_from + 1, len(maps)):
                maps[i] += maps[i - 1]  # holds the sum of all branches before it
        return torch.cat(maps, dim=1)
