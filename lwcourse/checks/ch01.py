"""Checks for notebooks/01_what_makes_a_network_light.ipynb."""
import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, compare_functions, compare_numbers
from lwcourse.data import load_data
from lwcourse.layers import ChannelShuffle
from lwcourse.profile import LayerProfile, Profile, format_bytes, profile
from lwcourse.registry import create_model
from lwcourse.train import evaluate, fit

# 01.1

Settings = Mapping[str, Any]


def _output_side(side: int, s: Settings) -> int:
    return (side + 2 * s["padding"] - s["dilation"] * (s["kernel"] - 1) - 1) // s["stride"] + 1


def _costs(s: Settings, *, out_side: Callable[[int, Settings], int] = _output_side, groups: bool = True,
           bias_params: bool = True, bias_macs: bool = False, macs_at_input: bool = False,
           swap: bool = False) -> tuple[int, int, int, int]:
    """(parameters, MACs, height, width), or what a mistake makes of them."""
    weights = s["kernel"] ** 2 * s["in_channels"] * s["out_channels"] // (s["groups"] if groups else 1)
    height, width = (out_side(s[name], s) for name in ("height", "width"))
    pixels = s["height"] * s["width"] if macs_at_input else height * width
    bias = s["out_channels"] if s["bias"] else 0
    params, macs = weights + bias * bias_params, weights * pixels + bias * pixels * bias_macs
    return (macs, params, height, width) if swap else (params, macs, height, width)


