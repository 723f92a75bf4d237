"""Say how a tensor was made from earlier ones, by trying.

Activations, shortcuts, gates and pooling have no weights and are often plain functions in a
forward, so they cannot be read off the modules. `explain` finds them by their numbers.
"""
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def unchanged(x: Tensor) -> Tensor:
    return x


NONE = "no activation"
ACTIVATIONS: dict[str, tuple[Function, float, float]] = {  # function, bounds of its values; the usual ones first
    NONE: (unchanged, -math.inf, math.inf),
    "ReLU": (F.relu, 0, math.inf),
    "ReLU6": (F.relu6, 0, 6),
    "Hardswish": (F.hardswish, -0.375, math.inf),
    "SiLU": (F.silu, -0.279, math.inf),
    "GELU": (F.gelu, -0.17, math.inf),
    "Sigmoid": (torch.sigmoid, 0, 1),
    "Hardsigmoid": (F.hardsigmoid, 0, 1),
    "Tanh": (torch.tanh, -1, 1),
    "LeakyReLU(0.01)": (partial(F.leaky_relu, negative_slope=0.01), -math.inf, math.inf),
    "LeakyReLU(0.1)": (partial(F.leaky_relu, negative_slope=0.1), -math.inf, math.inf),
    "LeakyReLU(0.2)": (partial(F.leaky_relu, negative_slope=0.2), -math.inf, math.inf),
    "GELU in its tanh form": (partial(F.gelu, approximate="tanh"), -0.171, math.inf),
    "ELU": (F.elu, -1, math.inf),
    "SELU": (F.selu, -1.759, math.inf),
    "Mish": (F.mish, -0.309, math.inf),
    "Softplus": (F.softplus, 0, math.inf),
    "Softmax": (partial(torch.softmax, dim=1), 0, 1),
    "LogSoftmax": (partial(torch.log_softmax, dim=1), -math.inf, 0),
}
OVER_CLASSES = ("Softmax", "LogSoftmax")
GATES = ("Sigmoid", "Hardsigmoid", NONE, "ReLU", "Tanh", "ReLU6")
WINDOWS = (  # kernel, stride, padding, rounded up
    (2, 2, 0, False), (3, 2, 1, False), (3, 2, 0, True), (3, 2, 0, False), (3, 1, 1, False), (2, 2, 0, True),
    (2, 1, 0, False), (4, 4, 0, False), (5, 1, 2, False), (3, 3, 0, False), (5, 2, 2, False))
ENOUGH = 1 << 11  # elements on which a guess must hold before it is tried on all


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that both networks have computed, and what to call it."""
    layer: str          # the learner's name for the layer that it leaves or enters; "" for the input x
    is_output: bool
    tensor: Tensor
    call: int = 0       # which call of the layer, from 1 on, where there are several

    def __str__(self) -> str:
        if not self.layer:
            return "the input x"
        which = f" (call {self.call})" if self.call else ""
        return f"the {'output' if self.is_output else 'input'} of `{self.layer}`{which}"


@dataclass(frozen=True, eq=False)
class Formula:
    """resize(outer(inner(source) + other)); for a gate resize(outer(inner(other) * gate(source)))."""
    source: Value
    inner: str = NONE
    other: Value | None = None
    gate: str | None = None
    outer: str = NONE
    resize: str = ""
    shrink: Function = unchanged

    def compute(self, channels: Tensor | None) -> Tensor:
        """The tensor that the formula gives, or only some of its channels."""
        source, other = (None if v is None else v.tensor if channels is None else v.tensor[:, channels]
                         for v in (self.source, self.other))
        inner, outer = ACTIVATIONS[self.inner][0], ACTIVATIONS[self.outer][0]
        if self.gate is not None:
            bracket = inner(other) * ACTIVATIONS[self.gate][0](source)
        else:
            bracket = inner(source) if other is None else inner(source) + other
        return self.shrink(outer(bracket))

    @property
    def activations(self) -> list[str]:
        return [name for name in (self.inner, self.gate, self.outer) if name not in (None, NONE)]

    def can_turn(self) -> bool:
        return self.other is not None and self.gate is None and self.inner == NONE

    def turned(self) -> "Formula":
        """The same sum with its two terms exchanged; only where `can_turn`."""
        return replace(self, source=self.other, other=self.source)

    def __str__(self) -> str:
        if self.gate is not None:
            words = f"{applied(self.inner, self.other)} times {applied(self.gate, self.source)}"
        else:
            words = applied(self.inner, self.source) + (f" plus {self.other}" if self.other else "")
        words = applied(self.outer, words if self.other is None or self.outer == NONE else f"({words})")
        return f"{self.resize} of {words}" if self.resize else words


def applied(name: str, words: object) -> str:
    """Words for an activation of something."""
    return str(words) if name == NONE else f"{name} of {words}"


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Equal up to `tolerance` of b's largest; shapes may differ in ones, as (N, C) and (N, C, 1, 1) do."""
    if a.shape != b.shape:
        if a.numel() != b.numel() or [n for n in a.shape if n > 1] != [n for n in b.shape if n > 1]:
            return False
        a = a.reshape(b.shape)
    return b.numel() == 0 or bool((a - b).abs().max() <= tolerance * b.abs().max())


