"""ResNet: Deep Residual Learning for Image Recognition.

Paper:   He et al., CVPR 2016, https://arxiv.org/abs/1512.03385
Lesson:  notebooks/05_attention.ipynb
Idea:    let a block learn what to add to its input, so that a hundred layers train as well as ten.
Differs: a bottleneck that halves the map does so in its 3x3 convolution, not in the first 1x1, as in
         fb.resnet.torch and torchvision ("ResNet v1.5", more exact and 6 % dearer; `resnet50_d` has the
         paper's form too). `width` is ours: the paper has one width.
"""
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_flag, check_images, check_options, initialise, make_divisible
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """One row of Table 1, conv2_x to conv5_x; only the first of its blocks has `stride`."""
    channels: int  # of the 3x3 convolutions at width 1.0; a bottleneck puts out four times as many
    stride: int


STAGES = (          # feature-map side in pixels for a 224 x 224 image
    Stage( 64, 1),  #  56 -> 56
    Stage(128, 2),  #  56 -> 28
    Stage(256, 2),  #  28 -> 14
    Stage(512, 2),  #  14 ->  7
)
REPEATS = {         # blocks in each row, for each column of Table 1
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


def repeats_of(depth: int) -> tuple[int, ...]:
    """Blocks in each row of Table 1. Raises ValueError for any other depth."""
    if depth not in REPEATS:
        raise ValueError(f"depth must be one of {', '.join(map(str, REPEATS))}, got {depth!r}")
    return REPEATS[depth]


def plain_stem(in_channels: int, channels: int) -> nn.Module:
    """conv1 of Table 1: 7x7 at stride 2. Shape: (N, in_channels, H, W) -> (N, channels, ceil(H/2), ceil(W/2))."""
    return ConvBNAct(in_channels, channels, 7, stride=2)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut: nothing where the shapes agree, else a 1x1 convolution with BatchNorm (option B, sec. 3.3)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvBNAct(in_channels, out_channels, 1, stride, act=None)


class Residual(nn.Module):
    """ReLU(attention(body(x)) + shortcut(x)): what every block here is; its kinds differ in `body`.

    `attention` builds a module from a number of channels; it works on what is to be added, the place
    that Squeeze-and-Excitation chose and its successors kept.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, body: nn.Module, *,
                 shortcut: Callable[[int, int, int], nn.Module] = projection,
                 attention: Callable[[int], nn.Module] | None = None):
        super().__init__()
        self.body = body
        self.attention = attention(out_channels) if attention else nn.Identity()
        self.shortcut = shortcut(in_channels, out_channels, stride)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.body(x))
        y += self.shortcut(x)
        return self.act(y)


class BasicBlock(Residual):
    """Two 3x3 convolutions (Figure 5, left).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost without the shortcut, in multiply-adds: H_out*W_out * 9*out_channels * (in_channels + out_channels).
    `conv` builds both convolutions and is called as ConvBNAct is; `options` are those of Residual.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *,
                 conv: Callable[..., nn.Module] = ConvBNAct, **options):
        super().__init__(in_channels, out_channels, stride, nn.Sequential(
            conv(in_channels, out_channels, 3, stride),
            conv(out_channels, out_channels, 3, act=None),
        ), **options)


