"""Errors that name what is wrong with an argument or an image, before a kernel fails on it."""
from numbers import Integral, Real

import torch.fx
from torch import Tensor, nn

LEAST_WIDTH, MOST_WIDTH = 0.01, 16  # published networks have 0.1 to 12; 16 times as wide is 256 times as large
MOST_CLASSES, MOST_CHANNELS = 10**6, 10**4  # of images; beyond them the first or last layer alone takes gigabytes


def check_options(num_classes: int, in_channels: int, width: float = 1.0) -> None:
    """Raise ValueError unless classes and channels are positive integers and `width` is a positive number.

    NumPy's numbers count as such, truth values do not. What is too large to be meant is refused too, before it takes
    all memory: more than 1,000,000 classes, 10,000 channels, or a width that is not from 0.01 to 16.
    """
    check_integer("num_classes", num_classes, most=MOST_CLASSES)
    check_integer("in_channels", in_channels, most=MOST_CHANNELS)
    if isinstance(width, bool) or not isinstance(width, Real) or not 0 < width < float("inf"):
        raise ValueError(f"width must be a positive number such as 0.5 or 1.0, got {width!r}")
    if not LEAST_WIDTH <= width <= MOST_WIDTH:
        raise ValueError(f"width multiplies the channels of every layer, and so the weights by its square: it must be "
                         f"from {LEAST_WIDTH} to {MOST_WIDTH}, got {width!r}")


def check_integer(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless `value` is an integer, also one of NumPy's, from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        allowed = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most:,}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False: "no" and 0.0 would be taken for one of them otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_rate(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a number from 0 to below 1, a share of what is dropped."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")


def check_images(network: nn.Module, x: Tensor, smallest: int, *, pooled_norm: bool = False,
                 one_pixel: int = 0) -> None:
    """Raise ValueError unless `network`, which has `in_channels`, can take the images `x`.

    They must be (N, in_channels, H, W) with H and W of at least `smallest` pixels, of which the network
    leaves one. In training mode a single such image has one value a channel there, of which BatchNorm can
    make no statistics; with `pooled_norm` (a BatchNorm after global pooling) that is so for any size, and
    with `one_pixel` up to that side, for a network of which larger images leave one pixel too.
    """
    if isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing():  # a tracer has no size that one may branch on
        return
    if x.dim() != 4:
        raise ValueError(f"images must be (N, {network.in_channels}, H, W), got shape {tuple(x.shape)}")
    images, channels, height, width = x.shape
    if channels != network.in_channels:
        raise ValueError(f"the network was built for {network.in_channels} channels, got {channels}: "
                         f"shape {tuple(x.shape)}")
    if height < smallest or width < smallest:
        raise ValueError(f"images must be at least {smallest} x {smallest} pixels, or nothing is left of them "
                         f"in the last layers; got {height} x {width}")
    if network.training and images == 1 and (
            pooled_norm or max(height, width) <= max(smallest, one_pixel)) and _has_norm(network):
        raise ValueError(f"BatchNorm cannot train on one image of {height} x {width} pixels, which leaves it one value "
                         "a channel; give two images or more, or call network.eval()")


def _has_norm(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
