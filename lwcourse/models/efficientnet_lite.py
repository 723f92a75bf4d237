"""EfficientNet-Lite: EfficientNet without what phones and integer arithmetic do badly.

Paper:   Tan and Le, ICML 2019, https://arxiv.org/abs/1905.11946; the Lite networks are described in the README of the
         official code only: tensorflow/tpu, models/official/efficientnet/lite
Lesson:  notebooks/14_training.ipynb
Idea:    scale depth, width and image size together from one searched network; for devices, leave out
         squeeze-and-excitation, take ReLU6 for swish, and scale neither the stem nor the last layers.
Differs: symmetric padding by default; the released weights need TensorFlow's, `padding="tensorflow"`.
"""
import math
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, StochasticDepth, check_images, check_options, make_divisible
from lwcourse.registry import ModelCard, register

PADDINGS = {"symmetric": None, "tensorflow": "tensorflow"}
NORM = {"eps": 1e-3, "momentum": 0.01}


class Stage(NamedTuple):
    """One row of the paper's Table 1 at depth and width 1; only the first of the `repeats` blocks has `stride`."""
    kernel: int    # k of "MBConv, k3x3"
    expand: int    # hidden channels = expand * input channels
    channels: int  # output channels
    repeats: int
    stride: int


STAGES = (                   # feature-map side in pixels for a 224 x 224 image
    Stage(3, 1,  16, 1, 1),  # 112 -> 112
    Stage(3, 6,  24, 2, 2),  # 112 ->  56
    Stage(5, 6,  40, 2, 2),  #  56 ->  28
    Stage(3, 6,  80, 3, 2),  #  28 ->  14
    Stage(5, 6, 112, 3, 1),  #  14 ->  14
    Stage(5, 6, 192, 4, 2),  #  14 ->   7
    Stage(3, 6, 320, 1, 1),  #   7 ->   7
)
STEM, FEATURES = 32, 1280  # the same for all five networks
SURVIVAL = 0.8             # of the last block's branch in training; it falls linearly from 1


class MBConv(nn.Module):
    """Inverted residual of kernel 3 or 5 with stochastic depth.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1: H*W * expand*in_channels * (in_channels + kernel^2 + out_channels) multiply-adds; without
    the first term in the bracket when expand = 1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expand: int, *,
                 drop: float = 0.0, padding: str | None = None):
        super().__init__()
        hidden = expand * in_channels
        self.expand = ConvBNAct(in_channels, hidden, 1, act=nn.ReLU6, **NORM) if expand > 1 else nn.Identity()
        self.depthwise = ConvBNAct(hidden, hidden, kernel_size, stride, padding=padding, groups=hidden, act=nn.ReLU6,
                                   **NORM)
        self.project = ConvBNAct(hidden, out_channels, 1, act=None, **NORM)
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.drop = StochasticDepth(drop) if self.has_shortcut and drop else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + self.drop(y) if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` scales the channels and `depth` the repeats of the stages; the stem, the last 1x1 convolution and the
    number of blocks of the first and the last stage stay. `padding` is "symmetric" or "tensorflow".
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, depth: float = 1.0,
                 dropout: float = 0.2, padding: str = "symmetric"):
        super().__init__()
        check_options(num_classes, in_channels, width)
        if padding not in PADDINGS:
            raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))}, got {padding!r}")
        pad = PADDINGS[padding]
        self.in_channels, self.padding = in_channels, padding
        self.stem = ConvBNAct(in_channels, STEM, 3, stride=2, padding=pad, act=nn.ReLU6, **NORM)
        repeats = [stage.repeats if stage in (STAGES[0], STAGES[-1]) else math.ceil(depth * stage.repeats)
                   for stage in STAGES]
        self.repeats = tuple(repeats)
        blocks, channels = [], STEM
        for stage, count in zip(STAGES, repeats, strict=True):
            out_channels = make_divisible(stage.channels * width)
            for i in range(count):
                drop = (1 - SURVIVAL) * len(blocks) / sum(repeats)
                blocks.append(MBConv(channels, out_channels, stage.kernel, stage.stride if i == 0 else 1, stage.expand,
                                     drop=drop, padding=pad))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNAct(channels, FEATURES, 1, act=nn.ReLU6, **NORM)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES, num_classes))
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.stem(x)))    # (N, 1280, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1280)


def _initialise(network: nn.Module) -> None:
    """That of the official code: N(0, 2 / fan) with fan = k*k*out_channels/groups, the classifier uniform."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan))
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


