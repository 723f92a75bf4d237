"""Rotate to Attend: Convolutional Triplet Attention Module, with MobileNetV2 as host.

Paper:   Misra et al., WACV 2021, https://arxiv.org/abs/2010.03045 (2020)
Lesson:  notebooks/05_attention.ipynb
Idea:    a gate over the image plane sees where, not which channel; turn the map on its sides, and
         the same cheap gate also sees channel with row and channel with column.
Differs: the gate after the projection of every block and the dropout of 0.25 follow the official
         code. Widths are rounded to multiples of 8 as in the host, where the official code cuts.
"""
from functools import partial

from torch import Tensor

from lwcourse.layers import TripletAttention
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.registry import ModelCard, Variant, register


class InvertedResidualTriplet(InvertedResidual):
    """Inverted residual with triplet attention after the projection, before the shortcut is added.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, *, kernel_size: int = 7):
        super().__init__(in_channels, out_channels, stride, expand)
        self.attention = TripletAttention(out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.project(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


@register(ModelCard(
    family="Triplet Attention", paper="Rotate to Attend: Convolutional Triplet Attention Module",
    arxiv="2010.03045", year=2020, chapter="05", table="ImageNet table in the README of the official code",
    reference="torchvision mobilenet_v2 with the formulas of triplet attention",
    published_params_m=3.51, published_macs_m=327, published_top1=71.99,
    counted_params=3_509_972, counted_macs=306_997_664,
    note="0.327 G also count normalisation (2 a value) and ReLU6 (1 a value): 326.6 M in that way. Of the "
         "authors' two networks the one with kernels of 3, the next row, is the better.",
    variants=(
        Variant(arguments={"kernel_size": 3}, published_params_m=3.506, published_macs_m=322, published_top1=72.62,
                counted_params=3_505_892, counted_macs=301_917_344,
                note="0.322 G also count normalisation (2 a value) and ReLU6 (1 a value): 321.5 M in that way."),
    )), aliases=("mbv2_triplet",))
def mobilenet_v2_triplet(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                         kernel_size: int = 7) -> MobileNetV2:
    """MobileNetV2 with triplet attention, untrained; the authors train `kernel_size` 7 and 3."""
    return MobileNetV2(num_classes, in_channels, width=width, dropout=0.25,
                       block=partial(InvertedResidualTriplet, kernel_size=kernel_size))
