"""Exercise 17.3: name the limit."""
from collections.abc import Callable

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, shown
from lwcourse.roofline import Roofline, RooflinePoint

COMPUTE, MEMORY, CALLS, KERNEL = LIMITS = ("compute", "memory", "fixed cost per call", "kernel efficiency")
PEAK, BANDWIDTH, CALL = 40e9, 10e9, 1e-5
# (MACs, bytes, calls, seconds)
LAYERS = ((40_000_000, 2_000_000, 1, 1.1e-3), (40_000_000, 2_000_000, 1, 1.8e-3), (4_000_000, 5_000_000, 1, 8e-4),
          (4_000_000, 5_000_000, 1, 3e-3), (40_000, 4_000, 1, 1.2e-5), (40_000, 4_000, 1, 1.9e-5),
          (40_000, 4_000, 1, 6e-5), (400_000, 4_000, 9, 1.5e-4), (400_000, 4_000, 2, 1.5e-4),
          (80_000_000, 1_000_000, 1, 9e-3), (400_000, 50_000, 1, 1.5e-5), (0, 3_000_000, 1, 5e-4),
          (40_000, 4_000, 1, 9e-6), (40_000_000, 8_000_000, 1, 2.8e-3), (40_000_000, 2_000_000, 1, 9.9e-4))


def _right(macs: float, moved: float, calls: int, seconds: float) -> str:
    roof = Roofline(PEAK, BANDWIDTH, "an imagined machine", 1, call_seconds=CALL)
    return RooflinePoint("a layer", "Conv2d", macs, moved, seconds, roof, calls).limit


def _two(macs: float, moved: float) -> tuple[float, float]:
    return macs / PEAK, moved / BANDWIDTH


def _by_bounds_alone(macs: float, moved: float, calls: int, seconds: float) -> str:
    compute, memory = _two(macs, moved)
    return MEMORY if memory > compute else COMPUTE


def _shorter(macs: float, moved: float, calls: int, seconds: float) -> str:
    compute, memory = _two(macs, moved)
    found = _right(macs, moved, calls, seconds)
    return found if found not in (COMPUTE, MEMORY) else MEMORY if memory < compute else COMPUTE


def _of_the_shorter(macs: float, moved: float, calls: int, seconds: float) -> str:
    compute, memory = _two(macs, moved)
    if seconds <= 2 * min(compute, memory):
        return MEMORY if memory > compute else COMPUTE
    return CALLS if 2 * calls * CALL >= seconds else KERNEL


def _calls_first(macs: float, moved: float, calls: int, seconds: float) -> str:
    return CALLS if 2 * calls * CALL >= seconds else _right(macs, moved, calls, seconds)


def _one_call(macs: float, moved: float, calls: int, seconds: float) -> str:
    return _right(macs, moved, 1, seconds)


def _no_calls(macs: float, moved: float, calls: int, seconds: float) -> str:
    found = _right(macs, moved, calls, seconds)
    return KERNEL if found == CALLS else found


def _no_slack(macs: float, moved: float, calls: int, seconds: float) -> str:
    compute, memory = _two(macs, moved)
    if seconds <= max(compute, memory):
        return MEMORY if memory > compute else COMPUTE
    return CALLS if 2 * calls * CALL >= seconds else KERNEL


def _whole_call(macs: float, moved: float, calls: int, seconds: float) -> str:
    found = _right(macs, moved, calls, seconds)
    return found if found != CALLS or calls * CALL >= seconds else KERNEL


MISTAKES = {
    "you look at the two bounds alone; a layer that takes more than twice the longer one is held by neither":
        _by_bounds_alone,
    "you name the shorter of the two bounds; the longer one holds the layer": _shorter,
    "you compare the time with the shorter bound; it is the longer one that no layer can beat": _of_the_shorter,
    "you ask for the calls first; a layer near its longer bound is held by that, whatever its calls cost": _calls_first,
    "you take one call for every layer; `calls` says how many there are": _one_call,
    "\"fixed cost per call\" never comes out of your function": _no_calls,
    "you leave no room above the bound; up to twice the longer bound counts as near to it": _no_slack,
    "the calls need not take all of the time; half of it is enough": _whole_call,
}


@exercise("17.3", title="Name the limit", minutes=10, difficulty="easy", expects=a_function)
def limit(answer: Callable[..., str]) -> str:
    """`answer(macs, moved, calls, seconds, peak, bandwidth, call_seconds)` -> one of LIMITS."""
    got = []
    for layer in LAYERS:
        found = answer(*layer, PEAK, BANDWIDTH, CALL)
        if found not in LIMITS:
            fail(f"limit{(*layer, PEAK, BANDWIDTH, CALL)} gives {shown(found)}, not one of {', '.join(LIMITS)}"
                 + ("; is the return missing?" if found is None else ""))
        got.append(found)
    right = [_right(*layer) for layer in LAYERS]
    if got != right:
        for reason, mistaken in MISTAKES.items():
            if got == [mistaken(*layer) for layer in LAYERS]:
                fail(reason)
        layer, found, expected = next(one for one in zip(LAYERS, got, right, strict=True) if one[1] != one[2])
        compute, memory = (1e6 * bound for bound in _two(*layer[:2]))
        fail(f"a layer of {1e6 * layer[3]:.0f} us, whose bounds are {compute:.0f} us (arithmetic) and {memory:.0f} us "
             f"(memory), with {layer[2]} call(s) of 10 us: you say {found!r}")
    again = answer(*LAYERS[2], PEAK / 100, BANDWIDTH, CALL)
    if again != COMPUTE:
        fail("on a machine with a hundredth of the peak your function says the same; use `peak`, `bandwidth` and "
             "`call_seconds`, not numbers of your own")
    return f"Right for {len(LAYERS)} layers, with all four limits among them."
