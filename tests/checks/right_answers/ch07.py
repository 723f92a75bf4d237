"""Right answers to the exercises of chapter 07, each in another style."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import BNPReLU, ConvBNPReLU
from lwcourse.models.segmentation.espnet_v1 import EPS, ESP

RATES = (1, 2, 4, 8, 16)


class Base(nn.Module):
    """Five branches, in the order of their rates; `fused` gives the maps that are joined."""

    rates = RATES

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        d = out_channels // 5
        side = 3 if stride == 2 else 1
        self.small = nn.Conv2d(in_channels, d, side, stride=stride, padding=side // 2, bias=False)
        self.large = nn.ModuleDict({f"rate {rate}": nn.Conv2d(d, d if rate > 1 else out_channels - 4 * d, 3,
                                                              padding="same", dilation=rate, bias=False)
                                    for rate in self.rates})
        self.end = BNPReLU(out_channels, EPS)
        self.same = (stride, in_channels) == (1, out_channels)

    def maps(self, y):
        return [self.large[f"rate {rate}"](y) for rate in RATES]

    def fused(self, maps):
        for k in range(2, 5):
            maps[k] = maps[k] + maps[k - 1]
        return torch.cat(maps, dim=1)

    def forward(self, x):
        y = self.fused(self.maps(self.small(x)))
        return self.end(x + y) if self.same else self.end(y)


class FromLarge(Base):
    """Built and called from rate 16 down to 1."""

    rates = RATES[::-1]

    def maps(self, y):
        return [self.large[f"rate {rate}"](y) for rate in RATES[::-1]][::-1]


class Cumulative(Base):
    """cumsum over a stack, and one flatten."""

    def fused(self, maps):
        return torch.cat((maps[0], torch.stack(maps[1:], dim=1).cumsum(dim=1).flatten(1, 2)), dim=1)


class InPlace(Base):
    """Adds in place, along the list and for the shortcut."""

    def fused(self, maps):
        for before, after in zip(maps[1:], maps[2:], strict=False):
            after += before
        return torch.cat(maps, 1)

    def forward(self, x):
        y = self.fused(self.maps(self.small(x)))
        if self.same:
            y.add_(x)
        return self.end(y)


class WrittenOut(Base):
    """Each sum calls its branches again."""

    def fused(self, y):
        a, b, c, d, e = (self.large[f"rate {rate}"] for rate in RATES)
        return torch.cat([a(y), b(y), b(y) + c(y), b(y) + c(y) + d(y), b(y) + c(y) + d(y) + e(y)], 1)

    def maps(self, y):
        return y


class Padded(Base):
    """Pads by F.pad; its convolutions have no padding."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        for conv in self.large.values():
            conv.padding = 0

    def maps(self, y):
        return [self.large[f"rate {rate}"](F.pad(y, [rate] * 4)) for rate in RATES]


