"""Wrong answers to the exercises of chapter 04, and words that the refusal must have."""
import math

import torch
from torch import nn

from lwcourse.layers import AdderConv2d, ConvBNAct, GhostModule
from lwcourse.models.mobilenet_v2 import MobileNetV2


def ghost(*, norms=(True, True), acts=(True, True), join="ghosts last", cut="end", rounded=math.ceil, groups=True,
          reads="primary", padding=None, kernel=None, act=nn.ReLU, bias=False, switch=False):
    """Builds the class of a Ghost module with one mistake."""
    def brick(before, after, size, groups, pad, norm, active):
        layers = [nn.Conv2d(before, after, size, padding=pad, groups=groups, bias=bias)]
        return nn.Sequential(*layers, *[nn.BatchNorm2d(after)] * norm, *[act()] * active)

    def build():
        class Ghost(nn.Module):
            def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
                super().__init__()
                self.out_channels = out_channels
                m = max(1, rounded(out_channels / ratio))
                self.primary = brick(in_channels, m, 1, 1, 0, norms[0], acts[0])
                read = in_channels if reads == "input" else m
                size = kernel or cheap_kernel
                chain = ratio - 1 if reads == "ghost" else 1
                self.cheap = nn.ModuleList(brick(
                    read, m * (ratio - 1) // chain, size, m if groups and reads != "input" else 1,
                    size // 2 if padding is None else padding, norms[1], acts[1]) for _ in range(chain))

            def forward(self, x):
                primary = self.primary(x)
                made = [x if reads == "input" else self.primary[:2](x) if reads == "linear" else primary]
                for cheap in self.cheap:
                    made.append(cheap(made[-1]))
                ghosts = torch.cat(made[1:], dim=1)
                if switch and self.training:
                    ghosts = ghosts * 2
                if join == "batch":
                    return torch.cat([primary, ghosts])
                if join == "sum":
                    return primary + ghosts[:, :primary.shape[1]]
                maps = torch.cat({"ghosts last": [primary, ghosts], "ghosts first": [ghosts, primary],
                                  "primary": [primary], "ghosts": [ghosts]}[join], dim=1)
                return {"end": maps[:, :self.out_channels], "front": maps[:, -self.out_channels:], "no": maps}[cut]
        return Ghost
    return build


def first_half_twice():
    class Ghost(ghost()()):
        def forward(self, x):
            return torch.cat([self.primary(x), self.cheap[0](self.primary(x))], dim=1)[:, :self.out_channels]
    return Ghost


class Inherits(GhostModule):
    def __init__(self, in_channels, out_channels, ratio, cheap_kernel):
        super().__init__(in_channels, out_channels, ratio=ratio, cheap_kernel=cheap_kernel)


def clipped(d):
    return (-d).clamp(-1, 1)


def adder(*, output=lambda d: -d.abs().sum(2), for_x=clipped, for_w=lambda d: d,
          scale=lambda grad: 0.2 * grad.numel()**0.5 / grad.norm(), weight=True, clip_sum=False, swap=False,
          give=tuple, spoil=False, blind=False, by_g=None, g_for_w=True):
    """Builds an adder's autograd function with one mistake."""
    def build():
        class Adder(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, w):
                ctx.save_for_backward(x.clone(), w.clone())
                y = output(x[:, None] - w)
                if spoil:
                    x.zero_()
                if blind:
                    ctx.mark_non_differentiable(y)
                return y

            @staticmethod
            def backward(ctx, g):
                x, w = ctx.saved_tensors
                d = x[:, None] - w
                grad_w = ((g[:, :, None] if g_for_w else 1) * for_w(d)).sum(0)
                grad_x = (by_g(g[:, :, None], d) if by_g else g[:, :, None] * for_x(d)).sum(1)
                grad_x, grad_w = grad_x.clamp(-1, 1) if clip_sum else grad_x, grad_w * scale(grad_w) if weight else None
                return give((grad_w, grad_x) if swap else (grad_x, grad_w))
        return Adder
    return build


PUBLISHED, PLAIN, FOUR = 141_150_512, 230_065_520, 96_693_008


def macs(**changed):
    return lambda: {"as published": PUBLISHED, "no ghosts": PLAIN, "ratio 4": FOUR} | changed


def design(build):
    """`build` as the function without arguments that exercise 04.4 wants."""
    return lambda: (lambda: build())


def pooled(*layers, features, classes=10):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))


def dense():
    return pooled(ConvBNAct(3, 32, 3), ConvBNAct(32, 32, 3, 2), features=32)


def plain_cnn():
    return pooled(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 32, 3, 2), ConvBNAct(32, 48, 3, 2), features=48)


def adders_without_norm():
    return pooled(ConvBNAct(3, 16, 3, 2), AdderConv2d(16, 24, 3, 2, 1), nn.ReLU(), features=24)


