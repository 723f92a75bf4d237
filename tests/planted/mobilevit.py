"""MobileViT-XXS against the course's."""
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from planted import Fault, Pair
from planted.sentences import (
    HEADS_ORDER,
    KEYS,
    NO_SHORTCUT,
    PIXEL_ORDER,
    QUERIES,
    SCALE,
    SOFTMAX_AXIS,
    VALUES,
    all_of,
    at,
    exchanged,
    extra,
    instead,
    missing,
)


def cbs(i, o, k=1, stride=1, groups=1, act=True):
    layers = [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *[nn.SiLU()] * act)


class MV2(nn.Module):
    def __init__(self, i, o, stride=1, fault=""):
        super().__init__()
        self.fault, self.add = fault, stride == 1 and i == o
        self.e, self.d, self.p = cbs(i, 2 * i), cbs(2 * i, 2 * i, 3, stride, 2 * i), cbs(2 * i, o, act=False)
        if fault == "mv2_relu6":
            self.e[2] = nn.ReLU6()
        if fault == "mv2_act_end":
            self.p.append(nn.SiLU())
        if fault == "mv2_no_act":
            del self.d[2]

    def forward(self, x):
        y = self.p(self.d(self.e(x)))
        if self.fault == "mv2_skip_minus":
            return y - x
        return x + y if self.add and self.fault != "mv2_no_skip" else y


