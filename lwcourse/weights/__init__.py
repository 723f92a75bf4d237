"""Trained weights: what there is for a network, and a network that has them.

    trained.py       what belongs to weights: preparation of images, names of classes, source, licence
    pip_packages.py  those that come with pip, and so work offline
    official.py      those of torchvision and timm, through their loaders
"""
import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lwcourse import registry
from lwcourse.weights import files, official, pip_packages
from lwcourse.weights.trained import ATTRIBUTE, TrainedWeights, weights_of

__all__ = ["TrainedWeights", "create_trained", "list_weights", "start_from", "weights_of"]

HEAD_CLASSES = 1000
NEW_HEAD = 0.01  # standard deviation of the weights of a last layer that is new


def list_weights(name: str) -> list[TrainedWeights]:
    """All weights that `lw.create_model(name, weights=...)` takes, those that work offline first; nothing is fetched.

    `arguments` of each are those of the network that it is for, such as {"width": 0.5}.
    Raises ValueError for a network that there is not.
    """
    network = registry.resolve(name)
    here = [pip_packages.describe(network)] if network in pip_packages.FILES else []
    return here + [official.describe(network, reference, tag) for reference in official.peers(network)
                   for tag in official.tags(*reference.label.split(" "))]


def create_trained(name: str, weights: str, num_classes: int | None = None, in_channels: int = 3,
                   **options) -> nn.Module:
    """`lw.create_model` with trained weights; options that they need, and what was left out of them, are said in one
    line.

    With another number of classes than theirs the last layer is new, of weights with standard deviation 0.01; with one
    input channel the kernels of the first layer are summed over the colours, so that a grey image gives what it would
    in three equal channels.
    """
    network = registry.resolve(name)
    found, fetch = _find(network, weights, options)
    model = registry.factory(name)(num_classes or HEAD_CLASSES, in_channels=in_channels,
                                   **{**found.arguments, **options})
    state, said = _fitted(fetch(), model.state_dict(), found, in_channels)
    if added := ", ".join(f"{key}={value!r}" for key, value in found.arguments.items() if key not in options):
        said.insert(0, f"the network is built with {added}, as they need it")
    model.load_state_dict(state)
    setattr(model, ATTRIBUTE, found)
    if said:
        print(f"{network} with weights={found.name!r}: {'; '.join(said)}.")  # noqa: T201
    return model


def start_from(path: str | os.PathLike, model: nn.Module) -> None:
    """Give a network the weights of a run's folder or of a file of `lw.save`, to train on from there; a last layer of
    other classes is new, and a stem of one channel summed, as in `create_trained`.

    Raises FileNotFoundError where there is none, ValueError for weights of another network.
    """
    path, built, trained, state = files.read(path)
    own = model.state_dict()
    if set(own) != set(state) or trained is None:
        files.load(path, model)  # which says what differs
        return
    colours = next((tensor.shape[1] for tensor in own.values() if tensor.dim() == 4), 3)
    fitted, said = _fitted(state, own, replace(trained, name=str(path)), colours, len(trained.classes))
    model.load_state_dict(fitted)
    if said:
        print(f"{built['name']} with weights of {path}: {'; '.join(said)}.")  # noqa: T201


def _fitted(state: Mapping[str, Tensor], own: Mapping[str, Tensor], weights: TrainedWeights, in_channels: int,
            classes: int = HEAD_CLASSES) -> tuple[dict[str, Tensor], list[str]]:
    """`state` with `own` tensors in the place of those that do not fit, and what was changed, in words."""
    fitted, said, new = dict(state), [], []
    for key, tensor in own.items():
        there = state[key]
        if tensor.shape == there.shape:
            continue
        if tensor.dim() == 4 and there.shape[1] == 3 and tensor.shape == (len(there), in_channels, *there.shape[2:]):
            if in_channels != 1:
                raise ValueError(f"weights={weights.name!r} are for 3 input channels; they can be summed for 1, but "
                                 f"not made for {in_channels}")
            fitted[key] = there.sum(1, keepdim=True)
            said.append(f"the kernels of {key} are summed over the three colours")
        elif there.dim() and len(there) == classes and tensor.shape[1:] == there.shape[1:]:
            # Scales that suit 1,000 classes and untrained features, such as 1 / sqrt(classes), would drown the latter.
            fitted[key] = torch.zeros_like(tensor) if tensor.dim() == 1 else torch.randn_like(tensor) * NEW_HEAD
            new.append(key)
        else:
            raise ValueError(f"weights={weights.name!r} do not fit {weights.network} with these options: {key} has "
                             f"shape {tuple(there.shape)} in them, {tuple(tensor.shape)} in the network")
    if new:
        said.append(f"the last layer ({', '.join(new)}) is new, for {len(own[new[0]])} classes")
    return fitted, said


def _find(network: str, weights: str, options: Mapping[str, object]
          ) -> tuple[TrainedWeights, Callable[[], dict[str, Tensor]]]:
    """The weights of that name for the network with `options`, and what gets them."""
    if not isinstance(weights, str):
        raise TypeError(f"weights must be a name such as 'imagenet' or 'torchvision', got {weights!r}")
    package = weights.partition(":")[0]
    listed = list_weights(network)
    named = [one for one in listed if weights in (one.name, one.name.partition(":")[0])]
    fitting = [one for one in named if {**one.arguments, **options} == dict(one.arguments)]
    if fitting:
        found = fitting[0]
        if found.name == "imagenet":
            return found, lambda: pip_packages.state_of(network)
        reference = next(one for one in official.peers(network) if one.arguments == found.arguments
                         and one.label.startswith(package + " "))
        return found, lambda: official.state_of(
            reference, found.name.partition(":")[2], registry.factory(network)(HEAD_CLASSES, **reference.arguments))
    if named:
        wanted = " or ".join(sorted({str(dict(one.arguments) or "its defaults") for one in named}))
        raise ValueError(f"weights={weights!r} are for {network} with {wanted}, not with {dict(options)}")
    there = ", ".join(dict.fromkeys(repr(one.name) for one in listed)) or "none"
    raise ValueError(f"there are no weights {weights!r} for {network}; there are {there}")
