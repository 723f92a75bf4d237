"""LeNet, U-Net and four attention blocks: coordinate, split, squeeze-and-excitation, efficient."""
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers.coordinate_attention import CoordinateAttention
from lwcourse.layers.efficient_channel_attention import EfficientChannelAttention
from lwcourse.layers.split_attention import SplitAttention
from lwcourse.layers.squeeze_excitation import SqueezeExcitation
from planted import Fault, Pair
from planted.sentences import NO_SHORTCUT, PIXEL_ORDER, SCALE, SOFTMAX_AXIS, all_of, at, extra, instead, missing

AVERAGE, MAXIMUM, SUM = ".*(?:average|mean).*", ".*max.*", ".*(?:add|plus|sum).*"
PRODUCT = ".*(?:times|multipl|product).*"
SUBTRACTED = all_of(r"subtract|minus|times -1|sign")
TWICE = all_of(r"twice|square|two times|times 2|2 times|times .* times")


def no_activation(name):
    return extra(name) + "|" + instead(name, "no activation|the output of .*")


# ----------------------------------------------------------------------------------------------------------- LeNet

class LeNet(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.c1, self.c2 = nn.Conv2d(1, 6, 5, padding=0 if fault == "padding" else 2), nn.Conv2d(6, 12, 5)
        self.f1, self.f2 = nn.Linear(12 * 5 * 5, 32), nn.Linear(32, 10)

    def pool(self, x):
        if self.fault == "average":
            return F.avg_pool2d(x, 2)
        if self.fault == "stride_without_pool":
            return x[:, :, ::2, ::2]
        if self.fault == "norm_pool":
            return F.lp_pool2d(x, 2, 2)
        return F.max_pool2d(x, 2)

    def flatten(self, x):
        fault = self.fault
        if fault == "turned":
            x = x.transpose(2, 3)
        elif fault == "channels_last":
            x = x.permute(0, 2, 3, 1)
        elif fault == "rows_first":
            x = x.permute(0, 2, 1, 3)
        elif fault == "backwards":
            return x.flatten(1).flip(1)
        elif fault == "upside_down":
            x = x.flip(2)
        elif fault == "mirrored":
            x = x.flip(3)
        elif fault == "images_mixed":
            return x.permute(1, 2, 3, 0).reshape(len(x), -1)
        return x.flatten(1)

    def forward(self, x):
        fault = self.fault
        x = F.relu(self.c1(x))
        if fault == "padding":
            x = F.pad(x, (2, 2, 2, 2))
        x = F.max_pool2d(x, 2)
        x = self.flatten(self.pool(F.relu(self.c2(x))))
        if fault == "tanh_before":
            x = torch.tanh(x)
        x = self.f1(x)
        if fault == "leaky":
            x = F.leaky_relu(x, 0.2)
        elif fault == "tanh":
            x = torch.tanh(x)
        elif fault == "sigmoid":
            x = torch.sigmoid(x)
        elif fault == "abs":
            x = x.abs()
        elif fault == "square":
            x = x.relu() ** 2
        elif fault == "threshold":
            x = F.threshold(x, 0.5, 0.0)
        elif fault != "no_act":
            x = F.relu(x)
        if fault == "dropout":
            x = F.dropout(x, 0.4)
        if fault == "dropout_scale":
            x = x * 0.6
        x = self.f2(x)
        if fault == "softmax":
            return x.softmax(1)
        if fault == "softmax_images":
            return x.softmax(0)
        if fault == "log_softmax":
            return F.log_softmax(x, -1)
        if fault == "relu_end":
            return F.relu(x)
        return {"halved": x / 2, "negative": -x, "normalised": F.normalize(x), "shifted": x + 1}.get(fault, x)


FLAT, HIDDEN, LAST = at("c2", "f1"), at("f1", "f2"), at("f2")
FLATTENED = PIXEL_ORDER + r"|(?i:flatten|\bflip|revers|backward|mirror)"

LENET_FAULTS = (
    Fault("padding", "padding behind the convolution, not before", at("c1"), instead("padding 0", "padding 2")),
    Fault("average", "average pooling", FLAT, instead(AVERAGE, MAXIMUM)),
    Fault("norm_pool", "power-average pooling", FLAT, all_of("max", "pool", r"LP|power|square|norm|else|but")),
    Fault("stride_without_pool", "every second pixel, not the maximum", FLAT,
          all_of("max", r"\bno |missing|without|every second|slice|strid")),
    Fault("turned", "H and W swapped before flattening", FLAT, FLATTENED),
    Fault("channels_last", "channels last before flattening", FLAT, FLATTENED),
    Fault("rows_first", "(H, C, W) flattened", FLAT, FLATTENED),
    Fault("backwards", "flattened, then from last to first", FLAT, FLATTENED),
    Fault("upside_down", "rows from the last to the first", FLAT, FLATTENED),
    Fault("mirrored", "columns from the last to the first", FLAT, FLATTENED),
    Fault("images_mixed", "images last before flattening", FLAT, FLATTENED + "|(?i:images|batch)"),
    Fault("tanh_before", "tanh behind flattening", FLAT, no_activation("Tanh")),
    Fault("leaky", "LeakyReLU", HIDDEN, instead("LeakyReLU.*", "ReLU")),
    Fault("tanh", "tanh", HIDDEN, instead("Tanh", "ReLU")),
    Fault("sigmoid", "sigmoid", HIDDEN, instead("Sigmoid", "ReLU")),
    Fault("abs", "absolute value", HIDDEN, instead(".*abs.*", "ReLU")),
    Fault("square", "squared ReLU", HIDDEN,
          instead(".*(?:squar|ReLU2|power|times).*", "ReLU") + "|(?:power 2|squared?) of ReLU"),
    Fault("threshold", "threshold at 0.5", HIDDEN, instead(r".*(?:threshold|0\.5).*", "ReLU")),
    Fault("no_act", "no activation", HIDDEN, missing("ReLU")),
    Fault("dropout", "F.dropout without training=", HIDDEN, all_of("not deterministic", "dropout")),
    Fault("dropout_scale", "times 1 - p", HIDDEN, SCALE),
    Fault("softmax", "softmax", LAST, no_activation("Softmax.*")),
    Fault("softmax_images", "softmax over the images", LAST, no_activation("Softmax.*")),
    Fault("log_softmax", "log_softmax", LAST, no_activation("Log.?Softmax.*")),
    Fault("relu_end", "ReLU at the end", LAST, no_activation("ReLU")),
    Fault("halved", "logits halved", LAST, SCALE),
    Fault("negative", "logits with the other sign", LAST, SUBTRACTED + "|(?i:negat)"),
    Fault("normalised", "logits of length 1", LAST, all_of(r"normali[sz]|length|norm\b|divi")),
    Fault("shifted", "1 added", LAST, all_of(r"\badd|plus|shift|offset|constant")),
)


# ----------------------------------------------------------------------------------------------------------- U-Net

class UNet(nn.Module):
    def __init__(self, fault=""):
        super().__init__()
        self.fault = fault
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 1, 1)
        self.u, self.d = nn.ConvTranspose2d(32, 16, 2, 2), nn.Conv2d(32, 16, 3, 1, 1)
        self.v, self.e, self.o = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 8, 3, 1, 1), nn.Conv2d(8, 3, 1)

    def forward(self, x):
        fault = self.fault
        pool = F.avg_pool2d if fault == "average" else F.max_pool2d
        before = self.a(x)
        a = F.relu(before)
        b = F.relu(self.b(pool(a, 2)))
        c = F.relu(self.c(F.max_pool2d(b, 2)))
        u = self.u(c)
        if fault == "relu_up":
            u = F.relu(u)
        if fault == "cat":
            d = torch.cat([b, u], 1)
        elif fault == "skip_level":
            d = torch.cat([u, F.avg_pool2d(a, 2).repeat(1, 2, 1, 1)], 1)
        elif fault == "skip_zero":
            d = torch.cat([u, torch.zeros_like(b)], 1)
        elif fault == "skip_itself":
            d = torch.cat([u, u], 1)
        elif fault == "skip_sum":
            d = torch.cat([u, u + b], 1)
        elif fault == "skip_scaled":
            d = torch.cat([u, 0.5 * b], 1)
        elif fault == "skip_interleaved":
            d = torch.stack([u, b], 2).flatten(1, 2)
        elif fault == "skip_pooled":
            d = torch.cat([u, F.interpolate(F.max_pool2d(b, 2), scale_factor=2)], 1)
        elif fault == "skip_shifted":
            d = torch.cat([u, b.roll(1, 3)], 1)
        elif fault == "skip_turned":
            d = torch.cat([u, b.transpose(2, 3)], 1)
        elif fault == "skip_sigmoid":
            d = torch.cat([u, b.sigmoid()], 1)
        else:
            d = torch.cat([u, b], 1)
        d = F.relu(self.d(d))
        v = self.v(d)
        e = F.relu(self.e(torch.cat([v, before if fault == "skip_before_relu" else a], 1)))
        if fault == "skip_image":
            e = e + x.mean(1, keepdim=True)
        x = self.o(e)
        if fault == "sigmoid":
            return x.sigmoid()
        if fault == "softmax_columns":
            return x.softmax(3)
        if fault == "softmax_rows":
            return x.softmax(2)
        if fault == "softmax_classes":
            return x.softmax(1)
        if fault == "softmax_pixels":
            return x.flatten(2).softmax(2).view_as(x)
        if fault == "log_softmax":
            return x.log_softmax(1)
        if fault == "sigmoid_log":
            return F.logsigmoid(x)
        if fault == "turned_end":
            return x.transpose(2, 3)
        if fault == "classes_last":
            return x.permute(0, 2, 3, 1)
        return x.flip(1) if fault == "classes_backwards" else x


