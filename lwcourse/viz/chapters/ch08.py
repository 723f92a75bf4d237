"""Pictures of chapter 08: how a map is dealt out to sequences, which positions are read, and what attention costs;
and the networks on the way from ResNet-50 to ConvNeXt-T, for its table."""
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lwcourse.layers import LayerNorm2d
from lwcourse.viz.labels import listed, log_axis, log_limits, require_entries, short_count
from lwcourse.viz.maps import SIGNED, _pixels
from lwcourse.viz.receptive_field import plane
from lwcourse.viz.theme import CARD, CYCLE, INK, PALETTE, Figure, headline, new_figure, themed, tint

__all__ = ["convnext_steps", "growth", "number_grids", "offset_biases", "query_maps"]






@themed
def number_grids(grids: Mapping[str, tuple[Tensor, Tensor]], *, title: str | None = None) -> Figure:
    """Small tensors as tables of numbers, side by side: the frames of an operation that moves numbers about.

    `grids` maps a heading to (numbers, groups), both (rows, columns); cells of one group, an integer from 0 to 5,
    have one colour. Raises ValueError for other shapes or groups.
    """
    require_entries(grids, "(numbers, groups)")
    frames = {}
    for name, (numbers, groups) in grids.items():
        values, kinds = plane(name, numbers), plane(name, groups)
        if values.shape != kinds.shape:
            raise ValueError(f"{name!r} has numbers of shape {values.shape}, but groups of shape {kinds.shape}")
        if not np.isin(kinds, range(len(CYCLE))).all():
            raise ValueError(f"the groups of {name!r} must be integers from 0 to {len(CYCLE) - 1}")
        frames[name] = values, kinds.astype(int)
    sizes = [values.shape for values, _ in frames.values()]
    shown = [f"{name}, {rows} × {columns}" for name, (rows, columns) in zip(frames, sizes, strict=True)]
    widths = [max(columns, 4) for _, columns in sizes]
    figure, axes = new_figure(9.4, 0.65 + 8.6 / sum(widths) * max(rows for rows, _ in sizes) + 0.3 * bool(title),
                              columns=len(frames), width_ratios=widths,
                              alt=f"{title or 'Tensors'}, in tables of numbers: {listed(shown)}.")
    for panel, (name, (values, kinds)) in zip(np.atleast_1d(axes), frames.items(), strict=True):
        colours = np.array([tint(colour, 0.42) for colour in CYCLE])
        panel.imshow(colours[kinds])
        for (row, column), value in np.ndenumerate(values):
            panel.text(column, row, f"{value:g}", ha="center", va="center", fontsize=8, color=INK)
        panel.set_xticks(np.arange(values.shape[1] - 1) + 0.5, [])
        panel.set_yticks(np.arange(values.shape[0] - 1) + 0.5, [])
        panel.tick_params(length=0)
        panel.set_axisbelow(False)
        panel.grid(color=CARD, linewidth=1.5)
        panel.spines[:].set_visible(False)
        panel.set_title(name, fontsize=9.5)
    headline(figure, title)
    return figure


@themed
def query_maps(picture: Tensor, weights: Mapping[str, Tensor], query: Sequence[int] | None = None, *,
                   title: str | None = None) -> Figure:
    """A picture, and beside it what is read of it: a panel an attention map, all on one colour scale with its bar.

    `picture` is as for `image`; `weights` maps a name to (rows, columns) whose cells cover the picture evenly and sum
    to 1; `query` is (row, column) of the position that reads, in cells, and is framed; None: a mean over all that read.
    Raises ValueError for weights
    of differing shapes or negative weights, and for a query that lies outside of them.
    """
    require_entries(weights, "(rows, columns)")
    pixels = _pixels(picture)
    maps = {name: plane(name, one) for name, one in weights.items()}
    rows, columns = next(iter(maps.values())).shape
    for name, one in maps.items():
        if one.shape != (rows, columns) or one.min() < 0:
            raise ValueError(f"{name!r} must hold weights that are not negative, ({rows}, {columns}); "
                             f"got shape {one.shape} from {one.min():.3g}")
    asks = f"all positions of {rows} × {columns}"
    if query is not None:
        row, column = query
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"query must lie in {rows} × {columns} cells, got {tuple(query)}")
        asks = f"the position in row {row}, column {column} of {rows} × {columns}"
    sentences = [f"{name}, from {100 * one.min():.2g} to {100 * one.max():.2g} %" for name, one in maps.items()]
    figure, axes = new_figure(9.4, 8.6 / (len(maps) + 1) + 0.5 + 0.3 * bool(title), columns=len(maps) + 1, alt=(
        f"{title or 'Attention'}: the picture, and weights of {asks}, on one colour scale: {listed(sentences)}."))
    height, width = pixels.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    scale = Normalize(0, 100 * max(float(one.max()) for one in maps.values()))
    for panel, (name, one) in zip(axes, {"input": None, **maps}.items(), strict=True):
        if one is None:
            panel.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent)
        else:
            panel.imshow(100 * one, extent=extent, norm=scale)
        if query is not None:
            panel.add_patch(Rectangle((column * width / columns - 0.5, row * height / rows - 0.5), width / columns,
                                      height / rows, fill=False, edgecolor=PALETTE["orange"], linewidth=2.2))
        panel.set_title(name, fontsize=9.5, fontweight="normal")
        panel.set_axis_off()
    bar = figure.colorbar(ScalarMappable(scale), ax=list(axes), fraction=0.03, pad=0.02, shrink=0.75)
    bar.set_label("weight (%)")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


