"""How to build the network that one of ours must equal, from torchvision, timm or pytorchcv."""
from collections.abc import Callable
from typing import NamedTuple

from torch import nn


class Reference(NamedTuple):
    """`arguments` are those of our factory; `build(num_classes)` makes the network to equal, untrained.

    `label` is package and name, as in "timm mobilenetv1_100". Where the package follows another convention
    than ours, `build` aligns it, and `note` says what it changed. `size` (height, width) is that of the
    images on which the outputs are compared, `classes` holds the numbers of classes with which they are.
    """
    label: str
    arguments: dict
    build: Callable[[int], nn.Module]
    size: tuple[int, int] = (96, 64)  # rectangular: a swap of height and width must show
    note: str = ""
    classes: tuple[int, ...] = (1000, 10)


def torchvision_model(name: str, **options) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        import torchvision
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    build.options = options  # none: the network as it is published
    return build


def timm_model(name: str, **options) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        import timm
        return timm.create_model(name, pretrained=False, num_classes=num_classes, **options)
    build.options = options
    return build


def pytorchcv_model(name: str, **options) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        from pytorchcv.model_provider import get_model
        network = get_model(name, pretrained=False, num_classes=num_classes, **options)
        network.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs fits 224 x 224 only
        return network
    return build
