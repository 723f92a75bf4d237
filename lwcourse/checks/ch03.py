"""Checks of chapter 03: ShuffleNets."""
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    a_module_class,
    compare_blocks,
    compare_functions,
    compare_numbers,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.data import load_data
from lwcourse.layers import ChannelShuffle
from lwcourse.models.shufflenet_v2 import ShuffleUnit
from lwcourse.profile import profile
from lwcourse.viz import channel_connections

SHUFFLE_CASES = (  # channels, groups
    (12, 3), (12, 4), (15, 5), (16, 2), (6, 1), (6, 6))
UNIT_CASES = (     # (in_channels, out_channels, stride), input shape
    ((24, 24, 1), (2, 24, 7, 9)),
    ((16, 16, 1), (1, 16, 6, 5)),
    ((16, 40, 2), (2, 16, 9, 12)),
    ((24, 24, 2), (1, 24, 8, 6)),
)
CHANNELS, GROUPS = 64, (2, 4, 8, 16, 32)
MAX_MACS, MAX_BILL, MACS_PER_BYTE, LEAST_ACCURACY = 60_000, 880_000, 8, 0.85
RECIPE = {"epochs": 4, "lr": 0.1, "batch_size": 32}


@exercise("03.1", title="Channel shuffle", minutes=10, difficulty="easy", expects=a_function)
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
        "images of the batch are mixed up with channels; keep the batch axis apart": _batch_too,
    }, hint="reshape to (N, groups, channels / groups, H, W), swap axes 1 and 2, reshape back")
    return f"The paper's order in {len(cases)} settings."


