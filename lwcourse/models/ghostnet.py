"""GhostNet: More Features from Cheap Operations.

Paper:   Han et al., CVPR 2020, https://arxiv.org/abs/1911.11907
Lesson:  notebooks/04_noahs_ark.ipynb
Idea:    many feature maps look like others; make half of them by a convolution, and the other
         half, their "ghosts", by cheap depthwise filters of the first.
Differs: where the paper is silent, the official PyTorch code decides: channels in multiples of 4, a
         hard sigmoid in squeeze-and-excitation, a shortcut by depthwise and 1x1 convolution wherever
         shapes differ, a bias but no BatchNorm in the 1x1 convolution after the pooling, dropout.
         That code starts from PyTorch's own initialisation; ours is He's, as in its first release.
"""
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import (
    ConvBNAct,
    GhostModule,
    SqueezeExcitation,
    check_images,
    check_options,
    initialise,
    make_divisible,
)
from lwcourse.registry import ModelCard, Variant, register


class Row(NamedTuple):
    """One G-bneck of Table 1."""
    kernel: int    # of the depthwise convolutions; the paper names it in the text only
    hidden: int    # "#exp", at width 1.0
    channels: int  # "#out", at width 1.0
    se: bool       # squeeze-and-excitation
    stride: int


ROWS = (                                # feature-map side in pixels for a 224 x 224 image
    Row(3,  16,  16, False, stride=1),  # 112 -> 112
    Row(3,  48,  24, False, stride=2),  # 112 ->  56
    Row(3,  72,  24, False, stride=1),  #  56 ->  56
    Row(5,  72,  40, True,  stride=2),  #  56 ->  28
    Row(5, 120,  40, True,  stride=1),  #  28 ->  28
    Row(3, 240,  80, False, stride=2),  #  28 ->  14
    Row(3, 200,  80, False, stride=1),  #  14 ->  14
    Row(3, 184,  80, False, stride=1),  #  14 ->  14
    Row(3, 184,  80, False, stride=1),  #  14 ->  14
    Row(3, 480, 112, True,  stride=1),  #  14 ->  14
    Row(3, 672, 112, True,  stride=1),  #  14 ->  14
    Row(5, 672, 160, True,  stride=2),  #  14 ->   7
    Row(5, 960, 160, False, stride=1),  #   7 ->   7
    Row(5, 960, 160, True,  stride=1),  #   7 ->   7
    Row(5, 960, 160, False, stride=1),  #   7 ->   7
    Row(5, 960, 160, True,  stride=1),  #   7 ->   7
)
FEATURES = 960  # of the 1x1 convolution before the pooling, at width 1.0
HEAD = 1280     # of the 1x1 convolution after it, at every width


class GhostBottleneck(nn.Module):
    """Ghost module to `hidden` channels, depthwise filter if `stride` is 2, linear ghost module back (Figure 3, 3.2).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, in multiply-adds: H*W/2 * (hidden*(in_channels + 9) + out_channels*(hidden + 9)),
    about half of an inverted residual's; a shortcut that changes the shape adds its own.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel_size: int, stride: int, *,
                 se: bool, ghost: Callable[..., nn.Module] = GhostModule):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        self.expand = ghost(in_channels, hidden)
        self.depthwise = (ConvBNAct(hidden, hidden, kernel_size, stride, groups=hidden, act=None)
                          if stride == 2 else nn.Identity())
        self.se = (SqueezeExcitation(hidden, make_divisible(hidden / 4, 4), nn.Hardsigmoid)
                   if se else nn.Identity())
        self.project = ghost(hidden, out_channels, act=None)
        if stride == 1 and in_channels == out_channels:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = nn.Sequential(
                ConvBNAct(in_channels, in_channels, kernel_size, stride, groups=in_channels, act=None),
                ConvBNAct(in_channels, out_channels, 1, act=None))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return y.add_(self.shortcut(x))  # y has no other reader


class GhostNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` scales every layer's channels but those of the last 1x1 convolution. `ghost` builds the
    module that stands for a 1x1 convolution: `ghost(in_channels, out_channels)`, with `act=None` when linear.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 dropout: float = 0.2, ghost: Callable[..., nn.Module] = GhostModule):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        channels = make_divisible(16 * width, 4)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2)
        blocks = []
        for row in ROWS:
            out_channels = make_divisible(row.channels * width, 4)
            blocks.append(GhostBottleneck(channels, make_divisible(row.hidden * width, 4), out_channels,
                                          row.kernel, row.stride, se=row.se, ghost=ghost))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        features = make_divisible(FEATURES * width, 4)
        self.head = ConvBNAct(channels, features, 1)
        self.classifier = nn.Sequential(nn.Linear(features, HEAD), nn.ReLU(inplace=True),
                                        nn.Dropout(dropout), nn.Linear(HEAD, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.stem(x)))    # (N, features, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # pooled first, so the 1280 channels cost one pixel only


@register(ModelCard(
    family="GhostNet", paper="GhostNet: More Features from Cheap Operations", arxiv="1911.11907", year=2019,
    chapter="04", table="Table 7", reference="timm ghostnet_100",
    published_params_m=5.2, published_macs_m=141, published_top1=73.9,
    counted_params=5_182_508, counted_macs=141_150_512,
    variants=(
        Variant(arguments={"width": 0.5}, published_params_m=2.6, published_macs_m=42, published_top1=66.2,
                counted_params=2_587_292, counted_macs=42_328_152),
        Variant(arguments={"width": 1.3}, published_params_m=7.3, published_macs_m=226, published_top1=75.7,
                counted_params=7_358_820, counted_macs=227_003_256,
                note="7.36 M parameters are printed as 7.3 M. 226 M cannot be reproduced: timm's port has 227 M too."),
    )))
def ghostnet(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> GhostNet:
    """GhostNet, untrained; the paper trains `width` 0.5, 1.0 and 1.3."""
    return GhostNet(num_classes, in_channels, width=width)
