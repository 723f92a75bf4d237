"""The explorer of grouped 1x1 convolutions: what groups cost, and what a shuffle between them connects."""
import torch
from torch import nn

from lwcourse import viz
from lwcourse.layers import ChannelShuffle
from lwcourse.tables import html_table
from lwcourse.viz.receptive_field import channel_connections
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, slider

__all__ = ["GroupExplorer"]

ORDERS = (("none", "none"), ("paper", "paper"), ("official code", "official"))
AT = (("equal MACs", "macs"), ("equal channels", "channels"))


class GroupExplorer(Explorer):
    """Chapter 3: a stack of 1x1 convolutions in groups, which outputs see which inputs, and at which cost.

    "equal MACs" makes the layers as wide as they may be without costing more than one of `channels` without
    groups; "equal channels" keeps the width.
    """

    def __init__(self, groups: int = 4, layers: int = 2, order: str = "paper", at: str = "macs", channels: int = 24):
        self.channels = channels
        super().__init__({
            "groups": slider("groups", groups, 1, 8, 1),
            "layers": slider("layers", layers, 1, 4, 1),
            "order": dropdown("shuffle between", ORDERS, order),
            "at": dropdown("compare at", AT, at),
        }, self._explore)

    def _explore(self, groups: int, layers: int, order: str, at: str) -> tuple[viz.Figure, str]:
        width = self._width(groups, at)
        stacks = {f"after {n}": grouped_stack(width, groups, n, order) for n in range(1, layers + 1)}
        figure = viz.reachability(stacks, width, groups=groups)
        reached = channel_connections(stacks[f"after {layers}"], width, size=1).double().mean().item()
        rows = [("", f"groups = {groups}", "groups = 1", "ratio")]
        rows += [compare_row(*line) for line in (
            ("channels", width, self.channels),
            ("MACs a pixel", layers * width**2 // groups, layers * self.channels**2),
            ("numbers read and written a pixel", 2 * layers * width, 2 * layers * self.channels),
            ("share of channel pairs connected", reached, 1.0, "{:.0%}".format))]
        return figure, html_table(rows)

    def _width(self, groups: int, at: str) -> int:
        if at == "channels":
            if self.channels % groups:
                raise ValueError(f"{self.channels} channels cannot be split into {groups} equal groups; "
                                 "equal MACs picks a width that can")
            return self.channels
        return max(1, int((self.channels**2 * groups) ** 0.5 / groups + 1e-9)) * groups


def grouped_stack(channels: int, groups: int, layers: int, order: str = "paper") -> nn.Sequential:
    """1x1 convolutions in groups; between two of them a shuffle in the paper's order, the official code's, or none."""
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be split into {groups} equal groups")
    if order not in dict(ORDERS).values():
        raise ValueError(f"order must be 'none', 'paper' or 'official', got {order!r}")
    parts: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # looking must not change what the notebook draws next
        torch.manual_seed(0)
        for i in range(layers):
            if i and order != "none":
                parts.append(ChannelShuffle(groups if order == "paper" else channels // groups))
            parts.append(nn.Conv2d(channels, channels, 1, groups=groups, bias=False))
    return nn.Sequential(*parts)
