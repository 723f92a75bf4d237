"""The response to one pixel is what the convolutions read, and its picture counts it."""
import pytest
import torch
from torch import nn

from lwcourse import viz
from lwcourse.layers import DilatedPyramid
from lwcourse.viz.chapters.ch07 import field_side

RATES = (1, 2, 4, 8, 16)


def responses(hierarchical):
    pyramid = DilatedPyramid(2, [2] * 5, RATES, hierarchical=hierarchical, fuse_from=1)
    return viz.pixel_response(pyramid, 2, ones=True)[::2]


def test_a_dilated_convolution_reaches_nine_pixels_at_its_rate():
    y = viz.pixel_response(nn.Conv2d(1, 1, 3, padding=4, dilation=4, bias=False), 1, size=21, ones=True)
    rows, columns = y[0].nonzero(as_tuple=True)
    assert sorted({*rows.tolist()}) == sorted({*columns.tolist()}) == [6, 10, 14] and len(rows) == 9
    assert field_side(y[0]) == 9 and field_side(torch.zeros(3, 3)) == 0


def test_fusion_fills_the_grid():
    assert [int((y > 0).sum()) for y in responses(False)] == [9] * 5
    assert [int((y > 0).sum()) for y in responses(True)] == [9, 9, 17, 25, 33]
    assert responses(True)[4, 20, 20] == 8, "two channels of four branches meet at the centre"


def test_the_module_stays_as_it_is():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    before = conv.weight.clone()
    viz.pixel_response(conv, 1, ones=True)
    assert torch.equal(conv.weight, before) and conv.training


def test_picture_counts_what_is_reached():
    rows = {"not fused": responses(False), "fused": responses(True)}
    figure = viz.pixel_responses(rows, [f"rate {rate}" for rate in RATES], title="One pixel")
    assert "not fused: rate 1 9 of 3 × 3" in figure.alt and "rate 16 33 of 33 × 33" in figure.alt
    assert len(figure.axes) == 10 and figure.axes[9].get_xlabel() == "33 of 33 × 33"
    assert figure.png()[:4] == b"\x89PNG"


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1, got 0 and 41"):
        viz.pixel_response(nn.Identity(), 0)
    with pytest.raises(ValueError, match="feature map"):
        viz.pixel_response(nn.Flatten(), 1)
    with pytest.raises(ValueError, match="must have 2 maps"):
        viz.pixel_responses({"a": torch.ones(1, 3, 3)}, ["x", "y"])
    with pytest.raises(ValueError, match="cannot be negative"):
        viz.pixel_responses({"a": -torch.ones(1, 3, 3)}, ["x"])
    with pytest.raises(ValueError, match="1 to 60 maps"):
        viz.pixel_responses({"a": torch.ones(0, 3, 3)}, [])
    with pytest.raises(ValueError):
        viz.pixel_responses({}, ["x"])
