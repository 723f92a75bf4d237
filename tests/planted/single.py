"""Networks of a few layers: one operation without weights, or one layer, is wrong."""
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
    gap,
    instead,
    missing,
)

AVERAGE, MAXIMUM, SUM = ".*(?:average|mean).*", ".*max.*", ".*(?:add|plus|sum).*"
PRODUCT = ".*(?:times|multipl|product).*"
SUBTRACTED = all_of(r"subtract|minus|times -1|sign")
TWICE = all_of(r"twice|square|two times|times 2|2 times|times .* times")
PLACE = at("pre", "pre.0", "pre.1", "pre.2", "post")


class Net(nn.Module):
    """`pre`, an operation without weights, `post`."""

    def __init__(self, pre, operation, post):
        super().__init__()
        self.pre, self.operation, self.post = pre, operation, post

    def forward(self, *x):
        return self.post(self.operation(self.pre(*x)))


# --------------------------------------------------------------- ReLU6 for ReLU, behind every layer that has a scale

class RMSNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x * (x ** 2).mean(-1, keepdim=True).add(1e-6).rsqrt() * self.gain


class OwnConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2)

    def forward(self, x):
        return F.conv2d(x, self.kernel)


class Plus(nn.Module):
    """Two convolutions of x, added."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(3, 8, 3, bias=False)

    def forward(self, x):
        return self.a(x) + self.b(x)


class Times(Plus):
    def forward(self, x):
        return self.a(x) * torch.sigmoid(self.b(x))


class Joined(Plus):
    def forward(self, x):
        return torch.cat([self.a(x)[:, :4], self.b(x)[:, 4:]], 1)


class LastAxis(nn.Sequential):
    """A layer for (N, H, W, C)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv(**options):
    return nn.Conv2d(3, 8, 3, **options)


SCALED = {  # what stands before the activation; 8 channels
    "convolution with bias": conv,
    "convolution without bias": lambda: conv(bias=False),
    "depthwise convolution without bias": lambda: nn.Conv2d(3, 9, 3, groups=3, bias=False),
    "depthwise convolution with bias": lambda: nn.Conv2d(3, 9, 3, groups=3),
    "1x1 convolution without bias": lambda: nn.Conv2d(3, 8, 1, bias=False),
    "own kernel": OwnConv,
    "ConvTranspose2d with bias": lambda: nn.ConvTranspose2d(3, 8, 2, 2),
    "ConvTranspose2d without bias": lambda: nn.ConvTranspose2d(3, 8, 2, 2, bias=False),
    "ConvTranspose2d in groups": lambda: nn.ConvTranspose2d(3, 9, 2, 2, groups=3),
    "BatchNorm": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(8)),
    "BatchNorm without affine": lambda: nn.Sequential(conv(bias=False), nn.BatchNorm2d(8, affine=False)),
    "BatchNorm and average pooling": lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.AvgPool2d(3, 1, 1)),
    "BatchNorm and large average pooling": lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.AvgPool2d(5)),
    "BatchNorm and upsampling": lambda: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2)),
    "BatchNorm and bilinear upsampling": lambda: nn.Sequential(conv(), nn.BatchNorm2d(8),
                                                               nn.UpsamplingBilinear2d(scale_factor=2)),
    "GroupNorm": lambda: nn.Sequential(conv(), nn.GroupNorm(2, 8)),
    "GroupNorm of one group": lambda: nn.Sequential(conv(bias=False), nn.GroupNorm(1, 8)),
    "InstanceNorm with affine": lambda: nn.Sequential(conv(), nn.InstanceNorm2d(8, affine=True)),
    "InstanceNorm": lambda: nn.Sequential(conv(), nn.InstanceNorm2d(8)),
    "LayerNorm": lambda: nn.Sequential(conv(), LastAxis(nn.LayerNorm(8))),
    "LayerNorm of maps": lambda: nn.Sequential(conv(), nn.LayerNorm([8, 10, 10])),
    "LayerNorm without bias": lambda: nn.Sequential(conv(), LastAxis(nn.LayerNorm(8, bias=False))),
    "RMSNorm": lambda: nn.Sequential(conv(), LastAxis(RMSNorm(8))),
    "torch's RMSNorm": lambda: nn.Sequential(conv(), LastAxis(nn.RMSNorm(8))),
    "Linear without bias": lambda: LastAxis(nn.Linear(3, 8, bias=False)),
    "Linear with bias": lambda: LastAxis(nn.Linear(3, 8)),
    "addition": Plus,
    "gate": Times,
    "concatenation": Joined,
}


def capped(at_most):
    return lambda x: x.clamp(0, at_most)


ACTIVATIONS = {"relu6": nn.ReLU6(), "clamp10": capped(10), "hardtanh20": nn.Hardtanh(0, 20)}
CAPPED_FAULTS = (
    Fault("relu6", "ReLU6 for ReLU", r"your `post`|your `pre(?:\.[\w.]+)?`", instead("ReLU6", "ReLU")),
    Fault("clamp10", "values above 10 cut", r"your `post`|your `pre(?:\.[\w.]+)?`",
          instead(r".*\b10\b.*", "ReLU") + "|(?i:at most 10|clamp)"),
    Fault("hardtanh20", "values above 20 cut", r"your `post`|your `pre(?:\.[\w.]+)?`",
          instead(r".*\b20\b.*", "ReLU") + "|(?i:at most 20|clamp)"),
)


CUT_TOO = ("convolution with bias", "convolution without bias", "BatchNorm", "LayerNorm", "GroupNorm", "addition")


def capped_pair(name, pre):
    def mine(fault):
        layers = pre()
        return Net(layers, ACTIVATIONS.get(fault, F.relu), nn.Conv2d(9 if "(3, 9" in str(layers) else 8, 4, 1))
    return Pair(f"ReLU behind {name}", mine, lambda: mine(""), (2, 3, 12, 12),
                CAPPED_FAULTS if name in CUT_TOO else CAPPED_FAULTS[:1])


