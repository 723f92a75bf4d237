"""lwcourse.compare: equal networks are found equal, and every usual mistake is named where it was made."""
import copy
import importlib
import random

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from lwcourse import compare, create_model, transfer_weights

inception = importlib.import_module("torchvision.models.googlenet")
basic = torchvision.models.resnet.BasicBlock
unit = torchvision.models.shufflenetv2.InvertedResidual


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def channel_shuffle(x, groups):
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Tiny(nn.Module):
    """A network with one of everything, in functional style; each option is one way to build it differently."""

    def __init__(self, act=F.relu6, stem=(), eps=1e-5, momentum=0.1, pool=F.max_pool2d, relu="after", shortcut=True,
                 norm2=True, bias2=False, order="ab", groups=4, depthwise=(), squeeze="after", gate=torch.sigmoid,
                 scale=1.0, head=lambda x: x.mean((2, 3)), dropout=0.0, always_drop=False, classes=10,
                 end=lambda x: x):
        super().__init__()
        self.act, self.pool, self.relu, self.shortcut, self.order, self.groups = act, pool, relu, shortcut, order, groups
        self.squeeze, self.gate, self.scale, self.head, self.end = squeeze, gate, scale, head, end
        self.dropout, self.always_drop = dropout, always_drop
        self.conv1 = nn.Conv2d(3, 16, **dict(kernel_size=3, stride=2, padding=1, bias=False) | dict(stem))
        self.norm1 = nn.BatchNorm2d(16, eps, momentum)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=bias2)
        self.norm2 = nn.BatchNorm2d(16) if norm2 else nn.Identity()
        self.a = nn.Sequential(nn.Conv2d(16, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.b = nn.Sequential(nn.Conv2d(16, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20))
        self.depthwise = nn.Conv2d(32, 32, bias=False, **dict(kernel_size=3, padding=1, groups=32) | dict(depthwise))
        self.norm3 = nn.BatchNorm2d(32)
        self.down, self.up = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.project, self.norm4 = nn.Conv2d(32, 24, 1, bias=False), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, classes)

    def forward(self, x):
        x = self.pool(self.act(self.norm1(self.conv1(x))), 3, 2, 1)
        y = self.norm2(self.conv2(x))
        y = F.relu(y) if self.relu == "before" else y
        y = y + x if self.shortcut else y
        y = F.relu(y) if self.relu == "after" else y
        a, b = F.relu(self.a(y)), F.relu(self.b(y))
        x = channel_shuffle(torch.cat([a, b] if self.order == "ab" else [b, a], 1), self.groups)
        x = self.norm3(self.depthwise(x))
        x = x if self.squeeze == "before" else F.hardswish(x)
        weight = self.gate(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        x = x if self.squeeze == "unused" else x * weight
        x = F.hardswish(x) if self.squeeze == "before" else x
        x = self.head(self.norm4(self.project(x)) * self.scale)
        return self.end(self.fc(F.dropout(x, self.dropout, training=self.training or self.always_drop)))


BEFORE_2 = "Before layer 3 of 15, your `conv2` (reference: `conv2`): "
BEFORE_A = "Before layer 5 of 15, your `a.0` (reference: `a.0`): "
BEFORE_DEPTHWISE = "Before layer 9 of 15, your `depthwise` (reference: `depthwise`): "
BEFORE_PROJECT = "Before layer 13 of 15, your `project` (reference: `project`): "
POOL = "max pooling (3x3, stride 2, padding 1)"
STEM = "Layer 1 of 15, your `conv1` (reference: `conv1`): "
END = "Between layer 15 of 15, your `fc`, and the output: "

MISTAKES = {  # name: (options of the wrong network, the sentence)
    "kernel size": (dict(stem=dict(kernel_size=5, padding=2)),
                    STEM + "kernel size 5x5 and padding 2, but the reference has kernel size 3x3 and padding 1."),
    "stride": (dict(stem=dict(stride=1)), STEM + "stride 1, but the reference has stride 2. "
               "Output (2, 16, 40, 32) against (2, 16, 20, 16)."),
    "padding": (dict(stem=dict(padding=0)), STEM + "padding 0, but the reference has padding 1. "
                "Output (2, 16, 19, 15) against (2, 16, 20, 16)."),
    "padding mode": (dict(stem=dict(padding_mode="reflect")),
                     STEM + "padding mode reflect, but the reference has padding mode zeros."),
    "dilation": (dict(stem=dict(dilation=2, padding=2)),
                 STEM + "padding 2 and dilation 2, but the reference has padding 1 and dilation 1."),
    "extra bias": (dict(stem=dict(bias=True)), STEM + "a bias, but the reference has no bias."),
    "groups": (dict(depthwise=dict(groups=1)), "Layer 9 of 15, your `depthwise` (reference: `depthwise`): "
               "groups 1, but the reference has groups 32."),
    "eps": (dict(eps=1e-3), "Layer 2 of 15, your `norm1` (reference: `norm1`): eps 0.001, but the reference has eps 1e-05."),
    "BatchNorm missing": (dict(norm2=False), "After layer 3 of 15, your `conv2` (reference: `conv2`): the reference has "
                          "`norm2` (BatchNorm2d, 16) here, which is missing in your network. "
                          "In all, your network has 14 layers with weights, the reference 15."),
    "bias for BatchNorm": (dict(norm2=False, bias2=True), "Layer 3 of 15, your `conv2` (reference: `conv2`): a bias, but "
                           "the reference has no bias. After it, the reference has `norm2` (BatchNorm2d, 16) here, which "
                           "is missing in your network. In all, your network has 14 layers with weights, the reference 15."),
    "number of classes": (dict(classes=7), "Layer 15 of 15, your `fc` (reference: `fc`): output features 7, but the reference "
                          "has output features 10: the number of classes differs. Output (2, 7) against (2, 10)."),
    "ReLU for ReLU6": (dict(act=F.relu),
                       BEFORE_2 + f"ReLU on the output of `norm1`, before {POOL}, but the reference has ReLU6 there."),
    "SiLU for ReLU6": (dict(act=F.silu),
                       BEFORE_2 + f"SiLU on the output of `norm1`, before {POOL}, but the reference has ReLU6 there."),
    "LeakyReLU": (dict(act=lambda x: F.leaky_relu(x, 0.1)),
                  BEFORE_2 + f"LeakyReLU(0.1) on the output of `norm1`, before {POOL}, but the reference has ReLU6 there."),
    "activation missing": (dict(act=lambda x: x), BEFORE_2 + f"no activation on the output of `norm1`, before {POOL}, but the "
                           "reference has ReLU6 there: the activation is missing."),
    "unknown activation": (dict(act=torch.sin), BEFORE_2 + f"the reference's is {POOL} of ReLU6 of the output of `norm1`; "
                           "yours is something else."),
    "average for max": (dict(pool=F.avg_pool2d), BEFORE_2 + "average pooling (3x3, stride 2, padding 1) of the output of "
                        f"`norm1`, but the reference has {POOL} there."),
    "activation before the addition": (dict(relu="before"), BEFORE_A + "ReLU before the addition of the input of `conv2`, "
                                       "but in the reference after it."),
    "activation after the addition missing": (dict(relu="never"), BEFORE_A + "no activation after the addition, "
                                              "but the reference has ReLU there."),
    "shortcut missing": (dict(shortcut=False), BEFORE_A + "the shortcut is missing: the reference adds "
                         "the input of `conv2` to the output of `norm2`."),
    "concatenated the other way": (dict(order="ba"), BEFORE_DEPTHWISE + "the branches are concatenated (or called) in "
                                   "another order: `b.1`, `a.1` in yours, but `a.1`, `b.1` in the reference."),
    "shuffle missing": (dict(groups=1), BEFORE_DEPTHWISE + "the channel shuffle is missing: "
                        "the reference shuffles the channels with 4 groups."),
    "groups of the shuffle": (dict(groups=8), BEFORE_DEPTHWISE + "a channel shuffle with 8 groups, "
                              "but the reference's has 4 groups."),
    "squeeze before the activation": (dict(squeeze="before"), "Before layer 11 of 15, your `down` (reference: `down`): "
                                      "squeeze-and-excitation on the output of `norm3` stands before the Hardswish, "
                                      "but in the reference after it."),
    "gate function": (dict(gate=F.hardsigmoid), BEFORE_PROJECT + "the gate is Hardsigmoid of the output of `up`, "
                      "but in the reference Sigmoid of the output of `up`."),
    "gate unused": (dict(squeeze="unused"), BEFORE_PROJECT + "the multiplication is missing: the reference has Hardswish of "
                    "the output of `norm3` times Sigmoid of the output of `up`, yours is Hardswish of the output of `norm3`."),
    "scale": (dict(scale=0.5), "Before layer 15 of 15, your `fc` (reference: `fc`): a scale is missing or wrong: "
              "the reference's values are yours times 2."),
    "global max for mean": (dict(head=lambda x: x.amax((2, 3))), "Before layer 15 of 15, your `fc` (reference: `fc`): global "
                            "max pooling of the output of `norm4`, but the reference has global average pooling there."),
    "softmax at the end": (dict(end=lambda x: x.softmax(1)),
                           END + "Softmax on the output of `fc`, but the reference has no activation there."),
    "other output shape": (dict(end=lambda x: x[:, :, None, None]),
                           END + "(2, 10, 1, 1) here, but the reference has (2, 10); the reference's is the output of `fc`."),
    "two outputs": (dict(end=lambda x: (x, x)),
                    "Your network returns output[0], output[1], but the reference returns one tensor."),
    "NaN": (dict(scale=float("nan")),
            "Before layer 15 of 15, your `fc` (reference: `fc`): your network has NaN here, the reference has none."),
    "dropout in eval mode": (dict(dropout=0.3, always_drop=True), "Your network is not deterministic: two runs on the same x "
                             "differ at layer 15 of 15, your `fc` (reference: `fc`). Dropout with p=0.3 is active in eval mode, "
                             "as F.dropout(x, p) is without training=self.training."),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_named_where_it_is(name):
    options, sentence = MISTAKES[name]
    result = compare(Tiny(**options), Tiny(), images(2, 3, 40, 32))
    assert not result.equal
    assert result.max_error > 1e-6
    assert result.first_difference == sentence


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
    assert REVERSED[name] in compare(Tiny(), Tiny(**MISTAKES[name][0]), images(2, 3, 40, 32)).first_difference


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
    return torchvision.models.shufflenet_v2_x0_5()


@pytest.mark.parametrize("which, forward, words", [
    (None, unit_forward(groups=1), "your `stage2.1.branch2.0` (reference: `stage2.1.branch2.0`): the channel shuffle is "
     "missing: in the reference the channels of `stage2.0.branch2.6` alternate with those of another branch"),
    (5, unit_forward(groups=1), "your `stage3.2.branch2.0` (reference: `stage3.2.branch2.0`): the channel shuffle is missing"),
    (-1, unit_forward(groups=1), "your `conv5.0` (reference: `conv5.0`): the channel shuffle is missing"),
    (5, unit_forward(groups=4), "`stage3.2.branch2.0`): a channel shuffle with 4 groups, but the reference's has 2 groups"),
    (5, unit_forward(swap=True), "the channels of `stage3.1.branch2.6` stand where the reference has the other branch's"),
], ids=["no shuffle", "one shuffle missing", "last shuffle missing", "4 groups", "concatenated the other way"])
def test_mistakes_in_shufflenet(shufflenet, which, forward, words):
    assert words in compare(with_forward(shufflenet, unit, forward, which), shufflenet, images(2, 3, 64, 64)).first_difference


@pytest.mark.parametrize("which, forward, words", [
    (5, basic_forward(shortcut=False), "Before layer 31 of 41, your `layer4.0.conv1` (reference: `layer4.0.conv1`): the shortcut "
     "is missing: the reference adds the input of `layer3.1.conv1` to the output of `layer3.1.bn2`."),
    (4, basic_forward(shortcut=False), "the reference has 2 layers here that are missing in your network, from "
     "`layer3.0.downsample.0` (Conv2d, 256x128x1x1) to `layer3.0.downsample.1` (BatchNorm2d, 256)"),
    (5, basic_forward(True, relu_first=True), "ReLU before the addition of the input of `layer3.1.conv1`, but in the reference"),
    (4, basic_forward(True, relu_first=True), "ReLU before the addition of the output of `layer3.0.downsample.1`, but in the"),
], ids=["identity missing", "projection missing", "activation early", "activation early at a projection"])
def test_mistakes_in_resnet(which, forward, words):
    reference = torchvision.models.resnet18()
    assert words in compare(with_forward(reference, basic, forward, which), reference, images(2, 3, 32, 32)).first_difference


@pytest.fixture(scope="module")
def googlenet():
    return torchvision.models.googlenet(init_weights=False, aux_logits=False)


def test_branches_of_an_inception_concatenated_in_another_order(googlenet):
    def swapped(self, x):
        return [self.branch1(x), self.branch3(x), self.branch2(x), self.branch4(x)]
    mine = with_forward(googlenet, inception.Inception, {"_forward": swapped}, 3)
    assert ("in another order: `inception4b.branch1.bn`, `inception4b.branch3.1.bn`, `inception4b.branch2.1.bn`, "
            "`inception4b.branch4.1.bn` in yours, but `inception4b.branch1.bn`, `inception4b.branch2.1.bn`, "
            in compare(mine, googlenet, images(2, 3, 64, 64)).first_difference)


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


STRUCTURE = {
    "block missing": (lambda m: m.blocks.__delitem__(8), "After layer 48 of 105, your `blocks.7.project.bn` (reference: "
                      "`features.8.conv.3`): the reference has 6 layers here that are missing in your network, from "
                      "`features.9.conv.0.0` (Conv2d, 384x64x1x1) to `features.9.conv.3` (BatchNorm2d, 64). "
                      "In all, your network has 99 layers with weights, the reference 105."),
    "block too many": (lambda m: m.blocks.insert(8, copy.deepcopy(m.blocks[8])), "your network has 6 layers too many here, from "
                       "`blocks.8.expand.conv` (Conv2d, 384x64x1x1) to `blocks.8.project.bn` (BatchNorm2d, 64)"),
    "channels": (lambda m: (setattr(m.blocks[16].project, "conv", nn.Conv2d(960, 300, 1, bias=False)),
                            setattr(m.blocks[16].project, "bn", nn.BatchNorm2d(300)),
                            setattr(m.head, "conv", nn.Conv2d(300, 1280, 1, bias=False))),
                 "your `blocks.16.project.conv` (reference: `features.17.conv.2`): output channels 300, but the reference has "
                 "output channels 320"),
    "activation after the projection": (lambda m: m.blocks[3].project.add_module("act", nn.ReLU6()), "ReLU6 on the output of "
                                        "`blocks.3.project.bn`, but the reference has no activation there"),
    "wrong norm": (lambda m: setattr(m.blocks[2].expand, "bn", nn.GroupNorm(1, 144)), "your `blocks.2.expand.bn` (reference: "
                   "`features.3.conv.0.1`): GroupNorm with weight (144,), bias (144,), but the reference has BatchNorm2d with"),
    "no running statistics": (lambda m: setattr(m.stem, "bn", nn.BatchNorm2d(32, track_running_stats=False)),
                              "running statistics off, but the reference has running statistics on"),
    "PReLU": (lambda m: setattr(m.blocks[2].expand, "act", nn.PReLU()), "your `blocks.2.expand.act` (PReLU, 1) is one too many"),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_mistakes_in_our_mobilenet_against_torchvision(name):
    change, words = STRUCTURE[name]
    assert words in compare(mobilenet_with(change), torchvision.models.mobilenet_v2(), images(2, 3, 32, 32)).first_difference


def test_activation_against_a_reference_whose_batchnorm_includes_it():
    mine = mobilenet_with(lambda m: setattr(m.blocks[5].expand, "act", nn.ReLU()))
    assert compare(mine, timm.create_model("mobilenetv2_100"), images(2, 3, 32, 32)).first_difference == (
        "Before layer 33 of 105, your `blocks.5.depthwise.conv` (reference: `blocks.2.2.conv_dw`): "
        "ReLU on the output of `blocks.5.expand.bn`, but the reference has ReLU6 there.")


# Small cases

def pair(mine, reference, x):
    return compare(nn.Sequential(*mine), nn.Sequential(*reference), x).first_difference


def test_kinds_of_norm():
    assert ("your `1` (reference: `1`): a LayerNorm, but the reference has a GroupNorm" in
            pair([nn.Linear(4, 8), nn.LayerNorm(8)], [nn.Linear(4, 8), nn.GroupNorm(2, 8)], images(3, 4)))


def test_padding_as_tensorflow_does_it():
    reference = timm.layers.Conv2dSame(3, 8, 3, stride=2, bias=False)
    mine = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
    assert "the reference's layer pads as TensorFlow's \"same\" does" in compare(mine, reference, images(1, 3, 32, 32)).first_difference
    assert "your layer pads as TensorFlow's \"same\" does" in compare(reference, mine, images(1, 3, 32, 32)).first_difference


def test_batch_statistics_in_eval_mode():
    class Eager(nn.BatchNorm2d):
        def forward(self, x):
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.1, self.eps)
    words = pair([nn.Conv2d(3, 8, 3), Eager(8), nn.ReLU(), nn.Conv2d(8, 8, 3)],
                 [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)], images(2, 3, 16, 16))
    assert "normalises by the batch's own mean and variance" in words


def test_two_layers_that_apply_activations_themselves():
    def network(act):
        return [nn.Conv2d(3, 32, 3), timm.layers.BatchNormAct2d(32, act_layer=act), nn.Conv2d(32, 4, 3)]
    words = pair(network(nn.ReLU), network(nn.ReLU6), images(2, 3, 16, 16))
    assert "ReLU on the output of `1`, but the reference has ReLU6 there" in words


def test_layer_scale_missing():
    reference = timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    mine = copy.deepcopy(reference)
    mine.stages[1].blocks[0].gamma = None
    assert ("the reference has `stages.1.blocks.0.gamma` (Parameter, 16) here, which is missing in your network" in
            compare(mine, reference, images(1, 3, 64, 64)).first_difference)


class Twice(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.conv, self.end, self.times = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2), times

    def forward(self, x):
        for _ in range(self.times):
            x = torch.tanh(self.conv(x))
        return self.end(x.mean((2, 3)))


def test_a_layer_called_twice():
    x = images(2, 3, 8, 8)
    result = compare(Twice(2), Twice(2), x)
    assert result.equal
    assert [layer.mine for layer in result.layers] == ["conv", "conv", "end"]
    assert "your `conv` (reference: `conv`): the reference calls it once more than your network" in \
        compare(Twice(1), Twice(2), x).first_difference


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
    assert "ReLU on the output of `1`, but the reference has ReLU6" in compare(wrong, fresh, x).first_difference


# Equal networks

def test_equal_to_torchvision_and_timm():
    ours = create_model("mobilenet_v2")
    for reference in (torchvision.models.mobilenet_v2(), timm.create_model("mobilenetv2_100")):
        result = compare(ours, reference, images(1, 3, 48, 33))
        assert result.equal and result.first_difference is None and result.max_error < 1e-9
        assert len(result.layers) == 105 and all(layer.ok for layer in result.layers)
    assert (result.layers[-1].mine, result.layers[-1].reference) == ("classifier.1", "classifier")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_are_brought_together(dtype):
    assert compare(Tiny().to(dtype), Tiny().double(), images(2, 3, 40, 33).to(dtype)).equal


def test_a_forward_that_insists_on_float32_is_compared_in_float32():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            return self.fc(x) @ torch.eye(4, dtype=torch.float32)
    result = compare(Stubborn(), Stubborn(), images(2, 4))
    assert result.equal and result.tolerance == 1e-4
    assert any("compared in float32" in note for note in result.notes)


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self, swap=False):
            super().__init__()
            self.a, self.b, self.swap = nn.Linear(4, 3), nn.Linear(5, 3), swap

        def forward(self, x, y):
            a, b = self.a(x), self.b(y)
            return {"sum": a + b, "parts": [b, a] if self.swap else [a, b], "note": None}
    inputs = images(2, 4), images(2, 5)
    assert compare(Two(), Two(), inputs).equal
    result = compare(Two(swap=True), Two(), inputs)
    assert not result.equal
    assert "the output of `b` in yours, but the output of `a` in the reference" in result.first_difference


def test_attention_with_and_without_a_module():
    """torch's MultiheadAttention never calls its output projection; its fast path would skip every hook."""
    ours = torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 128, num_classes=10)
    reference = timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=4, mlp_ratio=2,
                                              num_classes=10)
    fast = torch.backends.mha.get_fastpath_enabled()
    assert compare(ours, reference, images(2, 3, 32, 32)).equal
    heads = torchvision.models.VisionTransformer(32, 8, 2, 8, 64, 128, num_classes=10)
    assert "heads 8, but the reference has heads 4" in compare(heads, ours, images(2, 3, 32, 32)).first_difference
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_notes_on_what_outputs_do_not_show():
    mine, reference = Tiny(momentum=0.01, dropout=0.2), Tiny(dropout=0.5)
    mine.spare = nn.Linear(3, 3)
    result = compare(mine, reference, images(2, 3, 40, 32))
    assert result.equal
    assert "BatchNorm momentum is 0.01 in your `norm1` and 0.1 in the reference" in result.notes[0]
    assert "dropout rates: 0.2 in your network, 0.5 in the reference" in result.notes[1]
    assert "your network has parameters that x never reaches, which were ignored: `spare.weight`, `spare.bias`" in result.notes[2]


