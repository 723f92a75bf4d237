"""Where a model runs, in which memory layout, and on which random numbers."""
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """`device` as a torch.device; None takes CUDA, else MPS, else the CPU.

    Raises ValueError for a device that PyTorch does not know or that this machine does not have, "meta" among
    them: it holds no values, so nothing can be trained, tested or fetched back from there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(name for name, present in available.items() if present))
    try:
        chosen = torch.device(device)
    except TypeError as error:
        raise ValueError(f"device must be None, a torch.device or its name, such as 'cpu', got {device!r}") from error
    except RuntimeError as error:
        raise ValueError(f"there is no device {device!r}: {error}") from error
    elsewhere = getattr(getattr(torch, chosen.type, None), "is_available", lambda: False)  # torch.xpu and the like
    if not (available[chosen.type] if chosen.type in available else elsewhere()):
        present = ", ".join(name for name in available if available[name])
        raise ValueError(f"device {device!r} is not available here; this machine has {present}")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r} is not available here; this machine has "
                         f"cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    return chosen


def mixed(*numbers: int) -> int:
    """A number of 32 bits mixed from all, so that no two runs, epochs or images overlap."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_everything(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch with what is mixed from these."""
    number = mixed(*numbers)
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def seed_processor(number: int) -> None:
    """Seed the generators of Python, NumPy, and PyTorch on the CPU."""
    random.seed(number)
    np.random.seed(number)
    torch.default_generator.manual_seed(number)


def seed_again(*numbers: int) -> None:
    """`seed_everything` for each single step: devices that nothing runs on yet are left out, as torch.manual_seed takes
    a millisecond to note down that they shall be seeded later."""
    number = mixed(*numbers)
    seed_processor(number)
    for backend in (torch.cuda, torch.xpu):
        if backend.is_initialized():
            backend.manual_seed_all(number)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(number)


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        if mps is not None:
            torch.mps.set_rng_state(mps)


def on_cpu() -> AbstractContextManager:
    """A context in which new tensors are on the CPU, whatever torch.set_default_device says.

    Data loaders need it: the generator that shuffles is one of the CPU.
    """
    return nullcontext() if torch.empty(0).device.type == "cpu" else torch.device("cpu")  # which is slower


def batches(loader: DataLoader) -> Iterator[Any]:
    """The batches of a loader, drawn `on_cpu`; what is done between two of them has the user's default device."""
    with on_cpu():
        iterator = iter(loader)
    while True:
        with on_cpu():
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@contextmanager
def placed(model: nn.Module, device: torch.device, channels_last: bool) -> Iterator[Callable[[Tensor], Tensor]]:
    """Move a model to a device and memory layout, and back at the end; yields what moves images there."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    before = {name: (tensor.device, tensor.shape, tensor.stride()) for name, tensor in named_tensors(model).items()}
    home = next((tensor.device for tensor in named_tensors(model).values()), device)
    try:
        model.to(device, memory_format=layout)
        yield lambda images: images.to(device, memory_format=layout)
    finally:
        model.to(home)
        for name, tensor in named_tensors(model).items():
            own, shape, stride = before.get(name, (tensor.device, None, None))
            if tensor.device != own:  # a network that was spread over several devices
                tensor.data = tensor.data.to(own)
            if tensor.shape == shape and tensor.stride() != stride:
                tensor.data = torch.empty_strided(shape, stride, dtype=tensor.dtype, device=own).copy_(tensor.detach())


def channels_last_is_safe(model: nn.Module) -> bool:
    """Whether a CPU can train `model` in channels_last.

    On processors with AVX2 but without AVX-512, PyTorch 2.14 overwrites memory when it computes the weight gradient
    of a strided 1x1 convolution of fewer than 8 channels in that layout, and the process dies.
    """
    return not any(isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
                   and module.in_channels // module.groups < 8 for module in model.modules())
