"""Checks of chapter 08: MobileViT, LeViT, ConvNeXt."""
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    compare_functions,
    compare_numbers,
    refuse_over_budget,
    ten_class_network,
    trained_accuracy,
)
from lwcourse.data import load_data
from lwcourse.models import levit, mobilevit
from lwcourse.models.mobilevit import PATCH, fold, unfold
from lwcourse.profile import profile
from lwcourse.registry import create_model

SHAPES = ((2, 3, 4, 6), (1, 2, 8, 4), (3, 4, 6, 6))
ODD_SHAPES = ((2, 3, 5, 8), (1, 2, 4, 7), (2, 2, 7, 5))
SIDES = (256, 512, 1024)
MAX_MACS, MAX_PARAMS, LEAST_ACCURACY = 2_000_000, 60_000, 0.3
RECIPE = {"epochs": 4, "lr": 0.1, "batch_size": 32}


class Transform:
    """A function on sequences that tells its name in messages."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.function(tokens)

    def __repr__(self) -> str:
        return f"the transform {self.function.__name__!r}"


def reversed_order(tokens: Tensor) -> Tensor:
    """A stand-in for the transformer that depends on the order of tokens: (B, T, C) -> the same."""
    steps = torch.linspace(0.5, 1.5, tokens.shape[1]).view(1, -1, 1)
    return tokens.flip(1) * steps


def less_the_mean(tokens: Tensor) -> Tensor:
    """A stand-in that mixes the tokens of a sequence."""
    return tokens - 2 * tokens.mean(dim=1, keepdim=True)


TRANSFORMS = Transform(reversed_order), Transform(less_the_mean)


def reference_deal(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """What a MobileViT block does around its transformer."""
    size = x.shape[2:]
    even = [-(-side // PATCH) * PATCH for side in size]
    y = x if list(size) == even else F.interpolate(x, even, mode="bilinear")
    y = fold(transform(unfold(y)), *even)
    return y if list(size) == even else F.interpolate(y, size, mode="bilinear")


def _deal(*, columns_first=False, patch_is_sequence=False, batch_mixed=False, padded=False, cut=False,
          viewed=False, half=False, one_sequence=False, quarters=False, align_corners=None):
    """The same with one mistake."""
    def deal(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        n, c, height, width = x.shape
        if padded or cut:
            if padded:
                y = F.pad(x, (0, width % 2, 0, height % 2))
                return deal_even(y, transform)[:, :, :height, :width]
            return deal_even(x[:, :, :height // 2 * 2, :width // 2 * 2], transform)
        even = [side + side % 2 for side in (height, width)]
        how = {"mode": "bilinear", "align_corners": align_corners}
        y = x if even == [height, width] else F.interpolate(x, even, **how)
        y = deal_even(y, transform)
        return y if even == [height, width] or half else F.interpolate(y, (height, width), **how)

    def deal_even(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        n, c, height, width = x.shape
        rows, columns = height // 2, width // 2
        if viewed:
            return transform(x.reshape(n * 4, rows * columns, c)).reshape(n, c, height, width)
        if one_sequence:
            return transform(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        if quarters:
            y = x.reshape(n, c, 2, rows, 2, columns).permute(0, 2, 4, 3, 5, 1)
            y = transform(y.reshape(4 * n, rows * columns, c)).reshape(y.shape)
            return y.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        y = x.reshape(n, c, rows, 2, columns, 2)
        order = (0, 3, 5, 4, 2, 1) if columns_first else (0, 2, 4, 3, 5, 1) if patch_is_sequence else (0, 3, 5, 2, 4, 1)
        if batch_mixed:
            order = (3, 5, 0, 2, 4, 1)
        y = y.permute(order)
        tokens = (n * rows * columns, 4) if patch_is_sequence else (4, n * rows * columns) if batch_mixed else (
            n * 4, rows * columns)
        z = transform(y.reshape(*tokens, c)).reshape(y.shape)
        return z.permute([order.index(i) for i in range(6)]).reshape(n, c, height, width)
    return deal


DEAL_MISTAKES = {
    "the patches of a sequence are in the wrong order: go through them row by row, left to right":
        _deal(columns_first=True),
    "your sequences hold the four pixels of one patch; they must hold the same pixel of all patches":
        _deal(patch_is_sequence=True),
    "a sequence mixes the images of the batch: each image needs sequences of its own": _deal(batch_mixed=True),
    "odd sides are padded; stretch the map with F.interpolate(..., mode=\"bilinear\") instead, as zeros would be "
    "tokens too": _deal(padded=True),
    "all pixels of an image are in one sequence; deal them out to four, one for each pixel of a 2 x 2 patch":
        _deal(one_sequence=True),
    "your sequences hold the four quarters of the map; pixel k of every 2 x 2 patch belongs to sequence k: split H "
    "into (H/2, 2), not (2, H/2)": _deal(quarters=True),
    "odd sides are stretched with align_corners=True; leave align_corners alone": _deal(align_corners=True),
    "the channels end up among the pixels: a reshape alone does not move an axis, so permute first":
        _deal(viewed=True),
}


@exercise("08.1", title="Deal out and gather", minutes=20, difficulty="medium", expects=a_function)
def deal(answer: Callable[..., Tensor]) -> str:
    """`answer(x, transform)`: unfold 2 x 2 patches, apply `transform` to (4 N, T, C), fold; odd sides are stretched."""
    hint = "reshape to (N, C, H/2, 2, W/2, 2), permute, reshape to (4 N, T, C); afterwards the same steps backwards"
    seen: list[tuple[int, ...]] = []

    def noted(tokens: Tensor) -> Tensor:
        seen.append(tuple(tokens.shape))
        return tokens

    x = torch.randn(2, 3, 4, 6)
    back = answer(x.clone(), noted)
    if not seen:
        fail("`transform` is never called", hint)
    even = [(torch.randn(shape), one) for shape in SHAPES for one in TRANSFORMS]
    if isinstance(back, Tensor) and back.shape == x.shape and seen[0] == (8, 6, 3) and not torch.equal(back, x):
        fail("without a change in between, folding does not give the map back: it must undo each step of the "
             "unfolding, last step first", hint)
    compare_functions(answer, reference_deal, even, DEAL_MISTAKES, hint)
    odd = [(torch.randn(shape), one) for shape in ODD_SHAPES for one in TRANSFORMS]
    try:
        outputs = [answer(x.clone(), one) for x, one in odd]
    except RuntimeError as error:
        if not any(words in str(error) for words in ("is invalid for input of size", "must match", "divisible")):
            raise
        fail("right for even sides, but odd sides are not resized before the map is cut into patches",
             "F.interpolate(x, (even height, even width), mode=\"bilinear\"), and back to the size of x at the end")
    for (x, _), y in zip(odd, outputs, strict=True):
        if isinstance(y, Tensor) and y.shape != x.shape:
            fail(f"a map of {x.shape[2]} x {x.shape[3]} comes back as {y.shape[2]} x {y.shape[3]}: it must have its "
                 "own size again", "F.interpolate once more, to the size of x")
    compare_functions(answer, reference_deal, odd, DEAL_MISTAKES, hint)
    return f"Equal to MobileViT's for {len(SHAPES) + len(ODD_SHAPES)} shapes, {len(ODD_SHAPES)} of them with odd sides."


def reference_attention(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor, height: int,
                        width: int) -> Tensor:
    """Attention with a bias for each distance, as in LeViT."""
    return _attend()(queries, keys, values, biases, height, width)


def _attend(*, scale="root", bias="distance", where="scores", axis=-1, sign=1, softmax=True):
    """Attention with biases, right by default, or with one mistake."""
    def attend(queries: Tensor, keys: Tensor, values: Tensor, biases: Tensor, height: int, width: int) -> Tensor:
        depth = queries.shape[-1]
        scores = queries @ keys.transpose(-2, -1)
        factor = {"root": depth**-0.5, "none": 1.0, "channels": 1 / depth, "values": values.shape[-1]**-0.5}[scale]
        down, across = (width, height) if bias == "column by column" else (height, width)
        rows = torch.arange(down).repeat_interleave(across)
        columns = torch.arange(across).repeat(down)
        dy, dx = rows[:, None] - rows, columns[:, None] - columns
        if bias in ("distance", "column by column"):
            dy, dx = dy.abs(), dx.abs()
        elif bias == "swapped":
            dy, dx = dx.abs(), dy.abs()
        added = sign * biases[:, dy, dx] if bias != "none" else torch.zeros(())
        if not softmax:
            return (scores * factor + added) @ values
        if where == "before scale":
            return ((scores + added) * factor).softmax(axis) @ values
        if where == "after softmax":
            return ((scores * factor).softmax(axis) + added) @ values
        return (scores * factor + added).softmax(axis) @ values
    return attend


ATTENTION_MISTAKES = {
    "the scores are not divided by the root of the channels of a head": _attend(scale="none"),
    "the scores are divided by the channels of a head, not by their root": _attend(scale="channels"),
    "the biases are added after the softmax; then rows no longer sum to 1": _attend(where="after softmax"),
    "the biases are scaled with the scores; add them after the division": _attend(where="before scale"),
    "the biases are missing": _attend(bias="none"),
    "rows and columns are swapped: biases[head, |dy|, |dx|]": _attend(bias="swapped"),
    "rows are counted with `height` where it must be `width`: position t stands in row t // width, column t % width":
        _attend(bias="column by column"),
    "the scores are divided by the root of the values' channels; it must be that of the queries'":
        _attend(scale="values"),
    "the biases are subtracted; add them": _attend(sign=-1),
    "the softmax is missing": _attend(softmax=False),
    "the offset keeps its sign: -1 then reads the last entry of the table; take its absolute value":
        _attend(bias="signed"),
    "the softmax runs over the queries; the weights of each query, over all keys, must sum to 1": _attend(axis=-2),
}


@exercise("08.2", title="Attention that knows distances", minutes=20, difficulty="medium", expects=a_function)
def biased_attention(answer: Callable[..., Tensor]) -> str:
    """`answer(queries, keys, values, biases, height, width)`; tensors (N, heads, T, d), biases (heads, side, side)."""
    cases = []
    for images, heads, height, width, depth in ((1, 2, 3, 3, 4), (2, 3, 2, 4, 8), (2, 1, 4, 3, 16)):
        shape = images, heads, height * width, depth
        side = max(height, width) + 1  # larger than the map: only some of the table is used
        cases.append((3 * torch.randn(shape), torch.randn(shape), torch.randn(*shape[:3], 2 * depth),
                      2 * torch.randn(heads, side, side), height, width))
    compare_functions(answer, reference_attention, cases, ATTENTION_MISTAKES,
                      "scores = q kᵀ / sqrt(d) + biases[:, |dy|, |dx|], softmax over the last axis, times the values")
    return f"Equal in {len(cases)} settings, with maps that are not square."


@exercise("08.3", title="The share of attention", minutes=15, difficulty="medium", expects=dict)
def attention_share(answer: Mapping[int, float]) -> str:
    """`answer` maps an image side to the share of MobileViT-XXS's MACs that its attention products take."""
    if set(answer) != set(SIDES):
        fail(f"the keys must be {', '.join(map(str, SIDES))}; got {', '.join(map(repr, answer)) or 'none'}")
    products, linear, everything = zip(*(_parts(side) for side in SIDES), strict=True)

    def shares(part: tuple, whole: tuple) -> dict[str, float]:
        return {f"{side}": a / b for side, a, b in zip(SIDES, part, whole, strict=True)}

    right = shares(products, everything)
    both = tuple(a + b for a, b in zip(products, linear, strict=True))
    rest = tuple(a - b for a, b in zip(everything, products, strict=True))
    mistakes = {
        "these are percent; give shares from 0 to 1": {side: 100 * share for side, share in right.items()},
        "you count the linear layers of the attention too; the products are those of queries with keys, and of "
        "weights with values": shares(both, everything),
        "this is the ratio of the products to all other MACs; divide by all MACs, products included":
            shares(products, rest),
        "these are MACs; divide by those of the whole network": dict(zip(right, products, strict=True)),
        "you counted one of the two products; weights times values is the other":
            shares(tuple(a / 2 for a in products), everything),
        "the same share at every size: did you profile each size?": dict.fromkeys(right, right["256"]),
    }
    compare_numbers({f"{side}": answer[side] for side in SIDES}, right, mistakes, tolerance=2e-3,
                    hint="among lw.profile(...).layers, those that are the attention itself have names that end in "
                         ".attention")
    return "From {:.0%} over {:.0%} to {:.0%}.".format(*right.values())


