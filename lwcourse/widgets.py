"""Explorers: a few controls, a picture and a table that follow them.

Core ipywidgets only, without `interact` or `Output`, so that they work in JupyterLab, Notebook, VS Code
and Colab. Where no kernel runs (GitHub, a web page) the picture stored with the notebook is shown.
"""
import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import signature

import torch
from torch import nn

try:
    import ipywidgets
except ImportError as error:
    raise ImportError("lwcourse.widgets needs ipywidgets: pip install ipywidgets, or 'lwcourse[course]' for all that "
                      "the notebooks use") from error

from lwcourse import viz
from lwcourse.profile import LayerProfile, Profile, format_bytes, profile
from lwcourse.registry import create_model, factory, list_models, model_card, resolve
from lwcourse.tables import html_table
from lwcourse.viz.cost import METRICS, layer_costs

Draw = Callable[..., tuple[viz.Figure, str]]


class Explorer(ipywidgets.VBox):
    """Controls by name, and what `draw(**values)` makes of them: a figure and a table in HTML.

    `draw` runs once at the start and again after every change. When it raises ValueError the reader
    sees the message in place of picture and table; any other error is a bug, and stays one.
    """

    def __init__(self, controls: Mapping[str, ipywidgets.Widget], draw: Draw):
        if not controls:
            raise ValueError("an explorer needs at least one control")
        self.controls = dict(controls)
        self.figure: viz.Figure | None = None
        self._draw = draw
        # No tooltip: with one, JupyterLab shows an error in place of the picture (ipywidgets 8.1.9).
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.table = ipywidgets.HTML()
        panel = ipywidgets.Box([*self.controls.values()], layout={"flex_flow": "row wrap"})
        super().__init__([panel, self.picture, self.table])
        for control in self.controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    @property
    def values(self) -> dict[str, object]:
        """The value of each control."""
        return {name: control.value for name, control in self.controls.items()}

    def _refresh(self, change=None) -> None:
        try:
            self.figure, self.table.value = self._draw(**self.values)
        except ValueError as error:
            self.figure = None
            self.table.value = f"<p role='alert'><b>Not possible:</b> {html.escape(str(error))}</p>"
            self.picture.layout.display = "none"
            return
        self.picture.value = self.figure.png()
        self.picture.layout.display = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.figure.alt if self.figure else 'nothing to show for these values'}>"

    def _repr_mimebundle_(self, **kwargs):
        """The live widget, and for pages without a kernel its present picture and alt text."""
        data = {**super()._repr_mimebundle_(**kwargs), "text/plain": repr(self)}
        if self.figure is None:
            return data, {}
        data["image/png"] = base64.b64encode(self.picture.value).decode("ascii")
        return data, {"image/png": {"alt": self.figure.alt}}


def _labelled(description: str, **options) -> dict:
    """Options that every control has: a label with room, and no redrawing while the mouse still moves."""
    return {"description": description, "style": {"description_width": "9em"}, "layout": {"width": "25em"}} | options


def slider(description: str, value: float, low: float, high: float, step: float) -> ipywidgets.Widget:
    """A slider that reports when it is let go; for whole numbers when `value` and `step` are.

    Raises ValueError when `value` is not between `low` and `high`, where ipywidgets would move it.
    """
    if not low <= value <= high:
        raise ValueError(f"{description} must be from {low} to {high}, got {value}")
    options = _labelled(description, continuous_update=False)
    if isinstance(value, int) and isinstance(step, int):
        return ipywidgets.IntSlider(value, low, high, step, **options)
    return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, readout_format=".2f", **options)


def dropdown(description: str, options: Sequence, value) -> ipywidgets.Dropdown:
    """A menu of `options`: values, or pairs (label, value)."""
    return ipywidgets.Dropdown(options=options, value=value, **_labelled(description))


