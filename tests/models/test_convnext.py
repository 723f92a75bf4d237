"""ConvNeXt: stochastic depth, layer scale, the norm of maps, and bad options."""
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import StochasticDepth as TorchvisionStochasticDepth

import lwcourse as lw
from lwcourse.layers import LayerNorm2d, StochasticDepth
from lwcourse.models.convnext import DROP_RATE, STAGES, TINY, ConvNeXtBlock


def drop_rates(network) -> list[float]:
    return [module.rate for module in network.modules() if isinstance(module, StochasticDepth)]


def test_drop_rates_grow_evenly_to_the_papers():
    rates = drop_rates(lw.create_model("convnext_tiny", num_classes=2))
    assert len(rates) == 18
    assert rates == pytest.approx([0.1 * i / 17 for i in range(18)])
    assert DROP_RATE == (0.1, 0.4, 0.5)


def test_drop_rate_is_an_option():
    assert max(drop_rates(lw.create_model("convnext_tiny", num_classes=2, drop_rate=0.0))) == 0
    assert max(drop_rates(lw.create_model("convnext_tiny", num_classes=2, drop_rate=0.3))) == pytest.approx(0.3)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_bad_drop_rate_is_refused(rate):
    with pytest.raises(ValueError, match=f"drop_rate must be at least 0 and below 1, got {rate}"):
        lw.create_model("convnext_tiny", drop_rate=rate)
    with pytest.raises(ValueError, match=f"the rate of stochastic depth must be .* got {rate}"):
        StochasticDepth(rate)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    y = StochasticDepth(0.25)(torch.ones(4000, 3, 2, 2))
    images = y.flatten(1)
    assert (images == images[:, :1]).all()
    assert {round(value, 4) for value in images[:, 0].tolist()} == {0.0, 1.3333}
    assert y.mean().item() == pytest.approx(1, abs=0.03)


def test_stochastic_depth_is_torchvisions():
    x = torch.randn(64, 3, 2, 2)
    for rate in (0.0, 0.4):
        torch.manual_seed(1)
        ours = StochasticDepth(rate)(x)
        torch.manual_seed(1)
        assert torch.allclose(ours, TorchvisionStochasticDepth(rate, "row")(x))


def test_stochastic_depth_is_gone_in_eval_mode():
    x = torch.randn(5, 3)
    assert StochasticDepth(0.9).eval()(x) is x


def test_layer_norm_2d_normalises_the_channels_of_each_pixel():
    torch.manual_seed(0)
    norm = LayerNorm2d(6, eps=1e-6).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    y = norm(x)
    assert y.shape == x.shape
    expected = F.layer_norm(x[1, :, 2, 3], (6,), norm.weight, norm.bias, 1e-6)
    assert torch.allclose(y[1, :, 2, 3], expected)


def test_a_fresh_block_is_nearly_its_shortcut_but_learns():
    torch.manual_seed(0)
    block, x = ConvNeXtBlock(8), torch.randn(2, 8, 9, 9)
    assert block.layer_scale.flatten().tolist() == pytest.approx([1e-6] * 8)
    y = block(x)
    assert 0 < (y - x).abs().max() < 1e-5
    y.square().sum().backward()
    assert block.layer_scale.grad.abs().min() > 0


def test_layer_scale_multiplies_its_own_channel():
    torch.manual_seed(0)
    block, x = ConvNeXtBlock(4, initial_scale=1.0).eval(), torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        whole = block(x) - x
        block.layer_scale[2] = 3.0
        block.layer_scale[1] = 0.0
        assert torch.allclose(block(x) - x, whole * torch.tensor([1, 0, 3, 1]).view(4, 1, 1), atol=1e-6)


def test_the_cost_of_a_block_is_its_formula():
    assert lw.profile(ConvNeXtBlock(8), (8, 5, 6)).macs == 30 * 8 * (49 + 8 * 8)


def test_pixels_that_patches_leave_over_are_cut_off():
    torch.manual_seed(0)
    network = lw.create_model("convnext_tiny", num_classes=3).eval()
    x = torch.randn(1, 3, 35, 63)
    with torch.no_grad():
        assert torch.equal(network(x), network(x[..., :32, :60]))
    assert network.blocks[-1](network.blocks[:-1](network.stem(x))).shape == (1, STAGES[-1].channels[TINY], 1, 1)
