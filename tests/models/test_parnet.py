"""What is special in ParNet: the form for inference, and sides that are odd."""
import copy
import re

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.golden import golden_fill, load
from lwcourse.models.parnet import DownsamplingBlock, ParNet, RepConv
from lwcourse.verify import GOLDEN_TOLERANCE, TOLERANCE, randomise_statistics, relative_error

SMALL = (8, 12, 16, 20)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = ParNet(SMALL, num_classes=5)
    randomise_statistics(network)
    return network.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(64, 96), (75, 101), (32, 33)])
def test_fused_network_gives_the_same_output(network, dtype, size):
    network, x = network.to(dtype), torch.randn(2, 3, *size, dtype=dtype)
    with torch.no_grad():
        assert relative_error(network.fuse()(x), network(x)) < TOLERANCE[dtype]


def test_fuse_leaves_the_original_as_it_was(network):
    before = copy.deepcopy(network.state_dict())
    fused = network.train().fuse()
    assert network.training and not fused.training
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in fused.parameters()}
    assert not shared


def test_fused_network_has_no_branch_left_and_can_be_fused_again(network):
    fused = network.fuse()
    assert not any(isinstance(module, RepConv | nn.AvgPool2d) for module in fused.modules())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fused.fuse()(x), fused(x))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_each_convolution_fuses(stride, groups):
    torch.manual_seed(0)
    layer = RepConv(4, 6, stride, groups=groups).double()
    randomise_statistics(layer)
    layer.eval()
    x = torch.randn(1, 4, 7, 10).double()
    with torch.no_grad():
        assert relative_error(layer.fuse()(x), layer(x)) < 1e-12
        assert relative_error(layer.conv(x), layer(x)) > 0.1  # the 1x1 branch matters


@pytest.mark.parametrize(("name", "params", "macs"), [
    ("parnet_s", 19_177_032, 4_836_823_232), ("parnet_m", 35_576_616, 8_581_882_048),
    ("parnet_l", 54_914_824, 13_324_101_824), ("parnet_xl", 84_962_784, 20_715_596_224)])
def test_fused_counts_are_those_of_the_card(name, params, macs):
    counted = lw.profile(lw.create_model(name).fuse(), (3, 224, 224))
    assert (counted.params, counted.macs) == (params, macs)
    note = lw.model_card(name).note
    assert f"{params:,} parameters and {macs / 1e6:,.1f} M multiply-adds" in note


def test_the_released_configuration_gives_the_official_output():
    stored = load("parnet_s_shipped_yaml")
    x = golden_fill.input_tensor(stored["input_shape"], stored["input_seed"])
    network = ParNet(tuple(stored["args"]["planes"]), act=nn.ReLU)
    owners = golden_fill.fill(network, x, seed=stored["seed"], gain=stored["gain"])
    assert golden_fill.first_difference(golden_fill.signature(network, x, owners=owners), stored["signature"]) is None
    with torch.no_grad():
        assert golden_fill.worst_error(network(x), stored["outputs"]["out"]) < GOLDEN_TOLERANCE
        fused = network.fuse()
        assert golden_fill.worst_error(fused(x), stored["outputs"]["out"]) < GOLDEN_TOLERANCE
    assert sum(p.numel() for p in fused.parameters()) == stored["fused"]["params"]


@pytest.mark.parametrize("size", [(64, 64), (63, 64), (65, 67)])
def test_downsampling_halves_upwards(size):
    block = DownsamplingBlock(3, 4).eval()
    assert block(torch.zeros(1, 3, *size)).shape[2:] == tuple((side + 1) // 2 for side in size)


@pytest.mark.parametrize("channels", [(8, 12, 16), (8, 12, 15, 20), (0, 12, 16, 20)])
def test_bad_channels_are_refused(channels):
    words = f"channels must be four even numbers, of three streams and the last block, got {channels}"
    with pytest.raises(ValueError, match=re.escape(words)):
        ParNet(channels)


def test_bad_stride_is_refused():
    with pytest.raises(ValueError, match="stride must be 1 or 2, got 3"):
        DownsamplingBlock(4, 8, 3)
