"""What a run changes of a model: which modules train, and what is put back when the run fails."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from lwcourse.running import unwrapped
from lwcourse.train.device import named_tensors


def modules_that_stay(model: nn.Module) -> list[nn.Module]:
    """The modules that stay in evaluation mode when `model` is trained; `fit` documents the rule."""
    stay = []
    in_training = model.training and any(module.training for module in model.modules()
                                         if next(module.children(), None) is None)

    def visit(module: nn.Module, frozen: bool) -> None:
        parameters = list(module.parameters())
        frozen = frozen or bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
        has_statistics = next(module.buffers(recurse=False), None) is not None
        if (not module.training and (frozen or in_training)) or (frozen and has_statistics):
            stay.append(module)
        for child in module.children():
            visit(child, frozen)

    visit(model, frozen=False)
    return stay


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class Fallback:
    """The weights, buffers and modes of a model, to be put back when a run fails."""

    def __init__(self, model: nn.Module):
        self.network = unwrapped(model)
        self.modes = {module: module.training for module in model.modules()}
        self.keep(self.network)

    def keep(self, source: nn.Module) -> None:
        """From now on, fall back on the values of `source`: the network without wrappers, or its average."""
        self.values = {name: tensor.detach().clone() for name, tensor in named_tensors(source).items()}

    @torch.no_grad()
    def restore_values(self) -> None:
        for name, tensor in named_tensors(self.network).items():
            value = self.values.get(name, tensor)
            if tensor.shape != value.shape:
                tensor.data = value
            elif not torch.equal(tensor, value):
                tensor.copy_(value)

    def restore_modes(self) -> None:
        for module, mode in self.modes.items():
            module.training = mode
