"""Pictures of chapter 14: what changes step by step in a run, and the way of an optimiser."""
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.theme import CYCLE, INK, MUTED, Figure, new_figure, themed

__all__ = ["descent_paths", "run_curves"]

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 3)))


@themed
def run_curves(curves: Mapping[str, Sequence[float] | tuple[Sequence[float], Sequence[float]]], *, ylabel: str,
               xlabel: str = "step", logarithmic: bool = False, title: str | None = None) -> Figure:
    """Lines over the steps of a run, one a name: its values from step 0, or a pair (places, values).

    Each line has its own dashes. Raises ValueError when there is nothing to draw, a line is empty, its parts differ in
    length, or its values are not finite (or, with `logarithmic`, not positive).
    """
    require_entries(curves, "values, or a pair (places, values)")
    lines = {name: _line(name, values) for name, values in curves.items()}
    for name, (_, y) in lines.items():
        if logarithmic and y.min() <= 0:
            raise ValueError(f"{name!r} has values of 0 or below, which a logarithmic axis cannot show")
    ranges = [f"{name} from {y[0]:.3g} at {x[0]:g} to {y[-1]:.3g} at {x[-1]:g}, lowest {y.min():.3g}, highest "
              f"{y.max():.3g}" for name, (x, y) in lines.items()]
    figure, axes = new_figure(7.4, 3.5, alt=f"{title or 'Lines'}, {ylabel} by {xlabel}: {listed(ranges)}.")
    for i, (name, (x, y)) in enumerate(lines.items()):
        axes.plot(x, y, color=CYCLE[i % len(CYCLE)], linestyle=DASHES[i % len(DASHES)], label=name,
                  marker="o" if len(x) == 1 else "")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if logarithmic:
        axes.set_yscale("log")
    legend_above(figure, axes.get_legend_handles_labels()[0], title)
    return figure


def _line(name: str, values: Sequence[float] | tuple[Sequence[float], Sequence[float]]
          ) -> tuple[np.ndarray, np.ndarray]:
    pair = isinstance(values, tuple) and len(values) == 2 and not np.isscalar(values[0])
    y = np.asarray(values[1] if pair else values, float)
    x = np.asarray(values[0] if pair else range(len(y)), float)
    if y.ndim != 1 or not len(y) or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{name!r} must be finite numbers, or a pair of as many places as numbers; got shapes "
                         f"{x.shape} and {y.shape}")
    return x, y


@themed
def descent_paths(function: Callable[[Tensor], Tensor], paths: Mapping[str, Tensor], *,
                  title: str | None = None) -> Figure:
    """Ways down a function of two numbers, over its contour lines; a dot a step, the cross is the lowest point drawn.

    `function` maps points (..., 2) to (...); `paths` maps a name to points (steps, 2). Raises ValueError when there is
    nothing to draw or points are not finite.
    """
    require_entries(paths, "points (steps, 2)")
    points = {name: torch.as_tensor(path).detach().double() for name, path in paths.items()}
    for name, path in points.items():
        if path.ndim != 2 or path.shape[1] != 2 or not len(path) or not path.isfinite().all():
            raise ValueError(f"the points of {name!r} must be finite and (steps, 2), got shape {tuple(path.shape)}")
    every = torch.cat(list(points.values()))
    low, high = every.amin(0), every.amax(0)
    margin = 0.15 * (high - low).clamp(min=1e-6)
    x, y = (torch.linspace((low - margin)[i], (high + margin)[i], 161, dtype=torch.float64) for i in (0, 1))
    heights = function(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    ends = [f"{name} from {function(path[0]).item():.3g} to {function(path[-1]).item():.3g} in {len(path) - 1} steps"
            for name, path in points.items()]
    figure, axes = new_figure(7.4, 3.7, alt=f"{title or 'Ways down a valley'}: {listed(ends)}.")
    levels = heights.max().item() * np.geomspace(1e-3, 1, 11)
    axes.contour(x, y, heights, levels=levels, colors=[MUTED], linewidths=0.7, alpha=0.6)
    for i, (name, path) in enumerate(points.items()):
        axes.plot(path[:, 0], path[:, 1], "o-", color=CYCLE[i % len(CYCLE)], markersize=3.5, linewidth=1.5, label=name)
    lowest = heights.argmin()
    axes.plot(x[lowest % len(x)], y[lowest // len(x)], "+", color=INK, markersize=12, markeredgewidth=2)
    axes.set(xlabel="first weight (no unit)", ylabel="second weight (no unit)")
    axes.grid(visible=False)
    legend_above(figure, axes.get_legend_handles_labels()[0], title)
    return figure
