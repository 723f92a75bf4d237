"""Faults in networks whose layers do not match the reference's one to one, or run in another order."""
import torch
import torch.nn.functional as F
from torch import nn

from planted import Fault, Pair
from planted.sentences import HEADS_ORDER, NO_SHORTCUT, SCALE, SOFTMAX_AXIS, all_of, at, extra, instead, missing

MAXIMUM, AVERAGE = ".*max.*", ".*(?:average|mean).*"
SUBTRACTED = all_of("subtract|minus|times -1|sign")


def no_activation(name):
    return extra(name) + "|" + instead(name, "no activation")


# --------------------------------------------------------------------------------- one qkv, or q, k and v on their own

def heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


class Attention(nn.Module):
    """`form` is "one" Linear for q, k and v, "three" of them, "two" (q; k and v), or "torch"'s MultiheadAttention."""

    def __init__(self, form, fault=""):
        super().__init__()
        self.form, self.fault = form, fault
        self.n = nn.LayerNorm(16)
        if form == "one":
            self.qkv = nn.Linear(16, 48)
        elif form == "two":
            self.q, self.kv = nn.Linear(16, 16), nn.Linear(16, 32)
        elif form == "three":
            self.q, self.k, self.v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        if form == "torch":
            self.a = nn.MultiheadAttention(16, 4, batch_first=True)
        else:
            self.o = nn.Linear(16, 16)
        self.fc = nn.Linear(16, 5)

    def attend(self, x):
        if self.form == "torch":
            return self.a(x, x, x, need_weights=False)[0]
        if self.form == "one":
            q, k, v = self.qkv(x).chunk(3, -1)
        elif self.form == "two":
            q, (k, v) = self.q(x), self.kv(x).chunk(2, -1)
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
        fault = self.fault
        if fault == "relu_values":
            v = F.relu(v)
        q, k, v = (heads(part, 2 if fault == "heads2" else 4) for part in (q, k, v))
        scores = q @ k.mT * (1 if fault == "no_scale" else 0.25 if fault == "scale_width" else q.shape[-1] ** -0.5)
        y = scores.softmax(-2 if fault == "queries" else -1) @ v
        y = y.flatten(2).reshape(x.shape) if fault == "not_back" else y.transpose(1, 2).flatten(2)
        return self.o(F.gelu(y) if fault == "gelu" else y)

    def forward(self, x):
        y = self.attend(self.n(x))
        x = {"no_skip": y, "minus": x - y}.get(self.fault, x + y)
        return self.fc(x.amax(1) if self.fault == "max" else x.mean(1))


INSIDE = at("q", "k", "v", "kv", "qkv", "o", "n")
ATTENTION_FAULTS = (
    Fault("no_scale", "no scale", INSIDE, SCALE),
    Fault("scale_width", "1/sqrt(C) for 1/sqrt(d)", INSIDE, SCALE),
    Fault("queries", "softmax over the queries", INSIDE, SOFTMAX_AXIS),
    Fault("heads2", "two heads", INSIDE, all_of(r"\b(?:2|two) heads|heads 2", r"reference.*\b(?:4|four)\b")),
    Fault("not_back", "heads not transposed back", INSIDE, HEADS_ORDER),
    Fault("relu_values", "ReLU of the values", INSIDE, no_activation("ReLU.*")),
    Fault("gelu", "GELU before the projection", INSIDE, no_activation("GELU.*")),
    Fault("no_skip", "no shortcut", at("o", "fc"), NO_SHORTCUT),
    Fault("minus", "attention subtracted", at("o", "fc"), SUBTRACTED),
    Fault("max", "maximum for mean over the tokens", at("o", "fc"), instead(MAXIMUM, AVERAGE)),
)


# ---------------------------------------------------------------------------------------------- BatchNorm, or folded

class Block(nn.Module):
    """Two convolutions with a shortcut; `folded` is without BatchNorm."""

    def __init__(self, folded, fault=""):
        super().__init__()
        self.folded, self.fault = folded, fault
        self.c1 = nn.Conv2d(3, 8, 3, padding=1, bias=folded)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1, bias=folded)
        self.c3 = nn.Conv2d(8, 16, 1, bias=folded)
        if fault == "kernel":
            self.c2 = nn.Conv2d(8, 8, 5, padding=2, bias=folded)
        if fault == "stride":
            self.c3 = nn.Conv2d(8, 16, 1, 2, bias=folded)
        if not folded:
            self.b1, self.b2, self.b3 = nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 5)

    def layer(self, i, x):
        x = getattr(self, f"c{i}")(x)
        return x if self.folded else getattr(self, f"b{i}")(x)

    def forward(self, x):
        fault = self.fault
        x = self.layer(1, x)
        x = {"relu6": F.relu6, "silu": F.silu, "none": nn.Identity()}.get(fault, F.relu)(x)
        y = self.layer(2, x)
        if fault == "minus":
            y = x - y
        elif fault != "no_skip":
            y = x + y
        y = self.layer(3, y if fault == "no_relu" else F.relu(y))
        return self.fc(y.amax((2, 3)) if fault == "max" else y.mean((2, 3)))


