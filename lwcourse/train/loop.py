"""The loop: `fit` trains a network by a recipe, `fit_seeds` does so once a seed."""
import hashlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwcourse.data import Data
from lwcourse.running import unwrapped
from lwcourse.tasks import Task
from lwcourse.train.checkpoint import Checkpoint, load_run
from lwcourse.train.device import (
    channels_last_is_safe,
    on_cpu,
    pick_device,
    placed,
    random_state_kept,
    seed_everything,
)
from lwcourse.train.history import History, figure
from lwcourse.train.input import Batches
from lwcourse.train.optimizers import frozen_parameters, make_optimizer
from lwcourse.train.processes import Processes, current_processes
from lwcourse.train.recipes import Recipe, changed, named_recipe
from lwcourse.train.run import Run, averaged
from lwcourse.train.schedules import share_by_name
from lwcourse.train.state import Fallback, modes_kept, modules_that_stay
from lwcourse.train.validate import (
    check_class_weights,
    check_flags,
    check_network,
    check_seeds,
    check_settings,
    check_types,
    count_images,
    is_number,
    is_whole,
    plain,
    shares_of,
)


def fit(model: nn.Module, data: Data, *, recipe: Recipe | str = "quick", seed: int = 0,
        class_weights: Tensor | Sequence[float] | None = None, teacher: nn.Module | None = None,
        amp: bool | None = None, channels_last: bool | None = None, device: str | torch.device | None = None,
        num_workers: int = 0, progress: bool = True, checkpoint: str | os.PathLike | None = None,
        resume: bool = False, checkpoint_steps: int | None = None, checkpoint_minutes: float | None = None,
        watch: Callable[[Run], bool | None] | None = None, **settings: Any) -> History:
    """Train `model` in place on `data.train`, with a test on `data.test` after each epoch.

    The task is that of `data`: one class an image, or, where labels are maps (`data.dense`), one class a
    pixel, by the cross-entropy averaged over pixels; those labelled `data.ignore_index` do not count.

    recipe: how, as a `Recipe` or the name of one; `settings` are fields of it that shall be otherwise, as in
        fit(model, data, epochs=5, lr=0.1, mixup=0.2). See `lwcourse.train.recipes.Recipe` for all of them.
    class_weights: (classes,), the weight of each class in the loss, for instance `enet_weights(data)`.
    teacher: a trained network whose outputs are learned as well (see `Recipe.distillation`).
    amp: mixed precision: float16 with loss scaling on CUDA, bfloat16 elsewhere. None: on CUDA only.
    channels_last: keep tensors in memory as (N, H, W, C), often many times faster. None: on CUDA, and on the
        CPU unless PyTorch is known to fail there (see `channels_last_is_safe`).
    device: None takes CUDA, else MPS, else the CPU.
    checkpoint: a file written after each epoch, and every `checkpoint_steps` steps or `checkpoint_minutes` minutes,
        whole or not at all. `resume` continues from it (from the start when there is none yet) and gives the weights
        and the history of an uninterrupted run. A checkpoint that exists is overwritten only by the run that it
        belongs to, also if it came to be while this one ran. A network and the same one in torch.compile or
        DataParallel resume each other's checkpoints.
    progress: draw a bar, one line of text; the environment variable TQDM_DISABLE=1 hides it too.
    watch: called with the `Run` after each step and after each epoch; returns True to end the run there, as Ctrl-C
        does, but with a checkpoint.

    Inside the processes of torchrun (or any process group of torch.distributed) all of them train one network
    together; `batch_size` is that of all of them.

    `seed` fixes the order of the images, augmentation, mixup and dropout, not the weights that `model` comes
    with. On the CPU the same seed, weights and number of threads give the same history. Python's, NumPy's and
    PyTorch's random state are left as they were. A last batch of one image is skipped, since BatchNorm cannot
    train on it, and so is a batch in which no label counts: all are `data.ignore_index`, or of weight 0.
    Auxiliary and distillation heads (`lwcourse.layers.TrainingOutput`) learn the same labels.

    Modules that are in evaluation mode, in a network that is in training mode, stay so (say, Dropout after
    `model.dropout.eval()`). Where all of the network is in evaluation mode, as `evaluate` and `fit` leave it, it
    trains like any other, but for modules whose parameters are all frozen (requires_grad=False). Statistics of
    BatchNorm in such frozen modules do not move, whatever the mode.

    `model` comes back on its own device, in its own memory layout, in evaluation mode.
    Ctrl-C ends the run early: the history so far is returned, and the model keeps what it has learned.
    An error leaves the model with the weights of the last complete epoch, at first those that it came with.

    Raises, with the model's modes as they were: TypeError for a setting that no recipe has, ValueError for a bad one,
    for a network that is lazy, traced, exported or on the meta device, for data or a checkpoint that do not fit the
    model, for an epoch in which no label counts; FileExistsError for a checkpoint that exists, unless `resume`. Raises,
    with the run so far as the error's `history`: TrainingDiverged when images or the loss are not finite; OSError when
    the checkpoint cannot be written after an epoch, FileExistsError if that is because another run has written it.
    """
    check_types(model, data, Data)
    check_network(model, "train")
    network, processes = unwrapped(model), current_processes()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(network).__name__} has no parameter to train")
    recipe = changed(named_recipe(recipe).recipe if isinstance(recipe, str) else _checked(recipe), settings)
    seed, amp, channels_last, num_workers, progress, resume = map(plain, (
        seed, amp, channels_last, num_workers, progress, resume))
    check_flags(progress=progress, resume=resume)
    check_flags(optional=("amp", "channels_last"), amp=amp, channels_last=channels_last)
    often = Often(checkpoint, checkpoint_steps, checkpoint_minutes)
    weight = check_class_weights(class_weights, data.num_classes)
    described = {
        "model": type(network).__name__, "data": data.name, "train_images": count_images(data.train, "data.train"),
        "test_images": count_images(data.test, "data.test"), "seed": seed,
        **{field.name: getattr(recipe, field.name) for field in fields(Recipe)},
        "schedule": _name_of(recipe.schedule), "class_weights": None if weight is None else weight.tolist(),
        "teacher": None if teacher is None else type(unwrapped(teacher)).__name__}
    check_settings(described | {"num_workers": num_workers})
    if processes.count > 1 and recipe.batch_size < 2 * processes.count:
        raise ValueError(f"{processes.count} processes need a batch_size of {2 * processes.count} images at least, two "
                         f"each; it is {recipe.batch_size}")
    task = _configured(data.task, class_weights=weight, label_smoothing=recipe.label_smoothing or None)
    with on_cpu():
        mixing = task.mixing(recipe.mixup, recipe.cutmix) if recipe.mixup or recipe.cutmix else None
    device = pick_device(device)
    amp = device.type == "cuda" if amp is None else amp
    if channels_last is None:
        channels_last = device.type == "cuda" or device.type == "cpu" and channels_last_is_safe(model)
    loading = {"seed": seed, "device": device, "num_workers": num_workers, "processes": processes,
               "pin_memory": device.type == "cuda"}
    train = Batches(data.train, recipe.batch_size, **loading)
    test = Batches(data.test, -(-recipe.batch_size // processes.count), **loading)
    steps = -(-train.count // recipe.accumulate)
    if isinstance(recipe.schedule, str):
        warmup_steps = round(recipe.warmup_epochs * steps)
        share = share_by_name(recipe.schedule, warmup_steps, steps, recipe.epochs * steps)
    else:
        with random_state_kept(device):
            seed_everything(seed)
            shares = shares_of(recipe.schedule, recipe.epochs, steps, recipe.lr)
        described["schedule_shares"] = hashlib.sha256(" ".join(f"{one:.6g}" for one in shares).encode()).hexdigest()
        share = shares.__getitem__
    described |= {"device": str(device), "threads": torch.get_num_threads(), "amp": amp, "channels_last": channels_last,
                  "num_workers": num_workers, "processes": processes.count, "torch": str(torch.__version__),
                  "lwcourse": version("lwcourse"), "python": sys.version.split()[0]}
    history = History(described, metric=task.metric, higher=task.higher)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to resume from")
    file = None if checkpoint is None else Checkpoint(checkpoint, described, network)
    saved = file and file.read(resume, ("model", "optimizer", "scaler") + ("average",) * bool(recipe.ema))
    outputs = len(getattr(data, "classes", ()))

    with ExitStack() as stack:
        stack.enter_context(random_state_kept(device))
        place = stack.enter_context(placed(model, device, channels_last))
        if teacher is not None:
            stack.enter_context(modes_kept(teacher))
            stack.enter_context(placed(teacher, device, channels_last))
        frozen = frozen_parameters(network, recipe.freeze, outputs)
        stack.enter_context(_without_gradient(frozen))
        fallback, run = Fallback(model), None
        stay = modules_that_stay(model)
        try:
            with on_cpu():
                samples = [task.sample(dataset) for dataset in (data.train, data.test)]
            for dataset, sample in zip((data.train, data.test), samples, strict=True):
                task.check(model, dataset, sample, place)
            if teacher is not None:
                task.check(teacher, data.train, samples[0], place)
            run = Run(
                _spread(model, device, processes), task, recipe, train, test, place=place, device=device,
                history=history, mixing=mixing, stay=stay, teacher=teacher, processes=processes,
                optimizer=make_optimizer(network, recipe, outputs),
                average=averaged(network, recipe.ema) if recipe.ema else None,
                autocast=torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16,
                                        enabled=amp),
                scaler=torch.amp.GradScaler("cuda", enabled=amp and device.type == "cuda"),
                rate=lambda step: recipe.lr * share(step))
            if saved:
                load_run(saved, run, checkpoint)
                fallback.keep(unwrapped(run.tested))
            if file is not None and not run.finished and processes.leads:
                file.check_writable()
            _drive(run, file, often, watch, fallback, show=progress and processes.leads)
        except KeyboardInterrupt:
            history.interrupted = True
        except Exception as error:
            fallback.restore_values()
            if hasattr(error, "history"):
                model.eval()
            else:
                fallback.restore_modes()
            raise
        model.eval()
        if run is not None and run.average is not None and run.average.n_averaged > 0:
            network.load_state_dict(run.average.module.state_dict())
    return history


def _drive(run: Run, file: Checkpoint | None, often: "Often", watch: Callable[[Run], bool | None] | None,
           fallback: Fallback, show: bool) -> None:
    """Take a run to its end, with a bar and checkpoints. Raises KeyboardInterrupt where `watch` ends it."""
    batch, tested, history = run.recipe.batch_size * run.recipe.accumulate, "", run.history
    hide = {} if show else {"disable": True}  # disable=False overrules TQDM_DISABLE
    with tqdm(total=run.total_steps * batch, initial=run.done_steps * batch, mininterval=0.5, unit=" images",
              **hide) as bar:
        try:
            while not run.finished:
                epoch = f"epoch {len(history.epochs) + 1}/{run.recipe.epochs}"
                for loss in run.rest_of_epoch():
                    bar.update(batch)
                    shown = math.nan if loss is None else loss
                    bar.set_postfix_str(f"{epoch}, loss {shown:.3f}{tested}", refresh=False)
                    stop = bool(watch and watch(run))
                    stop, due = run.processes.sums([stop, often.is_due(run)], run.device)
                    if stop or due and run.step < run.steps:  # the end of an epoch writes one anyway
                        _write(file, run)
                    if stop:
                        raise KeyboardInterrupt
                done = run.end_epoch()
                fallback.keep(unwrapped(run.tested))
                tested = f", test {figure(history.metric, done.test[history.metric], 1)}"
                bar.set_postfix_str(f"{epoch}, loss {done.train['loss']:.3f}{tested}")
                stop = bool(watch and watch(run))
                _write(file, run)
                if run.processes.sums([stop], run.device)[0] and not run.finished:
                    raise KeyboardInterrupt
        finally:
            run.model.zero_grad()


def fit_seeds(make_model: Callable[[], nn.Module], data: Data, seeds: Sequence[int] = (0, 1, 2),
              **options: Any) -> list[History]:
    """Train a new model for each seed; `options` are those of `fit` except seed, checkpoint and resume.

    `make_model` takes no argument, and builds a new model each time; the seed draws its weights as well. Ctrl-C ends
    the whole series, and returns the histories so far. Raises ValueError when there are no seeds, or `make_model`
    returns a model again, TypeError when it is no function, and otherwise as `fit` does.
    """
    if isinstance(make_model, nn.Module) or not callable(make_model):
        raise TypeError("make_model must be a function that builds a model, as in lambda: lw.create_model(name), got "
                        f"{type(make_model).__name__}")
    seeds = check_seeds(seeds)
    for option in ("seed", "checkpoint", "resume"):
        if option in options:
            raise ValueError(f"fit_seeds sets no {option!r}; call fit for each seed instead")
    histories, model = [], None
    for seed in seeds:
        before = model
        with random_state_kept(pick_device(options.get("device"))):
            seed_everything(seed, 0)
            model = make_model()
        if before is not None and model is before:
            raise ValueError("make_model must build a new model each time, and returned the same one again, which is "
                             "trained already")
        histories.append(fit(model, data, seed=seed, **options))
        if histories[-1].interrupted:
            break
    return histories


class Often:
    """When a checkpoint is due within an epoch. Raises ValueError for bad numbers, or for some without a file."""

    def __init__(self, checkpoint: str | os.PathLike | None, steps: int | None, minutes: float | None):
        steps, minutes = plain(steps), plain(minutes)
        if steps is not None and not is_whole(steps, 1):
            raise ValueError(f"checkpoint_steps must be None, or a whole number of at least 1, got {steps!r}")
        if minutes is not None and not (is_number(minutes, 0) and minutes > 0):
            raise ValueError(f"checkpoint_minutes must be None, or a positive number, got {minutes!r}")
        if checkpoint is None and (steps, minutes) != (None, None):
            raise ValueError("checkpoint_steps and checkpoint_minutes need checkpoint=, the file to write")
        self.steps, self.minutes, self.last = steps, minutes, time.monotonic()

    def is_due(self, run: Run) -> bool:
        late = self.minutes is not None and time.monotonic() - self.last >= 60 * self.minutes
        if late or self.steps is not None and run.step % self.steps == 0:
            self.last = time.monotonic()
            return True
        return False


class _without_gradient:
    """A context in which these parameters have requires_grad=False."""

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]

    def __enter__(self) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(False)

    def __exit__(self, *error: object) -> None:
        for parameter in self.parameters:
            parameter.requires_grad_(True)


def _checked(recipe: object) -> Recipe:
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a Recipe or the name of one, such as 'quick', got {recipe!r}")
    return recipe


def _configured(task: Task, **options: Any) -> Task:
    """The task with those of the options that are not None. Raises ValueError for one that it does not have."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in {field.name for field in fields(task)}:
            raise ValueError(f"{name}={value!r} is nothing that {type(task).__name__} has")
    return replace(task, **given) if given else task


def _spread(model: nn.Module, device: torch.device, processes: Processes) -> nn.Module:
    """The model whose gradients are averaged over the processes, where there are several."""
    if processes.count == 1 or isinstance(model, nn.parallel.DistributedDataParallel):
        return model
    return nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def _name_of(schedule: str | Callable[[float], float]) -> str:
    """What a schedule is called, in every process alike: without its address in memory."""
    if isinstance(schedule, str):
        return schedule
    return re.sub(r" at 0x[0-9a-fA-F]+", "", getattr(schedule, "__qualname__", None) or repr(schedule))


def _write(file: Checkpoint | None, run: Run) -> None:
    if file is None:
        return
    position = run.position()  # all processes take part
    if not run.processes.leads:
        return
    try:
        file.write(run.stateful, run.history, position)
    except OSError as error:
        error.history = run.history  # of a run that may have taken days
        raise
