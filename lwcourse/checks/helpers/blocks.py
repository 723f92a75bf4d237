"""Is a learner's module or function the same as the reference: in eval mode, in training mode, gradients included."""
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lwcourse.checks import fail
from lwcourse.checks.helpers.slips import (
    explain_join,
    refuse_hidden_layers,
    refuse_hooks_at_work,
    refuse_layers_made,
    refuse_other_dtype,
    refuse_ready_made,
)
from lwcourse.checks.helpers.watch import Watched, watch
from lwcourse.compare import NO_BATCH_NORM, compare_copies
from lwcourse.compare.layouts import relative_error
from lwcourse.compare.trace import default_dtype
from lwcourse.profile import profile

NORMS = nn.modules.batchnorm._NormBase
TRAINING_BATCH = 4  # images: BatchNorm behind a global mean needs more than one
EXACT, ROUNDED = 1e-7, 1e-3  # relative, of outputs and gradients: in float64, and where a forward insists on float32


def compare_blocks(mine: Callable[..., nn.Module], reference: Callable[..., nn.Module],
                   cases: Sequence[tuple[tuple, tuple[int, ...]]], hint: str = "", *,
                   ready_made: Iterable[str] = (), macs: bool = False, shortcut: str = "", join: str = "") -> None:
    """Refuse unless two classes build blocks that compute the same from the same weights, in every case.

    A case is (constructor arguments, input shape). Cover every stride and both sides of every `if` in the
    reference, odd sizes, H different from W, and more channels in than out as well as the reverse.
    `ready_made` names classes and functions of the course that the sheet forbids; with `macs` the work must be the
    same too; `shortcut` tells when the block adds its input, for an answer that adds what cannot be added, and `join`
    how maps are brought together, for one that concatenates what does not fit.
    """
    for arguments, shape in cases:
        call = f"{getattr(mine, '__name__', 'your block')}({', '.join(map(repr, arguments))})"
        with watch() as seen:
            built = mine(*arguments)
        if not isinstance(built, nn.Module):
            fail(f"{call} gives {type(built).__name__}, not an nn.Module", hint)
        refuse_ready_made(seen, ready_made)
        compare_modules(built, reference(*arguments), shape, f"{call} on an input of shape {shape}: ", hint,
                        ready_made=ready_made, macs=macs, shortcut=shortcut, join=join)


def compare_modules(mine: nn.Module, reference: nn.Module, shape: tuple[int, ...], label: str = "", hint: str = "", *,
                    ready_made: Iterable[str] = (), macs: bool = False, shortcut: str = "", join: str = "") -> None:
    """Refuse unless `mine` computes what `reference` does from the same weights on random input of `shape`: in eval
    mode, and in training mode, where gradients and running statistics must agree too.

    The reason is the first difference that `lwcourse.compare` finds, after `label`. Neither module is changed.
    """
    mine, reference = copy.deepcopy(mine).cpu().eval(), copy.deepcopy(reference).cpu().eval()
    refuse_hidden_layers(mine)
    expected = watched_output(reference, torch.randn(shape))[0]
    axes = _joined_by(reference, shape)
    seen = run_alone(mine, torch.randn(shape), expected.shape, label, hint, shortcut, axes, join)
    refuse_ready_made(seen, ready_made)
    refuse_hooks_at_work(mine, torch.randn(shape), label)
    count, right = _parameters(mine), _parameters(reference)
    if right == 0:
        if count:
            fail(f"{label}there are {count:,} parameters, but this operation has none", hint)
        compare_functions(mine, reference, [(torch.randn(shape),)], hint=hint)
        return
    try:
        result, ours, theirs = compare_copies(mine, reference, torch.randn(shape))
    except ValueError as error:  # the two cannot be matched layer by layer, and the message says where
        fail(f"{label}{error}", hint)
    if not result.equal:
        explain_join(seen, axes, label)
        fail(f"{label}{result.first_difference}", hint)
    for note in result.notes:
        if note.startswith(NO_BATCH_NORM):  # equal in eval mode, but another thing to train
            fail(f"{label}{note}", hint)
    if count != right:
        fail(f"{label}the output is right, but there are {count:,} parameters, not {right:,}: "
             "some layer is never used", hint)
    if macs:
        refuse_other_macs(mine, reference, shape, label, hint)
    _compare_in_training(ours, theirs, shape, label, result.notes)


def watched_output(module: nn.Module, x: Tensor) -> tuple[Any, Watched]:
    with torch.no_grad(), watch() as seen:
        return module(x), seen


