"""Commands that train and test: train, evaluate, recipes."""
import argparse
import dataclasses
import json
import os
import shlex
import signal
import sys
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

import lwcourse as lw
from lwcourse.cli.options import Commands
from lwcourse.tables import text_table

DATA_FLAGS = ("root", "image_size", "skip_unreadable", "download")


def train(args: argparse.Namespace) -> int:
    from lwcourse.train.history import TrainingDiverged
    from lwcourse.train.processes import joined

    with joined(args.device) as device:
        try:
            return _train(args, device)
        except TrainingDiverged as error:
            print(f"error: {error}", file=sys.stderr)
            return 1


def _train(args: argparse.Namespace, device: str | None) -> int:
    from lwcourse.train.folder import Recorder, RunFolder
    from lwcourse.train.loop import Often
    from lwcourse.train.processes import current_processes

    processes = current_processes()
    if args.resume and not args.out and not args.model:
        raise ValueError("which run? --resume goes on with the one in --out RUN")
    if args.out == "":
        raise ValueError("--out must be the name of a folder, got ''")
    _check_device(args.device)
    folder = RunFolder(Path(args.out or f"runs/{args.model}_{args.data.replace(os.sep, '_')}"))
    # The first process alone looks at the folder: it may have written there before another would look.
    config = processes.gathered(_config(args, folder, processes.count) if processes.leads else None)[0]
    data, network, recipe = _built(config)
    options = {"recipe": recipe, "seed": config["seed"], "device": device, "num_workers": args.workers, "amp": args.amp,
               "teacher": _teacher(config["teacher"], data)}
    Often(folder.last, args.checkpoint_steps, args.checkpoint_minutes)  # refuses bad numbers, in a dry run too
    together = recipe.batch_size * recipe.accumulate
    if together > len(data.train):
        times = f" times accumulate={recipe.accumulate}" if recipe.accumulate > 1 else ""
        raise ValueError(f"the batch of {recipe.batch_size} images{times} is larger than {data.name}, which has "
                         f"{len(data.train)} to train on; pass a smaller --batch-size")
    if args.sync_batchnorm:
        if lw.pick_device(device).type != "cuda":
            raise ValueError("--sync-batchnorm needs GPUs: PyTorch has it on CUDA only")
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    if args.dry_run:
        _dry_run(network, data, options, processes.count, say=processes.leads)
        return 0
    bar = sys.stderr.isatty()
    recorder = Recorder(folder, say=not bar)
    with _leading(folder, config, data.classes, processes.leads), _stopped_by_signals(recorder):
        history = lw.fit(network, data, progress=bar, checkpoint=folder.last, resume=args.resume,
                         checkpoint_steps=args.checkpoint_steps, checkpoint_minutes=args.checkpoint_minutes,
                         watch=recorder, **options)
        recorder.close()
    if not processes.leads:
        return 130 if history.interrupted else 0
    if history.interrupted:
        raise KeyboardInterrupt(f"interrupted; go on with: python -m lwcourse train --resume --out "
                                f"{shlex.quote(str(folder.path))}")
    print(f"{history}\nthe best epoch is {history.best.epoch}; {folder.path}/README.md says what to do with it")
    return 0


@contextmanager
def _leading(folder: Any, config: dict[str, Any], classes: Sequence[str], leads: bool) -> Iterator[None]:
    """What the leading process alone does: keep others out of the folder, and write down what the run is."""
    if not leads:
        yield
        return
    with folder.locked():
        if not folder.holds_run:
            folder.write_config(config | {"classes": list(classes)})
        try:
            yield
        except BaseException:
            folder.forget()
            raise


