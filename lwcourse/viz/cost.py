"""Where a network's parameters, multiply-adds and activations are: pictures of what `lw.profile` returns."""
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lwcourse.profile import LayerProfile, Profile, format_bytes
from lwcourse.viz.labels import byte_unit, count_unit, listed, log_axis, log_limits, require_entries, short_count
from lwcourse.viz.theme import CARD, GRID, INK, MUTED, PALETTE, Figure, headline, new_figure, themed


class Metric(NamedTuple):
    """One kind of cost. The same colour means the same cost in every figure."""
    attribute: str  # of Profile; `activation_bytes` is `output_bytes` in a LayerProfile
    title: str
    colour: str
    in_bytes: bool = False

    def of(self, profile: Profile | LayerProfile) -> int:
        by_layer = isinstance(profile, LayerProfile) and self.attribute == "activation_bytes"
        return getattr(profile, "output_bytes" if by_layer else self.attribute)

    def words(self, value: float) -> str:
        return format_bytes(value) if self.in_bytes else short_count(value)

    def unit(self, values) -> tuple[float, str]:
        return byte_unit(values) if self.in_bytes else count_unit(values)

    def axis_label(self, unit: str) -> str:
        return f"{self.title} ({unit})" if unit else self.title


METRICS = {metric.attribute: metric for metric in (
    Metric("macs", "MACs", PALETTE["blue"]),
    Metric("params", "parameters", PALETTE["vermillion"]),
    Metric("activation_bytes", "activations", PALETTE["green"], in_bytes=True),
    Metric("peak_activation_bytes", "peak of live activations", PALETTE["purple"], in_bytes=True),
    Metric("adds", "additions", PALETTE["orange"]),
)}
DEFAULT_METRICS = ("macs", "params", "activation_bytes")


def find_metrics(names: Sequence[str], allowed: Sequence[str] = tuple(METRICS)) -> list[Metric]:
    """The metrics of these names. Raises ValueError for an unknown one, or none."""
    names = (names,) if isinstance(names, str) else tuple(names)
    wrong = [name for name in names if name not in allowed]
    if wrong or not names:
        raise ValueError(f"metrics must be among {', '.join(allowed)}, got {', '.join(map(str, wrong)) or 'none'}")
    return [METRICS[name] for name in names]


@themed
def cost_bars(profiles: Mapping[str, Profile], *, metrics: Sequence[str] = DEFAULT_METRICS, log: bool = False,
              title: str | None = None) -> Figure:
    """Compare networks or blocks: one panel a cost, one bar a network, its value at the end.

    `profiles` maps a name to a Profile (or to one LayerProfile). With `log` the axis is
    logarithmic and values are dots, since a bar's length means nothing without a zero.
    Raises ValueError when `profiles` is empty or a metric unknown.
    """
    require_entries(profiles, "Profile")
    chosen = find_metrics(metrics)
    names = list(profiles)
    costs = [f"{name} " + ", ".join(f"{metric.words(metric.of(profile))} {metric.title}" for metric in chosen)
             for name, profile in profiles.items()]
    alt = f"{'Dot plot on logarithmic axes' if log else 'Bar chart'}: {listed(costs)}."
    figure, axes = new_figure(7.8, 1.15 + 0.36 * len(names) + (0.3 if title else 0), alt=alt, columns=len(chosen))
    panels = np.atleast_1d(axes)
    for panel, metric in zip(panels, chosen, strict=True):
        values = [metric.of(profile) for profile in profiles.values()]
        scale, unit = metric.unit(values)
        bar_panel(panel, names, np.array(values) / scale, [metric.words(value) for value in values], metric.colour,
                  metric.axis_label(unit), log=log)
        panel.tick_params(labelleft=panel is panels[0])
    headline(figure, title)
    return figure


