"""05.2: coordinate attention."""
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
)
from lwcourse.layers import (
    CoordinateAttention,
)

CA_CASES = (  # (channels, reduction), input shape: 8, 13 (110 / 8 is 13.75) and 8 hidden channels
    ((64, 32), (2, 64, 5, 7)),
    ((110, 8), (2, 110, 5, 7)),
    ((16, 4), (2, 16, 6, 4)),
)


class _Ca(nn.Module):
    """Coordinate attention with the mistakes that its options make."""

    def __init__(self, channels: int, reduction: int, *, hidden: Callable = lambda c, r: max(8, c // r),
                 act: Callable[[Tensor], Tensor] = F.hardswish, norm: str = "after", pool: str = "means",
                 squash: Callable[[Tensor], Tensor] = torch.sigmoid, join: str = "times", means: str = "both",
                 squeezes: int = 1, opens: int = 2, bias: bool = True):
        super().__init__()
        squeezed = hidden(channels, reduction)
        self.squeezes = nn.ModuleList(nn.Conv2d(channels, squeezed, 1, bias=bias) for _ in range(squeezes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels if norm == "before" else squeezed)
                                   for _ in range(squeezes if norm else 0))
        self.opens = nn.ModuleList(nn.Conv2d(squeezed, channels, 1, bias=bias) for _ in range(opens))
        self.act, self.norm, self.pool, self.squash, self.join, self.means = act, norm, pool, squash, join, means

    def squeeze(self, x: Tensor, which: int) -> Tensor:
        conv, norm = self.squeezes[which], self.norms[which] if self.norm else None
        return {"after": lambda: self.act(norm(conv(x))), "before": lambda: self.act(conv(norm(x))),
                "last": lambda: norm(self.act(conv(x))), "unused": lambda: self.act(conv(x)),
                "": lambda: self.act(conv(x))}[self.norm]()

    def pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.pool == "whole map":
            whole = x.mean((2, 3), keepdim=True)
            return whole.expand(-1, -1, x.shape[2], 1), whole.expand(-1, -1, x.shape[3], 1)
        take = {"means": torch.mean, "maxima": torch.amax, "sums": torch.sum}[self.pool]
        return take(x, dim=3, keepdim=True), take(x, dim=2, keepdim=True).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.pooled(x)
        if len(self.squeezes) == 1:
            parts = self.squeeze(torch.cat(parts, dim=2), 0).split(list(x.shape[2:]), dim=2)
        else:
            parts = [self.squeeze(part, which) for which, part in enumerate(parts)]
        rows, columns = parts[0], parts[1].transpose(2, 3)
        if self.means != "both":  # the same half opens both gates, where it broadcasts
            rows = columns = rows if self.means == "rows" else columns
        rows, columns = self.opens[0](rows), self.opens[-1](columns)
        if self.join == "one sigmoid":
            return x * self.squash(rows * columns)
        first, second = self.squash(rows), self.squash(columns)
        return {"times": lambda: x * first * second, "sum": lambda: x * (first + second),
                "mean": lambda: x * (first + second) / 2, "rows": lambda: x * first, "columns": lambda: x * second,
                "shortcut": lambda: x + x * first * second, "alone": lambda: first * second}[self.join]()


CA_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    "the squeezed channels are rounded up; channels // reduction rounds down":
        partial(_Ca, hidden=lambda c, r: max(8, math.ceil(c / r))),
    "the squeezed channels may be fewer than 8: you squeeze to channels // reduction, without the max":
        partial(_Ca, hidden=lambda c, r: c // r),
    "the activation is ReLU; here it is h-swish": partial(_Ca, act=F.relu),
    "the activation is ReLU6; here it is h-swish": partial(_Ca, act=F.relu6),
    "the activation is SiLU (swish); here it is h-swish": partial(_Ca, act=F.silu),
    "the activation after the shared convolution is missing": partial(_Ca, act=lambda x: x),
    "BatchNorm is missing: it follows the shared convolution": partial(_Ca, norm=""),
    "BatchNorm is built but not used": partial(_Ca, norm="unused"),
    "BatchNorm comes before the shared convolution, on the means; the order is convolution, BatchNorm, h-swish":
        partial(_Ca, norm="before"),
    "BatchNorm comes after the activation; the order is convolution, BatchNorm, h-swish": partial(_Ca, norm="last"),
    "rows and columns are squeezed by two convolutions; they share one, so that it sees both": partial(_Ca, squeezes=2),
    "one convolution opens both gates; rows and columns need one each": partial(_Ca, opens=1),
    "no convolution has a bias; all three have one here": partial(_Ca, bias=False),
    "you pool over the whole map: then all rows have one gate, and the place is lost": partial(_Ca, pool="whole map"),
    "the maximum is taken where the mean should be": partial(_Ca, pool="maxima"),
    "rows and columns are summed where their means are asked for": partial(_Ca, pool="sums"),
    "the two gates are added; they multiply each other": partial(_Ca, join="sum"),
    "the mean of the two gates is taken; they multiply each other": partial(_Ca, join="mean"),
    "only one gate, that of the rows, is used": partial(_Ca, join="rows"),
    "only one gate, that of the columns, is used": partial(_Ca, join="columns"),
    "one sigmoid is taken of the product; each gate has its own": partial(_Ca, join="one sigmoid"),
    "row means open both gates; the columns need the means over the rows": partial(_Ca, means="rows"),
    "column means open both gates; the rows need the means over the columns": partial(_Ca, means="columns"),
    "x is added once more after the gates; coordinate attention has no shortcut": partial(_Ca, join="shortcut"),
    "you return the gates alone; x must be multiplied by them": partial(_Ca, join="alone"),
    "the sigmoid is missing: the gates are not held between 0 and 1": partial(_Ca, squash=lambda x: x),
    "the gates are hard sigmoids; here they are sigmoids": partial(_Ca, squash=F.hardsigmoid),
}


@exercise("05.2", title="Coordinate attention", minutes=25, difficulty="hard", expects=a_module_class)
def coordinate_attention(answer: type[nn.Module]) -> str:
    """`answer(channels, reduction)` builds the layer from 1x1 convolutions and one BatchNorm."""
    with naming_mistakes(answer, CA_MISTAKES, CA_CASES):
        compare_blocks(answer, CoordinateAttention, CA_CASES, macs=True, ready_made=["CoordinateAttention"],
                       join="the two means cannot be concatenated as they are: those of the rows, (N, C, H, 1), and of "
                            "the columns, (N, C, 1, W), have their lengths along different axes. Turn one of them "
                            "before, and join along the axis of the lengths")
    return (f"Equal to the course's layer in {len(CA_CASES)} settings, in eval and in training mode, on maps that are "
            "not square.")