def _parts(side: int) -> tuple[int, int, int]:
    """MACs of the products, of the linear layers in the attentions, and of all, on an image of side * side."""
    with torch.device("meta"):  # shapes only
        cost = profile(create_model("mobilevit_xxs"), (3, side, side))
    return (sum(layer.macs for layer in cost.layers if layer.name.endswith(".attention")),
            sum(layer.macs for layer in cost.layers if ".attention." in layer.name), cost.macs)


@exercise("08.4", title="A hybrid for two budgets", minutes=20, difficulty="hard", expects=a_function)
def hybrid(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds a network with attention for (N, 3, 32, 32) and ten classes; accuracy is its score."""
    network = ten_class_network(answer, (3, 32, 32))
    _refuse_without_attention(network)
    cost = profile(network, (3, 32, 32))
    bills = ((cost.macs, MAX_MACS, "MACs"), (cost.params, MAX_PARAMS, "parameters"))
    refuse_over_budget(bills, "which layers cost most? print(lw.profile(my_hybrid(), (3, 32, 32)))")
    accuracy = trained_accuracy(answer, load_data("photo_digits", copies=1), RECIPE,
                                hint="is there a norm before every attention?")
    if accuracy < LEAST_ACCURACY:
        fail(f"within both budgets, but it learned too little: {accuracy:.0%} of the test digits are right, "
             f"{LEAST_ACCURACY:.0%} are needed", "convolutions first, and one short transformer on a map of 8 x 8")
    return (f"Score {accuracy:.1%}, with {cost.macs:,} of {MAX_MACS:,} MACs and {cost.params:,} of {MAX_PARAMS:,} "
            "parameters.")


def _refuse_without_attention(network: nn.Module) -> None:
    """Attention must be built, and run on more than one token."""
    kinds = (mobilevit.Attention, levit.Attention, nn.MultiheadAttention)
    tokens: list[int] = []

    def note(module: nn.Module, args: tuple, kwargs: dict) -> None:
        x = args[0] if args else kwargs["query"]
        tokens.append(x.shape[1] * x.shape[2] if isinstance(module, levit.Attention) else
                      x.shape[1] if getattr(module, "batch_first", True) else x.shape[0])

    handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in network.modules()
               if isinstance(module, kinds)]
    with torch.no_grad():
        network(torch.zeros(2, 3, 32, 32))
    for handle in handles:
        handle.remove()
    if not tokens:
        fail("there is no attention in it" if not handles else "its attention is built but never used",
             "MobileViTBlock(channels, tokens, depth) keeps the size of the map, so it fits anywhere")
    if max(tokens) < 4:
        fail(f"its attention sees {max(tokens)} token{'s' * (max(tokens) != 1)}: there is nothing to attend to",
             "put it where the map is larger; a map of 4 x 4 has 4 patches")
