"""The explorer of attention layers, without a browser."""
import re

import pytest
import torch

import lwcourse as lw
from lwcourse.layers import CoordinateAttention, EfficientChannelAttention

pytest.importorskip("ipywidgets")
from lwcourse import widgets
from lwcourse.widgets.ch05 import features


def cells(explorer) -> dict[str, list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def test_numbers_are_those_of_the_layer():
    explorer = widgets.AttentionExplorer("CA", channels=96)
    cost = lw.profile(CoordinateAttention(96, 16), (96, 56, 56))
    table = cells(explorer)
    assert (table["parameters"][0], table["MACs"][0]) == (f"{cost.params:,}", f"{cost.macs:,}")
    assert table["different gate numbers"][0] == f"{96 * (56 + 56):,}"
    block = lw.profile(lw.create_model("mobilenet_v2").blocks[1], (16, 112, 112))
    assert widgets.AttentionExplorer._block(96)[0] == block.params + 96 * (16 - 24) + 2 * (16 - 24)


@pytest.mark.parametrize("kind", ["SE", "ECA", "CA", "SA", "Triplet"])
def test_every_control_of_a_kind_redraws(kind):
    explorer = widgets.AttentionExplorer(kind, channels=32)
    pictures = {explorer.picture.value}
    changes = {"channels": 64, "photo": "china"} | ({"reduction": 4} if kind in ("SE", "CA") else {"groups": 4}
                                                    if kind == "SA" else {"kernel": 5})
    for name, value in changes.items():
        explorer.controls[name].value = value
        pictures.add(explorer.picture.value)
    assert len(pictures) == 4
    assert f"Gates for a picture: {kind} from" in explorer.figure.alt


def test_gates_of_channels_have_no_place_and_the_others_do():
    for kind, spread in (("SE", False), ("ECA", False), ("CA", True), ("SA", True), ("Triplet", True)):
        low, high = re.search(r"from ([\d.]+) to ([\d.]+) over", widgets.AttentionExplorer(kind).figure.alt).groups()
        assert (high > low) == spread, kind


def test_groups_that_do_not_divide_are_explained():
    explorer = widgets.AttentionExplorer("SA", channels=48)
    explorer.controls["groups"].value = 64
    assert "channels must be a multiple of twice the groups" in explorer.table.value and explorer.figure is None
    explorer.controls["kind"].value = "ECA"
    assert cells(explorer)["parameters"][0] == str(EfficientChannelAttention(48, 3).conv.weight.numel())


def test_looking_does_not_change_the_random_numbers():
    before = torch.get_rng_state()
    widgets.AttentionExplorer("Triplet", channels=16)
    assert torch.equal(torch.get_rng_state(), before)


def test_features_are_that_many_positive_maps():
    picture, x = features("china", 40, 16)
    assert picture.shape == (3, 64, 64) and x.shape == (1, 40, 16, 16)
    assert x.min() >= 0 and x.amax((2, 3)).max() <= 1 and (x.amax((2, 3)) > 0.5).all()