COST_MISTAKES: dict[str, Callable[[Settings], tuple]] = {
    "`dilation` makes no difference in your size; the kernel spreads over dilation * (kernel - 1) + 1 pixels":
        lambda s: _costs(s, out_side=lambda n, s: (n + 2 * s["padding"] - s["kernel"]) // s["stride"] + 1),
    "you add `padding` once; it is added at both ends of each side":
        lambda s: _costs(s, out_side=lambda n, s: _output_side(n - s["padding"], s)),
    "you leave `padding` out of the size of the output":
        lambda s: _costs(s, out_side=lambda n, s: _output_side(n - 2 * s["padding"], s)),
    "you leave `stride` out of the size of the output":
        lambda s: _costs(s, out_side=lambda n, s: _output_side(n, {**s, "stride": 1})),
    "your size is one too small: the kernel has a first place too, before the first step of `stride`":
        lambda s: _costs(s, out_side=lambda n, s: _output_side(n, s) - 1),
    "you round the size up; a last step that does not fit is not taken":
        lambda s: _costs(s, out_side=lambda n, s: -(-(n + 2 * s["padding"] - s["dilation"] * (s["kernel"] - 1) - 1)
                                                    // s["stride"]) + 1),
    "you take height // stride for the size; kernel, dilation and padding change it too":
        lambda s: _costs(s, out_side=lambda n, s: n // s["stride"]),
    "`groups` makes no difference in your count; a filter sees only in_channels / groups channels":
        lambda s: _costs(s, groups=False),
    "the bias is missing from your parameters: one number an output channel":
        lambda s: _costs(s, bias_params=False),
    "you count the additions of the bias as MACs; by the course's convention they do not count":
        lambda s: _costs(s, bias_macs=True),
    "you multiply by the size of the input; a weight is used once for every pixel of the output":
        lambda s: _costs(s, macs_at_input=True),
    "parameters and MACs stand in each other's place; the order is (params, macs, out_height, out_width)":
        lambda s: _costs(s, swap=True),
}


@exercise("01.1", title="What a convolution costs", minutes=10, difficulty="easy", expects=a_function)
def conv_cost(answer: Callable[..., tuple]) -> str:
    """`answer(in_channels, out_channels, kernel, height, width, stride, padding, dilation, groups, bias)`."""
    names = ("params", "macs", "out_height", "out_width")
    mine, right = {}, {}
    wrong: dict[str, dict[str, float]] = {reason: {} for reason in COST_MISTAKES}
    for settings in _settings():
        call = f"conv_cost({', '.join(f'{name}={value}' for name, value in settings.items())})"
        costs = answer(**settings)
        if not isinstance(costs, tuple | list) or len(costs) != len(names):
            fail(f"{call} gives {costs!r}, not the four numbers ({', '.join(names)})")
        for name, number, expected in zip(names, costs, _counted(settings), strict=True):
            mine[f"{name} of {call}"], right[f"{name} of {call}"] = number, expected
        for reason, mistaken in COST_MISTAKES.items():
            wrong[reason] |= {f"{name} of {call}": n for name, n in zip(names, mistaken(settings), strict=True)}
    compare_numbers(mine, right, wrong, hint="the size of the output first, then the weights, then their product")
    return f"Equal to nn.Conv2d and lw.profile on {len(right) // len(names)} convolutions."


def _settings() -> list[dict[str, Any]]:
    """Random ones, in which each argument matters, alone and with others; the first has the simplest values."""
    draw = random.Random(1)
    chosen = [dict(in_channels=3, out_channels=8, kernel=3, height=9, width=12, stride=1, padding=0, dilation=1,
                   groups=1, bias=False)]
    for case in range(9):
        groups = draw.choice((2, 3, 4))
        chosen.append(dict(
            in_channels=groups * draw.randint(2, 5), out_channels=groups * draw.randint(6, 9),
            kernel=draw.choice((3, 5)), height=draw.randint(20, 30), width=draw.randint(31, 40),
            stride=(1, 2, 3)[case % 3], padding=draw.randint(1, 3), dilation=draw.choice((2, 3)), groups=groups,
            bias=case % 2 == 0))
    return chosen


def _counted(s: Settings) -> tuple[int, int, int, int]:
    conv = nn.Conv2d(s["in_channels"], s["out_channels"], s["kernel"], s["stride"], s["padding"], s["dilation"],
                     s["groups"], s["bias"])
    cost = profile(conv, (s["in_channels"], s["height"], s["width"]))
    return cost.params, cost.macs, *cost.layers[0].output_shape[2:]


# 01.2

def _shuffled(x: Tensor, groups: int) -> Tensor:
    return ChannelShuffle(groups)(x)


def _no_transpose(x: Tensor, groups: int) -> Tensor:
    return x.clone()


def _undone(x: Tensor, groups: int) -> Tensor:
    """The order that undoes a shuffle: a table with a row for each place inside a group, read by columns."""
    return ChannelShuffle(x.shape[1] // groups)(x)


def _reversed(x: Tensor, groups: int) -> Tensor:
    return x.flip(1)


def _always_two(x: Tensor, groups: int) -> Tensor:
    return ChannelShuffle(2)(x)


def _groups_swapped_whole(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).flip(1).flatten(1, 2)


def _rows_mixed(x: Tensor, groups: int) -> Tensor:
    """The table turned without its pixels: reshape reads the numbers in the wrong order."""
    return x.unflatten(1, (groups, -1)).permute(0, 2, 3, 4, 1).reshape(x.shape)


SHUFFLE_MISTAKES = {
    "the channels come out in their old order; between the two reshapes the two new axes must be exchanged":
        _no_transpose,
    "this undoes a shuffle: you made channels / groups groups. The table has `groups` rows, so view the channels as "
    "(groups, channels // groups)": _undone,
    "the channels are reversed, not dealt out": _reversed,
    "your function makes 2 groups whatever `groups` says": _always_two,
    "you exchange whole groups; the channels inside of each stay together, so nothing is mixed": _groups_swapped_whole,
    "you move the groups behind the pixels, so that the last reshape tears the maps apart; exchange axes 1 and 2 only":
        _rows_mixed,
}


@exercise("01.2", title="Channel shuffle", minutes=10, difficulty="easy", expects=a_function)
def channel_shuffle(answer: Callable[[Tensor, int], Tensor]) -> str:
    """`answer(x, groups)` on numbered channels and on random images."""
    shapes = [((2, 12, 3, 5), 3), ((1, 12, 2, 2), 2), ((1, 8, 4, 3), 4), ((2, 24, 2, 3), 2), ((1, 6, 3, 3), 6),
              ((1, 4, 2, 2), 1)]
    cases = [(torch.randn(shape), groups) for shape, groups in shapes]
    x, groups = cases[0]
    given = x.clone()
    first = answer(given, groups)
    if not torch.equal(given, x):
        fail("your function overwrites its input; build the result from views, without in-place operations")
    if isinstance(first, Tensor) and first.shape == x.shape:
        _refuse_chance(answer, x, groups, first)
    compare_functions(answer, _shuffled, cases, SHUFFLE_MISTAKES,
                      hint="try torch.arange(6).view(1, 6, 1, 1) with groups=2: the right order is 0, 3, 1, 4, 2, 5")
    return f"Right on {len(cases)} images, with {', '.join(map(str, sorted({g for _, g in shapes})))} groups."


def _refuse_chance(answer: Callable[[Tensor, int], Tensor], x: Tensor, groups: int, first: Tensor) -> None:
    if any(not torch.equal(answer(x.clone(), groups), first) for _ in range(4)):
        fail("the order changes from call to call; a channel shuffle is one fixed order, not a random one",
             "the layer behind has learned which channel stands where")


# 01.3

def _separable_twin(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """weight[o, i, y, x] = pointwise[o, i] * depthwise[i, y, x]."""
    return pointwise * depthwise.transpose(0, 1)


def _only_filters(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return depthwise.transpose(0, 1).repeat(pointwise.shape[0], 1, 1, 1)


def _only_mixes(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return F.pad(pointwise, (depthwise.shape[-1] // 2,) * 4)


def _sum(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return pointwise + depthwise.transpose(0, 1)


def _mirrored(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise.flip(2, 3), pointwise)


def _turned(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise.transpose(2, 3), pointwise)


def _transposed(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    return _separable_twin(depthwise, pointwise).transpose(0, 1)


TWIN_MISTAKES = {
    "the 1x1 weights are missing: each output channel has a weight of its own for every input channel": _only_filters,
    "the filters are missing: your kernels have one pixel only, the centre": _only_mixes,
    "you add the two weights; what passes two layers is multiplied by both": _sum,
    "your kernels are mirrored; PyTorch's convolutions do not mirror, so nothing needs to be flipped": _mirrored,
    "rows and columns of your kernels are exchanged": _turned,
    "output and input channels are exchanged: a weight is (out_channels, in_channels, k, k)": _transposed,
}


@exercise("01.3", title="The twin of a separable convolution", minutes=15, difficulty="medium",
          expects=a_function)
def dense_twin(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """`answer(depthwise (C_in, 1, k, k), pointwise (C_out, C_in, 1, 1))` -> weight (C_out, C_in, k, k)."""
    sizes = [(4, 6, 3), (5, 3, 3), (6, 6, 5), (1, 3, 3)]
    cases = [(torch.randn(c_in, 1, k, k), torch.randn(c_out, c_in, 1, 1)) for c_in, c_out, k in sizes]
    for depthwise, pointwise in cases:
        weight = answer(depthwise.clone(), pointwise.clone())
        if isinstance(weight, Tensor) and weight.ndim == 4 and weight.shape[1] == 1 < depthwise.shape[0]:
            fail(f"the weight has shape {tuple(weight.shape)}, as of a depthwise convolution; the twin is a standard "
                 "one, and has a kernel for each pair of channels")
    compare_functions(answer, _separable_twin, cases, TWIN_MISTAKES,
                      hint="follow one number from input channel i, kernel position (y, x), to output channel o: by "
                           "what is it multiplied on its way?")
    worst = 0.0
    for depthwise, pointwise in cases:
        x = torch.randn(2, depthwise.shape[0], 9, 11)
        padding = depthwise.shape[-1] // 2
        separable = F.conv2d(F.conv2d(x, depthwise, padding=padding, groups=len(depthwise)), pointwise)
        worst = max(worst, (F.conv2d(x, answer(depthwise, pointwise), padding=padding) - separable).abs().max().item())
    return f"One convolution does what two did: largest difference {worst:.0e}."


# 01.4

KEYS = ("hungriest", "below the ridge, batch 1", "below the ridge, batch 16", "depthwise MACs", "depthwise bytes")
RIDGE = 6.0  # MACs per byte, of an imagined machine


def a_report(answer: Any) -> bool:
    """a dict with the keys that the exercise names"""
    return isinstance(answer, Mapping)


@exercise("01.4", title="Who waits for memory?", minutes=20, difficulty="medium", expects=a_report)
def memory_bound(answer: Mapping[str, Any]) -> str:
    """Counts on MobileNetV2 of width 0.5 at 160 x 160; everything is counted anew here."""
    if missing := [key for key in KEYS if key not in answer]:
        fail(f"the answer has no {', '.join(map(repr, missing))}", f"its keys are {', '.join(map(repr, KEYS))}")
    cost = profile(create_model("mobilenet_v2", width=0.5), (3, 160, 160))
    layers = [layer for layer in cost.layers if layer.kind == "Conv2d"]
    hungriest = min(layers, key=lambda layer: layer.intensity)
    _check_hungriest(answer["hungriest"], {layer.name: layer for layer in cost.layers}, layers)
    numbers = {key: answer[key] for key in KEYS[1:]}
    compare_numbers(numbers, _report(layers), _report_mistakes(layers),
                    hint="batch 16: inputs, outputs and MACs 16 times, weights once", tolerance=5e-3)
    return (f"{hungriest.name} does {hungriest.intensity:.2f} MACs per byte; a larger batch lifts "
            f"{numbers[KEYS[1]] - numbers[KEYS[2]]} layers over the ridge.")


def _check_hungriest(name: Any, known: Mapping[str, LayerProfile], layers: list[LayerProfile]) -> None:
    intensities = {layer.name: layer.intensity for layer in layers}
    if intensities.get(name) == min(intensities.values()):
        return
    if name not in known:
        fail(f"'hungriest' must be the name of a convolution, such as {layers[0].name!r}, got {name!r}")
    if name not in intensities:
        fail(f"{name} is of kind {known[name].kind}; asked is a convolution", 'its layer.kind is "Conv2d"')
    if intensities[name] == max(intensities.values()):
        fail(f"{name} does most MACs per byte, {intensities[name]:.2f}; the hungriest convolution does fewest",
             "layer.intensity is MACs per byte, so you want its minimum")
    if name == max(layers, key=lambda layer: layer.traffic_bytes).name:
        fail(f"{name} moves most bytes; asked is the convolution that moves most bytes for each of its MACs",
             "divide, then compare")
    fail(f"{name} does {intensities[name]:.2f} MACs per byte, and another convolution does fewer")


def _intensity(layer: LayerProfile, batch: int, *, weights: int = 1) -> float:
    moved = batch * (layer.input_bytes + layer.output_bytes) + weights * layer.parameter_bytes
    return batch * layer.macs / moved


def _is_depthwise(layer: LayerProfile) -> bool:
    return ".depthwise." in layer.name


def _is_pointwise(layer: LayerProfile) -> bool:
    return any(part in layer.name for part in (".expand.", ".project.", "head."))


def _report(layers: list[LayerProfile], *, chosen: Callable[[LayerProfile], bool] = _is_depthwise,
            weights_at_16: int = 1, above: bool = False, percent: int = 1) -> dict[str, float]:
    def share(cost: str) -> float:
        part = sum(getattr(one, cost) for one in layers if chosen(one))
        return percent * part / sum(getattr(one, cost) for one in layers)

    def count(batch: int, weights: int) -> int:
        below = sum(_intensity(one, batch, weights=weights) < RIDGE for one in layers)
        return len(layers) - below if above else below

    numbers = count(1, 1), count(16, weights_at_16), share("macs"), share("traffic_bytes")
    return dict(zip(KEYS[1:], numbers, strict=True))


def _report_mistakes(layers: list[LayerProfile]) -> dict[str, dict[str, float]]:
    right = _report(layers)
    return {
        "batch 16 gives your count of batch 1: you multiplied everything by 16. A weight is fetched once for the whole "
        "batch": _report(layers, weights_at_16=16),
        "batch 16: the MACs grow with the batch too, not only the bytes":
            right | {KEYS[2]: sum(_intensity(one, 16) / 16 < RIDGE for one in layers)},
        "you count the layers above the ridge; asked are those below it": _report(layers, above=True),
        "the shares are in per cent; give them between 0 and 1": _report(layers, percent=100),
        "your shares are those of the 1x1 layers": _report(layers, chosen=_is_pointwise),
    }


# 01.5

BUDGET = {"macs": 500_000, "params": 15_000, "peak_activation_bytes": 40 * 1024}
LEAST_ACCURACY = 0.55
CHANCE = 0.1


def a_builder(answer: Any) -> bool:
    """a function or class that builds the network when it is called without arguments (its name, without brackets)"""
    return callable(answer) and not isinstance(answer, nn.Module)


@exercise("01.5", title="A network under three budgets", minutes=30, difficulty="hard", expects=a_builder)
def small_network(answer: Callable[[], nn.Module]) -> str:
    """`answer()` -> a classifier of (N, 3, 32, 32) into 10 logits; it is counted, trained and tested here."""
    network = answer()
    if not isinstance(network, nn.Module):
        fail(f"the function gives {type(network).__name__}, not an nn.Module", "end it with `return`")
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        logits = copy.deepcopy(network).eval()(x)
    if not isinstance(logits, Tensor) or logits.shape != (4, 10):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        fail(f"4 images give {got}, not logits of shape (4, 10)", "one number a class: average over H and W, nn.Linear")
    if torch.allclose(logits.sum(1), torch.ones(4)) and (logits >= 0).all():
        fail("the outputs of each image are positive and add up to 1, so the network ends in a softmax; training "
             "expects logits", "lw.fit's cross-entropy has the softmax inside")
    cost = profile(network, (3, 32, 32))
    _refuse_over_budget(cost)
    data = load_data("photo_digits", copies=1)
    fit(network, data, epochs=6, lr=0.1, batch_size=32, progress=False)
    accuracy = evaluate(network, data).accuracy
    spent = (f"{cost.macs:,} MACs, {cost.params:,} parameters, peak {format_bytes(cost.peak_activation_bytes)}, "
             f"accuracy {accuracy:.1%}")
    if accuracy < LEAST_ACCURACY:
        fail(f"within the budget, but not accurate enough: {accuracy:.1%} of the test digits, {LEAST_ACCURACY:.0%} are "
             f"asked. {_why_inaccurate(network, cost, accuracy)}", f"you have room for more: {_room(cost)}")
    return f"Score: {100 * accuracy:.0f} points. {spent[0].upper()}{spent[1:]}."


def _refuse_over_budget(cost: Profile) -> None:
    if cost.macs > BUDGET["macs"]:
        layer = max(cost.layers, key=lambda one: one.macs)
        fail(f"{cost.macs:,} MACs, {BUDGET['macs']:,} are allowed; {_name(layer)} alone has {layer.macs:,}",
             "make the map smaller before you make it deep, or take a separable convolution")
    if cost.params > BUDGET["params"]:
        layer = max(cost.layers, key=lambda one: one.params)
        fail(f"{cost.params:,} parameters, {BUDGET['params']:,} are allowed; {_name(layer)} alone has {layer.params:,}",
             "average over the pixels before the linear layer; fewer channels, or separable convolutions")
    if cost.peak_activation_bytes > BUDGET["peak_activation_bytes"]:
        layer = max(cost.layers, key=lambda one: one.output_bytes)
        size = "x".join(map(str, layer.output_shape[1:]))
        fail(f"the peak of live activations is {format_bytes(cost.peak_activation_bytes)}, "
             f"{format_bytes(BUDGET['peak_activation_bytes'])} are allowed; the largest map is that of {_name(layer)}, "
             f"{size}", "a stride of 2 in the first layer halves both sides of all maps")


def _why_inaccurate(network: nn.Module, cost: Profile, accuracy: float) -> str:
    kernels = [max(module.kernel_size) for module in network.modules() if isinstance(module, nn.Conv2d)]
    if kernels and max(kernels) == 1:
        return "Every kernel is 1x1, so no output sees a neighbourhood."
    if not any("Norm" in layer.kind for layer in cost.layers):
        return "There is no BatchNorm, and without it six epochs are too few."
    if accuracy < 2 * CHANCE:
        return "That is close to chance: is there an activation between the layers, and does every layer get its input?"
    return "It learns, but it is too small or too shallow."


def _name(layer: LayerProfile) -> str:
    return f"layer {layer.name or '(the network itself)'} ({layer.kind})"


def _room(cost: Profile) -> str:
    parts = (("MACs", "macs"), ("parameters", "params"), ("peak activations", "peak_activation_bytes"))
    return ", ".join(f"{getattr(cost, key) / BUDGET[key]:.0%} of the {words}" for words, key in parts) + " are used"
