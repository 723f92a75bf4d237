"""Wrong answers to the exercises of chapter 02, and words that the refusal must have."""
from dataclasses import replace

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SeparableConv, SqueezeExcitation, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.models.mobilenet_v3 import LARGE, InvertedResidualSE, MobileNetV3


def block(*, shortcut="right", act=nn.ReLU6, last=None, padding=1, stride_in="depthwise", norm=True, bias=False,
          depthwise=True, always_expand=False):
    """Builds the class of an inverted residual with one mistake."""
    def build():
        class InvRes(nn.Module):
            def __init__(self, in_channels, out_channels, stride, expand):
                super().__init__()
                hidden = expand * in_channels
                strides = {"expand": 1, "depthwise": 1, "project": 1} | {stride_in: stride}

                def conv(before, after, kernel, where, groups=1):
                    layer = nn.Conv2d(before, after, kernel, strides[where], padding if kernel == 3 else 0,
                                      groups=groups, bias=bias)
                    return [layer, nn.BatchNorm2d(after)] if norm else [layer]

                layers = []
                if expand > 1 or always_expand:
                    layers += [*conv(in_channels, hidden, 1, "expand"), act()]
                layers += [*conv(hidden, hidden, 3, "depthwise", hidden if depthwise else 1), act()]
                layers += conv(hidden, out_channels, 1, "project")
                self.layers = nn.Sequential(*layers, *([last()] if last else []))
                self.adds = {"right": stride == 1 and in_channels == out_channels, "never": False,
                             "stride ignored": in_channels == out_channels, "channels ignored": stride == 1}[shortcut]

            def forward(self, x):
                return x + self.layers(x) if self.adds else self.layers(x)
        return InvRes
    return build


def changed(change):
    """The right block with another forward: `change(block, x, y)`, where y is what the layers make of the input x."""
    def build():
        class MyBlock(block()()):
            def forward(self, x):
                return change(self, x, self.layers(x))
        return MyBlock
    return build


def adds(self, x, y):
    return x + y if self.adds else y


