"""Split-Attention: Zhang et al. 2020, https://arxiv.org/abs/2004.08955."""
from torch import Tensor, nn

from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.make_divisible import make_divisible


class SplitAttention(nn.Module):
    """A 3x3 convolution computes `radix` versions of every channel; attention mixes them (Figure 2).

    Shape: (N, channels, H, W) -> (N, channels, ceil(H/stride), ceil(W/stride)).
    Cost in multiply-adds: H_out*W_out * 9*channels^2 / cardinality, for any radix, since the convolution has as
    many more groups as it has outputs; and hidden * channels * (1 + radix) / cardinality for the attention,
    where hidden is a quarter of channels * radix, but at least 32.

    The channels fall into `cardinality` groups (K in the paper) that know nothing of each other. Each holds
    `radix` splits (R), alternatives for the same channels, computed from different input channels; every image
    and every channel takes its own mixture, the sum over r of weight_r * split_r. The weights are a softmax
    over the splits; with radix 1 there is nothing to choose from, and a sigmoid makes of it
    squeeze-and-excitation. Raises ValueError unless cardinality * radix divides `channels`, and cardinality
    hidden.
    """

    def __init__(self, channels: int, stride: int = 1, *, radix: int = 2, cardinality: int = 1):
        super().__init__()
        hidden = make_divisible(max(32, channels * radix / 4))
        if radix < 1 or cardinality < 1 or channels % (cardinality * radix) or hidden % cardinality:
            raise ValueError("cardinality * radix must divide channels, and cardinality the hidden channels; got "
                             f"cardinality={cardinality}, radix={radix}, channels={channels}, hidden={hidden}")
        self.radix, self.cardinality = radix, cardinality
        self.splits = ConvBNAct(channels, channels * radix, 3, stride, groups=cardinality * radix)
        self.reduce = nn.Sequential(nn.Conv2d(channels, hidden, 1, groups=cardinality),
                                    nn.BatchNorm2d(hidden), nn.ReLU(inplace=True))
        self.expand = nn.Conv2d(hidden, channels * radix, 1, groups=cardinality)

    def forward(self, x: Tensor) -> Tensor:
        x = self.splits(x)
        pooled = x.mean(dim=(2, 3), keepdim=True)
        if self.radix == 1:
            return x * self.expand(self.reduce(pooled)).sigmoid()
        x, pooled = (tensor.unflatten(1, (self.radix, -1)) for tensor in (x, pooled))  # (N, radix, channels, H, W)
        weight = self.expand(self.reduce(pooled.sum(dim=1)))
        # Convolutions put out group by group. Those of `splits` are radix * cardinality, so that its channels are
        # ordered by split, then by group; those of `expand` are cardinality: by group, then by split. The
        # transpose brings the weights into the order of the channels that they weigh.
        weight = weight.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2)
        weight = weight.softmax(dim=1).flatten(2, 3)  # (N, radix, channels, 1, 1)
        return (x * weight).sum(dim=1)
