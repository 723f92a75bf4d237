"""Pictures of time: latency, trade-offs, and layers under the machine's roofline."""
from collections.abc import Callable, Mapping, Sequence
from math import atan2, degrees

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lwcourse.latency import Latencies, Roofline, RooflinePoint
from lwcourse.profile import Profile, format_bytes
from lwcourse.roofline import NEAR
from lwcourse.tables import counted
from lwcourse.viz.cost import METRICS, bar_panel
from lwcourse.viz.labels import legend_above, listed, log_axis, log_limits, place_labels, require_entries, short_count
from lwcourse.viz.theme import CARD, CYCLE, INK, MUTED, PALETTE, Figure, headline, new_figure, themed

FRONT_DASHES = (0, (4, 2))
MARKERS = ("o", "s", "^", "D", "v", "P")


def pareto_front(points: Mapping[str, tuple[float, float]], *, higher_is_better: bool = True) -> list[str]:
    """Names of the points that no other beats, from small x to large.

    A point is beaten by one whose x is no larger and whose y is no worse, when one of the two is
    better. Small x is good; so is large y, or small y when `higher_is_better` is False.
    """
    sign = 1 if higher_is_better else -1

    def beaten(name: str) -> bool:
        x, y = points[name]
        return any(u <= x and sign * v >= sign * y and (u, v) != (x, y) for u, v in points.values())

    return sorted((name for name in points if not beaten(name)), key=lambda name: points[name])


@themed
def pareto(points: Mapping[str, tuple[float, float]], *, x_label: str = "MACs (millions)",
           y_label: str = "ImageNet top-1 accuracy (%)", higher_is_better: bool = True, log: bool = False,
           groups: Mapping[str, str] | None = None, title: str | None = None) -> Figure:
    """A trade-off: each network at (cost, quality), and the front of those that no other beats.

    `points` maps a name to (x, y) in the units that the labels state. Small x is good; so is
    large y unless `higher_is_better` is False, as for latency. `groups` maps names to families,
    each in one colour with a legend. `log` makes the x axis logarithmic.
    Raises ValueError for no points, values that are not finite (or not positive, with `log`), or
    a name without a group.
    """
    require_entries(points, "(x, y)")
    points = {name: (float(x), float(y)) for name, (x, y) in points.items()}
    for name, (x, y) in points.items():
        if not np.isfinite((x, y)).all() or (log and x <= 0):
            raise ValueError(f"the point of {name!r} must be finite{', with x > 0' if log else ''}, got {(x, y)}")
    if groups is not None and (lost := [name for name in points if name not in groups]):
        raise ValueError(f"groups must name a group for every point; there is none for {', '.join(lost)}")
    front = pareto_front(points, higher_is_better=higher_is_better)
    words = listed([f"{name} at {x:.4g}, {y:.4g}" for name, (x, y) in points.items()], most=12)
    figure, axes = new_figure(7.8, 4.4, alt=f"Scatter plot of {y_label} against {x_label}: {words}. "
                                            f"Not beaten by any other: {', '.join(front)}.")
    corners = [points[front[0]]]
    for name in front[1:]:
        corners += [(points[name][0], corners[-1][1]), points[name]]
    axes.plot(*zip(*corners, strict=True), color=MUTED, linewidth=1.4, linestyle=FRONT_DASHES, zorder=1)
    families = list(dict.fromkeys(groups[name] if groups else "" for name in points))
    for i, family in enumerate(families):
        colour, marker = CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]
        for name, (x, y) in points.items():
            if (groups[name] if groups else "") == family:
                axes.plot(x, y, marker, color=colour, markersize=8, zorder=3, markeredgewidth=1.6,
                          markerfacecolor=colour if name in front else CARD)
    legend = [Line2D([], [], linestyle="", marker=MARKERS[i % len(MARKERS)], color=CYCLE[i % len(CYCLE)],
                     label=family) for i, family in enumerate(families) if family]
    legend.append(Line2D([], [], color=MUTED, linewidth=1.4, linestyle=FRONT_DASHES, label="front: filled points"))
    legend_above(figure, legend, title)
    axes.set(xlabel=x_label, ylabel=y_label)
    if log:
        log_axis(axes.xaxis, *log_limits([x for x, _ in points.values()]))
    axes.margins(x=0.12, y=0.14)
    place_labels(axes, list(points.values()), list(points), line=corners)
    return figure


