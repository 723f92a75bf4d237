"""Explorer of learning rates over a run: peak, warm-up, and what comes after it."""
import math
from statistics import mean

from lwcourse import viz
from lwcourse.tables import html_table
from lwcourse.train.schedules import share_by_name
from lwcourse.widgets.explorer import Explorer, dropdown, slider

__all__ = ["ScheduleExplorer"]

KINDS = {"cosine": "cosine", "linear": "linear", "constant": "constant", "steps, × 0.1": "steps:{every}:0.1"}


class ScheduleExplorer(Explorer):
    """Chapter 14: the learning rate of each step, beside the cosine with the same peak and warm-up."""

    STEPS = 50  # an epoch

    def __init__(self, kind: str = "cosine", peak: float = 0.4, epochs: int = 6, warmup: float = 1.0):
        super().__init__({
            "kind": dropdown("after the warm-up", list(KINDS), kind),
            "peak": slider("peak", peak, 0.05, 2.0, 0.05),
            "epochs": slider("epochs", epochs, 2, 30, 1),
            "warmup": slider("warm-up (epochs)", warmup, 0.0, 5.0, 0.25),
        }, self._explore)

    @classmethod
    def rates(cls, kind: str, peak: float, epochs: int, warmup: float) -> list[float]:
        """The learning rate of each step. Raises ValueError unless the warm-up ends before the run does."""
        if warmup >= epochs:
            raise ValueError(f"a warm-up of {warmup:g} epochs does not fit into a run of {epochs}")
        name = KINDS[kind].format(every=max(1, math.ceil(epochs / 3)))
        share = share_by_name(name, round(warmup * cls.STEPS), cls.STEPS, epochs * cls.STEPS)
        return [peak * share(step) for step in range(epochs * cls.STEPS)]

    @classmethod
    def _explore(cls, kind: str, peak: float, epochs: int, warmup: float) -> tuple[viz.Figure, str]:
        mine, cosine = cls.rates(kind, peak, epochs, warmup), cls.rates("cosine", peak, epochs, 0.0)
        figure = viz.run_curves({kind: mine, "cosine without warm-up": cosine}, ylabel="learning rate",
                                title=f"{epochs} epochs of {cls.STEPS} steps, peak {peak:.2f}")
        rows = [("", kind, "cosine without warm-up")]
        for words, read in (("first step", lambda rates: rates[0]), ("mean", mean),
                            ("last step", lambda rates: rates[-1]),
                            ("steps above half of the peak", lambda rates: sum(rate > peak / 2 for rate in rates))):
            rows.append((words, *(f"{read(rates):.4g}" for rates in (mine, cosine))))
        return figure, html_table(rows)
