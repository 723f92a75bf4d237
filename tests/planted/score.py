"""How well `lw.compare` names the planted faults: `python tests/planted/score.py [PAIR ...] [--jobs N]`.

A pair without a fault must be equal. A fault is found when the networks are called different; its place and its
cause are right when the sentence matches the fault's regular expressions. A sentence that admits that it does not
know the cause names none, whatever words it uses.
"""
import argparse
import importlib
import pkgutil
import re
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

if __name__ == "__main__":  # run as a script: the folder that holds this package is not on the path
    sys.path.insert(0, str(Path(__file__).parents[1]))

import planted
from lwcourse import compare
from planted import Fault, Pair

VAGUE = r"is something else|none of the usual causes"


@dataclass(frozen=True)
class Result:
    """What `lw.compare` said of one network; `fault` is "" where none was planted."""
    pair: str
    fault: str
    equal: bool
    place: bool
    cause: bool
    sentence: str
    seconds: float

    @property
    def right(self) -> bool:
        return not self.equal and self.place and self.cause if self.fault else self.equal


def families() -> dict[str, Pair]:
    """Every pair of every module of this package, under its name. Raises ValueError when two have one name."""
    modules = [importlib.import_module(f"planted.{module.name}") for module in pkgutil.iter_modules(planted.__path__)]
    pairs = [pair for module in modules for part in ("PAIRS", "EQUAL") for pair in getattr(module, part, ())]
    by_name = {pair.name: pair for pair in pairs}
    if len(by_name) < len(pairs):
        raise ValueError(f"two pairs have one name in {sorted(pair.name for pair in pairs)}")
    return by_name


def images(pair: Pair) -> tuple[Tensor, ...]:
    """Random inputs of the pair's shapes, the same at every call."""
    generator = torch.Generator().manual_seed(7)
    shapes = pair.x if isinstance(pair.x[0], tuple) else (pair.x,)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def networks(pair: Pair, fault: str) -> tuple[nn.Module, nn.Module]:
    """The learner's network and the reference, the same at every call."""
    torch.manual_seed(0)
    mine = pair.mine(fault)
    return mine, pair.reference()


def judge(pair: Pair, fault: Fault | None) -> Result:
    """Compare one network with its reference. A refusal (ValueError) is a sentence too; other errors are failures."""
    mine, reference = networks(pair, fault.name if fault else "")
    inputs = images(pair)
    start, equal = time.process_time(), False
    try:
        comparison = compare(mine, reference, inputs if len(inputs) > 1 else inputs[0])
        equal, sentence = comparison.equal, comparison.first_difference or ""
    except ValueError as error:
        sentence = str(error)
    except Exception as error:  # a crash is a result: it is listed, and the others are still scored
        sentence = f"CRASH {type(error).__name__}"
    seconds = time.process_time() - start
    if fault is None:
        return Result(pair.name, "", equal, False, False, sentence, seconds)
    place = re.search(fault.place, sentence, re.DOTALL) is not None
    return Result(pair.name, fault.name, equal, place, names_cause(sentence, fault), sentence, seconds)


def names_cause(sentence: str, fault: Fault) -> bool:
    """Whether a sentence of `lw.compare` names the mistake."""
    return re.search(VAGUE, sentence) is None and re.search(fault.cause, sentence, re.DOTALL) is not None


def score(pairs: Iterable[Pair]) -> list[Result]:
    """The results of every pair: first without a fault, then with each."""
    return [judge(pair, fault) for pair in pairs for fault in (None, *pair.faults)]


def _judge_by_name(names: tuple[str, str]) -> Result:
    torch.set_num_threads(1)
    pair = families()[names[0]]
    return judge(pair, next((fault for fault in pair.faults if fault.name == names[1]), None))


