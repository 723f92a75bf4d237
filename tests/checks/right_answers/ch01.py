"""Right answers to the exercises of chapter 01, in different styles."""
from collections import namedtuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv

# 01.1

Cost = namedtuple("Cost", "params macs out_height out_width")


def conv_cost(kind=tuple):
    """The formula; the four numbers as a `kind`."""
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        reach = (kernel - 1) * dilation + 1
        rows, columns = (1 + (side - reach + 2 * padding) // stride for side in (height, width))
        weights = kernel**2 * (in_channels * out_channels // groups)
        return kind([weights + bias * out_channels, weights * rows * columns, rows, columns])
    return lambda: answer


def a_layer_is_asked():
    def answer(in_channels, out_channels, kernel, height, width, *more, **settings):
        conv = nn.Conv2d(in_channels, out_channels, kernel, *more, **{"bias": False, **settings})
        cost = lw.profile(conv, (in_channels, height, width))
        return cost.params, cost.macs, *conv(torch.zeros(1, in_channels, height, width)).shape[2:]
    return answer


def steps_counted():
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        places = [len(range(0, side + 2 * padding - dilation * (kernel - 1), stride)) for side in (height, width)]
        params = out_channels * (in_channels / groups * kernel * kernel)
        return params + (out_channels if bias else 0), params * places[0] * places[1], *places
    return answer


# 01.2


def shuffle(function):
    return lambda: function


def table(x, groups):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


def stacked(x, groups):
    return torch.stack(torch.chunk(x, groups, dim=1), dim=2).flatten(1, 2)


def joined_places(x, groups):
    return torch.cat(x.unflatten(1, (groups, -1)).unbind(2), dim=1)


def one_axis_of_pixels(x, groups):
    return x.flatten(2).unflatten(1, (groups, -1)).transpose(1, 2).reshape(x.shape)


def einsum(x, groups):
    return torch.einsum("ngchw->ncghw", x.unflatten(1, (groups, -1))).flatten(1, 2)


def moved(x, groups):
    return x.view(len(x), groups, x.size(1) // groups, *x.shape[2:]).movedim(1, 2).contiguous().view(x.size())


def written(x, groups):
    y = torch.empty_like(x)
    y.unflatten(1, (-1, groups)).copy_(x.unflatten(1, (groups, -1)).transpose(1, 2))
    return y


# 01.3


def twin(function):
    return lambda: function


def loops(depthwise, pointwise):
    c_out, c_in = pointwise.shape[:2]
    weight = pointwise.new_empty(c_out, c_in, *depthwise.shape[2:])
    for o in range(c_out):
        for i in range(c_in):
            weight[o, i] = pointwise[o, i].item() * depthwise[i, 0]
    return weight


def lit_pixels(depthwise, pointwise):
    """The answer of the two layers to one pixel a channel."""
    c_in, _, k, _ = depthwise.shape
    pixels = torch.zeros(c_in, c_in, 2 * k - 1, 2 * k - 1)
    pixels[range(c_in), range(c_in), k - 1, k - 1] = 1
    answers = F.conv2d(F.conv2d(pixels, depthwise, groups=c_in), pointwise)
    return answers.flip(2, 3).transpose(0, 1)


# 01.5


def tail(channels):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def stem_and_four():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, 3, 2), SeparableConv(32, 64),
                         SeparableConv(64, 64, 3, 2), SeparableConv(64, 64), *tail(64))


def wide_early():
    """At most 48 KiB, in blocks and flat."""
    return nn.Sequential(ConvBNAct(3, 12, 3, 2), SeparableConv(12, 24), SeparableConv(24, 48, 3, 2),
                         SeparableConv(48, 64, 3, 2), SeparableConv(64, 64), *tail(64))


def flat():
    leaves = [module for module in wide_early().modules() if not any(module.children())]
    return nn.Sequential(*leaves)


class AClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = stem_and_four()[:5], nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


class Functional(nn.Module):
    """Weights as parameters, F.conv2d, and no modules but BatchNorm."""

    def __init__(self):
        super().__init__()
        shapes = ((16, 3, 3), (16, 1, 3), (32, 16, 1), (32, 1, 3), (64, 32, 1), (64, 1, 3), (64, 64, 1), (64, 1, 3),
                  (64, 64, 1))
        self.weights = nn.ParameterList(nn.Conv2d(i, o, k).weight.detach() for o, i, k in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o, _, _ in shapes)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for weight, norm, stride in zip(self.weights, self.norms, (2, 2, 1, 1, 1, 2, 1, 1, 1), strict=True):
            x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])
            x = F.relu(norm(x))
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        layers = stem_and_four()
        self.start, self.again, self.last, self.tail = layers[:4], SeparableConv(64, 64), nn.Identity(), layers[5:]

    def forward(self, x):
        x = self.start(x)
        return self.tail(self.last(x + self.again(x)))


