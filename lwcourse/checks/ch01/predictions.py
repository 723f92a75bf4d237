"""Exercise 01.6: six costs by hand."""
from collections.abc import Mapping
from typing import Any

from torch import nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import compare_parts, refuse_missing_keys
from lwcourse.profile import profile

IN, OUT, SIDE = 40, 80, 28  # channels, and pixels a side
PARAMS, STANDARD, DEPTHWISE, GROUPED, FACTORISED, SHARE = KEYS = (
    "standard 3x3, parameters", "standard 3x3, MACs", "depthwise 5x5, MACs", "1x1 in 4 groups, MACs",
    "1x7 then 7x1, MACs", "separable over standard, MACs")


@exercise("01.6", title="Six costs by hand", minutes=10, difficulty="easy", expects=dict)
def predictions(answer: Mapping[str, Any]) -> str:
    """Six numbers, of layers that are counted here."""
    refuse_missing_keys(answer, KEYS)
    right = _counted()
    pixels = SIDE**2
    compare_parts(answer, right, {
        "you count a multiply and an add as two; one MAC is both together":
            {key: 2 * right[key] for key in (STANDARD, DEPTHWISE, GROUPED, FACTORISED)},
        "your MACs leave out the pixels of the map; each weight is used once for every one of them":
            {key: right[key] / pixels for key in (STANDARD, DEPTHWISE, GROUPED, FACTORISED)},
        "your MACs use one side of the map; it has 28 x 28 pixels":
            {key: right[key] / SIDE for key in (STANDARD, DEPTHWISE, GROUPED, FACTORISED)},
        "your map has 26 x 26 pixels, as without padding; the padding here keeps 28 x 28":
            {key: right[key] / pixels * (SIDE - 2)**2 for key in (STANDARD, DEPTHWISE, GROUPED, FACTORISED)},
        "you count a bias; these layers have none": {PARAMS: right[PARAMS] + OUT},
        "you use the kernel's side once; a 3 x 3 filter has nine positions":
            {PARAMS: right[PARAMS] / 3, STANDARD: right[STANDARD] / 3},
        "you use the kernel's side once; a 5 x 5 filter has 25 positions": {DEPTHWISE: right[DEPTHWISE] / 5},
        "your depthwise convolution mixes the channels; each of its filters sees one channel":
            {DEPTHWISE: right[DEPTHWISE] * IN},
        "four groups change nothing in your count; a filter sees a quarter of the channels":
            {GROUPED: right[GROUPED] * 4},
        "you multiply by the groups; more groups make a convolution cheaper": {GROUPED: right[GROUPED] * 16},
        "you divide by the groups twice; there are fewer channels in a filter, but as many filters":
            {GROUPED: right[GROUPED] / 4},
        "you count one of the two layers of the factorised convolution": {FACTORISED: right[FACTORISED] / 2},
        "you count 7 x 7 positions; the factorised convolution has 7, and then 7 again":
            {FACTORISED: right[FACTORISED] * 49 / 14},
        "the share is upside down: divide the separable count by the standard one": {SHARE: 1 / right[SHARE]},
        "the share is in per cent; give it between 0 and 1": {SHARE: 100 * right[SHARE]},
        "the 1x1 is missing from the separable convolution": {SHARE: 1 / OUT},
        "the depthwise layer is missing from the separable convolution": {SHARE: 1 / 9},
        "your share has the input channels in it; the standard convolution has each 3 x 3 filter once for every "
        "output channel, the depthwise layer once in all": {SHARE: 1 / 9 + 1 / IN},
    }, hint="parameters first, then how often each of them is used", tolerance=1e-3)
    return "All six agree with lw.profile."


def _counted() -> dict[str, float]:
    def conv(out: int, kernel: int | tuple[int, int], groups: int = 1) -> nn.Conv2d:
        return nn.Conv2d(IN, out, kernel, padding="same", groups=groups, bias=False)

    def macs(*layers: nn.Module) -> int:
        return profile(nn.Sequential(*layers), (IN, SIDE, SIDE)).macs

    standard = conv(OUT, 3)
    return dict(zip(KEYS, (
        profile(standard, (IN, SIDE, SIDE)).params, macs(standard), macs(conv(IN, 5, IN)), macs(conv(OUT, 1, 4)),
        macs(conv(IN, (1, 7)), conv(IN, (7, 1))), macs(conv(IN, 3, IN), conv(OUT, 1)) / macs(standard)), strict=True))