class Functional(nn.Module):
    """No convolution as a layer, BatchNorm and PReLU as layers of PyTorch."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        d, self.stride = out_channels // 5, stride
        side = 1 if stride == 1 else 3
        self.first = nn.Parameter(torch.randn(d, in_channels, side, side) / 4)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(n, d, 3, 3) / 4)
                                        for n in (out_channels - 4 * d, d, d, d, d))
        self.norm, self.act = nn.BatchNorm2d(out_channels, EPS), nn.PReLU(out_channels)
        self.same = stride == 1 and in_channels == out_channels

    def forward(self, x):
        y = F.conv2d(x, self.first, stride=self.stride, padding=self.first.shape[-1] // 2)
        total, maps = 0, []
        for rate, weight in zip(RATES, self.weights, strict=True):
            z = F.conv2d(y, weight, padding=rate, dilation=rate)
            total = z if rate <= 2 else total + z
            maps.append(total)
        y = torch.cat(maps, 1)
        return self.act(self.norm(x + y if self.same else y))


def by_set(confusion):
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    classes = union.nonzero().flatten()
    return (confusion.diag()[classes] / union[classes]).mean()


def by_loop(confusion):
    values = []
    for k in range(confusion.shape[0]):
        hit = confusion[k, k].item()
        union = confusion[k].sum().item() + confusion[:, k].sum().item() - hit
        if union:
            values.append(hit / union)
    return torch.tensor(values).mean()


def by_nanmean(confusion):
    both = confusion.diagonal()
    return torch.nanmean(both / (confusion.sum(0) + confusion.sum(1) - both))


def by_numpy(confusion):
    c = confusion.numpy().astype(float)
    union = c.sum(0) + c.sum(1) - np.diag(c)
    return torch.tensor((np.diag(c)[union > 0] / union[union > 0]).mean())


def by_errors(confusion):
    hit = torch.eye(len(confusion), dtype=torch.bool)
    wrong = confusion.masked_fill(hit, 0)
    union = confusion[hit] + wrong.sum(0) + wrong.sum(1)
    return confusion[hit].double().div(union.clamp(min=1)).sum() / union.count_nonzero()


class MeanIoU:
    """An object that can be called."""

    def __call__(self, confusion):
        both = torch.einsum("ii->i", confusion.float())
        iou = both / (torch.einsum("ij->i", confusion) + torch.einsum("ij->j", confusion) - both)
        return iou[~iou.isnan()].mean()


SHARES = {"ESPNet, fused": 33 / 33**2, "ESPNet, not fused": 9 / 33**2, "ESPNetv2, fused": 33 / 81,
          "ESPNetv2, not fused": 9 / 81}


class Streets(nn.Module):
    """ESP modules at a quarter and an eighth of the side, and logits of both, summed."""

    def __init__(self, stem=16, quarter=40, eighth=60, deep=2):
        super().__init__()
        self.stem = ConvBNPReLU(3, stem, 3, stride=2)
        self.quarter = nn.Sequential(ESP(stem, quarter, 2), ESP(quarter, quarter))
        self.eighth = nn.Sequential(ESP(quarter, eighth, 2), *[ESP(eighth, eighth) for _ in range(deep)])
        self.heads = nn.ModuleList([nn.Conv2d(quarter, 8, 1), nn.Conv2d(eighth, 8, 1)])

    def forward(self, x):
        a = self.quarter(self.stem(x))
        fine, coarse = self.heads[0](a), self.heads[1](self.eighth(a))
        both = fine + F.interpolate(coarse, fine.shape[2:], mode="bilinear")
        return F.interpolate(both, x.shape[2:], mode="bilinear")


class Stacked(nn.Module):
    """The kernels of the rates 2 to 16 are one parameter."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        d, k = out_channels // 5, 2 * stride - 1
        self.adds = stride == 1 and in_channels == out_channels
        self.reduce = nn.Conv2d(in_channels, d, k, stride, k // 2, bias=False)
        self.first = nn.Conv2d(d, out_channels - 4 * d, 3, padding=1, bias=False)
        self.kernels = nn.Parameter(torch.randn(4, d, d, 3, 3) / 10)
        self.norm = BNPReLU(out_channels, EPS)

    def forward(self, x):
        y = self.reduce(x)
        maps = [F.conv2d(y, kernel, padding=rate, dilation=rate)
                for rate, kernel in zip((2, 4, 8, 16), self.kernels, strict=True)]
        y = torch.cat([self.first(y), *torch.stack(maps).cumsum(0)], 1)
        return self.norm(y + x if self.adds else y)


RIGHT = {
    "07.1": {"same padding": lambda: Base, "large rates first": lambda: FromLarge, "cumsum": lambda: Cumulative,
             "in place": lambda: InPlace, "sums written out": lambda: WrittenOut, "F.pad": lambda: Padded,
             "functions": lambda: Functional, "kernels in one parameter": lambda: Stacked},
    "07.2": {"nonzero": lambda: by_set, "a loop": lambda: by_loop, "nanmean": lambda: by_nanmean,
             "numpy": lambda: by_numpy, "from the errors": lambda: by_errors, "an object": MeanIoU},
    "07.3": {
        "fractions": lambda: dict(SHARES),
        "rounded": lambda: {name: float(f"{share:.2g}") for name, share in SHARES.items()},
        "tensors": lambda: {name: torch.tensor(share) for name, share in SHARES.items()},
        "numpy": lambda: {name: np.float32(share) for name, share in SHARES.items()},
        "arrays of one": lambda: {name: np.array([share]) for name, share in SHARES.items()},
        "further keys": lambda: {"ESPNet": (1, 2, 4, 8, 16), **SHARES},
    },
    "07.4": {
        "two maps": lambda: lambda: Streets(),
        "a class": lambda: Streets,
        "fewer channels, deeper": lambda: lambda: Streets(16, 30, 60, 3),
        "more at the eighth": lambda: lambda: Streets(14, 35, 70, 2),
        "in half precision before": lambda: lambda: Streets().double().float(),
        "frozen layers of PyTorch's default": lambda: lambda: nn.Sequential(Streets()),
    },
}

SLOW = {("07.4", name) for name in list(RIGHT["07.4"])[1:]}
