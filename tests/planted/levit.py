"""LeViT on tokens, as the official code has it, against the course's on maps, timm's, and itself."""
import timm
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

SIDE = 96  # of the image in pixels; maps of 6, 3 and 2
KEY = 16
FAULTY = (2, 3, 4)  # operations with a fault: an attention, an MLP, a shrinking attention


class LinearBN(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.l, self.b = nn.Linear(i, o, bias=False), nn.BatchNorm1d(o)

    def forward(self, x):
        x = self.l(x)
        return self.b(x.flatten(0, 1)).reshape_as(x)


def offsets(side, stride, fault):
    """Index of the bias of a query and a key."""
    where = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    queries = torch.cartesian_prod(torch.arange(0, side, stride), torch.arange(0, side, stride))
    d = queries[:, None] - where[None]
    if fault != "bias_signed":
        d = d.abs()
    if fault == "bias_turned":
        return d[..., 1] * side + d[..., 0]
    if fault == "bias_sum":
        return d[..., 0] + d[..., 1]
    if fault == "bias_max":
        return d.amax(-1)
    return (d[..., 0] * side + d[..., 1]) % (side * side)


class Attention(nn.Module):
    def __init__(self, i, o, heads, side, stride=1, fault=""):
        super().__init__()
        self.heads, self.side, self.stride, self.fault = heads, side, stride, fault
        self.value = KEY * (2 if stride == 1 else 4)
        self.ab = nn.Parameter(torch.zeros(heads, side * side))
        if stride == 1:
            self.qkv = LinearBN(i, heads * (2 * KEY + self.value))
        else:
            self.kv, self.q = LinearBN(i, heads * (KEY + self.value)), LinearBN(i, heads * KEY)
        self.proj = LinearBN(heads * self.value, o)
        self.register_buffer("idx", offsets(side, stride, fault), persistent=False)

    def split(self, x, *sizes):
        n, t, _ = x.shape
        if self.fault == "split":
            parts = x.split([self.heads * size for size in sizes], -1)
            return [part.view(n, t, self.heads, -1).transpose(1, 2) for part in parts]
        if self.fault == "heads_last":
            x = x.view(n, t, -1, self.heads).permute(0, 3, 1, 2)
        elif self.fault == "heads_view":
            x = x.reshape(n, self.heads, t, -1)
        else:
            x = x.view(n, t, self.heads, -1).transpose(1, 2)
        return x.split(sizes, -1)

    def queries_keys_values(self, x):
        n, _, c = x.shape
        if self.stride == 1:
            if self.fault == "kqv":
                k, q, v = self.split(self.qkv(x), KEY, KEY, self.value)
            elif self.fault == "vqk":
                v, q, k = self.split(self.qkv(x), self.value, KEY, KEY)
            else:
                q, k, v = self.split(self.qkv(x), KEY, KEY, self.value)
            return q, k, v
        if self.fault == "shrink_vk":
            v, k = self.split(self.kv(x), self.value, KEY)
        else:
            k, v = self.split(self.kv(x), KEY, self.value)
        maps = x.view(n, self.side, self.side, c)
        if self.fault == "shrink_odd":
            maps = maps[:, 1::2, 1::2]
        elif self.fault == "shrink_first":
            half = (self.side + 1) // 2
            maps = maps[:, :half, :half]
        elif self.fault == "shrink_mean":
            maps = F.avg_pool2d(maps.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        else:
            maps = maps[:, ::2, ::2]
        q, = self.split(self.q(maps.reshape(n, -1, c)), KEY)
        return q, k, v

    def attend(self, q, k, v):
        fault = self.fault
        scale = {"no_scale": 1.0, "scale_width": (KEY * self.heads) ** -0.5, "scale_value": self.value ** -0.5,
                 "scale_square": 1 / KEY}.get(fault, KEY ** -0.5)
        bias = self.ab[:, self.idx]
        scores = q @ k.transpose(-2, -1)
        if fault == "scale_after_bias":
            scores = (scores + bias) * scale
        elif fault == "no_bias":
            scores = scores * scale
        elif fault == "bias_minus":
            scores = scores * scale - bias
        elif fault == "bias_times":
            scores = scores * scale * bias
        elif fault == "bias_twice":
            scores = scores * scale + 2 * bias
        elif fault == "bias_after":
            return ((scores * scale).softmax(-1) + bias) @ v
        else:
            scores = scores * scale + bias
        if fault == "sigmoid":
            return scores.sigmoid() @ v
        if fault == "no_softmax":
            return scores @ v
        return scores.softmax({"softmax_queries": -2, "softmax_heads": 1, "softmax_batch": 0}.get(fault, -1)) @ v

    def forward(self, x):
        y = self.attend(*self.queries_keys_values(x))
        n, _, t, _ = y.shape
        y = y.reshape(n, t, -1) if self.fault == "no_transpose" else y.transpose(1, 2).reshape(n, t, -1)
        if self.fault == "merge_channels":
            y = y.view(n, t, self.heads, -1).transpose(2, 3).reshape(n, t, -1)
        if self.fault == "proj_after":
            return F.hardswish(self.proj(y))
        if self.fault == "proj_gelu":
            y = F.gelu(y)
        elif self.fault == "proj_relu":
            y = F.relu(y)
        elif self.fault == "proj_silu":
            y = F.silu(y)
        elif self.fault != "proj_none":
            y = F.hardswish(y)
        return self.proj(y)


class MLP(nn.Sequential):
    def __init__(self, channels, fault):
        super().__init__(LinearBN(channels, 2 * channels), LinearBN(2 * channels, channels))
        self.fault = fault

    def forward(self, x):
        x = self[0](x)
        if self.fault == "mlp_relu":
            x = F.relu(x)
        elif self.fault == "mlp_gelu":
            x = F.gelu(x)
        elif self.fault != "mlp_none":
            x = F.hardswish(x)
        x = self[1](x)
        return F.hardswish(x) if self.fault == "mlp_end" else x


class LeViT(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        widths = (3, 16, 32, 64, 128)
        self.st = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o))
                                for i, o in zip(widths, widths[1:], strict=False))
        ops, side = [], SIDE // 16
        for width, heads, pairs, wider in ((128, 4, 2, 256), (256, 6, 3, 384), (384, 8, 4, None)):
            for _ in range(pairs):
                ops.append(Attention(width, width, heads, side, fault=fault if len(ops) in FAULTY else ""))
                ops.append(MLP(width, fault if len(ops) in FAULTY else ""))
            if wider:
                late = "shrink_odd" if fault == "shrink_odd_late" and len(ops) == 12 else ""
                ops.append(Attention(width, wider, width // KEY, side, 2, fault if len(ops) in FAULTY else late))
                ops.append(MLP(wider, ""))
                side = (side + 1) // 2
        self.ops = nn.ModuleList(ops)
        self.hb, self.hl = nn.BatchNorm1d(384), nn.Linear(384, 5)
        self.hb2, self.hl2 = nn.BatchNorm1d(384), nn.Linear(384, 5)

    def stem(self, x):
        for i, layers in enumerate(self.st):
            x = layers(x)
            if i < 3 or self.fault == "stem_act":
                x = F.relu(x) if self.fault == "stem_relu" and i == 1 else F.hardswish(x)
        if self.fault == "columns":
            x = x.transpose(2, 3)
        if self.fault == "viewed":
            return x.reshape(len(x), -1, x.shape[1])
        return x.flatten(2).transpose(1, 2)

    def step(self, i, op, x):
        y = op(x)
        if isinstance(op, Attention) and op.stride == 2:
            return y
        fault = self.fault if i in FAULTY else ""
        kind = "mlp" if isinstance(op, MLP) else "attention"
        if fault == f"{kind}_no_skip":
            return y
        if fault == f"{kind}_skip_minus":
            return x - y
        if fault == f"{kind}_skip_twice":
            return x + x + y
        return x + y

    def forward(self, x):
        x = self.stem(x)
        for i, op in enumerate(self.ops):
            x = self.step(i, op, x)
        if self.fault == "pool_max":
            x = x.amax(1)
        elif self.fault == "pool_first":
            x = x[:, 0]
        elif self.fault == "pool_sum":
            x = x.sum(1)
        else:
            x = x.mean(1)
        if self.fault == "one_head":
            y = self.hl(self.hb(x))
            self.hl2(self.hb2(x))
            return y
        if self.fault == "one_norm":
            y = self.hb(x)
            self.hb2(x)
            return (self.hl(y) + self.hl2(y)) / 2
        y = self.hl(self.hb(x)), self.hl2(self.hb2(x))
        if self.fault == "head_sum":
            return y[0] + y[1]
        if self.fault == "head_max":
            return torch.maximum(*y)
        if self.fault == "head_minus":
            return (y[0] - y[1]) / 2
        return (y[0] + y[1]) / 2


def of_course():
    return lw.create_model("levit_128s", num_classes=5, image_size=SIDE)


def of_timm():
    return timm.create_model("levit_128s", num_classes=5, img_size=SIDE)


ATTENTION = at("ops.2.qkv.b", "ops.2.proj.l", "ops.2.ab", "ops.2")
BIAS = r"\bbias(?:es)?\b|`ops\.2\.ab`|`ops\.2`|`ab`"
SHRINK = at("ops.4.kv.b", "ops.4.q.l", "ops.4.q.b", "ops.4.proj.l", "ops.4.ab", "ops.4", "ops.3.1.b", "ops.4.kv.l")
AFTER = at("ops.2.proj.b", "ops.3.0.l")
IN_MLP = at("ops.3.0.b", "ops.3.1.l")
AFTER_MLP = at("ops.3.1.b", "ops.4.kv.l")
STEM = at("st.3.1", "ops.0.qkv.l")
POOL = at("ops.21.1.b", "hb")
END = at("hl2", "hl", "hb2", "hb")


def no_activation(name):
    return extra(name) + "|" + instead(name, "no activation")


FAULTS = (
    Fault("bias_turned", "bias of dx * side + dy", ATTENTION, all_of(BIAS, r"order|index|transpos|row|turn|entries")),
    Fault("bias_signed", "signed offsets", ATTENTION, all_of(BIAS, r"order|index|sign|entries|differ")),
    Fault("bias_sum", "bias of dx + dy", ATTENTION, all_of(BIAS, r"order|index|entries")),
    Fault("bias_max", "bias of the larger distance", ATTENTION, all_of(BIAS, r"order|index|entries")),
    Fault("no_bias", "bias of attention not used", ATTENTION, all_of(r"bias|`ops\.2\.ab`", "missing|without|not used")),
    Fault("bias_minus", "bias subtracted", ATTENTION, all_of(r"subtract|minus|times -1|sign")),
    Fault("bias_times", "times the bias", ATTENTION,
          all_of("times|multipl|product", r"\badd|plus|sum")),
    Fault("bias_twice", "bias twice", ATTENTION, all_of(BIAS, "twice|two times|times 2|2 times|by 2")),
    Fault("bias_after", "bias behind the softmax", ATTENTION, all_of("bias", "softmax", "before|after|behind")),
    Fault("split", "q, k and v split before the heads", ATTENTION, HEADS_ORDER),
    Fault("heads_last", "heads as the last axis", ATTENTION, HEADS_ORDER),
    Fault("heads_view", "viewed as (N, heads, T, d)", ATTENTION, HEADS_ORDER),
    Fault("no_transpose", "heads not transposed back", ATTENTION, HEADS_ORDER),
    Fault("merge_channels", "heads merged as (d, heads)", ATTENTION, HEADS_ORDER),
    Fault("kqv", "order k, q, v", ATTENTION, exchanged(QUERIES, KEYS)),
    Fault("vqk", "order v, q, k", ATTENTION, exchanged(QUERIES, VALUES) + "|" + exchanged(KEYS, VALUES)),
    Fault("no_scale", "no scale", ATTENTION, SCALE),
    Fault("scale_width", "scale of all heads' channels", ATTENTION, SCALE),
    Fault("scale_value", "scale of the values' channels", ATTENTION, SCALE),
    Fault("scale_square", "1/d for 1/sqrt(d)", ATTENTION, SCALE),
    Fault("scale_after_bias", "bias added before the scale", ATTENTION,
          all_of(r"scal|times|multipl", r"bias|add|sum")),
    Fault("softmax_queries", "softmax over the queries", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_heads", "softmax over the heads", ATTENTION, SOFTMAX_AXIS),
    Fault("softmax_batch", "softmax over the images", ATTENTION, SOFTMAX_AXIS),
    Fault("sigmoid", "sigmoid for softmax", ATTENTION, instead("sigmoid", "softmax")),
    Fault("no_softmax", "no softmax", ATTENTION, missing("softmax")),
    Fault("proj_none", "no Hardswish before the projection", ATTENTION, missing("Hardswish")),
    Fault("proj_gelu", "GELU before the projection", ATTENTION, instead("GELU", "Hardswish")),
    Fault("proj_relu", "ReLU before the projection", ATTENTION, instead("ReLU", "Hardswish")),
    Fault("proj_silu", "SiLU before the projection", ATTENTION, instead("SiLU", "Hardswish")),
    Fault("proj_after", "Hardswish behind the projection", ATTENTION, missing("Hardswish")),
    Fault("attention_no_skip", "no shortcut around an attention", AFTER, NO_SHORTCUT),
    Fault("attention_skip_minus", "attention subtracted", AFTER, all_of(r"subtract|minus|times -1|sign")),
    Fault("attention_skip_twice", "shortcut of an attention twice", AFTER, all_of(r"twice|two times|times 2|2 times")),
    Fault("mlp_no_skip", "no shortcut around an MLP", AFTER_MLP, NO_SHORTCUT),
    Fault("mlp_skip_minus", "MLP subtracted", AFTER_MLP, all_of(r"subtract|minus|times -1|sign")),
    Fault("mlp_relu", "ReLU in an MLP", IN_MLP, instead("ReLU", "Hardswish")),
    Fault("mlp_gelu", "GELU in an MLP", IN_MLP, instead("GELU", "Hardswish")),
    Fault("mlp_none", "no activation in an MLP", IN_MLP, missing("Hardswish")),
    Fault("mlp_end", "Hardswish behind an MLP", AFTER_MLP, no_activation("Hardswish")),
    Fault("shrink_vk", "values before keys in the shrinking attention", SHRINK,
          exchanged(KEYS, VALUES) + "|" + all_of(r"split|channels \d", r"order|`ops\.4\.kv\.b`")),
    Fault("shrink_odd", "queries on odd rows and columns", SHRINK,
          all_of(r"\bodd\b|\beven\b|every second|slice|1::2|offset|start|stride|pixels|positions|rows")),
    Fault("shrink_odd_late", "queries on odd rows and columns of a 3x3 map: one, not four", r"`ops\.12(?:\.[\w.]+)?`",
          all_of(r"\bodd\b|\beven\b|every second|slice|1::2|pixels|positions|rows|\(2, 1, 256\).*\(2, 4, 256\)")),
    Fault("shrink_first", "queries on the first rows and columns only", SHRINK,
          all_of(r"every second|slice|stride|pixels|positions|rows|\bfirst")),
    Fault("shrink_mean", "queries of means of 2x2", SHRINK, all_of(r"average|mean")),
    Fault("stem_act", "Hardswish behind the last convolution", STEM, no_activation("Hardswish")),
    Fault("stem_relu", "ReLU in the stem", at("st.1.1", "st.2.0"), instead("ReLU", "Hardswish")),
    Fault("columns", "tokens column by column", STEM, PIXEL_ORDER),
    Fault("viewed", "(N, C, H, W) viewed as (N, T, C)", STEM, PIXEL_ORDER + "|(?i:reshape|view|permut)"),
    Fault("pool_max", "max for mean over the tokens", POOL, instead(".*max.*", ".*(?:average|mean).*")),
    Fault("pool_sum", "sum for mean over the tokens", POOL, instead(".*sum.*", ".*(?:average|mean).*") + "|" + SCALE),
    Fault("pool_first", "first token for the mean", POOL,
          all_of(r"first|token|\b0\b|slice|select|part|position", "average|mean")),
    Fault("head_sum", "sum of the heads, not mean", END, SCALE),
    Fault("head_max", "larger of the two heads", END, instead(".*max.*", ".*(?:mean|average|sum|plus|add).*")),
    Fault("head_minus", "second head subtracted", END, all_of(r"subtract|minus|times -1|sign")),
    Fault("one_head", "only one head", END,
          missing(r"addition|sum|mean|average|second|`?hl2`?|the output of `hl2`") + "|"
          + all_of("output of `hl`", "plus|mean|average|add", "output of `hl2`")),
    Fault("one_norm", "both heads behind one norm", at("hl2", "hb2", "hl"),
          all_of(r"`hb`", r"`hb2`|another tensor|input|instead") + "|" + all_of(r"`hb2`.*missing")),
)

PAIRS = (
    Pair("levit tokens/course", LeViT, of_course, (2, 3, SIDE, SIDE), FAULTS),
    Pair("levit tokens/own", LeViT, LeViT, (2, 3, SIDE, SIDE),
         tuple(fault for fault in FAULTS if not fault.name.startswith(("stem_relu", "mlp_relu", "mlp_gelu")))),
    Pair("levit tokens/timm", LeViT, of_timm, (1, 3, SIDE, SIDE),
         tuple(fault for fault in FAULTS if fault.name in (
             "no_scale", "kqv", "proj_none", "softmax_queries", "mlp_no_skip", "bias_turned", "one_head"))),
)
