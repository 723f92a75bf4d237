"""Networks as learners write them, each with mistakes that can be planted, and what `lw.compare` must say of each."""
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Pair:
    """A learner's network without a fault, and the reference that it equals.

    `mine(fault)` builds the learner's network, with the fault of that name planted ("" is none); `x` is the
    shape of the input, or a tuple of shapes.
    """
    name: str
    mine: Callable[[str], nn.Module]
    reference: Callable[[], nn.Module]
    x: tuple
    faults: tuple["Fault", ...] = ()


@dataclass(frozen=True)
class Fault:
    """A planted mistake. `place` and `cause` are regular expressions that `first_difference` must match.

    `place` is the learner's layer that the sentence must name as the one at, before or after which the networks
    part; `cause` the words that name the mistake. Several right wordings are joined by |.
    """
    name: str
    what: str
    place: str
    cause: str
