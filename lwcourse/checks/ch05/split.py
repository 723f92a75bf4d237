"""05.7: three bugs in Split-Attention."""
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    a_module_class,
    compare_blocks,
    naming_mistakes,
)
from lwcourse.layers import (
    SplitAttention,
)

SPLIT_CASES = (  # (channels, radix, cardinality), input shape
    ((64, 2, 1), (3, 64, 5, 7)),
    ((64, 2, 2), (3, 64, 6, 4)),
    ((96, 4, 3), (3, 96, 5, 5)),
)


def _split_attention(channels: int, radix: int, cardinality: int) -> SplitAttention:
    return SplitAttention(channels, radix=radix, cardinality=cardinality)


class _Split(nn.Module):
    """Split-Attention with the bugs that its options put in."""

    def __init__(self, channels: int, radix: int, cardinality: int, *, order: bool = True, axis: int = 1,
                 means: str = "sum"):
        super().__init__()
        right = _split_attention(channels, radix, cardinality)
        self.splits, self.squeeze, self.excite = right.splits, right.reduce, right.expand
        self.radix, self.cardinality, self.order, self.axis, self.means = radix, cardinality, order, axis, means

    def forward(self, x: Tensor) -> Tensor:
        u = self.splits(x).unflatten(1, (self.radix, -1))
        pooled = {"sum": lambda: u.sum(1), "first": lambda: u[:, 0], "mean": lambda: u.mean(1),
                  "last": lambda: u[:, -1]}[self.means]().mean((2, 3), keepdim=True)
        weight = self.excite(self.squeeze(pooled))
        if self.order:
            weight = weight.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2).flatten(2, 3)
        else:
            weight = weight.unflatten(1, (self.radix, -1))
        weight = weight.sigmoid() if self.axis == 0 else weight.softmax(self.axis)
        return (weight * u).sum(1)


ORDER, AXIS, MEANS = ("with a cardinality above 1, weights of one group meet maps of another",
                      "the weights that one channel gives to its splits do not add up to 1",
                      "the attention looks at one split only; it must see all of them")
SPLIT_MISTAKES: dict[str, Callable[..., nn.Module]] = {
    f"three bugs are in it still. One of them: {AXIS}": partial(_Split, order=False, axis=2, means="first"),
    f"two bugs are left. One of them: {AXIS}": partial(_Split, axis=2, means="first"),
    f"two bugs are left. One of them: {AXIS} ": partial(_Split, order=False, axis=2),
    f"two bugs are left. One of them: {MEANS}": partial(_Split, order=False, means="first"),
    f"one bug is left: {AXIS}": partial(_Split, axis=2),
    f"one bug is left: {MEANS}": partial(_Split, means="first"),
    f"one bug is left: {ORDER}": partial(_Split, order=False),
    "the attention looks at the last split only; it must see all of them": partial(_Split, means="last"),
    "the attention takes the mean over the splits, where it should take their sum": partial(_Split, means="mean"),
    f"{AXIS}: a sigmoid lets each split decide for itself, a softmax lets them compete": partial(_Split, axis=0),
}


@exercise("05.7", title="Three bugs in Split-Attention", minutes=15, difficulty="medium", expects=a_module_class)
def bugs_in_split_attention(answer: type[nn.Module]) -> str:
    """`answer(channels, radix, cardinality)` builds the layer."""
    with naming_mistakes(answer, SPLIT_MISTAKES, SPLIT_CASES):
        compare_blocks(answer, _split_attention, SPLIT_CASES, ready_made=["SplitAttention"])
    return f"All three are gone: equal to the course's layer in {len(SPLIT_CASES)} settings, in eval and training mode."
