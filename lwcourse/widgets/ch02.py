"""The explorer of chapter 02: what the width multiplier and the image size do to a network."""
from collections.abc import Sequence
from functools import cache
from inspect import signature

import torch

from lwcourse import viz
from lwcourse.profile import Profile, format_bytes, profile
from lwcourse.registry import create_model, factory, list_models, model_card, resolve
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, slider

__all__ = ["WidthExplorer"]




class WidthExplorer(Explorer):
    """Chapter 2: the width multiplier and the image size, on the networks that take any width."""

    CURVE = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

    def __init__(self, name: str = "mobilenet_v2", names: Sequence[str] | None = None, width: float = 0.5,
                 resolution: int = 224):
        names = [resolve(other) for other in names] if names else widths_of()
        name = resolve(name)
        if name not in names or name not in widths_of():
            raise ValueError(f"{name!r} has no width to explore; these have: {', '.join(names)}")
        super().__init__({
            "name": dropdown("network", names, name),
            "width": slider("width", float(width), 0.2, 1.5, 0.05),
            "resolution": slider("image size (px)", resolution, 96, 256, 32),
        }, self._explore)

    @classmethod
    def _explore(cls, name: str, width: float, resolution: int) -> tuple[viz.Figure, str]:
        width = round(width, 2)  # the slider adds up steps of 0.05
        card = model_card(name)
        full = card.input_size[-1]
        current, reference = profile_at(name, width, resolution), profile_at(name, 1.0, full)
        curve = {w: profile_at(name, w, resolution) for w in cls.CURVE}
        claims = published_at(name)
        points = {f"width {w:g}": (1e6 * macs, 1e6 * params) for w, (params, macs, _) in claims.items()
                  if macs and params}
        figure = viz.width_scaling(current, reference, curve, published=points,
                                   title=f"{name}, width {width:g}, {resolution} × {resolution} pixels")
        rows = [("", f"width {width:g}, {resolution} px", f"width 1, {full} px", "ratio")]
        rows += [compare_row(*line) for line in (
            ("parameters", current.params, reference.params), ("MACs", current.macs, reference.macs),
            ("peak of live activations", current.peak_activation_bytes, reference.peak_activation_bytes, format_bytes))]
        return figure, html_table(rows, caption=_claim(card.table, claims.get(width), width, resolution, full))


def _claim(table: str, claim: tuple | None, width: float, resolution: int, full: int) -> str:
    if claim is None or resolution != full:
        return f"The course has no published figures for width {width:g} at {resolution} × {resolution} pixels."
    params, macs, top1 = claim
    parts = [f"{value:g} {unit}" for value, unit in ((params, "M parameters"), (macs, "M MACs"),
                                                      (top1, "% top-1 on ImageNet")) if value is not None]
    return f"Published ({table}): {', '.join(parts)}."


def widths_of() -> list[str]:
    """The networks whose factory has a `width` that may be any positive number."""
    return [name for name in list_models()
            if "width" in signature(factory(name)).parameters and not model_card(name).widths]


@cache
def profile_at(name: str, width: float, resolution: int) -> Profile:
    """Counted once, then remembered; random numbers drawn elsewhere stay the same."""
    with torch.random.fork_rng(devices=[]):
        model = create_model(name, width=width)
    return profile(model, (model_card(name).input_size[0], resolution, resolution))


def published_at(name: str) -> dict[float, tuple[float | None, float | None, float | None]]:
    """Width -> the paper's (parameters in millions, MACs in millions, top-1 in per cent), at the card's image size."""
    card = model_card(name)
    figures = {1.0: card} | {variant.arguments["width"]: variant for variant in card.variants
                             if set(variant.arguments) == {"width"}}
    return {width: (it.published_params_m, it.published_macs_m, it.published_top1) for width, it in figures.items()}


