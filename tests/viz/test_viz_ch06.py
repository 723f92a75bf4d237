"""The figures of the Inception chapter: fields side by side, growth by block, dilations, towers."""
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from test_viz import texts
from torch import nn

from lwcourse import viz

PATTERN = {(1, 1): 24, (1, 3): 16, (3, 1): 1, (2, 2): 8}
COSTS = {1: (800, 100), 2: (400, 100), 4: (200, 100), 8: (100, 100)}


def conv(kernel, dilation=1):
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.Conv2d(2, 2, kernel, padding=tuple(dilation * (side // 2) for side in sides), dilation=dilation)


def blocks(count, groups):
    return torch.eye(groups, dtype=torch.bool).repeat_interleave(count // groups, 0).repeat_interleave(
        count // groups, 1)


DRAW = {
    "fields": lambda: viz.receptive_fields(
        {"5×5": conv(5), "3×3, 3×3": nn.Sequential(conv(3), conv(3)), "1×5": conv((1, 5)), "3×3": conv(3)},
        (2, 9, 11), title="Fields"),
    "one field": lambda: viz.receptive_fields({"3×3": conv(3)}, (2, 7, 7)),
    "growth": lambda: viz.signal_growth({"scale 1.0": [0.6, 1, 3], "scale 0.1": [0.6, 0.61, 0.63]}, title="Growth"),
    "patterns": lambda: viz.dilation_patterns(PATTERN, title="Pattern"),
    "sixteen patterns": lambda: viz.dilation_patterns({(a, b): 4 for a in range(1, 5) for b in range(1, 5)}),
    "one pattern": lambda: viz.dilation_patterns({(2, 1): 3}),
    "choices": lambda: viz.dilation_choices([PATTERN, {(1, 1): 5}, {(4, 4): 1, (1, 1): 199}], title="Choices"),
    "towers": lambda: viz.towers(blocks(8, 2), COSTS, 2, title="Two"),
    "one tower": lambda: viz.towers(blocks(8, 1), COSTS, 1),
}


@cache
def drawn(name):
    torch.manual_seed(0)
    return DRAW[name]()


@pytest.mark.parametrize("name", DRAW)
def test_texts_are_whole_apart_and_large_enough(name):
    figure = drawn(name)
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for text, box in boxes:
        assert figure.bbox.x0 - 1 <= box.x0 and box.x1 <= figure.bbox.x1 + 1, f"{text!r} is cut"
        assert figure.bbox.y0 - 1 <= box.y0 and box.y1 <= figure.bbox.y1 + 1, f"{text!r} is cut"
    for (first, a), (second, b) in combinations(boxes, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1 or height <= 2, f"{first!r} and {second!r} overlap"
    assert min(text.get_fontsize() for text in texts(figure)) >= 9
    width, height = figure.get_size_inches() * viz.theme.DPI
    assert 300 <= width <= 900 and height <= 800


def test_the_frame_holds_what_is_read():
    figure = drawn("fields")
    frames = [axes.patches[0] for axes in figure.axes if axes.patches]
    assert [(frame.get_height(), frame.get_width()) for frame in frames] == [(5, 5), (5, 5), (1, 5), (3, 3)]
    assert "1×5 reads 1 × 5" in figure.alt


@pytest.mark.parametrize("module, size", [
    (conv(7), (7, 7)), (nn.Sequential(conv((1, 7)), conv((7, 1))), (7, 7)), (conv(3, dilation=3), (7, 7)),
    (conv((5, 1)), (5, 1)), (nn.Sequential(conv(3), nn.ReLU(), conv(3), nn.MaxPool2d(3, 1, 1)), (7, 7)),
])
def test_size_of_a_field(module, size):
    torch.manual_seed(0)
    assert viz.field_size(module, (2, 15, 15), samples=8) == size


def test_growth_draws_what_it_is_given():
    first, second = [line for line in drawn("growth").axes[0].lines if len(line.get_xdata()) > 1]
    assert list(first.get_ydata()) == [0.6, 1, 3] and list(second.get_xdata()) == [0, 1, 2]
    assert first.get_linestyle() != second.get_linestyle()
    assert "scale 1.0 from 0.6 to 3 after 2 blocks" in drawn("growth").alt


def test_a_pattern_has_nine_pixels_and_a_frame_a_panel():
    panels = [axes for axes in drawn("patterns").axes if axes.patches]
    for (height, width), panel in zip(PATTERN, panels, strict=True):
        *pixels, frame = panel.patches
        assert {(p.get_y() + 0.5, p.get_x() + 0.5) for p in pixels} == {
            (y, x) for y in (-height, 0, height) for x in (-width, 0, width)}
        assert (frame.get_height(), frame.get_width()) == (2 * height + 1, 2 * width + 1)
    assert "1 channel at 3 × 1, a field of 7 × 3 pixels" in drawn("patterns").alt


def test_choices_are_shares_of_each_layer():
    panels = [axes for axes in drawn("choices").axes if axes.images]
    table = np.asarray(panels[0].images[0].get_array())
    assert table[0, 2] == pytest.approx(100 * 16 / 49) and table[2, 0] == pytest.approx(100 / 49)
    assert [axes.get_title(loc="left") for axes in panels] == ["layer 1", "layer 2", "layer 3"]
    assert "layer 2 most often 1 × 1, 100 %" in drawn("choices").alt


def test_towers_stacks_mixing_and_filtering():
    bars = drawn("towers").axes[1].patches
    assert [bar.get_height() for bar in bars] == [100] * 4 + [800, 400, 200, 100]
    assert [bar.get_alpha() for bar in bars[4:]] == [0.35, 1.0, 0.35, 0.35]
    assert "2 towers: 32 of 64 pairs" in drawn("towers").alt and "80% of them for filtering" in drawn("towers").alt


@pytest.mark.parametrize("call, words", [
    (lambda: viz.receptive_fields({}, (2, 5, 5)), "nothing to draw"),
    (lambda: viz.receptive_fields({"a": conv(3)}, (3, 5, 5)), "cannot run an input"),
    (lambda: viz.signal_growth({}), "nothing to draw"),
    (lambda: viz.signal_growth({"a": [1.0]}), "two or more finite positive"),
    (lambda: viz.signal_growth({"a": [1.0, 0.0]}), "two or more finite positive"),
    (lambda: viz.signal_growth({"a": [1.0, float("nan")]}), "two or more finite positive"),
    (lambda: viz.dilation_patterns({}), "nothing to draw"),
    (lambda: viz.dilation_patterns({(0, 1): 4}), "all positive integers"),
    (lambda: viz.dilation_patterns({3: 4}), "must map pairs"),
    (lambda: viz.dilation_choices([]), "nothing to draw"),
    (lambda: viz.dilation_choices([{(1, 1): 0}]), "layer 1 must map pairs"),
    (lambda: viz.towers(blocks(8, 2), COSTS, 3), "chosen must be one of 1, 2, 4, 8 towers, got 3"),
    (lambda: viz.towers(torch.ones(3), COSTS, 1), "must be a matrix"),
])
def test_what_cannot_be_drawn_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
