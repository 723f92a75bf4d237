"""What is special about PP-LCNet and PeleeNet."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import SqueezeExcitation
from lwcourse.models.peleenet import PeleeNet, Stem, TwoWayDenseLayer
from lwcourse.models.pp_lcnet import PPLCNet, SeparableConvSE


def normalised_values(network: nn.Module) -> int:
    """How many values BatchNorm sees in one image of 224 x 224 pixels."""
    counts = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, args, out: counts.append(out.numel()))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 224, 224))
    return sum(counts)


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5])
def test_published_macs_of_pp_lcnet_are_ours_and_two_for_each_normalised_value(width):
    card = lw.model_card("pp_lcnet")
    figures = card if width == 1.0 else next(v for v in card.variants if v.arguments == {"width": width})
    everything = figures.counted_macs + 2 * normalised_values(PPLCNet(width=width))
    assert round(everything / 1e6) == figures.published_macs_m


def test_squeeze_and_excitation_stands_in_the_last_two_blocks_of_pp_lcnet_before_the_mixing():
    gates = [[isinstance(part, SqueezeExcitation) for part in block] for block in PPLCNet().blocks]
    assert gates == [[False, False]] * 11 + [[False, True, False]] * 2


def test_a_block_of_pp_lcnet_costs_what_its_docstring_says():
    layers = lw.profile(SeparableConvSE(16, 24, 5, 2, se=True), (16, 9, 9))
    assert layers.macs == 5 * 5 * 16 * (25 + 24) + 16**2 // 2


def test_last_layers_of_pp_lcnet_keep_their_width():
    network = PPLCNet(10, width=0.25)
    assert [layer.out_features for layer in network.classifier if isinstance(layer, nn.Linear)] == [1280, 10]
    assert network.classifier[0].bias is None


def test_pp_lcnet_starts_from_the_initialisation_of_paddle():
    torch.manual_seed(0)
    network = PPLCNet()
    depthwise = network.blocks[-1][0].conv.weight
    assert depthwise.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.05)  # by fan-in
    assert network.classifier[-1].weight.abs().max().item() <= (6 / (1280 + 1000)) ** 0.5
    assert all(not m.bias.any() for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None)


def test_a_dense_layer_keeps_its_input_and_appends_two_ways():
    layer, x = TwoWayDenseLayer(24, 8, 2).eval(), torch.randn(1, 24, 11, 11)
    y = layer(x)
    assert y.shape == (1, 32, 11, 11) and torch.equal(y[:, :24], x)
    assert lw.profile(layer, (24, 11, 11)).macs == 11 * 11 * (2 * 8 * 24 + 9 * 8 * 8 + 9 * 4**2)


@pytest.mark.parametrize(("way", "side"), [(slice(24, 28), 3), (slice(28, 32), 5)])
def test_one_way_sees_three_pixels_and_the_other_five(way, side):
    layer = TwoWayDenseLayer(24, 8, 2).double().eval()
    x = torch.randn(1, 24, 11, 11, dtype=torch.float64, requires_grad=True)
    layer(x)[:, way, 5, 5].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [side, side]


@pytest.mark.parametrize("size", [(32, 32), (33, 34), (37, 43), (51, 101)])
def test_both_ways_of_the_stem_meet_at_any_size(size):
    height, width = size
    assert Stem(3, 8)(torch.randn(2, 3, *size)).shape == (2, 8, -(-height // 4), -(-width // 4))


def test_stem_costs_what_its_docstring_says():
    assert lw.profile(Stem(3, 8), (3, 16, 16)).macs == 16 * 16 // 16 * 8 * (36 * 3 + 17 * 8 // 2)


def test_transitions_of_peleenet_do_not_compress():
    transitions = [part.conv for block in PeleeNet().blocks for part in block if hasattr(part, "conv")]
    assert [(conv.in_channels, conv.out_channels) for conv in transitions] == [
        (128, 128), (256, 256), (512, 512), (704, 704)]
