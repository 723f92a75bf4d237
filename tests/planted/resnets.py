"""ResNet-D and HRNet against timm's, DenseNet against torchvision's."""
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.hrnet import HighResolutionModule
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision.models.densenet import DenseNet

from planted import Fault, Pair
from planted.wording import GLOBAL_MEAN, at, extra, instead, missing, scaled

# ResNet-D: three 3x3 in the stem, and average pooling in the shortcuts.

RD_CHANNELS, RD_LAYERS = (32, 48, 64, 96), (2, 2, 1, 1)


class RdBlock(nn.Module):
    def __init__(self, i, o, s, fault):
        super().__init__()
        self.s, self.fault = s, fault
        self.c1, self.b1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        if s == 2:
            self.sc, self.sb = nn.Conv2d(i, o, 1, 2 if fault == "rd_stride" else 1, bias=False), nn.BatchNorm2d(o)

    def shortcut(self, x):
        fault = self.fault
        if self.s == 1:
            return x
        pools = {
            "rd_stride": lambda x: x,
            "rd_max": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
            "rd_avg3": lambda x: F.avg_pool2d(x, 3, 2, 1),
            "rd_noceil": lambda x: F.avg_pool2d(x, 2),
            "rd_sub": lambda x: x[:, :, ::2, ::2],
            "rd_sub_odd": lambda x: x[:, :, 1::2, 1::2],
            "rd_offset": lambda x: F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 2),
            "rd_bilinear": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True),
            "rd_sum2": lambda x: 4 * F.avg_pool2d(x, 2),
            "rd_rows": lambda x: F.avg_pool2d(x, (2, 1), (2, 2)),
            "rd_min": lambda x: -F.max_pool2d(-x, 2),
        }
        z = self.sc(pools.get(fault, lambda x: F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False))(x))
        z = z if fault == "rd_nobn" else self.sb(z)
        return F.relu(z) if fault == "rd_relu_short" else z

    def forward(self, x):
        fault = self.fault
        y = self.b1(self.c1(x))
        y = y if fault == "rd_no_inner" else F.relu(y)
        y = F.relu(self.b1(self.c1(y))) if fault == "rd_again" else y
        if fault == "rd_shared":
            y = self.b2(self.c1(y))
        elif fault == "rd_sharedbn":
            y = self.b1(self.c2(y))
        else:
            y = self.b2(self.c2(y))
        z = self.shortcut(x)
        ends = {
            "rd_relu_before": lambda: F.relu(y) + z, "rd_norelu": lambda: y + z, "rd_noskip": lambda: F.relu(y),
            "rd_gelu": lambda: F.gelu(y + z), "rd_relu6": lambda: F.relu6(y + z),
            "rd_scaled": lambda: F.relu(0.3 * y + z),
            "rd_sub_branch": lambda: F.relu(z - y), "rd_normed": lambda: F.relu((y + z) / 2 ** 0.5),
            "rd_skip_of_inner": lambda: F.relu(y + self.b1(self.c1(x))), "rd_relu_both": lambda: F.relu(y) + F.relu(z),
            "rd_mirror": lambda: F.relu(y + z.flip(3)), "rd_twice": lambda: F.relu(y + y + z),
            "rd_abs": lambda: (y + z).abs()}
        return ends.get(fault, lambda: F.relu(y + z))()


RD_PLACES = {"rd_stride": 2, "rd_max": 2, "rd_avg3": 2, "rd_nobn": 2, "rd_relu_short": 2, "rd_relu_before": 1,
             "rd_norelu": 1, "rd_noskip": 1, "rd_shared": 1, "rd_sharedbn": 1, "rd_sub": 2, "rd_sub_odd": 2,
             "rd_offset": 4, "rd_bilinear": 4, "rd_sum2": 2, "rd_rows": 4, "rd_min": 2, "rd_no_inner": 3, "rd_again": 3,
             "rd_gelu": 3, "rd_relu6": 3, "rd_scaled": 1, "rd_sub_branch": 1, "rd_normed": 2, "rd_skip_of_inner": 1,
             "rd_relu_both": 2, "rd_mirror": 1, "rd_twice": 1, "rd_abs": 1, "rd_noceil": 2}


