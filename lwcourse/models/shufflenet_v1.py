"""ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices.

Paper:   Zhang et al., CVPR 2018, https://arxiv.org/abs/1707.01083
Lesson:  notebooks/03_shufflenets.ipynb
Idea:    divide the costly 1x1 convolutions into groups, and shuffle the channels between
         them, so that every group sees all the others; spend the savings on more channels.
Differs: as in the official code, the shuffle follows the depthwise convolution (a permutation apart, the
         same as before it, Figure 2) and deals the other way round than sec. 3.1, and the classifier has no bias.
         At widths above 1 the stem has a whole multiple of 24 channels, as in that code. Channels that
         `groups` do not divide are rounded to the nearest that they do.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import (
    ChannelShuffle,
    ConvBNAct,
    check_images,
    check_options,
    initialise_fan_in,
    make_divisible,
)
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """Stage 2, 3 or 4 of Table 1; the first of the `repeats` units has stride 2."""
    multiple: int  # of the channels of stage 2
    repeats: int   # both strides together


STAGES = (        # feature-map side in pixels for a 224 x 224 image
    Stage(1, 4),  # 56 -> 28
    Stage(2, 8),  # 28 -> 14
    Stage(4, 4),  # 14 ->  7
)
CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # Table 1: groups -> output channels of stage 2


class ShuffleUnit(nn.Module):
    """1x1 in groups to a quarter of the channels, 3x3 depthwise, shuffle, 1x1 in groups (Figure 2 b, c).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, c channels and m = c/4, in multiply-adds: H*W * (2*c*m / groups + 9*m).
    At stride 2 the pooled input is concatenated rather than added, so that the branch makes only
    out_channels - in_channels. `first_groups` is 1 in the first unit, whose input has few channels (sec. 3.3).
    Raises ValueError for channels that the groups do not divide.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, *,
                 first_groups: int | None = None):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        if stride == 1 and in_channels != out_channels:
            raise ValueError(f"a unit with stride 1 keeps its {in_channels} channels, got out_channels={out_channels}")
        first_groups = groups if first_groups is None else first_groups
        hidden, made = out_channels // 4, out_channels - (in_channels if stride == 2 else 0)
        if out_channels % (4 * groups) or in_channels % first_groups or made % groups or made <= 0:
            raise ValueError(f"{groups} groups must divide the input channels, a quarter of the output channels and "
                             f"what the branch makes of them; got {in_channels}, {out_channels} / 4 and {made}")
        self.reduce = ConvBNAct(in_channels, hidden, 1, groups=first_groups)
        self.depthwise = ConvBNAct(hidden, hidden, 3, stride, groups=hidden, act=None)
        # Channel c of the reduced ones goes to group c % groups: ChannelShuffle(groups) backwards.
        self.shuffle = ChannelShuffle(hidden // groups) if groups > 1 else nn.Identity()
        self.expand = ConvBNAct(hidden, made, 1, groups=groups, act=None)
        self.act = nn.ReLU(inplace=True)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.shuffle(self.depthwise(self.reduce(x))))
        if self.stride == 2:
            return torch.cat((self.shortcut(x), self.act(y)), dim=1)
        return self.act(x + y)


class ShuffleNetV1(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `groups` is 1, 2, 3, 4 or 8; more groups buy more channels for the same cost (Table 1). `width` scales
    every layer's channels (sec. 3.3), the stem's only in whole steps above 1.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, groups: int = 3):
        super().__init__()
        check_options(num_classes, in_channels, width)
        if isinstance(groups, bool | float) or groups not in list(CHANNELS):  # a list, which takes what has no hash
            raise ValueError(f"groups must be one of {', '.join(map(str, CHANNELS))}, got {groups!r}")
        self.in_channels = in_channels
        channels = make_divisible(24 * (width if width < 1 else int(width)), groups)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stage2 = make_divisible(CHANNELS[groups] * width, 4 * groups)
        units = []
        for stage in STAGES:
            for i in range(stage.repeats):
                units.append(ShuffleUnit(channels, stage.multiple * stage2, 2 if i == 0 else 1, groups,
                                         first_groups=groups if units else 1))
                channels = stage.multiple * stage2
        self.blocks = nn.Sequential(*units)
        self.classifier = nn.Linear(channels, num_classes, bias=False)
        initialise_fan_in(self, self.stem)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.pool(self.stem(x)))    # (N, channels of stage 4, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, channels)


PAPER = "Tables 1 and 2 of the paper, whose multiply-adds leave the classifier out."


@register(ModelCard(
    family="ShuffleNetV1", paper="ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    arxiv="1707.01083", year=2017, chapter="03",
    table="README of the official code, github.com/megvii-model/ShuffleNet-Series",
    reference="pytorchcv shufflenet_g3_w1", published_params_m=1.9, published_macs_m=138, published_top1=67.8,
    counted_params=1_864_728, counted_macs=137_460_672,
    note="137.46 M MACs are listed as 138 M; the paper leaves the classifier out, prints 137 M, and has 67.4 %. "
         "pytorchcv shuffles before the depthwise convolution, in the other "
         "direction, concatenates in the other order and adds a bias to the classifier; it is aligned for the test.",
    variants=(
        Variant(arguments={"width": 2.0}, published_params_m=5.4, published_macs_m=524, published_top1=74.1,
                counted_params=5_449_776, counted_macs=524_045_184),
        Variant(arguments={"width": 1.5}, published_params_m=3.4, published_macs_m=292, published_top1=71.6,
                counted_params=3_441_168, counted_macs=292_443_552),
        Variant(arguments={"width": 0.5}, published_params_m=0.7, published_macs_m=38, published_top1=57.3,
                counted_params=717_324, counted_macs=37_589_856),
        Variant(arguments={"width": 0.25}, published_top1=45.0, counted_params=304_902, counted_macs=11_009_808,
                note="Top-1: Table 2 of the paper, for networks of about 13 M multiply-adds; this one has fewer."),
        Variant(arguments={"groups": 8}, published_params_m=2.4, published_macs_m=138, published_top1=68.0,
                counted_params=2_433_768, counted_macs=138_365_952),
        Variant(arguments={"groups": 8, "width": 2.0}, published_params_m=6.5, published_macs_m=522,
                published_top1=72.9, counted_params=6_521_232, counted_macs=521_942_016),
        Variant(arguments={"groups": 8, "width": 1.5}, published_params_m=4.3, published_macs_m=290,
                published_top1=71.0, counted_params=4_268_952, counted_macs=290_188_800),
        Variant(arguments={"groups": 8, "width": 0.5}, published_params_m=1.0, published_macs_m=40,
                published_top1=58.8, counted_params=1_010_448, counted_macs=40_469_760),
        Variant(arguments={"groups": 1}, published_macs_m=143, published_top1=66.4, counted_params=1_530_936,
                counted_macs=143_078_976, note=PAPER),
        Variant(arguments={"groups": 2}, published_macs_m=140, published_top1=67.3, counted_params=1_732_848,
                counted_macs=140_836_512, note=PAPER),
        Variant(arguments={"groups": 4}, published_macs_m=133, published_top1=67.2, counted_params=1_967_344,
                counted_macs=134_339_776, note=PAPER),
    )), aliases={"shufflenetv1": {"width": 2.0, "groups": 3}})
def shufflenet_v1(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                  groups: int = 3) -> ShuffleNetV1:
    """ShuffleNet V1, untrained; the paper's networks have 1, 2, 3, 4 or 8 `groups`."""
    return ShuffleNetV1(num_classes, in_channels, width=width, groups=groups)
