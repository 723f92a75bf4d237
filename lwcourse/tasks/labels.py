"""Labels, of images or of pixels, and the networks that give logits for them: what must hold before training."""
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lwcourse.running import unwrapped


def name_of(model: nn.Module) -> str:
    return type(unwrapped(model)).__name__


def labelled_sample(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The first image and its label, as tensors. Raises ValueError unless they can be learned."""
    sample = dataset[0]
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        got = f"{len(sample)} values" if isinstance(sample, (tuple, list)) else f"a {type(sample).__name__}"
        raise ValueError(f"a data set must yield pairs, (image, label), and {type(dataset).__name__} yields {got}")
    image, label = sample
    if not isinstance(image, Tensor) or image.ndim != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images must be tensors of shape (channels, height, width), got {got}")
    if image.is_meta:
        raise ValueError("images are on the meta device, which holds no values")
    try:
        label = torch.as_tensor(label, device=label.device if isinstance(label, Tensor) else "cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"a label must be a class number, or a map of them, got {label!r}") from error
    if label.ndim == 1:
        raise ValueError(f"a label must be a class number, or a map (height, width) of them, got shape "
                         f"{tuple(label.shape)}; of a one-hot vector, take argmax()")
    if label.ndim and label.shape != image.shape[1:]:
        raise ValueError(f"a label map must be (height, width) as its image is, {tuple(image.shape[1:])}, "
                         f"got {tuple(label.shape)}")
    return image, label


def count_outputs(model: nn.Module, sample: tuple[Tensor, Tensor], place: Callable[[Tensor], Tensor]) -> int:
    """The number of classes that the model gives logits for. Raises ValueError where it cannot run the sample, or
    gives something else than logits for it."""
    (image, label), name = sample, name_of(model)
    model.eval()
    try:
        with torch.no_grad():
            logits = model(place(image.unsqueeze(0)))
    except ValueError:
        raise
    except Exception as error:
        why = error if isinstance(error, RuntimeError) else repr(error)
        raise ValueError(f"{name} cannot run images of shape {tuple(image.shape)}: {why}") from error
    size = tuple(label.shape)
    if not isinstance(logits, Tensor) or logits.ndim < 2 or tuple(logits.shape[2:]) != size:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wanted = "a classifier returns logits of shape (N, num_classes)"
        if size:
            wanted = f"a network that labels pixels returns logits of shape (N, num_classes, {size[0]}, {size[1]})"
        raise ValueError(f"{wanted}; {name} gave {got}")
    return logits.shape[1]


def known_labels(dataset: Dataset) -> Tensor | None:
    """All labels at once, of a data set that has them at hand as it yields them."""
    if hasattr(dataset, "tensors"):
        return dataset.tensors[1]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    try:  # torchvision's data sets
        labels = torch.as_tensor(dataset.targets, device="cpu")
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return None if labels.is_floating_point() else labels.long()
