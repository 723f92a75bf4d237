"""What a network with further heads returns while it trains."""
from typing import NamedTuple

from torch import Tensor


class TrainingOutput(NamedTuple):
    """Logits of the main head, and those of the heads that only training has.

    Where logits are maps, (N, classes, H, W), the auxiliary ones are enlarged to the same size, that of the labels.

    A network with auxiliary classifiers or a distillation head returns this in training mode, and logits
    alone in eval mode. `lw.fit` minimises loss(logits) + weight * (sum of loss(a) for a in auxiliary);
    for that, `weight` is the paper's.
    """
    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