def run_alone(mine: nn.Module, x: Tensor, expected: Sequence[int], label: str = "", hint: str = "",
              shortcut: str = "", axes: Iterable[int] = (1,), join: str = "") -> Watched:
    """Run a learner's module by itself, so that an error in it is told with its line; refuse the usual slips.

    `expected` is the shape of a right output, `axes` are those along which maps may be concatenated, `shortcut` and
    `join` as in `compare_blocks`.
    """
    refuse_other_dtype(mine, label)
    given = x.clone()
    with torch.no_grad(), watch() as seen:
        try:
            y = mine(given)
        except RuntimeError as error:
            _explain_sizes(error, seen, label, hint, shortcut, axes, join)
            raise
    refuse_layers_made(seen, label)
    refuse_no_tensor(y, label, hint)
    if not torch.equal(given, x):
        fail(f"{label}the block overwrites its input, which its shortcut or another branch may need; "
             "use no in-place operation on it", hint)
    if tuple(y.shape) != tuple(expected):
        explain_join(seen, axes, label)
    return seen


def _explain_sizes(error: RuntimeError, seen: Watched, label: str, hint: str, shortcut: str, axes: Iterable[int],
                   join: str) -> None:
    said = str(error)
    if 0 in seen.joined:  # whatever broke later
        explain_join(seen, axes, label)
    if "Sizes of tensors must match" in said:
        if join:
            fail(f"{label}{join} ({said.splitlines()[0]})", hint)
        explain_join(seen, axes, label)
        fail(f"{label}maps of different sizes cannot be concatenated: a layer lacks the padding that keeps the size, "
             f"or has another stride than its neighbours ({said.splitlines()[0]})", hint)
    if shortcut and "must match the size" in said:
        fail(f"{label}the shortcut is taken where it cannot be, or two maps of different shapes are added ({said}): "
             f"{shortcut}", hint)


def _joined_by(module: nn.Module, shape: Sequence[int]) -> set[int]:
    """Axes along which maps may be concatenated: the channels, and, where the module itself does so along rows or
    columns, those too, since maps may be turned."""
    axes = {1, *watched_output(module, torch.randn(shape))[1].joined}
    return axes | {2, 3} if axes & {2, 3} else axes


def refuse_other_macs(mine: nn.Module, reference: nn.Module, shape: Sequence[int], label: str = "",
                      hint: str = "") -> None:
    """Refuse a module whose output is right, but whose work is not, as where a stride comes too late."""
    counted, expected = profile(mine, tuple(shape[1:])).macs, profile(reference, tuple(shape[1:])).macs
    if counted != expected:
        more = "more" if counted > expected else "less"
        fail(f"{label}the output is right, but there are {counted:,} MACs, not {expected:,}, which is {more} work: is "
             "a stride in another convolution, so that pixels are computed and thrown away, or does a layer run twice, "
             "or on a map that was repeated?", hint)


