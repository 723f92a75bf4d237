"""Training: one plain loop (`fit`), a test (`evaluate`), and the record of a run (`History`)."""
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lwcourse.data import Data
from lwcourse.tasks import Classification, Segmentation, Task
from lwcourse.tasks.classification import Evaluation
from lwcourse.tasks.labels import count_outputs, labelled_sample
from lwcourse.train.checkpoint import Checkpoint, load_states
from lwcourse.train.device import (
    batches,
    channels_last_is_safe,
    on_cpu,
    pick_device,
    placed,
    random_state_kept,
    seed_everything,
)
from lwcourse.train.history import Epoch, History, TrainingDiverged, figure
from lwcourse.train.run import Run, averaged, measure
from lwcourse.train.schedules import CyclicLinear, warmup_cosine
from lwcourse.train.state import Fallback, modes_kept, modules_that_stay, unwrapped
from lwcourse.train.validate import (
    check_class_weights,
    check_flags,
    check_loading,
    check_network,
    check_schedule,
    check_seeds,
    check_settings,
    check_types,
    count_images,
    is_number,
    plain,
    shares_of,
)

__all__ = ["CyclicLinear", "Epoch", "Evaluation", "History", "TrainingDiverged", "enet_weights", "evaluate", "fit",
           "fit_seeds", "pick_device", "warmup_cosine"]


