"""Checks of chapter 03: ShuffleNets."""
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lwcourse.checks import Score, exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    a_function,
    a_module_class,
    banded,
    compare_blocks,
    compare_functions,
    compare_modules,
    compare_numbers,
    compare_parts,
    counted_macs,
    counted_parameters,
    naming_mistakes,
    plain,
    refuse_missing_keys,
    refuse_over_budget,
    refuse_ready_made,
    refuse_standard_convolutions,
    ten_class_network,
    trained_accuracy,
    watch,
)
from lwcourse.data import load_data
from lwcourse.layers import ChannelShuffle, ConvBNAct
from lwcourse.models.shufflenet_v1 import ShuffleUnit as ShuffleUnitV1
from lwcourse.models.shufflenet_v2 import ShuffleNetV2, ShuffleUnit
from lwcourse.profile import profile
from lwcourse.viz import channel_connections


def a_builder_of_width(answer: object) -> bool:
    """a function of the width (its name, without brackets), or a class"""
    return a_builder(answer)


SHUFFLE_CASES = (  # channels, groups
    (12, 3), (12, 4), (15, 5), (16, 2), (6, 1), (6, 6))
UNIT_CASES = (     # (in_channels, out_channels, stride), input shape
    ((24, 24, 1), (2, 24, 7, 9)),
    ((16, 16, 1), (1, 16, 6, 5)),
    ((16, 40, 2), (2, 16, 9, 12)),
    ((24, 24, 2), (1, 24, 8, 6)),
)
V1_CASES = (       # (in_channels, out_channels, stride, groups), input shape
    ((24, 24, 1, 3), (2, 24, 7, 9)),
    ((16, 16, 1, 2), (1, 16, 6, 5)),
    ((16, 48, 2, 2), (2, 16, 9, 12)),
    ((24, 72, 2, 3), (1, 24, 8, 6)),
)
CHANNELS, GROUPS = 64, (2, 4, 8, 16, 32)


@exercise("03.1", title="Channel shuffle", minutes=5, difficulty="easy", expects=a_function)
def channel_shuffle(answer: Callable[[Tensor, int], Tensor]) -> str:
    """`answer(x, groups)` shuffles (N, channels, H, W) in the order of the paper's section 3.1."""
    cases = [(torch.randn(2, channels, 3, 4), groups) for channels, groups in SHUFFLE_CASES]
    compare_functions(answer, lambda x, groups: ChannelShuffle(groups)(x), cases, {
        "this is the order of the official code, which undoes the paper's: the table has a row for each group":
            lambda x, groups: ChannelShuffle(x.shape[1] // groups)(x),
        "nothing is shuffled: without a transpose, the second reshape only undoes the first": lambda x, groups: x,
        "the channels are reversed, not dealt out": lambda x, groups: x.flip(1),
        "channels are rolled by one place, not dealt out": lambda x, groups: x.roll(1, 1),
        "these are the channels of the groups in reverse order; transpose the table instead":
            lambda x, groups: x.unflatten(1, (groups, -1)).flip(1).flatten(1, 2),
        "images of the batch are mixed up with channels; keep the batch axis apart": _batch_in_the_table,
        "axes 2 and 3 are exchanged, a group's channels and the rows, so that maps are torn apart; exchange the groups "
        "and their channels": lambda x, groups: x.unflatten(1, (groups, -1)).transpose(2, 3).reshape(x.shape),
        "height and width are exchanged; no pixel moves in a channel shuffle":
            lambda x, groups: ChannelShuffle(groups)(x).transpose(2, 3).reshape(x.shape),
    }, gradients=True)
    x, groups = cases[0]
    with watch() as seen:
        answer(x, groups)
    refuse_ready_made(seen, ["ChannelShuffle"])
    if "channel_shuffle" in seen.functions or "pixel_shuffle" in seen.functions:
        fail("that is PyTorch's own shuffle, ready-made; the exercise is to write it yourself, with reshaping")
    if len({_steps(answer, torch.randn(1, channels, 2, 2), groups) for channels, groups in ((12, 3), (24, 3), (24, 12))
            }) > 1:
        fail("the order is right, but it is made by a loop (a comprehension is one, too): the more channels or groups, "
             "the more lines run. Reshaping does it at once")
    return f"The paper's order in {len(cases)} settings."


def _batch_in_the_table(x: Tensor, groups: int) -> Tensor:
    """The table swallowed the batch: transposed as (groups, rest)."""
    return x.reshape(groups, -1, *x.shape[2:]).transpose(0, 1).reshape(x.shape)


def _steps(function: Callable[..., Tensor], *arguments) -> int:
    """How many lines of a learner's own code run; a line that a comprehension runs again counts again."""
    libraries, tracer, count = (str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[1])), sys.gettrace(), 0

    def line(frame, event, _):
        nonlocal count
        count += 1
        return line

    sys.settrace(lambda frame, *_: None if frame.f_code.co_filename.startswith(libraries) else line(frame, *_))
    try:
        function(*arguments)
    finally:
        sys.settrace(tracer)
    return count


