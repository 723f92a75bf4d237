"""ResNeSt: Split-Attention Networks.

Paper:   Zhang et al., CVPR workshops 2022, https://arxiv.org/abs/2004.08955 (2020)
Lesson:  notebooks/05_attention.ipynb
Idea:    let the 3x3 convolution of a ResNet-D bottleneck compute each channel in several versions, and
         let an attention over the whole image choose among them, channel by channel.
Differs: DropBlock and the dropout before the classifier, tricks of training, are left out. `width` is ours:
         the paper has one width.
"""
from functools import partial

from torch import nn

from lwcourse.layers import ConvBNAct, SplitAttention
from lwcourse.models.resnet import Residual, ResNet
from lwcourse.models.resnet_d import pooled_projection, three_conv_stem
from lwcourse.registry import ModelCard, register


class SplitAttentionBottleneck(Residual):
    """1x1, Split-Attention, 1x1 (Figure 1, right), with the shortcut of ResNet-D.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    A block that halves the map does so by an average of 3x3 pixels after Split-Attention ("avd"); with
    `pool_first`, before it, which is cheaper, and which the official code calls "fast". `group_width` is that of
    a group in the first stage: the setting 2s1x64d is radix 2, cardinality 1, group_width 64.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, radix: int, cardinality: int,
                 group_width: int, pool_first: bool):
        group_width = out_channels // 4 * group_width // 64
        hidden = cardinality * max(1, group_width // radix) * radix  # radix divides it at width 1.0
        layers = [
            ConvBNAct(in_channels, hidden, 1),
            SplitAttention(hidden, radix=radix, cardinality=cardinality),
            ConvBNAct(hidden, out_channels, 1, act=None),
        ]
        if stride > 1:
            layers.insert(1 if pool_first else 2, nn.AvgPool2d(3, stride, padding=1))
        super().__init__(in_channels, out_channels, stride, nn.Sequential(*layers), shortcut=pooled_projection)


def _resnest50(num_classes: int, in_channels: int, width: float, radix: int, cardinality: int, group_width: int,
               pool_first: bool) -> ResNet:
    block = partial(SplitAttentionBottleneck, radix=radix, cardinality=cardinality, group_width=group_width,
                    pool_first=pool_first)
    return ResNet(50, num_classes, in_channels, width=width, block=block, stem=three_conv_stem,
                  pooled_norm=True)


_card = partial(ModelCard, family="ResNeSt", paper="ResNeSt: Split-Attention Networks", arxiv="2004.08955",
                year=2020, chapter="05")
_FAST = "ablation.md of the official code (zhanghang1989/ResNeSt), column PyTorch"


@register(_card(
    table="FLOPs and parameters: PaddleClas (10.78 G, two for each MAC); top-1: README of the official code",
    reference="timm resnest50d", published_params_m=27.5, published_macs_m=5390, published_top1=81.03,
    counted_params=27_483_240, counted_macs=5_371_160_576,
    note="Half of 10.78 G is 5390 M; timm's network has our 5371 M, with the same parameters. The paper's abstract "
         "has 81.13 % for the same network."),
    aliases=("resnest50_v1b",))
def resnest50(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNeSt-50 (2s1x64d), untrained."""
    return _resnest50(num_classes, in_channels, width, radix=2, cardinality=1, group_width=64, pool_first=False)


@register(_card(
    table=_FAST, reference="timm resnest50d_1s4x24d", published_params_m=25.7, published_macs_m=4420,
    published_top1=80.99, counted_params=25_677_000, counted_macs=4_399_827_456,
    note="4.42 G cannot be reproduced: timm's network has our 4.40 G, with the same parameters."))
def resnest50_1s4x24d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNeSt-50-fast 1s4x24d, untrained: four groups of 24 channels, each with one split."""
    return _resnest50(num_classes, in_channels, width, radix=1, cardinality=4, group_width=24, pool_first=True)


@register(_card(
    table=_FAST, reference="timm resnest50d_4s2x40d", published_params_m=30.4, published_macs_m=4410,
    published_top1=81.14, counted_params=30_417_592, counted_macs=4_369_060_736,
    note="4.41 G cannot be reproduced: timm's network has our 4.37 G, with the same parameters."))
def resnest50_4s2x40d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNeSt-50-fast 4s2x40d, untrained: two groups of 40 channels, each with four splits."""
    return _resnest50(num_classes, in_channels, width, radix=4, cardinality=2, group_width=40, pool_first=True)
