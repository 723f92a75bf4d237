"""The record of a run of training: `History`."""
from dataclasses import asdict, dataclass, field
from typing import Any

SHORT = {"accuracy": "acc", "mean_iou": "mIoU"}  # in the heads of columns
SHARES = ("accuracy", "mean_iou")  # figures between 0 and 1, shown in per cent


class TrainingDiverged(RuntimeError):
    """The loss, or an image, is not a finite number; the message says why. `history` holds the run up to there."""

    def __init__(self, message: str, history: "History"):
        super().__init__(message)
        self.history = history


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images: its number (from 1), figures by name, the last learning rate, the time.

    `train` are means over the pass, in training mode: the loss that was optimised, with label smoothing and mixup where
    they are used (an image then counts as its main label), and what the task measures. `test` is taken after it, in
    evaluation mode, with the plain loss, on the averaged weights if there are any. Accuracies are between 0 and 1.
    """
    epoch: int
    train: dict[str, float]
    test: dict[str, float]
    lr: float
    seconds: float

    def __getattr__(self, name: str) -> float:
        """`train_loss`, `test_accuracy` and the like: the figures of `train` and `test`."""
        part, _, figure = name.partition("_")
        if part in ("train", "test") and figure in vars(self).get(part, ()):
            return vars(self)[part][figure]
        raise AttributeError(f"an epoch has no {name!r}; it has " + ", ".join(
            f"{part}_{figure}" for part in ("train", "test") for figure in vars(self).get(part, ())))


@dataclass
class History:
    """What a run of `fit` did: its settings (and versions), its epochs, and the loss of each single step.

    `interrupted` tells that Ctrl-C ended it; `step_losses` may then hold part of one more epoch. `metric` is the figure
    that the best epoch goes by, the highest or, unless `higher`, the lowest.
    """
    settings: dict[str, Any]
    epochs: list[Epoch] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    interrupted: bool = False
    metric: str = "accuracy"
    higher: bool = True

    @property
    def final(self) -> Epoch:
        """The last complete epoch. Raises ValueError when there is none."""
        if not self.epochs:
            raise ValueError("no epoch was completed")
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The epoch of the best test figure, `metric`, of equals the one with the least loss, of these the first.

        Raises ValueError when there is none.
        """
        if not self.epochs:
            raise ValueError("no epoch was completed")
        return max(self.epochs, key=lambda record: (record.test[self.metric] * (1 if self.higher else -1),
                                                    -record.test.get("loss", 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "History":
        """The inverse of `to_dict`. Raises ValueError when `record` is not of that form."""
        try:
            epochs = [Epoch(**epoch) for epoch in record["epochs"]]
            losses = list(record["step_losses"])
            figures = [value for epoch in epochs for part in (epoch.train, epoch.test) for value in part.values()]
            figures += [value for epoch in epochs for value in (epoch.epoch, epoch.lr, epoch.seconds)]
            if not all(isinstance(value, (int, float)) for value in losses + figures):
                raise TypeError("losses and figures must be numbers")
            return cls(dict(record["settings"]), epochs, losses, bool(record["interrupted"]), record["metric"],
                       bool(record["higher"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no History.to_dict(): {error!r}") from error

    def __repr__(self) -> str:
        model, data, planned = (self.settings.get(name, "?") for name in ("model", "data", "epochs"))
        title = f"{model} on {data}: {len(self.epochs)} of {planned} epochs"
        columns = [("train", "loss"), ("train", self.metric), ("test", "loss"), ("test", self.metric)]
        further = [("test", name) for name in (self.epochs[0].test if self.epochs else ())
                   if name not in ("loss", self.metric)]
        heads = {column: f"{column[0]} {SHORT.get(column[1], column[1])}" for column in columns + further}
        head = ["epoch", *(heads[c] for c in columns), "      lr", "seconds", *(heads[c] for c in further)]
        lines = [title + (", interrupted" if self.interrupted else ""), "  ".join(head)]
        for e in self.epochs:
            cells = {(part, name): figure(name, getattr(e, part).get(name), len(heads[part, name]))
                     for part, name in columns + further}
            lines.append("  ".join([f"{e.epoch:5}", *(cells[c] for c in columns), f"{e.lr:8.2g}", f"{e.seconds:7.1f}",
                                    *(cells[c] for c in further)]))
        return "\n".join(lines)


def figure(name: str, value: float | None, width: int) -> str:
    """A figure in a column: shares in per cent, losses and others with four decimals."""
    if value is None:
        return " " * width
    return f"{value:{width}.2%}" if name in SHARES else f"{value:{width}.4f}"
