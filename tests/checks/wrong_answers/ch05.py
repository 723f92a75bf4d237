"""Wrong answers to the exercises of chapter 05, and words that the refusal must have."""
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.checks.ch05 import KINDS, GatedBlock
from lwcourse.layers import (
    CoordinateAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.profile import profile


def eca(*, kernel=adaptive_kernel_size, bias=False, pool=lambda x: x.mean(dim=(2, 3)), squash=torch.sigmoid,
        join="times", mode="zeros", padded=True):
    """Builds the class of an ECA layer with one mistake."""
    def build():
        class Eca(nn.Module):
            def __init__(self, channels):
                super().__init__()
                k = kernel(channels)
                self.conv = nn.Conv1d(1, 1, k, padding=k // 2 if padded else 0, bias=bias, padding_mode=mode)

            def forward(self, x):
                gate = squash(self.conv(pool(x).unsqueeze(1)).squeeze(1))[:, :, None, None]
                return {"times": lambda: x * gate, "plus": lambda: x + gate, "alone": lambda: gate,
                        "shortcut": lambda: x + x * gate, "reversed": lambda: x * (1 - gate)}[join]()
        return Eca
    return build


def eca_one_axis():
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            k = adaptive_kernel_size(channels)
            self.conv = nn.Conv2d(1, 1, (k, 1), padding=(k // 2, 0), bias=False)

        def forward(self, x):
            return x * self.conv(x.mean(dim=2).unsqueeze(1)).sigmoid().transpose(1, 2)
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


def eca_two_layers():
    class Eca(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.gate = SqueezeExcitation(channels, 1)

        def forward(self, x):
            return self.gate(x)
    return Eca


def ca(*, act=F.hardswish, hidden=lambda channels, reduction: max(8, channels // reduction), norm=True, pool="mean",
       join="times", squash=torch.sigmoid, squeezes=1, opens=2, bias=True, unused_norm=False, transpose=True):
    """Builds the class of a coordinate attention with one mistake."""
    def build():
        class Ca(nn.Module):
            def __init__(self, channels, reduction):
                super().__init__()
                h = hidden(channels, reduction)
                self.squeeze = nn.ModuleList(nn.Conv2d(channels, h, 1, bias=bias) for _ in range(squeezes))
                self.norm = nn.BatchNorm2d(h) if norm else nn.Identity()
                self.open = nn.ModuleList(nn.Conv2d(h, channels, 1, bias=bias) for _ in range(opens))

            def forward(self, x):
                height, width = x.shape[2:]
                if pool == "global":
                    mean = x.mean(dim=(2, 3), keepdim=True)
                    rows, columns = mean.expand(-1, -1, height, 1), mean.expand(-1, -1, width, 1)
                else:
                    take = {"mean": torch.mean, "max": torch.amax}[pool]
                    rows, columns = take(x, dim=3, keepdim=True), take(x, dim=2, keepdim=True).transpose(2, 3)
                both = [self.squeeze[0](rows), self.squeeze[-1](columns)]
                if not unused_norm:
                    both = [self.norm(means) for means in both]
                rows, columns = (act(means) for means in both)
                rows, columns = squash(self.open[0](rows)), squash(self.open[-1](columns))
                if transpose:
                    columns = columns.transpose(2, 3)
                gate = {"times": lambda: rows * columns, "sum": lambda: rows + columns,
                        "mean": lambda: (rows + columns) / 2, "rows": lambda: rows, "columns": lambda: columns}[join]()
                return x * gate
        return Ca
    return build


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
                rows, columns = (self.squeeze(x.mean(dim=dim, keepdim=True)) for dim in (3, 2))
                return join(self, x, rows, columns)
        return Ca
    return build


def no_return():
    class Ca(CoordinateAttention):
        def forward(self, x):
            super().forward(x)
    return Ca


TIMES = {"SE": 1.15, "ECA": 1.1, "CA": 1.35, "SA": 3.0, "Triplet": 4.5, "why": "passes over memory"}


def times(**changed):
    return lambda: TIMES | changed


def macs():
    counted = {kind: profile(GatedBlock(build), (16, 56, 56)).macs for kind, build in (KINDS | {"none": None}).items()}
    return {kind: counted[kind] / counted["none"] for kind in KINDS} | {"why": "MACs"}


def design(**gates):
    """The function without arguments that exercise 05.4 wants; each gate is a function that builds it."""
    return lambda: (lambda: {slot: build() for slot, build in gates.items()})


WRONG = {
    "05.1": {
        "no sigmoid": (eca(squash=lambda x: x), "the sigmoid is missing"),
        "hard sigmoid": (eca(squash=F.hardsigmoid), "hard sigmoid"),
        "softmax": (eca(squash=lambda x: x.softmax(dim=1)), "compete for a sum of 1"),
        "even kernel": (eca(kernel=lambda channels: 4), "an even number"),
        "a fixed kernel": (eca(kernel=lambda channels: 3), "with 128 channels there are 3 weights"),
        "mean over one axis": (eca_one_axis, "the mean is over rows only"),
        "convolution over pixels": (eca_over_pixels, "runs over the pixels"),
        "convolution mixes all channels": (eca_all_channels, "takes the channels for the channels of a signal"),
        "squeeze and excitation": (eca_two_layers, "weights"),
        "bias": (eca(bias=True), "has a bias"),
        "maximum": (eca(pool=lambda x: x.amax(dim=(2, 3))), "the maximum is taken"),
        "added": (eca(join="plus"), "the gate is added"),
        "with a shortcut": (eca(join="shortcut"), "ECA has no shortcut"),
        "reversed": (eca(join="reversed"), "it closes where that opens"),
        "mean over the batch": (eca(pool=lambda x: x.mean(dim=(0, 2, 3)).expand(len(x), -1)), "images share one gate"),
        "gate alone": (eca(join="alone"), "you return the gate alone"),
        "first and last are neighbours": (eca(mode="circular"), "pad with zeros"),
    },
    "05.2": {
        "ReLU": (ca(act=F.relu), "h-swish"),
        "no activation": (ca(act=lambda x: x), "activation behind the shared convolution is missing"),
        "fewer than eight": (ca(hidden=lambda channels, reduction: channels // reduction), "you squeeze to 2; it is 8"),
        "no BatchNorm": (ca(norm=False), "0 BatchNorms, not one"),
        "BatchNorm not used": (ca(unused_norm=True), "BatchNorm is built but not used"),
        "global pooling": (ca(pool="global"), "the place is lost"),
        "maximum": (ca(pool="max"), "the maximum is taken"),
        "sum of gates": (ca(join="sum"), "they multiply each other"),
        "mean of gates": (ca(join="mean"), "the mean of the two gates"),
        "rows alone": (ca(join="rows"), "that of the rows"),
        "columns alone": (ca(join="columns"), "that of the columns"),
        "two squeezes": (ca(squeezes=2), "they share one"),
        "one opening": (ca(opens=1), "rows and columns need one each"),
        "columns not turned back": (ca(transpose=False), "must match the size"),
        "no sigmoid": (ca(squash=lambda x: x), "the sigmoid is missing"),
        "no bias": (ca(bias=False), "no bias"),
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
    },
    "05.3": {
        "ratios of MACs": (macs, "these are ratios of MACs"),
        "seconds": (times(SE=1e-3, ECA=1e-3, CA=2e-3, SA=5e-3, Triplet=7e-3), "these look like seconds"),
        "upside down": (times(SE=0.9, ECA=0.95, CA=0.8, SA=0.4, Triplet=0.3), "upside down"),
        "MACs as the reason": (times(why="MACs"), "has not one MAC"),
        "parameters as the reason": (times(why="parameters"), "cannot be parameters"),
        "another reason": (times(why="magic"), "must be one of"),
        "the wrong one is slowest": (times(ECA=30.0), "ECA: you have 30.00 times the time"),
        "one forgotten": (lambda: {kind: value for kind, value in TIMES.items() if kind != "SA"}, "the keys must be"),
    },
    "05.4": {
        "SE cannot see places": (design(filter=partial(SqueezeExcitation, 32, 4)), "that is guessing"),
        "SA cannot either": (design(filter=partial(ShuffleAttention, 32, 4)), "that is guessing"),
        "CA where channels are many": (design(filter=partial(CoordinateAttention, 32)),
                                       "856 parameters, of 600 allowed"),
        "a 7x7 Triplet": (design(filter=partial(TripletAttention, 32)), "MACs, of 20,000 allowed"),
        "no such slot": (design(classifier=partial(SqueezeExcitation, 32)), "there is no slot 'classifier'"),
        "channels of another slot": (design(stem=partial(CoordinateAttention, 32)), "cannot run a map of 8 channels"),
        "a gate that halves the map": (design(stem=lambda: nn.MaxPool2d(2)), "a gate keeps the shape"),
        "not built": (design(stem=lambda: CoordinateAttention), "not a layer that is built already"),
        "no return": (lambda: (lambda: None), "is the return missing?"),
    },
}
