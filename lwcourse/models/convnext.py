"""A ConvNet for the 2020s (ConvNeXt).

Paper:   Liu et al., CVPR 2022, https://arxiv.org/abs/2201.03545
Lesson:  notebooks/08_mobilevit.ipynb
Idea:    give a ResNet, step by step, what vision transformers do differently, except attention: patches, wide
         depthwise kernels, an inverted bottleneck, one norm and one activation a block.
Differs: nothing.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import LayerNorm2d, StochasticDepth, check_images, check_options, check_rate
from lwcourse.registry import ModelCard, register

EPS = 1e-6  # of every LayerNorm
TINY, SMALL, BASE = range(3)  # columns of the table


class Stage(NamedTuple):
    """One stage (sec. 3); each tuple holds the values of ConvNeXt-T, -S and -B."""
    channels: tuple[int, int, int]  # C
    depth: tuple[int, int, int]     # B, number of blocks


STAGES = (                                                 # feature-map side in pixels for a 224 x 224 image
    Stage(channels=(96,   96,  128), depth=(3,  3,  3)),   # 56 -> 56
    Stage(channels=(192, 192,  256), depth=(3,  3,  3)),   # 56 -> 28
    Stage(channels=(384, 384,  512), depth=(9, 27, 27)),   # 28 -> 14
    Stage(channels=(768, 768, 1024), depth=(3,  3,  3)),   # 14 ->  7
)
DROP_RATE = (0.1, 0.4, 0.5)  # stochastic depth of the last block (Table 5)


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, norm, 1x1 to four times the channels, GELU, 1x1 back, layer scale (Figure 4, right).

    Shape: (N, channels, H, W) -> the same.
    Cost: H*W * channels * (49 + 8 * channels) multiply-adds.
    """

    def __init__(self, channels: int, drop_rate: float = 0.0, initial_scale: float = 1e-6):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        # A 1x1 convolution is a linear layer on the channels, which come last here: (N, H, W, channels).
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.expand = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.project = nn.Linear(4 * channels, channels)
        self.drop = StochasticDepth(drop_rate)
        # Almost 0 at first: a deep network starts out as its shortcuts (Touvron et al. 2021, arXiv 2103.17239).
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), initial_scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.project(self.act(self.expand(self.norm(y))))
        return torch.addcmul(x, self.drop(y.permute(0, 3, 1, 2)), self.layer_scale)  # x + y * scale, in one pass


class ConvNeXt(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `column` is TINY, SMALL or BASE; `drop_rate` is that of the last block, and grows evenly from 0 at the first.
    Pixels that the stride-4 patches and the stride-2 steps leave over on the right and below are cut off.
    """

    def __init__(self, column: int, num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float):
        super().__init__()
        check_options(num_classes, in_channels)
        check_rate("drop_rate", drop_rate)
        self.in_channels = in_channels
        channels = STAGES[0].channels[column]
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 4, stride=4), LayerNorm2d(channels, eps=EPS))
        last = sum(stage.depth[column] for stage in STAGES) - 1
        rates = (drop_rate * i / last for i in range(last + 1))
        self.blocks = nn.Sequential()  # a module a stage
        for stage in STAGES:
            before, channels = channels, stage.channels[column]
            layers = [ConvNeXtBlock(channels, next(rates)) for _ in range(stage.depth[column])]
            if before != channels:
                layers[:0] = [LayerNorm2d(before, eps=EPS), nn.Conv2d(before, channels, 2, stride=2)]
            self.blocks.append(nn.Sequential(*layers))
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.classifier = nn.Linear(channels, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Weights ~ N(0, 0.02^2), biases 0, as the official code.

        It cuts the distribution off at -2 and 2, a hundred standard deviations out: nothing to cut.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.stem(x))                          # (N, channels, H/32, W/32), rounded down
        return self.classifier(self.norm(x.mean(dim=(2, 3))))  # mean over pixels: (N, channels)


PAPER = {"family": "ConvNeXt", "paper": "A ConvNet for the 2020s", "arxiv": "2201.03545", "year": 2022,
         "chapter": "08", "table": "model zoo of the official code"}


@register(ModelCard(
    **PAPER, reference="torchvision convnext_tiny",
    published_params_m=28, published_macs_m=4500, published_top1=82.1,
    counted_params=28_589_128, counted_macs=4_455_531_264,
    note="28.6 M parameters are printed as 28 M, and 4456 M multiply-adds as 4.5 G."))
def convnext_tiny(num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = DROP_RATE[TINY]) -> ConvNeXt:
    """ConvNeXt-T, untrained; `drop_rate` is the stochastic depth of the last block."""
    return ConvNeXt(TINY, num_classes, in_channels, drop_rate=drop_rate)


@register(ModelCard(
    **PAPER, reference="torchvision convnext_small",
    published_params_m=50, published_macs_m=8700, published_top1=83.1,
    counted_params=50_223_688, counted_macs=8_683_712_256,
    note="8684 M multiply-adds are printed as 8.7 G."))
def convnext_small(num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = DROP_RATE[SMALL]) -> ConvNeXt:
    """ConvNeXt-S, untrained; `drop_rate` is the stochastic depth of the last block."""
    return ConvNeXt(SMALL, num_classes, in_channels, drop_rate=drop_rate)


@register(ModelCard(
    **PAPER, reference="torchvision convnext_base",
    published_params_m=89, published_macs_m=15400, published_top1=83.8,
    counted_params=88_591_464, counted_macs=15_354_729_472,
    note="15355 M multiply-adds are printed as 15.4 G."))
def convnext_base(num_classes: int = 1000, in_channels: int = 3, *, drop_rate: float = DROP_RATE[BASE]) -> ConvNeXt:
    """ConvNeXt-B, untrained; `drop_rate` is the stochastic depth of the last block."""
    return ConvNeXt(BASE, num_classes, in_channels, drop_rate=drop_rate)
