"""CondenseNet: An Efficient DenseNet using Learned Group Convolutions.

Paper:   Huang et al., CVPR 2018, https://arxiv.org/abs/1711.09224
Lesson:  notebooks/10_condensenet.ipynb
Idea:    train a DenseNet whose 1x1 convolutions drop, group by group, the inputs that matter least,
         until what is left is a group convolution; connect all layers, and grow more where maps are small.
Differs: several condensing stages that are due at once all drop; the official code drops one stage's share and
         never catches up. Counted steps drop while training only; in the official code, whenever the network
         runs. The official conversion always halves the classifier's inputs; ours does so when asked to.
         Dropout in the dense layers, an option of the official code, is left out.
         In an untrained converted network, where no input has proved its worth, each group takes every
         G-th channel, and the classifier every second one.
"""
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lwcourse.layers import (
    ChannelShuffle,
    LearnedGroupConv,
    SelectChannels,
    check_flag,
    check_images,
    check_integer,
    check_options,
)
from lwcourse.registry import ModelCard, Variant, register


class Stage(NamedTuple):
    """A dense block; 2x2 average pooling follows all but the last."""
    repeats: int  # dense layers
    growth: int   # k, channels that each of them adds


STAGES = (           # CondenseNet-74 for ImageNet; feature-map side in pixels for a 224 x 224 image
    Stage( 4,   8),  # 112 ->  56
    Stage( 6,  16),  #  56 ->  28
    Stage( 8,  32),  #  28 ->  14
    Stage(10,  64),  #  14 ->   7
    Stage( 8, 128),  #   7 ->   7
)
CIFAR_STAGES = (Stage(14, 8), Stage(14, 16), Stage(14, 32))  # CondenseNet-86, with a stem of stride 1
BOTTLENECK = 4  # outputs of a layer's 1x1 convolution, in units of its growth


class DenseLayer(nn.Module):
    """Adds `growth` channels: BN, ReLU and 1x1 convolution, then BN, ReLU and 3x3 group convolution (Figure 1).

    `learned`: the 1x1 convolution is a LearnedGroupConv. Otherwise the layer is converted: an index layer
    before a group convolution, and a channel shuffle behind it.

    Shape: (N, in_channels, H, W) -> (N, in_channels + growth, H, W).
    Cost when converted, in multiply-adds: H*W * 4*growth/groups * (in_channels + 9*growth).
    """

    def __init__(self, in_channels: int, growth: int, groups: int, *, learned: bool = False):
        super().__init__()
        hidden = BOTTLENECK * growth
        norm, act = nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)
        if learned:
            conv = LearnedGroupConv(in_channels, hidden, groups)
            self.mix = nn.Sequential(OrderedDict(norm=norm, act=act, conv=conv))
        else:
            conv = nn.Conv2d(in_channels, hidden, 1, groups=groups, bias=False)
            index = torch.arange(in_channels).view(-1, groups).t().flatten()  # every G-th channel to a group
            self.mix = _converted_mix(index, norm, act, conv)
        self.filter = nn.Sequential(OrderedDict(
            norm=nn.BatchNorm2d(hidden), act=nn.ReLU(inplace=True),
            conv=nn.Conv2d(hidden, growth, 3, padding=1, groups=groups, bias=False)))

    def convert(self) -> None:
        """Change a learned layer, in place, into a converted one. Raises ValueError before it is condensed."""
        index, conv = self.mix.conv.grouped()
        old = self.mix.norm
        norm = nn.BatchNorm2d(len(index), old.eps, old.momentum).to(old.weight)
        with torch.no_grad():
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(getattr(old, name)[index])
        self.mix = _converted_mix(index, norm, self.mix.act, conv)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.filter(self.mix(x))], dim=1)


