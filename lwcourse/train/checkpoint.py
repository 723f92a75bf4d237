"""Checkpoints of `fit`: written whole or not at all, read only by the run that they belong to."""
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lwcourse.train.history import History

CHECKPOINT_FORMAT = "lwcourse.fit 1"
ENVIRONMENT = ("device", "threads", "amp", "channels_last", "torch", "lwcourse", "python")  # may differ on resuming


def write_checkpoint(path: Path, stateful: dict[str, Any], history: History) -> None:
    """Write aside, then rename: whatever happens, `path` holds a whole checkpoint or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    states = {name: part.state_dict() for name, part in stateful.items()}
    try:
        torch.save({"format": CHECKPOINT_FORMAT, "history": json.dumps(history.to_dict()), **states}, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_checkpoint(path: str | os.PathLike | None, resume: bool, settings: dict[str, Any],
                     model: nn.Module) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote, if there is anything to resume and it belongs to this run."""
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