@themed
def offset_biases(biases: Tensor, *, title: str | None = None) -> Figure:
    """What attention adds for each offset from query to key, a panel a head; the query is in the middle.

    `biases` is (heads, side, side), at [head, |dy|, |dx|]; signs of the offset do not count, so the picture is
    mirrored. White is 0. Raises ValueError for another shape.
    """
    table = biases.detach().cpu().double().numpy()
    if table.ndim != 3 or not table.size or table.shape[1] != table.shape[2]:
        raise ValueError(f"biases must be (heads, side, side), got {tuple(biases.shape)}")
    heads, side, _ = table.shape
    reach = np.abs(np.arange(1 - side, side))
    limit = float(np.abs(table).max()) or 1.0
    columns = min(heads, 4)
    rows = -(-heads // columns)
    figure, axes = new_figure(min(2.35 * columns + 1.2, 9.4), 2.3 * rows + 0.5 + 0.3 * bool(title), rows=rows,
                              columns=columns, alt=f"{title or 'Attention biases'} of {heads} heads by offset, up to "
                              f"{side - 1} positions: values from {table.min():.2f} to {table.max():.2f}.")
    panels = list(np.atleast_1d(axes).flat)
    for head, panel in enumerate(panels[:heads]):
        picture = panel.imshow(table[head][np.ix_(reach, reach)], cmap=SIGNED, vmin=-limit, vmax=limit,
                               extent=(0.5 - side, side - 0.5, side - 0.5, 0.5 - side))
        panel.grid(visible=False)
        panel.set_title(f"head {head}", fontsize=9.5, fontweight="normal")
        panel.set_xlabel("offset in x (positions)")
    for panel in panels[:heads:columns]:
        panel.set_ylabel("offset in y (positions)")
    for panel in panels[heads:]:
        panel.set_axis_off()
    bar = figure.colorbar(picture, ax=panels, fraction=0.05, pad=0.02, shrink=0.85)
    bar.set_label("bias (added before softmax)")
    bar.outline.set_visible(False)
    headline(figure, title)
    return figure


@themed
def growth(curves: Mapping[str, Mapping[float, float]], *, mark: float | None = None, x_label: str = "image side (px)",
           y_label: str = "MACs (millions)", scale: float = 1e6, title: str | None = None) -> Figure:
    """How costs grow with size: a curve a name through {size: cost}, both axes logarithmic.

    Costs are divided by `scale`; `mark` draws a line at one size. Raises ValueError for a curve of fewer than two
    points or with values that are not positive.
    """
    require_entries(curves, "{size: cost}")
    for name, points in curves.items():
        if len(points) < 2 or min([*points, *points.values()]) <= 0:
            raise ValueError(f"{name!r} needs two points at least, all positive")
    sentences = []
    for name, points in curves.items():
        low, high = min(points), max(points)
        ends = (f"{short_count(points[size])} at {size:g}" for size in (low, high))
        sentences.append(f"{name} from {' to '.join(ends)}")
    figure, axes = new_figure(7.6, 3.9, alt=f"{title or 'Growth'}, {y_label} over {x_label}: {listed(sentences)}.")
    for colour, style, (name, points) in zip(CYCLE, ("-", (0, (5, 2)), (0, (1, 1)), "-.", "-", "-"), curves.items(),
                                             strict=False):
        axes.plot(list(points), [value / scale for value in points.values()], color=colour, linestyle=style,
                  linewidth=2.4, label=name)
    sizes = sorted({size for points in curves.values() for size in points})
    log_axis(axes.yaxis, *log_limits([v / scale for points in curves.values() for v in points.values()]))
    log_axis(axes.xaxis, sizes[0] / 1.05, sizes[-1] * 1.05)
    if mark is not None:
        axes.axvline(mark, color=INK, linewidth=1.2, linestyle=(0, (2, 2)))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.legend()
    if title:
        axes.set_title(title)
    return figure


class _StepBlock(nn.Module):
    """A residual block on the way from ResNet to ConvNeXt; `o` holds the options of the step."""

    def __init__(self, before: int, width: int, stride: int, o: SimpleNamespace):
        super().__init__()
        out, hidden = (width, 4 * width) if o.inverted else (4 * width, width)
        plan = ([(before, before, o.kernel), (before, hidden, 1), (hidden, out, 1)] if o.moved_up else
                [(before, hidden, 1), (hidden, hidden, o.kernel), (hidden, out, 1)])
        layers = []
        for i, (a, b, kernel) in enumerate(plan):
            filters = kernel > 1
            layers.append(nn.Conv2d(a, b, kernel, stride if filters else 1, kernel // 2,
                                    groups=a if filters and o.depthwise else 1, bias=o.separate))
            layers += [o.norm(b)] * (i in o.norms) + [o.act()] * (i in o.acts and i < 2)
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if stride == 1 and before == out else nn.Sequential(
            nn.Conv2d(before, out, 1, stride, bias=False), o.norm(out))
        self.last = o.act() if 2 in o.acts else nn.Identity()  # after the sum

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shortcut(x) + self.layers(x))