@themed
def latency_bars(latencies: Latencies, *, macs: Mapping[str, int | Profile] | None = None,
                 title: str | None = None) -> Figure:
    """Median latency of each model in milliseconds, with a whisker from the first to the third quartile.

    `latencies` is what `lw.measure_latency` returns. With `macs` (name -> count, or its Profile)
    a second panel shows MACs, so that the eye can compare the two orders. Raises ValueError when
    there is nothing to draw or a model has no entry in `macs`.
    """
    require_entries(latencies, "Latency")
    names = list(latencies)
    if macs is not None and (lost := [name for name in names if name not in macs]):
        raise ValueError(f"macs must hold every model; there is none for {', '.join(lost)}")
    medians = np.array([1e3 * latencies[name].median for name in names])
    low = medians - [1e3 * latencies[name].q1 for name in names]
    high = [1e3 * latencies[name].q3 for name in names] - medians
    words = [f"{name} {_milliseconds(middle)}" for name, middle in zip(names, medians, strict=True)]
    columns = 1 if macs is None else 2
    where = f"{latencies.device}, {counted(latencies.threads, 'thread')}"
    figure, axes = new_figure(7.8, 1.15 + 0.4 * len(names) + (0.3 if title else 0), columns=columns,
                              alt=f"Bar chart of median latency on {where}: {listed(words)}.")
    panels = np.atleast_1d(axes)
    colour = PALETTE["orange"]
    bar_panel(panels[0], names, medians, [_milliseconds(middle) for middle in medians], colour,
              f"latency (ms), median and quartiles\n{where}", ends=medians + high, headroom=1.45 if macs else 1.15)
    panels[0].errorbar(medians, np.arange(len(names)), xerr=np.clip([low, high], 0, None), fmt="none", ecolor=INK,
                       elinewidth=1.5, capsize=4, capthick=1.5)
    if macs is not None:
        counts = [macs[name].macs if isinstance(macs[name], Profile) else macs[name] for name in names]
        figure.alt = f"{figure.alt[:-1]}, beside MACs: " + listed(
            [f"{name} {short_count(count)}" for name, count in zip(names, counts, strict=True)]) + "."
        scale, unit = METRICS["macs"].unit(counts)
        bar_panel(panels[1], names, np.array(counts) / scale, [short_count(count) for count in counts],
                  METRICS["macs"].colour, METRICS["macs"].axis_label(unit))
        panels[1].tick_params(labelleft=False)
    headline(figure, title)
    return figure


Points = Sequence[RooflinePoint]
LIMITS = {"memory": "memory-bound", "compute": "compute-bound",
          "fixed cost per call": "limited by the fixed cost of a call",
          "kernel efficiency": "limited by the efficiency of their kernel"}


