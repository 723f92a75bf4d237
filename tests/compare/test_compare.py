"""lwcourse.compare: every usual mistake is named where it was made."""
import copy
import importlib

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from sample_networks import Tiny, channel_shuffle, images
from torch import nn

from lwcourse import compare, create_model, transfer_weights
from lwcourse.compare.between import Parting, cause
from lwcourse.compare.formula import Value
from lwcourse.models.mobilenet_v2 import InvertedResidual

inception = importlib.import_module("torchvision.models.googlenet")
basic = torchvision.models.resnet.BasicBlock
unit = torchvision.models.shufflenetv2.InvertedResidual


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sentence(mine, reference, *shape):
    result = compare(mine, reference, images(*shape))
    assert not result.equal
    return result.first_difference


STEM = "Layer 1 of 15, your `conv1` (reference: `conv1`): "
BEFORE_2 = "Before layer 3 of 15, your `conv2` (reference: `conv2`): "
LAYER_2 = "ayer 3 of 15, your `conv2` (reference: `conv2`): "
BEFORE_A = "Before layer 5 of 15, your `a.0` (reference: `a.0`): "
DEPTHWISE = "ayer 9 of 15, your `depthwise` (reference: `depthwise`): "
BEFORE_DOWN = "Before layer 11 of 15, your `down` (reference: `down`): "
BEFORE_PROJECT = "Before layer 13 of 15, your `project` (reference: `project`): "
FC = "ayer 15 of 15, your `fc` (reference: `fc`): "
END = "Between layer 15 of 15, your `fc`, and the output: "
POOL = "max pooling (3x3, stride 2, padding 1)"
ON_NORM1 = f" on the output of `norm1`, before {POOL}, but the reference has ReLU6 there"
FEWER = "In all, your network has 14 layers with weights, the reference 15."

