"""Attention layers alone, against official and other code, and in their hosts."""
from functools import partial
from math import prod

import pytest
import torch
import torchvision
from torch import nn

import lwcourse as lw
from lwcourse.golden import golden_fill, load
from lwcourse.layers import (
    ChannelShuffle,
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)
from lwcourse.verify import GOLDEN_TOLERANCE, randomise_statistics

LAYERS = [SqueezeExcitation, EfficientChannelAttention, CoordinateAttention, partial(ShuffleAttention, groups=4),
          TripletAttention]
IDS = ["se", "eca", "ca", "sa", "triplet"]
every_layer = pytest.mark.parametrize("build", LAYERS, ids=IDS)


def layer_in_use(build, channels: int = 16) -> nn.Module:
    """In eval mode, in float64, with parameters as after some training."""
    torch.manual_seed(0)
    layer = build(channels).double().eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)
    randomise_statistics(layer)
    return layer


def golden_error(layer: nn.Module, case: str) -> float:
    stored = load(case)
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    owners = golden_fill.fill(layer, x, seed=stored["seed"], gain=stored["gain"])
    assert golden_fill.first_difference(golden_fill.signature(layer, x, owners=owners), stored["signature"]) is None
    with torch.no_grad():
        return golden_fill.worst_error(layer(x), stored["outputs"]["out"])


@pytest.mark.parametrize(("layer", "case"), [
    (EfficientChannelAttention(40, 3), "eca_module_k3"),
    (CoordinateAttention(48), "coordatt_module"),
    (ShuffleAttention(256), "sa_module_g64"),
    (TripletAttention(24), "triplet_module"),
], ids=["eca", "ca", "sa", "triplet"])
def test_layer_equals_the_official_codes(layer, case):
    assert golden_error(layer, case) < GOLDEN_TOLERANCE
    assert sum(p.numel() for p in layer.parameters()) == load(case)["params"]
    assert lw.profile(layer, load(case)["input_shape"][1:]).macs == load(case)["macs"]


@pytest.mark.parametrize("channels", [8, 40, 64, 128, 256, 512, 2048])
def test_efficient_channel_attention_equals_timms(channels):
    timm_layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    theirs, ours = timm_layers.EcaModule(channels), EfficientChannelAttention(channels)
    x = torch.randn(2, channels, 3, 4)
    lw.transfer_weights(theirs, ours, x)  # refuses another kernel size
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_adaptive_kernel_size_is_odd_and_grows_with_the_channels():
    sizes = [adaptive_kernel_size(channels) for channels in range(1, 5000)]
    assert sizes == sorted(sizes) and all(size % 2 for size in sizes) and sizes[0] == 1
    assert [adaptive_kernel_size(channels) for channels in (64, 128, 512, 2048)] == [3, 5, 5, 7]
    assert adaptive_kernel_size(256, gamma=1, b=0) == 9
    for arguments, words in [((0,), "got 0 and 2"), ((8, 0), "got 8 and 0")]:
        with pytest.raises(ValueError, match=f"channels must be at least 1 and gamma positive, {words}"):
            adaptive_kernel_size(*arguments)


@every_layer
@pytest.mark.parametrize("size", [(9, 5), (4, 11), (1, 1)])
def test_layer_scales_by_its_attention(build, size):
    layer = layer_in_use(build)
    x = torch.randn(3, 16, *size, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        scale, y = layer.attention(x), layer(x)
    assert torch.equal(x, before) and y.shape == x.shape
    assert torch.broadcast_shapes(scale.shape, x.shape) == x.shape
    assert 0 <= scale.min() < scale.max() <= 1
    expected = ChannelShuffle(2)(x * scale) if isinstance(layer, ShuffleAttention) else x * scale
    assert torch.allclose(y, expected, rtol=1e-12, atol=0)


@every_layer
def test_gradient_is_that_of_the_function(build):
    layer = layer_in_use(build)
    x = torch.randn(2, 16, 3, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def function(x, *values):
        y = torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))
        return y.square().mean(dim=(0, 2, 3))

    assert torch.autograd.gradcheck(function, (x, *parameters))


