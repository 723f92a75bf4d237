"""Trees of pictures that the user has on disk: root/{train,val}/class/picture. ImageNet is one of them."""
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lwcourse.data.augment import Augment, chosen, policy_transform
from lwcourse.data.base import (
    IMAGENET_NORM,
    OFFLINE_HINT,
    Data,
    DataCorrupt,
    DataNotFound,
    OnCPU,
    check_image_size,
    data_root,
)
from lwcourse.layers.validate import check_flag

SPLITS = ("train", "val")


def folder(*, root: str | os.PathLike | None = None, image_size: int = 224, augment: bool | str = True,
           erasing: float = 0.0, skip_unreadable: bool = False) -> Data:
    """Your own pictures: root/train/<class>/* and root/val/<class>/*, the same classes in both.

    Test images are resized to 256/224 of `image_size` and cropped at the centre; training images are random crops,
    mirrored half of the time, unless `augment` is off; "trivial" (TrivialAugmentWide) and "rand" (RandAugment) change
    them further. `erasing` is the probability that a box of one is set to the mean. Pixels are normalised with
    ImageNet's mean and standard deviation. Hidden files and folders, such as .ipynb_checkpoints, are passed over.

    A picture that cannot be read is named when its turn comes; with `skip_unreadable` all are read once now, those
    that cannot be are left out, and one line says so.
    """
    if root is None:
        raise ValueError("root must be a folder that holds train/<class>/* and val/<class>/*, got None")
    root = data_root(root)
    return _tree(root.resolve().name, root, "Arrange your pictures as", image_size, augment, erasing, skip_unreadable)


def imagenet(*, root: str | os.PathLike | None = None, image_size: int = 224, augment: bool | str = True,
             erasing: float = 0.0, skip_unreadable: bool = False) -> Data:
    """ImageNet-1k: root/train/<class>/*.JPEG and root/val/<class>/*.JPEG; otherwise like `folder`.

    Nothing is downloaded.
    """
    how = "ImageNet is not downloaded for you: get it from https://www.image-net.org/download.php and arrange it as"
    return _tree("imagenet", data_root(root, "imagenet"), how, image_size, augment, erasing, skip_unreadable)


def _tree(name: str, root: Path, how: str, image_size: int, augment: bool | str, erasing: float,
          skip_unreadable: bool) -> Data:
    from lwcourse.data.image_folder import class_folders

    image_size = check_image_size(image_size, 8, 1024)
    changes = chosen(augment, erasing)
    check_flag("skip_unreadable", skip_unreadable)
    for path in (root, *(root / split for split in SPLITS)):
        if not path.is_dir():
            raise DataNotFound(f"there is no folder {path}. {how} {root}/train/<class>/*.JPEG and "
                               f"{root}/val/<class>/*.JPEG, or pass another root=. {OFFLINE_HINT}")
    train, test = (class_folders(root / split, picture_transform(image_size, change))
                   for split, change in zip(SPLITS, (changes, None), strict=True))
    odd = [(here.root, sorted({*here.classes} - {*there.classes})) for here, there in ((train, test), (test, train))]
    if train.classes != test.classes:
        only = ", ".join(f"only {folder} has {', '.join(names[:5])}{' ...' if names[5:] else ''}"
                         for folder, names in odd if names)
        raise DataCorrupt(f"the classes of {root}/train ({len(train.classes)}) and {root}/val ({len(test.classes)}) "
                          f"must be the same; {only}")
    if len(train.classes) == 1:
        raise DataCorrupt(f"{root}/train has only one class, {train.classes[0]}; it takes two to tell them apart, "
                          "each with a folder of its own")
    if skip_unreadable:
        count = len(train) + len(test)
        if wrong := train.leave_out_unreadable() + test.leave_out_unreadable():
            print(f"{name}: {len(wrong):,} of {count:,} pictures are left out; the first: {wrong[0]}")  # noqa: T201
    return Data(name, train, test, tuple(train.classes), (3, image_size, image_size), *IMAGENET_NORM,
                resize=shorter_side(image_size))


def shorter_side(image_size: int) -> int:
    """Of a test picture, before its centre is cut out."""
    return round(image_size * 256 / 224)


def picture_transform(image_size: int, change: Augment | None) -> Callable[[Any], Any]:
    """From a uint8 picture (3, any height, any width) to a normalised one, (3, image_size, image_size) float32.

    Without `change`, the centre of the picture. Otherwise a random crop, where that is to be mirrored.
    """
    from torchvision.transforms import v2

    geometry = [v2.Resize(shorter_side(image_size), antialias=True), v2.CenterCrop(image_size)]
    last = []
    if change is not None:
        if change.flip:
            geometry = [v2.RandomResizedCrop(image_size, antialias=True), v2.RandomHorizontalFlip()]
        if change.policy:
            geometry.append(policy_transform(change.policy))
        if change.erasing:
            last = [v2.RandomErasing(change.erasing)]
    return OnCPU(v2.Compose([*geometry, v2.ToDtype(torch.float32, scale=True), v2.Normalize(*IMAGENET_NORM), *last]))
