"""Pictures in tar files, in the form of WebDataset, for data of more files than a file system likes.

The places of all samples are noted once, so that any sample can be read on its own: order, resuming and several
processes work as they do for folders. Shards must be plain files that one can seek in, local or on a mounted disk.
"""
import os
from collections.abc import Sequence
from pathlib import Path

from lwcourse.data.augment import chosen
from lwcourse.data.base import IMAGENET_NORM, Data, DataCorrupt, DataNotFound, check_image_size
from lwcourse.data.folders import picture_transform, shorter_side
from lwcourse.layers.validate import MOST_CLASSES

PARTS = "{train,val}"
EXAMPLE = "wds:/data/{train,val}-{000..009}.tar"


def wds(*, train: str | os.PathLike | None = None, val: str | os.PathLike | None = None,
        classes: Sequence[str] | None = None, image_size: int = 224, augment: bool | str = True,
        erasing: float = 0.0) -> Data:
    """Tar files in the form of WebDataset: `train` and `val` are patterns such as "shards/train-{000..146}.tar".

    Braces are expanded as webdataset does; * and ? stand for names that there are. A sample is a picture, say
    a/0001.jpg, and beside it its label: a/0001.cls, or a/0001.json with "label". A label is a number from 0, or one of
    `classes`. Without `classes`, they are "0", "1" and so on, up to the highest label.
    Pictures are resized, cropped and changed as by "folder".

    Raises ValueError for a bad pattern or option, DataNotFound for a missing shard, DataCorrupt, which names shard and
    sample, for what cannot be used, ImportError without webdataset (pip install 'lwcourse[train]').
    """
    from lwcourse.data.tar_index import TarPictures, index

    image_size = check_image_size(image_size, 8, 1024)
    names = None if classes is None else _class_names(classes)
    changes = chosen(augment, erasing)
    shards = [_files(name, pattern) for name, pattern in (("train", train), ("val", val))]
    if both := set(shards[0]) & set(shards[1]):
        raise ValueError(f"{min(both)} is in both train={train!r} and val={val!r}; a network must not be tested on "
                         "what it has learned")
    found = [index(files, names) for files in shards]
    if names is None:
        names = tuple(map(str, range(1 + max(part.labels.max() for part in found))))
        if len(names) == 1:
            raise DataCorrupt(f"all labels in train={train!r} and val={val!r} are 0; it takes two classes to tell them "
                              "apart")
    parts = [TarPictures(part, picture_transform(image_size, change))
             for part, change in zip(found, (changes, None), strict=True)]
    return Data(shards[0][0].resolve().parent.name, *parts, names, (3, image_size, image_size), *IMAGENET_NORM,
                resize=shorter_side(image_size))


def both_parts(pattern: str) -> dict[str, str]:
    """The options train and val of `wds` for one pattern that holds {train,val}. Raises ValueError for another."""
    if pattern.count(PARTS) != 1:
        raise ValueError(f"a pattern after wds: must hold {PARTS} once, as in {EXAMPLE}, got {pattern!r}")
    return {part: pattern.replace(PARTS, part) for part in ("train", "val")}


def _class_names(classes: Sequence[str]) -> tuple[str, ...]:
    names = () if isinstance(classes, str) else tuple(classes)
    if not 2 <= len(set(names)) == len(names) <= MOST_CLASSES or not all(isinstance(name, str) for name in names):
        raise ValueError(f"classes must be two names or more, all different, as in ('cat', 'dog'), got {classes!r}")
    return names


def _files(name: str, pattern: str | os.PathLike | None) -> list[Path]:
    """The shards that a pattern stands for, in order."""
    from glob import glob

    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise ImportError("shards are named as webdataset does: pip install 'lwcourse[train]'") from error

    if not isinstance(pattern, str | os.PathLike) or not os.fspath(pattern):
        raise ValueError(f"{name} must be a pattern of tar files such as 'shards/{name}-{{000..009}}.tar', got "
                         f"{pattern!r}")
    if "://" in str(pattern) or str(pattern).startswith("pipe:"):
        raise ValueError(f"{name} must be files that can be read from any place, not a stream, got {pattern!r}; "
                         "download or mount them")
    try:
        expanded = [os.path.expanduser(path) for path in expand_urls(str(pattern))]
    except (ValueError, AssertionError) as error:  # the latter for a variable ${...} that is not set
        raise ValueError(f"{name}={pattern!r} cannot be expanded: {error}") from error
    files = []
    for path in expanded:
        found = [path] if os.path.exists(path) else sorted(glob(path))
        if not found:
            raise DataNotFound(f"there is no shard {path}, which {name}={pattern!r} asks for")
        files += map(Path, found)
    return files
