"""GroupExplorer: groups, shuffle and width against what is connected, without a browser."""
import re

import pytest
import torch
from torch import nn

pytest.importorskip("ipywidgets")
from lwcourse import widgets
from lwcourse.viz import channel_connections
from lwcourse.widgets.ch03 import grouped_stack


def cells(explorer: widgets.Explorer) -> dict[str, list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def test_equal_macs_buy_channels_and_cost_traffic():
    table = cells(widgets.GroupExplorer(groups=4, layers=2))
    assert table["channels"] == ["48", "24", "2"]
    assert table["MACs a pixel"] == ["1,152", "1,152", "1"]
    assert table["numbers read and written a pixel"] == ["192", "96", "2"]
    assert table["share of channel pairs connected"] == ["100%", "100%", "1"]


def test_without_a_shuffle_the_walls_stay():
    explorer = widgets.GroupExplorer(groups=4, layers=3)
    before = explorer.picture.value
    explorer.controls["order"].value = "none"
    assert cells(explorer)["share of channel pairs connected"][0] == "25%"
    assert explorer.picture.value != before and len(explorer.figure.axes) == 3
    explorer.controls["order"].value = "official"
    assert cells(explorer)["share of channel pairs connected"][0] == "100%"


def test_every_setting_of_the_sliders_is_drawn_at_equal_macs():
    explorer = widgets.GroupExplorer()
    for groups in range(1, 9):
        explorer.controls["groups"].value = groups
        channels, macs = (int(cells(explorer)[row][0].replace(",", "")) for row in ("channels", "MACs a pixel"))
        assert channels % groups == 0 and 0.8 * 1152 <= macs <= 1152
    explorer.controls["layers"].value = 4
    assert [axes.get_title(loc="left").split("\n")[0] for axes in explorer.figure.axes] == [
        f"after {n}" for n in (1, 2, 3, 4)]


def test_groups_that_do_not_divide_are_explained_and_forgiven():
    explorer = widgets.GroupExplorer(groups=5, at="channels")
    assert "24 channels cannot be split into 5 equal groups" in explorer.table.value and explorer.figure is None
    explorer.controls["at"].value = "macs"
    assert explorer.figure is not None and "alert" not in explorer.table.value


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="groups must be from 1 to 8, got 9"):
        widgets.GroupExplorer(groups=9)
    with pytest.raises(ValueError, match="order must be"):
        grouped_stack(12, 3, 2, "random")
    with pytest.raises(ValueError, match="12 channels cannot be split into 5"):
        grouped_stack(12, 5, 2)


def test_looking_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    widgets.GroupExplorer()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("order", ["paper", "official"])
def test_stack_shuffles_between_its_layers(order):
    stack = grouped_stack(16, 4, 2, order)
    assert sum(isinstance(part, nn.Conv2d) for part in stack) == 2 and channel_connections(stack, 16, size=1).all()