def fit(model: nn.Module, data: Data, *, epochs: int = 3, seed: int = 0, batch_size: int = 64, lr: float = 0.02,
        momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 1e-4, label_smoothing: float = 0.0,
        warmup_epochs: float = 0.5, schedule: Callable[[float], float] | None = None,
        class_weights: Tensor | Sequence[float] | None = None, mixup: float = 0.0, ema: float | None = None,
        amp: bool | None = None, channels_last: bool | None = None, device: str | torch.device | None = None,
        num_workers: int = 0, progress: bool = True, checkpoint: str | os.PathLike | None = None,
        resume: bool = False) -> History:
    """Train `model` in place on `data.train`, with a test on `data.test` after each epoch.

    The task is that of `data`: one class an image, or, where labels are maps (`data.dense`), one class a
    pixel, by the cross-entropy averaged over pixels; those labelled `data.ignore_index` do not count.

    Stochastic gradient descent with `momentum` (Nesterov's, if `nesterov`); `weight_decay` acts on every
    parameter, BatchNorm's and biases included, as is PyTorch's custom. The learning rate climbs to `lr` over
    `warmup_epochs` (a fraction is fine), then falls to 0 along a cosine (see `warmup_cosine`).

    schedule: another course of the learning rate: a function from the epoch (0 <= epoch < epochs, 2.5 in the
        middle of the third) to a share of `lr`, such as `CyclicLinear()`; `warmup_epochs` is not used then.
        It is asked for the shares of all steps before the first.
    class_weights: (classes,), the weight of each class in the loss, for instance `enet_weights(data)`.
    label_smoothing: share of each target spread evenly over all classes (Szegedy et al. 2016).
    mixup: alpha of Beta(alpha, alpha), from which the share of each of two blended images is drawn
        (Zhang et al. 2018); 0 is off.
    ema: decay of an exponential moving average of weights and BatchNorm statistics, for example 0.99, which
        spans some 1 / (1 - decay) steps. The average is what is tested, and what `model` holds at the end.
    amp: mixed precision: float16 with loss scaling on CUDA, bfloat16 elsewhere. None: on CUDA only.
    channels_last: keep tensors in memory as (N, H, W, C), often many times faster. None: on CUDA, and on the
        CPU unless PyTorch is known to fail there (see `channels_last_is_safe`).
    device: None takes CUDA, else MPS, else the CPU.
    checkpoint: a file written after each epoch, whole or not at all. `resume` continues from it (from the
        start when there is none yet) and gives the history of an uninterrupted run. A checkpoint that
        exists is overwritten only by the run that it belongs to, also if it came to be while this one ran.
        A network and the same one in torch.compile or DataParallel resume each other's checkpoints.
    progress: draw a bar, one line of text; the environment variable TQDM_DISABLE=1 hides it too.

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

    Raises, with the model's modes as they were: ValueError for a bad setting, for a network that is lazy, traced,
    exported or on the meta device, for data or a checkpoint that do not fit the model, for an epoch in which no label
    counts; FileExistsError for a checkpoint that exists, unless `resume`. Raises, with the run so far as the error's
    `history`: TrainingDiverged when images or the loss are not finite; OSError when the checkpoint cannot be written
    after an epoch, FileExistsError if that is because another run has written it.
    """
    check_types(model, data, Data)
    check_network(model, "train")
    network = unwrapped(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(network).__name__} has no parameter to train")
    epochs, seed, batch_size, lr, momentum, nesterov, weight_decay, label_smoothing = map(plain, (
        epochs, seed, batch_size, lr, momentum, nesterov, weight_decay, label_smoothing))
    warmup_epochs, mixup, ema, amp, channels_last, num_workers, progress, resume = map(plain, (
        warmup_epochs, mixup, ema, amp, channels_last, num_workers, progress, resume))
    check_flags(nesterov=nesterov, progress=progress, resume=resume)
    check_flags(optional=("amp", "channels_last"), amp=amp, channels_last=channels_last)
    check_schedule(schedule)
    weight = check_class_weights(class_weights, data.num_classes)
    settings = {
        "model": type(network).__name__, "data": data.name, "train_images": count_images(data.train, "data.train"),
        "test_images": count_images(data.test, "data.test"), "epochs": epochs, "seed": seed, "batch_size": batch_size,
        "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay,
        "label_smoothing": label_smoothing, "warmup_epochs": warmup_epochs, "schedule": _name_of(schedule),
        "class_weights": None if weight is None else weight.tolist(), "mixup": mixup, "ema": ema,
        "num_workers": num_workers}
    check_settings(settings)
    task = _configured(data.task, class_weights=weight, label_smoothing=label_smoothing or None)
    with on_cpu():
        mixing = task.mixing(mixup) if mixup else None
    device = pick_device(device)
    amp = device.type == "cuda" if amp is None else amp
    if channels_last is None:
        channels_last = device.type == "cuda" or device.type == "cpu" and channels_last_is_safe(model)
    single_image_left = len(data.train) > batch_size and len(data.train) % batch_size == 1
    steps = math.ceil((len(data.train) - single_image_left) / batch_size)
    total_steps, warmup_steps = epochs * steps, round(warmup_epochs * steps)
    if schedule is not None:
        with random_state_kept(device):
            seed_everything(seed, 0)
            shares = shares_of(schedule, epochs, steps, lr)
        settings["schedule_shares"] = hashlib.sha256(" ".join(f"{share:.6g}" for share in shares).encode()).hexdigest()
    settings |= {"device": str(device), "threads": torch.get_num_threads(), "amp": amp, "channels_last": channels_last,
                 "torch": str(torch.__version__), "lwcourse": version("lwcourse"), "python": sys.version.split()[0]}
    history = History(settings, metric=task.metric, higher=task.higher)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to resume from")
    file = None if checkpoint is None else Checkpoint(checkpoint, settings, network)
    saved = file and file.read(resume, ("model", "optimizer", "scaler") + ("average",) * bool(ema))

    with random_state_kept(device), placed(model, device, channels_last) as place:
        fallback, stay, run, bar = Fallback(model), modules_that_stay(model), None, None
        try:
            with on_cpu():
                samples = [task.sample(dataset) for dataset in (data.train, data.test)]
            for dataset, sample in zip((data.train, data.test), samples, strict=True):
                task.check(model, dataset, sample, place)
            loading = {"batch_size": batch_size, "num_workers": num_workers,
                       "pin_memory": device.type == "cuda" and all(image.device.type == "cpu" for image, _ in samples)}
            loaders = (DataLoader(data.train, shuffle=True, drop_last=single_image_left, **loading),
                       DataLoader(data.test, **loading))
            run = Run(
                model, task, place=place, device=device, history=history, mixing=mixing, stay=stay,
                optimizer=torch.optim.SGD(model.parameters(), lr, momentum, nesterov=nesterov,
                                          weight_decay=weight_decay),
                average=averaged(network, ema) if ema else None,
                autocast=torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16,
                                        enabled=amp),
                scaler=torch.amp.GradScaler("cuda", enabled=amp and device.type == "cuda"),
                rate=lambda step: lr * (warmup_cosine(step, warmup_steps, total_steps) if schedule is None
                                        else shares[step]))
            if saved:
                load_states(saved, run.stateful, checkpoint)
                history.epochs, history.step_losses = saved["history"].epochs, saved["history"].step_losses
                fallback.keep(unwrapped(run.tested))
            if file is not None and len(history.epochs) < epochs:
                file.check_writable()
            hide = {} if progress else {"disable": True}  # not disable=False, which would overrule TQDM_DISABLE
            bar = tqdm(total=total_steps, initial=len(history.epochs) * steps, mininterval=0.5, unit="step", **hide)
            for number in range(len(history.epochs), epochs):
                epoch = run.epoch(number, steps, *loaders, bar.update)
                history.epochs.append(epoch)
                fallback.keep(unwrapped(run.tested))
                bar.set_postfix_str(f"epoch {epoch.epoch}/{epochs}, loss {epoch.train['loss']:.3f}, "
                                    f"test {figure(task.metric, epoch.test[task.metric], 1)}")
                if file is not None:
                    _write(file, run.stateful, history)
        except KeyboardInterrupt:
            history.interrupted = True
        except Exception as error:
            fallback.restore_values()
            if hasattr(error, "history"):
                model.eval()
            else:
                fallback.restore_modes()
            raise
        finally:
            if bar is not None:
                bar.close()
                model.zero_grad()
        model.eval()
        if run is not None and run.average is not None and run.average.n_averaged > 0:
            network.load_state_dict(run.average.module.state_dict())
    return history


