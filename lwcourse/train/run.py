"""One run of training: all that it consists of, its single step, and its state at any place."""
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lwcourse.running import unwrapped
from lwcourse.tasks import Meter, Task
from lwcourse.train.device import on_cpu, seed_again
from lwcourse.train.history import Epoch, History, TrainingDiverged
from lwcourse.train.input import Batches
from lwcourse.train.processes import Processes
from lwcourse.train.recipes import Recipe
from lwcourse.train.validate import not_finite

STEP = 3  # what random numbers are for; see `lwcourse.train.input`


class Batch(NamedTuple):
    """Images and targets on the device, and how much the targets count in a mean (0: there is nothing to learn)."""
    images: Tensor
    targets: Any
    weight: float


@dataclass
class Run:
    """A network that learns a task, by a recipe: model, optimiser, average (None: there is none), the scaler of mixed
    precision, the record so far, and the place in it: `step` optimiser steps of the epoch after the recorded ones.

    `place` moves images to the device and memory layout of the model; `rate(step)` is the learning rate of a step,
    counted from 0 over all epochs; `mixing`, where it is not None, blends a batch of images and targets; `teacher` is
    a network whose outputs are learned as well. Random numbers of a step depend on seed, epoch, step and process alone,
    so that a run which goes on from its state draws what it would have drawn.
    """
    model: nn.Module
    task: Task
    recipe: Recipe
    train: Batches
    test: Batches
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    history: History
    place: Callable[[Tensor], Tensor]
    device: torch.device
    rate: Callable[[int], float]
    autocast: Any
    average: AveragedModel | None = None
    mixing: Callable[[Tensor, Any], tuple[Tensor, Any]] | None = None
    teacher: nn.Module | None = None
    stay: Sequence[nn.Module] = ()  # modules that stay in evaluation mode
    processes: Processes = field(default_factory=Processes)
    network: nn.Module = field(init=False)  # the model without wrappers
    step: int = field(init=False, default=0)

    def __post_init__(self):
        self.network = unwrapped(self.model)
        self.seed = self.history.settings["seed"]
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.step, self.loss_sum, self.learned, self.seconds, self.meter = 0, 0.0, 0, 0.0, self.task.meter()

    @property
    def tested(self) -> nn.Module:
        """What is tested, and what the model holds at the end: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def steps(self) -> int:
        """How many steps of the optimiser an epoch has."""
        return math.ceil(self.train.count / self.recipe.accumulate)

    def images_of(self, step: int) -> int:
        """How many images step `step` of an epoch takes, over all processes; the last one may have fewer."""
        each = self.recipe.batch_size * self.recipe.accumulate
        return min(each, len(self.train.dataset) - step * each)

    @property
    def total_steps(self) -> int:
        return self.recipe.epochs * self.steps

    @property
    def done_steps(self) -> int:
        """Steps so far, over all epochs."""
        return len(self.history.epochs) * self.steps + self.step

    @property
    def finished(self) -> bool:
        return len(self.history.epochs) >= self.recipe.epochs

    @property
    def stateful(self) -> dict[str, Any]:
        """The parts that have a state, by name; the network is the last to be loaded, see `load_run`."""
        parts = {"model": self.network, "optimizer": self.optimizer, "scaler": self.scaler}
        return parts if self.average is None else {**parts, "average": self.average}

    def position(self) -> dict[str, Any]:
        """The place in the epoch, and its sums so far: what a checkpoint holds beside the parts' states.

        All processes must call it together: what each has counted is put together.
        """
        first, *others = self.processes.gathered(self.meter)
        if others:
            whole = self.task.meter()
            for meter in (first, *others):
                whole.merge(meter)
            first = whole
        return {"step": self.step, "loss_sum": self.loss_sum, "learned": self.learned, "seconds": self.seconds,
                "meter": dict(vars(first))}

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from what `position` gave. Raises ValueError for a step that no epoch has."""
        if not 0 <= position["step"] <= self.steps:
            raise ValueError(f"step {position['step']} of {self.steps} in an epoch")
        self.step, self.loss_sum = position["step"], position["loss_sum"]
        self.learned, self.seconds = position["learned"], position["seconds"]
        if self.processes.leads:  # the others go on counting from nothing
            vars(self.meter).update(position["meter"])

    def rest_of_epoch(self) -> Iterator[float | None]:
        """Train to the end of the epoch; yields the loss after each step, None where nothing could be learned.

        Raises TrainingDiverged where numbers are not finite.
        """
        epoch, each = len(self.history.epochs), self.recipe.accumulate
        self.model.train()
        for module in self.stay:
            module.training = False
        batches = self.train.epoch(epoch, first=self.step * each)
        while self.step < self.steps:
            start = time.perf_counter()
            fetched = list(islice(batches, each))
            seed_again(self.seed, epoch, self.step, STEP, self.processes.rank)  # loading has drawn numbers, too
            where = f"step {self.done_steps + 1} of {self.total_steps}"
            loss = self._step([self._prepared(*batch, where) for batch in fetched], where)
            self.step += 1
            self.seconds += time.perf_counter() - start
            yield loss

    def _prepared(self, images: Tensor, targets: Any, counts: bool, where: str) -> Batch:
        self.task.check_targets(targets)
        if blemish := not_finite(images, f"of {where}"):
            raise TrainingDiverged(blemish, self.history)
        weight, count = self.task.weight(targets) if counts else 0, len(images)
        images, targets = self.place(images), self.task.targets(targets, self.device)
        if self.mixing is not None and weight:
            mixed = self.mixing(images, targets)
            if len(mixed[0]) >= min(count, 2):  # BatchNorm cannot train on a single image
                images, targets = mixed
                weight = self.task.weight(targets)
            else:
                weight = 0
        return Batch(images, targets, weight)

    def _step(self, batches: list[Batch], where: str) -> float | None:
        """The mean loss of one step over all its batches and processes; None where there is nothing to learn from."""
        weight = sum(batch.weight for batch in batches)
        total, = self.processes.sums([weight], self.device)
        if not total:
            return None
        rate = self.rate(self.done_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad()
        alone, loss_sum = self.processes.count == 1, 0.0
        if alone:
            batches = [batch for batch in batches if batch.weight]
        for number, batch in enumerate(batches, start=1):
            waits = not alone and number < len(batches)  # gradients go between the processes once a step
            with self.model.no_sync() if waits else nullcontext():
                with self.autocast:
                    output = self.model(batch.images)
                    loss = self._loss(output, batch)
                # DistributedDataParallel takes the mean over processes, which need not have as much to learn
                share = self.processes.count * batch.weight / total
                self.scaler.scale(loss if share == 1 else loss * share).backward()
            if batch.weight:
                loss_sum += loss.item() * batch.weight
                self.meter.update(output, batch.targets)
        loss_sum, = self.processes.sums([loss_sum], self.device)
        value = loss_sum / total
        if not math.isfinite(value):
            raise TrainingDiverged(f"the loss became {value} at {where}; {self._advice()}", self.history)
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.history.step_losses.append(value)
        self.loss_sum, self.learned = self.loss_sum + loss_sum, self.learned + total
        return value

    def _loss(self, output: Any, batch: Batch) -> Tensor:
        if not batch.weight:  # of a process with nothing to learn, while others have; its outputs take part
            return 0 * sum(one.sum() for one in _tensors(output))
        loss = self.task.loss(output, batch.targets)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = self.teacher(batch.images)
        share = self.recipe.distillation
        return (1 - share) * loss + share * self.task.distillation_loss(output, taught, self.recipe.temperature)

    def end_epoch(self) -> Epoch:
        """Test, and record the epoch. Raises TrainingDiverged where the loss is not finite, ValueError where no target
        of the epoch counted."""
        start, number = time.perf_counter(), len(self.history.epochs)
        if not self.learned:
            raise self.task.nothing_counts(f"epoch {number + 1}")
        if self.processes.count > 1:
            for buffer in self.network.buffers():  # statistics of BatchNorm are those that are kept
                torch.distributed.broadcast(buffer, 0)
        tested_loss, tested = measure(self.tested, self.task, self.test, self.place, self.processes)
        if not math.isfinite(tested_loss):
            raise TrainingDiverged(f"the test loss became {tested_loss} in epoch {number + 1}; {self._advice()}",
                                   self.history)
        meter = self.task.meter()
        for other in self.processes.gathered(self.meter):
            meter.merge(other)
        self.seconds += time.perf_counter() - start
        epoch = Epoch(number + 1, {"loss": self.loss_sum / self.learned, **meter.result()},
                      {"loss": tested_loss, **tested.result()}, self.rate(self.done_steps - 1), self.seconds)
        self.history.epochs.append(epoch)
        self._start_epoch()
        return epoch

    def _advice(self) -> str:
        """What to do about a loss that is not finite, although the images are."""
        if self.history.step_losses:
            return f"try a smaller lr than {self.recipe.lr}, or more warmup_epochs"
        for name, parameter in self.network.named_parameters():
            if not parameter.isfinite().all():
                return f"the network came with NaN or infinite values in {name}; build it again, or load other weights"
        return ("no step was taken yet, so lr is not the cause: the network gives that for finite images; look for a "
                "division, a logarithm or an overflow in its forward")


def _tensors(output: Any) -> list[Tensor]:
    """All tensors in what a network returned."""
    if isinstance(output, Tensor):
        return [output]
    return [one for part in output for one in _tensors(part)] if isinstance(output, tuple | list) else []


def measure(model: nn.Module, task: Task, test: Batches, place: Callable[[Tensor], Tensor],
            processes: Processes | None = None) -> tuple[float, Meter]:
    """The mean of the plain loss, and the figures, of a network in evaluation mode, over all processes.

    Raises ValueError where images are not finite, or no target counts.
    """
    processes = processes or Processes()
    network = unwrapped(model) if processes.count > 1 else model  # DistributedDataParallel would wait for the others
    total, seen, meter = 0.0, 0, task.meter()
    model.eval()
    with torch.no_grad():
        for images, targets in test.in_order():
            task.check_targets(targets)
            output, targets = network(place(images)), task.targets(targets, torch.device("cpu"))
            loss, count = task.test_loss(output, targets)
            if not math.isfinite(loss) and (blemish := not_finite(images, "of a batch to test on")):
                raise ValueError(blemish)
            total, seen = total + loss, seen + count
            meter.update(output, targets)
    total, seen = processes.sums([total, seen], test.device)
    if not seen:
        raise task.nothing_counts()
    first, *others = processes.gathered(meter)
    for other in others:
        first.merge(other)
    return total / seen, first


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
