"""The record of a run of training (`History`), and of a test (`Evaluation`)."""
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


class TrainingDiverged(RuntimeError):
    """The loss, or an image, is not a finite number; the message says why. `history` holds the run up to there."""

    def __init__(self, message: str, history: "History"):
        super().__init__(message)
        self.history = history


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images; accuracies are between 0 and 1, of images, or of pixels where labels are maps.

    Training figures are means over the pass, in training mode, of what was optimised: with label smoothing
    and mixup where they are used (an image then counts as its main label). Test figures are taken after
    it, in evaluation mode, with the plain cross-entropy, on the averaged weights if there are any.
    """
    epoch: int  # from 1
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    lr: float  # of the last step
    seconds: float
    test_mean_iou: float | None = None  # where labels are maps


@dataclass
class History:
    """What a run of `fit` did: its settings (and versions), its epochs, and the loss of each single step.

    `interrupted` tells that Ctrl-C ended it; `step_losses` may then hold part of one more epoch.
    """
    settings: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    interrupted: bool = False

    @property
    def final(self) -> Epoch:
        """The last complete epoch. Raises ValueError when there is none."""
        if not self.epochs:
            raise ValueError("no epoch was completed")
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The epoch of highest test accuracy, the first of equals. Raises ValueError when there is none."""
        if not self.epochs:
            raise ValueError("no epoch was completed")
        return max(self.epochs, key=lambda record: record.test_accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "History":
        """The inverse of `to_dict`. Raises ValueError when `record` is not of that form."""
        try:
            epochs = [Epoch(**epoch) for epoch in record["epochs"]]
            losses = list(record["step_losses"])
            figures = [value for epoch in record["epochs"] for value in epoch.values() if value is not None]
            if not all(isinstance(value, (int, float)) for value in losses + figures):
                raise TypeError("losses and accuracies must be numbers")
            return cls(dict(record["settings"]), epochs, losses, bool(record["interrupted"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no History.to_dict(): {error!r}") from error

    def __repr__(self) -> str:
        model, data, planned = (self.settings.get(name, "?") for name in ("model", "data", "epochs"))
        title = f"{model} on {data}: {len(self.epochs)} of {planned} epochs"
        dense = any(e.test_mean_iou is not None for e in self.epochs)
        lines = [title + (", interrupted" if self.interrupted else ""),
                 "epoch  train loss  train acc  test loss  test acc        lr  seconds" + "  test mIoU" * dense]
        lines += [f"{e.epoch:5}  {e.train_loss:10.4f}  {e.train_accuracy:9.2%}  {e.test_loss:9.4f}  "
                  f"{e.test_accuracy:8.2%}  {e.lr:8.2g}  {e.seconds:7.1f}"
                  + (f"  {e.test_mean_iou:9.2%}" if e.test_mean_iou is not None else "") for e in self.epochs]
        return "\n".join(lines)


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