def tokens_pair():
    def mine(fault):
        return Net(nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16)), ACTIVATIONS.get(fault, F.relu), nn.Linear(16, 3))
    return Pair("ReLU behind LayerNorm of vectors", mine, lambda: mine(""), (8, 6), CAPPED_FAULTS)


# ------------------------------------------------------------------------- one operation between two convolutions

CHANNELS = r"(?is:^(?!.*(?:something else|`pre`, `pre`)))(?=.*channels)"  # no list of the same name

OPERATIONS = {  # reference's operation: (it, {fault: (what, operation, cause)})
    "ReLU": (F.relu, {
        "softplus": ("Softplus", F.softplus, instead("Softplus", "ReLU")),
        "elu": ("ELU", F.elu, instead("ELU.*", "ReLU")),
        "selu": ("SELU", F.selu, instead("SELU", "ReLU")),
        "celu": ("CELU with alpha 2", nn.CELU(2.0), instead("CELU.*", "ReLU")),
        "mish": ("Mish", F.mish, instead("Mish", "ReLU")),
        "hardtanh": ("Hardtanh", F.hardtanh, instead("(?:Hardtanh|a clamp to at least -1).*", "ReLU")),
        "shrink": ("Softshrink", F.softshrink, instead("Softshrink.*", "ReLU")),
        "negative": ("ReLU of -x", lambda x: F.relu(-x), all_of(r"minus|sign|negat")),
        "shifted": ("ReLU(x - 1)", lambda x: F.relu(x - 1), all_of("ReLU|subtract|minus|shift|threshold|adds -1")),
        "crelu": ("both halves", lambda x: x.abs(), instead(".*abs.*", "ReLU")),
        "min": ("clamp(max=0)", lambda x: x.clamp(max=0), instead(r".*(?:clamp|min|max|-ReLU|negative).*", "ReLU")),
    }),
    "LeakyReLU(0.1)": (nn.LeakyReLU(0.1), {
        "slope": ("slope 0.2", nn.LeakyReLU(0.2), instead(r"LeakyReLU\(0\.2\).*", r"LeakyReLU\(0\.1\).*")),
        "default": ("slope 0.01", F.leaky_relu, instead(r"LeakyReLU\(0\.01\).*", r"LeakyReLU\(0\.1\).*")),
        "relu": ("ReLU", F.relu, instead("ReLU", r"LeakyReLU.*")),
    }),
    "Hardswish": (F.hardswish, {
        "silu": ("SiLU", F.silu, instead("SiLU", "Hardswish")),
        "hardsigmoid": ("Hardsigmoid", F.hardsigmoid, instead("Hardsigmoid", "Hardswish")),
        "no_division": ("x * relu6(x + 3)", lambda x: x * F.relu6(x + 3), SCALE + "|" + instead(".*6.*", "Hardswish")),
        "shift2": ("x * relu6(x + 2) / 6", lambda x: x * F.relu6(x + 2) / 6,
                   instead(r".*(?:\+ 2|ReLU6|shift).*", "Hardswish")),
    }),
    "Sigmoid": (torch.sigmoid, {
        "hardsigmoid": ("Hardsigmoid", F.hardsigmoid, instead("Hardsigmoid", "Sigmoid")),
        "tanh": ("tanh", torch.tanh, instead("Tanh", "Sigmoid")),
        "logsigmoid": ("log", F.logsigmoid, instead("LogSigmoid", "Sigmoid")),
        "softmax": ("softmax over the channels", lambda x: x.softmax(1), instead("Softmax.*", "Sigmoid")),
    }),
    "softmax over the channels": (lambda x: x.softmax(1), {
        "rows": ("over H", lambda x: x.softmax(2), SOFTMAX_AXIS),
        "columns": ("over W", lambda x: x.softmax(3), SOFTMAX_AXIS),
        "images": ("over N", lambda x: x.softmax(0), SOFTMAX_AXIS),
        "pixels": ("over H and W", lambda x: x.flatten(2).softmax(2).view_as(x), SOFTMAX_AXIS),
        "log": ("log_softmax", lambda x: x.log_softmax(1), instead("Log.?Softmax.*", "Softmax.*")),
        "sigmoid": ("sigmoid", torch.sigmoid, instead("Sigmoid", "Softmax.*")),
        "none": ("none", lambda x: x, missing("Softmax.*") + "|" + instead("no activation", "Softmax.*")),
        "hot": ("of x / 2", lambda x: (x / 2).softmax(1), SCALE),
        "min": ("of -x", lambda x: (-x).softmax(1), SUBTRACTED + "|(?i:negat|softmin)"),
    }),
    "average pooling 3x3": (lambda x: F.avg_pool2d(x, 3, 2, 1), {
        "max": ("max", lambda x: F.max_pool2d(x, 3, 2, 1), instead(MAXIMUM, AVERAGE)),
        "count": ("padding not counted", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                  all_of("count|padding", "average|pool")),
        "two": ("2x2", lambda x: F.avg_pool2d(x, 2), instead(".*2x2.*", ".*3x3.*")),
        "five": ("5x5", lambda x: F.avg_pool2d(x, 5, 2, 2), instead(".*5x5.*", ".*3x3.*")),
        "sum": ("sum", lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=1), SCALE + "|" + instead(SUM, AVERAGE)),
        "nearest": ("nearest pixels", lambda x: F.interpolate(x, size=(6, 5)),
                    instead(r".*(?:nearest|sampl|interpol|no pooling).*", AVERAGE)),
        "slices": ("every second pixel", lambda x: x[:, :, ::2, ::2],
                   all_of("average", r"\bno pool|every second|slice|strid|missing")),
        "bilinear": ("bilinear", lambda x: F.interpolate(x, size=(6, 5), mode="bilinear"),
                     instead(".*(?:bilinear|2x2).*", ".*3x3.*")),
        "transposed": ("of the map with H and W swapped, and back, kernel (3, 1)",
                       lambda x: F.avg_pool2d(x, (3, 1), 2, (1, 0)), instead(".*3x1.*", ".*3x3.*")),
        "rms": ("root of the mean of squares", lambda x: F.avg_pool2d(x ** 2, 3, 2, 1).add(1e-6).sqrt(),
                all_of("average|mean", "root|square|power|sqrt")),
    }),
    "max pooling 2x2": (lambda x: F.max_pool2d(x, 2), {
        "average": ("average", lambda x: F.avg_pool2d(x, 2), instead(AVERAGE, MAXIMUM)),
        "three": ("3x3", lambda x: F.max_pool2d(x, 3, 2, 1), instead(".*3x3.*", ".*2x2.*")),
        "min": ("minimum", lambda x: -F.max_pool2d(-x, 2), all_of("max", r"min|-max|sign|negative")),
        "relu": ("behind a ReLU", lambda x: F.max_pool2d(F.relu(x), 2),
                 extra("ReLU") + "|" + instead("ReLU.*", "no activation")),
        "stride1": ("stride 1", lambda x: F.max_pool2d(x, 2, 1), instead(".*stride 1.*", ".*stride 2.*")),
        "dilated": ("dilation 2", lambda x: F.max_pool2d(x, 2, 2, 1, 2), instead(".*dilation 2.*", MAXIMUM)),
        "l2": ("power average", lambda x: F.lp_pool2d(x, 2, 2), all_of("max", r"LP|power|norm|square")),
        "both": ("max plus average", lambda x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2), all_of("max", "average")),
    }),
    "bilinear upsampling by 2": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), {
        "four": ("by 4", lambda x: F.interpolate(x, scale_factor=4, mode="bilinear"),
                 all_of("upsampl|interpol|enlarg|here", r"(?:by|factor|times|to|of|x) ?4\b|48",
                        r"(?:by|factor|times|to|of|x) ?2\b|24")),
        "corners": ("align_corners", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
                    all_of("bilinear", "align_corners")),
        "nearest": ("nearest", lambda x: F.interpolate(x, scale_factor=2), instead(".*nearest.*", ".*bilinear.*")),
        "bicubic": ("bicubic", lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
                    instead(".*bicubic.*", ".*bilinear.*")),
        "size": ("to another size", lambda x: F.interpolate(x, size=(24, 22), mode="bilinear"),
                      r"22\b.*20\b|20\b.*22\b"),
        "relu_behind": ("ReLU behind", lambda x: F.relu(F.interpolate(x, scale_factor=2, mode="bilinear")),
                        extra("ReLU") + "|" + instead("ReLU.*", "no activation|.*bilinear.*")),
        "repeated": ("pixels repeated", lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
                     instead(".*(?:nearest|repeat).*", ".*bilinear.*")),
        "none": ("none", lambda x: x, missing("(?:bilinear )?upsampl|interpol") + "|"
                 + all_of("upsampl|bilinear", r"\bno |missing")),
        "scaled": ("and halved", lambda x: 0.5 * F.interpolate(x, scale_factor=2, mode="bilinear"), SCALE),
    }),
    "nothing": (lambda x: x, {
        "relu": ("ReLU", F.relu, extra("ReLU") + "|" + instead("ReLU", "no activation")),
        "scale": ("times 0.7", lambda x: 0.7 * x, SCALE),
        "constant": ("1 added", lambda x: x + 1, all_of(r"\badd|plus|shift|offset|constant")),
        "minus": ("other sign", lambda x: -x, SUBTRACTED + "|(?i:negat)|" + SCALE),
        "square": ("square", lambda x: x * x, TWICE + "|(?i:power)"),
        "double": ("x + x", lambda x: x + x, SCALE + "|(?i:twice)"),
        "turned": ("H and W swapped", lambda x: x.transpose(2, 3), PIXEL_ORDER),
        "upside_down": ("rows backwards", lambda x: x.flip(2), PIXEL_ORDER + "|(?i:flip|revers|backward|mirror)"),
        "mirrored": ("columns backwards", lambda x: x.flip(3), PIXEL_ORDER + "|(?i:flip|revers|backward|mirror)"),
        "moved": ("moved by a pixel", lambda x: x.roll(1, 3), all_of(r"shift|moved|roll|pixel|column")),
        "channels_backwards": ("channels backwards", lambda x: x.flip(1),
                               CHANNELS + r"(?=.*(?:order|flip|revers|backward))"),
        "channels_moved": ("channels moved by one", lambda x: x.roll(1, 1),
                           CHANNELS + r"(?=.*(?:order|roll|shift|moved))"),
        "shuffle": ("channel shuffle", lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
                    all_of("shuffle")),
        "images_moved": ("images exchanged", lambda x: x.flip(0), all_of(r"images|batch|axis 0")),
        "normalised": ("mean subtracted", lambda x: x - x.mean((2, 3), keepdim=True),
                       all_of(r"mean|subtract|normali[sz]")),
        "unit": ("length 1 over the channels", lambda x: F.normalize(x), all_of(r"normali[sz]|length|norm\b|divi")),
        "dropout": ("F.dropout", lambda x: F.dropout(x, 0.3), all_of("not deterministic", "dropout")),
        "noise": ("random numbers", lambda x: x + 0.1 * torch.randn_like(x), all_of("not deterministic")),
        "zeroed": ("half of the channels zero", lambda x: torch.cat([x[:, :4], 0 * x[:, 4:]], 1),
                   all_of(r"zero|channels|part|half")),
        "round": ("rounded", lambda x: (x * 4).round() / 4, all_of(r"round|quanti|something else|step")),
        "half": ("through bfloat16", lambda x: x.bfloat16().to(x), all_of(r"bfloat16|precision|round|float")),
    }),
}


