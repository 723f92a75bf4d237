"""Pictures and counts of chapter 02: kinds of layers, and what ReLU loses."""
import pytest

import lwcourse as lw
from lwcourse import viz

LOSSES = {"block 1": {"narrow": 0.2, "wide": 0.01}, "block 2": {"narrow": 0.3, "wide": 0.05}}


def test_kinds_of_layers_add_up_to_the_network():
    network = lw.create_model("mobilenet_v1")
    kinds = viz.layer_kinds(network)
    assert list(kinds) == ["first 3×3", "depthwise", "1×1", "classifier"]
    assert sum(macs for macs, _ in kinds.values()) == lw.model_card("mobilenet_v1").counted_macs
    assert kinds["classifier"] == (1_024_000, 1_024_000)
    assert kinds["first 3×3"] == (864 * 112**2, 864)


def test_a_smaller_image_saves_macs_and_no_weight():
    large, small = (viz.layer_kinds(lw.create_model("mobilenet_v2"), (3, side, side)) for side in (64, 32))
    assert {kind: weights for kind, (_, weights) in large.items()} == {kind: one[1] for kind, one in small.items()}
    assert large["depthwise"][0] == 4 * small["depthwise"][0]


def test_relu_losses_are_bars_in_per_cent():
    figure = viz.relu_losses(LOSSES, title="lost")
    axes = figure.axes[0]
    assert [round(bar.get_height(), 6) for bar in axes.patches] == [20, 30, 1, 5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["block 1", "block 2"]
    assert "in 2 places: narrow 20 to 30 %; wide 1 to 5 %" in figure.alt


@pytest.mark.parametrize("losses, message", [
    ({}, "is empty"), (LOSSES | {"block 3": {"narrow": 0.1}}, "'block 3' has")])
def test_relu_losses_refuses(losses, message):
    with pytest.raises(ValueError, match=message):
        viz.relu_losses(losses)