class Rd(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.s = nn.ModuleList([nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16),
                                nn.Conv2d(16, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16),
                                nn.Conv2d(16, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32)])
        self.bl, i = nn.ModuleList(), 32
        for stage, (o, n) in enumerate(zip(RD_CHANNELS, RD_LAYERS, strict=True)):
            for j in range(n):
                planted = fault if RD_PLACES.get(fault) == len(self.bl) else ""
                self.bl.append(RdBlock(i, o, 2 if stage and j == 0 else 1, planted))
                i = o
        self.fc = nn.Linear(96, 10)

    def forward(self, x):
        fault = self.fault
        x = F.relu(self.s[1](self.s[0](x)))
        x = self.s[3](self.s[2](x))
        x = x if fault == "rd_stem_norelu" else F.relu(x)
        x = F.relu(self.s[5](self.s[4](x)))
        if fault == "rd_stem_drop":
            x = F.dropout2d(x, 0.1, True)
        pools = {"rd_mp0": lambda: F.max_pool2d(x, 3, 2), "rd_mp_ceil": lambda: F.max_pool2d(x, 2, 2),
                 "rd_stem_avg": lambda: F.avg_pool2d(x, 3, 2, 1),
                 "rd_stem_dilated": lambda: F.max_pool2d(x, 2, 2, 1, 2)}
        x = pools.get(fault, lambda: F.max_pool2d(x, 3, 2, 1))()
        for block in self.bl:
            x = block(x)
        if fault == "rd_flat_perm":  # more pixels than one, flattened with the channels last, and too many left out
            return self.fc(F.adaptive_avg_pool2d(x, (2, 1)).permute(0, 2, 3, 1).flatten(1)[:, :96])
        if fault == "rd_pool_h":
            return self.fc(x.mean(3).amax(2))
        if fault == "rd_head_l2":
            return self.fc(x.pow(2).mean((2, 3)).sqrt())
        if fault == "rd_head_drop1":
            return self.fc(F.dropout(x.mean((2, 3)), 0.5))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class RdCommuted(Rd):
    """The same network: averages and 1x1 convolutions change places, as do ReLU and the maximum."""

    def forward(self, x):
        s = self.s
        x = F.relu(s[3](s[2](F.relu(s[1](s[0](x))))))
        x = F.relu(F.max_pool2d(s[5](s[4](x)), 3, 2, 1))
        for b in self.bl:
            y = b.b2(b.c2(F.relu(b.b1(b.c1(x)))))
            x = F.relu((x if b.s == 1 else b.sb(F.avg_pool2d(b.sc(x), 2))) + y)
        return self.fc(x.mean(3).mean(2))


def rd_reference():
    return ResNet(BasicBlock, RD_LAYERS, num_classes=10, stem_width=16, stem_type="deep", avg_down=True,
                  channels=RD_CHANNELS)


def into(k):
    return at(f"bl.{k - 1}.b2", f"bl.{k}.c1")


def shortcut(k):
    return at(f"bl.{k}.sc", f"bl.{k}.b2")


