"""The explorer of towers, without a browser."""
import pytest
import torch

import lwcourse as lw
from lwcourse.models.xception import TowerConv

pytest.importorskip("ipywidgets")
from test_widgets import cells

from lwcourse import widgets


def test_numbers_are_those_of_the_profile():
    explorer = widgets.TowerExplorer(towers=8, channels=24)
    mine, one = (lw.profile(TowerConv(24, 24, groups=groups), (24, 28, 28)) for groups in (8, 1))
    table = cells(explorer)
    assert table["MACs"][:2] == [f"{mine.macs:,}", f"{one.macs:,}"]
    assert table["MACs of filtering"][2] == "0.125" and table["MACs of mixing"][2] == "1"
    assert table["parameters"][:2] == [f"{mine.params:,}", f"{one.params:,}"]
    assert "8 towers: 72 of 576 pairs" in explorer.figure.alt


@pytest.mark.parametrize("change", [{"towers": 16}, {"channels": 48}, {"kernel": 5}])
def test_every_control_changes_picture_and_table(change):
    explorer = widgets.TowerExplorer()
    before = explorer.picture.value, explorer.table.value
    for name, value in change.items():
        explorer.controls[name].value = value
    assert explorer.picture.value != before[0] and explorer.table.value != before[1]


def test_one_tower_a_channel_is_the_separable_convolution():
    explorer = widgets.TowerExplorer(towers=32, channels=32, kernel=5)
    expected = lw.profile(TowerConv(32, 32, 5), (32, 28, 28))
    assert cells(explorer)["MACs"][0] == f"{expected.macs:,}"
    assert "32 towers: 32 of 1,024 pairs" in explorer.figure.alt


def test_the_slider_offers_only_towers_that_divide():
    explorer = widgets.TowerExplorer(towers=4, channels=32)
    towers = explorer.controls["towers"]
    assert towers.options == (1, 2, 4, 8, 16, 32)
    shown = []
    for count in towers.options:
        towers.value = count
        shown.append(explorer.figure.alt)
    assert len(set(shown)) == len(shown) and "32 towers: 32 of 1,024 pairs" in shown[-1]
    for channels, kept in ((24, 24), (16, 16), (48, 16)):  # 32 towers of 24 channels do not exist
        explorer.controls["channels"].value = channels
        assert towers.value == kept and explorer.figure.alt.startswith(f"{kept} towers: ")
        assert all(channels % count == 0 for count in towers.options)


@pytest.mark.parametrize("options, words", [({"towers": 5}, "towers must be one of 1, 2, 3"),
                                            ({"channels": 20}, "channels must be one of 16, 24"),
                                            ({"towers": 3, "channels": 32}, "32 channels cannot be split into 3"),
                                            ({"kernel": 4}, "kernel must be one of 3, 5, 7")])
def test_bad_start_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        widgets.TowerExplorer(**options)


def test_looking_does_not_change_the_random_numbers():
    before = torch.get_rng_state()
    widgets.TowerExplorer()
    assert torch.equal(torch.get_rng_state(), before)
