"""One run of training: all that it consists of, and its single step."""
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from lwcourse.running import unwrapped
from lwcourse.tasks import Meter, Task
from lwcourse.train.device import batches, on_cpu, seed_everything
from lwcourse.train.history import Epoch, History, TrainingDiverged
from lwcourse.train.validate import not_finite


@dataclass
class Run:
    """A network that learns a task: the model, its optimiser, its average (None: there is none), the scaler of mixed
    precision, the record so far. `place` moves images to the device and memory layout of the model.

    `rate(step)` is the learning rate of a step, counted from 0 over all epochs; `mixing`, where it is not None, blends
    a batch of images and targets.
    """
    model: nn.Module
    task: Task
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    history: History
    place: Callable[[Tensor], Tensor]
    device: torch.device
    rate: Callable[[int], float]
    autocast: Any
    average: AveragedModel | None = None
    mixing: Callable[[Tensor, Any], tuple[Tensor, Any]] | None = None
    stay: Sequence[nn.Module] = ()  # modules that stay in evaluation mode
    network: nn.Module = field(init=False)  # the model without wrappers

    def __post_init__(self):
        self.network = unwrapped(self.model)

    @property
    def tested(self) -> nn.Module:
        """What is tested, and what the model holds at the end: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def stateful(self) -> dict[str, Any]:
        """The parts that have a state, by name; the network is the last to be loaded, see `load_states`."""
        parts = {"model": self.network, "optimizer": self.optimizer, "scaler": self.scaler}
        return parts if self.average is None else {**parts, "average": self.average}

    def epoch(self, number: int, steps: int, train: DataLoader, test: DataLoader, after_step: Callable[[], None]
              ) -> Epoch:
        """Train for one epoch, counted from 0, and test. Raises TrainingDiverged where numbers are not finite."""
        start, total = time.perf_counter(), self.history.settings["epochs"] * steps
        seed_everything(self.history.settings["seed"], number)  # so that a resumed run draws what it would have
        self.model.train()
        for module in self.stay:
            module.training = False
        loss_sum, learned, meter, rate = 0.0, 0, self.task.meter(), math.nan
        for step, (images, targets) in enumerate(batches(train), start=number * steps):
            self.task.check_targets(targets)
            where = f"step {step + 1} of {total}"
            if blemish := not_finite(images, f"of {where}"):
                raise TrainingDiverged(blemish, self.history)
            weight, rate = self.task.weight(targets), self.rate(step)
            if weight and (loss := self._step(images, targets, rate, meter, where)) is not None:
                self.history.step_losses.append(loss)
                loss_sum += loss * weight
                learned += weight
            after_step()
        if not learned:
            raise self.task.nothing_counts(f"epoch {number + 1}")
        tested_loss, tested = measure(self.tested, self.task, test, self.place)
        if not math.isfinite(tested_loss):
            raise TrainingDiverged(f"the test loss became {tested_loss} in epoch {number + 1}; {self._advice()}",
                                   self.history)
        return Epoch(number + 1, {"loss": loss_sum / learned, **meter.result()},
                     {"loss": tested_loss, **tested.result()}, rate, time.perf_counter() - start)

    def _step(self, images: Tensor, targets: Any, rate: float, meter: Meter, where: str) -> float | None:
        """The loss of one step; None where too few images are left to learn from."""
        count = len(images)
        images, targets = self.place(images), self.task.targets(targets, self.device)
        if self.mixing is not None:
            images, targets = self.mixing(images, targets)
            if len(images) < min(count, 2):  # BatchNorm cannot train on a single image
                return None
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.autocast:
            output = self.model(images)
            loss = self.task.loss(output, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss became {value} at {where}; {self._advice()}", self.history)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        meter.update(output, targets)
        return value

    def _advice(self) -> str:
        """What to do about a loss that is not finite, although the images are."""
        if self.history.step_losses:
            return f"try a smaller lr than {self.history.settings['lr']}, or more warmup_epochs"
        for name, parameter in self.network.named_parameters():
            if not parameter.isfinite().all():
                return f"the network came with NaN or infinite values in {name}; build it again, or load other weights"
        return ("no step was taken yet, so lr is not the cause: the network gives that for finite images; look for a "
                "division, a logarithm or an overflow in its forward")


def measure(model: nn.Module, task: Task, loader: Iterable, place: Callable[[Tensor], Tensor]) -> tuple[float, Meter]:
    """The mean of the plain loss, and the figures, of a network in evaluation mode. Raises ValueError where images are
    not finite, or no target counts."""
    total, seen, meter = 0.0, 0, task.meter()
    model.eval()
    with torch.no_grad():
        for images, targets in batches(loader):
            task.check_targets(targets)
            output, targets = model(place(images)), task.targets(targets, torch.device("cpu"))
            loss, count = task.test_loss(output, targets)
            if not math.isfinite(loss) and (blemish := not_finite(images, "of a batch to test on")):
                raise ValueError(blemish)
            total, seen = total + loss, seen + count
            meter.update(output, targets)
    if not seen:
        raise task.nothing_counts()
    return total / seen, meter


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and of BatchNorm's statistics; counts and masks are copied."""
    update = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def average(mine: Sequence[Tensor], theirs: Sequence[Tensor], step: Tensor) -> None:
        if mine[0].is_floating_point() or mine[0].is_complex():
            update(mine, theirs, step)
        else:
            for own, value in zip(mine, theirs, strict=True):
                own.copy_(value)

    with on_cpu():  # its counter; the weights are where those of the network are
        return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
