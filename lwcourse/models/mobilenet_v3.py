"""Searching for MobileNetV3.

Paper:   Howard et al., ICCV 2019, https://arxiv.org/abs/1905.02244 (figures of version 5)
Lesson:  notebooks/02_mobilenets.ipynb
Idea:    let two searches choose kernel, widths and places of squeeze-and-excitation of the inverted
         residuals (MnasNet's search over blocks, then NetAdapt layer by layer); by hand, put h-swish in
         the deeper half, and average before the costly last layers.
Differs: BatchNorm eps and momentum, dropout and the rounding at widths below 1 follow TF-Slim.
"""
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import (
    ConvBNAct,
    SqueezeExcitation,
    check_images,
    check_options,
    initialise,
    make_divisible,
)
from lwcourse.registry import ModelCard, Variant, register

ConvBNAct = partial(ConvBNAct, eps=1e-3, momentum=0.01)
RE, HS = nn.ReLU, nn.Hardswish


class Row(NamedTuple):
    """One row of Table 1 or 2, in the paper's order."""
    kernel: int    # of the depthwise convolution
    hidden: int    # "exp size", at width 1.0
    channels: int  # "#out", at width 1.0
    se: bool       # squeeze-and-excitation
    act: Callable[..., nn.Module]  # "NL"
    stride: int


LARGE = (                                   # Table 1; feature-map side in pixels for a 224 x 224 image
    Row(3,  16,  16, False, RE, stride=1),  # 112 -> 112
    Row(3,  64,  24, False, RE, stride=2),  # 112 ->  56
    Row(3,  72,  24, False, RE, stride=1),  #  56 ->  56
    Row(5,  72,  40, True,  RE, stride=2),  #  56 ->  28
    Row(5, 120,  40, True,  RE, stride=1),  #  28 ->  28
    Row(5, 120,  40, True,  RE, stride=1),  #  28 ->  28
    Row(3, 240,  80, False, HS, stride=2),  #  28 ->  14
    Row(3, 200,  80, False, HS, stride=1),  #  14 ->  14
    Row(3, 184,  80, False, HS, stride=1),  #  14 ->  14
    Row(3, 184,  80, False, HS, stride=1),  #  14 ->  14
    Row(3, 480, 112, True,  HS, stride=1),  #  14 ->  14
    Row(3, 672, 112, True,  HS, stride=1),  #  14 ->  14
    Row(5, 672, 160, True,  HS, stride=2),  #  14 ->   7
    Row(5, 960, 160, True,  HS, stride=1),  #   7 ->   7
    Row(5, 960, 160, True,  HS, stride=1),  #   7 ->   7
)
SMALL = (                                   # Table 2
    Row(3,  16,  16, True,  RE, stride=2),  # 112 ->  56
    Row(3,  72,  24, False, RE, stride=2),  #  56 ->  28
    Row(3,  88,  24, False, RE, stride=1),  #  28 ->  28
    Row(5,  96,  40, True,  HS, stride=2),  #  28 ->  14
    Row(5, 240,  40, True,  HS, stride=1),  #  14 ->  14
    Row(5, 240,  40, True,  HS, stride=1),  #  14 ->  14
    Row(5, 120,  48, True,  HS, stride=1),  #  14 ->  14
    Row(5, 144,  48, True,  HS, stride=1),  #  14 ->  14
    Row(5, 288,  96, True,  HS, stride=2),  #  14 ->   7
    Row(5, 576,  96, True,  HS, stride=1),  #   7 ->   7
    Row(5, 576,  96, True,  HS, stride=1),  #   7 ->   7
)


class InvertedResidualSE(nn.Module):
    """Inverted residual with squeeze-and-excitation between filter and projection (Figure 4, sec. 5.3).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    The gate squeezes to a quarter of `hidden` and stands after the activation. `dilation` is the filter's.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel_size: int, stride: int, *,
                 se: bool, act: Callable[..., nn.Module], dilation: int = 1):
        super().__init__()
        self.expand = ConvBNAct(in_channels, hidden, 1, act=act) if hidden != in_channels else nn.Identity()
        self.depthwise = ConvBNAct(hidden, hidden, kernel_size, stride, dilation=dilation, groups=hidden, act=act)
        self.se = SqueezeExcitation(hidden, make_divisible(hidden / 4), nn.Hardsigmoid) if se else nn.Identity()
        self.project = ConvBNAct(hidden, out_channels, 1, act=None)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


class MobileNetV3(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `rows` is LARGE or SMALL, `features` the size of the layer after the pooling. `width` scales
    every layer's channels, but below 1 `features` stays.
    """

    def __init__(self, rows: tuple[Row, ...], features: int, num_classes: int = 1000, in_channels: int = 3, *,
                 width: float = 1.0, dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        before = 16  # channels at width 1.0
        channels = make_divisible(before * width)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2, act=HS)
        blocks = []
        for row in rows:
            out_channels = make_divisible(row.channels * width)
            hidden = make_divisible(channels * row.hidden / before)
            blocks.append(InvertedResidualSE(channels, hidden, out_channels, row.kernel, row.stride,
                                             se=row.se, act=row.act))
            before, channels = row.channels, out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNAct(channels, 6 * channels, 1, act=HS)
        features = make_divisible(features * max(1.0, width))
        self.classifier = nn.Sequential(nn.Linear(6 * channels, features), HS(inplace=True),
                                        nn.Dropout(dropout), nn.Linear(features, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.stem(x)))    # (N, 960 or 576, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # pooled first, so `features` costs one pixel only (5.1)


@register(ModelCard(
    family="MobileNetV3", paper="Searching for MobileNetV3", arxiv="1905.02244", year=2019, chapter="02",
    table="Table 3", reference="torchvision mobilenet_v3_large",
    published_params_m=5.4, published_macs_m=219, published_top1=75.2,
    counted_params=5_483_032, counted_macs=216_589_760,
    note="5.48 M parameters are printed as 5.4 M. TF-Slim lists the same network with 217 M MACs, not 219 M.",
    variants=(
        Variant(arguments={"width": 0.75}, published_params_m=4.0, published_macs_m=155, published_top1=73.3,
                counted_params=3_993_528, counted_macs=154_560_624),
    )), aliases=("mbv3_large",))
def mobilenet_v3_large(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV3:
    """MobileNetV3-Large, untrained; the paper trains `width` 1.0 and 0.75."""
    return MobileNetV3(LARGE, 1280, num_classes, in_channels, width=width)


@register(ModelCard(
    family="MobileNetV3", paper="Searching for MobileNetV3", arxiv="1905.02244", year=2019, chapter="02",
    table="Table 3", reference="torchvision mobilenet_v3_small",
    published_params_m=2.5, published_macs_m=56, published_top1=67.4,
    counted_params=2_542_856, counted_macs=56_510_400,
    note="56.51 M MACs are printed as 56 M. Earlier versions of the paper have a wider last layer: 2.9 M, 66 M.",
    variants=(
        Variant(arguments={"width": 0.75}, published_params_m=2.0, published_macs_m=44, published_top1=65.4,
                counted_params=2_041_872, counted_macs=43_399_344,
                note="44 M is left from earlier versions of the paper, whose last layer was wider: with 1280 features "
                     "there are 43.8 M MACs."),
    )), aliases=("mbv3_small",))
def mobilenet_v3_small(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV3:
    """MobileNetV3-Small, untrained; the paper trains `width` 1.0 and 0.75."""
    return MobileNetV3(SMALL, 1024, num_classes, in_channels, width=width)
