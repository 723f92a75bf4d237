"""Training: one plain loop (`fit`), a test (`evaluate`), and the record of a run (`History`)."""
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from lwcourse.data import Data
from lwcourse.layers import TrainingOutput

CHECKPOINT_FORMAT = "lwcourse.fit 1"
ENVIRONMENT = ("device", "threads", "amp", "channels_last", "torch", "lwcourse", "python")  # may differ on resuming


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number. `history` holds the run up to there."""

    def __init__(self, message: str, history: "History"):
        super().__init__(message)
        self.history = history


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images; accuracies are between 0 and 1.

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
            return cls(dict(record["settings"]), epochs, list(record["step_losses"]), bool(record["interrupted"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no History.to_dict(): {error!r}") from error

    def __repr__(self) -> str:
        model, data, planned = (self.settings.get(name, "?") for name in ("model", "data", "epochs"))
        title = f"{model} on {data}: {len(self.epochs)} of {planned} epochs"
        lines = [title + (", interrupted" if self.interrupted else ""),
                 "epoch  train loss  train acc  test loss  test acc        lr  seconds"]
        lines += [f"{e.epoch:5}  {e.train_loss:10.4f}  {e.train_accuracy:9.2%}  {e.test_loss:9.4f}  "
                  f"{e.test_accuracy:8.2%}  {e.lr:8.2g}  {e.seconds:7.1f}" for e in self.epochs]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How a model did on a data set: mean cross-entropy, share of images right, and who was taken for whom.

    `confusion` (classes, classes) counts images: the row is the true class, the column the predicted one.
    """
    loss: float
    accuracy: float
    confusion: Tensor
    classes: tuple[str, ...]

    @property
    def class_accuracy(self) -> Tensor:
        """(classes,): of each class, the share of its images that are right; nan for a class without images."""
        return self.confusion.diagonal() / self.confusion.sum(1)

    def __repr__(self) -> str:
        right, count = int(self.confusion.trace()), int(self.confusion.sum())
        return f"accuracy {self.accuracy:.2%} ({right:,} of {count:,}), loss {self.loss:.4f}"


