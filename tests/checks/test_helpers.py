"""lwcourse.checks.helpers: what all checks share refuses in its own words, and lets right answers of any style pass."""
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.checks import CheckFailed
from lwcourse.checks.helpers import (
    banded,
    build_network,
    compare_blocks,
    compare_functions,
    compare_numbers,
    compare_parts,
    counted_macs,
    counted_parameters,
    drawn_anew,
    naming_mistakes,
    plain,
    refuse_missing_keys,
    refuse_other_network,
    refuse_other_order,
    refuse_standard_convolutions,
    refuse_without_attention,
    shown,
    ten_class_network,
    trained_accuracy,
    usual_mistakes,
    watch,
)
from lwcourse.layers import ChannelShuffle, ConvBNAct, SqueezeExcitation
from lwcourse.train import evaluate

CASES = [((8,), (2, 8, 5, 7))]


class Block(nn.Module):
    """1x1, BatchNorm, ReLU, and a gate."""

    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.gate = nn.Conv2d(channels, channels, 1)

    def body(self, x):
        return F.relu(self.norm(self.conv(x)))

    def weigh(self, y):
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()

    def forward(self, x):
        return self.weigh(self.body(x))


class ByLinear(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.gate = nn.Linear(channels, channels)

    def weigh(self, y):
        return torch.einsum("nchw,nc->nchw", y, torch.sigmoid(self.gate(y.mean((-1, -2)))))


class Sliced(Block):
    """A part of an nn.Sequential is a new module with old layers."""

    def __init__(self, channels):
        super().__init__(channels)
        self.layers = nn.Sequential(self.conv, self.norm, nn.ReLU())
        del self.conv, self.norm

    def body(self, x):
        return F.relu(self.layers[:2](x))


class TransposedBeforeNorm(Block):
    """Of a map one pixel wide PyTorch's BatchNorm gives a wrong gradient here, which is no fault of the learner's."""

    def __init__(self, channels):
        super().__init__(channels)
        self.conv = nn.Linear(channels, channels, bias=False)

    def body(self, x):
        return F.relu(self.norm(self.conv(x.transpose(1, 3)).transpose(1, 3)))


class IntoEmpty(Block):
    def forward(self, x):
        y = torch.empty(x.shape)
        y[:, :3], y[:, 3:] = (made := super().forward(x))[:, :3], made[:, 3:]
        return y


class NoDropout(Block):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.0, self.training)


class Dropout(Block):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, self.training)


class Switch(Block):
    def forward(self, x):
        y = super().forward(x)
        return F.relu6(2 * y) if self.training else y


class Detached(Block):
    def weigh(self, y):
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid().detach()


class InputDetached(Block):
    def weigh(self, y):
        return y * self.gate(y.detach().mean((2, 3), keepdim=True)).sigmoid()


class Momentum(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels, momentum=0.9)