def _batch_too(x: Tensor, groups: int) -> Tensor:
    """The table swallowed the batch: transposed as (groups, rest)."""
    n, channels, height, width = x.shape
    return x.reshape(groups, n * channels // groups, height, width).transpose(0, 1).reshape(x.shape)



@exercise("03.2", title="Unit of ShuffleNet V2", minutes=25, difficulty="medium", expects=a_module_class)
def shuffle_unit(answer: type[nn.Module]) -> str:
    """`answer(in_channels, out_channels, stride)` builds the unit of Figure 3 c, d."""
    _refuse_known_mistakes(answer)
    compare_blocks(answer, ShuffleUnit, UNIT_CASES)
    return f"Equal to the course's unit in {len(UNIT_CASES)} settings."


def _refuse_known_mistakes(build: type[nn.Module]) -> None:
    """By which inputs reach which outputs, whatever the layers are called."""
    unit = build(24, 24, 1)
    if not isinstance(unit, nn.Module):
        fail(f"{build.__name__}(24, 24, 1) gives {type(unit).__name__}, not an nn.Module")
    y = _output(unit, 24)
    if not isinstance(y, Tensor) or y.shape != (1, 24, 8, 8):
        return  # compare_blocks says it better
    passed = _passed_channels(unit)
    if not passed:
        if channel_connections(unit, 24, size=8).double().mean() > 0.6:
            fail("every output reads more than half of the inputs: nothing is split at stride 1",
                 "kept, taken = x.chunk(2, dim=1); only `taken` goes through the branch")
        fail("at stride 1 no input comes out as it went in; the first half of the channels passes untouched",
             "torch.cat((kept, branch), dim=1): no layer and no sum on `kept`")
    inputs, outputs = zip(*sorted(passed.items()), strict=True)
    if inputs == tuple(range(12, 24)):
        fail("the second half of the channels passes and the first goes through the branch; it is the reverse",
             "kept, taken = x.chunk(2, dim=1)")
    if inputs == tuple(range(0, 24, 2)):
        fail("the split takes every other channel; at stride 1 the first half passes and the second half works",
             "kept, taken = x.chunk(2, dim=1); the released code takes every other channel, and shuffles by it")
    if inputs == tuple(range(12)):
        if outputs == inputs:
            fail("the shuffle is missing: the first half of the outputs is the first half of the inputs",
                 "ChannelShuffle(2) comes last, after the concatenation")
        if outputs == tuple(range(12, 24)):
            fail("the shuffle is missing, and the halves are concatenated the wrong way round: what passes comes first",
                 "torch.cat((kept, branch), dim=1), then the shuffle")
        if set(outputs) == set(range(12)) or set(outputs) == set(range(12, 24)):
            fail("the shuffle comes before the concatenation, so the halves stay apart",
                 "first torch.cat, then the shuffle")
        if outputs == tuple(range(1, 24, 2)):
            fail("the halves are concatenated the wrong way round: what passes comes first",
                 "torch.cat((kept, branch), dim=1), then the shuffle")
    else:
        fail(f"the split is wrong: inputs {', '.join(map(str, inputs))} pass, but the first half should",
             "kept, taken = x.chunk(2, dim=1)")
    if _adds_its_input(build, outputs):
        fail("the branch adds its input to what its layers give; V2's unit has no sum: it concatenates",
             "torch.cat((kept, self.branch(taken)), dim=1)")
    if y[0, [i for i in range(24) if i not in outputs]].min() < 0:
        fail("the branch gives negative numbers: the activation after its last 1x1 is missing",
             "both 1x1 layers end in ReLU; only the depthwise one does not")
    wide = _output(build(16, 40, 2), 16)
    if isinstance(wide, Tensor) and wide.min() < 0:
        fail("at stride 2 some outputs are negative: the activation after the 1x1 of the shortcut is missing",
             "both sides end in a 1x1 with BatchNorm and ReLU")


def _adds_its_input(build: type[nn.Module], passed: tuple[int, ...]) -> bool:
    """Whether the branch gives more than 0 when every BatchNorm gives 0."""
    unit = build(24, 24, 1)
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    made = [i for i in range(24) if i not in passed]
    norms, convs = (sum(isinstance(one, kind) for one in unit.modules()) for kind in (nn.BatchNorm2d, nn.Conv2d))
    return norms == convs > 0 and bool(_output(unit, 24)[0, made].any())


def _output(unit: nn.Module, channels: int) -> Tensor:
    try:
        with torch.no_grad():
            return unit.eval()(torch.randn(1, channels, 8, 8))
    except RuntimeError as error:
        if "Sizes of tensors must match" not in str(error):
            raise
        fail("the two halves differ in height and width, so they cannot be concatenated: the padding of a 3x3, or a "
             "stride, is not right", "a 3x3 needs padding 1; at stride 2 shortcut and branch both have the stride")


def _passed_channels(unit: nn.Module) -> dict[int, int]:
    """Inputs that come out as they went in, and where."""
    x = torch.randn(1, 24, 8, 8)
    with torch.no_grad():
        y = unit.eval()(x.clone())
    same = [(i, j) for i in range(24) for j in range(24) if torch.equal(x[0, i], y[0, j])]
    return dict(same)


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


@exercise("03.3", title="How many layers connect everything", minutes=15, difficulty="medium", expects=dict)
def connected_after(answer: Mapping[int, int]) -> str:
    """`answer` maps the number of groups to the layers needed, for 64 channels and the shuffle between layers."""
    if set(answer) != set(GROUPS):
        fail(f"the keys must be the groups {', '.join(map(str, GROUPS))}; got {', '.join(map(repr, answer)) or 'none'}",
             "numbers, such as 2, not texts" if any(isinstance(key, str) for key in answer) else "")
    label = {groups: f"{groups} groups" for groups in GROUPS}
    right = {label[groups]: layers_needed(CHANNELS, groups) for groups in GROUPS}
    missing = [groups for groups in GROUPS if answer[groups] is None or answer[groups] == float("inf")]
    if missing:
        fail(f"with {missing[0]} groups everything is connected after some layers: is the shuffle between the layers?",
             "a layer, a shuffle, a layer, a shuffle, ..., a layer")
    compare_numbers({label[groups]: answer[groups] for groups in GROUPS}, right, {
        "you counted the shuffles; the question is for layers, of which there is one more":
            {name: layers - 1 for name, layers in right.items()},
        "that is one layer more than needed": {name: layers + 1 for name, layers in right.items()},
        "two layers do only while a group has at least as many channels as there are groups":
            dict.fromkeys(right, 2),
        "each layer multiplies the inputs that an output has met by the channels of a group, not by two":
            {label[groups]: groups.bit_length() for groups in GROUPS},
        "these are the channels of a group; how many layers until 64 inputs are met?":
            {label[groups]: CHANNELS // groups for groups in GROUPS},
    }, hint="build the stack with more and more layers, until viz.channel_connections(stack, 64).all()")
    return "A group of two channels takes six layers: two inputs met, then four, and so on to 64."


def bill_of(network: nn.Module) -> int:
    """MACs plus 8 for each byte that is read or written, for one image of 3 x 16 x 16."""
    cost = profile(network, (3, 16, 16))
    return cost.macs + MACS_PER_BYTE * cost.traffic_bytes


@exercise("03.4", title="A network for MACs and traffic", minutes=25, difficulty="hard", expects=a_function)
def macs_and_traffic(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds a network for (N, 3, 16, 16) and ten classes; it is trained here, and accuracy is its score."""
    network = ten_class_network(answer, (3, 16, 16))
    macs, bill = profile(network, (3, 16, 16)).macs, bill_of(network)
    if macs > MAX_MACS:
        fail(f"over budget: {macs:,} MACs, of {MAX_MACS:,} allowed",
             "which layers cost most? print(lw.profile(my_design(), (3, 16, 16)))")
    if bill > MAX_BILL:
        fail(f"over budget: the MACs fit, but MACs and traffic together come to {bill:,}, of {MAX_BILL:,} allowed: "
             "this network moves too many bytes",
             "fewer layers, fewer groups, smaller maps; BatchNorm, ReLU, a sum and a concatenation move bytes as well")
    accuracy = trained_accuracy(answer, load_data("digits", image_size=16), RECIPE,
                                hint="is there a BatchNorm behind every convolution?")
    if accuracy < LEAST_ACCURACY:
        fail(f"within both budgets, but it learned too little: {accuracy:.0%} of the test digits are right, "
             f"{LEAST_ACCURACY:.0%} are needed", "a network without walls between channels, and two strides at most")
    return f"Score {accuracy:.1%}, with {macs:,} of {MAX_MACS:,} MACs and a bill of {bill:,} of {MAX_BILL:,}."
