"""ECA-Net: Efficient Channel Attention, with MobileNetV2 as host.

Paper:   Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151 (2019)
Lesson:  notebooks/05_attention.ipynb
Idea:    a channel's gate needs no bottleneck and no look at all channels: one tiny 1-D convolution
         over the channel means, which lets neighbours speak, is enough.
Differs: kernels follow the official MobileNetV2: 1 up to the stage of 64 channels, then 3, where the
         paper's formula says 3 up to 96 channels, then 5. The dropout of 0.25 is the official code's
         too. Widths are rounded to multiples of 8 as in the host, where the official code cuts.
"""
from functools import partial

from torch import Tensor

from lwcourse.layers import EfficientChannelAttention, check_options, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.registry import ModelCard, register


class InvertedResidualECA(InvertedResidual):
    """Inverted residual whose projected channels are scaled, before the shortcut is added.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    The gate's kernel is 3 from `wide` output channels on; below, 1: a channel decides for itself.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, *, wide: int = 96):
        super().__init__(in_channels, out_channels, stride, expand)
        self.attention = EfficientChannelAttention(out_channels, kernel_size=3 if out_channels >= wide else 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.project(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


@register(ModelCard(
    family="ECA-Net", paper="ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks",
    arxiv="1910.03151", year=2019, chapter="05", table="ImageNet table in the README of the official code",
    reference="torchvision mobilenet_v2 with timm EcaModule",
    published_params_m=3.34, published_macs_m=319.9, published_top1=72.56,
    counted_params=3_504_903, counted_macs=300_777_952,
    note="The official counter divides by 2^20: 3,504,903 parameters are 3.34 of those. Its 319.9 count also "
         "normalisation (4 a value), ReLU6 and pooling (1 a value), and the classifier twice."),
    aliases=("mbv2_eca",))
def mobilenet_v2_eca(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2 with efficient channel attention, untrained."""
    check_options(num_classes, in_channels, width)
    return MobileNetV2(num_classes, in_channels, width=width, dropout=0.25,
                       block=partial(InvertedResidualECA, wide=make_divisible(96 * width)))
