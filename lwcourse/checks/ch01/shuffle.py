"""Exercise 01.2: channel shuffle."""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lwcourse.checks import CheckFailed, exercise, fail
from lwcourse.checks.helpers import a_function, compare_functions, refuse_ready_made, watch
from lwcourse.layers import ChannelShuffle


def _shuffled(x: Tensor, groups: int) -> Tensor:
    return ChannelShuffle(groups)(x)


def _no_transpose(x: Tensor, groups: int) -> Tensor:
    return x.clone()


def _undone(x: Tensor, groups: int) -> Tensor:
    """The order that undoes a shuffle: a table with a row for each place inside a group, read by columns."""
    return ChannelShuffle(x.shape[1] // groups)(x)


def _reversed(x: Tensor, groups: int) -> Tensor:
    return x.flip(1)


def _always_two(x: Tensor, groups: int) -> Tensor:
    return ChannelShuffle(2)(x)


def _groups_swapped_whole(x: Tensor, groups: int) -> Tensor:
    return x.unflatten(1, (groups, -1)).flip(1).flatten(1, 2)


def _rows_mixed(x: Tensor, groups: int) -> Tensor:
    """The table turned without its pixels: reshape reads the numbers in the wrong order."""
    return x.unflatten(1, (groups, -1)).permute(0, 2, 3, 4, 1).reshape(x.shape)


SHUFFLE_MISTAKES = {
    "the channels come out in their old order; between the two reshapes the two new axes must be exchanged":
        _no_transpose,
    "this undoes a shuffle: you made channels / groups groups. The table has `groups` rows, so view the channels as "
    "(groups, channels // groups)": _undone,
    "the channels are reversed, not dealt out": _reversed,
    "your function makes 2 groups whatever `groups` says": _always_two,
    "you exchange whole groups; the channels inside of each stay together, so nothing is mixed": _groups_swapped_whole,
    "you move the groups behind the pixels, so that the last reshape tears the maps apart; exchange axes 1 and 2 only":
        _rows_mixed,
}


INDEXING = {"index", "index_select", "gather", "take", "index_put", "index_put_", "index_copy", "index_add", "scatter",
            "embedding"}
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "convolution", "mv", "dot"}


@exercise("01.2", title="Channel shuffle", minutes=10, difficulty="easy", expects=a_function)
def channel_shuffle(answer: Callable[[Tensor, int], Tensor]) -> str:
    """`answer(x, groups)` on numbered channels and on random images."""
    shapes = [((2, 12, 3, 5), 3), ((1, 12, 2, 2), 2), ((1, 8, 4, 3), 4), ((2, 24, 2, 3), 2), ((1, 6, 3, 3), 6),
              ((1, 4, 2, 2), 1)]
    cases = [(torch.randn(shape), groups) for shape, groups in shapes]
    x, groups = cases[0]
    first = answer(x.clone(), groups)
    if isinstance(first, Tensor) and first.shape == x.shape:
        _refuse_chance(answer, x, groups, first)
    try:
        compare_functions(answer, _shuffled, cases, SHUFFLE_MISTAKES,
                          hint="try torch.arange(6).view(1, 6, 1, 1) with groups=2", gradients=True)
    except CheckFailed as refused:
        if refused.reason not in SHUFFLE_MISTAKES:
            _refuse_moves(answer)
            _tell_order(answer)
        raise
    _refuse_what_is_no_view(answer)
    return f"Right on {len(cases)} images, with {', '.join(map(str, sorted({g for _, g in shapes})))} groups."


def _refuse_chance(answer: Callable[[Tensor, int], Tensor], x: Tensor, groups: int, first: Tensor) -> None:
    if any(not torch.equal(answer(x.clone(), groups), first) for _ in range(4)):
        fail("the order changes from call to call; a channel shuffle is one fixed order, not a random one",
             "the layer behind has learned which channel stands where")


def _refuse_moves(answer: Callable[[Tensor, int], Tensor]) -> None:
    """Refuse what moves numbers to another image, or to another place in their map."""
    shape, groups = (3, 12, 4, 4), 3
    images = torch.arange(3.0).view(3, 1, 1, 1).expand(shape).contiguous()
    pixels = torch.arange(16.0).view(1, 1, 4, 4).expand(shape).contiguous()
    for given, words in ((images, "the images of the batch are mixed, as if axis 0 were a part of the channels: each "
                                  "image has its own channels, which are shuffled among themselves"),
                         (pixels, "pixels change their places, as where rows and columns (axes 2 and 3) are exchanged: "
                                  "whole channels move, and every map stays as it is")):
        y = answer(given.clone(), groups)
        if (isinstance(y, Tensor) and y.shape == shape and not torch.equal(y, given)
                and torch.equal(y.flatten().sort().values, given.flatten().sort().values)):
            fail(words)


def _tell_order(answer: Callable[[Tensor, int], Tensor]) -> None:
    """Refuse with the order in which six channels come out, where it is wrong."""
    y = answer(torch.arange(6.0).view(1, 6, 1, 1), 2)
    if isinstance(y, Tensor) and y.shape == (1, 6, 1, 1):
        order = [f"{channel:g}" for channel in y.flatten().tolist()]
        if order != ["0", "3", "1", "4", "2", "5"]:
            fail(f"with groups=2, channels 0 1 2 3 4 5 become {' '.join(order)}; the sheet says what they must become")


class _Pieces(TorchFunctionMode):
    """Notes the most tensors that one function, such as torch.cat, is given at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for given in (*args, *(kwargs or {}).values()):
            if isinstance(given, list | tuple) and given and all(isinstance(one, Tensor) for one in given):
                self.most = max(self.most, len(given))
        return func(*args, **(kwargs or {}))


def _refuse_what_is_no_view(answer: Callable[[Tensor, int], Tensor]) -> None:
    """Refuse a right order that comes from a loop, indices, a product or a ready-made shuffle.

    A loop is seen by its work: more functions run where there are more groups, places in a group, images or pixels, or
    single channels are joined.
    """
    ran = []
    for shape, groups in (((1, 4, 2, 3), 2), ((3, 24, 5, 4), 4)):
        with _Pieces() as pieces, watch() as seen:
            answer(torch.randn(shape), groups)
        refuse_ready_made(seen, ["ChannelShuffle"])
        if any("channel_shuffle" in name for name in seen.functions + seen.operators):
            fail("that uses PyTorch's own channel shuffle; the exercise is to write it yourself")
        if INDEXING & set(seen.operators):
            fail("the order is right, but it comes from a list of indices, which the sheet forbids: use views")
        if PRODUCTS & set(seen.operators):
            fail("the order is right, but it comes from a product with a matrix or a filter, which costs MACs; a "
                 "shuffle needs views only")
        if pieces.most > max(groups, shape[1] // groups):
            fail("the order is right, but single channels are joined one by one, as in a loop or by a list of indices, "
                 "which the sheet forbids: use views of all of `x`")
        ran.append(len(seen.functions))
    if ran[1] > ran[0]:
        fail("the order is right, but it comes from a loop, which the sheet forbids: with more groups or images, more "
             "of PyTorch's functions run. Use views of all of `x`")
