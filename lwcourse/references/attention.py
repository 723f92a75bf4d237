"""What MobileNetV2 with an attention layer must equal: torchvision's, into which a layer of another hand is put.

SE, ECA and coordinate attention are torchvision's and timm's. No package has the other two, so they are written
here from the formulas of their papers, step by step and without regard to memory.
"""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lwcourse.references.builders import Reference, torchvision_model


class TripletFormula(nn.Module):
    """Rotate to Attend, sec. 3.2: turn the map on its side, gate it there, turn it back; the mean of three."""

    TURNS = ((0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 2, 3))  # each is its own opposite

    def __init__(self, kernel_size: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 1, kernel_size, padding="same", bias=False) for _ in self.TURNS)
        self.norms = nn.ModuleList(nn.BatchNorm2d(1) for _ in self.TURNS)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for turn, conv, norm in zip(self.TURNS, self.convs, self.norms, strict=True):
            turned = x.permute(turn)
            pooled = torch.cat([turned.max(dim=1, keepdim=True).values, turned.mean(dim=1, keepdim=True)], dim=1)
            total += (turned * norm(conv(pooled)).sigmoid()).permute(turn)
        return total / 3


class ShuffleFormula(nn.Module):
    """SA-Net, sec. 3: equations 1 to 3 group by group, then a channel shuffle of two groups."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.groups, half = groups, channels // groups // 2
        self.w1, self.b1, self.w2, self.b2 = (nn.Parameter(torch.randn(1, half, 1, 1)) for _ in range(4))
        self.norm = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        gated = []
        for group in x.chunk(self.groups, dim=1):
            first, second = group.chunk(2, dim=1)
            means = nn.functional.adaptive_avg_pool2d(first, 1)
            gated += [first * torch.sigmoid(self.w1 * means + self.b1),
                      second * torch.sigmoid(self.w2 * self.norm(second) + self.b2)]
        return nn.functional.channel_shuffle(torch.cat(gated, dim=1), 2)


def before_projection(layer: Callable[[int], nn.Module], **options) -> Callable[[int], nn.Module]:
    """torchvision's MobileNetV2 with `layer(channels)` on the expanded channels of every block that expands."""
    def build(num_classes: int) -> nn.Module:
        network = torchvision_model("mobilenet_v2", **options)(num_classes)
        for block in network.features[2:-1]:
            *before, project, norm = block.conv
            block.conv = nn.Sequential(*before, layer(project.in_channels), project, norm)
        return network
    return build


def after_projection(layer: Callable[[int, int], nn.Module], **options) -> Callable[[int], nn.Module]:
    """torchvision's MobileNetV2 with `layer(channels, number of the block)` at the end of every block."""
    def build(num_classes: int) -> nn.Module:
        network = torchvision_model("mobilenet_v2", **options)(num_classes)
        for number, block in enumerate(network.features[1:-1]):
            block.conv = nn.Sequential(*block.conv, layer(block.out_channels, number))
        return network
    return build


def squeeze_excitation(channels: int) -> nn.Module:
    from torchvision.ops import SqueezeExcitation
    return SqueezeExcitation(channels, channels // 24)


def efficient_channel_attention(channels: int, number: int) -> nn.Module:
    from timm.layers import EcaModule
    return EcaModule(kernel_size=1 if number < 10 else 3)  # ten blocks have 64 channels or fewer


def coordinate_attention(channels: int) -> nn.Module:
    from timm.layers.coord_attn import CoordAttn
    return CoordAttn(channels, rd_channels=max(8, channels // 32), bias=True)


def shuffle_attention(channels: int) -> nn.Module:
    return ShuffleFormula(channels, groups=8)


def triplet_attention(kernel_size: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, number: TripletFormula(kernel_size)


SE = "torchvision mobilenet_v2 with SqueezeExcitation"
ECA = "torchvision mobilenet_v2 with timm EcaModule"
CA = "torchvision mobilenet_v2 with timm CoordAttn"
SA = "torchvision mobilenet_v2 with the formulas of SA-Net"
TRIPLET = "torchvision mobilenet_v2 with the formulas of triplet attention"
CA_NOTE = "timm's defaults have a wider bottleneck and no biases"

REFERENCES = {
    "mobilenet_v2_se": [
        Reference(SE, {}, before_projection(squeeze_excitation)),
        Reference(SE, {"width": 0.5}, before_projection(squeeze_excitation, width_mult=0.5)),
        Reference(SE, {"width": 1.4}, before_projection(squeeze_excitation, width_mult=1.4)),
    ],
    "mobilenet_v2_eca": [
        Reference(ECA, {}, after_projection(efficient_channel_attention)),
        Reference(ECA, {"width": 0.35}, after_projection(efficient_channel_attention, width_mult=0.35)),
        Reference(ECA, {"width": 1.4}, after_projection(efficient_channel_attention, width_mult=1.4)),
    ],
    "mobilenet_v2_ca": [
        Reference(CA, {}, before_projection(coordinate_attention), note=CA_NOTE),
        Reference(CA, {"width": 0.5}, before_projection(coordinate_attention, width_mult=0.5), note=CA_NOTE),
        Reference(CA, {"width": 1.4}, before_projection(coordinate_attention, width_mult=1.4), note=CA_NOTE),
    ],
    "mobilenet_v2_sa": [
        Reference(SA, {}, before_projection(shuffle_attention)),
        Reference(SA, {"width": 0.75}, before_projection(shuffle_attention, width_mult=0.75)),
        Reference(SA, {"width": 1.4}, before_projection(shuffle_attention, width_mult=1.4)),
    ],
    "mobilenet_v2_triplet": [
        Reference(TRIPLET, {}, after_projection(triplet_attention(7))),
        Reference(TRIPLET, {"kernel_size": 3}, after_projection(triplet_attention(3))),
        Reference(TRIPLET, {"width": 0.5}, after_projection(triplet_attention(7), width_mult=0.5)),
    ],
}

GOLDEN = {
    "mobilenet_v2_eca": {"mbv2_eca": {}},
    "mobilenet_v2_ca": {"mbv2_ca": {}},
    "mobilenet_v2_triplet": {"mbv2_triplet_k7": {}},
}
