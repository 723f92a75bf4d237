"""What a network costs, layer by layer: parameters, multiply-adds, additions, memory traffic and live memory.

Conventions of the whole course:
- 1 MAC = one multiply and one add. Convolutions, linear layers and the products of attention
  count; normalisation, activation, pooling, interpolation, gates and bias do not.
- An addition that stands in place of a multiply-add (AdderNet's |x - w|) counts in a column of
  its own, `adds`; shortcuts are not counted, as in the papers.
- Costs are those of one image in eval mode, as the code really runs, in place where it is in place.
- Traffic: each operator of PyTorch reads the tensors that it is given, parameters and buffers included, and
  writes its results, each once; nothing is reused between two operators. So BatchNorm in eval mode reads its
  input and four numbers a channel, and writes its output; an operator in place reads and writes its input.
  Views (`view`, `transpose`, `chunk`, `expand`, `flatten` of what lies in order) move nothing; a tensor that
  `expand` repeats counts as it is stored; a lookup (`embedding`, `index`) reads the rows that it gives. A side
  result that nothing reads, such as the places of the maxima of a max-pooling, does not count.
- Each operator is booked on the module whose `forward` runs it, however it is written there: `nn.ReLU()`,
  `F.relu(x)` and `x.relu()` cost the same, and a sum in the `forward` of a block is the block's.
- Peak of live activations: a map lives from the operator that writes it to the last one that reads it, the
  input from the start, the output to the end; views and results in place share memory; parameters are no part.
  That is what a program needs that frees each map at once, on a microcontroller for instance. Eager PyTorch
  holds a map as long as a Python variable or an argument of a running function names it, which takes more.
"""
import os
import reprlib
import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import prod
from numbers import Integral

import torch
from torch import Tensor, nn

from lwcourse.counter import Counter, LayerProfile
from lwcourse.running import error_words, eval_mode, plain_network, unchanged
from lwcourse.tables import html_table, text_table

__all__ = ["LayerProfile", "Profile", "checked_size", "eval_mode", "format_bytes", "profile", "trace"]


@dataclass
class Profile:
    """Costs of a network for one image of `input_size`; prints as a table, totals last.

    `peak_activation_bytes`: most bytes of maps that are alive at once, each from its first writer to its last reader.
    `eager_peak_bytes`: most bytes of maps that PyTorch really held at once in this run, in which Python variables and
    the arguments of running functions keep maps alive that nothing reads again. It depends on how the code is written.
    `uncounted`: operators that may multiply, but whose MACs are not known here, each with the layer that ran it.
    """
    model: str
    input_size: tuple[int, ...]
    layers: list[LayerProfile] = field(default_factory=list)
    peak_activation_bytes: int = 0
    eager_peak_bytes: int = 0
    uncounted: tuple[str, ...] = ()

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
        """Bytes that all operators write; one that works in place writes over its input, and counts again."""
        return sum(layer.output_bytes for layer in self.layers)

    @property
    def traffic_bytes(self) -> int:
        """Memory traffic: bytes that all operators read and write."""
        return sum(layer.traffic_bytes for layer in self.layers)

    def _rows(self) -> list[tuple[str, ...]]:
        columns = [("layer", "kind", "output", "params", "MACs", "adds", "activation",
                    "traffic")]
        for layer in self.layers:
            shape = "x".join(map(str, layer.output_shape[1:])) or "-"
            columns.append((layer.name or "(model)", layer.kind, shape, f"{layer.params:,}", f"{layer.macs:,}",
                            f"{layer.adds:,}", format_bytes(layer.output_bytes), format_bytes(layer.traffic_bytes)))
        columns.append(("total", self.model, "", f"{self.params:,}", f"{self.macs:,}", f"{self.adds:,}",
                        format_bytes(self.activation_bytes), format_bytes(self.traffic_bytes)))
        if not self.adds:
            columns = [row[:5] + row[6:] for row in columns]
        return columns

    def _caption(self) -> str:
        size = "x".join(map(str, self.input_size))
        return (f"{self.model} for one {size} input: {self.params:,} parameters, {self.macs:,} MACs, "
                f"peak of live activations {format_bytes(self.peak_activation_bytes)} "
                f"(eager PyTorch holds {format_bytes(self.eager_peak_bytes)})")

    def _warning(self) -> str:
        return f"MACs of these are not counted: {', '.join(self.uncounted)}" if self.uncounted else ""

    def __repr__(self) -> str:
        return "\n".join(filter(None, (text_table(self._rows(), left=3, footer=1), self._caption(), self._warning())))

    def _repr_html_(self) -> str:
        caption = ". ".join(filter(None, (self._caption(), self._warning())))
        return html_table(self._rows(), left=3, footer=1, caption=caption)


