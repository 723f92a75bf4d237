"""ESPNetv2 for segmentation, with the two decoders that its authors published.

Paper:   Mehta et al., CVPR 2019, https://arxiv.org/abs/1811.11431
Lesson:  notebooks/07_espnet.ipynb
Idea:    keep the large levels of the classifier, look at the smallest through a pyramid of windows, and enlarge
         step by step, each time with the maps of that size; the decoder has hardly more channels than classes.
Differs: both decoders follow the official codes (the paper describes them in words). Maps are enlarged to the side
         of the level that they join, so that any height and width works.
"""
from math import ceil, gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import (
    BNPReLU,
    ChannelShuffle,
    ConvBNPReLU,
    TrainingOutput,
    adaptive_average_pool,
    check_images,
    check_options,
    initialise,
)
from lwcourse.models.espnet_v2 import EESP, STAGES, WIDTHS, ESPNetV2Levels
from lwcourse.registry import ModelCard, Variant, register

ENCODER = (     # the first rows of Table 1; feature-map width in pixels for an image of 512 x 1024
    STAGES[0],  # 512 -> 256
    STAGES[1],  # 256 -> 128
    STAGES[2],  # 128 -> 128
    STAGES[3],  # 128 -> 64
    STAGES[4],  # 64 -> 64
)
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)  # of the windows of EfficientPyramid


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, corner pixels on corner pixels. Shape: (N, channels, h, w) -> (N, channels, H, W) of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


