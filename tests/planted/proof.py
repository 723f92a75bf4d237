"""That the planted faults are what they say, shown with torch alone: `python tests/planted/proof.py [PAIR ...]`.

Without a fault the two networks of a pair give the same; with one they do not.
"""
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

if __name__ == "__main__":  # run as a script: the folder that holds this package is not on the path
    sys.path.insert(0, str(Path(__file__).parents[1]))

from planted import Pair
from planted.score import choose, families, images, networks


def untruths(pair: Pair) -> list[str]:
    """What is not as `pair` says: a sentence each."""
    inputs = tuple(x.double() if x.is_floating_point() else x for x in images(pair))
    mine, reference = (net.double() for net in networks(pair, ""))
    _randomise(reference, inputs)
    try:
        for own, theirs in zip(_tensors_in_order(mine, inputs), _tensors_in_order(reference, inputs), strict=True):
            own.copy_(theirs.reshape(own.shape))
    except (ValueError, RuntimeError) as error:
        return [f"{pair.name}: the weights cannot be copied in the order of the layers: {error}"]
    right = _output(reference, inputs)
    if not _agree(_output(mine, inputs), right, 1e-5):
        return [f"{pair.name}: the networks differ without a fault"]
    return [f"{pair.name}:{fault.name}: the fault changes nothing" for fault in pair.faults
            if not _changes(pair, fault.name, mine, inputs, right)]


def _changes(pair: Pair, fault: str, sound: nn.Module, inputs: tuple[Tensor, ...], right: Tensor) -> bool:
    """Whether the output is another, or there is none, or the layers have other shapes."""
    net, state = networks(pair, fault)[0].double(), sound.state_dict()
    own = net.state_dict()
    if own.keys() != state.keys() or any(own[key].shape != state[key].shape for key in own):
        return True
    net.load_state_dict(state)
    try:
        return not _agree(_output(net, inputs), right, 1e-6)
    except (RuntimeError, ValueError):
        return True


def _agree(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * b.abs().max())


@torch.no_grad()
def _output(net: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    out = net.eval()(*inputs)
    parts = [out] if isinstance(out, Tensor) else list(out.values() if isinstance(out, dict) else out)
    return torch.cat([part.flatten() for part in parts]) if len(parts) > 1 else parts[0]


@torch.no_grad()
def _randomise(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Statistics near those of the data, scales up to 3, so that 6 is reached, and nothing that is 0."""
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.weight.copy_(0.5 + 2.5 * torch.rand_like(norm.weight))
        norm.bias.copy_(0.3 * torch.randn_like(norm.bias))
    net.train()(*inputs)
    for norm in norms:
        norm.running_mean.add_(0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(0.75 + 0.5 * torch.rand_like(norm.running_var))
    for parameter in net.parameters():
        if (parameter == parameter.flatten()[0]).all():
            parameter.add_(0.1 * torch.randn_like(parameter))


@torch.no_grad()
def _tensors_in_order(net: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Parameters and statistics, in the order in which the modules that own them run."""
    seen: dict[nn.Module, None] = {}
    handles = [module.register_forward_pre_hook(lambda module, _: seen.setdefault(module))
               for module in net.modules() if next(module.parameters(recurse=False), None) is not None]
    net.eval()(*inputs)
    for handle in handles:
        handle.remove()
    return [tensor.detach() for module in seen for tensor in (*module.parameters(False), *module.buffers(False))
            if tensor.is_floating_point()]


if __name__ == "__main__":
    known = families()
    for chosen in choose(known, sys.argv[1:]) if sys.argv[1:] else known.values():
        print(chosen.name, *(untruths(chosen) or ["proved"]), sep="\n    ")
