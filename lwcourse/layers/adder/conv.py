"""Adder convolution: Chen et al., AdderNet, CVPR 2020, https://arxiv.org/abs/1912.13200, sec. 3."""
import functools
import warnings

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers.adder import chunks
from lwcourse.layers.adder.chunks import Pair, memory_format


class AdderConv2d(nn.Module):
    """Compare each patch with each kernel by their L1 distance: output = -sum |x - w| over the patch (sec. 3.1).

    Shape: (N, in_channels, H, W) -> (N, out_channels, H_out, W_out), as nn.Conv2d with the same arguments;
    the zeros of the padding take part in the distance.
    Cost: 2 * H_out * W_out * k*k * in_channels * out_channels additions, and no multiplication.
    The gradients are the paper's, not the derivative, which is only a sign: see `adder_conv2d`.
    Weights start as N(0, 1), biases as U(0, 1), as in the official code; `eta` is its learning-rate factor.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair = 1,
                 padding: int | Pair = 0, *, bias: bool = False, eta: float = 0.2):
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not eta > 0:
            raise ValueError(f"eta must be positive, got {eta}")
        self.in_channels, self.out_channels, self.eta = in_channels, out_channels, eta
        self.kernel_size = _pair("kernel_size", kernel_size, least=1)
        self.stride = _pair("stride", stride, least=1)
        self.padding = _pair("padding", padding, least=0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.rand(out_channels)) if bias else None

    def extra_repr(self) -> str:
        return (f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"padding={self.padding}, bias={self.bias is not None}, eta={self.eta}")

    def additions(self, x: Tensor, output: Tensor) -> int:
        """For lw.profile: each |x - w| costs a difference and a sum."""
        return 2 * output.numel() * self.weight[0].numel()

    def forward(self, x: Tensor) -> Tensor:
        return adder_conv2d(x, self.weight, self.bias, self.stride, self.padding, self.eta)


def _pair(name: str, value: int | Pair, least: int) -> Pair:
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or any(not isinstance(side, int) or side < least for side in pair):
        raise ValueError(f"{name} must be an integer of at least {least}, or two of them; got {value!r}")
    return pair


@torch.fx.wrap
def adder_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = (1, 1),
                 padding: Pair = (0, 0), eta: float = 0.2) -> Tensor:
    """-sum |x - w| over the patches of `x` (N, C, H, W), for each kernel of `weight` (O, C, k_h, k_w).

    With g the gradient of the output, that of the weight is sum g * (x - w) over all positions (sec. 3.2, full
    precision), scaled so that its L2 norm is eta * sqrt(k) for a weight of k numbers (sec. 3.3), and that of the
    input is sum g * clamp(w - x, -1, 1) (sec. 3.2, HardTanh). Computes in float32 at least, whatever autocast says.
    Raises ValueError when shapes do not fit. What torch.export, torch.jit.trace and ONNX record is the output alone.
    """
    if exporting():  # operators that every runtime knows
        output = plain_distances(x, weight, stride, padding)
    else:
        _check(x, weight, padding)
        if weight.shape[2:] == (1, 1) and padding == (0, 0) and stride != (1, 1):  # most pixels have no reader
            x = x[:, :, ::stride[0], ::stride[1]].contiguous(memory_format=memory_format(x))
            stride = (1, 1)
        dtype = torch.promote_types(x.dtype, weight.dtype)
        wide = torch.promote_types(dtype, torch.float32)
        output = _AdderConv2d.apply(x.to(wide), weight.to(wide), stride, padding, eta).to(dtype)
    return output if bias is None else output + bias[:, None, None]


def _check(x: Tensor, weight: Tensor, padding: Pair) -> None:
    if x.dim() != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(f"the input must be (N, {weight.shape[1]}, H, W), got shape {tuple(x.shape)}")
    sides = [side + 2 * more for side, more in zip(x.shape[2:], padding, strict=True)]
    if sides[0] < weight.shape[2] or sides[1] < weight.shape[3]:
        raise ValueError(f"a kernel of {weight.shape[2]} x {weight.shape[3]} does not fit into the padded input, "
                         f"which is {sides[0]} x {sides[1]}")


def exporting() -> bool:
    """Whether the code is recorded to be run elsewhere: by torch.jit.trace, torch.export or a converter to ONNX."""
    if torch.jit.is_tracing():
        return True
    if hasattr(torch.compiler, "is_exporting"):  # from PyTorch 2.7 on
        return torch.compiler.is_exporting()
    return torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def plain_distances(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """The forward pass in operators of ONNX, a place of the kernel at a time: memory as of one 1x1 kernel."""
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    height, width = weight.shape[2:]
    rows, columns = x.shape[2] - height + 1, x.shape[3] - width + 1
    output = 0
    for i in range(height):
        for j in range(width):
            part = x[:, None, :, i:i + rows:stride[0], j:j + columns:stride[1]]
            output = output - (part - weight[:, :, i, j, None, None]).abs().sum(2)
    return output


class _AdderConv2d(torch.autograd.Function):
    """The output, and in its backward pass the gradients that the paper puts in the place of its derivative."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, eta: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.eta = stride, padding, eta
        return _implementation(x).distances(x, weight, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = _implementation(x).input_gradient(x, weight, grad, ctx.stride, ctx.padding)
            if ctx.needs_input_grad[1]:
                # sum g * (x - w) = sum g * x - w * sum g, and the first is a convolution's weight gradient.
                grad_weight = nn.grad.conv2d_weight(x, weight.shape, grad, ctx.stride, ctx.padding)
                grad_weight -= weight * grad.sum((0, 2, 3))[:, None, None, None]
                norm = grad_weight.norm().clamp(min=1e-12)
                grad_weight *= ctx.eta * grad_weight.numel()**0.5 / norm
        return grad_x, grad_weight, None, None, None


def _implementation(x: Tensor):
    """What computes the two sums: kernels for the CPU where numba is installed, else operators of PyTorch."""
    kernels = fast_kernels() if x.device.type == "cpu" else None
    if kernels is not None and torch.compiler.is_compiling():
        from lwcourse.layers.adder import opaque
        return opaque
    return kernels or chunks


@functools.cache
def fast_kernels():
    """The module with the kernels, which is imported on first use; None, with a hint, where numba is missing."""
    try:
        from lwcourse.layers.adder import kernels
    except ImportError as error:
        warnings.warn(f"adder layers run on PyTorch's operators ({error}); with numba they are ten times as fast: "
                      "pip install 'lwcourse[fast]'", stacklevel=2)
        return None
    return kernels
