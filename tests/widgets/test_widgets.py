"""The explorers, without a browser: set a control, read the table and the picture."""
import base64
import importlib
import re
import sys

import pytest
import torch
from torch import nn

import lwcourse as lw
from lwcourse import viz
from lwcourse.profile import Profile

ipywidgets = pytest.importorskip("ipywidgets")
from lwcourse import widgets  # noqa: E402
from lwcourse.widgets import ch02  # noqa: E402


def cells(explorer: widgets.Explorer) -> dict[str, list[str]]:
    """The table as label -> the other cells of its row."""
    rows = re.findall(r"<tr>(.*?)</tr>", explorer.table.value)
    return {label: others for label, *others in (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows)}


def simple(draw=None) -> widgets.Explorer:
    def bars(height: int, colour: str) -> tuple[viz.Figure, str]:
        if height == 13:
            raise ValueError("13 & <b>unlucky</b>")
        figure, axes = viz.new_figure(3, 2, alt=f"A {colour} bar {height} high.")
        axes.bar([0], [height], color=colour)
        return figure, f"<p>{height} {colour}</p>"

    return widgets.Explorer({"height": ipywidgets.IntSlider(3, 1, 20),
                             "colour": ipywidgets.Dropdown(options=["blue", "red"])}, draw or bars)


class TestExplorer:
    def test_draws_at_once(self):
        explorer = simple()
        assert explorer.values == {"height": 3, "colour": "blue"}
        assert explorer.table.value == "<p>3 blue</p>"
        assert explorer.picture.value == explorer.figure.png() and bytes(explorer.picture.value[:4]) == b"\x89PNG"
        assert repr(explorer) == "<Explorer: A blue bar 3 high.>"

    def test_every_control_redraws(self):
        explorer = simple()
        pictures = {explorer.picture.value}
        explorer.controls["height"].value = 9
        pictures.add(explorer.picture.value)
        explorer.controls["colour"].value = "red"
        pictures.add(explorer.picture.value)
        assert len(pictures) == 3 and explorer.table.value == "<p>9 red</p>"

    def test_controls_picture_and_table_are_shown(self):
        explorer = simple()
        panel, picture, table = explorer.children
        assert list(panel.children) == list(explorer.controls.values())
        assert (picture, table) == (explorer.picture, explorer.table)

    def test_a_value_error_becomes_a_message_and_goes_again(self):
        explorer = simple()
        explorer.controls["height"].value = 13
        assert "Not possible:</b> 13 &amp; &lt;b&gt;unlucky&lt;/b&gt;" in explorer.table.value
        assert explorer.picture.layout.display == "none" and explorer.figure is None
        data, metadata = explorer._repr_mimebundle_()
        assert "image/png" not in data and not metadata and "nothing to show" in data["text/plain"]
        explorer.controls["height"].value = 14
        assert explorer.picture.layout.display is None and explorer.table.value == "<p>14 blue</p>"

    def test_another_error_is_not_hidden(self):
        def broken(height, colour):
            raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError):
            simple(broken)

    def test_a_notebook_stores_the_widget_and_its_present_picture(self):
        explorer = simple()
        explorer.controls["height"].value = 5
        data, metadata = explorer._repr_mimebundle_()
        assert set(data) == {"text/plain", "image/png", "application/vnd.jupyter.widget-view+json"}
        assert base64.b64decode(data["image/png"]) == explorer.picture.value
        assert data["text/plain"] == "<Explorer: A blue bar 5 high.>"
        assert metadata == {"image/png": {"alt": "A blue bar 5 high."}}

    def test_what_a_notebook_stores_is_the_same_each_time(self):
        stored = [simple()._repr_mimebundle_()[0] for _ in range(2)]
        for mimetype in ("text/plain", "image/png"):
            assert stored[0][mimetype] == stored[1][mimetype]

    def test_bad_input(self):
        with pytest.raises(ValueError, match="at least one control"):
            widgets.Explorer({}, lambda: None)
        with pytest.raises(ValueError, match="width must be from 0.2 to 1.5, got 2.0"):
            widgets.WidthExplorer(width=2)


