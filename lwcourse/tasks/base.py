"""What a task answers, so that one loop trains and tests networks for all of them."""
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Meter(Protocol):
    """The figures of some images, batch by batch. Its attributes are tensors, numbers, and lists and dicts of them: a
    checkpoint in the middle of an epoch holds them, and other processes send theirs."""

    def update(self, output: Any, targets: Any) -> None:
        """Count one batch."""

    def merge(self, other: "Meter") -> None:
        """Count what another process has counted."""

    def result(self) -> dict[str, float]:
        """Named figures; the first is the one that the best epoch goes by."""


class Task(Protocol):
    """What is learned from a data set, and how well: a dataclass, whose fields are its options.

    `metric` names the first figure of `meter().result()`, and `higher` tells whether more of it is better.
    """
    metric: str
    higher: bool

    def sample(self, dataset: Dataset) -> tuple[Tensor, Any]:
        """The first image (channels, height, width) and its target. Raises ValueError unless they can be learned."""

    def check(self, model: nn.Module, dataset: Dataset, sample: tuple[Tensor, Any],
              place: Callable[[Tensor], Tensor]) -> None:
        """Raise ValueError unless the model runs the sample, whose image `place` moves, and has the outputs that the
        data need, and there is something to learn."""

    def check_targets(self, targets: Any) -> None:
        """Raise ValueError unless a batch of targets can be learned."""

    def weight(self, targets: Any) -> float:
        """What the loss of a batch was divided by: how much it counts in a mean over several; 0 where nothing in it can
        be learned."""

    def nothing_counts(self, training: str = "") -> ValueError:
        """The error for data in which no target counts; `training` is what was to be learned from, as "epoch 3"."""

    def targets(self, batch: Any, device: torch.device) -> Any:
        """A batch of targets on the device."""

    def loss(self, output: Any, targets: Any) -> Tensor:
        """What training makes small: a mean over the batch, further heads included."""

    def test_loss(self, output: Any, targets: Any) -> tuple[float, int]:
        """The plain loss of a batch in evaluation mode, summed, and over how many: (sum, count)."""

    def mixing(self, mixup: float, cutmix: float) -> Callable[[Tensor, Any], tuple[Tensor, Any]]:
        """Mixup or CutMix of a batch of images and targets, as their alphas say (0: off), before each step. Raises
        ValueError where such targets cannot be blended."""

    def distillation_loss(self, output: Any, taught: Any, temperature: float) -> Tensor:
        """How far the output is from a teacher's: a mean over the batch."""

    def meter(self) -> Meter:
        """A new one."""

    def evaluation(self, loss: float, meter: Meter) -> Any:
        """What `lw.evaluate` returns."""
