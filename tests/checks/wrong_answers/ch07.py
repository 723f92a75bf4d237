"""Wrong answers to the exercises of chapter 07, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import BNPReLU, ConvBNPReLU
from lwcourse.models.segmentation.espnet_v1 import EPS

RATES = (1, 2, 4, 8, 16)


def esp(*, fuse="right", shortcut="right", rates=RATES, padding=None, order="sum first", norm=True, bias=False,
        kernel=None, eps=EPS):
    """Builds the class of an ESP module with one mistake."""
    def build():
        class MyESP(nn.Module):
            def __init__(self, in_channels, out_channels, stride=1):
                super().__init__()
                d = out_channels // 5
                k = kernel or (1 if stride == 1 else 3)
                self.reduce = nn.Conv2d(in_channels, d, k, stride, k // 2, bias=bias)
                self.branches = nn.ModuleList(
                    nn.Conv2d(d, d if i else out_channels - 4 * d, 3, padding=padding or rate, dilation=rate, bias=bias)
                    for i, rate in enumerate(rates))
                self.norm = BNPReLU(out_channels, eps) if norm else nn.PReLU(out_channels)
                same = in_channels == out_channels
                self.adds = {"right": stride == 1 and same, "never": False, "stride ignored": same,
                             "channels ignored": stride == 1}[shortcut]

            def forward(self, x):
                y = self.reduce(x)
                maps = [branch(y) for branch in self.branches]
                plain = list(maps)
                if fuse == "all" and maps[0].shape == maps[1].shape:
                    maps[1] = maps[1] + maps[0]
                for i in range(2, 5):
                    if fuse in ("right", "all"):
                        maps[i] = maps[i] + maps[i - 1]
                    elif fuse == "pairs":
                        maps[i] = plain[i] + plain[i - 1]
                if fuse == "backwards":
                    for i in (3, 2, 1):
                        maps[i] = maps[i] + maps[i + 1]
                y = torch.cat(maps, dim=1)
                if order == "norm first":
                    return self.norm(y) + x if self.adds else self.norm(y)
                return self.norm(y + x if self.adds else y)
        return MyESP
    return build


def iou(function):
    """A function of (diagonal, true, predicted) that is averaged over classes, as the answer to 07.2."""
    def build():
        def answer(confusion):
            return function(confusion.diagonal().double(), confusion.sum(1).double(), confusion.sum(0).double())
        return answer
    return build


SHARES = {"ESPNet, fused": 33 / 33**2, "ESPNet, not fused": 9 / 33**2, "ESPNetv2, fused": 33 / 81,
          "ESPNetv2, not fused": 9 / 81}
COUNTS = {"ESPNet, fused": 33, "ESPNet, not fused": 9, "ESPNetv2, fused": 33, "ESPNetv2, not fused": 9}


def shares(**changed):
    return lambda: SHARES | changed


class Tiny(nn.Module):
    """A stem and one layer; enlarged unless told otherwise."""

    def __init__(self, channels=8, classes=8, *, enlarge=True, stride=2):
        super().__init__()
        self.stem, self.classify = ConvBNPReLU(3, channels, 3, stride), nn.Conv2d(channels, classes, 1)
        self.enlarge = enlarge

    def forward(self, x):
        y = self.classify(self.stem(x))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear") if self.enlarge else y


class Constant(nn.Module):
    """Sees nothing: one logit a class, and the same for every pixel."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return self.logits.view(1, 8, 1, 1).expand(len(x), 8, *x.shape[2:])


def design(build):
    """`build` as the function without arguments that exercise 07.4 wants."""
    return lambda: (lambda: build())


