"""MobileNeXt: Rethinking Bottleneck Structure for Efficient Mobile Network Design.

Paper:   Zhou et al., ECCV 2020, https://arxiv.org/abs/2007.02269
Lesson:  notebooks/02_mobilenets.ipynb
Idea:    turn the inverted residual round: shortcut and depthwise filters live in the wide
         space, and the bottleneck is in the middle (the "sandglass").
Differs: where a block changes width, the official code drops the first depthwise convolution
         (stride 2) or both (stride 1), but keeps both in stages of a single block of stride 1;
         so do we. Table 2 of the paper does not tell.
"""
from math import ceil
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise, make_divisible
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """One row of Table 2; only the first of the `repeats` blocks has `stride`."""
    reduce: int    # t, bottleneck channels = input channels / t
    channels: int  # c, output channels at width 1.0
    repeats: int   # b
    stride: int    # s


STAGES = (                 # feature-map side in pixels for a 224 x 224 image
    Stage(2,   96, 1, 2),  # 112 ->  56
    Stage(6,  144, 1, 1),  #  56 ->  56
    Stage(6,  192, 3, 2),  #  56 ->  28
    Stage(6,  288, 3, 2),  #  28 ->  14
    Stage(6,  384, 4, 1),  #  14 ->  14
    Stage(6,  576, 4, 2),  #  14 ->   7
    Stage(6,  960, 3, 1),  #   7 ->   7
    Stage(6, 1280, 1, 1),  #   7 ->   7
)


class Sandglass(nn.Module):
    """3x3 depthwise, 1x1 linear reduction, 1x1 expansion, 3x3 linear depthwise (Table 1, sec. 3.2).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    `first_depthwise` and `last_depthwise` keep the 3x3 convolutions at the two wide ends.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, reduce: int, *,
                 first_depthwise: bool = True, last_depthwise: bool = True, shortcut: bool = True):
        super().__init__()
        if stride != 1 and not last_depthwise:
            raise ValueError(f"a block of stride {stride} needs its last depthwise convolution to stride with")
        narrow = bottleneck(in_channels, out_channels, reduce)
        self.filter = (ConvBNAct(in_channels, in_channels, 3, groups=in_channels, act=nn.ReLU6)
                       if first_depthwise else nn.Identity())
        self.reduce = ConvBNAct(in_channels, narrow, 1, act=None)  # linear, as in MobileNetV2
        self.expand = ConvBNAct(narrow, out_channels, 1, act=nn.ReLU6)
        self.refilter = (ConvBNAct(out_channels, out_channels, 3, stride, groups=out_channels, act=None)
                         if last_depthwise else nn.Identity())
        self.has_shortcut = shortcut and stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.refilter(self.expand(self.reduce(self.filter(x))))
        return x + y if self.has_shortcut else y


def bottleneck(in_channels: int, out_channels: int, reduce: int) -> int:
    """Channels at the waist: in_channels / reduce, but at least about out_channels / 6, in sixteens."""
    narrow = in_channels // reduce
    return narrow if narrow >= out_channels / 6 else make_divisible(ceil(out_channels / 6), 16)


class MobileNeXt(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` scales every layer's channels, but below 1 the last stage keeps 1280.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        channels = make_divisible(32 * width)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2, act=nn.ReLU6)
        blocks = []
        for stage in STAGES:
            is_last = stage is STAGES[-1]
            out_channels = make_divisible(stage.channels * (max(1.0, width) if is_last else width))
            single = stage.repeats == 1
            blocks.append(Sandglass(channels, out_channels, stage.stride, stage.reduce, shortcut=False,
                                    first_depthwise=single, last_depthwise=single or stage.stride == 2))
            blocks += [Sandglass(out_channels, out_channels, 1, stage.reduce) for _ in range(stage.repeats - 1)]
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.stem(x))               # (N, 1280, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1280)


AS_OFFICIAL = "The paper rounds freely: the authors' code has exactly the counted figures."


@register(ModelCard(
    family="MobileNeXt", arxiv="2007.02269", year=2020, chapter="02",
    paper="Rethinking Bottleneck Structure for Efficient Mobile Network Design",
    table="Table 3 and the authors' README", reference="official code, stored outputs",
    published_params_m=3.4, published_macs_m=300, published_top1=74.0,
    counted_params=3_535_416, counted_macs=311_342_592,
    note="The authors' README gives 3.5 M parameters; their code counts as ours does, 311.3 M MACs included.",
    variants=(
        Variant(arguments={"width": 1.4}, published_params_m=6.1, published_macs_m=590, published_top1=76.1,
                counted_params=6_126_168, counted_macs=588_319_256, note=AS_OFFICIAL),
        Variant(arguments={"width": 0.75}, published_params_m=2.5, published_macs_m=210, published_top1=72.0,
                counted_params=2_766_168, counted_macs=207_926_720, note=AS_OFFICIAL),
        Variant(arguments={"width": 0.5}, published_params_m=2.1, published_macs_m=110, published_top1=67.7,
                counted_params=2_152_304, counted_macs=103_256_448, note=AS_OFFICIAL),
        Variant(arguments={"width": 0.35}, published_params_m=1.8, published_macs_m=80, published_top1=64.7,
                counted_params=1_913_976, counted_macs=75_141_032, note=AS_OFFICIAL),
    )))
def mobilenext(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNeXt:
    """MobileNeXt, untrained; the paper trains `width` 1.4, 1.0, 0.75, 0.5 and 0.35."""
    return MobileNeXt(num_classes, in_channels, width=width)
