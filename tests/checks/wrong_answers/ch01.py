"""Wrong answers to the exercises of chapter 01, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ChannelShuffle, ConvBNAct, SeparableConv

# 01.1


def conv_cost(side="(n + 2 * p - d * (k - 1) - 1) // s + 1", weights="k * k * i * o // g", params="w + b * o",
              macs="w * y * x", order=(0, 1, 2, 3)):
    """An answer by expressions of n (a side), of the arguments by their first letters, of w (weights), y, x (sides)."""
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        known = dict(k=kernel, s=stride, p=padding, d=dilation, g=groups, i=in_channels, o=out_channels, b=bias,
                     H=height, W=width)
        y, x = (eval(side, known | {"n": n}) for n in (height, width))
        known |= {"w": eval(weights, known), "y": y, "x": x}
        numbers = eval(params, known), eval(macs, known), y, x
        return tuple(numbers[place] for place in order)
    return answer


def changed(**parts):
    return lambda: conv_cost(**parts)


def only_params():
    return lambda in_channels, out_channels, kernel, *rest, **more: in_channels * out_channels * kernel**2


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


def shuffle(function):
    return lambda: function


def slices(x, groups):
    size = x.shape[1] // groups
    return torch.cat([x[:, i::size] for i in range(size)], dim=1)


def channels_one_by_one(x, groups):
    channels, size = x.unbind(1), x.shape[1] // groups
    return torch.stack([channels[g * size + i] for i in range(size) for g in range(groups)], dim=1)


def images_one_by_one(x, groups):
    return torch.cat([image[None].unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2) for image in x])


def indices(x, groups):
    return x[:, torch.arange(x.shape[1]).view(groups, -1).T.flatten()]


def gathered(x, groups):
    return x.index_select(1, torch.arange(x.shape[1]).view(groups, -1).T.flatten())


def by_a_matrix(x, groups):
    places = torch.eye(x.shape[1]).unflatten(0, (groups, -1)).transpose(0, 1).flatten(0, 1)
    return torch.einsum("oc,nchw->nohw", places, x)


def outside_of_torch(x, groups):
    n, c, h, w = x.shape
    return torch.from_numpy(x.detach().numpy().reshape(n, groups, -1, h, w).swapaxes(1, 2).reshape(n, c, h, w))


def to_other_side(x, groups):
    return x.roll(1, dims=1)


def rows_and_columns(x, groups):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, w, h).transpose(1, 2).reshape(n, c, w, h).transpose(2, 3)


def images_mixed(x, groups):
    n, c, h, w = x.shape
    return x.reshape(groups, n * c // groups, h, w).transpose(0, 1).reshape(n, c, h, w)


def pixels_turned(x, groups):
    y = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return y.flip(3)


# 01.3


def twin(function):
    return lambda: function


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


COST = lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160))


def of_all_layers(batch):
    return sum(batch * one.macs <= 6 * (batch * (one.input_bytes + one.output_bytes) + one.parameter_bytes)
               for one in COST.layers)


def counts_of(chosen, macs=1, weights=1):
    """Counts of the layers that a function chooses; `macs` and `weights` say how often each of them counts."""
    def below(batch):
        return sum(macs * batch * one.macs < 6 * (batch * (one.input_bytes + one.output_bytes)
                                                  + weights * one.parameter_bytes)
                   for one in COST.layers if chosen(one))
    return lambda: report(**{"below the ridge, batch 1": below(1), "below the ridge, batch 16": below(16)})


def shares(numerator, denominator):
    """Shares of the layers that the two functions choose."""
    def of(cost):
        part, whole = (sum(getattr(one, cost) for one in COST.layers if chosen(one))
                       for chosen in (numerator, denominator))
        return part / whole
    return lambda: report(**{"depthwise MACs": of("macs"), "depthwise bytes": of("traffic_bytes")})


def is_conv(layer):
    return layer.kind == "Conv2d"


def is_named(layer):
    return ".depthwise." in layer.name


def is_filter(layer):
    return is_conv(layer) and is_named(layer)


def without_weights():
    part, whole = (sum(one.input_bytes + one.output_bytes for one in COST.layers if chosen(one))
                   for chosen in (is_filter, is_conv))
    return report(**{"depthwise bytes": part / whole})


def reported(**changes):
    return lambda: report(**changes)


# 01.5


def tail(channels):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def network(build):
    """`build` as the function that exercise 01.5 wants."""
    return lambda: build


def standard():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 32, 3, 2), ConvBNAct(32, 32, 3), *tail(32))


def plain():
    """Standard convolutions within all budgets."""
    return nn.Sequential(ConvBNAct(3, 12, 3, 2), ConvBNAct(12, 20, 3, 2), ConvBNAct(20, 32, 3, 2), ConvBNAct(32, 20, 3),
                         *tail(20))


def good_plain():
    """As accurate as is asked for, by standard convolutions."""
    return nn.Sequential(ConvBNAct(3, 12, 3, 2), ConvBNAct(12, 16, 3, 2), ConvBNAct(16, 24, 3, 2),
                         ConvBNAct(24, 32, 3, 2), *tail(32))


def linear():
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(768, 10))


def flattened():
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), SeparableConv(8, 32, 3, 2), nn.Flatten(), nn.Linear(2048, 10))


def no_early_stride():
    return nn.Sequential(ConvBNAct(3, 12, 3), SeparableConv(12, 24, 3, 4), SeparableConv(24, 48), *tail(48))


def over_all_three():
    return nn.Sequential(ConvBNAct(3, 40, 3), ConvBNAct(40, 48, 3), *tail(48))


def too_small():
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), SeparableConv(8, 16, 3, 2), SeparableConv(16, 16), *tail(16))


def pointwise_only():
    return nn.Sequential(ConvBNAct(3, 16, 1, 2), ConvBNAct(16, 32, 1, 2), *tail(32))


def no_norm():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), *tail(24))


def dead():
    """With BatchNorm, but nothing gets through."""
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), ConvBNAct(8, 16, 3, 2), nn.Threshold(1e6, 0), *tail(16))


def hint_3():
    return nn.Sequential(ConvBNAct(3, 16, 3, stride=2), SeparableConv(16, 32, stride=2), ...,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def softmax_at_the_end():
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), SeparableConv(8, 16, 3, 2), *tail(16), nn.Softmax(dim=1))


def map_of_logits():
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), nn.Conv2d(8, 10, 1))


class Buffers(nn.Module):
    """Weights that are no parameters: they cost as much."""

    def __init__(self):
        super().__init__()
        self.body = standard()[:2]
        self.register_buffer("table", torch.randn(32 * 64, 10) / 45)

    def forward(self, x):
        return self.body(x).flatten(1) @ self.table


class Shifts(nn.Module):
    """A depthwise 5x5, written as products and sums, which no layer counts."""

    def __init__(self):
        super().__init__()
        self.before, self.after, self.norm = ConvBNAct(3, 16, 3, 2), right()[1:], nn.BatchNorm2d(16)
        self.weight = nn.Parameter(torch.randn(25, 16, 1, 1) / 5)

    def forward(self, x):
        x = F.pad(self.before(x), (2,) * 4)
        y = sum(w * x[:, :, i // 5:i // 5 + 16, i % 5:i % 5 + 16] for i, w in enumerate(self.weight))
        return self.after(F.relu(self.norm(y)))


def right():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, 3, 2), SeparableConv(32, 64),
                         SeparableConv(64, 64, 3, 2), SeparableConv(64, 64), *tail(64))


OUTSIDE = right()


WRONG = {
    "01.1": {
        "dilation forgotten": (changed(side="(n + 2 * p - k) // s + 1"), "`dilation` makes no difference"),
        "dilation times kernel": (changed(side="(n + 2 * p - d * k) // s + 1"), "over dilation * kernel pixels"),
        "minus one forgotten": (changed(side="(n + 2 * p - d * (k - 1)) // s + 1"), "now and then one too large"),
        "padding at one end only": (changed(side="(n + p - d * (k - 1) - 1) // s + 1"), "both ends"),
        "padding forgotten": (changed(side="(n - d * (k - 1) - 1) // s + 1"), "leave `padding` out"),
        "stride forgotten": (changed(side="n + 2 * p - d * (k - 1)"), "leave `stride` out"),
        "one too small": (changed(side="(n + 2 * p - d * (k - 1) - 1) // s"), "one too small"),
        "rounded up": (changed(side="-(-(n + 2 * p - d * (k - 1) - 1) // s) + 1"), "you round the size up"),
        "same padding believed": (changed(side="n // s"), "you take height // stride"),
        "same padding, rounded up": (changed(side="-(-n // s)"), "you take height / stride, rounded up"),
        "sides exchanged": (changed(order=(0, 1, 3, 2)), "height and width stand in each other's place"),
        "groups forgotten": (changed(weights="k * k * i * o"), "`groups` makes no difference"),
        "groups twice": (changed(weights="k * k * (i // g) * (o // g)"), "you divide by `groups` twice"),
        "times groups": (changed(weights="k * k * i * o * g"), "you multiply by `groups`"),
        "kernel once": (changed(weights="k * i * o // g"), "you use the kernel's side once"),
        "no kernel": (changed(weights="i * o // g"), "you leave the kernel out"),
        "bias has no parameters": (changed(params="w"), "bias is missing"),
        "bias is a single number": (changed(params="w + b"), "bias as a single number"),
        "dilated weights": (changed(weights="(d * (k - 1) + 1)**2 * i * o // g"), "adds no weights"),
        "always a bias": (changed(params="w + o"), "you count a bias where there is none"),
        "bias counted as MACs": (changed(macs="(w + b * o) * y * x"), "additions of the bias"),
        "two a MAC": (changed(macs="2 * w * y * x"), "a multiply and an add as two"),
        "pixels of the input": (changed(macs="w * H * W"), "once for every pixel of the output"),
        "MACs are the weights": (changed(macs="w"), "your MACs are the weights"),
        "wrong order": (changed(order=(1, 0, 2, 3)), "parameters and MACs stand in each other's place"),
        "another size": (changed(side="n - k"), "out_height of conv_cost(in_channels=3"),
        "one number": (only_params, "not the four numbers"),
    },
    "01.2": {
        "not shuffled": (no_shuffle, "old order"),
        "inverse": (inverse_shuffle, "undoes a shuffle"),
        "reversed": (shuffle(lambda x, groups: x.flip(1)), "the channels are reversed"),
        "always two groups": (always_two_groups, ("2 groups", "whatever")),
        "random": (random_order, "changes from call to call"),
        "groups exchanged whole": (whole_groups, "whole groups"),
        "maps torn apart": (torn_maps, "tears the maps apart"),
        "another order": (shuffle(to_other_side), "channels 0 1 2 3 4 5 become 5 0 1 2 3 4"),
        "pixels turned": (shuffle(pixels_turned), "pixels change their places"),
        "rows and columns": (shuffle(rows_and_columns), "rows and columns"),
        "images mixed": (shuffle(images_mixed), "the images of the batch are mixed"),
        "doubled": (shuffle(lambda x, groups: 2 * ChannelShuffle(groups)(x)), "become 0 6 2 8 4 10"),
        "in place": (in_place, "overwrites its input"),
        "the course's": (shuffle(lambda x, groups: ChannelShuffle(groups)(x)), "the course's `ChannelShuffle`"),
        "PyTorch's": (shuffle(torch.channel_shuffle), "PyTorch's own channel shuffle"),
        "PyTorch's module": (shuffle(lambda x, groups: nn.ChannelShuffle(groups)(x)), "PyTorch's own channel shuffle"),
        "a list of indices": (shuffle(indices), "from a list of indices"),
        "index_select": (shuffle(gathered), "from a list of indices"),
        "a matrix": (shuffle(by_a_matrix), "from a product with a matrix"),
        "a loop over slices": (shuffle(slices), "from a loop"),
        "a loop over images": (shuffle(images_one_by_one), "from a loop"),
        "channels one by one": (shuffle(channels_one_by_one), "single channels are joined one by one"),
        "NumPy": (shuffle(outside_of_torch), "no gradient"),
    },
    "01.3": {
        "sum for product": (added, "you add"),
        "depthwise weight forgotten": (pixels_only, "filters are missing"),
        "pointwise weight forgotten": (filters_only, "1x1 weights are missing"),
        "channels exchanged": (transposed, "output and input channels are exchanged"),
        "mirrored": (mirrored, "mirrored"),
        "upside down": (twin(lambda depthwise, pointwise: pointwise * depthwise.transpose(0, 1).flip(2)),
                        "your kernels are upside down"),
        "sideways": (twin(lambda depthwise, pointwise: pointwise * depthwise.transpose(0, 1).flip(3)), "sideways"),
        "a depthwise weight": (still_depthwise, "as of a depthwise"),
        "turned": (twin(lambda depthwise, pointwise: pointwise * depthwise.permute(1, 0, 3, 2)),
                   "rows and columns of your kernels"),
        "channels exchanged, square": (twin(lambda depthwise, pointwise: (
            pointwise * depthwise.transpose(0, 1)).reshape(*pointwise.shape[1::-1], *depthwise.shape[2:])),
            "output and input channels are exchanged"),
        "outputs averaged": (twin(lambda depthwise, pointwise: (
            pointwise.mean(0, True) * depthwise.transpose(0, 1)).repeat(len(pointwise), 1, 1, 1)),
            "you average the 1x1 weights over the output channels"),
        "inputs averaged": (twin(lambda depthwise, pointwise: pointwise.mean(1, True) * depthwise.transpose(0, 1)),
                            "you average the 1x1 weights over the input channels"),
        "one filter": (twin(lambda depthwise, pointwise: pointwise * depthwise[0]), "you use the first filter"),
        "not turned": (twin(lambda depthwise, pointwise: pointwise * depthwise),
                       "the two weights do not fit as they are"),
        "another error": (twin(lambda depthwise, pointwise: pointwise @ depthwise.flatten(1)), "your code raised"),
        "three axes": (twin(lambda depthwise, pointwise: pointwise[..., 0] * depthwise[:, 0, 0]),
                       "that of a standard convolution is (out_channels, in_channels, k, k)"),
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
        "the layer": (reported(hungriest=COST.layers[0]), "you give the layer itself"),
        "a number for the name": (reported(hungriest=3), "must be the name of a convolution"),
        "maps fetched once": (reported(**{"below the ridge, batch 16": sum(
            16 * one.macs < 6 * one.traffic_bytes for one in COST.layers if is_conv(one))}), "inputs and outputs grow"),
        "all layers": (reported(**{"below the ridge, batch 1": of_all_layers(1),
                                   "below the ridge, batch 16": of_all_layers(16)}), "you count all layers"),
        "all layers that move bytes": (counts_of(lambda one: one.traffic_bytes), "layers of all kinds below the ridge"),
        "all layers with parameters": (counts_of(lambda one: one.params), "you count all layers with parameters"),
        "the classifier too": (counts_of(lambda one: one.macs), "you count the classifier too"),
        "FLOPs": (counts_of(is_conv, macs=2), "you compare FLOPs"),
        "counts without weights": (counts_of(is_conv, weights=0), "bytes of the parameters are missing"),
        "shares for counts": (reported(**{"below the ridge, batch 1": 46 / 52, "below the ridge, batch 16": 31 / 52}),
                              "asked is how many there are"),
        "MACs and bytes": (lambda: report(**{key: sum(getattr(one, cost) for one in COST.layers if is_filter(one))
                                             for key, cost in (("depthwise MACs", "macs"),
                                                               ("depthwise bytes", "traffic_bytes"))}),
                           "not shares; divide them"),
        "1x1 layers": (shares(lambda one: is_conv(one) and any(
            part in one.name for part in ("expand.", "project.", "head.")), is_conv), "those of the 1x1 layers"),
        "of the whole network": (shares(is_filter, lambda one: True), "those of the whole network"),
        "of BatchNorm and ReLU6 too": (
            lambda: report(**{"depthwise bytes": shares(is_filter, lambda one: one.params or one.kind == "ReLU6")()[
                "depthwise bytes"]}), "of layers of all kinds"),
        "BatchNorms named so": (shares(is_named, is_conv), "you add the BatchNorms"),
        "all named so, of all": (lambda: report(**{"depthwise bytes": shares(is_named, lambda one: True)()[
            "depthwise bytes"]}), "of all layers; asked are convolutions"),
        "divided by the rest": (shares(is_filter, lambda one: is_conv(one) and not is_named(one)),
                                "you divide by the other convolutions"),
        "the rest": (shares(lambda one: is_conv(one) and not is_named(one), is_conv), "of all other convolutions"),
        "bytes without weights": (without_weights, "bytes of the weights are missing"),
        "parameters": (reported(**{"depthwise MACs": lambda below, share: share("params")}), "share of the parameters"),
        "layers": (reported(**{"depthwise MACs": 17 / 52, "depthwise bytes": 17 / 52}), "how many layers there are"),
        "rounded": (reported(**{"depthwise MACs": 0.117, "depthwise bytes": 0.384}), "you round, as to 3 decimals"),
        "one rounded": (reported(**{"depthwise bytes": 0.3837}), "you round"),
        "shares exchanged": (reported(**{"depthwise MACs": lambda below, share: share("traffic_bytes"),
                                         "depthwise bytes": lambda below, share: share("macs")}), "are exchanged"),
        "two mistakes": (reported(hungriest="stem.conv", **{"depthwise MACs": 0.5}), "another convolution does fewer"),
        "an empty dict": (dict, "there is no 'hungriest'"),
    },
    "01.5": {
        "too many MACs": (network(standard), ("over budget", "MACs, of 500,000 allowed", "2.conv (Conv2d)")),
        "no pooling before the classifier": (network(flattened),
                                             ("parameters, of 15,000", "parameters in 3 (Linear)")),
        "large maps": (network(no_early_stride), ("96.0 KiB", "peak", "12x32x32")),
        "over all three": (network(over_all_three), ("MACs, of", "parameters, of", "peak (384.0 KiB), of 65,536")),
        "weights in a buffer": (network(Buffers), "parameters, of 15,000 allowed"),
        "a filter by products": (network(Shifts), "MACs, of 500,000 allowed"),
        "too small": (network(too_small), ("not accurate enough", "too small or too shallow")),
        "standard convolutions that would pass": (network(good_plain), "A plain CNN has no score here"),
        "standard convolutions": (network(plain), "not accurate enough"),
        "a linear classifier": (network(linear), ("not accurate enough", "a linear classifier")),
        "1x1 only": (network(pointwise_only), "no output sees a neighbourhood"),
        "no BatchNorm": (network(no_norm), "There is no normalisation"),
        "nothing gets through": (network(dead), "close to chance"),
        "hint 3 as printed": (network(hint_3), "your code raised TypeError"),
        "softmax": (network(softmax_at_the_end), "ends in a softmax"),
        "a map, not logits": (network(map_of_logits), "must give logits of shape (2, 10)"),
        "built outside": (network(lambda: OUTSIDE), "it was built outside"),
        "no return": (network(lambda: None), "is the return missing?"),
        "a network, not a function": (right, "expects a function without arguments"),
    },
}
SLOW = {("01.5", name) for name in ("too small", "standard convolutions", "standard convolutions that would pass",
                                    "a linear classifier", "1x1 only", "no BatchNorm", "nothing gets through")}
