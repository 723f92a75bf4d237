"""Data sets of one class an image, and the two photographs; each function loads one, with its own options."""
import os
from collections.abc import Sequence
from functools import cache
from http.client import HTTPException
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import TensorDataset

from lwcourse.data.base import (
    IMAGENET_NORM,
    OFFLINE_HINT,
    Data,
    DataCorrupt,
    DataNotFound,
    check_image_size,
    check_memory,
    check_whole,
    data_root,
    no_empty_folder,
    to_tensor,
)
from lwcourse.layers.validate import check_flag

DIGITS, TEST_DIGITS = 1797, 360  # all of scikit-learn's, and one in five of them
CUTS = (("china", 210), ("flower", 305))  # the column through the middle of each photograph's subject
CIFAR_NORM = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # mean, std of CIFAR-10's training pixels


class Photos(NamedTuple):
    """Two photographs, float tensors (3, height, width) with values in [0, 1]."""
    china: Tensor
    flower: Tensor


def digits(*, image_size: int = 32, in_channels: int = 3, seed: int = 0) -> Data:
    """1,797 handwritten digits (Alpaydin and Kaynak, UCI, 1998), enlarged from 8 x 8: 1,437 train, 360 test.

    `in_channels` is 1 or 3 (grey, repeated). `seed` draws the split, which is stratified by class.
    Values are normalised with the mean and standard deviation of the training pixels.
    """
    image_size = check_image_size(image_size, 8, 512)
    if isinstance(in_channels, bool) or not isinstance(in_channels, Integral) or in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, got {in_channels!r}")
    splits = []
    for images, labels in _split_digits(seed):
        images = F.interpolate(images, (image_size, image_size), mode="bilinear")
        splits.append((images.repeat(1, int(in_channels), 1, 1), labels))
    return _in_memory("digits", *splits)


def photos(*, image_size: int | None = None) -> Photos:
    """scikit-learn's two sample photographs, 427 x 640; or their central squares, resized to `image_size`."""
    from torchvision.transforms.v2 import functional as transforms

    if image_size is not None:
        image_size = check_image_size(image_size, 8, 1024)
    images = _photographs()
    if image_size is None:
        return Photos(*images.clone())
    images = transforms.center_crop(images, [min(images.shape[-2:])])
    return Photos(*transforms.resize(images, [image_size, image_size], antialias=True))


def photo_digits(*, image_size: int = 32, copies: int = 3, seed: int = 0) -> Data:
    """The digits at random places and scales, blended into random crops of the two photographs, in colour.

    A pixel is |crop - ink|, as in MNIST-M (Ganin et al., JMLR 2016, https://arxiv.org/abs/1505.07818), so a
    digit is dark on light and light on dark, and takes the colour of what lies behind it. Each digit is
    placed in `copies` crops: 1,437 * copies train, 360 * copies test. Both splits are as for "digits", and
    the photographs are cut in two as well: training crops lie right of each cut, test crops left of it.
    `seed` draws everything. Values are normalised with the mean and standard deviation of the training pixels.
    """
    image_size, copies = check_image_size(image_size, 16, 128), check_whole("copies", copies, 1)
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    check_memory(f"photo_digits with copies={copies}", DIGITS * copies, 4 * 3 * image_size**2)
    generator = torch.Generator().manual_seed(seed)
    width = _photographs().shape[-1]
    right = [(cut, width) for _, cut in CUTS]
    left = [(0, cut) for _, cut in CUTS]
    splits = []
    for (images, labels), columns in zip(_split_digits(seed), (right, left), strict=True):
        ink = _scatter(images.repeat_interleave(copies, 0), image_size, generator)
        crops = _random_crops(len(ink), columns, image_size, generator)
        splits.append((crops.sub_(ink).abs_(), labels.repeat_interleave(copies)))
    return _in_memory("photo_digits", *splits)


