"""02.8: MobileNetV3 without its extras."""
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from lwcourse.checks import exercise
from lwcourse.checks.ch02.ablation import SIDE
from lwcourse.checks.helpers import (
    a_builder,
    compare_blocks,
    naming_mistakes,
)
from lwcourse.models.mobilenet_v3 import LARGE, MobileNetV3
from lwcourse.profile import profile

MINIMAL_CASE = ((), (1, 3, 48, 40))


def minimalistic(*, kernels: bool = True, gates: bool = True, blocks: bool = True, ends: bool = True) -> nn.Module:
    """MobileNetV3-Large of 3x3 kernels, without gates, with ReLU in the blocks and at the two ends; what is False
    stays as it is in Large."""
    rows = tuple(row._replace(kernel=3 if kernels else row.kernel, se=row.se and not gates,
                              act=nn.ReLU if blocks else row.act) for row in LARGE)
    network = MobileNetV3(rows, 1280, dropout=0.0)
    for part in (network.stem, network.head, network.classifier):
        for name, layer in part.named_children():
            if ends and isinstance(layer, nn.Hardswish):
                setattr(part, name, nn.ReLU(inplace=True))
    return network


MINIMAL_MISTAKES = {
    "that is MobileNetV3-Large itself": partial(minimalistic, kernels=False, gates=False, blocks=False, ends=False),
    "the first layer and the end still have h-swish; all activations are to be ReLU": partial(minimalistic, ends=False),
    "the blocks still have h-swish; all activations are to be ReLU": partial(minimalistic, blocks=False),
    "h-swish is still everywhere; all activations are to be ReLU": partial(minimalistic, blocks=False, ends=False),
    "there are still gates in the blocks": partial(minimalistic, gates=False),
    "there are still 5x5 kernels": partial(minimalistic, kernels=False),
}


@exercise("02.8", title="MobileNetV3 without its extras", minutes=20, difficulty="hard", expects=a_builder)
def minimal_network(answer: Callable[[], nn.Module]) -> str:
    """`answer()` builds MobileNetV3-Large minimalistic for a thousand classes."""
    with naming_mistakes(answer, MINIMAL_MISTAKES, (MINIMAL_CASE,)):
        compare_blocks(answer, minimalistic, (MINIMAL_CASE,), ready_made=("MobileNetV3",), macs=True,
                       shortcut="the input can be added only where it has the shape of the output, so not where the "
                       "stride is 2, nor where the channels change")
    with torch.device("meta"):
        cost = profile(minimalistic(), (3, SIDE, SIDE))
    return (f"Equal, layer by layer. At 224 x 224 it has {cost.macs / 1e6:.0f} M MACs and {cost.params / 1e6:.1f} M "
            "parameters, as TF-Slim's list says.")
