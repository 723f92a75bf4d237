"""Chapter 08: two small networks for digits in photographs, alike but for one place, where one has a MobileViT block
and the other inverted residuals with about as many parameters; and attention with LeViT's biases for plain digits."""
from functools import partial

from torch import nn

from lwcourse.layers import ConvBNAct
from lwcourse.learned import Learned
from lwcourse.models.levit import Attention, ChannelsLast, Pair
from lwcourse.models.mobilevit import InvertedResidual, MobileViTBlock


def middle(kind: str) -> nn.Module:
    """The part that is exchanged, (N, 16, 16, 16) -> the same; `kind` is "hybrid" or "plain"."""
    if kind == "hybrid":
        return MobileViTBlock(16, 32, depth=1, dropout=0.0)
    return nn.Sequential(*(InvertedResidual(16, 16, 1, expand) for expand in (8, 8, 9)))


def photo_network(kind: str) -> nn.Sequential:
    """(N, 3, 32, 32) -> (N, 10), with `middle(kind)` on a map of 16 x 16."""
    return nn.Sequential(
        ConvBNAct(3, 16, 3, stride=2, act=nn.SiLU),
        middle(kind),
        InvertedResidual(16, 32, 2, 4),
        InvertedResidual(32, 32, 1, 4),
        ConvBNAct(32, 128, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def levit_network() -> nn.Sequential:
    """(N, 3, 16, 16) -> (N, 10): one convolution, then attention with biases and an MLP on a map of 8 x 8."""
    pair = Pair(Attention(32, 32, key=8, heads=4, side=8), 32, drop_rate=0.0)
    return nn.Sequential(
        ConvBNAct(3, 32, 3, stride=2, act=nn.SiLU),
        ChannelsLast(pair),
        ConvBNAct(32, 96, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


PHOTO = {"data": "photo_digits", "loading": {"copies": 8},
         "settings": {"epochs": 7, "lr": 0.1, "batch_size": 64, "seed": 0}}

NETWORKS = [
    Learned(name="08.hybrid", build=partial(photo_network, "hybrid"), **PHOTO),
    Learned(name="08.plain", build=partial(photo_network, "plain"), **PHOTO),
    Learned(name="08.levit", build=levit_network, data="digits", loading={"image_size": 16}, least=0.9,
            settings={"epochs": 20, "lr": 0.1, "batch_size": 32, "seed": 0}),
]
