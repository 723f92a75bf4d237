"""GhostNet against timm's."""
import torch
import torch.nn.functional as F
from timm.models.ghostnet import GhostNet
from torch import nn

from planted import Fault, Pair
from planted.wording import GLOBAL_MEAN, at, extra, instead, missing, scaled

ROWS = (  # kernel, expanded, output channels, part of squeeze-and-excitation, stride
    (3, 16, 16, 0, 1), (3, 48, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 0.25, 2), (5, 120, 40, 0.25, 1))


class GhostModule(nn.Module):
    def __init__(self, i, o, relu, fault):
        super().__init__()
        h, self.relu, self.fault = o // 2, relu, fault
        self.p, self.pb = nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h)
        k = 5 if fault == "ghost_cheap5" else 3
        self.c, self.cb = nn.Conv2d(h, h, k, 1, k // 2, groups=h, bias=False), nn.BatchNorm2d(h)

    def forward(self, x):
        fault = self.fault
        linear = self.pb(self.p(x))
        y = F.relu(linear) if self.relu or fault == "ghost_relu_project" else linear
        z = self.cb(self.c(linear if fault == "ghost_cheap_of_linear" else y))
        if self.relu and fault != "ghost_no_cheap_relu":
            z = F.relu(z)
        if fault == "ghost_concat":
            return torch.cat((z, y), 1)
        if fault == "ghost_interleave":
            return torch.stack((y, z), 2).flatten(1, 2)
        if fault == "ghost_sum":
            return torch.cat((y, y + z), 1)
        if fault == "ghost_twice":
            return torch.cat((y, y), 1)
        if fault == "ghost_stack_max":
            return torch.cat((y, torch.maximum(y, z)), 1)
        return torch.cat((y, z), 1)


class GhostBlock(nn.Module):
    def __init__(self, i, k, h, o, se, s, fault, everywhere):
        super().__init__()
        self.fault, self.everywhere = fault, everywhere
        first = fault if fault.startswith(("ghost_no_cheap", "ghost_conc", "ghost_inter", "ghost_sum", "ghost_cheap",
                                           "ghost_twice", "ghost_stack")) else ""
        self.g1 = GhostModule(i, h, True, first)
        if s == 2:
            self.d, self.db = nn.Conv2d(h, h, k, 2, k // 2, groups=h, bias=False), nn.BatchNorm2d(h)
        if se:
            m = h // 16 if everywhere == "se_ratio16" else (int(h * se) + 2) // 4 * 4
            self.se = nn.Sequential(nn.Conv2d(h, m, 1), nn.Conv2d(m, h, 1))
        self.g2 = GhostModule(h, o, False, fault if fault == "ghost_relu_project" else "")
        if (s == 2 or i != o) and fault != "ghost_no_short":
            k = 3 if fault == "ghost_short_k3" else k
            self.short = nn.Sequential(nn.Conv2d(i, i, k, s, k // 2, groups=i, bias=False), nn.BatchNorm2d(i),
                                       nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o))

    def excite(self, y):
        fault = self.fault
        g = self.se[1](F.relu(self.se[0](y.mean((2, 3), keepdim=True))))
        if self.everywhere == "ghost_sigmoid":
            return y * torch.sigmoid(g)
        if fault == "ghost_gate_clamp":
            return y * g.clamp(0, 1)
        if fault == "ghost_gate_add":
            return y + F.hardsigmoid(g)
        if fault == "ghost_gate_relu6":
            return y * F.relu6(g + 3)
        if fault == "ghost_gate_spatial":
            return y * F.hardsigmoid(g.mean(1, keepdim=True))
        return y * F.hardsigmoid(g)

    def forward(self, x):
        fault = self.fault
        y = self.g1(x)
        if fault == "ghost_se_before_dw":
            y = self.excite(y)
        if hasattr(self, "d"):
            y = self.db(self.d(y))
            if fault == "ghost_relu_dw":
                y = F.relu(y)
        if hasattr(self, "se") and fault not in ("ghost_se_before_dw", "ghost_se_end"):
            y = self.excite(y)
        y = self.g2(y)
        if fault == "ghost_se_end":
            return y
        if fault == "ghost_no_add":
            return y
        if fault == "ghost_no_short":
            return y
        if not hasattr(self, "short"):
            return F.relu(x + y) if fault == "ghost_relu_add" else x + y
        if fault == "ghost_short_relu":
            z = self.short[3](self.short[2](F.relu(self.short[1](self.short[0](x)))))
        else:
            z = self.short(x)
        if fault == "ghost_short_sub":
            return y - z
        if fault == "ghost_short_times":
            return y * z
        return y + z


PLACES = {"ghost_relu_project": 2, "ghost_no_cheap_relu": 2, "ghost_concat": 2, "ghost_short_k3": 3, "ghost_relu_dw": 1,
          "ghost_no_short": 1, "ghost_se_before_dw": 3, "ghost_cheap5": 2, "ghost_cheap_of_linear": 2,
          "ghost_interleave": 1, "ghost_sum": 2, "ghost_twice": 2, "ghost_stack_max": 1, "ghost_gate_clamp": 3,
          "ghost_gate_add": 4, "ghost_gate_relu6": 3, "ghost_gate_spatial": 4, "ghost_se_end": 4, "ghost_no_add": 2,
          "ghost_relu_add": 2, "ghost_short_relu": 3, "ghost_short_sub": 3, "ghost_short_times": 1}


class Ghost(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault, i = fault, 16
        self.c0, self.b0 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.bl = nn.ModuleList()
        for n, (k, h, o, se, s) in enumerate(ROWS):
            self.bl.append(GhostBlock(i, k, h, o, se, s, fault if PLACES.get(fault) == n else "", fault))
            i = o
        self.c1, self.b1 = nn.Conv2d(40, 120, 1, bias=False), nn.BatchNorm2d(120)
        self.c2, self.fc = nn.Conv2d(120, 1280, 1, bias=fault != "ghost_head_nobias"), nn.Linear(1280, 10)

    def forward(self, x):
        fault = self.fault
        x = F.relu(self.b0(self.c0(x)))
        for block in self.bl:
            x = block(x)
        x = self.b1(self.c1(x))
        x = F.relu(x.mean((2, 3), keepdim=True) if fault == "ghost_pool_before_relu" else x)
        if fault == "ghost_pool_late":
            return self.fc(F.relu(self.c2(x)).mean((2, 3)))
        x = self.c2(x.mean((2, 3), keepdim=True))
        if fault == "ghost_head_hs":
            x = F.hardswish(x)
        elif fault != "ghost_head_noact":
            x = F.relu(x)
        if fault == "ghost_head_normal":
            x = F.normalize(x, dim=1)
        return self.fc(x.view(len(x), -1))


INTO_G2 = {k: at(f"bl.{k}.g1.cb", f"bl.{k}.g2.p") for k in (1, 2)}
FAULTS = (
    Fault("ghost_relu_project", "ReLU in the second ghost module", at("bl.2.g2.pb", "bl.2.g2.c"), extra(r"\bReLU\b")),
    Fault("ghost_no_cheap_relu", "no ReLU after the cheap operation", INTO_G2[2], missing(r"\bReLU\b")),
    Fault("ghost_cheap_of_linear", "no ReLU before the cheap operation", at("bl.2.g1.c", "bl.2.g1.pb"),
          missing(r"\bReLU\b")),
    Fault("ghost_cheap5", "5x5 cheap operation", at("bl.2.g1.c"), instead("5x5", "3x3")),
    Fault("ghost_concat", "concatenated in the other order", INTO_G2[2], r"another order|other order"),
    Fault("ghost_interleave", "channels of both parts in turn", at("bl.1.g1.cb", "bl.1.d"),
          r"altern|interleav|in turn|shuffle|another order"),
    Fault("ghost_sum", "the second part added to the first", INTO_G2[2], r"plus|sum|adds|added|addition"),
    Fault("ghost_twice", "the first part twice", INTO_G2[2],
          r"(`bl.2.g1.pb`|input of `bl.2.g1.c`).*(twice|again|both|instead)|`bl.2.g1.pb`.*`bl.2.g1.pb` in yours|"
          + instead(r"`bl.2.g1.pb`.*`bl.2.g1.pb`", "`bl.2.g1.cb`")),
    Fault("ghost_stack_max", "maximum of both parts as the second", at("bl.1.g1.cb", "bl.1.d"), r"(?i)maxim|larger"),
    Fault("se_ratio16", "SE reduces to 1/16", at("bl.3.se.0"), instead("channels 4", "channels 20")),
    Fault("ghost_short_k3", "3x3 in the shortcut of a 5x5 block", at("bl.3.short.0"), instead("3x3", "5x5")),
    Fault("ghost_sigmoid", "sigmoid gate", at("bl.3.se.1", "bl.3.g2.p"), instead(r"\bSigmoid", "Hardsigmoid")),
    Fault("ghost_gate_clamp", "gate cut to [0, 1] only", at("bl.3.se.1", "bl.3.g2.p"),
          instead(r"(?i:clamp|cut|hardtanh)", "Hardsigmoid")),
    Fault("ghost_gate_relu6", "gate not divided by 6", at("bl.3.se.1", "bl.3.g2.p"), scaled(r"\b(6|1/6|0\.16+7)\b")),
    Fault("ghost_gate_add", "gate added", at("bl.4.se.1", "bl.4.g2.p"),
          instead("(plus|add|sum)", "(times|multip|product|gate)")),
    Fault("ghost_gate_spatial", "one gate for all channels", at("bl.4.se.1", "bl.4.g2.p"),
          r"(mean|average).*(over|axis|channels)|one (gate|number) for all"),
    Fault("ghost_relu_dw", "ReLU after the strided depthwise", at("bl.1.db", "bl.1.g2.p"), extra(r"\bReLU\b")),
    Fault("ghost_no_short", "no shortcut where the shape changes", at("bl.1.g2.cb", "bl.2.g1.p"), r"4 layers.*missing"),
    Fault("ghost_no_add", "no shortcut where the shape stays", at("bl.2.g2.cb", "bl.3.g1.p"),
          r"shortcut is missing|missing.*shortcut"),
    Fault("ghost_relu_add", "ReLU after the addition", at("bl.2.g2.cb", "bl.3.g1.p"), extra(r"\bReLU\b")),
    Fault("ghost_short_relu", "ReLU in the shortcut", at("bl.3.short.1", "bl.3.short.2"), extra(r"\bReLU\b")),
    Fault("ghost_short_sub", "shortcut subtracted", at("bl.3.short.3", "bl.4.g1.p"), r"subtract|minus"),
    Fault("ghost_short_times", "shortcut multiplied", at("bl.1.short.3", "bl.2.g1.p"),
          instead("(times|multip|product)", "(plus|adds|addition|sum)")),
    Fault("ghost_se_end", "SE and the shortcut forgotten in the last block", at("bl.4.g1.cb", "bl.4.g2.p"),
          r"2 layers.*missing"),
    Fault("ghost_se_before_dw", "SE before the strided depthwise", at("bl.3.g1.cb", "bl.3.d", "bl.3.se.0", "bl.3.db"),
          r"(squeeze|gate|`bl.3.se.0`|multip).*before.*(`bl.3.d`|depthwise|after)|another order"),
    Fault("ghost_head_nobias", "no bias in the head", at("c2"), instead("no bias", r"\ba bias")),
    Fault("ghost_pool_late", "pooled after the layer with 1280 channels", at("b1", "c2"),
          missing(GLOBAL_MEAN) + "|" + instead("no pooling", GLOBAL_MEAN) + "|pool.*after"),
    Fault("ghost_pool_before_relu", "pooled before ReLU", at("b1", "c2"),
          r"(?=.*ReLU)(?=.*(pool|mean)).*(after|before)"),
    Fault("ghost_head_hs", "Hardswish in the head", at("c2", "fc"), instead("Hardswish", r"\bReLU\b")),
    Fault("ghost_head_noact", "no activation in the head", at("c2", "fc"), missing(r"\bReLU\b")),
    Fault("ghost_head_normal", "features of length 1 before the classifier", at("c2", "fc"),
          r"(?i)normali[sz]|length 1|norm of|divided by"),
)


def reference():
    return GhostNet([[list(row)] for row in ROWS], num_classes=10)


PAIRS = (Pair("ghost/timm", Ghost, reference, (2, 3, 96, 64), FAULTS),)
