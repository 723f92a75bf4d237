"""Does a network attend: recognised by what is computed, in whatever words it is written."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from lwcourse.checks import fail

PRODUCTS = {"matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "baddbmm"}
WEIGHTED = {"mul", "__mul__", "__rmul__", "multiply"}
SUMS = {"sum", "mean"}
FEWEST = 4  # keys
CLOSE = 1e-4
NONE = 0, 0  # no keys: different ones, all


def refuse_without_attention(network: nn.Module, size: Sequence[int]) -> None:
    """Refuse a network for images (N, *size) whose output needs no attention over four keys or more, in eval or in
    training mode.

    Attention is a sum of values with weights that are not negative, sum to 1 over the keys, and come from the image:
    `F.scaled_dot_product_attention`, `nn.MultiheadAttention`, or a softmax and a product, of any spelling. How many
    keys there are is told by how many different weights a query has.
    """
    network = _without_constants(network)
    images, others = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0))
    for training in (False, True):
        when = " in training mode" if training else ""
        y, seen = _output(network, images, training)
        different, keys = seen.keys
        if different == 0:
            idle = sorted({type(module).__name__ for name, module in network.named_modules()
                           if "attention" in type(module).__name__.lower() and name not in seen.called})
            if not training and _output(network, images, True)[1].keys > (0, 0):
                when = " in eval mode"
            fail(f"there is no attention in it{when}: no values are summed with weights that sum to 1 over the keys, "
                 "as a softmax gives them" + (f". {' and '.join(idle)} is built but never used" if idle else ""))
        if different < FEWEST:
            small = keys < FEWEST
            what = ("token" if small else "different key") + "s" * (different != 1)
            fail(f"its attention sees {different} {what}{when}, where {FEWEST} are asked for: there is next to nothing "
                 "to attend to", "is the map larger elsewhere?" if small else "")
        without = _output(network, images, training, replaced=True)[0]
        if (y - without).abs().max() <= CLOSE * y.abs().max():
            fail(f"its attention makes no difference{when}: the output is the same without what it gives")
        elsewhere = _output(network, others, training)[1]
        if all(torch.allclose(a, b, rtol=CLOSE) for a, b in zip(seen.results, elsewhere.results, strict=False)):
            fail(f"its attention does not depend on the image{when}: it gives the same for every image")


@torch.no_grad()
def _without_constants(network: nn.Module) -> nn.Module:
    """A copy in which parameters that begin as zeros, or with one small number, let everything through."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.numel() and bool((parameter == parameter.flatten()[0]).all()):
            parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    return network


@torch.no_grad()
def _output(network: nn.Module, images: Tensor, training: bool, replaced: bool = False) -> tuple[Tensor, "_Attention"]:
    network = copy.deepcopy(network).train(training)
    mode = _Attention(replaced)
    for name, module in network.named_modules():
        module.register_forward_pre_hook(lambda module, args, name=name: mode.called.add(name))
    with torch.random.fork_rng(devices=[]), mode:
        torch.manual_seed(0)
        y = network(images.clone())
    return getattr(y, "logits", y), mode


class _Attention(TorchFunctionMode):
    """Finds attention: `keys`, the most that one looks at, (different ones, all); `results`, what those with enough
    keys give; `called`, the names of modules that ran. With `replaced` they give zeros."""

    def __init__(self, replaced: bool):
        super().__init__()
        self.replaced, self.keys, self.called = replaced, NONE, set()
        self.results: list[Tensor] = []
        self.weighted = WeakIdKeyDictionary()  # products of values and weights, with the keys; not yet summed

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "dropout":  # of weights, which would not sum to 1
            return _argument(args, kwargs, 0, "input")
        result = func(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            return self._found(_rows(_argument(args, kwargs, 1, "key")), result)
        if name == "multi_head_attention_forward":  # (T, N, channels) or (T, channels)
            key = _argument(args, kwargs, 1, "key")
            return self._found(_rows(key if key.ndim == 2 else key[:, 0]), result[0]), *result[1:]
        tensors = [a for a in _flat(args) + _flat(kwargs.values()) if isinstance(a, Tensor)]
        if name in PRODUCTS and len(tensors) > 1:
            left, right = tensors[-2:]
            return self._found(max(_weights(left).get(-1, NONE), _weights(right).get(-2, NONE)), result)
        if name == "einsum" and isinstance(args[0], str):
            return self._found(_summed(args[0].replace(" ", ""), tensors), result)
        if name in WEIGHTED:
            self.weighted[result] = {axis: keys for one in tensors for axis, keys in _weights(one).items()}
        if name in SUMS and tensors and tensors[0] in self.weighted:
            axes = _argument(args, kwargs, 1, "dim") if len(args) > 1 or "dim" in kwargs else range(tensors[0].ndim)
            axes = {axis if axis < 0 else axis - tensors[0].ndim for axis in _flat([axes])}
            return self._found(max((self.weighted[tensors[0]].get(axis, NONE) for axis in axes), default=NONE), result)
        return result

    def _found(self, keys: tuple[int, int], result: Tensor) -> Tensor:
        """Note attention over so many keys, (different ones, all)."""
        self.keys = max(self.keys, keys)
        if keys[0] < FEWEST:
            return result
        self.results.append(result)
        return torch.zeros_like(result) if self.replaced else result


def _argument(args: Sequence, kwargs: dict, place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs[name]


def _flat(values: Any) -> list:
    return [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]


def _rows(keys: Tensor) -> tuple[int, int]:
    """How many different keys there are in the last two axes (..., T, d), at most, and how many in all."""
    first = keys.reshape(-1, *keys.shape[-2:])[0]
    return len(torch.unique((first / first.abs().max().clamp_min(1e-30)).round(decimals=4), dim=0)), len(first)


def _weights(x: Tensor) -> dict[int, tuple[int, int]]:
    """{axis, counted from the last: how many weights a query has, (different ones, all)} if `x` has weights of
    attention there."""
    if not x.is_floating_point() or x.ndim < 2 or isinstance(x, nn.Parameter) or bool((x < 0).any()):
        return {}
    found = {}
    for axis in range(1 - x.ndim, 0):
        sums = x.sum(axis)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
            rows = x.movedim(axis, -1).reshape(-1, x.shape[axis])
            different = 1 + (rows.sort(dim=1).values.diff(dim=1) > 1e-5 / x.shape[axis]).sum(1)
            found[axis] = int(different.max()), x.shape[axis]
    return found


def _summed(equation: str, tensors: Sequence[Tensor]) -> tuple[int, int]:
    """How many weights a query has, (different ones, all), where an einsum sums over their axis."""
    given, _, result = equation.partition("->")
    return max((keys for letters, one in zip(given.split(","), tensors, strict=True)
                for axis, keys in _weights(one).items() if letters[axis] not in result), default=NONE)