AVG2 = r"average pooling \(2x2, stride 2"
SHORTCUT = r"shortcut is missing|missing.*shortcut"
RD_FAULTS = (
    Fault("rd_stride", "stride in the shortcut's 1x1, no pooling", shortcut(2),
          instead("(no pooling|stride 2)", "(average pooling|stride 1)")),
    Fault("rd_max", "maximum in the shortcut", shortcut(2), instead("max pooling", AVG2)),
    Fault("rd_avg3", "3x3 mean in the shortcut", shortcut(2), instead(r"average pooling \(3x3", AVG2)),
    Fault("rd_sub", "every second pixel in the shortcut", shortcut(2),
          instead(r"(every second|every other|subsampl|::2|slic|step 2|no pooling)", AVG2)),
    Fault("rd_sub_odd", "every second pixel, from the second on, in the shortcut", shortcut(2),
          instead(r"(every second|every other|subsampl|::2|slic|step 2|no pooling)", AVG2)),
    Fault("rd_offset", "the windows of the shortcut's pooling shifted by a pixel", shortcut(4),
          instead(r"(padding [1-9(]|padded|shift|offset)", AVG2)),
    Fault("rd_bilinear", "bilinear interpolation in the shortcut", shortcut(4), instead("bilinear", AVG2)),
    Fault("rd_sum2", "sum instead of the mean in the shortcut", shortcut(2), r"\bsum\b|" + scaled(r"\b(4|0\.25)\b")),
    Fault("rd_rows", "mean over two rows, of every second column", shortcut(4),
          instead(r"average pooling \(2x1", AVG2)),
    Fault("rd_min", "minimum in the shortcut", shortcut(2), instead("(?i:min)", AVG2)),
    Fault("rd_nobn", "no BatchNorm in the shortcut", at("bl.2.sc", "bl.3.c1"),
          r"BatchNorm2d.*missing|missing.*BatchNorm2d"),
    Fault("rd_relu_short", "ReLU on the shortcut", at("bl.2.sb", "bl.3.c1"), extra(r"\bReLU\b")),
    Fault("rd_relu_before", "ReLU before the addition", into(2), r"ReLU.*before the addition.*after"),
    Fault("rd_relu_both", "ReLU on both terms, not on the sum", at("bl.2.b2", "bl.2.sb", "bl.3.c1"),
          r"ReLU.*before the addition.*after|ReLU.*(both|each|terms)"),
    Fault("rd_norelu", "no ReLU after the addition", into(2), missing(r"\bReLU\b") + "|no activation.*ReLU"),
    Fault("rd_gelu", "GELU after the addition", into(4), instead("GELU", r"\bReLU\b")),
    Fault("rd_relu6", "ReLU6 after the addition", into(4), instead("ReLU6", r"\bReLU\b")),
    Fault("rd_abs", "absolute value after the addition", into(2), instead("(?i:abs)", r"\bReLU\b")),
    Fault("rd_noskip", "no shortcut", into(2), SHORTCUT),
    Fault("rd_no_inner", "no ReLU between the convolutions", at("bl.3.b1", "bl.3.c2"), missing(r"\bReLU\b")),
    Fault("rd_again", "the first convolution called twice", at("bl.3.c1"), r"once more|twice|called again"),
    Fault("rd_scaled", "branch scaled by 0.3", into(2), scaled(r"\b0\.3|3\.333")),
    Fault("rd_normed", "sum divided by the square root of 2", at("bl.2.b2", "bl.2.sb", "bl.3.c1"),
          scaled(r"\b(1\.414|0\.7071)")),
    Fault("rd_twice", "branch added twice", into(2), r"`bl.1.b2`.*(twice|two times|times 2|2 times)|"
          r"(twice|2 times).*`bl.1.b2`"),
    Fault("rd_sub_branch", "branch subtracted", into(2), r"subtract|minus"),
    Fault("rd_skip_of_inner", "the first layer's output as shortcut", at("bl.1.c1"), r"once more|twice|called again"),
    Fault("rd_mirror", "shortcut mirrored", into(2), r"mirror|flip|revers|backwards"),
    Fault("rd_shared", "second convolution shared with the first", at("bl.1.c1"),
          r"once more|twice|called again|share"),
    Fault("rd_sharedbn", "second BatchNorm shared with the first", at("bl.1.b1"),
          r"once more|twice|called again|share"),
    Fault("rd_stem_norelu", "no ReLU after the second convolution of the stem", at("s.3", "s.4"),
          missing(r"\bReLU\b")),
    Fault("rd_stem_drop", "dropout of maps active in eval mode", at("s.5", "bl.0.c1"), r"(?i)not deterministic.*drop"),
    Fault("rd_mp0", "stem's maximum without padding", at("s.5", "bl.0.c1"),
          instead("padding 0", r"max pooling \(3x3, stride 2, padding 1\)")),
    Fault("rd_mp_ceil", "2x2 maximum in the stem", at("s.5", "bl.0.c1"),
          instead(r"max pooling \(2x2", r"max pooling \(3x3, stride 2, padding 1\)")),
    Fault("rd_stem_avg", "mean in the stem", at("s.5", "bl.0.c1"),
          instead(r"average pooling", r"max pooling \(3x3, stride 2, padding 1\)")),
    Fault("rd_stem_dilated", "dilated maximum in the stem", at("s.5", "bl.0.c1"),
          instead(r"(dilat|max pooling \(2x2)", r"max pooling \(3x3, stride 2, padding 1\)")),
    Fault("rd_flat_perm", "pooled to 2x1, flattened channels last, cut", at("bl.5.b2", "bl.5.sb", "fc"),
          instead(r"(2x1|\(2, 1\)|flatten|channels last|slice)", GLOBAL_MEAN)),
    Fault("rd_pool_h", "mean over columns, maximum over rows", at("bl.5.b2", "bl.5.sb", "fc"),
          instead("(?i:max)", GLOBAL_MEAN)),
    Fault("rd_head_l2", "root of the mean square over the pixels", at("bl.5.b2", "bl.5.sb", "fc"),
          instead(r"(?i:square|power|\bLp|root)", GLOBAL_MEAN)),
    Fault("rd_head_drop1", "dropout active in eval mode", at("fc"), r"(?i)not deterministic.*dropout"),
)
RD_ODD_FAULTS = (
    Fault("rd_noceil", "shortcut rounded down, so that the sizes differ", at("bl.2", "bl.2.sc", "bl.2.b2"),
          instead(r"(average pooling \(2x2, stride 2, padding 0\)|rounded down|\(2, 48, 9, 7\)|\(2, 32, 9, 6\))",
                  r"(rounded up|ceil|\(2, 48, 10, 7\)|\(2, 32, 10, 7\))")),
    Fault("rd_max", "maximum in the shortcut", shortcut(2), instead("max pooling", "average pooling")),
    Fault("rd_mp_ceil", "2x2 maximum in the stem", at("s.5", "bl.0.c1"),
          instead(r"max pooling \(2x2", r"max pooling \(3x3, stride 2, padding 1\)")),
)

