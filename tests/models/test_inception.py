"""What is special in the Inception line and Xception: branches, towers, heads, scaling."""
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lwcourse as lw
from lwcourse.layers import AuxiliaryPool, Branches, ConvBNAct, TrainingOutput, check_images, initialise, tower
from lwcourse.models import googlenet, inception_v2, inception_v3, inception_v4, xception
from lwcourse.verify import randomise_statistics, relative_error

GOOGLENET, V3 = (import_module(f"torchvision.models.{name}") for name in ("googlenet", "inception"))


def macs(layer: nn.Module, *size: int) -> int:
    return lw.profile(layer, size).macs


def test_a_pair_of_kernels_keeps_the_side_and_a_padding_replaces_that():
    x = torch.randn(2, 4, 9, 10)
    row = ConvBNAct(4, 6, (1, 7), act=None).eval()
    expected = F.conv2d(x, row.conv.weight, padding=(0, 3))
    assert torch.allclose(row(x), expected / (1 + 1e-5) ** 0.5, atol=1e-6) and row(x).shape == (2, 6, 9, 10)
    assert macs(row, 4, 9, 10) == 9 * 10 * 7 * 4 * 6
    assert ConvBNAct(4, 6, 3, 2, padding=0)(x).shape == (2, 6, 4, 4)
    assert ConvBNAct(4, 6, (7, 1), dilation=2)(x).shape == (2, 6, 9, 10)


def test_branches_are_joined_in_their_order():
    x = torch.randn(2, 4, 5, 6)
    branches = Branches([nn.Identity(), nn.Conv2d(4, 3, 1), nn.MaxPool2d(3, 1, 1)])
    assert torch.equal(branches(x), torch.cat([x, branches[1](x), F.max_pool2d(x, 3, 1, 1)], dim=1))


def test_a_tower_strides_at_its_end_and_leaves_empty_convolutions_out():
    layers = tower(8, (4, 1), (0, 5), (6, (1, 3)), (5, 3), stride=2, padding=0)
    convs = [layer.conv for layer in layers]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convs] == [
        (8, 4, (1, 1), (1, 1), (0, 0)), (4, 6, (1, 3), (1, 1), (0, 1)), (6, 5, (3, 3), (2, 2), (0, 0))]
    assert {layer.bn.eps for layer in layers} == {1e-3}
    assert len(tower(8, (0, 1))) == 0


def test_initialise_by_fan_in():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(64, 256, 3))
    initialise(layer, mode="fan_in")
    assert abs(layer[0].weight.std().item() - (2 / (9 * 64)) ** 0.5) < 1e-3


def test_one_image_of_which_one_pixel_is_left_is_refused():
    network = nn.Sequential(nn.BatchNorm2d(3))
    network.in_channels = 3
    check_images(network, torch.zeros(1, 3, 20, 41), smallest=10, one_pixel=40)
    check_images(network, torch.zeros(2, 3, 20, 40), smallest=10, one_pixel=40)
    with pytest.raises(ValueError, match="cannot train on one image of 20 x 40 pixels"):
        check_images(network, torch.zeros(1, 3, 20, 40), smallest=10, one_pixel=40)


@pytest.mark.parametrize(("name", "largest"), [
    ("googlenet", 62), ("inception_v2", 32), ("inception_v4", 106), ("inception_resnet_v2", 106), ("xception", 38)])
def test_the_largest_image_that_leaves_one_pixel(name, largest):
    network = lw.create_model(name, num_classes=2)
    with pytest.raises(ValueError, match=f"cannot train on one image of {largest} x {largest} pixels"):
        network(torch.zeros(1, 3, largest, largest))
    network(torch.zeros(1, 3, largest, largest + 1))


# Auxiliary heads

def test_auxiliary_pool_is_the_papers_and_takes_any_size():
    x = torch.randn(2, 3, 14, 14)
    assert torch.equal(AuxiliaryPool(4)(x), F.avg_pool2d(x, 5, 3))
    assert torch.equal(AuxiliaryPool(5)(x[..., :1, :2]), x[..., :1, :2].mean((2, 3), keepdim=True).expand(2, 3, 5, 5))
    assert AuxiliaryPool(4)(torch.randn(2, 3, 21, 9)).shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match="side must be at least 1, got 0"):
        AuxiliaryPool(0)