MISTAKES = {  # name: (options of the wrong network, the sentence)
    "kernel size": (
        dict(stem=dict(kernel_size=5, padding=2)),
        STEM + "kernel size 5x5 and padding 2, but the reference has kernel size 3x3 and padding 1."),
    "stride": (
        dict(stem=dict(stride=1)),
        STEM + "stride 1, but the reference has stride 2. Output (2, 16, 40, 32) against (2, 16, 20, 16)."),
    "padding": (
        dict(stem=dict(padding=0)),
        STEM + "padding 0, but the reference has padding 1. Output (2, 16, 19, 15) against (2, 16, 20, 16)."),
    "padding mode": (
        dict(stem=dict(padding_mode="reflect")),
        STEM + "padding mode reflect, but the reference has padding mode zeros."),
    "dilation": (
        dict(stem=dict(dilation=2, padding=2)),
        STEM + "padding 2 and dilation 2, but the reference has padding 1 and dilation 1."),
    "extra bias": (
        dict(stem=dict(bias=True)),
        STEM + "a bias, but the reference has no bias."),
    "groups": (
        dict(depthwise=dict(groups=1)),
        "L" + DEPTHWISE + "groups 1, but the reference has groups 32."),
    "eps": (
        dict(eps=1e-3),
        "Layer 2 of 15, your `norm1` (reference: `norm1`): eps 0.001, but the reference has eps 1e-05."),
    "BatchNorm missing": (
        dict(norm2=False),
        "After l" + LAYER_2 + "the reference has `norm2` (BatchNorm2d, 16) here, which is missing in your network. "
        + FEWER),
    "bias for BatchNorm": (
        dict(norm2=False, bias2=True),
        "L" + LAYER_2 + "a bias, but the reference has no bias. After it, the reference has `norm2` (BatchNorm2d, 16) "
        "here, which is missing in your network. " + FEWER),
    "number of classes": (
        dict(classes=7),
        "L" + FC + "output features 7, but the reference has output features 10: the number of classes differs. "
        "Output (2, 7) against (2, 10)."),
    "ReLU for ReLU6": (dict(act=F.relu), BEFORE_2 + "ReLU" + ON_NORM1 + "."),
    "SiLU for ReLU6": (dict(act=F.silu), BEFORE_2 + "SiLU" + ON_NORM1 + "."),
    "GELU for ReLU6": (dict(act=F.gelu), BEFORE_2 + "GELU" + ON_NORM1 + "."),
    "ELU for ReLU6": (dict(act=F.elu), BEFORE_2 + "ELU" + ON_NORM1 + "."),
    "Tanh for ReLU6": (dict(act=torch.tanh), BEFORE_2 + "Tanh" + ON_NORM1 + "."),
    "Hardswish for ReLU6": (dict(act=nn.Hardswish()), BEFORE_2 + "Hardswish" + ON_NORM1 + "."),
    "LeakyReLU for ReLU6": (dict(act=nn.LeakyReLU(0.1)), BEFORE_2 + "LeakyReLU(0.1)" + ON_NORM1 + "."),
    "activation missing": (
        dict(act=lambda x: x),
        BEFORE_2 + "no activation" + ON_NORM1 + ": the activation is missing."),
    "unknown activation": (
        dict(act=torch.sin),
        BEFORE_2 + "sin of the output of `norm1`, but the reference has ReLU6 there."),
    "average for max": (
        dict(pool=F.avg_pool2d),
        BEFORE_2 + "average pooling (3x3, stride 2, padding 1) of the output of `norm1`, "
        f"but the reference has {POOL} there."),
    "activation before the addition": (
        dict(relu="before"),
        BEFORE_A + "ReLU before the addition of the input of `conv2`, but in the reference after it."),
    "activation after the addition missing": (
        dict(relu="never"),
        BEFORE_A + "no activation after the addition, but the reference has ReLU there."),
    "shortcut missing": (
        dict(shortcut=False),
        BEFORE_A + "the shortcut is missing: the reference adds the input of `conv2` to the output of `norm2`."),
    "concatenated the other way": (
        dict(order="ba"),
        "Before l" + DEPTHWISE + "the branches are concatenated (or called) in another order: `b.1`, `a.1` in yours, "
        "but `a.1`, `b.1` in the reference."),
    "shuffle missing": (
        dict(groups=1),
        "Before l" + DEPTHWISE + "the channel shuffle is missing: the reference shuffles the channels with 4 groups."),
    "groups of the shuffle": (
        dict(groups=8),
        "Before l" + DEPTHWISE + "a channel shuffle with 8 groups, but the reference's has 4 groups (the transposed "
        "one: view and transpose in the other order)."),
    "squeeze before the activation": (
        dict(squeeze="before"),
        BEFORE_DOWN + "squeeze-and-excitation on the output of `norm3` stands before the Hardswish, "
        "but in the reference after it."),
    "gate function": (
        dict(gate=F.hardsigmoid),
        BEFORE_PROJECT + "the gate is Hardsigmoid of the output of `up`, "
        "but in the reference Sigmoid of the output of `up`."),
    "gate unused": (
        dict(squeeze="unused"),
        BEFORE_PROJECT + "the multiplication is missing: the reference has Hardswish of the output of `norm3` "
        "times Sigmoid of the output of `up`, yours is Hardswish of the output of `norm3`."),
    "scale": (
        dict(scale=0.5),
        "Before l" + FC + "a scale too many: your network takes the output of `norm4` times 0.5, the reference does "
        "not."),
    "global max for mean": (
        dict(head=lambda x: x.amax((2, 3))),
        "Before l" + FC + "global max pooling of the output of `norm4`, "
        "but the reference has global average pooling there."),
    "softmax at the end": (
        dict(end=lambda x: x.softmax(1)),
        END + "Softmax on the output of `fc`, but the reference has no activation there."),
    "other output shape": (
        dict(end=lambda x: x[:, :, None, None]),
        END + "(2, 10, 1, 1) here, but the reference has (2, 10); the reference's is the output of `fc`."),
    "two outputs": (
        dict(end=lambda x: (x, x)),
        "Your network returns output[0], output[1], but the reference returns one tensor."),
    "NaN": (
        dict(scale=float("nan")),
        "Before l" + FC + "your network has NaN here, the reference has none."),
    "dropout in eval mode": (
        dict(dropout=0.3, always_drop=True),
        "Your network is not deterministic: two runs on the same x differ at l" + FC[:-2] + ". Dropout with p=0.3 "
        "is active in eval mode, as F.dropout(x, p) is without training=self.training."),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_named_where_it_is(name):
    options, words = MISTAKES[name]
    assert sentence(Tiny(**options), Tiny(), 2, 3, 40, 32) == words


REVERSED = {  # the right network compared with a wrong reference: the words must turn around too
    "activation missing": f"ReLU6 on the output of `norm1`, before {POOL}, but the reference has no activation there",
    "shortcut missing": "a shortcut too many: the input of `conv2` is added to the output of `norm2`",
    "activation before the addition": "ReLU after the addition of the input of `conv2`, but in the reference before it",
    "shuffle missing": "a channel shuffle with 4 groups, which the reference does not have",
    "squeeze before the activation": "stands after the Hardswish, but in the reference before it",
    "gate unused": "a multiplication too many",
    "BatchNorm missing": "your `norm2` (BatchNorm2d, 16) is one too many: the reference has no such layer here",
    "softmax at the end": "no activation on the output of `fc`, but the reference has Softmax there",
    "stride": "stride 2, but the reference has stride 1",
    "NaN": "The reference itself gives NaN or infinity for this x",
    "dropout in eval mode": "The reference is not deterministic",
}


@pytest.mark.parametrize("name", REVERSED)
def test_a_mistake_in_the_reference(name):
    assert REVERSED[name] in sentence(Tiny(), Tiny(**MISTAKES[name][0]), 2, 3, 40, 32)


# Mistakes in networks that others wrote

def with_forward(model, kind, forward, which=None):
    """A copy of `model` in which the blocks of one kind (or the `which`-th) have another forward."""
    model = copy.deepcopy(model)
    blocks = [module for module in model.modules() if type(module) is kind]
    for block in blocks if which is None else [blocks[which]]:
        block.__class__ = type(kind.__name__, (kind,), forward)
    return model


def unit_forward(groups=2, swap=False):
    def forward(self, x):
        first, second = (x.chunk(2, 1)[0], self.branch2(x.chunk(2, 1)[1])) if self.stride == 1 else \
            (self.branch1(x), self.branch2(x))
        return channel_shuffle(torch.cat((second, first) if swap and self.stride == 1 else (first, second), 1), groups)
    return {"forward": forward}


def basic_forward(shortcut, relu_first=False):
    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = F.relu(y) if relu_first else y
        if shortcut:
            y = y + (x if self.downsample is None else self.downsample(x))
        return y if relu_first else F.relu(y)
    return {"forward": forward}


@pytest.fixture(scope="module")
def shufflenet():
    return torchvision.models.shufflenet_v2_x1_0()


@pytest.mark.parametrize("which, forward, words", [
    (None, unit_forward(groups=1),
     "Before layer 13 of 113, your `stage2.1.branch2.0` (reference: `stage2.1.branch2.0`): the channel shuffle is "
     "missing: the reference shuffles the channels with 2 groups."),
    (5, unit_forward(groups=1), "your `stage3.2.branch2.0` (reference: `stage3.2.branch2.0`): the channel shuffle is"),
    (-1, unit_forward(groups=1), "your `conv5.0` (reference: `conv5.0`): the channel shuffle is missing"),
    (None, unit_forward(groups=4), "a channel shuffle with 4 groups, but the reference's has 2 groups"),
    (5, unit_forward(swap=True), "in another order: `stage3.1.branch2.6`, the other branch in yours, but the other "
     "branch, `stage3.1.branch2.6` in"),
], ids=["no shuffle", "one shuffle missing", "last shuffle missing", "4 groups", "concatenated the other way"])
def test_mistakes_in_shufflenet(shufflenet, which, forward, words):
    assert words in sentence(with_forward(shufflenet, unit, forward, which), shufflenet, 2, 3, 64, 64)


@pytest.mark.parametrize("norm, wrong, name", [
    ("stage2.0.branch1.3", nn.Identity(), "no activation"), ("stage3.1.branch2.6", nn.Identity(), "no activation"),
    ("stage4.3.branch2.6", nn.Identity(), "no activation"), ("stage3.1.branch2.6", nn.SiLU(), "SiLU")])
def test_another_activation_before_the_branches_are_concatenated(shufflenet, norm, wrong, name):
    mine = copy.deepcopy(shufflenet)
    branch, position = norm.rsplit(".", 1)
    mine.get_submodule(branch)[int(position) + 1] = wrong
    place = f"on the output of `{norm}`, but the reference has"
    assert f"{name} {place} ReLU there" in sentence(mine, shufflenet, 2, 3, 64, 64)
    assert f"ReLU {place} {name} there" in sentence(shufflenet, mine, 2, 3, 64, 64)


@pytest.mark.parametrize("made, words", [
    (lambda y, x: (F.relu(y + x), F.relu(y)), "a shortcut too many"),  # y's signs look like a shuffle with 2 groups
    (lambda y, x: (y, torch.zeros_like(y)), "the reference's values are yours times one factor per channel"),  # 0
], ids=["signs that alternate by chance", "zeros could be anybody's"])
def test_neither_chance_nor_zeros_are_taken_for_a_pattern(made, words):
    y = torch.rand(2, 8, 3, 3, dtype=torch.float64) + 0.1
    y[1, 1::2] *= -1
    x = torch.randn_like(y)
    values = [Value("conv", False, x), Value("norm", True, y)]
    assert words in cause(Parting(*made(y, x), values, 1e-9))


@pytest.mark.parametrize("which, forward, words", [
    (5, basic_forward(shortcut=False),
     "Before layer 31 of 41, your `layer4.0.conv1` (reference: `layer4.0.conv1`): the shortcut is missing: "
     "the reference adds the input of `layer3.1.conv1` to the output of `layer3.1.bn2`."),
    (4, basic_forward(shortcut=False),
     "the reference has 2 layers here that are missing in your network, from `layer3.0.downsample.0` "
     "(Conv2d, 256x128x1x1) to `layer3.0.downsample.1` (BatchNorm2d, 256)"),
    (5, basic_forward(True, relu_first=True), "ReLU before the addition of the input of `layer3.1.conv1`, but in the"),
    (4, basic_forward(True, relu_first=True), "ReLU before the addition of the output of `layer3.0.downsample.1`, but"),
], ids=["identity missing", "projection missing", "activation early", "activation early at a projection"])
def test_mistakes_in_resnet(which, forward, words):
    reference = torchvision.models.resnet18()
    assert words in sentence(with_forward(reference, basic, forward, which), reference, 2, 3, 32, 32)


@pytest.fixture(scope="module")
def googlenet():
    return torchvision.models.googlenet(init_weights=False, aux_logits=False)


def test_branches_of_an_inception_concatenated_in_another_order(googlenet):
    def swapped(self, x):
        return [self.branch1(x), self.branch3(x), self.branch2(x), self.branch4(x)]
    mine = with_forward(googlenet, inception.Inception, {"_forward": swapped}, 3)
    assert ("in another order: `inception4b.branch1.bn`, `inception4b.branch3.1.bn`, `inception4b.branch2.1.bn`, "
            "`inception4b.branch4.1.bn` in yours, but `inception4b.branch1.bn`, `inception4b.branch2.1.bn`, "
            in sentence(mine, googlenet, 2, 3, 64, 64))


def test_branches_called_in_another_order_are_equal_with_a_note(googlenet):
    def other_order(self, x):
        b, a, d, c = self.branch2(x), self.branch1(x), self.branch4(x), self.branch3(x)
        return [a, b, c, d]
    mine = with_forward(googlenet, inception.Inception, {"_forward": other_order}, 0)
    result = compare(mine, googlenet, images(2, 3, 64, 64))
    assert result.equal
    assert any("run in another order than in the reference" in note and "inception3a" in note for note in result.notes)


def mobilenet_with(change):
    model = create_model("mobilenet_v2")
    change(model)
    return model


def narrow(model):
    model.blocks[16].project.conv = nn.Conv2d(960, 300, 1, bias=False)
    model.blocks[16].project.bn = nn.BatchNorm2d(300)
    model.head.conv = nn.Conv2d(300, 1280, 1, bias=False)


STRUCTURE = {
    "block missing": (
        lambda m: m.blocks.__delitem__(8),
        "After layer 54 of 105, your `blocks.8.project.bn` (reference: `features.9.conv.3`): the reference has 6 "
        "layers here that are missing in your network, from `features.10.conv.0.0` (Conv2d, 384x64x1x1) to "
        "`features.10.conv.3` (BatchNorm2d, 64). In all, your network has 99 layers with weights, the reference 105."),
    "block too many": (
        lambda m: m.blocks.insert(8, copy.deepcopy(m.blocks[8])),
        "your network has 6 layers too many here, from `blocks.10.expand.conv` (Conv2d, 384x64x1x1) to "
        "`blocks.10.project.bn` (BatchNorm2d, 64). In all, your network has 111 layers with weights, the reference"),
    "channels": (
        narrow,
        "your `blocks.16.project.conv` (reference: `features.17.conv.2`): output channels 300, but the reference has "
        "output channels 320"),
    "activation after the projection": (
        lambda m: m.blocks[3].project.add_module("act", nn.ReLU6()),
        "your `blocks.4.expand.conv` (reference: `features.5.conv.0.0`): ReLU6 on the output of `blocks.3.project.bn`, "
        "but the reference has no activation there."),
    "wrong norm": (
        lambda m: setattr(m.blocks[2].expand, "bn", nn.GroupNorm(1, 144)),
        "your `blocks.2.expand.bn` (reference: `features.3.conv.0.1`): a GroupNorm, "
        "but the reference has a BatchNorm2d."),
    "no running statistics": (
        lambda m: setattr(m.stem, "bn", nn.BatchNorm2d(32, track_running_stats=False)),
        "running statistics off, but the reference has running statistics on"),
    "PReLU": (
        lambda m: setattr(m.blocks[2].expand, "act", nn.PReLU()),
        "your `blocks.2.expand.act` (PReLU, 1) is one too many"),
}


def block_that(combines):
    class Block(InvertedResidual):
        def forward(self, x):
            return combines(x, self.project(self.depthwise(self.expand(x))))
    return Block(8, 8, 1, 6)


@pytest.mark.parametrize("combines, words", [
    (lambda x, y: y, "the shortcut is missing: the reference adds the input of `expand.conv` to the output of `proj"),
    (lambda x, y: x + F.relu6(y), "ReLU6 on the output of `project.bn` before the addition, but the reference has no"),
    (lambda x, y: F.relu6(x + y), "ReLU6 after the addition, but the reference has no activation there"),
    (lambda x, y: x * y, "a multiplication too many: yours is the input of `expand.conv` times the output of `proj"),
    (lambda x, y: torch.cat([x, y], 1), "yours is the concatenation of the input of `expand.conv`, the output of "
     "`project.bn`, but the reference's is (the input of `expand.conv` plus the output of `project.bn`)"),
    (lambda x, y: (x + y) / 2, "a scale too many: your network takes (the input of `expand.conv` plus the output of "
     "`project.bn`) times 0.5, the reference does not"),
], ids=["no shortcut", "activation on the branch", "activation on the sum", "product", "concatenation", "mean"])
def test_mistakes_in_one_block(combines, words):
    told = sentence(block_that(combines), InvertedResidual(8, 8, 1, 6), 2, 8, 10, 7)
    assert told.startswith("Between layer 6 of 6, your `project.bn`, and the output: ") and words in told


@pytest.mark.parametrize("name", STRUCTURE)
def test_mistakes_in_our_mobilenet_against_torchvision(name):
    change, words = STRUCTURE[name]
    assert words in sentence(mobilenet_with(change), torchvision.models.mobilenet_v2(), 2, 3, 32, 32)


def test_activation_against_a_reference_whose_batchnorm_includes_it():
    mine = mobilenet_with(lambda m: setattr(m.blocks[5].expand, "act", nn.ReLU()))
    assert sentence(mine, timm.create_model("mobilenetv2_100"), 2, 3, 32, 32) == (
        "Before layer 33 of 105, your `blocks.5.depthwise.conv` (reference: `blocks.2.2.conv_dw`): "
        "ReLU on the output of `blocks.5.expand.bn`, but the reference has ReLU6 there.")


def test_an_unknown_activation_is_not_blamed_on_the_norm_before():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)
    mine = mobilenet_with(lambda m: setattr(m.blocks[5].expand, "act", Sine()))
    assert "sin of the output of `blocks.5.expand.bn`, but the reference has ReLU6 there" in sentence(
        mine, timm.create_model("mobilenetv2_100"), 2, 3, 32, 32)