@pytest.mark.parametrize("context", [lambda: torch.device("meta"), torch.inference_mode,
                                     lambda: torch.autocast("cpu", torch.bfloat16)], ids=["device", "inference", "autocast"])
def test_works_inside_other_contexts(context):
    mine, wrong, reference, x = Tiny(), Tiny(groups=2), Tiny(), images(2, 3, 40, 32)
    with context():
        assert compare(mine, reference, x).max_error < 1e-9
        assert "a channel shuffle with 2 groups" in compare(wrong, reference, x).first_difference


# Nothing changes

def state_of(model):
    tensors = {name: (tensor.clone(), tensor.requires_grad, None if tensor.grad is None else tensor.grad.clone())
               for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
    modules = {name: (m.training, list(m._forward_hooks), list(m._forward_pre_hooks)) for name, m in model.named_modules()}
    return tensors, modules


def assert_same_state(before, after):
    assert before[1] == after[1]
    assert before[0].keys() == after[0].keys()
    for name, (tensor, needs, grad) in before[0].items():
        other, other_needs, other_grad = after[0][name]
        assert torch.equal(tensor, other) and needs == other_needs, name
        assert (grad is None) == (other_grad is None) and (grad is None or torch.equal(grad, other_grad)), name


@pytest.mark.parametrize("options", [{}, dict(act=F.relu), dict(norm2=False), dict(always_drop=True, dropout=0.5),
                                     dict(scale=torch.ones(3))], ids=["equal", "different", "structure", "random", "raises"])
def test_compare_leaves_everything_as_it_was(options):
    models = Tiny(**options), Tiny()
    for model in models:
        model(images(2, 3, 32, 32)).sum().backward() if options.get("scale") is None else None
        model.norm1.eval()
        model.conv1.weight.requires_grad_(False)
        model.fc.register_forward_hook(lambda module, args, output: None)
    x = images(2, 3, 32, 32)
    before, x_before = [state_of(model) for model in models], x.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    if "scale" in options:
        with pytest.raises(ValueError):
            compare(*models, x)
    else:
        compare(*models, x)
    for model, state in zip(models, before, strict=True):
        assert_same_state(state, state_of(model))
    assert torch.equal(x, x_before) and torch.is_grad_enabled()
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_the_same_comparison_gives_the_same_report():
    mine, reference = Tiny(act=F.relu), Tiny()
    assert str(compare(mine, reference, images(2, 3, 40, 32))) == str(compare(mine, reference, images(2, 3, 40, 32)))


# The report

def test_report_as_text_and_html():
    reference = Tiny()
    equal, wrong = compare(Tiny(), reference, images(2, 3, 40, 32)), compare(Tiny(eps=1e-3), reference, images(2, 3, 40, 32))
    assert str(equal).splitlines()[0] == "Equal, to 1e-09 of the largest output."
    assert repr(equal) == str(equal) and "(4 of 15 layers shown)" in str(equal)
    lines = str(wrong).splitlines()
    assert lines[0] == "Different. " + wrong.first_difference
    assert lines[2].split() == ["layer", "yours", "reference", "kind", "output", "error"]
    assert [line.split()[:2] for line in lines[3:-1]] == [["ok", "1"], ["x", "2"], ["x", "3"], ["x", "4"]]
    page = wrong._repr_html_()
    assert "<code>norm1</code>" in page and page.index("eps 0.001") < page.index("<table")
    assert page.count("✓") == 1 and page.count("✗") == 3 and "✗" not in equal._repr_html_()


def test_names_are_escaped_in_html():
    class Angle(nn.Sequential):
        def forward(self, x):
            return self[0](x)
    model = Angle(nn.Linear(3, 3))
    model[0].__class__ = type("<b>", (nn.Linear,), {})
    assert "<b>" not in compare(model, model, images(2, 3))._repr_html_()


def test_layers_tell_what_was_compared():
    result = compare(Tiny(norm2=False), Tiny(stem=dict(stride=1)), images(2, 3, 40, 32))
    first, lonely = result.layers[0], result.layers[3]
    assert (first.mine, first.mine_kind, first.mine_shape) == ("conv1", "Conv2d", (2, 16, 20, 16))
    assert (first.reference_shape, first.error, first.ok) == ((2, 16, 40, 32), float("inf"), False)
    assert (lonely.mine, lonely.mine_kind, lonely.reference, lonely.error, lonely.ok) == (None, None, "norm2", None, False)


# Bad input

class Broken(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.conv, self.end = nn.Conv2d(3, 3, 3, padding=padding), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.end(self.conv(x) + x)


def test_a_network_that_breaks_is_still_told_where_it_went_wrong():
    with pytest.raises(ValueError, match=r"your network cannot run x of shape \(2, 3, 8, 8\): its own forward \(Broken\) says: "
                       r".*size of tensor.* It had left the reference before: layer 1 of 1, your `conv` \(reference: `conv`\): "
                       r"padding 0, but the reference has padding 1") as raised:
        compare(Broken(0), Broken(1), images(2, 3, 8, 8))
    assert isinstance(raised.value.__cause__, RuntimeError)
    with pytest.raises(ValueError, match="the reference cannot run x of shape"):
        compare(Broken(1), Broken(0), images(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"`0` \(Linear\) says: mat1 and mat2"):
        compare(nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(5, 4)), images(2, 5))


class Silent(nn.Linear):
    def forward(self, x):
        return "a string"


class Remembers(nn.Linear):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


def test_bad_models_and_inputs():
    x, model = images(2, 3), nn.Linear(3, 3)
    for bad, kind, words in [
        (nn.ReLU(), ValueError, r"your network \(ReLU\) has no parameters"),
        (nn.LazyLinear(3), ValueError, "your network has lazy layers"),
        (nn.Linear, TypeError, r"must be a torch.nn.Module, got Linear; create an instance"),
        ("mobilenet_v2", TypeError, "your network must be a torch.nn.Module, got str"),
        (Silent(3, 3), ValueError, "your network returns no tensor"),
    ]:
        with pytest.raises(kind, match=words):
            compare(bad, model, x)
        with pytest.raises(kind, match=words.replace("your network", "the reference")):
            compare(model, bad, x)
    for bad, kind, words in [
        ([x], TypeError, "x must be a tensor or a tuple of tensors, .* got list"),
        ((x, 3), TypeError, "got a tuple with int"),
        ((), TypeError, "empty tuple"),
        (torch.zeros(0, 3), ValueError, r"no elements: its shape is \(0, 3\)"),
        (torch.ones(2, 3), ValueError, r"x is 1 everywhere, which hides differences; .*torch.randn\(2, 3\)"),
        (x / 0, ValueError, "NaN or infinite"),
    ]:
        with pytest.raises(kind, match=words):
            compare(model, model, bad)


def test_a_network_that_cannot_be_copied():
    model = Remembers(3, 3)
    model(images(2, 3))
    with pytest.raises(ValueError, match="your network cannot be copied.*earlier forward pass"):
        compare(model, nn.Linear(3, 3), images(2, 3))
