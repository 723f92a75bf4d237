"""ESPNet-C and Fast-SCNN against the course's."""
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from planted import Fault, Pair
from planted.sentences import NO_SHORTCUT, SCALE, all_of, at, extra, gap, instead, missing

SUBTRACTED = all_of(r"subtract|minus|times -1|sign")
TWICE = all_of(r"twice|two times|times 2|2 times")
AVERAGE, MAXIMUM = ".*(?:average|mean).*", ".*max.*"


def not_counting():
    return all_of("count|padding|include", "average|pool")


# ------------------------------------------------------------------------------------------------------- ESPNet-C

class BP(nn.Module):
    """BatchNorm and PReLU."""

    def __init__(self, c, slopes=None, eps=1e-3):
        super().__init__()
        self.b, self.a = nn.BatchNorm2d(c, eps=eps), nn.PReLU(slopes or c)

    def forward(self, x):
        return self.a(self.b(x))


class ESP(nn.Module):
    def __init__(self, i, o, stride=1, fault=""):
        super().__init__()
        self.fault, self.add = fault, stride == 1
        n = o // 5
        self.r = nn.Conv2d(i, n, 3 if stride == 2 else 1, stride, 1 if stride == 2 else 0, bias=False)
        dilations = {"dilations_linear": (1, 2, 3, 4, 5), "dilations_equal": (2, 2, 4, 8, 16)}.get(fault,
                                                                                                   (1, 2, 4, 8, 16))
        widths = (n, n, n, n, o - 4 * n) if fault == "wide_last" else (o - 4 * n, n, n, n, n)
        self.d = nn.ModuleList(nn.Conv2d(n, width, 3, padding=1 if fault == "padding1" else d, dilation=d, bias=False)
                               for width, d in zip(widths, dilations, strict=True))
        self.n = BP(o, eps=1e-5 if fault == "eps" else 1e-3)

    def fuse(self, maps):
        d1, d2, d4, d8, d16 = maps
        fault = self.fault
        if fault == "no_fusion":
            return maps
        if fault == "fuse_pairs":
            return d1, d2, d2 + d4, d4 + d8, d8 + d16
        if fault == "fuse_reversed":
            d8 = d16 + d8
            d4 = d8 + d4
            return d1, d4 + d2, d4, d8, d16
        if fault == "fuse_mean":
            return d1, d2, (d2 + d4) / 2, (d2 + d4 + d8) / 3, (d2 + d4 + d8 + d16) / 4
        if fault == "fuse_max":
            d4 = torch.maximum(d2, d4)
            d8 = torch.maximum(d4, d8)
            return d1, d2, d4, d8, torch.maximum(d8, d16)
        if fault == "fuse_all":
            total = d2 + d4 + d8 + d16
            return d1, total, total, total, total
        if fault == "fuse_first":
            return d1, d1[:, :d2.shape[1]] + d2, d2 + d4, d2 + d4 + d8, d2 + d4 + d8 + d16
        d4 = d2 + d4
        d8 = d4 + d8
        d16 = d4 + d16 if fault == "fuse_skips" else d8 + d16
        if fault == "fuse_minus":
            d16 = d16 - 2 * d8
        return d1, d2, d4, d8, d16

    def forward(self, x):
        y = self.r(x)
        if self.fault == "reduce_relu":
            y = F.relu(y)
        maps = list(self.fuse([d(y) for d in self.d]))
        if self.fault == "order":
            maps = maps[1:] + maps[:1]
        if self.fault == "order_reversed":
            maps[1:] = maps[:0:-1]
        y = torch.cat(maps, 1)
        if self.fault == "skip_after":
            return x + self.n(y)
        if self.fault == "skip_minus":
            y = y - x
        elif self.fault == "skip_twice":
            y = y + 2 * x
        elif self.add and self.fault != "no_skip":
            y = y + x
        return self.n(y)