def test_googlenets_head_is_torchvisions_after_the_pooling():
    theirs = GOOGLENET.InceptionAux(512, 7).eval()
    head = googlenet.AuxiliaryHead(512, 7).eval()
    ours = nn.Sequential(*list(head)[1:])
    randomise_statistics(theirs)
    x = torch.randn(2, 512, 4, 4)  # on 4 x 4 pixels their pooling changes nothing
    lw.transfer_weights(theirs, ours, x)
    assert relative_error(ours(x), theirs(x)) < 1e-5
    assert isinstance(head[0], AuxiliaryPool) and [m.p for m in ours if isinstance(m, nn.Dropout)] == [0.7]


def test_inception_v3s_head_is_torchvisions():
    theirs = V3.InceptionAux(768, 7).eval()
    ours, x = inception_v3.AuxiliaryHead(768, 7).eval(), torch.randn(2, 768, 17, 17)
    randomise_statistics(theirs)
    lw.transfer_weights(theirs, ours, x)
    assert relative_error(ours(x), theirs(x)) < 1e-5
    assert ours(torch.randn(2, 768, 3, 40)).shape == (2, 7)


@pytest.mark.parametrize(("name", "sizes", "weight", "places"), [
    ("googlenet", [(33, 70), (224, 224)], 0.3, {"4a": 2, "4d": 5}), ("inception_v3", [(75, 120)], 0.4, {"": 7})])
def test_heads_read_their_module_and_only_train(name, sizes, weight, places):
    network, seen = lw.create_model(name, num_classes=5), {}
    for i, block in enumerate(network.blocks):
        block.register_forward_hook(lambda module, args, out, i=i: seen.update({i: out}))
    for key, place in places.items():
        head = network.auxiliary[key] if key else network.auxiliary
        head.register_forward_pre_hook(
            lambda module, args, place=place: seen.update({("read", place): args[0] is seen[place]}))
    for size in sizes:
        output = network(torch.randn(2, 3, *size))
        assert isinstance(output, TrainingOutput) and output.weight == weight
        assert [logits.shape for logits in (output.logits, *output.auxiliary)] == [(2, 5)] * (1 + len(places))
        assert all(seen.pop(("read", place)) for place in places.values())
    assert isinstance(network.eval()(torch.randn(1, 3, 80, 80)), torch.Tensor)
    assert isinstance(lw.create_model(name, 5, auxiliary=False)(torch.randn(2, 3, 80, 80)), torch.Tensor)


# Blocks

def test_reduction_makes_the_inception_module_cheap():
    reduced = googlenet.Inception(192, 64, 96, 128, 16, 32, 32)  # row 3a
    naive = googlenet.Inception(192, 64, 0, 128, 0, 32, 0).eval()
    x = torch.randn(1, 192, 28, 28)
    assert reduced(x).shape == (1, 256, 28, 28) and naive(x).shape == (1, 64 + 128 + 32 + 192, 28, 28)
    assert macs(reduced, 192, 28, 28) == 28**2 * (
        192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32)
    assert macs(naive, 192, 28, 28) == 28**2 * 192 * (64 + 9 * 128 + 25 * 32)
    assert torch.equal(naive(x)[:, -192:], F.max_pool2d(x, 3, 1, 1))


def test_inception_v2_reduces_with_all_of_the_input_passed_through():
    block, x = inception_v2.Inception(12, 0, 4, 8, 4, 6, False, 0, stride=2).eval(), torch.randn(1, 12, 9, 10)
    assert block(x).shape == (1, 8 + 6 + 12, 5, 5)
    assert torch.equal(block(x)[:, -12:], F.max_pool2d(x, 3, 2, 1))
    same = inception_v2.Inception(12, 5, 4, 8, 4, 6, True, 7)
    assert macs(same, 12, 9, 10) == 90 * (12 * (5 + 4 + 4 + 7) + 9 * (4 * 8 + (4 + 6) * 6))
    for stride, conv1 in [(3, 0), (2, 5)]:
        with pytest.raises(ValueError, match=f"got stride {stride} and conv1 {conv1}"):
            inception_v2.Inception(12, conv1, 4, 8, 4, 6, False, 0, stride=stride)


def test_inception_v2_begins_with_a_separable_convolution():
    stem = lw.create_model("inception_v2").stem[:2]
    assert macs(stem, 3, 224, 224) == 112**2 * 24 * (49 + 64) < 112**2 * 49 * 3 * 64 / 3


