"""How the tools run a network: in eval mode, on its device, and so that it is afterwards as it was before."""
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from numbers import Integral

import torch
from torch import Tensor, nn

THREADS_A_PROCESSOR = 4  # more only wait for one another; tens of thousands of threads end the process


def whole_number(name: str, value: int, least: int, most: int | None = None, why: str = "") -> int:
    """`value` as an int, NumPy's integers included. Raises ValueError for any other type, or outside the range."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return int(value)
    allowed = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    raise ValueError(f"{name} must be {allowed}{why}, got {value!r}")


def drop_output() -> None:
    """Write nothing more to a standard output that nobody reads, nor what is left of it when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error_words(error: Exception) -> str:
    """What an exception says, with its type unless it is a ValueError, whose words are a sentence."""
    text = str(error)
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        return "there is not enough memory for it"
    if isinstance(error, ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch.compile's, DataParallel's and DistributedDataParallel's wrappers."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def plain_network(model: nn.Module, purpose: str) -> nn.Module:
    """The network inside the wrappers of torch.compile and of data parallelism.

    Raises TypeError for anything but an nn.Module, and ValueError for lazy layers that have no shapes yet.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"{purpose} takes a torch.nn.Module, got {type(model).__name__}"
                        + (f" {model.__name__}, a class: build the network first" if isinstance(model, type) else ""))
    model = unwrapped(model)
    refuse_lazy(model, purpose)
    return model


def refuse_lazy(model: nn.Module, purpose: str) -> None:
    if any(nn.parameter.is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(f"{type(model).__name__} has lazy layers without shapes yet: run it once, then call {purpose}")


def check_images(models: Mapping[str, nn.Module], x: Tensor) -> None:
    """Raise TypeError unless `x` is a tensor, and ValueError unless it holds numbers, on the device of each model."""
    if not isinstance(x, Tensor):
        hint = "; torch.from_numpy(x) makes one" if type(x).__module__ == "numpy" else ""
        raise TypeError(f"x must be a tensor such as torch.randn(1, 3, 224, 224), got {type(x).__name__}{hint}")
    if not x.numel():
        raise ValueError(f"x must hold at least one image, got shape {tuple(x.shape)}")
    for name, model in models.items():
        device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), x.device)
        if device != x.device:
            raise ValueError(f"model {name!r} is on {device}, but x is on {x.device}; move one with .to()")
    if x.device.type == "meta":
        raise ValueError("tensors on the meta device have shapes but no numbers, so nothing can be timed; build the "
                         "network on a device such as 'cpu'")


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode inside the block; afterwards each module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    try:
        with suppress(NotImplementedError):  # an exported network stays in the mode that it was exported in
            model.eval()
        yield model
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def unchanged(models: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """Eval mode inside the block; afterwards modes, buffers and the states of random generators are as before."""
    from lwcourse.train.device import random_state_kept
    models = list(models)
    whole = nn.ModuleList(models)
    tables = [(table, dict(table)) for module in whole.modules() for table in (module._parameters, module._buffers)
              if isinstance(table, dict)]  # a module of TorchScript has something else
    with torch.no_grad():
        values = [(buffer, buffer.detach().clone()) for buffer in whole.buffers()]
    try:
        with random_state_kept(device), ExitStack() as modes:
            for model in models:
                modes.enter_context(eval_mode(model))
            yield
    finally:
        for table, before in tables:
            if len(table) != len(before) or any(table.get(name) is not tensor for name, tensor in before.items()):
                table.clear()
                table.update(before)
        restore(values)


def restore(values: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Write each second tensor into the first, where they differ."""
    for tensor, before in values:
        with torch.inference_mode(tensor.is_inference()), torch.no_grad():
            if tensor.device.type != "meta" and not torch.equal(tensor, before):
                tensor.copy_(before)


@contextmanager
def cpu_threads(count: int | None) -> Iterator[int]:
    """PyTorch's CPU threads inside the block; yields how many they are.

    Raises ValueError unless `count` is None or a whole number from 1 to four for each processor.
    """
    before = torch.get_num_threads()
    used = before if count is None else check_threads(count)
    torch.set_num_threads(used)
    try:
        yield used
    finally:
        torch.set_num_threads(before)


def check_threads(count: int) -> int:
    processors = os.cpu_count() or 1
    return whole_number("threads", count, 1, THREADS_A_PROCESSOR * processors,
                        f" (this machine has {processors} processors, and {THREADS_A_PROCESSOR} threads for each "
                        "are the most)")


def device_name(device: torch.device) -> str:
    """A name for people: the graphics card's own, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def synchronise(device: torch.device) -> None:
    """Wait until a device has finished what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        getattr(torch, device.type).synchronize()


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start
