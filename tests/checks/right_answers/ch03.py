"""Right answers to the exercises of chapter 03, each in another style."""
import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
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


# 03.5
PREDICTED = {"macs": 5_644_800, "weights": 28_800, "inputs": 60, "pairs": 0.25, "two layers": 0.25,
             "two layers and a shuffle": 1}


def counted():
    layer, second = nn.Conv2d(240, 480, 1, groups=4, bias=False), nn.Conv2d(480, 480, 1, groups=4, bias=False)
    stacks = {"pairs": [layer], "two layers": [layer, second],
              "two layers and a shuffle": [layer, nn.ChannelShuffle(4), second]}
    shares = {name: viz.channel_connections(nn.Sequential(*parts), 240, size=1).double().mean()
              for name, parts in stacks.items()}
    return {"macs": lw.profile(layer, (240, 14, 14)).macs, "weights": layer.weight.numel(),
            "inputs": layer.weight.shape[1], **shares}


def by_hand():
    return {"macs": 14 * 14 * 480 * (240 / 4), "weights": 480 * 240 / 4, "inputs": 240 / 4, "pairs": 1 / 4,
            "two layers": 1 / 4, "two layers and a shuffle": 1.0, "note": "by hand"}


# 03.6
class Mended(nn.Module):
    def __init__(self, in_channels, out_channels, stride, groups):
        super().__init__()
        hidden = out_channels // 4
        made = out_channels - in_channels if stride == 2 else out_channels
        self.reduce = ConvBNAct(in_channels, hidden, 1, groups=groups)
        self.filter = ConvBNAct(hidden, hidden, 3, stride, groups=hidden, act=None)
        self.shuffle = ChannelShuffle(hidden // groups)
        self.expand = ConvBNAct(hidden, made, 1, groups=groups, act=None)
        self.stride, self.average = stride, nn.AvgPool2d(3, 2, padding=1)

    def middle(self, x):
        return self.shuffle(self.filter(self.reduce(x)))

    def forward(self, x):
        y = self.expand(self.middle(x))
        if self.stride == 1:
            return torch.relu(x + y)
        return torch.cat([self.average(x), torch.relu(y)], dim=1)


class ShuffledFirst(Mended):
    """As the paper draws it: a depthwise layer mixes no channels."""

    def middle(self, x):
        y = self.reduce(x)
        depthwise, norm = self.filter[0], self.filter[1]
        return self.shuffle(norm(depthwise(y)))


class WithTorchsShuffle(Mended):
    def __init__(self, in_channels, out_channels, stride, groups):
        super().__init__(in_channels, out_channels, stride, groups)
        self.shuffle = nn.ChannelShuffle(out_channels // 4 // groups)


class ShuffledByViews(Mended):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.groups = sizes[3]

    def middle(self, x):
        y = self.filter(self.reduce(x))
        batch, channels, height, width = y.shape
        table = y.view(batch, channels // self.groups, self.groups, height, width)
        return table.transpose(1, 2).reshape(y.shape)


class InOneSequence(nn.Module):
    def __init__(self, in_channels, out_channels, stride, groups):
        super().__init__()
        hidden, self.stride = out_channels // 4, stride
        made = out_channels - (stride - 1) * in_channels
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, groups=groups, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
            nn.ChannelShuffle(hidden // groups),
            nn.Conv2d(hidden, made, 1, groups=groups, bias=False), nn.BatchNorm2d(made))

    def forward(self, x):
        y = self.branch(x)
        return (x + y).relu() if self.stride == 1 else torch.cat((F.avg_pool2d(x, 3, 2, 1), y.relu()), 1)


class ReLUOfAll(Mended):
    """The average of positive numbers is positive, but not of others: ReLU on the branch alone, written otherwise."""

    def forward(self, x):
        y = self.expand(self.middle(x))
        return F.relu(y.add(x)) if self.stride == 1 else torch.cat([self.average(x), y.clamp(min=0)], dim=1)


# 03.7
ALL_COLUMNS = ((0.5, (48, 96, 192)), (1.0, (116, 232, 464)), (1.5, (176, 352, 704)), (2.0, (244, 488, 976)))


def stages_of(width):
    return zip(dict(ALL_COLUMNS)[width], (4, 8, 4), strict=True)


class Assembled(nn.Module):
    def __init__(self, width):
        super().__init__()
        features = 2048 if width == 2.0 else 1024
        channels, units = 24, []
        for made, repeats in stages_of(width):
            units.append(ShuffleUnit(channels, made, 2))
            units += [ShuffleUnit(made, made, 1) for _ in range(repeats - 1)]
            channels = made
        self.stem = ConvBNAct(3, 24, 3, stride=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.units = nn.ModuleList(units)
        self.head = ConvBNAct(channels, features, 1)
        self.classifier = nn.Linear(features, 1000)

    def forward(self, x):
        x = self.pool(self.stem(x))
        for unit in self.units:
            x = unit(x)
        return self.classifier(self.head(x).mean((2, 3)))


def in_a_sequence(width):
    layers, channels = [ConvBNAct(3, 24, 3, stride=2), nn.MaxPool2d(3, stride=2, padding=1)], 24
    for made, repeats in stages_of(width):
        for i in range(repeats):
            layers.append(ShuffleUnit(channels, made, 1 if i else 2))
            channels = made
    features = 2048 if width == 2 else 1024
    return nn.Sequential(*layers, ConvBNAct(channels, features, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(features, 1000))


class StageByStage(nn.Module):
    def __init__(self, width):
        super().__init__()
        (a, b, c), features = dict(ALL_COLUMNS)[width], 2048 if width > 1.5 else 1024
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.stage2, self.stage3, self.stage4 = self.stage(24, a, 4), self.stage(a, b, 8), self.stage(b, c, 4)
        self.head = ConvBNAct(c, features, 1)
        self.end = nn.Linear(features, 1000)

    def stage(self, taken, made, repeats):
        return nn.Sequential(ShuffleUnit(taken, made, 2), *(ShuffleUnit(made, made, 1) for _ in range(repeats - 1)))

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), kernel_size=3, stride=2, padding=1)
        x = self.head(self.stage4(self.stage3(self.stage2(x))))
        return self.end(x.flatten(2).mean(dim=-1))


class LayerByLayer(Assembled):
    def __init__(self, width):
        super().__init__(width)
        self.units = nn.Sequential(*self.units)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.head(self.units(x)), 1), 1))


