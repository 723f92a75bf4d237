"""Wrong answers to the exercises of chapter 03, and words that the refusal must have."""
import torch
from torch import nn

from lwcourse.layers import ChannelShuffle, ConvBNAct
from lwcourse.models.shufflenet_v1 import ShuffleUnit as UnitV1
from lwcourse.models.shufflenet_v2 import ShuffleUnit

NEEDED = {2: 2, 4: 2, 8: 2, 16: 3, 32: 6}


def the(answer):
    """`answer`, a function, as the answer itself."""
    return lambda: answer


def swallowed_batch(x, groups):
    return x.reshape(groups, -1, *x.shape[2:]).transpose(0, 1).reshape(x.shape)


def unit(*, split="halves", join="shuffle last", first_act=nn.ReLU, last_act=nn.ReLU, depthwise_act=None,
         shortcut_act=nn.ReLU, padding=1, stride_on="depthwise", groups=2, depthwise=True, whole_at_2=True):
    """Builds the class of a ShuffleNet V2 unit with one mistake."""
    def build():
        class Unit(nn.Module):
            def __init__(self, in_channels, out_channels, stride):
                super().__init__()
                half = out_channels // 2
                taken = in_channels if stride == 2 else half
                if split == "none" and stride == 1:
                    taken = in_channels
                if stride == 2 and not whole_at_2:
                    taken = in_channels // 2
                self.stride = stride
                strides = {"first": 1, "depthwise": 1} | {stride_on: stride}
                self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
                    ConvBNAct(taken, taken, 3, 2, groups=taken, act=None),
                    ConvBNAct(taken, half, 1, act=shortcut_act))
                self.branch = nn.Sequential(
                    ConvBNAct(taken, half, 1, strides["first"], act=first_act),
                    ConvBNAct(half, half, 3, strides["depthwise"], padding=padding,
                              groups=half if depthwise else 1, act=depthwise_act),
                    ConvBNAct(half, half, 1, act=last_act))
                if split == "none" and stride == 1:
                    self.shortcut = ConvBNAct(in_channels, half, 1)
                self.shuffle = ChannelShuffle(groups)

            def halves(self, x):
                if self.stride == 2:
                    return (x, x) if whole_at_2 else x.chunk(2, dim=1)
                return {"halves": lambda: x.chunk(2, dim=1), "alternating": lambda: (x[:, ::2], x[:, 1::2]),
                        "reversed": lambda: x.chunk(2, dim=1)[::-1], "none": lambda: (x, x)}[split]()

            def forward(self, x):
                kept, taken = self.halves(x)
                kept, made = self.shortcut(kept), self.branch(taken)
                if join == "shuffle before":
                    return torch.cat((self.shuffle(kept), self.shuffle(made)), dim=1)
                if join == "no shuffle":
                    return torch.cat((kept, made), dim=1)
                if join == "branch first":
                    return self.shuffle(torch.cat((made, kept), dim=1))
                if join == "branch first, no shuffle":
                    return torch.cat((made, kept), dim=1)
                if join == "residual" and self.stride == 1:
                    return self.shuffle(torch.cat((kept, made + self.halves(x)[1]), dim=1))
                if join == "sum":
                    return self.shuffle(torch.cat((kept + made, made), dim=1))
                return self.shuffle(torch.cat((kept, made), dim=1))
        return Unit
    return build


def needed(**changed):
    return lambda: NEEDED | {int(key[1:]): value for key, value in changed.items()}


class Net(nn.Module):
    """Stem, units and a classifier."""

    def __init__(self, channels, units, last):
        super().__init__()
        self.features = nn.Sequential(ConvBNAct(3, channels, 3, stride=2), *units)
        self.classifier = nn.Linear(last, 10)

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


def design(build):
    """`build` as the function without arguments that exercise 03.4 wants."""
    return lambda: (lambda: build())


