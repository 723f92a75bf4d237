"""Run a copy of a model and watch it: which layers own tensors, in which order they run, what goes in and comes out.

Order is the order of first use. Modules are watched through hooks and parameters through a
`TorchFunctionMode`, so a block's own `layer_scale`, or the output projection that
`nn.MultiheadAttention` never calls, has its place in the order too.
"""
import contextlib
import copy
import itertools
import random
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from lwcourse.compare.graph import Graph, Value

# Other names of the usual four tensors: in nn.MultiheadAttention, and in a norm written by hand.
ATTENTION = {"in_proj_weight": "weight", "in_proj_bias": "bias"}
BY_HAND = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
STATISTICS = ("running_mean", "running_var")
USUAL = ("weight", "bias", *STATISTICS)
MAPS = (nn.Linear, nn.modules.conv._ConvNd)
TORCH_LAYERS = (*MAPS, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@dataclass(eq=False)
class Layer:
    """Tensors that one module owns and uses together, such as a convolution's weight and bias.

    `tensors` maps a role (weight, bias, running_mean, running_var, or the tensor's own name)
    to the tensor's name in `module`. `path` is the module's name in the model.
    A block's own parameter (position table, layer scale) is a layer with `raw` set.
    """
    path: str
    module: nn.Module
    tensors: dict[str, str]
    raw: bool = False
    time: int = 0                    # of its first use
    previous: "Layer | None" = None  # the one that ran just before

    @property
    def name(self) -> str:
        if self.raw:
            return f"{self.path}.{next(iter(self.tensors.values()))}".lstrip(".")
        return self.path or type(self.module).__name__

    @property
    def kind(self) -> str:
        return "Parameter" if self.raw else type(self.module).__name__

    def tensor(self, role: str) -> Tensor:
        return getattr(self.module, self.tensors[role])

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {role: tuple(self.tensor(role).shape) for role in self.tensors}


@dataclass(eq=False)
class Call:
    """One call of a module that owns tensors. Tensors are float64 copies on the CPU; None once dropped."""
    module: nn.Module
    time: int
    inputs: list[Tensor] | None = None
    outputs: list[Tensor] | None = None
    plain: list[Tensor] | None = None  # what torch's own layer would return, for a subclass that does more
    has_inner_calls: bool = False
    fused: bool = False  # equal to its partner only without what its class, or its partner's, adds
    shape: tuple[int, ...] = ()
    entering: list[Value] = field(default_factory=list)  # the same tensors in the run's graph, kept
    leaving: list[Value] = field(default_factory=list)
    sizes: tuple[float, float] = (0.0, 0.0)  # sums of absolute values, of the inputs and of the outputs

    def differs(self, other: "Call", tolerance: float) -> bool:
        """Whether two runs of one network saw different numbers here."""
        return any(abs(a - b) > tolerance * max(a, b) for a, b in zip(self.sizes, other.sizes, strict=True))


@dataclass(eq=False)
class Run:
    """What one forward pass did."""
    outputs: object = None
    layers: list[Layer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    graph: Graph = field(default_factory=Graph)
    entering: list[Value] = field(default_factory=list)  # x
    leaving: dict[int, Value] = field(default_factory=dict)  # id of an output's tensor -> its value
    dropouts: list[tuple[float, bool]] = field(default_factory=list)  # (rate, is active) of each dropout call

    def calls_of(self, module: nn.Module) -> list[Call]:
        return [call for call in self.calls if call.module is module and not call.has_inner_calls]


class CannotRun(ValueError):
    """A model failed on x; `seen` is what it did until then."""

    def __init__(self, message: str, seen: Run):
        super().__init__(message)
        self.seen = seen


def tensors_in(value) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item)] if isinstance(value, (tuple, list)) else []


def owned(module: nn.Module, is_block: bool = False) -> dict[str, str]:
    """Role -> name of the parameters and running statistics that a module owns itself; weight and bias come first.

    The `gamma` of a block, which has layers inside, is no norm's weight.
    """
    aliases = ATTENTION if is_block else ATTENTION | BY_HAND
    names = [n for n, _ in module.named_parameters(recurse=False)]
    names += [n for n, _ in module.named_buffers(recurse=False) if aliases.get(n, n) in STATISTICS]
    roles = {aliases.get(name, name): name for name in names}
    if len(roles) < len(names):  # e.g. both `weight` and `gamma`
        roles = {name: name for name in names}
    return {role: roles[role] for role in (*USUAL, *roles) if role in roles}


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """No gradients, attention as its formula (the fast path skips hooks), every random state as it was when we leave.

    One CPU thread: with two, float64 depthwise convolutions stall on some machines (seen with PyTorch 2.14 on
    two cores: MobileNetV2 at 64 x 96 pixels took 1.3 s with one thread, 30 s and more with two).
    """
    threads = torch.get_num_threads()
    python, numpy, fast = random.getstate(), np.random.get_state(), torch.backends.mha.get_fastpath_enabled()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        torch.set_num_threads(1)
        with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.mha.set_fastpath_enabled(fast)
        random.setstate(python)
        np.random.set_state(numpy)
        if mps is not None:
            torch.mps.set_rng_state(mps)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def own_functions_among_hooks(model: nn.Module) -> list[tuple[str, str, int]]:
    """(module, kind, key) of each forward hook that is a function of the reader's own.

    A copy of the model would call the very same function, and so fill the reader's lists. Hooks of torch, such as that
    of spectral_norm, belong to the network; methods and objects are copied with it.
    """
    functions = (types.FunctionType, types.BuiltinFunctionType)  # what deepcopy leaves as it is
    return [(name, kind, key) for name, module in model.named_modules() for kind in HOOKS
            for key, hook in getattr(module, kind).items()
            if isinstance(hook, functions) and not (hook.__module__ or "").startswith("torch.")]