# HRNet's exchange between maps of three sizes, with the segmentation head's upsampling and concatenation.

HR = (8, 16, 32)


def unit(i, o, k, s=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))


class HrReference(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*unit(3, 16, 3, 2), nn.ReLU(), *unit(16, 16, 3, 2), nn.ReLU())
        self.transition1 = nn.ModuleList([nn.Sequential(*unit(16, 8, 3), nn.ReLU()),
                                          nn.Sequential(*unit(16, 16, 3, 2), nn.ReLU())])
        self.stage2 = HighResolutionModule(2, BasicBlock, (1, 1), list(HR[:2]), HR[:2], "SUM")
        self.transition2 = nn.Sequential(*unit(16, 32, 3, 2), nn.ReLU())
        self.stage3 = HighResolutionModule(3, BasicBlock, (1, 1, 1), list(HR), HR, "SUM")
        self.last = nn.Sequential(*unit(56, 24, 1), nn.ReLU())
        self.classes = nn.Conv2d(24, 5, 1)

    def forward(self, x):
        size, x = x.shape[2:], self.stem(x)
        maps = self.stage2([layer(x) for layer in self.transition1])
        maps = self.stage3([*maps, self.transition2(maps[-1])])
        to = partial(F.interpolate, mode="bilinear", align_corners=False)
        x = torch.cat([maps[0], *(to(m, maps[0].shape[2:]) for m in maps[1:])], 1)
        return to(self.classes(self.last(x)), size)


class HrBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        self.c2, self.b2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.relu(x + self.b2(self.c2(F.relu(self.b1(self.c1(x))))))