def _card(size: int, *, published_params_m: float, published_macs_m: float, published_top1: float, int8_top1: float,
          counted_params: int, counted_macs: int, reference: str) -> ModelCard:
    return ModelCard(
        family="EfficientNet-Lite", paper="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        arxiv="1905.11946", year=2019, chapter="14", table="README of the official code", reference=reference,
        published_params_m=published_params_m, published_macs_m=published_macs_m, published_top1=published_top1,
        counted_params=counted_params, counted_macs=counted_macs, input_size=(3, size, size),
        note=f"Rounded to int8 after training: {int8_top1} % top-1. The published MACs hold BatchNorm (two for each "
             "value) and activations (one) as well; ours are of convolutions and the classifier.")


@register(_card(224, published_params_m=4.7, published_macs_m=407, published_top1=75.1, int8_top1=74.4,
                counted_params=4_652_008, counted_macs=385_187_552, reference="timm tf_efficientnet_lite0"))
def efficientnet_lite0(num_classes: int = 1000, in_channels: int = 3, *,
                       padding: str = "symmetric") -> EfficientNetLite:
    """EfficientNet-Lite0 for images of 224 pixels, untrained; released weights need padding="tensorflow"."""
    return EfficientNetLite(num_classes, in_channels, width=1.0, depth=1.0, dropout=0.2, padding=padding)


@register(_card(240, published_params_m=5.4, published_macs_m=631, published_top1=76.7, int8_top1=75.9,
                counted_params=5_416_680, counted_macs=600_185_232, reference="timm tf_efficientnet_lite1"))
def efficientnet_lite1(num_classes: int = 1000, in_channels: int = 3, *,
                       padding: str = "symmetric") -> EfficientNetLite:
    """EfficientNet-Lite1 for images of 240 pixels, untrained; released weights need padding="tensorflow"."""
    return EfficientNetLite(num_classes, in_channels, width=1.0, depth=1.1, dropout=0.2, padding=padding)


@register(_card(260, published_params_m=6.1, published_macs_m=899, published_top1=77.6, int8_top1=77.0,
                counted_params=6_092_072, counted_macs=859_736_272, reference="timm tf_efficientnet_lite2"))
def efficientnet_lite2(num_classes: int = 1000, in_channels: int = 3, *,
                       padding: str = "symmetric") -> EfficientNetLite:
    """EfficientNet-Lite2 for images of 260 pixels, untrained; released weights need padding="tensorflow"."""
    return EfficientNetLite(num_classes, in_channels, width=1.1, depth=1.2, dropout=0.3, padding=padding)


@register(_card(280, published_params_m=8.2, published_macs_m=1440, published_top1=79.8, int8_top1=79.0,
                counted_params=8_197_096, counted_macs=1_383_321_872, reference="timm tf_efficientnet_lite3"))
def efficientnet_lite3(num_classes: int = 1000, in_channels: int = 3, *,
                       padding: str = "symmetric") -> EfficientNetLite:
    """EfficientNet-Lite3 for images of 280 pixels, untrained; released weights need padding="tensorflow"."""
    return EfficientNetLite(num_classes, in_channels, width=1.2, depth=1.4, dropout=0.3, padding=padding)


@register(_card(300, published_params_m=13.0, published_macs_m=2640, published_top1=81.5, int8_top1=80.2,
                counted_params=13_006_568, counted_macs=2_553_034_336, reference="timm tf_efficientnet_lite4"))
def efficientnet_lite4(num_classes: int = 1000, in_channels: int = 3, *,
                       padding: str = "symmetric") -> EfficientNetLite:
    """EfficientNet-Lite4 for images of 300 pixels, untrained; released weights need padding="tensorflow"."""
    return EfficientNetLite(num_classes, in_channels, width=1.4, depth=1.8, dropout=0.3, padding=padding)