def activation_early(*where):
    """Builds a block whose activations `where` stand before BatchNorm."""
    def build():
        class MyBlock(nn.Module):
            def __init__(self, in_channels, out_channels, stride, expand):
                super().__init__()
                wide = in_channels * expand
                self.e, self.n1 = nn.Conv2d(in_channels, wide, 1, bias=False), nn.BatchNorm2d(wide)
                self.d, self.n2 = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide)
                self.p, self.n3 = nn.Conv2d(wide, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
                if expand == 1:
                    del self.e, self.n1
                self.adds = stride == 1 and in_channels == out_channels

            def forward(self, x):
                y = x
                for conv, norm in (("e", "n1"), ("d", "n2")):
                    if hasattr(self, conv):
                        y = getattr(self, conv)(y)
                        norm = getattr(self, norm)
                        y = norm(F.relu6(y)) if conv in where else F.relu6(norm(y))
                y = self.n3(self.p(y))
                return x + y if self.adds else y
        return MyBlock
    return build


def other_order(*names):
    """Builds the right block with arguments in the order (in, out, expand, stride), under these names."""
    def build():
        made, base = {}, block()()
        exec(f"def __init__(self, {', '.join(names)}):\n    Base.__init__(self, {names[0]}, {names[1]}, {names[3]}, "
             f"{names[2]})", {"Base": base}, made)
        return type("MyBlock", (base,), made)
    return build


def in_a_list():
    class MyBlock(block()()):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.parts = list(self.layers)
            del self.layers

        def forward(self, x):
            y = x
            for part in self.parts:
                y = part(y)
            return x + y if self.adds else y
    return MyBlock


def made_in_forward():
    class MyBlock(block()()):
        def forward(self, x):
            y = nn.Conv2d(x.shape[1], x.shape[1], 1, bias=False)(x)
            return adds(self, x, self.layers(y))
    return MyBlock


def overwritten(self, x, y):
    x.add_(y) if self.adds else None
    return x if self.adds else y


def momentum():
    class MyBlock(block()()):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 0.01
    return MyBlock


def inherited():
    return type("MyBlock", (InvertedResidual,), {})


def torchvisions():
    class MyBlock(nn.Module):
        def __init__(self, in_channels, out_channels, stride, expand):
            super().__init__()
            self.block = torchvision.models.mobilenetv2.InvertedResidual(in_channels, out_channels, stride, expand)

        def forward(self, x):
            return self.block(x)
    return MyBlock


def gate(*, gate_first=False, squash=nn.Hardsigmoid, hidden=lambda channels: make_divisible(channels / 4),
         act=nn.Hardswish, between=nn.ReLU, padding=None, groups=True, bias=True, means=True, adds=False):
    """Builds the class of a gated filter with one mistake."""
    def build():
        class Gate(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.reduce = nn.Conv2d(channels, hidden(channels), 1, bias=bias)
                self.between = between()
                self.expand = nn.Conv2d(hidden(channels), channels, 1, bias=bias)
                self.squash = squash()

            def forward(self, x):
                scale = x.mean(dim=(2, 3), keepdim=True) if means else x
                scale = self.squash(self.expand(self.between(self.reduce(scale))))
                return x + scale if adds else x * scale

        class GatedFilter(nn.Module):
            def __init__(self, channels, kernel_size, stride):
                super().__init__()
                pad = kernel_size // 2 if padding is None else padding
                self.conv = nn.Conv2d(channels, channels, kernel_size, stride, pad,
                                      groups=channels if groups else 1, bias=False)
                self.bn, self.act, self.gate = nn.BatchNorm2d(channels), act(), Gate(channels)

            def forward(self, x):
                x = self.bn(self.conv(x))
                return self.act(self.gate(x)) if gate_first else self.gate(self.act(x))
        return GatedFilter
    return build


def combined(combine):
    """Builds a gated filter that returns `combine(input, map, gate)`."""
    def build():
        class GatedFilter(nn.Module):
            def __init__(self, channels, kernel_size, stride):
                super().__init__()
                self.filter = ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish)
                self.down = nn.Linear(channels, make_divisible(channels / 4))
                self.up = nn.Linear(make_divisible(channels / 4), channels)

            def gate(self, y):
                return F.hardsigmoid(self.up(F.relu(self.down(y.mean((2, 3))))))[:, :, None, None]

            def forward(self, x):
                return combine(self, x, self.filter(x))
        return GatedFilter
    return build


def gate_of_other_order():
    base = gate()()

    class GatedFilter(base):
        def __init__(self, channels, stride, kernel_size):
            super().__init__(channels, kernel_size, stride)
    return GatedFilter


def detached():
    base = combined(lambda self, x, y: y * self.gate(y))()
    return type("GatedFilter", (base,), {"forward": lambda self, x: base.forward(self, x.detach())})


def courses_gate():
    class GatedFilter(nn.Module):
        def __init__(self, channels, kernel_size, stride):
            super().__init__()
            self.body = nn.Sequential(
                ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish),
                SqueezeExcitation(channels, make_divisible(channels / 4), nn.Hardsigmoid))

        def forward(self, x):
            return self.body(x)
    return GatedFilter


def torchvisions_gate():
    class GatedFilter(nn.Module):
        def __init__(self, channels, kernel_size, stride):
            super().__init__()
            self.filter = ConvBNAct(channels, channels, kernel_size, stride, groups=channels, act=nn.Hardswish)
            self.gate = torchvision.ops.SqueezeExcitation(channels, make_divisible(channels / 4),
                                                          scale_activation=nn.Hardsigmoid)

        def forward(self, x):
            return self.gate(self.filter(x))
    return GatedFilter


PUBLISHED, DENSE, NARROW = 300_774_272, 5_549_139_968, 63_689_536


def macs(**changed):
    return lambda: {"as published": PUBLISHED, "dense 3x3": DENSE, "no expansion": NARROW} | changed


def profiled(block, side=224):
    with torch.device("meta"):
        return lw.profile(MobileNetV2(block=block), (3, side, side)).macs


def narrow(before, after, stride, expand):
    return InvertedResidual(before, after, stride, 1)


def dense(before, after, stride, expand):
    built = InvertedResidual(before, after, stride, expand)
    built.depthwise = ConvBNAct(expand * before, expand * before, 3, stride, act=nn.ReLU6)
    return built


def at_side(side):
    return lambda: {"as published": profiled(InvertedResidual, side), "dense 3x3": profiled(dense, side),
                    "no expansion": profiled(narrow, side)}


def expansion_out_at(stride):
    def some(before, after, own, expand):
        return InvertedResidual(before, after, own, 1 if own == stride else expand)
    return lambda: macs(**{"no expansion": profiled(some)})()


def all_times(factor):
    return lambda: {"as published": PUBLISHED * factor, "dense 3x3": DENSE * factor, "no expansion": NARROW * factor}


def design(build):
    """`build` as the function without arguments that exercise 02.4 wants."""
    return lambda: build


