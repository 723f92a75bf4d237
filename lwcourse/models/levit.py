"""LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference.

Paper:   Graham et al., ICCV 2021, https://arxiv.org/abs/2104.01136
Lesson:  notebooks/08_mobilevit.ipynb
Idea:    shrink the image by convolutions first, then let ever fewer positions attend to each other; where they
         are is told by a learned bias for each distance, and BatchNorm can be folded away after training.
Differs: smaller images than the network was built for share its biases: same distance, same bias; the official
         code takes one size only. In training, `lw.fit` has no teacher: both heads learn the labels.
"""
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lwcourse.layers import ConvBNAct, StochasticDepth, TrainingOutput, check_images, check_integer, check_options
from lwcourse.registry import ModelCard, register

LEVIT_128S, LEVIT_128, LEVIT_192, LEVIT_256, LEVIT_384 = range(5)  # columns of Table 2
KEY = (16, 16, 32, 32, 32)        # D, channels of a key or a query, for each column
LARGEST = 1024  # side of an image in pixels: the distances of all its positions take 64 MiB a block
DROP_RATE = (0, 0, 0, 0, 0.1)     # p, stochastic depth


class Row(NamedTuple):
    """One row of Table 2: pairs of attention and MLP, or one pair that shrinks the map (no `pairs`)."""
    channels: tuple[int, ...]  # C
    heads: tuple[int, ...]     # N; channels before / D where the map shrinks
    pairs: tuple[int, ...] = ()


ROWS = (                                                                     # map side for a 224 x 224 image
    Row((128, 128, 192, 256, 384), heads=(4,   4, 3,  4,  6), pairs=(2, 4, 4, 4, 4)),  # 14 -> 14
    Row((256, 256, 288, 384, 512), heads=(8,   8, 6,  8, 12)),                         # 14 ->  7
    Row((256, 256, 288, 384, 512), heads=(6,   8, 5,  6,  9), pairs=(3, 4, 4, 4, 4)),  #  7 ->  7
    Row((384, 384, 384, 512, 768), heads=(16, 16, 9, 12, 16)),                         #  7 ->  4
    Row((384, 384, 384, 512, 768), heads=(8,  12, 6,  8, 12), pairs=(4, 4, 4, 4, 4)),  #  4 ->  4
)


def distances(height: int, width: int, stride: int, side: int, device: torch.device | None = None) -> Tensor:
    """Which entry of a table of side * side biases belongs to each query and key: `side` * |dy| + |dx|.

    Queries stand on every `stride`-th row and column of the map, keys everywhere.
    Shape: (ceil(height/stride) * ceil(width/stride), height * width), integers.
    """
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    dy = (y[::stride, None] - y).abs()  # (query rows, key rows)
    dx = (x[::stride, None] - x).abs()
    return (side * dy[:, None, :, None] + dx[None, :, None, :]).flatten(2).flatten(0, 1)