@themed
def roofline(roof: Roofline, points: Points | Mapping[str, Points], *,
             kind: Callable[[RooflinePoint], str] = lambda point: point.kind, title: str | None = None) -> Figure:
    """Layers under the roof of this machine: MACs per byte moved against MACs per second reached.

    `points` is what `roof.place(model, x)` returns, or a dict from network to that, each with a
    marker of its own. Colours tell kinds of layers apart: `kind(point)`, by default `point.kind`;
    beyond six kinds, those that take least time become "other". A dot's area grows with the
    layer's share of its network's time. A filled dot is near the bound that holds it, memory or
    compute (`point.bound`); a hollow one is held by neither, but by the fixed cost of its calls or
    by its kernel. The slanted roof is main memory's; the dashed one above it, that of the smallest
    working set, in a cache; between their corners the size of the maps decides which limit is lower.
    Raises ValueError when there is no layer to draw.
    """
    networks = dict(points) if isinstance(points, Mapping) else {"": list(points)}
    networks = {name: [p for p in layers if p.macs and p.bytes and p.seconds] for name, layers in networks.items()}
    everything = [point for layers in networks.values() for point in layers]
    if not everything:
        raise ValueError("nothing to draw: no layer has MACs, bytes and a time")
    kinds = _few_kinds(everything, kind)
    colours = dict(zip(dict.fromkeys(kinds.values()), CYCLE, strict=False))
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(networks)}
    figure, axes = new_figure(7.8, 4.9, alt=_roofline_alt(roof, networks))
    x_low, x_high = log_limits([roof.ridge / 4, roof.cache_ridge / 2, 4 * roof.ridge,
                                *(point.intensity for point in everything)], 1.5)
    y_low, y_high = log_limits([roof.peak_macs_per_s / 1e9, roof.attainable(x_low) / 1e9,
                                *(point.achieved / 1e9 for point in everything)], 1.9)
    log_axis(axes.xaxis, x_low, x_high)
    log_axis(axes.yaxis, y_low, y_high)
    _draw_roof(axes, roof)
    for name, layers in networks.items():
        whole = sum(point.seconds for point in layers)
        for point in sorted(layers, key=lambda point: -point.seconds):  # small dots over large ones
            colour = colours[kinds[kind(point)]]
            look = ({"facecolor": colour, "edgecolor": CARD, "linewidth": 0.7} if point.bound != "neither" else
                    {"facecolor": "none", "edgecolor": colour, "linewidth": 1.5})
            axes.scatter(point.intensity, point.achieved / 1e9, s=24 + 900 * point.seconds / whole, zorder=3,
                         marker=markers[name], alpha=0.85, **look)
    handles = [Line2D([], [], linestyle="", marker="o", markersize=8, color=colour, label=name)
               for name, colour in colours.items()]
    handles += [Line2D([], [], linestyle="", marker=marker, markersize=7, color=MUTED, label=name)
                for name, marker in markers.items() if name]
    if any(point.bound == "neither" for point in everything):
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=7, color=MUTED, markerfacecolor="none",
                              markeredgewidth=1.5, label=f"hollow: over {NEAR:g} × its bound"))
    legend_above(figure, handles, title)
    axes.set(xlabel="MACs per byte moved (dots: larger when the layer takes more of the time)",
             ylabel=f"GMAC/s reached on {roof.device}, {counted(roof.threads, 'thread')}")
    _name_slope(axes, roof)
    return figure


def _milliseconds(value: float) -> str:
    """1.2345 -> '1.23 ms', 1234.5 -> '1,234 ms': never an exponent."""
    return f"{value:.3g} ms" if value < 999.5 else f"{value:,.0f} ms"


def _few_kinds(points: Points, kind: Callable[[RooflinePoint], str]) -> dict[str, str]:
    """Each kind's name in the legend: its own, largest share of time first, or "other" when there are too many."""
    seconds: dict[str, float] = {}
    for point in points:
        seconds[kind(point)] = seconds.get(kind(point), 0.0) + point.seconds
    ordered = sorted(seconds, key=lambda name: -seconds[name])
    own = len(CYCLE) if len(ordered) <= len(CYCLE) else len(CYCLE) - 1
    return {name: name if i < own else "other" for i, name in enumerate(ordered)}


