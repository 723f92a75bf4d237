"""The operators of one forward pass as a graph, any part of which can be run again.

A dispatch mode sees what PyTorch really does: `F.relu(x)`, `nn.ReLU()(x)` and `x.relu_()` are one operator, a
Linear is a product and a sum, and every setting stands among its arguments. Writing in place gives a new value.
"""
import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakIdKeyDictionary


@dataclass(eq=False, repr=False)
class Node:
    """One operator. `args` and `kwargs` hold a `Value` where it was given a tensor."""
    function: Callable
    args: tuple
    kwargs: dict
    number: int
    outputs: list["Value"] = field(default_factory=list)
    step: int = 0  # within a formula that takes the place of one operator

    @property
    def name(self) -> str:
        """Without overload and underscores: `aten.add_.Tensor` is "add"."""
        return operator_name(self.function)

    @property
    def operands(self) -> list["Value"]:
        """The tensors that go in, in the order of the arguments."""
        return [item for item in tree_flatten((self.args, self.kwargs))[0] if isinstance(item, Value)]

    def run(self, tensors: Mapping["Value", Tensor]) -> list[Tensor]:
        """What the operator returns for other tensors; nothing is written in place."""
        def filled(item):
            if isinstance(item, Value):
                return tensors[item]
            return torch.device("cpu") if isinstance(item, torch.device) else item
        args, kwargs = tree_map(filled, (self.args, self.kwargs))
        args = [arg.clone() if k in _written(self.function) else arg for k, arg in enumerate(args)]
        return [t for t in tree_flatten(self.function(*args, **kwargs))[0] if isinstance(t, Tensor)]


@dataclass(eq=False, repr=False)
class Value:
    """One tensor of a forward pass: what `node` returned, or (`node` is None) `tensor`, which came from outside."""
    shape: tuple[int, ...]
    node: Node | None = None
    index: int = 0
    tensor: Tensor | None = None

    def __repr__(self) -> str:  # a value knows its node, which knows its values
        return f"Value{self.shape}"


SAME = {"safe_softmax": "softmax"}  # operators that do the same


@cache
def operator_name(function: Callable) -> str:
    name = getattr(function, "_schema", None)
    name = name.name.split("::")[-1] if name is not None else getattr(function, "__name__", str(function))
    name = name.strip("_")
    return SAME.get(name, name)


@cache
def _written(function: Callable) -> tuple[int, ...]:
    """The places of the arguments that an operator writes in place."""
    schema = getattr(function, "_schema", None)
    if schema is None or not schema.is_mutable:
        return ()
    return tuple(k for k, arg in enumerate(schema.arguments) if arg.alias_info is not None and arg.alias_info.is_write)


