"""Pictures of chapter 06: receptive fields, growth of activations, towers, and dilation patterns."""
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lwcourse.tables import counted
from lwcourse.viz.curves import COUNTS, DASHES
from lwcourse.viz.labels import count_unit, listed, log_axis, log_limits, require_entries, short_count
from lwcourse.viz.receptive_field import centre_gradient, matrix_panel
from lwcourse.viz.theme import CARD, CYCLE, GRID, INK, PALETTE, Figure, headline, new_figure, themed

__all__ = ["dilation_choices", "dilation_patterns", "field_size", "receptive_fields", "signal_growth", "towers"]


def field_size(module: nn.Module, x_size: Sequence[int], *, samples: int = 4) -> tuple[int, int]:
    """Height and width, in pixels, of the smallest box with every input pixel that the centre of the output reads.

    Arguments and errors are those of `centre_gradient`. The box is cut where it meets the border of the input.
    """
    top, left, height, width = _box(centre_gradient(module, x_size, samples=samples))
    return height, width


def _box(field: torch.Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width)"""
    rows, columns = torch.nonzero(field.sum(1)).flatten(), torch.nonzero(field.sum(0)).flatten()
    top, left = int(rows[0]), int(columns[0])
    return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1


@themed
def receptive_fields(modules: Mapping[str, nn.Module], x_size: Sequence[int], *, columns: int = 3, samples: int = 16,
                     title: str | None = None) -> Figure:
    """The receptive field of each module's output centre, one panel a module, all on one colour scale.

    Brightness is `centre_gradient`, the share of a panel's strongest gradient; the dashed frame holds every pixel
    that is read. `modules` maps names to modules that take (N, *x_size). Raises ValueError when there is nothing
    to draw or a module cannot run, TypeError when `modules` is no mapping.
    """
    require_entries(modules, "module")
    fields = {name: centre_gradient(module, x_size, samples=samples) for name, module in modules.items()}
    boxes = {name: _box(field) for name, field in fields.items()}
    words = [f"{name} reads {height} × {width}" for name, (_, _, height, width) in boxes.items()]
    columns = min(columns, len(fields))
    rows = -(-len(fields) // columns)
    side = 7.0 / max(columns, 3)
    figure, axes = new_figure(columns * side + 1.0, rows * (side + 0.35) + 0.5, rows=rows, columns=columns, alt=(
        f"Heat maps of receptive fields, in pixels: {listed(words, most=12)}."))
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(fields):]:
        panel.set_axis_off()
    for panel, (name, field) in zip(grid.flat, fields.items(), strict=False):
        top, left, height, width = boxes[name]
        picture = panel.imshow(100 * field.numpy(), vmin=0, vmax=100)
        panel.grid(visible=False)
        panel.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=PALETTE["orange"],
                                  linestyle=(0, (4, 2)), linewidth=2.2, clip_on=False))
        panel.set_title(f"{name}: {height} × {width}", fontsize=10)
        for axis in (panel.xaxis, panel.yaxis):
            axis.get_major_locator().set_params(integer=True, nbins=4)
    for panel in grid[:, 0]:
        panel.set_ylabel("row (pixels)")
    for panel in grid.flat[max(len(fields) - columns, 0):len(fields)]:
        panel.set_xlabel("column (pixels)")
    bar = figure.colorbar(picture, ax=grid, fraction=0.05, aspect=30, pad=0.02, shrink=1 if rows == 1 else 0.8)
    bar.set_label("share of the strongest gradient (%)")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


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
    headline(figure, title)
    return figure


Dilations = Mapping[tuple[int, int], int]


def _check(pattern: Dilations, where: str = "the pattern") -> None:
    require_entries(pattern, "number of channels")
    for dilation, channels in pattern.items():
        pair = isinstance(dilation, tuple) and len(dilation) == 2
        if not pair or not all(isinstance(n, int) and n > 0 for n in (*dilation, channels)):
            raise ValueError(f"{where} must map pairs (height, width) to numbers of channels, all positive integers, "
                             f"such as {{(1, 3): 24}}; got {dilation!r}: {channels!r}")


@themed
def dilation_patterns(pattern: Dilations, *, columns: int = 4, title: str | None = None) -> Figure:
    """The nine pixels that a 3x3 kernel of each dilation reads, one panel a dilation, with its number of channels.

    `pattern` is that of an InceptionConv: {(height, width): output channels}. All panels have one scale; the frame
    is the field. Raises ValueError when `pattern` is empty or holds anything but positive integers.
    """
    _check(pattern)
    reach = max(max(dilation) for dilation in pattern)
    words = [f"{counted(channels, 'channel')} at {height} × {width}, a field of {2 * height + 1} × {2 * width + 1} "
             "pixels" for (height, width), channels in pattern.items()]
    columns = min(columns, len(pattern))
    rows = -(-len(pattern) // columns)
    side = min(1.75, 7.5 / rows - 0.55)  # inches; the figure fits on a page
    figure, axes = new_figure(max(columns * side + 0.6, 4.0), rows * (side + 0.55) + 0.4, rows=rows, columns=columns,
                              alt=f"Kernels of 3 × 3 by dilation (height × width): {listed(words, most=16)}.")
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(pattern):]:
        panel.set_axis_off()
    for panel, ((height, width), channels) in zip(grid.flat, pattern.items(), strict=False):
        panel.grid(visible=False)
        lines = np.arange(-reach, reach) + 0.5
        panel.vlines(lines, -reach - 0.5, reach + 0.5, color=GRID, linewidth=0.8)
        panel.hlines(lines, -reach - 0.5, reach + 0.5, color=GRID, linewidth=0.8)
        for row in (-height, 0, height):
            for column in (-width, 0, width):
                panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=PALETTE["blue"], edgecolor=CARD))
        panel.add_patch(Rectangle((-width - 0.5, -height - 0.5), 2 * width + 1, 2 * height + 1, fill=False,
                                  edgecolor=PALETTE["orange"], linestyle=(0, (4, 2)), linewidth=2, clip_on=False))
        panel.set(xlim=(-reach - 0.5, reach + 0.5), ylim=(reach + 0.5, -reach - 0.5), aspect="equal",
                  xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
        panel.set_title(f"({height}, {width})\n{counted(channels, 'channel')}", fontsize=10)
        for spine in panel.spines.values():
            spine.set_visible(True)
    for panel in grid[:, 0]:
        panel.set_ylabel("row (pixels)")
    for panel in grid.flat[max(len(pattern) - columns, 0):len(pattern)]:
        panel.set_xlabel("column (pixels)")
    headline(figure, title)
    return figure


@themed
def dilation_choices(patterns: Mapping[str, Dilations] | Sequence[Dilations], *, title: str | None = None) -> Figure:
    """Which share of each layer's channels has which dilation: a panel a layer, height by width of the dilation.

    `patterns` are what `search_patterns` returns, or the same by name. Raises ValueError when there are none, or
    one is not a pattern.
    """
    if not isinstance(patterns, Mapping):
        patterns = {f"layer {k}": pattern for k, pattern in enumerate(patterns, start=1)}
    require_entries(patterns, "pattern")
    for name, pattern in patterns.items():
        _check(pattern, name)
    most = max(max(dilation) for pattern in patterns.values() for dilation in pattern)
    shares, words = {}, []
    for name, pattern in patterns.items():
        table = np.zeros((most, most))
        for (height, width), channels in pattern.items():
            table[height - 1, width - 1] = channels
        shares[name] = 100 * table / table.sum()
        height, width = max(pattern, key=pattern.get)
        words.append(f"{name} most often {height} × {width}, {shares[name].max():.0f} %")
    columns = min(len(shares), 4)
    rows = -(-len(shares) // columns)
    side = 1.85
    figure, axes = new_figure(columns * side + 1.3, rows * (side + 0.3) + 0.5, rows=rows, columns=columns,
                              alt=f"Share of channels by dilation (height × width): {listed(words, most=12)}.")
    grid = np.atleast_2d(axes).reshape(rows, columns)
    for panel in grid.flat[len(shares):]:
        panel.set_axis_off()
    for panel, (name, table) in zip(grid.flat, shares.items(), strict=False):
        picture = panel.imshow(table, cmap=COUNTS, vmin=0, vmax=100, origin="lower",
                               extent=(0.5, most + 0.5, 0.5, most + 0.5))
        panel.grid(visible=False)
        for (row, column), share in np.ndenumerate(table):
            if share >= 0.5:
                panel.text(column + 1, row + 1, f"{share:.0f}", ha="center", va="center", fontsize=9,
                           color=CARD if share > 55 else INK)
        panel.set_xticks(range(1, most + 1))
        panel.set_yticks(range(1, most + 1))
        panel.set_title(name, fontsize=10)
        for spine in panel.spines.values():
            spine.set_visible(True)
    for panel in grid[:, 0]:
        panel.set_ylabel("dilation down (pixels)")
    for panel in grid.flat[max(len(shares) - columns, 0):len(shares)]:
        panel.set_xlabel("dilation across (pixels)")
    bar = figure.colorbar(picture, ax=grid, fraction=0.05, aspect=24, pad=0.02)
    bar.set_label("channels (%)")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure
