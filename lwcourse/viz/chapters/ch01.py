"""Pictures of chapter 01: what networks cost in each price, as multiples of one of them."""
from collections.abc import Mapping
from math import isfinite

from matplotlib.lines import Line2D

from lwcourse.viz.labels import legend_above, listed, log_axis, log_limits, require_entries
from lwcourse.viz.theme import CARD, CYCLE, INK, MUTED, Figure, new_figure, themed

__all__ = ["price_ratios"]

MARKERS = ("o", "s", "^", "v", "D", "P")


@themed
def price_ratios(prices: Mapping[str, Mapping[str, float]], reference: str, *, title: str | None = None) -> Figure:
    """Each price of each network, divided by that of `reference`, on a logarithmic axis: one row a network.

    `prices` maps a price to {network: value}. Markers of one row that stand far apart belong to a network that is
    light in one sense and heavy in another. Raises ValueError for a price that lacks a network or `reference`, has
    values that are not positive, and for more prices than there are markers.
    """
    require_entries(prices, "a dict from network to value")
    names = list(next(iter(prices.values())))
    if reference not in names:
        raise ValueError(f"reference must be one of {', '.join(names)}, got {reference!r}")
    if len(prices) > len(MARKERS):
        raise ValueError(f"at most {len(MARKERS)} prices can be told apart, got {len(prices)}")
    for price, values in prices.items():
        if set(values) != set(names) or not all(isfinite(value) and value > 0 for value in values.values()):
            raise ValueError(f"the price {price!r} must have a positive number for each of {', '.join(names)}")
    ratios = {price: {name: values[name] / values[reference] for name in names} for price, values in prices.items()}
    words = [f"{name} " + ", ".join(f"{price} {ratios[price][name]:.2g}" for price in ratios)
             for name in names if name != reference]
    figure, axes = new_figure(7.8, 1.5 + 0.42 * len(names) + (0.3 if title else 0),
                              alt=f"Dot plot of costs as multiples of {reference}'s: {listed(words)}.")
    everything = [value for row in ratios.values() for value in row.values()]
    low, high = log_limits(everything, 1.5)
    log_axis(axes.xaxis, low, high)
    axes.axvline(1, color=INK, linewidth=1.2, zorder=1)
    handles = []
    for i, (price, row) in enumerate(ratios.items()):
        look = {"marker": MARKERS[i], "color": CYCLE[i % len(CYCLE)], "markeredgecolor": CARD, "markersize": 9}
        axes.plot([row[name] for name in names], range(len(names)), linestyle="", zorder=3 + i, **look)
        handles.append(Line2D([], [], linestyle="", label=price, **look))
    for y, name in enumerate(names):
        own = [row[name] for row in ratios.values()]
        axes.hlines(y, min(own), max(own), color=MUTED, linewidth=1, zorder=2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"times {reference}")
    legend_above(figure, handles, title)
    return figure
