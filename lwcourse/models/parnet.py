"""Non-deep Networks.

Paper:   Goyal et al., NeurIPS 2022, https://arxiv.org/abs/2110.07641
Lesson:  notebooks/09_cpu_networks.ipynb
Idea:    12 layers are enough when three streams, one a resolution, work in parallel and each block
         trains with several branches that fold into one 3x3 convolution afterwards.
Differs: the doubled gate of downsampling blocks, the order of the fused channels and the dropout before the
         classifier are of the official code. That stops at a map with an odd side; here, zeros complete it.
"""
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ChannelShuffle, ConvBNAct, check_images, check_options
from lwcourse.registry import ModelCard, register

IMAGE, STEM, STREAM_1, STREAM_2, STREAM_3, LAST = range(6)  # whose channels a step reads or writes


class Step(NamedTuple):
    """One step, in order of computation."""
    source: int         # has the channels that come in
    target: int         # has those that go out
    stride: int = 1
    repeats: int = 0    # blocks of a stream; 0 for a single downsampling or fusion block
    fuses: bool = False  # takes the map of the finer stream as well


STEPS = (                                             # Figure 2a; side in pixels for a 224 x 224 image
    Step(IMAGE,    STEM,     stride=2),               # 224 -> 112
    Step(STEM,     STREAM_1, stride=2),               # 112 ->  56
    Step(STREAM_1, STREAM_2, stride=2),               #  56 ->  28
    Step(STREAM_2, STREAM_3, stride=2),               #  28 ->  14
    Step(STREAM_1, STREAM_1, repeats=4),              #  56 ->  56
    Step(STREAM_1, STREAM_2, stride=2),               #  56 ->  28
    Step(STREAM_2, STREAM_2, repeats=5),              #  28 ->  28
    Step(STREAM_2, STREAM_3, stride=2, fuses=True),   #  28 ->  14
    Step(STREAM_3, STREAM_3, repeats=5),              #  14 ->  14
    Step(STREAM_3, STREAM_3, stride=1, fuses=True),   #  14 ->  14
    Step(STREAM_3, LAST,     stride=2),               #  14 ->   7
)


class RepConv(nn.Module):
    """Sum of a 3x3 and a 1x1 convolution, each with BatchNorm, which `fuse` turns into one 3x3 convolution.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    With stride 2 the 1x1 convolution reads means of 2 x 2 pixels. Cost in training form: H_out * W_out *
    10 * in_channels * out_channels / groups multiply-adds; fused, 9 instead of 10.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, groups: int = 1):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        # One row and column of zeros at the end complete the last pair of an odd side; of an even one, they are left.
        self.shrink = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(2)) if stride == 2 else nn.Identity()
        self.pointwise = ConvBNAct(in_channels, out_channels, 1, groups=groups, act=None)
        self.conv = ConvBNAct(in_channels, out_channels, 3, stride, groups=groups, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.shrink(x)) + self.conv(x)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """A 3x3 convolution with bias that computes what this module does in eval mode."""
        conv = self.conv.conv
        kernel, bias = folded(self.conv)
        small, small_bias = folded(self.pointwise)
        if conv.stride == (2, 2):  # the mean of 2 x 2 pixels is a kernel too: it covers the last 2 x 2 of the 3x3
            small = F.pad((small / 4).expand(-1, -1, 2, 2), (1, 0, 1, 0))
        else:
            small = F.pad(small, (1, 1, 1, 1))
        fused = nn.utils.skip_init(nn.Conv2d, conv.in_channels, conv.out_channels, 3, conv.stride, 1,
                                   groups=conv.groups, device=kernel.device, dtype=kernel.dtype)
        fused.weight.copy_(kernel + small)
        fused.bias.copy_(bias + small_bias)
        return fused


def folded(layer: ConvBNAct) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that does the work of `layer`'s own and its BatchNorm in eval mode."""
    scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
    return layer.conv.weight * scale[:, None, None, None], layer.bn.bias - layer.bn.running_mean * scale