def eval_copy(model: nn.Module, who: str, dtype: torch.dtype) -> nn.Module:
    """A deep copy in eval mode and `dtype`, without hooks that would call the reader's own functions.

    Raises ValueError, chained, when the model cannot be copied.
    """
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise ValueError(f"{who} cannot be copied, so it cannot be examined safely ({error}); "
                         "does it keep a tensor from an earlier forward pass?") from error
    for name, kind, key in own_functions_among_hooks(twin):
        del getattr(twin.get_submodule(name), kind)[key]
    twin.to(dtype)
    twin.train()  # networks that keep something in eval mode, such as timm's LeViT, drop it here
    twin.eval()
    return twin


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What a forward makes with torch.zeros or torch.empty, to write into, is as exact as what it writes."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _as_before(model: nn.Module, buffers_too: bool) -> Iterator[None]:
    """What a forward keeps in plain attributes or buffers, such as a cache for eval mode, is gone afterwards."""
    def shallow(value):
        return value.copy() if isinstance(value, (dict, list, set)) else value

    plain = nn.Module().__dict__.keys()
    attributes = {m: {k: shallow(v) for k, v in m.__dict__.items() if k not in plain} for m in model.modules()}
    buffers = {m: {k: (b, None if b is None else b.clone()) for k, b in m._buffers.items()} for m in model.modules()}
    try:
        yield
    finally:
        for module, kept in attributes.items():
            for name in [k for k in module.__dict__ if k not in plain and k not in kept]:
                del module.__dict__[name]
            module.__dict__.update({k: shallow(v) for k, v in kept.items()})
            if buffers_too:
                module._buffers.clear()
                for name, (buffer, content) in buffers[module].items():
                    if buffer is not None:
                        buffer.copy_(content)
                    module._buffers[name] = buffer


class _FirstUse(TorchFunctionMode):
    """Calls `used(id(tensor), n)` for each tensor that goes into the n-th torch function, and notes every dropout."""

    def __init__(self, used: Callable[[int, int], None], dropouts: list[tuple[float, bool]]):
        super().__init__()
        self.used, self.dropouts, self.count = used, dropouts, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "dropout" in name:
            given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
            rate = given.get("p", 0.5)
            if rate > 0:
                self.dropouts.append((rate, given.get("training", True)))
        result = func(*args, **kwargs)
        if tensors_in(result):  # reading a parameter's shape or dtype is no use of it
            self.count += 1
            for tensor in tensors_in((args, kwargs)):
                self.used(id(tensor), self.count)
        return result


