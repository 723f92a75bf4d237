"""The kernels as operators that torch.compile puts into its graph whole, instead of reading the code inside them."""
import torch
from torch import Tensor

from lwcourse.layers.adder import kernels
from lwcourse.layers.adder.chunks import memory_format, output_sides


@torch.library.custom_op("lwcourse::adder_distances", mutates_args=())
def distances(x: Tensor, weight: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    return kernels.distances(x, weight, tuple(stride), tuple(padding))


@distances.register_fake
def _(x: Tensor, weight: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    shape = len(x), len(weight), *output_sides(x, weight, stride, padding)
    return x.new_empty(shape).contiguous(memory_format=memory_format(x))


@torch.library.custom_op("lwcourse::adder_input_gradient", mutates_args=())
def input_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    return kernels.input_gradient(x, weight, grad, tuple(stride), tuple(padding))


@input_gradient.register_fake
def _(x: Tensor, weight: Tensor, grad: Tensor, stride: list[int], padding: list[int]) -> Tensor:
    return x.new_empty(x.shape).contiguous(memory_format=memory_format(x))