def _step(model: nn.Module, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """One training step without the step: the output for x, and the gradient of x; parameters get theirs.

    BatchNorm gets what lies in order: PyTorch's gradient of it is wrong for a map (N, C, H, 1) that was transposed.
    """
    for norm in [module for module in model.modules() if isinstance(module, NORMS)]:
        norm.register_forward_pre_hook(lambda _, given: tuple(one.contiguous() for one in given))
    model.train()
    model.zero_grad(set_to_none=True)
    given = x.clone().requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        y = model(given)
        torch.manual_seed(0)
        loss = (y * torch.randn(y.shape, dtype=torch.float64).to(y)).sum()
    if not loss.requires_grad:
        return y.detach(), torch.zeros_like(x)
    loss.backward()
    return y.detach(), torch.zeros_like(x) if given.grad is None else given.grad


def _compare_in_training(ours: nn.Module, theirs: nn.Module, shape: Sequence[int], label: str,
                         notes: Sequence[str]) -> None:
    """Refuse copies with equal weights, equal in eval mode, that differ in training mode."""
    dtype = next(ours.parameters()).dtype
    tolerance = EXACT if dtype is torch.float64 else ROUNDED
    x = torch.randn(max(TRAINING_BATCH, shape[0]), *shape[1:]).to(dtype)
    label = f"{label}equal in eval mode, but not in training mode: "
    noted = {word: note.replace("; no effect in eval mode", "") for note in notes for word in ("momentum", "dropout")
             if word in note}
    with default_dtype(dtype):
        states = [copy.deepcopy(model.state_dict()) for model in (ours, theirs)]
        got, expected = _step(ours, x), _step(theirs, x)
        if got[0].shape != expected[0].shape:
            fail(f"{label}for {len(x)} images the output has shape {tuple(got[0].shape)}, not "
                 f"{tuple(expected[0].shape)}. Is a size written down that belongs to another batch?")
        frozen, frozen_there = (_frozen_norms(*one) for one in zip((ours, theirs), states, strict=True))
        if relative_error(got[0], expected[0]) > tolerance:
            for model, state in zip((ours, theirs), states, strict=True):
                model.load_state_dict(state)
            if frozen and not frozen_there:
                fail(f"{label}the running statistics of your BatchNorm `{frozen[0]}` do not move there: it normalises "
                     "with them, or is never called, where it should use the statistics of the batch")
            fail(label + (_why_other_output(ours, theirs, x, got[0], tolerance) or noted.get("dropout") or
                          "the outputs differ: something in it depends on the mode, or on the number of images"))
        _refuse_other_gradients(ours, theirs, got[1], expected[1], tolerance, label)
        with torch.no_grad():
            after = [model.eval()(x) for model in (ours, theirs)]
        if relative_error(*after) > tolerance:
            fail(label + noted.get("momentum", "after one step the running statistics of BatchNorm differ, by their "
                                               "momentum or because a layer is called more than once"))


def _frozen_norms(model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    """Norms whose running statistics a step in training mode has left as they were."""
    return [name for name, norm in model.named_modules() if isinstance(norm, NORMS) and norm.running_mean is not None
            and torch.equal(norm.running_mean, before.get(f"{name}.running_mean", torch.zeros(0)))]


def _why_other_output(ours: nn.Module, theirs: nn.Module, x: Tensor, got: Tensor, tolerance: float) -> str | None:
    """Words for an output in training mode that is not the reference's."""
    random = [relative_error(_step(one, x, seed=1)[0], _step(one, x)[0]) > tolerance for one in (ours, theirs)]
    if random[0] and not random[1]:
        rates = sorted({m.p for m in ours.modules() if isinstance(m, nn.modules.dropout._DropoutNd)})
        which = f" with p={', '.join(f'{p:g}' for p in rates)}" if rates else ""
        return f"two runs on the same input differ. There is dropout{which}, or the like, which does not belong here"
    calls: dict[str, int] = {}
    norms = {m: name for name, m in ours.named_modules() if isinstance(m, NORMS)}

    def count(module, args):
        calls[norms[module]] = calls.get(norms[module], 0) + 1

    handles = [norm.register_forward_pre_hook(count) for norm in norms]
    with torch.no_grad():
        ours.train()
        for norm in norms:
            norm.eval()
        switched = ours(x)
        still = ours.eval()(x)
    for handle in handles:
        handle.remove()
    by_hand = any(module._buffers for module in ours.modules() if not isinstance(module, NORMS))  # it may ask, too
    if relative_error(switched, still) > tolerance and not by_hand:
        return "its forward does something else there, as by `if self.training`"
    twice = [name for name, n in calls.items() if n > 2]  # each of the two runs above counts
    if twice:
        return (f"`{twice[0]}` is called {calls[twice[0]] // 2} times, and in training each call normalises its own "
                "part alone, with statistics of its own; concatenate first, and normalise all of it together, once")
    return None


def _refuse_other_gradients(ours: nn.Module, theirs: nn.Module, mine: Tensor, expected: Tensor, tolerance: float,
                            label: str) -> None:
    """By the sum of squares, since layers may be put together in another way: three Linears for one."""
    def squares(model):
        return sum(p.grad.double().square().sum() for p in model.parameters() if p.grad is not None)

    def idle(model):
        return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]

    never, never_there = idle(ours), idle(theirs)
    if never and len(never) > len(never_there):
        more = f" and {len(never) - 1} more" if len(never) > 1 else ""
        fail(f"{label}no gradient reaches `{never[0]}`{more}, so that it never learns. Is something detached, taken "
             "out with .data or .item(), or computed under torch.no_grad()?")
    if relative_error(mine, expected) > tolerance:
        fail(f"{label}the outputs agree, but the gradient of the input does not: a part of it is detached, or computed "
             "under torch.no_grad(), so that what lies before does not learn from it")
    if not torch.isclose(torch.as_tensor(squares(ours)), torch.as_tensor(squares(theirs)), rtol=1e3 * tolerance):
        fail(f"{label}the outputs agree, but the gradients of the weights do not: a part is detached, so that it does "
             "not learn from all that it is used for")


def compare_functions(mine: Callable[..., Tensor], reference: Callable[..., Tensor], cases: Sequence[tuple],
                      mistakes: Mapping[str, Callable[..., Tensor]] | None = None, hint: str = "", *,
                      gradients: bool = False) -> None:
    """Refuse unless two functions without weights give equal tensors for every tuple of arguments.

    `mistakes` maps the words for a typical mistake to a function that makes it: the one that
    gives what `mine` gives in every case is named. With `gradients` those of floating-point arguments must agree too.
    """
    def outputs(function: Callable[..., Tensor]) -> list[Tensor]:
        return [function(*(a.clone() if isinstance(a, Tensor) else a for a in case)) for case in cases]

    got, right = [], outputs(reference)
    for case in cases:
        given = [a.clone() if isinstance(a, Tensor) else a for a in case]
        got.append(mine(*given))
        if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(case, given, strict=True)):
            fail("your function overwrites its input, which its caller may still need; use no in-place operation on it",
                 hint)
    for y in got:
        refuse_no_tensor(y, "", hint)
    if not all_close(got, right):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            again = outputs(mine)
        if all(isinstance(y, Tensor) for y in again) and any(
                a.shape == b.shape and not torch.isclose(a, b, rtol=0, atol=0, equal_nan=True).all()
                for a, b in zip(got, again, strict=True)):
            fail("your function gives another result each time for the same arguments: something random is in it, such "
                 "as dropout", hint)
        for reason, mistaken in (mistakes or {}).items():
            if _gives(mistaken, outputs, got):
                fail(reason, hint)
        _refuse_first_difference(cases, got, right, hint)
    if gradients:
        for case in cases:
            mine_grads, right_grads = (_gradients(function, case) for function in (mine, reference))
            if not all_close(mine_grads, right_grads):
                fail("the values are right, but no gradient, or another one, comes back through your function: is "
                     "something detached, or written into a tensor made from numbers?", hint)