class LinearBN(nn.Module):
    """Linear layer without bias on the last dimension, then BatchNorm; `scale` is BatchNorm's first weight.

    Shape: (..., in_channels) -> (..., out_channels). It is a 1x1 convolution of a map whose channels come last.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 1.0):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bn = nn.BatchNorm1d(out_channels)
        nn.init.constant_(self.bn.weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        return self.bn(y.flatten(0, -2)).view_as(y)


class BNLinear(nn.Module):
    """A head: BatchNorm, then a linear layer. Shape: (N, channels) -> (N, num_classes)."""

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.02)  # officially cut off at 100 standard deviations: not at all
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn(x))


class Attention(nn.Module):
    """Softmax(q k^T / sqrt(D) + bias of the distance) v, activated and projected (Figure 5, left).

    Shape: (N, H, W, channels) -> the same, for H and W up to `side`.
    Cost with T = H*W positions: T * channels * heads*D * (2 + 2*ratio) multiply-adds for the linear layers and
    T^2 * heads*D * (1 + ratio) for the products; values have ratio = 2 times the channels of keys.
    """
    ratio, stride = 2, 1

    def __init__(self, in_channels: int, out_channels: int, key: int, heads: int, side: int):
        super().__init__()
        self.key, self.value, self.heads, self.side = key, self.ratio * key, heads, side
        self.add_projections(in_channels)
        scale = 0.0 if self.stride == 1 else 1.0  # where there is a shortcut, the network starts with it alone
        self.project = nn.Sequential(nn.Hardswish(inplace=True), LinearBN(heads * self.value, out_channels, scale))
        self.biases = nn.Parameter(torch.zeros(heads, side * side))
        self.register_buffer("distances", distances(side, side, self.stride, side), persistent=False)

    def add_projections(self, in_channels: int) -> None:
        self.qkv = LinearBN(in_channels, self.heads * (2 * self.key + self.value))

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        """Three tensors (N, heads, positions, D or ratio * D)."""
        return self.split_heads(self.qkv(x), self.key, self.key, self.value)

    def split_heads(self, x: Tensor, *channels: int) -> tuple[Tensor, ...]:
        """(N, H, W, heads * sum of channels) -> for each of `channels` a tensor (N, heads, H*W, channels)."""
        return x.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2).split(channels, dim=-1)

    def bias(self, height: int, width: int) -> Tensor:
        """What attention adds for the distance of query and key: (heads, query positions, key positions)."""
        index = self.distances
        if (height, width) != (self.side, self.side):
            if max(height, width) > self.side:
                raise ValueError(f"biases reach over maps of up to {self.side} x {self.side}, got {height} x {width}")
            index = distances(height, width, self.stride, self.side, self.biases.device)
        # The same as self.biases[:, index], in a sixth of the time.
        return self.biases.gather(1, index.flatten().expand(self.heads, -1)).unflatten(1, index.shape)

    def mix(self, queries: Tensor, keys: Tensor, height: int, width: int) -> Tensor:
        scores = (queries * self.key**-0.5) @ keys.transpose(-2, -1)
        return scores.add_(self.bias(height, width)).softmax(-1)

    def weights(self, x: Tensor) -> Tensor:
        """The attention map that `forward` uses: (N, heads, query positions, key positions); rows sum to 1."""
        queries, keys, _ = self.queries_keys_values(x)
        return self.mix(queries, keys, *x.shape[1:3])

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        queries, keys, values = self.queries_keys_values(x)
        y = self.mix(queries, keys, height, width) @ values  # (N, heads, query positions, ratio * D)
        size = [(n + self.stride - 1) // self.stride for n in (height, width)]  # rounded up; ONNX cannot floor below 0
        y = y.transpose(1, 2).flatten(2).unflatten(1, size)
        return self.project(y)


class ShrinkingAttention(Attention):
    """Attention whose queries stand on every second row and column only (Figure 5, right).

    Shape: (N, H, W, in_channels) -> (N, ceil(H/2), ceil(W/2), out_channels). Values have ratio = 4 times the
    channels of keys, since there is no shortcut around it that could carry the rest.
    """
    ratio, stride = 4, 2

    def add_projections(self, in_channels: int) -> None:
        self.kv = LinearBN(in_channels, self.heads * (self.key + self.value))
        self.q = LinearBN(in_channels, self.heads * self.key)

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, ...]:
        keys, values = self.split_heads(self.kv(x), self.key, self.value)
        queries, = self.split_heads(self.q(x[:, ::self.stride, ::self.stride]), self.key)
        return queries, keys, values


class Pair(nn.Module):
    """Attention, then an MLP with twice the channels inside; each is added to what it gets, but not where a
    shrinking attention changes the size. Shape: that of the attention.
    """

    def __init__(self, attention: Attention, channels: int, drop_rate: float):
        super().__init__()
        self.attention = attention
        self.mlp = nn.Sequential(LinearBN(channels, 2 * channels), nn.Hardswish(inplace=True),
                                 LinearBN(2 * channels, channels, scale=0.0))
        self.drop = StochasticDepth(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x)
        if self.attention.stride == 1:
            y = x + self.drop(y)
        return y + self.drop(self.mlp(y))


class ChannelsLast(nn.Sequential):
    """Runs modules that want (N, H, W, C) on a map. Shape: (N, C, H, W) -> (N, C', H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)


class LeViT(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels to `image_size`.

    In training mode the result is a TrainingOutput of the class head's logits and the distillation head's;
    in eval mode it is the mean of the two (sec. 4.1). `column` is LEVIT_128S, ...: one of Table 2.
    Building with a larger `image_size` adds biases for larger distances, and changes nothing else.
    """

    def __init__(self, column: int, num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224):
        super().__init__()
        check_options(num_classes, in_channels)
        check_integer("image_size", image_size, least=32, most=LARGEST)
        self.in_channels, self.image_size = in_channels, image_size
        channels = ROWS[0].channels[column]
        widths = [in_channels, channels // 8, channels // 4, channels // 2, channels]
        self.stem = nn.Sequential(*(ConvBNAct(*widths[i:i + 2], 3, stride=2, act=nn.Hardswish if i < 3 else None)
                                    for i in range(4)))  # "patch embedding": 16 x 16 pixels a position
        side, self.blocks = -(-image_size // 16), nn.Sequential()  # a module a row
        for row in ROWS:
            kind, before, channels = Attention if row.pairs else ShrinkingAttention, channels, row.channels[column]
            self.blocks.append(ChannelsLast(*(
                Pair(kind(before, channels, KEY[column], row.heads[column], side), channels, DROP_RATE[column])
                for _ in range(row.pairs[column] if row.pairs else 1))))
            side = -(-side // kind.stride)
        self.classifier = BNLinear(channels, num_classes)
        self.distillation = BNLinear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor | TrainingOutput:
        check_images(self, x, smallest=32, pooled_norm=True)
        self._check_size(x)
        x = self.blocks(self.stem(x)).mean(dim=(2, 3))  # (N, channels)
        logits, distilled = self.classifier(x), self.distillation(x)
        if self.training:
            return TrainingOutput(logits, (distilled,), weight=1.0)  # both losses count the same (alpha = 1/2)
        return (logits + distilled) / 2

    def _check_size(self, x: Tensor) -> None:
        if not torch.jit.is_tracing() and max(x.shape[2:]) > self.image_size:
            raise ValueError(f"the network has position biases for images of up to {self.image_size} x "
                             f"{self.image_size} pixels, got {x.shape[2]} x {x.shape[3]}; "
                             f"build it with image_size={max(x.shape[2:])}")

    def fuse(self) -> "LeViT":
        """A new network in eval mode with every BatchNorm folded into the layer beside it; the same output."""
        network = deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, ConvBNAct):
                module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
            elif isinstance(module, LinearBN):
                module.linear, module.bn = fuse_linear_bn_eval(module.linear, module.bn), nn.Identity()
            elif isinstance(module, BNLinear):
                scale = module.bn.weight / (module.bn.running_var + module.bn.eps).sqrt()
                shift = module.bn.bias - scale * module.bn.running_mean
                with torch.no_grad():
                    module.linear.bias += module.linear.weight @ shift
                    module.linear.weight *= scale
                module.bn = nn.Identity()
        return network.eval()


PAPER = {"family": "LeViT", "paper": "LeViT: a Vision Transformer in ConvNet's Clothing for Faster Inference",
         "arxiv": "2104.01136", "year": 2021, "chapter": "08", "table": "model zoo of the official code"}


@register(ModelCard(
    **PAPER, reference="timm levit_128s", published_params_m=7.8, published_macs_m=305, published_top1=76.6,
    counted_params=7_777_058, counted_macs=304_660_832))
def levit_128s(num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224) -> LeViT:
    """LeViT-128S, untrained; `image_size` is the side of the largest images that it can take."""
    return LeViT(LEVIT_128S, num_classes, in_channels, image_size=image_size)


@register(ModelCard(
    **PAPER, reference="timm levit_128", published_params_m=9.2, published_macs_m=406, published_top1=78.6,
    counted_params=9_213_936, counted_macs=405_321_728,
    note="The official count adds one for each value that a softmax gives: 406.1 M in all."))
def levit_128(num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224) -> LeViT:
    """LeViT-128, untrained; `image_size` is the side of the largest images that it can take."""
    return LeViT(LEVIT_128, num_classes, in_channels, image_size=image_size)


@register(ModelCard(
    **PAPER, reference="timm levit_192", published_params_m=11, published_macs_m=658, published_top1=80.0,
    counted_params=10_947_069, counted_macs=657_022_080,
    note="The official count adds one for each value that a softmax gives: 657.6 M in all."))
def levit_192(num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224) -> LeViT:
    """LeViT-192, untrained; `image_size` is the side of the largest images that it can take."""
    return LeViT(LEVIT_192, num_classes, in_channels, image_size=image_size)


@register(ModelCard(
    **PAPER, reference="timm levit_256", published_params_m=19, published_macs_m=1120, published_top1=81.6,
    counted_params=18_893_876, counted_macs=1_127_257_344,
    note="With one for each value that a softmax gives, which the official count adds, it is 1128 M; 1120 M cannot "
         "be reproduced."), aliases=("levit",))
def levit_256(num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224) -> LeViT:
    """LeViT-256, untrained; `image_size` is the side of the largest images that it can take."""
    return LeViT(LEVIT_256, num_classes, in_channels, image_size=image_size)


@register(ModelCard(
    **PAPER, reference="timm levit_384", published_params_m=39, published_macs_m=2353, published_top1=82.6,
    counted_params=39_128_836, counted_macs=2_351_786_880,
    note="The official count adds one for each value that a softmax gives: 2352.9 M in all."))
def levit_384(num_classes: int = 1000, in_channels: int = 3, *, image_size: int = 224) -> LeViT:
    """LeViT-384, untrained; `image_size` is the side of the largest images that it can take."""
    return LeViT(LEVIT_384, num_classes, in_channels, image_size=image_size)
