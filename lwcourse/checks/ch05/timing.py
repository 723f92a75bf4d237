"""05.3: what a gate costs in time."""
import math
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    read_number,
    refuse_missing_keys,
    shown,
)
from lwcourse.layers import (
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SqueezeExcitation,
    TripletAttention,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.profile import profile

KINDS: dict[str, Callable[[int], nn.Module]] = {
    "SE": SqueezeExcitation, "ECA": EfficientChannelAttention, "CA": CoordinateAttention,
    "SA": partial(ShuffleAttention, groups=8), "Triplet": TripletAttention}
REASONS = ("MACs", "parameters", "passes over memory")
SIZE = (16, 56, 56)
SLOW_BECAUSE = {"SA": "SA reads and writes the map several times, where SE and ECA read it twice and write it once",
                "Triplet": "Triplet takes maxima along three axes, and its convolutions of two channels waste most of "
                           "the processor"}


@exercise("05.3", title="What a gate costs in time", minutes=15, difficulty="medium", expects=dict)
def time_of_gates(answer: Mapping) -> str:
    """`answer` maps the kinds to time with the gate / time without, and "why" to one of REASONS.

    Nothing is measured here: only signs and wide orders of the learner's own times are judged.
    """
    refuse_missing_keys(answer, (*KINDS, "why"))
    ratios = {kind: float(read_number(answer[kind], kind)) for kind in KINDS}
    if not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios.values()):
        fail("a ratio of two times is a positive number")
    _refuse_no_ratios(ratios)
    free = [kind for kind in ("SA", "Triplet") if ratios[kind] < 1.02]
    if free:
        fail(f"{free[0]} takes no time by your numbers. It has hardly a MAC or a parameter, but reads and writes the "
             "map several times: measure it")
    for slow, fast in (("Triplet", "SE"), ("Triplet", "ECA"), ("Triplet", "SA"), ("Triplet", "CA"), ("SA", "SE"),
                       ("SA", "ECA")):
        if ratios[slow] <= ratios[fast]:
            fail(f"by your numbers {fast} takes as long as {slow} or longer. {SLOW_BECAUSE[slow]}, on every machine: "
                 "measure again, all blocks in one call, and with more rounds")
    if not isinstance(answer["why"], str) or answer["why"].strip().lower() not in [one.lower() for one in REASONS]:
        fail(f"\"why\" must be one of {', '.join(map(repr, REASONS))}, got {shown(answer['why'])}", share=0.5)
    if answer["why"].strip().lower() != REASONS[-1].lower():
        culprit = ("shuffle attention has not one MAC" if answer["why"].strip().lower() == "macs"
                   else "CA has the most of them, and shuffle attention hardly any")
        fail(f"\"why\" cannot be {answer['why']}: {culprit}, and look at its time", share=0.5)
    spent = {kind: profile(build(6 * SIZE[0]), (6 * SIZE[0], *SIZE[1:])) for kind, build in KINDS.items()}
    bytes_of_a_map = 4 * 6 * math.prod(SIZE)
    return "Bytes moved, in copies of the map: " + ", ".join(
        f"{kind} {cost.traffic_bytes / bytes_of_a_map / 2:.1f}" for kind, cost in spent.items()) + "."


def _refuse_no_ratios(ratios: Mapping[str, float]) -> None:
    """Refuse other quantities than time with the gate / time without."""
    counted = {kind: profile(GatedBlock(build), SIZE) for kind, build in KINDS.items()}
    bare = profile(GatedBlock(None), SIZE)
    if all(abs(ratios[kind] - counted[kind].macs / bare.macs) < 2e-3 for kind in KINDS):
        fail("these are ratios of MACs; the question is for time")
    if all(abs(ratios[kind] - counted[kind].params / bare.params) < 2e-3 for kind in KINDS):
        fail("these are ratios of parameters; the question is for time")
    if all(ratio > 3 for ratio in ratios.values()):  # ECA takes no three times the block's time anywhere
        fail("these look like milliseconds, or percent; give the time with the gate, divided by the time without")
    if all(ratio < 0.05 for ratio in ratios.values()):
        fail("these look like seconds; give the time with the gate, divided by the time without")
    if ratios["Triplet"] > 1.02 and ratios["SE"] < 0.75 and ratios["ECA"] < 0.75:
        fail("these look like the added share, the ratio minus 1; give the time with the gate, divided by the time "
             "without")
    if max(ratios.values()) < 0.98:
        fail("all are below 1, so that every gate would save time: is the division upside down?")


class GatedBlock(InvertedResidual):
    """16 channels, expanded six times, with a gate after the filter; `build` None is the block without."""

    def __init__(self, build: Callable[[int], nn.Module] | None):
        super().__init__(16, 16, 1, 6)
        self.attention = build(96) if build else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.attention(self.depthwise(self.expand(x))))
