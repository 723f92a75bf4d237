"""Deep High-Resolution Representation Learning for Visual Recognition.

Paper:   Wang et al., TPAMI 2020, https://arxiv.org/abs/1908.07919
Lesson:  notebooks/11_hrnet.ipynb
Idea:    never give up the fine map: add coarser branches beside it, one a stage, and let all
         of them exchange what they see, again and again.
Differs: as in the official code, upsampling takes the nearest pixel (the paper: bilinear) and comes after the
         1x1 convolution, the head's convolutions have biases, and there are two smaller networks. Where a
         side is odd, upsampling goes to the size of the finer branch.
"""
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options, initialise
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """One stage of the main body; branch b has channels * 2**b channels at 1 / 2**b of the finest side."""
    branches: int
    modules: int  # each ends in an exchange between all branches
    units: int    # residual units of each branch in a module


STAGES = (           # Table XIV; side in pixels of the finest map for a 224 x 224 image
    Stage(1, 1, 4),  # 56 -> 56
    Stage(2, 1, 4),  # 56 -> 56
    Stage(3, 4, 4),  # 56 -> 56
    Stage(4, 3, 4),  # 56 -> 56
)
SMALL_V1 = (Stage(1, 1, 1), Stage(2, 1, 2), Stage(3, 1, 2), Stage(4, 1, 2))  # of the official code; same sides
SMALL_V2 = (Stage(1, 1, 2), Stage(2, 1, 2), Stage(3, 3, 2), Stage(4, 2, 2))
HEAD = (128, 256, 512, 1024)  # channels to which the head widens the four maps (Appendix B)


class Residual(nn.Module):
    """relu(x + body(x)); a 1x1 convolution fits x to `out_channels` when they are not its own.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, body: nn.Module):
        super().__init__()
        self.body = body
        fits = in_channels == out_channels
        self.shortcut = nn.Identity() if fits else ConvBNAct(in_channels, out_channels, 1, act=None)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return self.act(y)


def basic(channels: int) -> Residual:
    """Residual unit of two 3x3 convolutions. Cost: H*W * 18 * channels**2 multiply-adds."""
    return Residual(channels, channels, nn.Sequential(
        ConvBNAct(channels, channels, 3), ConvBNAct(channels, channels, 3, act=None)))


def bottleneck(in_channels: int, out_channels: int) -> Residual:
    """Residual unit of 1x1, 3x3 and 1x1 convolutions; the 3x3 works on a quarter of `out_channels`."""
    hidden = out_channels // 4
    return Residual(in_channels, out_channels, nn.Sequential(
        ConvBNAct(in_channels, hidden, 1), ConvBNAct(hidden, hidden, 3), ConvBNAct(hidden, out_channels, 1, act=None)))


class Exchange(nn.Module):
    """Each branch becomes the sum of all branches, brought to its resolution and channels (sec. III-B, Figure 3).

    Shape: maps (N, channels[b], ceil(H/2**b), ceil(W/2**b)), fine to coarse -> the same.
    From finer to coarser lead 3x3 convolutions of stride 2, one for each halving; from coarser to finer a
    1x1 convolution and the nearest pixel. Only the sum is activated.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        branches = range(len(channels))
        self.paths = nn.ModuleList(nn.ModuleList(self._path(channels, source, target) for source in branches)
                                   for target in branches)
        self.act = nn.ReLU(inplace=True)

    @staticmethod
    def _path(channels: list[int], source: int, target: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return ConvBNAct(channels[source], channels[target], 1, act=None)
        halvings = [ConvBNAct(channels[source], channels[source], 3, stride=2) for _ in range(target - source - 1)]
        return nn.Sequential(*halvings, ConvBNAct(channels[source], channels[target], 3, stride=2, act=None))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.act(self._sum(maps, target)) for target in range(len(maps))]

    def _sum(self, maps: list[Tensor], target: int) -> Tensor:
        size, total = maps[target].shape[2:], None
        for source, path in enumerate(self.paths[target]):
            y = path(maps[source])
            if source > target:
                y = F.interpolate(y, size, mode="nearest")
            total = y if total is None else total + y
        return total


