"""Wrong answers to the exercises of chapter 01, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv

# 01.1


def conv_cost(dilated=True, paddings=2, strided=True, grouped=True, bias_params=1, bias_macs=0, at_input=False, plus=1):
    """An answer with the named parts changed."""
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        reach = dilation * (kernel - 1) if dilated else kernel - 1
        step = stride if strided else 1
        out_height, out_width = ((side + paddings * padding - reach - 1) // step + plus for side in (height, width))
        weights = out_channels * in_channels // (groups if grouped else 1) * kernel**2
        pixels = height * width if at_input else out_height * out_width
        params = weights + bias * bias_params * out_channels
        return params, weights * pixels + bias * bias_macs * out_channels * pixels, out_height, out_width
    return answer


def changed(**parts):
    return lambda: conv_cost(**parts)


def same_padding():
    """Believes that every convolution keeps the map, up to stride."""
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        pixels = (height // stride) * (width // stride)
        weights = kernel * kernel * in_channels * out_channels // groups
        return weights + bias * out_channels, weights * pixels, height // stride, width // stride
    return answer


def only_params():
    return lambda in_channels, out_channels, kernel, *rest, **more: in_channels * out_channels * kernel**2


def macs_first():
    def answer(*arguments, **named):
        params, macs, height, width = conv_cost()(*arguments, **named)
        return macs, params, height, width
    return answer


# 01.2


def no_shuffle():
    return lambda x, groups: x.reshape(x.shape[0], groups, -1, *x.shape[2:]).reshape(x.shape)


def inverse_shuffle():
    def channel_shuffle(x, groups):
        n, c, h, w = x.shape
        return x.reshape(n, c // groups, groups, h, w).transpose(1, 2).reshape(n, c, h, w)
    return channel_shuffle


def always_two_groups():
    def channel_shuffle(x, groups):
        n, c, h, w = x.shape
        return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
    return channel_shuffle


def random_order():
    return lambda x, groups: x[:, torch.randperm(x.shape[1])]


def whole_groups():
    def channel_shuffle(x, groups):
        return torch.cat(list(reversed(x.chunk(groups, dim=1))), dim=1)
    return channel_shuffle


def torn_maps():
    def channel_shuffle(x, groups):
        n, c, h, w = x.shape
        return x.reshape(n, groups, c // groups, h * w).permute(0, 2, 3, 1).reshape(n, c, h, w)
    return channel_shuffle


def in_place():
    def channel_shuffle(x, groups):
        x.copy_(x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2))
        return x
    return channel_shuffle


# 01.3


def added():
    return lambda depthwise, pointwise: pointwise + depthwise.transpose(0, 1)


def pixels_only():
    return lambda depthwise, pointwise: F.pad(pointwise, (depthwise.shape[-1] // 2,) * 4)


def filters_only():
    return lambda depthwise, pointwise: depthwise[:, 0].expand(pointwise.shape[0], -1, -1, -1)


def transposed():
    return lambda depthwise, pointwise: torch.einsum("oi,iyx->ioyx", pointwise[:, :, 0, 0], depthwise[:, 0])


def mirrored():
    return lambda depthwise, pointwise: pointwise * depthwise.transpose(0, 1).flip(2, 3)


def still_depthwise():
    return lambda depthwise, pointwise: depthwise * pointwise.mean()


# 01.4


def report(**changes):
    layers = [one for one in lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160)).layers
              if one.kind == "Conv2d"]

    def below(batch, weights=1, macs=None):
        return sum((macs or batch) * one.macs / (batch * (one.input_bytes + one.output_bytes)
                                                 + weights * one.parameter_bytes) < 6 for one in layers)

    def share(cost, part="depthwise"):
        return sum(getattr(one, cost) for one in layers if part in one.name) / sum(getattr(one, cost) for one in layers)

    right = {"hungriest": min(layers, key=lambda one: one.intensity).name, "below the ridge, batch 1": below(1),
             "below the ridge, batch 16": below(16), "depthwise MACs": share("macs"),
             "depthwise bytes": share("traffic_bytes")}
    return right | {key: value(below, share) if callable(value) else value for key, value in changes.items()}


def reported(**changes):
    return lambda: report(**changes)


# 01.5


def tail(channels):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def standard():
    return lambda: nn.Sequential(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 32, 3, 2), ConvBNAct(32, 32, 3), *tail(32))


def flattened():
    return lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), SeparableConv(8, 32, 3, 2), nn.Flatten(), nn.Linear(2048, 10))


def no_early_stride():
    return lambda: nn.Sequential(ConvBNAct(3, 12, 3), SeparableConv(12, 24, 3, 4), SeparableConv(24, 48), *tail(48))


def wide_second_layer():
    return lambda: nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 24), SeparableConv(24, 48, 3, 2), *tail(48))


def too_small():
    return lambda: nn.Sequential(ConvBNAct(3, 4, 3, 2), SeparableConv(4, 8, 3, 2), SeparableConv(8, 8, 3, 2), *tail(8))


def pointwise_only():
    return lambda: nn.Sequential(ConvBNAct(3, 16, 1, 2), ConvBNAct(16, 32, 1, 2), *tail(32))


def softmax_at_the_end():
    return lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), SeparableConv(8, 16, 3, 2), *tail(16), nn.Softmax(dim=1))


def map_of_logits():
    return lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), nn.Conv2d(8, 10, 1))


WRONG = {
    "01.1": {
        "dilation forgotten": (changed(dilated=False), "`dilation` makes no difference"),
        "padding at one end only": (changed(paddings=1), "both ends"),
        "padding forgotten": (changed(paddings=0), "leave `padding` out"),
        "stride forgotten": (changed(strided=False), "leave `stride` out"),
        "one too small": (changed(plus=0), "one too small"),
        "same padding believed": (same_padding, "height // stride"),
        "groups forgotten": (changed(grouped=False), "`groups` makes no difference"),
        "bias has no parameters": (changed(bias_params=0), "bias is missing"),
        "bias counted as MACs": (changed(bias_macs=1), "additions of the bias"),
        "pixels of the input": (changed(at_input=True), "once for every pixel of the output"),
        "wrong order": (macs_first, "each other's place"),
        "one number": (only_params, "not the four numbers"),
    },
    "01.2": {
        "not shuffled": (no_shuffle, "old order"),
        "inverse": (inverse_shuffle, "undoes a shuffle"),
        "always two groups": (always_two_groups, ("2 groups", "whatever")),
        "random": (random_order, "changes from call to call"),
        "groups exchanged whole": (whole_groups, "whole groups"),
        "maps torn apart": (torn_maps, "tears the maps apart"),
        "in place": (in_place, "overwrites its input"),
    },
    "01.3": {
        "sum for product": (added, "you add"),
        "depthwise weight forgotten": (pixels_only, "filters are missing"),
        "pointwise weight forgotten": (filters_only, "1x1 weights are missing"),
        "channels exchanged": (transposed, "output and input channels are exchanged"),
        "mirrored": (mirrored, "mirrored"),
        "a depthwise weight": (still_depthwise, "as of a depthwise"),
    },
    "01.4": {
        "most for fewest": (reported(hungriest="blocks.11.expand.conv"), "does most MACs per byte"),
        "most bytes": (reported(hungriest="blocks.1.depthwise.conv"), "moves most bytes"),
        "another layer": (reported(hungriest="blocks.3.depthwise.conv"), "another convolution does fewer"),
        "a linear layer": (reported(hungriest="classifier.1"), "asked is a convolution"),
        "no such layer": (reported(hungriest="conv1"), "must be the name of a convolution"),
        "weights fetched for each image": (
            reported(**{"below the ridge, batch 16": lambda below, share: below(16, weights=16)}), "fetched once"),
        "MACs of one image": (
            reported(**{"below the ridge, batch 16": lambda below, share: below(16, macs=1)}), "MACs grow with the"),
        "above for below": (reported(**{"below the ridge, batch 1": lambda below, share: 52 - below(1),
                                        "below the ridge, batch 16": lambda below, share: 52 - below(16)}), "above"),
        "per cent": (reported(**{"depthwise MACs": lambda below, share: 100 * share("macs"),
                                 "depthwise bytes": lambda below, share: 100 * share("traffic_bytes")}), "per cent"),
        "an empty dict": (dict, "the answer has no 'hungriest'"),
    },
    "01.5": {
        "too many MACs": (standard, ("MACs", "are allowed", "layer 2.conv")),
        "no pooling before the classifier": (flattened, ("parameters", "average over the pixels")),
        "large maps": (no_early_stride, ("peak of live activations", "12x32x32")),
        "more channels before the second stride": (wide_second_layer, ("48.0 KiB, 40.0 KiB are allowed", "24x16x16")),
        "too small": (too_small, "not accurate enough"),
        "1x1 only": (pointwise_only, "no output sees a neighbourhood"),
        "softmax": (softmax_at_the_end, "ends in a softmax"),
        "a map, not logits": (map_of_logits, "not logits of shape (4, 10)"),
        "a network, not a function": (lambda: standard()(), "a function or class that builds the network"),
    },
}
