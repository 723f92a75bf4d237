"""MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.

Paper:   Howard et al., 2017, https://arxiv.org/abs/1704.04861
Lesson:  notebooks/02_mobilenets.ipynb
Idea:    split every convolution into a depthwise one, which filters, and a 1x1 one, which mixes.
Differs: Table 1 gives the last depthwise convolution stride 2 and the same 7x7 output; its stride is 1.
         No dropout, as in Table 1 (TF-Slim has 0.001).
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, SeparableConv, check_images, check_options, initialise
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """Consecutive rows of Table 1 with equal channels; only the first of the `repeats` blocks has `stride`."""
    channels: int  # output channels at width 1.0
    repeats: int
    stride: int


STAGES = (             # feature-map side in pixels for a 224 x 224 image
    Stage(64,   1, 1),  # 112 -> 112
    Stage(128,  2, 2),  # 112 ->  56
    Stage(256,  2, 2),  #  56 ->  28
    Stage(512,  6, 2),  #  28 ->  14
    Stage(1024, 2, 2),  #  14 ->   7
)


class MobileNetV1(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` is the paper's alpha: it multiplies the channels of every layer (sec. 3.3), rounded down.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        channels = scaled(32, width)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2)
        blocks = []
        for stage in STAGES:
            out_channels = scaled(stage.channels, width)
            for i in range(stage.repeats):
                blocks.append(SeparableConv(channels, out_channels, stride=stage.stride if i == 0 else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.stem(x))               # (N, 1024 * width, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1024 * width)


def scaled(channels: int, width: float) -> int:
    """Channels at a width multiplier; at least 8, TF-Slim's `min_depth`."""
    return max(int(channels * width), 8)


@register(ModelCard(
    family="MobileNetV1", arxiv="1704.04861", year=2017, chapter="02", table="Table 6",
    paper="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    reference="pytorchcv mobilenet_w1", published_params_m=4.2, published_macs_m=569, published_top1=70.6,
    counted_params=4_231_976, counted_macs=568_740_352,
    variants=(
        Variant(arguments={"width": 0.75}, published_params_m=2.6, published_macs_m=325, published_top1=68.4,
                counted_params=2_585_560, counted_macs=325_400_448),
        Variant(arguments={"width": 0.5}, published_params_m=1.3, published_macs_m=149, published_top1=63.7,
                counted_params=1_331_592, counted_macs=149_497_088),
        Variant(arguments={"width": 0.25}, published_params_m=0.5, published_macs_m=41, published_top1=50.6,
                counted_params=470_072, counted_macs=41_030_272),
    )), aliases=("mbv1",))
def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV1:
    """MobileNet, untrained; the paper trains `width` 1.0, 0.75, 0.5 and 0.25."""
    return MobileNetV1(num_classes, in_channels, width=width)