FOLDED_FAULTS = (
    Fault("relu6", "ReLU6 for ReLU", at("c1", "b1", "c2"), instead("ReLU6", "ReLU")),
    Fault("silu", "SiLU for ReLU", at("c1", "b1", "c2"), instead("SiLU", "ReLU")),
    Fault("none", "no ReLU", at("c1", "b1", "c2"), missing("ReLU")),
    Fault("kernel", "5x5 for 3x3", at("c2"), instead("kernel size 5x5.*", "kernel size 3x3")),
    Fault("stride", "stride 2", at("c3"), instead("stride 2.*", "stride 1")),
    Fault("no_skip", "no shortcut", at("c2", "b2", "c3"), NO_SHORTCUT),
    Fault("minus", "branch subtracted", at("c2", "b2", "c3"), SUBTRACTED),
    Fault("no_relu", "no ReLU behind the addition", at("c2", "b2", "c3"), missing("ReLU")),
    Fault("max", "maximum for mean", at("c3", "b3", "fc"), instead(MAXIMUM, AVERAGE)),
)


# ------------------------------------------------------------------------- own tensors, and BatchNorm by hand

class HandBN(nn.Module):
    def __init__(self, channels, fault):
        super().__init__()
        self.fault = fault
        self.scale, self.shift = nn.Parameter(torch.ones(1, channels, 1, 1)), nn.Parameter(torch.zeros(1, channels, 1,
                                                                                                       1))
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("var", torch.ones(1, channels, 1, 1))

    def forward(self, x):
        fault = self.fault
        mean, var = self.mean, self.var
        if fault == "batch":
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        if fault == "no_mean":
            mean = 0 * mean
        deviation = (var + (1e-3 if fault == "eps" else 1e-5)).sqrt()
        if fault == "no_root":
            deviation = var + 1e-5
        if fault == "std":
            deviation = var.sqrt() + 1e-2
        y = (x - mean) / deviation
        return y * self.scale if fault == "no_shift" else y * self.scale + self.shift


class ByHand(nn.Module):
    """`own` is a BatchNorm by hand whose tensors have names of their own."""

    def __init__(self, own, fault=""):
        super().__init__()
        self.fault = fault
        self.c = nn.Conv2d(3, 8, 3, bias=False)
        self.b = HandBN(8, fault) if own else nn.BatchNorm2d(8)
        self.o = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.b(self.c(x))
        return self.o({"relu6": F.relu6, "none": nn.Identity()}.get(self.fault, F.relu)(x))


NORM = at("c", "b", "o")
BY_HAND_FAULTS = (
    Fault("eps", "eps 1e-3", NORM, all_of(r"\beps|0\.001")),
    Fault("no_root", "divided by the variance", NORM, all_of(r"root|deviation|\bstd\b|variance")),
    Fault("std", "eps added to the deviation", NORM, all_of(r"\beps|root|deviation|\bstd\b|variance")),
    Fault("batch", "the batch's statistics in eval mode", NORM, all_of(r"statistics|running|\bbatch\b|\bmean\b")),
    Fault("no_mean", "mean not subtracted", NORM, all_of("mean")),
    Fault("no_shift", "shift not added", NORM, all_of("shift|bias|beta")),
    Fault("relu6", "ReLU6 for ReLU", at("b", "o"), instead("ReLU6", "ReLU")),
    Fault("none", "no ReLU", at("b", "o"), missing("ReLU")),
)


class OneClass(nn.Module):
    """Convolution and BatchNorm as tensors of one class; `own` False is the usual pair of layers."""

    def __init__(self, i, o, own, stride=1, fault=""):
        super().__init__()
        self.own, self.stride, self.fault = own, stride, fault
        if own:
            self.kernel = nn.Parameter(torch.randn(o, i, 3, 3) * 0.2)
            self.gamma, self.beta = nn.Parameter(torch.ones(o)), nn.Parameter(torch.zeros(o))
            self.register_buffer("running_mean", torch.zeros(o))
            self.register_buffer("running_var", torch.ones(o))
        else:
            self.c, self.b = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        if not self.own:
            return self.b(self.c(x))
        pad = 0 if self.fault == "padding" else 1
        x = F.conv2d(x, self.kernel, None, 1 if self.fault == "stride" else self.stride, pad)
        eps = 1e-3 if self.fault == "eps" else 1e-5
        return F.batch_norm(x, self.running_mean, self.running_var, self.gamma, self.beta, eps=eps)