def operation_pair(name, operation, faults):
    ways = {key: way for key, (_, way, _) in faults.items()}
    corner = any(key in ("turned",) for key in ways)

    def mine(fault):
        return Net(nn.Conv2d(3, 8, 3, padding=1), ways.get(fault, operation), nn.Conv2d(8, 4, 1))
    planted = tuple(Fault(key, what, at("pre", "post"), cause) for key, (what, _, cause) in faults.items())
    return Pair(f"between two convolutions: {name}", mine, lambda: mine(""), (2, 3, 12, 12 if corner else 10), planted)


# ---------------------------------------------------------------------------- one layer with weights, other settings

def normed(*norms):
    return nn.Sequential(nn.Conv2d(4, 4, 1), *norms)


LAYERS = {  # the reference's layer: (it, shape of x, {fault: (what, layer, cause)})
    "convolution": (lambda: nn.Conv2d(4, 8, 3, padding=1), (2, 4, 12, 10), {
        "kernel": ("5x5", lambda: nn.Conv2d(4, 8, 5, padding=2), instead("kernel size 5x5.*", "kernel size 3x3")),
        "stride": ("stride 2", lambda: nn.Conv2d(4, 8, 3, 2, 1), instead("stride 2.*", "stride 1")),
        "padding": ("no padding", lambda: nn.Conv2d(4, 8, 3), instead("padding 0.*", "padding 1")),
        "one_sided": ("padding (1, 0)", lambda: nn.Conv2d(4, 8, 3, padding=(1, 0)),
                      instead("padding 1x0.*", "padding 1")),
        "dilation": ("dilation 2", lambda: nn.Conv2d(4, 8, 3, padding=2, dilation=2),
                     instead(".*dilation 2.*", "dilation 1")),
        "groups": ("two groups", lambda: nn.Conv2d(4, 8, 3, padding=1, groups=2), instead("groups 2", "groups 1")),
        "bias": ("no bias", lambda: nn.Conv2d(4, 8, 3, padding=1, bias=False), instead("no bias", "a bias")),
        "channels": ("6 channels", lambda: nn.Conv2d(4, 6, 3, padding=1), instead("output channels 6", ".*8")),
        "circular": ("padded around", lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"),
                     instead("padding mode circular", ".*zeros")),
        "one_row": ("1x3", lambda: nn.Conv2d(4, 8, (1, 3), padding=(0, 1)),
                    instead("kernel size 1x3.*", "kernel size 3x3")),
        "transposed": ("ConvTranspose2d", lambda: nn.ConvTranspose2d(4, 8, 3, padding=1),
                       instead("ConvTranspose2d.*", "Conv2d")),
        "strided_padding": ("stride 2 and no padding", lambda: nn.Conv2d(4, 8, 3, 2),
                            all_of("stride 2", "padding 0", "padding 1")),
    }),
    "convolution of a signal": (lambda: nn.Conv1d(4, 8, 3, padding=1), (2, 4, 20), {
        "kernel": ("kernel 5", lambda: nn.Conv1d(4, 8, 5, padding=2),
                   instead(r"kernel size 5(?!x).*", r"kernel size 3(?!x)")),
        "stride": ("stride 2", lambda: nn.Conv1d(4, 8, 3, 2, 1), instead("stride 2.*", "stride 1")),
        "dilation": ("dilation 2", lambda: nn.Conv1d(4, 8, 3, padding=2, dilation=2),
                     instead(".*dilation 2.*", "dilation 1")),
    }),
    "convolution of a volume": (lambda: nn.Conv3d(2, 4, 3, padding=1), (1, 2, 4, 6, 5), {
        "kernel": ("1x3x3", lambda: nn.Conv3d(2, 4, (1, 3, 3), padding=(0, 1, 1)),
                   instead("kernel size 1x3x3.*", "kernel size 3x3x3")),
        "stride": ("stride (1, 2, 2)", lambda: nn.Conv3d(2, 4, 3, (1, 2, 2), 1), instead("stride 1x2x2.*", "stride 1")),
    }),
    "transposed convolution": (lambda: nn.ConvTranspose2d(4, 8, 4, 2, 1), (2, 4, 6, 5), {
        "kernel": ("2x2", lambda: nn.ConvTranspose2d(4, 8, 2, 2), instead("kernel size 2x2.*", "kernel size 4x4")),
        "padding": ("no padding", lambda: nn.ConvTranspose2d(4, 8, 4, 2), instead("padding 0.*", "padding 1")),
        "output_padding": ("output_padding 1", lambda: nn.ConvTranspose2d(4, 8, 4, 2, 1, output_padding=1),
                           all_of("output.?padding", "1", "0|none|no ")),
        "groups": ("groups 2", lambda: nn.ConvTranspose2d(4, 8, 4, 2, 1, groups=2), instead("groups 2", "groups 1")),
    }),
    "BatchNorm": (lambda: normed(nn.BatchNorm2d(4)), (2, 4, 6, 5), {
        "eps": ("eps 1e-3", lambda: normed(nn.BatchNorm2d(4, eps=1e-3)), instead("eps 0.001", "(?:eps )?1e-05")),
        "affine": ("no affine", lambda: normed(nn.BatchNorm2d(4, affine=False)),
                   instead("no (?:scale|affine|weight).*", ".*(?:scale|affine|weight).*")),
        "layer": ("GroupNorm", lambda: normed(nn.GroupNorm(1, 4)), instead("GroupNorm.*", "BatchNorm2d")),
        "instance": ("InstanceNorm2d", lambda: normed(nn.InstanceNorm2d(4, affine=True)),
                     instead("InstanceNorm2d.*", "BatchNorm2d")),
        "no_statistics": ("no running statistics", lambda: normed(nn.BatchNorm2d(4, track_running_stats=False)),
                          all_of("running|track|statistics", "reference")),
        "twice": ("twice", lambda: normed(nn.BatchNorm2d(4), nn.BatchNorm2d(4)), "one too many"),
        "none": ("none", lambda: normed(), all_of("BatchNorm2d", "missing|without")),
        "before": ("before the convolution", lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)),
                   all_of("BatchNorm2d", "too many|missing|order|before")),
    }),
    "LayerNorm on maps": (lambda: nn.LayerNorm([4, 6, 5], eps=1e-6), (2, 4, 6, 5), {
        "batch": ("BatchNorm2d", lambda: nn.BatchNorm2d(4), instead("BatchNorm2d.*", "LayerNorm")),
        "batch_same_eps": ("BatchNorm2d with the same eps", lambda: nn.BatchNorm2d(4, eps=1e-6),
                           instead("BatchNorm2d.*", "LayerNorm")),
        "group": ("GroupNorm", lambda: nn.GroupNorm(2, 4), instead("GroupNorm.*", "LayerNorm")),
        "last": ("over W only", lambda: nn.LayerNorm(5, eps=1e-6), all_of(r"\b5\b", r"4.*6.*5")),
        "eps": ("eps 1e-5", lambda: nn.LayerNorm([4, 6, 5]), instead("eps 1e-05", "(?:eps )?1e-06")),
    }),
    "GroupNorm": (lambda: nn.GroupNorm(2, 8), (2, 8, 6, 5), {
        "groups": ("4 groups", lambda: nn.GroupNorm(4, 8),
                   instead(r"(?:num_)?groups 4|4 groups.*", r"(?:num_)?(?:groups )?2(?: groups)?")),
        "batch": ("BatchNorm2d", lambda: nn.BatchNorm2d(8), instead("BatchNorm2d.*", "GroupNorm")),
        "eps": ("eps 1e-3", lambda: nn.GroupNorm(2, 8, eps=1e-3), instead("eps 0.001", "(?:eps )?1e-05")),
    }),
    "Linear": (lambda: nn.Linear(12, 8), (4, 12), {
        "features": ("6 features", lambda: nn.Linear(12, 6), instead(".*6.*", ".*8.*")),
        "bias": ("no bias", lambda: nn.Linear(12, 8, bias=False), instead("no bias", "a bias")),
    }),
    "PReLU": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU(8)), (2, 3, 6, 5), {
        "one": ("one slope", lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PReLU()),
                instead("slopes? 1", "(?:slopes? )?8")),
        "relu": ("ReLU", lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()),
                 all_of("PReLU", "missing|without")),
    }),
    "MultiheadAttention": (lambda: Attend(), (2, 7, 16), {
        "heads": ("2 heads", lambda: Attend(heads=2), instead(r".*2.*heads?.*|.*heads? 2.*", r".*4.*")),
        "bias": ("no bias", lambda: Attend(bias=False), all_of("bias")),
        "first": ("batch_first forgotten", lambda: Attend(batch_first=False),
                  all_of(r"batch_first|batch first|images|axes")),
        "values": ("x + 1 as values", lambda: Attend(shift=1),
                   all_of(rf"\b(?:{VALUES})\b|input|made from|same input|add")),
    }),
    "LSTM": (lambda: Recur(nn.LSTM), (2, 7, 16), {
        "gru": ("GRU", lambda: Recur(nn.GRU), instead("GRU.*", "LSTM")),
        "backwards": ("read backwards", lambda: Recur(nn.LSTM, backwards=True),
                      all_of(r"revers|backward|flip|steps|tokens")),
        "first": ("first step for the last", lambda: Recur(nn.LSTM, step=0),
                  all_of(r"step|position|token|\b0\b|first|last")),
        "mean": ("mean of the steps", lambda: Recur(nn.LSTM, step=None), all_of(r"mean|average")),
    }),
}


