"""Right answers to the exercises of chapter 02, in different styles."""
from collections import OrderedDict, defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv, SqueezeExcitation, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.models.mobilenet_v3 import LARGE, InvertedResidualSE
from lwcourse.models.mobilenext import Sandglass

# 02.1


class OfBricks(nn.Module):
    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__()
        wide = expand * in_channels
        first = [ConvBNAct(in_channels, wide, 1, act=nn.ReLU6)] if expand != 1 else []
        self.body = nn.Sequential(*first, ConvBNAct(wide, wide, 3, stride, groups=wide, act=nn.ReLU6),
                                  ConvBNAct(wide, out_channels, 1, act=None))
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x):
        return self.body(x) + x if self.skip else self.body(x)


class Flat(nn.Module):
    """Plain layers, the last built first, and functions."""

    def __init__(self, inp, oup, stride, t):
        super().__init__()
        self.bn3, self.conv3 = nn.BatchNorm2d(oup), nn.Conv2d(inp * t, oup, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inp * t)
        self.conv2 = nn.Conv2d(inp * t, inp * t, 3, (stride, stride), "same" if stride == 1 else 1, groups=inp * t,
                               bias=False)
        if t > 1:
            self.bn1, self.conv1 = nn.BatchNorm2d(inp * t), nn.Conv2d(inp, inp * t, 1, bias=False)
        self.t, self.stride = t, stride

    def relu6(self, x):
        return F.relu6(x)

    def forward(self, x):
        y = self.relu6(self.bn1(self.conv1(x))) if self.t > 1 else x
        y = self.bn3(self.conv3(self.relu6(self.bn2(self.conv2(y)))))
        if self.stride == 1 and y.shape[1] == x.shape[1]:
            y += x
        return y


class ByHardtanh(Flat):
    def relu6(self, x):
        return F.hardtanh(x, 0, 6)


class ByMinimum(Flat):
    def relu6(self, x):
        return torch.minimum(x.relu(), x.new_tensor(6.0))


class ByClamp(Flat):
    def relu6(self, x):
        return x.clamp(min=0).clamp_max_(6)


class Parameters(nn.Module):
    """Weights as parameters, F.conv2d; the 1x1 convolutions are linear layers over the channels."""

    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__()
        wide = in_channels * expand
        self.first = nn.Linear(in_channels, wide, bias=False) if expand > 1 else None
        self.filters = nn.Parameter(torch.randn(wide, 1, 3, 3) / 3)
        self.last = nn.Linear(wide, out_channels, bias=False)
        self.norms = nn.ModuleDict({"filter": nn.BatchNorm2d(wide), "last": nn.BatchNorm2d(out_channels)})
        if expand > 1:
            self.norms["first"] = nn.BatchNorm2d(wide)
        self.stride, self.skip = stride, stride == 1 and in_channels == out_channels

    def forward(self, x):
        y = x
        if self.first is not None:
            y = F.relu6(self.norms["first"](self.first(y.movedim(1, -1)).movedim(-1, 1)))
        y = F.conv2d(y, self.filters, None, self.stride, 1, groups=len(self.filters))
        y = self.last(F.relu6(self.norms["filter"](y)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.norms["last"](y)
        return torch.add(x, y) if self.skip else y


class Padded(OfBricks):
    """A layer of zeros around the map, and identities where nothing is to be done."""

    def __init__(self, in_channels, out_channels, stride, expand):
        super().__init__(in_channels, out_channels, stride, expand)
        filters = self.body[-2]
        filters.conv.padding = (0, 0)
        self.body = nn.Sequential(self.body[0] if expand > 1 else nn.Identity(), nn.ZeroPad2d(1), filters,
                                  nn.Dropout(0.0), self.body[-1], nn.Identity())


class InAModuleList(OfBricks):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.body = nn.ModuleList(self.body)

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return x + y if self.skip else y


# 02.2


class Gated(nn.Module):
    """A filter of plain layers, and linear layers in the gate."""

    def __init__(self, channels, kernel_size, stride):
        super().__init__()
        hidden = make_divisible(channels / 4)
        self.fc2, self.fc1 = nn.Linear(hidden, channels), nn.Linear(channels, hidden)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False)

    def filtered(self, x):
        return F.hardswish(self.norm(self.conv(x)))

    def forward(self, x):
        y = self.filtered(x)
        gate = F.hardsigmoid(self.fc2(self.fc1(y.mean((2, 3))).relu()))
        return y * gate[..., None, None]


class ByHand(Gated):
    """The two hard functions written out, the product by einsum."""

    def filtered(self, x):
        y = self.norm(self.conv(x))
        return y * (y + 3).clamp(0, 6) / 6

    def forward(self, x):
        y = self.filtered(x)
        gate = F.relu6(self.fc2(F.relu(self.fc1(y.flatten(2).mean(-1)))) + 3) / 6
        return torch.einsum("nc,nchw->nchw", gate, y)


class LinearAsConvolution(Gated):
    def forward(self, x):
        y = self.filtered(x)
        gate = F.avg_pool2d(y, y.shape[2:])
        for layer, act in ((self.fc1, F.relu), (self.fc2, F.hardsigmoid)):
            gate = act(F.conv2d(gate, layer.weight[..., None, None], layer.bias))
        return gate.mul(y)


class OneSequence(nn.Sequential):
    class Gate(nn.Sequential):
        def forward(self, x):
            return x * super().forward(x)

    def __init__(self, channels, kernel_size, stride):
        hidden = make_divisible(channels / 4)
        gate = self.Gate(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, channels, 1), nn.Hardsigmoid())
        super().__init__(OrderedDict(filter=ConvBNAct(channels, channels, kernel_size, stride, groups=channels,
                                                      act=nn.Hardswish), gate=gate))


