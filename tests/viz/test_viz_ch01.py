"""viz.price_ratios draws each price as a multiple of one network's."""
import pytest

from lwcourse import viz

PRICES = {"MACs": {"a": 1.0, "b": 20.0, "c": 10.0}, "time": {"c": 2.0, "b": 8.0, "a": 1.0}}


def test_marks_stand_at_the_ratios():
    figure = viz.price_ratios(PRICES, "c", title="Costs")
    axes, = figure.axes
    marks = {line.get_marker(): list(line.get_xdata()) for line in axes.lines if line.get_marker() not in ("", "None")}
    assert marks == {"o": [0.1, 2.0, 1.0], "s": [0.5, 4.0, 1.0]}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "times c"
    assert "a MACs 0.1, time 0.5; b MACs 2, time 4." in figure.alt


@pytest.mark.parametrize("prices, reference, words", [
    (PRICES, "d", "reference must be one of a, b, c, got 'd'"),
    ({"MACs": {"a": 1.0, "b": 0.0}}, "a", "'MACs' must have a positive number"),
    (PRICES | {"traffic": {"a": 1.0}}, "a", "'traffic' must have a positive number for each"),
    ({str(i): {"a": 1.0} for i in range(7)}, "a", "at most 6 prices"), ({}, "a", "nothing to draw"),
])
def test_what_cannot_be_drawn_is_refused(prices, reference, words):
    with pytest.raises(ValueError, match=words):
        viz.price_ratios(prices, reference)
