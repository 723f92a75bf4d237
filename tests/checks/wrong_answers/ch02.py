"""Wrong answers to the exercises of chapter 02, and words that the refusal must have."""
from torch import nn

from lwcourse.layers import ConvBNAct, make_divisible
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2


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


def after_the_sum():
    class InvRes(InvertedResidual):
        def forward(self, x):
            return nn.functional.relu6(super().forward(x))
    return InvRes


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


PUBLISHED, DENSE, NARROW = 300_774_272, 5_549_139_968, 63_689_536


def macs(**changed):
    return lambda: {"as published": PUBLISHED, "dense 3x3": DENSE, "no expansion": NARROW} | changed


def design(build):
    """`build` as the function without arguments that exercise 02.4 wants."""
    return lambda: (lambda: build())


def over_macs():
    return nn.Sequential(ConvBNAct(3, 32, 3), ConvBNAct(32, 32, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32, 10))


WRONG = {
    "02.1": {
        "shortcut forgotten": (block(shortcut="never"), "the shortcut is missing"),
        "shortcut at stride 2": (block(shortcut="stride ignored"), ["taken where it cannot be", "stride 2 makes"]),
        "shortcut though channels differ": (block(shortcut="channels ignored"),
                                            ["taken where it cannot be", "24 channels come in and 32 go out"]),
        "activation after the projection": (block(last=nn.ReLU6), ["ReLU6 on the output of", "no activation there"]),
        "activation after the sum": (after_the_sum, ["ReLU6", "no activation"]),
        "ReLU instead of ReLU6": (block(act=nn.ReLU), "ReLU on the output of"),
        "expansion where t is 1": (block(always_expand=True), "nothing to expand"),
        "padding missing": (block(padding=0), "padding 0"),
        "stride in the expansion": (block(stride_in="expand"), "stride 2, but the reference has stride 1"),
        "stride in the projection": (block(stride_in="project"), "the stride is in the wrong convolution"),
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
        "added instead of multiplied": (gate(adds=True), "times Hardsigmoid of the output of"),
        "padding of a 3x3 for a 5x5": (gate(padding=1), "padding 1, but the reference has padding 2"),
        "groups forgotten": (gate(groups=False), "groups 1, but the reference has groups 72"),
        "no bias in the gate": (gate(bias=False), "bias"),
    },
    "02.3": {
        "parameters instead of MACs": (
            macs(**{"as published": 3_504_872, "dense 3x3": 44_050_952, "no expansion": 1_871_432}),
            "these are parameters"),
        "FLOPs": (macs(**{"as published": 2 * PUBLISHED, "dense 3x3": 2 * DENSE, "no expansion": 2 * NARROW}),
                  "one MAC is both together"),
        "stride lost": (macs(**{"dense 3x3": 536_079_656_960}), "missing its stride"),
        "expansion still there": (macs(**{"no expansion": PUBLISHED}), "did the block still get its expansion"),
        "groups still there": (macs(**{"dense 3x3": PUBLISHED}), "are the groups still there"),
        "millions": (macs(**{"as published": PUBLISHED / 1e6, "dense 3x3": DENSE / 1e6, "no expansion": NARROW / 1e6}),
                     "these are millions"),
        "a smaller image": (macs(**{"as published": 24_595_968}), "as published: 24,595,968 is too small"),
        "one of three": (lambda: {"as published": PUBLISHED}, "the keys must be"),
    },
    "02.4": {
        "too many MACs": (design(over_macs), ["over budget", "MACs, of 2,000,000 allowed"]),
        "too many parameters": (design(lambda: MobileNetV2(10, width=0.25)),
                                ["over budget", "parameters, of 50,000 allowed"]),
        "a thousand classes": (design(lambda: MobileNetV2(width=0.25)), "must give logits of shape (2, 10)"),
        "no return": (design(lambda: None), "is the return missing?"),
        "a linear classifier": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))),
                                "learned too little"),
    },
}
