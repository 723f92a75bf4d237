"""Times of designs that do equal work, against the design that a guideline recommends."""
from collections.abc import Mapping, Sequence

import numpy as np

from lwcourse.viz.labels import listed, require_entries
from lwcourse.viz.theme import CYCLE, INK, Figure, new_figure, themed

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
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return figure