def _step_network(o: SimpleNamespace) -> nn.Sequential:
    channels = o.width
    layers = ([nn.Conv2d(3, channels, 4, 4, bias=o.separate), o.norm(channels)] if o.patchify else
              [nn.Conv2d(3, channels, 7, 2, 3, bias=False), o.norm(channels), o.act(), nn.MaxPool2d(3, 2, 1)])
    for i, depth in enumerate(o.depths):
        width = o.width * 2**i
        if o.separate and i:  # a layer of its own shrinks the map
            layers += [o.norm(channels), nn.Conv2d(channels, width, 2, 2)]
            channels = width
        for j in range(depth):
            layers.append(_StepBlock(channels, width, 2 if i and j == 0 and not o.separate else 1, o))
            channels = width if o.inverted else 4 * width
    last = [nn.LayerNorm(channels)] if o.separate else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *last, nn.Linear(channels, 1000))


def convnext_steps() -> Iterator[tuple[str, nn.Module]]:
    """(step, network) from ResNet-50 to ConvNeXt-T without its layer scales: each step changes one thing, and keeps
    what the steps before it have changed. In the order of Table 10 of https://arxiv.org/abs/2201.03545."""
    options = SimpleNamespace(depths=(3, 4, 6, 3), patchify=False, depthwise=False, width=64, inverted=False,
                              moved_up=False, kernel=3, act=nn.ReLU, acts=(0, 1, 2), norm=nn.BatchNorm2d,
                              norms=(0, 1, 2), separate=False)
    for step, change in (
            ("ResNet-50", {}), ("blocks 3, 3, 9, 3", {"depths": (3, 3, 9, 3)}),
            ("4×4 patches as stem", {"patchify": True}), ("3×3 depthwise", {"depthwise": True}),
            ("width 96", {"width": 96}), ("inverted bottleneck", {"inverted": True}),
            ("depthwise first", {"moved_up": True}), ("kernel 7×7", {"kernel": 7}), ("GELU for ReLU", {"act": nn.GELU}),
            ("one activation a block", {"acts": (1,)}), ("one norm a block", {"norms": (0,)}),
            ("LayerNorm", {"norm": partial(LayerNorm2d, eps=1e-6)}), ("shrinking layers apart", {"separate": True})):
        vars(options).update(change)
        yield step, _step_network(options)
