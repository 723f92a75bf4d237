"""What is special about EfficientNet-Lite."""
import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse.layers import StochasticDepth
from lwcourse.models.efficientnet_lite import EfficientNetLite

NAMES = [f"efficientnet_lite{k}" for k in range(5)]


@pytest.mark.parametrize("name", NAMES)
def test_published_macs_hold_norms_and_activations_too(name):
    card, counts = lw.model_card(name), {nn.BatchNorm2d: 0, nn.ReLU6: 0}

    def count(module, args, out):
        counts[type(module)] += out.numel()

    with torch.device("meta"):
        network = lw.create_model(name).eval()
        for module in network.modules():
            if type(module) in counts:
                module.register_forward_hook(count)
        network(torch.zeros(1, *card.input_size))
    everything = (card.counted_macs + 2 * counts[nn.BatchNorm2d] + counts[nn.ReLU6]) / 1e6
    assert everything < card.published_macs_m < 1.006 * everything


def test_stem_head_and_the_ends_of_the_stages_are_not_scaled():
    small, large = (lw.create_model(name) for name in (NAMES[0], NAMES[4]))
    assert small.stem.conv.weight.shape == large.stem.conv.weight.shape
    assert small.head.conv.out_channels == large.head.conv.out_channels == 1280
    assert (len(small.blocks), len(large.blocks)) == (16, 30)
    assert large.blocks[0].project.conv.out_channels == 24  # 16 * 1.4, rounded to a multiple of 8


def test_a_branch_is_dropped_more_often_the_later_it_stands():
    rates = [module.rate for module in EfficientNetLite().modules() if isinstance(module, StochasticDepth)]
    assert rates == sorted(rates) and 0 < rates[0] < rates[-1] < 0.2


def test_paddings_differ_where_a_side_is_even_and_only_there():
    symmetric, tensorflow = EfficientNetLite().eval(), EfficientNetLite(padding="tensorflow").eval()
    tensorflow.load_state_dict(symmetric.state_dict())
    with torch.no_grad():
        for side, same in ((65, True), (64, False)):  # 65 -> 33 -> 17 -> 9 -> 5 -> 3: odd all the way
            x = torch.randn(1, 3, side, side)
            assert torch.allclose(symmetric(x), tensorflow(x), atol=1e-5) is same
    with pytest.raises(ValueError, match="padding must be one of 'symmetric', 'tensorflow', got 'same'"):
        lw.create_model("efficientnet_lite0", padding="same")


def test_initialisation_is_that_of_the_official_code():
    torch.manual_seed(0)
    network = EfficientNetLite()
    assert network.blocks[-1].depthwise.conv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert network.head.conv.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    assert network.classifier[1].weight.abs().max().item() <= 1000 ** -0.5
