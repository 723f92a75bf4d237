"""What a search looked at: the cost and the score of every candidate, in the order of the generations."""
from collections.abc import Mapping, Sequence

import numpy as np

from lwcourse.viz.labels import count_unit, listed, require_entries
from lwcourse.viz.theme import CARD, INK, MUTED, PALETTE, Figure, new_figure, themed

COLOURS = ("sky", "blue", "green", "orange", "vermillion", "purple")
MARKERS = ("o", "s", "^", "D", "v", "P")


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
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
