"""Checks for notebooks/00_start_here.ipynb."""
import random
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lwcourse.checks import exercise
from lwcourse.checks.helpers import a_function, compare_numbers

# What people write instead, with c, d: channels in and out, k: kernel, n: pixels of the output, g: groups.
# Each is told apart from the right count, and from the others, by the configurations below (tested).
MISTAKES = {
    "you count a multiply and an add as two; one MAC is both together, so halve it":
        lambda c, d, k, n, g: 2 * c * d * k * k * n // g,
    "`groups` makes no difference in your count; a filter sees only in_channels / groups channels":
        lambda c, d, k, n, g: c * d * k * k * n,
    "you multiply by `groups`; more groups make a convolution cheaper":
        lambda c, d, k, n, g: c * d * k * k * n * g,
    "you divide by `groups` twice; there are fewer channels in each filter, but as many filters":
        lambda c, d, k, n, g: c * d * k * k * n // g**2,
    "you use the kernel's side once; a filter has kernel * kernel positions":
        lambda c, d, k, n, g: c * d * k * n // g,
    "you leave the kernel out; each output value takes kernel * kernel positions into account":
        lambda c, d, k, n, g: c * d * n // g,
    "you count the weights; each of them is used once for every pixel of the output (height * width)":
        lambda c, d, k, n, g: c * d * k * k // g,
    "you count one filter; there are out_channels of them":
        lambda c, d, k, n, g: c * k * k * n // g,
    "each output value adds up over the input channels too; `in_channels` is missing from your count":
        lambda c, d, k, n, g: d * k * k * n,
    "you count the additions of a bias as MACs; by the course's convention they do not count":
        lambda c, d, k, n, g: c * d * k * k * n // g + d * n,
}


@exercise("00.1", title="MACs of a convolution", minutes=5, difficulty="easy", expects=a_function)
def conv_macs(answer: Callable[..., int]) -> str:
    """`answer(in_channels, out_channels, kernel, height, width, groups=1)`, with the size of the output map."""
    mine, right = {}, {}
    wrong = {reason: {} for reason in MISTAKES}
    for in_channels, out_channels, kernel, height, width, groups in _configurations():
        label = f"conv_macs({in_channels}, {out_channels}, {kernel}, {height}, {width}, groups={groups})"
        if groups == 1:
            mine[label] = answer(in_channels, out_channels, kernel, height, width)
        else:
            mine[label] = answer(in_channels, out_channels, kernel, height, width, groups=groups)
        right[label] = _counted_by_torch(in_channels, out_channels, kernel, height, width, groups)
        for reason, formula in MISTAKES.items():
            wrong[reason][label] = formula(in_channels, out_channels, kernel, height * width, groups)
    compare_numbers(mine, right, wrong, hint="work out one output value first, then count the output values")
    return f"Equal to torch's own counter on {len(right)} convolutions."


def _configurations() -> list[tuple[int, int, int, int, int, int]]:
    """Random ones, of which the first is ungrouped and the second depthwise, with no two sizes equal."""
    draw = random.Random(0)  # the same ones each time, so that a changed verdict comes from a changed answer
    configurations = []
    for case in range(8):
        groups = 1 if case == 0 else draw.choice((2, 4, 8))
        in_channels = groups * (1 if case == 1 else draw.randint(2, 5))
        out_channels = in_channels if case == 1 else groups * draw.randint(6, 9)
        height = draw.randint(5, 40)
        configurations.append((in_channels, out_channels, draw.choice((3, 5, 7)), height, height + 1, groups))
    return configurations


def _counted_by_torch(in_channels: int, out_channels: int, kernel: int, height: int, width: int, groups: int) -> int:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:  # meta: shapes only, nothing is computed
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)(
            torch.empty(1, in_channels, height, width))
    return counter.get_total_flops() // 2
