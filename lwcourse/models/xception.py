"""Xception: Deep Learning with Depthwise Separable Convolutions.

Paper:   Chollet, CVPR 2017, https://arxiv.org/abs/1610.02357
Lesson:  notebooks/06_inception.ipynb
Idea:    an Inception module with one tower for every channel: filter each on its own, mix with a 1x1 convolution.
Differs: a pooling with stride 2 is padded by 1 on each side; Keras' pads an even side at its end only.
         Initialisation: He's; the paper names none (Keras' default is Glorot's).
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise, tower
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """One module with a shortcut of Figure 5."""
    channels: tuple[int, ...]  # of each separable convolution
    stride: int                # of the pooling that ends the module, and of the shortcut
    repeats: int = 1


STAGES = (                                 # feature-map side in pixels for a 299 x 299 image
    Stage((128, 128), 2),                  # 147 -> 74
    Stage((256, 256), 2),                  #  74 -> 37
    Stage((728, 728), 2),                  #  37 -> 19
    Stage((728, 728, 728), 1, repeats=8),  #  19 -> 19
    Stage((728, 1024), 2),                 #  19 -> 10
)


class TowerConv(nn.Sequential):
    """Convolutions k x k in `groups` towers, each with its share of the channels, then a 1x1 convolution and BatchNorm.

    With one tower a channel, the default, this is the separable convolution of the paper (Figure 4); with one tower
    in all it is a full convolution and a 1x1; in between lies the Inception module (Figure 3), which has the 1x1
    first: the paper calls the order unimportant. There is no activation between the two (sec. 4.7), and none after.
    Shape, for odd kernels: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Cost: H*W * in_channels * (k*k * in_channels / groups + out_channels) multiply-adds.
    Raises ValueError unless `groups` divides in_channels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, *, groups: int | None = None):
        groups = in_channels if groups is None else groups
        if groups < 1 or in_channels % groups:
            raise ValueError(f"groups must divide the {in_channels} input channels, got {groups}")
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False),
            ConvBNAct(in_channels, out_channels, 1, act=None, eps=1e-3))


class XceptionBlock(nn.Module):
    """Separable convolutions, each after a ReLU, beside a shortcut (Figure 5).

    Shape: (N, in_channels, H, W) -> (N, channels[-1], ceil(H/stride), ceil(W/stride)).
    A block with stride 2 ends in max pooling and has a 1x1 convolution with stride 2 as its shortcut. The first
    block of the network has no ReLU before its first convolution (`first_act`): the stem ended in one.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], stride: int, first_act: bool = True):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        self.shortcut = nn.Identity()
        if stride == 2 or in_channels != channels[-1]:
            self.shortcut = ConvBNAct(in_channels, channels[-1], 1, stride, act=None, eps=1e-3)
        layers = []
        for i, out_channels in enumerate(channels):
            if i or first_act:
                layers.append(nn.ReLU(inplace=i > 0))  # the shortcut reads what the first one reads
            layers.append(TowerConv(in_channels, out_channels))
            in_channels = out_channels
        if stride == 2:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class Xception(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels."""

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, dropout: float = 0.5):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = nn.Sequential(  # 299 -> 149 -> 147
            *tower(in_channels, (32, 3), stride=2, padding=0), *tower(32, (64, 3), padding=0))
        channels, blocks = 64, []
        for stage in STAGES:
            for _ in range(stage.repeats):
                blocks.append(XceptionBlock(channels, stage.channels, stage.stride, first_act=len(blocks) > 0))
                channels = stage.channels[-1]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(TowerConv(channels, 1536), nn.ReLU(inplace=True),
                                  TowerConv(1536, 2048), nn.ReLU(inplace=True))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(2048, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32, one_pixel=38)
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 2048)


@register(ModelCard(
    family="Inception", paper="Xception: Deep Learning with Depthwise Separable Convolutions", arxiv="1610.02357",
    year=2016, chapter="06", table="Table 3 (22,855,952 parameters); top-1: Table 1", reference="timm legacy_xception",
    published_params_m=22.855952, published_top1=79.0, counted_params=22_855_952, counted_macs=8_357_403_496,
    input_size=(3, 299, 299),
    note="The paper gives no multiply-adds."))
def xception(num_classes: int = 1000, in_channels: int = 3) -> Xception:
    """Xception, untrained."""
    return Xception(num_classes, in_channels)
