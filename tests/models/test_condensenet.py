"""CondenseNet while it trains, and what it turns into."""
import re

import pytest
import torch
from sample_training import SHORT, few_digits
from torch import nn

import lwcourse as lw
from lwcourse.golden import golden_fill, load
from lwcourse.layers import ChannelShuffle, LearnedGroupConv, SelectChannels
from lwcourse.models.condensenet import CIFAR_STAGES, STAGES, CondenseNet, DenseLayer, Stage
from lwcourse.verify import GOLDEN_TOLERANCE, randomise_statistics, relative_error

SMALL = {"stages": (Stage(2, 4), Stage(2, 8)), "stem_stride": 1}  # side 8: a second or less


def small(**options) -> CondenseNet:
    network = CondenseNet(10, 1, **{"groups": 4, "learned": True, **SMALL, **options})
    randomise_statistics(network)
    return network


def convolutions(network: nn.Module) -> list[LearnedGroupConv]:
    return [module for module in network.modules() if isinstance(module, LearnedGroupConv)]


def kept(conv: LearnedGroupConv) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in ~conv.dropped]


# The official layer, step by step

@pytest.fixture
def official():
    """The block of the stored case, filled as it was, with its input and the stored record."""
    stored = load("condensenet_lgc")
    block = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), LearnedGroupConv(16, 24, groups=4))
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    owners = golden_fill.fill(block, x, seed=stored["seed"], gain=stored["gain"])
    assert golden_fill.first_difference(golden_fill.signature(block, x, owners=owners), stored["signature"]) is None
    return block, x, stored


@torch.no_grad()
def test_every_training_step_equals_the_official_layers(official):
    block, x, stored = official
    conv, outputs = block[2], stored["outputs"]
    assert golden_fill.worst_error(block(x), outputs["eval_before"]) < GOLDEN_TOLERANCE
    block.train()
    for step, count in stored["count"].items():
        conv.condense(float(step.rpartition("_")[2]))
        assert golden_fill.worst_error(block(x), outputs[step]) < GOLDEN_TOLERANCE, step
        assert kept(conv) == stored["kept_channels"][step]
        assert conv.stage * 16 // 4 == count
        assert conv.group_lasso().item() == pytest.approx(stored["lasso_loss"][step], abs=1e-9)
    block.eval()
    assert golden_fill.worst_error(block(x), outputs["eval_after"]) < GOLDEN_TOLERANCE
    index, grouped = conv.grouped()
    assert index.tolist() == stored["converted"]["index"]
    assert list(grouped.weight.shape) == stored["converted"]["conv_weight_shape"]
    converted = ChannelShuffle(4)(grouped(SelectChannels(index)(block[1](block[0](x)))))
    assert golden_fill.worst_error(converted, outputs["converted"]) < GOLDEN_TOLERANCE


def test_stages_due_at_once_all_drop_where_the_official_layer_drops_one(official):
    block, _, stored = official
    block[2].condense(0.6)
    assert stored["jump"]["count"] == 4
    assert block[2].stage == 3 and kept(block[2]) != stored["jump"]["kept"]
    assert all(set(ours) < set(theirs) for ours, theirs in zip(kept(block[2]), stored["jump"]["kept"], strict=True))


def test_whole_network_equals_the_official_one_dense_condensed_and_converted():
    stored = load("condensenet_cifar_small")
    network = CondenseNet(10, learned=True, stages=(Stage(4, 8), Stage(4, 16), Stage(4, 32)), stem_stride=1)
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    owners = golden_fill.fill(network, x, seed=stored["seed"], gain=stored["gain"])
    assert golden_fill.first_difference(golden_fill.signature(network, x, owners=owners), stored["signature"]) is None
    assert sum(p.numel() for p in network.parameters()) == stored["params"]

    def error(candidate, name):
        with torch.no_grad():
            return golden_fill.worst_error(candidate(x), stored["outputs"][name])

    assert error(network, "dense") < GOLDEN_TOLERANCE
    for progress in (0.2, 0.4, 0.6):
        network.condense(progress)
    assert error(network, "dropped") < GOLDEN_TOLERANCE
    convs = convolutions(network)
    assert [kept(convs[0]), kept(convs[-1])] == stored["kept_channels_first_and_last_layer"]
    left = sum((~conv.dropped).sum().item() * conv.out_channels // 4 for conv in convs)
    assert left == stored["nonzero_weights_in_lgc"]

    assert error(network.convert(), "converted_convs_only") < GOLDEN_TOLERANCE
    converted = network.convert(classifier_share=0.5)
    assert error(converted, "converted") < GOLDEN_TOLERANCE
    assert set(stored["converted"]["classifier_index_first24"]) <= set(converted.select.index.tolist())
    profile = lw.profile(converted, (3, 32, 32))
    assert (profile.params, profile.macs) == (stored["converted"]["params"], stored["converted"]["macs"])


# Condensing

def test_stages_fill_the_first_half_of_the_training():
    conv = LearnedGroupConv(16, 8, groups=4)
    stages = []
    for step in range(13):
        conv.condense(step / 12)
        stages.append(conv.stage)
    assert stages == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]  # 1/6, 2/6 and 3/6 of the way
    assert conv.condensed and all(len(row) == 4 for row in kept(conv))


