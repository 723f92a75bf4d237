"""What every data set is made of: `Data`, its errors, the folder that holds downloads, checks of options."""
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

IGNORE_INDEX = -100  # PyTorch's label for what does not count
OFFLINE_HINT = 'load_data("digits") and load_data("photo_digits") are real images that need no download'
IMAGENET_NORM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std


class DataNotFound(FileNotFoundError):
    """A data set is not on this machine; the message says what to download and where to put it."""


class DataCorrupt(OSError):
    """A file of a data set cannot be used; the message names it."""


@dataclass(frozen=True, repr=False)
class Data:
    """A data set to train and test on.

    `train` and `test` yield (image, label); images have `image_shape` (channels, height, width), and are
    normalised: (pixel - mean) / std for each channel, with pixels in [0, 1]. `classes` are names, by label.
    Where `dense`, a label is a map (height, width) of classes; pixels labelled `ignore_index` do not count.
    """
    name: str
    train: Dataset
    test: Dataset
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dense: bool = False
    ignore_index: int = IGNORE_INDEX

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images (..., channels, height, width) as pixels in [0, 1] again, to be drawn."""
        mean, std = (torch.tensor(value, device=images.device).view(-1, 1, 1) for value in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.image_shape))
        return (f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images of {shape}, "
                f"{self.num_classes:,} classes")


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder that holds downloaded data: `root`, else $LWCOURSE_DATA, else ~/.cache/lwcourse."""
    return Path(root or os.environ.get("LWCOURSE_DATA") or "~/.cache/lwcourse").expanduser()


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most and value > most):
        allowed = f"from {least} to {most}" if most else f"of at least {least}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")


def check_image_size(image_size: object, least: int, most: int) -> None:
    check_whole("image_size", image_size, least, most)


def to_tensor(geometry: Sequence[Callable], mean: Sequence[float], std: Sequence[float]) -> Callable:
    """A transform from a PIL image to a normalised tensor; `geometry` comes first, on the PIL image."""
    from torchvision.transforms import v2
    return v2.Compose([*geometry, v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                       v2.Normalize(mean, std), v2.ToPureTensor()])


def open_image(path: str) -> Any:
    """A PIL image in RGB; an error that names the file when it cannot be read."""
    from torchvision.datasets.folder import default_loader
    try:
        return default_loader(path)
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
        raise DataCorrupt(f"{path} cannot be read as an image: {error}") from error
