"""Inception v3: Rethinking the Inception Architecture for Computer Vision.

Paper:   Szegedy et al., CVPR 2016, https://arxiv.org/abs/1512.00567
Lesson:  notebooks/06_inception.ipynb
Idea:    factorise: two 3x3 convolutions for a 5x5, a 1x7 and a 7x1 for a 7x7; and halve a map
         with convolutions and pooling side by side, so that nothing is squeezed out.
Differs: the layout is that of the released network (TF-Slim, torchvision, timm), which Table 1 and the figures
         only sketch: the stem ends in a 1x1 convolution, a 3x3 and a pooling, a tower of 5x5 stays in the first
         modules, and four modules, not five, keep 17 x 17 maps.
         Means at the border count the padding as zeros, as in torchvision and timm; TF-Slim leaves it out.
         The weight of the auxiliary head (0.4) and the dropout (0.2) are TF-Slim's; the paper names neither.
         The auxiliary head takes maps of any size.
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import (
    AuxiliaryPool,
    Branches,
    TrainingOutput,
    check_flag,
    check_images,
    check_options,
    initialise,
    tower,
)
from lwcourse.registry import ModelCard, Variant, register


def pooled(in_channels: int, channels: int) -> nn.Sequential:
    """The tower that every module here has: 3x3 means, then a 1x1 convolution."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), *tower(in_channels, (channels, 1)))


class FactorizedInception(Branches):
    """Two 3x3 convolutions in the place of a 5x5 (Figure 5), beside a slim 5x5 that the released network keeps.

    Shape: (N, in_channels, H, W) -> (N, 224 + pool, H, W).
    """

    def __init__(self, in_channels: int, pool: int):
        super().__init__([
            tower(in_channels, (64, 1)),
            tower(in_channels, (48, 1), (64, 5)),
            tower(in_channels, (64, 1), (96, 3), (96, 3)),
            pooled(in_channels, pool),
        ])


class GridReduction(Branches):
    """Half the side and more channels: convolutions and a pooling with stride 2, side by side (Figure 10).

    Shape: (N, in_channels, H, W) -> (N, 480 + in_channels, (H-1)//2, (W-1)//2).
    """

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (384, 3), stride=2, padding=0),
            tower(in_channels, (64, 1), (96, 3), (96, 3), stride=2, padding=0),
            nn.MaxPool2d(3, stride=2),
        ])


class AsymmetricInception(Branches):
    """1x7 and 7x1 convolutions in the place of 7x7 ones (Figure 6), of `hidden` channels.

    Shape: (N, in_channels, H, W) -> (N, 768, H, W).
    Cost of a 1x7 with a 7x1 after it: 2/7 of a 7x7's, at equal channels.
    """

    def __init__(self, in_channels: int, hidden: int):
        super().__init__([
            tower(in_channels, (192, 1)),
            tower(in_channels, (hidden, 1), (hidden, (1, 7)), (192, (7, 1))),
            tower(in_channels, (hidden, 1), (hidden, (7, 1)), (hidden, (1, 7)), (hidden, (7, 1)), (192, (1, 7))),
            pooled(in_channels, 192),
        ])


class AsymmetricGridReduction(Branches):
    """Half the side, with a 1x7 and a 7x1 convolution in one tower.

    Shape: (N, in_channels, H, W) -> (N, 512 + in_channels, (H-1)//2, (W-1)//2).
    """

    def __init__(self, in_channels: int):
        super().__init__([
            tower(in_channels, (192, 1), (320, 3), stride=2, padding=0),
            tower(in_channels, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2, padding=0),
            nn.MaxPool2d(3, stride=2),
        ])


class ExpandedInception(Branches):
    """Towers that fork at their end into a 1x3 and a 3x1 convolution, for many channels on a small map (Figure 7).

    Shape: (N, in_channels, H, W) -> (N, 2048, H, W).
    """

    def __init__(self, in_channels: int):
        def fork() -> Branches:
            return Branches([tower(384, (384, (1, 3))), tower(384, (384, (3, 1)))])

        super().__init__([
            tower(in_channels, (320, 1)),
            nn.Sequential(*tower(in_channels, (384, 1)), fork()),
            nn.Sequential(*tower(in_channels, (448, 1), (384, 3)), fork()),
            pooled(in_channels, 192),
        ])