class Attention(nn.Module):
    def __init__(self, c, fault):
        super().__init__()
        self.fault = fault
        self.q, self.o = nn.Linear(c, 3 * c, bias=fault != "qkv_no_bias"), nn.Linear(c, c)

    def split(self, x):
        n, t, c = x.shape
        heads = {"heads2": 2, "heads8": 8}.get(self.fault, 4)
        y = self.q(x)
        if self.fault == "heads_first":
            return y.view(n, t, heads, 3, -1).permute(3, 0, 2, 1, 4)
        if self.fault == "heads_last":
            return y.view(n, t, 3, -1, heads).permute(2, 0, 4, 1, 3)
        if self.fault == "triples":
            return y.view(n, t, heads, -1, 3).permute(4, 0, 2, 1, 3)
        q, k, v = y.view(n, t, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if self.fault == "kv_swapped":
            k, v = v, k
        if self.fault == "kq":
            q, k = k, q
        return q, k, v

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.split(x)
        scale = {"scale_c": c ** -0.5, "no_scale": 1.0, "scale_square": 1 / q.shape[-1],
                 "scale_tokens": t ** -0.5}.get(self.fault, q.shape[-1] ** -0.5)
        scores = q @ k.mT * scale
        if self.fault == "causal":
            scores = scores + torch.full((t, t), -1e4).triu(1)
        weights = scores.softmax({"softmax_heads": 1, "softmax_queries": 2, "softmax_batch": 0}.get(self.fault, 3))
        if self.fault == "sigmoid":
            weights = scores.sigmoid()
        y = weights @ v
        y = y.reshape(n, t, c) if self.fault == "no_transpose" else y.transpose(1, 2).reshape(n, t, c)
        if self.fault == "merge_channels":
            y = (weights @ v).permute(0, 2, 3, 1).reshape(n, t, c)
        return self.o(F.silu(y) if self.fault == "silu_before_o" else y)


class Layer(nn.Module):
    def __init__(self, c, fault):
        super().__init__()
        self.fault = fault
        eps = 1e-6 if fault == "eps" else 1e-5
        self.n1, self.at = nn.LayerNorm(c, eps=eps), Attention(c, fault)
        self.n2, self.f1, self.f2 = nn.LayerNorm(c, eps=eps), nn.Linear(c, 2 * c), nn.Linear(2 * c, c)

    def forward(self, x):
        if self.fault == "post_norm":
            x = self.n1(x + self.at(x))
            return self.n2(x + self.f2(F.silu(self.f1(x))))
        normed = self.n1(x)
        y = self.at(normed)
        start = normed if self.fault == "skip_normed" else x
        x = y if self.fault == "attention_no_skip" else start + y
        y = self.f1(self.n2(x))
        if self.fault == "gelu":
            y = F.gelu(y)
        elif self.fault == "relu":
            y = F.relu(y)
        elif self.fault != "no_act":
            y = F.silu(y)
        y = self.f2(y)
        if self.fault == "mlp_twice":
            return x + 2 * y
        return y if self.fault == "mlp_no_skip" else x + y


class Block(nn.Module):
    def __init__(self, c, d, depth, fault):
        super().__init__()
        self.fault = fault
        self.a, self.b = cbs(c, c, 3), nn.Conv2d(c, d, 1, bias=False)
        self.t = nn.ModuleList(Layer(d, fault if i == 0 else "") for i in range(depth))
        self.n, self.c, self.d = nn.LayerNorm(d), cbs(d, c), cbs(2 * c, c, 3)

    def unfold(self, x):
        n, c, h, w = x.shape
        if self.fault == "inside_patches":
            return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        if self.fault == "all_pixels":
            return x.flatten(2).transpose(1, 2)
        if self.fault == "bands":
            return x.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1).reshape(n * 4, h * w // 4, c)
        if self.fault == "unfold_view":
            return x.reshape(n * 4, h * w // 4, c)
        x = x.view(n, c, h // 2, 2, w // 2, 2)
        if self.fault == "patches_turned":
            return x.permute(0, 5, 3, 2, 4, 1).reshape(n * 4, h * w // 4, c)
        if self.fault == "tokens_turned":
            return x.permute(0, 3, 5, 4, 2, 1).reshape(n * 4, h * w // 4, c)
        return x.permute(0, 3, 5, 2, 4, 1).reshape(n * 4, h * w // 4, c)

    def fold(self, x, n, h, w):
        c = x.shape[-1]
        if self.fault == "inside_patches":
            return x.view(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        if self.fault == "all_pixels":
            return x.transpose(1, 2).reshape(n, c, h, w)
        if self.fault == "bands":
            return x.view(n, 2, 2, h // 2, w // 2, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        if self.fault in ("unfold_view", "fold_view"):
            return x.reshape(n, c, h, w)
        x = x.view(n, 2, 2, h // 2, w // 2, c)
        if self.fault == "fold_turned":
            return x.permute(0, 5, 3, 2, 4, 1).reshape(n, c, h, w)
        if self.fault == "fold_bands":
            return x.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)
        return x.permute(0, 5, 3, 1, 4, 2).reshape(n, c, h, w)

    def forward(self, x):
        local = self.a(x)
        y = self.b(F.relu(local) if self.fault == "local_relu" else local)
        n, _, h, w = y.shape
        y = self.unfold(y)
        for layer in self.t:
            y = layer(y)
        if self.fault != "no_norm":
            y = self.n(y)
        if self.fault in ("patches_turned", "tokens_turned"):  # right again: only the sequences differ
            y = y.view(n, 2, 2, -1, y.shape[-1])
            if self.fault == "patches_turned":
                y = y.transpose(1, 2)
            else:
                y = y.unflatten(3, (w // 2, h // 2)).transpose(3, 4).flatten(3, 4)
            y = y.flatten(0, 2)
        y = self.c(self.fold(y, n, h, w))
        if self.fault == "cat_order":
            return self.d(torch.cat([y, x], 1))
        if self.fault == "cat_local":
            return self.d(torch.cat([local, y], 1))
        if self.fault == "cat_same":
            return self.d(torch.cat([x, x + y], 1))
        if self.fault == "fuse_skip":
            return x + self.d(torch.cat([x, y], 1))
        return self.d(torch.cat([x, y], 1))


class Net(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.stem = cbs(3, 16, 3, 2)
        self.m = nn.ModuleList([MV2(16, 16, fault=fault), MV2(16, 24, 2), MV2(24, 24), MV2(24, 24), MV2(24, 48, 2),
                                Block(48, 64, 2, fault), MV2(48, 64, 2), Block(64, 80, 4, ""), MV2(64, 80, 2),
                                Block(80, 96, 3, "")])
        self.h, self.fc = cbs(80, 320), nn.Linear(320, 5)

    def forward(self, x):
        x = self.stem(x)
        for m in self.m:
            x = m(x)
        x = self.h(x)
        return self.fc(x.amax((2, 3)) if self.fault == "pool_max" else x.mean((2, 3)))


ATTENTION = at("m.5.t.0.at.q", "m.5.t.0.at.o")
UNFOLD = at("m.5.b", "m.5.t.0.n1")
FOLD = at("m.5.n", "m.5.c.0")
AFTER_ATTENTION = at("m.5.t.0.at.o", "m.5.t.0.n2")
MLP = at("m.5.t.0.f1", "m.5.t.0.f2")
AFTER_MLP = at("m.5.t.0.f2", "m.5.t.1.n1")
FUSE = at("m.5.c.1", "m.5.d.0")
AFTER_MV2 = at("m.0.p.1", "m.1.e.0")
PATCHES = PIXEL_ORDER + "|" + all_of("pixels?|patch|positions?|tokens?|rows|columns", "order|another|sequence|grouped")

FAULTS = (
    Fault("cat_order", "cat((y, x)) in the fusion", FUSE, all_of("concatenated", "order")),
    Fault("cat_local", "the fusion takes local features, not the input", at("m.5.a.0", "m.5.d.0", "m.5.c.1"),
          all_of(r"calls it once more|made from|concatenat.*`m\.5\.a\.|`m\.5\.a\.[012]`|instead of the input")),
    Fault("cat_same", "the sum in place of the maps in the fusion", FUSE,
          all_of(r"add|plus|sum|shortcut", "concat|one too many|no addition|has no|reference")),
    Fault("fuse_skip", "shortcut around the whole block", at("m.5.d.1", "m.6.e.0"),
          extra("shortcut|addition|sum") + "|" + all_of("add|plus|sum|shortcut", "reference.*(?:no|not|only|is)")),
    Fault("gelu", "GELU in the MLP", MLP, instead("GELU", "SiLU")),
    Fault("relu", "ReLU in the MLP", MLP, instead("ReLU", "SiLU")),
    Fault("no_act", "no activation in the MLP", MLP, missing("SiLU")),
    Fault("mlp_no_skip", "no shortcut around the MLP", AFTER_MLP, NO_SHORTCUT),
    Fault("mlp_twice", "twice the MLP", AFTER_MLP, SCALE + "|(?i:twice|times 2)"),
    Fault("attention_no_skip", "no shortcut around the attention", AFTER_ATTENTION, NO_SHORTCUT),
    Fault("skip_normed", "shortcut from behind the norm", AFTER_ATTENTION,
          all_of(r"`m\.5\.t\.0\.n1`", "shortcut|add|plus|sum|made from|instead")),
    Fault("qkv_no_bias", "qkv without bias", at("m.5.t.0.at.q"), instead("no bias", "bias")),
    Fault("eps", "LayerNorm with eps 1e-6", at("m.5.t.0.n1"), instead("eps 1e-06", "(?:eps )?1e-05")),
    Fault("post_norm", "norm behind the addition", at("m.5.b", "m.5.t.0.n1", "m.5.t.0.at.q", "m.5.t.0.at.o"),
          all_of("norm", "missing|order|before|after|behind")),
    Fault("no_norm", "last norm of the block not called", at("m.5.n", "m.5.c.0", "m.5.t.1.f2"),
          all_of("norm", "missing|without")),
    Fault("silu_before_o", "SiLU before the projection", ATTENTION,
          extra("SiLU") + "|" + instead("SiLU", "no activation")),
    Fault("heads_first", "qkv split as (heads, 3, d)", ATTENTION, HEADS_ORDER),
    Fault("heads_last", "qkv split as (3, d, heads)", ATTENTION, HEADS_ORDER),
    Fault("triples", "qkv split as (heads, d, 3)", ATTENTION, HEADS_ORDER + "|" + exchanged(QUERIES, KEYS)),
    Fault("no_transpose", "heads not transposed back", ATTENTION, HEADS_ORDER),
    Fault("merge_channels", "heads merged as (d, heads)", ATTENTION, HEADS_ORDER),
    Fault("heads2", "two heads", ATTENTION, all_of(r"\b(?:2|two) heads", r"reference.*\b(?:4|four)\b")),
    Fault("heads8", "eight heads", ATTENTION, all_of(r"\b(?:8|eight) heads", r"reference.*\b(?:4|four)\b")),
    Fault("kv_swapped", "k and v exchanged", ATTENTION, exchanged(KEYS, VALUES)),
    Fault("kq", "q and k exchanged", ATTENTION, exchanged(QUERIES, KEYS) + r"|transpos.*scores|scores.*transpos"),
    Fault("scale_c", "scale 1/sqrt(C)", ATTENTION, SCALE),
    Fault("no_scale", "no scale", ATTENTION, SCALE),
    Fault("scale_square", "scale 1/d", ATTENTION, SCALE),
    Fault("scale_tokens", "scale 1/sqrt(T)", ATTENTION, SCALE),
    Fault("causal", "causal mask", ATTENTION, all_of("causal|mask")),
    Fault("softmax_heads", "softmax over the heads", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_queries", "softmax over the queries", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_batch", "softmax over the sequences", ATTENTION, SOFTMAX_AXIS),
    Fault("sigmoid", "sigmoid for softmax", ATTENTION, instead("sigmoid", "softmax")),
    Fault("inside_patches", "attends inside each patch", UNFOLD, r"\(64, 4, 64\).*\(8, 32, 64\)"),
    Fault("all_pixels", "attends over all pixels", UNFOLD, r"\(2, 128, 64\).*\(8, 32, 64\)"),
    Fault("bands", "unfolds into quarters of the map", UNFOLD, PATCHES),
    Fault("unfold_view", "unfolds by a view", UNFOLD, PATCHES + "|(?i:reshape|view|permut)"),
    Fault("fold_turned", "fold swaps rows and columns of a patch", FOLD, PATCHES),
    Fault("fold_bands", "fold into quarters of the map", FOLD, PATCHES),
    Fault("fold_view", "fold by a view", FOLD, PATCHES + "|(?i:reshape|view|permut)"),
    Fault("local_relu", "ReLU behind the local features", at("m.5.a.1", "m.5.b"),
          extra("ReLU") + "|" + instead("ReLU.*", "SiLU|no activation")),
    Fault("mv2_no_skip", "first MV2 without shortcut", AFTER_MV2, NO_SHORTCUT),
    Fault("mv2_skip_minus", "shortcut of the first MV2 subtracted", AFTER_MV2, all_of(r"subtract|minus|times -1|sign")),
    Fault("mv2_relu6", "ReLU6 in an MV2", at("m.0.e.1", "m.0.d.0"), instead("ReLU6", "SiLU")),
    Fault("mv2_no_act", "no activation behind the depthwise", at("m.0.d.1", "m.0.p.0"), missing("SiLU")),
    Fault("mv2_act_end", "SiLU behind the projection", AFTER_MV2,
          extra("SiLU") + "|" + instead("SiLU", "no activation")),
    Fault("pool_max", "max for mean", at("fc", "h.1"), instead(".*max.*", ".*(?:average|mean).*")),
)


def turned(order):
    return lambda fault: Net(fault or order)


PAIRS = (
    Pair("mobilevit_xxs/course", Net, lambda: lw.create_model("mobilevit_xxs", num_classes=5), (2, 3, 64, 128), FAULTS),
    Pair("mobilevit_xxs, pixels of a patch by columns/course", turned("patches_turned"),
         lambda: lw.create_model("mobilevit_xxs", num_classes=5), (2, 3, 64, 128)),
    Pair("mobilevit_xxs, patches by columns/course", turned("tokens_turned"),
         lambda: lw.create_model("mobilevit_xxs", num_classes=5), (2, 3, 64, 128)),
)
