"""The usual slips of PyTorch, each with words of its own, wherever a check looks at a learner's module."""
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lwcourse.checks import fail
from lwcourse.checks.helpers.watch import Watched
from lwcourse.compare.trace import eval_copy, own_functions_among_hooks

CONTAINERS = {list: "list", tuple: "tuple", set: "set", dict: "dict"}
DEEPEST = 3  # containers in containers
LIBRARIES = ("torchvision.", "timm.")


def refuse_ready_made(seen: Watched, names: Iterable[str], label: str = "") -> None:
    """Refuse what ran of the course, or was built of another library, where the sheet asks to write it: classes and
    functions of these names."""
    used = {f"the course's `{name}`" for name in names for ran in seen.course if ran.split(".")[0] == name}
    used |= {f"{base.__module__.split('.')[0]}'s `{base.__name__}`" for module in seen.made
             for base in type(module).__mro__ if base.__name__ in names and base.__module__.startswith(LIBRARIES)}
    if used:
        fail(f"{label}that uses {' and '.join(sorted(used))}; the exercise is to write it yourself")


def refuse_hidden_layers(module: nn.Module) -> None:
    """Refuse layers in a plain list, tuple, set or dict: PyTorch does not see them."""
    known = set(module.modules()) | set(module.parameters())
    for owner in module.modules():
        for name, value in vars(owner).items():
            if name.startswith("_") and name in nn.Module().__dict__:
                continue
            hidden = [one for one in _inside(value) if one not in known and _has_weights(one)]
            if hidden:
                kind = next(words for base, words in CONTAINERS.items() if isinstance(value, base))
                what = "layers" if any(isinstance(one, nn.Module) for one in hidden) else "parameters"
                own = {"dict": "Dict"}.get(kind, "List")
                fail(f"`self.{name}` is a plain Python {kind} with {len(hidden)} {what} in it, which PyTorch does not "
                     f"see: they are no part of the module, get no gradient step, and stay behind in .to(device)",
                     f"nn.{'Module' if what == 'layers' else 'Parameter'}{own} registers what it holds")


def refuse_other_dtype(module: nn.Module, label: str = "") -> None:
    """Refuse weights that images of PyTorch's usual type cannot meet: of another type, or lazy and without a shape."""
    usual = torch.get_default_dtype()
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            fail(f"{label}`{name}` belongs to a lazy layer, which has no weights before its first run; give the number "
                 "of channels when you build it")
        if parameter.is_floating_point() and parameter.dtype is not usual:
            fail(f"{label}`{name}` is {str(parameter.dtype).removeprefix('torch.')}, but images are "
                 f"{str(usual).removeprefix('torch.')}: the two cannot be multiplied",
                 "is there a .double() or .half(), or another torch.set_default_dtype?")


def refuse_hooks_at_work(module: nn.Module, x: Tensor, label: str = "") -> None:
    """Refuse forward hooks that change what the module, in eval mode, gives for `x`: comparisons leave them out."""
    if own_functions_among_hooks(module):
        with torch.no_grad():
            hooked, bare = module(x.clone()), eval_copy(module, "your network", x.dtype)(x.clone())
        if not torch.equal(hooked, bare):
            fail(f"{label}a forward hook changes what your module gives; a hook is for looking on. What belongs to the "
                 "module is written in forward")


def _inside(value: Any, depth: int = 0) -> Iterator[nn.Module | nn.Parameter]:
    if isinstance(value, nn.Module | nn.Parameter):
        if depth:
            yield value
    elif isinstance(value, tuple(CONTAINERS)) and depth < DEEPEST:
        for one in value.values() if isinstance(value, dict) else value:
            yield from _inside(one, depth + 1)


def _has_weights(one: nn.Module | nn.Parameter) -> bool:
    return isinstance(one, nn.Parameter) or any(True for _ in one.parameters())


def refuse_layers_made(seen: Watched, label: str = "") -> None:
    """Refuse layers with weights that `forward`, watched in `seen`, made."""
    if seen.layers_made:
        kinds = ", ".join(sorted({type(module).__name__ for module in seen.layers_made}))
        fail(f"{label}layers are made in forward ({kinds}): their weights are new and random at every call, and "
             "nothing learns", "build layers in __init__, and call them in forward")


def explain_join(seen: Watched, axes: Iterable[int] = (1,), label: str = "") -> None:
    """Refuse where `torch.cat` joined maps (N, C, H, W) along another axis than `axes`; call it for a wrong result."""
    wrong = [axis for axis in seen.joined if axis not in axes]
    if wrong:
        along = ("the batch, as it does without dim", "the channels", "the rows", "the columns")[wrong[0]]
        fail(f"{label}torch.cat joins along dimension {wrong[0]} ({along}), not along the channels: dim=1")


def refuse_probabilities(logits: Tensor, what: str = "your network") -> None:
    """Refuse the output of a softmax over axis 1 where logits are wanted."""
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        fail(f"{what} ends in a softmax: what it gives sums to 1 over the classes. The loss takes logits and has a "
             "softmax inside, and a second one flattens its gradients", "return what the last layer gives, as it is")


def refuse_squashed(network: nn.Module, x: Tensor, what: str = "your network") -> None:
    """Refuse a network that ends in a sigmoid where logits are wanted: whatever goes in, it gives 0 to 1."""
    with torch.no_grad():
        outputs = [network(factor * x) for factor in (1, 1e4, -1e4)]
    if all(bool((y >= 0).all() and (y <= 1).all()) for y in outputs) and any(bool((y > 0).any()) for y in outputs):
        fail(f"{what} gives numbers between 0 and 1 for every image, as a sigmoid at its end does. The loss takes "
             "logits, and has a softmax inside", "return what the last layer gives, as it is")


def refuse_mixed_batch(network: nn.Module, x: Tensor) -> None:
    """Refuse a network, in eval mode, whose output for one image depends on the other images of the batch."""
    with torch.no_grad():
        both, alone = network(x.clone()), network(torch.cat([x[:1], x[1:].flip(0) + 1]))
    # Before it is trained, a network may say nearly the same of all images: what matters is how much that differs.
    least = max(1e-3 * (both[0] - both[-1]).abs().max(), 3e-6 * both.abs().max())
    if both.shape == alone.shape and (both[0] - alone[0]).abs().max() > least:
        attention = any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in network.modules())
        why = (": nn.MultiheadAttention without batch_first=True takes the first axis for the tokens, so that it "
               "attends across the images of the batch" if attention else
               ": something mixes the images of the batch, such as a reshape or a mean over axis 0")
        fail(f"what your network says of an image depends on the other images{why}")
