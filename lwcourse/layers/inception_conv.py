"""Inception Convolution: Liu et al., CVPR 2021, https://arxiv.org/abs/2012.13587."""
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InceptionConv(nn.Conv2d):
    """3x3 convolution without bias whose output channels have dilations of their own.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost: H_out*W_out * 9 * in_channels * out_channels multiply-adds, whatever the dilations.
    `pattern` says how many output channels have which dilation: {(1, 1): 40, (1, 3): 24} means that the first 40
    look at direct neighbours, and the other 24 at neighbours three columns away (height comes first). Channels
    of one dilation stand together, so that each dilation is one call of a dense convolution and nothing is
    permuted. Without a pattern this is an ordinary convolution, and with any pattern it has the weights of one.
    Raises ValueError when dilations or counts are not positive integers, or when the counts do not add up to
    `out_channels`.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *,
                 pattern: Mapping[tuple[int, int], int] | None = None):
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.pattern = {(1, 1): out_channels} if pattern is None else dict(pattern)
        if not all(isinstance(n, int) and n > 0 for item in self.pattern.items() for n in (*item[0], item[1])):
            raise ValueError("dilations and numbers of channels must be positive integers, such as "
                             f"{{(1, 1): 40, (1, 3): 24}}, got {self.pattern}")
        if sum(self.pattern.values()) != out_channels:
            raise ValueError(f"the pattern has {sum(self.pattern.values())} channels, the convolution {out_channels}")

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weight.split(list(self.pattern.values()))  # views: nothing is copied
        outputs = [F.conv2d(x, weight, None, self.stride, padding=dilation, dilation=dilation)
                   for weight, dilation in zip(weights, self.pattern, strict=True)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}, pattern={self.pattern}"
