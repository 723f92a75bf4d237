"""02.5 and 02.6: counts on paper, and as the papers count."""
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from lwcourse.checks import exercise, fail
from lwcourse.checks.helpers import (
    a_function,
    compare_numbers,
    compare_parts,
    refuse_missing_keys,
    usual_mistakes,
)
from lwcourse.models.mobilenet_v2 import InvertedResidual
from lwcourse.models.mobilenext import Sandglass
from lwcourse.profile import profile
from lwcourse.registry import create_model


class Counted(NamedTuple):
    """A block of the sheet: how it is built, and the side of its map; `inputs` and `outputs` are its channels."""
    build: Callable[[], nn.Module]
    side: int
    inputs: int
    outputs: int
    hidden: int
    stride: int = 1


ON_PAPER = {
    "inverted": Counted(lambda: InvertedResidual(32, 32, 1, 6), 28, 32, 32, 192),
    "inverted, stride 2": Counted(lambda: InvertedResidual(32, 64, 2, 6), 28, 32, 64, 192, stride=2),
    "no expansion": Counted(lambda: InvertedResidual(32, 16, 1, 1), 112, 32, 16, 32),
    "sandglass": Counted(lambda: Sandglass(192, 192, 1, 6), 28, 192, 192, 32),
}


@exercise("02.5", title="Blocks on paper", minutes=15, difficulty="easy", expects=dict)
def on_paper(answer: Mapping[str, int]) -> str:
    """`answer` maps the names in ON_PAPER to the MACs of these blocks."""
    refuse_missing_keys(answer, ON_PAPER)
    with torch.device("meta"):
        right = {name: profile(one.build(), (one.inputs, one.side, one.side)).macs for name, one in ON_PAPER.items()}
    compare_parts(answer, right, {**_paper_mistakes(), **usual_mistakes(right)}, tolerance=1e-6,
                  hint="write the pixels and the weights of each of the layers in a line of its own")
    return "All four, without running anything."


