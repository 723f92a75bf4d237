"""Pictures in one folder a class, without what a computer has put beside them."""
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from lwcourse.data.base import DataNotFound, is_hidden, open_image


class VisibleFolder(ImageFolder):
    """torchvision's ImageFolder, for which hidden folders, such as .ipynb_checkpoints, are no classes."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = sorted(path.name for path in Path(directory).iterdir() if path.is_dir() and not is_hidden(path.name))
        if not classes:
            raise FileNotFoundError("there is no folder in it, and each class is one")
        return classes, {name: label for label, name in enumerate(classes)}


def class_folders(folder: Path, transform: Callable) -> VisibleFolder:
    """The pictures below `folder`, none of them hidden. Raises DataNotFound without a class, or for an empty one."""
    def is_picture(path: str) -> bool:
        return path.lower().endswith(IMG_EXTENSIONS) and not is_hidden(Path(path).relative_to(folder))

    try:
        return VisibleFolder(folder, transform, loader=open_image, is_valid_file=is_picture)
    except FileNotFoundError as error:  # the message names the empty classes
        raise DataNotFound(f"{folder}: {str(error).strip()} (a picture's name ends in {', '.join(IMG_EXTENSIONS)})"
                           ) from error
