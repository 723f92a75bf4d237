"""A network in a file of safetensors, with all that is needed to build it again: no pickle is read or written."""
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lwcourse import registry
from lwcourse.files import written_whole
from lwcourse.weights.trained import ATTRIBUTE, TrainedWeights

FORMAT = "lwcourse network 1"


def save(model: nn.Module, path: str | os.PathLike) -> Path:
    """Write a network of the course to `path` (safetensors): its weights, and in the metadata its name and options,
    what `lw.weights_of` knows of it, and the versions of lwcourse and PyTorch.

    The file appears whole or not at all. Raises ValueError for a network that no factory of the course built, or that
    was built with an argument that JSON has no form for, FileNotFoundError where the folder is missing.
    """
    from safetensors.torch import save_file

    metadata = described(model)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    with written_whole(path) as aside:
        save_file({key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()},
                  aside, metadata)
    return path


def described(model: nn.Module) -> dict[str, str]:
    """What a file holds beside the weights: format, name and options of the network, `lw.weights_of` it, versions.

    Raises ValueError for a network that no factory of the course built, or an argument that JSON has no form for.
    """
    built = getattr(model, "built_by", None)
    if built is None:
        raise ValueError(f"only networks of lw.create_model can be saved so, as only they can be built again; "
                         f"{type(model).__name__} is none. torch.save(model.state_dict(), path) keeps its weights")
    name, arguments = built
    try:
        network = json.dumps({"name": name, "arguments": arguments}, default=_plain)
    except TypeError as error:
        raise ValueError(f"{name} was built with an argument that no file can hold: {error}. Arguments that are "
                         "numbers, texts, lists and dicts can be saved") from error
    trained = getattr(model, ATTRIBUTE, None)
    return {"format": FORMAT, "network": network, "trained": json.dumps(asdict(trained) if trained else None),
            "versions": json.dumps({"lwcourse": version("lwcourse"), "torch": str(torch.__version__)})}


def _plain(value: Any) -> Any:
    """The number or list that NumPy or PyTorch holds."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__}")


def load(path: str | os.PathLike, model: nn.Module | None = None) -> nn.Module:
    """The network that `lw.save` wrote to `path`, in eval mode on the CPU; or `model` with its weights.

    `path` may be the folder of a run of `python -m lwcourse train` too, whose best network it is then.
    Raises FileNotFoundError where there is none, ValueError for a file of another kind, a damaged one, and weights
    that do not fit `model`, naming the first tensor that differs.
    """
    path, built, trained, state = read(path)
    if model is None:
        model = registry.create_model(built["name"], **built["arguments"]).eval()
    _refuse_other_keys(model.state_dict(), state, f"{path} ({built['name']})")
    model.load_state_dict(state)
    if trained:
        setattr(model, ATTRIBUTE, trained)
    return model


def read(path: str | os.PathLike) -> tuple[Path, dict[str, Any], TrainedWeights | None, dict[str, Tensor]]:
    """What is at `path`: the file, name and arguments of the network, what its weights are, and the weights.

    Raises FileNotFoundError and ValueError as `load` does.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "best.pt").is_file():
            raise FileNotFoundError(f"{path} is a folder without the best.pt that a run of `train` leaves")
        path = path / "best.pt"
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    metadata, state = (_read_best if path.suffix == ".pt" else _read_safetensors)(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by lw.save: it does not say which network its weights are for")
    trained = json.loads(metadata["trained"])
    if trained:
        trained = TrainedWeights(**{**trained, **{key: tuple(trained[key]) for key in ("mean", "std", "classes")}})
    return path, json.loads(metadata["network"]), trained, state


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole file of safetensors ({error}); lw.load reads what lw.save "
                         "wrote") from error


def _read_best(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What `train` wrote of the best network of a run; no pickled code is executed."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return content, content["state"]
    except Exception:  # torch.load raises half a dozen types for damaged files, and advises to load them unsafely
        what = ("it is the checkpoint that a run goes on from; name the run's folder" if path.name == "last.pt" else
                "it is damaged or something else")
        raise ValueError(f"{path} cannot be read as the best network of a run: {what}") from None


def _refuse_other_keys(own: dict[str, Tensor], state: dict[str, Tensor], where: str) -> None:
    for key in [*own, *state]:
        shapes = [tuple(side[key].shape) if key in side else None for side in (own, state)]
        if shapes[0] != shapes[1]:
            words = ["is not there" if shape is None else f"has shape {shape}" for shape in shapes]
            raise ValueError(f"the weights of {where} do not fit: {key} {words[0]} in the network, and {words[1]} in "
                             "the file")
