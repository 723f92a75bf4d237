"""GoogLeNet against lwcourse's, Inception v3 and SqueezeNet against torchvision's."""
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.inception import BasicConv2d, InceptionA, InceptionB, InceptionC, InceptionE
from torchvision.models.squeezenet import SqueezeNet

from lwcourse.layers import ConvBNAct, tower
from lwcourse.models.googlenet import Inception, halve
from planted import Fault, Pair
from planted.wording import GLOBAL_MEAN, at, both, extra, instead, missing, scaled

ORDER = r"another order|other order"


def unit(i, o, k, s=1, p=None):
    sides = k if isinstance(k, tuple) else (k, k)
    padding = tuple(side // 2 for side in sides) if p is None else p
    return nn.Sequential(nn.Conv2d(i, o, k, s, padding, bias=False), nn.BatchNorm2d(o, 1e-3))


# GoogLeNet: few modules, of few channels.

GLN = (  # 1x1; 3x3 behind a 1x1; 5x5 behind a 1x1; channels after the pooling; whether a pooling halves the map before
    (16, 12, 24, 4, 8, 8, False), (24, 16, 32, 8, 16, 16, False), (32, 16, 40, 8, 16, 16, True),
    (32, 24, 40, 8, 24, 24, False))


class Module(nn.Module):
    def __init__(self, i, c1, r3, c3, r5, c5, p, fault):
        super().__init__()
        self.fault = fault
        self.b1 = unit(i, c1, 1)
        self.b2 = nn.Sequential(unit(i, r3, 1), unit(r3, c3, 3))
        self.b3 = nn.Sequential(unit(i, r5, 1), unit(r5, c5, 3 if fault == "inc_k3" else 5))
        self.b4 = unit(i, p, 1)

    def forward(self, x):
        fault = self.fault
        a = self.b1(x) if fault == "inc_norelu_1" else F.relu(self.b1(x))
        b = self.b2[0](x) if fault == "inc_norelu_reduce" else F.relu(self.b2[0](x))
        b = F.relu(self.b2[1](b))
        c = F.relu(self.b3[1](F.relu(self.b3[0](x))))
        pools = {"inc_avg": lambda: F.avg_pool2d(x, 3, 1, 1), "inc_nopool": lambda: x,
                 "inc_pool5": lambda: F.max_pool2d(x, 5, 1, 2), "inc_min": lambda: -F.max_pool2d(-x, 3, 1, 1)}
        d = self.b4(pools.get(fault, lambda: F.max_pool2d(x, 3, 1, 1))())
        d = d if fault == "inc_norelu_pool" else F.leaky_relu(d, 0.01) if fault == "inc_leaky_pool" else F.relu(d)
        if fault == "inc_poolafter":
            d = F.max_pool2d(d, 3, 1, 1)
        if fault == "inc_scale5":
            c = c * 0.5
        if fault == "inc_gate":
            a = a * a.mean((2, 3), keepdim=True).sigmoid()
        if fault == "inc_order":
            return torch.cat((a, c, b, d), 1)
        if fault == "inc_poolfirst":
            return torch.cat((d, a, b, c), 1)
        if fault == "inc_reversed":
            return torch.cat((a, b, c, d), 1).flip(1)
        if fault == "inc_same":
            return torch.cat((a, b, c, c[:, :d.shape[1]]), 1)
        if fault == "inc_sum":
            return torch.cat((a, b, c + d, d), 1)
        return torch.cat((a, b, c, d), 1)


GLN_PLACES = {"inc_k3": 1, "inc_order": 2, "inc_poolfirst": 2, "inc_avg": 1, "inc_nopool": 1, "inc_pool5": 3,
              "inc_min": 1, "inc_norelu_1": 1, "inc_norelu_reduce": 2, "inc_norelu_pool": 1, "inc_leaky_pool": 2,
              "inc_poolafter": 2, "inc_scale5": 2, "inc_gate": 2, "inc_reversed": 2, "inc_same": 1, "inc_sum": 1}


class Gln(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c1, self.c2, self.c3 = unit(3, 16, 7, 2), unit(16, 16, 1), unit(16, 32, 3)
        self.bl, i = nn.ModuleList(), 32
        for k, row in enumerate(GLN):
            self.bl.append(Module(i, *row[:6], fault if GLN_PLACES.get(fault) == k else ""))
            i = row[0] + row[2] + row[4] + row[5]
        self.fc = nn.Linear(i, 10)

    def half(self, x, place):
        if place == 1:
            pools = {"g_ceil": lambda: F.max_pool2d(x, 3, 2), "g_pad": lambda: F.max_pool2d(x, 3, 2, 1),
                     "g_two": lambda: F.max_pool2d(x, 2), "g_avg": lambda: F.avg_pool2d(x, 3, 2, ceil_mode=True)}
        else:
            pools = {"g_avg3": lambda: F.avg_pool2d(x, 3, 2, ceil_mode=True),
                     "g_interp": lambda: F.interpolate(x, scale_factor=0.5),
                     "g_adaptive": lambda: F.adaptive_max_pool2d(x, (x.shape[2] // 2, x.shape[3] // 2))}
        chosen = self.fault if (place == 3) == (self.fault in ("g_avg3", "g_interp", "g_adaptive")) else ""
        return pools.get(chosen, lambda: F.max_pool2d(x, 3, 2, ceil_mode=True))()

    def forward(self, x):
        x = self.half(F.relu(self.c1(x)), 1)
        if self.fault == "g_lrn":
            x = F.local_response_norm(x, 5)
        x = self.half(F.relu(self.c3(F.relu(self.c2(x)))), 2)
        for row, module in zip(GLN, self.bl, strict=True):
            x = module(self.half(x, 3) if row[6] else x)
        if self.fault == "g_head_tokens":
            x = x.flatten(1)
            return self.fc(x.view(len(x), -1, self.fc.in_features).mean(1))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.fc(F.normalize(x) if self.fault == "g_head_normal" else x)


def gln_reference():
    modules, i = [], 32
    for *row, halved in GLN:
        modules += [halve()] * halved + [Inception(i, *row)]
        i = row[0] + row[2] + row[4] + row[5]
    return nn.Sequential(ConvBNAct(3, 16, 7, stride=2, eps=1e-3), halve(), *tower(16, (16, 1), (32, 3)), halve(),
                         *modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10))


def next_of(k):  # the layers before and after the concatenation of module k
    return at(f"bl.{k}.b4.1", f"bl.{k}.b1.1", f"bl.{k + 1}.b1.0")


CEIL = r"max pooling \(3x3, stride 2, padding 0, rounded up\)"
GLN_FAULTS = (
    Fault("inc_order", "towers of 3x3 and 5x5 exchanged", next_of(2), ORDER),
    Fault("inc_poolfirst", "tower of the pooling first", next_of(2), ORDER),
    Fault("inc_reversed", "channels reversed after the concatenation", next_of(2), r"revers|flip|backwards"),
    Fault("inc_same", "channels of the 5x5 tower in the place of the pooling's", next_of(1),
          r"`bl.1.b3.1.1`.*(twice|again|instead|both)|" + instead(r"`bl.1.b3.1.1`.*`bl.1.b3.1.1`", "`bl.1.b4.1`")),
    Fault("inc_sum", "the pooling's tower added to the 5x5's", at("bl.1.b4.1", "bl.2.b1.0"),
          r"plus|sum|adds|added|addition"),
    Fault("inc_scale5", "5x5 tower halved", next_of(2), scaled(r"\b(2|0\.5)\b")),
    Fault("inc_gate", "1x1 tower times its own gate", next_of(2), r"\btimes\b|multiplication|\bgate\b"),
    Fault("inc_k3", "3x3 for the 5x5", at("bl.1.b3.1.0"), instead("3x3", "5x5")),
    Fault("inc_norelu_1", "no ReLU on the 1x1 tower", at("bl.1.b1.1", "bl.1.b4.1", "bl.2.b1.0"), missing(r"\bReLU\b")),
    Fault("inc_norelu_reduce", "no ReLU before a 3x3", at("bl.2.b2.0.1", "bl.2.b2.1.0"), missing(r"\bReLU\b")),
    Fault("inc_norelu_pool", "no ReLU on the pooling's tower", at("bl.1.b4.1", "bl.2.b1.0"), missing(r"\bReLU\b")),
    Fault("inc_leaky_pool", "LeakyReLU on the pooling's tower", next_of(2), instead(r"LeakyReLU", r"\bReLU\b")),
    Fault("inc_avg", "mean in a tower", at("bl.1.b4.0"), instead("average pooling", "max pooling")),
    Fault("inc_nopool", "no pooling in a tower", at("bl.1.b4.0"), instead("no pooling", "max pooling")
          + "|" + missing("max pooling")),
    Fault("inc_pool5", "5x5 pooling in a tower", at("bl.3.b4.0"), instead(r"max pooling \(5x5", r"max pooling \(3x3")),
    Fault("inc_min", "minimum in a tower", at("bl.1.b4.0"), instead("(?i:minim|min pool)", "max pooling")),
    Fault("inc_poolafter", "a second pooling behind a tower", next_of(2), extra("max pooling")
          + r"|max pooling.*(twice|again|of ReLU|of the output of `bl.2.b4.1`)"),
    Fault("g_ceil", "stem's pooling rounded down", at("c1.1", "c2.0"), instead(r"padding 0\)", CEIL)),
    Fault("g_pad", "stem's pooling padded", at("c1.1", "c2.0"), instead(r"padding 1\)", CEIL)),
    Fault("g_two", "2x2 pooling in the stem", at("c1.1", "c2.0"), instead(r"max pooling \(2x2", CEIL)),
    Fault("g_avg", "mean in the stem", at("c1.1", "c2.0"), instead(r"average pooling", CEIL)),
    Fault("g_avg3", "mean between the modules", at("bl.1.b4.1", "bl.2.b1.0"), instead(r"average pooling", CEIL)),
    Fault("g_interp", "every second pixel between the modules", at("bl.1.b4.1", "bl.2.b1.0"),
          instead(r"(every second|every other|subsampl|::2|slic|step 2|nearest|no pooling)", CEIL)),
    Fault("g_adaptive", "adaptive maximum between the modules", at("bl.1.b4.1", "bl.2.b1.0"),
          instead(r"(adaptive|max pooling \(2x2)", CEIL)),
    Fault("g_lrn", "local response normalisation in the stem", at("c1.1", "c2.0"), r"(?i)normali[sz]|LRN|divi"),
    Fault("g_head_tokens", "pixels and channels mixed before the mean", at("fc"),
          r"(?i)(flatten|reshape|view|another order|axis|pixels)"),
    Fault("g_head_normal", "features of length 1 before the classifier", at("fc", "bl.3.b4.1"),
          r"(?i)normali[sz]|length 1|norm of|divided by"),
)

# Inception v3: torchvision's modules, one or two of a kind.


class Iv3(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c = unit(3, 32, 3, 2, 0)
        self.A = nn.ModuleList(nn.ModuleList([
            nn.ModuleList([unit(i, 64, 1)]),
            nn.ModuleList([unit(i, 48, 1), unit(48, 64, 5)]),
            nn.ModuleList([unit(i, 64, 1), unit(64, 96, 3), unit(96, 96, 3)]),
            nn.ModuleList([unit(i, p, 1)])]) for i, p in ((32, 32), (256, 64)))
        self.B = nn.ModuleList([
            nn.ModuleList([unit(288, 384, 3, 2, 0)]),
            nn.ModuleList([unit(288, 64, 1), unit(64, 96, 3), unit(96, 96, 3, 2, 0)])])
        self.C = nn.ModuleList()
        for n, c7 in enumerate((32, 48)):
            a, b = ((7, 1), (1, 7)) if fault == "iv3_swap17" and n == 1 else ((1, 7), (7, 1))
            self.C.append(nn.ModuleList([
                nn.ModuleList([unit(768, 192, 1)]),
                nn.ModuleList([unit(768, c7, 1), unit(c7, c7, a), unit(c7, 192, b)]),
                nn.ModuleList([unit(768, c7, 1), unit(c7, c7, (7, 1)), unit(c7, c7, (1, 7)), unit(c7, c7, (7, 1)),
                               unit(c7, 192, (1, 7))]),
                nn.ModuleList([unit(768, 192, 1)])]))
        self.E = nn.ModuleList([
            unit(768, 320, 1), unit(768, 384, 1), unit(384, 384, (1, 3)), unit(384, 384, (3, 1)), unit(768, 448, 1),
            unit(448, 384, 3), unit(384, 384, (1, 3)), unit(384, 384, (3, 1)), unit(768, 192, 1)])
        self.fc = nn.Linear(2048, 10)

    def run(self, branch, x, skip_last=False):
        for k, layer in enumerate(branch):
            x = layer(x)
            x = x if skip_last and k == len(branch) - 1 else F.relu(x)
        return x

    def pooled(self, kind, x):
        fault = self.fault if self.fault.startswith(f"iv3_{kind}") else ""
        pools = {"iv3_A_count": lambda: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
                 "iv3_A_max": lambda: F.max_pool2d(x, 3, 1, 1), "iv3_C_max": lambda: F.max_pool2d(x, 3, 1, 1),
                 "iv3_C_avg5": lambda: F.avg_pool2d(x, 5, 1, 2), "iv3_E_nopool": lambda: x,
                 "iv3_C_reflect": lambda: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1),
                 "iv3_C_replicate": lambda: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)}
        return pools.get(fault, lambda: F.avg_pool2d(x, 3, 1, 1))()

    def module_a(self, k, x):
        fault = self.fault if k == 1 else ""
        one, five, three, pool = self.A[k]
        a, b, c = self.run(one, x), self.run(five, x), self.run(three, x, fault == "iv3_A_norelu")
        d = self.run(pool, self.pooled("A" if k == 1 else "-", x))
        if fault == "iv3_A_scale":
            d = d * 0.5
        return torch.cat((a, c, b, d) if fault == "iv3_A_order" else (a, b, c, d), 1)

    def module_b(self, x):
        fault = self.fault
        a, b = self.run(self.B[0], x), self.run(self.B[1], x)
        pools = {"iv3_B_avg": lambda: F.avg_pool2d(x, 3, 2), "iv3_B_sub": lambda: x[:, :, 1:-1:2, 1:-1:2],
                 "iv3_B_bilinear": lambda: F.interpolate(x, a.shape[2:], mode="bilinear"),
                 "iv3_B_crop": lambda: F.max_pool2d(x, 3, 2, 1)[:, :, :a.shape[2], :a.shape[3]],
                 "iv3_B_adaptive": lambda: F.adaptive_avg_pool2d(x, a.shape[2:])}
        c = pools.get(fault, lambda: F.max_pool2d(x, 3, 2))()
        return torch.cat((b, a, c) if fault == "iv3_B_order" else (a, b, c), 1)

    def module_c(self, k, x):
        fault = self.fault if k == 1 else ""
        one, seven, double, pool = self.C[k]
        parts = [self.run(one, x), self.run(seven, x), self.run(double, x),
                 self.run(pool, self.pooled("C" if k == 1 else "-", x))]
        if fault == "iv3_C_residual":
            return torch.cat(parts, 1) + x
        if fault == "iv3_C_stack":
            return torch.stack(parts, 2).flatten(1, 2)
        return torch.cat(parts, 1)

    def module_e(self, x):
        fault, m = self.fault, [lambda y, f=f: F.relu(f(y)) for f in self.E]
        one, y = m[0](x), m[1](x)
        left = m[2](y)
        right = m[3](left) if fault == "iv3_fork_chain" else m[3](y)
        y = m[5](m[4](x))
        fork = (m[6](y), m[7](y))
        fork = fork[::-1] if fault == "iv3_fork_order" else fork
        if fault == "iv3_fork_sum":
            fork = (fork[0] + fork[1], fork[1])
        return torch.cat((one, left, right, *fork, m[8](self.pooled("E", x))), 1)

    def forward(self, x):
        x = F.relu(self.c(x))
        pools = {"iv3_stem_pad": lambda: F.max_pool2d(x, 3, 2, 1), "iv3_stem_avg": lambda: F.avg_pool2d(x, 3, 2)}
        x = pools.get(self.fault, lambda: F.max_pool2d(x, 3, 2))()
        for k in range(2):
            x = self.module_a(k, x)
        x = self.module_b(x)
        for k in range(2):
            x = self.module_c(k, x)
        x = self.module_e(x)
        return self.fc(x.mean((2, 3)))


def iv3_reference():
    return nn.Sequential(
        BasicConv2d(3, 32, kernel_size=3, stride=2), nn.MaxPool2d(3, 2), InceptionA(32, 32), InceptionA(256, 64),
        InceptionB(288), InceptionC(768, 32), InceptionC(768, 48), InceptionE(768), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(2048, 10))


IN_B, IN_C0 = at("A.1.3.0.1", "B.0.0.0"), at("B.1.2.1", "C.0.0.0.0")
IN_E, POOL_C = at("C.1.3.0.1", "E.0.0"), at("C.1.3.0.0")
MAX3, AVG3 = r"max pooling \(3x3, stride 2, padding 0", r"average pooling \(3x3, stride 1, padding 1\)"
IV3_FAULTS = (
    Fault("iv3_swap17", "1x7 and 7x1 exchanged in a tower", at("C.1.1.1.0"), instead("7x1", "1x7")),
    Fault("iv3_A_count", "mean without the padding", at("A.1.3.0.0"),
          instead("(not counting|count_include_pad)", AVG3)),
    Fault("iv3_A_max", "maximum in a tower", at("A.1.3.0.0"), instead("max pooling", AVG3)),
    Fault("iv3_A_order", "towers in another order", IN_B, ORDER),
    Fault("iv3_A_norelu", "no ReLU at the end of a tower", at("A.1.2.2.1", "A.1.3.0.1", "B.0.0.0"),
          missing(r"\bReLU\b")),
    Fault("iv3_A_scale", "pooled tower halved", IN_B, scaled(r"\b(2|0\.5)\b")),
    Fault("iv3_B_order", "towers in another order where the map is halved", IN_C0, ORDER),
    Fault("iv3_B_avg", "mean where the map is halved", IN_C0, instead(r"average pooling \(3x3, stride 2", MAX3)),
    Fault("iv3_B_sub", "every second pixel where the map is halved", IN_C0,
          instead(r"(every second|every other|subsampl|::2|slic|step 2|no pooling)", MAX3)),
    Fault("iv3_B_bilinear", "bilinear interpolation where the map is halved", IN_C0, instead("bilinear", MAX3)),
    Fault("iv3_B_crop", "padded maximum, cut to the size, where the map is halved", IN_C0,
          instead(r"(padding 1|shift|cut|crop|slic)", MAX3)),
    Fault("iv3_B_adaptive", "adaptive mean where the map is halved", IN_C0,
          instead("(?i:adaptive|average pooling)", MAX3)),
    Fault("iv3_C_max", "maximum in a tower", POOL_C, instead("max pooling", AVG3)),
    Fault("iv3_C_avg5", "5x5 mean in a tower", POOL_C, instead(r"average pooling \(5x5", AVG3)),
    Fault("iv3_C_reflect", "mean of a reflected border in a tower", POOL_C, r"(?i)reflect|border"),
    Fault("iv3_C_replicate", "mean of a repeated border in a tower", POOL_C, r"(?i)replicat|repeat|border"),
    Fault("iv3_C_residual", "a shortcut around a module", IN_E, r"plus|adds|added|addition|shortcut"),
    Fault("iv3_C_stack", "channels of the towers in turn", IN_E, r"shuffle|interleav|altern|in turn"),
    Fault("iv3_fork_chain", "1x3 and 3x1 in a row", at("E.2.1", "E.3.0"),
          both(r"(another tensor|instead|made from|but)", "`E.2.[01]`")),
    Fault("iv3_fork_order", "1x3 and 3x1 in another order", at("E.8.1", "fc"), ORDER),
    Fault("iv3_fork_sum", "both halves of a fork added", at("E.8.1", "fc"), r"plus|sum|adds|added|addition"),
    Fault("iv3_E_nopool", "no pooling in a tower", at("E.8.0"), instead("no pooling", "average pooling")
          + "|" + missing("average pooling")),
    Fault("iv3_stem_pad", "stem's pooling padded", at("c.1", "A.0.0.0.0"), instead(r"padding 1\)", MAX3)),
    Fault("iv3_stem_avg", "mean in the stem", at("c.1", "A.0.0.0.0"), instead("average pooling", MAX3)),
)

# SqueezeNet 1.1

SQ = ((64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192), (384, 64, 256),
      (512, 64, 256))


class Sq(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c = nn.Conv2d(3, 64, 3, 1 if fault == "sq_stride1" else 2)
        self.fire = nn.ModuleList(nn.ModuleList([nn.Conv2d(i, s, 1), nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)])
                                  for i, s, e in SQ)
        self.k = nn.Conv2d(512, 10, 1)

    def block(self, k, x):
        fault = self.fault if k == 1 else ""
        squeeze, one, three = self.fire[k]
        s = squeeze(x) if fault == "sq_no_squeeze_relu" else F.relu(squeeze(x))
        acts = {"sq_norelu_1x1": lambda y: y, "sq_leaky_1x1": partial(F.leaky_relu, negative_slope=0.1)}
        a = acts.get(fault, F.relu)(one(s))
        b = three(s) if fault == "sq_norelu_3x3" else F.relu(three(s))
        if fault == "sq_relu6_3x3":
            b = F.relu6(b)
        if fault == "sq_bypass":
            return torch.cat((a, b), 1) + x
        if fault == "sq_sum":
            return torch.cat((a + b, b), 1)
        if fault == "sq_alternate":
            return torch.stack((a, b), 2).flatten(1, 2)
        if fault == "sq_a_twice":
            return torch.cat((a, a), 1)
        if fault == "sq_norm":
            return F.instance_norm(torch.cat((a, b), 1))
        if fault == "sq_cat_h":
            return torch.cat((a, b), 2)
        if fault == "sq_cat_batch":
            return torch.cat((a, b), 0)
        return torch.cat((b, a) if fault == "sq_cat" else (a, b), 1)

    def forward(self, x):
        fault = self.fault
        x = F.relu(self.c(x))
        pools = {"sq_noceil": lambda: F.max_pool2d(x, 3, 2), "sq_pad": lambda: F.max_pool2d(x, 3, 2, 1),
                 "sq_avg": lambda: F.avg_pool2d(x, 3, 2, ceil_mode=True)}
        x = pools.get(fault, lambda: F.max_pool2d(x, 3, 2, ceil_mode=True))()
        for k in range(8):
            if k in (2, 4):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self.block(k, x)
        x = self.k(x)
        if fault == "sq_pool_first":
            return F.relu(x.mean((2, 3)))
        if fault != "sq_relu_end":
            x = F.relu(x)
        if fault == "sq_max_end":
            return x.amax((2, 3))
        if fault == "sq_log":
            return x.mean((2, 3)).log1p()
        if fault == "sq_softmax_pixels":
            return x.flatten(2).softmax(-1).mean(2)
        x = x.mean((2, 3))
        return x.softmax(-1) if fault == "sq_softmax" else x


INTO2, END = at("fire.1.2", "fire.2.0"), at("k")
SQ_FAULTS = (
    Fault("sq_no_squeeze_relu", "no ReLU after the squeeze", at("fire.1.0", "fire.1.1"), missing(r"\bReLU\b")),
    Fault("sq_norelu_1x1", "no ReLU on the 1x1 branch", at("fire.1.1", "fire.1.2", "fire.2.0"), missing(r"\bReLU\b")),
    Fault("sq_norelu_3x3", "no ReLU on the 3x3 branch", INTO2, missing(r"\bReLU\b")),
    Fault("sq_leaky_1x1", "LeakyReLU on the 1x1 branch", at("fire.1.1", "fire.1.2", "fire.2.0"),
          instead(r"LeakyReLU", r"\bReLU\b")),
    Fault("sq_relu6_3x3", "ReLU6 on the 3x3 branch", INTO2, instead("ReLU6", r"\bReLU\b")),
    Fault("sq_cat", "concatenated in the other order", INTO2, ORDER),
    Fault("sq_cat_h", "concatenated along the height", INTO2, r"(?i)concat.*(axis|dim|height|along|over)"),
    Fault("sq_cat_batch", "concatenated along the batch", INTO2, r"(?i)concat.*(axis|dim|batch|along|over)"),
    Fault("sq_alternate", "channels of both branches in turn", INTO2, r"shuffle|interleav|altern|in turn"),
    Fault("sq_a_twice", "the 1x1 branch twice", INTO2, r"`fire.1.1`.*(twice|again|instead|both)|"
          + instead(r"`fire.1.1`.*`fire.1.1`", "`fire.1.2`")),
    Fault("sq_sum", "the branches added", INTO2, r"plus|sum|adds|added|addition"),
    Fault("sq_bypass", "a shortcut around a fire module", INTO2, r"plus|adds|added|addition|shortcut"),
    Fault("sq_norm", "instance normalisation after the concatenation", INTO2, r"(?i)normali[sz]|instance|variance"),
    Fault("sq_stride1", "stride 1 in the stem", at("c"), instead("stride 1", "stride 2")),
    Fault("sq_noceil", "pooling rounded down", at("c", "fire.0.0"), instead(r"padding 0\)", CEIL)),
    Fault("sq_pad", "pooling padded", at("c", "fire.0.0"), instead(r"padding 1\)", CEIL)),
    Fault("sq_avg", "mean in the stem", at("c", "fire.0.0"), instead("average pooling", CEIL)),
    Fault("sq_relu_end", "no ReLU on the class maps", END, missing(r"\bReLU\b")),
    Fault("sq_pool_first", "ReLU after the mean", END, r"(?=.*ReLU)(?=.*(pool|mean)).*(after|before)"),
    Fault("sq_max_end", "maximum of the class maps", END, instead("(?i:max)", GLOBAL_MEAN)),
    Fault("sq_softmax", "softmax at the end", END, extra("(?i:softmax)")),
    Fault("sq_softmax_pixels", "softmax over the pixels of the class maps", END,
          r"(?i)softmax.*(axis|dim|over|pixels)"),
    Fault("sq_log", "log(1 + x) at the end", END, r"(?i)\blog"),
)

PAIRS = (
    Pair("gln/lw", Gln, gln_reference, (2, 3, 96, 64), GLN_FAULTS),
    Pair("iv3/tv", Iv3, iv3_reference, (2, 3, 75, 59), IV3_FAULTS),
    Pair("sq/tv", Sq, partial(SqueezeNet, "1_1", 10), (2, 3, 98, 66), SQ_FAULTS),
)
