"""Errors that name what is wrong with an argument or an image, before a kernel fails on it."""
import torch.fx
from torch import Tensor, nn


def check_options(num_classes: int, in_channels: int, width: float = 1.0) -> None:
    """Raise ValueError unless classes and channels are positive integers and `width` is a positive number."""
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not isinstance(width, int | float) or not 0 < width < float("inf"):
        raise ValueError(f"width must be a positive number such as 0.5 or 1.0, got {width!r}")


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
