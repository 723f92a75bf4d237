"""viz.ranks draws the order that each measure gives, and refuses what has none."""
import pytest

from lwcourse import viz

MEASURES = {"parameters": {"a": 30, "b": 10, "c": 20}, "time": {"c": 0.5, "b": 0.5, "a": 0.1}}


def test_lines_stand_at_the_ranks_whatever_the_order_of_the_names():
    figure = viz.ranks(MEASURES)
    axes, = figure.axes
    # Lines and names come in the order of the last measure.
    assert [list(line.get_ydata()) for line in axes.lines] == [[3, 1], [1, 2.5], [2, 2.5]]
    assert [text.get_text() for text in axes.texts] == ["a", "b, c"], "equal ones share a line"
    assert [text.xy[1] for text in axes.texts] == [1, 2.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["parameters", "time"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "rank 1 is on top"
    assert "a 3, 1; b 1, 2.5; c 2, 2.5" in figure.alt


def test_many_names_have_lines_that_differ():
    lines = viz.ranks({m: {str(i): i for i in range(9)} for m in "xy"}).axes[0].lines
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 9


@pytest.mark.parametrize("measures, words", [
    ({}, "nothing to draw"),
    ({"only": {"a": 1}}, "two measures or more"),
    ({"x": {}, "y": {}}, "of at least one name, got 2 of 0"),
    ({"x": {"a": 1, "b": 2}, "y": {"a": 1}}, "'y' must have a value for each of a, b, got a"),
    ({"x": {"a": 1}, "y": {"a": float("nan")}}, "'y' must be finite"),
])
def test_what_cannot_be_ranked_is_refused(measures, words):
    with pytest.raises(ValueError, match=words):
        viz.ranks(measures)


def test_a_list_is_refused():
    with pytest.raises(TypeError, match="dict from name"):
        viz.ranks([1, 2])