class ParallelModule(nn.Module):
    """Residual units in each branch, then an exchange (sec. III-A, III-B). Shapes stay."""

    def __init__(self, channels: list[int], units: int):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(basic(c) for _ in range(units))) for c in channels)
        self.exchange = Exchange(channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return self.exchange([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


class ParallelStage(nn.Module):
    """Open a branch at half the coarsest resolution, then run the modules of the stage.

    Shape: maps with `in_channels`, fine to coarse -> one map more, with `channels`.
    """

    def __init__(self, in_channels: list[int], channels: list[int], stage: Stage):
        super().__init__()
        self.entrances = nn.ModuleList(nn.Identity() if before == c else ConvBNAct(before, c, 3)
                                       for before, c in zip(in_channels, channels[:-1], strict=True))
        self.entrances.append(ConvBNAct(in_channels[-1], channels[-1], 3, stride=2))
        self.body = nn.Sequential(*(ParallelModule(channels, stage.units) for _ in range(stage.modules)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [*maps, maps[-1]]  # the new branch starts from the coarsest map
        return self.body([entrance(x) for entrance, x in zip(self.entrances, maps, strict=True)])


class HRNetTrunk(nn.Module):
    """The main body (sec. III-D), on which heads for any task can stand.

    Images (N, in_channels, H, W), for H and W from 32 pixels -> `features`, four maps, fine to coarse, of
    `channels`, 2, 4 and 8 times `channels`, and 1/4, 1/8, 1/16 and 1/32 of the image's side, rounded up.
    `self.channels` lists their channels. `first` is the number of channels of the first stage.
    """

    def __init__(self, channels: int, stages: tuple[Stage, ...] = STAGES, in_channels: int = 3, *, first: int = 256):
        super().__init__()
        check_options(num_classes=1, in_channels=in_channels)  # a trunk has no classes
        if not isinstance(channels, int) or channels < 1:
            raise ValueError(f"channels, those of the finest map, must be a positive integer, got {channels!r}")
        self.in_channels = in_channels
        self.stem = nn.Sequential(ConvBNAct(in_channels, 64, 3, stride=2), ConvBNAct(64, 64, 3, stride=2))
        inputs = [64] + [first] * (stages[0].units - 1)
        self.blocks = nn.ModuleList([nn.Sequential(*(bottleneck(c, first) for c in inputs))])
        before = [first]
        for stage in stages[1:]:
            self.channels = [channels * 2**branch for branch in range(stage.branches)]
            self.blocks.append(ParallelStage(before, self.channels, stage))
            before = self.channels

    def features(self, x: Tensor) -> list[Tensor]:
        check_images(self, x, smallest=32)
        first, *stages = self.blocks
        maps = [first(self.stem(x))]
        for stage in stages:
            maps = stage(maps)
        return maps


class ClassificationHead(nn.Module):
    """Widen each map and carry the fine ones down to the coarsest (Appendix B, Figure 11).

    Shape: four maps -> (N, 2048, ceil(H/32), ceil(W/32)) for an image of H x W.
    """

    def __init__(self, channels: list[int]):
        super().__init__()
        self.widen = nn.ModuleList(bottleneck(c, wide) for c, wide in zip(channels, HEAD, strict=True))
        self.down = nn.ModuleList(self._with_bias(fine, coarse, 3, stride=2)
                                  for fine, coarse in zip(HEAD[:-1], HEAD[1:], strict=True))
        self.last = self._with_bias(HEAD[-1], 2048, 1)

    @staticmethod
    def _with_bias(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def forward(self, maps: list[Tensor]) -> Tensor:
        first, *others = self.widen
        y = first(maps[0])
        for widen, down, x in zip(others, self.down, maps[1:], strict=True):
            y = widen(x) + down(y)
        return self.last(y)


class HRNet(HRNetTrunk):
    """HRNet-W`channels`-C: images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels."""

    def __init__(self, channels: int, stages: tuple[Stage, ...] = STAGES, num_classes: int = 1000,
                 in_channels: int = 3, *, first: int = 256):
        check_options(num_classes, in_channels)
        super().__init__(channels, stages, in_channels, first=first)
        self.head = ClassificationHead(self.channels)
        self.classifier = nn.Linear(2048, num_classes)
        initialise(self)
        self.classifier.reset_parameters()  # the official code leaves it as PyTorch makes it

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)).mean(dim=(2, 3)))  # mean over pixels: (N, 2048)


@register(ModelCard(
    family="HRNet", paper="Deep High-Resolution Representation Learning for Visual Recognition", arxiv="1908.07919",
    year=2019, chapter="11", table="Table XV", reference="timm hrnet_w18",
    published_params_m=21.3, published_macs_m=3990, published_top1=76.9,
    counted_params=21_299_004, counted_macs=4_283_537_072,
    note="The authors' counter divides by 2**30: 4,283.5 M multiply-adds are its 3.99 G. hr_cls_net of light_cnns has "
         "the widths of the dictionary that it is given, and a bias, which the BatchNorm after it cancels, in each "
         "3x3 convolution of the branches."),
    aliases=("hr_cls_net",))
def hrnet_w18(num_classes: int = 1000, in_channels: int = 3) -> HRNet:
    """HRNet-W18-C, untrained."""
    return HRNet(18, STAGES, num_classes, in_channels)


@register(ModelCard(
    family="HRNet", paper="Deep High-Resolution Representation Learning for Visual Recognition", arxiv="1908.07919",
    year=2019, chapter="11", table="README of HRNet/HRNet-Image-Classification",
    reference="timm hrnet_w18_small", published_params_m=13.2, published_macs_m=1490, published_top1=72.3,
    counted_params=13_187_464, counted_macs=1_601_508_352,
    note="The authors' counter divides by 2**30: 1,601.5 M multiply-adds are its 1.49 G. In spite of its name, "
         "its finest branch has 16 channels. The paper does not have it."))
def hrnet_w18_small(num_classes: int = 1000, in_channels: int = 3) -> HRNet:
    """HRNet-W18-C-Small-v1 of the official code, untrained."""
    return HRNet(16, SMALL_V1, num_classes, in_channels, first=128)


@register(ModelCard(
    family="HRNet", paper="Deep High-Resolution Representation Learning for Visual Recognition", arxiv="1908.07919",
    year=2019, chapter="11", table="README of HRNet/HRNet-Image-Classification",
    reference="timm hrnet_w18_small_v2", published_params_m=15.6, published_macs_m=2420, published_top1=75.1,
    counted_params=15_597_464, counted_macs=2_595_712_864,
    note="The authors' counter divides by 2**30: 2,595.7 M multiply-adds are its 2.42 G. The paper does not have it."))
def hrnet_w18_small_v2(num_classes: int = 1000, in_channels: int = 3) -> HRNet:
    """HRNet-W18-C-Small-v2 of the official code, untrained."""
    return HRNet(18, SMALL_V2, num_classes, in_channels)


@register(ModelCard(
    family="HRNet", paper="Deep High-Resolution Representation Learning for Visual Recognition", arxiv="1908.07919",
    year=2019, chapter="11", table="README of HRNet/HRNet-Image-Classification",
    reference="timm hrnet_w32", published_params_m=41.2, published_macs_m=8310, published_top1=78.5,
    counted_params=41_232_680, counted_macs=8_921_133_056,
    note="The authors' counter divides by 2**30: 8,921.1 M multiply-adds are its 8.31 G. The paper classifies with "
         "W18, W30 and W40."))
def hrnet_w32(num_classes: int = 1000, in_channels: int = 3) -> HRNet:
    """HRNet-W32-C, untrained."""
    return HRNet(32, STAGES, num_classes, in_channels)
