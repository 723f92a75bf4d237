"""Wrong answers to the exercises of chapter 06, and words that the refusal must have."""
import torch
from torch import nn

from lwcourse.layers import Branches, ConvBNAct, tower


def module(*, order=(0, 1, 2, 3), act=nn.ReLU, last_act=nn.ReLU, projected=True, project_first=False, pad5=2,
           pad_pool=1, pool_stride=1, reduced=True, five=5, norm=True, pooling=nn.MaxPool2d):
    """Builds the class of an Inception module with one mistake."""
    def build():
        def conv(before, after, kernel, padding=None, act=act):
            padding = kernel // 2 if padding is None else padding
            layers = [nn.Conv2d(before, after, kernel, padding=padding, bias=not norm)]
            return layers + ([nn.BatchNorm2d(after)] if norm else []) + ([act()] if act else [])

        class Mine(nn.Module):
            def __init__(self, in_channels, conv1, reduce3, conv3, reduce5, conv5, pool):
                super().__init__()
                narrow = [conv(in_channels, reduce3, 1), conv(in_channels, reduce5, 1)] if reduced else [[], []]
                before = (reduce3, reduce5) if reduced else (in_channels, in_channels)
                pooled = [pooling(3, pool_stride, pad_pool)]
                projection = conv(in_channels, pool, 1) if projected else []
                towers = [conv(in_channels, conv1, 1),
                          [*narrow[0], *conv(before[0], conv3, 3, act=last_act)],
                          [*narrow[1], *conv(before[1], conv5, five, pad5 if five == 5 else None)],
                          projection + pooled if project_first else pooled + projection]
                self.towers = nn.ModuleList(nn.Sequential(*towers[i]) for i in order)

            def forward(self, x):
                return torch.cat([one(x) for one in self.towers], dim=1)
        return Mine
    return build


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


WRONG = {
    "06.1": {
        "towers in another order": (module(order=(0, 2, 1, 3)), "concatenated in another order"),
        "pooling first": (module(order=(3, 0, 1, 2)), "concatenated in another order"),
        "no activation at all": (module(act=None, last_act=None), "ReLU"),
        "no activation behind the 3x3": (module(last_act=None), "no ReLU at the end of the tower of 3x3"),
        "pooling without projection": (module(projected=False), "the pooling hands on all"),
        "projection before the pooling": (module(project_first=True), "pool"),
        "padding of a 3x3 for the 5x5": (module(pad5=1), ["cannot be concatenated", "2 for 5x5"]),
        "no padding in the pooling": (module(pad_pool=0), ["cannot be concatenated", "padding 1"]),
        "pooling with stride 2": (module(pool_stride=2), ["cannot be concatenated", "stride 1"]),
        "no reductions": (module(reduced=False), "reference"),
        "3x3 instead of 5x5": (module(five=3), "kernel size 3x3"),
        "means instead of maxima": (module(pooling=nn.AvgPool2d), "pool"),
        "no BatchNorm": (module(norm=False), "BatchNorm2d"),
        "ReLU6": (module(act=nn.ReLU6), "ReLU6"),
    },
    "06.2": {
        "field of one pair": (bill(field=7), "the third tower has two"),
        "fields added": (bill(field=14), "share their middle pixel"),
        "both directions": (bill(field=25), "a 7x1 only down"),
        "an area": (bill(field=169), "give its side"),
        "another field": (bill(field=11), "field: 11 is too small"),
        "FLOPs": (scaled(2), "one MAC is both together"),
        "millions": (scaled(1e-6), "these are millions"),
        "parameters": (bill(**{"1x7, 7x1": 1_297_408, "7x7": 3_705_088, "3x3, 3x3, 3x3": 1_969_920}),
                       "these are parameters"),
        "the map of the field": (bill(**{"1x7, 7x1": 1_243_856_896, "7x7": 3_558_375_424,
                                         "3x3, 3x3, 3x3": 1_889_402_880}), "17 x 17 pixels"),
        "one tower only": (bill(**{"7x7": 639_221_760}), "only in one of the two towers"),
        "one 7x7 in the third tower": (bill(**{"7x7": 838_090_752}), "needs two of them"),
        "two 3x3 for seven pixels": (bill(**{"3x3, 3x3, 3x3": 440_352_768}), "seven need three"),
        "one of four": (lambda: {"field": FIELD}, "the keys must be"),
    },
    "06.3": {
        "a full 9x9": (design(lambda: ConvBNAct(32, 32, 9)), ["over budget", "MACs, of 1,000,000 allowed"]),
        "two 3x3": (design(lambda: wide(3, 3)), ["the field is 5 x 5", "9 x 9 are needed"]),
        "across only": (design(lambda: wide((1, 9))), "the field is 1 x 9"),
        "one dilation": (design(lambda: nn.Conv2d(32, 32, 3, padding=4, dilation=4, groups=32)),
                         ["9 of 81 are read", "it has holes"]),
        "a cross": (design(lambda: Branches([tower(32, (8, 1), (16, (1, 9))), tower(32, (8, 1), (16, (9, 1)))])),
                    ["17 of 81 are read", "it has holes"]),
        "no padding": (design(lambda: nn.Conv2d(32, 32, 9, groups=32)), "must keep the shape of its input"),
        "towers that do not add up": (design(lambda: Branches([tower(32, (8, 1)), tower(32, (8, 3))])),
                                      ["must keep the shape", "(2, 16, 16, 16)"]),
        "no return": (design(lambda: None), "is the return missing?"),
        "nothing but a filter": (design(lambda: nn.Conv2d(32, 32, 9, padding=4, groups=32)), "learned too little"),
    },
}