JOIN, OUT = at("u", "d"), at("o")

UNET_FAULTS = (
    Fault("average", "average pooling", at("a", "b"), instead(AVERAGE, MAXIMUM)),
    Fault("relu_up", "ReLU behind the transposed convolution", JOIN, no_activation("ReLU")),
    Fault("cat", "skip first in the concatenation", JOIN, all_of("concatenated", "order")),
    Fault("skip_level", "skip from another level", JOIN,
          all_of(r"`b`", r"`a`|another|missing|instead|average", "concat|made from|but|reference|channels")),
    Fault("skip_zero", "zeros for the skip", JOIN, all_of(r"`b`", "zero|missing|without|no ")),
    Fault("skip_itself", "the upsampled maps twice", JOIN, all_of("`b`", "`u`", r"twice|missing|but|instead|channels")),
    Fault("skip_sum", "a sum in the concatenation", JOIN, all_of("`u`", r"\badd|plus|\bsum")),
    Fault("skip_scaled", "half the skip", JOIN, SCALE),
    Fault("skip_interleaved", "channels alternate", JOIN, all_of("shuffle|alternat|interleav|order")),
    Fault("skip_pooled", "skip behind the pooling, enlarged", JOIN, all_of("pool|max", "`b`|upsampl")),
    Fault("skip_shifted", "skip moved by a column", JOIN, all_of(r"shift|moved|roll|offset|columns?|pixels?")),
    Fault("skip_turned", "H and W of the skip swapped", JOIN, PIXEL_ORDER),
    Fault("skip_sigmoid", "sigmoid of the skip", JOIN, no_activation("Sigmoid") + "|" + instead("Sigmoid.*", "ReLU")),
    Fault("skip_before_relu", "skip taken before the ReLU", at("v", "e"), missing("ReLU")),
    Fault("skip_image", "the image added to the last maps", at("e", "o"),
          all_of(r"\badd|plus|\bsum|shortcut", "input|image|x")),
    Fault("sigmoid", "sigmoid at the end", OUT, no_activation("Sigmoid")),
    Fault("sigmoid_log", "log of the sigmoid at the end", OUT, no_activation("Log.?Sigmoid")),
    Fault("softmax_columns", "softmax over W", OUT, no_activation("Softmax.*")),
    Fault("softmax_rows", "softmax over H", OUT, no_activation("Softmax.*")),
    Fault("softmax_classes", "softmax over the classes", OUT, no_activation("Softmax.*")),
    Fault("softmax_pixels", "softmax over the pixels", OUT, no_activation("Softmax.*")),
    Fault("log_softmax", "log_softmax over the classes", OUT, no_activation("Log.?Softmax.*")),
    Fault("turned_end", "H and W swapped at the end", OUT, PIXEL_ORDER),
    Fault("classes_last", "classes as the last axis", OUT, PIXEL_ORDER + r"|\(2, 16, 16, 3\).*\(2, 3, 16, 16\)"),
    Fault("classes_backwards", "classes from the last to the first", OUT,
          r"(?is:^(?!.*`o`, `o`).*(?:order|backward|revers|flip))"),
)