def cifar10(*, image_size: int = 32, root: str | os.PathLike | None = None, augment: bool = True,
            download: bool = False) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 train, 10,000 test, 10 classes.

    `augment` moves training images by up to 4 pixels and mirrors half of them. `download` fetches 163 MB
    when the files are missing or damaged; every file is verified before it is used.
    """
    from torchvision.datasets import CIFAR10
    return _cifar("cifar10", CIFAR10, image_size, root, augment, download)


def cifar100(*, image_size: int = 32, root: str | os.PathLike | None = None, augment: bool = True,
             download: bool = False) -> Data:
    """CIFAR-100 (Krizhevsky 2009): 50,000 train, 10,000 test, 100 classes; otherwise like `cifar10`."""
    from torchvision.datasets import CIFAR100
    return _cifar("cifar100", CIFAR100, image_size, root, augment, download)


def imagenet(*, root: str | os.PathLike | None = None, image_size: int = 224, augment: bool = True) -> Data:
    """ImageNet-1k, or any tree of the same form: root/train/<class>/*.JPEG and root/val/<class>/*.JPEG.

    Test images are resized to 256/224 of `image_size` and cropped at the centre; training images are
    random crops, mirrored half of the time, unless `augment` is off. Nothing is downloaded. Hidden files and
    folders, such as .ipynb_checkpoints and __MACOSX, are passed over.
    """
    from torchvision.transforms import v2

    from lwcourse.data.folders import class_folders

    image_size = check_image_size(image_size, 8, 1024)
    check_flag("augment", augment)
    root = data_root(root, "imagenet")
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise DataNotFound(
                f"there is no folder {folder}. ImageNet is not downloaded for you: get it from "
                f"https://www.image-net.org/download.php and arrange it as {root}/train/<class>/*.JPEG and "
                f"{root}/val/<class>/*.JPEG, or pass root=. {OFFLINE_HINT}")
    centre = [v2.Resize(round(image_size * 256 / 224)), v2.CenterCrop(image_size)]
    random = [v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()]
    mean, std = IMAGENET_NORM
    train, test = (class_folders(folder, to_tensor(geometry, mean, std)) for folder, geometry in (
        (root / "train", random if augment else centre), (root / "val", centre)))
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise DataCorrupt(f"{root}/train has {len(train.classes)} classes and {root}/val has {len(test.classes)}; "
                          f"only one of them has {', '.join(odd[:5])}{' ...' if len(odd) > 5 else ''}")
    return Data("imagenet", train, test, tuple(train.classes), (3, image_size, image_size), mean, std)


@cache
def _photographs() -> Tensor:
    """The photographs named in CUTS, (2, 3, 427, 640), in [0, 1]."""
    _need_sklearn()
    from sklearn.datasets import load_sample_image

    images = [torch.from_numpy(load_sample_image(f"{name}.jpg").copy()) for name, _ in CUTS]
    return torch.stack(images).permute(0, 3, 1, 2).float() / 255


def _split_digits(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Train and test digits: images (N, 1, 8, 8) in [0, 1] and labels (N,)."""
    seed = check_whole("seed", seed, 0, 2**32 - 1)
    _need_sklearn()
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = torch.from_numpy(source.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(source.target).long()
    parts = train_test_split(range(len(labels)), test_size=TEST_DIGITS, stratify=source.target, random_state=seed)
    return [(images[part], labels[part]) for part in parts]


def _in_memory(name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Data:
    """Ten digits as TensorDatasets, both normalised with the statistics of the training pixels."""
    std, mean = torch.std_mean(train[0], dim=(0, 2, 3), keepdim=True)
    sets = [TensorDataset(images.sub_(mean).div_(std), labels) for images, labels in (train, test)]
    return Data(name, *sets, tuple("0123456789"), tuple(train[0].shape[1:]),
                tuple(mean.flatten().tolist()), tuple(std.flatten().tolist()))


def _scatter(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw each image (N, 1, 8, 8) somewhere on an empty canvas: (N, 1, size, size).

    The side of the digit's square is between 0.6 and 1 times the canvas, and the square lies inside it.
    """
    count = len(images)
    scale = 0.6 + 0.4 * torch.rand(count, 1, generator=generator)
    shift = (1 - scale) * (2 * torch.rand(count, 2, generator=generator) - 1)  # of the centre; canvas is [-1, 1]^2
    theta = torch.zeros(count, 2, 3)                                           # maps canvas to image coordinates
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale[:, 0]
    theta[:, :, 2] = -shift / scale
    grid = F.affine_grid(theta, [count, 1, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _random_crops(count: int, columns: Sequence[tuple[int, int]], size: int, generator: torch.Generator) -> Tensor:
    """Crops (count, 3, size, size) of the photographs, each within its own range of `columns` [first, last)."""
    photographs = _photographs()
    which = torch.randint(len(photographs), (count, 1), generator=generator)
    first, last = torch.tensor(columns)[which].unbind(-1)
    spare_rows = photographs.shape[-2] - size + 1
    top = torch.randint(spare_rows, (count, 1), generator=generator)
    left = first + (torch.rand(count, 1, generator=generator) * (last - first - size + 1)).long()
    rows = (top + torch.arange(size)).unsqueeze(2)    # (count, size, 1)
    across = (left + torch.arange(size)).unsqueeze(1)  # (count, 1, size)
    crops = photographs.permute(0, 2, 3, 1)[which.unsqueeze(2), rows, across]
    return crops.permute(0, 3, 1, 2).contiguous()


def _cifar(name: str, source: type, image_size: int, root: str | os.PathLike | None, augment: bool,
           download: bool) -> Data:
    from torchvision.transforms import v2

    image_size = check_image_size(image_size, 8, 512)
    check_flag("augment", augment)
    check_flag("download", download)
    root = data_root(root)
    _provide_cifar(source, root, download)
    resize = [v2.Resize(image_size)] if image_size != 32 else []
    shake = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()] if augment else []
    mean, std = CIFAR_NORM
    train = source(root, train=True, transform=to_tensor(shake + resize, mean, std))
    test = source(root, train=False, transform=to_tensor(resize, mean, std))
    return Data(name, train, test, tuple(train.classes), (3, image_size, image_size), mean, std)


def _provide_cifar(source: type, root: Path, download: bool) -> None:
    """See to it that the verified files of a torchvision CIFAR class lie in `root`, or raise.

    They are used as they are, else unpacked from an archive that lies in `root`, else downloaded if allowed.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    damaged = _damaged_files(source, root)
    if not damaged:
        return
    archive = root / source.filename
    if check_integrity(archive, source.tgz_md5):
        _unpack_cifar(source, archive, root)
        return
    if download:
        with no_empty_folder(root), TemporaryDirectory(dir=root, prefix=".download-") as scratch:
            try:
                download_url(source.url, scratch, source.filename, source.tgz_md5)
            except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: the wrong checksum
                raise DataNotFound(f"could not download {source.url}: {error}. Fetch it by other means and put it "
                                   f"at {archive} as it is. {OFFLINE_HINT}") from error
            _unpack_cifar(source, Path(scratch) / source.filename, root)
        return
    mend = f"pass download=True, or fetch {source.url} and put it at {archive} as it is"
    if archive.exists():
        raise DataCorrupt(f"{archive} is incomplete or damaged ({archive.stat().st_size:,} bytes, wrong MD5): {mend}")
    if (root / source.base_folder).exists():
        raise DataCorrupt(f"{root / source.base_folder} is incomplete or damaged: {', '.join(damaged)} missing or "
                          f"with a wrong MD5. To mend it, {mend}")
    raise DataNotFound(f"there is no {source.__name__} in {root}: {mend}. {OFFLINE_HINT}")


def _damaged_files(source: type, root: Path) -> list[str]:
    """Names of the files of a torchvision CIFAR class that are missing from `root` or have a wrong MD5."""
    from torchvision.datasets.utils import check_integrity

    expected = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return [name for name, md5 in expected if not check_integrity(root / source.base_folder / name, md5)]


def _unpack_cifar(source: type, archive: Path, root: Path) -> None:
    """Unpack aside, then move file by file: an interruption leaves files that are whole or absent."""
    from torchvision.datasets.utils import extract_archive

    folder = root / source.base_folder
    with TemporaryDirectory(dir=root, prefix=".unpack-") as scratch:
        extract_archive(archive, scratch)
        folder.mkdir(exist_ok=True)
        for file in (Path(scratch) / source.base_folder).iterdir():
            os.replace(file, folder / file.name)


def _need_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError("this data set comes with scikit-learn: pip install scikit-learn") from error
