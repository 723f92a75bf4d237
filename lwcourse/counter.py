"""Follows one run of a network, operator by operator, and books what each costs on the module that ran it."""
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lwcourse.memory import EagerMemory, Lifetimes
from lwcourse.operators import (
    Access,
    access_of,
    allocates,
    changed_arguments,
    count_adds,
    count_macs,
    decomposed,
    is_free,
    kernel_access,
    mac_formula,
    tensors_in,
    unpacked,
)
from lwcourse.running import restore


@dataclass
class LayerProfile:
    """Cost of one module's own work, without that of its children.

    `input_bytes`, `parameter_bytes` and `output_bytes` are what its operators read of maps, read of parameters and
    buffers, and write, over all calls and operators; `operators` is how many touched memory. For a layer of one
    operator, called once, they are the sizes of its input, weights and output. A view reads and writes nothing.
    `output_shape` includes the batch and is that of the last call.
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
    operators: int = 0

    @property
    def traffic_bytes(self) -> int:
        """Memory traffic: all that the layer's operators read and write, nothing reused between two of them."""
        return self.input_bytes + self.parameter_bytes + self.output_bytes

    @property
    def intensity(self) -> float:
        """MACs per byte of traffic; where it is low, memory sets the time rather than arithmetic."""
        return self.macs / self.traffic_bytes if self.traffic_bytes else 0.0


@dataclass
class _Call:
    """A module whose forward is running, and what it was given."""
    module: nn.Module
    inputs: Any = None
    operators: int = 0  # of the whole network before this call
    own_kernel: bool = False  # a kernel that PyTorch does not know has been booked


