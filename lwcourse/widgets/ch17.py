"""The explorer of chapter 17: one layer on an imagined machine, and what bounds its time."""
import torch
from torch import nn

from lwcourse import viz
from lwcourse.profile import format_bytes, profile
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, dropdown, slider

__all__ = ["BoundsExplorer"]


class BoundsExplorer(Explorer):
    """Chapter 17: three convolutions on a machine of your own; the least times of arithmetic, memory and calls."""

    def __init__(self, channels: int = 64, image_size: int = 56, batch: int = 1):
        super().__init__({
            "channels": dropdown("channels", [16, 32, 64, 128, 256, 512], channels),
            "image_size": dropdown("pixels a side", [7, 14, 28, 56, 112], image_size),
            "batch": dropdown("batch", [1, 4, 16, 64], batch),
            "number_bytes": dropdown("numbers", [("32 bits", 4), ("16 bits", 2), ("8 bits", 1)], 4),
            "peak": slider("peak (GMAC/s)", 40, 5, 400, 5),
            "bandwidth": slider("bandwidth (GB/s)", 16, 2, 200, 2),
            "call": slider("one call (µs)", 10, 0, 50, 1),
        }, self._explore)

    @staticmethod
    def _explore(channels: int, image_size: int, batch: int, number_bytes: int, peak: int, bandwidth: int,
                 call: int) -> tuple[viz.Figure, str]:
        bounds, rows = {}, [("", "MACs", "bytes", "MACs per byte", "longest", "of one image")]
        for name, (kernel, groups) in {"standard 3×3": (3, 1), "1×1": (1, 1), "depthwise 3×3": (3, channels)}.items():
            with torch.device("meta"):
                conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
            cost = profile(conv.to_empty(device="cpu"), (channels, image_size, image_size)).layers[0]
            macs = batch * cost.macs
            moved = number_bytes / 4 * (batch * (cost.input_bytes + cost.output_bytes) + cost.parameter_bytes)
            own = {"arithmetic": macs / (1e9 * peak), "memory": moved / (1e9 * bandwidth), "calls": 1e-6 * call}
            bounds[name] = own
            longest = max(own, key=own.get)
            rows.append((name, f"{macs:,}", format_bytes(moved), f"{macs / moved:.2f}", longest,
                         f"{1e6 * own[longest] / batch:.3g} µs"))
        return viz.time_bounds(bounds), html_table(rows)
