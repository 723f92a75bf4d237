"""ConvNeXt against torchvision's."""
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from planted import Fault, Pair
from planted.sentences import (
    NO_SHORTCUT,
    PIXEL_ORDER,
    all_of,
    at,
    extra,
    gap,
    instead,
    missing,
)

WIDTHS, DEPTHS = (16, 32), (3, 2)


class HandNorm(nn.Module):
    """LayerNorm over the last axis of (N, H, W, C), written out, as wrong as `fault` says."""

    def __init__(self, channels, fault):
        super().__init__()
        self.fault = fault
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        axes = {"norm_all": (1, 2, 3), "norm_pixels": (1, 2), "norm_batch": (0, 1, 2), "norm_rows": 1,
                "norm_columns": 2}.get(self.fault, -1)
        mean = 0 if self.fault == "norm_rms" else x.mean(axes, keepdim=True)
        var = ((x - mean) ** 2).mean(axes, keepdim=True)
        if self.fault == "norm_unbiased":
            var = x.var(axes, keepdim=True)
        if self.fault == "norm_eps_std":
            y = (x - mean) / (var.sqrt() + 1e-2)
        elif self.fault == "norm_no_root":
            y = (x - mean) / (var + 1e-6)
        elif self.fault == "norm_no_mean":
            y = x / (var + 1e-6).sqrt()
        elif self.fault == "norm_no_var":
            y = x - mean
        elif self.fault == "norm_abs":
            y = (x - mean) / ((x - mean).abs().mean(axes, keepdim=True) + 1e-6)
        else:
            y = (x - mean) / (var + 1e-6).sqrt()
        if self.fault == "norm_no_bias":
            return y * self.weight
        if self.fault == "norm_weight_plus":
            return y * (1 + self.weight) + self.bias
        return y * self.weight + self.bias


