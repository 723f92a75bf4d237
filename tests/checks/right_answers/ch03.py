"""Right answers to the exercises of chapter 03, each in another style."""
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse import viz
from lwcourse.layers import ChannelShuffle, ConvBNAct, SeparableConv
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.models.shufflenet_v2 import ShuffleUnit


def the(answer):
    return lambda: answer


def viewed(x, groups):
    batch, channels, height, width = map(int, x.shape)
    table = x.view(batch, groups, channels // groups, height, width)
    return table.permute(0, 2, 1, 3, 4).contiguous().view(batch, channels, height, width)


def along(x, groups, *, axis):
    return x.unflatten(axis, (groups, -1)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def by_einsum(x, groups):
    table = x.reshape(x.size(0), groups, -1, x.size(2), x.size(3))
    return torch.einsum("ngchw->ncghw", table).reshape_as(x)


def with_an_index(x, groups):
    return x[:, torch.arange(x.shape[1]).view(groups, -1).T.flatten()]


class Called:
    def __call__(self, x, groups):
        return x.reshape(len(x), groups, -1, *x.shape[2:]).swapdims(1, 2).reshape(x.shape)


def conv_bn(before, after, kernel=1, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(after))


class Flat(nn.Module):
    """Plain names, functional ReLU, slices; the branch runs before the shortcut."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half = out_channels // 2
        self.stride, self.half = stride, in_channels // 2
        read = in_channels if stride == 2 else self.half
        if stride == 2:
            self.side, self.side_mix = conv_bn(read, read, 3, 2, read), conv_bn(read, half)
        self.one, self.two, self.three = conv_bn(read, half), conv_bn(half, half, 3, stride, half), conv_bn(half, half)

    def join(self, kept, made):
        return torch.stack((kept, made), dim=2).flatten(1, 2)

    def forward(self, x):
        made = F.relu(self.three(self.two(F.relu(self.one(x if self.stride == 2 else x[:, self.half:])))))
        kept = F.relu(self.side_mix(self.side(x))) if self.stride == 2 else x[:, :self.half]
        return self.join(kept, made)


class IntoATable(Flat):
    def join(self, kept, made):
        y = torch.empty(len(kept), 2 * kept.shape[1], *kept.shape[2:])
        y[:, 0::2], y[:, 1::2] = kept, made
        return y


class ChannelByChannel(Flat):
    def join(self, kept, made):
        return torch.cat([part[:, i:i + 1] for i in range(kept.shape[1]) for part in (kept, made)], dim=1)


class ByIndex(Flat):
    def join(self, kept, made):
        half = kept.shape[1]
        return torch.cat([kept, made], 1).index_select(1, torch.arange(2 * half).view(2, half).t().reshape(-1))


class Bricks(nn.Module):
    """The course's bricks, named in a dictionary."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half, self.down = out_channels // 2, stride > 1
        read = in_channels if self.down else half
        self.ways = nn.ModuleDict({
            "right": nn.Sequential(ConvBNAct(read, half, 1), ConvBNAct(half, half, 3, stride, groups=half, act=None),
                                   ConvBNAct(half, half, 1)), "left": nn.Identity()})
        if self.down:
            self.ways["left"] = nn.Sequential(ConvBNAct(read, read, 3, 2, groups=read, act=None),
                                              ConvBNAct(read, half, 1))

    def forward(self, x):
        left, right = [x, x] if self.down else x.split(x.shape[1] // 2, dim=1)
        return F.channel_shuffle(torch.cat([self.ways["left"](left), self.ways["right"](right)], dim=1), 2)


class OneReLU(nn.Module):
    """One ReLU for all; ReLU is the last step, which what passes does not see."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half, relu, self.stride = out_channels // 2, nn.ReLU(inplace=True), stride
        read = in_channels if stride == 2 else half
        self.main = nn.Sequential(conv_bn(read, half), relu, conv_bn(half, half, 3, stride, half), conv_bn(half, half),
                                  relu)
        self.other = nn.Sequential(conv_bn(read, read, 3, 2, read), conv_bn(read, half), relu) if stride == 2 else None

    def forward(self, x):
        kept, taken = (x, x) if self.other is not None else torch.tensor_split(x, 2, dim=1)
        kept = kept if self.other is None else self.other(kept)
        return ChannelShuffle(2)(torch.cat((kept, self.main(taken)), 1))


class LinearMixes(nn.Module):
    """The 1x1 convolutions are linear layers over the channels, which stand last."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half, self.stride = out_channels // 2, stride
        read = in_channels if stride == 2 else half
        self.mix, self.mix_again = nn.Linear(read, half, bias=False), nn.Linear(half, half, bias=False)
        self.norm, self.norm_again = nn.BatchNorm2d(half), nn.BatchNorm2d(half)
        self.filter = conv_bn(half, half, 3, stride, half)
        self.side = nn.Sequential(conv_bn(read, read, 3, 2, read), conv_bn(read, half), nn.ReLU()) \
            if stride == 2 else nn.Identity()

    def forward(self, x):
        kept, taken = (x, x) if self.stride == 2 else x.chunk(2, 1)
        y = self.norm(self.mix(taken.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).relu()
        y = self.norm_again(self.mix_again(self.filter(y).movedim(1, -1)).movedim(-1, 1)).relu()
        return torch.stack([self.side(kept), y], 2).flatten(1, 2)


RIGHT_COUNTS = {2: 2, 4: 2, 8: 2, 16: 3, 32: 6}


def measured():
    needed = {}
    for groups in RIGHT_COUNTS:
        stack = nn.Sequential(nn.Conv2d(64, 64, 1, groups=groups))
        while not viz.channel_connections(stack, 64, size=1).all():
            stack.extend([ChannelShuffle(groups), nn.Conv2d(64, 64, 1, groups=groups)])
        needed[groups] = 1 + len(stack) // 2
    return needed


def head(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def of_units():
    return nn.Sequential(ConvBNAct(3, 8, 3, stride=2), ShuffleUnit(8, 24, 2), ShuffleUnit(24, 24, 1),
                         ConvBNAct(24, 32, 1), *head(32))


class AClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.classifier = of_units()[:4], nn.Linear(32, 10)

    def forward(self, x):
        return self.classifier(self.body(x).mean((2, 3)))


def with_a_width(width=24):
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), Flat(8, width, 2), Flat(width, width, 1), ConvBNAct(width, 32, 1),
                         *head(32))


RIGHT = {
    "03.1": {"views": the(viewed), "a partial of a helper": the(partial(along, axis=1)), "einsum": the(by_einsum),
             "a tensor of indices": the(with_an_index), "an object that is called": Called,
             "a stack of chunks": the(lambda x, groups: torch.stack(x.chunk(groups, 1), dim=2).flatten(1, 2)),
             "movedim": the(lambda x, groups: x.unflatten(1, (groups, -1)).movedim(1, 2).flatten(1, 2))},
    "03.2": {"flat, branch first": the(Flat), "written into a table": the(IntoATable),
             "channel by channel": the(ChannelByChannel), "index_select": the(ByIndex), "bricks in a dict": the(Bricks),
             "one ReLU for all": the(OneReLU), "linear layers": the(LinearMixes)},
    "03.3": {"measured": measured, "integers": the(RIGHT_COUNTS),
             "floats": lambda: {groups: float(count) for groups, count in RIGHT_COUNTS.items()},
             "the formula": lambda: {g: math.ceil(math.log(64) / math.log(64 / g) - 1e-9) for g in RIGHT_COUNTS},
             "tensors": lambda: {groups: torch.tensor(count) for groups, count in RIGHT_COUNTS.items()},
             "arrays": lambda: {np.int64(groups): np.array([count]) for groups, count in RIGHT_COUNTS.items()},
             "one key more": lambda: {1: 1} | RIGHT_COUNTS},
    "03.4": {"units of V2": the(of_units), "a class": the(AClass), "own units": the(with_a_width),
             "a default argument": the(partial(with_a_width, width=24)),
             "inverted residuals": the(lambda: nn.Sequential(
                 ConvBNAct(3, 8, 3, 2), InvertedResidual(8, 12, 2, 3), SeparableConv(12, 24), ConvBNAct(24, 24, 1),
                 *head(24))),
             "three narrow units": the(lambda: nn.Sequential(
                 ConvBNAct(3, 8, 3, 2), ShuffleUnit(8, 20, 2), ShuffleUnit(20, 20, 1), ShuffleUnit(20, 20, 1),
                 ConvBNAct(20, 28, 1), *head(28)))},
}
SLOW = {("03.4", name) for name in RIGHT["03.4"] if name != "units of V2"}
