"""Wrong answers to the exercises of chapter 04, and words that the refusal must have."""
import math

import torch
from torch import nn

from lwcourse.layers import AdderConv2d, ConvBNAct
from lwcourse.models.mobilenet_v2 import MobileNetV2


def ghost(*, cheap_norm=True, cheap_act=True, ghosts_first=False, cut="end", round_up=True, groups=True,
          reads="primary", padding=None, kernel=None, act=nn.ReLU, bias=False):
    """Builds the class of a Ghost module with one mistake."""
    def build():
        class Ghost(nn.Module):
            def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
                super().__init__()
                self.out_channels = out_channels
                m = math.ceil(out_channels / ratio) if round_up else out_channels // ratio
                self.primary = nn.Sequential(nn.Conv2d(in_channels, m, 1, bias=bias), nn.BatchNorm2d(m), act())
                read = m if reads == "primary" else in_channels
                size = kernel or cheap_kernel
                self.cheap = nn.Sequential(
                    nn.Conv2d(read, m * (ratio - 1), size, padding=size // 2 if padding is None else padding,
                              groups=m if groups and reads == "primary" else 1, bias=bias),
                    *([nn.BatchNorm2d(m * (ratio - 1))] if cheap_norm else []), *([act()] if cheap_act else []))

            def forward(self, x):
                primary = self.primary(x)
                ghosts = self.cheap(primary if reads == "primary" else x)
                maps = torch.cat([ghosts, primary] if ghosts_first else [primary, ghosts], dim=1)
                return {"end": maps[:, :self.out_channels], "front": maps[:, -self.out_channels:], "no": maps}[cut]
        return Ghost
    return build


def clipped(d):
    return (-d).clamp(-1, 1)


def adder(*, output=lambda d: -d.abs().sum(2), for_x=clipped, for_w=lambda d: d,
          scale=lambda grad: 0.2 * grad.numel()**0.5 / grad.norm(), weight=True, clip_sum=False, swap=False):
    """Builds an adder's autograd function with one mistake."""
    def build():
        class Adder(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                ctx.save_for_backward(x, w)
                return output(x[:, None] - w)

            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                d = x[:, None] - w
                grad_w = (g[:, :, None] * for_w(d)).sum(0)
                grad_x = (g[:, :, None] * for_x(d)).sum(1)
                grad_x, grad_w = grad_x.clamp(-1, 1) if clip_sum else grad_x, grad_w * scale(grad_w) if weight else None
                return (grad_w, grad_x) if swap else (grad_x, grad_w)
        return Adder
    return build


PUBLISHED, PLAIN, FOUR = 141_150_512, 230_065_520, 96_693_008


def macs(**changed):
    return lambda: {"as published": PUBLISHED, "no ghosts": PLAIN, "ratio 4": FOUR} | changed


def design(build):
    """`build` as the function without arguments that exercise 04.4 wants."""
    return lambda: (lambda: build())


def dense():
    return nn.Sequential(ConvBNAct(3, 32, 3), ConvBNAct(32, 32, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32, 10))


def adders_without_norm():
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), AdderConv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(24, 10))


WRONG = {
    "04.1": {
        "BatchNorm missing in the cheap half": (ghost(cheap_norm=False), "BatchNorm is missing behind one half"),
        "activation missing in the cheap half": (ghost(cheap_act=False),
                                                 ["ghosts are negative", "activation is missing"]),
        "ghosts before the intrinsic maps": (ghost(ghosts_first=True), "in another order"),
        "surplus not cut": (ghost(cut="no"), "cut off the surplus"),
        "surplus cut at the front": (ghost(cut="front"), "cut off at the front"),
        "rounded down": (ghost(round_up=False), "must be rounded up"),
        "groups forgotten": (ghost(groups=False), "groups is missing"),
        "ghosts of the input": (ghost(reads="input"), "read the module's input"),
        "padding missing": (ghost(padding=0), "Sizes of tensors must match"),
        "always 3x3": (ghost(kernel=3), "no 5 x 5 convolution"),
        "ReLU6": (ghost(act=nn.ReLU6), "ReLU6"),
        "bias before BatchNorm": (ghost(bias=True), "bias"),
    },
    "04.2": {
        "minus missing": (adder(output=lambda d: d.abs().sum(2)), "the minus is missing"),
        "squared": (adder(output=lambda d: -d.square().sum(2)), "the differences are squared"),
        "summed over the templates": (adder(output=lambda d: -d.abs().sum(1)), "must have shape"),
        "sign for the weight": (adder(for_w=torch.sign), "takes x - w in full precision"),
        "sign for the input": (adder(for_x=lambda d: -d.sign()), "the paper clips w - x"),
        "input not clipped": (adder(for_x=lambda d: -d), "not clipped"),
        "the sum clipped": (adder(clip_sum=True), "clipped after the sum"),
        "gradients swapped": (adder(swap=True), "first that of x"),
        "weight clipped": (adder(for_w=lambda d: d.clamp(-1, 1)), "the weight's gradient is clipped"),
        "input pushed away": (adder(for_x=lambda d: d.clamp(-1, 1)), "pushes x away"),
        "weight pushed away": (adder(for_w=lambda d: -d), "pushes the template away"),
        "no rescaling": (adder(scale=lambda grad: 1.0), "not rescaled"),
        "root forgotten": (adder(scale=lambda grad: 0.2 / grad.norm()), "the factor sqrt(k)"),
        "eta forgotten": (adder(scale=lambda grad: grad.numel()**0.5 / grad.norm()), "5 times what it should be"),
        "the derivative": (adder(for_x=lambda d: -d.sign(), for_w=torch.sign, scale=lambda grad: 1.0), "uses the sign"),
        "no gradient for the weight": (adder(weight=False), "backward gives None"),
        "a module": (lambda: AdderConv2d, "torch.autograd.Function"),
    },
    "04.3": {
        "parameters": (macs(**{"as published": 5_182_508, "no ghosts": 6_042_236, "ratio 4": 4_752_644}),
                       "these are parameters"),
        "FLOPs": (macs(**{"as published": 2 * PUBLISHED, "no ghosts": 2 * PLAIN, "ratio 4": 2 * FOUR}),
                  "one MAC is both together"),
        "millions": (macs(**{"as published": PUBLISHED / 1e6, "no ghosts": PLAIN / 1e6, "ratio 4": FOUR / 1e6}),
                     "these are millions"),
        "ratio still 2": (macs(**{"ratio 4": PUBLISHED}), "did the ratio arrive"),
        "ghosts still there": (macs(**{"no ghosts": PUBLISHED}), "still Ghost modules"),
        "one of three": (lambda: {"as published": PUBLISHED}, "the keys must be"),
        "a smaller image": (macs(**{"as published": 12_000_000}), "as published: 12,000,000 is too small"),
    },
    "04.4": {
        "too much energy": (design(dense), ["over budget", "nJ, of 3,000 allowed"]),
        "too many parameters": (design(lambda: MobileNetV2(10, width=0.25)),
                                ["over budget", "parameters, of 50,000 allowed"]),
        "no return": (design(lambda: None), "is the return missing?"),
        "a thousand classes": (design(lambda: MobileNetV2(width=0.25)), "must give logits of shape (2, 10)"),
        "adders without BatchNorm": (design(adders_without_norm),
                                      ["learned too little", "BatchNorm follow every adder"]),
        "a linear classifier": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))),
                                "learned too little"),
    },
}