def _converted_mix(index: Tensor, norm: nn.Module, act: nn.Module, conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(OrderedDict(index=SelectChannels(index), norm=norm, act=act, conv=conv,
                                     permute=ChannelShuffle(conv.groups)))


class CondenseNet(nn.Module):
    """Images (N, in_channels, H, W) -> logits (N, num_classes).

    The smallest side is stem_stride * 2 ** (len(stages) - 1): 32 pixels for CondenseNet-74. `groups` is both
    G and C of the paper, and must divide every growth. There are two forms:

    - converted (the default): what the paper measures. The classifier reads the share `classifier_share`
      of the pooled channels.
    - `learned=True`: what is trained. Its masks and the stage that they have reached are buffers. The progress
      of the training comes from one of two sides: with `training_steps`, the network counts its forward passes
      in training mode (buffer `step`) and condenses itself, as `lw.fit` needs it; without, the training loop
      calls `condense(progress)` before each step. Then `convert()` makes the other form of it:

          steps = epochs * ceil(len(data.train) / batch_size)
          network = CondenseNet(10, learned=True, training_steps=steps)
          lw.fit(network, data, epochs=epochs, batch_size=batch_size)
          small = network.convert()

    A loop of one's own may add 1e-5 * network.group_lasso() to the loss.
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, *, groups: int = 4, learned: bool = False,
                 training_steps: int | None = None, classifier_share: float = 0.5,
                 stages: Sequence[Stage] = STAGES, stem_stride: int = 2):
        super().__init__()
        check_options(num_classes, in_channels)
        largest = gcd(*(stage.growth for stage in stages))
        check_integer("groups", groups)
        if largest % groups:
            raise ValueError(f"groups must be a positive integer that divides {largest}, and so every growth; "
                             f"got {groups!r}")
        check_flag("learned", learned)
        if training_steps is not None:
            check_integer("training_steps", training_steps)
            if not learned or training_steps < 2:
                raise ValueError("training_steps must be an integer of at least 2, and goes with learned=True; "
                                 f"got {training_steps!r} with learned={learned}")
        self.in_channels = in_channels
        self.learned = learned
        self.training_steps = training_steps
        self.smallest = stem_stride * 2 ** (len(stages) - 1)
        channels = 2 * stages[0].growth
        self.stem = nn.Conv2d(in_channels, channels, 3, stem_stride, padding=1, bias=False)
        blocks = []
        for i, stage in enumerate(stages):
            parts = []
            for _ in range(stage.repeats):
                parts.append(DenseLayer(channels, stage.growth, groups, learned=learned))
                channels += stage.growth
            if i < len(stages) - 1:
                parts.append(nn.AvgPool2d(2))  # the whole transition: nothing is compressed
            blocks.append(nn.Sequential(*parts))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        kept = channels if learned else _kept(channels, classifier_share)
        self.select = SelectChannels(torch.arange(kept) * channels // kept) if kept < channels else nn.Identity()
        self.classifier = nn.Linear(kept, num_classes)
        if learned:
            self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._initialise()

    def _initialise(self) -> None:
        """He's initialisation by fan-out; PyTorch's own for the classifier, with a bias of 0: as the official code."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_images(self, x, smallest=self.smallest, one_pixel=2 * self.smallest - self.stem.stride[0])
        if self.training and self.training_steps is not None:
            self.condense(min(1.0, self.step.item() / self.training_steps))
            self.step += 1
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(self.select(x.mean(dim=(2, 3))))

    def condense(self, progress: float) -> None:
        """Drop the inputs that are due when the share `progress` of the training is done (see LearnedGroupConv).

        Raises ValueError unless 0 <= progress <= 1, and for a network in its converted form.
        """
        for layer in self._learned_layers():
            layer.mix.conv.condense(progress)

    def group_lasso(self) -> Tensor:
        """The sum of the layers' regularisers, to be added to the loss. Raises ValueError in the converted form."""
        return torch.stack([layer.mix.conv.group_lasso() for layer in self._learned_layers()]).sum()

    def convert(self, classifier_share: float = 1.0) -> "CondenseNet":
        """A new network in the converted form, in eval mode, with the same output; this one is left unchanged.

        With `classifier_share` below 1, the classifier keeps only that share of its inputs, those with the largest
        sum of |weight|. That changes the output; the paper's networks are converted with 0.5.
        Raises ValueError before the condensing is done, and for a network that has the converted form.
        """
        for layer in self._learned_layers():
            layer.mix.conv.kept()  # raises before anything is copied
        network = deepcopy(self)
        for layer in network._learned_layers():
            layer.convert()
        linear = self.classifier
        kept = _kept(linear.in_features, classifier_share)
        if kept < linear.in_features:
            index = linear.weight.detach().abs().sum(0).argsort()[-kept:].sort().values
            network.select = SelectChannels(index)
            network.classifier = nn.Linear(kept, linear.out_features).to(linear.weight)
            with torch.no_grad():
                network.classifier.weight.copy_(linear.weight[:, index])
                network.classifier.bias.copy_(linear.bias)
        network.learned, network.training_steps = False, None
        del network.step
        return network.eval()

    def _learned_layers(self) -> Iterator[DenseLayer]:
        if not self.learned:
            raise ValueError("this CondenseNet has its converted form, in which nothing is left to condense; "
                             "build it with learned=True to train one")
        return (module for module in self.modules() if isinstance(module, DenseLayer))


def _kept(features: int, share: float) -> int:
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"classifier_share must be above 0 and at most 1, got {share!r}")
    return max(1, int(features * share))


NOTE = "The published MACs count ReLU, pooling and the classifier's bias too, as one for each value."


@register(ModelCard(
    family="CondenseNet", paper="CondenseNet: An Efficient DenseNet using Learned Group Convolutions",
    arxiv="1711.09224", year=2017, chapter="10", table="README of the official code, Results on ImageNet",
    reference="pytorchcv condensenet74_c4_g4", published_params_m=4.8, published_macs_m=529, published_top1=73.8,
    counted_params=4_773_944, counted_macs=516_640_576,
    note=f"{NOTE} light_cnns lists the network in its README, but has no code for it.",
    variants=(
        Variant(arguments={"groups": 8}, published_params_m=2.9, published_macs_m=274, published_top1=71.0,
                counted_params=2_935_416, counted_macs=261_545_792, note=NOTE),
    )))
def condensenet(num_classes: int = 1000, in_channels: int = 3, *, groups: int = 4, learned: bool = False,
                training_steps: int | None = None) -> CondenseNet:
    """CondenseNet-74 with C = G = `groups`, untrained, in its converted form; `learned=True` builds what is trained."""
    return CondenseNet(num_classes, in_channels, groups=groups, learned=learned, training_steps=training_steps)
