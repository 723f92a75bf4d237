"""viz of chapter 14: what is drawn is what was given, and what cannot be drawn is refused."""
import pytest
import torch

from lwcourse import viz


def bowl(w):
    return (w**2).sum(-1)


def test_lines_start_at_step_0_or_lie_at_their_places():
    figure = viz.run_curves({"a": [3.0, 2.0, 1.0], "b": ([10, 20], [5.0, 4.0])}, ylabel="loss (nats)", title="Run")
    first, second = figure.axes[0].lines
    assert list(first.get_xdata()) == [0, 1, 2] and list(second.get_xdata()) == [10, 20]
    assert "a from 3 at 0 to 1 at 2" in figure.alt and "b from 5 at 10 to 4 at 20" in figure.alt and figure.png()
    assert figure.axes[0].get_ylabel() == "loss (nats)" and figure.axes[0].get_xlabel() == "step"


def test_a_list_of_two_numbers_is_no_pair():
    line, = viz.run_curves({"a": (1.0, 2.0)}, ylabel="y").axes[0].lines
    assert list(line.get_ydata()) == [1, 2]


def test_a_logarithmic_axis_is_one():
    assert viz.run_curves({"a": [1.0, 100.0]}, ylabel="y", logarithmic=True).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("curves, words", [({}, "empty"), ({"a": []}, "'a'"), ({"a": [float("nan")]}, "finite"),
                                           ({"a": ([1, 2], [1.0])}, "as many places"), ({"a": [[1.0]]}, "'a'")])
def test_lines_that_cannot_be_drawn_are_refused(curves, words):
    with pytest.raises(ValueError, match=words):
        viz.run_curves(curves, ylabel="y")


def test_zero_has_no_place_on_a_logarithmic_axis():
    with pytest.raises(ValueError, match="0 or below"):
        viz.run_curves({"a": [1.0, 0.0]}, ylabel="y", logarithmic=True)


def test_paths_are_drawn_over_the_valley_and_the_lowest_point_is_marked():
    path = torch.tensor([[-2.0, 1.0], [-1.0, 0.5], [0.4, -0.2]])
    figure = viz.descent_paths(bowl, {"steep": path}, title="Down")
    way, cross = figure.axes[0].lines
    assert way.get_xdata().tolist() == pytest.approx([-2, -1, 0.4])
    assert abs(cross.get_xdata()[0]) < 0.02 and abs(cross.get_ydata()[0]) < 0.02
    assert "steep from 5 to 0.2 in 2 steps" in figure.alt and figure.png()


@pytest.mark.parametrize("points", [torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 3),
                                    torch.tensor([[0.0, float("inf")]])])
def test_paths_that_cannot_be_drawn_are_refused(points):
    with pytest.raises(ValueError, match="'a'"):
        viz.descent_paths(bowl, {"a": points})