class Bottleneck(Residual):
    """1x1 to a quarter of `out_channels`, 3x3, 1x1 back (Figure 5, right).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1 without the shortcut, in multiply-adds, with hidden = out_channels / 4:
    H*W * hidden * (in_channels + 9*hidden + out_channels).
    `conv` builds the 3x3 convolution and is called as ConvBNAct is; `stride_in_3x3=False` is the paper's form;
    `options` are those of Residual.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *,
                 conv: Callable[..., nn.Module] = ConvBNAct, stride_in_3x3: bool = True, **options):
        check_flag("stride_in_3x3", stride_in_3x3)
        hidden = out_channels // 4
        first, second = (1, stride) if stride_in_3x3 else (stride, 1)
        super().__init__(in_channels, out_channels, stride, nn.Sequential(
            ConvBNAct(in_channels, hidden, 1, first),
            conv(hidden, hidden, 3, second),
            ConvBNAct(hidden, out_channels, 1, act=None),
        ), **options)


class ResNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `depth` is a column of Table 1. `block(in_channels, out_channels, stride)` and `stem(in_channels, channels)`
    build the parts meant to be swapped; `block` is BasicBlock by default up to 34 layers, and Bottleneck beyond.
    Set `pooled_norm` when a block has a BatchNorm behind a global pooling, which cannot train on one image.
    `width` scales every layer's channels. Raises ValueError for a depth that is not in REPEATS.
    """

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 block: Callable[[int, int, int], nn.Module] | None = None,
                 stem: Callable[[int, int], nn.Module] = plain_stem, pooled_norm: bool = False):
        super().__init__()
        check_options(num_classes, in_channels, width)
        rows = zip(STAGES, repeats_of(depth), strict=True)
        is_deep = depth >= 50
        block = block or (Bottleneck if is_deep else BasicBlock)
        self.in_channels, self.pooled_norm = in_channels, pooled_norm
        channels = make_divisible(STAGES[0].channels * width)
        self.stem = stem(in_channels, channels)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for stage, repeats in rows:
            out_channels = make_divisible(stage.channels * width) * (4 if is_deep else 1)
            blocks = [block(channels, out_channels, stage.stride)]
            blocks += [block(out_channels, out_channels, 1) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = out_channels
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32, pooled_norm=self.pooled_norm)
        x = self.blocks(self.pool(self.stem(x)))    # (N, 512 or 2048, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels


_card = partial(ModelCard, family="ResNet", paper="Deep Residual Learning for Image Recognition", arxiv="1512.03385",
                year=2015, chapter="05")
_WHERE = "Table 1 (FLOPs, one decimal of 10^9); Table {} (top-1 of ten crops)"
_V15 = ("The paper prints {} x 10^9 for the stride in the first 1x1; in the 3x3, as torchvision has it, it is "
        "{} x 10^9. Parameters are not in the paper.")
_ROUNDED = "The paper prints {} x 10^9, rounded from our count. Parameters are not in the paper."


@register(_card(table=_WHERE.format("2, shortcuts without parameters"), reference="torchvision resnet18",
                published_macs_m=1800, published_top1=72.12, counted_params=11_689_512, counted_macs=1_814_073_344,
                note=_ROUNDED.format("1.8")))
def resnet18(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNet-18, untrained."""
    return ResNet(18, num_classes, in_channels, width=width)


@register(_card(table=_WHERE.format("3, ResNet-34 B"), reference="torchvision resnet34",
                published_macs_m=3600, published_top1=75.48, counted_params=21_797_672, counted_macs=3_663_761_408,
                note="The paper prints 3.6 x 10^9, our 3.66 x 10^9 cut. Parameters are not in the paper."))
def resnet34(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNet-34, untrained."""
    return ResNet(34, num_classes, in_channels, width=width)


@register(_card(table=_WHERE.format("3"), reference="torchvision resnet50",
                published_macs_m=3800, published_top1=77.15, counted_params=25_557_032, counted_macs=4_089_184_256,
                note=_V15.format("3.8", "4.1")))
def resnet50(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNet-50, untrained, with the stride in the 3x3 convolutions."""
    return ResNet(50, num_classes, in_channels, width=width)


@register(_card(table=_WHERE.format("3"), reference="torchvision resnet101",
                published_macs_m=7600, published_top1=78.25, counted_params=44_549_160, counted_macs=7_801_405_440,
                note=_V15.format("7.6", "7.8")))
def resnet101(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> ResNet:
    """ResNet-101, untrained, with the stride in the 3x3 convolutions."""
    return ResNet(101, num_classes, in_channels, width=width)
