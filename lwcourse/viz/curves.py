"""Pictures of training and of functions: histories, results over seeds, activations, curves, confusions."""
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from torch import Tensor

from lwcourse.train import History
from lwcourse.train.history import SHARES
from lwcourse.viz.labels import legend_above, listed, require_entries
from lwcourse.viz.theme import CARD, CYCLE, GRID, INK, MUTED, PALETTE, Figure, headline, new_figure, themed

DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2)), (0, (3, 3)))
COUNTS = LinearSegmentedColormap.from_list("counts", [CARD, PALETTE["sky"], PALETTE["blue"], "#00334F"])


@themed
def training_curves(histories: Mapping[str, History | Sequence[History]], *, title: str | None = None) -> Figure:
    """Loss and the task's figure (accuracy of a classifier) by epoch: the mean over seeds, and a band from the lowest
    to the highest.

    `histories` maps a name to a list of what `lw.fit` returns, one a seed, or to one alone.
    Test curves are solid with a band, training curves dashed. Histories of one name that differ in
    length are cut to the shortest. Raises ValueError when there is nothing to draw.
    """
    require_entries(histories, "list of History")
    runs = {name: [entry] if isinstance(entry, History) else list(entry) for name, entry in histories.items()}
    for name, entries in runs.items():
        if not entries or not all(history.epochs for history in entries):
            raise ValueError(f"{name!r} has no history, or one without a finished epoch")
    metrics = {history.metric for entries in runs.values() for history in entries}
    if len(metrics) > 1:
        raise ValueError(f"histories of one picture must have one figure, got {listed(sorted(metrics))}")
    metric, = metrics
    factor, unit = (100, " %") if metric in SHARES else (1, "")
    name_of_metric = metric.replace("_", " ")
    figure, (loss, accuracy) = new_figure(7.8, 3.6, alt="training curves", columns=2)
    sentences = []
    for (name, entries), colour in zip(runs.items(), CYCLE * len(runs), strict=False):
        for part, look in (("train", {"linestyle": (0, (3, 2)), "linewidth": 1.3}), ("test", {"linewidth": 2.2})):
            for axes, quantity, scale in ((loss, "loss", 1), (accuracy, metric, factor)):
                values = scale * _by_seed(entries, f"{part}_{quantity}")
                epochs = np.arange(1, values.shape[1] + 1)
                axes.plot(epochs, values.mean(0), color=colour, marker="o" if len(epochs) == 1 else "", **look)
                if part == "test" and len(values) > 1:
                    axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        spread = (f" ({values[:, -1].min():.1f} to {values[:, -1].max():.1f} over {len(values)} seeds)"
                  if len(values) > 1 else "")
        sentences.append(f"{name} reaches {values[:, -1].mean():.1f}{unit} test {name_of_metric} after {len(epochs)} "
                         f"epochs{spread}")
    figure.alt = f"Training curves: {listed(sentences)}."
    loss.set(xlabel="epoch", ylabel="cross-entropy loss (nats)")
    accuracy.set(xlabel="epoch", ylabel=f"{name_of_metric} (%)" if unit else name_of_metric)
    for axes in (loss, accuracy):
        axes.xaxis.get_major_locator().set_params(integer=True)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in zip(runs, CYCLE * len(runs), strict=False)]
    band = ", band: lowest to highest seed" if any(len(entries) > 1 for entries in runs.values()) else ""
    handles += [Line2D([], [], color=MUTED, linewidth=2.2, label=f"test{band}"),
                Line2D([], [], color=MUTED, linewidth=1.3, linestyle=(0, (3, 2)), label="training")]
    legend_above(figure, handles, title)
    return figure


def _by_seed(histories: Sequence[History], quantity: str) -> np.ndarray:
    """(seeds, epochs), cut to the shortest history."""
    length = min(len(history.epochs) for history in histories)
    return np.array([[getattr(epoch, quantity) for epoch in history.epochs[:length]] for history in histories])


