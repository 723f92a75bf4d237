"""What a learner's code calls while it runs: modules that it makes, parts of the course, functions and operators."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

COURSE = str(Path(__file__).parents[2])
CHECKS = str(Path(__file__).parents[1])
JOINS = (torch.cat, torch.concat, torch.concatenate)


@dataclass
class Watched:
    """`made`: modules that were built; `course`: qualified names of what ran of the course, as "ESP.forward" or "fold";
    `functions`: names of torch's functions; `operators`: names of PyTorch's operators, one a call; `joined`: the axes
    that torch.cat joined four-dimensional tensors along."""
    made: list[nn.Module] = field(default_factory=list)
    course: set[str] = field(default_factory=set)
    functions: list[str] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)

    @property
    def layers_made(self) -> list[nn.Module]:
        """Those of `made` that have weights of their own, which a slice of an nn.Sequential has not."""
        return [module for module in self.made if any(True for _ in module.parameters(recurse=False))]


class _Functions(TorchFunctionMode):
    def __init__(self, seen: Watched):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.seen.functions.append(getattr(func, "__name__", str(func)))
        if func in JOINS:
            tensors = args[0] if args else kwargs.get("tensors", ())
            axis = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0))
            if len(tensors) and isinstance(tensors[0], Tensor) and tensors[0].ndim == 4 and isinstance(axis, int):
                self.seen.joined.append(axis % 4)
        return func(*args, **kwargs)


class _Operators(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else PyTorch imports its compiler, for seconds, at the first use
        return False

    def __init__(self, seen: Watched):
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.operators.append(func._schema.name.split("::")[-1])
        return func(*args, **(kwargs or {}))


@contextmanager
def watch() -> Iterator[Watched]:
    """Watches what runs inside. Call a learner's function in it, and nothing of the check's own."""
    seen, profiler, construct = Watched(), sys.getprofile(), nn.Module.__init__

    def note(frame, event, _):
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(COURSE) and not name.startswith(CHECKS):
            seen.course.add(frame.f_code.co_qualname)

    def made(module, *args, **kwargs):
        seen.made.append(module)
        return construct(module, *args, **kwargs)

    nn.Module.__init__ = made
    sys.setprofile(note)
    try:
        with _Functions(seen), _Operators(seen):
            yield seen
    finally:
        sys.setprofile(profiler)
        nn.Module.__init__ = construct
