"""What is special about GhostNet."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import GhostModule
from lwcourse.models.ghostnet import ROWS, GhostBottleneck, GhostNet


def test_half_of_the_maps_are_cheap():
    layers = lw.profile(GhostModule(16, 40), (16, 8, 8)).layers
    assert sum(layer.macs for layer in layers) == 8 * 8 * 20 * (16 + 9)


def test_cost_of_a_bottleneck_is_that_of_its_docstring():
    counted = lw.profile(GhostBottleneck(16, 48, 16, 3, 1, se=False), (16, 6, 6)).macs
    assert counted == 6 * 6 // 2 * (48 * (16 + 9) + 16 * (48 + 9))


@pytest.mark.parametrize(("in_channels", "stride", "changes"), [(16, 1, False), (12, 1, True), (16, 2, True)])
def test_shortcut_filters_only_where_the_shape_changes(in_channels, stride, changes):
    block = GhostBottleneck(in_channels, 24, 16, 5, stride, se=True)
    assert isinstance(block.shortcut, nn.Identity) is not changes
    assert block(torch.randn(2, in_channels, 9, 7)).shape == (2, 16, -(-9 // stride), -(-7 // stride))


def test_adding_in_place_leaves_the_input_alone():
    block, x = GhostBottleneck(16, 24, 16, 3, 1, se=False), torch.randn(2, 16, 5, 5)
    before = x.clone()
    block(x)
    assert torch.equal(x, before)


def test_a_block_refuses_strides_it_cannot_do():
    with pytest.raises(ValueError, match="stride must be 1 or 2, got 3"):
        GhostBottleneck(16, 24, 16, 3, 3, se=False)


@pytest.mark.parametrize("width", [0.1, 0.35, 0.77])
def test_other_widths_work(width):
    network = GhostNet(5, width=width).eval()
    assert network(torch.randn(1, 3, 40, 33)).shape == (1, 5)
    assert network.classifier[-1].in_features == 1280  # at every width


def test_another_module_can_stand_for_the_ghosts():
    class Plain(nn.Sequential):
        def __init__(self, in_channels, out_channels, act=nn.ReLU):
            super().__init__(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels),
                             *([] if act is None else [act()]))

    def cost(ghost):
        blocks = GhostNet(ghost=ghost).blocks
        return sum(lw.profile(block.project, (row.hidden, 8, 8)).macs for row, block in zip(ROWS, blocks, strict=True))

    assert 1.9 < cost(Plain) / cost(GhostModule) < 2
