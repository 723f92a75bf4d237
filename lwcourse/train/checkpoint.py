"""Checkpoints of `fit`: written whole or not at all, read and overwritten only by the run that they belong to."""
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from lwcourse.train.history import History

if TYPE_CHECKING:
    from lwcourse.train.run import Run

CHECKPOINT_FORMAT = "lwcourse.fit 3"
ENVIRONMENT = ("device", "threads", "amp", "channels_last", "num_workers", "processes", "torch", "lwcourse",
               "python")  # may differ on resuming
FULL = 1 << 16  # bytes: a disk with less free space than this has no room for a checkpoint
NETWORKS = ("model", "average")  # the entries that are states of a network


class Checkpoint:
    """The file of one run, which its settings and the shapes of its network tell from others.

    Raises ValueError for what is no path of a file, and for settings that are no JSON.
    """

    def __init__(self, path: str | os.PathLike, settings: dict[str, Any], network: nn.Module):
        try:
            self.path = Path(path)
            self.target = Path(os.path.realpath(self.path))  # a link stays one, and a change of folder does no harm
            kind = self.target.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            kind = None
        except (TypeError, ValueError) as error:
            raise ValueError(f"checkpoint must be the path of a file, got {path!r}") from error
        except OSError as error:
            raise ValueError(f"the checkpoint {path} cannot be written: {error}") from error
        if kind is not None and not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "something else, such as a device"
            raise ValueError(f"checkpoint must be a file, and {self.path} is {what}")
        try:
            self.settings = json.loads(json.dumps(settings))
        except TypeError as error:
            raise ValueError(f"a checkpoint holds settings as JSON, and {settings} are none: {error}") from error
        self.shapes = _shapes(_plain_names(network.state_dict()))
        self.known = None  # the file as this run read or wrote it last

    def read(self, resume: bool, entries: tuple[str, ...]) -> dict[str, Any] | None:
        """What `write` wrote, if there is anything to resume and it belongs to this run; `entries` must be in it."""
        if not self.target.exists():
            return None
        if not resume:
            raise FileExistsError(f"the checkpoint {self.path} exists; pass resume=True to go on from it, or remove it")
        self.known = self._stamp()
        saved = self._load()
        self._compare(saved)
        for entry in (*entries, "position"):
            if not isinstance(saved.get(entry), dict):
                raise ValueError(f"the checkpoint {self.path} is damaged: it holds no {entry!r}")
        epochs = [epoch.epoch for epoch in saved["history"].epochs]
        begun = epochs or saved["position"].get("step")
        if not begun or len(epochs) > self.settings["epochs"] or epochs != list(range(1, len(epochs) + 1)):
            raise ValueError(f"the checkpoint {self.path} is damaged: it holds the epochs {epochs} of "
                             f"{self.settings['epochs']}")
        return saved

    def check_writable(self) -> None:
        """Make the folder and write something there; ValueError when that fails, and nothing is left behind."""
        folder = self.target.parent
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        probe = self._aside()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                for leftover in folder.iterdir():  # of a run that was killed while it wrote
                    if re.fullmatch(re.escape(self._stem()) + r"\.[0-9a-f]{8}\.part", leftover.name):
                        leftover.unlink()
            probe.write_bytes(b"lwcourse")
            probe.unlink()
            with suppress(FileNotFoundError):
                self.target.stat()  # raises where the name is too long
        except OSError as error:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
            for parent in missing:
                with suppress(OSError):
                    parent.rmdir()
            raise ValueError(f"the checkpoint {self.path} cannot be written: {error}") from error

    def write(self, stateful: dict[str, Any], history: History, position: dict[str, Any]) -> None:
        """Write aside, sync, then rename: whatever happens, the file is a whole checkpoint or the one before.

        Raises FileExistsError when another run has written the file, OSError when it cannot be written.
        """
        states = {name: _plain_names(part.state_dict()) if name in NETWORKS else part.state_dict()
                  for name, part in stateful.items()}
        content = {"format": CHECKPOINT_FORMAT, "history": json.dumps(history.to_dict()), "position": position,
                   **states}
        try:
            self._replace(content)
        except FileNotFoundError:  # another run that started just now has tidied up
            try:
                self._replace(content)
            except FileNotFoundError as error:
                raise OSError(f"the checkpoint {self.path} could not be written: {error}") from error

    def _replace(self, content: dict[str, Any]) -> None:
        aside = self._aside()
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as stream:
                torch.save(content, stream)
                stream.flush()
                os.fsync(stream.fileno())  # else a machine that loses its power may keep the new name without content
            self._check_owner()
            os.replace(aside, self.target)
            self.known = self._stamp()
        except (FileExistsError, FileNotFoundError):
            raise
        except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError where a disk is full
            full = aside.exists() and shutil.disk_usage(aside.parent).free < FULL
            why = "no space left on device" if full and isinstance(error, RuntimeError) else error
            raise OSError(f"the checkpoint {self.path} could not be written: {why}") from error
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def _stem(self) -> str:
        return self.target.name[:40]  # the longest name that may be written leaves no room for more

    def _aside(self) -> Path:
        return self.target.with_name(f"{self._stem()}.{uuid4().hex[:8]}.part")

    def _stamp(self) -> tuple[int, int, int]:
        found = self.target.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _check_owner(self) -> None:
        if not self.target.exists() or self._stamp() == self.known:
            return
        try:
            self._compare(self._load())
        except ValueError as error:
            raise FileExistsError(f"{self.path} was written by something else in the meantime, and is left as it is: "
                                  f"{error}") from error

    def _load(self) -> dict[str, Any]:
        """The entries of the file, with the history in place of its JSON."""
        unreadable = f"{self.path} cannot be read as a checkpoint, it is damaged or something else"
        try:
            with zipfile.ZipFile(self.target) as archive:
                damaged = archive.testzip()
            saved = None if damaged else torch.load(self.target, map_location="cpu", weights_only=True)
        except Exception as error:  # both raise half a dozen types for damaged files
            cause = f": {error}" if isinstance(error, OSError) else ""
            raise ValueError(unreadable + cause) from None  # torch.load's words advise to load it unsafely
        if damaged:
            raise ValueError(f"{unreadable}: its part {damaged} is not as it was written")
        if not isinstance(saved, dict) or saved.get("format") != CHECKPOINT_FORMAT:
            raise ValueError(f"{self.path} was not written by fit (or by another version of it)")
        try:
            saved["history"] = History.from_dict(json.loads(saved["history"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the checkpoint {self.path} is damaged: it holds no history of a run: {error!r}"
                             ) from error
        return saved

    def _compare(self, saved: dict[str, Any]) -> None:
        """Raise ValueError unless this run wrote it."""
        then = saved["history"].settings
        for name, now in self.settings.items():
            if name in ENVIRONMENT or then.get(name) == now:
                continue
            if name == "schedule_shares":  # which the first checkpoints did not hold
                if name not in then:
                    continue
                raise ValueError(f"the checkpoint {self.path} is of a run whose schedule, {then.get('schedule')}, gave "
                                 "other learning rates")
            raise ValueError(f"the checkpoint {self.path} is of a run with {name}={then.get(name)!r}; this one has "
                             f"{now!r}")
        if not isinstance(saved.get("model"), dict):
            raise ValueError(f"the checkpoint {self.path} is damaged: it holds no 'model'")
        shapes = _shapes(_plain_names(saved["model"]))
        for name in sorted(shapes.keys() | self.shapes.keys()):
            if shapes.get(name) != self.shapes.get(name):
                there, here = (f"shape {tuple(of[name])}" if name in of else "nothing of that name"
                               for of in (shapes, self.shapes))
                raise ValueError(f"the checkpoint {self.path} is of another network: {name} is {there} there and "
                                 f"{here} here")


def load_run(saved: dict[str, Any], run: "Run", path: str | os.PathLike) -> None:
    """Give a run what was saved of it; the network comes last, and is left alone when one part fails."""
    name = "position"
    try:
        run.go_to(saved["position"])
        for name, part in reversed(run.stateful.items()):
            state = saved[name]
            if name in NETWORKS:
                saved_as = {_plain(key): key for key in part.state_dict()}
                state = {saved_as.get(key, key): value for key, value in _plain_names(state).items()}
            if state or name != "scaler":  # which is empty when the run so far was without AMP
                part.load_state_dict(state)
            if name == "optimizer":
                _check_averages(part)
    except Exception as error:  # load_state_dict raises what it comes upon
        raise ValueError(f"the checkpoint {path} is damaged: its {name!r} does not fit: {error!r}") from error
    run.history.epochs, run.history.step_losses = saved["history"].epochs, saved["history"].step_losses


def _check_averages(optimizer: torch.optim.Optimizer) -> None:
    """load_state_dict takes any state, and the first step would fail, or start without its velocity."""
    kept = [(parameter, one) for parameter, state in optimizer.state.items() for one in state.values()
            if isinstance(one, Tensor) and one.ndim]
    if optimizer.defaults.get("momentum") and not optimizer.state:
        raise ValueError("no momentum is there")
    for parameter, one in kept:
        if one.shape != parameter.shape:
            raise ValueError(f"a momentum of shape {tuple(one.shape)} for weights of {tuple(parameter.shape)}")


def _plain(name: str) -> str:
    return name.replace("_orig_mod.", "")  # torch.compile's wrapper around the network, or a part of it


def _plain_names(state: Mapping[str, Any]) -> dict[str, Any]:
    return {_plain(name): value for name, value in state.items()}


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.shape if isinstance(value, Tensor) else () for name, value in state.items()}
