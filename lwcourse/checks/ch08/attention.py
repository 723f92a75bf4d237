"""08.2: attention that knows distances."""
from collections.abc import Callable

import torch
from torch import Tensor

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_function,
    compare_functions,
)


def reference_attention(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor, height: int,
                        width: int) -> Tensor:
    """Attention with a bias for each distance, as in LeViT."""
    return _attend()(queries, keys, values, biases, height, width)


def _attend(*, scale="root", bias="distance", where="scores", axis=-1, sign=1, softmax=True, exchanged=False,
            transposed=False, one_head=False):
    """Attention with biases, right by default, or with one mistake; `bias` and `where` tell what is looked up in the
    table, and where it goes."""
    def attend(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor, height: int, width: int) -> Tensor:
        depth = queries.shape[-1]
        if exchanged:
            queries, keys = keys, queries
        scores = queries @ keys.transpose(-2, -1)
        factor = {"root": depth**-0.5, "none": 1.0, "channels": 1 / depth, "values": values.shape[-1]**-0.5,
                  "tokens": keys.shape[-2]**-0.5, "times": depth**0.5}[scale]
        across = height if bias == "t // height" else width
        place = torch.arange(height * width)
        rows, columns = place // across, place % across
        if bias == "column by column":
            rows, columns = place % height, place // height
        dy, dx = rows[:, None] - rows, columns[:, None] - columns
        if bias != "signed":
            dy, dx = dy.abs(), dx.abs()
        none = torch.zeros_like(dy)
        down, right = {
            "swapped": (dx, dy), "keys": (none + rows, none + columns), "rows only": (dy, none),
            "columns only": (none, dx), "rows twice": (dy, dy), "sum": (none, dy + dx), "sum down": (dy + dx, none),
        }.get(bias, (dy, dx))
        added = sign * (biases[:1] if one_head else biases)[:, down, right] if bias != "none" else torch.zeros(())
        if not softmax:
            return (scores * factor + added) @ values
        if where == "before scale":
            return ((scores + added) * factor).softmax(axis) @ values
        if where == "times scores":
            return (scores * factor * added).softmax(axis) @ values
        if where == "times weights":
            return ((scores * factor).softmax(axis) * added) @ values
        if where == "after softmax":
            return ((scores * factor).softmax(axis) + added) @ values
        weights = (scores * factor + added).softmax(axis)
        return (weights.transpose(-2, -1) if transposed else weights) @ values
    return attend


ATTENTION_MISTAKES = {
    "the scores are not divided by the root of the channels of a head": _attend(scale="none"),
    "the scores are divided by the channels of a head in all, not by their root (F.scaled_dot_product_attention "
    "divides by the root itself)": _attend(scale="channels"),
    "the biases are added after the softmax; then rows no longer sum to 1": _attend(where="after softmax"),
    "the biases are scaled with the scores; add them after the division": _attend(where="before scale"),
    "the biases change nothing: the biases are missing, or all keys of a query get the same one, as where it is looked "
    "up by the query's own row and column, not by a distance": _attend(bias="none"),
    "the biases are looked up by the key's own row and column; look them up by the distance of query and key":
        _attend(bias="keys"),
    "the biases are multiplied with the scores; add them": _attend(where="times scores"),
    "the weights behind the softmax are multiplied with the biases; add these to the scores":
        _attend(where="times weights"),
    "all heads get the biases of the first; each head has its own": _attend(one_head=True),
    "the two distances are added up, and the sum is looked up along the columns of the table; each distance has an "
    "axis of its own there": _attend(bias="sum"),
    "the two distances are added up, and the sum is looked up along the rows of the table; each distance has an axis "
    "of its own there": _attend(bias="sum down"),
    "only the distance of rows is looked up, and that of columns plays no part": _attend(bias="rows only"),
    "only the distance of columns is looked up, and that of rows plays no part": _attend(bias="columns only"),
    "the distance of rows is looked up in both axes of the table; the second is for that of columns":
        _attend(bias="rows twice"),
    "the biases are added twice, or doubled": _attend(sign=2),
    "rows and columns are swapped: the first distance of `biases` is that of rows": _attend(bias="swapped"),
    "the positions are counted column by column; they stand row by row": _attend(bias="column by column"),
    "rows and columns come from a division by `height`; a row has `width` positions": _attend(bias="t // height"),
    "the scores are divided by the root of the values' channels; it must be that of the queries'":
        _attend(scale="values"),
    "the biases are subtracted; add them": _attend(sign=-1),
    "the softmax is missing": _attend(softmax=False),
    "the offset keeps its sign: -1 then reads the last entry of the table; take its absolute value":
        _attend(bias="signed"),
    "the softmax runs over the queries; the weights of each query, over all keys, must sum to 1": _attend(axis=-2),
    "the softmax runs over the heads; the weights of each query, over all keys, must sum to 1": _attend(axis=1),
    "the softmax runs over the images of the batch; the weights of each query, over all keys, must sum to 1":
        _attend(axis=0),
    "queries and keys are exchanged: row i of the scores belongs to query i": _attend(exchanged=True),
    "the weights are transposed before they meet the values: sum over the keys, not over the queries":
        _attend(transposed=True),
    "the scores are divided by the root of the number of positions; it must be that of the channels of a head":
        _attend(scale="tokens"),
    "the scores are multiplied by the root of the channels of a head; divide by it": _attend(scale="times"),
}


@exercise("08.2", title="Attention that knows distances", minutes=20, difficulty="medium", expects=a_function)
def biased_attention(answer: Callable[..., Tensor]) -> str:
    """`answer(queries, keys, values, biases, height, width)`; tensors (N, heads, T, d), biases (heads, side, side)."""
    cases = []
    for images, heads, height, width, depth in ((1, 2, 3, 3, 4), (2, 3, 2, 4, 8), (2, 1, 4, 3, 16)):
        shape = images, heads, height * width, depth
        side = height + width  # larger than the map: only some of the table is used, and sums of distances are in it
        cases.append((3 * torch.randn(shape), torch.randn(shape), torch.randn(*shape[:3], 2 * depth),
                      2 * torch.randn(heads, side, side), height, width))
    compare_functions(answer, reference_attention, cases, ATTENTION_MISTAKES, gradients=True)
    return f"Equal in {len(cases)} settings, with maps that are not square."
