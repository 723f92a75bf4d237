"""Receptive fields side by side: what several modules see of one input."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import nn

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.reach import centre_gradient
from lwcourse.viz.theme import PALETTE, Figure, new_figure, themed


def field_size(module: nn.Module, x_size: Sequence[int], *, samples: int = 4) -> tuple[int, int]:
    """Height and width, in pixels, of the smallest box with every input pixel that the centre of the output reads.

    Arguments and errors are those of `centre_gradient`. The box is cut where it meets the border of the input.
    """
    top, left, height, width = _box(centre_gradient(module, x_size, samples=samples))
    return height, width


def _box(field: torch.Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width)"""
    rows, columns = torch.nonzero(field.sum(1)).flatten(), torch.nonzero(field.sum(0)).flatten()
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


@themed
def receptive_fields(modules: Mapping[str, nn.Module], x_size: Sequence[int], *, columns: int = 3, samples: int = 16,
                     title: str | None = None) -> Figure:
    """The receptive field of each module's output centre, one panel a module, all on one colour scale.

    Brightness is `centre_gradient`, the share of a panel's strongest gradient; the dashed frame holds every pixel
    that is read. `modules` maps names to modules that take (N, *x_size). Raises ValueError when there is nothing
    to draw or a module cannot run, TypeError when `modules` is no mapping.
    """
    require_entries(modules, "module")
    fields = {name: centre_gradient(module, x_size, samples=samples) for name, module in modules.items()}
    boxes = {name: _box(field) for name, field in fields.items()}
    words = [f"{name} reads {height} × {width}" for name, (_, _, height, width) in boxes.items()]
    columns = min(columns, len(fields))
    rows = -(-len(fields) // columns)
    side = 7.0 / max(columns, 3)
    figure, axes = new_figure(columns * side + 1.0, rows * (side + 0.35) + 0.5, rows=rows, columns=columns, alt=(
        f"Heat maps of receptive fields, in pixels: {listed(words, most=12)}."))
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(fields):]:
        panel.set_axis_off()
    for panel, (name, field) in zip(grid.flat, fields.items(), strict=False):
        top, left, height, width = boxes[name]
        picture = panel.imshow(100 * field.numpy(), vmin=0, vmax=100)
        panel.grid(visible=False)
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=PALETTE["orange"],
                                  linestyle=(0, (4, 2)), linewidth=2.2, clip_on=False))
        panel.set_title(f"{name}: {height} × {width}", fontsize=10)
        for axis in (panel.xaxis, panel.yaxis):
            axis.get_major_locator().set_params(integer=True, nbins=4)
    for panel in grid[:, 0]:
        panel.set_ylabel("row (pixels)")
    for panel in grid.flat[max(len(fields) - columns, 0):len(fields)]:
        panel.set_xlabel("column (pixels)")
    bar = figure.colorbar(picture, ax=grid, fraction=0.05, aspect=30, pad=0.02, shrink=1 if rows == 1 else 0.8)
    bar.set_label("share of the strongest gradient (%)")
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
