"""One network at several widths and image sizes: what the width multiplier buys."""
from collections.abc import Mapping

from lwcourse.profile import Profile, format_bytes
from lwcourse.viz.cost import METRICS, as_stages, draw_flow
from lwcourse.viz.labels import count_unit, listed, place_labels, require_entries, short_count
from lwcourse.viz.theme import INK, PALETTE, Figure, new_figure, themed

__all__ = ["width_scaling"]


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
