"""Data sets: real ones that come with scikit-learn and scikit-image, drawn ones, and the usual benchmarks.

`load_data(name)` is the one entry; a function of the data set's name in one of these modules loads it.
Images are float tensors (channels, height, width), labels are integers from 0, or maps of them.
"""
from collections.abc import Callable
from difflib import get_close_matches
from inspect import signature
from typing import Any

from lwcourse.data.augment import Augment
from lwcourse.data.base import IGNORE_INDEX, Data, DataCorrupt, DataNotFound, data_root, on_cpu
from lwcourse.data.cifar import cifar10, cifar100
from lwcourse.data.classification import digits, photo_digits
from lwcourse.data.folders import folder, imagenet
from lwcourse.data.memory import ImagesInMemory
from lwcourse.data.photographs import Photos, photos
from lwcourse.data.segmentation import camvid, cityscapes, oxford_pets, scenes, voc_segmentation
from lwcourse.data.shards import both_parts, wds

__all__ = ["IGNORE_INDEX", "Augment", "Data", "DataCorrupt", "DataNotFound", "ImagesInMemory", "Photos", "data_root",
           "load_data"]

LOADERS: dict[str, Callable[..., Data | Photos]] = {
    loader.__name__: loader for loader in (digits, photo_digits, photos, cifar10, cifar100, imagenet, folder,
                                           wds, scenes, voc_segmentation, oxford_pets, camvid, cityscapes)}


@on_cpu
def load_data(name: str, **options: Any) -> Data | Photos:
    """Load a data set by name; `options` are those of the function that loads it.

    | name | what | options (default) |
    |---|---|---|
    | "digits" | 1,797 scanned digits of 8 x 8, enlarged | image_size (32), in_channels (3), seed (0) |
    | "photo_digits" | the digits blended into photographs | image_size (32), copies (3), seed (0) |
    | "photos" | seven photographs, as `Photos`, with `licences` | image_size (None: as they are) |
    | "cifar10", "cifar100" | photographs of 32 x 32 | image_size (32), root, augment (True), ... |
    | "imagenet", "folder" | root/{train,val}/class/image | root, image_size (224), augment (True), ... |
    | "wds" | tar files in the form of WebDataset | train, val, classes, image_size (224), augment (True), ... |
    | "scenes" | drawn streets, label maps | train_images (240), test_images (60), image_size ((128, 256)), seed (0) |
    | "voc_segmentation", "oxford_pets" | label maps | root, image_size, augment (True), download (False) |
    | "camvid", "cityscapes" | streets, label maps | root, image_size, augment (True) |

    "wds:PATTERN" is short for "wds" with two patterns, as {train,val} in it says: "wds:/data/{train,val}-*.tar".
    `augment` is True or False; where there is `erasing`, a probability, it may also be "trivial" or "rand": the usual
    crops and mirrored images, and torchvision's TrivialAugmentWide or RandAugment.
    `...` stands for what is off by default: erasing, download (CIFAR), skip_unreadable (folders).
    `root` is the folder that holds the files: by default the environment variable LWCOURSE_DATA or
    ~/.cache/lwcourse (with "/imagenet" for ImageNet).
    Photographs are turned upright, as their EXIF orientation says; greys of 16 bits become 8; hidden files and folders
    (names that begin with a dot, __MACOSX, Thumbs.db and the like) are passed over.
    Tensors are on the CPU, whatever torch.set_default_device says.
    Raises ValueError for an unknown name (close matches are offered) or a bad option, TypeError for an
    option that the data set does not have, DataNotFound (a FileNotFoundError) when files are missing and
    DataCorrupt (an OSError) when one is damaged.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a data set is a string such as 'digits', got {type(name).__name__}")
    if name.startswith("wds:"):
        if twice := {"train", "val"} & options.keys():
            raise TypeError(f"{name!r} says where the shards are; leave out {' and '.join(sorted(twice))}")
        name, options = "wds", both_parts(name.removeprefix("wds:")) | options
    if name not in LOADERS:
        close = get_close_matches(name.lower(), LOADERS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(LOADERS)}"
        raise ValueError(f"there is no data set {name!r}; {hint}")
    known = list(signature(LOADERS[name]).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"{name!r} takes no option {', '.join(map(repr, unknown))}; it takes {', '.join(known)}")
    return LOADERS[name](**options)


def accepted_options(name: str) -> list[str]:
    """The options that `load_data(name)` takes; none for a name that it does not know."""
    loader = LOADERS.get(name.partition(":")[0])
    return list(signature(loader).parameters) if loader else []
