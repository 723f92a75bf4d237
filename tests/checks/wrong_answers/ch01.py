"""Wrong answers to the exercises of chapter 01, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

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


# 01.6

BY_HAND = {"standard 3x3, parameters": 28_800, "standard 3x3, MACs": 22_579_200, "depthwise 5x5, MACs": 784_000,
           "1x1 in 4 groups, MACs": 627_200, "1x7 then 7x1, MACs": 17_561_600,
           "separable over standard, MACs": 0.12361111111111112}
SEPARABLE = "separable over standard, MACs"
COUNTS = [key for key in BY_HAND if key.endswith("MACs") and "over" not in key]


def times(factor):
    return lambda: {key: value * factor if key in COUNTS else value for key, value in BY_HAND.items()}


# 01.7


class Parts(nn.Module):
    """Two convolutions with (in, out, kernel, padding) as functions of the three arguments."""

    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.a, self.b = self.parts(in_channels, out_channels, kernel, kernel // 2)

    def forward(self, x):
        return self.b(self.a(x))


class PaddedAllAround(Parts):
    def parts(self, i, o, k, half):
        return (nn.Conv2d(i, o, (1, k), padding=half, bias=False), nn.Conv2d(o, o, (k, 1), padding=half, bias=False))


class NotPadded(Parts):
    def parts(self, i, o, k, half):
        return nn.Conv2d(i, o, (1, k), bias=False), nn.Conv2d(o, o, (k, 1), bias=False)


class PaddedAcross(Parts):
    def parts(self, i, o, k, half):
        return (nn.Conv2d(i, o, (1, k), padding=(half, 0), bias=False),
                nn.Conv2d(o, o, (k, 1), padding=(0, half), bias=False))


class ColumnFirst(Parts):
    def parts(self, i, o, k, half):
        return (nn.Conv2d(i, o, (k, 1), padding=(half, 0), bias=False),
                nn.Conv2d(o, o, (1, k), padding=(0, half), bias=False))


class WidenedLast(Parts):
    def parts(self, i, o, k, half):
        return (nn.Conv2d(i, i, (1, k), padding=(0, half), bias=False),
                nn.Conv2d(i, o, (k, 1), padding=(half, 0), bias=False))


class RightParts(Parts):
    def parts(self, i, o, k, half):
        return (nn.Conv2d(i, o, (1, k), padding=(0, half), bias=False),
                nn.Conv2d(o, o, (k, 1), padding=(half, 0), bias=False))


class Activated(RightParts):
    def forward(self, x):
        return self.b(F.relu(self.a(x)))


class ActivatedLast(RightParts):
    def forward(self, x):
        return F.relu(super().forward(x))


class WithBias(Parts):
    def parts(self, i, o, k, half):
        return nn.Conv2d(i, o, (1, k), padding=(0, half)), nn.Conv2d(o, o, (k, 1), padding=(half, 0))


class Whole(nn.Conv2d):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)


class OneOfTwo(RightParts):
    def forward(self, x):
        return self.a(x)


class InAPlainList(nn.Module):
    def __init__(self, in_channels, out_channels, kernel):
        super().__init__()
        self.layers = list(RightParts(in_channels, out_channels, kernel).children())

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


class OtherOrder(RightParts):
    def __init__(self, out_channels, in_channels, kernel):
        super().__init__(in_channels, out_channels, kernel)


class Repeated(RightParts):
    """Right, with the row of twice as many images."""

    def forward(self, x):
        return self.b(self.a(x.repeat(2, 1, 1, 1))[:len(x)])


# 01.8


class Broken(nn.Module):
    """The sheet's class; `padding`, `early` and `first` (layers with ReLU before BatchNorm) say what is mended."""

    padding, early, first = "fixed", False, (0, 1)

    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__()
        padding = {"fixed": 1, "right": dilation, "double": 2 * dilation}[self.padding]
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride if self.early else 1, padding=padding,
                                   dilation=dilation, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, 1 if self.early else stride, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        for i, (conv, norm) in enumerate(((self.depthwise, self.norm1), (self.pointwise, self.norm2))):
            x = norm(F.relu(conv(x))) if i in self.first else F.relu(norm(conv(x)))
        return x


class StillLate(Broken):
    padding, first = "right", ()


class StillSmaller(Broken):
    early, first = True, ()


class TooMuchPadding(Broken):
    padding, early, first = "double", True, ()


class NormLast(Broken):
    padding, early = "right", True


class NormLastOnce(NormLast):
    first = (0,)


class NormLastInTheEnd(NormLast):
    first = (1,)


class RightAgain(NormLast):
    first = ()


class NoLastActivation(RightAgain):
    def forward(self, x):
        return self.norm2(self.pointwise(F.relu(self.norm1(self.depthwise(x)))))


class NoFirstNorm(RightAgain):
    def forward(self, x):
        return F.relu(self.norm2(self.pointwise(F.relu(self.depthwise(x)))))


class Mixing(RightAgain):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__(in_channels, out_channels, stride, dilation)
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, dilation, dilation, bias=False)


