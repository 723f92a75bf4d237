"""ResNet and what is built on it: parts that can be swapped, the tricks of ResNet-D, Split-Attention."""
from functools import partial

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import ConvBNAct, SplitAttention, SqueezeExcitation
from lwcourse.models.resnet import BasicBlock, Bottleneck, ResNet, plain_stem, projection
from lwcourse.models.resnet_d import pooled_projection, three_conv_stem
from lwcourse.verify import randomise_statistics


def macs(layer: nn.Module, *size: int) -> int:
    return lw.profile(layer, size).macs


class Zero(nn.Module):
    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x):
        return x * 0


def test_unknown_depth_is_refused():
    with pytest.raises(ValueError, match="depth must be one of 18, 34, 50, 101, got 26"):
        ResNet(26)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_attention_works_on_what_is_added_to_the_shortcut(block):
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(block(16, 16, 1, attention=Zero)(x), x.relu())
    halved = block(16, 32, 2, attention=Zero).eval()
    assert torch.equal(halved(x), halved.shortcut(x).relu())


def test_attention_gets_the_channels_that_it_works_on():
    network = ResNet(50, 10, width=0.25, block=partial(Bottleneck, attention=lambda c: SqueezeExcitation(c, 4)))
    gates = [module for module in network.modules() if isinstance(module, SqueezeExcitation)]
    assert [gate.reduce.in_channels for gate in gates] == [64] * 3 + [128] * 4 + [256] * 6 + [512] * 3


@pytest.mark.parametrize(("depth", "block", "count"), [(18, BasicBlock, 16), (50, Bottleneck, 16)])
def test_the_3x3_convolution_can_be_swapped(depth, block, count):
    built = []

    def conv(in_channels, out_channels, kernel_size, stride=1, **options):
        built.append((in_channels, out_channels, kernel_size, stride))
        return ConvBNAct(in_channels, out_channels, kernel_size, stride, **options)

    ResNet(depth, 10, width=0.125, block=partial(block, conv=conv))
    assert len(built) == count
    assert [stride for *_, stride in built].count(2) == 3
    assert all(kernel_size == 3 for _, _, kernel_size, _ in built)


def test_width_scales_every_layer():
    half, whole = (lw.create_model("resnet50", width=width).state_dict() for width in (0.5, 1.0))
    for key, tensor in whole.items():
        if tensor.dim():
            expected = [n if n in (3, 1000, 7, 1) else n // 2 for n in tensor.shape[:2]]
            assert list(half[key].shape[:2]) == expected, key


def test_costs_are_those_of_the_docstrings():
    assert macs(BasicBlock(16, 24, 2), 16, 12, 12) - macs(projection(16, 24, 2), 16, 12, 12) == 36 * 9 * 24 * (16 + 24)
    assert macs(Bottleneck(64, 64, 1), 64, 6, 6) == 36 * 16 * (64 + 9 * 16 + 64)
    assert macs(three_conv_stem(3, 64), 3, 32, 32) == 16 * 16 * 9 * (3 * 32 + 64**2 // 4 + 64**2 // 2)
    assert 3 < macs(three_conv_stem(3, 64), 3, 32, 32) / macs(plain_stem(3, 64), 3, 32, 32) < 3.05
    for radix, cardinality in [(1, 4), (2, 1), (4, 2)]:
        layer = SplitAttention(160, 2, radix=radix, cardinality=cardinality)
        expected = 36 * 9 * 160**2 // cardinality + 40 * radix * 160 * (1 + radix) // cardinality
        assert macs(layer, 160, 12, 12) == expected


@pytest.mark.parametrize(("options", "strides"), [({}, [1, 2, 1]), ({"stride_in_3x3": False}, [2, 1, 1])])
def test_where_a_bottleneck_halves_the_map(options, strides):
    convolutions = [unit.conv for unit in Bottleneck(16, 32, 2, **options).body]
    assert [conv.kernel_size[0] for conv in convolutions] == [1, 3, 1]
    assert [conv.stride[0] for conv in convolutions] == strides


@pytest.mark.parametrize(("shortcut", "share"), [(projection, 0.25), (pooled_projection, 1.0)])
def test_share_of_the_pixels_that_a_halving_shortcut_reads(shortcut, share):
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    shortcut(8, 16, 2)(x).square().sum().backward()
    assert (x.grad != 0).float().mean().item() == share


def slow_split_attention(layer: SplitAttention, x: torch.Tensor) -> torch.Tensor:
    """The paper's sum, one cardinal group after another."""
    splits, radix, groups = layer.splits(x), layer.radix, layer.cardinality
    channels = splits.shape[1] // radix
    by_split = splits.chunk(radix, dim=1)                            # radix tensors (N, channels, H, W)
    logits = layer.expand(layer.reduce(sum(by_split).mean(dim=(2, 3), keepdim=True)))
    output = torch.empty_like(by_split[0])
    size = channels // groups
    for k in range(groups):
        own = logits[:, k * radix * size:(k + 1) * radix * size]      # of this group, split by split
        for c in range(size):
            z = torch.stack([own[:, r * size + c] for r in range(radix)])
            weights = z.softmax(dim=0) if radix > 1 else z.sigmoid()
            output[:, k * size + c] = sum(weight * split[:, k * size + c]
                                          for weight, split in zip(weights, by_split, strict=True)).squeeze(1)
    return output


@pytest.mark.parametrize(("radix", "cardinality"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 2)])
def test_split_attention_is_the_sum_over_splits_of_the_paper(radix, cardinality):
    torch.manual_seed(0)
    layer = SplitAttention(16, 2, radix=radix, cardinality=cardinality).double().eval()
    randomise_statistics(layer)
    nn.init.normal_(layer.expand.weight)  # weights far from equal
    x = torch.randn(2, 16, 7, 10, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), slow_split_attention(layer, x))
        assert layer(x).shape == (2, 16, 4, 5)


@pytest.mark.parametrize("options", [{"radix": 0}, {"cardinality": 0}, {"radix": 3}, {"radix": 2, "cardinality": 3}])
def test_split_attention_refuses_what_does_not_divide(options):
    with pytest.raises(ValueError, match=r"cardinality \* radix must divide channels.*channels=16"):
        SplitAttention(16, **options)


@pytest.mark.parametrize("name", ["resnest50", "resnest50_1s4x24d", "resnest50_4s2x40d"])
def test_resnest_has_odd_widths_too(name):
    network = lw.create_model(name, 10, width=0.2).eval()
    assert network(torch.randn(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize(("name", "before"), [("resnest50", False), ("resnest50_4s2x40d", True)])
def test_resnest_averages_where_the_map_is_halved(name, before):
    stages = lw.create_model(name, 10, width=0.125).blocks
    for block in (block for stage in stages for block in stage):
        kinds = [type(layer) for layer in block.body]
        if block is stages[0][0] or block not in [stage[0] for stage in stages]:
            assert nn.AvgPool2d not in kinds
        else:
            assert (kinds.index(nn.AvgPool2d) < kinds.index(SplitAttention)) is before


def test_resnest_cannot_train_on_one_image():
    """Of any size: Split-Attention has a BatchNorm behind a global pooling."""
    network = lw.create_model("resnest50", 10, width=0.125)
    with pytest.raises(ValueError, match="BatchNorm cannot train on one image of 64 x 96 pixels"):
        network(torch.randn(1, 3, 64, 96))
    assert network(torch.randn(2, 3, 64, 96)).shape == network.eval()(torch.randn(2, 3, 64, 96)).shape
