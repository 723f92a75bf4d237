"""Errors that name what is wrong with a setting, with data, or with a model that does not fit it."""
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


def check_types(model: object, data: object, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, as lw.create_model(name) builds it, got {model!r}")
    if not isinstance(data, kinds):
        raise TypeError(f"data must be a Data, such as lw.load_data('digits'), got {type(data).__name__}")


def check_settings(settings: dict[str, Any]) -> None:
    def whole(name: str, least: int) -> bool:
        value = settings[name]
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def number(name: str, least: float, most: float = sys.float_info.max) -> bool:
        value = settings[name]
        return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most

    tiny, epochs = sys.float_info.min, settings["epochs"]
    all_warmup = whole("epochs", 1) and number("warmup_epochs", 0) and settings["warmup_epochs"] >= epochs
    rules = {
        "train_images": (whole("train_images", 1), "at least 1, there is nothing to train on"),
        "test_images": (whole("test_images", 1), "at least 1, there is nothing to test on"),
        "epochs": (whole("epochs", 1), "a whole number of at least 1"),
        "seed": (whole("seed", 0), "a whole number of at least 0"),
        "batch_size": (whole("batch_size", 1), "a whole number of at least 1"),
        "num_workers": (whole("num_workers", 0), "a whole number of at least 0"),
        "lr": (number("lr", tiny), "a positive number"),
        "momentum": (number("momentum", 0, 1 - 1e-9), "at least 0 and below 1"),
        "nesterov": (not settings["nesterov"] or settings["momentum"] != 0, "False when momentum is 0"),
        "weight_decay": (number("weight_decay", 0), "at least 0"),
        "label_smoothing": (number("label_smoothing", 0, 1), "between 0 and 1"),
        "warmup_epochs": (number("warmup_epochs", 0) and not all_warmup, f"at least 0 and below epochs={epochs}"),
        "mixup": (number("mixup", 0), "at least 0 (0 is off)"),
        "ema": (settings["ema"] is None or number("ema", tiny, 1 - 1e-9), "None, or between 0 and 1"),
    }
    for name, (right, allowed) in rules.items():
        if not right:
            raise ValueError(f"{name} must be {allowed}, got {settings[name]!r}")


def check_class_weights(weights: Tensor | Sequence[float] | None, num_classes: int) -> Tensor | None:
    """The weights as a float tensor. Raises ValueError unless there is one number, not negative, a class."""
    if weights is None:
        return None
    weights = torch.as_tensor(weights, dtype=torch.float32)
    if weights.shape != (num_classes,):
        raise ValueError(f"class_weights must be {num_classes} numbers, one a class, got shape {tuple(weights.shape)}")
    if not (weights.isfinite().all() and weights.min() >= 0 and weights.max() > 0):
        raise ValueError(f"class_weights must be finite, none negative and not all 0, got {weights.tolist()}")
    return weights


def check_labels(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    """Raise ValueError unless all labels are classes or `ignore_index`."""
    if labels.dtype != torch.long:
        raise ValueError(f"labels must be of type torch.int64, as cross-entropy needs them, got {labels.dtype}")
    wrong = labels[((labels < 0) | (labels >= num_classes)) & (labels != ignore_index)]
    if len(wrong):
        raise ValueError(f"labels must be between 0 and {num_classes - 1}, or {ignore_index} for what does not "
                         f"count; got {wrong[0].item()}")


def check_output(model: nn.Module, dataset: Dataset, place: Callable[[Tensor], Tensor],
                 classes: tuple[str, ...] | None, ignore_index: int) -> int:
    """The number of outputs of the model, if it can run the images and has one output for each class."""
    image, label = dataset[0]
    if not isinstance(image, Tensor) or image.ndim != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images must be tensors of shape (channels, height, width), got {got}")
    dense = isinstance(label, Tensor) and label.ndim > 0
    if dense and label.shape != image.shape[1:]:
        raise ValueError(f"a label map must be (height, width) as its image is, {tuple(image.shape[1:])}, "
                         f"got {tuple(label.shape)}")
    model.eval()
    try:
        with torch.no_grad():
            logits = model(place(image.unsqueeze(0)))
    except RuntimeError as error:
        raise ValueError(f"{type(model).__name__} cannot run images of shape {tuple(image.shape)}: {error}") from error
    size = tuple(image.shape[1:]) if dense else ()
    if not isinstance(logits, Tensor) or logits.ndim < 2 or tuple(logits.shape[2:]) != size:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        wanted = "a classifier returns logits of shape (N, num_classes)"
        if dense:
            wanted = f"a network that labels pixels returns logits of shape (N, num_classes, {size[0]}, {size[1]})"
        raise ValueError(f"{wanted}; {type(model).__name__} gave {got}")
    outputs = logits.shape[1]
    if classes is not None and outputs != len(classes):
        raise ValueError(f"{type(model).__name__} has {outputs} outputs, but the data has {len(classes)} classes; "
                         f"build it with num_classes={len(classes)}")
    labels = getattr(dataset, "targets", None)  # torchvision's data sets
    if labels is None and hasattr(dataset, "tensors"):
        labels = dataset.tensors[1]
    if labels is not None:
        check_labels(torch.as_tensor(labels), outputs, ignore_index)
    return outputs