def _configured(task: Task, **options: Any) -> Task:
    """The task with those of the options that are not None. Raises ValueError for one that it does not have."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name not in {field.name for field in fields(task)}:
            raise ValueError(f"{name}={value!r} is nothing that {type(task).__name__} has")
    return replace(task, **given) if given else task


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


def evaluate(model: nn.Module, data: Data | Dataset, *, batch_size: int = 256,
             channels_last: bool | None = None, device: str | torch.device | None = None,
             num_workers: int = 0) -> Evaluation:
    """Test `model` on `data.test`, or on a data set of (image, label), in evaluation mode and float32.

    A label is a class or a map of classes; pixels labelled `data.ignore_index` do not count (-100 in a plain
    data set, which is PyTorch's custom).
    Device and memory layout are chosen as in `fit`; the model is left as it was, its mode included.
    Raises ValueError for a bad setting, when `data` is empty, has no label that counts, holds NaN or does not fit
    the model.
    """
    check_types(model, data, (Data, Dataset))
    check_network(model, "evaluate")
    batch_size, num_workers, channels_last = plain(batch_size), plain(num_workers), plain(channels_last)
    check_loading(batch_size, num_workers)
    check_flags(optional=("channels_last",), channels_last=channels_last)
    device = pick_device(device)
    channels_last = device.type in ("cpu", "cuda") if channels_last is None else channels_last
    dataset = data.test if isinstance(data, Data) else data
    if count_images(dataset, "data") == 0:
        raise ValueError("there are no images to evaluate on")
    loader = DataLoader(dataset, batch_size, num_workers=num_workers)
    with random_state_kept(device), modes_kept(model), placed(model, device, channels_last) as place:
        with on_cpu():
            sample = data.task.sample(dataset) if isinstance(data, Data) else labelled_sample(dataset)
        if isinstance(data, Data):
            task = data.task
            task.check(model, dataset, sample, place)
        else:  # as many classes as the model has outputs
            kind = Segmentation if sample[1].ndim else Classification
            task = kind(classes=tuple(map(str, range(count_outputs(model, sample, place)))))
            task.check_labels(dataset, sample)
        return task.evaluation(*measure(model, task, loader, place))


def enet_weights(data: Data, c: float = 1.02) -> Tensor:
    """Weights for the loss that favour rare classes: 1 / ln(c + share of the training pixels), (classes,).

    For data without label maps, shares of the training images. A class that does not occur has the largest
    weight, 1 / ln(c). Source: Paszke et al. 2016 (ENet), https://arxiv.org/abs/1606.02147, section 5.2.
    Raises TypeError unless `data` is a Data, ValueError unless c is a number above 1 and a label counts.
    """
    if not isinstance(data, Data):
        raise TypeError(f"data must be a Data, such as lw.load_data('digits'), got {type(data).__name__}")
    if not is_number(plain(c), 1) or c == 1:
        raise ValueError(f"c must be above 1, or a weight could be negative, got {c!r}")
    counts, task = torch.zeros(data.num_classes, dtype=torch.long, device="cpu"), data.task
    for _, labels in batches(DataLoader(data.train, batch_size=64)):
        task.check_targets(labels)
        counts += torch.bincount(labels[labels != data.ignore_index], minlength=data.num_classes).cpu()
    if not counts.any():
        raise task.nothing_counts()
    return 1 / torch.log(c + counts / counts.sum())


def _name_of(schedule: Callable[[float], float] | None) -> str | None:
    """What a schedule is called, in every process alike: without its address in memory."""
    if schedule is None:
        return None
    return re.sub(r" at 0x[0-9a-fA-F]+", "", getattr(schedule, "__qualname__", None) or repr(schedule))


def _write(file: Checkpoint, stateful: dict[str, Any], history: History) -> None:
    try:
        file.write(stateful, history)
    except OSError as error:
        error.history = history  # of a run that may have taken days
        raise
