"""05.8: MobileNetV2 with ECA."""
import copy
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_builder,
    compare_modules,
    naming_mistakes,
    refuse_ready_made,
    shown,
    watch,
)
from lwcourse.layers import (
    EfficientChannelAttention,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.models.mobilenet_v2_eca import mobilenet_v2_eca


def _host(place: str, *, wide: int = 96, first: bool = True, narrow: int = 1, broad: int = 3, dropout: float = 0.25
          ) -> MobileNetV2:
    """MobileNetV2 with ECA in a `place` of its blocks: what the options say is what learners get wrong."""
    class Block(InvertedResidual):
        def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
            super().__init__(in_channels, out_channels, stride, expand)
            channels = expand * in_channels if place == "filter" else out_channels
            self.attention = (EfficientChannelAttention(channels, broad if out_channels >= wide else narrow)
                              if first or expand > 1 else nn.Identity())
            self.place = place if self.has_shortcut or place == "filter" else "projection"

        def forward(self, x: Tensor) -> Tensor:
            y = self.depthwise(self.expand(x))
            y = self.project(self.attention(y) if self.place == "filter" else y)
            if self.place == "projection":
                y = self.attention(y)
            y = x + y if self.has_shortcut else y
            return self.attention(y) if self.place == "sum" else y

    return MobileNetV2(1000, 3, dropout=dropout, block=Block)


OTHER_PLACES: dict[str, Callable[..., nn.Module]] = {
    "the gates stand after the depthwise filter; these stand after the projection": partial(_host, "filter"),
    "the gates scale the sum with the shortcut; they must scale what is added to it": partial(_host, "sum"),
}
OTHER_COUNTS: dict[str, Callable[..., nn.Module]] = {
    "there are no gates, or they have no parameters": partial(MobileNetV2, dropout=0.25),
    "the first block has no gate; here all seventeen have one": partial(_host, "projection", first=False),
    "the kernel is 3 from 64 channels on; the authors' is 3 from 96 on": partial(_host, "projection", wide=64),
    "the kernel is 3 above 96 channels; at 96 it is 3 already": partial(_host, "projection", wide=97),
    "the kernel is 3 in every block; it is 1 below 96 channels": partial(_host, "projection", narrow=3),
    "the kernel is 1 in every block; it is 3 from 96 channels on": partial(_host, "projection", broad=1),
}
def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


HOST_SHAPE = (2, 3, 32, 48)


@exercise("05.8", title="MobileNetV2 with ECA", minutes=20, difficulty="hard", expects=a_builder)
def mobilenet_with_eca(answer: Callable[[], nn.Module]) -> str:
    """`answer()` gives the network."""
    with watch() as seen:
        mine = answer()
    if not isinstance(mine, nn.Module):
        missing = "; is the return missing?" if mine is None else ""
        fail(f"your function returns {shown(mine)}, not a network{missing}")
    refuse_ready_made(seen, ["mobilenet_v2_eca", "InvertedResidualECA"])
    for reason, build in OTHER_COUNTS.items():
        if _parameters(build()) == _parameters(mine):
            fail(reason)
    rates = {module.p for module in mine.modules() if isinstance(module, nn.Dropout)}
    if rates - {0.25}:
        fail(f"the dropout before the classifier has p={max(rates - {0.25}):g}; the authors' has 0.25")
    with naming_mistakes(lambda: copy.deepcopy(mine), OTHER_PLACES, [((), HOST_SHAPE)]):
        compare_modules(mine, mobilenet_v2_eca(), HOST_SHAPE,
                        shortcut="is the gate applied to a map of another number of channels?")
    return "Equal to the course's mobilenet_v2_eca, in eval and in training mode."
