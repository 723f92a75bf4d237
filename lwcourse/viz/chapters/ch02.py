"""What the width multiplier buys, where a network's arithmetic sits, and what ReLU loses on few channels."""
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from lwcourse.profile import Profile, format_bytes, profile
from lwcourse.viz.cost import METRICS, as_stages, draw_flow
from lwcourse.viz.labels import count_unit, listed, place_labels, require_entries, short_count
from lwcourse.viz.theme import CYCLE, INK, PALETTE, Figure, new_figure, themed

__all__ = ["layer_kinds", "relu_losses", "width_scaling"]


@themed
def width_scaling(current: Profile, reference: Profile, curve: Mapping[float, Profile], *,
                  published: Mapping[str, tuple[float, float]] | None = None, title: str | None = None) -> Figure:
    """Above, the shape of `current` inside that of `reference`; below, parameters against MACs over widths.

    `curve` maps widths to profiles at the image size of `current`; `published` maps a label to a
    paper's (MACs, parameters). Raises ValueError when `curve` is empty, or the networks have
    other stages.
    """
    require_entries(curve, "Profile")
    boxes, others = as_stages(current), as_stages(reference)
    if len(boxes) != len(others):
        raise ValueError(f"reference must have {len(boxes)} stages like current, got {len(others)}")
    macs, params = METRICS["macs"], METRICS["params"]
    shares = [f"{words} against {other}" for words, other in (
        (f"{short_count(current.macs)} MACs", short_count(reference.macs)),
        (f"{short_count(current.params)} parameters", short_count(reference.params)),
        (f"{format_bytes(current.peak_activation_bytes)} peak activations",
         format_bytes(reference.peak_activation_bytes)))]
    alt = f"{title or current.model}: {listed(shares)} of the reference. Boxes show each stage inside the reference's."
    figure, (flow, trade) = new_figure(8.2, 5.8, alt=alt, rows=2, height_ratios=(2.7, 2.8))
    draw_flow(flow, boxes, others, width=8.0, height=2.4)
    if title:
        flow.set_title(title)
    profiles = [curve[width] for width in sorted(curve)]
    claims = published or {}
    everything = [current, reference, *profiles]
    x_scale, x_unit = count_unit([profile.macs for profile in everything])
    y_scale, y_unit = count_unit([profile.params for profile in everything])
    trade.plot([p.macs / x_scale for p in profiles], [p.params / y_scale for p in profiles], color=PALETTE["blue"],
               marker=".", label="counted, widths " + f"{min(curve):g} to {max(curve):g}, this image size")
    trade.plot(reference.macs / x_scale, reference.params / y_scale, "s", color=PALETTE["vermillion"], markersize=9,
               markerfacecolor="none", markeredgewidth=2, label="the reference, counted")
    if claims:
        trade.plot([x / x_scale for x, _ in claims.values()], [y / y_scale for _, y in claims.values()], "x", color=INK,
                   markersize=7, markeredgewidth=1.6, label="published, at the paper's image size")
    trade.plot(current.macs / x_scale, current.params / y_scale, "o", color=PALETTE["sky"], markersize=11,
               markeredgecolor=INK, markeredgewidth=1.4, label="this network")
    trade.set(xlabel=macs.axis_label(x_unit), ylabel=params.axis_label(y_unit))
    trade.set_xlim(0, 1.12 * max([*(p.macs for p in everything), *(x for x, _ in claims.values())]) / x_scale)
    trade.set_ylim(0, 1.2 * max([*(p.params for p in everything), *(y for _, y in claims.values())]) / y_scale)
    trade.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    place_labels(trade, [(x / x_scale, y / y_scale) for x, y in claims.values()], list(claims),
                 line=[(p.macs / x_scale, p.params / y_scale) for p in profiles])
    return figure


def layer_kinds(network: nn.Module, input_size: Sequence[int] = (3, 224, 224)) -> dict[str, tuple[int, int]]:
    """MACs and weights (without BatchNorm and biases) of each kind of layer: (MACs, weights) by kind.

    The kinds are "first 3×3" (any other convolution that mixes channels with a kernel larger than 1×1 too),
    "depthwise" (any convolution in groups), "1×1" and "classifier" (any linear layer).
    """
    found: dict[str, tuple[int, int]] = {}
    for layer in profile(network, tuple(input_size)).layers:
        module = network.get_submodule(layer.name)
        if isinstance(module, nn.Conv2d | nn.Linear):
            if isinstance(module, nn.Linear):
                kind = "classifier"
            else:
                kind = ("depthwise" if module.groups > 1 else
                        "1×1" if tuple(module.kernel_size) == (1, 1) else "first 3×3")
            macs, weights = found.get(kind, (0, 0))
            found[kind] = macs + layer.macs, weights + module.weight.numel()
    return found


@themed
def relu_losses(losses: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Figure:
    """Shares of variance that are lost, one group of bars for each place and one bar for each way through ReLU.

    `losses` maps the name of a place to {name of a way: share from 0 to 1}; all places have the same ways. Raises
    ValueError when there is nothing to draw or a place lacks a way.
    """
    require_entries(losses, "dict of shares")
    ways = list(next(iter(losses.values())))
    for place, shares in losses.items():
        if list(shares) != ways:
            raise ValueError(f"every place must have {listed(ways)}; {place!r} has {listed(list(shares))}")
    spans = [f"{way} {100 * min(values):.0f} to {100 * max(values):.0f} %" for way in ways
             if (values := [shares[way] for shares in losses.values()])]
    figure, axes = new_figure(8.2, 3.6, alt=f"Bars: share of variance lost in {len(losses)} places: {listed(spans)}.")
    places, width = np.arange(len(losses)), 0.8 / len(ways)
    for row, way in enumerate(ways):
        values = [100 * shares[way] for shares in losses.values()]
        bars = axes.bar(places + (row - (len(ways) - 1) / 2) * width, values, width, color=CYCLE[row], label=way)
        axes.bar_label(bars, [f"{value:.0f}" for value in values], fontsize=8, padding=1)
    axes.set_xticks(places, [place.replace(", ", "\n") for place in losses])
    axes.set_ylabel("variance lost (%)")
    axes.set_ylim(0, 118 * max(max(shares.values()) for shares in losses.values()))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(ways), borderaxespad=0.2)
    if title:
        figure.suptitle(title)
    return figure