class MapNorm(nn.Module):
    """LayerNorm over the channels of a map."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6).movedim(-1, 1)


class Block(nn.Module):
    """Only the second block of the network has a fault."""

    def __init__(self, channels, fault):
        super().__init__()
        self.fault = fault
        kernel = 5 if fault == "kernel5" else 7
        if fault != "no_scale":
            self.ls = nn.Parameter(torch.ones(channels) * 1e-6)
        self.dw = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=fault != "dw_no_bias",
                            groups=channels // 2 if fault == "groups" else channels,
                            padding_mode="reflect" if fault == "reflect" else "zeros")
        if fault.startswith("norm_"):
            self.n = HandNorm(channels, fault)
        else:
            self.n = nn.BatchNorm2d(channels) if fault == "batch_norm" else nn.LayerNorm(
                channels, eps=1e-5 if fault == "eps" else 1e-6)
        if fault == "group_norm":
            self.n = nn.GroupNorm(1, channels, eps=1e-6)
        hidden = 3 * channels if fault == "expand3" else 4 * channels
        self.a, self.b = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def normed(self, x):
        if self.fault in ("batch_norm", "group_norm"):
            return self.n(x).permute(0, 2, 3, 1)
        x = x.permute(0, 3, 2, 1) if self.fault == "turned_in" else x.permute(0, 2, 3, 1)
        return x if self.fault == "no_norm" else self.n(x)

    def act(self, x):
        if self.fault == "no_act":
            return x
        if self.fault == "tanh":
            return F.gelu(x, approximate="tanh")
        return {"relu": F.relu, "silu": F.silu, "relu6": F.relu6, "hardswish": F.hardswish, "elu": F.elu,
                "leaky": F.leaky_relu, "softplus": F.softplus}.get(self.fault, F.gelu)(x)

    def forward(self, x):
        y = self.dw(x)
        start = y if self.fault == "skip_late" else x
        if self.fault == "dw_relu":
            y = F.relu(y)
        y = self.b(self.act(self.a(self.normed(y))))
        if self.fault == "act_end":
            y = F.gelu(y)
        y = y.permute(0, 3, 2, 1) if self.fault == "turned_back" else y.permute(0, 3, 1, 2)
        if self.fault == "viewed_back":
            y = y.permute(0, 2, 3, 1).reshape(x.shape)
        if self.fault == "no_scale":
            return x + y
        scale = self.ls[:, None, None]
        if self.fault == "scale_added":
            return x + (y + scale)
        if self.fault == "scale_twice":
            return x + y * scale * scale
        if self.fault == "scale_shortcut":
            return x * scale + y
        if self.fault == "scale_sum":
            return (x + y) * scale
        if self.fault == "scale_plus":
            return x + y * (1 + scale)
        if self.fault == "scale_divides":
            return x + y / scale
        if self.fault == "scale_sigmoid":
            return x + y * scale.sigmoid()
        if self.fault == "no_skip":
            return y * scale
        if self.fault == "skip_minus":
            return x - y * scale
        if self.fault == "skip_twice":
            return 2 * x + y * scale
        if self.fault == "skip_times":
            return x * (y * scale)
        return start + y * scale


class Net(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.s, self.sn = nn.Conv2d(3, 16, 4, 4), MapNorm(16)
        self.st = nn.ModuleList(nn.ModuleList(Block(c, fault if (c, i) == (16, 1) else "") for i in range(n))
                                for c, n in zip(WIDTHS, DEPTHS, strict=True))
        if fault == "down_order":
            self.dc, self.dn = nn.Conv2d(16, 32, 2, 2), MapNorm(32)
        elif fault == "down3":
            self.dn, self.dc = MapNorm(16), nn.Conv2d(16, 32, 3, 2, 1)
        else:
            self.dn, self.dc = MapNorm(16), nn.Conv2d(16, 32, 2, 2)
        self.n, self.fc = nn.LayerNorm(32, eps=1e-6), nn.Linear(32, 5)

    def down(self, x):
        if self.fault == "down_order":
            return self.dn(self.dc(x))
        x = self.dn(x)
        return self.dc(F.gelu(x) if self.fault == "down_act" else x)

    def head(self, x):
        if self.fault == "pool_max":
            return self.n(x.amax((2, 3)))
        if self.fault == "pool_first":
            return self.n(x[:, :, 0, 0])
        if self.fault == "pool_rows":
            return self.n(x.mean(3)[:, :, 0])
        if self.fault == "pool_after_norm":
            return self.n(x.movedim(1, -1)).mean((1, 2))
        if self.fault == "no_last_norm":
            return x.mean((2, 3))
        x = self.n(x.mean((2, 3)))
        return F.relu(x) if self.fault == "head_relu" else x

    def forward(self, x):
        x = self.s(x)
        if self.fault == "stem_gelu":
            x = F.gelu(x)
        if self.fault != "no_stem_norm":
            x = self.sn(x)
        for i, stage in enumerate(self.st):
            if i:
                x = self.down(x)
            for block in stage:
                x = block(x)
        x = self.fc(self.head(x))
        return x.log_softmax(1) if self.fault == "log_softmax_end" else x


def reference():
    return ConvNeXt([CNBlockConfig(16, 32, DEPTHS[0]), CNBlockConfig(32, None, DEPTHS[1])], num_classes=5)


ACT = at("st.0.1.a", "st.0.1.b")
NORM = at("st.0.1.dw", "st.0.1.n", "st.0.1.a")
END = at("st.0.1.b", "st.0.1.ls", "st.0.2.dw", "st.0.1")
POOL = at("n", "fc", "st.1.1.b", "st.1.1.ls", "st.1.1")
AXES = all_of("norm|mean|variance", r"\baxis|\baxes|\bover\b|\bdim", "reference|channels")
GATE = r"layer.?scale|`st\.0\.1\.ls`|`st\.0\.1`|`ls`"

FAULTS = (
    Fault("dw_no_bias", "depthwise without bias", at("st.0.1.dw"), instead("no bias", "bias")),
    Fault("kernel5", "5x5 for 7x7", at("st.0.1.dw"), instead("5x5.*", "7x7")),
    Fault("groups", "two channels a group", at("st.0.1.dw"), instead("groups 8", "groups 16")),
    Fault("reflect", "padded by reflection", at("st.0.1.dw"), instead(".*reflect", ".*zeros")),
    Fault("eps", "eps 1e-5", at("st.0.1.n"), instead("eps 1e-05", "(?:eps )?1e-06")),
    Fault("no_norm", "norm declared, not called", NORM, all_of("norm", "missing|not called|without|never")),
    Fault("batch_norm", "BatchNorm for LayerNorm", NORM, instead("BatchNorm2d.*", "LayerNorm")),
    Fault("group_norm", "GroupNorm over everything for LayerNorm", NORM, instead("GroupNorm.*", "LayerNorm")),
    Fault("expand3", "three times the channels, not four", at("st.0.1.a"), instead("48", "64")),
    Fault("relu", "ReLU for GELU", ACT, instead("ReLU", "GELU")),
    Fault("relu6", "ReLU6 for GELU", ACT, instead("ReLU6", "GELU")),
    Fault("silu", "SiLU for GELU", ACT, instead("SiLU", "GELU")),
    Fault("hardswish", "Hardswish for GELU", ACT, instead("Hardswish", "GELU")),
    Fault("elu", "ELU for GELU", ACT, instead(r"ELU.*", "GELU")),
    Fault("leaky", "LeakyReLU for GELU", ACT, instead("LeakyReLU.*", "GELU")),
    Fault("softplus", "Softplus for GELU", ACT, instead("Softplus", "GELU")),
    Fault("tanh", "GELU in its tanh form", ACT, instead("GELU.*tanh", "GELU")),
    Fault("no_act", "no activation", ACT, missing("GELU")),
    Fault("act_end", "GELU behind the block", END, extra("GELU") + "|" + instead("GELU", "no activation")),
    Fault("dw_relu", "ReLU behind the depthwise convolution", NORM,
          extra("ReLU") + "|" + instead("ReLU", "no activation")),
    Fault("norm_all", "LayerNorm over C, H and W", NORM, AXES),
    Fault("norm_pixels", "norm over H and W", NORM, AXES),
    Fault("norm_batch", "norm over N, H and W", NORM, AXES),
    Fault("norm_rows", "norm over H", NORM, AXES),
    Fault("norm_columns", "norm over W", NORM, AXES),
    Fault("norm_unbiased", "unbiased variance in a LayerNorm by hand", NORM,
          all_of(r"unbiased|correction|n - 1|sample variance|times (?:0\.96\d|1\.03\d)|variance")),
    Fault("norm_eps_std", "eps added to the deviation, and 1e-2", NORM, all_of(r"\beps|deviation|\bstd\b")),
    Fault("norm_no_root", "divided by the variance, not by its root", NORM,
          all_of(r"\broot|deviation|\bstd\b|variance")),
    Fault("norm_no_mean", "the mean is not subtracted", NORM, all_of(r"\bmean\b")),
    Fault("norm_rms", "RMSNorm for LayerNorm", NORM, all_of(r"\bmean\b|RMS")),
    Fault("norm_no_var", "not divided by the deviation", NORM, all_of(r"variance|deviation|\bstd\b|divi")),
    Fault("norm_abs", "divided by the mean absolute value", NORM, all_of(r"variance|deviation|\bstd\b|divi")),
    Fault("norm_no_bias", "bias of the norm not used", NORM, all_of(r"\bbias|shift")),
    Fault("norm_weight_plus", "1 + weight in the norm", NORM, all_of(r"1 \+|plus 1|plus one|\bweight")),
    Fault("no_scale", "no layer scale", END, all_of("layer_scale", "missing|without")),
    Fault("scale_added", "layer scale added", END, all_of(r"add|plus|sum", r"times|multipl|scal")),
    Fault("scale_twice", "times the layer scale twice", END, all_of(r"twice|square|two times|2 times|times .* times")),
    Fault("scale_shortcut", "layer scale on the shortcut", END, all_of(GATE, "times|multipl|scal")),
    Fault("scale_sum", "layer scale on the sum", END, all_of(GATE, "times|multipl|scal", "sum|addition|plus|shortcut")),
    Fault("scale_plus", "1 + layer scale", END, all_of(r"1 \+|plus 1|plus one|\+ 1|adds 1 to")),
    Fault("scale_divides", "divided by the layer scale", END, all_of(r"divi")),
    Fault("scale_sigmoid", "sigmoid of the layer scale", END, extra("Sigmoid") + "|" + instead("Sigmoid.*", GATE)),
    Fault("turned_in", "H and W swapped in the permute before the norm", NORM, PIXEL_ORDER),
    Fault("turned_back", "H and W swapped in the permute on the way back", END, PIXEL_ORDER),
    Fault("viewed_back", "viewed back for permuted back", END, PIXEL_ORDER + "|(?i:permut|reshape|view)"),
    Fault("no_skip", "no shortcut", END, NO_SHORTCUT),
    Fault("skip_late", "the shortcut starts behind the depthwise convolution", END,
          all_of(r"`st\.0\.1\.dw`", "output of `st\\.0\\.1\\.dw`|after|behind", "shortcut|add|plus|sum|made from")),
    Fault("skip_minus", "the branch is subtracted", END, all_of(r"subtract|minus|times -1|sign")),
    Fault("skip_twice", "the shortcut is added twice", END, all_of(r"twice|two times|times 2|2 times")),
    Fault("skip_times", "times the shortcut", END, instead(".*(?:times|multipl|product).*", ".*(?:add|plus|sum).*")),
    Fault("down_order", "convolution before the norm", at("st.0.2.b", "st.0.2.ls", "st.0.2", "dc", "dn"),
          all_of("norm", "missing|too many|order|before|after")),
    Fault("down3", "3x3 with padding 1 between the stages", at("dc"), instead("3x3.*", "2x2")),
    Fault("down_act", "GELU between the stages", gap("dn", "dc"),
          extra("GELU") + "|" + instead("GELU", "no activation")),
    Fault("stem_gelu", "GELU in the stem", at("s", "sn"), extra("GELU") + "|" + instead("GELU", "no activation")),
    Fault("no_stem_norm", "norm of the stem not called", at("s", "sn", "st.0.0.dw"), all_of("norm", "missing|without")),
    Fault("pool_max", "max for mean", POOL, instead(".*max.*", ".*(?:average|mean).*")),
    Fault("pool_first", "first pixel for the mean", POOL,
          all_of(r"first|pixel|\[0|part|corner|slice|select", "average|mean")),
    Fault("pool_rows", "mean of the first row", POOL, all_of("average|mean", "row|axis|axes|width|over")),
    Fault("pool_after_norm", "pooled behind the norm, not before", POOL,
          all_of("pool|mean|average", "before|after|behind|order|norm")),
    Fault("no_last_norm", "last norm not called", POOL, all_of("norm", "missing|without")),
    Fault("head_relu", "ReLU before the classifier", gap("n", "fc"),
          extra("ReLU") + "|" + instead("ReLU", "no activation")),
    Fault("log_softmax_end", "log_softmax at the end", at("fc"),
          extra("Log.?Softmax") + "|" + instead("Log.?Softmax", "no activation")),
)

ON_OBLONG = tuple(Fault(f"turned_{way}", f"H and W swapped on the way {way}, of a map that is not square",
                        r"`st\.0\.1(?:\.\w+)?`", PIXEL_ORDER) for way in ("in", "back"))

PAIRS = (Pair("convnext/torchvision", Net, reference, (2, 3, 64, 64), FAULTS),
         Pair("convnext/torchvision, not square", Net, reference, (2, 3, 48, 64), ON_OBLONG))
