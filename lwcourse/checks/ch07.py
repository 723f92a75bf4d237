"""Checks of chapter 07: ESPNet and light segmentation."""
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from lwcourse.checks import Score, exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    a_function,
    a_module_class,
    banded,
    build_network,
    compare_blocks,
    compare_functions,
    compare_numbers,
    counted_macs,
    drawn_anew,
    first_output,
    naming_mistakes,
    refuse_missing_keys,
    refuse_mixed_batch,
    refuse_other_network,
    refuse_other_order,
    refuse_over_budget,
    refuse_probabilities,
    refuse_squashed,
)
from lwcourse.data import load_data
from lwcourse.layers import DilatedPyramid
from lwcourse.models.segmentation.espnet_v1 import DILATIONS, ESP
from lwcourse.profile import profile
from lwcourse.train import TrainingDiverged, enet_weights, evaluate, fit

ESP_CASES = (  # (in_channels, out_channels, stride), input shape
    ((12, 30, 1), (1, 12, 35, 38)),  # channels change: no shortcut; larger than any kernel
    ((20, 20, 1), (2, 20, 21, 20)),  # the one with a shortcut
    ((19, 64, 2), (1, 19, 41, 36)),  # 64 = 16 + 4 · 12
    ((40, 40, 2), (1, 40, 36, 39)),  # equal channels, but stride 2: no shortcut
    ((32, 32, 1), (1, 32, 18, 23)),
)
V2_RATES = (1, 2, 3, 4)
ROUNDED = 1.5e-2  # relative: shares may be rounded to two digits
MAX_MACS, MAX_BYTES = 5_000_000, 200 * 1024
SIZE = (48, 96)
RECIPE = {"epochs": 4, "lr": 0.2, "batch_size": 4}
SEEDS = (0, 1, 2)  # the score is the mean, since one short run says little
# The sheet's solution, ten times three seeds: 47.8 45.9 48.4 47.9 47.9 49.3 49.0 47.8 48.2 48.0 (mean 48.0, deviation
# 0.9). Plain convolutions within both budgets get 41 to 44, linear classifiers 18 to 20.
LEAST_IOU, GOOD_IOU = 0.45, 0.47


