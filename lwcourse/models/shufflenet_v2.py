"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design.

Paper:   Ma et al., ECCV 2018, https://arxiv.org/abs/1807.11164
Lesson:  notebooks/03_shufflenets.ipynb
Idea:    count time rather than MACs: equal channels in and out, no groups, no additions; so split the
         channels, leave one half alone, and shuffle so that it gets its turn in the next unit.
Differs: nothing in the default. `released=True` is the official code, where the shortcut of the first unit keeps the
         stem's 24 channels (that gives the published MACs), a unit shuffles when it splits rather than at its
         end (so none after stage 4), and the classifier has no bias.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import (
    ChannelShuffle,
    ConvBNAct,
    ReleasedShuffleUnit,
    check_flag,
    check_images,
    check_options,
    initialise_fan_in,
)
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """Stage 2, 3 or 4 of Table 5; the first of the `repeats` units has stride 2."""
    channels: tuple[int, int, int, int]  # output channels at each of WIDTHS
    repeats: int                         # both strides together


STAGES = (                           # feature-map side in pixels for a 224 x 224 image
    Stage((48, 116, 176, 244), 4),   # 56 -> 28
    Stage((96, 232, 352, 488), 8),   # 28 -> 14
    Stage((192, 464, 704, 976), 4),  # 14 ->  7
)
FEATURES = {0.5: 1024, 1.0: 1024, 1.5: 1024, 2.0: 2048}  # "Conv5": width -> channels
WIDTHS = tuple(FEATURES)


class ShuffleUnit(nn.Module):
    """Split, filter one half, concatenate, shuffle (Figure 3 c, d).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, c = in_channels / 2: H*W * c * (2*c + 9) multiply-adds. At stride 2 nothing is split:
    both branches see the whole input, and each makes half of the output.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        if out_channels % 2 or (stride == 1 and in_channels != out_channels):
            raise ValueError("a unit makes an even number of channels, and at stride 1 as many as it gets; got "
                             f"{in_channels} in and {out_channels} out")
        half = out_channels // 2
        taken = in_channels if stride == 2 else half
        self.stride = stride
        self.shortcut = nn.Sequential(
            ConvBNAct(taken, taken, 3, stride, groups=taken, act=None),
            ConvBNAct(taken, half, 1)) if stride == 2 else nn.Identity()
        self.branch = nn.Sequential(
            ConvBNAct(taken, half, 1),
            ConvBNAct(half, half, 3, stride, groups=half, act=None),
            ConvBNAct(half, half, 1))
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        return self.shuffle(torch.cat((self.shortcut(kept), self.branch(taken)), dim=1))


class ShuffleNetV2(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` is 0.5, 1.0, 1.5 or 2.0: the paper tabulates the channels of each. `block` is the one part meant to
    be swapped.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 block: Callable[..., nn.Module] = ShuffleUnit, bias: bool = True):
        super().__init__()
        check_options(num_classes, in_channels, width)
        if width not in WIDTHS:
            raise ValueError(f"width must be one of {', '.join(map(str, WIDTHS))}, for which the paper gives the "
                             f"channels, got {width!r}")
        column = WIDTHS.index(width)
        self.in_channels = in_channels
        channels = 24
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        units = []
        for stage in STAGES:
            for i in range(stage.repeats):
                units.append(block(channels, stage.channels[column], 2 if i == 0 else 1))
                channels = stage.channels[column]
        self.blocks = nn.Sequential(*units)
        self.head = ConvBNAct(channels, FEATURES[width], 1)
        self.classifier = nn.Linear(FEATURES[width], num_classes, bias=bias)
        initialise_fan_in(self, self.stem)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.pool(self.stem(x))))  # (N, features, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))           # mean over pixels: (N, features)


@register(ModelCard(
    family="ShuffleNetV2", paper="ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    arxiv="1807.11164", year=2018, chapter="03",
    table="README of the official code, github.com/megvii-model/ShuffleNet-Series",
    reference="torchvision shufflenet_v2_x1_0", published_params_m=2.3, published_macs_m=146, published_top1=69.4,
    counted_params=2_278_604, counted_macs=144_907_992, widths=WIDTHS,
    note="146 M is the released network, whose first unit splits into 24 and 92 channels rather than in halves.",
    variants=(
        Variant(arguments={"width": 0.5}, published_params_m=1.4, published_macs_m=41, published_top1=61.1,
                counted_params=1_366_792, counted_macs=40_476_448,
                note="40.48 M MACs are listed as 41 M; the released network has as many, since 24 is a half here."),
        Variant(arguments={"width": 1.5}, published_params_m=3.5, published_macs_m=299, published_top1=72.6,
                counted_params=3_503_624, counted_macs=295_759_392,
                note="299 M is the released network, whose first unit splits into 24 and 152 channels."),
        Variant(arguments={"width": 2.0}, published_params_m=7.4, published_macs_m=591, published_top1=75.0,
                counted_params=7_393_996, counted_macs=583_253_464,
                note="591 M is the released network, whose first unit splits into 24 and 220 channels."),
        Variant(arguments={"released": True}, published_params_m=2.3, published_macs_m=146, published_top1=69.4,
                counted_params=2_278_760, counted_macs=145_814_296),
        Variant(arguments={"width": 0.5, "released": True}, published_params_m=1.4, published_macs_m=41,
                published_top1=61.1, counted_params=1_365_792, counted_macs=40_476_448,
                note="40.48 M MACs are listed as 41 M."),
        Variant(arguments={"width": 1.5, "released": True}, published_params_m=3.5, published_macs_m=299,
                published_top1=72.6, counted_params=3_506_720, counted_macs=298_970_656),
        Variant(arguments={"width": 2.0, "released": True}, published_params_m=7.4, published_macs_m=591,
                published_top1=75.0, counted_params=7_402_600, counted_macs=590_783_000),
    )), aliases={"shufflenetv2": {"width": 1.5}})
def shufflenet_v2(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                  released: bool = False) -> ShuffleNetV2:
    """ShuffleNet V2, untrained; `released` builds the network of the official code rather than the paper's."""
    check_flag("released", released)
    if released:
        return ShuffleNetV2(num_classes, in_channels, width=width, block=ReleasedShuffleUnit, bias=False)
    return ShuffleNetV2(num_classes, in_channels, width=width)
