"""What a network costs, layer by layer: parameters, multiply-adds, additions and activations.

Conventions of the whole course:
- 1 MAC = one multiply and one add. Convolutions, linear layers and the products of attention
  count; normalisation, activation, pooling and bias do not.
- An addition that stands in place of a multiply-add (AdderNet's |x - w|) counts in a column of
  its own, `adds`; shortcuts are not counted, as in the papers.
- Costs are those of one image in eval mode, as the code really runs, in place where it is in place.
"""
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lwcourse.tables import html_table, text_table

aten = torch.ops.aten


@dataclass
class LayerProfile:
    """Cost of one module's own work, without that of its children.

    `*_bytes` are sizes of tensors: what goes in, what comes out, and the weights between.
    `output_shape` includes the batch of 1 and is that of the last call.
    """
    name: str
    kind: str
    params: int = 0
    macs: int = 0
    adds: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    parameter_bytes: int = 0
    output_shape: tuple[int, ...] = ()
    calls: int = 0

    @property
    def moved_bytes(self) -> int:
        """Least memory traffic: every input, weight and output crosses the bus once."""
        return self.input_bytes + self.parameter_bytes + self.output_bytes

    @property
    def intensity(self) -> float:
        """MACs per byte moved; low values mean that memory, not arithmetic, sets the time."""
        return self.macs / self.moved_bytes if self.moved_bytes else 0.0


@dataclass
class Profile:
    """Costs of a network for one image of `input_size`; prints as a table, totals last."""
    model: str
    input_size: tuple[int, ...]
    layers: list[LayerProfile] = field(default_factory=list)
    peak_activation_bytes: int = 0

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def adds(self) -> int:
        return sum(layer.adds for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layer outputs together; a layer that works in place writes over its input, and counts again."""
        return sum(layer.output_bytes for layer in self.layers)

    def _rows(self) -> list[tuple[str, ...]]:
        columns = [("layer", "kind", "output", "params", "MACs", "adds", "activation")]
        for layer in self.layers:
            shape = "x".join(map(str, layer.output_shape[1:])) or "-"
            columns.append((layer.name or "(model)", layer.kind, shape, f"{layer.params:,}", f"{layer.macs:,}",
                            f"{layer.adds:,}", format_bytes(layer.output_bytes)))
        columns.append(("total", self.model, "", f"{self.params:,}", f"{self.macs:,}", f"{self.adds:,}",
                        format_bytes(self.activation_bytes)))
        if not self.adds:
            columns = [row[:5] + row[6:] for row in columns]
        return columns

    def _caption(self) -> str:
        size = "x".join(map(str, self.input_size))
        return (f"{self.model} for one {size} input: {self.params:,} parameters, {self.macs:,} MACs, "
                f"peak of live activations {format_bytes(self.peak_activation_bytes)}")

    def __repr__(self) -> str:
        return f"{text_table(self._rows(), left=3, footer=1)}\n{self._caption()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=3, footer=1, caption=self._caption())


def format_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def profile(model: nn.Module, input_size: Sequence[int] = (3, 224, 224)) -> Profile:
    """Count what `model` costs for one input of `input_size`, which is (C, H, W) for images.

    The model runs once, on zeros, in eval mode and without gradients, on the device and in the
    dtype of its parameters; its modes, hooks, gradients and buffers are afterwards as before.
    Modules that never run cost parameters only. Raises ValueError when `input_size` is not a
    sequence of positive integers or the model cannot run it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"profile takes a torch.nn.Module, got {type(model).__name__}")
    input_size = tuple(input_size)
    if not input_size or not all(isinstance(n, int) and n > 0 for n in input_size):
        raise ValueError(f"input_size must hold positive integers, such as (3, 224, 224), got {input_size}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.zeros(1, *input_size, device=weight.device, dtype=weight.dtype)
    with eval_mode(model), torch.no_grad(), _whole_attention():
        counter = _Counter(model)
        try:
            with counter:
                counter.hold(x)
                model(x)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"{type(model).__name__} cannot run an input of size {input_size}: {error}") from error
        finally:
            counter.remove_hooks()
    return Profile(type(model).__name__, input_size, list(counter.layers.values()), counter.peak)