class OneDimension(nn.Module):
    """A gate of Conv1d over one value a channel."""

    def __init__(self, channels, kernel_size, stride):
        super().__init__()
        hidden = make_divisible(channels / 4)
        self.filter = ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish)
        self.gate = nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Conv1d(channels, hidden, 1), nn.ReLU(),
                                  nn.Conv1d(hidden, channels, 1), nn.Hardsigmoid())

    def forward(self, x):
        y = self.filter(x)
        return y * self.gate(y).unsqueeze(3)


class Matrices(Gated):
    """The gate by products of matrices, in two steps of the forward."""

    def gate(self, y):
        means = y.sum(dim=(-1, -2)) / (y.shape[-1] * y.shape[-2])
        squeezed = torch.relu(means @ self.fc1.weight.T + self.fc1.bias)
        return torch.addmm(self.fc2.bias, squeezed, self.fc2.weight.T)

    def forward(self, x):
        y = self.filtered(x)
        scale = F.hardsigmoid(self.gate(y))
        return y * scale.view(*scale.shape, 1, 1).expand_as(y)


# 02.3

COUNTS = {"as published": 300_774_272, "dense 3x3": 5_549_139_968, "no expansion": 63_689_536}


def counts(kind=lambda count: count, **more):
    return lambda: {name: kind(count) for name, count in COUNTS.items()} | more


def measured():
    class Dense(InvertedResidual):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            conv = self.depthwise.conv
            self.depthwise.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 3, conv.stride, 1, bias=False)

    def narrow(before, after, stride, expand):
        return InvertedResidual(before, after, stride, 1)

    with torch.device("meta"):
        return {name: lw.profile(MobileNetV2(block=block), (3, 224, 224)).macs
                for name, block in zip(COUNTS, (InvertedResidual, Dense, narrow), strict=True)}


def in_another_dict():
    found = defaultdict(float, counts(float)())
    return OrderedDict(reversed(found.items()))


# 02.4


