"""From one tower to one tower a channel: which channels a tower reads, and what the split costs."""
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from lwcourse.tables import counted
from lwcourse.viz.labels import count_unit, require_entries, short_count
from lwcourse.viz.reach import matrix_panel
from lwcourse.viz.theme import INK, PALETTE, Figure, new_figure, themed


@themed
def towers(connections: Tensor, costs: Mapping[int, tuple[int, int]], chosen: int, *,
           title: str | None = None) -> Figure:
    """Left: which input channel (column) each filtered channel (row) reads. Right: MACs by number of towers.

    `connections` are booleans (out_channels, in_channels), as `channel_connections` gives them; `costs` maps a
    number of towers to the MACs of filtering and of mixing, drawn as one bar in two parts; the bar of `chosen`
    towers stands out. Raises ValueError when `chosen` has no cost or `connections` is no matrix.
    """
    require_entries(costs, "(filter MACs, mix MACs)")
    if chosen not in costs:
        raise ValueError(f"chosen must be one of {', '.join(map(str, costs))} towers, got {chosen}")
    if connections.ndim != 2:
        raise ValueError(f"connections must be a matrix (out_channels, in_channels), got {tuple(connections.shape)}")
    matrix = connections.numpy()
    filters, mixes = (np.array([cost[part] for cost in costs.values()]) for part in (0, 1))
    where = list(costs).index(chosen)
    first, total = filters + mixes, filters[where] + mixes[where]
    figure, (left, right) = new_figure(8.0, 3.7, columns=2, width_ratios=(1, 1.3), alt=(
        f"{counted(chosen, 'tower')}: {int(matrix.sum()):,} of {matrix.size:,} pairs of channels are connected; "
        f"{short_count(total)} MACs, {filters[where] / total:.0%} of them for filtering. "
        f"Bars from {list(costs)[0]} to {list(costs)[-1]} towers fall from {short_count(first[0])} to "
        f"{short_count(first[-1])} MACs."))
    matrix_panel(left, matrix, f"{int(matrix.sum()):,} of {matrix.size:,} channel pairs")
    left.set(xlabel="input channel", ylabel="filtered channel")
    scale, unit = count_unit(first)
    x = np.arange(len(costs))
    for values, bottom, colour, name in ((mixes, 0 * mixes, PALETTE["sky"], "mix, 1×1"),
                                         (filters, mixes, PALETTE["blue"], "filter, k×k")):
        bars = right.bar(x, values / scale, 0.72, bottom=bottom / scale, color=colour, label=name)
        for i, bar in enumerate(bars):
            bar.set_alpha(1.0 if i == where else 0.35)
    right.annotate(short_count(total), (where, total / scale), xytext=(0, 4), textcoords="offset points", ha="center",
                   fontsize=9.5, color=INK, fontweight="bold")
    right.set_xticks(x, [str(count) for count in costs])
    right.set(xlabel="towers", ylabel=f"MACs ({unit})" if unit else "MACs", ylim=(0, 1.12 * first.max() / scale))
    right.grid(axis="x", visible=False)
    legend = right.legend(loc="upper right")
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
