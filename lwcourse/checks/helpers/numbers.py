"""Numbers and mappings of numbers: read from answers in any form, and compared with words for the usual mistakes."""
import math
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

from torch import nn

from lwcourse.checks import fail
from lwcourse.checks.helpers.answers import a_number, plain, shown
from lwcourse.profile import Profile

NEAR = 1e-2  # relative: as far as rounding takes the number that a mistake leads to


def refuse_missing_keys(answer: Mapping, keys: Iterable) -> None:
    """Refuse a dict that lacks some of `keys`; whatever else it holds does no harm."""
    missing = [key for key in keys if key not in answer]
    if missing:
        fail(f"the keys must be {', '.join(map(repr, keys))}; there is no {', '.join(map(repr, missing))}, only "
             f"{shown(list(answer)).strip('[]') or 'nothing'}")


def read_number(value: Any, label: str) -> float:
    """The number that `value` holds, whether of Python, NumPy or PyTorch; refused when it holds none."""
    if a_number(value):
        return plain(value)
    if isinstance(value, Profile):
        fail(f"{label}: this is a whole profile, not a number: read .macs or .params of it")
    if isinstance(value, nn.Module):
        fail(f"{label}: got {shown(value)}, not a number: profile it, and read .macs or .params")
    fail(f"{label}: got {shown(value)}, not a number" + ("; is the return missing?" if value is None else ""))


def compare_numbers(mine: Mapping[str, Any], right: Mapping[str, float],
                    mistakes: Mapping[str, Mapping[str, float]] | None = None,
                    hint: str = "", tolerance: float = 1e-9, *,
                    each: Mapping[str, Mapping[str, float]] | None = None) -> None:
    """Refuse unless every number that `right` names is right, within the relative `tolerance`.

    `mistakes` maps the words for a typical mistake to the numbers it leads to: the one that explains all of
    `mine` is named, and so are two labels whose numbers are exchanged. Else the reason tells the first wrong number
    and roughly how far off it is, not the right one. Numbers that are right earn their share.
    `each` maps a label to words and numbers for the mistakes that concern it alone.
    """
    got = {label: read_number(mine[label], label) for label in right}
    share = sum(math.isclose(got[label], right[label], rel_tol=tolerance) for label in right) / len(right)

    def agree(numbers: Mapping[str, float], within: float) -> bool:
        return all(math.isclose(got[label], numbers[label], rel_tol=within) for label in right)

    if agree(right, tolerance):
        return
    for within in (tolerance, max(tolerance, NEAR)):
        for reason, numbers in (mistakes or {}).items():
            if agree(numbers, within):
                fail(reason, hint, share)
    for a, b in combinations(right, 2):
        if right[a] != right[b] and agree({**right, a: right[b], b: right[a]}, tolerance):
            fail(f"{a} and {b} are exchanged: each stands under the other's name", hint, share)
    for label, expected in right.items():
        if not math.isclose(got[label], expected, rel_tol=tolerance):
            for reason, number in (each or {}).get(label, {}).items():
                if math.isclose(got[label], number, rel_tol=tolerance):
                    fail(f"{label}: {reason}", hint, share)
            fail(f"{label}: {got[label]:,} is {_how_far(got[label], expected)}", hint, share)


def usual_mistakes(right: Mapping[str, float], unit: str = "MACs") -> dict[str, dict[str, float]]:
    """`mistakes` for counts of `unit` (MACs or parameters): doubled, in millions, as ratios or shares."""
    first, total = next(iter(right.values())), sum(right.values())
    doubled = ("you count a multiply and an add as two; one MAC is both together" if unit == "MACs" else
               f"these are twice the {unit}")
    found = {
        doubled: {label: 2 * count for label, count in right.items()},
        f"these are millions of {unit}; give the counts themselves":
            {label: count / 1e6 for label, count in right.items()},
        f"these are thousands of {unit}; give the counts themselves":
            {label: count / 1e3 for label, count in right.items()},
    }
    if len(right) > 1 and first:
        found[f"these are ratios, each count divided by the first; give the {unit} themselves"] = {
            label: count / first for label, count in right.items()}
        found[f"these are ratios, the first count divided by each; give the {unit} themselves"] = {
            label: first / count if count else math.inf for label, count in right.items()}
    if total:
        found[f"these are shares of the whole; give the {unit} themselves"] = {
            label: count / total for label, count in right.items()}
    return found


def _how_far(got: float, expected: float) -> str:
    """Too large or too small, and roughly by how much: not so closely that it gives the right number away."""
    size = "too large" if got > expected else "too small"
    if got * expected <= 0 or not math.isfinite(got):
        return size
    factor = max(got / expected, expected / got)
    if factor < 1.5:
        return f"{size}, by less than half" if factor >= 1.005 else f"{size}, by less than 0.5 %"
    digits = -math.floor(math.log10(factor))
    return f"{size}, about {round(factor, digits):,.0f} times"
