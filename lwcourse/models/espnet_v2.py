"""ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network.

Paper:   Mehta et al., CVPR 2019, https://arxiv.org/abs/1811.11431
Lesson:  notebooks/07_espnet.ipynb
Idea:    make ESPNet's pyramid of dilated convolutions depthwise and its 1x1 convolutions grouped, look less far
         where maps are small, and show the image again to each smaller level.
Differs: dilations, the dropout and the initialisation follow the official code, which also leaves the image
         out of the last level. Parameters that never run there are not made here: the activation of each strided
         pyramid, and the last level's way to the image.
"""
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import BNPReLU, ConvBNPReLU, DilatedPyramid, check_images, check_options, initialise
from lwcourse.registry import ModelCard, Variant, register

BRANCHES = 4  # K, of each pyramid; also the groups of its 1x1 convolutions


class Row(NamedTuple):
    """One row of Table 1; a row of stride 2 is a strided unit, others are `repeats` EESP units."""
    channels: int               # at width 1.0
    repeats: int
    stride: int
    dilations: tuple[int, ...]  # of the four branches
    image: bool = False         # a strided unit that sees the image


STAGES = (                                                      # feature-map side in pixels for a 224 x 224 image
    Row( 64, 1, stride=2, dilations=(1, 2, 3, 4), image=True),  # 112 -> 56
    Row(128, 1, stride=2, dilations=(1, 2, 3, 4), image=True),  #  56 -> 28
    Row(128, 3, stride=1, dilations=(1, 2, 3, 4)),              #  28 -> 28
    Row(256, 1, stride=2, dilations=(1, 2, 3, 4), image=True),  #  28 -> 14
    Row(256, 7, stride=1, dilations=(1, 1, 2, 3)),              #  14 -> 14
    Row(512, 1, stride=2, dilations=(1, 1, 2, 3)),              #  14 ->  7
    Row(512, 3, stride=1, dilations=(1, 1, 1, 2)),              #   7 ->  7
)
WIDTHS = (0.5, 1.0, 1.25, 1.5, 2.0)


