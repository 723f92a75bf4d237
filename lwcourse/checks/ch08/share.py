"""08.3: the share of attention in a block's work."""
from collections.abc import Mapping

import torch
from torch import Tensor

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    compare_numbers,
    refuse_missing_keys,
)
from lwcourse.profile import profile
from lwcourse.registry import create_model

SIDES = (256, 512, 1024)
ROUNDED = 1.5e-2  # relative: shares may be rounded to two digits


@exercise("08.3", title="The share of attention", minutes=15, difficulty="medium", expects=dict)
def attention_share(answer: Mapping[int, float]) -> str:
    """`answer` maps an image side to the share of MobileViT-XXS's MACs that its attention products take."""
    refuse_missing_keys(answer, SIDES)
    products, linear, everything = (torch.tensor(part, dtype=torch.float64) for part in
                                    zip(*(_parts(side) for side in SIDES), strict=True))
    right = products / everything
    one = "you counted one of the two products; weights times values is the other"
    rest = "this is the ratio to all other MACs; divide by all MACs, products included"
    layers = ("you count the linear layers of the attention too; the products are those of queries with keys, and of "
              "weights with values")
    wrong = {
        "these are MACs; divide by those of the whole network": products,
        layers: (products + linear) / everything,
        "these are the linear layers of the attention; the products are the other part of it": linear / everything,
        "these are shares of the attention; divide by the MACs of the whole network": products / (products + linear),
        "these are the shares of all the rest": 1 - right,
        rest: products / (everything - products),
        one: right / 2,
        f"{one}. And {rest}": products / 2 / (everything - products / 2),
        f"{one}, and {rest}": products / 2 / (everything - products),
        f"{layers}. And {rest}": (products + linear) / (everything - products - linear),
    }
    mistakes = dict(wrong)
    mistakes["these are percent; give shares from 0 to 1"] = 100 * right
    for words, shares in list(wrong.items())[1:]:
        mistakes[f"these are percent; give shares from 0 to 1. And {words}"] = 100 * shares
    for side, share in zip(SIDES, right.tolist(), strict=True):
        mistakes[f"the same share at every size, that of {side}: did you profile each size?"] = right * 0 + share
    compare_numbers({f"{side}": answer[side] for side in SIDES}, _by_side(right),
                    {words: _by_side(shares) for words, shares in mistakes.items()}, tolerance=ROUNDED)
    return "From {:.0%} over {:.0%} to {:.0%}.".format(*right.tolist())


def _by_side(values: Tensor) -> dict[str, float]:
    return {f"{side}": value for side, value in zip(SIDES, values.tolist(), strict=True)}


def _parts(side: int) -> tuple[int, int, int]:
    """MACs of the products, of the linear layers in the attentions, and of all, on an image of side * side."""
    with torch.device("meta"):  # shapes only
        cost = profile(create_model("mobilevit_xxs"), (3, side, side))
    return (sum(layer.macs for layer in cost.layers if layer.name.endswith(".attention")),
            sum(layer.macs for layer in cost.layers if ".attention." in layer.name), cost.macs)
