"""Right answers to the exercises of chapter 02, in different styles."""
from collections import OrderedDict, defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2

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


RIGHT = {
    "02.1": {"bricks": lambda: OfBricks, "flat": lambda: Flat, "hard tanh": lambda: ByHardtanh,
             "minimum": lambda: ByMinimum, "clamp": lambda: ByClamp, "parameters": lambda: Parameters,
             "padded": lambda: Padded, "module list": lambda: InAModuleList},
    "02.2": {"linear gate": lambda: Gated, "by hand": lambda: ByHand,
             "linear as convolution": lambda: LinearAsConvolution, "one sequence": lambda: OneSequence,
             "Conv1d": lambda: OneDimension, "matrices": lambda: Matrices},
    "02.3": {"typed in": counts(), "floats": counts(float), "NumPy": counts(np.int64), "tensors": counts(torch.tensor),
             "measured": measured, "one key more": counts(more=1), "another dict": in_another_dict},
    "02.4": {"a table": lambda: small_net, "light": lambda: light, "a class": lambda: AClass,
             "dropout": lambda: Dropped, "functions": lambda: Functions, "in parts": lambda: in_parts},
}
SLOW = {("02.4", name) for name in RIGHT["02.4"]} - {("02.4", "a table")}
