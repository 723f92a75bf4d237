"""Eager latency of the course's networks beside the package networks that they equal, with the same weights."""
import ctypes
import sys
from collections.abc import Iterator, Sequence

import torch
from torch import nn

import lwcourse as lw
from lwcourse.latency import Latencies
from lwcourse.references import REFERENCES
from lwcourse.running import check_threads, whole_number
from lwcourse.tables import counted, text_table

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LIMIT = 1.05  # ours may take that many times as long as the peer's


def same_weights(name: str) -> tuple[nn.Module, nn.Module, str]:
    """Our network and its first reference, holding equal weights, and the reference's label.

    Raises ValueError when the network is compared with stored outputs only.
    """
    if not REFERENCES.get(lw.model_card(name).name):
        raise ValueError(f"{name} has no package to race with, only stored outputs of the official code")
    reference = REFERENCES[lw.model_card(name).name][0]
    torch.manual_seed(0)
    theirs = reference.build(reference.classes[0])
    ours = lw.create_model(name, reference.classes[0], **reference.arguments)
    lw.transfer_weights(theirs, ours, torch.randn(1, *lw.model_card(name).input_size))
    return ours.eval(), theirs.eval(), reference.label


def race(names: Sequence[str], *, batches: Sequence[int] = (1, 16), rounds: int = 40, seconds: float = 20.0,
         threads: int | None = None) -> Iterator[tuple[str, str, str, int, Latencies]]:
    """(name, reference, layout, batch, latencies of "ours" and "peer") for each combination, interleaved.

    A large network gets fewer `rounds`, 6 at least, so that a combination takes about `seconds`.
    """
    for name in names:
        ours, theirs, label = same_weights(name)
        for layout, memory_format in LAYOUTS.items():
            networks = {"ours": ours.to(memory_format=memory_format), "peer": theirs.to(memory_format=memory_format)}
            for batch in batches:
                x = torch.randn(batch, *lw.model_card(name).input_size).to(memory_format=memory_format)
                first = lw.measure_latency(networks, x, rounds=2, warmup=1, threads=threads)
                turns = min(rounds, max(6, int(seconds / sum(latency.median for latency in first.values()))))
                both = lw.measure_latency(networks, x, rounds=turns, warmup=1, threads=threads)
                yield name, label, layout, batch, both


def check_options(*, batches: Sequence[int] = (1,), rounds: int = 40, seconds: float = 20.0,
                  threads: int | None = None) -> None:
    """Raise ValueError for options of `race` that nothing can be measured with."""
    for batch in batches:
        whole_number("batches", batch, 1)
    whole_number("rounds", rounds, 2)
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
        raise ValueError(f"seconds must be a positive number, got {seconds!r}")
    if threads is not None:
        check_threads(threads)


def keep_memory() -> None:
    """Let the process keep the memory that it frees, where its malloc is that of glibc; until the process ends.

    Large maps otherwise come anew from the kernel for each operation, page by page. With 16 images that costs a tenth
    of the time and more, and chance decides which of two equal networks pays it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: nothing is mapped by itself, to be unmapped when freed
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing is given back at the end of the heap


def report(names: Sequence[str] | None = None, **options) -> tuple[str, bool]:
    """The table of all races as text, and whether every ratio keeps within LIMIT.

    `names` defaults to every network that has a peer in a package, but for those of adders: the peers that
    these have take minutes for an image.
    """
    check_options(**options)
    names = names or [name for name in sorted(REFERENCES) if not lw.model_card(name).counted_adds]
    for name in names:
        lw.model_card(name)  # an unknown one is refused before the first is measured
    rows = [("network", "peer", "layout", "batch", "ours", "peer", "ratio")]
    ratios = []
    for name, label, layout, batch, both in race(names, **options):
        ratios.append(both.ratio("ours", "peer"))
        rows.append((name, label, layout, str(batch), f"{1e3 * both['ours'].median:.1f} ms",
                     f"{1e3 * both['peer'].median:.1f} ms", f"{ratios[-1]:.3f}"))
    mean = torch.tensor(ratios).log().mean().exp().item()
    threads = f"{counted(both.threads, 'thread')}, {both.device}"
    return (f"{text_table(rows, left=3)}\nmedian over rounds of the ratio ours / peer, {threads}; "
            f"geometric mean {mean:.3f}, largest {max(ratios):.3f}, limit {LIMIT}"), max(ratios) <= LIMIT