# Small cases

def test_kinds_of_norm():
    assert ("your `1` (reference: `1`): a LayerNorm, but the reference has a GroupNorm" in
            sentence(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8)),
                     nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8)), 3, 4))


def test_padding_as_tensorflow_does_it():
    reference = timm.layers.Conv2dSame(3, 8, 3, stride=2, bias=False)
    mine = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
    assert "the reference's layer pads as TensorFlow's \"same\" does" in sentence(mine, reference, 1, 3, 32, 32)
    assert "your layer pads as TensorFlow's \"same\" does" in sentence(reference, mine, 1, 3, 32, 32)
    assert "padding 0, but the reference has padding 1" in sentence(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3, padding=1),
                                                                    1, 3, 32, 32)


def test_batch_statistics_in_eval_mode():
    class Eager(nn.BatchNorm2d):
        def forward(self, x):
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.1, self.eps)
    mine, reference = (nn.Sequential(nn.Conv2d(3, 8, 3), norm(8)) for norm in (Eager, nn.BatchNorm2d))
    words = "your `1` (reference: `1`): your layer normalises by the batch's own mean and variance"
    assert words in sentence(mine, reference, 2, 3, 9, 9)


def test_two_layers_that_apply_activations_themselves():
    mine, reference = (nn.Sequential(nn.Conv2d(3, 32, 3), timm.layers.BatchNormAct2d(32, act_layer=act),
                                     nn.Conv2d(32, 4, 3)) for act in (nn.ReLU, nn.ReLU6))
    assert "ReLU on the output of `1`, but the reference has ReLU6 there" in sentence(mine, reference, 2, 3, 16, 16)