@exercise("07.1", title="ESP module", minutes=25, difficulty="medium", expects=a_module_class)
def esp_module(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride)` builds the ESP module with five branches."""
    refuse_other_order(answer, ("in_channels", "out_channels", "stride"))
    with naming_mistakes(answer, ESP_MISTAKES, ESP_CASES):
        for arguments, shape in ESP_CASES:
            try:
                compare_blocks(answer, ESP, [(arguments, shape)], ready_made=("ESP", "DilatedPyramid"))
            except RuntimeError as error:
                _explain_sum(str(error), f"{answer.__name__}{arguments}", *arguments)
                raise
    return f"Equal to the course's module in {len(ESP_CASES)} settings."


def _explain_sum(said: str, call: str, in_channels: int, out_channels: int, stride: int) -> None:
    """Name the cause of PyTorch's error about a sum of two maps, by their sizes."""
    narrow = out_channels // 5
    rest = out_channels - 4 * narrow
    found = re.search(r"tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton dimension (\d)",
                      said)
    if not found and "stack expects each tensor" not in said:
        return
    sizes, axis = ({int(found[1]), int(found[2])}, int(found[3])) if found else ({narrow, rest}, 1)
    if axis == 1 and sizes == {narrow, rest}:
        fail(f"{call}: maps of {rest} and {narrow} channels are added: the channels that are left over belong to the "
             "branch of rate 1, which takes no part in the fusion")
    if axis == 1 and sizes == {in_channels, out_channels}:
        fail(f"{call}: the shortcut is taken where it cannot be: {in_channels} channels come in and {out_channels} go "
             "out, so the two cannot be added")
    if axis > 1 and stride > 1:
        fail(f"{call}: the shortcut is taken where it cannot be: stride {stride} makes the output smaller than the "
             "input, so the two cannot be added")
    if axis > 1:
        fail(f"{call}: maps of different sizes are added ({' and '.join(map(str, sorted(sizes)))} pixels): the padding "
             "of a dilated 3x3 must be its rate, or its map gets another size")


class _Mistaken(ESP):
    """ESP with one mistake; `fuse` gives the maps that are concatenated."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *,
                 fuse: Callable[[list[Tensor]], list[Tensor]] | None = None, kernel: int | None = None,
                 shortcut: str = "right", slopes: int | None = None, rest_last: bool = False):
        super().__init__(in_channels, out_channels, stride)
        self.fuse, self.shortcut, self.rest_last = fuse, shortcut, rest_last
        if rest_last:
            narrow = out_channels // 5
            self.pyramid = DilatedPyramid(narrow, [*[narrow] * 4, out_channels - 4 * narrow], DILATIONS,
                                          hierarchical=False)
        if kernel:
            if kernel == self.reduce.kernel_size[0]:
                raise ValueError("no mistake here")
            self.reduce = nn.Conv2d(in_channels, out_channels // 5, kernel, stride, kernel // 2, bias=False)
        if slopes:
            self.norm.act = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(x)
        if self.fuse is None:
            y = self.pyramid(y)
        else:
            maps = self.fuse([branch(y) for branch in self.pyramid.branches])
            if len({one.shape[1] for one in maps[1:]}) > 1 and not self.rest_last:
                raise ValueError("branches of other widths, which nobody can add")
            y = torch.cat(maps, dim=1)
        if not self.has_shortcut:
            return self.norm(y)
        if self.shortcut == "between":
            return self.norm.act(self.norm.bn(y) + x)
        return self.norm(y) + x if self.shortcut == "late" else self.norm(y + x)


def _walk(maps: list[Tensor], steps: Iterable[int], back: int = 1,
          join: Callable[[Tensor, Tensor], Tensor] = operator.add) -> list[Tensor]:
    """Each map of `steps` is joined with the one `back` before it, in this order."""
    maps = list(maps)
    for k in steps:
        maps[k] = join(maps[k], maps[k - back])
    return maps


def _from_the_first(maps: list[Tensor]) -> list[Tensor]:
    if maps[0].shape != maps[1].shape:
        raise ValueError("branches of other widths, which nobody can add")
    return _walk(maps, range(1, 5))


ESP_MISTAKES = {words: partial(_Mistaken, **mistake) for words, mistake in {
    "the maps are only concatenated: the fusion is missing": {"fuse": lambda maps: maps},
    "the branch of rate 1 is fused too; in ESPNet the fusion starts at rate 2": {"fuse": _from_the_first},
    "the fusion starts at rate 4, one branch too late: rate 2 belongs to it": {"fuse": lambda m: _walk(m, (3, 4))},
    "the last branch, of rate 16, takes no part in the fusion": {"fuse": lambda maps: _walk(maps, (2, 3))},
    "the last branch, of rate 16, takes no part in the fusion, and it has the channels that are left over; these "
    "belong to the branch of rate 1": {"fuse": lambda maps: _walk(maps, (2, 3)), "rest_last": True},
    "the fusion adds to each map the one before it only; it must add the sum so far":
        {"fuse": lambda maps: _walk(maps, (4, 3, 2))},
    "the fusion goes from large rates to small ones; each map must be added to that of the next larger rate":
        {"fuse": lambda maps: _walk(maps, (3, 2, 1), back=-1)},
    "every branch from rate 2 on gets the sum of all; in the fusion each gets the sum up to itself":
        {"fuse": lambda maps: [maps[0], *[sum(maps[1:])] * 4]},
    "only the last branch gets the sum; in the fusion each, from rate 4 on, gets the sum up to itself":
        {"fuse": lambda maps: [*maps[:4], sum(maps[1:])]},
    "the maps are multiplied; fusion adds them": {"fuse": lambda maps: _walk(maps, (2, 3, 4), join=operator.mul)},
    "the input is added after BatchNorm and PReLU; add it before them": {"shortcut": "late"},
    "the input is added between BatchNorm and PReLU; add it before both": {"shortcut": "between"},
    "the reduction is a 3x3 at stride 1; there it is 1x1": {"kernel": 3},
    "the reduction is a 1x1 at stride 2, which throws three of four pixels away; there it is 3x3": {"kernel": 1},
    "PReLU has one slope for all channels; it needs one for each channel": {"slopes": 1},
}.items()}


@exercise("07.2", title="Mean IoU", minutes=10, difficulty="easy", expects=a_function)
def mean_iou(answer: Callable[[Tensor], Tensor]) -> None:
    """`answer(confusion)`: mean IoU of a confusion matrix (true class, predicted class), as a tensor without axes."""
    full = torch.randint(1, 60, (5, 5))
    absent = torch.randint(1, 60, (4, 4))
    absent[2], absent[:, 2] = 0, 0
    missed = torch.randint(1, 60, (3, 3))
    missed[:, 1] = 0  # class 1 occurs, and is never predicted: its IoU is 0
    invented = torch.randint(1, 60, (4, 4))
    invented[3] = 0  # class 3 is predicted, and never occurs: its IoU is 0
    every = torch.randint(1, 60, (6, 6))
    every[0], every[:, 0], every[2], every[:, 4] = 0, 0, 0, 0
    matrices = [(matrix,) for matrix in (full, absent, missed, invented, every)]

    def in_float(confusion: Tensor) -> Tensor:
        y = answer(confusion)
        if isinstance(y, Tensor) and y.ndim:
            fail(f"the output has shape {tuple(y.shape)}, not (): one number is asked for, the mean over the classes")
        if isinstance(y, Tensor) and y.isnan().any():
            fail("the result is nan: a class that neither occurs nor is predicted gives 0 / 0, and must not count")
        return y.float() if isinstance(y, Tensor) else y

    compare_functions(in_float, _averaged(_iou), matrices, IOU_MISTAKES)


def _averaged(ratio: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function of a confusion matrix that averages `ratio` of (diagonal, true, predicted) over classes, but nan."""
    def mean(confusion: Tensor) -> Tensor:
        return ratio(confusion.diagonal().double(), confusion.sum(1).double(), confusion.sum(0).double()
                     ).nanmean().float()
    return mean


def _iou(both: Tensor, true: Tensor, predicted: Tensor) -> Tensor:
    return both / (true + predicted - both)


IOU_MISTAKES = {words: _averaged(ratio) for words, ratio in {
    "intersections and unions are summed over the classes first; take the ratio for each class, then the mean":
        lambda both, true, predicted: both.sum() / (true + predicted - both).sum(),
    "a class that occurs and is never predicted is left out, but it counts, with IoU 0":
        lambda both, true, predicted: _iou(both, true, predicted)[predicted > 0],
    "a class that does not occur, but is predicted, is left out; it counts, with IoU 0: those pixels are wrong":
        lambda both, true, predicted: _iou(both, true, predicted)[true > 0],
    "only classes that were found are averaged; a class that is never predicted, or is predicted but does not occur, "
    "is left out, but it counts, with IoU 0": lambda both, true, predicted: _iou(both, true, predicted)[both > 0],
    "this is the Dice score, twice the intersection by the sum of both; IoU divides by the union":
        lambda both, true, predicted: 2 * both / (true + predicted),
    "the union counts the pixels of the intersection twice": lambda both, true, predicted: both / (true + predicted),
    "the union counts no pixel of the intersection; it counts each once":
        lambda both, true, predicted: both / (true + predicted - 2 * both),
    "this is the share of each true class that was found (recall); pixels wrongly given to the class must count "
    "against it too": lambda both, true, predicted: both / true,
    "this is precision; pixels of the class that were missed must count against it too":
        lambda both, true, predicted: both / predicted,
    "this is the share of right pixels; IoU is taken for each class, then averaged":
        lambda both, true, predicted: both.sum() / true.sum(),
    "a class that neither occurs nor is predicted counts as 0; it must not count":
        lambda both, true, predicted: _iou(both, true, predicted).nan_to_num(0.0),
    "a class that neither occurs nor is predicted counts as 1; it must not count":
        lambda both, true, predicted: _iou(both, true, predicted).nan_to_num(1.0),
    "classes are weighted by their share of the pixels; each must count alike":
        lambda both, true, predicted: (_iou(both, true, predicted).nan_to_num() * true / true.sum()).sum(),
    "the sum over the classes is not divided by their number": lambda both, true, predicted:
        _iou(both, true, predicted).nansum(),
    "class 0 is left out; every class that occurs, or is predicted, counts": lambda both, true, predicted:
        _iou(both, true, predicted)[1:],
    "the last class is left out; every class that occurs, or is predicted, counts": lambda both, true, predicted:
        _iou(both, true, predicted)[:-1],
    "the union is made from sums over the predicted classes alone, taken twice; pixels that were wrongly given to a "
    "class belong to it too": lambda both, true, predicted: _iou(both, true, true),
    "the union is made from sums over the true classes alone, taken twice; pixels of a class that were missed belong "
    "to it too": lambda both, true, predicted: _iou(both, predicted, predicted),
    "this is the median over the classes, not their mean": lambda both, true, predicted:
        _iou(both, true, predicted).nanmedian(),
    "this is the median over the classes, between the middle two where their number is even; it is no mean":
        lambda both, true, predicted: _iou(both, true, predicted).nanquantile(0.5),
    "this is the error, 1 minus the mean IoU": lambda both, true, predicted: 1 - _iou(both, true, predicted),
    "these are per cent; give the mean IoU between 0 and 1": lambda both, true, predicted:
        100 * _iou(both, true, predicted),
}.items()}


ABLATIONS = ("ESPNet, fused", "ESPNet, not fused", "ESPNetv2, fused", "ESPNetv2, not fused")
FIELDS = {name: 2 * (V2_RATES if "v2" in name else DILATIONS)[-1] + 1 for name in ABLATIONS}  # side in pixels
PICTURE = 41  # side of what viz.pixel_response returns


@exercise("07.3", title="What fusion fills", minutes=15, difficulty="medium", expects=dict)
def fusion(answer: Mapping[str, float]) -> str:
    """`answer` maps the names in ABLATIONS to the share of its field that the last branch reaches."""
    refuse_missing_keys(answer, ABLATIONS)
    counts = dict(zip(ABLATIONS, (_reached(DILATIONS, 1), _reached(DILATIONS, 4), _reached(V2_RATES, 0),
                                  _reached(V2_RATES, 3)), strict=True))
    # In ESPNet without groups a channel of the response is one of the last branch's four; all four reach the same.
    right = {name: counts[name] / FIELDS[name]**2 for name in ABLATIONS}
    everything = {name: _reached(V2_RATES if "v2" in name else DILATIONS, 0) / FIELDS[name]**2 for name in ABLATIONS}
    v1_first = {"ESPNet, fused": everything["ESPNet, fused"]}
    v2_late = {"ESPNetv2, fused": _reached(V2_RATES, 1) / FIELDS["ESPNetv2, fused"]**2}
    turned = dict(zip(ABLATIONS, ("ESPNet, not fused", "ESPNet, fused", "ESPNetv2, not fused", "ESPNetv2, fused"),
                      strict=True))
    four = {name: 4 * share for name, share in right.items()}
    mistakes = {
        "these are numbers of pixels; the question is for shares of the field": counts,
        "these are per cent; give shares between 0 and 1": {name: 100 * share for name, share in right.items()},
        "these are shares of the picture of 41 x 41 pixels; divide by the square of the field's side":
            {name: count / PICTURE**2 for name, count in counts.items()},
        "the pixels are divided by the side of the field; the field is square, so divide by the side squared":
            {name: count / FIELDS[name] for name, count in counts.items()},
        "the pixels are divided by the square of the largest rate; the field's side is larger":
            {name: count / ((FIELDS[name] - 1) // 2) ** 2 for name, count in counts.items()},
        "these are shares that stay empty; the question is for those that are reached":
            {name: 1 - share for name, share in right.items()},
        "you counted four channels of the last branch; the question is for one channel": four,
        "you counted four channels of the last branch in ESPNet; the question is for one channel":
            right | {name: four[name] for name in ABLATIONS[:2]},
        "fuse_from is the wrong way round: in ESPNet the branch of rate 1 takes no part, in ESPNetv2 it does":
            right | v1_first | v2_late,
        "fusion makes no difference: did you add up all branches, or pass hierarchical to none of them?": everything,
        "fusion makes no difference: is hierarchical the same in both?":
            right | {name: right[name.replace("not fused", "fused")] for name in ABLATIONS},
        "fused and not fused are exchanged": {name: right[other] for name, other in turned.items()},
        "ESPNet and ESPNetv2 are exchanged": dict(zip(ABLATIONS, [right[name] for name in ABLATIONS[2:] +
                                                                  ABLATIONS[:2]], strict=True)),
    }
    each = {
        "ESPNet, fused": {"the branch of rate 1 is fused too; ESPNet has fuse_from=1": v1_first["ESPNet, fused"]},
        "ESPNetv2, fused": {"all branches are fused here, that of rate 1 too: fuse_from=0": v2_late["ESPNetv2, fused"]},
    }
    compare_numbers(answer, right, mistakes, tolerance=ROUNDED, each=each)
    v1, v2 = (right[f"{name}, fused"] / right[f"{name}, not fused"] for name in ("ESPNet", "ESPNetv2"))
    return (f"Fusion fills {v1:.2f} times as many places in ESPNet and {v2:.2f} times in ESPNetv2, which leaves "
            f"{1 - right['ESPNet, fused']:.0%} and {1 - right['ESPNetv2, fused']:.0%} of the field empty.")


def _reached(rates: tuple[int, ...], fuse_from: int) -> int:
    """Places that the last branch of a pyramid reads: of its own, and of the branches from `fuse_from` on."""
    return len({(rate * row, rate * column) for rate in rates[fuse_from:] for row in (-1, 0, 1)
                for column in (-1, 0, 1)})


@exercise("07.4", title="Streets for two budgets", minutes=25, difficulty="hard", expects=a_builder)
def two_budgets(answer: Callable[[], nn.Module]) -> Score:
    """`answer()` builds a network for (N, 3, 48, 96) and eight classes a pixel; mean IoU is its score."""
    network = build_network(answer).eval()
    _refuse_other_maps(network)
    macs = counted_macs(network, (3, *SIZE), MAX_MACS // 10)
    peak = profile(network, (3, *SIZE)).peak_activation_bytes
    refuse_over_budget([(macs, MAX_MACS, "MACs"), (peak, MAX_BYTES, "bytes of live activations at the peak")],
                       "large maps cost most in both")
    iou = sum(_trained_iou(answer, network, seed) for seed in SEEDS) / len(SEEDS)
    return banded(iou, LEAST_IOU, GOOD_IOU, f" mean IoU, with {macs:,} of {MAX_MACS:,} MACs and {peak:,} of "
                  f"{MAX_BYTES:,} bytes", "within both budgets, but it learned too little (mean IoU)",
                  "how far does it see, and has it a map that is fine enough for the edges?")


def _trained_iou(build: Callable[[], nn.Module], counted: nn.Module, seed: int) -> float:
    """Mean IoU on test images of a network whose weights are drawn by `seed`, trained on one thread of the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        network = build()
        refuse_other_network(network, counted, (3, *SIZE))
        network = drawn_anew(network)
        streets = load_data("scenes", train_images=72, test_images=30, image_size=SIZE)
        fit(network, streets, class_weights=enet_weights(streets), device="cpu", progress=False, seed=seed, **RECIPE)
        return evaluate(network, streets, device="cpu").mean_iou
    except TrainingDiverged as error:
        fail(f"training failed: {error}", "is there a BatchNorm behind every convolution?")
    finally:
        torch.set_num_threads(threads)


def _refuse_other_maps(network: nn.Module) -> None:
    images, expected = torch.randn(2, 3, *SIZE), (2, 8, *SIZE)
    logits = first_output(network, images)
    if not isinstance(logits, Tensor) or logits.shape != expected:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        small = isinstance(logits, Tensor) and logits.ndim == 4 and logits.shape[:2] == expected[:2]
        fail(f"two images of 3 x 48 x 96 must give logits of shape {expected}, got {got}"
             + (": enlarge them to the size of the image" if small else ""))
    refuse_probabilities(logits)
    refuse_squashed(network, images)
    refuse_mixed_batch(network, images)
