"""Layers against other implementations, and their cost against the formula in their docstring."""
import copy
import pickle

import pytest
import torch
import torchvision
from torch import nn

import lwcourse as lw
from lwcourse.layers import (
    BNPReLU,
    ChannelShuffle,
    ConvBNAct,
    ConvBNPReLU,
    GhostModule,
    SeparableConv,
    Shift,
    SqueezeExcitation,
    check_images,
    initialise,
    make_divisible,
)


def macs(layer: nn.Module, *size: int) -> int:
    return lw.profile(layer, size).macs


def test_conv_bn_act_is_the_three_in_a_row():
    torch.manual_seed(0)
    block = ConvBNAct(8, 12, 5, stride=2, groups=4, dilation=2, act=nn.ReLU6, eps=1e-3).eval()
    nn.init.normal_(block.bn.running_mean)
    x = 9 * torch.randn(2, 8, 17, 20)
    bare = torch.nn.functional.conv2d(x, block.conv.weight, stride=2, padding=4, dilation=2, groups=4)
    norm = torch.nn.functional.batch_norm(bare, block.bn.running_mean, block.bn.running_var, eps=1e-3)
    assert torch.allclose(block(x), norm.clamp(0, 6), atol=1e-5)
    assert block(x).shape == (2, 12, 9, 10) and block(x).max() == 6
    assert macs(block, 8, 17, 20) == 9 * 10 * 25 * 8 * 12 // 4
    assert [name for name, _ in ConvBNAct(3, 4, 1, act=None).named_children()] == ["conv", "bn"]


@pytest.mark.parametrize("block", [ConvBNAct(3, 4, 3), SeparableConv(3, 4), BNPReLU(3), ConvBNPReLU(3, 4, 3)],
                         ids=lambda block: type(block).__name__)
def test_slice_of_a_block_is_a_sequence_of_its_layers(block):
    part = block[:-1]
    assert type(part) is nn.Sequential and list(part.named_children()) == list(block.named_children())[:-1]
    assert block[-1] is list(block.children())[-1] and type(block[::-1]) is nn.Sequential
    copied = copy.deepcopy(block)
    assert type(copied) is type(block) and isinstance(pickle.loads(pickle.dumps(block)), type(block))
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(block.eval()[1:](block[0](x)), copied.eval()(x))


def test_channel_shuffle_equals_torchs():
    x = torch.randn(2, 12, 5, 7)
    assert torch.equal(ChannelShuffle(3)(x), nn.ChannelShuffle(3)(x))
    assert not torch.equal(ChannelShuffle(3)(x), ChannelShuffle(4)(x))
    assert macs(ChannelShuffle(3), 12, 5, 7) == 0
    with pytest.raises(ValueError, match="10 channels do not divide into 3 groups"):
        ChannelShuffle(3)(torch.zeros(1, 10, 2, 2))
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        ChannelShuffle(0)


def test_squeeze_excitation_equals_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.ops.SqueezeExcitation(16, 4, scale_activation=nn.Hardsigmoid)
    ours, x = SqueezeExcitation(16, 4, nn.Hardsigmoid), torch.randn(2, 16, 9, 11)
    lw.transfer_weights(theirs, ours, x)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert macs(ours, 16, 9, 11) == 2 * 16 * 4
    with pytest.raises(ValueError, match="must be at least 1, got 16 and 0"):
        SqueezeExcitation(16, 0)


@pytest.mark.parametrize("ratio", [2, 3])
def test_ghost_module_equals_timms(ratio):
    ghostnet = pytest.importorskip("timm.models.ghostnet")
    torch.manual_seed(0)
    theirs = ghostnet.GhostModule(10, 16, ratio=ratio).eval()
    ours, x = GhostModule(10, 16, ratio=ratio).eval(), torch.randn(2, 10, 6, 7)
    lw.transfer_weights(theirs, ours, x)
    assert ours(x).shape == (2, 16, 6, 7) and torch.allclose(ours(x), theirs(x), atol=1e-6)
    intrinsic = -(-16 // ratio)
    assert macs(ours, 10, 6, 7) == 42 * intrinsic * (10 + (ratio - 1) * 9)
    with pytest.raises(ValueError, match="ratio must be at least 2.*got 1"):
        GhostModule(10, 16, ratio=1)


def test_separable_conv_filters_then_mixes():
    block = SeparableConv(6, 10, stride=2)
    assert block(torch.randn(1, 6, 9, 9)).shape == (1, 10, 5, 5)
    assert macs(block, 6, 9, 9) == 25 * 6 * (9 + 10)
    assert block[0].conv.groups == 6 and block[1].conv.kernel_size == (1, 1)


def test_shift_moves_each_group_of_channels_by_its_step():
    x = torch.zeros(1, 20, 5, 5)
    x[:, :, 2, 2] = 1.0
    moved = Shift(20)(x)
    where = [tuple(moved[0, c].nonzero()[0].tolist()) for c in range(20)]
    # Two channels for each of nine steps; the step that reads from above moves the pixel down.
    assert where[0] == where[1] == (3, 3) and where[2] == (3, 2) and where[16] == (1, 1)
    assert where[18] == where[19] == (2, 2), "channels left over stay"
    assert len(set(where)) == 9 and moved.sum() == 20
    corner = torch.zeros(1, 9, 3, 3)
    corner[:, :, 0, 0] = 1.0
    assert Shift(9)(corner).sum() == 4, "what leaves the map is lost"
    with pytest.raises(ValueError, match="kernel_size must be odd.*got 2"):
        Shift(9, 2)


@pytest.mark.parametrize(("channels", "rounded"), [(32 * 0.35, 16), (24 * 0.35, 8), (1, 8), (96 * 0.75, 72), (12, 16),
                                                   (90.3, 88), (110, 112), (36, 40)])
def test_make_divisible(channels, rounded):
    from torchvision.models._utils import _make_divisible
    assert make_divisible(channels) == rounded == _make_divisible(channels, 8)
    assert rounded >= 0.9 * channels


def test_make_divisible_refuses_no_channels():
    with pytest.raises(ValueError, match="channels must be positive, got -8"):
        make_divisible(-8)


def test_initialise_sets_every_kind():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.Flatten(), nn.Linear(128 * 36, 500))
    initialise(network)
    assert abs(network[0].weight.std().item() - (2 / (9 * 128)) ** 0.5) < 1e-3
    assert abs(network[3].weight.std().item() - 0.01) < 1e-3
    assert all(network[i].bias.abs().max() == 0 for i in (0, 1, 3)) and network[1].weight.eq(1).all()


def test_images_that_a_network_cannot_take_are_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network.in_channels = 3
    check_images(network, torch.zeros(1, 3, 33, 32), smallest=32)
    check_images(network, torch.zeros(2, 3, 32, 32), smallest=32)
    with pytest.raises(ValueError, match="cannot train on one image of 32 x 32 pixels.*two images or more"):
        check_images(network, torch.zeros(1, 3, 32, 32), smallest=32)
    with pytest.raises(ValueError, match="cannot train on one image of 99 x 98 pixels"):
        check_images(network, torch.zeros(1, 3, 99, 98), smallest=32, pooled_norm=True)
    network.eval()
    check_images(network, torch.zeros(1, 3, 32, 32), smallest=32, pooled_norm=True)
    without = nn.Sequential(nn.Conv2d(3, 4, 3))
    without.in_channels = 3
    check_images(without, torch.zeros(1, 3, 32, 32), smallest=32)