class ESPNetC(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.cn = BP(16, 1 if fault == "prelu_one" else None)
        self.j1, self.m1 = BP(19), ESP(19, 64, 2)
        self.m2 = nn.ModuleList(ESP(64, 64, fault=fault if i == 1 else "") for i in range(2))
        self.j2, self.m3 = BP(131), ESP(131, 128, 2)
        self.m4 = nn.ModuleList(ESP(128, 128) for _ in range(2))
        self.j3, self.k = BP(256), nn.Conv2d(256, 5, 1, bias=False)

    def halve(self, x):
        fault = self.fault
        if fault == "image_max":
            return F.max_pool2d(x, 3, 2, 1)
        if fault == "image_2x2":
            return F.avg_pool2d(x, 2)
        if fault == "image_bilinear":
            return F.interpolate(x, scale_factor=0.5, mode="bilinear")
        if fault == "image_strided":
            return x[:, :, ::2, ::2]
        return F.avg_pool2d(x, 3, 2, 1, count_include_pad=fault != "image_count")

    def enlarge(self, y, size):
        fault = self.fault
        if fault == "up_align":
            return F.interpolate(y, size, mode="bilinear", align_corners=True)
        if fault in ("nearest", "bicubic", "area"):
            return F.interpolate(y, size, mode=fault)
        if fault == "up4":
            return F.interpolate(y, scale_factor=4, mode="bilinear")
        if fault == "up_steps":
            for _ in range(3):
                y = F.interpolate(y, scale_factor=2, mode="bilinear")
            return y
        if fault == "up_none":
            return y
        if fault == "up_softmax":
            y = y.softmax(1)
        y = F.interpolate(y, size, mode="bilinear")
        if fault == "softmax_end":
            return y.softmax(1)
        if fault == "softmax_pixels":
            return y.softmax(-1)
        return y.sigmoid() if fault == "sigmoid_end" else y

    def forward(self, x):
        half = self.halve(x)
        y = self.cn(self.c(x))
        y = self.j1(torch.cat([half, y] if self.fault == "cat1" else [y, half], 1))
        first = self.m1(y)
        y = first
        for m in self.m2:
            y = m(y)
        if self.fault == "image_4x4":
            quarter = F.avg_pool2d(x, 4)
        elif self.fault == "image_twice":
            quarter = F.interpolate(half, scale_factor=0.5, mode="nearest")
        else:
            quarter = F.avg_pool2d(half, 3, 2, 1)
        if self.fault == "cat2":
            y = torch.cat([first, y, quarter], 1)
        elif self.fault == "cat2_image":
            y = torch.cat([quarter, y, first], 1)
        else:
            y = torch.cat([y, first, quarter], 1)
        y = first = self.m3(self.j2(y))
        for m in self.m4:
            y = m(y)
        if self.fault == "cat3":
            y = torch.cat([y, first], 1)
        elif self.fault == "cat3_same":
            y = torch.cat([y, y], 1)
        else:
            y = torch.cat([first, y], 1)
        return self.enlarge(self.k(self.j3(y)), x.shape[2:])


FUSION = at("m2.1.d.4", "m2.1.d.3", "m2.1.d.2", "m2.1.d.1", "m2.1.n.b")
FUSED = r"`m2\.1\.d\.[01234]`"
IMAGE = at("cn.a", "j1.b")
QUARTER = at("m2.1.n.a", "j2.b")
OUT = at("k")
ADDED = all_of(FUSED, r"\badd|plus|\bsum|fus|addition")

ESP_FAULTS = (
    Fault("dilations_linear", "dilations 1 to 5", at("m2.1.d.2"), instead("dilation 3", "dilation 4")),
    Fault("dilations_equal", "dilations 2, 2, 4, 8, 16", at("m2.1.d.0"), instead("dilation 2", "dilation 1")),
    Fault("padding1", "padding 1 with every dilation", at("m2.1.d.1"), instead("padding 1", "padding 2")),
    Fault("wide_last", "the rest of the channels in the last branch", at("m2.1.d.0"), instead("12", "16")),
    Fault("eps", "eps 1e-5", at("m2.1.n.b"), instead("eps 1e-05", "(?:eps )?0.001")),
    Fault("prelu_one", "PReLU with one slope", at("cn.a"), instead("slopes? 1", "(?:slopes? )?16")),
    Fault("cat1", "image before the maps at level 1", IMAGE, all_of("concatenated", "order")),
    Fault("cat2", "order of the maps at level 2", QUARTER, all_of("concatenated", "order")),
    Fault("cat2_image", "image first at level 2", QUARTER, all_of("concatenated", "order")),
    Fault("cat3", "order of the maps at level 3", at("m4.1.n.a", "j3.b"), all_of("concatenated", "order")),
    Fault("cat3_same", "the last maps twice at level 3", at("m4.1.n.a", "j3.b"),
          all_of(r"concatenat|made from|channels", r"`m4\.1\.n\.a`|twice|`m3\.n\.a`")),
    Fault("no_fusion", "no hierarchical fusion", FUSION, ADDED),
    Fault("fuse_pairs", "neighbours are added, not all before", FUSION, ADDED),
    Fault("fuse_reversed", "fused from the largest dilation to the smallest", FUSION, ADDED),
    Fault("fuse_mean", "means for sums in the fusion", FUSION,
          SCALE + "|" + instead(".*(?:mean|average).*", ".*(?:sum|plus|add).*")),
    Fault("fuse_max", "maximum for the sum in the fusion", FUSION, instead(".*max.*", ".*(?:sum|plus|add).*")),
    Fault("fuse_all", "every branch gets the sum of all", FUSION, ADDED),
    Fault("fuse_first", "the branch of dilation 1 takes part", FUSION, all_of(r"`m2\.1\.d\.0`", r"\badd|plus|\bsum")),
    Fault("fuse_skips", "the last branch gets the sum without its neighbour", FUSION, ADDED),
    Fault("fuse_minus", "the sum is subtracted in the last branch", FUSION, SUBTRACTED),
    Fault("order", "the branch of dilation 1 last", FUSION, all_of("order|concatenat", "order|last|first")),
    Fault("order_reversed", "fused branches from the last to the first", FUSION,
          all_of("order|concatenat", "order|last|first")),
    Fault("reduce_relu", "ReLU behind the reduction", at("m2.1.r", "m2.1.d.0"),
          extra("ReLU") + "|" + instead("ReLU", "no activation")),
    Fault("no_skip", "no shortcut", FUSION, NO_SHORTCUT),
    Fault("skip_after", "shortcut behind BatchNorm and PReLU", FUSION,
          all_of("shortcut|add|plus|input of", "before|after|behind|missing|output of|input of")),
    Fault("skip_minus", "shortcut subtracted", FUSION, SUBTRACTED),
    Fault("skip_twice", "shortcut twice", FUSION, TWICE),
    Fault("image_count", "average of the image without the padding", IMAGE, not_counting()),
    Fault("image_max", "maximum of the image", IMAGE, instead(MAXIMUM, AVERAGE)),
    Fault("image_2x2", "average of 2x2", IMAGE, instead(".*2x2.*", ".*3x3.*")),
    Fault("image_strided", "every second pixel for the average", IMAGE,
          missing("average.*") + "|" + all_of("average|pool", "no pool|every second|slice|strid")),
    Fault("image_4x4", "image pooled by 4 at once", QUARTER, instead(".*4x4.*", ".*3x3.*")),
    Fault("image_twice", "half of the image made smaller by nearest pixels", QUARTER,
          all_of("average|pool", "nearest|interpol|every second|slice|no pool|sampl")),
    Fault("up_align", "align_corners at the end", OUT, all_of("bilinear", "align_corners")),
    Fault("nearest", "nearest at the end", OUT, instead(".*nearest.*", ".*bilinear.*")),
    Fault("bicubic", "bicubic at the end", OUT, instead(".*bicubic.*", ".*bilinear.*")),
    Fault("up4", "enlarged by 4, not 8", OUT,
          all_of("upsampl|interpol|enlarg|here", r"(?:by|factor|times|to|x) ?4\b|\b48",
                 r"(?:by|factor|times|to|x) ?8\b|\b96")),
    Fault("up_steps", "enlarged by 2 three times", OUT,
          all_of("upsampl|interpol|enlarge|bilinear", "three|3 times|twice|steps|more than once|again|first")),
    Fault("up_none", "not enlarged", OUT, missing("(?:bilinear )?(?:upsampl|interpol|enlarg)")
          + "|" + all_of("upsampl|interpol|enlarge", r"\bno |missing|\(2, 5, 12, 8\)")),
    Fault("up_softmax", "softmax before enlarging", OUT,
          extra("Softmax") + "|" + instead("Softmax.*", "no activation")),
    Fault("softmax_end", "softmax over the classes at the end", OUT,
          extra("Softmax.*") + "|" + instead("Softmax.*", "no activation")),
    Fault("softmax_pixels", "softmax over a row at the end", OUT,
          extra("Softmax.*") + "|" + instead("Softmax.*", "no activation")),
    Fault("sigmoid_end", "sigmoid at the end", OUT, extra("Sigmoid") + "|" + instead("Sigmoid", "no activation")),
)


# ------------------------------------------------------------------------------------------------------- Fast-SCNN

def cbr(i, o, k=1, stride=1, groups=1, act=True, dilation=1):
    pad = dilation * (k // 2)
    layers = [nn.Conv2d(i, o, k, stride, pad, dilation, groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *[nn.ReLU()] * act)


def ds(i, o, stride=1, act=False):
    return nn.Sequential(cbr(i, i, 3, stride, i, act), cbr(i, o))


def inverted(i, o, stride):
    return nn.Sequential(cbr(i, 6 * i), cbr(6 * i, 6 * i, 3, stride, 6 * i), cbr(6 * i, o, act=False))


class FastSCNN(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.stem = nn.ModuleList([cbr(3, 32, 3, 2), ds(32, 48, 2, fault == "ds_relu"), ds(48, 64, 2)])
        rows = [(64, 64, 2), (64, 64, 1), (64, 64, 1), (64, 96, 2), (96, 96, 1), (96, 96, 1), (96, 128, 1),
                (128, 128, 1), (128, 128, 1)]
        self.bl = nn.ModuleList(inverted(*row) for row in rows)
        self.windows = {"windows": (1, 2, 4, 6), "windows_reversed": (6, 3, 2, 1)}.get(fault, (1, 2, 3, 6))
        self.pp = nn.ModuleList(cbr(128, 32) for _ in range(4))
        self.mix = cbr(256, 128)
        dilation = 1 if fault == "no_dilation" else 4
        self.fd = cbr(128, 128, 3, groups=128, dilation=dilation, act=fault != "fusion_no_act")
        self.ps = nn.Sequential(nn.Conv2d(128, 128, 1), nn.BatchNorm2d(128))
        self.pl = nn.Sequential(nn.Conv2d(64, 128, 1), nn.BatchNorm2d(128))
        self.h, self.k = nn.ModuleList([ds(128, 128), ds(128, 128)]), nn.Conv2d(128, 5, 1)

    def up(self, x, size, where):
        if self.fault == f"{where}_corners":
            return F.interpolate(x, size, mode="bilinear")
        if self.fault in (f"{where}_nearest", f"{where}_bicubic"):
            return F.interpolate(x, size, mode=self.fault.split("_")[1])
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    def pyramid(self, x):
        maps = []
        for window, layers in zip(self.windows, self.pp, strict=True):
            pool = F.adaptive_max_pool2d if self.fault == "pyramid_max" else F.adaptive_avg_pool2d
            maps.append(self.up(layers(pool(x, window)), x.shape[2:], "pyramid"))
        if self.fault == "pyramid_sum":
            maps[0] = maps[0] + maps[1]
        if self.fault == "pyramid_last":
            return self.mix(torch.cat([*maps, x], 1))
        if self.fault == "pyramid_order":
            return self.mix(torch.cat([x, *reversed(maps)], 1))
        return self.mix(torch.cat([x, *maps], 1))

    def fuse(self, large, small):
        if self.fault == "up_late":
            small = self.up(self.ps(self.fd(small)), large.shape[2:], "fusion")
        else:
            small = self.ps(self.fd(self.up(small, large.shape[2:], "fusion")))
        large = self.pl(large)
        if self.fault == "fusion_relu_first":
            return large + F.relu(small)
        if self.fault == "fusion_times":
            return F.relu(large * small)
        if self.fault == "fusion_minus":
            return F.relu(large - small)
        if self.fault == "fusion_max":
            return F.relu(torch.maximum(large, small))
        if self.fault == "fusion_mean":
            return F.relu((large + small) / 2)
        if self.fault == "fusion_large":
            return F.relu(large + 0 * small)
        return large + small if self.fault == "fusion_no_relu" else F.relu(large + small)

    def forward(self, x):
        size = x.shape[2:]
        for layers in self.stem:
            x = layers(x)
        large = x
        for i, layers in enumerate(self.bl):
            y = layers(x)
            x = x + y if i % 3 and not (i == 4 and self.fault == "no_skip") else y
        x = self.fuse(large, self.pyramid(x))
        for layers in self.h:
            x = layers(x)
        x = self.k(x)
        if self.fault == "softmax_end":
            return self.up(x, size, "output").softmax(1)
        return self.up(x, size, "output")


PYRAMID = at("pp.3.1", "mix.0", "pp.0.1")
WINDOW = at("bl.8.2.1", "pp.0.0")
FUSE = at("pl.1", "h.0.0.0")

SCNN_FAULTS = (
    Fault("ds_relu", "ReLU between depthwise and 1x1", gap("stem.1.0.1", "stem.1.1.0"),
          extra("ReLU") + "|" + instead("ReLU", "no activation")),
    Fault("no_skip", "no shortcut in the second row of bottlenecks", at("bl.4.2.1", "bl.5.0.0"), NO_SHORTCUT),
    Fault("no_dilation", "no dilation in the fusion", at("fd.0"), instead("dilation 1", "dilation 4")),
    Fault("windows", "windows 1, 2, 4, 6", at("pp.2.0", "pp.1.1"),
          all_of(r"\b4\b|4x4|4, 4", r"reference.*(?:3x3|3, 3|\b3\b)")),
    # The same network as one that concatenates them backwards.
    Fault("windows_reversed", "windows 6, 3, 2, 1", f"{WINDOW}|{PYRAMID}",
          all_of("6x6|6, 6|\\b6\\b", r"reference.*(?:1x1|1, 1|\b1\b|global)") + "|"
          + all_of("concatenated", "order.*`pp.0.1`, `pp.1.1`.*`pp.1.1`, `pp.0.1`")),
    Fault("pyramid_max", "maximum for average in the pyramid", WINDOW, instead(MAXIMUM, AVERAGE)),
    Fault("pyramid_last", "the map last in the pyramid's concatenation", PYRAMID, all_of("concatenated", "order")),
    Fault("pyramid_order", "the pyramid's maps in the other order", PYRAMID,
          all_of("concatenated|concatenation", "order")),
    Fault("pyramid_corners", "no align_corners in the pyramid", PYRAMID, "align_corners"),
    Fault("pyramid_nearest", "nearest in the pyramid", PYRAMID, instead(".*nearest.*", ".*bilinear.*")),
    Fault("pyramid_bicubic", "bicubic in the pyramid", PYRAMID, instead(".*bicubic.*", ".*bilinear.*")),
    Fault("pyramid_sum", "two maps of the pyramid added", PYRAMID,
          all_of(r"`pp\.[01]\.1`|channels", r"\badd|plus|\bsum")),
    Fault("fusion_corners", "no align_corners in the fusion", at("mix.1", "fd.0"), "align_corners"),
    Fault("fusion_nearest", "nearest in the fusion", at("mix.1", "fd.0"), instead(".*nearest.*", ".*bilinear.*")),
    Fault("fusion_bicubic", "bicubic in the fusion", at("mix.1", "fd.0"), instead(".*bicubic.*", ".*bilinear.*")),
    Fault("up_late", "enlarged behind the convolutions of the fusion", at("mix.1", "fd.0"),
          missing("(?:bilinear )?upsampl")
          + "|" + all_of("upsampl|enlarge|interpol|4, 4", r"\bno |missing|reference")),
    Fault("fusion_no_act", "no ReLU behind the dilated convolution", at("fd.1", "ps.0"), missing("ReLU")),
    Fault("fusion_no_relu", "no ReLU behind the sum", FUSE, missing("ReLU")),
    Fault("fusion_relu_first", "ReLU on one term, before the sum", FUSE,
          all_of("ReLU", "before|after", "addition|sum|adding")),
    Fault("fusion_times", "product for the sum", FUSE,
          instead(".*(?:times|multipl|product).*", ".*(?:add|plus|sum|shortcut).*")),
    Fault("fusion_minus", "difference for the sum", FUSE, SUBTRACTED),
    Fault("fusion_max", "maximum for the sum", FUSE, instead(MAXIMUM, ".*(?:add|plus|sum|shortcut).*")),
    Fault("fusion_mean", "mean for the sum", FUSE, SCALE),
    Fault("fusion_large", "the small branch does not arrive", FUSE,
          missing("shortcut|addition|sum|adds") + "|" + all_of(r"missing|only|not|yours is", r"`ps\.1`")),
    Fault("output_corners", "no align_corners at the output", OUT, "align_corners"),
    Fault("output_nearest", "nearest at the output", OUT, instead(".*nearest.*", ".*bilinear.*")),
    Fault("output_bicubic", "bicubic at the output", OUT, instead(".*bicubic.*", ".*bilinear.*")),
    Fault("softmax_end", "softmax over the classes", OUT,
          extra("Softmax.*") + "|" + instead("Softmax.*", "no activation")),
)

PAIRS = (
    Pair("espnet_c/course", ESPNetC, lambda: lw.create_model("espnet_c", num_classes=5, p=2, q=2), (2, 3, 96, 64),
         ESP_FAULTS),
    Pair("fast_scnn/course", FastSCNN, lambda: lw.create_model("fast_scnn", num_classes=5), (2, 3, 128, 192),
         SCNN_FAULTS),
)