def over_macs():
    return nn.Sequential(ConvBNAct(3, 32, 3), ConvBNAct(32, 32, 3, 2), *tail(32))


def tail(channels):
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)


def hint_3():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2, act=nn.ReLU6), InvertedResidual(16, 16, 1, 1),
                         InvertedResidual(16, 24, 2, 6), ..., *tail(128))


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))


def plain():
    """Standard convolutions within the budgets of 2,000,000 MACs and 50,000 parameters."""
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 16, 3), ConvBNAct(16, 32, 3, 2), ConvBNAct(32, 48, 3, 2),
                         ConvBNAct(48, 64, 3), *tail(64))


def good_plain():
    """As accurate as is asked for, by standard convolutions."""
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), ConvBNAct(8, 16, 3, 2), ConvBNAct(16, 24, 3, 2),
                         ConvBNAct(24, 32, 3, 2), *tail(32))


def light_plain():
    """Standard convolutions within the budgets of 500,000 MACs and 15,000 parameters."""
    return nn.Sequential(ConvBNAct(3, 8, 3, 2), ConvBNAct(8, 16, 3, 2), ConvBNAct(16, 24, 3), ConvBNAct(24, 32, 3, 2),
                         *tail(32))


def separable():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), SeparableConv(16, 32, 3, 2), SeparableConv(32, 64),
                         SeparableConv(64, 64, 3, 2), *tail(64))


def trained_before():
    network, data = separable(), lw.load_data("photo_digits", copies=1)
    lw.fit(network, replace(data, train=data.test), epochs=1, lr=0.1, batch_size=32, device="cpu", progress=False)
    weights = network.state_dict()

    def my_design():
        again = separable()
        for name, tensor in again.named_parameters():
            tensor.data = weights[name]
        return again
    return my_design


def trained_inside():
    network, data = separable(), lw.load_data("photo_digits", copies=1)
    lw.fit(network, replace(data, train=data.test), epochs=1, lr=0.1, batch_size=32, device="cpu", progress=False)
    return network


