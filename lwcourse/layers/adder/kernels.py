"""The adder convolution on a CPU: lays out what the loops of tiles.py read, and shares them among threads."""
import ctypes
import functools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.layers.adder.chunks import Pair, memory_format, output_sides
from lwcourse.layers.adder.llvm_vectors import VECTOR
from lwcourse.layers.adder.tiles import TILE, distance_tiles, slope_tiles

TERMS = 2**23  # |x - w| that a thread takes at a time, a third of a millisecond: a call of a loop costs 1 % of that


def distances(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """-sum |x - w| over the patches; channels_last where `x` is. Memory beside input and output: the padded input."""
    outputs, channels, *kernel = weight.shape
    sides = output_sides(x, weight, stride, padding)
    count = len(x) * sides[0] * sides[1]
    lanes = 2 * VECTOR // x.element_size()
    panels = -(-outputs // lanes)
    padded = _padded(x, padding, padding)
    packed = F.pad(weight, (0,) * 7 + (panels * lanes - outputs,)).unflatten(0, (panels, lanes))
    packed = packed.permute(0, 3, 4, 2, 1).reshape(panels, kernel[0], kernel[1] * channels, lanes).contiguous()
    tiles = -(-count // TILE)
    out = x.new_empty(tiles * TILE, panels * lanes)
    _share(distance_tiles, tiles, TERMS // (TILE * packed.numel()), _flat(padded), tuple(padded.shape[1:3]),
           packed.numpy(), tuple(kernel), stride, sides, count, _flat(out))
    return _as_maps(out[:count].view(len(x), *sides, panels * lanes), outputs, x)


def input_gradient(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """sum grad * clamp(w - x, -1, 1) over all that a pixel reaches; memory: as `x` and `grad`, padded."""
    outputs, channels, *kernel = weight.shape
    lanes = VECTOR // x.element_size()
    panels = -(-channels // lanes)
    x_sides = tuple(x.shape[2:])
    rows = _rows(x, panels * lanes)
    before = tuple(max(0, (kernel[i] - 1 - padding[i]) // stride[i]) for i in (0, 1))
    after = tuple(max(0, (x_sides[i] - 1 + padding[i]) // stride[i] + 1 - grad.shape[2 + i]) for i in (0, 1))
    padded = _padded(grad, before, after)
    out = torch.zeros_like(rows) if any(k < s for k, s in zip(kernel, stride, strict=True)) else torch.empty_like(rows)
    weight = F.pad(weight, (0,) * 5 + (panels * lanes - channels,)).unflatten(1, (panels, lanes))
    for phase in ((i, j) for i in range(min(stride[0], x_sides[0])) for j in range(min(stride[1], x_sides[1]))):
        first = tuple((phase[i] + padding[i]) % stride[i] for i in (0, 1))  # place of the kernel that reaches it
        part = weight[..., first[0]::stride[0], first[1]::stride[1]].flip(3, 4)
        if part.numel() == 0:
            continue  # no patch reaches these pixels
        taps = part.shape[3:]
        corner = tuple((phase[i] + padding[i]) // stride[i] - taps[i] + 1 + before[i] for i in (0, 1))
        part = part.permute(1, 3, 4, 0, 2).reshape(panels, taps[0], taps[1] * outputs, lanes).contiguous()
        sides = tuple(-(-(x_sides[i] - phase[i]) // stride[i]) for i in (0, 1))
        count = len(x) * sides[0] * sides[1]
        _share(slope_tiles, -(-count // TILE), TERMS // (TILE * part.numel()), _flat(padded),
               tuple(padded.shape[1:3]), corner, part.numpy(), outputs, _flat(rows), x_sides, phase, stride, sides,
               count, _flat(out), out.numpy().dtype.type(1))
    return _as_maps(out, channels, x)


def _padded(maps: Tensor, before: Pair, after: Pair) -> Tensor:
    """(N, C, H, W) as a contiguous (N, H, W, C) with zeros around."""
    images, channels, height, width = maps.shape
    padded = maps.new_zeros(images, before[0] + height + after[0], before[1] + width + after[1], channels)
    padded[:, before[0]:before[0] + height, before[1]:before[1] + width] = maps.permute(0, 2, 3, 1)
    return padded


def _rows(maps: Tensor, channels: int) -> Tensor:
    """(N, C, H, W) as a contiguous (N, H, W, channels), zero beyond C; no copy where it lies so already."""
    return F.pad(maps.permute(0, 2, 3, 1), (0, channels - maps.shape[1])).contiguous()


def _as_maps(rows: Tensor, channels: int, like: Tensor) -> Tensor:
    """(N, H, W, C or more) as (N, channels, H, W), in the memory format of `like`."""
    return rows[..., :channels].permute(0, 3, 1, 2).contiguous(memory_format=memory_format(like))


def _flat(tensor: Tensor):
    return tensor.view(-1).numpy()


def _share(loop: Callable, tiles: int, block: int, *arguments) -> None:
    """Run all tiles of a loop, in blocks that the threads take as they come; each tile is computed by one of them."""
    block = max(1, block)
    firsts = iter(range(0, tiles, block))

    def work() -> None:
        for first in firsts:
            loop(first, min(first + block, tiles), *arguments)
    helpers = min(torch.get_num_threads(), -(-tiles // block)) - 1
    if helpers:
        _free_cores()
    waiting = [_pool(helpers).submit(work) for _ in range(helpers)]
    work()
    for helper in waiting:
        helper.result()


@functools.cache
def _pool(helpers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(helpers, thread_name_prefix="adder")


def _free_cores() -> None:
    """Send off the OpenMP workers that PyTorch's last operation left; it starts new ones when it needs them.

    They wait actively for some milliseconds, on the cores that our threads need, and so cost a quarter of the speed of
    two threads. To send them off and to start them again takes 0.1 ms.
    """
    pause = _openmp_pause()
    if pause is not None:
        pause(1)  # omp_pause_soft: settings of OpenMP stay as they are


@functools.cache
def _openmp_pause() -> Callable[[int], int] | None:
    """OpenMP's omp_pause_resource_all; None where PyTorch's OpenMP is not to be found, or has no such function."""
    if sys.platform == "win32":  # has no namespace with the functions of all libraries
        return None
    return getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)


def _after_fork() -> None:
    """The new process has none of the threads, and OpenMP would wait for its workers forever."""
    global _free_cores
    _pool.cache_clear()
    _free_cores = lambda: None  # noqa: E731


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
