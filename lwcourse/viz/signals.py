"""How the size of a signal changes from block to block."""
from collections.abc import Mapping, Sequence

import numpy as np

from lwcourse.viz.curves import DASHES
from lwcourse.viz.labels import listed, log_axis, log_limits, require_entries
from lwcourse.viz.theme import CYCLE, Figure, new_figure, themed


@themed
def signal_growth(curves: Mapping[str, Sequence[float]], *, label: str = "standard deviation of activations (no unit)",
                  title: str | None = None) -> Figure:
    """One line a name: a positive number for the input and for the output of each block, on a logarithmic axis.

    Each line has its name and its last value at its end. Raises ValueError when there is nothing to draw, a line
    has fewer than two numbers, or one is not finite and positive.
    """
    require_entries(curves, "list of numbers")
    values = {name: np.asarray(numbers, float).reshape(-1) for name, numbers in curves.items()}
    for name, numbers in values.items():
        if len(numbers) < 2 or not np.isfinite(numbers).all() or not (numbers > 0).all():
            raise ValueError(f"the values of {name!r} must be two or more finite positive numbers, got "
                             f"{list(curves[name])}")
    words = [f"{name} from {y[0]:.2g} to {y[-1]:.2g} after {len(y) - 1} blocks" for name, y in values.items()]
    figure, axes = new_figure(7.6, 3.4, alt=f"Lines of {label} by block: {listed(words)}.")
    for i, (name, y) in enumerate(values.items()):
        colour = CYCLE[i % len(CYCLE)]
        axes.plot(range(len(y)), y, color=colour, linestyle=DASHES[i % len(DASHES)], linewidth=2.2)
        axes.plot(len(y) - 1, y[-1], "o", color=colour)
        axes.annotate(f"{name}: {y[-1]:.2g}", (len(y) - 1, y[-1]), xytext=(9, 0), textcoords="offset points",
                      va="center", fontsize=9.5, annotation_clip=False)
    log_axis(axes.yaxis, *log_limits([y for numbers in values.values() for y in numbers], margin=1.2))
    axes.set(xlabel="block (0 is the input)", ylabel=label.replace(" of ", "\nof ", 1),
             xlim=(0, max(map(len, values.values())) - 0.5))
    axes.xaxis.get_major_locator().set_params(integer=True)
    if title:
        axes.set_title(title)
    return figure
