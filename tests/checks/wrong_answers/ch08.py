"""Wrong answers to the exercises of chapter 08, and words that the refusal must have."""
import torch.nn.functional as F
from torch import nn

from lwcourse.checks.ch08 import _attend, _deal
from lwcourse.layers import ConvBNAct
from lwcourse.models.mobilevit import MobileViTBlock, fold, unfold


def deal(**mistake):
    """Exercise 08.1 with one mistake, as a function that a learner could have written."""
    return lambda: lambda x, transform: _deal(**mistake)(x, transform)


def no_resize():
    return lambda x, transform: fold(transform(unfold(x)), *x.shape[2:])


def not_folded():
    def deal(x, transform):
        return transform(unfold(x))
    return deal


def wrong_way_back():
    def deal(x, transform):
        n, c, height, width = x.shape
        return transform(unfold(x)).reshape(n, height, width, c).permute(0, 3, 1, 2)
    return deal


def never_called():
    return lambda x, transform: x


def nearest():
    def deal(x, transform):
        even = [side + side % 2 for side in x.shape[2:]]
        return F.interpolate(fold(transform(unfold(F.interpolate(x, even))), *even), x.shape[2:])
    return deal


def attend(**mistake):
    return lambda: lambda *arguments: _attend(**mistake)(*arguments)


PRODUCTS = {256: 78_184_448, 512: 1_250_951_168, 1024: 20_015_218_688}
LINEAR_LAYERS = {256: 66_846_720, 512: 267_386_880, 1024: 1_069_547_520}  # of the attentions
ALL = {256: 407_364_096, 512: 2_566_709_760, 1024: 25_277_293_056}
SHARES = {side: macs / ALL[side] for side, macs in PRODUCTS.items()}
LINEAR = {side: (macs + LINEAR_LAYERS[side]) / ALL[side] for side, macs in PRODUCTS.items()}


def shares(numbers):
    return lambda: dict(numbers)


def design(build):
    return lambda: (lambda: build())


def net(*layers, channels=16):
    return nn.Sequential(ConvBNAct(3, 16, 3, 2), ConvBNAct(16, channels, 3, 2), *layers, nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(channels, 10))


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.network, self.block = net(), MobileViTBlock(16, 32, 1)

    def forward(self, x):
        return self.network(x)


WRONG = {
    "08.1": {
        "patches column by column": (deal(columns_first=True), "patches of a sequence are in the wrong order"),
        "a patch is a sequence": (deal(patch_is_sequence=True), "the four pixels of one patch"),
        "images mixed": (deal(batch_mixed=True), "mixes the images of the batch"),
        "reshape without permute": (deal(viewed=True), "a reshape alone does not move an axis"),
        "one sequence": (deal(one_sequence=True), "all pixels of an image are in one sequence"),
        "quarters of the map": (deal(quarters=True), "the four quarters of the map"),
        "corners aligned": (deal(align_corners=True), "align_corners=True"),
        "no resize": (no_resize, "odd sides are not resized"),
        "padded with zeros": (deal(padded=True), "odd sides are padded"),
        "odd row cut off": (deal(cut=True), "must have its own size again"),
        "not resized back": (deal(half=True), "must have its own size again"),
        "nearest neighbour": (nearest, "values are wrong"),
        "not folded": (not_folded, "the output has shape"),
        "folded by reshape": (wrong_way_back, "folding does not give the map back"),
        "transform never called": (never_called, "never called"),
    },
    "08.2": {
        "no scale": (attend(scale="none"), "not divided by the root"),
        "divided by d": (attend(scale="channels"), "not by their root"),
        "bias after softmax": (attend(where="after softmax"), "added after the softmax"),
        "bias scaled too": (attend(where="before scale"), "scaled with the scores"),
        "no bias": (attend(bias="none"), "the biases are missing"),
        "rows and columns swapped": (attend(bias="swapped"), "swapped"),
        "signed offsets": (attend(bias="signed"), "keeps its sign"),
        "height for width": (attend(bias="column by column"), "t // width"),
        "root of the values' channels": (attend(scale="values"), "root of the values' channels"),
        "biases subtracted": (attend(sign=-1), "subtracted"),
        "no softmax": (attend(softmax=False), "the softmax is missing"),
        "softmax over queries": (attend(axis=-2), "runs over the queries"),
    },
    "08.3": {
        "percent": (shares({side: 100 * share for side, share in SHARES.items()}), "these are percent"),
        "linear layers counted": (shares(LINEAR), "linear layers of the attention too"),
        "ratio to the rest": (shares({side: share / (1 - share) for side, share in SHARES.items()}),
                              "divide by all MACs"),
        "MACs": (shares(PRODUCTS), "these are MACs"),
        "one product": (shares({side: share / 2 for side, share in SHARES.items()}), "one of the two products"),
        "one size thrice": (shares(dict.fromkeys(SHARES, SHARES[256])), "did you profile each size"),
        "keys": (shares({224: 0.15}), "the keys must be"),
        "a guess": (shares(SHARES | {512: 0.4}), "512: 0.4 is too small"),
    },
    "08.4": {
        "no attention": (design(net), "there is no attention"),
        "attention never used": (design(Idle), "built but never used"),
        "one token": (design(lambda: net(nn.AdaptiveAvgPool2d(2), MobileViTBlock(16, 32, 1))), "sees 1 token:"),
        "too many MACs": (design(lambda: net(MobileViTBlock(16, 48, 4))), "over budget"),
        "a thousand classes": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 1000))),
                               "must give logits of shape (2, 10)"),
        "no return": (design(lambda: None), "is the return missing?"),
        "learns nothing": (design(lambda: nn.Sequential(nn.AvgPool2d(4), MobileViTBlock(3, 16, 1),
                                                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))),
                           "learned too little"),
    },
}
