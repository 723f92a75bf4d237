"""What the operators of a learner's network read: its weights, its input, or numbers from elsewhere."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lwcourse.checks import fail
from lwcourse.checks.helpers.slips import refuse_layers_made
from lwcourse.checks.helpers.watch import watch

PRODUCTS = ("mul", "mul_", "addcmul", "addcmul_", "div", "div_")
CONSTANT = 16  # different values that tensors from elsewhere may have in all, as a mask or the mean of colours has


class Operators(TorchDispatchMode):
    """Looks at every operator that runs while it is entered.

    `products`: elements of products in which one factor comes from parameters or buffers alone; `foreign`: shapes of
    floating-point tensors that are neither the network's, nor its input, nor made from them or by a function;
    `standard`: (kernel, in_channels, out_channels) of convolutions with one group and a kernel larger than one pixel.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else PyTorch imports its compiler, for seconds, at the first use
        return False

    def __init__(self, network: nn.Module, *inputs: Tensor):
        super().__init__()
        weights = [*network.parameters(), *network.buffers()]
        self._kept = [tensor.untyped_storage() for tensor in (*weights, *inputs)]  # alive, so that addresses stay apart
        self._known = {storage.data_ptr() for storage in self._kept}
        self._fixed = {tensor.untyped_storage().data_ptr() for tensor in weights}
        self._constants: set[float] = set()  # the different values of all tensors from elsewhere
        self.products = 0
        self.foreign: list[tuple[int, ...]] = []
        self.standard: list[tuple[tuple[int, ...], int, int]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[-1]
        operands = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        self.foreign += [tuple(a.shape) for a in operands if self._is_foreign(a)]
        if name == "convolution" and args[8] == 1 and any(side > 1 for side in args[1].shape[2:]):
            weight, transposed = args[1], args[6]
            outputs, inputs = weight.shape[1::-1] if transposed else weight.shape[:2]
            self.standard.append((tuple(weight.shape[2:]), inputs, outputs))
        result = func(*args, **(kwargs or {}))
        fixed = [a.untyped_storage().data_ptr() in self._fixed for a in operands]
        made = [a.untyped_storage() for a in tree_leaves(result) if isinstance(a, Tensor)]
        self._kept += made
        self._known.update(storage.data_ptr() for storage in made)
        if operands and all(fixed):
            self._fixed.update(storage.data_ptr() for storage in made)
        elif any(fixed) and name in PRODUCTS:
            self.products += result.numel()
        return result

    def _is_foreign(self, tensor: Tensor) -> bool:
        """Whether it comes from elsewhere, and all that does has too many different values for masks and the like."""
        storage = tensor.untyped_storage()
        if not tensor.is_floating_point() or storage.data_ptr() in self._known or tensor.numel() < 2:
            return False
        self._constants.update(tensor.detach().flatten().tolist())
        return len(self._constants) > CONSTANT


def operators_of(network: nn.Module, size: Sequence[int]) -> Operators:
    """What runs for one image of `size`."""
    image = torch.zeros(1, *size)
    with torch.no_grad(), Operators(network, image) as seen:
        network(image)
    return seen


def first_output(network: nn.Module, x: Tensor) -> Any:
    """What a learner's network gives for `x`, by itself, so that an error is told with its line; refused where its
    forward makes layers, or reads numbers that are not its own, in eval mode or in training."""
    given = x.clone()
    with torch.no_grad(), Operators(network, given) as operators, watch() as seen:
        y = network(given)
    refuse_layers_made(seen)
    twin = copy.deepcopy(network).train(not network.training)
    given = x.clone()
    with torch.no_grad(), Operators(twin, given) as others:
        twin(given)
    if foreign := operators.foreign + others.foreign:
        fail(f"a tensor of shape {foreign[0]} is used that is no part of your network: neither one of its parameters "
             "or buffers nor made in forward. The check draws all weights anew, so numbers from outside gain nothing",
             "self.register_buffer makes a fixed tensor a part of the network")
    if isinstance(y, Tensor) and not torch.isfinite(y).all():
        fail("for random numbers your network gives NaN or infinity: is there a division by zero, or a root or a "
             "logarithm of a negative number?")
    return y


def refuse_standard_convolutions(network: nn.Module, size: Sequence[int], instead: str) -> None:
    """Refuse convolutions with one group and a kernel of more than one pixel, but for those that read the image.

    `instead` says what the sheet wants in their place.
    """
    if wide := [one for one in operators_of(network, size).standard if one[1] > size[0]]:
        kernel, inputs, outputs = wide[0]
        fail(f"your network has a standard {'x'.join(map(str, kernel))} convolution, from {inputs} to {outputs} "
             f"channels. A plain CNN has no score here: only layers that read the image may be such, and {instead} are "
             "needed behind them")
