"""What to write on the box of one operation, and which family it belongs to.

Convolutions are described from their weight's shape, stride and groups, so that `nn.Conv2d` and
`F.conv2d` read alike. Sizes are those of the run that torch.fx recorded.
"""
import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, fx, nn


class Label(NamedTuple):
    """A box: its family (a key of `diagram.COLOURS`), its title, and smaller lines below the title."""
    kind: str
    title: str
    captions: tuple[str, ...] = ()


TITLES = {  # family -> name of the class or function, lower case, without underscores and "2d" -> title
    "activation": {
        "relu": "ReLU", "relu6": "ReLU6", "leakyrelu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "celu": "CELU",
        "selu": "SELU", "gelu": "GELU", "silu": "SiLU", "mish": "Mish", "tanh": "tanh", "hardtanh": "hardtanh",
        "hardswish": "h-swish", "hswish": "h-swish", "swish": "SiLU", "softplus": "softplus", "glu": "GLU",
        "clamp": "clamp",
    },
    "gate": {  # results lie between 0 and 1
        "sigmoid": "sigmoid", "hardsigmoid": "h-sigmoid", "hsigmoid": "h-sigmoid", "softmax": "softmax"},
    "norm": {"batchnorm": "BN", "syncbatchnorm": "BN", "layernorm": "LayerNorm", "groupnorm": "GroupNorm",
             "instancenorm": "InstanceNorm", "rmsnorm": "RMSNorm", "localresponsenorm": "LRN"},
    "dropout": {"dropout": "dropout", "alphadropout": "dropout", "droppath": "drop path",
                "stochasticdepth": "stochastic depth"},
    "attention": {"matmul": "matmul", "bmm": "matmul", "einsum": "einsum", "multiheadattention": "attention",
                  "scaleddotproductattention": "attention"},
}
ARITHMETIC = {"add": "+", "iadd": "+", "mul": "×", "imul": "×", "multiply": "×", "sub": "−", "isub": "−",
              "subtract": "−", "truediv": "÷", "itruediv": "÷", "div": "÷", "divide": "÷"}
REDUCTIONS = {"mean": "mean", "sum": "sum", "max": "max", "amax": "max", "min": "min", "amin": "min",
              "std": "std", "var": "variance"}
RESHAPES = {"view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "squeeze",
            "viewas", "reshapeas", "expandas", "unsqueeze", "expand", "repeat", "roll", "pad", "stack", "fold",
            "unfold", "pixelshuffle", "pixelunshuffle"}
AXES = {1: "C", 2: "H", 3: "W"}


class Call:
    """One recorded call. `values` holds what every node returned, `constants` the names of weights among them."""

    def __init__(self, node: fx.Node, module: nn.Module | None, values: Mapping[fx.Node, object],
                 constants: Mapping[fx.Node, str]):
        self.node, self.module, self.values, self.constants = node, module, values, constants
        self.result = values[node]
        self.name = type(module).__name__ if module is not None else function_name(node)

    @property
    def key(self) -> str:
        """The name as the tables above spell it: `BatchNorm2d` and `batch_norm` are both "batchnorm"."""
        return re.sub(r"[123]d$", "", self.name.lower().replace("_", ""))

    def argument(self, name: str, position: int, default=None):
        """The value of an argument of a function or method; of a module, the attribute called `name`."""
        if self.module is not None:
            return getattr(self.module, name, default)
        node = self.node.kwargs.get(name, self.node.args[position] if position < len(self.node.args) else default)
        return fx.node.map_arg(node, self.values.__getitem__)