class Shifts(nn.Module):
    """A depthwise 9x9, written as products and sums, which no layer counts."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBNAct(3, 16, 3, 2)
        self.weight = nn.Parameter(torch.randn(81, 16, 1, 1) / 9)
        self.rest = nn.Sequential(*(InvertedResidual(*row) for row in
                                    ((16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 32, 2, 6), (32, 32, 1, 6))),
                                  *tail(32))

    def forward(self, x):
        x = F.pad(self.stem(x), (4,) * 4)
        return self.rest(sum(w * x[:, :, i // 9:i // 9 + 16, i % 9:i % 9 + 16] for i, w in enumerate(self.weight)))


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(3 * 32 * 32, 20))
        self.last = nn.Linear(20, 10)

    def forward(self, x):
        return self.last(x.flatten(1) @ self.table)


class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = separable()

    def forward(self, x):
        return self.layers(x).softmax(-1)


class AcrossImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = separable()

    def forward(self, x):
        return self.layers(x - x.mean(0))


OUTSIDE = separable()


# 02.5

PAPER = {"inverted": 10_988_544, "inverted, stride 2": 7_564_032, "no expansion": 10_035_200, "sandglass": 12_343_296}


def paper(**changed):
    return lambda: PAPER | {name.replace("_", " ").replace("2", ", stride 2"): value for name, value in changed.items()}


def paper_times(factor):
    return lambda: {name: count * factor for name, count in PAPER.items()}


# 02.6


def count_of(which):
    """A function that counts the parameters of the layers for which `which(module, name, parameter)` holds."""
    def build():
        def count(network):
            return sum(parameter.numel() for module in network.modules()
                       for name, parameter in module.named_parameters(recurse=False) if which(module, name, parameter))
        return count
    return build


def is_norm(module):
    return isinstance(module, nn.BatchNorm2d)


def of_state_dict():
    return lambda network: sum(value.numel() for value in network.state_dict().values())


def with_statistics():
    def count(network):
        norms = {id(p) for m in network.modules() if is_norm(m) for p in m.parameters()}
        return sum(v.numel() for v in [*network.parameters(), *network.buffers()] if id(v) not in norms)
    return count


def twice():
    """Counts what is inside a container again for the container."""
    return lambda network: sum(p.numel() for module in network.modules() if not is_norm(module)
                               for p in module.parameters())


def destructive():
    def count(network):
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if is_norm(child):
                    setattr(module, name, nn.Identity())
        return sum(p.numel() for p in network.parameters())
    return count


# 02.7


def v3_block(*, early=False, quarter=lambda hidden: make_divisible(hidden / 4), last=False, stride_seen=True,
             gates=True, late=False, norm=None, channels_seen=True, adds=True, squash=nn.Hardsigmoid):
    """Builds MobileNetV3's block with mistakes; all of the sheet's by default none."""
    norm = {"eps": 1e-3, "momentum": 0.01} if norm is None else norm

    def build():
        class RepairedBlock(nn.Module):
            def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
                super().__init__()
                where = out_channels if late else hidden
                gate = [SqueezeExcitation(where, quarter(where), squash)] if se and gates else []
                layers = [ConvBNAct(in_channels, hidden, 1, act=act, **norm)] if hidden != in_channels else []
                layers.append(ConvBNAct(hidden, hidden, kernel, stride, groups=hidden, act=None, **norm))
                layers += [*gate, act()] if early else [act()] if late else [act(), *gate]
                layers.append(ConvBNAct(hidden, out_channels, 1, act=act if last else None, **norm))
                self.layers = nn.Sequential(*layers, *(gate if late else []))
                self.adds = adds and (stride == 1 or not stride_seen) and (in_channels == out_channels
                                                                           or not channels_seen)

            def forward(self, x):
                y = self.layers(x)
                return x + y if self.adds else y
        return RepairedBlock
    return build


def courses_v3():
    class RepairedBlock(nn.Module):
        def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
            super().__init__()
            self.block = InvertedResidualSE(in_channels, hidden, out_channels, kernel, stride, se=se, act=act)

        def forward(self, x):
            return self.block(x)
    return RepairedBlock


def torchvisions_v3():
    from torchvision.models.mobilenetv3 import InvertedResidual as Theirs
    from torchvision.models.mobilenetv3 import InvertedResidualConfig

    class RepairedBlock(nn.Module):
        def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
            super().__init__()
            row = InvertedResidualConfig(in_channels, kernel, hidden, out_channels, se,
                                         "HS" if act is nn.Hardswish else "RE", stride, 1, 1.0)
            self.block = Theirs(row, lambda channels: nn.BatchNorm2d(channels, 1e-3, 0.01))

        def forward(self, x):
            return self.block(x)
    return RepairedBlock


def stride_too_late(network):
    """Moves each stride of a depthwise convolution to the projection after it: the output stays, the work grows."""
    parts = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for filters, project in zip(parts, parts[1:], strict=False):
        if filters.groups > 1:
            filters.stride, project.stride = (1, 1), filters.stride
    return network


def late_v3():
    base = v3_block()()

    class RepairedBlock(base):
        def __init__(self, in_channels, hidden, out_channels, kernel, stride, se, act):
            super().__init__(in_channels, hidden, out_channels, kernel, stride, se, act)
            if not se:  # a gate would average other pixels
                stride_too_late(self)
    return RepairedBlock


def late_minimal():
    build = minimal()()
    return lambda: stride_too_late(build())


def v3_of_other_order():
    base = v3_block()()

    class RepairedBlock(base):
        def __init__(self, in_channels, out_channels, hidden, kernel, stride, se, act):
            super().__init__(in_channels, hidden, out_channels, kernel, stride, se, act)
    return RepairedBlock


# 02.8


def minimal(*, kernel=lambda row: 3, gate=lambda row: False, act=lambda row: nn.ReLU, ends=nn.ReLU, classes=1000,
            stride=2, dropout=0.0, features=1280, norm=None, rows=LARGE):
    """Builds the function that assembles MobileNetV3-Large minimalistic, with mistakes."""
    def build():
        def minimalistic():
            more = {"eps": 1e-3, "momentum": 0.01} if norm is None else norm
            layers, channels = [ConvBNAct(3, 16, 3, stride, act=ends, **more)], 16
            for row in rows:
                layers.append(InvertedResidualSE(channels, row.hidden, row.channels, kernel(row), row.stride,
                                                 se=gate(row), act=act(row)))
                channels = row.channels
            layers += [ConvBNAct(channels, 6 * channels, 1, act=ends, **more), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            return nn.Sequential(*layers, nn.Linear(6 * channels, features), ends(), nn.Dropout(dropout),
                                 nn.Linear(features, classes))
        return minimalistic
    return build


def as_large(**more):
    return minimal(kernel=lambda row: row.kernel, gate=lambda row: row.se, act=lambda row: row.act, ends=nn.Hardswish,
                   **more)


def finished():
    def minimalistic():
        network = MobileNetV3([row._replace(kernel=3, se=False, act=nn.ReLU) for row in LARGE], 1280, dropout=0.0)
        network.stem.act, network.head.act, network.classifier[1] = nn.ReLU(), nn.ReLU(), nn.ReLU()
        return network
    return minimalistic


def timms():
    import timm
    return lambda: timm.create_model("tf_mobilenetv3_large_minimal_100", drop_rate=0.0)


def second_relu_forgotten():
    build = minimal()()

    def minimalistic():
        layers = list(build())
        return nn.Sequential(*layers[:-3], *layers[-2:])
    return minimalistic


WRONG = {
    "02.1": {
        "shortcut forgotten": (block(shortcut="never"), "the shortcut is missing"),
        "shortcut at stride 2": (block(shortcut="stride ignored"),
                                 ["InvRes(16, 16, 2, 4)", "taken where it cannot be", "the stride is 2"]),
        "shortcut though channels differ": (block(shortcut="channels ignored"),
                                            ["InvRes(24, 32, 1, 6)", "taken where it cannot be", "channels change"]),
        "added twice": (changed(lambda self, x, y: x + x + y if self.adds else y), "the input is added twice"),
        "multiplied": (changed(lambda self, x, y: x * y if self.adds else y), "Between layer 6 of 6"),
        "activations before BatchNorm": (activation_early("e", "d"),
                                         "stands before the BatchNorm; the order is convolution, BatchNorm"),
        "one before BatchNorm": (activation_early("d"), "before the BatchNorm of the depthwise convolution"),
        "the first before BatchNorm": (activation_early("e"), "before the BatchNorm of the expansion"),
        "another order": (other_order("in_channels", "out_channels", "expand", "stride"),
                          "yours takes (in_channels, out_channels, expand, stride)"),
        "another order, other names": (other_order("inp", "oup", "t", "s"), "takes the third for the expansion"),
        "a plain list": (in_a_list, "plain Python list"),
        "made in forward": (made_in_forward, "layers are made in forward"),
        "input overwritten": (changed(overwritten), "overwrites its input"),
        "dropout": (changed(lambda self, x, y: adds(self, x, F.dropout(y, 0.2, self.training))),
                    "two runs on the same input differ"),
        "another function in training": (changed(lambda self, x, y: F.relu6(y) if self.training else adds(self, x, y)),
                                         "`if self.training`"),
        "no gradient": (changed(lambda self, x, y: adds(self, x, y.detach())), "no gradient reaches"),
        "momentum": (momentum, "BatchNorm momentum"),
        "the course's": (inherited, "the course's `InvertedResidual`"),
        "torchvision's": (torchvisions, "torchvision's `InvertedResidual`"),
        "nothing returned": (changed(lambda self, x, y: None), "is the return missing?"),
        "activation after the projection": (block(last=nn.ReLU6), ["ReLU6 on the output of", "no activation there"]),
        "activation after the sum": (changed(lambda self, x, y: F.relu6(adds(self, x, y))), ["ReLU6", "no activation"]),
        "ReLU instead of ReLU6": (block(act=nn.ReLU), "ReLU on the output of"),
        "expansion where t is 1": (block(always_expand=True), "nothing to expand"),
        "padding missing": (block(padding=0), "padding 0"),
        "stride in the expansion": (block(stride_in="expand"), "stride 2, but the reference has stride 1"),
        "stride in the projection": (block(stride_in="project"), "is a stride in another convolution"),
        "BatchNorm missing": (block(norm=False), ["BatchNorm2d", "missing in your network"]),
        "bias before BatchNorm": (block(bias=True), "a bias, but the reference has no bias"),
        "groups forgotten": (block(depthwise=False), "groups 1, but the reference has groups"),
    },
    "02.2": {
        "gate before the activation": (gate(gate_first=True), "Hardswish"),
        "sigmoid instead of hard sigmoid": (gate(squash=nn.Sigmoid), "sigmoid"),
        "a quarter, not rounded": (gate(hidden=lambda channels: channels // 4), "squeezes 72 channels to 18"),
        "reduced by 16, as in SENet": (gate(hidden=lambda channels: channels // 16), "squeezes 72 channels to 4"),
        "swish instead of h-swish": (gate(act=nn.SiLU), "SiLU"),
        "ReLU missing between the two layers": (gate(between=nn.Identity), "activation is missing"),
        "no mean over pixels": (gate(means=False), "no pooling of the output of"),
        "half the channels": (gate(hidden=lambda channels: channels // 2), "squeezes 72 channels to 36"),
        "an eighth": (gate(hidden=lambda channels: channels // 8), "squeezes 72 channels to 9"),
        "not squeezed": (gate(hidden=lambda channels: channels), "squeezes 72 channels to 72"),
        "a sixteenth, rounded": (gate(hidden=lambda channels: make_divisible(channels / 16)), "72 channels to 8"),
        "added instead of multiplied": (gate(adds=True), "the gate is added"),
        "times 1 + gate": (combined(lambda self, x, y: y * (1 + self.gate(y))), "which multiplies it by 1 + gate"),
        "the gate alone": (combined(lambda self, x, y: self.gate(y)), "what you return is the gate"),
        "gate of the input": (combined(lambda self, x, y: y * self.gate(x)), "global average pooling of the input of"),
        "gate detached": (combined(lambda self, x, y: y * self.gate(y).detach()), "no gradient reaches"),
        "input detached": (detached, "the gradient of the input"),
        "sums for means": (combined(lambda self, x, y: y * self.gate(y * y[0, 0].numel())), "layer 3 of 4"),
        "the course's gate": (courses_gate, "the course's `SqueezeExcitation`"),
        "torchvision's gate": (torchvisions_gate, "torchvision's `SqueezeExcitation`"),
        "padding of a 3x3 for a 5x5": (gate(padding=1), "padding 1, but the reference has padding 2"),
        "groups forgotten": (gate(groups=False), "groups 1, but the reference has groups 72"),
        "no bias in the gate": (gate(bias=False), "bias"),
        "another order": (gate_of_other_order, "yours takes (channels, stride, kernel_size)"),
    },
    "02.3": {
        "parameters instead of MACs": (
            macs(**{"as published": 3_504_872, "dense 3x3": 44_050_952, "no expansion": 1_871_432}),
            "these are parameters"),
        "FLOPs": (all_times(2), "one MAC is both together"),
        "thousands": (all_times(1e-3), "these are thousands"),
        "ratios": (all_times(1 / PUBLISHED), "these are ratios"),
        "ratios upside down": (lambda: {"as published": 1, "dense 3x3": PUBLISHED / DENSE,
                                        "no expansion": PUBLISHED / NARROW}, "the first count divided by each"),
        "shares": (all_times(1 / (PUBLISHED + DENSE + NARROW)), "these are shares of the whole"),
        "ratios rounded": (lambda: {"as published": 1, "dense 3x3": 18.4, "no expansion": 0.21}, "these are ratios"),
        "two exchanged": (macs(**{"dense 3x3": NARROW, "no expansion": DENSE}), "are exchanged"),
        "ten classes": (lambda: {name: count - 990 * 1280 for name, count in macs()().items()}, "have ten classes"),
        "both out in one": (macs(**{"dense 3x3": 315_983_872}), "has no expansion either"),
        "both out in the other": (macs(**{"no expansion": 315_983_872}), "has a dense 3x3 as well"),
        "first 1x1 kept": (macs(**{"no expansion": 98_160_448}), "still begins with a 1x1 convolution"),
        "two mistakes": (macs(**{"dense 3x3": PUBLISHED, "no expansion": 98_160_448}), "are the groups still there"),
        "a network": (macs(**{"as published": nn.Linear(2, 2)}), "a network of type Linear, not a number"),
        "a profile": (macs(**{"as published": lw.profile(nn.Linear(2, 2), (2,))}), "this is a whole profile"),
        "stride lost": (macs(**{"dense 3x3": 536_079_656_960}), "missing its stride"),
        "expansion still there": (macs(**{"no expansion": PUBLISHED}), "did the block still get its expansion"),
        "groups still there": (macs(**{"dense 3x3": PUBLISHED}), "are the groups still there"),
        "millions": (macs(**{"as published": PUBLISHED / 1e6, "dense 3x3": DENSE / 1e6, "no expansion": NARROW / 1e6}),
                     "these are millions"),
        "a smaller image": (macs(**{"as published": 24_595_968}), "as published: 24,595,968 is too small"),
        **{f"images of {side} pixels": (at_side(side), f"for images of {side} x {side} pixels") for side in
           (32, 64, 96, 128, 160, 192, 256)},
        "expansion out at stride 2 only": (expansion_out_at(2), "expansion in the blocks of stride 1"),
        "expansion out at stride 1 only": (expansion_out_at(1), "expansion in the blocks of stride 2"),
        "one of three": (lambda: {"as published": PUBLISHED}, "the keys must be"),
    },
    "02.5": {
        "weights": (lambda: {"inverted": 14_016, "inverted, stride 2": 20_160, "no expansion": 800,
                             "sandglass": 15_744}, "how often is each of them used"),
        "no depthwise": (lambda: {"inverted": 9_633_792, "inverted, stride 2": 7_225_344, "no expansion": 6_422_528,
                                  "sandglass": 9_633_792}, "the depthwise convolution is missing"),
        "no depthwise in one": (paper(inverted=9_633_792), "the depthwise convolution is missing"),
        "no depthwise in the sandglass": (paper(sandglass=9_633_792), "the depthwise convolution is missing"),
        "no depthwise at stride 2": (paper(inverted2=7_225_344), "the depthwise convolution is missing"),
        "no depthwise without expansion": (paper(no_expansion=6_422_528), "the depthwise convolution is missing"),
        "dense filter": (paper(inverted=784 * 192 * (64 + 9 * 192)), "one of its filters reads one channel"),
        "dense filter at stride 2": (paper(inverted2=784 * 6144 + 196 * 192 * (64 + 9 * 192)), "reads one channel"),
        "dense filter without expansion": (paper(no_expansion=112**2 * 32 * (16 + 9 * 32)), "reads one channel"),
        "all on the small map": (paper(inverted2=196 * 192 * 105), "the expansion still works on the large map"),
        "all on the large map": (paper(inverted2=784 * 192 * 105), "nothing here respects the stride"),
        "filter on the large map": (paper(inverted2=784 * 192 * 41 + 196 * 192 * 64),
                                    "how many pixels does its output"),
        "projection on the large map": (paper(inverted2=784 * 192 * 96 + 196 * 192 * 9), "works on the small map"),
        "expansion of one": (paper(no_expansion=112**2 * 32 * (32 + 25)), "there is nothing to expand"),
        "one filter in the sandglass": (paper(sandglass=784 * 192 * 73), "has two depthwise convolutions"),
        "filters in the waist": (paper(sandglass=784 * (2 * 192 * 32 + 18 * 32)), "stand at its wide ends"),
        "FLOPs": (paper_times(2), "one MAC is both together"),
        "millions": (paper_times(1e-6), "these are millions"),
        "one of four": (lambda: {"inverted": 10_988_544}, "the keys must be"),
        "two exchanged": (lambda: PAPER | {"inverted": PAPER["sandglass"], "sandglass": PAPER["inverted"]},
                          "are exchanged"),
        "a list": (lambda: list(PAPER.values()), "a value of type dict"),
        "not filled in": (paper(sandglass=None), "sandglass"),
    },
    "02.6": {
        "a BatchNorm is taken for granted": (lambda: lambda network: sum(p.numel() for p in network.parameters())
                                             - 2 * torch.cat([m.weight for m in network.modules()
                                                              if isinstance(m, nn.BatchNorm2d)]).numel(),
                                             "expected a non-empty list of Tensors"),
        "all": (count_of(lambda *_: True), "BatchNorm's weights are still in the count"),
        "the others": (count_of(lambda module, *_: is_norm(module)), "counts BatchNorm's weights alone"),
        "scales left out": (count_of(lambda module, name, _: not is_norm(module) or name == "bias"),
                            "half of BatchNorm is still"),
        "biases left out": (count_of(lambda module, name, _: not is_norm(module) or name == "weight"),
                            "half of BatchNorm is still"),
        "no biases at all": (count_of(lambda module, name, _: not is_norm(module) and name != "bias"),
                             "the biases of other layers are missing"),
        "by dimension": (count_of(lambda module, name, parameter: parameter.ndim > 1),
                         "not everything of one dimension"),
        "by name": (lambda: lambda network: sum(p.numel() for name, p in network.named_parameters()
                                                if "bn" not in name), "you go by the layers' names"),
        "convolutions and linear layers": (count_of(lambda module, *_: isinstance(module, nn.Conv2d | nn.Linear)),
                                           "a network may have other parameters"),
        "with statistics": (with_statistics, "they are buffers"),
        "everything stored": (of_state_dict, "too large"),
        "containers too": (twice, "too large"),
        "takes the layers out": (destructive, "changes the network"),
        "no return": (lambda: lambda network: None, "is the return missing?"),
        "the number": (lambda: 3_470_760, "a function (its name"),
    },
    "02.7": {
        "as it came": (v3_block(early=True, quarter=lambda hidden: hidden // 4, last=True, stride_seen=False),
                       "RepairedBlock"),
        "all but the shortcut": (v3_block(stride_seen=False), ["taken where it cannot be", "the stride is 2"]),
        "channels forgotten": (v3_block(channels_seen=False), ["taken where it cannot be", "channels change"]),
        "no shortcut": (v3_block(adds=False), "the shortcut is missing"),
        "gate early": (v3_block(early=True), "the gate still stands before the activation"),
        "not rounded": (v3_block(quarter=lambda hidden: hidden // 4), "squeezes 72 channels to 18"),
        "activation at the end": (v3_block(last=True), "the projection still ends in an activation"),
        "gate early, not rounded": (v3_block(early=True, quarter=lambda hidden: hidden // 4), ["two things", "18"]),
        "gate early, activation at the end": (v3_block(early=True, last=True),
                                              ["two things", "the bottleneck is linear"]),
        "not rounded, activation at the end": (v3_block(quarter=lambda hidden: hidden // 4, last=True),
                                               ["two things", "the bottleneck is linear", "18"]),
        "three left": (v3_block(early=True, quarter=lambda hidden: hidden // 4, last=True), "three things"),
        "gate late": (v3_block(late=True), "the gate stands after the projection"),
        "no gate": (v3_block(gates=False), "the reference"),
        "sigmoid": (v3_block(squash=nn.Sigmoid), "sigmoid"),
        "BatchNorm of PyTorch": (v3_block(norm={}), "eps"),
        "momentum of PyTorch": (v3_block(norm={"eps": 1e-3}), "momentum"),
        "the course's": (courses_v3, "the course's `InvertedResidualSE`"),
        "torchvision's": (torchvisions_v3, "torchvision's `InvertedResidual`"),
        "stride in the projection": (late_v3, "is a stride in another convolution"),
        "another order": (v3_of_other_order, "come in another order"),
    },
    "02.8": {
        "Large": (as_large(), "that is MobileNetV3-Large itself"),
        "h-swish at the ends": (minimal(ends=nn.Hardswish), "the first layer and the end still have h-swish"),
        "h-swish in the blocks": (minimal(act=lambda row: row.act), "the blocks still have h-swish"),
        "h-swish everywhere": (minimal(act=lambda row: row.act, ends=nn.Hardswish), "h-swish is still everywhere"),
        "gates left": (minimal(gate=lambda row: row.se), "there are still gates"),
        "5x5 left": (minimal(kernel=lambda row: row.kernel), "there are still 5x5 kernels"),
        "ten classes": (minimal(classes=10), "10"),
        "stride 1 at the start": (minimal(stride=1), "stride"),
        "dropout": (minimal(dropout=0.2), "two runs on the same input differ"),
        "other features": (minimal(features=1024), "1024"),
        "one ReLU forgotten": (second_relu_forgotten, "ReLU"),
        "BatchNorm of PyTorch": (minimal(norm={}), "eps"),
        "a block short": (minimal(rows=LARGE[:-1]), "layers"),
        "stride in the projection": (late_minimal, "is a stride in another convolution"),
        "the course's network": (finished, "the course's `MobileNetV3`"),
        "timm's network": (timms, "timm's `MobileNetV3`"),
        "the network itself": (lambda: minimal()()(), "expects a function without arguments"),
    },
    "02.4": {
        "too many MACs": (design(over_macs), ["over budget", "MACs, of 2,000,000 allowed"]),
        "too many parameters": (design(lambda: MobileNetV2(10, width=0.25)),
                                ["over budget", "parameters, of 50,000 allowed"]),
        "weights in a buffer": (design(Buffers), "parameters, of 50,000 allowed"),
        "a filter by products": (design(Shifts), "MACs, of 2,000,000 allowed"),
        "a thousand classes": (design(lambda: MobileNetV2(width=0.25)), "must give logits of shape (2, 10)"),
        "no return": (design(lambda: None), "is the return missing?"),
        "softmax": (design(Softmax), "ends in a softmax"),
        "built outside": (design(lambda: OUTSIDE), "it was built outside"),
        "across images": (design(AcrossImages), "depends on the other images"),
        "trained before": (trained_before, "or the same weights"),
        "trained inside": (design(trained_inside), "was trained already"),
        "hint 3 as printed": (design(hint_3), "your code raised"),
        "a network": (separable, "expects a function without arguments"),
        "a linear classifier": (design(linear), "learned too little"),
        "standard convolutions": (design(plain), "80% are needed"),
        "standard convolutions that would pass": (design(good_plain), "A plain CNN has no score here"),
        "few standard convolutions": (design(light_plain), "60% are needed"),
    },
}
SLOW = {("02.4", name) for name in ("a linear classifier", "standard convolutions",
                                    "few standard convolutions", "standard convolutions that would pass",
                                    "trained before")}