def small_net():
    table = ((16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 32, 2, 6), (32, 32, 1, 6))
    return nn.Sequential(ConvBNAct(3, 16, 3, 2, act=nn.ReLU6), *(InvertedResidual(*row) for row in table),
                         ConvBNAct(32, 128, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def light():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, 3, 2), SeparableConv(32, 64),
                         SeparableConv(64, 64, 3, 2), SeparableConv(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(64, 10))


class AClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.classifier = light()[:5], nn.Linear(64, 10)

    def forward(self, x):
        return self.classifier(self.layers(x).mean(dim=(2, 3)))


class Dropped(AClass):
    """Dropout before the classifier, and a global mean by pooling."""

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(self.layers(x), 1)
        return self.classifier(F.dropout(pooled.flatten(1), 0.05, self.training))


class Functions(nn.Module):
    """The classifier is a parameter and a function."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = light()[0], light()[1:3], SeparableConv(64, 64)
        self.down, self.last = SeparableConv(64, 64, 3, 2), nn.Parameter(nn.Linear(64, 10).weight.detach())

    def forward(self, x):
        y = self.down(self.second(self.first(x)))
        return F.linear(self.third(y).mean((2, 3)), self.last)


def in_parts():
    network = nn.Sequential(OrderedDict(features=light()[:5], head=light()[5:]))
    return network.train()


# 02.5

PAPER = {"inverted": 10_988_544, "inverted, stride 2": 7_564_032, "no expansion": 10_035_200,
         "sandglass": 12_343_296}


def on_paper(kind=lambda count: count, **more):
    return lambda: {name: kind(count) for name, count in PAPER.items()} | more


def products():
    half = 14 * 14
    return {"sandglass": 784 * 192 * (2 * 9 + 2 * 32), "no expansion": 112**2 * (32 * 9 + 32 * 16),
            "inverted": 784 * 32 * 6 * 73, "inverted, stride 2": 784 * 6144 + half * 192 * 9 + half * 192 * 64}


def profiled():
    blocks = {"inverted": (InvertedResidual(32, 32, 1, 6), 32, 28), "sandglass": (Sandglass(192, 192, 1, 6), 192, 28),
              "inverted, stride 2": (InvertedResidual(32, 64, 2, 6), 32, 28),
              "no expansion": (InvertedResidual(32, 16, 1, 1), 32, 112)}
    return {name: lw.profile(block, (channels, side, side)).macs for name, (block, channels, side) in blocks.items()}


# 02.6


def by_modules(network):
    return sum(p.numel() for m in network.modules() if not isinstance(m, nn.BatchNorm2d)
               for p in m.parameters(recurse=False))


def by_difference(network):
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(map(torch.numel, network.parameters())) - sum(2 * norm.num_features for norm in norms)


def by_identity(network):
    norms = {id(p) for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    return np.sum([np.prod(p.shape) for p in network.parameters() if id(p) not in norms])


def by_names(network):
    norms = tuple(f"{name}." for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d))
    return torch.tensor(sum(p.numel() for name, p in network.named_parameters() if not name.startswith(norms)))


def by_recursion(network):
    if isinstance(network, nn.BatchNorm2d):
        return 0
    own = sum(p.numel() for p in network.parameters(recurse=False))
    return float(own + sum(by_recursion(child) for child in network.children()))


def as_built_in(network):
    norms = sum(m.weight.numel() + m.bias.numel() for m in network.modules() if type(m) is nn.BatchNorm2d)
    return nn.utils.parameters_to_vector(network.parameters()).numel() - norms


# 02.7


def v3_brick(inp, oup, kernel, stride=1, groups=1, act=None):
    conv = nn.Conv2d(inp, oup, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(oup, 1e-3, 0.01), *([act()] if act else []))


class OneRow(nn.Module):
    """All in one sequence; the course's gate."""

    def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
        super().__init__()
        parts = [] if hidden == in_channels else [v3_brick(in_channels, hidden, 1, act=act)]
        parts.append(v3_brick(hidden, hidden, kernel, stride, hidden, act))
        if se:
            parts.append(SqueezeExcitation(hidden, make_divisible(hidden / 4), gate=nn.Hardsigmoid))
        self.row = nn.Sequential(*parts, v3_brick(hidden, out_channels, 1))
        self.skip = stride == 1 and in_channels == out_channels

    def forward(self, x):
        return self.row(x).add(x) if self.skip else self.row(x)


class Apart(nn.Module):
    """Each part by itself, the gate of linear layers, the activation as a function of one module."""

    def __init__(self, inp, hidden, oup, kernel, stride, se, act):
        super().__init__()
        self.project, self.filter = v3_brick(hidden, oup, 1), v3_brick(hidden, hidden, kernel, stride, hidden)
        self.expand = v3_brick(inp, hidden, 1) if hidden != inp else None
        squeezed = make_divisible(hidden / 4)
        self.fc = nn.ModuleList([nn.Linear(hidden, squeezed), nn.Linear(squeezed, hidden)]) if se else None
        self.act, self.stride = act(), stride

    def gated(self, y):
        if self.fc is None:
            return y
        return y * F.hardsigmoid(self.fc[1](self.fc[0](y.mean((2, 3))).relu()))[:, :, None, None]

    def forward(self, x):
        y = x if self.expand is None else self.act(self.expand(x))
        y = self.project(self.gated(self.act(self.filter(y))))
        return x + y if self.stride == 1 and x.shape[1] == y.shape[1] else y


class OfConvBNAct(OneRow):
    def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
        super().__init__(in_channels, hidden, out_channels, kernel, stride, se, act)
        norm = {"eps": 1e-3, "momentum": 0.01}
        gate = [part for part in self.row if isinstance(part, SqueezeExcitation)]
        first = [ConvBNAct(in_channels, hidden, 1, act=act, **norm)] if hidden != in_channels else []
        middle = ConvBNAct(hidden, hidden, kernel, stride, groups=hidden, act=act, **norm)
        self.row = nn.Sequential(*first, middle, *gate, ConvBNAct(hidden, out_channels, 1, act=None, **norm))


class GateByPooling(OneRow):
    """The gate is a sequence of layers that is multiplied in forward."""

    def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
        super().__init__(in_channels, hidden, out_channels, kernel, stride, False, act)
        squeezed = make_divisible(hidden / 4)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(hidden, squeezed, 1), nn.ReLU(),
                                  nn.Conv2d(squeezed, hidden, 1), nn.Hardsigmoid()) if se else None

    def forward(self, x):
        y = self.row[:-1](x)
        y = self.row[-1](y if self.gate is None else y * self.gate(y))
        return x + y if self.skip else y


