"""Squeeze-and-Excitation Networks, with MobileNetV2 as host.

Paper:   Hu et al., CVPR 2018, https://arxiv.org/abs/1709.01507 (2017)
Lesson:  notebooks/05_attention.ipynb
Idea:    ask the mean of every channel, through a small bottleneck, how much each channel matters
         in this image, and scale the channels by the answer.
Differs: the paper has no MobileNetV2. This is the network that later papers compare with: the gate
         stands between the depthwise filter and the projection, as in MobileNetV3, in every block
         that expands, and squeezes 24-fold, which gives the 3.89 M parameters that they print.
"""
from torch import Tensor

from lwcourse.layers import SqueezeExcitation
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.registry import ModelCard, register

REDUCTION = 24


class InvertedResidualSE(InvertedResidual):
    """Inverted residual whose filtered channels are scaled before they are projected.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        hidden = expand * in_channels
        self.attention = SqueezeExcitation(hidden, max(1, hidden // REDUCTION))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


def _block(in_channels: int, out_channels: int, stride: int, expand: int) -> InvertedResidual:
    """The first block, which does not expand, has no gate."""
    block = InvertedResidualSE if expand > 1 else InvertedResidual
    return block(in_channels, out_channels, stride, expand)


@register(ModelCard(
    family="Squeeze-and-Excitation", paper="Squeeze-and-Excitation Networks", arxiv="1709.01507",
    year=2017, chapter="05", table="ImageNet table in the README of CoordAttention, row MobileNetV2 + SE",
    reference="torchvision mobilenet_v2 with SqueezeExcitation",
    published_params_m=3.89, published_macs_m=300, published_top1=73.5,
    counted_params=3_888_208, counted_macs=301_150_208,
    note="The figures are those of the paper on coordinate attention, which rounds MACs to ten million. Placement "
         "and reduction are ours, chosen so that the parameters are as printed there."))
def mobilenet_v2_se(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 with squeeze-and-excitation, untrained."""
    return MobileNetV2(num_classes, in_channels, width=width, block=_block)
