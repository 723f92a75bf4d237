"""Operators in words: what each does, and which of its settings matter."""
import math
from collections.abc import Callable

import torch

from lwcourse.compare.graph import Node, Value

MOVES = {  # operators that only take elements from one place to another, or repeat, drop or pad them
    "view", "unsafe_view", "reshape", "reshape_alias", "transpose", "t", "permute", "expand", "unsqueeze", "squeeze",
    "select", "slice", "split", "split_with_sizes", "chunk", "unbind", "as_strided", "flip", "roll", "rot90",
    "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "diagonal", "unfold", "narrow",
    "index_select", "index", "repeat", "cat", "stack", "constant_pad_nd", "im2col", "slice_scatter", "select_scatter",
    "overwrite", "copy", "reflection_pad2d", "replication_pad2d", "reflection_pad1d", "replication_pad1d", "gather"}
UNCHANGED = {"alias", "detach", "clone", "contiguous", "to_copy", "lift_fresh", "lift"}
SUMS, PRODUCTS = {"add", "sub", "rsub"}, {"mul", "div"}
MATRIX_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "mv", "dot"}
POOLINGS = {"max_pool2d_with_indices", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool1d",
            "avg_pool1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_nearest_exact2d"}
ALONE = {  # operators of one tensor without settings, or whose settings are rarely changed
    "relu": "ReLU", "hardswish": "Hardswish", "silu": "SiLU", "sigmoid": "Sigmoid", "hardsigmoid": "Hardsigmoid",
    "tanh": "Tanh", "mish": "Mish", "softplus": "Softplus", "exp": "exp", "log": "log", "sqrt": "the square root",
    "rsqrt": "one over the square root", "neg": "the negative", "abs": "the absolute value", "erf": "erf",
    "reciprocal": "one over", "sign": "the sign", "sin": "sin", "cos": "cos", "log_sigmoid_forward": "LogSigmoid",
    "bernoulli": "random zeros and ones", "native_dropout": "dropout", "logical_not": "not"}
ACTIVATIONS = {"relu", "hardswish", "silu", "sigmoid", "hardsigmoid", "tanh", "mish", "softplus", "gelu", "hardtanh",
               "leaky_relu", "elu", "clamp", "clamp_min", "clamp_max", "softmax", "log_softmax",
               "log_sigmoid_forward", "threshold", "selu", "celu", "rrelu"}


def number(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pair(values: object) -> str:
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    values = values * 2 if len(values) == 1 else values
    return "x".join(str(v) for v in values)


def _same(values: object) -> str:
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def arguments(node: Node) -> dict[str, object]:
    """The operator's settings by their names in its schema, defaults included; tensors left out."""
    schema = getattr(node.function, "_schema", None)
    if schema is None:
        return {}
    found = {}
    for k, argument in enumerate(schema.arguments):
        value = node.args[k] if k < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
        if not isinstance(value, Value):
            found[argument.name] = value
    return found


def _axes(node: Node, dims: object) -> tuple[int, ...]:
    rank = len(node.operands[0].shape)
    dims = range(rank) if dims is None or dims == [] else dims if isinstance(dims, (list, tuple)) else [dims]
    return tuple(sorted(d % rank for d in dims))


def axis_words(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes[:-1]))} and {axes[-1]}"


def _reduction(node: Node, verb: str, pooled: str) -> str:
    axes = _axes(node, arguments(node).get("dim"))
    if len(node.operands[0].shape) == 4 and axes == (2, 3) and pooled:
        return pooled
    return f"{verb} over {axis_words(axes)}"


def _window(node: Node, kind: str) -> str:
    a = arguments(node)
    stride = a.get("stride") or a["kernel_size"]
    how = f"{_pair(a['kernel_size'])}, stride {_same(stride)}, padding {_same(a['padding'])}"
    if _same(a.get("dilation", 1)) != "1":
        how += f", dilation {_same(a['dilation'])}"
    how += ", rounded up" if a["ceil_mode"] else ""
    how += ", not counting the padding" if a.get("count_include_pad") is False and _same(a["padding"]) != "0" else ""
    how += f", divided by {a['divisor_override']}" if a.get("divisor_override") else ""
    return f"{kind} pooling ({how})"


def _adaptive(node: Node, kind: str) -> str:
    size = list(arguments(node)["output_size"])
    return f"global {kind} pooling" if size == [1, 1] else f"adaptive {kind} pooling to {_pair(size)}"


def _upsampling(node: Node, kind: str) -> str:
    corners = " with align_corners" if arguments(node).get("align_corners") else ""
    return f"{kind}{corners} to {_pair(node.outputs[0].shape[2:])}"


