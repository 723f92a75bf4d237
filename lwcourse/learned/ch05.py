"""Chapter 05: one small network five times, each time with another gate, and once without; trained alike."""
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from lwcourse.layers import (
    ConvBNAct,
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
)
from lwcourse.learned import Learned
from lwcourse.models.mobilenet_v2 import InvertedResidual

Gate = Callable[[int], nn.Module]
GATES: dict[str, Gate] = {
    "none": lambda channels: nn.Identity(),
    "SE": partial(SqueezeExcitation, hidden=4),
    "ECA": EfficientChannelAttention,
    "CA": CoordinateAttention,
    "SA": partial(ShuffleAttention, groups=8),
    "Triplet": partial(TripletAttention, kernel_size=3),
}


class GatedResidual(InvertedResidual):
    """An inverted residual with a gate, `attention`, between filter and projection.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, gate: Gate):
        super().__init__(in_channels, out_channels, stride, expand)
        self.attention = gate(expand * in_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


class GatedNet(nn.Module):
    """A stem that halves the map, five gated blocks, and a mean: (N, 3, H, W) -> (N, 10)."""

    TABLE = ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1))  # channels, stride

    def __init__(self, gate: Gate):
        super().__init__()
        channels = 16
        self.stem = ConvBNAct(3, channels, 3, stride=2, act=nn.ReLU6)
        blocks = []
        for out_channels, stride in self.TABLE:
            blocks.append(GatedResidual(channels, out_channels, stride, 4, gate))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNAct(channels, 4 * channels, 1, act=nn.ReLU6)
        self.classifier = nn.Linear(4 * channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.blocks(self.stem(x))).mean(dim=(2, 3)))


NETWORKS = [Learned(name=f"05.{kind.lower()}", build=partial(GatedNet, gate), data="photo_digits",
                    loading={"image_size": 32, "copies": 6}, settings={"epochs": 6, "lr": 0.1, "batch_size": 64,
                                                                       "seed": 0})
            for kind, gate in GATES.items()]
