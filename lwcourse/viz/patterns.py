"""Dilation patterns: where a 3x3 kernel of each dilation reads, and which dilations a search chose."""
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.patches import Rectangle

from lwcourse.tables import counted
from lwcourse.viz.curves import COUNTS
from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import CARD, GRID, INK, PALETTE, Figure, new_figure, themed

Dilations = Mapping[tuple[int, int], int]


def _check(pattern: Dilations, where: str = "the pattern") -> None:
    require_entries(pattern, "number of channels")
    for dilation, channels in pattern.items():
        pair = isinstance(dilation, tuple) and len(dilation) == 2
        if not pair or not all(isinstance(n, int) and n > 0 for n in (*dilation, channels)):
            raise ValueError(f"{where} must map pairs (height, width) to numbers of channels, all positive integers, "
                             f"such as {{(1, 3): 24}}; got {dilation!r}: {channels!r}")


@themed
def dilation_patterns(pattern: Dilations, *, columns: int = 4, title: str | None = None) -> Figure:
    """The nine pixels that a 3x3 kernel of each dilation reads, one panel a dilation, with its number of channels.

    `pattern` is that of an InceptionConv: {(height, width): output channels}. All panels have one scale; the frame
    is the field. Raises ValueError when `pattern` is empty or holds anything but positive integers.
    """
    _check(pattern)
    reach = max(max(dilation) for dilation in pattern)
    words = [f"{counted(channels, 'channel')} at {height} × {width}, a field of {2 * height + 1} × {2 * width + 1} "
             "pixels" for (height, width), channels in pattern.items()]
    columns = min(columns, len(pattern))
    rows = -(-len(pattern) // columns)
    side = min(1.75, 7.5 / rows - 0.55)  # inches; the figure fits on a page
    figure, axes = new_figure(max(columns * side + 0.6, 4.0), rows * (side + 0.55) + 0.4, rows=rows, columns=columns,
                              alt=f"Kernels of 3 × 3 by dilation (height × width): {listed(words, most=16)}.")
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(pattern):]:
        panel.set_axis_off()
    for panel, ((height, width), channels) in zip(grid.flat, pattern.items(), strict=False):
        panel.grid(visible=False)
        lines = np.arange(-reach, reach) + 0.5
        panel.vlines(lines, -reach - 0.5, reach + 0.5, color=GRID, linewidth=0.8)
        panel.hlines(lines, -reach - 0.5, reach + 0.5, color=GRID, linewidth=0.8)
        for row in (-height, 0, height):
            for column in (-width, 0, width):
                panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=PALETTE["blue"], edgecolor=CARD))
        panel.add_patch(Rectangle((-width - 0.5, -height - 0.5), 2 * width + 1, 2 * height + 1, fill=False,
                                  edgecolor=PALETTE["orange"], linestyle=(0, (4, 2)), linewidth=2, clip_on=False))
        panel.set(xlim=(-reach - 0.5, reach + 0.5), ylim=(reach + 0.5, -reach - 0.5), aspect="equal",
                  xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
        panel.set_title(f"({height}, {width})\n{counted(channels, 'channel')}", fontsize=10)
        for spine in panel.spines.values():
            spine.set_visible(True)
    for panel in grid[:, 0]:
        panel.set_ylabel("row (pixels)")
    for panel in grid.flat[max(len(pattern) - columns, 0):len(pattern)]:
        panel.set_xlabel("column (pixels)")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


@themed
def dilation_choices(patterns: Mapping[str, Dilations] | Sequence[Dilations], *, title: str | None = None) -> Figure:
    """Which share of each layer's channels has which dilation: a panel a layer, height by width of the dilation.

    `patterns` are what `search_patterns` returns, or the same by name. Raises ValueError when there are none, or
    one is not a pattern.
    """
    if not isinstance(patterns, Mapping):
        patterns = {f"layer {k}": pattern for k, pattern in enumerate(patterns, start=1)}
    require_entries(patterns, "pattern")
    for name, pattern in patterns.items():
        _check(pattern, name)
    most = max(max(dilation) for pattern in patterns.values() for dilation in pattern)
    shares, words = {}, []
    for name, pattern in patterns.items():
        table = np.zeros((most, most))
        for (height, width), channels in pattern.items():
            table[height - 1, width - 1] = channels
        shares[name] = 100 * table / table.sum()
        height, width = max(pattern, key=pattern.get)
        words.append(f"{name} most often {height} × {width}, {shares[name].max():.0f} %")
    columns = min(len(shares), 4)
    rows = -(-len(shares) // columns)
    side = 1.85
    figure, axes = new_figure(columns * side + 1.3, rows * (side + 0.3) + 0.5, rows=rows, columns=columns,
                              alt=f"Share of channels by dilation (height × width): {listed(words, most=12)}.")
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(shares):]:
        panel.set_axis_off()
    for panel, (name, table) in zip(grid.flat, shares.items(), strict=False):
        picture = panel.imshow(table, cmap=COUNTS, vmin=0, vmax=100, origin="lower",
                               extent=(0.5, most + 0.5, 0.5, most + 0.5))
        panel.grid(visible=False)
        for (row, column), share in np.ndenumerate(table):
            if share >= 0.5:
                panel.text(column + 1, row + 1, f"{share:.0f}", ha="center", va="center", fontsize=9,
                           color=CARD if share > 55 else INK)
        panel.set_xticks(range(1, most + 1))
        panel.set_yticks(range(1, most + 1))
        panel.set_title(name, fontsize=10)
        for spine in panel.spines.values():
            spine.set_visible(True)
    for panel in grid[:, 0]:
        panel.set_ylabel("dilation down (pixels)")
    for panel in grid.flat[max(len(shares) - columns, 0):len(shares)]:
        panel.set_xlabel("dilation across (pixels)")
    bar = figure.colorbar(picture, ax=grid, fraction=0.05, aspect=24, pad=0.02)
    bar.set_label("channels (%)")
    bar.outline.set_visible(False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