def _clamp(node: Node) -> str:
    a = arguments(node)
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    if low == 0 and high in (None, math.inf):
        return "ReLU"
    if low == 0 and high == 6:
        return "ReLU6"
    ends = [f"{word} {number(end)}" for word, end in (("at least", low), ("at most", high)) if end is not None]
    return f"a clamp to {' and '.join(ends)}"


def _elu(node: Node) -> str:
    a = arguments(node)
    alpha, scale = a["alpha"], a["scale"]
    if abs(scale - 1.0507) < 1e-3:
        return "SELU"
    return "ELU" if alpha == 1 else f"ELU({number(float(alpha))})"


def _spread(node: Node, kind: str) -> str:
    correction = arguments(node).get("correction")
    how = "" if correction == 0 else " without Bessel's correction" if correction is None else \
        " with Bessel's correction (unbiased)" if correction == 1 else f" with correction {correction}"
    return f"the {kind}{how} over {axis_words(_axes(node, arguments(node).get('dim')))}"


WORDS: dict[str, Callable[[Node], str]] = {
    "hardtanh": _clamp, "clamp": _clamp, "clamp_min": _clamp, "clamp_max": _clamp, "elu": _elu,
    "gelu": lambda n: "GELU in its tanh form" if arguments(n).get("approximate") == "tanh" else "GELU",
    "leaky_relu": lambda n: f"LeakyReLU({number(float(arguments(n)['negative_slope']))})",
    "softmax": lambda n: f"Softmax over {axis_words(_axes(n, arguments(n)['dim']))}",
    "log_softmax": lambda n: f"LogSoftmax over {axis_words(_axes(n, arguments(n)['dim']))}",
    "mean": lambda n: _reduction(n, "the mean", "global average pooling"),
    "sum": lambda n: _reduction(n, "the sum", ""),
    "amax": lambda n: _reduction(n, "the maximum", "global max pooling"),
    "max": lambda n: _reduction(n, "the maximum", "") if "dim" in arguments(n) else "the larger of the two",
    "amin": lambda n: _reduction(n, "the minimum", ""), "prod": lambda n: _reduction(n, "the product", ""),
    "linalg_vector_norm": lambda n: _reduction(n, f"the norm (of order {number(arguments(n).get('ord'))})", ""),
    "logsumexp": lambda n: _reduction(n, "logsumexp", ""),
    "var": lambda n: _spread(n, "variance"), "std": lambda n: _spread(n, "standard deviation"),
    "var_mean": lambda n: _spread(n, "variance"),
    "max_pool2d_with_indices": lambda n: _window(n, "max"), "avg_pool2d": lambda n: _window(n, "average"),
    "adaptive_avg_pool2d": lambda n: _adaptive(n, "average"), "adaptive_max_pool2d": lambda n: _adaptive(n, "max"),
    "upsample_nearest2d": lambda n: _upsampling(n, "upsampling to the nearest pixel"),
    "upsample_nearest_exact2d": lambda n: _upsampling(n, "upsampling to the nearest-exact pixel"),
    "upsample_bilinear2d": lambda n: _upsampling(n, "bilinear upsampling"),
    "upsample_bicubic2d": lambda n: _upsampling(n, "bicubic upsampling"),
    "pow": lambda n: f"the power {number(n.args[1])}" if not isinstance(n.args[1], Value) else "the power",
    "native_batch_norm": lambda n: (f"BatchNorm (eps {number(n.args[7])})" if not n.args[5] else "InstanceNorm"
                                    if n.args[0].shape[0] == 1 else "BatchNorm by the batch's own statistics"),
    "native_layer_norm": lambda n: f"LayerNorm over the last {len(n.args[1])} axes (eps {number(n.args[4])})",
    "native_group_norm": lambda n: f"GroupNorm with {n.args[6]} groups (eps {number(n.args[7])})",
    "cumsum": lambda n: f"the cumulative sum along axis {n.args[1]}",
    "maximum": lambda n: "the larger of the two", "minimum": lambda n: "the smaller of the two",
    "convolution": lambda n: f"convolution in {n.args[-1]} groups" if n.args[-1] > 1 else "convolution",
    "masked_fill": lambda n: "a mask", "where": lambda n: "a choice by a mask",
    "tril": lambda n: "the lower triangle (as of a causal mask)",
    "triu": lambda n: "the upper triangle (as of a causal mask)",
    **dict.fromkeys(MATRIX_PRODUCTS, lambda n: "the matrix product"),
}


