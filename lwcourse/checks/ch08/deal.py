"""08.1: deal the pixels out, and gather them."""
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.checks import CheckFailed, exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    compare_functions,
    refuse_ready_made,
    watch,
)
from lwcourse.models.mobilevit import PATCH, fold, unfold

SHAPES = ((2, 3, 4, 6), (1, 2, 8, 4), (3, 4, 6, 6))
ODD_SHAPES = ((2, 3, 5, 8), (1, 2, 4, 7), (2, 2, 7, 5))


class Transform:
    """A function on sequences that tells its name in messages, and notes the shapes that it gets."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        self.function = function
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, tokens: Tensor) -> Tensor:
        self.seen.append(tuple(tokens.shape))
        return self.function(tokens)

    def __repr__(self) -> str:
        return f"the transform {self.function.__name__!r}"


def unchanged(tokens: Tensor) -> Tensor:
    """(B, T, C) -> the same."""
    return tokens


def reversed_order(tokens: Tensor) -> Tensor:
    """A stand-in for the transformer that depends on the order of tokens: (B, T, C) -> the same shape."""
    steps = torch.linspace(0.5, 1.5, tokens.shape[1]).view(1, -1, 1)
    return tokens.flip(1) * steps


def less_the_mean(tokens: Tensor) -> Tensor:
    """A stand-in that mixes the tokens of a sequence: (B, T, C) -> the same shape."""
    return tokens - 2 * tokens.mean(dim=1, keepdim=True)


def mixed_channels(tokens: Tensor) -> Tensor:
    """A stand-in that mixes the channels of each token: (B, T, C) -> the same shape."""
    channels = torch.arange(tokens.shape[2] ** 2, dtype=tokens.dtype).view(tokens.shape[2], -1)
    return tokens @ (0.7 * channels).sin()


TRANSFORMS = reversed_order, less_the_mean, mixed_channels


def reference_deal(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """What a MobileViT block does around its transformer."""
    size = x.shape[2:]
    even = [-(-side // PATCH) * PATCH for side in size]
    y = x if list(size) == even else F.interpolate(x, even, mode="bilinear")
    y = fold(transform(unfold(y)), *even)
    return y if list(size) == even else F.interpolate(y, size, mode="bilinear")


def _deal(*, columns_first=False, patch_is_sequence=False, batch_mixed=False, padded="", cut=False,
          viewed=False, half=False, one_sequence=False, quarters=False, down=False, cut_back=False, **how):
    """The same with one mistake; `how` goes to F.interpolate."""
    def deal(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        n, c, height, width = x.shape
        if padded:
            y = F.pad(x, (0, width % 2, 0, height % 2), mode=padded)
            return deal_even(y, transform)[:, :, :height, :width]
        if cut:
            return deal_even(x[:, :, :height // 2 * 2, :width // 2 * 2], transform)
        even = [side - side % 2 if down else side + side % 2 for side in (height, width)]
        if even == [height, width]:
            return deal_even(x, transform)
        y = deal_even(F.interpolate(x, even, **{"mode": "bilinear"} | how), transform)
        if half:
            return y
        if cut_back:
            return y[:, :, :height, :width]
        return F.interpolate(y, (height, width), **{"mode": "bilinear"} | how)

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


ADDED = ("the input, or your sequences as they were, is added to what `transform` gives; the result is made from that "
         "alone")
DEAL_MISTAKES = {
    ADDED: lambda x, transform: x + reference_deal(x, transform),
    "this is the mean of the input and of what `transform` gives; the result is made from the latter alone":
        lambda x, transform: (x + reference_deal(x, transform)) / 2,
    "what `transform` gives is not used: the map comes back as it was": lambda x, transform: x.clone(),
    "the patches of a sequence are in the wrong order: go through them row by row, left to right":
        _deal(columns_first=True),
    "your sequences hold the four quarters of the map; pixel k of every 2 x 2 patch belongs to sequence k":
        _deal(quarters=True),
    "the channels end up among the pixels: a reshape alone does not move an axis": _deal(viewed=True),
}
RESIZE_MISTAKES = {
    "odd sides are padded with zeros; stretch the map instead, as zeros would be tokens too": _deal(padded="constant"),
    "odd sides are padded with a copy of the last row or column; stretch the whole map instead":
        _deal(padded="replicate"),
    "odd sides are padded with a mirrored row or column; stretch the whole map instead": _deal(padded="reflect"),
    "odd sides are stretched by nearest neighbours, the default of F.interpolate; the sheet asks for bilinear":
        _deal(mode="nearest"),
    "odd sides are stretched with align_corners=True; leave align_corners alone": _deal(align_corners=True),
    "odd sides are stretched as bicubic; the sheet asks for bilinear": _deal(mode="bicubic"),
    "odd sides are resized with antialias=True; leave antialias alone": _deal(antialias=True),
    "odd sides are stretched, but the result is cut to the size of x, or shrunk by nearest neighbours, which is the "
    "same here; shrink it as bilinear": _deal(cut_back=True),
}


@exercise("08.1", title="Deal out and gather", minutes=20, difficulty="medium", expects=a_function)
def deal(answer: Callable[..., Tensor]) -> str:
    """`answer(x, transform)`: unfold 2 x 2 patches, apply `transform` to (4 N, T, C), fold; odd sides are stretched."""
    for shape in SHAPES:
        _refuse_other_sequences(answer, torch.randn(shape))
    compare_functions(answer, reference_deal, _deal_cases(SHAPES), DEAL_MISTAKES, gradients=True)
    for shape in ODD_SHAPES:
        x = torch.randn(shape)
        try:
            y = _refuse_other_sequences(answer, x)
        except (RuntimeError, ValueError) as error:
            fail(f"right for even sides, but a map of {shape[2]} x {shape[3]} breaks it: odd sides are not resized "
                 f"before the map is cut into patches ({str(error).splitlines()[0]})")
        if isinstance(y, Tensor) and y.shape != x.shape:
            fail(f"a map of {shape[2]} x {shape[3]} comes back as {' x '.join(map(str, y.shape[2:]))}: it must have "
                 "its own size again")
    compare_functions(answer, reference_deal, _deal_cases(ODD_SHAPES), RESIZE_MISTAKES,
                      "even sides are right; look at how the map is resized, there and back", gradients=True)
    return f"Equal to MobileViT's for {len(SHAPES) + len(ODD_SHAPES)} shapes, {len(ODD_SHAPES)} of them with odd sides."


def _deal_cases(shapes: Sequence[tuple[int, ...]]) -> list[tuple[Tensor, Transform]]:
    return [(torch.randn(shape), Transform(one)) for shape in shapes for one in TRANSFORMS]


def _refuse_other_sequences(answer: Callable[..., Tensor], x: Tensor) -> Tensor:
    """What `answer` gives with a transform that changes nothing, which must get (4 N, T, C), once."""
    n, c, height, width = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    transform = Transform(unchanged)
    with watch() as ran:
        y = answer(x.clone(), transform)
    refuse_ready_made(ran, ("unfold", "fold"))
    if not transform.seen:
        fail("`transform` is never called")
    got = transform.seen[0]
    label = f"for x of shape {tuple(x.shape)}, "
    if len(transform.seen) > 1:
        fail(f"{label}`transform` is called {len(transform.seen)} times; call it once, on all sequences together")
    wanted = 4 * n, rows * columns, c
    if got == wanted:
        same = isinstance(y, Tensor) and y.shape == x.shape and height % 2 == width % 2 == 0
        if same and not torch.equal(y, x):
            if _computes(answer, DEAL_MISTAKES[ADDED], [(x, Transform(one)) for one in TRANSFORMS]):
                fail(ADDED)
            fail("without a change in between, folding does not give the map back: it must undo each step of the "
                 "unfolding, last step first")
        return y
    usual = {
        (4 * n, c, rows * columns): "the channels stand before the tokens; they must stand last",
        (n, rows * columns, 4 * c): "each token is a whole patch, with the channels of its four pixels, as in a ViT; a "
                                    "token is one pixel",
        (4 * n * c, rows * columns, 1): "each channel is a sequence of its own; a token has all channels of its pixel",
        (n * rows * columns, 4, c): "your sequences hold the four pixels of one patch; they must hold the same pixel "
                                    "of all patches",
        (n, height * width, c): "all pixels of an image are in one sequence; deal them out to four, one for each pixel "
                                "of a 2 x 2 patch",
        (4, n * rows * columns, c): "a sequence mixes the images of the batch: each image needs sequences of its own",
        (4 * n, height // 2 * (width // 2), c): "the last row or column is dropped, or the map is shrunk; odd sides "
                                                "must be stretched",
    }
    why = f": {usual[got]}" if got in usual else ""
    fail(f"{label}`transform` gets the shape {got}, not (4 N, H/2 * W/2, C) = {wanted}{why}")


def _computes(answer: Callable[..., Tensor], other: Callable[..., Tensor], cases: Sequence[tuple]) -> bool:
    try:
        compare_functions(answer, other, cases)
    except CheckFailed:
        return False
    return True