@themed
def error_bars(results: Mapping[str, Sequence[float]], *, label: str = "test accuracy", percent: bool = True,
               title: str | None = None) -> Figure:
    """Results over seeds: one dot per seed, a bar across at the mean, mean and range in numbers beside it.

    `results` maps a name to one number a seed. With `percent` the numbers are shares from 0 to 1,
    as `lw.evaluate` gives them, and are drawn in per cent; without, `label` should name their unit.
    The axis fits the dots, so it need not start at zero, but it spans at least one point of a per
    cent (or 2 % of the largest number), so that small differences look small. Raises ValueError
    when there is nothing to draw, a value is not finite or, with `percent`, not from 0 to 1.
    """
    require_entries(results, "list of numbers")
    values = {name: np.asarray(numbers, float).reshape(-1) for name, numbers in results.items()}
    for name, numbers in values.items():
        if not len(numbers) or not np.isfinite(numbers).all():
            raise ValueError(f"the results of {name!r} must be one finite number or more, got {list(results[name])}")
        if percent and not (numbers.min() >= 0 and numbers.max() <= 1):
            raise ValueError(f"with percent=True results are shares from 0 to 1; those of {name!r} are "
                             f"{list(results[name])}, so divide them by 100 or pass percent=False")
    values = {name: 100 * numbers if percent else numbers for name, numbers in values.items()}
    words = {name: _mean_and_range(numbers) for name, numbers in values.items()}
    label = f"{label} (%)" if percent else label
    alt = f"Dot plot of {label}: {listed([f'{name} mean {text}' for name, text in words.items()])}."
    figure, axes = new_figure(7.2, 1.0 + 0.45 * len(values) + (0.3 if title else 0), alt=alt)
    for row, (name, numbers) in enumerate(values.items()):
        colour = CYCLE[row % len(CYCLE)]
        axes.plot([numbers.min(), numbers.max()], [row, row], color=colour, linewidth=1.2, alpha=0.5)
        axes.plot(numbers, np.full(len(numbers), row), "o", color=colour, markersize=7, alpha=0.75, markeredgewidth=0)
        axes.plot(numbers.mean(), row, "|", color=INK, markersize=20, markeredgewidth=2.2)
        axes.annotate(words[name], (1, row), xycoords=("axes fraction", "data"), xytext=(8, 0), va="center",
                      textcoords="offset points", fontsize=9)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    lowest, highest = min(map(np.min, values.values())), max(map(np.max, values.values()))
    span = max(1.16 * (highest - lowest), 1 if percent else 0.02 * max(abs(lowest), abs(highest)) or 1)
    axes.set_xlim((lowest + highest - span) / 2, (lowest + highest + span) / 2)
    axes.set_xlabel(f"{label}: one dot per seed, the bar is the mean")
    if title:
        axes.set_title(title)
    return figure


def _mean_and_range(numbers: np.ndarray) -> str:
    if len(numbers) == 1:
        return f"{numbers[0]:.4g} (one seed)"
    return f"{numbers.mean():.4g} ({numbers.min():.4g} to {numbers.max():.4g})"


@themed
def activation_functions(functions: Mapping[str, Callable[[Tensor], Tensor]], *,
                         limits: tuple[float, float] = (-6.0, 8.0), title: str | None = None) -> Figure:
    """Activation functions, or modules without parameters that depend on position, over `limits`.

    Each curve has its own dashes, so that curves that coincide can be seen both. Raises
    ValueError when there is nothing to draw, `limits` do not ascend, or a function does not keep
    the shape of its input.
    """
    require_entries(functions, "function")
    low, high = limits
    if not low < high:
        raise ValueError(f"limits must ascend, got {limits}")
    x = torch.linspace(low, high, 561)
    curves = {}
    for name, function in functions.items():
        with torch.no_grad():
            curves[name] = function(x.clone())  # a copy: some work in place
        if not isinstance(curves[name], Tensor) or curves[name].shape != x.shape:
            raise ValueError(f"{name!r} must keep the shape {tuple(x.shape)} of its input")
    ranges = [f"{name} from {y.min():.3g} to {y.max():.3g}" for name, y in curves.items()]
    figure, axes = new_figure(7.2, 4.0, alt=f"Curves of activation functions for inputs from {low:g} to {high:g}: "
                                            f"{listed(ranges)}.")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for i, (name, y) in enumerate(curves.items()):
        axes.plot(x, y, color=CYCLE[i % len(CYCLE)], linestyle=DASHES[i % len(DASHES)], linewidth=2.2, label=name)
    axes.set(xlabel="input (no unit)", ylabel="output (no unit)", xlim=limits)
    axes.legend(loc="upper left", handlelength=3)
    if title:
        axes.set_title(title)
    return figure