def _paper_mistakes() -> dict[str, dict[str, float]]:
    """Words for a mistake, and what it leads to where it can be made."""
    block, strided, plain, glass = ON_PAPER.values()
    names = list(ON_PAPER)

    def inverted(one: Counted, *, expand: int = 1, filter_at: int = 1, project_at: int | None = None,
                 per_filter: int = 9, filters: int | None = None) -> int:
        """MACs, where a layer works on the map divided by the given stride."""
        large, last = one.side**2, project_at or one.stride
        wide = one.hidden if filters is None else filters
        expansion = one.inputs * one.hidden * large // expand**2 if one.hidden > one.inputs else 0
        return (expansion + per_filter * wide * large // filter_at**2 + one.hidden * one.outputs * large // last**2)

    pixels = glass.side**2
    ends = 2 * glass.hidden * glass.inputs * pixels
    weights = {name: sum(p.numel() for module in one.build().modules() if isinstance(module, nn.Conv2d)
                         for p in module.parameters()) for name, one in ON_PAPER.items()}
    return {
        "these are weights: how often is each of them used?": weights,
        "the depthwise convolution is missing": {
            names[0]: inverted(block, per_filter=0), names[1]: inverted(strided, per_filter=0),
            names[2]: inverted(plain, per_filter=0), names[3]: ends},
        "the 3x3 convolution is depthwise: one of its filters reads one channel, not all": {
            names[0]: inverted(block, per_filter=9 * block.hidden),
            names[1]: inverted(strided, per_filter=9 * strided.hidden, filter_at=2),
            names[2]: inverted(plain, per_filter=9 * plain.hidden)},
        "with stride 2 the expansion still works on the large map: the stride is that of the depthwise convolution": {
            names[1]: inverted(strided, expand=2, filter_at=2)},
        "the depthwise convolution has stride 2: how many pixels does its output have?": {names[1]: inverted(strided)},
        "after the stride the projection works on the small map": {
            names[1]: inverted(strided, filter_at=2, project_at=1)},
        "nothing here respects the stride: after the depthwise convolution the map is smaller": {
            names[1]: inverted(strided, project_at=1)},
        "with t = 1 there is nothing to expand; the block begins with the depthwise convolution": {
            names[2]: inverted(plain) + plain.inputs * plain.hidden * plain.side**2},
        "a sandglass has two depthwise convolutions": {names[3]: ends + 9 * glass.inputs * pixels},
        "the depthwise convolutions of a sandglass stand at its wide ends": {
            names[3]: ends + 2 * 9 * glass.hidden * pixels},
    }


class Mixed(nn.Module):
    """Layers under other names, with biases that stay in the count, and a norm that is none of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.Conv2d(3, 8, 3)
        self.second, self.third = nn.BatchNorm2d(8), nn.GroupNorm(2, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.parts = nn.ModuleList([nn.Linear(8, 5), nn.BatchNorm2d(5)])


COUNTED_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v2 at width 0.35": lambda: create_model("mobilenet_v2", width=0.35),
    "mobilenet_v3_small": lambda: create_model("mobilenet_v3_small"),
    "a small network whose layers have other names": Mixed,
    "a network without BatchNorm": lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False)),
}


@exercise("02.6", title="Count as the papers do", minutes=10, difficulty="easy", expects=a_function)
def without_norms(answer: Callable[[nn.Module], int]) -> str:
    """`answer(network)` counts parameters without those of BatchNorm."""
    right, mine = {}, {}
    wrong: dict[str, dict[str, float]] = {words: {} for words in COUNT_MISTAKES}
    for name, build in COUNTED_NETWORKS.items():
        with torch.random.fork_rng(devices=[]):
            network = build()
        right[name] = _count(network, _is_no_norm)
        for words, mistaken in COUNT_MISTAKES.items():
            wrong[words][name] = mistaken(network)
        before = [len(list(network.modules())), sum(p.numel() for p in network.parameters())]
        mine[name] = answer(network)
        if before != [len(list(network.modules())), sum(p.numel() for p in network.parameters())]:
            fail(f"{name}: your function changes the network that it counts; it should only look")
    compare_numbers(mine, right, wrong, "network.modules() gives every layer, whatever its name")
    return f"Right for {len(right)} networks."


def _count(network: nn.Module, counts: Callable[[nn.Module, str, nn.Parameter], bool]) -> int:
    return sum(parameter.numel() for module in network.modules()
               for name, parameter in module.named_parameters(recurse=False) if counts(module, name, parameter))


def _is_no_norm(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    return not isinstance(module, nn.BatchNorm2d)


COUNT_MISTAKES: dict[str, Callable[[nn.Module], int]] = {
    "BatchNorm's weights are still in the count": lambda network: _count(network, lambda *_: True),
    "this counts BatchNorm's weights alone": lambda network: _count(network, lambda *which: not _is_no_norm(*which)),
    "half of BatchNorm is still in the count: it has a weight and a bias for each channel": lambda network: _count(
        network, lambda module, name, _: not isinstance(module, nn.BatchNorm2d) or name == "bias"),
    "the biases of other layers are missing: only BatchNorm is left out": lambda network: _count(
        network, lambda module, name, parameter: _is_no_norm(module, name, parameter) and name != "bias"),
    "not everything of one dimension is BatchNorm: other layers have biases, which count": lambda network: _count(
        network, lambda module, name, parameter: parameter.ndim > 1),
    "you go by the layers' names; in another network a convolution may be called `bn`, and a BatchNorm otherwise":
        lambda network: sum(p.numel() for name, p in network.named_parameters() if "bn" not in name),
    "only convolutions and linear layers are counted; a network may have other parameters": lambda network: _count(
        network, lambda module, *_: isinstance(module, nn.Conv2d | nn.Linear)),
    "running statistics are in the count; they are buffers, and no parameters": lambda network: _count(
        network, _is_no_norm) + sum(buffer.numel() for buffer in network.buffers()),
}
