"""Optimisers by name, and which parameters they train at which rate."""
from fnmatch import fnmatchcase

import torch
from torch import nn

from lwcourse.train.recipes import Recipe

BACKBONE = "backbone"  # in `freeze`: all but the classifier


def classifier_names(network: nn.Module, outputs: int) -> list[str]:
    """The names of the layers that give the logits: Linear with so many outputs, else the last such convolution."""
    named = list(network.named_modules())
    linear = [name for name, module in named if isinstance(module, nn.Linear) and module.out_features == outputs]
    convolutions = [name for name, module in named
                    if isinstance(module, nn.Conv2d) and module.out_channels == outputs]
    return linear or convolutions[-1:]


def is_below(name: str, patterns: list[str]) -> bool:
    """Whether the parameter `name` is one of the module that a pattern names, such as "stem" or "stages.*"."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def frozen_parameters(network: nn.Module, freeze: str, outputs: int) -> list[nn.Parameter]:
    """The parameters that `freeze` names: "backbone", or names of modules with commas between them, "stem,stages.0".

    Raises ValueError for a name that fits none, and where nothing is left to train.
    """
    if not freeze:
        return []
    named = dict(network.named_parameters())
    if freeze == BACKBONE:
        head = _head(network, outputs, f"freeze={freeze!r}")
        found = [name for name in named if not is_below(name, head)]
    else:
        patterns = [pattern.strip() for pattern in freeze.split(",")]
        found = [name for name in named if is_below(name, patterns)]
        for pattern in patterns:
            if not any(is_below(name, [pattern]) for name in named):
                parts = ", ".join(name for name, _ in network.named_children())
                raise ValueError(f"freeze={freeze!r}: {type(network).__name__} has no {pattern!r}; its parts are "
                                 f"{parts}; {BACKBONE!r} is all but the classifier")
    if len(found) == len(named):
        raise ValueError(f"freeze={freeze!r} leaves no parameter of {type(network).__name__} to train")
    return [named[name] for name in found]


def make_optimizer(network: nn.Module, recipe: Recipe, outputs: int) -> torch.optim.Optimizer:
    """The optimiser of a recipe over the parameters of a network; frozen ones stay in it, and get no gradient.

    Without `decay_norms`, weight decay spares vectors and scalars: biases, and scales and shifts of normalisation.
    Each group has `scale`, its share of the learning rate.
    """
    head = _head(network, outputs, f"backbone_lr={recipe.backbone_lr!r}") if recipe.backbone_lr != 1 else None
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        decay = recipe.weight_decay if recipe.decay_norms or parameter.ndim > 1 else 0.0
        scale = 1.0 if head is None or is_below(name, head) else recipe.backbone_lr
        groups.setdefault((decay, scale), []).append(parameter)
    given = [{"params": parameters, "weight_decay": decay, "scale": scale}
             for (decay, scale), parameters in groups.items()]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(given, recipe.lr, recipe.momentum, nesterov=recipe.nesterov)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(given, recipe.lr, (recipe.momentum, recipe.second_moment), recipe.epsilon)
    return torch.optim.RMSprop(given, recipe.lr, recipe.second_moment, recipe.epsilon, momentum=recipe.momentum)


def _head(network: nn.Module, outputs: int, what: str) -> list[str]:
    head = classifier_names(network, outputs)
    if not head:
        raise ValueError(f"{what} needs a classifier, a Linear layer or a convolution with {outputs} outputs, and "
                         f"{type(network).__name__} has none")
    return head
