"""ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation.

Paper:   Mehta et al., ECCV 2018, https://arxiv.org/abs/1803.06815
Lesson:  notebooks/07_espnet.ipynb
Idea:    reduce the channels, look with dilated convolutions of five sizes at once, and add their maps up
         from small to large, so that no grid of holes remains; label every pixel of a large image cheaply.
Differs: each level has ceil(side / 2) pixels, and a row or column too many is cut after enlarging, so that any
         height and width works. ESPNet-C's map of classes is enlarged here (bilinear); the authors train
         it on small label maps. With fewer than five classes the decoder's ESP has as many branches.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import BNPReLU, ConvBNPReLU, DilatedPyramid, check_flag, check_images, check_integer, check_options
from lwcourse.registry import ModelCard, Variant, register

EPS = 1e-3  # of every BatchNorm, in the authors' code
DILATIONS = (1, 2, 4, 8, 16)
MOST_MODULES = 1000  # in a row; the paper has up to 8


class Row(NamedTuple):
    """One row of the encoder in Figure 4; rows with stride 1 are repeated, p or q times."""
    channels: int
    stride: int


LEVELS = (               # feature-map width in pixels for an image of 512 x 1024
    Row( 16, stride=2),  # 1024 -> 512
    Row( 64, stride=2),  #  512 -> 256
    Row( 64, stride=1),  #  256 -> 256
    Row(128, stride=2),  #  256 -> 128
    Row(128, stride=1),  #  128 -> 128
)


class ESP(nn.Module):
    """Reduce, split, transform, merge: an efficient spatial pyramid (sec. 3.1, Figure 1).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1, with K = 5 branches of d = out_channels / K: H*W * (in_channels*d + 9*K*d*d) multiply-adds,
    about K times less than a 3x3 convolution's 9*H*W * in_channels*out_channels, with a field of 33 x 33 pixels.

    Reduces by a 1x1 convolution, at stride 2 by a 3x3 one. Channels that K does not divide go to the branch
    without dilation, which takes no part in the fusion. Without `hierarchical` the branches are only concatenated.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, hierarchical: bool = True):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        branches = min(len(DILATIONS), out_channels)
        narrow = out_channels // branches
        kernel = 1 if stride == 1 else 3
        self.reduce = nn.Conv2d(in_channels, narrow, kernel, stride, kernel // 2, bias=False)
        self.pyramid = DilatedPyramid(narrow, [out_channels - (branches - 1) * narrow] + [narrow] * (branches - 1),
                                      DILATIONS[:branches], hierarchical=hierarchical, fuse_from=1)
        self.norm = BNPReLU(out_channels, EPS)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.pyramid(self.reduce(x))
        if self.has_shortcut:
            y += x
        return self.norm(y)


class ESPNetC(nn.Module):
    """The encoder alone: images (N, in_channels, H, W) -> logits (N, num_classes, H, W), for sides from 8 pixels.

    `p` and `q` are the numbers of ESP modules at a quarter and at an eighth of the image. `hierarchical=False` turns
    the fusion off, to see the gridding. `upsample=False` leaves the logits at ceil(H/8) x ceil(W/8).
    """

    def __init__(self, num_classes: int = 20, in_channels: int = 3, *, p: int = 2, q: int = 8,
                 hierarchical: bool = True, upsample: bool = True):
        super().__init__()
        check_options(num_classes, in_channels)
        check_integer("p", p, most=MOST_MODULES)
        check_integer("q", q, most=MOST_MODULES)
        check_flag("hierarchical", hierarchical)
        check_flag("upsample", upsample)
        self.in_channels = in_channels
        self.upsample = upsample
        level1, level2, level3 = (row.channels for row in LEVELS if row.stride == 2)
        esp = [ESP(channels, channels, hierarchical=hierarchical) for channels in [level2] * p + [level3] * q]
        self.blocks = nn.ModuleList([  # one a row of LEVELS
            ConvBNPReLU(in_channels, level1, 3, stride=2, eps=EPS),
            ESP(level1 + in_channels, level2, stride=2, hierarchical=hierarchical),
            nn.Sequential(*esp[:p]),
            ESP(2 * level2 + in_channels, level3, stride=2, hierarchical=hierarchical),
            nn.Sequential(*esp[p:]),
        ])
        self.halve = nn.AvgPool2d(3, stride=2, padding=1)
        self.join1 = BNPReLU(level1 + in_channels, EPS)
        self.join2 = BNPReLU(2 * level2 + in_channels, EPS)
        self.join3 = BNPReLU(2 * level3, EPS)
        self.classify = nn.Conv2d(2 * level3, num_classes, 1, bias=False)

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The stem's maps, then those of the three levels, at 1/2, 1/2, 1/4 and 1/8, each joined with what is known.

        A smaller image is concatenated again at levels 1 and 2, the first maps of a level with its last ones at
        levels 2 and 3.
        """
        stem, shrink2, deepen2, shrink3, deepen3 = self.blocks
        half = self.halve(x)
        low = stem(x)
        level1 = self.join1(torch.cat([low, half], dim=1))
        first = shrink2(level1)
        level2 = self.join2(torch.cat([deepen2(first), first, self.halve(half)], dim=1))
        first = shrink3(level2)
        level3 = self.join3(torch.cat([first, deepen3(first)], dim=1))
        return low, level1, level2, level3

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=8)
        logits = self.classify(self.levels(x)[-1])
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear") if self.upsample else logits


class ESPNet(ESPNetC):
    """ESPNet-C and a light decoder (Figure 4d): (N, in_channels, H, W) -> logits (N, num_classes, H, W), from 8 pixels.

    The decoder has no more channels than classes: it enlarges by 2, joins the level of that size, mixes, three times.
    The last skip carries the stem's maps; with `image_skip` also the halved image, as in the authors' training
    code (their code for testing, and the weights that they publish, have it without).
    """

    def __init__(self, num_classes: int = 20, in_channels: int = 3, *, p: int = 2, q: int = 8,
                 hierarchical: bool = True, image_skip: bool = False):
        super().__init__(num_classes, in_channels, p=p, q=q, hierarchical=hierarchical)
        check_flag("image_skip", image_skip)
        self.image_skip = image_skip
        level1, level2 = LEVELS[0].channels, 2 * LEVELS[2].channels + in_channels
        self.norm3 = nn.BatchNorm2d(num_classes, EPS)
        self.grow3 = double(num_classes)
        self.project2 = nn.Conv2d(level2, num_classes, 1, bias=False)
        self.mix2 = nn.Sequential(BNPReLU(2 * num_classes, EPS),
                                  ESP(2 * num_classes, num_classes, hierarchical=hierarchical))
        self.grow2 = double(num_classes)
        self.norm2 = BNPReLU(num_classes, EPS)
        self.mix1 = ConvBNPReLU(level1 + in_channels * image_skip + num_classes, num_classes, 3, eps=EPS)
        self.grow1 = double(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=8)
        low, level1, level2, level3 = self.levels(x)
        y = cut(self.grow3(self.norm3(self.classify(level3))), level2)
        y = self.mix2(torch.cat([self.project2(level2), y], dim=1))
        y = self.norm2(cut(self.grow2(y), level1))
        y = self.mix1(torch.cat([y, level1 if self.image_skip else low], dim=1))
        return cut(self.grow1(y), x)


def double(channels: int) -> nn.ConvTranspose2d:
    """Enlarge by 2, each pixel to a learned 2 x 2 patch. Shape: (N, channels, H, W) -> (N, channels, 2H, 2W)."""
    return nn.ConvTranspose2d(channels, channels, 2, stride=2, bias=False)


def cut(x: Tensor, like: Tensor) -> Tensor:
    """Without the last row or column that an odd side does not have."""
    return x[..., :like.shape[2], :like.shape[3]]


NOT_PUBLISHED = "The paper has this network in an ablation on the validation set, whose figures could not be checked."


@register(ModelCard(
    family="ESPNet", paper="ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation",
    arxiv="1803.06815", year=2018, chapter="07", task="segmentation",
    table="none: figures of the encoder alone could not be checked",
    reference="official code, before the logits are enlarged", input_size=(3, 512, 1024), smallest=8,
    counted_params=349_449, counted_macs=3_470_155_776,
    note="The published figures are those of the full network, espnet_v1.",
    variants=(
        Variant(arguments={"q": 5}, counted_params=252_297, counted_macs=2_683_723_776, note=NOT_PUBLISHED),
        Variant(arguments={"q": 3}, counted_params=187_529, counted_macs=2_159_435_776, note=NOT_PUBLISHED),
    )))
def espnet_c(num_classes: int = 20, in_channels: int = 3, *, p: int = 2, q: int = 8, hierarchical: bool = True,
             upsample: bool = True) -> ESPNetC:
    """ESPNet-C, the encoder of ESPNet with its logits enlarged, untrained."""
    return ESPNetC(num_classes, in_channels, p=p, q=q, hierarchical=hierarchical, upsample=upsample)


@register(ModelCard(
    family="ESPNet", paper="ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation",
    arxiv="1803.06815", year=2018, chapter="07", task="segmentation",
    table="README of the official repository, test set of Cityscapes; parameters also in the segmentation README of "
          "ESPNetv2",
    reference="official code", published_params_m=0.364, published_miou=60.3, input_size=(3, 512, 1024), smallest=8,
    counted_params=364_569, counted_macs=4_709_441_536,
    note="0.36457 M parameters are printed as 0.364 M. ESPNetv2's README of June 2019 gives 424 M multiply-adds, of "
         "which it does not name the size: they are ours at 224 x 224, without the transposed convolutions.",
    variants=(
        Variant(arguments={"q": 5}, counted_params=267_417, counted_macs=3_923_009_536, note=NOT_PUBLISHED),
        Variant(arguments={"q": 3}, counted_params=202_649, counted_macs=3_398_721_536, note=NOT_PUBLISHED),
        Variant(arguments={"image_skip": True}, counted_params=365_109, counted_macs=4_780_220_416,
                note="The form of the authors' training code, for which no figures are published."),
    )), aliases={"espnetv1": {"q": 3}})
def espnet_v1(num_classes: int = 20, in_channels: int = 3, *, p: int = 2, q: int = 8, hierarchical: bool = True,
              image_skip: bool = False) -> ESPNet:
    """ESPNet with its decoder, untrained; published with p=2, q=8. 20 classes: Cityscapes' 19 and background."""
    return ESPNet(num_classes, in_channels, p=p, q=q, hierarchical=hierarchical, image_skip=image_skip)
