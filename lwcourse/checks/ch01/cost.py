"""Exercise 01.1: what a convolution costs."""
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, compare_numbers, shown
from lwcourse.profile import profile

Settings = Mapping[str, Any]
COSTS = ("params", "macs", "out_height", "out_width")


def _output_side(side: int, s: Settings) -> int:
    return (side + 2 * s["padding"] - s["dilation"] * (s["kernel"] - 1) - 1) // s["stride"] + 1


def _costs(s: Settings, *, out_side: Callable[[int, Settings], int] = _output_side, weights: Callable | None = None,
           bias: int | None = None, per_mac: int = 1, bias_macs: bool = False, macs_at_input: bool = False
           ) -> tuple[int, int, int, int]:
    """(parameters, MACs, height, width), or what a mistake makes of them."""
    right = s["kernel"] ** 2 * s["in_channels"] * s["out_channels"] // s["groups"]
    count = weights(right, s) if weights else right
    height, width = (out_side(s[name], s) for name in ("height", "width"))
    pixels = s["height"] * s["width"] if macs_at_input else height * width
    added = s["out_channels"] if s["bias"] else 0
    params = count + (added if bias is None else bias * s["out_channels"])
    return params, per_mac * count * pixels + added * pixels * bias_macs, height, width


def _with_side(out_side: Callable[[int, Settings], int]) -> Callable[[Settings], tuple]:
    return lambda s: _costs(s, out_side=out_side)


def _with_weights(weights: Callable[[int, Settings], int]) -> Callable[[Settings], tuple]:
    return lambda s: _costs(s, weights=weights)


COST_MISTAKES: dict[str, Callable[[Settings], tuple]] = {
    "`dilation` makes no difference in your size; the kernel spreads over dilation * (kernel - 1) + 1 pixels":
        _with_side(lambda n, s: (n + 2 * s["padding"] - s["kernel"]) // s["stride"] + 1),
    "in your size the kernel spreads over dilation * kernel pixels; behind its last pixel there is no gap":
        _with_side(lambda n, s: (n + 2 * s["padding"] - s["dilation"] * s["kernel"]) // s["stride"] + 1),
    "your size is now and then one too large: a kernel covers one pixel more than the dilation * (kernel - 1) steps "
    "from its first to its last":
        _with_side(lambda n, s: (n + 2 * s["padding"] - s["dilation"] * (s["kernel"] - 1)) // s["stride"] + 1),
    "you add `padding` once; it is added at both ends of each side":
        _with_side(lambda n, s: _output_side(n - s["padding"], s)),
    "you leave `padding` out of the size of the output": _with_side(lambda n, s: _output_side(n - 2 * s["padding"], s)),
    "you leave `stride` out of the size of the output": _with_side(lambda n, s: _output_side(n, {**s, "stride": 1})),
    "your size is one too small: the kernel has a first place too, before the first step of `stride`":
        _with_side(lambda n, s: _output_side(n, s) - 1),
    "you round the size up; a last step that does not fit is not taken":
        _with_side(lambda n, s: -(-(n + 2 * s["padding"] - s["dilation"] * (s["kernel"] - 1) - 1) // s["stride"]) + 1),
    "you take height // stride for the size; kernel, dilation and padding change it too":
        _with_side(lambda n, s: n // s["stride"]),
    "you take height / stride, rounded up, for the size; that holds only where padding keeps the map":
        _with_side(lambda n, s: -(-n // s["stride"])),
    "height and width stand in each other's place; the order is (params, macs, out_height, out_width)":
        lambda s: (*_costs(s)[:2], *_costs(s)[:1:-1]),
    "`groups` makes no difference in your count; a filter sees only in_channels / groups channels":
        _with_weights(lambda n, s: n * s["groups"]),
    "you divide by `groups` twice; there are fewer channels in each filter, but as many filters":
        _with_weights(lambda n, s: n // s["groups"]),
    "you multiply by `groups`; more groups make a convolution cheaper": _with_weights(lambda n, s: n * s["groups"]**2),
    "you use the kernel's side once; a filter has kernel * kernel positions":
        _with_weights(lambda n, s: n // s["kernel"]),
    "you leave the kernel out of the weights; a filter has kernel * kernel positions":
        _with_weights(lambda n, s: n // s["kernel"]**2),
    "the bias is missing from your parameters: one number an output channel": lambda s: _costs(s, bias=0),
    "you count the bias as a single number; it has one for every output channel":
        lambda s: (_costs(s, bias=0)[0] + s["bias"], *_costs(s)[1:]),
    "you take the kernel that `dilation` spreads for the weights; dilation moves the taps apart and adds no weights":
        _with_weights(lambda n, s: n // s["kernel"]**2 * (s["dilation"] * (s["kernel"] - 1) + 1)**2),
    "you count a bias where there is none: `bias` says whether the layer has one": lambda s: _costs(s, bias=1),
    "you count the additions of the bias as MACs; by the course's convention they do not count":
        lambda s: _costs(s, bias_macs=True),
    "you count a multiply and an add as two; one MAC is both together": lambda s: _costs(s, per_mac=2),
    "you multiply by the size of the input; a weight is used once for every pixel of the output":
        lambda s: _costs(s, macs_at_input=True),
    "your MACs are the weights; each is used once for every pixel of the output":
        lambda s: (_costs(s)[0], _costs(s, bias=0)[0], *_costs(s)[2:]),
    "parameters and MACs stand in each other's place; the order is (params, macs, out_height, out_width)":
        lambda s: (*_costs(s)[1::-1], *_costs(s)[2:]),
}


@exercise("01.1", title="What a convolution costs", minutes=10, difficulty="easy", expects=a_function)
def conv_cost(answer: Callable[..., tuple]) -> str:
    """`answer(in_channels, out_channels, kernel, height, width, stride, padding, dilation, groups, bias)`."""
    mine, right = {}, {}
    wrong: dict[str, dict[str, float]] = {reason: {} for reason in COST_MISTAKES}
    for settings in _settings():
        call = f"conv_cost({', '.join(f'{name}={value}' for name, value in settings.items())})"
        costs = answer(**settings)
        if isinstance(costs, Tensor | np.ndarray) and costs.ndim == 1:
            costs = list(costs)
        if not isinstance(costs, tuple | list) or len(costs) != len(COSTS):
            fail(f"{call} gives {shown(costs)}, not the four numbers ({', '.join(COSTS)})")
        named = dict(zip(COSTS, zip(costs, _counted(settings), strict=True), strict=True))
        for name in (*COSTS[2:], *COSTS[:2]):  # the size first, for MACs follow from it
            mine[f"{name} of {call}"], right[f"{name} of {call}"] = named[name]
        for reason, mistaken in COST_MISTAKES.items():
            wrong[reason] |= {f"{name} of {call}": n for name, n in zip(COSTS, mistaken(settings), strict=True)}
    compare_numbers(mine, right, wrong, hint="the size of the output first, then the weights, then their product")
    return f"Equal to nn.Conv2d and lw.profile on {len(right) // len(COSTS)} convolutions."


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
