"""Two questions that only places can answer, asked of real digits (8 x 8) on an empty canvas that has no border.

The canvas closes on itself, as a torus does: what leaves it on the right comes in on the left.
"""
from numbers import Integral

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lwcourse.data.base import Data, check_memory, check_whole, on_cpu
from lwcourse.data.classification import _split_digits

DIGIT = 8
GAPS = (14, 16, 18)  # pixels from one digit to the other: at least 6 empty ones between them, either way round


@on_cpu
def digit_pairs(*, train: int = 400, test: int = 400, image_size: int = 32, seed: int = 0) -> Data:
    """Two digits on a canvas, in even rows and columns: is one beside the other, or above it?

    Both classes hold the same digits at the same distances. Whoever looks at no more than 6 empty pixels at
    once sees one digit at a time, and the same ones in both classes.
    """
    generator, splits = _start(train, test, image_size, seed)
    parts = []
    for digits, count in splits:
        first, second = (_draw(digits, count, image_size, generator) for _ in range(2))
        labels = torch.arange(count) % 2
        gap = torch.tensor(GAPS)[torch.randint(len(GAPS), (count,), generator=generator)]
        shifts = torch.stack([gap * (labels == 1), gap * (labels == 0)], dim=1)  # rows, columns
        places = 2 * torch.randint(image_size // 2, (count, 2), generator=generator)
        parts.append((_roll(first + _roll(second, shifts), places), labels))
    return _data("digit_pairs", parts, ("side by side", "one above the other"))


@on_cpu
def digit_sides(*, train: int = 400, test: int = 400, image_size: int = 32, seed: int = 0) -> Data:
    """One digit in an even row and column: is it in the left half of the canvas, or in the right one?"""
    generator, splits = _start(train, test, image_size, seed)
    parts = []
    half = image_size // 2
    for digits, count in splits:
        labels = torch.arange(count) % 2
        rows = 2 * torch.randint(half, (count,), generator=generator)
        columns = half * labels + 2 * torch.randint((half - DIGIT) // 2 + 1, (count,), generator=generator)
        canvas = _draw(digits, count, image_size, generator)
        parts.append((_roll(canvas, torch.stack([rows, columns], dim=1)), labels))
    return _data("digit_sides", parts, ("left", "right"))


def _start(train: int, test: int, image_size: int, seed: int) -> tuple[torch.Generator, list[tuple[Tensor, int]]]:
    counts = check_whole("train", train, 2), check_whole("test", test, 2)
    if isinstance(image_size, bool) or not isinstance(image_size, Integral) or (
            image_size % 4 or not 32 <= image_size <= 128):
        raise ValueError(f"image_size must be a multiple of 4 from 32 to 128, got {image_size!r}")
    check_memory(f"{sum(counts):,} canvases of {image_size} x {image_size}", sum(counts), 4 * int(image_size)**2)
    digits = [images for images, _ in _split_digits(seed)]
    return torch.Generator().manual_seed(int(seed)), list(zip(digits, counts, strict=True))


def _draw(digits: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """`count` digits drawn from `digits`, each in the corner of its canvas: (count, 1, size, size)."""
    canvas = torch.zeros(count, 1, size, size)
    canvas[..., :DIGIT, :DIGIT] = digits[torch.randint(len(digits), (count,), generator=generator)]
    return canvas


def _roll(canvases: Tensor, shifts: Tensor) -> Tensor:
    """Each canvas moved round by its own (rows, columns)."""
    return torch.stack([canvas.roll(tuple(shift), (1, 2)) for canvas, shift in
                        zip(canvases, shifts.tolist(), strict=True)])


def _data(name: str, parts: list[tuple[Tensor, Tensor]], classes: tuple[str, str]) -> Data:
    images = parts[0][0]
    std, mean = torch.std_mean(images)
    sets = [TensorDataset((pictures - mean) / std, labels) for pictures, labels in parts]
    return Data(name, *sets, classes, tuple(images.shape[1:]), (mean.item(),), (std.item(),))