class Idle(OneRow):
    """Identities where nothing is to be done, and a shortcut as a module."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.row, self.keep = nn.Sequential(nn.Identity(), *self.row, nn.Identity()), nn.Identity()

    def forward(self, x):
        y = self.row(x)
        if self.skip:
            y += self.keep(x)
        return y


class Whole(Apart):
    def gated(self, y):
        if self.fc is None:
            return y
        squeeze, expand = self.fc
        factors = F.relu6(expand(F.relu(squeeze(F.adaptive_avg_pool2d(y, 1).flatten(1)))) + 3) / 6
        return torch.einsum("nchw,nc->nchw", y, factors)


# 02.8


def rows_of_the_course():
    norm = {"eps": 1e-3, "momentum": 0.01}
    layers, channels = [ConvBNAct(3, 16, 3, 2, **norm)], 16
    for row in LARGE:
        layers.append(InvertedResidualSE(channels, row.hidden, row.channels, 3, row.stride, se=False, act=nn.ReLU))
        channels = row.channels
    return nn.Sequential(*layers, ConvBNAct(160, 960, 1, **norm), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(960, 1280), nn.ReLU(), nn.Linear(1280, 1000))


def own_blocks(block=OneRow):
    inputs = [16, *(row.channels for row in LARGE)]
    blocks = [block(i, row.hidden, row.channels, 3, row.stride, False, nn.ReLU)
              for i, row in zip(inputs, LARGE, strict=False)]
    return nn.Sequential(v3_brick(3, 16, 3, 2, act=nn.ReLU), *blocks, v3_brick(160, 960, 1, act=nn.ReLU),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(960, 1280), nn.ReLU(), nn.Linear(1280, 1000))


class Minimal(nn.Module):
    """A class; the mean by hand, the end as functions."""

    def __init__(self):
        super().__init__()
        self.layers = own_blocks()[:17]
        self.fc1, self.fc2 = nn.Linear(960, 1280), nn.Linear(1280, 1000)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(self.layers(x).mean(dim=(2, 3)))))


class ByConvolutions(Minimal):
    """The end as 1x1 convolutions of one pixel."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(960, 1280, 1), nn.Conv2d(1280, 1000, 1)

    def forward(self, x):
        y = F.adaptive_avg_pool2d(self.layers(x), 1)
        return self.fc2(self.fc1(y).relu()).flatten(1)


