"""Several processes that train one network, as torchrun starts them; without it, a process is alone."""
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Processes:
    """This process among `count`; `rank` 0 is the one that writes files and prints."""
    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sums(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each value, summed over all processes in double precision."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device if device.type == "cuda" else "cpu")
        dist.all_reduce(total)
        return total.tolist()

    def gathered(self, value: Any) -> list[Any]:
        """What each process has, in the order of ranks, in all of them."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


def current_processes() -> Processes:
    """Those of torch.distributed's default group, where there is one."""
    if dist.is_available() and dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size())
    return Processes()


@contextmanager
def joined(device: str | None = None) -> Iterator[str | None]:
    """Join the processes that torchrun has started, and leave them at the end; yields the device of this one.

    Outside of torchrun it does nothing. On CUDA each process of a machine takes a GPU of its own, over NCCL; elsewhere
    they talk over gloo. Raises ValueError where a machine has more processes than GPUs.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield device
        return
    on_gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
    if on_gpu:
        local, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local >= gpus:
            raise ValueError(f"torchrun started {os.environ.get('LOCAL_WORLD_SIZE', local + 1)} processes on a machine "
                             f"with {gpus} GPUs; start one a GPU, or pass --device cpu")
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device or "cpu"
    finally:
        dist.destroy_process_group()
