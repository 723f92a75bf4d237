"""Chapter 4: what ghosts save and what they lose, on the maps of a network."""
from math import ceil

import torch
from torch import Tensor

from lwcourse import viz
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, slider

__all__ = ["GhostExplorer"]

RATIOS = range(2, 9)


class GhostExplorer(Explorer):
    """Choose the ratio and the filters of a Ghost module, and see its cost, and how well its ghosts fit.

    `maps` (C, H, W) are what a convolution gave for an image. For each setting the maps that explain the others best
    are kept, and every other map is made of one of them by one filter, of least squared error.
    """

    def __init__(self, maps: Tensor, *, ratio: int = 2, cheap_kernel: int = 3, in_channels: int = 32, kernel: int = 3):
        self.maps = torch.as_tensor(maps).detach()
        self._shares: dict[int, Tensor] = {}
        super().__init__({
            "ratio": slider("ratio s", ratio, RATIOS.start, RATIOS.stop - 1, 1),
            "cheap_kernel": dropdown("cheap filters d", [(f"{d} × {d}", d) for d in (1, 3, 5, 7)], cheap_kernel),
            "kernel": dropdown("convolution k", [(f"{k} × {k}", k) for k in (1, 3)], kernel),
            "in_channels": slider("input channels", in_channels, 1, 256, 1),
        }, self._explore)

    def shares(self, cheap_kernel: int) -> Tensor:
        """`viz.ghost_likeness` of the maps; computed once a kernel."""
        if cheap_kernel not in self._shares:
            self._shares[cheap_kernel] = viz.ghost_likeness(self.maps, cheap_kernel)
        return self._shares[cheap_kernel]

    def _explore(self, ratio: int, cheap_kernel: int, kernel: int, in_channels: int) -> tuple[viz.Figure, str]:
        channels = len(self.maps)
        if ratio > channels:
            raise ValueError(f"a ratio of {ratio} needs at least {ratio} maps, here are {channels}")
        plain = _convolution(channels, in_channels, kernel)
        costs = [(1, 1.0)] + [(one, sum(_ghosts(channels, in_channels, kernel, one, cheap_kernel)) / plain)
                              for one in RATIOS if one <= channels]
        shares = self.shares(cheap_kernel)
        figure = viz.ghost_budget(shares, costs, ratio, title=(
            f"{channels} maps, {kernel} × {kernel} convolution of {in_channels} channels, {cheap_kernel} × "
            f"{cheap_kernel} ghosts"))
        primary, cheap = _ghosts(channels, in_channels, kernel, ratio, cheap_kernel)
        rows = [("MACs a pixel", f"s = {ratio}", "convolution", "ratio"),
                compare_row("convolved maps", primary, plain), compare_row("ghosts", cheap, plain),
                compare_row("together", primary + cheap, plain)]
        kept = shares[viz.choose_intrinsic(shares, ceil(channels / ratio))].amax(0)
        rows.append(("variance that is made", f"{kept.mean():.1%}", "100 %", f"{kept.mean():.3g}"))
        return figure, html_table(rows, caption=f"The paper's estimate of the saving is s = {ratio}; here it is "
                                                f"{plain / (primary + cheap):.2f}.")


def _convolution(out_channels: int, in_channels: int, kernel: int) -> int:
    """MACs a pixel."""
    return out_channels * in_channels * kernel**2


def _ghosts(out_channels: int, in_channels: int, kernel: int, ratio: int, cheap_kernel: int) -> tuple[int, int]:
    """MACs a pixel of `GhostModule`: of its convolution, and of its cheap filters."""
    intrinsic = ceil(out_channels / ratio)
    return _convolution(intrinsic, in_channels, kernel), intrinsic * (ratio - 1) * cheap_kernel**2
