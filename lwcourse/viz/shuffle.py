"""Where channels go: a shuffle as lines, and which inputs reach which outputs through a stack of layers."""
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from torch import nn

from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.reach import channel_connections
from lwcourse.viz.theme import CARD, CYCLE, GRID, MUTED, Figure, new_figure, themed


@themed
def channel_paths(shuffles: Mapping[str, nn.Module], channels: int, groups: int, *, title: str | None = None) -> Figure:
    """Each channel's way through a reordering: a panel a module, a line a channel, a colour a group.

    The upper row is the order before, the lower one the order after; gaps part the groups. A module must only
    reorder (N, channels, 1, 1). Raises ValueError when it does anything else, or `groups` do not divide `channels`.
    """
    require_entries(shuffles, "a module that reorders channels")
    if not 1 <= groups <= len(CYCLE) or channels % groups:
        raise ValueError(f"groups must be from 1 to {len(CYCLE)} and divide the {channels} channels, got {groups}")
    orders = {name: _order(name, module, channels) for name, module in shuffles.items()}
    words = [f"{name} {' '.join(map(str, order))}" for name, order in orders.items()]
    figure, axes = new_figure(8.2, 2.9 + 0.3 * bool(title), columns=len(orders), alt=(
        f"Lines from {channels} channels in {groups} groups to their new places; order afterwards: {listed(words)}."))
    size = channels // groups
    place = [position + 0.8 * (position // size) for position in range(channels)]
    for panel, (name, order) in zip(np.atleast_1d(axes), orders.items(), strict=True):
        for after, before in enumerate(order):
            group = before // size
            panel.plot([place[before], place[after]], [1, 0], color=CYCLE[group], linewidth=1.8, zorder=1)
            for x, y in ((place[before], 1), (place[after], 0)):
                panel.plot(x, y, "o", color=CYCLE[group], markersize=15, zorder=2)
                panel.text(x, y, str(before), ha="center", va="center", color=CARD, fontsize=9, fontweight="bold",
                           zorder=3)
        panel.set(ylim=(-0.25, 1.25), xlim=(place[0] - 0.7, place[-1] + 0.7))
        panel.set_title(name, fontsize=10)
        panel.set_yticks([1, 0], ["before", "after"])
        panel.set_xticks([])
        panel.tick_params(length=0)
        panel.grid(visible=False)
        for spine in panel.spines.values():
            spine.set_visible(False)
    for panel in np.atleast_1d(axes)[1:]:
        panel.tick_params(labelleft=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _order(name: str, module: nn.Module, channels: int) -> list[int]:
    """The old channel at each new place."""
    labels = torch.arange(channels, dtype=torch.float32).view(1, channels, 1, 1)
    with torch.no_grad():
        order = module(labels.clone()).flatten().tolist()
    if sorted(order) != labels.flatten().tolist():
        raise ValueError(f"{name!r} does more than reorder {channels} channels: 0, 1, 2, ... became {order}")
    return [int(label) for label in order]


@themed
def reachability(stacks: Mapping[str, nn.Module], in_channels: int, *, groups: int = 1,
                 title: str | None = None) -> Figure:
    """Which output channel (row) depends on which input channel (column), for several stacks side by side.

    Found by trying (`channel_connections`). Columns are coloured by the group, of `groups`, in which an input
    starts, so that a row of several colours has met several groups. Raises ValueError when `groups` do not divide
    `in_channels`, or a stack cannot run.
    """
    require_entries(stacks, "a module")
    if groups < 1 or in_channels % groups:
        raise ValueError(f"groups must divide the {in_channels} input channels, got {groups}")
    matrices = {name: channel_connections(module, in_channels, size=3).numpy() for name, module in stacks.items()}
    shares = {name: float(matrix.mean()) for name, matrix in matrices.items()}
    words = [f"{name} {share:.0%}" for name, share in shares.items()]
    tall = 3.3 + 0.35 * bool(title) + 0.3 * (1 < groups <= len(CYCLE))
    figure, axes = new_figure(min(2.7 * len(stacks) + 0.6, 9), tall, columns=len(stacks), sharey=True, alt=(
        f"Matrices of output by input channels ({in_channels} inputs in {groups} groups); share of pairs that are "
        f"connected: {listed(words)}."))
    for panel, (name, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        _coloured(panel, matrix, groups)
        panel.set_title(f"{name}\n{shares[name]:.0%} of pairs", fontsize=10)
        panel.set_xlabel("input channel")
    np.atleast_1d(axes)[0].set_ylabel("output channel")
    if 1 < groups <= len(CYCLE):
        handles = [Line2D([], [], linestyle="", marker="s", markersize=8, color=CYCLE[g], label=f"group {g + 1}")
                   for g in range(groups)]
        legend_above(figure, handles, title)
    elif title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure


def _coloured(axes: Axes, matrix: np.ndarray, groups: int) -> None:
    """Cells of the matrix that are set, in the colour of their column's group; groups beyond six start again."""
    rows, columns = matrix.shape
    size = columns // groups
    group = np.arange(columns) // size
    cells = np.where(matrix, 1 + group % len(CYCLE), 0)
    axes.imshow(cells, cmap=ListedColormap([CARD, *CYCLE]), vmin=0, vmax=len(CYCLE), aspect="auto")
    axes.grid(visible=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if max(rows, columns) <= 32:
        axes.vlines(np.arange(columns - 1) + 0.5, -0.5, rows - 0.5, color=GRID, linewidth=0.6)
        axes.hlines(np.arange(rows - 1) + 0.5, -0.5, columns - 0.5, color=GRID, linewidth=0.6)
    axes.vlines(np.arange(1, groups) * size - 0.5, -0.5, rows - 0.5, color=MUTED, linewidth=1.4)
    for spine in axes.spines.values():
        spine.set_visible(True)
