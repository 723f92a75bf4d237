"""Right answers to the exercises of chapter 01, in different styles."""
from collections import namedtuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv

# 01.1

Cost = namedtuple("Cost", "params macs out_height out_width")


def conv_cost(kind=tuple):
    """The formula; the four numbers as a `kind`."""
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        reach = (kernel - 1) * dilation + 1
        rows, columns = (1 + (side - reach + 2 * padding) // stride for side in (height, width))
        weights = kernel**2 * (in_channels * out_channels // groups)
        return kind([weights + bias * out_channels, weights * rows * columns, rows, columns])
    return lambda: answer


def a_layer_is_asked():
    def answer(in_channels, out_channels, kernel, height, width, *more, **settings):
        conv = nn.Conv2d(in_channels, out_channels, kernel, *more, **{"bias": False, **settings})
        cost = lw.profile(conv, (in_channels, height, width))
        return cost.params, cost.macs, *conv(torch.zeros(1, in_channels, height, width)).shape[2:]
    return answer


def steps_counted():
    def answer(in_channels, out_channels, kernel, height, width, stride=1, padding=0, dilation=1, groups=1, bias=False):
        places = [len(range(0, side + 2 * padding - dilation * (kernel - 1), stride)) for side in (height, width)]
        params = out_channels * (in_channels / groups * kernel * kernel)
        return params + (out_channels if bias else 0), params * places[0] * places[1], *places
    return answer


# 01.2


def shuffle(function):
    return lambda: function


def table(x, groups):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).permute(0, 2, 1, 3, 4).reshape(n, c, h, w)


def stacked(x, groups):
    return torch.stack(torch.chunk(x, groups, dim=1), dim=2).flatten(1, 2)


def joined_places(x, groups):
    return torch.cat(x.unflatten(1, (groups, -1)).unbind(2), dim=1)


def one_axis_of_pixels(x, groups):
    return x.flatten(2).unflatten(1, (groups, -1)).transpose(1, 2).reshape(x.shape)


def einsum(x, groups):
    return torch.einsum("ngchw->ncghw", x.unflatten(1, (groups, -1))).flatten(1, 2)


def moved(x, groups):
    return x.view(len(x), groups, x.size(1) // groups, *x.shape[2:]).movedim(1, 2).contiguous().view(x.size())


def written(x, groups):
    y = torch.empty_like(x)
    y.unflatten(1, (-1, groups)).copy_(x.unflatten(1, (groups, -1)).transpose(1, 2))
    return y


# 01.3


def twin(function):
    return lambda: function


def loops(depthwise, pointwise):
    c_out, c_in = pointwise.shape[:2]
    weight = pointwise.new_empty(c_out, c_in, *depthwise.shape[2:])
    for o in range(c_out):
        for i in range(c_in):
            weight[o, i] = pointwise[o, i].item() * depthwise[i, 0]
    return weight


def lit_pixels(depthwise, pointwise):
    """The answer of the two layers to one pixel a channel."""
    c_in, _, k, _ = depthwise.shape
    pixels = torch.zeros(c_in, c_in, 2 * k - 1, 2 * k - 1)
    pixels[range(c_in), range(c_in), k - 1, k - 1] = 1
    answers = F.conv2d(F.conv2d(pixels, depthwise, groups=c_in), pointwise)
    return answers.flip(2, 3).transpose(0, 1)


# 01.4

VALUES = {"hungriest": "blocks.13.depthwise.conv", "below the ridge, batch 1": 46, "below the ridge, batch 16": 31,
          "depthwise MACs": 0.1168984132177327, "depthwise bytes": 0.3836529116128496}


def reported(**changes):
    return lambda: VALUES | changes


def counted():
    cost = lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 160, 160))
    convs = [one for one in cost.layers if one.kind == "Conv2d"]
    n = np.array([[1], [16]])
    macs, maps, weights = (np.array(column) for column in zip(*(
        (one.macs, one.input_bytes + one.output_bytes, one.parameter_bytes) for one in convs), strict=True))
    below = (n * macs / (n * maps + weights) < 6).sum(1)
    filters = np.array(["depthwise" in one.name for one in convs])
    return {"hungriest": convs[np.argmin(macs / (maps + weights))].name, "below the ridge, batch 1": below[0],
            "below the ridge, batch 16": below[1], "depthwise MACs": macs[filters].sum() / macs.sum(),
            "depthwise bytes": (maps + weights)[filters].sum() / (maps + weights).sum()}