def resizes(shape: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[str, Function]]:
    """Poolings and upsamplings that take an (N, C, H, W) of `shape` to `target`; "" where nothing is needed."""
    if shape[:1] != target[:1]:
        return
    if shape == target or len(target) == 2 and math.prod(shape) == math.prod(target):
        yield "", partial(torch.flatten, start_dim=1) if len(target) == 2 else unchanged
    if len(shape) != 4 or shape[:2] != target[:2]:
        return
    size, wanted = shape[2:], target[2:]
    if wanted in ((), (1, 1)) and size != (1, 1):
        yield "global average pooling", partial(torch.mean, dim=(2, 3))
        yield "global max pooling", partial(torch.amax, dim=(2, 3))
    if len(wanted) == 2:
        yield from _windows(size, wanted)
        if wanted > size and all(n % m == 0 for n, m in zip(wanted, size, strict=True)):
            up = partial(F.interpolate, size=wanted)
            yield "upsampling to the nearest pixel", partial(up, mode="nearest")
            yield "bilinear upsampling", partial(up, mode="bilinear")
            yield "bilinear upsampling with align_corners", partial(up, mode="bilinear", align_corners=True)


def _windows(size: tuple[int, int], wanted: tuple[int, int]) -> Iterator[tuple[str, Function]]:
    for kernel, stride, padding, up in WINDOWS:
        steps = [n + 2 * padding - kernel for n in size]
        if min(steps) < 0 or tuple((-(-n // stride) if up else n // stride) + 1 for n in steps) != wanted:
            continue
        how = f"{kernel}x{kernel}, stride {stride}, padding {padding}" + (", rounded up" if up else "")
        options = dict(kernel_size=kernel, stride=stride, padding=padding, ceil_mode=up)
        yield f"max pooling ({how})", partial(F.max_pool2d, **options)
        yield f"average pooling ({how})", partial(F.avg_pool2d, **options)
        if padding:
            yield (f"average pooling ({how}, not counting the padding)",
                   partial(F.avg_pool2d, count_include_pad=False, **options))


def explain(target: Tensor, values: list[Value], tolerance: float,
            names: tuple[str, ...] | None = None) -> Formula | None:
    """The first formula that gives `target`, from `values` (oldest first), or None.

    Tries one source, then sums with an earlier value, then gates, with the latest values first; only with
    the activations that are in `names`, when given, all of them.
    """
    for formula in _formulas(target, values[::-1], names):
        if names is not None and sorted(formula.activations) != sorted(names):
            continue
        sources = [v.tensor for v in (formula.source, formula.other) if v is not None]
        channels = _some_channels(target, sources) if formula.inner not in OVER_CLASSES else None
        try:
            if channels is not None and not close(formula.compute(channels), target[:, channels], tolerance):
                continue
            if close(formula.compute(None), target, tolerance):
                return formula
        except RuntimeError:  # shapes that do not combine
            continue
    return None


def _some_channels(target: Tensor, sources: list[Tensor]) -> Tensor | None:
    count = target.shape[1] if target.dim() > 1 else 0
    if any(t.dim() < 2 or t.shape[1] != count for t in sources):
        return None
    few = max(1, ENOUGH * count // max(t.numel() for t in (target, *sources)))
    return None if few >= count else torch.linspace(0, count - 1, few, device="cpu").round().long()


def _formulas(target: Tensor, values: list[Value], names: tuple[str, ...] | None) -> Iterator[Formula]:
    low, high, shape = target.min(), target.max(), tuple(target.shape)
    possible = [name for name, (_, least, most) in ACTIVATIONS.items() if least - 1e-3 <= low and high <= most + 1e-3
                and (names is None or name in (NONE, *names))]
    inner = [name for name in ACTIVATIONS if name not in OVER_CLASSES and (names is None or name in (NONE, *names))]
    outer = [name for name in inner if name in possible]
    fitting = [(v, resize, f) for v in values for resize, f in resizes(tuple(v.tensor.shape), shape)]
    for value, resize, shrink in fitting:
        for name in possible if target.dim() == 2 and not resize else outer:
            yield Formula(value, name, resize=resize, shrink=shrink)
    usual = [item for item in fitting if not item[1] or item[0].tensor.shape != target.shape]
    recent = [v for v in dict.fromkeys(item[0] for item in usual) if v.is_output][:4]
    for source, resize, shrink in [item for item in usual if item[0] in recent]:
        others = [v for v in values if v is not source and v.tensor.shape == source.tensor.shape][:40]
        for other, after, before in product(others, outer, inner):
            yield Formula(source, before, other, outer=after, resize=resize, shrink=shrink)
    for source, (other, resize, shrink) in product([v for v in values if v.is_output][:4], usual[:12]):
        if source is not other:
            gates = sorted(_gates(source.tensor, other.tensor), key=lambda gate: names is not None and gate == NONE)
            for gate, after, before in product(gates, outer, inner):
                if names is not None and gate not in (NONE, *names):
                    continue
                yield Formula(source, before, other, gate, after, resize, shrink)


def _gates(gate: Tensor, gated: Tensor) -> tuple[str, ...]:
    """The functions to try on `gate`: all for one number per channel or pixel, the usual for a full tensor."""
    if gate.shape == gated.shape and gate.dim() > 2 and gate[0, 0].numel() > 1:
        return ("Sigmoid", NONE)
    if gate.dim() != gated.dim() or gate.dim() < 3 or len(gate) != len(gated):
        return ()
    per_channel = gate.shape[1] == gated.shape[1] and gate[0, 0].numel() == 1
    return GATES if per_channel or gate.shape[1] == 1 and gate.shape[2:] == gated.shape[2:] else ()