class Exchange(nn.Module):
    def __init__(self, n, fault):
        super().__init__()
        self.n, self.fault = n, fault
        self.br = nn.ModuleList(HrBlock(c) for c in HR[:n])
        self.p = nn.ModuleDict()  # the path from map j to map i is called i_j
        for i in range(n):
            for j in range(n):
                if j > i:
                    self.p[f"{i}_{j}"] = nn.Sequential(unit(HR[j], HR[i], 1))
                elif j < i:
                    steps = [unit(HR[j], HR[i] if k == i - j - 1 else HR[j], 3, 2) for k in range(i - j)]
                    self.p[f"{i}_{j}"] = nn.Sequential(*steps)

    def up(self, x, times):
        fault = self.fault
        if fault == "hr_repeat":
            return x.repeat(1, 1, times, times)
        if fault == "hr_zeros":
            y = x.new_zeros(*x.shape[:2], times * x.shape[2], times * x.shape[3])
            y[:, :, ::times, ::times] = x
            return y
        if fault in ("hr_bilinear", "hr_align", "hr_bicubic"):
            mode = "bicubic" if fault == "hr_bicubic" else "bilinear"
            return F.interpolate(x, scale_factor=times, mode=mode, align_corners=fault == "hr_align")
        return x.repeat_interleave(times, 2).repeat_interleave(times, 3)

    def term(self, maps, i, j):
        fault = self.fault
        if i == j:
            return maps[i]
        path = self.p[f"{i}_{j}"]
        if j > i:
            return self.up(path[0](maps[j]), 2 ** (j - i))
        x = maps[j]
        for k, step in enumerate(path):
            x = step(x)
            last = k == len(path) - 1
            if (not last and fault != "hr_norelu_chain") or (last and fault == "hr_relu_down"):
                x = F.relu(x)
        return x

    def forward(self, maps):
        fault = self.fault
        maps = [block(x) for block, x in zip(self.br, maps, strict=True)]
        out = []
        for i in range(self.n):
            terms = [self.term(maps, i, j) for j in range(self.n)]
            if fault == "hr_relu_each":
                terms = [F.relu(t) for t in terms]
            if fault == "hr_noself":
                terms = [t for j, t in enumerate(terms) if j != i]
            if fault == "hr_selftwice":
                terms.append(maps[i])
            if fault == "hr_neighbours":  # only maps one size apart
                terms = [t for j, t in enumerate(terms) if abs(i - j) < 2]
            if fault == "hr_sub":
                terms = [t if j == i else -t for j, t in enumerate(terms)]
            if fault == "hr_max":
                y = torch.stack(terms).amax(0)
            elif fault == "hr_prod":
                y = torch.stack(terms).prod(0)
            else:
                y = sum(terms)
            if fault == "hr_mean":
                y = y / len(terms)
            out.append(y if fault in ("hr_norelu", "hr_relu_each") else F.relu(y))
        return out


HR_SECOND = ("hr_neighbours", "hr_norelu_chain", "hr_bicubic", "hr_selftwice", "hr_zeros", "hr_max")


