"""What several checks use: predicates for `expects=`, and comparisons that explain.

    @exercise("02.1", title="Inverted residual", minutes=20, difficulty="medium", expects=a_module_class)
    def inverted_residual(answer):
        compare_blocks(answer, InvertedResidual, [((16, 24, 2, 6), (2, 16, 9, 12)), ((24, 24, 1, 6), (1, 24, 7, 7))])
"""
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from lwcourse import compare
from lwcourse.checks import fail
from lwcourse.compare.regroup import NO_BATCH_NORM
from lwcourse.data import Data
from lwcourse.train import TrainingDiverged, fit_seeds


def a_function(answer: Any) -> bool:
    """a function (its name, without brackets)"""
    return callable(answer) and not isinstance(answer, type | nn.Module)


def a_number(answer: Any) -> bool:
    """a number"""
    return isinstance(answer, Real) and not isinstance(answer, bool)


def a_module(answer: Any) -> bool:
    """an nn.Module that is built already"""
    return isinstance(answer, nn.Module)


def a_module_class(answer: Any) -> bool:
    """a class that inherits from nn.Module (its name, without brackets)"""
    return isinstance(answer, type) and issubclass(answer, nn.Module)


def compare_blocks(mine: Callable[..., nn.Module], reference: Callable[..., nn.Module],
                   cases: Sequence[tuple[tuple, tuple[int, ...]]], hint: str = "") -> None:
    """Refuse unless two classes build blocks that compute the same from the same weights, in every case.

    A case is (constructor arguments, input shape). Cover every stride and both sides of every `if` in the
    reference, odd sizes, H different from W, and more channels in than out as well as the reverse.
    """
    for arguments, shape in cases:
        call = f"{getattr(mine, '__name__', 'your block')}({', '.join(map(repr, arguments))})"
        built = mine(*arguments)
        if not isinstance(built, nn.Module):
            fail(f"{call} gives {type(built).__name__}, not an nn.Module", hint)
        compare_modules(built, reference(*arguments), shape, f"{call} on an input of shape {shape}: ", hint)


def compare_modules(mine: nn.Module, reference: nn.Module, shape: tuple[int, ...],
                    label: str = "", hint: str = "") -> None:
    """Refuse unless `mine` computes what `reference` does from the same weights on random input of `shape`.

    The reason is the first difference that `lwcourse.compare` finds, after `label`. Neither module is changed.
    """
    mine, reference = copy.deepcopy(mine).cpu().eval(), copy.deepcopy(reference).cpu().eval()
    x = torch.randn(shape)
    with torch.no_grad():
        given = x.clone()
        y = mine(given)  # by itself first, so that an error in it is told with its line
    _refuse_no_tensor(y, label, hint)
    if not torch.equal(given, x):
        fail(f"{label}the block overwrites its input, which its shortcut or another branch may need; "
             "use no in-place operation on it", hint)
    count, expected = _parameters(mine), _parameters(reference)
    if expected == 0:
        if count:
            fail(f"{label}there are {count:,} parameters, but this operation has none", hint)
        compare_functions(mine, reference, [(x,)], hint=hint)
        return
    try:
        result = compare(mine, reference, x)
    except ValueError as error:  # the two cannot be matched layer by layer, and the message says where
        fail(f"{label}{error}", hint)
    if not result.equal:
        fail(f"{label}{result.first_difference}", hint)
    for note in result.notes:
        if note.startswith(NO_BATCH_NORM):  # equal in eval mode, but another thing to train
            fail(f"{label}{note}", hint)
    if count != expected:
        fail(f"{label}the output is right, but there are {count:,} parameters, not {expected:,}: "
             "some layer is never used", hint)


def compare_functions(mine: Callable[..., Tensor], reference: Callable[..., Tensor], cases: Sequence[tuple],
                      mistakes: Mapping[str, Callable[..., Tensor]] | None = None, hint: str = "") -> None:
    """Refuse unless two functions without weights give equal tensors for every tuple of arguments.

    `mistakes` maps the words for a typical mistake to a function that makes it: the one that
    gives what `mine` gives in every case is named.
    """
    def outputs(function: Callable[..., Tensor]) -> list[Tensor]:
        return [function(*(a.clone() if isinstance(a, Tensor) else a for a in case)) for case in cases]

    got, right = outputs(mine), outputs(reference)
    for y in got:
        _refuse_no_tensor(y, "", hint)
    if _all_close(got, right):
        return
    for reason, mistaken in (mistakes or {}).items():
        if _all_close(got, outputs(mistaken)):
            fail(reason, hint)
    for case, y, expected in zip(cases, got, right, strict=True):
        label = f"for arguments {_summary(case)}: "
        if y.shape != expected.shape:
            fail(f"{label}the output has shape {tuple(y.shape)}, not {tuple(expected.shape)}", hint)
        if not _all_close([y], [expected]):
            wrong = ~torch.isclose(y.to(expected), expected, rtol=1e-4, atol=1e-5)
            place = tuple(wrong.nonzero()[0].tolist())
            fail(f"{label}{int(wrong.sum())} of {wrong.numel()} values are wrong, the first at index {place}: "
                 f"{y[place].item():.4g} instead of {expected[place].item():.4g}", hint)


