"""Exercise 17.2: bounds by hand."""
from collections.abc import Mapping
from typing import Any

from torch import nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import compare_parts, refuse_missing_keys
from lwcourse.profile import profile

PEAK, BANDWIDTH, CALL = 50e9, 10e9, 5e-6  # of an imagined machine: MACs and bytes per second, seconds a call
CHANNELS, SIDE, SMALL = 64, 56, 7
ARITHMETIC, MEMORY, INTENSITY, DEPTHWISE, BATCH, LONGEST = KEYS = (
    "1x1: arithmetic", "1x1: memory", "1x1: MACs per byte", "depthwise: the longer bound",
    "1x1, batch 16: arithmetic of one image", "small depthwise: the longest of three")
TIMES = (ARITHMETIC, MEMORY, DEPTHWISE, BATCH, LONGEST)


@exercise("17.2", title="Bounds by hand", minutes=15, difficulty="easy", expects=dict)
def predictions(answer: Mapping[str, Any]) -> str:
    """Six numbers, five of them in microseconds."""
    refuse_missing_keys(answer, KEYS)
    right = _right()
    one, filters = _cost(1, SIDE), _cost(CHANNELS, SIDE)
    maps = 4 * CHANNELS * SIDE**2
    compare_parts(answer, right, {
        "your times are in seconds; give microseconds": {key: right[key] / 1e6 for key in TIMES},
        "your times are in milliseconds; give microseconds": {key: right[key] / 1e3 for key in TIMES},
        "you count a multiply and an add as two; the machine's peak is in MACs":
            {ARITHMETIC: 2 * right[ARITHMETIC], INTENSITY: 2 * right[INTENSITY], BATCH: 2 * right[BATCH]},
        "you count numbers, not bytes; a 32-bit number has four":
            {MEMORY: right[MEMORY] / 4, INTENSITY: 4 * right[INTENSITY], DEPTHWISE: right[DEPTHWISE] / 4},
        "you count one map; the input is read and the output is written":
            {MEMORY: 1e6 * (one.traffic_bytes - maps) / BANDWIDTH,
             DEPTHWISE: 1e6 * (filters.traffic_bytes - maps) / BANDWIDTH,
             INTENSITY: one.macs / (one.traffic_bytes - maps)},
        "the intensity is upside down: MACs divided by bytes": {INTENSITY: 1 / right[INTENSITY]},
        "the longer bound of the depthwise layer is asked, not the shorter one": {DEPTHWISE: 1e6 * filters.macs / PEAK},
        "you add the two bounds; arithmetic and memory work at the same time, so the longer one counts":
            {DEPTHWISE: 1e6 * filters.macs / PEAK + right[DEPTHWISE]},
        "your depthwise layer mixes the channels; each of its filters sees one":
            {DEPTHWISE: CHANNELS * 1e6 * filters.macs / PEAK},
        "you give the arithmetic of 16 images; asked is that of one of them": {BATCH: 16 * right[BATCH]},
        "a batch does not divide the arithmetic of an image: each image needs all its MACs": {BATCH: right[BATCH] / 16},
        "you leave out the fixed cost of the call": {LONGEST: _memory(CHANNELS, SMALL)},
        "you add the fixed cost to a bound; asked is the longest of the three": {
            LONGEST: 1e6 * CALL + _memory(CHANNELS, SMALL)},
    }, hint="microseconds are 1e6 times seconds; count the MACs and the bytes first", tolerance=2e-3)
    return "All six follow from MACs, bytes and three numbers of the machine."


def _cost(groups: int, side: int):
    kernel = 3 if groups > 1 else 1
    conv = nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=groups, bias=False)
    return profile(conv, (CHANNELS, side, side))


def _memory(groups: int, side: int) -> float:
    return 1e6 * _cost(groups, side).traffic_bytes / BANDWIDTH


def _right() -> dict[str, float]:
    one = _cost(1, SIDE)
    arithmetic = 1e6 * one.macs / PEAK
    return {ARITHMETIC: arithmetic, MEMORY: _memory(1, SIDE), INTENSITY: one.macs / one.traffic_bytes,
            DEPTHWISE: max(1e6 * _cost(CHANNELS, SIDE).macs / PEAK, _memory(CHANNELS, SIDE)), BATCH: arithmetic,
            LONGEST: max(1e6 * CALL, 1e6 * _cost(CHANNELS, SMALL).macs / PEAK, _memory(CHANNELS, SMALL))}