def _draw_roof(axes: Axes, roof: Roofline) -> None:
    (x_low, x_high), y_low = axes.get_xlim(), axes.get_ylim()[0]
    peak, ridge = roof.peak_macs_per_s / 1e9, roof.ridge
    axes.axvspan(x_low, roof.cache_ridge, color=PALETTE["sky"], alpha=0.13, linewidth=0, zorder=0)
    axes.axvspan(ridge, x_high, color=PALETTE["orange"], alpha=0.10, linewidth=0, zorder=0)
    axes.plot([x_low, ridge, x_high], [roof.attainable(x_low) / 1e9, peak, peak], color=INK, linewidth=2.2, zorder=2)
    if roof.bandwidths:
        axes.plot([x_low, roof.cache_ridge, ridge], [roof.attainable(x_low, 0) / 1e9, peak, peak], color=INK,
                  linewidth=1.2, zorder=2, linestyle=FRONT_DASHES)
    axes.vlines(ridge, y_low, peak, color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    note = {"fontsize": 9, "color": INK, "zorder": 4}
    axes.annotate("memory bounds", (x_low, y_low), xytext=(6, 5), textcoords="offset points", **note)
    axes.annotate("arithmetic bounds", (x_high, y_low), xytext=(-6, 5), textcoords="offset points", ha="right", **note)
    axes.annotate(f"ridge: {ridge:.3g} MACs/byte", (ridge, y_low), xytext=(-4, 24), textcoords="offset points",
                  rotation=90, ha="right", **note)
    axes.annotate(f"peak: {peak:.3g} GMAC/s", (x_high, peak), xytext=(-6, 5), textcoords="offset points", ha="right",
                  **note)


def _name_slope(axes: Axes, roof: Roofline) -> None:
    """Write the bandwidths along the slanted roofs, whose angle is known once the layout is."""
    axes.figure.draw_without_rendering()
    x_low = axes.get_xlim()[0]
    ends = axes.transData.transform([(x, roof.attainable(x) / 1e9) for x in (x_low, roof.ridge)])
    angle = degrees(atan2(*(ends[1] - ends[0])[::-1]))
    roofs = [("memory", roof.bandwidth_bytes_per_s, (-3, 5), "bottom")]
    if roof.cache_bandwidth > 1.5 * roof.bandwidth_bytes_per_s:  # closer, and the words would lie on one another
        roofs = [("memory", roof.bandwidth_bytes_per_s, (3, -5), "top"),
                 ("cache", roof.cache_bandwidth, (-3, 5), "bottom")]
    for name, bandwidth, offset, side in roofs:
        middle = (x_low * roof.peak_macs_per_s / bandwidth) ** 0.5
        axes.annotate(f"{name}: {bandwidth / 1e9:.3g} GB/s", (middle, middle * bandwidth / 1e9), xytext=offset,
                      textcoords="offset points", rotation=angle, rotation_mode="anchor", ha="center", va=side,
                      fontsize=9, color=INK, zorder=4)


def _roofline_alt(roof: Roofline, networks: Mapping[str, Points]) -> str:
    sentences = []
    for name, layers in networks.items():
        slowest = max(layers, key=lambda point: point.seconds)
        held = "; ".join(f"{sum(p.limit == limit for p in layers)} of {len(layers)} layers are {words} and take "
                         f"{_share(layers, limit):.0f} % of the time" for limit, words in LIMITS.items()
                         if any(p.limit == limit for p in layers))
        sentences.append(f"{name + ': ' if name else ''}{held}; the longest, {slowest.name or 'the network itself'}, "
                         f"reaches {slowest.achieved / 1e9:.3g} of at most {slowest.attainable / 1e9:.3g} GMAC/s")
    cache = (f" ({roof.cache_bandwidth / 1e9:.3g} GB/s for {format_bytes(roof.bandwidths[0][0])}, in a cache)"
             if roof.bandwidths else "")
    return (f"Roofline plot, peak {roof.peak_macs_per_s / 1e9:.3g} GMAC/s, memory "
            f"{roof.bandwidth_bytes_per_s / 1e9:.3g} GB/s{cache}, ridge at {roof.ridge:.3g} MACs per byte. "
            f"{listed(sentences)}.")


def _share(layers: Points, limit: str) -> float:
    return 100 * sum(p.seconds for p in layers if p.limit == limit) / sum(p.seconds for p in layers)
