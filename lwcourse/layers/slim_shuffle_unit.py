"""A shuffle unit whose number of hidden channels may differ at each call: what a search for channels trains.

Source: Guo et al., ECCV 2020, https://arxiv.org/abs/1904.00420, "channel search": the weights are those of the
widest unit, of which a narrower one uses the first.
"""
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lwcourse.layers.conv_bn_act import ConvBNAct
from lwcourse.layers.released_shuffle_unit import ReleasedShuffleUnit


class SlimShuffleUnit(ReleasedShuffleUnit):
    """ReleasedShuffleUnit that is called with the number of hidden channels to use, at most its own `hidden`.

    Shape and cost are those of a ReleasedShuffleUnit with so many hidden channels; so is the output, with the
    weights that `copy_to` gives it.
    """

    def forward(self, x: Tensor, hidden: int) -> Tensor:
        if not 1 <= hidden <= self.hidden:
            raise ValueError(f"hidden must be from 1 to {self.hidden}, got {hidden}")
        return self.join(x, partial(self._run_branch, hidden=hidden))

    def _slices(self, hidden: int) -> Iterator[tuple[ConvBNAct, Tensor]]:
        """Every layer of the branch, and what is used of its weights (output channels first)."""
        channels = self.branch[0].conv.in_channels
        for layer in self.branch:
            weight = layer.conv.weight
            if weight.shape[-1] > 1:  # depthwise: one kernel for each channel that comes in
                weight = weight[:channels]
            elif layer is self.branch[-1]:
                weight = weight[:, :channels]
            else:
                weight = weight[:hidden, :channels]
            channels = len(weight)
            yield layer, weight

    def _run_branch(self, x: Tensor, hidden: int) -> Tensor:
        for layer, weight in self._slices(hidden):
            conv, bn, channels = layer.conv, layer.bn, len(weight)
            groups = channels if weight.shape[-1] > 1 else 1
            x = F.conv2d(x, weight, None, conv.stride, conv.padding, groups=groups)
            x = F.batch_norm(x, bn.running_mean[:channels], bn.running_var[:channels], bn.weight[:channels],
                             bn.bias[:channels], bn.training, bn.momentum, bn.eps)
            if hasattr(layer, "act"):
                x = layer.act(x)
        return x

    def macs(self, hidden: int, height: int, width: int) -> int:
        """Multiply-adds for a map of height x width: each weight meets every output pixel once."""
        total = 0
        for path in ([(layer, layer.conv.weight) for layer in self.shortcut.children()], self._slices(hidden)):
            h, w = height, width
            for layer, weight in path:
                h, w = (-(-side // layer.conv.stride[0]) for side in (h, w))
                total += h * w * weight.numel()
        return total

    @torch.no_grad()
    def copy_to(self, unit: ReleasedShuffleUnit) -> None:
        """Give `unit`, which may be narrower, the weights and statistics that it shares with this one."""
        unit.shortcut.load_state_dict(self.shortcut.state_dict())
        for (layer, weight), target in zip(self._slices(unit.hidden), unit.branch, strict=True):
            target.conv.weight.copy_(weight)
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(target.bn, name).copy_(getattr(layer.bn, name)[:len(weight)])