class Gate(nn.Module):
    """One number in [0, 1] a channel, from the means of all channels of its group; a single layer, to stay shallow.

    Shape: (N, in_channels, H, W) -> (N, out_channels, 1, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, *, groups: int = 1):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x.mean(dim=(2, 3), keepdim=True)))


class ParNetBlock(nn.Module):
    """RepVGG-SSE: a re-parameterised convolution beside a gated shortcut (Figure 2b: skip-squeeze-excitation).

    Shape: (N, channels, H, W) -> the same.
    """

    def __init__(self, channels: int, *, act: Callable[..., nn.Module] = nn.SiLU):
        super().__init__()
        self.shortcut = nn.BatchNorm2d(channels)
        self.conv = RepConv(channels, channels)
        self.gate = Gate(channels, channels)
        self.act = act(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        return self.act(self.conv(x) + shortcut * self.gate(shortcut))


class DownsamplingBlock(nn.Module):
    """A re-parameterised convolution times a gate that is computed from the same input (Downsampling Block).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    The gate is doubled, so that it starts near 1. With groups, the channels are shuffled at the end.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 2, *, groups: int = 1,
                 act: Callable[..., nn.Module] = nn.SiLU):
        super().__init__()
        self.conv = RepConv(in_channels, out_channels, stride, groups=groups)
        self.gate = Gate(in_channels, out_channels, groups=groups)
        self.act = act(inplace=True)
        self.mix = ChannelShuffle(groups) if groups > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.act(self.conv(x) * (2 * self.gate(x))))


class FusionBlock(nn.Module):
    """A downsampling block in two groups on two maps, whose channels alternate (Fusion Block).

    Shape: two (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, act: Callable[..., nn.Module] = nn.SiLU):
        super().__init__()
        self.norm, self.norm_finer = nn.BatchNorm2d(in_channels), nn.BatchNorm2d(in_channels)
        self.mix = ChannelShuffle(2)
        self.block = DownsamplingBlock(2 * in_channels, out_channels, stride, groups=2, act=act)

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        return self.block(self.mix(torch.cat([self.norm(x), self.norm_finer(finer)], dim=1)))


class ParNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `channels` are those of the three streams and of the last block. `fuse` gives the form for inference.
    """

    def __init__(self, channels: tuple[int, int, int, int], num_classes: int = 1000, in_channels: int = 3, *,
                 act: Callable[..., nn.Module] = nn.SiLU, dropout: float = 0.0):
        super().__init__()
        check_options(num_classes, in_channels)
        if len(channels) != 4 or any(c < 2 or c % 2 for c in channels):  # fusion works in two groups
            raise ValueError(f"channels must be four even numbers, of three streams and the last block, got {channels}")
        self.in_channels = in_channels
        sizes = (in_channels, min(64, channels[0]), *channels)
        self.blocks = nn.ModuleList()
        for step in STEPS:
            source, target = sizes[step.source], sizes[step.target]
            if step.repeats:
                self.blocks.append(nn.Sequential(*(ParNetBlock(target, act=act) for _ in range(step.repeats))))
            else:
                block = FusionBlock if step.fuses else DownsamplingBlock
                self.blocks.append(block(source, target, step.stride, act=act))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels[-1], num_classes))
        # The official code leaves all weights as PyTorch makes them.

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        stem, to_1, to_2, to_3, stream_1, down, stream_2, fusion_2, stream_3, fusion_3, last = self.blocks
        x_1 = to_1(stem(x))
        x_2 = to_2(x_1)
        x_3 = to_3(x_2)
        y = down(stream_1(x_1))         # the three streams do not read each other: they could run at once
        y = fusion_2(stream_2(x_2), y)
        y = last(fusion_3(stream_3(x_3), y))
        return self.classifier(y.mean(dim=(2, 3)))  # mean over pixels: (N, channels of the last block)

    def fuse(self) -> "ParNet":
        """A new network in eval mode with the same output, whose 1x1 branches and BatchNorms are in the 3x3 kernels.

        The BatchNorm of a gated shortcut and those before a fusion stay: what follows them is no convolution.
        """
        fused = deepcopy(self).eval()
        for module in fused.modules():
            if isinstance(module, ParNetBlock | DownsamplingBlock) and isinstance(module.conv, RepConv):
                module.conv = module.conv.fuse()
        return fused