class StrideTwice(StillLate):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__(in_channels, out_channels, stride, dilation)
        self.depthwise.stride = (stride, stride)


class TheCourses(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1, dilation=1):
        super().__init__()
        self.body = SeparableConv(in_channels, out_channels, 3, stride)

    def forward(self, x):
        return self.body(x)


class StrideLast(RightAgain):
    def __init__(self, in_channels, out_channels, dilation=1, stride=1):
        super().__init__(in_channels, out_channels, stride, dilation)


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
    "01.6": {
        "FLOPs": (times(2), "a multiply and an add as two"),
        "no pixels": (times(1 / 784), "leave out the pixels"),
        "one side": (times(1 / 28), "one side of the map"),
        "no padding": (times(676 / 784), "26 x 26"),
        "a bias": (lambda: BY_HAND | {"standard 3x3, parameters": 28_880}, "you count a bias"),
        "kernel once": (lambda: BY_HAND | {"standard 3x3, parameters": 9_600, "standard 3x3, MACs": 7_526_400},
                        "a 3 x 3 filter has nine"),
        "five positions": (lambda: BY_HAND | {"depthwise 5x5, MACs": 156_800}, "a 5 x 5 filter has 25"),
        "depthwise that mixes": (lambda: BY_HAND | {"depthwise 5x5, MACs": 31_360_000}, "your depthwise convolution"),
        "groups forgotten": (lambda: BY_HAND | {"1x1 in 4 groups, MACs": 2_508_800}, "four groups change nothing"),
        "times groups": (lambda: BY_HAND | {"1x1 in 4 groups, MACs": 10_035_200}, "you multiply by the groups"),
        "groups twice": (lambda: BY_HAND | {"1x1 in 4 groups, MACs": 156_800}, "you divide by the groups twice"),
        "one of two layers": (lambda: BY_HAND | {"1x7 then 7x1, MACs": 8_780_800}, "one of the two layers"),
        "49 positions": (lambda: BY_HAND | {"1x7 then 7x1, MACs": 61_465_600}, "7 x 7 positions"),
        "upside down": (lambda: BY_HAND | {SEPARABLE: 1 / BY_HAND[SEPARABLE]}, "upside down"),
        "per cent": (lambda: BY_HAND | {SEPARABLE: 12.361}, "per cent"),
        "no 1x1": (lambda: BY_HAND | {SEPARABLE: 1 / 80}, "the 1x1 is missing"),
        "no depthwise": (lambda: BY_HAND | {SEPARABLE: 1 / 9}, "the depthwise layer is missing"),
        "input channels": (lambda: BY_HAND | {SEPARABLE: 1 / 9 + 1 / 40}, "has the input channels in it"),
        "a text": (lambda: BY_HAND | {SEPARABLE: "an eighth"}, "not a number"),
        "an empty dict": (dict, "there is no 'standard 3x3, parameters'"),
    },
    "01.7": {
        "padded all around": (lambda: PaddedAllAround, "shape"),
        "not padded": (lambda: NotPadded, "shape"),
        "padded across": (lambda: PaddedAcross, "shape"),
        "column first": (lambda: ColumnFirst, "you begin with the column"),
        "widened last": (lambda: WidenedLast, "the channels grow in your second layer"),
        "activated": (lambda: Activated, "an activation between the two layers"),
        "activated at the end": (lambda: ActivatedLast, "an activation after the second layer"),
        "with bias": (lambda: WithBias, "bias"),
        "whole kernel": (lambda: Whole, "a whole kernel x kernel convolution"),
        "one of two": (lambda: OneOfTwo, "layer"),
        "a plain list": (lambda: InAPlainList, "plain Python list"),
        "arguments in another order": (lambda: OtherOrder, "come in another order"),
        "twice the work": (lambda: Repeated, "more work"),
    },
    "01.8": {
        "as it was": (lambda: Broken, "the map becomes smaller: 11 x 10 pixels in, 9 x 8 out"),
        "still smaller": (lambda: StillSmaller, "the map becomes smaller"),
        "too much padding": (lambda: TooMuchPadding, "the map becomes larger"),
        "stride still late": (lambda: StillLate, "more work"),
        "stride twice": (lambda: StrideTwice, "shape"),
        "ReLU first in both": (lambda: NormLast, "ReLU comes before BatchNorm in both layers"),
        "ReLU first in the depthwise layer": (lambda: NormLastOnce, "in the depthwise layer"),
        "ReLU first in the 1x1": (lambda: NormLastInTheEnd, "in the 1x1 layer"),
        "no last activation": (lambda: NoLastActivation, "ReLU"),
        "a norm left out": (lambda: NoFirstNorm, "norm"),
        "no groups": (lambda: Mixing, "groups"),
        "the course's": (lambda: TheCourses, ("the course's `SeparableConv`",)),
        "stride last": (lambda: StrideLast, "come in another order"),
    },
}
SLOW = {("01.5", name) for name in ("too small", "standard convolutions", "standard convolutions that would pass",
                                    "a linear classifier", "1x1 only", "no BatchNorm", "nothing gets through")}
