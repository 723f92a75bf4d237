"""Pictures in one folder a class, without what a computer has put beside them."""
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path

from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from lwcourse.data.base import DataCorrupt, DataNotFound, is_hidden
from lwcourse.data.pictures import read_picture


class VisibleFolder(ImageFolder):
    """torchvision's ImageFolder, for which hidden folders, such as .ipynb_checkpoints, are no classes."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = sorted(path.name for path in Path(directory).iterdir() if path.is_dir() and not is_hidden(path.name))
        if not classes:
            raise FileNotFoundError("there is no folder in it, and each class is one")
        return classes, {name: label for label, name in enumerate(classes)}

    def leave_out_unreadable(self) -> list[str]:
        """Read every picture, keep those that can be read, and return what is wrong with each of the others.

        Raises DataNotFound where no picture of a class is left.
        """
        with ThreadPool() as pool:  # decoding lets other threads run
            errors = list(pool.imap(_what_is_wrong, (path for path, _ in self.samples), chunksize=32))
        self.samples = [sample for sample, error in zip(self.samples, errors, strict=True) if error is None]
        self.imgs, self.targets = self.samples, [label for _, label in self.samples]
        if empty := [name for name, label in self.class_to_idx.items() if label not in set(self.targets)]:
            raise DataNotFound(f"{self.root}: no picture can be read of the classes {', '.join(empty)}")
        return [error for error in errors if error is not None]


def class_folders(folder: Path, transform: Callable) -> VisibleFolder:
    """The pictures below `folder`, none of them hidden. Raises DataNotFound without a class, or for an empty one."""
    def is_picture(path: str) -> bool:
        return path.lower().endswith(IMG_EXTENSIONS) and not is_hidden(Path(path).relative_to(folder))

    try:
        return VisibleFolder(folder, transform, loader=_read, is_valid_file=is_picture)
    except FileNotFoundError as error:  # the message names the empty classes
        raise DataNotFound(f"{folder}: {str(error).strip()} (a picture's name ends in {', '.join(IMG_EXTENSIONS)})"
                           ) from error


def _read(path: str) -> Tensor:
    try:
        return read_picture(path)
    except DataCorrupt as error:
        raise DataCorrupt(f"{error}; skip_unreadable=True leaves such pictures out") from error


def _what_is_wrong(path: str) -> str | None:
    try:
        read_picture(path)
    except DataCorrupt as error:
        return str(error)
    return None