class EESP(nn.Module):
    """Extremely efficient spatial pyramid of depthwise dilated separable convolutions (sec. 3.2, Figure 1b).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, with K = 4 branches: H*W * out_channels * (in_channels / K**2 + 9 + out_channels / K).

    Branch k holds the sum of its map and those of all branches of smaller dilation. At stride 2 there is no
    activation: StridedEESP concatenates first.
    Raises ValueError unless in_channels is a multiple of 4 and out_channels one of 16, as the groups need.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...], stride: int = 1):
        super().__init__()
        if in_channels % BRANCHES or out_channels % BRANCHES**2:
            raise ValueError(f"in_channels must be a multiple of {BRANCHES} and out_channels of {BRANCHES**2}, "
                             f"got {in_channels} and {out_channels}")
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        narrow = out_channels // BRANCHES
        self.reduce = ConvBNPReLU(in_channels, narrow, 1, groups=BRANCHES)
        self.pyramid = DilatedPyramid(narrow, [narrow] * BRANCHES, dilations, stride=stride, groups=narrow)
        self.norm = BNPReLU(out_channels)
        self.merge = conv_bn(out_channels, out_channels, groups=BRANCHES)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.act = nn.PReLU(out_channels) if stride == 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.merge(self.norm(self.pyramid(self.reduce(x))))
        if self.has_shortcut:
            y += x
        return self.act(y)


class StridedEESP(nn.Module):
    """Halve the map: its average and a strided EESP side by side, and a shortcut from the image (sec. 3.2, Figure 2).

    Shape: (N, in_channels, H, W), image (N, image_channels, H_out, W_out) -> (N, out_channels, H_out, W_out),
    H_out = ceil(H/2). The image must be that small already; with `image_channels` None it is not looked at.
    """

    def __init__(self, in_channels: int, out_channels: int, dilations: tuple[int, ...], image_channels: int | None):
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.eesp = EESP(in_channels, out_channels - in_channels, dilations, stride=2)
        self.image = None if image_channels is None else nn.Sequential(
            ConvBNPReLU(image_channels, image_channels, 3), conv_bn(image_channels, out_channels))
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        y = torch.cat([self.pool(x), self.eesp(x)], dim=1)
        if self.image is not None:
            y += self.image(image)
        return self.act(y)


class ESPNetV2Levels(nn.Module):
    """Stem and blocks: `levels` gives the last maps of each side, 1/2, 1/4, ... of the image, from large to small.

    `rows` is STAGES or its beginning; `channels` holds those of each level. Raises ValueError for a width that is
    not in WIDTHS: groups of four do not fit any other, or the paper does not have it.
    """

    def __init__(self, rows: tuple[Row, ...], in_channels: int, width: float):
        super().__init__()
        if width not in WIDTHS:
            raise ValueError(f"width must be one of {', '.join(map(str, WIDTHS))}, which the paper has, got {width!r}")
        self.in_channels = in_channels
        base = ceil(int(32 * width) / BRANCHES) * BRANCHES
        channels = min(32, base)
        self.channels = [channels]
        self.stem = ConvBNPReLU(in_channels, channels, 3, stride=2)
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)
        blocks = []
        for row in rows:
            out_channels = row.channels // 32 * base
            if row.stride == 2:
                blocks.append(StridedEESP(channels, out_channels, row.dilations, in_channels if row.image else None))
                self.channels.append(out_channels)
            else:
                blocks += [EESP(out_channels, out_channels, row.dilations) for _ in range(row.repeats)]
            channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def levels(self, x: Tensor) -> list[Tensor]:
        maps, image = [self.stem(x)], self.halve(x)
        for block in self.blocks:
            if isinstance(block, StridedEESP):
                image = self.halve(image)
                maps.append(block(maps[-1], image))
            else:
                maps[-1] = block(maps[-1])
        return maps


class ESPNetV2(ESPNetV2Levels):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    The last layers have 1024 channels whatever the width, at 2.0 1280.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.2):
        check_options(num_classes, in_channels, width)
        super().__init__(STAGES, in_channels, width)
        channels, features = self.channels[-1], 1024 if width <= 1.5 else 1280
        self.head = nn.Sequential(ConvBNPReLU(channels, channels, 3, groups=channels),
                                  ConvBNPReLU(channels, features, 1, groups=BRANCHES))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        initialise(self)
        nn.init.normal_(self.classifier[1].weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        return self.classifier(self.head(self.levels(x)[-1]).mean(dim=(2, 3)))


def conv_bn(in_channels: int, out_channels: int, groups: int = 1) -> nn.Sequential:
    """1x1 convolution -> BatchNorm, linear."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False),
                         nn.BatchNorm2d(out_channels))


WITHOUT_LINEAR = "The authors leave the last linear layer out of their MACs."


@register(ModelCard(
    family="ESPNetv2", paper="ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural "
    "Network", arxiv="1811.11431", year=2018, chapter="07", table="imagenet/README.md of the official repository",
    reference="pytorchcv espnetv2_w1", published_params_m=1.67, published_macs_m=85.72, published_top1=66.1,
    counted_params=1_666_942, counted_macs=86_744_404, widths=WIDTHS, note=WITHOUT_LINEAR,
    variants=(
        Variant(arguments={"width": 0.5}, published_params_m=1.24, published_macs_m=28.37, published_top1=57.7,
                counted_params=1_239_722, counted_macs=29_399_508, note=WITHOUT_LINEAR),
        Variant(arguments={"width": 1.25}, published_params_m=1.96, published_macs_m=123.39, published_top1=67.9,
                counted_params=1_961_542, counted_macs=124_423_444, note=WITHOUT_LINEAR),
        Variant(arguments={"width": 1.5}, published_params_m=2.31, published_macs_m=168.6, published_top1=69.2,
                counted_params=2_310_190, counted_macs=169_628_884, note=WITHOUT_LINEAR),
        Variant(arguments={"width": 2.0}, published_params_m=3.49, published_macs_m=284.8, published_top1=72.1,
                counted_params=3_491_934, counted_macs=286_086_228, note=WITHOUT_LINEAR),
    )), aliases=("espnetv2",))
def espnet_v2(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ESPNetV2:
    """ESPNetv2 for classification, untrained; `width` is 0.5, 1.0, 1.25, 1.5 or 2.0."""
    return ESPNetV2(num_classes, in_channels, width=width)
