"""The explorer of chapter 00: what share of each cost the layers of a network have."""
from collections.abc import Sequence

import ipywidgets
from torch import nn

from lwcourse import viz
from lwcourse.profile import LayerProfile, Profile, format_bytes, profile
from lwcourse.tables import html_table
from lwcourse.viz.cost import METRICS, layer_costs
from lwcourse.widgets.explorer import Explorer, dropdown, labelled

__all__ = ["ProfileExplorer"]


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
                                                **labelled("layer", continuous_update=False,
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
