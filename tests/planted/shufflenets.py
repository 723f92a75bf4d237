"""ShuffleNetV2 against torchvision's, and ShuffleNet V1 against pytorchcv's and lwcourse's."""
from functools import partial

import torch
import torch.nn.functional as F
from pytorchcv.models.shufflenet import ShuffleNet
from torch import nn
from torchvision.models.shufflenetv2 import ShuffleNetV2

from lwcourse.models.shufflenet_v1 import ShuffleUnit
from planted import Fault, Pair
from planted.wording import at, extra, instead, missing, scaled


def shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


# ShuffleNetV2

REPEATS, CHANNELS = (3, 2, 2), (24, 48, 96, 192, 128)


class Down(nn.Module):
    """A unit that halves the map: both branches see all channels."""

    def __init__(self, i, o, fault):
        super().__init__()
        h, self.fault = o // 2, fault
        self.left = nn.Sequential(nn.Conv2d(i, i, 3, 2, 1, groups=i, bias=False), nn.BatchNorm2d(i),
                                  nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h))
        self.a, self.ab = nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h)
        self.d, self.db = nn.Conv2d(h, h, 3, 2, 1, groups=h, bias=False), nn.BatchNorm2d(h)
        self.p, self.pb = nn.Conv2d(h, h, 1, bias=False), nn.BatchNorm2d(h)

    def forward(self, x):
        fault = self.fault
        if fault == "relu_after_left_dw":
            y = F.relu(self.left[3](self.left[2](F.relu(self.left[1](self.left[0](x))))))
        elif fault == "no_relu_left":
            y = self.left(x)
        else:
            y = F.relu(self.left(x))
        z = F.relu(self.ab(self.a(x)))
        z = F.relu(self.pb(self.p(self.db(self.d(z)))))
        if fault == "down_add":
            return shuffle(torch.cat((y + z, z), 1), 2)
        y = torch.cat((z, y) if fault == "down_order" else (y, z), 1)
        return y if fault == "down_noshuffle" else shuffle(y, 2)


