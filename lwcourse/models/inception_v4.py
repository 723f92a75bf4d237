"""Inception-v4 and Inception-ResNet-v2, of: Inception-v4, Inception-ResNet and the Impact of Residual
Connections on Learning.

Paper:   Szegedy et al., AAAI 2017, https://arxiv.org/abs/1602.07261
Lesson:  notebooks/06_inception.ipynb
Idea:    one uniform, deeper Inception; and one whose towers add to a shortcut, scaled down so that training is stable.
Differs: both are the released networks (TF-Slim, timm). In v4 that changes the order of 1x7 and 7x1, of 1x3 and
         3x1 convolutions (Figures 5 and 6). Inception-ResNet-v2 departs from Figures 15 to 19: it has the stem of
         v3 and one plain module before 10, 20 and 10 residual ones (5, 10 and 5 drawn), of 320, 1088 and 2080
         channels (384, 1154 and 2048 drawn), and the last of them is not scaled and has no ReLU.
         The auxiliary heads of the released code are left out: the paper has none.
"""
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import Branches, check_images, check_options, initialise, tower
from lwcourse.registry import ModelCard, register


def pooled(in_channels: int, channels: int) -> nn.Sequential:
    """3x3 means, which leave the padding out, then a 1x1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
                         *tower(in_channels, (channels, 1)))


class InceptionA(Branches):
    """Figure 4. Shape: (N, in_channels, H, W) -> (N, 384, H, W)."""

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (96, 1)),
            tower(in_channels, (64, 1), (96, 3)),
            tower(in_channels, (64, 1), (96, 3), (96, 3)),
            pooled(in_channels, 96),
        ])


class InceptionB(Branches):
    """Figure 5. Shape: (N, in_channels, H, W) -> (N, 1024, H, W)."""

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (384, 1)),
            tower(in_channels, (192, 1), (224, (1, 7)), (256, (7, 1))),
            tower(in_channels, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
            pooled(in_channels, 128),
        ])


class InceptionC(Branches):
    """Figure 6: towers that fork at their end. Shape: (N, in_channels, H, W) -> (N, 1536, H, W)."""

    def __init__(self, in_channels: int):
        def fork(channels: int) -> Branches:
            return Branches([tower(channels, (256, (1, 3))), tower(channels, (256, (3, 1)))])

        super().__init__([
            tower(in_channels, (256, 1)),
            nn.Sequential(*tower(in_channels, (384, 1)), fork(384)),
            nn.Sequential(*tower(in_channels, (384, 1), (448, (3, 1)), (512, (1, 3))), fork(512)),
            pooled(in_channels, 256),
        ])


class ReductionA(Branches):
    """Figure 7, with channels for each network: `single` of one tower; `reduce`, `first` and `second` of the other.

    Shape: (N, in_channels, H, W) -> (N, single + second + in_channels, (H-1)//2, (W-1)//2).
    """

    def __init__(self, in_channels: int, reduce: int, first: int, second: int, single: int):  # k, l, m, n
        super().__init__([
            tower(in_channels, (single, 3), stride=2, padding=0),
            tower(in_channels, (reduce, 1), (first, 3), (second, 3), stride=2, padding=0),
            nn.MaxPool2d(3, stride=2),
        ])


class ReductionB(Branches):
    """Figure 8. Shape: (N, in_channels, H, W) -> (N, 512 + in_channels, (H-1)//2, (W-1)//2)."""

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (192, 1), (192, 3), stride=2, padding=0),
            tower(in_channels, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3), stride=2, padding=0),
            nn.MaxPool2d(3, stride=2),
        ])


class ResidualReductionB(Branches):
    """Figure 18. Shape: (N, in_channels, H, W) -> (N, 992 + in_channels, (H-1)//2, (W-1)//2)."""

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (256, 1), (384, 3), stride=2, padding=0),
            tower(in_channels, (256, 1), (288, 3), stride=2, padding=0),
            tower(in_channels, (256, 1), (288, 3), (320, 3), stride=2, padding=0),
            nn.MaxPool2d(3, stride=2),
        ])


