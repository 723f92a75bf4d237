"""Explorer of dilated pyramids: what they make of one bright pixel, and what they cost."""
from functools import partial

import torch
from torch import Tensor, nn

from lwcourse import viz
from lwcourse.layers import DilatedPyramid
from lwcourse.profile import profile
from lwcourse.tables import html_table
from lwcourse.viz.chapters.ch07 import field_side, pixel_response
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, slider

__all__ = ["DilationExplorer"]

RATES = {"1, 2, 4, 8, 16 (ESPNet)": (1, 2, 4, 8, 16), "1, 2, 3, 4 (ESPNetv2)": (1, 2, 3, 4),
         "1, 1, 2, 3 (ESPNetv2, deeper)": (1, 1, 2, 3), "2, 4, 8, 16": (2, 4, 8, 16), "1, 4, 16": (1, 4, 16),
         "16 alone": (16,), "1, 1, 1, 1 (no dilation)": (1, 1, 1, 1)}
SIDE = 64  # of the feature map whose cost is counted, pixels


class DilationExplorer(Explorer):
    """Chapter 7: the rates and the fusion of a dilated pyramid, against its answer to one pixel and its cost.

    Dense branches fuse as in ESPNet, whose first one takes no part; depthwise ones as in ESPNetv2, where all do.
    """

    def __init__(self, rates: str = "1, 2, 4, 8, 16 (ESPNet)", fusion: bool = True, channels: int = 20,
                 depthwise: bool = False):
        if rates not in RATES:
            raise ValueError(f"rates must be one of {', '.join(map(repr, RATES))}, got {rates!r}")
        super().__init__({
            "rates": dropdown("dilation rates", list(RATES), rates),
            "fusion": dropdown("fusion (HFF)", [("on", True), ("off", False)], fusion),
            "depthwise": dropdown("branches", [("dense, as in ESPNet", False), ("depthwise, as in ESPNetv2", True)],
                                  depthwise),
            "channels": slider("channels a branch", channels, 4, 64, 4),
        }, self._explore)

    @staticmethod
    def _explore(rates: str, fusion: bool, depthwise: bool, channels: int) -> tuple[viz.Figure, str]:
        dilations = RATES[rates]
        groups = channels if depthwise else 1
        with torch.random.fork_rng(devices=[]):  # looking must not change what the notebook draws next
            build = partial(DilatedPyramid, channels, [channels] * len(dilations), dilations, groups=groups,
                            fuse_from=0 if depthwise else 1)
            pyramid, other = build(hierarchical=fusion), build(hierarchical=not fusion)
            standard = nn.Conv2d(channels, channels * len(dilations), 3, padding=1, bias=False)
        mine, against = branch_maps(pyramid, channels, len(dilations)), branch_maps(other, channels, len(dilations))
        words = {True: "fused", False: "not fused"}
        figure = viz.pixel_responses({words[fusion]: mine}, [f"rate {rate}" for rate in dilations],
                                     title=f"One bright pixel behind the rates {', '.join(map(str, dilations))}")
        costs = [profile(module, (channels, SIDE, SIDE)) for module in (pyramid, other, standard)]
        last = [int((maps[-1] > 0).sum()) for maps in (mine, against)]
        header = ("", words[fusion], words[not fusion], "ratio")
        rows = [header, compare_row("pixels reached by the last branch", *last),
                compare_row("side of the field (pixels)", *(field_side(maps.sum(0)) for maps in (mine, against))),
                compare_row("parameters", costs[0].params, costs[1].params),
                compare_row(f"MACs on {SIDE} × {SIDE} pixels", costs[0].macs, costs[1].macs)]
        caption = (f"A standard 3 × 3 convolution with as many channels has {costs[2].params:,} parameters and a field "
                   "of 3 × 3 pixels.")
        return figure, html_table(rows, caption=caption)


def branch_maps(pyramid: nn.Module, channels: int, branches: int) -> Tensor:
    """Response of one channel of each branch to one pixel, with every weight 1: (branches, H, W)."""
    return pixel_response(pyramid, channels, size=41, ones=True)[::channels][:branches]