class _Unit(nn.Module):
    """A unit of ShuffleNet V2 with the mistakes that its options make."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, split: str = "halves", shuffle: int = 2,
                 other_way: bool = False, join: str = "", acts: str = "r-r r", filter_groups: bool = True,
                 stride_first: bool = False, shortcut: str = "", split_at_2: bool = False):
        super().__init__()
        half = out_channels // 2
        taken = half if stride == 1 and split != "none" else in_channels // 2 if split_at_2 else in_channels
        first, filtered, last, *_, projected = (nn.ReLU if act == "r" else None for act in acts)
        self.split, self.join, self.whole = split, join, stride == 2 and not split_at_2
        strides = (stride, 1) if stride_first else (1, stride)
        if shortcut == "1x1 first" and stride == 2:
            parts = [ConvBNAct(taken, half, 1), ConvBNAct(half, half, 3, stride, groups=half, act=None)]
        elif stride == 2 or shortcut == "always" or split == "none":
            parts = [ConvBNAct(taken, taken, 3, stride, groups=taken, act=None),
                     ConvBNAct(taken, half, 1, act=projected)]
            parts = parts[1:] if split == "none" and stride == 1 else parts
        else:
            parts = []
        self.shortcut = nn.Sequential(*parts)
        self.branch = nn.Sequential(
            ConvBNAct(taken, half, 1, strides[0], act=first),
            ConvBNAct(half, half, 3, strides[1], groups=half if filter_groups else 1, act=filtered),
            ConvBNAct(half, half, 1, act=last))
        self.shuffle = ChannelShuffle(half if other_way else shuffle if out_channels % shuffle == 0 else 1)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.whole or self.split == "none":
            return x, x
        if self.split == "every other":
            return x[:, ::2], x[:, 1::2]
        return x.chunk(2, dim=1)[::-1 if self.split == "reversed" else 1]

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = self.halves(x)
        kept, made = self.shortcut(kept), self.branch(taken)
        if self.join == "shuffle first":
            return torch.cat((self.shuffle(kept), self.shuffle(made)), dim=1)
        if self.join == "residual" and made.shape == taken.shape:
            made = made + taken
        if self.join == "sum":
            kept = kept + made
        parts = (made, kept) if "branch first" in self.join else (kept, made)
        y = torch.cat(parts, dim=1)
        return y if "no shuffle" in self.join else self.shuffle(y)


UNIT_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    "the shuffle is missing: the first half of the outputs is the first half of the inputs":
        partial(_Unit, join="no shuffle"),
    "the shuffle comes before the concatenation, so that the halves stay apart": partial(_Unit, join="shuffle first"),
    "the shuffle is in the other order, that of out_channels // 2 groups, which undoes the one with two groups":
        partial(_Unit, other_way=True),
    "the shuffle has 4 groups; there are two halves to mix, and so two groups": partial(_Unit, shuffle=4),
    "the halves are concatenated the wrong way round: what passes comes first": partial(_Unit, join="branch first"),
    "the shuffle is missing, and the halves are concatenated the wrong way round: what passes comes first":
        partial(_Unit, join="branch first, no shuffle"),
    "the second half of the channels passes and the first goes through the branch; it is the reverse":
        partial(_Unit, split="reversed"),
    "the split takes every other channel, as the released code does; at stride 1 the first half passes, and the second "
    "goes through the branch": partial(_Unit, split="every other"),
    "nothing is split at stride 1: every side reads all of the inputs": partial(_Unit, split="none"),
    "at stride 1 what passes goes through layers; it passes untouched there": partial(_Unit, shortcut="always"),
    "at stride 2 the input is split; there all channels go both ways": partial(_Unit, split_at_2=True),
    "the branch adds its input to what its layers give; the unit of V2 has no sum, it concatenates":
        partial(_Unit, join="residual"),
    "what passes is added to what the branch gives; it passes untouched": partial(_Unit, join="sum"),
    "the activation after the first 1x1 of the branch is missing": partial(_Unit, acts="--r r"),
    "there is an activation after the depthwise layer of the branch; that layer has none": partial(_Unit, acts="rrr r"),
    "the branch gives negative numbers: the activation after its last 1x1 is missing": partial(_Unit, acts="r-- r"),
    "no activation follows either 1x1 of the branch": partial(_Unit, acts="--- r"),
    "at stride 2 the activation after the 1x1 of the shortcut is missing": partial(_Unit, acts="r-r -"),
    "the shortcut begins with its 1x1; its depthwise layer, which has the stride, comes first":
        partial(_Unit, shortcut="1x1 first"),
    "the 3x3 of the branch has groups 1: it is not depthwise": partial(_Unit, filter_groups=False),
    "the stride of the branch is in its first 1x1, which throws three of four pixels away; the depthwise layer has it":
        partial(_Unit, stride_first=True),
}


@exercise("03.2", title="Unit of ShuffleNet V2", minutes=10, difficulty="medium", expects=a_module_class)
def shuffle_unit(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride)` builds the unit of Figure 3 c, d."""
    with naming_mistakes(answer, UNIT_MISTAKES, UNIT_CASES):
        compare_blocks(answer, ShuffleUnit, UNIT_CASES, macs=True, ready_made=("ShuffleUnit", "ReleasedShuffleUnit"),
                       shortcut="no sum is needed, since the halves are concatenated")
    return f"Equal to the course's unit in {len(UNIT_CASES)} settings, in eval and in training mode."


