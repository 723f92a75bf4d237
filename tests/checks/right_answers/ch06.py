"""Right answers to the exercises of chapter 06, each in another style."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import Branches, ConvBNAct, tower

SIZES = ("in_channels", "conv1", "reduce3", "conv3", "reduce5", "conv5", "pool")


def conv(before, after, kernel, **norm):
    return nn.Sequential(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False),
                         nn.BatchNorm2d(after, **norm), nn.ReLU(inplace=True))


class ByName(nn.Module):
    """Four attributes, the pooling a function, keywords everywhere."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        self.a = conv(in_channels, conv1, 1)
        self.b0, self.b1 = conv(in_channels, reduce3, 1), conv(reduce3, conv3, 3)
        self.c0, self.c1 = conv(in_channels, reduce5, 1), conv(reduce5, conv5, 5)
        self.d = conv(in_channels, pool, 1)

    def maps(self, x):
        pooled = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        return [self.a(x), self.b1(self.b0(x)), self.c1(self.c0(x)), self.d(pooled)]

    def forward(self, x):
        return torch.cat(tensors=self.maps(x), dim=-3)


class Backwards(ByName):
    """The towers are called from the last to the first."""

    def maps(self, x):
        fourth = self.d(F.max_pool2d(x, 3, 1, 1))
        third = self.c1(self.c0(x))
        second = self.b1(self.b0(x))
        return [self.a(x), second, third, fourth]


class Concatenated(ByName):
    """torch.concat, step by step."""

    def forward(self, x):
        y, *more = self.maps(x)
        for one in more:
            y = torch.concat((y, one), axis=1)
        return y


class IntoSlices(ByName):
    """Writes into a tensor of the input's kind."""

    def forward(self, x):
        maps = self.maps(x)
        ends = np.cumsum([0, *(one.shape[1] for one in maps)]).tolist()
        y = x.new_zeros(len(x), ends[-1], *x.shape[2:])
        for one, start, end in zip(maps, ends, ends[1:], strict=False):
            y[:, start:end] = one
        return y


class WindowMaxima(ByName):
    """The maximum over nine shifted maps."""

    def maps(self, x):
        height, width = x.shape[2:]
        padded = F.pad(x, (1, 1, 1, 1), value=float("-inf"))
        shifted = torch.stack([padded[:, :, i:i + height, j:j + width] for i in range(3) for j in range(3)])
        return [self.a(x), self.b1(self.b0(x)), self.c1(self.c0(x)), self.d(shifted.amax(0))]


