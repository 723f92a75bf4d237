"""How fast training images are made and learned: whole batches in memory beside torchvision's transforms image by
image, and a step of `lw.fit` beside that of a plain loop."""
import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lwcourse as lw
from lwcourse.data import Augment, Data, ImagesInMemory
from lwcourse.data.cifar import CIFAR_NORM
from lwcourse.running import cpu_threads, whole_number
from lwcourse.tables import counted, text_table

IMAGES, BATCH_SIZE, ROUNDS, WORKERS = 5000, 128, 5, (0, 2)
OURS = "ImagesInMemory.batch"
NETWORK, STEPS = "mobilenet_v2", 6


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


def plain_steps(network: nn.Module, data: Data, batch_size: int, marks: list[float]) -> None:
    """One epoch of the loop that torchvision's references have: SGD, cross-entropy, loss and accuracy of each step."""
    optimizer = torch.optim.SGD(network.parameters(), 0.02, 0.9, nesterov=True, weight_decay=1e-4)
    network.train()
    for indices in torch.randperm(len(data.train)).split(batch_size):
        images, labels = (tensor[indices] for tensor in data.train.tensors)
        logits = network(images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item(), (logits.argmax(1) == labels).sum().item()
        marks.append(time.perf_counter())


def step_seconds(name: str, *, steps: int, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of a training step of the network `name` on 32 x 32 pixels, ours and the plain loop's: medians over the
    steps of interleaved epochs, the first step of each left out."""
    images = torch.randn(steps * batch_size, 3, 32, 32)
    part = TensorDataset(images, torch.randint(10, (len(images),)))
    data = Data("noise", part, TensorDataset(images[:2], part.tensors[1][:2]), tuple("0123456789"), (3, 32, 32),
                (0.0,) * 3, (1.0,) * 3)
    networks = {who: lw.create_model(name, 10).to(memory_format=torch.channels_last) for who in ("fit", "plain loop")}
    seconds: dict[str, list[float]] = {who: [] for who in networks}
    for _ in range(rounds):
        for who, network in networks.items():
            marks: list[float] = []
            if who == "fit":
                lw.fit(network, data, epochs=1, batch_size=batch_size, channels_last=True, progress=False, device="cpu",
                       watch=lambda run, marks=marks: marks.append(time.perf_counter()) if run.step else None)
            else:
                plain_steps(network, data, batch_size, marks)
            seconds[who] += [after - before for before, after in zip(marks, marks[1:], strict=False)]
    return {who: median(values) for who, values in seconds.items()}


def report(*, images: int = IMAGES, rounds: int = ROUNDS, batch_size: int = BATCH_SIZE,
           threads: int | None = None) -> str:
    """The table as text. Raises ValueError for numbers that nothing can be measured with."""
    images, rounds = whole_number("images", images, 1), whole_number("rounds", rounds, 1)
    batch_size = whole_number("batch_size", batch_size, 1)
    with cpu_threads(threads) as used:
        found = rates(contenders(images, batch_size), images, rounds)
        steps = step_seconds(NETWORK, steps=STEPS, batch_size=batch_size, rounds=rounds)
    rows = [("input of 32 x 32", "images / s", "ours / this"),
            *((name, f"{rate:,.0f}", f"{found[OURS] / rate:.1f}") for name, rate in found.items())]
    fastest = max(rate for name, rate in found.items() if name != OURS)
    return (f"{text_table(rows)}\n{counted(used, 'thread')}, batches of {batch_size}, "
            f"medians of {counted(rounds, 'interleaved round')} of {counted(images, 'image')}: {OURS} is "
            f"{found[OURS] / fastest:.1f} times as fast as the fastest other\n"
            f"A training step of {NETWORK}, channels_last: {steps['fit']:.4f} s in fit, {steps['plain loop']:.4f} s in "
            f"a plain loop, a ratio of {steps['fit'] / steps['plain loop']:.2f}")
