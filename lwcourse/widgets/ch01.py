"""The explorer of chapter 01: one convolution, what it costs and what it reads."""

import torch
from torch import nn

from lwcourse import viz
from lwcourse.profile import format_bytes, profile
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, slider

__all__ = ["ConvExplorer"]


class ConvExplorer(Explorer):
    """Chapter 1: one nn.Conv2d; what its settings cost, and which inputs an output reads."""

    def __init__(self, in_channels: int = 16, out_channels: int = 16, kernel: int = 3, groups: int = 1):
        super().__init__({
            "in_channels": slider("input channels", in_channels, 1, 64, 1),
            "out_channels": slider("output channels", out_channels, 1, 64, 1),
            "groups": slider("groups", groups, 1, 64, 1),
            "kernel": dropdown("kernel", [(f"{k} × {k}", k) for k in (1, 3, 5, 7)], kernel),
            "stride": dropdown("stride", [1, 2], 1),
            "dilation": dropdown("dilation", [1, 2, 3], 1),
            "image_size": slider("image size (px)", 32, 8, 112, 8),
        }, self._explore)

    @staticmethod
    def _explore(in_channels: int, out_channels: int, groups: int, kernel: int, stride: int, dilation: int,
                 image_size: int) -> tuple[viz.Figure, str]:
        for name, channels in (("input", in_channels), ("output", out_channels)):
            if channels % groups:
                raise ValueError(f"{channels} {name} channels cannot be split into {groups} equal groups")
        size = (in_channels, image_size, image_size)
        settings = {"kernel_size": kernel, "stride": stride, "padding": dilation * (kernel - 1) // 2,
                    "dilation": dilation, "bias": False}
        with torch.random.fork_rng(devices=[]):  # looking must not change what the notebook draws next
            torch.manual_seed(0)
            conv = nn.Conv2d(in_channels, out_channels, groups=groups, **settings)
            dense = nn.Conv2d(in_channels, out_channels, **settings)
        mine, other = (profile(module, size).layers[0] for module in (conv, dense))
        figure = viz.connectivity(conv, in_channels, size=21, pixels=True)
        rows = [("", f"groups = {groups}", "groups = 1", "ratio")]
        rows += [compare_row(*line) for line in (
            ("parameters", mine.params, other.params), ("MACs", mine.macs, other.macs),
            ("MACs per byte moved", mine.intensity, other.intensity, lambda value: f"{value:.2f}"),
            ("output bytes", mine.output_bytes, other.output_bytes, format_bytes))]
        shape = " × ".join(map(str, mine.output_shape[1:]))
        rows.append(("output (channels × height × width)", shape, shape, ""))
        return figure, html_table(rows)
