"""SA-Net: Shuffle Attention, with MobileNetV2 as host.

Paper:   Zhang & Yang, ICASSP 2021, https://arxiv.org/abs/2102.00240
Lesson:  notebooks/05_attention.ipynb
Idea:    give half of the channels a channel gate and half a spatial gate, each no more than a
         scale and a shift, in groups that share them; then shuffle, so that the halves meet.
Differs: the paper's hosts are ResNets with 64 groups. MobileNetV2 with 8 groups, between the
         depthwise filter and the projection of every block that expands, is light_cnns' variant,
         of which nobody has published a result; so is the dropout of 0.1.
"""
from functools import partial

from torch import Tensor

from lwcourse.layers import ShuffleAttention
from lwcourse.models.mobilenet_v2 import InvertedResidual, MobileNetV2
from lwcourse.registry import ModelCard, register


class InvertedResidualSA(InvertedResidual):
    """Inverted residual with shuffle attention between filter and projection.

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Raises ValueError when `groups` is not half a divisor of the hidden channels.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int, *, groups: int = 8):
        super().__init__(in_channels, out_channels, stride, expand)
        self.attention = ShuffleAttention(expand * in_channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.attention(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y


def _block(in_channels: int, out_channels: int, stride: int, expand: int, *, groups: int) -> InvertedResidual:
    """The first block, which does not expand, has no attention."""
    if expand == 1:
        return InvertedResidual(in_channels, out_channels, stride, expand)
    return InvertedResidualSA(in_channels, out_channels, stride, expand, groups=groups)


@register(ModelCard(
    family="SA-Net", paper="SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
    arxiv="2102.00240", year=2021, chapter="05", table="none: the paper's tables have ResNets only",
    reference="torchvision mobilenet_v2 with the formulas of SA-Net",
    counted_params=3_507_536, counted_macs=300_774_272,
    note="Neither the paper nor its official code has a MobileNetV2, so there are no published figures: the layer "
         "equals the official one, the host torchvision's, and the place and the 8 groups are a choice."),
    aliases=("mbv2_sa",))
def mobilenet_v2_sa(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                    groups: int = 8) -> MobileNetV2:
    """MobileNetV2 with shuffle attention, untrained; the hidden channels, multiples of 48, need 2 * `groups`
    to divide them, as 1, 2, 4 and 8 groups do at any width."""
    return MobileNetV2(num_classes, in_channels, width=width, dropout=0.1, block=partial(_block, groups=groups))