class Frozen(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.conv.requires_grad_(False)


class InHalves(Block):
    """Each half of the rows is normalised by itself."""

    def body(self, x):
        return torch.cat([F.relu(self.norm(self.conv(part))) for part in x.split(3, dim=2)], dim=2)


class InAList(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.gates = [self.gate]
        del self.gate

    def weigh(self, y):
        return y * self.gates[0](y.mean((2, 3), keepdim=True)).sigmoid()


class InADict(InAList):
    def __init__(self, channels):
        super().__init__(channels)
        self.gates = {0: self.gates[0]}


class MadeInForward(Block):
    def weigh(self, y):
        return y * nn.Conv2d(8, 8, 1)(y.mean((2, 3), keepdim=True)).sigmoid()


class Joined(Block):
    def forward(self, x):
        y = super().forward(x)
        return torch.cat([y[:, :4], y[:, 4:]])


class OverwritesInput(Block):
    def forward(self, x):
        y = super().forward(x)
        x.zero_()
        return y


class Double(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.gate.double()


class Hooked(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_forward_hook(lambda module, inputs, output: 2 * output)


class Watching(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.seen = []
        self.conv.register_forward_hook(lambda module, inputs, output: self.seen.append(output.shape))


class Unused(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.more = nn.Linear(2, 2)


@pytest.mark.parametrize("mine", [Block, ByLinear, IntoEmpty, NoDropout, Watching, Sliced])
def test_right_blocks_of_any_style_pass(mine):
    compare_blocks(mine, Block, CASES)


@pytest.mark.parametrize("mine, words", [
    (Dropout, "training mode: two runs on the same input differ. There is dropout"),
    (Switch, "training mode: its forward does something else"),
    (Detached, "training mode: no gradient reaches `gate.weight` and 1 more"),
    (InputDetached, "the gradient of the input does not"),
    (Frozen, "no gradient reaches `conv.weight`"),
    (Momentum, "training mode: BatchNorm momentum: 0.9 in your `norm`, 0.1 in the reference"),
    (InHalves, "`norm` is called 2 times, and in training each call normalises its own part alone"),
    (InAList, "`self.gates` is a plain Python list with 1 layers in it"),
    (InADict, "`self.gates` is a plain Python dict"),
    (MadeInForward, r"layers are made in forward \(Conv2d\)"),
    (Joined, r"torch.cat joins along dimension 0 \(the batch"),
    (OverwritesInput, "overwrites its input"),
    (Double, "`gate.weight` is float64, but images are float32"),
    (Hooked, "a forward hook changes what your module gives"),
    (Unused, "there are 158 parameters, not 152"),
])
def test_wrong_block_is_refused_with_its_reason(mine, words):
    with pytest.raises(CheckFailed, match=words):
        compare_blocks(mine, Block, CASES)


def test_right_block_whose_batchnorm_reads_a_transposed_column_passes():
    compare_blocks(TransposedBeforeNorm, Block, [((8,), (2, 8, 5, 1))])


class TwoSums(nn.Module):
    """Two convolutions; the second output is their sum, which calls the first again where `again`."""

    def __init__(self, channels, again=False, joined=torch.add):
        super().__init__()
        self.a, self.b = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(2))
        self.norm, self.again, self.joined = nn.BatchNorm2d(2 * channels), again, joined

    def forward(self, x):
        a = self.a(x)
        if self.again:
            return self.norm(torch.cat([a, self.b(x) + self.a(x)], 1))
        return self.norm(torch.cat([a, self.joined(a, self.b(x))], 1))


class JoinedTooEarly(nn.Module):
    """BatchNorm breaks on what is joined along the batch."""

    def __init__(self, channels):
        super().__init__()
        self.a, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(2 * channels)

    def forward(self, x):
        return self.norm(torch.cat([x, self.a(x)]))


def test_a_layer_that_runs_again_for_each_sum_is_no_difference():
    compare_blocks(lambda channels: TwoSums(channels, again=True), TwoSums, CASES)


def test_a_mistake_is_named_by_the_block_that_makes_it():
    mistakes = {"cannot be built": Impossible, "a difference": lambda channels: TwoSums(channels, joined=torch.sub),
                "a product": lambda channels: TwoSums(channels, joined=torch.mul)}
    def multiplies(channels):
        return TwoSums(channels, joined=torch.mul)

    with pytest.raises(CheckFailed, match="a product"), naming_mistakes(multiplies, mistakes, CASES):
        compare_blocks(multiplies, TwoSums, CASES)


def Impossible(channels):
    raise ValueError


def test_a_wrong_join_is_named_whatever_breaks_after_it():
    with pytest.raises(CheckFailed, match=r"dimension 0 \(the batch"):
        compare_blocks(JoinedTooEarly, TwoSums, CASES)


def test_training_leaves_the_learners_module_and_torch_as_they_were():
    mine = Block(8)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    compare_blocks(lambda channels: mine, Block, CASES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.state_dict().items())
    assert mine.training and all(parameter.grad is None for parameter in mine.parameters())
    assert torch.get_default_dtype() is torch.float32


def test_parts_of_the_course_that_the_sheet_forbids():
    class Inherits(SqueezeExcitation):
        pass

    def compare(mine):
        compare_blocks(mine, SqueezeExcitation, [((8, 4), (2, 8, 5, 7))], ready_made=["SqueezeExcitation"])

    for mine in (SqueezeExcitation, Inherits, lambda *sizes: nn.Sequential(SqueezeExcitation(*sizes))):
        with pytest.raises(CheckFailed, match="that uses the course's `SqueezeExcitation`"):
            compare(mine)


def test_parts_of_other_libraries_that_the_sheet_forbids():
    from torchvision.ops import SqueezeExcitation as Theirs

    class Own(nn.Module):
        def __init__(self, *sizes):
            super().__init__()
            self.gate = Theirs(*sizes)

        def forward(self, x):
            return self.gate(x)

    compare_blocks(Own, SqueezeExcitation, [((8, 4), (2, 8, 5, 7))])
    with pytest.raises(CheckFailed, match="that uses torchvision's `SqueezeExcitation`"):
        compare_blocks(Own, SqueezeExcitation, [((8, 4), (2, 8, 5, 7))], ready_made=["SqueezeExcitation"])


class Added(Block):
    def weigh(self, y):
        return y + self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


class AddedByLinear(ByLinear):
    def weigh(self, y):
        return y + torch.sigmoid(self.gate(y.mean((-1, -2))))[:, :, None, None]


def test_mistake_in_a_block_is_named():
    def compare(mine):
        with naming_mistakes(mine, {"the gate is added": Added}, CASES):
            compare_blocks(mine, Block, CASES)

    compare(ByLinear)
    for mine in (Added, AddedByLinear):
        with pytest.raises(CheckFailed, match="^the gate is added$"):
            compare(mine)
    with pytest.raises(CheckFailed, match="`self.gates` is a plain Python list"):
        compare(InAList)


def test_watch_sees_modules_functions_and_operators_and_leaves_no_trace():
    construct = nn.Module.__init__
    with watch() as seen:
        y = ChannelShuffle(2)(torch.zeros(1, 4, 2, 2))
        torch.cat([y, y], dim=-1)
    assert [type(module) for module in seen.made] == [ChannelShuffle] and seen.layers_made == []
    assert any(name.startswith("ChannelShuffle.") for name in seen.course)
    assert seen.joined == [3] and "cat" in seen.functions and "cat" in seen.operators
    assert nn.Module.__init__ is construct
    with pytest.raises(ZeroDivisionError), watch():
        raise ZeroDivisionError
    assert nn.Module.__init__ is construct


def test_functions_must_pass_gradients_where_asked():
    x = torch.randn(2, 4, 3)
    compare_functions(lambda x: x.tanh(), torch.tanh, [(x,)], gradients=True)
    compare_functions(lambda x: x.detach().tanh(), torch.tanh, [(x,)])
    with pytest.raises(CheckFailed, match="no gradient"):
        compare_functions(lambda x: x.detach().tanh(), torch.tanh, [(x,)], gradients=True)


@pytest.mark.parametrize("two", [2, 2.0, torch.tensor(2), torch.tensor([2.0]), np.float32(2), np.array(2)])
def test_numbers_of_any_library_count(two):
    assert plain(two) == 2
    compare_numbers({"a": two, "more": 7}, {"a": 2})


RIGHT = {"a": 1_000_000, "b": 3_000_000}


@pytest.mark.parametrize("mine, words", [
    ({"a": 2e6, "b": 6e6}, "multiply and an add as two"), ({"a": 1.0, "b": 3.0}, "millions of MACs"),
    ({"a": 1, "b": 3.02}, "millions"), ({"a": 0.25, "b": 0.75}, "shares of the whole"),
    ({"a": 3e6, "b": 1e6}, "a and b are exchanged"),
    ({"a": nn.Linear(2, 2), "b": 3e6}, "a: got a network of type Linear, not a number"),
    ({"a": lw.profile(nn.Linear(2, 2), (2,)), "b": 3e6}, "a: this is a whole profile, not a number: read .macs"),
    ({"a": np.zeros((3, 3)), "b": 3e6}, r"a: got an array of shape \(3, 3\), not a number"),
])
def test_usual_mistakes_with_numbers(mine, words):
    with pytest.raises(CheckFailed, match=words) as refused:
        compare_numbers(mine, RIGHT, usual_mistakes(RIGHT))
    assert "\n" not in refused.value.reason and len(refused.value.reason) < 200


@pytest.mark.parametrize("mine, words, share", [
    ({"a": 1, "b": 2, "c": 4, "d": "four"}, "d: got 'four', not a number", 0.75),
    ({"a": 1, "b": 2, "c": 8, "d": 8}, "doubled", 0.75), ({"a": 1, "b": 4, "c": 2, "d": 8}, "exchanged", 0.5),
    ({"a": 7, "b": 2, "c": 4, "d": 8}, "a: 7 is too large", 0.75), ({"a": 0, "b": 2, "c": 8, "d": 9}, "nothing", 0.25),
    ({"a": 1, "b": 2, "c": 8, "d": 9}, "doubled", 0.5), ({"a": 9, "b": 2, "c": 8, "d": 9}, "a: 9 is", 0.25),
])
def test_right_parts_of_an_answer_earn_their_share(mine, words, share):
    right = {"a": 1, "b": 2, "c": 4, "d": 8}
    compare_parts(right, right)
    with pytest.raises(CheckFailed, match=words) as refused:
        compare_parts(mine, right, {"doubled": {"c": 8}, "nothing": {"a": 0}})
    assert refused.value.share == share


def test_right_numbers_earn_their_share():
    for mine, share in (({"a": 1_000_000, "b": 7}, 0.5), ({"a": 1.0, "b": 3.0}, 0), ({"a": 3e6, "b": 1e6}, 0)):
        with pytest.raises(CheckFailed) as refused:
            compare_numbers(mine, RIGHT, usual_mistakes(RIGHT))
        assert refused.value.share == share


def test_parts_that_are_right_keep_their_share():
    each = {"b": {"that is a guess": 7}}
    with pytest.raises(CheckFailed, match="b: that is a guess") as refused:
        compare_numbers({"a": 1e6, "b": 7}, RIGHT, each=each)
    assert refused.value.share == 0.5
    with pytest.raises(CheckFailed, match="b: 8 is too small"):
        compare_numbers({"a": 1e6, "b": 8}, RIGHT, each=each)


def test_missing_keys_are_named_and_others_do_no_harm():
    refuse_missing_keys({1: 2, 2: 3, "more": 4}, (1, 2))
    with pytest.raises(CheckFailed, match="there is no 2, only 1"):
        refuse_missing_keys({1: 2}, (1, 2))


def test_half_precision_and_decimals_are_read_as_they_are():
    x = torch.randn(40)
    for kind in (torch.float16, torch.bfloat16):
        compare_functions(lambda x, kind=kind: (x.square() / 3).to(kind), lambda x: x.square() / 3, [(x,)])
        with pytest.raises(CheckFailed, match="values are wrong"):
            compare_functions(lambda x, kind=kind: (x.square() / 2.7).to(kind), lambda x: x.square() / 3, [(x,)])
    compare_numbers({"a": Decimal(7)}, {"a": 7})


def test_a_random_function_is_told_and_nan_is_not_taken_for_chance():
    with pytest.raises(CheckFailed, match="another result each time"):
        compare_functions(lambda x: F.dropout(x, 0.5), lambda x: 2 * x, [(torch.randn(40),)])
    with pytest.raises(CheckFailed, match="values are wrong"):
        compare_functions(lambda x: x / 0 * 0, lambda x: 2 * x, [(torch.randn(40),)])


def test_values_are_shown_on_a_line():
    for value in (nn.Sequential(*[nn.Linear(2, 2)] * 50), list(range(1000)), torch.zeros(9, 9), "x" * 500, shown):
        assert len(shown(value)) <= 80 and "\n" not in shown(value)


def test_arguments_in_another_order():
    refuse_other_order(lambda a, b, c=1: None, ("a", "b"))
    refuse_other_order(lambda x, y: None, ("a", "b"))
    with pytest.raises(CheckFailed, match=r"calls it with \(a, b\), in this order, and yours takes \(b, a\)"):
        refuse_other_order(lambda b, a: None, ("a", "b"))


# Networks that are trained

def small():
    return nn.Sequential(ConvBNAct(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


NETWORK = small()


class AcrossImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.attention, self.head = ConvBNAct(3, 8, 3, 2), nn.MultiheadAttention(8, 2), nn.Linear(8, 10)

    def forward(self, x):
        tokens = self.body(x).flatten(2).transpose(1, 2)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


def trained():
    network = small()
    lw.fit(network, lw.load_data("digits"), epochs=1, device="cpu", progress=False)
    return network


def tried_out():
    network = small()
    network(torch.zeros(2, 3, 16, 16))
    return network


class MinusTheMean(nn.Sequential):
    """Deep enough for its outputs to be nearly equal before training."""

    def __init__(self):
        super().__init__(*[ConvBNAct(3, 3, 3) for _ in range(6)], *small())

    def forward(self, x):
        return super().forward(x - x.mean(0))


class Faint(nn.Module):
    """Nearly the same for every image."""

    def forward(self, x):
        return 1 + 1e-3 * x


class NotANumber(nn.Sequential):
    def __init__(self):
        super().__init__(*small())

    def forward(self, x):
        return super().forward(x).abs().neg().sqrt()


@pytest.mark.parametrize("build, words", [
    (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "`1.weight` belongs to a lazy layer"),
    (lambda: small().half(), "`0.conv.weight` is float16, but images are float32"),
    (MinusTheMean, "depends on the other images: something mixes the images of the batch"),
    (trained, "was trained already: its BatchNorm has seen 23 batches"),
    (lambda: NETWORK, "the same network"), (lambda: nn.Sequential(NETWORK[0], *small()[1:]), "or the same weights"),
    (lambda: torch.jit.script(small()), "returns a scripted network"), (NotANumber, "gives NaN or infinity"),
    (lambda: None, "is the return missing"), (lambda: nn.Sequential(*small(), nn.Softmax(1)), "ends in a softmax"),
    (lambda: small().half(), "`0.conv.weight` is float16, but images are float32"),
    (lambda: small()[:-1], r"must give logits of shape \(2, 10\), got shape \(2, 4\)"),
    (AcrossImages, "batch_first=True takes the first axis for the tokens"),
    (lambda: nn.Sequential(AcrossImages(), Faint()), "depends on the other images"),  # as before any training
])
def test_network_that_cannot_be_scored(build, words):
    with pytest.raises(CheckFailed, match=words):
        ten_class_network(build, (3, 16, 16))


LEARNED, MASK = torch.randn(10, 4), torch.eye(10, 4)


class Fixed(nn.Module):
    """A 1x1 stem, and a classifier whose weights `made(self)` gives."""

    def __init__(self, made, **buffers):
        super().__init__()
        self.stem, self.made = ConvBNAct(3, 4, 1), made
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer)

    def forward(self, x):
        return F.linear(self.stem(x).mean((2, 3)), self.made(self))


class Plain(Fixed):
    def __init__(self):
        super().__init__(lambda self: self.learned)
        self.learned = LEARNED.clone()


class InTraining(Fixed):
    def __init__(self):
        super().__init__(lambda self: LEARNED if self.training else torch.ones(10, 4))


@pytest.mark.parametrize("build", [
    lambda: Fixed(lambda self: LEARNED), lambda: Fixed(lambda self: torch.tensor(LEARNED.tolist())), Plain, InTraining,
    lambda: Fixed(lambda self: torch.from_numpy(LEARNED.numpy()) * 2)])
def test_weights_from_outside_are_refused(build):
    with pytest.raises(CheckFailed, match=r"a tensor of shape \(10, 4\) is used that is no part of your network"):
        ten_class_network(build, (3, 8, 8))


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(*small()[:-1], nn.utils.parametrizations.weight_norm(nn.Linear(4, 10)))


@pytest.mark.parametrize("build", [
    lambda: Fixed(lambda self: self.table, table=torch.randn(10, 4)),
    lambda: Fixed(lambda self: torch.linspace(0, 1, 40).view(10, 4).cos()),
    lambda: Fixed(lambda self: MASK),
    lambda: Fixed(lambda self: torch.tensor([0.5, 1]).repeat(20).view(10, 4)),
    lambda: Fixed(lambda self: self.stem.conv.weight.data.new_ones(10, 4)),
    Normed])
def test_fixed_numbers_of_its_own_are_welcome(build):
    ten_class_network(build, (3, 8, 8))


def test_a_table_in_a_buffer_is_drawn_anew_and_a_mask_stays():
    network = Fixed(lambda self: self.table, table=torch.randn(10, 4), mask=torch.eye(9))
    torch.manual_seed(1)
    fresh = drawn_anew(network)
    assert not torch.equal(fresh.table, network.table) and torch.equal(fresh.mask, network.mask)
    assert torch.equal(fresh.table.flatten().sort()[0], network.table.flatten().sort()[0])


@pytest.mark.parametrize("layer", [
    lambda: nn.Conv2d(4, 8, 3), lambda: nn.Conv2d(4, 8, (1, 3)), lambda: nn.ConvTranspose2d(4, 8, 2),
    lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 8, 3))])
def test_standard_convolutions_behind_the_stem(layer):
    with pytest.raises(CheckFailed, match="from 4 to 8 channels"):
        refuse_standard_convolutions(nn.Sequential(nn.Conv2d(3, 4, 3), layer()), (3, 8, 8), "filters")


def test_convolutions_that_are_not_standard():
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=2)]
    refuse_standard_convolutions(nn.Sequential(*layers), (3, 12, 12), "filters")


def test_class_and_function_build_a_network():
    class Small(nn.Sequential):
        def __init__(self):
            super().__init__(*small())

    assert isinstance(build_network(Small), Small)
    ten_class_network(small, (3, 16, 16))
    ten_class_network(tried_out, (3, 16, 16))


def test_weights_written_out_cost_as_much():
    class Shifts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))
            self.register_buffer("more", torch.randn(5))

        def forward(self, x):
            return sum(one.view(-1, 1, 1) * x for one in self.weight.unbind(1))

    assert counted_macs(Shifts(), (3, 8, 8)) == counted_macs(Shifts(), (3, 8, 8), 767) == 4 * 3 * 8 * 8
    assert counted_macs(Shifts(), (3, 8, 8), 768) == 0
    assert counted_parameters(Shifts()) == 17
    assert counted_macs(small(), (3, 8, 8)) == lw.profile(small(), (3, 8, 8)).macs
    assert counted_parameters(small()) == lw.profile(small(), (3, 8, 8)).params


