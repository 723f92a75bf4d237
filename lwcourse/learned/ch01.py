"""Chapter 01: three networks of one shape, with standard and with separable convolutions, three seeds each."""
from collections.abc import Callable
from functools import partial

from torch import nn

from lwcourse.layers import ConvBNAct, SeparableConv
from lwcourse.learned import Learned

KINDS = {"standard": (ConvBNAct, 12), "separable": (SeparableConv, 12), "separable_wide": (SeparableConv, 24)}


def small_network(conv: Callable[..., nn.Module], width: int) -> nn.Module:
    """3 x 32 x 32 -> 10 logits; `conv(in_channels, out_channels, kernel, stride)` is every layer but the first."""
    return nn.Sequential(
        ConvBNAct(3, width, 3, stride=2), conv(width, 2 * width, 3, 2), conv(2 * width, 2 * width, 3),
        conv(2 * width, 4 * width, 3, 2), conv(4 * width, 4 * width, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


NETWORKS = [
    Learned(name=f"01.{kind}_{seed}", build=partial(small_network, conv, width), data="photo_digits",
            loading={"copies": 8}, settings={"epochs": 10, "lr": 0.1, "seed": seed}, least=0.85)
    for kind, (conv, width) in KINDS.items() for seed in range(3)]