def test_each_group_drops_its_own_least_important_inputs():
    conv = LearnedGroupConv(4, 4, groups=2)  # outputs 0 and 2 are group 0, 1 and 3 group 1
    conv.weight.data = torch.tensor([[5, -1, 3, 0.], [1, 1, 1, 9.], [-5, 1, 0, 4.], [2, -2, 0.5, 0]])[..., None, None]
    conv.condense(0.5)                       # sums: 10 2 3 4 and 3 3 1.5 9
    assert kept(conv)[0] == [0, 3]
    assert 2 not in kept(conv)[1] and 3 in kept(conv)[1]


def test_condense_factor_may_differ_from_groups():
    conv, x = LearnedGroupConv(12, 8, groups=2, condense_factor=3), torch.randn(2, 12, 3, 3)
    conv.condense(0.3)
    assert (conv.stage, conv.condensed) == (1, False)
    conv.condense(0.5)
    assert conv.condensed and conv.kept().shape == (2, 4)
    index, grouped = conv.grouped()
    assert torch.allclose(ChannelShuffle(2)(grouped(x[:, index])), conv(x), atol=1e-6)


def test_what_is_dropped_stays_dropped_and_gets_no_gradient():
    conv, x = LearnedGroupConv(8, 8, groups=4), torch.randn(2, 8, 3, 3)
    conv.condense(0.2)
    first = conv.dropped.clone()
    conv(x).square().sum().backward()
    assert not conv.weight.grad[:4, :, 0, 0][first].any()  # rows 0 to 3 are of groups 0 to 3
    assert (conv.weight.grad[:4, :, 0, 0] != 0).sum() == (~first).sum()
    conv.weight.data.normal_()
    conv.condense(0.1)  # earlier than before: nothing happens
    assert torch.equal(conv.dropped, first)
    conv.condense(0.4)
    assert conv.dropped[first].all() and conv.stage == 2


def test_a_forward_pass_changes_nothing_by_itself():
    network = small()
    network(torch.randn(4, 1, 8, 8))
    assert not any(conv.dropped.any() for conv in convolutions(network))


def test_group_lasso_by_hand():
    conv = LearnedGroupConv(2, 4, groups=2)
    conv.weight.data = torch.tensor([[3, 0.], [1, 2], [4, 0], [0, 2]])[..., None, None]
    # group 0 (rows 0 and 2): root(9 + 16) and, at the floor, 0.001; group 1: root(1) and root(4 + 4)
    assert conv.group_lasso().item() == pytest.approx(5 + 0.001 + 1 + 8**0.5)
    conv.group_lasso().backward()
    assert conv.weight.grad.flatten().tolist() == pytest.approx([0.6, 0, 1, 2**-0.5, 0.8, 0, 0, 2**-0.5])
    conv.condense(1.0)
    assert conv.group_lasso().item() == 0


def test_group_lasso_of_a_network_is_the_sum_of_its_layers():
    network = small()
    assert network.group_lasso().item() == pytest.approx(sum(c.group_lasso().item() for c in convolutions(network)))
    assert network.group_lasso() > 0
    network.condense(0.5)
    assert network.group_lasso() == 0


# Conversion

