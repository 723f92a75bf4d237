"""How much memory the maps of a network need at once: by who reads them last, and as eager PyTorch holds them."""
from collections.abc import Iterable
from weakref import finalize

from torch import Tensor

from lwcourse.operators import Access, storage_key


class Lifetimes:
    """When each storage was first written and last touched, in steps of the trace; one step is one operator.

    `constants` (parameters and buffers) are no activations; nor is a tensor that was there before the trace and is
    only read in it.
    """

    def __init__(self, constants: Iterable[Tensor]):
        self._constants = {storage_key(tensor) for tensor in constants}
        self._numbers: dict[int, int] = {}  # address of a storage that is alive -> its index in the lists below
        self._sizes: list[int] = []
        self._first: list[int] = []  # -1: allocated, and not written yet
        self._last: list[int] = []
        self._read: list[bool] = []
        self._step = 0

    def is_constant(self, tensor: Tensor) -> bool:
        return storage_key(tensor) in self._constants

    def is_known(self, tensor: Tensor) -> bool:
        key = storage_key(tensor)
        return key in self._constants or key in self._numbers

    def is_empty(self, tensor: Tensor) -> bool:
        """Whether the trace saw the tensor's memory come into being, and nothing that wrote into it."""
        number = self._numbers.get(storage_key(tensor))
        return number is not None and self._first[number] < 0

    def allocate(self, tensor: Tensor) -> None:
        """Note a new storage, that nothing is written into yet."""
        key = storage_key(tensor)
        if key in self._constants or key in self._numbers or key < 0:
            return
        storage = tensor.untyped_storage()
        self._numbers[key] = len(self._sizes)
        self._sizes.append(storage.nbytes())
        self._first.append(-1)
        self._last.append(-1)
        self._read.append(False)
        finalize(storage, self._numbers.pop, key, None)

    def step(self, access: Access) -> None:
        for tensor, _ in access.writes:
            self.allocate(tensor)
            self._touch(tensor)
        for tensor, _ in access.reads:
            self._touch(tensor, reads=True)
        self._step += 1

    def start(self, inputs: Iterable[Tensor]) -> None:
        for tensor in inputs:
            self.allocate(tensor)
            self._touch(tensor)

    def finish(self, outputs: Iterable[Tensor]) -> None:
        """What the network returns lives until its end."""
        for tensor in outputs:
            self._touch(tensor, reads=True)

    def _touch(self, tensor: Tensor, reads: bool = False) -> None:
        number = self._numbers.get(storage_key(tensor))
        if number is None:  # a weight, or a tensor from outside
            return
        if self._first[number] < 0:
            self._first[number] = self._step
        self._last[number] = self._step
        self._read[number] |= reads

    def number(self, tensor: Tensor) -> int | None:
        return self._numbers.get(storage_key(tensor))

    def forget_unread(self, number: int) -> bool:
        """Drop a side result unless something read it; whether it was dropped."""
        if self._read[number]:
            return False
        self._sizes[number] = 0
        return True

    def peak(self) -> int:
        """Most bytes alive in one step."""
        changes = [0] * (self._step + 2)
        for size, first, last in zip(self._sizes, self._first, self._last, strict=True):
            if first >= 0:
                changes[first] += size
                changes[last + 1] -= size
        live = peak = 0
        for change in changes:
            live += change
            peak = max(peak, live)
        return peak


class EagerMemory:
    """Bytes of tensors that Python and PyTorch hold, and the most of them at once."""

    def __init__(self, constants: Iterable[Tensor] = ()):
        self.live = self.peak = 0
        self._storages = {storage_key(tensor) for tensor in constants}

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's memory as live until Python and PyTorch let go of it."""
        key = storage_key(tensor)
        if key in self._storages or key < 0:  # a view, an in-place result, or a weight
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        self._storages.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._storages.discard(key)
        self.live -= size
