"""Training: one plain loop (`fit`), a test (`evaluate`), and the record of a run (`History`)."""
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lwcourse.data import IGNORE_INDEX, Data
from lwcourse.layers import TrainingOutput
from lwcourse.train.checkpoint import read_checkpoint, write_checkpoint
from lwcourse.train.device import channels_last_is_safe, pick_device, placed, random_state_kept, seed_everything
from lwcourse.train.history import Epoch, Evaluation, History, TrainingDiverged
from lwcourse.train.schedules import CyclicLinear, warmup_cosine
from lwcourse.train.validate import check_class_weights, check_labels, check_output, check_settings, check_types

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
        exists is overwritten only by the run that it belongs to.
    progress: draw a bar, one line of text; the environment variable TQDM_DISABLE=1 hides it too.

    `seed` fixes the order of the images, augmentation, mixup and dropout, not the weights that `model` comes
    with. On the CPU the same seed, weights and number of threads give the same history. Python's, NumPy's and
    PyTorch's random state are left as they were. A last batch of one image is skipped, since BatchNorm cannot
    train on it. Auxiliary and distillation heads (`lwcourse.layers.TrainingOutput`) learn the same labels.
    `model` comes back on its own device, in its own memory layout, in evaluation mode.
    Ctrl-C ends the run early: the history so far is returned, and the model keeps what it has learned.

    Raises ValueError for a bad setting, for data or a checkpoint that do not fit the model; FileExistsError
    for a checkpoint that exists, unless `resume`; TrainingDiverged when the loss is no longer finite.
    """
    check_types(model, data, Data)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameter to train")
    settings = {
        "model": type(model).__name__, "data": data.name, "train_images": len(data.train),
        "test_images": len(data.test), "epochs": epochs, "seed": seed, "batch_size": batch_size, "lr": lr,
        "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
        "warmup_epochs": warmup_epochs, "schedule": schedule and getattr(schedule, "__qualname__", repr(schedule)),
        "class_weights": None if class_weights is None else torch.as_tensor(class_weights).tolist(), "mixup": mixup,
        "ema": ema, "num_workers": num_workers}
    check_settings(settings)
    weight = check_class_weights(class_weights, data.num_classes)
    if mixup and data.dense:
        raise ValueError(f"mixup={mixup} blends labels of whole images; {data.name} has a label for each pixel")
    device = pick_device(device)
    amp = device.type == "cuda" if amp is None else amp
    if channels_last is None:
        channels_last = device.type == "cuda" or device.type == "cpu" and channels_last_is_safe(model)
    settings |= {"device": str(device), "threads": torch.get_num_threads(), "amp": amp, "channels_last": channels_last,
                 "torch": str(torch.__version__), "lwcourse": version("lwcourse"), "python": sys.version.split()[0]}
    history = History(settings)
    saved = read_checkpoint(checkpoint, resume, settings, model)

    single_image_left = len(data.train) > batch_size and len(data.train) % batch_size == 1
    loading = {"batch_size": batch_size, "num_workers": num_workers, "pin_memory": device.type == "cuda"}
    train_loader = DataLoader(data.train, shuffle=True, drop_last=single_image_left, **loading)
    test_loader = DataLoader(data.test, **loading)
    total_steps, warmup_steps = epochs * len(train_loader), round(warmup_epochs * len(train_loader))

    with random_state_kept(device), placed(model, device, channels_last) as place:
        for dataset in (data.train, data.test):
            check_output(model, dataset, place, data.classes, data.ignore_index)
        criterion = nn.CrossEntropyLoss(weight=None if weight is None else weight.to(device),
                                        ignore_index=data.ignore_index, label_smoothing=label_smoothing)
        optimizer = torch.optim.SGD(model.parameters(), lr, momentum, nesterov=nesterov, weight_decay=weight_decay)
        blend = _mixup(mixup, data.num_classes) if mixup else None
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True) if ema else None
        autocast = torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16, enabled=amp)
        scaler = torch.amp.GradScaler("cuda", enabled=amp and device.type == "cuda")
        stateful = {"model": model, "optimizer": optimizer, "scaler": scaler} | ({"average": average} if ema else {})
        if saved:
            history.epochs, history.step_losses = saved["history"].epochs, saved["history"].step_losses
            for name, part in stateful.items():
                if saved[name]:  # the scaler's is empty when the run so far was without AMP
                    part.load_state_dict(saved[name])
        hide = {} if progress else {"disable": True}  # not disable=False, which would overrule TQDM_DISABLE
        bar = tqdm(total=total_steps, initial=len(history.step_losses), mininterval=0.5, unit="step", **hide)
        try:
            for epoch in range(len(history.epochs), epochs):
                start, loss_sum, right, seen = time.perf_counter(), 0.0, 0, 0
                seed_everything(seed, epoch)  # for each epoch, so that a resumed run draws what it would have
                model.train()
                for images, labels in train_loader:
                    check_labels(labels, data.num_classes, data.ignore_index)
                    images, targets = place(images), labels.to(device)
                    if blend:
                        images, targets = blend(images, targets)
                    step = len(history.step_losses)
                    step_lr = lr * (schedule(step / len(train_loader)) if schedule else
                                    warmup_cosine(step, warmup_steps, total_steps))
                    for group in optimizer.param_groups:
                        group["lr"] = step_lr
                    with autocast:
                        logits, loss = _logits_and_loss(model(images), targets, criterion)
                    if not math.isfinite(loss.item()):
                        raise TrainingDiverged(f"the loss became {loss.item()} at step {step + 1} of {total_steps}; "
                                               f"try a smaller lr than {lr}, or more warmup_epochs", history)
                    optimizer.zero_grad()
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                    if average is not None:
                        average.update_parameters(model)
                    history.step_losses.append(loss.item())
                    main_labels = targets.argmax(1) if targets.is_floating_point() else targets  # mixup blends them
                    counted = main_labels != data.ignore_index
                    loss_sum += loss.item() * counted.sum().item()
                    right += (logits.argmax(1) == main_labels)[counted].sum().item()
                    seen += counted.sum().item()
                    bar.update()
                test = _evaluate(model if average is None else average.module, test_loader, place, data.classes,
                                 data.ignore_index)
                history.epochs.append(Epoch(epoch + 1, loss_sum / seen, right / seen, test.loss, test.accuracy, step_lr,
                                            time.perf_counter() - start, test.mean_iou if data.dense else None))
                bar.set_postfix_str(f"epoch {epoch + 1}/{epochs}, loss {loss_sum / seen:.3f}, test {test.accuracy:.1%}")
                if checkpoint is not None:
                    write_checkpoint(Path(checkpoint), stateful, history)
        except KeyboardInterrupt:
            history.interrupted = True
        finally:
            bar.close()
            model.zero_grad()
            model.eval()
        if average is not None and average.n_averaged > 0:
            model.load_state_dict(average.module.state_dict())
    return history


def fit_seeds(make_model: Callable[[], nn.Module], data: Data, seeds: Sequence[int] = (0, 1, 2),
              **options: Any) -> list[History]:
    """Train a new model for each seed; `options` are those of `fit` except seed, checkpoint and resume.

    `make_model` takes no argument; the seed draws its weights as well. Ctrl-C ends the whole series, and
    returns the histories so far. Raises ValueError when there are no seeds, and otherwise as `fit` does.
    """
    if not seeds:
        raise ValueError("seeds is empty; give one at least, such as (0, 1, 2)")
    for option in ("seed", "checkpoint", "resume"):
        if option in options:
            raise ValueError(f"fit_seeds sets no {option!r}; call fit for each seed instead")
    histories = []
    for seed in seeds:
        with random_state_kept(pick_device(options.get("device"))):
            seed_everything(seed, 0)
            model = make_model()
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
    Raises ValueError when `data` is empty or does not fit the model.
    """
    check_types(model, data, (Data, Dataset))
    device = pick_device(device)
    channels_last = device.type in ("cpu", "cuda") if channels_last is None else channels_last
    dataset = data.test if isinstance(data, Data) else data
    if len(dataset) == 0:
        raise ValueError("there are no images to evaluate on")
    loader = DataLoader(dataset, batch_size, num_workers=num_workers)
    modes = {module: module.training for module in model.modules()}
    with random_state_kept(device), placed(model, device, channels_last) as place:
        try:
            classes = data.classes if isinstance(data, Data) else None
            ignore_index = data.ignore_index if isinstance(data, Data) else IGNORE_INDEX
            outputs = check_output(model, dataset, place, classes, ignore_index)
            return _evaluate(model, loader, place, classes or tuple(map(str, range(outputs))), ignore_index)
        finally:
            for module, mode in modes.items():
                module.training = mode