def with_own_norms(width):
    """The head as bare layers, its 1x1 as one convolution."""
    network = Assembled(width)
    conv, norm = network.head[0], network.head[1]
    network.head = nn.Sequential(conv, norm, nn.ReLU())
    return network


def with_a_convolution_for_the_classifier(width):
    network = in_a_sequence(width)
    features = network[-1].in_features
    return nn.Sequential(*network[:-2], nn.Conv2d(features, 1000, 1), nn.Flatten())


RIGHT = {
    "03.5": {"typed": the(PREDICTED), "counted": counted, "by hand": by_hand,
             "floats": lambda: {name: float(value) for name, value in PREDICTED.items()},
             "tensors": lambda: {name: torch.tensor(value) for name, value in PREDICTED.items()},
             "arrays": lambda: {name: np.array([value]) for name, value in PREDICTED.items()}},
    "03.6": {"mended": the(Mended), "PyTorch's shuffle": the(WithTorchsShuffle), "views": the(ShuffledByViews),
             "one sequence": the(InOneSequence), "layers apart": the(ShuffledFirst), "other words": the(ReLUOfAll)},
    "03.7": {"modules in a list": the(Assembled), "a sequence": the(in_a_sequence),
             "stage by stage": the(StageByStage), "functional": the(LayerByLayer), "bare layers": the(with_own_norms),
             "a convolution at the end": the(with_a_convolution_for_the_classifier)},
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