def _gives(mistaken: Callable[..., Tensor], outputs: Callable, got: Sequence[Tensor]) -> bool:
    try:
        return all_close(got, outputs(mistaken))
    except (RuntimeError, ValueError, IndexError):  # a mistake that not every case allows
        return False


def _gradients(function: Callable[..., Tensor], case: tuple) -> list[Tensor]:
    given = [a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in case]
    with torch.enable_grad():
        y = function(*given)
        weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
        if y.requires_grad:
            (y * weights).sum().backward()
    return [torch.zeros_like(a) if a.grad is None else a.grad for a in given
            if isinstance(a, Tensor) and a.requires_grad]


def _refuse_first_difference(cases: Sequence[tuple], got: Sequence[Tensor], right: Sequence[Tensor],
                             hint: str) -> None:
    for case, y, expected in zip(cases, got, right, strict=True):
        label = f"for arguments {_summary(case)}: "
        if y.shape != expected.shape:
            fail(f"{label}the output has shape {tuple(y.shape)}, not {tuple(expected.shape)}", hint)
        if not all_close([y], [expected]):
            wrong = ~_close(y, expected)
            place = tuple(wrong.nonzero()[0].tolist())
            which = (f"{int(wrong.sum())} of {wrong.numel()} values are wrong, the first at index {place}: " if place
                     else "the result is ")
            fail(f"{label}{which}{y[place].item():.4g} instead of {expected[place].item():.4g}", hint)


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def refuse_no_tensor(y: Any, label: str = "", hint: str = "") -> None:
    if not isinstance(y, Tensor):
        missing = "; is the return missing?" if y is None else ""
        fail(f"{label}the output is {type(y).__name__}, not a tensor{missing}", hint)


def all_close(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(a.shape == b.shape and _close(a, b).all() for a, b in zip(got, expected, strict=True))


def _close(a: Tensor, b: Tensor) -> Tensor:
    """Which values agree, as closely as the type of `a` can tell: half precision has three digits, or two."""
    step = 4 * torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0
    return torch.isclose(a.to(b), b, rtol=max(1e-4, step), atol=max(1e-5, step / 4))


def _summary(case: tuple) -> str:
    return ", ".join(f"a tensor of shape {tuple(a.shape)}" if isinstance(a, Tensor) else repr(a) for a in case)
