"""Pictures of chapter 03: where shuffled channels go, times against a guideline, and what a search looked at."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from torch import nn

from lwcourse.viz.labels import count_unit, legend_above, listed, require_entries
from lwcourse.viz.receptive_field import channel_connections
from lwcourse.viz.theme import CARD, CYCLE, GRID, INK, MUTED, PALETTE, Figure, headline, new_figure, themed

__all__ = ["channel_paths", "reachability", "relative_times", "search_paths"]


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
    headline(figure, title)
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
    else:
        headline(figure, title)
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


MARKERS = ("o", "s", "^", "D", "v", "P")


@themed
def relative_times(panels: Mapping[str, Mapping[str, Sequence[float]]], *, title: str | None = None) -> Figure:
    """A panel a question; in it a dot for each run of each design, and a line through the medians.

    `panels` maps a question to {design: times relative to the first design, one a run}; 1 is drawn dashed. All
    panels share one axis. Raises ValueError for a panel without designs, a design without runs, or ratios that
    are not positive.
    """
    require_entries(panels, "{design: ratios}")
    for question, designs in panels.items():
        require_entries(designs, "ratios")
        for design, ratios in designs.items():
            if not len(ratios) or not all(np.isfinite(ratio) and ratio > 0 for ratio in ratios):
                raise ValueError(f"{question!r}, {design!r}: ratios must be positive and at least one, "
                                 f"got {list(ratios)}")
    words = [f"{question}: " + ", ".join(f"{design} {np.median(ratios):.2f}" for design, ratios in designs.items())
             for question, designs in panels.items()]
    counts = [len(designs) for designs in panels.values()]
    figure, axes = new_figure(9, 3.5 + 0.35 * bool(title), columns=len(panels), sharey=True,
                              width_ratios=[count + 0.6 for count in counts],
                              alt=f"Median time relative to the first design of each panel. {listed(words)}.")
    for i, (panel, (question, designs)) in enumerate(zip(np.atleast_1d(axes), panels.items(), strict=True)):
        colour, marker = CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]
        medians = [float(np.median(ratios)) for ratios in designs.values()]
        panel.axhline(1, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
        panel.plot(range(len(medians)), medians, color=colour, zorder=2)
        for x, ratios in enumerate(designs.values()):
            panel.plot([x] * len(ratios), ratios, marker, color=colour, markersize=6, alpha=0.65, zorder=3)
        panel.set_xticks(range(len(medians)), list(designs))
        panel.set_xlim(-0.5, len(medians) - 0.5)
        panel.grid(axis="x", visible=False)
        panel.set_title(question, fontsize=10)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("time relative to the first design (×)")
    first.set_ylim(bottom=0)
    headline(figure, title)
    return figure


COLOURS = ("sky", "blue", "green", "orange", "vermillion", "purple")


@themed
def search_paths(generations: Mapping[str, Sequence[tuple[float, float]]], *, budget: float | None = None,
                 x_label: str = "MACs", y_label: str = "score", title: str | None = None) -> Figure:
    """Left: every candidate at (cost, score), a colour and marker a generation. Right: the best so far, and the median.

    `generations` maps a generation's name to its (cost, score) pairs, in order; the best of all is ringed, and
    `budget` is a dashed line. Raises ValueError for a generation without candidates or values that are not finite.
    """
    require_entries(generations, "(cost, score) pairs")
    for name, pairs in generations.items():
        if not len(pairs) or not np.isfinite(np.array(pairs, dtype=float)).all():
            raise ValueError(f"{name!r} must hold (cost, score) pairs that are finite, got {list(pairs)}")
    everything = [pair for pairs in generations.values() for pair in pairs]
    scale, unit = count_unit([cost for cost, _ in everything])
    cost, score = max(everything, key=lambda pair: pair[1])
    best = list(np.maximum.accumulate([max(s for _, s in pairs) for pairs in generations.values()]))
    middle = [float(np.median([s for _, s in pairs])) for pairs in generations.values()]
    words = [f"{name} median {m:.3g}, best so far {b:.3g}"
             for name, m, b in zip(generations, middle, best, strict=True)]
    figure, axes = new_figure(8.6, 4.0 + 0.3 * bool(title), columns=2, width_ratios=(1.5, 1), sharey=True, alt=(
        f"{len(everything)} candidates by {x_label} and {y_label}: {listed(words)}. "
        f"The best has {y_label} {score:.3g} at {cost / scale:.3g} {unit} {x_label}.".replace("  ", " ")))
    left, right = axes
    for i, (name, pairs) in enumerate(generations.items()):
        x, y = np.array(pairs, dtype=float).T
        left.plot(x / scale, y, MARKERS[i % len(MARKERS)], color=PALETTE[COLOURS[i % len(COLOURS)]], markersize=6,
                  alpha=0.8, label=name, linestyle="", markeredgecolor=CARD, markeredgewidth=0.5)
    left.plot(cost / scale, score, "o", markersize=14, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.6,
              linestyle="", label="best")
    if budget is not None:
        left.axvline(budget / scale, color=INK, linewidth=1.4, linestyle=(0, (4, 2)))
        left.annotate("budget", (budget / scale, 0), xycoords=("data", "axes fraction"), xytext=(-5, 6),
                      textcoords="offset points", ha="right", fontsize=9, color=INK)
        low, high = left.get_ylim()
        left.set_ylim(low - 0.08 * (high - low), high)  # room for the word below the candidates
    left.set(xlabel=f"{x_label} ({unit})" if unit else x_label, ylabel=y_label)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6, handletextpad=0.3, columnspacing=0.8,
                title="generation", alignment="left")
    steps = range(1, len(generations) + 1)
    right.plot(steps, best, color=PALETTE["vermillion"], marker="o", label="best so far")
    right.plot(steps, middle, color=MUTED, marker="s", label="median")
    right.set_xticks(list(steps))
    right.set_xlabel("generation")
    right.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, handletextpad=0.4)
    headline(figure, title)
    return figure