class Stack(nn.Module):
    def __init__(self, own, fault=""):
        super().__init__()
        self.fault = fault
        self.l1, self.l2 = OneClass(3, 8, own), OneClass(8, 8, own, 2, fault)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = self.l1(x)
        x = F.relu6(x) if self.fault == "relu6" else x if self.fault == "none" else F.relu(x)
        return self.fc(F.relu(self.l2(x)).mean((2, 3)))


STACK_FAULTS = (
    Fault("stride", "stride 1 for 2", at("l2", "l2.c"),
          instead("stride 1.*", "stride 2") + "|" + all_of("12, 12", "6, 6")),
    Fault("padding", "no padding", at("l2", "l2.c"),
          instead("padding 0.*", "padding 1") + "|" + all_of("5, 5", "6, 6")),
    Fault("eps", "eps 1e-3", at("l2", "l2.b"), all_of(r"\beps|0\.001")),
    Fault("relu6", "ReLU6 for ReLU", at("l1", "l2", "l1.b", "l2.c"), instead("ReLU6", "ReLU")),
    Fault("none", "no ReLU", at("l1", "l2", "l1.b", "l2.c"), missing("ReLU")),
)


# ---------------------------------------------------------------------------------------- two convolutions on halves

class Halves(nn.Module):
    """`grouped` is one convolution with two groups, else one for each half."""

    def __init__(self, grouped, fault=""):
        super().__init__()
        self.grouped, self.fault = grouped, fault
        self.c = nn.Conv2d(3, 8, 3, padding=1)
        if grouped:
            self.g = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        else:
            self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.o = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        fault = self.fault
        x = F.relu(self.c(x))
        if self.grouped:
            return self.o(F.relu(self.g(x)))
        left, right = x.chunk(2, 1)
        if fault == "same_half":
            right = left
        left, right = self.a(left), self.b(right)
        if fault == "one_relu":
            return self.o(torch.cat([left, F.relu(right)], 1))
        if fault == "order":
            left, right = right, left
        x = torch.cat([left, right], 1)
        return self.o(x if fault == "no_relu" else F.relu6(x) if fault == "relu6" else F.relu(x))


HALVES = at("a", "b", "o", "c")
HALVES_FAULTS = (
    Fault("order", "halves joined in the other order", HALVES, all_of("order|exchang|swap")),
    Fault("same_half", "both from the first half", HALVES, all_of("half|halves|channels|made from|input")),
    Fault("one_relu", "no ReLU on the first half", HALVES, missing("ReLU")),
    Fault("no_relu", "no ReLU", HALVES, missing("ReLU")),
    Fault("relu6", "ReLU6", HALVES, instead("ReLU6", "ReLU")),
)


# --------------------------------------------------------------------------------- branches called in another order

def shuffle(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class Branches(nn.Module):
    """ShuffleNetV2's strided unit, ResNet's block with a projection, Inception's towers; `late` calls the other way."""

    def __init__(self, late, fault=""):
        super().__init__()
        self.late, self.fault = late, fault
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8),
                                  nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                                   nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False), nn.BatchNorm2d(8),
                                   nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        if fault == "relu_depthwise":
            self.right.insert(5, nn.ReLU())
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.c1, self.b1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.down, self.bd = nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.t1, self.t2, self.t3 = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 6, 3, padding=1), nn.Conv2d(16, 2, 1)
        self.o = nn.Conv2d(12, 4, 1)

    def unit(self, x):
        fault = self.fault
        if self.late:
            right, left = self.right(x), self.left(x)
        else:
            left, right = self.left(x), self.right(x)
        left = left if fault == "left_no_relu" else F.relu(left)
        right = F.relu6(right) if fault == "right_relu6" else F.relu(right)
        x = torch.cat([right, left] if fault == "unit_order" else [left, right], 1)
        return x if fault == "no_shuffle" else shuffle(x, 4 if fault == "shuffle4" else 2)

    def block(self, x):
        fault = self.fault
        if self.late:
            y = self.b1(self.c1(x))
            shortcut = self.bd(self.down(x))
        else:
            shortcut = self.bd(self.down(x))
            y = self.b1(self.c1(x))
        if fault == "shortcut_relu":
            shortcut = F.relu(shortcut)
        if fault == "shortcut_minus":
            shortcut = -shortcut
        y = y + shortcut
        return y if fault == "block_no_relu" else F.relu(y)

    def towers(self, x):
        fault = self.fault
        pooled = F.avg_pool2d(x, 3, 1, 1) if fault == "tower_average" else F.max_pool2d(x, 3, 1, 1)
        if self.late:
            c, b, a = self.t3(pooled), self.t2(x), self.t1(x)
        else:
            a, b, c = self.t1(x), self.t2(x), self.t3(pooled)
        if fault == "tower_relu":
            b = F.relu(b)
        return torch.cat([b, a, c] if fault == "tower_order" else [a, b, c], 1)

    def forward(self, x):
        return self.o(self.towers(self.block(self.unit(self.stem(x)))))


