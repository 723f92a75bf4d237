"""Wrong answers to the exercises of chapter 06, and words that the refusal must have."""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import Branches, ConvBNAct, tower
from lwcourse.models.googlenet import Inception


def module(*, order=(0, 1, 2, 3), act=nn.ReLU, last_act=nn.ReLU, projected=True, project_first=False, pad5=2,
           pad_pool=1, pool_stride=1, reduced=True, five=(5,), norm=True, pooling=nn.MaxPool2d, swapped=False, axis=1,
           holder=nn.ModuleList, drop=0.0, bias=False, joined=True):
    """Builds the class of an Inception module with one mistake."""
    def build():
        def conv(before, after, kernel, padding=None, act=act):
            padding = kernel // 2 if padding is None else padding
            layers = [nn.Conv2d(before, after, kernel, padding=padding, bias=bias or not norm)]
            return layers + ([nn.BatchNorm2d(after)] if norm else []) + ([act()] if act else [])

        class Mine(nn.Module):
            def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
                super().__init__()
                if swapped:
                    reduce3, reduce5 = reduce5, reduce3
                narrow = [conv(in_channels, reduce3, 1), conv(in_channels, reduce5, 1)] if reduced else [[], []]
                before = (reduce3, reduce5) if reduced else (in_channels, in_channels)
                pooled = [pooling(3, pool_stride, pad_pool)] if pooling else []
                projection = conv(in_channels, pool, 1) if projected else []
                fives = [*conv(before[1], conv5, five[0], pad5 if five == (5,) else None),
                         *(layer for kernel in five[1:] for layer in conv(conv5, conv5, kernel))]
                towers = [conv(in_channels, conv1, 1),
                          [*narrow[0], *conv(before[0], conv3, 3, act=last_act)],
                          [*narrow[1], *fives],
                          projection + pooled if project_first else pooled + projection]
                self.towers = holder(nn.Sequential(*towers[i]) for i in order)
                self.dropout = nn.Dropout(drop)

            def forward(self, x):
                outputs = [one(x) for one in self.towers]
                return self.dropout(torch.cat(outputs, dim=axis) if joined else outputs[0])
        return Mine
    return build


class MadeInForward(nn.Module):
    """The 1x1 behind the pooling is new at every call."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        self.pool = pool
        self.towers = nn.ModuleList([
            ConvBNAct(in_channels, conv1, 1), nn.Sequential(ConvBNAct(in_channels, reduce3, 1),
                                                            ConvBNAct(reduce3, conv3, 3)),
            nn.Sequential(ConvBNAct(in_channels, reduce5, 1), ConvBNAct(reduce5, conv5, 5))])

    def forward(self, x):
        last = ConvBNAct(x.shape[1], self.pool, 1)(F.max_pool2d(x, 3, 1, 1))
        return torch.cat([*(one(x) for one in self.towers), last], 1)


class WithTower(nn.Module):
    """Joins by itself what the course's `tower` builds."""

    def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
        super().__init__()
        self.towers = nn.ModuleList([tower(in_channels, (conv1, 1)), tower(in_channels, (reduce3, 1), (conv3, 3)),
                                     tower(in_channels, (reduce5, 1), (conv5, 5)),
                                     nn.Sequential(nn.MaxPool2d(3, 1, 1), tower(in_channels, (pool, 1)))])

    def forward(self, x):
        return torch.cat([one(x) for one in self.towers], 1)


class OtherOrder(nn.Module):
    def __init__(self, in_channels, conv1, conv3, reduce3, conv5, reduce5, pool):
        super().__init__()
        self.module = module()()(in_channels, conv1, reduce3, conv3, reduce5, conv5, pool)

    def forward(self, x):
        return self.module(x)


