"""Single Path One-Shot Neural Architecture Search with Uniform Sampling.

Paper:   Guo et al., ECCV 2020, https://arxiv.org/abs/1904.00420
Lesson:  notebooks/03_shufflenets.ipynb
Idea:    train one super-network that holds every candidate, a random single path at each step; then search the
         paths for the best under a budget, with the weights that they share and statistics of their own.
Differs: the searched network, its blocks and the absence of a bias are the official code's. Blocks and channels are
         searched together (`scales=(1.0,)` leaves only blocks to search). No candidate is evaluated twice. Where
         random candidates keep missing the budget, parts of them are replaced by cheaper ones.
"""
import random
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import (
    ConvBNAct,
    ReleasedShuffleUnit,
    SlimShuffleUnit,
    check_images,
    check_options,
    initialise_fan_in,
    recalibrate,
)
from lwcourse.registry import ModelCard, register


class Stage(NamedTuple):
    """Choice blocks of one feature-map size; the first of the `repeats` has stride 2."""
    channels: int
    repeats: int


class Choice(NamedTuple):
    """What stands in one place of a path: the index of a block in KINDS, and the scale of its hidden channels."""
    kind: int
    scale: float


Architecture = tuple[Choice, ...]  # one choice a place, from the stem to the head

STAGES = (          # feature-map side in pixels for a 224 x 224 image
    Stage(64, 4),   # 112 -> 56
    Stage(160, 4),  #  56 -> 28
    Stage(320, 8),  #  28 -> 14
    Stage(640, 4),  #  14 ->  7
)
KINDS = ({"kernel_size": 3}, {"kernel_size": 5}, {"kernel_size": 7}, {"xception": True})
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)  # of half of a block's output channels
SEARCHED: Architecture = tuple(map(
    Choice, (0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2),
    (1.4, 1.2, 0.8, 1.2, 0.6, 1.4, 0.8, 1.0, 0.6, 1.2, 1.6, 1.2, 1.0, 1.4, 1.6, 1.0, 1.0, 1.2, 1.0, 0.8)))


def places(stages: Sequence[Stage], channels: int) -> Iterator[tuple[int, int, int]]:
    """Input channels, output channels and stride of every choice block after a stem of `channels`."""
    for stage in stages:
        for i in range(stage.repeats):
            yield channels, stage.channels, 2 if i == 0 else 1
            channels = stage.channels