class Attend(nn.Module):
    def __init__(self, heads=4, bias=True, batch_first=True, shift=0):
        super().__init__()
        self.a, self.shift = nn.MultiheadAttention(16, heads, bias=bias, batch_first=batch_first), shift

    def forward(self, x):
        return self.a(x, x, x + self.shift, need_weights=False)[0]


class Recur(nn.Module):
    def __init__(self, kind, step=-1, backwards=False):
        super().__init__()
        self.r, self.step, self.backwards = kind(16, 8, batch_first=True), step, backwards

    def forward(self, x):
        y = self.r(x.flip(1) if self.backwards else x)[0]
        return y.mean(1) if self.step is None else y[:, self.step]


class One(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def layer_pair(name, build, x, faults):
    def mine(fault):
        return One(faults[fault][1]() if fault else build())
    planted = tuple(Fault(key, what, r"your `layer(?:\.\w+)*`|At the start", cause) for key,
                    (what, _, cause) in faults.items())
    return Pair(f"one layer: {name}", mine, lambda: mine(""), x, planted)


# ------------------------------------------------------------------------------------------- attention on its own

class Attention(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.q, self.o = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        fault = self.fault
        n, t, c = x.shape
        q, k, v = self.q(x).view(n, t, 3, 4, 4).permute(2, 0, 3, 1, 4)
        if fault == "exchanged":
            k, v = v, k
        scale = {"no_scale": 1, "width": 0.25, "square": 0.25, "up": 2, "negative": -0.5}.get(fault, 0.5)
        scores = q @ k.mT * scale
        if fault == "cosine":
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        if fault == "distance":
            scores = -torch.cdist(q, k)
        weights = scores.softmax({"queries": -2, "heads": 1}.get(fault, -1))
        if fault == "weights_relu":
            weights = scores.relu() / t
        if fault == "weights_t":
            weights = weights.mT
        if fault == "diagonal":
            weights = weights + torch.eye(t).to(weights)
        y = weights @ v
        y = y.reshape(n, t, c) if fault == "not_back" else y.transpose(1, 2).flatten(2)
        if fault == "values_added":
            y = y + v.transpose(1, 2).flatten(2)
        y = self.o(y)
        return x + y if fault == "shortcut" else y


ATTENTION = at("q", "o")
ATTENTION_FAULTS = (
    Fault("no_scale", "scale 1 for 0.5", ATTENTION, SCALE),
    Fault("width", "1/sqrt(C) for 1/sqrt(d)", ATTENTION, SCALE),
    Fault("up", "times sqrt(d)", ATTENTION, SCALE),
    Fault("negative", "scores with the other sign", ATTENTION, SUBTRACTED + "|" + SCALE),
    Fault("exchanged", "k and v exchanged", ATTENTION, exchanged(KEYS, VALUES)),
    Fault("queries", "softmax over the queries", ATTENTION, SOFTMAX_AXIS),
    Fault("heads", "softmax over the heads", ATTENTION, SOFTMAX_AXIS),
    Fault("cosine", "scores of unit vectors", ATTENTION, all_of(r"normali[sz]|cosine|length|unit|scores")),
    Fault("distance", "scores from distances", ATTENTION, all_of(r"distance|scores|product")),
    Fault("weights_relu", "ReLU for softmax", ATTENTION, instead("ReLU.*", "Softmax.*") + "|" + missing("softmax")),
    Fault("weights_t", "weights transposed", ATTENTION,
          all_of("transpos|axes") + "|" + exchanged(QUERIES, KEYS)),
    Fault("diagonal", "identity added to the weights", ATTENTION, all_of(r"\badd|plus|diagonal|identity|shortcut")),
    Fault("values_added", "values added to the result", ATTENTION,
          all_of(r"\badd|plus|\bsum|shortcut", rf"\b(?:{VALUES})\b|reference")),
    Fault("not_back", "heads not transposed back", ATTENTION, HEADS_ORDER),
    Fault("shortcut", "a shortcut", at("o"), all_of(r"\badd|plus|\bsum|shortcut", "reference")),
)


# ------------------------------------------------------------------------------------- the other small reproductions

class Tokens(nn.Module):
    """Layers on tokens; the reference has them on maps whose channels come last."""

    def __init__(self, fault="", tokens=True):
        super().__init__()
        self.fault, self.tokens = fault, tokens
        self.c, self.l, self.n, self.m = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        fault = self.fault
        y = self.c(x)
        y = y.flatten(2).transpose(1, 2) if self.tokens else y.permute(0, 2, 3, 1)
        z = self.l(y)
        z = {"relu": F.relu, "silu": F.silu, "none": nn.Identity()}.get(fault, F.gelu)(z)
        if fault == "softmax_tokens":
            z = z.softmax(1)
        z = self.n(z)
        if fault == "minus":
            z = y - z
        elif fault == "twice":
            z = z + 2 * y
        elif fault != "no_skip":
            z = y + z
        z = self.m(z).flatten(1, -2)
        return {"max": z.amax(1), "first": z[:, 0], "sum": z.sum(1)}.get(fault, z.mean(1))


TOKENS_FAULTS = (
    Fault("relu", "ReLU for GELU", at("l", "n"), instead("ReLU", "GELU")),
    Fault("silu", "SiLU for GELU", at("l", "n"), instead("SiLU", "GELU")),
    Fault("none", "no GELU", at("l", "n"), missing("GELU")),
    Fault("softmax_tokens", "softmax over the tokens", at("l", "n"),
          extra("Softmax.*") + "|" + instead("Softmax.*", "GELU")),
    Fault("no_skip", "no shortcut", at("n", "m"), NO_SHORTCUT),
    Fault("minus", "subtracted", at("n", "m"), SUBTRACTED),
    Fault("twice", "shortcut twice", at("n", "m"), TWICE),
    Fault("max", "maximum over the tokens", at("m"), instead(MAXIMUM, AVERAGE)),
    Fault("sum", "sum over the tokens", at("m"), instead(SUM, AVERAGE) + "|" + SCALE),
    Fault("first", "first token", at("m"), all_of(r"first|token|\b0\b|position|slice|part", "average|mean")),
)


class OwnForward(nn.LayerNorm):
    """A norm with a forward of its own, as timm's."""

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class ClassToken(nn.Module):
    def __init__(self, fault="", norm=nn.LayerNorm):
        super().__init__()
        self.fault, self.n, self.l = fault, norm(8), nn.Linear(8, 4)

    def forward(self, x):
        y = self.n(x)
        y = {"mean": y[:, 1:].mean(1), "last": y[:, -1], "mean_all": y.mean(1), "relu": y[:, 0].relu(),
             "sum": y.sum(1), "max": y.amax(1)}.get(self.fault, y[:, 0])
        return self.l(y)


TOKEN = r"token|first|\b0\b|position|slice|part|select|row"
BEHIND = gap("n", "l")
TOKEN_FAULTS = (
    Fault("mean", "mean of the others for the first token", BEHIND, all_of("mean|average", TOKEN)),
    Fault("mean_all", "mean for the first token", BEHIND, all_of("mean|average", TOKEN)),
    Fault("sum", "sum for the first token", BEHIND, all_of("sum|added", TOKEN)),
    Fault("max", "maximum for the first token", BEHIND, all_of("max", TOKEN)),
    Fault("last", "last token for the first", BEHIND, all_of(r"last|another|\b4\b|-1", TOKEN)),
    Fault("relu", "ReLU", BEHIND, extra("ReLU") + "|" + instead("ReLU", "no activation")),
)


class Beside(nn.Module):
    """A convolution beside a pooled and an enlarged map, concatenated; three terms added."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c, self.s = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 4, 1)
        self.o, self.p = nn.Conv2d(19, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        fault = self.fault
        pooled = {"max": F.max_pool2d(x, 3, 2, 1), "count": F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
                  "two": F.avg_pool2d(x, 2), "slices": x[:, :, ::2, ::2]}.get(fault, F.avg_pool2d(x, 3, 2, 1))
        small, large = self.s(x), self.c(x)
        size = large.shape[2:]
        if fault == "nearest":
            up = F.interpolate(small, size)
        else:
            up = F.interpolate(small, size, mode="bilinear", align_corners=fault == "corners")
        if fault == "relu_branch":
            large = F.relu(large)
        if fault == "order":
            y = torch.cat([large, pooled, up], 1)
        elif fault == "order_all":
            y = torch.cat([pooled, large, up], 1)
        else:
            y = torch.cat([large, up, pooled], 1)
        y = F.relu(self.o(y))
        if fault == "sum_two":
            return self.p(y + large)
        if fault == "sum_nearest":
            return self.p(y + large + F.interpolate(small, size))
        if fault == "sum_minus":
            return self.p(y + large - up)
        if fault == "sum_mean":
            return self.p((y + large + up) / 3)
        if fault == "sum_twice":
            return self.p(y + large + 2 * up)
        if fault == "sum_max":
            return self.p(torch.maximum(y + large, up))
        return self.p(F.relu(y + large + up) if fault == "sum_relu" else y + large + up)


JOINED, SUMMED = at("c", "s", "o"), at("o", "p")
BESIDE_FAULTS = (
    Fault("max", "maximum in the concatenation", JOINED, instead(MAXIMUM, AVERAGE)),
    Fault("count", "padding not counted in the concatenation", JOINED, all_of("count|padding", "average|pool")),
    Fault("two", "2x2 in the concatenation", JOINED, instead(".*2x2.*", ".*3x3.*")),
    Fault("slices", "every second pixel in the concatenation", JOINED,
          all_of("average", r"\bno pool|every second|slice|strid|missing")),
    Fault("nearest", "nearest in the concatenation", JOINED, instead(".*nearest.*", ".*bilinear.*")),
    Fault("corners", "align_corners in the concatenation", JOINED, "align_corners"),
    Fault("relu_branch", "ReLU of one branch", JOINED, extra("ReLU") + "|" + instead("ReLU.*", "no activation")),
    Fault("order", "last two branches exchanged", JOINED, all_of("concatenated", "order")),
    Fault("order_all", "pooled map first", JOINED, all_of("concatenated", "order")),
    Fault("sum_two", "one of three terms is missing", SUMMED,
          missing(r"(?:bilinear )?upsampl|shortcut|term|`s`|the output of `s`|adds")),
    Fault("sum_nearest", "nearest in the sum", SUMMED, instead(".*nearest.*", ".*bilinear.*")),
    Fault("sum_minus", "one of three terms subtracted", SUMMED, SUBTRACTED),
    Fault("sum_mean", "mean for sum", SUMMED, SCALE),
    Fault("sum_twice", "one of three terms twice", SUMMED, TWICE),
    Fault("sum_max", "maximum for the last addition", SUMMED, instead(MAXIMUM, SUM)),
    Fault("sum_relu", "ReLU behind the sum", SUMMED, extra("ReLU") + "|" + instead("ReLU.*", "no activation")),
)


class Breaks(nn.Module):
    """Its forward breaks off."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        wrong = dict(padding=2, dilation=3) if fault == "dilation" else dict(padding=2)
        self.c1, self.c2, self.c = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 5, **wrong), nn.Conv2d(8, 4, 1)
        if fault == "channels":
            self.c2 = nn.Conv2d(6, 8, 5, padding=2)
        if fault == "kernel":
            self.c2 = nn.Conv2d(8, 8, 9)

    def forward(self, x):
        x = F.relu(self.c1(x))
        if self.fault == "assert":
            assert x.shape[1] == 9
        if self.fault == "key":
            return {"x": x}["k"]
        x = self.c2(x)
        return self.c(x.view(len(x), 9, -1) if self.fault == "view" else x)


BREAKS_FAULTS = (
    Fault("dilation", "dilation 3 at 6x6: too small a map", r"`c2`", instead(r".*dilation 3.*", r".*dilation 1.*")),
    Fault("kernel", "9x9 at 6x6", r"`c2`", instead(r".*9x9.*", r".*5x5.*")),
    Fault("channels", "expects 6 channels, not 8", r"`c2`", instead("(?:input )?channels 6", ".*8")),
    Fault("assert", "an assertion without words", r"`c1`|`c2`|Breaks", "AssertionError|assert"),
    Fault("key", "a key that is not there", r"`c1`|`c2`|Breaks", "KeyError"),
    Fault("view", "a view that does not fit", r"`c2`|`c`|Breaks", all_of(r"shape|view|size")),
)


class Heads(nn.Module):
    """One head for two levels; with a fault, two heads, or levels that differ."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c, self.h = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        if fault == "own_head":
            self.h2 = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        large = self.c(x)
        small = F.avg_pool2d(large, 2) if self.fault == "average" else F.max_pool2d(large, 2)
        if self.fault == "own_head":
            return self.h(large), self.h2(small)
        if self.fault == "one_level":
            return self.h(large), F.max_pool2d(self.h(large), 2)
        if self.fault == "exchanged":
            y = self.h(large), self.h(small)
            return y[1], y[0]
        if self.fault == "one":
            return self.h(large)
        if self.fault == "relu":
            return self.h(large), F.relu(self.h(small))
        return self.h(large), self.h(small)


class TwoHeads(nn.Module):
    """A head for each level; with the fault, one for both."""

    def __init__(self, fault=""):
        super().__init__()
        self.c, self.h = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.h2 = self.h if fault else nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        x = self.c(x)
        return self.h(x), self.h2(F.max_pool2d(x, 2))


HEADS_FAULTS = (
    Fault("own_head", "a head for each level", at("h", "h2"), all_of("`h2`", "one too many|no such layer")),
    Fault("one_level", "the head sees the large level twice", at("c", "h"),
          all_of("pool", r"input|made from|before|after|\bno ")),
    Fault("average", "average pooling between the levels", at("c", "h"), instead(AVERAGE, MAXIMUM)),
    Fault("exchanged", "levels returned in the other order", at("h", "c") + r"|output\[?[01]?",
          all_of("order|exchang|swap")),
    Fault("one", "only one level returned", r"your `h`|your network returns",
          r"(?is)one tensor.*output\[0\], output\[1\]|once|missing"),
    Fault("relu", "ReLU of the second level", at("h"), extra("ReLU") + "|" + instead("ReLU", "no activation")),
)


class Positions(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.p, self.o = nn.Parameter(torch.zeros(1, 7, 16)), nn.Linear(16, 4)

    def forward(self, x):
        pos = {"backwards": self.p.flip(1), "moved": self.p.roll(1, 1), "negative": -self.p, "twice": 2 * self.p,
               "features": self.p.flip(2), "first": self.p[:, :1], "sigmoid": self.p.sigmoid()}.get(self.fault, self.p)
        return self.o(x * (1 + pos) if self.fault == "times" else x + pos)


POSITION = at("p", "o", "Positions", "")
ORDER = all_of(r"order|revers|backward|flip|roll|shift|moved|last to")
POSITIONS_FAULTS = (
    Fault("backwards", "position table read backwards", POSITION, ORDER),
    Fault("moved", "position table moved by one", POSITION, ORDER),
    Fault("features", "features of the table backwards", POSITION, ORDER),
    Fault("negative", "position table subtracted", POSITION, SUBTRACTED),
    Fault("twice", "position table twice", POSITION, TWICE),
    Fault("first", "first position for all", POSITION, all_of(r"first|position|\b0\b|slice|part|only")),
    Fault("sigmoid", "sigmoid of the table", POSITION,
          extra("Sigmoid") + "|" + instead("Sigmoid.*", "`p`|no activation|.*")),
    Fault("times", "times 1 + positions", POSITION, instead(PRODUCT, SUM)),
)


class Float32(nn.Module):
    """A forward that insists on float32."""

    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=1e-3 if fault == "eps" else 1e-5)
        self.o = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.b(self.c(x)) + torch.ones(1, dtype=torch.float32).to(torch.float32).mul(0)
        if x.dtype is not torch.float32:
            raise TypeError(f"float32 only, got {x.dtype}")
        x = F.relu6(x) if self.fault == "relu6" else F.relu(x)
        return self.o(F.max_pool2d(x, 3, 2, ceil_mode=self.fault == "ceil"))


class Ceil(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.a, self.o = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.a(x)
        kind = F.avg_pool2d if self.fault == "average" else F.max_pool2d
        return self.o(kind(x, 3, 2, 1 if self.fault == "padding" else 0, ceil_mode=self.fault == "ceil"))


CEIL = all_of("pool", "round|ceil|odd")
CEIL_FAULTS = (
    Fault("ceil", "ceil_mode at an odd size", at("a", "o"), CEIL),
    Fault("average", "average pooling", at("a", "o"), instead(AVERAGE, MAXIMUM)),
    Fault("padding", "padding 1", at("a", "o"), instead(".*padding 1.*", ".*padding 0.*")),
)


def mobilenet_v3(fault):
    return lw.create_model("mobilenet_v3_small") if fault else timm.create_model("tf_mobilenetv3_small_100")


PAIRS = (
    *(capped_pair(name, pre) for name, pre in SCALED.items()),
    tokens_pair(),
    *(operation_pair(name, *case) for name, case in OPERATIONS.items()),
    *(layer_pair(name, *case) for name, case in LAYERS.items()),
    Pair("attention alone", Attention, Attention, (2, 7, 16), ATTENTION_FAULTS),
    Pair("tokens against maps", Tokens, lambda: Tokens(tokens=False), (2, 3, 8, 8), TOKENS_FAULTS),
    Pair("tokens against tokens", Tokens, Tokens, (2, 3, 8, 8), TOKENS_FAULTS),
    Pair("class token behind a norm", ClassToken, lambda: ClassToken(norm=OwnForward), (2, 5, 8), TOKEN_FAULTS),
    Pair("class token behind nn.LayerNorm", ClassToken, ClassToken, (2, 5, 8), TOKEN_FAULTS),
    Pair("concatenation and sum of three", Beside, Beside, (2, 3, 16, 16), BESIDE_FAULTS),
    Pair("forward that breaks", Breaks, Breaks, (2, 3, 6, 6), BREAKS_FAULTS),
    Pair("head shared by two levels", Heads, Heads, (2, 3, 12, 12), HEADS_FAULTS),
    Pair("a head for each of two levels", TwoHeads, TwoHeads, (2, 3, 12, 12),
         (Fault("shared", "one head for both", at("h", "h2"), all_of(r"once more|twice|shared|missing")),)),
    Pair("position table", Positions, Positions, (2, 7, 16), POSITIONS_FAULTS),
    Pair("float32 only", Float32, Float32, (2, 3, 12, 12), (
        Fault("eps", "eps 1e-3", at("b"), instead("eps 0.001", "(?:eps )?1e-05")),
        Fault("relu6", "ReLU6 for ReLU", at("b", "o"), instead("ReLU6", "ReLU")),
        Fault("ceil", "ceil_mode", at("b", "o"), CEIL),
    )),
    Pair("max pooling at an odd size", Ceil, Ceil, (2, 3, 12, 12), CEIL_FAULTS),
    Pair("mobilenet_v3_small/timm", mobilenet_v3, lambda: mobilenet_v3(""), (1, 3, 64, 64), (
        Fault("padding", "PyTorch's padding for TensorFlow's", at("stem.conv"), all_of("tensorflow|same")),)),
)
