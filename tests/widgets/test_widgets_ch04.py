"""The explorer of chapter 04, without a browser."""
import re

import pytest
import torch

import lwcourse as lw
from lwcourse.layers import GhostModule

pytest.importorskip("ipywidgets")
from lwcourse import widgets


def numbers(explorer):
    """The table as label -> the other cells of its row."""
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


@pytest.mark.parametrize("ratio, cheap, kernel", [(2, 3, 3), (3, 5, 1), (4, 1, 3)])
def test_costs_are_those_of_the_module(ratio, cheap, kernel):
    explorer = widgets.GhostExplorer(torch.randn(10, 8, 8), in_channels=6)
    explorer.controls["ratio"].value, explorer.controls["cheap_kernel"].value = ratio, cheap
    explorer.controls["kernel"].value = kernel
    module = GhostModule(6, 10, kernel, ratio=ratio, cheap_kernel=cheap)
    together, plain, _ = numbers(explorer)["together"]
    assert together == f"{lw.profile(module, (6, 5, 5)).macs // 25:,}" and plain == f"{60 * kernel**2:,}"


def test_every_control_changes_the_picture():
    explorer = widgets.GhostExplorer(torch.randn(12, 16, 16))
    seen = {bytes(explorer.picture.value)}
    for name, value in (("ratio", 4), ("cheap_kernel", 7), ("kernel", 1), ("in_channels", 9)):
        explorer.controls[name].value = value
        seen.add(bytes(explorer.picture.value))
    assert len(seen) == 5


def test_more_maps_are_needed_than_the_ratio():
    explorer = widgets.GhostExplorer(torch.randn(4, 8, 8))
    explorer.controls["ratio"].value = 5
    assert "Not possible:</b> a ratio of 5 needs at least 5 maps, here are 4" in explorer.table.value
    with pytest.raises(ValueError, match="ratio s must be from 2 to 8"):
        widgets.GhostExplorer(torch.randn(4, 8, 8), ratio=1)
