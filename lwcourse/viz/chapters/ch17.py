"""Pictures of chapter 17: bounds and times, bandwidth, how long maps live, and costs against time."""
from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from lwcourse.profile import format_bytes
from lwcourse.viz.labels import legend_above, listed, log_axis, log_limits, require_entries, short_count
from lwcourse.viz.theme import CARD, CYCLE, INK, PALETTE, Figure, headline, new_figure, themed, tint

__all__ = ["bandwidth_by_size", "costs_against_time", "lifetimes", "time_bounds"]

BOUNDS = ("arithmetic", "memory", "calls")
MARKERS = ("s", "^", "v")
Operators = Sequence[tuple[Sequence[str], str]]


@themed
def time_bounds(bounds: Mapping[str, Mapping[str, float]], measured: Mapping[str, float] | None = None, *,
                title: str | None = None) -> Figure:
    """Of each layer the least time of its arithmetic, its memory traffic and its calls, and the time it took.

    `bounds` maps a layer to {"arithmetic": seconds, "memory": seconds, "calls": seconds}, any of them left out or 0
    where there is none; `measured` maps it to its seconds. A line goes from the longest bound to the measured time: it
    is what the bounds do not explain. Raises ValueError for another name of a bound, a time that is negative or not
    finite, or a layer without a measured time.
    """
    require_entries(bounds, "bounds")
    for name, own in bounds.items():
        if not set(own) <= set(BOUNDS) or not all(isfinite(one) and one >= 0 for one in own.values()):
            raise ValueError(f"the bounds of {name!r} must be seconds under {', '.join(BOUNDS)}, got {dict(own)}")
        if measured is not None and not measured.get(name, 0) > 0:
            raise ValueError(f"there is no measured time of {name!r}")
    shown = [1e6 * one for own in bounds.values() for one in own.values() if one > 0]
    shown += [1e6 * measured[name] for name in bounds] if measured else []
    if not shown:
        raise ValueError("nothing to draw: all bounds are 0")
    words = []
    for name, own in bounds.items():
        parts = [f"{kind} {1e6 * own[kind]:.3g}" for kind in BOUNDS if own.get(kind)]
        words.append(f"{name}: {', '.join(parts)}" + (f"; took {1e6 * measured[name]:.3g}" if measured else ""))
    figure, axes = new_figure(7.8, 1.35 + 0.36 * len(bounds) + (0.3 if title else 0),
                              alt=f"Bounds{' and times' if measured else ''} in microseconds. "
                                  f"{listed(words, 12, '. ')}.")
    log_axis(axes.xaxis, *log_limits(shown, 1.5))
    for y, (name, own) in enumerate(bounds.items()):
        longest = max(own.values(), default=0)
        if measured:
            start = 1e6 * longest if longest else axes.get_xlim()[0]
            axes.hlines(y, start, 1e6 * measured[name], color=tint(PALETTE["vermillion"], 0.6), linewidth=3, zorder=1)
            axes.plot(1e6 * measured[name], y, "D", color=PALETTE["vermillion"], markersize=8, zorder=4,
                      markeredgecolor=CARD)
        for kind, marker, colour in zip(BOUNDS, MARKERS, (PALETTE["blue"], PALETTE["orange"], PALETTE["green"]),
                                        strict=True):
            if own.get(kind):
                axes.plot(1e6 * own[kind], y, marker, color=colour, markersize=8, zorder=3, markeredgecolor=CARD)
    handles = [Line2D([], [], linestyle="", marker=marker, color=colour, markersize=8, label=f"least time: {kind}")
               for kind, marker, colour in zip(BOUNDS, MARKERS, (PALETTE["blue"], PALETTE["orange"], PALETTE["green"]),
                                               strict=True) if any(own.get(kind) for own in bounds.values())]
    if measured:
        handles.append(Line2D([], [], linestyle="", marker="D", color=PALETTE["vermillion"], markersize=8,
                              label="measured"))
    axes.set_yticks(range(len(bounds)), list(bounds))
    axes.set_ylim(len(bounds) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("microseconds")
    legend_above(figure, handles, title)
    return figure


@themed
def bandwidth_by_size(rates: Mapping[int, float], *, title: str | None = None) -> Figure:
    """Bytes per second of a copy against its working set, the bytes that it reads and writes.

    Raises ValueError for fewer than two sizes, and for a size or a rate that is not positive and finite.
    """
    require_entries(rates, "bytes per second")
    if len(rates) < 2 or not all(isfinite(one) and one > 0 for pair in rates.items() for one in pair):
        raise ValueError("rates must have two sizes or more, with positive and finite rates")
    sizes = sorted(rates)
    values = [rates[size] / 1e9 for size in sizes]
    words = [f"{format_bytes(size)} {value:.3g}" for size, value in zip(sizes, values, strict=True)]
    figure, axes = new_figure(7.8, 3.0 + (0.3 if title else 0),
                              alt=f"Line plot of a copy's rate in GB/s by working set: {listed(words, 12)}.")
    axes.plot(sizes, values, "o-", color=PALETTE["blue"], zorder=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [format_bytes(size).replace(".0 ", " ") for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(values))
    axes.set(xlabel="working set: bytes read and written", ylabel="GB/s")
    headline(figure, title)
    return figure


def _alive(sizes: Mapping[str, float], operators: Operators) -> dict[str, tuple[int, int]]:
    """First and last operator during which each map lives; the input's first is -1, the output's last is one more."""
    written = {name: i for i, (_, name) in enumerate(operators)}
    first = {name: written.get(name, -1) for name in sizes}
    last = dict(first)
    for i, (read, _) in enumerate(operators):
        for name in read:
            if name not in sizes:
                raise ValueError(f"there is no size for the map {name!r}")
            last[name] = i
    last[operators[-1][1]] = len(operators)
    return {name: (first[name], last[name]) for name in sizes}


@themed
def lifetimes(sizes: Mapping[str, float], operators: Operators, *, labels: Sequence[str] | None = None,
              unit: str = "", title: str | None = None) -> Figure:
    """How long each map lives while a network runs, and what lives at once.

    `operators` is the network in order: (maps that are read, map that is written); `sizes` has the size of each map.
    A bar goes from the operator that writes a map to the last that reads it; the input, which nobody writes, lives
    from the start, and what the last operator writes lives to the end. Below, the sum for each operator.
    Raises ValueError where there is no operator, no size for a map, or another number of `labels`.
    """
    require_entries(sizes, "size")
    if not operators or any(name not in sizes for _, name in operators):
        raise ValueError("operators must be a list of (maps read, map written), with a size for each map")
    labels = list(labels) if labels is not None else [name for _, name in operators]
    if len(labels) != len(operators):
        raise ValueError(f"labels must name {len(operators)} operators, got {len(labels)}")
    alive = _alive(sizes, operators)
    sums = [sum(sizes[name] for name, (start, end) in alive.items() if start <= i <= end)
            for i in range(len(operators))]
    top = int(np.argmax(sums))
    lives = [f"{name} ({sizes[name]:g}) from {'the start' if start < 0 else labels[start]} to "
             f"{'the end' if end >= len(operators) else labels[end]}" for name, (start, end) in alive.items()]
    figure, axes = new_figure(7.8, 1.9 + 0.3 * len(sizes) + 1.1 + (0.3 if title else 0), rows=2, sharex=True,
                              height_ratios=[0.3 * len(sizes) + 0.4, 1.3],
                              alt=f"Lifetimes of maps: {listed(lives, 12)}. At once "
                                  f"{', '.join(f'{s:g}' for s in sums)}; most, {sums[top]:g}"
                                  f"{' ' + unit if unit else ''}, at {labels[top]}.")
    for y, (name, (start, end)) in enumerate(alive.items()):
        left, right = max(start, 0) - 0.46, min(end, len(operators) - 1) + 0.46
        hit = start <= top <= end
        axes[0].add_patch(Rectangle((left, y - 0.34), right - left, 0.68, zorder=3, edgecolor="none",
                                    facecolor=PALETTE["vermillion"] if hit else tint(PALETTE["sky"], 0.8)))
        axes[0].text(left + 0.08, y, f"{sizes[name]:g}", va="center_baseline", fontsize=9, fontweight="bold", zorder=4,
                     color=CARD if hit else INK)
    axes[0].set_yticks(range(len(sizes)), list(sizes))
    axes[0].set_ylim(len(sizes) - 0.4, -0.6)
    axes[0].tick_params(axis="y", length=0)
    axes[0].grid(axis="y", visible=False)
    axes[0].set_ylabel("map")
    colours = [PALETTE["vermillion"] if i == top else PALETTE["sky"] for i in range(len(sums))]
    axes[1].bar(range(len(sums)), sums, width=0.92, color=colours, zorder=3)
    for i, one in enumerate(sums):
        axes[1].annotate(f"{one:g}", (i, one), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=9)
    axes[1].set_ylim(0, 1.25 * max(sums))
    axes[1].set_xlim(-0.5, len(sums) - 0.5)
    axes[1].set_xticks(range(len(sums)), labels)
    axes[1].grid(axis="x", visible=False)
    axes[1].set(xlabel="operator, in order", ylabel=f"alive ({unit})" if unit else "alive")
    headline(figure, title)
    return figure


@themed
def costs_against_time(costs: Mapping[str, Sequence[float]], seconds: Sequence[float], *,
                       groups: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """One panel a cost: each network's cost against its time, both logarithmic; the panel's title has Pearson's r of
    the logarithms. `groups` names a family for each network. Raises ValueError where numbers are not positive, or
    there are other numbers of them than of `seconds`.
    """
    require_entries(costs, "numbers, one for each network")
    for name, values in costs.items():
        if len(values) != len(seconds) or len(seconds) < 3 or min(*values, *seconds) <= 0:
            raise ValueError(f"{name!r} must have {len(seconds)} positive numbers, one for each time, "
                             "and three at least")
    if groups is not None and len(groups) != len(seconds):
        raise ValueError(f"groups must name {len(seconds)} networks, got {len(groups)}")
    families = list(groups or [""] * len(seconds))
    r = {name: float(np.corrcoef(np.log(values), np.log(seconds))[0, 1]) for name, values in costs.items()}
    figure, axes = new_figure(7.8, 3.5 + (0.3 if title else 0), columns=len(costs), sharey=True,
                              alt=f"Scatter plots of {len(seconds)} networks, cost against time: "
                                  + listed([f"{name}, r = {value:.2f}" for name, value in r.items()]) + ".")
    panels = np.atleast_1d(axes)
    ms = 1e3 * np.asarray(seconds, dtype=float)
    kinds = list(dict.fromkeys(families))
    for panel, (name, values) in zip(panels, costs.items(), strict=True):
        for i, kind in enumerate(kinds):
            mine = [j for j, family in enumerate(families) if family == kind]
            panel.plot([values[j] for j in mine], ms[mine], "os^vDP"[i % 6], color=CYCLE[i % len(CYCLE)], markersize=7,
                       alpha=0.85, markeredgecolor=CARD)
        low, high = log_limits(values, 1.3)
        log_axis(panel.xaxis, low, high)
        panel.xaxis.set_major_formatter(lambda value, _: short_count(value))
        panel.set_title(f"{name}: r = {r[name]:.2f}", fontsize=10)
        panel.set_xlabel(name)
        panel.tick_params(axis="x", labelrotation=30)
    log_axis(panels[0].yaxis, *log_limits(ms, 1.3))
    panels[0].set_ylabel("time (ms)")
    if groups is not None:
        handles = [Line2D([], [], linestyle="", marker="os^vDP"[i % 6], color=CYCLE[i % len(CYCLE)], label=kind)
                   for i, kind in enumerate(kinds)]
        legend_above(figure, handles, title)
    else:
        headline(figure, title)
    return figure
