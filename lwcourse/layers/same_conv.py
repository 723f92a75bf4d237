"""Convolution that pads as TensorFlow does."""
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A k x k convolution padded as TensorFlow's "SAME", which weights that were trained there need.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)), for kernels no smaller than the
    stride. At stride 2 an even side gets one row of zeros less before than after; for odd kernels at stride 1, and at
    odd sides, it is PyTorch's own padding. `stride` and `dilation` are those of nn.Conv2d; there is no `padding`.
    Cost: that of nn.Conv2d.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1, *, dilation: int | tuple[int, int] = 1, groups: int = 1,
                 bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)
        if any(stride > dilation * (kernel - 1) + 1
               for kernel, stride, dilation in zip(self.kernel_size, self.stride, self.dilation, strict=True)):
            raise ValueError(f"a kernel of {self.kernel_size} with stride {self.stride} passes over pixels; the kernel "
                             "must be at least as large as the stride")

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size, kernel, stride, dilation in zip(x.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1],
                                                  self.dilation[::-1], strict=True):
            missing = (-(size // -stride) - 1) * stride + dilation * (kernel - 1) + 1 - size
            sides += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
