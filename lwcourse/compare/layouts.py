"""Which tensors are the same numbers in another arrangement."""
from collections.abc import Iterator
from itertools import permutations

import torch
from torch import Tensor


def relative_error(a: Tensor, b: Tensor) -> float:
    """Largest |a - b| relative to the largest |b|; inf when shapes differ or something is not finite."""
    if a.shape != b.shape or not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    if b.numel() == 0:
        return 0.0
    if not (a.is_floating_point() and b.is_floating_point()):
        a, b = (t.abs().double() if t.is_complex() else t.double() for t in (a, b))
    error, size = (a - b).abs().max().item(), b.abs().max().item()
    return error / size if size > 0 else error


def arrangements(a: Tensor, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """`a` as a tensor of `shape`, where both hold one thing in the usual layouts.

    (N, C) may stand for (N, C, 1, 1), channels may come second or last, and the pixels of a map may lie in one axis,
    as in (N, H*W, C), or in two, as in (N, H, W, C) and (N, C, H, W); a batch may be folded into it: (N*H*W, C).
    """
    if a.shape == shape:
        yield a
    if a.numel() != torch.Size(shape).numel():
        return
    core, wanted = ([n for n in sizes if n > 1] for sizes in (a.shape, shape))
    if core == wanted and a.shape != shape:
        yield a.reshape(shape)
    if len(core) < 2 or a.dim() < 2 or len(shape) < 2:
        return
    channels = {a.shape[1], a.shape[-1]} & {shape[1], shape[-1]}
    for axis in (1, a.dim() - 1):
        if a.shape[axis] not in channels:
            continue
        last = a.movedim(axis, -1)
        if shape[-1] == last.shape[-1] and (axis != a.dim() - 1 or a.shape != shape):
            yield last.reshape(shape)
        if shape[1] == last.shape[-1] and len(shape) > 2:
            ahead = (shape[0], *shape[2:], shape[1])
            yield last.reshape(ahead).movedim(-1, 1)
        if a.dim() == 2:
            break


def layout_error(a: Tensor, b: Tensor) -> float:
    """`relative_error` in the best of the `arrangements` of a."""
    return min((relative_error(view, b) for view in arrangements(a, tuple(b.shape))), default=float("inf"))


def turned(a: Tensor, shape: tuple[int, ...]) -> Iterator[Tensor]:
    """Like `arrangements`, and with its axes in any order, as k and its transpose."""
    yield from arrangements(a, shape)
    small = a.squeeze()
    wanted = [n for n in shape if n > 1]
    if 1 < small.dim() <= 4 and sorted(small.shape) == sorted(wanted):
        for order in permutations(range(small.dim())):
            if [small.shape[k] for k in order] == wanted and list(order) != sorted(order):
                yield small.permute(order).reshape(shape)


def same_numbers(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether one holds the other's numbers, in whatever order."""
    if a.numel() != b.numel() or a.numel() == 0:
        return a.numel() == b.numel()
    return bool((a.flatten().sort().values - b.flatten().sort().values).abs().max() <= tolerance * b.abs().max())
