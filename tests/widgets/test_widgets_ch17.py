"""The explorer of chapter 17: its numbers are those of the profile and of the machine that was set."""
import re

import pytest
import torch
from torch import nn

import lwcourse as lw

pytest.importorskip("ipywidgets")
from lwcourse import widgets


def cells(explorer):
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def test_bounds_follow_from_the_machine():
    explorer = widgets.BoundsExplorer(channels=32, image_size=28)
    explorer.controls["peak"].value, explorer.controls["bandwidth"].value = 100, 10
    cost = lw.profile(nn.Conv2d(32, 32, 1, bias=False), (32, 28, 28)).layers[0]
    macs, moved, per_byte, longest, seconds = cells(explorer)["1×1"]
    assert macs == f"{cost.macs:,}" and per_byte == f"{cost.intensity:.2f}" and longest == "memory"
    assert seconds == f"{1e6 * cost.traffic_bytes / 10e9:.3g} µs"
    explorer.controls["batch"].value = 16
    assert cells(explorer)["1×1"][0] == f"{16 * cost.macs:,}"
    explorer.controls["number_bytes"].value = 1
    per_image = (16 * (cost.input_bytes + cost.output_bytes) + cost.parameter_bytes) / 4 / 16
    assert float(cells(explorer)["1×1"][2]) == pytest.approx(cost.macs / per_image, abs=0.01)


def test_the_call_wins_on_small_maps_and_nothing_is_drawn_from_the_random_numbers():
    before = torch.get_rng_state()
    explorer = widgets.BoundsExplorer(image_size=7)
    assert cells(explorer)["depthwise 3×3"][3] == "calls" and "depthwise 3×3" in explorer.figure.alt
    assert torch.equal(torch.get_rng_state(), before)