def enet_weights(data: Data, c: float = 1.02) -> Tensor:
    """Weights for the loss that favour rare classes: 1 / ln(c + share of the training pixels), (classes,).

    For data without label maps, shares of the training images. A class that does not occur has the largest
    weight, 1 / ln(c). Source: Paszke et al. 2016 (ENet), https://arxiv.org/abs/1606.02147, section 5.2.
    Raises ValueError unless c is above 1.
    """
    if not c > 1:
        raise ValueError(f"c must be above 1, or a weight could be negative, got {c!r}")
    counts = torch.zeros(data.num_classes, dtype=torch.long)
    for _, labels in DataLoader(data.train, batch_size=64):
        check_labels(labels, data.num_classes, data.ignore_index)
        counts += torch.bincount(labels[labels != data.ignore_index], minlength=data.num_classes)
    return 1 / torch.log(c + counts / counts.sum())


def _mixup(alpha: float, num_classes: int) -> Callable:
    from torchvision.transforms.v2 import MixUp
    return MixUp(alpha=alpha, num_classes=num_classes)


def _evaluate(model: nn.Module, loader: DataLoader, place: Callable[[Tensor], Tensor],
              classes: tuple[str, ...], ignore_index: int) -> Evaluation:
    count = len(classes)
    loss, confusion = 0.0, torch.zeros(count * count, dtype=torch.long)
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            check_labels(labels, count, ignore_index)
            logits = model(place(images)).float().cpu()
            loss += F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum").item()
            counted = labels != ignore_index
            pairs = labels[counted] * count + logits.argmax(1)[counted]
            confusion += torch.bincount(pairs, minlength=count * count)
    confusion = confusion.view(count, count)
    seen = confusion.sum().item()
    if seen == 0:
        raise ValueError(f"every pixel is labelled {ignore_index}, the label that does not count")
    return Evaluation(loss / seen, confusion.trace().item() / seen, confusion, classes)


def _logits_and_loss(output: Tensor | TrainingOutput, targets: Tensor, criterion: nn.Module) -> tuple[Tensor, Tensor]:
    """The main head's logits, and the loss over all heads."""
    if not isinstance(output, TrainingOutput):
        return output, criterion(output, targets)
    further = sum(criterion(logits, targets) for logits in output.auxiliary)
    return output.logits, criterion(output.logits, targets) + output.weight * further
