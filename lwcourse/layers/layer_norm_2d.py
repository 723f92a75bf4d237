"""Layer normalisation of feature maps, as ConvNeXt uses it; Ba et al., 2016, https://arxiv.org/abs/1607.06450."""
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Normalise the channels of each pixel to mean 0 and variance 1, then scale and shift them.

    Shape: (N, channels, H, W) -> the same; the result's memory is in channels_last order.
    Cost: no multiply-adds by the course's convention.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