def test_what_was_learned_is_lost_in_a_network_drawn_anew():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.one, self.fc = nn.Parameter(torch.randn(1, 192)), nn.Parameter(torch.ones(10)), \
                nn.Linear(192, 10)

        def forward(self, x):
            return self.one * self.fc(x.flatten(1) + self.table)

    data = lw.load_data("digits", image_size=8)
    network = Own()
    lw.fit(network, data, epochs=3, lr=0.05, batch_size=64, device="cpu", progress=False)
    assert evaluate(network, data, device="cpu").accuracy > 0.8
    fresh = drawn_anew(network)
    assert evaluate(fresh, data, device="cpu").accuracy < 0.35
    assert fresh.table.sort().values.equal(network.table.sort().values) and not fresh.table.equal(network.table)
    assert evaluate(network, data, device="cpu").accuracy > 0.8


class Twice(nn.Module):
    """The same layers as the network that runs them once."""

    def __init__(self, times):
        super().__init__()
        self.times, self.stem, self.block, self.head = times, ConvBNAct(3, 4, 3), ConvBNAct(4, 4, 1), nn.Linear(4, 10)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(self.times):
            x = self.block(x)
        return self.head(x.mean((2, 3)))


def of_kernel(*kernel):
    return nn.Sequential(ConvBNAct(3, 4, 3), nn.Conv2d(4, 4, kernel, padding="same"), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(4, 10))


