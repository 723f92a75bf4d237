"""Wrong answers to the exercises of chapter 05, and words that the refusal must have."""
import math
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import lwcourse as lw
from lwcourse.checks.ch05.timing import KINDS, GatedBlock
from lwcourse.layers import (
    ConvBNAct,
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SplitAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.profile import profile


def eca(*, kernel=adaptive_kernel_size, bias=False, pool=lambda x: x.mean(dim=(2, 3)), squash=torch.sigmoid,
        join="times", mode="zeros", padded=True, norm=False, train=lambda self, gate: gate):
    """Builds the class of an ECA layer with one mistake."""
    def build():
        class Eca(nn.Module):
            def __init__(self, channels):
                super().__init__()
                k = kernel(channels)
                self.conv = nn.Conv1d(1, 1, k, padding=k // 2 if padded else 0, bias=bias, padding_mode=mode)
                self.norm = nn.BatchNorm1d(1) if norm else nn.Identity()

            def forward(self, x):
                gate = train(self, squash(self.norm(self.conv(pool(x).unsqueeze(1))).squeeze(1))[:, :, None, None])
                return {"times": lambda: x * gate, "smaller": lambda: x[:, :, 1:] * gate,
                        "halved": lambda: x * gate / 2, "plus": lambda: x + gate, "alone": lambda: gate,
                        "shortcut": lambda: x + x * gate, "reversed": lambda: x * (1 - gate)}[join]()
        return Eca
    return build


def eca_one_axis(axis=2):
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            k = adaptive_kernel_size(channels)
            self.conv = nn.Conv2d(1, 1, (k, 1), padding=(k // 2, 0), bias=False)

        def forward(self, x):
            gate = self.conv(x.mean(dim=axis).unsqueeze(1)).sigmoid().transpose(1, 2)  # (N, C, 1, other axis)
            return x * (gate if axis == 2 else gate.transpose(2, 3))
    return Eca


def eca_padded(front):
    def build():
        class Eca(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.more = adaptive_kernel_size(channels) - 1
                self.conv = nn.Conv1d(1, 1, self.more + 1, bias=False)

            def forward(self, x):
                means = F.pad(x.mean(dim=(2, 3)).unsqueeze(1), (self.more, 0) if front else (0, self.more))
                return x * self.conv(means).sigmoid().transpose(1, 2).unsqueeze(-1)
        return Eca
    return build


def eca_in_a_row():
    class Eca(eca()()):
        def forward(self, x):
            return x * self.conv(x.mean(dim=(2, 3)).reshape(1, 1, -1)).sigmoid().reshape(len(x), -1, 1, 1)
    return Eca


def eca_over_pixels():
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            k = adaptive_kernel_size(channels)
            self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

        def forward(self, x):
            gate = self.conv(x.mean(dim=1, keepdim=True).flatten(2)).sigmoid()
            return x * gate.view(len(x), 1, *x.shape[2:])
    return Eca


def eca_all_channels():
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            k = adaptive_kernel_size(channels)
            self.conv = nn.Conv1d(channels, channels, k, padding=k // 2, bias=False)

        def forward(self, x):
            return x * self.conv(x.mean(dim=(2, 3)).unsqueeze(-1)).sigmoid().unsqueeze(-1)
    return Eca


def eca_without_return():
    class Eca(eca()()):
        def forward(self, x):
            super().forward(x)
    return Eca


def eca_in_a_list():
    class Eca(eca()()):
        def __init__(self, channels):
            super().__init__(channels)
            self.kernels = [self.conv]
            del self.conv

        def forward(self, x):
            return x * self.kernels[0](x.mean((2, 3)).unsqueeze(1)).sigmoid().transpose(1, 2).unsqueeze(-1)
    return Eca


def eca_se():
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.down, self.up = (nn.Linear(*sizes, bias=False) for sizes in ((channels, channels // 4),
                                                                              (channels // 4, channels)))

        def forward(self, x):
            return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
    return Eca


class NoModuleClass(nn.Module):
    def __new__(cls, channels):
        return channels


class InheritsEca(EfficientChannelAttention):
    pass


def ca(*, act=F.hardswish, hidden=lambda channels, reduction: max(8, channels // reduction), norm=True, pool="mean",
       join="times", squash=torch.sigmoid, squeezes=1, opens=2, bias=True, order="conv norm act", transpose=True,
       apart=False):
    """Builds the class of a coordinate attention with one mistake."""
    def build():
        class Ca(nn.Module):
            def __init__(self, channels, reduction):
                super().__init__()
                h = hidden(channels, reduction)
                self.squeeze = nn.ModuleList(nn.Conv2d(channels, h, 1, bias=bias) for _ in range(squeezes))
                self.norm = nn.ModuleList(nn.BatchNorm2d(channels if order.startswith("norm") else h)
                                          for _ in range(squeezes * norm))
                self.open = nn.ModuleList(nn.Conv2d(h, channels, 1, bias=bias) for _ in range(opens))

            def squeezed(self, means, which):
                steps = {"conv": self.squeeze[which], "act": act, "norm": self.norm[which] if norm else nn.Identity()}
                for step in order.split():
                    means = steps[step](means)
                return means

            def forward(self, x):
                height, width = x.shape[2:]
                if pool == "global":
                    mean = x.mean(dim=(2, 3), keepdim=True)
                    rows, columns = mean.expand(-1, -1, height, 1), mean.expand(-1, -1, width, 1)
                else:
                    take = {"mean": torch.mean, "max": torch.amax, "sum": torch.sum}[pool]
                    rows, columns = take(x, dim=3, keepdim=True), take(x, dim=2, keepdim=True).transpose(2, 3)
                if squeezes == 2 or apart:
                    rows, columns = self.squeezed(rows, 0), self.squeezed(columns, squeezes - 1)
                else:
                    rows, columns = self.squeezed(torch.cat([rows, columns], 2), 0).split([height, width], 2)
                rows, columns = squash(self.open[0](rows)), squash(self.open[-1](columns))
                if transpose:
                    columns = columns.transpose(2, 3)
                gate = {"times": lambda: rows * columns, "sum": lambda: rows + columns,
                        "mean": lambda: (rows + columns) / 2, "rows": lambda: rows, "columns": lambda: columns}[join]()
                return x * gate
        return Ca
    return build


def ca_columns_upright():
    class Ca(ca()()):
        def forward(self, x):
            means = torch.cat([x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True)], 2)
            rows, columns = self.squeezed(means, 0).split(list(x.shape[2:]), 2)
            return x * self.open[0](rows).sigmoid() * self.open[1](columns).sigmoid()
    return Ca


def ca_joined(join):
    """Builds the class of a coordinate attention whose `join(self, x, rows, columns)` is the mistake."""
    def build():
        class Ca(nn.Module):
            def __init__(self, channels, reduction):
                super().__init__()
                h = max(8, channels // reduction)
                self.squeeze = nn.Sequential(nn.Conv2d(channels, h, 1), nn.BatchNorm2d(h), nn.Hardswish())
                self.rows, self.columns = nn.Conv2d(h, channels, 1), nn.Conv2d(h, channels, 1)

            def forward(self, x):
                means = [x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True).transpose(2, 3)]
                rows, columns = self.squeeze(torch.cat(means, 2)).split(list(x.shape[2:]), 2)
                columns = columns.transpose(2, 3)
                return join(self, x, rows, columns)
        return Ca
    return build


def no_return():
    class Ca(ca()()):
        def forward(self, x):
            super().forward(x)
    return Ca


class Adds(nn.Module):
    def forward(self, x):
        return x + x.mean(3, keepdim=True)**2


class Opens(nn.Module):
    """A gate as it is built, and none once its weight is no longer 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8, 1, 1))

    def forward(self, x):
        return x * (1 + self.weight * x.mean(3, keepdim=True))


class OpensInTraining(nn.Module):
    def forward(self, x):
        return x + x.mean(3, keepdim=True) if self.training else x


class InAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.gates = [CoordinateAttention(8)]

    def forward(self, x):
        return self.gates[0](x)


TIMES = {"SE": 1.15, "ECA": 1.1, "CA": 1.35, "SA": 3.0, "Triplet": 4.5, "why": "passes over memory"}


def times(**changed):
    return lambda: TIMES | changed


def counts(which):
    """Ratios of MACs or parameters."""
    def build():
        counted = {kind: getattr(profile(GatedBlock(make), (16, 56, 56)), which)
                   for kind, make in (KINDS | {"none": None}).items()}
        return {kind: counted[kind] / counted["none"] for kind in KINDS} | {"why": "MACs"}
    return build


def design(**gates):
    """The function without arguments that exercise 05.4 wants; each gate is a function that builds it."""
    return lambda: (lambda: {slot: build() for slot, build in gates.items()})


CA = CoordinateAttention(8)
NUMBERS = {"SE": 64, "ECA": 64, "CA": 1536, "SA": 4512, "Triplet": 1676}


def numbers(**changed):
    return lambda: NUMBERS | changed


def rule(change):
    """The function of exercise 05.6, with a mistake: `change` gets channels, gamma and b."""
    return lambda: (lambda channels, gamma=2, b=1: change(channels, gamma, b))


def size(channels, gamma, b, log=math.log2):
    return (log(channels) + b) / gamma


def odd(number):
    return int(number) if int(number) % 2 else int(number) + 1


def split(*, means="sum", order="groups", squash=lambda a: a.softmax(1), leak=False, bias=False, norm=True,
          detached=False):
    """Builds the class of a Split-Attention with the bugs that are named."""
    def build():
        class Split(nn.Module):
            def __init__(self, channels, radix, cardinality):
                super().__init__()
                hidden = max(32, channels * radix // 4)
                self.radix, self.cardinality = radix, cardinality
                self.splits = nn.Sequential(
                    nn.Conv2d(channels, channels * radix, 3, padding=1, groups=cardinality * radix, bias=bias),
                    nn.BatchNorm2d(channels * radix), nn.ReLU())
                self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1, groups=cardinality),
                                             nn.BatchNorm2d(hidden) if norm else nn.Identity(), nn.ReLU())
                self.excite = nn.Conv2d(hidden, channels * radix, 1, groups=cardinality)

            def forward(self, x):
                u = self.splits(x).unflatten(1, (self.radix, -1))
                means_of = {"sum": lambda: u.sum(1), "first": lambda: u[:, 0], "last": lambda: u[:, -1],
                            "mean": lambda: u.mean(1)}[means]().mean((2, 3), keepdim=True)
                a = self.excite(self.squeeze(means_of))
                if order == "groups":
                    a = a.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2).flatten(2, 3)
                elif order == "splits":
                    a = a.unflatten(1, (self.radix, -1))
                a = squash(a)
                a = a.detach() if detached else a
                y = a * u
                return y.mean(1) if leak else y.sum(1)
        return Split
    return build


def split_without_return():
    class Split(split()()):
        def forward(self, x):
            super().forward(x)
    return Split


class OurSplit(nn.Module):
    def __init__(self, channels, radix, cardinality):
        super().__init__()
        self.layer = SplitAttention(channels, radix=radix, cardinality=cardinality)

    def forward(self, x):
        return self.layer(x)


def host(place="projection", *, first=True, kernel=lambda channels: 3 if channels >= 96 else 1, dropout=0.25,
         gate=EfficientChannelAttention):
    """The function of exercise 05.8: torchvision's MobileNetV2 with the gate at `place`."""
    def build():
        network = torchvision.models.mobilenet_v2(weights=None, dropout=dropout)
        for i, block in enumerate(network.features[1:-1]):
            channels = block.conv[-1].num_features
            if place == "filter":
                *before, project, norm = block.conv
                block.conv = nn.Sequential(*before, gate(project.in_channels, kernel(channels)), project, norm)
            elif place == "sum":
                network.features[1 + i] = nn.Sequential(block, gate(channels, kernel(channels)))
            elif place == "norm":
                block.conv.insert(len(block.conv) - 1, gate(channels, kernel(channels)))
            elif first or i:
                block.conv.append(gate(channels, kernel(channels)))
        return network
    return lambda: build


def squeezes(channels, kernel_size):
    return SqueezeExcitation(channels, 8)

WRONG = {
    "05.1": {
        "no sigmoid": (eca(squash=lambda x: x), "the sigmoid is missing"),
        "sigmoid first": (eca(pool=lambda x: x.mean(dim=(2, 3)).sigmoid(), squash=lambda x: x),
                          "the sigmoid comes before the convolution"),
        "padded in front": (eca_padded(True), "the padding is in front alone"),
        "padded behind": (eca_padded(False), "the padding is at the end alone"),
        "all images in a row": (eca_in_a_row, "the means of all images are one signal"),
        "two sigmoids": (eca(squash=lambda x: x.sigmoid().sigmoid()), "there are two sigmoids"),
        "hard sigmoid": (eca(squash=F.hardsigmoid), "hard sigmoid"),
        "tanh": (eca(squash=torch.tanh), "is a tanh"),
        "softmax": (eca(squash=lambda x: x.softmax(dim=1)), "compete for a sum of 1"),
        "even kernel": (eca(kernel=lambda channels: 4), "an even number"),
        "a fixed kernel": (eca(kernel=lambda channels: 3), "with 128 channels there are 3 weights"),
        "mean over rows": (eca_one_axis, "the mean is over rows only"),
        "mean over columns": (lambda: eca_one_axis(3), "the mean is over columns only"),
        "convolution over pixels": (eca_over_pixels, "runs over the pixels"),
        "convolution mixes all channels": (eca_all_channels, "takes the channels for the channels of a signal"),
        "squeeze and excitation": (eca_se, "that is SE, which squeezes"),
        "bias": (eca(bias=True), "has a bias"),
        "BatchNorm": (eca(norm=True), "no BatchNorm or the like"),
        "maximum": (eca(pool=lambda x: x.amax(dim=(2, 3))), "the maximum is taken"),
        "sum": (eca(pool=lambda x: x.sum(dim=(2, 3))), "each channel is summed"),
        "added": (eca(join="plus"), "the gate is added"),
        "with a shortcut": (eca(join="shortcut"), "ECA has no shortcut"),
        "reversed": (eca(join="reversed"), "it closes where that opens"),
        "halved": (eca(join="halved"), "no usual mistake explains it"),
        "a row less": (eca(join="smaller"), "the shape must stay"),
        "mean over the batch": (eca(pool=lambda x: x.mean(dim=(0, 2, 3)).expand(len(x), -1)), "images share one gate"),
        "gate alone": (eca(join="alone"), "you return the gate alone"),
        "first and last are neighbours": (eca(mode="circular"), "are neighbours in your layer"),
        "repeated at the ends": (eca(mode="replicate"), "are repeated beyond the ends"),
        "mirrored at the ends": (eca(mode="reflect"), "are mirrored beyond the ends"),
        "no return": (eca_without_return, "is the return missing?"),
        "dropout": (eca(train=lambda self, gate: F.dropout(gate, 0.5, self.training)), "not in training mode"),
        "detached": (eca(train=lambda self, gate: gate.detach()), "not all gradients are"),
        "no module": (lambda: NoModuleClass, "not an nn.Module"),
        "the kernel in a list": (eca_in_a_list, "plain Python list"),
        "the course's": (lambda: InheritsEca, "the course's `EfficientChannelAttention`"),
    },
    "05.2": {
        "ReLU": (ca(act=F.relu), "the activation is ReLU;"),
        "ReLU6": (ca(act=F.relu6), "the activation is ReLU6;"),
        "SiLU": (ca(act=F.silu), "the activation is SiLU"),
        "no activation": (ca(act=lambda x: x), "activation after the shared convolution is missing"),
        "fewer than eight": (ca(hidden=lambda channels, reduction: channels // reduction), "may be fewer than 8"),
        "rounded up": (ca(hidden=lambda channels, reduction: max(8, -(-channels // reduction))), "are rounded up"),
        "no BatchNorm": (ca(norm=False), "BatchNorm is missing"),
        "BatchNorm not used": (ca(order="conv act"), "BatchNorm is built but not used"),
        "BatchNorm first": (ca(order="norm conv act"), "BatchNorm comes before the shared convolution"),
        "BatchNorm last": (ca(order="conv act norm"), "BatchNorm comes after the activation"),
        "global pooling": (ca(pool="global"), "the place is lost"),
        "maximum": (ca(pool="max"), "the maximum is taken"),
        "sums": (ca(pool="sum"), "are summed where their means"),
        "sum of gates": (ca(join="sum"), "the two gates are added"),
        "mean of gates": (ca(join="mean"), "the mean of the two gates"),
        "rows alone": (ca(join="rows"), "that of the rows"),
        "columns alone": (ca(join="columns"), "that of the columns"),
        "two squeezes": (ca(squeezes=2), "they share one"),
        "the squeeze called twice": (ca(apart=True), ["training mode", "is called 2 times"]),
        "one opening": (ca(opens=1), "rows and columns need one each"),
        "columns not turned": (ca_columns_upright, "Turn one of them before"),
        "gates of repeated means": (ca_joined(lambda self, x, r, c: x * self.rows(r.expand_as(r * c)).sigmoid()
                                              * self.columns(c.expand_as(r * c)).sigmoid()),
                                    ["more work", "on a map that was repeated"]),
        "columns not turned back": (ca(transpose=False), "must match the size"),
        "no sigmoid": (ca(squash=lambda x: x), "the sigmoid is missing"),
        "hard sigmoids": (ca(squash=F.hardsigmoid), "the gates are hard sigmoids"),
        "no bias": (ca(bias=False), "no convolution has a bias"),
        "one sigmoid of the product": (ca_joined(lambda self, x, r, c: x * (self.rows(r) * self.columns(c)).sigmoid()),
                                       "each gate has its own"),
        "row means twice": (ca_joined(lambda self, x, r, c: x * self.rows(r).sigmoid() * self.columns(r).sigmoid()),
                            "row means open both gates"),
        "column means twice": (ca_joined(lambda self, x, r, c: x * self.rows(c).sigmoid() * self.columns(c).sigmoid()),
                               "column means open both gates"),
        "a shortcut": (ca_joined(lambda self, x, r, c: x + x * self.rows(r).sigmoid() * self.columns(c).sigmoid()),
                       "has no shortcut"),
        "gates alone": (ca_joined(lambda self, x, r, c: self.rows(r).sigmoid() * self.columns(c).sigmoid()),
                        "you return the gates alone"),
        "no return": (no_return, "is the return missing?"),
        "inherits the course's": (lambda: type("Ca", (CoordinateAttention,), {}), "the course's `CoordinateAttention`"),
    },
    "05.3": {
        "ratios of MACs": (counts("macs"), "these are ratios of MACs"),
        "ratios of parameters": (counts("params"), "these are ratios of parameters"),
        "seconds": (times(SE=1e-3, ECA=1e-3, CA=2e-3, SA=5e-3, Triplet=7e-3), "these look like seconds"),
        "milliseconds": (times(SE=4.64, ECA=4.36, CA=5.44, SA=6.12, Triplet=11.92), "these look like milliseconds"),
        "percent": (times(SE=115.0, ECA=110.0, CA=135.0, SA=160.0, Triplet=300.0), "milliseconds, or percent"),
        "added share": (times(SE=0.15, ECA=0.1, CA=0.35, SA=0.6, Triplet=2.0), "the ratio minus 1"),
        "upside down": (times(SE=0.9, ECA=0.95, CA=0.8, SA=0.4, Triplet=0.3), "upside down"),
        "below zero": (times(SE=-1.0), "is a positive number"),
        "a text": (times(SE="fast"), "SE: got 'fast', not a number"),
        "SA for nothing": (times(SA=1.0), "SA takes no time by your numbers"),
        "in the order of MACs": (times(SA=1.05), "SE takes as long as SA"),
        "ECA slower than SA": (times(ECA=3.5), "ECA takes as long as SA"),
        **{f"{kind} is slowest": (times(**{kind: 30.0}), f"{kind} takes as long as Triplet") for kind in
           ("SE", "ECA", "CA", "SA")},
        "MACs as the reason": (times(why="MACs"), "has not one MAC"),
        "parameters as the reason": (times(why="parameters"), "cannot be parameters"),
        "another reason": (times(why="magic"), "must be one of"),
        "one forgotten": (lambda: {kind: value for kind, value in TIMES.items() if kind != "SA"}, "there is no 'SA'"),
    },
    "05.4": {
        "no gate: pooling": (design(stem=lambda: nn.Sequential(nn.AvgPool2d((1, 15), 1, (0, 7)), nn.BatchNorm2d(8))),
                             "is no gate"),
        "no gate: a sum": (design(head=Adds), "is no gate"),
        "no gate: a convolution": (design(stem=partial(ConvBNAct, 8, 8, (1, 9), groups=8)), "is no gate"),
        "a gate only at first": (design(stem=Opens), "is no gate"),
        "a gate only in eval mode": (design(stem=OpensInTraining), "is no gate"),
        "SE cannot see places": (design(filter=partial(SqueezeExcitation, 32, 4)), "half is guessing"),
        "SA cannot either": (design(filter=partial(ShuffleAttention, 32, 4)), "half is guessing"),
        "CA where channels are many": (design(filter=partial(CoordinateAttention, 32)),
                                       "856 parameters, of 600 allowed"),
        "a 7x7 Triplet": (design(filter=partial(TripletAttention, 32)), "MACs, of 20,000 allowed"),
        "no such slot": (design(classifier=partial(SqueezeExcitation, 32)), "there is no slot 'classifier'"),
        "channels of another slot": (design(stem=partial(CoordinateAttention, 32)), "cannot run a map of 8 channels"),
        "a gate that halves the map": (design(stem=lambda: nn.MaxPool2d(2)), "a gate keeps the shape"),
        "not built": (design(stem=lambda: CoordinateAttention), "not a layer that is built already"),
        "built outside": (design(stem=lambda: CA), "the same layer"),
        "layers in a list": (design(stem=InAList), "plain Python list"),
        "nothing": (lambda: (lambda: {}), "with one entry at least"),
        "no return": (lambda: (lambda: None), "is the return missing?"),
    },
    "05.5": {
        "all of them spread": (lambda: dict.fromkeys(NUMBERS, 64 * 140), "after they are spread over the map"),
        "one gate for the map": (numbers(SE=1), "not one for the whole map"),
        "ECA's kernel": (numbers(ECA=3), "is what it learns"),
        "CA without channels": (numbers(CA=24), "are there in each channel"),
        "CA multiplied": (numbers(CA=64 * 140), "after they are spread"),
        "SA's pixels alone": (numbers(SA=32 * 140), "gates for whole channels in the other half"),
        "SA's channels alone": (numbers(SA=32), "the other half has gates for its pixels"),
        "SA with one plane": (numbers(SA=32 + 140), "not one plane for all"),
        "SA for all": (numbers(SA=64 * 140), "after they are spread"),
        "Triplet's last plane": (numbers(Triplet=140), "so it has three planes"),
        "Triplet without it": (numbers(Triplet=64 * 24), "third plane"),
        "Triplet twice": (numbers(Triplet=2 * 1676), "not two"),
        "another number": (numbers(CA=1500), "CA: 1,500 is"),
        "a word": (numbers(CA="many"), "not a number"),
        "one forgotten": (lambda: {"SE": 64}, "there is no 'ECA'"),
    },
    "05.6": {
        "even": (rule(lambda *c: int(size(*c))), "you return it as it is"),
        "down": (rule(lambda *c: int(size(*c)) - (int(size(*c)) % 2 == 0)), "it goes up"),
        "always one more": (rule(lambda *c: int(size(*c)) + 1), "you add 1 to every one"),
        "rounded": (rule(lambda *c: odd(round(size(*c)))), "you round to the nearest whole number first"),
        "rounded up": (rule(lambda *c: odd(math.ceil(size(*c)))), "you round up to a whole number"),
        "not whole": (rule(size), "is not cut to a whole number"),
        "natural": (rule(lambda *c: odd(size(*c, math.log))), "the natural one"),
        "decimal": (rule(lambda *c: odd(size(*c, math.log10))), "base 10"),
        "no b": (rule(lambda c, g, b: odd(size(c, g, 0))), "b is missing"),
        "b alone": (rule(lambda c, g, b: odd(size(c, g, 0) + b)), "gamma divides b"),
        "times gamma": (rule(lambda c, g, b: odd(size(c, 1, b) * g)), "the rule divides"),
        "fixed": (rule(lambda c, g, b: odd(size(c, 2, 1))), "are ignored"),
        "always 4": (rule(lambda c, g, b: 4), "an even number"),
        "always 1": (rule(lambda c, g, b: 1), "too small"),
        "always 99": (rule(lambda c, g, b: 99), "too large"),
        "other defaults": (lambda: (lambda channels, gamma=1, b=1: odd(size(channels, gamma, b))), "alone must take"),
        "the course's": (lambda: (lambda channels, gamma=2, b=1: adaptive_kernel_size(channels, gamma, b)),
                         "`adaptive_kernel_size`"),
        "no return": (rule(lambda *c: None), "is the return missing?"),
    },
    "05.7": {
        "as it is given": (split(means="first", order="splits", squash=lambda a: a.softmax(2)), "three bugs are in it"),
        "order mended": (split(means="first", squash=lambda a: a.softmax(2)), "two bugs are left"),
        "means mended": (split(order="splits", squash=lambda a: a.softmax(2)), "two bugs are left"),
        "softmax mended": (split(means="first", order="splits"), ["two bugs are left", "one split only"]),
        "softmax left": (split(squash=lambda a: a.softmax(2)), ["one bug is left", "do not add up to 1"]),
        "means left": (split(means="first"), ["one bug is left", "one split only"]),
        "order left": (split(order="splits"), ["one bug is left", "weights of one group"]),
        "the last split": (split(means="last"), "the last split only"),
        "mean of the splits": (split(means="mean"), "should take their sum"),
        "sigmoid": (split(squash=torch.sigmoid), "lets them compete"),
        "mean at the end": (split(leak=True), "output"),
        "detached": (split(detached=True), "no gradient reaches"),
        "no return": (split_without_return, "is the return missing?"),
        "the course's": (lambda: OurSplit, "the course's `SplitAttention`"),
    },
    "05.8": {
        "after the filter": (host("filter"), "stand after the projection"),
        "after the sum": (host("sum"), "scale the sum with the shortcut"),
        "not in the first block": (host(first=False), "all seventeen"),
        "3 from 64 on": (host(kernel=lambda channels: 3 if channels >= 64 else 1), "3 from 96 on"),
        "3 above 96": (host(kernel=lambda channels: 3 if channels > 96 else 1), "at 96 it is 3 already"),
        "3 everywhere": (host(kernel=lambda channels: 3), "is 3 in every block"),
        "1 everywhere": (host(kernel=lambda channels: 1), "is 1 in every block"),
        "before the norm": (host("norm"), "05.8 not yet"),
        "another dropout": (host(dropout=0.2), "dropout"),
        "SE": (host(gate=squeezes), "05.8 not yet"),
        "no gates": (lambda: partial(torchvision.models.mobilenet_v2, weights=None, dropout=0.25),
                     "there are no gates"),
        "no return": (lambda: (lambda: None), "is the return missing?"),
        "ready made": (lambda: (lambda: lw.create_model("mobilenet_v2_eca")), "the course's `mobilenet_v2_eca`"),
    },
}
SLOW = {("05.4", "SA cannot either")}