@every_layer
def test_every_parameter_learns(build):
    torch.manual_seed(0)
    layer, x = build(16), torch.randn(4, 16, 6, 7)

    def without_gradient():
        layer.zero_grad()
        (layer(x) * torch.linspace(-1, 1, x.numel()).view_as(x)).sum().backward()
        return {name for name, p in layer.named_parameters() if not p.grad.abs().max() > 0}

    late = {"norm.weight", "norm.bias"} if isinstance(layer, ShuffleAttention) else set()
    assert without_gradient() == late
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert without_gradient() == set()


def changed(layer: nn.Module, *where: int) -> torch.Tensor:
    """Which entries of `attention` change with one value of a map of 16 channels and 12 x 12 pixels."""
    x = torch.rand(1, 16, 12, 12, dtype=torch.float64)
    y = x.clone()
    y[(0, *where)] += 5
    with torch.no_grad():
        return (layer.attention(y) - layer.attention(x))[0].abs() > 1e-12


def test_what_each_gate_sees():
    channel, row, column = 6, 3, 8
    assert changed(layer_in_use(SqueezeExcitation), channel, row, column).all(), "every channel asks all"

    seen = changed(layer_in_use(partial(EfficientChannelAttention, kernel_size=5)), channel, row, column)
    assert seen.flatten().nonzero().flatten().tolist() == [4, 5, 6, 7, 8], "a channel asks its neighbours"

    seen = changed(layer_in_use(CoordinateAttention), channel, row, column)
    cross = torch.zeros(12, 12, dtype=torch.bool)
    cross[row] = cross[:, column] = True
    assert torch.equal(seen.any(dim=0), cross) and seen.any(dim=(1, 2)).all(), "a value asks its row and its column"

    layer = layer_in_use(partial(ShuffleAttention, groups=2))  # 2 groups x 2 halves x 4 channels
    for channel, half in ((6, "spatial"), (1, "channel")):
        seen = changed(layer, channel, row, column)
        assert seen.any(dim=(1, 2)).nonzero().flatten().tolist() == [channel], f"{half}: a channel asks itself"
        assert seen[channel].all()

    layer = layer_in_use(partial(TripletAttention, kernel_size=3))
    seen = changed(layer, channel, row, column)
    a, b, c = torch.meshgrid(torch.arange(16), torch.arange(12), torch.arange(12), indexing="ij")
    near = [(a - channel).abs() <= 1, (b - row).abs() <= 1, (c - column).abs() <= 1]
    assert torch.equal(seen, near[0] & near[2] | near[0] & near[1] | near[1] & near[2]), "two axes of three are near"


def test_parts_of_an_attention_can_be_drawn():
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64)
    layer = layer_in_use(CoordinateAttention)
    rows, columns = layer.gates(x)
    assert rows.shape == (2, 16, 5, 1) and columns.shape == (2, 16, 1, 7)
    assert torch.equal(rows * columns, layer.attention(x))

    layer = layer_in_use(TripletAttention)
    gates = layer.gates(x)
    assert [tuple(gate.shape) for gate in gates] == [(2, 16, 1, 7), (2, 16, 5, 1), (2, 1, 5, 7)]
    assert all(0 <= gate.min() < gate.max() <= 1 for gate in gates)
    assert torch.allclose(sum(gate.expand_as(x) for gate in gates) / 3, layer.attention(x), rtol=1e-12)


def test_costs_are_those_of_the_docstrings():
    def macs(layer):
        return lw.profile(layer, (32, 5, 7)).macs

    assert macs(SqueezeExcitation(32)) == 2 * 32 * 2
    assert macs(EfficientChannelAttention(32, 5)) == 5 * 32
    assert macs(CoordinateAttention(32, reduction=2)) == 2 * (5 + 7) * 32 * 16
    assert macs(ShuffleAttention(32, 4)) == 0
    assert macs(TripletAttention(32, 3)) == 2 * 9 * (32 * 7 + 5 * 32 + 5 * 7)
    assert sum(p.numel() for p in ShuffleAttention(32, 4).parameters()) == 3 * 32 // 4
    assert sum(p.numel() for p in TripletAttention(32, 3).parameters()) == 3 * (2 * 9 + 2)
    assert CoordinateAttention(96).reduce.out_channels == 8, "the bottleneck is no narrower"