def _overwrite(old: Tensor, new: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """`old`, which lies at `places[0]` of the memory that both share, after `new` was written at `places[1]`."""
    memory = torch.zeros(int(max(p.max() for p in places)) + 1, dtype=old.dtype)
    memory[places[0].flatten()] = old.flatten()
    memory[places[1].flatten()] = new.flatten().to(old.dtype)
    return memory[places[0]]


def _places(tensor: Tensor) -> Tensor:
    """For each element, where it lies in the memory."""
    place = torch.full(tensor.shape, tensor.storage_offset(), dtype=torch.long, device="cpu")
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        steps = torch.arange(size, device="cpu") * stride
        place += steps.view(-1, *[1] * (tensor.dim() - axis - 1))
    return place


class Graph(TorchDispatchMode):
    """Records the operators that run while it is entered; `value(tensor)` finds a tensor again, while it lives."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else PyTorch imports its compiler, for seconds, at the first use
        return False

    def __init__(self):
        super().__init__()
        self.nodes: list[Node] = []
        self.dtypes: set[torch.dtype] = set()  # of everything made
        self._values = WeakIdKeyDictionary()
        self._sharers: dict[int, list[weakref.ref]] = {}  # memory -> tensors that lie in it
        self._listening = True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in here is not part of the forward pass."""
        before, self._listening = self._listening, False
        try:
            yield
        finally:
            self._listening = before

    def value(self, tensor: Tensor) -> Value:
        if tensor not in self._values:
            self._file(tensor, Value(tuple(tensor.shape), tensor=tensor))
        return self._values[tensor]

    def stands_for(self, new: Tensor, old: Tensor) -> None:
        """From here on `new` is what `old` was, as when a hook replaces a module's output."""
        self._file(new, self.value(old))

    def _file(self, tensor: Tensor, value: Value) -> None:
        self._values[tensor] = value
        with contextlib.suppress(RuntimeError, NotImplementedError):  # sparse tensors, say, have no storage
            sharers = self._sharers.setdefault(tensor.untyped_storage()._cdata, [])
            sharers[:] = [ref for ref in sharers if ref() is not None and ref() is not tensor]
            sharers.append(weakref.ref(tensor))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not self._listening:
            return func(*args, **kwargs)
        def as_value(item):
            return self.value(item) if isinstance(item, Tensor) else item
        node = Node(func, *tree_map(as_value, (args, kwargs)), number=len(self.nodes))
        result = func(*args, **kwargs)
        self.nodes.append(node)
        with self.paused():
            made = [t for t in tree_flatten(result)[0] if isinstance(t, Tensor)]
            self.dtypes.update(t.dtype for t in made)
            node.outputs = [Value(tuple(t.shape), node, k) for k, t in enumerate(made)]
            for tensor, value in zip(made, node.outputs, strict=True):
                self._file(tensor, value)
            for k in _written(func):
                self._rewritten(args[k], made)
        return result

    def _rewritten(self, tensor: Tensor, made: list[Tensor]) -> None:
        """Other tensors in the memory of one that was written have new values too."""
        new = self._values[tensor]
        if not any(t is tensor for t in made):
            return
        for ref in list(self._sharers.get(tensor.untyped_storage()._cdata, [])):
            other = ref()
            if other is None or any(t is other for t in made):
                continue
            geometry = [(t.shape, t.stride(), t.storage_offset()) for t in (tensor, other)]
            if geometry[0] == geometry[1]:
                self._values[other] = new
                continue
            node = Node(_overwrite, (self._values[other], new, (_places(other), _places(tensor))), {}, len(self.nodes))
            node.outputs = [Value(tuple(other.shape), node)]
            self.nodes.append(node)
            self._values[other] = node.outputs[0]


def as_formula(node: Node) -> list[Node] | None:
    """A norm, Hardsigmoid, Hardswish or a convolution in groups as the operators of its formula, the last of which
    makes what it makes; None for other nodes."""
    aten = torch.ops.aten
    made: list[Node] = []

    def do(function, *args, **kwargs) -> Value:
        new = Node(function, args, kwargs, node.number, step=len(made) + 1)
        new.outputs = [Value((), new)]
        made.append(new)
        return new.outputs[0]

    if node.name in ("hardsigmoid", "hardswish"):
        shifted = do(aten.hardtanh.default, do(aten.add.Tensor, node.args[0], 3), 0, 6)
        if node.name == "hardswish":
            shifted = do(aten.mul.Tensor, node.args[0], shifted)
        do(aten.div.Tensor, shifted, 6)
        made[-1].outputs = [node.outputs[0]]
        return made
    if node.name == "convolution":
        x, weight, bias, stride, padding, dilation, transposed, more, groups = node.args
        size, rows = x.shape[1] // groups, weight.shape[0] // groups
        if transposed or groups == 1:
            return None
        parts = []
        for k in range(groups):
            w, b = (v and do(aten.slice.Tensor, v, 0, k * rows, (k + 1) * rows) for v in (weight, bias))
            part = do(aten.slice.Tensor, x, 1, k * size, (k + 1) * size)
            parts.append(do(aten.convolution.default, part, w, b, stride, padding, dilation, False, more, 1))
        do(aten.cat.default, parts, 1)
        made[-1].outputs = [node.outputs[0]]
        return made
    if node.name == "native_layer_norm":
        x, shape, weight, bias, eps = node.args
        axes = list(range(-len(shape), 0))
        mean = do(aten.mean.dim, x, axes, True)
        spread = do(aten.var.correction, x, axes, correction=0, keepdim=True)
    elif node.name == "native_batch_norm" and not node.args[5] and len(node.args[0].shape) > 1:
        x, weight, bias, mean, spread, _, _, eps = node.args
        per_channel = [-1] + [1] * (len(x.shape) - 2)
        weight, bias, mean, spread = (v and do(aten.view.default, v, per_channel) for v in (weight, bias, mean, spread))
    else:
        return None
    centred = do(aten.sub.Tensor, x, mean)
    root = do(aten.sqrt.default, do(aten.add.Tensor, spread, eps))
    result = do(aten.div.Tensor, centred, root)
    if weight is not None:
        result = do(aten.mul.Tensor, result, weight)
    if bias is not None:
        do(aten.add.Tensor, result, bias)
    made[-1].outputs = [node.outputs[0]]
    return made


def needed(targets: Iterable[Value], known: Mapping[Value, object] | set[Value] = frozenset()) -> list[Node]:
    """The nodes, in order, from which `targets` are made, as far back as the values that are `known`."""
    found: set[Node] = set()
    waiting = [value for value in targets if value not in known]
    while waiting:
        node = waiting.pop().node
        if node is not None and node not in found:
            found.add(node)
            waiting += [value for value in node.operands if value not in known]
    return sorted(found, key=lambda node: (node.number, node.step))


def repeated(targets: Iterable[Value]) -> dict[Value, Value]:
    """Values on the way to `targets` that an earlier operator has made already, from the same tensors, with the value
    that it made: a layer that runs once more on the same input. Random operators are left out."""
    first: dict[tuple, list[Value]] = {}
    same: dict[Value, Value] = {}

    def plain(item):
        return id(same.get(item, item)) if isinstance(item, Value | Tensor) else repr(item)

    for node in needed(targets):
        if not node.operands or torch.Tag.nondeterministic_seeded in getattr(node.function, "tags", ()):
            continue
        key = (node.function, *(plain(item) for item in tree_flatten((node.args, node.kwargs))[0]))
        made = first.setdefault(key, node.outputs)
        same.update((v, w) for v, w in zip(node.outputs, made, strict=True) if v is not w)
    return same


def evaluate(targets: Iterable[Value], known: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
    """Tensors of `targets` and of everything on the way to them, from the `known` ones: on the CPU, `known` first.

    Raises RuntimeError where an operator cannot run on these tensors.
    """
    targets = list(targets)
    tensors = dict(known)
    nodes = needed(targets, tensors)
    for value in [v for node in nodes for v in node.operands] + targets:
        if value not in tensors and value.node is None:
            tensors[value] = value.tensor.detach().cpu()
    for node in nodes:
        for value, tensor in zip(node.outputs, node.run(tensors), strict=True):
            tensors.setdefault(value, tensor)
    return tensors
