"""The digits of scikit-learn, alone and blended into its photographs; each function loads one, with its own options."""
from collections.abc import Sequence
from functools import cache
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import TensorDataset

from lwcourse.data.base import Data, check_image_size, check_memory, check_whole
from lwcourse.data.photographs import photograph

DIGITS, TEST_DIGITS = 1797, 360  # all of scikit-learn's, and one in five of them
CUTS = (("china", 210), ("flower", 305))  # the column through the middle of each photograph's subject


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


@cache
def _photographs() -> Tensor:
    """The photographs named in CUTS, (2, 3, 427, 640), in [0, 1]."""
    return torch.stack([photograph(name) for name, _ in CUTS])


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


def _need_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError("this data set comes with scikit-learn: pip install scikit-learn") from error