def typed_table():
    table = ((16, 16, 1), (64, 24, 2), (72, 24, 1), (72, 40, 2), (120, 40, 1), (120, 40, 1), (240, 80, 2), (200, 80, 1),
             (184, 80, 1), (184, 80, 1), (480, 112, 1), (672, 112, 1), (672, 160, 2), (960, 160, 1), (960, 160, 1))
    network, channels = nn.Sequential(OrderedDict(stem=v3_brick(3, 16, 3, 2, act=nn.ReLU))), 16
    for number, (hidden, out, stride) in enumerate(table):
        network.add_module(f"block{number}", Apart(channels, hidden, out, 3, stride, False, nn.ReLU))
        channels = out
    for name, layer in {"last": v3_brick(160, 960, 1, act=nn.ReLU), "pool": nn.AdaptiveAvgPool2d((1, 1)),
                        "flat": nn.Flatten(), "features": nn.Linear(960, 1280), "act": nn.ReLU(inplace=True),
                        "classifier": nn.Linear(1280, 1000)}.items():
        network.add_module(name, layer)
    return network


def dropped_with_rate_0():
    layers = list(own_blocks())
    return nn.Sequential(*layers[:-1], nn.Dropout(0.0), layers[-1])


RIGHT = {
    "02.1": {"bricks": lambda: OfBricks, "flat": lambda: Flat, "hard tanh": lambda: ByHardtanh,
             "minimum": lambda: ByMinimum, "clamp": lambda: ByClamp, "parameters": lambda: Parameters,
             "padded": lambda: Padded, "module list": lambda: InAModuleList},
    "02.2": {"linear gate": lambda: Gated, "by hand": lambda: ByHand,
             "linear as convolution": lambda: LinearAsConvolution, "one sequence": lambda: OneSequence,
             "Conv1d": lambda: OneDimension, "matrices": lambda: Matrices},
    "02.3": {"typed in": counts(), "floats": counts(float), "NumPy": counts(np.int64), "tensors": counts(torch.tensor),
             "measured": measured, "one key more": counts(more=1), "another dict": in_another_dict},
    "02.5": {"typed in": on_paper(), "floats": on_paper(float), "NumPy": on_paper(np.int64),
             "tensors": on_paper(torch.tensor), "products": products, "profiled": profiled,
             "one key more": on_paper(more=1)},
    "02.6": {"modules": lambda: by_modules, "difference": lambda: by_difference, "identity": lambda: by_identity,
             "names": lambda: by_names, "recursion": lambda: by_recursion, "as built in": lambda: as_built_in},
    "02.7": {"one row": lambda: OneRow, "apart": lambda: Apart, "bricks": lambda: OfConvBNAct,
             "gate by pooling": lambda: GateByPooling, "idle": lambda: Idle, "whole": lambda: Whole},
    "02.8": {"the course's rows": lambda: rows_of_the_course, "own blocks": lambda: own_blocks,
             "a class": lambda: Minimal,
             "convolutions at the end": lambda: ByConvolutions, "typed table": lambda: typed_table,
             "dropout of 0": lambda: dropped_with_rate_0},
    "02.4": {"a table": lambda: small_net, "light": lambda: light, "a class": lambda: AClass,
             "dropout": lambda: Dropped, "functions": lambda: Functions, "in parts": lambda: in_parts},
}
SLOW = {("02.4", name) for name in RIGHT["02.4"]} - {("02.4", "a table")}
