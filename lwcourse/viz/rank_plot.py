"""A picture of orders: how the same things rank by one measure and by the next."""
from collections.abc import Mapping

import numpy as np

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import CARD, CYCLE, INK, Figure, headline, new_figure, themed


@themed
def ranks(measures: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Figure:
    """One column a measure, one line a name; the smallest value stands on top, at rank 1.

    `measures` maps a measure to {name: value}; all have the same names. Equal values share the mean of
    their ranks. Lines that cross are two names that the measures order differently. Raises ValueError for
    fewer than two measures, other names in one of them, or values that are not finite.
    """
    require_entries(measures, "{name: value}")
    columns, names = list(measures), list(next(iter(measures.values())))
    if len(columns) < 2 or not names:
        raise ValueError("ranks compares two measures or more of at least one name, "
                         f"got {len(columns)} of {len(names)}")
    for column, values in measures.items():
        if set(values) != set(names):
            raise ValueError(f"{column!r} must have a value for each of {', '.join(names)}, got {', '.join(values)}")
        if not np.isfinite(list(values.values())).all():
            raise ValueError(f"the values of {column!r} must be finite, got {dict(values)}")
    by_name = {name: [_rank(measures[column], name) for column in columns] for name in names}
    sentences = [f"{name} {', '.join(f'{rank:g}' for rank in places)}" for name, places in by_name.items()]
    figure, axes = new_figure(7.8, 1.3 + 0.36 * len(names), alt=(
        f"Ranks of {len(names)} by {', '.join(columns)}, 1 is the smallest: {listed(sentences, most=10)}."))
    ordered = sorted(names, key=lambda name: by_name[name][-1])
    for i, name in enumerate(ordered):
        colour = CYCLE[i % len(CYCLE)]
        axes.plot(range(len(columns)), by_name[name], color=colour, marker="o", markersize=11, linewidth=2.4,
                  linestyle="-" if i < len(CYCLE) else (0, (3, 1.5)), markeredgecolor=CARD)
    for rank in dict.fromkeys(by_name[name][-1] for name in ordered):
        equal = ", ".join(name for name in ordered if by_name[name][-1] == rank)
        axes.annotate(equal, (len(columns) - 1, rank), xytext=(12, 0), textcoords="offset points", va="center",
                      fontsize=9.5, color=INK, annotation_clip=False)
    axes.set_xticks(range(len(columns)), columns)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_yticks(range(1, len(names) + 1))
    axes.set(ylim=(len(names) + 0.5, 0.5), xlim=(-0.25, len(columns) - 0.8), ylabel="rank (1 is the lightest)")
    axes.grid(axis="y", visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    headline(figure, title)
    return figure


def _rank(values: Mapping[str, float], name: str) -> float:
    """From 1, smallest first; equal values share the mean of their ranks."""
    below = sum(other < values[name] for other in values.values())
    equal = sum(other == values[name] for other in values.values())
    return below + (equal + 1) / 2