def words(node: Node) -> str:
    """What an operator does, with the settings that tell it from its neighbours: "softmax over axis 1"."""
    name = node.name
    if rounds(node):
        return f"a conversion to {str(node.kwargs['dtype']).removeprefix('torch.')}"
    if name in ALONE:
        return ALONE[name]
    if name in WORDS:
        return WORDS[name](node)
    factor = scalar(node)
    if factor is not None:
        return f"{'an' if factor[0].startswith('add') else 'a'} {factor[0]} {number(factor[1])}"
    if name in SUMS | PRODUCTS:
        return {"add": "the sum", "mul": "the product", "div": "the quotient"}.get(name, "the difference")
    part = taken(node)
    if part is not None:
        return part
    settings = {k: v for k, v in arguments(node).items() if v not in (None, False, [], ()) and
                isinstance(v, (int, float, bool, list, str))}
    listed = ", ".join(f"{k} {number(v)}" for k, v in settings.items())
    return f"{name}({listed})" if listed else name


def scalar(node: Node) -> tuple[str, float] | None:
    """("multiplication by", 0.25) for `x * 0.25` or `x / 4`, ("addition of", 3.0) for `x + 3`; None for others."""
    if node.name not in SUMS | PRODUCTS or len(node.operands) != 1 or len(node.args) < 2:
        return None
    first = isinstance(node.args[0], Value)
    value = node.args[1] if first else node.args[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    alpha = node.kwargs.get("alpha", 1)
    if node.name == "mul":
        return "multiplication by", float(value)
    if node.name == "div" and first and value:
        return "multiplication by", 1 / value
    if node.name == "add":
        return "addition of", float(value * alpha)
    if node.name == "sub" and first:
        return "addition of", float(-value * alpha)
    return None


def ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def taken(node: Node) -> str | None:
    """Which part of a tensor an operator takes: "element 0 of axis 1"; None for other operators."""
    a = arguments(node)
    if node.name == "select":
        axis = a["dim"] % len(node.operands[0].shape)
        place = a["index"] % node.operands[0].shape[axis]
        if place == node.operands[0].shape[axis] - 1 > 0:
            return f"the last position of axis {axis}"
        return f"{'the first position' if place == 0 else f'position {place}'} of axis {axis}"
    if node.name == "slice":
        axis = a["dim"] % len(node.operands[0].shape)
        size = node.operands[0].shape[axis]
        start, end, step = a.get("start") or 0, min(a.get("end") or size, size), a.get("step") or 1
        if (start, end, step) == (0, size, 1):
            return None
        start, end = start % size if start < 0 else start, end % size if end < 0 else end
        every = "" if step == 1 else f", every {ordinal(step)},"
        if end - start == 1:
            return f"position {start} of axis {axis}"
        return f"positions {start} to {end - 1}{every} of axis {axis}"
    return None


def unscaled(value: Value) -> Value:
    """The value behind moves of all of it and multiplications by numbers."""
    value = unchanged(value)
    while value.node is not None and len(value.node.operands) == 1 and (
            is_move(value) and not taken(value.node) or is_factor(value.node)):
        value = unchanged(value.node.operands[0])
    return value


def is_factor(node: Node) -> bool:
    factor = scalar(node)
    return factor is not None and factor[0].startswith("mult")


def padding_words(node: Node) -> str | None:
    """What an operator pads with: "with 1", "by reflection"; None for other operators."""
    if node.name == "constant_pad_nd":
        return f"with {number(arguments(node)['value'])}"
    return next((how for start, how in (("reflection_pad", "by reflection"), ("replication_pad", "with its border"))
                 if node.name.startswith(start)), None)


def is_activation(node: Node) -> bool:
    return node.name in ACTIVATIONS


def rounds(node: Node) -> bool:
    """Whether an operator gives other numbers because it takes another type, such as bfloat16."""
    return node.name == "to_copy" and node.kwargs.get("dtype") not in (None, torch.float64)


def unchanged(value: Value) -> Value:
    """The value behind operators that change nothing."""
    while value.node is not None and (
            value.node.name in UNCHANGED and not rounds(value.node)
            or scalar(value.node) in (("addition of", 0.0), ("multiplication by", 1.0))  # as Python's sum() adds 0
            or value.node.name in ("view", "expand", "unsafe_view", "reshape", "reshape_alias")
            and value.node.operands[0].shape == value.shape):
        value = value.node.operands[0]
    return value


def alone(value: Value) -> Value:
    """The value behind concatenations of one tensor, as DenseNet's first layer makes."""
    while value.node is not None and value.node.name == "cat" and len(value.node.operands) == 1 and \
            value.node.operands[0].shape == value.shape:
        value = value.node.operands[0]
    return value


def is_move(value: Value) -> bool:
    return value.node is not None and value.node.name in MOVES and bool(value.node.operands)


def unmoved(value: Value) -> Value:
    """The value behind operators that only reorder, as long as they take one tensor."""
    value = unchanged(value)
    while is_move(value) and len(value.node.operands) == 1:
        value = unchanged(value.node.operands[0])
    return value