@pytest.mark.parametrize("counted, later, words", [
    (small, lambda: nn.Sequential(ConvBNAct(3, 12, 3, stride=2), *small()[1:-1], nn.Linear(12, 10)),
     "one with 166 parameters to be counted, and one with 478 to be trained"),
    (lambda: Twice(1), lambda: Twice(2), "one with [0-9,]+ MACs to be counted, and one with [0-9,]+ to be trained"),
    (lambda: of_kernel(1, 3), lambda: of_kernel(3, 1), "parameters have other shapes"),
])
def test_network_that_is_trained_is_the_one_that_is_counted(counted, later, words):
    data = lw.load_data("digits", image_size=8)
    with pytest.raises(CheckFailed, match="builds another network each time it is called: .*" + words):
        trained_accuracy(later, counted(), data, {"epochs": 1})


def test_comparing_with_what_was_counted_changes_no_score():
    def build():
        return nn.Sequential(ConvBNAct(3, 4, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    torch.manual_seed(5)
    network = build()
    before, state = [parameter.clone() for parameter in network.parameters()], torch.get_rng_state()
    counted = build().eval()
    torch.set_rng_state(state)
    refuse_other_network(network, counted, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state) and network.training
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    assert all(int(buffer) == 0 for name, buffer in network.named_buffers() if name.endswith("tracked"))


def test_score_in_bands():
    assert banded(0.7, 0.5, 0.6, "", "too little").share == 1
    assert banded(0.55, 0.5, 0.6, "", "too little").share == 0.75
    with pytest.raises(CheckFailed, match="too little: 45.0%, 50% are needed"):
        banded(0.45, 0.5, 0.6, "", "too little")


class Attends(nn.Module):
    """Patches, what `mix` makes of them, and a classifier of their mean."""

    def __init__(self, mix):
        super().__init__()
        self.mix, self.patches, self.head = mix, nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 10)
        self.multihead = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.scale, self.dropout, self.memory = nn.Parameter(torch.zeros(8)), nn.Dropout(0.2), nn.Parameter(
            torch.randn(6, 8))

    def forward(self, x):
        return self.head(self.mix(self, self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def softmaxed(module, t):
    return module.dropout((t @ t.transpose(1, 2)).softmax(-1))


def exponentials(t):
    e = (t @ t.transpose(1, 2) / 8).exp()
    return e / e.sum(-1, keepdim=True)


@pytest.mark.parametrize("mix", [
    lambda m, t: F.scaled_dot_product_attention(t, t, t), lambda m, t: m.multihead(t, t, t)[0],
    lambda m, t: m.layer(t), lambda m, t: softmaxed(m, t) @ t, lambda m, t: t + m.scale * (softmaxed(m, t) @ t),
    lambda m, t: torch.einsum("nqk,nkc->nqc", exponentials(t), t), lambda m, t: torch.bmm(exponentials(t), t),
    lambda m, t: t * (t.mean(2, keepdim=True).softmax(1) * t).sum(1, keepdim=True),
    lambda m, t: t.softmax(-1) @ (t.softmax(1).transpose(1, 2) @ t),
    lambda m, t: m.multihead(m.memory.expand(len(t), -1, -1), t, t)[0],
])
def test_attention_in_any_words(mix):
    refuse_without_attention(Attends(mix), (3, 16, 16))


@pytest.mark.parametrize("mix, words", [
    (lambda m, t: t, "there is no attention in it: .* MultiheadAttention is built but never used"),
    (lambda m, t: t * t.mean(1, keepdim=True).softmax(-1), "there is no attention"),
    (lambda m, t: (t * t.mean(1, keepdim=True).softmax(-1)).sum(1, keepdim=True), "there is no attention"),
    (lambda m, t: torch.einsum("ntc,nc->ntc", t, t.mean(1).softmax(-1)), "there is no attention"),
    (lambda m, t: (t @ t.transpose(1, 2)).sigmoid() @ t, "there is no attention"),
    (lambda m, t: t if m.training else softmaxed(m, t) @ t, "there is no attention in it in training mode"),
    (lambda m, t: F.scaled_dot_product_attention(t, t[:, :3], t[:, :3]), "sees 3 tokens, where 4"),
    (lambda m, t: m.multihead(t, *[t.mean(1, keepdim=True).expand_as(t)] * 2)[0], "sees 1 different key, where 4"),
    (lambda m, t: (softmaxed(m, t) @ t, t)[1], "makes no difference"),
    (lambda m, t: t + 0 * m.multihead(t, t, t)[0], "makes no difference"),
    (lambda m, t: t + F.scaled_dot_product_attention(m.memory, m.memory, m.memory).mean(0),
     "does not depend on the image"),
])
def test_what_is_no_attention(mix, words):
    with pytest.raises(CheckFailed, match=words):
        refuse_without_attention(Attends(mix), (3, 16, 16))


# Points

TAMPERED = """
import lwcourse as lw
lw.check = print
lw.checks.fail = lambda *words, **more: None
lw.checks.judge = lambda *answer: 1
from importlib import import_module, reload

lw.check = reload(import_module("lwcourse.checks.grading")).fresh_check(points=3)
print(lw.check("00.1", lambda i, o, k, h, w, groups=1: i // groups * o * k * k * h * w))
lw.check("00.1", lambda i, o, k, h, w, groups=1: 1)
"""


def test_points_are_given_by_a_check_that_the_submission_has_not_touched():
    ran = subprocess.run([sys.executable, "-c", TAMPERED], capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("00.1 correct: ") and ran.stdout.endswith("\n3.0\n")
    assert ran.returncode == 1 and "CheckFailed: 00.1 not yet" in ran.stderr
