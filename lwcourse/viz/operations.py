"""What to write on the box of one operation, and which family it belongs to.

`describe` gets an operation as torch.fx recorded it and returns a `Label`. Convolutions are
described from their weights, strides and groups, so that `nn.Conv2d` and `F.conv2d` read alike.
"""
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, fx, nn


class Label(NamedTuple):
    """A box: its family (a key of `diagram.COLOURS`), its title, and smaller lines below the title."""
    kind: str
    title: str
    captions: tuple[str, ...] = ()


ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "leakyrelu": "LeakyReLU", "prelu": "PReLU", "elu": "ELU", "celu": "CELU",
    "selu": "SELU", "gelu": "GELU", "silu": "SiLU", "mish": "Mish", "tanh": "tanh", "hardtanh": "hardtanh",
    "hardswish": "h-swish", "softplus": "softplus", "glu": "GLU", "clamp": "clamp",
}
GATES = {"sigmoid": "sigmoid", "hardsigmoid": "h-sigmoid", "softmax": "softmax"}  # squash to [0, 1]
NORMS = {"batchnorm": "BN", "layernorm": "LayerNorm", "groupnorm": "GroupNorm", "instancenorm": "InstanceNorm",
         "syncbatchnorm": "BN", "rmsnorm": "RMSNorm", "localresponsenorm": "LRN"}
DROPOUTS = {"dropout": "dropout", "alphadropout": "dropout", "droppath": "drop path",
            "stochasticdepth": "stochastic depth"}
ARITHMETIC = {"add": "+", "iadd": "+", "mul": "×", "imul": "×", "multiply": "×", "sub": "−", "isub": "−",
              "subtract": "−", "truediv": "÷", "itruediv": "÷", "div": "÷", "divide": "÷", "maximum": "max",
              "minimum": "min"}
REDUCTIONS = {"mean": "mean", "sum": "sum", "max": "max", "amax": "max", "min": "min", "amin": "min", "std": "std",
              "var": "variance"}
RESHAPES = {"view", "reshape", "flatten", "unflatten", "permute", "transpose", "swapaxes", "movedim", "squeeze",
            "unsqueeze", "expand", "repeat", "roll", "pad", "stack", "gather", "fold", "unfold", "t"}
ATTENTION = {"matmul": "matmul", "bmm": "matmul", "einsum": "einsum", "multiheadattention": "attention",
             "scaleddotproductattention": "attention"}
AXES = {1: "C", 2: "H", 3: "W"}


def describe(node: fx.Node, module: nn.Module | None, arguments: "Arguments", result) -> Label:
    """The label of `node`. `module` is the one it calls, if any; `result` is what it returned."""
    name = type(module).__name__ if module is not None else function_name(node)
    key = re.sub(r"[123]d$", "", name.lower().replace("_", ""))
    if isinstance(module, nn.modules.conv._ConvNd):
        return _convolution_module(module)
    if key in ("conv", "convolution", "convtranspose"):
        return _convolution_call(name, arguments, result)
    if isinstance(module, nn.Linear) or key == "linear":
        weight = module.weight if module is not None else arguments.value("weight", 1)
        return Label("linear", "linear", (f"{weight.shape[1]} → {weight.shape[0]}",))
    for kind, titles in (("activation", ACTIVATIONS), ("gate", GATES), ("norm", NORMS), ("dropout", DROPOUTS),
                         ("attention", ATTENTION)):
        if key in titles:
            return Label(kind, titles[key], _parameter_of(key, module))
    if key in ARITHMETIC and module is None:
        return _arithmetic(ARITHMETIC[key], arguments)
    if key in REDUCTIONS and module is None:
        return _reduction(REDUCTIONS[key], arguments)
    if "pool" in key:
        return _pool(key, module, arguments, result)
    if key in ("cat", "concat", "concatenate"):
        axis = arguments.value("dim", 1, 0) % result.dim()
        return Label("merge", "concat" if axis == 1 else f"concat along {AXES.get(axis, f'axis {axis}')}")
    if isinstance(result, tuple) and key in ("chunk", "split", "tensorsplit", "unbind"):
        return Label("split", "split", (" + ".join(str(piece.shape[1]) for piece in result if piece.dim() > 1),))
    if key == "channelshuffle":
        return shuffle_label(module.groups if module is not None else arguments.value("groups", 1))
    if key in ("upsample", "interpolate", "upsamplingnearest", "upsamplingbilinear"):
        return Label("reshape", f"upsample ×{result.shape[-1] / arguments.value('input', 0).shape[-1]:g}")
    if key == "getitem":
        return Label("reshape", f"x[{_index(arguments.value('index', 1))}]")
    if key in RESHAPES:
        return Label("reshape", name.strip("_").replace("_", " "))
    return Label("other", name.strip("_").replace("_", " ") if module is None else name)


def shuffle_label(groups: int) -> Label:
    return Label("reshape", "channel shuffle", (f"{groups} groups",))


def function_name(node: fx.Node) -> str:
    """The plain name of the function or method that `node` calls."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    if name in ("fn", "boolean_dispatch"):  # torch's dispatcher hides e.g. max_pool2d behind this name
        name = re.sub(r"_\d+$", "", node.name)
    return name.rstrip("_") or name


class Arguments:
    """The arguments of a call: tensors as they were, parameters' names for those that are weights."""

    def __init__(self, args: Sequence, kwargs: dict, name_of: Callable[[object], str | None]):
        self.args, self.kwargs, self.name_of = tuple(args), kwargs, name_of

    def value(self, name: str, position: int, default=None):
        """The argument called `name`, or at `position`; `default` when the call leaves it out."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else default


def _convolution_module(module: nn.modules.conv._ConvNd) -> Label:
    return _convolution(module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
                        module.dilation, module.groups, module.transposed)


def _convolution_call(name: str, arguments: Arguments, result: Tensor) -> Label:
    transposed = "transpose" in name
    source, weight = arguments.value("input", 0), arguments.value("weight", 1)
    sides = weight.dim() - 2
    # F.conv_transpose2d has output_padding and groups before dilation
    groups, dilation = (5, 6)[::1] if transposed else (6, 5)
    stride, padding, dilation = (_tuple(arguments.value(key, position, default), sides) for key, position, default in
                                 (("stride", 3, 1), ("padding", 4, 0), ("dilation", dilation + transposed, 1)))
    groups = arguments.value("groups", groups + transposed, 1)
    return _convolution(source.shape[1], result.shape[1], tuple(weight.shape[2:]), stride, padding, dilation, groups,
                        transposed)