@pytest.mark.parametrize(("block", "theirs", "shape"), [
    (inception_v3.FactorizedInception(24, 8), "InceptionA(24, 8)", (24, 7, 9)),
    (inception_v3.GridReduction(24), "InceptionB(24)", (24, 8, 9)),
    (inception_v3.AsymmetricInception(24, 8), "InceptionC(24, 8)", (24, 7, 9)),
    (inception_v3.AsymmetricGridReduction(24), "InceptionD(24)", (24, 8, 9)),
    (inception_v3.ExpandedInception(24), "InceptionE(24)", (24, 7, 9)),
], ids=lambda value: type(value).__name__)
def test_a_factorized_block_is_torchvisions(block, theirs, shape):
    kind, _, channels = theirs.rstrip(")").partition("(")
    theirs = getattr(V3, kind)(*map(int, channels.split(","))).eval()
    randomise_statistics(theirs)
    x = torch.randn(2, *shape)
    lw.transfer_weights(theirs, block.eval(), x)
    assert relative_error(block(x), theirs(x)) < 1e-5


def test_factorizing_saves_what_the_paper_says():
    size = (8, 17, 17)
    assert macs(tower(8, (8, (1, 7)), (8, (7, 1))), *size) * 7 == macs(tower(8, (8, 7)), *size) * 2
    assert macs(tower(8, (8, 3), (8, 3)), *size) * 25 == macs(tower(8, (8, 5)), *size) * 18


def test_residual_inception_scales_what_it_adds():
    torch.manual_seed(0)
    x = torch.randn(2, 64, 5, 6)
    block = inception_v4.ResidualA(64, 0.17).eval()
    before = x.clone()
    assert torch.allclose(block(x), F.relu(x + 0.17 * block.projection(block.branches(x))), atol=1e-6)
    assert torch.equal(x, before)
    linear = inception_v4.ResidualB(64, 1.0, act=False).eval()
    assert torch.allclose(linear(x), x + linear.projection(linear.branches(x)), atol=1e-6) and linear(x).min() < 0
    for scale in (0, -0.1, float("nan"), "0.1"):
        with pytest.raises(ValueError, match=f"scale must be a positive number .* got {scale!r}"):
            inception_v4.ResidualC(64, scale)


def test_the_networks_scales_are_the_released_ones_unless_given():
    def scales(**options):
        network = lw.create_model("inception_resnet_v2", 2, **options)
        return [m.scale for m in network.modules() if isinstance(m, inception_v4.ResidualInception)]

    assert scales() == [0.17] * 10 + [0.10] * 20 + [0.20] * 9 + [1.0]
    assert scales(scale=0.3) == [0.3] * 40
    with pytest.raises(ValueError, match="scale must be a positive number .* got 0"):
        lw.create_model("inception_resnet_v2", 2, scale=0)


# Xception

def test_one_tower_a_channel_is_a_separable_convolution():
    separable = import_module("timm.models.xception").SeparableConv2d(12, 20, 3, padding=1)
    theirs = nn.Sequential(separable, nn.BatchNorm2d(20, eps=1e-3)).eval()
    ours, x = xception.TowerConv(12, 20).eval(), torch.randn(2, 12, 7, 9)
    randomise_statistics(theirs)
    lw.transfer_weights(theirs, ours, x)
    assert relative_error(ours(x), theirs(x)) < 1e-5


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_towers_go_from_one_to_one_a_channel(groups):
    block, x = xception.TowerConv(12, 20, 5, groups=groups).eval(), torch.randn(1, 12, 7, 9)
    assert macs(block, 12, 7, 9) == 63 * 12 * (25 * 12 // groups + 20)
    reached = torch.zeros_like(x, requires_grad=True)
    block[0](reached)[0, 0].sum().backward()
    assert (reached.grad[0].abs().amax((1, 2)) > 0).sum() == 12 // groups


@pytest.mark.parametrize("groups", [0, 5, 24])
def test_towers_that_do_not_share_the_channels_are_refused(groups):
    with pytest.raises(ValueError, match=f"groups must divide the 12 input channels, got {groups}"):
        xception.TowerConv(12, 20, groups=groups)


def test_an_xception_block_leaves_its_input_alone():
    x = torch.randn(2, 8, 5, 6)
    before = x.clone()
    block = xception.XceptionBlock(8, (8, 8), 1).eval()
    assert torch.allclose(block(x), x + block.residual[1:](F.relu(x))) and torch.equal(x, before)
    assert xception.XceptionBlock(8, (8, 12), 2)(x).shape == (2, 12, 3, 3)
    with pytest.raises(ValueError, match="stride must be 1 or 2, got 3"):
        xception.XceptionBlock(8, (8, 8), 3)
