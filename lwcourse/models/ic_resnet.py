"""IC-ResNet: Inception Convolution with Efficient Dilation Search.

Paper:   Liu et al., CVPR 2021, https://arxiv.org/abs/2012.13587
Lesson:  notebooks/06_inception.ipynb
Idea:    give each channel of each 3x3 convolution of a ResNet the dilation that suits it, height and width
         apart, at no cost; find them all in one trained network with large kernels, without a second training.
Differs: a file of patterns says how many channels have a dilation, not which; the found network is trained
         anew. The search estimates its expectation on images that one gives it. `width` is ours.

The search (EDO), from images to a network:

    supernet = super_resnet(50, max_dilation=4)        # 9 x 9 kernels; train it
    patterns = search_patterns(supernet, images)
    write_patterns("patterns.json", patterns)
    network = ic_resnet50(pattern_path="patterns.json")  # train it
"""
import json
import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lwcourse.layers import ConvBNAct, InceptionConv, check_options, make_divisible
from lwcourse.models.resnet import STAGES, BasicBlock, Bottleneck, ResNet, repeats_of
from lwcourse.profile import eval_mode
from lwcourse.registry import ModelCard, register

Pattern = dict[tuple[int, int], int]  # dilation (height, width) -> number of output channels, in their order


def channels_of_layers(depth: int, width: float = 1.0) -> list[int]:
    """Output channels of each 3x3 convolution of a ResNet in the order of the network, without the stem."""
    rows = zip(STAGES, repeats_of(depth), strict=True)
    convolutions = 1 if depth >= 50 else 2  # of a block
    return [make_divisible(stage.channels * width) for stage, repeats in rows for _ in range(repeats * convolutions)]


def read_patterns(path: str | PathLike) -> list[Pattern]:
    """The patterns in a file of the official format, one for each 3x3 convolution.

    It is a JSON list of objects such as {"(0, 0)": 40, "(0, 2)": 24}: 40 channels at dilation (1, 1), then 24 at
    (1, 3). Keys count from 0 and keep the order of the file; those with 0 channels are left out.
    Raises FileNotFoundError when there is no file, and ValueError, naming the layer, for any other content.
    """
    try:
        layers = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_Items)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(layers, list) or isinstance(layers, _Items):
        raise ValueError(f"{path} must hold a list with one object for each 3x3 convolution")
    return [_pattern(items, f"{path}, layer {k}") for k, items in enumerate(layers, start=1)]


class _Items(list):
    """(key, value) pairs of a JSON object: a dict would hide that a key stands there twice."""


def _pattern(items: object, where: str) -> Pattern:
    if not isinstance(items, _Items):
        raise ValueError(f'{where} must be an object such as {{"(0, 0)": 64}}, got {items!r}')
    pattern: Pattern = {}
    for key, channels in items:
        match = re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)", key)
        if match is None:
            raise ValueError(f'{where}: a key must be two numbers from 0, such as "(0, 2)", got {key!r}')
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 0:
            raise ValueError(f"{where}: the number of channels of {key!r} must be an integer from 0, got {channels!r}")
        dilation = int(match[1]) + 1, int(match[2]) + 1
        if dilation in pattern:
            raise ValueError(f"{where} has the key {key!r} twice")
        pattern[dilation] = channels
    return {dilation: channels for dilation, channels in pattern.items() if channels > 0}


def write_patterns(path: str | PathLike, patterns: Sequence[Pattern]) -> None:
    """Write `patterns` so that read_patterns, and the official code, give them back."""
    layers = [{f"({height - 1}, {width - 1})": channels for (height, width), channels in pattern.items()}
              for pattern in patterns]
    Path(path).write_text(json.dumps(layers, indent=1) + "\n", encoding="utf-8")


def example_patterns(depth: int, max_dilation: int = 4, *, width: float = 1.0, seed: int = 0) -> list[Pattern]:
    """Patterns to play with: random numbers of channels for all dilations, in random order; one seed, one result."""
    generator = random.Random(seed)
    patterns = []
    for channels in channels_of_layers(depth, width):
        dilations = _dilations(max_dilation)
        generator.shuffle(dilations)
        cuts = sorted(generator.randint(0, channels) for _ in dilations[1:])
        counts = [end - start for start, end in zip([0, *cuts], [*cuts, channels], strict=True)]
        patterns.append({dilation: count for dilation, count in zip(dilations, counts, strict=True) if count})
    return patterns


def _dilations(largest: int) -> list[tuple[int, int]]:
    if not isinstance(largest, int) or largest < 1:
        raise ValueError(f"max_dilation must be a positive integer, got {largest!r}")
    return [(height, width) for height in range(1, largest + 1) for width in range(1, largest + 1)]


def _resnet(depth: int, num_classes: int, in_channels: int, width: float,
            conv: Callable[..., nn.Module]) -> ResNet:
    return ResNet(depth, num_classes, in_channels, width=width,
                  block=partial(Bottleneck if depth >= 50 else BasicBlock, conv=conv))