@contextmanager
def _stopped_by_signals(recorder: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run after the step it is in, with a checkpoint; a second Ctrl-C ends it at once."""
    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        recorder.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _config(args: argparse.Namespace, folder: Any, processes: int) -> dict[str, Any]:
    """All that decides what a run does: from the arguments, or, to go on, from the folder, which they must not
    contradict."""
    if not args.resume:
        if not args.dry_run:
            folder.check_new()
        return _config_of(args, processes)
    if not folder.holds_run and args.model:
        return _config_of(args, processes)  # nothing is there yet
    there = folder.read()
    if not args.model:
        _refuse_other_settings(args, folder)
        if args.root is not None:
            there["data"]["options"]["root"] = _data_options(args)["root"]
    else:
        here = json.loads(json.dumps(_config_of(args, processes)))
        for key in ("network", "weights", "data", "recipe", "seed", "teacher"):
            if here[key] != there[key]:
                raise ValueError(f"{folder.path} is a run with {key} {_differing(there[key], here[key])}; leave out "
                                 "MODEL and its options to go on with it")
    return there


def _refuse_other_settings(args: argparse.Namespace, folder: Any) -> None:
    """A run that goes on has its settings; where its data lie may be told anew, and how it is computed."""
    for name in ("recipe", "epochs", "batch_size", "lr", "set", "weights", "width", "teacher", "seed", "data",
                 "image_size", "skip_unreadable"):
        if getattr(args, name) != args.defaults[name]:
            raise ValueError(f"--{name.replace('_', '-')} is a setting of the run in {folder.path}, and stays as it is "
                             "when that goes on; start a new run, with --weights to begin where this one ended")


def _check_device(device: str | None) -> None:
    import torch

    try:
        torch.device("cpu" if device is None else device)
    except RuntimeError:
        raise ValueError(f"--device must be cpu, cuda, cuda:N or mps, got {device!r}") from None


def _differing(there: object, here: object) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        name = next(name for name in {**there, **here} if there.get(name) != here.get(name))
        return f"{name}={there.get(name)!r}, not {here.get(name)!r}"
    return f"{there!r}, not {here!r}"


def _config_of(args: argparse.Namespace, processes: int) -> dict[str, Any]:
    from lwcourse.data import accepted_options
    from lwcourse.registry import factory
    from lwcourse.running import whole_number
    from lwcourse.train.recipes import changed, named_recipe

    if not args.model:
        raise ValueError("which network? `python -m lwcourse list` has them all")
    named = named_recipe(args.recipe)
    changes, loading = _settings(args.set)
    for name, value in (("epochs", args.epochs), ("lr", args.lr)):
        if value is not None:
            changes[name] = _once(name, value, changes)
    if args.batch_size is not None:
        changes["batch_size"] = _once("batch_size", args.batch_size, changes) * processes
    recipe = changed(named.recipe, changes)
    options = {name: value for name, value in named.loading.items() if name in accepted_options(args.data)}
    options |= loading | _data_options(args)
    whole_number("--seed", args.seed, 0, 2**32 - 1)
    if args.width is not None and "width" not in signature(factory(args.model)).parameters:
        raise ValueError(f"{args.model} has one width only; leave out --width")
    return {"command": " ".join(["python -m lwcourse", *map(shlex.quote, args.typed)]),
            "network": {"name": args.model, "arguments": {} if args.width is None else {"width": args.width}},
            "weights": args.weights, "data": {"name": args.data, "options": options},
            "recipe": {"name": named.name, "source": named.source,
                       **{field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}},
            "teacher": args.teacher, "seed": args.seed, "processes": processes}


def _data_options(args: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(args, name) for name in DATA_FLAGS
             if getattr(args, name) is not None and getattr(args, name) is not False}
    if "root" in given:  # a run may go on from another folder
        given["root"] = str(Path(given["root"]).expanduser().absolute())
    return given


def _once(name: str, value: Any, changes: dict[str, Any]) -> Any:
    if name in changes:
        raise ValueError(f"--{name.replace('_', '-')} {value} and --set {name}={changes[name]} are one too many")
    return value


def _settings(given: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What --set says, as values: of the recipe, and of the loading of the data. ValueError for what is neither."""
    from lwcourse.train.recipes import Recipe, closest

    kinds = typing.get_type_hints(Recipe)
    loading = {"augment": bool | str, "erasing": float}
    parts: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set takes NAME=VALUE, such as lr=0.1, got {text!r}")
        if name not in kinds and name not in loading:
            raise ValueError(f"--set {text}: there is no {name!r}; {closest(name, [*kinds, *loading])}")
        parts[name not in kinds][name] = _value(text, value, (kinds | loading)[name])
    return parts


def _value(text: str, value: str, kind: Any) -> Any:
    """A text as a value of a type, such as "none" of `float | None`. Raises ValueError that names what is expected."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if types.NoneType in kinds and value.lower() == "none":
        return None
    if bool in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    for one in (int, float):
        if one in kinds:
            try:
                return one(value)
            except ValueError:
                pass
    if str in kinds:
        return value
    wanted = " or ".join({int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "none"}[one]
                         for one in kinds if one in (int, float, bool, types.NoneType))
    raise ValueError(f"--set {text}: it must be {wanted}, got {value!r}")


def _built(config: dict[str, Any]) -> tuple[Any, nn.Module, Any]:
    """Data, network and recipe of a run."""
    from lwcourse.train.device import random_state_kept, seed_everything
    from lwcourse.train.recipes import Recipe
    from lwcourse.weights import start_from
    from lwcourse.weights.trained import ATTRIBUTE, TrainedWeights

    recipe = Recipe(**{name: value for name, value in config["recipe"].items() if name not in ("name", "source")})
    data = lw.load_data(config["data"]["name"], **config["data"]["options"])
    if "classes" in config:
        _refuse_other_classes(tuple(config["classes"]), data, "the run")
    network, weights = config["network"], config["weights"]
    with random_state_kept(lw.pick_device("cpu")):
        seed_everything(config["seed"], 0)
        from_file = weights is not None and Path(weights).exists()
        options = {} if weights is None or from_file else {"weights": weights}
        model = lw.create_model(network["name"], data.num_classes, in_channels=data.image_shape[0],
                                **network["arguments"], **options)
        if from_file:
            start_from(weights, model)
    size = data.image_shape[-1]
    setattr(model, ATTRIBUTE, TrainedWeights(
        network=network["name"], name="run", source=f"{config['command']} (lwcourse)", size=size,
        resize=data.resize or size, mean=tuple(data.mean), std=tuple(data.std), classes=data.classes))
    return data, model, recipe


def _refuse_other_classes(known: Sequence[str], data: Any, who: str) -> None:
    """A network tells classes by number: its own must be those of the data, in their order."""
    if len(known) != len(data.classes):
        raise ValueError(f"{who} tells {len(known)} classes, and {data.name} has {len(data.classes)}")
    other = [(a, b) for a, b in zip(known, data.classes, strict=True) if a != b]
    if other:
        raise ValueError(f"{who} knows other classes than {data.name} has: {len(other)} of {len(known)} differ, such "
                         f"as {other[0][0]!r} where the data have {other[0][1]!r}")


def _teacher(name: str | None, data: Any) -> nn.Module | None:
    """A trained network: of a run's folder, of a file of lw.save, or by name with published weights."""
    if name is None:
        return None
    from lwcourse.cli.weights import trained_network

    teacher = trained_network(name, None).eval()
    if lw.weights_of(teacher).name == "run":
        _refuse_other_classes(lw.weights_of(teacher).classes, data, f"the teacher {name}")
    return teacher


def _dry_run(network: nn.Module, data: Any, options: dict[str, Any], processes: int, say: bool) -> None:
    """Print what a run would take, with some of its steps measured; nothing is written."""
    from lwcourse.profile import format_bytes

    recipe, marks = options["recipe"], [(0.0, 0)]

    def watch(run: Any) -> bool:
        if run.step:
            marks.append((run.seconds, run.images_of(run.step - 1)))
        sizes.update(steps=run.steps, total=run.total_steps, device=run.device)
        return len(marks) > 5 or run.step == 0

    sizes: dict[str, Any] = {}
    profile = lw.profile(network, data.image_shape)
    states = {"sgd": 1 if recipe.momentum else 0, "adamw": 2, "rmsprop": 2 if recipe.momentum else 1}[recipe.optimizer]
    copies = 2 + states + (recipe.ema is not None)
    memory = 4 * profile.params * copies + profile.activation_bytes * -(-recipe.batch_size // processes)
    lw.fit(deepcopy(network), data, progress=False, watch=watch, **options)
    if not say:
        return
    steps = [(after[0] - before[0], after[1]) for before, after in zip(marks, marks[1:], strict=False)]
    seconds, images = map(sum, zip(*(steps[1:] or steps), strict=True))  # the first step warms up
    rate = images / seconds
    rows = [
        ("network", f"{type(network).__name__}: {profile.params:,} parameters, {profile.macs:,} MACs an image of "
                    f"{' x '.join(map(str, data.image_shape))}"),
        ("data", repr(data)),
        ("memory", f"some {format_bytes(memory)} a process: weights, gradients and optimiser ({copies} copies), and "
                   f"all maps of {-(-recipe.batch_size // processes)} images"),
        ("steps", f"{sizes['steps']:,} an epoch of {recipe.batch_size * recipe.accumulate} images each, "
                  f"{sizes['total']:,} in {recipe.epochs} epochs"),
        ("a step", f"{recipe.batch_size * recipe.accumulate / rate:.3g} s on {sizes['device']}, {rate:,.0f} images/s"),
        ("in all", f"{_duration(recipe.epochs * len(data.train) / rate)} of training; the tests come on top"),
    ]
    print(text_table(rows, left=2))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def evaluate(args: argparse.Namespace) -> int:
    from lwcourse.cli.weights import trained_network
    from lwcourse.train.folder import RunFolder

    folder = RunFolder(Path(args.model))
    network = trained_network(args.model, args.weights)
    given = _data_options(args)
    if folder.holds_run:
        there = folder.read()["data"]
        name = args.data or there["name"]
        options = (there["options"] if name == there["name"] else {}) | given
    elif args.data is None:
        raise ValueError(f"on which data? pass --data, such as --data imagenet --root DIR, to test {args.model}")
    else:
        name, options = args.data, given
    trained = lw.weights_of(network)
    data = lw.load_data(name, **({"image_size": trained.size} | options if not folder.holds_run else options))
    if not folder.holds_run and hasattr(data.test, "transform"):
        data.test.transform = trained.transform()
    if trained.name == "run":
        _refuse_other_classes(trained.classes, data, args.model)
    _check_device(args.device)
    result = lw.evaluate(network, data, batch_size=args.batch_size, device=args.device, num_workers=args.workers)
    print(f"{args.model} on {data.name}: {result}")
    return 0


def recipes(args: argparse.Namespace) -> int:
    from lwcourse.train.recipes import RECIPES, Recipe

    plain = Recipe()
    for named in RECIPES.values():
        settings = {field.name: getattr(named.recipe, field.name) for field in dataclasses.fields(Recipe)}
        own = {name: value for name, value in settings.items()
               if name in ("epochs", "batch_size", "optimizer", "lr") or value != getattr(plain, name)}
        print(f"{named.name}: {named.source}\n  " + ", ".join(f"{name}={value}" for name, value in
                                                               (own | dict(named.loading)).items()))
        if named.differs:
            print(f"  differs: {named.differs}")
    return 0


def _add_data_options(sub: argparse.ArgumentParser, default: str | None) -> None:
    sub.add_argument("--data", default=default, metavar="NAME",
                     help="digits, photo_digits, cifar10, cifar100, imagenet, folder, wds:PATTERN, ..."
                     + (f" (default {default})" if default else ""))
    sub.add_argument("--root", metavar="DIR", help="the folder that holds the data")
    sub.add_argument("--image-size", type=int, metavar="PIXELS")
    sub.add_argument("--skip-unreadable", action="store_true", help="leave out pictures of a folder that are damaged")
    sub.add_argument("--download", action="store_true", help="fetch CIFAR where it is not there yet")
    sub.add_argument("--device", help="cpu, cuda, mps (default: the fastest that there is)")
    sub.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), metavar="N",
                     help="processes that load pictures (default %(default)s)")


