"""How fast training images are made: torchvision's transforms image by image, beside whole batches in memory."""
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lwcourse.data import Augment, ImagesInMemory
from lwcourse.data.cifar import CIFAR_NORM
from lwcourse.running import cpu_threads, whole_number
from lwcourse.tables import counted, text_table

IMAGES, BATCH_SIZE, ROUNDS, WORKERS = 5000, 128, 5, (0, 2)
OURS = "ImagesInMemory.batch"


class ImageByImage(Dataset):
    """CIFAR-shaped images, each with its own transforms: as PIL images, as CIFAR10 gives them, or as tensors."""

    def __init__(self, images: Tensor, as_pil: bool):
        from torchvision.transforms import v2
        self.images = images.permute(0, 2, 3, 1).numpy() if as_pil else images
        self.as_pil = as_pil
        shake = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
        self.transform = v2.Compose([*shake, *[v2.ToImage()] * as_pil, v2.ToDtype(torch.float32, scale=True),
                                     v2.Normalize(*CIFAR_NORM), v2.ToPureTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image
        image = self.images[index]
        return self.transform(Image.fromarray(image) if self.as_pil else image), 0


def contenders(images: int, batch_size: int) -> dict[str, Callable[[], Iterable[tuple[Tensor, Tensor]]]]:
    """What goes once through all the images, cropped, mirrored and normalised, in a new order each time."""
    stored = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    memory = ImagesInMemory(stored, torch.zeros(images, dtype=torch.long), *CIFAR_NORM,
                            augment=Augment(padding=4, flip=True))

    def whole_batches() -> Iterable[tuple[Tensor, Tensor]]:
        for epoch, indices in enumerate(torch.randperm(images).split(batch_size)):
            yield memory.batch(indices, seed=0, epoch=epoch, device=torch.device("cpu"))

    def loader(as_pil: bool, workers: int) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
        made = DataLoader(ImageByImage(stored, as_pil), batch_size, shuffle=True, num_workers=workers,
                          persistent_workers=workers > 0)  # starting them is left to the first round
        return lambda: made
    peers = {f"torchvision, {kind}, {counted(workers, 'worker')}": loader(kind == "PIL images", workers)
             for workers in WORKERS for kind in ("PIL images", "tensors")}
    return {**peers, OURS: whole_batches}


def rates(passes: dict[str, Callable[[], Iterable]], images: int, rounds: int) -> dict[str, float]:
    """Images a second, by name: medians of interleaved rounds, after one that does not count."""
    seconds = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, once in passes.items():
            start = time.perf_counter()
            for _ in once():
                pass
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: images / median(values) for name, values in seconds.items()}


def report(*, images: int = IMAGES, rounds: int = ROUNDS, batch_size: int = BATCH_SIZE,
           threads: int | None = None) -> str:
    """The table as text. Raises ValueError for numbers that nothing can be measured with."""
    images, rounds = whole_number("images", images, 1), whole_number("rounds", rounds, 1)
    batch_size = whole_number("batch_size", batch_size, 1)
    with cpu_threads(threads) as used:
        found = rates(contenders(images, batch_size), images, rounds)
    rows = [("input of 32 x 32", "images / s", "ours / this"),
            *((name, f"{rate:,.0f}", f"{found[OURS] / rate:.1f}") for name, rate in found.items())]
    fastest = max(rate for name, rate in found.items() if name != OURS)
    return (f"{text_table(rows)}\n{counted(used, 'thread')}, batches of {batch_size}, "
            f"medians of {counted(rounds, 'interleaved round')} of {counted(images, 'image')}: {OURS} is "
            f"{found[OURS] / fastest:.1f} times as fast as the fastest other")