class Counter(TorchDispatchMode):
    """Sees every ATen operator, also those in composite modules, and books it to the innermost module that is running.

    A layer that computes in a kernel of its own may say what it costs by a method
    `additions(input, output) -> int`; its traffic is then that of one operator, whatever its forward calls.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else PyTorch imports its compiler, for seconds, at the first use
        return False

    def __init__(self, model: nn.Module):
        super().__init__()
        self.layers: dict[nn.Module, LayerProfile] = {}
        self._names = {module: name for name, module in model.named_modules()}
        self._parameters_of = self._own_parameters(model)
        self._constants = [*model.parameters(), *model.buffers()]  # held here, or another tensor might take their place
        self._originals: list[tuple[Tensor, Tensor]] = []
        self.eager = EagerMemory(self._constants)
        self.lifetimes = Lifetimes(self._constants)
        self._side_results: list[tuple[LayerProfile, int, int]] = []
        self._packed: set[int] = set()
        self._uncounted: dict[str, None] = {}
        self._operators = 0
        self._own_kernels = 0  # running modules that have a method `additions`
        self._running = [_Call(model)]
        self._handles = []
        try:
            for module in self._names:
                self._handles.append(module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True))
                self._handles.append(module.register_forward_hook(self._leave, with_kwargs=True, always_call=True))
        except RuntimeError as error:
            self.close()
            raise ValueError(f"{type(model).__name__} is compiled by TorchScript, and hides its layers: give the "
                             "network of Python modules that it was before torch.jit.script") from error

    @property
    def uncounted(self) -> tuple[str, ...]:
        return tuple(self._uncounted)

    def start(self, x: Tensor) -> None:
        self.eager.hold(x)
        self.lifetimes.start([x])

    def finish(self, output) -> None:
        """What the network returns is alive to the end; side results that nothing has read cost nothing."""
        self.lifetimes.finish(tensors_in(output))
        for layer, number, size in self._side_results:
            if self.lifetimes.forget_unread(number):
                layer.output_bytes -= size

    def close(self) -> None:
        """Take the hooks off, and put back parameters that the network's forward has changed."""
        for handle in self._handles:
            handle.remove()
        restore(self._originals)
        for module, own in self._parameters_of.items():  # parameters that nothing used still weigh
            if own and module not in self.layers:
                self._layer(module)

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
            self.layers[module] = LayerProfile(self._names[module], type(module).__name__,
                                               params=sum(p.numel() for p in self._parameters_of[module]))
        return self.layers[module]

    def _enter(self, module, args, kwargs):
        self._running.append(_Call(module, (args, kwargs), self._operators))
        self._own_kernels += _says_additions(module)
        if not any(module.children()):
            self._layer(module)

    def _leave(self, module, args, kwargs, output):
        call = self._running.pop()
        outputs = tensors_in(output)
        if _says_additions(module):
            self._own_kernels -= 1
            if outputs and not self._own_kernels:
                self._layer(module).adds += module.additions(args[0], output)
                self._book_own_kernel(call, outputs)
        elif not self._own_kernels:
            silent = self._operators == call.operators and tensors_in(call.inputs)
            made = [tensor for tensor in outputs if self.lifetimes.is_empty(tensor)
                    or (silent and not self.lifetimes.is_known(tensor))]
            if made:
                self._book_own_kernel(call, made)
        if module in self.layers:
            layer = self._layer(module)
            layer.calls += 1
            layer.output_shape = tuple(outputs[0].shape) if outputs else ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if mac_formula(func) is None and func.namespace != "prim":
            with self:  # an operator made of others: under inference mode they arrive as one
                output = decomposed(func, args, kwargs)
            if output is not NotImplemented:
                return output
        for tensor in changed_arguments(func, args, kwargs):
            if self.lifetimes.is_constant(tensor):
                self._save(tensor)
        output = func(*args, **kwargs)
        for tensor in tensors_in(output):
            self.eager.hold(tensor)
        if self._own_kernels:
            macs = count_macs(func, args, output)
            if macs:
                self._layer(self._running[-1].module).macs += macs
        else:
            self._book(func, args, kwargs, output)
        return output

    def _book(self, func, args, kwargs, output) -> None:
        call = self._running[-1]
        access = access_of(func, args, kwargs, output)
        if access is None:
            if allocates(func):
                for tensor in tensors_in(output):
                    self.lifetimes.allocate(tensor)
            return
        unwritten = [tensor for tensor, _ in access.reads if self.lifetimes.is_empty(tensor)]
        if unwritten:
            self._book_own_kernel(call, unwritten)
        layer = self._layer(call.module)
        macs, adds = count_macs(func, args, output), count_adds(func, args)
        layer.macs += macs
        layer.adds += adds
        if mac_formula(func) is None and not adds:
            self._name_if_unknown(func, args, access, layer)
        for packed in args:
            if func.namespace == "quantized" and hasattr(packed, "unpack"):
                self._book_packed(layer, packed)
        self._account(layer, access)

    def _account(self, layer: LayerProfile, access: Access) -> None:
        self._operators += 1
        layer.operators += 1
        for tensor, size in access.reads:
            if self.lifetimes.is_constant(tensor):
                layer.parameter_bytes += size
            else:
                layer.input_bytes += size
        layer.output_bytes += sum(size for _, size in access.writes)
        self.lifetimes.step(access)
        for tensor, size in access.side_results:
            number = self.lifetimes.number(tensor)
            if number is not None:
                self._side_results.append((layer, number, size))

    def _book_own_kernel(self, call: _Call, outputs: list[Tensor]) -> None:
        """One pass over what the module was given and holds, by a kernel that is no operator of PyTorch."""
        own = [*self._parameters_of.get(call.module, ()), *call.module.buffers(recurse=False)]
        inputs = [] if call.own_kernel else [*tensors_in(call.inputs), *own]
        call.own_kernel = True
        layer = self._layer(call.module)
        if not _says_additions(call.module):
            self._uncounted[f"a kernel outside PyTorch ({layer.name or layer.kind})"] = None
        self._account(layer, kernel_access(inputs, outputs))

    def _book_packed(self, layer: LayerProfile, packed) -> None:
        """A quantised layer's parameters are no nn.Parameter; its kernel reads them from where it packed them."""
        tensors = unpacked(packed)
        layer.parameter_bytes += sum(tensor.nbytes for tensor in tensors)
        if id(packed) not in self._packed:
            self._packed.add(id(packed))
            layer.params += sum(tensor.numel() for tensor in tensors)

    def _name_if_unknown(self, func, args, access: Access, layer: LayerProfile) -> None:
        reads_parameters = any(self.lifetimes.is_constant(tensor) for tensor, _ in access.reads)
        reads_parameters |= any(isinstance(leaf, torch.ScriptObject) for leaf in tree_leaves(args))  # packed ones
        foreign = func.namespace not in ("aten", "prim", "prims")
        if (reads_parameters or foreign) and not is_free(func):
            self._uncounted[f"{func.overloadpacket} ({layer.name or layer.kind})"] = None

    def _save(self, changed: Tensor) -> None:
        """Keep the values of all parameters that lie where an operator is about to write."""
        base = changed.untyped_storage()._cdata
        for tensor in self._constants:
            if tensor.untyped_storage()._cdata == base and not any(kept is tensor for kept, _ in self._originals):
                self._originals.append((tensor, tensor.detach().clone()))


def _says_additions(module: nn.Module) -> bool:
    return callable(getattr(module, "additions", None))
