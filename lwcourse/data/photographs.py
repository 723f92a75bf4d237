"""Photographs that come with scikit-learn and scikit-image, to look at what a network does to a picture."""
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from lwcourse.data.base import check_image_size

LICENCES = MappingProxyType({
    "china": "CC BY 2.0, danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035 (in scikit-learn)",
    "flower": "CC BY 2.0, vultilion, https://www.flickr.com/photos/vultilion/6056698931 (in scikit-learn)",
    "chelsea": "CC0, Stefan van der Walt (in scikit-image)",
    "coffee": "CC0, Rachel Michetti, courtesy of Pikolo Espresso Bar (in scikit-image)",
    "camera": "CC0, Lav Varshney (in scikit-image)",
    "astronaut": "public domain, NASA Great Images, https://flic.kr/p/r9qvLn (in scikit-image)",
    "rocket": "public domain, SpaceX, https://www.flickr.com/photos/spacexphotos/16511594820 (in scikit-image)"})


class Photos(NamedTuple):
    """Photographs, float tensors (3, height, width) with values in [0, 1]; `licences` says whose each of them is."""
    china: Tensor
    flower: Tensor
    chelsea: Tensor
    coffee: Tensor
    camera: Tensor
    astronaut: Tensor
    rocket: Tensor

    @property
    def licences(self) -> Mapping[str, str]:
        """By name, a line with the licence, the photographer and the source of each photograph."""
        return LICENCES


def photos(*, image_size: int | None = None) -> Photos:
    """Seven photographs, two of scikit-learn and five of scikit-image; all come with pip.

    Their sizes are 427 x 640 (china, flower, rocket), 300 x 451 (chelsea, a cat), 400 x 600 (coffee) and 512 x 512
    (camera, which is grey, and astronaut). With `image_size`, the central square of each, resized to that.

    Raises ImportError where scikit-learn or scikit-image is missing.
    """
    from torchvision.transforms.v2 import functional as transforms

    if image_size is not None:
        image_size = check_image_size(image_size, 8, 1024)
    found = []
    for name in Photos._fields:
        photo = photograph(name)
        if image_size is None:
            found.append(photo.clone())
        else:
            square = transforms.center_crop(photo, [min(photo.shape[-2:])])
            found.append(transforms.resize(square, [image_size, image_size], antialias=True))
    return Photos(*found)


@cache
def photograph(name: str) -> Tensor:
    """One of `Photos`, (3, height, width) in [0, 1]. It is kept: whoever changes it changes it for all."""
    package = "scikit-learn" if "scikit-learn" in LICENCES[name] else "scikit-image"
    try:
        if package == "scikit-learn":
            from sklearn.datasets import load_sample_image
            pixels = load_sample_image(f"{name}.jpg")
        else:
            from skimage import data
            pixels = getattr(data, name)()
    except ImportError as error:
        raise ImportError(f"this data set comes with {package}: pip install {package}") from error
    photo = torch.from_numpy(pixels.copy())
    photo = photo.expand(3, -1, -1) if photo.ndim == 2 else photo.permute(2, 0, 1)
    return photo.contiguous().float() / 255
