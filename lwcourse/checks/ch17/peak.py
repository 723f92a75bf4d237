"""Exercise 17.4: the peak of live maps."""
import random
from collections.abc import Callable, Mapping, Sequence

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import a_function, read_number

Operators = Sequence[tuple[tuple[str, ...], str]]
Sizes = Mapping[str, int]


def live(sizes: Sizes, operators: Operators, *, early: bool = False, output: bool = True,
         input_stays: bool = False) -> list[int]:
    """Bytes that live while each operator runs: a map from its writer to its last reader, the input from the start,
    the last map to the end. The options make the usual mistakes."""
    written = {name: i for i, (_, name) in enumerate(operators)}
    first = {name: written.get(name, -1) for name in sizes}
    last = dict(first)
    for i, (read, _) in enumerate(operators):
        for name in read:
            last[name] = i - early
    if output:
        last[operators[-1][1]] = len(operators)
    if input_stays:
        last |= {name: len(operators) for name in sizes if first[name] < 0}
    return [sum(size for name, size in sizes.items() if first[name] <= i <= max(last[name], first[name]))
            for i in range(len(operators))]


def _pairs(sizes: Sizes, operators: Operators) -> int:
    return max(sum(sizes[name] for name in {*read, name_of_output}) for read, name_of_output in operators)


MISTAKES: dict[str, Callable[[Sizes, Operators], int]] = {
    "you add up all maps; a map that nothing reads any more is freed": lambda s, o: sum(s.values()),
    "you take the largest map; while it is written, others live too": lambda s, o: max(s.values()),
    "you look at one operator's own maps; a map that a later operator reads lives on beside them": _pairs,
    "you free a map before its last reader runs; it must live while it is read":
        lambda s, o: max(live(s, o, early=True)),
    "you keep the input to the end; it may be freed after its last reader":
        lambda s, o: max(live(s, o, input_stays=True)),
    "you take the sum at the end, not the largest one": lambda s, o: live(s, o)[-1],
}


def graphs() -> list[tuple[Sizes, Operators]]:
    """A row, an inverted residual, two branches, and random ones."""
    found = [
        ({"x": 4, "a": 24, "b": 6, "y": 2}, [(("x",), "a"), (("a",), "b"), (("b",), "y")]),
        ({"x": 10, "e": 60, "d": 60, "p": 10, "y": 10},
         [(("x",), "e"), (("e",), "d"), (("d",), "p"), (("p", "x"), "y")]),
        ({"x": 8, "a": 16, "b": 16, "c": 32, "y": 1},
         [(("x",), "a"), (("x",), "b"), (("a", "b"), "c"), (("c",), "y")]),
    ]
    draw = random.Random(3)
    for _ in range(12):
        names, operators = ["x"], []
        for i in range(draw.randint(4, 9)):
            read = tuple(dict.fromkeys([names[-1], *draw.sample(names, k=draw.choice((0, 0, 1)))]))
            operators.append((read, f"m{i}"))
            names.append(f"m{i}")
        found.append(({name: draw.randint(1, 40) for name in names}, operators))
    return found


@exercise("17.4", title="The peak of live maps", minutes=20, difficulty="medium", expects=a_function)
def peak(answer: Callable[[Sizes, Operators], int]) -> str:
    """`answer(sizes, operators)` on small networks, each a list of operators."""
    cases = graphs()
    right = [max(live(*case)) for case in cases]
    got = []
    for sizes, operators in cases:
        given = dict(sizes), list(operators)
        got.append(read_number(answer(*given), f"peak of {len(operators)} operators"))
        if given != (sizes, operators):
            fail("your function changes the sizes or the operators that it is given; work on copies")
    if got != right:
        for reason, mistaken in MISTAKES.items():
            if got == [mistaken(*case) for case in cases]:
                fail(reason)
        (sizes, operators), found, expected = next(
            one for one in zip(cases, got, right, strict=True) if one[1] != one[2])
        steps = ", ".join(f"{'+'.join(read)} -> {name}" for read, name in operators)
        fail(f"for {steps} with sizes {sizes} your peak of {found:g} is too {'large' if found > expected else 'small'}",
             "write down, for each operator, which maps live while it runs")
    return f"Right for {len(cases)} networks, with shortcuts and branches."
