"""Fast-SCNN: Fast Semantic Segmentation Network.

Paper:   Poudel et al., BMVC 2019, https://arxiv.org/abs/1902.04502
Lesson:  notebooks/07_espnet.ipynb
Idea:    large and small branch share the first layers ("learning to downsample"); inverted residuals look at a
         32nd of the image for what is there, one sum with the maps at an eighth says where.
Differs: the paper names neither the channels of the pooling pyramid nor the form of the auxiliary heads: GluonCV's.
         So are the heads' dropout, the bias of the fusion's projections (which their BatchNorm cancels), and
         enlarging with corner pixels on corner pixels. Initialisation: PyTorch's.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, TrainingOutput, adaptive_average_pool, check_flag, check_images, check_options
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """One row of bottlenecks in Table 1; only the first of the `repeats` blocks has `stride`."""
    expand: int    # t
    channels: int  # c
    repeats: int   # n
    stride: int    # s


STAGES = (                # feature-map width in pixels for an image of 1024 x 2048
    Stage(6,  64, 3, 2),  # 256 -> 128
    Stage(6,  96, 3, 2),  # 128 -> 64
    Stage(6, 128, 3, 1),  # 64 -> 64
)
STEM = (32, 48, 64)  # channels, each at half the side of the one before
WINDOWS = (1, 2, 3, 6)  # of the pooling pyramid
SHRINK = 4  # X: how much smaller the small branch is than the large one


class DSConv(nn.Sequential):
    """3x3 depthwise, then 1x1 convolution, each with BatchNorm; no activation between them (sec. 3.2.1).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(ConvBNAct(in_channels, in_channels, 3, stride, groups=in_channels, act=None),
                         ConvBNAct(in_channels, out_channels, 1))


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual (Table 2). Shape: (N, in, H, W) -> (N, out, ceil(H/stride), ceil(W/stride))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__()
        hidden = expand * in_channels
        self.layers = nn.Sequential(ConvBNAct(in_channels, hidden, 1),
                                    ConvBNAct(hidden, hidden, 3, stride, groups=hidden),
                                    ConvBNAct(hidden, out_channels, 1, act=None))
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corner pixels on corner pixels. Shape: (N, channels, h, w) -> (N, channels, *size)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class PyramidPooling(nn.Module):
    """The map beside its means over 1x1, 2x2, 3x3 and 6x6 windows, mixed. Shape: (N, channels, H, W) -> the same."""

    def __init__(self, channels: int):
        super().__init__()
        narrow = channels // len(WINDOWS)
        self.reduce = nn.ModuleList(ConvBNAct(channels, narrow, 1) for _ in WINDOWS)
        self.mix = ConvBNAct(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [enlarge(reduce(adaptive_average_pool(x, (windows, windows))), x.shape[2:])
                  for windows, reduce in zip(WINDOWS, self.reduce, strict=True)]
        return self.mix(torch.cat([x, *pooled], dim=1))


class FeatureFusion(nn.Module):
    """Add the small branch, enlarged, to the large one (Table 3).

    Shape: (N, large, H, W) and (N, small, H/4, W/4) -> (N, out_channels, H, W). The depthwise convolution
    has the dilation 4, so that it sees neighbours from before the enlarging.
    """

    def __init__(self, large: int, small: int, out_channels: int):
        super().__init__()
        self.filter = ConvBNAct(small, small, 3, dilation=SHRINK, groups=small)
        self.project_small = conv_bn(small, out_channels)
        self.project_large = conv_bn(large, out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        small = self.project_small(self.filter(enlarge(small, large.shape[2:])))
        return self.act(self.project_large(large) + small)


class FastSCNN(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes, H, W), for H and W from 32 pixels.

    With `auxiliary` two more heads learn in training mode, behind both parts of the encoder, with weight 0.4
    (sec. 4), and the output is a TrainingOutput. A map of one pixel is normed in the pyramid, so that it
    cannot train on a single image.
    """

    def __init__(self, num_classes: int = 19, in_channels: int = 3, *, auxiliary: bool = False, dropout: float = 0.1):
        super().__init__()
        check_options(num_classes, in_channels)
        check_flag("auxiliary", auxiliary)
        self.in_channels = in_channels
        first, second, large = STEM
        self.stem = nn.Sequential(ConvBNAct(in_channels, first, 3, stride=2), DSConv(first, second, stride=2),
                                  DSConv(second, large, stride=2))
        channels, blocks = large, []
        for stage in STAGES:
            for i in range(stage.repeats):
                blocks.append(Bottleneck(channels, stage.channels, stage.stride if i == 0 else 1, stage.expand))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.pyramid = PyramidPooling(channels)
        self.fusion = FeatureFusion(large, channels, channels)
        self.classifier = nn.Sequential(DSConv(channels, channels), DSConv(channels, channels), nn.Dropout(dropout),
                                        nn.Conv2d(channels, num_classes, 1))
        self.auxiliary = nn.ModuleList(
            nn.Sequential(ConvBNAct(width, large, 3), nn.Dropout(dropout), nn.Conv2d(large, num_classes, 1))
            for width in ((large, channels) if auxiliary else ()))

    def forward(self, x: Tensor) -> Tensor | TrainingOutput:
        check_images(self, x, smallest=32, pooled_norm=True)
        large = self.stem(x)                      # (N, 64, ceil(H/8), ceil(W/8))
        small = self.pyramid(self.blocks(large))  # (N, 128, ceil(H/32), ceil(W/32))
        logits = enlarge(self.classifier(self.fusion(large, small)), x.shape[2:])
        if not self.training or not self.auxiliary:
            return logits
        further = (enlarge(head(maps), x.shape[2:]) for head, maps in zip(self.auxiliary, (large, small), strict=True))
        return TrainingOutput(logits, tuple(further), weight=0.4)


def conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution -> BatchNorm, linear."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


@register(ModelCard(
    family="Fast-SCNN", paper="Fast-SCNN: Fast Semantic Segmentation Network", arxiv="1902.04502", year=2019,
    chapter="07", task="segmentation", table="abstract: test set of Cityscapes; parameters: its text",
    reference="pytorchcv fastscnn_cityscapes", published_params_m=1.11, published_miou=68.0,
    input_size=(3, 1024, 2048), smallest=32, counted_params=1_138_051, counted_macs=6_709_649_408,
    note="1.11 M cannot be reproduced: with the layers of Tables 1 to 3 there are 1.14 M. No MACs are given.",
    variants=(
        Variant(arguments={"auxiliary": True}, counted_params=1_251_369, counted_macs=6_709_649_408,
                note="The heads of training are not counted in the paper."),
    )))
def fast_scnn(num_classes: int = 19, in_channels: int = 3, *, auxiliary: bool = False) -> FastSCNN:
    """Fast-SCNN, untrained; 19 classes: Cityscapes'. `auxiliary` gives it two more heads in training mode."""
    return FastSCNN(num_classes, in_channels, auxiliary=auxiliary)