@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conversion_keeps_the_output(groups):
    network, x = small(groups=groups).double().eval(), torch.randn(3, 1, 9, 13, dtype=torch.float64)
    network.condense(1.0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    converted = network.convert()
    assert not converted.training and network.training and not converted.learned
    assert relative_error(converted(x), network.eval()(x)) < 1e-12
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not convolutions(converted) and len(convolutions(network)) == 4
    ours, theirs = (sum(p.numel() for p in n.parameters()) for n in (converted, network))
    dense = sum(c.weight.numel() for c in convolutions(network))
    assert theirs - ours == dense - dense // groups


def test_a_converted_network_is_the_one_that_the_class_builds():
    network, x = small().eval(), torch.randn(2, 1, 8, 8)
    network.condense(1.0)
    converted = network.convert(classifier_share=0.5)
    other = CondenseNet(10, 1, groups=4, **SMALL).eval()
    other.load_state_dict(converted.state_dict())
    assert torch.equal(other(x), converted(x))
    assert other.classifier.in_features == network.classifier.in_features // 2
    weight = network.classifier.weight.abs().sum(0)
    assert weight[other.select.index].min() >= weight.sort().values[other.classifier.in_features]


def test_registered_network_is_the_converted_form_of_the_learned_one():
    learned = lw.create_model("condensenet", 10, learned=True)
    learned.condense(1.0)
    shapes = [{key: value.shape for key, value in network.state_dict().items()}
              for network in (learned.convert(0.5), lw.create_model("condensenet", 10))]
    assert shapes[0] == shapes[1]


def test_converted_form_equals_pytorchcvs_with_any_index():
    theirs = pytest.importorskip("pytorchcv.models.condensenet")
    theirs = theirs.CondenseNet([[12, 16], [24, 32]], 8, groups=2, num_classes=10).eval()
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)
    randomise_statistics(theirs)
    ours, x = CondenseNet(10, groups=2, stages=(Stage(2, 4), Stage(2, 8))).eval(), torch.randn(2, 3, 32, 32)
    given = [module.index for module in theirs.modules() if hasattr(module, "index")]
    taken = [module.index for module in ours.modules() if isinstance(module, SelectChannels)]
    for a, b in zip(given, taken, strict=True):
        a.copy_(torch.randint(len(a), a.shape))  # channels may come twice, or never
        b.copy_(a)
    lw.transfer_weights(theirs, ours, x)
    assert relative_error(ours(x), theirs(x)) < 1e-5


@pytest.mark.parametrize(("options", "size", "published"), [
    ({}, 224, (4.8, 529)),
    ({"groups": 8}, 224, (2.9, 274)),
    ({"stages": CIFAR_STAGES, "stem_stride": 1, "num_classes": 10}, 32, (0.52, 65.8)),
])
def test_published_macs_are_ours_with_relu_pooling_and_bias(options, size, published):
    network = CondenseNet(**options).eval()
    macs = lw.profile(network, (3, size, size)).macs + network.classifier.bias.numel()
    others = []
    for module in network.modules():
        if isinstance(module, nn.ReLU | nn.AvgPool2d):
            module.register_forward_hook(lambda m, args, out: others.append(args[0].numel()))
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    everything = macs + sum(others) + others[-1]  # the last pooling, of the last ReLU's maps, is no module
    params = sum(p.numel() for p in network.parameters())
    for counted, figure in zip((params, everything), published, strict=True):
        decimals = len(repr(figure).partition(".")[2])
        assert round(counted / 1e6, decimals) == figure


# Training by lw.fit

def test_fit_condenses_and_the_result_converts():
    data, epochs = few_digits(), 2
    network = small(training_steps=epochs * 6)
    lw.fit(network, data, epochs=epochs, **SHORT)
    assert network.step == 12 and all(conv.condensed for conv in convolutions(network))
    before, after = lw.evaluate(network, data), lw.evaluate(network.convert(), data)
    assert after.loss == pytest.approx(before.loss, rel=1e-4)


def test_half_of_the_training_steps_leave_it_unfinished():
    network, x = small(training_steps=12), torch.randn(4, 1, 8, 8)
    stages = []
    for _ in range(14):  # two more than planned
        network(x)
        stages.append(convolutions(network)[0].stage)
    assert stages == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3]
    network.eval()(x)
    assert network.step == 14  # counted in training mode only


