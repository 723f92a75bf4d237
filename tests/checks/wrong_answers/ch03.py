"""Wrong answers to the exercises of chapter 03, and words that the refusal must have."""
import torch
import torchvision
from torch import nn

import lwcourse as lw
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
         shortcut_act=nn.ReLU, padding=1, stride_on="depthwise", groups=2, depthwise=True, whole_at_2=True,
         shortcut_order="filter first", always_shortcut=False, drop=0.0):
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
                parts = [ConvBNAct(taken, taken, 3, stride, groups=taken, act=None),
                         ConvBNAct(taken, half, 1, act=shortcut_act)]
                if shortcut_order == "1x1 first":
                    parts = [ConvBNAct(taken, half, 1), ConvBNAct(half, half, 3, stride, groups=half, act=None)]
                self.shortcut = nn.Sequential(*parts if stride == 2 or always_shortcut else [])
                self.branch = nn.Sequential(
                    ConvBNAct(taken, half, 1, strides["first"], act=first_act),
                    ConvBNAct(half, half, 3, strides["depthwise"], padding=padding,
                              groups=half if depthwise else 1, act=depthwise_act),
                    ConvBNAct(half, half, 1, strides.get("last", 1), act=last_act), nn.Dropout(drop))
                if split == "none" and stride == 1:
                    self.shortcut = ConvBNAct(in_channels, half, 1)
                self.shuffle = ChannelShuffle(groups if isinstance(groups, int) else out_channels // 2)

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
                if join == "input added":
                    return self.shuffle(x + made)
                if join == "batch":
                    return torch.cat((kept, made))
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


def numpy_shuffle(x, groups):
    return torch.from_numpy(x.detach().numpy().reshape(len(x), groups, -1, *x.shape[2:]).swapaxes(1, 2).copy()).flatten(
        1, 2)


def overwriting_shuffle(x, groups):
    y = x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    x.zero_()
    return y


def index_shuffle(x, groups):
    per_group = x.shape[1] // groups
    return x[:, [group * per_group + place for place in range(per_group) for group in range(groups)]]


class InAList(nn.Module):
    """The branch's layers stand in a plain list."""

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        half = out_channels // 2
        self.layers = [ConvBNAct(half, half, 1), ConvBNAct(half, half, 3, groups=half, act=None),
                       ConvBNAct(half, half, 1)]

    def forward(self, x):
        kept, taken = x.chunk(2, dim=1)
        for layer in self.layers:
            taken = layer(taken)
        return torch.cat((kept, taken), dim=1)


class Inherits(ShuffleUnit):
    pass


def plain_cnn():
    return nn.Sequential(ConvBNAct(3, 8, 3, stride=2), ConvBNAct(8, 16, 3, stride=2), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(16, 10))


def good_plain():
    """As accurate as is asked for, by standard convolutions."""
    return nn.Sequential(ConvBNAct(3, 6, 3, stride=2), ConvBNAct(6, 12, 3, stride=2), ConvBNAct(12, 12, 3),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


BUILT = plain_cnn()

# 03.5
def predicted(**changed):
    right = {"macs": 5_644_800, "weights": 28_800, "inputs": 60, "pairs": 0.25, "two layers": 0.25,
             "two layers and a shuffle": 1}
    return the(right | {name.replace("_", " "): value for name, value in changed.items()})


# 03.6
def unit_of_v1(**options):
    """The sheet's unit with some of its errors, or others."""
    class Unit(nn.Module):
        def __init__(self, in_channels, out_channels, stride, groups):
            super().__init__()
            made = out_channels - in_channels if stride == 2 else out_channels
            hidden = out_channels // options.get("share", 4)
            act = nn.ReLU if options.get("filter_act") else None
            first = stride if options.get("stride_first") else 1
            self.reduce = ConvBNAct(in_channels, hidden, 1, first, groups=groups)
            self.filter = ConvBNAct(hidden, hidden, 3, stride // first, groups=hidden, act=act)
            where = options.get("shuffle", "between")
            shuffled = made if where == "last" else hidden
            shuffle = ChannelShuffle(groups if options.get("paper") else shuffled // groups)
            expand = ConvBNAct(hidden, made, 1, groups=groups, act=None)
            self.rest = nn.Sequential(*{"between": (shuffle, expand), "last": (expand, shuffle),
                                        "none": (expand,)}[where])
            self.average = nn.AvgPool2d(3, 2, padding=1)
            self.stride = stride

        def forward(self, x):
            y = self.rest(self.filter(self.reduce(x)))
            if self.stride == 2:
                parts = [self.average(x), y if options.get("act") == "none at stride 2" else y.relu()]
                return torch.cat(parts[::-1] if options.get("turned") else parts, dim=1)
            if options.get("act") == "before the sum":
                return x + y.relu()
            return x + y if options.get("act") == "none" else (x + y).relu()
    return the(Unit)


FILTER, LAST, BEFORE = {"filter_act": True}, {"shuffle": "last"}, {"act": "before the sum"}


# 03.7
def assembled(columns=((48, 96, 192), (244, 488, 976)), repeats=(4, 8, 4), features=(1024, 2048), pool=True, stem=2,
              act=nn.ReLU, bias=True, end=(), mean=True, strides=2):
    """Networks of the widths 0.5 and 2.0, as somebody reads the table."""
    def build(width):
        wide = int(width == 2)
        layers, channels = [ConvBNAct(3, 24, 3, stride=stem), nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()], 24
        for made, count in zip(columns[wide], repeats, strict=True):
            for i in range(count):
                layers.append(ShuffleUnit(channels, made, strides if i == 0 else 1))
                channels = made
        layers += [ConvBNAct(channels, features[wide], 1, act=act), nn.AdaptiveAvgPool2d(1) if mean else nn.Identity(),
                   nn.Flatten(), nn.Linear(features[wide], 1000, bias=bias), *end]
        return nn.Sequential(*layers)
    return the(build)


WRONG = {
    "03.5": {
        "MACs without groups": (predicted(macs=22_579_200), "you count the MACs without groups"),
        "MACs divided twice": (predicted(macs=1_411_200), "you divide the MACs by the groups twice"),
        "MACs of a pixel": (predicted(macs=28_800), "the MACs of one pixel"),
        "millions": (predicted(macs=5.6448), "millions of MACs"),
        "weights without groups": (predicted(weights=115_200), "the weights without groups"),
        "weights of a group": (predicted(weights=7_200), "the weights of one group"),
        "all inputs": (predicted(inputs=240), "its own group only"),
        "outputs of a group": (predicted(inputs=120), "the outputs of a group"),
        "the groups": (predicted(inputs=4), "this is the number of groups"),
        "per cent": (predicted(pairs=25, two_layers=25, two_layers_and_a_shuffle=100), "these are percentages"),
        "pairs": (predicted(pairs=28_800), "these are pairs"),
        "walls that open": (predicted(two_layers=1), "a second layer connects no more"),
        "multiplied": (predicted(two_layers=0.0625), "shares are not multiplied"),
        "added": (predicted(two_layers=0.5), "shares do not add up"),
        "shuffle without effect": (predicted(two_layers_and_a_shuffle=0.25), "channels of every group of the first"),
        "shuffle with half of it": (predicted(two_layers_and_a_shuffle=0.5), "and so sees every input"),
        "a key forgotten": (the({"macs": 1}), "there is no 'weights'"),
    },
    "03.6": {
        "nothing mended": (unit_of_v1(**FILTER, **LAST, **BEFORE), "nothing is mended"),
        "the activation left": (unit_of_v1(**FILTER), "an activation after the depthwise layer"),
        "the shuffle left": (unit_of_v1(**LAST), "the shuffle comes after the second grouped layer"),
        "the sum left": (unit_of_v1(**BEFORE), "the activation comes before the sum"),
        "activation and shuffle left": (unit_of_v1(**FILTER, **LAST),
                                        ("two errors are left", "after the depthwise layer", "connects nothing")),
        "activation and sum left": (unit_of_v1(**FILTER, **BEFORE),
                                    ("two errors are left", "after the depthwise layer", "before the sum")),
        "shuffle and sum left": (unit_of_v1(**LAST, **BEFORE),
                                 ("two errors are left", "connects nothing within", "before the sum")),
        "no shuffle": (unit_of_v1(shuffle="none"), "the shuffle is gone"),
        "the paper's order": (unit_of_v1(paper=True), "the shuffle has the paper's order"),
        "no activation at the end": (unit_of_v1(act="none"), "no activation follows the sum"),
        "no activation at stride 2": (unit_of_v1(act="none at stride 2"), "the activation of the branch is gone"),
        "concatenated the other way": (unit_of_v1(turned=True), "order"),
        "stride in the 1x1": (unit_of_v1(stride_first=True), "stride"),
        "the course's": (the(UnitV1), "ShuffleUnit"),
    },
    "03.7": {
        "repeats of stage 3": (assembled(repeats=(4, 4, 4)), "at width 0.5"),
        "the head of width 2": (assembled(features=(1024, 1024)), ("at width 2.0", "1024")),
        "columns exchanged": (assembled(columns=((244, 488, 976), (48, 96, 192))), "at width 0.5"),
        "always width 1": (assembled(columns=2 * ((116, 232, 464),), features=(1024, 1024)), "`width` makes no"),
        "no pooling in the stem": (assembled(pool=False), "at width 0.5"),
        "a stem of stride 1": (assembled(stem=1), ("at width 0.5", "stride")),
        "no activation in the head": (assembled(act=None), "activation"),
        "no bias": (assembled(bias=False), "bias"),
        "softmax": (assembled(end=(nn.Softmax(1),)), "softmax"),
        "no stride": (assembled(strides=1), "ValueError"),
        "nothing returned": (the(lambda width: None), "not an nn.Module"),
        "torchvision's": (the(lambda width: torchvision.models.shufflenet_v2_x0_5()), "torchvision's `ShuffleNetV2`"),
        "the course's": (the(lambda width: lw.create_model("shufflenet_v2", width=width)), "ShuffleNetV2"),
    },
    "03.1": {
        "the official code's order": (the(lambda x, groups: x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)),
                                      "order of the official code"),
        "transpose forgotten": (the(lambda x, groups: x.unflatten(1, (groups, -1)).flatten(1, 2)),
                                "nothing is shuffled"),
        "view instead of transpose": (
            the(lambda x, groups: x.unflatten(1, (groups, -1)).reshape(
                x.shape[0], x.shape[1] // groups, groups, *x.shape[2:]).flatten(1, 2)), "nothing is shuffled"),
        "groups reversed": (the(lambda x, groups: x.unflatten(1, (groups, -1)).flip(1).flatten(1, 2)),
                            "groups in reverse order"),
        "channels reversed": (the(lambda x, groups: x.flip(1)), "the channels are reversed"),
        "channels rolled": (the(lambda x, groups: torch.roll(x, 1, dims=1)), "rolled by one place"),
        "the batch swallowed": (the(swallowed_batch), "keep the batch axis apart"),
        "axes 2 and 3": (the(lambda x, groups: x.unflatten(1, (groups, -1)).swapaxes(2, 3).reshape_as(x)),
                         "axes 2 and 3 are exchanged"),
        "height and width": (
            the(lambda x, groups: x.unflatten(1, (groups, -1)).permute(0, 2, 1, 4, 3).reshape_as(x)),
            "height and width are exchanged"),
        "one axis too many": (the(lambda x, groups: x.unflatten(1, (groups, -1)).transpose(1, 2)),
                              "the output has shape"),
        "pixels transposed": (the(lambda x, groups: ChannelShuffle(groups)(x).transpose(2, 3)),
                              "the output has shape"),
        "no return": (the(lambda x, groups: None), "is the return missing?"),
        "a loop over slices": (the(lambda x, groups: torch.cat([x[:, i::x.shape[1] // groups] for i in range(
            x.shape[1] // groups)], dim=1)), "made by a loop"),
        "a list of indices": (the(index_shuffle), "made by a loop"),
        "the course's": (the(lambda x, groups: ChannelShuffle(groups)(x)), "the course's `ChannelShuffle`"),
        "PyTorch's module": (the(lambda x, groups: nn.ChannelShuffle(groups)(x)), "PyTorch's own shuffle"),
        "no gradient": (the(numpy_shuffle), "no gradient"),
        "the input overwritten": (the(overwriting_shuffle), "overwrites its input"),
    },
    "03.2": {
        "no shuffle": (unit(join="no shuffle"), "the shuffle is missing: the first half of the outputs"),
        "shuffle before the concatenation": (unit(join="shuffle before"), "the shuffle comes before the concatenation"),
        "every other channel kept": (unit(split="alternating"), "the split takes every other channel"),
        "the first half works": (unit(split="reversed"), "the second half of the channels passes"),
        "no split": (unit(split="none"), "nothing is split"),
        "the branch comes first": (unit(join="branch first"), "wrong way round: what passes comes first"),
        "the branch comes first, no shuffle": (unit(join="branch first, no shuffle"), "the shuffle is missing, and"),
        "a shuffle with four groups": (unit(groups=4), "the shuffle has 4 groups"),
        "the official order": (unit(groups="half"), "the shuffle is in the other order"),
        "an addition": (unit(join="sum"), "what passes is added to what the branch gives"),
        "the input added": (unit(join="input added"), "no sum is needed"),
        "a sum in the branch": (unit(join="residual"), "the branch adds its input"),
        "no ReLU after the first 1x1": (unit(first_act=None), "the activation after the first 1x1"),
        "no ReLU after the last 1x1": (unit(last_act=None), "activation after its last 1x1 is missing"),
        "no ReLU at all in the branch": (unit(first_act=None, last_act=None), "no activation follows either 1x1"),
        "ReLU after the depthwise layer": (unit(depthwise_act=nn.ReLU), "that layer has none"),
        "no ReLU in the shortcut": (unit(shortcut_act=None), "1x1 of the shortcut is missing"),
        "the shortcut's 1x1 first": (unit(shortcut_order="1x1 first"), "the shortcut begins with its 1x1"),
        "layers on what passes": (unit(always_shortcut=True), "it passes untouched there"),
        "ReLU6": (unit(first_act=nn.ReLU6), "ReLU6"),
        "padding forgotten": (unit(padding=0), "padding"),
        "stride in the first 1x1": (unit(stride_on="first"), "the stride of the branch is in its first 1x1"),
        "stride in the last 1x1": (unit(stride_on="last"), "more work: is a stride in another convolution"),
        "split at stride 2 as well": (unit(whole_at_2=False), "there all channels go both ways"),
        "groups forgotten": (unit(depthwise=False), "it is not depthwise"),
        "joined along the batch": (unit(join="batch"), "the batch, as it does without dim"),
        "dropout": (unit(drop=0.3), "training mode"),
        "layers in a list": (the(InAList), "plain Python list"),
        "the course's unit": (the(Inherits), "the course's `ShuffleUnit`"),
    },
    "03.3": {
        "shuffles counted": (lambda: {g: n - 1 for g, n in NEEDED.items()}, "you counted the shuffles; the question"),
        "one too many": (lambda: {g: n + 1 for g, n in NEEDED.items()}, "one layer more than needed"),
        "shuffles and layers": (lambda: {g: 2 * n - 1 for g, n in NEEDED.items()}, "shuffles and layers together"),
        "always two": (lambda: dict.fromkeys(NEEDED, 2), "at least as many channels as there are groups"),
        "always a shuffle with two groups": (lambda: {2: 2, 4: 3, 8: 4, 16: 5, 32: 6}, "two groups everywhere"),
        "channels of a group": (lambda: {g: 64 // g for g in NEEDED}, "these are the channels of a group"),
        "one wrong": (needed(g16=4), "16 groups: 4 is too large"),
        "never": (needed(g32=None), "is the shuffle between the layers?"),
        "infinitely many": (needed(g32=float("inf")), "is the shuffle between the layers?"),
        "a text for a number": (needed(g2="two"), "2 groups: got 'two', not a number"),
        "keys that are texts": (lambda: {str(g): n for g, n in NEEDED.items()}, "not texts"),
        "a group missing": (lambda: {2: 2}, "there is no 4, 8, 16, 32"),
    },
    "03.4": {
        "too many MACs": (design(lambda: Net(16, [ShuffleUnit(16, 64, 2), ShuffleUnit(64, 64, 1)], 64)),
                          "MACs, of 60,000 allowed"),
        "groups save MACs, not bytes": (
            design(lambda: Net(8, [UnitV1(8, 32, 2, 8, first_groups=1), *(UnitV1(32, 32, 1, 8) for _ in range(3))],
                               32)), "on the bill of MACs and bytes moved, of 880,000 allowed"),
        "too many parameters": (
            design(lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), ConvBNAct(8, 16, 3, 2), ConvBNAct(16, 20, 3, 2),
                                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 10))),
            "parameters, of 2,500 allowed"),
        "a linear classifier": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 10))),
                                "parameters, of 2,500 allowed"),
        "a linear classifier within the budgets": (
            design(lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 10))),
            "it learned too little"),
        "a plain CNN that would pass": (design(good_plain), "A plain CNN has no score here"),
        "a plain CNN": (design(plain_cnn), "it learned too little"),
        "one unit, as hint 3 begins": (design(lambda: Net(8, [ShuffleUnit(8, 24, 2)], 24)), "it learned too little"),
        "built outside": (design(lambda: BUILT), "the same network"),
        "a softmax": (design(lambda: nn.Sequential(*plain_cnn(), nn.Softmax(1))), "ends in a softmax"),
        "a thousand classes": (
            design(lambda: nn.Sequential(ConvBNAct(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                         nn.Linear(8, 1000))), "must give logits of shape (2, 10)"),
        "too small to learn": (
            design(lambda: nn.Sequential(ConvBNAct(3, 2, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                         nn.Linear(2, 10))), "learned too little"),
        "no return": (design(lambda: None), "is the return missing?"),
    },
}
SLOW = {("03.4", name) for name in ("a plain CNN", "a plain CNN that would pass",
                                    "a linear classifier within the budgets", "one unit, as hint 3 begins")}
