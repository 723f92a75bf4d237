"""What a module does with an input, as boxes and arrows.

`trace` runs the module once under torch.fx and returns a `Diagram`: plain data, which
`layout` places on a page and `diagram` draws.
"""
import copy
import inspect
import operator
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from lwcourse.viz.diagram.operations import Call, Label, describe, function_name, shuffle_label

DETAILS = ("fused", "full")
CONVOLUTIONS = ("conv", "pointwise", "depthwise", "grouped", "linear")
METADATA = frozenset({"shape", "size", "dim", "ndim", "numel", "dtype", "device", "is_cuda", "is_floating_point"})
SHAPE_OF_SECOND = frozenset({"viewas", "reshapeas", "expandas", "typeas"})  # reads the first tensor alone
CONSTANTS = {"zeroslike": "zeros", "oneslike": "ones", "fulllike": "a constant", "emptylike": "zeros",
             "newzeros": "zeros", "newones": "ones", "newfull": "a constant"}  # reads no number of any tensor
POSITIONS = (  # what is added to tokens and to scores, by the names that networks give to it
    (re.compile(r"rel\w*pos|pos\w*bias|att(entio)?n\w*bias"), "position bias"),
    (re.compile(r"(^|[._])pos(_|$|ition|e?mb)"), "positions"))
Input = Tensor | tuple | list | dict
PASSING = frozenset({"identity", "contiguous", "clone", "detach", "to", "type_as", "float"})


@dataclass(frozen=True)
class Node:
    """A box. `kind` is its family; "input" and "output" are the diagram's ends."""
    name: str
    kind: str
    title: str
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """An arrow that carries a tensor of `shape`, written "C×H×W" without the batch.

    `shortcut` is true when the tensor also reaches `target` by a longer way, which this arrow skips.
    """
    source: str
    target: str
    shape: str
    shortcut: bool = False


@dataclass(frozen=True)
class Diagram:
    """Boxes in the order in which the module runs them, and the arrows between them."""
    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def describe(self) -> str:
        """The diagram in words: its alt text."""
        parts = []
        for node in self.nodes:
            shapes = [edge.shape for edge in self.edges if node.name in (edge.source, edge.target)]
            if node.kind in ("input", "output"):
                parts.append(" ".join([node.title, *shapes[:1]]))
            else:
                parts.append(", ".join([node.title, *node.captions]))
        skips = [f"a shortcut from {self.node(edge.source).title} to {self.node(edge.target).title}"
                 for edge in self.edges if edge.shortcut]
        return f"{self.title}, drawn from its code: {'; '.join([*parts, *skips])}."


