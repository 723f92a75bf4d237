"""08.5: count before you build."""
from collections.abc import Mapping

import torch

from lwcourse.checks import exercise
from lwcourse.checks.helpers import (
    compare_parts,
    refuse_missing_keys,
)
from lwcourse.models.mobilevit import Attention, unfold
from lwcourse.profile import profile

IMAGES, CHANNELS, HEADS, HEIGHT, WIDTH = 3, 48, 4, 28, 20  # of exercise 08.5
COUNTS = "sequences", "tokens", "weights", "product_macs", "linear_macs"


@exercise("08.5", title="Count before you build", minutes=10, difficulty="easy", expects=dict)
def attention_counts(answer: Mapping[str, float]) -> str:
    """`answer` has the numbers of COUNTS for one attention over a map that is unfolded to patches of 2 x 2."""
    refuse_missing_keys(answer, COUNTS)
    right = _counts(IMAGES, HEIGHT, WIDTH)
    one, half = _counts(1, HEIGHT, WIDTH), right["product_macs"] // 2
    per_sequence = {"weights": right["weights"] // right["sequences"],
                    "product_macs": right["product_macs"] // right["sequences"],
                    "linear_macs": right["linear_macs"] // right["sequences"]}
    pixels = HEIGHT * WIDTH
    whole = _attention_counts(IMAGES, pixels)
    compare_parts(answer, right, {
        "this is for one image, and there are three: each has sequences of its own": one,
        "these are the MACs and weights of one sequence; add up all sequences": per_sequence,
        "that is attention over all pixels of an image in one sequence; the map is unfolded to four":
            {"sequences": IMAGES, **{label: whole[label] for label in COUNTS[1:]}},
        "tokens: that is all pixels of the map; a sequence has one of each patch of four": {"tokens": pixels},
        "tokens: half of each side makes a quarter of the pixels, not half": {"tokens": pixels // 2},
        "sequences: there is one for each pixel of a patch, and a patch of 2 x 2 has four": {"sequences": 2 * IMAGES},
        "weights: each head has its own": {"weights": right["weights"] // HEADS},
        "weights: T tokens that read T tokens have T * T weights a head": {
            "weights": right["sequences"] * HEADS * right["tokens"]},
        "product_macs: there are two products, of queries with keys and of weights with values": {"product_macs": half},
        "product_macs: heads do not multiply the work: each works on its part of the channels":
            {"product_macs": HEADS * right["product_macs"]},
        "product_macs: you count a multiply and an add as two; one MAC is both": {
            "product_macs": 2 * right["product_macs"], "linear_macs": 2 * right["linear_macs"]},
        "linear_macs: there are four linear layers: queries, keys, values, and the one that mixes the heads":
            {"linear_macs": right["linear_macs"] * 3 // 4},
        "linear_macs: that is one linear layer of the four": {"linear_macs": right["linear_macs"] // 4},
        "linear_macs: these are parameters, or the MACs of one token; every token goes through the layers":
            {"linear_macs": 4 * CHANNELS**2},
        "linear_macs: the MLP is not part of the attention": {"linear_macs": 2 * right["linear_macs"]},
    })
    return "Five right numbers, and nothing was run."


def _counts(images: int, height: int, width: int) -> dict[str, int]:
    sequences, tokens, _ = unfold(torch.empty(images, CHANNELS, height, width, device="meta")).shape
    return {"sequences": sequences, "tokens": tokens, **_attention_counts(sequences, tokens)}


def _attention_counts(sequences: int, tokens: int) -> dict[str, int]:
    with torch.device("meta"):
        attention = Attention(CHANNELS, HEADS)
        weights = attention.weights(torch.empty(sequences, tokens, CHANNELS))
        cost = profile(attention, (tokens, CHANNELS))
    linear = sum(layer.macs for layer in cost.layers if layer.name)
    return {"tokens": tokens, "weights": weights.numel(), "product_macs": sequences * (cost.macs - linear),
            "linear_macs": sequences * linear}