def test_layer_scale_missing():
    reference = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    mine = copy.deepcopy(reference)
    mine.stages[1].blocks[0].gamma = None
    assert ("the reference has `stages.1.blocks.0.gamma` (Parameter, 16) here, which is missing in your network" in
            sentence(mine, reference, 1, 3, 64, 64))


class Twice(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.conv, self.end, self.times = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2), times

    def forward(self, x):
        for _ in range(self.times):
            x = torch.tanh(self.conv(x))
        return self.end(x.mean((2, 3)))


def test_a_layer_called_twice():
    result = compare(Twice(2), Twice(2), images(2, 3, 8, 8))
    assert result.equal
    assert [layer.mine for layer in result.layers] == ["conv", "conv", "end"]
    assert "your `conv` (reference: `conv`): the reference calls it once more than your network" in \
        sentence(Twice(1), Twice(2), 2, 3, 8, 8)


def test_inputs_given_by_keyword_are_compared_too():
    class Keyword(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.a, self.b, self.act = nn.Linear(4, 8), nn.Linear(8, 8), act

        def forward(self, x):
            return self.b(input=self.act(self.a(input=x)))
    assert sentence(Keyword(torch.tanh), Keyword(F.relu), 3, 4) == (
        "Before layer 2 of 2, your `b` (reference: `b`): Tanh on the output of `a`, but the reference has ReLU there.")


def test_a_table_of_zeros_hides_nothing():
    class Positions(nn.Module):
        def __init__(self, before):
            super().__init__()
            self.conv, self.end, self.before = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), before
            self.table = nn.Parameter(torch.zeros(1, 4, 5, 5))

        def forward(self, x):
            x = self.conv(x)
            return self.end(F.relu(x + self.table) if self.before else F.relu(x) + self.table)
    assert "Before layer 2 of 2, your `end`" in sentence(Positions(False), Positions(True), 1, 3, 5, 5)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda channels: nn.Identity()], ids=["norms", "no norms"])