@themed
def curves_2d(curves: Mapping[str, Tensor], *, reference: Tensor | None = None, columns: int | None = None,
              title: str | None = None) -> Figure:
    """Curves in the plane, one panel each, coloured from start (dark) to end (bright).

    `curves` maps a title to points (N, 2) in their order along the curve. Each panel has a scale
    of its own; `reference`, also (N, 2), is drawn thin behind each, and so shows the scale.
    Raises ValueError when there is nothing to draw or points are not a finite (N, 2) with N of 2
    or more.
    """
    require_entries(curves, "points (N, 2)")
    points = {name: _points(name, value) for name, value in curves.items()}
    behind = None if reference is None else _points("reference", reference)
    columns = columns or min(len(points), 3)
    rows = -(-len(points) // columns)
    side = 7.0 / max(columns, 3)
    spans = [f"{name} spans {np.ptp(p[:, 0]):.2g} by {np.ptp(p[:, 1]):.2g}" for name, p in points.items()]
    figure, axes = new_figure(columns * side + 0.9, rows * (side + 0.2) + 0.4, rows=rows, columns=columns,
                              alt=f"Curves in the plane: {listed(spans)}.")
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(points):]:
        panel.set_axis_off()
    for panel, (name, curve) in zip(grid.flat, points.items(), strict=False):
        if behind is not None:
            panel.plot(*behind.T, color=MUTED, linewidth=0.9, alpha=0.55)
        pieces = LineCollection(np.stack([curve[:-1], curve[1:]], axis=1), cmap="viridis", linewidth=2.4,
                                array=np.linspace(0, 100, len(curve) - 1), capstyle="round")
        panel.add_collection(pieces)
        shown = curve if behind is None else np.concatenate([curve, behind])
        (x, y), reach = (shown.max(0) + shown.min(0)) / 2, 0.55 * np.ptp(shown, axis=0).max() or 1
        panel.set(xlim=(x - reach, x + reach), ylim=(y - reach, y + reach), aspect="equal")
        panel.locator_params(nbins=4)
        panel.set_title(name, fontsize=10)
    for panel in grid[:, 0]:
        panel.set_ylabel("second coordinate")
    for panel in grid.flat[max(len(points) - columns, 0):len(points)]:  # no panel below these
        panel.set_xlabel("first coordinate")
    bar = figure.colorbar(pieces, ax=grid, fraction=0.05, aspect=30, pad=0.02, shrink=1 if rows == 1 else 0.7)
    bar.set_label("position along the curve (%)")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


def _points(name: str, points: Tensor) -> np.ndarray:
    array = torch.as_tensor(points).detach().cpu().double().numpy()
    if array.ndim != 2 or array.shape[1] != 2 or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError(f"the points of {name!r} must be finite and of shape (N, 2), N at least 2; "
                         f"got shape {array.shape}")
    return array


@themed
def confusion(matrix: Tensor, classes: Sequence[str] | None = None, *, title: str | None = None) -> Figure:
    """A confusion matrix: row = true class, column = prediction, colour = share of the row, number = count.

    `matrix` (K, K) holds counts; `classes` are K names, by default 0 to K - 1. Raises ValueError
    for another shape, negative counts, no count at all, or another number of names.
    """
    counts = torch.as_tensor(matrix).detach().cpu().double().numpy()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.min(initial=0) < 0 or not counts.sum():
        raise ValueError(f"matrix must be square, (K, K), of counts from 0, not all 0; got shape {counts.shape}")
    size = len(counts)
    names = [str(name) for name in (range(size) if classes is None else classes)]
    if len(names) != size:
        raise ValueError(f"classes must be {size} names, one a row of matrix, got {len(names)}")
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    wrong = counts * (1 - np.eye(size))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    mistakes = (f"most often {names[row]} is taken for {names[column]}, {wrong[row, column]:.0f} times"
                if wrong.any() else "no mistakes")
    accuracy = 100 * counts.trace() / counts.sum()
    side = min(max(2.6 + 0.36 * size, 3.6), 7.0)
    figure, axes = new_figure(side + 1.2, side, alt=f"Confusion matrix of {size} classes: {accuracy:.1f} % of "
                                                    f"{counts.sum():.0f} correct; {mistakes}.")
    picture = axes.imshow(100 * share, cmap=COUNTS, vmin=0, vmax=100)
    axes.grid(visible=False)
    named = range(0, size, -(-size // 40))
    axes.set_xticks(named, [names[i] for i in named], rotation=90 if max(map(len, names)) > 2 and size > 3 else 0)
    axes.set_yticks(named, [names[i] for i in named])
    axes.set(xlabel="predicted class", ylabel="true class")
    if size <= 15:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(j, i, f"{count:.0f}", ha="center", va="center", fontsize=9,
                          color=CARD if share[i, j] > 0.55 else INK)
        axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
        axes.grid(which="minor", color=GRID, linewidth=0.8)
        axes.tick_params(which="minor", length=0)
    bar = figure.colorbar(picture, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("share of the true class (%)")
    bar.outline.set_visible(False)
    axes.set_title(title or f"{accuracy:.1f} % correct")
    return figure