def add_commands(command: Commands) -> None:
    sub = command("train", train, "train a network by a recipe, into a folder; --resume goes on after any interruption")
    sub.add_argument("model", nargs="?", metavar="MODEL", help="a network's name; not needed with --resume")
    _add_data_options(sub, "digits")
    sub.add_argument("--recipe", default="quick", metavar="NAME", help="one of `recipes` (default quick)")
    sub.add_argument("--epochs", type=int, metavar="N")
    sub.add_argument("--batch-size", type=int, metavar="N",
                     help="images at once in each process (default: the recipe's, divided among the processes)")
    sub.add_argument("--lr", type=float)
    sub.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of the recipe")
    sub.add_argument("--weights", help="to start from: one of those that `weights MODEL` lists, a run's folder, a file "
                     "of lw.save; with other classes the last layer is new")
    sub.add_argument("--width", type=float, help="channel multiplier")
    sub.add_argument("--teacher", metavar="RUN|MODEL", help="a trained network whose outputs are learned, too")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", metavar="RUN", help="the run's folder (default runs/MODEL_DATA)")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --out")
    sub.add_argument("--dry-run", action="store_true", help="tell what it would take, and write nothing")
    sub.add_argument("--checkpoint-steps", type=int, metavar="N", help="a checkpoint every N steps, too")
    sub.add_argument("--checkpoint-minutes", type=float, default=10.0, metavar="N",
                     help="a checkpoint every N minutes, too (default 10)")
    sub.add_argument("--amp", action=argparse.BooleanOptionalAction, help="mixed precision (default: on CUDA)")
    sub.add_argument("--sync-batchnorm", action="store_true", help="statistics of BatchNorm over all GPUs")
    sub.set_defaults(defaults={action.dest: action.default for action in sub._actions})
    sub = command("evaluate", evaluate, "test a trained network: a run's best, or one with published weights")
    sub.add_argument("model", metavar="RUN|MODEL", help="a run's folder, a file of lw.save, or a network's name")
    _add_data_options(sub, None)
    sub.add_argument("--weights", help="of a network by name: one of those that `weights NAME` lists")
    sub.add_argument("--batch-size", type=int, default=256, metavar="N")
    command("recipes", recipes, "the recipes that `train` knows, their settings and sources")