@pytest.mark.parametrize(("build", "words"), [
    (lambda: SqueezeExcitation(0), "must be at least 1, got 0"),
    (lambda: EfficientChannelAttention(0), "channels must be at least 1, got 0"),
    (lambda: EfficientChannelAttention(8, 4), "kernel_size must be odd.*got 4"),
    (lambda: EfficientChannelAttention(8, -1), "kernel_size must be odd.*got -1"),
    (lambda: CoordinateAttention(-3), "must be at least 1, got -3 and 32"),
    (lambda: CoordinateAttention(8, 0), "must be at least 1, got 8 and 0"),
    (lambda: ShuffleAttention(0, 1), "multiple of twice the groups, got 0 channels and 1 groups"),
    (lambda: ShuffleAttention(24, 8), "multiple of twice the groups, got 24 channels and 8 groups"),
    (lambda: ShuffleAttention(24, 0), "groups must be a positive integer, got 0"),
    (lambda: TripletAttention(0), "channels must be at least 1, got 0"),
    (lambda: TripletAttention(8, 6), "kernel_size must be odd.*got 6"),
    (lambda: lw.create_model("mobilenet_v2_sa", groups=5), "got 96 channels and 5 groups"),
    (lambda: lw.create_model("mobilenet_v2_triplet", kernel_size=2), "kernel_size must be odd.*got 2"),
])
def test_bad_options_are_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize(("name", "kind", "gated", "is_wide"), [
    ("mobilenet_v2_se", SqueezeExcitation, 16, True),
    ("mobilenet_v2_ca", CoordinateAttention, 16, True),
    ("mobilenet_v2_sa", ShuffleAttention, 16, True),
    ("mobilenet_v2_eca", EfficientChannelAttention, 17, False),
    ("mobilenet_v2_triplet", TripletAttention, 17, False),
])
def test_without_its_attention_the_network_is_mobilenet_v2(name, kind, gated, is_wide):
    torch.manual_seed(0)
    host, network = lw.create_model("mobilenet_v2", 10), lw.create_model(name, 10)
    randomise_statistics(host)
    blocks = [block for block in network.blocks if hasattr(block, "attention")]
    assert len(blocks) == gated and all(isinstance(block.attention, kind) for block in blocks)
    for block in blocks:
        channels = []
        block.attention = nn.Identity()
        block.attention.register_forward_hook(lambda m, args, out, seen=channels: seen.append(out.shape[1]))
        block.seen = channels
    network.load_state_dict(host.state_dict())  # strict: no other parameter is left
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), host.eval()(x))
    for block in blocks:
        assert block.seen == [block.depthwise.conv.out_channels if is_wide else block.project.conv.out_channels]


def values(counted, kind: str) -> int:
    """How many numbers the layers of one kind put out."""
    return sum(prod(layer.output_shape) for layer in counted.layers if layer.kind == kind)


def test_published_figures_can_be_had_with_the_authors_counters():
    """What the notes of the cards claim."""
    counted = lw.profile(lw.create_model("mobilenet_v2_eca"))
    norm, act = values(counted, "BatchNorm2d"), values(counted, "ReLU6")
    pooled = norm - act  # the projections' outputs: each goes into one global pooling
    twice = 1000 * (1280 - 1)
    assert round(counted.params / 2**20, 2) == lw.model_card("mobilenet_v2_eca").published_params_m == 3.34
    assert round((counted.macs + 4 * norm + act + pooled + twice) / 2**20, 1) == 319.9

    card = lw.model_card("mobilenet_v2_triplet")
    for figures, options in ((card, {}), (card.variants[0], card.variants[0].arguments)):
        counted = lw.profile(lw.create_model("mobilenet_v2_triplet", **options))
        whole = counted.macs + 2 * values(counted, "BatchNorm2d") + values(counted, "ReLU6")
        assert round(whole / 1e6) == figures.published_macs_m


def test_torchvisions_resnet50_with_shuffle_attention_equals_the_official_codes():
    network = torchvision.models.resnet50()
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            block.bn3 = nn.Sequential(block.bn3, ShuffleAttention(block.bn3.num_features))
    assert golden_error(network, "sa_resnet50") < GOLDEN_TOLERANCE


def test_our_resnet50_with_shuffle_attention_equals_the_official_codes():
    from lwcourse.models.resnet import Bottleneck, ResNet
    network = ResNet(50, block=partial(Bottleneck, attention=ShuffleAttention))
    assert golden_error(network, "sa_resnet50") < GOLDEN_TOLERANCE