def bar_panel(axes: Axes, names: Sequence[str], values: np.ndarray, words: Sequence[str], colour: str, label: str, *,
              ends: np.ndarray | None = None, headroom: float = 1.45, log: bool = False) -> None:
    """Horizontal bars, the first on top, with `words` behind the bar, or behind `ends` where whiskers reach further."""
    rows = np.arange(len(names))
    ends = values if ends is None else ends
    if log:
        shown = values > 0
        low, high = log_limits(values[shown]) if shown.any() else (0.1, 1)
        log_axis(axes.xaxis, low, high * (high / low) ** 0.5)
        ends = np.where(shown, values, low)
        axes.hlines(rows, low, ends, color=colour, alpha=0.35, linewidth=1)
        axes.plot(values[shown], rows[shown], "o", color=colour, markersize=7)
    else:
        axes.barh(rows, values, height=0.62, color=colour)
        axes.set_xlim(0, headroom * (ends.max() or 1))
        axes.locator_params(axis="x", nbins=4)
    for row, end, word in zip(rows, ends, words, strict=True):
        axes.annotate(word, (end, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(rows, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)


@themed
def cost_layers(profile: Profile, *, by_stage: bool = False, metrics: Sequence[str] = DEFAULT_METRICS,
                highlight: str | None = None) -> Figure:
    """Costs along the depth of one network, from input (left) to output: one panel a cost.

    A bar is a layer or, with `by_stage`, all layers of a stage: "blocks.3.expand.conv" and
    "blocks.3.project.bn" are in "blocks.3", see `stage_of`. The bar named `highlight` stands out.
    Raises ValueError for a profile without layers, an unknown metric, or a `highlight` that names
    no bar.
    """
    chosen = find_metrics(metrics, ("macs", "params", "activation_bytes", "adds"))
    bars = layer_costs(profile, by_stage, [metric.attribute for metric in chosen])
    names = list(bars)
    if highlight is not None and highlight not in bars:
        raise ValueError(f"highlight must name a bar, such as {names[0]!r} or {names[-1]!r}, got {highlight!r}")
    totals = {m.attribute: sum(bar[m.attribute] for bar in bars.values()) for m in chosen}
    figure, axes = new_figure(7.8, 1.15 + 1.2 * len(chosen), alt=_layers_alt(profile, bars, chosen, totals, by_stage),
                              rows=len(chosen), sharex=True)
    x = np.arange(len(names))
    for panel, metric in zip(np.atleast_1d(axes), chosen, strict=True):
        values = np.array([bar[metric.attribute] for bar in bars.values()])
        scale, unit = metric.unit(values)
        container = panel.bar(x, values / scale, width=0.8, color=metric.colour)
        if highlight is not None:
            for name, patch in zip(names, container.patches, strict=True):
                patch.set_alpha(1.0 if name == highlight else 0.3)
            at = names.index(highlight)
            panel.axvspan(at - 0.5, at + 0.5, color=INK, alpha=0.08, linewidth=0, zorder=0)
        panel.set_title(f"{metric.title}: {metric.words(totals[metric.attribute])} in all", fontsize=10)
        panel.set_ylabel(unit or "count")
        panel.margins(x=0.01)
        panel.grid(axis="x", visible=False)
        panel.locator_params(axis="y", nbins=4)
    _name_bars(np.atleast_1d(axes), names)
    return figure


def layer_costs(profile: Profile, by_stage: bool, metrics: Sequence[str]) -> dict[str, dict[str, int]]:
    """Costs of each layer, or stage, in order of execution; without rows that are all zero."""
    bars: dict[str, dict[str, int]] = {}
    for layer in profile.layers:
        name = stage_of(layer.name) if by_stage else layer.name or "(model)"
        bar = bars.setdefault(name, dict.fromkeys(metrics, 0))
        for metric in metrics:
            bar[metric] += METRICS[metric].of(layer)
    bars = {name: bar for name, bar in bars.items() if any(bar.values())}
    if not bars:
        raise ValueError(f"the profile of {profile.model} has no layer with a cost in {', '.join(metrics)}")
    return bars


def _layers_alt(profile: Profile, bars: dict, chosen: Sequence[Metric], totals: dict, by_stage: bool) -> str:
    sentences = []
    for metric in chosen:
        name = max(bars, key=lambda bar: bars[bar][metric.attribute])
        largest, total = bars[name][metric.attribute], totals[metric.attribute]
        share = f", {100 * largest / total:.0f} % of {metric.words(total)}" if total else ""
        sentences.append(f"{metric.title} peak at {name} with {metric.words(largest)}{share}")
    what = "stages" if by_stage else "layers"
    return f"Bar charts of {len(bars)} {what} of {profile.model}, input to output: {'; '.join(sentences)}."


def _name_bars(panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Name every bar when they are few, else the first bar of every stage that has room for a name."""
    labels = list(names) if len(names) <= 40 else [stage_of(name) for name in names]
    starts = [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]
    if len(starts) < len(names):
        for panel in panels:
            for start in starts[1:]:
                panel.axvline(start - 0.5, color=GRID, linewidth=0.8, zorder=0)
    shown: list[int] = []
    for start in reversed(starts):  # the last layers often cost most, so they keep their names
        if not shown or shown[-1] - start >= len(names) / 54:
            shown.append(start)
    panels[-1].set_xticks(shown, [labels[i] for i in shown], rotation=90)
    panels[-1].set_xlabel("from input to output")


def stage_of(name: str) -> str:
    """The part of a layer's name that says where it is: 'blocks.3.expand.conv' -> 'blocks.3', 'stem.conv' -> 'stem'."""
    parts = name.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdigit() else parts[0] or "(model)"


def stages(profile: Profile) -> list[tuple[str, tuple[int, ...]]]:
    """Name and output shape, (C, H, W) or (C,), of each stage; neighbours of one shape are joined.

    A stage is what `stage_of` tells apart. Its shape is that of its last layer that still has
    pixels, so that a gate (C x 1 x 1) at its end does not pass for its output.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in profile.layers:
        shape, stage = tuple(layer.output_shape[1:]), stage_of(layer.name)
        is_gate = shape[1:] == (1, 1) and max(shapes.get(stage, ())[1:], default=1) > 1
        whole = not layer.name and len(profile.layers) > 1  # what the network's own forward does between its stages
        if len(shape) not in (1, 3) or is_gate or whole or layer.kind in ("Dropout", "Identity"):
            continue
        shapes[stage] = shape
    joined: list[tuple[list[str], tuple[int, ...]]] = []
    for stage, shape in shapes.items():
        parent = stage.rpartition(".")[0]
        if joined and parent and joined[-1][1] == shape and joined[-1][0][0].rpartition(".")[0] == parent:
            joined[-1][0].append(stage)
        else:
            joined.append(([stage], shape))
    return [(f"{group[0]}–{group[-1].rpartition('.')[2]}" if len(group) > 1 else group[0], shape)
            for group, shape in joined]


Stages = Sequence[tuple[str, Sequence[int]]]


@themed
def shape_flow(network: Profile | Stages, *, reference: Profile | Stages | None = None,
               title: str | None = None) -> Figure:
    """The shape of a network: a box a stage, as high as its feature map, wider with more channels.

    `network` is a Profile or a list of (name, shape) with shape (C, H, W) or (C,). `reference`,
    another network with as many stages, is drawn as dashed outlines around the same centres.
    Raises ValueError when there is nothing to draw, a shape has other dimensions, or the stages
    of `reference` are of another number.
    """
    boxes = as_stages(network)
    others = as_stages(reference) if reference is not None else None
    if others is not None and len(others) != len(boxes):
        raise ValueError(f"reference must have {len(boxes)} stages like the network, got {len(others)}")
    figure, axes = new_figure(8.2, 2.9 + (0.3 if title else 0), alt=_flow_alt(boxes, others))
    draw_flow(axes, boxes, others, width=8.0, height=2.7)
    if title:
        axes.set_title(title)
    return figure


def as_stages(network: Profile | Stages) -> list[tuple[str, tuple[int, ...]]]:
    boxes = stages(network) if isinstance(network, Profile) else [(name, tuple(shape)) for name, shape in network]
    if not boxes:
        raise ValueError("nothing to draw: no stage with an output of shape (C, H, W) or (C,)")
    for name, shape in boxes:
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(f"the shape of {name!r} must be (C, H, W) or (C,), all positive, got {shape}")
    return boxes


def _flow_alt(boxes: list, others: list | None) -> str:
    words = listed([f"{name} {'×'.join(map(str, shape))}" for name, shape in boxes], most=12)
    against = listed(["×".join(map(str, shape)) for _, shape in others], most=12) if others else ""
    return (f"Feature-map sizes (channels × height × width) from input to output: {words}."
            + (f" Outlined for comparison: {against}." if against else ""))


def draw_flow(axes: Axes, boxes: list, others: list | None, *, width: float, height: float) -> None:
    """Draw `shape_flow` into axes that are about `width` x `height` inches large."""
    labels = [f"{shape[1]}×{shape[2]}" if len(shape) == 3 else "" for _, shape in boxes]
    names = [name.replace(".", "\n", 1) for name, _ in boxes]
    room = [0.078 * max(len(label), *map(len, name.split("\n"))) + 0.08
            for label, name in zip(labels, names, strict=True)]  # a 9-point letter is about 0.078 inches wide
    pairs = list(zip(boxes, others or boxes, strict=True))
    roots = [sqrt(max(box[1][0], other[1][0])) for box, other in pairs]
    per_root = _widest_scale(roots, room, width - 0.2)
    slots = [max(per_root * root + 0.06, least) for root, least in zip(roots, room, strict=True)]
    gap = max(width - 0.1 - sum(slots), 0) / len(slots)
    tallest = max(max(shape[1:] or (1,)) for pair in pairs for _, shape in pair)
    bottom, band = 0.82, height - 0.82 - 0.32
    middle = bottom + band / 2

    def outline(centre: float, shape: Sequence[int], **look) -> Rectangle:
        wide = max(per_root * sqrt(shape[0]), 0.03)
        high = max(band * (shape[1] if len(shape) == 3 else 1) / tallest, 0.05)
        return axes.add_patch(Rectangle((centre - wide / 2, middle - high / 2), wide, high, **look))

    centre = 0.05
    centres = []
    for (box, other), slot, label, name in zip(pairs, slots, labels, names, strict=True):
        centre += (slot + gap) / 2
        centres.append(centre)
        shape = box[1]
        colour = PALETTE["sky" if len(shape) == 3 else "orange"]
        top = outline(centre, shape, facecolor=colour, edgecolor=INK, linewidth=0.9, zorder=2).get_bbox().y1
        if other[1] != shape:
            around = outline(centre, other[1], facecolor="none", edgecolor=PALETTE["vermillion"], linewidth=1.4,
                             linestyle=(0, (3, 2)), zorder=3)
            top = max(top, around.get_bbox().y1)
        axes.text(centre, top + 0.05, f"{shape[0]}", ha="center", va="bottom", fontsize=9, fontweight="bold", zorder=4,
                  bbox={"facecolor": CARD, "edgecolor": "none", "pad": 0.5})
        axes.text(centre, 0.66, label, ha="center", va="center", fontsize=9)
        axes.text(centre, 0.53, name, ha="center", va="top", fontsize=9, color=MUTED, linespacing=1.1)
        centre += (slot + gap) / 2
    axes.plot([centres[0], centres[-1]], [middle, middle], color=MUTED, linewidth=1, zorder=1)
    note = "above: channels (box width grows with their root); below: height × width in pixels"
    axes.text(0.05, 0.0, note + ("; dashed: the reference" if others is not None else ""), va="bottom", fontsize=9,
              color=MUTED)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")


def _widest_scale(roots: Sequence[float], room: Sequence[float], width: float) -> float:
    """The largest scale at which boxes, each at least as wide as its labels, fit into `width` with some air."""
    low, high = 0.0, width
    for _ in range(40):
        scale = (low + high) / 2
        used = sum(max(scale * root + 0.06, least) for root, least in zip(roots, room, strict=True))
        low, high = (scale, high) if used <= 0.93 * width else (low, scale)
    return low
