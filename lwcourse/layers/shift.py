"""Shift: Wu et al., CVPR 2018, https://arxiv.org/abs/1711.08141, sec. 3.1."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shift(nn.Module):
    """Move each channel by one fixed step, so that a following 1x1 convolution sees a neighbourhood.

    Shape: (N, channels, H, W) -> the same; what moves in at the border is zero.
    The k*k steps are dealt out in equal groups of channels, in raster order; channels that are
    left over stay in place (the paper's centre group). Raises ValueError when `kernel_size` is even.
    Cost: no arithmetic and no parameters; the whole map is copied once.
    """

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that there is a centre to stay at; got {kernel_size}")
        self.radius = kernel_size // 2
        self.per_step = channels // kernel_size**2

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (self.radius,) * 4)
        side = 2 * self.radius + 1
        moved = [padded[:, i * self.per_step:(i + 1) * self.per_step, i // side:i // side + height,
                        i % side:i % side + width] for i in range(side**2)]
        return torch.cat([*moved, x[:, side**2 * self.per_step:]], dim=1)
