"""05.5 and 05.6: how many numbers a gate has, and the rule for ECA's kernel."""
import math
from collections.abc import Callable, Mapping

import torch

from lwcourse.checks import exercise, fail
from lwcourse.checks.ch05.timing import KINDS
from lwcourse.checks.helpers import (
    compare_parts,
    read_number,
    refuse_missing_keys,
    refuse_ready_made,
    watch,
)
from lwcourse.layers import (
    adaptive_kernel_size,
)

COUNTED = (64, 14, 10)  # channels, rows, columns of exercise 05.5


def gate_numbers(kind: str, channels: int, height: int, width: int) -> int:
    """How many different numbers the gate computes for one image, counted on the layer itself."""
    layer = KINDS[kind](channels).eval()
    with torch.no_grad():
        x = torch.randn(1, channels, height, width)
        if kind == "SA":
            parts = layer.gates(*layer.halves(x))
        else:
            parts = layer.gates(x) if hasattr(layer, "gates") else (layer.attention(x),)
    return sum(part.numel() for part in parts)


@exercise("05.5", title="How many numbers a gate has", minutes=10, difficulty="easy", expects=dict)
def numbers_of_gates(answer: Mapping) -> str:
    """`answer` maps each kind to its gate numbers for one image with a map of COUNTED."""
    refuse_missing_keys(answer, KINDS)
    channels, height, width = COUNTED
    pixels, half = height * width, channels // 2
    right = {kind: gate_numbers(kind, *COUNTED) for kind in KINDS}
    values = {kind: channels * pixels for kind in KINDS}
    compare_parts(answer, right, {
        "you count the numbers after they are spread over the map; count them as they come out of the sigmoids": values,
        "SE and ECA compute one gate for each channel, not one for the whole map": {"SE": 1, "ECA": 1},
        "ECA's kernel is what it learns; it has as many gates as channels": {"ECA": adaptive_kernel_size(channels)},
        "CA's row gates and column gates are there in each channel": {"CA": height + width},
        "SA has gates for pixels in half of the channels, and gates for whole channels in the other half":
            {"SA": half * pixels},
        "in SA half of the channels have one gate each, but the other half has gates for its pixels": {"SA": half},
        "in SA the pixels of each channel have gates of their own; there is not one plane for all":
            {"SA": half + pixels},
        "Triplet pools each of the three axes in turn, so it has three planes": {"Triplet": pixels},
        "Triplet's third plane, that of rows and columns, is missing": {"Triplet": channels * (height + width)},
        "a plane of Triplet pools a maximum and a mean, but it gives one gate for each place, not two":
            {"Triplet": 2 * right["Triplet"]},
    })
    return "Of " + f"{values['SE']:,} values: " + ", ".join(f"{kind} {count:,}" for kind, count in right.items()) + "."


@exercise("05.6", title="ECA's kernel", minutes=10, difficulty="easy")
def kernel_rule(answer: Callable[..., int]) -> str:
    """`answer(channels, gamma, b)` gives the odd kernel of the paper's rule."""
    cases = [(channels, gamma, b) for gamma, b in ((2, 1), (1, 1), (2, 3)) for channels in
             (1, 4, 8, 16, 24, 32, 64, 96, 100, 128, 256, 320, 512, 960, 1024, 2048, 4096)]
    with watch() as seen:
        given = [answer(*case) for case in cases]
        usual = answer(256)
    refuse_ready_made(seen, ["adaptive_kernel_size"])
    got = [read_number(value, f"kernel_size{case}") for case, value in zip(cases, given, strict=True)]
    right = [adaptive_kernel_size(*case) for case in cases]
    if got == right:
        if read_number(usual, "kernel_size(256)") != adaptive_kernel_size(256):
            fail("right where gamma and b are given, but kernel_size(256) alone must take the paper's gamma = 2, b = 1")
        return f"Equal for {len(cases)} settings: with 64, 256 and 1024 channels " + ", ".join(
            str(adaptive_kernel_size(channels)) for channels in (64, 256, 1024)) + "."
    for reason, rule in RULE_MISTAKES.items():
        if all(math.isclose(rule(*case), value, abs_tol=1e-9) for case, value in zip(cases, got, strict=True)):
            fail(reason)
    place = next(i for i, (mine, other) in enumerate(zip(got, right, strict=True)) if mine != other)
    why = ("an even number, so that no channel would be in the middle" if got[place] % 2 == 0 else
           f"which is too {'small' if got[place] < right[place] else 'large'}")
    fail(f"kernel_size{cases[place]} gives {got[place]:g}, {why}")


def _odd_up(size: float) -> int:
    return int(size) if int(size) % 2 else int(size) + 1


RULE_MISTAKES: dict[str, Callable[[int, float, float], float]] = {
    "an even number goes up to the next odd one; you return it as it is":
        lambda c, g, b: int((math.log2(c) + b) / g),
    "an even number goes down in your rule; in the authors' it goes up":
        lambda c, g, b: int((math.log2(c) + b) / g) - (int((math.log2(c) + b) / g) % 2 == 0),
    "an odd number stays as it is; you add 1 to every one": lambda c, g, b: int((math.log2(c) + b) / g) + 1,
    "you round to the nearest whole number first; the digits after the point are cut off":
        lambda c, g, b: round((math.log2(c) + b) / g) + (round((math.log2(c) + b) / g) % 2 == 0),
    "you round up to a whole number first; the digits after the point are cut off":
        lambda c, g, b: _odd_up(math.ceil((math.log2(c) + b) / g)),
    "the result is not cut to a whole number": lambda c, g, b: (math.log2(c) + b) / g,
    "the logarithm is the natural one; the rule has base 2": lambda c, g, b: _odd_up((math.log(c) + b) / g),
    "the logarithm has base 10; the rule has base 2": lambda c, g, b: _odd_up((math.log10(c) + b) / g),
    "b is missing": lambda c, g, b: _odd_up(math.log2(c) / g),
    "gamma divides b as well as the logarithm": lambda c, g, b: _odd_up(math.log2(c) / g + b),
    "you multiply by gamma; the rule divides": lambda c, g, b: _odd_up((math.log2(c) + b) * g),
    "gamma and b are ignored: they are not always 2 and 1": lambda c, g, b: _odd_up((math.log2(c) + 1) / 2),
}