def format_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} PiB"


def profile(model: nn.Module, input_size: Sequence[int] = (3, 224, 224)) -> Profile:
    """Count what `model` costs for one input of `input_size`, which is (C, H, W) for images.

    The model runs once, on zeros, in eval mode and without gradients, on the device and in the dtype of its
    parameters; its modes, hooks, parameters, gradients and buffers are afterwards as before, and so are the states
    of the random generators. Modules that never run cost parameters only. What torch.compile, nn.DataParallel or
    DistributedDataParallel wraps is counted without the wrapper.
    Raises ValueError when `input_size` is not a sequence of positive integers or needs more memory than there is,
    when the model has lazy layers without shapes, is compiled by TorchScript, or cannot run the input, whatever its
    forward raises; TypeError when `model` is no nn.Module.
    """
    network = plain_network(model, "profile")
    size = checked_size(input_size)
    with torch.inference_mode(False):  # inside it, some operators run otherwise
        counter = trace(network, _zeros(network, size))
    return Profile(type(network).__name__, size, list(counter.layers.values()), counter.lifetimes.peak(),
                   counter.eager.peak, counter.uncounted)


def trace(network: nn.Module, x: Tensor) -> Counter:
    """Run `network` once on `x`, and follow every operator. Raises ValueError when it cannot run."""
    with (unchanged([network], x.device), torch.inference_mode(x.is_inference()), torch.no_grad(), _whole_attention(),
          _uncompiled()):
        counter = Counter(network)
        try:
            with counter:
                counter.start(x)
                counter.finish(network(x))
        except Exception as error:  # a learner's forward may raise anything
            raise ValueError(f"{type(network).__name__} cannot run an input of size {tuple(x.shape[1:])}: "
                             f"{error_words(error)}") from error
        finally:
            counter.close()
    return counter


def checked_size(input_size: Sequence[int]) -> tuple[int, ...]:
    """`input_size` as a tuple of int. Raises ValueError unless it holds positive integers."""
    wanted = "input_size must hold positive integers, such as (3, 224, 224)"
    if isinstance(input_size, Tensor):
        raise ValueError(f"{wanted}, got a tensor of shape {tuple(input_size.shape)}; give tuple(x.shape[1:])")
    size = tuple(input_size) if isinstance(input_size, Iterable) and not isinstance(input_size, str | bytes) else ()
    if not size or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in size):
        raise ValueError(f"{wanted}, got {reprlib.repr(input_size)}")
    return tuple(map(int, size))


def _zeros(network: nn.Module, size: tuple[int, ...]) -> Tensor:
    """An input of zeros, where the network's numbers are and of their type."""
    tensors = (*network.parameters(), *network.buffers())
    like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))
    needed, present = prod(size) * like.element_size(), _memory_of(like.device)
    if needed > present:
        raise ValueError(f"an input of size {size} takes {format_bytes(needed)}; there are {format_bytes(present)} "
                         f"of memory on {like.device}")
    try:
        return torch.zeros(1, *size, device=like.device, dtype=like.dtype)
    except (RuntimeError, TypeError, OverflowError) as error:  # beyond what PyTorch can address
        raise ValueError(f"an input of size {size} takes {format_bytes(needed)}, which cannot be had") from error


def _memory_of(device: torch.device) -> float:
    """Bytes of a device's memory; infinity where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


@contextmanager
def _whole_attention():
    """Make nn.MultiheadAttention run its products one by one: the fused kernel hides them."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _uncompiled():
    """Make what torch.compile has compiled run as Python again, with all its operators."""
    compiler = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")  # from PyTorch 2.6 on
    return torch.compiler.set_stance("force_eager") if compiler else nullcontext()
