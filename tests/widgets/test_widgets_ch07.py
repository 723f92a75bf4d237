"""The explorer of dilated pyramids, without a browser."""
import re

import pytest
import torch

pytest.importorskip("ipywidgets")
from lwcourse import widgets


def cells(explorer):
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def test_rates_of_espnet_reach_33_of_1089_pixels():
    explorer = widgets.DilationExplorer()
    table = cells(explorer)
    assert table["pixels reached by the last branch"] == ["33", "9", "3.67"]
    assert table["side of the field (pixels)"] == ["33", "33", "1"]
    assert table["parameters"] == ["18,000", "18,000", "1"]
    assert table["MACs on 64 × 64 pixels"][0] == f"{18_000 * 64 * 64:,}"


def test_every_control_changes_the_picture_or_the_table():
    explorer = widgets.DilationExplorer()
    for name, value in (("fusion", False), ("rates", "1, 2, 3, 4 (ESPNetv2)"), ("depthwise", True), ("channels", 32)):
        before = explorer.picture.value, explorer.table.value
        explorer.controls[name].value = value
        assert (explorer.picture.value, explorer.table.value) != before, name
    assert cells(explorer)["parameters"][0] == f"{4 * 9 * 32:,}"
    assert "not fused: rate 1 9 of 3 × 3" in explorer.figure.alt


@pytest.mark.parametrize("rates", list(widgets.ch07.RATES))
@pytest.mark.parametrize("depthwise", [False, True])
def test_all_rates_can_be_drawn(rates, depthwise):
    assert widgets.DilationExplorer(rates, depthwise=depthwise, channels=4).figure is not None


def test_bad_values_are_told():
    with pytest.raises(ValueError, match="rates must be one of '1, 2, 4, 8, 16"):
        widgets.DilationExplorer("1, 3")
    with pytest.raises(ValueError, match="channels a branch must be from 4 to 64, got 100"):
        widgets.DilationExplorer(channels=100)


def test_looking_does_not_change_the_random_numbers():
    before = torch.get_rng_state()
    widgets.DilationExplorer()
    assert torch.equal(torch.get_rng_state(), before)