def hidden_channels(out_channels: int, scale: float) -> int:
    """Channels inside a block: `scale` times half of its output channels, cut to a whole number of at least 1."""
    return max(1, int(out_channels // 2 * scale + 1e-6))  # 1e-6: 0.6 * 5 is 3 in binary, too


def check_architecture(architecture: Sequence[tuple[int, float]], count: int) -> Architecture:
    """As a tuple of choices. Raises ValueError unless it has `count`, each a kind that exists and a positive scale."""
    if not isinstance(architecture, Sequence) or not all(isinstance(c, Sequence) and len(c) == 2 for c in architecture):
        raise ValueError(f"an architecture is a sequence of (kind, scale), one a block, got {architecture!r}")
    if len(architecture) != count:
        raise ValueError(f"the architecture must have {count} choices, one a block, got {len(architecture)}")
    for kind, scale in architecture:
        if kind not in range(len(KINDS)) or not isinstance(scale, Real) or not 0 < scale < float("inf"):
            raise ValueError(f"a choice is a kind from 0 to {len(KINDS) - 1} and a positive scale, got {kind}, {scale}")
    return tuple(Choice(*choice) for choice in architecture)


class _Frame(nn.Module):
    """Stem, head and classifier around the choice blocks, which a subclass runs in `run_blocks`."""

    def __init__(self, num_classes: int, in_channels: int, stages: Sequence[Stage], stem_channels: int, features: int,
                 dropout: float):
        super().__init__()
        check_options(num_classes, in_channels)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.layout = dict(stages=tuple(stages), stem_channels=stem_channels, features=features, dropout=dropout)
        self.stem = ConvBNAct(in_channels, stem_channels, 3, stride=2)
        self.head = ConvBNAct(stages[-1].channels, features, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=2 ** (1 + len(self.layout["stages"])))
        x = self.head(self.run_blocks(self.stem(x)))  # (N, features, 1/32 of H and W with four stages)
        return self.classifier(x.mean(dim=(2, 3)))


class ShuffleNetV2OneShot(_Frame):
    """One path as a network of its own: images (N, in_channels, H, W) -> logits (N, num_classes).

    H and W are at least 2 ** (1 + stages) pixels, 32 by default. Raises ValueError when `architecture` does not
    have one choice for every block of `stages`.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, architecture: Architecture = SEARCHED,
                 stages: Sequence[Stage] = STAGES, stem_channels: int = 16, features: int = 1024,
                 dropout: float = 0.1):
        super().__init__(num_classes, in_channels, stages, stem_channels, features, dropout)
        self.architecture = check_architecture(architecture, sum(stage.repeats for stage in stages))
        self.blocks = nn.Sequential(*(
            ReleasedShuffleUnit(*place, hidden=hidden_channels(place[1], scale), **KINDS[kind])
            for place, (kind, scale) in zip(places(stages, stem_channels), architecture, strict=True)))
        initialise_fan_in(self, self.stem)

    def run_blocks(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Costs(NamedTuple):
    """Multiply-adds of everything but the choice blocks, and for each place those of every choice."""
    fixed: int
    choices: tuple[dict[Choice, int], ...]

    def of(self, architecture: Architecture) -> int:
        return self.fixed + sum(costs[choice] for costs, choice in zip(self.choices, architecture, strict=True))

    def least(self) -> int:
        return self.fixed + sum(min(costs.values()) for costs in self.choices)


class OneShotSuperNet(_Frame):
    """Every path at once: in each place 4 kinds of block times `scales`, with shared weights (sec. 3).

    In training mode each forward runs one path, drawn uniformly from PyTorch's generator; in eval mode it
    runs `architecture`, which `choose` sets. Shapes and arguments are those of ShuffleNetV2OneShot.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, stages: Sequence[Stage] = STAGES,
                 scales: Sequence[float] = SCALES, stem_channels: int = 16, features: int = 1024,
                 dropout: float = 0.1):
        super().__init__(num_classes, in_channels, stages, stem_channels, features, dropout)
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must hold positive numbers, such as 0.5 and 1.0, got {scales!r}")
        self.options = tuple(Choice(kind, scale) for kind in range(len(KINDS)) for scale in scales)
        self.choices = nn.ModuleList(
            nn.ModuleList(SlimShuffleUnit(*place, hidden=hidden_channels(place[1], max(scales)), **kind)
                          for kind in KINDS)
            for place in places(stages, stem_channels))
        nearest = min(scales, key=lambda scale: abs(scale - 1))
        self.architecture: Architecture = (Choice(0, nearest),) * len(self.choices)
        initialise_fan_in(self, self.stem)

    def sample(self) -> Architecture:
        """A path drawn uniformly, from PyTorch's generator."""
        return tuple(self.options[i] for i in torch.randint(len(self.options), (len(self.choices),)).tolist())

    def check(self, architecture: Architecture) -> Architecture:
        """As a tuple of choices. Raises ValueError for a path that is not in here."""
        architecture = check_architecture(architecture, len(self.choices))
        if not set(architecture) <= set(self.options):
            raise ValueError(f"the super-network has the scales {sorted({scale for _, scale in self.options})}, got "
                             f"{sorted({scale for _, scale in architecture})}")
        return architecture

    def choose(self, architecture: Architecture) -> None:
        """Set the path of eval mode. Raises ValueError for one that is not in here."""
        self.architecture = self.check(architecture)

    def run_blocks(self, x: Tensor) -> Tensor:
        architecture = self.sample() if self.training else self.architecture
        for units, (kind, scale) in zip(self.choices, architecture, strict=True):
            x = units[kind](x, hidden_channels(units[kind].out_channels, scale))
        return x

    def inherit(self, architecture: Architecture) -> ShuffleNetV2OneShot:
        """A path as a network of its own, in eval mode, with a copy of the weights and statistics that it shares."""
        architecture = self.check(architecture)
        with torch.random.fork_rng(devices=[]):  # the weights that it is built with are thrown away
            network = ShuffleNetV2OneShot(self.num_classes, self.in_channels, architecture=architecture, **self.layout)
        network.to(self.stem.conv.weight)
        for name in ("stem", "head", "classifier"):
            getattr(network, name).load_state_dict(getattr(self, name).state_dict())
        for units, choice, block in zip(self.choices, architecture, network.blocks, strict=True):
            units[choice.kind].copy_to(block)
        return network.eval()

    def costs(self, height: int, width: int) -> Costs:
        """What each choice costs for images of height x width, so that the cost of a path is a sum."""
        h, w = -(-height // 2), -(-width // 2)
        fixed, choices = h * w * self.stem.conv.weight.numel(), []
        for units in self.choices:
            choices.append({option: units[option.kind].macs(hidden_channels(units[0].out_channels, option.scale), h, w)
                            for option in self.options})
            h, w = -(-h // units[0].stride), -(-w // units[0].stride)
        fixed += h * w * self.head.conv.weight.numel() + self.classifier[1].weight.numel()
        return Costs(fixed, tuple(choices))


class Found(NamedTuple):
    """The best path of a search, its score and multiply-adds, and every path that was evaluated, with its score."""
    architecture: Architecture
    score: float
    macs: int
    scores: dict[Architecture, float]


def search(supernet: OneShotSuperNet, evaluate: Callable[[nn.Module], float], budget: int,
           images: Sequence[Tensor], *, population: int = 50, generations: int = 20, parents: int = 10,
           mutation: float = 0.1, seed: int = 0) -> Found:
    """The best path of at most `budget` multiply-adds that evolution finds (Algorithm 1, with its numbers).

    `evaluate` scores (higher is better) a network in eval mode with the weights of the super-network and, from the
    batches `images`, statistics of its own; the size of these images is that of the budget. Every generation
    comes from the `parents` best so far: half of it crosses two, half mutates one, each choice with probability
    `mutation`. One `seed` makes one search. Raises ValueError when no path is within the budget.
    """
    if min(population, generations, parents) < 1 or not 0 <= mutation <= 1:
        raise ValueError("population, generations and parents must be at least 1 and mutation between 0 and 1, got "
                         f"{population}, {generations}, {parents} and {mutation}")
    costs = supernet.costs(*images[0].shape[2:])
    if costs.least() > budget:
        raise ValueError(f"no path has {budget:,} MACs or fewer: the smallest has {costs.least():,}")
    generator, scores, best = random.Random(seed), {}, []

    def draw() -> Architecture:
        return tuple(generator.choice(supernet.options) for _ in costs.choices)

    def cross() -> Architecture:
        return tuple(map(generator.choice, zip(generator.choice(best), generator.choice(best), strict=True)))

    def mutate() -> Architecture:
        return tuple(generator.choice(supernet.options) if generator.random() < mutation else choice
                     for choice in generator.choice(best))

    def add(paths: dict[Architecture, None], make: Callable[[], Architecture], count: int) -> None:
        """Add new paths within the budget until there are `count`, or those that are not yet evaluated run out."""
        for attempt in range(20 * count):
            if len(paths) >= count:
                break
            path = make() if attempt < 10 * count else _cheaper(make(), costs, budget, generator)
            if costs.of(path) <= budget and path not in scores:
                paths[path] = None

    for _ in range(generations):
        paths: dict[Architecture, None] = {}
        if best:
            add(paths, cross, population // 2)
        add(paths, mutate if best else draw, population)
        for path in paths:
            network = supernet.inherit(path)
            recalibrate(network, images)
            scores[path] = float(evaluate(network))
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:parents]
    return Found(best[0], scores[best[0]], costs.of(best[0]), scores)


def _cheaper(path: Architecture, costs: Costs, budget: int, generator: random.Random) -> Architecture:
    """Replace random choices by random cheaper ones until the path is within the budget."""
    while costs.of(path) > budget:
        place = generator.randrange(len(path))
        table = costs.choices[place]
        cheaper = [choice for choice in table if table[choice] < table[path[place]]]
        path = (*path[:place], generator.choice(cheaper or [path[place]]), *path[place + 1:])
    return path


@register(ModelCard(
    family="ShuffleNetV2", paper="Single Path One-Shot Neural Architecture Search with Uniform Sampling",
    arxiv="1904.00420", year=2019, chapter="03",
    table="README of the official code, github.com/megvii-model/ShuffleNet-Series",
    reference="official code (OneShot/network.py)", published_params_m=3.4, published_macs_m=328, published_top1=74.9,
    counted_params=3_432_579, counted_macs=327_857_920,
    note="Earlier versions of that README give 74.6 and 74.7 % top-1."), aliases=("ShuffleNetV2_OneShot",))
def shufflenet_v2_oneshot(num_classes: int = 1000, in_channels: int = 3, *,
                          architecture: Architecture = SEARCHED) -> ShuffleNetV2OneShot:
    """The network that the authors searched, untrained; or another path of their space."""
    return ShuffleNetV2OneShot(num_classes, in_channels, architecture=architecture)
