"""A BatchNorm written by hand, with a mistake in it: what it leaves out, found by trying."""
import contextlib
import copy
from itertools import permutations, product

import torch
from torch import Tensor, nn

from lwcourse.compare.layouts import relative_error
from lwcourse.compare.rows import Row
from lwcourse.compare.trace import has_own_forward

EPS = (1e-5, 1e-3, 1e-6, 1e-8, 1e-12, 0.0)


def norm_by_hand(mine: Row, reference: Row, tolerance: float) -> str | None:
    """What is wrong in a module that has the tensors of a BatchNorm, where the reference has one; None for others."""
    norm, own = reference.reference.module, mine.mine.module
    call = reference.reference_call
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None or call is None or \
            not call.inputs or not has_own_forward(own) or any(True for _ in own.children()):
        return None
    names = [[n for n, t in tensors if t.is_floating_point() and t.numel() == norm.num_features]
             for tensors in (own.named_parameters(), own.named_buffers())]
    x = call.inputs[0]
    if not 1 <= len(names[0]) <= 2 or len(names[1]) > 2 or x.dim() < 2:
        return None
    values = _values(norm)
    for roles in product(permutations(("weight", "bias"), len(names[0])),
                         permutations(("mean", "variance"), len(names[1]))):
        made = _run(own, dict(zip(names[0] + names[1], (*roles[0], *roles[1]), strict=True)), values, x)
        if made is not None and made.shape == x.shape:
            wrong = _wrong(made, x, values, norm.eps, tolerance)
            if wrong is not None:
                return (f"your `{mine.mine.name}` is a BatchNorm by hand, as the reference's "
                        f"`{reference.reference.name}`, but {wrong}")
    return None


def _values(norm: nn.Module) -> dict[str, Tensor]:
    one = torch.ones_like(norm.running_mean)
    found = {"mean": norm.running_mean, "variance": norm.running_var,
             "weight": one if norm.weight is None else norm.weight, "bias": 0 * one if norm.bias is None else norm.bias}
    return {role: t.detach().cpu().double() for role, t in found.items()}


def _run(own: nn.Module, roles: dict[str, str], values: dict[str, Tensor], x: Tensor) -> Tensor | None:
    """What the module makes of x when its tensors are the norm's."""
    twin = copy.deepcopy(own).cpu().double()
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        if name in roles:
            tensor.data.copy_(values[roles[name]].view_as(tensor))
    with contextlib.suppress(Exception), torch.no_grad(), torch.device("cpu"):  # it is the learner's own code
        made = twin(x)
        return made if isinstance(made, Tensor) else None
    return None


def _wrong(made: Tensor, x: Tensor, values: dict[str, Tensor], eps: float, tolerance: float) -> str | None:
    """The fewest changes of a BatchNorm's formula that give `made`."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean, variance, weight, bias = (values[k].view(shape) for k in ("mean", "variance", "weight", "bias"))
    over = [d for d in range(x.dim()) if d != 1]
    batch = x.mean(over, keepdim=True)
    spreads = [x.var(over, keepdim=True, correction=c) for c in (0, 1)]
    batch_words = "it takes the {} of the batch in eval mode, too, not the running one"
    centres = {"": mean, "the mean is not subtracted": 0 * mean, batch_words.format("mean"): batch}
    squares = {"": variance, batch_words.format("variance"): spreads[0],
               batch_words.format("variance (unbiased)"): spreads[1]}
    roots = {"": lambda v, e: (v + e).sqrt(), "it divides by the variance, without the square root": lambda v, e: v + e,
             "eps is added to the deviation, outside the square root": lambda v, e: v.sqrt() + e,
             "it does not divide by the deviation": lambda v, e: torch.ones_like(v)}
    scales = {"": weight, "the scale (weight) is missing": torch.ones_like(weight)}
    shifts = {"": bias, "the shift (bias) is missing": 0 * bias}
    few = (slice(0, 2), slice(None), *[slice(0, 3)] * (x.dim() - 2))  # a few elements of each channel tell enough
    some, wanted = x[few], made[few]
    found: list[list[str]] = []
    for (c, centre), (s, square), (r, root), (w, scale), (b, shift) in product(
            *(choice.items() for choice in (centres, squares, roots, scales, shifts))):
        for e in dict.fromkeys((eps, *EPS)):
            if relative_error((some - centre) / root(square, e) * scale + shift, wanted) <= tolerance:
                other = f"eps is {e:g}, but in the reference {eps:g}" if e != eps and not r else ""
                found.append([words for words in (c, s, r, w, b, other) if words])
                break
    best = min(found, key=len, default=[])
    if [batch_words.format(what) for what in ("mean", "variance")] == best[:2]:
        best[:2] = [batch_words.format("mean and the variance").replace("one", "ones")]
    return " and ".join(best) if 0 < len(best) <= 3 else None