def run(model: nn.Module, inputs: tuple[Tensor, ...], who: str, *,
        before: Callable[[Call, tuple], None] | None = None,
        after: Callable[[Call, tuple, object], object] | None = None, setting_buffers: bool = False) -> Run:
    """One forward pass of `model`, watched. Call it inside `nothing_left_behind`, on a copy.

    `before(call, args)` and `after(call, args, output)` run around each call of a module that
    owns tensors; what `after` returns, if not None, replaces the module's output. Caches and buffers that the
    forward changes are as before afterwards; buffers are not where the callbacks are `setting_buffers`.
    Raises CannotRun, chained, naming `who` and the innermost module when the model cannot run.
    """
    seen = Run()
    names = {module: name for name, module in model.named_modules()}
    owners = {module: tensors for module in names if (tensors := owned(module))}
    whole = {m for m in owners if not any(child in owners for child in m.modules() if child is not m)}
    owners = {module: owned(module, module not in whole) for module in owners}
    where: dict[int, tuple[nn.Module, str]] = {}
    for module, tensors in owners.items():
        for role, name in tensors.items():
            where.setdefault(id(getattr(module, name)), (module, role))
    waiting = {m: dict(tensors) for m, tensors in owners.items()}
    clock = itertools.count()
    stack: list[tuple[nn.Module, Call | None]] = []
    latest: tuple[Layer | None, int] = (None, 0)  # the last layer noted for a block, and the torch function it was in

    def note(module, roles):
        tensors = {role: waiting[module].pop(role) for role in roles}
        raw = module not in whole and roles[0] not in USUAL
        previous = seen.layers[-1] if seen.layers else None
        layer = Layer(names[module], module, tensors, raw, next(clock), previous)
        seen.layers.append(layer)
        return layer

    def used(key, count):
        nonlocal latest
        module, role = where.get(key, (None, None))
        if module is None or role not in waiting[module]:
            return
        if module in whole:
            note(module, list(waiting[module]))
        elif latest[1] == count and latest[0].module is module:  # used together, so they belong together
            latest[0].tensors[role] = waiting[module].pop(role)
        else:
            latest = note(module, [role]), count

    def enter(module, args, kwargs):
        call = None
        if module in owners:
            for _, outer in stack:
                if outer is not None:
                    outer.has_inner_calls = True
            call = Call(module, next(clock))
            seen.calls.append(call)
            if module in whole and waiting[module]:
                note(module, list(waiting[module]))
        stack.append((module, call))
        if call is not None:
            call.entering = [seen.graph.value(t) for t in tensors_in((args, kwargs))]
            if before is not None:
                with seen.graph.paused():
                    before(call, (args, kwargs))

    def leave(module, args, kwargs, output):
        _, call = stack.pop()
        if call is None:
            return None
        call.shape = next((tuple(t.shape) for t in tensors_in(output)), ())
        call.leaving = [seen.graph.value(t) for t in tensors_in(output)]
        if after is None:
            return None
        with seen.graph.paused():
            replaced = after(call, (args, kwargs), output)
        for new, old in zip(tensors_in(replaced), tensors_in(output), strict=False):
            seen.graph.stands_for(new, old)
        return replaced

    watched = [m for m in names if not isinstance(m, torch.jit.ScriptModule)]  # those take no such hooks
    handles = [m.register_forward_pre_hook(enter, with_kwargs=True, prepend=True) for m in watched]
    handles += [m.register_forward_hook(leave, with_kwargs=True) for m in watched]
    dtype = next(model.parameters()).dtype
    moved = [x.to(device_of(model), dtype if x.is_floating_point() else x.dtype, copy=True) for x in inputs]
    try:
        with _as_before(model, buffers_too=not setting_buffers), _FirstUse(used, seen.dropouts), seen.graph:
            seen.entering = [seen.graph.value(x) for x in moved]
            seen.outputs = model(*moved)
        seen.leaving = {id(t): seen.graph.value(t) for t in tensors_in(seen.outputs)}
    except Exception as error:
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        inner = stack[-1][0] if stack else model
        layer = f"`{names[inner]}`" if names[inner] else "its own forward"
        said = str(error) if str(error) and isinstance(error, (RuntimeError, ValueError)) else \
            f"{type(error).__name__}{f': {error}' if str(error) else ''}"
        raise CannotRun(f"{who} cannot run x of shape {shapes}: {layer} ({type(inner).__name__}) says: {said}",
                        seen) from error
    finally:
        for handle in handles:
            handle.remove()
    seen.unused = [f"{names[m]}.{name}".lstrip(".") for m, left in waiting.items() for name in left.values()]
    return seen


def torch_class(module: nn.Module) -> type[nn.Module]:
    """The first of torch's own classes among those that a module inherits from."""
    return next((c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules")), nn.Module)


def has_own_forward(module: nn.Module) -> bool:
    return isinstance(module, nn.Module) and torch_class(module).forward is not type(module).forward


def plain_output(module: nn.Module, args: tuple) -> list[Tensor] | None:
    """What torch's own layer returns where `module` is a subclass with a forward of its own, else None.

    timm's BatchNormAct2d, say, is a BatchNorm2d that also applies the activation.
    """
    positional, named = args
    if isinstance(module, TORCH_LAYERS) and has_own_forward(module):
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            return [torch_class(module).forward(module, *positional, **named)]
    return None


class Recorder:
    """Keeps what goes into and comes out of each call; `finish(call)` may look at a call and drop its tensors.

    A tensor is copied when it is seen, because an in-place activation may overwrite it soon after;
    one that has not changed since (a convolution's output is the next layer's input) is copied once.
    """

    def __init__(self, finish: Callable[[Call], None] | None = None):
        self.finish = finish
        self.recent: deque[tuple[Tensor, int, Tensor]] = deque(maxlen=4)

    def keep(self, tensor: Tensor) -> Tensor:
        for original, version, kept in self.recent:
            if original is tensor and version == tensor._version:
                return kept
        kept = tensor.detach().to("cpu", copy=True).double()
        self.recent.append((tensor, tensor._version, kept))
        return kept

    def before(self, call: Call, args: tuple) -> None:
        call.inputs = [self.keep(t) for t in tensors_in(args)]

    def after(self, call: Call, args: tuple, output: object) -> None:
        call.outputs = [self.keep(t) for t in tensors_in(output)]
        plain = plain_output(call.module, args)
        call.plain = [self.keep(t) for t in plain] if plain else None
        call.sizes = tuple(sum(t.abs().sum().item() for t in side) for side in (call.inputs, call.outputs))
        if call.has_inner_calls:
            call.inputs = call.outputs = call.plain = None
        elif self.finish is not None:
            self.finish(call)