def test_the_stage_is_saved_with_the_weights():
    network, other, x = small(training_steps=12), small(training_steps=12), torch.randn(4, 1, 8, 8)
    for _ in range(5):
        network(x)
    other.load_state_dict(network.state_dict())
    assert other.step == 5 and [c.stage for c in convolutions(other)] == [2] * 4
    assert torch.equal(other.eval()(x), network.eval()(x))


def test_an_average_of_weights_is_condensed_as_well():
    network = small(training_steps=6)
    lw.fit(network, few_digits(), epochs=1, ema=0.9, **SHORT)
    assert all(conv.condensed for conv in convolutions(network))
    network.convert()


# Errors

@pytest.mark.parametrize(("options", "words"), [
    ({"groups": 3}, "groups must be a positive integer that divides 8, and so every growth; got 3"),
    ({"groups": 0}, "groups must be .* got 0"),
    ({"groups": 4.0}, "groups must be .* got 4.0"),
    ({"groups": 16}, "groups must be .* divides 8, .* got 16"),
    ({"training_steps": 100}, "training_steps .* goes with learned=True; got 100 with learned=False"),
    ({"training_steps": 1, "learned": True}, "training_steps must be an integer of at least 2.* got 1 with"),
])
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        lw.create_model("condensenet", **options)


@pytest.mark.parametrize("share", [0, 1.5, float("nan"), "half"])
def test_bad_classifier_share_is_refused(share):
    network = small()
    network.condense(1.0)
    words = re.escape(f"classifier_share must be above 0 and at most 1, got {share!r}")
    for call in (lambda: network.convert(share), lambda: CondenseNet(classifier_share=share, **SMALL)):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(("arguments", "words"), [
    ((10, 8, 4), "groups must be a positive integer that divides the 10 inputs, got 4"),
    ((8, 10, 4), "groups must be a positive integer that divides the 10 outputs, got 4"),
    ((8, 8, 4, 3), "condense_factor must be a positive integer that divides the 8 inputs, got 3"),
    ((8, 8, 0), "groups must be .* got 0"),
])
def test_groups_that_do_not_divide_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        LearnedGroupConv(*arguments)


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_bad_progress_is_refused(progress):
    with pytest.raises(ValueError, match=f"progress must be between 0 and 1, got {progress}"):
        small().condense(progress)


def test_converting_too_early_is_refused():
    network = small()
    network.condense(0.2)
    with pytest.raises(ValueError, match="condensing is at stage 1 of 3"):
        network.convert()
    with pytest.raises(ValueError, match="condensing is at stage 1 of 3"):
        convolutions(network)[0].grouped()


def test_a_converted_network_cannot_be_condensed_again():
    network = CondenseNet(**SMALL)
    for call in (network.convert, network.group_lasso, lambda: network.condense(0.5)):
        with pytest.raises(ValueError, match="converted form, in which nothing is left to condense"):
            call()


def test_every_parameter_of_the_learned_form_gets_a_gradient():
    network = small()
    network.condense(0.5)
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_smallest_image_follows_from_the_strides():
    network = small().eval()
    assert network(torch.randn(1, 1, 2, 2)).shape == (1, 10)
    with pytest.raises(ValueError, match="at least 2 x 2 pixels.*got 1 x 2"):
        network(torch.randn(1, 1, 1, 2))


def test_condensenet_74_has_74_layers():
    assert 2 * sum(stage.repeats for stage in STAGES) + 2 == 74  # two in each dense layer, stem and classifier


# The index layer

def test_select_channels_follows_its_index():
    x = torch.arange(24).view(2, 4, 3)
    assert torch.equal(SelectChannels([2, 0, 2])(x), x[:, [2, 0, 2]])
    assert "index" in SelectChannels([1]).state_dict()


@pytest.mark.parametrize("index", [[], [-1, 0], [[0, 1]]])
def test_bad_index_is_refused(index):
    with pytest.raises(ValueError, match="index must be a list of channels, counted from 0"):
        SelectChannels(index)


def test_untrained_index_gives_every_group_some_of_every_layer():
    index = DenseLayer(16, 4, 4).mix.index.index
    assert sorted(index.tolist()) == list(range(16))
    assert index.view(4, 4).tolist() == [list(range(group, 16, 4)) for group in range(4)]