# ------------------------------------------------------------------------------------------------- attention blocks

class Around(nn.Module):
    """Convolution, BatchNorm and ReLU, a block `l`, global mean, classifier."""

    def __init__(self, layer):
        super().__init__()
        self.c, self.b = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.l, self.fc = layer, nn.Linear(64, 5)

    def forward(self, x):
        return self.fc(self.l(F.relu(self.b(self.c(x)))).mean((2, 3)))


class Coordinate(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.r, self.n = nn.Conv2d(64, 8, 1), nn.BatchNorm2d(8)
        self.h, self.w = nn.Conv2d(8, 64, 1), nn.Conv2d(8, 64, 1)

    def both(self, x):
        fault = self.fault
        rows = x.amax(3, keepdim=True) if fault == "max_rows" else x.mean(3, keepdim=True)
        columns = x.amax(2, keepdim=True) if fault == "max_columns" else x.mean(2, keepdim=True)
        if fault == "sum_rows":
            rows = x.sum(3, keepdim=True)
        if fault == "axes":
            rows, columns = columns.transpose(2, 3), rows.transpose(2, 3)
        if fault == "cat_order":
            return torch.cat([columns.transpose(2, 3), rows], 2)
        if fault == "rows_twice":
            return torch.cat([rows, rows], 2)
        return torch.cat([rows, columns.transpose(2, 3)], 2)

    def forward(self, x):
        fault, (h, w) = self.fault, x.shape[2:]
        y = self.n(self.r(self.both(x)))
        y = {"relu": F.relu, "silu": F.silu, "relu6": F.relu6, "no_act": nn.Identity()}.get(fault, F.hardswish)(y)
        if fault == "split_swapped":
            columns, rows = y.split([h, w], 2)
        elif fault == "sizes_swapped":
            rows, columns = y.split([w, h], 2)
        else:
            rows, columns = y.split([h, w], 2)
        rows, columns = self.h(rows), self.w(columns.transpose(2, 3))
        if fault == "one_sigmoid":
            return x * (rows + columns).sigmoid()
        if fault == "hard_gate":
            rows, columns = F.hardsigmoid(rows), F.hardsigmoid(columns)
        elif fault == "no_sigmoid_rows":
            columns = columns.sigmoid()
        elif fault == "softmax_gate":
            rows, columns = rows.softmax(2), columns.softmax(3)
        else:
            rows, columns = rows.sigmoid(), columns.sigmoid()
        if fault == "averaged":
            return x * (rows + columns) / 2
        if fault == "rows_only":
            return x * rows + 0 * columns
        if fault == "shortcut":
            return x + x * rows * columns
        if fault == "not_applied":
            return x + 0 * rows * columns
        if fault == "added":
            return x + rows * columns
        if fault == "root":
            return x * (rows * columns).sqrt()
        return x * rows * columns


POOLED, BRANCHES, GATES = at("b", "l.r"), at("l.n", "l.h"), at("l.w", "l.h", "fc")
GATE = r"gate|Sigmoid|times|multipl|`l\.h`|`l\.w`"

COORDINATE_FAULTS = (
    Fault("max_rows", "maximum over each row", POOLED, instead(MAXIMUM, AVERAGE)),
    Fault("max_columns", "maximum over each column", POOLED, instead(MAXIMUM, AVERAGE)),
    Fault("sum_rows", "sum over each row", POOLED, instead(SUM, AVERAGE) + "|" + SCALE),
    Fault("axes", "rows for columns", POOLED, all_of(r"\baxis|\baxes|\bover|order|exchang|swap|rows and columns")),
    Fault("cat_order", "columns before rows in the concatenation", POOLED, all_of("concatenat", "order")),
    Fault("rows_twice", "rows twice in the concatenation", POOLED,
          all_of(r"concatenat|mean|average|axis|axes|over", r"twice|but|missing|instead|channels")),
    Fault("relu", "ReLU for Hardswish", BRANCHES, instead("ReLU", "Hardswish")),
    Fault("relu6", "ReLU6 for Hardswish", BRANCHES, instead("ReLU6", "Hardswish")),
    Fault("silu", "SiLU for Hardswish", BRANCHES, instead("SiLU", "Hardswish")),
    Fault("no_act", "no activation", BRANCHES, missing("Hardswish")),
    Fault("split_swapped", "the halves exchanged", BRANCHES,
          all_of(r"exchang|swap|halves|order|another part|other half|split|slice|positions \d")),
    Fault("one_sigmoid", "one sigmoid of the sum", GATES, all_of("sigmoid", SUM, PRODUCT + "|each|two")),
    Fault("hard_gate", "Hardsigmoid for Sigmoid", GATES, instead("Hardsigmoid.*", "Sigmoid")),
    Fault("no_sigmoid_rows", "no sigmoid on the rows' gate", GATES, missing("Sigmoid") + "|"
          + instead(r"(?:the )?output of `l\.h`.*", "Sigmoid")),
    Fault("softmax_gate", "softmax for sigmoid", GATES, instead("Softmax.*", "Sigmoid")),
    Fault("averaged", "mean of the gates", GATES, instead(".*(?:mean|average|plus|sum|add).*", PRODUCT)),
    Fault("rows_only", "the columns' gate is not applied", GATES, all_of(r"`l\.w`", "missing|not|only|without|but")),
    Fault("shortcut", "x added to the gated x", GATES, all_of(r"\badd|plus|\bsum|shortcut", "reference")),
    Fault("not_applied", "gates not applied", GATES, missing("multiplication|times|gate")
          + "|multiplication is missing"),
    Fault("added", "gates added", GATES, instead(SUM, PRODUCT)),
    Fault("root", "root of the gates", GATES, all_of(r"root|sqrt|power")),
)
OBLONG_FAULTS = (
    Fault("sizes_swapped", "sizes of the split swapped", r"`l(?:\.[hnw])?`",
          all_of(r"split|exchang|swap|halves|\border\b")),
    Fault("split_swapped", "names of the split's parts swapped", r"`l(?:\.[hnw])?`",
          all_of(r"split|exchang|swap|halves|\border\b")),
)


class Split(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.c, self.b = nn.Conv2d(64, 128, 3, 1, 1, groups=1 if fault == "groups" else 2,
                                   bias=False), nn.BatchNorm2d(128)
        self.f1, self.n, self.f2 = nn.Conv2d(64, 32, 1), nn.BatchNorm2d(32), nn.Conv2d(32, 128, 1)

    def forward(self, x):
        fault = self.fault
        x = self.b(self.c(x))
        x = x if fault == "no_act" else F.relu(x)
        x = x.unflatten(1, (2, 64))
        if fault == "interleaved":
            x = x.flatten(1, 2).unflatten(1, (64, 2)).transpose(1, 2)
        total = {"mean": x.mean(1), "first": x[:, 0], "max": x.amax(1), "product": x.prod(1),
                 "difference": x[:, 0] - x[:, 1]}.get(fault, x.sum(1))
        total = total.amax((2, 3), keepdim=True) if fault == "pool_max" else total.mean((2, 3), keepdim=True)
        weights = self.f2(F.relu(self.n(self.f1(total))))
        weights = weights.unflatten(1, (64, 2)).transpose(1,
                                                          2) if fault == "weights_interleaved" else weights.unflatten(
            1, (2, 64))
        if fault == "sigmoid":
            weights = weights.sigmoid()
        elif fault == "no_softmax":
            pass
        else:
            weights = weights.softmax({"softmax_channels": 2, "softmax_images": 0}.get(fault, 1))
        if fault == "weights_exchanged":
            weights = weights.flip(1)
        y = x * weights
        if fault == "combine_mean":
            return y.mean(1)
        if fault == "combine_max":
            return y.amax(1)
        if fault == "combine_first":
            return y[:, 0]
        return (x + weights).sum(1) if fault == "weights_added" else y.sum(1)


SPLIT_POOL, MIX = at("l.b", "l.f1"), at("l.f2", "fc")
SPLITS = r"channels? |split|half|halves|first|part"

SPLIT_FAULTS = (
    Fault("groups", "one group in the convolution", at("l.c"), instead("groups 1", "groups 2")),
    Fault("no_act", "no ReLU on the splits", SPLIT_POOL, missing("ReLU")),
    Fault("mean", "mean of the splits for their sum", SPLIT_POOL, SCALE + "|" + instead(AVERAGE, SUM)),
    Fault("first", "pooled from the first split", SPLIT_POOL, all_of(SPLITS, r"\badd|plus|\bsum|only|missing")),
    Fault("max", "maximum of the splits for their sum", SPLIT_POOL, instead(MAXIMUM, SUM)),
    Fault("product", "product of the splits for their sum", SPLIT_POOL, instead(PRODUCT, SUM)),
    Fault("difference", "difference of the splits for their sum", SPLIT_POOL, SUBTRACTED),
    Fault("interleaved", "splits alternate", SPLIT_POOL,
          all_of(r"order|alternat|interleav|shuffle|reshape|every second")),
    Fault("pool_max", "maximum over the pixels", SPLIT_POOL, instead(MAXIMUM, AVERAGE)),
    Fault("weights_interleaved", "weights alternate", MIX,
          all_of(r"order|alternat|interleav|shuffle|reshape|every second")),
    Fault("weights_exchanged", "weights of the splits exchanged", MIX,
          all_of(r"order|exchang|swap|other split|other half|flip")),
    Fault("softmax_channels", "softmax over the channels", MIX, SOFTMAX_AXIS),
    Fault("softmax_images", "softmax over the images", MIX, SOFTMAX_AXIS),
    Fault("sigmoid", "sigmoid for softmax", MIX, instead("Sigmoid.*", "softmax")),
    Fault("no_softmax", "no softmax", MIX, missing("softmax")),
    Fault("combine_mean", "mean of the weighed splits", MIX, SCALE + "|" + instead(AVERAGE, SUM)),
    Fault("combine_max", "maximum of the weighed splits", MIX, instead(MAXIMUM, SUM)),
    Fault("combine_first", "only the first weighed split", MIX, all_of(SPLITS, r"\badd|plus|\bsum|only|missing")),
    Fault("weights_added", "weights added", MIX, instead(SUM, PRODUCT)),
)


class Squeeze(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.a, self.b = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 64, 1)

    def squeeze(self, x):
        fault = self.fault
        if fault == "max":
            return x.amax((2, 3), keepdim=True)
        if fault == "sum":
            return x.sum((2, 3), keepdim=True)
        if fault == "max_rows":
            return x.mean(3, keepdim=True).amax(2, keepdim=True)
        if fault == "std":
            return x.std((2, 3), keepdim=True)
        if fault == "centre":
            return x[:, :, 3:4, 4:5]
        if fault == "images":
            return x.mean((0, 2, 3), keepdim=True).expand(len(x), -1, -1, -1)
        if fault == "average_and_max":
            return x.mean((2, 3), keepdim=True) + x.amax((2, 3), keepdim=True)
        return x.mean((2, 3), keepdim=True)

    def forward(self, x):
        fault = self.fault
        y = self.a(self.squeeze(x))
        if fault == "silu":
            y = F.silu(y)
        elif fault != "no_act":
            y = F.relu(y)
        y = self.b(y)
        gate = {"no_sigmoid": y, "hardsigmoid": F.hardsigmoid(y), "softmax": y.softmax(1), "tanh": y.tanh(),
                "relu6": F.relu6(y + 3) / 6, "relu": y.relu(), "double": 2 * y.sigmoid(), "plus_one": 1 + y.sigmoid(),
                "one_minus": 1 - y.sigmoid(), "sharp": (10 * y).sigmoid(), "relu6_only": F.relu6(y) / 6,
                "clamp": y.clamp(0, 1), "exp": y.exp(), "sigmoid_twice": y.sigmoid().sigmoid()}.get(fault, y.sigmoid())
        if fault == "not_applied":
            return x
        if fault == "only_gate":
            return gate.expand_as(x)
        if fault == "squared":
            return x * gate * gate
        if fault == "input_squared":
            return x * x * gate
        if fault == "divided":
            return x / gate
        if fault == "rolled":
            return x * gate.roll(1, 1)
        if fault == "images_mixed":
            return x * gate.flip(0)
        if fault == "added":
            return x + gate
        return x + x * gate if fault == "shortcut" else x * gate


GATED = at("l.b", "fc")

SQUEEZE_FAULTS = (
    Fault("max", "maximum for mean", at("b", "l.a"), instead(MAXIMUM, AVERAGE)),
    Fault("sum", "sum for mean", at("b", "l.a"), instead(SUM, AVERAGE) + "|" + SCALE),
    Fault("max_rows", "mean over W, maximum over H", at("b", "l.a"), all_of("max", "average|mean")),
    Fault("std", "deviation for mean", at("b", "l.a"), instead(r".*(?:\bstd|deviation|variance).*", AVERAGE)),
    Fault("centre", "one pixel for the mean", at("b", "l.a"),
          all_of(r"pixel|slice|\[|position|part|one value", "average|mean")),
    Fault("images", "mean over the images too", at("b", "l.a"),
          all_of(r"\bover|axis|axes|images|batch", "average|mean")),
    Fault("average_and_max", "mean and maximum added", at("b", "l.a"), all_of("max", "average|mean")),
    Fault("silu", "SiLU inside", at("l.a", "l.b"), instead("SiLU", "ReLU")),
    Fault("no_act", "no ReLU inside", at("l.a", "l.b"), missing("ReLU")),
    Fault("no_sigmoid", "no sigmoid", GATED,
          missing("Sigmoid") + "|" + instead("gate is the output of.*", "Sigmoid")),
    Fault("hardsigmoid", "Hardsigmoid", GATED, instead("Hardsigmoid.*", "Sigmoid")),
    Fault("relu6", "relu6(y + 3) / 6", GATED, instead("(?:Hardsigmoid|ReLU6).*", "Sigmoid")),
    Fault("relu6_only", "relu6(y) / 6", GATED, instead("ReLU6.*", "Sigmoid")),
    Fault("relu", "ReLU", GATED, instead("ReLU.*", "Sigmoid")),
    Fault("clamp", "clamp to 0 and 1", GATED, instead(".*(?:clamp|Hardtanh|0.*1).*", "Sigmoid")),
    Fault("tanh", "tanh", GATED, instead("Tanh.*", "Sigmoid")),
    Fault("softmax", "softmax over the channels", GATED, instead("Softmax.*", "Sigmoid")),
    Fault("exp", "exp", GATED, instead(r".*\bexp.*", "Sigmoid")),
    Fault("sharp", "sigmoid of ten times the value", GATED, SCALE + "|(?i:10)"),
    Fault("sigmoid_twice", "sigmoid twice", GATED, all_of("twice|Sigmoid of Sigmoid")),
    Fault("double", "twice the gate", GATED, SCALE + "|(?i:twice)"),
    Fault("plus_one", "1 + gate", GATED, all_of(r"1 \+|\+ 1|plus 1|plus one|shortcut|add(?:s|ed)")),
    Fault("one_minus", "1 - gate", GATED, all_of(r"1 -|minus|subtract|negative|sign")),
    Fault("not_applied", "gate not applied", GATED, "multiplication is missing|" + missing("multiplication|gate")),
    Fault("only_gate", "gate instead of the gated", GATED,
          "multiplication is missing|" + missing("multiplication|ReLU")),
    Fault("squared", "gate applied twice", GATED, TWICE),
    Fault("input_squared", "x times x times the gate", GATED, TWICE),
    Fault("divided", "divided by the gate", GATED, all_of("divi")),
    Fault("rolled", "gate of the channel before", GATED,
          all_of(r"order|roll|shift|moved|another channel|other channels")),
    Fault("images_mixed", "gate of the other image", GATED, all_of(r"order|images|batch|flip|axis 0")),
    Fault("added", "gate added", GATED, instead(SUM, PRODUCT)),
    Fault("shortcut", "x added to the gated x", GATED, all_of(r"\badd|plus|\bsum|shortcut|1 \+", "reference")),
)


class Efficient(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        k = 5 if fault == "kernel5" else 3
        self.k = nn.Conv1d(1, 1, k, padding=0 if fault == "circular" else k // 2, bias=fault == "bias")

    def forward(self, x):
        fault = self.fault
        y = x.amax((2, 3)) if fault == "max" else x.mean((2, 3))
        if fault == "relu_before":
            y = F.relu(y - 0.5)
        if fault == "flipped":
            y = y.flip(1)
        if fault == "circular":
            y = torch.cat([y[:, -1:], y, y[:, :1]], 1)
        y = self.k(y[:, None])[:, 0]
        if fault == "flipped_back":
            y = y.flip(1)
        y = {"hardsigmoid": F.hardsigmoid(y), "no_sigmoid": y, "softmax": y.softmax(1), "tanh": y.tanh(),
             "softmax_images": y.softmax(0), "relu": y.relu()}.get(fault, y.sigmoid())[:, :, None, None]
        if fault == "not_applied":
            return x
        if fault == "added":
            return x + y
        if fault == "plus_one":
            return x * (1 + y)
        if fault == "shortcut":
            return x + x * y
        return x * y * y if fault == "twice" else x * y


EFFICIENT_POOL, EFFICIENT_GATE = at("b", "l.k"), at("l.k", "fc")

EFFICIENT_FAULTS = (
    Fault("kernel5", "kernel of 5", at("l.k"), instead(r"kernel size 5(?!x).*", r"kernel size 3(?!x)")),
    Fault("bias", "a bias", at("l.k"), instead("a bias", "no bias")),
    Fault("circular", "padded around", at("l.k"),
          instead(".*(?:padding 0|circular).*", ".*(?:padding 1|zeros).*") + r"|padded|\(2, 1, 66\)"),
    Fault("max", "maximum for mean", EFFICIENT_POOL, instead(MAXIMUM, AVERAGE)),
    Fault("relu_before", "something subtracted, and ReLU, before the convolution", EFFICIENT_POOL,
          all_of("ReLU|subtract|minus|shift|0.5")),
    Fault("flipped", "channels from the last to the first", EFFICIENT_POOL, all_of(r"order|flip|revers|backward")),
    Fault("flipped_back", "gates from the last to the first", EFFICIENT_GATE, all_of(r"order|flip|revers|backward")),
    Fault("hardsigmoid", "Hardsigmoid", EFFICIENT_GATE, instead("Hardsigmoid.*", "Sigmoid")),
    Fault("no_sigmoid", "no sigmoid", EFFICIENT_GATE,
          missing("Sigmoid") + "|" + instead("gate is the output of.*", "Sigmoid")),
    Fault("softmax", "softmax over the channels", EFFICIENT_GATE, instead("Softmax.*", "Sigmoid")),
    Fault("softmax_images", "softmax over the images", EFFICIENT_GATE, instead("Softmax.*", "Sigmoid")),
    Fault("tanh", "tanh", EFFICIENT_GATE, instead("Tanh.*", "Sigmoid")),
    Fault("relu", "ReLU", EFFICIENT_GATE, instead("ReLU.*", "Sigmoid")),
    Fault("not_applied", "gate not applied", EFFICIENT_GATE,
          "multiplication is missing|" + missing("multiplication|gate")),
    Fault("added", "gate added", EFFICIENT_GATE, instead(SUM, PRODUCT)),
    Fault("plus_one", "1 + gate", EFFICIENT_GATE, all_of(r"1 \+|\+ 1|plus 1|plus one|shortcut|add(?:s|ed)")),
    Fault("shortcut", "x added to the gated x", EFFICIENT_GATE, all_of(r"\badd|plus|\bsum|shortcut|1 \+", "reference")),
    Fault("twice", "gate applied twice", EFFICIENT_GATE, TWICE),
)


class GatedResidual(nn.Module):
    """Convolution and BatchNorm, a gate, and a shortcut around them; the course's gate, or one by hand."""

    def __init__(self, gate, fault=""):
        super().__init__()
        self.fault = fault
        self.k, self.n, self.gate = nn.Conv2d(64, 64, 3, 1, 1, groups=64, bias=False), nn.BatchNorm2d(64), gate

    def forward(self, x):
        fault = self.fault
        y = self.k(x)
        if fault == "before_norm":
            return x + self.n(self.gate(y))
        y = self.n(y)
        if fault == "after_addition":
            return self.gate(x + y)
        if fault == "on_shortcut":
            return self.gate(x) + y
        if fault == "from_input":
            return x + y * self.gate.weights(x)
        if fault == "both":
            return self.gate(x) + self.gate.weights(x) * y
        if fault == "relu_first":
            return x + self.gate(F.relu(y))
        if fault == "no_gate":
            return x + y + 0 * self.gate(y)
        y = self.gate(y)
        return y if fault == "no_skip" else F.relu(x + y) if fault == "relu_after" else x + y


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 64)

    def weights(self, x):
        return self.b(F.relu(self.a(x.mean((2, 3))))).sigmoid()[:, :, None, None]

    def forward(self, x):
        return x * self.weights(x)


GATE_IN, GATE_OUT = at("l.n", "l.k", "l.gate.a", "b"), at("l.gate.b", "fc", "l.n")
RESIDUAL_FAULTS = (
    Fault("before_norm", "gate before BatchNorm", at("l.k", "l.n", "l.gate.a"),
          all_of("norm|`l\\.n`", "before|after|behind|order|input|output|missing|many")),
    Fault("after_addition", "gate behind the addition", GATE_IN,
          all_of(r"\badd|plus|\bsum|shortcut", "before|after|behind|reference|too many")),
    Fault("on_shortcut", "gate on the shortcut", GATE_IN, all_of("input|made from|another tensor|ReLU")),
    Fault("from_input", "gate computed from the block's input", GATE_IN, all_of("input|made from|another tensor|ReLU")),
    Fault("both", "gate of the input, on both terms", GATE_IN, all_of("input|made from|another tensor|ReLU")),
    Fault("relu_first", "ReLU before the gate", GATE_IN, no_activation("ReLU")),
    Fault("no_gate", "gate not applied", GATE_OUT, missing("multiplication|gate|times") + "|multiplication is missing"),
    Fault("no_skip", "no shortcut", GATE_OUT, NO_SHORTCUT),
    Fault("relu_after", "ReLU behind the addition", GATE_OUT, no_activation("ReLU.*")),
)


PAIRS = (
    Pair("lenet/own", LeNet, LeNet, (2, 1, 28, 28), LENET_FAULTS),
    Pair("unet/own", UNet, UNet, (2, 3, 16, 16), UNET_FAULTS),
    Pair("coordinate attention/course", lambda fault: Around(Coordinate(fault)),
         lambda: Around(CoordinateAttention(64)),
         (2, 3, 16, 16), COORDINATE_FAULTS),
    Pair("coordinate attention, not square/course", lambda fault: Around(Coordinate(fault)),
         lambda: Around(CoordinateAttention(64)), (2, 3, 16, 24), OBLONG_FAULTS),
    Pair("split attention/course", lambda fault: Around(Split(fault)), lambda: Around(SplitAttention(64)),
         (2, 3, 16, 16), SPLIT_FAULTS),
    Pair("squeeze-and-excitation/course", lambda fault: Around(Squeeze(fault)),
         lambda: Around(SqueezeExcitation(64, 16)), (2, 3, 16, 16), SQUEEZE_FAULTS),
    Pair("efficient channel attention/course", lambda fault: Around(Efficient(fault)),
         lambda: Around(EfficientChannelAttention(64, 3)), (2, 3, 16, 16), EFFICIENT_FAULTS),
    Pair("gate in a residual block/course", lambda fault: Around(GatedResidual(Gate(), fault)),
         lambda: Around(GatedResidual(SqueezeExcitation(64, 16))), (2, 3, 16, 16), RESIDUAL_FAULTS),
)