class Keep(nn.Module):
    """A unit that keeps the map: one half of the channels passes, the other is changed."""

    def __init__(self, c, fault):
        super().__init__()
        h, self.fault = c // 2, fault
        self.a, self.ab = nn.Conv2d(h, h, 1, bias=False), nn.BatchNorm2d(h)
        self.d, self.db = nn.Conv2d(h, h, 3, 1, 1, groups=h, bias=False), nn.BatchNorm2d(h)
        self.p, self.pb = nn.Conv2d(h, h, 1, bias=False), nn.BatchNorm2d(h)

    def forward(self, x):
        fault = self.fault
        h = x.shape[1] // 2
        if fault == "split_interleaved":
            left, right = x[:, ::2], x[:, 1::2]
        elif fault == "halves_swapped":
            right, left = x.chunk(2, 1)
        elif fault == "split_overlap":
            left, right = x[:, :h], x[:, h // 2:h // 2 + h]
        elif fault == "split_reversed":
            left, right = x[:, :h], x[:, h:].flip(1)
        elif fault == "left_again":
            left = right = x[:, h:]
        else:
            left, right = x[:, :h], x[:, h:]
        y = self.ab(self.a(right))
        y = F.relu(y)
        y = self.db(self.d(y))
        if fault == "relu_after_dw":
            y = F.relu(y)
        y = self.pb(self.p(y))
        if fault == "relu6_right_end":
            y = F.relu6(y)
        elif fault != "no_relu_right_end":
            y = F.relu(y)
        if fault == "add_shortcut_v2":
            y = y + right
        if fault == "add_left":
            y = y + left
        if fault == "relu6_left":
            left = F.relu6(left)
        if fault == "sum_of_halves":  # added, and repeated so that the shapes fit
            return (left + y).repeat(1, 2, 1, 1)
        y = torch.cat((y, left) if fault == "concat_order" else (left, y), 1)
        if fault == "no_shuffle":
            return y
        if fault == "shuffle_g4":
            return shuffle(y, 4)
        if fault == "shuffle_transposed":
            return shuffle(y, y.shape[1] // 2)
        if fault == "shuffle_twice":
            return shuffle(shuffle(y, 2), 2)
        if fault == "shuffle_flip":
            return y.flip(1)
        if fault == "shuffle_roll":
            return y.roll(1, 1)
        return shuffle(y, 2)


SHUF_PLACES = {"relu_after_left_dw": 0, "split_interleaved": 1, "halves_swapped": 1, "split_overlap": 1,
               "split_reversed": 2, "left_again": 1, "relu_after_dw": 1, "no_relu_right_end": 1, "relu6_right_end": 1,
               "add_shortcut_v2": 1, "add_left": 1, "relu6_left": 1, "sum_of_halves": 1, "concat_order": 1,
               "no_shuffle": 1, "shuffle_g4": 1, "shuffle_transposed": 1, "shuffle_twice": 1, "shuffle_flip": 1,
               "shuffle_roll": 1, "no_relu_left": 3, "down_order": 3, "down_noshuffle": 3, "down_add": 3}
STEM_POOLS = {
    "maxpool_pad0": partial(F.max_pool2d, kernel_size=3, stride=2, ceil_mode=True),
    "avgpool_stem": partial(F.avg_pool2d, kernel_size=3, stride=2, padding=1),
    "maxpool2": partial(F.max_pool2d, kernel_size=2, stride=2),
    "maxpool5": partial(F.max_pool2d, kernel_size=5, stride=2, padding=2),
    "subsampled": lambda x: x[:, :, ::2, ::2],
    "nopool_bilinear": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
}


class Shuf(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c0, self.b0 = nn.Conv2d(3, CHANNELS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(CHANNELS[0])
        self.blocks, i = nn.ModuleList(), CHANNELS[0]
        for n, o in zip(REPEATS, CHANNELS[1:], strict=False):
            for j in range(n):
                planted = fault if SHUF_PLACES.get(fault) == len(self.blocks) else ""
                if fault == "shuffle_before_concat":
                    planted = "down_noshuffle" if j == 0 else "no_shuffle"
                self.blocks.append(Down(i, o, planted) if j == 0 else Keep(o, planted))
                i = o
        self.c1, self.b1 = nn.Conv2d(i, CHANNELS[4], 1, bias=False), nn.BatchNorm2d(CHANNELS[4])
        self.fc = nn.Linear(CHANNELS[4], 10)

    def forward(self, x):
        x = F.relu(self.b0(self.c0(x)))
        x = STEM_POOLS.get(self.fault, partial(F.max_pool2d, kernel_size=3, stride=2, padding=1))(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(F.relu(self.b1(self.c1(x))).mean((-1, -2)))


STEM, INTO1, INTO2 = at("b0", "blocks.0.left.0"), at("blocks.0.pb", "blocks.1.a"), at("blocks.1.pb", "blocks.2.a")
INTO4 = at("blocks.3.pb", "blocks.4.a")
MAX3 = r"max pooling \(3x3, stride 2, padding 1\)"
SHUF_FAULTS = (
    Fault("relu_after_dw", "ReLU after a depthwise", at("blocks.1.db", "blocks.1.p"), extra(r"\bReLU\b")),
    Fault("no_relu_right_end", "no ReLU at the end of the right branch", INTO2, missing(r"\bReLU\b")),
    Fault("relu6_right_end", "ReLU6 at the end of the right branch", INTO2, instead("ReLU6", r"\bReLU\b")),
    Fault("relu_after_left_dw", "ReLU after the left depthwise", at("blocks.0.left.1", "blocks.0.left.2"),
          extra(r"\bReLU\b")),
    Fault("no_relu_left", "no ReLU at the end of the left branch", at("blocks.3.left.3", "blocks.3.pb", "blocks.4.a"),
          missing(r"\bReLU\b")),
    Fault("concat_order", "concatenated in the other order", INTO2, r"another order|other order|other branch"),
    Fault("down_order", "concatenated in the other order in a strided unit", INTO4,
          r"another order|other order|other branch"),
    Fault("down_add", "the right branch added to the left before the concatenation", INTO4,
          r"(plus|sum|added|addition|adds)"),
    Fault("no_shuffle", "no shuffle", INTO2, r"shuffle is missing|missing.*shuffle"),
    Fault("down_noshuffle", "no shuffle in a strided unit", INTO4, r"shuffle is missing|missing.*shuffle"),
    Fault("shuffle_before_concat", "no shuffle at all", INTO1, r"shuffle is missing|missing.*shuffle"),
    Fault("shuffle_g4", "4 groups", INTO2, instead("4 groups", "2 groups")),
    Fault("shuffle_transposed", "shuffled the other way round", INTO2,
          instead("24 groups", "2 groups") + "|the other way round|transposed|backwards|inverse"),
    Fault("shuffle_twice", "shuffled twice", INTO2, r"twice|once more|two (channel )?shuffles|"
          + instead(r"\b4 groups", r"\b2 groups")),
    Fault("shuffle_flip", "channels reversed in the place of the shuffle", INTO2,
          r"revers|flip|backwards|shuffle is missing.*2 groups"),
    Fault("shuffle_roll", "channels rotated in the place of the shuffle", INTO2,
          r"rotate|roll|shift|shuffle is missing.*2 groups"),
    Fault("split_interleaved", "split into even and odd channels", INTO1,
          r"(every second|every other|even|odd|interleav|altern.*split|split.*altern|step 2|::2|\b1, 3, 5)"),
    Fault("halves_swapped", "halves exchanged", INTO1,
          r"halves.*(exchang|swap|other)|(exchang|swap).*halves|other half|channels 0 to 23.*channels 24 to 47"),
    Fault("split_overlap", "the right half begins too early", INTO1,
          r"(channels? )?12 (to|\.\.|:|-) ?3[56].*(channels? )?24|other channels|channels 12"),
    Fault("split_reversed", "channels of the right half reversed", at("blocks.1.pb", "blocks.2.a"),
          r"revers|flip|backwards"),
    Fault("left_again", "the right half in both branches", INTO2,
          r"(half|channels).*(twice|again|both|instead|exchang|swap|other)|channels 24 to 47.*channels 0 to 23|"
          r"input of `blocks.1.a` is concatenated instead of the first half of the channels"),
    Fault("add_shortcut_v2", "an addition in the right branch", INTO2,
          r"(too many|plus|adds|addition|added|shortcut).*"),
    Fault("add_left", "the left half added to the right branch", INTO2,
          r"(too many|plus|adds|addition|added|shortcut)"),
    Fault("relu6_left", "ReLU6 on the left half", f"{INTO1}|{INTO2}|{INTO4}|{at('blocks.3.left.0')}",
          instead("ReLU6", r"(\bReLU\b|no activation)")),
    Fault("sum_of_halves", "an addition for the concatenation", INTO2,
          r"(plus|sum|added|addition|adds).*(concat|cat)|(concat).*(plus|sum|added|addition|adds)"),
    Fault("maxpool_pad0", "stem pooling without padding, rounded up", STEM, instead("padding 0, rounded up", MAX3)),
    Fault("avgpool_stem", "average pooling in the stem", STEM, instead("average pooling", MAX3)),
    Fault("maxpool2", "2x2 maximum in the stem", STEM, instead(r"max pooling \(2x2", MAX3)),
    Fault("maxpool5", "5x5 maximum in the stem", STEM, instead(r"max pooling \(5x5", MAX3)),
    Fault("subsampled", "every second pixel in the stem", STEM,
          instead(r"(every second|every other|subsampl|::2|slic|step 2|strid|no pooling)", "max pooling")),
    Fault("nopool_bilinear", "halved by bilinear interpolation in the stem", STEM,
          instead(r"(bilinear|average pooling \(2x2)", "max pooling")),
)

# ShuffleNet V1 with 3 groups: pytorchcv shuffles before the depthwise convolution.

V1_UNITS = ((24, 240, 2), (240, 240, 1), (240, 240, 1), (240, 480, 2), (480, 480, 1))  # input, output channels, stride


class V1Unit(nn.Module):
    def __init__(self, i, o, s, first, fault):
        super().__init__()
        m, self.s, self.fault = o // 4, s, fault
        g = 3 if fault == "s1_groups_first" or not first else 1
        self.c1, self.b1 = nn.Conv2d(i, m, 1, groups=g, bias=False), nn.BatchNorm2d(m)
        self.c2, self.b2 = nn.Conv2d(m, m, 3, s, 1, groups=m, bias=False), nn.BatchNorm2d(m)
        out = o - i if s == 2 else o
        self.c3 = nn.Conv2d(m, out, 1, groups=1 if fault == "s1_dense_expand" else 3, bias=False)
        self.b3 = nn.BatchNorm2d(out)

    def shuffle(self, y):
        groups = {"s1_shuffle_T": y.shape[1] // 3, "s1_shuffle_g2": 2, "s1_shuffle_g6": 6}
        return y if self.fault == "s1_noshuffle" else shuffle(y, groups.get(self.fault, 3))

    def forward(self, x):
        fault = self.fault
        y = self.b1(self.c1(x))
        if fault == "s1_norelu_inside":
            y = self.shuffle(y)
        else:
            y = F.relu(y)
            y = y if fault == "s1_shuffle_after_dw" else self.shuffle(y)
        y = self.b2(self.c2(y))
        if fault == "s1_dwrelu":
            y = F.relu(y)
        if fault == "s1_shuffle_after_dw":
            y = self.shuffle(y)
        y = self.b3(self.c3(y))
        if fault == "s1_shuffle_end":
            y = shuffle(y, 3)
        if self.s == 2:
            pools = {
                "s1_max": lambda: F.max_pool2d(x, 3, 2, 1),
                "s1_count": lambda: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                "s1_avg2": lambda: F.avg_pool2d(x, 2),
                "s1_sub": lambda: x[:, :, ::2, ::2],
                "s1_bilinear": lambda: F.interpolate(x, scale_factor=0.5, mode="bilinear"),
                "s1_ceil": lambda: F.avg_pool2d(x, 3, 2, ceil_mode=True),
            }
            z = pools.get(fault, lambda: F.avg_pool2d(x, 3, 2, 1))()
            if fault == "s1_norelu_cat":
                return torch.cat((y, z), 1)
            return F.relu(torch.cat((z, y) if fault == "s1_cat" else (y, z), 1))
        if fault == "s1_relu_before_add":
            return x + F.relu(y)
        if fault == "s1_norelu":
            return x + y
        if fault == "s1_addinput_twice":
            y = y + x
        return F.relu(y if fault == "s1_cat_always" else x + y)


V1_PLACES = {"s1_groups_first": 0, "s1_shuffle_T": 1, "s1_noshuffle": 1, "s1_shuffle_after_dw": 1, "s1_dwrelu": 1,
             "s1_norelu_inside": 2,
             "s1_cat": 0, "s1_cat_always": 1, "s1_max": 0, "s1_count": 0, "s1_avg2": 0, "s1_sub": 3, "s1_bilinear": 3,
             "s1_ceil": 3, "s1_norelu_cat": 0, "s1_relu_before_add": 1, "s1_norelu": 2,
             "s1_addinput_twice": 1, "s1_dense_expand": 2, "s1_shuffle_g2": 1, "s1_shuffle_g6": 2, "s1_shuffle_end": 1}


class V1(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c, self.b = nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24)
        self.L = nn.ModuleList(V1Unit(*row, k == 0, fault if V1_PLACES.get(fault) == k else "")
                               for k, row in enumerate(V1_UNITS))
        self.fc = nn.Linear(480, 10)

    def forward(self, x):
        x = self.b(self.c(x))
        if self.fault == "s1_pool_before_relu_avg":
            x = F.avg_pool2d(F.relu(x), 3, 2, 1)
        else:
            x = F.relu(F.max_pool2d(x, 3, 2, 1))
        for unit in self.L:
            x = unit(x)
        return self.fc(x.amax((2, 3)) if self.fault == "s1_head_max" else x.mean((2, 3)))


def v1_reference():
    net = ShuffleNet([[240, 240, 240], [480, 480]], 24, 3, num_classes=10)
    net.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return net


INTO = {k: at(f"L.{k - 1}.b3", f"L.{k}.c1") for k in range(1, 5)}
AVG3 = r"average pooling \(3x3, stride 2, padding 1\)"
V1_FAULTS = (
    Fault("s1_groups_first", "groups in the first 1x1", at("L.0.c1"), instead("groups 3", "groups 1")),
    Fault("s1_dense_expand", "no groups in one expansion", at("L.2.c3"), instead("groups 1", "groups 3")),
    Fault("s1_shuffle_T", "shuffled the other way round", at("L.1.b1", "L.1.c2"), instead("20 groups", "3 groups")),
    Fault("s1_shuffle_g2", "2 groups", at("L.1.b1", "L.1.c2"), instead("2 groups", "3 groups")),
    Fault("s1_shuffle_g6", "6 groups", at("L.2.b1", "L.2.c2"), instead("6 groups", "3 groups")),
    Fault("s1_noshuffle", "no shuffle", at("L.1.b1", "L.1.c2"), r"shuffle is missing|missing.*shuffle"),
    Fault("s1_shuffle_after_dw", "shuffle after the depthwise", at("L.1.b1", "L.1.c2"),
          r"shuffle is missing|missing.*shuffle|shuffle.*after"),
    Fault("s1_shuffle_end", "a second shuffle, before the addition", at("L.1.b3", "L.2.c1"),
          r"shuffle.*(reference (does|has) (not|no)|too many)|which the reference does not have"),
    Fault("s1_norelu_inside", "no ReLU before the shuffle", at("L.2.b1", "L.2.c2"), missing(r"\bReLU\b")),
    Fault("s1_dwrelu", "ReLU after the depthwise", at("L.1.b2", "L.1.c3"), extra(r"\bReLU\b")),
    Fault("s1_cat", "concatenated in the other order", INTO[1], r"another order|other order"),
    Fault("s1_cat_always", "no addition", INTO[2], r"shortcut is missing|missing.*shortcut"),
    Fault("s1_addinput_twice", "shortcut added twice", INTO[2],
          r"(shortcut|input of `L\.1\.c1`).*(twice|two times|times 2|2 times)|"
          r"(twice|2 times).*(shortcut|input of `L\.1\.c1`)"),
    Fault("s1_relu_before_add", "ReLU before the addition", INTO[2], r"ReLU.*before the addition.*after"),
    Fault("s1_norelu", "no ReLU after the addition", INTO[3], missing(r"\bReLU\b") + r"|no activation.*ReLU"),
    Fault("s1_norelu_cat", "no ReLU after the concatenation", INTO[1], missing(r"\bReLU\b") + r"|no activation.*ReLU"),
    Fault("s1_max", "maximum in the shortcut", INTO[1], instead("max pooling", "average pooling")),
    Fault("s1_count", "mean without the padding in the shortcut", INTO[1], instead("not counting", AVG3)
          + r"|count_include_pad"),
    Fault("s1_avg2", "2x2 mean in the shortcut", INTO[1], instead(r"average pooling \(2x2", AVG3)),
    Fault("s1_ceil", "mean without padding, rounded up, in the shortcut", INTO[4],
          instead(r"average pooling \(3x3, stride 2, padding 0, rounded up", AVG3)),
    Fault("s1_sub", "every second pixel in the shortcut", INTO[4],
          instead(r"(every second|every other|subsampl|::2|slic|step 2|no pooling)", "average pooling")),
    Fault("s1_bilinear", "bilinear interpolation in the shortcut", INTO[4],
          instead(r"(bilinear|average pooling \(2x2)", AVG3)),
    Fault("s1_pool_before_relu_avg", "average pooling in the stem", at("b", "L.0.c1"),
          instead("average pooling", "max pooling")),
    Fault("s1_head_max", "global maximum", at("L.4.b3", "fc"), instead(r"(?i:max)", "(global average pooling|mean)")),
)

# ShuffleNet V1 as lwcourse has it: the shuffle follows the depthwise convolution and deals the other way round.


class LwUnit(nn.Module):
    def __init__(self, i, o, s, first, fault):
        super().__init__()
        m, self.s, self.fault, out = o // 4, s, fault, o - i if s == 2 else o
        self.r = nn.Sequential(nn.Conv2d(i, m, 1, groups=1 if first else 3, bias=False), nn.BatchNorm2d(m), nn.ReLU())
        self.d = nn.Sequential(nn.Conv2d(m, m, 3, s, 1, groups=m, bias=False), nn.BatchNorm2d(m))
        self.e = nn.Sequential(nn.Conv2d(m, out, 1, groups=3, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        fault = self.fault
        y = self.d(self.r(x))
        if fault == "lw_shuffle_T":
            y = shuffle(y, 3)
        elif fault == "lw_flatten":  # the spatial axes come between the two axes of the channels
            n, c, h, w = y.shape
            y = y.reshape(n, 3, c // 3, h * w).permute(0, 2, 3, 1).reshape(n, c, h, w)
        elif fault == "lw_view":
            n, c, h, w = y.shape
            y = y.view(n, h, w, c).permute(0, 3, 1, 2)
        elif fault != "lw_noshuffle":
            n, c, h, w = y.shape
            y = y.view(n, c // 3, 3, h, w).permute(0, 2, 1, 3, 4).contiguous().view(n, c, h, w)
        y = self.e(y)
        if self.s == 1:
            return F.relu(y.add(x)) if fault != "lw_concat_mean" else F.relu((y + x) / 2)
        z = F.avg_pool2d(x, 3, 2, 1)
        if fault == "lw_norelu":
            return torch.cat((z, y), 1)
        if fault == "lw_order":
            return torch.cat((F.relu(y), z), 1)
        return torch.cat((z, F.relu(y)), 1)


LW_PLACES = {"lw_shuffle_T": 1, "lw_flatten": 1, "lw_view": 1, "lw_noshuffle": 2, "lw_concat_mean": 2,
             "lw_norelu": 3, "lw_order": 3}


class LwV1(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.c = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.u = nn.Sequential(*[LwUnit(*row, k == 0, fault if LW_PLACES.get(fault) == k else "")
                                 for k, row in enumerate(V1_UNITS)])
        self.fc = nn.Linear(480, 10, bias=False)

    def forward(self, x):
        return self.fc(self.u(F.max_pool2d(self.c(x), 3, 2, 1)).mean((2, 3)))


def lw_reference():
    units = [ShuffleUnit(*row, 3, first_groups=1 if k == 0 else 3) for k, row in enumerate(V1_UNITS)]
    stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(stem, *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(480, 10, bias=False))


LW_FAULTS = (
    Fault("lw_shuffle_T", "shuffled the other way round", at("u.1.d.1", "u.1.e.0"), instead("3 groups", "20 groups")),
    Fault("lw_noshuffle", "no shuffle", at("u.2.d.1", "u.2.e.0"), r"shuffle is missing|missing.*shuffle"),
    Fault("lw_flatten", "the shuffle mixes pixels and channels", at("u.1.d.1", "u.1.e.0"),
          r"(?i)(reshape|another order|pixels|flatten|view|permut)"),
    Fault("lw_view", "a view as channels last in the place of the shuffle", at("u.1.d.1", "u.1.e.0"),
          r"(?i)(reshape|another order|pixels|flatten|view|permut|channels last)"),
    Fault("lw_concat_mean", "mean of branch and shortcut", at("u.2.e.1", "u.3.r.0"),
          scaled(r"\b(2|0\.5)\b")),
    Fault("lw_norelu", "no ReLU on the branch", at("u.3.e.1", "u.4.r.0"), missing(r"\bReLU\b")),
    Fault("lw_order", "concatenated in the other order", at("u.3.e.1", "u.4.r.0"), r"another order|other order"),
)

SMALL = (2, 3, 96, 64)
PAIRS = (
    Pair("shuf/tv", Shuf, partial(ShuffleNetV2, list(REPEATS), list(CHANNELS), num_classes=10), SMALL, SHUF_FAULTS),
    Pair("s1/cv", V1, v1_reference, SMALL, V1_FAULTS),
    Pair("s1/lw", LwV1, lw_reference, SMALL, LW_FAULTS),
)