class Dictionary(nn.Module):
    """A ModuleDict, and the epsilon of the Inception line."""

    def __init__(self, *sizes):
        super().__init__()
        s = dict(zip(SIZES, sizes, strict=True))
        eps = {"eps": 1e-3}
        self.towers = nn.ModuleDict({
            "one": conv(s["in_channels"], s["conv1"], 1, **eps),
            "three": nn.Sequential(conv(s["in_channels"], s["reduce3"], 1, **eps), conv(s["reduce3"], s["conv3"], 3)),
            "five": nn.Sequential(conv(s["in_channels"], s["reduce5"], 1), conv(s["reduce5"], s["conv5"], 5, **eps)),
            "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(s["in_channels"], s["pool"], 1))})

    def forward(self, x):
        return torch.cat([one(x) for one in self.towers.values()], 1)


class Functional(nn.Module):
    """Parameters and functions, no layers but BatchNorm."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        shapes = [(conv1, in_channels, 1), (reduce3, in_channels, 1), (conv3, reduce3, 3), (reduce5, in_channels, 1),
                  (conv5, reduce5, 5), (pool, in_channels, 1)]
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(a, b, k, k) / (b * k * k) ** 0.5)
                                        for a, b, k in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(a) for a, _, _ in shapes)

    def conv(self, i, x):
        weight = self.weights[i]
        return torch.clamp(self.norms[i](F.conv2d(x, weight, padding=weight.shape[-1] // 2)), min=0)

    def forward(self, x):
        return torch.cat([self.conv(0, x), self.conv(2, self.conv(1, x)), self.conv(4, self.conv(3, x)),
                          self.conv(5, F.max_pool2d(x, 3, 1, 1))], dim=1)


MACS = {"1x7, 7x1": 374_063_104, "7x7": 1_070_104_576, "3x3, 3x3, 3x3": 568_197_120}


class Residual(nn.Module):
    """The wide part begins with scale 0."""

    def __init__(self):
        super().__init__()
        self.detail = nn.Sequential(ConvBNAct(32, 32, 3, groups=32), ConvBNAct(32, 32, 1))
        self.wide, self.scale = ConvBNAct(32, 32, 9, groups=32, act=None), nn.Parameter(torch.zeros(1, 32, 1, 1))

    def forward(self, x):
        y = self.detail(x)
        return F.relu(y + self.wide(y) * self.scale)


class Maximum(nn.Module):
    """Max pooling reads the wide field."""

    def __init__(self):
        super().__init__()
        self.detail, self.wide = tower(32, (16, 1), (16, 3)), ConvBNAct(32, 16, 1)

    def forward(self, x):
        return torch.cat([self.detail(x), self.wide(F.max_pool2d(x, 9, 1, 4))], 1)


class Filters(nn.Module):
    """A depthwise filter without a layer, GELU and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(32, 1, 9, 9) / 9)
        self.norm = nn.BatchNorm2d(32)
        self.mix = ConvBNAct(32, 32, 1)

    def forward(self, x):
        return self.mix(F.gelu(self.norm(F.conv2d(x, self.filter, padding=4, groups=32))))


class OneNorm(nn.Module):
    """Towers end in bare convolutions, and what they give is normalised together."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        self.a = nn.Conv2d(in_channels, conv1, 1, bias=False)
        self.b = nn.Sequential(conv(in_channels, reduce3, 1), nn.Conv2d(reduce3, conv3, 3, padding=1, bias=False))
        self.c = nn.Sequential(conv(in_channels, reduce5, 1), nn.Conv2d(reduce5, conv5, 5, padding=2, bias=False))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(in_channels, pool, 1, bias=False))
        self.norm = nn.BatchNorm2d(conv1 + conv3 + conv5 + pool)

    def forward(self, x):
        return self.norm(torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)).relu()


class OneByOnes(nn.Module):
    """All 1x1 convolutions of x are one, whose output is split."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        self.sizes = [reduce5, conv1, reduce3]
        self.first, self.fourth = conv(in_channels, sum(self.sizes), 1), conv(in_channels, pool, 1)
        self.second, self.third = conv(reduce3, conv3, 3), conv(reduce5, conv5, 5)

    def forward(self, x):
        five, one, three = self.first(x).split(self.sizes, 1)
        return torch.cat([one, self.second(three), self.third(five), self.fourth(F.max_pool2d(x, 3, 1, 1))], 1)


RIGHT = {
    "06.1": {"by name": lambda: ByName, "called backwards": lambda: Backwards, "joined in steps": lambda: Concatenated,
             "into slices": lambda: IntoSlices, "maxima of windows": lambda: WindowMaxima,
             "one norm for all": lambda: OneNorm, "one 1x1, split": lambda: OneByOnes,
             "a dictionary": lambda: Dictionary, "functions": lambda: Functional},
    "06.2": {
        "integers": lambda: {"field": 13, **MACS},
        "floats": lambda: {"field": 13.0, **{name: float(macs) for name, macs in MACS.items()}},
        "tensors": lambda: {"field": torch.tensor(13), **{name: torch.tensor(macs) for name, macs in MACS.items()}},
        "arrays": lambda: {"field": np.int64(13), **{name: np.array([macs]) for name, macs in MACS.items()}},
        "further keys, other order": lambda: {"3x3": 0, **dict(reversed(MACS.items())), "field": 13},
        "a list of one": lambda: {"field": torch.tensor([13.0]), **MACS},
    },
    "06.3": {
        "depthwise, then a mixture": lambda: lambda: nn.Sequential(ConvBNAct(32, 32, 9, groups=32),
                                                                   ConvBNAct(32, 32, 1)),
        "three towers": lambda: lambda: Branches([tower(32, (8, 1)), tower(32, (8, 1), (12, 3)),
                                                  tower(32, (8, 1), (8, (1, 9)), (12, (9, 1)))]),
        "a narrow wide tower": lambda: lambda: Branches([tower(32, (16, 1), (19, 3)), tower(32, (10, 1)),
                                                         tower(32, (3, 1), (3, (9, 1)), (3, (1, 9)))]),
        "a class, residual": lambda: Residual,
        "maxima": lambda: Maximum,
        "functions": lambda: Filters,
    },
}

SLOW = {("06.3", name) for name in list(RIGHT["06.3"])[1:]}
