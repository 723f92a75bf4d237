"""CIFAR-10 and CIFAR-100: torchvision verifies and reads the files, and the images stay in memory as bytes."""
import os
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lwcourse.data.augment import chosen
from lwcourse.data.base import (
    OFFLINE_HINT,
    Data,
    DataCorrupt,
    DataNotFound,
    check_image_size,
    data_root,
    no_empty_folder,
)
from lwcourse.data.memory import ImagesInMemory
from lwcourse.layers.validate import check_flag

CIFAR_NORM = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))  # mean, std of CIFAR-10's training pixels


def cifar10(*, image_size: int = 32, root: str | os.PathLike | None = None, augment: bool | str = True,
            erasing: float = 0.0, download: bool = False) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 train, 10,000 test, 10 classes.

    `augment` moves training images by up to 4 pixels and mirrors half of them; "trivial" (TrivialAugmentWide) and
    "rand" (RandAugment) change them further. `erasing` is the probability that a box of one is set to the mean.
    `download` fetches 163 MB when the files are missing or damaged; every file is verified before it is used.
    Both parts are held in memory, as `ImagesInMemory`.
    """
    from torchvision.datasets import CIFAR10
    return _cifar("cifar10", CIFAR10, image_size, root, augment, erasing, download)


def cifar100(*, image_size: int = 32, root: str | os.PathLike | None = None, augment: bool | str = True,
             erasing: float = 0.0, download: bool = False) -> Data:
    """CIFAR-100 (Krizhevsky 2009): 50,000 train, 10,000 test, 100 classes; otherwise like `cifar10`."""
    from torchvision.datasets import CIFAR100
    return _cifar("cifar100", CIFAR100, image_size, root, augment, erasing, download)


def _cifar(name: str, source: type, image_size: int, root: str | os.PathLike | None, augment: bool | str,
           erasing: float, download: bool) -> Data:
    image_size = check_image_size(image_size, 8, 512)
    changes = chosen(augment, erasing, padding=4)
    check_flag("download", download)
    root = data_root(root)
    _provide_cifar(source, root, download)
    read = [source(root, train=train) for train in (True, False)]
    train, test = (ImagesInMemory(torch.from_numpy(part.data).permute(0, 3, 1, 2), part.targets, *CIFAR_NORM,
                                  augment=change, image_size=None if image_size == 32 else image_size)
                   for part, change in zip(read, (changes, None), strict=True))
    return Data(name, train, test, tuple(read[0].classes), train.image_shape, *CIFAR_NORM)


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
