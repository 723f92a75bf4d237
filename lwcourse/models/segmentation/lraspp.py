"""Searching for MobileNetV3: segmentation with LR-ASPP, "lite reduced atrous spatial pyramid pooling".

Paper:   Howard et al., ICCV 2019, https://arxiv.org/abs/1905.02244, sec. 6.4
Lesson:  notebooks/07_espnet.ipynb
Idea:    two maps of a classifier are enough: the last, scaled by a gate that sees the whole image, for what is there,
         and one at an eighth of the image for where; one 1x1 convolution each makes classes of them.
Differs: as torchvision has it: the gate sees the mean of the whole map (the paper's of large windows), the
         last blocks keep all their channels (the paper also halves them), the logits are enlarged at once.
"""
from functools import partial
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise
from lwcourse.models.mobilenet_v3 import HS, LARGE, InvertedResidualSE
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """Some rows of MobileNetV3-Large; with `dilation` their stride is 1 instead, so that the map keeps its side."""
    rows: int
    dilation: int = 1


STAGES = (                 # feature-map side in pixels for a 520 x 520 image
    Stage(1),              # 260 -> 260
    Stage(2),              # 260 -> 130
    Stage(1),              # 130 -> 65
    Stage(2),              # 65 -> 65
    Stage(6),              # 65 -> 33
    Stage(3, dilation=2),  # 33 -> 33
)
LOW = 2  # the stage whose map, at an eighth of the image, goes to the head too


class LRASPP(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes, H, W), for H and W from 16 pixels."""

    def __init__(self, num_classes: int = 21, in_channels: int = 3, *, features: int = 128):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        norm = {"eps": 1e-3, "momentum": 0.01}  # as in MobileNetV3
        channels, rows = 16, iter(LARGE)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2, act=HS, **norm)
        self.blocks = nn.Sequential()  # one module a stage
        for stage in STAGES:
            blocks = nn.Sequential()
            for row in (next(rows) for _ in range(stage.rows)):
                stride = row.stride if stage.dilation == 1 else 1
                blocks.append(InvertedResidualSE(channels, row.hidden, row.channels, row.kernel, stride, se=row.se,
                                                 act=row.act, dilation=stage.dilation))
                channels = row.channels
            self.blocks.append(blocks)
        self.head = ConvBNAct(channels, 6 * channels, 1, act=HS, **norm)
        initialise(self)  # what follows begins as PyTorch makes it
        self.project = ConvBNAct(6 * channels, features, 1)
        self.gate = nn.Conv2d(6 * channels, features, 1, bias=False)
        self.classify_low = nn.Conv2d(LARGE[sum(stage.rows for stage in STAGES[:LOW])].channels, num_classes, 1)
        self.classify_high = nn.Conv2d(features, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=16)
        enlarge = partial(F.interpolate, mode="bilinear")
        low = self.blocks[:LOW + 1](self.stem(x))       # (N, 40, ceil(H/8), ceil(W/8))
        high = self.head(self.blocks[LOW + 1:](low))    # (N, 960, ceil(H/16), ceil(W/16))
        projected = self.project(high)
        projected = projected * self.gate(high.mean(dim=(2, 3), keepdim=True)).sigmoid()
        logits = self.classify_low(low) + self.classify_high(enlarge(projected, size=low.shape[2:]))
        return enlarge(logits, size=x.shape[2:])


@register(ModelCard(
    family="LR-ASPP", paper="Searching for MobileNetV3", arxiv="1905.02244", year=2019, chapter="07",
    task="segmentation", table="torchvision's weights COCO_WITH_VOC_LABELS_V1: COCO val2017, classes of Pascal VOC",
    reference="torchvision lraspp_mobilenet_v3_large", published_params_m=3.221538, published_macs_m=2086,
    published_miou=57.9, input_size=(3, 520, 520), smallest=16, counted_params=3_221_538, counted_macs=2_086_219_688,
    note="Torchvision's figures, for 21 classes; the paper trains a narrower network on Cityscapes."))
def lraspp_mobilenet_v3_large(num_classes: int = 21, in_channels: int = 3) -> LRASPP:
    """LR-ASPP on MobileNetV3-Large, untrained. 21 classes: Pascal VOC's 20 and background."""
    return LRASPP(num_classes, in_channels)
