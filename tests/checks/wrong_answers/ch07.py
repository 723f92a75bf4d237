"""Wrong answers to the exercises of chapter 07, and words that the refusal must have."""
import torch
import torch.nn.functional as F
from torch import nn

from lwcourse.layers import BNPReLU, ConvBNPReLU, DilatedPyramid
from lwcourse.models.segmentation.espnet_v1 import EPS, ESP

RATES = (1, 2, 4, 8, 16)


def esp(*, fuse="right", shortcut="right", rates=RATES, padding=None, order="sum first", norm=True, bias=False,
        kernel=None, eps=EPS, rest=0, slopes=None, holder=nn.ModuleList, axis=1):
    """Builds the class of an ESP module with one mistake."""
    def build():
        class MyESP(nn.Module):
            def __init__(self, in_channels, out_channels, stride=1):
                super().__init__()
                d = out_channels // 5
                k = kernel or (1 if stride == 1 else 3)
                self.reduce = nn.Conv2d(in_channels, d, k, stride, k // 2, bias=bias)
                self.branches = holder(
                    nn.Conv2d(d, out_channels - 4 * d if i == rest else d, 3, padding=padding or rate, dilation=rate,
                              bias=bias) for i, rate in enumerate(rates))
                self.norm = BNPReLU(out_channels, eps) if norm else nn.PReLU(out_channels)
                if slopes:
                    self.norm.act = nn.PReLU(slopes)
                same = in_channels == out_channels
                self.adds = {"right": stride == 1 and same, "never": False, "stride ignored": same,
                             "channels ignored": stride == 1}[shortcut]

            def forward(self, x):
                y = self.reduce(x)
                maps = [branch(y) for branch in self.branches]
                plain = list(maps)
                if fuse == "all" and maps[0].shape == maps[1].shape:
                    maps[1] = maps[1] + maps[0]
                if fuse == "eval only" and not self.training:
                    maps[1:] = torch.stack(maps[1:]).cumsum(0)
                first, last = {"late": (3, 5), "not the last": (2, 4)}.get(fuse, (2, 5))
                for i in range(first, last):
                    if fuse in ("right", "all", "late", "not the last"):
                        maps[i] = maps[i] + maps[i - 1]
                    elif fuse == "pairs":
                        maps[i] = plain[i] + plain[i - 1]
                    elif fuse == "products":
                        maps[i] = maps[i] * maps[i - 1]
                if fuse == "stacked":
                    maps[1:] = torch.stack(maps[1:]).cumsum(0)
                if fuse == "everywhere":
                    maps[1:] = [sum(plain[1:])] * 4
                if fuse == "only the last":
                    maps[4] = sum(plain[1:])
                if fuse == "backwards":
                    for i in (3, 2, 1):
                        maps[i] = maps[i] + maps[i + 1]
                y = torch.cat(maps, dim=axis)
                if order == "between":
                    return self.norm.act(self.norm.bn(y) + x if self.adds else self.norm.bn(y))
                if order == "norm first":
                    return self.norm(y) + x if self.adds else self.norm(y)
                return self.norm(y + x if self.adds else y)
        return MyESP
    return build


def ratio(both, true, predicted):
    return both / (true + predicted - both)


def overwrites(confusion):
    value = ratio(confusion.diagonal().double(), confusion.sum(1).double(), confusion.sum(0).double()).nanmean()
    confusion.zero_()
    return value


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


class WithPyramid(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        d, kernel = out_channels // 5, 2 * stride - 1
        self.reduce = nn.Conv2d(in_channels, d, kernel, stride, kernel // 2, bias=False)
        self.pyramid = DilatedPyramid(d, [out_channels - 4 * d, d, d, d, d], RATES, fuse_from=1)
        self.norm, self.adds = BNPReLU(out_channels, EPS), stride == 1 and in_channels == out_channels

    def forward(self, x):
        y = self.pyramid(self.reduce(x))
        return self.norm(x + y if self.adds else y)


class StrideFirst(nn.Module):
    def __init__(self, stride, in_channels, out_channels):
        super().__init__()
        self.module = esp()()(in_channels, out_channels, stride)

    def forward(self, x):
        return self.module(x)


class Failing(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()

    def forward(self, x):
        return [x][1]


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


class Shifts(nn.Module):
    """Filters written out as products with numbers."""

    def __init__(self, terms):
        super().__init__()
        self.scales, self.body = nn.Parameter(torch.randn(terms)), Tiny(4)

    def forward(self, x):
        y = F.avg_pool2d(x, 2)
        return self.body(F.interpolate(sum(scale * y for scale in self.scales.unbind()), scale_factor=2.0))


class Listed(Tiny):
    def forward(self, x):
        return [super().forward(x)]


class Mixed(Tiny):
    def forward(self, x):
        return super().forward(x - x.mean(0, keepdim=True))


class InForward(Tiny):
    def forward(self, x):
        return super().forward(nn.Conv2d(3, 3, 1)(x))


class Diverges(nn.Conv2d):
    """A linear classifier of numbers that are far too large."""

    def __init__(self):
        super().__init__(3, 8, 1)

    def forward(self, x):
        return super().forward(x * 1e30)


BUILT = Tiny()


def design(build):
    """`build` as the function without arguments that exercise 07.4 wants."""
    return lambda: (lambda: build())


WRONG = {
    "07.1": {
        "fusion forgotten": (esp(fuse="none"), "the fusion is missing"),
        "rate 1 fused too": (esp(fuse="all"), ["rate 1 is fused too", "starts at rate 2"]),
        "fusion from rate 4": (esp(fuse="late"), "starts at rate 4, one branch too late"),
        "rate 16 not fused": (esp(fuse="not the last"), "the last branch, of rate 16, takes no part"),
        "neighbours added, not the sum": (esp(fuse="pairs"), "it must add the sum so far"),
        "large rates first": (esp(fuse="backwards"), "the fusion goes from large rates to small ones"),
        "the full sum everywhere": (esp(fuse="everywhere"), "every branch from rate 2 on gets the sum of all"),
        "the sum in the last only": (esp(fuse="only the last"), "only the last branch gets the sum"),
        "products": (esp(fuse="products"), "the maps are multiplied"),
        "fusion in eval mode only": (esp(fuse="eval only"), ["training mode", "self.training"]),
        "rates 1 to 5": (esp(rates=(1, 2, 3, 4, 5)), "dilation 3, but the reference has padding 4 and dilation 4"),
        "rates of a smaller pyramid": (esp(rates=(1, 1, 2, 4, 8)), "dilation 1, but the reference has"),
        "padding 1 everywhere": (esp(padding=1), ["maps of different sizes are added", "must be its rate"]),
        "padding 1 everywhere, stacked": (esp(padding=1, fuse="none"), "cannot be concatenated"),
        "the rest to rate 2": (esp(rest=1), ["maps of 16 and 12 channels are added", "branch of rate 1"]),
        "the rest to rate 16": (esp(rest=4), ["maps of 16 and 12 channels are added", "branch of rate 1"]),
        "the rest to rate 16, stacked": (esp(rest=4, fuse="stacked"), ["channels are added", "branch of rate 1"]),
        "shortcut forgotten": (esp(shortcut="never"), "the shortcut is missing"),
        "shortcut at stride 2": (esp(shortcut="stride ignored"), ["taken where it cannot be", "stride 2 makes"]),
        "shortcut though channels differ": (esp(shortcut="channels ignored"),
                                            ["taken where it cannot be", "12 channels come in and 30 go out"]),
        "BatchNorm before the sum": (esp(order="norm first"), "added after BatchNorm and PReLU"),
        "input between BatchNorm and PReLU": (esp(order="between"), "added between BatchNorm and PReLU"),
        "the rest to rate 16, which is not fused": (esp(fuse="not the last", rest=4), [
            "takes no part in the fusion, and it has", "branch of rate 1"]),
        "BatchNorm missing": (esp(norm=False), "BatchNorm2d"),
        "bias before BatchNorm": (esp(bias=True), "bias"),
        "one slope": (esp(slopes=1), "one slope for all channels"),
        "3x3 reduction at stride 1": (esp(kernel=3), "the reduction is a 3x3 at stride 1"),
        "1x1 reduction at stride 2": (esp(kernel=1), "the reduction is a 1x1 at stride 2"),
        "eps of PyTorch": (esp(eps=1e-5), "eps"),
        "branches in a plain list": (esp(holder=list), "plain Python list with 5 layers"),
        "joined along the batch": (esp(axis=0), "not along the channels: dim=1"),
        "the course's module": (lambda: ESP, "the course's `ESP`"),
        "the course's pyramid": (lambda: WithPyramid, "uses the course's `DilatedPyramid`"),
        "stride first": (lambda: StrideFirst, "come in another order"),
        "a list inside": (lambda: Failing, "your code raised IndexError"),
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
                                                                           .mean()), "only classes that were found"),
        "classes never predicted left out": (iou(lambda both, true, predicted: ratio(both, true, predicted)[
            predicted > 0].mean()), "a class that occurs and is never predicted is left out"),
        "classes that do not occur left out": (iou(lambda both, true, predicted: ratio(both, true, predicted)[
            true > 0].mean()), "does not occur, but is predicted, is left out"),
        "union without the intersection": (iou(lambda both, true, predicted: (
            both / (true + predicted - 2 * both)).nanmean()), "counts no pixel of the intersection"),
        "a sum": (iou(lambda both, true, predicted: ratio(both, true, predicted).nansum()), "not divided by"),
        "the error": (iou(lambda both, true, predicted: 1 - ratio(both, true, predicted).nanmean()), "1 minus"),
        "per cent": (iou(lambda both, true, predicted: 100 * ratio(both, true, predicted).nanmean()), "per cent"),
        "an axis of one": (iou(lambda both, true, predicted: ratio(both, true, predicted).nanmean().view(1)),
                           "the output has shape (1,), not ()"),
        "overwrites its input": (lambda: overwrites, "overwrites its input"),
        "Dice": (iou(lambda both, true, predicted: (2 * both / (true + predicted)).nanmean()), "the Dice score"),
        "IoU of each class": (iou(lambda both, true, predicted: both / (true + predicted - both)),
                              ["the output has shape (5,)", "one number is asked for"]),
        "without class 0": (iou(lambda both, true, predicted: ratio(both, true, predicted)[1:].nanmean()),
                            "class 0 is left out"),
        "without the last class": (iou(lambda both, true, predicted: ratio(both, true, predicted)[:-1].nanmean()),
                                   "the last class is left out"),
        "rows twice in the union": (iou(lambda both, true, predicted: ratio(both, true, true).nanmean()),
                                    "sums over the predicted classes alone"),
        "columns twice in the union": (iou(lambda both, true, predicted: ratio(both, predicted, predicted).nanmean()),
                                       "sums over the true classes alone"),
        "median": (iou(lambda both, true, predicted: ratio(both, true, predicted).nanmedian()),
                   "the median over the classes, not"),
        "median of NumPy": (iou(lambda both, true, predicted: ratio(both, true, predicted).nanquantile(0.5)),
                            "the median over the classes, between the middle two"),
        "a plain number": (lambda: lambda confusion: 0.5, "not a tensor"),
    },
    "07.3": {
        "pixels instead of shares": (lambda: dict(COUNTS), "these are numbers of pixels"),
        "per cent": (lambda: {name: 100 * share for name, share in SHARES.items()}, "these are per cent"),
        "shares of the picture": (lambda: {name: count / 41**2 for name, count in COUNTS.items()},
                                  "shares of the picture"),
        "holes": (lambda: {name: 1 - share for name, share in SHARES.items()}, "shares that stay empty"),
        "not squared": (lambda: {name: count / (9 if "v2" in name else 33) for name, count in COUNTS.items()},
                        "the side squared"),
        "the largest rate for the side": (lambda: {name: count / (4 if "v2" in name else 16) ** 2
                                                   for name, count in COUNTS.items()}, "the field's side is larger"),
        "four channels": (lambda: {name: 4 * share for name, share in SHARES.items()},
                          "you counted four channels of the last branch;"),
        "four channels in ESPNet": (shares(**{name: 4 * SHARES[name] for name in list(SHARES)[:2]}),
                                    "four channels of the last branch in ESPNet"),
        "fuse_from the wrong way round": (shares(**{"ESPNet, fused": 41 / 33**2, "ESPNetv2, fused": 25 / 81}),
                                          "fuse_from is the wrong way round"),
        "networks exchanged": (lambda: dict(zip(SHARES, [33 / 81, 9 / 81, 33 / 33**2, 9 / 33**2], strict=True)),
                               "ESPNet and ESPNetv2 are exchanged"),
        "a guess": (shares(**{"ESPNet, fused": 0.02}), "ESPNet, fused: 0.02 is too small"),
        "rate 1 not fused in ESPNetv2": (shares(**{"ESPNetv2, fused": 25 / 81}), "all branches are fused here"),
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
        "products that no layer counts": (design(lambda: Shifts(1500)), ["over budget", "MACs, of"]),
        "too much memory": (design(lambda: Tiny(64, 8)), ["over budget", "bytes of live activations"]),
        "a stem of 24 channels": (design(lambda: Tiny(24, 8)), "221,184 bytes of live activations"),
        "logits not enlarged": (design(lambda: Tiny(enlarge=False)), ["(2, 8, 48, 96)", "enlarge them"]),
        "other classes": (design(lambda: Tiny(classes=19)), "must give logits of shape (2, 8, 48, 96)"),
        "one class for an image": (design(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 96, 8))),
                                   "must give logits of shape (2, 8, 48, 96), got shape (2, 8)"),
        "a list": (design(lambda: Listed()), "got list"),
        "no return": (design(lambda: None), "is the return missing?"),
        "one network": (lambda: lambda: BUILT, "the same network, or the same weights"),
        "softmax": (design(lambda: nn.Sequential(Tiny(), nn.Softmax(1))), "ends in a softmax"),
        "sigmoid": (design(lambda: nn.Sequential(Tiny(enlarge=False), nn.Sigmoid(), nn.Upsample(scale_factor=2.0))),
                    "as a sigmoid at its end does"),
        "images mixed": (design(lambda: Mixed()), "depends on the other images"),
        "made in forward": (design(lambda: InForward()), "layers are made in forward"),
        "a network, not a function": (lambda: Tiny(), "a function without arguments"),
        "sees nothing": (design(Constant), "learned too little"),
        "linear": (design(lambda: nn.Conv2d(3, 8, 1)), "learned too little"),
        "linear in patches": (design(lambda: nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Upsample(scale_factor=4.0))),
                              "learned too little"),
        "a plain CNN": (design(lambda: nn.Sequential(
            ConvBNPReLU(3, 16, 3, 2), ConvBNPReLU(16, 32, 3, 2), ConvBNPReLU(32, 48, 3, 2), ConvBNPReLU(48, 48, 3),
            nn.Conv2d(48, 8, 1), nn.Upsample(scale_factor=8.0, mode="bilinear"))), "learned too little"),
        "a plain CNN of finer maps": (design(lambda: nn.Sequential(
            ConvBNPReLU(3, 16, 3, 2), ConvBNPReLU(16, 24, 3, 2), ConvBNPReLU(24, 24, 3),
            nn.Conv2d(24, 8, 1), nn.Upsample(scale_factor=4.0, mode="bilinear"))), "learned too little"),
        "diverges": (design(lambda: Diverges()), "training failed"),
    },
}

SLOW = {("07.4", name) for name in ("linear", "linear in patches", "a plain CNN", "a plain CNN of finer maps",
                                    "diverges", "sees nothing")}
