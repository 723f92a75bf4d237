"""Explorer of the way from an Inception module to Xception: the number of towers."""
import ipywidgets
import torch

from lwcourse import viz
from lwcourse.models.xception import TowerConv
from lwcourse.profile import profile
from lwcourse.tables import html_table
from lwcourse.widgets.explorer import Explorer, compare_row, dropdown, labelled

__all__ = ["TowerExplorer"]


class TowerExplorer(Explorer):
    """Chapter 6: filters in one tower, in several, or in one for each channel, before a 1x1 mixes them."""

    TOWERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    SIZE = 28  # pixels a side

    def __init__(self, towers: int = 4, channels: int = 32, kernel: int = 3):
        for name, value, allowed in (("towers", towers, self.TOWERS), ("channels", channels, CHANNELS),
                                     ("kernel", kernel, KERNELS)):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
        if channels % towers:
            raise ValueError(f"{channels} channels cannot be split into {towers} equal towers")
        choose_towers = ipywidgets.SelectionSlider(options=self._allowed(channels), value=towers,
                                                   **labelled("towers", continuous_update=False))
        choose_channels = dropdown("channels", CHANNELS, channels)

        def offer_divisors(change: dict) -> None:
            """Keep the slider to numbers that divide the channels, near where it stood."""
            allowed, before = self._allowed(change["new"]), choose_towers.value
            choose_towers.options = allowed
            choose_towers.value = max(count for count in allowed if count <= before)

        choose_channels.observe(offer_divisors, "value")  # before the picture is drawn, which super() arranges
        super().__init__({
            "towers": choose_towers,
            "channels": choose_channels,
            "kernel": dropdown("kernel", [(f"{k} × {k}", k) for k in KERNELS], kernel),
        }, self._explore)

    @classmethod
    def _allowed(cls, channels: int) -> tuple[int, ...]:
        return tuple(count for count in cls.TOWERS if channels % count == 0)

    @classmethod
    def _explore(cls, towers: int, channels: int, kernel: int) -> tuple[viz.Figure, str]:
        with torch.random.fork_rng(devices=[]):  # looking must not change what the notebook draws next
            modules = {count: TowerConv(channels, channels, kernel, groups=count) for count in cls._allowed(channels)}
        profiles = {count: profile(module, (channels, cls.SIZE, cls.SIZE)) for count, module in modules.items()}
        costs = {}
        for count, cost in profiles.items():
            filtering, mixing = (layer.macs for layer in cost.layers if layer.macs)
            costs[count] = filtering, mixing
        figure = viz.towers(viz.channel_connections(modules[towers][0], channels, size=kernel), costs, towers)
        rows = [("", f"{towers} of {channels}", "one tower", "ratio")]
        rows += [compare_row(*line) for line in (
            ("MACs of filtering", costs[towers][0], costs[1][0]), ("MACs of mixing", costs[towers][1], costs[1][1]),
            ("MACs", profiles[towers].macs, profiles[1].macs),
            ("parameters", profiles[towers].params, profiles[1].params))]
        return figure, html_table(rows)


CHANNELS, KERNELS = (16, 24, 32, 48), (3, 5, 7)
