"""Images that fit in memory, and a whole batch of them cropped, mirrored and normalised at once."""
import math
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset

from lwcourse.data.augment import Augment, policy_transform
from lwcourse.data.base import check_image_size
from lwcourse.data.draws import mixed, uniform
from lwcourse.running import cpu_threads

ERASED_AREA, ERASED_RATIO, TRIES = (0.02, 0.33), (0.3, 3.3), 10  # RandomErasing's: share of the image, height / width
TOP, LEFT, FLIP, ERASE, ERASED_TOP, ERASED_LEFT, SIZES = range(7)  # which draw is for what; the sizes come last
DRAWS = SIZES + 2 * TRIES
POLICY_SEED = 2**32  # far from the draws above


class ImagesInMemory(Dataset):
    """A data set of uint8 images that are changed at random, resized and normalised when they are asked for.

    images: (N, channels, height, width) uint8, in any memory layout; labels: (N,) whole numbers, as `targets` again.
    mean, std: one number a channel, for pixels in [0, 1].
    augment: what is changed at random, None for test images. image_size: resize to (image_size, image_size), bilinear
    with antialiasing, after the crop and before the box is erased.

    `batch` is made for training: the images go to the device once, as bytes, and a batch is a few operations there
    (a `policy` alone runs image by image, on the CPU). `dataset[i]` is the pair (image, label), for whoever wants one:
    with `augment`, PyTorch's random numbers decide how it is changed, as they do in torchvision's data sets.

    Raises ValueError for images, labels, mean or std of another form.
    """

    def __init__(self, images: Tensor, labels: Tensor | Sequence[int], mean: Sequence[float], std: Sequence[float], *,
                 augment: Augment | None = None, image_size: int | None = None):
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
            got = f"{images.dtype} of shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images)
            raise ValueError(f"images must be a uint8 tensor (N, channels, height, width), none of them 0, got {got}")
        labels = torch.as_tensor(labels, device="cpu")
        if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"labels must be {len(images)} whole numbers, one an image, got {labels.dtype} of shape "
                             f"{tuple(labels.shape)}")
        mean, std = tuple(mean), tuple(std)
        if not len(mean) == len(std) == images.shape[1] or not all(value > 0 for value in std):
            raise ValueError(f"mean and std must be {images.shape[1]} numbers, one a channel, std positive, got "
                             f"mean={mean} and std={std}")
        if augment is not None and not isinstance(augment, Augment):
            raise ValueError(f"augment must be None or an Augment, such as Augment(padding=4), got {augment!r}")
        if image_size is not None:
            image_size = check_image_size(image_size, 1, 4096)
        self.pixels = images.permute(0, 2, 3, 1).contiguous()  # a pixel's channels side by side are gathered together
        self.targets = labels.long()
        self.mean, self.std, self.augment, self.image_size = mean, std, augment, image_size
        self._copies = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that it gives."""
        _, height, width, channels = self.pixels.shape
        return (channels, height, width) if self.image_size is None else (channels, self.image_size, self.image_size)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no image {index}, only {len(self)} of them")
        seed = int(torch.randint(2**63 - 1, (), device="cpu")) if self.augment is not None else 0
        images, labels = self.batch(torch.tensor([index % len(self)], device="cpu"), seed=seed, epoch=0, device="cpu")
        return images[0].contiguous(), labels.item()

    def batch(self, indices: Tensor, *, seed: int, epoch: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch, on `device`: (N, channels, height, width) float32 and (N,) int64.

        `indices` is a CPU tensor (N,). Images are normalised, in channels_last, and changed as seed, epoch and their
        own index say, whatever else is in the batch.
        """
        device = torch.device(device)
        # A batch is too small to be worth two threads: on a busy processor they wait for each other.
        with cpu_threads(1) if device.type == "cpu" else nullcontext():
            return self._batch(indices, seed, epoch, device)

    def _batch(self, indices: Tensor, seed: int, epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        pixels, labels = self._on(device)
        numbers, place = indices.numpy(), indices.to(device)
        chosen, change = pixels.index_select(0, place), self.augment
        if change is not None:
            draws = uniform(seed, epoch, numbers, DRAWS)
            chosen = _cropped(chosen, draws, change)
            if change.policy is not None:
                chosen = _with_policy(chosen, change.policy, mixed(seed, epoch, numbers, POLICY_SEED))
        if self.image_size is not None:
            chosen = _resized(chosen, self.image_size)
        images = self._normalised(chosen)
        if change is not None and change.erasing:
            images.masked_fill_(_boxes(draws, change.erasing, *images.shape[1:3]).to(device).unsqueeze(-1), 0)
        return images.permute(0, 3, 1, 2), labels[place]

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._copies:
            self._copies[device] = self.pixels.to(device), self.targets.to(device)
        return self._copies[device]

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(N, height, width, channels) float32. Whole rows are scaled, since 3 channels are too few to vectorise."""
        width = pixels.shape[2]
        scale = torch.tensor([1 / (255 * std) for std in self.std] * width, device=pixels.device)
        shift = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)] * width,
                             device=pixels.device)
        return pixels.flatten(2).float().mul_(scale).add_(shift).view(pixels.shape)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_copies": {}}

    def __repr__(self) -> str:
        _, height, width, channels = self.pixels.shape
        resized = f" resized to {self.image_size} x {self.image_size}" * (self.image_size is not None)
        changed = f", {self.augment}" * (self.augment is not None)
        return f"ImagesInMemory: {len(self):,} images of {channels} x {height} x {width}{resized}{changed}"


def _cropped(pixels: Tensor, draws: ndarray, change: Augment) -> Tensor:
    """Images (N, H, W, C), shifted and mirrored: one gather, in which a mirrored image counts its columns backwards."""
    if not (change.padding or change.flip):
        return pixels
    count, height, width, channels = pixels.shape
    padding = change.padding
    padded = torch.nn.functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    shifts = np.floor(draws[:, [TOP, LEFT]] * (2 * padding + 1)).astype(np.int64)
    rows = shifts[:, :1] + np.arange(height)
    columns = shifts[:, 1:] + np.arange(width)
    if change.flip:
        columns = np.where(draws[:, FLIP, None] < 0.5, columns[:, ::-1], columns)
    rows += np.arange(count)[:, None] * padded.shape[1]
    rows, columns = (torch.from_numpy(part).to(pixels.device) for part in (rows * padded.shape[2], columns))
    place = rows.unsqueeze(2) + columns.unsqueeze(1)
    return padded.view(-1, channels).index_select(0, place.view(-1)).view(pixels.shape)


def _with_policy(pixels: Tensor, policy: str, seeds: ndarray) -> Tensor:
    """Images (N, H, W, C) uint8, each changed by torchvision's transform under a seed of its own."""
    transform = policy_transform(policy)
    with torch.random.fork_rng(devices=[]):
        changed = []
        for image, seed in zip(pixels.cpu().permute(0, 3, 1, 2), seeds.tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            changed.append(transform(image).permute(1, 2, 0))
    return torch.stack(changed).to(pixels.device)


def _resized(pixels: Tensor, size: int) -> Tensor:
    from torchvision.transforms.v2 import functional as transforms
    return transforms.resize(pixels.permute(0, 3, 1, 2), [size, size], antialias=True).permute(0, 2, 3, 1).contiguous()


def _boxes(draws: ndarray, probability: float, height: int, width: int) -> Tensor:
    """Which pixels (N, H, W) are erased. As in RandomErasing, a box is the first of ten that is smaller than the image.

    (Where none is, nothing is erased.)
    """
    area, ratio = np.split(draws[:, SIZES:], 2, axis=1)
    area = height * width * (ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0]))
    low, high = map(math.log, ERASED_RATIO)
    ratio = np.exp(low + ratio * (high - low))
    heights, widths = np.sqrt(area * ratio).round(), np.sqrt(area / ratio).round()
    fits = (heights < height) & (widths < width)
    first = fits.argmax(1)[:, None]
    tall, wide = (np.take_along_axis(sides, first, 1) for sides in (heights, widths))
    top = np.floor(draws[:, ERASED_TOP, None] * (height - tall + 1))
    left = np.floor(draws[:, ERASED_LEFT, None] * (width - wide + 1))
    y, x = np.arange(height), np.arange(width)
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    rows &= ((draws[:, ERASE] < probability) & fits.any(1))[:, None]
    return torch.from_numpy(rows[:, :, None] & columns[:, None, :])