class JoinedByBranches(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.module = Branches(module()()(*sizes).towers)

    def forward(self, x):
        return self.module(x)


FIELD, PAIRS, SEVEN, THREES = 13, 374_063_104, 1_070_104_576, 568_197_120


def bill(**changed):
    return lambda: {"field": FIELD, "1x7, 7x1": PAIRS, "7x7": SEVEN, "3x3, 3x3, 3x3": THREES} | changed


def scaled(factor):
    return bill(**{"1x7, 7x1": factor * PAIRS, "7x7": factor * SEVEN, "3x3, 3x3, 3x3": factor * THREES})


def design(build):
    """`build` as the function without arguments that exercise 06.3 wants."""
    return lambda: (lambda: build())


def wide(*kernels):
    """A module with one wide tower of 8 channels beside a 1x1."""
    return Branches([tower(32, (24, 1)), tower(32, (8, 1), *((8, kernel) for kernel in kernels))])


class Mixes(nn.Module):
    """Adds the mean over the images."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(ConvBNAct(32, 32, 9, groups=32), ConvBNAct(32, 32, 1))

    def forward(self, x):
        return self.body(x) + x.mean(0, keepdim=True)


class Side8Costs(nn.Module):
    """Cheap on 16 x 16, dear on 8 x 8."""

    def __init__(self):
        super().__init__()
        self.cheap = nn.Sequential(ConvBNAct(32, 32, 9, groups=32), ConvBNAct(32, 32, 1))
        self.dear = ConvBNAct(32, 32, 9)

    def forward(self, x):
        return self.cheap(x) if x.shape[-1] == 16 else self.dear(x)


class Shifts(nn.Module):
    """Scales without end, written out."""

    def __init__(self, terms):
        super().__init__()
        self.scales, self.body = nn.Parameter(torch.randn(terms)), ConvBNAct(32, 32, 1)

    def forward(self, x):
        return self.body(sum(scale * x for scale in self.scales.unbind()))


class Halved(nn.Module):
    """Works at half the size, and enlarges: the field depends on the pixel."""

    def __init__(self):
        super().__init__()
        self.body = tower(32, (8, 1), (8, (1, 5)), (32, (5, 1)))

    def forward(self, x):
        return F.interpolate(self.body(x[:, :, ::2, ::2]), scale_factor=2.0)


class Globally(nn.Module):
    """A 1x1 whose GroupNorm has the statistics of the whole map: no field."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(32, 32, 1), nn.GroupNorm(1, 32), nn.ReLU())

    def forward(self, x):
        return self.body(x)


class ReturnsTwo(nn.Module):
    def forward(self, x):
        return x, x


class Diverges(nn.Module):
    """A wide filter, and a factor that makes the loss infinite."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(32, 32, 9, padding=4, groups=32)

    def forward(self, x):
        return self.body(x) * 1e30


class HiddenInAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = [ConvBNAct(32, 32, 9, groups=32)]

    def forward(self, x):
        return self.parts[0](x)


class InForward(nn.Module):
    def forward(self, x):
        return nn.Conv2d(32, 32, 1)(x)


SHARED = nn.Sequential(ConvBNAct(32, 32, 9, groups=32), ConvBNAct(32, 32, 1))

WRONG = {
    "06.1": {
        "towers in another order": (module(order=(0, 2, 1, 3)), "in another order"),
        "pooling first": (module(order=(3, 0, 1, 2)), "in another order"),
        "no activation at all": (module(act=None, last_act=None), "ReLU"),
        "no activation behind the 3x3": (module(last_act=None), "the activation is missing"),
        "pooling without projection": (module(projected=False), "the last tower has no 1x1: its pooling hands on all"),
        "projection before the pooling": (module(project_first=True), "has its 1x1 before the pooling"),
        "padding of a 3x3 for the 5x5": (module(pad5=1), ["cannot be concatenated", "lacks the padding"]),
        "no padding in the pooling": (module(pad_pool=0), ["cannot be concatenated", "lacks the padding"]),
        "pooling with stride 2": (module(pool_stride=2), ["cannot be concatenated", "another stride"]),
        "no reductions": (module(reduced=False), "that reduce the channels before the 3x3 and the 5x5 are missing"),
        "reductions exchanged": (module(swapped=True), "the reductions are exchanged: reduce3 belongs before the 3x3"),
        "3x3 instead of 5x5": (module(five=(3,)), "kernel size 3x3"),
        "two 3x3 instead of 5x5": (module(five=(3, 3)), "two 3x3 stand in the place of the 5x5"),
        "means instead of maxima": (module(pooling=nn.AvgPool2d), ["average pooling", "max pooling"]),
        "no pooling": (module(pooling=None), "max pooling"),
        "no BatchNorm": (module(norm=False), "BatchNorm2d"),
        "biases": (module(bias=True), "bias"),
        "ReLU6": (module(act=nn.ReLU6), "ReLU6"),
        "joined along the batch": (module(axis=0), "not along the channels: dim=1"),
        "joined along the rows": (module(axis=2), "not along the channels: dim=1"),
        "one tower only": (module(joined=False), "Mine(24, 8, 12, 16, 4, 20, 6)"),
        "towers in a plain list": (module(holder=list), "plain Python list with 4 layers"),
        "dropout": (module(drop=0.4), ["training mode", "dropout"]),
        "a layer made in forward": (lambda: MadeInForward, "layers are made in forward"),
        "the course's module": (lambda: Inception, "the course's `tower`"),
        "the course's tower": (lambda: WithTower, "uses the course's `tower`"),
        "the course's Branches": (lambda: JoinedByBranches, "uses the course's `Branches`"),
        "arguments in another order": (lambda: OtherOrder, "come in another order"),
        "an object": (lambda: module()()(8, 8, 8, 8, 8, 8, 8), "a class that inherits from nn.Module"),
    },
    "06.2": {
        "field of one pair": (bill(field=7), "the third tower has two"),
        "fields added": (bill(field=14), "share their middle pixel"),
        "both directions": (bill(field=25), "a 7x1 only down"),
        "an area": (bill(field=169), "give its side"),
        "height and width": (bill(field=(13, 13)), "give one side"),
        "height and width as an array": (bill(field=np.array([13, 13])), "give one side"),
        "height and width as a tensor": (bill(field=torch.tensor([13, 13])), "give one side"),
        "another field": (bill(field=11), "field: 11 is too small"),
        "a name": (bill(field="13"), "field: got '13', not a number"),
        "FLOPs": (scaled(2), "one MAC is both together"),
        "millions": (scaled(1e-6), "these are millions"),
        "shares": (scaled(1 / (PAIRS + SEVEN + THREES)), "these are shares"),
        "parameters": (bill(**{"1x7, 7x1": 1_297_408, "7x7": 3_705_088, "3x3, 3x3, 3x3": 1_969_920}),
                       "these are parameters"),
        "the map of the field": (bill(**{"1x7, 7x1": 1_243_856_896, "7x7": 3_558_375_424,
                                         "3x3, 3x3, 3x3": 1_889_402_880}), "17 x 17 pixels"),
        "one tower only": (bill(**{"7x7": 639_221_760}), "only one of the two towers has the large kernels"),
        "one 7x7 in the third tower": (bill(**{"7x7": 838_090_752}), ["its field needs two", "end in 128 channels"]),
        "two 3x3 for seven pixels": (bill(**{"3x3, 3x3, 3x3": 440_352_768}), ["seven need three", "two pairs"]),
        "three 3x3 that end in 128": (bill(**{"3x3, 3x3, 3x3": 525_582_336}), "must end in 192 channels"),
        "two wrong, the first named": (bill(field=7, **{"7x7": 639_221_760}), "the third tower has two"),
        "exchanged": (bill(**{"7x7": THREES, "3x3, 3x3, 3x3": SEVEN}), "are exchanged"),
        "one of four": (lambda: {"field": FIELD}, "the keys must be"),
    },
    "06.3": {
        "a full 9x9": (design(lambda: ConvBNAct(32, 32, 9)), ["over budget", "MACs, of 1,000,000 allowed"]),
        "dear on the small map": (design(Side8Costs), ["over budget", "MACs, of 1,000,000 allowed"]),
        "products that no layer counts": (design(lambda: Shifts(200)), ["over budget", "MACs, of"]),
        "two 3x3": (design(lambda: wide(3, 3)), ["the field is 5 x 5", "9 x 9 are needed"]),
        "a plain CNN": (design(lambda: nn.Sequential(ConvBNAct(32, 6, 3), ConvBNAct(6, 6, 3), ConvBNAct(6, 32, 3))),
                        "the field is 7 x 7"),
        "across only": (design(lambda: wide((1, 9))), "the field is 1 x 9"),
        "one pixel": (design(lambda: ConvBNAct(32, 32, 1)), "the field is 1 x 1"),
        "statistics of the map": (design(Globally), "the field is 1 x 1"),
        "one dilation": (design(lambda: nn.Conv2d(32, 32, 3, padding=4, dilation=4, groups=32)),
                         ["9 of 81 are read", "it has holes"]),
        "a cross": (design(lambda: Branches([tower(32, (8, 1), (16, (1, 9))), tower(32, (8, 1), (16, (9, 1)))])),
                    ["17 of 81 are read", "it has holes"]),
        "every second pixel": (design(Halved), "it has holes"),
        "no padding": (design(lambda: nn.Conv2d(32, 32, 9, groups=32)), "got shape (2, 32, 8, 8)"),
        "half of the padding": (design(lambda: nn.Conv2d(32, 32, 9, padding=3, groups=32)),
                                "must keep the shape of its input"),
        "a tower without padding": (design(lambda: Branches([tower(32, (16, 1)), tower(32, (16, 3), padding=0)])),
                                    ["cannot be concatenated", "lacks the padding"]),
        "towers that do not add up": (design(lambda: Branches([tower(32, (8, 1)), tower(32, (8, 3))])),
                                      ["must keep the shape", "(2, 16, 16, 16)"]),
        "norm of one size": (design(lambda: nn.Sequential(ConvBNAct(32, 32, 9, groups=32), nn.LayerNorm([32, 16, 16]))),
                             ["must run on maps of 8 x 8 pixels too, and breaks there: Given normalized_shape"]),
        "no return": (design(lambda: None), "is the return missing?"),
        "a tuple": (design(lambda: ReturnsTwo()), "the output is tuple, not a tensor"),
        "one object": (lambda: lambda: SHARED, "the same module, or the same weights"),
        "images mixed": (design(Mixes), "depends on the other images"),
        "in a list": (design(HiddenInAList), "plain Python list"),
        "made in forward": (design(InForward), "layers are made in forward"),
        "nothing but a filter": (design(lambda: nn.Conv2d(32, 32, 9, padding=4, groups=32)), "learned too little"),
        "means and a 1x1": (design(lambda: nn.Sequential(nn.AvgPool2d(9, 1, 4), nn.Conv2d(32, 32, 1))),
                            "learned too little"),
        "linear": (design(lambda: nn.Sequential(nn.Conv2d(32, 32, 9, padding=4, groups=32), nn.Conv2d(32, 32, 1))),
                   "learned too little"),
        "diverges": (design(lambda: Diverges()), "training failed"),
    },
}

SLOW = {("06.3", "means and a 1x1"), ("06.3", "linear"), ("06.3", "diverges"), ("06.3", "nothing but a filter")}
