"""viz.tokens: what is drawn is what was given, and what cannot be drawn is refused."""
import pytest
import torch

import lwcourse as lw
from lwcourse import viz
from lwcourse.models.mobilevit import unfold

FIELD = torch.zeros(4, 4)
FIELD[1:3, 1:3] = torch.tensor([[1.0, 0.5], [1e-9, 0.25]])


def test_pixels_that_are_not_read_are_left_out_and_weak_ones_are_not():
    figure = viz.reach_maps({"one\nnetwork": FIELD, "other": torch.ones(4, 4)}, title="Reach")
    picture = figure.axes[0].images[0].get_array()
    assert int(picture.mask.sum()) == 12 and picture[2, 1] == 1e-5 and picture[1, 1] == 1
    assert "one network, 25% of 4 × 4 pixels are read; other, 100%" in figure.alt and figure.png()


def test_grids_show_every_number_in_the_colour_of_its_group():
    groups = torch.tensor([[0, 1], [2, 3]]).repeat(2, 2)
    pixels = torch.arange(16.0).view(1, 1, 4, 4)
    figure = viz.number_grids({"map": (pixels[0, 0], groups),
                               "unfolded": (unfold(pixels)[..., 0], unfold(groups[None, None])[..., 0])})
    first, second = figure.axes
    assert [text.get_text() for text in first.texts] == [str(i) for i in range(16)]
    assert [text.get_text() for text in second.texts][:4] == ["0", "2", "8", "10"]
    rows = second.images[0].get_array()
    assert (rows == rows[:, :1]).all(), "a sequence has one colour"
    assert "map, 4 × 4; unfolded, 4 × 4" in figure.alt and figure.png()


def test_attention_is_drawn_over_the_picture_and_the_query_is_framed():
    weights = torch.full((2, 2), 0.2)
    weights[0, 1] = 0.4
    figure = viz.query_maps(torch.rand(3, 8, 8), {"head": weights}, (1, 0))
    assert len(figure.axes) == 3 and figure.axes[1].images[0].get_array()[0, 1] == pytest.approx(40)
    assert figure.axes[1].patches[0].get_xy() == (-0.5, 3.5) and "from 20 to 40 %" in figure.alt


def test_attention_maps_share_one_scale():
    even = torch.full((2, 2), 0.25)
    figure = viz.query_maps(torch.rand(3, 8, 8), {"untrained": even, "trained": torch.eye(2) / 2})
    assert {panel.images[0].get_clim() for panel in figure.axes[1:3]} == {(0, 50)}
    assert "all positions of 2 × 2, on one colour scale" in figure.alt and not figure.axes[1].patches
    assert figure.axes[3].get_ylabel() == "weight (%)"


def test_steps_lead_from_resnet_to_convnext():
    with torch.device("meta"):
        counts = {name: lw.profile(network, (3, 64, 64)) for name, network in viz.convnext_steps()}
        first, last = (lw.profile(lw.create_model(name), (3, 64, 64)) for name in ("resnet50", "convnext_tiny"))
    found = list(counts.values())
    assert (found[0].macs, found[0].params) == (first.macs, first.params)
    scales = sum(depth * channels for depth, channels in ((3, 96), (3, 192), (9, 384), (3, 768)))
    assert (found[-1].macs, found[-1].params + scales) == (last.macs, last.params)
    assert len(counts) == 13 and len({count.params for count in found[:6]}) == 6


def test_biases_are_mirrored_about_the_query():
    figure = viz.offset_biases(torch.arange(9.0).view(1, 3, 3))
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape == (5, 5) and picture[2, 2] == 0
    assert picture[2, 3] == picture[2, 1] == 1 and picture[1, 2] == picture[3, 2] == 3
    assert "1 heads by offset, up to 2 positions: values from 0.00 to 8.00" in figure.alt
    assert len([axes for axes in viz.offset_biases(torch.zeros(6, 2, 2)).axes if axes.images]) == 6


def test_growth_draws_in_units_and_marks_a_size():
    figure = viz.growth({"a": {100: 1e6, 200: 4e6}, "b": {100: 1e6, 200: 16e6}}, mark=200)
    axes, = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines[:2]] == [[1, 4], [1, 16]]
    assert list(axes.lines[2].get_xdata()) == [200, 200] and "b from 1 M at 100 to 16 M at 200" in figure.alt


@pytest.mark.parametrize("draw, words", [
    (lambda: viz.reach_maps({}), "nothing to draw"),
    (lambda: viz.reach_maps({"a": torch.zeros(3)}), r"'a' must be \(rows, columns\)"),
    (lambda: viz.reach_maps({"a": torch.zeros(3, 3)}), "positive somewhere"),
    (lambda: viz.number_grids({"a": (torch.zeros(2, 2), torch.zeros(2, 3))}), "but groups of shape"),
    (lambda: viz.number_grids({"a": (torch.zeros(2, 2), torch.full((2, 2), 6))}), "integers from 0 to 5"),
    (lambda: viz.query_maps(torch.rand(4, 4), {"a": -torch.ones(2, 2)}, (0, 0)), "not negative"),
    (lambda: viz.query_maps(torch.rand(4, 4), {"a": torch.ones(2, 2)}, (2, 0)), r"query must lie in 2 × 2"),
    (lambda: viz.offset_biases(torch.zeros(2, 3, 4)), r"must be \(heads, side, side\)"),
    (lambda: viz.growth({"a": {1: 1.0}}), "two points at least"),
    (lambda: viz.growth({"a": {1: 1.0, 2: 0.0}}), "all positive"),
])
def test_what_cannot_be_drawn_is_refused(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()
