"""GoogLeNet: Going Deeper with Convolutions (Inception v1).

Paper:   Szegedy et al., CVPR 2015, https://arxiv.org/abs/1409.4842
Lesson:  notebooks/06_inception.ipynb
Idea:    look at a map with several kernel sizes side by side, and pay for it by
         reducing the channels with a 1x1 convolution before each large kernel.
Differs: BatchNorm after every convolution, in place of the paper's biases and its two local response
         normalisations: as in TF-Slim, torchvision and every later Inception.
         The first convolution is a full 7x7, as Figure 3 draws it; the 2.7 K weights of Table 1 are those of a
         separable one, as in Inception v2. Max pooling with stride 2 rounds the side up, as in torchvision.
         The auxiliary heads take maps of any size.
         Initialisation: He's; the paper names none.
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import (
    AuxiliaryPool,
    Branches,
    ConvBNAct,
    TrainingOutput,
    check_flag,
    check_images,
    check_options,
    initialise,
    tower,
)
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """One row of Table 1 that is an Inception module; with stride 2, the row of the max pooling before it as well."""
    name: str
    conv1: int    # channels of the 1x1 tower
    reduce3: int  # of the 1x1 convolution before the 3x3
    conv3: int
    reduce5: int  # of the 1x1 convolution before the 5x5
    conv5: int
    pool: int     # of the 1x1 convolution after the pooling
    stride: int = 1

    @property
    def channels(self) -> int:
        return self.conv1 + self.conv3 + self.conv5 + self.pool


STAGES = (                                               # feature-map side in pixels for a 224 x 224 image
    Stage("3a",  64,  96, 128, 16,  32,  32),            # 28 -> 28
    Stage("3b", 128, 128, 192, 32,  96,  64),            # 28 -> 28
    Stage("4a", 192,  96, 208, 16,  48,  64, stride=2),  # 28 -> 14
    Stage("4b", 160, 112, 224, 24,  64,  64),            # 14 -> 14
    Stage("4c", 128, 128, 256, 24,  64,  64),            # 14 -> 14
    Stage("4d", 112, 144, 288, 32,  64,  64),            # 14 -> 14
    Stage("4e", 256, 160, 320, 32, 128, 128),            # 14 -> 14
    Stage("5a", 256, 160, 320, 32, 128, 128, stride=2),  # 14 ->  7
    Stage("5b", 384, 192, 384, 48, 128, 128),            #  7 ->  7
)
AUXILIARY_AFTER = ("4a", "4d")  # sec. 5


class Inception(Branches):
    """Towers of 1x1, 3x3 and 5x5 convolutions and a 3x3 max pooling, side by side (Figure 2).

    Shape: (N, in_channels, H, W) -> (N, conv1 + conv3 + conv5 + pool, H, W).
    Cost: H*W * (in_channels * (conv1 + reduce3 + reduce5 + pool) + 9 * reduce3*conv3 + 25 * reduce5*conv5).
    A convolution of 0 channels is left out: with reduce3 = reduce5 = pool = 0 this is the naive module of
    Figure 2a, whose pooling hands on all of `in_channels` and which costs
    H*W * in_channels * (conv1 + 9 * conv3 + 25 * conv5).
    """

    def __init__(self, in_channels: int, conv1: int, reduce3: int, conv3: int, reduce5: int, conv5: int, pool: int):
        super().__init__([
            tower(in_channels, (conv1, 1)),
            tower(in_channels, (reduce3, 1), (conv3, 3)),
            tower(in_channels, (reduce5, 1), (conv5, 5)),
            nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *tower(in_channels, (pool, 1))),
        ])


class AuxiliaryHead(nn.Sequential):
    """A classifier on an inner map, which training alone has (sec. 5): (N, in_channels, H, W) -> (N, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__(
            AuxiliaryPool(4), *tower(in_channels, (128, 1)), nn.Flatten(),
            nn.Linear(4 * 4 * 128, 1024), nn.ReLU(inplace=True), nn.Dropout(0.7), nn.Linear(1024, num_classes))


class GoogLeNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 31 pixels.

    In training mode it returns a TrainingOutput with the logits of two further heads, weighted by 0.3, unless
    `auxiliary` is False.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, auxiliary: bool = True, dropout: float = 0.4):
        super().__init__()
        check_options(num_classes, in_channels)
        check_flag("auxiliary", auxiliary)
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            ConvBNAct(in_channels, 64, 7, stride=2, eps=1e-3), halve(),
            *tower(64, (64, 1), (192, 3)), halve())
        channels, blocks, heads = 192, [], {}
        for stage in STAGES:
            module = Inception(channels, *stage[1:7])
            blocks.append(nn.Sequential(halve(), module) if stage.stride == 2 else module)
            channels = stage.channels
            if auxiliary and stage.name in AUXILIARY_AFTER:
                heads[stage.name] = AuxiliaryHead(channels, num_classes)
        self.blocks = nn.Sequential(*blocks)
        self.auxiliary = nn.ModuleDict(heads)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | TrainingOutput:
        check_images(self, x, smallest=31, one_pixel=62)
        x, auxiliary = self.stem(x), []
        for stage, block in zip(STAGES, self.blocks, strict=True):
            x = block(x)
            if self.training and stage.name in self.auxiliary:
                auxiliary.append(self.auxiliary[stage.name](x))
        logits = self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1024)
        return TrainingOutput(logits, tuple(auxiliary), weight=0.3) if auxiliary else logits


def halve() -> nn.MaxPool2d:
    """3x3 max pooling with stride 2."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


@register(ModelCard(
    family="Inception", paper="Going Deeper with Convolutions", arxiv="1409.4842", year=2014, chapter="06",
    table="sec. 1: 1.5 billion multiply-adds; parameters: sum of Table 1; top-1: TF-Slim's checkpoint (Inception V1)",
    reference="torchvision googlenet", published_macs_m=1500, published_top1=69.8,
    counted_params=13_385_816, counted_macs=1_582_671_872, smallest=31,
    note="13.4 M with the two heads that training needs. 1.5 billion takes the first convolution for 34 M (Table 1), "
         "a full 7x7 costs 118 M. torchvision's network has 3x3 kernels where the paper has 5x5, and 2x2 in its last "
         "max pooling: it is changed to the paper's before we compare.",
    variants=(
        Variant(arguments={"auxiliary": False}, published_params_m=6.8, published_macs_m=1500, published_top1=69.8,
                counted_params=7_005_832, counted_macs=1_582_671_872,
                note="The rows of Table 1 add up to 6798 K, most of which are 1024 weights. MACs: see above."),
    )))
def googlenet(num_classes: int = 1000, in_channels: int = 3, *, auxiliary: bool = True) -> GoogLeNet:
    """GoogLeNet, untrained; `auxiliary` gives it two further heads in training mode."""
    return GoogLeNet(num_classes, in_channels, auxiliary=auxiliary)