class EntryInception(Branches):
    """The plain module after the stem of Inception-ResNet-v2. Shape: (N, in_channels, H, W) -> (N, 320, H, W)."""

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (96, 1)),
            tower(in_channels, (48, 1), (64, 5)),
            tower(in_channels, (64, 1), (96, 3), (96, 3)),
            pooled(in_channels, 64),
        ])


class ResidualInception(nn.Module):
    """x + scale * projection(branches(x)), then ReLU unless `act` is False (sec. 3.2 and 3.3, Figure 20).

    Shape: (N, channels, H, W) -> the same; the `branches` give `hidden` channels.
    The projection has a bias and neither BatchNorm nor activation. With more than 1000 filters, training is
    unstable unless `scale` is small; the paper takes 0.1 to 0.3 (sec. 3.3).
    """

    def __init__(self, branches: Branches, hidden: int, channels: int, scale: float, act: bool = True):
        super().__init__()
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise ValueError(f"scale must be a positive number such as 0.17 or 1.0, got {scale!r}")
        self.scale = scale
        self.branches = branches
        self.projection = nn.Conv2d(hidden, channels, 1)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def extra_repr(self) -> str:
        return f"scale={self.scale}"

    def forward(self, x: Tensor) -> Tensor:
        return self.act(torch.add(x, self.projection(self.branches(x)), alpha=self.scale))


class ResidualA(ResidualInception):
    """Figure 16, for maps of 35 x 35."""

    def __init__(self, channels: int, scale: float = 0.17, act: bool = True):
        super().__init__(Branches([
            tower(channels, (32, 1)),
            tower(channels, (32, 1), (32, 3)),
            tower(channels, (32, 1), (48, 3), (64, 3)),
        ]), 128, channels, scale, act)


class ResidualB(ResidualInception):
    """Figure 17, for maps of 17 x 17."""

    def __init__(self, channels: int, scale: float = 0.10, act: bool = True):
        super().__init__(Branches([
            tower(channels, (192, 1)),
            tower(channels, (128, 1), (160, (1, 7)), (192, (7, 1))),
        ]), 384, channels, scale, act)


class ResidualC(ResidualInception):
    """Figure 19, for maps of 8 x 8."""

    def __init__(self, channels: int, scale: float = 0.20, act: bool = True):
        super().__init__(Branches([
            tower(channels, (192, 1)),
            tower(channels, (192, 1), (224, (1, 3)), (256, (3, 1))),
        ]), 448, channels, scale, act)


class Stage(NamedTuple):
    """Consecutive equal modules."""
    block: type[nn.Module]
    channels: int  # output channels
    repeats: int = 1
    options: tuple = ()  # of the block; scale and act of a residual one


V4 = (                                                 # feature-map side in pixels for a 299 x 299 image
    Stage(InceptionA, 384, 4),                         # 35 -> 35
    Stage(ReductionA, 1024, 1, (192, 224, 256, 384)),  # 35 -> 17
    Stage(InceptionB, 1024, 7),                        # 17 -> 17
    Stage(ReductionB, 1536),                           # 17 ->  8
    Stage(InceptionC, 1536, 3),                        #  8 ->  8
)
RESNET = (                                             # feature-map side in pixels for a 299 x 299 image
    Stage(EntryInception, 320),                        # 35 -> 35
    Stage(ResidualA, 320, 10, (0.17,)),                # 35 -> 35
    Stage(ReductionA, 1088, 1, (256, 256, 384, 384)),  # 35 -> 17
    Stage(ResidualB, 1088, 20, (0.10,)),               # 17 -> 17
    Stage(ResidualReductionB, 2080),                   # 17 ->  8
    Stage(ResidualC, 2080, 9, (0.20,)),                #  8 ->  8
    Stage(ResidualC, 2080, 1, (1.0, False)),           #  8 ->  8
)