WRONG = {
    "03.1": {
        "the official code's order": (the(lambda x, groups: ChannelShuffle(x.shape[1] // groups)(x)),
                                      "order of the official code"),
        "transpose forgotten": (the(lambda x, groups: x.unflatten(1, (groups, -1)).flatten(1, 2)),
                                "nothing is shuffled"),
        "view instead of transpose": (
            the(lambda x, groups: x.unflatten(1, (groups, -1)).reshape(
                x.shape[0], x.shape[1] // groups, groups, *x.shape[2:]).flatten(1, 2)), "nothing is shuffled"),
        "groups reversed": (the(lambda x, groups: x.unflatten(1, (groups, -1)).flip(1).flatten(1, 2)),
                            "groups in reverse order"),
        "channels reversed": (the(lambda x, groups: x.flip(1)), "reversed"),
        "the batch swallowed": (the(swallowed_batch), "images of the batch are mixed up"),
        "one axis too many": (the(lambda x, groups: x.unflatten(1, (groups, -1)).transpose(1, 2)),
                              "the output has shape"),
        "pixels transposed": (the(lambda x, groups: ChannelShuffle(groups)(x).transpose(2, 3)),
                              "the output has shape"),
        "no return": (the(lambda x, groups: None), "is the return missing?"),
    },
    "03.2": {
        "no shuffle": (unit(join="no shuffle"), "the shuffle is missing"),
        "shuffle before the concatenation": (unit(join="shuffle before"), "the shuffle comes before the concatenation"),
        "every other channel kept": (unit(split="alternating"), "the split takes every other channel"),
        "the first half works": (unit(split="reversed"), "the second half of the channels passes"),
        "no split": (unit(split="none"), "nothing is split"),
        "the branch comes first": (unit(join="branch first"), "concatenated the wrong way round"),
        "the branch comes first, no shuffle": (unit(join="branch first, no shuffle"), "the shuffle is missing, and"),
        "a shuffle with other groups": (unit(groups=4), ["shuffle", "groups"]),
        "an addition": (unit(join="sum"), "no input comes out as it went in"),
        "a sum in the branch": (unit(join="residual"), "the branch adds its input"),
        "no ReLU after the first 1x1": (unit(first_act=None), "the activation is missing"),
        "no ReLU after the last 1x1": (unit(last_act=None), "activation after its last 1x1 is missing"),
        "ReLU after the depthwise layer": (unit(depthwise_act=nn.ReLU), "no activation there"),
        "no ReLU in the shortcut": (unit(shortcut_act=None), "1x1 of the shortcut is missing"),
        "ReLU6": (unit(first_act=nn.ReLU6), "ReLU6"),
        "padding forgotten": (unit(padding=0), "padding of a 3x3"),
        "stride in the first 1x1": (unit(stride_on="first"), "stride"),
        "split at stride 2 as well": (
            unit(whole_at_2=False), "the first half of the channels of the input x, but in the reference all of them"),
        "groups forgotten": (unit(depthwise=False), "groups 1, but the reference has groups"),
    },
    "03.3": {
        "shuffles counted": (lambda: {g: n - 1 for g, n in NEEDED.items()}, "you counted the shuffles"),
        "one too many": (lambda: {g: n + 1 for g, n in NEEDED.items()}, "one layer more than needed"),
        "always two": (lambda: dict.fromkeys(NEEDED, 2), "at least as many channels as there are groups"),
        "the logarithm of the groups": (lambda: {2: 2, 4: 3, 8: 4, 16: 5, 32: 6}, "not by two"),
        "channels of a group": (lambda: {g: 64 // g for g in NEEDED}, "these are the channels of a group"),
        "one wrong": (needed(g16=4), "16 groups: 4 is too large"),
        "never": (needed(g32=None), "is the shuffle between the layers?"),
        "keys that are texts": (lambda: {str(g): n for g, n in NEEDED.items()}, "not texts"),
        "a group missing": (lambda: {2: 2}, "the keys must be the groups"),
    },
    "03.4": {
        "too many MACs": (design(lambda: Net(16, [ShuffleUnit(16, 64, 2), ShuffleUnit(64, 64, 1)], 64)),
                          "MACs, of 60,000 allowed"),
        "groups save MACs, not bytes": (
            design(lambda: Net(8, [UnitV1(8, 64, 2, 8, first_groups=1), *(UnitV1(64, 64, 1, 8) for _ in range(3))],
                               64)), "this network moves too many bytes"),
        "a thousand classes": (
            design(lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                         nn.Linear(8, 1000))), "must give logits of shape (2, 10)"),
        "too small to learn": (
            design(lambda: nn.Sequential(ConvBNAct(3, 2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                         nn.Linear(2, 10))), "learned too little"),
        "no return": (design(lambda: None), "is the return missing?"),
    },
}
