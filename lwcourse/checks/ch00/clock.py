"""00.6: the ratio of two times, when the machine is not at rest."""
import random
from collections.abc import Callable, Sequence
from statistics import mean, median

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, read_number

TOLERANCE = 0.03
Times = tuple[list[float], list[float]]
MISTAKES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "you divide the means (or sums): one round that was disturbed pulls a mean as far as it likes":
        lambda a, b: mean(a) / mean(b),
    "you take the mean of the rounds' ratios: one round that was disturbed pulls it as far as it likes":
        lambda a, b: mean(x / y for x, y in zip(a, b, strict=True)),
    "you divide the medians: when the machine changes its speed, the two medians may come from rounds of different "
    "speed": lambda a, b: median(a) / median(b),
    "you divide the shortest times: they may come from rounds of different speed": lambda a, b: min(a) / min(b),
    "you divide the longest times, those that were disturbed most": lambda a, b: max(a) / max(b),
    "your quotient is upside down: `a` as a multiple of `b` is asked for":
        lambda a, b: median(y / x for x, y in zip(a, b, strict=True)),
    "you give a difference of times; a ratio is asked for": lambda a, b: median(a) - median(b),
    "you give the median of the differences; a ratio is asked for":
        lambda a, b: median(x - y for x, y in zip(a, b, strict=True)),
    "you look at the first round alone": lambda a, b: a[0] / b[0],
    "you look at the last round alone": lambda a, b: a[-1] / b[-1],
}


@exercise("00.6", title="A fair ratio", minutes=10, difficulty="medium", expects=a_function)
def fair_ratio(answer: Callable[[list[float], list[float]], float]) -> str:
    """`answer(a, b)`: how many times as long as the second network the first one takes, from times round by round."""
    cases = [(ratio, _rounds(ratio, seed)) for seed, ratio in enumerate((2.0, 0.8, 1.25))]
    got = [read_number(answer(list(a), list(b)), f"your ratio of {len(a)} rounds") for _, (a, b) in cases]
    if all(abs(one / ratio - 1) <= TOLERANCE for one, (ratio, _) in zip(got, cases, strict=True)):
        return "Three pairs of networks on a machine with two speeds, each within 3 %."
    hint = "both times of one round were taken at the same speed"
    for reason, mistaken in MISTAKES.items():
        if all(abs(one - mistaken(*times)) <= 1e-6 * abs(one) for one, (_, times) in zip(got, cases, strict=True)):
            fail(reason, hint)
    one, ratio = next((one, ratio) for one, (ratio, _) in zip(got, cases, strict=True)
                      if abs(one / ratio - 1) > TOLERANCE)
    fail(f"for a pair whose true ratio is {ratio}, yours is {one:.3g}", hint)


def _rounds(ratio: float, seed: int) -> Times:
    """Eleven rounds in ms: six at full speed, five at a third of it; `a` is disturbed in one of the fast ones, `b` was
    stopped in one of the slow ones, and in another fast one its clock ran short."""
    draw = random.Random(seed)
    slow = [1, 1, 3, 3, 1, 1, 3, 1, 3, 3, 1]
    b = [20 * factor * draw.uniform(0.995, 1.005) for factor in slow]
    a = [ratio * 20 * factor * draw.uniform(0.995, 1.005) for factor in slow]
    a[0] *= 3.5
    a[1] *= 3.2
    b[8] *= 40
    b[10] /= 1.6
    return a, b
