"""Coordinate attention: Hou et al., CVPR 2021, https://arxiv.org/abs/2103.02907, sec. 3.2."""
import torch
from torch import Tensor, nn


class CoordinateAttention(nn.Module):
    """Scale each value by two numbers in [0, 1], one for its channel and row, one for its channel and column.

    Shape: (N, channels, H, W) -> the same.
    Cost: 2 * (H + W) * channels * hidden multiply-adds, with hidden = max(8, channels // reduction).
    Means of rows and of columns go through one convolution together, and then each through their own.
    Raises ValueError when `channels` or `reduction` is less than 1.
    """

    def __init__(self, channels: int, reduction: int = 32):
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels and reduction must be at least 1, got {channels} and {reduction}")
        hidden = max(8, channels // reduction)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.act = nn.Hardswish(inplace=True)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)
        self.gate = nn.Sigmoid()

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two factors of `attention`: of rows (N, channels, H, 1) and of columns (N, channels, 1, W)."""
        height, width = x.shape[2:]
        rows = x.mean(dim=3, keepdim=True)                     # (N, channels, H, 1)
        columns = x.mean(dim=2, keepdim=True).transpose(2, 3)  # (N, channels, W, 1): upright, to stand under the rows
        both = self.act(self.norm(self.reduce(torch.cat([rows, columns], dim=2))))
        rows, columns = both.split([height, width], dim=2)
        return self.gate(self.rows(rows)), self.gate(self.columns(columns.transpose(2, 3)))

    def attention(self, x: Tensor) -> Tensor:
        """What x is multiplied by: (N, channels, H, W)."""
        rows, columns = self.gates(x)
        return rows * columns

    def forward(self, x: Tensor) -> Tensor:
        return x * self.attention(x)