def fit(model: nn.Module, data: Data, *, epochs: int = 3, seed: int = 0, batch_size: int = 64, lr: float = 0.02,
        momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 1e-4, label_smoothing: float = 0.0,
        warmup_epochs: float = 0.5, mixup: float = 0.0, ema: float | None = None, amp: bool | None = None,
        channels_last: bool | None = None, device: str | torch.device | None = None, num_workers: int = 0,
        progress: bool = True, checkpoint: str | os.PathLike | None = None, resume: bool = False) -> History:
    """Train `model` in place to classify `data.train`, with a test on `data.test` after each epoch.

    Stochastic gradient descent with `momentum` (Nesterov's, if `nesterov`); `weight_decay` acts on every
    parameter, BatchNorm's and biases included, as is PyTorch's custom. The learning rate climbs to `lr` over
    `warmup_epochs` (a fraction is fine), then falls to 0 along a cosine (see `warmup_cosine`).

    label_smoothing: share of each target spread evenly over all classes (Szegedy et al. 2016).
    mixup: alpha of Beta(alpha, alpha), from which the share of each of two blended images is drawn
        (Zhang et al. 2018); 0 is off.
    ema: decay of an exponential moving average of weights and BatchNorm statistics, for example 0.99, which
        spans some 1 / (1 - decay) steps. The average is what is tested, and what `model` holds at the end.
    amp: mixed precision: float16 with loss scaling on CUDA, bfloat16 elsewhere. None: on CUDA only.
    channels_last: keep tensors in memory as (N, H, W, C), often many times faster. None: on CPU and CUDA.
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
    _check_types(model, data, Data)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameter to train")
    settings = {
        "model": type(model).__name__, "data": data.name, "train_images": len(data.train),
        "test_images": len(data.test), "epochs": epochs, "seed": seed, "batch_size": batch_size, "lr": lr,
        "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
        "warmup_epochs": warmup_epochs, "mixup": mixup, "ema": ema, "num_workers": num_workers}
    _check_settings(settings)
    device = pick_device(device)
    amp = device.type == "cuda" if amp is None else amp
    channels_last = device.type in ("cpu", "cuda") if channels_last is None else channels_last
    settings |= {"device": str(device), "threads": torch.get_num_threads(), "amp": amp, "channels_last": channels_last,
                 "torch": str(torch.__version__), "lwcourse": version("lwcourse"), "python": sys.version.split()[0]}
    history = History(settings)
    saved = _read_checkpoint(checkpoint, resume, settings, model)

    single_image_left = len(data.train) > batch_size and len(data.train) % batch_size == 1
    loading = {"batch_size": batch_size, "num_workers": num_workers, "pin_memory": device.type == "cuda"}
    train_loader = DataLoader(data.train, shuffle=True, drop_last=single_image_left, **loading)
    test_loader = DataLoader(data.test, **loading)
    total_steps, warmup_steps = epochs * len(train_loader), round(warmup_epochs * len(train_loader))

    with _random_state_kept(device), _placed(model, device, channels_last) as place:
        for dataset in (data.train, data.test):
            _check_output(model, dataset, place, data.classes)
        criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
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
                _seed_everything(seed, epoch)  # for each epoch, so that a resumed run draws what it would have
                model.train()
                for images, labels in train_loader:
                    images, targets = place(images), labels.to(device)
                    if blend:
                        images, targets = blend(images, targets)
                    step = len(history.step_losses)
                    step_lr = lr * warmup_cosine(step, warmup_steps, total_steps)
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
                    main_labels = targets if targets.ndim == 1 else targets.argmax(1)
                    loss_sum += loss.item() * len(images)
                    right += (logits.argmax(1) == main_labels).sum().item()
                    seen += len(images)
                    bar.update()
                test = _evaluate(model if average is None else average.module, test_loader, place, data.classes)
                history.epochs.append(Epoch(epoch + 1, loss_sum / seen, right / seen, test.loss, test.accuracy, step_lr,
                                            time.perf_counter() - start))
                bar.set_postfix_str(f"epoch {epoch + 1}/{epochs}, loss {loss_sum / seen:.3f}, test {test.accuracy:.1%}")
                if checkpoint is not None:
                    _write_checkpoint(Path(checkpoint), stateful, history)
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
        with _random_state_kept(pick_device(options.get("device"))):
            _seed_everything(seed, 0)
            model = make_model()
        histories.append(fit(model, data, seed=seed, **options))
        if histories[-1].interrupted:
            break
    return histories


def evaluate(model: nn.Module, data: Data | Dataset, *, batch_size: int = 256,
             channels_last: bool | None = None, device: str | torch.device | None = None,
             num_workers: int = 0) -> Evaluation:
    """Test `model` on `data.test`, or on a data set of (image, label), in evaluation mode and float32.

    Device and memory layout are chosen as in `fit`; the model is left as it was, its mode included.
    Raises ValueError when `data` is empty or does not fit the model.
    """
    _check_types(model, data, (Data, Dataset))
    device = pick_device(device)
    channels_last = device.type in ("cpu", "cuda") if channels_last is None else channels_last
    dataset = data.test if isinstance(data, Data) else data
    if len(dataset) == 0:
        raise ValueError("there are no images to evaluate on")
    loader = DataLoader(dataset, batch_size, num_workers=num_workers)
    modes = {module: module.training for module in model.modules()}
    with _random_state_kept(device), _placed(model, device, channels_last) as place:
        try:
            classes = data.classes if isinstance(data, Data) else None
            outputs = _check_output(model, dataset, place, classes)
            return _evaluate(model, loader, place, classes or tuple(map(str, range(outputs))))
        finally:
            for module, mode in modes.items():
                module.training = mode


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (from 0) as a share of its peak.

    It is (step + 1) / warmup_steps while warming up, then falls along half a cosine from 1 towards 0, which
    it would reach at `total_steps` (Loshchilov and Hutter 2017, without restarts).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """`device` as a torch.device; None takes CUDA, else MPS, else the CPU.

    Raises ValueError for a device that PyTorch does not know or that this machine does not have.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device is None:
        return torch.device(next(name for name, present in available.items() if present))
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"there is no device {device!r}: {error}") from error
    if not available.get(chosen.type, True):
        present = ", ".join(name for name in available if available[name])
        raise ValueError(f"device {device!r} is not available here; this machine has {present}")
    return chosen


def _mixup(alpha: float, num_classes: int) -> Callable:
    from torchvision.transforms.v2 import MixUp
    return MixUp(alpha=alpha, num_classes=num_classes)


def _evaluate(model: nn.Module, loader: DataLoader, place: Callable[[Tensor], Tensor],
              classes: tuple[str, ...]) -> Evaluation:
    count = len(classes)
    loss, confusion = 0.0, torch.zeros(count * count, dtype=torch.long)
    model.eval()
    with torch.no_grad():
        for images, labels in loader:
            logits = model(place(images)).float().cpu()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            confusion += torch.bincount(labels * count + logits.argmax(1), minlength=count * count)
    confusion = confusion.view(count, count)
    images = confusion.sum().item()
    return Evaluation(loss / images, confusion.trace().item() / images, confusion, classes)