class InceptionV4(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 75 pixels."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = nn.Sequential(  # Figure 3
            *tower(in_channels, (32, 3), stride=2, padding=0),  # 299 -> 149
            *tower(32, (32, 3), padding=0),                     # 149 -> 147
            *tower(32, (64, 3)),
            Branches([nn.MaxPool2d(3, stride=2),                # 147 -> 73
                      tower(64, (96, 3), stride=2, padding=0)]),
            Branches([tower(160, (64, 1), (96, 3), padding=0),  # 73 -> 71
                      tower(160, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3), padding=0)]),
            Branches([tower(192, (192, 3), stride=2, padding=0),  # 71 -> 35
                      nn.MaxPool2d(3, stride=2)]))
        self.blocks = build_blocks(V4, 384)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(V4[-1].channels, num_classes))
        initialise(self, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=75, one_pixel=106)
        x = self.blocks(self.stem(x))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1536)


class InceptionResNetV2(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 75 pixels.

    `scale` is what the output of every residual module is multiplied by; None takes the table's own.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, scale: float | None = None,
                 dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = nn.Sequential(  # 299 -> 149 -> 147 -> 147 -> 73 -> 73 -> 71 -> 35
            *tower(in_channels, (32, 3), stride=2, padding=0),
            *tower(32, (32, 3), padding=0),
            *tower(32, (64, 3)),
            nn.MaxPool2d(3, stride=2),
            *tower(64, (80, 1), (192, 3), padding=0),
            nn.MaxPool2d(3, stride=2))
        stages = RESNET if scale is None else tuple(
            stage._replace(options=(scale, *stage.options[1:])) if issubclass(stage.block, ResidualInception) else stage
            for stage in RESNET)
        self.blocks = build_blocks(stages, 192)
        self.head = tower(RESNET[-1].channels, (1536, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1536, num_classes))
        initialise(self, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=75, one_pixel=106)
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1536)


def build_blocks(stages: tuple[Stage, ...], channels: int) -> nn.Sequential:
    """The modules of a table one after the other, for an input of `channels`."""
    blocks = []
    for stage in stages:
        for _ in range(stage.repeats):
            blocks.append(stage.block(channels, *stage.options))
            channels = stage.channels
    return nn.Sequential(*blocks)


PAPER = "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning"


@register(ModelCard(
    family="Inception", paper=PAPER, arxiv="1602.07261", year=2016, chapter="06",
    table="top-1: TF-Slim's list of checkpoints", reference="timm inception_v4", published_top1=80.2,
    counted_params=42_679_816, counted_macs=12_253_974_624, input_size=(3, 299, 299), smallest=75,
    note="The paper gives neither parameters nor multiply-adds, and 80.0 % for a single crop."))
def inception_v4(num_classes: int = 1000, in_channels: int = 3) -> InceptionV4:
    """Inception-v4, untrained."""
    return InceptionV4(num_classes, in_channels)


@register(ModelCard(
    family="Inception", paper=PAPER, arxiv="1602.07261", year=2016, chapter="06",
    table="top-1: TF-Slim's list of checkpoints", reference="timm inception_resnet_v2", published_top1=80.4,
    counted_params=55_843_464, counted_macs=13_155_794_016, input_size=(3, 299, 299), smallest=75,
    note="The paper gives neither parameters nor multiply-adds, and 80.1 % for a single crop; Keras lists its port "
         "with 55.9 M, "
         "which is this count with BatchNorm's statistics."))
def inception_resnet_v2(num_classes: int = 1000, in_channels: int = 3, *,
                        scale: float | None = None) -> InceptionResNetV2:
    """Inception-ResNet-v2, untrained; `scale` replaces the residual scalings of the released network."""
    return InceptionResNetV2(num_classes, in_channels, scale=scale)