class ConvExplorer(Explorer):
    """Chapter 1: one nn.Conv2d; what its settings cost, and which inputs an output reads."""

    def __init__(self, in_channels: int = 16, out_channels: int = 16, kernel: int = 3, groups: int = 1):
        super().__init__({
            "in_channels": slider("input channels", in_channels, 1, 64, 1),
            "out_channels": slider("output channels", out_channels, 1, 64, 1),
            "groups": slider("groups", groups, 1, 64, 1),
            "kernel": dropdown("kernel", [(f"{k} × {k}", k) for k in (1, 3, 5, 7)], kernel),
            "stride": dropdown("stride", [1, 2], 1),
            "dilation": dropdown("dilation", [1, 2, 3], 1),
            "image_size": slider("image size (px)", 32, 8, 112, 8),
        }, self._explore)

    @staticmethod
    def _explore(in_channels: int, out_channels: int, groups: int, kernel: int, stride: int, dilation: int,
                 image_size: int) -> tuple[viz.Figure, str]:
        for name, channels in (("input", in_channels), ("output", out_channels)):
            if channels % groups:
                raise ValueError(f"{channels} {name} channels cannot be split into {groups} equal groups")
        size = (in_channels, image_size, image_size)
        settings = {"kernel_size": kernel, "stride": stride, "padding": dilation * (kernel - 1) // 2,
                    "dilation": dilation, "bias": False}
        with torch.random.fork_rng(devices=[]):  # looking must not change what the notebook draws next
            torch.manual_seed(0)
            conv = nn.Conv2d(in_channels, out_channels, groups=groups, **settings)
            dense = nn.Conv2d(in_channels, out_channels, **settings)
        mine, other = (profile(module, size).layers[0] for module in (conv, dense))
        figure = viz.connectivity(conv, in_channels, size=21, pixels=True)
        rows = [("", f"groups = {groups}", "groups = 1", "ratio")]
        rows += [_compare_row(*line) for line in (
            ("parameters", mine.params, other.params), ("MACs", mine.macs, other.macs),
            ("MACs per byte moved", mine.intensity, other.intensity, lambda value: f"{value:.2f}"),
            ("output bytes", mine.output_bytes, other.output_bytes, format_bytes))]
        shape = " × ".join(map(str, mine.output_shape[1:]))
        rows.append(("output (channels × height × width)", shape, shape, ""))
        return figure, html_table(rows)


def _compare_row(label: str, value: float, reference: float,
                 words: Callable[[float], str] = "{:,}".format) -> tuple[str, ...]:
    ratio = f"{value / reference:.3g}" if reference else "-"
    return label, words(value), words(reference), ratio


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
        rows += [_compare_row(*line) for line in (
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


class ProfileExplorer(Explorer):
    """Chapter 0: walk through the layers of a network, and see what share of each cost they have."""

    def __init__(self, model: nn.Module | Profile, input_size: Sequence[int] = (3, 224, 224)):
        self.profile = model if isinstance(model, Profile) else profile(model, input_size)
        metrics = [name for name in ("macs", "params", "activation_bytes", "adds")
                   if any(METRICS[name].of(layer) for layer in self.profile.layers)]
        layers = list(layer_costs(self.profile, False, metrics))
        super().__init__({
            "metric": dropdown("cost", [("all", tuple(metrics))] + [(METRICS[m].title, (m,)) for m in metrics],
                               tuple(metrics)),
            "layer": ipywidgets.SelectionSlider(options=layers, value=layers[0],
                                                **_labelled("layer", continuous_update=False,
                                                            layout={"width": "36em"})),
        }, self._explore)

    def _explore(self, metric: tuple[str, ...], layer: str) -> tuple[viz.Figure, str]:
        drawn = layer in layer_costs(self.profile, False, metric)
        figure = viz.cost_layers(self.profile, metrics=metric, highlight=layer if drawn else None)
        chosen = next(entry for entry in self.profile.layers if (entry.name or "(model)") == layer)
        return figure, html_table(self._rows(chosen), caption=f"{layer}: {chosen.kind}, output "
                                                              f"{' × '.join(map(str, chosen.output_shape[1:])) or '-'}")

    def _rows(self, chosen: LayerProfile) -> list[tuple[str, ...]]:
        rows = [("", "this layer", "whole network", "share")]
        for metric in map(METRICS.get, ("macs", "params", "activation_bytes")):
            value, total = metric.of(chosen), metric.of(self.profile)
            words = format_bytes if metric.in_bytes else "{:,}".format
            rows.append((metric.title, words(value), words(total), f"{100 * value / total:.1f} %" if total else "-"))
        return rows
