"""What one call of an ATen operator costs: multiply-adds, additions, and the bytes that it reads and writes."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


def count_macs(op, inputs: Sequence, output) -> int:
    """Multiply-adds of one call of an operator; 0 for those that only move or add.

    A product without a sum over it (a gate, an outer product) is no multiply-add, as in PyTorch's own counter.
    """
    formula = mac_formula(op)
    return formula(inputs, output) if formula else 0


def count_adds(op, inputs: Sequence) -> int:
    """Additions of an L1 distance between rows (two each: a difference, and a sum), as in AdderNet."""
    if getattr(op, "overloadpacket", op) is aten._cdist_forward and inputs[2] == 1:
        rows, columns = inputs[0], inputs[1]
        return 2 * rows.numel() * columns.shape[-2]
    return 0


Formula = Callable[[Sequence, Any], int]


@cache
def mac_formula(op) -> Formula | None:
    """(inputs, output) -> multiply-adds of an operator, or None for one that has none, or of which nothing is known."""
    namespace, name = str(getattr(op, "overloadpacket", op)).split(".")[:2]
    return _FORMULAS.get(f"{namespace}.{name.rstrip('_')}")


@cache
def is_free(op) -> bool:
    """Whether an operator is known to have no multiply-adds by the course's convention: norms, pooling, copies, ..."""
    namespace, name = str(getattr(op, "overloadpacket", op)).split(".")[:2]
    if namespace not in ("aten", "prims", "prim"):
        return f"{namespace}.{name}" in _FREE_OF_OTHERS
    reduction = getattr(torch.Tag, "reduction", torch.Tag.pointwise)  # PyTorch 2.4 has no such tag
    return (namespace == "prim" or torch.Tag.pointwise in op.tags or reduction in op.tags
            or name.strip("_") in _FREE or name.strip("_").startswith(_FREE_BEGINNINGS))


def decomposed(op, args: Sequence, kwargs: dict) -> Any:
    """The result of an operator that is made of others, each of which a dispatch mode then sees; else NotImplemented.

    Those of `OpOverload.decompose` that are written in Python are not what runs otherwise, so they are no choice here.
    """
    return op._op_dk(_COMPOSITE, *args, **kwargs) if _is_composite(op) else NotImplemented


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


@cache
def _is_composite(op) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), _COMPOSITE)


def _convolution(inputs: Sequence, output) -> int:
    weight, transposed = inputs[1], inputs[6]
    positions = inputs[0] if transposed else output  # each of them meets a whole kernel
    return positions.numel() * prod(weight.shape[1:])


def _kernel_at_each_output(inputs: Sequence, output) -> int:
    return output.numel() * prod(inputs[1].shape[1:])


def _kernel_at_each_input(inputs: Sequence, output) -> int:
    return inputs[0].numel() * prod(inputs[1].shape[1:])


def _product(inputs: Sequence, output) -> int:
    return output.numel() * inputs[0].shape[-1]


def _added_product(inputs: Sequence, output) -> int:
    return output.numel() * inputs[1].shape[-1]


def _every_number_once(position: int) -> Formula:
    return lambda inputs, output: inputs[position].numel()


def _summed_products(inputs: Sequence, output) -> int:
    return inputs[1].numel() * inputs[2].shape[-1]


def _attention(inputs: Sequence, output) -> int:
    query, key, value = inputs[:3]  # (N, heads, tokens, head channels)
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _trilinear(inputs: Sequence, output) -> int:
    """sum over i and j of a_i W_ij b_j, for nn.Bilinear: first with a, then with b."""
    first, weight, second = (_expanded(tensor, places) for tensor, places in zip(inputs[:3], inputs[3:6], strict=True))
    whole = torch.broadcast_shapes(first, weight, second)
    left = [size for i, size in enumerate(whole) if i not in inputs[6] or second[i] > 1]
    return prod(whole) + prod(left)


def _expanded(tensor: Tensor, places: Sequence[int]) -> tuple[int, ...]:
    shape = list(tensor.shape)
    for place in places:
        shape.insert(place, 1)
    return tuple(shape)


def _recurrent(weights: Callable[[Sequence], Sequence[Tensor]]) -> Formula:
    """Each matrix meets each step of each sequence once."""
    def formula(inputs: Sequence, output) -> int:
        steps = prod(inputs[0].shape[:-1])
        return steps * sum(weight.numel() for weight in weights(inputs) if weight.dim() == 2)
    return formula


def _quantized_convolution(inputs: Sequence, output) -> int:
    return output.numel() * prod(unpacked(inputs[1])[0].shape[1:])


def unpacked(packed) -> tuple[Tensor, ...]:
    """Weight and, where there is one, bias of the parameters that a quantised layer packed for its kernel."""
    return tuple(tensor for tensor in packed.unpack() if isinstance(tensor, Tensor))


_FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(("aten.convolution", "aten._convolution", "aten.convolution_overrideable"), _convolution),
    **dict.fromkeys([f"aten.{name}" for name in (
        "mkldnn_convolution", "cudnn_convolution", "cudnn_convolution_relu", "cudnn_convolution_add_relu",
        "miopen_convolution", "miopen_depthwise_convolution", "_conv_depthwise2d", "conv_depthwise3d",
        "_slow_conv2d_forward", "slow_conv3d_forward", "slow_conv_dilated2d", "slow_conv_dilated3d",
        "_mps_convolution")] + ["torchvision.deform_conv2d"], _kernel_at_each_output),
    **dict.fromkeys(("aten.cudnn_convolution_transpose", "aten.slow_conv_transpose2d", "aten.slow_conv_transpose3d"),
                    _kernel_at_each_input),
    "aten.conv_tbc": lambda inputs, output: output.numel() * prod(inputs[1].shape[:2]),
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten._int_mm", "aten._scaled_mm", "aten._weight_int8pack_mm",
                     "aten.mkldnn_linear", "mkldnn._linear_pointwise"), _product),
    **dict.fromkeys(("aten.addmm", "aten.baddbmm", "aten._addmm_activation"), _added_product),
    "aten.addbmm": _summed_products,
    **dict.fromkeys(("aten.mv", "aten.dot", "aten.vdot"), _every_number_once(0)),
    "aten.addmv": _every_number_once(1),
    "aten._trilinear": _trilinear,
    **dict.fromkeys([f"aten._scaled_dot_product_{kernel}" for kernel in (
        "flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention",
        "attention_math_for_mps", "fused_attention_overrideable")], _attention),
    "aten.mkldnn_rnn_layer": _recurrent(lambda inputs: inputs[1:3]),
    **dict.fromkeys(("aten._cudnn_rnn", "aten.miopen_rnn"), _recurrent(lambda inputs: inputs[1])),
    "aten._lstm_mps": _recurrent(lambda inputs: inputs[2]),
    **dict.fromkeys([f"quantized.{name}" for name in (
        "linear", "linear_relu", "linear_dynamic", "linear_relu_dynamic", "linear_dynamic_fp16",
        "linear_relu_dynamic_fp16", "linear_leaky_relu", "linear_tanh")], _product),
    **dict.fromkeys([f"quantized.{name}" for name in (
        "conv1d", "conv1d_relu", "conv2d", "conv2d_relu", "conv2d_dynamic", "conv3d", "conv3d_relu", "conv1d_dynamic",
        "conv3d_dynamic")], _quantized_convolution),
}

