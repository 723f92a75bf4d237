"""PeleeNet, of Pelee: A Real-Time Object Detection System on Mobile Devices.

Paper:   Wang et al., NeurIPS 2018, https://arxiv.org/abs/1804.06882
Lesson:  notebooks/09_cpu_networks.ipynb
Idea:    make DenseNet light without depthwise convolutions: two ways of small plain convolutions
         in each dense layer, narrow bottlenecks early, transitions that do not compress.
Differs: dropout and initialisation follow the official PyTorch code. The stem's max pooling rounds up,
         so that its two ways meet at any image size; there is no difference at multiples of 4.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """One stage of the paper's architecture table."""
    repeats: int     # dense layers
    bottleneck: int  # channels of a way's 1x1 convolution, in units of half the growth
    pool: bool       # 2x2 average pooling after the transition


STAGES = (                    # feature-map side in pixels for a 224 x 224 image
    Stage(3, 1, pool=True),   # 56 -> 28
    Stage(4, 2, pool=True),   # 28 -> 14
    Stage(8, 4, pool=True),   # 14 ->  7
    Stage(6, 4, pool=False),  #  7 ->  7
)
STEM = 32    # channels of the stem
GROWTH = 32  # k, channels that a dense layer adds


class Stem(nn.Module):
    """3x3 convolution, then a strided convolution beside max pooling, mixed by a 1x1 convolution (sec. 2).

    Shape: (N, in_channels, H, W) -> (N, channels, ceil(H/4), ceil(W/4)).
    Cost: H*W/16 * channels * (36*in_channels + 8.5*channels) multiply-adds.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.first = ConvBNAct(in_channels, channels, 3, stride=2)
        self.way = nn.Sequential(ConvBNAct(channels, channels // 2, 1),
                                 ConvBNAct(channels // 2, channels, 3, stride=2))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.mix = ConvBNAct(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.mix(torch.cat([self.pool(x), self.way(x)], dim=1))


class TwoWayDenseLayer(nn.Module):
    """Adds k/2 channels that see 3x3 pixels and k/2 that see 5x5, by two 3x3 convolutions (sec. 2).

    Shape: (N, in_channels, H, W) -> (N, in_channels + growth, H, W).
    Cost, in multiply-adds, with b = bottleneck * k/2: H*W * (2*b*in_channels + 9*b*k + 9*(k/2)**2).
    """

    def __init__(self, in_channels: int, growth: int, bottleneck: int):
        super().__init__()
        half = growth // 2
        self.near = nn.Sequential(ConvBNAct(in_channels, bottleneck * half, 1),
                                  ConvBNAct(bottleneck * half, half, 3))
        self.far = nn.Sequential(ConvBNAct(in_channels, bottleneck * half, 1),
                                 ConvBNAct(bottleneck * half, half, 3),
                                 ConvBNAct(half, half, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.near(x), self.far(x)], dim=1)


class PeleeNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.05):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = Stem(in_channels, STEM)
        channels, blocks = STEM, []
        for stage in STAGES:
            parts = []
            for _ in range(stage.repeats):
                parts.append(TwoWayDenseLayer(channels, GROWTH, stage.bottleneck))
                channels += GROWTH
            parts.append(ConvBNAct(channels, channels, 1))  # transition: keeps its channels, unlike DenseNet's
            if stage.pool:
                parts.append(nn.AvgPool2d(2))
            blocks.append(nn.Sequential(*parts))
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32, one_pixel=63)
        x = self.blocks(self.stem(x))               # (N, 704, H/32, W/32), rounded
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 704)


@register(ModelCard(
    family="PeleeNet", paper="Pelee: A Real-Time Object Detection System on Mobile Devices", arxiv="1804.06882",
    year=2018, chapter="09",
    table="README of the official code; top-1 also in sec. 1 of the paper",
    reference="pytorchcv peleenet",
    published_params_m=2.8, published_macs_m=508, published_top1=72.6,
    counted_params=2_802_248, counted_macs=507_757_568))
def peleenet(num_classes: int = 1000, in_channels: int = 3) -> PeleeNet:
    """PeleeNet, untrained."""
    return PeleeNet(num_classes, in_channels)