@contextmanager
def eval_mode(model: nn.Module):
    """Eval mode inside the block; afterwards each module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _whole_attention():
    """Make nn.MultiheadAttention run its products one by one: the fused kernel hides them."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def count_macs(op, inputs: Sequence, output) -> int:
    """Multiply-adds of one call of an ATen operator; 0 for those that only move or add."""
    op = getattr(op, "overloadpacket", op)
    if op in (aten.convolution, aten._convolution):
        weight, transposed = inputs[1], inputs[6]
        positions = inputs[0] if transposed else output  # each of them meets a whole kernel
        return positions.numel() * prod(weight.shape[1:])
    if op in (aten.mm, aten.bmm):
        return output.numel() * inputs[0].shape[-1]
    if op in (aten.addmm, aten.baddbmm):
        return output.numel() * inputs[1].shape[-1]
    if op in _ATTENTION:
        query, key, value = inputs[:3]  # (N, heads, tokens, head channels)
        pairs = prod(query.shape[:-1]) * key.shape[-2]
        return pairs * (query.shape[-1] + value.shape[-1])
    return 0


_ATTENTION = {getattr(aten, name) for name in (
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_attention_math_for_mps", "_scaled_dot_product_fused_attention_overrideable",
) if hasattr(aten, name)}


def count_adds(op, inputs: Sequence) -> int:
    """Additions of an L1 distance between rows (two each: a difference, and a sum), as in AdderNet."""
    op = getattr(op, "overloadpacket", op)
    if op is aten._cdist_forward and inputs[2] == 1:
        rows, columns = inputs[0], inputs[1]
        return 2 * rows.numel() * columns.shape[-2]
    return 0


class _Counter(TorchDispatchMode):
    """Sees every ATen operator, and books it to the innermost module that is running.

    A layer that computes in a kernel of its own may say what it costs by a method
    `additions(input, output) -> int`; its operators' additions are then not counted again.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.layers: dict[nn.Module, LayerProfile] = {}
        self.live = self.peak = 0
        self._running = [model]
        self._operators = 0  # how many have run that do more than return a view
        self._started: list[int] = []  # for each running module, how many operators had run before it
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters_of = self._own_parameters(model)
        self._storages: set[int] = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        self._handles = []
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave, with_kwargs=True))

    @staticmethod
    def _own_parameters(model: nn.Module) -> dict[nn.Module, list[nn.Parameter]]:
        """Each module's own parameters; one that is shared goes to the first module that holds it."""
        seen, owned = set(), {}
        for module in model.modules():
            own = [p for p in module.parameters(recurse=False) if p not in seen]
            seen.update(own)
            owned[module] = own
        return owned

    def _layer(self, module: nn.Module) -> LayerProfile:
        if module not in self.layers:
            own = self._parameters_of[module]
            self.layers[module] = LayerProfile(self._names[module], type(module).__name__,
                                               params=sum(p.numel() for p in own),
                                               parameter_bytes=sum(p.numel() * p.element_size() for p in own))
        return self.layers[module]

    def _enter(self, module, args, kwargs):
        self._running.append(module)
        self._started.append(self._operators)
        if not any(module.children()):
            self._layer(module)

    def _leave(self, module, args, kwargs, output):
        self._running.pop()
        # nn.Identity, Dropout in eval mode, and views such as nn.Flatten touch no memory.
        idle = self._operators == self._started.pop()
        additions = getattr(module, "additions", None)
        if additions is not None:
            self._layer(module).adds += additions(args[0], output)
        if module in self.layers:
            self._book(self._layer(module), (args, kwargs), output, idle)

    def _book(self, layer: LayerProfile, inputs, output, idle: bool):
        outputs = _tensors(output)
        layer.calls += 1
        if not idle:
            layer.input_bytes += sum(t.nbytes for t in _tensors(inputs))
            layer.output_bytes += sum(t.nbytes for t in outputs)
        layer.output_shape = tuple(outputs[0].shape) if outputs else ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self._operators += not func.is_view
        module = self._running[-1]
        adds = 0 if hasattr(module, "additions") else count_adds(func, args)
        macs = count_macs(func, args, output)
        if (macs or adds) or self._parameters_of.get(module):
            layer = self._layer(module)
            layer.macs += macs
            layer.adds += adds
        for tensor in _tensors(output):
            self.hold(tensor)
        return output

    def hold(self, tensor: Tensor):
        """Count a tensor's memory as live until Python and PyTorch let go of it."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:  # a view, an in-place result, or a weight
            return
        self._storages.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int):
        self._storages.discard(key)
        self.live -= size

    def remove_hooks(self):
        for handle in self._handles:
            handle.remove()
        for module, own in self._parameters_of.items():  # parameters that nothing used still weigh
            if own and module not in self.layers:
                self._layer(module)


def _tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