class Hr(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault, second = fault, fault in HR_SECOND
        self.a, self.b = unit(3, 16, 3, 2), unit(16, 16, 3, 2)
        self.t1 = nn.ModuleList([unit(16, 8, 3), unit(16, 16, 3, 2)])
        self.s2, self.t2 = Exchange(2, "" if second else fault), unit(16, 32, 3, 2)
        self.s3 = Exchange(3, fault if second else "")
        self.mix, self.k = unit(56, 24, 1), nn.Conv2d(24, 5, 1)

    def forward(self, x):
        fault, (h, w) = self.fault, x.shape[2:]
        x = F.relu(self.b(F.relu(self.a(x))))
        maps = self.s2([F.relu(t(x)) for t in self.t1])
        third = maps[0].repeat(1, 2, 1, 1)[:, :, ::2, ::2] if fault == "hr_from_first" else maps[1]
        maps = self.s3([*maps, F.relu(self.t2(third))])
        heads = {"hr_head_align": {"mode": "bilinear", "align_corners": True}, "hr_head_nearest": {"mode": "nearest"},
                 "hr_head_bicubic": {"mode": "bicubic"}}
        rest = [F.interpolate(m, maps[0].shape[2:], **heads.get(fault, {"mode": "bilinear"})) for m in maps[1:]]
        rest = rest[::-1] if fault == "hr_head_order" else rest
        x = torch.cat([maps[0] * 2 if fault == "hr_head_scale" else maps[0], *rest], 1)
        x = self.k(F.relu(self.mix(x)))
        if fault == "hr_out_nearest":
            return F.interpolate(x, (h, w))
        if fault == "hr_out_two":
            return F.interpolate(F.interpolate(x, scale_factor=2, mode="bilinear"), (h, w), mode="bilinear")
        if fault == "hr_out_small":
            return x
        x = F.interpolate(x, (h, w), mode="bilinear", align_corners=fault == "hr_out_align")
        ends = {"hr_out_softmax": lambda: x.softmax(1), "hr_out_softmax_w": lambda: x.softmax(-1),
                "hr_out_argmax": lambda: x.argmax(1, keepdim=True).double(), "hr_out_sigmoid": lambda: x.sigmoid(),
                "hr_out_transposed": lambda: x.transpose(2, 3), "hr_out_last": lambda: x.permute(0, 2, 3, 1),
                "hr_out_logsoftmax": lambda: F.log_softmax(x, 1)}
        return ends.get(fault, lambda: x)()


IN2 = at("s2.p.0_1.0.1", "s2.p.1_0.0.1", "t2.0", "s3.br.0.c1")
IN3 = at("mix.0", "s3.p.0_1.0.1", "s3.p.0_2.0.1", "s3.p.1_0.0.1", "s3.p.1_2.0.1", "s3.p.2_0.1.1", "s3.p.2_1.0.1")
OUT = at("k")
UP2 = "nearest"
HR_FAULTS = (
    Fault("hr_relu_down", "ReLU after the last strided convolution of a path", IN2,
          r"ReLU before the addition|ReLU on the output of `s2.p.1_0.0.1`"),
    Fault("hr_noself", "own map missing from the sum", IN2, r"missing"),
    Fault("hr_selftwice", "own map added twice", IN3, r"twice|two times|times 2|2 times|once more"),
    Fault("hr_relu_each", "ReLU on each term before the sum", IN2, r"ReLU before the addition|ReLU.*(each|terms)"),
    Fault("hr_norelu", "no ReLU after the sum", IN2, missing(r"\bReLU\b") + "|no activation.*ReLU"),
    Fault("hr_norelu_chain", "no ReLU between two strided convolutions", at("s3.p.2_0.0.1", "s3.p.2_0.1.0"),
          missing(r"\bReLU\b")),
    Fault("hr_mean", "mean instead of the sum", IN2, scaled(r"\b(2|0\.5)\b")),
    Fault("hr_max", "maximum instead of the sum", IN3, instead("(?i:maxim|large|max)", "(sum|plus|add)")),
    Fault("hr_prod", "product instead of the sum", IN2, instead("(?i:product|times|multip)", "(sum|plus|add)")),
    Fault("hr_sub", "the other maps subtracted", IN2, r"subtract|minus"),
    Fault("hr_neighbours", "maps two sizes apart are left out", IN3, r"missing|left out|not (added|used)"),
    Fault("hr_bilinear", "bilinear for nearest", IN2, instead("bilinear", UP2)),
    Fault("hr_align", "bilinear with align_corners for nearest", IN2, instead("bilinear.*align_corners", UP2)),
    Fault("hr_bicubic", "bicubic for nearest", IN3, instead("bicubic", UP2)),
    Fault("hr_repeat", "the map tiled, not its pixels repeated", IN2, instead("(?i:til|repeat)", UP2)),
    Fault("hr_zeros", "zeros between the pixels", IN3, instead("(?i:zero)", UP2)),
    Fault("hr_from_first", "the third map made from the first, subsampled and repeated", at("s2.p.1_0.0.1", "t2.0"),
          r"another (tensor|map)|made from|every second|subsampl|repeat|slic"),
    Fault("hr_head_align", "align_corners before the concatenation", at("mix.0"),
          instead("bilinear.*align_corners", "bilinear")),
    Fault("hr_head_nearest", "nearest pixel before the concatenation", at("mix.0"), instead("nearest", "bilinear")),
    Fault("hr_head_bicubic", "bicubic before the concatenation", at("mix.0"), instead("bicubic", "bilinear")),
    Fault("hr_head_order", "concatenated in another order", at("mix.0"), r"another order|other order"),
    Fault("hr_head_scale", "one map doubled before the concatenation", at("mix.0"), scaled(r"\b(2|0\.5)\b")),
    Fault("hr_out_nearest", "nearest pixel at the end", OUT, instead("nearest", "bilinear")),
    Fault("hr_out_align", "align_corners at the end", OUT, instead("bilinear.*align_corners", "bilinear")),
    Fault("hr_out_two", "enlarged in two steps", OUT, r"twice|two (steps|times)|bilinear[^,;]* of bilinear"),
    Fault("hr_out_small", "not enlarged at the end", OUT, missing("upsampl") + "|" + instead("no upsampl", "bilinear")),
    Fault("hr_out_softmax", "softmax over the classes of a map", OUT, extra("(?i:softmax)")),
    Fault("hr_out_softmax_w", "softmax over the columns of a map", OUT,
          r"(?i)softmax.*(axis|dim|over) ?(\(?-?[13]\)?|the columns|columns|w\b)"),
    Fault("hr_out_logsoftmax", "log-softmax over the classes of a map", OUT, extra("(?i:log.?softmax)")),
    Fault("hr_out_sigmoid", "sigmoid at the end", OUT, extra("(?i:sigmoid)")),
    Fault("hr_out_argmax", "classes instead of logits", OUT, r"(?i)argmax|\bindex"),
    Fault("hr_out_transposed", "rows and columns exchanged at the end", OUT, r"(?i)transpos|exchang|permut|swap"),
    Fault("hr_out_last", "classes as the last axis", OUT, r"(?i)transpos|exchang|permut|swap|channels last|last axis"),
)

# DenseNet

DN = (16, (3, 2, 2), 16)  # growth, layers of the blocks, channels of the stem


class Dn(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        g, blocks, c = DN
        self.c, self.b = nn.Conv2d(3, c, 7, 2, 3, bias=False), nn.BatchNorm2d(c)
        self.L, self.kind = nn.ModuleList(), []
        for k, n in enumerate(blocks):
            for _ in range(n):
                self.L.append(nn.ModuleList([nn.BatchNorm2d(c), nn.Conv2d(c, 4 * g, 1, bias=False),
                                             nn.BatchNorm2d(4 * g), nn.Conv2d(4 * g, g, 3, 1, 1, bias=False)]))
                self.kind.append("layer")
                c += g
            if k < len(blocks) - 1:
                self.L.append(nn.ModuleList([nn.BatchNorm2d(c), nn.Conv2d(c, c // 2, 1, bias=False)]))
                self.kind.append("transition")
                c //= 2
        self.n, self.fc = nn.BatchNorm2d(c), nn.Linear(c, 10)

    def layer(self, k, m, x):
        fault = self.fault if k == 1 else ""
        y = m[0](F.relu(x) if fault == "dn_relu_first" else x)
        y = y if fault in ("dn_relu_first", "dn_no_relu1") else F.relu(y)
        y = m[2](m[1](y))
        y = y if fault == "dn_no_relu2" else F.relu(y)
        y = m[3](y)
        if fault == "dn_relu_end":
            y = F.relu(y)
        if fault == "dn_drop":
            y = F.dropout(y, 0.1)
        g = y.shape[1]
        if fault == "dn_add":
            y = y + x[:, :g]
        if fault == "dn_scale":
            y = y * 0.2
        if fault == "dn_order":
            return torch.cat((y, x), 1)
        if fault == "dn_lost":  # the oldest features are replaced
            return torch.cat((y, x[:, g:], y), 1)
        if fault == "dn_interleave":
            z = torch.cat((x, y), 1)
            return z.unflatten(1, (3, g)).transpose(1, 2).flatten(1, 2)
        if fault == "dn_reversed":
            return torch.cat((x[:, g:], x[:, :g], y), 1)
        if fault == "dn_relu_features":
            return torch.cat((F.relu(x), y), 1)
        return torch.cat((x, y), 1)

    def transition(self, k, m, x):
        fault = self.fault if k == 3 else ""
        y = m[1](m[0](x) if fault == "dn_trans_norelu" else F.relu(m[0](x)))
        pools = {"dn_max": lambda: F.max_pool2d(y, 2), "dn_avg3": lambda: F.avg_pool2d(y, 3, 2, 1),
                 "dn_sub": lambda: y[:, :, ::2, ::2],
                 "dn_count": lambda: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
                 "dn_trans_relu": lambda: F.relu(F.avg_pool2d(y, 2)), "dn_lp": lambda: F.lp_pool2d(y.abs(), 2, 2)}
        return pools.get(fault, lambda: F.avg_pool2d(y, 2))()

    def forward(self, x):
        fault = self.fault
        x = self.b(self.c(x))
        x = F.relu(F.avg_pool2d(x, 3, 2, 1)) if fault == "dn_stem_after" else F.max_pool2d(F.relu(x), 3, 2, 1)
        for k, (kind, m) in enumerate(zip(self.kind, self.L, strict=True)):
            x = getattr(self, kind)(k, m, x)
        x = self.n(x)
        if fault == "dn_relu_late":
            return self.fc(F.relu(x.mean((2, 3))))
        if fault != "dn_norelu":
            x = F.relu(x)
        return self.fc(x.mean((2, 3)))


class DnPooledFirst(Dn):
    """The same network: the transition pools before its 1x1 convolution, which commutes."""

    def transition(self, k, m, x):
        return m[1](F.avg_pool2d(F.relu(m[0](x)), 2))


INTO_2, INTO_4 = at("L.1.3", "L.2.0"), at("L.3.1", "L.4.0")
ORDER = r"another order|other order"
DN_FAULTS = (
    Fault("dn_order", "cat((new, x))", INTO_2, ORDER),
    Fault("dn_reversed", "old features in another order", INTO_2, ORDER),
    Fault("dn_interleave", "channels dealt in turn", INTO_2, r"shuffle|interleav|altern|in turn"),
    Fault("dn_lost", "the oldest features replaced by the new ones", INTO_2,
          r"(`L.1.3`.*(twice|again|both|instead))|" + instead(r"`L.1.3`.*`L.1.3`", "channels")),
    Fault("dn_add", "old features added to the new ones", INTO_2, r"plus|sum|adds|added|addition"),
    Fault("dn_scale", "new features scaled by 0.2", INTO_2, scaled(r"\b(0\.2|5)\b")),
    Fault("dn_relu_features", "ReLU on the old features too", INTO_2, extra(r"\bReLU\b")),
    Fault("dn_relu_end", "ReLU on the new features", INTO_2, extra(r"\bReLU\b")),
    Fault("dn_relu_first", "ReLU before BatchNorm", at("L.0.3", "L.1.0", "L.1.1"),
          extra(r"\bReLU\b") + "|ReLU.*before"),
    Fault("dn_no_relu1", "no ReLU after the first BatchNorm", at("L.1.0", "L.1.1"), missing(r"\bReLU\b")),
    Fault("dn_no_relu2", "no ReLU after the second BatchNorm", at("L.1.2", "L.1.3"), missing(r"\bReLU\b")),
    Fault("dn_drop", "dropout active in eval mode", at("L.1.3", "L.2.0"), r"(?i)not deterministic.*dropout"),
    Fault("dn_max", "maximum in the transition", INTO_4, instead("max pooling", AVG2)),
    Fault("dn_avg3", "3x3 mean in the transition", INTO_4, instead(r"average pooling \(3x3", AVG2)),
    Fault("dn_count", "3x3 mean without the padding in the transition", INTO_4,
          instead(r"average pooling \(3x3.*not counting", AVG2)),
    Fault("dn_sub", "every second pixel in the transition", INTO_4,
          instead(r"(every second|every other|subsampl|::2|slic|step 2|no pooling)", AVG2)),
    Fault("dn_lp", "root of the sum of squares in the transition", INTO_4,
          instead(r"(?i:square|power|\bLp|root)", AVG2)),
    Fault("dn_trans_relu", "ReLU after the transition", INTO_4, extra(r"\bReLU\b")),
    Fault("dn_trans_norelu", "no ReLU in the transition", at("L.3.0", "L.3.1"), missing(r"\bReLU\b")),
    Fault("dn_stem_after", "average pooling in the stem, before ReLU", at("b", "L.0.0"),
          instead("average pooling", "max pooling")),
    Fault("dn_norelu", "no final ReLU", at("n", "fc"), missing(r"\bReLU\b")),
    Fault("dn_relu_late", "final ReLU after the mean", at("n", "fc"), r"(?=.*ReLU)(?=.*(pool|mean)).*(after|before)"),
)

SMALL = (2, 3, 96, 64)
PAIRS = (
    Pair("rnd/timm", Rd, rd_reference, SMALL, RD_FAULTS),
    Pair("rnd/odd", Rd, rd_reference, (2, 3, 75, 53), RD_ODD_FAULTS),
    Pair("hrn/timm", Hr, HrReference, (2, 3, 64, 48), HR_FAULTS),
    Pair("dn/tv", Dn, partial(DenseNet, *DN, num_classes=10), SMALL, DN_FAULTS),
)
EQUAL = (
    Pair("rnd/commuted", lambda fault: RdCommuted(fault), rd_reference, SMALL),
    Pair("dn/commuted", lambda fault: DnPooledFirst(fault), partial(DenseNet, *DN, num_classes=10), SMALL),
)