def _ic_resnet(depth: int, num_classes: int, in_channels: int, width: float,
               pattern_path: str | PathLike | None) -> ResNet:
    check_options(num_classes, in_channels, width)
    expected = channels_of_layers(depth, width)
    patterns = [{(1, 1): channels} for channels in expected] if pattern_path is None else read_patterns(pattern_path)
    if len(patterns) != len(expected):
        raise ValueError(f"{pattern_path} has patterns for {len(patterns)} layers, but this network has "
                         f"{len(expected)} convolutions of 3x3")
    for k, (pattern, channels) in enumerate(zip(patterns, expected, strict=True), start=1):
        if sum(pattern.values()) != channels:
            raise ValueError(f"{pattern_path}, layer {k}: the pattern has {sum(pattern.values())} channels, "
                             f"but this convolution of the network has {channels}")
    remaining = iter(patterns)

    def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, **options) -> nn.Module:
        unit = ConvBNAct(in_channels, out_channels, kernel_size, stride, **options)
        unit.conv = InceptionConv(in_channels, out_channels, stride, pattern=next(remaining))
        return unit

    return _resnet(depth, num_classes, in_channels, width, conv)


def super_resnet(depth: int, num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 max_dilation: int = 4) -> ResNet:
    """The network to search in: a ResNet whose 3x3 kernels are 2*max_dilation + 1 pixels wide and high, so that
    they hold a 3x3 kernel of every dilation up to `max_dilation` in each direction (Figure 2).
    """
    side = 2 * _dilations(max_dilation)[-1][0] + 1

    def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, **options) -> nn.Module:
        return ConvBNAct(in_channels, out_channels, side, stride, **options)

    return _resnet(depth, num_classes, in_channels, width, conv)


def crop(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """The 3x3 kernel of `dilation` that a large kernel holds: (out, in, k, k) -> (out, in, 3, 3), a view."""
    middle = weight.shape[-1] // 2
    rows, columns = (slice(middle - step, middle + step + 1, step) for step in dilation)
    return weight[:, :, rows, columns]


def representation_errors(conv: nn.Conv2d, x: Tensor) -> dict[tuple[int, int], Tensor]:
    """What each dilation would lose: for each output channel, the mean of |full kernel - its cropped kernel|
    over all pixels of the layer's input `x` (E in Figure 2, sec. 3.2).
    """
    full = F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
    return {dilation: (full - F.conv2d(x, crop(conv.weight, dilation), None, conv.stride, padding=dilation,
                                       dilation=dilation)).abs().mean(dim=(0, 2, 3))
            for dilation in _dilations(conv.kernel_size[0] // 2)}


@torch.no_grad()
def search_patterns(supernet: ResNet, images: Tensor) -> list[Pattern]:
    """EDO: the dilation with the least expected L1 error for every output channel of a trained `super_resnet`.

    `images` (N, in_channels, H, W) stand for the data; the network sees them once, in eval mode. Ties go to the
    smaller dilation. The cost is one convolution of each dilation beside the large one.
    """
    patterns: list[Pattern] = []

    def choose(conv: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        errors = representation_errors(conv, inputs[0])
        choice = torch.stack(list(errors.values())).argmin(dim=0)  # (out_channels,)
        counts = choice.bincount(minlength=len(errors)).tolist()
        patterns.append({dilation: count for dilation, count in zip(errors, counts, strict=True) if count})

    layers = [module for module in supernet.blocks.modules()
              if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1]
    handles = [layer.register_forward_pre_hook(choose) for layer in layers]
    try:
        with eval_mode(supernet):
            supernet(images)
    finally:
        for handle in handles:
            handle.remove()
    return patterns


_card = partial(ModelCard, family="Inception Convolution", year=2020, arxiv="2012.13587", chapter="06",
                paper="Inception Convolution with Efficient Dilation Search",
                table="README of the official code (yifan123/IC-Conv): COCO only, no top-1 on ImageNet")
_SAME = "Dilations are free: parameters and MACs are those of {}, with any pattern, and the paper prints none. "


@register(_card(reference="torchvision resnet18", counted_params=11_689_512, counted_macs=1_814_073_344,
                note=_SAME.format("ResNet-18") + "There is no published pattern for it."))
def ic_resnet18(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                pattern_path: str | PathLike | None = None) -> ResNet:
    """IC-ResNet-18, untrained; without a file of patterns (see read_patterns) it is resnet18."""
    return _ic_resnet(18, num_classes, in_channels, width, pattern_path)


@register(_card(reference="torchvision resnet34", counted_params=21_797_672, counted_macs=3_663_761_408,
                note=_SAME.format("ResNet-34") + "There is no published pattern for it."))
def ic_resnet34(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                pattern_path: str | PathLike | None = None) -> ResNet:
    """IC-ResNet-34, untrained; without a file of patterns (see read_patterns) it is resnet34."""
    return _ic_resnet(34, num_classes, in_channels, width, pattern_path)


@register(_card(reference="torchvision resnet50", counted_params=25_557_032, counted_macs=4_089_184_256,
                note=_SAME.format("ResNet-50") + "On COCO, Faster R-CNN-FPN has 38.9 box AP with it."))
def ic_resnet50(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                pattern_path: str | PathLike | None = None) -> ResNet:
    """IC-ResNet-50, untrained; without a file of patterns (see read_patterns) it is resnet50."""
    return _ic_resnet(50, num_classes, in_channels, width, pattern_path)


@register(_card(reference="torchvision resnet101", counted_params=44_549_160, counted_macs=7_801_405_440,
                note=_SAME.format("ResNet-101") + "On COCO, Faster R-CNN-FPN has 41.9 box AP with it."))
def ic_resnet101(num_classes: int = 1000, in_channels: int = 3, *, width: float = 1.0,
                 pattern_path: str | PathLike | None = None) -> ResNet:
    """IC-ResNet-101, untrained; without a file of patterns (see read_patterns) it is resnet101."""
    return _ic_resnet(101, num_classes, in_channels, width, pattern_path)
