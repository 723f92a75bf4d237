"""PP-LCNet: A Lightweight CPU Convolutional Neural Network.

Paper:   Cui et al., 2021, https://arxiv.org/abs/2109.15099
Lesson:  notebooks/09_cpu_networks.ipynb
Idea:    take MobileNetV1's plain blocks, which a CPU runs fast, and add only what costs it next to
         no time: hard swish (3.1), squeeze-and-excitation at the end only (3.2), 5x5 kernels at the
         end only (3.3), and 1280 channels after the pooling (3.4).
Differs: the rounding at widths other than 1, the two halves of squeeze-and-excitation (ReLU, hard
         sigmoid, a quarter of the channels) and the initialisation follow PaddleClas. Dropout scales
         while training, as is PyTorch's custom; PaddleClas scales while testing.
"""
from typing import NamedTuple

from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, SqueezeExcitation, check_images, check_options, make_divisible
from lwcourse.registry import ModelCard, Variant, register


class Row(NamedTuple):
    """One depthwise-separable block of the paper's architecture table."""
    kernel: int    # of the depthwise convolution
    channels: int  # of the output, at width 1.0
    stride: int
    se: bool       # squeeze-and-excitation


ROWS = (                       # feature-map side in pixels for a 224 x 224 image
    Row(3,  32, 1, se=False),  # 112 -> 112
    Row(3,  64, 2, se=False),  # 112 ->  56
    Row(3,  64, 1, se=False),  #  56 ->  56
    Row(3, 128, 2, se=False),  #  56 ->  28
    Row(3, 128, 1, se=False),  #  28 ->  28
    Row(3, 256, 2, se=False),  #  28 ->  14
    Row(5, 256, 1, se=False),  #  14 ->  14
    Row(5, 256, 1, se=False),  #  14 ->  14
    Row(5, 256, 1, se=False),  #  14 ->  14
    Row(5, 256, 1, se=False),  #  14 ->  14
    Row(5, 256, 1, se=False),  #  14 ->  14
    Row(5, 512, 2, se=True),   #  14 ->   7
    Row(5, 512, 1, se=True),   #   7 ->   7
)
FEATURES = 1280  # of the 1x1 convolution after the pooling, at every width


class SeparableConvSE(nn.Sequential):
    """k x k depthwise convolution, squeeze-and-excitation if `se`, 1x1 convolution (sec. 3).

    Shape: (N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).
    Cost: H_out * W_out * in_channels * (k*k + out_channels) multiply-adds, and in_channels**2 / 2 for the gate.
    There is no shortcut: an addition of two maps would cost a CPU more time than it brings accuracy.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, *, se: bool):
        parts = [ConvBNAct(in_channels, in_channels, kernel_size, stride, groups=in_channels, act=nn.Hardswish)]
        if se:
            parts.append(SqueezeExcitation(in_channels, in_channels // 4, nn.Hardsigmoid))
        super().__init__(*parts, ConvBNAct(in_channels, out_channels, 1, act=nn.Hardswish))


class PPLCNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes), for H and W from 32 pixels.

    `width` scales every layer's channels but the 1280 of the last 1x1 convolution.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0, dropout: float = 0.2):
        super().__init__()
        check_options(num_classes, in_channels, width)
        self.in_channels = in_channels
        channels = make_divisible(16 * width)
        self.stem = ConvBNAct(in_channels, channels, 3, stride=2, act=nn.Hardswish)
        blocks = []
        for row in ROWS:
            out_channels = make_divisible(row.channels * width)
            blocks.append(SeparableConvSE(channels, out_channels, row.kernel, row.stride, se=row.se))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(channels, FEATURES, bias=False), nn.Hardswish(inplace=True),
            nn.Dropout(dropout), nn.Linear(FEATURES, num_classes))
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation by fan-in, and Glorot's for the last layer: what PaddleClas has."""
        last = self.classifier[-1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if module is last:
                    nn.init.xavier_uniform_(module.weight)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=32)
        x = self.blocks(self.stem(x))               # (N, channels, ceil(H/32), ceil(W/32))
        return self.classifier(x.mean(dim=(2, 3)))  # pooled first, so the 1280 channels cost one pixel only


NOTE = "The published MACs count BatchNorm too, as two for each value that it normalises."


@register(ModelCard(
    family="PP-LCNet", paper="PP-LCNet: A Lightweight CPU Convolutional Neural Network", arxiv="2109.15099",
    year=2021, chapter="09", table="PaddleClas, docs/en/models/PP-LCNet_en.md", reference="timm lcnet_100",
    published_params_m=3.0, published_macs_m=161, published_top1=71.32,
    counted_params=2_952_520, counted_macs=155_700_480,
    note=f"{NOTE} timm adds a bias to the last 1x1 convolution. light_cnns fails at every width but 1.",
    variants=(
        Variant(arguments={"width": 0.25}, published_params_m=1.5, published_macs_m=18, published_top1=51.86,
                counted_params=1_521_184, counted_macs=16_773_440, note=NOTE),
        Variant(arguments={"width": 0.35}, published_params_m=1.6, published_macs_m=29, published_top1=58.09,
                counted_params=1_643_090, counted_macs=27_357_832, note=NOTE),
        Variant(arguments={"width": 0.5}, published_params_m=1.9, published_macs_m=47, published_top1=63.14,
                counted_params=1_879_576, counted_macs=44_731_008, note=NOTE),
        Variant(arguments={"width": 0.75}, published_params_m=2.4, published_macs_m=99, published_top1=68.18,
                counted_params=2_357_008, counted_macs=94_786_496, note=NOTE),
        Variant(arguments={"width": 1.5}, published_params_m=4.5, published_macs_m=342, published_top1=73.71,
                counted_params=4_499_832, counted_macs=334_188_416, note=NOTE),
        Variant(arguments={"width": 2.0}, published_params_m=6.5, published_macs_m=590, published_top1=75.18,
                counted_params=6_521_512, counted_macs=580_194_816, note=NOTE),
        Variant(arguments={"width": 2.5}, published_params_m=9.0, published_macs_m=906, published_top1=76.60,
                counted_params=9_017_560, counted_macs=893_719_680, note=NOTE),
    )), aliases=("lcnet_baseline",))
def pp_lcnet(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0) -> PPLCNet:
    """PP-LCNet, untrained; the paper trains `width` 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0 and 2.5."""
    return PPLCNet(num_classes, in_channels, width=width)
