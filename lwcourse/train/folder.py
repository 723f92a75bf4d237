"""The folder of a run of the command line: what repeats it, what came of it, and its checkpoints."""
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lwcourse.files import written_whole
from lwcourse.running import drop_output, unwrapped
from lwcourse.train.history import History, figure
from lwcourse.train.run import Run

FORMAT = "lwcourse run 1"
CONFIG, LAST, BEST, LOCK = "config.json", "last.pt", "best.pt", ".lock"
METRICS, CURVES = "metrics.csv", "curves.svg"


def versions() -> dict[str, str]:
    """What a run depends on beside its settings: versions, and the commit of the checkout that lwcourse lies in."""
    import torchvision

    import lwcourse
    found = {"lwcourse": version("lwcourse"), "torch": str(torch.__version__), "torchvision": torchvision.__version__,
             "python": sys.version.split()[0]}
    here = Path(lwcourse.__file__).parent
    with suppress(OSError, subprocess.SubprocessError):
        commit = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        if commit.returncode == 0:
            changed = subprocess.run(["git", "-C", here, "status", "--porcelain", "-uno"], capture_output=True,
                                     text=True, timeout=10)
            found["commit"] = commit.stdout.strip() + (" with changes" if changed.stdout.strip() else "")
    return found


@dataclass
class RunFolder:
    """A folder that holds one run: config.json (all that repeats it), metrics.csv, curves.svg, README.md, events of
    TensorBoard where it is installed, the checkpoints `last.pt` (to go on from) and `best.pt` (the network of the best
    test figure, which `lw.load` takes).
    """
    path: Path

    @property
    def last(self) -> Path:
        return self.path / LAST

    @property
    def holds_run(self) -> bool:
        return (self.path / CONFIG).exists()

    def check_new(self) -> None:
        """Raise FileExistsError where the folder holds a run, and OSError where it cannot be written."""
        if self.holds_run:
            raise FileExistsError(f"{self.path} holds a run already: go on with it by --resume, or choose another "
                                  "--out")
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"--out must be a folder, and {self.path} is a file")
        if self.path.is_dir() and any(one.name != LOCK for one in self.path.iterdir()):
            raise FileExistsError(f"{self.path} is not empty; choose another --out")
        parent = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        probe = parent / f".lwcourse.{os.getpid()}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error}") from error

    def read(self) -> dict[str, Any]:
        """What `write_config` wrote. Raises FileNotFoundError where there is no run, ValueError for something else."""
        path = self.path / CONFIG
        if not path.is_file():
            raise FileNotFoundError(f"{self.path} holds no run: there is no {CONFIG} in it")
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise ValueError(f"{path} was not written by `train` (or by another version of it)")
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **config, "versions": versions()}
        for name, text in ((CONFIG, json.dumps(content, indent=2) + "\n"), ("README.md", _readme(self.path, config))):
            with written_whole(self.path / name) as aside:
                aside.write_text(text, encoding="utf-8")

    def forget(self) -> None:
        """Take away a run that completed no epoch and did not get as far as a checkpoint, so that the next try finds
        the folder free. One that did is kept: it can be resumed, from the start where it has no checkpoint."""
        if self.last.exists() or (self.path / BEST).exists():
            return
        with suppress(OSError):
            for name in (CONFIG, "README.md", METRICS, CURVES, LOCK):
                (self.path / name).unlink(missing_ok=True)
            for events in self.path.glob("events.out.tfevents.*"):
                events.unlink()
            self.path.rmdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; the lock ends with the process. Raises FileExistsError where one is at work."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(f"another process is training in {self.path}") from None
        try:
            for leftover in self.path.glob("*.part*"):  # of a run that was killed while it wrote
                leftover.unlink()
            yield
        finally:
            lock.release()


