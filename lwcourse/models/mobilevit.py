"""MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer.

Paper:   Mehta and Rastegari, ICLR 2022, https://arxiv.org/abs/2110.02178
Lesson:  notebooks/08_mobilevit.ipynb
Idea:    unfold a map into patches and let the k-th pixels of all patches attend to each other: with the
         convolutions before, which mix the pixels of a patch, every pixel then sees the whole image.
Differs: number of heads, dropout, initialisation, and the resizing of maps that 2 x 2 patches do not
         divide follow the official code (ml-cvnets).
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, check_images, check_options
from lwcourse.registry import ModelCard, register

PATCH = 2  # side of a patch in pixels, h = w
HEADS = 4
XXS, XS, S = range(3)  # columns of Table 4


class Row(NamedTuple):
    """One row of Table 4; each tuple holds the values of XXS, XS and S."""
    channels: tuple[int, int, int]
    stride: int = 1
    repeats: int = 1
    depth: int = 0  # L, transformer layers of a MobileViT block; 0 means an inverted residual (MV2)
    tokens: tuple[int, int, int] = (0, 0, 0)  # d, channels inside the transformer


ROWS = (                                                  # feature-map side in pixels for a 256 x 256 image
    Row((16,  32,  32)),                                  # 128 -> 128
    Row((24,  48,  64), stride=2),                        # 128 ->  64
    Row((24,  48,  64), repeats=2),                       #  64 ->  64
    Row((48,  64,  96), stride=2),                        #  64 ->  32
    Row((48,  64,  96), depth=2, tokens=(64,  96, 144)),  #  32 ->  32
    Row((64,  80, 128), stride=2),                        #  32 ->  16
    Row((64,  80, 128), depth=4, tokens=(80, 120, 192)),  #  16 ->  16
    Row((80,  96, 160), stride=2),                        #  16 ->   8
    Row((80,  96, 160), depth=3, tokens=(96, 144, 240)),  #   8 ->   8
)


def unfold(x: Tensor, patch: int = PATCH) -> Tensor:
    """Deal the pixels of a map out to patch * patch sequences: sequence k holds pixel k of every patch.

    Shape: (N, C, H, W) -> (N * patch * patch, H/patch * W/patch, C); `patch` must divide H and W.
    """
    images, channels, height, width = x.shape
    x = x.reshape(images, channels, height // patch, patch, width // patch, patch)
    x = x.permute(0, 3, 5, 2, 4, 1)  # (N, patch row, patch column, H/patch, W/patch, C)
    return x.reshape(images * patch * patch, (height // patch) * (width // patch), channels)


def fold(x: Tensor, height: int, width: int, patch: int = PATCH) -> Tensor:
    """The inverse of `unfold`: (N * patch * patch, H/patch * W/patch, C) -> (N, C, H, W)."""
    channels = x.shape[-1]
    x = x.reshape(-1, patch, patch, height // patch, width // patch, channels)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (N, H/patch, patch row, W/patch, patch column, C)
    return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head self-attention: each position becomes a mean of all, weighted by softmax(q k^T / sqrt(d/heads)).

    Shape: (N, T, channels) -> the same; channels must be a multiple of `heads`, else ValueError.
    Cost: T * 4 * channels^2 multiply-adds for the linear layers, 2 * T^2 * channels for the two products.
    """

    def __init__(self, channels: int, heads: int = HEADS):
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors (N, heads, T, channels / heads)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.queries_keys_values(x)
        y = F.scaled_dot_product_attention(queries, keys, values)  # `weights` @ values in one kernel
        return self.project(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """The attention map that `forward` uses but never stores, (N, heads, T, T); each row sums to 1."""
        queries, keys, _ = self.queries_keys_values(x)
        return (queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5).softmax(-1)


class TransformerLayer(nn.Module):
    """Attention over the positions, then two linear layers at each; both normalised before, added after (Figure 1).

    Shape: (N, T, channels) -> the same.
    Cost: that of the attention and T * 4 * channels^2 multiply-adds.
    """

    def __init__(self, channels: int, dropout: float = 0.1):
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = Attention(channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.SiLU(inplace=True),
                                 nn.Linear(2 * channels, channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class MobileViTBlock(nn.Module):
    """Local 3x3, widen to `tokens`, unfold, attend, fold, narrow, and join with the input (Figure 1b, sec. 3.1).

    Shape: (N, channels, H, W) -> the same, for any H and W.
    Cost: H*W * (27 * channels^2 + 2 * channels * tokens + depth * (8 * tokens^2 + 2 * H*W/4 * tokens))
    multiply-adds: a pixel attends to a quarter of the map.
    """

    def __init__(self, channels: int, tokens: int, depth: int, dropout: float = 0.1):
        super().__init__()
        self.local = ConvBNAct(channels, channels, 3, act=nn.SiLU)
        self.widen = nn.Conv2d(channels, tokens, 1, bias=False)
        self.transformer = nn.Sequential(*(TransformerLayer(tokens, dropout) for _ in range(depth)),
                                         nn.LayerNorm(tokens))
        self.narrow = ConvBNAct(tokens, channels, 1, act=nn.SiLU)
        self.fuse_maps = ConvBNAct(2 * channels, channels, 3, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(self.local(x))
        height, width = x.shape[2:]
        # Sides that patches do not divide are stretched to the next that they do; padding would need a mask.
        size = (height + PATCH - 1) // PATCH * PATCH, (width + PATCH - 1) // PATCH * PATCH
        stretched = size != (height, width)
        if stretched:
            y = F.interpolate(y, size, mode="bilinear")
        y = fold(self.transformer(unfold(y)), *size)
        if stretched:
            y = F.interpolate(y, (height, width), mode="bilinear")
        return self.fuse_maps(torch.cat([x, self.narrow(y)], dim=1))


class InvertedResidual(nn.Module):
    """MobileNetV2's block with SiLU: 1x1 expand, 3x3 depthwise, 1x1 linear projection ("MV2" in Figure 1b).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost at stride 1: H*W * expand*in_channels * (in_channels + 9 + out_channels) multiply-adds.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand: int):
        super().__init__()
        hidden = expand * in_channels
        self.expand = ConvBNAct(in_channels, hidden, 1, act=nn.SiLU)
        self.depthwise = ConvBNAct(hidden, hidden, 3, stride, groups=hidden, act=nn.SiLU)
        self.project = ConvBNAct(hidden, out_channels, 1, act=None)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class MobileViT(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `column` is XXS, XS or S; `expand` widens the inverted residuals: 2 in XXS, 4 in the others.
    """

    def __init__(self, column: int, expand: int, num_classes: int = 1000, in_channels: int = 3, *,
                 dropout: float = 0.1):
        super().__init__()
        check_options(num_classes, in_channels)
        self.in_channels = in_channels
        self.stem = ConvBNAct(in_channels, 16, 3, stride=2, act=nn.SiLU)
        channels, blocks = 16, []
        for row in ROWS:
            for _ in range(row.repeats):
                blocks.append(MobileViTBlock(channels, row.tokens[column], row.depth, dropout) if row.depth else
                              InvertedResidual(channels, row.channels[column], row.stride, expand))
                channels = row.channels[column]
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvBNAct(channels, 4 * channels, 1, act=nn.SiLU)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels, num_classes))
        self._initialise()

    def _initialise(self) -> None:
        """As the official code: convolutions He (fan-out), linear layers ~ N(0, 0.02^2), biases 0.

        It cuts the normal distribution off at -2 and 2, a hundred standard deviations out: nothing to cut.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.head(self.blocks(self.stem(x)))    # (N, features, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # mean over pixels: (N, features)


PAPER = {"family": "MobileViT", "arxiv": "2110.02178", "year": 2021, "chapter": "08",
         "paper": "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer",
         "table": "Figure 6", "input_size": (3, 256, 256)}


@register(ModelCard(
    **PAPER, reference="timm mobilevit_xxs", published_params_m=1.3, published_macs_m=400, published_top1=69.0,
    counted_params=1_272_024, counted_macs=407_364_096,
    note="0.4 G multiply-adds, in Table 2 of the authors' MobileViTv2 (arXiv 2206.02680). PaddleClas lists 337 M; "
         "without the products of attention, which we count, it is 329 M."))
def mobilevit_xxs(num_classes: int = 1000, in_channels: int = 3) -> MobileViT:
    """MobileViT-XXS, untrained."""
    return MobileViT(XXS, 2, num_classes, in_channels)


@register(ModelCard(
    **PAPER, reference="timm mobilevit_xs", published_params_m=2.3, published_macs_m=700, published_top1=74.8,
    counted_params=2_317_848, counted_macs=1_025_911_808,
    note="Table 3 of the paper gives 0.7 G multiply-adds. That fits images of 224 x 224 without the products of "
         "attention, 703 M; at 256 x 256 it is 909 M without them, 1026 M with them. PaddleClas lists 931 M."))
def mobilevit_xs(num_classes: int = 1000, in_channels: int = 3) -> MobileViT:
    """MobileViT-XS, untrained."""
    return MobileViT(XS, 4, num_classes, in_channels)


@register(ModelCard(
    **PAPER, reference="timm mobilevit_s", published_params_m=5.6, published_macs_m=2000, published_top1=78.4,
    counted_params=5_578_632, counted_macs=2_000_831_488,
    note="2.0 G multiply-adds, in Table 2 of the authors' MobileViTv2 (arXiv 2206.02680). PaddleClas lists 1849 M; "
         "without the products of attention, which we count, it is 1823 M."))
def mobilevit_s(num_classes: int = 1000, in_channels: int = 3) -> MobileViT:
    """MobileViT-S, untrained."""
    return MobileViT(S, 4, num_classes, in_channels)