class TestConvExplorer:
    def test_numbers_are_those_of_the_profile(self):
        explorer = widgets.ConvExplorer(in_channels=12, out_channels=24, kernel=5, groups=4)
        explorer.controls["stride"].value = 2
        explorer.controls["dilation"].value = 2
        explorer.controls["image_size"].value = 40
        conv = nn.Conv2d(12, 24, 5, 2, padding=4, dilation=2, groups=4, bias=False)
        dense = nn.Conv2d(12, 24, 5, 2, padding=4, dilation=2, bias=False)
        mine, other = lw.profile(conv, (12, 40, 40)), lw.profile(dense, (12, 40, 40))
        table = cells(explorer)
        assert table["parameters"] == [f"{mine.params:,}", f"{other.params:,}", "0.25"]
        assert table["MACs"] == [f"{mine.macs:,}", f"{other.macs:,}", "0.25"]
        assert table["output (channels × height × width)"][0] == "24 × 20 × 20"
        assert table["output bytes"] == ["37.5 KiB", "37.5 KiB", "1"]
        assert table["MACs per byte moved"][0] == f"{mine.layers[0].intensity:.2f}"
        assert "72 of 288 pairs are connected, 3 inputs an output. One output pixel reads 25" in explorer.figure.alt

    @pytest.mark.parametrize("changes, message", [
        ({"groups": 3}, "16 input channels cannot be split into 3 equal groups"),
        ({"out_channels": 10, "groups": 4}, "10 output channels cannot be split into 4 equal groups"),
    ])
    def test_groups_that_do_not_divide_are_explained(self, changes, message):
        explorer = widgets.ConvExplorer()
        for name, value in changes.items():
            explorer.controls[name].value = value
        assert message in explorer.table.value and explorer.figure is None
        explorer.controls["groups"].value = 2
        assert cells(explorer)["parameters"][2] == "0.5"

    def test_looking_does_not_change_the_random_numbers(self):
        before = torch.get_rng_state()
        widgets.ConvExplorer().controls["kernel"].value = 5
        ch02.profile_at.cache_clear()
        widgets.WidthExplorer("mobilenet_v3_small")
        assert torch.equal(torch.get_rng_state(), before)


class TestWidthExplorer:
    def test_figures_of_a_published_width(self):
        explorer = widgets.WidthExplorer("mobilenet_v2", width=0.5)
        variant = next(v for v in lw.model_card("mobilenet_v2").variants if v.arguments == {"width": 0.5})
        table = cells(explorer)
        assert table["parameters"][:2] == [f"{variant.counted_params:,}", "3,504,872"]
        assert table["MACs"] == [f"{variant.counted_macs:,}", "300,774,272", "0.323"]
        assert "1.95 M parameters, 97 M MACs, 65.4 % top-1 on ImageNet" in explorer.table.value
        peak = lw.profile(lw.create_model("mobilenet_v2", width=0.5)).peak_activation_bytes
        assert table["peak of live activations"][0] == f"{peak / 2**20:.1f} MiB"

    def test_other_sizes_have_no_published_figures(self):
        explorer = widgets.WidthExplorer("mobilenet_v2", width=0.5, resolution=128)
        assert "no published figures for width 0.5 at 128 × 128" in explorer.table.value
        macs = lw.profile(lw.create_model("mobilenet_v2", width=0.5), (3, 128, 128)).macs
        assert cells(explorer)["MACs"][:2] == [f"{macs:,}", "300,774,272"], "the reference keeps its own image size"

    def test_a_step_of_the_slider_is_a_round_width(self):
        explorer = widgets.WidthExplorer(width=0.3)
        assert 7 * 0.05 != 0.35
        explorer.controls["width"].value = 7 * 0.05
        assert "1.66 M parameters" in explorer.table.value and "width 0.35," in explorer.figure.alt

    def test_picture_and_table_follow_the_network(self):
        explorer = widgets.WidthExplorer()
        before = explorer.picture.value
        explorer.controls["name"].value = "mobilenet_v1"
        assert explorer.picture.value != before
        assert cells(explorer)["parameters"][:2] == ["1,331,592", "4,231,976"]

    def test_a_network_is_counted_once(self, monkeypatch):
        counted = []
        monkeypatch.setattr(ch02, "profile", lambda model, size: counted.append(size) or lw.profile(model, size))
        ch02.profile_at.cache_clear()
        explorer = widgets.WidthExplorer("mobilenet_v3_small", width=0.75)
        first = len(counted)
        explorer.controls["width"].value = 0.8
        explorer.controls["width"].value = 0.75
        assert first == len(widgets.WidthExplorer.CURVE) and len(counted) == first + 1

    def test_names_and_aliases(self):
        explorer = widgets.WidthExplorer("mbv1", names=["mbv1", "mbv2"])
        assert explorer.controls["name"].options == ("mobilenet_v1", "mobilenet_v2")
        assert {"mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenext"} <= set(ch02.widths_of())
        assert "shufflenet_v2" not in ch02.widths_of()  # which has four widths only
        with pytest.raises(ValueError, match="'mobilenext' has no width to explore; these have: mobilenet_v1"):
            widgets.WidthExplorer("mobilenext", names=["mbv1"])
        with pytest.raises(ValueError, match="there is no model 'resnet'"):
            widgets.WidthExplorer("resnet")

    @pytest.mark.parametrize("name", ch02.widths_of())
    def test_published_widths_are_those_of_the_card(self, name):
        card, claims = lw.model_card(name), ch02.published_at(name)
        assert claims[1.0] == (card.published_params_m, card.published_macs_m, card.published_top1)
        assert set(claims) == {1.0, *(v.arguments["width"] for v in card.variants if set(v.arguments) == {"width"})}


