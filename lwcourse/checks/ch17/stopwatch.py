"""Exercise 17.5: a stopwatch that lies."""
from collections.abc import Callable
from math import isclose
from statistics import fmean, median

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, read_number

# (seconds of one call after the other, rounds, warm-up): slow first calls, and one that another program disturbed
CASES = (((9.0, 4.0, 1.0, 1.5, 7.0, 1.25, 1.75), 5, 2), ((6.0, 2.0, 2.5, 11.0, 3.0), 4, 1),
         ((0.5, 0.25, 0.75, 3.0), 4, 0), ((8.0, 8.0, 8.0, 1.0, 2.0, 4.0), 3, 3))


class _Clock:
    """A clock that stands still but for what runs; it counts how often it was asked, and what ran."""

    def __init__(self, durations: tuple[float, ...]):
        self.now, self.runs, self.asked, self._durations = 100.0, 0, 0, durations

    def __call__(self) -> float:
        self.asked += 1
        return self.now

    def run(self) -> None:
        self.now += self._durations[self.runs] if self.runs < len(self._durations) else 50.0
        self.runs += 1


def _low_median(times: tuple[float, ...]) -> float:
    return sorted(times)[(len(times) - 1) // 2]


def _high_median(times: tuple[float, ...]) -> float:
    return sorted(times)[len(times) // 2]


MISTAKES: dict[str, Callable[[tuple[float, ...], int, int], float]] = {
    "you take the mean; a single disturbed round moves it. Take the median":
        lambda durations, rounds, warmup: fmean(durations[warmup:]),
    "you take the shortest time; it is a lucky round. Take the median":
        lambda durations, rounds, warmup: min(durations[warmup:]),
    "the rounds of the warm-up are among your times": lambda durations, rounds, warmup: median(durations),
    "the warm-up is in your time, and you take the mean": lambda durations, rounds, warmup: fmean(durations),
    "the warm-up is in your time, though you divide by the rounds alone":
        lambda durations, rounds, warmup: sum(durations) / rounds,
    "you give the time of all rounds together": lambda durations, rounds, warmup: sum(durations[warmup:]),
    "with an even number of rounds the median lies between the two in the middle; you take the lower one, as "
    "torch.median does": lambda durations, rounds, warmup: _low_median(durations[warmup:]),
    "with an even number of rounds the median lies between the two in the middle; you take the upper one":
        lambda durations, rounds, warmup: _high_median(durations[warmup:]),
}


@exercise("17.5", title="A stopwatch that lies", minutes=10, difficulty="medium", expects=a_function)
def stopwatch(answer: Callable[..., float]) -> str:
    """`answer(run, rounds, warmup, clock)`, with a clock of the check's own."""
    got = []
    for durations, rounds, warmup in CASES:
        clock = _Clock(durations)
        seconds = read_number(answer(clock.run, rounds, warmup, clock), f"seconds with {rounds} rounds")
        if clock.asked == 0:
            fail("your function never asks `clock`; another clock cannot be checked, nor replaced by a better one")
        if clock.runs != rounds + warmup:
            fail(f"with rounds={rounds} and warmup={warmup}, `run` was called {clock.runs} times; it must run once for "
                 "each round, and once for each round of the warm-up")
        got.append(seconds)
    right = [median(durations[warmup:]) for durations, _, warmup in CASES]
    if not _same(got, right):
        for reason, mistaken in MISTAKES.items():
            if _same(got, [mistaken(*case) for case in CASES]):
                fail(reason)
        wrong = next(i for i, found in enumerate(got) if not _same([found], [right[i]]))
        (durations, rounds, warmup), found = CASES[wrong], got[wrong]
        fail(f"where the calls take {', '.join(f'{one:g}' for one in durations)} s, with rounds={rounds} and "
             f"warmup={warmup}, your time is {found:g} s")
    return "Right with slow first calls and with disturbed rounds."


def _same(mine: list[float], other: list[float]) -> bool:
    return all(isclose(a, b, rel_tol=1e-6) for a, b in zip(mine, other, strict=True))
