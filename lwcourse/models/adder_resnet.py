"""AdderNet: Do We Really Need Multiplications in Deep Learning?

Paper:   Chen et al., CVPR 2020, https://arxiv.org/abs/1912.13200
Lesson:  notebooks/04_noahs_ark.ipynb
Idea:    a convolution compares patch and kernel by a product; compare them by their L1 distance
         instead, and only additions are left.
Differs: as in the official code, the first layer and the classifier, a 1x1 convolution, multiply,
         BatchNorm follows the classifier, and the shortcuts are adders too (1x1). The official
         ResNet-20 averages over 8 x 8 pixels and has 10 classes; ours averages over what is there.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import AdderConv2d, ConvBNAct, check_images, check_options, initialise
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """A row of the ResNets' tables; only the first of the `repeats` blocks has `stride`."""
    channels: int  # of the 3x3 layers
    repeats: int
    stride: int


RESNET20 = (          # feature-map side in pixels for a 32 x 32 image
    Stage(16, 3, 1),  # 32 -> 32
    Stage(32, 3, 2),  # 32 -> 16
    Stage(64, 3, 2),  # 16 ->  8
)

RESNET50 = (           # feature-map side in pixels for a 224 x 224 image
    Stage(64,  3, 1),  # 56 -> 56
    Stage(128, 4, 2),  # 56 -> 28
    Stage(256, 6, 2),  # 28 -> 14
    Stage(512, 3, 2),  # 14 ->  7
)


class Residual(nn.Module):
    """A body and a shortcut, added, then ReLU; the shortcut is a 1x1 layer where the body changes the shape.

    Shape: (N, in_channels, H, W) -> (N, expansion * channels, ceil(H/stride), ceil(W/stride)).
    `layer(in_channels, out_channels, kernel_size, stride, padding)` builds what compares patch and kernel.
    """
    expansion: int

    def __init__(self, in_channels: int, channels: int, stride: int, layer: Callable[..., nn.Module]):
        super().__init__()
        out_channels = self.expansion * channels
        self.body = self.make_body(in_channels, channels, stride, layer)
        fits = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if fits else nn.Sequential(*layer_bn(layer, in_channels, out_channels, 1, stride))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)  # before the shortcut, as in the official code
        return self.act(y + self.shortcut(x))


class Basic(Residual):
    """Two 3x3 layers: the block of ResNet-20."""
    expansion = 1

    @staticmethod
    def make_body(in_channels: int, channels: int, stride: int, layer: Callable[..., nn.Module]) -> nn.Module:
        return nn.Sequential(*layer_bn(layer, in_channels, channels, 3, stride), nn.ReLU(inplace=True),
                             *layer_bn(layer, channels, channels, 3))


class Bottleneck(Residual):
    """1x1, 3x3 and 1x1 layers, of which the last has four times the channels: the block of ResNet-50."""
    expansion = 4

    @staticmethod
    def make_body(in_channels: int, channels: int, stride: int, layer: Callable[..., nn.Module]) -> nn.Module:
        return nn.Sequential(*layer_bn(layer, in_channels, channels, 1), nn.ReLU(inplace=True),
                             *layer_bn(layer, channels, channels, 3, stride), nn.ReLU(inplace=True),
                             *layer_bn(layer, channels, 4 * channels, 1))


def layer_bn(layer: Callable[..., nn.Module], in_channels: int, out_channels: int, kernel_size: int,
             stride: int = 1) -> tuple[nn.Module, nn.BatchNorm2d]:
    """The layer, and the normalisation that brings its sums of distances, all negative, back to mean 0."""
    return layer(in_channels, out_channels, kernel_size, stride, kernel_size // 2), nn.BatchNorm2d(out_channels)


class AdderResNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from `smallest` pixels.

    `stem` makes of the images what the first of the `blocks` takes. With a convolution as `layer`, such as
    `functools.partial(nn.Conv2d, bias=False)`, it is the plain ResNet that the paper compares with.
    """

    def __init__(self, stages: tuple[Stage, ...], block: type[Residual], stem: nn.Module, smallest: int,
                 num_classes: int, in_channels: int, *, bias: bool, layer: Callable[..., nn.Module] = AdderConv2d):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels, self.smallest = in_channels, smallest
        self.stem = stem.to(memory_format=torch.channels_last)  # what leaves it lies as the adders' kernels read it
        channels = stages[0].channels
        blocks = []
        for stage in stages:
            for i in range(stage.repeats):
                blocks.append(block(channels, stage.channels, stage.stride if i == 0 else 1, layer))
                channels = block.expansion * stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(nn.Conv2d(channels, num_classes, 1, bias=bias), nn.BatchNorm2d(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=self.smallest, pooled_norm=True)
        x = self.blocks(self.stem(x))
        return self.classifier(x.mean(dim=(2, 3), keepdim=True)).flatten(1)  # mean over pixels


@register(ModelCard(
    family="AdderNet", paper="AdderNet: Do We Really Need Multiplications in Deep Learning?", arxiv="1912.13200",
    year=2019, chapter="04", table="Table 2 (CIFAR)", reference="official code, stored outputs",
    counted_params=337_824, counted_macs=506_368, counted_adds=80_740_352, input_size=(3, 32, 32), smallest=4,
    note="The paper gives no parameters. It counts 82.34 M additions for 10 classes, twice the 41.17 M multiply-adds "
         "of its ResNet-20; ours are 81.6 M with those of the first layer and the classifier. CIFAR-10: 91.84 %, "
         "and 92.02 % in the authors' README.",
    variants=(
        Variant(arguments={"num_classes": 10}, counted_params=272_484, counted_macs=443_008, counted_adds=80_740_352,
                note="As published, for CIFAR-10; the authors' code has exactly the counted parameters."),
    )), aliases=("resnet20",))
def adder_resnet20(num_classes: int = 1000, in_channels: int = 3) -> AdderResNet:
    """ResNet-20 of adders for CIFAR, untrained; the paper's has `num_classes` 10 or 100."""
    check_options(num_classes, in_channels)
    return AdderResNet(RESNET20, Basic, ConvBNAct(in_channels, 16, 3), 4, num_classes, in_channels, bias=False)


@register(ModelCard(
    family="AdderNet", paper="AdderNet: Do We Really Need Multiplications in Deep Learning?", arxiv="1912.13200",
    year=2019, chapter="04", table="Table 3 (ImageNet)", reference="torchvision resnet50 of adders",
    published_top1=74.9, counted_params=25_559_032, counted_macs=120_061_952, counted_adds=7_938_244_608,
    note="The paper gives no parameters, and 7.7 G additions. The authors' code has exactly the counted parameters. "
         "The reference is torchvision's ResNet-50 with adders put in, since no package holds the network."))
def adder_resnet50(num_classes: int = 1000, in_channels: int = 3) -> AdderResNet:
    """ResNet-50 of adders for ImageNet, untrained."""
    check_options(num_classes, in_channels)
    stem = nn.Sequential(ConvBNAct(in_channels, 64, 7, stride=2), nn.MaxPool2d(3, stride=2, padding=1))
    network = AdderResNet(RESNET50, Bottleneck, stem, 32, num_classes, in_channels, bias=True)
    initialise(network)
    return network