WRONG = {
    "07.1": {
        "fusion forgotten": (esp(fuse="none"), "the fusion is missing"),
        "rate 1 fused too": (esp(fuse="all"), ["rate 1 is fused too", "starts at rate 2"]),
        "neighbours added, not the sum": (esp(fuse="pairs"), "it must add the sum so far"),
        "large rates first": (esp(fuse="backwards"), "the fusion goes from large rates to small ones"),
        "rates 1 to 5": (esp(rates=(1, 2, 3, 4, 5)), "the dilation rates [1, 2, 3, 4, 5], not [1, 2, 4, 8, 16]"),
        "rates of a smaller pyramid": (esp(rates=(1, 1, 2, 4, 8)), "the dilation rates [1, 1, 2, 4, 8]"),
        "padding 1 everywhere": (esp(padding=1), ["the branch of rate 2 has padding 1", "must be its rate"]),
        "shortcut forgotten": (esp(shortcut="never"), "the shortcut is missing"),
        "shortcut at stride 2": (esp(shortcut="stride ignored"), ["taken where it cannot be", "stride 2 makes"]),
        "shortcut though channels differ": (esp(shortcut="channels ignored"),
                                            ["taken where it cannot be", "12 channels come in and 30 go out"]),
        "BatchNorm before the sum": (esp(order="norm first"),
                                     ["MyESP(20, 20, 1)", "added after BatchNorm and PReLU"]),
        "BatchNorm missing": (esp(norm=False), "BatchNorm2d"),
        "bias before BatchNorm": (esp(bias=True), "bias"),
        "3x3 reduction at stride 1": (esp(kernel=3), "rates [1, 1, 2, 4, 8, 16]"),
        "1x1 reduction at stride 2": (esp(kernel=1), "kernel"),
        "eps of PyTorch": (esp(eps=1e-5), "eps"),
    },
    "07.2": {
        "intersection twice in the union": (iou(lambda both, true, predicted: (both / (true + predicted)).nanmean()),
                                            "counts the pixels of the intersection twice"),
        "recall": (iou(lambda both, true, predicted: (both / true).nanmean()), "recall"),
        "precision": (iou(lambda both, true, predicted: (both / predicted).nanmean()), "precision"),
        "pixel accuracy": (iou(lambda both, true, predicted: both.sum() / true.sum()), "the share of right pixels"),
        "nan from an absent class": (iou(lambda both, true, predicted: (both / (true + predicted - both)).mean()),
                                     ["nan", "must not count"]),
        "absent class as 0": (iou(lambda both, true, predicted: (both / (true + predicted - both)).nan_to_num(0)
                                                             .mean()), "counts as 0"),
        "absent class as 1": (iou(lambda both, true, predicted: (both / (true + predicted - both)).nan_to_num(1)
                                                             .mean()), "counts as 1"),
        "weighted by frequency": (iou(lambda both, true, predicted: ((both / (true + predicted - both)).nan_to_num()
                                                                     * true / true.sum()).sum()), "weighted by"),
        "summed before the ratio": (iou(lambda both, true, predicted: both.sum() / (true + predicted - both).sum()),
                                    "summed over the classes first"),
        "classes never found left out": (iou(lambda both, true, predicted: (both / (true + predicted - both))[both > 0]
                                                                           .mean()), "never predicted is left out"),
        "Dice": (iou(lambda both, true, predicted: (2 * both / (true + predicted)).nanmean()), "the Dice score"),
        "IoU of each class": (iou(lambda both, true, predicted: both / (true + predicted - both)),
                              "must not count"),
        "a plain number": (lambda: lambda confusion: 0.5, "not a tensor"),
    },
    "07.3": {
        "pixels instead of shares": (lambda: dict(COUNTS), "these are numbers of pixels"),
        "per cent": (lambda: {name: 100 * share for name, share in SHARES.items()}, "these are per cent"),
        "shares of the picture": (lambda: {name: count / 41**2 for name, count in COUNTS.items()},
                                  "shares of the picture"),
        "holes": (lambda: {name: 1 - share for name, share in SHARES.items()}, "shares that stay empty"),
        "rate 1 not fused in ESPNetv2": (shares(**{"ESPNetv2, fused": 25 / 81}), "in ESPNetv2 all branches are fused"),
        "rate 1 fused in ESPNet": (shares(**{"ESPNet, fused": 41 / 33**2}), "rate 1 is fused too"),
        "all branches added up": (lambda: {"ESPNet, fused": 41 / 33**2, "ESPNet, not fused": 41 / 33**2,
                                           "ESPNetv2, fused": 33 / 81, "ESPNetv2, not fused": 33 / 81},
                                  ["fusion makes no difference", "all branches"]),
        "fusion never taken out": (shares(**{"ESPNet, not fused": 33 / 33**2, "ESPNetv2, not fused": 33 / 81}),
                                   ["fusion makes no difference", "the same in both"]),
        "exchanged": (lambda: {"ESPNet, fused": 9 / 33**2, "ESPNet, not fused": 33 / 33**2,
                               "ESPNetv2, fused": 9 / 81, "ESPNetv2, not fused": 33 / 81}, "are exchanged"),
        "one of four": (lambda: {"ESPNet, fused": 33 / 33**2}, "the keys must be"),
    },
    "07.4": {
        "too many MACs": (design(lambda: nn.Sequential(Tiny(16, 8), nn.Conv2d(8, 16, 3, padding=1),
                                                       nn.Conv2d(16, 8, 3, padding=1))),
                          ["over budget", "MACs, of 5,000,000 allowed"]),
        "too much memory": (design(lambda: Tiny(64, 8)), ["over budget", "bytes of live activations"]),
        "a stem of 24 channels": (design(lambda: Tiny(24, 8)), "221,184 bytes of live activations"),
        "logits not enlarged": (design(lambda: Tiny(enlarge=False)), ["(2, 8, 48, 96)", "enlarge the logits"]),
        "other classes": (design(lambda: Tiny(classes=19)), "must give logits of shape (2, 8, 48, 96)"),
        "no return": (design(lambda: None), "is the return missing?"),
        "sees nothing": (design(Constant), "learned too little"),
    },
}