_FREE_OF_OTHERS = {f"torchvision.{name}" for name in ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")}
_FREE_OF_OTHERS |= {f"quantized.{name}" for name in ("add", "add_relu", "mul", "mul_relu", "cat", "batch_norm2d",
                                                     "hardswish", "leaky_relu", "sigmoid", "layer_norm", "group_norm")}
# Both are names without underscores around them.
_FREE = {
    "batch_norm_impl_index", "batch_norm_no_update", "batch_norm_with_update", "cudnn_batch_norm", "miopen_batch_norm",
    "fused_rms_norm", "weight_norm_interface", "softmax", "log_softmax", "softmin", "embedding_renorm", "gather",
    "take",
    "cat", "stack", "copy", "to_copy", "fill", "zero", "constant_pad_nd", "flip", "roll", "repeat",
    "repeat_interleave", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "im2col", "col2im", "triu", "tril",
    "grid_sampler_2d", "grid_sampler_3d", "topk", "sort", "argsort", "nonzero", "searchsorted", "bucketize", "cummax",
    "cumsum", "cumprod", "logcumsumexp", "logsumexp", "local_scalar_dense", "prelu_kernel", "hardswish", "glu", "rrelu",
    "rrelu_with_noise", "max", "min", "median", "equal", "quantize_per_tensor", "quantize_per_channel", "dequantize",
    "where", "multinomial", "trace", "diag_embed", "block_diag", "cross", "renorm", "detach", "alias", "lift",
    "lift_fresh", "clone", "contiguous", "dropout", "native_dropout", "is_nonzero", "unique", "unique2", "one_hot",
    "mish", "silu", "gelu", "elu", "celu", "hardsigmoid", "leaky_relu", "relu", "relu6", "hardtanh", "polar",
    "unfold_copy", "slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter", "histc", "bincount",
    "linspace", "arange", "full", "scalar_tensor", "addr", "ger",
}
_FREE_BEGINNINGS = (
    "native_batch_norm", "native_layer_norm", "native_group_norm", "linalg_vector_norm", "upsample_", "avg_pool",
    "max_pool", "adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "reflection_pad", "replication_pad",
    "index", "scatter", "masked_", "unsafe_index", "unsafe_masked", "embedding", "new_", "empty", "rand", "zeros",
    "ones", "foreach_",
)


# Bytes


def tensors_in(tree) -> list[Tensor]:
    """All tensors in nested lists, tuples, dicts and dataclasses, as a network may return them."""
    if is_dataclass(tree) and not isinstance(tree, type):
        tree = list(vars(tree).values())
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of memory in which the tensor's numbers lie: those that `expand` shows again and again count once."""
    if tensor.layout is not torch.strided:
        return tensor.numel() * tensor.element_size()
    if tensor.is_contiguous():
        return tensor.nbytes
    if not tensor.numel():
        return 0
    sizes = [(size, stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    numbers = prod(size for size, _ in sizes)
    reach = 1 + sum((size - 1) * stride for size, stride in sizes)  # windows overlap: `unfold` repeats numbers too
    return min(numbers, reach) * tensor.element_size()


class Access(NamedTuple):
    """What one call reads and writes: (tensor, bytes) each, a tensor that is given twice only once."""
    reads: list[tuple[Tensor, int]]
    writes: list[tuple[Tensor, int]]
    side_results: list[tuple[Tensor, int]]  # of the writes, those beside the first result: places of maxima


def kernel_access(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Access:
    """What a kernel that PyTorch does not know reads and writes, by what went in and what came out."""
    reads, writes = ({_place(tensor): (tensor, stored_bytes(tensor)) for tensor in side} for side in (inputs, outputs))
    return Access(list(reads.values()), list(writes.values()), [])


def access_of(op, args: Sequence, kwargs: dict, output) -> Access | None:
    """What a call reads and writes; None for one that touches no memory, such as a view or an allocation."""
    signature = _signature(op)
    if signature.untouched:
        return None
    inputs, written, reads = [], [], []
    for kind, tensor in _arguments(signature, args, kwargs):
        inputs.append(tensor)
        if kind in ("write", "both"):
            written.append(tensor)
        if kind in ("read", "both"):
            reads.append(tensor)
    known = {storage_key(tensor) for tensor in inputs}
    results = [tensor for tensor in _tensors(output) if storage_key(tensor) not in known]
    if not results and not written and any(True for _ in _tensors(output)):
        return None  # all that comes back are views of what went in
    sizes = {_place(tensor): (tensor, stored_bytes(tensor)) for tensor in reads}
    if signature.gathers and results and reads:  # reads the rows that it gives, not the whole table
        table = reads[0]
        sizes[_place(table)] = table, min(stored_bytes(table), sum(stored_bytes(tensor) for tensor in results))
    changed = {_place(tensor): (tensor, stored_bytes(tensor)) for tensor in (*written, *results)}
    beside = results[1:] if signature.several else []
    return Access(list(sizes.values()), list(changed.values()), [(tensor, stored_bytes(tensor)) for tensor in beside])


def changed_arguments(op, args: Sequence, kwargs: dict) -> list[Tensor]:
    """The tensors that a call is going to write into."""
    signature = _signature(op)
    if not signature.changes:
        return []
    return [tensor for kind, tensor in _arguments(signature, args, kwargs) if kind in ("write", "both")]


def allocates(op) -> bool:
    """Whether an operator makes a tensor without writing into it."""
    return _signature(op).allocates


class _Signature(NamedTuple):
    untouched: bool
    allocates: bool
    changes: bool
    gathers: bool
    several: bool  # results of different kinds, as in (values, indices)
    positional: tuple[str, ...]  # each argument: "read", "write", "both" if changed in place, "none" if for its shape
    named: dict[str, str]


_OVERWRITES = {"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "geometric_",
               "log_normal_", "cauchy_", "set_", "resize_"}
_GATHERS = {"index", "gather", "take", "index_select", "embedding", "_unsafe_index"}


@cache
def _signature(op) -> _Signature:
    name = op._schema.name.split("::")[1]
    allocating = name.startswith(("empty", "new_empty", "_empty"))
    untouched = op.is_view or allocating or name in ("set_", "resize_")
    kinds = {}
    shape_only = name.endswith("_like") or name.startswith("new_")
    for i, argument in enumerate(op._schema.arguments):
        changed = argument.alias_info is not None and argument.alias_info.is_write
        whole = argument.is_out or (i == 0 and name in _OVERWRITES)
        kinds[argument.name] = ("none" if shape_only else "read") if not changed else "write" if whole else "both"
    return _Signature(untouched, allocating, not {"write", "both"}.isdisjoint(kinds.values()), name in _GATHERS,
                      len(op._schema.returns) > 1, tuple(kinds.values()), kinds)


def _arguments(signature: _Signature, args: Sequence, kwargs: dict) -> Iterator[tuple[str, Tensor]]:
    for kind, argument in zip(signature.positional, args, strict=False):
        for tensor in _tensors(argument):
            yield kind, tensor
    for name, argument in kwargs.items():
        for tensor in _tensors(argument):
            yield signature.named.get(name, "read"), tensor


def _tensors(argument) -> Iterator[Tensor]:
    if isinstance(argument, Tensor):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for item in argument:
            yield from _tensors(item)


def storage_key(tensor: Tensor) -> int:
    """The same number for two tensors in the same memory; a tensor without a storage (sparse) has one of its own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return -id(tensor)


def _place(tensor: Tensor) -> tuple:
    strided = tensor.layout is torch.strided
    return (storage_key(tensor), tuple(tensor.shape), *((tensor.storage_offset(), tensor.stride()) if strided else ()))