# 01.5


def tail(channels):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def stem_and_four():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, 3, 2), SeparableConv(32, 64),
                         SeparableConv(64, 64, 3, 2), SeparableConv(64, 64), *tail(64))


def wide_early():
    """At most 48 KiB, in blocks and flat."""
    return nn.Sequential(ConvBNAct(3, 12, 3, 2), SeparableConv(12, 24), SeparableConv(24, 48, 3, 2),
                         SeparableConv(48, 64, 3, 2), SeparableConv(64, 64), *tail(64))


def flat():
    leaves = [module for module in wide_early().modules() if not any(module.children())]
    return nn.Sequential(*leaves)


class AClass(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = stem_and_four()[:5], nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean(dim=(2, 3)))


class Functional(nn.Module):
    """Weights as parameters, F.conv2d, and no modules but BatchNorm."""

    def __init__(self):
        super().__init__()
        shapes = ((16, 3, 3), (16, 1, 3), (32, 16, 1), (32, 1, 3), (64, 32, 1), (64, 1, 3), (64, 64, 1), (64, 1, 3),
                  (64, 64, 1))
        self.weights = nn.ParameterList(nn.Conv2d(i, o, k).weight.detach() for o, i, k in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for o, _, _ in shapes)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for weight, norm, stride in zip(self.weights, self.norms, (2, 2, 1, 1, 1, 2, 1, 1, 1), strict=True):
            x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])
            x = F.relu(norm(x))
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        layers = stem_and_four()
        self.start, self.again, self.last, self.tail = layers[:4], SeparableConv(64, 64), nn.Identity(), layers[5:]

    def forward(self, x):
        x = self.start(x)
        return self.tail(self.last(x + self.again(x)))


RIGHT = {
    "01.1": {"a list": conv_cost(list), "NumPy": conv_cost(np.array), "a tensor": conv_cost(torch.tensor),
             "a named tuple": conv_cost(Cost._make), "a layer is asked": lambda: a_layer_is_asked(),
             "steps counted, floats": lambda: steps_counted()},
    "01.2": {"permute": shuffle(table), "stack of chunks": shuffle(stacked), "places joined": shuffle(joined_places),
             "pixels in one axis": shuffle(one_axis_of_pixels), "einsum": shuffle(einsum), "movedim": shuffle(moved),
             "written into a view": shuffle(written)},
    "01.3": {
        "broadcasting": twin(lambda depthwise, pointwise: pointwise * depthwise.transpose(0, 1)),
        "einsum": twin(lambda depthwise, pointwise: torch.einsum("oiab,iayx->oiyx", pointwise, depthwise)),
        "float64": twin(lambda depthwise, pointwise: pointwise.double() * depthwise.squeeze(1).double()[None]),
        "loops": twin(loops), "lit pixels": twin(lit_pixels),
        "a parameter": twin(lambda depthwise, pointwise: nn.Parameter(
            (depthwise[:, 0] * pointwise.flatten(1)[..., None, None]).clone())),
    },
    "01.4": {"typed in": reported(), "counted with NumPy": counted,
             "tensors": lambda: {key: value if isinstance(value, str) else torch.tensor(value, dtype=torch.float64)
                                 for key, value in VALUES.items()},
             "float32": reported(**{"depthwise MACs": np.float32(VALUES["depthwise MACs"])}),
             "counts as floats": reported(**{"below the ridge, batch 1": 46.0, "below the ridge, batch 16": 31.0}),
             "one number more": reported(ridge=6)},
    "01.5": {"a stem and four": lambda: stem_and_four, "wide early": lambda: wide_early, "flat": lambda: flat,
             "a class": lambda: AClass, "functional": lambda: Functional, "a shortcut": lambda: Residual},
}
SLOW = {("01.5", name) for name in RIGHT["01.5"]} - {("01.5", "a stem and four")}