class TestProfileExplorer:
    @pytest.fixture
    def explorer(self) -> widgets.ProfileExplorer:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
        return widgets.ProfileExplorer(model, (3, 8, 8))

    def test_the_slider_walks_through_the_layers(self, explorer):
        assert explorer.controls["layer"].options == ("0", "1", "3")  # Flatten, a view, costs nothing
        assert cells(explorer)["MACs"] == [f"{9 * 24 * 36:,}", f"{9 * 24 * 36 + 2880:,}", "73.0 %"]
        before = explorer.picture.value
        explorer.controls["layer"].value = "3"
        assert cells(explorer)["parameters"] == ["2,890", f"{2890 + 224:,}", "92.8 %"]
        assert "3: Linear, output 10" in explorer.table.value and explorer.picture.value != before
        assert highlighted(explorer.figure) == [2880 / 1e3, 2.89, 40 / 1024]

    def test_one_cost_at_a_time(self, explorer):
        explorer.controls["layer"].value = "3"
        explorer.controls["metric"].value = ("params",)
        assert [axes.get_title(loc="left") for axes in explorer.figure.axes] == ["parameters: 3.11 k in all"]
        assert highlighted(explorer.figure) == [2.89]

    def test_a_layer_without_this_cost_is_no_error(self, explorer):
        explorer.controls["metric"].value = ("macs",)
        explorer.controls["layer"].value = "1"
        assert cells(explorer)["MACs"][0] == "0" and highlighted(explorer.figure) == []

    def test_takes_a_profile_too(self):
        result = lw.profile(nn.Conv2d(3, 4, 1), (3, 5, 5))
        explorer = widgets.ProfileExplorer(result)
        assert cells(explorer)["MACs"] == ["300", "300", "100.0 %"]
        with pytest.raises(ValueError, match="no layer with a cost"):
            widgets.ProfileExplorer(Profile("nothing", (3, 4, 4)))


def highlighted(figure: viz.Figure) -> list[float]:
    """Heights of the bars that stand out, panel by panel."""
    return [bar.get_height() for axes in figure.axes for bar in axes.patches if bar.get_alpha() == 1.0]


def test_without_ipywidgets_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.delitem(sys.modules, "lwcourse.widgets")
    with pytest.raises(ImportError, match=r"pip install ipywidgets, or 'lwcourse\[course\]'"):
        importlib.import_module("lwcourse.widgets")
