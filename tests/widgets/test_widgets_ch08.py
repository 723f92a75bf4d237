"""The explorer of chapter 08: its numbers are those of the profile, and controls change figure and table."""
import pytest

import lwcourse as lw
from lwcourse.models.mobilevit import MobileViTBlock

pytest.importorskip("ipywidgets")
from lwcourse import widgets
from lwcourse.widgets.ch08 import hybrid_macs


def test_counts_are_those_of_the_block():
    counted = lw.profile(MobileViTBlock(48, 64, depth=2), (48, 32, 32))
    parts = hybrid_macs(256, 8, 2, 48, 64, 2)
    assert sum(parts.values()) == counted.macs
    assert parts["attention products"] == sum(layer.macs for layer in counted.layers if layer.kind == "Attention")


def test_controls_change_figure_and_table():
    explorer = widgets.TokenExplorer()
    assert "4 sequences of 256 tokens" in explorer.figure.alt
    seen = {explorer.picture.value}
    for name, value in (("side", 512), ("stride", 16), ("patch", 4), ("tokens", 96), ("depth", 3)):
        explorer.controls[name].value = value
        seen.add(explorer.picture.value)
    assert len(seen) == 6
    parts = hybrid_macs(512, 16, 4, 72, 96, 3)
    assert f"{parts['attention products']:,}" in explorer.table.value and "16 sequences of 64" in explorer.figure.alt


def test_doubling_the_side_grows_products_sixteenfold_and_the_rest_fourfold():
    small, large = (hybrid_macs(side, 16, 2, 48, 64, 2) for side in (256, 512))
    assert [large[name] / small[name] for name in small] == [4, 4, 16]


def test_patches_that_do_not_divide_are_explained():
    explorer = widgets.TokenExplorer()
    explorer.controls["stride"].value = 32
    explorer.controls["side"].value = 192
    explorer.controls["patch"].value = 4
    assert "map of 6 a side, which patches of 4 do not divide" in explorer.table.value and explorer.figure is None
    explorer.controls["patch"].value = 2
    assert explorer.figure is not None
