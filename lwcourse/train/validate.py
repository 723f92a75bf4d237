"""Errors that name what is wrong with a setting, with data, or with a model that does not fit it."""
import math
import numbers
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import IterableDataset

from lwcourse.train.device import named_tensors
from lwcourse.train.state import modes_kept, unwrapped

LARGEST = torch.finfo(torch.float32).max  # what a factor of single-precision weights can be


def plain(value: object) -> object:
    """A number of NumPy as one of Python, anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, least: float, most: float = sys.float_info.max) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most


def check_types(model: object, data: object, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, as lw.create_model(name) builds it, got {model!r}")
    if not isinstance(data, kinds):
        raise TypeError(f"data must be a Data, such as lw.load_data('digits'), got {type(data).__name__}")


def check_network(model: nn.Module, what: str) -> None:
    """Raise ValueError for a network that cannot be moved or change between its two modes: `what` is wanted of it."""
    name = type(unwrapped(model)).__name__
    tensors = named_tensors(model)
    if any(is_lazy(tensor) for tensor in tensors.values()):
        raise ValueError(f"{name} has lazy layers without shapes yet: run it once, then {what} it")
    on_meta = next((key for key, tensor in tensors.items() if tensor.is_meta), None)
    if on_meta is not None:
        raise ValueError(f"{name} is on the meta device, which holds no values ({on_meta}); build it on the CPU")
    if what == "train" and any(isinstance(module, torch.jit.TracedModule) for module in model.modules()):
        raise ValueError(f"{name} was traced, which fixes its mode; fit takes the network before torch.jit.trace")
    with modes_kept(model):
        try:
            model.train()
            model.eval()
        except NotImplementedError as error:
            raise ValueError(f"{name} has no training and evaluation mode ({error}); give the network before "
                             "torch.export") from error


def count_images(dataset: object, name: str) -> int:
    """The length of a data set. Raises ValueError for one that has none, or cannot be asked for its n-th image."""
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        count = None
    if count is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise ValueError(f"{name} must have a length and an n-th image, as torch.utils.data.TensorDataset does, "
                         f"got {type(dataset).__name__}")
    return count


def check_flags(optional: tuple[str, ...] = (), **flags: object) -> None:
    """Raise ValueError unless each is True or False, or None where `optional`: bool("no") is True."""
    for name, value in flags.items():
        if not isinstance(value, bool) and not (value is None and name in optional):
            raise ValueError(f"{name} must be {'None, ' * (name in optional)}True or False, got {value!r}")


def check_settings(settings: dict[str, Any]) -> None:
    """Raise ValueError unless there are images, and seed and number of workers are whole numbers."""
    rules = {
        "train_images": (1, "at least 1, there is nothing to train on"),
        "test_images": (1, "at least 1, there is nothing to test on"),
        "seed": (0, "a whole number of at least 0"),
        "num_workers": (0, "a whole number of at least 0"),
    }
    for name, (least, allowed) in rules.items():
        if not is_whole(settings[name], least):
            raise ValueError(f"{name} must be {allowed}, got {settings[name]!r}")


def check_loading(batch_size: object, num_workers: object) -> None:
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if not is_whole(value, least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_seeds(seeds: Sequence[int]) -> list[int]:
    """The seeds as a list. Raises ValueError unless they are whole numbers, and one at least."""
    try:
        seeds = None if isinstance(seeds, (str, bytes)) else [plain(seed) for seed in seeds]
    except TypeError:
        seeds = None
    if seeds is None:
        raise ValueError("seeds must be a sequence of whole numbers, such as (0, 1, 2)")
    if not seeds:
        raise ValueError("seeds is empty; give one at least, such as (0, 1, 2)")
    for seed in seeds:
        if not is_whole(seed, 0):
            raise ValueError(f"each of seeds must be a whole number of at least 0, got {seed!r}")
    return seeds


def check_class_weights(weights: Tensor | Sequence[float] | None, num_classes: int) -> Tensor | None:
    """The weights as a float tensor. Raises ValueError unless there is one number, not negative, a class."""
    if weights is None:
        return None
    try:
        given = weights
        weights = torch.as_tensor(given, dtype=torch.float32, device="cpu").detach()
    except (TypeError, ValueError, RuntimeError) as error:  # the last is what meta tensors raise
        raise ValueError(f"class_weights must be {num_classes} numbers, one a class, got {given!r}") from error
    if weights.shape != (num_classes,):
        raise ValueError(f"class_weights must be {num_classes} numbers, one a class, got shape {tuple(weights.shape)}")
    if not (weights.isfinite().all() and weights.min() >= 0 and weights.max() > 0):
        raise ValueError(f"class_weights must be finite, none negative and not all 0, got {weights.tolist()}")
    return weights


def shares_of(schedule: Callable[[float], float], epochs: int, steps: int, lr: float) -> Sequence[float]:
    """The shares of `lr` that `schedule` gives, one a step of `epochs` epochs of `steps` steps each.

    Raises ValueError, with step and value, unless all are numbers of at least 0 with a finite learning rate.
    """
    shares = array("d")
    for step in range(epochs * steps):
        where = f"schedule({step / steps:g}), the share of lr at step {step + 1} of {epochs * steps},"
        try:
            share = schedule(step / steps)
        except Exception as error:
            raise ValueError(f"{where} failed: {error!r}") from error
        number = share.item() if isinstance(share, (Tensor, np.ndarray)) and math.prod(share.shape) == 1 else share
        if not isinstance(number, numbers.Real) or isinstance(number, bool):
            raise ValueError(f"{where} must be a number of at least 0, got {share!r}")
        if not (number >= 0 and lr * number <= LARGEST):
            raise ValueError(f"{where} must be at least 0 and give a finite learning rate, got {share!r}")
        shares.append(number)
    return shares


def not_finite(images: Tensor, where: str) -> str:
    """A sentence about the images of a batch that hold NaN or infinite values; nothing when none does."""
    if math.isfinite(images.sum().item()) or images.isfinite().all():  # the sum is quicker, and may overflow
        return ""
    kind = "NaN" if images.isnan().any() else "infinite values"
    count = (~images.isfinite()).flatten(1).any(1).sum().item()
    return f"{count} of the {len(images)} images {where} hold {kind}; look at the data, and at how it is normalised"
