"""Pictures of time and memory: what is drawn is what was given."""
import numpy as np
import pytest

from lwcourse import viz

BOUNDS = {"standard": {"arithmetic": 2e-3, "memory": 1e-4, "calls": 1e-5}, "copy": {"memory": 1e-4, "arithmetic": 0.0}}
SIZES = {"x": 1, "e": 6, "d": 6, "p": 1, "y": 1}
OPERATORS = [(("x",), "e"), (("e",), "d"), (("d",), "p"), (("p", "x"), "y")]


def marks(axes, marker):
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines
            if line.get_marker() == marker]


def test_bounds_and_times_stand_where_they_are():
    figure = viz.time_bounds(BOUNDS, {"standard": 3e-3, "copy": 1.5e-4})
    axes, = figure.axes
    assert marks(axes, "s") == [(2000.0, 0.0)], "a bound of 0 is not drawn"
    assert [y for _, y in marks(axes, "^")] == [0, 1] and marks(axes, "^")[0][0] == pytest.approx(100)
    assert [x for x, _ in marks(axes, "D")] == pytest.approx([3000, 150])
    assert "standard: arithmetic 2e+03, memory 100, calls 10; took 3e+03" in figure.alt
    assert marks(viz.time_bounds(BOUNDS).axes[0], "D") == []


@pytest.mark.parametrize("bounds, measured, words", [
    ({}, None, "nothing to draw"), ({"a": {"cache": 1.0}}, None, "seconds under arithmetic, memory, calls"),
    ({"a": {"memory": -1.0}}, None, "the bounds of 'a'"), ({"a": {"memory": 0.0}}, None, "all bounds are 0"),
    ({"a": {"memory": 1.0}}, {"b": 1.0}, "no measured time of 'a'"),
])
def test_other_bounds_are_refused(bounds, measured, words):
    with pytest.raises(ValueError, match=words):
        viz.time_bounds(bounds, measured)


def test_bandwidth_by_size():
    figure = viz.bandwidth_by_size({2**20: 4e9, 2**16: 8e9}, title="Copies")
    line, = figure.axes[0].lines
    assert list(line.get_xdata()) == [2**16, 2**20] and list(line.get_ydata()) == [8, 4]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["64 KiB", "1 MiB"]
    with pytest.raises(ValueError, match="two sizes or more"):
        viz.bandwidth_by_size({1: 1.0})


def test_a_map_lives_from_its_writer_to_its_last_reader():
    figure = viz.lifetimes(SIZES, OPERATORS, labels=["1x1", "3x3", "1x1 ", "add"], unit="x input", title="A block")
    top, bottom = figure.axes
    bars = [(round(p.get_x() + 0.46), round(p.get_x() + p.get_width() - 0.46)) for p in top.patches]
    assert bars == [(0, 3), (0, 1), (1, 2), (2, 3), (3, 3)]
    assert [p.get_height() for p in bottom.patches] == [7, 13, 8, 3]
    assert "most, 13 x input, at 3x3" in figure.alt


@pytest.mark.parametrize("sizes, operators, options, words", [
    (SIZES, [], {}, "must be a list"), (SIZES, [(("x",), "z")], {}, "must be a list"),
    (SIZES, [(("z",), "y")], {}, "no size for the map 'z'"), (SIZES, OPERATORS, {"labels": ["a"]}, "must name 4"),
])
def test_other_operators_are_refused(sizes, operators, options, words):
    with pytest.raises(ValueError, match=words):
        viz.lifetimes(sizes, operators, **options)


def test_costs_against_time():
    costs, seconds = {"MACs": [1e6, 2e6, 4e6], "activations": [3e3, 3e3, 6e3]}, [1e-3, 2e-3, 4e-3]
    figure = viz.costs_against_time(costs, seconds, groups=["a", "b", "a"])
    r = np.corrcoef(np.log(costs["activations"]), np.log(seconds))[0, 1]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MACs: r = 1.00", f"activations: r = {r:.2f}"]
    assert f"MACs, r = 1.00; activations, r = {r:.2f}" in figure.alt
    assert sorted(x for line in figure.axes[0].lines for x in line.get_xdata()) == costs["MACs"]
    for bad, words in (({"costs": {"MACs": [1.0]}}, "3 positive numbers"), ({"groups": ["a"]}, "groups must name 3")):
        with pytest.raises(ValueError, match=words):
            viz.costs_against_time(**{"costs": costs, "seconds": seconds} | bad)