def function_name(node: fx.Node) -> str:
    """The plain name of the function or method that `node` calls."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    if name in ("fn", "boolean_dispatch"):  # torch's dispatcher hides e.g. max_pool2d behind such a name
        name = re.sub(r"_\d+$", "", node.name)
    return name.strip("_")


def shuffle_label(groups: int) -> Label:
    return Label("reshape", "channel shuffle", (f"{groups} groups",))


def describe(call: Call) -> Label:
    """The label of a call. One that is not known here keeps its own name, in the family "other"."""
    key, module = call.key, call.module
    if isinstance(module, nn.modules.conv._ConvNd):
        return _convolution(module.in_channels, module.out_channels, module.kernel_size, module.stride,
                            module.padding, module.dilation, module.groups, module.transposed)
    if key in ("conv", "convtranspose") and isinstance(call.result, Tensor):
        return _functional_convolution(call)
    if key == "adderconv":  # lwcourse.layers.adder_conv2d
        return _adder_convolution(call)
    if key == "linear":
        outputs, inputs = call.argument("weight", 1).shape
        return Label("linear", "linear", (f"{inputs} → {outputs}",))
    for kind, titles in TITLES.items():
        if key in titles:
            return Label(kind, titles[key])
    if key in ARITHMETIC:
        return _arithmetic(ARITHMETIC[key], call)
    if key in REDUCTIONS:
        return _reduction(REDUCTIONS[key], call)
    if "pool" in key:
        return _pool(call)
    if key in ("cat", "concat", "concatenate"):
        axis = call.argument("dim", 1, 0) % call.result.dim()
        return Label("merge", "concat" if axis == 1 else f"concat along {AXES.get(axis, f'axis {axis}')}")
    if key in ("chunk", "split", "tensorsplit", "unbind", "splitwithsizes"):
        return Label("split", "split")
    if key == "channelshuffle":
        return shuffle_label(call.argument("groups", 1))
    if key in ("upsample", "interpolate", "upsamplingnearest", "upsamplingbilinear"):
        before = fx.node.map_arg(call.node.args[0], call.values.__getitem__)
        return Label("reshape", f"upsample ×{call.result.shape[-1] / before.shape[-1]:g}")
    if key == "getitem":
        return Label("reshape", f"x[{_index_text(call.node.args[1])}]")
    if key in RESHAPES:
        return Label("reshape", re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", call.name).lower())
    return Label("other", call.name.replace("_", " "))


def _per_side(value, sides: int) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * sides


def _times(values: tuple) -> str:
    """Equal numbers once, others as "3×1"; for strides and the like."""
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def _functional_convolution(call: Call) -> Label:
    transposed = "transpose" in call.name
    source, weight = call.argument("input", 0), call.argument("weight", 1)
    groups, dilation = (6, 7) if transposed else (6, 5)
    stride, padding, dilation = (_per_side(call.argument(name, position, default), weight.dim() - 2)
                                 for name, position, default in
                                 (("stride", 3, 1), ("padding", 4, 0), ("dilation", dilation, 1)))
    return _convolution(source.shape[1], call.result.shape[1], tuple(weight.shape[2:]), stride, padding, dilation,
                        call.argument("groups", groups, 1), transposed)


def _adder_convolution(call: Call) -> Label:
    weight, stride, padding = (call.argument(name, position, default) for name, position, default in (
        ("weight", 1, None), ("stride", 3, (1, 1)), ("padding", 4, (0, 0))))
    label = _convolution(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]), stride, padding, (1, 1), 1, False)
    return Label(label.kind, label.title.replace("conv", "adder"), label.captions)


def _convolution(in_channels: int, out_channels: int, kernel: tuple, stride: tuple, padding: tuple | str,
                 dilation: tuple, groups: int, transposed: bool) -> Label:
    size = "×".join(map(str, kernel)) if len(kernel) > 1 else f"{kernel[0]}-tap"
    if groups == in_channels and groups > 1:
        kind, noun = "depthwise", "depthwise conv"
    elif groups > 1:
        kind, noun = "grouped", "grouped conv"
    else:
        kind, noun = ("pointwise" if set(kernel) == {1} else "conv"), "conv"
    if transposed:
        noun = f"transposed {noun}"
    notes = [f"{in_channels} → {out_channels}"]
    if set(stride) != {1}:
        notes.append(f"stride {_times(stride)}")
    if kind == "grouped":
        notes.append(f"{groups} groups")
    if set(dilation) != {1}:
        notes.append(f"dilation {_times(dilation)}")
    if not isinstance(padding, str) and not transposed:
        usual = tuple(rate * (side - 1) // 2 for rate, side in zip(dilation, kernel, strict=True))
        if padding != usual:  # worth a word, since the map then shrinks or grows
            notes.append("no padding" if set(padding) == {0} else f"padding {_times(padding)}")
    return Label(kind, f"{size} {noun}", (", ".join(notes[:2]), *([", ".join(notes[2:])] if notes[2:] else [])))


def _arithmetic(symbol: str, call: Call) -> Label:
    """`x + y` is "+"; with a number or a weight the operand is named, as in "× 0.5" or "1 − x"."""
    operands = [*call.node.args, *(value for name, value in call.node.kwargs.items() if name == "other")][:2]
    texts = []
    for operand in operands:
        if not isinstance(operand, fx.Node):
            texts.append(f"{operand:g}" if isinstance(operand, (int, float)) else str(operand))
        else:
            texts.append(call.constants.get(operand, "x"))
    if texts == ["x", "x"]:
        return Label("gate" if symbol == "×" else "merge", symbol)
    if texts[0] == "x":
        return Label("elementwise", f"{symbol} {texts[1]}")
    return Label("elementwise", f"{symbol} {texts[0]}" if symbol in "+×" else f"{texts[0]} {symbol} x")


def _reduction(verb: str, call: Call) -> Label:
    source = call.argument("input", 0)
    axes = call.argument("dim", 1)
    if isinstance(axes, Tensor):
        return Label("elementwise", f"{verb} of two")
    if axes is None:
        return Label("pool", f"{verb} of all")
    axes = [axis % source.dim() for axis in _per_side(axes, 1)]
    names = [AXES[axis] if source.dim() == 4 and axis in AXES else f"axis {axis}" for axis in axes]
    return Label("pool", f"{verb} over {', '.join(names)}")


def _pool(call: Call) -> Label:
    noun = "max pool" if "max" in call.key else "average pool"
    if "adaptive" in call.key:
        size = tuple(call.result.shape[2:])
        if set(size) == {1}:
            return Label("pool", f"global {noun}")
        return Label("pool", f"adaptive {noun}", (f"to {'×'.join(map(str, size))}",))
    sides = call.result.dim() - 2
    kernel = _per_side(call.argument("kernel_size", 1), sides)
    stride = _per_side(call.argument("stride", 2) or kernel, sides)
    captions = (f"stride {_times(stride)}",) if set(stride) != {1} else ()
    return Label("pool", f"{'×'.join(map(str, kernel))} {noun}", captions)


def _index_text(index) -> str:
    if isinstance(index, tuple):
        return ", ".join(map(_index_text, index))
    if isinstance(index, slice):
        parts = ["" if part is None else str(part) for part in (index.start, index.stop, index.step)]
        return ":".join(parts if parts[2] else parts[:2])
    return "..." if index is Ellipsis else str(index)
