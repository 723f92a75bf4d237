"""Right answers to the exercises of chapter 04, each in another style."""
import math
from collections import OrderedDict
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, GhostModule, SeparableConv
from lwcourse.models.ghostnet import GhostBottleneck, GhostNet
from lwcourse.models.mobilenet_v2 import InvertedResidual


def the(answer):
    return lambda: answer


class Bricks(nn.Module):
    def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
        super().__init__()
        maps = -(-out_channels // ratio)
        self.keep = out_channels
        self.layers = nn.ModuleList([ConvBNAct(in_channels, maps, 1),
                                     ConvBNAct(maps, maps * (ratio - 1), cheap_kernel, groups=maps)])

    def forward(self, x):
        first, second = self.layers
        return torch.cat((y := first(x), second(y)), dim=1)[:, :self.keep]


class Flat(nn.Module):
    """Functional ReLU; the cheap filters are built first."""

    def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
        super().__init__()
        maps = math.ceil(out_channels / ratio)
        self.out, more = out_channels, maps * (ratio - 1)
        self.b = nn.Conv2d(maps, more, cheap_kernel, padding="same", groups=maps, bias=False)
        self.b_norm = nn.BatchNorm2d(more)
        self.a, self.a_norm = self.mix(in_channels, maps), nn.BatchNorm2d(maps)

    def mix(self, before, after):
        return nn.Conv2d(before, after, 1, bias=False)

    def halves(self, x):
        maps = F.relu(self.a_norm(self.a(x)))
        return maps, F.relu(self.b_norm(self.b(maps)))

    def forward(self, x):
        return torch.cat(self.halves(x), dim=1).narrow(1, 0, self.out)


class ByLinear(Flat):
    def mix(self, before, after):
        return nn.Linear(before, after, bias=False)

    def halves(self, x):
        maps = self.a_norm(self.a(x.movedim(1, -1)).movedim(-1, 1)).relu()
        return maps, self.b_norm(self.b(maps)).relu()


class IntoZeros(Flat):
    def forward(self, x):
        maps, ghosts = self.halves(x)
        y = torch.zeros(len(x), maps.shape[1] + ghosts.shape[1], *x.shape[2:])
        y[:, :maps.shape[1]], y[:, maps.shape[1]:] = maps, ghosts
        return y[:, :self.out]


class OneReLU(nn.Module):
    """ReLU follows the concatenation as well, which changes nothing that is positive already."""

    def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
        super().__init__()
        maps, self.out = math.ceil(out_channels / ratio), out_channels
        self.primary = nn.Sequential(nn.Conv2d(in_channels, maps, 1, bias=False), nn.BatchNorm2d(maps), nn.ReLU())
        self.cheap = nn.Sequential(
            nn.Conv2d(maps, maps * (ratio - 1), cheap_kernel, 1, cheap_kernel // 2, groups=maps, bias=False),
            nn.BatchNorm2d(maps * (ratio - 1)))

    def forward(self, x):
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1).relu()[:, :self.out]


class SetAfterSet(nn.Module):
    """A depthwise layer for all first ghosts, another for all second ones."""

    def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
        super().__init__()
        maps, self.out = math.ceil(out_channels / ratio), out_channels
        self.primary = ConvBNAct(in_channels, maps, 1)
        self.ghosts = nn.ModuleList(ConvBNAct(maps, maps, cheap_kernel, groups=maps) for _ in range(ratio - 1))

    def forward(self, x):
        y = self.primary(x)
        return torch.cat([y] + [ghost(y) for ghost in self.ghosts], dim=1)[:, :self.out]


class Adder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return -(x[:, None] - w).abs().sum(2)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        d = x[:, None] - w
        for_w = torch.einsum("po,pok->ok", g, d)
        return torch.einsum("po,pok->pk", g, (-d).clamp(-1, 1)), 0.2 * math.sqrt(w.numel()) * for_w / for_w.norm()


class ByCdist(Adder):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return -torch.cdist(x, w, p=1)


class InASetUp(Adder):
    @staticmethod
    def forward(x, w):
        return torch.sum(-abs(x.unsqueeze(1) - w.unsqueeze(0)), -1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


class KeepsDifferences(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.d = x[:, None, :] - w[None, :, :]
        return -ctx.d.norm(p=1, dim=2)

    @staticmethod
    def backward(ctx, g):
        g = g[..., None]
        for_w = (g * ctx.d).sum(dim=0)
        for_x = torch.where(ctx.d.abs() <= 1, -ctx.d, -ctx.d.sign())
        return (g * for_x).sum(dim=1), for_w.mul(0.2 * for_w.numel()**0.5).div(for_w.square().sum().sqrt())


class ByLoops(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.stack([-(x - template).abs().sum(1) for template in w], dim=1)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        for_x, for_w = torch.zeros_like(x), torch.zeros_like(w)
        for p in range(len(x)):
            for o in range(len(w)):
                for_x[p] += g[p, o] * (w[o] - x[p]).clip(-1, 1)
                for_w[o] += g[p, o] * (x[p] - w[o])
        return for_x, F.normalize(for_w.flatten(), dim=0).view_as(w) * 0.2 * w.numel()**0.5


class InNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.d = x.numpy()[:, None] - w.numpy()
        return torch.from_numpy(-np.abs(ctx.d).sum(2))

    @staticmethod
    def backward(ctx, g):
        g = g.numpy()[:, :, None]
        for_w = (g * ctx.d).sum(0)
        for_w *= 0.2 * for_w.size**0.5 / np.linalg.norm(for_w)
        return torch.from_numpy((g * np.clip(-ctx.d, -1, 1)).sum(1)), torch.from_numpy(for_w)


COUNTS = {"as published": 141_150_512, "no ghosts": 230_065_520, "ratio 4": 96_693_008}


def counted(*modules):
    with torch.device("meta"):
        return dict(zip(COUNTS, (lw.profile(GhostNet(ghost=module), (3, 224, 224)).macs for module in modules),
                        strict=True))


class OneByOne(nn.Module):
    def __init__(self, in_channels, out_channels, act=nn.ReLU):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))
        self.act = nn.Identity() if act is None else act()

    def forward(self, x):
        return self.act(self.layers(x))


def head(channels):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def of_bottlenecks():
    sizes = ((16, 32, 16, 2), (16, 96, 24, 2), (24, 144, 24, 1), (24, 144, 32, 1))
    return nn.Sequential(ConvBNAct(3, 16, 3, stride=2),
                         *[GhostBottleneck(a, hidden, b, 3, stride, se=False) for a, hidden, b, stride in sizes],
                         ConvBNAct(32, 128, 1), *head(128))


class AClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = of_bottlenecks()

    def forward(self, images):
        return self.net(images)


def of_residuals():
    return nn.Sequential(ConvBNAct(3, 12, 3, 2), InvertedResidual(12, 16, 2, 3), InvertedResidual(16, 24, 2, 4),
                         InvertedResidual(24, 24, 1, 4), ConvBNAct(24, 128, 1), *head(128))


RIGHT = {
    "04.1": {"bricks in a list": the(Bricks), "flat": the(Flat), "linear": the(ByLinear), "zeros": the(IntoZeros),
             "one ReLU more": the(OneReLU), "set after set": the(SetAfterSet)},
    "04.2": {"einsum": the(Adder), "cdist": the(ByCdist), "setup_context": the(InASetUp),
             "keeps the differences": the(KeepsDifferences), "loops": the(ByLoops), "NumPy": the(InNumpy)},
    "04.3": {"counted": lambda: counted(GhostModule, partial(ConvBNAct, kernel_size=1), partial(GhostModule, ratio=4)),
             "own modules": lambda: counted(
                 GhostModule, OneByOne, lambda i, o, act=nn.ReLU: GhostModule(i, o, ratio=4, act=act)),
             "typed in": the(COUNTS), "floats": lambda: {name: float(count) for name, count in COUNTS.items()},
             "arrays": lambda: {name: np.array(count) for name, count in COUNTS.items()},
             "tensors, one more": lambda: {"s = 8": 0} | {name: torch.tensor([n]) for name, n in COUNTS.items()}},
    "04.4": {"ghost bottlenecks": the(of_bottlenecks), "a class": the(AClass), "inverted residuals": the(of_residuals),
             "a partial": the(partial(lambda build: build(), of_bottlenecks)),
             "named layers": the(lambda: nn.Sequential(OrderedDict(
                 (f"part{i}", part) for i, part in enumerate(of_bottlenecks())))),
             "separable convolutions": the(lambda: nn.Sequential(
                 ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, stride=2), SeparableConv(32, 48), SeparableConv(
                     48, 64, stride=2), SeparableConv(64, 96), *head(96)))},
}
SLOW = {("04.4", name) for name in RIGHT["04.4"] if name != "ghost bottlenecks"}