class Recorder:
    """Writes what a run does into its folder: to be called after each step and each epoch, as `watch` of `fit`.

    `stop()` ends the run at the next step. `say` prints a line an epoch, where no bar is drawn.
    """

    def __init__(self, folder: RunFolder, say: bool):
        self.folder, self.say, self.stopping, self.recorded, self.events = folder, say, False, None, None
        self.started = time.monotonic()
        self.images = 0

    def stop(self) -> None:
        self.stopping = True

    def __call__(self, run: Run) -> bool:
        if not run.processes.leads:
            return self.stopping
        done = len(run.history.epochs)
        if self.recorded is None:  # the first step: what a resumed run had recorded is there already
            self.recorded = done if run.step else done - 1
            self._open_events(run)
        if run.step:
            self.images += run.images_of(run.step - 1)
            if self.events and run.history.step_losses:
                self.events.add_scalar("step/loss", run.history.step_losses[-1], run.done_steps)
                self.events.add_scalar("step/lr", run.rate(run.done_steps - 1), run.done_steps)
        elif done > self.recorded:
            self.recorded = done
            self._record_epoch(run)
        return self.stopping

    def _record_epoch(self, run: Run) -> None:
        from lwcourse.viz.curves import training_curves
        from lwcourse.viz.theme import save_svg

        history, path = run.history, self.folder.path
        with written_whole(path / METRICS) as aside:
            aside.write_text(metrics(history), encoding="utf-8")
        if history.best is history.final:
            save_network(unwrapped(run.tested), run.network, path / BEST)
        with written_whole(path / CURVES) as aside:
            save_svg(training_curves({history.settings["model"]: history}), aside)
        final = history.final
        for part, figures in (("train", final.train), ("test", final.test)):
            for name, value in figures.items():
                if self.events:
                    self.events.add_scalar(f"{part}/{name}", value, final.epoch)
        if self.events:
            self.events.flush()
        if self.say:
            metric = history.metric
            rate = self.images / max(time.monotonic() - self.started, 1e-9)
            left = (run.recipe.epochs - final.epoch) * final.seconds
            self._print(f"epoch {final.epoch} of {run.recipe.epochs}: loss {final.train['loss']:.4f}, test {metric} "
                        f"{figure(metric, final.test[metric], 1)}, {rate:,.0f} images/s, {left:,.0f} s left")

    def _print(self, line: str) -> None:
        """A reader of the output that went away, such as `head`, is no reason to end a run."""
        try:
            print(line, flush=True)  # noqa: T201
        except BrokenPipeError:
            self.say = False
            drop_output()

    def _open_events(self, run: Run) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # it is in the extra `train`
            return
        self.events = SummaryWriter(str(self.folder.path), purge_step=run.done_steps or None)

    def close(self) -> None:
        if self.events:
            self.events.close()


def metrics(history: History) -> str:
    """The epochs of a history as CSV: epoch, figures in training and in the test, learning rate, seconds."""
    rows = [{"epoch": epoch.epoch, **{f"train_{name}": value for name, value in epoch.train.items()},
             **{f"test_{name}": value for name, value in epoch.test.items()}, "lr": epoch.lr,
             "seconds": round(epoch.seconds, 2)} for epoch in history.epochs]
    stream = io.StringIO()
    table = csv.DictWriter(stream, rows[0], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return stream.getvalue()


def save_network(source: Any, network: Any, path: Path) -> None:
    """Write the weights of `source`, `network` itself or its average, as `lw.load` reads them."""
    from lwcourse.weights.files import described

    state = {key: tensor.detach().cpu() for key, tensor in source.state_dict().items()}
    with written_whole(path) as aside:
        try:
            torch.save({**described(network), "state": state}, aside)
        except (OSError, RuntimeError) as error:  # PyTorch's writer has an error of its own for a disk that is full
            raise OSError(f"{path} cannot be written, perhaps since the disk is full: {error}") from error


def _readme(path: Path, config: dict[str, Any]) -> str:
    network, data, quoted = config["network"]["name"], config["data"]["name"], shlex.quote(str(path))
    return f"""# {network} on {data}

Started with

    {config["command"]}

| file | what it is |
|---|---|
| `config.json` | all settings, versions and the commit: what repeats this run |
| `metrics.csv`, `curves.svg` | loss and figures by epoch |
| `last.pt` | the checkpoint to go on from |
| `best.pt` | the network of the best test figure; `lw.load("{path}")` builds it |
| `events.*` | for `tensorboard --logdir {quoted}`, where it is installed |

Go on after an interruption, a crash or a kill:

    python -m lwcourse train --resume --out {quoted}

Test the best network, and ask it what is on a picture:

    python -m lwcourse evaluate {quoted}
    python -m lwcourse predict {quoted} PICTURE.jpg
"""