def layers_needed(channels: int, groups: int, most: int = 12) -> int | None:
    """How many 1x1 layers in `groups`, shuffled between, until each output reads every input; None beyond `most`."""
    for layers in range(1, most + 1):
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [ChannelShuffle(groups)] if i else []
            parts.append(nn.Conv2d(channels, channels, 1, groups=groups, bias=False))
        if channel_connections(nn.Sequential(*parts), channels, size=1).all():
            return layers
    return None


@exercise("03.3", title="How many layers connect everything", minutes=10, difficulty="medium", expects=dict)
def connected_after(answer: Mapping[int, int]) -> str:
    """`answer` maps the number of groups to the layers needed, for 64 channels and the shuffle between layers."""
    if any(isinstance(key, str) and key.strip() in map(str, GROUPS) for key in answer):
        fail("the keys must be the groups as numbers, such as 2, not texts, such as \"2\"")
    refuse_missing_keys(answer, GROUPS)
    label = {groups: f"{groups} groups" for groups in GROUPS}
    right = {label[groups]: layers_needed(CHANNELS, groups) for groups in GROUPS}
    for groups in GROUPS:
        if answer[groups] is None or plain(answer[groups]) == float("inf"):
            fail(f"with {groups} groups everything is connected after some layers: is the shuffle between the layers?")
    compare_numbers({label[groups]: answer[groups] for groups in GROUPS}, right, {
        "you counted the shuffles; the question is for layers, of which there is one more":
            {name: layers - 1 for name, layers in right.items()},
        "that is one layer more than needed": {name: layers + 1 for name, layers in right.items()},
        "you counted shuffles and layers together; the question is for layers":
            {name: 2 * layers - 1 for name, layers in right.items()},
        "two layers do only while a group has at least as many channels as there are groups":
            dict.fromkeys(right, 2),
        "these are the counts for a shuffle with two groups everywhere, which lets an output meet only twice as many "
        "inputs with each layer; the shuffle has as many groups as the layers":
            {label[groups]: groups.bit_length() for groups in GROUPS},
        "these are the channels of a group; how many layers until 64 inputs are met?":
            {label[groups]: CHANNELS // groups for groups in GROUPS},
    })
    return "A group of two channels takes six layers: two inputs met, then four, and so on to 64."


MAX_MACS, MAX_BILL, MAX_PARAMS, MACS_PER_BYTE = 60_000, 880_000, 2_500, 8
# The solution of the sheet with the seeds 0 to 9: 63.5, 67.3, 59.4, 60.6, 58.6, 58.1, 67.8, 66.5, 59.9 and 62.7 %.
LEAST, GOOD = 0.55, 0.62
RECIPE = {"epochs": 6, "lr": 0.1, "batch_size": 32}


@exercise("03.4", title="A network for MACs and traffic", minutes=25, difficulty="hard", expects=a_builder)
def macs_and_traffic(answer: Callable[[], nn.Module]) -> Score:
    """`answer()` builds a network for (N, 3, 16, 16) and ten classes; it is trained here, and accuracy is its score."""
    size = (3, 16, 16)
    network = ten_class_network(answer, size)
    macs, params = counted_macs(network, size), counted_parameters(network)
    bill = macs + MACS_PER_BYTE * profile(network, size).traffic_bytes
    refuse_over_budget([(macs, MAX_MACS, "MACs"), (params, MAX_PARAMS, "parameters"),
                        (bill, MAX_BILL, "on the bill of MACs and bytes moved")],
                       "BatchNorm, activations, sums, products and concatenations move bytes as well; which layers "
                       "take most?")
    accuracy = trained_accuracy(answer, network, load_data("photo_digits", image_size=16, copies=3), RECIPE,
                                hint="is there a BatchNorm after every convolution?")
    if accuracy >= LEAST:
        refuse_standard_convolutions(network, size, "depthwise or grouped filters")
    return banded(accuracy, LEAST, GOOD, f", with {macs:,} of {MAX_MACS:,} MACs, {params:,} of {MAX_PARAMS:,} "
                  f"parameters and a bill of {bill:,} of {MAX_BILL:,}", "within the budgets, but it learned too little")


IN, OUT, IN_GROUPS, SIDE = 240, 480, 4, 14
PREDICTED = ("macs", "weights", "inputs", "pairs", "two layers", "two layers and a shuffle")


@exercise("03.5", title="What a group sees", minutes=5, difficulty="easy", expects=dict)
def what_a_group_sees(answer: Mapping[str, float]) -> str:
    """`answer` maps each of PREDICTED to a number: a 1x1 layer of IN to OUT channels in IN_GROUPS groups, on a map of
    SIDE x SIDE pixels, and a second one of OUT to OUT channels."""
    refuse_missing_keys(answer, PREDICTED)
    layer, second = (nn.Conv2d(c, OUT, 1, groups=IN_GROUPS, bias=False) for c in (IN, OUT))
    macs, weights = profile(layer, (IN, SIDE, SIDE)).macs, layer.weight.numel()
    shares = [channel_connections(nn.Sequential(*layers), IN, size=1).double().mean().item()
              for layers in ((layer,), (layer, second), (layer, ChannelShuffle(IN_GROUPS), second))]
    right = dict(zip(PREDICTED, (macs, weights, layer.weight.shape[1], *shares), strict=True))
    compare_parts(answer, right, {
        "you count the MACs without groups; each output reads a quarter of the inputs": {"macs": IN_GROUPS * macs},
        "you divide the MACs by the groups twice; there are as many outputs as before": {"macs": macs / IN_GROUPS},
        "these are the MACs of one pixel; the map has more of them": {"macs": macs // SIDE**2},
        "these are millions of MACs; give the counts themselves": {"macs": macs / 1e6},
        "you count the weights without groups": {"weights": IN_GROUPS * weights},
        "these are the weights of one group": {"weights": weights // IN_GROUPS},
        "one output reads the inputs of its own group only": {"inputs": IN},
        "these are the outputs of a group; how many inputs has it?": {"inputs": OUT // IN_GROUPS},
        "this is the number of groups; how many channels has one?": {"inputs": IN_GROUPS},
        "these are percentages; give shares, from 0 to 1":
            {name: 100 * right[name] for name in ("pairs", "two layers", "two layers and a shuffle")},
        "these are pairs; give their share of all pairs": {"pairs": IN * OUT / IN_GROUPS},
        "without a shuffle a second layer connects no more: its groups are those of the first":
            {"two layers": 1.0},
        "shares are not multiplied: what a group of the second layer reads comes from one group of the first":
            {"two layers": right["pairs"] ** 2},
        "shares do not add up: what a group of the second layer reads comes from one group of the first":
            {"two layers": 2 * right["pairs"]},
        "with the shuffle a group of the second layer reads channels of every group of the first":
            {"two layers and a shuffle": right["pairs"]},
        "with the shuffle a group of the second layer reads channels of every group, and so sees every input":
            {"two layers and a shuffle": 2 * right["pairs"]},
    }, "draw four groups as four boxes, and follow one output back", tolerance=1e-6)
    return "Groups divide MACs, weights and what an output sees by four; the shuffle gives the sight back."


class _UnitV1(nn.Module):
    """A unit of ShuffleNet V1 with the errors that the sheet plants, and others."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, *, filter_act: bool = False,
                 shuffle: str = "between", act: str = "after the sum", rows: str = "official"):
        super().__init__()
        hidden, made = out_channels // 4, out_channels - (in_channels if stride == 2 else 0)
        self.reduce = ConvBNAct(in_channels, hidden, 1, groups=groups)
        self.filter = ConvBNAct(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU if filter_act else None)
        self.expand = ConvBNAct(hidden, made, 1, groups=groups, act=None)
        shuffled = made if shuffle == "last" else hidden
        self.shuffle = ChannelShuffle(groups if rows == "paper" else shuffled // groups)
        self.average = nn.AvgPool2d(3, 2, padding=1)
        self.stride, self.where, self.act = stride, shuffle, act

    def forward(self, x: Tensor) -> Tensor:
        y = self.filter(self.reduce(x))
        y = self.expand(self.shuffle(y) if self.where == "between" else y)
        y = self.shuffle(y) if self.where == "last" else y
        if self.stride == 2:
            return torch.cat([self.average(x), y if self.act == "none at stride 2" else torch.relu(y)], dim=1)
        if self.act == "none":
            return x + y
        return x + torch.relu(y) if self.act == "before the sum" else torch.relu(x + y)


_LEFT = {"there is an activation after the depthwise layer, which has none": {"filter_act": True},
         "the shuffle comes after the second grouped layer, where it connects nothing within the unit; it belongs "
         "between the two": {"shuffle": "last"},
         "at stride 1 the activation comes before the sum; it follows the sum": {"act": "before the sum"}}
V1_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    **{reason: partial(_UnitV1, **options) for reason, options in _LEFT.items()},
    **{f"two errors are left: {a}; and {b}": partial(_UnitV1, **_LEFT[a], **_LEFT[b])
       for a in _LEFT for b in _LEFT if a < b},
    "nothing is mended: all three errors are there": partial(
        _UnitV1, filter_act=True, shuffle="last", act="before the sum"),
    "the shuffle is gone; it belongs between the two grouped layers": partial(_UnitV1, shuffle="none"),
    "the shuffle has the paper's order; the unit of the sheet has that of the official code, a table with "
    "hidden // groups rows": partial(_UnitV1, rows="paper"),
    "at stride 1 no activation follows the sum": partial(_UnitV1, act="none"),
    "at stride 2 the activation of the branch is gone": partial(_UnitV1, act="none at stride 2"),
}


@exercise("03.6", title="Three errors in a unit", minutes=10, difficulty="medium", expects=a_module_class)
def three_errors(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride, groups)` is the sheet's unit of ShuffleNet V1, mended."""
    with naming_mistakes(answer, V1_MISTAKES, V1_CASES):
        compare_blocks(answer, ShuffleUnitV1, V1_CASES, macs=True, ready_made=("ShuffleUnit",),
                       shortcut="at stride 2 the averaged input is concatenated, not added")
    return f"Equal to the course's unit in {len(V1_CASES)} settings, in eval and in training mode."


WIDTHS = (0.5, 2.0)


@exercise("03.7", title="Assemble ShuffleNet V2", minutes=10, difficulty="medium", expects=a_builder_of_width)
def assemble(answer: Callable[[float], nn.Module]) -> str:
    """`answer(width)` builds ShuffleNet V2 of Table 5 for 1,000 classes."""
    built = {}
    for width in WIDTHS:
        with watch() as seen:
            built[width] = answer(width)
        if not isinstance(built[width], nn.Module):
            fail(f"your answer gives {type(built[width]).__name__} for width {width}, not an nn.Module")
        refuse_ready_made(seen, ["ShuffleNetV2"])
    sizes = {counted_parameters(network) for network in built.values()}
    if len(sizes) == 1:
        fail("`width` makes no difference to your network", "it chooses a column of the table")
    for width, network in built.items():
        compare_modules(network, ShuffleNetV2(1000, width=width), (2, 3, 64, 64), f"at width {width}: ",
                        "compare your rows with the table, one by one", macs=True)
    return "Equal to the course's networks of width " + " and ".join(map(str, WIDTHS)) + "."
