"""ResNet-D: Bag of Tricks for Image Classification with Convolutional Neural Networks.

Paper:   He et al., CVPR 2019, https://arxiv.org/abs/1812.01187
Lesson:  notebooks/05_attention.ipynb
Idea:    a 1x1 convolution with stride 2 never reads three pixels of four; let a 3x3 convolution or an
         average do the halving, and see with three 3x3 convolutions instead of one 7x7.
Differs: the tricks of training (sec. 3 and 5, among them BatchNorm weights that start at 0) are not part of
         the network. An odd map is padded for the average, and the padding does not count, as in GluonCV.
         `width` is ours: the paper has one width.
"""
from functools import partial

from torch import nn

from lwcourse.layers import ConvBNAct, check_flag
from lwcourse.models.resnet import BasicBlock, Bottleneck, ResNet, plain_stem, projection
from lwcourse.registry import ModelCard, Variant, register


def three_conv_stem(in_channels: int, channels: int) -> nn.Module:
    """Figure 2b: three 3x3 convolutions see what a 7x7 sees; the first has stride 2 and half of the channels.

    Shape: (N, in_channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2)).
    Cost: H/2*W/2 * 9 * (in_channels*channels/2 + channels^2/4 + channels^2/2) multiply-adds; with 3 and 64
    channels it is three times that of the 7x7.
    """
    return nn.Sequential(
        ConvBNAct(in_channels, channels // 2, 3, stride=2),
        ConvBNAct(channels // 2, channels // 2, 3),
        ConvBNAct(channels // 2, channels, 3),
    )


def pooled_projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Figure 2c: where the shortcut halves the map, a 2x2 average does it, and the 1x1 convolution reads every pixel.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """
    if stride == 1:
        return projection(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False),
        ConvBNAct(in_channels, out_channels, 1, act=None),
    )


def _resnet_d(depth: int, num_classes: int, in_channels: int, width: float, deep_stem: bool, pooled_shortcut: bool,
              stride_in_3x3: bool = True) -> ResNet:
    check_flag("deep_stem", deep_stem)
    check_flag("pooled_shortcut", pooled_shortcut)
    block = partial(Bottleneck, stride_in_3x3=stride_in_3x3) if depth >= 50 else BasicBlock
    return ResNet(depth, num_classes, in_channels, width=width,
                  block=partial(block, shortcut=pooled_projection if pooled_shortcut else projection),
                  stem=three_conv_stem if deep_stem else plain_stem)


_card = partial(ModelCard, family="ResNet-D", year=2018, arxiv="1812.01187", chapter="05", table="Table 5",
                paper="Bag of Tricks for Image Classification with Convolutional Neural Networks")
_ONLY_50 = "The paper has figures for ResNet-50 alone. {} The network of Figure 2c, which GluonCV calls v1d."
_B_C = {"pooled_shortcut": False}
_B = {"deep_stem": False, "pooled_shortcut": False}
_A = {"stride_in_3x3": False, "deep_stem": False, "pooled_shortcut": False}


@register(_card(reference="timm resnet18d", counted_params=11_708_744, counted_macs=2_053_713_920,
                note=_ONLY_50.format("Basic blocks have no 1x1 whose stride could move.")))
def resnet18_d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
               deep_stem: bool = True, pooled_shortcut: bool = True) -> ResNet:
    """ResNet-18-D, untrained; without `deep_stem` and `pooled_shortcut` it is resnet18."""
    return _resnet_d(18, num_classes, in_channels, width, deep_stem, pooled_shortcut)


@register(_card(reference="timm resnet34d", counted_params=21_816_904, counted_macs=3_903_401_984,
                note=_ONLY_50.format("Basic blocks have no 1x1 whose stride could move.")))
def resnet34_d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
               deep_stem: bool = True, pooled_shortcut: bool = True) -> ResNet:
    """ResNet-34-D, untrained; without `deep_stem` and `pooled_shortcut` it is resnet34."""
    return _resnet_d(34, num_classes, in_channels, width, deep_stem, pooled_shortcut)


@register(_card(
    reference="timm resnet50d", published_params_m=25, published_macs_m=4300, published_top1=77.16,
    counted_params=25_576_264, counted_macs=4_328_824_832,
    note="The paper prints 25 M, cut, and 4.3 G. GluonCV calls this network v1d, and v1b what has the stride in the "
         "3x3 and nothing else.",
    variants=(
        Variant(arguments=_B_C, published_params_m=25, published_macs_m=4300, published_top1=76.87,
                counted_params=25_576_264, counted_macs=4_328_824_832,
                note="ResNet-50-C of the paper. 25 M is cut; an average costs no MACs, so C costs what D costs."),
        Variant(arguments=_B, published_params_m=25, published_macs_m=4100, published_top1=76.66,
                counted_params=25_557_032, counted_macs=4_089_184_256,
                note="ResNet-50-B of the paper, our resnet50. 25 M is cut, 4.1 G is 4.09 G."),
        Variant(arguments=_A, published_params_m=25, published_macs_m=3800, published_top1=76.21,
                counted_params=25_557_032, counted_macs=3_857_973_248,
                note="The first ResNet-50, as its paper has it. 25 M and 3.8 G are cut from 25.6 M and 3.86 G."),
    )), aliases=("resnet50_v1b",))
def resnet50_d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, stride_in_3x3: bool = True,
               deep_stem: bool = True, pooled_shortcut: bool = True) -> ResNet:
    """ResNet-50-D, untrained. Its tricks add up: with none of the three it is the first ResNet-50, with
    `stride_in_3x3` ResNet-B, with `deep_stem` too ResNet-C, with `pooled_shortcut` too ResNet-D.
    """
    return _resnet_d(50, num_classes, in_channels, width, deep_stem, pooled_shortcut, stride_in_3x3=stride_in_3x3)


@register(_card(reference="timm resnet101d", counted_params=44_568_392, counted_macs=8_041_046_016,
                note=_ONLY_50.format("101 layers are our transfer of it.")))
def resnet101_d(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, stride_in_3x3: bool = True,
                deep_stem: bool = True, pooled_shortcut: bool = True) -> ResNet:
    """ResNet-101-D, untrained, with the options of resnet50_d."""
    return _resnet_d(101, num_classes, in_channels, width, deep_stem, pooled_shortcut, stride_in_3x3=stride_in_3x3)