# 01.6

BY_HAND = {"standard 3x3, parameters": 28_800, "standard 3x3, MACs": 22_579_200, "depthwise 5x5, MACs": 784_000,
           "1x1 in 4 groups, MACs": 627_200, "1x7 then 7x1, MACs": 17_561_600,
           "separable over standard, MACs": 0.12361111111111112}


def by_hand(kind=int, **changes):
    return lambda: {key: kind(value) if value > 1 else value for key, value in BY_HAND.items()} | changes


def asked():
    def macs(*layers):
        return lw.profile(nn.Sequential(*layers), (40, 28, 28)).macs
    standard = nn.Conv2d(40, 80, 3, padding=1, bias=False)
    filters = nn.Conv2d(40, 40, 3, padding=1, groups=40)
    return dict(zip(BY_HAND, (
        standard.weight.numel(), macs(standard), macs(nn.Conv2d(40, 40, 5, padding=2, groups=40)),
        macs(nn.Conv2d(40, 80, 1, groups=4)),
        macs(nn.Conv2d(40, 40, (1, 7), padding=(0, 3)), nn.Conv2d(40, 40, (7, 1), padding=(3, 0))),
        macs(filters, nn.Conv2d(40, 80, 1)) / macs(standard)), strict=True))


# 01.7


class TwoLayers(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.b = nn.Conv2d(out_channels, out_channels, (kernel, 1), padding="same", bias=False)  # built last first
        self.a = nn.Conv2d(in_channels, out_channels, (1, kernel), padding="same", bias=False)

    def forward(self, x):
        return self.b(self.a(x))


class InARow(nn.Sequential):
    def __init__(self, in_channels, out_channels, kernel):
        half = kernel // 2
        super().__init__(nn.Conv2d(in_channels, out_channels, (1, kernel), padding=(0, half), bias=False),
                         nn.Conv2d(out_channels, out_channels, (kernel, 1), padding=(half, 0), bias=False))


class Listed(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(i, out_channels, size, padding=tuple(side // 2 for side in size), bias=False)
            for i, size in ((in_channels, (1, kernel)), (out_channels, (kernel, 1))))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class ByParameters(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.row = nn.Parameter(torch.randn(out_channels, in_channels, 1, kernel))
        self.column = nn.Parameter(torch.randn(out_channels, out_channels, kernel, 1))
        self.half = kernel // 2

    def forward(self, x):
        return F.conv2d(F.conv2d(x, self.row, padding=(0, self.half)), self.column, padding=(self.half, 0))


class PaddedFirst(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.half = kernel // 2
        self.row = nn.Conv2d(in_channels, out_channels, (1, kernel), bias=False)
        self.column = nn.Conv2d(out_channels, out_channels, (kernel, 1), bias=False)

    def forward(self, x):
        x = self.row(F.pad(x, (self.half, self.half, 0, 0)))
        return self.column(F.pad(x, (0, 0, self.half, self.half)))


class ZeroPadded(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        half = (kernel - 1) // 2
        self.both = nn.Sequential(nn.ZeroPad2d((half, half, 0, 0)), nn.Conv2d(in_channels, out_channels, (1, kernel),
                                                                             bias=False),
                                  nn.ZeroPad2d((0, 0, half, half)), nn.Conv2d(out_channels, out_channels, (kernel, 1),
                                                                             bias=False))

    def forward(self, x):
        return self.both(x)


# 01.8


class Repaired(nn.Module):
    """The sheet's class, mended."""

    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=dilation, dilation=dilation,
                                   groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        x = F.relu(self.norm1(self.depthwise(x)))
        return F.relu(self.norm2(self.pointwise(x)))


class RepairedInPlace(Repaired):
    def forward(self, x):
        x = self.norm1(self.depthwise(x)).relu_()
        return torch.clamp_min(self.norm2(self.pointwise(x)), 0)


class RepairedInARow(nn.Sequential):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        c = in_channels
        super().__init__(
            nn.Conv2d(c, c, 3, stride, dilation, dilation, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())


class RepairedByBlocks(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__()
        self.mix = ConvBNAct(in_channels, out_channels, 1)
        self.filter = ConvBNAct(in_channels, in_channels, 3, stride, dilation=dilation, groups=in_channels)

    def forward(self, x):
        return self.mix(self.filter(x))


class RepairedPadded(Repaired):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__(in_channels, out_channels, stride, dilation)
        self.depthwise.padding, self.border = (0, 0), dilation

    def forward(self, x):
        return super().forward(F.pad(x, (self.border,) * 4))


class RepairedByParameters(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__()
        self.filters = nn.Parameter(torch.randn(in_channels, 1, 3, 3))
        self.mixer = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.norms = nn.ModuleList((nn.BatchNorm2d(in_channels), nn.BatchNorm2d(out_channels)))
        self.steps = stride, dilation

    def forward(self, x):
        stride, dilation = self.steps
        x = F.conv2d(x, self.filters, None, stride, dilation, dilation, len(self.filters))
        return self.norms[1](F.conv2d(self.norms[0](x).relu(), self.mixer)).relu()


RIGHT = {
    "01.1": {"a list": conv_cost(list), "NumPy": conv_cost(np.array), "a tensor": conv_cost(torch.tensor),
             "a named tuple": conv_cost(Cost._make), "a layer is asked": lambda: a_layer_is_asked(),
             "steps counted, floats": lambda: steps_counted()},
    "01.2": {"permute": shuffle(table), "stack of chunks": shuffle(stacked), "places joined": shuffle(joined_places),
             "pixels in one axis": shuffle(one_axis_of_pixels), "einsum": shuffle(einsum), "movedim": shuffle(moved),
             "written into a view": shuffle(written)},
    "01.3": {
        "broadcasting": twin(lambda depthwise, pointwise: pointwise * depthwise.transpose(0, 1)),
        "einsum": twin(lambda depthwise, pointwise: torch.einsum("oiab,iayx->oiyx", pointwise, depthwise)),
        "float64": twin(lambda depthwise, pointwise: pointwise.double() * depthwise.squeeze(1).double()[None]),
        "loops": twin(loops), "lit pixels": twin(lit_pixels),
        "a parameter": twin(lambda depthwise, pointwise: nn.Parameter(
            (depthwise[:, 0] * pointwise.flatten(1)[..., None, None]).clone())),
    },
    "01.5": {"a stem and four": lambda: stem_and_four, "wide early": lambda: wide_early, "flat": lambda: flat,
             "a class": lambda: AClass, "functional": lambda: Functional, "a shortcut": lambda: Residual},
    "01.6": {"typed in": by_hand(), "floats": by_hand(float), "NumPy": by_hand(np.int64),
             "tensors": by_hand(torch.tensor), "counted": asked,
             "share to three digits": by_hand(**{"separable over standard, MACs": 0.1236})},
    "01.7": {"padding same": lambda: TwoLayers, "a row": lambda: InARow, "a list": lambda: Listed,
             "parameters": lambda: ByParameters, "padded first": lambda: PaddedFirst, "ZeroPad2d": lambda: ZeroPadded},
    "01.8": {"mended": lambda: Repaired, "in place": lambda: RepairedInPlace, "a row": lambda: RepairedInARow,
             "ConvBNAct, last first": lambda: RepairedByBlocks, "padded first": lambda: RepairedPadded,
             "parameters": lambda: RepairedByParameters},
}
SLOW = {("01.5", name) for name in RIGHT["01.5"]} - {("01.5", "a stem and four")}