def trace(module: nn.Module, x: Input, *, title: str | None = None, detail: str = "fused") -> Diagram:
    """The operations of `module` in eval mode on `x`: a tensor, batch first, or a tuple of forward's arguments.

    An argument may be a list, a tuple or a dict of tensors, for a module that takes several maps as one argument, or
    anything else, such as an integer. A list or a dict alone is one argument, where the module takes it so.

    detail="fused" puts normalisation, activation and dropout into the box of the convolution or linear
    layer before them, and draws a part without weights or parts of its own, a shift say, as one box with its
    class's name; "full" opens everything. Views that rearrange (N, g*c, H, W) into (N, c*g, H, W) become one
    "channel shuffle". A copy of the module runs: the module itself is left as it was.

    Raises TypeError for something that is no module or tensor, and ValueError when the module cannot run
    on `x`, when torch.fx cannot follow it (a branch that depends on the data, say), or for an unknown detail.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be an nn.Module, got {type(module).__name__}")
    tensors = [value for _, value in _tensors(x)]
    if not tensors:
        got = repr(x) if isinstance(x, (tuple, list, dict)) else type(x).__name__
        raise TypeError(f"x must be a tensor or a tuple of tensors, got {got}")
    if detail not in DETAILS:
        raise ValueError(f"detail must be 'fused' or 'full', got {detail!r}")
    operations = _record(module, x, detail)
    if detail == "fused":
        _fuse(operations)
    batch = next((tensor.shape[0] for tensor in tensors if tensor.dim()), 1)
    return _as_diagram(title or type(module).__name__, operations, batch)


def _tensors(value: object, place: tuple = ()) -> list[tuple[tuple, Tensor]]:
    """The tensors in nested lists, tuples and dicts, each with the keys that lead to it."""
    if isinstance(value, Tensor):
        return [(place, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return [found for key, item in items for found in _tensors(item, (*place, key))]


def _with_tensors(value: object, tensors: Iterator[object]) -> object:
    """A copy of nested lists, tuples and dicts with others in place of the tensors, in the order of `_tensors`."""
    if isinstance(value, Tensor):
        return next(tensors)
    if not _tensors(value):  # sizes, say: whatever they are, they stay
        return value
    if isinstance(value, dict):
        return type(value)((key, _with_tensors(item, tensors)) for key, item in value.items())
    items = [_with_tensors(item, tensors) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


class _Proxy(fx.Proxy):
    """Stands for a tensor while the code runs. Sizes are plain integers, so code may compute with them."""

    def __getattr__(self, name: str):
        if name in METADATA and self.node in self.tracer.values:
            return getattr(self.tracer.values[self.node], name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self.tracer.values[self.node])

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])


class _Tracer(fx.Tracer):
    """Records a module's operations and carries each out at once, on real tensors.

    fx alone knows no sizes, and gives up at the first `if height % 2:`.
    """

    def __init__(self, tensors: tuple[Tensor, ...], open_all: bool):
        super().__init__()
        self.tensors, self.open_all = tensors, open_all
        self.values: dict[fx.Node, object] = {}
        self.failed_in: str | None = None
        self._running = False

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        bare = next(m.children(), None) is None and next(m.parameters(), None) is None
        may_stay_closed = bare and m is not self.root.block and not self.open_all
        return may_stay_closed or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        if kind != "output":
            running, self._running = self._running, True
            try:
                self.values[node] = self._evaluate(node)
            finally:
                self._running = running
        return node

    def _evaluate(self, node: fx.Node):
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.values.__getitem__)
        if node.op == "placeholder":
            return self.tensors
        if node.op == "get_attr":
            return operator.attrgetter(node.target)(self.root)
        if node.op == "call_module":
            return self.root.get_submodule(node.target)(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        return node.target(*args, **kwargs)

    def getattr(self, attr, attr_val, parameter_proxy_cache):
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m, forward, args, kwargs):
        if self._running:
            return forward(*args, **kwargs)
        try:
            if any(isinstance(value, (list, dict)) for value in (*args, *kwargs.values())):
                return forward(*args, **kwargs)  # which may change them, and so is no box
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = next((name for name, module in self.root.named_modules() if module is m), "")
            raise


class _Root(nn.Module):
    """Makes the traced module a child, so that a lone `nn.Conv2d` is one operation too."""

    def __init__(self, block: nn.Module, arguments: tuple):
        super().__init__()
        self.block, self.arguments = block, arguments
        self.count = len(_tensors(arguments))

    def forward(self, tensors):
        return self.block(*_with_tensors(self.arguments, iter([tensors[i] for i in range(self.count)])))


@dataclass
class _Operation:
    """A box in the making; `inputs` are (name of the source, shape of the tensor)."""
    name: str
    kind: str
    title: str
    captions: list[str]
    inputs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def _record(module: nn.Module, x: Input, detail: str) -> dict[str, _Operation]:
    """The operations that reach from `x` to the outputs, unfused, in order of execution."""
    name = type(module).__name__
    tensors = [value for _, value in _tensors(x)]
    root = _Root(copy.deepcopy(module), ()).eval()
    for part in root.modules():  # the copy's hooks are the reader's own functions: they must not see this run
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    with torch.no_grad():
        root.arguments, root.count = _arguments(root.block, x), len(tensors)
        tracer = _Tracer(tuple(value.clone() for value in tensors), open_all=detail == "full")
        try:
            graph = tracer.trace(root)
        except Exception as error:
            where = (tracer.failed_in or "").removeprefix("block").removeprefix(".")
            part = f" (in its part {where!r})" if where else ""
            raise ValueError(f"cannot draw {name}{part}: torch.fx cannot follow its forward: {error}") from error
    return _Converter(root, graph, tracer.values, _input_names(module, root.arguments)).operations


def _arguments(module: nn.Module, x: Input) -> tuple:
    """The arguments that `x` stands for: those with which `module` runs. Raises ValueError when it does not."""
    spread = tuple(x) if isinstance(x, (tuple, list)) else (x,)
    ways = [(x,), spread] if isinstance(x, list) else [spread, (x,)] if isinstance(x, tuple) else [(x,)]
    errors = []
    for arguments in ways:
        try:
            module(*_with_tensors(arguments, iter([value.clone() for _, value in _tensors(arguments)])))
        except Exception as error:
            errors.append(error)
        else:
            return arguments
    told = errors[ways.index(spread)] if _fits(module, spread) else errors[0]
    shapes = ", ".join(str(tuple(value.shape)) for _, value in _tensors(x))
    raise ValueError(f"{type(module).__name__} cannot run on an input of shape {shapes}: {told}") from told


def _fits(module: nn.Module, arguments: tuple) -> bool:
    try:
        inspect.signature(module.forward).bind(*arguments)
    except TypeError:
        return False
    return True


def _input_names(module: nn.Module, arguments: tuple) -> list[str]:
    """Of each tensor: the argument's name, and its own key or number where it comes in a dict or a list."""
    found = _tensors(arguments)
    if len(found) == 1:
        return ["input"]
    parameters = [parameter.name for parameter in inspect.signature(module.forward).parameters.values()
                  if parameter.kind is not parameter.VAR_POSITIONAL]
    names = []
    for (argument, *keys), _ in found:
        first = parameters[argument] if argument < len(parameters) else f"input {argument + 1}"
        words = [str(key + 1) if isinstance(key, int) else str(key) for key in keys]
        names.append(" ".join([first, *words]) if len(arguments) > 1 or not words
                     else " ".join(words) if not words[0].isdecimal() else " ".join(["input", *words]))
    return names


