"""Right answers to the exercises of chapter 05, each in another style."""
import math
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from lwcourse.layers import (
    ConvBNAct,
    CoordinateAttention,
    EfficientChannelAttention,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2


def the(answer):
    return lambda: answer


class Eca(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.build(adaptive_kernel_size(channels))

    def build(self, size):
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def along(self, means):
        """(N, C) -> (N, C)"""
        return self.conv(means[:, None])[:, 0]

    def forward(self, x):
        return x * self.along(x.mean((2, 3))).sigmoid()[..., None, None]


class EcaByConv2d(Eca):
    def build(self, size):
        self.conv = nn.Conv2d(1, 1, (size, 1), padding=(size // 2, 0), bias=False)

    def along(self, means):
        return self.conv(means[:, None, :, None]).flatten(1)


class EcaByParameter(Eca):
    def build(self, size):
        self.weight = nn.Parameter(torch.full((size,), 0.1))

    def along(self, means):
        return F.conv1d(means.unsqueeze(1), self.weight[None, None], padding=len(self.weight) // 2).squeeze(1)


class EcaByWindows(EcaByParameter):
    def along(self, means):
        size = len(self.weight)
        return torch.einsum("nck,k->nc", F.pad(means, (size // 2, size // 2)).unfold(1, size, 1), self.weight)


class EcaByLinear(Eca):
    def build(self, size):
        self.size, self.line = size, nn.Linear(size, 1, bias=False)

    def along(self, means):
        side = self.size // 2
        return self.line(torch.stack([F.pad(means, (side, side))[:, i:i + means.shape[1]] for i in range(self.size)],
                                     dim=-1)).squeeze(-1)


class EcaByHand(EcaByParameter):
    """A kernel that is read from its end; sigmoid and mean written out."""

    def along(self, means):
        side = len(self.weight) // 2
        y = torch.zeros_like(means)
        for i, w in enumerate(self.weight):
            y = y + w * F.pad(means, (side, side))[:, 2 * side - i:2 * side - i + means.shape[1]]
        return y

    def forward(self, x):
        gate = 1 / (1 + torch.exp(-self.along(x.flatten(2).sum(2) / x[0, 0].numel())))
        return torch.einsum("nchw,nc->nchw", x, gate)


class EcaInOne(nn.Module):
    def __init__(self, channels):
        super().__init__()
        size = adaptive_kernel_size(channels)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Unflatten(1, (1, channels)),
                                  nn.Conv1d(1, 1, size, padding="same", bias=False), nn.Sigmoid(),
                                  nn.Flatten(), nn.Unflatten(1, (channels, 1, 1)))

    def forward(self, x):
        return self.gate(x) * x


class Ca(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.build(channels, max(8, channels // reduction))

    def build(self, channels, hidden):
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.Hardswish())
        self.open = nn.ModuleList(nn.Conv2d(hidden, channels, 1) for _ in range(2))

    def gates(self, x):
        rows, columns = self.squeeze(torch.cat([x.mean(3, True), x.mean(2, True).mT], 2)).split(list(x.shape[2:]), 2)
        return self.open[0](rows), self.open[1](columns).mT

    def forward(self, x):
        rows, columns = self.gates(x)
        return x * rows.sigmoid() * columns.sigmoid()


class CaColumnsFirst(Ca):
    def gates(self, x):
        width = x.shape[3]
        y = self.squeeze(torch.cat([x.mean(2, True).mT, x.mean(3, True)], 2))
        return self.open[1](y[:, :, width:]), self.open[0](y[:, :, :width].transpose(2, 3))


class CaFlat(Ca):
    """Conv1d over rows and columns in one signal."""

    def build(self, channels, hidden):
        self.squeeze = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.BatchNorm1d(hidden), nn.Hardswish())
        self.a, self.b = nn.Conv1d(hidden, channels, 1), nn.Conv1d(hidden, channels, 1)

    def gates(self, x):
        y = self.squeeze(torch.cat((x.mean(-1), x.mean(-2)), dim=-1))
        height = x.shape[2]
        return self.a(y[..., :height]).unsqueeze(3), self.b(y[..., height:]).unsqueeze(2)


class CaByLinear(Ca):
    def build(self, channels, hidden):
        self.down, self.norm = nn.Linear(channels, hidden), nn.BatchNorm2d(hidden)
        self.rows, self.columns = nn.Linear(hidden, channels), nn.Linear(hidden, channels)

    def gates(self, x):
        means = torch.cat([x.mean(3), x.mean(2)], 2).transpose(1, 2)            # (N, H + W, C)
        y = F.hardswish(self.norm(self.down(means).transpose(1, 2)[..., None]))[..., 0].transpose(1, 2)
        rows, columns = y.split([x.shape[2], x.shape[3]], 1)
        return self.rows(rows).transpose(1, 2)[..., None], self.columns(columns).transpose(1, 2)[:, :, None]


class CaByFunctions(Ca):
    def build(self, channels, hidden):
        self.norm = nn.BatchNorm2d(hidden)
        for name, size in (("down", (hidden, channels)), ("rows", (channels, hidden)), ("columns", (channels, hidden))):
            self.register_parameter(f"{name}_weight", nn.Parameter(torch.full((*size, 1, 1), 0.05)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(size[0])))

    def gates(self, x):
        height = x.shape[2]
        means = torch.cat([x.mean(3, True), x.mean(2, True).mT], 2)
        y = self.norm(F.conv2d(means, self.down_weight, self.down_bias))
        y = y * F.relu6(y + 3) / 6
        return (F.conv2d(y[:, :, :height], self.rows_weight, self.rows_bias),
                F.conv2d(y[:, :, height:].mT, self.columns_weight, self.columns_bias))


class CaPooled(Ca):
    """AdaptiveAvgPool2d, and one product of both gates."""

    def gates(self, x):
        tall = nn.AdaptiveAvgPool2d((None, 1))(x), nn.AdaptiveAvgPool2d((1, None))(x).permute(0, 1, 3, 2)
        rows, columns = torch.split(self.squeeze(torch.concat(tall, 2)), [x.shape[-2], x.shape[-1]], dim=2)
        return self.open[0](rows), self.open[1](columns.permute(0, 1, 3, 2))

    def forward(self, x):
        rows, columns = (torch.sigmoid(gate) for gate in self.gates(x))
        return (rows * columns).mul(x)


TIMES = {"SE": 1.2, "ECA": 1.12, "CA": 1.4, "SA": 1.6, "Triplet": 3.1, "why": "passes over memory"}


class WithoutWeights(nn.Module):
    """The mean of each row, squashed: a gate of its own."""

    def forward(self, x):
        return x * x.mean(3, keepdim=True).sigmoid()


class Strips(nn.Module):
    """A depthwise filter along the means of the rows decides for each channel and row."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x):
        return x * self.norm(self.conv(x.mean(3))).sigmoid()[..., None]


class Gates(dict):
    def __init__(self):
        super().__init__(stem=CoordinateAttention(8))


class CaByMatrices(nn.Module):
    """Matrices in a ParameterDict, h-swish written out, slices, and einsum at the end."""

    def __init__(self, channels, reduction=32):
        super().__init__()
        hidden = max(8, channels // reduction)
        sizes = {"squeeze": (hidden, channels), "rows": (channels, hidden), "columns": (channels, hidden)}
        self.w = nn.ParameterDict({name: torch.randn(size) / 4 for name, size in sizes.items()})
        self.b = nn.ParameterDict({name: torch.zeros(size[0], 1) for name, size in sizes.items()})
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x):
        y = torch.cat([x.mean(-1), x.mean(-2)], dim=-1)
        y = self.norm(torch.einsum("hc,ncl->nhl", self.w["squeeze"], y) + self.b["squeeze"])
        y = y * F.relu6(y + 3) / 6
        rows = (self.w["rows"] @ y[..., :x.shape[2]] + self.b["rows"]).sigmoid()
        columns = (self.w["columns"] @ y[..., x.shape[2]:] + self.b["columns"]).sigmoid()
        return x * torch.einsum("nch,ncw->nchw", rows, columns)


NUMBERS = {"SE": 64, "ECA": 64, "CA": 64 * 24, "SA": 32 + 32 * 140, "Triplet": 64 * 10 + 64 * 14 + 140}


def rule(channels, gamma=2, b=1):
    size = int((math.log2(channels) + b) / gamma)
    return size if size % 2 else size + 1


def rule_or(channels, gamma=2, b=1):
    return int(abs(math.log2(channels) / gamma + b / gamma)) | 1


def rule_by_halves(channels, gamma=2, b=1):
    return 2 * math.floor((math.log2(channels) + b) / gamma / 2) + 1


def rule_in_numpy(channels, gamma=2.0, b=1.0):
    size = np.floor((np.log2(channels) + b) / gamma)
    return np.where(size % 2 == 1, size, size + 1)


def rule_in_torch(channels, gamma=2, b=1):
    size = ((torch.tensor(float(channels)).double().log2() + b) / gamma).floor()
    return size + (size % 2 == 0)


def rule_by_search(channels, gamma=2, b=1):
    """The smallest odd number that is no smaller than what is cut off."""
    return next(odd for odd in range(1, 99, 2) if odd >= math.floor((math.log2(channels) + b) / gamma))


def rule_of_lines(channels, gamma=2, b=1):
    size = (np.log2(channels) + b) // gamma
    if size % 2 == 0:
        size += 1
    return float(size)


class Split(nn.Module):
    """The sheet's class, mended."""

    def __init__(self, channels, radix, cardinality):
        super().__init__()
        self.build(channels, radix, cardinality, max(32, channels * radix // 4))

    def build(self, channels, radix, cardinality, hidden):
        self.radix, self.cardinality = radix, cardinality
        self.splits = ConvBNAct(channels, channels * radix, 3, groups=cardinality * radix)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1, groups=cardinality), nn.BatchNorm2d(hidden),
                                     nn.ReLU())
        self.excite = nn.Conv2d(hidden, channels * radix, 1, groups=cardinality)

    def forward(self, x):
        u = self.splits(x).unflatten(1, (self.radix, -1))
        a = self.excite(self.squeeze(u.sum(dim=1).mean(dim=(2, 3), keepdim=True)))
        a = a.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2).flatten(2, 3)
        return (a.softmax(dim=1) * u).sum(dim=1)


class SplitPlain(Split):
    """Layers of PyTorch in a Sequential."""

    def build(self, channels, radix, cardinality, hidden):
        self.radix, self.cardinality = radix, cardinality
        self.splits = nn.Sequential(
            nn.Conv2d(channels, channels * radix, 3, padding=1, groups=cardinality * radix, bias=False),
            nn.BatchNorm2d(channels * radix), nn.ReLU())
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1, groups=cardinality), nn.BatchNorm2d(hidden),
                                     nn.ReLU())
        self.excite = nn.Conv2d(hidden, channels * radix, 1, groups=cardinality)


class SplitByGroup(SplitPlain):
    """The maps are brought into the order of the weights, and not the other way round."""

    def forward(self, x):
        u = self.splits(x)
        n, _, height, width = u.shape
        u = u.view(n, self.radix, self.cardinality, -1, height, width).transpose(1, 2)      # (N, K, R, C / K, H, W)
        a = self.excite(self.squeeze(u.sum(2).flatten(1, 2).mean((2, 3), keepdim=True)))
        a = a.view(n, self.cardinality, self.radix, -1, 1, 1).softmax(2)
        return (a * u).sum(2).flatten(1, 2)


class SplitByChunks(SplitPlain):
    """A list of splits, and exponentials written out."""

    def forward(self, x):
        u = self.splits(x).chunk(self.radix, dim=1)
        a = self.excite(self.squeeze(sum(u).mean((2, 3), keepdim=True)))
        groups = [one.chunk(self.radix, dim=1) for one in a.chunk(self.cardinality, dim=1)]
        weights = [torch.cat([group[r] for group in groups], dim=1).exp() for r in range(self.radix)]
        return sum(w * m for w, m in zip(weights, u, strict=True)) / sum(weights)


class SplitEinsum(SplitPlain):
    def forward(self, x):
        u = self.splits(x).unflatten(1, (self.radix, -1))
        a = self.excite(self.squeeze(u.mean((3, 4)).sum(1)[..., None, None])).flatten(1)
        a = a.reshape(len(a), self.cardinality, self.radix, -1).permute(0, 2, 1, 3).reshape(len(a), self.radix, -1)
        return torch.einsum("nrc,nrchw->nchw", F.softmax(a, 1), u)


class SplitPooled(SplitPlain):
    def forward(self, x):
        u = self.splits(x)
        u = u.reshape(len(u), self.radix, -1, *u.shape[2:])
        a = self.excite(self.squeeze(F.adaptive_avg_pool2d(u.sum(1), 1)))
        a = a.view(len(a), self.cardinality, self.radix, -1).softmax(2).transpose(1, 2).flatten(2)
        return torch.mul(u, a[..., None, None]).sum(1)


def eca_in_torchvision():
    network = torchvision.models.mobilenet_v2(weights=None, dropout=0.25)
    for block in network.features[1:-1]:
        channels = block.conv[-1].num_features
        block.conv.append(EfficientChannelAttention(channels, 3 if channels >= 96 else 1))
    return network


def own_eca_in_torchvision():
    class Gate(nn.Module):
        def __init__(self, channels):
            super().__init__()
            size = 3 if channels > 64 else 1
            self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

        def forward(self, x):
            return x * self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()[..., None, None]

    network = torchvision.models.mobilenet_v2(weights=None)
    for block in network.features[1:-1]:
        block.conv = nn.Sequential(*block.conv, Gate(block.conv[-1].num_features))
    network.classifier[0] = nn.Dropout(0.25)
    return network


class EcaBlock(InvertedResidual):
    def __init__(self, *args):
        super().__init__(*args)
        self.gate = EfficientChannelAttention(args[1], 1 + 2 * (args[1] >= 96))

    def forward(self, x):
        y = self.gate(self.project(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


def eca_by_block():
    return MobileNetV2(dropout=0.25, block=EcaBlock)


def eca_behind_projections():
    network = MobileNetV2(dropout=0.25)
    for block in network.blocks:
        channels = block.project.conv.out_channels
        kernel_size = {True: 1, False: 3}[channels < 96]
        block.project = nn.Sequential(block.project, EfficientChannelAttention(channels, kernel_size))
    return network


class EcaWrapped(nn.Module):
    """torchvision's blocks, run by hand."""

    def __init__(self):
        super().__init__()
        host = torchvision.models.mobilenet_v2(weights=None)
        self.features, self.classifier = host.features, nn.Linear(1280, 1000)
        widths = [block.conv[-1].num_features for block in host.features[1:-1]]
        self.gates = nn.ModuleList(EfficientChannelAttention(width, 3 if width >= 96 else 1) for width in widths)

    def forward(self, x):
        x = self.features[0](x)
        for block, gate in zip(self.features[1:-1], self.gates, strict=True):
            y = gate(block.conv(x))
            x = x + y if block.use_res_connect else y
        x = self.features[-1](x).mean((2, 3))
        return self.classifier(F.dropout(x, 0.25, self.training))


def eca_in_a_dict():
    network = eca_behind_projections()
    return nn.Sequential(OrderedDict(stem=network.stem, blocks=network.blocks, head=network.head,
                                     pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), classifier=network.classifier))


RIGHT = {
    "05.1": {"Conv1d": the(Eca), "Conv2d": the(EcaByConv2d), "a parameter": the(EcaByParameter),
             "windows and einsum": the(EcaByWindows), "a linear layer": the(EcaByLinear), "by hand": the(EcaByHand),
             "one Sequential": the(EcaInOne)},
    "05.2": {"a list of openings": the(Ca), "columns first": the(CaColumnsFirst), "Conv1d": the(CaFlat),
             "matrices in a dictionary": the(CaByMatrices), "linear layers": the(CaByLinear),
             "F.conv2d": the(CaByFunctions), "pooling modules": the(CaPooled)},
    "05.3": {"measured elsewhere": the(TIMES), "on a slow machine": lambda: TIMES | {"SA": 3.0, "Triplet": 7.5},
             "on a fast one": lambda: TIMES | {"SE": 0.99, "ECA": 0.98, "CA": 1.1, "SA": 1.12, "Triplet": 1.5},
             "tensors": lambda: {kind: value if kind == "why" else torch.tensor(value)
                                 for kind, value in TIMES.items()},
             "arrays": lambda: TIMES | {"SE": np.float32(1.2), "SA": np.array([1.6])},
             "one more key": lambda: TIMES | {"none": 1.0},
             "capitals": lambda: TIMES | {"why": "Passes over memory"}},
    "05.4": {"coordinate attention": lambda: lambda: {"stem": CoordinateAttention(8)},
             "a ModuleDict": lambda: lambda: nn.ModuleDict({"stem": CoordinateAttention(8, 4)}),
             "a small Triplet": lambda: lambda: {"stem": TripletAttention(8, kernel_size=3)},
             "a class that is a dict": the(Gates),
             "strips": lambda: lambda: {"filter": Strips(32)},
             "two of them": lambda: lambda: {"stem": WithoutWeights(), "head": WithoutWeights()}},
    "05.5": {"numbers": the(NUMBERS), "floats": lambda: {kind: float(count) for kind, count in NUMBERS.items()},
             "tensors": lambda: {kind: torch.tensor(count) for kind, count in NUMBERS.items()},
             "arrays": lambda: {kind: np.array([count]) for kind, count in NUMBERS.items()},
             "numpy integers": lambda: {kind: np.int64(count) for kind, count in NUMBERS.items()},
             "another order, and more": lambda: dict(reversed(NUMBERS.items())) | {"none": 0},
             "fractions": lambda: {kind: Fraction(count) for kind, count in NUMBERS.items()}},
    "05.6": {"two lines": the(rule), "the last bit": the(rule_or), "halves": the(rule_by_halves),
             "numpy": the(rule_in_numpy), "torch": the(rule_in_torch), "a search": the(rule_by_search),
             "floor division": the(rule_of_lines)},
    "05.7": {"the course's blocks": the(Split), "layers of PyTorch": the(SplitPlain),
             "maps reordered": the(SplitByGroup), "chunks": the(SplitByChunks), "einsum": the(SplitEinsum),
             "softmax before the transpose": the(SplitPooled)},
    "05.8": {"torchvision": the(eca_in_torchvision), "torchvision with an own gate": the(own_eca_in_torchvision),
             "an own block": the(eca_by_block), "behind the projections": the(eca_behind_projections),
             "blocks run by hand": the(EcaWrapped), "one Sequential": the(eca_in_a_dict)},
}
SLOW = {("05.4", name) for name in RIGHT["05.4"] if name != "coordinate attention"}
