"""What is special in HRNet: four maps that keep their sizes, and the exchange between them."""
import re

import pytest
import torch

from lwcourse.models.hrnet import SMALL_V1, Exchange, HRNet, HRNetTrunk


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return HRNet(4, SMALL_V1, num_classes=5, first=16).eval()


@pytest.mark.parametrize(("size", "sides"), [
    ((64, 96), [(16, 24), (8, 12), (4, 6), (2, 3)]),
    ((75, 101), [(19, 26), (10, 13), (5, 7), (3, 4)]),
], ids=["even", "odd"])
def test_features_are_four_maps_from_fine_to_coarse(network, size, sides):
    with torch.no_grad():
        maps = network.features(torch.randn(1, 3, *size))
    assert [tuple(x.shape) for x in maps] == [(1, c, *s) for c, s in zip(network.channels, sides, strict=True)]
    assert network.channels == [4, 8, 16, 32]


def test_a_head_leaves_the_features_as_they_are(network):
    with torch.no_grad():
        maps = network.features(torch.randn(1, 3, 64, 64))
        before = [x.clone() for x in maps]
        network.head(maps)
    assert all(torch.equal(a, b) for a, b in zip(maps, before, strict=True))


@pytest.mark.parametrize(("fine", "coarse"), [(8, 4), (9, 5)], ids=["even", "odd"])
def test_exchange_adds_the_nearest_coarse_pixel_to_the_fine_map(fine, coarse):
    exchange = Exchange([1, 1]).double().eval()
    up = exchange.paths[0][1]
    torch.nn.init.ones_(up.conv.weight)
    up.bn.eps = 0.0  # then, with fresh statistics, the path upsamples and does nothing else
    maps = [torch.rand(1, 1, fine, fine).double(), torch.rand(1, 1, coarse, coarse).double()]
    with torch.no_grad():
        found = exchange(maps)[0]
    nearest = torch.arange(fine) * coarse // fine
    torch.testing.assert_close(found, maps[0] + maps[1][:, :, nearest][..., nearest])


def test_exchange_lets_every_branch_see_every_other():
    torch.manual_seed(0)
    exchange = Exchange([2, 3, 4])
    maps = [torch.rand(2, c, s, s, requires_grad=True) for c, s in ((2, 8), (3, 4), (4, 2))]
    for out in exchange(maps):
        assert all(grad.abs().max() > 0 for grad in torch.autograd.grad(out.square().sum(), maps, retain_graph=True))


def test_exchange_halves_once_a_convolution_and_activates_all_but_the_last():
    paths = Exchange([2, 4, 8]).paths
    down = paths[2][0]
    assert [(c.conv.in_channels, c.conv.out_channels, c.conv.stride, hasattr(c, "act")) for c in down] == [
        (2, 2, (2, 2), True), (2, 8, (2, 2), False)]


@pytest.mark.parametrize("channels", [0, -4, 2.5, "18"])
def test_bad_channels_are_refused(channels):
    words = f"channels, those of the finest map, must be a positive integer, got {channels!r}"
    with pytest.raises(ValueError, match=re.escape(words)):
        HRNetTrunk(channels)


def test_features_refuse_images_that_are_too_small(network):
    with pytest.raises(ValueError, match="at least 32 x 32 pixels.*got 31 x 64"):
        network.features(torch.zeros(1, 3, 31, 64))
