"""Chapter 5: what a gate reads, what it lets through of a photograph, and what it costs."""
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse import viz
from lwcourse.data.photographs import photos
from lwcourse.layers import (
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
)
from lwcourse.profile import profile
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, dropdown, slider

__all__ = ["AttentionExplorer"]

KINDS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "SE": lambda channels, reduction, kernel, groups: SqueezeExcitation(channels, max(1, channels // reduction)),
    "ECA": lambda channels, reduction, kernel, groups: EfficientChannelAttention(channels, kernel),
    "CA": lambda channels, reduction, kernel, groups: CoordinateAttention(channels, reduction),
    "SA": lambda channels, reduction, kernel, groups: ShuffleAttention(channels, groups),
    "Triplet": lambda channels, reduction, kernel, groups: TripletAttention(channels, kernel),
}


class AttentionExplorer(Explorer):
    """One attention layer with random weights on edges and colours of a photograph.

    The form of the gate is the layer's own; which value it takes where is chance, since nothing is trained.
    """

    SIDE = 56  # of the map, in pixels

    def __init__(self, kind: str = "CA", channels: int = 96, photo: str = "flower"):
        super().__init__({
            "kind": dropdown("attention", list(KINDS), kind),
            "channels": slider("channels", channels, 16, 256, 16),
            "reduction": dropdown("reduction (SE, CA)", [4, 8, 16, 24, 32], 16),
            "kernel": dropdown("kernel (ECA, Triplet)", [1, 3, 5, 7], 7 if kind == "Triplet" else 3),
            "groups": dropdown("groups (SA)", [1, 2, 4, 8, 16, 64], 8),
            "photo": dropdown("photograph", ["china", "flower"], photo),
        }, self._explore)

    @classmethod
    def _explore(cls, kind: str, channels: int, reduction: int, kernel: int, groups: int,
                 photo: str) -> tuple[viz.Figure, str]:
        picture, x = features(photo, channels, cls.SIDE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = KINDS[kind](channels, reduction, kernel, groups).eval()
            for parameter in layer.parameters():
                nn.init.normal_(parameter, 0.0, 0.6)
        with torch.no_grad():
            gate = layer.attention(x)
        numbers = sum(part.numel() for part in _parts(layer, x))
        figure = viz.attention_maps(picture, {kind: gate})
        cost = profile(layer, x.shape[1:])
        block = cls._block(channels)
        rows = [("", f"{kind}, {channels} channels", "share of the 1×1, 3×3, 1×1 around it"),
                ("parameters", f"{cost.params:,}", f"{cost.params / block[0]:.2%}"),
                ("MACs", f"{cost.macs:,}", f"{cost.macs / block[1]:.2%}"),
                ("different gate numbers", f"{numbers:,}", f"{numbers / x.numel():.2%} of the map's values")]
        return figure, html_table(rows, caption=f"A map of {channels} × {cls.SIDE} × {cls.SIDE}; random weights: look "
                                                "at the form of the gate, not at where it is high.")

    @classmethod
    def _block(cls, channels: int) -> tuple[int, int]:
        """Parameters and MACs of an inverted residual with `channels` inside and a sixth of them outside."""
        outside = max(1, channels // 6)
        weights = channels * (2 * outside + 9)
        return weights + 4 * channels + 2 * outside, cls.SIDE**2 * weights


def _parts(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """The gates as computed, before they are combined."""
    with torch.no_grad():
        if isinstance(layer, ShuffleAttention):
            return layer.gates(*layer.halves(x))
        return layer.gates(x) if hasattr(layer, "gates") else (layer.attention(x),)


@cache
def features(photo: str, channels: int, side: int) -> tuple[Tensor, Tensor]:
    """A photograph (3, 4 * side, 4 * side), and `channels` made of it by hand: colours, and edges in four directions.

    Sobel's filters (1968) in four turns, on each colour and at several scales, then ReLU: (1, channels, side, side).
    """
    picture = getattr(photos(image_size=4 * side), photo)
    sobel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
    diagonal = torch.tensor([[2.0, 1, 0], [1, 0, -1], [0, -1, -2]])
    bank = torch.stack([sign * kernel for kernel in (sobel, sobel.T, diagonal, diagonal.fliplr()) for sign in (1, -1)])
    found: list[Tensor] = []
    scale = 0
    while sum(map(len, found)) < channels:
        small = F.avg_pool2d(picture[None], 2 ** (scale % 3)) if scale % 3 else picture[None]
        edges = F.conv2d(F.pad(small.transpose(0, 1), (1,) * 4, mode="replicate"), bank[:, None]).flatten(0, 1).relu()
        maps = torch.cat([small[0], edges])
        found.append(F.adaptive_avg_pool2d(maps, side).roll(scale, 0))
        scale += 1
    x = torch.cat(found)[:channels]
    return picture, (x / x.amax((1, 2), keepdim=True).clamp(min=1e-3))[None]
