"""Learning rates over a run, as shares of the peak."""
import math
from collections.abc import Callable
from dataclasses import dataclass

from lwcourse.train.validate import is_number, is_whole, plain

NAMED = ("'cosine', 'linear', 'poly:0.9' (the power 0.9 of 'linear'), 'constant', 'steps:30:0.1' (times 0.1 every 30 "
         "epochs), 'cyclic'")


def warmup_cosine(step: int, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of a step (from 0) as a share of its peak.

    It is (step + 1) / warmup_steps while warming up, then falls along half a cosine from 1 towards 0, which
    it would reach at `total_steps` (Loshchilov and Hutter 2017, without restarts).
    Raises ValueError unless 0 <= step <= total_steps and, past the warm-up, warmup_steps < total_steps.
    """
    if not 0 <= step <= total_steps or warmup_steps <= step and warmup_steps >= total_steps:
        raise ValueError(f"step {step} is in no run of {total_steps} steps, {warmup_steps} of them to warm up")
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))


def check_schedule(schedule: object) -> None:
    """Raise ValueError unless it is a function, or a name that `shares_by_name` knows."""
    if isinstance(schedule, str):
        kind, *numbers = schedule.split(":")
        if kind in ("cosine", "linear", "constant", "cyclic") and not numbers:
            return
        try:
            if kind == "poly" and len(numbers) == 1 and 0 < float(numbers[0]) < math.inf:
                return
            every, factor = map(float, numbers)
            if kind == "steps" and 0 < every < math.inf and 0 < factor <= 1:
                return
        except ValueError:
            pass
    if isinstance(schedule, str) or not callable(schedule):
        raise ValueError(f"schedule must be {NAMED}, or a function from the epoch to a share of lr, such as "
                         f"CyclicLinear(), got {schedule!r}")


def share_by_name(schedule: str, warmup_steps: int, steps: int, total_steps: int) -> Callable[[int], float]:
    """The share of the peak at a step (from 0) of a run of `total_steps`, `steps` an epoch; see `Recipe.schedule`."""
    kind, *numbers = schedule.split(":")
    if kind == "cosine":
        return lambda step: warmup_cosine(step, warmup_steps, total_steps)
    if kind == "steps":
        every, factor = map(float, numbers)
    power, cyclic = float(numbers[0]) if kind == "poly" else 1.0, CyclicLinear()

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if kind in ("linear", "poly"):
            return ((total_steps - step) / (total_steps - warmup_steps)) ** power
        if kind == "cyclic":
            return cyclic(step / steps)
        return factor ** (step / steps // every) if kind == "steps" else 1.0
    return share


@dataclass(frozen=True)
class CyclicLinear:
    """ESPNetv2's learning rate: it falls in equal steps, an epoch each, then starts again from the top.

    Within a cycle of `cycle` epochs the share goes from 1 to `lowest`; the first `warmup` epochs, before the
    first cycle, stay at `lowest`, since the top may diverge at the start. From each epoch in `halve_at`
    (counted from 0) on, everything is halved once more. The defaults are those of the authors' training on
    ImageNet, with lr=0.5: https://github.com/sacmehta/ESPNetv2, imagenet/LRSchedule.py.
    Source: Mehta et al., CVPR 2019, https://arxiv.org/abs/1811.11431.

    Raises ValueError for a cycle of less than 2 epochs, a `lowest` outside (0, 1], a negative `warmup`, and for what
    is no number.
    """
    cycle: int = 5
    lowest: float = 0.2
    warmup: int = 1
    halve_at: tuple[int, ...] = (51, 101, 131, 161, 191, 221, 251, 281)

    def __post_init__(self):
        if not is_whole(plain(self.cycle), 2):
            raise ValueError(f"cycle must be a whole number of at least 2 epochs, got {self.cycle!r}")
        if not is_number(plain(self.lowest), 0, 1) or self.lowest == 0:
            raise ValueError(f"lowest must be above 0 and at most 1, got {self.lowest!r}")
        if not is_whole(plain(self.warmup), 0):
            raise ValueError(f"warmup must be a whole number of at least 0 epochs, got {self.warmup!r}")
        epochs = self.halve_at if isinstance(self.halve_at, (tuple, list)) else (None,)
        if not all(is_number(plain(epoch), 0) for epoch in epochs):
            raise ValueError(f"halve_at must be a tuple of epochs, such as (51, 101), got {self.halve_at!r}")

    def __call__(self, epoch: float) -> float:
        """The share in `epoch`, counted from 0; 2.5 is the middle of the third."""
        place = (int(epoch) - self.warmup) % self.cycle if epoch >= self.warmup else self.cycle - 1
        share = 1 - (1 - self.lowest) * place / (self.cycle - 1)
        return share * 0.5 ** sum(epoch >= halving for halving in self.halve_at)
