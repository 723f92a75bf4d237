"""Where in tar files each picture lies, and which label belongs to it: noted once, then read from there."""
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS
from webdataset.tariterators import base_plus_ext

from lwcourse.data.base import DataCorrupt, DataNotFound, is_hidden
from lwcourse.data.pictures import read_picture
from lwcourse.layers.validate import MOST_CLASSES

PICTURES = {extension.removeprefix(".") for extension in IMG_EXTENSIONS}
LABELS = ("cls", "json")  # the first counts where a sample has both


@dataclass(frozen=True)
class Index:
    """`places` (N, 3): shard, first byte and number of bytes of each picture; `labels` (N,). Both int64."""
    shards: tuple[Path, ...]
    places: ndarray
    labels: ndarray


class TarPictures(Dataset):
    """Pictures (as `transform` gives them) and labels, each read from its place in a tar file when it is asked for."""

    def __init__(self, index: Index, transform: Callable[[Tensor], Any]):
        self.index, self.transform = index, transform
        self.targets = torch.from_numpy(index.labels)

    def __len__(self) -> int:
        return len(self.index.labels)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        shard, start, size = self.index.places[number].tolist()
        path = self.index.shards[shard]
        try:
            with open(path, "rb") as file:
                file.seek(start)
                content = file.read(size)
            picture = read_picture(path, content)
        except (OSError, DataCorrupt) as error:
            raise DataCorrupt(f"{_name_at(path, start)} in {error}") from error
        return self.transform(picture), int(self.index.labels[number])

    def __repr__(self) -> str:
        return f"TarPictures: {len(self):,} pictures in {len(self.index.shards):,} tar files"


def index(shards: Sequence[Path], classes: Sequence[str] | None) -> Index:
    """Read the headers of all files in the shards, and the labels.

    Raises DataNotFound where there is no sample, and DataCorrupt, which names shard and sample, for a shard that is
    damaged or compressed, a sample that lacks its picture or label, and a label that is none.
    """
    numbers = {name: label for label, name in enumerate(classes or ())}
    places, labels = [], []
    for shard, path in enumerate(shards):
        for (picture, label), text in _samples(path):
            places.append((shard, picture.offset_data, picture.size))
            labels.append(_label(text, label.name, path, numbers))
    if not places:
        others = f" and {len(shards) - 1} others" if shards[1:] else ""
        raise DataNotFound(f"there is no sample in {shards[0]}{others}; one is a picture and, beside it, its label: "
                           "0001.jpg and 0001.cls or 0001.json")
    return Index(tuple(shards), np.array(places, dtype=np.int64), np.array(labels, dtype=np.int64))


def _samples(path: Path) -> Iterator[tuple[tuple[tarfile.TarInfo, tarfile.TarInfo], bytes]]:
    """The picture and the label of each sample of a shard, and what the label's file holds."""
    try:
        with tarfile.open(path, "r:") as tar:
            key, files = None, {}
            for member in tar:
                tar.members = []  # else all headers of a large shard stay in memory, as webdataset found too
                found, extension = base_plus_ext(member.name)
                if not member.isfile() or found is None or is_hidden(member.name) or member.name.startswith("__"):
                    continue
                if found != key:
                    yield from _complete(tar, path, key, files)
                    key, files = found, {}
                if extension.lower() in files:
                    raise DataCorrupt(f"{path} holds {member.name} twice in one sample")
                files[extension.lower()] = member
            yield from _complete(tar, path, key, files)
            tar.fileobj.seek(tar.offset)  # tarfile takes a header that is cut off or damaged for the end
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataCorrupt(f"{path} is damaged or cut off after {tar.offset:,} bytes; fetch it again")
    except DataCorrupt:
        raise
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataCorrupt(f"{path} cannot be read as a tar file: {error}; if it is compressed, unpack it to .tar, and "
                          "if it is damaged, fetch it again") from error


def _complete(tar: tarfile.TarFile, path: Path, key: str | None, files: dict[str, tarfile.TarInfo]
              ) -> Iterator[tuple[tuple[tarfile.TarInfo, tarfile.TarInfo], bytes]]:
    """The sample that these files are, if they are one: they may also be a note that goes with the data."""
    pictures = [member for extension, member in files.items() if extension in PICTURES]
    label = next((files[extension] for extension in LABELS if extension in files), None)
    if not pictures and label is None:
        return
    if len(pictures) != 1 or label is None:
        raise DataCorrupt(f"{path}: a sample must have one picture and a label (.cls or .json), and {key} has "
                          f"{', '.join(f'.{extension}' for extension in files)}")
    yield (pictures[0], label), tar.extractfile(label).read()


def _label(text: bytes, name: str, path: Path, numbers: dict[str, int]) -> int:
    """The class that a label's file names, by its number or its name."""
    try:
        value = text.decode().strip()
        if name.lower().endswith(".json"):
            value = json.loads(value)["label"]
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TypeError(f"a {type(value).__name__}")
        value = numbers[value] if value in numbers else int(value)
    except (ValueError, KeyError, TypeError) as error:
        allowed = "a whole number or one of classes" if numbers else "a whole number (classes= allows names)"
        where = ', in json under "label"' * name.lower().endswith(".json")
        raise DataCorrupt(f"{name} in {path}: a label must be {allowed}{where}, got {text[:60]!r}") from error
    most = len(numbers) or MOST_CLASSES
    if not 0 <= value < most:
        raise DataCorrupt(f"{name} in {path}: a label must be from 0 to {most - 1}, got {value}")
    return value


def _name_at(path: Path, start: int) -> str:
    """The name of the file whose bytes begin at `start`; only errors need it, so it is looked for then."""
    try:
        with tarfile.open(path, "r:") as tar:
            return next(member.name for member in tar if member.offset_data == start)
    except (tarfile.TarError, OSError, StopIteration):
        return f"the file at byte {start:,}"
