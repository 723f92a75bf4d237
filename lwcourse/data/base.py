"""What every data set is made of: `Data`, its errors, the folder that holds downloads, checks of options."""
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lwcourse.tasks import Classification, Segmentation, Task
from lwcourse.tasks.classification import IGNORE_INDEX

OFFLINE_HINT = 'load_data("digits") and load_data("photo_digits") are real images that need no download'
MOST_BYTES = 2**34  # of one set of images that is made in memory
SYSTEM_FILES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information",
                          "lost+found"})  # beside all names that begin with a dot
ORIENTATION, BITS_PER_SAMPLE = 0x0112, 258  # tags of EXIF and TIFF
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
    `resize`, where it is not None, is the shorter side of a test image before its centre is cut out.
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
    resize: int | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def task(self) -> Task:
        """What is to be learned from it: one class an image, or a pixel where `dense`."""
        kind = Segmentation if self.dense else Classification
        return kind(classes=self.classes, ignore_index=self.ignore_index)

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images (..., channels, height, width) as pixels in [0, 1] again, to be drawn."""
        mean, std = (torch.tensor(value, device=images.device).view(-1, 1, 1) for value in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.image_shape))
        return (f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images of {shape}, "
                f"{self.num_classes:,} classes")


def data_root(root: str | os.PathLike | None = None, below: str = "") -> Path:
    """The folder that holds downloaded data: `root`, else $LWCOURSE_DATA or ~/.cache/lwcourse, and `below` in that.

    Raises TypeError for a `root` that is no path, and ValueError for an empty one or one that is a file.
    """
    if root is not None and (isinstance(root, bytes) or not isinstance(root, str | os.PathLike)):
        raise TypeError(f"root must be a folder, as a string or a Path, got {root!r}")
    if root == "":
        raise ValueError("root must be a folder, got ''; leave it out for the default, or pass '.' for this folder")
    default = Path(os.environ.get("LWCOURSE_DATA") or "~/.cache/lwcourse") / below
    folder = (Path(root) if root is not None else default).expanduser()
    if folder.is_file():
        raise ValueError(f"root must be a folder, got the file {folder}; the folder that holds it is {folder.parent}")
    return folder


def check_whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int, where it is a whole number (NumPy's too) within the limits; else ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least or (most and value > most):
        allowed = f"from {least} to {most}" if most else f"of at least {least}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def check_image_size(image_size: object, least: int, most: int) -> int:
    return check_whole("image_size", image_size, least, most)


def check_memory(what: str, count: int, size: int) -> None:
    """Raise ValueError, before anything is allocated, when `count` images of `size` bytes are more than MOST_BYTES."""
    if count * size > MOST_BYTES:
        raise ValueError(f"{what} would take {count * size / 2**30:,.0f} GiB of memory; sets that are held there may "
                         f"have {MOST_BYTES / 2**30:.0f} GiB, which is {MOST_BYTES // size:,} images of this size")


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Make `folder`; when what follows fails, it and those above that were made for it go again, if empty."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for one in made:
            with suppress(OSError):  # it holds something by now
                one.rmdir()
        raise


def is_hidden(path: str | os.PathLike) -> bool:
    """Whether a name in `path` is one that people do not give: .ipynb_checkpoints, ._a.png, __MACOSX, Thumbs.db."""
    return any(part.startswith(".") or part.lower() in SYSTEM_FILES for part in Path(path).parts)


def on_cpu(function: Callable) -> Callable:
    """Decorator: whatever torch.set_default_device says, `function` makes its tensors on the CPU, as files are read."""
    @wraps(function)
    def on_the_cpu(*arguments: Any, **options: Any) -> Any:
        with torch.device("cpu"):
            return function(*arguments, **options)
    return on_the_cpu


class OnCPU:
    """A transform of images that runs on the CPU, whatever torch.set_default_device says.

    It draws random numbers in the processes that load images, where CUDA cannot be used.
    """

    def __init__(self, transform: Callable):
        self.transform = transform

    def __call__(self, *images: Any) -> Any:
        with torch.device("cpu"):
            return self.transform(*images)

    def __repr__(self) -> str:
        return repr(self.transform)


def open_image(path: str | os.PathLike, content: bytes | None = None) -> Any:
    """A PIL image in RGB, upright; the first one of a file that holds several. Transparency is left out.

    `content` are the bytes of the file, where they were read already or `path` only names them.
    Raises DataCorrupt, which names the file, when it cannot be read, and when nobody knows which of its values is
    white (PIL's modes I and F, 32 bits a pixel). Greys of 16 bits are scaled to 8.
    """
    stored = decode(path, "an image", content)
    return upright(as_rgb(stored, path), orientation(stored))


def decode(path: str | os.PathLike, what: str, content: bytes | None = None) -> Any:
    """The pixels of a file as they are stored, a PIL image; DataCorrupt when it is not `what` it should be."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path if content is None else BytesIO(content)) as image:
            image.load()
            return image
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise DataCorrupt(f"{path} cannot be read as {what}: its content is of no kind that Pillow knows") from error
    except Exception as error:  # a damaged file makes PIL raise OSError, SyntaxError, struct.error and many others
        raise DataCorrupt(f"{path} cannot be read as {what}: {error or type(error).__name__}") from error


def orientation(image: Any) -> int:
    """The EXIF orientation that a PIL image still has: how a camera was held, 1 (upright) to 8."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged note beside the pixels does no harm to them
        return 1


def upright(image: Any, turn: int) -> Any:
    """A PIL image, turned as the EXIF orientation `turn` says."""
    from PIL import ImageOps

    plain = image.copy()
    plain.info.pop("exif", None)  # PIL would write it anew, which fails where it is damaged
    plain.getexif().clear()
    plain.getexif()[ORIENTATION] = turn
    return ImageOps.exif_transpose(plain)


def as_rgb(image: Any, path: str | os.PathLike) -> Any:
    """A PIL image in RGB, 8 bits a channel."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):  # PIL before 12
        bits = dict(getattr(image, "tag_v2", {})).get(BITS_PER_SAMPLE, (16,))[0]  # of a TIFF, which may have 12
        grey = np.asarray(image).astype(np.int64) >> (bits - 8)
        image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataCorrupt(f"{path} is an image of mode {image.mode}, one number of 32 bits a pixel, and nothing says "
                          "which value is white; save it with 8 or 16 bits, from 0 for black to the largest for white")
    try:
        if "transparency" in image.info:
            image = image.convert("RGBA")  # PIL warns of a palette with several transparent colours otherwise
        return image.convert("RGB")
    except ValueError as error:
        raise DataCorrupt(f"{path}, of mode {image.mode}, cannot be read as an image: {error}") from error