def compare_numbers(mine: Mapping[str, Any], right: Mapping[str, float],
                    mistakes: Mapping[str, Mapping[str, float]] | None = None,
                    hint: str = "", tolerance: float = 1e-9) -> None:
    """Refuse unless every named number is right, within the relative `tolerance`.

    `mistakes` maps the words for a typical mistake to the numbers it leads to: the one that explains all of
    `mine` is named. Else the reason tells the first wrong number and how far off it is, not the right one.
    """
    for label, value in mine.items():
        if not a_number(value):
            fail(f"{label}: got {value!r}, not a number" + ("; is the return missing?" if value is None else ""), hint)

    def agree(numbers: Mapping[str, float]) -> bool:
        return all(math.isclose(mine[label], numbers[label], rel_tol=tolerance) for label in right)

    if agree(right):
        return
    for reason, numbers in (mistakes or {}).items():
        if agree(numbers):
            fail(reason, hint)
    for label, expected in right.items():
        if not math.isclose(mine[label], expected, rel_tol=tolerance):
            fail(f"{label}: {mine[label]:,} is {_how_far(mine[label], expected)}", hint)


def _how_far(got: float, expected: float) -> str:
    size = "too large" if got > expected else "too small"
    if got * expected <= 0:
        return size
    factor = max(got / expected, expected / got)
    return f"{size}, {factor:.3g} times" if factor >= 1.005 else f"{size}, by less than 0.5 %"


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _refuse_no_tensor(y: Any, label: str, hint: str) -> None:
    if not isinstance(y, Tensor):
        missing = "; is the return missing?" if y is None else ""
        fail(f"{label}the output is {type(y).__name__}, not a tensor{missing}", hint)


def _all_close(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(a.shape == b.shape and torch.allclose(a.to(b), b, rtol=1e-4, atol=1e-5)
               for a, b in zip(got, expected, strict=True))


def _summary(case: tuple) -> str:
    return ", ".join(f"a tensor of shape {tuple(a.shape)}" if isinstance(a, Tensor) else repr(a) for a in case)


def ten_class_network(answer: Callable[[], nn.Module], size: tuple[int, int, int]) -> nn.Module:
    """What `answer()` builds, refused unless it is a network that gives images of `size` ten logits each."""
    network = answer()
    if not isinstance(network, nn.Module):
        fail(f"your function returns {type(network).__name__}, not a network"
             + ("; is the return missing?" if network is None else ""))
    with torch.no_grad():
        logits = network.eval()(torch.zeros(2, *size))  # by itself first: an error is told with its line
    if not isinstance(logits, Tensor) or logits.shape != (2, 10):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        fail(f"two images of {' x '.join(map(str, size))} must give logits of shape (2, 10), got {got}")
    return network


def refuse_over_budget(bills: Sequence[tuple[int, int, str]], hint: str) -> None:
    """Refuse when one of `bills`, (spent, budget, of what), is over its budget; all that are over are named."""
    if over := [f"{spent:,} {what}, of {budget:,} allowed" for spent, budget, what in bills if spent > budget]:
        fail(f"over budget: {'; '.join(over)}", hint)


def trained_accuracy(build: Callable[[], nn.Module], data: Data, recipe: Mapping[str, Any], hint: str = "") -> float:
    """Test accuracy of a network trained by `lw.fit` with `recipe`; refused when the training diverges.

    One seed, on the CPU and on one thread, so that a score depends little on the machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        history, = fit_seeds(build, data, seeds=(0,), device="cpu", progress=False, **recipe)
    except TrainingDiverged as error:
        fail(f"training failed: {error}", hint)
    finally:
        torch.set_num_threads(threads)
    return history.final.test_accuracy