UNIT = at("left.3", "right.6", "c1", "down", "left.0", "right.0")
BLOCK = at("b1", "bd", "t1", "t2", "t3")
TOWERS = at("t1", "t2", "t3", "o")
BRANCHES_FAULTS = (
    Fault("left_no_relu", "no ReLU at the end of the left branch", UNIT, missing("ReLU")),
    Fault("right_relu6", "ReLU6 at the end of the right branch", UNIT, instead("ReLU6", "ReLU")),
    Fault("relu_depthwise", "ReLU behind the depthwise convolution", at("right.4", "right.6"), no_activation("ReLU")),
    Fault("unit_order", "branches joined in the other order", UNIT, all_of("order|concatenat", "order|stand where")),
    Fault("no_shuffle", "no channel shuffle", UNIT, all_of("shuffle", "missing")),
    Fault("shuffle4", "four groups in the shuffle", UNIT, all_of("shuffle", r"\b4 groups", r"\b2 groups")),
    Fault("shortcut_relu", "ReLU on the projected shortcut", BLOCK, no_activation("ReLU.*")),
    Fault("shortcut_minus", "shortcut subtracted", BLOCK, SUBTRACTED),
    Fault("block_no_relu", "no ReLU behind the addition", BLOCK, missing("ReLU")),
    Fault("tower_average", "average for max pooling", TOWERS, instead(AVERAGE, MAXIMUM)),
    Fault("tower_relu", "ReLU of one tower", TOWERS, no_activation("ReLU")),
    Fault("tower_order", "towers joined in another order", TOWERS, all_of("concatenat|joined", "order")),
)


def wrapped(wrap):
    return lambda fault: wrap(Block(False, fault))


# The projection of nn.MultiheadAttention cannot be told from what is before it: `fc` is next.
BESIDE_TORCH = tuple(Fault(f.name, f.what, f.place.replace("|o", "|o|fc"), f.cause) for f in ATTENTION_FAULTS[:5])

PAIRS = (
    *(Pair(f"attention, {one} against {other}", lambda fault, one=one: Attention(one, fault),
           lambda other=other: Attention(other), (2, 7, 16), faults)
      for one, other, faults in (("three", "one", ATTENTION_FAULTS), ("one", "three", ATTENTION_FAULTS),
                                 ("two", "one", ATTENTION_FAULTS[:5]), ("three", "torch", BESIDE_TORCH),
                                 ("one", "torch", BESIDE_TORCH))),
    Pair("block, BatchNorm folded", lambda fault: Block(True, fault), lambda: Block(False), (2, 3, 12, 12),
         FOLDED_FAULTS),
    Pair("block, BatchNorm not folded", lambda fault: Block(False, fault), lambda: Block(True), (2, 3, 12, 12),
         FOLDED_FAULTS),
    Pair("BatchNorm by hand", lambda fault: ByHand(True, fault), lambda: ByHand(False), (2, 3, 12, 12), BY_HAND_FAULTS),
    Pair("convolution and BatchNorm in one class", lambda fault: Stack(True, fault), lambda: Stack(False),
         (2, 3, 12, 12), STACK_FAULTS),
    Pair("two halves for groups", lambda fault: Halves(False, fault), lambda: Halves(True), (2, 3, 12, 12),
         HALVES_FAULTS),
    Pair("branches called the other way", lambda fault: Branches(True, fault), lambda: Branches(False),
         (2, 3, 12, 12), BRANCHES_FAULTS),
    Pair("in DataParallel", wrapped(nn.DataParallel), lambda: Block(False), (2, 3, 12, 12),
         tuple(Fault(f.name, f.what, f.place.replace("(", r"(?:module\.)?(?:", 1), f.cause)
               for f in FOLDED_FAULTS[:4])),
    Pair("compiled", wrapped(torch.compile), lambda: Block(False), (2, 3, 12, 12), FOLDED_FAULTS[:4]),
)
