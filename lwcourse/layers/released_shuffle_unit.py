"""ShuffleNet V2's unit as its authors released it, and as they search it in Single Path One-Shot NAS.

Sources: Ma et al., ECCV 2018, https://arxiv.org/abs/1807.11164, Figure 3 c, d; Guo et al., ECCV 2020,
https://arxiv.org/abs/1904.00420; github.com/megvii-model/ShuffleNet-Series.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lwcourse.layers.conv_bn_act import ConvBNAct


class ReleasedShuffleUnit(nn.Module):
    """Half of the channels pass, the other half go through `branch`; the next unit shuffles when it splits.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    At stride 1 the even channels pass and the odd ones go through the branch: a shuffle of two groups and
    the split in one. At stride 2 all channels go both ways, and the shortcut keeps their number, so that the branch
    makes out_channels - in_channels. The branch is 1x1, depthwise, 1x1 with `hidden` channels between (half of
    out_channels by default); with `xception`, three times depthwise and 1x1.
    Cost of the branch at stride 1, c = in_channels / 2: H*W * hidden * (2*c + kernel_size**2) multiply-adds.
    Raises ValueError for a stride other than 1 and 2, an even kernel and channels that do not fit.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, kernel_size: int = 3,
                 hidden: int | None = None, xception: bool = False):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        if stride == 1 and (in_channels != out_channels or in_channels % 2):
            raise ValueError(f"a unit with stride 1 splits and keeps an even number of channels, got {in_channels} "
                             f"in and {out_channels} out")
        if out_channels <= in_channels and stride == 2:
            raise ValueError(f"a unit with stride 2 adds channels, got {in_channels} in and {out_channels} out")
        taken = in_channels if stride == 2 else in_channels // 2
        made = out_channels - taken
        hidden = out_channels // 2 if hidden is None else hidden
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")

        def depthwise(channels: int, stride: int = 1) -> ConvBNAct:
            return ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=None)

        self.stride, self.out_channels, self.hidden = stride, out_channels, hidden
        self.shortcut = nn.Sequential(depthwise(taken, 2), ConvBNAct(taken, taken, 1)) if stride == 2 else nn.Identity()
        if xception:
            self.branch = nn.Sequential(depthwise(taken, stride), ConvBNAct(taken, hidden, 1),
                                        depthwise(hidden), ConvBNAct(hidden, hidden, 1),
                                        depthwise(hidden), ConvBNAct(hidden, made, 1))
        else:
            self.branch = nn.Sequential(ConvBNAct(taken, hidden, 1), depthwise(hidden, stride),
                                        ConvBNAct(hidden, made, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.branch)

    def join(self, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """What passes, and what the branch makes of the rest."""
        if self.stride == 2:
            return torch.cat((self.shortcut(x), branch(x)), dim=1)
        return torch.cat((x[:, ::2], branch(x[:, 1::2])), dim=1)