def test_differences_do_not_fade_with_depth(norm):
    """With default weights, 60 layers reduce what the first one does to 1e-20 of the output."""
    def network(act):
        blocks = [[nn.Conv2d(8, 8, 3, padding=1), norm(8), nn.ReLU()] for _ in range(60)]
        return nn.Sequential(nn.Conv2d(3, 8, 1), act, *(layer for block in blocks for layer in block)).eval()
    x, mine, reference = images(1, 3, 8, 8), network(nn.SiLU()), network(nn.GELU())
    transfer_weights(reference, mine, x)
    torch.testing.assert_close(mine(x), reference(x), rtol=0, atol=1e-6)
    result = compare(mine, reference, x)
    assert result.max_error > 1e-4
    assert "SiLU on the output of `0`, but the reference has GELU there" in result.first_difference


def test_differences_do_not_hide_behind_zeros():
    """With fresh weights these networks compute the same: the last norm's weight is 0, and no value reaches 6."""
    def network(act):
        norm = nn.BatchNorm2d(4)
        nn.init.zeros_(norm.weight)
        return nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), act, nn.Conv2d(64, 4, 3), norm)
    x = images(1, 3, 5, 5)
    fresh, wrong = network(nn.ReLU6()).eval(), network(nn.ReLU()).eval()
    transfer_weights(fresh, wrong, x)
    assert torch.equal(fresh(x), wrong(x))
    assert "ReLU on the output of `1`, but the reference has ReLU6" in sentence(wrong, fresh, 1, 3, 5, 5)


class BiasInTwoParts(nn.Module):
    """A vector of parameters is concatenated beside a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.a, self.n, self.fc = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
        self.parts = nn.ParameterList([torch.randn(4), torch.randn(4)])

    def forward(self, x):
        return self.fc(self.n(self.a(x) + torch.cat(list(self.parts))[:, None, None]).relu())


def test_vectors_that_are_concatenated_are_no_maps():
    reference = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    assert not compare(BiasInTwoParts(), reference, images(2, 3, 6, 6)).equal
