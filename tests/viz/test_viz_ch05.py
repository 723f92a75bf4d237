"""Pictures of attention: readings are found by trying, and what is drawn is what was given."""
from functools import partial

import pytest
import torch
from torch import nn

from lwcourse import viz
from lwcourse.layers import (
    CoordinateAttention,
    EfficientChannelAttention,
    ShuffleAttention,
    SplitAttention,
    SqueezeExcitation,
    TripletAttention,
    adaptive_kernel_size,
)

SIZE = (8, 5, 6)


class TestGateReads:
    def test_all_of_it(self):
        assert viz.gate_reads(SqueezeExcitation(8, 4), SIZE).all()

    def test_neighbouring_channels(self):
        read = viz.gate_reads(EfficientChannelAttention(8, 3), SIZE, (2, 0, 0))
        assert read[1:4].all() and read.sum() == 3 * 30

    def test_a_cross(self):
        read = viz.gate_reads(CoordinateAttention(8), SIZE, (3, 1, 4))
        assert read[:, 1].all() and read[:, :, 4].all() and read.sum() == 8 * (5 + 6 - 1)

    @pytest.mark.parametrize("channel", [0, 3], ids=["channel half", "pixel half"])
    def test_a_scale_that_begins_at_zero_hides_nothing(self, channel):
        layer = ShuffleAttention(8, 2)
        read = viz.gate_reads(layer, SIZE, (channel, 2, 2))
        assert read[channel].all() and read.sum() == 30
        assert not layer.channel_scale.any(), "the layer is left as it was"

    def test_three_slabs(self):
        read = viz.gate_reads(TripletAttention(8, 1), SIZE, (3, 1, 4))
        assert read[3, :, 4].all() and read[3, 1].all() and read[:, 1, 4].all() and read.sum() == 5 + 6 + 8 - 2


    @pytest.mark.parametrize("layer, size, at, error, words", [
        (SqueezeExcitation(8, 4), (8, 0, 5), None, ValueError, "all positive"),
        (SqueezeExcitation(8, 4), SIZE, (8, 0, 0), ValueError, "must be a .channel, row, column. inside"),
        (SqueezeExcitation(4, 4), SIZE, None, ValueError, "cannot run an input of size"),
        (nn.ReLU(), SIZE, None, TypeError, "ReLU has no attention"),
    ])
    def test_bad_input(self, layer, size, at, error, words):
        with pytest.raises(error, match=words):
            viz.gate_reads(layer, size, at)


def test_reads_has_two_views_of_each_layer_and_marks_the_value():
    figure = viz.attention_reads({"SE": SqueezeExcitation(8, 4), "ECA": EfficientChannelAttention(8, 3)}, SIZE,
                                 at={"ECA": (5, 0, 1)}, title="Two")
    top, below = figure.axes[:2], figure.axes[2:4]
    assert [axes.get_title(loc="center") for axes in top] == ["SE", "ECA"]
    assert below[1].images[0].get_array()[:, 0].tolist() == [0, 0, 0, 0, 100, 100, 100, 0]
    assert [axes.patches[0].get_y() + 0.5 for axes in (top[1], below[1])] == [0, 5]
    assert "SE 100 % of the values, 8 channels, 30 pixels; ECA 38 %" in figure.alt
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.attention_reads({}, SIZE)


def test_maps_show_the_channel_that_varies_most_and_the_range_of_all():
    photo = torch.rand(3, 12, 16)
    flat = torch.tensor([0.2, 0.6]).view(1, 2, 1, 1)
    rows = torch.full((1, 2, 6, 1), 0.5)
    rows[0, 1, 3] = 0.9
    figure = viz.attention_maps(photo, {"SE": flat, "CA": rows}, title="Gates")
    assert [axes.get_title(loc="center") for axes in figure.axes[:3]] == ["the picture\n", "SE\nchannel 0",
                                                                          "CA\nchannel 1"]
    assert figure.axes[0].images[0].get_array().shape == (12, 16, 3)
    assert figure.axes[2].images[0].get_array()[:, 0].tolist() == pytest.approx([0.5] * 3 + [0.9] + [0.5] * 2)
    assert figure.axes[4].lines[0].get_ydata().tolist() == pytest.approx([0.2, 0.6])
    assert "CA from 0.50 to 0.90 over the picture in channel 1" in figure.alt
    for bad, words in (({"x": flat[0]}, "must be finite and"), ({"x": flat * float("nan")}, "must be finite"),
                       ({}, "nothing")):
        with pytest.raises(ValueError, match=words):
            viz.attention_maps(photo, bad)
    with pytest.raises(ValueError, match="photo must be"):
        viz.attention_maps(photo[0], {"SE": flat})


def test_operator_shares_add_up_and_begin_with_the_largest(capfd):
    shares = viz.operator_shares(TripletAttention(8), torch.randn(1, 8, 12, 12), rounds=2)
    assert sum(shares.values()) == pytest.approx(1) and list(shares.values()) == sorted(shares.values(), reverse=True)
    assert {"amax", "mean"} <= set(shares)
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="at least 1"):
        viz.operator_shares(TripletAttention(8), torch.randn(1, 8, 12, 12), rounds=0)


def test_published_stands_beside_counted_with_its_note():
    table = viz.published_counted(["mobilenet_v2_ca", "mobilenet_v2_triplet", "mobilenet_v2"],
                                  {"mobilenet_v2_ca": 1.4}, "time")
    rows = table.split("<tr>")[2:]
    assert len(rows) == 4 and "3.95<" in rows[0] and "3.951<" in rows[0] and "1.40<" in rows[0]
    assert "kernel_size 3" in rows[2] and "1.40" not in rows[2] and "width 0" not in table
    assert table.count("<li>") == 4 and ">3<" in rows[2]


def test_kernel_sizes_are_steps_with_dots():
    figure = viz.kernel_sizes({"paper": adaptive_kernel_size, "wide": partial(adaptive_kernel_size, gamma=1)},
                              limits=(4, 512), marks=(64, 128), title="Kernels")
    axes, = figure.axes
    assert list(axes.lines[1].get_ydata()) == [3, 5] and len(axes.lines) == 4
    assert "paper from 1 at 4 channels to 5 at 512" in figure.alt
    with pytest.raises(ValueError, match="ascend"):
        viz.kernel_sizes({"paper": adaptive_kernel_size}, limits=(8, 4))


@pytest.mark.parametrize("radix, cardinality", [(2, 2), (2, 1), (3, 2)])
def test_split_order_is_that_of_the_module(radix, cardinality):
    figure = viz.split_order(radix, cardinality, 2 * cardinality, title="Order")
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    places = [int(line.get_xdata()[1] - 0.5) for line in lines]  # of each weight among the maps
    numbers = torch.arange(2 * cardinality * radix)
    as_in_forward = numbers.unflatten(0, (cardinality, radix, -1)).transpose(0, 1).flatten()
    assert [places[i] for i in as_in_forward] == numbers.tolist()
    module = SplitAttention(4 * cardinality * radix, radix=radix, cardinality=cardinality)
    assert module.splits.conv.groups == radix * cardinality
    assert f"radix {radix} and cardinality {cardinality}" in figure.alt


def test_split_order_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="cardinality divide channels; got 2, 2 and 3"):
        viz.split_order(2, 2, 3)