def good_plain():
    """As accurate as is asked for, by standard convolutions."""
    return pooled(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, 24, 3, 2), ConvBNAct(24, 32, 3, 2), ConvBNAct(32, 40, 3, 2),
                  features=40)


BUILT = plain_cnn()
PER_COLUMN = {"keepdim": True, "dim": 0}
PER_TEMPLATE = {"keepdim": True, "dim": 1}

WRONG = {
    "04.1": {
        "BatchNorm missing in the cheap half": (ghost(norms=(True, False)), "missing after the cheap filters; both"),
        "BatchNorm missing in the first half": (ghost(norms=(False, True)), "BatchNorm is missing after the 1x1"),
        "activation missing in the cheap half": (ghost(acts=(True, False)),
                                                 ["some ghosts are negative", "activation"]),
        "activation missing in the first half": (ghost(acts=(False, True)), "some intrinsic maps are negative"),
        "ghosts before the intrinsic maps": (ghost(join="ghosts first"), "the intrinsic maps come first"),
        "intrinsic maps alone": (ghost(join="primary"), "the ghosts are missing"),
        "ghosts alone": (ghost(join="ghosts"), "only the ghosts come out"),
        "ghosts added": (ghost(join="sum"), "the ghosts are added"),
        "joined along the batch": (ghost(join="batch"), "the batch, as it does without dim"),
        "surplus not cut": (ghost(cut="no"), "the surplus is not cut off"),
        "surplus cut at the front": (ghost(cut="front"), "cut off at the front"),
        "rounded down": (ghost(rounded=math.floor), "is rounded down"),
        "groups forgotten": (ghost(groups=False), "are not depthwise"),
        "ghosts of the input": (ghost(reads="input"), "read the module's input"),
        "ghosts of maps before ReLU": (ghost(reads="linear"), "before their ReLU"),
        "ghosts of ghosts": (ghost(reads="ghost"), "a ghost is made of another ghost"),
        "padding missing": (ghost(padding=0), "lacks the padding"),
        "always 3x3": (ghost(kernel=3), "kernel"),
        "ReLU6": (ghost(act=nn.ReLU6), "ReLU6"),
        "bias before BatchNorm": (ghost(bias=True), "bias"),
        "other ghosts in training": (ghost(switch=True), "training mode"),
        "the first half called twice": (first_half_twice, ["more work", "does a layer run twice"]),
        "the course's module": (lambda: Inherits, "the course's `GhostModule`"),
    },
    "04.2": {
        "minus missing": (adder(output=lambda d: d.abs().sum(2)), "the minus is missing"),
        "squared": (adder(output=lambda d: -d.square().sum(2)), "the differences are squared"),
        "the mean": (adder(output=lambda d: -d.abs().mean(2)), "you take the mean of the differences"),
        "half": (adder(output=lambda d: -d.abs().sum(2) / 2), "the output is wrong: it is 0.5 times"),
        "clipped at zero": (adder(for_x=lambda d: (-d).clamp(0, 1)), "clipped to other limits"),
        "clipped at a half": (adder(for_x=lambda d: (-d).clamp(-0.5, 0.5)), "clipped to [-0.5, 0.5]"),
        "clipped after g": (adder(by_g=lambda g, d: (g * -d).clamp(-1, 1)), "clip w - x first"),
        "g left out for x": (adder(by_g=lambda g, d: clipped(d)), "g, is left out: each clipped"),
        "g left out for w": (adder(g_for_w=False), "g, is left out of the weight's gradient"),
        "a norm for each column": (adder(scale=lambda grad: 0.2 * grad.numel()**0.5 / grad.norm(**PER_COLUMN)),
                                   "the norm is taken of each column"),
        "the largest difference": (adder(output=lambda d: -d.abs().amax(2)), "by no usual mistake"),
        "summed over the templates": (adder(output=lambda d: -d.abs().sum(1)), "must have shape"),
        "no output": (adder(output=lambda d: None), "is the return missing?"),
        "sign for the weight": (adder(for_w=torch.sign), "takes x - w in full precision"),
        "sign for the input": (adder(for_x=lambda d: -d.sign()), "the paper clips w - x"),
        "input not clipped": (adder(for_x=lambda d: -d), "not clipped"),
        "the sum clipped": (adder(clip_sum=True), "clipped after the sum"),
        "only the sum clipped": (adder(for_x=lambda d: -d, clip_sum=True), "clipped after the sum"),
        "gradients swapped": (adder(swap=True), "first that of x"),
        "one gradient": (adder(give=lambda both: both[0]), "as many gradients as forward has arguments"),
        "weight clipped": (adder(for_w=lambda d: d.clamp(-1, 1)), "the weight's gradient is clipped"),
        "input pushed away": (adder(for_x=lambda d: d.clamp(-1, 1)), "pushes x away"),
        "weight pushed away": (adder(for_w=lambda d: -d), "pushes the template away"),
        "no rescaling": (adder(scale=lambda grad: 1.0), "the weight's gradient is not rescaled"),
        "root forgotten": (adder(scale=lambda grad: 0.2 / grad.norm()), "the factor sqrt(k)"),
        "eta forgotten": (adder(scale=lambda grad: grad.numel()**0.5 / grad.norm()), "the factor eta = 0.2"),
        "k without its root": (adder(scale=lambda grad: 0.2 * grad.numel() / grad.norm()), "to the norm 0.2 k"),
        "templates counted": (adder(scale=lambda grad: 0.2 * len(grad)**0.5 / grad.norm()), "the number of templates"),
        "one template counted": (adder(scale=lambda grad: 0.2 * grad[0].numel()**0.5 / grad.norm()),
                                 "the numbers of one template"),
        "each template by itself": (
            adder(scale=lambda grad: 0.2 * grad.numel()**0.5 / grad.norm(**PER_TEMPLATE)),
            "scaled by itself; one norm"),
        "each template by itself and its size": (
            adder(scale=lambda grad: 0.2 * grad[0].numel()**0.5 / grad.norm(**PER_TEMPLATE)), "root of its own size"),
        "not divided": (adder(scale=lambda grad: 0.2 * grad.numel()**0.5), "but not divided by its norm"),
        "the derivative": (adder(for_w=torch.sign, scale=lambda grad: 1.0), "the sign, and not rescaled"),
        "another eta": (adder(scale=lambda grad: 0.1 * grad.numel()**0.5 / grad.norm()), "0.5 times what it should be"),
        "no gradient for the weight": (adder(weight=False), "backward gives None"),
        "no way back": (adder(blind=True), "does not know where it comes from"),
        "the input overwritten": (adder(spoil=True), "overwrites x or w"),
        "a module": (lambda: AdderConv2d, "torch.autograd.Function"),
    },
    "04.3": {
        "parameters": (macs(**{"as published": 5_182_508, "no ghosts": 6_042_236, "ratio 4": 4_752_644}),
                       "these are parameters"),
        "FLOPs": (macs(**{"as published": 2 * PUBLISHED, "no ghosts": 2 * PLAIN, "ratio 4": 2 * FOUR}),
                  "one MAC is both together"),
        "millions": (macs(**{"as published": 141.2, "no ghosts": 230.1, "ratio 4": 96.7}), "these are millions"),
        "factors": (macs(**{"as published": 1.0, "no ghosts": 1.63, "ratio 4": 0.685}), "these are ratios"),
        "ratio still 2": (macs(**{"ratio 4": PUBLISHED}), "did the ratio arrive"),
        "ghosts still there": (macs(**{"no ghosts": PUBLISHED}), "still Ghost modules"),
        "3x3 convolutions": (macs(**{"no ghosts": 1850951024}), "stands for a 1x1 convolution"),
        "images of 32 pixels": (macs(**{"as published": 6_806_576, "no ghosts": 8_621_168, "ratio 4": 5_899_280}),
                                "of about 32 x 32 pixels"),
        "two exchanged": (macs(**{"as published": PLAIN, "no ghosts": PUBLISHED}), "are exchanged"),
        "one of three": (lambda: {"as published": PUBLISHED}, "there is no 'no ghosts', 'ratio 4'"),
        "a text": (macs(**{"ratio 4": "97 M"}), "ratio 4: got '97 M', not a number"),
        "one too small": (macs(**{"as published": 12_000_000}), "as published: 12,000,000 is too small"),
    },
    "04.4": {
        "too much energy": (design(dense), ["over budget", "nJ, of 3,000 allowed"]),
        "too many parameters": (design(lambda: MobileNetV2(10, width=0.25)),
                                ["over budget", "parameters, of 23,000 allowed"]),
        "no return": (design(lambda: None), "is the return missing?"),
        "a thousand classes": (design(lambda: MobileNetV2(width=0.25)), "must give logits of shape (2, 10)"),
        "a linear classifier": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))),
                                "parameters, of 23,000 allowed"),
        "built outside": (design(lambda: BUILT), "the same network"),
        "a softmax": (design(lambda: nn.Sequential(*plain_cnn(), nn.Softmax(1))), "ends in a softmax"),
        "adders without BatchNorm": (design(adders_without_norm), "learned too little"),
        "a linear classifier within the budgets": (
            design(lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 16 * 16, 10))),
            "learned too little"),
        "a plain CNN that would pass": (design(good_plain), "A plain CNN has no score here"),
        "a plain CNN": (design(plain_cnn), "learned too little"),
    },
}
SLOW = {("04.4", name) for name in ("adders without BatchNorm", "a linear classifier within the budgets",
                                    "a plain CNN", "a plain CNN that would pass")}