class Stage(NamedTuple):
    """One module."""
    block: type[Branches]
    channels: int                # output channels
    inner: tuple[int, ...] = ()  # channels inside, where the block leaves them open


STAGES = (                                    # feature-map side in pixels for a 299 x 299 image
    Stage(FactorizedInception, 256, (32,)),   # 35 -> 35
    Stage(FactorizedInception, 288, (64,)),   # 35 -> 35
    Stage(FactorizedInception, 288, (64,)),   # 35 -> 35
    Stage(GridReduction, 768),                # 35 -> 17
    Stage(AsymmetricInception, 768, (128,)),  # 17 -> 17
    Stage(AsymmetricInception, 768, (160,)),  # 17 -> 17
    Stage(AsymmetricInception, 768, (160,)),  # 17 -> 17
    Stage(AsymmetricInception, 768, (192,)),  # 17 -> 17
    Stage(AsymmetricGridReduction, 1280),     # 17 ->  8
    Stage(ExpandedInception, 2048),           #  8 ->  8
    Stage(ExpandedInception, 2048),           #  8 ->  8
)
AUXILIARY_AFTER = 8  # modules, at the end of the 17 x 17 maps (Figure 8)


class AuxiliaryHead(nn.Sequential):
    """A classifier on an inner map, which training alone has (Figure 8): (N, in_channels, H, W) -> (N, num_classes)."""

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__(
            AuxiliaryPool(5), *tower(in_channels, (128, 1), (768, 5), padding=0), nn.Flatten(),
            nn.Linear(768, num_classes))


class InceptionV3(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 75 pixels.

    In training mode it returns a TrainingOutput with the logits of one further head, weighted by 0.4, unless
    `auxiliary` is False. That head ends in one pixel a map, so it cannot train on a single image.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, auxiliary: bool = True, dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels)
        check_flag("auxiliary", auxiliary)
        self.in_channels = in_channels
        self.stem = nn.Sequential(  # 299 -> 149 -> 147 -> 147 -> 73 -> 73 -> 71 -> 35
            *tower(in_channels, (32, 3), stride=2, padding=0),
            *tower(32, (32, 3), padding=0),
            *tower(32, (64, 3)),
            nn.MaxPool2d(3, stride=2),
            *tower(64, (80, 1), (192, 3), padding=0),
            nn.MaxPool2d(3, stride=2))
        channels, blocks = 192, []
        for stage in STAGES:
            blocks.append(stage.block(channels, *stage.inner))
            channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.auxiliary = AuxiliaryHead(STAGES[AUXILIARY_AFTER - 1].channels, num_classes) if auxiliary else None
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels, num_classes))
        initialise(self, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor | TrainingOutput:
        check_images(self, x, smallest=75, one_pixel=106, pooled_norm=self.auxiliary is not None)
        x, auxiliary = self.stem(x), ()
        for i, block in enumerate(self.blocks, start=1):
            x = block(x)
            if self.training and self.auxiliary is not None and i == AUXILIARY_AFTER:
                auxiliary = (self.auxiliary(x),)
        logits = self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 2048)
        return TrainingOutput(logits, auxiliary, weight=0.4) if auxiliary else logits


@register(ModelCard(
    family="Inception", paper="Rethinking the Inception Architecture for Computer Vision", arxiv="1512.00567",
    year=2015, chapter="06",
    table="abstract: 5 billion multiply-adds, less than 25 million parameters, 21.2% top-1 error",
    reference="torchvision inception_v3", published_macs_m=5000, published_top1=78.8,
    counted_params=27_161_264, counted_macs=5_713_216_096, input_size=(3, 299, 299), smallest=75,
    note="27.2 M with the head that training needs. 5 billion is the abstract's round figure; sec. 6 has about 2.5 "
         "times GoogLeNet's cost, here it is 3.6 times.",
    variants=(
        Variant(arguments={"auxiliary": False}, published_macs_m=5000, published_top1=78.8,
                counted_params=23_834_568, counted_macs=5_713_216_096,
                note="The paper says less than 25 M parameters. MACs: see above."),
    )))
def inception_v3(num_classes: int = 1000, in_channels: int = 3, *, auxiliary: bool = True) -> InceptionV3:
    """Inception v3, untrained; `auxiliary` gives it a further head in training mode."""
    return InceptionV3(num_classes, in_channels, auxiliary=auxiliary)
