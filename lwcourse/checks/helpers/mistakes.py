"""Words for the usual mistakes in a block: a block that makes the mistake stands beside the reference."""
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from lwcourse.checks import CheckFailed, fail
from lwcourse.compare import compare_copies


@contextmanager
def naming_mistakes(mine: Callable[..., nn.Module], mistakes: Mapping[str, Callable[..., nn.Module]],
                    cases: Sequence[tuple[tuple, tuple[int, ...]]]) -> Iterator[None]:
    """Where the comparison inside refuses the class `mine`, name its mistake, if it is one of `mistakes`.

    `mistakes` maps the reason to a class that makes the mistake; the first that computes what `mine` does, from the
    same weights in eval mode, in every case, is named; cases where it raises ValueError, as there is no such mistake,
    are left out. Cases as in `compare_blocks`.
    """
    try:
        yield
    except CheckFailed:
        for reason, mistaken in mistakes.items():
            verdicts = set()
            for case in cases:
                verdicts.add(_same(mine, mistaken, *case))
                if False in verdicts:
                    break
            if True in verdicts and False not in verdicts:
                fail(reason)
        raise


def _same(mine: Callable[..., nn.Module], mistaken: Callable[..., nn.Module], arguments: tuple,
          shape: tuple[int, ...]) -> bool | None:
    """None where the mistaken block says by a ValueError that it makes no sense."""
    try:
        theirs = mistaken(*arguments).eval()
        with torch.no_grad():
            theirs(torch.randn(shape))
    except ValueError:
        return None
    except RuntimeError:  # it breaks here, and so `mine`, which runs, does something else
        return False
    try:
        ours = mine(*arguments)
        counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (ours, theirs)]
        return counts[0] == counts[1] and compare_copies(ours, theirs, torch.randn(shape))[0].equal
    except Exception:  # what cannot run is told by the refusal inside
        return False
