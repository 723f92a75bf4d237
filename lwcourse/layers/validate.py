"""Errors that name what is wrong with an argument or an image, before a kernel fails on it."""
import torch.fx
from torch import Tensor


def check_options(num_classes: int, in_channels: int, width: float = 1.0) -> None:
    """Raise ValueError unless classes and channels are positive integers and `width` is a positive number."""
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if not isinstance(width, int | float) or not 0 < width < float("inf"):
        raise ValueError(f"width must be a positive number such as 0.5 or 1.0, got {width!r}")


def check_images(x: Tensor, in_channels: int, smallest: int) -> None:
    """Raise ValueError unless `x` is (N, in_channels, H, W) with H and W of at least `smallest` pixels."""
    if isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing():  # a tracer has no size that one may branch on
        return
    if x.dim() != 4:
        raise ValueError(f"images must be (N, {in_channels}, H, W), got shape {tuple(x.shape)}")
    _, channels, height, width = x.shape
    if channels != in_channels:
        raise ValueError(f"the network was built for {in_channels} channels, got {channels}: shape {tuple(x.shape)}")
    if height < smallest or width < smallest:
        raise ValueError(f"images must be at least {smallest} x {smallest} pixels, because the network divides "
                         f"each side by {smallest}; got {height} x {width}")
