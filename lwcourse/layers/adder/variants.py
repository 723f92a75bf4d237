"""Adder layers with other gradients than the paper's, to see what each choice is good for."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers.adder.conv import AdderConv2d, _check, _implementation, exporting, plain_distances

SLOPES = ("sign", "clipped", "full")
STEEP = 1e6  # clamp(1e6 * d, -1, 1) is the sign of every d that matters


class AdderVariant2d(AdderConv2d):
    """`AdderConv2d` whose gradients are chosen: the slope for d = x - w is "sign", "clipped" or "full" precision.

    With g the gradient of the output, the weight receives sum g * slope(d) and the input sum g * slope(-d), where
    sign is the derivative of -|d|, "full" is d itself, and "clipped" is d between -1 and 1. `rescale` brings the
    weight's gradient to the norm eta * sqrt(k), for k numbers. The defaults are the paper's, and `AdderConv2d`'s.
    """

    def __init__(self, *arguments, weight_slope: str = "full", input_slope: str = "clipped", rescale: bool = True,
                 **options):
        super().__init__(*arguments, **options)
        for name, slope in (("weight_slope", weight_slope), ("input_slope", input_slope)):
            if slope not in SLOPES:
                raise ValueError(f"{name} must be one of {', '.join(SLOPES)}, got {slope!r}")
        self.weight_slope, self.input_slope, self.rescale = weight_slope, input_slope, rescale

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight: {self.weight_slope}, input: {self.input_slope}, {self.rescale=}"

    def forward(self, x: Tensor) -> Tensor:
        if exporting():
            output = plain_distances(x, self.weight, self.stride, self.padding)
        else:
            _check(x, self.weight, self.padding)
            output = _Variant.apply(x, self.weight, self)
        return output if self.bias is None else output + self.bias[:, None, None]


class _Variant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, layer: AdderVariant2d) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return _implementation(x).distances(x, weight, layer.stride, layer.padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        (x, weight), layer = ctx.saved_tensors, ctx.layer
        grad_x = _input_gradient(x, weight, grad, layer) if ctx.needs_input_grad[0] else None
        grad_weight = _weight_gradient(x, weight, grad, layer) if ctx.needs_input_grad[1] else None
        if layer.rescale and grad_weight is not None:
            grad_weight *= layer.eta * grad_weight.numel()**0.5 / grad_weight.norm().clamp(min=1e-12)
        return grad_x, grad_weight, None


def _input_gradient(x: Tensor, weight: Tensor, grad: Tensor, layer: AdderVariant2d) -> Tensor:
    if layer.input_slope == "full":  # sum g * (w - x) = sum g * w - x * sum g, both convolutions' input gradients
        where = (layer.stride, layer.padding)
        return (nn.grad.conv2d_input(x.shape, weight, grad, *where)
                - x * nn.grad.conv2d_input(x.shape, torch.ones_like(weight), grad, *where))
    steepness = STEEP if layer.input_slope == "sign" else 1.0
    return _implementation(x).input_gradient(steepness * x, steepness * weight, grad, layer.stride, layer.padding)


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor, layer: AdderVariant2d) -> Tensor:
    if layer.weight_slope == "full":
        return (nn.grad.conv2d_weight(x, weight.shape, grad, layer.stride, layer.padding)
                - weight * grad.sum((0, 2, 3))[:, None, None, None])
    # A kernel is to its patches what a pixel of a 1x1 layer is to its kernels: the same sum, with the roles exchanged.
    steepness = STEEP if layer.weight_slope == "sign" else 1.0
    patches = F.unfold(x, weight.shape[2:], padding=layer.padding, stride=layer.stride).transpose(1, 2).flatten(0, 1)
    grad_rows = grad.permute(1, 0, 2, 3).flatten(1)                                     # (O, N * positions)
    pixels = steepness * weight.flatten(1)[:, :, None, None]                            # (O, C*k*k, 1, 1)
    return _implementation(x).input_gradient(pixels, steepness * patches[:, :, None, None],
                                             grad_rows[:, :, None, None], (1, 1), (0, 0)).view_as(weight)
