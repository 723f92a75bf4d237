"""Inception v2 (BN-Inception), of: Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift.

Paper:   Ioffe and Szegedy, ICML 2015, https://arxiv.org/abs/1502.03167
Lesson:  notebooks/06_inception.ipynb
Idea:    normalise every map over the batch; and see a 5x5 field with two 3x3 convolutions, which cost less.
Differs: rows 4c and 4d project the pooling to 96 channels, as TF-Slim does and as their 576 outputs demand;
         the paper prints 128, which Caffe's and pytorchcv's network takes. Means leave the padding out, as in TF-Slim.
         3x3 kernels with stride 2 are padded by 1 on each side; TF-Slim pads an even side at its end only.
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import Branches, check_images, check_options, initialise, tower
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """One Inception module of the appendix' table (Figure 5)."""
    conv1: int    # channels of the 1x1 tower; 0: there is none
    reduce3: int  # of the 1x1 convolution before the 3x3
    conv3: int
    reduce5: int  # of the 1x1 convolution before the double 3x3
    conv5: int    # of each of the double 3x3, which sees 5x5 pixels
    average: bool  # the pooling takes means; else maxima
    pool: int     # channels of the 1x1 convolution after the pooling; 0: the pooling passes all channels through
    stride: int = 1

    def out_channels(self, in_channels: int) -> int:
        return self.conv1 + self.conv3 + self.conv5 + (self.pool or in_channels)


STAGES = (                                                  # feature-map side in pixels for a 224 x 224 image
    Stage( 64,  64,  64,  64,  96, True,   32),             # 28 -> 28
    Stage( 64,  64,  96,  64,  96, True,   64),             # 28 -> 28
    Stage(  0, 128, 160,  64,  96, False,   0, stride=2),   # 28 -> 14
    Stage(224,  64,  96,  96, 128, True,  128),             # 14 -> 14
    Stage(192,  96, 128,  96, 128, True,  128),             # 14 -> 14
    Stage(160, 128, 160, 128, 160, True,   96),             # 14 -> 14
    Stage( 96, 128, 192, 160, 192, True,   96),             # 14 -> 14
    Stage(  0, 128, 192, 192, 256, False,   0, stride=2),   # 14 ->  7
    Stage(352, 192, 320, 160, 224, True,  128),             #  7 ->  7
    Stage(352, 192, 320, 192, 224, False, 128),             #  7 ->  7
)


class Inception(Branches):
    """Towers of 1x1, 3x3 and twice 3x3 convolutions and a 3x3 pooling, side by side (appendix).

    Shape: (N, in_channels, H, W) -> (N, conv1 + conv3 + conv5 + (pool or in_channels), ceil(H/stride), ceil(W/stride)).
    Cost at stride 1: H*W * (in_channels * (conv1 + reduce3 + reduce5 + pool) + 9 * (reduce3*conv3
    + (reduce5 + conv5) * conv5)).
    """

    def __init__(self, in_channels: int, conv1: int, reduce3: int, conv3: int, reduce5: int, conv5: int,
                 average: bool, pool: int, stride: int = 1):
        if stride not in (1, 2) or (stride == 2 and conv1):
            raise ValueError(f"stride must be 1, or 2 where conv1 is 0; got stride {stride} and conv1 {conv1}")
        pooling = (nn.AvgPool2d(3, stride, padding=1, count_include_pad=False) if average
                   else nn.MaxPool2d(3, stride, padding=1))
        branches = [
            tower(in_channels, (conv1, 1)),
            tower(in_channels, (reduce3, 1), (conv3, 3), stride=stride),
            tower(in_channels, (reduce5, 1), (conv5, 3), (conv5, 3), stride=stride),
            nn.Sequential(pooling, *tower(in_channels, (pool, 1))),
        ]
        super().__init__(branches if conv1 else branches[1:])


class InceptionV2(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    The first 7x7 convolution is separable: a depthwise one makes 8 maps of each input channel, a 1x1 mixes them.
    There is no dropout: the paper removes it (sec. 4.2.1).
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 8 * in_channels, 7, stride=2, padding=3, groups=in_channels, bias=False),
            *tower(8 * in_channels, (64, 1)), nn.MaxPool2d(3, stride=2, padding=1),
            *tower(64, (64, 1), (192, 3)), nn.MaxPool2d(3, stride=2, padding=1))
        channels, blocks = 192, []
        for stage in STAGES:
            blocks.append(Inception(channels, *stage))
            channels = stage.out_channels(channels)
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self, mode="fan_in")

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.stem(x))               # (N, 1024, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, 1024)


@register(ModelCard(
    family="Inception", arxiv="1502.03167", year=2015, chapter="06",
    paper="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    table="parameters: section 4.2; top-1: TF-Slim's list of checkpoints "
          "(Inception V2)", reference="pytorchcv bninception",
    published_params_m=13.6, published_top1=73.9, counted_params=11_188_288, counted_macs=1_934_857_216,
    note="13.6 M is printed in section 4.2 of the paper, and cannot be reproduced from its table of layers; the paper "
         "prints no multiply-adds. pytorchcv's bninception (11.3 M, 2033 M) has a full "
         "7x7 convolution first, 128 channels after the pooling of 4c and 4d, and biases: it is changed to this "
         "network before we compare. light_cnns builds Inception-ResNet-v2 under this name: inception_resnet_v2 here."))
def inception_v2(num_classes: int = 1000, in_channels: int = 3) -> InceptionV2:
    """Inception v2, untrained."""
    return InceptionV2(num_classes, in_channels)