def _seed_everything(seed: int, epoch: int) -> None:
    """Seed Python, NumPy and PyTorch with a number of 32 bits mixed from both, so that no two runs overlap."""
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def _placed(model: nn.Module, device: torch.device, channels_last: bool) -> Iterator[Callable[[Tensor], Tensor]]:
    """Move a model to a device and memory layout, and back at the end; yields what moves images there."""
    def named() -> dict[str, Tensor]:
        return {**dict(model.named_parameters()), **dict(model.named_buffers())}

    layout = torch.channels_last if channels_last else torch.contiguous_format
    home = next((tensor.device for tensor in named().values()), device)
    before = {name: (tensor.shape, tensor.stride()) for name, tensor in named().items()}
    model.to(device, memory_format=layout)
    try:
        yield lambda images: images.to(device, memory_format=layout)
    finally:
        model.to(home)
        for name, tensor in named().items():
            shape, stride = before.get(name, (None, None))
            if tensor.shape == shape and tensor.stride() != stride:
                tensor.data = torch.empty_strided(shape, stride, dtype=tensor.dtype, device=home).copy_(tensor.detach())


def _check_types(model: object, data: object, kinds: type | tuple[type, ...]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, as lw.create_model(name) builds it, got {model!r}")
    if not isinstance(data, kinds):
        raise TypeError(f"data must be a Data, such as lw.load_data('digits'), got {type(data).__name__}")


def _check_settings(settings: dict[str, Any]) -> None:
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


def _logits_and_loss(output: Tensor | TrainingOutput, targets: Tensor, criterion: nn.Module) -> tuple[Tensor, Tensor]:
    """The main head's logits, and the loss over all heads."""
    if not isinstance(output, TrainingOutput):
        return output, criterion(output, targets)
    further = sum(criterion(logits, targets) for logits in output.auxiliary)
    return output.logits, criterion(output.logits, targets) + output.weight * further


def _check_output(model: nn.Module, dataset: Dataset, place: Callable[[Tensor], Tensor],
                  classes: tuple[str, ...] | None) -> int:
    """The number of outputs of the model, if it can run the images and has one output for each class."""
    image, _ = dataset[0]
    if not isinstance(image, Tensor) or image.ndim != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"images must be tensors of shape (channels, height, width), got {got}")
    model.eval()
    try:
        with torch.no_grad():
            logits = model(place(image.unsqueeze(0)))
    except RuntimeError as error:
        raise ValueError(f"{type(model).__name__} cannot run images of shape {tuple(image.shape)}: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"a classifier returns logits of shape (N, num_classes); {type(model).__name__} gave {got}")
    outputs = logits.shape[1]
    if classes is not None and outputs != len(classes):
        raise ValueError(f"{type(model).__name__} has {outputs} outputs, but the data has {len(classes)} classes; "
                         f"build it with num_classes={len(classes)}")
    labels = getattr(dataset, "targets", None)  # torchvision's data sets
    if labels is None and hasattr(dataset, "tensors"):
        labels = dataset.tensors[1]
    least, most = torch.as_tensor([0] if labels is None else labels).aminmax()
    if not 0 <= least <= most < outputs:
        raise ValueError(f"labels must be between 0 and {outputs - 1}, as {type(model).__name__} has {outputs} "
                         f"outputs; they go from {least} to {most}")
    return outputs


def _write_checkpoint(path: Path, stateful: dict[str, Any], history: History) -> None:
    """Write aside, then rename: whatever happens, `path` holds a whole checkpoint or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    states = {name: part.state_dict() for name, part in stateful.items()}
    try:
        torch.save({"format": CHECKPOINT_FORMAT, "history": json.dumps(history.to_dict()), **states}, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read_checkpoint(path: str | os.PathLike | None, resume: bool, settings: dict[str, Any],
                     model: nn.Module) -> dict[str, Any] | None:
    """What `_write_checkpoint` wrote, if there is anything to resume and it belongs to this run."""
    if path is None:
        if resume:
            raise ValueError("resume=True needs checkpoint=, the file to resume from")
        return None
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, and {path} is a folder")
    if not path.exists():
        return None
    if not resume:
        raise FileExistsError(f"the checkpoint {path} exists; pass resume=True to go on from it, or remove it")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises half a dozen types for damaged files
        raise ValueError(f"{path} cannot be read as a checkpoint, it is damaged or something else: {error}") from error
    if not isinstance(saved, dict) or saved.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path} was not written by fit (or by another version of it)")
    saved["history"] = History.from_dict(json.loads(saved["history"]))
    then = saved["history"].settings
    for name in settings:
        if name not in ENVIRONMENT and then.get(name) != settings[name]:
            raise ValueError(f"the checkpoint {path} is of a run with {name}={then.get(name)!r}; this one has "
                             f"{settings[name]!r}")
    shapes_then, shapes_now = ({name: getattr(value, "shape", ()) for name, value in state.items()}
                               for state in (saved["model"], model.state_dict()))
    for name in sorted(shapes_then.keys() | shapes_now.keys()):
        if shapes_then.get(name) != shapes_now.get(name):
            then, now = (f"shape {tuple(shapes[name])}" if name in shapes else "nothing of that name"
                         for shapes in (shapes_then, shapes_now))
            raise ValueError(f"the checkpoint {path} is of another network: {name} is {then} there and {now} here")
    return saved