def score_in_processes(pairs: Iterable[Pair], jobs: int) -> Iterator[Result]:
    """The same results as those of `score`, each when it is ready, by several processes of one thread each."""
    tasks = [(pair.name, fault) for pair in pairs for fault in ("", *(fault.name for fault in pair.faults))]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_judge_by_name, tasks)


def table(results: list[Result]) -> str:
    """A line for each pair, the failures beneath, and the totals at the end."""
    lines, failures = [f"{'pair':<16}{'equal':>6}{'faults':>8}{'found':>7}{'place':>7}{'cause':>7}{'seconds':>9}"], []
    for name in dict.fromkeys(result.pair for result in results):
        whole, *planted_ = [result for result in results if result.pair == name]
        lines.append(f"{name:<16}{'yes' if whole.equal else 'NO':>6}" + _counts(planted_)
                     + f"{whole.seconds + sum(result.seconds for result in planted_):9.1f}")
        failures += [_failure(result) for result in (whole, *planted_) if not result.right]
    wholes, faulty = [r for r in results if not r.fault], [r for r in results if r.fault]
    slowest = max(results, key=lambda result: result.seconds)
    total = (f"{sum(r.equal for r in wholes)} of {len(wholes)} pairs equal; of {len(faulty)} faults "
             f"{sum(not r.equal for r in faulty)} found, {sum(not r.equal and r.place for r in faulty)} places right, "
             f"{sum(r.right for r in faulty)} named rightly; {sum(r.seconds for r in results):.0f} s of CPU, "
             f"the slowest {slowest.seconds:.1f} s ({slowest.pair}:{slowest.fault})")
    return "\n".join([*lines, "", *failures, "", total])


def _counts(results: list[Result]) -> str:
    """How many faults there are, were found, have their place named, have their cause named (and the place)."""
    return (f"{len(results):8}{sum(not r.equal for r in results):7}{sum(not r.equal and r.place for r in results):7}"
            f"{sum(r.right for r in results):7}")


def _failure(result: Result) -> str:
    if not result.fault:
        return f"{result.pair} NOT EQUAL: {result.sentence}"
    wrong = "missed" if result.equal else " and ".join(
        word for word, right in (("place", result.place), ("cause", result.cause)) if not right)
    return f"{result.pair}:{result.fault} ({wrong}): {result.sentence}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Score lw.compare on the planted faults.")
    parser.add_argument("pairs", nargs="*", metavar="PAIR", help="names of pairs, or pair:fault; all if none is given")
    parser.add_argument("--jobs", type=int, default=1, help="processes (of one thread each)")
    parser.add_argument("--list", action="store_true", help="only list the pairs and their faults")
    parser.add_argument("--all", action="store_true", help="print every sentence as it comes, the right ones too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = families()
    chosen = choose(known, arguments.pairs) if arguments.pairs else list(known.values())
    if arguments.list:
        for pair in chosen:
            print(pair.name, *(f"    {fault.name}: {fault.what}" for fault in pair.faults), sep="\n")
        return
    results = []
    for r in score_in_processes(chosen, arguments.jobs):
        results.append(r)
        if arguments.all:
            print(f"{'ok ' if r.right else 'BAD'} {r.pair}:{r.fault} {r.seconds:.1f} s: {r.sentence}", flush=True)
    print(table(results))


def choose(known: dict[str, Pair], names: list[str]) -> list[Pair]:
    """The pairs of these names; of pair:fault, with the named faults alone. Raises SystemExit for other names."""
    wanted: dict[str, list[Fault]] = {}
    for name in names:
        pair, _, fault = name.partition(":")
        faults = known[pair].faults if pair in known else ()
        if pair not in known or (fault and fault not in [f.name for f in faults]):
            raise SystemExit(f"there is no {name!r}; --list lists the pairs and their faults")
        wanted.setdefault(pair, []).extend(f for f in faults if not fault or f.name == fault)
    return [replace(known[pair], faults=tuple(dict.fromkeys(faults))) for pair, faults in wanted.items()]


if __name__ == "__main__":
    main()