@register(ModelCard(
    family="ParNet", paper="Non-deep Networks", arxiv="2110.07641", year=2021, chapter="09",
    table="the table of results on ImageNet", published_params_m=19.2, published_macs_m=4850, published_top1=75.19,
    reference="official code, parnet_s",
    counted_params=20_983_848, counted_macs=5_373_907_136,
    note="The paper counts the network fused for inference, and two operations a multiply-add: 9.7 G. Fused, ours has "
         "19,177,032 parameters and 4,836.8 M multiply-adds. The released configuration has 92 "
         "channels in the first stream and nests its \"swish\" so that the code takes ReLU; this is the paper's, 96 "
         "and SiLU. light_cnns gives the gates biases, ends in a softmax and halves the map in its last fusion too."))
def parnet_s(num_classes: int = 1000, in_channels: int = 3) -> ParNet:
    """ParNet-S, untrained, in training form; call `fuse` for the form that infers."""
    return ParNet((96, 192, 384, 1280), num_classes, in_channels)


@register(ModelCard(
    family="ParNet", paper="Non-deep Networks", arxiv="2110.07641", year=2021, chapter="09",
    table="the table of results on ImageNet", published_params_m=35.6, published_macs_m=8600, published_top1=76.60,
    reference="official code, parnet_m",
    counted_params=38_953_256, counted_macs=9_534_824_640,
    note="The paper counts the network fused for inference, and two operations a multiply-add: 17.2 G. Fused, ours has "
         "35,576,616 parameters and 8,581.9 M multiply-adds. The released configuration nests "
         "its \"swish\" so that the code takes ReLU; this is the paper's, SiLU."))
def parnet_m(num_classes: int = 1000, in_channels: int = 3) -> ParNet:
    """ParNet-M, untrained, in training form; call `fuse` for the form that infers."""
    return ParNet((128, 256, 512, 2048), num_classes, in_channels)


@register(ModelCard(
    family="ParNet", paper="Non-deep Networks", arxiv="2110.07641", year=2021, chapter="09",
    table="the table of results on ImageNet", published_params_m=54.9, published_macs_m=13350, published_top1=77.66,
    reference="official code, parnet_l",
    counted_params=60_180_008, counted_macs=14_803_691_712,
    note="The paper counts the network fused for inference, and two operations a multiply-add: 26.7 G. Fused, ours has "
         "54,914,824 parameters and 13,324.1 M multiply-adds. The released configuration nests "
         "its \"swish\" so that the code takes ReLU; this is the paper's, SiLU."))
def parnet_l(num_classes: int = 1000, in_channels: int = 3) -> ParNet:
    """ParNet-L, untrained, in training form; call `fuse` for the form that infers."""
    return ParNet((160, 320, 640, 2560), num_classes, in_channels, dropout=0.1)


@register(ModelCard(
    family="ParNet", paper="Non-deep Networks", arxiv="2110.07641", year=2021, chapter="09",
    table="the table of results on ImageNet", published_params_m=85.0, published_macs_m=20750, published_top1=78.55,
    reference="official code, parnet_xl",
    counted_params=93_176_168, counted_macs=23_016_065_472,
    note="The paper counts the network fused for inference, and two operations a multiply-add: 41.5 G. Fused, ours has "
         "84,962,784 parameters and 20,715.6 M multiply-adds. The released configuration nests "
         "its \"swish\" so that the code takes ReLU; this is the paper's, SiLU."))
def parnet_xl(num_classes: int = 1000, in_channels: int = 3) -> ParNet:
    """ParNet-XL, untrained, in training form; call `fuse` for the form that infers."""
    return ParNet((200, 400, 800, 3200), num_classes, in_channels, dropout=0.1)