class _Converter:
    """From fx's nodes to operations: weights, pieces of tuples and the insides of a shuffle are no boxes."""

    def __init__(self, root: nn.Module, graph: fx.Graph, values: dict[fx.Node, object], input_names: list[str]):
        self.root, self.values, self.input_names = root, values, input_names
        self.operations: dict[str, _Operation] = {}
        self.owner: dict[fx.Node, str] = {}      # the operation that made a node's tensor
        self.constants: dict[fx.Node, str] = {}  # weights, and what is computed from weights alone
        self.origins: dict[fx.Node, tuple[str, ...]] = {}  # the attributes that a constant is computed from
        for name in input_names:
            self.operations[f"<{name}>"] = _Operation(f"<{name}>", "input", name, [])
        shuffles = {node: found for node in graph.nodes if (found := self._shuffle_ending_at(node))}
        inside = {node for _, _, nodes in shuffles.values() for node in nodes}
        for node in graph.nodes:
            if node in shuffles:
                source, groups, _ = shuffles[node]
                self._add(node, shuffle_label(groups), [source])
            elif node.op == "output":
                self._add_outputs(node)
            elif node.op != "placeholder" and node not in inside:
                self._convert(node)

    def _convert(self, node: fx.Node) -> None:
        sources = [source for source in _sources(node) if source not in self.constants]
        module = self.root.get_submodule(node.target) if node.op == "call_module" else None
        call = Call(node, module, self.values, self.constants)
        if not sources or (module is None and call.key in CONSTANTS):
            self._add_constant(node, call)
            return
        if call.key in SHAPE_OF_SECOND:
            sources = sources[:1]
        takes_piece = node.target in (operator.getitem, getattr) and isinstance(self.values[sources[0]], tuple)
        if takes_piece and sources[0].op == "placeholder":
            self.owner[node] = f"<{self.input_names[node.args[1]]}>"
        elif takes_piece or call.key in PASSING or node.target is getattr or self._takes_all(node, sources[0]):
            self.owner[node] = self.owner[sources[0]]
        else:
            self._add(node, describe(call), sources)

    def _add_constant(self, node: fx.Node, call: Call) -> None:
        """Name what does not depend on the inputs by where it comes from: a weight, a buffer, a table of positions."""
        origins = [origin for source in _sources(node) for origin in self.origins.get(source, ())]
        if node.op == "get_attr":
            origins.append(self._attribute(node))
        elif node.op == "call_module":
            origins.append(node.target)
        self.origins[node] = tuple(filter(None, origins))
        self.constants[node] = CONSTANTS.get(call.key) or _constant_name(self.root, self.origins[node])

    def _attribute(self, node: fx.Node) -> str:
        """The path of a tensor of the module; of another that fx met, that of the attribute that holds it, or ""."""
        if not re.fullmatch(r"_tensor_constant\d+", node.target):
            return node.target
        memory = self.values[node].untyped_storage().data_ptr()  # which a slice shares with the whole
        for path, module in self.root.named_modules():
            for (kind, *names), held in _tensors(vars(module)):
                if held.untyped_storage().data_ptr() == memory and module is not self.root:
                    return f"{path}.{names[0] if kind in ('_parameters', '_buffers') else kind}"
        return ""

    def _takes_all(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether `node` is a slice that leaves nothing out."""
        return node.target is operator.getitem and self.values[node].shape == self.values[source].shape

    def _add(self, node: fx.Node, label: Label, sources: list[fx.Node]) -> None:
        name = node.name.removeprefix("block_")
        self.operations[name] = _Operation(name, label.kind, label.title, list(label.captions), self._inputs(sources))
        self.owner[node] = name

    def _add_outputs(self, node: fx.Node) -> None:
        sources = [source for source in _sources(node) if source not in self.constants]
        for i, source in enumerate(sources):
            title = "output" if len(sources) == 1 else f"output {i + 1}"
            self.operations[f"<{title}>"] = _Operation(f"<{title}>", "output", title, [], self._inputs([source]))

    def _inputs(self, sources: list[fx.Node]) -> list[tuple[str, tuple[int, ...]]]:
        shapes = [getattr(self.values[source], "shape", ()) for source in sources]
        return [(self.owner[source], tuple(shape)) for source, shape in zip(sources, shapes, strict=True)]

    def _shuffle_ending_at(self, last: fx.Node) -> tuple[fx.Node, int, list[fx.Node]] | None:
        """(source, groups, nodes inside) when `last` ends split - transpose - join of the channel axis."""
        steps, inside, node = [], [], last
        while len(steps) < 3:
            if node.op not in ("call_method", "call_function") or (node is not last and len(node.users) > 1):
                return None
            if function_name(node) != "contiguous":
                steps.append(node)
            inside.append(node)
            node = node.args[0] if node.args else None
            if not isinstance(node, fx.Node) or not isinstance(self.values[node], Tensor):
                return None
        joined, swapped, parted, source = (self.values[step] for step in (*steps, node))
        if not {function_name(steps[0]), function_name(steps[2])} <= {"view", "reshape", "flatten", "unflatten"}:
            return None
        batch, channels = source.shape[:2]
        same = joined.shape == source.shape and parted.dim() == source.dim() + 1
        if not same or parted.shape[0] != batch or parted.shape[1] * parted.shape[2] != channels:
            return None
        expected = parted.transpose(1, 2)
        if swapped.shape != expected.shape or swapped.stride() != expected.stride():
            return None
        return node, parted.shape[1], inside[1:]


def _constant_name(root: nn.Module, origins: tuple[str, ...]) -> str:
    """What to call a constant: the positions that it tells, its parameter, or else whatever it comes from."""
    for pattern, words in POSITIONS:
        if any(pattern.search(origin) for origin in origins):
            return words
    parameters = dict(root.named_parameters())
    chosen = next((origin for origin in origins if origin in parameters), origins[0] if origins else "a constant")
    return chosen.split(".")[-1]


def _sources(node: fx.Node) -> list[fx.Node]:
    """The nodes among a node's arguments, in order, as often as they occur."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda source: found.append(source) or source)
    return found


def _fuse(operations: dict[str, _Operation]) -> None:
    """Move norm, activation and dropout into the box before them, where that box has no other reader."""
    readers = Counter(source for operation in operations.values() for source, _ in operation.inputs)
    moved: dict[str, str] = {}
    tails: dict[str, list[str]] = {}
    for operation in list(operations.values()):
        operation.inputs = [(moved.get(source, source), shape) for source, shape in operation.inputs]
        if operation.kind not in ("norm", "activation", "dropout") or len(operation.inputs) != 1:
            continue
        head = operations[operation.inputs[0][0]]
        if head.kind in (*CONVOLUTIONS, "norm") and readers[head.name] == 1:
            tails.setdefault(head.name, []).append(operation.title)
            moved[operation.name] = head.name
            readers[head.name] = readers[operation.name]
            del operations[operation.name]
    for name, titles in tails.items():
        operations[name].captions.append(" · ".join(titles))


def _as_diagram(title: str, operations: dict[str, _Operation], batch: int) -> Diagram:
    readers: dict[str, list[str]] = {name: [] for name in operations}
    for operation in operations.values():
        for source, _ in operation.inputs:
            readers[source].append(operation.name)
    reached: dict[str, set[str]] = {}
    for name in reversed(operations):  # operations stand in order of execution, so readers come later
        reached[name] = {name}.union(*(reached[reader] for reader in readers[name]))

    edges = []
    for operation in operations.values():
        for source, shape in operation.inputs:
            skips = any(operation.name in reached[other] for other in readers[source] if other != operation.name)
            edges.append(Edge(source, operation.name, _shape_text(shape, batch), skips))
    nodes = tuple(Node(operation.name, operation.kind, operation.title, tuple(operation.captions))
                  for operation in operations.values())
    return Diagram(title, nodes, tuple(edges))


def _shape_text(shape: tuple[int, ...], batch: int) -> str:
    return "×".join(map(str, shape[1:] if shape[:1] == (batch,) else shape))