class PoolingPyramid(nn.Module):
    """See the map at four smaller sizes, each half the one before, and mix. Shape: (N, channels, H, W) -> the same."""

    def __init__(self, channels: int, levels: int = 4):
        super().__init__()
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)
        self.filters = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
                                     for _ in range(levels))
        self.project = ConvBNPReLU((levels + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps, small = [x], x
        for branch in self.filters:
            small = self.halve(small)
            maps.append(enlarge(branch(small), like=x))
        return self.project(torch.cat(maps, dim=1))


class ESPNetV2Seg(ESPNetV2Levels):
    """Images (N, in_channels, H, W) -> logits (N, num_classes, H, W), for H and W from 16 pixels.

    In training mode TrainingOutput, with the logits of the level at 1/8 as well, of weight 1.
    Source: official repository ESPNetv2, segmentation/cnn.
    """

    def __init__(self, num_classes: int = 20, in_channels: int = 3, *, width: float = 1.0):
        check_options(num_classes, in_channels, width)
        super().__init__(ENCODER, in_channels, width)
        initialise(self)  # the decoder begins as PyTorch makes it
        level1, level2, level3, level4 = self.channels
        dropout = 0.1 if width <= 0.5 else 0.2
        self.project4 = ConvBNPReLU(level4, level3, 1)
        self.mix3 = nn.Sequential(EESP(2 * level3, level3, dilations=(1, 1, 2, 3)),
                                  PoolingPyramid(level3))
        self.classify3 = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(level3, num_classes, 1, bias=False))
        self.norm3 = BNPReLU(num_classes)
        self.mix2 = ConvBNPReLU(level2 + num_classes, num_classes, 1)
        self.classify1 = nn.Sequential(nn.Dropout2d(dropout),
                                       nn.Conv2d(level1 + num_classes, num_classes, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor | TrainingOutput:
        check_images(self, x, smallest=16)
        level1, level2, level3, level4 = self.levels(x)
        y = self.mix3(torch.cat([level3, enlarge(self.project4(level4), like=level3)], dim=1))
        logits3 = self.classify3(y)
        y = self.mix2(torch.cat([level2, enlarge(self.norm3(logits3), like=level2)], dim=1))
        logits = enlarge(self.classify1(torch.cat([level1, enlarge(y, like=level1)], dim=1)), like=x)
        if not self.training:
            return logits
        for level in (level2, level1, x):  # in three steps, as official code does
            logits3 = enlarge(logits3, like=level)
        return TrainingOutput(logits, (logits3,), weight=1.0)


class EfficientPyramid(nn.Module):
    """Depthwise 3x3 convolutions at five scales of the map, then a grouped 3x3 and a 1x1 convolution that mix.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W); no scale has a side below 5 pixels.
    With `logits` the last convolution has a bias, and neither norm nor activation.
    """

    def __init__(self, in_channels: int, narrow: int, out_channels: int, *, logits: bool = False):
        super().__init__()
        self.project = ConvBNPReLU(in_channels, narrow, 1)
        self.filters = nn.ModuleList(nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow, bias=False)
                                     for _ in SCALES)
        self.mix = nn.Sequential(BNPReLU(len(SCALES) * narrow), ChannelShuffle(len(SCALES)),
                                 ConvBNPReLU(len(SCALES) * narrow, narrow, 3, groups=narrow))
        self.merge = nn.Conv2d(narrow, out_channels, 1, bias=logits)
        self.norm = nn.Identity() if logits else BNPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x, maps = self.project(x), []
        size = tuple(int(side) for side in x.shape[2:])
        for scale, branch in zip(SCALES, self.filters, strict=True):
            scaled = tuple(max(5, ceil(side * scale)) for side in size)
            if scale > 1:
                y = F.interpolate(x, scaled, mode="bilinear", align_corners=True)
                maps.append(adaptive_average_pool(branch(y), size))
            elif scale < 1:
                maps.append(enlarge(branch(adaptive_average_pool(x, scaled)), like=x))
            else:
                maps.append(branch(x))
        return self.norm(self.merge(self.mix(torch.cat(maps, dim=1))))


class GatedProjection(nn.Module):
    """A 3x3 convolution in as many groups as divide both counts, each channel scaled by a gate that sees the means.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.filter = ConvBNPReLU(in_channels, out_channels, 3, groups=gcd(in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
        return self.filter(x) * scale


class ESPNetV2EdgeNets(ESPNetV2Levels):
    """Images (N, in_channels, H, W) -> logits (N, num_classes, H, W), for H and W from 16 pixels.

    Source: official repository EdgeNets, model/segmentation/espnetv2.py, with the decoder for Cityscapes and VOC.
    """

    def __init__(self, num_classes: int = 20, in_channels: int = 3, *, width: float = 1.0, features: int = 16):
        check_options(num_classes, in_channels, width)
        super().__init__(ENCODER, in_channels, width)
        level1, level2, level3, level4 = self.channels
        narrow = max(1, min(num_classes // 2, features))
        wide4, wide3, wide2 = 4 * features, 3 * features, 2 * features
        self.pyramid4 = EfficientPyramid(level4, narrow, wide4)
        self.skip3, self.norm3 = GatedProjection(level3, wide4), BNPReLU(wide4)
        self.pyramid3 = EfficientPyramid(wide4, narrow, wide3)
        self.skip2, self.norm2 = GatedProjection(level2, wide3), BNPReLU(wide3)
        self.pyramid2 = EfficientPyramid(wide3, narrow, wide2)
        self.skip1, self.norm1 = GatedProjection(level1, wide2), BNPReLU(wide2)
        self.pyramid1 = EfficientPyramid(wide2, narrow, num_classes, logits=True)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=16)
        level1, level2, level3, level4 = self.levels(x)
        y = enlarge(self.pyramid4(level4), like=level3)
        y = enlarge(self.pyramid3(self.norm3(self.skip3(level3) + y)), like=level2)
        y = enlarge(self.pyramid2(self.norm2(self.skip2(level2) + y)), like=level1)
        return enlarge(self.pyramid1(self.norm1(self.skip1(level1) + y)), like=x)


MORE = "The authors count 1.3 M multiply-adds more than the layers have, and do not say what."


@register(ModelCard(
    family="ESPNetv2", paper="ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural "
    "Network", arxiv="1811.11431", year=2018, chapter="07", task="segmentation",
    table="segmentation/README.md of the official repository, before June 2019: Cityscapes, of which set it does not "
          "say",
    reference="official code", input_size=(3, 512, 1024), smallest=16, widths=WIDTHS,
    counted_params=340_558, counted_macs=1_688_795_136,
    note="The decoder of the first code, which its authors have replaced by that of espnet_v2_edgenets. They published "
         "it at widths 0.5 (0.099 M parameters, 54 M multiply-adds, 54.7 mIoU) and 1.5, not at 1.0.",
    variants=(
        Variant(arguments={"width": 1.5}, published_params_m=0.725, published_miou=62.1, counted_params=724_814,
                counted_macs=3_361_136_640, note="322 M multiply-adds are printed: ours at 224 x 224."),
        Variant(arguments={"width": 2.0}, counted_params=1_252_558, counted_macs=5_671_012_352,
                note="No figures are published for this width."),
    )))
def espnet_v2_seg(num_classes: int = 20, in_channels: int = 3, *, width: float = 1.0) -> ESPNetV2Seg:
    """ESPNetv2 with the decoder of its own repository, untrained; two heads in training. `width` as in espnet_v2."""
    return ESPNetV2Seg(num_classes, in_channels, width=width)


@register(ModelCard(
    family="ESPNetv2", paper="ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural "
    "Network", arxiv="1811.11431", year=2018, chapter="07", task="segmentation",
    table="model/segmentation/model_zoo/README.md of the repository EdgeNets: Cityscapes, test set at width 2.0, and "
          "else, as only that row says test, the validation set",
    reference="official code", published_params_m=0.23, published_macs_m=1086.59, published_miou=60.1,
    input_size=(3, 512, 1024), smallest=16, widths=WIDTHS, counted_params=233_786, counted_macs=1_085_283_952,
    note=MORE,
    variants=(
        Variant(arguments={"width": 1.5}, published_params_m=0.47, published_macs_m=1714.57, published_miou=63.8,
                counted_params=468_010, counted_macs=1_713_255_536, note=MORE),
        Variant(arguments={"width": 2.0}, published_params_m=0.79, published_macs_m=2699.05, published_miou=66.2,
                counted_params=788_762, counted_macs=2_697_742_960,
                note=MORE),
    )))
def espnet_v2_edgenets(num_classes: int = 20, in_channels: int = 3, *, width: float = 1.0) -> ESPNetV2EdgeNets:
    """ESPNetv2 with the later decoder of the repository EdgeNets, untrained; `width` as in espnet_v2."""
    return ESPNetV2EdgeNets(num_classes, in_channels, width=width)
