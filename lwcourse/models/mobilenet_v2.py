"""MobileNetV2: Inverted Residuals and Linear Bottlenecks.

Paper:   Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381
Lesson:  notebooks/02_mobilenets.ipynb
Idea:    carry few channels between blocks, filter in a wider space where a
         depthwise 3x3 is cheap, and project back without an activation.
Differs: dropout before the classifier follows TF-Slim; the paper names none.
"""
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise, make_divisible
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """One row of Table 2; only the first of the `repeats` blocks has `stride`."""
    expand: int    # t, hidden channels = t * input channels
    channels: int  # c, output channels at width 1.0
    repeats: int   # n
    stride: int    # s


STAGES = (                # feature-map side in pixels for a 224 x 224 image
    Stage(1,  16, 1, 1),  # 112 -> 112
    Stage(6,  24, 2, 2),  # 112 ->  56
    Stage(6,  32, 3, 2),  #  56 ->  28
    Stage(6,  64, 4, 2),  #  28 ->  14
    Stage(6,  96, 3, 1),  #  14 ->  14
    Stage(6, 160, 3, 2),  #  14 ->   7
    Stage(6, 320, 1, 1),  #   7 ->   7
)


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 linear projection (Table 1, sec. 3.3).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, in multiply-adds: H*W * t*in_channels * (in_channels + 9 + out_channels);
    when t = 1 there is nothing to expand and the first term in the bracket goes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        hidden = expand * in_channels
        self.expand = ConvBNAct(in_channels, hidden, 1, act=nn.ReLU6) if expand > 1 else nn.Identity()
        self.depthwise = ConvBNAct(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6)
        self.project = ConvBNAct(hidden, out_channels, 1, act=None)  # ReLU would lose information here (3.2)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` scales every layer's channels, but below 1 the last 1x1 convolution
    keeps 1280 (sec. 4). `block` is the one part meant to be swapped.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 dropout: float = 0.2, block: Callable[..., nn.Module] = InvertedResidual):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        channels = make_divisible(32 * width)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2, act=nn.ReLU6)
        blocks = []
        for stage in STAGES:
            out_channels = make_divisible(stage.channels * width)
            for i in range(stage.repeats):
                blocks.append(block(channels, out_channels, stage.stride if i == 0 else 1, stage.expand))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        features = make_divisible(1280 * max(1.0, width))
        self.head = ConvBNAct(channels, features, 1, act=nn.ReLU6)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.stem(x)))    # (N, features, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, features)


NO_NORM = "The published number of parameters leaves out the weights of BatchNorm."


@register(ModelCard(
    family="MobileNetV2", paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks", arxiv="1801.04381",
    year=2018, chapter="02", table="Table 4; widths 0.35 to 0.75: TF-Slim's list of checkpoints",
    reference="torchvision mobilenet_v2", published_params_m=3.4, published_macs_m=300, published_top1=72.0,
    counted_params=3_504_872, counted_macs=300_774_272,
    note=NO_NORM + " The paper prints 3.47 M as 3.4 M, and 300.8 M MACs as 300 M.",
    variants=(
        Variant(arguments={"width": 1.4}, published_params_m=6.9, published_macs_m=585, published_top1=74.7,
                counted_params=6_108_776, counted_macs=582_195_824,
                note="TF-Slim lists this network with 6.06 M parameters, which is the count without BatchNorm, and "
                     "582 M MACs. The paper's 6.9 M and 585 M are explained by no way of counting that we know."),
        Variant(arguments={"width": 0.75}, published_params_m=2.61, published_macs_m=209, published_top1=69.8,
                counted_params=2_636_424, counted_macs=209_069_792,
                note=NO_NORM),
        Variant(arguments={"width": 0.5}, published_params_m=1.95, published_macs_m=97, published_top1=65.4,
                counted_params=1_968_680, counted_macs=97_131_840,
                note=NO_NORM),
        Variant(arguments={"width": 0.35}, published_params_m=1.66, published_macs_m=59, published_top1=60.3,
                counted_params=1_677_128, counted_macs=59_285_808,
                note=NO_NORM),
    )), aliases=("mbv2",))
def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> MobileNetV2:
    """MobileNetV2, untrained; `width` 1.0 is the paper's main network."""
    return MobileNetV2(num_classes, in_channels, width=width)
