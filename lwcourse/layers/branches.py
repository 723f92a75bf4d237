"""What every Inception module is made of: towers side by side, joined along the channels."""
import torch
from torch import Tensor, nn

from lwcourse.layers.conv_bn_act import ConvBNAct


class Branches(nn.ModuleList):
    """Every branch gets the same map; their outputs are concatenated, in the order of the branches.

    Shape: (N, in_channels, H, W) -> (N, sum of the branches' channels, H', W'); the branches must agree on H' and W'.
    Cost: that of the branches; concatenating copies their outputs once.
    Source: the "filter concatenation" of Szegedy et al., 2014, https://arxiv.org/abs/1409.4842, Figure 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


def tower(in_channels: int, *convolutions: tuple[int, int | tuple[int, int]], stride: int = 1,
          padding: int | None = None) -> nn.Sequential:
    """Convolutions one after the other, each (out_channels, kernel_size) with BatchNorm and ReLU.

    `stride` and `padding` are those of the last one; no other changes the side. One of 0 channels is left out,
    as the papers' tables mean it. BatchNorm's epsilon is 1e-3, as in the official code of the whole line
    (tensorflow/models, research/slim/nets/inception_utils.py).
    """
    wanted = [convolution for convolution in convolutions if convolution[0]]
    layers = []
    for i, (out_channels, kernel_size) in enumerate(wanted, start=1):
        last = {"stride": stride, "padding": padding} if i == len(wanted) else {}
        layers.append(ConvBNAct(in_channels, out_channels, kernel_size, eps=1e-3, **last))
        in_channels = out_channels
    return nn.Sequential(*layers)
