"""Adder layers with chosen gradients, beside autograd and the sums written out."""
import pytest
import torch
import torch.nn.functional as F

from lwcourse.layers import AdderConv2d
from lwcourse.layers.adder import conv
from lwcourse.layers.adder.variants import SLOPES, AdderVariant2d

FUNCTIONS = {"sign": torch.sign, "clipped": lambda d: d.clamp(-1, 1), "full": lambda d: d}


def gradients(layer, x, g):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    (layer(x) * g).sum().backward()
    return x.grad, layer.weight.grad


@pytest.fixture(params=["kernels", "chunks"])
def path(request, monkeypatch):
    if request.param == "chunks":
        monkeypatch.setattr(conv, "fast_kernels", lambda: None)
    else:
        pytest.importorskip("lwcourse.layers.adder.kernels")


@pytest.mark.parametrize("stride, kernel, padding", [(1, 3, 1), (2, 3, 1), (1, 1, 0)])
@pytest.mark.parametrize("input_slope", SLOPES)
@pytest.mark.parametrize("weight_slope", SLOPES)
def test_gradients_are_the_sums_of_the_slopes(path, weight_slope, input_slope, stride, kernel, padding):
    layer = AdderVariant2d(5, 7, kernel, stride, padding, weight_slope=weight_slope, input_slope=input_slope,
                           rescale=False).double()
    x = torch.randn(2, 5, 6, 9, dtype=torch.float64)
    g = torch.randn_like(layer(x))
    patches = F.unfold(x, kernel, padding=padding, stride=stride)[:, None]              # (N, 1, C*k*k, positions)
    d = patches - layer.weight.detach().flatten(1)[None, :, :, None]
    rows = g.flatten(2)[:, :, None]
    in_patches = (rows * FUNCTIONS[input_slope](-d)).sum(1)
    expected_x = F.fold(in_patches, x.shape[2:], kernel, padding=padding, stride=stride)
    expected_weight = (rows * FUNCTIONS[weight_slope](d)).sum((0, 3)).view_as(layer.weight)
    grad_x, grad_weight = gradients(layer, x, g)
    assert torch.allclose(grad_x, expected_x) and torch.allclose(grad_weight, expected_weight)


def test_the_sign_is_the_derivative():
    layer = AdderVariant2d(3, 4, 3, padding=1, weight_slope="sign", input_slope="sign", rescale=False).double()
    x, weight = torch.randn(1, 3, 5, 5, dtype=torch.float64), layer.weight.detach().clone().requires_grad_()
    g = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    patches = F.unfold(x, 3, padding=1)[:, None]
    (-(patches - weight.flatten(1)[None, :, :, None]).abs().sum(2).view_as(g) * g).sum().backward()
    assert torch.allclose(gradients(layer, x, g)[1], weight.grad)


def test_the_defaults_are_the_papers():
    ours, course = AdderVariant2d(4, 6, 3, 2, 1, bias=True), AdderConv2d(4, 6, 3, 2, 1, bias=True)
    ours.load_state_dict(course.state_dict())
    x, g = torch.randn(2, 4, 8, 7), torch.randn(2, 6, 4, 4)
    assert torch.equal(ours(x), course(x))
    for mine, other in zip(gradients(ours, x, g), gradients(course, x, g), strict=True):
        assert torch.allclose(mine, other)


def test_rescaling_sets_the_norm():
    layer = AdderVariant2d(4, 6, 3, weight_slope="sign", eta=0.1)
    grad = gradients(layer, torch.randn(2, 4, 8, 8), torch.randn(2, 6, 6, 6))[1]
    assert grad.norm().item() == pytest.approx(0.1 * grad.numel()**0.5, rel=1e-4)


@pytest.mark.parametrize("options", [{"weight_slope": "steep"}, {"input_slope": "half"}])
def test_another_slope_is_refused(options):
    with pytest.raises(ValueError, match="must be one of sign, clipped, full"):
        AdderVariant2d(3, 4, 3, **options)
