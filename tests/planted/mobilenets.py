"""MobileNetV2 and V3, V2 with efficient channel attention, and EfficientNet."""
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from lwcourse.layers import ConvBNAct
from lwcourse.models.mobilenet_v2_eca import InvertedResidualECA
from planted import Fault, Pair
from planted.wording import GLOBAL_MEAN, at, both, extra, instead, missing, scaled

# MobileNetV2 against torchvision's.

V2_ROWS = (  # expand, channels, repeats, stride
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 3, 2), (6, 96, 2, 1))


class V2Block(nn.Module):
    def __init__(self, i, o, s, t, fault, act, eps):
        super().__init__()
        h, self.fault, self.act, self.skip = t * i, fault, act, s == 1 and i == o
        k = 5 if fault == "kernel5" else 3
        if t > 1:
            self.e = nn.Conv2d(i, h, 1, s if fault == "stride_expand" else 1, bias=False)
            self.eb = nn.BatchNorm2d(h, eps)
        groups = {"groups_full": 1, "groups_half": h // 2}.get(fault, h)
        dilation = 2 if fault == "dilated" else 1
        stride, pad = 1 if fault == "stride_expand" else s, 0 if fault == "pad_half" else dilation * (k // 2)
        if fault == "swapped":
            stride, pad = pad, stride
        self.d = nn.Conv2d(h, h, k, stride, pad, dilation, groups, bias=False)
        self.db = nn.BatchNorm2d(h, eps)
        self.p = nn.Conv2d(h, o, 1, bias=False)
        if fault != "no_proj_bn":
            self.pb = nn.BatchNorm2d(o, eps)

    def forward(self, x):
        fault, act = self.fault, self.act
        y = act(self.eb(self.e(x))) if hasattr(self, "e") else x
        if fault == "pad_half":
            y = F.pad(y, (1, 1, 1, 1), value=0.5)
        if fault == "act_before_bn":
            y = self.db(act(self.d(y)))
        else:
            y = self.db(self.d(y))
            if fault == "dw_leaky":
                y = F.leaky_relu(y, 0.1)
            elif fault == "dw_clamp5":
                y = y.clamp(0, 5)
            elif fault != "no_dw_act":
                y = act(y)
        y = self.p(y)
        y = y if fault == "no_proj_bn" else self.pb(y)
        if fault == "act_after_proj":
            y = act(y)
        if not self.skip or fault == "no_skip":
            return y
        if fault == "skip_twice":
            return x + y + x
        if fault == "skip_sub":
            return y - x
        if fault == "skip_sub_other":
            return x - y
        if fault == "skip_half":
            return 0.5 * x + y
        if fault == "skip_mean":
            return (x + y) / 2
        if fault == "skip_times":
            return x * y
        if fault == "skip_only":
            return x + x
        if fault == "skip_flipped":
            return x + y.flip(1)
        if fault == "skip_max":
            return torch.maximum(x, y)
        return act(x + y) if fault == "act_after_add" else x + y


V2_PLACES = {  # the one block that has the fault; the others are right
    "stride_expand": 1, "groups_full": 3, "groups_half": 3, "no_proj_bn": 4, "no_skip": 6, "no_dw_act": 6,
    "act_after_proj": 4, "skip_twice": 6, "skip_sub": 6, "skip_sub_other": 7, "skip_half": 6, "skip_mean": 4,
    "skip_times": 6, "skip_only": 2, "skip_flipped": 6, "skip_max": 4, "act_after_add": 6, "kernel5": 7, "dilated": 6,
    "dw_leaky": 3, "dw_clamp5": 3, "act_before_bn": 5, "pad_half": 6, "swapped": 3,
}


class V2(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.act = {"relu": F.relu, "silu": F.silu, "hardswish": F.hardswish}.get(fault, F.relu6)
        eps = 1e-3 if fault == "bn_eps" else 1e-5
        rows = [list(row) for row in V2_ROWS]
        if fault == "repeat":
            rows[3][2] = 2
        if fault == "width96":
            rows[4][1] = 88
        if fault == "stride_row":
            rows[3][3], rows[4][3] = 1, 2
        if fault == "expand4":
            rows[2][0] = 4
        pad = 0 if fault in ("pad_ones", "pad_edge") else 2 if fault == "stem5" else 1
        mode = "reflect" if fault == "padding_mode" else "zeros"
        k = 5 if fault == "stem5" else 3
        self.c0 = nn.Conv2d(3, 32, k, 2, pad, bias=fault == "bias_stem", padding_mode=mode)
        self.b0 = nn.BatchNorm2d(32, eps)
        self.blocks, i = nn.ModuleList(), 32
        for t, o, n, s in rows:
            for j in range(n):
                planted = fault if V2_PLACES.get(fault) == len(self.blocks) else ""
                self.blocks.append(V2Block(i, o, s if j == 0 else 1, t, planted, self.act, eps))
                i = o
        self.c1, self.b1 = nn.Conv2d(i, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps)
        self.fc = nn.Linear(1280, 10, bias=fault != "fc_nobias")

    def forward(self, x):
        fault = self.fault
        if fault == "bgr":
            x = x[:, [2, 1, 0]]
        if fault == "normalised":
            x = (x - 0.5) / 0.5
        if fault == "flipped":
            x = x.flip(3)
        if fault == "pad_ones":
            x = F.pad(x, (1, 1, 1, 1), value=1.0)
        if fault == "pad_edge":
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = self.b0(self.c0(x))
        if fault == "norm_twice":
            x = self.b0(x)
        x = self.act(x)
        for block in self.blocks:
            x = block(x)
        x = self.b1(self.c1(x))
        if fault != "no_last_act":
            x = self.act(x)
        if fault == "maxpool_head":
            x = F.adaptive_max_pool2d(x, 1).flatten(1)
        elif fault == "pool_h_only":
            x = x.mean(2)[:, :, 0]
        elif fault == "pool_sum":
            x = x.sum((2, 3))
        elif fault == "pool_corner":
            x = x[:, :, 0, 0]
        elif fault == "pool_axes":
            x = x.mean((1, 2))
        elif fault == "pool_max_of_mean":
            x = x.mean(2).amax(2)
        else:
            x = x.mean((2, 3))
        x = F.dropout(x, 0.2) if fault == "dropout_on" else F.dropout(x, 0.2, self.training)
        x = self.fc(x)
        ends = {"softmax_out": lambda y: y.softmax(1), "logsoftmax_out": lambda y: F.log_softmax(y, 1),
                "sigmoid_out": torch.sigmoid, "relu_out": F.relu, "softmax_batch": lambda y: y.softmax(0),
                "temperature": lambda y: y / 4}
        return ends[fault](x) if fault in ends else x


STEM, LAST = at("b0", "c0", "blocks.0.d"), at("b1", "fc")
NO_ACTIVATION = r"no activation"
V2_FAULTS = (
    Fault("relu", "ReLU for ReLU6 everywhere", STEM, instead(r"\bReLU\b", "ReLU6")),
    Fault("silu", "SiLU for ReLU6 everywhere", STEM, instead("SiLU", "ReLU6")),
    Fault("hardswish", "Hardswish for ReLU6 everywhere", STEM, instead("Hardswish", "ReLU6")),
    Fault("bn_eps", "eps 1e-3 everywhere", STEM, instead(r"eps 0\.001", "eps 1e-05")),
    Fault("bias_stem", "a bias in the stem", at("c0"), instead(r"\ba bias", "no bias")),
    Fault("padding_mode", "reflected padding in the stem", at("c0"), instead("reflect", "zeros")),
    Fault("pad_ones", "image padded with ones before the stem", at("c0"),
          r"(?i)pad.*(with|value|constant|of) ?(of )?(1|ones)\b"),
    Fault("pad_edge", "image padded with its border before the stem", at("c0"), r"(?i)replicat|border|edge"),
    Fault("pad_half", "0.5 as padding of a depthwise", at("blocks.6.eb", "blocks.6.d"),
          r"(?i)pad.*(with|value|constant|of) ?(of )?0\.5"),
    Fault("swapped", "stride and padding exchanged in a depthwise", at("blocks.3.d"),
          both("stride 1", "padding 2", "stride 2", "padding 1")),
    Fault("stem5", "5x5 in the stem", at("c0"), instead("5x5", "3x3")),
    Fault("repeat", "row 4 repeated twice, not three times", at("blocks.6.pb", "blocks.7.e", "blocks.6.p"),
          r"6 layers.*missing"),
    Fault("width96", "96 channels rounded to 88", at("blocks.8.p"), instead("channels 88", "channels 96")),
    Fault("stride_row", "stride 2 in the fifth row instead of the fourth", at("blocks.5.d"),
          instead("stride 1", "stride 2")),
    Fault("expand4", "expansion 4 in the third row", at("blocks.3.e"), instead("channels 96", "channels 144")),
    Fault("no_last_act", "no ReLU6 after the last 1x1", LAST, missing("ReLU6")),
    Fault("maxpool_head", "global maximum for the mean", LAST, instead(r"(global )?max", GLOBAL_MEAN)),
    Fault("dropout_on", "F.dropout without training=", at("fc"), r"(?i)not deterministic.*dropout"),
    Fault("softmax_out", "softmax at the end", at("fc"), extra("(?i:softmax)")),
    Fault("logsoftmax_out", "log-softmax at the end", at("fc"), extra("(?i:log.?softmax)")),
    Fault("sigmoid_out", "sigmoid at the end", at("fc"), extra("(?i:sigmoid)")),
    Fault("relu_out", "ReLU at the end", at("fc"), extra(r"\bReLU\b")),
    Fault("softmax_batch", "softmax over the batch at the end", at("fc"), extra("(?i:softmax).*(axis|dim|batch|over)")),
    Fault("temperature", "logits divided by 4", at("fc"), scaled(r"\b(4|0\.25|1/4)\b")),
    Fault("stride_expand", "stride in the expansion", at("blocks.1.e"), instead("stride 2", "stride 1")),
    Fault("groups_full", "dense 3x3", at("blocks.3.d"), instead("groups 1", "groups 144")),
    Fault("groups_half", "groups of two channels", at("blocks.3.d"), instead("groups 72", "groups 144")),
    Fault("kernel5", "5x5 depthwise", at("blocks.7.d"), instead("5x5", "3x3")),
    Fault("dilated", "dilation 2 in one depthwise", at("blocks.6.d"), instead("dilation 2", "dilation 1")),
    Fault("no_proj_bn", "no BatchNorm after the projection", at("blocks.4.p", "blocks.5.e"),
          r"BatchNorm2d.*missing|missing.*BatchNorm2d"),
    Fault("no_skip", "no shortcut", at("blocks.6.pb", "blocks.7.e"), r"shortcut is missing|missing.*shortcut"),
    Fault("no_dw_act", "no activation after the depthwise", at("blocks.6.p", "blocks.6.db"), missing("ReLU6")),
    Fault("dw_leaky", "LeakyReLU after one depthwise", at("blocks.3.p", "blocks.3.db"),
          instead(r"LeakyReLU\(0\.1\)", "ReLU6")),
    Fault("dw_clamp5", "cut at 5, not at 6", at("blocks.3.p", "blocks.3.db"),
          instead(r"(clamp|cut|Hardtanh|min).*5", "ReLU6")),
    Fault("act_before_bn", "ReLU6 before BatchNorm", at("blocks.5.d", "blocks.5.db"), extra("ReLU6")
          + "|ReLU6.*before.*(BatchNorm|`blocks.5.db`).*the reference.*after"),
    Fault("act_after_proj", "ReLU6 after the projection", at("blocks.4.pb", "blocks.5.e"), extra("ReLU6")),
    Fault("act_after_add", "ReLU6 after the addition", at("blocks.6.pb", "blocks.7.e"), extra("ReLU6.*addition")),
    Fault("skip_twice", "shortcut added twice", at("blocks.6.pb", "blocks.7.e"),
          r"(shortcut|input of `blocks\.6\.e`).*(twice|two times|times 2|2 times)|"
          r"(twice|2 times).*(shortcut|input of `blocks\.6\.e`)"),
    Fault("skip_sub", "shortcut subtracted", at("blocks.6.pb", "blocks.7.e"), r"subtract|minus|difference of"),
    Fault("skip_sub_other", "branch subtracted from the shortcut", at("blocks.7.pb", "blocks.8.e"),
          r"subtract|minus|difference of"),
    Fault("skip_half", "half of the shortcut added", at("blocks.6.pb", "blocks.7.e"),
          both(r"(shortcut|input of `blocks\.6\.e`)", r"(times 0\.5|0\.5 times|times 2|half|scale)")),
    Fault("skip_mean", "mean of shortcut and branch", at("blocks.4.pb", "blocks.5.e"), scaled(r"\b(0\.5|2)\b")),
    Fault("skip_times", "shortcut multiplied", at("blocks.6.pb", "blocks.7.e"),
          instead("(times|multip|product)", "(plus|adds|addition|sum)")),
    Fault("skip_only", "the input added to itself, the branch is lost", at("blocks.2.pb", "blocks.2.e", "blocks.3.e"),
          r"blocks\.2\.(pb|e)`.*(twice|itself|not used|never used|lost|is missing|times 2|2 times)"),
    Fault("skip_flipped", "channels of the branch reversed before the addition", at("blocks.6.pb", "blocks.7.e"),
          r"(revers|flip|another order|backwards)"),
    Fault("skip_max", "maximum for the addition", at("blocks.4.pb", "blocks.5.e"),
          instead("(?i:maxim|larger|max)", "(plus|adds|addition|sum)")),
    Fault("bgr", "channels of the image reversed", at("c0"), both("channel", "(order|revers|exchang|permut|flip)")),
    Fault("normalised", "the image normalised once more", at("c0"),
          r"(?i)(scale|times|normalis|shift|constant|minus|plus).*(input|image|x\b)|(input|image|x\b).*"
          r"(scale|times|normalis|shift|minus|plus)"),
    Fault("flipped", "the image mirrored", at("c0"), r"(?i)(mirror|flip|revers|backwards|another order)"),
    Fault("norm_twice", "the stem's BatchNorm called twice", at("b0"), r"once more|twice|two times|called again"),
    Fault("fc_nobias", "no bias in the classifier", at("fc"), instead("no bias", r"\ba bias")),
    Fault("pool_h_only", "mean over the height, first column", LAST,
          instead(r"(over|mean of|average).*(axis 2|axes|height|rows|column)|(?=.*column).*(first|one)", GLOBAL_MEAN)),
    Fault("pool_sum", "sum over the pixels, not mean", LAST, r"\bsum\b|" + scaled(r"\b(24|0\.04167|1/24)\b")),
    Fault("pool_corner", "one pixel instead of the mean", LAST,
          instead("(one pixel|a pixel|first pixel|pixel|corner|single|position|slice)", GLOBAL_MEAN)),
    Fault("pool_axes", "mean over channels and rows", at("b1", "fc"),
          both(r"(axes|dims?|over) ?\(?1(,| and) 2", "(2, 3|global average|pixels)")),
    Fault("pool_max_of_mean", "mean over the rows, maximum over the columns", LAST,
          instead("(?i:max)", GLOBAL_MEAN)),
)

# MobileNetV3 against torchvision's.

V3_ROWS = (  # input, kernel, expanded, output channels, squeeze-and-excitation, Hardswish, stride
    (16, 3, 16, 16, True, False, 2), (16, 3, 72, 24, False, False, 2), (24, 3, 88, 24, False, False, 1),
    (24, 5, 96, 40, True, True, 2), (40, 5, 240, 40, True, True, 1), (40, 5, 120, 48, True, True, 1))


def rounded(v):
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


class V3Block(nn.Module):
    def __init__(self, i, k, h, o, se, hs, s, eps, fault, everywhere):
        super().__init__()
        self.fault, self.everywhere, self.hs, self.skip = fault, everywhere, hs, s == 1 and i == o
        if h != i:
            self.e, self.eb = nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h, eps)
        k, dilation = 3 if fault == "v3_k3" else k, 2 if fault == "v3_dil_nopad" else 1
        self.d, self.db = nn.Conv2d(h, h, k, s, k // 2, dilation, h, bias=False), nn.BatchNorm2d(h, eps)
        if se:
            m, bias = h // 4 if everywhere == "v3_se_noround" else rounded(h // 4), everywhere != "v3_se_nobias"
            self.f1, self.f2 = nn.Conv2d(h, m, 1, bias=bias), nn.Conv2d(m, h, 1, bias=bias)
        self.p, self.pb = nn.Conv2d(h, o, 1, bias=False), nn.BatchNorm2d(o, eps)

    def act(self, x):
        if not self.hs:
            return F.relu(x)
        if self.everywhere == "v3_silu":
            return F.silu(x)
        if self.everywhere == "v3_hs_no6":
            return x * F.relu6(x + 3)
        return x * F.relu6(x + 3) / 6

    def gate(self, x):
        if self.fault == "v3_se_max":
            g = F.adaptive_max_pool2d(x, 1)
        elif self.fault == "v3_se_rows":
            g = x.mean(2, keepdim=True)
        elif self.fault == "v3_se_batch":
            g = x.mean((0, 2, 3), keepdim=True)
        else:
            g = x.mean((2, 3), keepdim=True)
        inner = {"v3_se_silu": F.silu, "v3_se_hs": F.hardswish, "v3_se_noact": lambda y: y}
        g = self.f2(inner.get(self.everywhere, F.relu)(self.f1(g)))
        outer = {"v3_sigmoid": torch.sigmoid, "v3_hsig_tf": lambda y: F.relu6(y) / 6,
                 "v3_softmax": lambda y: y.softmax(1), "v3_tanh": torch.tanh, "v3_no_gate_act": lambda y: y,
                 "v3_hsig_no6": lambda y: F.relu6(y + 3),
                 "v3_hsig_div3": lambda y: F.relu6(y + 3) / 3, "v3_softmax_batch": lambda y: y.softmax(0),
                 "v3_relu_gate": F.relu}
        return outer.get(self.everywhere, F.hardsigmoid)(g)

    def forward(self, x):
        fault = self.fault
        y = self.act(self.eb(self.e(x))) if hasattr(self, "e") else x
        y = self.db(self.d(y))
        if fault == "v3_se_before_act":
            y = self.act(y * self.gate(y))
        elif fault == "v3_se_of_norm":
            y = self.act(y) * self.gate(y)
        elif fault == "v3_se_on_norm":
            y = y * self.gate(self.act(y))
        elif fault == "v3_relu_here":
            y = F.relu(y)
            y = y * self.gate(y)
        else:
            y = self.act(y)
            if hasattr(self, "f1") and fault != "v3_se_end":
                g = self.gate(y)
                y = {"v3_se_add": lambda: y + g, "v3_se_1plus": lambda: y * (1 + g), "v3_se_twice": lambda: y * g * g,
                     "v3_se_skip": lambda: y + y * g, "v3_se_div": lambda: y / (g + 1),
                     "v3_se_only": lambda: g.expand_as(y),
                     "v3_se_unused": lambda: y, "v3_se_1minus": lambda: y * (1 - g)}.get(fault, lambda: y * g)()
        y = self.pb(self.p(y))
        return x + y if self.skip else y


V3_PLACES = {"v3_k3": 4, "v3_dil_nopad": 5, "v3_se_before_act": 3, "v3_se_end": 3, "v3_se_add": 3, "v3_se_max": 3,
             "v3_se_rows": 4, "v3_se_batch": 3, "v3_se_of_norm": 3, "v3_se_on_norm": 4, "v3_relu_here": 3,
             "v3_se_1plus": 3, "v3_se_only": 4, "v3_se_twice": 3, "v3_se_skip": 3, "v3_se_div": 3, "v3_se_unused": 4,
             "v3_se_1minus": 3}


class V3(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault, eps = fault, 1e-5 if fault == "v3_eps" else 1e-3
        self.c0, self.b0 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16, eps)
        self.bl = nn.ModuleList(
            V3Block(*row, eps, fault if V3_PLACES.get(fault) == k else "", fault) for k, row in enumerate(V3_ROWS))
        self.c1, self.b1 = nn.Conv2d(48, 288, 1, bias=False), nn.BatchNorm2d(288, eps)
        self.l1, self.l2 = nn.Linear(288, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = self.b0(self.c0(x))
        x = x * F.hardsigmoid(x) if self.fault != "v3_stem_relu" else F.relu(x)
        for block in self.bl:
            x = block(x)
        x = F.hardswish(self.b1(self.c1(x)))
        if self.fault == "v3_head_order":  # the activation of the classifier before its first layer
            return self.l2(self.l1(F.hardswish(x.mean((2, 3)))))
        x = self.l1(x.mean((2, 3)))
        if self.fault == "v3_head_relu":
            x = F.relu(x)
        elif self.fault != "v3_head_noact":
            x = F.hardswish(x)
        return self.l2(x)


def v3_reference():
    rows = [InvertedResidualConfig(i, k, h, o, se, "HS" if hs else "RE", s, 1, 1.0)
            for i, k, h, o, se, hs, s in V3_ROWS]
    return MobileNetV3(rows, last_channel=64, num_classes=10)


GATE0, GATE3, GATE4 = (at(f"bl.{k}.f2", f"bl.{k}.p") for k in (0, 3, 4))
IN3 = at("bl.3.db", "bl.3.f1")
V3_FAULTS = (
    Fault("v3_eps", "eps 1e-5 for 1e-3", at("b0"), instead("eps 1e-05", r"eps 0\.001")),
    Fault("v3_k3", "3x3 for 5x5", at("bl.4.d"), instead("3x3", "5x5")),
    Fault("v3_se_noround", "width of SE not rounded", at("bl.0.f1"), instead("channels 4", "channels 8")),
    Fault("v3_se_nobias", "SE without bias", at("bl.0.f1"), instead("no bias", r"\ba bias")),
    Fault("v3_silu", "SiLU for Hardswish in the blocks", at("bl.3.eb", "bl.3.d"), instead("SiLU", "Hardswish")),
    Fault("v3_hs_no6", "Hardswish without the division by 6", at("bl.3.eb", "bl.3.d"),
          scaled(r"\b(6|1/6|0\.16+7)\b")),
    Fault("v3_stem_relu", "ReLU for Hardswish in the stem", at("b0", "bl.0.d"), instead(r"\bReLU\b", "Hardswish")),
    Fault("v3_relu_here", "ReLU for Hardswish after one depthwise", IN3, instead(r"\bReLU\b", "Hardswish")),
    Fault("v3_se_silu", "SiLU inside SE", at("bl.0.f1", "bl.0.f2"), instead("SiLU", r"\bReLU\b")),
    Fault("v3_se_hs", "Hardswish inside SE", at("bl.0.f1", "bl.0.f2"), instead("Hardswish", r"\bReLU\b")),
    Fault("v3_se_noact", "no activation inside SE", at("bl.0.f1", "bl.0.f2"), missing(r"\bReLU\b")),
    Fault("v3_sigmoid", "sigmoid gate", GATE0, instead(r"\bSigmoid", "Hardsigmoid")),
    Fault("v3_tanh", "tanh gate", GATE0, instead("(?i:tanh)", "Hardsigmoid")),
    Fault("v3_relu_gate", "ReLU gate", GATE0, instead(r"ReLU of the output of `bl.0.f2`", "Hardsigmoid")),
    Fault("v3_no_gate_act", "no activation of the gate", GATE0,
          instead(r"(is|no|without|yours).*output of `bl.0.f2`", "Hardsigmoid")),
    Fault("v3_hsig_tf", "relu6(x)/6: the 3 was forgotten", GATE0, both("ReLU6", "Hardsigmoid")),
    Fault("v3_hsig_no6", "relu6(x + 3): not divided by 6", GATE0, scaled(r"\b(6|1/6|0\.16+7)\b")),
    Fault("v3_hsig_div3", "relu6(x + 3)/3", GATE0,
          scaled(r"\b(2|0\.5)\b") + r"|by 0\.333.*\bthe reference\b.*by 0\.166"),
    Fault("v3_softmax", "softmax over the channels as gate", GATE0, instead("(?i:softmax)", "Hardsigmoid")),
    Fault("v3_softmax_batch", "softmax over the batch as gate", GATE0, instead("(?i:softmax)", "Hardsigmoid")),
    Fault("v3_se_before_act", "SE before the activation", IN3,
          r"(squeeze|gate|multip).*before the (Hardswish|activation).*reference after"),
    Fault("v3_se_of_norm", "gate computed before the activation", at("bl.3.db", "bl.3.f1", "bl.3.f2", "bl.3.p"),
          r"(?=.*`bl.3.db`)(" + missing("Hardswish") + r"|before the (Hardswish|activation))"),
    Fault("v3_se_on_norm", "gate applied to BatchNorm's output", at("bl.4.db", "bl.4.f2", "bl.4.p"),
          r"(?=.*`bl.4.db`)(?=.*Hardswish).*(times|gate|multip|no activation)"),
    Fault("v3_se_end", "SE declared, not called", at("bl.3.db", "bl.3.p"), r"2 layers.*missing"),
    Fault("v3_se_unused", "gate computed, not applied", GATE4,
          r"multiplication is missing|" + missing("(gate|multip)")),
    Fault("v3_se_add", "gate added", GATE3, instead("(plus|add|sum)", "(times|multip|product|gate)")),
    Fault("v3_se_1plus", "1 + gate", GATE3, r"1 (plus|\+)|plus 1|adds? 1|\+ 1|plus the|(added|twice|too many)"),
    Fault("v3_se_1minus", "1 - gate", GATE3, r"1 (minus|-) |minus|subtract|negative"),
    Fault("v3_se_skip", "the input added to its gated self", GATE3,
          r"1 (plus|\+)|plus (1|Hardswish|the)|adds? |is added to"),
    Fault("v3_se_only", "the gate without what it weighs", GATE4,
          missing("(multip|times)") + "|" + instead("(gate|Hardsigmoid|yours is)", "times")),
    Fault("v3_se_twice", "gate applied twice", GATE3, r"twice|square|two times|2 times|times .* times"),
    Fault("v3_se_div", "divided by 1 + gate", GATE3, r"divi"),
    Fault("v3_se_max", "maximum instead of the mean in SE", IN3, instead("(global )?max", GLOBAL_MEAN)),
    Fault("v3_se_rows", "mean over the rows only in SE", at("bl.4.db", "bl.4.f1"),
          instead(r"(mean|average|pool)[^;]*(over|axis|axes|height|rows)", GLOBAL_MEAN)),
    Fault("v3_se_batch", "mean over the batch too in SE", IN3, r"\bbatch\b|\b0, 2,? (and )?3\b"),
    Fault("v3_head_relu", "ReLU in the head", at("l1", "l2"), instead(r"\bReLU\b", "Hardswish")),
    Fault("v3_head_noact", "no activation in the head", at("l1", "l2"), missing("Hardswish")),
    Fault("v3_head_order", "activation before the first linear layer", at("b1", "l1"),
          extra("Hardswish") + "|Hardswish.*(twice|before|global average)"),
    Fault("v3_dil_nopad", "dilation 2 without its padding, so that it cannot run", at("bl.5.d"),
          instead("dilation 2", "dilation 1")),
)

# MobileNetV2 with efficient channel attention against lwcourse's blocks, of which few.

ECA_ROWS = ((16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 48, 2, 6), (48, 48, 1, 6))  # in, out, stride, expand
ECA_WIDE = 48


class EcaBlock(nn.Module):
    def __init__(self, i, o, s, t, fault, everywhere):
        super().__init__()
        h, self.fault, self.skip = t * i, fault, s == 1 and i == o
        if t > 1:
            self.e, self.eb = nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h)
        self.d, self.db = nn.Conv2d(h, h, 3, s, 1, groups=h, bias=False), nn.BatchNorm2d(h)
        self.p, self.pb = nn.Conv2d(h, o, 1, bias=False), nn.BatchNorm2d(o)
        k = 3 if o >= ECA_WIDE or everywhere == "formula" else 1
        k = 5 if everywhere == "k5" and o >= ECA_WIDE else k
        pad = 0 if fault == "eca_nopad" else k // 2
        self.eca = nn.Conv1d(1, 1, k, padding=pad, bias=fault == "eca_bias")

    def attention(self, x):
        fault = self.fault
        if fault == "eca_max":
            m = x.amax((2, 3))
        elif fault == "eca_var":
            m = x.std((2, 3))
        elif fault == "eca_first":
            m = x[:, :, 0, 0]
        else:
            m = x.mean((2, 3))
        if fault == "eca_relu_inside":
            m = F.relu(m)
        g = self.eca(m[:, None])[:, 0]
        if fault == "eca_nopad":
            g = F.pad(g, (1, 1))
        gates = {"eca_hsig": F.hardsigmoid, "eca_nosig": lambda y: y, "eca_tanh": torch.tanh, "eca_double":
                 lambda y: 2 * torch.sigmoid(y), "eca_softmax": lambda y: y.softmax(1), "eca_softmax_batch":
                 lambda y: y.softmax(0), "eca_relu_gate": F.relu}
        return gates.get(fault, torch.sigmoid)(g)[:, :, None, None]

    def forward(self, x):
        fault = self.fault
        y = F.relu6(self.eb(self.e(x))) if hasattr(self, "e") else x
        y = self.pb(self.p(F.relu6(self.db(self.d(y)))))
        if fault == "eca_after_add":
            y = x + y
            return y * self.attention(y)
        g = self.attention(x if fault == "eca_of_input" else y)
        y = {"eca_wrongaxis": lambda: y, "eca_add": lambda: y + g, "eca_1plus": lambda: y * (1 + g),
             "eca_twice": lambda: y * g * g, "eca_sub": lambda: y - y * g,
             "eca_reversed": lambda: y * g.flip(1)}.get(fault, lambda: y * g)()
        if fault == "eca_on_skip":
            return x * g + y
        return x + y if self.skip else y


ECA_PLACES = {"eca_after_add": 2, "eca_max": 0, "eca_hsig": 0, "eca_nosig": 0, "eca_wrongaxis": 0, "eca_of_input": 2,
              "eca_add": 1, "eca_1plus": 1, "eca_twice": 3, "eca_sub": 1, "eca_reversed": 3, "eca_on_skip": 2,
              "eca_var": 3, "eca_first": 1, "eca_relu_inside": 1, "eca_nopad": 3, "eca_bias": 1, "eca_tanh": 3,
              "eca_double": 1, "eca_softmax": 3, "eca_softmax_batch": 3, "eca_relu_gate": 3}


class Eca(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.c0, self.b0 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*[
            EcaBlock(*row, fault if ECA_PLACES.get(fault) == k else "", fault) for k, row in enumerate(ECA_ROWS)])
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        return self.fc(self.blocks(F.relu6(self.b0(self.c0(x)))).mean((2, 3)))


def eca_reference():
    blocks = [InvertedResidualECA(*row, wide=ECA_WIDE) for row in ECA_ROWS]
    return nn.Sequential(ConvBNAct(3, 16, 3, stride=2, act=nn.ReLU6), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(48, 10))


def gate_of(k):
    return at(f"blocks.{k}.eca", f"blocks.{k + 1}.e" if k < 4 else "fc")


def into_gate(k):
    return at(f"blocks.{k}.pb", f"blocks.{k}.eca")


ECA_FAULTS = (
    Fault("formula", "kernel 3 everywhere, by the paper's formula", at("blocks.0.eca"),
          instead("kernel size 3", "kernel size 1")),
    Fault("k5", "kernel 5 from 48 channels", at("blocks.3.eca"), instead("kernel size 5", "kernel size 3")),
    Fault("eca_nopad", "no padding, zeros behind", at("blocks.3.eca"), instead("padding 0", "padding 1")),
    Fault("eca_bias", "a bias in the gate's convolution", at("blocks.1.eca"), instead(r"\ba bias", "no bias")),
    Fault("eca_after_add", "gate after the shortcut", at("blocks.2.pb", "blocks.2.eca", "blocks.3.e"),
          r"(after|plus|before).*(addition|shortcut|input of `blocks.2.e`)|(shortcut|addition).*(before|after)"),
    Fault("eca_of_input", "gate computed from the block's input", at("blocks.2.pb", "blocks.2.eca"),
          instead(r"(input of `blocks.2.e`|`blocks.1)", "output of `blocks.2.pb`")),
    Fault("eca_on_skip", "gate on the shortcut too", at("blocks.2.eca", "blocks.3.e"),
          r"(?=.*(input of `blocks.2.e`|shortcut)).*(times|gate|multip|scale)"),
    Fault("eca_max", "maximum instead of the mean", into_gate(0), instead("(?i:max)", "(?i:average|mean)")),
    Fault("eca_var", "standard deviation instead of the mean", into_gate(3),
          instead("(?i:standard deviation|std|varia)", "(?i:average|mean)")),
    Fault("eca_first", "one pixel instead of the mean", into_gate(1),
          instead("(?i:pixel|corner|position|slice|first)", "(?i:average|mean)")),
    Fault("eca_relu_inside", "ReLU on the means", into_gate(1), extra(r"\bReLU\b")),
    Fault("eca_hsig", "Hardsigmoid gate", gate_of(0), instead("Hardsigmoid", r"\bSigmoid")),
    Fault("eca_tanh", "tanh gate", gate_of(3), instead("(?i:tanh)", r"\bSigmoid")),
    Fault("eca_relu_gate", "ReLU gate", gate_of(3), instead(r"\bReLU\b", r"\bSigmoid")),
    Fault("eca_softmax", "softmax over the channels as gate", gate_of(3), instead("(?i:softmax)", r"\bSigmoid")),
    Fault("eca_softmax_batch", "softmax over the batch as gate", gate_of(3), instead("(?i:softmax)", r"\bSigmoid")),
    Fault("eca_double", "2 sigmoid", gate_of(1), scaled(r"\b(2|0\.5)\b")),
    Fault("eca_nosig", "no sigmoid", gate_of(0),
          instead(r"(is|yours|no|without).*output of `blocks.0.eca`", r"\bSigmoid")),
    Fault("eca_wrongaxis", "gate computed, not applied", gate_of(0), r"multiplication is missing|"
          + missing("(gate|multip)")),
    Fault("eca_add", "gate added", gate_of(1), instead("(plus|add|sum)", "(times|multip|product|gate)")),
    Fault("eca_1plus", "1 + gate", gate_of(1), r"1 (plus|\+)|plus 1|adds? 1|\+ 1|plus the|added"),
    Fault("eca_sub", "1 - gate", gate_of(1), r"1 (minus|-) |minus|subtract"),
    Fault("eca_twice", "gate applied twice", gate_of(3), r"twice|square|two times|2 times|times .* times"),
    Fault("eca_reversed", "gates of the channels in reverse order", gate_of(3), r"revers|flip|another order|backwards"),
)

# EfficientNet against torchvision's.

EF_ROWS = (  # expand, kernel, stride, input, output channels, repeats
    (1, 3, 1, 16, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 1, 40, 48, 1))


def tf_pad(x, k, s):
    h, w = (max((-(-n // s) - 1) * s + k - n, 0) for n in x.shape[2:])
    return F.pad(x, (w // 2, w - w // 2, h // 2, h - h // 2))


class EfBlock(nn.Module):
    def __init__(self, t, k, s, i, o, fault, everywhere):
        super().__init__()
        h, eps = t * i, 1e-3 if everywhere == "ef_eps" else 1e-5
        self.fault, self.everywhere, self.k, self.s, self.skip = fault, everywhere, k, s, s == 1 and i == o
        if t > 1:
            self.e = nn.Sequential(nn.Conv2d(i, h, 1, bias=False), nn.BatchNorm2d(h, eps))
        k = 5 if fault == "ef_kernels" else k
        pad = 0 if fault == "ef_tfpad" else k // 2
        self.d, self.db = nn.Conv2d(h, h, k, s, pad, groups=h, bias=False), nn.BatchNorm2d(h, eps)
        m = h // 4 if everywhere == "ef_se_from_expanded" else i // 4
        self.s1, self.s2 = nn.Conv2d(h, m, 1), nn.Conv2d(m, h, 1)
        self.p, self.pb = nn.Conv2d(h, o, 1, bias=False), nn.BatchNorm2d(o, eps)

    def forward(self, x):
        fault = self.fault
        y = F.silu(self.e(x)) if hasattr(self, "e") else x
        if fault == "ef_tfpad":
            y = tf_pad(y, self.k, self.s)
        y = self.db(self.d(y))
        if fault == "ef_quick":
            y = y * torch.sigmoid(1.702 * y)
        elif fault == "ef_gelu":
            y = F.gelu(y)
        elif fault == "ef_mish":
            y = F.mish(y)
        elif fault == "ef_elu":
            y = F.elu(y)
        else:
            y = F.silu(y)
        g = self.s1(F.adaptive_avg_pool2d(y, 1))
        g = self.s2(F.relu(g) if self.everywhere == "ef_se_relu" else F.silu(g))
        if self.everywhere == "ef_hsig":
            g = F.hardsigmoid(g)
        elif fault == "ef_sig_shift":
            g = torch.sigmoid(g + 1)
        elif fault == "ef_sig_temp":
            g = torch.sigmoid(g / 2)
        else:
            g = torch.sigmoid(g)
        y = self.pb(self.p(y * g))
        if fault == "ef_act_end":
            y = F.silu(y)
        if fault == "ef_drop_scale":
            y = 0.8 * y
        if fault == "ef_drop_on":
            y = y * (torch.rand(len(y), 1, 1, 1) < 0.5) / 0.5
        return x + y if self.skip and fault != "ef_noskip" else y


EF_PLACES = {"ef_kernels": 5, "ef_tfpad": 1, "ef_act_end": 2, "ef_quick": 2, "ef_gelu": 2, "ef_mish": 3, "ef_elu": 3,
             "ef_sig_shift": 2, "ef_sig_temp": 2, "ef_drop_scale": 2, "ef_drop_on": 4, "ef_noskip": 0}


class Ef(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c = nn.Conv2d(3, 16, 3, 2, 0 if fault == "ef_tfpad_stem" else 1, bias=False)
        self.b = nn.BatchNorm2d(16, 1e-3 if fault == "ef_eps" else 1e-5)
        self.L = nn.ModuleList()
        for t, k, s, i, o, n in EF_ROWS:
            for j in range(n):
                planted = fault if EF_PLACES.get(fault) == len(self.L) else ""
                self.L.append(EfBlock(t, k, s if j == 0 else 1, i if j == 0 else o, o, planted, fault))
        self.c2, self.b2, self.fc = nn.Conv2d(48, 192, 1, bias=False), nn.BatchNorm2d(192), nn.Linear(192, 10)
        if fault == "ef_eps":
            self.b2.eps = 1e-3

    def forward(self, x):
        if self.fault == "ef_tfpad_stem":
            x = F.pad(x, (0, 1, 0, 1))
        if self.fault == "ef_shift":
            x = x.roll(1, 3)
        x = F.silu(self.b(self.c(x)))
        for block in self.L:
            x = block(x)
        x = F.silu(self.b2(self.c2(x)))
        if self.fault == "ef_head_linear":
            return self.fc(x.permute(0, 2, 3, 1)).amax((1, 2))
        if self.fault == "ef_pool2":
            return self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1))
        return self.fc(F.avg_pool2d(x, x.shape[2:]).view(len(x), -1))


class EfPixels(Ef):
    """The same network: the classifier runs on every pixel, and its logits are averaged."""

    def forward(self, x):
        x = F.silu(self.b(self.c(x)))
        for block in self.L:
            x = block(x)
        return self.fc(F.silu(self.b2(self.c2(x))).permute(0, 2, 3, 1)).mean((1, 2))


def ef_reference():
    return EfficientNet([MBConvConfig(*row, 1.0, 1.0) for row in EF_ROWS], dropout=0.2, num_classes=10)


EF_ADD = {k: at(f"L.{k}.pb", f"L.{k + 1}.e.0") for k in range(5)}
EF_FAULTS = (
    Fault("ef_eps", "eps 1e-3 for 1e-5", at("b"), instead(r"eps 0\.001", "eps 1e-05")),
    Fault("ef_se_from_expanded", "width of SE from the expanded channels", at("L.1.s1"),
          instead("channels 24", "channels 4")),
    Fault("ef_se_relu", "ReLU in SE", at("L.0.s1", "L.0.s2"), instead(r"\bReLU\b", "SiLU")),
    Fault("ef_act_end", "SiLU after the projection", EF_ADD[2], extra("SiLU")),
    Fault("ef_kernels", "5x5 in the last stage", at("L.5.d"), instead("5x5", "3x3")),
    Fault("ef_tfpad", "padding as TensorFlow's same", at("L.1.d", "L.1.e.1"),
          r"(?i)(padded|padding|tensorflow)"),
    Fault("ef_tfpad_stem", "stem padded on the right and below", at("c"), r"(?i)(padded|padding|tensorflow)"),
    Fault("ef_shift", "the image shifted by a column", at("c"), r"(?i)(shift|roll|column|pixel)"),
    Fault("ef_quick", "x sigmoid(1.702 x)", at("L.2.db", "L.2.s1"),
          instead(r"(Sigmoid|1\.702|[Qq]uick)", "SiLU") + r"|times 1\.702, the reference does not"),
    Fault("ef_gelu", "GELU for SiLU", at("L.2.db", "L.2.s1"), instead("GELU", "SiLU")),
    Fault("ef_mish", "Mish for SiLU", at("L.3.db", "L.3.s1"), instead("Mish", "SiLU")),
    Fault("ef_elu", "ELU for SiLU", at("L.3.db", "L.3.s1"), instead("ELU", "SiLU")),
    Fault("ef_hsig", "Hardsigmoid gate", at("L.0.s2", "L.0.p"), instead("Hardsigmoid", r"\bSigmoid")),
    Fault("ef_sig_shift", "sigmoid(x + 1) gate", at("L.2.s2", "L.2.p"), r"plus 1|\+ ?1|shift|adds? (a constant|1)"),
    Fault("ef_sig_temp", "sigmoid(x / 2) gate", at("L.2.s2", "L.2.p"), scaled(r"\b(0\.5|2|1/2)\b")),
    Fault("ef_drop_scale", "branch scaled by the keep probability in eval mode", EF_ADD[2],
          scaled(r"\b(0\.8|1\.25)\b")),
    Fault("ef_drop_on", "stochastic depth active in eval mode", at("L.4.pb", "L.5.e.0"), r"not deterministic"),
    Fault("ef_noskip", "no shortcut in the first block", EF_ADD[0], r"shortcut is missing|missing.*shortcut"),
    Fault("ef_head_linear", "classifier on every pixel, then the maximum", at("fc", "b2"), r"(?i)\bmax"),
    Fault("ef_pool2", "pooled to 2x2, so that the classifier cannot run", at("b2", "fc"),
          instead(r"(2x2|\(192, 2, 2\)|, 192, 2, 2\))", GLOBAL_MEAN)),
)

SMALL = (2, 3, 96, 64)
PAIRS = (
    Pair("mbv2/tv", V2, partial(MobileNetV2, 10, inverted_residual_setting=[list(row) for row in V2_ROWS]), SMALL,
         V2_FAULTS),
    Pair("v3/tv", V3, v3_reference, SMALL, V3_FAULTS),
    Pair("eca/lw", Eca, eca_reference, (2, 3, 48, 32), ECA_FAULTS),
    Pair("ef/tv", Ef, ef_reference, SMALL, EF_FAULTS),
)
EQUAL = (Pair("ef/pixels", EfPixels, ef_reference, SMALL),)
