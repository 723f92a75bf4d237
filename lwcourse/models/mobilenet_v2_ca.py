"""Coordinate Attention for Efficient Mobile Network Design, with MobileNetV2 as host.

Paper:   Hou et al., CVPR 2021, https://arxiv.org/abs/2103.02907
Lesson:  notebooks/05_attention.ipynb
Idea:    global pooling forgets where things are; pool along one axis at a time instead, and gate
         each value by its row and by its column.
Differs: that the first block, which does not expand, has no attention, the least bottleneck of 8
         channels and the dropout of 0.1 follow the official code.
"""
from torch import Tensor

from lwcourse.layers import CoordinateAttention
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.registry import ModelCard, register


class InvertedResidualCA(InvertedResidual):
    """Inverted residual with coordinate attention between filter and projection (Figure 3).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__(in_channels, out_channels, stride, expand)
        self.attention = CoordinateAttention(expand * in_channels, reduction=32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


def _block(in_channels: int, out_channels: int, stride: int, expand: int) -> InvertedResidual:
    """The first block, which does not expand, has no attention."""
    block = InvertedResidualCA if expand > 1 else InvertedResidual
    return block(in_channels, out_channels, stride, expand)


@register(ModelCard(
    family="Coordinate Attention", paper="Coordinate Attention for Efficient Mobile Network Design",
    arxiv="2103.02907", year=2021, chapter="05",
    table="ImageNet table in the README of the official code (houqb/CoordAttention)",
    reference="torchvision mobilenet_v2 with timm CoordAttn",
    published_params_m=3.95, published_macs_m=310, published_top1=74.3,
    counted_params=3_950_648, counted_macs=306_666_368,
    note="The authors round MACs to ten million: 306.7 M are printed as 310 M."),
    aliases=("mbv2_ca",))
def mobilenet_v2_ca(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 with coordinate attention, untrained."""
    return MobileNetV2(num_classes, in_channels, width=width, dropout=0.1, block=_block)
