"""The batches of a data set, from any place in any epoch: what is drawn depends on (seed, epoch, index) alone."""
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lwcourse.train.device import batches, mixed, on_cpu, seed_processor
from lwcourse.train.processes import Processes

ORDER, SAMPLE = 1, 2  # what random numbers are for, so that no two uses share theirs


class Seeded(Dataset):
    """A data set whose n-th image of an epoch is the same, whichever process loads it and whatever it loaded before."""

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        seed_processor(mixed(self.seed, epoch, index, SAMPLE))
        return self.dataset[index]


class _Keys:
    """A batch sampler of the batches that it was given last; the workers of a loader stay from epoch to epoch."""

    def __init__(self):
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Batches:
    """Images and targets in batches of `batch_size`, of which each of several `processes` gets its part.

    Data sets that have `batch(indices, seed=, epoch=, device=)`, as `ImagesInMemory` does, make a batch at once, on the
    device; a TensorDataset is indexed; of any other, a DataLoader with `num_workers` loads image by image.
    A last batch of one image is left out, unless it is the only one: BatchNorm cannot train on it.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, seed: int = 0, device: torch.device,
                 num_workers: int = 0, pin_memory: bool = False, processes: Processes | None = None):
        self.dataset, self.batch_size, self.seed, self.device = dataset, batch_size, seed, device
        self.processes = processes or Processes()
        self.keys, self.loader = _Keys(), None
        if type(dataset) is not TensorDataset and not hasattr(dataset, "batch"):
            self.loader = DataLoader(Seeded(dataset, seed), batch_sampler=self.keys, num_workers=num_workers,
                                     pin_memory=pin_memory, persistent_workers=num_workers > 0)

    @property
    def count(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 1 or (rest == 1 and whole == 0))

    def epoch(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Any, bool]]:
        """The batches of an epoch, counted from 0, in its own order, from batch `first` on; the last item tells whether
        this process learns from it.

        A batch with less than two images a process is learned by the first process; the others get it to keep step.
        """
        with on_cpu():
            generator = torch.Generator().manual_seed(mixed(self.seed, number, 0, ORDER))
            order = torch.randperm(len(self.dataset), generator=generator)
            parts = [self._own(part) for part in order.split(self.batch_size)[first:self.count]]
        for batch, (_, counts) in zip(self._fetched([part for part, _ in parts], number), parts, strict=True):
            yield *batch, counts

    def _own(self, batch: Tensor) -> tuple[Tensor, bool]:
        if len(batch) < 2 * self.processes.count:
            return batch, self.processes.leads
        return batch.tensor_split(self.processes.count)[self.processes.rank], True

    def in_order(self) -> Iterator[tuple[Tensor, Any]]:
        """All images as they lie, each once; of several processes, each gets every n-th batch."""
        with on_cpu():
            parts = torch.arange(len(self.dataset)).split(self.batch_size)
        yield from self._fetched(list(parts[self.processes.rank::self.processes.count]), 0)

    def _fetched(self, parts: list[Tensor], epoch: int) -> Iterator[tuple[Tensor, Any]]:
        if self.loader is not None:
            self.keys.batches = [[(epoch, index) for index in part.tolist()] for part in parts]
            yield from batches(self.loader)
        elif hasattr(self.dataset, "batch"):
            for part in parts:
                yield self.dataset.batch(part, seed=self.seed, epoch=epoch, device=self.device)
        else:
            for part in parts:
                yield tuple(tensor[part] for tensor in self.dataset.tensors)
