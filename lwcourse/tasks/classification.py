"""One class an image: cross-entropy, and the share of images that are right."""
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from lwcourse.layers import TrainingOutput
from lwcourse.tasks.labels import count_outputs, known_labels, labelled_sample, name_of

IGNORE_INDEX = -100  # PyTorch's label for what does not count


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How a model did on a data set: mean cross-entropy, share of images right, and who was taken for whom.

    `confusion` (classes, classes) counts images: the row is the true class, the column the predicted one.
    Where labels are maps, all of these are of pixels.
    """
    loss: float
    accuracy: float
    confusion: Tensor
    classes: tuple[str, ...]

    @property
    def class_accuracy(self) -> Tensor:
        """(classes,): of each class, the share of its images that are right; nan for a class without images."""
        return self.confusion.diagonal() / self.confusion.sum(1)

    @property
    def iou(self) -> Tensor:
        """(classes,): intersection over union of each class; nan for one that neither occurs nor is predicted."""
        both = self.confusion.diagonal()
        return both / (self.confusion.sum(0) + self.confusion.sum(1) - both)

    @property
    def mean_iou(self) -> float:
        """The mean of `iou` over the classes that have one."""
        return self.iou.nanmean().item()

    def __repr__(self) -> str:
        right, count = int(self.confusion.trace()), int(self.confusion.sum())
        return f"accuracy {self.accuracy:.2%} ({right:,} of {count:,}), loss {self.loss:.4f}"


class ConfusionMeter:
    """Counts who was taken for whom: `confusion` (classes, classes), row the true class, column the predicted one."""

    def __init__(self, classes: int, ignore_index: int):
        self.ignore_index = ignore_index
        self.confusion = torch.zeros(classes, classes, dtype=torch.long, device="cpu")

    def update(self, output: Tensor | TrainingOutput, targets: Tensor) -> None:
        """Count a batch of logits (N, classes, ...) and labels; of blended labels (N, classes), the main one."""
        predicted = main_logits(output).argmax(1).cpu()
        labels = (targets.argmax(1) if targets.is_floating_point() else targets).cpu()
        counted = labels != self.ignore_index
        pairs = labels[counted] * len(self.confusion) + predicted[counted]
        self.confusion += torch.bincount(pairs, minlength=self.confusion.numel()).view_as(self.confusion)

    def merge(self, other: "ConfusionMeter") -> None:
        self.confusion += other.confusion

    @property
    def accuracy(self) -> float:
        """The share that is right; nan before anything is counted."""
        count = int(self.confusion.sum())
        return int(self.confusion.trace()) / count if count else math.nan

    def result(self) -> dict[str, float]:
        return {"accuracy": self.accuracy}


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Images get one of `classes`; labelled `ignore_index`, they do not count.

    The loss is cross-entropy, with `class_weights` (classes,) and `label_smoothing` in training alone.
    """
    classes: tuple[str, ...]
    ignore_index: int = IGNORE_INDEX
    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

    metric: ClassVar[str] = "accuracy"
    higher: ClassVar[bool] = True
    one: ClassVar[str] = "image"  # what has a label

    def sample(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        return labelled_sample(dataset)

    def check(self, model: nn.Module, dataset: Dataset, sample: tuple[Tensor, Tensor],
              place: Callable[[Tensor], Tensor]) -> None:
        outputs = count_outputs(model, sample, place)
        if outputs != len(self.classes):
            raise ValueError(f"{name_of(model)} has {outputs} outputs, but the data has {len(self.classes)} classes; "
                             f"build it with num_classes={len(self.classes)}")
        self.check_labels(dataset, sample)

    def check_labels(self, dataset: Dataset, sample: tuple[Tensor, Tensor]) -> None:
        """Raise ValueError unless the sample's labels, and all others that are at hand, can be learned."""
        self.check_targets(sample[1])
        labels = known_labels(dataset)
        if labels is not None:
            parts = labels.split(4096)  # what is computed of all at once would take several times their memory
            for part in parts:
                self.check_targets(part)
            if not any((part != self.ignore_index).any() for part in parts):
                raise self.nothing_counts()

    def check_targets(self, targets: Tensor) -> None:
        if targets.dtype != torch.long:
            raise ValueError(f"labels must be of type torch.int64, as cross-entropy needs them, got {targets.dtype}")
        if targets.numel() and targets.min() >= 0 and targets.max() < len(self.classes):
            return
        wrong = targets[((targets < 0) | (targets >= len(self.classes))) & (targets != self.ignore_index)]
        if len(wrong):
            raise ValueError(f"labels must be between 0 and {len(self.classes) - 1}, or {self.ignore_index} for what "
                             f"does not count; got {wrong[0].item()}")

    def nothing_counts(self, training: str = "") -> ValueError:
        if training:
            return ValueError(f"no label of {training} counts: all are {self.ignore_index}, or of a class of weight 0")
        return ValueError(f"every {self.one} is labelled {self.ignore_index}, the label that does not count")

    def weight(self, targets: Tensor) -> float:
        if targets.is_floating_point():  # blended labels, whose loss is a mean over images
            return len(targets)
        counted = targets != self.ignore_index
        if self.class_weights is None:
            return counted.sum().item()
        return self.class_weights.to(targets.device)[targets[counted]].double().sum().item()

    def targets(self, batch: Tensor, device: torch.device) -> Tensor:
        return batch.to(device)

    def loss(self, output: Tensor | TrainingOutput, targets: Tensor) -> Tensor:
        weight = None if self.class_weights is None else self.class_weights.to(targets.device)

        def cross_entropy(logits: Tensor) -> Tensor:
            return F.cross_entropy(logits, targets, weight, ignore_index=self.ignore_index,
                                   label_smoothing=self.label_smoothing)

        if not isinstance(output, TrainingOutput):
            return cross_entropy(output)
        return cross_entropy(output.logits) + output.weight * sum(map(cross_entropy, output.auxiliary))

    def test_loss(self, output: Tensor, targets: Tensor) -> tuple[float, int]:
        total = F.cross_entropy(output.float().cpu(), targets.cpu(), ignore_index=self.ignore_index, reduction="sum")
        return total.item(), int((targets != self.ignore_index).sum())

    def meter(self) -> ConfusionMeter:
        return ConfusionMeter(len(self.classes), self.ignore_index)

    def evaluation(self, loss: float, meter: ConfusionMeter) -> Evaluation:
        return Evaluation(loss, meter.accuracy, meter.confusion, self.classes)

    def distillation_loss(self, output: Tensor | TrainingOutput, taught: Tensor, temperature: float) -> Tensor:
        """How far the shares of the classes are from the teacher's, both at `temperature`: the Kullback-Leibler
        divergence, times temperature**2, as gradients shrink by that (Hinton et al. 2015, section 2.1)."""
        ours, theirs = ((main_logits(one).float() / temperature).log_softmax(1) for one in (output, taught))
        return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1).mean() * temperature**2

    def mixing(self, mixup: float, cutmix: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Mixup, CutMix, or one of both a batch, with labels as shares (N, classes); images that do not count are left
        out. The numbers are alphas of Beta(alpha, alpha); 0 is off."""
        from torchvision.transforms.v2 import CutMix, MixUp, RandomChoice
        blends = [kind(alpha=alpha, num_classes=len(self.classes))
                  for kind, alpha in ((MixUp, mixup), (CutMix, cutmix)) if alpha]
        blend = blends[0] if len(blends) == 1 else RandomChoice(blends)

        def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            chosen = labels != self.ignore_index
            if not chosen.all():
                images, labels = images[chosen], labels[chosen]
            return blend(images, labels)
        return mixed


def main_logits(output: Tensor | TrainingOutput) -> Tensor:
    return output.logits if isinstance(output, TrainingOutput) else output
